//! The contract of [`Imports`], rule by rule. [`all`] runs every rule, each on an empty install.

use std::sync::Arc;

use claim::applications::{ApplicationDraft, Applications, By, CodeChange, Identity, NewCode, Place, RootKeys};
use claim::audit::{AuditFilter, AuditLog};
use claim::directory::{Directory, DirectoryError, PageRequest};
use claim::imports::{
    GoodRow, ImportDraft, ImportId, ImportJob, ImportRow, ImportState, ImportStep, Imports, OnError, RowFault,
    RowStatus,
};
use claim::{Eui64, ListingId, Secret, TenantId, UserId};

use crate::fixtures::at;

/// An install that an adapter's tests make.
pub trait Install: Imports + Applications + AuditLog + Directory {}

impl<T: Imports + Applications + AuditLog + Directory> Install for T {}

/// Runs every rule; `install` makes an empty one for each.
pub async fn all<I: Install>(install: impl Fn() -> Arc<I>) {
    a_dry_run_writes_nothing(&*install()).await;
    a_bad_row_aborts_all_or_is_skipped(&*install()).await;
    rows_are_applied_once_and_a_repeat_changes_nothing(&*install()).await;
    a_row_that_repeats_another_is_bad(&*install()).await;
    a_row_that_turned_bad_stops_the_job_there(&*install()).await;
    a_stopped_job_goes_on_and_one_under_way_stays(&*install()).await;
    what_stands_in_a_jobs_way_stops_it_alone(&*install()).await;
    an_applications_imports_go_with_it_unless_one_is_under_way(&*install()).await;
    so_many_jobs_are_kept(&*install()).await;
    generated_codes_are_those_of_the_devices_until_they_are_acknowledged(&*install()).await;
    jobs_of_others_do_not_exist_and_so_many_run_at_once(&*install()).await;
    what_was_under_way_at_a_stop_is_broken_or_goes_on(&*install()).await;
    root_keys_are_read_by_their_maker_and_exposed_then(&*install()).await;
}

fn by(ms: i64) -> By {
    By { account: UserId::from_bytes([9; 16]), now: at(ms) }
}

fn id(text: &str) -> ListingId {
    ListingId::parse(text).expect("an id")
}

fn draft(on_error: OnError) -> ImportDraft {
    let format = "the-things-stack-csv".to_owned();
    ImportDraft { application: id("spring"), format, on_error, dry_run: false, most: 4 }
}

async fn spring<I: Install>(install: &I) -> TenantId {
    let tenant = install.create_tenant("maker".to_owned(), at(0)).await.expect("a tenant").id;
    let application = ApplicationDraft {
        listing: id("spring"),
        customer: None,
        claiming_authorized: true,
        invalidate_code_on_claim: None,
        most: None,
    };
    install.create_application(tenant, application, by(0)).await.expect("an application");
    tenant
}

fn code(text: &str) -> NewCode {
    NewCode { code: Secret::new(text.to_owned()), any_case: true, from: None, until: None }
}

fn good(row: u64) -> ImportRow {
    let eui = Eui64::from_bytes([0, 4, 0xa3, 0x0b, 0, 0, (row >> 8) as u8, row as u8]);
    let good = GoodRow {
        listing: id(&format!("pump-{row}")),
        label: Some(format!("Pump {row}")),
        identity: Identity { dev_eui: Some(eui), external_id: Some(format!("E{row}")), ..Identity::default() },
        claiming_allowed: None,
        code: Some(code(&format!("CODE{row:012}"))),
        window: (None, None),
        generated: false,
        root_keys: RootKeys { app_key: Some(Secret::new([row as u8; 16])), nwk_key: None },
        root_keys_exposed: false,
    };
    ImportRow { row, id: Some(format!("pump-{row}")), outcome: Ok(Box::new(good)), warnings: Vec::new() }
}

fn bad(row: u64) -> ImportRow {
    let fault = RowFault {
        column: "dev_eui".to_owned(),
        value: Some("00GG".to_owned()),
        code: "invalid_eui".into(),
        reason: "16 hex digits expected".to_owned(),
    };
    ImportRow { row, id: Some(format!("pump-{row}")), outcome: Err(vec![fault]), warnings: Vec::new() }
}

