//! Confirmation over the plainest ports: what proves a claim, what a try costs, who learns what, what a crash leaves.

use std::sync::Arc;
use std::time::Duration;

use claim::confirmation::{ConfirmOutcome, ConfirmRequest, DeviceRef, RefusalCause, Shown, UnclaimOutcome};
use claim::event::Evidence;
use claim::owner::Authority;
use claim::permissions::{ClaimPermission, Grant, Grants};
use claim::policy::Disclosure;
use claim::ports::{AttemptScope, ClaimCache, ClaimSource, PendingClaim, RetryKey};
use claim::{Actor, ClaimSecret, CustomerId, DeviceId, Eui64, Timestamp, UserId};
use testkit::fakes::{AssignFault, Metered};
use testkit::{World, at, origin};

const MINUTE: Duration = Duration::from_secs(60);

fn owner(world: &World) -> Actor {
    let authority = Authority::CustomerUser(CustomerId::random());
    Actor { account: UserId::random(), tenant: world.tenant, authority, grants: Grants::default() }
}

fn admin(world: &World) -> Actor {
    Actor {
        account: UserId::random(),
        tenant: world.tenant,
        authority: Authority::TenantAdmin,
        grants: Grants::default(),
    }
}

fn customer(actor: &Actor) -> CustomerId {
    actor.customer().expect("a customer's user")
}

async fn confirm(world: &World, actor: &Actor, name: &str, secret: &str, now: Timestamp) -> ConfirmOutcome {
    confirm_with(world, actor, name, secret, None, now).await
}

async fn confirm_with(
    world: &World,
    actor: &Actor,
    name: &str,
    secret: &str,
    retry: Option<RetryKey>,
    now: Timestamp,
) -> ConfirmOutcome {
    let secret = ClaimSecret::parse(secret).expect("a secret");
    let request = ConfirmRequest {
        actor: *actor,
        for_customer: None,
        device: DeviceRef::Name(name),
        target: None,
        secret: &secret,
        retry,
    };
    world.confirmation().confirm(request, &origin(None), now).await
}

async fn unclaim(world: &World, actor: &Actor, name: &str, now: Timestamp) -> UnclaimOutcome {
    world.confirmation().unclaim(*actor, name, &origin(None), now).await
}

/// A pending claim as intake would record it.
async fn announce(world: &World, device: DeviceId, secret: &str, received: Timestamp, lifetime: Duration) {
    let digest = ClaimSecret::parse(secret).expect("a secret").digest(&world.keyring, world.tenant, device);
    let claim = PendingClaim {
        tenant: world.tenant,
        device,
        digest,
        received_at: received,
        expires_at: received.plus(lifetime),
        source: ClaimSource::Device,
    };
    world.cache.record(claim, received).await.expect("room");
}

async fn announced(world: &World, name: &str, secret: &str) -> DeviceId {
    let device = world.registry.add_device(world.tenant, name);
    announce(world, device, secret, at(0), MINUTE).await;
    device
}

fn cause(outcome: &ConfirmOutcome) -> (RefusalCause, bool) {
    match outcome {
        ConfirmOutcome::Refused(refusal) => (refusal.cause, refusal.right),
        other => panic!("{other:?}"),
    }
}

fn claimed(outcome: &ConfirmOutcome) -> bool {
    matches!(outcome, ConfirmOutcome::Claimed { .. })
}

#[tokio::test]
async fn the_right_secret_of_a_live_claim_makes_the_owner() {
    let world = World::new();
    let device = announced(&world, "pump", "s").await;
    let alice = owner(&world);
    let outcome = confirm(&world, &alice, "pump", "s", at(1)).await;
    let expected =
        ConfirmOutcome::Claimed { device, claimed_at: at(1), generation: 1, evidence: Evidence::PendingClaim };
    assert_eq!(outcome, expected);
    assert_eq!(world.registry.wins(), [(device, customer(&alice))]);
    assert_eq!(world.cache.held(device), None, "the claim is spent");
    assert_eq!(world.ledger.charged(), 0, "a right try is free");
    assert_eq!(world.meter.count(Metered::Confirmation("claimed", Evidence::PendingClaim)), 1);
}

