//! The contract batteries of `testkit`, run against this crate's adapters in every configuration.

use std::sync::Arc;
use std::time::Duration;

use claim::ports::{AttemptLedger, ClaimCache};
use claim_cache::{Config, Durability, MemoryAttempts, MemoryClaimCache, MemoryRates};
use testkit::{FakeCache, FakeLedger, FakeRates, at, cache_battery, ledger_battery, rates_battery};

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn run_cache_battery(durability: Durability) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config { durability, max_pending: 100_000, ..Config::default() };
    let cache = MemoryClaimCache::open(&config, folder.path(), DAY, at(0)).expect("a cache");
    let port: Arc<dyn ClaimCache> = cache.clone();
    cache_battery::all(&port, at(0)).await;
    assert!(cache.healthy());
    cache.close().expect("saved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cache_without_journal_keeps_the_contract() {
    run_cache_battery(Durability::None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cache_with_journal_keeps_the_contract() {
    run_cache_battery(Durability::Os).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cache_with_synced_journal_keeps_the_contract() {
    run_cache_battery(Durability::Fsync).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_attempt_ledger_keeps_the_contract() {
    let ledger: Arc<dyn AttemptLedger> = Arc::new(MemoryAttempts::new(&Config::default()));
    ledger_battery::all(&ledger, at(0)).await;
}

#[test]
fn the_rates_keep_the_contract() {
    rates_battery::all(&MemoryRates::new(&Config::default()), at(0));
}

/// The fakes are models elsewhere, so they are held to the contract too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fakes_keep_the_contracts() {
    let cache: Arc<dyn ClaimCache> = Arc::new(FakeCache::default());
    cache_battery::all(&cache, at(0)).await;
    let ledger: Arc<dyn AttemptLedger> = Arc::new(FakeLedger::default());
    ledger_battery::all(&ledger, at(0)).await;
    rates_battery::all(&FakeRates::default(), at(0));
}
