//! Changes: one transaction each, run again while others are in its way, and answered after its commit is on the server's
//! disk and this node's look-up cache has forgotten what changed.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{RwLockReadGuard, RwLockWriteGuard};
use tokio::time::Instant;
use tokio_postgres::error::SqlState;

use super::db::{Db, Doing, Fault};
use super::{After, Core, PostgresRegistry, stale};
use crate::writer::NotWritten;

/// A change. It captures nothing, so that it can be run again.
pub(crate) type Change<A, T> = for<'a> fn(&'a Db, &'a mut After, &'a A) -> Doing<'a, T>;

/// How a change is run.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Way {
    /// As if nobody else were there, or again.
    Serializable,
    /// Each statement sees what was committed before it. For changes that lock the rows they decide by, or whose conditions
    /// are in the statements that write.
    ReadCommitted,
    /// One statement that writes, a transaction by itself; what comes after it only reads.
    OneStatement,
}

impl Way {
    fn begin(self) -> Option<&'static str> {
        match self {
            Self::Serializable => Some("BEGIN ISOLATION LEVEL SERIALIZABLE"),
            Self::ReadCommitted => Some("BEGIN ISOLATION LEVEL READ COMMITTED"),
            Self::OneStatement => None,
        }
    }
}

/// How often a change is run again when another transaction was in its way.
const RETRIES: u32 = 5;
/// The longest wait before the first of these; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(4);

/// How a try ended without an answer.
enum Failed {
    /// Nothing was written, and it is not worth trying again.
    Certainly(Fault),
    /// Nothing was written; another transaction was in the way, or the connection was gone before it began.
    Passing(Fault),
    /// The commit was under way.
    Perhaps(String),
}

