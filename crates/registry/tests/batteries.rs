//! The contract batteries of the registry's ports, run against SQLite, and that of `DeviceRegistry` against the fake that
//! serves as a model elsewhere; and what only a file can show.

use std::sync::Arc;
use std::time::Duration;

use claim::directory::{CredentialDraft, DeviceDraft, Directory};
use claim::event::{AuditAction, AuditActor, AuditNote, Evidence};
use claim::ports::{DeviceRegistry, Outbox, PortFuture};
use claim::{CustomerId, DeviceId, DeviceName, Keyring, Secret, TenantId, Timestamp, UserId};
use registry::{Config, SqliteRegistry};
use testkit::registry_battery::{self, Stage};
use testkit::{
    FakeRegistry, applications_battery, at, directory_battery, gateways_battery, keyring, outbox_battery, roles_battery,
};

struct Sqlite {
    folder: tempfile::TempDir,
    registry: Arc<SqliteRegistry>,
}

impl Sqlite {
    fn open() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let registry = open(&folder);
        Self { folder, registry }
    }
}

fn open(folder: &tempfile::TempDir) -> Arc<SqliteRegistry> {
    SqliteRegistry::open(&Config::default(), folder.path(), keyring(), Duration::from_secs(30)).expect("a registry")
}

impl Stage for Sqlite {
    fn registry(&self) -> Arc<dyn DeviceRegistry> {
        self.registry.clone()
    }

    fn keyring(&self) -> Arc<Keyring> {
        keyring()
    }

    fn tenant(&self) -> PortFuture<'_, TenantId> {
        PortFuture::later(async {
            self.registry
                .create_tenant(format!("maker {}", CustomerId::random().uuid()), at(0))
                .await
                .expect("a tenant")
                .id
        })
    }

    fn customer(&self, tenant: TenantId) -> PortFuture<'_, CustomerId> {
        PortFuture::later(async move {
            let title = format!("customer {}", CustomerId::random().uuid());
            self.registry.create_customer(tenant, title, None, at(0)).await.expect("a customer").id
        })
    }

    fn device(&self, tenant: TenantId, name: String, token: String) -> PortFuture<'_, DeviceId> {
        PortFuture::later(async move {
            let draft = DeviceDraft {
                id: None,
                name: DeviceName::parse(&name).expect("a name"),
                profile: None,
                profile_name: None,
                label: None,
                gateway: false,
                additional_info: None,
                credential: Some(CredentialDraft::AccessToken(Secret::new(token))),
            };
            self.registry.save_device(tenant, draft, at(0)).await.expect("a device").0.id
        })
    }
}

impl outbox_battery::Stage for Sqlite {
    fn outbox(&self) -> Arc<dyn Outbox> {
        self.registry.clone()
    }

    /// A new owner is an event; a new device is none.
    fn happens(&self, now: Timestamp) -> PortFuture<'_, DeviceId> {
        PortFuture::later(async move {
            let tenant = self.tenant().await;
            let customer = self.customer(tenant).await;
            let device = self.device(tenant, "d".to_owned(), format!("token-{}", UserId::random().uuid())).await;
            let assigned = self.registry.assign_by_admin(tenant, device, customer, UserId::random(), now).await;
            assigned.expect("assigned").id
        })
    }
}

struct Fake(Arc<FakeRegistry>);

impl Stage for Fake {
    fn registry(&self) -> Arc<dyn DeviceRegistry> {
        self.0.clone()
    }

    fn keyring(&self) -> Arc<Keyring> {
        keyring()
    }

