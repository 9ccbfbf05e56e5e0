//! Owners of devices. See `crate::directory::customers`.

use claim::directory::{Customer, DirectoryError, Page, PageRequest};
use claim::{CustomerId, TenantId, Timestamp};
use tokio_postgres::Row;

use crate::directory::customers::{COLUMNS, OWNS};
use crate::directory::found;
use crate::postgres::answers::{broken_reference, page, taken};
use crate::postgres::db::{Db, Fault};
use crate::postgres::rows;

fn read(row: &Row) -> Result<Customer, Fault> {
    Ok(Customer {
        id: CustomerId::from_bytes(rows::id(row, 0)?),
        tenant: TenantId::from_bytes(rows::id(row, 1)?),
        title: rows::get(row, 2)?,
        additional_info: rows::get(row, 3)?,
        created_at: rows::instant(row, 4)?,
        version: rows::get(row, 5)?,
    })
}

pub(super) async fn create(
    db: &Db,
    tenant: TenantId,
    title: &str,
    additional_info: Option<&str>,
    now: Timestamp,
) -> Result<Customer, Fault> {
    let sql = format!(
        "INSERT INTO customer (id, tenant, title, additional_info, created_at) VALUES ($1, $2, $3, $4, $5) \
         RETURNING {COLUMNS}"
    );
    let id = CustomerId::random().uuid();
    let row = db.one(&sql, &[&id, &tenant.uuid(), &title, &additional_info, &now.as_millis()]).await;
    read(&row.map_err(taken("title"))?)
}

pub(super) async fn update(
    db: &Db,
    tenant: TenantId,
    id: CustomerId,
    title: &str,
    additional_info: Option<&str>,
) -> Result<Customer, Fault> {
    let sql = format!(
        "UPDATE customer SET title = $3, additional_info = $4, version = version + 1 WHERE id = $1 AND tenant = $2 \
         RETURNING {COLUMNS}"
    );
    let row = db.row(&sql, &[&id.uuid(), &tenant.uuid(), &title, &additional_info]).await.map_err(taken("title"))?;
    read(&found(row, "customer")?)
}

pub(crate) async fn one(db: &Db, tenant: TenantId, id: CustomerId) -> Result<Option<Customer>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM customer WHERE id = $1 AND tenant = $2");
    db.row(&sql, &[&id.uuid(), &tenant.uuid()]).await?.as_ref().map(read).transpose()
}

pub(super) async fn list(db: &Db, tenant: TenantId, request: &PageRequest) -> Result<Page<Customer>, Fault> {
    page(db, COLUMNS, "customer WHERE tenant = $1", "title", &[&tenant.uuid()], request, read).await
}

pub(super) async fn delete(db: &Db, tenant: TenantId, id: CustomerId) -> Result<(), Fault> {
    let sql = "DELETE FROM customer WHERE id = $1 AND tenant = $2";
    let gone = db.run(sql, &[&id.uuid(), &tenant.uuid()]).await.map_err(broken_reference(OWNS))?;
    if gone == 0 { Err(DirectoryError::NotFound("customer").into()) } else { Ok(()) }
}
