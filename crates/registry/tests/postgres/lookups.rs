//! What one node changes, the look-up cache of another forgets. Entries live for an hour here and a wait ends after a minute,
//! so that age is never what does it.

use std::sync::Arc;
use std::time::Duration;

use claim::applications::{ApplicationChange, Applications, By, DeviceChange, Place};
use claim::directory::{ClaimSettingsChange, CredentialDraft, DeviceDraft, Directory};
use claim::ports::{Assignment, DeviceRegistry, Outbox, Release, ReleaseOwner};
use claim::{CustomerId, Device, DeviceId, DeviceName, ListingId, MasterKey, Secret, TenantId, Timestamp, UserId};
use registry::{PostgresConfig, PostgresRegistry};
use testkit::postgres::Stop;
use testkit::wait::until;
use testkit::{at, origin};
use tokio_postgres::Client;

use crate::devices::assign;
use crate::server::{Server, server};

async fn node(server: &Server, database: &str, user: &str, connections: usize) -> Arc<PostgresRegistry> {
    let url = server.url(database).replace("user=claimd", &format!("user={user}"));
    let config =
        PostgresConfig { lookup_age: Duration::from_secs(3600), connections, ..PostgresConfig::new(Secret::new(url)) };
    let master = MasterKey::from_bytes(&[1; 32]);
    PostgresRegistry::open(&config, &master, None, Duration::from_secs(30)).await.expect("a registry")
}

/// Two nodes, one of which changes what the other has looked up; and a client that does the same unseen.
struct Pair {
    here: Arc<PostgresRegistry>,
    there: Arc<PostgresRegistry>,
    client: Client,
    tenant: TenantId,
    owner: CustomerId,
}

fn by(now: Timestamp) -> By {
    By { account: UserId::from_bytes([9; 16]), now }
}

impl Pair {
    async fn of(server: &Server) -> Self {
        let database = server.database().await;
        let here = node(server, &database, "claimd", 16).await;
        let there = node(server, &database, "claimd", 16).await;
        Self::with(server, &database, here, there).await
    }

    async fn with(server: &Server, database: &str, here: Arc<PostgresRegistry>, there: Arc<PostgresRegistry>) -> Self {
        let tenant = here.create_tenant("maker".to_owned(), at(0)).await.expect("a tenant").id;
        let owner = here.create_customer(tenant, "owner".to_owned(), None, at(0)).await.expect("a customer").id;
        Self { here, there, client: server.client(database).await, tenant, owner }
    }

    async fn make(&self, name: &str, token: &str, gateway: bool) -> DeviceId {
        let draft = DeviceDraft {
            id: None,
            name: DeviceName::parse(name).expect("a name"),
            profile: None,
            profile_name: None,
            label: None,
            gateway,
            additional_info: None,
            credential: Some(access_token(token)),
        };
        self.here.save_device(self.tenant, draft, by(at(0))).await.expect("a device").0.id
    }

    /// What the other node has for a token, from its cache if it is there.
    async fn seen(&self, token: &str) -> Option<Arc<Device>> {
        let digest = self.there.keyring().access_token(token);
        self.there.find_credential(digest).await.expect("an answer").map(|holder| holder.device)
    }

    async fn sees(&self, what: &str, token: &str, fits: impl Fn(Option<&Device>) -> bool) {
        until(what, || async { fits(self.seen(token).await.as_deref()).then_some(()) }).await;
    }

