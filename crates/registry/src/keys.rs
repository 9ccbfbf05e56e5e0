//! The install's keys at rest.
//!
//! The master key seals everything that must be read back in clear: claim codes, generated tokens, signing keys, and the root of
//! the keyring that digests are made with. The root is random and never changes, since no digest can be made anew without
//! its clear text; sealed under the master key it changes hands with it. Of an install that is older than this the root
//! is its first master key.

use std::sync::Arc;
use std::time::Duration;

use claim::applications::By;
use claim::directory::{Answer, DirectoryError};
use claim::keys::{SIGNING_KEYS, SigningKey, SigningKeys};
use claim::{Keyring, MasterKey, Secret, Timestamp, Unavailable, UserId};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::rows;
use crate::sealing::{Sealer, SealingKey};
use crate::sqlite::SqliteRegistry;
use crate::writer::{After, Fault, NotWritten};

pub(crate) const ROOT: &str = "digest_root";

/// Why there is no keyring.
#[derive(Debug)]
pub(crate) enum RootFault {
    /// It was sealed under none of the keys.
    OtherMaster,
    /// The system has no random bytes, or the cryptography refused.
    NoKey,
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for RootFault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

/// A column of sealed values.
pub(crate) struct Column {
    /// `table.column`.
    pub(crate) name: &'static str,
    pub(crate) label: &'static [u8],
    /// Row id, the value, then what it is bound to after the label; after `?1`, at most `?2`.
    select: &'static str,
    /// Puts `?2` in place of `?1`'s value.
    update: &'static str,
    /// Values of a step: some milliseconds of the writer's time. Each select has an index to go by.
    most: u32,
}

/// Everything that is sealed. What is not here would be lost with the next rotation of the master key.
pub(crate) const SEALED: [Column; 6] = [
    Column {
        name: "install_secret.sealed",
        label: b"install_secret",
        select: "SELECT rid, sealed, name FROM install_secret WHERE rid > ?1 ORDER BY rid LIMIT ?2",
        update: "UPDATE install_secret SET sealed = ?2 WHERE rid = ?1",
        most: 200,
    },
    Column {
        name: "signing_key.sealed",
        label: b"signing_key",
        select: "SELECT rowid, sealed, kid FROM signing_key WHERE rowid > ?1 ORDER BY rowid LIMIT ?2",
        update: "UPDATE signing_key SET sealed = ?2 WHERE rowid = ?1",
        most: 200,
    },
    Column {
        name: "credential.sealed",
        label: b"credential",
        select: "SELECT c.rid, c.sealed, d.tenant, d.id, c.id FROM credential c JOIN device d ON d.id = c.device \
             WHERE c.sealed IS NOT NULL AND c.rid > ?1 ORDER BY c.rid LIMIT ?2",
        update: "UPDATE credential SET sealed = ?2 WHERE rid = ?1",
        most: 200,
    },
    Column {
        name: "device.code_sealed",
        label: b"claim_code",
        select: "SELECT rid, code_sealed, tenant, id FROM device WHERE code_sealed IS NOT NULL AND rid > ?1 \
             ORDER BY rid LIMIT ?2",
        update: "UPDATE device SET code_sealed = ?2 WHERE rid = ?1",
        most: 200,
    },
    Column {
        name: "device.root_keys_sealed",
        label: b"root_keys",
        select: "SELECT rid, root_keys_sealed, tenant, id FROM device WHERE root_keys_sealed IS NOT NULL AND rid > ?1 \
             ORDER BY rid LIMIT ?2",
        update: "UPDATE device SET root_keys_sealed = ?2 WHERE rid = ?1",
        most: 200,
    },
    Column {
        name: "import_batch.sealed",
        label: b"import",
        select: "SELECT b.rid, b.sealed, i.tenant, i.id FROM import_batch b JOIN import i ON i.rid = b.job \
             WHERE b.rid > ?1 ORDER BY b.rid LIMIT ?2",
        update: "UPDATE import_batch SET sealed = ?2 WHERE rid = ?1",
        most: 10,
    },
];

/// Where a pass over everything sealed is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResealCursor {
    pub(crate) column: usize,
    /// The last row that was looked at.
    pub(crate) after: i64,
}

