//! The two stores that the nodes share: one truth that survives everything, and one memory that does not.
//!
//! What a store does is what `testkit`'s fakes do; here is what happens *to* stores. Each deed goes into the history in the
//! order in which it is done.

use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use claim::limits::AttemptBudgets;
use claim::ports::{
    AssignOwner, Assignment, AttemptKeys, AttemptLedger, ClaimCache, DeviceRegistry, PendingClaim, PortFuture,
    RecordError, Recorded, Release, ReleaseOwner, Reservation, ReserveError, Sighting,
};
use claim::{DeviceId, Timestamp};
use testkit::{FakeCache, FakeLedger, FakeRegistry};

use crate::history::History;

pub(crate) type Anything = Box<dyn Any + Send>;
pub(crate) type TruthJob = Box<dyn FnOnce(&Truth) -> Anything + Send>;
pub(crate) type MemoryJob = Box<dyn FnOnce(&Memory) -> Anything + Send>;

/// What is left out of the stores on purpose, to see that the history finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Omitted {
    Nothing,
    /// The registry keeps no fence.
    Fence,
    /// The registry writes the owner it is told, as if a check some time before were enough.
    Condition,
    /// Tries are counted after the comparison, not before it.
    Reserve,
}

/// What a fake answers, which is there at once.
pub(crate) fn now<T>(answer: PortFuture<'_, T>) -> T {
    match answer {
        PortFuture::Ready(Some(value)) => value,
        _ => unreachable!("a fake waits for nothing"),
    }
}

/// The registry.
pub(crate) struct Truth {
    pub(crate) registry: FakeRegistry,
    /// Charged tries, as the audit log has them.
    pub(crate) charged: Mutex<Vec<(AttemptKeys, Timestamp)>>,
    pub(crate) history: Arc<History>,
    pub(crate) omitted: Omitted,
    /// An owner was written since this was last asked.
    pub(crate) wrote: AtomicBool,
}

impl Truth {
    pub(crate) fn assign(&self, request: AssignOwner<'_>) -> Assignment {
        if self.omitted == Omitted::Condition {
            self.registry.change(request.device, |row| (row.owner, row.claim_reset_at) = (None, None));
        }
        let done = now(self.registry.assign_owner(request)).expect("it is up");
        if let Assignment::Assigned { .. } = done {
            self.history.assigned(&request);
            self.wrote.store(true, Ordering::Relaxed);
        }
        self.forget_fence(request.device);
        done
    }

    pub(crate) fn release(&self, request: ReleaseOwner<'_>) -> Release {
        let done = now(self.registry.release_owner(request)).expect("it is up");
        if let Release::Released { previous, fence } = done {
            self.history.released(request.device, previous, fence);
        }
        self.forget_fence(request.device);
        done
    }

    fn forget_fence(&self, device: DeviceId) {
        if self.omitted == Omitted::Fence {
            self.registry.change(device, |row| row.claim_reset_at = None);
        }
    }

    fn fence(&self, device: DeviceId) -> Option<Timestamp> {
        self.registry.row(device)?.claim_reset_at
    }
}

/// The shared cache with its tries, and a replica that lags.
pub(crate) struct Memory {
    pub(crate) cache: FakeCache,
    ledger: FakeLedger,
    replica: Mutex<Copied>,
    /// Who speaks to another one than before must connect anew.
    epoch: AtomicU64,
    /// The mark that the tries of the audit log are counted here.
    counted: AtomicBool,
    /// Countings that go on.
    countings: Mutex<Vec<usize>>,
    truth: Arc<Truth>,
}

#[derive(Clone, Default)]
struct Copied {
    claims: HashMap<DeviceId, Sighting>,
    tries: Vec<(AttemptKeys, Timestamp)>,
    counted: bool,
}

