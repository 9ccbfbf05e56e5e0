//! Moving a registry: backup, restore, and from SQLite to PostgreSQL. Everything goes through the same rows, whatever keeps
//! them: tables in the order of `tables.rs`, rows in the order of their keys, each with one form as text, so that equal
//! tables have equal hashes in every store and in a backup.
//!
//! Works beside the server and not through it: a source is read at one moment while others write, a target is marked as
//! unfinished until all of it is there, and no server starts on that. Blocking: it is for commands.
//!
//! Pending claims are no part of it, nor is the master key.

mod check;
mod folder;
mod follow;
mod manifest;
mod postgres;
mod restore;
mod sqlite;
mod tables;
#[cfg(test)]
mod tests;
mod value;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{Backend, Config};
use crate::postgres::PostgresConfig;
use crate::{postgres as pg, schema};

pub use check::ChainState;
pub use folder::{Backup, back_up};
pub use follow::{Follow, Pass, undo};
pub use manifest::{Manifest, Note, TableSum};
pub use restore::{Restore, Restored};

use tables::{Column, TABLES, Table};
use value::{Row, Value};

/// Rows of a page.
const PAGE: usize = 1_000;

/// What a store is, told without changing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is none, or it has no tables of ours.
    Nothing,
    /// A registry; `found` below `known` means that steps are pending.
    Schema {
        /// Its version.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// A registry of a newer claimd.
    Newer {
        /// Its version.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// Rows are being moved in, or were until somebody stopped it.
    Unfinished,
    /// Everything has been moved elsewhere.
    Moved,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("is empty"),
            Self::Schema { found, known } if found < known => {
                write!(f, "has schema {found}, this claimd works with {known}")
            }
            Self::Schema { found, .. } => write!(f, "has schema {found}"),
            Self::Newer { found, known } => write!(f, "has schema {found}, this claimd knows up to {known}"),
            Self::Unfinished => f.write_str("holds a copy that is not finished"),
            Self::Moved => f.write_str("was moved to PostgreSQL and is not current any more"),
        }
    }
}

impl Standing {
    /// What a store is whose version is `number`; its kind's newest schema is `known`.
    pub fn of(number: i64, known: i64) -> Self {
        schema::standing(number, known)
    }

    /// What to do when it stops a start.
    pub fn next(&self) -> &'static str {
        match self {
            Self::Nothing => "check which store the settings name",
            Self::Schema { .. } => "run `claimd migrate up`",
            Self::Newer { .. } => "run the newer claimd, or restore the backup made before it",
            Self::Unfinished => "run the `claimd restore` or `claimd migrate store` that began it again",
            Self::Moved => {
                "set `registry.backend = \"postgres\"` and `registry.url`; to go back, and lose what changed there since: \
                 `claimd migrate store --undo`"
            }
        }
    }
}

/// Why moving stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Something is there already, or at work.
    Conflict,
    /// What should be moved is not what it should be, or does not fit.
    Damaged,
    /// The master key is another one.
    OtherMaster,
    /// Cannot be done with this store or this backup.
    Unfit,
    /// A store or the disk could not.
    Unavailable,
    /// Somebody asked for it.
    Stopped,
}

/// Why moving stopped: what happened, and what to do. Never quotes a row.
#[derive(Debug)]
pub struct MoveError {
    /// What kind it is.
    pub trouble: Trouble,
    /// What happened.
    pub what: String,
    /// What to do.
    pub next: &'static str,
}

impl MoveError {
    fn new(trouble: Trouble, what: impl Into<String>, next: &'static str) -> Self {
        Self { trouble, what: what.into(), next }
    }

    fn unavailable(what: impl Into<String>, next: &'static str) -> Self {
        Self::new(Trouble::Unavailable, what, next)
    }

    fn damaged(what: impl Into<String>) -> Self {
        Self::new(Trouble::Damaged, what, "use another backup; keep this one and the store as they are")
    }

    fn odd_value(table: &Table, column: &Column) -> Self {
        Self::damaged(format!("a row of `{}` has something odd in `{}`", table.name, column.name))
    }

    fn of_standing(place: &str, standing: Standing) -> Self {
        Self::new(Trouble::Unfit, format!("the registry {place} {standing}"), standing.next())
    }
}

impl fmt::Display for MoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for MoveError {}

/// Who watches, and may stop it.
pub trait Watch {
    /// `rows` more rows of `table` were dealt with in a step such as `reading`. `false`: stop.
    fn rows(&mut self, step: &'static str, table: &'static str, rows: u64) -> bool;
}