fn changed(row: u64, change: impl FnOnce(&mut GoodRow)) -> ImportRow {
    let mut row = good(row);
    change(row.outcome.as_mut().expect("good"));
    row
}

async fn staged<I: Install>(
    install: &I,
    tenant: TenantId,
    draft: ImportDraft,
    rows: Vec<ImportRow>,
    now: i64,
) -> ImportJob {
    let job = install.begin_import(tenant, draft, by(now)).await.expect("a job");
    assert_eq!(job.state, ImportState::Checking);
    install.stage_import(tenant, job.id, rows, at(1)).await.expect("staged");
    install.end_staging(tenant, job.id, Vec::new(), at(now)).await.expect("the whole file")
}

async fn apply<I: Install>(install: &I, tenant: TenantId, job: ImportId, now: i64) -> ImportJob {
    while install.apply_import(tenant, job, at(now)).await.expect("applied") == ImportStep::More {}
    install.import_job(tenant, job).await.expect("the job")
}

async fn import<I: Install>(install: &I, tenant: TenantId, rows: Vec<ImportRow>, now: i64) -> ImportJob {
    let job = staged(install, tenant, draft(OnError::Skip), rows, now).await;
    apply(install, tenant, job.id, now).await
}

async fn devices<I: Install>(install: &I, tenant: TenantId) -> u64 {
    let request = PageRequest { size: 1, page: 0, text: None };
    install.listed_in(tenant, id("spring"), request).await.expect("devices").total
}

async fn statuses<I: Install>(install: &I, tenant: TenantId, job: ImportId) -> Vec<(u64, RowStatus, Option<String>)> {
    let rows = install.import_rows(tenant, job, 0, 100, false).await.expect("rows");
    rows.into_iter().map(|row| (row.row, row.status, row.errors.first().map(|fault| fault.code.to_string()))).collect()
}

fn place(device: &str) -> Place {
    Place { application: id("spring"), device: id(device) }
}

async fn a_dry_run_writes_nothing<I: Install>(install: &I) {
    let tenant = spring(install).await;
    let dry = ImportDraft { dry_run: true, ..draft(OnError::Abort) };
    let job = staged(install, tenant, dry, vec![good(2), bad(3), good(4)], 1).await;
    assert_eq!((job.state, job.checked.rows, job.checked.created, job.checked.failed), (ImportState::Checked, 3, 2, 1));
    assert_eq!(
        statuses(install, tenant, job.id).await,
        [
            (2, RowStatus::Created, None),
            (3, RowStatus::Failed, Some("invalid_eui".to_owned())),
            (4, RowStatus::Created, None)
        ]
    );
    assert_eq!(install.apply_import(tenant, job.id, at(2)).await, Ok(ImportStep::Over));
    assert_eq!(devices(install, tenant).await, 0);
    assert!(matches!(install.resume_import(tenant, job.id, 4, by(2)).await, Err(DirectoryError::InUse(_))));
}

async fn a_bad_row_aborts_all_or_is_skipped<I: Install>(install: &I) {
    let tenant = spring(install).await;
    let rows = || vec![good(2), bad(3), good(4)];
    let job = staged(install, tenant, draft(OnError::Abort), rows(), 1).await;
    assert_eq!(job.state, ImportState::Refused);
    assert_eq!(install.apply_import(tenant, job.id, at(2)).await, Ok(ImportStep::Over));
    assert_eq!(devices(install, tenant).await, 0);
    let only_bad = install.import_rows(tenant, job.id, 0, 100, true).await.expect("rows");
    let only_bad: Vec<_> = only_bad.into_iter().map(|row| (row.row, row.status)).collect();
    assert_eq!(only_bad, [(2, RowStatus::NotApplied), (3, RowStatus::Failed), (4, RowStatus::NotApplied)]);
    let job = import(install, tenant, rows(), 3).await;
    assert_eq!((job.state, job.applied.created, devices(install, tenant).await), (ImportState::Done, 2, 2));
    let broken = install.begin_import(tenant, draft(OnError::Skip), by(4)).await.expect("a job");
    install.stage_import(tenant, broken.id, vec![good(9)], at(1)).await.expect("staged");
    let broken = install.break_import(tenant, broken.id, "half a file".to_owned(), at(4)).await.expect("broken");
    assert_eq!((broken.state, broken.reason.as_deref()), (ImportState::Broken, Some("half a file")));
    assert_eq!(devices(install, tenant).await, 2);
    assert!(matches!(
        install.stage_import(tenant, broken.id, vec![good(9)], at(1)).await,
        Err(DirectoryError::InUse(_))
    ));
}

