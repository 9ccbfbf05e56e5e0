//! The audit log of several nodes: positions that are committed in another order than they were drawn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use claim::TenantId;
use claim::audit::{AuditFilter, AuditLog, Break, ChainCheck};
use registry::PostgresRegistry;
use testkit::audit_battery;
use testkit::wait::until;
use tokio_postgres::Client;

use crate::server::{Server, server};

/// A row of a tenant, within whatever transaction the client is in; its position.
async fn happens(client: &Client, tenant: TenantId) -> i64 {
    let sql = "INSERT INTO audit (at, tenant, actor_kind, actor, action, outcome, reason, evidence, count, charged, origin, \
         request_id) VALUES (1, $1, 'account', gen_random_uuid(), 'confirm', 'refused', '', 'none', 1, FALSE, 'api', 0) \
         RETURNING seq";
    client.query_one(sql, &[&tenant.uuid()]).await.expect("written").get(0)
}

async fn positions(log: &PostgresRegistry, tenant: TenantId, since: i64) -> Vec<i64> {
    let rows = log.rows(tenant, AuditFilter::after(since), 100_000).await.expect("rows");
    rows.iter().map(|row| row.seq).collect()
}

/// How many rows are sealed, in a chain that must be whole.
async fn whole(log: &PostgresRegistry, tenant: TenantId) -> u64 {
    let stretch = log.stretch(tenant, 0, 100_000).await.expect("a stretch");
    assert_eq!(stretch.gone, None);
    let mut check = ChainCheck::from_start();
    stretch.rows.iter().for_each(|row| check.row(row).expect("a whole chain"));
    check.sealed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract_of_the_audit_log() {
    // Of its own: a transaction of any database of a server holds sealing up.
    let server = Server::start();
    audit_battery::all(|| server.fresh()).await;
}

/// Whoever reads on from the last position it saw has seen every row, and no chain has a hole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_commits_late_is_neither_passed_over_nor_chained_out_of_order() {
    let server = Server::start();
    let database = server.database().await;
    let log = server.open(&database).await;
    let (late, client) = (server.client(&database).await, server.client(&database).await);
    let tenant = TenantId::random();
    late.batch_execute("BEGIN").await.expect("begun");
    let first = happens(&late, tenant).await;
    let second = happens(&client, tenant).await;
    assert!(first < second);
    let reading = tokio::spawn({
        let log = log.clone();
        async move { positions(&log, tenant, 0).await }
    });
    assert_eq!(log.seal(10).await, Ok(0), "nothing while an earlier row may turn up");
    late.batch_execute("COMMIT").await.expect("committed");
    assert_eq!(reading.await.expect("no panic"), [first, second]);
    assert_eq!(log.seal(10).await, Ok(2));
    assert_eq!(whole(&log, tenant).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_does_not_end_hides_only_what_is_not_chained() {
    let server = Server::start();
    let database = server.database().await;
    let patience = Duration::from_secs(1);
    let log = server.open_for(&database, patience).await;
    let (late, client) = (server.client(&database).await, server.client(&database).await);
    let tenant = TenantId::random();
    let first = happens(&client, tenant).await;
    assert_eq!(log.seal(10).await, Ok(1));
    late.batch_execute("BEGIN").await.expect("begun");
    happens(&late, tenant).await;
    happens(&client, tenant).await;
    let began = Instant::now();
    assert_eq!(positions(&log, tenant, 0).await, [first]);
    assert!(began.elapsed() < patience * 3, "the wait is bounded");
    assert_eq!((log.seal(10).await, log.unsealed().await), (Ok(0), Ok(1)));
    late.batch_execute("ROLLBACK").await.expect("undone");
    assert_eq!(positions(&log, tenant, first).await.len(), 1, "a position that was never committed is a gap");
    assert_eq!(log.seal(10).await, Ok(1));
    assert_eq!(whole(&log, tenant).await, 2);
}

/// Writers whose transactions overlap, a sealer on each of three nodes, and somebody who reads on and on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_that_overlap_and_nodes_that_seal_at_once_make_one_whole_chain() {
    const WRITERS: usize = 6;
    const ROWS: usize = 60;
    let database = server().database().await;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(server().open(&database).await);
    }
    let tenant = TenantId::random();
    let (drawn, at_work) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(WRITERS)));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let client = server().client(&database).await;
        let (drawn, at_work) = (Arc::clone(&drawn), Arc::clone(&at_work));
        writers.spawn(async move {
            for n in 0..ROWS {
                client.batch_execute("BEGIN").await.expect("begun");
                happens(&client, tenant).await;
                let before = drawn.fetch_add(1, Ordering::Relaxed) + 1;
                if (n + writer) % 3 == 0 {
                    let others = || drawn.load(Ordering::Relaxed) > before || at_work.load(Ordering::Relaxed) == 1;
                    until("others draw positions in between", || async { others().then_some(()) }).await;
                }
                happens(&client, tenant).await;
                client.batch_execute(if n % 7 == 0 { "ROLLBACK" } else { "COMMIT" }).await.expect("over");
            }
            at_work.fetch_sub(1, Ordering::Relaxed);
        });
    }
    let (ended, end) = tokio::sync::watch::channel(false);
    let sealers: Vec<_> = nodes
        .iter()
        .map(|node| {
            let (node, end) = (Arc::clone(node), end.clone());
            tokio::spawn(async move {
                let mut sealed = 0;
                while !*end.borrow() || node.unsealed().await.expect("an answer") > 0 {
                    sealed += node.seal(25).await.expect("an answer");
                }
                sealed
            })
        })
        .collect();
    let reader = {
        let node = Arc::clone(&nodes[0]);
        tokio::spawn(async move {
            let mut seen: Vec<i64> = Vec::new();
            while !*end.borrow() {
                seen.extend(positions(&node, tenant, seen.last().copied().unwrap_or(0)).await);
            }
            seen.extend(positions(&node, tenant, seen.last().copied().unwrap_or(0)).await);
            seen
        })
    };
    while let Some(writer) = writers.join_next().await {
        writer.expect("no panic");
    }
    ended.send(true).expect("somebody listens");
    let mut sealed = 0;
    for sealer in sealers {
        sealed += sealer.await.expect("no panic");
    }
    let committed = (WRITERS * (ROWS - ROWS.div_ceil(7)) * 2) as u64;
    assert_eq!(u64::from(sealed), committed, "each row is chained by one");
    assert_eq!(whole(&nodes[1], tenant).await, committed);
    let seen = reader.await.expect("no panic");
    assert_eq!(seen, positions(&nodes[2], tenant, 0).await, "who reads on sees every row once");
    assert_eq!(seen.len() as u64, committed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_or_removed_row_is_found_at_exactly_that_row() {
    let database = server().database().await;
    let log = server().open(&database).await;
    let client = server().client(&database).await;
    client.batch_execute("ALTER TABLE audit DISABLE TRIGGER ALL").await.expect("a superuser");
    for (sql, what) in [
        ("UPDATE audit SET at = at + 1 WHERE seq = $1", Break::Changed),
        ("UPDATE audit SET reason = 'x' WHERE seq = $1", Break::Changed),
        ("UPDATE audit SET tenant = gen_random_uuid() WHERE seq = $1", Break::Gone),
        ("DELETE FROM audit WHERE seq = $1", Break::Gone),
    ] {
        let tenant = TenantId::random();
        let mut rows = Vec::new();
        for _ in 0..5 {
            rows.push(happens(&client, tenant).await);
        }
        while log.unsealed().await.expect("an answer") > 0 {
            log.seal(10).await.expect("an answer");
        }
        assert_eq!(whole(&log, tenant).await, 5);
        assert_eq!(client.execute(sql, &[&rows[2]]).await.expect(sql), 1);
        let stretch = log.stretch(tenant, 0, 100).await.expect("a stretch");
        let mut check = ChainCheck::from_start();
        let broken = stretch.rows.iter().find_map(|row| check.row(row).err());
        let found = match stretch.gone {
            Some(seq) => (seq, Break::Gone),
            None => broken.map(|broken| (broken.seq.expect("a position"), broken.what)).expect(sql),
        };
        assert_eq!(found, (rows[2], what), "{sql}");
    }
}
