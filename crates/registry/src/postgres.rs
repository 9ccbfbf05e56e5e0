//! The registry on PostgreSQL, for more than one node: the same ports, the same contract, a pool in place of one writer.
//!
//! File by file this module is the twin of the SQLite one above it: `postgres/claims.rs` is to `claims.rs` what
//! `postgres/listings/devices.rs` is to `listings/devices.rs`. What is no SQL is shared and stands there.
//!
//! How a verb is written here, with the twin beside it:
//!
//! ```text
//! // The port. What the work needs goes along as one tuple, since a change may have to be run again.
//! fn rename_tenant(&self, id: TenantId, title: String, by: By) -> Answer<'_, Tenant> {
//!     self.change((id, title, by), |db, _, (id, title, by)| Box::pin(tenants::rename(db, *id, title, *by)))
//! }
//!
//! fn tenant(&self, id: TenantId) -> Answer<'_, Tenant> {
//!     self.look_for("tenant", id, |db, id| Box::pin(tenants::one(db, *id)))
//! }
//!
//! // The work: an async function over [`Db`], the same in a read and in a change. SQL is prepared once a connection.
//! pub(super) async fn rename(db: &Db, id: TenantId, title: &str, by: By) -> Result<Tenant, Fault> {
//!     let sql = "UPDATE tenant SET title = $2, version = version + 1 WHERE id = $1";
//!     db.run(sql, &[&id.uuid(), &title]).await.map_err(taken("title"))?;
//!     audit(db, id, "tenant.renamed", title, by).await?;
//!     Ok(found(one(db, id).await?, "tenant")?)
//! }
//!
//! pub(super) async fn one(db: &Db, id: TenantId) -> Result<Option<Tenant>, Fault> {
//!     let row = db.row("SELECT id, title, created_at, version FROM tenant WHERE id = $1", &[&id.uuid()]).await?;
//!     row.as_ref().map(read).transpose()
//! }
//!
//! fn read(row: &Row) -> Result<Tenant, Fault> {
//!     Ok(Tenant { id: TenantId::from_bytes(rows::id(row, 0)?), title: rows::get(row, 1)?, … })
//! }
//! ```
//!
//! The batteries run with `cargo test -p registry --test postgres`: `tests/postgres/main.rs` has a module for each port, and
//! `server().fresh()` is the registry for a rule.
//!
//! - A change is one SERIALIZABLE transaction: what it reads still holds when it commits, as behind SQLite's one writer, or
//!   it is run again. So it may be run more than once and must leave nothing behind but rows and its [`After`].
//! - A refusal ([`Fault::Refused`]) undoes all of it. After an error of the database nothing more of it can succeed.
//! - Parameters have the column's type: `&id.uuid()`, `&digest.as_bytes().as_slice()`, `&at.as_millis()`, `i64` for whole
//!   numbers, `Option` of these for NULL. `sum(…)` of BIGINT is NUMERIC: write `sum(…)::bigint`.
//! - `LIMIT -1 OFFSET n` is `OFFSET n`; `LIKE` is `ILIKE`; `coalesce(max(a, b))` is `greatest(a, b)`, which passes NULLs over.

mod alone;
mod answers;
mod audit;
mod children;
mod claims;
mod clock;
mod config;
mod db;
mod directory;
mod examine;
mod horizon;
mod imports;
mod keys;
mod listings;
mod notes;
mod outbox;
mod oversight;
mod reads;
mod roles;
mod rows;
mod schema;
mod stale;
mod tls;
mod waking;
mod write;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use claim::{Keyring, MasterKey, Timestamp, Unavailable};
use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio::sync::{Notify, RwLock};
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres_rustls::MakeRustlsConnect;
use uuid::Uuid;

use crate::keys::RootFault;
use crate::lookup::Lookup;
use crate::sealing::Sealer;
use crate::sqlite::{OpenError, Shared, Stats};
use crate::writer::After;

pub(crate) use alone::{connect as connect_alone, place};
pub use config::PostgresConfig;
use db::{Db, Fault};
pub use examine::PostgresFacts;
pub(crate) use keys::unopened;
use schema::SchemaError;
pub(crate) use schema::{KNOWN as KNOWN_SCHEMA, VERSION_TABLE, whole as whole_schema};
use waking::Waking;

