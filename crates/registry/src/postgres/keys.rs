//! The install's keys at rest. See `crate::keys`.

use std::sync::Arc;
use std::time::Duration;

use claim::applications::By;
use claim::directory::{Answer, DirectoryError};
use claim::keys::{SIGNING_KEYS, SigningKey, SigningKeys};
use claim::{Keyring, MasterKey, Secret, Timestamp, Unavailable};
use tokio_postgres::{Client, Row};

use super::db::{Db, Fault};
use super::{PostgresRegistry, rows};
use crate::keys::{
    HandOver, KeptKey, RESEAL_BATCH, RETRY, ROOT, ROOT_BOUND, ResealCursor, Resealed, RootFault, SEALED, anew,
    fresh_signing_key, handed_over, opened,
};
use crate::sealing::{Sealer, SealingKey};
use crate::writer::NotWritten;

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
    let sealed = match root_row(db, "").await? {
        Some(sealed) => sealed,
        None => {
            let mut root = Secret::new([0; 32]);
            getrandom::fill(root.expose_mut()).map_err(|_| no_key())?;
            let sealed = sealer.seal(&ROOT_BOUND, root.expose()).ok_or_else(no_key)?;
            // Of two nodes that start first, one has the say. Without its root an install that is in use has lost its digests.
            let sql = "INSERT INTO install_secret (name, sealed) SELECT $1::text, $2::bytea WHERE NOT EXISTS (SELECT 1 FROM account) \
                 ON CONFLICT DO NOTHING";
            db.run(sql, &[&ROOT, &sealed]).await?;
            root_row(db, "").await?.ok_or(Fault::Damaged("the root of the keyring is missing"))?
        }
    };
    opened(sealer, &sealed).ok_or(KeyringFault::Root(RootFault::OtherMaster))
}

/// The sealed root; `lock` ends the SELECT.
async fn root_row(db: &Db, lock: &str) -> Result<Option<Vec<u8>>, Fault> {
    let row = db.row(&format!("SELECT sealed FROM install_secret WHERE name = $1 {lock}"), &[&ROOT]).await?;
    row.map(|row| rows::get(&row, 0)).transpose()
}

/// Whether what the sealer seals will open: to be asked in the transaction of everything that is sealed. A node that was
/// started before another one replaced the master key seals nothing until it is started with the new one. The lock keeps the
/// root from changing hands until this transaction is over, so that the pass that seals everything anew sees it.
pub(crate) async fn may_seal(db: &Db, sealer: &Sealer) -> Result<(), Fault> {
    let sealed = root_row(db, "FOR SHARE").await?.ok_or(Fault::Damaged("the root of the keyring is missing"))?;
    for _ in 0..HAND_OVER_LOOKS {
        if sealer.newest().open(&ROOT_BOUND, &sealed).is_some() {
            return Ok(());
        }
        // Of this node's own rotation the root is committed and the sealer hears of it now.
        tokio::time::sleep(HAND_OVER_PAUSE).await;
    }
    tracing::error!("the master key was replaced by another node; start this one with the new key file");
    Err(DirectoryError::Unavailable.into())
}

/// How often and how long apart the sealer is looked at for a key that has changed hands.
const HAND_OVER_LOOKS: u32 = 10;
const HAND_OVER_PAUSE: Duration = Duration::from_millis(10);

/// How a column of [`SEALED`] is gone through, in the same order.
struct Statements {
    /// Row id, the value, and what it is bound to after the label; after `$1`, at most `$2`.
    select: &'static str,
    /// Puts a value in the place of the one that was read, unless another one is there by now.
    update: &'static str,
}

const STATEMENTS: [Statements; SEALED.len()] = [
    Statements {
        select: "SELECT rid, sealed, convert_to(name, 'UTF8') FROM install_secret WHERE rid > $1 ORDER BY rid LIMIT $2",
        update: "UPDATE install_secret SET sealed = $3 WHERE rid = $1 AND sealed = $2",
    },
    Statements {
        select: "SELECT rid, sealed, convert_to(kid, 'UTF8') FROM signing_key WHERE rid > $1 ORDER BY rid LIMIT $2",
        update: "UPDATE signing_key SET sealed = $3 WHERE rid = $1 AND sealed = $2",
    },
    Statements {
        select: "SELECT c.rid, c.sealed, uuid_send(d.tenant) || uuid_send(d.id) || uuid_send(c.id) FROM credential c \
             JOIN device d ON d.id = c.device WHERE c.sealed IS NOT NULL AND c.rid > $1 ORDER BY c.rid LIMIT $2",
        update: "UPDATE credential SET sealed = $3 WHERE rid = $1 AND sealed = $2",
    },
    Statements {
        select: "SELECT rid, code_sealed, uuid_send(tenant) || uuid_send(id) FROM device \
             WHERE code_sealed IS NOT NULL AND rid > $1 ORDER BY rid LIMIT $2",
        update: "UPDATE device SET code_sealed = $3 WHERE rid = $1 AND code_sealed = $2",
    },
    Statements {
        select: "SELECT rid, root_keys_sealed, uuid_send(tenant) || uuid_send(id) FROM device \
             WHERE root_keys_sealed IS NOT NULL AND rid > $1 ORDER BY rid LIMIT $2",
        update: "UPDATE device SET root_keys_sealed = $3 WHERE rid = $1 AND root_keys_sealed = $2",
    },
    Statements {
        select: "SELECT b.rid, b.sealed, uuid_send(i.tenant) || uuid_send(i.id) FROM import_batch b \
             JOIN import i ON i.rid = b.job WHERE b.rid > $1 ORDER BY b.rid LIMIT $2",
        update: "UPDATE import_batch SET sealed = $3 WHERE rid = $1 AND sealed = $2",
    },
];

