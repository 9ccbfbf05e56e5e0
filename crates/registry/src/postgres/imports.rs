//! Import jobs. See `crate::imports`.
//!
//! Any node may take a job's file or apply it: whoever changes a job holds its row until the commit. What rows change is held
//! too, and indexes keep identities apart, so that a hundred rows are not written again because of what happened beside them.

pub(crate) mod apply;
mod jobs;
mod results;
mod stage;

pub(crate) use jobs::over_in;

use claim::applications::{By, ListedDevice};
use claim::directory::{Answer, Page, PageRequest};
use claim::imports::{
    GeneratedCode, ImportCounts, ImportDraft, ImportId, ImportJob, ImportRow, ImportStep, Imports, RowFault, RowResult,
};
use claim::{ListingId, PortFuture, Secret, TenantId, Timestamp};

use super::PostgresRegistry;
use crate::directory::found;

impl Imports for PostgresRegistry {
    fn begin_import(&self, tenant: TenantId, draft: ImportDraft, by: By) -> Answer<'_, ImportJob> {
        self.change((tenant, draft, self.node, by), |db, after, (tenant, draft, node, by)| {
            Box::pin(jobs::begin(db, after, *tenant, draft, *node, *by))
        })
    }

    fn stage_import(
        &self,
        tenant: TenantId,
        job: ImportId,
        rows: Vec<ImportRow>,
        now: Timestamp,
    ) -> Answer<'_, ImportCounts> {
        self.change_locked((self.vault(), tenant, job, rows, now), |db, _, (vault, tenant, job, rows, now)| {
            Box::pin(stage::stage(db, vault, *tenant, *job, rows, *now))
        })
    }

    fn end_staging(
        &self,
        tenant: TenantId,
        job: ImportId,
        warnings: Vec<RowFault>,
        now: Timestamp,
    ) -> Answer<'_, ImportJob> {
        self.change_locked((tenant, job, warnings, now), |db, after, (tenant, job, warnings, now)| {
            Box::pin(jobs::end_staging(db, after, *tenant, *job, warnings, *now))
        })
    }

    fn break_import(&self, tenant: TenantId, job: ImportId, reason: String, now: Timestamp) -> Answer<'_, ImportJob> {
        self.change_locked((tenant, job, reason, now), |db, after, (tenant, job, reason, now)| {
            Box::pin(jobs::broken(db, after, *tenant, *job, reason, *now))
        })
    }

    fn fail_import(&self, tenant: TenantId, job: ImportId, reason: String, now: Timestamp) -> Answer<'_, ImportJob> {
        self.change_locked((tenant, job, reason, now), |db, after, (tenant, job, reason, now)| {
            Box::pin(jobs::failed(db, after, *tenant, *job, reason, *now))
        })
    }

    fn apply_import(&self, tenant: TenantId, job: ImportId, now: Timestamp) -> Answer<'_, ImportStep> {
        self.change_locked((self.vault(), tenant, job, now), |db, after, (vault, tenant, job, now)| {
            Box::pin(apply::next(db, after, vault, *tenant, *job, *now))
        })
    }

    fn imports_to_apply(&self) -> Answer<'_, Vec<(TenantId, ImportId)>> {
        PortFuture::later(self.look((), |db, ()| Box::pin(jobs::to_apply(db))))
    }

    fn break_idle_imports(&self, idle_since: Timestamp, now: Timestamp) -> Answer<'_, ()> {
        self.change_locked((self.node, idle_since, now), |db, after, (node, idle_since, now)| {
            Box::pin(jobs::break_idle(db, after, *node, *idle_since, *now))
        })
    }

    fn stop_import(&self, tenant: TenantId, job: ImportId, by: By) -> Answer<'_, ImportJob> {
        self.change_locked((tenant, job, by), |db, after, (tenant, job, by)| {
            Box::pin(jobs::stop(db, after, *tenant, *job, *by))
        })
    }

    fn resume_import(&self, tenant: TenantId, job: ImportId, most: u32, by: By) -> Answer<'_, ImportJob> {
        self.change((tenant, job, most, by), |db, after, (tenant, job, most, by)| {
            Box::pin(jobs::resume(db, after, *tenant, *job, *most, *by))
        })
    }

    fn import_job(&self, tenant: TenantId, job: ImportId) -> Answer<'_, ImportJob> {
        self.look_for("import", (tenant, job), |db, (tenant, job)| Box::pin(jobs::one(db, *tenant, *job)))
    }

    fn import_jobs(&self, tenant: TenantId, page: PageRequest) -> Answer<'_, Page<ImportJob>> {
        PortFuture::later(self.look((tenant, page), |db, (tenant, page)| Box::pin(jobs::list(db, *tenant, page))))
    }

    fn import_rows(
        &self,
        tenant: TenantId,
        job: ImportId,
        after: u64,
        limit: u32,
        failed: bool,
    ) -> Answer<'_, Vec<RowResult>> {
        PortFuture::later(self.look((tenant, job, after, limit, failed), |db, (tenant, job, after, limit, failed)| {
            Box::pin(async move {
                let job = found(jobs::one(db, *tenant, *job).await?, "import")?;
                results::rows(db, *tenant, &job, *after, *limit, *failed).await
            })
        }))
    }

    fn generated_codes(
        &self,
        tenant: TenantId,
        job: ImportId,
        after: u64,
        limit: u32,
    ) -> Answer<'_, Vec<GeneratedCode>> {
        let args = (self.vault(), tenant, job, after, limit);
        PortFuture::later(self.look(args, |db, (vault, tenant, job, after, limit)| {
            Box::pin(async move {
                let kept = jobs::one(db, *tenant, *job).await?.filter(|job| job.codes > 0);
                found(kept, "generated codes")?;
                results::codes(db, vault, *tenant, *job, *after, *limit).await
            })
        }))
    }

    fn note_codes_read(&self, tenant: TenantId, job: ImportId, by: By) -> Answer<'_, ()> {
        self.change_locked((tenant, job, by), |db, after, (tenant, job, by)| {
            Box::pin(jobs::note_codes_read(db, after, *tenant, *job, *by))
        })
    }

    fn acknowledge_codes(&self, tenant: TenantId, job: ImportId, by: By) -> Answer<'_, ()> {
        self.change_locked((tenant, job, by), |db, after, (tenant, job, by)| {
            Box::pin(jobs::acknowledge_codes(db, after, *tenant, *job, *by))
        })
    }

    fn delete_import(&self, tenant: TenantId, job: ImportId, by: By) -> Answer<'_, ()> {
        PortFuture::later(async move {
            // From here on it cannot be resumed, whether or not all of it goes now; what is left the purge takes.
            let forget = self.change_locked((tenant, job, by), |db, after, (tenant, job, by)| {
                Box::pin(jobs::forget(db, after, *tenant, *job, *by))
            });
            let rid = forget.await?;
            while self.change_locked(rid, |db, _, rid| Box::pin(jobs::remove_some(db, *rid))).await? {}
            Ok(())
        })
    }

    fn purge_imports(&self, before: Timestamp) -> Answer<'_, ()> {
        PortFuture::later(async move {
            // A few at a time, so that nobody waits for all of them.
            while self.change_locked(before, |db, _, before| Box::pin(jobs::purge_some(db, *before))).await? {}
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
        let args = (self.vault(), tenant, application, after, codes, limit);
        PortFuture::later(self.look(args, |db, (vault, tenant, application, after, codes, limit)| {
            Box::pin(results::devices(db, vault, *tenant, application, after.as_ref(), *codes, *limit))
        }))
    }

    fn note_export(&self, tenant: TenantId, application: ListingId, codes: bool, by: By) -> Answer<'_, ()> {
        self.change_locked((tenant, application, codes, by), |db, after, (tenant, application, codes, by)| {
            Box::pin(jobs::note_export(db, after, *tenant, application, *codes, *by))
        })
    }
}
