//! What MQTT 3.1.1 and 5 ask of a listener, over raw sockets: who is refused with which code, the order of acks, QoS 2,
//! takeover, keep alive, aliases, wills, subscriptions.

use serde_json::Value;

use crate::harness::{Heard, Mqtt, Server, Version, World, eventually};

const CLAIM: &str = "v1/devices/me/claim";
const BOTH: [Version; 2] = [Version::V311, Version::V5];

fn text(text: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).expect("short").to_be_bytes().to_vec();
    bytes.extend_from_slice(text);
    bytes
}

/// The body of a CONNECT; `tail` follows the client id (will, user name, password).
fn connect(version: Version, flags: u8, keep_alive: u16, properties: &[u8], client: &str, tail: &[u8]) -> Vec<u8> {
    let mut body = text(b"MQTT");
    body.push(if version == Version::V5 { 5 } else { 4 });
    body.push(flags);
    body.extend(keep_alive.to_be_bytes());
    if version == Version::V5 {
        body.push(u8::try_from(properties.len()).expect("short"));
        body.extend_from_slice(properties);
    }
    body.extend(text(client.as_bytes()));
    body.extend_from_slice(tail);
    body
}

/// The body of a PUBLISH with an id.
fn publish(version: Version, topic: &str, id: u16, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = text(topic.as_bytes());
    body.extend(id.to_be_bytes());
    if version == Version::V5 {
        body.push(u8::try_from(properties.len()).expect("short"));
        body.extend_from_slice(properties);
    }
    body.extend_from_slice(payload);
    body
}

fn subscribe(version: Version, id: u16, properties: &[u8], filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(u8::try_from(properties.len()).expect("short"));
        body.extend_from_slice(properties);
    }
    for (filter, options) in filters {
        body.extend(text(filter.as_bytes()));
        body.push(*options);
    }
    body
}

/// The next packet that is no push.
fn answer(client: &mut Mqtt) -> Heard {
    loop {
        match client.hear() {
            Heard::Publish { .. } => {}
            other => return other,
        }
    }
}

/// Ended by the server: MQTT 5 says with which code, 3.1.1 only closes.
fn ended(client: &mut Mqtt, version: Version, code: u8) {
    let heard = answer(client);
    match version {
        Version::V5 => assert_eq!(heard, Heard::Disconnect { code }),
        Version::V311 => assert_eq!(heard, Heard::Closed),
    }
}

