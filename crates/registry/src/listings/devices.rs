//! Devices as they are listed.

use std::collections::BTreeMap;

use claim::applications::{By, CodeView, DeviceChange, Identity, ListedDevice, NewDevice, Place};
use claim::directory::{DirectoryError, Page, PageRequest};
use claim::event::MakerEvent;
use claim::imports::GoodRow;
use claim::{CustomerId, DeviceId, DeviceName, Eui64, ListingId, TenantId};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};

use super::{Deed, application_id, codes, listing, root_keys};
use crate::directory::credentials::{self, Vault};
use crate::directory::{devices, found, page, profiles};
use crate::lookup::Forget;
use crate::rows;
use crate::writer::{After, Fault};

pub(crate) const COLUMNS: &str = "d.id, d.tenant, d.name, d.label, h.listing, d.home_listing, a.listing, d.listing, d.dev_eui, \
     d.join_eui, d.external_id, d.serial_number, d.vendor_id, d.vendor_profile_id, d.description, d.texts, d.owner, \
     d.claimed_at, d.claiming_allowed, d.code_any_case, d.code_from, d.code_until, d.code_set_at, d.created_at, d.version, d.frozen, \
     d.presence, d.root_keys_sealed IS NOT NULL, d.root_keys_exposed, d.public_key, d.provisioner";
pub(crate) const FROM: &str =
    "device d JOIN application h ON h.id = d.home_application JOIN application a ON a.id = d.application";

fn read(row: &Row<'_>) -> rusqlite::Result<ListedDevice> {
    let eui = |column| rows::optional_bytes(row, column).map(|bytes| bytes.map(Eui64::from_bytes));
    let texts: BTreeMap<String, String> = match row.get_ref(15)?.as_str_or_null()? {
        None => BTreeMap::new(),
        Some(json) => serde_json::from_str(json).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(15, rusqlite::types::Type::Text, Box::new(error))
        })?,
    };
    let code = row.get::<_, Option<bool>>(19)?.zip(rows::optional_instant(row, 22)?);
    Ok(ListedDevice {
        device: DeviceId::from_bytes(rows::bytes(row, 0)?),
        tenant: TenantId::from_bytes(rows::bytes(row, 1)?),
        name: rows::name(row, 2)?,
        label: row.get(3)?,
        home: Place { application: listing(row, 4)?, device: listing(row, 5)? },
        place: Place { application: listing(row, 6)?, device: listing(row, 7)? },
        identity: Identity {
            dev_eui: eui(8)?,
            join_eui: eui(9)?,
            external_id: row.get(10)?,
            serial_number: row.get(11)?,
            vendor_id: row.get(12)?,
            vendor_profile_id: row.get(13)?,
            description: row.get(14)?,
            texts,
            public_key: row.get(29)?,
            provisioner: row.get(30)?,
        },
        owner: rows::optional_bytes(row, 16)?.map(CustomerId::from_bytes),
        claimed_at: rows::optional_instant(row, 17)?,
        claiming_allowed: row.get(18)?,
        frozen: row.get(25)?,
        presence: row.get(26)?,
        code: match code {
            None => None,
            Some((_, set_at)) => {
                let (from, until) = (rows::optional_instant(row, 20)?, rows::optional_instant(row, 21)?);
                Some(CodeView { from, until, set_at })
            }
        },
        root_keys: row.get(27)?,
        root_keys_exposed: row.get(28)?,
        created_at: rows::instant(row, 23)?,
        version: row.get(24)?,
    })
}

/// Whether an id is in use in an application, or kept for a device that comes back.
pub(crate) fn taken(connection: &Connection, application: [u8; 16], listing: &ListingId) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM device WHERE application = ?1 AND listing = ?2) \
             OR EXISTS (SELECT 1 FROM device WHERE home_application = ?1 AND home_listing = ?2)",
        )?
        .query_row(params![application, listing.as_str()], |row| row.get(0))
}

fn one(
    connection: &Connection,
    tenant: TenantId,
    (application, device): (&str, &str),
    place: &Place,
) -> rusqlite::Result<Option<ListedDevice>> {
    let sql =
        format!("SELECT {COLUMNS} FROM {FROM} WHERE d.tenant = ?1 AND {application}.listing = ?2 AND {device} = ?3");
    connection
        .prepare_cached(&sql)?
        .query_row(params![tenant.as_bytes(), place.application.as_str(), place.device.as_str()], read)
        .optional()
}

pub(super) fn listed(
    connection: &Connection,
    tenant: TenantId,
    place: &Place,
) -> rusqlite::Result<Option<ListedDevice>> {
    one(connection, tenant, ("a", "d.listing"), place)
}