impl ResealCursor {
    /// Behind the last row of a full step, or at the next column; `None`: that was all.
    pub(crate) fn behind(self, last: Option<i64>) -> Option<Self> {
        match last {
            Some(after) => Some(Self { after, ..self }),
            None if self.column + 1 < SEALED.len() => Some(Self { column: self.column + 1, after: 0 }),
            None => None,
        }
    }
}

/// What a step of a pass did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resealed {
    /// Values sealed anew.
    pub values: u64,
    /// Where to go on; `None`: that was all.
    pub next: Option<ResealCursor>,
}

/// What binds a value to its row: the label and the columns behind the value.
fn bound_to(column: &Column, row: &Row<'_>) -> rusqlite::Result<Vec<u8>> {
    let mut bound = column.label.to_vec();
    for at in 2..row.as_ref().column_count() {
        match row.get_ref(at)? {
            ValueRef::Blob(bytes) | ValueRef::Text(bytes) => bound.extend_from_slice(bytes),
            _ => {
                return Err(rusqlite::Error::InvalidColumnType(
                    at,
                    column.name.to_owned(),
                    row.get_ref(at)?.data_type(),
                ));
            }
        }
    }
    Ok(bound)
}

/// Seals values of one column anew that are not under the newest key yet.
fn reseal(connection: &Connection, sealer: &Sealer, cursor: ResealCursor) -> Result<Resealed, Fault> {
    let Some(column) = SEALED.get(cursor.column) else { return Ok(Resealed { values: 0, next: None }) };
    let newest = sealer.newest();
    let found: Vec<(i64, Vec<u8>, Vec<u8>)> = connection
        .prepare_cached(column.select)?
        .query_map(params![cursor.after, column.most], |row| Ok((row.get(0)?, row.get(1)?, bound_to(column, row)?)))?
        .collect::<Result<_, _>>()?;
    let mut values = 0;
    for (rid, sealed, bound) in &found {
        let Some(sealed) = anew(column, *rid, sealer, &newest, bound, sealed)? else { continue };
        connection.prepare_cached(column.update)?.execute(params![rid, sealed])?;
        values += 1;
    }
    let next = cursor.behind(found.last().filter(|_| found.len() == column.most as usize).map(|(rid, ..)| *rid));
    Ok(Resealed { values, next })
}

/// Sealed values that open under none of the sealer's keys.
pub(crate) fn unopened(connection: &Connection, sealer: &Sealer) -> rusqlite::Result<u64> {
    let mut unopened = 0;
    for column in &SEALED {
        let mut after = 0;
        loop {
            let found: Vec<(i64, bool)> = connection
                .prepare_cached(column.select)?
                .query_map(params![after, column.most], |row| {
                    let sealed: Vec<u8> = row.get(1)?;
                    Ok((row.get(0)?, sealer.open(&[&bound_to(column, row)?], &sealed).is_some()))
                })?
                .collect::<Result<_, _>>()?;
            unopened += found.iter().filter(|(_, opens)| !opens).count() as u64;
            let Some((last, _)) = found.last() else { break };
            after = *last;
        }
    }
    Ok(unopened)
}

/// A value under the newest key; `None`: it is, or it opens for nobody.
pub(crate) fn anew(
    column: &Column,
    rid: i64,
    sealer: &Sealer,
    newest: &SealingKey,
    bound: &[u8],
    sealed: &[u8],
) -> Result<Option<Vec<u8>>, DirectoryError> {
    if newest.open(&[bound], sealed).is_some() {
        return Ok(None);
    }
    let Some(clear) = sealer.open(&[bound], sealed) else {
        // It opened for nobody before, either; a rotation must not hang on it.
        tracing::warn!(column = column.name, row = rid, "a sealed value opens under no key; it is left as it is");
        return Ok(None);
    };
    newest.seal(&[bound], clear.expose()).map(Some).ok_or(DirectoryError::Unavailable)
}

