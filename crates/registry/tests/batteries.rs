//! The contract batteries of the registry's ports, run against SQLite, and that of `DeviceRegistry` against the fake that
//! serves as a model elsewhere; and what only a file can show.

use std::sync::Arc;
use std::time::Duration;

use claim::applications::By;
use claim::audit::{AuditLog, Break, ChainCheck};
use claim::directory::{CredentialDraft, DeviceDraft, Directory};
use claim::event::{AuditAction, AuditActor, AuditNote, Evidence};
use claim::ports::{DeviceRegistry, Outbox, PortFuture};
use claim::{CustomerId, DeviceId, DeviceName, Keyring, MasterKey, Secret, TenantId, Timestamp, UserId};
use registry::{Config, OpenError, SqliteRegistry};
use testkit::registry_battery::{self, Stage};
use testkit::{
    FakeRegistry, applications_battery, at, audit_battery, directory_battery, gateways_battery, imports_battery,
    keyring, keys_battery, outbox_battery, roles_battery,
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

fn draft(name: &str, credential: Option<CredentialDraft>) -> DeviceDraft {
    DeviceDraft {
        id: None,
        name: DeviceName::parse(name).expect("a name"),
        profile: None,
        profile_name: None,
        label: None,
        gateway: false,
        additional_info: None,
        credential,
    }
}

fn master(byte: u8) -> MasterKey {
    MasterKey::from_bytes(&[byte; 32])
}

fn open(folder: &tempfile::TempDir) -> Arc<SqliteRegistry> {
    open_under(folder, 1, None).expect("a registry")
}

fn open_under(folder: &tempfile::TempDir, newest: u8, before: Option<u8>) -> Result<Arc<SqliteRegistry>, OpenError> {
    let before = before.map(master);
    let patience = Duration::from_secs(30);
    SqliteRegistry::open(&Config::default(), folder.path(), &master(newest), before.as_ref(), patience)
}

impl Stage for Sqlite {
    fn registry(&self) -> Arc<dyn DeviceRegistry> {
        self.registry.clone()
    }

    fn keyring(&self) -> Arc<Keyring> {
        self.registry.keyring()
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
            let draft = draft(&name, Some(CredentialDraft::AccessToken(Secret::new(token))));
            let by = By { account: UserId::random(), now: at(0) };
            self.registry.save_device(tenant, draft, by).await.expect("a device").0.id
        })
    }
}

impl outbox_battery::Stage for Sqlite {
    fn outbox(&self) -> Arc<dyn Outbox> {
        self.registry.clone()
    }

    /// A new device is an event.
    fn happens(&self, now: Timestamp) -> PortFuture<'_, DeviceId> {
        PortFuture::later(async move {
            let tenant = self.tenant().await;
            let by = By { account: UserId::random(), now };
            self.registry.save_device(tenant, draft("d", None), by).await.expect("a device").0.id
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
    applications_battery::all(|registry: &SqliteRegistry| registry.keyring(), || installs.next()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract_of_signing_keys() {
    let installs = Installs::default();
    keys_battery::all(|| installs.next()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract_of_the_audit_log() {
    let installs = Installs::default();
    audit_battery::all(|| installs.next()).await;
}

#[tokio::test]
async fn sqlite_keeps_the_contract_of_imports() {
    let installs = Installs::default();
    imports_battery::all(|| installs.next()).await;
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
    let error = open_under(&stage.folder, 1, None).map(drop).expect_err("a newer schema");
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

/// The first broken row, as a verifier finds it in what the log gives.
async fn first_broken(registry: &SqliteRegistry, tenant: TenantId) -> Option<(i64, Break)> {
    let stretch = registry.stretch(tenant, 0, 1_000).await.expect("a stretch");
    let mut check = ChainCheck::from_start();
    let broken = stretch.rows.iter().find_map(|row| check.row(row).err());
    let broken = broken.map(|broken| (broken.seq.expect("a position"), broken.what));
    stretch.gone.map(|seq| (seq, Break::Gone)).or(broken)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_done_to_a_chained_row_is_found_at_that_row() {
    let other = "x'000102030405060708090a0b0c0d0e0f'";
    let columns: [(&str, String); 14] = [
        ("seq", "1000".to_owned()),
        ("at", "at + 1".to_owned()),
        ("tenant", other.to_owned()),
        ("actor_kind", "'device'".to_owned()),
        ("actor", other.to_owned()),
        ("action", "'unclaim'".to_owned()),
        ("device", other.to_owned()),
        ("outcome", "'claimed'".to_owned()),
        ("reason", "'x'".to_owned()),
        ("evidence", "'stored_code'".to_owned()),
        ("count", "2".to_owned()),
        ("charged", "1".to_owned()),
        ("generation", "9".to_owned()),
        ("origin", "'mqtt'".to_owned()),
    ];
    let mut deeds: Vec<(String, String, Break)> = columns
        .into_iter()
        .map(|(column, value)| {
            let what = if matches!(column, "seq" | "tenant") { Break::Gone } else { Break::Changed };
            (column.to_owned(), format!("UPDATE audit SET {column} = {value} WHERE seq = 3"), what)
        })
        .collect();
    let mut deed = |name: &str, sql: &str, what| deeds.push((name.to_owned(), sql.to_owned(), what));
    deed("request_id", "UPDATE audit SET request_id = 9 WHERE seq = 3", Break::Changed);
    deed("hash", "UPDATE audit_chain SET hash = zeroblob(32) WHERE seq = 3", Break::Changed);
    deed("actor cut", "UPDATE audit SET actor = x'00' WHERE seq = 3", Break::Changed);
    deed("device cut", "UPDATE audit SET device = x'00' WHERE seq = 3", Break::Changed);
    deed("hash cut", "UPDATE audit_chain SET hash = x'00' WHERE seq = 3", Break::Changed);
    deed("row removed", "DELETE FROM audit WHERE seq = 3", Break::Gone);
    deed("hash removed", "DELETE FROM audit_chain WHERE seq = 3", Break::Unsealed);
    deed("last row removed", "DELETE FROM audit WHERE seq = 5", Break::Gone);
    for (name, sql, what) in deeds {
        let stage = Sqlite::open();
        let tenant = stage.tenant().await;
        for n in 1..=5 {
            let name = format!("d{n}");
            let device = stage.device(tenant, name, format!("token-{n}")).await;
            let customer = stage.customer(tenant).await;
            stage.registry.assign_by_admin(tenant, device, customer, UserId::random(), at(n)).await.expect("assigned");
        }
        // Closing chains what is left.
        stage.registry.close();
        let path = stage.folder.path().join(Config::default().path);
        let file = rusqlite::Connection::open(&path).expect("the file");
        for trigger in ["audit_no_update", "audit_no_delete", "audit_chain_no_update", "audit_chain_no_delete"] {
            file.execute_batch(&format!("DROP TRIGGER {trigger}")).expect("dropped");
        }
        let whole = open(&stage.folder);
        assert_eq!(whole.unsealed().await, Ok(0));
        assert_eq!(first_broken(&whole, tenant).await, None);
        assert_eq!(file.execute(&sql, []).expect(&sql), 1, "{name}");
        let at = if name.starts_with("last") { 5 } else { 3 };
        assert_eq!(first_broken(&whole, tenant).await, Some((at, what)), "{name}");
    }
}
