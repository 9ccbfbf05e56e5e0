//! Reading back from the audit log what the attempt counters are rebuilt from.

use claim::ports::AttemptKeys;
use claim::{Timestamp, UserId};
use rusqlite::Connection;

use crate::rows;

pub(super) fn charged(connection: &Connection, since: Timestamp) -> rusqlite::Result<Vec<(AttemptKeys, Timestamp)>> {
    connection
        .prepare_cached(
            "SELECT actor, attempt_key, at FROM audit a WHERE charged = 1 AND at >= ?1 AND attempt_key IS NOT NULL \
             AND NOT EXISTS (SELECT 1 FROM audit u WHERE u.action = 'unlock' AND u.attempt_key = a.attempt_key \
             AND u.seq > a.seq) ORDER BY +seq",
        )?
        .query_map([since.as_millis()], |row| {
            let keys = AttemptKeys { account: UserId::from_bytes(rows::bytes(row, 0)?), name: rows::bytes(row, 1)? };
            Ok((keys, rows::instant(row, 2)?))
        })?
        .collect()
}
