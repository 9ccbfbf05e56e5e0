//! A master key takes another's place: what is sealed opens before, during and after, over a restart at every moment, and in
//! the end under the new key alone.

#![allow(clippy::unwrap_used, reason = "a test may end by it")]

use std::sync::Arc;
use std::time::Duration;

use claim::applications::{Applications, By, Identity, NewCode, NewDevice, Place, RootKeys};
use claim::audit::{AuditFilter, AuditLog};
use claim::directory::{CredentialView, Directory};
use claim::imports::{GoodRow, ImportDraft, ImportId, ImportRow, ImportState, ImportStep, Imports, OnError};
use claim::keys::SigningKeys;
use claim::ports::DeviceRegistry;
use claim::{DeviceId, ListingId, MasterKey, Secret, TenantId};
use registry::{Config, HandOver, OpenError, ResealCursor, SqliteRegistry};
use testkit::at;

fn master(byte: u8) -> MasterKey {
    MasterKey::from_bytes(&[byte; 32])
}

fn open(folder: &tempfile::TempDir, newest: u8, before: Option<u8>) -> Result<Arc<SqliteRegistry>, OpenError> {
    let before = before.map(master);
    let patience = Duration::from_secs(30);
    SqliteRegistry::open(&Config::default(), folder.path(), &master(newest), before.as_ref(), patience)
}

/// An install with devices that each have a code and a generated token nobody has read yet.
struct Install {
    folder: tempfile::TempDir,
    registry: Arc<SqliteRegistry>,
    tenant: TenantId,
    by: By,
    kid: String,
    made: usize,
    /// An import that waits to be applied.
    import: ImportId,
}

fn home(n: usize) -> Place {
    Place { application: ListingId::parse("default").unwrap(), device: ListingId::parse(&format!("pump-{n}")).unwrap() }
}

fn code(n: usize) -> String {
    format!("BEEF{n:04}")
}

async fn waiting_import(registry: &SqliteRegistry, tenant: TenantId, by: By) -> ImportId {
    let draft = ImportDraft {
        application: home(0).application,
        format: "the-things-stack-csv".to_owned(),
        on_error: OnError::Abort,
        dry_run: false,
        most: 1,
    };
    let good = GoodRow {
        listing: ListingId::parse("imported").unwrap(),
        label: None,
        identity: Identity::default(),
        claiming_allowed: None,
        code: Some(NewCode { code: Secret::new(code(0)), any_case: true, from: None, until: None }),
        window: (None, None),
        generated: false,
        root_keys: RootKeys::default(),
        root_keys_exposed: false,
    };
    let row = ImportRow { row: 2, id: None, outcome: Ok(Box::new(good)), warnings: Vec::new() };
    let job = registry.begin_import(tenant, draft, by).await.unwrap().id;
    registry.stage_import(tenant, job, vec![row], at(1)).await.unwrap();
    assert_eq!(registry.end_staging(tenant, job, Vec::new(), at(1)).await.unwrap().state, ImportState::Applying);
    job
}

impl Install {
    async fn new(devices: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let registry = open(&folder, 1, None).unwrap();
        let operator =
            registry.bootstrap("op@example.com".to_owned(), "hash".to_owned(), at(0)).await.unwrap().unwrap();
        let by = By { account: operator.id, now: at(1) };
        let kid = registry.signing_keys(at(0)).await.unwrap()[0].kid.clone();
        let import = waiting_import(&registry, operator.tenant, by).await;
        let mut install = Self { folder, registry, tenant: operator.tenant, by, kid, made: 0, import };
        for _ in 0..devices {
            install.device().await;
        }
        install
    }

    async fn device(&mut self) -> DeviceId {
        let n = self.made;
        self.made += 1;
        let new = NewDevice {
            listing: home(n).device,
            name: None,
            label: None,
            identity: Identity::default(),
            claiming_allowed: None,
            code: Some(NewCode { code: Secret::new(code(n)), any_case: true, from: None, until: None }),
            root_keys: RootKeys { app_key: Some(Secret::new([n as u8; 16])), nwk_key: None },
            root_keys_exposed: false,
            most: None,
        };
        self.registry.register(self.tenant, home(n).application, new, self.by).await.unwrap().device
    }

    /// The code as its maker reads it back.
    async fn read_code(&self, n: usize) -> String {
        self.registry.read_code(self.tenant, home(n), self.by).await.expect("a code").expose().clone()
    }

    /// A generated token, the one time it is shown.
    async fn token(&self, n: usize) -> CredentialView {
        let device = self.registry.at_home(self.tenant, home(n)).await.unwrap().device;
        self.registry.credential(self.tenant, device, at(2)).await.expect("a credential")
    }

