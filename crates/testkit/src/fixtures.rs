//! A small world to test in: all fakes, one tenant, and the domain over them.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use claim::confirmation::ConfirmationParts;
use claim::event::StateFeed;
use claim::intake::{BatchReceipt, IntakeParts};
use claim::limits::{AttemptBudgets, IntakeLimits};
use claim::permissions::ClaimPermission;
use claim::policy::{ClaimPolicy, GatewayPolicy};
use claim::ports::{AttemptLedger, ClaimCache, DeviceRegistry, Meter, SubmitRates};
use claim::watch::WatchFeed;
use claim::{
    BodyFormat, Confirmation, DeviceCredential, Intake, Keyring, Origin, SubmitError, TenantId, Timestamp, Transport,
};

use crate::fakes::{FakeCache, FakeLedger, FakeRegistry, NoMeter, OpenRates, RecordingListener, RecordingMeter};

/// An instant `ms` milliseconds after a fixed day in 2026.
pub fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000 + ms)
}

/// A keyring that is the same in every test.
pub fn keyring() -> Arc<Keyring> {
    Arc::new(Keyring::from_root(&[0x5a; 32]))
}

/// A peer on the loopback address that has shown that it receives there; `None` for people's API.
pub fn origin(transport: Option<Transport>) -> Origin {
    Origin { transport, address: IpAddr::V4(Ipv4Addr::LOCALHOST), address_proven: true, request_id: 1 }
}

/// All fakes, wired. Change a field before asking for [`World::intake`] or [`World::confirmation`].
pub struct World {
    /// Truth.
    pub registry: Arc<FakeRegistry>,
    /// Pending claims.
    pub cache: Arc<FakeCache>,
    /// Attempt counters.
    pub ledger: Arc<FakeLedger>,
    /// Rates of what devices send.
    pub rates: Arc<dyn SubmitRates>,
    /// Every counter call.
    pub meter: Arc<RecordingMeter>,
    /// State changes go here.
    pub feed: Arc<StateFeed>,
    /// Who watches.
    pub watch: Arc<WatchFeed>,
    /// Subscribed to `feed`.
    pub listener: Arc<RecordingListener>,
    /// Digest keys.
    pub keyring: Arc<Keyring>,
    /// Claim rules.
    pub policy: ClaimPolicy,
    /// Gateway rules.
    pub gateway: GatewayPolicy,
    /// Bounds.
    pub limits: IntakeLimits,
    /// Budgets of wrong tries.
    pub budgets: AttemptBudgets,
    /// Who may claim.
    pub permission: ClaimPermission,
    /// A tenant that exists.
    pub tenant: TenantId,
}

impl Default for World {
    fn default() -> Self {
        let keyring = keyring();
        let registry = Arc::new(FakeRegistry::new(Arc::clone(&keyring)));
        let feed = Arc::new(StateFeed::default());
        let listener = Arc::new(RecordingListener::default());
        feed.subscribe(listener.clone());
        let tenant = registry.add_tenant();
        Self {
            registry,
            cache: Arc::default(),
            ledger: Arc::default(),
            rates: Arc::new(OpenRates),
            meter: Arc::default(),
            feed,
            watch: Arc::default(),
            listener,
            keyring,
            policy: ClaimPolicy::default(),
            gateway: GatewayPolicy::default(),
            limits: IntakeLimits::default(),
            budgets: AttemptBudgets::default(),
            permission: ClaimPermission::default(),
            tenant,
        }
    }
}

impl World {
    /// A fresh world.
    pub fn new() -> Self {
        Self::default()
    }

    /// Intake over this world's fakes.
    pub fn intake(&self) -> Intake {
        self.intake_over(self.cache.clone())
    }

