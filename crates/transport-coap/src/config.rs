//! The `[coap]` section, and what other sections hand to this transport.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The `[coap]` section. Bounds are for the whole node; each socket gets its share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and UDP port, for example `0.0.0.0:5683` or `[::]:5683`; port 0 takes a free one; empty: do not listen.
    pub bind: String,
    /// Sockets on that port, each with its own task. 0: one a core. At most 1,024.
    pub sockets: usize,
    /// Which Content-Format a claim may name: `known` (none, 0, 42, 50) or `any`.
    pub content_format: ContentFormats,
    /// Largest datagram read, bytes; a longer one is answered 4.13. 1,152 to 65,535.
    pub datagram_bytes: usize,
    /// Datagrams read or sent by one system call. 1 to 64.
    pub batch: usize,
    /// Kernel receive buffer of each socket, bytes; the kernel may grant less (`net.core.rmem_max`).
    pub receive_buffer_bytes: usize,
    /// Message ids remembered to answer duplicates (RFC 7252 §4.5); 16 bytes each. Beyond, older ones go early.
    pub dedup_entries: usize,
    /// Exchanges not yet finished: requests being run and own messages not yet acknowledged.
    pub exchanges: usize,
    /// The same, of one peer.
    pub exchanges_per_peer: usize,
    /// Memory of block-wise transfers not yet complete (RFC 7959), bytes.
    pub block_bytes: usize,
    /// Block-wise transfers one peer may have open.
    pub block_transfers_per_peer: usize,
    /// How long a block-wise transfer may pause.
    #[serde(with = "humantime_serde")]
    pub block_idle: Duration,
    /// Bytes sent to a peer that has not shown that it receives at its address, for each byte it sent (RFC 9175 §2.3,
    /// RFC 7252 §11.3). 1 to 10.
    pub unvalidated_ratio: usize,
    /// Addresses remembered as validated.
    pub validated_peers: usize,
    /// How long an address counts as validated after its last proof.
    #[serde(with = "humantime_serde")]
    pub validated_for: Duration,
    /// Observations of claim states (RFC 7641).
    pub observations: usize,
    /// The same, of one peer.
    pub observations_per_peer: usize,
    /// An observer is asked for a sign of life when it has heard nothing for so long. At most 24 h (RFC 7641 §4.5).
    #[serde(with = "humantime_serde")]
    pub observe_refresh: Duration,
    /// When a claim is not answered by then, the request is acknowledged and the response comes by itself. Below 2 s, or
    /// every device would send again first.
    #[serde(with = "humantime_serde")]
    pub piggyback_within: Duration,
    /// First wait for an acknowledgement (ACK_TIMEOUT, RFC 7252 §4.8); raise it for NB-IoT.
    #[serde(with = "humantime_serde")]
    pub ack_timeout: Duration,
    /// How often a message of ours is sent again (MAX_RETRANSMIT). At most 10.
    pub max_retransmit: u8,
}

/// Which Content-Format option a claim may carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentFormats {
    /// None, text (0), octet-stream (42) or JSON (50); the device's profile says what the body is.
    #[default]
    Known,
    /// Any; the option is ignored.
    Any,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: "127.0.0.1:5683".to_owned(),
            sockets: 0,
            content_format: ContentFormats::Known,
            datagram_bytes: 4096,
            batch: 64,
            receive_buffer_bytes: 4 * 1024 * 1024,
            dedup_entries: 4 * 1024 * 1024,
            exchanges: 100_000,
            exchanges_per_peer: 1_000,
            block_bytes: 16 * 1024 * 1024,
            block_transfers_per_peer: 4,
            block_idle: Duration::from_secs(30),
            unvalidated_ratio: 3,
            validated_peers: 1_000_000,
            validated_for: Duration::from_secs(300),
            observations: 100_000,
            observations_per_peer: 100,
            observe_refresh: Duration::from_secs(24 * 3600),
            piggyback_within: Duration::from_millis(500),
            ack_timeout: Duration::from_secs(2),
            max_retransmit: 4,
        }
    }
}

/// What the shared sections `[limits]` and `[timeouts]` say that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `limits.payload_bytes`: largest body of a claim, whole.
    pub payload_bytes: usize,
    /// `limits.auth_failures_per_address`: so many refused credentials a minute from an address that has proven nothing,
    /// and its next requests must show an Echo first.
    pub auth_failures_per_address: u32,
    /// `timeouts.store`: a request not answered by then is answered 5.03.
    pub store_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { payload_bytes: 64 * 1024, auth_failures_per_address: 30, store_timeout: Duration::from_secs(2) }
    }
}

