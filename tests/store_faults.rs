//! Whatever ails a store: the right answer over every protocol, in bounded time, nothing decided without it, and all well
//! again by itself when the ailment ends.

use std::time::{Duration, Instant};

use coap_lite::CoapOption;
use serde_json::json;
use testkit::fault_proxy::{Fault, Way};

use crate::harness::faulty::{Ailment, FaultyStores, until_ready_says};
use crate::harness::{Answer, Client, Coap, Heard, Made, Mqtt, PATIENCE, Server, Version, World, eventually};

const CLAIM: &str = "v1/devices/me/claim";
const BATCH: &str = "v1/gateway/claim";

/// A guard against hanging, not a measurement: an answer takes a few `timeouts.store` of 0.7 s.
const BOUND: Duration = Duration::from_secs(PATIENCE.as_secs() / 2);

fn bounded<T>(what: &str, ask: impl FnOnce() -> T) -> T {
    let asked = Instant::now();
    let answer = ask();
    assert!(asked.elapsed() < BOUND, "{what} took {:?}", asked.elapsed());
    answer
}

fn secret(text: &str) -> String {
    json!({"secretKey": text}).to_string()
}

fn submit(server: &Server, device: &Made, text: &str) -> Answer {
    Client::stranger(&server.http).send("POST", &format!("/api/v1/{}/claim", device.token), &[], &secret(text))
}

/// 503 with the time to come back.
fn unavailable(what: &str, ask: impl FnOnce() -> Answer) {
    let answer = bounded(what, ask);
    assert_eq!(answer.status, 503, "{what}: {answer:?}");
    let wait = answer.header("Retry-After").and_then(|wait| wait.parse::<u32>().ok());
    assert!(wait.is_some_and(|wait| wait > 0), "{what}: {answer:?}");
}

/// 5.03 with the time to come back.
fn unavailable_over_coap(server: &Server, device: &Made) {
    let said = bounded("CoAP", || Coap::open(&server.coap).claim(&device.token, secret("s").as_bytes()));
    assert_eq!(said.code, (5, 3));
    let age = said.packet.get_first_option(CoapOption::MaxAge).expect("a Max-Age");
    assert!(age.iter().any(|byte| *byte > 0), "{age:?}");
}

struct Scene {
    stores: FaultyStores,
    server: Server,
    world: World,
    gateway: Made,
}

impl Scene {
    fn new() -> Self {
        let stores = FaultyStores::start();
        let server = stores.node();
        let world = World::new(&server);
        let gateway = world.gateway("gateway");
        Self { stores, server, world, gateway }
    }

    fn connect(&self, version: Version, device: &Made) -> Mqtt {
        Mqtt::connect(&self.server.mqtt, version, &device.token)
    }

    /// All is well: a claim of each device from its announcement to its owner.
    fn claims_again(&self, ailment: Ailment, device: &Made) {
        eventually(&format!("a claim after {ailment:?}"), || {
            let acked = submit(&self.server, device, "again").status == 200;
            (acked && self.world.bob.client.claim(&device.name, "again").status == 200).then_some(())
        });
        assert_eq!(self.world.owner_of(device), Some(self.world.bob.customer.clone()), "{ailment:?}");
    }
}

#[test]
fn whatever_ails_the_registry_the_answers_are_right_and_bounded_and_it_heals() {
    let scene = Scene::new();
    let (server, world) = (&scene.server, &scene.world);
    for (round, ailment) in Ailment::ALL.into_iter().enumerate() {
        let before = world.device(&format!("before {round}"));
        let during = world.device(&format!("during {round}"));
        assert_eq!(submit(server, &before, "right").status, 200, "{ailment:?}");
        let (mut v5, mut v3) =
            (scene.connect(Version::V5, &scene.gateway), scene.connect(Version::V311, &scene.gateway));
        ailment.strikes(&scene.stores.registry);
        until_ready_says(server, "registry", "down");
        // Who is not known yet cannot sign in.
        unavailable("an unknown device", || submit(server, &during, "s"));
        unavailable_over_coap(server, &during);
        for (version, code) in [(Version::V5, 0x88), (Version::V311, 3)] {
            let mut client = Mqtt::open(&server.mqtt, version);
            let said = bounded("CONNECT", || client.hello("", Some(&during.token), None));
            assert!(matches!(said, Heard::ConnAck { code: said, .. } if said == code), "{ailment:?}: {said:?}");
        }
        // A gateway's children are the registry's.
        let batch = json!({"child": {"secretKey": "s"}}).to_string();
        let said = bounded("a batch", || v5.ask(BATCH, batch.as_bytes()));
        assert!(matches!(said, Heard::PubAck { code: 0x83, .. }), "{ailment:?}: {said:?}");
        assert_eq!(bounded("a batch", || v3.ask(BATCH, batch.as_bytes())), Heard::Closed, "{ailment:?}");
        unavailable("the right secret", || world.alice.client.claim(&before.name, "right"));
        unavailable("a wrong secret", || world.bob.client.claim(&before.name, "wrong"));
        scene.stores.registry.heal();
        until_ready_says(server, "registry", "up");
        // The connection was kept, the claim too.
        let said = eventually("the gateway is served again", || {
            let said = v5.ask(BATCH, batch.as_bytes());
            (!matches!(said, Heard::PubAck { code: 0x83, .. })).then_some(said)
        });
        assert!(matches!(said, Heard::PubAck { code: 0, .. }), "{ailment:?}: {said:?}");
        eventually("the claim from before", || {
            (world.alice.client.claim(&before.name, "right").status == 200).then_some(())
        });
        assert_eq!(world.owner_of(&before), Some(world.alice.customer.clone()), "{ailment:?}");
        scene.claims_again(ailment, &during);
    }
}