    /// Intake over another claim cache.
    pub fn intake_over(&self, cache: Arc<dyn ClaimCache>) -> Intake {
        Intake::new(IntakeParts {
            registry: self.registry.clone(),
            cache,
            rates: Arc::clone(&self.rates),
            meter: self.meter.clone(),
            feed: Arc::clone(&self.feed),
            watch: Arc::clone(&self.watch),
            keyring: Arc::clone(&self.keyring),
            policy: self.policy.clone(),
            gateway: self.gateway.clone(),
            limits: self.limits.clone(),
        })
    }

    /// Confirmation over this world's fakes.
    pub fn confirmation(&self) -> Confirmation {
        self.confirmation_over(self.cache.clone(), self.ledger.clone())
    }

    /// Confirmation over another claim cache and ledger.
    pub fn confirmation_over(&self, cache: Arc<dyn ClaimCache>, attempts: Arc<dyn AttemptLedger>) -> Confirmation {
        Confirmation::new(ConfirmationParts {
            registry: self.registry.clone(),
            cache,
            attempts,
            meter: self.meter.clone(),
            watch: Arc::clone(&self.watch),
            keyring: Arc::clone(&self.keyring),
            policy: self.policy.clone(),
            budgets: self.budgets.clone(),
            permission: self.permission,
        })
    }
}

/// What intake makes of a body as a gateway's batch, in a world of its own; for the fuzz target `gateway_batch`.
///
/// # Errors
/// As [`Intake::submit_batch`].
pub fn submit_batch(body: &[u8], format: BodyFormat) -> Result<BatchReceipt, SubmitError> {
    let world = World::new();
    world.registry.add_gateway(world.tenant, "gateway", "token");
    let intake = world.intake();
    let origin = origin(Some(Transport::Mqtt));
    let work = async {
        let credential = DeviceCredential::AccessToken("token");
        let gateway = intake.authenticate(credential, &origin, at(0)).await.expect("the gateway signs in");
        intake.submit_batch(&gateway, body, format, &origin, at(0)).await
    };
    // Fakes answer at once.
    let mut context = Context::from_waker(Waker::noop());
    match pin!(work).poll(&mut context) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("a fake waits for nothing"),
    }
}

/// An intake that knows the token `token` and the basic credential `user`, `pass`; for the fuzz target
/// `mqtt_connection`.
pub fn open_intake() -> Intake {
    let keyring = keyring();
    let registry = Arc::new(FakeRegistry::new(keyring));
    let tenant = registry.add_tenant();
    registry.add_gateway(tenant, "gateway", "token");
    let device = registry.add_device(tenant, "device");
    registry.add_basic(device, None, Some("user"), Some(b"pass"));
    intake(registry, Arc::new(FakeCache::default()), Arc::new(StateFeed::default()))
}

/// Intake with default rules, open rates and no counters, over a registry and a cache; for transports' tests.
pub fn intake(registry: Arc<dyn DeviceRegistry>, cache: Arc<dyn ClaimCache>, feed: Arc<StateFeed>) -> Intake {
    let meter: Arc<dyn Meter> = Arc::new(NoMeter);
    Intake::new(IntakeParts {
        registry,
        cache,
        rates: Arc::new(OpenRates),
        meter,
        feed,
        watch: Arc::default(),
        keyring: keyring(),
        policy: ClaimPolicy::default(),
        gateway: GatewayPolicy::default(),
        limits: IntakeLimits::default(),
    })
}

/// Confirmation with default rules over a registry and a cache, with counters of its own; for the API's tests.
pub fn confirmation(registry: Arc<dyn DeviceRegistry>, cache: Arc<dyn ClaimCache>) -> Confirmation {
    Confirmation::new(ConfirmationParts {
        registry,
        cache,
        attempts: Arc::new(FakeLedger::default()),
        meter: Arc::new(NoMeter),
        watch: Arc::default(),
        keyring: keyring(),
        policy: ClaimPolicy::default(),
        budgets: AttemptBudgets::default(),
        permission: ClaimPermission::default(),
    })
}
