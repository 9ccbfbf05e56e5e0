//! The jobs themselves: their states, and their ends.

use claim::applications::By;
use claim::directory::{DirectoryError, Page, PageRequest};
use claim::event::MakerEvent;
use claim::imports::{ImportCounts, ImportDraft, ImportId, ImportJob, ImportState, OnError, RowFault};
use claim::{ListingId, TenantId, Timestamp, UserId};
use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension, Row, params};

use crate::directory::{found, page};
use crate::listings::{Deed, application_id, listing};
use crate::rows;
use crate::writer::{After, Fault};

/// Rows that one transaction deletes: some milliseconds of the writer's time.
pub(crate) const DELETED_TOGETHER: u32 = 500;
/// Sealed batches that one transaction deletes.
pub(crate) const BATCHES_TOGETHER: u32 = 20;
/// Jobs of a tenant that are kept; one more makes the oldest that is over go before its time.
pub(crate) const KEPT: u32 = 100;

pub(crate) const COLUMNS: &str = "i.id, a.listing, i.format, i.skip, i.dry_run, i.state, i.reason, i.warnings, i.rows, i.created, \
     i.updated, i.unchanged, i.failed, i.applied_rows, i.applied_created, i.applied_updated, i.applied_unchanged, \
     i.applied_failed, i.codes, i.created_at, i.changed_at";
pub(crate) const FROM: &str = "import i JOIN application a ON a.id = i.application";

/// The value of a closed set that has this name.
pub(crate) fn by_name<T: Copy>(text: &str, all: &[T], name: fn(T) -> &'static str) -> Option<T> {
    all.iter().copied().find(|value| name(*value) == text)
}

/// A value of a closed set that is kept by name.
pub(super) fn named<T>(row: &Row<'_>, column: usize, all: &[T], name: fn(T) -> &'static str) -> rusqlite::Result<T>
where
    T: Copy,
{
    by_name(row.get_ref(column)?.as_str()?, all, name)
        .ok_or_else(|| Error::FromSqlConversionFailure(column, Type::Text, "an unknown name".into()))
}

fn read(row: &Row<'_>) -> rusqlite::Result<ImportJob> {
    let count = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
    let counts = |from: usize| -> rusqlite::Result<ImportCounts> {
        Ok(ImportCounts {
            rows: count(from)?,
            created: count(from + 1)?,
            updated: count(from + 2)?,
            unchanged: count(from + 3)?,
            failed: count(from + 4)?,
        })
    };
    let warnings: Option<String> = row.get(7)?;
    Ok(ImportJob {
        id: ImportId::from_bytes(rows::bytes(row, 0)?),
        application: listing(row, 1)?,
        format: row.get(2)?,
        on_error: if row.get(3)? { OnError::Skip } else { OnError::Abort },
        dry_run: row.get(4)?,
        state: named(row, 5, &ImportState::ALL, ImportState::name)?,
        reason: row.get(6)?,
        warnings: warnings.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default(),
        checked: counts(8)?,
        applied: counts(13)?,
        codes: count(18)?,
        created_at: rows::instant(row, 19)?,
        changed_at: rows::instant(row, 20)?,
    })
}

pub(super) fn one(connection: &Connection, tenant: TenantId, id: ImportId) -> rusqlite::Result<Option<ImportJob>> {
    let sql = format!("SELECT {COLUMNS} FROM {FROM} WHERE i.id = ?1 AND i.tenant = ?2");
    connection.prepare_cached(&sql)?.query_row(params![id.as_bytes(), tenant.as_bytes()], read).optional()
}

pub(super) fn list(
    connection: &Connection,
    tenant: TenantId,
    request: &PageRequest,
) -> rusqlite::Result<Page<ImportJob>> {
    let from = format!("{FROM} WHERE i.tenant = ?1");
    page(connection, COLUMNS, &from, "-i.rid", &[tenant.as_bytes()], request, read)
}

