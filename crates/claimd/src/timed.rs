//! How long the stores take, for the operator: the ports of a claim's path with a stopwatch around them. What is answered from
//! memory is passed through and not measured: it costs nothing, and would hide the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use claim::event::AuditNote;
use claim::limits::AttemptBudgets;
use claim::ports::{
    AssignOwner, Assignment, AttemptKeys, AttemptLedger, Child, ClaimCache, ClaimSubject, CredentialHolder,
    DeviceRegistry, PendingClaim, PortFuture, RecordError, Recorded, Release, ReleaseOwner, Remembered, Reservation,
    ReserveError, ResolveChildren, RetryKey, Sighting, Unavailable, VoidPending, WriteError,
};
use claim::secret::CredentialDigest;
use claim::{Device, DeviceId, DeviceName, Eui64, TenantId, Timestamp};
use prometheus_client::metrics::histogram::Histogram;

/// What is asked of a store. The order is that of [`Op::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Find,
    Assign,
    Release,
    Resolve,
    Note,
    Record,
    Peek,
    Remove,
    Try,
}

impl Op {
    pub(crate) const ALL: [Op; 9] =
        [Op::Find, Op::Assign, Op::Release, Op::Resolve, Op::Note, Op::Record, Op::Peek, Op::Remove, Op::Try];

    /// Labels of a metric.
    pub(crate) fn labels(self) -> (&'static str, &'static str) {
        match self {
            Op::Find => ("registry", "find"),
            Op::Assign => ("registry", "assign"),
            Op::Release => ("registry", "release"),
            Op::Resolve => ("registry", "resolve"),
            Op::Note => ("registry", "note"),
            Op::Record => ("claims", "record"),
            Op::Peek => ("claims", "peek"),
            Op::Remove => ("claims", "remove"),
            Op::Try => ("claims", "try"),
        }
    }
}

/// A stopwatch for each kind of question, and how many were not answered.
pub(crate) struct Times {
    pub(crate) seconds: [Histogram; Op::ALL.len()],
    pub(crate) unanswered: [AtomicU64; Op::ALL.len()],
}

impl Times {
    pub(crate) fn new(histogram: impl Fn(Op) -> Histogram) -> Self {
        Self { seconds: Op::ALL.map(histogram), unanswered: Default::default() }
    }

    fn around<'a, T: Send + Unpin + 'a>(
        &'a self,
        op: Op,
        answer: PortFuture<'a, T>,
        unanswered: fn(&T) -> bool,
    ) -> PortFuture<'a, T> {
        let PortFuture::Later(answer) = answer else { return answer };
        PortFuture::later(async move {
            let asked = Instant::now();
            let said = answer.await;
            self.seconds[op as usize].observe(asked.elapsed().as_secs_f64());
            if unanswered(&said) {
                self.unanswered[op as usize].fetch_add(1, Ordering::Relaxed);
            }
            said
        })
    }
}

/// A port with a stopwatch around it.
pub(crate) struct Timed<P: ?Sized> {
    port: Arc<P>,
    times: Arc<Times>,
}

impl<P: ?Sized> Timed<P> {
    pub(crate) fn new(port: Arc<P>, times: &Arc<Times>) -> Arc<Self> {
        Arc::new(Self { port, times: Arc::clone(times) })
    }
}

fn is_lost<T>(said: &Result<T, Unavailable>) -> bool {
    said.is_err()
}

fn is_unwritten<T>(said: &Result<T, WriteError>) -> bool {
    said.is_err()
}

impl DeviceRegistry for Timed<dyn DeviceRegistry> {
    fn find_credential(
        &self,
        credential: CredentialDigest,
    ) -> PortFuture<'_, Result<Option<CredentialHolder>, Unavailable>> {
        self.times.around(Op::Find, self.port.find_credential(credential), is_lost)
    }

    fn device(&self, device: DeviceId) -> PortFuture<'_, Result<Option<Arc<Device>>, Unavailable>> {
        self.times.around(Op::Find, self.port.device(device), is_lost)
    }

    fn device_now(&self, device: DeviceId) -> PortFuture<'_, Result<Option<Arc<Device>>, Unavailable>> {
        self.times.around(Op::Find, self.port.device_now(device), is_lost)
    }

    fn find(&self, tenant: TenantId, name: &DeviceName) -> PortFuture<'_, Result<Option<ClaimSubject>, Unavailable>> {
        self.times.around(Op::Find, self.port.find(tenant, name), is_lost)
    }

    fn name_of(
        &self,
        tenant: TenantId,
        dev_eui: Eui64,
        join_eui: Option<Eui64>,
    ) -> PortFuture<'_, Result<Option<DeviceName>, Unavailable>> {
        self.times.around(Op::Find, self.port.name_of(tenant, dev_eui, join_eui), is_lost)
    }

    fn assign_owner<'a>(&'a self, request: AssignOwner<'a>) -> PortFuture<'a, Result<Assignment, WriteError>> {
        self.times.around(Op::Assign, self.port.assign_owner(request), is_unwritten)
    }

    fn release_owner<'a>(&'a self, request: ReleaseOwner<'a>) -> PortFuture<'a, Result<Release, WriteError>> {
        self.times.around(Op::Release, self.port.release_owner(request), is_unwritten)
    }

    fn void_pending<'a>(&'a self, request: VoidPending<'a>) -> PortFuture<'a, Result<Option<Timestamp>, WriteError>> {
        self.times.around(Op::Release, self.port.void_pending(request), is_unwritten)
    }

    fn resolve_children(&self, request: ResolveChildren) -> PortFuture<'_, Result<Vec<Child>, Unavailable>> {
        self.times.around(Op::Resolve, self.port.resolve_children(request), is_lost)
    }

    fn gateways_of(&self, device: DeviceId) -> PortFuture<'_, Result<Arc<[DeviceId]>, Unavailable>> {
        self.times.around(Op::Find, self.port.gateways_of(device), is_lost)
    }

    fn remembered<'a>(&'a self, key: &'a RetryKey) -> PortFuture<'a, Result<Option<Remembered>, Unavailable>> {
        self.times.around(Op::Find, self.port.remembered(key), is_lost)
    }

    fn remember<'a>(
        &'a self,
        key: &'a RetryKey,
        answer: String,
        now: Timestamp,
    ) -> PortFuture<'a, Result<(), Unavailable>> {
        self.times.around(Op::Note, self.port.remember(key, answer, now), is_lost)
    }

    fn note(&self, note: AuditNote) {
        self.port.note(note);
    }

    fn note_charged(&self, note: AuditNote) -> PortFuture<'_, Result<(), Unavailable>> {
        self.times.around(Op::Note, self.port.note_charged(note), is_lost)
    }
}

