//! Three masters that share the claims.

use testkit::RedisCluster;
use testkit::wait::eventually;

use super::*;

async fn member(cluster: &RedisCluster) -> Arc<RedisClaimCache> {
    // Of several addresses the first that answers is enough: the rest is the cluster's to say.
    let redis_url = format!("redis://127.0.0.1:1 {}", cluster.url(1));
    let config = Config { redis_url, ..Config::default() };
    RedisClaimCache::open(&config, PATIENCE, now()).await.expect("a cluster")
}

fn held_by(cluster: &RedisCluster) -> Vec<usize> {
    cluster.masters.iter().map(|master| master.say(&["KEYS", "claimd:c*"]).matches("claimd:c").count()).collect()
}

fn pending_in(cluster: &RedisCluster) -> i64 {
    // The others say MOVED, which is no number.
    cluster.masters.iter().map(pending).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_cluster_cache_and_ledger_keep_their_contracts() {
    let cluster = RedisCluster::start();
    let cache = member(&cluster).await;
    let port: Arc<dyn ClaimCache> = cache.clone();
    cache_battery::all(&port, now()).await;
    let ledger: Arc<dyn AttemptLedger> = Arc::new(RedisAttempts::beside(&cache, nothing_charged()));
    ledger_battery::all(&ledger, now()).await;
    cache.sweep(now().plus(Duration::from_secs(700)), &mut |_| ()).await.expect("an answer");
    assert!(cache.healthy());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_spread_over_the_masters_and_every_node_finds_them() {
    let cluster = RedisCluster::start();
    let (one, other) = (member(&cluster).await, member(&cluster).await);
    let now = now();
    let claims: Vec<PendingClaim> = (0..3000).map(|_| claim_at(now)).collect();
    assert!(one.record_batch(claims.clone(), now).await.iter().all(|answer| *answer == Ok(Recorded::New)));
    for held in held_by(&cluster) {
        assert!((800..1200).contains(&held), "{:?}", held_by(&cluster));
    }
    for claim in &claims {
        assert_eq!(other.peek(claim.device, now).await.unwrap().map(|seen| seen.claim), Some(*claim));
    }
    until("all are counted", async || (pending_in(&cluster) == 3000).then_some(())).await;
    let page = other.pending(claims[0].tenant, None, 3001, now).await.expect("a page");
    assert_eq!(page.len(), 3000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_slots_move_every_claim_is_answered_and_each_is_used_once() {
    let cluster = RedisCluster::start();
    let nodes = [member(&cluster).await, member(&cluster).await];
    let now = now();
    let moving = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let done = Arc::new(AtomicUsize::new(0));
    let mut users = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (nodes, moving, done) = (nodes.clone(), Arc::clone(&moving), Arc::clone(&done));
        users.spawn(async move {
            let mut kept = Vec::new();
            while moving.load(Ordering::Relaxed) {
                let claim = claim_at(now);
                assert_eq!(nodes[n % 2].record(claim, now).await, Ok(Recorded::New));
                done.fetch_add(1, Ordering::Relaxed);
                let seen = nodes[(n + 1) % 2].peek(claim.device, now).await.expect("an answer").expect("acked");
                if kept.len() % 2 == 0 {
                    kept.push(seen.claim);
                } else {
                    let (one, other) = tokio::join!(
                        nodes[0].consume(claim.device, seen.stamp),
                        nodes[1].consume(claim.device, seen.stamp)
                    );
                    assert!([one, other] == [Ok(true), Ok(false)] || [one, other] == [Ok(false), Ok(true)]);
                    kept.push(claim_at(now));
                    let last = kept.last().copied().expect("just pushed");
                    assert_eq!(nodes[n % 2].record(last, now).await, Ok(Recorded::New));
                }
            }
            kept
        });
    }
    let counted = Arc::clone(&done);
    let cluster = tokio::task::spawn_blocking(move || {
        // The slot of the counts: claims go on while it is on its way.
        let (slot, from) = cluster.home_of("{claimd}u");
        for (from, to) in [(from, (from + 1) % 3), ((from + 1) % 3, from)] {
            cluster.begin_move(slot, from, to);
            let before = counted.load(Ordering::Relaxed);
            eventually("claims go on", || (counted.load(Ordering::Relaxed) > before + 50).then_some(()));
            cluster.end_move(slot, from, to);
        }
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            cluster.move_slots(60, from, to);
        }
        cluster
    });
    let cluster = cluster.await.expect("slots moved");
    moving.store(false, Ordering::Relaxed);
    let kept: Vec<PendingClaim> = users.join_all().await.into_iter().flatten().collect();
    assert!(kept.len() > 100, "{}", kept.len());
    for claim in &kept {
        let seen = nodes[0].peek(claim.device, now).await.expect("an answer");
        assert_eq!(seen.map(|seen| seen.claim), Some(*claim), "what was acked is still there");
    }
    until("all are counted", async || (pending_in(&cluster) == kept.len() as i64).then_some(())).await;
    let page = nodes[1].pending(kept[0].tenant, None, kept.len() + 1, now).await.expect("a page");
    assert_eq!(page.len(), kept.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_is_killed_costs_its_claims_until_it_is_back_and_loses_none() {
    let mut cluster = RedisCluster::start();
    let cache = member(&cluster).await;
    let ledger = RedisAttempts::beside(&cache, nothing_charged());
    let (keys, at, budgets) = (fresh_keys(), now(), AttemptBudgets::default());
    assert_eq!(ledger.reserve(keys, &budgets, at).await.map(|reserved| reserved.left), Ok(4));
    let claims: Vec<PendingClaim> = (0..300).map(|_| claim_at(at)).collect();
    assert!(cache.record_batch(claims.clone(), at).await.iter().all(Result::is_ok));
    cluster.masters[1].kill();
    let asked = Instant::now();
    let answers = cache.record_batch(claims.clone(), at).await;
    assert!(answers.contains(&Err(RecordError::Unavailable)), "a third of them cannot be recorded");
    assert!(asked.elapsed() < 3 * PATIENCE, "waits are bounded");
    until("it is noticed", async || (!cache.healthy()).then_some(())).await;
    cluster.masters[1].start_again();
    cluster.wait_until_whole();
    for claim in &claims {
        let seen = healed(async || cache.peek(claim.device, at).await).await;
        assert_eq!(seen.map(|seen| seen.claim), Some(*claim), "what was acked is still there");
    }
    let left = healed(async || {
        ledger.reserve(keys, &budgets, at).await.map(|reserved| reserved.left).map_err(|_| Unavailable)
    });
    assert_eq!(left.await, 3);
    healed(async || cache.record(claims[0], at).await.map_err(|_| Unavailable)).await;
    healed(async || cache.sweep(at, &mut |_| ()).await).await;
    assert!(cache.healthy());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_master_must_be_fit_to_keep_claims() {
    let cluster = RedisCluster::start();
    let config = Config { redis_url: cluster.url(0), ..Config::default() };
    cluster.masters[2].say(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let said = refused(&cluster.masters[0], &config).await;
    assert!(said.contains("maxmemory-policy is allkeys-lru"), "{said}");
    cluster.masters[2].say(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    cluster.masters[2].say(&["CLUSTER", "DELSLOTS", "16383"]);
    let slotless = Config { redis_url: cluster.url(2), ..Config::default() };
    let said = refused(&cluster.masters[2], &slotless).await;
    assert!(said.contains("some slots of the cluster have no server"), "{said}");
    // Two servers that know nothing of each other are no cluster.
    let (one, other) = (RedisServer::start(), RedisServer::start());
    let two = Config { redis_url: format!("{} {}", one.url(), other.url()), ..Config::default() };
    let said = refused(&one, &two).await;
    assert!(said.contains("belongs to no cluster"), "{said}");
}
