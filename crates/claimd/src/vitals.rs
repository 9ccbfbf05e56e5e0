//! The server's state as operators see it: readiness, and the figures its parts keep themselves.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use claim::audit::AuditLog;
use claim::ports::Outbox;
use claim::watch::WatchFeed;
use claim_cache::SystemClock;
use registry::Registry;

use crate::admin::{Health, Readiness};
use crate::claims::Keeper;
use crate::events::DispatchStats;
use crate::metrics::{Kind, Live, Metrics, figure};
use crate::skew::Skew;
use crate::steps::Steps;
use crate::timed::Op;

/// What there is to look at.
pub(crate) struct Vitals {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) keeper: Keeper,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) skew: Arc<Skew>,
    /// By transport.
    pub(crate) listeners: Vec<(&'static str, Arc<listener::Stats>)>,
    pub(crate) mqtt: Arc<transport_mqtt::Stats>,
    pub(crate) coap: Option<Arc<transport_coap::Stats>>,
    pub(crate) dispatch: Arc<DispatchStats>,
    pub(crate) seal_errors: Arc<AtomicU64>,
    pub(crate) watch: Arc<WatchFeed>,
    pub(crate) steps: Arc<Steps>,
    pub(crate) clock: SystemClock,
    pub(crate) data_dir: PathBuf,
    pub(crate) draining: AtomicBool,
}

/// Below this a start of trouble is near: a journal segment and a database's growth must fit.
pub(crate) const DISK_LOW: u64 = 128 * 1024 * 1024;

impl Vitals {
    fn disk_free(&self) -> u64 {
        rustix::fs::statvfs(&self.data_dir).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn of_listeners(&self, live: &mut Vec<Live>) {
        let mut each = |name, help, kind, read: fn(&listener::Stats) -> f64| {
            for (transport, stats) in &self.listeners {
                live.push(Live {
                    name,
                    help,
                    kind,
                    labels: format!("{{transport=\"{transport}\"}}"),
                    value: read(stats),
                });
            }
        };
        each("connections", "Connections open now", Kind::Gauge, |stats| figure(&stats.open));
        each("connections_unauthenticated", "Of these, not signed in", Kind::Gauge, |stats| {
            figure(&stats.unauthenticated)
        });
        each("connections_accepted", "Connections accepted", Kind::Counter, |stats| figure(&stats.accepted));
        each("connections_refused", "Connections beyond a bound", Kind::Counter, |stats| {
            figure(&stats.over_connections) + figure(&stats.over_connections_per_address)
        });
        each("connections_evicted", "Silent connections closed for newer ones", Kind::Counter, |stats| {
            figure(&stats.evicted) + figure(&stats.evicted_per_address) + figure(&stats.evicted_awaited)
        });
        each("accept_errors", "Failures to accept", Kind::Counter, |stats| {
            figure(&stats.accept_errors) + figure(&stats.exhausted)
        });
    }

    fn of_transports(&self, live: &mut Vec<Live>) {
        let mut add = |name, help, kind, labels: &str, value| {
            live.push(Live { name, help, kind, labels: labels.to_owned(), value });
        };
        let mqtt = &self.mqtt;
        let coap = |read: fn(&transport_coap::Stats) -> f64| self.coap.as_deref().map_or(0.0, read);
        let bad = "Packets that are not what their protocol asks for";
        add("protocol_errors", bad, Kind::Counter, "{transport=\"mqtt\",kind=\"malformed\"}", figure(&mqtt.malformed));
        for (transport, stats) in &self.listeners {
            for (kind, count) in [("proxy_header", &stats.proxy_malformed), ("proxy_header_late", &stats.proxy_late)] {
                let labels = format!("{{transport=\"{transport}\",kind=\"{kind}\"}}");
                add("protocol_errors", bad, Kind::Counter, &labels, figure(count));
            }
        }
        let malformed = coap(|stats| figure(&stats.malformed));
        add("protocol_errors", bad, Kind::Counter, "{transport=\"coap\",kind=\"malformed\"}", malformed);
        add("mqtt_sessions", "Sessions signed in", Kind::Gauge, "", figure(&mqtt.sessions));
        add("mqtt_subscriptions", "Subscriptions", Kind::Gauge, "", figure(&mqtt.subscriptions));
        add("mqtt_takeovers", "Sessions ended by a later one", Kind::Counter, "", figure(&mqtt.takeovers));
        add(
            "mqtt_pushes_dropped",
            "Pushes too large for their client",
            Kind::Counter,
            "",
            figure(&mqtt.pushes_dropped),
        );
        let suppressed = "CoAP answers withheld";
        let challenges = coap(|stats| figure(&stats.challenges));
        add("coap_suppressed", suppressed, Kind::Counter, "{reason=\"echo\"}", challenges);
        let silences = coap(|stats| figure(&stats.silences));
        add("coap_suppressed", suppressed, Kind::Counter, "{reason=\"silence\"}", silences);
        type Read = fn(&transport_coap::Stats) -> f64;
        let counters: [(_, _, Read); 5] = [
            ("coap_duplicates", "Requests seen before", |stats| figure(&stats.duplicates)),
            ("coap_overloads", "Requests refused because too many were open", |stats| figure(&stats.overloads)),
            ("coap_retransmits", "Own messages sent again", |stats| figure(&stats.retransmits)),
            ("coap_send_errors", "Datagrams the kernel would not send", |stats| figure(&stats.send_errors)),
            ("coap_dropped", "Datagrams the kernel dropped", |stats| figure(&stats.dropped)),
        ];
        for (name, help, read) in counters {
            add(name, help, Kind::Counter, "", coap(read));
        }
        add("live_viewers", "Live views open", Kind::Gauge, "", self.watch.viewers() as f64);
        add("coap_observations", "Observations open", Kind::Gauge, "", coap(|stats| figure(&stats.observations)));
    }

    fn of_stores(&self, live: &mut Vec<Live>, outbox: &Waiting, unsealed: u64) {
        let mut add = |name, help, kind, value| live.push(Live { name, help, kind, labels: String::new(), value });
        let cache = self.keeper.stats();
        add("pending_claims", "Claims held", Kind::Gauge, cache.pending as f64);
        add("pending_claims_limit", "Claims that may be held", Kind::Gauge, cache.limit as f64);
        let fullest = "Pending claims of the fullest tenant as a part of what it may have";
        add("pending_fullest_tenant_ratio", fullest, Kind::Gauge, cache.fullest_tenant_ratio);
        add("pending_expired", "Claims that ended unclaimed", Kind::Counter, cache.expired_total as f64);
        add("claim_journal_bytes", "The claim journal on disk", Kind::Gauge, cache.journal_bytes as f64);
        let registry = self.registry.stats();
        add("registry_queued", "Changes waiting for the writer", Kind::Gauge, figure(&registry.queued));
        add("registry_refused", "Changes refused because too many waited", Kind::Counter, figure(&registry.refused));
        add("registry_commits", "Transactions committed", Kind::Counter, figure(&registry.commits));
        add("registry_changes", "Changes in them", Kind::Counter, figure(&registry.changes));
        add(
            "registry_retried",
            "Changes run again, others being in their way",
            Kind::Counter,
            figure(&registry.retried),
        );
        add("registry_errors", "Transactions that failed", Kind::Counter, figure(&registry.errors));
        add("audit_notes_dropped", "Audit notes dropped", Kind::Counter, figure(&registry.notes_dropped));
        add("audit_unsealed", "Audit rows not chained yet", Kind::Gauge, unsealed as f64);
        add("audit_seal_errors", "Failures to chain audit rows", Kind::Counter, figure(&self.seal_errors));
        add("outbox_pending", "Events waiting", Kind::Gauge, outbox.events.max(0) as f64);
        add("outbox_oldest_seconds", "Age of the oldest of them", Kind::Gauge, outbox.oldest.as_secs_f64());
        add("outbox_errors", "Failures to hand events on", Kind::Counter, figure(&self.dispatch.errors));
        let ahead = "How far the clock that nodes share is ahead of this machine's";
        add("clock_ahead_seconds", ahead, Kind::Gauge, self.skew.ahead() as f64 / 1000.0);
        add("disk_free_bytes", "Room on the data folder's disk", Kind::Gauge, self.disk_free() as f64);
    }
}

/// Events that this node has not handed on.
struct Waiting {
    events: i64,
    oldest: Duration,
}

impl Vitals {
    async fn waiting(&self) -> Waiting {
        let position = self.dispatch.position.load(Ordering::Relaxed);
        let head = Outbox::head(&*self.registry).await.unwrap_or_default();
        let events = head.saturating_sub(position);
        if events <= 0 {
            return Waiting { events: 0, oldest: Duration::ZERO };
        }
        let oldest = Outbox::tail(&*self.registry, position, 1).await.unwrap_or_default();
        let oldest = oldest.first().map_or(Duration::ZERO, |event| event.at.until(self.clock.now()));
        Waiting { events, oldest }
    }

