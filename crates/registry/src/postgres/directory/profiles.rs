//! Device profiles: how devices encode what they send. See `crate::directory::profiles`.

use claim::TenantId;
use claim::device::ProfileId;

use crate::postgres::db::{Db, Fault};
use crate::postgres::rows;

pub(super) async fn by_name(db: &Db, tenant: TenantId, name: &str) -> Result<Option<ProfileId>, Fault> {
    let row = db.row("SELECT id FROM profile WHERE tenant = $1 AND name = $2", &[&tenant.uuid(), &name]).await?;
    row.map(|row| rows::profile_id(&row, 0)).transpose()
}

/// The profile of this name; of the tenant's default if there is none of it.
pub(crate) async fn by_name_or_default(db: &Db, tenant: TenantId, name: Option<&str>) -> Result<ProfileId, Fault> {
    if let Some(name) = name
        && let Some(id) = by_name(db, tenant, name).await?
    {
        return Ok(id);
    }
    rows::profile_id(&db.one("SELECT id FROM profile WHERE tenant = $1 AND is_default", &[&tenant.uuid()]).await?, 0)
}
