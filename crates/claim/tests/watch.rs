//! What those who watch are told: every outcome of submissions, batches, confirms and unclaims once, exactly, and no secret.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use claim::confirmation::{ConfirmRequest, DeviceRef};
use claim::event::AuditAction;
use claim::owner::Authority;
use claim::permissions::Grants;
use claim::ports::RetryKey;
use claim::watch::{By, Happening, Sight, Viewing};
use claim::{
    Actor, AuthenticatedDevice, BodyFormat, ClaimSecret, CustomerId, DeviceCredential, Eui64, Timestamp, Transport,
    UserId,
};
use testkit::fakes::{AssignFault, FakeRates, Metered};
use testkit::{World, at, origin};

const MARKER: &str = "M4rker-s3cret";

fn told(viewing: &mut Viewing) -> Vec<Arc<Happening>> {
    let mut all = Vec::new();
    while let Poll::Ready(Some(sight)) = pin!(viewing.next()).poll(&mut Context::from_waker(Waker::noop())) {
        let Sight::Happened { what, .. } = sight else { panic!("nothing is missed here") };
        all.push(what);
    }
    all
}

/// Outcome and reason of the one thing that was told.
fn one(viewing: &mut Viewing) -> (&'static str, &'static str) {
    let told = told(viewing);
    assert_eq!(told.len(), 1, "{told:?}");
    (told[0].outcome, told[0].reason)
}

fn watch(world: &World) -> Viewing {
    world.watch.watch(world.tenant, None).expect("room")
}

async fn sign_in(world: &World, token: &str) -> AuthenticatedDevice {
    let credential = DeviceCredential::AccessToken(token);
    world.intake().authenticate(credential, &origin(Some(Transport::Coap)), at(0)).await.expect("a known token")
}

async fn submit(world: &World, device: &AuthenticatedDevice, body: &str) {
    let origin = origin(Some(Transport::Coap));
    let _ = world.intake().submit(device, body.as_bytes(), BodyFormat::Json, &origin, at(1)).await;
}

async fn batch(world: &World, gateway: &AuthenticatedDevice, body: &str) {
    let origin = origin(Some(Transport::Mqtt));
    let _ = world.intake().submit_batch(gateway, body.as_bytes(), BodyFormat::Json, &origin, at(1)).await;
}

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

async fn confirm(world: &World, actor: &Actor, device: DeviceRef<'_>, secret: &str, now: Timestamp) {
    let secret = ClaimSecret::parse(secret).expect("a secret");
    let request =
        ConfirmRequest { actor: *actor, for_customer: None, device, target: None, secret: &secret, retry: None };
    world.confirmation().confirm(request, &origin(None), now).await;
}

