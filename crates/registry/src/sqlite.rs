//! Opening, closing, and the look-ups of the hot path.

use std::fmt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use claim::event::AuditNote;
use claim::ports::{
    AssignOwner, Assignment, Child, ClaimSubject, CredentialHolder, DeviceRegistry, Release, ReleaseOwner, Remembered,
    ResolveChildren, RetryKey, StoredCode, VoidPending, WriteError,
};
use claim::secret::CredentialDigest;
use claim::{Device, DeviceId, DeviceName, Eui64, Keyring, MasterKey, PortFuture, TenantId, Timestamp, Unavailable};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::Notify;

use crate::config::Config;
use crate::keys::{self, RootFault};
use crate::lookup::Lookup;
use crate::notes::Notes;
use crate::readers::Readers;
use crate::rows;
use crate::schema::{self, SchemaError};
use crate::sealing::Sealer;
use crate::writer::{After, Fault, NotWritten, Writer};

/// The registry on one SQLite file. See the crate's head.
pub struct SqliteRegistry {
    pub(crate) writer: Writer,
    pub(crate) readers: Arc<Readers>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) handed_over: bool,
    notes: Notes,
    patience: Duration,
}

/// What the writer's thread shares with everyone else.
pub(crate) struct Shared {
    pub(crate) lookup: Lookup,
    pub(crate) stats: Stats,
    pub(crate) wake: Notify,
}

/// What the registry has done, for metrics.
#[derive(Default)]
pub struct Stats {
    /// Changes waiting for the writer.
    pub queued: AtomicU64,
    /// Changes refused because too many waited.
    pub refused: AtomicU64,
    /// Transactions committed.
    pub commits: AtomicU64,
    /// Changes in them.
    pub changes: AtomicU64,
    /// Changes run again because other transactions were in their way.
    pub retried: AtomicU64,
    /// Transactions that failed.
    pub errors: AtomicU64,
    /// Audit notes dropped because too many waited.
    pub notes_dropped: AtomicU64,
}

/// Why the registry cannot be opened: what happened and what to do.
#[derive(Debug)]
pub struct OpenError {
    /// Which file, or which database on which server.
    pub path: PathBuf,
    /// What happened.
    pub what: String,
    /// What to do.
    pub next: &'static str,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the registry {}: {}", self.path.display(), self.what)
    }
}

impl std::error::Error for OpenError {}

/// SQLite before this can corrupt a write-ahead log that several connections use (sqlite.org/wal.html#walresetbug).
const OLDEST_SQLITE: i32 = 3_051_003;

impl SqliteRegistry {
    /// Opens the database, making or migrating it. `master` seals; `before` is the key before it, while a rotation is not at its
    /// end. `patience` bounds every wait for the database.
    pub fn open(
        config: &Config,
        data_dir: &Path,
        master: &MasterKey,
        before: Option<&MasterKey>,
        patience: Duration,
    ) -> Result<Arc<Self>, OpenError> {
        let path = data_dir.join(&config.path);
        let error = |what: String, next| OpenError { path: path.clone(), what, next };
        if rusqlite::version_number() < OLDEST_SQLITE {
            let what = format!("SQLite {} can corrupt its log", rusqlite::version());
            return Err(error(what, "build claimd with the bundled SQLite"));
        }
        let check = "check that the folder exists, belongs to this user, and has room";
        create(&path).map_err(|io| error(format!("cannot be made: {io}"), check))?;
        let mut connection = Connection::open(&path).map_err(|sql| error(format!("cannot be opened: {sql}"), check))?;
        configure(&connection).map_err(|sql| error(format!("cannot be used: {sql}"), check))?;
        schema::migrate(&mut connection).map_err(|fault| match fault {
            SchemaError::Not(standing) => error(standing.to_string(), standing.next()),
            SchemaError::Database(sql) => error(format!("cannot be migrated: {sql}"), check),
        })?;
        let sealer = Sealer::new(master, before);
        let (keyring, handed_over) = keys::keyring(&connection, &sealer, master).map_err(|fault| match fault {
            RootFault::OtherMaster => error(
                "was sealed under another master key".to_owned(),
                "give the file of its own key; one from before `claimd keys rotate master` opens it no more",
            ),
            RootFault::NoKey => error("cannot be sealed".to_owned(), "check /dev/urandom"),
            RootFault::Database(sql) => error(format!("cannot be used: {sql}"), check),
        })?;
        let sealer = match before {
            Some(before) if !handed_over => Sealer::new(before, None),
            _ => sealer,
        };
        let readers = Readers::open(path.clone(), config.readers, patience)
            .map_err(|sql| error(format!("cannot be read: {sql}"), check))?;
        let shared = Arc::new(Shared {
            lookup: Lookup::new(config.lookup_entries, config.lookup_age),
            stats: Stats::default(),
            wake: Notify::new(),
        });
        let writer = Writer::start(connection, Arc::clone(&shared), config.queue.max(1), config.group.max(1))
            .map_err(|io| error(format!("has no writer: {io}"), "raise the limit of threads"))?;
        Ok(Arc::new(Self {
            writer,
            readers: Arc::new(readers),
            shared,
            sealer: Arc::new(sealer),
            keyring: Arc::new(keyring),
            handed_over,
            notes: Notes::default(),
            patience,
        }))
    }

