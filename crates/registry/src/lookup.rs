//! The look-up cache of what a claim message needs: credential → device, device → standing, device → gateways. Bounded;
//! a lost entry costs one read.
//!
//! Every change on this node is forgotten here after its commit and before its caller is answered; what other nodes change,
//! as soon as this one hears of it (`postgres/stale.rs`). A reader that read
//! the old row must not put it in afterwards: it remembers the epoch before reading, and both sides take the same lock.

mod front;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use claim::ports::CredentialHolder;
use claim::secret::{CredentialDigest, SecretDigest};
use claim::{Device, DeviceId};
use moka::sync::Cache;

use front::Front;

/// What a change makes stale.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Forget {
    Device(DeviceId),
    Credential([u8; 32]),
    Gateways(DeviceId),
    /// A profile or tenant changed: too many to name.
    Everything,
}

/// What a credential leads to.
#[derive(Clone, Copy)]
pub(crate) struct Holder {
    pub(crate) device: DeviceId,
    pub(crate) password: Option<SecretDigest>,
}

pub(crate) struct Lookup {
    /// `None`: known not to exist; a stock client's token is looked up as a user name first, each time.
    credentials: Cache<[u8; 32], Option<Holder>, ahash::RandomState>,
    devices: Cache<DeviceId, Option<Arc<Device>>, ahash::RandomState>,
    gateways: Cache<DeviceId, Arc<[DeviceId]>, ahash::RandomState>,
    /// `None` when entries are to live no longer than these keep them.
    fronts: Option<Fronts>,
    epoch: AtomicU64,
    lock: Mutex<()>,
}

struct Fronts {
    credentials: Front<[u8; 32], Option<CredentialHolder>>,
    devices: Front<DeviceId, Option<Arc<Device>>>,
}

/// The epoch before a read.
#[derive(Clone, Copy)]
pub(crate) struct Before(u64);

impl Lookup {
    pub(crate) fn new(entries: u64, age: Duration) -> Self {
        fn cache<K, V>(entries: u64, age: Duration) -> Cache<K, V, ahash::RandomState>
        where
            K: std::hash::Hash + Eq + Send + Sync + 'static,
            V: Clone + Send + Sync + 'static,
        {
            Cache::builder().max_capacity(entries).time_to_live(age).build_with_hasher(ahash::RandomState::new())
        }
        // Together they keep nothing for longer than was asked for.
        let (age, fronts) = match age.checked_sub(front::AGE) {
            Some(rest) if !rest.is_zero() => (rest, Some(Fronts { credentials: Front::new(), devices: Front::new() })),
            _ => (age, None),
        };
        Self {
            fronts,
            credentials: cache(entries, age),
            devices: cache(entries, age),
            gateways: cache(entries, age),
            epoch: AtomicU64::new(0),
            lock: Mutex::new(()),
        }
    }

    pub(crate) fn before(&self) -> Before {
        Before(self.epoch.load(Ordering::Acquire))
    }

    /// Puts in what was read, unless something was forgotten meanwhile.
    fn put(&self, before: Before, put: impl FnOnce()) {
        let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if self.epoch.load(Ordering::Acquire) == before.0 {
            put();
        }
    }

