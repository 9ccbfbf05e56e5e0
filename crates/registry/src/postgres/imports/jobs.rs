//! The jobs themselves: their states, and their ends. See `crate::imports::jobs`.

use std::time::Duration;

use claim::applications::By;
use claim::directory::{Page, PageRequest};
use claim::event::MakerEvent;
use claim::imports::{ImportCounts, ImportDraft, ImportId, ImportJob, ImportState, OnError, RowFault};
use claim::{ListingId, TenantId, Timestamp, UserId};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::directory::found;
use crate::imports::jobs::{
    BATCHES_TOGETHER, COLUMNS, CUT_OFF, DELETED_TOGETHER, FROM, KEPT, Turn, UNDER_WAY, by_name, exported,
    may_acknowledge, may_delete, read_codes, room, said, staged, stays, summary,
};
use crate::listings::Deed;
use crate::postgres::After;
use crate::postgres::answers::page;
use crate::postgres::db::{Db, Fault, Values};
use crate::postgres::listings::{application_id, listing};
use crate::postgres::rows;

/// How long no row may come of a file before its job is given up, whichever node took it: much longer than a body may
/// pause.
const SILENT: Duration = Duration::from_secs(15 * 60);
/// The database's clock, in milliseconds; the nodes' own may differ.
const CLOCK: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// A value of a closed set that is kept by name.
pub(super) fn named<T: Copy>(row: &Row, column: usize, all: &[T], name: fn(T) -> &'static str) -> Result<T, Fault> {
    by_name(rows::get(row, column)?, all, name).ok_or(Fault::Damaged("an unknown name"))
}

fn read(row: &Row) -> Result<ImportJob, Fault> {
    let count = |column| rows::get::<i64>(row, column).map(i64::unsigned_abs);
    let counts = |from: usize| -> Result<ImportCounts, Fault> {
        Ok(ImportCounts {
            rows: count(from)?,
            created: count(from + 1)?,
            updated: count(from + 2)?,
            unchanged: count(from + 3)?,
            failed: count(from + 4)?,
        })
    };
    let warnings: Option<&str> = rows::get(row, 7)?;
    Ok(ImportJob {
        id: ImportId::from_bytes(rows::id(row, 0)?),
        application: listing(row, 1)?,
        format: rows::get(row, 2)?,
        on_error: if rows::get(row, 3)? { OnError::Skip } else { OnError::Abort },
        dry_run: rows::get(row, 4)?,
        state: named(row, 5, &ImportState::ALL, ImportState::name)?,
        reason: rows::get(row, 6)?,
        warnings: warnings.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default(),
        checked: counts(8)?,
        applied: counts(13)?,
        codes: count(18)?,
        created_at: rows::instant(row, 19)?,
        changed_at: rows::instant(row, 20)?,
    })
}

pub(super) async fn one(db: &Db, tenant: TenantId, id: ImportId) -> Result<Option<ImportJob>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM {FROM} WHERE i.id = $1 AND i.tenant = $2");
    db.row(&sql, &[&id.uuid(), &tenant.uuid()]).await?.as_ref().map(read).transpose()
}

pub(super) async fn list(db: &Db, tenant: TenantId, request: &PageRequest) -> Result<Page<ImportJob>, Fault> {
    let from = format!("{FROM} WHERE i.tenant = $1");
    // A job has no name to be found by.
    let request = PageRequest { text: None, ..request.clone() };
    page(db, COLUMNS, &from, "-i.rid", &[&tenant.uuid()], &request, read).await
}

/// The job's row number here, its account and its application.
pub(super) struct Inner {
    pub(super) rid: i64,
    pub(super) account: UserId,
    pub(super) application: Uuid,
    pub(super) checkpoint: i64,
}

/// The job as it stands; nobody else changes it until the end of the transaction.
pub(super) async fn hold(db: &Db, tenant: TenantId, id: ImportId) -> Result<(ImportJob, Inner), Fault> {
    let sql = "SELECT rid, account, application, checkpoint FROM import WHERE id = $1 AND tenant = $2 FOR UPDATE";
    let row = found(db.row(sql, &[&id.uuid(), &tenant.uuid()]).await?, "import")?;
    let inner = Inner {
        rid: rows::get(&row, 0)?,
        account: UserId::from_bytes(rows::id(&row, 1)?),
        application: rows::get(&row, 2)?,
        checkpoint: rows::get(&row, 3)?,
    };
    Ok((found(one(db, tenant, id).await?, "import")?, inner))
}

