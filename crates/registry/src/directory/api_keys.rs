//! Keys that tools sign in with, as digests.

use claim::directory::{Account, ApiKey, ApiKeyDraft, ApiKeyId, DirectoryError};
use claim::{Timestamp, UserId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{accounts, found};
use crate::rows;
use crate::writer::Fault;

/// Keys of one account.
pub(crate) const PER_ACCOUNT: i64 = 100;
pub(crate) const TOO_MANY: DirectoryError =
    DirectoryError::Refused("an account has at most 100 API keys; remove one that is not used");

fn read(row: &Row<'_>) -> rusqlite::Result<ApiKey> {
    Ok(ApiKey {
        id: ApiKeyId::from_bytes(rows::bytes(row, 0)?),
        account: UserId::from_bytes(rows::bytes(row, 1)?),
        name: row.get(2)?,
        created_at: rows::instant(row, 3)?,
        expires_at: rows::optional_instant(row, 4)?,
    })
}

pub(super) fn create(connection: &Connection, draft: &ApiKeyDraft, now: Timestamp) -> Result<ApiKey, Fault> {
    let account = found(accounts::one(connection, draft.account)?, "account")?;
    let count: i64 = connection
        .prepare_cached("SELECT count(*) FROM api_key WHERE account = ?1")?
        .query_row([draft.account.as_bytes()], |row| row.get(0))?;
    if count >= PER_ACCOUNT {
        return Err(TOO_MANY.into());
    }
    let id = ApiKeyId::random();
    connection
        .prepare_cached(
            "INSERT INTO api_key (id, account, name, digest, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            id.as_bytes(),
            draft.account.as_bytes(),
            draft.name,
            draft.digest,
            now.as_millis(),
            draft.expires_at.map(Timestamp::as_millis)
        ])?;
    audit(connection, &account, "api_key.created", &draft.name, now)?;
    let (account, name, expires_at) = (draft.account, draft.name.clone(), draft.expires_at);
    Ok(ApiKey { id, account, name, created_at: now, expires_at })
}

pub(super) fn list(connection: &Connection, account: UserId) -> rusqlite::Result<Vec<ApiKey>> {
    connection
        .prepare_cached(
            "SELECT id, account, name, created_at, expires_at FROM api_key WHERE account = ?1 ORDER BY rid",
        )?
        .query_map([account.as_bytes()], read)?
        .collect()
}

pub(super) fn delete(connection: &Connection, account: UserId, id: ApiKeyId, now: Timestamp) -> Result<(), Fault> {
    let name: Option<String> = connection
        .prepare_cached("DELETE FROM api_key WHERE id = ?1 AND account = ?2 RETURNING name")?
        .query_row(params![id.as_bytes(), account.as_bytes()], |row| row.get(0))
        .optional()?;
    let name = found(name, "API key")?;
    let account = found(accounts::one(connection, account)?, "account")?;
    Ok(audit(connection, &account, "api_key.deleted", &name, now)?)
}

pub(super) fn holder(
    connection: &Connection,
    digest: [u8; 32],
    now: Timestamp,
) -> rusqlite::Result<Option<(Account, Option<Timestamp>)>> {
    let row: Option<([u8; 16], Option<Timestamp>)> = connection
        .prepare_cached(
            "SELECT account, expires_at FROM api_key WHERE digest = ?1 AND (expires_at IS NULL OR expires_at > ?2)",
        )?
        .query_row(params![digest, now.as_millis()], |row| Ok((rows::bytes(row, 0)?, rows::optional_instant(row, 1)?)))
        .optional()?;
    let Some((account, expires_at)) = row else { return Ok(None) };
    Ok(accounts::one(connection, UserId::from_bytes(account))?.map(|account| (account, expires_at)))
}

fn audit(connection: &Connection, account: &Account, action: &str, name: &str, now: Timestamp) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO audit (at, tenant, actor_kind, actor, action, outcome, reason, evidence, count, charged, origin, \
             request_id) VALUES (?1, ?2, 'account', ?3, ?4, 'done', ?5, 'none', 1, 0, 'api', 0)",
        )?
        .execute(params![now.as_millis(), account.tenant.as_bytes(), account.id.as_bytes(), action, name])?;
    Ok(())
}