    fn tenant(&self) -> PortFuture<'_, TenantId> {
        PortFuture::ready(self.0.add_tenant())
    }

    fn customer(&self, _: TenantId) -> PortFuture<'_, CustomerId> {
        PortFuture::ready(CustomerId::random())
    }

    fn device(&self, tenant: TenantId, name: String, token: String) -> PortFuture<'_, DeviceId> {
        PortFuture::ready(self.0.add_device_with_token(tenant, &name, &token))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_keeps_the_contract() {
    registry_battery::all(&Sqlite::open()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract_of_the_directory() {
    let installs = Installs::default();
    directory_battery::all(|| installs.next()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract_of_applications() {
    let installs = Installs::default();
    applications_battery::all(&keyring(), || installs.next()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract_of_roles() {
    let installs = Installs::default();
    roles_battery::all(|| installs.next()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract_of_gateways() {
    let installs = Installs::default();
    gateways_battery::all(|| installs.next()).await;
}

/// Empty registries; their folders live as long as this.
#[derive(Default)]
struct Installs(std::sync::Mutex<Vec<tempfile::TempDir>>);

impl Installs {
    fn next(&self) -> Arc<SqliteRegistry> {
        let Sqlite { folder, registry } = Sqlite::open();
        self.0.lock().expect("one thread").push(folder);
        registry
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract_of_the_outbox() {
    outbox_battery::all(Sqlite::open).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_fake_keeps_the_contract() {
    registry_battery::all(&Fake(Arc::new(FakeRegistry::new(keyring())))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn eight_owners_and_a_thousand_devices_make_a_thousand_winners() {
    registry_battery::owners_race(&Sqlite::open(), 8, 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_schema_stops_an_older_binary() {
    let stage = Sqlite::open();
    stage.registry.close();
    let path = stage.folder.path().join(Config::default().path);
    let connection = rusqlite::Connection::open(&path).expect("the file");
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("a version");
    assert!(version > 0);
    connection.pragma_update(None, "user_version", version + 1).expect("written");
    drop(connection);
    let refused = SqliteRegistry::open(&Config::default(), stage.folder.path(), keyring(), Duration::from_secs(1));
    let error = refused.map(drop).expect_err("a newer schema");
    assert!(error.to_string().contains("schema") && error.next.contains("newer"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_is_in_the_files() {
    let stage = Sqlite::open();
    let tenant = stage.tenant().await;
    let token = "PLANTEDTOKEN0123456789";
    stage.device(tenant, "d".to_owned(), token.to_owned()).await;
    stage.registry.close();
    for entry in std::fs::read_dir(stage.folder.path()).expect("files") {
        let path = entry.expect("a file").path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        let found = bytes.windows(token.len()).any(|window| window == token.as_bytes());
        assert!(!found, "the token is in {}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn charged_tries_are_on_record_when_they_are_answered_and_never_summed_up() {
    let stage = Sqlite::open();
    let tenant = stage.tenant().await;
    let account = UserId::random();
    let note = |ms: i64| AuditNote {
        at: at(ms),
        tenant,
        actor: AuditActor::Account(account),
        action: AuditAction::Confirm,
        device: None,
        attempt_key: Some([3; 16]),
        outcome: "refused",
        reason: "wrong_secret",
        evidence: Evidence::None,
        charged: true,
        transport: None,
        request_id: 1,
    };
    for tries in 1..=30 {
        stage.registry.note_charged(note(tries)).await.expect("on record");
        let found = stage.registry.charged_tries(at(0)).await.expect("an answer");
        assert_eq!(found.len() as i64, tries);
        assert!(found.iter().all(|(keys, _)| keys.account == account && keys.name == [3; 16]));
    }
    assert_eq!(stage.registry.charged_tries(at(29)).await.expect("an answer").len(), 2, "since an instant");
    // What a maker has cleared is not charged again after a crash; what came after is.
    let unlock = AuditNote { action: AuditAction::Unlock, charged: false, ..note(31) };
    stage.registry.note_charged(AuditNote { attempt_key: Some([4; 16]), ..unlock.clone() }).await.expect("on record");
    assert_eq!(stage.registry.charged_tries(at(0)).await.expect("an answer").len(), 30, "another device");
    stage.registry.note_charged(unlock).await.expect("on record");
    assert_eq!(stage.registry.charged_tries(at(0)).await.expect("an answer"), []);
    stage.registry.note_charged(note(32)).await.expect("on record");
    assert_eq!(stage.registry.charged_tries(at(0)).await.expect("an answer").len(), 1);
}
