//! What the look-up cache answered lately, at a tenth of its cost: one slot for each value of a key's last bits, taken over
//! by whoever comes next.
//!
//! An answer holds for the epoch it was read in, so that any change ends all of them at once, and for [`AGE`].

use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use claim::DeviceId;
use rustix::time::{ClockId, clock_gettime};

/// Answers kept.
const SLOTS: usize = 4096;
/// How long an answer is taken from here before the look-up cache is asked again.
pub(super) const AGE: Duration = Duration::from_secs(1);

pub(super) struct Front<K, V> {
    slots: Box<[Mutex<Place<K, V>>]>,
}

type Place<K, V> = Option<Slot<K, V>>;

struct Slot<K, V> {
    key: K,
    epoch: u64,
    until: u64,
    value: V,
}

/// A key whose last bits are evenly spread.
pub(super) trait Spread: Copy + Eq {
    fn last_bits(&self) -> [u8; 2];
}

impl Spread for [u8; 32] {
    fn last_bits(&self) -> [u8; 2] {
        [self[30], self[31]]
    }
}

impl Spread for DeviceId {
    fn last_bits(&self) -> [u8; 2] {
        [self.as_bytes()[14], self.as_bytes()[15]]
    }
}

impl<K: Spread, V: Clone> Front<K, V> {
    pub(super) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| Mutex::new(None)).collect() }
    }

    /// What the key was found to lead to in this epoch.
    pub(super) fn get(&self, key: &K, epoch: u64) -> Option<V> {
        let slot = self.slot(key)?;
        let slot = slot.as_ref()?;
        (slot.epoch == epoch && slot.key == *key && now_ms() < slot.until).then(|| slot.value.clone())
    }

    /// Remembers an answer; `epoch` is that of before it was read.
    pub(super) fn put(&self, key: &K, epoch: u64, value: &V) {
        if let Some(mut slot) = self.slot(key) {
            let until = now_ms() + AGE.as_millis() as u64;
            *slot = Some(Slot { key: *key, epoch, until, value: value.clone() });
        }
    }

    /// `None` while another thread is at it: nobody waits here.
    fn slot(&self, key: &K) -> Option<MutexGuard<'_, Place<K, V>>> {
        let place = usize::from(u16::from_le_bytes(key.last_bits())) % SLOTS;
        match self.slots[place].try_lock() {
            Ok(slot) => Some(slot),
            Err(TryLockError::Poisoned(slot)) => Some(slot.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// Milliseconds of a clock that only goes forward, a few behind; cheap to read.
fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_for_its_key_and_its_epoch() {
        let front = Front::new();
        front.put(&[1; 32], 7, &'a');
        assert!(front.get(&[1; 32], 7).is_some());
        assert!(front.get(&[1; 32], 8).is_none(), "something changed since");
        let mut same_slot = [1; 32];
        same_slot[0] = 2;
        assert!(front.get(&same_slot, 7).is_none());
        front.put(&same_slot, 7, &'a');
        assert!(front.get(&same_slot, 7).is_some() && front.get(&[1; 32], 7).is_none(), "the last one has the slot");
    }

    #[test]
    fn an_answer_ends_with_its_age() {
        let front = Front::new();
        front.put(&[1; 32], 0, &'a');
        front.slot(&[1; 32]).expect("free").as_mut().expect("an answer").until = now_ms();
        assert!(front.get(&[1; 32], 0).is_none());
    }

    #[test]
    fn a_slot_in_use_is_no_answer_and_no_wait() {
        let front = Front::new();
        front.put(&[1; 32], 0, &'a');
        let _held = front.slot(&[1; 32]).expect("free");
        assert!(front.get(&[1; 32], 0).is_none());
    }
}
