//! An SQLite file as a source of rows, at one moment whatever is written meanwhile, and as a target that nobody else uses.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::tables::{Kind, TABLES, Table};
use super::value::{Row, Value};
use super::{MoveError, Rows, Standing};
use crate::schema::{self, KNOWN};
use crate::sealing::Sealer;

const CHECK: &str = "check that the folder belongs to this user and has room";

fn broken(path: &Path, error: &rusqlite::Error) -> MoveError {
    MoveError::unavailable(format!("the registry {}: {error}", path.display()), CHECK)
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Whole(whole) => ValueRef::Integer(*whole),
            Self::Flag(flag) => ValueRef::Integer(i64::from(*flag)),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Id(id) => ValueRef::Blob(id),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn value(from: ValueRef<'_>, kind: Kind) -> Option<Value> {
    Some(match (from, kind) {
        (ValueRef::Null, _) => Value::Null,
        (ValueRef::Integer(whole), Kind::Whole) => Value::Whole(whole),
        (ValueRef::Integer(flag @ 0..=1), Kind::Flag) => Value::Flag(flag == 1),
        (ValueRef::Text(text), Kind::Text) => Value::Text(std::str::from_utf8(text).ok()?.to_owned()),
        (ValueRef::Blob(bytes), Kind::Id) => Value::Id(bytes.try_into().ok()?),
        (ValueRef::Blob(bytes), Kind::Bytes) => Value::Bytes(bytes.to_owned()),
        _ => return None,
    })
}

/// What the file is, without making or changing it.
pub(crate) fn standing(path: &Path) -> Result<Standing, MoveError> {
    if !path.exists() {
        return Ok(Standing::Nothing);
    }
    let read = || -> rusqlite::Result<i64> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.query_row("PRAGMA user_version", [], |row| row.get(0))
    };
    Ok(schema::standing(read().map_err(|error| broken(path, &error))?, KNOWN))
}

/// Rows as they were when it was opened.
pub(crate) struct SqliteRows {
    connection: Connection,
    path: PathBuf,
}

impl SqliteRows {
    /// A moment of a database that may be in use. It holds the log's checkpoint back until it is dropped.
    pub(crate) fn open(path: &Path) -> Result<Self, MoveError> {
        let open = || -> rusqlite::Result<Connection> {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(Duration::from_secs(5))?;
            // The moment is that of the first read.
            connection.execute_batch("BEGIN")?;
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
            Ok(connection)
        };
        Ok(Self { connection: open().map_err(|error| broken(path, &error))?, path: path.to_owned() })
    }
}

impl Rows for SqliteRows {
    fn page(&mut self, table: &'static Table, after: Option<&[Value]>, most: usize) -> Result<Vec<Row>, MoveError> {
        page(&self.connection, &self.path, table, after, most)
    }
}

fn page(
    connection: &Connection,
    path: &Path,
    table: &'static Table,
    after: Option<&[Value]>,
    most: usize,
) -> Result<Vec<Row>, MoveError> {
    let names = |columns: &'static [super::tables::Column]| -> String {
        columns.iter().map(|column| table.sqlite_name(column)).collect::<Vec<_>>().join(", ")
    };
    let (all, keys) = (names(table.columns), names(table.key_columns()));
    let condition = match after {
        None => String::new(),
        Some(key) => format!("WHERE ({keys}) > ({})", vec!["?"; key.len()].join(", ")),
    };
    let sql = format!("SELECT {all} FROM {} {condition} ORDER BY {keys} LIMIT {most}", table.name);
    let read = || -> rusqlite::Result<Result<Vec<Row>, MoveError>> {
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(after.unwrap_or_default()))?;
        let mut page = Vec::new();
        while let Some(row) = rows.next()? {
            let mut values = Vec::with_capacity(table.columns.len());
            for (position, column) in table.columns.iter().enumerate() {
                match value(row.get_ref(position)?, column.kind) {
                    Some(value) => values.push(value),
                    None => return Ok(Err(MoveError::odd_value(table, column))),
                }
            }
            page.push(values);
        }
        Ok(Ok(page))
    };
    read().map_err(|error| broken(path, &error))?
}

/// A database that is being filled. Nobody else has it: whoever made it holds its folder.
pub(crate) struct SqliteTarget {
    connection: Connection,
    path: PathBuf,
}

