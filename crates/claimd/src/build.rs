//! The composition root: every part made once and handed to those who need it, addresses bound, nothing served yet.

use std::fs::{DirBuilder, File};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use api::{ApiParts, Passwords};
use claim::confirmation::ConfirmationParts;
use claim::directory::Directory;
use claim::event::StateFeed;
use claim::intake::IntakeParts;
use claim::ports::{AttemptLedger, ClaimCache, DeviceRegistry, Meter};
use claim::watch::WatchFeed;
use claim::{ClaimState, Confirmation, Intake, Secret, StateChange, Timestamp};
use claim_cache::{MemoryRates, SystemClock};
use claim_codes::import::manifest::Trust;
use listener::Listener;
use registry::{Backend, OpenError, PostgresRegistry, Registry, SqliteRegistry};
use tokio::sync::Notify;
use transport_coap::{CoapParts, CoapTransport};
use transport_http::{DeviceApi, DeviceApiParts, Site};
use transport_mqtt::{MqttParts, MqttTransport};

use crate::claims::{Claims, Keeper, Sweeping};
use crate::config::{Fault, Manifest, Settings};
use crate::keys;
use crate::metrics::Metrics;
use crate::rotation::Rotation;
use crate::skew::Skew;
use crate::timed::Timed;

/// Everything of one server, bound and ready to serve.
pub(crate) struct Node {
    pub(crate) clock: SystemClock,
    pub(crate) skew: Arc<Skew>,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) keeper: Keeper,
    pub(crate) sweeper: Sweeping,
    pub(crate) feed: Arc<StateFeed>,
    /// Wakes whoever applies imports.
    pub(crate) imports_wait: Arc<Notify>,
    pub(crate) watch: Arc<WatchFeed>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) mqtt: MqttTransport,
    pub(crate) coap: Option<CoapTransport>,
    pub(crate) site: Site,
    pub(crate) bound: Bound,
    pub(crate) data_dir: PathBuf,
    /// The first password, if this start has made one up.
    pub(crate) first_password: Option<(String, Secret<String>)>,
    /// Held until the end: one server a folder.
    pub(crate) lock: File,
}

/// The TCP listeners.
pub(crate) struct Bound {
    pub(crate) mqtt: Option<Listener>,
    pub(crate) mqtt_ws: Option<Listener>,
    pub(crate) http: Listener,
    pub(crate) admin: Listener,
}

