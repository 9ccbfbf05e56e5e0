//! How rows wait: as JSON, sealed, for they hold codes and keys.

use claim::applications::{Identity, NewCode, RootKeys};
use claim::directory::DirectoryError;
use claim::imports::{GoodRow, ImportId};
use claim::{Eui64, ListingId, Secret, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::directory::credentials::Vault;

/// More than most rows take.
const ROW_BYTES: usize = 2_048;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Waiting {
    row: u64,
    listing: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dev_eui: Option<[u8; 8]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    join_eui: Option<[u8; 8]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    serial_number: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vendor_id: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vendor_profile_id: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    texts: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_key: Option<Vec<u8>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provisioner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claiming_allowed: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<Code>,
    #[serde(default)]
    window: (Option<i64>, Option<i64>),
    #[serde(default, skip_serializing_if = "Option::is_none")]
    app_key: Option<Zeroizing<[u8; 16]>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nwk_key: Option<Zeroizing<[u8; 16]>>,
    #[serde(default)]
    root_keys_exposed: bool,
}

#[derive(Serialize, Deserialize)]
struct Code {
    value: Zeroizing<String>,
    any_case: bool,
    from: Option<i64>,
    until: Option<i64>,
    generated: bool,
}

fn bound_to<'a>(tenant: &'a TenantId, job: &'a ImportId) -> [&'a [u8]; 3] {
    [b"import", tenant.as_bytes(), job.as_bytes()]
}

impl Waiting {
    fn of(row: u64, good: &GoodRow) -> Self {
        let (identity, keys) = (&good.identity, &good.root_keys);
        let key = |key: &Option<Secret<[u8; 16]>>| key.as_ref().map(|key| Zeroizing::new(*key.expose()));
        Self {
            row,
            listing: good.listing.as_str().to_owned(),
            label: good.label.clone(),
            dev_eui: identity.dev_eui.map(|eui| *eui.as_bytes()),
            join_eui: identity.join_eui.map(|eui| *eui.as_bytes()),
            external_id: identity.external_id.clone(),
            serial_number: identity.serial_number.clone(),
            vendor_id: identity.vendor_id,
            vendor_profile_id: identity.vendor_profile_id,
            description: identity.description.clone(),
            texts: identity.texts.clone(),
            public_key: identity.public_key.clone(),
            provisioner: identity.provisioner.clone(),
            claiming_allowed: good.claiming_allowed,
            code: good.code.as_ref().map(|code| Code {
                value: Zeroizing::new(code.code.expose().clone()),
                any_case: code.any_case,
                from: code.from.map(Timestamp::as_millis),
                until: code.until.map(Timestamp::as_millis),
                generated: good.generated,
            }),
            window: (good.window.0.map(Timestamp::as_millis), good.window.1.map(Timestamp::as_millis)),
            app_key: key(&keys.app_key),
            nwk_key: key(&keys.nwk_key),
            root_keys_exposed: good.root_keys_exposed,
        }
    }

    fn read(self) -> Option<(u64, GoodRow)> {
        let generated = self.code.as_ref().is_some_and(|code| code.generated);
        let good = GoodRow {
            listing: ListingId::parse(&self.listing).ok()?,
            label: self.label,
            identity: Identity {
                dev_eui: self.dev_eui.map(Eui64::from_bytes),
                join_eui: self.join_eui.map(Eui64::from_bytes),
                external_id: self.external_id,
                serial_number: self.serial_number,
                vendor_id: self.vendor_id,
                vendor_profile_id: self.vendor_profile_id,
                description: self.description,
                texts: self.texts,
                public_key: self.public_key,
                provisioner: self.provisioner,
            },
            claiming_allowed: self.claiming_allowed,
            code: self.code.map(|mut code| NewCode {
                code: Secret::new(std::mem::take(&mut *code.value)),
                any_case: code.any_case,
                from: code.from.map(Timestamp::from_millis),
                until: code.until.map(Timestamp::from_millis),
            }),
            window: (self.window.0.map(Timestamp::from_millis), self.window.1.map(Timestamp::from_millis)),
            generated,
            root_keys: RootKeys {
                app_key: self.app_key.map(|key| Secret::new(*key)),
                nwk_key: self.nwk_key.map(|key| Secret::new(*key)),
            },
            root_keys_exposed: self.root_keys_exposed,
        };
        Some((self.row, good))
    }
}

pub(crate) fn seal(
    vault: &Vault,
    tenant: TenantId,
    job: ImportId,
    rows: &[(u64, &GoodRow)],
) -> Result<Vec<u8>, DirectoryError> {
    let rows: Vec<Waiting> = rows.iter().map(|(row, good)| Waiting::of(*row, good)).collect();
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let mut json = Secret::new(Vec::with_capacity(ROW_BYTES * rows.len()));
    serde_json::to_writer(json.expose_mut(), &rows).map_err(|_| DirectoryError::Unavailable)?;
    vault.sealer.seal(&bound_to(&tenant, &job), json.expose()).ok_or(DirectoryError::Unavailable)
}

pub(crate) fn open(
    vault: &Vault,
    tenant: TenantId,
    job: ImportId,
    sealed: &[u8],
) -> Result<Vec<(u64, GoodRow)>, DirectoryError> {
    let damaged = DirectoryError::Refused("the import's rows were sealed under another master key");
    let json = vault.sealer.open(&bound_to(&tenant, &job), sealed).ok_or(damaged.clone())?;
    let rows: Vec<Waiting> = serde_json::from_slice(json.expose()).map_err(|_| damaged.clone())?;
    rows.into_iter().map(|row| row.read().ok_or(damaged.clone())).collect()
}
