//! The `[mqtt]` section, and the shared bounds this crate is handed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The `[mqtt]` section of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port for TCP; empty: do not listen.
    pub bind: String,
    /// Address and port for WebSocket, path `/mqtt`; empty: do not listen.
    pub ws_bind: String,
    /// Web origins that may open a WebSocket; `*` allows all. Clients that send no `Origin` are no browsers, and pass.
    pub ws_origins: Vec<String>,
    /// Longest keep alive; longer ones and 0 are held to it. The connection is closed at 1.5 times. 1 s to 65,535 s.
    #[serde(with = "humantime_serde")]
    pub keep_alive_max: Duration,
    /// QoS 1 publishes of one connection that may be in work at once, 1 to 65,535.
    pub receive_maximum: u16,
    /// Subscriptions of one connection.
    pub subscriptions: usize,
    /// Bytes of pushes that may wait for one slow connection; then it is closed.
    pub outbound_queue_bytes: usize,
    /// Publishes to ThingsBoard's other topics: `ack`: acknowledged and dropped; `relay`: also passed to the subscriptions
    /// of the same device.
    pub other_topics: OtherTopics,
}

/// What happens to publishes that are no claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OtherTopics {
    /// Acknowledged and dropped.
    #[default]
    Ack,
    /// Passed to the other sessions of the same device too.
    Relay,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: "127.0.0.1:1883".to_owned(),
            ws_bind: "127.0.0.1:8083".to_owned(),
            ws_origins: vec!["*".to_owned()],
            keep_alive_max: Duration::from_secs(20 * 60),
            receive_maximum: 100,
            subscriptions: 32,
            outbound_queue_bytes: 256 * 1024,
            other_topics: OtherTopics::Ack,
        }
    }
}

/// Bounds shared with other transports, from `[limits]` and `[timeouts]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest payload of a PUBLISH, bytes (`limits.payload_bytes`).
    pub payload_bytes: usize,
    /// How long the whole CONNECT may take (`timeouts.connect`).
    pub connect_timeout: Duration,
    /// How long a WebSocket handshake may take (`timeouts.tls_handshake`).
    pub handshake_timeout: Duration,
    /// Claim messages of a device a minute, told to clients that ask for their limits (`limits.submit_per_device`).
    pub submit_per_device: u32,
    /// The same for a gateway's entries (`limits.submit_per_gateway`).
    pub submit_per_gateway: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload_bytes: 64 * 1024,
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            submit_per_device: 60,
            submit_per_gateway: 20_000,
        }
    }
}

/// Longest topic, bytes; a longer one gets 0x90.
pub(crate) const TOPIC_BYTES: usize = 512;
/// Largest CONNECT, bytes: it is read from strangers.
pub(crate) const CONNECT_BYTES: usize = 8 * 1024;
/// What a packet may have beside its payload: topic, packet id, properties.
pub(crate) const OVERHEAD_BYTES: usize = TOPIC_BYTES + 4 * 1024;
/// Longest client identifier, bytes.
pub(crate) const CLIENT_ID_BYTES: usize = 256;
/// Highest inbound topic alias.
pub(crate) const TOPIC_ALIASES: u16 = 8;