    /// One device through everything that may happen to it here; the other node has looked at it before each.
    async fn round(&self, name: &str, gateway: DeviceId, now: Timestamp) -> usize {
        let token = |n: u8| format!("{name} {n} {}", now.as_millis());
        assert!(self.seen(&token(1)).await.is_none(), "not yet");
        let device = self.make(name, &token(1), false).await;
        self.sees("a new credential", &token(1), |seen| seen.is_some()).await;
        let (rotated, draft) = (token(2), access_token(&token(2)));
        assert!(self.seen(&rotated).await.is_none());
        self.here.set_credential(self.tenant, device, draft, now).await.expect("rotated");
        self.sees("the old token is over", &token(1), |seen| seen.is_none()).await;
        self.sees("the new token", &rotated, |seen| seen.is_some()).await;

        let change = ClaimSettingsChange { claiming_allowed: Some(Some(true)), claiming_data: None };
        self.here.change_claim_settings(self.tenant, device, change, by(now)).await.expect("allowed");
        self.sees("what the maker allows", &rotated, |seen| seen.is_some_and(|device| device.claiming_allowed)).await;
        let home = self.here.listed_device(self.tenant, device).await.expect("listed");
        let place = Place { application: home.home.application.clone(), device: home.home.device.clone() };
        for frozen in [true, false] {
            let change = DeviceChange { frozen: Some(frozen), ..DeviceChange::default() };
            self.here.change_device(self.tenant, place.clone(), change, by(now)).await.expect("changed");
            self.sees("a pause", &rotated, |seen| seen.is_some_and(|device| device.frozen == frozen)).await;
        }

        let claimed = assign(&self.here, (self.tenant, device, self.owner), None, now).await;
        assert!(matches!(claimed, Ok(Assignment::Assigned { .. })), "{claimed:?}");
        self.sees("an owner", &rotated, |seen| seen.is_some_and(|device| device.owner == Some(self.owner))).await;
        let origin = origin(None);
        let release = ReleaseOwner {
            tenant: self.tenant,
            device,
            holder: Some(self.owner),
            account: UserId::from_bytes([9; 16]),
            allow_again: false,
            now,
            origin: &origin,
        };
        assert!(matches!(self.here.release_owner(release).await, Ok(Release::Released { .. })));
        self.sees("no owner", &rotated, |seen| seen.is_some_and(|device| device.owner.is_none())).await;

        assert!(self.there.gateways_of(device).await.expect("an answer").is_empty());
        self.here.relate(self.tenant, gateway, device, now).await.expect("related");
        let related = || async {
            let gateways = self.there.gateways_of(device).await.expect("an answer");
            (gateways.as_ref() == [gateway]).then_some(())
        };
        until("a relation", related).await;
        self.here.delete_device(self.tenant, device, by(now)).await.expect("deleted");
        self.sees("the device is gone", &rotated, |seen| seen.is_none()).await;
        until("it is gone by its id too", || async {
            self.there.device(device).await.expect("an answer").is_none().then_some(())
        })
        .await;
        11
    }
}