    pub(crate) fn forget(&self, stale: &[Forget]) {
        if stale.is_empty() {
            return;
        }
        let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        for stale in stale {
            match stale {
                Forget::Device(id) => self.devices.invalidate(id),
                Forget::Credential(digest) => self.credentials.invalidate(digest),
                Forget::Gateways(id) => self.gateways.invalidate(id),
                Forget::Everything => {
                    self.credentials.invalidate_all();
                    self.devices.invalidate_all();
                    self.gateways.invalidate_all();
                }
            }
        }
        // Last: whoever sees the new epoch finds nothing of the old one, so what it keeps in front is of after the change.
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// `Some(None)`: known not to exist. `None`: not in the cache.
    pub(crate) fn credential(&self, digest: &CredentialDigest) -> Option<Option<CredentialHolder>> {
        let Before(epoch) = self.before();
        let digest = digest.as_bytes();
        if let Some(found) = self.fronts.as_ref().and_then(|fronts| fronts.credentials.get(digest, epoch)) {
            return Some(found);
        }
        let found = match self.credentials.get(digest)? {
            None => None,
            Some(holder) => {
                let device = self.devices.get(&holder.device)??;
                Some(CredentialHolder { device, password: holder.password })
            }
        };
        if let Some(fronts) = &self.fronts {
            fronts.credentials.put(digest, epoch, &found);
        }
        Some(found)
    }

    pub(crate) fn device(&self, id: DeviceId) -> Option<Option<Arc<Device>>> {
        let Before(epoch) = self.before();
        if let Some(found) = self.fronts.as_ref().and_then(|fronts| fronts.devices.get(&id, epoch)) {
            return Some(found);
        }
        let found = self.devices.get(&id)?;
        if let Some(fronts) = &self.fronts {
            fronts.devices.put(&id, epoch, &found);
        }
        Some(found)
    }

    pub(crate) fn gateways(&self, id: DeviceId) -> Option<Arc<[DeviceId]>> {
        self.gateways.get(&id)
    }

    pub(crate) fn put_credential(&self, before: Before, digest: CredentialDigest, found: Option<&CredentialHolder>) {
        self.put(before, || {
            if let Some(holder) = found {
                self.devices.insert(holder.device.id, Some(Arc::clone(&holder.device)));
            }
            let holder = found.map(|found| Holder { device: found.device.id, password: found.password });
            self.credentials.insert(*digest.as_bytes(), holder);
        });
    }

    pub(crate) fn put_device(&self, before: Before, id: DeviceId, device: Option<Arc<Device>>) {
        self.put(before, || self.devices.insert(id, device));
    }

    pub(crate) fn put_gateways(&self, before: Before, id: DeviceId, gateways: Arc<[DeviceId]>) {
        self.put(before, || self.gateways.insert(id, gateways));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_a_change_is_not_put_in_after_it() {
        let lookup = Lookup::new(100, Duration::from_secs(10));
        let id = DeviceId::from_bytes([1; 16]);
        let before = lookup.before();
        // The reader has the old row in hand; now the change commits.
        lookup.forget(&[Forget::Device(id)]);
        lookup.put_device(before, id, None);
        assert!(lookup.device(id).is_none(), "the stale row is not in the cache");
        lookup.put_device(lookup.before(), id, None);
        assert!(lookup.device(id).is_some());
    }

    #[test]
    fn a_credential_that_was_just_answered_is_forgotten_too() {
        let keys = claim::secret::Keyring::from_root(&[1; 32]);
        for age in [Duration::from_secs(10), Duration::from_millis(500)] {
            let lookup = Lookup::new(100, age);
            let digest = keys.access_token("a token");
            lookup.put_credential(lookup.before(), digest, None);
            assert!(lookup.credential(&digest).is_some() && lookup.credential(&digest).is_some());
            lookup.forget(&[Forget::Credential(*digest.as_bytes())]);
            assert!(lookup.credential(&digest).is_none());
        }
    }

    #[test]
    fn who_reads_during_a_change_keeps_nothing_of_before_it() {
        let lookup = Lookup::new(100, Duration::from_secs(10));
        let id = DeviceId::from_bytes([1; 16]);
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        lookup.device(id);
                    }
                });
            }
            let stale = (0..20_000).filter(|_| {
                lookup.put_device(lookup.before(), id, None);
                lookup.forget(&[Forget::Device(id)]);
                lookup.device(id).is_some()
            });
            let stale = stale.count();
            over.store(true, Ordering::Relaxed);
            assert_eq!(stale, 0, "answers of before the change");
        });
    }

    #[test]
    fn what_was_put_in_before_a_change_is_forgotten_by_it() {
        let lookup = Lookup::new(100, Duration::from_secs(10));
        let id = DeviceId::from_bytes([1; 16]);
        lookup.put_device(lookup.before(), id, None);
        assert!(lookup.device(id).is_some() && lookup.device(id).is_some());
        lookup.forget(&[Forget::Device(id)]);
        assert!(lookup.device(id).is_none());
    }
}
