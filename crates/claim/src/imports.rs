//! Importing and exporting many devices: what a row asks for, what it may become, and the port that keeps a job's rows until they are
//! applied.
//!
//! A job is checked row by row while its file arrives, then applied a hundred rows at a time; rows and how far the job has
//! come are committed together, so a job that was cut off goes on where it stopped. What a row becomes is decided here, by
//! [`judge()`], once when it is checked and again when it is applied.

mod judge;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::applications::{By, Identity, ListedDevice, NewCode, RootKeys};
use crate::device::{TenantId, id};
use crate::directory::{Answer, Page, PageRequest};
use crate::listing::ListingId;
use crate::secret::Secret;
use crate::time::Timestamp;

pub use judge::{Known, Verdict, judge};

/// Rows that are committed together.
pub const BATCH: usize = 100;

id! {
    /// An import job.
    ImportId
}

/// What a bad row does to the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Nothing is written if any row is bad; a row that turns bad between check and write stops the job there.
    #[default]
    Abort,
    /// The good rows are applied.
    Skip,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportState {
    /// Its file arrives; every row is checked. Nothing is written yet.
    Checking,
    /// A dry run is over. Nothing was written.
    Checked,
    /// Rows are bad, and a bad row aborts. Nothing was written.
    Refused,
    /// The file did not arrive whole, or cannot be read to its end. Nothing was written.
    Broken,
    /// Rows are being written.
    Applying,
    /// Stopped by its maker, or at a row that turned bad; it can go on.
    Stopped,
    /// All that can be written is.
    Done,
}

impl ImportState {
    /// All.
    pub const ALL: [ImportState; 7] =
        [Self::Checking, Self::Checked, Self::Refused, Self::Broken, Self::Applying, Self::Stopped, Self::Done];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Checking => "checking",
            Self::Checked => "checked",
            Self::Refused => "refused",
            Self::Broken => "broken",
            Self::Applying => "applying",
            Self::Stopped => "stopped",
            Self::Done => "done",
        }
    }

    /// Whether nothing more happens to it by itself.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Checking | Self::Applying)
    }
}

/// What became of a row, or what it would become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowStatus {
    /// A new device.
    Created,
    /// A known device, changed.
    Updated,
    /// A known device that is so already.
    Unchanged,
    /// A bad row.
    Failed,
    /// A good row that was not written, since the job ended before it.
    NotApplied,
}

impl RowStatus {
    /// All.
    pub const ALL: [RowStatus; 5] = [Self::Created, Self::Updated, Self::Unchanged, Self::Failed, Self::NotApplied];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
            Self::NotApplied => "not_applied",
        }
    }
}

/// A fault of a row, or something its maker should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowFault {
    /// Where: a column of CSV, a path in JSON.
    pub column: String,
    /// What stands there; not for secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Its name.
    pub code: Cow<'static, str>,
    /// What should stand there.
    pub reason: String,
}

impl RowFault {
    fn new(column: &str, value: Option<String>, code: &'static str, reason: &str) -> Self {
        Self { column: column.to_owned(), value, code: Cow::Borrowed(code), reason: reason.to_owned() }
    }
}

/// A row whose form is right.
#[derive(Debug)]
pub struct GoodRow {
    /// Its id in the application.
    pub listing: ListingId,
    /// Text for people.
    pub label: Option<String>,
    /// What it is known by; what is `None` was not given.
    pub identity: Identity,
    /// The maker's word on this device.
    pub claiming_allowed: Option<bool>,
    /// Its claim code.
    pub code: Option<NewCode>,
    /// A window that came without a code: of the code that the device has.
    pub window: (Option<Timestamp>, Option<Timestamp>),
    /// Whether the code was made up for this import: it is for devices without one, and never replaces another.
    pub generated: bool,
    /// Its root keys.
    pub root_keys: RootKeys,
    /// Whether they are known to others.
    pub root_keys_exposed: bool,
}

impl GoodRow {
    /// From when and until when the device's code works, as far as the row says.
    pub fn code_window(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        self.code.as_ref().map_or(self.window, |code| (code.from, code.until))
    }

