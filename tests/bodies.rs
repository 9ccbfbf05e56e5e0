//! Every row of the body table (thingsboard.md 2.3) on every transport it applies to: what is accepted, with which
//! secret, and what is refused, in each transport's own words.

use crate::harness::{Client, Coap, Heard, Mqtt, Server, Version, World};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Expect {
    /// Accepted; an owner showing this secret gets the device.
    Secret(&'static str),
    /// Refused as malformed.
    Malformed,
    /// Refused as too large.
    TooLarge,
}
use Expect::{Malformed, Secret, TooLarge};

fn rows() -> Vec<(Vec<u8>, Expect)> {
    let text = |body: &str, expect| (body.as_bytes().to_vec(), expect);
    let deep = |levels: usize| format!("{{\"x\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
    vec![
        text("", Secret("")),
        text("{}", Secret("")),
        text(r#"{"secretKey":"value","durationMs":60000}"#, Secret("value")),
        // no object, broken, trailing data
        text(" \r\n\t ", Malformed),
        text("null", Malformed),
        text("[]", Malformed),
        text(r#""x""#, Malformed),
        text("1", Malformed),
        text("{", Malformed),
        text(r#"{"secretKey":"a""#, Malformed),
        text("{} x", Malformed),
        text("{}{}", Malformed),
        // not JSON
        text("{secretKey:\"a\"}", Malformed),
        text("{'secretKey':'a'}", Malformed),
        text("{/*x*/}", Malformed),
        text("{\"secretKey\"=\"a\"}", Malformed),
        text("{\"secretKey\":\"a\";\"durationMs\":1}", Malformed),
        (vec![b'{', 0xff, b'}'], Malformed),
        // duplicate members
        text(r#"{"secretKey":"a","secretKey":"b"}"#, Malformed),
        text(r#"{"durationMs":60000,"durationMs":60000}"#, Malformed),
        text(r#"{"x":1,"x":1}"#, Malformed),
        // unknown members, wrong letter case
        text(r#"{"foo":{"bar":[1]},"secretkey":"no","SecretKey":"no"}"#, Secret("")),
        // secretKey of other types
        text(r#"{"secretKey":12.50}"#, Secret("12.50")),
        text(r#"{"secretKey":true}"#, Secret("true")),
        text(r#"{"secretKey":null}"#, Secret("")),
        text(r#"{"secretKey":"a","durationMs":null}"#, Secret("a")),
        text(r#"{"secretKey":{}}"#, Malformed),
        text(r#"{"secretKey":["a"]}"#, Malformed),
        text(r#"{"secretKey":"\u00e4\"\\"}"#, Secret("\u{e4}\"\\")),
        text(&format!(r#"{{"secretKey":"{}"}}"#, "s".repeat(256)), Secret(leak("s".repeat(256)))),
        text(&format!(r#"{{"secretKey":"{}"}}"#, "s".repeat(257)), Malformed),
        text(r#"{"secretKey":"a\u0000b"}"#, Malformed),
        // durationMs
        text(r#"{"secretKey":"a","durationMs":"30000"}"#, Secret("a")),
        text(r#"{"secretKey":"a","durationMs":60000.9}"#, Secret("a")),
        text(r#"{"secretKey":"a","durationMs":6e4}"#, Secret("a")),
        text(r#"{"secretKey":"a","durationMs":0}"#, Secret("a")),
        text(r#"{"secretKey":"a","durationMs":-1}"#, Secret("a")),
        text(r#"{"secretKey":"a","durationMs":9223372036854775807}"#, Secret("a")),
        text(r#"{"secretKey":"a","durationMs":99999999999999999999999999}"#, Secret("a")),
        text(r#"{"durationMs":"abc"}"#, Malformed),
        text(r#"{"durationMs":""}"#, Malformed),
        text(r#"{"durationMs":"1e3"}"#, Malformed),
        text(r#"{"durationMs":true}"#, Malformed),
        text(r#"{"durationMs":{}}"#, Malformed),
        // depth and size
        text(&deep(16), Secret("")),
        text(&deep(17), Malformed),
        text(&deep(20_000), Malformed),
        (padded(65_536), Secret("")),
        (padded(65_537), TooLarge),
    ]
}

/// A body of exactly this many bytes.
fn padded(bytes: usize) -> Vec<u8> {
    format!("{{\"x\":\"{}\"}}", "p".repeat(bytes - 8)).into_bytes()
}

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// What a transport said, in words common to all.
#[derive(Debug, PartialEq)]
enum Verdict {
    Accepted,
    Malformed,
    TooLarge,
    /// MQTT 3.1.1 cannot say why.
    Closed,
}

#[test]
fn mqtt5_follows_the_body_table() {
    on_every_row("mqtt5", |server, token, body| {
        let mut client = Mqtt::connect(&server.mqtt, Version::V5, token);
        match client.ask("v1/devices/me/claim", body) {
            Heard::PubAck { code: 0, .. } => Verdict::Accepted,
            Heard::PubAck { code: 0x99, .. } => {
                // A refusal keeps the session: the next claim is answered too.
                let again = client.ask("v1/devices/me/claim", b"{}");
                assert!(matches!(again, Heard::PubAck { code: 0, .. }), "{again:?}");
                Verdict::Malformed
            }
            Heard::Disconnect { code: 0x95 } => Verdict::TooLarge,
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn mqtt311_follows_the_body_table_and_closes_where_it_cannot_say_no() {
    on_every_row("mqtt311", |server, token, body| {
        match Mqtt::connect(&server.mqtt, Version::V311, token).ask("v1/devices/me/claim", body) {
            Heard::PubAck { .. } => Verdict::Accepted,
            Heard::Closed => Verdict::Closed,
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn coap_follows_the_body_table() {
    on_every_row("coap", |server, token, body| {
        let said = crate::harness::coap::claim_in_blocks(&server.coap, token, body);
        match said.code {
            (2, 1) => Verdict::Accepted,
            (4, 0) => {
                assert!(!said.packet.payload.is_empty(), "4.00 comes with a diagnostic text");
                Verdict::Malformed
            }
            (4, 13) => Verdict::TooLarge,
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn http_follows_the_body_table() {
    on_every_row("http", |server, token, body| {
        let (status, text) = crate::harness::raw_http(
            &server.http,
            &format!("POST /api/v1/{token}/claim HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len()),
            body,
        );
        match status {
            200 => Verdict::Accepted,
            400 => {
                assert!(text.contains("application/problem+json"), "{text}");
                Verdict::Malformed
            }
            413 => Verdict::TooLarge,
            other => panic!("{other}: {text}"),
        }
    });
}

fn on_every_row(transport: &str, submit: impl Fn(&Server, &str, &[u8]) -> Verdict) {
    let server = Server::start();
    let world = World::new(&server);
    for (number, (body, expect)) in rows().into_iter().enumerate() {
        let name = format!("{transport} row {number}");
        let device = world.device(&name);
        let verdict = submit(&server, &device.token, &body);
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        match (expect, verdict) {
            (Secret(secret), Verdict::Accepted) => owner_gets_it(&world.alice.client, &name, secret, &shown),
            (Malformed, Verdict::Malformed) | (TooLarge, Verdict::TooLarge) => {}
            (Malformed | TooLarge, Verdict::Closed) if transport == "mqtt311" => {}
            (expect, verdict) => panic!("row {number} `{shown}`: expected {expect:?}, got {verdict:?}"),
        }
    }
}

fn owner_gets_it(owner: &Client, name: &str, secret: &str, row: &str) {
    let answer = owner.claim(name, secret);
    assert_eq!(answer.status, 200, "`{row}` with {secret:?}: {answer:?}");
}

/// A CoAP body larger than a datagram goes in blocks; this is the same path a real client takes.
#[test]
fn a_coap_client_may_be_refused_block_by_block() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("blocks");
    let said = crate::harness::coap::claim_in_blocks(&server.coap, &device.token, &padded(5_000));
    assert_eq!(said.code, (2, 1));
    assert_eq!(world.alice.client.claim("blocks", "").status, 200);
    // The same socket goes on serving small ones.
    let other = world.device("small");
    assert_eq!(Coap::open(&server.coap).claim(&other.token, b"{}").code, (2, 1));
}