/// The job's row number here, its account and its application.
pub(super) struct Inner {
    pub(super) rid: i64,
    pub(super) account: UserId,
    pub(super) application: [u8; 16],
    pub(super) checkpoint: i64,
}

pub(super) fn inner(connection: &Connection, tenant: TenantId, id: ImportId) -> Result<Inner, Fault> {
    let inner = connection
        .prepare_cached("SELECT rid, account, application, checkpoint FROM import WHERE id = ?1 AND tenant = ?2")?
        .query_row(params![id.as_bytes(), tenant.as_bytes()], |row| {
            Ok(Inner {
                rid: row.get(0)?,
                account: UserId::from_bytes(rows::bytes(row, 1)?),
                application: rows::bytes(row, 2)?,
                checkpoint: row.get(3)?,
            })
        })
        .optional()?;
    Ok(found(inner, "import")?)
}

pub(super) fn begin(
    connection: &Connection,
    after: &mut After,
    tenant: TenantId,
    draft: &ImportDraft,
    by: By,
) -> Result<ImportJob, Fault> {
    let application = found(application_id(connection, tenant, &draft.application)?, "application")?;
    under_way(connection, tenant, draft.most)?;
    make_room(connection, tenant)?;
    let id = ImportId::random();
    connection
        .prepare_cached(
            "INSERT INTO import (id, tenant, application, account, format, skip, dry_run, state, created_at, changed_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'checking', ?8, ?8)",
        )?
        .execute(params![
            id.as_bytes(),
            tenant.as_bytes(),
            application,
            by.account.as_bytes(),
            draft.format,
            draft.on_error == OnError::Skip,
            draft.dry_run,
            by.now.as_millis()
        ])?;
    if !draft.dry_run {
        let name = draft.application.as_str();
        Deed { tenant, subject: &application, name, event: MakerEvent::ImportStarted, reason: None }
            .record(connection, after, by)?;
    }
    Ok(found(one(connection, tenant, id)?, "import")?)
}

/// Whether a tenant with so many jobs under way may have one more.
pub(crate) fn room(open: u32, most: u32) -> Result<(), DirectoryError> {
    match open < most {
        true => Ok(()),
        false => Err(DirectoryError::Full { what: "imports under way", most }),
    }
}

/// Refuses when `most` jobs of the tenant are under way.
pub(super) fn under_way(connection: &Connection, tenant: TenantId, most: u32) -> Result<(), Fault> {
    let open: u32 = connection
        .prepare_cached("SELECT count(*) FROM import WHERE tenant = ?1 AND state IN ('checking', 'applying')")?
        .query_row([tenant.as_bytes()], |row| row.get(0))?;
    Ok(room(open, most)?)
}

/// Lets the oldest jobs that are over, and owe nobody codes, be purged when there are [`KEPT`].
fn make_room(connection: &Connection, tenant: TenantId) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE import SET changed_at = 0 WHERE rid IN (SELECT rid FROM import WHERE tenant = ?1 \
             ORDER BY rid DESC LIMIT -1 OFFSET ?2) AND state IN ('checked', 'refused', 'broken', 'done') AND codes = 0",
        )?
        .execute(params![tenant.as_bytes(), KEPT - 1])?;
    Ok(())
}

/// Records what was done with a job.
pub(super) fn record(
    connection: &Connection,
    after: &mut After,
    tenant: TenantId,
    job: &ImportJob,
    event: MakerEvent,
    reason: Option<&str>,
    by: By,
) -> Result<(), Fault> {
    let Inner { application, .. } = inner(connection, tenant, job.id)?;
    let name = job.application.as_str();
    Deed { tenant, subject: &application, name, event, reason }.record(connection, after, by)?;
    Ok(())
}

/// From one state to another.
#[derive(Clone, Copy)]
pub(crate) struct Turn<'a> {
    pub(crate) from: ImportState,
    pub(crate) to: ImportState,
    pub(crate) reason: Option<&'a str>,
}