/// The registry in one PostgreSQL database. See the module's head.
pub struct PostgresRegistry {
    core: Arc<Core>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) sealer: Arc<Sealer>,
    handed_over: bool,
    notes: notes::Queue,
    _waking: Waking,
    /// Tells what this process has under way from what others have.
    node: Uuid,
}

/// What reads and changes need, also when their caller is gone.
struct Core {
    pool: Pool,
    shared: Arc<Shared>,
    patience: Duration,
    /// Held shared by a first try of a SERIALIZABLE change, and alone by a later one.
    turns: RwLock<()>,
    /// Something that other nodes must hear of was committed here.
    told: Notify,
    /// What other nodes committed.
    seen: stale::Seen,
}

/// How long a start waits for the schema: another node may be migrating it, and a large one takes its time.
const PREPARING: Duration = Duration::from_secs(600);

const CHECK: &str = "check the address, the user, the password, with TLS `sslmode` and `registry.tls_ca_file`, and that the \
     server takes connections";

impl PostgresRegistry {
    /// Connects, making or migrating the schema. `master` seals; `before` is the key before it, while a rotation is not at
    /// its end. `patience` bounds every wait for the database.
    pub async fn open(
        config: &PostgresConfig,
        master: &MasterKey,
        before: Option<&MasterKey>,
        patience: Duration,
    ) -> Result<Arc<Self>, OpenError> {
        let server = Server::of(config, patience)?;
        let place = server.place();
        let error = |what: String, next| OpenError { path: place.clone(), what, next };
        let pool = pool(server.clone(), config.connections.max(1), patience)
            .map_err(|fault| error(format!("has no pool: {fault}"), CHECK))?;
        let core = Arc::new(Core {
            pool,
            shared: Arc::new(Shared {
                lookup: Lookup::new(config.lookup_entries, config.lookup_age),
                stats: Stats::default(),
                wake: Notify::new(),
            }),
            patience,
            turns: RwLock::new(()),
            told: Notify::new(),
            seen: stale::Seen::default(),
        });
        let sealer = Sealer::new(master, before);
        let late = |_| error("does not answer".to_owned(), CHECK);
        let db = tokio::time::timeout(patience, reach(&core)).await.map_err(late)?;
        let db = db.map_err(|(what, next)| error(what, next))?;
        let prepared = tokio::time::timeout(PREPARING, prepare(db, &sealer)).await;
        let late = |_| error("was not brought up to date in ten minutes".to_owned(), "see what holds locks in it");
        let (keyring, handed_over) = prepared.map_err(late)?.map_err(|(what, next)| error(what, next))?;
        let sealer = match before {
            Some(before) if !handed_over => Sealer::new(before, None),
            _ => sealer,
        };
        let (notes, waking) = (notes::Queue::start(&core), Waking::start(&core, server));
        Ok(Arc::new(Self {
            core,
            keyring: Arc::new(keyring),
            sealer: Arc::new(sealer),
            handed_over,
            notes,
            _waking: waking,
            node: Uuid::new_v4(),
        }))
    }

    /// Writes the notes that still wait, sums included, chains what is left of the audit log, and closes the connections.
    /// Later changes are refused as unavailable.
    pub async fn close(&self) {
        self.notes.close().await;
        if self.seal_the_rest().await.is_err() {
            tracing::error!(
                "the last rows of the audit log could not be chained; another node or the next start does it"
            );
        }
        self.core.pool.close();
    }

    /// How far the database's clock is ahead of `now`, milliseconds: half a round trip is taken off, and the best of several.
    pub async fn clock_ahead(&self, now: &(dyn Fn() -> Timestamp + Send + Sync)) -> Result<i64, Unavailable> {
        self.core.clock_ahead(now).await.map_err(|fault| {
            tracing::error!(%fault, "the database's clock cannot be read");
            Unavailable
        })
    }

    /// Whether its schema has everything that this claimd needs; a newer one may have more.
    pub async fn schema_fits(&self) -> Result<bool, Unavailable> {
        self.read((), |db, ()| Box::pin(schema::fits(db))).await
    }

    /// What it has done so far.
    pub fn stats(&self) -> &Stats {
        &self.core.shared.stats
    }
}

