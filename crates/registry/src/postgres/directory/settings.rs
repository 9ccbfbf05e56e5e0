//! What a maker sets on a device for claiming: `claimingAllowed`, `claimingData`, relations to gateways. See
//! `crate::directory::settings`.

use claim::applications::By;
use claim::directory::{ClaimSettings, ClaimSettingsChange, DirectoryError};
use claim::event::MakerEvent;
use claim::{DeviceId, TenantId, Timestamp};
use tokio_postgres::Row;

use super::devices;
use crate::directory::found;
use crate::directory::settings::{ITSELF, NO_GATEWAY};
use crate::listings::Deed;
use crate::listings::codes::OWNED;
use crate::lookup::Forget;
use crate::postgres::answers::broken_reference;
use crate::postgres::db::{Db, Fault};
use crate::postgres::rows;
use crate::writer::After;

pub(super) async fn read(db: &Db, tenant: TenantId, device: DeviceId) -> Result<Option<ClaimSettings>, Fault> {
    let sql = "SELECT claiming_allowed, claiming_allowed_at, code_until, \
         CASE WHEN code_any_case IS NULL THEN code_set_at END FROM device WHERE id = $1 AND tenant = $2";
    let settings = |row: &Row| {
        Ok(ClaimSettings {
            claiming_allowed: rows::get::<Option<bool>>(row, 0)?.zip(rows::optional_instant(row, 1)?),
            claiming_data: rows::optional_instant(row, 2)?.zip(rows::optional_instant(row, 3)?),
        })
    };
    db.row(sql, &[&device.uuid(), &tenant.uuid()]).await?.as_ref().map(settings).transpose()
}

pub(super) async fn change(
    db: &Db,
    after: &mut After,
    (tenant, device): (TenantId, DeviceId),
    change: &ClaimSettingsChange,
    by: By,
) -> Result<(), Fault> {
    let now = by.now;
    let record = found(devices::locked(db, tenant, device).await?, "device")?;
    if record.owner.is_some() && matches!(change.claiming_data, Some(Some(_))) {
        return Err(OWNED.into());
    }
    let (subject, name) = (device.as_bytes(), record.name.as_str());
    let deed = |event| Deed { tenant, subject, name, event, reason: None };
    if let Some(allowed) = change.claiming_allowed {
        let sql = "UPDATE device SET claiming_allowed = $3, claiming_allowed_at = $4, version = version + 1 \
             WHERE id = $1 AND tenant = $2";
        let at = allowed.map(|_| now.as_millis());
        db.run(sql, &[&device.uuid(), &tenant.uuid(), &allowed, &at]).await?;
        deed(MakerEvent::ClaimingAllowedChanged).record_in(db, after, by).await?;
    }
    if let Some(code) = &change.claiming_data {
        let sql = "UPDATE device SET code_digest = $3, code_until = $4, code_set_at = $5, code_from = NULL, \
             code_any_case = NULL, code_sealed = NULL, generation = generation + 1, \
             version = version + 1 WHERE id = $1 AND tenant = $2";
        let code = code.as_ref();
        let (digest, until) = code.map(|(digest, until)| (digest.as_bytes().as_slice(), until.as_millis())).unzip();
        let at = code.map(|_| now.as_millis());
        db.run(sql, &[&device.uuid(), &tenant.uuid(), &digest, &until, &at]).await?;
        let event = if code.is_some() { MakerEvent::CodeSet } else { MakerEvent::CodeDeleted };
        deed(event).record_in(db, after, by).await?;
    }
    after.forget.push(Forget::Device(device));
    Ok(())
}

pub(super) async fn relate(
    db: &Db,
    after: &mut After,
    tenant: TenantId,
    gateway: DeviceId,
    device: DeviceId,
    now: Timestamp,
) -> Result<(), Fault> {
    let of_gateway = found(devices::one(db, tenant, gateway).await?, "gateway")?;
    found(devices::one(db, tenant, device).await?, "device")?;
    if !of_gateway.gateway {
        return Err(NO_GATEWAY.into());
    }
    if gateway == device {
        return Err(ITSELF.into());
    }
    let sql = "INSERT INTO relation (gateway, device, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    let related = db.run(sql, &[&gateway.uuid(), &device.uuid(), &now.as_millis()]).await;
    related.map_err(broken_reference(DirectoryError::NotFound("device")))?;
    after.forget.push(Forget::Gateways(device));
    Ok(())
}

pub(super) async fn unrelate(
    db: &Db,
    after: &mut After,
    tenant: TenantId,
    gateway: DeviceId,
    device: DeviceId,
) -> Result<(), Fault> {
    found(devices::one(db, tenant, gateway).await?, "gateway")?;
    let sql = "DELETE FROM relation WHERE gateway = $1 AND device = $2";
    let gone = db.run(sql, &[&gateway.uuid(), &device.uuid()]).await?;
    after.forget.push(Forget::Gateways(device));
    if gone == 0 { Err(DirectoryError::NotFound("relation").into()) } else { Ok(()) }
}
