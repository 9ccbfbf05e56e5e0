//! How many claims there may be, for all nodes together.

use claim::TenantId;

use super::*;

fn full(answer: &Result<Recorded, RecordError>) -> bool {
    let wait = Duration::from_secs(1)..=Duration::from_secs(60);
    matches!(answer, Err(RecordError::Full { retry_after }) if wait.contains(retry_after))
}

async fn bounded(server: &RedisServer, max_pending: u64, max_pending_per_tenant: u64) -> Arc<RedisClaimCache> {
    let config = Config { max_pending, max_pending_per_tenant, ..config(server) };
    RedisClaimCache::open(&config, PATIENCE, now()).await.expect("a server")
}

fn calls_of(server: &RedisServer, command: &str) -> i64 {
    let said = server.say(&["INFO", "commandstats"]);
    let line = said.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|line| line.split(',').next()).map_or(0, number)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_bounds_claims_are_refused_and_nothing_unexpired_goes() {
    let server = RedisServer::start();
    let nodes = [bounded(&server, 5, 3).await, bounded(&server, 5, 3).await];
    let now = now();
    let of = |tenant: u8| PendingClaim { tenant: TenantId::from_bytes([tenant; 16]), ..claim_at(now) };
    let mut held = Vec::new();
    for (n, tenant) in [1, 1, 1, 2, 2].into_iter().enumerate() {
        let claim = of(tenant);
        assert_eq!(nodes[n % 2].record(claim, now).await, Ok(Recorded::New), "claim {n}");
        held.push(claim);
        if n == 2 {
            assert!(full(&nodes[0].record(of(1), now).await), "the tenant's share is used up");
            assert!(nodes[1].record_batch(vec![of(1)], now).await.iter().all(full));
        }
    }
    for node in &nodes {
        assert!(full(&node.record(of(3), now).await), "the cache is full");
        // Its own place is no new one.
        assert_eq!(node.record(held[4], now).await, Ok(Recorded::Replaced));
    }
    for claim in &held {
        assert_eq!(nodes[0].peek(claim.device, now).await.unwrap().map(|seen| seen.claim), Some(*claim));
    }
    let seen = nodes[0].peek(held[0].device, now).await.unwrap().expect("held");
    assert_eq!(nodes[0].consume(held[0].device, seen.stamp).await, Ok(true));
    let freed = of(3);
    until("one place is free", async || nodes[1].record(freed, now).await.ok()).await;
    assert!(full(&nodes[1].record(of(3), now).await));
    // Thirty seconds after the second of their end the rest make room too.
    let later = now.plus(Duration::from_secs(600 + 31));
    nodes[1].sweep(later, &mut |_| ()).await.expect("an answer");
    assert_eq!(
        nodes[0].record(PendingClaim { expires_at: later.plus(PATIENCE), ..of(3) }, later).await,
        Ok(Recorded::New)
    );
    until("one is counted", async || (pending(&server) == 1).then_some(())).await;
    assert_eq!(number(&server.say(&["HGET", "{claimd}u", &"\u{3}".repeat(16)])), 1, "one tenant has one claim");
}

/// What other nodes keep ahead is given back; then exactly the bound is reached, and never passed on the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_that_record_at_once_fill_the_bound_exactly_and_never_pass_it() {
    const BOUND: usize = 400;
    let server = RedisServer::start();
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(bounded(&server, BOUND as u64, 1_000_000).await);
    }
    let start = now();
    let record = async |at: Timestamp| {
        let mut announcers = tokio::task::JoinSet::new();
        for n in 0..60 {
            let node = Arc::clone(&nodes[n % 3]);
            announcers.spawn(async move {
                let mut recorded = 0;
                for n in 0..20u8 {
                    let tenant = TenantId::from_bytes([n % 4; 16]);
                    match node.record(PendingClaim { tenant, ..claim_at(at) }, at).await {
                        Ok(Recorded::New) => recorded += 1,
                        answer => assert!(full(&answer), "{answer:?}"),
                    }
                }
                recorded
            });
        }
        announcers.join_all().await.into_iter().sum::<usize>()
    };
    let first = record(start).await;
    // A sixteenth of the room may be kept ahead, and each of three nodes does so for four tenants.
    assert!((BOUND / 2..=BOUND).contains(&first), "{first}");
    let mut all = first;
    for round in 1..20 {
        if all == BOUND {
            break;
        }
        // Places that were kept are given back after ten seconds.
        let later = start.plus(Duration::from_secs(11 * round));
        for node in &nodes {
            node.sweep(later, &mut |_| ()).await.expect("an answer");
        }
        until("places are given back", async || {
            (number(&server.say(&["HGET", "{claimd}u", "held"])) == 0).then_some(())
        })
        .await;
        all += record(later).await;
        assert!(all <= BOUND, "{all}");
    }
    assert_eq!(all, BOUND);
    until("all are counted", async || (pending(&server) == BOUND as i64).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_bound_a_batch_replaces_what_is_there_and_adds_nothing() {
    let server = RedisServer::start();
    let nodes = [bounded(&server, 40, 40).await, bounded(&server, 40, 40).await];
    let now = now();
    let held: Vec<PendingClaim> = (0..40).map(|_| claim_at(now)).collect();
    assert_eq!(nodes[0].record_batch(held.clone(), now).await, vec![Ok(Recorded::New); 40]);
    let mut mixed = held.clone();
    mixed.insert(7, claim_at(now));
    for node in &nodes {
        let answers = node.record_batch(mixed.clone(), now).await;
        for (place, answer) in answers.iter().enumerate() {
            if place == 7 { assert!(full(answer)) } else { assert_eq!(*answer, Ok(Recorded::Replaced)) }
        }
    }
    until("forty are counted", async || (pending(&server) == 40).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordinary_claim_is_one_plain_set_and_its_count_goes_with_those_of_others() {
    let server = RedisServer::start();
    let cache = node(&server).await;
    let at = now();
    let mut announcers = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let cache = Arc::clone(&cache);
        announcers.spawn(async move {
            for _ in 0..100 {
                assert_eq!(cache.record(claim_at(at), at).await, Ok(Recorded::New));
            }
        });
    }
    announcers.join_all().await;
    until("all are counted", async || (pending(&server) == 10_000).then_some(())).await;
    // Of the scripts each has one more, which remembers the change.
    let scripts = calls_of(&server, "evalsha");
    assert!(calls_of(&server, "set") <= 10_000 + scripts);
    assert!(scripts < 2_000, "{scripts} scripts for 10,000 claims");
}