fn root_row(connection: &Connection) -> rusqlite::Result<Option<Vec<u8>>> {
    connection.query_row("SELECT sealed FROM install_secret WHERE name = ?1", [ROOT], |row| row.get(0)).optional()
}

pub(crate) const ROOT_BOUND: [&[u8]; 2] = [b"install_secret", ROOT.as_bytes()];

/// The keyring of a sealed root, and whether that is under the sealer's newest key; `None`: under neither.
pub(crate) fn opened(sealer: &Sealer, sealed: &[u8]) -> Option<(Keyring, bool)> {
    let root = sealer.open(&ROOT_BOUND, sealed)?;
    let bytes = root.expose().as_slice().try_into().ok()?;
    Some((Keyring::from_root(bytes), sealer.newest().open(&ROOT_BOUND, sealed).is_some()))
}

/// The keyring, and whether its root is sealed under the sealer's newest key; made on the first start.
pub(crate) fn keyring(
    connection: &Connection,
    sealer: &Sealer,
    master: &MasterKey,
) -> Result<(Keyring, bool), RootFault> {
    if let Some(sealed) = root_row(connection)? {
        return opened(sealer, &sealed).ok_or(RootFault::OtherMaster);
    }
    let mut root = Secret::new(*master.expose());
    if !connection.query_row("SELECT EXISTS (SELECT 1 FROM account)", [], |row| row.get::<_, bool>(0))? {
        getrandom::fill(root.expose_mut()).map_err(|_| RootFault::NoKey)?;
    } else if !opens_what_it_sealed(connection, sealer)? {
        return Err(RootFault::OtherMaster);
    }
    let sealed = sealer.seal(&ROOT_BOUND, root.expose()).ok_or(RootFault::NoKey)?;
    connection.execute("INSERT INTO install_secret (name, sealed) VALUES (?1, ?2)", params![ROOT, sealed])?;
    Ok((Keyring::from_root(root.expose()), true))
}

/// Whether an older install's key is the one it was run with.
fn opens_what_it_sealed(connection: &Connection, sealer: &Sealer) -> rusqlite::Result<bool> {
    let sealed: Option<(String, Vec<u8>)> = connection
        .query_row("SELECT kid, sealed FROM signing_key LIMIT 1", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(sealed.is_none_or(|(kid, sealed)| sealer.open(&[b"signing_key", kid.as_bytes()], &sealed).is_some()))
}

/// Hands the root to another master key, with the audit row of the rotation; again it is no change.
fn hand_over(connection: &Connection, sealer: &Sealer, newest: &SealingKey, by: By) -> Result<(), Fault> {
    let sealed = root_row(connection)?.ok_or(DirectoryError::Unavailable)?;
    let Some(sealed) = handed_over(sealer, newest, &sealed)? else { return Ok(()) };
    connection.execute("UPDATE install_secret SET sealed = ?2 WHERE name = ?1", params![ROOT, sealed])?;
    Ok(audit(connection, "keys.master_rotated", "", by)?)
}

/// The root under another key; `None`: it is already.
pub(crate) fn handed_over(
    sealer: &Sealer,
    newest: &SealingKey,
    sealed: &[u8],
) -> Result<Option<Vec<u8>>, DirectoryError> {
    if newest.open(&ROOT_BOUND, sealed).is_some() {
        return Ok(None);
    }
    let root = sealer.open(&ROOT_BOUND, sealed).ok_or(DirectoryError::Unavailable)?;
    newest.seal(&ROOT_BOUND, root.expose()).map(Some).ok_or(DirectoryError::Unavailable)
}

fn audit(connection: &Connection, action: &str, reason: &str, by: By) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO audit (at, tenant, actor_kind, actor, action, outcome, reason, evidence, count, charged, origin, \
             request_id) SELECT ?1, tenant, 'account', id, ?3, 'done', ?4, 'none', 1, 0, 'api', 0 FROM account WHERE id = ?2",
        )?
        .execute(params![by.now.as_millis(), by.account.as_bytes(), action, reason])?;
    Ok(())
}