/// A value with its row id and what it is bound to.
type Found = (i64, Vec<u8>, Vec<u8>);

fn found(label: &[u8], row: &Row) -> Result<Found, Fault> {
    Ok((rows::get(row, 0)?, rows::get(row, 1)?, [label, rows::get(row, 2)?].concat()))
}

/// Seals values of one column anew that are not under the newest key yet.
async fn reseal(db: &Db, sealer: &Sealer, cursor: ResealCursor, most: u32) -> Result<Resealed, Fault> {
    let (Some(column), Some(statements)) = (SEALED.get(cursor.column), STATEMENTS.get(cursor.column)) else {
        return Ok(Resealed { values: 0, next: None });
    };
    may_seal(db, sealer).await?;
    let newest = sealer.newest();
    let rows = db.rows(statements.select, &[&cursor.after, &i64::from(most)]).await?;
    let rows = rows.iter().map(|row| found(column.label, row)).collect::<Result<Vec<_>, _>>()?;
    let mut values = 0;
    for (rid, sealed, bound) in &rows {
        let Some(fresh) = anew(column, *rid, sealer, &newest, bound, sealed)? else { continue };
        values += db.run(statements.update, &[rid, sealed, &fresh]).await?;
    }
    let next = cursor.behind(rows.last().filter(|_| rows.len() == most as usize).map(|(rid, ..)| *rid));
    Ok(Resealed { values, next })
}

/// Sealed values that open under none of the sealer's keys.
pub(crate) async fn unopened(client: &Client, sealer: &Sealer) -> Result<u64, tokio_postgres::Error> {
    let mut unopened = 0;
    for (column, statements) in SEALED.iter().zip(&STATEMENTS) {
        let select = client.prepare(statements.select).await?;
        let mut after = 0_i64;
        loop {
            let rows = client.query(&select, &[&after, &i64::from(RESEAL_BATCH)]).await?;
            let Some(last) = rows.last() else { break };
            after = last.try_get(0)?;
            for row in &rows {
                let (sealed, bound): (&[u8], &[u8]) = (row.try_get(1)?, row.try_get(2)?);
                unopened += u64::from(sealer.open(&[column.label, bound], sealed).is_none());
            }
        }
    }
    Ok(unopened)
}

/// Hands the root to another master key, with the audit row of the rotation; again it is no change.
async fn hand_over(db: &Db, sealer: &Sealer, newest: &SealingKey, by: By) -> Result<(), Fault> {
    let sealed = root_row(db, "").await?.ok_or(DirectoryError::Unavailable)?;
    let Some(sealed) = handed_over(sealer, newest, &sealed)? else { return Ok(()) };
    db.run("UPDATE install_secret SET sealed = $2 WHERE name = $1", &[&ROOT, &sealed]).await?;
    audit(db, "keys.master_rotated", "", by).await
}

/// The row of something done to the install, in the tenant of who did it.
async fn audit(db: &Db, action: &str, reason: &str, by: By) -> Result<(), Fault> {
    let sql = "INSERT INTO audit (at, tenant, actor_kind, actor, action, outcome, reason, evidence, count, charged, origin, \
         request_id) SELECT $1, tenant, 'account', id, $3, 'done', $4, 'none', 1, FALSE, 'api', 0 FROM account WHERE id = $2";
    db.run(sql, &[&by.now.as_millis(), &by.account.uuid(), &action, &reason]).await?;
    Ok(())
}

