//! Devices as they are listed. See `crate::listings::devices`.

use std::collections::BTreeMap;

use claim::applications::{By, CodeView, DeviceChange, Identity, ListedDevice, NewDevice, Place};
use claim::directory::{DirectoryError, Page, PageRequest};
use claim::event::MakerEvent;
use claim::imports::GoodRow;
use claim::{CustomerId, DeviceId, Eui64, ListingId, TenantId};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::{application_id, codes, listing, root_keys};
use crate::directory::credentials::Vault;
use crate::directory::found;
use crate::listings::Deed;
use crate::listings::devices::{COLUMNS, FROM, OWNED, all_texts, deeds, name, room, texts};
use crate::lookup::Forget;
use crate::postgres::After;
use crate::postgres::answers::page;
use crate::postgres::db::{Db, Fault, Values};
use crate::postgres::directory::{credentials, devices, profiles};
use crate::postgres::keys::may_seal;
use crate::postgres::rows;

fn read(row: &Row) -> Result<ListedDevice, Fault> {
    let eui = |column| rows::optional_bytes(row, column).map(|bytes| bytes.map(Eui64::from_bytes));
    let number = |column| {
        let number: Option<i64> = rows::get(row, column)?;
        number.map(u16::try_from).transpose().map_err(|_| Fault::Damaged("a number out of range"))
    };
    let texts: BTreeMap<String, String> = match rows::get::<Option<&str>>(row, 15)? {
        None => BTreeMap::new(),
        Some(json) => serde_json::from_str(json).map_err(|_| Fault::Damaged("texts"))?,
    };
    Ok(ListedDevice {
        device: DeviceId::from_bytes(rows::id(row, 0)?),
        tenant: TenantId::from_bytes(rows::id(row, 1)?),
        name: rows::name(row, 2)?,
        label: rows::get(row, 3)?,
        home: Place { application: listing(row, 4)?, device: listing(row, 5)? },
        place: Place { application: listing(row, 6)?, device: listing(row, 7)? },
        identity: Identity {
            dev_eui: eui(8)?,
            join_eui: eui(9)?,
            external_id: rows::get(row, 10)?,
            serial_number: rows::get(row, 11)?,
            vendor_id: number(12)?,
            vendor_profile_id: number(13)?,
            description: rows::get(row, 14)?,
            texts,
            public_key: rows::get(row, 29)?,
            provisioner: rows::get(row, 30)?,
        },
        owner: rows::optional_id(row, 16)?.map(CustomerId::from_bytes),
        claimed_at: rows::optional_instant(row, 17)?,
        claiming_allowed: rows::get(row, 18)?,
        code: code(row)?,
        created_at: rows::instant(row, 23)?,
        version: rows::get(row, 24)?,
        frozen: rows::get(row, 25)?,
        presence: rows::get(row, 26)?,
        root_keys: rows::get(row, 27)?,
        root_keys_exposed: rows::get(row, 28)?,
    })
}

fn code(row: &Row) -> Result<Option<CodeView>, Fault> {
    let is_code = rows::get::<Option<bool>>(row, 19)?.is_some();
    let Some(set_at) = rows::optional_instant(row, 22)?.filter(|_| is_code) else { return Ok(None) };
    let (from, until) = (rows::optional_instant(row, 20)?, rows::optional_instant(row, 21)?);
    Ok(Some(CodeView { from, until, set_at }))
}

/// Whether an id is in use in an application, or kept there for a device that was claimed away.
pub(crate) async fn taken(db: &Db, application: Uuid, listing: &ListingId) -> Result<bool, Fault> {
    let sql = "SELECT EXISTS (SELECT 1 FROM device WHERE application = $1 AND listing = $2) \
         OR EXISTS (SELECT 1 FROM device WHERE home_application = $1 AND home_listing = $2)";
    rows::get(&db.one(sql, &[&application, &listing.as_str()]).await?, 0)
}

/// One device by what narrows it down.
async fn one(db: &Db, condition: &str, values: Values<'_>) -> Result<Option<ListedDevice>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM {FROM} WHERE {condition}");
    db.row(&sql, values).await?.as_ref().map(read).transpose()
}

pub(super) async fn listed(db: &Db, tenant: TenantId, place: &Place) -> Result<Option<ListedDevice>, Fault> {
    let values: Values<'_> = &[&tenant.uuid(), &place.application.as_str(), &place.device.as_str()];
    one(db, "d.tenant = $1 AND a.listing = $2 AND d.listing = $3", values).await
}

