//! People who sign in. Passwords arrive hashed; activation tokens as digests.

use claim::applications::By;
use claim::directory::{Account, AccountChange, AccountDraft, DirectoryError, Page, PageRequest};
use claim::owner::Authority;
use claim::{CustomerId, TenantId, Timestamp, UserId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{audit, found, page, taken, tenants};
use crate::rows;
use crate::writer::Fault;

pub(crate) const COLUMNS: &str = "id, tenant, customer, operator, email, first_name, last_name, additional_info, created_at, \
     session_epoch";

fn read(row: &Row<'_>) -> rusqlite::Result<Account> {
    let customer = rows::optional_bytes(row, 2)?.map(CustomerId::from_bytes);
    Ok(Account {
        id: UserId::from_bytes(rows::bytes(row, 0)?),
        tenant: TenantId::from_bytes(rows::bytes(row, 1)?),
        authority: customer.map_or(Authority::TenantAdmin, Authority::CustomerUser),
        operator: row.get(3)?,
        email: row.get(4)?,
        first_name: row.get(5)?,
        last_name: row.get(6)?,
        additional_info: row.get(7)?,
        created_at: rows::instant(row, 8)?,
        session_epoch: row.get(9)?,
    })
}

/// Somebody must be left to run the install.
pub(crate) const LAST_OPERATOR: DirectoryError = DirectoryError::InUse("the install's last operator stays");

/// E-mails are kept and looked up in lower case.
pub(crate) fn folded(email: &str) -> String {
    email.trim().to_lowercase()
}

pub(super) fn create(connection: &Connection, draft: &AccountDraft, now: Timestamp) -> Result<Account, Fault> {
    let id = UserId::random();
    let customer = match draft.authority {
        Authority::TenantAdmin => None,
        Authority::CustomerUser(customer) => {
            let known: bool = connection
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM customer WHERE id = ?1 AND tenant = ?2)")?
                .query_row(params![customer.as_bytes(), draft.tenant.as_bytes()], |row| row.get(0))?;
            if !known {
                return Err(DirectoryError::NotFound("customer").into());
            }
            Some(customer)
        }
    };
    if tenants::one(connection, draft.tenant)?.is_none() {
        return Err(DirectoryError::NotFound("tenant").into());
    }
    connection
        .prepare_cached(
            "INSERT INTO account (id, tenant, customer, operator, email, first_name, last_name, additional_info, \
             password_hash, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            id.as_bytes(),
            draft.tenant.as_bytes(),
            customer.as_ref().map(|customer| customer.as_bytes().as_slice()),
            draft.operator,
            folded(&draft.email),
            draft.first_name,
            draft.last_name,
            draft.additional_info,
            draft.password_hash,
            now.as_millis()
        ])
        .map_err(taken("email"))?;
    Ok(found(one(connection, id)?, "account")?)
}

pub(super) fn any(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT EXISTS (SELECT 1 FROM account)", [], |row| row.get(0))
}

pub(super) fn bootstrap(
    connection: &Connection,
    email: String,
    password_hash: String,
    now: Timestamp,
) -> Result<Option<Account>, Fault> {
    // In the one writer's transaction: of many callers one finds the install empty.
    if any(connection)? {
        return Ok(None);
    }
    let oldest: Option<[u8; 16]> =
        connection.query_row("SELECT id FROM tenant ORDER BY rid LIMIT 1", [], |row| rows::bytes(row, 0)).optional()?;
    let tenant = match oldest {
        Some(id) => TenantId::from_bytes(id),
        None => tenants::create(connection, "default".to_owned(), now)?.id,
    };
    create(connection, &first(tenant, email, password_hash), now).map(Some)
}

/// The install's first account: it runs the install and its first tenant.
pub(crate) fn first(tenant: TenantId, email: String, password_hash: String) -> AccountDraft {
    AccountDraft {
        tenant,
        authority: Authority::TenantAdmin,
        operator: true,
        email,
        first_name: None,
        last_name: None,
        additional_info: None,
        password_hash: Some(password_hash),
    }
}

pub(crate) fn one(connection: &Connection, id: UserId) -> rusqlite::Result<Option<Account>> {
    let sql = format!("SELECT {COLUMNS} FROM account WHERE id = ?1");
    connection.prepare_cached(&sql)?.query_row([id.as_bytes()], read).optional()
}

