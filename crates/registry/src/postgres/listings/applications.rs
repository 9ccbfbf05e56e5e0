//! Applications. See `crate::listings::applications`.

use claim::applications::ApplicationId;
use claim::{TenantId, Timestamp};

use crate::postgres::db::{Db, Fault};

/// A new tenant's `default`, authorised.
pub(crate) async fn create_default(db: &Db, tenant: TenantId, now: Timestamp) -> Result<(), Fault> {
    let sql = "INSERT INTO application (id, tenant, listing, claiming_authorized, created_at) \
         VALUES ($1, $2, 'default', TRUE, $3)";
    db.run(sql, &[&ApplicationId::random().uuid(), &tenant.uuid(), &now.as_millis()]).await?;
    Ok(())
}