#[test]
fn a_connect_that_breaks_the_rules_is_refused_as_each_version_says() {
    let server = Server::start();
    let world = World::new(&server);
    let token = text(world.device("d").token.as_bytes());
    let will = |payload: &[u8]| [text(b"t"), text(payload), token.clone()].concat();
    // Flags: user name 0x80, will 0x04, will QoS 0x18, will retain 0x20, clean 0x02, reserved 0x01.
    let rows: [(&str, u8, Vec<u8>); 4] = [
        ("reserved bit", 0x83, token.clone()),
        ("will QoS 3", 0x9E, will(b"w")),
        ("will QoS without will", 0x8A, token.clone()),
        ("will retain without will", 0xA2, token.clone()),
    ];
    for (what, flags, tail) in rows {
        for version in BOTH {
            let mut client = Mqtt::open(&server.mqtt, version);
            client.send(0x10, &connect(version, flags, 60, &[], "c", &tail));
            match (version, answer(&mut client)) {
                (Version::V311, Heard::Closed) | (Version::V5, Heard::ConnAck { code: 0x81 | 0x82, .. }) => {}
                (version, other) => panic!("{what}, {version:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn the_first_packet_is_a_connect_and_there_is_only_one() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("d");
    for first in [0x00, 0x20, 0x30, 0x40, 0x82, 0xC0, 0xD0, 0xE0, 0xF0] {
        let mut client = Mqtt::open(&server.mqtt, Version::V311);
        client.send(first, &[0, 1, 0, 0]);
        assert_eq!(client.hear(), Heard::Closed, "{first:#x}");
    }
    for version in BOTH {
        let mut client = Mqtt::connect(&server.mqtt, version, &device.token);
        client.send(0x10, &connect(version, 0x82, 60, &[], "again", &text(device.token.as_bytes())));
        ended(&mut client, version, 0x82);
    }
    // Level 3 called itself MQIsdp; levels to come are told so.
    let mut old = Mqtt::open(&server.mqtt, Version::V311);
    let mut body = text(b"MQIsdp");
    body.extend([3, 0x82, 0, 60]);
    body.extend(text(b"c"));
    body.extend(text(device.token.as_bytes()));
    old.send(0x10, &body);
    assert!(matches!(old.hear(), Heard::ConnAck { code: 1, .. }));
    let mut other = Mqtt::open(&server.mqtt, Version::V311);
    let mut body = text(b"HTTP");
    body.extend([4, 2, 0, 60, 0, 1, b'c']);
    other.send(0x10, &body);
    assert_eq!(other.hear(), Heard::Closed, "another protocol");
}

#[test]
fn packets_sent_right_behind_connect_wait_for_its_answer() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("d");
    for (token, good) in [(device.token.as_str(), true), ("wrong", false)] {
        let mut client = Mqtt::open(&server.mqtt, Version::V5);
        let hello = connect(Version::V5, 0x82, 60, &[], "c", &text(token.as_bytes()));
        let claim = publish(Version::V5, CLAIM, 1, &[], b"{}");
        let mut bytes = vec![0x10, u8::try_from(hello.len()).expect("short")];
        bytes.extend(hello);
        bytes.extend([0x32, u8::try_from(claim.len()).expect("short")]);
        bytes.extend(claim);
        client.raw(&bytes);
        let connack = client.hear();
        assert_eq!(matches!(connack, Heard::ConnAck { code: 0, .. }), good, "{connack:?}");
        match good {
            true => assert!(matches!(client.hear(), Heard::PubAck { id: 1, code: 0, .. })),
            false => assert_eq!(client.hear(), Heard::Closed),
        }
    }
}

#[test]
fn server_only_packets_and_wrong_flags_end_the_connection() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("d");
    for version in BOTH {
        for first in [0x00, 0x20, 0x90, 0xB0, 0xD0, 0x80, 0xA0, 0x60, 0xC1, 0xE1] {
            let mut client = Mqtt::connect(&server.mqtt, version, &device.token);
            client.send(first, &[0, 1, 0]);
            let heard = answer(&mut client);
            let fits = match version {
                Version::V5 => matches!(heard, Heard::Disconnect { code: 0x81 | 0x82 }),
                Version::V311 => heard == Heard::Closed,
            };
            assert!(fits, "{first:#x} in {version:?}: {heard:?}");
        }
    }
}

#[test]
fn publishes_that_break_a_rule_end_the_connection_with_its_code() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("d");
    let alias = |number: u16| [vec![0x23], number.to_be_bytes().to_vec()].concat();
    let rows: Vec<(&str, u8, Vec<u8>, u8)> = vec![
        ("packet id 0", 0x32, publish(Version::V5, CLAIM, 0, &[], b""), 0x82),
        ("QoS 3", 0x36, publish(Version::V5, CLAIM, 1, &[], b""), 0x81),
        ("QoS 2 above Maximum QoS", 0x34, publish(Version::V5, CLAIM, 1, &[], b""), 0x9B),
        ("retain, which is not available", 0x33, publish(Version::V5, CLAIM, 1, &[], b""), 0x9A),
        ("wildcard in the topic", 0x32, publish(Version::V5, "v1/devices/+/claim", 1, &[], b""), 0x90),
        ("alias 0", 0x32, publish(Version::V5, CLAIM, 1, &alias(0), b""), 0x94),
        ("alias above the maximum", 0x32, publish(Version::V5, CLAIM, 1, &alias(9), b""), 0x94),
        ("unknown alias", 0x32, publish(Version::V5, "", 1, &alias(3), b""), 0x94),
        ("no topic and no alias", 0x32, publish(Version::V5, "", 1, &[], b""), 0x82),
    ];
    for (what, first, body, code) in rows {
        let mut client = Mqtt::connect(&server.mqtt, Version::V5, &device.token);
        client.send(first, &body);
        let heard = answer(&mut client);
        let close = |said: u8| said == code || (matches!(code, 0x81 | 0x82) && matches!(said, 0x81 | 0x82));
        assert!(matches!(heard, Heard::Disconnect { code } if close(code)), "{what}: {heard:?}");
    }
}

#[test]
fn a_topic_alias_stands_for_its_topic_as_long_as_the_connection_lives() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("d");
    let mut client = Mqtt::connect(&server.mqtt, Version::V5, &device.token);
    client.send(0x32, &publish(Version::V5, CLAIM, 1, &[0x23, 0, 8], br#"{"secretKey":"one"}"#));
    assert!(matches!(answer(&mut client), Heard::PubAck { id: 1, code: 0, .. }));
    client.send(0x32, &publish(Version::V5, "", 2, &[0x23, 0, 8], br#"{"secretKey":"two"}"#));
    assert!(matches!(answer(&mut client), Heard::PubAck { id: 2, code: 0, .. }));
    assert_eq!(world.alice.client.claim("d", "two").status, 200);
}

#[test]
fn acks_leave_in_publish_order_though_some_need_no_work() {
    let server = Server::start();
    let world = World::new(&server);
    for version in BOTH {
        let device = world.device(&format!("{version:?}"));
        let mut client = Mqtt::connect(&server.mqtt, version, &device.token);
        for id in 1..=60 {
            let topic = if id % 3 == 0 { "v1/devices/me/telemetry" } else { CLAIM };
            client.send(0x32, &publish(version, topic, id, &[], b"{}"));
        }
        for expected in 1..=60 {
            let Heard::PubAck { id, .. } = answer(&mut client) else { panic!("{version:?}: ack {expected}") };
            assert_eq!(id, expected, "{version:?}");
        }
    }
}

#[test]
fn qos_2_in_3_1_1_is_stored_before_pubrec_and_a_repeat_is_not_submitted_again() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("d");
    let mut client = Mqtt::connect(&server.mqtt, Version::V311, &device.token);
    let accepted = r#"claimd_submissions_total{transport="mqtt",source="device",outcome="accepted"}"#;
    let exactly_once = publish(Version::V311, CLAIM, 7, &[], br#"{"secretKey":"s"}"#);
    client.send(0x34, &exactly_once);
    assert_eq!(answer(&mut client), Heard::Other { first: 0x50, body: vec![0, 7] }, "PUBREC");
    assert_eq!(server.metric(accepted), 1.0);
    client.send(0x3C, &exactly_once);
    assert_eq!(answer(&mut client), Heard::Other { first: 0x50, body: vec![0, 7] }, "PUBREC again");
    assert_eq!(server.metric(accepted), 1.0, "the repeat is the same message");
    for _ in 0..2 {
        client.send(0x62, &[0, 7]);
        assert_eq!(answer(&mut client), Heard::Other { first: 0x70, body: vec![0, 7] }, "PUBREL always gets PUBCOMP");
    }
    client.send(0x34, &exactly_once);
    assert_eq!(answer(&mut client), Heard::Other { first: 0x50, body: vec![0, 7] });
    assert_eq!(server.metric(accepted), 2.0, "after PUBREL the id is free for another message");
    assert_eq!(world.alice.client.claim("d", "s").status, 200);
}

#[test]
fn the_same_credential_and_client_id_takes_over_and_another_credential_does_not() {
    let server = Server::start();
    let world = World::new(&server);
    let (a, b) = (world.device("a"), world.device("b"));
    for version in BOTH {
        let connect_as = |token: &str| {
            let mut client = Mqtt::open(&server.mqtt, version);
            assert!(matches!(client.hello("one id", Some(token), None), Heard::ConnAck { code: 0, .. }));
            client
        };
        let mut first = connect_as(&a.token);
        let mut stranger = connect_as(&b.token);
        let mut second = connect_as(&a.token);
        ended(&mut first, version, 0x8E);
        assert!(matches!(stranger.ask(CLAIM, b"{}"), Heard::PubAck { code: 0, .. }), "{version:?}");
        assert!(matches!(second.ask(CLAIM, b"{}"), Heard::PubAck { code: 0, .. }), "{version:?}");
        // The late end of the first must not take the second's place with it.
        let mut third = connect_as(&a.token);
        ended(&mut second, version, 0x8E);
        assert!(matches!(third.ask(CLAIM, b"{}"), Heard::PubAck { code: 0, .. }), "{version:?}");
    }
}

#[test]
fn silence_beyond_the_keep_alive_ends_the_connection_and_the_server_bounds_it() {
    let server = Server::with(&[("CLAIMD_MQTT__KEEP_ALIVE_MAX", "1s")]);
    let world = World::new(&server);
    let token = world.device("d").token;
    for version in BOTH {
        for asked in [0, 1, 600] {
            let mut client = Mqtt::open(&server.mqtt, version);
            client.send(0x10, &connect(version, 0x82, asked, &[], "c", &text(token.as_bytes())));
            let Heard::ConnAck { code: 0, properties, .. } = client.hear() else { panic!("refused") };
            if version == Version::V5 {
                // Property 0x13, Server Keep Alive, where ours is another.
                let told = properties.windows(3).any(|window| window == [0x13, 0, 1]);
                assert_eq!(told, asked != 1, "asked for {asked}: {properties:?}");
            }
            ended(&mut client, version, 0x8D);
        }
    }
}

#[test]
fn a_ping_is_answered() {
    let server = Server::start();
    let world = World::new(&server);
    let token = world.device("d").token;
    for version in BOTH {
        let mut client = Mqtt::connect(&server.mqtt, version, &token);
        client.send(0xC0, &[]);
        assert_eq!(answer(&mut client), Heard::Other { first: 0xD0, body: Vec::new() });
    }
}

#[test]
fn subscriptions_are_granted_filter_by_filter() {
    let server = Server::start();
    let world = World::new(&server);
    let token = world.device("d").token;
    let wanted = [
        ("v1/devices/me/attributes", 1),
        ("v1/devices/me/rpc/request/+", 0),
        ("v1/devices/me/claim/state", 2),
        ("somebody/else", 1),
        ("#", 1),
    ];
    let mut client = Mqtt::connect(&server.mqtt, Version::V5, &token);
    client.send(0x82, &subscribe(Version::V5, 9, &[], &wanted));
    let Heard::SubAck { id: 9, codes } = answer(&mut client) else { panic!("no SUBACK") };
    assert_eq!(codes[..4], [1, 0, 1, 0x8F]);
    assert!(codes[4] >= 0x80, "{codes:?}");
    let mut client = Mqtt::connect(&server.mqtt, Version::V311, &token);
    client.send(0x82, &subscribe(Version::V311, 9, &[], &wanted));
    assert_eq!(answer(&mut client), Heard::SubAck { id: 9, codes: vec![1, 0, 1, 0x80, 0x80] });
    // The connection is kept either way.
    assert!(matches!(client.ask(CLAIM, b"{}"), Heard::PubAck { .. }));
}

#[test]
fn what_is_not_offered_about_subscriptions_is_said() {
    let server = Server::start();
    let world = World::new(&server);
    let token = world.device("d").token;
    let code = |filter: &str| {
        let mut client = Mqtt::connect(&server.mqtt, Version::V5, &token);
        client.send(0x82, &subscribe(Version::V5, 1, &[], &[(filter, 1)]));
        match answer(&mut client) {
            Heard::SubAck { codes, .. } => codes[0],
            other => panic!("{filter}: {other:?}"),
        }
    };
    assert_eq!(code("$share/group/v1/devices/me/attributes"), 0x9E);
    assert_eq!(code("v1/devices/me/+"), 0xA2);
    for bad in ["a#", "a/#/b", "a+/b"] {
        assert_eq!(code(bad), 0x8F, "{bad}");
    }
    let mut client = Mqtt::connect(&server.mqtt, Version::V5, &token);
    client.send(0x82, &subscribe(Version::V5, 1, &[0x0B, 1], &[("v1/devices/me/attributes", 1)]));
    ended(&mut client, Version::V5, 0xA1);
    let mut client = Mqtt::connect(&server.mqtt, Version::V311, &token);
    client.send(0x82, &subscribe(Version::V311, 1, &[], &[("a#", 1)]));
    assert_eq!(answer(&mut client), Heard::Closed, "bad grammar in 3.1.1");
}

#[test]
fn unsubscribing_is_always_answered_and_says_if_there_was_nothing() {
    let server = Server::start();
    let world = World::new(&server);
    let token = world.device("d").token;
    let mut client = Mqtt::connect(&server.mqtt, Version::V5, &token);
    client.subscribe("v1/devices/me/attributes");
    let mut body = vec![0, 5, 0];
    body.extend(text(b"v1/devices/me/attributes"));
    body.extend(text(b"never/there"));
    client.send(0xA2, &body);
    assert_eq!(answer(&mut client), Heard::Other { first: 0xB0, body: vec![0, 5, 0, 0, 0x11] });
}

#[test]
fn other_topics_never_cost_a_stock_device_its_connection() {
    let server = Server::start();
    let world = World::new(&server);
    let token = world.device("d").token;
    let mut client = Mqtt::connect(&server.mqtt, Version::V5, &token);
    for topic in ["v1/devices/me/telemetry", "v1/devices/me/attributes", "v2/t", "v1/devices/me/rpc/response/1"] {
        assert!(matches!(client.ask(topic, b"{}"), Heard::PubAck { code: 0x10, .. }), "{topic}");
    }
    for topic in ["nothing/of/ours", "\u{e9}/x"] {
        assert!(matches!(client.ask(topic, b"{}"), Heard::PubAck { code: 0x90, .. }), "{topic}");
    }
    assert!(matches!(client.ask("v1/gateway/claim", br#"{"a":{}}"#), Heard::PubAck { code: 0x87, .. }), "no gateway");
    let mut client = Mqtt::connect(&server.mqtt, Version::V311, &token);
    for topic in ["v1/devices/me/telemetry", "nothing/of/ours"] {
        assert!(matches!(client.ask(topic, b"{}"), Heard::PubAck { .. }), "{topic}");
    }
    assert_eq!(client.ask("v1/gateway/claim", br#"{"a":{}}"#), Heard::Closed);
}

#[test]
fn a_stock_devices_questions_are_answered() {
    let server = Server::start();
    let world = World::new(&server);
    let token = world.device("d").token;
    let mut client = Mqtt::connect(&server.mqtt, Version::V5, &token);
    client.subscribe("v1/devices/me/rpc/response/+");
    client.subscribe("v1/devices/me/attributes/response/+");
    let ask = |client: &mut Mqtt, topic: &str, body: &str| {
        client.publish(topic, body.as_bytes());
        loop {
            if let Heard::Publish { topic, payload } = client.hear() {
                return (topic, serde_json::from_slice::<Value>(&payload).expect("JSON"));
            }
        }
    };
    let limits = r#"{"method":"getSessionLimits","params":{"timeout":5000}}"#;
    let (topic, said) = ask(&mut client, "v1/devices/me/rpc/request/1", limits);
    assert_eq!(topic, "v1/devices/me/rpc/response/1");
    assert_eq!(said["maxPayloadSize"], 65_536);
    assert_eq!(said["rateLimits"]["messages"], "60:60");
    let (topic, said) = ask(&mut client, "v1/devices/me/attributes/request/4", r#"{"sharedKeys":"claimState"}"#);
    assert_eq!(topic, "v1/devices/me/attributes/response/4");
    assert_eq!(said["shared"]["claimState"], "NONE");
}

#[test]
fn a_will_is_never_a_claim() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("d");
    for version in BOTH {
        let mut client = Mqtt::open(&server.mqtt, version);
        let mut tail = Vec::new();
        if version == Version::V5 {
            tail.push(0);
        }
        tail.extend(text(CLAIM.as_bytes()));
        tail.extend(text(br#"{"secretKey":"from the will"}"#));
        tail.extend(text(device.token.as_bytes()));
        client.send(0x10, &connect(version, 0x86, 60, &[], "c", &tail));
        assert!(matches!(client.hear(), Heard::ConnAck { code: 0, .. }), "a will is accepted");
        drop(client);
    }
    eventually("both are gone", || (server.metric("claimd_connections{transport=\"mqtt\"}") == 0.0).then_some(()));
    let state = crate::harness::Client::stranger(&server.http).get(&format!("/api/v1/{}/claim", device.token)).ok();
    assert_eq!(state["claimState"], "NONE");
}

#[test]
fn without_problem_information_there_are_no_reason_strings() {
    let server = Server::start();
    let world = World::new(&server);
    let token = world.device("d").token;
    for (wanted, properties) in [(true, &[][..]), (false, &[0x17, 0][..])] {
        let mut client = Mqtt::open(&server.mqtt, Version::V5);
        client.send(0x10, &connect(Version::V5, 0x82, 60, properties, "c", &text(token.as_bytes())));
        assert!(matches!(client.hear(), Heard::ConnAck { code: 0, .. }));
        client.send(0x32, &publish(Version::V5, CLAIM, 1, &[], b"["));
        let Heard::PubAck { code: 0x99, properties, .. } = answer(&mut client) else { panic!("refused") };
        assert_eq!(!properties.is_empty(), wanted, "{properties:?}");
    }
}

#[test]
fn a_drain_answers_what_is_in_flight_and_says_goodbye() {
    let mut server = Server::start();
    let world = World::new(&server);
    let (a, b) = (world.device("a"), world.device("b"));
    let mut five = Mqtt::connect(&server.mqtt, Version::V5, &a.token);
    let mut three = Mqtt::connect(&server.mqtt, Version::V311, &b.token);
    assert!(matches!(five.ask(CLAIM, b"{}"), Heard::PubAck { code: 0, .. }));
    assert!(matches!(three.ask(CLAIM, b"{}"), Heard::PubAck { .. }));
    assert_eq!(server.stop(), Some(0));
    ended(&mut five, Version::V5, 0x8B);
    ended(&mut three, Version::V311, 0);
}
