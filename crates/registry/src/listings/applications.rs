//! Applications.

use claim::applications::{Application, ApplicationChange, ApplicationDraft, ApplicationId, By};
use claim::directory::{DirectoryError, Page, PageRequest};
use claim::event::MakerEvent;
use claim::{CustomerId, ListingId, TenantId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Deed, listing};
use crate::directory::{broken_reference, customers, found, page, taken};
use crate::lookup::Forget;
use crate::rows;
use crate::writer::{After, Fault};

pub(crate) const COLUMNS: &str =
    "id, tenant, listing, customer, claiming_authorized, invalidate_code_on_claim, created_at";

fn read(row: &Row<'_>) -> rusqlite::Result<Application> {
    Ok(Application {
        id: ApplicationId::from_bytes(rows::bytes(row, 0)?),
        tenant: TenantId::from_bytes(rows::bytes(row, 1)?),
        listing: listing(row, 2)?,
        customer: rows::optional_bytes(row, 3)?.map(CustomerId::from_bytes),
        claiming_authorized: row.get(4)?,
        invalidate_code_on_claim: row.get(5)?,
        created_at: rows::instant(row, 6)?,
    })
}

/// A new tenant's `default`, authorised.
pub(crate) fn create_default(connection: &Connection, tenant: TenantId, now: Timestamp) -> Result<(), Fault> {
    connection
        .prepare_cached(
            "INSERT INTO application (id, tenant, listing, claiming_authorized, created_at) VALUES (?1, ?2, 'default', 1, ?3)",
        )?
        .execute(params![ApplicationId::random().as_bytes(), tenant.as_bytes(), now.as_millis()])?;
    Ok(())
}

pub(super) fn create(
    connection: &Connection,
    after: &mut After,
    tenant: TenantId,
    draft: &ApplicationDraft,
    by: By,
) -> Result<Application, Fault> {
    if let Some(customer) = draft.customer {
        found(customers::one(connection, tenant, customer)?, "customer")?;
        let count: u32 = connection
            .prepare_cached("SELECT count(*) FROM application WHERE customer = ?1")?
            .query_row([customer.as_bytes()], |row| row.get(0))?;
        room(count, draft.most)?;
    }
    let id = ApplicationId::random();
    connection
        .prepare_cached(
            "INSERT INTO application (id, tenant, listing, customer, claiming_authorized, invalidate_code_on_claim, \
             created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            id.as_bytes(),
            tenant.as_bytes(),
            draft.listing.as_str(),
            draft.customer.as_ref().map(|customer| customer.as_bytes().as_slice()),
            draft.claiming_authorized,
            draft.invalidate_code_on_claim,
            by.now.as_millis()
        ])
        .map_err(taken("application id"))?;
    let name = draft.listing.as_str();
    Deed { tenant, subject: id.as_bytes(), name, event: MakerEvent::ApplicationCreated, reason: None }
        .record(connection, after, by)?;
    Ok(found(one(connection, tenant, &draft.listing)?, "application")?)
}

/// Whether a customer with so many applications may have one more.
pub(crate) fn room(count: u32, most: Option<u32>) -> Result<(), DirectoryError> {
    match most.filter(|most| count >= *most) {
        Some(most) => Err(DirectoryError::Full { what: "applications of a customer", most }),
        None => Ok(()),
    }
}

pub(super) fn list(
    connection: &Connection,
    tenant: TenantId,
    customer: Option<CustomerId>,
    request: &PageRequest,
) -> rusqlite::Result<Page<Application>> {
    match customer {
        None => {
            page(connection, COLUMNS, "application WHERE tenant = ?1", "listing", &[tenant.as_bytes()], request, read)
        }
        Some(customer) => {
            let from = "application WHERE tenant = ?1 AND customer = ?2";
            page(connection, COLUMNS, from, "listing", &[tenant.as_bytes(), customer.as_bytes()], request, read)
        }
    }
}

pub(super) fn one(
    connection: &Connection,
    tenant: TenantId,
    listing: &ListingId,
) -> rusqlite::Result<Option<Application>> {
    let sql = format!("SELECT {COLUMNS} FROM application WHERE tenant = ?1 AND listing = ?2");
    connection.prepare_cached(&sql)?.query_row(params![tenant.as_bytes(), listing.as_str()], read).optional()
}

pub(super) fn change(
    connection: &Connection,
    after: &mut After,
    tenant: TenantId,
    listing: &ListingId,
    change: ApplicationChange,
    by: By,
) -> Result<Application, Fault> {
    let before = found(one(connection, tenant, listing)?, "application")?;
    let authorized = change.claiming_authorized.unwrap_or(before.claiming_authorized);
    let invalidate = change.invalidate_code_on_claim.unwrap_or(before.invalidate_code_on_claim);
    connection
        .prepare_cached(
            "UPDATE application SET claiming_authorized = ?3, invalidate_code_on_claim = ?4 \
             WHERE tenant = ?1 AND listing = ?2",
        )?
        .execute(params![tenant.as_bytes(), listing.as_str(), authorized, invalidate])?;
    if authorized != before.claiming_authorized {
        let (subject, event) = (before.id.as_bytes(), turned(authorized));
        let deed = Deed { tenant, subject, name: listing.as_str(), event, reason: None };
        deed.record(connection, after, by)?;
        // Any number of devices are at home in it.
        after.forget.push(Forget::Everything);
    }
    Ok(found(one(connection, tenant, listing)?, "application")?)
}

/// What it is called that claiming was authorised, or is no more.
pub(crate) fn turned(authorized: bool) -> MakerEvent {
    if authorized { MakerEvent::ClaimingAuthorized } else { MakerEvent::ClaimingUnauthorized }
}

/// Why an application stays that devices need.
pub(crate) const IN_USE: DirectoryError = DirectoryError::InUse("devices are listed or at home in this application");

/// `default` stays.
pub(crate) fn may_go(listing: &ListingId) -> Result<(), DirectoryError> {
    match listing.as_str() {
        "default" => Err(DirectoryError::InUse("devices without another application are at home in `default`")),
        _ => Ok(()),
    }
}

/// Refuses what [`delete`] would refuse, before anything that goes with the application is removed.
pub(super) fn deletable(connection: &Connection, tenant: TenantId, listing: &ListingId) -> Result<Application, Fault> {
    let application = found(one(connection, tenant, listing)?, "application")?;
    may_go(listing)?;
    let used: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM device WHERE application = ?1 OR home_application = ?1)")?
        .query_row([application.id.as_bytes()], |row| row.get(0))?;
    if used { Err(IN_USE.into()) } else { Ok(application) }
}

pub(super) fn delete(
    connection: &Connection,
    after: &mut After,
    tenant: TenantId,
    listing: &ListingId,
    by: By,
) -> Result<(), Fault> {
    let application = deletable(connection, tenant, listing)?;
    connection
        .prepare_cached("DELETE FROM application WHERE id = ?1")?
        .execute([application.id.as_bytes()])
        .map_err(broken_reference(IN_USE))?;
    let deed = Deed {
        tenant,
        subject: application.id.as_bytes(),
        name: listing.as_str(),
        event: MakerEvent::ApplicationDeleted,
        reason: None,
    };
    Ok(deed.record(connection, after, by)?)
}
