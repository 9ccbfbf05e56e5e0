//! Looking at the registry's store without using it: nothing is made, migrated or changed. For an operator's check-up, before
//! the first start or beside a server that runs.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::config::Config;
use crate::schema;

pub use crate::postgres::PostgresFacts;

/// An SQLite registry as it lies there.
#[derive(Debug)]
pub struct SqliteFacts {
    /// The database file.
    pub bytes: u64,
    /// Its write-ahead log; large when checkpoints do not come through.
    pub log_bytes: u64,
    /// Its schema.
    pub schema: i64,
    /// The newest schema that this program knows.
    pub known: i64,
}

/// What is known of an SQLite registry; `None` before its first start. An error when it is there and cannot be written.
///
/// Begins a change and takes it back, for which it waits as long as a server beside it writes, five seconds at the most.
pub fn sqlite(config: &Config, data_dir: &Path) -> Result<Option<SqliteFacts>, String> {
    let path = data_dir.join(&config.path);
    let bytes = match std::fs::metadata(&path) {
        Ok(meta) => meta.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot be looked at: {error}")),
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let look = || -> rusqlite::Result<i64> {
        let connection = Connection::open_with_flags(&path, flags)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK")?;
        connection.query_row("PRAGMA user_version", [], |row| row.get(0))
    };
    let schema = look().map_err(|error| format!("cannot be written: {error}"))?;
    let mut log = path.into_os_string();
    log.push("-wal");
    let log_bytes = std::fs::metadata(log).map_or(0, |meta| meta.len());
    Ok(Some(SqliteFacts { bytes, log_bytes, schema, known: schema::KNOWN }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_makes_nothing_and_finds_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::default();
        assert!(sqlite(&config, folder.path()).unwrap().is_none());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let path = folder.path().join(&config.path);
        let mut connection = Connection::open(&path).unwrap();
        schema::migrate(&mut connection).unwrap();
        let facts = sqlite(&config, folder.path()).unwrap().unwrap();
        assert!(facts.bytes > 0);
        assert_eq!(facts.schema, facts.known);
        std::fs::write(&path, "no database").unwrap();
        assert!(sqlite(&config, folder.path()).unwrap_err().starts_with("cannot be written"));
    }
}
