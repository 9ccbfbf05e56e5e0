//! Makers. See `crate::directory::tenants`.

use claim::applications::By;
use claim::directory::{DirectoryError, Page, PageRequest, Tenant};
use claim::{TenantId, Timestamp};
use tokio_postgres::Row;

use super::{audit, profiles};
use crate::directory::found;
use crate::directory::tenants::{COLUMNS, HAS_LAST_OPERATOR, LAST, OWNED};
use crate::lookup::Forget;
use crate::postgres::answers::{page, taken};
use crate::postgres::db::{Db, Fault};
use crate::postgres::listings::applications;
use crate::postgres::rows;
use crate::writer::After;

fn read(row: &Row) -> Result<Tenant, Fault> {
    Ok(Tenant {
        id: TenantId::from_bytes(rows::id(row, 0)?),
        title: rows::get(row, 1)?,
        created_at: rows::instant(row, 2)?,
        version: rows::get(row, 3)?,
    })
}

pub(super) async fn create(db: &Db, title: &str, now: Timestamp) -> Result<Tenant, Fault> {
    let id = TenantId::random();
    let sql = "INSERT INTO tenant (id, title, created_at) VALUES ($1, $2, $3)";
    db.run(sql, &[&id.uuid(), &title, &now.as_millis()]).await.map_err(taken("title"))?;
    profiles::create_default(db, id, now).await?;
    applications::create_default(db, id, now).await?;
    Ok(Tenant { id, title: title.to_owned(), created_at: now, version: 1 })
}

pub(super) async fn rename(db: &Db, id: TenantId, title: &str, by: By) -> Result<Tenant, Fault> {
    let sql = format!("UPDATE tenant SET title = $2, version = version + 1 WHERE id = $1 RETURNING {COLUMNS}");
    let row = db.row(&sql, &[&id.uuid(), &title]).await.map_err(taken("title"))?;
    let tenant = read(&found(row, "tenant")?)?;
    audit(db, id, "tenant.renamed", title, by).await?;
    Ok(tenant)
}

pub(super) async fn list(db: &Db, request: &PageRequest) -> Result<Page<Tenant>, Fault> {
    page(db, COLUMNS, "tenant WHERE true", "title", &[], request, read).await
}

pub(super) async fn one(db: &Db, id: TenantId) -> Result<Option<Tenant>, Fault> {
    let row = db.row(&format!("SELECT {COLUMNS} FROM tenant WHERE id = $1"), &[&id.uuid()]).await?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn delete(db: &Db, after: &mut After, id: TenantId, now: Timestamp) -> Result<(), Fault> {
    if one(db, id).await?.is_none() {
        return Err(DirectoryError::NotFound("tenant").into());
    }
    let sql = "SELECT EXISTS (SELECT 1 FROM tenant WHERE id <> $1), \
         EXISTS (SELECT 1 FROM account WHERE operator AND tenant <> $1), \
         EXISTS (SELECT 1 FROM device WHERE tenant = $1 AND owner IS NOT NULL)";
    let row = db.one(sql, &[&id.uuid()]).await?;
    if !rows::get::<bool>(&row, 0)? {
        return Err(LAST.into());
    }
    if !rows::get::<bool>(&row, 1)? {
        return Err(HAS_LAST_OPERATOR.into());
    }
    if rows::get::<bool>(&row, 2)? {
        return Err(OWNED.into());
    }
    // Sessions of its devices end: their events go out before the devices do.
    let sql = "INSERT INTO outbox (at, tenant, device, name, kind) \
         SELECT $2, tenant, id, name, 'credential_revoked' FROM device WHERE tenant = $1";
    db.run(sql, &[&id.uuid(), &now.as_millis()]).await?;
    // In this order: devices refer to profiles, and both cascade from the tenant.
    db.run("DELETE FROM device WHERE tenant = $1", &[&id.uuid()]).await?;
    db.run("DELETE FROM tenant WHERE id = $1", &[&id.uuid()]).await?;
    after.event = true;
    after.forget.push(Forget::Everything);
    Ok(())
}
