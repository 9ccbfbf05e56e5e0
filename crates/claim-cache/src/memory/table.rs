//! The map of pending claims with its counters, ring and bound. Every change of an entry and of what it counts happens
//! under the lock of the entry's shard; nothing here waits, and nothing here knows a disk.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use claim::ports::{ClaimSource, PendingClaim, Recorded, Sighting};
use claim::{DeviceId, Timestamp};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Place;

use super::entry::{Entry, STAMP_MAX};
use super::pack::{pack_millis, unpack_millis};
use super::ring::{Ring, slot};
use super::tenants::{Share, Tenants};
use super::uneven::Uneven;

/// How long an ended claim is remembered, so that the right secret can be told that the window is over.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(600);

/// Many more shards than cores: a shard is small, so its rehash is short (0.3 ms at 10 M claims).
const SHARDS: usize = 1024;

/// Why a claim was not put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutError {
    /// A gateway's claim behind the device's own.
    AnnouncedByDevice,
    /// The map is full.
    Full,
    /// The tenant's share is full.
    TenantFull,
}

/// See the module's head.
pub(crate) struct Table {
    map: DashMap<DeviceId, Entry, Uneven>,
    pub(super) ring: Ring,
    pub(crate) tenants: Tenants,
    limit: u64,
    limit_per_tenant: u64,
    /// Entries in the map, ended ones included; never above `limit` but by what a replay brought.
    held: AtomicU64,
    /// Entries that the sweeper has not seen end.
    pending: AtomicU64,
    /// Claims that ended unclaimed, since the start.
    expired: AtomicU64,
    next_stamp: AtomicU64,
    /// Ended claims, roughly in the order of their ends; may name entries that are gone or live again.
    ended: Mutex<VecDeque<(DeviceId, [u8; 6])>>,
}

impl Table {
    /// An empty table. Stamps start at `first_stamp`; it must be above every stamp used before.
    pub(crate) fn new(limit: u64, limit_per_tenant: u64, first_stamp: u64) -> Self {
        Self {
            map: DashMap::with_hasher_and_shard_amount(Uneven::default(), SHARDS),
            ring: Ring::new(),
            tenants: Tenants::default(),
            limit,
            limit_per_tenant,
            held: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            next_stamp: AtomicU64::new(first_stamp.min(STAMP_MAX)),
            ended: Mutex::default(),
        }
    }

    /// Puts a claim; `log` runs under the shard's lock with the entry as it will be, so that what it writes down for one
    /// key is in the order of the stamps.
    pub(crate) fn put<L>(
        &self,
        claim: &PendingClaim,
        (tenant, share): (u32, &Share),
        now: Timestamp,
        log: impl FnOnce(&Entry) -> L,
    ) -> Result<(Recorded, L), PutError> {
        let due = slot(claim.expires_at);
        let (recorded, logged, arm) = match self.map.entry(claim.device) {
            Place::Occupied(mut place) => {
                let old = *place.get();
                if old.live(now) && old.source() == ClaimSource::Device && claim.source == ClaimSource::Gateway {
                    return Err(PutError::AnnouncedByDevice);
                }
                if old.ended() || old.tenant() != tenant {
                    count_in(&share.pending, self.limit_per_tenant).map_err(|()| PutError::TenantFull)?;
                    if old.ended() {
                        self.pending.fetch_add(1, Ordering::Relaxed);
                    } else {
                        self.tenants.share(old.tenant()).pending.fetch_sub(1, Ordering::Relaxed);
                    }
                }
                // A key is armed once; an entry that lives longer is armed again when its slot fires.
                let arm = old.ended() || due < old.armed();
                let entry = Entry::new(claim, tenant, self.stamp(), if arm { due } else { old.armed() });
                let logged = log(&entry);
                place.insert(entry);
                (if old.live(now) { Recorded::Replaced } else { Recorded::New }, logged, arm)
            }
            Place::Vacant(place) => {
                count_in(&self.held, self.limit).map_err(|()| PutError::Full)?;
                if count_in(&share.pending, self.limit_per_tenant).is_err() {
                    self.held.fetch_sub(1, Ordering::Relaxed);
                    return Err(PutError::TenantFull);
                }
                self.pending.fetch_add(1, Ordering::Relaxed);
                let entry = Entry::new(claim, tenant, self.stamp(), due);
                let logged = log(&entry);
                drop(place.insert(entry));
                (Recorded::New, logged, true)
            }
        };
        if arm {
            self.ring.arm(due, claim.device, self.map.hash_usize(&claim.device));
        }
        Ok((recorded, logged))
    }