/// Makes everything that `settings` asks for.
pub(crate) async fn node(settings: &Settings) -> Result<Node, Fault> {
    let data_dir = PathBuf::from(&settings.server.data_dir);
    let lock = lock(&data_dir)?;
    let key_file = settings.server.key_file();
    let keys = keys::open(&key_file).map_err(|fault| {
        Fault::plain(format!("the master key {} {}", fault.path.display(), fault.what)).next(fault.next)
    })?;
    let clock = SystemClock::start();
    let registry = open_registry(settings, &data_dir, &keys).await?;
    let store_away = || Fault::plain("the registry does not answer").next("check the disk; see the log");
    let skew = Arc::new(Skew::default());
    skew.measure(&*registry, &clock).await.map_err(|_| store_away())?;
    let keyring = registry.keyring();
    let master_keys = Rotation::start(registry.clone(), key_file, keys).map_err(|error| {
        Fault::plain(format!("the master key's file cannot be replaced: {error}")).next("check its folder")
    })?;
    let directory: Arc<dyn Directory> = registry.clone();
    let Claims { cache, attempts, keeper } = Claims::open(settings, &data_dir, &directory, clock.clone()).await?;

    let feed = Arc::new(StateFeed::default());
    let watch = Arc::new(WatchFeed::new(settings.owner_api.watch()));
    let metrics = Arc::new(Metrics::new(&mode(settings, keeper.name())));
    let cache: Arc<dyn ClaimCache> = Timed::new(cache, &metrics.times);
    let attempts: Arc<dyn AttemptLedger> = Timed::new(attempts, &metrics.times);
    let meter: Arc<dyn Meter> = metrics.clone();
    let devices: Arc<dyn DeviceRegistry> = registry.clone();
    let devices: Arc<dyn DeviceRegistry> = Timed::new(devices, &metrics.times);
    let intake = Intake::new(IntakeParts {
        registry: devices.clone(),
        cache: cache.clone(),
        rates: Arc::new(MemoryRates::new(&settings.claim_cache)),
        meter: meter.clone(),
        feed: feed.clone(),
        watch: watch.clone(),
        keyring: keyring.clone(),
        policy: settings.claim.clone(),
        gateway: settings.gateway.clone(),
        limits: settings.limits.intake(),
    });
    let confirmation = Confirmation::new(ConfirmationParts {
        registry: devices,
        cache,
        attempts,
        meter,
        watch: watch.clone(),
        keyring: keyring.clone(),
        policy: settings.claim.clone(),
        budgets: settings.attempts.clone(),
        permission: settings.permissions.claim,
    });
    let now: Arc<dyn Fn() -> Timestamp + Send + Sync> = {
        let clock = clock.clone();
        Arc::new(move || clock.now())
    };
    let request_ids = Arc::new(AtomicU64::new(1));
    let imports_wait = Arc::<Notify>::default();

    let trust = trust(&settings.manifest)?;

    let bound = bind(settings)?;
    let mqtt = MqttTransport::new(MqttParts {
        intake: intake.clone(),
        feed: &feed,
        clock: now.clone(),
        request_ids: request_ids.clone(),
        config: settings.mqtt.clone(),
        limits: settings.mqtt_limits(),
    });
    let coap = match settings.coap.bind.as_str() {
        "" => None,
        address => {
            let parts = CoapParts {
                intake: intake.clone(),
                feed: &feed,
                clock: now.clone(),
                request_ids: request_ids.clone(),
                echo_key: *keyring.echo_key(),
                config: settings.coap.clone(),
                limits: settings.coap_limits(),
            };
            Some(CoapTransport::bind(parts).map_err(|error| not_bound("coap.bind", address, &error))?)
        }
    };
    let passwords = Passwords::new(&settings.owner_api);
    let first_password = bootstrap(settings, &*directory, &passwords, clock.now()).await?;
    let router = api::router(ApiParts {
        confirmation,
        directory,
        applications: registry.clone(),
        imports: registry.clone(),
        imports_wait: imports_wait.clone(),
        trust,
        check_symbol: settings.codes.check_symbol,
        audit: registry.clone(),
        watch: watch.clone(),
        gateways: registry.clone(),
        roles: registry.clone(),
        keyring,
        clock: now.clone(),
        request_ids: request_ids.clone(),
        signing_keys: registry.clone(),
        master_keys,
        passwords,
        config: settings.owner_api.clone(),
        permissions: settings.permissions,
        public_url: settings.server.public_url.clone(),
    });
    let router = router.await.map_err(|_| store_away())?;
    let limits = settings.http_limits();
    let device_api = DeviceApi::new(DeviceApiParts {
        intake,
        feed: &feed,
        clock: now,
        request_ids,
        config: settings.http.clone(),
        limits,
    });
    let site = Site { devices: Some(device_api), router, limits };
    let sweeper = {
        let feed = Arc::clone(&feed);
        let expired = move |device| feed.publish(&StateChange { device, name: None, state: ClaimState::None });
        keeper.sweep(clock.clone(), expired).map_err(|error| {
            Fault::plain(format!("no thread for the sweeper: {error}")).next("raise the limit of threads")
        })?
    };
    Ok(Node {
        clock,
        skew,
        registry,
        keeper,
        sweeper,
        feed,
        imports_wait,
        watch,
        metrics,
        mqtt,
        coap,
        site,
        bound,
        data_dir,
        first_password,
        lock,
    })
}

/// Where registry and claims are, in a word or two; `claims` is the keeper's name.
pub(crate) fn mode(settings: &Settings, claims: &str) -> String {
    match (settings.registry.backend, claims) {
        (Backend::Sqlite, claims) => claims.to_owned(),
        (Backend::Postgres, "embedded") => "postgresql".to_owned(),
        (Backend::Postgres, claims) => format!("postgresql, {claims}"),
    }
}

/// The registry that the settings name.
pub(crate) async fn open_registry(
    settings: &Settings,
    data_dir: &Path,
    keys: &keys::MasterKeys,
) -> Result<Arc<dyn Registry>, Fault> {
    let (config, patience) = (&settings.registry, settings.timeouts.store);
    let (newest, before) = (&keys.newest, keys.before.as_ref());
    let opened: Result<Arc<dyn Registry>, OpenError> = match config.backend {
        Backend::Sqlite => SqliteRegistry::open(config, data_dir, newest, before, patience).map(|opened| opened as _),
        Backend::Postgres => {
            PostgresRegistry::open(&config.postgres(), newest, before, patience).await.map(|opened| opened as _)
        }
    };
    opened.map_err(|error| Fault::plain(error.to_string()).next(error.next))
}

