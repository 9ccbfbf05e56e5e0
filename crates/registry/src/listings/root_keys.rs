//! Root keys at rest: sealed, opened only for their maker, and exposed for ever once they were.

use claim::applications::{By, Place, RootKeys};
use claim::directory::DirectoryError;
use claim::event::MakerEvent;
use claim::{DeviceId, Secret, TenantId};
use rusqlite::{Connection, params};

use super::devices::{at_home, record};
use crate::directory::credentials::Vault;
use crate::directory::found;
use crate::writer::{After, Fault};

/// What is sealed: for each key whether it is there, and the key or zeros.
const SEALED: usize = 2 * 17;

fn bound_to<'a>(tenant: &'a TenantId, device: &'a DeviceId) -> [&'a [u8]; 3] {
    [b"root_keys", tenant.as_bytes(), device.as_bytes()]
}

fn packed(keys: &RootKeys) -> Secret<[u8; SEALED]> {
    let mut packed = Secret::new([0; SEALED]);
    for (part, key) in packed.expose_mut().chunks_exact_mut(17).zip([&keys.app_key, &keys.nwk_key]) {
        if let Some(key) = key {
            part[0] = 1;
            part[1..].copy_from_slice(key.expose());
        }
    }
    packed
}

fn unpacked(packed: &[u8]) -> RootKeys {
    let mut keys = packed.chunks_exact(17).map(|part| {
        let key: Option<[u8; 16]> = part[1..].try_into().ok();
        key.filter(|_| part[0] == 1).map(Secret::new)
    });
    RootKeys { app_key: keys.next().flatten(), nwk_key: keys.next().flatten() }
}

/// Seals the keys that are given; a key that is not given stays as it is.
pub(crate) fn store(
    connection: &Connection,
    vault: &Vault,
    (tenant, device): (TenantId, DeviceId),
    new: &RootKeys,
    exposed: bool,
) -> Result<(), Fault> {
    if exposed {
        connection
            .prepare_cached("UPDATE device SET root_keys_exposed = 1 WHERE id = ?1")?
            .execute([device.as_bytes()])?;
    }
    if new.is_empty() {
        return Ok(());
    }
    let kept = read(connection, vault, tenant, device)?;
    let sealed = sealed(vault, (tenant, device), kept, new)?;
    connection
        .prepare_cached("UPDATE device SET root_keys_sealed = ?2 WHERE id = ?1")?
        .execute(params![device.as_bytes(), sealed])?;
    Ok(())
}

/// The kept keys and the new ones, as they are kept; a new one goes before a kept one.
pub(crate) fn sealed(
    vault: &Vault,
    (tenant, device): (TenantId, DeviceId),
    kept: Option<RootKeys>,
    new: &RootKeys,
) -> Result<Vec<u8>, DirectoryError> {
    let mut whole = kept.unwrap_or_default();
    let RootKeys { app_key, nwk_key } = copy(new);
    whole.app_key = app_key.or(whole.app_key);
    whole.nwk_key = nwk_key.or(whole.nwk_key);
    let sealed = vault.sealer.seal(&bound_to(&tenant, &device), packed(&whole).expose());
    sealed.ok_or(DirectoryError::Unavailable)
}

/// Kept keys in clear.
pub(crate) fn opened(
    vault: &Vault,
    (tenant, device): (TenantId, DeviceId),
    sealed: &[u8],
) -> Result<RootKeys, DirectoryError> {
    let clear = vault.sealer.open(&bound_to(&tenant, &device), sealed);
    let clear = clear.ok_or(DirectoryError::Refused("the root keys were sealed under another master key"))?;
    Ok(unpacked(clear.expose()))
}

/// The same keys once more.
pub(crate) fn copy(keys: &RootKeys) -> RootKeys {
    let copy = |key: &Option<Secret<[u8; 16]>>| key.as_ref().map(|key| Secret::new(*key.expose()));
    RootKeys { app_key: copy(&keys.app_key), nwk_key: copy(&keys.nwk_key) }
}

fn read(connection: &Connection, vault: &Vault, tenant: TenantId, device: DeviceId) -> Result<Option<RootKeys>, Fault> {
    let sealed: Option<Vec<u8>> = connection
        .prepare_cached("SELECT root_keys_sealed FROM device WHERE id = ?1")?
        .query_row([device.as_bytes()], |row| row.get(0))?;
    Ok(sealed.map(|sealed| opened(vault, (tenant, device), &sealed)).transpose()?)
}

/// Whether the keys that are given are those that are kept.
pub(crate) fn same(
    connection: &Connection,
    vault: &Vault,
    (tenant, device): (TenantId, DeviceId),
    given: &RootKeys,
) -> Result<bool, Fault> {
    if given.is_empty() {
        return Ok(true);
    }
    Ok(are_kept(given, &read(connection, vault, tenant, device)?.unwrap_or_default()))
}

/// Whether each key that is given is kept.
pub(crate) fn are_kept(given: &RootKeys, kept: &RootKeys) -> bool {
    let same = |given: &Option<Secret<[u8; 16]>>, kept: &Option<Secret<[u8; 16]>>| match (given, kept) {
        (None, _) => true,
        (Some(given), Some(kept)) => given.expose() == kept.expose(),
        (Some(_), None) => false,
    };
    same(&given.app_key, &kept.app_key) && same(&given.nwk_key, &kept.nwk_key)
}

pub(super) fn export(
    connection: &Connection,
    after: &mut After,
    vault: &Vault,
    tenant: TenantId,
    home: &Place,
    by: By,
) -> Result<RootKeys, Fault> {
    let device = found(at_home(connection, tenant, home)?, "device")?;
    let keys = found(read(connection, vault, tenant, device.device)?, "root keys")?;
    connection
        .prepare_cached("UPDATE device SET root_keys_exposed = 1, version = version + 1 WHERE id = ?1")?
        .execute([device.device.as_bytes()])?;
    record(connection, after, &device, MakerEvent::RootKeysExported, None, by)?;
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_there_or_not_by_itself() {
        for (app, nwk) in [(None, None), (Some([0; 16]), None), (None, Some([7; 16])), (Some([1; 16]), Some([2; 16]))] {
            let keys = RootKeys { app_key: app.map(Secret::new), nwk_key: nwk.map(Secret::new) };
            let back = unpacked(packed(&keys).expose());
            assert_eq!(back.app_key.map(|key| *key.expose()), app);
            assert_eq!(back.nwk_key.map(|key| *key.expose()), nwk);
        }
    }
}
