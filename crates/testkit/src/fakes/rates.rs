//! Rates: one that admits everything, one that keeps every message.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use claim::limits::Budget;
use claim::ports::{SubmitRates, TooOften};
use claim::{DeviceId, Timestamp};

use super::lock;

/// Admits everything, locks nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenRates;

impl SubmitRates for OpenRates {
    fn admit(&self, _: DeviceId, _: u32, _: Budget, _: Timestamp) -> Result<(), TooOften> {
        Ok(())
    }

    fn address_locked(&self, _: IpAddr, _: Timestamp) -> Result<(), TooOften> {
        Ok(())
    }

    fn refused_credential(&self, _: IpAddr, _: Budget, _: Duration, _: Timestamp) {}
}

/// Exact sliding windows; keeps everything it ever admitted.
#[derive(Default)]
pub struct FakeRates {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    admitted: HashMap<DeviceId, Vec<Timestamp>>,
    refused: HashMap<IpAddr, Vec<Timestamp>>,
    locked_until: HashMap<IpAddr, Timestamp>,
}

impl FakeRates {
    /// How many messages of a device were admitted in all.
    pub fn admitted(&self, device: DeviceId) -> usize {
        lock(&self.state).admitted.get(&device).map_or(0, Vec::len)
    }
}

impl SubmitRates for FakeRates {
    fn admit(&self, device: DeviceId, cost: u32, budget: Budget, now: Timestamp) -> Result<(), TooOften> {
        let mut state = lock(&self.state);
        let sent = state.admitted.entry(device).or_default();
        let recent = sent.iter().filter(|at| now < at.plus(budget.window)).count();
        if recent + cost as usize > budget.tries as usize {
            let oldest = sent.iter().filter(|at| now < at.plus(budget.window)).min();
            return Err(TooOften {
                retry_after: oldest.map_or(budget.window, |oldest| now.until(oldest.plus(budget.window))),
            });
        }
        sent.extend(std::iter::repeat_n(now, cost as usize));
        Ok(())
    }

    fn address_locked(&self, address: IpAddr, now: Timestamp) -> Result<(), TooOften> {
        match lock(&self.state).locked_until.get(&address) {
            Some(until) if now < *until => Err(TooOften { retry_after: now.until(*until) }),
            _ => Ok(()),
        }
    }

    fn refused_credential(&self, address: IpAddr, budget: Budget, lockout: Duration, now: Timestamp) {
        let mut state = lock(&self.state);
        let refused = state.refused.entry(address).or_default();
        refused.push(now);
        if refused.iter().filter(|at| now < at.plus(budget.window)).count() >= budget.tries as usize {
            state.locked_until.insert(address, now.plus(lockout));
        }
    }
}
