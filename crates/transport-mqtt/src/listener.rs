//! The MQTT listener as the binary sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::listener::{Connection, Drained, Listener};
use claim::event::StateFeed;
use claim::{Intake, Timestamp};

use crate::config::{Config, Limits};
use crate::hub::{Hub, Pusher, Stats};
use crate::wire::Tcp;
use crate::{session, websocket};

/// What the MQTT transport needs.
pub struct MqttParts<'a> {
    /// The domain.
    pub intake: Intake,
    /// Where claim states and revocations come from.
    pub feed: &'a StateFeed,
    /// The wall clock.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// The next request's id; one sequence for the whole process.
    pub request_ids: Arc<AtomicU64>,
    /// The `[mqtt]` section.
    pub config: Config,
    /// Shared bounds.
    pub limits: Limits,
}

/// What all sessions share.
pub(crate) struct Shared {
    pub(crate) intake: Intake,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    request_ids: Arc<AtomicU64>,
    pub(crate) config: Config,
    pub(crate) limits: Limits,
    pub(crate) hub: Arc<Hub>,
}

impl Shared {
    /// Without a socket and a feed.
    pub(crate) fn for_fuzzing(intake: Intake, config: Config, limits: Limits) -> Arc<Self> {
        let hub = Hub::new(config.outbound_queue_bytes, intake.clone());
        let clock = Arc::new(|| Timestamp::from_millis(1_790_000_000_000));
        Arc::new(Self { intake, clock, request_ids: Arc::default(), config, limits, hub })
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    pub(crate) fn next_request(&self) -> u64 {
        self.request_ids.fetch_add(1, Ordering::Relaxed)
    }
}

/// The MQTT transport. Cheap to clone.
#[derive(Clone)]
pub struct MqttTransport {
    shared: Arc<Shared>,
}

impl MqttTransport {
    /// The transport over these parts; subscribes to the feed.
    pub fn new(parts: MqttParts<'_>) -> Self {
        let hub = Hub::new(parts.config.outbound_queue_bytes, parts.intake.clone());
        parts.feed.subscribe(Arc::new(Pusher(Arc::clone(&hub))));
        let MqttParts { intake, feed: _, clock, request_ids, config, limits } = parts;
        Self { shared: Arc::new(Shared { intake, clock, request_ids, config, limits, hub }) }
    }

    /// Counters, live.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.shared.hub.stats)
    }

    /// Serves MQTT over TCP until [`Serving::drain`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn serve(&self, listener: Listener) -> Serving {
        let shared = Arc::clone(&self.shared);
        let serving = listener.serve(move |connection| {
            let Connection { stream, peer, seat } = connection;
            session::run(Tcp(stream), peer.ip().to_canonical(), seat, Arc::clone(&shared))
        });
        Serving { serving, hub: Arc::clone(&self.shared.hub) }
    }

    /// Serves MQTT over WebSocket at `/mqtt`.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn serve_websocket(&self, listener: Listener) -> Serving {
        let shared = Arc::clone(&self.shared);
        let serving = listener.serve(move |connection| websocket::run(connection, Arc::clone(&shared)));
        Serving { serving, hub: Arc::clone(&self.shared.hub) }
    }
}

/// MQTT at work on one address.
pub struct Serving {
    serving: ::listener::Serving,
    hub: Arc<Hub>,
}

impl Serving {
    /// The address really bound.
    pub fn local_addr(&self) -> std::net::SocketAddr {
        self.serving.local_addr()
    }

    /// Connection counters, live.
    pub fn stats(&self) -> Arc<::listener::Stats> {
        self.serving.stats()
    }

    /// Stops accepting, answers what is in flight, says goodbye (0x8B), and cuts what is left after `grace`.
    pub async fn drain(self, grace: Duration) -> Drained {
        self.hub.drain();
        self.serving.drain(grace).await
    }
}
