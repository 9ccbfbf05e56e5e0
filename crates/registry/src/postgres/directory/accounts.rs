//! People who sign in. Passwords arrive hashed; activation tokens as digests. See `crate::directory::accounts`.

use claim::applications::By;
use claim::directory::{Account, AccountChange, AccountDraft, DirectoryError, Page, PageRequest};
use claim::owner::Authority;
use claim::{CustomerId, TenantId, Timestamp, UserId};
use tokio_postgres::Row;

use super::{audit, customers, tenants};
use crate::directory::accounts::{COLUMNS, LAST_OPERATOR, first, folded};
use crate::directory::found;
use crate::postgres::answers::{page, taken};
use crate::postgres::db::{Db, Fault, Values};
use crate::postgres::rows;

fn read(row: &Row) -> Result<Account, Fault> {
    let customer = rows::optional_id(row, 2)?.map(CustomerId::from_bytes);
    Ok(Account {
        id: UserId::from_bytes(rows::id(row, 0)?),
        tenant: TenantId::from_bytes(rows::id(row, 1)?),
        authority: customer.map_or(Authority::TenantAdmin, Authority::CustomerUser),
        operator: rows::get(row, 3)?,
        email: rows::get(row, 4)?,
        first_name: rows::get(row, 5)?,
        last_name: rows::get(row, 6)?,
        additional_info: rows::get(row, 7)?,
        created_at: rows::instant(row, 8)?,
        session_epoch: rows::get(row, 9)?,
    })
}

pub(super) async fn create(db: &Db, draft: &AccountDraft, now: Timestamp) -> Result<Account, Fault> {
    let customer = match draft.authority {
        Authority::TenantAdmin => None,
        Authority::CustomerUser(customer) => {
            found(customers::one(db, draft.tenant, customer).await?, "customer")?;
            Some(customer.uuid())
        }
    };
    found(tenants::one(db, draft.tenant).await?, "tenant")?;
    let sql = format!(
        "INSERT INTO account (id, tenant, customer, operator, email, first_name, last_name, additional_info, \
         password_hash, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING {COLUMNS}"
    );
    let values: Values<'_> = &[
        &UserId::random().uuid(),
        &draft.tenant.uuid(),
        &customer,
        &draft.operator,
        &folded(&draft.email),
        &draft.first_name,
        &draft.last_name,
        &draft.additional_info,
        &draft.password_hash,
        &now.as_millis(),
    ];
    read(&db.one(&sql, values).await.map_err(taken("email"))?)
}

pub(super) async fn any(db: &Db) -> Result<bool, Fault> {
    rows::get(&db.one("SELECT EXISTS (SELECT 1 FROM account)", &[]).await?, 0)
}

pub(super) async fn bootstrap(
    db: &Db,
    email: &str,
    password_hash: &str,
    now: Timestamp,
) -> Result<Option<Account>, Fault> {
    // Of many nodes one finds the install empty: the others' transactions do not hold, and find the account when run again.
    if any(db).await? {
        return Ok(None);
    }
    let tenant = match db.row("SELECT id FROM tenant ORDER BY rid LIMIT 1", &[]).await? {
        Some(row) => TenantId::from_bytes(rows::id(&row, 0)?),
        None => tenants::create(db, "default", now).await?.id,
    };
    create(db, &first(tenant, email.to_owned(), password_hash.to_owned()), now).await.map(Some)
}

pub(crate) async fn one(db: &Db, id: UserId) -> Result<Option<Account>, Fault> {
    let row = db.row(&format!("SELECT {COLUMNS} FROM account WHERE id = $1"), &[&id.uuid()]).await?;
    row.as_ref().map(read).transpose()
}

/// An account that stays what it is until this transaction ends.
pub(super) async fn locked(db: &Db, id: UserId) -> Result<Option<Account>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM account WHERE id = $1 FOR NO KEY UPDATE");
    db.row(&sql, &[&id.uuid()]).await?.as_ref().map(read).transpose()
}

pub(super) async fn list(
    db: &Db,
    tenant: TenantId,
    customer: Option<CustomerId>,
    request: &PageRequest,
) -> Result<Page<Account>, Fault> {
    match customer {
        None => page_of(db, "WHERE tenant = $1", &[&tenant.uuid()], request).await,
        Some(customer) => {
            page_of(db, "WHERE tenant = $1 AND customer = $2", &[&tenant.uuid(), &customer.uuid()], request).await
        }
    }
}

