//! Refresh tokens, as digests, and the key that signs access tokens.

use std::sync::Arc;

use claim::directory::{DirectoryError, RefreshSession, RefreshUse};
use claim::{Secret, Timestamp, UserId};
use rusqlite::{Connection, OptionalExtension, params};

use crate::rows;
use crate::sealing::Sealer;
use crate::writer::Fault;

/// Live refresh tokens of one account; the oldest go, so that signing in again and again stores a bounded amount.
const SESSIONS_PER_ACCOUNT: i64 = 1_000;

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

/// The key's id and the key.
pub(super) type SigningKey = (String, Arc<Secret<Vec<u8>>>);

pub(super) fn signing_key(connection: &Connection, sealer: &Sealer, now: Timestamp) -> Result<SigningKey, Fault> {
    let row: Option<(String, Vec<u8>)> = connection
        .query_row("SELECT kid, sealed FROM signing_key ORDER BY created_at DESC LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    if let Some((kid, sealed)) = row {
        let key = sealer
            .open(&[b"signing_key", kid.as_bytes()], &sealed)
            .ok_or(DirectoryError::Refused("the signing key was sealed under another master key"))?;
        return Ok((kid, Arc::new(key)));
    }
    let mut key = Secret::new(vec![0; 32]);
    let no_randomness = DirectoryError::Unavailable;
    getrandom::fill(key.expose_mut()).map_err(|_| no_randomness.clone())?;
    let kid = UserId::random().to_string();
    let sealed = sealer.seal(&[b"signing_key", kid.as_bytes()], key.expose()).ok_or(no_randomness)?;
    connection.execute(
        "INSERT INTO signing_key (kid, sealed, created_at) VALUES (?1, ?2, ?3)",
        params![kid, sealed, now.as_millis()],
    )?;
    Ok((kid, Arc::new(key)))
}