    /// What it has done so far.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Commits what is queued, sums included, and lets go of the file. Later changes are refused as unavailable.
    pub fn close(&self) {
        for sum in self.notes.take_sums() {
            drop(self.writer.submit(move |connection, _| Ok(crate::notes::insert(connection, &sum.note, sum.count)?)));
        }
        self.writer.close();
    }

    /// Makes a change and waits for its commit.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection, &mut After) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, NotWritten> {
        let answer = self.writer.submit(change);
        match tokio::time::timeout(self.patience, answer).await {
            Ok(Ok(answer)) => answer,
            // Refused by the queue: the change was never started.
            Ok(Err(_)) => Err(NotWritten::Unavailable),
            // It may still be committed.
            Err(_) => Err(NotWritten::Unknown),
        }
    }

    async fn load_credential(&self, digest: CredentialDigest) -> Result<Option<CredentialHolder>, Unavailable> {
        let before = self.shared.lookup.before();
        let found = self
            .readers
            .read(move |connection| {
                let sql = format!(
                    "SELECT {}, c.password_digest FROM {} JOIN credential c ON c.device = d.id WHERE c.digest = ?1",
                    rows::DEVICE,
                    rows::DEVICE_FROM
                );
                connection
                    .prepare_cached(&sql)?
                    .query_row([digest.as_bytes()], |row| {
                        Ok(CredentialHolder {
                            device: Arc::new(rows::device(row)?),
                            password: rows::digest(row, rows::DEVICE_COLUMNS)?,
                        })
                    })
                    .optional()
            })
            .await?;
        self.shared.lookup.put_credential(before, digest, found.as_ref());
        Ok(found)
    }

    async fn load_device(&self, id: DeviceId) -> Result<Option<Arc<Device>>, Unavailable> {
        let before = self.shared.lookup.before();
        let found = self.readers.read(move |connection| device_by_id(connection, id)).await?.map(Arc::new);
        self.shared.lookup.put_device(before, id, found.clone());
        Ok(found)
    }

    async fn load_gateways(&self, id: DeviceId) -> Result<Arc<[DeviceId]>, Unavailable> {
        let before = self.shared.lookup.before();
        let found: Vec<DeviceId> = self
            .readers
            .read(move |connection| {
                let mut statement =
                    connection.prepare_cached("SELECT gateway FROM relation WHERE device = ?1 LIMIT 16")?;
                let rows =
                    statement.query_map([id.as_bytes()], |row| Ok(DeviceId::from_bytes(rows::bytes(row, 0)?)))?;
                rows.collect()
            })
            .await?;
        let found: Arc<[DeviceId]> = found.into();
        self.shared.lookup.put_gateways(before, id, Arc::clone(&found));
        Ok(found)
    }

    async fn load_subject(&self, tenant: TenantId, name: DeviceName) -> Result<Option<ClaimSubject>, Unavailable> {
        self.readers
            .read(move |connection| {
                let sql = format!(
                    "SELECT {}, d.proof_digest, d.code_digest, d.code_from, d.code_until, d.code_any_case FROM {} \
                     WHERE d.tenant = ?1 AND d.name = ?2",
                    rows::DEVICE,
                    rows::DEVICE_FROM
                );
                connection
                    .prepare_cached(&sql)?
                    .query_row(params![tenant.as_bytes(), name.as_str()], |row| {
                        let code = rows::digest(row, rows::DEVICE_COLUMNS + 1)?;
                        let from = rows::optional_instant(row, rows::DEVICE_COLUMNS + 2)?;
                        let until = rows::optional_instant(row, rows::DEVICE_COLUMNS + 3)?;
                        let any_case = row.get::<_, Option<bool>>(rows::DEVICE_COLUMNS + 4)?.unwrap_or(false);
                        Ok(ClaimSubject {
                            device: rows::device(row)?,
                            proof: rows::digest(row, rows::DEVICE_COLUMNS)?,
                            stored_code: code.map(|digest| StoredCode { digest, from, until, any_case }),
                        })
                    })
                    .optional()
            })
            .await
    }
}

pub(crate) fn device_by_id(connection: &Connection, id: DeviceId) -> rusqlite::Result<Option<Device>> {
    let sql = format!("SELECT {} FROM {} WHERE d.id = ?1", rows::DEVICE, rows::DEVICE_FROM);
    connection.prepare_cached(&sql)?.query_row([id.as_bytes()], rows::device).optional()
}

