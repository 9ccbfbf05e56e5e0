//! What a maker does about claims under way, and looks at: pending claims made void, gateways.

use claim::applications::By;
use claim::directory::{Answer, DeviceRecord, Page, PageRequest};
use claim::event::MakerEvent;
use claim::gateways::Gateways;
use claim::ports::{VoidPending, WriteError};
use claim::{DeviceId, PortFuture, TenantId, Timestamp};
use rusqlite::{Connection, params};

use crate::claims::standing;
use crate::directory::devices;
use crate::listings::Deed;
use crate::lookup::Forget;
use crate::sqlite::SqliteRegistry;
use crate::writer::{After, NotWritten};

impl SqliteRegistry {
    /// Moves the fence of a device that has no owner; with its audit row and event.
    pub(crate) async fn make_void(&self, request: VoidPending<'_>) -> Result<Option<Timestamp>, WriteError> {
        let VoidPending { tenant, device, until, account, now, .. } = request;
        let change = move |connection: &Connection, after: &mut After| {
            let Some(before) = standing(connection, tenant, device)?.filter(|before| before.owner.is_none()) else {
                return Ok(None);
            };
            let fence = until.max(before.fence.unwrap_or(until));
            connection
                .prepare_cached(
                    "UPDATE device SET claim_reset_at = ?3, version = version + 1 \
                     WHERE id = ?1 AND tenant = ?2 AND owner IS NULL",
                )?
                .execute(params![device.as_bytes(), tenant.as_bytes(), fence.as_millis()])?;
            let (subject, name, event) = (device.as_bytes(), before.name.as_str(), MakerEvent::ClaimRevoked);
            Deed { tenant, subject, name, event, reason: None }.record(connection, after, By { account, now })?;
            after.forget.push(Forget::Device(device));
            Ok(Some(fence))
        };
        match self.write(change).await {
            Ok(fence) => Ok(fence),
            Err(NotWritten::Refused(_) | NotWritten::Unavailable) => Err(WriteError::Unavailable),
            Err(NotWritten::Unknown) => Err(WriteError::OutcomeUnknown),
        }
    }
}

impl Gateways for SqliteRegistry {
    fn gateways(&self, tenant: TenantId, page: PageRequest) -> Answer<'_, Page<DeviceRecord>> {
        PortFuture::later(self.look(move |connection| {
            let condition = "d.tenant = ?1 AND d.gateway";
            devices::page_of(connection, condition, &[tenant.as_bytes()], &page)
        }))
    }

    fn children(&self, tenant: TenantId, gateway: DeviceId, page: PageRequest) -> Answer<'_, Page<DeviceRecord>> {
        PortFuture::later(self.look(move |connection| {
            let condition = "d.tenant = ?1 AND d.id IN (SELECT device FROM relation WHERE gateway = ?2)";
            devices::page_of(connection, condition, &[tenant.as_bytes(), gateway.as_bytes()], &page)
        }))
    }
}