    async fn all_readable(&self) {
        for n in 0..self.made {
            assert_eq!(self.read_code(n).await, code(n));
            let keys = self.registry.export_root_keys(self.tenant, home(n), self.by).await.expect("root keys");
            assert_eq!(keys.app_key.map(|key| *key.expose()), Some([n as u8; 16]));
        }
        assert_eq!(self.registry.signing_keys(at(2)).await.expect("keys")[0].kid, self.kid);
    }

    async fn pass(&self) -> u64 {
        let (mut values, mut cursor) = (0, ResealCursor::default());
        loop {
            let step = self.registry.reseal(cursor).await.unwrap();
            values += step.values;
            match step.next {
                Some(next) => cursor = next,
                None => return values,
            }
        }
    }

    fn restart(&mut self, newest: u8, before: Option<u8>) {
        self.registry.close();
        self.registry = open(&self.folder, newest, before).unwrap();
    }

    fn refused(&self, newest: u8) -> String {
        open(&self.folder, newest, None).map(drop).expect_err("a key that does not fit").to_string()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_sealed_is_readable_before_during_and_after_and_then_under_the_new_key_alone() {
    let mut install = Install::new(7).await;
    install.all_readable().await;
    assert!(install.refused(2).contains("another master key"));
    assert_eq!(install.registry.replace_master(&master(2), install.by).await, HandOver::Done);
    install.all_readable().await;
    let first = install.token(0).await;
    assert!(first.readable_once.is_some());
    // What is made in between is under the new key already.
    let late = install.device().await;
    // The signing key, seven codes, seven root keys, six tokens, and the rows of an import; the root went first.
    assert_eq!(install.pass().await, 1 + 7 + 7 + 6 + 1);
    assert_eq!(install.pass().await, 0);
    install.registry.settle_master();
    install.all_readable().await;
    install.restart(2, None);
    install.all_readable().await;
    assert!(install.refused(1).contains("another master key"), "the old key opens nothing any more");
    assert_eq!(install.registry.apply_import(install.tenant, install.import, at(3)).await, Ok(ImportStep::More));
    // Digests are those of before: the token that was read, and one that is read now.
    for shown in [first, install.token(1).await, install.token(7).await] {
        let token = shown.readable_once.expect("shown once");
        let digest = install.registry.keyring().access_token(token.expose());
        let holder = install.registry.find_credential(digest).await.expect("an answer").expect("its device");
        assert_eq!(holder.device.id, shown.device);
    }
    assert!(install.registry.at_home(install.tenant, home(7)).await.unwrap().device == late);
    let rows = install.registry.rows(install.tenant, AuditFilter::default(), 1_000).await.unwrap();
    assert_eq!(rows.iter().filter(|row| row.action == "keys.master_rotated").count(), 1);
    let row = rows.iter().find(|row| row.action == "keys.master_rotated").unwrap();
    assert_eq!(row.actor, format!("account:{}", install.by.account));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_at_any_moment_leaves_everything_readable() {
    let mut install = Install::new(3).await;
    // Both keys are on record and nothing is handed over: the new one was never used.
    install.restart(2, Some(1));
    assert!(!install.registry.handed_over());
    install.all_readable().await;
    install.device().await;
    install.restart(1, None);
    install.all_readable().await;
    // The root is handed over and nothing else.
    install.registry.replace_master(&master(2), install.by).await;
    install.restart(2, Some(1));
    assert!(install.registry.handed_over());
    install.all_readable().await;
    install.device().await;
    // Some of it is sealed anew.
    let step = install.registry.reseal(ResealCursor::default()).await.unwrap();
    install.registry.reseal(step.next.unwrap()).await.unwrap();
    install.restart(2, Some(1));
    install.all_readable().await;
    // All of it, and the old key is still on record.
    while install.pass().await > 0 {}
    install.restart(2, Some(1));
    assert_eq!(install.pass().await, 0);
    install.restart(2, None);
    install.all_readable().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pass_goes_through_more_than_one_step_of_a_column() {
    let mut install = Install::new(0).await;
    for _ in 0..501 {
        install.device().await;
    }
    install.registry.replace_master(&master(2), install.by).await;
    assert_eq!(install.pass().await, 1 + 3 * 501 + 1);
    install.restart(2, None);
    for n in [0, 499, 500] {
        assert_eq!(install.read_code(n).await, code(n));
        assert!(install.token(n).await.readable_once.is_some());
    }
}
