//! What a server does to its clients: cut connections, commits that nobody hears of, no room.

use std::sync::Arc;
use std::time::Duration;

use claim::ports::{Assignment, DeviceRegistry, WriteError};
use claim::{CustomerId, DeviceId, MasterKey, Secret, TenantId};
use registry::{PostgresConfig, PostgresRegistry};
use testkit::at;
use testkit::registry_battery::Stage;
use testkit::wait::until;

use crate::devices::Postgres;
use crate::server::{Server, server};

/// Waits until a backend of the database waits for something of this kind.
async fn waits(stage: &Postgres, kind: &str) {
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND \
         application_name = 'claimd' AND (wait_event_type = $1 OR wait_event = $1) AND state = 'active')";
    let waiting = || async {
        // The client may be inside a transaction, which would see the same again and again.
        stage.client.query("SELECT pg_stat_clear_snapshot()", &[]).await.expect("cleared");
        let waits: bool = stage.client.query_one(sql, &[&kind]).await.expect("an answer").get(0);
        waits.then_some(())
    };
    until(&format!("somebody waits for {kind}"), waiting).await;
}

async fn cut(stage: &Postgres) {
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND \
         application_name = 'claimd'";
    stage.client.query(sql, &[]).await.expect("cut");
}

async fn things(stage: &Postgres) -> (TenantId, DeviceId, CustomerId) {
    let tenant = stage.tenant().await;
    (tenant, stage.device(tenant, "d".to_owned(), "t".to_owned()).await, stage.customer(tenant).await)
}

/// The commit waits for a standby that never comes, and the connection is cut: committed, and the caller is told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_nobody_heard_of_is_settled_by_the_row() {
    let server = Server::start();
    let stage = Arc::new(Postgres::open(&server).await);
    let (tenant, device, owner) = things(&stage).await;
    let admin = server.client("postgres").await;
    admin.batch_execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await.expect("set");
    admin.batch_execute("SELECT pg_reload_conf()").await.expect("read");
    let claiming = Arc::clone(&stage);
    let claim = tokio::spawn(async move { claiming.try_assign(tenant, device, owner, None, at(5)).await });
    waits(&stage, "SyncRep").await;
    cut(&stage).await;
    let claimed = claim.await.expect("no panic");
    assert_eq!(claimed, Ok(Assignment::Assigned { claimed_at: at(5), generation: 1 }));
    let standing = stage.registry.device(device).await.expect("an answer").expect("the device");
    assert_eq!(standing.owner, Some(owner));
}

/// It may be that its last word was lost: never "refused".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_confirm_that_was_cut_off_is_unknown_and_a_retry_settles_it() {
    let stage = Arc::new(Postgres::open(server()).await);
    let (tenant, device, owner) = things(&stage).await;
    let lock = format!("BEGIN; SELECT 1 FROM device WHERE id = '{}' FOR UPDATE", device.uuid());
    stage.client.batch_execute(&lock).await.expect("locked");
    let claiming = Arc::clone(&stage);
    let claim = tokio::spawn(async move { claiming.try_assign(tenant, device, owner, None, at(5)).await });
    waits(&stage, "Lock").await;
    cut(&stage).await;
    assert_eq!(claim.await.expect("no panic"), Err(WriteError::OutcomeUnknown));
    stage.client.batch_execute("COMMIT").await.expect("unlocked");
    assert_eq!(
        stage.assign(tenant, device, owner, at(5)).await,
        Assignment::Assigned { claimed_at: at(5), generation: 1 }
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_were_cut_are_replaced() {
    let stage = Postgres::open(server()).await;
    let (tenant, device, owner) = things(&stage).await;
    for round in 0..3 {
        cut(&stage).await;
        let found = stage.registry.find_credential(stage.registry.keyring().access_token(&format!("no {round}"))).await;
        assert!(found.expect("an answer").is_none());
    }
    assert!(matches!(stage.assign(tenant, device, owner, at(5)).await, Assignment::Assigned { .. }));
}

/// One round trip, but not before the row is free; and no longer than the caller has patience.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_are_bounded() {
    let database = server().database().await;
    let stage = Postgres::with_patience(server(), &database, Duration::from_millis(700)).await;
    let (tenant, device, owner) = things(&stage).await;
    let lock = format!("BEGIN; SELECT 1 FROM device WHERE id = '{}' FOR UPDATE", device.uuid());
    stage.client.batch_execute(&lock).await.expect("locked");
    let claim = tokio::time::timeout(Duration::from_secs(20), stage.try_assign(tenant, device, owner, None, at(5)));
    assert!(claim.await.expect("bounded").is_err());
    stage.client.batch_execute("ROLLBACK").await.expect("unlocked");
    // Unless the server had not given up yet: then it was the first.
    let claimed = stage.assign(tenant, device, owner, at(5)).await;
    assert!(matches!(claimed, Assignment::Assigned { .. } | Assignment::Owned { .. }), "{claimed:?}");
    let standing = stage.registry.device(device).await.expect("an answer").expect("the device");
    assert_eq!(standing.owner, Some(owner));
}

/// What the server says of a transaction that was in another's way, as many times as there are, then nothing.
async fn in_the_way(stage: &Postgres, code: &str, times: u32) {
    let sql = format!(
        "CREATE SEQUENCE tries; CREATE FUNCTION in_the_way() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF nextval('tries') <= {times} THEN RAISE EXCEPTION 'in the way' USING ERRCODE = '{code}'; END IF; RETURN NEW; \
         END $$; CREATE TRIGGER in_the_way BEFORE UPDATE ON device FOR EACH ROW EXECUTE FUNCTION in_the_way()"
    );
    stage.client.batch_execute(&sql).await.expect("made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_in_another_s_way_is_run_again_five_times_and_no_more() {
    for code in ["40001", "40P01"] {
        let stage = Postgres::open(server()).await;
        let (tenant, device, owner) = things(&stage).await;
        in_the_way(&stage, code, 5).await;
        let claimed = stage.try_assign(tenant, device, owner, None, at(5)).await;
        assert!(matches!(claimed, Ok(Assignment::Assigned { .. })), "{code}: {claimed:?}");

        let stage = Postgres::open(server()).await;
        let (tenant, device, owner) = things(&stage).await;
        in_the_way(&stage, code, 1_000).await;
        assert_eq!(stage.try_assign(tenant, device, owner, None, at(5)).await, Err(WriteError::Unavailable), "{code}");
        let tries: i64 = stage.client.query_one("SELECT last_value FROM tries", &[]).await.expect("a row").get(0);
        assert_eq!(tries, 6, "{code}");
    }
}

/// It takes the connection and says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_never_answers_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("its address").port();
    let config = PostgresConfig::new(Secret::new(format!("postgresql://claimd:hunter2@127.0.0.1:{port}/claimd")));
    let master = MasterKey::from_bytes(&[1; 32]);
    let opening = PostgresRegistry::open(&config, &master, None, Duration::from_millis(300));
    let opened = tokio::time::timeout(testkit::wait::PATIENCE, opening).await.expect("bounded");
    let said = opened.err().expect("no registry").to_string();
    assert!(said.contains("127.0.0.1/claimd") && !said.contains("hunter2"), "{said}");
}
