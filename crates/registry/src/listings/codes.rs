//! Claim codes at rest: a keyed digest to compare with, and the code sealed for its maker.

use claim::applications::{By, CodeChange, ListedDevice, NewCode, Place};
use claim::directory::DirectoryError;
use claim::event::MakerEvent;
use claim::{ClaimSecret, DeviceId, Secret, SecretDigest, TenantId, Timestamp};
use rusqlite::{Connection, params};

use super::devices::{at_home, changed};
use super::{Deed, millis};
use crate::directory::credentials::Vault;
use crate::directory::found;
use crate::rows;
use crate::writer::{After, Fault};

/// Puts a code into the device's slot, in place of any other and of `claimingData`; moves the generation.
pub(crate) fn store(
    connection: &Connection,
    vault: &Vault,
    tenant: TenantId,
    device: DeviceId,
    new: &NewCode,
    now: Timestamp,
) -> Result<(), Fault> {
    let digest = digest(vault, (tenant, device), new)?;
    let sealed = sealed(vault, (tenant, device), new)?;
    connection
        .prepare_cached(
            "UPDATE device SET code_digest = ?2, code_any_case = ?3, code_from = ?4, code_until = ?5, code_set_at = ?6, \
             code_sealed = ?7, generation = generation + 1, version = version + 1 WHERE id = ?1",
        )?
        .execute(params![
            device.as_bytes(),
            digest.as_bytes(),
            new.any_case,
            millis(new.from),
            millis(new.until),
            now.as_millis(),
            sealed
        ])?;
    Ok(())
}

/// What a code is compared with at a claim.
pub(crate) fn digest(
    vault: &Vault,
    (tenant, device): (TenantId, DeviceId),
    new: &NewCode,
) -> Result<SecretDigest, DirectoryError> {
    let secret =
        ClaimSecret::parse(new.code.expose().as_str()).map_err(|fault| DirectoryError::Refused(fault.text()))?;
    Ok(secret.digest(&vault.keyring, tenant, device))
}

/// A code as it is kept for its maker.
pub(crate) fn sealed(
    vault: &Vault,
    (tenant, device): (TenantId, DeviceId),
    new: &NewCode,
) -> Result<Vec<u8>, DirectoryError> {
    let sealed = vault.sealer.seal(&bound_to(&tenant, &device), new.code.expose().as_bytes());
    sealed.ok_or(DirectoryError::Unavailable)
}

/// A kept code in clear; `None`: not sealed by this install.
pub(crate) fn opened(vault: &Vault, (tenant, device): (TenantId, DeviceId), sealed: &[u8]) -> Option<Secret<String>> {
    let clear = vault.sealer.open(&bound_to(&tenant, &device), sealed)?;
    Some(Secret::new(String::from_utf8_lossy(clear.expose()).into_owned()))
}

fn bound_to<'a>(tenant: &'a TenantId, device: &'a DeviceId) -> [&'a [u8]; 3] {
    [b"claim_code", tenant.as_bytes(), device.as_bytes()]
}

/// Moves the window of the code that is stored.
pub(crate) fn set_window(
    connection: &Connection,
    device: DeviceId,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE device SET code_from = ?2, code_until = ?3, generation = generation + 1, version = version + 1 \
             WHERE id = ?1",
        )?
        .execute(params![device.as_bytes(), millis(from), millis(until)])?;
    Ok(())
}

/// Whether this is the code that the device has; of an owned one, also the code that it was claimed with.
pub(crate) fn same(
    connection: &Connection,
    vault: &Vault,
    (tenant, device): (TenantId, DeviceId),
    owned: bool,
    given: &NewCode,
) -> Result<bool, Fault> {
    let given = digest(vault, (tenant, device), given)?;
    let (code, proof) = connection
        .prepare_cached(
            "SELECT CASE WHEN code_any_case IS NOT NULL THEN code_digest END, proof_digest FROM device WHERE id = ?1",
        )?
        .query_row([device.as_bytes()], |row| Ok((rows::digest(row, 0)?, rows::digest(row, 1)?)))?;
    Ok(code == Some(given) || (owned && proof == Some(given)))
}

/// The code in clear, if there is one that this install sealed.
pub(crate) fn open(
    connection: &Connection,
    vault: &Vault,
    tenant: TenantId,
    device: DeviceId,
) -> rusqlite::Result<Option<Secret<String>>> {
    let sealed: Option<Vec<u8>> = connection
        .prepare_cached("SELECT code_sealed FROM device WHERE id = ?1")?
        .query_row([device.as_bytes()], |row| row.get(0))?;
    Ok(sealed.and_then(|sealed| opened(vault, (tenant, device), &sealed)))
}

/// What is stored on an owned device would be void from the moment it could be used, which is after its owner gave it back.
pub(crate) const OWNED: DirectoryError = DirectoryError::InUse("the device has an owner; it takes no new code");

/// Whether a device takes this change of its code, and what that is called.
pub(crate) fn may_change(device: &ListedDevice, change: &CodeChange) -> Result<MakerEvent, DirectoryError> {
    match change {
        CodeChange::Set(_) | CodeChange::Window { .. } if device.owner.is_some() => Err(OWNED),
        CodeChange::Set(_) => Ok(MakerEvent::CodeSet),
        CodeChange::Window { .. } => found(device.code, "claim code").map(|_| MakerEvent::CodeSet),
        CodeChange::Delete => found(device.code, "claim code").map(|_| MakerEvent::CodeDeleted),
    }
}

/// Why a code that is kept is not shown.
pub(crate) const FOREIGN: DirectoryError = DirectoryError::Refused("the code was sealed under another master key");

pub(super) fn change(
    connection: &Connection,
    after: &mut After,
    vault: &Vault,
    tenant: TenantId,
    home: &Place,
    change: &CodeChange,
    by: By,
) -> Result<ListedDevice, Fault> {
    let device = found(at_home(connection, tenant, home)?, "device")?;
    let id = device.device;
    let event = may_change(&device, change)?;
    match change {
        CodeChange::Set(code) => store(connection, vault, tenant, id, code, by.now)?,
        CodeChange::Window { from, until } => set_window(connection, id, *from, *until)?,
        CodeChange::Delete => {
            connection
                .prepare_cached(
                    "UPDATE device SET code_digest = NULL, code_any_case = NULL, code_from = NULL, code_until = NULL, \
                     code_set_at = NULL, code_sealed = NULL, generation = generation + 1, version = version + 1 \
                     WHERE id = ?1",
                )?
                .execute([id.as_bytes()])?;
        }
    }
    changed(connection, after, &device, event, by)
}

pub(super) fn read(
    connection: &Connection,
    after: &mut After,
    vault: &Vault,
    tenant: TenantId,
    home: &Place,
    by: By,
) -> Result<Secret<String>, Fault> {
    let device = found(at_home(connection, tenant, home)?, "device")?;
    let sealed: bool = connection
        .prepare_cached("SELECT code_sealed IS NOT NULL FROM device WHERE id = ?1")?
        .query_row([device.device.as_bytes()], |row| row.get(0))?;
    found(sealed.then_some(()), "claim code")?;
    let clear = open(connection, vault, tenant, device.device)?.ok_or(FOREIGN)?;
    let subject = device.device.as_bytes();
    let deed = Deed { tenant, subject, name: device.name.as_str(), event: MakerEvent::CodeRead, reason: None };
    deed.record(connection, after, by)?;
    Ok(clear)
}