#[test]
fn whatever_ails_the_claim_store_the_answers_are_right_and_bounded_and_it_heals() {
    let scene = Scene::new();
    let (server, world) = (&scene.server, &scene.world);
    for (round, ailment) in Ailment::ALL.into_iter().enumerate() {
        let before = world.device(&format!("before {round}"));
        let during = world.device(&format!("during {round}"));
        assert_eq!(submit(server, &before, "right").status, 200, "{ailment:?}");
        let mut behind = scene.connect(Version::V5, &scene.gateway);
        ailment.strikes(&scene.stores.claims);
        until_ready_says(server, "claim_cache", "down");
        unavailable("a submission", || submit(server, &during, "s"));
        unavailable_over_coap(server, &during);
        // The registry is well: devices sign in.
        let (mut v5, mut v3) = (scene.connect(Version::V5, &during), scene.connect(Version::V311, &during));
        let said = bounded("a PUBLISH", || v5.ask(CLAIM, secret("s").as_bytes()));
        assert!(matches!(said, Heard::PubAck { code: 0x83, .. }), "{ailment:?}: {said:?}");
        assert_eq!(bounded("a PUBLISH", || v3.ask(CLAIM, secret("s").as_bytes())), Heard::Closed, "{ailment:?}");
        let batch = json!({"child": {"secretKey": "s"}}).to_string();
        let said = bounded("a batch", || behind.ask(BATCH, batch.as_bytes()));
        assert!(matches!(said, Heard::PubAck { code: 0x83, .. }), "{ailment:?}: {said:?}");
        // Without the counters nothing is judged, right or wrong.
        unavailable("the right secret", || world.alice.client.claim(&before.name, "right"));
        unavailable("a wrong secret", || world.bob.client.claim(&before.name, "wrong"));
        assert_eq!(world.owner_of(&before), None, "{ailment:?}");
        scene.stores.claims.heal();
        until_ready_says(server, "claim_cache", "up");
        let said = bounded("a PUBLISH", || v5.ask(CLAIM, secret("s").as_bytes()));
        assert!(matches!(said, Heard::PubAck { code: 0, .. }), "{ailment:?}: {said:?}");
        assert_eq!(world.alice.client.claim(&before.name, "right").status, 200, "{ailment:?}: the store kept it");
        scene.claims_again(ailment, &during);
    }
}

#[test]
fn stores_whose_bytes_come_one_by_one_are_served_like_any_other() {
    let scene = Scene::new();
    let (server, world) = (&scene.server, &scene.world);
    for proxy in [&scene.stores.registry, &scene.stores.claims] {
        for way in [Way::ToStore, Way::FromStore] {
            proxy.set(way, Fault::Trickle(Duration::ZERO));
        }
    }
    for round in 0..5 {
        let device = world.device(&format!("sliced {round}"));
        let mut client = scene.connect(Version::V5, &device);
        let said = client.ask(CLAIM, secret("s").as_bytes());
        assert!(matches!(said, Heard::PubAck { code: 0, .. }), "{said:?}");
        assert_eq!(world.bob.client.claim(&device.name, "wrong").status, 400);
        assert_eq!(world.alice.client.claim(&device.name, "s").status, 200);
        assert_eq!(world.owner_of(&device), Some(world.alice.customer.clone()));
        assert_eq!(world.alice.client.unclaim(&device.name).status, 200);
    }
    assert_eq!(server.metric("claimd_store_errors_total"), 0.0);
}
