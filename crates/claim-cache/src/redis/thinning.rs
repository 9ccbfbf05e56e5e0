//! Keeps the lists of periods short: a device that repeats its claim leaves an entry behind in each period it has been in.
//!
//! A list is looked at when it is longer than twice its claims and a thousand; so what is left behind never takes more
//! memory than that.

use std::collections::HashSet;

use claim::ports::{Sighting, Unavailable};
use claim::{DeviceId, TenantId, Timestamp};
use redis::Value;

use super::counts::SLACK;
use super::layout::{self, Period};
use super::link::Kind;
use super::sweep::{GRACE, number, texts};
use super::{Store, scripts};

/// Looks at the lists that were long when last written to.
pub(super) async fn thin(store: &Store, now: Timestamp) -> Result<(), Unavailable> {
    for (period, length) in store.counts.long_lists() {
        // Those that are over, or soon, are being read by all nodes and then forgotten.
        if period.second().saturating_mul(1000) <= now.plus(GRACE).as_millis() {
            continue;
        }
        let mut counts = redis::cmd("HGETALL");
        counts.arg(store.names.counts(period));
        let counts = texts(store.one(store.tagged(counts), Kind::Passing).await?);
        let tenants = counts.chunks_exact(2).filter(|pair| pair[0].len() == 16);
        let live: i64 = tenants.filter_map(|pair| number(&pair[1])).sum();
        if length > 2 * usize::try_from(live).unwrap_or(0) + SLACK {
            thin_one(store, period, length).await?;
        }
    }
    Ok(())
}

/// From the front, for as many entries as there were when this began: what still counts goes behind the others.
async fn thin_one(store: &Store, period: Period, length: usize) -> Result<(), Unavailable> {
    let mut looked_at = 0;
    while looked_at < length {
        let mut read = redis::cmd("LINDEX");
        read.arg(store.names.list(period)).arg(0);
        let Value::BulkString(string) = store.one(store.tagged(read), Kind::Passing).await? else { break };
        let entries: Vec<(TenantId, DeviceId)> = layout::unpack_entries(&string).collect();
        looked_at += entries.len().max(1);
        let claims = store.claims(&entries.iter().map(|(_, device)| *device).collect::<Vec<_>>()).await?;
        let (mut kept, mut still) = (HashSet::new(), Vec::new());
        for ((tenant, device), seen) in entries.into_iter().zip(claims) {
            let counts = seen
                .is_some_and(|Sighting { claim, .. }| Period::of(claim.expires_at) == period && claim.tenant == tenant);
            if counts && kept.insert(device) {
                still.extend_from_slice(&layout::entry(tenant, device));
            }
        }
        let mut call = scripts::THIN.call(&[&store.names.list(period), &store.names.counts(period)]);
        call.arg(string).arg(still);
        if store.one(store.tagged(call), Kind::Passing).await? != Value::Int(1) {
            // Another node is at it.
            break;
        }
    }
    Ok(())
}