/// A page of accounts by e-mail. `from` continues `FROM account`, with its conditions.
pub(crate) async fn page_of(
    db: &Db,
    from: &str,
    values: Values<'_>,
    request: &PageRequest,
) -> Result<Page<Account>, Fault> {
    page(db, COLUMNS, &format!("account {from}"), "email", values, request, read).await
}

pub(super) async fn by_email(db: &Db, email: &str) -> Result<Option<(Account, Option<String>)>, Fault> {
    // Nobody's: PostgreSQL keeps no U+0000 and refuses to look for one.
    if email.contains('\0') {
        return Ok(None);
    }
    let sql = format!("SELECT {COLUMNS}, password_hash FROM account WHERE email = $1");
    let row = db.row(&sql, &[&folded(email)]).await?;
    row.map(|row| Ok((read(&row)?, rows::get(&row, 10)?))).transpose()
}

pub(super) async fn change(
    db: &Db,
    tenant: TenantId,
    id: UserId,
    change: &AccountChange,
    by: By,
) -> Result<Account, Fault> {
    let sql = format!(
        "UPDATE account SET first_name = $3, last_name = $4, additional_info = $5 WHERE id = $1 AND tenant = $2 \
         RETURNING {COLUMNS}"
    );
    let AccountChange { first_name, last_name, additional_info } = change;
    let row = db.row(&sql, &[&id.uuid(), &tenant.uuid(), first_name, last_name, additional_info]).await?;
    let account = read(&found(row, "account")?)?;
    audit(db, tenant, "account.changed", &id.to_string(), by).await?;
    Ok(account)
}

pub(super) async fn delete(db: &Db, tenant: TenantId, id: UserId) -> Result<(), Fault> {
    let account = found(one(db, id).await?.filter(|account| account.tenant == tenant), "account")?;
    if account.operator {
        let sql = "SELECT EXISTS (SELECT 1 FROM account WHERE operator AND id <> $1)";
        if !rows::get::<bool>(&db.one(sql, &[&id.uuid()]).await?, 0)? {
            return Err(LAST_OPERATOR.into());
        }
    }
    db.run("DELETE FROM account WHERE id = $1", &[&id.uuid()]).await?;
    Ok(())
}

pub(super) async fn set_password(db: &Db, id: UserId, password_hash: &str) -> Result<(), Fault> {
    // The account first: whoever goes on with a session of it waits here, and then finds none.
    let sql = "UPDATE account SET password_hash = $2, session_epoch = session_epoch + 1, activation_digest = NULL, \
         activation_until = NULL WHERE id = $1";
    if db.run(sql, &[&id.uuid(), &password_hash]).await? == 0 {
        return Err(DirectoryError::NotFound("account").into());
    }
    db.run("DELETE FROM session WHERE account = $1", &[&id.uuid()]).await?;
    Ok(())
}

pub(super) async fn set_activation(
    db: &Db,
    tenant: TenantId,
    id: UserId,
    digest: &[u8; 32],
    expires_at: Timestamp,
) -> Result<(), Fault> {
    let sql = "UPDATE account SET activation_digest = $3, activation_until = $4 WHERE id = $1 AND tenant = $2";
    let changed = db.run(sql, &[&id.uuid(), &tenant.uuid(), &digest.as_slice(), &expires_at.as_millis()]).await?;
    if changed == 0 { Err(DirectoryError::NotFound("account").into()) } else { Ok(()) }
}

pub(super) async fn activate(
    db: &Db,
    digest: &[u8; 32],
    password_hash: &str,
    now: Timestamp,
) -> Result<Option<Account>, Fault> {
    // Locked: of two who show the same token the second finds it spent.
    let sql = "SELECT id FROM account WHERE activation_digest = $1 AND activation_until > $2 FOR UPDATE";
    let Some(row) = db.row(sql, &[&digest.as_slice(), &now.as_millis()]).await? else { return Ok(None) };
    let id = UserId::from_bytes(rows::id(&row, 0)?);
    set_password(db, id, password_hash).await?;
    one(db, id).await
}
