//! Reading back from the audit log what the attempt counters are rebuilt from. See `crate::directory::log`.

use claim::ports::AttemptKeys;
use claim::{Timestamp, UserId};
use tokio_postgres::Row;

use crate::postgres::db::{Db, Fault};
use crate::postgres::rows;

pub(super) async fn charged(db: &Db, since: Timestamp) -> Result<Vec<(AttemptKeys, Timestamp)>, Fault> {
    let sql = "SELECT actor, attempt_key, at FROM audit a WHERE charged AND at >= $1 AND attempt_key IS NOT NULL \
         AND NOT EXISTS (SELECT 1 FROM audit u WHERE u.action = 'unlock' AND u.attempt_key = a.attempt_key \
         AND u.seq > a.seq) ORDER BY seq";
    db.rows(sql, &[&since.as_millis()]).await?.iter().map(read).collect()
}

fn read(row: &Row) -> Result<(AttemptKeys, Timestamp), Fault> {
    let keys = AttemptKeys { account: UserId::from_bytes(rows::id(row, 0)?), name: rows::bytes(row, 1)? };
    Ok((keys, rows::instant(row, 2)?))
}