/// Why a job in this state does not turn.
pub(crate) fn stays(state: ImportState) -> DirectoryError {
    DirectoryError::InUse(match state {
        ImportState::Checking => "the import's file is still arriving",
        ImportState::Applying => "the import is being applied",
        ImportState::Stopped => "the import is stopped",
        _ => "the import is over",
    })
}

pub(super) fn turn(
    connection: &Connection,
    tenant: TenantId,
    id: ImportId,
    turn: Turn<'_>,
    now: Timestamp,
) -> Result<ImportJob, Fault> {
    let turned = connection
        .prepare_cached(
            "UPDATE import SET state = ?4, reason = ?5, changed_at = ?6 WHERE id = ?1 AND tenant = ?2 AND state = ?3",
        )?
        .execute(params![
            id.as_bytes(),
            tenant.as_bytes(),
            turn.from.name(),
            turn.to.name(),
            turn.reason,
            now.as_millis()
        ])?;
    let job = found(one(connection, tenant, id)?, "import")?;
    if turned == 0 {
        return Err(stays(job.state).into());
    }
    Ok(job)
}

/// What becomes of a job whose file is whole.
pub(crate) fn staged(job: &ImportJob) -> ImportState {
    let writes = job.checked.created + job.checked.updated > 0;
    match job.on_error {
        _ if job.dry_run => ImportState::Checked,
        OnError::Abort if job.checked.failed > 0 => ImportState::Refused,
        _ if writes || job.checked.unchanged > 0 => ImportState::Applying,
        _ => ImportState::Done,
    }
}

/// Warnings of a whole file as they are kept; `None` for none.
pub(crate) fn said(warnings: &[RowFault]) -> Option<String> {
    (!warnings.is_empty()).then(|| serde_json::to_string(warnings).unwrap_or_default())
}

pub(super) fn end_staging(
    connection: &Connection,
    after: &mut After,
    tenant: TenantId,
    id: ImportId,
    warnings: &[RowFault],
    now: Timestamp,
) -> Result<ImportJob, Fault> {
    let job = found(one(connection, tenant, id)?, "import")?;
    let to = staged(&job);
    connection
        .prepare_cached("UPDATE import SET warnings = ?2 WHERE id = ?1")?
        .execute(params![id.as_bytes(), said(warnings)])?;
    let job = turn(connection, tenant, id, Turn { from: ImportState::Checking, to, reason: None }, now)?;
    if to.is_over() && !job.dry_run {
        over(connection, after, tenant, &job, now)?;
    }
    Ok(job)
}

/// Records that a job has come to its end.
pub(super) fn over(
    connection: &Connection,
    after: &mut After,
    tenant: TenantId,
    job: &ImportJob,
    now: Timestamp,
) -> Result<(), Fault> {
    let account = inner(connection, tenant, job.id)?.account;
    let reason = summary(job);
    record(connection, after, tenant, job, MakerEvent::ImportEnded, Some(&reason), By { account, now })
}

/// The file did not arrive whole.
pub(super) fn broken(
    connection: &Connection,
    after: &mut After,
    tenant: TenantId,
    id: ImportId,
    reason: &str,
    now: Timestamp,
) -> Result<ImportJob, Fault> {
    let turned = Turn { from: ImportState::Checking, to: ImportState::Broken, reason: Some(reason) };
    let job = turn(connection, tenant, id, turned, now)?;
    let account = inner(connection, tenant, id)?.account;
    record(connection, after, tenant, &job, MakerEvent::ImportBroken, Some(reason), By { account, now })?;
    Ok(job)
}

/// What the audit log says of a job that is over.
pub(crate) fn summary(job: &ImportJob) -> String {
    let (state, counts) = (job.state.name(), job.applied);
    let ImportCounts { created, updated, unchanged, failed, .. } = counts;
    format!("{state}: {created} created, {updated} updated, {unchanged} unchanged, {failed} failed")
}

