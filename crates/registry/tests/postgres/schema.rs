//! Making, sharing and refusing a schema.

use std::time::Duration;

use testkit::wait::until;

use crate::server::server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_at_once_make_one_schema_and_one_keyring() {
    let database = server().database().await;
    let nodes: Vec<_> = (0..4)
        .map(|_| {
            let database = database.clone();
            tokio::spawn(async move { server().open(&database).await })
        })
        .collect();
    let mut keyrings = Vec::new();
    for node in nodes {
        keyrings.push(node.await.expect("no panic").keyring().access_token("a token"));
    }
    assert!(keyrings.windows(2).all(|pair| pair[0] == pair[1]));
    assert!(server().open_under(&database, 2, None).await.is_err(), "another master key");
    assert!(server().open_under(&database, 2, Some(1)).await.is_ok_and(|registry| !registry.handed_over()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_waits_for_a_migration_longer_than_for_an_answer() {
    const PATIENCE: Duration = Duration::from_secs(1);
    let database = server().database().await;
    drop(server().open(&database).await);
    let mut other = server().client(&database).await;
    let migrating = other.transaction().await.expect("begun");
    migrating.execute("UPDATE schema_version SET version = version", &[]).await.expect("locked");
    let starting = {
        let database = database.clone();
        tokio::spawn(async move { server().open_with(&database, 1, None, PATIENCE).await })
    };
    let watcher = server().client(&database).await;
    until("the start has waited for longer", || async {
        let sql = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' \
                   AND now() - query_start > interval '2 seconds'";
        watcher.query_opt(sql, &[]).await.expect("an answer").map(drop)
    })
    .await;
    migrating.commit().await.expect("migrated");
    assert!(starting.await.expect("no panic").is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_schema_stops_an_older_binary() {
    let database = server().database().await;
    drop(server().open(&database).await);
    let client = server().client(&database).await;
    client.batch_execute("UPDATE schema_version SET version = version + 1").await.expect("written");
    let error = server().open_under(&database, 1, None).await.map(drop).expect_err("a newer schema");
    assert!(error.to_string().contains("schema") && error.next.contains("newer"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_forgets_commits_is_refused() {
    let database = server().database().await;
    let sql = format!("ALTER DATABASE {database} SET synchronous_commit = off");
    server().client("postgres").await.batch_execute(&sql).await.expect("set");
    let error = server().open_under(&database, 1, None).await.map(drop).expect_err("refused");
    assert!(error.to_string().contains("synchronous_commit"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_log_cannot_be_changed() {
    let database = server().database().await;
    drop(server().open(&database).await);
    let client = server().client(&database).await;
    client
        .batch_execute(
            "INSERT INTO audit (at, tenant, actor_kind, actor, action, outcome, reason, evidence, count, charged, origin, \
             request_id) VALUES (1, gen_random_uuid(), 'account', gen_random_uuid(), 'confirm', 'refused', '', 'none', 1, \
             FALSE, '', 0); INSERT INTO audit_chain (seq, tenant, hash) VALUES (1, gen_random_uuid(), '')",
        )
        .await
        .expect("written");
    for sql in [
        "UPDATE audit SET outcome = 'claimed'",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "UPDATE audit_chain SET hash = 'x'",
        "DELETE FROM audit_chain",
        "TRUNCATE audit_chain",
    ] {
        let error = client.batch_execute(sql).await.expect_err(sql);
        assert!(error.as_db_error().is_some_and(|error| error.message().contains("append-only")), "{sql}: {error}");
    }
}