pub(super) fn at_home(
    connection: &Connection,
    tenant: TenantId,
    home: &Place,
) -> rusqlite::Result<Option<ListedDevice>> {
    one(connection, tenant, ("h", "d.home_listing"), home)
}

pub(crate) fn by_id(connection: &Connection, tenant: TenantId, id: DeviceId) -> rusqlite::Result<Option<ListedDevice>> {
    let sql = format!("SELECT {COLUMNS} FROM {FROM} WHERE d.id = ?1 AND d.tenant = ?2");
    connection.prepare_cached(&sql)?.query_row(params![id.as_bytes(), tenant.as_bytes()], read).optional()
}

/// One device by what narrows it down in its tenant.
fn by(
    connection: &Connection,
    tenant: TenantId,
    condition: &str,
    value: &dyn rusqlite::ToSql,
) -> rusqlite::Result<Option<ListedDevice>> {
    let sql = format!("SELECT {COLUMNS} FROM {FROM} WHERE d.tenant = ?1 AND {condition}");
    connection.prepare_cached(&sql)?.query_row(params![tenant.as_bytes(), value], read).optional()
}

pub(crate) fn by_external_id(
    connection: &Connection,
    tenant: TenantId,
    external_id: &str,
) -> rusqlite::Result<Option<ListedDevice>> {
    by(connection, tenant, "d.external_id = ?2", &external_id)
}

pub(crate) fn by_dev_eui(
    connection: &Connection,
    tenant: TenantId,
    eui: Eui64,
) -> rusqlite::Result<Option<ListedDevice>> {
    by(connection, tenant, "d.dev_eui = ?2", &eui.as_bytes().as_slice())
}

pub(crate) fn at_home_in(
    connection: &Connection,
    tenant: TenantId,
    application: [u8; 16],
    listing: &ListingId,
) -> rusqlite::Result<Option<ListedDevice>> {
    let sql =
        format!("SELECT {COLUMNS} FROM {FROM} WHERE d.tenant = ?1 AND d.home_application = ?2 AND d.home_listing = ?3");
    connection
        .prepare_cached(&sql)?
        .query_row(params![tenant.as_bytes(), application, listing.as_str()], read)
        .optional()
}

/// Devices at home in an application, by id, after one.
pub(crate) fn at_home_after(
    connection: &Connection,
    tenant: TenantId,
    application: &ListingId,
    after: Option<&ListingId>,
    limit: u32,
) -> rusqlite::Result<Vec<ListedDevice>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {FROM} WHERE d.tenant = ?1 AND d.home_application = \
         (SELECT id FROM application WHERE tenant = ?1 AND listing = ?2) AND d.home_listing > ?3 \
         ORDER BY d.home_listing LIMIT ?4"
    );
    connection
        .prepare_cached(&sql)?
        .query_map(params![tenant.as_bytes(), application.as_str(), after.map_or("", ListingId::as_str), limit], read)?
        .collect()
}

/// Whether a device of the tenant has this name.
pub(crate) fn name_taken(connection: &Connection, tenant: TenantId, name: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM device WHERE tenant = ?1 AND name = ?2)")?
        .query_row(params![tenant.as_bytes(), name], |row| row.get(0))
}

/// A device's texts at rest.
pub(crate) fn texts(texts: &BTreeMap<String, String>) -> Result<String, DirectoryError> {
    serde_json::to_string(texts).map_err(|_| DirectoryError::Refused("texts"))
}

/// The texts that are given and those that the device has beside them, at rest.
pub(crate) fn all_texts(device: &ListedDevice, given: &Identity) -> Result<String, DirectoryError> {
    let mut all = device.identity.texts.clone();
    all.extend(given.texts.clone());
    texts(&all)
}

/// A new device's name.
pub(crate) fn name(new: &NewDevice) -> Result<DeviceName, DirectoryError> {
    match &new.name {
        Some(name) => Ok(name.clone()),
        None => DeviceName::parse(new.listing.as_str()).map_err(|fault| DirectoryError::Refused(fault.text())),
    }
}

/// Whether a customer with so many devices may register one more.
pub(crate) fn room(count: u32, most: u32) -> Result<(), DirectoryError> {
    if count < most { Ok(()) } else { Err(DirectoryError::Full { what: "devices registered by a customer", most }) }
}

/// Why a device stays that somebody owns.
pub(crate) const OWNED: DirectoryError = DirectoryError::InUse("the device has an owner; unclaim it first");

