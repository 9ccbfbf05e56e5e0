//! What became of each row, and the codes that were made up. See `crate::imports::results`.

use claim::applications::ListedDevice;
use claim::imports::{GeneratedCode, ImportId, ImportJob, RowResult, RowStatus};
use claim::{DeviceId, ListingId, Secret, TenantId};

use super::jobs::named;
use crate::directory::credentials::Vault;
use crate::imports::results::{is_written, kept_faults, status};
use crate::listings::codes::FOREIGN;
use crate::postgres::db::{Db, Fault};
use crate::postgres::listings::{codes, devices};
use crate::postgres::rows;

pub(super) async fn rows(
    db: &Db,
    tenant: TenantId,
    job: &ImportJob,
    after: u64,
    limit: u32,
    failed: bool,
) -> Result<Vec<RowResult>, Fault> {
    let status = status("$5");
    let sql = format!(
        "SELECT r.row, r.listing, {status} AS now, r.faults FROM import_row r JOIN import i ON i.rid = r.job \
         WHERE i.id = $1 AND i.tenant = $2 AND r.row > $3 AND (NOT $6 OR {status} IN ('failed', 'not_applied')) \
         ORDER BY r.row LIMIT $4"
    );
    let (after, limit, written) = (after.cast_signed(), i64::from(limit), is_written(job.state));
    let found = db.rows(&sql, &[&job.id.uuid(), &tenant.uuid(), &after, &limit, &written, &failed]).await?;
    let mut results = Vec::with_capacity(found.len());
    for row in &found {
        let (errors, warnings) = kept_faults(rows::get(row, 3)?);
        results.push(RowResult {
            row: rows::get::<i64>(row, 0)?.unsigned_abs(),
            id: rows::get(row, 1)?,
            status: named(row, 2, &RowStatus::ALL, RowStatus::name)?,
            errors,
            warnings,
        });
    }
    Ok(results)
}

pub(super) async fn codes(
    db: &Db,
    vault: &Vault,
    tenant: TenantId,
    id: ImportId,
    after: u64,
    limit: u32,
) -> Result<Vec<GeneratedCode>, Fault> {
    let sql = "SELECT r.row, r.device FROM import_row r JOIN import i ON i.rid = r.job \
         JOIN device d ON d.id = r.device AND d.code_set_at = r.code_set_at AND d.code_sealed IS NOT NULL \
         WHERE i.id = $1 AND i.tenant = $2 AND r.row > $3 AND r.device IS NOT NULL ORDER BY r.row LIMIT $4";
    let (after, limit) = (after.cast_signed(), i64::from(limit));
    let made_up = db.rows(sql, &[&id.uuid(), &tenant.uuid(), &after, &limit]).await?;
    let mut generated = Vec::with_capacity(made_up.len());
    for row in &made_up {
        let device = DeviceId::from_bytes(rows::id(row, 1)?);
        let Some(device) = devices::by_id(db, tenant, device).await? else { continue };
        // It may have been claimed, and its code spent, since the rows were read.
        let Some(sealed) = codes::kept(db, device.device).await? else { continue };
        let code = crate::listings::codes::opened(vault, (tenant, device.device), &sealed).ok_or(FOREIGN)?;
        generated.push(GeneratedCode { row: rows::get::<i64>(row, 0)?.unsigned_abs(), device, code });
    }
    Ok(generated)
}

/// Devices at home in an application after an id.
pub(super) async fn devices(
    db: &Db,
    vault: &Vault,
    tenant: TenantId,
    application: &ListingId,
    after: Option<&ListingId>,
    with_codes: bool,
    limit: u32,
) -> Result<Vec<(ListedDevice, Option<Secret<String>>)>, Fault> {
    let listed = devices::at_home_after(db, tenant, application, after, limit).await?;
    let mut with = Vec::with_capacity(listed.len());
    for device in listed {
        let code = match with_codes && device.code.is_some() {
            true => codes::open(db, vault, tenant, device.device).await?,
            false => None,
        };
        with.push((device, code));
    }
    Ok(with)
}
