//! Applications and the devices listed in them. See `crate::listings`.

pub(crate) mod applications;
pub(crate) mod devices;

use claim::applications::By;
use claim::{DeviceName, ListingId, TenantId};
use uuid::Uuid;

use super::db::{Db, Fault};
use super::{After, outbox, rows};
use crate::listings::{Deed, random};

/// Where a device that was made without an application is at home: in `default`, under an id made from its name.
pub(crate) async fn default_home(db: &Db, tenant: TenantId, name: &DeviceName) -> Result<(Uuid, String), Fault> {
    /// Tries with small numbers before a random one, so that names which all make the same id cost the same.
    const COUNTED: u32 = 9;
    let sql = "SELECT id FROM application WHERE tenant = $1 AND listing = 'default'";
    let application: Uuid = rows::get(&db.one(sql, &[&tenant.uuid()]).await?, 0)?;
    let mut suffix = 0;
    loop {
        let listing = ListingId::from_name(name.as_str(), suffix);
        if !devices::taken(db, application, &listing).await? {
            return Ok((application, listing.as_str().to_owned()));
        }
        suffix = match suffix {
            0 => 2,
            counted if counted < COUNTED => counted + 1,
            _ => random()?,
        };
    }
}

impl Deed<'_> {
    /// [`Deed::record`], in PostgreSQL.
    pub(crate) async fn record_in(&self, db: &Db, after: &mut After, by: By) -> Result<(), Fault> {
        let device = (!self.event.of_application()).then_some(Uuid::from_bytes(*self.subject));
        let sql = "INSERT INTO audit (at, tenant, actor_kind, actor, action, device, outcome, reason, evidence, count, \
             charged, origin, request_id) \
             VALUES ($1, $2, 'account', $3, $4, $5, 'done', $6, 'none', 1, FALSE, 'api', 0)";
        let reason = self.reason.unwrap_or(self.name);
        let (at, tenant, actor) = (by.now.as_millis(), self.tenant.uuid(), by.account.uuid());
        db.run(sql, &[&at, &tenant, &actor, &self.event.name(), &device, &reason]).await?;
        outbox::insert_maker(db, self.tenant, *self.subject, self.name, self.event, by.now).await?;
        after.event = true;
        Ok(())
    }
}

/// The id of a tenant's application.
pub(crate) async fn application_id(db: &Db, tenant: TenantId, listing: &ListingId) -> Result<Option<Uuid>, Fault> {
    let sql = "SELECT id FROM application WHERE tenant = $1 AND listing = $2";
    let row = db.row(sql, &[&tenant.uuid(), &listing.as_str()]).await?;
    row.map(|row| rows::get(&row, 0)).transpose()
}