/// What a change of a device is called, deed by deed.
pub(crate) fn deeds(device: &ListedDevice, change: &DeviceChange) -> Vec<MakerEvent> {
    let mut deeds = Vec::new();
    deeds.extend(change.claiming_allowed.map(|_| MakerEvent::ClaimingAllowedChanged));
    deeds.extend(
        change
            .frozen
            .filter(|frozen| *frozen != device.frozen)
            .map(|frozen| if frozen { MakerEvent::Frozen } else { MakerEvent::Unfrozen }),
    );
    deeds.extend(change.presence.filter(|presence| *presence != device.presence).map(|_| MakerEvent::PresenceChanged));
    deeds
}

/// Gives a device what a row of an import says of it; what the row does not say stays.
pub(crate) fn update(connection: &Connection, device: &ListedDevice, row: &GoodRow, by: By) -> Result<(), Fault> {
    let given = &row.identity;
    let texts = all_texts(device, given)?;
    connection
        .prepare_cached(
            "UPDATE device SET label = coalesce(?2, label), dev_eui = coalesce(?3, dev_eui), \
             join_eui = coalesce(?4, join_eui), external_id = coalesce(?5, external_id), \
             serial_number = coalesce(?6, serial_number), vendor_id = coalesce(?7, vendor_id), \
             vendor_profile_id = coalesce(?8, vendor_profile_id), description = coalesce(?9, description), \
             texts = ?10, public_key = coalesce(?11, public_key), provisioner = coalesce(?12, provisioner), \
             claiming_allowed = coalesce(?13, claiming_allowed), \
             claiming_allowed_at = CASE WHEN ?13 IS NULL THEN claiming_allowed_at ELSE ?14 END, \
             version = version + 1 WHERE id = ?1",
        )?
        .execute(params![
            device.device.as_bytes(),
            row.label,
            given.dev_eui.as_ref().map(|eui| eui.as_bytes().as_slice()),
            given.join_eui.as_ref().map(|eui| eui.as_bytes().as_slice()),
            given.external_id,
            given.serial_number,
            given.vendor_id,
            given.vendor_profile_id,
            given.description,
            texts,
            given.public_key,
            given.provisioner,
            row.claiming_allowed,
            by.now.as_millis()
        ])
        .map_err(clash)?;
    Ok(())
}

pub(super) fn list(
    connection: &Connection,
    tenant: TenantId,
    application: &ListingId,
    request: &PageRequest,
) -> rusqlite::Result<Page<ListedDevice>> {
    let from = format!("{FROM} WHERE d.tenant = ?1 AND a.listing = ?2");
    page(connection, COLUMNS, &from, "d.listing", &[tenant.as_bytes(), &application.as_str()], request, read)
}

pub(super) fn register(
    connection: &Connection,
    after: &mut After,
    vault: &Vault,
    tenant: TenantId,
    application: &ListingId,
    new: &NewDevice,
    by: By,
) -> Result<ListedDevice, Fault> {
    let home = found(application_id(connection, tenant, application)?, "application")?;
    if taken(connection, home, &new.listing)? {
        return Err(DirectoryError::Taken("device id").into());
    }
    if let Some(most) = new.most {
        let count: u32 = connection
            .prepare_cached(
                "SELECT count(*) FROM device WHERE home_application IN (SELECT id FROM application WHERE customer = \
                 (SELECT customer FROM application WHERE id = ?1))",
            )?
            .query_row([home], |row| row.get(0))?;
        room(count, most)?;
    }
    create(connection, after, vault, (tenant, home), new, by)?;
    let home = Place { application: application.clone(), device: new.listing.clone() };
    Ok(found(at_home(connection, tenant, &home)?, "device")?)
}

/// Makes a device at home in an application, under an id that is not taken.
pub(crate) fn create(
    connection: &Connection,
    after: &mut After,
    vault: &Vault,
    (tenant, home): (TenantId, [u8; 16]),
    new: &NewDevice,
    by: By,
) -> Result<DeviceId, Fault> {
    let id = DeviceId::random();
    let name = name(new)?;
    let identity = &new.identity;
    let texts = texts(&identity.texts)?;
    let profile = profiles::by_name_or_default(connection, tenant, None)?;
    connection
        .prepare_cached(
            "INSERT INTO device (id, tenant, name, profile, label, gateway, created_at, home_application, home_listing, \
             application, listing, dev_eui, join_eui, external_id, serial_number, vendor_id, vendor_profile_id, \
             description, texts, claiming_allowed, claiming_allowed_at, public_key, provisioner) VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, ?8, ?7, \
             ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
        )?
        .execute(params![
            id.as_bytes(),
            tenant.as_bytes(),
            name.as_str(),
            profile.as_bytes(),
            new.label,
            by.now.as_millis(),
            home,
            new.listing.as_str(),
            identity.dev_eui.as_ref().map(|eui| eui.as_bytes().as_slice()),
            identity.join_eui.as_ref().map(|eui| eui.as_bytes().as_slice()),
            identity.external_id,
            identity.serial_number,
            identity.vendor_id,
            identity.vendor_profile_id,
            identity.description,
            texts,
            new.claiming_allowed,
            new.claiming_allowed.map(|_| by.now.as_millis()),
            identity.public_key,
            identity.provisioner
        ])
        .map_err(clash)?;
    credentials::create(connection, after, vault, (tenant, id), None, by.now)?;
    if let Some(code) = &new.code {
        codes::store(connection, vault, tenant, id, code, by.now)?;
    }
    root_keys::store(connection, vault, (tenant, id), &new.root_keys, new.root_keys_exposed)?;
    let deed =
        Deed { tenant, subject: id.as_bytes(), name: name.as_str(), event: MakerEvent::DeviceRegistered, reason: None };
    deed.record(connection, after, by)?;
    after.forget.push(Forget::Device(id));
    Ok(id)
}

