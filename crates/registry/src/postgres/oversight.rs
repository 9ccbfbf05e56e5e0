//! What a maker does about claims under way, and looks at: pending claims made void, gateways. See `crate::oversight`.

use claim::applications::By;
use claim::directory::{Answer, DeviceRecord, Page, PageRequest};
use claim::event::MakerEvent;
use claim::gateways::Gateways;
use claim::ports::{VoidPending, WriteError};
use claim::{DeviceId, PortFuture, TenantId, Timestamp};

use super::claims::locked;
use super::db::{Db, Fault};
use super::directory::devices;
use super::write::Way;
use super::{After, PostgresRegistry};
use crate::listings::Deed;
use crate::lookup::Forget;
use crate::writer::NotWritten;

impl PostgresRegistry {
    /// Moves the fence of a device that has no owner; with its audit row and event.
    pub(super) async fn make_void(&self, request: VoidPending<'_>) -> Result<Option<Timestamp>, WriteError> {
        let VoidPending { tenant, device, until, account, now, .. } = request;
        let by = By { account, now };
        let written =
            self.write_as(Way::ReadCommitted, (tenant, device, until, by), |db, after, (tenant, device, until, by)| {
                Box::pin(move_fence(db, after, *tenant, *device, *until, *by))
            });
        written.await.map_err(|error| match error {
            NotWritten::Refused(_) | NotWritten::Unavailable => WriteError::Unavailable,
            NotWritten::Unknown => WriteError::OutcomeUnknown,
        })
    }
}

async fn move_fence(
    db: &Db,
    after: &mut After,
    tenant: TenantId,
    device: DeviceId,
    until: Timestamp,
    by: By,
) -> Result<Option<Timestamp>, Fault> {
    let Some(before) = locked(db, tenant, device).await?.filter(|before| before.owner.is_none()) else {
        return Ok(None);
    };
    let fence = until.max(before.fence.unwrap_or(until));
    let sql =
        "UPDATE device SET claim_reset_at = $3, version = version + 1 WHERE id = $1 AND tenant = $2 AND owner IS NULL";
    db.run(sql, &[&device.uuid(), &tenant.uuid(), &fence.as_millis()]).await?;
    let (subject, name, event) = (device.as_bytes(), before.name.as_str(), MakerEvent::ClaimRevoked);
    Deed { tenant, subject, name, event, reason: None }.record_in(db, after, by).await?;
    after.forget.push(Forget::Device(device));
    Ok(Some(fence))
}

impl Gateways for PostgresRegistry {
    fn gateways(&self, tenant: TenantId, page: PageRequest) -> Answer<'_, Page<DeviceRecord>> {
        PortFuture::later(self.look((tenant, page), |db, (tenant, page)| Box::pin(gateways(db, *tenant, page))))
    }

    fn children(&self, tenant: TenantId, gateway: DeviceId, page: PageRequest) -> Answer<'_, Page<DeviceRecord>> {
        PortFuture::later(self.look((tenant, gateway, page), |db, (tenant, gateway, page)| {
            Box::pin(children(db, *tenant, *gateway, page))
        }))
    }
}

async fn gateways(db: &Db, tenant: TenantId, request: &PageRequest) -> Result<Page<DeviceRecord>, Fault> {
    devices::page_of(db, "d.tenant = $1 AND d.gateway", &[&tenant.uuid()], request).await
}

async fn children(
    db: &Db,
    tenant: TenantId,
    gateway: DeviceId,
    request: &PageRequest,
) -> Result<Page<DeviceRecord>, Fault> {
    let condition = "d.tenant = $1 AND d.id IN (SELECT device FROM relation WHERE gateway = $2)";
    devices::page_of(db, condition, &[&tenant.uuid(), &gateway.uuid()], request).await
}