#[tokio::test]
async fn a_window_is_half_open() {
    for (now, good) in [(0, true), (59_999, true), (60_000, false), (60_001, false)] {
        let world = World::new();
        announced(&world, "pump", "s").await;
        let outcome = confirm(&world, &owner(&world), "pump", "s", at(now)).await;
        assert_eq!(claimed(&outcome), good, "{now}: {outcome:?}");
        if !good {
            assert_eq!(cause(&outcome), (RefusalCause::WindowEnded, true));
        }
    }
}

#[tokio::test]
async fn a_miss_costs_the_guesser_and_never_the_device() {
    let world = World::new();
    let device = announced(&world, "pump", "s").await;
    let (held, row) = (world.cache.held(device), world.registry.row(device));
    let mallory = owner(&world);
    for left in (0..5).rev() {
        let outcome = confirm(&world, &mallory, "pump", "guess", at(1)).await;
        let ConfirmOutcome::Refused(refusal) = outcome else { panic!("{outcome:?}") };
        assert_eq!((refusal.cause, refusal.left), (RefusalCause::WrongSecret, left));
    }
    let blocked = confirm(&world, &mallory, "pump", "s", at(2)).await;
    assert!(
        matches!(blocked, ConfirmOutcome::RateLimited { scope: AttemptScope::AccountAndDevice, .. }),
        "{blocked:?}"
    );
    assert_eq!((world.cache.held(device), world.registry.row(device)), (held, row));
    assert!(claimed(&confirm(&world, &owner(&world), "pump", "s", at(3)).await), "others are not held up");
}

#[tokio::test]
async fn an_account_has_twenty_wrong_tries_and_a_device_fifty() {
    let world = World::new();
    let mallory = owner(&world);
    for n in 0..20 {
        let outcome = confirm(&world, &mallory, &format!("no such {n}"), "guess", at(0)).await;
        assert_eq!(cause(&outcome).0, RefusalCause::UnknownName, "{n}");
    }
    let blocked = confirm(&world, &mallory, "another", "guess", at(0)).await;
    let ConfirmOutcome::RateLimited { scope: AttemptScope::Account, retry_after } = blocked else {
        panic!("{blocked:?}")
    };
    assert_eq!(retry_after, 10 * MINUTE);
    let outcome = confirm(&world, &mallory, "another", "guess", at(600_000)).await;
    assert_eq!(cause(&outcome).0, RefusalCause::UnknownName, "after the time that was told");

    let world = World::new();
    announced(&world, "pump", "s").await;
    for _ in 0..50 {
        confirm(&world, &owner(&world), "pump", "guess", at(0)).await;
    }
    let blocked = confirm(&world, &owner(&world), "pump", "s", at(0)).await;
    assert!(matches!(blocked, ConfirmOutcome::RateLimited { scope: AttemptScope::Device, .. }), "{blocked:?}");
    assert_eq!(world.meter.count(Metered::AttemptBlocked(AttemptScope::Device)), 1);
}

#[tokio::test]
async fn spellings_of_a_name_share_a_budget() {
    let world = World::new();
    let mallory = owner(&world);
    for spelling in ["\u{e9}", "e\u{301}", "\u{e9}", "e\u{301}", "\u{e9}"] {
        confirm(&world, &mallory, spelling, "guess", at(0)).await;
    }
    let blocked = confirm(&world, &mallory, "e\u{301}", "guess", at(0)).await;
    assert!(matches!(blocked, ConfirmOutcome::RateLimited { .. }));
}

#[tokio::test]
async fn tries_are_free_when_the_secret_was_right_or_nothing_was_evaluated() {
    let world = World::new();
    let device = announced(&world, "pump", "s").await;
    let alice = owner(&world);
    confirm(&world, &alice, "pump", "s", at(60_000)).await;
    assert_eq!(world.ledger.charged(), 0, "right, but late");
    world.cache.set_unavailable(true);
    assert_eq!(confirm(&world, &alice, "pump", "guess", at(1)).await, ConfirmOutcome::Unavailable);
    world.cache.set_unavailable(false);
    world.registry.set_unavailable(true);
    assert_eq!(confirm(&world, &alice, "pump", "guess", at(1)).await, ConfirmOutcome::Unavailable);
    world.registry.set_unavailable(false);
    assert_eq!(world.ledger.charged(), 0, "nothing was evaluated");
    world.ledger.set_unavailable(true);
    assert_eq!(confirm(&world, &alice, "pump", "s", at(1)).await, ConfirmOutcome::Unavailable);
    world.ledger.set_unavailable(false);
    assert!(world.registry.row(device).expect("a row").owner.is_none(), "without counters nothing is decided");
    assert!(claimed(&confirm(&world, &alice, "pump", "s", at(2)).await));
}