async fn rows_are_applied_once_and_a_repeat_changes_nothing<I: Install>(install: &I) {
    let tenant = spring(install).await;
    let job = import(install, tenant, vec![good(2), good(3)], 1).await;
    assert_eq!((job.applied.rows, job.applied.created), (2, 2));
    let made = install.at_home(tenant, place("pump-2")).await.expect("made");
    assert_eq!(made.label.as_deref(), Some("Pump 2"));
    assert!(made.root_keys && !made.root_keys_exposed && made.code.is_some());
    let read = install.read_code(tenant, place("pump-2"), by(1)).await.expect("its code");
    assert_eq!(read.expose(), "CODE000000000002");
    let again = import(install, tenant, vec![good(2), good(3)], 2).await;
    assert_eq!((again.checked.unchanged, again.applied.unchanged, again.applied.updated), (2, 2, 0));
    assert_eq!(install.at_home(tenant, place("pump-2")).await.expect("there"), made, "nothing was touched");
    let renamed = changed(2, |row| row.label = Some("Cellar".to_owned()));
    let job = import(install, tenant, vec![renamed], 3).await;
    assert_eq!((job.checked.updated, job.applied.updated), (1, 1));
    // A window alone is that of the code the device has.
    let alone = |row, until| {
        changed(row, |row| {
            row.code = None;
            row.window.1 = Some(at(until));
        })
    };
    let job = import(install, tenant, vec![alone(3, 9_000), alone(4, 9_000)], 4).await;
    assert_eq!((job.applied.updated, job.checked.failed), (1, 1), "a new device has none");
    let moved = install.at_home(tenant, place("pump-3")).await.expect("there").code.expect("its code");
    assert_eq!((moved.from, moved.until), (None, Some(at(9_000))));
    assert_eq!(import(install, tenant, vec![alone(3, 9_000)], 5).await.applied.unchanged, 1);
    let renamed = install.at_home(tenant, place("pump-2")).await.expect("there");
    assert_eq!((renamed.label.as_deref(), renamed.identity, renamed.code), (Some("Cellar"), made.identity, made.code));
}

async fn a_row_that_repeats_another_is_bad<I: Install>(install: &I) {
    let tenant = spring(install).await;
    let same_id = changed(3, |row| row.listing = id("pump-2"));
    let same_id = ImportRow { id: Some("pump-2".to_owned()), ..same_id };
    let same_eui = changed(4, |row| row.identity.dev_eui = Some(Eui64::from_bytes([0, 4, 0xa3, 0x0b, 0, 0, 0, 2])));
    let same_external = changed(5, |row| row.identity.external_id = Some("E2".to_owned()));
    let job = install.begin_import(tenant, draft(OnError::Skip), by(1)).await.expect("a job");
    install.stage_import(tenant, job.id, vec![good(2), same_id], at(1)).await.expect("staged");
    install.stage_import(tenant, job.id, vec![same_eui, same_external, good(6)], at(1)).await.expect("staged");
    let repeated = |row| (row, RowStatus::Failed, Some("repeated".to_owned()));
    assert_eq!(
        statuses(install, tenant, job.id).await,
        [(2, RowStatus::Created, None), repeated(3), repeated(4), repeated(5), (6, RowStatus::Created, None)]
    );
}

