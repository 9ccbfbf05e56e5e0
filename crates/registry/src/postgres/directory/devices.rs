//! Devices as their maker sees them. See `crate::directory::devices`.

use claim::applications::By;
use claim::device::ProfileId;
use claim::directory::{CredentialView, DeviceDraft, DeviceRecord, DirectoryError, Page, PageRequest};
use claim::event::{Evidence, MakerEvent};
use claim::{CustomerId, DeviceId, DeviceName, TenantId, Timestamp, UserId};
use tokio_postgres::Row;

use super::{credentials, customers, profiles};
use crate::claims::Audit;
use crate::directory::credentials::Vault;
use crate::directory::devices::COLUMNS;
use crate::directory::found;
use crate::listings::Deed;
use crate::lookup::Forget;
use crate::outbox::Kind;
use crate::postgres::answers::page;
use crate::postgres::db::{Db, Fault, Values};
use crate::postgres::{claims, listings, outbox, rows};
use crate::rows::DEVICE_FROM;
use crate::writer::After;

fn read(row: &Row) -> Result<DeviceRecord, Fault> {
    Ok(DeviceRecord {
        id: DeviceId::from_bytes(rows::id(row, 0)?),
        tenant: TenantId::from_bytes(rows::id(row, 1)?),
        owner: rows::optional_id(row, 2)?.map(CustomerId::from_bytes),
        name: rows::name(row, 3)?,
        profile: rows::profile_id(row, 4)?,
        profile_name: rows::get(row, 5)?,
        label: rows::get(row, 6)?,
        gateway: rows::get(row, 7)?,
        additional_info: rows::get(row, 8)?,
        created_at: rows::instant(row, 9)?,
        version: rows::get(row, 10)?,
    })
}

/// What was found a moment ago and is gone, or a name that another device has. An id in `default` is not the maker's choice:
/// when two devices come upon the same, that is no refusal.
fn refused(fault: Fault) -> Fault {
    match fault.constraint() {
        Some("device_name") => DirectoryError::Taken("name").into(),
        Some("device_profile_reference") => DirectoryError::NotFound("device profile").into(),
        Some("device_owner_reference") => DirectoryError::NotFound("customer").into(),
        _ => fault,
    }
}

pub(super) async fn one(db: &Db, tenant: TenantId, id: DeviceId) -> Result<Option<DeviceRecord>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM {DEVICE_FROM} WHERE d.id = $1 AND d.tenant = $2");
    db.row(&sql, &[&id.uuid(), &tenant.uuid()]).await?.as_ref().map(read).transpose()
}

/// A device that nobody else changes, and nobody relates, until this transaction ends.
pub(super) async fn locked(db: &Db, tenant: TenantId, id: DeviceId) -> Result<Option<DeviceRecord>, Fault> {
    let sql = "SELECT 1 FROM device WHERE id = $1 AND tenant = $2 FOR UPDATE";
    db.row(sql, &[&id.uuid(), &tenant.uuid()]).await?;
    // Read after the wait and not in it: its profile may be another one now.
    one(db, tenant, id).await
}

pub(super) async fn by_name(db: &Db, tenant: TenantId, name: &DeviceName) -> Result<Option<DeviceRecord>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM {DEVICE_FROM} WHERE d.tenant = $1 AND d.name = $2");
    db.row(&sql, &[&tenant.uuid(), &name.as_str()]).await?.as_ref().map(read).transpose()
}

pub(super) async fn list(
    db: &Db,
    tenant: TenantId,
    owner: Option<CustomerId>,
    request: &PageRequest,
) -> Result<Page<DeviceRecord>, Fault> {
    match owner {
        None => page_of(db, "d.tenant = $1", &[&tenant.uuid()], request).await,
        Some(owner) => page_of(db, "d.tenant = $1 AND d.owner = $2", &[&tenant.uuid(), &owner.uuid()], request).await,
    }
}

/// A page of devices by name that fit `condition` (of `d`, a device, and `p`, its profile).
pub(crate) async fn page_of(
    db: &Db,
    condition: &str,
    values: Values<'_>,
    request: &PageRequest,
) -> Result<Page<DeviceRecord>, Fault> {
    page(db, COLUMNS, &format!("{DEVICE_FROM} WHERE {condition}"), "d.name", values, request, read).await
}