/// Counters that are lost are counted again from what is on record: an answer that is not would be a free guess.
#[tokio::test]
async fn a_miss_that_is_not_on_record_is_not_told_and_stays_charged() {
    let world = World::new();
    announced(&world, "pump", "s").await;
    let mallory = owner(&world);
    world.registry.lose_notes(true);
    assert_eq!(confirm(&world, &mallory, "pump", "guess", at(1)).await, ConfirmOutcome::Unavailable);
    assert_eq!(world.ledger.charged(), 1);
    world.registry.lose_notes(false);
    assert_eq!(cause(&confirm(&world, &mallory, "pump", "guess", at(2)).await).0, RefusalCause::WrongSecret);
    assert_eq!(world.ledger.charged(), 2);
}

#[tokio::test]
async fn an_empty_secret_matches_only_an_empty_one() {
    let world = World::new();
    announced(&world, "open", "").await;
    announced(&world, "closed", "s").await;
    assert_eq!(cause(&confirm(&world, &owner(&world), "closed", "", at(1)).await).0, RefusalCause::WrongSecret);
    assert_eq!(cause(&confirm(&world, &owner(&world), "open", "x", at(1)).await).0, RefusalCause::WrongSecret);
    assert!(claimed(&confirm(&world, &owner(&world), "open", "", at(1)).await));
}

#[tokio::test]
async fn a_stored_code_is_evidence_in_its_window_and_after_a_claim_that_does_not_match() {
    let world = World::new();
    let device = world.registry.add_device(world.tenant, "pump");
    world.registry.set_code(device, "code", Some(at(1_000)), Some(at(2_000)));
    let try_at = async |now| confirm(&world, &owner(&world), "pump", "code", at(now)).await;
    assert_eq!(cause(&try_at(999).await), (RefusalCause::NotYet, true));
    assert_eq!(cause(&try_at(2_000).await), (RefusalCause::CodeEnded, true));
    // An expired or different announcement does not mask the code.
    announce(&world, device, "other", at(0), MINUTE).await;
    let outcome = try_at(1_999).await;
    assert!(
        matches!(outcome, ConfirmOutcome::Claimed { evidence: Evidence::StoredCode, .. }),
        "the announcement's secret was another: {outcome:?}"
    );
}

#[tokio::test]
async fn lower_case_opens_an_upper_case_code_and_no_other_secret() {
    let world = World::new();
    let device = world.registry.add_device(world.tenant, "pump");
    let who = owner(&world);
    for (stored, shown) in [("ABCD", "abcd"), ("ABCD", "aBcD"), ("ABCD", "ABCD")] {
        world.registry.set_upper_code(device, stored, None, None);
        assert!(claimed(&confirm(&world, &who, "pump", shown, at(1)).await), "{shown}");
        let again = confirm(&world, &who, "pump", shown, at(2)).await;
        assert!(matches!(again, ConfirmOutcome::AlreadyYours { same_proof: true, .. }), "{again:?}");
        unclaim(&world, &who, "pump", at(3)).await;
    }
    // A secret that its maker or the device chose is what it is.
    world.registry.set_code(device, "ABCD", None, None);
    assert_eq!(cause(&confirm(&world, &who, "pump", "abcd", at(4)).await), (RefusalCause::WrongSecret, false));
    world.registry.set_code(device, "abcd", None, None);
    assert_eq!(cause(&confirm(&world, &who, "pump", "ABCD", at(4)).await), (RefusalCause::WrongSecret, false));
    let device = announced(&world, "other", "ABCD").await;
    assert_eq!(cause(&confirm(&world, &who, "other", "abcd", at(4)).await), (RefusalCause::WrongSecret, false));
    assert_eq!(world.registry.row(device).and_then(|row| row.owner), None);
}

