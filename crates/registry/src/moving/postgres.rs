//! A PostgreSQL database as a source of rows, at one moment, and as a target. Each on a connection of its own, without the
//! server's bounds on statements; blocking, since commands have nothing else to do.

use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use tokio::runtime::Runtime;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Error, Statement};
use uuid::Uuid;

use super::tables::{Kind, TABLES, Table};
use super::value::{Row, Value};
use super::{MoveError, Rows, Standing, Trouble};
use crate::postgres::{self as pg, KNOWN_SCHEMA, PostgresConfig};
use crate::schema::{self, UNFINISHED};
use crate::sealing::Sealer;

const CHECK: &str = "check the address, the user and the password, and that the server takes connections";

/// What a server keeps for itself and cannot be without: an import that was arriving arrives at nobody any more.
const OWN: [(&str, &str, Value); 2] = [("import", "node", Value::Id([0; 16])), ("import", "heard_at", Value::Whole(0))];

impl ToSql for Value {
    fn to_sql(&self, r#type: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Whole(whole) => whole.to_sql(r#type, out),
            Self::Flag(flag) => flag.to_sql(r#type, out),
            Self::Text(text) => text.to_sql(r#type, out),
            Self::Id(id) => Uuid::from_bytes(*id).to_sql(r#type, out),
            Self::Bytes(bytes) => bytes.to_sql(r#type, out),
        }
    }

    fn accepts(r#type: &Type) -> bool {
        [Type::UUID, Type::BYTEA, Type::INT8, Type::BOOL, Type::TEXT].contains(r#type)
    }

    to_sql_checked!();
}

fn type_of(kind: Kind) -> Type {
    match kind {
        Kind::Id => Type::UUID,
        Kind::Bytes => Type::BYTEA,
        Kind::Whole => Type::INT8,
        Kind::Flag => Type::BOOL,
        Kind::Text => Type::TEXT,
    }
}

fn value(row: &tokio_postgres::Row, position: usize, kind: Kind) -> Result<Value, Error> {
    Ok(match kind {
        Kind::Id => row.try_get::<_, Option<Uuid>>(position)?.map(|id| Value::Id(id.into_bytes())),
        Kind::Bytes => row.try_get::<_, Option<Vec<u8>>>(position)?.map(Value::Bytes),
        Kind::Whole => row.try_get::<_, Option<i64>>(position)?.map(Value::Whole),
        Kind::Flag => row.try_get::<_, Option<bool>>(position)?.map(Value::Flag),
        Kind::Text => row.try_get::<_, Option<String>>(position)?.map(Value::Text),
    }
    .unwrap_or(Value::Null))
}

/// A connection, and what runs it.
pub(crate) struct Session {
    runtime: Runtime,
    client: Client,
    place: String,
    statements: HashMap<String, Statement>,
}

impl Session {
    pub(crate) fn open(config: &PostgresConfig, patience: Duration) -> Result<Self, MoveError> {
        let place = pg::place(config, patience);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime
            .map_err(|error| MoveError::unavailable(format!("cannot start: {error}"), "raise the limit of threads"))?;
        let client = runtime.block_on(pg::connect_alone(config, patience));
        let client = client.map_err(|error| MoveError::unavailable(error.to_string(), error.next))?;
        Ok(Self { runtime, client, place, statements: HashMap::new() })
    }

    fn broken(&self, error: &Error) -> MoveError {
        // Its detail may quote a row.
        let what = error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
        MoveError::unavailable(format!("the registry {}: {what}", self.place), CHECK)
    }

    fn batch(&self, sql: &str) -> Result<(), MoveError> {
        self.runtime.block_on(self.client.batch_execute(sql)).map_err(|error| self.broken(&error))
    }

    fn statement(&mut self, sql: &str) -> Result<Statement, MoveError> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let made = self.runtime.block_on(self.client.prepare(sql)).map_err(|error| self.broken(&error))?;
        self.statements.insert(sql.to_owned(), made.clone());
        Ok(made)
    }

    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<tokio_postgres::Row>, MoveError> {
        let statement = self.statement(sql)?;
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        self.runtime.block_on(self.client.query(&statement, &values)).map_err(|error| self.broken(&error))
    }

    /// What the database is, without making or changing it.
    pub(crate) fn standing(mut self) -> Result<Standing, MoveError> {
        self.look()
    }

    fn look(&mut self) -> Result<Standing, MoveError> {
        let there = self.query("SELECT to_regclass('schema_version') IS NOT NULL", &[])?;
        if !there[0].try_get::<_, bool>(0).map_err(|error| self.broken(&error))? {
            return Ok(Standing::Nothing);
        }
        let version = self.query("SELECT version FROM schema_version", &[])?;
        let number = version.first().map_or(Ok(0), |row| row.try_get(0)).map_err(|error| self.broken(&error))?;
        Ok(schema::standing(number, KNOWN_SCHEMA))
    }

    /// One moment of it; ends with the connection.
    pub(crate) fn snapshot(self) -> Result<PostgresRows, MoveError> {
        self.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1")?;
        Ok(PostgresRows(self))
    }

    fn page(&mut self, table: &'static Table, after: Option<&[Value]>, most: usize) -> Result<Vec<Row>, MoveError> {
        let (all, keys) = (names(table.columns), names(table.key_columns()));
        let condition = match after {
            None => String::new(),
            Some(key) => format!("WHERE ({keys}) > ({})", places(key.len())),
        };
        let sql = format!("SELECT {all} FROM {} {condition} ORDER BY {keys} LIMIT {most}", table.name);
        let rows = self.query(&sql, after.unwrap_or_default())?;
        let read = |row: &tokio_postgres::Row| -> Result<Row, MoveError> {
            let value = |(position, column): (usize, &super::tables::Column)| {
                value(row, position, column.kind).map_err(|_| MoveError::odd_value(table, column))
            };
            table.columns.iter().enumerate().map(value).collect()
        };
        rows.iter().map(read).collect()
    }
}

fn names(columns: &[super::tables::Column]) -> String {
    columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ")
}

fn places(count: usize) -> String {
    (1..=count).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ")
}

/// Rows as they were at one moment.
pub(crate) struct PostgresRows(Session);

impl Rows for PostgresRows {
    fn page(&mut self, table: &'static Table, after: Option<&[Value]>, most: usize) -> Result<Vec<Row>, MoveError> {
        self.0.page(table, after, most)
    }
}

/// A database that is being filled. It is marked as unfinished, and a lock on the mark keeps others from filling it too.
pub(crate) struct PostgresTarget {
    session: Session,
    /// Has the lock, and takes the mark away in the end.
    guard: Session,
}

impl PostgresTarget {
    /// An empty schema that is marked; `afresh` drops an unfinished copy, otherwise it is taken over as it is. A database that
    /// has rows is refused.
    pub(crate) fn make(config: &PostgresConfig, patience: Duration, afresh: bool) -> Result<Self, MoveError> {
        let mut session = Session::open(config, patience)?;
        let standing = session.look()?;
        match standing {
            Standing::Nothing | Standing::Unfinished => {}
            Standing::Schema { found, known } if found == known => {
                let counts = counts_in(&mut session)?;
                refuse_filled(&session.place, &counts)?;
            }
            other => return Err(MoveError::of_standing(&session.place, other)),
        }
        session.batch(pg::VERSION_TABLE)?;
        session.batch("BEGIN")?;
        lock(&mut session)?;
        if standing != Standing::Unfinished || afresh {
            // Only what is known to be ours: a database without our schema may have tables of the same names.
            if standing != Standing::Nothing {
                for table in TABLES.iter().rev().map(|table| table.name).chain(["audit_sealing", "stale"]) {
                    session.batch(&format!("DROP TABLE IF EXISTS {table} CASCADE"))?;
                }
                session.batch("DROP FUNCTION IF EXISTS audit_is_append_only")?;
            }
            for sql in pg::whole_schema() {
                session.batch(sql)?;
            }
        }
        session.batch(&format!("UPDATE schema_version SET version = {}; COMMIT", UNFINISHED + KNOWN_SCHEMA))?;
        let mut guard = Session::open(config, patience)?;
        guard.batch("BEGIN")?;
        lock(&mut guard)?;
        Ok(Self { session, guard })
    }

    /// A moment of it on another connection.
    pub(crate) fn rows(config: &PostgresConfig, patience: Duration) -> Result<PostgresRows, MoveError> {
        Session::open(config, patience)?.snapshot()
    }

    fn columns(table: &Table) -> (String, Vec<Type>, Vec<Value>) {
        let own = OWN.iter().filter(|(of, ..)| *of == table.name);
        let mut all = names(table.columns);
        let mut types: Vec<Type> = table.columns.iter().map(|column| type_of(column.kind)).collect();
        let mut values = Vec::new();
        for (_, name, value) in own {
            all += &format!(", {name}");
            types.push(if matches!(value, Value::Id(_)) { Type::UUID } else { Type::INT8 });
            values.push(value.clone());
        }
        (all, types, values)
    }

    /// Adds rows, all or none; `false`: one of them does not fit beside what is there.
    pub(crate) fn insert(&mut self, table: &'static Table, rows: &[Row]) -> Result<bool, MoveError> {
        let (all, types, own) = Self::columns(table);
        let sql = format!("COPY {} ({all}) FROM STDIN BINARY", table.name);
        let client = &self.session.client;
        let copied = self.session.runtime.block_on(async {
            let mut writer = pin!(BinaryCopyInWriter::new(client.copy_in(&sql).await?, &types));
            let mut values: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(types.len());
            for row in rows {
                values.clear();
                values.extend(row.iter().chain(&own).map(|value| value as &(dyn ToSql + Sync)));
                writer.as_mut().write(&values).await?;
            }
            writer.finish().await
        });
        self.fitted(table, copied)
    }

    /// Puts a row in the place of the one with its key, or adds it; `false`: it does not fit beside what is there.
    pub(crate) fn put(&mut self, table: &'static Table, row: &Row) -> Result<bool, MoveError> {
        let (all, types, own) = Self::columns(table);
        let set: Vec<String> =
            table.columns[table.key..].iter().map(|column| format!("{0} = excluded.{0}", column.name)).collect();
        let conflict = if set.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", set.join(", ")) };
        let keys = names(table.key_columns());
        // Identity columns are drawn ALWAYS and cannot be set by an UPDATE; what was made keeps its number.
        let conflict = table
            .columns
            .iter()
            .filter(|column| table.drawn(column))
            .fold(conflict, |sql, column| sql.replace(&format!("{0} = excluded.{0}, ", column.name), ""));
        let sql = format!(
            "INSERT INTO {} ({all}) OVERRIDING SYSTEM VALUE VALUES ({}) ON CONFLICT ({keys}) DO {conflict}",
            table.name,
            places(types.len())
        );
        let values: Row = row.iter().chain(&own).cloned().collect();
        let statement = self.session.statement(&sql)?;
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        let put = self.session.runtime.block_on(self.session.client.execute(&statement, &values));
        self.fitted(table, put)
    }

    /// Removes the row of a key; `false`: something refers to it.
    pub(crate) fn remove(&mut self, table: &'static Table, key: &[Value]) -> Result<bool, MoveError> {
        let keys = names(table.key_columns());
        let sql = format!("DELETE FROM {} WHERE ({keys}) = ({})", table.name, places(key.len()));
        let statement = self.session.statement(&sql)?;
        let values: Vec<&(dyn ToSql + Sync)> = key.iter().map(|value| value as _).collect();
        let removed = self.session.runtime.block_on(self.session.client.execute(&statement, &values));
        self.fitted(table, removed)
    }

    fn fitted(&self, table: &Table, result: Result<u64, Error>) -> Result<bool, MoveError> {
        match result {
            Ok(_) => Ok(true),
            Err(error) => match error.code() {
                Some(&(SqlState::UNIQUE_VIOLATION | SqlState::FOREIGN_KEY_VIOLATION)) => Ok(false),
                Some(code) if matches!(&code.code()[..2], "22" | "23") => {
                    let what = error.as_db_error().map_or("", |error| error.message());
                    Err(MoveError::damaged(format!("a row of `{}` does not fit: {what}", table.name)))
                }
                _ => Err(self.session.broken(&error)),
            },
        }
    }

    /// Sealed values that open under none of the keys.
    pub(crate) fn unopened(&self, sealer: &Sealer) -> Result<u64, MoveError> {
        let work = pg::unopened(&self.session.client, sealer);
        self.session.runtime.block_on(work).map_err(|error| self.session.broken(&error))
    }

    /// Writes `audit` behind the last row, and takes the mark away.
    pub(crate) fn finish(mut self, audit: &[Row]) -> Result<(), MoveError> {
        for table in &TABLES {
            for column in table.columns.iter().filter(|column| table.drawn(column)) {
                let (table, column) = (table.name, column.name);
                self.session.batch(&format!(
                    "SELECT setval(pg_get_serial_sequence('{table}', '{column}'), greatest(max({column}), 1), \
                     max({column}) IS NOT NULL) FROM {table}"
                ))?;
            }
        }
        self.session.batch("UPDATE audit_sealing SET seq = (SELECT coalesce(max(seq), 0) FROM audit_chain)")?;
        let columns = super::AUDIT.columns.get(1..).unwrap_or_default();
        let sql = format!("INSERT INTO audit ({}) VALUES ({})", names(columns), places(columns.len()));
        for row in audit {
            self.session.query(&sql, &row[1..])?;
        }
        self.session.batch("ANALYZE")?;
        self.guard.batch(&format!("UPDATE schema_version SET version = {KNOWN_SCHEMA}; COMMIT"))
    }
}

impl Rows for PostgresTarget {
    fn page(&mut self, table: &'static Table, after: Option<&[Value]>, most: usize) -> Result<Vec<Row>, MoveError> {
        self.session.page(table, after, most)
    }
}

/// Held until the transaction ends. Nobody waits for it.
fn lock(session: &mut Session) -> Result<(), MoveError> {
    let work = session.client.query("SELECT version FROM schema_version FOR UPDATE NOWAIT", &[]);
    match session.runtime.block_on(work) {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Err(MoveError::new(
            Trouble::Conflict,
            format!("somebody else is at work on {}", session.place),
            "wait for its end; two copies into one database would be one too many",
        )),
        Err(error) => Err(session.broken(&error)),
    }
}

/// Rows of each table that has any; for a database of the schema that this program knows.
pub(crate) fn counts(config: &PostgresConfig, patience: Duration) -> Result<Vec<(&'static str, u64)>, MoveError> {
    counts_in(&mut Session::open(config, patience)?)
}

fn counts_in(session: &mut Session) -> Result<Vec<(&'static str, u64)>, MoveError> {
    let mut found = Vec::new();
    for table in &TABLES {
        let rows = session.query(&format!("SELECT count(*) FROM {}", table.name), &[])?;
        let rows: i64 = rows[0].try_get(0).map_err(|error| session.broken(&error))?;
        if rows > 0 {
            found.push((table.name, rows.unsigned_abs()));
        }
    }
    Ok(found)
}

/// What is there is named, and left as it is.
pub(crate) fn refuse_filled(place: &str, counts: &[(&'static str, u64)]) -> Result<(), MoveError> {
    if counts.is_empty() {
        return Ok(());
    }
    let rows: Vec<String> = counts.iter().map(|(table, rows)| format!("{table}: {rows}")).collect();
    let what = format!("the registry {place} is not empty ({})", rows.join(", "));
    Err(MoveError::new(Trouble::Conflict, what, "name an empty one; nothing of this one was changed"))
}