async fn a_row_that_turned_bad_stops_the_job_there<I: Install>(install: &I) {
    let tenant = spring(install).await;
    let job = staged(install, tenant, draft(OnError::Abort), vec![good(2), good(3), good(4)], 1).await;
    assert_eq!(job.state, ImportState::Applying);
    // Meanwhile somebody makes two devices, which have what the second row takes for one.
    let rival = changed(3, |row| {
        row.identity =
            Identity { dev_eui: Some(Eui64::from_bytes([0, 4, 0xa3, 0x0b, 0, 0, 0, 3])), ..Identity::default() };
        row.listing = id("rival-3");
    });
    let rival_too = changed(3, |row| {
        row.identity = Identity { external_id: Some("E3".to_owned()), ..Identity::default() };
        row.listing = id("rival-x");
    });
    import(install, tenant, vec![rival], 2).await;
    import(install, tenant, vec![rival_too], 2).await;
    let stopped = apply(install, tenant, job.id, 3).await;
    assert_eq!((stopped.state, stopped.applied.created), (ImportState::Stopped, 1));
    assert!(stopped.reason.as_deref().is_some_and(|reason| reason.starts_with("row 3 ")));
    assert_eq!(
        statuses(install, tenant, job.id).await,
        [
            (2, RowStatus::Created, None),
            (3, RowStatus::Failed, Some("identity_conflict".to_owned())),
            (4, RowStatus::NotApplied, None)
        ]
    );
    // Mended, it goes on from there.
    install.remove(tenant, place("rival-3"), by(4)).await.expect("removed");
    install.remove(tenant, place("rival-x"), by(4)).await.expect("removed");
    install.resume_import(tenant, job.id, 4, by(5)).await.expect("resumed");
    let done = apply(install, tenant, job.id, 5).await;
    assert_eq!((done.state, done.applied.created, done.applied.rows), (ImportState::Done, 3, 3));
}

async fn a_stopped_job_goes_on_and_one_under_way_stays<I: Install>(install: &I) {
    let tenant = spring(install).await;
    let job = install.begin_import(tenant, draft(OnError::Abort), by(1)).await.expect("a job");
    for hundred in 0..3_u64 {
        let rows = (0..100).map(|row| good(2 + hundred * 100 + row)).collect();
        install.stage_import(tenant, job.id, rows, at(1)).await.expect("staged");
    }
    install.end_staging(tenant, job.id, Vec::new(), at(1)).await.expect("whole");
    assert_eq!(install.imports_to_apply().await.expect("jobs"), [(tenant, job.id)]);
    assert_eq!(install.apply_import(tenant, job.id, at(2)).await, Ok(ImportStep::More));
    assert!(matches!(install.delete_import(tenant, job.id, by(9)).await, Err(DirectoryError::InUse(_))));
    install.stop_import(tenant, job.id, by(3)).await.expect("stopped");
    assert_eq!(install.apply_import(tenant, job.id, at(3)).await, Ok(ImportStep::Over));
    assert_eq!(devices(install, tenant).await, 100, "a hundred are committed together");
    install.resume_import(tenant, job.id, 4, by(4)).await.expect("resumed");
    let done = apply(install, tenant, job.id, 4).await;
    assert_eq!((done.state, done.applied.created, devices(install, tenant).await), (ImportState::Done, 300, 300));
    let audit = install.rows(tenant, AuditFilter::after(0), 1000).await.expect("audit");
    for deed in ["import_started", "import_stopped", "import_resumed", "import_ended"] {
        assert!(audit.iter().any(|row| row.action == format!("application.{deed}")), "{deed}");
    }
    install.delete_import(tenant, job.id, by(9)).await.expect("forgotten");
    assert_eq!(install.import_job(tenant, job.id).await, Err(DirectoryError::NotFound("import")));
    assert_eq!(devices(install, tenant).await, 300);
}

async fn what_stands_in_a_jobs_way_stops_it_alone<I: Install>(install: &I) {
    let tenant = spring(install).await;
    let job = staged(install, tenant, draft(OnError::Abort), vec![good(2)], 1).await;
    let failed = install.fail_import(tenant, job.id, "something".to_owned(), at(2)).await.expect("stopped");
    assert_eq!((failed.state, failed.reason.as_deref()), (ImportState::Stopped, Some("something")));
    assert_eq!(install.imports_to_apply().await.expect("jobs"), []);
    // A window that is empty with what is stored is a fault of its row, not of the job.
    let until = |row| changed(row, |good| good.code.as_mut().expect("a code").until = Some(at(100)));
    import(install, tenant, vec![until(3)], 3).await;
    let from = changed(3, |good| good.code.as_mut().expect("a code").from = Some(at(100)));
    let job = staged(install, tenant, draft(OnError::Skip), vec![from], 4).await;
    assert_eq!((job.state, job.checked.failed), (ImportState::Done, 1));
    // As many as may be are under way: none is resumed.
    let resumed = install.resume_import(tenant, failed.id, 0, by(5)).await;
    assert_eq!(resumed, Err(DirectoryError::Full { what: "imports under way", most: 0 }));
}