pub(super) async fn at_home(db: &Db, tenant: TenantId, home: &Place) -> Result<Option<ListedDevice>, Fault> {
    let values: Values<'_> = &[&tenant.uuid(), &home.application.as_str(), &home.device.as_str()];
    one(db, "d.tenant = $1 AND h.listing = $2 AND d.home_listing = $3", values).await
}

/// As [`at_home`]; nobody else changes the device until the end of the transaction.
pub(super) async fn held(db: &Db, tenant: TenantId, home: &Place) -> Result<Option<ListedDevice>, Fault> {
    let sql = "SELECT d.id FROM device d JOIN application h ON h.id = d.home_application \
         WHERE d.tenant = $1 AND h.listing = $2 AND d.home_listing = $3 FOR UPDATE OF d";
    db.row(sql, &[&tenant.uuid(), &home.application.as_str(), &home.device.as_str()]).await?;
    // Read after the wait and not in it: it may be listed in another application now.
    at_home(db, tenant, home).await
}

pub(crate) async fn by_id(db: &Db, tenant: TenantId, id: DeviceId) -> Result<Option<ListedDevice>, Fault> {
    one(db, "d.tenant = $1 AND d.id = $2", &[&tenant.uuid(), &id.uuid()]).await
}

pub(crate) async fn by_external_id(
    db: &Db,
    tenant: TenantId,
    external_id: &str,
) -> Result<Option<ListedDevice>, Fault> {
    one(db, "d.tenant = $1 AND d.external_id = $2", &[&tenant.uuid(), &external_id]).await
}

pub(crate) async fn by_dev_eui(db: &Db, tenant: TenantId, eui: Eui64) -> Result<Option<ListedDevice>, Fault> {
    one(db, "d.tenant = $1 AND d.dev_eui = $2", &[&tenant.uuid(), &eui.as_bytes().as_slice()]).await
}

pub(crate) async fn at_home_in(
    db: &Db,
    tenant: TenantId,
    application: Uuid,
    listing: &ListingId,
) -> Result<Option<ListedDevice>, Fault> {
    let values: Values<'_> = &[&tenant.uuid(), &application, &listing.as_str()];
    one(db, "d.tenant = $1 AND d.home_application = $2 AND d.home_listing = $3", values).await
}

/// Devices at home in an application, by id, after one.
pub(crate) async fn at_home_after(
    db: &Db,
    tenant: TenantId,
    application: &ListingId,
    after: Option<&ListingId>,
    limit: u32,
) -> Result<Vec<ListedDevice>, Fault> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {FROM} WHERE d.tenant = $1 AND d.home_application = \
         (SELECT id FROM application WHERE tenant = $1 AND listing = $2) AND d.home_listing > $3 \
         ORDER BY d.home_listing LIMIT $4"
    );
    let after = after.map_or("", ListingId::as_str);
    let found = db.rows(&sql, &[&tenant.uuid(), &application.as_str(), &after, &i64::from(limit)]).await?;
    found.iter().map(read).collect()
}

/// Whether a device of the tenant has this name.
pub(crate) async fn name_taken(db: &Db, tenant: TenantId, name: &str) -> Result<bool, Fault> {
    let sql = "SELECT EXISTS (SELECT 1 FROM device WHERE tenant = $1 AND name = $2)";
    rows::get(&db.one(sql, &[&tenant.uuid(), &name]).await?, 0)
}

/// Keeps others from changing a device until the end of the transaction; whether it is still as it was read.
pub(crate) async fn hold(db: &Db, device: &ListedDevice) -> Result<bool, Fault> {
    let row = db.row("SELECT version FROM device WHERE id = $1 FOR UPDATE", &[&device.device.uuid()]).await?;
    Ok(row.map(|row| rows::get::<i64>(&row, 0)).transpose()? == Some(device.version))
}

