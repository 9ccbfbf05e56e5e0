//! Keys that tools sign in with, as digests. See `crate::directory::api_keys`.

use claim::applications::By;
use claim::directory::{Account, ApiKey, ApiKeyDraft, ApiKeyId, DirectoryError};
use claim::{Timestamp, UserId};
use tokio_postgres::Row;

use super::{accounts, audit};
use crate::directory::found;
use crate::postgres::db::{Db, Fault, Values};
use crate::postgres::rows;

const COLUMNS: &str = "id, account, name, created_at, expires_at";

fn read(row: &Row) -> Result<ApiKey, Fault> {
    Ok(ApiKey {
        id: ApiKeyId::from_bytes(rows::id(row, 0)?),
        account: UserId::from_bytes(rows::id(row, 1)?),
        name: rows::get(row, 2)?,
        created_at: rows::instant(row, 3)?,
        expires_at: rows::optional_instant(row, 4)?,
    })
}

pub(super) async fn create(db: &Db, draft: &ApiKeyDraft, now: Timestamp) -> Result<ApiKey, Fault> {
    // Locked, so that keys made at once are counted one after the other.
    let account = found(accounts::locked(db, draft.account).await?, "account")?;
    let count = db.one("SELECT count(*) FROM api_key WHERE account = $1", &[&draft.account.uuid()]).await?;
    if rows::count(&count, 0)? >= draft.most {
        return Err(DirectoryError::Full { what: "API keys", most: draft.most }.into());
    }
    let sql = format!(
        "INSERT INTO api_key (id, account, name, digest, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6) \
         RETURNING {COLUMNS}"
    );
    let values: Values<'_> = &[
        &ApiKeyId::random().uuid(),
        &draft.account.uuid(),
        &draft.name,
        &draft.digest.as_slice(),
        &now.as_millis(),
        &draft.expires_at.map(Timestamp::as_millis),
    ];
    let key = read(&db.one(&sql, values).await?)?;
    audit(db, account.tenant, "api_key.created", &key.name, By { account: account.id, now }).await?;
    Ok(key)
}

pub(super) async fn list(db: &Db, account: UserId) -> Result<Vec<ApiKey>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM api_key WHERE account = $1 ORDER BY rid");
    db.rows(&sql, &[&account.uuid()]).await?.iter().map(read).collect()
}

pub(super) async fn delete(db: &Db, account: UserId, id: ApiKeyId, now: Timestamp) -> Result<(), Fault> {
    let sql = "DELETE FROM api_key WHERE id = $1 AND account = $2 RETURNING name";
    let row = found(db.row(sql, &[&id.uuid(), &account.uuid()]).await?, "API key")?;
    let account = found(accounts::one(db, account).await?, "account")?;
    audit(db, account.tenant, "api_key.deleted", rows::get(&row, 0)?, By { account: account.id, now }).await
}

pub(super) async fn holder(
    db: &Db,
    digest: &[u8; 32],
    now: Timestamp,
) -> Result<Option<(Account, Option<Timestamp>)>, Fault> {
    let sql = "SELECT account, expires_at FROM api_key WHERE digest = $1 AND (expires_at IS NULL OR expires_at > $2)";
    let Some(row) = db.row(sql, &[&digest.as_slice(), &now.as_millis()]).await? else { return Ok(None) };
    let account = accounts::one(db, UserId::from_bytes(rows::id(&row, 0)?)).await?;
    let expires_at = rows::optional_instant(&row, 1)?;
    Ok(account.map(|account| (account, expires_at)))
}