async fn an_applications_imports_go_with_it_unless_one_is_under_way<I: Install>(install: &I) {
    let tenant = spring(install).await;
    let dry = staged(install, tenant, ImportDraft { dry_run: true, ..draft(OnError::Abort) }, vec![good(2)], 1).await;
    let open = install.begin_import(tenant, draft(OnError::Abort), by(1)).await.expect("a job");
    let busy = install.delete_application(tenant, id("spring"), by(2)).await;
    assert!(matches!(busy, Err(DirectoryError::InUse(_))));
    install.break_import(tenant, open.id, "no more".to_owned(), at(2)).await.expect("broken");
    install.delete_application(tenant, id("spring"), by(3)).await.expect("deleted");
    assert!(install.import_job(tenant, dry.id).await.is_err());
}

async fn so_many_jobs_are_kept<I: Install>(install: &I) {
    let tenant = spring(install).await;
    let dry = ImportDraft { dry_run: true, ..draft(OnError::Abort) };
    let mut jobs = Vec::new();
    for n in 0..101 {
        jobs.push(staged(install, tenant, dry.clone(), vec![good(2)], n).await.id);
    }
    // Long before any of them has been over for as long as they are kept.
    install.purge_imports(at(0)).await.expect("purged");
    let request = PageRequest { size: 1, page: 0, text: None };
    assert_eq!(install.import_jobs(tenant, request).await.expect("jobs").total, 100);
    assert!(install.import_job(tenant, jobs[0]).await.is_err(), "the oldest made room");
    assert!(install.import_job(tenant, jobs[1]).await.is_ok());
}

async fn generated_codes_are_those_of_the_devices_until_they_are_acknowledged<I: Install>(install: &I) {
    let tenant = spring(install).await;
    // One has a code already; a generated one fills gaps only.
    import(install, tenant, vec![good(4)], 1).await;
    let generated = |row: u64| {
        changed(row, |good| {
            good.generated = true;
            good.code = Some(code(&format!("MADE{row:012}")));
        })
    };
    let job = import(install, tenant, vec![generated(2), generated(3), generated(4)], 2).await;
    assert_eq!((job.applied.created, job.applied.unchanged, job.codes), (2, 1, 2));
    let codes = install.generated_codes(tenant, job.id, 0, 100).await.expect("codes");
    let codes: Vec<_> = codes.iter().map(|code| (code.row, code.code.expose().as_str())).collect();
    assert_eq!(codes, [(2, "MADE000000000002"), (3, "MADE000000000003")]);
    assert_eq!(install.generated_codes(tenant, job.id, 2, 100).await.expect("codes").len(), 1);
    // A code that was replaced since is not the job's any more.
    install.change_code(tenant, place("pump-3"), CodeChange::Set(code("OTHERCODE")), by(3)).await.expect("set");
    assert_eq!(install.generated_codes(tenant, job.id, 0, 100).await.expect("codes").len(), 1);
    install.note_codes_read(tenant, job.id, by(4)).await.expect("noted");
    let under_way = staged(install, tenant, draft(OnError::Abort), vec![good(9)], 4).await;
    assert!(matches!(install.acknowledge_codes(tenant, under_way.id, by(5)).await, Err(DirectoryError::InUse(_))));
    install.acknowledge_codes(tenant, job.id, by(5)).await.expect("acknowledged");
    let gone = install.generated_codes(tenant, job.id, 0, 100).await;
    assert!(matches!(gone, Err(DirectoryError::NotFound("generated codes"))));
    let audit = install.rows(tenant, AuditFilter::after(0), 1000).await.expect("audit");
    assert!(audit.iter().any(|row| row.action == "application.import_codes_read"));
}

