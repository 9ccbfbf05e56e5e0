//! The registry as the server that runs on it sees it: the domain's ports together, and what only a server has to do with,
//! which is its figures, its keys and its end. By this a server does not know what keeps its registry.

use std::sync::Arc;

use claim::applications::{Applications, By};
use claim::audit::AuditLog;
use claim::directory::Directory;
use claim::gateways::Gateways;
use claim::imports::Imports;
use claim::keys::SigningKeys;
use claim::ports::{DeviceRegistry, Outbox};
use claim::roles::Roles;
use claim::{Keyring, MasterKey, PortFuture, Timestamp, Unavailable};

use crate::keys::{HandOver, ResealCursor, Resealed};
use crate::postgres::PostgresRegistry;
use crate::sqlite::{SqliteRegistry, Stats};

/// A registry that is open. See the module's head.
pub trait Registry:
    DeviceRegistry + Directory + Applications + Imports + Gateways + Roles + Outbox + AuditLog + SigningKeys
{
    /// What it has done so far.
    fn stats(&self) -> &Stats;

    /// Commits what waits, sums of audit notes included, chains what is left of the audit log, and lets go of the store. Later
    /// changes are refused as unavailable.
    fn end(self: Arc<Self>) -> PortFuture<'static, ()>;

    /// How far the clock that all its nodes share is ahead of `now`, milliseconds; `None` for the one node of a file.
    fn clock_ahead<'a>(
        &'a self,
        now: &'a (dyn Fn() -> Timestamp + Send + Sync),
    ) -> PortFuture<'a, Result<Option<i64>, Unavailable>>;

    /// Whether its schema has everything that this claimd needs; for readiness.
    fn schema_fits(&self) -> PortFuture<'_, Result<bool, Unavailable>>;

    /// The keys of digests.
    fn keyring(&self) -> Arc<Keyring>;

    /// Whether the newest of the master keys that the registry was opened with is in use. If not, a rotation ended before it
    /// began: nothing was ever sealed under that key, and the one before it is in use alone.
    fn handed_over(&self) -> bool;

    /// Puts a new master key in the place of the present one, which goes on opening until [`Registry::settle_master`].
    /// The caller has both on record already, and keeps both unless this is [`HandOver::Not`].
    fn replace_master<'a>(&'a self, master: &'a MasterKey, by: By) -> PortFuture<'a, HandOver>;

    /// Seals some of what is not under the newest master key anew, from `cursor` on. A pass that began after
    /// [`Registry::replace_master`] and came to its end leaves nothing under the key before.
    fn reseal(&self, cursor: ResealCursor) -> PortFuture<'_, Result<Resealed, Unavailable>>;

    /// Forgets the key before the newest.
    fn settle_master(&self);
}

impl Registry for SqliteRegistry {
    fn stats(&self) -> &Stats {
        self.stats()
    }

    fn end(self: Arc<Self>) -> PortFuture<'static, ()> {
        // Joins a thread and waits for the disk.
        let closing = tokio::task::spawn_blocking(move || SqliteRegistry::close(&self));
        PortFuture::later(async move {
            if closing.await.is_err() {
                tracing::error!("the registry was not closed as it should be; the next start goes on");
            }
        })
    }

    fn clock_ahead<'a>(
        &'a self,
        _now: &'a (dyn Fn() -> Timestamp + Send + Sync),
    ) -> PortFuture<'a, Result<Option<i64>, Unavailable>> {
        PortFuture::ready(Ok(None))
    }

    fn schema_fits(&self) -> PortFuture<'_, Result<bool, Unavailable>> {
        // Nobody else writes to the file.
        PortFuture::later(async move { Directory::ping(self).await.map(|()| true).map_err(|_| Unavailable) })
    }

    fn keyring(&self) -> Arc<Keyring> {
        self.keyring()
    }

    fn handed_over(&self) -> bool {
        self.handed_over()
    }

    fn replace_master<'a>(&'a self, master: &'a MasterKey, by: By) -> PortFuture<'a, HandOver> {
        PortFuture::later(self.replace_master(master, by))
    }

    fn reseal(&self, cursor: ResealCursor) -> PortFuture<'_, Result<Resealed, Unavailable>> {
        PortFuture::later(self.reseal(cursor))
    }

    fn settle_master(&self) {
        self.settle_master();
    }
}

impl Registry for PostgresRegistry {
    fn stats(&self) -> &Stats {
        self.stats()
    }

    fn end(self: Arc<Self>) -> PortFuture<'static, ()> {
        PortFuture::later(async move { self.close().await })
    }

    fn clock_ahead<'a>(
        &'a self,
        now: &'a (dyn Fn() -> Timestamp + Send + Sync),
    ) -> PortFuture<'a, Result<Option<i64>, Unavailable>> {
        PortFuture::later(async move { self.clock_ahead(now).await.map(Some) })
    }

    fn schema_fits(&self) -> PortFuture<'_, Result<bool, Unavailable>> {
        PortFuture::later(self.schema_fits())
    }

    fn keyring(&self) -> Arc<Keyring> {
        self.keyring()
    }

    fn handed_over(&self) -> bool {
        self.handed_over()
    }

    fn replace_master<'a>(&'a self, master: &'a MasterKey, by: By) -> PortFuture<'a, HandOver> {
        PortFuture::later(self.replace_master(master, by))
    }

    fn reseal(&self, cursor: ResealCursor) -> PortFuture<'_, Result<Resealed, Unavailable>> {
        PortFuture::later(self.reseal(cursor))
    }

    fn settle_master(&self) {
        self.settle_master();
    }
}
