//! Gateways: scope, batches with a result for each entry, what a refused entry looks like in each protocol version.

use serde_json::{Value, json};

use crate::harness::{Heard, Made, Mqtt, Server, Version, World, eventually};

fn batch(gateway: &mut Mqtt, body: &Value) -> Heard {
    gateway.ask("v1/gateway/claim", body.to_string().as_bytes())
}

fn code(heard: &Heard) -> u8 {
    match heard {
        Heard::PubAck { code, .. } => *code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn entries_are_independent_and_each_refused_one_is_named() {
    let server = Server::start();
    let world = World::new(&server);
    let gateway = world.gateway("gw");
    world.device("stranger's");
    let mut client = Mqtt::connect(&server.mqtt, Version::V5, &gateway.token);
    client.subscribe("v1/gateway/claim/response");
    let body = json!({"good": {"secretKey": "a"}, "stranger's": {}, "no object": 3, "bad": {"durationMs": true}});
    client.publish("v1/gateway/claim", body.to_string().as_bytes());
    let (mut ack, mut response) = (None, None);
    while ack.is_none() || response.is_none() {
        match client.hear() {
            Heard::PubAck { code, properties, .. } => ack = Some((code, properties)),
            Heard::Publish { topic, payload } if topic == "v1/gateway/claim/response" => {
                response = Some(serde_json::from_slice::<Value>(&payload).expect("JSON"));
            }
            Heard::Publish { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    let (code, properties) = ack.expect("an ack");
    assert_eq!(code, 0x99, "malformed is worse than not claimable");
    let properties = String::from_utf8_lossy(&properties).into_owned();
    assert!(properties.contains("stranger's") && properties.contains("not_claimable"), "{properties}");
    let response = response.expect("a response");
    assert_eq!(response["accepted"], 1);
    assert_eq!(
        response["refused"],
        json!({"stranger's": "not_claimable", "no object": "malformed", "bad": "malformed"})
    );
    assert_eq!(world.alice.client.claim("good", "a").status, 200);
    assert_eq!(world.alice.client.claim("stranger's", "").status, 400);
}

#[test]
fn mqtt311_acks_if_any_entry_was_accepted_and_closes_if_none_was() {
    let server = Server::start();
    let world = World::new(&server);
    let gateway = world.gateway("gw");
    world.device("stranger's");
    let mut client = Mqtt::connect(&server.mqtt, Version::V311, &gateway.token);
    assert!(matches!(batch(&mut client, &json!({"mine": {}, "stranger's": {}})), Heard::PubAck { .. }));
    assert_eq!(batch(&mut client, &json!({"stranger's": {}})), Heard::Closed);
}

#[test]
fn a_batch_is_read_to_its_end_before_anything_is_registered() {
    let server = Server::start();
    let world = World::new(&server);
    let gateway = world.gateway("gw");
    let mut client = Mqtt::connect(&server.mqtt, Version::V5, &gateway.token);
    for broken in [r#"{"a":{}"#, r#"{"a":{},"a":{}}"#, r#"{"a":{}} x"#, "[]", "{}", ""] {
        let heard = client.ask("v1/gateway/claim", broken.as_bytes());
        assert_eq!(code(&heard), 0x99, "{broken}");
    }
    assert_eq!(world.alice.client.claim("a", "").status, 400);
}

#[test]
fn batches_end_at_two_thousand_entries() {
    let server = Server::with(&[("CLAIMD_GATEWAY__NEW_DEVICES_PER_DAY", "10000")]);
    let world = World::new(&server);
    let gateway = world.gateway("gw");
    let mut client = Mqtt::connect(&server.mqtt, Version::V5, &gateway.token);
    let entries = |count: usize| Value::Object((0..count).map(|n| (format!("c{n}"), json!({}))).collect());
    assert_eq!(code(&batch(&mut client, &entries(2_001))), 0x97);
    assert_eq!(world.alice.client.claim("c0", "").status, 400, "a refused batch registers nothing");
    assert_eq!(code(&batch(&mut client, &entries(2_000))), 0);
    assert_eq!(world.alice.client.claim("c1999", "").status, 200);
}

#[test]
fn only_gateways_speak_for_others() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("plain");
    for topic in ["v1/gateway/claim", "v1/gateway/connect"] {
        let mut client = Mqtt::connect(&server.mqtt, Version::V5, &device.token);
        assert_eq!(code(&client.ask(topic, br#"{"device":"x"}"#)), 0x87, "{topic}");
        let mut client = Mqtt::connect(&server.mqtt, Version::V311, &device.token);
        assert_eq!(client.ask(topic, br#"{"device":"x"}"#), Heard::Closed, "{topic}");
    }
}

#[test]
fn a_maker_relates_existing_devices_and_tenant_scope_needs_no_relation() {
    let server = Server::start();
    let world = World::new(&server);
    let gateway = world.gateway("gw");
    let existing = world.device("existing");
    let mut client = Mqtt::connect(&server.mqtt, Version::V5, &gateway.token);
    assert_eq!(code(&batch(&mut client, &json!({"existing": {}}))), 0x87);
    relate(&world, &gateway, &existing);
    assert_eq!(code(&batch(&mut client, &json!({"existing": {}}))), 0);

    let server = Server::with(&[("CLAIMD_GATEWAY__SCOPE", "tenant")]);
    let world = World::new(&server);
    let gateway = world.gateway("gw");
    world.device("existing");
    let mut client = Mqtt::connect(&server.mqtt, Version::V5, &gateway.token);
    assert_eq!(code(&batch(&mut client, &json!({"existing": {}}))), 0);
}

fn relate(world: &World, gateway: &Made, device: &Made) {
    let entity = |made: &Made| json!({"entityType": "DEVICE", "id": made.id});
    let body = json!({"from": entity(gateway), "to": entity(device), "type": "Created", "typeGroup": "COMMON"});
    let answer = world.maker.post("/api/relation", &body);
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn a_gateway_never_replaces_what_the_device_announced_itself() {
    let server = Server::with(&[("CLAIMD_GATEWAY__SCOPE", "tenant")]);
    let world = World::new(&server);
    let gateway = world.gateway("gw");
    let device = world.device("speaks for itself");
    let own =
        Mqtt::connect(&server.mqtt, Version::V5, &device.token).ask("v1/devices/me/claim", br#"{"secretKey":"own"}"#);
    assert_eq!(code(&own), 0);
    let mut client = Mqtt::connect(&server.mqtt, Version::V5, &gateway.token);
    assert_eq!(code(&batch(&mut client, &json!({"speaks for itself": {"secretKey": "other"}}))), 0x87);
    assert_eq!(world.alice.client.claim("speaks for itself", "own").status, 200);
}

#[test]
fn new_devices_are_limited_a_day_and_in_all() {
    let server = Server::with(&[("CLAIMD_GATEWAY__NEW_DEVICES_PER_DAY", "3")]);
    let world = World::new(&server);
    let gateway = world.gateway("gw");
    let mut client = Mqtt::connect(&server.mqtt, Version::V5, &gateway.token);
    assert_eq!(code(&batch(&mut client, &json!({"n1": {}, "n2": {}, "n3": {}}))), 0);
    assert_eq!(code(&batch(&mut client, &json!({"n3": {}, "n4": {}}))), 0x97);
    assert_eq!(world.alice.client.claim("n3", "").status, 200, "the known one was accepted all the same");
    assert_eq!(world.alice.client.claim("n4", "").status, 400);
}

#[test]
fn children_of_a_claimed_gateway_can_be_claimed() {
    let server = Server::start();
    let world = World::new(&server);
    let gateway = world.gateway("gw");
    let mut client = Mqtt::connect(&server.mqtt, Version::V5, &gateway.token);
    assert_eq!(code(&client.ask("v1/devices/me/claim", br#"{"secretKey":"g"}"#)), 0);
    assert_eq!(world.bob.client.claim("gw", "g").status, 200);
    assert_eq!(code(&client.ask("v1/gateway/connect", br#"{"device":"child","type":"default"}"#)), 0);
    assert_eq!(code(&batch(&mut client, &json!({"child": {"secretKey": "c"}}))), 0);
    assert_eq!(world.alice.client.claim("child", "c").status, 200, "unowned, though its gateway is Bob's");
}

#[test]
fn a_gateway_hears_what_becomes_of_its_children() {
    let server = Server::start();
    let world = World::new(&server);
    let gateway = world.gateway("gw");
    let mut client = Mqtt::connect(&server.mqtt, Version::V5, &gateway.token);
    client.subscribe("v1/gateway/attributes");
    client.publish("v1/gateway/claim", json!({"child": {"secretKey": "c"}}).to_string().as_bytes());
    let mut await_state = |state: &str| {
        eventually(state, || match client.hear() {
            Heard::Publish { topic, payload } if topic == "v1/gateway/attributes" => {
                let payload: Value = serde_json::from_slice(&payload).expect("JSON");
                assert_eq!(payload["device"], "child");
                (payload["data"]["claimState"] == state).then_some(())
            }
            Heard::PubAck { code: 0, .. } | Heard::Publish { .. } => None,
            other => panic!("{other:?}"),
        });
    };
    await_state("PENDING");
    assert_eq!(world.alice.client.claim("child", "c").status, 200);
    await_state("CLAIMED");
    assert_eq!(world.alice.client.unclaim("child").status, 200);
    await_state("NONE");
}
