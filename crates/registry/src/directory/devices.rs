//! Devices as their maker sees them.

use claim::applications::By;
use claim::directory::{CredentialView, DeviceDraft, DeviceRecord, DirectoryError, Page, PageRequest};
use claim::event::{Evidence, MakerEvent};
use claim::{CustomerId, DeviceId, DeviceName, TenantId, Timestamp, UserId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::credentials::{self, Vault};
use super::{customers, found, page, profiles, taken};
use crate::claims::{Audit, standing};
use crate::listings::{self, Deed};
use crate::lookup::Forget;
use crate::outbox;
use crate::rows;
use crate::writer::{After, Fault};

pub(crate) const COLUMNS: &str = "d.id, d.tenant, d.owner, d.name, d.profile, p.name, d.label, d.gateway, d.additional_info, \
     d.created_at, d.version";

fn read(row: &Row<'_>) -> rusqlite::Result<DeviceRecord> {
    Ok(DeviceRecord {
        id: DeviceId::from_bytes(rows::bytes(row, 0)?),
        tenant: TenantId::from_bytes(rows::bytes(row, 1)?),
        owner: rows::optional_bytes(row, 2)?.map(CustomerId::from_bytes),
        name: rows::name(row, 3)?,
        profile: rows::profile_id(row, 4)?,
        profile_name: row.get(5)?,
        label: row.get(6)?,
        gateway: row.get(7)?,
        additional_info: row.get(8)?,
        created_at: rows::instant(row, 9)?,
        version: row.get(10)?,
    })
}

pub(super) fn one(connection: &Connection, tenant: TenantId, id: DeviceId) -> rusqlite::Result<Option<DeviceRecord>> {
    let sql = format!("SELECT {COLUMNS} FROM {} WHERE d.id = ?1 AND d.tenant = ?2", rows::DEVICE_FROM);
    connection.prepare_cached(&sql)?.query_row(params![id.as_bytes(), tenant.as_bytes()], read).optional()
}

pub(super) fn by_name(
    connection: &Connection,
    tenant: TenantId,
    name: &DeviceName,
) -> rusqlite::Result<Option<DeviceRecord>> {
    let sql = format!("SELECT {COLUMNS} FROM {} WHERE d.tenant = ?1 AND d.name = ?2", rows::DEVICE_FROM);
    connection.prepare_cached(&sql)?.query_row(params![tenant.as_bytes(), name.as_str()], read).optional()
}

pub(super) fn list(
    connection: &Connection,
    tenant: TenantId,
    owner: Option<CustomerId>,
    request: &PageRequest,
) -> rusqlite::Result<Page<DeviceRecord>> {
    match owner {
        None => page_of(connection, "d.tenant = ?1", &[tenant.as_bytes()], request),
        Some(owner) => {
            page_of(connection, "d.tenant = ?1 AND d.owner = ?2", &[tenant.as_bytes(), owner.as_bytes()], request)
        }
    }
}

/// A page of devices by name that fit `condition` (of `d`, a device, and `p`, its profile).
pub(crate) fn page_of(
    connection: &Connection,
    condition: &str,
    values: &[&dyn rusqlite::ToSql],
    request: &PageRequest,
) -> rusqlite::Result<Page<DeviceRecord>> {
    let from = format!("{} WHERE {condition}", rows::DEVICE_FROM);
    page(connection, COLUMNS, &from, "d.name", values, request, read)
}

pub(super) fn save(
    connection: &Connection,
    after: &mut After,
    vault: &Vault,
    tenant: TenantId,
    draft: &DeviceDraft,
    by: By,
) -> Result<(DeviceRecord, Option<CredentialView>), Fault> {
    let now = by.now;
    let deed = |id: &DeviceId, event, after: &mut After| {
        let name = draft.name.as_str();
        Deed { tenant, subject: id.as_bytes(), name, event, reason: None }.record(connection, after, by)
    };
    let profile = match (draft.profile, &draft.profile_name) {
        (Some(id), _) => Some(found(profiles::one(connection, tenant, id)?, "device profile")?.id),
        (None, Some(name)) => Some(found(profiles::by_name(connection, tenant, name)?, "device profile")?),
        (None, None) => None,
    };
    let profile = |before: Option<&DeviceRecord>| match (profile, before) {
        (Some(profile), _) => Ok(profile),
        (None, Some(before)) => Ok(before.profile),
        (None, None) => profiles::by_name_or_default(connection, tenant, None),
    };
    let Some(id) = draft.id else {
        let id = DeviceId::random();
        let home = listings::default_home(connection, tenant, &draft.name)?;
        connection
            .prepare_cached(
                "INSERT INTO device (id, tenant, name, profile, label, gateway, additional_info, created_at, \
                 home_application, home_listing, application, listing) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?9, ?10)",
            )?
            .execute(params![
                id.as_bytes(),
                tenant.as_bytes(),
                draft.name.as_str(),
                profile(None)?.as_bytes(),
                draft.label,
                draft.gateway,
                draft.additional_info,
                now.as_millis(),
                home.0,
                home.1
            ])
            .map_err(taken("name"))?;
        let credential = credentials::create(connection, after, vault, (tenant, id), draft.credential.as_ref(), now)?;
        after.forget.push(Forget::Device(id));
        deed(&id, MakerEvent::DeviceRegistered, after)?;
        let record = found(one(connection, tenant, id)?, "device")?;
        return Ok((record, Some(credential)));
    };
    let before = found(one(connection, tenant, id)?, "device")?;
    connection
        .prepare_cached(
            "UPDATE device SET name = ?3, profile = ?4, label = ?5, gateway = ?6, additional_info = ?7, \
             version = version + 1 WHERE id = ?1 AND tenant = ?2",
        )?
        .execute(params![
            id.as_bytes(),
            tenant.as_bytes(),
            draft.name.as_str(),
            profile(Some(&before))?.as_bytes(),
            draft.label,
            draft.gateway,
            draft.additional_info
        ])
        .map_err(taken("name"))?;
    let credential = match &draft.credential {
        None => None,
        Some(draft) => Some(credentials::replace(connection, after, vault, (tenant, id), draft, now)?),
    };
    after.forget.push(Forget::Device(id));
    deed(&id, MakerEvent::DeviceChanged, after)?;
    if before.gateway != draft.gateway || before.name != draft.name {
        // A session keeps what it signed in as: it must sign in again.
        outbox::insert(connection, tenant, id, draft.name.as_str(), outbox::Kind::CredentialRevoked, now)?;
        after.event = true;
    }
    Ok((found(one(connection, tenant, id)?, "device")?, credential))
}

pub(crate) fn delete(
    connection: &Connection,
    after: &mut After,
    tenant: TenantId,
    id: DeviceId,
    by: By,
) -> Result<(), Fault> {
    let record = found(one(connection, tenant, id)?, "device")?;
    credentials::forget(connection, after, id)?;
    let children: Vec<[u8; 16]> = connection
        .prepare_cached("SELECT device FROM relation WHERE gateway = ?1")?
        .query_map([id.as_bytes()], |row| rows::bytes(row, 0))?
        .collect::<Result<_, _>>()?;
    after.forget.extend(children.into_iter().map(|child| Forget::Gateways(DeviceId::from_bytes(child))));
    after.forget.push(Forget::Gateways(id));
    after.forget.push(Forget::Device(id));
    connection
        .prepare_cached("DELETE FROM device WHERE id = ?1 AND tenant = ?2")?
        .execute(params![id.as_bytes(), tenant.as_bytes()])?;
    outbox::insert(connection, tenant, id, record.name.as_str(), outbox::Kind::CredentialRevoked, by.now)?;
    let (subject, name) = (id.as_bytes(), record.name.as_str());
    let deed = Deed { tenant, subject, name, event: MakerEvent::DeviceDeleted, reason: None };
    Ok(deed.record(connection, after, by)?)
}

pub(super) fn assign_by_admin(
    connection: &Connection,
    after: &mut After,
    (tenant, device): (TenantId, DeviceId),
    customer: CustomerId,
    account: UserId,
    now: Timestamp,
) -> Result<DeviceRecord, Fault> {
    let before = found(standing(connection, tenant, device)?, "device")?;
    found(customers::one(connection, tenant, customer)?, "customer")?;
    match before.owner {
        Some(owner) if owner == customer => {}
        Some(_) => return Err(DirectoryError::Taken("owner").into()),
        None => {
            connection
                .prepare_cached(
                    "UPDATE device SET owner = ?3, proof_digest = NULL, claimed_at = ?4, generation = generation + 1, \
                     version = version + 1, claim_reset_at = max(?4, coalesce(claim_reset_at, ?4)), \
                     claiming_allowed = NULL, claiming_allowed_at = NULL, \
                     code_digest = NULL, code_from = NULL, code_until = NULL, code_set_at = NULL, \
                     code_any_case = NULL, code_sealed = NULL \
                     WHERE id = ?1 AND tenant = ?2 AND owner IS NULL",
                )?
                .execute(params![device.as_bytes(), tenant.as_bytes(), customer.as_bytes(), now.as_millis()])?;
            let audit = Audit { account, device, tenant, action: "assign", outcome: "assigned", now, request_id: 0 };
            audit.write(connection, Evidence::None, before.generation + 1)?;
            let kind = outbox::Kind::Claimed { owner: customer, at: now };
            outbox::insert(connection, tenant, device, &before.name, kind, now)?;
            after.event = true;
            after.forget.push(Forget::Device(device));
        }
    }
    Ok(found(one(connection, tenant, device)?, "device")?)
}
