//! What a maker does about claims under way. See `crate::oversight`.

use claim::applications::By;
use claim::event::MakerEvent;
use claim::ports::{VoidPending, WriteError};
use claim::{DeviceId, TenantId, Timestamp};

use super::claims::locked;
use super::db::{Db, Fault};
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
