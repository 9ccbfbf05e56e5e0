//! A tenant's live claims, a page at a time.

use std::collections::BTreeSet;

use claim::ports::{PendingClaim, Unavailable};
use claim::{DeviceId, TenantId, Timestamp};
use redis::Value;

use super::layout::Period;
use super::link::Kind;
use super::sweep::{self, STRINGS, texts};
use super::{Store, layout};

/// Periods looked at by one pipeline.
const STEP: usize = 1000;

/// The claims of one tenant that are live at `now`, by device id: the first `limit` after `after`. Looks at
/// every entry of a period in which the tenant has claims, in small steps between which others are served.
pub(super) async fn live_of(
    store: &Store,
    tenant: TenantId,
    mut after: Option<DeviceId>,
    limit: usize,
    now: Timestamp,
) -> Result<Vec<PendingClaim>, Unavailable> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let mut page = Vec::new();
    loop {
        let devices = first_of(store, tenant, after, limit, now).await?;
        let seen = store.claims(&devices).await?;
        let live = seen.into_iter().flatten().filter(|seen| seen.live(now)).map(|seen| seen.claim);
        page.extend(live.filter(|claim| claim.tenant == tenant));
        // Lists tell of some that are gone; that makes no page shorter.
        if page.len() >= limit || devices.len() < limit {
            page.truncate(limit);
            return Ok(page);
        }
        after = devices.last().copied();
    }
}

async fn first_of(
    store: &Store,
    tenant: TenantId,
    after: Option<DeviceId>,
    limit: usize,
    now: Timestamp,
) -> Result<Vec<DeviceId>, Unavailable> {
    let mut first = BTreeSet::new();
    let mut from = now.as_millis().div_euclid(1000);
    loop {
        let periods = sweep::periods(store, from, i64::MAX, STEP).await?;
        let calls = periods.iter().map(|period| {
            let mut has = redis::cmd("HEXISTS");
            has.arg(store.names.counts(*period)).arg(tenant.as_bytes());
            store.tagged(has)
        });
        let has = store.all(calls.collect(), Kind::Passing).await?;
        for (period, has) in periods.iter().zip(has) {
            if matches!(period, Period::Ends(_)) && has == Value::Int(1) {
                first_of_period(store, *period, (tenant, after, limit), &mut first).await?;
            }
        }
        match periods.last() {
            // At most two have one second.
            Some(last) if periods.len() == STEP => from = last.second().max(from + 1),
            _ => return Ok(first.into_iter().collect()),
        }
    }
}

async fn first_of_period(
    store: &Store,
    period: Period,
    (tenant, after, limit): (TenantId, Option<DeviceId>, usize),
    first: &mut BTreeSet<DeviceId>,
) -> Result<(), Unavailable> {
    for start in (0..).step_by(STRINGS) {
        let mut read = redis::cmd("LRANGE");
        read.arg(store.names.list(period)).arg(start).arg(start + STRINGS - 1);
        let strings = texts(store.one(store.tagged(read), Kind::Passing).await?);
        for (of, device) in strings.iter().flat_map(|string| layout::unpack_entries(string)) {
            if of == tenant && after.is_none_or(|after| device > after) {
                first.insert(device);
                if first.len() > limit {
                    first.pop_last();
                }
            }
        }
        if strings.len() < STRINGS {
            break;
        }
    }
    Ok(())
}
