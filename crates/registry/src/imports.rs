//! Import jobs. Their rows wait sealed in batches of a hundred and are applied a batch a transaction, together with the
//! job's checkpoint.

pub(crate) mod apply;
pub(crate) mod jobs;
pub(crate) mod results;
pub(crate) mod sealed;
pub(crate) mod stage;

pub(crate) use jobs::over_in;

use claim::applications::{By, ListedDevice};
use claim::directory::{Answer, Page, PageRequest};
use claim::event::MakerEvent;
use claim::imports::{
    GeneratedCode, ImportCounts, ImportDraft, ImportId, ImportJob, ImportRow, ImportState, ImportStep, Imports,
    RowFault, RowResult,
};
use claim::{ListingId, PortFuture, Secret, TenantId, Timestamp};

use crate::directory::found;
use crate::sqlite::SqliteRegistry;

impl Imports for SqliteRegistry {
    fn begin_import(&self, tenant: TenantId, draft: ImportDraft, by: By) -> Answer<'_, ImportJob> {
        self.change(move |connection, after| jobs::begin(connection, after, tenant, &draft, by))
    }

    fn stage_import(
        &self,
        tenant: TenantId,
        job: ImportId,
        rows: Vec<ImportRow>,
        now: Timestamp,
    ) -> Answer<'_, ImportCounts> {
        let vault = self.vault();
        self.change(move |connection, _| stage::stage(connection, &vault, tenant, job, &rows, now))
    }

    fn end_staging(
        &self,
        tenant: TenantId,
        job: ImportId,
        warnings: Vec<RowFault>,
        now: Timestamp,
    ) -> Answer<'_, ImportJob> {
        self.change(move |connection, after| jobs::end_staging(connection, after, tenant, job, &warnings, now))
    }

    fn break_import(&self, tenant: TenantId, job: ImportId, reason: String, now: Timestamp) -> Answer<'_, ImportJob> {
        self.change(move |connection, after| jobs::broken(connection, after, tenant, job, &reason, now))
    }

    fn fail_import(&self, tenant: TenantId, job: ImportId, reason: String, now: Timestamp) -> Answer<'_, ImportJob> {
        self.change(move |connection, after| {
            let turn = jobs::Turn { from: ImportState::Applying, to: ImportState::Stopped, reason: Some(&reason) };
            let job = jobs::turn(connection, tenant, job, turn, now)?;
            jobs::over(connection, after, tenant, &job, now)?;
            Ok(job)
        })
    }

    fn apply_import(&self, tenant: TenantId, job: ImportId, now: Timestamp) -> Answer<'_, ImportStep> {
        let vault = self.vault();
        self.change(move |connection, after| apply::next(connection, after, &vault, tenant, job, now))
    }

    fn imports_to_apply(&self) -> Answer<'_, Vec<(TenantId, ImportId)>> {
        PortFuture::later(self.look(jobs::to_apply))
    }

    fn break_idle_imports(&self, idle_since: Timestamp, now: Timestamp) -> Answer<'_, ()> {
        self.change(move |connection, after| jobs::break_idle(connection, after, idle_since, now))
    }

    fn stop_import(&self, tenant: TenantId, job: ImportId, by: By) -> Answer<'_, ImportJob> {
        self.change(move |connection, after| {
            let turn = jobs::Turn { from: ImportState::Applying, to: ImportState::Stopped, reason: None };
            let job = jobs::turn(connection, tenant, job, turn, by.now)?;
            jobs::record(connection, after, tenant, &job, MakerEvent::ImportStopped, None, by)?;
            Ok(job)
        })
    }

    fn resume_import(&self, tenant: TenantId, job: ImportId, most: u32, by: By) -> Answer<'_, ImportJob> {
        self.change(move |connection, after| {
            jobs::under_way(connection, tenant, most)?;
            let turn = jobs::Turn { from: ImportState::Stopped, to: ImportState::Applying, reason: None };
            let job = jobs::turn(connection, tenant, job, turn, by.now)?;
            jobs::record(connection, after, tenant, &job, MakerEvent::ImportResumed, None, by)?;
            Ok(job)
        })
    }

    fn import_job(&self, tenant: TenantId, job: ImportId) -> Answer<'_, ImportJob> {
        self.look_for("import", move |connection| jobs::one(connection, tenant, job))
    }

    fn import_jobs(&self, tenant: TenantId, page: PageRequest) -> Answer<'_, Page<ImportJob>> {
        PortFuture::later(self.look(move |connection| jobs::list(connection, tenant, &page)))
    }

    fn import_rows(
        &self,
        tenant: TenantId,
        job: ImportId,
        after: u64,
        limit: u32,
        failed: bool,
    ) -> Answer<'_, Vec<RowResult>> {
        PortFuture::later(async move {
            let reading = self.look(move |connection| {
                jobs::one(connection, tenant, job)?
                    .map(|job| results::rows(connection, tenant, &job, after, limit, failed))
                    .transpose()
            });
            found(reading.await?, "import")
        })
    }

    fn generated_codes(
        &self,
        tenant: TenantId,
        job: ImportId,
        after: u64,
        limit: u32,
    ) -> Answer<'_, Vec<GeneratedCode>> {
        let vault = self.vault();
        PortFuture::later(async move {
            let reading = self.look(move |connection| {
                jobs::one(connection, tenant, job)?
                    .filter(|job| job.codes > 0)
                    .map(|_| results::codes(connection, &vault, tenant, job, after, limit))
                    .transpose()
            });
            found(reading.await?, "generated codes")
        })
    }

    fn note_codes_read(&self, tenant: TenantId, job: ImportId, by: By) -> Answer<'_, ()> {
        self.change(move |connection, after| jobs::note_codes_read(connection, after, tenant, job, by))
    }

    fn acknowledge_codes(&self, tenant: TenantId, job: ImportId, by: By) -> Answer<'_, ()> {
        self.change(move |connection, after| jobs::acknowledge_codes(connection, after, tenant, job, by))
    }

    fn delete_import(&self, tenant: TenantId, job: ImportId, by: By) -> Answer<'_, ()> {
        PortFuture::later(async move {
            // From here on it cannot be resumed, whether or not all of it goes now; what is left the purge takes.
            let rid = self.write(move |connection, after| jobs::forget(connection, after, tenant, job, by)).await?;
            while self.write(move |connection, _| Ok(jobs::remove_some(connection, rid)?)).await? {}
            Ok(())
        })
    }

    fn purge_imports(&self, before: Timestamp) -> Answer<'_, ()> {
        PortFuture::later(async move {
            // A few at a time, so that no claim waits for all of them.
            while self.write(move |connection, _| jobs::purge_some(connection, before)).await? {}
            Ok(())
        })
    }

    fn devices_at_home(
        &self,
        tenant: TenantId,
        application: ListingId,
        after: Option<ListingId>,
        codes: bool,
        limit: u32,
    ) -> Answer<'_, Vec<(ListedDevice, Option<Secret<String>>)>> {
        let vault = self.vault();
        PortFuture::later(self.look(move |connection| {
            results::devices(connection, &vault, tenant, &application, after.as_ref(), codes, limit)
        }))
    }

    fn note_export(&self, tenant: TenantId, application: ListingId, codes: bool, by: By) -> Answer<'_, ()> {
        self.change(move |connection, after| jobs::note_export(connection, after, tenant, &application, codes, by))
    }
}
