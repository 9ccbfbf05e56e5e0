//! Refresh tokens, as digests. See `crate::directory::sessions`.

use claim::directory::{RefreshSession, RefreshUse};
use claim::{Timestamp, UserId};

use crate::directory::sessions::SESSIONS_PER_ACCOUNT;
use crate::postgres::db::{Db, Fault};
use crate::postgres::rows;

/// Sessions that are over and go with one change; the rest goes with later ones.
const SWEPT: i64 = 100;

pub(super) async fn open(db: &Db, session: &RefreshSession) -> Result<(), Fault> {
    insert(db, session).await?;
    let sql = "DELETE FROM session WHERE digest IN \
         (SELECT digest FROM session WHERE account = $1 ORDER BY rid DESC OFFSET $2)";
    db.run(sql, &[&session.account.uuid(), &SESSIONS_PER_ACCOUNT]).await?;
    Ok(())
}

async fn insert(db: &Db, session: &RefreshSession) -> Result<(), Fault> {
    let RefreshSession { digest, account, family, expires_at } = session;
    let sql = "INSERT INTO session (digest, account, family, expires_at) VALUES ($1, $2, $3, $4)";
    db.run(sql, &[&digest.as_slice(), &account.uuid(), &family.as_slice(), &expires_at.as_millis()]).await?;
    Ok(())
}

pub(super) async fn rotate(
    db: &Db,
    digest: &[u8; 32],
    successor: [u8; 32],
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<RefreshUse, Fault> {
    // The account first, as whoever ends all its sessions does: no successor is made beside that.
    let sql = "SELECT id FROM account WHERE id = (SELECT account FROM session WHERE digest = $1) FOR NO KEY UPDATE";
    let Some(row) = db.row(sql, &[&digest.as_slice()]).await? else { return Ok(RefreshUse::Unknown) };
    let account = UserId::from_bytes(rows::id(&row, 0)?);
    let used = spend(db, account, digest, successor, expires_at, now).await?;
    sweep(db, now).await?;
    Ok(used)
}

async fn spend(
    db: &Db,
    account: UserId,
    digest: &[u8; 32],
    successor: [u8; 32],
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<RefreshUse, Fault> {
    // The statement that finds it unspent spends it: of two who show the same token the second finds it spent.
    let sql = "UPDATE session SET spent = TRUE WHERE digest = $1 AND NOT spent AND expires_at > $2 RETURNING family";
    let Some(row) = db.row(sql, &[&digest.as_slice(), &now.as_millis()]).await? else {
        // Two hold the same token: one of them stole it.
        let sql = "DELETE FROM session WHERE family IN \
             (SELECT family FROM session WHERE digest = $1 AND expires_at > $2)";
        let ended = db.run(sql, &[&digest.as_slice(), &now.as_millis()]).await?;
        return Ok(if ended == 0 { RefreshUse::Unknown } else { RefreshUse::Replayed });
    };
    insert(db, &RefreshSession { digest: successor, account, family: rows::bytes(&row, 0)?, expires_at }).await?;
    Ok(RefreshUse::Rotated(account))
}

/// Sessions that are over go, but for those that another change is at.
async fn sweep(db: &Db, now: Timestamp) -> Result<(), Fault> {
    let sql = "DELETE FROM session WHERE digest IN \
         (SELECT digest FROM session WHERE expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";
    db.run(sql, &[&now.as_millis(), &SWEPT]).await?;
    Ok(())
}
