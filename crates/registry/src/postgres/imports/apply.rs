//! Writing a job's rows: a batch a transaction, with how far the job has come. See `crate::imports::apply`.
//!
//! A row is judged by what is there and then written. What it changes is held from then on; what it makes an index keeps
//! apart from what others make meanwhile, and if one was faster the batch is begun again and judged by that.

use claim::applications::{By, ListedDevice, RootKeys};
use claim::directory::DirectoryError;
use claim::event::MakerEvent;
use claim::imports::{
    GoodRow, ImportCounts, ImportId, ImportJob, ImportState, ImportStep, Known, OnError, RowFault, RowStatus, Verdict,
    judge,
};
use claim::{DeviceId, TenantId, Timestamp};
use uuid::Uuid;

use super::jobs::{self, Inner};
use super::stage;
use crate::directory::credentials::Vault;
use crate::directory::found;
use crate::imports::apply::{count_bad, deeds, new_device, turned_bad, window};
use crate::imports::jobs::Turn;
use crate::imports::stage::count;
use crate::imports::{results, sealed};
use crate::postgres::After;
use crate::postgres::db::{Db, Fault, Values};
use crate::postgres::keys::may_seal;
use crate::postgres::listings::{codes, devices, root_keys};
use crate::postgres::rows;

/// A job under way.
struct Work<'a> {
    db: &'a Db,
    vault: &'a Vault,
    tenant: TenantId,
    job: &'a ImportJob,
    inner: &'a Inner,
    by: By,
}

pub(super) async fn next(
    db: &Db,
    after: &mut After,
    vault: &Vault,
    tenant: TenantId,
    id: ImportId,
    now: Timestamp,
) -> Result<ImportStep, Fault> {
    // A batch of a tenant at a time: two jobs that mean the same devices would have to wait for each other.
    db.row("SELECT id FROM tenant WHERE id = $1 FOR NO KEY UPDATE", &[&tenant.uuid()]).await?;
    let (job, inner) = jobs::hold(db, tenant, id).await?;
    if job.state != ImportState::Applying {
        return Ok(ImportStep::Over);
    }
    may_seal(db, &vault.sealer).await?;
    let by = By { account: inner.account, now };
    let work = Work { db, vault, tenant, job: &job, inner: &inner, by };
    let sql = "SELECT last, sealed FROM import_batch WHERE job = $1 ORDER BY last LIMIT 1";
    let Some(batch) = db.row(sql, &[&inner.rid]).await? else {
        work.end(after, ImportState::Done, None).await?;
        return Ok(ImportStep::Over);
    };
    let last: i64 = rows::get(&batch, 0)?;
    let mut counts = job.applied;
    let (mut made_up, mut stopped) = (0_i64, None);
    let mut checkpoint = inner.checkpoint;
    for (row, good) in sealed::open(vault, tenant, id, rows::get(&batch, 1)?)? {
        if row.cast_signed() <= inner.checkpoint {
            continue;
        }
        match work.row(after, row, &good, &mut counts).await? {
            Ok(generated) => made_up += i64::from(generated),
            Err(()) if job.on_error == OnError::Abort => {
                stopped = Some(turned_bad(row));
                break;
            }
            Err(()) => {}
        }
        checkpoint = row.cast_signed();
    }
    if stopped.is_none() {
        db.run("DELETE FROM import_batch WHERE job = $1 AND last = $2", &[&inner.rid, &last]).await?;
    }
    work.come_to(&counts, made_up, checkpoint).await?;
    if let Some(reason) = stopped {
        work.end(after, ImportState::Stopped, Some(&reason)).await?;
        return Ok(ImportStep::Over);
    }
    Ok(ImportStep::More)
}

/// All of a row was looked up before it was written: what is taken now was taken since.
fn overtaken(fault: Fault) -> Fault {
    match fault {
        Fault::Refused(DirectoryError::Taken(_)) => Fault::Overtaken,
        fault => fault,
    }
}

