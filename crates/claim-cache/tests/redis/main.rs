//! The shared claim cache and attempt counters against a Redis server of each test's own: the contract batteries, and what
//! only a server shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use claim::limits::AttemptBudgets;
use claim::ports::{
    AttemptKeys, AttemptLedger, AttemptScope, ClaimCache, ClaimSource, PendingClaim, PortFuture, RecordError, Recorded,
    ReserveError, Unavailable,
};
use claim::{DeviceId, SecretDigest, Timestamp};
use claim_cache::{ChargedTries, Config, RedisAttempts, RedisClaimCache, SystemClock};
use testkit::cache_battery::claim_at;
use testkit::ledger_battery::fresh_keys;
use testkit::wait::until;
use testkit::{RedisServer, cache_battery, ledger_battery};

mod bounds;
mod cluster;
mod failover;
mod periods;
mod tls;

const PATIENCE: Duration = Duration::from_secs(2);

fn now() -> Timestamp {
    SystemClock::start().now()
}

fn config(server: &RedisServer) -> Config {
    Config { redis_url: server.url(), ..Config::default() }
}

async fn node(server: &RedisServer) -> Arc<RedisClaimCache> {
    RedisClaimCache::open(&config(server), PATIENCE, now()).await.expect("a server")
}

fn nothing_charged() -> ChargedTries {
    Box::new(|_| PortFuture::ready(Ok(Vec::new())))
}

async fn refused(server: &RedisServer, config: &Config) -> String {
    match RedisClaimCache::open(config, Duration::from_millis(500), now()).await {
        Ok(_) => panic!("{} was taken", server.url()),
        Err(error) => error.to_string(),
    }
}

/// Claims that are counted, without places that nodes keep ahead.
fn pending(server: &RedisServer) -> i64 {
    let count = |field| number(&server.say(&["HGET", "{claimd}u", field]));
    count("all") - count("held")
}

