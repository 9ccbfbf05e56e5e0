//! Root keys at rest. See `crate::listings::root_keys`.

use claim::applications::{By, Place, RootKeys};
use claim::event::MakerEvent;
use claim::{DeviceId, TenantId};

use super::devices::{held, record};
use crate::directory::credentials::Vault;
use crate::directory::found;
use crate::listings::root_keys::{are_kept, opened, sealed};
use crate::postgres::After;
use crate::postgres::db::{Db, Fault};
use crate::postgres::rows;

/// Seals the keys that are given; a key that is not given stays as it is.
pub(crate) async fn store(
    db: &Db,
    vault: &Vault,
    (tenant, device): (TenantId, DeviceId),
    new: &RootKeys,
    exposed: bool,
) -> Result<(), Fault> {
    if exposed {
        db.run("UPDATE device SET root_keys_exposed = TRUE WHERE id = $1", &[&device.uuid()]).await?;
    }
    if new.is_empty() {
        return Ok(());
    }
    let kept = read(db, vault, tenant, device).await?;
    let sealed = sealed(vault, (tenant, device), kept, new)?;
    db.run("UPDATE device SET root_keys_sealed = $2 WHERE id = $1", &[&device.uuid(), &sealed]).await?;
    Ok(())
}

async fn read(db: &Db, vault: &Vault, tenant: TenantId, device: DeviceId) -> Result<Option<RootKeys>, Fault> {
    let row = db.row("SELECT root_keys_sealed FROM device WHERE id = $1", &[&device.uuid()]).await?;
    let sealed: Option<Vec<u8>> = row.map(|row| rows::get(&row, 0)).transpose()?.flatten();
    Ok(sealed.map(|sealed| opened(vault, (tenant, device), &sealed)).transpose()?)
}

/// Whether the keys that are given are those that are kept.
pub(crate) async fn same(
    db: &Db,
    vault: &Vault,
    (tenant, device): (TenantId, DeviceId),
    given: &RootKeys,
) -> Result<bool, Fault> {
    if given.is_empty() {
        return Ok(true);
    }
    Ok(are_kept(given, &read(db, vault, tenant, device).await?.unwrap_or_default()))
}

pub(super) async fn export(
    db: &Db,
    after: &mut After,
    vault: &Vault,
    tenant: TenantId,
    home: &Place,
    by: By,
) -> Result<RootKeys, Fault> {
    let device = found(held(db, tenant, home).await?, "device")?;
    let keys = found(read(db, vault, tenant, device.device).await?, "root keys")?;
    let sql = "UPDATE device SET root_keys_exposed = TRUE, version = version + 1 WHERE id = $1";
    db.run(sql, &[&device.device.uuid()]).await?;
    record(db, after, &device, MakerEvent::RootKeysExported, None, by).await?;
    Ok(keys)
}
