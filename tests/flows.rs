//! ThingsBoard's own 23 claim flows as acceptance facts (thingsboard.md 10), under one owner account, and what
//! ThingsBoard does not test: HTTP submission, unclaim, wrong secrets.
//!
//! Each flow: the device is unowned; submit F (lives 1 ms); owner → 400 FAILURE; submit P; owner → 200 SUCCESS with the
//! caller's customer id; again → 400 CLAIMED.

use prost::Message as _;
use serde_json::json;

use crate::harness::{Coap, Heard, Made, Mqtt, Server, Version, World, eventually};

/// ThingsBoard's published schema.
#[derive(Clone, PartialEq, prost::Message)]
struct ClaimDevice {
    #[prost(string, tag = "1")]
    secret_key: String,
    #[prost(int64, tag = "2")]
    duration_ms: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ClaimDeviceMsg {
    #[prost(string, tag = "1")]
    device_name: String,
    #[prost(message, optional, tag = "2")]
    claim_request: Option<ClaimDevice>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GatewayClaimMsg {
    #[prost(message, repeated, tag = "1")]
    msg: Vec<ClaimDeviceMsg>,
}

#[derive(Clone, Copy, PartialEq)]
enum Entry {
    Mqtt(Version),
    Gateway,
    Coap,
    Http,
}

#[derive(Clone, Copy, PartialEq)]
enum Payload {
    /// With a secret.
    S,
    /// Empty secret.
    E,
    /// The same in protobuf.
    Sp,
    Ep,
}

/// Number in the table, entry, profile (name, transport, payload, JSON compatibility), payloads.
type Flow = (u32, Entry, Option<(&'static str, &'static str, &'static str, bool)>, Payload);

const JSON: Option<(&str, &str, &str, bool)> = Some(("mqtt-json", "MQTT", "JSON", false));
const PROTOBUF: Option<(&str, &str, &str, bool)> = Some(("mqtt-protobuf", "MQTT", "PROTOBUF", false));
const COMPATIBLE: Option<(&str, &str, &str, bool)> = Some(("mqtt-compatible", "MQTT", "PROTOBUF", true));
const COAP_JSON: Option<(&str, &str, &str, bool)> = Some(("coap-json", "COAP", "JSON", false));
const COAP_PROTOBUF: Option<(&str, &str, &str, bool)> = Some(("coap-protobuf", "COAP", "PROTOBUF", false));

const V311: Entry = Entry::Mqtt(Version::V311);

const FLOWS: [Flow; 25] = [
    (1, V311, None, Payload::S),
    (2, V311, None, Payload::E),
    (3, Entry::Gateway, None, Payload::S),
    (4, Entry::Gateway, None, Payload::E),
    (5, V311, JSON, Payload::S),
    (6, V311, JSON, Payload::E),
    (7, Entry::Gateway, JSON, Payload::S),
    (8, Entry::Gateway, JSON, Payload::E),
    (9, V311, PROTOBUF, Payload::Sp),
    (10, V311, PROTOBUF, Payload::Ep),
    (11, Entry::Gateway, PROTOBUF, Payload::Sp),
    (12, Entry::Gateway, PROTOBUF, Payload::Ep),
    (13, V311, COMPATIBLE, Payload::S),
    (14, V311, COMPATIBLE, Payload::E),
    (15, Entry::Gateway, COMPATIBLE, Payload::Sp),
    (16, Entry::Gateway, COMPATIBLE, Payload::Ep),
    (17, Entry::Mqtt(Version::V5), None, Payload::S),
    (18, Entry::Coap, None, Payload::S),
    (19, Entry::Coap, None, Payload::E),
    (20, Entry::Coap, COAP_JSON, Payload::S),
    (21, Entry::Coap, COAP_JSON, Payload::E),
    (22, Entry::Coap, COAP_PROTOBUF, Payload::Sp),
    (23, Entry::Coap, COAP_PROTOBUF, Payload::Ep),
    // ThingsBoard tests no submission over HTTP; ours.
    (24, Entry::Http, None, Payload::S),
    (25, Entry::Http, None, Payload::E),
];

#[test]
fn thingsboards_flows_hold_under_one_account() {
    let server = Server::start();
    let world = World::new(&server);
    for (name, transport, payload, compatible) in
        [JSON, PROTOBUF, COMPATIBLE, COAP_JSON, COAP_PROTOBUF].into_iter().flatten()
    {
        world.profile(name, transport, payload, compatible);
    }
    for flow in FLOWS {
        run(&server, &world, flow);
    }
}

fn run(server: &Server, world: &World, (number, entry, profile, payload): Flow) {
    let name = format!("Flow {number}/ä");
    let profile = profile.map_or("default", |(name, ..)| name);
    // A gateway's children are unknown before.
    let speaker = match entry {
        Entry::Gateway => world.device_of_profile(&format!("Gateway {number}"), profile, true),
        _ => world.device_of_profile(&name, profile, false),
    };
    let owner = &world.alice;
    let owner_body = match payload {
        Payload::S | Payload::Sp => json!({"secretKey": "value"}),
        Payload::E | Payload::Ep => json!({"secretKey": null}),
    };
    let claim = || owner.client.claim_raw(&name, &owner_body.to_string());

    submit(server, entry, &speaker, &body(entry, payload, &name, true));
    // F lives a millisecond; a confirm within it would be a success, so it has to be over first.
    let lapsed = std::time::Instant::now() + std::time::Duration::from_millis(3);
    eventually("F has lapsed", || (std::time::Instant::now() > lapsed).then_some(()));
    let answer = claim();
    assert_eq!((answer.status, answer.body.as_str()), (400, "\"FAILURE\""), "flow {number}, step 2: {answer:?}");

    submit(server, entry, &speaker, &body(entry, payload, &name, false));
    let answer = claim();
    assert_eq!(answer.status, 200, "flow {number}, step 4: {answer:?}");
    let answer = answer.json();
    assert_eq!(answer["response"], "SUCCESS", "flow {number}");
    assert_eq!(answer["device"]["customerId"]["id"], owner.customer.as_str(), "flow {number}");
    assert_eq!(answer["device"]["name"], name.as_str(), "flow {number}");

    let answer = claim();
    assert_eq!((answer.status, answer.body.as_str()), (400, "\"CLAIMED\""), "flow {number}, step 5: {answer:?}");
}

fn body(entry: Entry, payload: Payload, name: &str, first: bool) -> Vec<u8> {
    let protobuf = |message: ClaimDevice| match entry {
        Entry::Gateway => {
            let entry = ClaimDeviceMsg { device_name: name.to_owned(), claim_request: Some(message) };
            GatewayClaimMsg { msg: vec![entry] }.encode_to_vec()
        }
        _ => message.encode_to_vec(),
    };
    let json = |message: serde_json::Value| match entry {
        Entry::Gateway => json!({ name: message }).to_string().into_bytes(),
        _ => message.to_string().into_bytes(),
    };
    let value = "value".to_owned();
    match (payload, first) {
        (Payload::S, true) => json(json!({"secretKey": "value", "durationMs": 1})),
        (Payload::S, false) => json(json!({"secretKey": "value", "durationMs": 60000})),
        (Payload::E, true) => json(json!({"durationMs": 1})),
        (Payload::E, false) => json(json!({})),
        // In ThingsBoard's own tests 10 and 23 step F carries a secret too: FAILURE all the same.
        (Payload::Sp | Payload::Ep, true) => protobuf(ClaimDevice { secret_key: value, duration_ms: 1 }),
        (Payload::Sp, false) => protobuf(ClaimDevice { secret_key: value, duration_ms: 60_000 }),
        (Payload::Ep, false) => protobuf(ClaimDevice::default()),
    }
}

fn submit(server: &Server, entry: Entry, speaker: &Made, body: &[u8]) {
    match entry {
        Entry::Mqtt(version) => {
            let mut client = Mqtt::connect(&server.mqtt, version, &speaker.token);
            let heard = client.ask("v1/devices/me/claim", body);
            assert!(matches!(heard, Heard::PubAck { code: 0, .. }), "{heard:?}");
        }
        Entry::Gateway => {
            let mut client = Mqtt::connect(&server.mqtt, Version::V311, &speaker.token);
            let heard = client.ask("v1/gateway/claim", body);
            assert!(matches!(heard, Heard::PubAck { code: 0, .. }), "{heard:?}");
        }
        Entry::Coap => {
            let said = Coap::open(&server.coap).claim(&speaker.token, body);
            assert_eq!(said.code, (2, 1));
            assert!(said.packet.payload.is_empty());
        }
        Entry::Http => {
            let device = crate::harness::Client::stranger(&server.http);
            let text = String::from_utf8(body.to_vec()).expect("JSON");
            let answer = device.send("POST", &format!("/api/v1/{}/claim", speaker.token), &[], &text);
            assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{answer:?}");
        }
    }
}
