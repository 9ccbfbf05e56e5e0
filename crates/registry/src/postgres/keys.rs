//! The install's keys at rest. See `crate::keys`.

use std::sync::Arc;

use claim::{Keyring, Secret};

use super::db::{Db, Fault};
use super::{PostgresRegistry, rows};
use crate::keys::{ROOT, ROOT_BOUND, RootFault};
use crate::sealing::Sealer;

/// Why there is no keyring.
pub(super) enum KeyringFault {
    Root(RootFault),
    Database(Fault),
}

impl From<Fault> for KeyringFault {
    fn from(fault: Fault) -> Self {
        Self::Database(fault)
    }
}

/// The keyring, and whether its root is sealed under the sealer's newest key; made on the first start.
pub(super) async fn keyring(db: &Db, sealer: &Sealer) -> Result<(Keyring, bool), KeyringFault> {
    let no_key = || KeyringFault::Root(RootFault::NoKey);
    let sealed = match root_row(db).await? {
        Some(sealed) => sealed,
        None => {
            let mut root = Secret::new([0; 32]);
            getrandom::fill(root.expose_mut()).map_err(|_| no_key())?;
            let sealed = sealer.seal(&ROOT_BOUND, root.expose()).ok_or_else(no_key)?;
            // Of two nodes that start first, one has the say.
            let sql = "INSERT INTO install_secret (name, sealed) VALUES ($1, $2) ON CONFLICT DO NOTHING";
            db.run(sql, &[&ROOT, &sealed]).await?;
            root_row(db).await?.ok_or(Fault::Damaged("the root of the keyring is missing"))?
        }
    };
    let other = || KeyringFault::Root(RootFault::OtherMaster);
    let root = sealer.open(&ROOT_BOUND, &sealed).ok_or_else(other)?;
    let bytes = root.expose().as_slice().try_into().map_err(|_| other())?;
    Ok((Keyring::from_root(bytes), sealer.newest().open(&ROOT_BOUND, &sealed).is_some()))
}

async fn root_row(db: &Db) -> Result<Option<Vec<u8>>, Fault> {
    let row = db.row("SELECT sealed FROM install_secret WHERE name = $1", &[&ROOT]).await?;
    row.map(|row| rows::get(&row, 0)).transpose()
}

impl PostgresRegistry {
    /// The keys of digests.
    pub fn keyring(&self) -> Arc<Keyring> {
        Arc::clone(&self.keyring)
    }

    /// Whether the newest of the master keys that the registry was opened with is in use. If not, a rotation ended before it
    /// began: nothing was ever sealed under that key, and the one before it is in use alone.
    pub fn handed_over(&self) -> bool {
        self.handed_over
    }
}