#[tokio::test]
async fn where_presence_is_asked_for_a_code_counts_only_with_a_fresh_announcement() {
    let world = World::new();
    let device = world.registry.add_device(world.tenant, "pump");
    world.registry.set_upper_code(device, "BEEF1234", None, None);
    world.registry.change(device, |device| device.presence = true);
    let who = owner(&world);
    assert_eq!(cause(&confirm(&world, &who, "pump", "BEEF1234", at(1)).await), (RefusalCause::NotPresent, true));
    assert_eq!(cause(&confirm(&world, &who, "pump", "BEEF1235", at(1)).await), (RefusalCause::WrongSecret, false));
    // The announcement shows that somebody is there; its own secret is none.
    announce(&world, device, "announced", at(2), MINUTE).await;
    assert_eq!(cause(&confirm(&world, &who, "pump", "announced", at(3)).await), (RefusalCause::WrongSecret, false));
    let late = at(2).plus(MINUTE);
    assert_eq!(cause(&confirm(&world, &who, "pump", "BEEF1234", late).await), (RefusalCause::NotPresent, true));
    assert!(claimed(&confirm(&world, &who, "pump", "beef1234", at(4)).await));
    assert_eq!(world.cache.peek(device, at(5)).await, Ok(None), "used up");
    // Announcements of before a claim show nothing after it.
    unclaim(&world, &who, "pump", at(10)).await;
    world.registry.set_upper_code(device, "BEEF1234", None, None);
    announce(&world, device, "", at(10), MINUTE).await;
    assert_eq!(cause(&confirm(&world, &who, "pump", "BEEF1234", at(11)).await), (RefusalCause::NotPresent, true));
    announce(&world, device, "", at(12), MINUTE).await;
    assert!(claimed(&confirm(&world, &who, "pump", "BEEF1234", at(13)).await));
}

#[tokio::test]
async fn without_a_stored_code_presence_asks_for_nothing_more() {
    let world = World::new();
    let device = announced(&world, "pump", "s").await;
    world.registry.change(device, |device| device.presence = true);
    assert!(claimed(&confirm(&world, &owner(&world), "pump", "s", at(1)).await));
}

#[tokio::test]
async fn a_device_asked_for_by_its_eui_is_the_one_asked_for_by_name() {
    let mut world = World::new();
    world.budgets.per_account_and_device = 3;
    let device = world.registry.add_device(world.tenant, "pump");
    let dev_eui = Eui64::parse("0004A30B001C0530").expect("an EUI");
    world.registry.set_eui(device, dev_eui);
    world.registry.set_upper_code(device, "BEEF1234", None, None);
    let who = owner(&world);
    let by_eui = async |dev_eui, join_eui, code: &'static str| {
        let secret = ClaimSecret::parse(code).expect("a secret");
        let device = DeviceRef::Eui { dev_eui, join_eui };
        let request =
            ConfirmRequest { actor: who, for_customer: None, device, target: None, secret: &secret, retry: None };
        world.confirmation().confirm(request, &origin(None), at(1)).await
    };
    let other = Eui64::from_bytes([9; 8]);
    assert_eq!(cause(&by_eui(other, None, "BEEF1234").await), (RefusalCause::UnknownName, false));
    assert_eq!(cause(&by_eui(dev_eui, Some(other), "BEEF1234").await), (RefusalCause::UnknownName, false));
    // One budget, whichever door is tried.
    assert_eq!(cause(&by_eui(dev_eui, None, "WRONG123").await), (RefusalCause::WrongSecret, false));
    for guess in ["WRONG124", "WRONG125"] {
        assert_eq!(cause(&confirm(&world, &who, "pump", guess, at(1)).await), (RefusalCause::WrongSecret, false));
    }
    assert!(matches!(by_eui(dev_eui, None, "BEEF1234").await, ConfirmOutcome::RateLimited { .. }));
    let second = owner(&world);
    let secret = ClaimSecret::parse("BEEF1234").expect("a secret");
    let device = DeviceRef::Eui { dev_eui, join_eui: None };
    let request =
        ConfirmRequest { actor: second, for_customer: None, device, target: None, secret: &secret, retry: None };
    assert!(claimed(&world.confirmation().confirm(request, &origin(None), at(1)).await));
}