    fn stamp(&self) -> u64 {
        self.next_stamp.fetch_add(1, Ordering::Relaxed)
    }

    /// The device's claim, live or remembered.
    pub(crate) fn get(&self, device: DeviceId, now: Timestamp) -> Option<Sighting> {
        let entry = self.map.view(&device, |_, entry| *entry)?;
        (now < entry.expires_at().plus(REMEMBERED)).then(|| entry.sighting(device, self.tenants.id(entry.tenant())))
    }

    /// Whether this very claim is the device's present one.
    pub(crate) fn is_current(&self, device: DeviceId, stamp: u64) -> bool {
        self.map.view(&device, |_, entry| entry.stamp() == stamp).unwrap_or(false)
    }

    /// Removes the device's claim if `gone` says so; `log` runs under the shard's lock.
    pub(crate) fn remove_if(
        &self,
        device: DeviceId,
        gone: impl FnOnce(&Entry) -> bool,
        log: impl FnOnce(&Entry),
    ) -> bool {
        let removed = self.map.remove_if(&device, |_, entry| {
            let fits = gone(entry);
            if fits {
                log(entry);
            }
            fits
        });
        if let Some((_, entry)) = &removed {
            self.count_out(entry);
        }
        removed.is_some()
    }

    fn count_out(&self, entry: &Entry) {
        self.held.fetch_sub(1, Ordering::Relaxed);
        if !entry.ended() {
            self.count_ended(entry);
        }
    }

