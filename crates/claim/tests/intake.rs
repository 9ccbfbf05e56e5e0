//! Intake over the plainest ports: who may speak, for whom, how often, for how long, and what is answered otherwise.

use std::sync::Arc;
use std::time::Duration;

use claim::device::PayloadFormat;
use claim::ports::{ClaimSource, RecordError, Recorded};
use claim::{
    AuthError, AuthenticatedDevice, BodyFormat, ClaimState, CustomerId, DeviceCredential, Origin, SubmitError,
    SubmitOutcome, Timestamp, Transport,
};
use testkit::fakes::{FakeRates, Metered};
use testkit::{World, at, origin};

const MINUTE: Duration = Duration::from_secs(60);

fn mqtt() -> Origin {
    origin(Some(Transport::Mqtt))
}

async fn sign_in(world: &World, token: &str) -> AuthenticatedDevice {
    let credential = DeviceCredential::AccessToken(token);
    world.intake().authenticate(credential, &mqtt(), at(0)).await.expect("a known token")
}

async fn submit(world: &World, token: &str, body: &str, now: Timestamp) -> Result<Recorded, SubmitError> {
    let device = sign_in(world, token).await;
    let receipt = world.intake().submit(&device, body.as_bytes(), BodyFormat::Json, &mqtt(), now).await?;
    Ok(receipt.recorded)
}

async fn connect(
    world: &World,
    client_id: &str,
    user_name: Option<&str>,
    password: Option<&str>,
) -> Result<String, AuthError> {
    let credential = DeviceCredential::Mqtt { client_id, user_name, password: password.map(str::as_bytes) };
    let device = world.intake().authenticate(credential, &mqtt(), at(0)).await?;
    Ok(device.name().as_str().to_owned())
}

#[tokio::test]
async fn credentials_are_tried_in_thingsboards_order() {
    let world = World::new();
    let device = |name: &str| world.registry.add_device(world.tenant, name);
    world.registry.add_token(device("by token"), "user");
    world.registry.add_basic(device("by client id"), Some("client"), None, None);
    world.registry.add_basic(device("by both"), Some("client"), Some("login"), Some(b"pw"));
    world.registry.add_basic(device("by user name"), None, Some("shared"), Some(b"pw"));
    let named = |name: &str| Ok(name.to_owned());
    assert_eq!(connect(&world, "client", None, None).await, named("by client id"));
    assert_eq!(connect(&world, "client", Some(""), None).await, named("by client id"), "empty is none");
    assert_eq!(connect(&world, "client", Some("login"), Some("pw")).await, named("by both"));
    assert_eq!(connect(&world, "client", Some("login"), Some("no")).await, Err(AuthError::Refused));
    assert_eq!(connect(&world, "client", Some("login"), None).await, Err(AuthError::Refused));
    assert_eq!(connect(&world, "any", Some("shared"), Some("pw")).await, named("by user name"));
    assert_eq!(connect(&world, "any", Some("shared"), Some("no")).await, Err(AuthError::Refused));
    assert_eq!(connect(&world, "any", Some("user"), Some("whatever")).await, named("by token"));
    assert_eq!(connect(&world, "", Some("user"), None).await, named("by token"));
    assert_eq!(connect(&world, "", None, None).await, Err(AuthError::Refused));
    assert_eq!(connect(&world, "provision", Some("provision"), None).await, Err(AuthError::Refused));
}

#[tokio::test]
async fn refused_credentials_lock_a_proven_address_and_only_that() {
    let mut world = World::new();
    world.rates = Arc::new(FakeRates::default());
    world.limits.auth_failures_per_address = 3;
    world.registry.add_device_with_token(world.tenant, "d", "good");
    let spoofed = Origin { address_proven: false, ..mqtt() };
    let wrong = DeviceCredential::AccessToken("wrong");
    for _ in 0..10 {
        let refused = world.intake().authenticate(wrong, &spoofed, at(0)).await;
        assert_eq!(refused.err(), Some(AuthError::Refused));
    }
    for _ in 0..3 {
        assert_eq!(world.intake().authenticate(wrong, &mqtt(), at(0)).await.err(), Some(AuthError::Refused));
    }
    let good = DeviceCredential::AccessToken("good");
    let locked = world.intake().authenticate(good, &mqtt(), at(1)).await.err();
    assert!(matches!(locked, Some(AuthError::TooManyFailures { .. })), "{locked:?}");
    assert!(world.intake().authenticate(good, &spoofed, at(1)).await.is_ok(), "who proved nothing locked nobody");
    assert!(world.intake().authenticate(good, &mqtt(), at(60_000)).await.is_ok(), "it opens by itself");
    assert!(world.meter.count(Metered::LimitReached("auth_failures_per_address")) > 0);
}

