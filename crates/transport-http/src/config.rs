//! The `[http]` section, and the shared bounds this crate is handed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The `[http]` section of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port of the device API, the owner API and the pages.
    pub bind: String,
    /// Longest `?wait=` of a device that waits for its claim state to change; longer requests are shortened.
    #[serde(with = "humantime_serde")]
    pub wait_max: Duration,
    /// Devices' requests that may wait at once; one more is told to come again.
    pub waiting: usize,
    /// The same, of one device.
    pub waiting_per_device: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: "127.0.0.1:8080".to_owned(),
            wait_max: Duration::from_secs(60),
            waiting: 10_000,
            waiting_per_device: 4,
        }
    }
}

/// Bounds shared with other transports, from `[limits]` and `[timeouts]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest body of a device's request, bytes (`limits.payload_bytes`).
    pub payload_bytes: usize,
    /// Largest header section of a request, bytes (`limits.http_header_bytes`).
    pub header_bytes: usize,
    /// Longest request target, bytes (`limits.http_uri_bytes`).
    pub uri_bytes: usize,
    /// How long a request's head may take, and how long a kept connection may be idle (`timeouts.http_header`).
    pub header_timeout: Duration,
    /// How long a request's body may take in all (`timeouts.http_request`).
    pub request_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload_bytes: 64 * 1024,
            header_bytes: 16 * 1024,
            uri_bytes: 4 * 1024,
            header_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
        }
    }
}