    fn of_host(&self, live: &mut Vec<Live>, ready: bool) {
        let mut add = |name, help, kind, labels: &str, value| {
            live.push(Live { name, help, kind, labels: labels.to_owned(), value });
        };
        add("ready", "Whether /readyz says so", Kind::Gauge, "", f64::from(u8::from(ready)));
        let steps = "Times that the wall clock was set";
        let (forward, backward) = (figure(&self.steps.forward), figure(&self.steps.backward));
        add("clock_steps", steps, Kind::Counter, "{direction=\"forward\"}", forward);
        add("clock_steps", steps, Kind::Counter, "{direction=\"backward\"}", backward);
        for (op, unanswered) in Op::ALL.into_iter().zip(&self.metrics.times.unanswered) {
            let (store, op) = op.labels();
            let labels = format!("{{store=\"{store}\",op=\"{op}\"}}");
            add("store_errors", "Questions that a store left unanswered", Kind::Counter, &labels, figure(unanswered));
        }
    }
}

impl Health for Vitals {
    async fn ready(&self) -> Readiness {
        // What does not answer has no schema either.
        let schema = self.registry.schema_fits().await;
        let registry = schema.is_ok();
        let schema = schema.unwrap_or(false);
        let clock = self.skew.tolerable();
        let cache = self.keeper.healthy();
        let disk_free_bytes = self.disk_free();
        let draining = self.draining.load(Ordering::Relaxed);
        let word = |up| if up { "up" } else { "down" };
        Readiness {
            ready: registry && schema && cache && clock && !draining && disk_free_bytes > DISK_LOW,
            registry: word(registry),
            schema: word(schema),
            claim_cache: word(cache),
            clock: word(clock),
            clock_ahead_ms: self.skew.ahead(),
            disk_free_bytes,
            draining,
        }
    }

    async fn metrics(&self) -> String {
        let waiting = self.waiting().await;
        let ready = self.ready().await.ready;
        let unsealed = AuditLog::unsealed(&*self.registry).await.unwrap_or_default();
        let mut live = Vec::new();
        self.of_listeners(&mut live);
        self.of_transports(&mut live);
        self.of_stores(&mut live, &waiting, unsealed);
        self.of_host(&mut live, ready);
        self.metrics.render(&live)
    }
}