/// Gives a device what a row of an import says of it; what the row does not say stays.
pub(crate) async fn update(db: &Db, device: &ListedDevice, row: &GoodRow, by: By) -> Result<(), Fault> {
    let given = &row.identity;
    let sql = "UPDATE device SET label = coalesce($2, label), dev_eui = coalesce($3, dev_eui), \
         join_eui = coalesce($4, join_eui), external_id = coalesce($5, external_id), \
         serial_number = coalesce($6, serial_number), vendor_id = coalesce($7, vendor_id), \
         vendor_profile_id = coalesce($8, vendor_profile_id), description = coalesce($9, description), \
         texts = $10, public_key = coalesce($11, public_key), provisioner = coalesce($12, provisioner), \
         claiming_allowed = coalesce($13, claiming_allowed), \
         claiming_allowed_at = CASE WHEN $13 IS NULL THEN claiming_allowed_at ELSE $14 END, \
         version = version + 1 WHERE id = $1";
    let values: Values<'_> = &[
        &device.device.uuid(),
        &row.label,
        &given.dev_eui.as_ref().map(|eui| eui.as_bytes().as_slice()),
        &given.join_eui.as_ref().map(|eui| eui.as_bytes().as_slice()),
        &given.external_id,
        &given.serial_number,
        &given.vendor_id.map(i64::from),
        &given.vendor_profile_id.map(i64::from),
        &given.description,
        &all_texts(device, given)?,
        &given.public_key,
        &given.provisioner,
        &row.claiming_allowed,
        &by.now.as_millis(),
    ];
    db.run(sql, values).await.map_err(clash)?;
    Ok(())
}

pub(super) async fn list(
    db: &Db,
    tenant: TenantId,
    application: &ListingId,
    request: &PageRequest,
) -> Result<Page<ListedDevice>, Fault> {
    let from = format!("{FROM} WHERE d.tenant = $1 AND a.listing = $2");
    page(db, COLUMNS, &from, "d.listing", &[&tenant.uuid(), &application.as_str()], request, read).await
}

pub(super) async fn register(
    db: &Db,
    after: &mut After,
    vault: &Vault,
    tenant: TenantId,
    application: &ListingId,
    new: &NewDevice,
    by: By,
) -> Result<ListedDevice, Fault> {
    may_seal(db, &vault.sealer).await?;
    let home = found(application_id(db, tenant, application).await?, "application")?;
    if taken(db, home, &new.listing).await? {
        return Err(DirectoryError::Taken("device id").into());
    }
    if let Some(most) = new.most {
        room(registered(db, home).await?, most)?;
    }
    create(db, after, vault, (tenant, home), new, by).await?;
    let home = Place { application: application.clone(), device: new.listing.clone() };
    Ok(found(at_home(db, tenant, &home).await?, "device")?)
}

/// How many devices are at home in the applications of an application's customer; it stays so until the end of the
/// transaction, for everybody who asks here.
async fn registered(db: &Db, application: Uuid) -> Result<u32, Fault> {
    let sql = "SELECT id FROM customer WHERE id = (SELECT customer FROM application WHERE id = $1) FOR NO KEY UPDATE";
    let Some(row) = db.row(sql, &[&application]).await? else { return Ok(0) };
    let customer: Uuid = rows::get(&row, 0)?;
    let sql = "SELECT count(*) FROM device d JOIN application h ON h.id = d.home_application WHERE h.customer = $1";
    rows::count(&db.one(sql, &[&customer]).await?, 0)
}

/// Makes a device at home in an application, under an id that is not taken.
pub(crate) async fn create(
    db: &Db,
    after: &mut After,
    vault: &Vault,
    (tenant, home): (TenantId, Uuid),
    new: &NewDevice,
    by: By,
) -> Result<DeviceId, Fault> {
    let id = DeviceId::random();
    let (name, identity) = (name(new)?, &new.identity);
    let profile = profiles::by_name_or_default(db, tenant, None).await?;
    let sql = "INSERT INTO device (id, tenant, name, profile, label, gateway, created_at, home_application, home_listing, \
         application, listing, dev_eui, join_eui, external_id, serial_number, vendor_id, vendor_profile_id, \
         description, texts, claiming_allowed, claiming_allowed_at, public_key, provisioner) VALUES ($1, $2, $3, $4, \
         $5, FALSE, $6, $7, $8, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)";
    let values: Values<'_> = &[
        &id.uuid(),
        &tenant.uuid(),
        &name.as_str(),
        &profile.uuid(),
        &new.label,
        &by.now.as_millis(),
        &home,
        &new.listing.as_str(),
        &identity.dev_eui.as_ref().map(|eui| eui.as_bytes().as_slice()),
        &identity.join_eui.as_ref().map(|eui| eui.as_bytes().as_slice()),
        &identity.external_id,
        &identity.serial_number,
        &identity.vendor_id.map(i64::from),
        &identity.vendor_profile_id.map(i64::from),
        &identity.description,
        &texts(&identity.texts)?,
        &new.claiming_allowed,
        &new.claiming_allowed.map(|_| by.now.as_millis()),
        &identity.public_key,
        &identity.provisioner,
    ];
    db.run(sql, values).await.map_err(clash)?;
    credentials::create(db, after, vault, (tenant, id), None, by.now).await?;
    if let Some(code) = &new.code {
        codes::store(db, vault, tenant, id, code, by.now).await?;
    }
    root_keys::store(db, vault, (tenant, id), &new.root_keys, new.root_keys_exposed).await?;
    let deed =
        Deed { tenant, subject: id.as_bytes(), name: name.as_str(), event: MakerEvent::DeviceRegistered, reason: None };
    deed.record_in(db, after, by).await?;
    after.forget.push(Forget::Device(id));
    Ok(id)
}

