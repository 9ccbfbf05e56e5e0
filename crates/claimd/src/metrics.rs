//! Metrics (OpenMetrics), with the names and labels of the operator guide. Labels come from closed sets: never a tenant,
//! device, account, address or token.
//!
//! Counters on the path of a claim are handles made once, found by index; what components count themselves is read when
//! somebody scrapes.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use claim::event::Evidence;
use claim::ports::{AttemptScope, ClaimSource, Meter};
use claim::{SubmitOutcome, Transport};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::timed::Times;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Submission {
    transport: &'static str,
    source: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AuthFailure {
    transport: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Confirmation {
    outcome: &'static str,
    evidence: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Unclaim {
    by: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Scope {
    scope: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Limit {
    limit: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByOp {
    store: &'static str,
    op: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByTransport {
    transport: &'static str,
}

const SOURCES: [ClaimSource; 2] = [ClaimSource::Device, ClaimSource::Gateway];

/// All metrics of this process.
pub(crate) struct Metrics {
    registry: Registry,
    /// By transport, source, outcome.
    submissions: Vec<Counter>,
    submit_seconds: Vec<Histogram>,
    batch_devices: Histogram,
    auth_failures: Family<AuthFailure, Counter>,
    confirmations: Family<Confirmation, Counter>,
    confirm_seconds: Family<ByOutcome, Histogram, fn() -> Histogram>,
    /// Waiting for the stores.
    pub(crate) times: Arc<Times>,
    unclaims: Family<Unclaim, Counter>,
    blocked: Family<Scope, Counter>,
    limits: Family<Limit, Counter>,
}

fn transport_name(transport: Option<Transport>) -> &'static str {
    transport.map_or("api", Transport::name)
}

fn submission_index(transport: Transport, source: ClaimSource, outcome: SubmitOutcome) -> usize {
    (transport as usize * SOURCES.len() + source as usize) * SubmitOutcome::ALL.len() + outcome as usize
}

impl Metrics {
    /// `mode`: where registry and claims are.
    pub(crate) fn new(mode: &str) -> Self {
        let mut registry = Registry::with_prefix("claimd");
        let submissions = Family::<Submission, Counter>::default();
        let submit_seconds = Family::<ByTransport, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(50e-6, 2.0, 18))
        });
        let auth_failures = Family::<AuthFailure, Counter>::default();
        let confirmations = Family::<Confirmation, Counter>::default();
        let unclaims = Family::<Unclaim, Counter>::default();
        let blocked = Family::default();
        let limits = Family::<Limit, Counter>::default();
        let batch_devices = Histogram::new([1.0, 10.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2000.0]);
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(250e-6, 2.0, 16));
        let confirm_seconds = Family::<ByOutcome, Histogram, fn() -> Histogram>::new_with_constructor(histogram);
        let store_seconds = Family::<ByOp, Histogram, fn() -> Histogram>::new_with_constructor(histogram);
        let info = Info::new([
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("commit", option_env!("CLAIMD_COMMIT").unwrap_or("unknown").to_owned()),
            ("mode", mode.to_owned()),
        ]);

        registry.register("build", "What runs here", info);
        registry.register("submissions", "Claim messages answered", submissions.clone());
        registry.register("submit_seconds", "From receipt to ack, so to visible to owners", submit_seconds.clone());
        registry.register("gateway_batch_devices", "Entries in a gateway's batch", batch_devices.clone());
        registry.register("auth_failures", "Refused device credentials", Family::clone(&auth_failures));
        registry.register("confirmations", "Owners' claims answered", Family::clone(&confirmations));
        registry.register("confirm_seconds", "From an owner's request to its reply", confirm_seconds.clone());
        registry.register("store_seconds", "Waiting for a store's answer", store_seconds.clone());
        registry.register("unclaims", "Unclaims answered", Family::clone(&unclaims));
        registry.register("attempts_blocked", "Tries refused for lack of budget", Family::clone(&blocked));
        registry.register("limit_reached", "Limits met, by config key", Family::clone(&limits));

        let mut handles = Vec::new();
        for transport in Transport::ALL {
            for source in SOURCES {
                for outcome in SubmitOutcome::ALL {
                    let labels =
                        Submission { transport: transport.name(), source: source.name(), outcome: outcome.name() };
                    handles.push(submissions.get_or_create(&labels).clone());
                }
            }
        }
        let submit_seconds = Transport::ALL
            .map(|transport| submit_seconds.get_or_create(&ByTransport { transport: transport.name() }).clone())
            .to_vec();
        // There from the start at zero, so that a first increase shows in a rate.
        for transport in Transport::ALL {
            for reason in ["refused", "address_locked", "unavailable"] {
                let _ = auth_failures.get_or_create(&AuthFailure { transport: transport.name(), reason });
            }
        }
        for outcome in ["claimed", "already_yours", "refused", "rate_limited", "unavailable"] {
            let _ = confirmations.get_or_create(&Confirmation { outcome, evidence: Evidence::None.name() });
        }
        for outcome in ["claimed", "refused", "rate_limited", "unavailable"] {
            let _ = confirm_seconds.get_or_create(&ByOutcome { outcome });
        }
        let times = Times::new(|op| {
            let (store, op) = op.labels();
            store_seconds.get_or_create(&ByOp { store, op }).clone()
        });
        for by in ["owner", "admin"] {
            let _ = unclaims.get_or_create(&Unclaim { by, outcome: "released" });
        }
        let _ = limits.get_or_create(&Limit { limit: "payload_bytes" });
        for scope in AttemptScope::ALL {
            let _ = blocked.get_or_create(&Scope { scope: scope.name() });
        }
        Self {
            registry,
            submissions: handles,
            submit_seconds,
            batch_devices,
            auth_failures,
            confirmations,
            confirm_seconds,
            times: Arc::new(times),
            unclaims,
            blocked,
            limits,
        }
    }

    /// Everything as OpenMetrics text; `live` adds what components count themselves.
    pub(crate) fn render(&self, live: &[Live]) -> String {
        let mut text = String::new();
        if prometheus_client::encoding::text::encode(&mut text, &self.registry).is_err() {
            return String::new();
        }
        let end = text.rfind("# EOF").unwrap_or(text.len());
        text.truncate(end);
        let mut last = "";
        for Live { name, help, kind, labels, value } in live {
            if *name != last {
                let _ = writeln!(text, "# HELP claimd_{name} {help}.\n# TYPE claimd_{name} {}", kind.name());
                last = name;
            }
            let suffix = if matches!(kind, Kind::Counter) { "_total" } else { "" };
            let _ = writeln!(text, "claimd_{name}{suffix}{labels} {value}");
        }
        text.push_str("# EOF\n");
        text
    }
}

/// A figure some component keeps, as read at one scrape. Figures of one name follow each other.
pub(crate) struct Live {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: Kind,
    /// `{transport="mqtt"}`, or empty.
    pub(crate) labels: String,
    pub(crate) value: f64,
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Counter,
    Gauge,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        }
    }
}