/// Why a job is broken whose file did not arrive.
pub(crate) const CUT_OFF: &str = "the file stopped arriving; send it again";

pub(super) fn to_apply(connection: &Connection) -> rusqlite::Result<Vec<(TenantId, ImportId)>> {
    connection
        .prepare_cached("SELECT tenant, id FROM import WHERE state = 'applying' ORDER BY rid")?
        .query_map([], |row| {
            Ok((TenantId::from_bytes(rows::bytes(row, 0)?), ImportId::from_bytes(rows::bytes(row, 1)?)))
        })?
        .collect()
}

pub(super) fn break_idle(
    connection: &Connection,
    after: &mut After,
    idle_since: Timestamp,
    now: Timestamp,
) -> Result<(), Fault> {
    let idle: Vec<(TenantId, ImportId)> = connection
        .prepare_cached("SELECT tenant, id FROM import WHERE state = 'checking' AND changed_at < ?1")?
        .query_map([idle_since.as_millis()], |row| {
            Ok((TenantId::from_bytes(rows::bytes(row, 0)?), ImportId::from_bytes(rows::bytes(row, 1)?)))
        })?
        .collect::<Result<_, _>>()?;
    for (tenant, id) in idle {
        broken(connection, after, tenant, id, CUT_OFF, now)?;
    }
    Ok(())
}

pub(super) fn note_codes_read(
    connection: &Connection,
    after: &mut After,
    tenant: TenantId,
    id: ImportId,
    by: By,
) -> Result<(), Fault> {
    let job = found(one(connection, tenant, id)?, "import")?;
    let reason = read_codes(&job);
    record(connection, after, tenant, &job, MakerEvent::ImportCodesRead, Some(&reason), by)
}

/// What the audit log says of generated codes that were read.
pub(crate) fn read_codes(job: &ImportJob) -> String {
    format!("{} generated codes", job.codes)
}

/// Codes are acknowledged when there will be no more.
pub(crate) fn may_acknowledge(job: &ImportJob) -> Result<(), DirectoryError> {
    match job.state {
        ImportState::Done => Ok(()),
        _ => Err(DirectoryError::InUse("the import is not done; it may still generate codes")),
    }
}

/// Why a job stays, and what it belongs to.
pub(crate) const UNDER_WAY: DirectoryError = DirectoryError::InUse("an import is under way; stop it first");

/// Jobs that are over are forgotten.
pub(crate) fn may_delete(job: &ImportJob) -> Result<(), DirectoryError> {
    if job.state.is_over() { Ok(()) } else { Err(UNDER_WAY) }
}

pub(super) fn acknowledge_codes(
    connection: &Connection,
    after: &mut After,
    tenant: TenantId,
    id: ImportId,
    by: By,
) -> Result<(), Fault> {
    let job = found(one(connection, tenant, id)?, "import")?;
    may_acknowledge(&job)?;
    connection
        .prepare_cached("UPDATE import SET codes = 0, changed_at = ?2 WHERE id = ?1")?
        .execute(params![id.as_bytes(), by.now.as_millis()])?;
    let reason = format!("{} generated codes", job.codes);
    record(connection, after, tenant, &job, MakerEvent::ImportCodesAcknowledged, Some(&reason), by)
}

/// Ends a job for good: it cannot be resumed, and may be removed little by little.
pub(super) fn forget(
    connection: &Connection,
    after: &mut After,
    tenant: TenantId,
    id: ImportId,
    by: By,
) -> Result<i64, Fault> {
    let job = found(one(connection, tenant, id)?, "import")?;
    may_delete(&job)?;
    connection
        .prepare_cached(
            "UPDATE import SET state = 'broken', reason = 'deleted', codes = 0, changed_at = 0 WHERE id = ?1",
        )?
        .execute([id.as_bytes()])?;
    record(connection, after, tenant, &job, MakerEvent::ImportDeleted, Some(job.state.name()), by)?;
    Ok(inner(connection, tenant, id)?.rid)
}

