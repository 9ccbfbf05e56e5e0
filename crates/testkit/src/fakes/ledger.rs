//! An attempt ledger that keeps every try.

use std::sync::Mutex;
use std::time::Duration;

use claim::Timestamp;
use claim::limits::AttemptBudgets;
use claim::ports::{AttemptKeys, AttemptLedger, AttemptScope, PortFuture, Reservation, ReserveError, Unavailable};

use super::lock;

/// See the module's head.
#[derive(Default)]
pub struct FakeLedger {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tries: Vec<(AttemptKeys, Timestamp)>,
    unavailable: bool,
    refunds: usize,
}

impl FakeLedger {
    /// All calls answer `Unavailable` from now on, or no more.
    pub fn set_unavailable(&self, unavailable: bool) {
        lock(&self.state).unavailable = unavailable;
    }

    /// Tries that stayed charged.
    pub fn charged(&self) -> usize {
        lock(&self.state).tries.len()
    }

    /// All tries that count; for replicas.
    pub fn tries(&self) -> Vec<(AttemptKeys, Timestamp)> {
        lock(&self.state).tries.clone()
    }

    /// Counts these instead, as after a failover to a replica that has them.
    pub fn replace(&self, tries: Vec<(AttemptKeys, Timestamp)>) {
        lock(&self.state).tries = tries;
    }

    /// Tries that were taken back.
    pub fn refunds(&self) -> usize {
        lock(&self.state).refunds
    }
}

impl AttemptLedger for FakeLedger {
    fn reserve(
        &self,
        keys: AttemptKeys,
        budgets: &AttemptBudgets,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Reservation, ReserveError>> {
        let mut state = lock(&self.state);
        if state.unavailable {
            return PortFuture::ready(Err(ReserveError::Unavailable));
        }
        let scopes: [(AttemptScope, u32, Duration); 3] = [
            (AttemptScope::AccountAndDevice, budgets.per_account_and_device, budgets.account_window),
            (AttemptScope::Account, budgets.per_account, budgets.account_window),
            (AttemptScope::Device, budgets.per_device, budgets.device_window),
        ];
        let mut left = u32::MAX;
        let mut blocked: Option<(AttemptScope, Duration)> = None;
        for (scope, budget, window) in scopes {
            let same = |keys_of_try: &AttemptKeys| match scope {
                AttemptScope::AccountAndDevice => *keys_of_try == keys,
                AttemptScope::Account => keys_of_try.account == keys.account,
                AttemptScope::Device => keys_of_try.name == keys.name,
            };
            let mut counted: Vec<Timestamp> = state
                .tries
                .iter()
                .filter(|(tried, at)| same(tried) && now < at.plus(window))
                .map(|(_, at)| *at)
                .collect();
            counted.sort_unstable();
            let used = u32::try_from(counted.len()).unwrap_or(u32::MAX);
            if used >= budget {
                // The next try is free when enough of the old ones have left the window.
                let leaves = counted.get(counted.len().saturating_sub(budget.max(1) as usize));
                let retry_after = leaves.map_or(window, |at| now.until(at.plus(window)));
                if blocked.is_none_or(|(_, longest)| retry_after > longest) {
                    blocked = Some((scope, retry_after));
                }
            }
            left = left.min(budget.saturating_sub(used.saturating_add(1)));
        }
        if let Some((scope, retry_after)) = blocked {
            return PortFuture::ready(Err(ReserveError::Exhausted { scope, retry_after }));
        }
        state.tries.push((keys, now));
        PortFuture::ready(Ok(Reservation { keys, at: now, left }))
    }

    fn refund(&self, reservation: Reservation) -> PortFuture<'_, Result<(), Unavailable>> {
        let mut state = lock(&self.state);
        if state.unavailable {
            return PortFuture::ready(Err(Unavailable));
        }
        if let Some(place) = state.tries.iter().position(|(k, at)| *k == reservation.keys && *at == reservation.at) {
            state.tries.remove(place);
            state.refunds += 1;
        }
        PortFuture::ready(Ok(()))
    }

    fn forgive(&self, name: [u8; 16]) -> PortFuture<'_, Result<(), Unavailable>> {
        let mut state = lock(&self.state);
        if state.unavailable {
            return PortFuture::ready(Err(Unavailable));
        }
        state.tries.retain(|(keys, _)| keys.name != name);
        PortFuture::ready(Ok(()))
    }
}