pub(super) async fn begin(
    db: &Db,
    after: &mut After,
    tenant: TenantId,
    draft: &ImportDraft,
    node: Uuid,
    by: By,
) -> Result<ImportJob, Fault> {
    let application = found(application_id(db, tenant, &draft.application).await?, "application")?;
    let sql = "SELECT count(*) FROM import WHERE tenant = $1 AND state IN ('checking', 'applying')";
    room(rows::count(&db.one(sql, &[&tenant.uuid()]).await?, 0)?, draft.most)?;
    let old = "UPDATE import SET changed_at = 0 WHERE rid IN (SELECT rid FROM import WHERE tenant = $1 \
         ORDER BY rid DESC OFFSET $2) AND state IN ('checked', 'refused', 'broken', 'done') AND codes = 0";
    db.run(old, &[&tenant.uuid(), &i64::from(KEPT - 1)]).await?;
    let id = ImportId::random();
    let sql = format!(
        "INSERT INTO import (id, tenant, application, account, format, skip, dry_run, state, created_at, changed_at, \
         node, heard_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 'checking', $8, $8, $9, {CLOCK})"
    );
    let (account, skip, now) = (by.account.uuid(), draft.on_error == OnError::Skip, by.now.as_millis());
    let values: Values<'_> =
        &[&id.uuid(), &tenant.uuid(), &application, &account, &draft.format, &skip, &draft.dry_run, &now, &node];
    db.run(&sql, values).await?;
    if !draft.dry_run {
        let (subject, name) = (application.as_bytes(), draft.application.as_str());
        let deed = Deed { tenant, subject, name, event: MakerEvent::ImportStarted, reason: None };
        deed.record_in(db, after, by).await?;
    }
    Ok(found(one(db, tenant, id).await?, "import")?)
}

/// Notes that rows of a job's file have come, and how many it has now.
pub(super) async fn heard(db: &Db, rid: i64, counts: &ImportCounts, now: Timestamp) -> Result<(), Fault> {
    let sql = format!(
        "UPDATE import SET rows = $2, created = $3, updated = $4, unchanged = $5, failed = $6, changed_at = $7, \
         heard_at = {CLOCK} WHERE rid = $1"
    );
    let counts = [counts.rows, counts.created, counts.updated, counts.unchanged, counts.failed].map(u64::cast_signed);
    let [rows, created, updated, unchanged, failed] = &counts;
    db.run(&sql, &[&rid, rows, created, updated, unchanged, failed, &now.as_millis()]).await?;
    Ok(())
}

pub(super) async fn turn(
    db: &Db,
    tenant: TenantId,
    id: ImportId,
    turn: Turn<'_>,
    now: Timestamp,
) -> Result<ImportJob, Fault> {
    let sql = "UPDATE import SET state = $4, reason = $5, changed_at = $6 WHERE id = $1 AND tenant = $2 AND state = $3";
    let (from, to) = (turn.from.name(), turn.to.name());
    let turned = db.run(sql, &[&id.uuid(), &tenant.uuid(), &from, &to, &turn.reason, &now.as_millis()]).await?;
    let job = found(one(db, tenant, id).await?, "import")?;
    if turned == 0 {
        return Err(stays(job.state).into());
    }
    Ok(job)
}

pub(super) async fn end_staging(
    db: &Db,
    after: &mut After,
    tenant: TenantId,
    id: ImportId,
    warnings: &[RowFault],
    now: Timestamp,
) -> Result<ImportJob, Fault> {
    let (job, inner) = hold(db, tenant, id).await?;
    let to = staged(&job);
    db.run("UPDATE import SET warnings = $2 WHERE id = $1", &[&id.uuid(), &said(warnings)]).await?;
    let job = turn(db, tenant, id, Turn { from: ImportState::Checking, to, reason: None }, now).await?;
    if to.is_over() && !job.dry_run {
        over(db, after, tenant, &inner, &job, now).await?;
    }
    Ok(job)
}

/// Records what was done with a job.
pub(super) async fn record(
    db: &Db,
    after: &mut After,
    (tenant, inner): (TenantId, &Inner),
    job: &ImportJob,
    (event, reason): (MakerEvent, Option<&str>),
    by: By,
) -> Result<(), Fault> {
    let (subject, name) = (inner.application.as_bytes(), job.application.as_str());
    Deed { tenant, subject, name, event, reason }.record_in(db, after, by).await
}

/// Records that a job has come to its end.
pub(super) async fn over(
    db: &Db,
    after: &mut After,
    tenant: TenantId,
    inner: &Inner,
    job: &ImportJob,
    now: Timestamp,
) -> Result<(), Fault> {
    let by = By { account: inner.account, now };
    record(db, after, (tenant, inner), job, (MakerEvent::ImportEnded, Some(&summary(job))), by).await
}

