//! Wrong tries of a single node, counted exactly: each counter is the list of the instants still inside its window, which
//! its own budget keeps short.
//!
//! One lock makes a reservation atomic over its three counters. When the bound on keys is met nothing is evaluated: a
//! counter that must be forgotten would be a budget that can be passed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use claim::limits::{AttemptBudgets, Budget};
use claim::ports::{AttemptKeys, AttemptLedger, AttemptScope, PortFuture, Reservation, ReserveError, Unavailable};
use claim::{Timestamp, UserId};

use crate::config::Config;

/// The [`AttemptLedger`] of a single node. See the module's head.
pub struct MemoryAttempts {
    counters: Mutex<Counters>,
    most_keys: usize,
}

#[derive(Default)]
struct Counters {
    /// By name first, so that those at one device stand together.
    pairs: Windows<([u8; 16], UserId)>,
    accounts: Windows<UserId>,
    devices: Windows<[u8; 16]>,
}

impl MemoryAttempts {
    /// Empty counters. After a crash, hand the charged tries of the last hour to [`MemoryAttempts::restore`].
    pub fn new(config: &Config) -> Self {
        Self { counters: Mutex::default(), most_keys: config.attempt_keys.max(1) }
    }

    /// Counts tries that were charged before this process began, as the audit log has them. Before serving.
    pub fn restore(&self, charged: impl IntoIterator<Item = (AttemptKeys, Timestamp)>) {
        let mut counters = self.lock();
        for (keys, at) in charged {
            counters.count(keys, at);
        }
    }

    /// How many pairs of account and device are counted now, spent ones included.
    pub fn keys(&self) -> usize {
        self.lock().pairs.tries.len()
    }

    fn lock(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_reserve(
        &self,
        keys: AttemptKeys,
        budgets: &AttemptBudgets,
        now: Timestamp,
    ) -> Result<Reservation, ReserveError> {
        let pair = Budget { tries: budgets.per_account_and_device, window: budgets.account_window };
        let account = Budget { tries: budgets.per_account, window: budgets.account_window };
        let device = Budget { tries: budgets.per_device, window: budgets.device_window };
        let mut counters = self.lock();
        let standings = [
            (AttemptScope::AccountAndDevice, counters.pairs.standing(&(keys.name, keys.account), pair, now)),
            (AttemptScope::Account, counters.accounts.standing(&keys.account, account, now)),
            (AttemptScope::Device, counters.devices.standing(&keys.name, device, now)),
        ];
        let mut left = u32::MAX;
        let mut spent: Option<(AttemptScope, Duration)> = None;
        for (scope, standing) in standings {
            match standing {
                Standing::Left(more) => left = left.min(more),
                // All three must be free: the one that takes longest is what to wait for.
                Standing::Spent(wait) if spent.is_none_or(|(_, longest)| wait > longest) => spent = Some((scope, wait)),
                Standing::Spent(_) => {}
            }
        }
        if let Some((scope, retry_after)) = spent {
            return Err(ReserveError::Exhausted { scope, retry_after });
        }
        if !counters.has_room(self.most_keys, budgets, now) {
            return Err(ReserveError::Unavailable);
        }
        counters.count(keys, now);
        Ok(Reservation { keys, at: now, left })
    }
}

impl AttemptLedger for MemoryAttempts {
    fn reserve(
        &self,
        keys: AttemptKeys,
        budgets: &AttemptBudgets,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Reservation, ReserveError>> {
        PortFuture::ready(self.try_reserve(keys, budgets, now))
    }

    fn refund(&self, Reservation { keys, at, .. }: Reservation) -> PortFuture<'_, Result<(), Unavailable>> {
        let mut counters = self.lock();
        counters.pairs.take_back(&(keys.name, keys.account), at);
        counters.accounts.take_back(&keys.account, at);
        counters.devices.take_back(&keys.name, at);
        PortFuture::ready(Ok(()))
    }

