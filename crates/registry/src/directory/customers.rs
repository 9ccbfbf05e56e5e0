//! Owners of devices.

use claim::directory::{Customer, DirectoryError, Page, PageRequest};
use claim::{CustomerId, TenantId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{broken_reference, found, page, taken};
use crate::rows;
use crate::writer::Fault;

pub(crate) const COLUMNS: &str = "id, tenant, title, additional_info, created_at, version";

/// It goes only when nothing is its own any more.
pub(crate) const OWNS: DirectoryError = DirectoryError::InUse("the customer owns devices");

fn read(row: &Row<'_>) -> rusqlite::Result<Customer> {
    Ok(Customer {
        id: CustomerId::from_bytes(rows::bytes(row, 0)?),
        tenant: TenantId::from_bytes(rows::bytes(row, 1)?),
        title: row.get(2)?,
        additional_info: row.get(3)?,
        created_at: rows::instant(row, 4)?,
        version: row.get(5)?,
    })
}

pub(super) fn create(
    connection: &Connection,
    tenant: TenantId,
    title: String,
    additional_info: Option<String>,
    now: Timestamp,
) -> Result<Customer, Fault> {
    let id = CustomerId::random();
    connection
        .prepare_cached(
            "INSERT INTO customer (id, tenant, title, additional_info, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![id.as_bytes(), tenant.as_bytes(), title, additional_info, now.as_millis()])
        .map_err(taken("title"))?;
    Ok(Customer { id, tenant, title, additional_info, created_at: now, version: 1 })
}

pub(super) fn update(
    connection: &Connection,
    tenant: TenantId,
    id: CustomerId,
    title: &str,
    additional_info: Option<&str>,
) -> Result<Customer, Fault> {
    connection
        .prepare_cached(
            "UPDATE customer SET title = ?3, additional_info = ?4, version = version + 1 WHERE id = ?1 AND tenant = ?2",
        )?
        .execute(params![id.as_bytes(), tenant.as_bytes(), title, additional_info])
        .map_err(taken("title"))?;
    Ok(found(one(connection, tenant, id)?, "customer")?)
}

pub(crate) fn one(connection: &Connection, tenant: TenantId, id: CustomerId) -> rusqlite::Result<Option<Customer>> {
    let sql = format!("SELECT {COLUMNS} FROM customer WHERE id = ?1 AND tenant = ?2");
    connection.prepare_cached(&sql)?.query_row(params![id.as_bytes(), tenant.as_bytes()], read).optional()
}

pub(super) fn list(
    connection: &Connection,
    tenant: TenantId,
    request: &PageRequest,
) -> rusqlite::Result<Page<Customer>> {
    page(connection, COLUMNS, "customer WHERE tenant = ?1", "title", &[tenant.as_bytes()], request, read)
}

pub(super) fn delete(connection: &Connection, tenant: TenantId, id: CustomerId) -> Result<(), Fault> {
    let gone = connection
        .prepare_cached("DELETE FROM customer WHERE id = ?1 AND tenant = ?2")?
        .execute(params![id.as_bytes(), tenant.as_bytes()])
        .map_err(broken_reference(OWNS))?;
    if gone == 0 { Err(DirectoryError::NotFound("customer").into()) } else { Ok(()) }
}
