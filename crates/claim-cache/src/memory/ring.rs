//! When to look at which key: 64 stripes of ordered slots of 16 seconds. Coarse on purpose; who reads a claim checks its
//! expiry to the millisecond.
//!
//! A slot is due when it lies in the past as a whole. The ring may hold a key that is gone or armed elsewhere by now; the
//! sweeper asks the entry.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use claim::{DeviceId, Timestamp};

/// Number of a slot: its start in units of [`SLOT_MILLIS`] since 1970.
pub(crate) type Slot = u32;

const SLOT_MILLIS: i64 = 16_000;
const STRIPES: usize = 64;

/// The slot in which an instant falls.
pub(crate) fn slot(at: Timestamp) -> Slot {
    Slot::try_from(at.as_millis().max(0) / SLOT_MILLIS).unwrap_or(Slot::MAX)
}

/// The first instant after a slot.
fn end(slot: Slot) -> Timestamp {
    Timestamp::from_millis((i64::from(slot) + 1) * SLOT_MILLIS)
}

type Stripe = BTreeMap<Slot, Vec<DeviceId>>;

/// See the module's head.
pub(crate) struct Ring {
    stripes: Box<[Mutex<Stripe>]>,
    /// Where the next chunk is taken, so that no stripe waits for the others to run dry.
    next: AtomicUsize,
}

impl Ring {
    pub(crate) fn new() -> Self {
        Self { stripes: (0..STRIPES).map(|_| Mutex::default()).collect(), next: AtomicUsize::new(0) }
    }

    /// Arms a slot for a key. `hash` spreads the keys; the same key may be armed more than once.
    pub(crate) fn arm(&self, slot: Slot, key: DeviceId, hash: usize) {
        let mut stripe = self.stripe(hash % STRIPES);
        let keys = stripe.entry(slot).or_default();
        if keys.len() == keys.capacity() {
            // A quarter more, not twice as much: the slack is memory of every pending claim.
            keys.reserve_exact((keys.len() / 4).max(4));
        }
        keys.push(key);
    }

    /// Takes up to `most` keys of one due slot out; empty when none is due.
    pub(crate) fn take_due(&self, now: Timestamp, most: usize) -> Vec<DeviceId> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        for step in 0..STRIPES {
            let mut stripe = self.stripe((first + step) % STRIPES);
            let Some(mut oldest) = stripe.first_entry().filter(|slot| end(*slot.key()) <= now) else {
                continue;
            };
            let keys = oldest.get_mut();
            if keys.len() <= most {
                return oldest.remove();
            }
            return keys.split_off(keys.len() - most);
        }
        Vec::new()
    }

    /// How long until the next slot is due, if any key is armed.
    pub(crate) fn next_due(&self, now: Timestamp) -> Option<Duration> {
        let oldest = (0..STRIPES).filter_map(|index| self.stripe(index).keys().next().copied()).min()?;
        Some(now.until(end(oldest)))
    }

    /// How many keys are armed, stale ones included.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        (0..STRIPES).map(|index| self.stripe(index).values().map(Vec::len).sum::<usize>()).sum()
    }

    fn stripe(&self, index: usize) -> std::sync::MutexGuard<'_, Stripe> {
        self.stripes[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn a_slot_is_due_when_it_is_over() {
        let ring = Ring::new();
        let key = DeviceId::from_bytes([1; 16]);
        ring.arm(slot(at(20_000)), key, 5);
        assert_eq!(ring.next_due(at(20_000)), Some(Duration::from_millis(12_000)));
        assert!(ring.take_due(at(31_999), 8).is_empty());
        assert_eq!(ring.take_due(at(32_000), 8), [key]);
        assert!(ring.take_due(at(32_000), 8).is_empty());
        assert_eq!(ring.next_due(at(32_000)), None);
    }

    #[test]
    fn no_more_keys_are_taken_than_asked_for_and_none_is_lost() {
        let ring = Ring::new();
        for n in 0..1000u16 {
            let mut id = [0; 16];
            id[..2].copy_from_slice(&n.to_le_bytes());
            ring.arm(1, DeviceId::from_bytes(id), usize::from(n));
        }
        let mut seen = std::collections::HashSet::new();
        loop {
            let keys = ring.take_due(at(1_000_000), 7);
            if keys.is_empty() {
                break;
            }
            assert!(keys.len() <= 7);
            seen.extend(keys);
        }
        assert_eq!(seen.len(), 1000);
    }
}
