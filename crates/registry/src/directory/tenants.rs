//! Makers.

use claim::applications::By;
use claim::directory::{DirectoryError, Page, PageRequest, Tenant};
use claim::{TenantId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{audit, found, page, profiles, taken};
use crate::listings;
use crate::lookup::Forget;
use crate::rows;
use crate::writer::{After, Fault};

pub(crate) const COLUMNS: &str = "id, title, created_at, version";

pub(crate) const LAST: DirectoryError = DirectoryError::InUse("the last tenant of the install stays");
pub(crate) const HAS_LAST_OPERATOR: DirectoryError =
    DirectoryError::InUse("the install's last operator belongs to this tenant");
pub(crate) const OWNED: DirectoryError = DirectoryError::InUse("devices of this tenant have owners");

fn read(row: &Row<'_>) -> rusqlite::Result<Tenant> {
    Ok(Tenant {
        id: TenantId::from_bytes(rows::bytes(row, 0)?),
        title: row.get(1)?,
        created_at: rows::instant(row, 2)?,
        version: row.get(3)?,
    })
}

pub(super) fn create(connection: &Connection, title: String, now: Timestamp) -> Result<Tenant, Fault> {
    let id = TenantId::random();
    connection
        .prepare_cached("INSERT INTO tenant (id, title, created_at) VALUES (?1, ?2, ?3)")?
        .execute(params![id.as_bytes(), title, now.as_millis()])
        .map_err(taken("title"))?;
    profiles::create_default(connection, id, now)?;
    listings::create_default(connection, id, now)?;
    Ok(Tenant { id, title, created_at: now, version: 1 })
}

pub(super) fn rename(connection: &Connection, id: TenantId, title: &str, by: By) -> Result<Tenant, Fault> {
    connection
        .prepare_cached("UPDATE tenant SET title = ?2, version = version + 1 WHERE id = ?1")?
        .execute(params![id.as_bytes(), title])
        .map_err(taken("title"))?;
    let tenant = found(one(connection, id)?, "tenant")?;
    audit(connection, id, "tenant.renamed", title, by)?;
    Ok(tenant)
}

pub(super) fn list(connection: &Connection, request: &PageRequest) -> rusqlite::Result<Page<Tenant>> {
    page(connection, COLUMNS, "tenant WHERE true", "title", &[], request, read)
}

pub(super) fn one(connection: &Connection, id: TenantId) -> rusqlite::Result<Option<Tenant>> {
    let sql = format!("SELECT {COLUMNS} FROM tenant WHERE id = ?1");
    connection.prepare_cached(&sql)?.query_row([id.as_bytes()], read).optional()
}

pub(super) fn delete(connection: &Connection, after: &mut After, id: TenantId, now: Timestamp) -> Result<(), Fault> {
    if one(connection, id)?.is_none() {
        return Err(DirectoryError::NotFound("tenant").into());
    }
    let others: bool =
        connection
            .query_row("SELECT EXISTS (SELECT 1 FROM tenant WHERE id <> ?1)", [id.as_bytes()], |row| row.get(0))?;
    if !others {
        return Err(LAST.into());
    }
    let operators: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM account WHERE operator = 1 AND tenant <> ?1)",
        [id.as_bytes()],
        |row| row.get(0),
    )?;
    if !operators {
        return Err(HAS_LAST_OPERATOR.into());
    }
    let owned: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM device WHERE tenant = ?1 AND owner IS NOT NULL)",
        [id.as_bytes()],
        |row| row.get(0),
    )?;
    if owned {
        return Err(OWNED.into());
    }
    // Sessions of its devices end: their events go out before the devices do.
    connection.execute(
        "INSERT INTO outbox (at, tenant, device, name, kind) \
         SELECT ?2, tenant, id, name, 'credential_revoked' FROM device WHERE tenant = ?1",
        params![id.as_bytes(), now.as_millis()],
    )?;
    // In this order: devices refer to profiles, and both cascade from the tenant.
    connection.execute("DELETE FROM device WHERE tenant = ?1", [id.as_bytes()])?;
    connection.execute("DELETE FROM tenant WHERE id = ?1", [id.as_bytes()])?;
    after.event = true;
    after.forget.push(Forget::Everything);
    Ok(())
}