/// Whose manifests are believed; `None` when nobody is named.
fn trust(manifest: &Manifest) -> Result<Option<Trust>, Fault> {
    if manifest.log_signers.is_empty() && manifest.roots.is_empty() {
        return Ok(None);
    }
    let read = |key: &str, files: &[String]| -> Result<Vec<Vec<u8>>, Fault> {
        let read = |file: &String| {
            std::fs::read(file).map_err(|error| {
                Fault::plain(format!("`{key}`: `{file}` cannot be read: {error}"))
                    .next("name PEM files that this user can read")
            })
        };
        files.iter().map(read).collect()
    };
    let (signers, roots) =
        (read("manifest.log_signers", &manifest.log_signers)?, read("manifest.roots", &manifest.roots)?);
    Trust::parse(&signers, &roots)
        .map(Some)
        .map_err(|fault| Fault::plain(fault.to_string()).next("name PEM files with certificates, in both lists"))
}

/// One server a folder: a second one would write the same journal.
pub(crate) fn lock(data_dir: &Path) -> Result<File, Fault> {
    try_lock(data_dir)?.ok_or_else(|| {
        Fault::plain(format!("the data folder {} is in use by another claimd", data_dir.display()))
            .next("stop that one, or give this one a folder of its own with `--data-dir`")
    })
}

/// `None`: another one has it.
pub(crate) fn try_lock(data_dir: &Path) -> Result<Option<File>, Fault> {
    let shown = data_dir.display();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
    let file = made.and_then(|()| File::options().create(true).truncate(false).write(true).open(data_dir.join("lock")));
    let file = file.map_err(|error| {
        Fault::plain(format!("cannot use the data folder {shown}: {error}"))
            .next("give a folder that this user can write with `--data-dir`")
    })?;
    Ok(file.try_lock().is_ok().then_some(file))
}

fn bind(settings: &Settings) -> Result<Bound, Fault> {
    let limits = settings.connection_limits();
    let proxy = Arc::new(settings.proxy());
    let listen = |key: &str, text: &str| -> Result<Listener, Fault> {
        let address: SocketAddr = text.parse().map_err(|_| {
            Fault::plain(format!("`{key}`: \"{text}\" is no address and port"))
                .next("write it like 127.0.0.1:8080 or [::]:8080")
        })?;
        Listener::bind(address, limits).map_err(|error| not_bound(key, text, &error))
    };
    let behind = |listener: Listener| listener.behind(Arc::clone(&proxy));
    let optional = |key: &str, text: &str| if text.is_empty() { Ok(None) } else { listen(key, text).map(Some) };
    Ok(Bound {
        mqtt: optional("mqtt.bind", &settings.mqtt.bind)?.map(&behind),
        mqtt_ws: optional("mqtt.ws_bind", &settings.mqtt.ws_bind)?.map(&behind),
        http: behind(listen("http.bind", &settings.http.bind)?),
        // Probes and scrapes come by themselves.
        admin: listen("admin.bind", &settings.admin.bind)?,
    })
}

fn not_bound(key: &str, address: &str, error: &std::io::Error) -> Fault {
    let (what, next) = match error.kind() {
        std::io::ErrorKind::AddrInUse => ("is in use".to_owned(), "stop what listens there, or set another"),
        std::io::ErrorKind::AddrNotAvailable => ("is not an address of this machine".to_owned(), "set one that is"),
        std::io::ErrorKind::PermissionDenied => ("may not be used by this user".to_owned(), "set a port above 1023"),
        _ => (format!("cannot be listened on: {error}"), "set another"),
    };
    let variable = format!("CLAIMD_{}", key.to_uppercase().replace('.', "__"));
    Fault::plain(format!("`{key}`: {address} {what}"))
        .next(format!("{next} with `{key}` or {variable}; port 0 takes a free one"))
}

/// The install's first account, made when there is none.
async fn bootstrap(
    settings: &Settings,
    directory: &dyn Directory,
    passwords: &Passwords,
    now: Timestamp,
) -> Result<Option<(String, Secret<String>)>, Fault> {
    let store_away = |_| Fault::plain("the registry does not answer").next("check the disk; see the log");
    if directory.has_accounts().await.map_err(store_away)? {
        return Ok(None);
    }
    let email = match settings.bootstrap.admin_email.as_str() {
        "" => "admin",
        email => email,
    };
    let given = settings.bootstrap.admin_password.as_str();
    let password = match given {
        "" => keys::random_password()
            .ok_or_else(|| Fault::plain("the system has no random bytes").next("check /dev/urandom"))?,
        given => Secret::new(given.to_owned()),
    };
    Passwords::acceptable(password.expose(), email)
        .map_err(|fault| Fault::plain(format!("`bootstrap.admin_password`: {}", fault.text())))?;
    let hash = passwords
        .hash(Secret::new(password.expose().clone()))
        .await
        .map_err(|fault| Fault::plain(format!("the first password cannot be hashed: {}", fault.text())))?;
    let made = directory.bootstrap(email.to_owned(), hash, now).await.map_err(store_away)?;
    // Another node may have been first; its password counts, and a given one is not shown.
    Ok(made.filter(|_| given.is_empty()).map(|account| (account.email, password)))
}
