//! Looking at a database without using it. See `examine.rs`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use deadpool_postgres::Object;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::{CHECK, PostgresConfig, PostgresRegistry, Server, pool, schema};
use crate::sqlite::OpenError;

/// A database as it answers.
#[derive(Debug)]
pub struct PostgresFacts {
    /// Host and database.
    pub place: String,
    /// As the server writes it.
    pub version: String,
    /// `synchronous_commit` of this user's sessions, where the engine has it.
    pub synchronous_commit: Option<String>,
    /// `fsync`, where the engine has it.
    pub fsync: Option<String>,
    /// The schema; `None` before the first start.
    pub schema: Option<i64>,
    /// The newest schema that this program knows.
    pub known: i64,
    /// Whether this user may do what a start and a server have to: make tables where there are none or older ones, change
    /// rows where they are.
    pub rights: bool,
    /// Connections that the server allows in all, where the engine says so.
    pub connections: Option<i64>,
    /// The fastest of five questions.
    pub round_trip: Duration,
    /// How far its clock is ahead of ours, ms.
    pub skew_ms: i64,
    /// Whether this connection is encrypted, where the engine says so.
    pub encrypted: Option<bool>,
}

/// Tables that every claim changes.
const CHANGED: [&str; 3] = ["device", "audit", "outbox"];

impl PostgresRegistry {
    /// Connects as a server would and looks. `patience` bounds the whole.
    pub async fn examine(config: &PostgresConfig, patience: Duration) -> Result<PostgresFacts, OpenError> {
        let server = Server::of(config, patience)?;
        let place = server.place();
        let error = |what: String| OpenError { path: place.clone(), what, next: CHECK };
        let pool = pool(server, 1, patience).map_err(|fault| error(format!("has no pool: {fault}")))?;
        let looking = async {
            let db = pool.get().await.map_err(|fault| format!("cannot be reached: {fault}"))?;
            look(&db, place.display().to_string()).await.map_err(|fault| format!("cannot be asked: {fault}"))
        };
        let late = || Err("does not answer".to_owned());
        let facts = tokio::time::timeout(patience, looking).await.unwrap_or_else(|_| late()).map_err(error);
        pool.close();
        facts
    }
}

async fn look(db: &Object, place: String) -> Result<PostgresFacts, tokio_postgres::Error> {
    let sql = "SELECT current_setting('server_version'), current_setting('synchronous_commit', true), \
               current_setting('fsync', true), current_setting('max_connections', true), \
               to_regclass('schema_version') IS NOT NULL";
    let about = db.query_one(sql, &[]).await?;
    let schema = match about.try_get::<_, bool>(4)? {
        true => Some(db.query_one("SELECT version FROM schema_version", &[]).await?.try_get::<_, i64>(0)?),
        false => None,
    };
    let known = schema::KNOWN;
    let mut rights = true;
    if schema.is_none_or(|schema| schema < known) {
        let sql = "SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)";
        rights = db.query_one(sql, &[]).await?.try_get(0)?;
    }
    for table in CHANGED.into_iter().filter(|_| schema.is_some()) {
        for right in ["SELECT", "INSERT", "UPDATE"] {
            let row = db.query_one("SELECT has_table_privilege($1::text, $2::text)", &[&table, &right]).await?;
            rights &= row.try_get::<_, bool>(0)?;
        }
    }
    let (round_trip, skew_ms) = clock(db).await?;
    let encrypted = db.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await;
    Ok(PostgresFacts {
        place,
        version: about.try_get(0)?,
        synchronous_commit: about.try_get(1)?,
        fsync: about.try_get(2)?,
        connections: maybe::<String>(&about, 3).and_then(|text| text.parse().ok()),
        schema,
        known,
        rights,
        round_trip,
        skew_ms,
        encrypted: encrypted.ok().and_then(|row| maybe(&row, 0)),
    })
}

fn maybe<'r, T: FromSql<'r>>(row: &'r Row, column: usize) -> Option<T> {
    row.try_get::<_, Option<T>>(column).ok().flatten()
}

/// The fastest of five round trips says most about both.
async fn clock(db: &Object) -> Result<(Duration, i64), tokio_postgres::Error> {
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    let statement = db.prepare(sql).await?;
    let mut best = (Duration::MAX, 0);
    for _ in 0..5 {
        let asked = Instant::now();
        let theirs: i64 = db.query_one(&statement, &[]).await?.try_get(0)?;
        let took = asked.elapsed();
        if took < best.0 {
            let middle = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(took / 2);
            best = (took, theirs - i64::try_from(middle.as_millis()).unwrap_or(i64::MAX));
        }
    }
    Ok(best)
}
