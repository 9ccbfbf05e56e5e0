//! The contract of [`ClaimCache`], rule by rule. Each function needs an empty or shared cache and an instant at which it
//! pretends to be; devices are fresh each time. [`all`] runs every rule.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use claim::ports::{ClaimCache, ClaimSource, PendingClaim, RecordError, Recorded};
use claim::{DeviceId, SecretDigest, TenantId, Timestamp};

/// A claim of a fresh device, received at `now`, for ten minutes.
pub fn claim_at(now: Timestamp) -> PendingClaim {
    PendingClaim {
        tenant: TenantId::from_bytes([7; 16]),
        device: DeviceId::random(),
        digest: SecretDigest::from_bytes([1; 32]),
        received_at: now,
        expires_at: now.plus(Duration::from_secs(600)),
        source: ClaimSource::Device,
    }
}

/// Runs every rule.
pub async fn all(cache: &Arc<dyn ClaimCache>, now: Timestamp) {
    a_recorded_claim_is_seen_until_it_ends_and_remembered_for_ten_minutes(&**cache, now).await;
    an_unknown_device_has_no_claim(&**cache, now).await;
    the_newest_claim_wins_with_its_secret_and_its_end(&**cache, now).await;
    a_claim_after_the_last_one_ended_is_new(&**cache, now).await;
    a_gateway_never_replaces_what_the_device_announced(&**cache, now).await;
    a_claim_is_consumed_by_its_stamp_only(&**cache, now).await;
    a_withdrawal_takes_what_was_received_up_to_the_fence(&**cache, now).await;
    a_tenants_live_claims_are_listed_once_each_by_pages(&**cache, now).await;
    a_batch_is_answered_in_order_each_as_if_alone(&**cache, now).await;
    an_empty_batch_is_answered(&**cache, now).await;
    of_concurrent_consumers_one_wins(cache, now).await;
    concurrent_claims_of_a_device_leave_exactly_one(cache, now).await;
}

/// Visible at once, with everything that was recorded, to the millisecond of its end.
pub async fn a_recorded_claim_is_seen_until_it_ends_and_remembered_for_ten_minutes(
    cache: &dyn ClaimCache,
    now: Timestamp,
) {
    for source in [ClaimSource::Device, ClaimSource::Gateway] {
        let claim = PendingClaim { source, ..claim_at(now) };
        assert_eq!(cache.record(claim, now).await, Ok(Recorded::New));
        let last = claim.expires_at.minus(Duration::from_millis(1));
        for instant in [now, last] {
            let seen = cache.peek(claim.device, instant).await.unwrap().expect("it is live");
            assert_eq!(seen.claim, claim);
            assert!(seen.live(instant));
        }
        let ended = cache.peek(claim.device, claim.expires_at).await.unwrap().expect("it is remembered");
        assert!(!ended.live(claim.expires_at), "the window is half-open");
        let forgotten = claim.expires_at.plus(Duration::from_secs(600));
        let seen = cache.peek(claim.device, forgotten.minus(Duration::from_millis(1))).await.unwrap();
        assert_eq!(seen.map(|seen| seen.claim), Some(claim));
        assert_eq!(cache.peek(claim.device, forgotten).await, Ok(None));
    }
}

/// No claim, no error.
pub async fn an_unknown_device_has_no_claim(cache: &dyn ClaimCache, now: Timestamp) {
    assert_eq!(cache.peek(DeviceId::random(), now).await, Ok(None));
    assert_eq!(cache.peek(DeviceId::NOBODY, now).await, Ok(None));
    assert_eq!(cache.consume(DeviceId::random(), 1).await, Ok(false));
    assert_eq!(cache.withdraw(DeviceId::random(), now).await, Ok(false));
}

/// A later message replaces secret and end, also when it ends sooner.
pub async fn the_newest_claim_wins_with_its_secret_and_its_end(cache: &dyn ClaimCache, now: Timestamp) {
    let first = claim_at(now);
    assert_eq!(cache.record(first, now).await, Ok(Recorded::New));
    let first_stamp = cache.peek(first.device, now).await.unwrap().expect("recorded").stamp;
    for lifetime in [5, 3600, 60] {
        let later = PendingClaim {
            digest: SecretDigest::from_bytes([lifetime as u8; 32]),
            expires_at: now.plus(Duration::from_secs(lifetime)),
            ..first
        };
        assert_eq!(cache.record(later, now).await, Ok(Recorded::Replaced));
        let seen = cache.peek(first.device, now).await.unwrap().expect("recorded");
        assert_eq!(seen.claim, later);
        assert_ne!(seen.stamp, first_stamp);
    }
}

