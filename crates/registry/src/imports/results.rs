//! What became of each row, and the codes that were made up.

use claim::applications::ListedDevice;
use claim::directory::DirectoryError;
use claim::imports::{GeneratedCode, ImportId, ImportJob, ImportState, RowFault, RowResult, RowStatus};
use claim::{ListingId, Secret, TenantId};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::jobs::named;
use crate::directory::credentials::Vault;
use crate::listings::{codes, devices};
use crate::rows;

#[derive(Default, Serialize, Deserialize)]
struct Faults {
    #[serde(default)]
    errors: Vec<RowFault>,
    #[serde(default)]
    warnings: Vec<RowFault>,
}

/// How a row's faults are kept; `None` for none.
pub(crate) fn faults(errors: &[RowFault], warnings: &[RowFault]) -> Option<String> {
    let faults = Faults { errors: errors.to_vec(), warnings: warnings.to_vec() };
    if errors.is_empty() && warnings.is_empty() { None } else { serde_json::to_string(&faults).ok() }
}

/// A row's errors and warnings, as they were kept.
pub(crate) fn kept_faults(kept: Option<&str>) -> (Vec<RowFault>, Vec<RowFault>) {
    let Faults { errors, warnings } = kept.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    (errors, warnings)
}

/// While a job is under way, and for a check, a row is what it would become; afterwards it was written or it was not.
pub(crate) fn is_written(state: ImportState) -> bool {
    matches!(state, ImportState::Stopped | ImportState::Done | ImportState::Refused | ImportState::Broken)
}

/// The SQL of a row's status; `written` is the parameter which says that what was not dealt with will not be.
pub(crate) fn status(written: &str) -> String {
    format!(
        "CASE WHEN r.checked = 'failed' THEN 'failed' WHEN r.status IS NOT NULL THEN r.status \
         WHEN {written} THEN 'not_applied' ELSE r.checked END"
    )
}

pub(super) fn rows(
    connection: &Connection,
    tenant: TenantId,
    job: &ImportJob,
    after: u64,
    limit: u32,
    failed: bool,
) -> rusqlite::Result<Vec<RowResult>> {
    let written = is_written(job.state);
    let status = status("?5");
    let sql = format!(
        "SELECT r.row, r.listing, {status} AS now, r.faults FROM import_row r JOIN import i ON i.rid = r.job \
         WHERE i.id = ?1 AND i.tenant = ?2 AND r.row > ?3 AND (NOT ?6 OR {status} IN ('failed', 'not_applied')) \
         ORDER BY r.row LIMIT ?4"
    );
    connection
        .prepare_cached(&sql)?
        .query_map(params![job.id.as_bytes(), tenant.as_bytes(), after.cast_signed(), limit, written, failed], |row| {
            let kept: Option<String> = row.get(3)?;
            let (errors, warnings) = kept_faults(kept.as_deref());
            Ok(RowResult {
                row: row.get::<_, i64>(0)?.unsigned_abs(),
                id: row.get(1)?,
                status: named(row, 2, &RowStatus::ALL, RowStatus::name)?,
                errors,
                warnings,
            })
        })?
        .collect()
}

pub(super) fn codes(
    connection: &Connection,
    vault: &Vault,
    tenant: TenantId,
    id: ImportId,
    after: u64,
    limit: u32,
) -> rusqlite::Result<Vec<GeneratedCode>> {
    let made_up: Vec<(i64, [u8; 16])> = connection
        .prepare_cached(
            "SELECT r.row, r.device FROM import_row r JOIN import i ON i.rid = r.job \
             JOIN device d ON d.id = r.device AND d.code_set_at = r.code_set_at AND d.code_sealed IS NOT NULL \
             WHERE i.id = ?1 AND i.tenant = ?2 AND r.row > ?3 AND r.device IS NOT NULL ORDER BY r.row LIMIT ?4",
        )?
        .query_map(params![id.as_bytes(), tenant.as_bytes(), after.cast_signed(), limit], |row| {
            Ok((row.get(0)?, rows::bytes(row, 1)?))
        })?
        .collect::<Result<_, _>>()?;
    let mut generated = Vec::with_capacity(made_up.len());
    for (row, device) in made_up {
        let device = claim::DeviceId::from_bytes(device);
        let Some(device) = devices::by_id(connection, tenant, device)? else { continue };
        let code = codes::open(connection, vault, tenant, device.device)?.ok_or_else(|| {
            let sealed = DirectoryError::Refused("sealed under another master key");
            rusqlite::Error::ToSqlConversionFailure(format!("{sealed:?}").into())
        })?;
        generated.push(GeneratedCode { row: row.unsigned_abs(), device, code });
    }
    Ok(generated)
}

/// Devices at home in an application after an id.
pub(super) fn devices(
    connection: &Connection,
    vault: &Vault,
    tenant: TenantId,
    application: &ListingId,
    after: Option<&ListingId>,
    with_codes: bool,
    limit: u32,
) -> rusqlite::Result<Vec<(ListedDevice, Option<Secret<String>>)>> {
    let listed = devices::at_home_after(connection, tenant, application, after, limit)?;
    let with_code = |device: ListedDevice| {
        let code = match with_codes && device.code.is_some() {
            true => codes::open(connection, vault, tenant, device.device)?,
            false => None,
        };
        Ok((device, code))
    };
    listed.into_iter().map(with_code).collect()
}