pub(super) async fn save(
    db: &Db,
    after: &mut After,
    vault: &Vault,
    tenant: TenantId,
    draft: &DeviceDraft,
    by: By,
) -> Result<(DeviceRecord, Option<CredentialView>), Fault> {
    let now = by.now;
    let profile = match (draft.profile, &draft.profile_name) {
        (Some(id), _) => Some(found(profiles::one(db, tenant, id).await?, "device profile")?.id),
        (None, Some(name)) => Some(found(profiles::by_name(db, tenant, name).await?, "device profile")?),
        (None, None) => None,
    };
    let Some(id) = draft.id else {
        let profile = match profile {
            Some(profile) => profile,
            None => profiles::by_name_or_default(db, tenant, None).await?,
        };
        let id = insert(db, tenant, draft, profile, now).await?;
        let credential = credentials::create(db, after, vault, (tenant, id), draft.credential.as_ref(), now).await?;
        after.forget.push(Forget::Device(id));
        deed(tenant, &id, draft.name.as_str(), MakerEvent::DeviceRegistered).record_in(db, after, by).await?;
        return Ok((found(one(db, tenant, id).await?, "device")?, Some(credential)));
    };
    let before = found(locked(db, tenant, id).await?, "device")?;
    let sql = "UPDATE device SET name = $3, profile = $4, label = $5, gateway = $6, additional_info = $7, \
         version = version + 1 WHERE id = $1 AND tenant = $2";
    let values: Values<'_> = &[
        &id.uuid(),
        &tenant.uuid(),
        &draft.name.as_str(),
        &profile.unwrap_or(before.profile).uuid(),
        &draft.label,
        &draft.gateway,
        &draft.additional_info,
    ];
    db.run(sql, values).await.map_err(refused)?;
    let credential = match &draft.credential {
        None => None,
        Some(draft) => Some(credentials::replace(db, after, vault, (tenant, id), draft, now).await?),
    };
    after.forget.push(Forget::Device(id));
    deed(tenant, &id, draft.name.as_str(), MakerEvent::DeviceChanged).record_in(db, after, by).await?;
    if before.gateway != draft.gateway || before.name != draft.name {
        // A session keeps what it signed in as: it must sign in again.
        outbox::insert(db, tenant, id, draft.name.as_str(), Kind::CredentialRevoked, now).await?;
        after.event = true;
    }
    Ok((found(one(db, tenant, id).await?, "device")?, credential))
}

/// What a maker did with a device.
fn deed<'a>(tenant: TenantId, id: &'a DeviceId, name: &'a str, event: MakerEvent) -> Deed<'a> {
    Deed { tenant, subject: id.as_bytes(), name, event, reason: None }
}

async fn insert(
    db: &Db,
    tenant: TenantId,
    draft: &DeviceDraft,
    profile: ProfileId,
    now: Timestamp,
) -> Result<DeviceId, Fault> {
    let id = DeviceId::random();
    let sql = "INSERT INTO device (id, tenant, name, profile, label, gateway, additional_info, created_at, \
         home_application, home_listing, application, listing) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $9, $10) ON CONFLICT DO NOTHING";
    loop {
        let (application, listing) = listings::default_home(db, tenant, &draft.name).await?;
        let values: Values<'_> = &[
            &id.uuid(),
            &tenant.uuid(),
            &draft.name.as_str(),
            &profile.uuid(),
            &draft.label,
            &draft.gateway,
            &draft.additional_info,
            &now.as_millis(),
            &application,
            &listing,
        ];
        if db.run(sql, values).await.map_err(refused)? == 1 {
            return Ok(id);
        }
        if by_name(db, tenant, &draft.name).await?.is_some() {
            return Err(DirectoryError::Taken("name").into());
        }
        // The id in `default` was taken in the same moment: the next is tried.
    }
}

pub(crate) async fn delete(db: &Db, after: &mut After, tenant: TenantId, id: DeviceId, by: By) -> Result<(), Fault> {
    let record = found(locked(db, tenant, id).await?, "device")?;
    credentials::forget(db, after, id).await?;
    for child in db.rows("SELECT device FROM relation WHERE gateway = $1", &[&id.uuid()]).await? {
        after.forget.push(Forget::Gateways(DeviceId::from_bytes(rows::id(&child, 0)?)));
    }
    after.forget.push(Forget::Gateways(id));
    after.forget.push(Forget::Device(id));
    db.run("DELETE FROM device WHERE id = $1 AND tenant = $2", &[&id.uuid(), &tenant.uuid()]).await?;
    outbox::insert(db, tenant, id, record.name.as_str(), Kind::CredentialRevoked, by.now).await?;
    deed(tenant, &id, record.name.as_str(), MakerEvent::DeviceDeleted).record_in(db, after, by).await
}

pub(super) async fn assign_by_admin(
    db: &Db,
    after: &mut After,
    (tenant, device): (TenantId, DeviceId),
    customer: CustomerId,
    account: UserId,
    now: Timestamp,
) -> Result<DeviceRecord, Fault> {
    let before = found(claims::locked(db, tenant, device).await?, "device")?;
    found(customers::one(db, tenant, customer).await?, "customer")?;
    match before.owner {
        Some(owner) if owner == customer => {}
        Some(_) => return Err(DirectoryError::Taken("owner").into()),
        None => {
            let sql = "UPDATE device SET owner = $3, proof_digest = NULL, claimed_at = $4, generation = generation + 1, \
                 version = version + 1, claim_reset_at = greatest($4, claim_reset_at), \
                 claiming_allowed = NULL, claiming_allowed_at = NULL, \
                 code_digest = NULL, code_from = NULL, code_until = NULL, code_set_at = NULL, \
                 code_any_case = NULL, code_sealed = NULL \
                 WHERE id = $1 AND tenant = $2 AND owner IS NULL";
            db.run(sql, &[&device.uuid(), &tenant.uuid(), &customer.uuid(), &now.as_millis()])
                .await
                .map_err(refused)?;
            let audit = Audit { account, device, tenant, action: "assign", outcome: "assigned", now, request_id: 0 };
            audit.write_in(db, Evidence::None, before.generation + 1).await?;
            let kind = Kind::Claimed { owner: customer, at: now };
            outbox::insert(db, tenant, device, &before.name, kind, now).await?;
            after.event = true;
            after.forget.push(Forget::Device(device));
        }
    }
    Ok(found(one(db, tenant, device).await?, "device")?)
}
