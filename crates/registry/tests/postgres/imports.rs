//! Imports: the contract, and what several nodes do to one job.

use std::sync::Arc;

use claim::applications::{Applications, By, Identity, NewCode, Place, RootKeys};
use claim::directory::{Directory, DirectoryError, PageRequest};
use claim::imports::{
    GoodRow, ImportDraft, ImportId, ImportJob, ImportRow, ImportState, ImportStep, Imports, OnError, RowStatus,
};
use claim::{Eui64, ListingId, Secret, TenantId, UserId};
use registry::PostgresRegistry;
use testkit::{at, imports_battery};

use crate::server::server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract_of_imports() {
    imports_battery::all(|| server().fresh()).await;
}

fn by(ms: i64) -> By {
    By { account: UserId::from_bytes([9; 16]), now: at(ms) }
}

fn id(text: &str) -> ListingId {
    ListingId::parse(text).expect("an id")
}

/// A device `number`; `label` makes it differ.
fn good(row: u64, number: u64, label: &str) -> ImportRow {
    let eui = Eui64::from_bytes([0, 4, 0xa3, 0x0b, 0, 0, (number >> 8) as u8, number as u8]);
    let code = NewCode { code: Secret::new(format!("CODE{number:012}")), any_case: true, from: None, until: None };
    let good = GoodRow {
        listing: id(&format!("pump-{number}")),
        label: Some(label.to_owned()),
        identity: Identity { dev_eui: Some(eui), external_id: Some(format!("E{number}")), ..Identity::default() },
        claiming_allowed: None,
        code: Some(code),
        generated: false,
        root_keys: RootKeys { app_key: Some(Secret::new([number as u8; 16])), nwk_key: None },
        root_keys_exposed: false,
        window: (None, None),
    };
    ImportRow { row, id: Some(format!("pump-{number}")), outcome: Ok(Box::new(good)), warnings: Vec::new() }
}

async fn begun(registry: &PostgresRegistry, tenant: TenantId) -> ImportJob {
    let draft = ImportDraft {
        application: id("default"),
        format: "json".to_owned(),
        on_error: OnError::Skip,
        dry_run: false,
        most: 4,
    };
    registry.begin_import(tenant, draft, by(1)).await.expect("a job")
}

async fn staged(registry: &PostgresRegistry, tenant: TenantId, batches: Vec<Vec<ImportRow>>) -> ImportId {
    let job = begun(registry, tenant).await.id;
    for rows in batches {
        registry.stage_import(tenant, job, rows, at(1)).await.expect("staged");
    }
    registry.end_staging(tenant, job, Vec::new(), at(1)).await.expect("the whole file");
    job
}

fn applying(node: &Arc<PostgresRegistry>, tenant: TenantId, job: ImportId) -> tokio::task::JoinHandle<u32> {
    let node = Arc::clone(node);
    tokio::spawn(async move {
        let mut steps = 0;
        while node.apply_import(tenant, job, at(2)).await.expect("applied") == ImportStep::More {
            steps += 1;
        }
        steps
    })
}

struct Nodes {
    tenant: TenantId,
    database: String,
    nodes: [Arc<PostgresRegistry>; 2],
}

async fn two_nodes() -> Nodes {
    let database = server().database().await;
    let nodes = [server().open(&database).await, server().open(&database).await];
    let tenant = nodes[0].create_tenant("maker".to_owned(), at(0)).await.expect("a tenant").id;
    Nodes { tenant, database, nodes }
}

async fn devices(registry: &PostgresRegistry, tenant: TenantId) -> u64 {
    let page = PageRequest { size: 1, page: 0, text: None };
    registry.listed_in(tenant, id("default"), page).await.expect("a page").total
}