fn access_token(token: &str) -> CredentialDraft {
    CredentialDraft::AccessToken(Secret::new(token.to_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_one_node_changes_another_forgets_at_once() {
    const DEVICES: usize = 16;
    const ROUNDS: i64 = 12;
    let pair = Arc::new(Pair::of(server()).await);
    let gateway = pair.make("gateway", "the gateway's", true).await;
    let mut devices = tokio::task::JoinSet::new();
    for n in 0..DEVICES {
        let pair = Arc::clone(&pair);
        devices.spawn(async move {
            let mut changes = 0;
            for round in 1..=ROUNDS {
                changes += pair.round(&format!("device {n}"), gateway, at(round)).await;
            }
            changes
        });
    }
    let mut changes = 0;
    while let Some(device) = devices.join_next().await {
        changes += device.expect("no panic");
    }
    assert!(changes > 2_000, "{changes}");
    // What is for all devices of an application.
    pair.make("one of many", "many", false).await;
    for authorized in [false, true] {
        pair.sees("before", "many", |seen| seen.is_some_and(|device| device.authorized != authorized)).await;
        let change = ApplicationChange { claiming_authorized: Some(authorized), ..ApplicationChange::default() };
        let default = ListingId::parse("default").expect("an id");
        pair.here.change_application(pair.tenant, default, change, by(at(1))).await.expect("changed");
        pair.sees("after", "many", |seen| seen.is_some_and(|device| device.authorized == authorized)).await;
    }
}

/// It listens no more, and finds by itself what it is not told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_not_told_of_a_change_looks_for_it() {
    let pair = Pair::of(server()).await;
    let device = pair.make("d", "token 0", false).await;
    for n in 0..3 {
        let (old, new) = (format!("token {n}"), format!("token {}", n + 1));
        pair.sees("the present one", &old, |seen| seen.is_some()).await;
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
             AND query LIKE 'LISTEN%'";
        pair.client.query(cut, &[]).await.expect("cut");
        pair.here.set_credential(pair.tenant, device, access_token(&new), at(n)).await.expect("rotated");
        pair.sees("it is over", &old, |seen| seen.is_none()).await;
    }
}

/// As where PgBouncer or another engine is in between: the account has no connection left to listen on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_may_not_listen_serves_and_hears_of_changes() {
    let database = server().database().await;
    let here = node(server(), &database, "claimd", 16).await;
    let admin = server().client(&database).await;
    let sql = format!(
        "CREATE ROLE deaf_{database} LOGIN CONNECTION LIMIT 1; GRANT ALL ON SCHEMA public TO deaf_{database}; \
         GRANT ALL ON ALL TABLES IN SCHEMA public TO deaf_{database}; \
         GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO deaf_{database}"
    );
    admin.batch_execute(&sql).await.expect("a role");
    let deaf = node(server(), &database, &format!("deaf_{database}"), 1).await;
    let pair = Pair::with(server(), &database, here, deaf).await;
    let device = pair.make("d", "old", false).await;
    assert!(pair.seen("old").await.is_some());
    let listening = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    until("only one listens", || async {
        (pair.client.query_one(listening, &[]).await.expect("an answer").get::<_, i64>(0) == 1).then_some(())
    })
    .await;
    pair.here.set_credential(pair.tenant, device, access_token("new"), at(1)).await.expect("rotated");
    pair.sees("it is over", "old", |seen| seen.is_none()).await;
    pair.there.set_credential(pair.tenant, device, access_token("newest"), at(2)).await.expect("it writes too");
}

/// Its order is not promised before the oldest transaction of the server ends; forgetting waits for nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgetting_does_not_wait_for_the_oldest_transaction() {
    let server = Server::start();
    let pair = Pair::of(&server).await;
    let device = pair.make("d", "old", false).await;
    let since = pair.there.head().await.expect("an answer");
    pair.sees("the present one", "old", |seen| seen.is_some()).await;
    pair.client.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.expect("begun");
    pair.here.set_credential(pair.tenant, device, access_token("new"), at(1)).await.expect("rotated");
    pair.sees("it is over", "old", |seen| seen.is_none()).await;
    assert_eq!(pair.there.tail(since, 10).await.expect("an answer"), [], "its event waits");
    pair.client.batch_execute("COMMIT").await.expect("over");
    let events = until("the event", || async {
        let events = pair.there.tail(since, 10).await.expect("an answer");
        (!events.is_empty()).then_some(events)
    });
    assert_eq!(events.await[0].device, device);
}

/// Another server, or the same one restored, may have what no row here tells of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_restart_of_the_server_everything_is_looked_up_again() {
    let server = Server::start();
    let pair = Pair::of(&server).await;
    let device = pair.make("d", "old", false).await;
    // When it has heard of the second it has heard of the first.
    assert!(pair.seen("later").await.is_none());
    pair.make("e", "later", false).await;
    pair.sees("the second", "later", |seen| seen.is_some()).await;
    pair.sees("the present one", "old", |seen| seen.is_some()).await;
    let unseen = "UPDATE device SET frozen = TRUE WHERE id = $1";
    pair.client.execute(unseen, &[&device.uuid()]).await.expect("changed");
    assert!(!pair.seen("old").await.expect("cached").frozen, "nobody has told it");
    tokio::task::block_in_place(|| {
        server.stop(Stop::Immediate);
        server.start_again();
    });
    pair.sees("what is there now", "old", |seen| seen.is_some_and(|device| device.frozen)).await;
}