impl PostgresRegistry {
    /// Puts a new master key in the place of the present one, which goes on opening until
    /// [`PostgresRegistry::settle_master`]. The caller has both on record already, and keeps both unless this is
    /// [`HandOver::Not`].
    pub async fn replace_master(&self, master: &MasterKey, by: By) -> HandOver {
        let newest = SealingKey::new(master);
        let mut may_be_done = false;
        loop {
            let args = (Arc::clone(&self.sealer), newest.clone(), by);
            let work = self.write(args, |db, _, (sealer, newest, by)| Box::pin(hand_over(db, sealer, newest, *by)));
            match work.await {
                Ok(()) => break,
                Err(NotWritten::Unknown) => may_be_done = true,
                Err(_) if !may_be_done => return HandOver::Not,
                Err(_) => {}
            }
            // Nothing is sealed under the new key before the root certainly is: a start tells by the root which key counts.
            tokio::time::sleep(RETRY).await;
        }
        self.sealer.replace(newest);
        HandOver::Done
    }

    /// Seals some of what is not under the newest master key anew, from `cursor` on. A pass that began after
    /// [`PostgresRegistry::replace_master`] and came to its end leaves nothing under the key before.
    pub async fn reseal(&self, cursor: ResealCursor) -> Result<Resealed, Unavailable> {
        let args = (Arc::clone(&self.sealer), cursor);
        let work = self.write(args, |db, _, (sealer, cursor)| Box::pin(reseal(db, sealer, *cursor, RESEAL_BATCH)));
        work.await.map_err(|_| Unavailable)
    }

    /// Forgets the key before the newest.
    pub fn settle_master(&self) {
        self.sealer.settle();
    }

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

fn kept(row: &Row) -> Result<KeptKey, Fault> {
    Ok(KeptKey {
        kid: rows::get(row, 0)?,
        sealed: rows::get(row, 1)?,
        created_at: rows::instant(row, 2)?,
        valid_until: rows::optional_instant(row, 3)?,
    })
}

/// The keys that are valid, first the one that signs, if there is one.
async fn valid_keys(db: &Db, sealer: &Sealer, now: Timestamp) -> Result<Vec<SigningKey>, Fault> {
    let sql = "SELECT kid, sealed, created_at, valid_until FROM signing_key WHERE valid_until IS NULL OR valid_until > $1 \
         ORDER BY valid_until IS NOT NULL, rid DESC";
    let found = db.rows(sql, &[&now.as_millis()]).await?;
    found.iter().map(|row| Ok(kept(row)?.open(sealer)?)).collect()
}

/// The keys that are valid, first the one that signs, which is made on first use.
async fn signing_keys(db: &Db, sealer: &Sealer, now: Timestamp) -> Result<Vec<SigningKey>, Fault> {
    let mut keys = valid_keys(db, sealer, now).await?;
    if keys.first().is_none_or(|key| key.valid_until.is_some()) {
        keys.insert(0, make_signing_key(db, sealer, now).await?);
    }
    Ok(keys)
}

async fn make_signing_key(db: &Db, sealer: &Sealer, now: Timestamp) -> Result<SigningKey, Fault> {
    may_seal(db, sealer).await?;
    let (key, sealed) = fresh_signing_key(sealer, now)?;
    let sql = "INSERT INTO signing_key (kid, sealed, created_at) VALUES ($1, $2, $3)";
    db.run(sql, &[&key.kid, &sealed, &now.as_millis()]).await?;
    Ok(key)
}

async fn rotate_signing_key(db: &Db, sealer: &Sealer, until: Timestamp, by: By) -> Result<Vec<SigningKey>, Fault> {
    db.run("DELETE FROM signing_key WHERE valid_until <= $1", &[&by.now.as_millis()]).await?;
    db.run("UPDATE signing_key SET valid_until = $1 WHERE valid_until IS NULL", &[&until.as_millis()]).await?;
    let valid: i64 = rows::get(&db.one("SELECT count(*) FROM signing_key", &[]).await?, 0)?;
    if valid >= i64::from(SIGNING_KEYS) {
        return Err(DirectoryError::Full { what: "signing keys that are still valid", most: SIGNING_KEYS }.into());
    }
    let made = make_signing_key(db, sealer, by.now).await?;
    audit(db, "keys.jwt_rotated", &made.kid, by).await?;
    signing_keys(db, sealer, by.now).await
}

impl SigningKeys for PostgresRegistry {
    fn signing_keys(&self, now: Timestamp) -> Answer<'_, Vec<SigningKey>> {
        let args = (Arc::clone(&self.sealer), now);
        self.change(args, |db, _, (sealer, now)| Box::pin(signing_keys(db, sealer, *now)))
    }

    fn rotate_signing_key(&self, until: Timestamp, by: By) -> Answer<'_, Vec<SigningKey>> {
        let args = (Arc::clone(&self.sealer), until, by);
        self.change(args, |db, _, (sealer, until, by)| Box::pin(rotate_signing_key(db, sealer, *until, *by)))
    }
}
