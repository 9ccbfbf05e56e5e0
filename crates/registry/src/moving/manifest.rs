//! What a backup says of itself.

use serde::{Deserialize, Serialize};

use super::check::ChainState;

/// The form of backups; a newer one is refused.
pub(super) const LAYOUT: u32 = 1;
pub(super) const FORMAT: &str = "claimd-backup";

/// `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always `claimd-backup`.
    pub format: String,
    /// The form of the files.
    pub layout: u32,
    /// The claimd that made it.
    pub claimd: String,
    /// When its moment was; RFC 3339.
    pub created: String,
    /// What kept the registry: `sqlite` or `postgres`.
    pub store: String,
    /// The schema it had there.
    pub schema: i64,
    /// The tables, each a file `NAME.jsonl`.
    pub tables: Vec<TableSum>,
    /// The audit log's chains.
    pub audit: ChainState,
}

impl Manifest {
    /// Rows of all tables.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// Rows of one table.
    pub fn rows_of(&self, table: &str) -> u64 {
        self.tables.iter().filter(|sum| sum.name == table).map(|sum| sum.rows).sum()
    }
}

/// What the command knows of itself and the moment.
#[derive(Clone, Debug)]
pub struct Note {
    /// Version of claimd.
    pub claimd: String,
    /// RFC 3339.
    pub created: String,
}

/// A table's rows, and the hash of its lines: equal tables have equal hashes, wherever they are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSum {
    /// The table.
    pub name: String,
    /// What the values of a line are, in their order.
    pub columns: Vec<String>,
    /// Lines.
    pub rows: u64,
    /// Bytes of all lines.
    pub bytes: u64,
    /// Of all lines; 64 hex digits.
    pub sha256: String,
}
