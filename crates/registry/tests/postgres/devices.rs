//! `DeviceRegistry` and `Outbox`.

use std::sync::Arc;
use std::time::Duration;

use claim::event::{AuditAction, AuditActor, AuditNote, Evidence};
use claim::ports::{
    ALLOWED_SKEW, AssignOwner, Assignment, ClaimTarget, DeviceRegistry, Freshness, Outbox, PortFuture, WriteError,
};
use claim::{CustomerId, DeviceId, Keyring, ListingId, SecretDigest, TenantId, Timestamp, UserId};
use registry::PostgresRegistry;
use testkit::registry_battery::{self, Stage};
use testkit::wait::until;
use testkit::{at, origin, outbox_battery};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::server::{Server, server};

/// A registry, and a client that makes what the port itself cannot.
pub(crate) struct Postgres {
    pub(crate) registry: Arc<PostgresRegistry>,
    pub(crate) client: Client,
}

impl Postgres {
    pub(crate) async fn open(server: &Server) -> Self {
        Self::with_patience(server, &server.database().await, Duration::from_secs(30)).await
    }

    pub(crate) async fn with_patience(server: &Server, database: &str, patience: Duration) -> Self {
        // Made with more, since making a schema takes its time.
        drop(server.open(database).await);
        let registry = server.open_with(database, 1, None, patience).await.expect("a registry");
        let client = server.client(database).await;
        // What the tests put there by themselves need not survive a power loss.
        client.batch_execute("SET synchronous_commit = off").await.expect("set");
        Self { registry, client }
    }

    fn fresh(server: &Server) -> Self {
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(Self::open(server)))
    }

    async fn run(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) {
        self.client.execute(sql, values).await.expect(sql);
    }

    pub(crate) async fn assign(
        &self,
        tenant: TenantId,
        device: DeviceId,
        owner: CustomerId,
        now: Timestamp,
    ) -> Assignment {
        self.assign_to(tenant, device, owner, None, now).await
    }

    async fn assign_to(
        &self,
        tenant: TenantId,
        device: DeviceId,
        owner: CustomerId,
        target: Option<&ClaimTarget>,
        now: Timestamp,
    ) -> Assignment {
        self.try_assign(tenant, device, owner, target, now).await.expect("the store answers")
    }

    pub(crate) async fn try_assign(
        &self,
        tenant: TenantId,
        device: DeviceId,
        owner: CustomerId,
        target: Option<&ClaimTarget>,
        now: Timestamp,
    ) -> Result<Assignment, WriteError> {
        assign(&self.registry, (tenant, device, owner), target, now).await
    }
}

/// A confirm by an announcement received `now`, of an account of its own.
pub(crate) async fn assign(
    registry: &PostgresRegistry,
    (tenant, device, owner): (TenantId, DeviceId, CustomerId),
    target: Option<&ClaimTarget>,
    now: Timestamp,
) -> Result<Assignment, WriteError> {
    let origin = origin(None);
    let request = AssignOwner {
        tenant,
        device,
        owner,
        account: UserId::random(),
        proof: SecretDigest::from_bytes([1; 32]),
        freshness: Freshness::ReceivedAt(now),
        allow_by_default: true,
        invalidate_code: true,
        target,
        retry: None,
        now,
        origin: &origin,
    };
    registry.assign_owner(request).await
}

impl Stage for Postgres {
    fn registry(&self) -> Arc<dyn DeviceRegistry> {
        self.registry.clone()
    }

    fn ahead(&self) -> i64 {
        ALLOWED_SKEW.as_millis() as i64
    }

    fn keyring(&self) -> Arc<Keyring> {
        self.registry.keyring()
    }

    fn tenant(&self) -> PortFuture<'_, TenantId> {
        PortFuture::later(async {
            let tenant = TenantId::random();
            let title = format!("maker {}", tenant.uuid());
            self.run("INSERT INTO tenant (id, title, created_at) VALUES ($1, $2, 0)", &[&tenant.uuid(), &title]).await;
            let sql = "INSERT INTO profile (id, tenant, name, transport_type, mqtt_format, coap_format, created_at, \
                 is_default) VALUES ($2, $1, 'default', 'DEFAULT', 0, 0, 0, TRUE)";
            self.run(sql, &[&tenant.uuid(), &UserId::random().uuid()]).await;
            let sql = "INSERT INTO application (id, tenant, listing, claiming_authorized, created_at) \
                 VALUES ($2, $1, 'default', TRUE, 0)";
            self.run(sql, &[&tenant.uuid(), &UserId::random().uuid()]).await;
            tenant
        })
    }

    fn customer(&self, tenant: TenantId) -> PortFuture<'_, CustomerId> {
        PortFuture::later(async move {
            let customer = CustomerId::random();
            let sql = "INSERT INTO customer (id, tenant, title, created_at) VALUES ($1, $2, $3, 0)";
            self.run(sql, &[&customer.uuid(), &tenant.uuid(), &format!("customer {}", customer.uuid())]).await;
            customer
        })
    }

    fn device(&self, tenant: TenantId, name: String, token: String) -> PortFuture<'_, DeviceId> {
        PortFuture::later(async move {
            let device = DeviceId::random();
            let sql = "INSERT INTO device (id, tenant, name, profile, gateway, created_at, home_application, home_listing, \
                 application, listing) SELECT $1, $2, $3, p.id, FALSE, 0, a.id, $4, a.id, $4 \
                 FROM profile p JOIN application a ON a.tenant = p.tenant WHERE p.tenant = $2 AND a.listing = 'default'";
            let listing = format!("d-{}", device.uuid());
            self.run(sql, &[&device.uuid(), &tenant.uuid(), &name, &listing]).await;
            let digest = self.registry.keyring().access_token(&token);
            let sql = "INSERT INTO credential (id, device, kind, digest, created_at) VALUES ($1, $2, 0, $3, 0)";
            let id = UserId::random().uuid();
            self.run(sql, &[&id, &device.uuid(), &digest.as_bytes().as_slice()]).await;
            device
        })
    }
}

