//! Pure rules: how long a claim lives, who is claimable, what a gateway may do, what a refusal may tell.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::message::ClaimMessage;
use crate::time::Timestamp;

/// The `[claim]` section of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClaimPolicy {
    /// Whether a device is claimable unless its maker says otherwise. When false, only devices with the attribute
    /// `claimingAllowed` = true are.
    pub allow_by_default: bool,
    /// Whether a claim spends a stored claim code. An application may say otherwise.
    pub invalidate_code_on_claim: bool,
    /// Lifetime of a claim whose message names none.
    #[serde(with = "humantime_serde")]
    pub lifetime_default: Duration,
    /// Longest lifetime; longer requests are shortened, not refused.
    #[serde(with = "humantime_serde")]
    pub lifetime_max: Duration,
    /// Longest lifetime of a claim without a secret: a name is no secret.
    #[serde(with = "humantime_serde")]
    pub lifetime_max_without_secret: Duration,
}

impl Default for ClaimPolicy {
    fn default() -> Self {
        Self {
            allow_by_default: true,
            invalidate_code_on_claim: true,
            lifetime_default: Duration::from_secs(600),
            lifetime_max: Duration::from_secs(24 * 3600),
            lifetime_max_without_secret: Duration::from_secs(120),
        }
    }
}

impl ClaimPolicy {
    /// The lifetime a message gets: the default when it names none or one ≤ 0, shortened to the maximum that applies.
    pub fn lifetime(&self, message: &ClaimMessage<'_>) -> Duration {
        let wanted = match message.duration_ms {
            Some(ms) if ms > 0 => Duration::from_millis(ms.unsigned_abs()),
            _ => self.lifetime_default,
        };
        let max = if message.secret.is_empty() {
            self.lifetime_max.min(self.lifetime_max_without_secret)
        } else {
            self.lifetime_max
        };
        wanted.min(max)
    }

    /// Whether the maker lets this device be claimed at all.
    pub fn allows(&self, device: &Device) -> bool {
        device.authorized && !device.frozen && (self.allow_by_default || device.claiming_allowed)
    }
}

/// Which devices a gateway may speak for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GatewayScope {
    /// Devices created through it or related to it by the maker.
    #[default]
    Related,
    /// Any device of the tenant (ThingsBoard's rule).
    Tenant,
}

/// The `[gateway]` section of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayPolicy {
    /// Which devices a gateway may speak for.
    pub scope: GatewayScope,
    /// Most entries in one batch; a larger one is refused whole.
    pub batch_devices: usize,
    /// New devices one gateway may create in a day.
    pub new_devices_per_day: u32,
    /// New devices one gateway may create in all.
    pub new_devices_total: u32,
}

impl Default for GatewayPolicy {
    fn default() -> Self {
        Self {
            scope: GatewayScope::Related,
            batch_devices: 2_000,
            new_devices_per_day: 1_000,
            new_devices_total: 10_000,
        }
    }
}

/// What a refusal tells someone who neither showed the right secret nor owns the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Disclosure {
    /// One answer for unknown, foreign, not open, owned, and wrong.
    #[default]
    Strict,
    /// ThingsBoard's answers: 404 for unknown names, `CLAIMED` for owned devices.
    Thingsboard,
}

/// A stored code's validity, half-open: valid from `from` until just before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowState {
    /// Not begun.
    NotYet,
    /// Valid now.
    Open,
    /// Over.
    Ended,
}

/// Where `now` falls in the half-open window `[from, until)`; either side may be open-ended.
pub fn window(from: Option<Timestamp>, until: Option<Timestamp>, now: Timestamp) -> WindowState {
    if from.is_some_and(|from| now < from) {
        WindowState::NotYet
    } else if until.is_some_and(|until| now >= until) {
        WindowState::Ended
    } else {
        WindowState::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::ClaimSecret;

    fn lifetime(secret: &str, duration_ms: Option<i64>) -> u128 {
        let message = ClaimMessage { secret: ClaimSecret::parse(secret).unwrap(), duration_ms };
        ClaimPolicy::default().lifetime(&message).as_millis()
    }

    #[test]
    fn lifetimes_default_to_ten_minutes_and_end_at_a_day() {
        assert_eq!(lifetime("s", None), 600_000);
        assert_eq!(lifetime("s", Some(0)), 600_000);
        assert_eq!(lifetime("s", Some(-5)), 600_000);
        assert_eq!(lifetime("s", Some(1)), 1);
        assert_eq!(lifetime("s", Some(86_399_999)), 86_399_999);
        assert_eq!(lifetime("s", Some(86_400_000)), 86_400_000);
        assert_eq!(lifetime("s", Some(86_400_001)), 86_400_000);
        assert_eq!(lifetime("s", Some(i64::MAX)), 86_400_000);
    }

    #[test]
    fn a_claim_without_a_secret_lives_two_minutes_at_most() {
        assert_eq!(lifetime("", None), 120_000);
        assert_eq!(lifetime("", Some(119_999)), 119_999);
        assert_eq!(lifetime("", Some(120_000)), 120_000);
        assert_eq!(lifetime("", Some(120_001)), 120_000);
    }

    #[test]
    fn windows_are_half_open() {
        let at = Timestamp::from_millis;
        let (from, until) = (Some(at(10)), Some(at(20)));
        assert_eq!(window(from, until, at(9)), WindowState::NotYet);
        assert_eq!(window(from, until, at(10)), WindowState::Open);
        assert_eq!(window(from, until, at(19)), WindowState::Open);
        assert_eq!(window(from, until, at(20)), WindowState::Ended);
        assert_eq!(window(None, None, at(0)), WindowState::Open);
    }
}
