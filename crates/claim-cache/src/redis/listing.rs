//! A tenant's live claims, a page at a time.

use std::collections::BTreeSet;

use claim::ports::{PendingClaim, Unavailable};
use claim::{DeviceId, TenantId, Timestamp};
use redis::Value;

use super::link::Kind;
use super::sweep::{number, texts};
use super::{Store, layout};

/// Ends looked at by one command.
const STEP: usize = 1000;

/// The claims of one tenant that are live at `now`, by device id: the first `limit` after `after`. Looks at every end, in
/// small steps between which others are served.
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
    loop {
        let devices = first_of(store, tenant, after, limit, now).await?;
        let claims = claims_of(store, tenant, &devices, now).await?;
        // An empty page means that there are no more; those that went just now are no reason to say so.
        if !claims.is_empty() || devices.len() < limit {
            return Ok(claims);
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
    let mut cursor = b"0".to_vec();
    loop {
        let mut scan = redis::cmd("ZSCAN");
        scan.arg(&store.names.ends).arg(&cursor).arg("COUNT").arg(STEP);
        let Value::Array(said) = store.link.one(scan, Kind::Passing).await? else { return Err(Unavailable) };
        let Ok([Value::BulkString(next), ends]) = <[Value; 2]>::try_from(said) else { return Err(Unavailable) };
        for pair in texts(ends).chunks_exact(2) {
            let (Some((of, device)), Some(at)) = (layout::unpack_member(&pair[0]), number(&pair[1])) else { continue };
            if of == tenant && now.as_millis() < at && after.is_none_or(|after| device > after) {
                first.insert(device);
                if first.len() > limit {
                    first.pop_last();
                }
            }
        }
        if next == b"0" {
            return Ok(first.into_iter().collect());
        }
        cursor = next;
    }
}

async fn claims_of(
    store: &Store,
    tenant: TenantId,
    devices: &[DeviceId],
    now: Timestamp,
) -> Result<Vec<PendingClaim>, Unavailable> {
    if devices.is_empty() {
        return Ok(Vec::new());
    }
    let mut read = redis::cmd("MGET");
    for device in devices {
        read.arg(store.names.claim(*device));
    }
    let Value::Array(values) = store.link.one(read, Kind::Passing).await? else { return Err(Unavailable) };
    let claim = |(value, device): (Value, &DeviceId)| match value {
        Value::BulkString(value) => {
            layout::unpack(*device, &value).filter(|seen| seen.live(now)).map(|seen| seen.claim)
        }
        _ => None,
    };
    Ok(values.into_iter().zip(devices).filter_map(claim).filter(|claim| claim.tenant == tenant).collect())
}