    fn forgive(&self, name: [u8; 16]) -> PortFuture<'_, Result<(), Unavailable>> {
        let mut counters = self.lock();
        let Counters { pairs, accounts, devices } = &mut *counters;
        devices.tries.remove(&name);
        let (first, last) = (UserId::from_bytes([0; 16]), UserId::from_bytes([u8::MAX; 16]));
        let here = pairs.tries.range((name, first)..=(name, last));
        let guessers: Vec<UserId> = here.map(|((_, account), _)| *account).collect();
        for account in guessers {
            for at in pairs.tries.remove(&(name, account)).unwrap_or_default() {
                accounts.take_back(&account, at);
            }
        }
        PortFuture::ready(Ok(()))
    }
}

impl Counters {
    fn count(&mut self, keys: AttemptKeys, at: Timestamp) {
        self.pairs.count((keys.name, keys.account), at);
        self.accounts.count(keys.account, at);
        self.devices.count(keys.name, at);
    }

    /// Drops what has left its window whenever a map has doubled, and says whether one more key fits. There are never
    /// more accounts or devices than pairs that were counted within their windows, but device windows are longer.
    fn has_room(&mut self, most: usize, budgets: &AttemptBudgets, now: Timestamp) -> bool {
        let pairs = self.pairs.prune(most, budgets.account_window, now);
        let accounts = self.accounts.prune(most, budgets.account_window, now);
        let devices = self.devices.prune(most, budgets.device_window, now);
        pairs && accounts && devices
    }
}

/// How a counter stands before one more try.
enum Standing {
    /// So many are left after this one.
    Left(u32),
    /// None is free for so long.
    Spent(Duration),
}

/// Sliding windows by key.
struct Windows<K> {
    tries: BTreeMap<K, Vec<Timestamp>>,
    /// The size at which the map is looked through next.
    prune_at: usize,
    /// When a full map was last looked through in vain.
    full_at: Option<Timestamp>,
}

/// Below this size a map is not looked through.
const PRUNE_LEAST: usize = 1024;
/// A full map is looked through no more often than this.
const FULL_PAUSE: Duration = Duration::from_secs(1);

impl<K> Default for Windows<K> {
    fn default() -> Self {
        Self { tries: BTreeMap::new(), prune_at: PRUNE_LEAST, full_at: None }
    }
}

impl<K: Ord> Windows<K> {
    fn standing(&mut self, key: &K, budget: Budget, now: Timestamp) -> Standing {
        let Some(tries) = self.tries.get_mut(key) else {
            return match budget.tries.checked_sub(1) {
                Some(left) => Standing::Left(left),
                None => Standing::Spent(budget.window),
            };
        };
        tries.retain(|at| now < at.plus(budget.window));
        let used = u32::try_from(tries.len()).unwrap_or(u32::MAX);
        match budget.tries.checked_sub(used.saturating_add(1)) {
            Some(left) => Standing::Left(left),
            None => {
                tries.sort_unstable();
                // Free when all but `budget - 1` have left the window.
                let leaves = tries.get(tries.len() - budget.tries.clamp(1, used.max(1)) as usize);
                Standing::Spent(leaves.map_or(budget.window, |at| now.until(at.plus(budget.window))))
            }
        }
    }

    fn count(&mut self, key: K, at: Timestamp) {
        self.tries.entry(key).or_default().push(at);
    }

    fn take_back(&mut self, key: &K, at: Timestamp) {
        if let Some(tries) = self.tries.get_mut(key) {
            if let Some(place) = tries.iter().position(|tried| *tried == at) {
                tries.swap_remove(place);
            }
            if tries.is_empty() {
                self.tries.remove(key);
            }
        }
    }

    /// Whether there is room for another key, after dropping what has left the window if the map is large.
    fn prune(&mut self, most: usize, window: Duration, now: Timestamp) -> bool {
        let full = self.tries.len() >= most;
        let looked_through = self.full_at.is_some_and(|at| now < at.plus(FULL_PAUSE));
        if self.tries.len() >= self.prune_at || (full && !looked_through) {
            self.tries.retain(|_, tries| tries.iter().any(|at| now < at.plus(window)));
            self.prune_at = (self.tries.len() * 2).max(PRUNE_LEAST);
            self.full_at = (self.tries.len() >= most).then_some(now);
        }
        self.tries.len() < most
    }
}
