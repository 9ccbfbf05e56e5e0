//! What a failover may bring back or take away.

use claim::confirmation::{ConfirmOutcome, ConfirmRequest, DeviceRef, UnclaimOutcome};
use claim::owner::Authority;
use claim::permissions::Grants;
use claim::{Actor, ClaimSecret, CustomerId, UserId};
use testkit::{World, origin};

use super::*;

/// A server that can have replicas: replication goes over TCP, on a port of the system's choice.
pub(super) fn primary() -> (RedisServer, u16) {
    let server = RedisServer::with(&[("repl-diskless-sync-delay", "0")]);
    let port = free_port();
    server.say(&["CONFIG", "SET", "port", &port.to_string()]);
    (server, port)
}

fn owner(world: &World) -> Actor {
    let authority = Authority::CustomerUser(CustomerId::random());
    Actor { account: UserId::random(), tenant: world.tenant, authority, grants: Grants::default() }
}

async fn confirm(world: &World, cache: &Arc<RedisClaimCache>, actor: Actor, at: Timestamp) -> ConfirmOutcome {
    let ledger = Arc::new(RedisAttempts::beside(cache, nothing_charged()));
    let secret = ClaimSecret::parse("s").expect("a secret");
    let request = ConfirmRequest {
        actor,
        for_customer: None,
        device: DeviceRef::Name("pump"),
        target: None,
        secret: &secret,
        retry: None,
    };
    world.confirmation_over(cache.clone(), ledger).confirm(request, &origin(None), at).await
}

/// The owner gives the device back, too: only the fence stands between the old claim and a stranger then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_a_stale_replica_brings_back_is_worth_nothing() {
    let (primary, port) = primary();
    let replica = RedisServer::with(&[("replicaof", &format!("127.0.0.1 {port}"))]);
    let world = World::new();
    let device = world.registry.add_device(world.tenant, "pump");
    let at = now();
    let digest = ClaimSecret::parse("s").expect("a secret").digest(&world.keyring, world.tenant, device);
    let claim = PendingClaim { tenant: world.tenant, device, digest, ..claim_at(at) };
    let waiting = Config { redis_wait_replicas: 1, ..config(&primary) };
    let before = RedisClaimCache::open(&waiting, PATIENCE, at).await.expect("a server");
    healed(async || before.record(claim, at).await.map_err(|_| Unavailable)).await;
    // From here on the replica hears nothing any more.
    assert!(replica.say(&["REPLICAOF", "127.0.0.1", "1"]).starts_with("+OK"));
    let before = RedisClaimCache::open(&config(&primary), PATIENCE, at).await.expect("a server");
    let alice = owner(&world);
    let later = |millis| at.plus(Duration::from_millis(millis));
    let outcome = confirm(&world, &before, alice, later(1)).await;
    assert!(matches!(outcome, ConfirmOutcome::Claimed { .. }), "{outcome:?}");
    assert_eq!(before.peek(device, at).await, Ok(None), "used");
    drop(primary);
    assert!(replica.say(&["REPLICAOF", "NO", "ONE"]).starts_with("+OK"));
    let after = RedisClaimCache::open(&config(&replica), PATIENCE, at).await.expect("a server");
    let risen = after.peek(device, at).await.expect("an answer").expect("it is back");
    assert_eq!(risen.claim, claim);
    let outcome = confirm(&world, &after, owner(&world), later(2)).await;
    assert!(matches!(outcome, ConfirmOutcome::Refused(_)), "owned: {outcome:?}");
    let ledger = Arc::new(RedisAttempts::beside(&after, nothing_charged()));
    let confirmation = world.confirmation_over(after.clone(), ledger);
    let released = confirmation.unclaim(alice, "pump", &origin(None), later(3)).await;
    assert!(matches!(released, UnclaimOutcome::Released { .. }), "{released:?}");
    // As if it came back once more, by another stale replica.
    assert_eq!(after.record(claim, at).await, Ok(Recorded::New));
    let outcome = confirm(&world, &after, owner(&world), later(4)).await;
    assert!(matches!(outcome, ConfirmOutcome::Refused(_)), "older than the fence: {outcome:?}");
    // What the device announces afterwards counts.
    let fresh = PendingClaim { received_at: later(6000), expires_at: later(600_000), ..claim };
    assert!(after.record(fresh, later(6000)).await.is_ok());
    let outcome = confirm(&world, &after, owner(&world), later(6001)).await;
    assert!(matches!(outcome, ConfirmOutcome::Claimed { .. }), "{outcome:?}");
}

/// One replica where two are asked for is one too few, though the one has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ack_needs_as_many_replicas_as_are_asked_for_and_no_more() {
    let (primary, port) = primary();
    let address = format!("127.0.0.1 {port}");
    let one = RedisServer::with(&[("replicaof", &address)]);
    let open = async |wait_replicas| {
        let config = Config { redis_wait_replicas: wait_replicas, ..config(&primary) };
        RedisClaimCache::open(&config, Duration::from_millis(500), now()).await.expect("a server")
    };
    let (needs_one, needs_two) = (open(1).await, open(2).await);
    healed(async || needs_one.record(claim_at(now()), now()).await.map_err(|_| Unavailable)).await;
    let unheard = PendingClaim { device: DeviceId::from_bytes([b'u'; 16]), ..claim_at(now()) };
    until("the one replica has it, and it is not acked", async || {
        assert_eq!(needs_two.record(unheard, now()).await, Err(RecordError::Unavailable));
        (one.say(&["EXISTS", "claimd:cuuuuuuuuuuuuuuuu"]) == ":1\r\n").then_some(())
    })
    .await;
    let two = RedisServer::with(&[("replicaof", &address)]);
    healed(async || needs_two.record(unheard, now()).await.map_err(|_| Unavailable)).await;
    assert_eq!(two.say(&["EXISTS", "claimd:cuuuuuuuuuuuuuuuu"]), ":1\r\n");
}
