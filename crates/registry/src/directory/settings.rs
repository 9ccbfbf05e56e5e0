//! What a maker sets on a device for claiming: `claimingAllowed`, `claimingData`, relations to gateways.

use claim::applications::By;
use claim::directory::{ClaimSettings, ClaimSettingsChange, DirectoryError};
use claim::event::MakerEvent;
use claim::{DeviceId, TenantId, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use super::{devices, found};
use crate::listings::Deed;
use crate::listings::codes::OWNED;
use crate::lookup::Forget;
use crate::rows;
use crate::writer::{After, Fault};

pub(crate) const NO_GATEWAY: DirectoryError = DirectoryError::Refused("the first device is not a gateway");
pub(crate) const ITSELF: DirectoryError = DirectoryError::Refused("a gateway is not related to itself");

pub(super) fn read(
    connection: &Connection,
    tenant: TenantId,
    device: DeviceId,
) -> rusqlite::Result<Option<ClaimSettings>> {
    connection
        .prepare_cached(
            "SELECT claiming_allowed, claiming_allowed_at, code_until, \
             CASE WHEN code_any_case IS NULL THEN code_set_at END FROM device WHERE id = ?1 AND tenant = ?2",
        )?
        .query_row(params![device.as_bytes(), tenant.as_bytes()], |row| {
            Ok(ClaimSettings {
                claiming_allowed: row.get::<_, Option<bool>>(0)?.zip(rows::optional_instant(row, 1)?),
                claiming_data: rows::optional_instant(row, 2)?.zip(rows::optional_instant(row, 3)?),
            })
        })
        .optional()
}

pub(super) fn change(
    connection: &Connection,
    after: &mut After,
    (tenant, device): (TenantId, DeviceId),
    change: &ClaimSettingsChange,
    by: By,
) -> Result<(), Fault> {
    let now = by.now;
    let record = found(devices::one(connection, tenant, device)?, "device")?;
    if record.owner.is_some() && matches!(change.claiming_data, Some(Some(_))) {
        return Err(OWNED.into());
    }
    let deed = |event, after: &mut After| {
        let name = record.name.as_str();
        Deed { tenant, subject: device.as_bytes(), name, event, reason: None }.record(connection, after, by)
    };
    let key = params![device.as_bytes(), tenant.as_bytes()];
    if let Some(allowed) = change.claiming_allowed {
        connection
            .prepare_cached(
                "UPDATE device SET claiming_allowed = ?3, claiming_allowed_at = ?4, version = version + 1 \
                 WHERE id = ?1 AND tenant = ?2",
            )?
            .execute(params![key[0], key[1], allowed, allowed.map(|_| now.as_millis())])?;
        deed(MakerEvent::ClaimingAllowedChanged, after)?;
    }
    if let Some(code) = &change.claiming_data {
        let (digest, until) = code.map(|(digest, until)| (*digest.as_bytes(), until.as_millis())).unzip();
        connection
            .prepare_cached(
                "UPDATE device SET code_digest = ?3, code_until = ?4, code_set_at = ?5, code_from = NULL, \
                 code_any_case = NULL, code_sealed = NULL, generation = generation + 1, \
                 version = version + 1 WHERE id = ?1 AND tenant = ?2",
            )?
            .execute(params![key[0], key[1], digest, until, code.map(|_| now.as_millis())])?;
        deed(if code.is_some() { MakerEvent::CodeSet } else { MakerEvent::CodeDeleted }, after)?;
    }
    after.forget.push(Forget::Device(device));
    Ok(())
}

pub(super) fn relate(
    connection: &Connection,
    after: &mut After,
    tenant: TenantId,
    gateway: DeviceId,
    device: DeviceId,
    now: Timestamp,
) -> Result<(), Fault> {
    let of_gateway = found(devices::one(connection, tenant, gateway)?, "gateway")?;
    found(devices::one(connection, tenant, device)?, "device")?;
    if !of_gateway.gateway {
        return Err(NO_GATEWAY.into());
    }
    if gateway == device {
        return Err(ITSELF.into());
    }
    crate::children::relate(connection, gateway, device, now.as_millis())?;
    after.forget.push(Forget::Gateways(device));
    Ok(())
}

pub(super) fn unrelate(
    connection: &Connection,
    after: &mut After,
    tenant: TenantId,
    gateway: DeviceId,
    device: DeviceId,
) -> Result<(), Fault> {
    found(devices::one(connection, tenant, gateway)?, "gateway")?;
    let gone = connection
        .prepare_cached("DELETE FROM relation WHERE gateway = ?1 AND device = ?2")?
        .execute(params![gateway.as_bytes(), device.as_bytes()])?;
    after.forget.push(Forget::Gateways(device));
    if gone == 0 { Err(DirectoryError::NotFound("relation").into()) } else { Ok(()) }
}