/// The file and its folder belong to this user alone.
pub(crate) fn create(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    // SQLite gives its log and index files the mode of the database.
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    Ok(())
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    // FULL: a commit is on disk before anybody is told (NORMAL may lose one on power loss).
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
    connection.query_row("PRAGMA wal_autocheckpoint = 4000", [], |_| Ok(()))?;
    // What is spent, deleted or sealed anew leaves no copy in its page; FAST: where that costs no writing of other pages.
    connection.query_row("PRAGMA secure_delete = FAST", [], |_| Ok(()))?;
    connection.set_prepared_statement_cache_capacity(256);
    Ok(())
}

impl DeviceRegistry for SqliteRegistry {
    fn find_credential(
        &self,
        digest: CredentialDigest,
    ) -> PortFuture<'_, Result<Option<CredentialHolder>, Unavailable>> {
        match self.shared.lookup.credential(&digest) {
            Some(found) => PortFuture::ready(Ok(found)),
            None => PortFuture::later(self.load_credential(digest)),
        }
    }

    fn device(&self, device: DeviceId) -> PortFuture<'_, Result<Option<Arc<Device>>, Unavailable>> {
        match self.shared.lookup.device(device) {
            Some(found) => PortFuture::ready(Ok(found)),
            None => PortFuture::later(self.load_device(device)),
        }
    }

    fn device_now(&self, device: DeviceId) -> PortFuture<'_, Result<Option<Arc<Device>>, Unavailable>> {
        self.device(device)
    }

    fn find(&self, tenant: TenantId, name: &DeviceName) -> PortFuture<'_, Result<Option<ClaimSubject>, Unavailable>> {
        PortFuture::later(self.load_subject(tenant, name.clone()))
    }

    fn name_of(
        &self,
        tenant: TenantId,
        dev_eui: Eui64,
        join_eui: Option<Eui64>,
    ) -> PortFuture<'_, Result<Option<DeviceName>, Unavailable>> {
        PortFuture::later(self.readers.read(move |connection| {
            let join_eui = join_eui.as_ref().map(|eui| eui.as_bytes().as_slice());
            connection
                .prepare_cached(
                    "SELECT name FROM device WHERE dev_eui = ?1 AND tenant = ?2 AND (?3 IS NULL OR join_eui = ?3)",
                )?
                .query_row(params![dev_eui.as_bytes(), tenant.as_bytes(), join_eui], |row| rows::name(row, 0))
                .optional()
        }))
    }

    fn assign_owner<'a>(&'a self, request: AssignOwner<'a>) -> PortFuture<'a, Result<Assignment, WriteError>> {
        PortFuture::later(self.assign(request))
    }

    fn release_owner<'a>(&'a self, request: ReleaseOwner<'a>) -> PortFuture<'a, Result<Release, WriteError>> {
        PortFuture::later(self.release(request))
    }

    fn void_pending<'a>(&'a self, request: VoidPending<'a>) -> PortFuture<'a, Result<Option<Timestamp>, WriteError>> {
        PortFuture::later(self.make_void(request))
    }

    fn resolve_children(&self, request: ResolveChildren) -> PortFuture<'_, Result<Vec<Child>, Unavailable>> {
        PortFuture::later(self.children(request))
    }

    fn gateways_of(&self, device: DeviceId) -> PortFuture<'_, Result<Arc<[DeviceId]>, Unavailable>> {
        match self.shared.lookup.gateways(device) {
            Some(found) => PortFuture::ready(Ok(found)),
            None => PortFuture::later(self.load_gateways(device)),
        }
    }

    fn remembered<'a>(&'a self, key: &'a RetryKey) -> PortFuture<'a, Result<Option<Remembered>, Unavailable>> {
        PortFuture::later(self.recall(*key))
    }

    fn remember<'a>(
        &'a self,
        key: &'a RetryKey,
        answer: String,
        now: Timestamp,
    ) -> PortFuture<'a, Result<(), Unavailable>> {
        PortFuture::later(self.keep(*key, answer, now))
    }

    fn note(&self, note: AuditNote) {
        let stats = &self.shared.stats;
        for (note, count) in self.notes.admit(note, &stats.notes_dropped) {
            // Nobody waits for it; a full queue drops it, and says so.
            let receiver = self.writer.submit(move |connection, _| Ok(crate::notes::insert(connection, &note, count)?));
            drop(receiver);
        }
    }

    fn note_charged(&self, note: AuditNote) -> PortFuture<'_, Result<(), Unavailable>> {
        PortFuture::later(async move {
            let insert = move |connection: &Connection, _: &mut After| Ok(crate::notes::insert(connection, &note, 1)?);
            self.write(insert).await.map_err(|_| Unavailable)
        })
    }
}