    /// The column of a window that came without a code.
    fn lone_window(&self) -> Option<&'static str> {
        match (&self.code, self.window) {
            (None, (Some(_), _)) => Some("claim_valid_from"),
            (None, (None, Some(_))) => Some("claim_valid_to"),
            _ => None,
        }
    }
}

/// A row of a file.
#[derive(Debug)]
pub struct ImportRow {
    /// The line where it starts (the header is line 1), or the number of the object.
    pub row: u64,
    /// Its id, if it has one that can be.
    pub id: Option<String>,
    /// The device, or what is wrong with the row's form.
    pub outcome: Result<Box<GoodRow>, Vec<RowFault>>,
    /// What does not stop it.
    pub warnings: Vec<RowFault>,
}

/// A new job.
#[derive(Clone, Debug)]
pub struct ImportDraft {
    /// Where the devices will be at home.
    pub application: ListingId,
    /// The file's format, as it is called.
    pub format: String,
    /// What a bad row does.
    pub on_error: OnError,
    /// Only check.
    pub dry_run: bool,
    /// Jobs of the tenant that may be under way at once.
    pub most: u32,
}

/// How many rows are what; what they would become until the job is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImportCounts {
    /// Rows read.
    pub rows: u64,
    /// New devices.
    pub created: u64,
    /// Changed devices.
    pub updated: u64,
    /// Devices that are so already.
    pub unchanged: u64,
    /// Bad rows.
    pub failed: u64,
}

/// A job as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportJob {
    /// Its id.
    pub id: ImportId,
    /// Where the devices will be at home.
    pub application: ListingId,
    /// The file's format.
    pub format: String,
    /// What a bad row does.
    pub on_error: OnError,
    /// Only check.
    pub dry_run: bool,
    /// How far it is.
    pub state: ImportState,
    /// What the check found.
    pub checked: ImportCounts,
    /// What was written. `rows` counts those that were dealt with.
    pub applied: ImportCounts,
    /// How many generated codes wait to be handed over.
    pub codes: u64,
    /// What is to be said of the file as a whole.
    pub warnings: Vec<RowFault>,
    /// Why it is broken or stopped.
    pub reason: Option<String>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it came to its present state.
    pub changed_at: Timestamp,
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowResult {
    /// The line where it starts, or the number of the object.
    pub row: u64,
    /// The device's id, if the row has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What became of it.
    pub status: RowStatus,
    /// What is wrong with it; all of it.
    pub errors: Vec<RowFault>,
    /// What does not stop it.
    pub warnings: Vec<RowFault>,
}

/// A code that an import generated.
#[derive(Debug)]
pub struct GeneratedCode {
    /// Its row.
    pub row: u64,
    /// The device.
    pub device: ListedDevice,
    /// The code.
    pub code: Secret<String>,
}

/// What one step of a job did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportStep {
    /// Rows were written; more wait.
    More,
    /// Nothing waits any more, or the job may not go on.
    Over,
}

/// The window that a row leaves its device's code with: an end that is not given stays. `None`: there would be no instant
/// in it.
pub fn merged_window(row: &GoodRow, device: &ListedDevice) -> Option<(Option<Timestamp>, Option<Timestamp>)> {
    let given = row.code_window();
    let kept = device.code.map_or((None, None), |code| (code.from, code.until));
    let (from, until) = (given.0.or(kept.0), given.1.or(kept.1));
    let empty = from.zip(until).is_some_and(|(from, until)| until <= from);
    (!empty).then_some((from, until))
}