/// A value of the `[coap]` section that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFault {
    /// The key, such as `coap.batch`.
    pub key: &'static str,
    /// What is wrong with it, and what is right.
    pub problem: &'static str,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.key, self.problem)
    }
}

impl std::error::Error for ConfigFault {}

impl Config {
    /// All faults, so that one look at the report mends them all.
    pub fn faults(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        let mut check = |good: bool, key, problem| {
            if !good {
                faults.push(ConfigFault { key, problem });
            }
        };
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let positive = "is 0; give 1 or more, there is no switch for unlimited";
        check(
            self.bind.is_empty() || self.address().is_some(),
            "coap.bind",
            "is no address and port; write it like 127.0.0.1:5683",
        );
        check(self.sockets <= 1024, "coap.sockets", "is more than 1024");
        check((1152..=65_535).contains(&self.datagram_bytes), "coap.datagram_bytes", "is not 1152 to 65535");
        check((1..=64).contains(&self.batch), "coap.batch", "is not 1 to 64");
        check(self.receive_buffer_bytes <= i32::MAX as usize, "coap.receive_buffer_bytes", "is more than 2 GiB");
        check(self.dedup_entries > 0, "coap.dedup_entries", positive);
        check(self.exchanges > 0, "coap.exchanges", positive);
        check(self.exchanges_per_peer > 0, "coap.exchanges_per_peer", positive);
        check(self.block_bytes > 0, "coap.block_bytes", positive);
        check(self.block_transfers_per_peer > 0, "coap.block_transfers_per_peer", positive);
        check(!self.block_idle.is_zero(), "coap.block_idle", positive);
        check((1..=10).contains(&self.unvalidated_ratio), "coap.unvalidated_ratio", "is not 1 to 10");
        check(self.validated_peers > 0, "coap.validated_peers", positive);
        check(!self.validated_for.is_zero(), "coap.validated_for", positive);
        check(self.observations > 0, "coap.observations", positive);
        check(self.observations_per_peer > 0, "coap.observations_per_peer", positive);
        let refresh = self.observe_refresh;
        check(!refresh.is_zero() && refresh <= DAY, "coap.observe_refresh", "is not above 0 and at most 24h");
        check(self.piggyback_within < Duration::from_secs(2), "coap.piggyback_within", "is 2s or more");
        check(
            !self.ack_timeout.is_zero() && self.ack_timeout <= DAY,
            "coap.ack_timeout",
            "is not above 0 and at most 24h",
        );
        check(self.max_retransmit <= 10, "coap.max_retransmit", "is more than 10");
        faults
    }

    /// `bind`, read.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.bind.parse().ok()
    }

    /// How many sockets to open.
    pub(crate) fn socket_count(&self) -> usize {
        match self.sockets {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_fault() {
        assert_eq!(Config::default().faults(), []);
    }

    #[test]
    fn every_key_survives_a_round_trip_and_unknown_ones_are_refused() {
        let text = toml::to_string(&Config::default()).unwrap();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), Config::default());
        assert!(toml::from_str::<Config>("dedup_entrys = 1").is_err());
    }

    #[test]
    fn every_value_out_of_its_range_is_named() {
        let bad = Config {
            bind: "localhost".to_owned(),
            sockets: 1025,
            datagram_bytes: 1151,
            batch: 65,
            receive_buffer_bytes: usize::MAX,
            dedup_entries: 0,
            exchanges: 0,
            exchanges_per_peer: 0,
            block_bytes: 0,
            block_transfers_per_peer: 0,
            block_idle: Duration::ZERO,
            unvalidated_ratio: 11,
            validated_peers: 0,
            validated_for: Duration::ZERO,
            observations: 0,
            observations_per_peer: 0,
            observe_refresh: Duration::from_secs(24 * 3600 + 1),
            piggyback_within: Duration::from_secs(2),
            ack_timeout: Duration::ZERO,
            max_retransmit: 11,
            ..Config::default()
        };
        let keys: Vec<_> = bad.faults().iter().map(|fault| fault.key).collect();
        // Every key but the choice, whose type leaves no wrong value.
        assert_eq!(keys.len(), toml::to_string(&bad).unwrap().lines().count() - 1, "{keys:?}");
        for (datagram_bytes, fine) in [(1151, false), (1152, true), (65_535, true), (65_536, false)] {
            let config = Config { datagram_bytes, ..Config::default() };
            assert_eq!(config.faults().is_empty(), fine, "{datagram_bytes}");
        }
    }
}