impl ClaimCache for Timed<dyn ClaimCache> {
    fn record(&self, claim: PendingClaim, now: Timestamp) -> PortFuture<'_, Result<Recorded, RecordError>> {
        let lost = |said: &Result<Recorded, RecordError>| matches!(said, Err(RecordError::Unavailable));
        self.times.around(Op::Record, self.port.record(claim, now), lost)
    }

    fn record_batch(
        &self,
        claims: Vec<PendingClaim>,
        now: Timestamp,
    ) -> PortFuture<'_, Vec<Result<Recorded, RecordError>>> {
        let lost = |said: &Vec<Result<Recorded, RecordError>>| said.contains(&Err(RecordError::Unavailable));
        self.times.around(Op::Record, self.port.record_batch(claims, now), lost)
    }

    fn peek(&self, device: DeviceId, now: Timestamp) -> PortFuture<'_, Result<Option<Sighting>, Unavailable>> {
        self.times.around(Op::Peek, self.port.peek(device, now), is_lost)
    }

    fn consume(&self, device: DeviceId, stamp: u64) -> PortFuture<'_, Result<bool, Unavailable>> {
        self.times.around(Op::Remove, self.port.consume(device, stamp), is_lost)
    }

    fn withdraw(&self, device: DeviceId, until: Timestamp) -> PortFuture<'_, Result<bool, Unavailable>> {
        self.times.around(Op::Remove, self.port.withdraw(device, until), is_lost)
    }

    fn pending(
        &self,
        tenant: TenantId,
        after: Option<DeviceId>,
        limit: usize,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Vec<PendingClaim>, Unavailable>> {
        // It may look at everything that is held; no claim waits for it.
        self.port.pending(tenant, after, limit, now)
    }
}

impl AttemptLedger for Timed<dyn AttemptLedger> {
    fn reserve(
        &self,
        keys: AttemptKeys,
        budgets: &AttemptBudgets,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Reservation, ReserveError>> {
        let lost = |said: &Result<Reservation, ReserveError>| matches!(said, Err(ReserveError::Unavailable));
        self.times.around(Op::Try, self.port.reserve(keys, budgets, now), lost)
    }

    fn refund(&self, reservation: Reservation) -> PortFuture<'_, Result<(), Unavailable>> {
        self.times.around(Op::Try, self.port.refund(reservation), is_lost)
    }

    fn forgive(&self, name: [u8; 16]) -> PortFuture<'_, Result<(), Unavailable>> {
        self.times.around(Op::Try, self.port.forgive(name), is_lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times() -> Times {
        Times::new(|_| Histogram::new([1.0]))
    }

    #[tokio::test]
    async fn what_comes_from_memory_is_not_measured_and_what_is_waited_for_is() {
        let times = times();
        let asked = |answer| times.around(Op::Peek, answer, is_lost::<u8>);
        assert!(matches!(asked(PortFuture::ready(Ok(1))), PortFuture::Ready(_)));
        assert_eq!(asked(PortFuture::later(async { Ok(2) })).await, Ok(2));
        assert_eq!(asked(PortFuture::later(async { Err(Unavailable) })).await, Err(Unavailable));
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register("seconds", "", times.seconds[Op::Peek as usize].clone());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("seconds_count 2\n"), "{text}");
        assert_eq!(times.unanswered[Op::Peek as usize].load(Ordering::Relaxed), 1);
    }

    #[test]
    fn every_question_has_a_place_of_its_own() {
        for (place, op) in Op::ALL.into_iter().enumerate() {
            assert_eq!(op as usize, place);
        }
    }
}
