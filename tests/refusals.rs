//! Every row of the refusal table (thingsboard.md 2.2) on every transport it applies to, in each transport's own words.

use coap_lite::{CoapOption, RequestType};

use crate::harness::coap::claim_in_blocks;
use crate::harness::{Answer, Client, Coap, Heard, Made, Mqtt, Server, Version, World, raw_http};

const CLAIM: &str = "v1/devices/me/claim";

/// What a refusal is on each transport. MQTT 3.1.1 has one word for all: it closes without PUBACK.
struct Row {
    outcome: &'static str,
    puback: u8,
    coap: (u8, u8),
    http: u16,
    /// Whether the client is told when to come again: Max-Age, Retry-After.
    later: bool,
}

/// Has the same body refused on all four transports, each by a device of its own that `prepare` has made ready.
fn refused_everywhere(server: &Server, row: &Row, body: &[u8], mut prepare: impl FnMut(&str) -> Made) {
    let outcome = row.outcome;
    let count = |transport: &str| {
        server.metric(&format!(
            "claimd_submissions_total{{transport=\"{transport}\",source=\"device\",outcome=\"{outcome}\"}}"
        ))
    };
    let before = ["mqtt", "coap", "http"].map(count);

    let device = prepare("mqtt5");
    let mut client = Mqtt::connect(&server.mqtt, Version::V5, &device.token);
    let Heard::PubAck { code, properties, .. } = client.ask(CLAIM, body) else { panic!("{outcome}: no PUBACK") };
    assert_eq!(code, row.puback, "{outcome}");
    insta::assert_snapshot!(format!("reason_{outcome}"), reason(&properties));
    // The session stays.
    client.send(0xc0, &[]);
    assert_eq!(client.hear(), Heard::Other { first: 0xd0, body: Vec::new() }, "{outcome}: PINGRESP");

    let device = prepare("mqtt311");
    let mut client = Mqtt::connect(&server.mqtt, Version::V311, &device.token);
    assert_eq!(client.ask(CLAIM, body), Heard::Closed, "{outcome}: closed without PUBACK");
    let device = prepare("mqtt311 QoS 0");
    let mut client = Mqtt::connect(&server.mqtt, Version::V311, &device.token);
    client.send(0x30, &publish_body(CLAIM, body));
    client.send(0xc0, &[]);
    assert_eq!(
        client.hear(),
        Heard::Other { first: 0xd0, body: Vec::new() },
        "{outcome}: a QoS 0 refusal closes nothing"
    );

    let device = prepare("coap");
    let said = Coap::open(&server.coap).claim(&device.token, body);
    assert_eq!(said.code, row.coap, "{outcome}");
    let max_age = said.packet.get_first_option(CoapOption::MaxAge);
    assert_eq!(max_age.is_some_and(|age| age.iter().any(|byte| *byte > 0)), row.later, "{outcome}: Max-Age");
    assert!(row.later || !said.packet.payload.is_empty(), "{outcome}: a diagnostic text");

    let device = prepare("http");
    let path = format!("/api/v1/{}/claim", device.token);
    let answer = Client::stranger(&server.http).send("POST", &path, &[], std::str::from_utf8(body).expect("UTF-8"));
    assert_eq!(answer.status, row.http, "{outcome}: {answer:?}");
    let wait = answer.header("Retry-After").map(|wait| wait.parse::<u32>().expect("seconds"));
    assert_eq!(wait.is_some_and(|wait| wait > 0), row.later, "{outcome}: Retry-After");
    problem(&format!("problem_{outcome}"), &answer);

    // A count for each refusal: three over MQTT, one over each of the others.
    let grown: Vec<f64> =
        ["mqtt", "coap", "http"].map(count).iter().zip(before).map(|(now, then)| now - then).collect();
    assert_eq!(grown, [3.0, 1.0, 1.0], "{outcome}");
}

fn problem(name: &str, answer: &Answer) {
    assert_eq!(answer.header("Content-Type"), Some("application/problem+json"), "{answer:?}");
    insta::assert_snapshot!(name, answer.body);
}

/// A topic and a payload, as a QoS 0 PUBLISH of MQTT 3.1.1 holds them.
fn publish_body(topic: &str, payload: &[u8]) -> Vec<u8> {
    [&(topic.len() as u16).to_be_bytes()[..], topic.as_bytes(), payload].concat()
}

/// The reason string among properties.
fn reason(properties: &[u8]) -> String {
    assert_eq!(properties.first(), Some(&0x1f), "a reason string: {properties:?}");
    let length = usize::from(u16::from_be_bytes([properties[1], properties[2]]));
    String::from_utf8(properties[3..3 + length].to_vec()).expect("UTF-8")
}