fn seen(watch: &mut dyn Watch, step: &'static str, table: &'static Table, rows: usize) -> Result<(), MoveError> {
    if watch.rows(step, table.name, rows as u64) {
        return Ok(());
    }
    Err(MoveError::new(Trouble::Stopped, "stopped", "run the same command again"))
}

/// Where rows come from.
trait Rows {
    /// The next rows behind a key, in the order of keys; fewer than `most` are the last.
    fn page(&mut self, table: &'static Table, after: Option<&[Value]>, most: usize) -> Result<Vec<Row>, MoveError>;
}

/// A table row by row.
struct Walk<'r> {
    rows: &'r mut dyn Rows,
    table: &'static Table,
    page: std::vec::IntoIter<Row>,
    /// The last key of the page; `None`: from the start.
    after: Option<Vec<Value>>,
    over: bool,
}

impl<'r> Walk<'r> {
    fn start(rows: &'r mut dyn Rows, table: &'static Table, after: Option<Vec<Value>>) -> Self {
        Self { rows, table, page: Vec::new().into_iter(), after, over: false }
    }

    fn next(&mut self) -> Result<Option<Row>, MoveError> {
        if let Some(row) = self.page.next() {
            return Ok(Some(row));
        }
        if self.over {
            return Ok(None);
        }
        let page = self.rows.page(self.table, self.after.as_deref(), PAGE)?;
        self.over = page.len() < PAGE;
        if let Some(last) = page.last() {
            self.after = Some(last[..self.table.key].to_vec());
        }
        self.page = page.into_iter();
        Ok(self.page.next())
    }
}

/// A table by the name that it has in the list.
const fn named(name: &str) -> &'static Table {
    let mut at = 0;
    while at < TABLES.len() {
        if same(TABLES[at].name.as_bytes(), name.as_bytes()) {
            return &TABLES[at];
        }
        at += 1;
    }
    panic!("no table has this name")
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

const AUDIT: &Table = named("audit");
const AUDIT_CHAIN: &Table = named("audit_chain");
const INSTALL_SECRET: &Table = named("install_secret");
const TENANT: &Table = named("tenant");

/// A store that the settings name.
#[derive(Debug)]
pub enum Store {
    /// A file.
    Sqlite(PathBuf),
    /// A database.
    Postgres {
        /// How to reach it.
        config: PostgresConfig,
        /// How long to wait for a connection.
        patience: Duration,
    },
}

impl Store {
    /// The one of a server with these settings.
    pub fn of(config: &Config, data_dir: &Path, patience: Duration) -> Self {
        match config.backend {
            Backend::Sqlite => Self::Sqlite(data_dir.join(&config.path)),
            Backend::Postgres => Self::Postgres { config: config.postgres(), patience },
        }
    }

    /// Its name in messages; no password is in it.
    pub fn place(&self) -> String {
        match self {
            Self::Sqlite(path) => path.display().to_string(),
            Self::Postgres { config, patience } => pg::place(config, *patience),
        }
    }

    /// What it is.
    pub fn standing(&self) -> Result<Standing, MoveError> {
        match self {
            Self::Sqlite(path) => sqlite::standing(path),
            Self::Postgres { config, patience } => postgres::Session::open(config, *patience)?.standing(),
        }
    }

    /// Rows of all its tables, for whoever shows how far something is.
    pub fn count(&self) -> Result<u64, MoveError> {
        let counts = match self {
            Self::Sqlite(path) => sqlite::counts(path)?,
            Self::Postgres { config, patience } => postgres::counts(config, *patience)?,
        };
        Ok(counts.iter().map(|(_, rows)| rows).sum())
    }

    /// `sqlite` or `postgres`, and the newest schema of it.
    pub fn kind(&self) -> (&'static str, i64) {
        match self {
            Self::Sqlite(_) => ("sqlite", schema::KNOWN),
            Self::Postgres { .. } => ("postgres", pg::KNOWN_SCHEMA),
        }
    }

    /// One moment of it, which must be a registry of the schema that this program knows.
    fn rows(&self) -> Result<Box<dyn Rows>, MoveError> {
        match self.standing()? {
            Standing::Schema { found, known } if found == known => {}
            Standing::Nothing => {
                return Err(MoveError::new(
                    Trouble::Unfit,
                    format!("there is no registry at {}", self.place()),
                    Standing::Nothing.next(),
                ));
            }
            other => return Err(MoveError::of_standing(&self.place(), other)),
        }
        Ok(match self {
            Self::Sqlite(path) => Box::new(sqlite::SqliteRows::open(path)?),
            Self::Postgres { config, patience } => Box::new(postgres::Session::open(config, *patience)?.snapshot()?),
        })
    }
}
