//! What the contract battery does not say: the bounds, the clock, the sweeper, what a restart brings back.

use std::collections::HashSet;
use std::time::Duration;

use claim::ports::{ClaimCache, ClaimSource, PendingClaim, RecordError, Recorded};
use claim::{DeviceId, SecretDigest, TenantId, Timestamp};
use proptest::prelude::*;
use testkit::at;
use testkit::cache_battery::claim_at;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);
const TEN_MINUTES: Duration = Duration::from_secs(600);

fn bounded(max_pending: u64, max_pending_per_tenant: u64) -> Config {
    Config { durability: Durability::None, max_pending, max_pending_per_tenant, ..Config::default() }
}

fn open(config: &Config, folder: &Path, now: Timestamp) -> Arc<MemoryClaimCache> {
    MemoryClaimCache::open(config, folder, DAY, now).expect("a cache")
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Durability `none`: every answer is there at once.
fn record(cache: &MemoryClaimCache, claim: PendingClaim, now: Timestamp) -> Result<Recorded, RecordError> {
    cache.put(&claim, now).map(|(recorded, _)| recorded)
}

fn of_tenant(tenant: u8, now: Timestamp) -> PendingClaim {
    PendingClaim { tenant: TenantId::from_bytes([tenant; 16]), ..claim_at(now) }
}

fn sweep_all(cache: &MemoryClaimCache, now: Timestamp) -> Vec<DeviceId> {
    let mut expired = Vec::new();
    while cache.sweep(now, 1_000, &mut |device| expired.push(device)) > 0 {}
    expired
}

#[test]
fn at_the_bound_claims_are_refused_and_nothing_unexpired_goes() {
    let folder = scratch();
    let cache = open(&bounded(3, 100), folder.path(), at(0));
    let held: Vec<PendingClaim> = (0..3).map(|_| claim_at(at(0))).collect();
    for claim in &held {
        assert_eq!(record(&cache, *claim, at(0)), Ok(Recorded::New));
    }
    assert!(matches!(record(&cache, claim_at(at(0)), at(0)), Err(RecordError::Full { .. })));
    assert_eq!(record(&cache, held[0], at(1)), Ok(Recorded::Replaced), "a device that is there needs no room");
    for claim in &held {
        assert!(cache.table.get(claim.device, at(1)).is_some_and(|seen| seen.live(at(1))));
    }
    assert!(cache.remove(held[1].device, |_| true));
    assert_eq!(record(&cache, claim_at(at(1)), at(1)), Ok(Recorded::New), "room is used again");
    assert_eq!((cache.stats().pending, cache.stats().limit), (3, 3));
}

#[test]
fn a_tenant_fills_its_own_share_only() {
    let folder = scratch();
    let cache = open(&bounded(100, 2), folder.path(), at(0));
    let first = of_tenant(1, at(0));
    assert_eq!(record(&cache, first, at(0)), Ok(Recorded::New));
    assert_eq!(record(&cache, of_tenant(1, at(0)), at(0)), Ok(Recorded::New));
    assert!(matches!(record(&cache, of_tenant(1, at(0)), at(0)), Err(RecordError::Full { .. })));
    assert_eq!(record(&cache, of_tenant(2, at(0)), at(0)), Ok(Recorded::New));
    assert!((cache.stats().fullest_tenant_ratio - 1.0).abs() < 1e-9);
    assert!(cache.remove(first.device, |_| true));
    assert_eq!(record(&cache, of_tenant(1, at(0)), at(0)), Ok(Recorded::New));
}

#[test]
fn what_has_ended_makes_room_before_anything_is_refused() {
    let folder = scratch();
    let cache = open(&bounded(2, 100), folder.path(), at(0));
    let short = PendingClaim { expires_at: at(1_000), ..claim_at(at(0)) };
    let long = claim_at(at(0));
    record(&cache, short, at(0)).expect("room");
    record(&cache, long, at(0)).expect("room");
    let later = at(40_000);
    assert_eq!(sweep_all(&cache, later), [short.device]);
    assert_eq!(cache.stats().remembered, 1);
    assert_eq!(record(&cache, claim_at(later), later), Ok(Recorded::New), "the ended one went");
    assert_eq!(cache.table.get(short.device, later), None);
    assert!(cache.table.get(long.device, later).is_some());
    assert!(matches!(record(&cache, claim_at(later), later), Err(RecordError::Full { .. })));
}

#[test]
fn a_refusal_says_when_room_is_likely() {
    let folder = scratch();
    let cache = open(&bounded(1, 100), folder.path(), at(0));
    record(&cache, PendingClaim { expires_at: at(20_000), ..claim_at(at(0)) }, at(0)).expect("room");
    let Err(RecordError::Full { retry_after }) = record(&cache, claim_at(at(0)), at(0)) else { panic!("it is full") };
    assert!((Duration::from_secs(1)..=Duration::from_secs(60)).contains(&retry_after), "{retry_after:?}");
}

#[test]
fn the_sweeper_tells_of_each_ended_claim_once_and_forgets_after_ten_minutes() {
    let folder = scratch();
    let cache = open(&bounded(1_000, 1_000), folder.path(), at(0));
    let claims: Vec<PendingClaim> =
        (0..300).map(|n| PendingClaim { expires_at: at(1_000 + n), ..claim_at(at(0)) }).collect();
    for claim in &claims {
        record(&cache, *claim, at(0)).expect("room");
    }
    assert!(sweep_all(&cache, at(500)).is_empty());
    let now = at(60_000);
    let expired = sweep_all(&cache, now);
    assert_eq!(expired.len(), 300);
    assert_eq!(expired.iter().collect::<HashSet<_>>().len(), 300);
    assert!(sweep_all(&cache, now).is_empty());
    let stats = cache.stats();
    assert_eq!((stats.pending, stats.remembered, stats.expired_total), (0, 300, 300));
    sweep_all(&cache, at(1_300).plus(TEN_MINUTES));
    assert_eq!(cache.stats().remembered, 0);
}

#[test]
fn a_device_that_repeats_itself_does_not_grow_the_ring() {
    let folder = scratch();
    let cache = open(&bounded(10, 10), folder.path(), at(0));
    let device = claim_at(at(0));
    for minute in 0..500 {
        let now = at(minute * 60_000);
        let again = PendingClaim { received_at: now, expires_at: now.plus(TEN_MINUTES), ..device };
        record(&cache, again, now).expect("room");
        cache.sweep(now, 1_000, &mut |_| panic!("it lives on"));
        assert!(cache.table.armed() <= 2, "{} keys armed in minute {minute}", cache.table.armed());
    }
    assert_eq!(sweep_all(&cache, at(600 * 60_000)), [device.device]);
}

#[test]
fn a_claim_that_now_ends_sooner_is_seen_to_end_sooner() {
    let folder = scratch();
    let cache = open(&bounded(10, 10), folder.path(), at(0));
    let long = PendingClaim { expires_at: at(0).plus(DAY), ..claim_at(at(0)) };
    record(&cache, long, at(0)).expect("room");
    record(&cache, PendingClaim { expires_at: at(1_000), ..long }, at(0)).expect("room");
    assert_eq!(sweep_all(&cache, at(40_000)), [long.device]);
}

#[test]
fn a_million_claims_that_end_at_once_are_swept_in_bounded_steps() {
    const CLAIMS: usize = 1_000_000;
    const BUDGET: usize = 10_000;
    let folder = scratch();
    let cache = open(&bounded(2_000_000, 2_000_000), folder.path(), at(0));
    for _ in 0..CLAIMS {
        record(&cache, PendingClaim { expires_at: at(1_000), ..claim_at(at(0)) }, at(0)).expect("room");
    }
    let now = at(40_000);
    let (mut expired, mut rounds) = (0, 0);
    loop {
        let looked_at = cache.sweep(now, BUDGET, &mut |_| expired += 1);
        // Between two steps a bystander is served, whatever is left to sweep.
        let bystander = claim_at(now);
        assert_eq!(record(&cache, bystander, now), Ok(Recorded::New));
        assert!(cache.remove(bystander.device, |entry| entry.live(now)));
        assert!(looked_at <= BUDGET);
        rounds += 1;
        if looked_at == 0 {
            break;
        }
    }
    assert_eq!(expired, CLAIMS);
    assert!(rounds > CLAIMS / BUDGET);
    assert_eq!(cache.stats().pending, 0);
}

#[tokio::test]
async fn a_graceful_stop_brings_everything_back_that_has_not_ended() {
    for durability in [Durability::None, Durability::Os, Durability::Fsync] {
        let folder = scratch();
        let config = Config { durability, ..bounded(100, 100) };
        let kept: Vec<PendingClaim> = (0..5).map(|n| of_tenant(n, at(0))).collect();
        let gone = claim_at(at(0));
        {
            let cache = open(&config, folder.path(), at(0));
            for claim in kept.iter().chain([&gone]) {
                assert_eq!(cache.record(*claim, at(0)).await, Ok(Recorded::New));
            }
            let stamp = cache.table.get(gone.device, at(0)).expect("recorded").stamp;
            assert_eq!(cache.consume(gone.device, stamp).await, Ok(true));
            cache.close().expect("saved");
            assert_eq!(cache.record(claim_at(at(0)), at(0)).await, Err(RecordError::Unavailable), "it is closed");
            assert!(!cache.healthy());
        }
        let cache = open(&config, folder.path(), at(1));
        for claim in &kept {
            assert_eq!(cache.table.get(claim.device, at(1)).map(|seen| seen.claim), Some(*claim), "{durability:?}");
        }
        assert_eq!(cache.table.get(gone.device, at(1)), None, "{durability:?}: consumed");
        assert_eq!(cache.stats().pending, 5);
    }
}

#[tokio::test]
async fn a_stamp_is_not_used_twice_across_restarts() {
    let folder = scratch();
    let config = Config { durability: Durability::Os, ..bounded(100, 100) };
    let mut seen = HashSet::new();
    for _ in 0..3 {
        let cache = open(&config, folder.path(), at(0));
        for _ in 0..5 {
            let claim = claim_at(at(0));
            cache.record(claim, at(0)).await.expect("room");
            assert!(seen.insert(cache.table.get(claim.device, at(0)).expect("recorded").stamp));
        }
        cache.close().expect("saved");
    }
}

#[tokio::test]
async fn a_restored_claim_ends_no_later_than_the_longest_lifetime_from_now() {
    let folder = scratch();
    let config = Config { durability: Durability::Os, ..bounded(100, 100) };
    // Recorded by a clock that was a year ahead.
    let ahead = at(0).plus(Duration::from_secs(365 * 24 * 3600));
    let claim = PendingClaim { received_at: ahead, expires_at: ahead.plus(DAY), ..claim_at(at(0)) };
    {
        let cache = open(&config, folder.path(), ahead);
        cache.record(claim, ahead).await.expect("room");
        cache.close().expect("saved");
    }
    let cache = open(&config, folder.path(), at(0));
    let restored = cache.table.get(claim.device, at(0)).expect("restored").claim;
    assert_eq!(restored.expires_at, at(0).plus(DAY));
}

#[test]
fn a_bound_that_cannot_be_is_refused_by_its_key() {
    let folder = scratch();
    let fault = |config: &Config| match MemoryClaimCache::open(config, folder.path(), DAY, at(0)) {
        Err(OpenError::Config(text)) => text,
        _ => panic!("accepted"),
    };
    assert!(fault(&bounded(1, 0)).contains("claim_cache.max_pending_per_tenant"));
    assert!(fault(&Config { journal_segment_bytes: 4095, ..bounded(1, 1) }).contains("journal_segment_bytes"));
    assert!(fault(&Config { journal_queue_bytes: 1, ..bounded(1, 1) }).contains("journal_queue_bytes"));
    let least = Config { journal_segment_bytes: 4096, journal_queue_bytes: 4096, ..bounded(1, 1) };
    assert!(MemoryClaimCache::open(&least, folder.path(), DAY, at(0)).is_ok());
}

#[test]
fn two_processes_do_not_share_a_journal() {
    let folder = scratch();
    let _first = open(&bounded(1, 1), folder.path(), at(0));
    let second = MemoryClaimCache::open(&bounded(1, 1), folder.path(), DAY, at(0));
    assert!(matches!(second, Err(OpenError::Journal(JournalError::Locked { .. }))));
}

#[derive(Clone, Debug)]
enum Op {
    Record { device: u8, tenant: u8, lifetime: u16, gateway: bool },
    Consume { device: u8 },
    Withdraw { device: u8, back: u16 },
    Pass { ms: u32 },
    Sweep { budget: u8 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..12u8, 0..3u8, 1..60_000u16, any::<bool>())
            .prop_map(|(device, tenant, lifetime, gateway)| Op::Record { device, tenant, lifetime, gateway }),
        2 => (0..12u8).prop_map(|device| Op::Consume { device }),
        1 => (0..12u8, 0..1_000u16).prop_map(|(device, back)| Op::Withdraw { device, back }),
        3 => (0..700_000u32).prop_map(|ms| Op::Pass { ms }),
        2 => (0..20u8).prop_map(|budget| Op::Sweep { budget }),
    ]
}

