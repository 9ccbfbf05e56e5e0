//! Budgets and quotas as data: how often, how many, how large. Counting is the ports' work.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// So many in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// How many.
    pub tries: u32,
    /// In how long.
    pub window: Duration,
}

/// Wrong secrets an owner may show (decision D3): reserved before the comparison, refunded when the secret was right or
/// nothing was evaluated. Counted by requested name, whether or not such a device exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttemptBudgets {
    /// Wrong tries of one account at one device in `account_window`. 1 or more.
    pub per_account_and_device: u32,
    /// Wrong tries of one account at all devices in `account_window`. 1 or more.
    pub per_account: u32,
    /// The window of both account budgets.
    #[serde(with = "humantime_serde")]
    pub account_window: Duration,
    /// Wrong tries of all accounts at one device in `device_window`. 1 or more.
    pub per_device: u32,
    /// The window of the device budget.
    #[serde(with = "humantime_serde")]
    pub device_window: Duration,
}

impl Default for AttemptBudgets {
    fn default() -> Self {
        Self {
            per_account_and_device: 5,
            per_account: 20,
            account_window: Duration::from_secs(600),
            per_device: 50,
            device_window: Duration::from_secs(3600),
        }
    }
}

/// Bounds on what devices send, whatever the transport.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IntakeLimits {
    /// Claim messages of one device in a minute.
    pub submit_per_device: u32,
    /// Claim entries of one gateway in a minute; its batches count by their entries.
    pub submit_per_gateway: u32,
    /// Refused device credentials of one address in a minute; then the address waits `auth_lockout`.
    pub auth_failures_per_address: u32,
    /// How long an address waits after too many refused credentials.
    #[serde(with = "humantime_serde")]
    pub auth_lockout: Duration,
}

impl Default for IntakeLimits {
    fn default() -> Self {
        Self {
            submit_per_device: 60,
            submit_per_gateway: 20_000,
            auth_failures_per_address: 30,
            auth_lockout: Duration::from_secs(60),
        }
    }
}