/// Which of its identities another device has: the broken index says.
fn clash(fault: Fault) -> Fault {
    if fault.code() != Some(&SqlState::UNIQUE_VIOLATION) {
        return fault;
    }
    let what = match fault.constraint() {
        Some("device_home" | "device_listing") => "device id",
        Some("device_dev_eui") => "dev_eui",
        Some("device_external_id") => "external_id",
        Some("device_name") => "name",
        _ => return fault,
    };
    DirectoryError::Taken(what).into()
}

pub(super) async fn remove(db: &Db, after: &mut After, tenant: TenantId, home: &Place, by: By) -> Result<(), Fault> {
    let device = found(held(db, tenant, home).await?, "device")?;
    if device.owner.is_some() {
        return Err(OWNED.into());
    }
    devices::delete(db, after, tenant, device.device, by).await
}

pub(super) async fn change(
    db: &Db,
    after: &mut After,
    tenant: TenantId,
    home: &Place,
    change: &DeviceChange,
    by: By,
) -> Result<ListedDevice, Fault> {
    let device = found(held(db, tenant, home).await?, "device")?;
    let id = device.device.uuid();
    if let Some(allowed) = change.claiming_allowed {
        let sql = "UPDATE device SET claiming_allowed = $2, claiming_allowed_at = $3 WHERE id = $1";
        db.run(sql, &[&id, &allowed, &allowed.map(|_| by.now.as_millis())]).await?;
    }
    // What was proved without an announcement must be proved again.
    let presence = change.presence.filter(|presence| *presence != device.presence);
    let sql = "UPDATE device SET frozen = coalesce($2, frozen), presence = coalesce($3, presence), \
         generation = generation + CASE WHEN $3 IS NULL THEN 0 ELSE 1 END, version = version + 1 WHERE id = $1";
    db.run(sql, &[&id, &change.frozen, &presence]).await?;
    for event in deeds(&device, change) {
        record(db, after, &device, event, change.reason.as_deref(), by).await?;
    }
    Ok(found(at_home(db, device.tenant, &device.home).await?, "device")?)
}

pub(super) async fn note_release(
    db: &Db,
    after: &mut After,
    tenant: TenantId,
    home: &Place,
    reason: &str,
    by: By,
) -> Result<(), Fault> {
    let device = found(at_home(db, tenant, home).await?, "device")?;
    record(db, after, &device, MakerEvent::ForceReleased, Some(reason), by).await
}

pub(crate) async fn record(
    db: &Db,
    after: &mut After,
    device: &ListedDevice,
    event: MakerEvent,
    reason: Option<&str>,
    by: By,
) -> Result<(), Fault> {
    let (subject, name) = (device.device.as_bytes(), device.name.as_str());
    Deed { tenant: device.tenant, subject, name, event, reason }.record_in(db, after, by).await?;
    after.forget.push(Forget::Device(device.device));
    Ok(())
}

/// Records what happened to a device and reads it again.
pub(super) async fn changed(
    db: &Db,
    after: &mut After,
    device: &ListedDevice,
    event: MakerEvent,
    by: By,
) -> Result<ListedDevice, Fault> {
    record(db, after, device, event, None, by).await?;
    Ok(found(at_home(db, device.tenant, &device.home).await?, "device")?)
}
