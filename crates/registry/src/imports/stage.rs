//! Checking rows while their file arrives.

use claim::directory::DirectoryError;
use claim::imports::{
    BATCH, GoodRow, ImportCounts, ImportId, ImportJob, ImportRow, ImportState, Known, RowFault, RowStatus, Verdict,
    judge,
};
use claim::{Eui64, ListingId, TenantId, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use super::jobs::{self, Inner};
use super::sealed;
use crate::directory::credentials::Vault;
use crate::directory::found;
use crate::listings::{codes, devices, root_keys};
use crate::rows;
use crate::writer::Fault;

pub(super) fn stage(
    connection: &Connection,
    vault: &Vault,
    tenant: TenantId,
    id: ImportId,
    staged: &[ImportRow],
    now: Timestamp,
) -> Result<ImportCounts, Fault> {
    let job = found(jobs::one(connection, tenant, id)?, "import")?;
    may_stage(&job, staged)?;
    let inner = jobs::inner(connection, tenant, id)?;
    let mut counts = job.checked;
    let mut waiting = Vec::with_capacity(staged.len());
    for row in staged {
        let checked = match &row.outcome {
            Err(errors) => Checked::bad(errors),
            Ok(good) => check(connection, vault, tenant, &inner, &job.application, good)?,
        };
        count(&mut counts, checked.status);
        insert(connection, &inner, row, &checked)?;
        if let Ok(good) = &row.outcome
            && checked.status != RowStatus::Failed
        {
            waiting.push((row.row, &**good));
        }
    }
    if let Some((last, _)) = waiting.last().filter(|_| !job.dry_run) {
        connection
            .prepare_cached("INSERT INTO import_batch (job, last, sealed) VALUES (?1, ?2, ?3)")?
            .execute(params![inner.rid, last.cast_signed(), sealed::seal(vault, tenant, id, &waiting)?])?;
    }
    connection
        .prepare_cached(
            "UPDATE import SET rows = ?2, created = ?3, updated = ?4, unchanged = ?5, failed = ?6, changed_at = ?7 \
             WHERE rid = ?1",
        )?
        .execute(params![
            inner.rid,
            counts.rows.cast_signed(),
            counts.created.cast_signed(),
            counts.updated.cast_signed(),
            counts.unchanged.cast_signed(),
            counts.failed.cast_signed(),
            now.as_millis()
        ])?;
    Ok(counts)
}

/// Whether a job takes these rows.
pub(crate) fn may_stage(job: &ImportJob, staged: &[ImportRow]) -> Result<(), DirectoryError> {
    if job.state != ImportState::Checking || staged.len() > BATCH {
        return Err(DirectoryError::InUse("the import takes no more rows"));
    }
    Ok(())
}

/// Counts one row more.
pub(crate) fn count(counts: &mut ImportCounts, status: RowStatus) {
    counts.rows += 1;
    match status {
        RowStatus::Created => counts.created += 1,
        RowStatus::Updated => counts.updated += 1,
        RowStatus::Unchanged => counts.unchanged += 1,
        RowStatus::Failed | RowStatus::NotApplied => counts.failed += 1,
    }
}

/// What the check of a row found.
pub(crate) struct Checked {
    pub(crate) status: RowStatus,
    errors: Vec<RowFault>,
    warnings: Vec<RowFault>,
}

impl Checked {
    /// A row whose form is wrong.
    pub(crate) fn bad(errors: &[RowFault]) -> Self {
        Self { status: RowStatus::Failed, errors: errors.to_vec(), warnings: Vec::new() }
    }

    /// A good row, beside what is known of its devices and the rows of its file that mean the same ones.
    pub(crate) fn good(good: &GoodRow, known: &Known, repeats: Vec<RowFault>) -> Self {
        let (verdict, warnings) = judge(good, known);
        let (status, mut errors) = match verdict {
            Verdict::Create => (RowStatus::Created, Vec::new()),
            Verdict::Update { .. } | Verdict::Expose => (RowStatus::Updated, Vec::new()),
            Verdict::Unchanged => (RowStatus::Unchanged, Vec::new()),
            Verdict::Refuse(errors) => (RowStatus::Failed, errors),
        };
        errors.extend(repeats);
        Self { status: if errors.is_empty() { status } else { RowStatus::Failed }, errors, warnings }
    }

    /// The row's faults as they are kept; `None` for none.
    pub(crate) fn faults(&self, row: &ImportRow) -> Option<String> {
        super::results::faults(&self.errors, &[row.warnings.as_slice(), self.warnings.as_slice()].concat())
    }
}

/// What a good row would become, and what is wrong with it beside the others.
fn check(
    connection: &Connection,
    vault: &Vault,
    tenant: TenantId,
    job: &Inner,
    application: &ListingId,
    good: &GoodRow,
) -> Result<Checked, Fault> {
    let repeats = repeats(connection, job.rid, good)?;
    let known = known(connection, vault, tenant, (job.application, application), good)?;
    Ok(Checked::good(good, &known, repeats))
}

/// A row that means a device which an earlier row of the file means, by this column.
pub(crate) fn repeated(column: &str, shown: String, row: i64) -> RowFault {
    RowFault {
        column: column.to_owned(),
        value: Some(shown),
        code: "repeated".into(),
        reason: format!("row {row} of this file has it too"),
    }
}

/// Rows before this one in the file that mean the same device.
fn repeats(connection: &Connection, job: i64, good: &GoodRow) -> rusqlite::Result<Vec<RowFault>> {
    let eui = good.identity.dev_eui;
    let mut faults = Vec::new();
    let mut note = |column: &str, shown: String, row: Option<i64>| {
        faults.extend(row.map(|row| repeated(column, shown, row)));
    };
    let first = |column: &str, value: &dyn rusqlite::ToSql| {
        connection
            .prepare_cached(&format!("SELECT row FROM import_row WHERE job = ?1 AND {column} = ?2 LIMIT 1"))?
            .query_row(params![job, value], |row| row.get::<_, i64>(0))
            .optional()
    };
    note("id", good.listing.to_string(), first("listing", &good.listing.as_str())?);
    if let Some(eui) = eui {
        note("dev_eui", eui.to_string(), first("dev_eui", &eui.as_bytes().as_slice())?);
    }
    if let Some(external) = &good.identity.external_id {
        note("external_id", external.clone(), first("external_id", external)?);
    }
    Ok(faults)
}

/// What is known of the devices that a row may mean.
pub(super) fn known(
    connection: &Connection,
    vault: &Vault,
    tenant: TenantId,
    (application, listing): ([u8; 16], &ListingId),
    good: &GoodRow,
) -> Result<Known, Fault> {
    let mut known = Known { application: Some(listing.clone()), same_keys: true, ..Known::default() };
    if let Some(external) = &good.identity.external_id {
        known.by_external_id = devices::by_external_id(connection, tenant, external)?;
    }
    if let Some(eui) = good.identity.dev_eui {
        (known.by_dev_eui, known.dev_eui_elsewhere) = by_dev_eui(connection, tenant, eui)?;
    }
    known.by_id = devices::at_home_in(connection, tenant, application, &good.listing)?;
    match known.device() {
        Some(device) => {
            let key = (tenant, device.device);
            let same_code = match &good.code {
                Some(code) => codes::same(connection, vault, key, device.owner.is_some(), code)?,
                None => false,
            };
            let same_keys = root_keys::same(connection, vault, key, &good.root_keys)?;
            (known.same_code, known.same_keys) = (same_code, same_keys);
        }
        None => {
            known.id_taken = devices::taken(connection, application, &good.listing)?
                || devices::name_taken(connection, tenant, good.listing.as_str())?;
        }
    }
    Ok(known)
}

fn by_dev_eui(
    connection: &Connection,
    tenant: TenantId,
    eui: Eui64,
) -> rusqlite::Result<(Option<claim::applications::ListedDevice>, bool)> {
    let holder: Option<[u8; 16]> = connection
        .prepare_cached("SELECT tenant FROM device WHERE dev_eui = ?1")?
        .query_row([eui.as_bytes().as_slice()], |row| rows::bytes(row, 0))
        .optional()?;
    match holder {
        None => Ok((None, false)),
        Some(holder) if holder == *tenant.as_bytes() => Ok((devices::by_dev_eui(connection, tenant, eui)?, false)),
        Some(_) => Ok((None, true)),
    }
}

fn insert(connection: &Connection, job: &Inner, row: &ImportRow, checked: &Checked) -> rusqlite::Result<()> {
    let identity = row.outcome.as_ref().ok().map(|good| &good.identity);
    connection
        .prepare_cached(
            "INSERT INTO import_row (job, row, listing, dev_eui, external_id, checked, faults) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            job.rid,
            row.row.cast_signed(),
            row.id,
            identity.and_then(|identity| identity.dev_eui).as_ref().map(|eui| eui.as_bytes().as_slice()),
            identity.and_then(|identity| identity.external_id.as_ref()),
            checked.status.name(),
            checked.faults(row)
        ])?;
    Ok(())
}