impl SqliteTarget {
    /// An empty schema that is marked as unfinished, in the place of whatever the file was.
    pub(crate) fn make(path: &Path) -> Result<Self, MoveError> {
        for ending in ["", "-wal", "-shm"] {
            let mut file = path.as_os_str().to_owned();
            file.push(ending);
            match std::fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(MoveError::unavailable(format!("{}: {error}", Path::new(&file).display()), CHECK));
                }
                _ => {}
            }
        }
        crate::sqlite::create(path)
            .map_err(|error| MoveError::unavailable(format!("{} cannot be made: {error}", path.display()), CHECK))?;
        let make = || -> Result<Connection, schema::SchemaError> {
            let mut connection = Connection::open(path)?;
            connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
            // An unfinished copy need not outlive a power loss; what it is when it is finished is on disk.
            connection.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;")?;
            schema::make(&mut connection, schema::UNFINISHED)?;
            Ok(connection)
        };
        let connection = make().map_err(|fault| match fault {
            schema::SchemaError::Database(error) => broken(path, &error),
            _ => MoveError::unavailable(format!("{} is in use", path.display()), "stop what uses it"),
        })?;
        Ok(Self { connection, path: path.to_owned() })
    }

    pub(crate) fn insert(&mut self, table: &'static Table, rows: &[Row]) -> Result<(), MoveError> {
        let names: Vec<&str> = table.columns.iter().map(|column| table.sqlite_name(column)).collect();
        let places = vec!["?"; names.len()].join(", ");
        let sql = format!("INSERT INTO {} ({}) VALUES ({places})", table.name, names.join(", "));
        let mut write = || -> rusqlite::Result<()> {
            let transaction = self.connection.transaction()?;
            let mut statement = transaction.prepare_cached(&sql)?;
            for row in rows {
                statement.execute(params_from_iter(row))?;
            }
            drop(statement);
            transaction.commit()
        };
        write().map_err(|error| MoveError::damaged(format!("a row of `{}` does not fit: {error}", table.name)))
    }

    /// Sealed values that open under none of the keys.
    pub(crate) fn unopened(&self, sealer: &Sealer) -> Result<u64, MoveError> {
        crate::keys::unopened(&self.connection, sealer).map_err(|error| broken(&self.path, &error))
    }

    /// Writes `rows` of the audit log behind the last, and takes the mark away. On disk when this returns.
    pub(crate) fn finish(&mut self, audit: &[Row]) -> Result<(), MoveError> {
        let [_, columns @ ..] = super::AUDIT.columns else { return Ok(()) };
        let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
        let places = vec!["?"; names.len()].join(", ");
        let sql = format!("INSERT INTO audit ({}) VALUES ({places})", names.join(", "));
        let mut write = || -> rusqlite::Result<()> {
            self.connection.execute_batch("PRAGMA optimize; PRAGMA synchronous = FULL;")?;
            let transaction = self.connection.transaction()?;
            for row in audit {
                transaction.execute(&sql, params_from_iter(&row[1..]))?;
            }
            transaction.pragma_update(None, "user_version", KNOWN)?;
            transaction.commit()?;
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        };
        write().map_err(|error| broken(&self.path, &error))
    }
}

impl Rows for SqliteTarget {
    fn page(&mut self, table: &'static Table, after: Option<&[Value]>, most: usize) -> Result<Vec<Row>, MoveError> {
        page(&self.connection, &self.path, table, after, most)
    }
}

/// Rows of each table that has any; for a database of the schema that this program knows.
pub(crate) fn counts(path: &Path) -> Result<Vec<(&'static str, u64)>, MoveError> {
    let rows = SqliteRows::open(path)?;
    let count = |table: &'static Table| -> rusqlite::Result<(&'static str, u64)> {
        let sql = format!("SELECT count(*) FROM {}", table.name);
        Ok((table.name, rows.connection.query_row(&sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs()))
    };
    let counts: rusqlite::Result<Vec<_>> = TABLES.iter().map(count).collect();
    let counts = counts.map_err(|error| broken(path, &error))?;
    Ok(counts.into_iter().filter(|(_, rows)| *rows > 0).collect())
}

/// Marks a database as moved elsewhere, or takes the mark away; on disk when this returns. Nobody else has it.
pub(crate) fn mark_moved(path: &Path, moved: bool) -> Result<(), MoveError> {
    let write = || -> rusqlite::Result<()> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.execute_batch("PRAGMA synchronous = FULL")?;
        connection.pragma_update(None, "user_version", if moved { KNOWN + schema::MOVED } else { KNOWN })?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    };
    write().map_err(|error| broken(path, &error))
}