/// Which of its identities another device has: SQLite names the columns of the broken index.
fn clash(error: rusqlite::Error) -> Fault {
    let what = match &error {
        rusqlite::Error::SqliteFailure(code, Some(text)) if code.code == ErrorCode::ConstraintViolation => {
            [("device.dev_eui", "dev_eui"), ("device.external_id", "external_id"), ("device.name", "name")]
                .into_iter()
                .find(|(column, _)| text.contains(column))
                .map(|(_, what)| what)
        }
        _ => None,
    };
    what.map_or(Fault::Database(error), |what| DirectoryError::Taken(what).into())
}

pub(super) fn remove(
    connection: &Connection,
    after: &mut After,
    tenant: TenantId,
    home: &Place,
    by: By,
) -> Result<(), Fault> {
    let device = found(at_home(connection, tenant, home)?, "device")?;
    if device.owner.is_some() {
        return Err(OWNED.into());
    }
    devices::delete(connection, after, tenant, device.device, by)
}

pub(super) fn change(
    connection: &Connection,
    after: &mut After,
    tenant: TenantId,
    home: &Place,
    change: &DeviceChange,
    by: By,
) -> Result<ListedDevice, Fault> {
    let device = found(at_home(connection, tenant, home)?, "device")?;
    let id = device.device.as_bytes();
    if let Some(allowed) = change.claiming_allowed {
        connection
            .prepare_cached("UPDATE device SET claiming_allowed = ?2, claiming_allowed_at = ?3 WHERE id = ?1")?
            .execute(params![id, allowed, allowed.map(|_| by.now.as_millis())])?;
    }
    if let Some(frozen) = change.frozen.filter(|frozen| *frozen != device.frozen) {
        connection.prepare_cached("UPDATE device SET frozen = ?2 WHERE id = ?1")?.execute(params![id, frozen])?;
    }
    if let Some(presence) = change.presence.filter(|presence| *presence != device.presence) {
        // What was proved without an announcement must be proved again.
        connection
            .prepare_cached("UPDATE device SET presence = ?2, generation = generation + 1 WHERE id = ?1")?
            .execute(params![id, presence])?;
    }
    connection.prepare_cached("UPDATE device SET version = version + 1 WHERE id = ?1")?.execute([id])?;
    for event in deeds(&device, change) {
        record(connection, after, &device, event, change.reason.as_deref(), by)?;
    }
    Ok(found(at_home(connection, device.tenant, &device.home)?, "device")?)
}

pub(super) fn note_release(
    connection: &Connection,
    after: &mut After,
    tenant: TenantId,
    home: &Place,
    reason: &str,
    by: By,
) -> Result<(), Fault> {
    let device = found(at_home(connection, tenant, home)?, "device")?;
    Ok(record(connection, after, &device, MakerEvent::ForceReleased, Some(reason), by)?)
}

pub(crate) fn record(
    connection: &Connection,
    after: &mut After,
    device: &ListedDevice,
    event: MakerEvent,
    reason: Option<&str>,
    by: By,
) -> rusqlite::Result<()> {
    let (subject, name) = (device.device.as_bytes(), device.name.as_str());
    Deed { tenant: device.tenant, subject, name, event, reason }.record(connection, after, by)?;
    after.forget.push(Forget::Device(device.device));
    Ok(())
}

/// Records what happened to a device and reads it again.
pub(super) fn changed(
    connection: &Connection,
    after: &mut After,
    device: &ListedDevice,
    event: MakerEvent,
    by: By,
) -> Result<ListedDevice, Fault> {
    record(connection, after, device, event, None, by)?;
    Ok(found(at_home(connection, device.tenant, &device.home)?, "device")?)
}