impl Memory {
    pub(crate) fn new(truth: Arc<Truth>) -> Self {
        Self {
            cache: FakeCache::default(),
            ledger: FakeLedger::default(),
            replica: Mutex::default(),
            epoch: AtomicU64::new(1),
            counted: AtomicBool::new(false),
            countings: Mutex::default(),
            truth,
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    pub(crate) fn record(&self, claim: PendingClaim, at: Timestamp) -> Result<Recorded, RecordError> {
        let done = now(self.cache.record(claim, at));
        if done.is_ok() {
            self.truth.history.recorded(&claim);
        }
        done
    }

    /// Removes by whatever verb; the history hears of what is gone.
    pub(crate) fn remove(&self, device: DeviceId, verb: impl FnOnce(&FakeCache) -> bool) -> bool {
        let held = self.cache.held(device);
        let done = verb(&self.cache);
        if let Some(gone) = held.filter(|_| done) {
            self.truth.history.removed(&gone, self.truth.fence(device), self.truth.omitted);
        }
        done
    }

    /// `None`: the mark is gone, and so may be tries.
    pub(crate) fn reserve(
        &self,
        keys: AttemptKeys,
        budgets: &AttemptBudgets,
        at: Timestamp,
    ) -> Option<Result<Reservation, ReserveError>> {
        if !self.counted.load(Ordering::Relaxed) {
            return None;
        }
        let done = now(self.ledger.reserve(keys, budgets, at));
        if let Ok(reservation) = done {
            self.truth.history.reserved(&reservation);
            if self.truth.omitted == Omitted::Reserve {
                self.refund(reservation);
            }
        }
        Some(done)
    }

    pub(crate) fn refund(&self, reservation: Reservation) {
        self.truth.history.refunded(&reservation);
        now(self.ledger.refund(reservation)).expect("it is up");
    }

    /// Makes sure that at least these tries are counted.
    pub(crate) fn count(&self, charged: &[(AttemptKeys, Timestamp)]) {
        let mut missing = charged.to_vec();
        let mut tries = self.ledger.tries();
        for counted in &tries {
            if let Some(place) = missing.iter().position(|charged| charged == counted) {
                missing.remove(place);
            }
        }
        tries.extend(missing);
        self.ledger.replace(tries);
    }

    /// Somebody is about to read the audit log.
    pub(crate) fn begin_counting(&self) -> usize {
        let counting = self.truth.history.moment();
        self.countings.lock().unwrap().push(counting);
        counting
    }

    /// What was read there counts, and the mark is set; `false` if everything was lost since it was begun.
    pub(crate) fn count_again(&self, charged: &[(AttemptKeys, Timestamp)], counting: usize) -> bool {
        self.count(charged);
        let whole = self.countings.lock().unwrap().contains(&counting);
        if whole {
            self.counted.store(true, Ordering::Relaxed);
        }
        self.truth.history.tell(format!("{} tries of the audit log are counted, whole: {whole}", charged.len()));
        whole
    }

    /// The replica hears of everything up to here.
    pub(crate) fn replicate(&self) {
        *self.replica.lock().unwrap() = Copied {
            claims: self.cache.snapshot(),
            tries: self.ledger.tries(),
            counted: self.counted.load(Ordering::Relaxed),
        };
    }

    /// The replica takes over, with what it has heard of.
    pub(crate) fn fail_over(&self) {
        let copied = self.replica.lock().unwrap().clone();
        self.become_this(copied);
        self.epoch.fetch_add(1, Ordering::Relaxed);
        self.truth.history.cache_lost("a stale replica took over");
    }

    /// Everything is gone; connections stay.
    pub(crate) fn flush(&self) {
        self.become_this(Copied::default());
        self.truth.history.cache_lost("flushed");
    }

    /// Everything is gone, connections too.
    pub(crate) fn restart(&self) {
        self.become_this(Copied::default());
        self.epoch.fetch_add(1, Ordering::Relaxed);
        self.truth.history.cache_lost("started empty");
    }

    fn become_this(&self, copied: Copied) {
        self.cache.replace(copied.claims);
        self.ledger.replace(copied.tries);
        self.counted.store(copied.counted, Ordering::Relaxed);
        self.countings.lock().unwrap().clear();
    }
}