    fn count_ended(&self, entry: &Entry) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
        self.tenants.share(entry.tenant()).pending.fetch_sub(1, Ordering::Relaxed);
    }

    /// Forgets one ended claim to make room; false when there is none left.
    pub(crate) fn forget_one(&self) -> bool {
        loop {
            let Some((device, expires)) = self.ended().pop_front() else {
                return false;
            };
            if self.forget(device, expires) {
                return true;
            }
        }
    }

    fn forget(&self, device: DeviceId, expires: [u8; 6]) -> bool {
        let same = |entry: &Entry| entry.ended() && pack_millis(entry.expires_at()) == expires;
        self.remove_if(device, same, |_| ())
    }

    /// Forgets up to `most` claims that ended [`REMEMBERED`] ago; returns how many were looked at.
    pub(super) fn forget_due(&self, now: Timestamp, most: usize) -> usize {
        for looked_at in 0..most {
            let due = {
                let mut ended = self.ended();
                let due = ended.front().is_some_and(|(_, expires)| unpack_millis(*expires).plus(REMEMBERED) <= now);
                if due { ended.pop_front() } else { None }
            };
            let Some((device, expires)) = due else {
                return looked_at;
            };
            self.forget(device, expires);
        }
        most
    }

    /// Looks at a key whose slot fired; true when its claim has ended just now.
    pub(super) fn visit(&self, device: DeviceId, now: Timestamp) -> bool {
        let Some(mut entry) = self.map.get_mut(&device) else {
            return false;
        };
        if entry.ended() {
            return false;
        }
        let due = slot(entry.expires_at());
        if entry.live(now) {
            // Armed elsewhere: another key of the ring stands for it.
            let arm = entry.armed() < slot(now);
            if arm {
                entry.arm(due);
            }
            drop(entry);
            if arm {
                self.ring.arm(due, device, self.map.hash_usize(&device));
            }
            return false;
        }
        entry.end();
        self.count_ended(&entry);
        self.expired.fetch_add(1, Ordering::Relaxed);
        let expires = pack_millis(entry.expires_at());
        drop(entry);
        self.ended().push_back((device, expires));
        true
    }

    /// Gives memory back when most of the map is empty; looks at one shard after the other.
    pub(super) fn shrink(&self) {
        let held = usize::try_from(self.held()).unwrap_or(usize::MAX);
        if self.map.capacity() > held.saturating_mul(4).saturating_add(64 * SHARDS) {
            self.map.shrink_to_fit();
            let mut ended = self.ended();
            if ended.capacity() > ended.len().saturating_mul(4) {
                ended.shrink_to_fit();
            }
        }
    }

    /// Puts an entry as a replay found it, if it is the newest of its key. Counters and ring are set by
    /// [`Table::settle`].
    pub(crate) fn load(&self, device: DeviceId, entry: Entry) {
        match self.map.entry(device) {
            Place::Occupied(mut place) => {
                if place.get().stamp() <= entry.stamp() {
                    place.insert(entry);
                }
            }
            Place::Vacant(place) => drop(place.insert(entry)),
        }
    }

    /// Removes the claim with this stamp, or an older one, as a replay found it.
    pub(crate) fn unload(&self, device: DeviceId, stamp: u64) {
        self.map.remove_if(&device, |_, entry| entry.stamp() <= stamp);
    }

    /// After the last [`Table::load`]: drops what is not even remembered, cuts every expiry to `latest`, counts and arms
    /// the rest. Before anyone else sees the table.
    pub(crate) fn settle(&self, now: Timestamp, latest: Timestamp, first_stamp: u64) {
        self.next_stamp.fetch_max(first_stamp.min(STAMP_MAX), Ordering::Relaxed);
        self.map.retain(|device, entry| {
            entry.cut_expiry(latest);
            let expires = entry.expires_at();
            if expires.plus(REMEMBERED) <= now {
                return false;
            }
            self.held.fetch_add(1, Ordering::Relaxed);
            if entry.live(now) {
                self.pending.fetch_add(1, Ordering::Relaxed);
                self.tenants.share(entry.tenant()).pending.fetch_add(1, Ordering::Relaxed);
                entry.arm(slot(expires));
                self.ring.arm(entry.armed(), *device, self.map.hash_usize(device));
            } else {
                entry.end();
                self.ended().push_back((*device, pack_millis(expires)));
            }
            true
        });
        self.ended().make_contiguous().sort_unstable_by_key(|(_, expires)| unpack_millis(*expires));
    }

    /// Hands out every entry. Holds a shard's read lock while it is there: `see` only looks.
    pub(crate) fn each(&self, mut see: impl FnMut(DeviceId, &Entry)) {
        for entry in &self.map {
            see(*entry.key(), entry.value());
        }
    }

    /// When room is likely: when the next claims are known to end, between a second and a minute from now.
    pub(crate) fn room_expected(&self, now: Timestamp) -> Duration {
        let next = self.ring.next_due(now).unwrap_or(Duration::ZERO);
        next.clamp(Duration::from_secs(1), Duration::from_secs(60))
    }

    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    pub(crate) fn pending(&self) -> u64 {
        self.pending.load(Ordering::Relaxed)
    }

    pub(crate) fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    pub(crate) fn limit_per_tenant(&self) -> u64 {
        self.limit_per_tenant
    }

    fn ended(&self) -> std::sync::MutexGuard<'_, VecDeque<(DeviceId, [u8; 6])>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many keys the ring holds, stale ones included.
    #[cfg(test)]
    pub(super) fn armed(&self) -> usize {
        self.ring.len()
    }
}

/// Adds one, unless that would pass the limit.
fn count_in(count: &AtomicU64, limit: u64) -> Result<(), ()> {
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < limit).then_some(count + 1))
        .map(|_| ())
        .map_err(|_| ())
}