fn cannot(what: &'static str) -> impl Fn(Fault) -> (String, &'static str) {
    move |fault| (format!("cannot be {what}: {fault}"), CHECK)
}

/// Connects, and checks the server.
async fn reach(core: &Core) -> Result<Db, (String, &'static str)> {
    let db = core.borrow().await.map_err(cannot("reached"))?;
    let row = db
        .one("SELECT current_setting('synchronous_commit', true), current_setting('fsync', true)", &[])
        .await
        .map_err(cannot("asked"))?;
    for (column, name) in [(0, "synchronous_commit"), (1, "fsync")] {
        if rows::get::<Option<String>>(&row, column).map_err(cannot("asked"))?.as_deref() == Some("off") {
            return Err((format!("has {name} off: a confirmed owner could be lost"), "switch it on"));
        }
    }
    Ok(db)
}

/// Brings the schema up to date, and opens the keyring.
async fn prepare(db: Db, sealer: &Sealer) -> Result<(Keyring, bool), (String, &'static str)> {
    schema::migrate(&db).await.map_err(|fault| match fault {
        SchemaError::Not(standing) => (standing.to_string(), standing.next()),
        SchemaError::Database(fault) => (format!("cannot be migrated: {fault}"), CHECK),
    })?;
    outbox::adopt(&db).await.map_err(cannot("used"))?;
    stale::adopt(&db).await.map_err(cannot("used"))?;
    let keyring = keys::keyring(&db, sealer).await.map_err(|fault| match fault {
        keys::KeyringFault::Root(RootFault::OtherMaster) => (
            "was sealed under another master key".to_owned(),
            "give the file of its own key; one from before `claimd keys rotate master` opens it no more",
        ),
        keys::KeyringFault::Root(_) => ("cannot be sealed".to_owned(), "check /dev/urandom"),
        keys::KeyringFault::Database(fault) => (format!("cannot be used: {fault}"), CHECK),
    })?;
    db.give_back();
    Ok(keyring)
}

/// How the database is reached.
#[derive(Clone)]
struct Server {
    config: tokio_postgres::Config,
    tls: MakeRustlsConnect,
}

impl Server {
    fn of(config: &PostgresConfig, patience: Duration) -> Result<Self, OpenError> {
        let error = |(what, next)| OpenError { path: PathBuf::from("postgresql"), what, next };
        let (mode, url) = tls::Mode::of(config.url.expose(), !config.tls_ca_file.is_empty()).map_err(error)?;
        // The parser's own words may hold the password.
        let next = "write `postgresql://user@host:5432/database`; the password may be in it";
        let mut server =
            tokio_postgres::Config::from_str(&url).map_err(|_| error(("is not an address".to_owned(), next)))?;
        server.connect_timeout(patience).tcp_user_timeout(patience);
        // The system takes whole seconds, and none is an error.
        let interval = patience.max(Duration::from_secs(1));
        server.keepalives_idle(Duration::from_secs(30)).keepalives_interval(interval).keepalives_retries(3);
        server.target_session_attrs(TargetSessionAttrs::ReadWrite).application_name("claimd");
        let tls = tls::connector(&mut server, mode, config).map_err(error)?;
        Ok(Self { config: server, tls })
    }

    /// Its name in messages: hosts and database, never the password.
    fn place(&self) -> PathBuf {
        use tokio_postgres::config::Host;
        let host = |host: &Host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        };
        let hosts: Vec<String> = self.config.get_hosts().iter().map(host).collect();
        PathBuf::from(format!("postgresql {}/{}", hosts.join(","), self.config.get_dbname().unwrap_or_default()))
    }
}

fn pool(server: Server, connections: usize, patience: Duration) -> Result<Pool, deadpool_postgres::BuildError> {
    let manager =
        Manager::from_config(server.config, server.tls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
    let ms = patience.as_millis();
    let bounds = format!("SET statement_timeout = {ms}; SET idle_in_transaction_session_timeout = {ms}");
    Pool::builder(manager)
        .max_size(connections)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(patience))
        .create_timeout(Some(patience))
        .post_create(Hook::async_fn(move |client, _| {
            let bounds = bounds.clone();
            Box::pin(async move { client.batch_execute(&bounds).await.map_err(HookError::Backend) })
        }))
        .build()
}