#[tokio::test]
async fn a_submission_is_told_once_with_its_end() {
    let world = World::new();
    world.registry.add_device_with_token(world.tenant, "pump-7", "t");
    let device = sign_in(&world, "t").await;
    let mut viewing = watch(&world);
    submit(&world, &device, r#"{"secretKey":"s","durationMs":60000}"#).await;
    let told = told(&mut viewing);
    let expected = Happening {
        at: at(1),
        deed: AuditAction::Submit,
        device: "pump-7".into(),
        by: By::Device,
        transport: Some(Transport::Coap),
        outcome: "accepted",
        reason: "new",
        why: "".into(),
        expires_at: Some(at(60_001)),
        request_id: 1,
    };
    assert_eq!(told.iter().map(|what| (**what).clone()).collect::<Vec<_>>(), [expected]);
    submit(&world, &device, "{}").await;
    assert_eq!(one(&mut viewing), ("accepted", "replaced"));
}

#[tokio::test]
async fn a_refused_submission_is_told_with_what_exactly_stood_in_the_way() {
    let mut world = World::new();
    world.rates = Arc::new(FakeRates::default());
    let id = world.registry.add_device_with_token(world.tenant, "d", "t");
    let device = sign_in(&world, "t").await;
    let mut viewing = watch(&world);
    let change = |change: fn(&mut claim::Device)| world.registry.change(id, change);

    change(|device| device.authorized = false);
    submit(&world, &device, "{}").await;
    assert_eq!(one(&mut viewing), ("not_claimable", "not_authorized"));
    change(|device| (device.authorized, device.frozen) = (true, true));
    submit(&world, &device, "{}").await;
    assert_eq!(one(&mut viewing), ("not_claimable", "frozen"));
    change(|device| device.frozen = false);
    world.policy.allow_by_default = false;
    submit(&world, &device, "{}").await;
    assert_eq!(one(&mut viewing), ("not_claimable", "not_allowed"));
    world.policy.allow_by_default = true;
    world.registry.set_owner(id, Some(CustomerId::random()), at(0));
    submit(&world, &device, "{}").await;
    assert_eq!(one(&mut viewing), ("already_owned", "owned"));
    world.registry.set_owner(id, None, at(0));
    world.cache.set_unavailable(true);
    submit(&world, &device, "{}").await;
    assert_eq!(one(&mut viewing), ("unavailable", "store_away"));
    world.cache.set_unavailable(false);
    world.limits.submit_per_device = 1;
    submit(&world, &device, "{}").await;
    assert_eq!(one(&mut viewing), ("rate_limited", "submit_per_device"));
    world.limits.submit_per_device = 100;
    batch(&world, &device, r#"{"a":{}}"#).await;
    assert_eq!(one(&mut viewing), ("not_claimable", "no_gateway"));
    world.intake().refused_unread(&device, &origin(Some(Transport::Http)), at(1));
    assert_eq!(one(&mut viewing), ("malformed", "payload_bytes"));
    assert_eq!(world.meter.count(Metered::LimitReached("payload_bytes")), 1);
    world.registry.delete_device(id);
    submit(&world, &device, "{}").await;
    assert_eq!(one(&mut viewing), ("unauthenticated", "device_gone"));
}

#[tokio::test]
async fn a_malformed_body_is_told_with_its_rule_and_its_place_and_nothing_of_it() {
    let world = World::new();
    world.registry.add_device_with_token(world.tenant, "d", "t");
    let device = sign_in(&world, "t").await;
    let mut viewing = watch(&world);
    for (body, reason, why) in [
        (format!(r#"{{"secretKey":"{MARKER}""#), "not_json", "line 1 column 28"),
        (format!(r#"{{"secretKey":{MARKER}}}"#), "not_json", "expected value at line 1 column 14"),
        (format!(r#"["{MARKER}"]"#), "not_an_object", "is not a JSON object"),
        (format!(r#"{{"{MARKER}":1,"{MARKER}":2}}"#), "duplicate_member", "line 1 column 34"),
        (format!(r#"{{"secretKey":["{MARKER}"]}}"#), "secret_type", "`secretKey`"),
        (format!(r#"{{"secretKey":"{}"}}"#, MARKER.repeat(20)), "secret_too_long", "256 bytes"),
        (format!(r#"{{"secretKey":"{MARKER}\u0000"}}"#), "secret_nul", "NUL"),
        (format!(r#"{{"durationMs":"{MARKER}"}}"#), "duration", "`durationMs`"),
        (format!("{{\"x\":{}\"{MARKER}\"", "[".repeat(16)), "too_deep", "line 1 column 21"),
    ] {
        submit(&world, &device, &body).await;
        let told = told(&mut viewing);
        assert_eq!((told.len(), told[0].outcome, told[0].reason), (1, "malformed", reason), "{body}");
        assert!(told[0].why.contains(why), "{body}: {}", told[0].why);
        assert!(!format!("{told:?}").contains(MARKER), "{told:?}");
    }
}

#[tokio::test]
async fn each_entry_of_a_batch_is_told_by_its_childs_name_and_a_batch_refused_whole_once() {
    let mut world = World::new();
    world.gateway.batch_devices = 6;
    world.registry.add_gateway(world.tenant, "gw", "g");
    world.registry.add_device(world.tenant, "foreign");
    let owned = world.registry.add_device(world.tenant, "owned");
    let alone = world.registry.add_device_with_token(world.tenant, "alone", "t");
    let gateway_id = world.registry.id(world.tenant, "gw").expect("there");
    world.registry.relate(gateway_id, owned);
    world.registry.relate(gateway_id, alone);
    world.registry.set_owner(owned, Some(CustomerId::random()), at(0));
    let gateway = sign_in(&world, "g").await;
    let device = sign_in(&world, "t").await;
    submit(&world, &device, "{}").await;
    let mut viewing = watch(&world);
    let body = format!(
        r#"{{"fresh":{{"secretKey":"{MARKER}"}},"foreign":{{}},"owned":{{}},"alone":{{}},"odd":["{MARKER}"],"":{{}}}}"#
    );
    batch(&world, &gateway, &body).await;
    let all = told(&mut viewing);
    assert!(!format!("{all:?}").contains(MARKER), "{all:?}");
    let by = By::Gateway(gateway.name().clone());
    assert!(all.iter().all(|what| what.by == by && what.transport == Some(Transport::Mqtt)));
    let by_name: HashMap<&str, (&str, &str)> =
        all.iter().map(|what| (&*what.device, (what.outcome, what.reason))).collect();
    let expected = HashMap::from([
        ("fresh", ("accepted", "new")),
        ("foreign", ("not_claimable", "not_related")),
        ("owned", ("already_owned", "owned")),
        ("alone", ("not_claimable", "announced_by_device")),
        ("odd", ("malformed", "entry_not_an_object")),
        ("", ("malformed", "device_name")),
    ]);
    assert_eq!((all.len(), by_name), (6, expected));

    for (body, expected) in [
        (r#"{"a":{},"a":{}}"#, ("malformed", "duplicate_device")),
        ("{}", ("malformed", "empty_batch")),
        (r#"{"a":{},"b":{},"c":{},"d":{},"e":{},"f":{},"g":{}}"#, ("quota_exceeded", "batch_too_large")),
    ] {
        batch(&world, &gateway, body).await;
        let told = told(&mut viewing);
        assert_eq!((told.len(), &*told[0].device), (1, "gw"), "{body}");
        assert_eq!((told[0].outcome, told[0].reason), expected, "{body}");
    }
    // Entries that were refused before the store was asked are not told when the batch ends as a whole.
    world.registry.set_unavailable(true);
    batch(&world, &gateway, r#"{"odd":[],"fine":{}}"#).await;
    assert_eq!(one(&mut viewing), ("unavailable", "store_away"));
    world.registry.set_unavailable(false);
    world.gateway.new_devices_total = 0;
    batch(&world, &gateway, r#"{"one more":{}}"#).await;
    assert_eq!(one(&mut viewing), ("quota_exceeded", "new_devices"));
}

#[tokio::test]
async fn as_much_is_told_as_is_counted() {
    let world = World::new();
    world.registry.add_gateway(world.tenant, "gw", "g");
    let gateway = sign_in(&world, "g").await;
    let mut viewing = watch(&world);
    for body in [r#"{"a":{},"b":1,"c":{}}"#, "[]", r#"{"a":{}}"#, "", r#"{"d":{"durationMs":[]}}"#] {
        batch(&world, &gateway, body).await;
        submit(&world, &gateway, body).await;
    }
    let counted: usize = claim::SubmitOutcome::ALL
        .into_iter()
        .flat_map(|outcome| {
            [
                (Transport::Coap, claim::ports::ClaimSource::Device),
                (Transport::Mqtt, claim::ports::ClaimSource::Gateway),
            ]
            .map(|(transport, source)| world.meter.count(Metered::Submission(Some(transport), source, outcome)))
        })
        .sum();
    let told = told(&mut viewing);
    assert_eq!(told.len(), counted);
    assert!(told.len() > 8, "{told:?}");
}

#[tokio::test]
async fn a_confirm_is_told_once_with_what_it_really_was() {
    let mut world = World::new();
    world.budgets.per_account_and_device = 3;
    let id = world.registry.add_device_with_token(world.tenant, "d", "t");
    let eui = Eui64::from_bytes([1, 2, 3, 4, 5, 6, 7, 8]);
    world.registry.set_eui(id, eui);
    let device = sign_in(&world, "t").await;
    submit(&world, &device, &format!(r#"{{"secretKey":"{MARKER}","durationMs":60000}}"#)).await;
    let (alice, bob, maker) = (owner(&world), owner(&world), admin(&world));
    let mut viewing = watch(&world);
    let by_name = DeviceRef::Name("d");

    confirm(&world, &alice, DeviceRef::Name("no-such"), MARKER, at(2)).await;
    assert_eq!(one(&mut viewing), ("refused", "unknown_name"));
    confirm(&world, &alice, by_name, "guess", at(2)).await;
    assert_eq!(one(&mut viewing), ("refused", "wrong_secret"));
    confirm(&world, &maker, by_name, MARKER, at(2)).await;
    assert_eq!(one(&mut viewing), ("forbidden", "forbidden"));
    confirm(&world, &alice, by_name, MARKER, at(70_000)).await;
    assert_eq!(one(&mut viewing), ("refused", "window_ended"));
    world.registry.fail_next_assign(AssignFault::LostBefore);
    confirm(&world, &alice, by_name, MARKER, at(2)).await;
    assert_eq!(one(&mut viewing), ("unavailable", "outcome_unknown"));
    confirm(&world, &alice, DeviceRef::Eui { dev_eui: eui, join_eui: None }, MARKER, at(3)).await;
    let claimed = told(&mut viewing);
    assert_eq!((claimed.len(), &*claimed[0].device), (1, "d"), "by its name, however it was asked for");
    assert_eq!((claimed[0].outcome, claimed[0].reason), ("claimed", "pending_claim"));
    assert_eq!((claimed[0].deed, &claimed[0].by), (AuditAction::Confirm, &By::Owner(alice.account)));
    confirm(&world, &alice, by_name, MARKER, at(4)).await;
    assert_eq!(one(&mut viewing), ("already_yours", "already_yours"));
    confirm(&world, &bob, by_name, MARKER, at(4)).await;
    assert_eq!(one(&mut viewing), ("refused", "owned"));
    for _ in 0..3 {
        confirm(&world, &bob, by_name, "guess", at(4)).await;
    }
    confirm(&world, &bob, by_name, "guess", at(4)).await;
    let told = told(&mut viewing);
    assert_eq!((told.len(), told[3].outcome, told[3].reason), (4, "rate_limited", "account_and_device"));
    assert!(!format!("{told:?} {claimed:?}").contains(MARKER));
}

#[tokio::test]
async fn a_repeat_with_the_same_retry_key_is_told_too() {
    let world = World::new();
    let id = world.registry.add_device(world.tenant, "d");
    world.registry.set_code(id, "code", None, None);
    let alice = owner(&world);
    let mut viewing = watch(&world);
    let secret = ClaimSecret::parse("code").expect("a secret");
    for (request, expected) in [([1; 32], "claimed"), ([1; 32], "claimed"), ([2; 32], "retry_key_reused")] {
        let retry = Some(RetryKey { account: alice.account, key: [7; 32], request });
        let device = DeviceRef::Name("d");
        let request = ConfirmRequest { actor: alice, for_customer: None, device, target: None, secret: &secret, retry };
        world.confirmation().confirm(request, &origin(None), at(1)).await;
        assert_eq!(one(&mut viewing).0, expected);
    }
}

#[tokio::test]
async fn an_unclaim_is_told_once_by_name_or_by_id() {
    let world = World::new();
    let id = world.registry.add_device(world.tenant, "d");
    let (alice, bob, maker) = (owner(&world), owner(&world), admin(&world));
    world.registry.set_owner(id, alice.customer(), at(0));
    let mut viewing = watch(&world);
    for (actor, name, expected) in [
        (bob, "d", ("refused", "not_holder")),
        (bob, "no-such", ("refused", "unknown_name")),
        (bob, "no\nname", ("refused", "unknown_name")),
        (alice, "d", ("released", "released")),
        (alice, "d", ("refused", "no_owner")),
        (maker, "d", ("unowned", "unowned")),
    ] {
        world.confirmation().unclaim(actor, name, &origin(None), at(1)).await;
        let told = told(&mut viewing);
        assert_eq!((told.len(), (told[0].outcome, told[0].reason)), (1, expected), "{name}");
        assert!(told[0].device.chars().all(|c| !c.is_control()));
    }
    world.registry.set_owner(id, alice.customer(), at(2));
    world.confirmation().release(maker, id, &origin(None), at(3)).await;
    let told = told(&mut viewing);
    assert_eq!((told.len(), &*told[0].device, told[0].outcome), (1, "d", "released"));
    assert_eq!(told[0].by, By::Admin(maker.account));
}