/// The file did not arrive whole.
pub(super) async fn broken(
    db: &Db,
    after: &mut After,
    tenant: TenantId,
    id: ImportId,
    reason: &str,
    now: Timestamp,
) -> Result<ImportJob, Fault> {
    let (_, inner) = hold(db, tenant, id).await?;
    let to = Turn { from: ImportState::Checking, to: ImportState::Broken, reason: Some(reason) };
    let job = turn(db, tenant, id, to, now).await?;
    let by = By { account: inner.account, now };
    record(db, after, (tenant, &inner), &job, (MakerEvent::ImportBroken, Some(reason)), by).await?;
    Ok(job)
}

/// Something stands in the job's way.
pub(super) async fn failed(
    db: &Db,
    after: &mut After,
    tenant: TenantId,
    id: ImportId,
    reason: &str,
    now: Timestamp,
) -> Result<ImportJob, Fault> {
    let (_, inner) = hold(db, tenant, id).await?;
    let to = Turn { from: ImportState::Applying, to: ImportState::Stopped, reason: Some(reason) };
    let job = turn(db, tenant, id, to, now).await?;
    over(db, after, tenant, &inner, &job, now).await?;
    Ok(job)
}

pub(super) async fn stop(
    db: &Db,
    after: &mut After,
    tenant: TenantId,
    id: ImportId,
    by: By,
) -> Result<ImportJob, Fault> {
    let (_, inner) = hold(db, tenant, id).await?;
    let to = Turn { from: ImportState::Applying, to: ImportState::Stopped, reason: None };
    let job = turn(db, tenant, id, to, by.now).await?;
    record(db, after, (tenant, &inner), &job, (MakerEvent::ImportStopped, None), by).await?;
    Ok(job)
}

/// Goes on, unless `most` jobs of the tenant are under way.
pub(super) async fn resume(
    db: &Db,
    after: &mut After,
    tenant: TenantId,
    id: ImportId,
    most: u32,
    by: By,
) -> Result<ImportJob, Fault> {
    let sql = "SELECT count(*) FROM import WHERE tenant = $1 AND state IN ('checking', 'applying')";
    room(rows::count(&db.one(sql, &[&tenant.uuid()]).await?, 0)?, most)?;
    let (_, inner) = hold(db, tenant, id).await?;
    let to = Turn { from: ImportState::Stopped, to: ImportState::Applying, reason: None };
    let job = turn(db, tenant, id, to, by.now).await?;
    record(db, after, (tenant, &inner), &job, (MakerEvent::ImportResumed, None), by).await?;
    Ok(job)
}

/// Jobs that no node is busy with. One that is left out for that is found the next time, should its node go away.
pub(super) async fn to_apply(db: &Db) -> Result<Vec<(TenantId, ImportId)>, Fault> {
    let sql = "SELECT tenant, id FROM import WHERE state = 'applying' ORDER BY rid FOR UPDATE SKIP LOCKED";
    let jobs = db.rows(sql, &[]).await?;
    let job = |row: &Row| Ok((TenantId::from_bytes(rows::id(row, 0)?), ImportId::from_bytes(rows::id(row, 1)?)));
    jobs.iter().map(job).collect()
}

/// Breaks the jobs of whose file nothing has arrived here since before `idle_since`, and those that nobody has heard of at
/// all: files may arrive at other nodes, whose clocks may differ.
pub(super) async fn break_idle(
    db: &Db,
    after: &mut After,
    node: Uuid,
    idle_since: Timestamp,
    now: Timestamp,
) -> Result<(), Fault> {
    let sql = format!(
        "SELECT tenant, id FROM import WHERE state = 'checking' AND ((node = $1 AND changed_at < $2) \
         OR heard_at < {CLOCK} - $3) FOR UPDATE SKIP LOCKED"
    );
    let idle = db.rows(&sql, &[&node, &idle_since.as_millis(), &(SILENT.as_millis() as i64)]).await?;
    for row in &idle {
        let (tenant, id) = (TenantId::from_bytes(rows::id(row, 0)?), ImportId::from_bytes(rows::id(row, 1)?));
        broken(db, after, tenant, id, CUT_OFF, now).await?;
    }
    Ok(())
}

pub(super) async fn note_codes_read(
    db: &Db,
    after: &mut After,
    tenant: TenantId,
    id: ImportId,
    by: By,
) -> Result<(), Fault> {
    let (job, inner) = hold(db, tenant, id).await?;
    let said = (MakerEvent::ImportCodesRead, Some(&*read_codes(&job)));
    record(db, after, (tenant, &inner), &job, said, by).await
}