#[tokio::test]
async fn one_request_is_one_try_whichever_evidence_is_looked_at() {
    let world = World::new();
    let device = announced(&world, "pump", "s").await;
    world.registry.set_code(device, "code", None, None);
    confirm(&world, &owner(&world), "pump", "guess", at(1)).await;
    assert_eq!(world.ledger.charged(), 1);
}

#[tokio::test]
async fn what_an_application_is_not_authorised_for_is_not_claimed_by_any_evidence() {
    let world = World::new();
    let device = announced(&world, "pump", "s").await;
    world.registry.set_code(device, "code", None, None);
    world.registry.change(device, |device| device.authorized = false);
    for secret in ["s", "code"] {
        let outcome = confirm(&world, &owner(&world), "pump", secret, at(1)).await;
        assert_eq!(cause(&outcome), (RefusalCause::NotAllowed, true), "{secret}");
    }
}

#[tokio::test]
async fn what_the_maker_does_not_allow_is_not_claimed_by_any_evidence() {
    let mut world = World::new();
    world.policy.allow_by_default = false;
    let device = announced(&world, "pump", "s").await;
    world.registry.set_code(device, "code", None, None);
    for secret in ["s", "code"] {
        let outcome = confirm(&world, &owner(&world), "pump", secret, at(1)).await;
        assert_eq!(cause(&outcome), (RefusalCause::NotAllowed, true), "{secret}");
    }
    world.registry.change(device, |device| device.claiming_allowed = true);
    // Taken back between the look and the write: the write asks again.
    world.registry.before_next_assign(move |registry| registry.change(device, |d| d.claiming_allowed = false));
    let outcome = confirm(&world, &owner(&world), "pump", "s", at(1)).await;
    assert_eq!(cause(&outcome), (RefusalCause::NotAllowed, true));
    world.registry.change(device, |device| device.claiming_allowed = true);
    assert!(claimed(&confirm(&world, &owner(&world), "pump", "s", at(1)).await));
}

#[tokio::test]
async fn spent_evidence_never_works_again_whatever_comes_back() {
    let world = World::new();
    let device = announced(&world, "pump", "s").await;
    let spent = world.cache.held(device).expect("held");
    let (alice, bob) = (owner(&world), owner(&world));
    assert!(claimed(&confirm(&world, &alice, "pump", "s", at(1)).await));
    world.cache.resurrect(spent);
    assert!(matches!(confirm(&world, &bob, "pump", "s", at(2)).await, ConfirmOutcome::Refused(_)));
    assert!(matches!(unclaim(&world, &alice, "pump", at(3)).await, UnclaimOutcome::Released { .. }));
    world.cache.resurrect(spent);
    assert_eq!(cause(&confirm(&world, &bob, "pump", "s", at(4)).await).0, RefusalCause::NoEvidence);
    announce(&world, device, "s", at(5), MINUTE).await;
    assert!(claimed(&confirm(&world, &bob, "pump", "s", at(6)).await), "a new announcement is new evidence");
}

#[tokio::test]
async fn a_code_that_was_changed_meanwhile_does_not_win() {
    let world = World::new();
    let device = world.registry.add_device(world.tenant, "pump");
    world.registry.set_code(device, "old", None, None);
    world.registry.before_next_assign(move |registry| registry.set_code(device, "new", None, None));
    let outcome = confirm(&world, &owner(&world), "pump", "old", at(1)).await;
    assert!(matches!(outcome, ConfirmOutcome::Refused(_)), "{outcome:?}");
    assert!(claimed(&confirm(&world, &owner(&world), "pump", "new", at(2)).await));
}

#[tokio::test]
async fn losing_a_race_is_a_refusal_that_says_owned_and_costs_nothing() {
    let world = World::new();
    let device = announced(&world, "pump", "s").await;
    let (alice, bob) = (owner(&world), owner(&world));
    let first = customer(&alice);
    world.registry.before_next_assign(move |registry| registry.set_owner(device, Some(first), at(1)));
    let outcome = confirm(&world, &bob, "pump", "s", at(1)).await;
    assert_eq!(cause(&outcome), (RefusalCause::Owned, true));
    assert_eq!(world.ledger.charged(), 0);
    assert_eq!(world.registry.row(device).expect("a row").owner, Some(first));
}

