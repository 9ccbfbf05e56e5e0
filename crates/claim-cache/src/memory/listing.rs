//! A tenant's live claims, a page at a time.

use std::collections::BinaryHeap;

use claim::ports::PendingClaim;
use claim::{DeviceId, TenantId, Timestamp};

use super::entry::Entry;
use super::table::Table;

/// The claims of one tenant (with its number) that are live at `now`, by device id: the first `limit` after `after`. Looks at
/// every entry, one shard's read lock at a time; keeps `limit` of them.
pub(super) fn live_of(
    table: &Table,
    (tenant, number): (TenantId, u32),
    after: Option<DeviceId>,
    limit: usize,
    now: Timestamp,
) -> Vec<PendingClaim> {
    // The largest id on top, to make room for a smaller one.
    let mut first: BinaryHeap<ById> = BinaryHeap::new();
    table.each(|device, entry| {
        if entry.tenant() != number || !entry.live(now) || after.is_some_and(|after| device <= after) {
            return;
        }
        if first.len() < limit {
            first.push(ById(device, *entry));
        } else if let Some(mut largest) = first.peek_mut().filter(|largest| device < largest.0) {
            *largest = ById(device, *entry);
        }
    });
    first.into_sorted_vec().into_iter().map(|ById(device, entry)| entry.claim(device, tenant)).collect()
}

struct ById(DeviceId, Entry);

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for ById {}

impl PartialOrd for ById {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ById {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}
