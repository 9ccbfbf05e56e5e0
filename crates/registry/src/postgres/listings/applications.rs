//! Applications. See `crate::listings::applications`.

use claim::applications::{Application, ApplicationChange, ApplicationDraft, ApplicationId, By};
use claim::directory::{Page, PageRequest};
use claim::event::MakerEvent;
use claim::{CustomerId, ListingId, TenantId, Timestamp};
use tokio_postgres::Row;

use super::listing;
use crate::directory::found;
use crate::listings::Deed;
use crate::listings::applications::{COLUMNS, IN_USE, may_go, room, turned};
use crate::lookup::Forget;
use crate::postgres::After;
use crate::postgres::answers::{broken_reference, page, taken};
use crate::postgres::db::{Db, Fault};
use crate::postgres::rows;

fn read(row: &Row) -> Result<Application, Fault> {
    Ok(Application {
        id: ApplicationId::from_bytes(rows::id(row, 0)?),
        tenant: TenantId::from_bytes(rows::id(row, 1)?),
        listing: listing(row, 2)?,
        customer: rows::optional_id(row, 3)?.map(CustomerId::from_bytes),
        claiming_authorized: rows::get(row, 4)?,
        invalidate_code_on_claim: rows::get(row, 5)?,
        created_at: rows::instant(row, 6)?,
    })
}

/// A new tenant's `default`, authorised.
pub(crate) async fn create_default(db: &Db, tenant: TenantId, now: Timestamp) -> Result<(), Fault> {
    let sql = "INSERT INTO application (id, tenant, listing, claiming_authorized, created_at) \
         VALUES ($1, $2, 'default', TRUE, $3)";
    db.run(sql, &[&ApplicationId::random().uuid(), &tenant.uuid(), &now.as_millis()]).await?;
    Ok(())
}

pub(super) async fn create(
    db: &Db,
    after: &mut After,
    tenant: TenantId,
    draft: &ApplicationDraft,
    by: By,
) -> Result<Application, Fault> {
    let customer = draft.customer.map(|customer| customer.uuid());
    if let Some(customer) = customer {
        // Held, so that applications made at once are counted one after the other.
        let sql = "SELECT id FROM customer WHERE id = $1 AND tenant = $2 FOR NO KEY UPDATE";
        found(db.row(sql, &[&customer, &tenant.uuid()]).await?, "customer")?;
        let sql = "SELECT count(*) FROM application WHERE customer = $1";
        room(rows::count(&db.one(sql, &[&customer]).await?, 0)?, draft.most)?;
    }
    let id = ApplicationId::random();
    let sql = "INSERT INTO application (id, tenant, listing, customer, claiming_authorized, invalidate_code_on_claim, \
         created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let (name, created_at) = (draft.listing.as_str(), by.now.as_millis());
    let flags = (draft.claiming_authorized, draft.invalidate_code_on_claim);
    db.run(sql, &[&id.uuid(), &tenant.uuid(), &name, &customer, &flags.0, &flags.1, &created_at])
        .await
        .map_err(taken("application id"))?;
    Deed { tenant, subject: id.as_bytes(), name, event: MakerEvent::ApplicationCreated, reason: None }
        .record_in(db, after, by)
        .await?;
    Ok(found(one(db, tenant, &draft.listing).await?, "application")?)
}

pub(super) async fn list(
    db: &Db,
    tenant: TenantId,
    customer: Option<CustomerId>,
    request: &PageRequest,
) -> Result<Page<Application>, Fault> {
    match customer {
        None => page(db, COLUMNS, "application WHERE tenant = $1", "listing", &[&tenant.uuid()], request, read).await,
        Some(customer) => {
            let from = "application WHERE tenant = $1 AND customer = $2";
            page(db, COLUMNS, from, "listing", &[&tenant.uuid(), &customer.uuid()], request, read).await
        }
    }
}

pub(super) async fn one(db: &Db, tenant: TenantId, listing: &ListingId) -> Result<Option<Application>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM application WHERE tenant = $1 AND listing = $2");
    db.row(&sql, &[&tenant.uuid(), &listing.as_str()]).await?.as_ref().map(read).transpose()
}

/// An application that nobody else changes until the end of the transaction.
async fn held(db: &Db, tenant: TenantId, listing: &ListingId) -> Result<Option<Application>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM application WHERE tenant = $1 AND listing = $2 FOR NO KEY UPDATE");
    db.row(&sql, &[&tenant.uuid(), &listing.as_str()]).await?.as_ref().map(read).transpose()
}

pub(super) async fn change(
    db: &Db,
    after: &mut After,
    tenant: TenantId,
    listing: &ListingId,
    change: ApplicationChange,
    by: By,
) -> Result<Application, Fault> {
    let before = found(held(db, tenant, listing).await?, "application")?;
    let authorized = change.claiming_authorized.unwrap_or(before.claiming_authorized);
    let invalidate = change.invalidate_code_on_claim.unwrap_or(before.invalidate_code_on_claim);
    let sql = "UPDATE application SET claiming_authorized = $2, invalidate_code_on_claim = $3 WHERE id = $1";
    db.run(sql, &[&before.id.uuid(), &authorized, &invalidate]).await?;
    if authorized != before.claiming_authorized {
        let (subject, event) = (before.id.as_bytes(), turned(authorized));
        let deed = Deed { tenant, subject, name: listing.as_str(), event, reason: None };
        deed.record_in(db, after, by).await?;
        // Any number of devices are at home in it.
        after.forget.push(Forget::Everything);
    }
    Ok(found(one(db, tenant, listing).await?, "application")?)
}

/// Refuses what [`delete`] would refuse, before anything that goes with the application is removed.
pub(super) async fn deletable(db: &Db, tenant: TenantId, listing: &ListingId) -> Result<(), Fault> {
    let application = found(held(db, tenant, listing).await?, "application")?;
    may_go(listing)?;
    let sql = "SELECT EXISTS (SELECT 1 FROM device WHERE application = $1 OR home_application = $1)";
    let used: bool = rows::get(&db.one(sql, &[&application.id.uuid()]).await?, 0)?;
    if used { Err(IN_USE.into()) } else { Ok(()) }
}

pub(super) async fn delete(
    db: &Db,
    after: &mut After,
    tenant: TenantId,
    listing: &ListingId,
    by: By,
) -> Result<(), Fault> {
    let application = found(held(db, tenant, listing).await?, "application")?;
    may_go(listing)?;
    let id = application.id;
    db.run("DELETE FROM application WHERE id = $1", &[&id.uuid()]).await.map_err(broken_reference(IN_USE))?;
    let event = MakerEvent::ApplicationDeleted;
    let deed = Deed { tenant, subject: id.as_bytes(), name: listing.as_str(), event, reason: None };
    deed.record_in(db, after, by).await
}