#[tokio::test]
async fn a_repeat_by_the_owner_is_recognised() {
    let world = World::new();
    announced(&world, "pump", "s").await;
    let alice = owner(&world);
    assert!(claimed(&confirm(&world, &alice, "pump", "s", at(1)).await));
    let again = confirm(&world, &alice, "pump", "s", at(2)).await;
    assert!(matches!(again, ConfirmOutcome::AlreadyYours { same_proof: true, claimed_at, .. } if claimed_at == at(1)));
    let other = confirm(&world, &alice, "pump", "x", at(3)).await;
    assert!(matches!(other, ConfirmOutcome::AlreadyYours { same_proof: false, .. }));
}

#[tokio::test]
async fn a_lost_consume_leaves_an_inert_claim() {
    let world = World::new();
    let device = announced(&world, "pump", "s").await;
    world.cache.lose_consumes(true);
    let alice = owner(&world);
    assert!(claimed(&confirm(&world, &alice, "pump", "s", at(1)).await));
    assert!(world.cache.held(device).is_some());
    assert!(matches!(confirm(&world, &owner(&world), "pump", "s", at(2)).await, ConfirmOutcome::Refused(_)));
    assert!(matches!(confirm(&world, &alice, "pump", "s", at(2)).await, ConfirmOutcome::AlreadyYours { .. }));
}

#[tokio::test]
async fn an_outcome_nobody_knows_is_said_to_be_unknown_and_a_repeat_settles_it() {
    for (fault, wrote) in [(AssignFault::LostBefore, false), (AssignFault::LostAfter, true)] {
        let world = World::new();
        announced(&world, "pump", "s").await;
        let alice = owner(&world);
        world.registry.fail_next_assign(fault);
        assert_eq!(confirm(&world, &alice, "pump", "s", at(1)).await, ConfirmOutcome::OutcomeUnknown);
        let again = confirm(&world, &alice, "pump", "s", at(2)).await;
        match wrote {
            true => assert!(matches!(again, ConfirmOutcome::AlreadyYours { same_proof: true, .. }), "{again:?}"),
            false => assert!(claimed(&again), "{again:?}"),
        }
        assert_eq!(world.registry.wins().len(), 1);
    }
    let world = World::new();
    announced(&world, "pump", "s").await;
    world.registry.fail_next_assign(AssignFault::Refused);
    assert_eq!(confirm(&world, &owner(&world), "pump", "s", at(1)).await, ConfirmOutcome::Unavailable);
    assert_eq!(world.ledger.charged(), 0);
}

#[tokio::test]
async fn a_retry_key_brings_the_first_answer_and_only_for_the_same_request() {
    let world = World::new();
    announced(&world, "pump", "s").await;
    let alice = owner(&world);
    let key = |request: u8| Some(RetryKey { account: alice.account, key: [1; 32], request: [request; 32] });
    let first = confirm_with(&world, &alice, "pump", "s", key(1), at(1)).await;
    assert!(claimed(&first));
    assert_eq!(confirm_with(&world, &alice, "pump", "s", key(1), at(2)).await, first);
    let reused = confirm_with(&world, &alice, "other", "s", key(2), at(3)).await;
    assert_eq!(reused, ConfirmOutcome::RetryKeyReused);
    let other = RetryKey { account: alice.account, key: [2; 32], request: [9; 32] };
    let refused = confirm_with(&world, &alice, "nothing", "x", Some(other), at(4)).await;
    assert_eq!(confirm_with(&world, &alice, "nothing", "x", Some(other), at(5)).await, refused);
    assert_eq!(world.ledger.charged(), 1, "the repeat of a refusal is not another try");
}

#[tokio::test]
async fn only_the_owner_and_the_tenants_admin_unclaim() {
    let world = World::new();
    let device = announced(&world, "pump", "s").await;
    let (alice, bob) = (owner(&world), owner(&world));
    assert!(claimed(&confirm(&world, &alice, "pump", "s", at(1)).await));
    assert_eq!(unclaim(&world, &bob, "pump", at(2)).await, UnclaimOutcome::NotFound);
    assert_eq!(unclaim(&world, &bob, "no such", at(2)).await, UnclaimOutcome::NotFound, "one answer for both");
    let foreign = Actor { tenant: world.registry.add_tenant(), ..admin(&world) };
    assert_eq!(unclaim(&world, &foreign, "pump", at(2)).await, UnclaimOutcome::NotFound);
    assert_eq!(world.registry.row(device).expect("a row").owner, Some(customer(&alice)));
    let released = UnclaimOutcome::Released { device, previous: customer(&alice) };
    assert_eq!(unclaim(&world, &admin(&world), "pump", at(3)).await, released);

    announce(&world, device, "t", at(4), MINUTE).await;
    assert_eq!(unclaim(&world, &bob, "pump", at(5)).await, UnclaimOutcome::NotFound);
    assert!(world.cache.held(device).is_some(), "no customer kills a pending claim");
    assert_eq!(unclaim(&world, &admin(&world), "pump", at(5)).await, UnclaimOutcome::Unowned { device });
    assert!(world.cache.held(device).is_none(), "the admin's word drops it");
}