#[test]
fn malformed() {
    let server = Server::start();
    let world = World::new(&server);
    let row = Row { outcome: "malformed", puback: 0x99, coap: (4, 0), http: 400, later: false };
    refused_everywhere(&server, &row, b"[]", |name| world.device(name));
}

#[test]
fn not_claimable() {
    let server = Server::with(&[("CLAIMD_CLAIM__ALLOW_BY_DEFAULT", "false")]);
    let world = World::new(&server);
    let row = Row { outcome: "not_claimable", puback: 0x87, coap: (4, 3), http: 403, later: false };
    refused_everywhere(&server, &row, b"{}", |name| world.device(name));
}

#[test]
fn already_owned() {
    let server = Server::start();
    let world = World::new(&server);
    let row = Row { outcome: "already_owned", puback: 0x87, coap: (4, 9), http: 409, later: false };
    refused_everywhere(&server, &row, b"{}", |name| {
        let device = world.device(name);
        assert_eq!(http_claim(&server, &device).status, 200);
        assert_eq!(world.alice.client.claim(name, "").status, 200);
        device
    });
}

#[test]
fn quota_exceeded() {
    let server = Server::with(&[("CLAIMD_CLAIM_CACHE__MAX_PENDING_PER_TENANT", "1")]);
    let world = World::new(&server);
    assert_eq!(http_claim(&server, &world.device("first")).status, 200);
    let row = Row { outcome: "quota_exceeded", puback: 0x97, coap: (5, 3), http: 503, later: true };
    refused_everywhere(&server, &row, b"{}", |name| world.device(name));
}

#[test]
fn rate_limited() {
    let server = Server::with(&[("CLAIMD_LIMITS__SUBMIT_PER_DEVICE", "1")]);
    let world = World::new(&server);
    let row = Row { outcome: "rate_limited", puback: 0x97, coap: (4, 29), http: 429, later: true };
    refused_everywhere(&server, &row, b"{}", |name| {
        let device = world.device(name);
        assert_eq!(http_claim(&server, &device).status, 200);
        device
    });
}

fn http_claim(server: &Server, device: &Made) -> Answer {
    Client::stranger(&server.http).send("POST", &format!("/api/v1/{}/claim", device.token), &[], "")
}

#[test]
fn too_large() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("large");
    let body = "x".repeat(65_537);
    let mut five = Mqtt::connect(&server.mqtt, Version::V5, &device.token);
    assert_eq!(five.ask(CLAIM, body.as_bytes()), Heard::Disconnect { code: 0x95 });
    let mut three = Mqtt::connect(&server.mqtt, Version::V311, &device.token);
    assert_eq!(three.ask(CLAIM, body.as_bytes()), Heard::Closed);
    let said = claim_in_blocks(&server.coap, &device.token, body.as_bytes());
    assert_eq!(said.code, (4, 13));
    assert_eq!(said.packet.get_first_option(CoapOption::Size1).map(Vec::as_slice), Some(&[1, 0, 0][..]), "65,536");
    let head = format!("POST /api/v1/{}/claim HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n", device.token);
    let (status, text) = raw_http(&server.http, &head, body.as_bytes());
    assert_eq!(status, 413);
    insta::assert_snapshot!("problem_too_large", text.split("\r\n\r\n").nth(1).expect("a body"));
}

#[test]
fn wrong_path_and_wrong_method() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("d");
    let coap = Coap::open(&server.coap);
    assert_eq!(coap.request(RequestType::Post, &["api", "v1", &device.token, "telemetry"], b"{}").code, (4, 4));
    for method in [RequestType::Put, RequestType::Delete, RequestType::Patch, RequestType::Fetch] {
        assert_eq!(coap.request(method, &["api", "v1", &device.token, "claim"], b"{}").code, (4, 5), "{method:?}");
    }
    let http = Client::stranger(&server.http);
    let answer = http.send("POST", &format!("/api/v1/{}/telemetry", device.token), &[], "{}");
    assert_eq!(answer.status, 404);
    problem("problem_not_found", &answer);
    for method in ["PUT", "DELETE", "PATCH"] {
        let answer = http.send(method, &format!("/api/v1/{}/claim", device.token), &[], "{}");
        assert_eq!((answer.status, answer.header("Allow")), (405, Some("GET, POST")), "{method}");
        problem("problem_wrong_method", &answer);
    }
}