/// What has ended is not replaced: there is nothing left to replace.
pub async fn a_claim_after_the_last_one_ended_is_new(cache: &dyn ClaimCache, now: Timestamp) {
    let first = PendingClaim { expires_at: now.plus(Duration::from_millis(1)), ..claim_at(now) };
    assert_eq!(cache.record(first, now).await, Ok(Recorded::New));
    let later = first.expires_at;
    let second = PendingClaim { received_at: later, expires_at: later.plus(Duration::from_secs(60)), ..first };
    assert_eq!(cache.record(second, later).await, Ok(Recorded::New));
    assert_eq!(cache.peek(first.device, later).await.unwrap().map(|seen| seen.claim), Some(second));
}

/// Neither alone nor in a batch; when the device's own has ended, it may.
pub async fn a_gateway_never_replaces_what_the_device_announced(cache: &dyn ClaimCache, now: Timestamp) {
    let own = PendingClaim { expires_at: now.plus(Duration::from_secs(60)), ..claim_at(now) };
    let behind = PendingClaim { source: ClaimSource::Gateway, digest: SecretDigest::from_bytes([2; 32]), ..own };
    assert_eq!(cache.record(behind, now).await, Ok(Recorded::New));
    assert_eq!(cache.record(behind, now).await, Ok(Recorded::Replaced));
    assert_eq!(cache.record(own, now).await, Ok(Recorded::Replaced), "the device may replace the gateway's");
    let last = own.expires_at.minus(Duration::from_millis(1));
    for instant in [now, last] {
        assert_eq!(cache.record(behind, instant).await, Err(RecordError::AnnouncedByDevice));
        assert_eq!(cache.record_batch(vec![behind], instant).await, [Err(RecordError::AnnouncedByDevice)]);
        assert_eq!(cache.peek(own.device, instant).await.unwrap().map(|seen| seen.claim), Some(own));
    }
    let later = PendingClaim { expires_at: own.expires_at.plus(Duration::from_secs(60)), ..behind };
    assert_eq!(cache.record(later, own.expires_at).await, Ok(Recorded::New));
}

/// Only the very claim that was seen; a newer one stays.
pub async fn a_claim_is_consumed_by_its_stamp_only(cache: &dyn ClaimCache, now: Timestamp) {
    let claim = claim_at(now);
    cache.record(claim, now).await.expect("there is room");
    let old = cache.peek(claim.device, now).await.unwrap().expect("recorded");
    cache.record(claim, now).await.expect("there is room");
    let new = cache.peek(claim.device, now).await.unwrap().expect("recorded");
    assert_ne!(old.stamp, new.stamp, "the same claim again is another one");
    assert_eq!(cache.consume(claim.device, old.stamp).await, Ok(false));
    assert_eq!(cache.peek(claim.device, now).await, Ok(Some(new)));
    assert_eq!(cache.consume(DeviceId::random(), new.stamp).await, Ok(false));
    assert_eq!(cache.consume(claim.device, new.stamp).await, Ok(true));
    assert_eq!(cache.peek(claim.device, now).await, Ok(None));
    assert_eq!(cache.consume(claim.device, new.stamp).await, Ok(false));
    assert_eq!(cache.record(claim, now).await, Ok(Recorded::New));
    let after = cache.peek(claim.device, now).await.unwrap().expect("recorded");
    assert!(after.stamp != old.stamp && after.stamp != new.stamp, "a stamp is never used twice");
}

/// Up to and including the fence; a claim received later stays.
pub async fn a_withdrawal_takes_what_was_received_up_to_the_fence(cache: &dyn ClaimCache, now: Timestamp) {
    let claim = claim_at(now);
    cache.record(claim, now).await.expect("there is room");
    let before = now.minus(Duration::from_millis(1));
    assert_eq!(cache.withdraw(claim.device, before).await, Ok(false));
    assert!(cache.peek(claim.device, now).await.unwrap().is_some());
    assert_eq!(cache.withdraw(claim.device, now).await, Ok(true));
    assert_eq!(cache.peek(claim.device, now).await, Ok(None));
    assert_eq!(cache.withdraw(claim.device, now).await, Ok(false));
}

