//! Ownership. See `crate::claims`.

use claim::event::Evidence;
use claim::{CustomerId, DeviceId, TenantId};

use super::db::{Db, Fault};
use super::rows;
use crate::claims::{Audit, Standing};

/// A device's ownership, as it stands in this transaction.
pub(crate) async fn standing(db: &Db, tenant: TenantId, device: DeviceId) -> Result<Option<Standing>, Fault> {
    let sql = "SELECT d.name, d.owner, d.proof_digest, d.claimed_at, d.generation, d.claim_reset_at, d.claiming_allowed, \
         h.claiming_authorized, d.frozen FROM device d JOIN application h ON h.id = d.home_application \
         WHERE d.id = $1 AND d.tenant = $2";
    let Some(row) = db.row(sql, &[&device.uuid(), &tenant.uuid()]).await? else { return Ok(None) };
    Ok(Some(Standing {
        name: rows::get(&row, 0)?,
        owner: rows::optional_id(&row, 1)?.map(CustomerId::from_bytes),
        proof: rows::optional_bytes(&row, 2)?,
        claimed_at: rows::optional_instant(&row, 3)?,
        generation: rows::get(&row, 4)?,
        fence: rows::optional_instant(&row, 5)?,
        allowed: rows::get::<Option<bool>>(&row, 6)?.unwrap_or(false),
        authorized: rows::get(&row, 7)?,
        frozen: rows::get(&row, 8)?,
    }))
}

impl Audit {
    /// [`Audit::write`], in PostgreSQL.
    pub(crate) async fn write_in(&self, db: &Db, evidence: Evidence, generation: i64) -> Result<(), Fault> {
        let sql = "INSERT INTO audit (at, tenant, actor_kind, actor, action, device, outcome, reason, evidence, count, \
             charged, generation, origin, request_id) \
             VALUES ($1, $2, 'account', $3, $4, $5, $6, $6, $7, 1, FALSE, $8, 'api', $9)";
        let (at, tenant, actor, device) =
            (self.now.as_millis(), self.tenant.uuid(), self.account.uuid(), self.device.uuid());
        let (evidence, request) = (evidence.name(), self.request_id.cast_signed());
        db.run(sql, &[&at, &tenant, &actor, &self.action, &device, &self.outcome, &evidence, &generation, &request])
            .await?;
        Ok(())
    }
}
