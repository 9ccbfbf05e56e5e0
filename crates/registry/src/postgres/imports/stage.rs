//! Checking rows while their file arrives. See `crate::imports::stage`.

use claim::imports::{GoodRow, ImportCounts, ImportId, ImportRow, Known, RowFault, RowStatus};
use claim::{Eui64, ListingId, TenantId, Timestamp};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::jobs::{self, Inner};
use crate::directory::credentials::Vault;
use crate::imports::sealed;
use crate::imports::stage::{Checked, count, may_stage, repeated};
use crate::postgres::db::{Db, Fault, Values};
use crate::postgres::keys::may_seal;
use crate::postgres::listings::{codes, devices, root_keys};
use crate::postgres::rows;

pub(super) async fn stage(
    db: &Db,
    vault: &Vault,
    tenant: TenantId,
    id: ImportId,
    staged: &[ImportRow],
    now: Timestamp,
) -> Result<ImportCounts, Fault> {
    let (job, inner) = jobs::hold(db, tenant, id).await?;
    may_stage(&job, staged)?;
    let mut counts = job.checked;
    let mut waiting = Vec::with_capacity(staged.len());
    for row in staged {
        let checked = match &row.outcome {
            Err(errors) => Checked::bad(errors),
            Ok(good) => {
                let repeats = repeats(db, inner.rid, good).await?;
                let known = known(db, vault, tenant, (inner.application, &job.application), good).await?;
                Checked::good(good, &known, repeats)
            }
        };
        count(&mut counts, checked.status);
        insert(db, &inner, row, &checked).await?;
        if let Ok(good) = &row.outcome
            && checked.status != RowStatus::Failed
        {
            waiting.push((row.row, &**good));
        }
    }
    if let Some((last, _)) = waiting.last().filter(|_| !job.dry_run) {
        may_seal(db, &vault.sealer).await?;
        let sql = "INSERT INTO import_batch (job, last, sealed) VALUES ($1, $2, $3)";
        db.run(sql, &[&inner.rid, &last.cast_signed(), &sealed::seal(vault, tenant, id, &waiting)?]).await?;
    }
    jobs::heard(db, inner.rid, &counts, now).await?;
    Ok(counts)
}

/// Rows before this one in the file that mean the same device.
async fn repeats(db: &Db, job: i64, good: &GoodRow) -> Result<Vec<RowFault>, Fault> {
    let mut faults = Vec::new();
    faults.extend(first(db, job, "listing", &good.listing.as_str(), ("id", good.listing.to_string())).await?);
    if let Some(eui) = good.identity.dev_eui {
        let bytes = eui.as_bytes().as_slice();
        faults.extend(first(db, job, "dev_eui", &bytes, ("dev_eui", eui.to_string())).await?);
    }
    if let Some(external) = &good.identity.external_id {
        faults.extend(first(db, job, "external_id", external, ("external_id", external.clone())).await?);
    }
    Ok(faults)
}

async fn first(
    db: &Db,
    job: i64,
    column: &str,
    value: &(dyn ToSql + Sync),
    (shown_as, shown): (&str, String),
) -> Result<Option<RowFault>, Fault> {
    let sql = format!("SELECT row FROM import_row WHERE job = $1 AND {column} = $2 LIMIT 1");
    let row = db.row(&sql, &[&job, value]).await?;
    row.map(|row| Ok(repeated(shown_as, shown, rows::get(&row, 0)?))).transpose()
}

/// What is known of the devices that a row may mean.
pub(super) async fn known(
    db: &Db,
    vault: &Vault,
    tenant: TenantId,
    (application, listing): (Uuid, &ListingId),
    good: &GoodRow,
) -> Result<Known, Fault> {
    let mut known = Known { application: Some(listing.clone()), same_keys: true, ..Known::default() };
    if let Some(external) = &good.identity.external_id {
        known.by_external_id = devices::by_external_id(db, tenant, external).await?;
    }
    if let Some(eui) = good.identity.dev_eui {
        known.by_dev_eui = devices::by_dev_eui(db, tenant, eui).await?;
        known.dev_eui_elsewhere = known.by_dev_eui.is_none() && elsewhere(db, tenant, eui).await?;
    }
    known.by_id = devices::at_home_in(db, tenant, application, &good.listing).await?;
    match known.device() {
        Some(device) => {
            let key = (tenant, device.device);
            let same_code = match &good.code {
                Some(code) => codes::same(db, vault, key, device.owner.is_some(), code).await?,
                None => false,
            };
            let same_keys = root_keys::same(db, vault, key, &good.root_keys).await?;
            (known.same_code, known.same_keys) = (same_code, same_keys);
        }
        None => {
            known.id_taken = devices::taken(db, application, &good.listing).await?
                || devices::name_taken(db, tenant, good.listing.as_str()).await?;
        }
    }
    Ok(known)
}

/// Whether another tenant's device has this DevEUI.
async fn elsewhere(db: &Db, tenant: TenantId, eui: Eui64) -> Result<bool, Fault> {
    let sql = "SELECT EXISTS (SELECT 1 FROM device WHERE dev_eui = $1 AND tenant <> $2)";
    rows::get(&db.one(sql, &[&eui.as_bytes().as_slice(), &tenant.uuid()]).await?, 0)
}

async fn insert(db: &Db, job: &Inner, row: &ImportRow, checked: &Checked) -> Result<(), Fault> {
    let identity = row.outcome.as_ref().ok().map(|good| &good.identity);
    let sql = "INSERT INTO import_row (job, row, listing, dev_eui, external_id, checked, faults) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let values: Values<'_> = &[
        &job.rid,
        &row.row.cast_signed(),
        &row.id,
        &identity.and_then(|identity| identity.dev_eui.as_ref()).map(|eui| eui.as_bytes().as_slice()),
        &identity.and_then(|identity| identity.external_id.as_ref()),
        &checked.status.name(),
        &checked.faults(row),
    ];
    db.run(sql, values).await?;
    Ok(())
}
