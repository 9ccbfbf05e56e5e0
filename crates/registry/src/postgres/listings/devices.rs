//! Devices in applications. See `crate::listings::devices`.

use claim::ListingId;
use uuid::Uuid;

use crate::postgres::db::{Db, Fault};
use crate::postgres::rows;

/// Whether an id is in use in an application, or kept there for a device that was claimed away.
pub(crate) async fn taken(db: &Db, application: Uuid, listing: &ListingId) -> Result<bool, Fault> {
    let sql = "SELECT EXISTS (SELECT 1 FROM device WHERE application = $1 AND listing = $2) \
         OR EXISTS (SELECT 1 FROM device WHERE home_application = $1 AND home_listing = $2)";
    rows::get(&db.one(sql, &[&application, &listing.as_str()]).await?, 0)
}