#[test]
fn unauthenticated() {
    let server = Server::with(&[("CLAIMD_LIMITS__AUTH_FAILURES_PER_ADDRESS", "1000")]);
    // Which of user name, password and client id a refused CONNECT shows decides its code (thingsboard.md 2.5).
    type Row = (&'static str, Option<&'static str>, Option<&'static str>, u8, u8);
    let rows: [Row; 9] = [
        ("", Some("wrong"), None, 0x86, 5),
        ("id", Some("wrong"), None, 0x86, 5),
        ("id", Some("wrong"), Some("pw"), 0x86, 5),
        ("id", None, None, 0x85, 2),
        ("", Some("wrong"), Some("pw"), 0x87, 5),
        ("", None, None, 0x87, 5),
        ("provision", None, None, 0x85, 2),
        ("", Some("provision"), None, 0x86, 5),
        ("provision", Some("provision"), Some("pw"), 0x86, 5),
    ];
    for (client_id, user, password, five, three) in rows {
        for (version, expected) in [(Version::V5, five), (Version::V311, three)] {
            let mut client = Mqtt::open(&server.mqtt, version);
            let heard = client.hello(client_id, user, password);
            let Heard::ConnAck { code, properties, .. } = &heard else { panic!("{heard:?}") };
            assert_eq!(*code, expected, "{version:?} {client_id:?} {user:?} {password:?}");
            if version == Version::V5 {
                insta::assert_snapshot!("reason_unauthenticated", reason(properties));
            }
            assert_eq!(client.hear(), Heard::Closed, "then it closes");
        }
    }
    let mut client = Mqtt::open(&server.mqtt, Version::V5);
    client.publish(CLAIM, b"{}");
    assert_eq!(client.hear(), Heard::Closed, "nothing before CONNECT");
    assert_eq!(Coap::open(&server.coap).claim("wrong", b"[]").code, (4, 1), "before the body is looked at");
    let answer = Client::stranger(&server.http).send("POST", "/api/v1/wrong/claim", &[], "[]");
    assert_eq!(answer.status, 401, "before the body is looked at");
    assert!(answer.header("WWW-Authenticate").is_some());
    problem("problem_unauthenticated", &answer);
}

#[test]
fn too_many_refused_credentials_lock_every_transport() {
    let server = Server::with(&[("CLAIMD_LIMITS__AUTH_FAILURES_PER_ADDRESS", "1")]);
    let world = World::new(&server);
    let device = world.device("d");
    Mqtt::open(&server.mqtt, Version::V5).hello("", Some("wrong"), None);
    let code = |version| match Mqtt::open(&server.mqtt, version).hello("", Some(&device.token), None) {
        Heard::ConnAck { code, .. } => code,
        other => panic!("{other:?}"),
    };
    assert_eq!((code(Version::V5), code(Version::V311)), (0x9f, 3));
    let answer = http_claim(&server, &device);
    assert!(answer.status == 429 && answer.header("Retry-After").is_some(), "{answer:?}");
    problem("problem_locked", &answer);
    // Whoever has not shown that it receives at its address can be anybody: not locked out, and not able to lock others.
    assert_eq!(Coap::open(&server.coap).claim(&device.token, b"{}").code, (2, 1));
}

/// The registry's tables are taken away under the running server, as a store that answers with nothing but errors; then
/// they come back.
#[test]
fn unavailable_and_healed() {
    let server = Server::with(&[("CLAIMD_REGISTRY__LOOKUP_AGE", "1ms")]);
    let world = World::new(&server);
    let [five, three, other] = ["five", "three", "other"].map(|name| world.device(name));
    let mut mqtt5 = Mqtt::connect(&server.mqtt, Version::V5, &five.token);
    let mut mqtt311 = Mqtt::connect(&server.mqtt, Version::V311, &three.token);
    server.stores.rename_table("device", "device_away");

    let Heard::PubAck { code, properties, .. } = mqtt5.ask(CLAIM, b"{}") else { panic!("no PUBACK") };
    assert_eq!(code, 0x83);
    insta::assert_snapshot!("reason_unavailable", reason(&properties));
    assert_eq!(mqtt311.ask(CLAIM, b"{}"), Heard::Closed);
    for (version, expected) in [(Version::V5, 0x88), (Version::V311, 3)] {
        let heard = Mqtt::open(&server.mqtt, version).hello("", Some(&other.token), None);
        assert!(matches!(heard, Heard::ConnAck { code, .. } if code == expected), "{heard:?}");
    }
    let said = Coap::open(&server.coap).claim(&other.token, b"{}");
    assert_eq!(said.code, (5, 3));
    assert!(said.packet.get_first_option(CoapOption::MaxAge).is_some());
    let answer = http_claim(&server, &other);
    assert!(answer.status == 503 && answer.header("Retry-After").is_some(), "{answer:?}");
    problem("problem_unavailable", &answer);

    server.stores.rename_table("device_away", "device");
    assert!(
        matches!(mqtt5.ask(CLAIM, b"{}"), Heard::PubAck { code: 0, .. }),
        "the session was kept, and it heals alone"
    );
    assert_eq!(http_claim(&server, &other).status, 200);
    assert_eq!(world.alice.client.claim("five", "").status, 200);
}
