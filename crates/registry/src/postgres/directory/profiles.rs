//! Device profiles: how devices encode what they send. See `crate::directory::profiles`.

use claim::device::ProfileId;
use claim::directory::{DeviceProfile, Page, PageRequest};
use claim::{TenantId, Timestamp};
use tokio_postgres::Row;

use crate::directory::found;
use crate::directory::profiles::{COLUMNS, IN_USE, KEEPS_ITS_NAME, STAYS, default};
use crate::lookup::Forget;
use crate::postgres::answers::{broken_reference, page, taken};
use crate::postgres::db::{Db, Fault, Values};
use crate::postgres::rows;
use crate::rows::format_code;
use crate::writer::After;

fn read(row: &Row) -> Result<DeviceProfile, Fault> {
    Ok(DeviceProfile {
        id: rows::profile_id(row, 0)?,
        tenant: TenantId::from_bytes(rows::id(row, 1)?),
        name: rows::get(row, 2)?,
        transport_type: rows::get(row, 3)?,
        mqtt_format: rows::format(row, 4)?,
        coap_format: rows::format(row, 5)?,
        profile_data: rows::get(row, 6)?,
        created_at: rows::instant(row, 7)?,
        is_default: rows::get(row, 8)?,
    })
}

pub(super) async fn create_default(db: &Db, tenant: TenantId, now: Timestamp) -> Result<(), Fault> {
    insert(db, &default(tenant, now)).await
}

async fn insert(db: &Db, profile: &DeviceProfile) -> Result<(), Fault> {
    let sql = format!("INSERT INTO profile ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)");
    let values: Values<'_> = &[
        &profile.id.uuid(),
        &profile.tenant.uuid(),
        &profile.name,
        &profile.transport_type,
        &format_code(profile.mqtt_format),
        &format_code(profile.coap_format),
        &profile.profile_data,
        &profile.created_at.as_millis(),
        &profile.is_default,
    ];
    db.run(&sql, values).await.map_err(taken("name"))?;
    Ok(())
}

pub(super) async fn save(db: &Db, after: &mut After, profile: &DeviceProfile) -> Result<DeviceProfile, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM profile WHERE id = $1 AND tenant = $2 FOR NO KEY UPDATE");
    let before = db.row(&sql, &[&profile.id.uuid(), &profile.tenant.uuid()]).await?;
    let Some(before) = before.as_ref().map(read).transpose()? else {
        let profile = DeviceProfile { is_default: false, ..profile.clone() };
        insert(db, &profile).await?;
        return Ok(profile);
    };
    if before.is_default && profile.name != before.name {
        return Err(KEEPS_ITS_NAME.into());
    }
    let sql = format!(
        "UPDATE profile SET name = $3, transport_type = $4, mqtt_format = $5, coap_format = $6, profile_data = $7 \
         WHERE id = $1 AND tenant = $2 RETURNING {COLUMNS}"
    );
    let values: Values<'_> = &[
        &profile.id.uuid(),
        &profile.tenant.uuid(),
        &profile.name,
        &profile.transport_type,
        &format_code(profile.mqtt_format),
        &format_code(profile.coap_format),
        &profile.profile_data,
    ];
    let row = db.row(&sql, values).await.map_err(taken("name"))?;
    // Any number of devices read their format from it.
    after.forget.push(Forget::Everything);
    read(&found(row, "device profile")?)
}

pub(super) async fn list(db: &Db, tenant: TenantId, request: &PageRequest) -> Result<Page<DeviceProfile>, Fault> {
    page(db, COLUMNS, "profile WHERE tenant = $1", "name", &[&tenant.uuid()], request, read).await
}

pub(super) async fn one(db: &Db, tenant: TenantId, id: ProfileId) -> Result<Option<DeviceProfile>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM profile WHERE id = $1 AND tenant = $2");
    db.row(&sql, &[&id.uuid(), &tenant.uuid()]).await?.as_ref().map(read).transpose()
}

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

pub(super) async fn delete(db: &Db, tenant: TenantId, id: ProfileId) -> Result<(), Fault> {
    let profile = found(one(db, tenant, id).await?, "device profile")?;
    if profile.is_default {
        return Err(STAYS.into());
    }
    let sql = "DELETE FROM profile WHERE id = $1 AND tenant = $2";
    db.run(sql, &[&id.uuid(), &tenant.uuid()]).await.map_err(broken_reference(IN_USE))?;
    Ok(())
}