impl Work<'_> {
    async fn end(&self, after: &mut After, to: ImportState, reason: Option<&str>) -> Result<(), Fault> {
        let turn = Turn { from: ImportState::Applying, to, reason };
        let job = jobs::turn(self.db, self.tenant, self.job.id, turn, self.by.now).await?;
        jobs::over(self.db, after, self.tenant, self.inner, &job, self.by.now).await
    }

    /// Notes how far the job has come.
    async fn come_to(&self, counts: &ImportCounts, made_up: i64, checkpoint: i64) -> Result<(), Fault> {
        let sql = "UPDATE import SET applied_rows = $2, applied_created = $3, applied_updated = $4, \
             applied_unchanged = $5, applied_failed = $6, codes = codes + $7, checkpoint = $8 WHERE rid = $1";
        let counts =
            [counts.rows, counts.created, counts.updated, counts.unchanged, counts.failed].map(u64::cast_signed);
        let [rows, created, updated, unchanged, failed] = &counts;
        let values: Values<'_> = &[&self.inner.rid, rows, created, updated, unchanged, failed, &made_up, &checkpoint];
        self.db.run(sql, values).await?;
        Ok(())
    }

    /// What a row becomes. The device that it changes, if it does, is held from then on.
    async fn judged(&self, good: &GoodRow) -> Result<(Verdict, Known), Fault> {
        let home: (Uuid, _) = (self.inner.application, &self.job.application);
        loop {
            let known = stage::known(self.db, self.vault, self.tenant, home, good).await?;
            let (verdict, _) = judge(good, &known);
            let held = match known.device().filter(|_| matches!(verdict, Verdict::Update { .. })) {
                Some(device) => devices::hold(self.db, device).await?,
                None => true,
            };
            if held {
                return Ok((verdict, known));
            }
        }
    }

    /// Applies one row; whether it gave the device a generated code, or that the row is bad.
    async fn row(
        &self,
        after: &mut After,
        row: u64,
        good: &GoodRow,
        counts: &mut ImportCounts,
    ) -> Result<Result<bool, ()>, Fault> {
        let (verdict, known) = self.judged(good).await?;
        let (status, device) = match verdict {
            Verdict::Refuse(errors) => {
                count_bad(counts, self.job.on_error);
                self.failed(row, &errors).await?;
                return Ok(Err(()));
            }
            Verdict::Create => (RowStatus::Created, self.create(after, good).await.map_err(overtaken)?),
            Verdict::Update { set_code } => {
                let device = found(known.device(), "device")?;
                let given = self.update(after, device, good, set_code).await.map_err(overtaken)?;
                (RowStatus::Updated, given)
            }
            Verdict::Expose => {
                let device = found(known.device(), "device")?;
                let key = (self.tenant, device.device);
                root_keys::store(self.db, self.vault, key, &RootKeys::default(), good.root_keys_exposed).await?;
                devices::record(self.db, after, device, MakerEvent::DeviceChanged, None, self.by).await?;
                (RowStatus::Updated, None)
            }
            Verdict::Unchanged => (RowStatus::Unchanged, None),
        };
        count(counts, status);
        let generated = device.filter(|_| good.generated && good.code.is_some());
        let sql = "UPDATE import_row SET status = $3, device = $4, code_set_at = $5 WHERE job = $1 AND row = $2";
        let (device, set_at) = (generated.map(|id| id.uuid()), generated.map(|_| self.by.now.as_millis()));
        self.db.run(sql, &[&self.inner.rid, &row.cast_signed(), &status.name(), &device, &set_at]).await?;
        Ok(Ok(generated.is_some()))
    }

    async fn failed(&self, row: u64, errors: &[RowFault]) -> Result<(), Fault> {
        let sql = "UPDATE import_row SET status = $3, faults = $4 WHERE job = $1 AND row = $2";
        let (status, faults) = (RowStatus::Failed.name(), results::faults(errors, &[]));
        self.db.run(sql, &[&self.inner.rid, &row.cast_signed(), &status, &faults]).await?;
        Ok(())
    }

    /// The new device, if it has got a code.
    async fn create(&self, after: &mut After, good: &GoodRow) -> Result<Option<DeviceId>, Fault> {
        let (new, home) = (new_device(good), (self.tenant, self.inner.application));
        let device = devices::create(self.db, after, self.vault, home, &new, self.by).await?;
        let Some(code) = &good.code else { return Ok(None) };
        codes::store(self.db, self.vault, self.tenant, device, code, self.by.now).await?;
        Ok(Some(device))
    }

    /// The device, if it has got the row's code.
    async fn update(
        &self,
        after: &mut After,
        device: &ListedDevice,
        good: &GoodRow,
        set_code: bool,
    ) -> Result<Option<DeviceId>, Fault> {
        let (db, id) = (self.db, device.device);
        devices::update(db, device, good, self.by).await?;
        root_keys::store(db, self.vault, (self.tenant, id), &good.root_keys, good.root_keys_exposed).await?;
        let code = match good.code.as_ref().filter(|_| set_code) {
            Some(code) => {
                codes::store(db, self.vault, self.tenant, id, code, self.by.now).await?;
                true
            }
            None => match window(device, good)? {
                Some((from, until)) => {
                    codes::set_window(db, id, from, until).await?;
                    true
                }
                None => false,
            },
        };
        for event in deeds(device, good, code) {
            devices::record(db, after, device, event, None, self.by).await?;
        }
        Ok(set_code.then_some(id))
    }
}
