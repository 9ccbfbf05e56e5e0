//! Refresh tokens, as digests.

use claim::directory::{RefreshSession, RefreshUse};
use claim::{Timestamp, UserId};
use rusqlite::{Connection, OptionalExtension, params};

use crate::rows;
use crate::writer::Fault;

/// Live refresh tokens of one account; the oldest go, so that signing in again and again stores a bounded amount.
pub(crate) const SESSIONS_PER_ACCOUNT: i64 = 1_000;

pub(super) fn open(connection: &Connection, session: &RefreshSession) -> Result<(), Fault> {
    insert(connection, session)?;
    connection
        .prepare_cached(
            "DELETE FROM session WHERE rid IN (SELECT rid FROM session WHERE account = ?1 ORDER BY rid DESC LIMIT -1 OFFSET ?2)",
        )?
        .execute(params![session.account.as_bytes(), SESSIONS_PER_ACCOUNT])?;
    Ok(())
}

fn insert(connection: &Connection, session: &RefreshSession) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO session (digest, account, family, expires_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![session.digest, session.account.as_bytes(), session.family, session.expires_at.as_millis()])?;
    Ok(())
}

pub(super) fn rotate(
    connection: &Connection,
    digest: [u8; 32],
    successor: [u8; 32],
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<RefreshUse, Fault> {
    connection.prepare_cached("DELETE FROM session WHERE expires_at <= ?1")?.execute([now.as_millis()])?;
    let row: Option<([u8; 16], [u8; 16], bool)> = connection
        .prepare_cached("SELECT account, family, spent FROM session WHERE digest = ?1")?
        .query_row([digest], |row| Ok((rows::bytes(row, 0)?, rows::bytes(row, 1)?, row.get(2)?)))
        .optional()?;
    let Some((account, family, spent)) = row else { return Ok(RefreshUse::Unknown) };
    if spent {
        // Two hold the same token: one of them stole it.
        connection.prepare_cached("DELETE FROM session WHERE family = ?1")?.execute([family])?;
        return Ok(RefreshUse::Replayed);
    }
    connection.prepare_cached("UPDATE session SET spent = 1 WHERE digest = ?1")?.execute([digest])?;
    let account = UserId::from_bytes(account);
    insert(connection, &RefreshSession { digest: successor, account, family, expires_at })?;
    Ok(RefreshUse::Rotated(account))
}
