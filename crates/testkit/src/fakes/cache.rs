//! A claim cache in one hash map. It never forgets an ended claim before its ten minutes are over and looks for expired
//! ones only when asked: slow, and plainly right.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use claim::ports::{ClaimCache, ClaimSource, PendingClaim, PortFuture, RecordError, Recorded, Sighting, Unavailable};
use claim::{DeviceId, TenantId, Timestamp};

use super::lock;

const REMEMBERED: Duration = Duration::from_secs(600);

/// See the module's head.
#[derive(Default)]
pub struct FakeCache {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    claims: HashMap<DeviceId, Sighting>,
    next_stamp: u64,
    unavailable: bool,
    drop_consumes: bool,
    room: Option<usize>,
    retry_after: Duration,
}

impl FakeCache {
    /// All calls answer `Unavailable` from now on, or no more.
    pub fn set_unavailable(&self, unavailable: bool) {
        lock(&self.state).unavailable = unavailable;
    }

    /// Consumes and withdrawals are lost from now on, as if the process died before them.
    pub fn lose_consumes(&self, lose: bool) {
        lock(&self.state).drop_consumes = lose;
    }

    /// At most so many live claims; beyond, `Full { retry_after }`.
    pub fn set_room(&self, claims: usize, retry_after: Duration) {
        let mut state = lock(&self.state);
        state.room = Some(claims);
        state.retry_after = retry_after;
    }

    /// The claim as held, live or ended.
    pub fn held(&self, device: DeviceId) -> Option<PendingClaim> {
        lock(&self.state).claims.get(&device).map(|seen| seen.claim)
    }

    /// Puts a claim there as a replay or failover would: without any rule.
    pub fn resurrect(&self, claim: PendingClaim) {
        let mut state = lock(&self.state);
        state.next_stamp += 1;
        let stamp = state.next_stamp;
        state.claims.insert(claim.device, Sighting { claim, stamp });
    }

    /// All that is held; for replicas.
    pub fn snapshot(&self) -> HashMap<DeviceId, Sighting> {
        lock(&self.state).claims.clone()
    }

    /// Holds this instead, as after a failover to a replica that has it.
    pub fn replace(&self, claims: HashMap<DeviceId, Sighting>) {
        lock(&self.state).claims = claims;
    }

    /// How many claims are held, live or ended.
    pub fn len(&self) -> usize {
        lock(&self.state).claims.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl State {
    fn record(&mut self, claim: PendingClaim, now: Timestamp) -> Result<Recorded, RecordError> {
        if self.unavailable {
            return Err(RecordError::Unavailable);
        }
        let live = self.claims.get(&claim.device).filter(|seen| seen.live(now));
        if claim.source == ClaimSource::Gateway && live.is_some_and(|seen| seen.claim.source == ClaimSource::Device) {
            return Err(RecordError::AnnouncedByDevice);
        }
        let replaced = live.is_some();
        let held = self.claims.values().filter(|seen| seen.live(now)).count();
        if !replaced && self.room.is_some_and(|room| held >= room) {
            return Err(RecordError::Full { retry_after: self.retry_after });
        }
        self.next_stamp += 1;
        self.claims.insert(claim.device, Sighting { claim, stamp: self.next_stamp });
        Ok(if replaced { Recorded::Replaced } else { Recorded::New })
    }

    fn remove_if(&mut self, device: DeviceId, gone: impl Fn(&Sighting) -> bool) -> Result<bool, Unavailable> {
        if self.unavailable || self.drop_consumes {
            return Err(Unavailable);
        }
        let fits = self.claims.get(&device).is_some_and(gone);
        if fits {
            self.claims.remove(&device);
        }
        Ok(fits)
    }
}

impl ClaimCache for FakeCache {
    fn record(&self, claim: PendingClaim, now: Timestamp) -> PortFuture<'_, Result<Recorded, RecordError>> {
        PortFuture::ready(lock(&self.state).record(claim, now))
    }

    fn record_batch(
        &self,
        claims: Vec<PendingClaim>,
        now: Timestamp,
    ) -> PortFuture<'_, Vec<Result<Recorded, RecordError>>> {
        let mut state = lock(&self.state);
        PortFuture::ready(claims.into_iter().map(|claim| state.record(claim, now)).collect())
    }

    fn peek(&self, device: DeviceId, now: Timestamp) -> PortFuture<'_, Result<Option<Sighting>, Unavailable>> {
        let state = lock(&self.state);
        PortFuture::ready(if state.unavailable {
            Err(Unavailable)
        } else {
            Ok(state.claims.get(&device).copied().filter(|seen| now < seen.claim.expires_at.plus(REMEMBERED)))
        })
    }

    fn consume(&self, device: DeviceId, stamp: u64) -> PortFuture<'_, Result<bool, Unavailable>> {
        PortFuture::ready(lock(&self.state).remove_if(device, |seen| seen.stamp == stamp))
    }

    fn withdraw(&self, device: DeviceId, until: Timestamp) -> PortFuture<'_, Result<bool, Unavailable>> {
        PortFuture::ready(lock(&self.state).remove_if(device, |seen| seen.claim.received_at <= until))
    }

    fn pending(
        &self,
        tenant: TenantId,
        after: Option<DeviceId>,
        limit: usize,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Vec<PendingClaim>, Unavailable>> {
        let state = lock(&self.state);
        if state.unavailable {
            return PortFuture::ready(Err(Unavailable));
        }
        let mut claims: Vec<PendingClaim> = state
            .claims
            .values()
            .filter(|seen| seen.live(now) && seen.claim.tenant == tenant)
            .map(|seen| seen.claim)
            .filter(|claim| after.is_none_or(|after| claim.device > after))
            .collect();
        claims.sort_unstable_by_key(|claim| claim.device);
        claims.truncate(limit);
        PortFuture::ready(Ok(claims))
    }
}