fn home(number: u64) -> Place {
    Place { application: id("default"), device: id(&format!("pump-{number}")) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_nodes_that_apply_one_job_write_every_row_once() {
    let Nodes { tenant, nodes, .. } = two_nodes().await;
    let batches =
        (0..8).map(|batch| (0..25).map(|n| good(2 + batch * 25 + n, batch * 25 + n, "a")).collect()).collect();
    let job = staged(&nodes[0], tenant, batches).await;
    let (one, other) = (applying(&nodes[0], tenant, job), applying(&nodes[1], tenant, job));
    let steps = one.await.expect("no panic") + other.await.expect("no panic");
    let done = nodes[1].import_job(tenant, job).await.expect("the job");
    assert_eq!((done.state, done.applied.rows, done.applied.created), (ImportState::Done, 200, 200));
    assert_eq!((steps, devices(&nodes[0], tenant).await), (8, 200), "each batch by one of them");
    let rows = nodes[0].import_rows(tenant, job, 0, 1_000, false).await.expect("rows");
    assert!(rows.iter().all(|row| row.status == RowStatus::Created));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_jobs_that_mean_the_same_devices_make_each_once() {
    let Nodes { tenant, nodes, .. } = two_nodes().await;
    let rows = |label: &'static str| move |n| good(2 + n, n, label);
    let first = staged(&nodes[0], tenant, vec![(0..80).map(rows("a")).collect()]).await;
    // The other way round, so that they meet in the middle and wait for each other.
    let second = (0..80).rev().zip(2..).map(|(number, row)| good(row, number, "b")).collect();
    let second = staged(&nodes[1], tenant, vec![second]).await;
    let (one, other) = (applying(&nodes[0], tenant, first), applying(&nodes[1], tenant, second));
    one.await.expect("no panic");
    other.await.expect("no panic");
    let (first, second) = (
        nodes[0].import_job(tenant, first).await.expect("the job"),
        nodes[0].import_job(tenant, second).await.expect("the job"),
    );
    assert_eq!((first.state, second.state), (ImportState::Done, ImportState::Done));
    assert_eq!(devices(&nodes[0], tenant).await, 80);
    let (first, second) = (first.applied, second.applied);
    assert_eq!(first.created + second.created, 80);
    assert_eq!(first.updated + second.updated, 80, "whoever came later changed the label");
    assert_eq!(first.failed + second.failed, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_that_one_node_applies_is_stopped_at_another_and_goes_on_there() {
    let Nodes { tenant, nodes, .. } = two_nodes().await;
    let batches =
        (0..20).map(|batch| (0..10).map(|n| good(2 + batch * 10 + n, batch * 10 + n, "a")).collect()).collect();
    let job = staged(&nodes[0], tenant, batches).await;
    let work = applying(&nodes[0], tenant, job);
    while nodes[1].import_job(tenant, job).await.expect("the job").applied.rows == 0 {
        tokio::task::yield_now().await;
    }
    nodes[1].stop_import(tenant, job, by(3)).await.expect("stopped");
    work.await.expect("no panic");
    let stopped = nodes[1].import_job(tenant, job).await.expect("the job");
    assert_eq!(stopped.state, ImportState::Stopped);
    assert!(stopped.applied.rows < 200 && devices(&nodes[1], tenant).await == stopped.applied.rows);
    nodes[1].resume_import(tenant, job, 4, by(4)).await.expect("resumed");
    applying(&nodes[1], tenant, job).await.expect("no panic");
    assert_eq!((nodes[0].import_job(tenant, job).await.expect("the job").state), ImportState::Done);
    assert_eq!(devices(&nodes[0], tenant).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_a_node_is_busy_with_is_not_offered_to_others() {
    let Nodes { tenant, nodes, database } = two_nodes().await;
    let job = staged(&nodes[0], tenant, vec![vec![good(2, 0, "a")]]).await;
    assert_eq!(nodes[1].imports_to_apply().await, Ok(vec![(tenant, job)]));
    let mut busy = server().client(&database).await;
    let held = busy.transaction().await.expect("a transaction");
    held.execute("SELECT id FROM import FOR UPDATE", &[]).await.expect("held");
    assert_eq!(nodes[1].imports_to_apply().await, Ok(vec![]));
    held.rollback().await.expect("let go");
    assert_eq!(nodes[1].imports_to_apply().await, Ok(vec![(tenant, job)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_starts_breaks_no_import_that_arrives_at_another() {
    let Nodes { tenant, nodes, database } = two_nodes().await;
    let job = begun(&nodes[0], tenant).await.id;
    nodes[0].stage_import(tenant, job, vec![good(2, 0, "a")], at(1)).await.expect("staged");
    nodes[1].break_idle_imports(at(5), at(5)).await.expect("looked at");
    nodes[1].purge_imports(at(5)).await.expect("purged");
    nodes[0].stage_import(tenant, job, vec![good(3, 1, "a")], at(6)).await.expect("it goes on");
    // Its node dies, and nothing more is heard of it.
    let client = server().client(&database).await;
    let changed = client.execute("UPDATE import SET heard_at = heard_at - 15 * 60 * 1000 - 1", &[]).await;
    assert_eq!(changed.expect("changed"), 1);
    nodes[1].break_idle_imports(at(0), at(8)).await.expect("looked at");
    assert_eq!(nodes[1].import_job(tenant, job).await.expect("the job").state, ImportState::Broken);
    let more = nodes[0].stage_import(tenant, job, vec![good(4, 2, "a")], at(7)).await;
    assert_eq!(more.map(drop), Err(DirectoryError::InUse("the import takes no more rows")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_gets_an_owner_meanwhile_gets_no_code_from_an_import() {
    let Nodes { tenant, nodes, database } = two_nodes().await;
    let owner = nodes[0].create_customer(tenant, "owner".to_owned(), None, at(0)).await.expect("a customer").id;
    let make = staged(&nodes[0], tenant, vec![vec![good(2, 0, "a"), good(3, 1, "a")]]).await;
    applying(&nodes[0], tenant, make).await.expect("no panic");
    let recode = |n| {
        let mut row = good(2 + n, n, "a");
        let code = NewCode { code: Secret::new(format!("NEXT{n:012}")), any_case: true, from: None, until: None };
        row.outcome.as_mut().expect("good").code = Some(code);
        row
    };
    let recode = staged(&nodes[0], tenant, vec![(0..2).map(recode).collect()]).await;
    // A claim that is not committed yet: the import has looked the device up before, and waits for it.
    let (mut claiming, watching) = (server().client(&database).await, server().client(&database).await);
    let claim = claiming.transaction().await.expect("a transaction");
    let sql = "UPDATE device SET owner = (SELECT id FROM customer), claimed_at = 3, code_digest = NULL, \
         code_any_case = NULL, code_set_at = NULL, code_sealed = NULL, generation = generation + 1, \
         version = version + 1 WHERE home_listing = 'pump-0'";
    assert_eq!(claim.execute(sql, &[]).await.expect("claimed"), 1);
    let work = applying(&nodes[0], tenant, recode);
    let waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while watching.query(waits, &[]).await.expect("an answer").is_empty() {
        assert!(!work.is_finished(), "it waits for the claim");
        tokio::task::yield_now().await;
    }
    claim.commit().await.expect("committed");
    work.await.expect("no panic");
    let claimed = nodes[0].at_home(tenant, home(0)).await.expect("there");
    assert_eq!((claimed.owner, claimed.code), (Some(owner), None));
    let job = nodes[0].import_job(tenant, recode).await.expect("the job");
    assert_eq!((job.state, job.applied.updated, job.applied.failed), (ImportState::Done, 1, 1));
    let rows = nodes[0].import_rows(tenant, recode, 0, 10, true).await.expect("rows");
    let faults: Vec<_> = rows.iter().map(|row| (row.row, row.errors[0].code.as_ref())).collect();
    assert_eq!(faults, [(2, "device_claimed")]);
}