/// Whom a try may meet. Held, not read.
enum Turn<'a> {
    Any,
    Shared(#[expect(dead_code)] RwLockReadGuard<'a, ()>),
    Alone(#[expect(dead_code)] RwLockWriteGuard<'a, ()>),
}

impl PostgresRegistry {
    /// Makes a change and waits for its commit.
    pub(crate) fn write<A, T>(
        &self,
        args: A,
        change: Change<A, T>,
    ) -> impl Future<Output = Result<T, NotWritten>> + Send + use<A, T>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
    {
        self.write_as(Way::Serializable, args, change)
    }

    /// [`PostgresRegistry::write`], otherwise than SERIALIZABLE. The change goes on when its caller gives up waiting, so that
    /// the look-up cache hears of it.
    pub(super) fn write_as<A, T>(
        &self,
        way: Way,
        args: A,
        change: Change<A, T>,
    ) -> impl Future<Output = Result<T, NotWritten>> + Send + use<A, T>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
    {
        let core = Arc::clone(&self.core);
        async move {
            let stats = &core.shared.stats;
            stats.queued.fetch_add(1, Ordering::Relaxed);
            let work = Arc::clone(&core);
            let written = tokio::spawn(async move { work.write(way, &args, change).await }).await;
            stats.queued.fetch_sub(1, Ordering::Relaxed);
            // A change that panicked, or a runtime that ends.
            written.unwrap_or(Err(NotWritten::Unknown))
        }
    }
}

impl Core {
    pub(super) async fn write<A: Sync, T>(&self, way: Way, args: &A, change: Change<A, T>) -> Result<T, NotWritten> {
        let deadline = Instant::now() + self.patience;
        let stats = &self.shared.stats;
        let mut retries = 0;
        loop {
            let mut after = After::default();
            let tried = match self.turn(way, retries, deadline).await {
                Ok(_turn) => self.once(way, args, change, &mut after, deadline).await,
                Err(fault) => Err(Failed::Certainly(fault)),
            };
            if matches!(tried, Ok(_) | Err(Failed::Perhaps(_))) {
                // Also after an unknown outcome: what may have changed must be read again.
                self.shared.lookup.forget(&after.forget);
                if after.event {
                    self.shared.wake.notify_waiters();
                }
                if after.event || !after.forget.is_empty() {
                    self.told.notify_one();
                }
            }
            match tried {
                Ok(value) => {
                    stats.commits.fetch_add(1, Ordering::Relaxed);
                    stats.changes.fetch_add(1, Ordering::Relaxed);
                    return Ok(value);
                }
                Err(Failed::Certainly(Fault::Refused(error))) => return Err(NotWritten::Refused(error)),
                Err(Failed::Passing(_)) if retries < RETRIES && Instant::now() < deadline => {
                    tokio::time::sleep(wait(retries)).await;
                    stats.retried.fetch_add(1, Ordering::Relaxed);
                    retries += 1;
                }
                Err(Failed::Certainly(fault) | Failed::Passing(fault)) => {
                    stats.errors.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(%fault, retries, "a change of the registry failed");
                    return Err(NotWritten::Unavailable);
                }
                Err(Failed::Perhaps(error)) => {
                    stats.errors.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(%error, "the registry could not commit");
                    return Err(NotWritten::Unknown);
                }
            }
        }
    }

    /// The turn of a SERIALIZABLE change. The server takes whole pages, and small tables, for what was read: it finds many in
    /// each other's way that are not. So who was refused once runs while no other of this node does.
    async fn turn(&self, way: Way, retries: u32, deadline: Instant) -> Result<Turn<'_>, Fault> {
        let turn = async {
            match way {
                Way::Serializable if retries == 0 => Turn::Shared(self.turns.read().await),
                Way::Serializable => Turn::Alone(self.turns.write().await),
                Way::ReadCommitted | Way::OneStatement => Turn::Any,
            }
        };
        tokio::time::timeout_at(deadline, turn).await.map_err(|_| Fault::NoConnection("no turn in time".to_owned()))
    }

    /// Runs the change and commits it.
    async fn once<A: Sync, T>(
        &self,
        way: Way,
        args: &A,
        change: Change<A, T>,
        after: &mut After,
        deadline: Instant,
    ) -> Result<T, Failed> {
        // A statement that is its own transaction may be committed as soon as it is sent.
        let begun = AtomicBool::new(false);
        let work = async {
            let db = self.borrow().await?;
            match way.begin() {
                Some(begin) => db.batch(begin).await?,
                None => begun.store(true, Ordering::Relaxed),
            }
            let mut value = change(&db, after, args).await;
            if value.is_ok()
                && !after.forget.is_empty()
                && !after.told
                && let Err(fault) = stale::insert(&db, &after.forget).await
            {
                value = Err(fault);
            }
            Ok((db, value))
        };
        // Given up before the commit, the connection is closed, and with it the transaction ends.
        let late = |_| Err(Fault::NoConnection("no answer in time".to_owned()));
        let (db, value) = match tokio::time::timeout_at(deadline, work).await.unwrap_or_else(late) {
            Ok((db, value)) => (db, value),
            Err(fault) if begun.load(Ordering::Relaxed) => return Err(Failed::Perhaps(fault.to_string())),
            Err(fault) if fault.passes() => return Err(Failed::Passing(fault)),
            Err(fault) => return Err(Failed::Certainly(fault)),
        };
        let value = match value {
            // COMMIT of a transaction in which something failed rolls back without an error.
            Ok(_) if db.failed() => Err(Fault::Damaged("an error was passed over")),
            value => value,
        };
        match value {
            Ok(value) => {
                match way {
                    Way::OneStatement => db.give_back(),
                    Way::Serializable | Way::ReadCommitted => commit(db, deadline).await?,
                }
                Ok(value)
            }
            Err(fault) if way == Way::OneStatement => {
                let failed = not_committed(fault);
                if !matches!(failed, Failed::Perhaps(_)) {
                    db.give_back();
                }
                Err(failed)
            }
            Err(fault) => {
                if let Ok(Ok(())) = tokio::time::timeout_at(deadline, db.batch("ROLLBACK")).await {
                    db.give_back();
                }
                Err(if fault.passes() { Failed::Passing(fault) } else { Failed::Certainly(fault) })
            }
        }
    }
}

async fn commit(db: Db, deadline: Instant) -> Result<(), Failed> {
    match tokio::time::timeout_at(deadline, db.batch("COMMIT")).await {
        Ok(Ok(())) => {
            db.give_back();
            Ok(())
        }
        Ok(Err(fault)) => Err(not_committed(fault)),
        Err(_) => Err(Failed::Perhaps("no answer in time".to_owned())),
    }
}

/// What a failed COMMIT means, or a failed statement that is its own transaction. Only what the server itself says about the transaction rules out that it happened: a
/// server that is shut down, or a connection that is cut, may have written it before.
fn not_committed(fault: Fault) -> Failed {
    let Some(code) = fault.code() else {
        return match fault {
            Fault::Database(error) => Failed::Perhaps(Fault::Database(error).to_string()),
            fault => Failed::Certainly(fault),
        };
    };
    match &code.code()[..2] {
        "40" if fault.passes() => Failed::Passing(fault),
        // Shut down, connection lost, completion unknown, broken.
        "40" | "08" | "57" | "58" | "XX" if *code != SqlState::QUERY_CANCELED => Failed::Perhaps(fault.to_string()),
        _ => Failed::Certainly(fault),
    }
}

/// Up to twice as long each time; never the same for two who met.
fn wait(retries: u32) -> Duration {
    let longest = FIRST_WAIT * 2_u32.pow(retries);
    let part = getrandom::u32().unwrap_or(u32::MAX / 2);
    longest.mul_f64(f64::from(part) / f64::from(u32::MAX))
}
