//! Recording claims: a plain SET where there is a place for it and nobody to be spared, else a script.

use claim::ports::{ClaimSource, PendingClaim, RecordError, Recorded, Unavailable};
use claim::{TenantId, Timestamp};
use redis::Value;

use super::counts::Places;
use super::link::{Kind, code};
use super::shards::Call;
use super::{FORGET_SLACK, MEMORY_PAUSE, Store, layout, scripts, sweep};
use crate::memory::REMEMBERED;

type Answer = Result<Recorded, RecordError>;

/// Records one.
pub(super) async fn one(store: &Store, claim: PendingClaim, now: Timestamp) -> Answer {
    let Ok(place) = store.counts.at_hand(claim.tenant, 1, now) else {
        return of_tenant(store, &[claim], now).await.pop().unwrap_or(Err(RecordError::Unavailable));
    };
    let said = store.ask_one(call(store, &claim, now, true), Kind::Kept).await;
    judge(store, &claim, Some(&place), said, now).unwrap_or_else(|| full(&place, now))
}

/// Records many; answers in their order.
pub(super) async fn many(store: &Store, claims: Vec<PendingClaim>, now: Timestamp) -> Vec<Answer> {
    let Some(first) = claims.first() else { return Vec::new() };
    if claims.iter().all(|claim| claim.tenant == first.tenant) {
        return of_tenant(store, &claims, now).await;
    }
    let mut tenants: Vec<TenantId> = claims.iter().map(|claim| claim.tenant).collect();
    tenants.sort_unstable();
    tenants.dedup();
    let mut answers = vec![Err(RecordError::Unavailable); claims.len()];
    for tenant in tenants {
        let (places, own): (Vec<usize>, Vec<PendingClaim>) =
            claims.iter().enumerate().filter(|(_, claim)| claim.tenant == tenant).unzip();
        for (place, answer) in places.into_iter().zip(of_tenant(store, &own, now).await) {
            answers[place] = answer;
        }
    }
    answers
}

/// Records claims of one tenant.
async fn of_tenant(store: &Store, claims: &[PendingClaim], now: Timestamp) -> Vec<Answer> {
    let Some(PendingClaim { tenant, .. }) = claims.first().copied() else { return Vec::new() };
    let mut answers: Vec<Option<Answer>> = vec![None; claims.len()];
    let mut left: Vec<usize> = (0..claims.len()).collect();
    let places = match store.counts.at_hand(tenant, claims.len(), now) {
        Ok(places) => Ok(places),
        Err(short) => {
            if short {
                // What replaces a live one needs no place: it takes none from another, not even for a moment.
                let calls = claims.iter().map(|claim| call(store, claim, now, false)).collect();
                for (place, said) in store.shards.ask(calls, Kind::Kept).await.into_iter().enumerate() {
                    answers[place] = judge(store, &claims[place], None, said, now);
                }
                left.retain(|place| answers[*place].is_none());
            }
            if left.is_empty() {
                return answers.into_iter().flatten().collect();
            }
            store.counts.take(store, tenant, left.len(), now).await
        }
    };
    let places = match places {
        Ok(places) => places,
        Err(error) => return answers.into_iter().map(|answer| answer.unwrap_or(Err(error))).collect(),
    };
    // One after another, as they came: of two for one device the later stays.
    let calls = left.iter().enumerate().map(|(n, place)| call(store, &claims[*place], now, n < places.count)).collect();
    let said = store.shards.ask(calls, Kind::Kept).await;
    for (n, (place, said)) in left.into_iter().zip(said).enumerate() {
        let taken = (n < places.count).then_some(&places);
        answers[place] = judge(store, &claims[place], taken, said, now);
    }
    answers.into_iter().map(|answer| answer.unwrap_or_else(|| full(&places, now))).collect()
}

fn call(store: &Store, claim: &PendingClaim, now: Timestamp, place: bool) -> Call {
    let key = store.names.claim(claim.device);
    let slot = layout::slot_of(&key);
    let value = layout::pack(claim, store.unique());
    // Absolute: however often it is sent, it ends at one instant.
    let forgotten = claim.expires_at.plus(REMEMBERED + FORGET_SLACK).as_millis();
    let command = if place && claim.source == ClaimSource::Device {
        let mut set = redis::Cmd::with_capacity(6, 160);
        set.arg("SET").arg(&key).arg(&value).arg("PXAT").arg(forgotten).arg("GET");
        set
    } else {
        let mut script = scripts::RECORD.call(&[&key]);
        script.arg(&value).arg(now.as_millis()).arg(forgotten).arg(u8::from(place));
        script
    };
    Call { slot, command }
}

/// What the server did, noted in the counts; `None`: there was no place.
fn judge(
    store: &Store,
    claim: &PendingClaim,
    place: Option<&Places>,
    said: Result<Value, Unavailable>,
    now: Timestamp,
) -> Option<Answer> {
    let unused = || {
        if let Some(place) = place {
            store.counts.unused(claim.tenant, place);
        }
    };
    let before = match said {
        Ok(Value::Nil) => None,
        // What a later version wrote is not understood; it is replaced like nothing.
        Ok(Value::BulkString(before)) => layout::unpack(claim.device, &before).map(|seen| seen.claim),
        Ok(Value::Int(2)) => {
            unused();
            return Some(Err(RecordError::AnnouncedByDevice));
        }
        Ok(Value::Int(3)) => return None,
        Ok(value) => {
            unused();
            return Some(Err(refusal(&value)));
        }
        // Perhaps it is there: its place counts as taken until nobody can use it any more.
        Err(Unavailable) => return Some(Err(RecordError::Unavailable)),
    };
    let replaced = store.counts.recorded(claim, place, before.as_ref(), now);
    Some(Ok(if replaced { Recorded::Replaced } else { Recorded::New }))
}

/// Why a server did not do what it was asked.
pub(super) fn refusal(value: &Value) -> RecordError {
    match code(value) {
        Some("OOM") => RecordError::Full { retry_after: MEMORY_PAUSE },
        Some(code) => {
            tracing::warn!(code, "the claim store refused a command");
            RecordError::Unavailable
        }
        None => RecordError::Unavailable,
    }
}

fn full(places: &Places, now: Timestamp) -> Answer {
    let wait = now.until(places.first_end.plus(sweep::GRACE));
    Err(RecordError::Full { retry_after: wait.clamp(std::time::Duration::from_secs(1), MEMORY_PAUSE) })
}