#[tokio::test]
async fn a_registry_that_is_away_is_not_a_refusal() {
    let world = World::new();
    world.registry.add_device_with_token(world.tenant, "d", "t");
    let device = sign_in(&world, "t").await;
    world.registry.set_unavailable(true);
    assert_eq!(connect(&world, "", Some("t"), None).await, Err(AuthError::Unavailable));
    let submitted = world.intake().submit(&device, b"{}", BodyFormat::Json, &mqtt(), at(0)).await;
    assert_eq!(submitted, Err(SubmitError::Unavailable));
    world.registry.set_unavailable(false);
    world.cache.set_unavailable(true);
    assert_eq!(submit(&world, "t", "{}", at(0)).await, Err(SubmitError::Unavailable));
    assert!(world.cache.is_empty());
}

#[tokio::test]
async fn an_accepted_claim_is_in_the_cache_with_its_lifetime() {
    let world = World::new();
    let device = world.registry.add_device_with_token(world.tenant, "d", "t");
    for (body, lifetime) in [
        (r#"{"secretKey":"s"}"#, 10 * MINUTE),
        (r#"{"secretKey":"s","durationMs":0}"#, 10 * MINUTE),
        (r#"{"secretKey":"s","durationMs":-5}"#, 10 * MINUTE),
        (r#"{"secretKey":"s","durationMs":60000}"#, MINUTE),
        (r#"{"secretKey":"s","durationMs":86400000}"#, 24 * 60 * MINUTE),
        (r#"{"secretKey":"s","durationMs":86400001}"#, 24 * 60 * MINUTE),
        (r#"{"secretKey":"s","durationMs":99999999999999999999}"#, 24 * 60 * MINUTE),
        ("{}", 2 * MINUTE),
        (r#"{"durationMs":119999}"#, Duration::from_millis(119_999)),
        (r#"{"durationMs":120001}"#, 2 * MINUTE),
    ] {
        submit(&world, "t", body, at(7)).await.expect("it is accepted");
        let held = world.cache.held(device).expect("it is in the cache");
        assert_eq!((held.received_at, held.expires_at), (at(7), at(7).plus(lifetime)), "{body}");
        assert_eq!((held.tenant, held.source), (world.tenant, ClaimSource::Device));
    }
}

#[tokio::test]
async fn the_newest_announcement_wins_and_its_device_is_told() {
    let world = World::new();
    let device = world.registry.add_device_with_token(world.tenant, "d", "t");
    assert_eq!(submit(&world, "t", r#"{"secretKey":"first"}"#, at(0)).await, Ok(Recorded::New));
    let first = world.cache.held(device).expect("held").digest;
    assert_eq!(submit(&world, "t", r#"{"secretKey":"second"}"#, at(1)).await, Ok(Recorded::Replaced));
    assert_ne!(world.cache.held(device).expect("held").digest, first);
    let told = world.listener.take();
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|change| change.device == device && matches!(change.state, ClaimState::Pending { .. })));
}

#[tokio::test]
async fn who_may_not_be_claimed_is_told_so_and_nothing_is_kept() {
    let mut world = World::new();
    let device = world.registry.add_device_with_token(world.tenant, "d", "t");
    world.registry.set_owner(device, Some(CustomerId::random()), at(0));
    assert_eq!(submit(&world, "t", "{}", at(1)).await, Err(SubmitError::AlreadyOwned));
    world.registry.set_owner(device, None, at(2));
    world.policy.allow_by_default = false;
    assert_eq!(submit(&world, "t", "{}", at(3)).await, Err(SubmitError::NotClaimable));
    assert!(world.cache.is_empty());
    world.registry.change(device, |device| device.claiming_allowed = true);
    assert_eq!(submit(&world, "t", "{}", at(4)).await, Ok(Recorded::New));
}

#[tokio::test]
async fn the_rate_comes_before_the_body_is_read() {
    let mut world = World::new();
    world.rates = Arc::new(FakeRates::default());
    world.limits.submit_per_device = 2;
    world.registry.add_device_with_token(world.tenant, "d", "t");
    assert!(matches!(submit(&world, "t", "no json", at(0)).await, Err(SubmitError::Malformed(_))));
    assert_eq!(submit(&world, "t", "{}", at(0)).await, Ok(Recorded::New));
    let limited = submit(&world, "t", "no json", at(0)).await;
    assert_eq!(limited, Err(SubmitError::RateLimited { retry_after: MINUTE }));
    assert_eq!(world.meter.count(Metered::LimitReached("submit_per_device")), 1);
    assert_eq!(submit(&world, "t", "{}", at(60_000)).await, Ok(Recorded::Replaced));
}

#[tokio::test]
async fn a_full_cache_refuses_with_a_time_to_come_back() {
    let world = World::new();
    world.cache.set_room(1, 3 * MINUTE);
    world.registry.add_device_with_token(world.tenant, "a", "a");
    world.registry.add_device_with_token(world.tenant, "b", "b");
    assert_eq!(submit(&world, "a", "{}", at(0)).await, Ok(Recorded::New));
    assert_eq!(submit(&world, "b", "{}", at(0)).await, Err(SubmitError::QuotaExceeded { retry_after: 3 * MINUTE }));
    assert_eq!(submit(&world, "a", "{}", at(0)).await, Ok(Recorded::Replaced));
}

#[tokio::test]
async fn a_clock_behind_the_fence_does_not_make_a_fresh_claim_void() {
    let world = World::new();
    let device = world.registry.add_device_with_token(world.tenant, "d", "t");
    world.registry.set_owner(device, None, at(5_000));
    submit(&world, "t", "{}", at(0)).await.expect("accepted");
    assert_eq!(world.cache.held(device).expect("held").received_at, at(5_001));
}

#[tokio::test]
async fn every_outcome_is_counted_and_every_refusal_audited_without_the_secret() {
    let mut world = World::new();
    world.policy.allow_by_default = false;
    world.registry.add_device_with_token(world.tenant, "d", "t");
    let refused = submit(&world, "t", r#"{"secretKey":"PLANTED"}"#, at(9)).await;
    assert_eq!(refused, Err(SubmitError::NotClaimable));
    let call = Metered::Submission(Some(Transport::Mqtt), ClaimSource::Device, SubmitOutcome::NotClaimable);
    assert_eq!(world.meter.count(call), 1);
    let notes = world.registry.take_notes();
    assert_eq!(notes.len(), 1);
    assert_eq!((notes[0].outcome, notes[0].at), ("not_claimable", at(9)));
    assert!(!format!("{notes:?}").contains("PLANTED"));
}

#[tokio::test]
async fn a_deleted_device_is_not_authenticated_any_more() {
    let world = World::new();
    let id = world.registry.add_device_with_token(world.tenant, "d", "t");
    let device = sign_in(&world, "t").await;
    world.registry.delete_device(id);
    let submitted = world.intake().submit(&device, b"{}", BodyFormat::Json, &mqtt(), at(0)).await;
    assert_eq!(submitted, Err(SubmitError::Unauthenticated));
    assert!(!world.intake().still_exists(&device).await.expect("an answer"));
}

async fn batch(world: &World, token: &str, body: &str, now: Timestamp) -> Result<(usize, Vec<String>), SubmitError> {
    let gateway = sign_in(world, token).await;
    let receipt = world.intake().submit_batch(&gateway, body.as_bytes(), BodyFormat::Json, &mqtt(), now).await?;
    let refused = receipt.refused.iter().map(|entry| format!("{}: {}", entry.name, entry.error.outcome().name()));
    Ok((receipt.accepted, refused.collect()))
}

#[tokio::test]
async fn a_gateway_speaks_for_what_is_related_and_makes_what_is_unknown() {
    let world = World::new();
    let gateway = world.registry.add_gateway(world.tenant, "gw", "g");
    let related = world.registry.add_device(world.tenant, "related");
    world.registry.relate(gateway, related);
    world.registry.add_device(world.tenant, "somebody's");
    let body = r#"{"related":{"secretKey":"s"},"unknown":{},"somebody's":{},"odd":1}"#;
    let (accepted, refused) = batch(&world, "g", body, at(0)).await.expect("read");
    assert_eq!(accepted, 2);
    assert_eq!(refused, ["odd: malformed", "somebody's: not_claimable"]);
    let made = world.registry.id(world.tenant, "unknown").expect("it was made");
    assert_eq!(world.registry.row(made).expect("a row").owner, None, "children are nobody's until claimed");
    assert_eq!(world.cache.held(made).expect("held").source, ClaimSource::Gateway);
}

#[tokio::test]
async fn with_scope_tenant_any_name_of_the_tenant_will_do_and_no_other_tenants() {
    let mut world = World::new();
    world.gateway.scope = claim::policy::GatewayScope::Tenant;
    world.registry.add_gateway(world.tenant, "gw", "g");
    let here = world.registry.add_device(world.tenant, "same name");
    let there = world.registry.add_device(world.registry.add_tenant(), "same name");
    assert_eq!(batch(&world, "g", r#"{"same name":{}}"#, at(0)).await, Ok((1, vec![])));
    assert!(world.cache.held(here).is_some() && world.cache.held(there).is_none());
}

#[tokio::test]
async fn a_gateway_never_replaces_what_the_device_itself_said() {
    let world = World::new();
    let gateway = world.registry.add_gateway(world.tenant, "gw", "g");
    let child = world.registry.add_device_with_token(world.tenant, "child", "c");
    world.registry.relate(gateway, child);
    submit(&world, "c", r#"{"secretKey":"own","durationMs":60000}"#, at(0)).await.expect("accepted");
    let own = world.cache.held(child);
    let behind = batch(&world, "g", r#"{"child":{"secretKey":"gateway's"}}"#, at(59_999)).await;
    assert_eq!(behind, Ok((0, vec!["child: not_claimable".to_owned()])));
    assert_eq!(world.cache.held(child), own);
    assert_eq!(batch(&world, "g", r#"{"child":{}}"#, at(60_000)).await, Ok((1, vec![])), "its window is over");
}

#[tokio::test]
async fn a_void_claim_that_a_crash_left_does_not_stand_in_a_gateways_way() {
    let world = World::new();
    let gateway = world.registry.add_gateway(world.tenant, "gw", "g");
    let child = world.registry.add_device_with_token(world.tenant, "child", "c");
    world.registry.relate(gateway, child);
    submit(&world, "c", r#"{"secretKey":"own"}"#, at(0)).await.expect("accepted");
    world.registry.set_owner(child, None, at(1));
    assert_eq!(batch(&world, "g", r#"{"child":{}}"#, at(2)).await, Ok((1, vec![])));
    assert_eq!(world.cache.held(child).expect("held").source, ClaimSource::Gateway);
}

#[tokio::test]
async fn the_body_is_read_to_its_end_before_anything_is_registered() {
    let world = World::new();
    world.registry.add_gateway(world.tenant, "gw", "g");
    for body in [r#"{"a":{},"b":{"#, r#"{"a":{},"a":{}}"#, "[]", "", "{}"] {
        assert!(matches!(batch(&world, "g", body, at(0)).await, Err(SubmitError::Malformed(_))), "{body}");
    }
    assert!(world.cache.is_empty() && world.registry.id(world.tenant, "a").is_none());
}

#[tokio::test]
async fn only_a_gateway_speaks_for_others() {
    let world = World::new();
    world.registry.add_device_with_token(world.tenant, "plain", "p");
    assert_eq!(batch(&world, "p", r#"{"a":{}}"#, at(0)).await, Err(SubmitError::NotClaimable));
    let gateway = world.registry.add_gateway(world.tenant, "gw", "g");
    let session = sign_in(&world, "g").await;
    world.registry.change(gateway, |device| device.gateway = false);
    let later = world.intake().submit_batch(&session, b"{\"a\":{}}", BodyFormat::Json, &mqtt(), at(0)).await;
    assert_eq!(later.err(), Some(SubmitError::NotClaimable), "a right taken away ends with the next message");
}

#[tokio::test]
async fn batches_and_new_devices_are_bounded() {
    let mut world = World::new();
    world.gateway.batch_devices = 3;
    world.gateway.new_devices_per_day = 4;
    world.gateway.new_devices_total = 5;
    world.registry.add_gateway(world.tenant, "gw", "g");
    assert_eq!(batch(&world, "g", r#"{"a":{},"b":{},"c":{}}"#, at(0)).await, Ok((3, vec![])));
    let whole = batch(&world, "g", r#"{"d":{},"e":{},"f":{},"g":{}}"#, at(0)).await;
    assert!(matches!(whole, Err(SubmitError::QuotaExceeded { .. })), "{whole:?}");
    let some = batch(&world, "g", r#"{"a":{},"d":{},"e":{}}"#, at(1)).await;
    assert_eq!(some, Ok((2, vec!["e: quota_exceeded".to_owned()])), "four a day");
    let day = 24 * 3_600_000;
    let some = batch(&world, "g", r#"{"f":{},"g":{}}"#, at(day + 2)).await;
    assert_eq!(some, Ok((1, vec!["g: quota_exceeded".to_owned()])), "five in all");
    assert_eq!(world.meter.count(Metered::LimitReached("gateway.new_devices")), 2);
}

#[tokio::test]
async fn a_gateways_rate_counts_entries_and_refuses_whole_batches() {
    let mut world = World::new();
    world.rates = Arc::new(FakeRates::default());
    world.limits.submit_per_gateway = 4;
    world.registry.add_gateway(world.tenant, "gw", "g");
    assert_eq!(batch(&world, "g", r#"{"a":{},"b":{}}"#, at(0)).await, Ok((2, vec![])));
    let over = batch(&world, "g", r#"{"c":{},"d":{},"e":{}}"#, at(0)).await;
    assert!(matches!(over, Err(SubmitError::RateLimited { .. })));
    assert_eq!(world.registry.id(world.tenant, "c"), None);
    assert_eq!(batch(&world, "g", r#"{"c":{}}"#, at(0)).await, Ok((1, vec![])), "the refused one has cost one");
    assert!(matches!(batch(&world, "g", r#"{"c":{}}"#, at(0)).await, Err(SubmitError::RateLimited { .. })));
}

#[tokio::test]
async fn a_batch_that_cannot_be_read_counts_against_the_gateways_rate() {
    let mut world = World::new();
    world.rates = Arc::new(FakeRates::default());
    world.limits.submit_per_gateway = 2;
    world.registry.add_gateway(world.tenant, "gw", "g");
    for _ in 0..2 {
        assert!(matches!(batch(&world, "g", "{", at(0)).await, Err(SubmitError::Malformed(_))));
    }
    assert!(matches!(batch(&world, "g", "{", at(0)).await, Err(SubmitError::RateLimited { .. })));
}

#[tokio::test]
async fn a_child_that_connects_is_related_and_made_with_its_profile() {
    let world = World::new();
    world.registry.add_gateway(world.tenant, "gw", "g");
    let gateway = sign_in(&world, "g").await;
    let connected = world.intake().connect_child(&gateway, br#"{"device":"new"}"#, BodyFormat::Json, at(0)).await;
    assert_eq!(connected.expect("a child").as_str(), "new");
    let child = world.registry.id(world.tenant, "new").expect("made");
    let gateways = world.intake().gateways_of(child).await.expect("an answer");
    assert_eq!(*gateways, [gateway.id()]);
    world.registry.add_device(world.tenant, "somebody's");
    let refused = world.intake().connect_child(&gateway, br#"{"device":"somebody's"}"#, BodyFormat::Json, at(0)).await;
    assert_eq!(refused.err(), Some(SubmitError::NotClaimable));
}

#[tokio::test]
async fn a_device_learns_its_own_fate() {
    let world = World::new();
    let id = world.registry.add_device_with_token(world.tenant, "d", "t");
    let device = sign_in(&world, "t").await;
    let state = async |now| world.intake().claim_state(&device, now).await.expect("an answer");
    assert_eq!(state(at(0)).await, ClaimState::None);
    submit(&world, "t", r#"{"secretKey":"s","durationMs":60000}"#, at(0)).await.expect("accepted");
    assert_eq!(state(at(59_999)).await, ClaimState::Pending { expires_at: at(60_000) });
    assert_eq!(state(at(60_000)).await, ClaimState::None);
    world.registry.set_owner(id, Some(CustomerId::random()), at(10));
    assert_eq!(state(at(20)).await, ClaimState::Claimed { claimed_at: at(10) });
    world.registry.set_owner(id, None, at(30));
    assert_eq!(state(at(40)).await, ClaimState::None, "a claim from before the fence is void");
}

#[tokio::test]
async fn the_devices_profile_says_how_its_body_is_read() {
    let world = World::new();
    let id = world.registry.add_device_with_token(world.tenant, "d", "t");
    world.registry.set_format(id, PayloadFormat::Protobuf);
    let device = sign_in(&world, "t").await;
    let format = BodyFormat::from(device.mqtt_format());
    let submit = async |body: &[u8]| world.intake().submit(&device, body, format, &mqtt(), at(0)).await;
    assert!(submit(&[0x0a, 1, b's']).await.is_ok());
    assert!(matches!(submit(b"{}").await, Err(SubmitError::Malformed(_))));
}

#[test]
fn what_the_cache_says_is_told_in_the_domains_words() {
    assert_eq!(SubmitError::from(RecordError::AnnouncedByDevice), SubmitError::NotClaimable);
    assert_eq!(SubmitError::from(RecordError::Unavailable), SubmitError::Unavailable);
    let names: std::collections::HashSet<&str> = SubmitOutcome::ALL.iter().map(|outcome| outcome.name()).collect();
    assert_eq!(names.len(), SubmitOutcome::ALL.len());
}