impl Meter for Metrics {
    fn submission(&self, transport: Option<Transport>, source: ClaimSource, outcome: SubmitOutcome) {
        if let Some(transport) = transport {
            self.submissions[submission_index(transport, source, outcome)].inc();
        }
    }

    fn submit_seconds(&self, transport: Transport, seconds: f64) {
        self.submit_seconds[transport as usize].observe(seconds);
    }

    fn batch(&self, entries: usize) {
        self.batch_devices.observe(entries as f64);
    }

    fn auth_failure(&self, transport: Option<Transport>, reason: &'static str) {
        self.auth_failures.get_or_create(&AuthFailure { transport: transport_name(transport), reason }).inc();
    }

    fn confirmation(&self, outcome: &'static str, evidence: Evidence) {
        self.confirmations.get_or_create(&Confirmation { outcome, evidence: evidence.name() }).inc();
    }

    fn confirm_seconds(&self, outcome: &'static str, seconds: f64) {
        self.confirm_seconds.get_or_create(&ByOutcome { outcome }).observe(seconds);
    }

    fn unclaim(&self, by: &'static str, outcome: &'static str) {
        self.unclaims.get_or_create(&Unclaim { by, outcome }).inc();
    }

    fn attempt_blocked(&self, scope: AttemptScope) {
        self.blocked.get_or_create(&Scope { scope: scope.name() }).inc();
    }

    fn limit_reached(&self, limit: &'static str) {
        self.limits.get_or_create(&Limit { limit }).inc();
    }
}

/// Reads an atomic of a component.
pub(crate) fn figure(atomic: &AtomicU64) -> f64 {
    atomic.load(std::sync::atomic::Ordering::Relaxed) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_submission_has_a_counter_of_its_own() {
        let metrics = Metrics::new("embedded");
        let mut seen = std::collections::HashSet::new();
        for transport in Transport::ALL {
            for source in SOURCES {
                for outcome in SubmitOutcome::ALL {
                    assert!(seen.insert(submission_index(transport, source, outcome)));
                    metrics.submission(Some(transport), source, outcome);
                }
            }
        }
        assert_eq!(seen.len(), metrics.submissions.len());
        assert!(metrics.submissions.iter().all(|counter| counter.get() == 1));
        let text = metrics.render(&[]);
        assert!(
            text.contains(r#"claimd_submissions_total{transport="coap",source="gateway",outcome="rate_limited"} 1"#)
        );
        assert!(text.ends_with("# EOF\n"));
    }
}
