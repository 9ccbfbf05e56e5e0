//! How often devices may speak, and which addresses have to wait. In memory, never waiting, never failing.
//!
//! Senders have a token bucket each, kept as the one instant at which it will be full again (GCRA): `tries` at once, then
//! one each `window / tries`. Addresses are counted exactly. Both are bounded; what is forgotten first is what matters
//! least.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ahash::RandomState;
use claim::limits::Budget;
use claim::ports::{SubmitRates, TooOften};
use claim::{DeviceId, Timestamp};

use crate::config::Config;

const SHARDS: usize = 64;

/// The [`SubmitRates`] of this node. See the module's head.
pub struct MemoryRates {
    senders: Sharded<DeviceId, Bucket>,
    addresses: Sharded<Peer, Failures>,
}

impl MemoryRates {
    /// Empty counters, bounded as configured.
    pub fn new(config: &Config) -> Self {
        Self { senders: Sharded::new(config.rate_senders), addresses: Sharded::new(config.rate_addresses) }
    }
}

impl SubmitRates for MemoryRates {
    fn admit(&self, device: DeviceId, cost: u32, budget: Budget, now: Timestamp) -> Result<(), TooOften> {
        let mut shard = self.senders.shard(&device);
        let bucket = shard.get_mut(device, now, || Bucket { full_at_us: i64::MIN });
        bucket.admit(cost, budget, now)
    }

    fn address_locked(&self, address: IpAddr, now: Timestamp) -> Result<(), TooOften> {
        let peer = Peer::of(address);
        match self.addresses.shard(&peer).entries.get(&peer) {
            Some(failures) if now < failures.locked_until => {
                Err(TooOften { retry_after: now.until(failures.locked_until) })
            }
            _ => Ok(()),
        }
    }

    fn refused_credential(&self, address: IpAddr, budget: Budget, lockout: Duration, now: Timestamp) {
        let peer = Peer::of(address);
        let mut shard = self.addresses.shard(&peer);
        let failures = shard.get_mut(peer, now, Failures::default);
        failures.window = budget.window;
        failures.recent.retain(|at| now < at.plus(budget.window));
        failures.recent.push(now);
        if failures.recent.len() >= budget.tries as usize {
            failures.recent = Vec::new();
            failures.locked_until = now.plus(lockout);
        }
    }
}

/// A token bucket as the instant at which it will be full again, in microseconds since 1970.
struct Bucket {
    full_at_us: i64,
}

impl Bucket {
    fn admit(&mut self, cost: u32, budget: Budget, now: Timestamp) -> Result<(), TooOften> {
        let now_us = micros(now);
        let window_us = i64::try_from(budget.window.as_micros()).unwrap_or(i64::MAX);
        let Some(each_us) = window_us.checked_div(i64::from(budget.tries)) else {
            return Err(TooOften { retry_after: budget.window });
        };
        let full_at_us = self.full_at_us.max(now_us).saturating_add(each_us.saturating_mul(i64::from(cost)));
        let over_us = full_at_us.saturating_sub(now_us).saturating_sub(window_us);
        if over_us > 0 {
            let wait = Duration::from_micros(over_us.unsigned_abs()).min(budget.window);
            return Err(TooOften { retry_after: wait.max(Duration::from_millis(1)) });
        }
        self.full_at_us = full_at_us;
        Ok(())
    }
}

fn micros(at: Timestamp) -> i64 {
    at.as_millis().saturating_mul(1000)
}

/// Whose failures are counted together: an IPv4 address, or the /64 that one IPv6 subscriber has to himself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Peer {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Peer {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.octets()),
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h, ..] = v6.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// The refused credentials of one peer.
struct Failures {
    recent: Vec<Timestamp>,
    window: Duration,
    locked_until: Timestamp,
}

impl Default for Failures {
    fn default() -> Self {
        Self { recent: Vec::new(), window: Duration::ZERO, locked_until: Timestamp::from_millis(i64::MIN) }
    }
}

/// Something that need not be kept for ever.
trait Fades {
    /// Whether forgetting it now changes nothing.
    fn faded(&self, now: Timestamp) -> bool;
    /// Whether it is better kept when something has to go.
    fn weighty(&self, now: Timestamp) -> bool;
}

impl Fades for Bucket {
    fn faded(&self, now: Timestamp) -> bool {
        self.full_at_us <= micros(now)
    }

    fn weighty(&self, _: Timestamp) -> bool {
        false
    }
}

impl Fades for Failures {
    fn faded(&self, now: Timestamp) -> bool {
        !self.weighty(now) && self.recent.iter().all(|at| at.plus(self.window) <= now)
    }

    fn weighty(&self, now: Timestamp) -> bool {
        now < self.locked_until
    }
}

/// Bounded maps, each under its own lock.
struct Sharded<K, V> {
    shards: Box<[Mutex<Shard<K, V>>]>,
    hasher: RandomState,
}

struct Shard<K, V> {
    entries: HashMap<K, V, RandomState>,
    most: usize,
    /// Not looked through again before this instant.
    pruned_until: Timestamp,
}

/// A full shard is looked through no more often than this.
const PRUNE_PAUSE: Duration = Duration::from_secs(1);
/// Entries looked at to find one that may go.
const CANDIDATES: usize = 16;

impl<K: Eq + Hash + Copy, V: Fades> Sharded<K, V> {
    fn new(most: usize) -> Self {
        let most = most.div_ceil(SHARDS).max(1);
        let shard = || {
            let entries = HashMap::default();
            Mutex::new(Shard { entries, most, pruned_until: Timestamp::from_millis(i64::MIN) })
        };
        Self { shards: (0..SHARDS).map(|_| shard()).collect(), hasher: RandomState::new() }
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, Shard<K, V>> {
        let index = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().entries.len()).sum()
    }
}

impl<K: Eq + Hash + Copy, V: Fades> Shard<K, V> {
    fn get_mut(&mut self, key: K, now: Timestamp, new: impl FnOnce() -> V) -> &mut V {
        if self.entries.len() >= self.most && !self.entries.contains_key(&key) {
            self.make_room(now);
        }
        self.entries.entry(key).or_insert_with(new)
    }

    fn make_room(&mut self, now: Timestamp) {
        if now >= self.pruned_until {
            self.entries.retain(|_, value| !value.faded(now));
            self.pruned_until = now.plus(PRUNE_PAUSE);
        }
        if self.entries.len() < self.most {
            return;
        }
        let candidate = self.entries.iter().take(CANDIDATES).min_by_key(|(_, value)| value.weighty(now));
        if let Some(key) = candidate.map(|(key, _)| *key) {
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests;