pub(super) async fn acknowledge_codes(
    db: &Db,
    after: &mut After,
    tenant: TenantId,
    id: ImportId,
    by: By,
) -> Result<(), Fault> {
    let (job, inner) = hold(db, tenant, id).await?;
    may_acknowledge(&job)?;
    let sql = "UPDATE import SET codes = 0, changed_at = $2 WHERE rid = $1";
    db.run(sql, &[&inner.rid, &by.now.as_millis()]).await?;
    let said = (MakerEvent::ImportCodesAcknowledged, Some(&*read_codes(&job)));
    record(db, after, (tenant, &inner), &job, said, by).await
}

/// Ends a job for good: it cannot be resumed, and may be removed little by little.
pub(super) async fn forget(db: &Db, after: &mut After, tenant: TenantId, id: ImportId, by: By) -> Result<i64, Fault> {
    let (job, inner) = hold(db, tenant, id).await?;
    may_delete(&job)?;
    let sql = "UPDATE import SET state = 'broken', reason = 'deleted', codes = 0, changed_at = 0 WHERE rid = $1";
    db.run(sql, &[&inner.rid]).await?;
    let said = (MakerEvent::ImportDeleted, Some(job.state.name()));
    record(db, after, (tenant, &inner), &job, said, by).await?;
    Ok(inner.rid)
}

/// Jobs of an application, all of them over; an error while one is under way.
pub(crate) async fn over_in(db: &Db, tenant: TenantId, application: &ListingId) -> Result<Vec<ImportId>, Fault> {
    let sql = "SELECT i.id, i.state FROM import i JOIN application a ON a.id = i.application \
         WHERE i.tenant = $1 AND a.listing = $2";
    let mut jobs = Vec::new();
    for row in &db.rows(sql, &[&tenant.uuid(), &application.as_str()]).await? {
        if !named(row, 1, &ImportState::ALL, ImportState::name)?.is_over() {
            return Err(UNDER_WAY.into());
        }
        jobs.push(ImportId::from_bytes(rows::id(row, 0)?));
    }
    Ok(jobs)
}

/// Whether more is to be removed.
pub(super) async fn remove_some(db: &Db, rid: i64) -> Result<bool, Fault> {
    let sql = "DELETE FROM import_batch WHERE job = $1 AND last IN \
         (SELECT last FROM import_batch WHERE job = $1 ORDER BY last LIMIT $2)";
    if db.run(sql, &[&rid, &i64::from(BATCHES_TOGETHER)]).await? > 0 {
        return Ok(true);
    }
    let sql = "DELETE FROM import_row WHERE job = $1 AND row <= \
         (SELECT max(f.row) FROM (SELECT row FROM import_row WHERE job = $1 ORDER BY row LIMIT $2) f)";
    if db.run(sql, &[&rid, &i64::from(DELETED_TOGETHER)]).await? > 0 {
        return Ok(true);
    }
    db.run("DELETE FROM import WHERE rid = $1", &[&rid]).await?;
    Ok(false)
}

/// Deletes what nobody needs any more, a little at a time; whether there is more.
pub(super) async fn purge_some(db: &Db, before: Timestamp) -> Result<bool, Fault> {
    // Rows that will never be applied hold secrets for nothing.
    let sql = "DELETE FROM import_batch WHERE rid IN (SELECT b.rid FROM import_batch b JOIN import i ON i.rid = b.job \
         WHERE i.state IN ('checked', 'refused', 'broken', 'done') LIMIT $1)";
    if db.run(sql, &[&i64::from(BATCHES_TOGETHER)]).await? > 0 {
        return Ok(true);
    }
    let sql = "SELECT rid FROM import WHERE state NOT IN ('checking', 'applying') AND changed_at < $1 ORDER BY rid \
         LIMIT 1 FOR UPDATE SKIP LOCKED";
    let Some(row) = db.row(sql, &[&before.as_millis()]).await? else { return Ok(false) };
    remove_some(db, rows::get(&row, 0)?).await?;
    Ok(true)
}

pub(super) async fn note_export(
    db: &Db,
    after: &mut After,
    tenant: TenantId,
    application: &ListingId,
    codes: bool,
    by: By,
) -> Result<(), Fault> {
    let id = found(application_id(db, tenant, application).await?, "application")?;
    let (subject, name) = (id.as_bytes(), application.as_str());
    let deed = Deed { tenant, subject, name, event: MakerEvent::Exported, reason: Some(exported(codes)) };
    deed.record_in(db, after, by).await
}
