//! Migrations: numbered SQL, applied in order under the lock of the one version row. An older binary refuses a newer schema.

use tokio_postgres::error::SqlState;

use super::db::{Db, Fault};
use super::rows;
use crate::moving::Standing;
use crate::schema::standing;

/// Every migration, oldest first; the position is the version.
const MIGRATIONS: [&str; 2] =
    [include_str!("../migrations/postgres/0001_initial.sql"), include_str!("../migrations/postgres/0002_stale.sql")];

/// The newest version.
pub(crate) const KNOWN: i64 = MIGRATIONS.len() as i64;

/// Why a database cannot be used.
#[derive(Debug)]
pub(super) enum SchemaError {
    /// A newer claimd has been here, or its rows are on the way.
    Not(Standing),
    Database(Fault),
}

impl From<Fault> for SchemaError {
    fn from(fault: Fault) -> Self {
        Self::Database(fault)
    }
}

/// The SQL that makes the newest schema of nothing.
pub(crate) fn whole() -> impl Iterator<Item = &'static str> {
    MIGRATIONS.into_iter()
}

pub(crate) const VERSION_TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_version (\
     one BOOLEAN CONSTRAINT schema_version_one PRIMARY KEY DEFAULT TRUE CHECK (one), version BIGINT NOT NULL); \
     INSERT INTO schema_version (version) VALUES (0) ON CONFLICT DO NOTHING";

/// Brings a database to the newest schema. A lock on a row and no advisory lock: every engine that speaks PostgreSQL's
/// protocol has it.
pub(super) async fn migrate(db: &Db) -> Result<(), SchemaError> {
    // A migration may take longer than a statement, and so may the wait for another node's, which already the row waits for.
    let patient = format!("SET LOCAL statement_timeout = {}", super::PREPARING.as_millis());
    let table = format!("{patient}; {VERSION_TABLE}");
    if db.batch(&table).await.is_err() {
        // Of two nodes that make the table at once one is refused, and finds it the second time.
        db.batch(&table).await?;
    }
    // Before the lock, which whoever moves rows in holds.
    let found: i64 = rows::get(&db.one("SELECT version FROM schema_version", &[]).await?, 0)?;
    if let other @ (Standing::Unfinished | Standing::Moved) = standing(found, KNOWN) {
        return Err(SchemaError::Not(other));
    }
    db.batch(&format!("BEGIN; {patient}")).await?;
    // Of two nodes that start at once the second waits here and then finds the work done.
    let found: i64 = rows::get(&db.one("SELECT version FROM schema_version FOR UPDATE", &[]).await?, 0)?;
    match standing(found, KNOWN) {
        Standing::Nothing | Standing::Schema { .. } => {}
        other => {
            db.batch("ROLLBACK").await?;
            return Err(SchemaError::Not(other));
        }
    }
    for sql in MIGRATIONS.iter().skip(found.unsigned_abs() as usize) {
        db.batch(sql).await?;
    }
    db.run("UPDATE schema_version SET version = $1 WHERE version < $1", &[&KNOWN]).await?;
    Ok(db.batch("COMMIT").await?)
}

/// Whether a database still has what [`migrate`] made of it, or more.
pub(super) async fn fits(db: &Db) -> Result<bool, Fault> {
    let row = match db.row("SELECT version FROM schema_version", &[]).await {
        // Another database in its place.
        Err(fault) if fault.code() == Some(&SqlState::UNDEFINED_TABLE) => None,
        row => row?,
    };
    let found: Option<i64> = row.map(|row| rows::get(&row, 0)).transpose()?;
    // Not one that is being filled anew.
    Ok(found.is_some_and(|found| match standing(found, KNOWN) {
        Standing::Schema { found, known } => found >= known,
        Standing::Newer { .. } => true,
        _ => false,
    }))
}
