//! What the look-up cache answered lately, at a tenth of its cost: one slot for each of the last bits of a credential's
//! digest, taken over by whoever comes next.
//!
//! An answer holds for the epoch it was read in, so that any change ends all of them at once, and for [`AGE`].

use std::sync::{Mutex, TryLockError};
use std::time::Duration;

use claim::ports::CredentialHolder;
use rustix::time::{ClockId, clock_gettime};

/// Answers kept.
const SLOTS: usize = 4096;
/// How long an answer is taken from here before the look-up cache is asked again.
pub(super) const AGE: Duration = Duration::from_secs(1);

pub(super) struct Front {
    slots: Box<[Mutex<Option<Slot>>]>,
}

struct Slot {
    digest: [u8; 32],
    epoch: u64,
    until: u64,
    holder: Option<CredentialHolder>,
}

impl Front {
    pub(super) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| Mutex::new(None)).collect() }
    }

    /// What the credential was found to lead to in this epoch. `None`: not known here.
    pub(super) fn get(&self, digest: &[u8; 32], epoch: u64) -> Option<Option<CredentialHolder>> {
        let slot = self.slot(digest)?;
        let slot = slot.as_ref()?;
        (slot.epoch == epoch && slot.digest == *digest && now_ms() < slot.until).then(|| slot.holder.clone())
    }

    /// Remembers an answer; `epoch` is that of before it was read.
    pub(super) fn put(&self, digest: &[u8; 32], epoch: u64, holder: Option<&CredentialHolder>) {
        if let Some(mut slot) = self.slot(digest) {
            let until = now_ms() + AGE.as_millis() as u64;
            *slot = Some(Slot { digest: *digest, epoch, until, holder: holder.cloned() });
        }
    }

    /// `None` while another thread is at it: nobody waits here.
    fn slot(&self, digest: &[u8; 32]) -> Option<std::sync::MutexGuard<'_, Option<Slot>>> {
        let place = usize::from(u16::from_le_bytes([digest[30], digest[31]])) % SLOTS;
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
    fn an_answer_holds_for_its_digest_and_its_epoch() {
        let front = Front::new();
        front.put(&[1; 32], 7, None);
        assert!(front.get(&[1; 32], 7).is_some());
        assert!(front.get(&[1; 32], 8).is_none(), "something changed since");
        let mut same_slot = [1; 32];
        same_slot[0] = 2;
        assert!(front.get(&same_slot, 7).is_none());
        front.put(&same_slot, 7, None);
        assert!(front.get(&same_slot, 7).is_some() && front.get(&[1; 32], 7).is_none(), "the last one has the slot");
    }

    #[test]
    fn an_answer_ends_with_its_age() {
        let front = Front::new();
        front.put(&[1; 32], 0, None);
        front.slot(&[1; 32]).expect("free").as_mut().expect("an answer").until = now_ms();
        assert!(front.get(&[1; 32], 0).is_none());
    }

    #[test]
    fn a_slot_in_use_is_no_answer_and_no_wait() {
        let front = Front::new();
        front.put(&[1; 32], 0, None);
        let _held = front.slot(&[1; 32]).expect("free");
        assert!(front.get(&[1; 32], 0).is_none());
    }
}