impl outbox_battery::Stage for Postgres {
    fn outbox(&self) -> Arc<dyn Outbox> {
        self.registry.clone()
    }

    fn happens(&self, now: Timestamp) -> PortFuture<'_, DeviceId> {
        PortFuture::later(async move {
            let tenant = self.tenant().await;
            let customer = self.customer(tenant).await;
            let device = self.device(tenant, "d".to_owned(), format!("token-{}", UserId::random().uuid())).await;
            assert!(matches!(self.assign(tenant, device, customer, now).await, Assignment::Assigned { .. }));
            device
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_keeps_the_contract() {
    registry_battery::all(&Postgres::open(server()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn eight_owners_and_a_thousand_devices_make_a_thousand_winners() {
    registry_battery::owners_race(&Postgres::open(server()).await, 8, 1_000).await;
}

/// On a server of its own: what is under way anywhere on a server holds its outboxes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract_of_the_outbox() {
    let server = Server::start();
    outbox_battery::all(|| Postgres::fresh(&server)).await;
}

/// Of two transactions that draw positions in one order and commit in the other, none is passed over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_commits_late_is_read_in_its_order() {
    let server = Server::start();
    let database = server.database().await;
    let registry = server.open(&database).await;
    let (early, late) = (server.client(&database).await, server.client(&database).await);
    let put = |name: &str| {
        format!(
            "INSERT INTO outbox (at, tenant, device, name, kind) VALUES (0, gen_random_uuid(), gen_random_uuid(), '{name}', \
             'unclaimed')"
        )
    };
    let tail = async |since| -> Vec<(i64, String)> {
        let events = registry.tail(since, 100).await.expect("an answer");
        events.into_iter().map(|event| (event.seq, event.name.as_str().to_owned())).collect()
    };
    let names = |events: &[(i64, String)]| events.iter().map(|(_, name)| name.clone()).collect::<Vec<_>>();
    // `early` has its id first, but draws the later position.
    early.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.expect("begun");
    late.batch_execute(&format!("BEGIN; {}", put("first position"))).await.expect("put");
    early.batch_execute(&format!("{}; COMMIT", put("second position"))).await.expect("committed");
    let seen = tail(0).await;
    assert_eq!(names(&seen), ["second position"], "nothing that is older can come any more");
    assert_eq!(registry.head().await, Ok(seen[0].0));
    late.batch_execute("COMMIT").await.expect("committed");
    let rest = tail(seen[0].0).await;
    assert_eq!(names(&rest), ["first position"]);
    assert!(rest[0].0 < seen[0].0, "the positions were drawn the other way round");
    assert_eq!(registry.head().await, Ok(rest[0].0));
    assert_eq!(tail(rest[0].0).await, []);
    // The row of the position is gone: what was there before does not come again.
    late.batch_execute(&put("third")).await.expect("put");
    registry.acknowledge(rest[0].0, at(1)).await.expect("an answer");
    assert_eq!(names(&tail(seen[0].0).await), ["third"]);
    // What waits for an older transaction is not read before it has ended.
    early.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.expect("begun");
    late.batch_execute(&put("fourth")).await.expect("put");
    let third = tail(rest[0].0).await[0].0;
    assert_eq!(tail(third).await, []);
    early.batch_execute("ROLLBACK").await.expect("rolled back");
    assert_eq!(names(&tail(third).await), ["fourth"]);
}

/// Transactions' ids begin anew there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_go_on_after_a_restore_on_another_server() {
    let server = Server::start();
    let database = server.database().await;
    drop(server.open(&database).await);
    let client = server.client(&database).await;
    let sql = "INSERT INTO outbox (xid, at, tenant, device, name, kind) \
         VALUES ('99999999', 0, gen_random_uuid(), gen_random_uuid(), 'restored', 'unclaimed')";
    client.batch_execute(sql).await.expect("put");
    let registry = server.open(&database).await;
    let head = registry.head().await.expect("an answer");
    assert!(head > 0);
    client.batch_execute(&sql.replace("xid, ", "").replace("'99999999', ", "")).await.expect("put");
    assert_eq!(registry.tail(head, 10).await.expect("an answer").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_of_one_node_wakes_the_others() {
    let database = server().database().await;
    let stage = Postgres::with_patience(server(), &database, Duration::from_secs(30)).await;
    let other = server().open(&database).await;
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    let listening = async || stage.client.query_one(sql, &[]).await.expect("an answer").get::<_, i64>(0);
    until("both listen", || async { (listening().await == 2).then_some(()) }).await;
    let wake = other.wake();
    outbox_battery::Stage::happens(&stage, at(1)).await;
    tokio::time::timeout(Duration::from_secs(60), wake).await.expect("woken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_of_another_node_is_known_when_asked_for_now_and_when_its_event_was_read() {
    let database = server().database().await;
    let stage = Postgres::with_patience(server(), &database, Duration::from_secs(30)).await;
    let other = server().open(&database).await;
    let tenant = stage.tenant().await;
    let customer = stage.customer(tenant).await;
    let (asked, told) = (
        stage.device(tenant, "asked for".to_owned(), "t1".to_owned()).await,
        stage.device(tenant, "told of".to_owned(), "t2".to_owned()).await,
    );
    let owner = async |device| other.device(device).await.expect("an answer").expect("a device").owner;
    for device in [asked, told] {
        assert_eq!(owner(device).await, None, "and from now on this is at hand");
        assert!(matches!(stage.assign(tenant, device, customer, at(1)).await, Assignment::Assigned { .. }));
    }
    let now = other.device_now(asked).await.expect("an answer").expect("a device");
    assert_eq!((now.owner, owner(asked).await), (Some(customer), Some(customer)));
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !other.tail(0, 1000).await.expect("events").iter().any(|event| event.device == told) {
        assert!(std::time::Instant::now() < deadline, "the event does not come");
        tokio::task::yield_now().await;
    }
    assert_eq!(owner(told).await, Some(customer));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_leaves_its_audit_row_and_its_event_or_nothing() {
    let stage = Postgres::open(server()).await;
    let tenant = stage.tenant().await;
    let (alice, bob) = (stage.customer(tenant).await, stage.customer(tenant).await);
    let device = stage.device(tenant, "d".to_owned(), "t".to_owned()).await;
    let rows = async || -> (i64, i64) {
        let sql =
            "SELECT (SELECT count(*) FROM audit WHERE device = $1), (SELECT count(*) FROM outbox WHERE device = $1)";
        let row = stage.client.query_one(sql, &[&device.uuid()]).await.expect("counted");
        (row.get(0), row.get(1))
    };
    assert!(matches!(stage.assign(tenant, device, alice, at(5)).await, Assignment::Assigned { .. }));
    assert_eq!(rows().await, (1, 1));
    assert!(matches!(stage.assign(tenant, device, bob, at(6)).await, Assignment::Owned { .. }));
    assert_eq!(rows().await, (1, 1));
}

/// Each reads whether its place is free before it writes, so they are in each other's way.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn claims_into_applications_at_once_all_come_through() {
    let stage = Arc::new(Postgres::open(server()).await);
    let tenant = stage.tenant().await;
    let mut wanted = Vec::new();
    for n in 0..64 {
        let device = stage.device(tenant, format!("d{n}"), format!("t{n}")).await;
        let owner = stage.customer(tenant).await;
        let listing = format!("home-{n}");
        let sql = "INSERT INTO application (id, tenant, listing, customer, claiming_authorized, created_at) \
             VALUES ($1, $2, $3, $4, TRUE, 0)";
        stage.run(sql, &[&UserId::random().uuid(), &tenant.uuid(), &listing, &owner.uuid()]).await;
        let target = ClaimTarget { application: ListingId::parse(&listing).expect("an id"), device: None };
        wanted.push((device, owner, target));
    }
    let mut claims = tokio::task::JoinSet::new();
    for (device, owner, target) in wanted {
        let stage = Arc::clone(&stage);
        claims.spawn(async move { stage.assign_to(tenant, device, owner, Some(&target), at(1)).await });
    }
    for claim in claims.join_all().await {
        assert!(matches!(claim, Assignment::Assigned { .. }), "{claim:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notes_are_written_without_waiting_and_sums_at_the_end() {
    let stage = Postgres::open(server()).await;
    let note = AuditNote {
        at: at(0),
        tenant: stage.tenant().await,
        actor: AuditActor::Account(UserId::random()),
        action: AuditAction::Confirm,
        device: None,
        attempt_key: None,
        outcome: "refused",
        reason: "wrong_secret",
        evidence: Evidence::None,
        charged: false,
        transport: None,
        request_id: 1,
    };
    let written = async || -> Vec<i64> {
        let rows = stage.client.query("SELECT count FROM audit ORDER BY seq", &[]).await.expect("rows");
        rows.iter().map(|row| row.get(0)).collect()
    };
    stage.registry.note_charged(AuditNote { charged: true, ..note.clone() }).await.expect("on record");
    assert_eq!(written().await, [1], "when it is answered");
    (0..15).for_each(|_| stage.registry.note(note.clone()));
    stage.registry.close().await;
    assert_eq!(written().await, [vec![1; 11], vec![5]].concat());
}
