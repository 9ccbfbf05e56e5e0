//! The outbox. See `crate::outbox`.

use claim::event::MakerEvent;
use claim::{DeviceId, TenantId, Timestamp};
use uuid::Uuid;

use super::db::{Db, Fault};
use crate::outbox::Kind;

pub(crate) async fn insert(
    db: &Db,
    tenant: TenantId,
    device: DeviceId,
    name: &str,
    kind: Kind,
    now: Timestamp,
) -> Result<(), Fault> {
    let (text, owner, claimed_at) = kind.parts();
    let sql =
        "INSERT INTO outbox (at, tenant, device, name, kind, owner, claimed_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let owner = owner.map(|owner| owner.uuid());
    db.run(sql, &[&now.as_millis(), &tenant.uuid(), &device.uuid(), &name, &text, &owner, &claimed_at]).await?;
    Ok(())
}

/// A maker's deed, unless it is for the audit log only.
pub(crate) async fn insert_maker(
    db: &Db,
    tenant: TenantId,
    subject: [u8; 16],
    name: &str,
    event: MakerEvent,
    now: Timestamp,
) -> Result<(), Fault> {
    if !event.quiet() {
        let sql = "INSERT INTO outbox (at, tenant, device, name, kind) VALUES ($1, $2, $3, $4, $5)";
        let subject = Uuid::from_bytes(subject);
        db.run(sql, &[&now.as_millis(), &tenant.uuid(), &subject, &name, &event.name()]).await?;
    }
    Ok(())
}
