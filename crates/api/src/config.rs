//! The owner and maker API's settings.

use std::time::Duration;

use claim::policy::Disclosure;
use claim::watch::WatchLimits;
use serde::{Deserialize, Serialize};

/// The `[owner_api]` section of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What someone without the right secret learns: `strict` (the same for everything) or `thingsboard`.
    pub disclosure: Disclosure,
    /// Largest request body, bytes.
    pub body_bytes: usize,
    /// How long a bearer is good for.
    #[serde(with = "humantime_serde")]
    pub bearer_lifetime: Duration,
    /// How long a refresh token is good for; each use replaces it.
    #[serde(with = "humantime_serde")]
    pub refresh_lifetime: Duration,
    /// How long an activation link is good for.
    #[serde(with = "humantime_serde")]
    pub activation_lifetime: Duration,
    /// Wrong passwords of one account in a window.
    pub wrong_passwords_per_account: u32,
    /// Wrong passwords from one address (IPv6: one /64) in a window.
    pub wrong_passwords_per_address: u32,
    /// The window of wrong passwords.
    #[serde(with = "humantime_serde")]
    pub wrong_passwords_window: Duration,
    /// API keys of an account.
    pub api_keys_per_account: u32,
    /// Applications that a customer's users may make.
    pub applications_per_customer: u32,
    /// Devices that a customer's users may register in them.
    pub devices_per_customer: u32,
    /// Largest file of an import, bytes.
    pub import_bytes: u64,
    /// Rows of a file at the most.
    pub import_rows: u64,
    /// Imports of a tenant under way at once.
    pub imports_per_tenant: u32,
    /// How long an import that is over, and its codes, are kept.
    #[serde(with = "humantime_serde")]
    pub imports_kept: Duration,
    /// Live views (`/api/claimd/v1/watch`) open at once on this node.
    pub live_viewers: usize,
    /// Happenings that wait for a live view that does not keep up; beyond them it misses some. 1 or more.
    pub live_queue: usize,
    /// Passwords being hashed at once, 19 MiB each; 0: as many as there are CPUs.
    pub hashing_at_once: usize,
    /// Requests that wait for a free hasher; one more is told to come again.
    pub hashing_queue: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            disclosure: Disclosure::Strict,
            body_bytes: 1024 * 1024,
            bearer_lifetime: Duration::from_secs(15 * 60),
            refresh_lifetime: Duration::from_secs(7 * 24 * 3600),
            activation_lifetime: Duration::from_secs(24 * 3600),
            wrong_passwords_per_account: 10,
            wrong_passwords_per_address: 30,
            wrong_passwords_window: Duration::from_secs(15 * 60),
            api_keys_per_account: 20,
            applications_per_customer: 100,
            devices_per_customer: 10_000,
            import_bytes: 1024 * 1024 * 1024,
            import_rows: 2_000_000,
            imports_per_tenant: 4,
            imports_kept: Duration::from_secs(7 * 24 * 3600),
            live_viewers: WatchLimits::default().viewers,
            live_queue: WatchLimits::default().queue,
            hashing_at_once: 0,
            hashing_queue: 64,
        }
    }
}

impl Config {
    /// The bounds of the live feed.
    pub fn watch(&self) -> WatchLimits {
        WatchLimits { viewers: self.live_viewers, queue: self.live_queue }
    }
}
