//! Reading the audit log.

use claim::directory::AuditRow;
use claim::ports::AttemptKeys;
use claim::{DeviceId, TenantId, Timestamp, UserId};
use rusqlite::{Connection, params};

use crate::rows;

pub(super) fn rows(
    connection: &Connection,
    tenant: TenantId,
    since: i64,
    limit: u32,
) -> rusqlite::Result<Vec<AuditRow>> {
    connection
        .prepare_cached(
            "SELECT seq, at, actor_kind, actor, action, device, outcome, reason, evidence, count, request_id FROM audit \
             WHERE tenant = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
        )?
        .query_map(params![tenant.as_bytes(), since, limit], |row| {
            let kind: String = row.get(2)?;
            let actor = UserId::from_bytes(rows::bytes(row, 3)?);
            Ok(AuditRow {
                seq: row.get(0)?,
                at: rows::instant(row, 1)?,
                actor: format!("{kind}:{actor}"),
                action: row.get(4)?,
                device: rows::optional_bytes(row, 5)?.map(DeviceId::from_bytes),
                outcome: row.get(6)?,
                reason: row.get(7)?,
                evidence: row.get(8)?,
                count: row.get(9)?,
                request_id: row.get(10)?,
            })
        })?
        .collect()
}

pub(super) fn charged(connection: &Connection, since: Timestamp) -> rusqlite::Result<Vec<(AttemptKeys, Timestamp)>> {
    connection
        .prepare_cached(
            "SELECT actor, attempt_key, at FROM audit a WHERE charged = 1 AND at >= ?1 AND attempt_key IS NOT NULL \
             AND NOT EXISTS (SELECT 1 FROM audit u WHERE u.action = 'unlock' AND u.attempt_key = a.attempt_key \
             AND u.seq > a.seq) ORDER BY seq",
        )?
        .query_map([since.as_millis()], |row| {
            let keys = AttemptKeys { account: UserId::from_bytes(rows::bytes(row, 0)?), name: rows::bytes(row, 1)? };
            Ok((keys, rows::instant(row, 2)?))
        })?
        .collect()
}
