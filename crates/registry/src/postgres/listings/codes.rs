//! Claim codes at rest. See `crate::listings::codes`.

use claim::applications::{By, CodeChange, ListedDevice, NewCode, Place};
use claim::event::MakerEvent;
use claim::{DeviceId, Secret, TenantId, Timestamp};

use super::devices::{at_home, changed, held};
use crate::directory::credentials::Vault;
use crate::directory::found;
use crate::listings::codes::{FOREIGN, digest, may_change, opened, sealed};
use crate::listings::{Deed, millis};
use crate::postgres::After;
use crate::postgres::db::{Db, Fault};
use crate::postgres::keys::may_seal;
use crate::postgres::rows;

/// Puts a code into the device's slot, in place of any other and of `claimingData`; moves the generation.
pub(crate) async fn store(
    db: &Db,
    vault: &Vault,
    tenant: TenantId,
    device: DeviceId,
    new: &NewCode,
    now: Timestamp,
) -> Result<(), Fault> {
    let digest = digest(vault, (tenant, device), new)?;
    let sealed = sealed(vault, (tenant, device), new)?;
    let sql = "UPDATE device SET code_digest = $2, code_any_case = $3, code_from = $4, code_until = $5, \
         code_set_at = $6, code_sealed = $7, generation = generation + 1, version = version + 1 WHERE id = $1";
    let digest = digest.as_bytes().as_slice();
    let (from, until, now) = (millis(new.from), millis(new.until), now.as_millis());
    db.run(sql, &[&device.uuid(), &digest, &new.any_case, &from, &until, &now, &sealed]).await?;
    Ok(())
}

/// Moves the window of the code that is stored.
pub(crate) async fn set_window(
    db: &Db,
    device: DeviceId,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Result<(), Fault> {
    let sql = "UPDATE device SET code_from = $2, code_until = $3, generation = generation + 1, version = version + 1 \
         WHERE id = $1";
    db.run(sql, &[&device.uuid(), &millis(from), &millis(until)]).await?;
    Ok(())
}

/// Whether this is the code that the device has; of an owned one, also the code that it was claimed with.
pub(crate) async fn same(
    db: &Db,
    vault: &Vault,
    (tenant, device): (TenantId, DeviceId),
    owned: bool,
    given: &NewCode,
) -> Result<bool, Fault> {
    let given = digest(vault, (tenant, device), given)?;
    let sql = "SELECT CASE WHEN code_any_case IS NOT NULL THEN code_digest END, proof_digest FROM device WHERE id = $1";
    let Some(row) = db.row(sql, &[&device.uuid()]).await? else { return Ok(false) };
    let (code, proof) = (rows::digest(&row, 0)?, rows::digest(&row, 1)?);
    Ok(code == Some(given) || (owned && proof == Some(given)))
}

/// A device's code as it is kept for its maker.
pub(crate) async fn kept(db: &Db, device: DeviceId) -> Result<Option<Vec<u8>>, Fault> {
    match db.row("SELECT code_sealed FROM device WHERE id = $1", &[&device.uuid()]).await? {
        Some(row) => rows::get(&row, 0),
        None => Ok(None),
    }
}

/// The code in clear, if there is one that this install sealed.
pub(crate) async fn open(
    db: &Db,
    vault: &Vault,
    tenant: TenantId,
    device: DeviceId,
) -> Result<Option<Secret<String>>, Fault> {
    Ok(kept(db, device).await?.and_then(|sealed| opened(vault, (tenant, device), &sealed)))
}

pub(super) async fn change(
    db: &Db,
    after: &mut After,
    vault: &Vault,
    tenant: TenantId,
    home: &Place,
    change: &CodeChange,
    by: By,
) -> Result<ListedDevice, Fault> {
    let device = found(held(db, tenant, home).await?, "device")?;
    let id = device.device;
    let event = may_change(&device, change)?;
    match change {
        CodeChange::Set(code) => {
            may_seal(db, &vault.sealer).await?;
            store(db, vault, tenant, id, code, by.now).await?;
        }
        CodeChange::Window { from, until } => set_window(db, id, *from, *until).await?,
        CodeChange::Delete => {
            let sql = "UPDATE device SET code_digest = NULL, code_any_case = NULL, code_from = NULL, code_until = NULL, \
                 code_set_at = NULL, code_sealed = NULL, generation = generation + 1, version = version + 1 \
                 WHERE id = $1";
            db.run(sql, &[&id.uuid()]).await?;
        }
    }
    changed(db, after, &device, event, by).await
}

pub(super) async fn read(
    db: &Db,
    after: &mut After,
    vault: &Vault,
    tenant: TenantId,
    home: &Place,
    by: By,
) -> Result<Secret<String>, Fault> {
    let device = found(at_home(db, tenant, home).await?, "device")?;
    let sealed = found(kept(db, device.device).await?, "claim code")?;
    let clear = opened(vault, (tenant, device.device), &sealed).ok_or(FOREIGN)?;
    let (subject, name) = (device.device.as_bytes(), device.name.as_str());
    let deed = Deed { tenant, subject, name, event: MakerEvent::CodeRead, reason: None };
    deed.record_in(db, after, by).await?;
    Ok(clear)
}