#[tokio::test]
async fn unclaiming_allows_claiming_again_where_that_is_not_the_default() {
    let mut world = World::new();
    world.policy.allow_by_default = false;
    let device = announced(&world, "pump", "s").await;
    world.registry.change(device, |device| device.claiming_allowed = true);
    let alice = owner(&world);
    assert!(claimed(&confirm(&world, &alice, "pump", "s", at(1)).await));
    assert!(!world.registry.row(device).expect("a row").claiming_allowed, "spent with the claim");
    unclaim(&world, &alice, "pump", at(2)).await;
    assert!(world.registry.row(device).expect("a row").claiming_allowed);
}

#[tokio::test]
async fn makers_do_not_claim_and_tenants_never_meet() {
    let world = World::new();
    announced(&world, "pump", "s").await;
    assert_eq!(confirm(&world, &admin(&world), "pump", "s", at(1)).await, ConfirmOutcome::Forbidden);
    let eve = Actor { tenant: world.registry.add_tenant(), ..owner(&world) };
    assert_eq!(cause(&confirm(&world, &eve, "pump", "s", at(1)).await), (RefusalCause::UnknownName, false));
}

#[tokio::test]
async fn where_grants_are_needed_a_user_without_one_is_refused_before_any_look_at_the_device() {
    let world = World { permission: ClaimPermission::Granted, ..World::new() };
    announced(&world, "pump", "s").await;
    let guest = owner(&world);
    for (name, secret) in [("pump", "s"), ("pump", "wrong"), ("unknown", "s"), ("\u{0}", "s")] {
        assert_eq!(confirm(&world, &guest, name, secret, at(1)).await, ConfirmOutcome::Forbidden, "{name}");
    }
    assert_eq!((world.ledger.charged(), world.ledger.refunds()), (0, 0), "no try is spent");
    let notes = world.registry.take_notes();
    assert_eq!(notes.len(), 4, "{notes:?}");
    for note in notes {
        assert_eq!((note.outcome, note.reason), ("forbidden", "missing CLAIM_DEVICES on DEVICE"));
        assert_eq!((note.device, note.attempt_key, note.charged), (None, None, false));
    }
    assert_eq!(world.meter.count(Metered::Confirmation("forbidden", Evidence::None)), 4);
    let keeper = Actor { grants: Grants::from_iter([Grant::CLAIM_DEVICES]), ..guest };
    assert!(claimed(&confirm(&world, &keeper, "pump", "s", at(2)).await));
}

#[tokio::test]
async fn where_grants_are_needed_giving_back_needs_one_too() {
    let world = World { permission: ClaimPermission::Granted, ..World::new() };
    let device = announced(&world, "pump", "s").await;
    let guest = owner(&world);
    let keeper = Actor { account: UserId::random(), grants: Grants::from_iter([Grant::CLAIM_DEVICES]), ..guest };
    assert!(claimed(&confirm(&world, &keeper, "pump", "s", at(1)).await));
    world.registry.take_notes();
    for name in ["pump", "unknown"] {
        assert_eq!(unclaim(&world, &guest, name, at(2)).await, UnclaimOutcome::NotFound, "{name}");
    }
    let released = world.confirmation().release(guest, device, &origin(None), at(2)).await;
    assert_eq!(released, UnclaimOutcome::NotFound);
    let notes = world.registry.take_notes();
    assert!(notes.len() == 3 && notes.iter().all(|note| note.reason == "missing CLAIM_DEVICES on DEVICE"), "{notes:?}");
    assert!(world.registry.row(device).expect("a row").owner.is_some());
    // It still sees what is its customer's; and the maker needs no grant.
    let seen = world.confirmation().status(guest, "pump", at(3)).await;
    assert!(matches!(seen, Ok(Some(claim::ClaimState::Claimed { .. }))), "{seen:?}");
    assert!(matches!(unclaim(&world, &admin(&world), "pump", at(3)).await, UnclaimOutcome::Released { .. }));
}

