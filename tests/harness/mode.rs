//! The two modes of every end-to-end test, and the stores of a test's server.
//!
//! With `E2E_MODE=embedded`, the default, an install keeps all in its own folder: SQLite, and claims in memory with a journal.
//! With `E2E_MODE=shared` its registry is a PostgreSQL database and its claims and wrong tries lie in Redis. Both servers are
//! started when the first test wants one and end with the test binary; each install has a database and a prefix of its own,
//! which it keeps over restarts. `cargo xtask test` runs the suite in both.
//!
//! A test asks for stores by [`Server::start`](super::Server::start) and [`Server::with`](super::Server::with), which take the
//! mode of the run, and sets `claim_cache.*` or `registry.*` itself only to say more than which they are. What cannot be true
//! of shared stores is asked of [`Server::embedded`](super::Server::embedded), and is on the list in `embedded_only.rs`.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use testkit::RedisServer;

use super::PATIENCE;
use super::postgres::server as postgres;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    Embedded,
    Shared,
}

impl Mode {
    pub fn of_the_run() -> Self {
        match std::env::var("E2E_MODE").as_deref() {
            Err(_) | Ok("embedded") => Self::Embedded,
            Ok("shared") => Self::Shared,
            Ok(other) => panic!("E2E_MODE is `{other}`; it must be embedded or shared"),
        }
    }
}

fn redis() -> &'static RedisServer {
    static SERVER: OnceLock<RedisServer> = OnceLock::new();
    SERVER.get_or_init(|| RedisServer::start().for_the_process())
}

/// Where an install keeps its registry and its claims.
pub enum Stores {
    /// In the data folder of its one node.
    Embedded(PathBuf),
    /// The test brings its own.
    OfTheTest,
    Shared {
        database: Database,
        prefix: String,
    },
}

/// The registry as a test saved it.
pub enum Saved {
    File(Vec<u8>),
    Database(Database),
}

/// An empty database of the run's server; another test gets it after this one, empty again.
pub struct Database(String);

static EMPTY: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl Database {
    fn new() -> Self {
        let free = EMPTY.lock().expect("no panic").pop();
        Self(free.unwrap_or_else(|| postgres().database()))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A test that has failed has said why; nobody gets what it leaves.
        if !std::thread::panicking() {
            postgres().empty(&self.0);
            EMPTY.lock().expect("no panic").push(std::mem::take(&mut self.0));
        }
    }
}

impl Stores {
    pub fn new(mode: Mode, data_dir: PathBuf) -> Self {
        static PREFIXES: AtomicU32 = AtomicU32::new(0);
        tally(mode);
        match mode {
            Mode::Embedded => Self::Embedded(data_dir),
            Mode::Shared => Self::Shared {
                database: Database::new(),
                prefix: format!("test{}", PREFIXES.fetch_add(1, Ordering::Relaxed)),
            },
        }
    }