pub(super) fn list(
    connection: &Connection,
    tenant: TenantId,
    customer: Option<CustomerId>,
    request: &PageRequest,
) -> rusqlite::Result<Page<Account>> {
    match customer {
        None => page_of(connection, "WHERE tenant = ?1", &[tenant.as_bytes()], request),
        Some(customer) => {
            let from = "WHERE tenant = ?1 AND customer = ?2";
            page_of(connection, from, &[tenant.as_bytes(), customer.as_bytes()], request)
        }
    }
}

/// A page of accounts by e-mail. `from` continues `FROM account`, with its conditions.
pub(crate) fn page_of(
    connection: &Connection,
    from: &str,
    values: &[&dyn rusqlite::ToSql],
    request: &PageRequest,
) -> rusqlite::Result<Page<Account>> {
    page(connection, COLUMNS, &format!("account {from}"), "email", values, request, read)
}

pub(super) fn by_email(connection: &Connection, email: &str) -> rusqlite::Result<Option<(Account, Option<String>)>> {
    let sql = format!("SELECT {COLUMNS}, password_hash FROM account WHERE email = ?1");
    connection.prepare_cached(&sql)?.query_row([folded(email)], |row| Ok((read(row)?, row.get(10)?))).optional()
}

pub(super) fn change(
    connection: &Connection,
    tenant: TenantId,
    id: UserId,
    change: &AccountChange,
    by: By,
) -> Result<Account, Fault> {
    connection
        .prepare_cached(
            "UPDATE account SET first_name = ?3, last_name = ?4, additional_info = ?5 WHERE id = ?1 AND tenant = ?2",
        )?
        .execute(params![
            id.as_bytes(),
            tenant.as_bytes(),
            change.first_name,
            change.last_name,
            change.additional_info
        ])?;
    let account = found(one(connection, id)?.filter(|account| account.tenant == tenant), "account")?;
    audit(connection, tenant, "account.changed", &id.to_string(), by)?;
    Ok(account)
}

pub(super) fn delete(connection: &Connection, tenant: TenantId, id: UserId) -> Result<(), Fault> {
    let account = found(one(connection, id)?.filter(|account| account.tenant == tenant), "account")?;
    if account.operator {
        let others: bool = connection.query_row(
            "SELECT EXISTS (SELECT 1 FROM account WHERE operator = 1 AND id <> ?1)",
            [id.as_bytes()],
            |row| row.get(0),
        )?;
        if !others {
            return Err(LAST_OPERATOR.into());
        }
    }
    connection.prepare_cached("DELETE FROM account WHERE id = ?1")?.execute([id.as_bytes()])?;
    Ok(())
}

pub(super) fn set_password(connection: &Connection, id: UserId, password_hash: &str) -> Result<(), Fault> {
    let changed = connection
        .prepare_cached(
            "UPDATE account SET password_hash = ?2, session_epoch = session_epoch + 1, activation_digest = NULL, \
             activation_until = NULL WHERE id = ?1",
        )?
        .execute(params![id.as_bytes(), password_hash])?;
    if changed == 0 {
        return Err(DirectoryError::NotFound("account").into());
    }
    connection.prepare_cached("DELETE FROM session WHERE account = ?1")?.execute([id.as_bytes()])?;
    Ok(())
}

pub(super) fn set_activation(
    connection: &Connection,
    tenant: TenantId,
    id: UserId,
    digest: [u8; 32],
    expires_at: Timestamp,
) -> Result<(), Fault> {
    let changed = connection
        .prepare_cached(
            "UPDATE account SET activation_digest = ?3, activation_until = ?4 WHERE id = ?1 AND tenant = ?2",
        )?
        .execute(params![id.as_bytes(), tenant.as_bytes(), digest, expires_at.as_millis()])?;
    if changed == 0 { Err(DirectoryError::NotFound("account").into()) } else { Ok(()) }
}

pub(super) fn activate(
    connection: &Connection,
    digest: [u8; 32],
    password_hash: &str,
    now: Timestamp,
) -> Result<Option<Account>, Fault> {
    let id: Option<[u8; 16]> = connection
        .prepare_cached("SELECT id FROM account WHERE activation_digest = ?1 AND activation_until > ?2")?
        .query_row(params![digest, now.as_millis()], |row| rows::bytes(row, 0))
        .optional()?;
    let Some(id) = id.map(UserId::from_bytes) else { return Ok(None) };
    set_password(connection, id, password_hash)?;
    Ok(one(connection, id)?)
}