fn id(device: u8) -> DeviceId {
    DeviceId::from_bytes([device + 1; 16])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Against a plain map: nothing unexpired is ever lost, nothing ended is ever live, counters agree with the map.
    #[test]
    fn the_cache_agrees_with_a_plain_map(ops in prop::collection::vec(op(), 1..120)) {
        let folder = scratch();
        let cache = open(&bounded(8, 5), folder.path(), at(0));
        let mut model: std::collections::HashMap<DeviceId, PendingClaim> = std::collections::HashMap::new();
        let mut now = at(0);
        for op in ops {
            match op {
                Op::Record { device, tenant, lifetime, gateway } => {
                    let claim = PendingClaim {
                        tenant: TenantId::from_bytes([tenant; 16]),
                        device: id(device),
                        digest: SecretDigest::from_bytes([device; 32]),
                        received_at: now,
                        expires_at: now.plus(Duration::from_millis(lifetime.into())),
                        source: if gateway { ClaimSource::Gateway } else { ClaimSource::Device },
                    };
                    let live = model.get(&claim.device).filter(|held| now < held.expires_at);
                    let behind = live.is_some_and(|held| held.source == ClaimSource::Device) && gateway;
                    match record(&cache, claim, now) {
                        Ok(recorded) => {
                            prop_assert!(!behind);
                            prop_assert_eq!(recorded == Recorded::Replaced, live.is_some());
                            model.insert(claim.device, claim);
                        }
                        Err(RecordError::AnnouncedByDevice) => prop_assert!(behind),
                        Err(RecordError::Full { .. }) => {
                            // Only because of claims that the sweeper has not seen end, or that live.
                            let stats = cache.stats();
                            prop_assert!(stats.pending + stats.remembered >= 5);
                        }
                        Err(RecordError::Unavailable) => prop_assert!(false, "nothing is broken"),
                    }
                }
                Op::Consume { device } => {
                    if let Some(seen) = cache.table.get(id(device), now) {
                        prop_assert!(cache.remove(id(device), |entry| entry.stamp() == seen.stamp));
                        model.remove(&id(device));
                    }
                }
                Op::Withdraw { device, back } => {
                    let until = now.minus(Duration::from_millis(back.into()));
                    let fits = |held: &PendingClaim| held.received_at <= until;
                    let live = model.get(&id(device)).is_some_and(|held| now < held.expires_at && fits(held));
                    let withdrawn = cache.remove(id(device), |entry| entry.received_at() <= until);
                    prop_assert!(withdrawn || !live);
                    if model.get(&id(device)).is_some_and(fits) {
                        model.remove(&id(device));
                    }
                }
                Op::Pass { ms } => now = now.plus(Duration::from_millis(ms.into())),
                Op::Sweep { budget } => {
                    cache.sweep(now, budget.into(), &mut |_| ());
                }
            }
            for device in 0..12 {
                let held = model.get(&id(device));
                let live = held.filter(|held| now < held.expires_at);
                let seen = cache.table.get(id(device), now);
                match (live, seen) {
                    (Some(live), Some(seen)) => prop_assert_eq!(&seen.claim, live),
                    (Some(live), None) => prop_assert!(false, "a live claim is gone: {:?}", live),
                    (None, Some(seen)) => prop_assert!(!seen.live(now), "an ended claim lives: {:?}", seen),
                    (None, None) => {}
                }
            }
        }
        sweep_all(&cache, now.plus(DAY));
        prop_assert_eq!((cache.stats().pending, cache.stats().remembered, cache.table.armed()), (0, 0, 0));
    }
}
