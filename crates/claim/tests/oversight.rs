//! What a maker does about claims under way: looks, revokes, clears; and what that never does.

use std::time::Duration;

use claim::confirmation::{ConfirmOutcome, ConfirmRequest, DeviceRef, OversightOutcome};
use claim::owner::Authority;
use claim::permissions::Grants;
use claim::ports::{ClaimCache, ClaimSource, PendingClaim};
use claim::{Actor, ClaimSecret, CustomerId, DeviceId, Timestamp, UserId};
use testkit::{World, at, origin};

const MINUTE: Duration = Duration::from_secs(60);

fn actor(world: &World, authority: Authority) -> Actor {
    Actor { account: UserId::random(), tenant: world.tenant, authority, grants: Grants::default() }
}

fn maker(world: &World) -> Actor {
    actor(world, Authority::TenantAdmin)
}

fn owner(world: &World) -> Actor {
    actor(world, Authority::CustomerUser(CustomerId::random()))
}

async fn announce(world: &World, device: DeviceId, received_at: Timestamp) -> PendingClaim {
    let digest = ClaimSecret::parse("s").expect("a secret").digest(&world.keyring, world.tenant, device);
    let expires_at = received_at.plus(MINUTE);
    let source = ClaimSource::Device;
    let claim = PendingClaim { tenant: world.tenant, device, digest, received_at, expires_at, source };
    world.cache.record(claim, received_at).await.expect("room");
    claim
}

async fn confirm(world: &World, actor: Actor, secret: &str, now: Timestamp) -> ConfirmOutcome {
    let secret = ClaimSecret::parse(secret).expect("a secret");
    let device = DeviceRef::Name("pump");
    let request = ConfirmRequest { actor, for_customer: None, device, target: None, secret: &secret, retry: None };
    world.confirmation().confirm(request, &origin(None), now).await
}

async fn names(world: &World, now: Timestamp) -> Vec<String> {
    let page = world.confirmation().pending(world.tenant, None, 100, now).await.expect("an answer");
    page.rows.into_iter().map(|row| row.name.as_str().to_owned()).collect()
}

#[tokio::test]
async fn a_maker_sees_what_is_open_and_not_what_is_void_or_owned() {
    let world = World::new();
    let pump = world.registry.add_device(world.tenant, "pump");
    let void = world.registry.add_device(world.tenant, "void");
    let owned = world.registry.add_device(world.tenant, "owned");
    for device in [pump, void, owned] {
        announce(&world, device, at(0)).await;
    }
    world.registry.change(void, |device| device.claim_reset_at = Some(at(0)));
    world.registry.set_owner(owned, Some(CustomerId::random()), at(1));
    assert_eq!(names(&world, at(1)).await, ["pump"]);
    let page = world.confirmation().pending(world.tenant, None, 100, at(1)).await.expect("an answer");
    let row = &page.rows[0];
    assert_eq!((row.device, row.received_at, row.expires_at), (pump, at(0), at(60_000)));
    assert_eq!(names(&world, at(60_000)).await, Vec::<String>::new(), "it has ended");
    // Page by page nothing is lost, void ones or not.
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = world.confirmation().pending(world.tenant, after, 1, at(1)).await.expect("an answer");
        found.extend(page.rows);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found.len(), 1);
}

#[tokio::test]
async fn a_revoked_claim_is_void_whatever_comes_back_and_the_next_one_counts() {
    let world = World::new();
    let device = world.registry.add_device(world.tenant, "pump");
    let claim = announce(&world, device, at(0)).await;
    // Not even the cache's loss of the removal brings it back.
    world.cache.lose_consumes(true);
    let revoked = world.confirmation().revoke(maker(&world), "pump", &origin(None), at(1)).await;
    assert_eq!(revoked, OversightOutcome::Done { device });
    world.cache.lose_consumes(false);
    world.cache.resurrect(claim);
    assert!(!matches!(confirm(&world, owner(&world), "s", at(2)).await, ConfirmOutcome::Claimed { .. }));
    let again = world.confirmation().revoke(maker(&world), "pump", &origin(None), at(3)).await;
    assert_eq!(again, OversightOutcome::Nothing);
    announce(&world, device, at(4)).await;
    assert!(matches!(confirm(&world, owner(&world), "s", at(5)).await, ConfirmOutcome::Claimed { .. }));
    // An owner is nothing that could be revoked.
    let owned = world.confirmation().revoke(maker(&world), "pump", &origin(None), at(6)).await;
    assert_eq!(owned, OversightOutcome::Nothing);
    assert!(world.registry.row(device).expect("a row").owner.is_some());
}

#[tokio::test]
async fn only_a_maker_of_the_tenant_revokes_and_unlocks() {
    let world = World::new();
    let device = world.registry.add_device(world.tenant, "pump");
    announce(&world, device, at(0)).await;
    let foreign = Actor { tenant: world.registry.add_tenant(), ..maker(&world) };
    for actor in [owner(&world), foreign] {
        let confirmation = world.confirmation();
        assert_eq!(confirmation.revoke(actor, "pump", &origin(None), at(1)).await, OversightOutcome::Nothing);
        assert_eq!(confirmation.unlock(actor, "pump", &origin(None), at(1)).await, OversightOutcome::Nothing);
    }
    let unknown = world.confirmation().unlock(maker(&world), "no such device", &origin(None), at(1)).await;
    assert_eq!(unknown, OversightOutcome::Nothing);
    assert_eq!(names(&world, at(1)).await, ["pump"]);
    assert!(world.registry.take_notes().is_empty());
}

#[tokio::test]
async fn an_unlocked_device_can_be_tried_again_and_that_is_on_record_first() {
    let world = World::new();
    let device = world.registry.add_device(world.tenant, "pump");
    announce(&world, device, at(0)).await;
    let guesser = owner(&world);
    for n in 0..5 {
        confirm(&world, guesser, "guess", at(n)).await;
    }
    assert!(matches!(confirm(&world, guesser, "s", at(5)).await, ConfirmOutcome::RateLimited { .. }));
    world.registry.take_notes();
    world.ledger.set_unavailable(true);
    let unlock = async || world.confirmation().unlock(maker(&world), "pump", &origin(None), at(6)).await;
    assert_eq!(unlock().await, OversightOutcome::Unavailable);
    world.ledger.set_unavailable(false);
    assert_eq!(unlock().await, OversightOutcome::Done { device });
    let notes = world.registry.take_notes();
    assert_eq!(notes.len(), 2, "also of the one that did not come to its end");
    let key = Some(world.keyring.attempt_key(world.tenant, "pump"));
    assert!(notes.iter().all(|note| note.action.name() == "unlock" && note.attempt_key == key && !note.charged));
    assert!(matches!(confirm(&world, guesser, "s", at(7)).await, ConfirmOutcome::Claimed { .. }));
}
