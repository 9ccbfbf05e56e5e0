//! Tenants as small numbers, each with its count of pending claims. A number is for the life of the process; tenants are
//! made by operators, so there are few.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use claim::TenantId;

/// A tenant's share of the cache.
pub(crate) struct Share {
    pub(crate) id: TenantId,
    pub(crate) pending: AtomicU64,
}

#[derive(Default)]
struct Known {
    indexes: HashMap<TenantId, u32, ahash::RandomState>,
    shares: Vec<Arc<Share>>,
}

/// See the module's head.
#[derive(Default)]
pub(crate) struct Tenants {
    known: RwLock<Known>,
}

impl Tenants {
    /// A tenant's number and share. `on_new` runs once for each tenant, before anyone else can learn its number.
    pub(crate) fn index(&self, id: TenantId, on_new: impl FnOnce(u32)) -> (u32, Arc<Share>) {
        if let Some(found) = self.known(id) {
            return found;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(&index) = known.indexes.get(&id) {
            return (index, Arc::clone(&known.shares[index as usize]));
        }
        let index = u32::try_from(known.shares.len()).unwrap_or(u32::MAX);
        let share = Arc::new(Share { id, pending: AtomicU64::new(0) });
        on_new(index);
        known.shares.push(Arc::clone(&share));
        known.indexes.insert(id, index);
        (index, share)
    }

    /// A tenant's number and share, if it ever had a claim.
    pub(crate) fn known(&self, id: TenantId) -> Option<(u32, Arc<Share>)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.indexes.get(&id).map(|&index| (index, Arc::clone(&known.shares[index as usize])))
    }

    /// The share with this number.
    pub(crate) fn share(&self, index: u32) -> Arc<Share> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner).shares[index as usize])
    }

    /// The tenant with this number.
    pub(crate) fn id(&self, index: u32) -> TenantId {
        self.known.read().unwrap_or_else(PoisonError::into_inner).shares[index as usize].id
    }

    /// All tenants in the order of their numbers.
    pub(crate) fn ids(&self) -> Vec<TenantId> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).shares.iter().map(|share| share.id).collect()
    }

    /// The count of the tenant that has most pending claims.
    pub(crate) fn fullest(&self) -> u64 {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.shares.iter().map(|share| share.pending.load(Ordering::Relaxed)).max().unwrap_or(0)
    }
}