/// The last line of what a server said, as a number; nothing is 0.
fn number(said: &str) -> i64 {
    said.trim_end().rsplit(['\n', ':']).next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The line of `config/claimd.toml` that makes the user.
fn acl_line() -> String {
    let file =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/claimd.toml")).expect("a file");
    let line = file.lines().find_map(|line| line.strip_prefix("# ACL SETUSER ")).expect("the line");
    format!("ACL SETUSER {}", line.replace(">PASSWORD", "reset >open-sesame").replace("on reset", "reset on"))
}

/// Asks until the store answers.
async fn healed<T>(ask: impl AsyncFn() -> Result<T, Unavailable>) -> T {
    until("the store answers again", async || ask().await.ok()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shared_cache_keeps_the_contract() {
    let server = RedisServer::start();
    let cache = node(&server).await;
    let port: Arc<dyn ClaimCache> = cache.clone();
    cache_battery::all(&port, now()).await;
    assert!(cache.healthy());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shared_ledger_keeps_the_contract() {
    let server = RedisServer::start();
    let ledger: Arc<dyn AttemptLedger> = Arc::new(RedisAttempts::beside(&*node(&server).await, nothing_charged()));
    ledger_battery::all(&ledger, now()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_acks_every_other_sees_at_once() {
    let server = RedisServer::start();
    let (one, other) = (node(&server).await, node(&server).await);
    let now = now();
    for round in 0..2000u32 {
        let (here, there) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let claim = claim_at(now);
        assert_eq!(here.record(claim, now).await, Ok(Recorded::New));
        let seen = there.peek(claim.device, now).await.unwrap().expect("acked, so visible");
        assert_eq!(seen.claim, claim);
        if round % 4 < 2 {
            assert_eq!(there.consume(claim.device, seen.stamp).await, Ok(true));
            assert_eq!(here.peek(claim.device, now).await, Ok(None));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_consumers_on_two_nodes_each_claim_has_one_winner() {
    let server = RedisServer::start();
    let nodes = [node(&server).await, node(&server).await];
    let now = now();
    let winners = Arc::new(AtomicUsize::new(0));
    let mut racing = tokio::task::JoinSet::new();
    for n in 0..3000 {
        let (announced, consumers) = (Arc::clone(&nodes[n % 2]), nodes.clone());
        let winners = Arc::clone(&winners);
        racing.spawn(async move {
            let claim = claim_at(now);
            assert_eq!(announced.record(claim, now).await, Ok(Recorded::New));
            let stamp = consumers[(n + 1) % 2].peek(claim.device, now).await.unwrap().expect("visible").stamp;
            let (a, b, c, d) = tokio::join!(
                consumers[0].consume(claim.device, stamp),
                consumers[1].consume(claim.device, stamp),
                consumers[0].consume(claim.device, stamp),
                consumers[1].consume(claim.device, stamp),
            );
            let won = [a, b, c, d].into_iter().filter(|won| *won == Ok(true)).count();
            assert_eq!(won, 1);
            winners.fetch_add(won, Ordering::Relaxed);
        });
    }
    racing.join_all().await;
    assert_eq!(winners.load(Ordering::Relaxed), 3000);
    until("what is consumed counts no more", async || (pending(&server) == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tries_on_two_nodes_share_their_budgets() {
    let server = RedisServer::start();
    let ledgers: Vec<Arc<RedisAttempts>> = vec![
        Arc::new(RedisAttempts::beside(&*node(&server).await, nothing_charged())),
        Arc::new(RedisAttempts::beside(&*node(&server).await, nothing_charged())),
    ];
    let now = now();
    for _ in 0..20 {
        let keys = fresh_keys();
        let mut guessers = tokio::task::JoinSet::new();
        for n in 0..64 {
            let ledger = Arc::clone(&ledgers[n % 2]);
            guessers.spawn(async move { ledger.reserve(keys, &AttemptBudgets::default(), now).await.is_ok() });
        }
        assert_eq!(guessers.join_all().await.into_iter().filter(|ok| *ok).count(), 5);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_would_evict_is_refused_at_the_start_and_behind_every_new_connection() {
    let server = RedisServer::with(&[("maxmemory", "64mb"), ("maxmemory-policy", "allkeys-lru")]);
    let said = refused(&server, &config(&server)).await;
    assert!(said.contains("maxmemory-policy is allkeys-lru; it must be noeviction"), "{said}");

    let mut server = RedisServer::start();
    let cache = node(&server).await;
    let claim = claim_at(now());
    assert_eq!(cache.record(claim, now()).await, Ok(Recorded::New));
    server.kill();
    server.start_again();
    server.say(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let until = Instant::now() + Duration::from_millis(500);
    while Instant::now() < until {
        assert_eq!(cache.record(claim, now()).await, Err(RecordError::Unavailable));
    }
    assert!(!cache.healthy());
    server.say(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    healed(async || cache.peek(claim.device, now()).await).await;
    assert!(cache.healthy());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_user_is_enough_and_who_cannot_sign_in_connect_or_do_all_is_told_so_without_the_password() {
    let server = RedisServer::start();
    let allowed = acl_line();
    let words: Vec<&str> = allowed.split(' ').collect();
    assert_eq!(server.say(&words), "+OK\r\n");
    let with = |login: &str| Config { redis_url: format!("{}?{login}", server.url()), ..Config::default() };
    let config = with("user=claimd&pass=open-sesame");
    let cache = RedisClaimCache::open(&config, PATIENCE, now()).await.expect("a user");
    let port: Arc<dyn ClaimCache> = cache.clone();
    cache_battery::all(&port, now()).await;
    let ledger: Arc<dyn AttemptLedger> = Arc::new(RedisAttempts::beside(&cache, charged(fresh_keys(), now(), 3)));
    ledger_battery::all(&ledger, now()).await;
    for after in [0, 700] {
        cache.sweep(now().plus(Duration::from_secs(after)), &mut |_| ()).await.expect("an answer");
    }
    // Each permission is needed, and that one is missing is said at the start.
    for permission in words.iter().filter(|word| word.starts_with(['+', '~'])) {
        let without: Vec<&str> = words.iter().copied().filter(|word| word != permission).collect();
        assert_eq!(server.say(&without), "+OK\r\n");
        let said = refused(&server, &config).await;
        assert!(said.contains("claim_cache.redis_url") && said.contains("its user"), "without {permission}: {said}");
        assert!(!said.contains("open-sesame"), "{said}");
    }
    assert_eq!(server.say(&words), "+OK\r\n");
    let said = refused(&server, &with("user=claimd&pass=hunter2")).await;
    assert!(said.contains("claim_cache.redis_url") && !said.contains("hunter2"), "{said}");
    assert!(said.to_lowercase().contains("password"), "{said}");
    let nobody = Config { redis_url: "redis://claimd:hunter2@127.0.0.1:1".to_owned(), ..Config::default() };
    let said = refused(&server, &nobody).await;
    assert!(said.contains("claim_cache.redis_url") && !said.contains("hunter2"), "{said}");
    let nonsense = Config { redis_url: "http://claimd:hunter2@127.0.0.1".to_owned(), ..Config::default() };
    let said = refused(&server, &nonsense).await;
    assert!(said.contains("claim_cache.redis_url") && !said.contains("hunter2"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_is_away_nothing_is_acked_and_when_it_is_back_it_heals() {
    let mut server = RedisServer::with(&[("appendonly", "yes"), ("appendfsync", "always")]);
    let cache = node(&server).await;
    let ledger = RedisAttempts::beside(&cache, nothing_charged());
    let budgets = AttemptBudgets::default();
    let kept: Vec<PendingClaim> = (0..100).map(|_| claim_at(now())).collect();
    for answer in cache.record_batch(kept.clone(), now()).await {
        assert_eq!(answer, Ok(Recorded::New));
    }
    let keys = fresh_keys();
    let at = now();
    ledger.reserve(keys, &budgets, at).await.expect("a try");
    server.kill();
    let asked = Instant::now();
    assert_eq!(cache.record(claim_at(now()), now()).await, Err(RecordError::Unavailable));
    assert_eq!(cache.record_batch(vec![claim_at(now()); 2], now()).await, [Err(RecordError::Unavailable); 2]);
    assert_eq!(cache.peek(kept[0].device, now()).await, Err(Unavailable));
    assert_eq!(cache.consume(kept[0].device, 1).await, Err(Unavailable));
    assert_eq!(cache.withdraw(kept[0].device, now()).await, Err(Unavailable));
    assert_eq!(cache.pending(kept[0].tenant, None, 10, now()).await, Err(Unavailable));
    assert_eq!(ledger.reserve(keys, &budgets, at).await, Err(ReserveError::Unavailable));
    assert!(asked.elapsed() < PATIENCE, "a dead server is no reason to wait");
    assert!(!cache.healthy());
    server.start_again();
    for claim in &kept {
        let seen = healed(async || cache.peek(claim.device, now()).await).await;
        assert_eq!(seen.map(|seen| seen.claim), Some(*claim), "what was acked is still there");
    }
    assert_eq!(cache.record(claim_at(now()), now()).await, Ok(Recorded::New));
    assert_eq!(ledger.reserve(keys, &budgets, at).await.map(|reserved| reserved.left), Ok(3), "as is the try");
    assert!(cache.healthy());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_silent_costs_a_bounded_wait() {
    let server = RedisServer::start();
    let patience = Duration::from_millis(300);
    let cache = RedisClaimCache::open(&config(&server), patience, now()).await.expect("a server");
    server.frozen(true);
    let asked = Instant::now();
    let claim = claim_at(now());
    let at = now();
    let (record, peek) = tokio::join!(cache.record(claim, at), cache.peek(claim.device, at));
    let waited = asked.elapsed();
    server.frozen(false);
    assert_eq!((record, peek), (Err(RecordError::Unavailable), Err(Unavailable)));
    assert!(waited >= patience && waited < 5 * patience, "{waited:?}");
    healed(async || cache.peek(claim.device, now()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_the_server_forgot_are_loaded_again() {
    let server = RedisServer::start();
    let cache = node(&server).await;
    for _ in 0..3 {
        assert!(server.say(&["SCRIPT", "FLUSH"]).starts_with("+OK"));
        let claims: Vec<PendingClaim> = (0..150).map(|_| claim_at(now())).collect();
        let answers = cache.record_batch(claims.clone(), now()).await;
        assert!(answers.iter().all(|answer| *answer == Ok(Recorded::New)));
        assert!(server.say(&["SCRIPT", "FLUSH"]).starts_with("+OK"));
        let seen = cache.peek(claims[149].device, now()).await.unwrap().expect("recorded");
        assert_eq!(cache.consume(seen.claim.device, seen.stamp).await, Ok(true));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_servers_memory_ends_a_claim_is_refused_and_what_is_there_can_be_used() {
    let server = RedisServer::start();
    let cache = node(&server).await;
    let claim = claim_at(now());
    assert_eq!(cache.record(claim, now()).await, Ok(Recorded::New));
    server.say(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(
        cache.record(claim_at(now()), now()).await,
        Err(RecordError::Full { retry_after: Duration::from_secs(60) })
    );
    let ledger = RedisAttempts::beside(&cache, nothing_charged());
    let reserved = ledger.reserve(fresh_keys(), &AttemptBudgets::default(), now()).await;
    assert_eq!(reserved, Err(ReserveError::Unavailable), "what cannot be counted is not evaluated");
    let seen = cache.peek(claim.device, now()).await.unwrap().expect("it is not evicted");
    assert_eq!(cache.consume(claim.device, seen.stamp).await, Ok(true));
    server.say(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(cache.record(claim, now()).await, Ok(Recorded::New));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_go_at_an_absolute_instant_however_often_they_are_written() {
    let server = RedisServer::start();
    let cache = node(&server).await;
    let claim = PendingClaim { device: DeviceId::from_bytes([b'x'; 16]), ..claim_at(now()) };
    for _ in 0..3 {
        cache.record(claim, now()).await.expect("there is room");
        let forgotten = claim.expires_at.plus(Duration::from_secs(660)).as_millis();
        let key = "claimd:cxxxxxxxxxxxxxxxx";
        assert_eq!(server.say(&["PEXPIRETIME", key]), format!(":{forgotten}\r\n"));
    }
}

fn charged(keys: AttemptKeys, at: Timestamp, count: usize) -> ChargedTries {
    Box::new(move |since| {
        let tries = vec![(keys, at); count];
        PortFuture::ready(Ok(tries.into_iter().filter(|(_, at)| *at >= since).collect()))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_store_counts_the_tries_of_the_audit_log_again_before_anything_is_evaluated() {
    let server = RedisServer::start();
    let (keys, at, budgets) = (fresh_keys(), now(), AttemptBudgets::default());
    let cache = node(&server).await;
    let ledger = RedisAttempts::beside(&cache, charged(keys, at, 3));
    let reserved = ledger.reserve(keys, &budgets, at).await;
    assert_eq!(reserved.map(|reserved| reserved.left), Ok(1), "three of five are on record");
    // What is there is not counted twice, by another node or by the same.
    let other = RedisAttempts::beside(&*node(&server).await, charged(keys, at, 4));
    assert_eq!(other.reserve(keys, &budgets, at).await.map(|reserved| reserved.left), Ok(0));
    server.say(&["FLUSHALL"]);
    assert_eq!(ledger.reserve(keys, &budgets, at).await.map(|reserved| reserved.left), Ok(1));
    // All three budgets.
    assert_eq!(ledger.reserve(keys, &budgets, at).await.map(|reserved| reserved.left), Ok(0));
    let spent = ledger.reserve(keys, &budgets, at).await;
    assert!(matches!(spent, Err(ReserveError::Exhausted { scope: AttemptScope::AccountAndDevice, .. })), "{spent:?}");
    assert_eq!(ledger.forgive(keys.name).await, Ok(()));
    assert_eq!(ledger.reserve(keys, &budgets, at).await.map(|reserved| reserved.left), Ok(4));
}

/// What is read before is not all that is charged after; found by the simulation of `crates/claim/tests/nodes`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_emptied_while_tries_are_counted_again_counts_them_anew() {
    let server = Arc::new(RedisServer::start());
    let (keys, at, budgets) = (fresh_keys(), now(), AttemptBudgets::default());
    let (readings, emptied) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&server));
    let charged: ChargedTries = Box::new(move |_| {
        let first = readings.fetch_add(1, Ordering::SeqCst) == 0;
        if first {
            emptied.say(&["FLUSHALL"]);
        }
        // Five are charged after the first reading.
        PortFuture::ready(Ok(vec![(keys, at); if first { 0 } else { 5 }]))
    });
    let ledger = RedisAttempts::beside(&*node(&server).await, charged);
    assert_eq!(ledger.reserve(keys, &budgets, at).await, Err(ReserveError::Unavailable), "nothing is evaluated");
    let spent = ledger.reserve(keys, &budgets, at).await;
    assert!(matches!(spent, Err(ReserveError::Exhausted { scope: AttemptScope::AccountAndDevice, .. })), "{spent:?}");
}

/// As after a failover to a replica that lagged: the mark is there, tries are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_new_connection_missing_tries_are_counted_again_before_anything_is_evaluated() {
    let mut server = RedisServer::start();
    let (keys, at, budgets) = (fresh_keys(), now(), AttemptBudgets::default());
    let cache = node(&server).await;
    let ledger = RedisAttempts::beside(&cache, charged(keys, at, 3));
    let other = AttemptKeys { name: fresh_keys().name, ..fresh_keys() };
    assert_eq!(ledger.reserve(other, &budgets, at).await.map(|reserved| reserved.left), Ok(4));
    assert_eq!(ledger.forgive(keys.name).await, Ok(()));
    assert!(server.say(&["SAVE"]).starts_with("+OK"), "what the replica knows");
    server.kill();
    server.start_again();
    assert_eq!(server.say(&["EXISTS", "{claimd}m"]), ":1\r\n");
    // The one that finds the broken connection may fail; no answer is given from what the replica knows.
    let left = healed(async || {
        ledger.reserve(keys, &budgets, at).await.map(|reserved| reserved.left).map_err(|_| Unavailable)
    });
    assert_eq!(left.await, 1, "three of five are on record");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_audit_log_cannot_be_read_an_emptied_store_evaluates_nothing() {
    let server = RedisServer::start();
    let cache = node(&server).await;
    let ledger = RedisAttempts::beside(&cache, Box::new(|_| PortFuture::ready(Err(Unavailable))));
    for _ in 0..3 {
        let reserved = ledger.reserve(fresh_keys(), &AttemptBudgets::default(), now()).await;
        assert_eq!(reserved, Err(ReserveError::Unavailable));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_replica_nothing_is_acked_where_one_is_asked_for() {
    let server = RedisServer::start();
    let waiting = Config { redis_wait_replicas: 1, ..config(&server) };
    let cache = RedisClaimCache::open(&waiting, Duration::from_millis(400), now()).await.expect("a server");
    let claim = claim_at(now());
    assert_eq!(cache.record(claim, now()).await, Err(RecordError::Unavailable));
    assert!(cache.peek(claim.device, now()).await.is_ok(), "reading waits for nobody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_its_replica_what_is_acked_is_on_both() {
    let (server, port) = failover::primary();
    let replica = RedisServer::with(&[("replicaof", &format!("127.0.0.1 {port}"))]);
    let waiting = Config { redis_wait_replicas: 1, ..config(&server) };
    let cache = RedisClaimCache::open(&waiting, PATIENCE, now()).await.expect("a server");
    let claim = claim_at(now());
    healed(async || cache.record(claim, now()).await.map_err(|_| Unavailable)).await;
    for n in 0..200 {
        let device = DeviceId::from_bytes(format!("{n:016}").into_bytes().try_into().expect("16 bytes"));
        assert_eq!(cache.record(PendingClaim { device, ..claim_at(now()) }, now()).await, Ok(Recorded::New));
        assert_eq!(replica.say(&["EXISTS", &format!("claimd:c{n:016}")]), ":1\r\n");
    }
    // A replica takes no claim.
    let at_replica = RedisClaimCache::open(&config(&replica), PATIENCE, now()).await.expect("it can be asked");
    assert_eq!(at_replica.record(claim_at(now()), now()).await, Err(RecordError::Unavailable));
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn installs_with_prefixes_of_their_own_never_meet() {
    let server = RedisServer::start();
    let one = node(&server).await;
    let config = Config { redis_prefix: "other".to_owned(), ..config(&server) };
    let other = RedisClaimCache::open(&config, PATIENCE, now()).await.expect("a server");
    let claim = claim_at(now());
    assert_eq!(one.record(claim, now()).await, Ok(Recorded::New));
    assert_eq!(other.peek(claim.device, now()).await, Ok(None));
    assert_eq!(other.pending(claim.tenant, None, 10, now()).await, Ok(vec![]));
    assert_eq!(other.record(claim, now()).await, Ok(Recorded::New));
}

/// A claim that a stale replica brings back has its old stamp and instant, by which the registry's fence voids it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_comes_back_is_the_old_one_to_the_byte() {
    let mut server = RedisServer::start();
    let cache = node(&server).await;
    let claim =
        PendingClaim { source: ClaimSource::Gateway, digest: SecretDigest::from_bytes([9; 32]), ..claim_at(now()) };
    cache.record(claim, now()).await.expect("there is room");
    let seen = cache.peek(claim.device, now()).await.unwrap().expect("recorded");
    assert!(server.say(&["SAVE"]).starts_with("+OK"));
    assert_eq!(cache.consume(claim.device, seen.stamp).await, Ok(true));
    server.kill();
    server.start_again();
    assert_eq!(healed(async || cache.peek(claim.device, now()).await).await, Some(seen));
    assert_eq!(cache.consume(claim.device, seen.stamp).await, Ok(true));
}