async fn jobs_of_others_do_not_exist_and_so_many_run_at_once<I: Install>(install: &I) {
    let tenant = spring(install).await;
    let other = install.create_tenant("other".to_owned(), at(0)).await.expect("a tenant").id;
    let one = ImportDraft { most: 1, ..draft(OnError::Abort) };
    let job = install.begin_import(tenant, one.clone(), by(1)).await.expect("a job");
    let full = install.begin_import(tenant, one, by(1)).await;
    assert_eq!(full, Err(DirectoryError::Full { what: "imports under way", most: 1 }));
    assert_eq!(install.import_job(other, job.id).await, Err(DirectoryError::NotFound("import")));
    assert!(install.stage_import(other, job.id, vec![good(2)], at(1)).await.is_err());
    assert!(install.import_rows(other, job.id, 0, 10, false).await.is_err());
    assert!(install.delete_import(other, job.id, by(9)).await.is_err());
    let request = PageRequest { size: 10, page: 0, text: None };
    assert_eq!(install.import_jobs(other, request.clone()).await.expect("jobs").total, 0);
    assert_eq!(install.import_jobs(tenant, request).await.expect("jobs").total, 1);
    assert!(install.begin_import(other, draft(OnError::Abort), by(1)).await.is_err(), "the application is not theirs");
}

async fn what_was_under_way_at_a_stop_is_broken_or_goes_on<I: Install>(install: &I) {
    let tenant = spring(install).await;
    let arriving = install.begin_import(tenant, draft(OnError::Abort), by(1)).await.expect("a job");
    install.stage_import(tenant, arriving.id, vec![good(9)], at(1)).await.expect("staged");
    let applying = staged(install, tenant, draft(OnError::Abort), vec![good(2)], 1).await;
    install.break_idle_imports(at(1), at(2)).await.expect("looked");
    assert_eq!(
        install.import_job(tenant, arriving.id).await.expect("the job").state,
        ImportState::Checking,
        "at 1 rows came"
    );
    install.break_idle_imports(at(2), at(2)).await.expect("broken");
    assert_eq!(install.import_job(tenant, arriving.id).await.expect("the job").state, ImportState::Broken);
    assert_eq!(install.imports_to_apply().await.expect("jobs"), [(tenant, applying.id)]);
    assert_eq!(apply(install, tenant, applying.id, 3).await.state, ImportState::Done);
    // Jobs that are long over are forgotten; their devices are not.
    install.purge_imports(at(3)).await.expect("purged");
    assert!(install.import_job(tenant, arriving.id).await.is_err());
    assert!(install.import_job(tenant, applying.id).await.is_ok(), "over at 3, not before");
    assert_eq!(devices(install, tenant).await, 1);
}

async fn root_keys_are_read_by_their_maker_and_exposed_then<I: Install>(install: &I) {
    let tenant = spring(install).await;
    let shared = changed(3, |row| row.root_keys_exposed = true);
    let none = changed(4, |row| row.root_keys = RootKeys::default());
    import(install, tenant, vec![good(2), shared, none], 1).await;
    assert!(install.at_home(tenant, place("pump-3")).await.expect("there").root_keys_exposed);
    let keys = install.export_root_keys(tenant, place("pump-2"), by(2)).await.expect("keys");
    assert_eq!(keys.app_key.map(|key| *key.expose()), Some([2; 16]));
    assert!(keys.nwk_key.is_none());
    assert!(install.at_home(tenant, place("pump-2")).await.expect("there").root_keys_exposed);
    let none = install.export_root_keys(tenant, place("pump-4"), by(2)).await;
    assert!(matches!(none, Err(DirectoryError::NotFound("root keys"))));
    let audit = install.rows(tenant, AuditFilter::after(0), 1000).await.expect("audit");
    assert!(audit.iter().any(|row| row.action == "device.root_keys_exported"));
    // The other key is added, the first stays.
    let more = changed(2, |row| row.root_keys = RootKeys { app_key: None, nwk_key: Some(Secret::new([8; 16])) });
    assert_eq!(import(install, tenant, vec![more], 3).await.applied.updated, 1);
    let keys = install.export_root_keys(tenant, place("pump-2"), by(4)).await.expect("keys");
    assert_eq!(keys.app_key.zip(keys.nwk_key).map(|(a, n)| (*a.expose(), *n.expose())), Some(([2; 16], [8; 16])));
}