/// Import jobs of tenants. What is another tenant's does not exist. Rows that wait are kept sealed: they hold codes and
/// keys. Every change has its audit row in its transaction.
pub trait Imports: Send + Sync {
    /// Begins a job in state [`ImportState::Checking`].
    fn begin_import(&self, tenant: TenantId, draft: ImportDraft, by: By) -> Answer<'_, ImportJob>;
    /// Checks rows, at most [`BATCH`], against the registry and against the rows before them, and keeps them.
    fn stage_import(
        &self,
        tenant: TenantId,
        job: ImportId,
        rows: Vec<ImportRow>,
        now: Timestamp,
    ) -> Answer<'_, ImportCounts>;
    /// The file is whole: the job is checked, refused, or goes on to be applied.
    fn end_staging(
        &self,
        tenant: TenantId,
        job: ImportId,
        warnings: Vec<RowFault>,
        now: Timestamp,
    ) -> Answer<'_, ImportJob>;
    /// The file is not whole: the job is broken, and nothing of it is kept but why.
    fn break_import(&self, tenant: TenantId, job: ImportId, reason: String, now: Timestamp) -> Answer<'_, ImportJob>;
    /// Stops a job that cannot be applied as it is, with the reason; it may be resumed.
    fn fail_import(&self, tenant: TenantId, job: ImportId, reason: String, now: Timestamp) -> Answer<'_, ImportJob>;
    /// Writes the next rows of a job, at most [`BATCH`], together with how far it has come.
    fn apply_import(&self, tenant: TenantId, job: ImportId, now: Timestamp) -> Answer<'_, ImportStep>;
    /// Jobs to be applied, of all tenants; for whoever does it.
    fn imports_to_apply(&self) -> Answer<'_, Vec<(TenantId, ImportId)>>;
    /// Breaks every job of whose file nothing has arrived since before `idle_since`: what was under way at a stop of the
    /// server, and what its sender has forgotten.
    fn break_idle_imports(&self, idle_since: Timestamp, now: Timestamp) -> Answer<'_, ()>;

    /// Stops a job that is being applied; refused for others.
    fn stop_import(&self, tenant: TenantId, job: ImportId, by: By) -> Answer<'_, ImportJob>;
    /// Lets a stopped job go on, from the row where it stopped; refused for others, and when `most` are under way.
    fn resume_import(&self, tenant: TenantId, job: ImportId, most: u32, by: By) -> Answer<'_, ImportJob>;
    /// One job.
    fn import_job(&self, tenant: TenantId, job: ImportId) -> Answer<'_, ImportJob>;
    /// A tenant's jobs, newest first.
    fn import_jobs(&self, tenant: TenantId, page: PageRequest) -> Answer<'_, Page<ImportJob>>;
    /// Results of rows after `after`, in order, at most `limit`; with `failed` only of bad ones and those not applied.
    fn import_rows(
        &self,
        tenant: TenantId,
        job: ImportId,
        after: u64,
        limit: u32,
        failed: bool,
    ) -> Answer<'_, Vec<RowResult>>;
    /// Codes that the job generated, of rows after `after`, in order, at most `limit`, until they are acknowledged. A code
    /// that was replaced or spent since is left out.
    fn generated_codes(
        &self,
        tenant: TenantId,
        job: ImportId,
        after: u64,
        limit: u32,
    ) -> Answer<'_, Vec<GeneratedCode>>;
    /// Records that generated codes are read.
    fn note_codes_read(&self, tenant: TenantId, job: ImportId, by: By) -> Answer<'_, ()>;
    /// The codes were handed over: the job gives them no more. Refused before the job is done.
    fn acknowledge_codes(&self, tenant: TenantId, job: ImportId, by: By) -> Answer<'_, ()>;
    /// Forgets a job that is over; its devices stay.
    fn delete_import(&self, tenant: TenantId, job: ImportId, by: By) -> Answer<'_, ()>;
    /// Forgets all jobs that have been over since before `before`.
    fn purge_imports(&self, before: Timestamp) -> Answer<'_, ()>;
    /// Devices at home in an application, in order of their ids after `after`, at most `limit`; with their codes if asked.
    fn devices_at_home(
        &self,
        tenant: TenantId,
        application: ListingId,
        after: Option<ListingId>,
        codes: bool,
        limit: u32,
    ) -> Answer<'_, Vec<(ListedDevice, Option<Secret<String>>)>>;
    /// Records that an application's devices are exported.
    fn note_export(&self, tenant: TenantId, application: ListingId, codes: bool, by: By) -> Answer<'_, ()>;
}

#[cfg(test)]
mod tests;