    /// What a node is told.
    pub fn settings(&self) -> Vec<(String, String)> {
        let Self::Shared { database, prefix } = self else { return Vec::new() };
        [
            ("CLAIMD_REGISTRY__BACKEND", "postgres".to_owned()),
            ("CLAIMD_REGISTRY__URL", postgres().url(&database.0)),
            ("CLAIMD_CLAIM_CACHE__BACKEND", "redis".to_owned()),
            ("CLAIMD_CLAIM_CACHE__REDIS_URL", redis().url()),
            ("CLAIMD_CLAIM_CACHE__REDIS_PREFIX", prefix.clone()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    /// What a query of the registry that both engines understand brings: a line a row, with `|` between its values.
    pub fn ask(&self, sql: &str) -> Vec<String> {
        let Self::Shared { database, .. } = self else {
            let database = self.file();
            let mut statement = database.prepare(sql).expect("SQL");
            let columns = statement.column_count();
            let line = |row: &rusqlite::Row<'_>| (0..columns).map(|n| Ok(text(row.get_ref(n)?))).collect();
            let rows = statement.query_map([], line).expect("rows");
            return rows.map(|row: rusqlite::Result<Vec<String>>| row.expect("a row").join("|")).collect();
        };
        postgres().say(&database.0, sql).lines().map(str::to_owned).collect()
    }

    /// Changes the registry behind its back.
    pub fn change(&self, sql: &str) {
        match self {
            Self::Shared { database, .. } => drop(postgres().say(&database.0, sql)),
            _ => self.file().execute_batch(sql).expect("changed"),
        }
    }

    /// Gives a table another name, and nothing that refers to it.
    pub fn rename_table(&self, from: &str, to: &str) {
        if let Self::Embedded(_) = self {
            // The old way of renaming leaves references by name alone, so that it can be undone.
            let keep = "PRAGMA legacy_alter_table = ON; PRAGMA foreign_keys = OFF;";
            return self.change(&format!("{keep} ALTER TABLE {from} RENAME TO {to}"));
        }
        self.change(&format!("ALTER TABLE {from} RENAME TO {to}"));
    }

    /// Changes the audit log, which defends itself.
    pub fn tamper(&self, sql: &str) {
        let guards = match self {
            Self::Shared { .. } => "ALTER TABLE audit DISABLE TRIGGER USER",
            _ => "DROP TRIGGER audit_no_update; DROP TRIGGER audit_no_delete",
        };
        self.change(&format!("{guards}; {sql}"));
    }

    /// The whole registry, of an install that does not run.
    pub fn save(&self) -> Saved {
        match self {
            Self::Shared { database, .. } => Saved::Database(Database(postgres().copy(&database.0))),
            _ => Saved::File(std::fs::read(self.path()).expect("the database")),
        }
    }

    /// Makes the registry what it was.
    pub fn put_back(&self, saved: &Saved) {
        match (self, saved) {
            (Self::Embedded(_), Saved::File(bytes)) => std::fs::write(self.path(), bytes).expect("put back"),
            (Self::Shared { database, .. }, Saved::Database(saved)) => {
                postgres().drop_database(&database.0);
                postgres().copy_to(&saved.0, &database.0);
            }
            _ => panic!("saved by another mode"),
        }
    }

    /// All that lies in the shared stores, as text: values of bytes are hexadecimal in the registry and as they are in Redis.
    pub fn contents(&self) -> Vec<u8> {
        let Self::Shared { database, prefix } = self else { return Vec::new() };
        let rows = "SET xmlbinary = hex; SELECT database_to_xml(false, false, '')";
        let mut contents = postgres().say(&database.0, rows).into_bytes();
        let keys = r"local all = '' for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
            all = all .. key .. redis.call('DUMP', key) end return all";
        contents.extend(redis().say(&["EVAL", keys, "0", &format!("{{{prefix}}}*")]).into_bytes());
        contents
    }

    /// In how many places of the registry at rest one of these values begins, which are bytes as [`Stores::ask`] shows them.
    pub fn places_with(&self, values: &[String]) -> usize {
        let text = match self {
            Self::Shared { .. } => self.contents().to_ascii_lowercase(),
            _ => hex(&std::fs::read(self.path()).expect("the database")).into_bytes(),
        };
        let starts: HashSet<&[u8]> = values.iter().map(|value| &value.as_bytes()[2..][..32]).collect();
        text.windows(32).filter(|window| starts.contains(window)).count()
    }

    fn path(&self) -> PathBuf {
        let Self::Embedded(folder) = self else { panic!("these stores are no file, or not ours") };
        folder.join("registry.db")
    }

    fn file(&self) -> rusqlite::Connection {
        let database = rusqlite::Connection::open(self.path()).expect("the database");
        database.busy_timeout(PATIENCE).expect("a time-out");
        database
    }
}

fn text(value: rusqlite::types::ValueRef<'_>) -> String {
    use rusqlite::types::ValueRef;
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(bytes) => format!("\\x{}", hex(bytes)),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Says to `cargo xtask test` which stores an install is on.
fn tally(mode: Mode) {
    let Some(path) = std::env::var_os("E2E_TALLY") else { return };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(Path::new(&path));
    writeln!(file.expect("the tally"), "{mode:?}").expect("written");
}