/// Between tries to settle what the store did not tell.
pub(crate) const RETRY: Duration = Duration::from_secs(1);
/// Values looked at in one change of a pass: some milliseconds of the store's time.
pub(crate) const RESEAL_BATCH: u32 = 200;

impl SqliteRegistry {
    /// Puts a new master key in the place of the present one, which goes on opening until [`SqliteRegistry::settle_master`].
    /// The caller has both on record already, and keeps both unless this is [`HandOver::Not`].
    pub async fn replace_master(&self, master: &MasterKey, by: By) -> HandOver {
        let (newest, sealer) = (SealingKey::new(master), Arc::clone(&self.sealer));
        let mut may_be_done = false;
        loop {
            let (sealer, newest) = (Arc::clone(&sealer), newest.clone());
            match self.write(move |connection, _| hand_over(connection, &sealer, &newest, by)).await {
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
    /// [`SqliteRegistry::replace_master`] and came to its end leaves nothing under the key before.
    pub async fn reseal(&self, cursor: ResealCursor) -> Result<Resealed, Unavailable> {
        let sealer = Arc::clone(&self.sealer);
        let change = move |connection: &Connection, _: &mut After| reseal(connection, &sealer, cursor);
        self.write(change).await.map_err(|_| Unavailable)
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

/// Whether a master key was put in the place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandOver {
    /// Yes.
    Done,
    /// Certainly not: nothing was sealed under the new one.
    Not,
}

fn signing_keys(connection: &Connection, sealer: &Sealer, now: Timestamp) -> Result<Vec<SigningKey>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT kid, sealed, created_at, valid_until FROM signing_key WHERE valid_until IS NULL OR valid_until > ?1 \
         ORDER BY valid_until IS NOT NULL, rowid DESC",
    )?;
    let found: Vec<KeptKey> = statement
        .query_map([now.as_millis()], |row| {
            Ok(KeptKey {
                kid: row.get(0)?,
                sealed: row.get(1)?,
                created_at: rows::instant(row, 2)?,
                valid_until: rows::optional_instant(row, 3)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    let mut keys = Vec::with_capacity(found.len() + 1);
    if found.first().is_none_or(|key| key.valid_until.is_some()) {
        keys.push(make_signing_key(connection, sealer, now)?);
    }
    for kept in found {
        keys.push(kept.open(sealer)?);
    }
    Ok(keys)
}

fn make_signing_key(connection: &Connection, sealer: &Sealer, now: Timestamp) -> Result<SigningKey, Fault> {
    let (key, sealed) = fresh_signing_key(sealer, now)?;
    connection.execute(
        "INSERT INTO signing_key (kid, sealed, created_at) VALUES (?1, ?2, ?3)",
        params![key.kid, sealed, now.as_millis()],
    )?;
    Ok(key)
}

/// A new key, and how it is kept.
pub(crate) fn fresh_signing_key(sealer: &Sealer, now: Timestamp) -> Result<(SigningKey, Vec<u8>), DirectoryError> {
    let mut key = Secret::new(vec![0; 32]);
    let no_randomness = DirectoryError::Unavailable;
    getrandom::fill(key.expose_mut()).map_err(|_| no_randomness.clone())?;
    let kid = UserId::random().to_string();
    let sealed = sealer.seal(&[b"signing_key", kid.as_bytes()], key.expose()).ok_or(no_randomness)?;
    Ok((SigningKey { kid, key: Arc::new(key), created_at: now, valid_until: None }, sealed))
}

/// A signing key as it is kept.
pub(crate) struct KeptKey {
    pub(crate) kid: String,
    pub(crate) sealed: Vec<u8>,
    pub(crate) created_at: Timestamp,
    pub(crate) valid_until: Option<Timestamp>,
}

impl KeptKey {
    pub(crate) fn open(self, sealer: &Sealer) -> Result<SigningKey, DirectoryError> {
        let Self { kid, sealed, created_at, valid_until } = self;
        let key = sealer
            .open(&[b"signing_key", kid.as_bytes()], &sealed)
            .ok_or(DirectoryError::Refused("the signing key was sealed under another master key"))?;
        Ok(SigningKey { kid, key: Arc::new(key), created_at, valid_until })
    }
}

fn rotate_signing_key(
    connection: &Connection,
    sealer: &Sealer,
    until: Timestamp,
    by: By,
) -> Result<Vec<SigningKey>, Fault> {
    let now = by.now.as_millis();
    connection.execute("DELETE FROM signing_key WHERE valid_until <= ?1", [now])?;
    connection.execute("UPDATE signing_key SET valid_until = ?1 WHERE valid_until IS NULL", [until.as_millis()])?;
    let valid: u32 = connection.query_row("SELECT count(*) FROM signing_key", [], |row| row.get(0))?;
    if valid >= SIGNING_KEYS {
        return Err(DirectoryError::Full { what: "signing keys that are still valid", most: SIGNING_KEYS }.into());
    }
    let made = make_signing_key(connection, sealer, by.now)?;
    audit(connection, "keys.jwt_rotated", &made.kid, by)?;
    signing_keys(connection, sealer, by.now)
}

impl SigningKeys for SqliteRegistry {
    fn signing_keys(&self, now: Timestamp) -> Answer<'_, Vec<SigningKey>> {
        let sealer = Arc::clone(&self.sealer);
        self.change(move |connection, _| signing_keys(connection, &sealer, now))
    }

    fn rotate_signing_key(&self, until: Timestamp, by: By) -> Answer<'_, Vec<SigningKey>> {
        let sealer = Arc::clone(&self.sealer);
        self.change(move |connection, _| rotate_signing_key(connection, &sealer, until, by))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_sealed_column_of_the_schema_is_sealed_anew() {
        let mut connection = Connection::open_in_memory().unwrap();
        crate::schema::migrate(&mut connection).unwrap();
        let mut statement = connection
            .prepare(
                "SELECT m.name || '.' || c.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c \
                 WHERE m.type = 'table' AND c.type = 'BLOB' AND c.name LIKE '%sealed%'",
            )
            .unwrap();
        let in_schema: BTreeSet<String> =
            statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        let known: BTreeSet<String> = SEALED.iter().map(|column| column.name.to_owned()).collect();
        assert_eq!(known, in_schema);
        for column in &SEALED {
            connection.prepare(column.select).unwrap();
            connection.prepare(column.update).unwrap();
        }
    }

    #[test]
    fn an_older_install_keeps_its_digests_and_a_new_one_has_a_root_of_its_own() {
        let master = MasterKey::from_bytes(&[1; 32]);
        let token = |keyring: &Keyring| *keyring.access_token("t").as_bytes();
        let of_master = token(&Keyring::from_root(&[1; 32]));
        for (older, account) in [
            (false, ""),
            (
                true,
                "INSERT INTO tenant (id, title, created_at) VALUES (x'01', 'a', 1); \
                 INSERT INTO account (id, tenant, operator, email, created_at) VALUES (x'02', x'01', 1, 'a', 1);",
            ),
        ] {
            let mut connection = Connection::open_in_memory().unwrap();
            crate::schema::migrate(&mut connection).unwrap();
            connection.execute_batch(account).unwrap();
            let sealer = Sealer::new(&master, None);
            if older {
                signing_keys(&connection, &sealer, Timestamp::from_millis(0)).unwrap();
                let other = MasterKey::from_bytes(&[2; 32]);
                let wrong = keyring(&connection, &Sealer::new(&other, None), &other);
                assert!(matches!(wrong, Err(RootFault::OtherMaster)), "a wrong key makes no root");
            }
            let (first, _) = keyring(&connection, &sealer, &master).unwrap();
            assert_eq!(token(&first) == of_master, older);
            let (again, newest) = keyring(&connection, &sealer, &master).unwrap();
            assert_eq!((token(&again), newest), (token(&first), true));
            let other = MasterKey::from_bytes(&[2; 32]);
            let foreign = keyring(&connection, &Sealer::new(&other, None), &other);
            assert!(matches!(foreign, Err(RootFault::OtherMaster)));
        }
    }
}