/// By device id, without those of others, those that ended and those that were withdrawn; to the millisecond of their end.
pub async fn a_tenants_live_claims_are_listed_once_each_by_pages(cache: &dyn ClaimCache, now: Timestamp) {
    let (tenant, other) = (TenantId::random(), TenantId::random());
    assert_eq!(cache.pending(tenant, None, 10, now).await, Ok(vec![]));
    let mut claims: Vec<PendingClaim> = (0..7).map(|_| PendingClaim { tenant, ..claim_at(now) }).collect();
    claims[3].source = ClaimSource::Gateway;
    claims[4].expires_at = now.plus(Duration::from_secs(5));
    for claim in &claims {
        cache.record(*claim, now).await.expect("there is room");
    }
    let foreign = PendingClaim { tenant: other, ..claim_at(now) };
    cache.record(foreign, now).await.expect("there is room");
    let gone = PendingClaim { tenant, ..claim_at(now) };
    cache.record(gone, now).await.expect("there is room");
    assert_eq!(cache.withdraw(gone.device, now).await, Ok(true));
    claims.sort_unstable_by_key(|claim| claim.device);
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = cache.pending(tenant, after, 3, now).await.unwrap();
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        after = Some(last.device);
        listed.extend(page);
    }
    assert_eq!(listed, claims);
    assert_eq!(cache.pending(tenant, None, 0, now).await, Ok(vec![]));
    assert_eq!(cache.pending(other, None, 10, now).await, Ok(vec![foreign]));
    let short = now.plus(Duration::from_secs(5));
    assert_eq!(cache.pending(tenant, None, 10, short.minus(Duration::from_millis(1))).await.unwrap().len(), 7);
    assert_eq!(cache.pending(tenant, None, 10, short).await.unwrap().len(), 6);
}

/// Good ones are recorded though others are refused; of two for one device the later stays.
pub async fn a_batch_is_answered_in_order_each_as_if_alone(cache: &dyn ClaimCache, now: Timestamp) {
    let own = claim_at(now);
    cache.record(own, now).await.expect("there is room");
    let refused = PendingClaim { source: ClaimSource::Gateway, ..own };
    let mut claims: Vec<PendingClaim> = (0..50).map(|_| claim_at(now)).collect();
    for claim in &mut claims {
        claim.source = ClaimSource::Gateway;
    }
    claims.insert(20, refused);
    let again = PendingClaim { expires_at: now.plus(Duration::from_secs(9)), ..claims[0] };
    claims.push(again);
    let answers = cache.record_batch(claims.clone(), now).await;
    assert_eq!(answers.len(), claims.len());
    for (place, answer) in answers.iter().enumerate() {
        let expected = match place {
            20 => Err(RecordError::AnnouncedByDevice),
            51 => Ok(Recorded::Replaced),
            _ => Ok(Recorded::New),
        };
        assert_eq!(*answer, expected, "entry {place}");
    }
    for claim in &claims[1..20] {
        assert_eq!(cache.peek(claim.device, now).await.unwrap().map(|seen| seen.claim), Some(*claim));
    }
    assert_eq!(cache.peek(own.device, now).await.unwrap().map(|seen| seen.claim), Some(own));
    assert_eq!(cache.peek(again.device, now).await.unwrap().map(|seen| seen.claim), Some(again));
}

/// Nothing in, nothing out.
pub async fn an_empty_batch_is_answered(cache: &dyn ClaimCache, now: Timestamp) {
    assert!(cache.record_batch(Vec::new(), now).await.is_empty());
}

/// A stamp is consumed once.
pub async fn of_concurrent_consumers_one_wins(cache: &Arc<dyn ClaimCache>, now: Timestamp) {
    for _ in 0..50 {
        let claim = claim_at(now);
        cache.record(claim, now).await.expect("there is room");
        let stamp = cache.peek(claim.device, now).await.unwrap().expect("recorded").stamp;
        let mut consumers = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let cache = Arc::clone(cache);
            consumers.spawn(async move { cache.consume(claim.device, stamp).await });
        }
        let won = consumers.join_all().await.into_iter().filter(|won| *won == Ok(true)).count();
        assert_eq!(won, 1);
    }
}

/// Whatever the order, one claim is there afterwards, it is one of those recorded, and all of them had a stamp.
pub async fn concurrent_claims_of_a_device_leave_exactly_one(cache: &Arc<dyn ClaimCache>, now: Timestamp) {
    for _ in 0..20 {
        let claim = claim_at(now);
        let mut announcers = tokio::task::JoinSet::new();
        for n in 0..8u8 {
            let cache = Arc::clone(cache);
            let claim = PendingClaim { digest: SecretDigest::from_bytes([n; 32]), ..claim };
            announcers.spawn(async move {
                let recorded = cache.record(claim, now).await.expect("there is room");
                let seen = cache.peek(claim.device, now).await.unwrap().expect("something at least as new is there");
                (recorded, seen)
            });
        }
        let results = announcers.join_all().await;
        assert_eq!(results.iter().filter(|(recorded, _)| *recorded == Recorded::New).count(), 1);
        let last = cache.peek(claim.device, now).await.unwrap().expect("recorded");
        let digests: HashSet<[u8; 32]> = (0..8).map(|n| [n; 32]).collect();
        assert!(digests.contains(last.claim.digest.as_bytes()));
        assert!(results.iter().all(|(_, seen)| seen.stamp <= last.stamp || seen.claim.digest != last.claim.digest));
        assert_eq!(cache.consume(claim.device, last.stamp).await, Ok(true));
        assert_eq!(cache.peek(claim.device, now).await, Ok(None));
    }
}