/// Jobs of an application, all of them over; an error while one is under way.
pub(crate) fn over_in(
    connection: &Connection,
    tenant: TenantId,
    application: &ListingId,
) -> Result<Vec<ImportId>, Fault> {
    let jobs: Vec<(ImportId, bool)> = connection
        .prepare_cached(
            "SELECT i.id, i.state IN ('checking', 'applying') FROM import i JOIN application a ON a.id = i.application \
             WHERE i.tenant = ?1 AND a.listing = ?2",
        )?
        .query_map(params![tenant.as_bytes(), application.as_str()], |row| {
            Ok((ImportId::from_bytes(rows::bytes(row, 0)?), row.get(1)?))
        })?
        .collect::<Result<_, _>>()?;
    if jobs.iter().any(|(_, under_way)| *under_way) {
        return Err(UNDER_WAY.into());
    }
    Ok(jobs.into_iter().map(|(id, _)| id).collect())
}

/// Whether more is to be removed.
pub(super) fn remove_some(connection: &Connection, rid: i64) -> rusqlite::Result<bool> {
    let batches = connection
        .prepare_cached(
            "DELETE FROM import_batch WHERE job = ?1 AND last IN \
             (SELECT last FROM import_batch WHERE job = ?1 ORDER BY last LIMIT ?2)",
        )?
        .execute(params![rid, BATCHES_TOGETHER])?;
    if batches > 0 {
        return Ok(true);
    }
    let rows = connection
        .prepare_cached(
            "DELETE FROM import_row WHERE job = ?1 AND row <= \
             (SELECT max(row) FROM (SELECT row FROM import_row WHERE job = ?1 ORDER BY row LIMIT ?2))",
        )?
        .execute(params![rid, DELETED_TOGETHER])?;
    if rows > 0 {
        return Ok(true);
    }
    connection.prepare_cached("DELETE FROM import WHERE rid = ?1")?.execute([rid])?;
    Ok(false)
}

/// Deletes what nobody needs any more, a little at a time; whether there is more.
pub(super) fn purge_some(connection: &Connection, before: Timestamp) -> Result<bool, Fault> {
    // Rows that will never be applied hold secrets for nothing.
    let batches = connection
        .prepare_cached(
            "DELETE FROM import_batch WHERE (job, last) IN (SELECT b.job, b.last FROM import_batch b \
             JOIN import i ON i.rid = b.job WHERE i.state IN ('checked', 'refused', 'broken', 'done') LIMIT ?1)",
        )?
        .execute([BATCHES_TOGETHER])?;
    if batches > 0 {
        return Ok(true);
    }
    let old: Option<i64> = connection
        .prepare_cached(
            "SELECT rid FROM import WHERE state NOT IN ('checking', 'applying') AND changed_at < ?1 ORDER BY rid LIMIT 1",
        )?
        .query_row([before.as_millis()], |row| row.get(0))
        .optional()?;
    let Some(rid) = old else { return Ok(false) };
    remove_some(connection, rid)?;
    Ok(true)
}

/// What the audit log says of an export.
pub(crate) fn exported(codes: bool) -> &'static str {
    if codes { "with claim codes" } else { "without claim codes" }
}

pub(super) fn note_export(
    connection: &Connection,
    after: &mut After,
    tenant: TenantId,
    application: &ListingId,
    codes: bool,
    by: By,
) -> Result<(), Fault> {
    let id = found(application_id(connection, tenant, application)?, "application")?;
    let reason = exported(codes);
    let name = application.as_str();
    Deed { tenant, subject: &id, name, event: MakerEvent::Exported, reason: Some(reason) }
        .record(connection, after, by)?;
    Ok(())
}
