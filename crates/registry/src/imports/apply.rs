//! Writing a job's rows: a batch a transaction, with how far the job has come.

use claim::applications::{By, ListedDevice, NewDevice};
use claim::directory::DirectoryError;
use claim::event::MakerEvent;
use claim::imports::{
    GoodRow, ImportCounts, ImportId, ImportJob, ImportState, ImportStep, OnError, RowFault, RowStatus, Verdict, judge,
    merged_window,
};
use claim::{DeviceId, TenantId, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use super::jobs::{self, Inner};
use super::{results, sealed, stage};
use crate::directory::credentials::Vault;
use crate::directory::found;
use crate::listings::{codes, devices, root_keys};
use crate::writer::{After, Fault};

/// A job under way.
struct Work<'a> {
    connection: &'a Connection,
    vault: &'a Vault,
    tenant: TenantId,
    job: &'a ImportJob,
    inner: &'a Inner,
    by: By,
}

pub(super) fn next(
    connection: &Connection,
    after: &mut After,
    vault: &Vault,
    tenant: TenantId,
    id: ImportId,
    now: Timestamp,
) -> Result<ImportStep, Fault> {
    let job = found(jobs::one(connection, tenant, id)?, "import")?;
    if job.state != ImportState::Applying {
        return Ok(ImportStep::Over);
    }
    let inner = jobs::inner(connection, tenant, id)?;
    let batch: Option<(i64, Vec<u8>)> = connection
        .prepare_cached("SELECT last, sealed FROM import_batch WHERE job = ?1 ORDER BY last LIMIT 1")?
        .query_row([inner.rid], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let by = By { account: inner.account, now };
    let work = Work { connection, vault, tenant, job: &job, inner: &inner, by };
    let Some((last, sealed)) = batch else {
        work.end(after, ImportState::Done, None)?;
        return Ok(ImportStep::Over);
    };
    let mut counts = job.applied;
    let (mut made_up, mut stopped) = (0_i64, None);
    let mut checkpoint = inner.checkpoint;
    for (row, good) in sealed::open(vault, tenant, id, &sealed)? {
        if row.cast_signed() <= inner.checkpoint {
            continue;
        }
        match work.row(after, row, &good, &mut counts)? {
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
        connection
            .prepare_cached("DELETE FROM import_batch WHERE job = ?1 AND last = ?2")?
            .execute(params![inner.rid, last])?;
    }
    connection
        .prepare_cached(
            "UPDATE import SET applied_rows = ?2, applied_created = ?3, applied_updated = ?4, applied_unchanged = ?5, \
             applied_failed = ?6, codes = codes + ?7, checkpoint = ?8 WHERE rid = ?1",
        )?
        .execute(params![
            inner.rid,
            counts.rows.cast_signed(),
            counts.created.cast_signed(),
            counts.updated.cast_signed(),
            counts.unchanged.cast_signed(),
            counts.failed.cast_signed(),
            made_up,
            checkpoint
        ])?;
    if let Some(reason) = stopped {
        work.end(after, ImportState::Stopped, Some(&reason))?;
        return Ok(ImportStep::Over);
    }
    Ok(ImportStep::More)
}

/// Why a job stopped at a row.
pub(crate) fn turned_bad(row: u64) -> String {
    format!("row {row} turned bad after the check; see its errors, mend it, and resume")
}

/// Counts a row that turned bad; it is tried again if its job stops at it.
pub(crate) fn count_bad(counts: &mut ImportCounts, on_error: OnError) {
    if on_error == OnError::Skip {
        stage::count(counts, RowStatus::Failed);
    }
}

/// The new device that a row means. Its code it gets afterwards.
pub(crate) fn new_device(good: &GoodRow) -> NewDevice {
    NewDevice {
        listing: good.listing.clone(),
        name: None,
        label: good.label.clone(),
        identity: good.identity.clone(),
        claiming_allowed: good.claiming_allowed,
        code: None,
        root_keys: root_keys::copy(&good.root_keys),
        root_keys_exposed: good.root_keys_exposed,
        most: None,
    }
}

/// From when a code is valid, and until when.
pub(crate) type Window = (Option<Timestamp>, Option<Timestamp>);

/// The window that a row gives to the code which its device has; `None`: it stays as it is.
pub(crate) fn window(device: &ListedDevice, good: &GoodRow) -> Result<Option<Window>, DirectoryError> {
    let Some(kept) = device.code.filter(|_| !good.generated) else { return Ok(None) };
    let window = merged_window(good, device).ok_or(DirectoryError::Refused("the window would be empty"))?;
    Ok((window != (kept.from, kept.until)).then_some(window))
}

/// What an update by a row is called, deed by deed.
pub(crate) fn deeds(device: &ListedDevice, good: &GoodRow, code: bool) -> Vec<MakerEvent> {
    let mut deeds = vec![MakerEvent::DeviceChanged];
    if code {
        deeds.push(MakerEvent::CodeSet);
    }
    if good.claiming_allowed.is_some() && good.claiming_allowed != device.claiming_allowed {
        deeds.push(MakerEvent::ClaimingAllowedChanged);
    }
    deeds
}

impl Work<'_> {
    fn end(&self, after: &mut After, to: ImportState, reason: Option<&str>) -> Result<(), Fault> {
        let turn = jobs::Turn { from: ImportState::Applying, to, reason };
        let job = jobs::turn(self.connection, self.tenant, self.job.id, turn, self.by.now)?;
        jobs::over(self.connection, after, self.tenant, &job, self.by.now)
    }

    /// Applies one row; whether it gave the device a generated code, or that the row is bad.
    fn row(
        &self,
        after: &mut After,
        row: u64,
        good: &GoodRow,
        counts: &mut ImportCounts,
    ) -> Result<Result<bool, ()>, Fault> {
        let home = (self.inner.application, &self.job.application);
        let known = stage::known(self.connection, self.vault, self.tenant, home, good)?;
        let (verdict, _) = judge(good, &known);
        let (status, device) = match verdict {
            Verdict::Refuse(errors) => {
                count_bad(counts, self.job.on_error);
                self.failed(row, &errors)?;
                return Ok(Err(()));
            }
            Verdict::Create => (RowStatus::Created, self.create(after, good)?),
            Verdict::Update { set_code } => {
                let device = found(known.device(), "device")?;
                (RowStatus::Updated, self.update(after, device, good, set_code)?)
            }
            Verdict::Expose => {
                let device = found(known.device(), "device")?;
                root_keys::store(
                    self.connection,
                    self.vault,
                    (self.tenant, device.device),
                    &claim::applications::RootKeys::default(),
                    good.root_keys_exposed,
                )?;
                devices::record(self.connection, after, device, MakerEvent::DeviceChanged, None, self.by)?;
                (RowStatus::Updated, None)
            }
            Verdict::Unchanged => (RowStatus::Unchanged, None),
        };
        stage::count(counts, status);
        let generated = device.filter(|_| good.generated && good.code.is_some());
        self.connection
            .prepare_cached(
                "UPDATE import_row SET status = ?3, device = ?4, code_set_at = ?5 WHERE job = ?1 AND row = ?2",
            )?
            .execute(params![
                self.inner.rid,
                row.cast_signed(),
                status.name(),
                generated.as_ref().map(|device| device.as_bytes().as_slice()),
                generated.map(|_| self.by.now.as_millis())
            ])?;
        Ok(Ok(generated.is_some()))
    }

    fn failed(&self, row: u64, errors: &[RowFault]) -> rusqlite::Result<()> {
        let status = RowStatus::Failed.name();
        self.connection
            .prepare_cached("UPDATE import_row SET status = ?3, faults = ?4 WHERE job = ?1 AND row = ?2")?
            .execute(params![self.inner.rid, row.cast_signed(), status, results::faults(errors, &[])])?;
        Ok(())
    }

    /// The new device, if it has got a code.
    fn create(&self, after: &mut After, good: &GoodRow) -> Result<Option<DeviceId>, Fault> {
        let new = new_device(good);
        let device =
            devices::create(self.connection, after, self.vault, (self.tenant, self.inner.application), &new, self.by)?;
        if let Some(code) = &good.code {
            codes::store(self.connection, self.vault, self.tenant, device, code, self.by.now)?;
        }
        Ok(good.code.as_ref().map(|_| device))
    }

    /// The device, if it has got the row's code.
    fn update(
        &self,
        after: &mut After,
        device: &ListedDevice,
        good: &GoodRow,
        set_code: bool,
    ) -> Result<Option<DeviceId>, Fault> {
        let key = (self.tenant, device.device);
        devices::update(self.connection, device, good, self.by)?;
        root_keys::store(self.connection, self.vault, key, &good.root_keys, good.root_keys_exposed)?;
        let code = match good.code.as_ref().filter(|_| set_code) {
            Some(code) => {
                codes::store(self.connection, self.vault, self.tenant, device.device, code, self.by.now)?;
                true
            }
            None => match window(device, good)? {
                Some((from, until)) => {
                    codes::set_window(self.connection, device.device, from, until)?;
                    true
                }
                None => false,
            },
        };
        for event in deeds(device, good, code) {
            devices::record(self.connection, after, device, event, None, self.by)?;
        }
        Ok(set_code.then_some(device.device))
    }
}