#[tokio::test]
async fn in_strict_disclosure_strangers_of_every_kind_are_shown_the_same() {
    let world = World::new();
    announced(&world, "pending", "s").await;
    world.registry.add_device(world.tenant, "silent");
    let taken = announced(&world, "taken", "s").await;
    world.registry.set_owner(taken, Some(CustomerId::random()), at(1));
    let mallory = owner(&world);
    let mut told = Vec::new();
    for name in ["unknown", "silent", "pending", "taken"] {
        let ConfirmOutcome::Refused(refusal) = confirm(&world, &mallory, name, "guess", at(2)).await else {
            panic!("{name}")
        };
        assert_eq!(refusal.shown(Disclosure::Strict), Shown::Refused, "{name}");
        told.push(refusal.shown(Disclosure::Thingsboard));
    }
    assert_eq!(told[0], Shown::NotFound, "ThingsBoard tells");
    assert_eq!((told[1], told[2]), (Shown::Refused, Shown::Refused));
}

#[tokio::test]
async fn the_right_secret_earns_the_reason() {
    let world = World::new();
    let device = announced(&world, "late", "s").await;
    let shown = |outcome: ConfirmOutcome| match outcome {
        ConfirmOutcome::Refused(refusal) => refusal.shown(Disclosure::Strict),
        other => panic!("{other:?}"),
    };
    let late = confirm(&world, &owner(&world), "late", "s", at(60_000)).await;
    assert_eq!(shown(late), Shown::Because("window_ended"));
    world.registry.set_code(device, "code", Some(at(100_000)), Some(at(200_000)));
    assert_eq!(shown(confirm(&world, &owner(&world), "late", "code", at(0)).await), Shown::Because("not_yet"));
    let ended = confirm(&world, &owner(&world), "late", "code", at(200_000)).await;
    assert_eq!(shown(ended), Shown::Because("code_ended"));
}

#[tokio::test]
async fn every_try_is_audited_without_the_secret_and_charged_ones_say_so() {
    let world = World::new();
    announced(&world, "pump", "s").await;
    let mallory = owner(&world);
    confirm(&world, &mallory, "pump", "PLANTED", at(1)).await;
    confirm(&world, &mallory, "pump", "s", at(60_000)).await;
    let notes = world.registry.take_notes();
    let seen: Vec<(&str, &str, bool)> = notes.iter().map(|note| (note.outcome, note.reason, note.charged)).collect();
    assert_eq!(seen, [("refused", "wrong_secret", true), ("refused", "window_ended", false)]);
    assert!(!format!("{notes:?}").contains("PLANTED"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn parallel_guesses_cannot_pass_a_budget_together() {
    let world = Arc::new(World::new());
    announced(&world, "pump", "s").await;
    let mallory = owner(&world);
    let mut guesses = tokio::task::JoinSet::new();
    for n in 0..64 {
        let world = Arc::clone(&world);
        guesses.spawn(async move { confirm(&world, &mallory, "pump", &format!("guess {n}"), at(1)).await });
    }
    let evaluated = guesses.join_all().await.into_iter().filter(|o| matches!(o, ConfirmOutcome::Refused(_))).count();
    assert_eq!(evaluated, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_64_owners_with_the_right_secret_one_wins() {
    for round in 0..20 {
        let world = Arc::new(World::new());
        let device = announced(&world, "pump", "s").await;
        let mut owners = tokio::task::JoinSet::new();
        for _ in 0..64 {
            let world = Arc::clone(&world);
            owners.spawn(async move {
                let actor = owner(&world);
                (customer(&actor), confirm(&world, &actor, "pump", "s", at(1)).await)
            });
        }
        let results = owners.join_all().await;
        let winners: Vec<CustomerId> = results.iter().filter(|(_, o)| claimed(o)).map(|(c, _)| *c).collect();
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(world.registry.wins(), [(device, winners[0])]);
    }
}
