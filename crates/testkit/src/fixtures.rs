//! A small world to test in: all fakes, one tenant, and the domain over them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use claim::confirmation::ConfirmationParts;
use claim::event::StateFeed;
use claim::intake::IntakeParts;
use claim::limits::{AttemptBudgets, IntakeLimits};
use claim::policy::{ClaimPolicy, GatewayPolicy};
use claim::ports::{AttemptLedger, ClaimCache, DeviceRegistry, Meter, SubmitRates};
use claim::{Confirmation, Intake, Keyring, Origin, TenantId, Timestamp, Transport};

use crate::fakes::{FakeCache, FakeLedger, FakeRegistry, NoMeter, OpenRates, RecordingListener, RecordingMeter};

/// An instant `ms` milliseconds after a fixed day in 2026.
pub fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000 + ms)
}

/// A keyring that is the same in every test.
pub fn keyring() -> Arc<Keyring> {
    Arc::new(Keyring::from_master(&[0x5a; 32]))
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
            listener,
            keyring,
            policy: ClaimPolicy::default(),
            gateway: GatewayPolicy::default(),
            limits: IntakeLimits::default(),
            budgets: AttemptBudgets::default(),
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
            keyring: Arc::clone(&self.keyring),
            policy: self.policy.clone(),
            budgets: self.budgets.clone(),
        })
    }
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
        keyring: keyring(),
        policy: ClaimPolicy::default(),
        budgets: AttemptBudgets::default(),
    })
}
