//! Device profiles: how devices encode what they send.

use claim::device::{PayloadFormat, ProfileId};
use claim::directory::{DeviceProfile, DirectoryError, Page, PageRequest};
use claim::{TenantId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{broken_reference, found, page, taken};
use crate::lookup::Forget;
use crate::rows;
use crate::writer::{After, Fault};

pub(crate) const COLUMNS: &str =
    "id, tenant, name, transport_type, mqtt_format, coap_format, profile_data, created_at, is_default";

pub(crate) const KEEPS_ITS_NAME: DirectoryError = DirectoryError::Refused("the default profile keeps its name");
pub(crate) const STAYS: DirectoryError = DirectoryError::InUse("the default profile stays");
pub(crate) const IN_USE: DirectoryError = DirectoryError::InUse("devices use this profile");

fn read(row: &Row<'_>) -> rusqlite::Result<DeviceProfile> {
    Ok(DeviceProfile {
        id: rows::profile_id(row, 0)?,
        tenant: TenantId::from_bytes(rows::bytes(row, 1)?),
        name: row.get(2)?,
        transport_type: row.get(3)?,
        mqtt_format: rows::format(row, 4)?,
        coap_format: rows::format(row, 5)?,
        profile_data: row.get(6)?,
        created_at: rows::instant(row, 7)?,
        is_default: row.get(8)?,
    })
}

pub(super) fn create_default(connection: &Connection, tenant: TenantId, now: Timestamp) -> Result<(), Fault> {
    insert(connection, &default(tenant, now))
}

/// What every tenant begins with.
pub(crate) fn default(tenant: TenantId, now: Timestamp) -> DeviceProfile {
    DeviceProfile {
        id: ProfileId::random(),
        tenant,
        name: "default".to_owned(),
        transport_type: "DEFAULT".to_owned(),
        mqtt_format: PayloadFormat::Json,
        coap_format: PayloadFormat::Json,
        profile_data: None,
        created_at: now,
        is_default: true,
    }
}

fn insert(connection: &Connection, profile: &DeviceProfile) -> Result<(), Fault> {
    let sql = format!("INSERT INTO profile ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)");
    connection
        .prepare_cached(&sql)?
        .execute(params![
            profile.id.as_bytes(),
            profile.tenant.as_bytes(),
            profile.name,
            profile.transport_type,
            rows::format_code(profile.mqtt_format),
            rows::format_code(profile.coap_format),
            profile.profile_data,
            profile.created_at.as_millis(),
            profile.is_default
        ])
        .map_err(taken("name"))?;
    Ok(())
}

pub(super) fn save(connection: &Connection, after: &mut After, profile: DeviceProfile) -> Result<DeviceProfile, Fault> {
    let Some(before) = one(connection, profile.tenant, profile.id)? else {
        let profile = DeviceProfile { is_default: false, ..profile };
        insert(connection, &profile)?;
        return Ok(profile);
    };
    if before.is_default && profile.name != before.name {
        return Err(KEEPS_ITS_NAME.into());
    }
    connection
        .prepare_cached(
            "UPDATE profile SET name = ?3, transport_type = ?4, mqtt_format = ?5, coap_format = ?6, profile_data = ?7 \
             WHERE id = ?1 AND tenant = ?2",
        )?
        .execute(params![
            profile.id.as_bytes(),
            profile.tenant.as_bytes(),
            profile.name,
            profile.transport_type,
            rows::format_code(profile.mqtt_format),
            rows::format_code(profile.coap_format),
            profile.profile_data
        ])
        .map_err(taken("name"))?;
    // Any number of devices read their format from it.
    after.forget.push(Forget::Everything);
    Ok(found(one(connection, profile.tenant, profile.id)?, "device profile")?)
}

pub(super) fn list(
    connection: &Connection,
    tenant: TenantId,
    request: &PageRequest,
) -> rusqlite::Result<Page<DeviceProfile>> {
    page(connection, COLUMNS, "profile WHERE tenant = ?1", "name", &[tenant.as_bytes()], request, read)
}

pub(super) fn one(connection: &Connection, tenant: TenantId, id: ProfileId) -> rusqlite::Result<Option<DeviceProfile>> {
    let sql = format!("SELECT {COLUMNS} FROM profile WHERE id = ?1 AND tenant = ?2");
    connection.prepare_cached(&sql)?.query_row(params![id.as_bytes(), tenant.as_bytes()], read).optional()
}

pub(super) fn by_name(connection: &Connection, tenant: TenantId, name: &str) -> rusqlite::Result<Option<ProfileId>> {
    connection
        .prepare_cached("SELECT id FROM profile WHERE tenant = ?1 AND name = ?2")?
        .query_row(params![tenant.as_bytes(), name], |row| rows::profile_id(row, 0))
        .optional()
}

/// The profile of this name; of the tenant's default if there is none of it.
pub(crate) fn by_name_or_default(
    connection: &Connection,
    tenant: TenantId,
    name: Option<&str>,
) -> rusqlite::Result<ProfileId> {
    if let Some(name) = name
        && let Some(id) = by_name(connection, tenant, name)?
    {
        return Ok(id);
    }
    connection
        .prepare_cached("SELECT id FROM profile WHERE tenant = ?1 AND is_default = 1")?
        .query_row([tenant.as_bytes()], |row| rows::profile_id(row, 0))
}

pub(super) fn delete(connection: &Connection, tenant: TenantId, id: ProfileId) -> Result<(), Fault> {
    let profile = found(one(connection, tenant, id)?, "device profile")?;
    if profile.is_default {
        return Err(STAYS.into());
    }
    connection
        .prepare_cached("DELETE FROM profile WHERE id = ?1 AND tenant = ?2")?
        .execute(params![id.as_bytes(), tenant.as_bytes()])
        .map_err(broken_reference(IN_USE))?;
    Ok(())
}
