//! Hostile and broken peers: whatever they send or do not send, honest clients are served, memory stays bounded, and
//! nothing panics.

use std::io::Write;
use std::net::{TcpStream, UdpSocket};

use crate::harness::{Client, Coap, Heard, Mqtt, Server, Version, World, eventually, raw_http};

/// What one server may grow by under any of these attacks, KiB.
const GROWTH: u64 = 64 * 1024;

fn rss(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("the process lives");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("KiB")
}

/// Honest clients of every transport are served now.
fn serves(server: &Server, world: &World, name: &str) {
    for (n, speak) in ["mqtt", "coap", "http"].into_iter().enumerate() {
        let name = format!("{name} {speak}");
        let device = world.device(&name);
        let body = br#"{"secretKey":"s"}"#;
        match n {
            0 => {
                let mut client = Mqtt::connect(&server.mqtt, Version::V5, &device.token);
                assert!(matches!(client.ask("v1/devices/me/claim", body), Heard::PubAck { code: 0, .. }));
            }
            1 => assert_eq!(Coap::open(&server.coap).claim(&device.token, body).code, (2, 1)),
            _ => {
                let path = format!("/api/v1/{}/claim", device.token);
                let text = std::str::from_utf8(body).expect("UTF-8");
                assert_eq!(Client::stranger(&server.http).send("POST", &path, &[], text).status, 200);
            }
        }
        assert_eq!(world.alice.client.claim(&name, "s").status, 200, "{name}");
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn silent_and_half_open_connections_delay_nobody() {
    let server = Server::start();
    let world = World::new(&server);
    let before = rss(&server);
    let mut silent = Vec::new();
    for n in 0..900 {
        let address = [&server.mqtt, &server.http, &server.ws][n % 3].trim_end_matches("/mqtt");
        let mut stream = TcpStream::connect(address).expect("a connection");
        // A third says nothing, a third begins a packet or request and stops, a third claims a huge one.
        match n / 3 % 3 {
            0 => {}
            1 => drop(stream.write_all(if n % 3 == 0 { b"\x10\x20\x00\x04MQ" } else { b"GET / HTTP/1.1\r\nHo" })),
            _ => drop(stream.write_all(if n % 3 == 0 {
                b"\x10\xff\xff\xff\x7f"
            } else {
                b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n"
            })),
        }
        silent.push(stream);
    }
    serves(&server, &world, "beside silence");
    let grown = rss(&server).saturating_sub(before);
    assert!(grown < GROWTH, "900 silent peers cost {grown} KiB");
}

#[test]
fn beyond_the_cap_the_oldest_silent_connection_goes_first() {
    let server =
        Server::with(&[("CLAIMD_LIMITS__UNAUTHENTICATED", "20"), ("CLAIMD_LIMITS__UNAUTHENTICATED_PER_ADDRESS", "20")]);
    let world = World::new(&server);
    let mut silent: Vec<Mqtt> = (0..60).map(|_| Mqtt::open(&server.mqtt, Version::V5)).collect();
    serves(&server, &world, "over the cap");
    assert_eq!(silent[0].hear(), Heard::Closed, "the oldest was closed");
}

#[test]
fn malformed_mqtt_closes_that_connection_only() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("target");
    // Before CONNECT: server-only packets, the reserved type, a broken length, a CONNECT of the wrong shape.
    for bytes in [
        &b"\x20\x02\x00\x00"[..],
        b"\x00\x00",
        b"\xf0\x00",
        b"\x10\xff\xff\xff\xff\x7f",
        b"\x10\x00",
        b"\x10\x0c\x00\x04MQTT\x04\x03\x00\x3c\x00\x00",
        b"\x10\x0c\x00\x04MQXX\x04\x02\x00\x3c\x00\x00",
        b"\x30\x05\x00\x03a/bx",
        b"\x1f\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut client = Mqtt::open(&server.mqtt, Version::V311);
        client.raw(bytes);
        let heard = client.hear();
        assert!(matches!(heard, Heard::Closed | Heard::ConnAck { code: 1.., .. }), "{bytes:?}: {heard:?}");
    }
    // After CONNECT: topics that killed other servers, packet id 0, QoS 3, a second CONNECT, server-only packets.
    for bytes in [
        &b"\x32\x04\x00\x00\x00\x01"[..],
        b"\x32\x07\x00\x01#\x00\x01xy",
        b"\x32\x05\x00\x01a\x00\x00",
        b"\x36\x05\x00\x01a\x00\x01",
        b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
        b"\x20\x02\x00\x00",
        b"\x82\x05\x00\x01\x00\x00\x01",
        b"\x80\x06\x00\x01\x00\x01a\x01",
        b"\x30\x03\x00\x01\xff",
    ] {
        let mut client = Mqtt::connect(&server.mqtt, Version::V311, &device.token);
        client.raw(bytes);
        assert_eq!(client.hear(), Heard::Closed, "{bytes:?}");
    }
    // A multi-byte topic is only an unknown one.
    let mut client = Mqtt::connect(&server.mqtt, Version::V5, &device.token);
    assert!(matches!(client.ask("é/x", b""), Heard::PubAck { code: 0x90, .. }));
    serves(&server, &world, "after malformed MQTT");
}

#[test]
fn malformed_coap_is_answered_with_a_reset_or_silence() {
    let server = Server::start();
    let world = World::new(&server);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for _ in 0..20_000 {
        let length = (random() % 64) as usize;
        let mut bytes: Vec<u8> = (0..length).map(|_| random() as u8).collect();
        if let Some(first) = bytes.first_mut() {
            *first = 0x40 | (*first & 0x3f);
        }
        socket.send_to(&bytes, &server.coap).expect("sent");
    }
    serves(&server, &world, "after malformed CoAP");
}

#[test]
fn a_spoofed_source_gets_no_more_than_three_times_what_it_sent() {
    let server = Server::start();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(std::time::Duration::from_millis(300))).expect("a time-out");
    // GET /.well-known/core in as few bytes as possible, from an address that has proven nothing.
    let request = b"\x40\x01\x12\x34\xbb.well-known\x04core";
    socket.send_to(request, &server.coap).expect("sent");
    let mut received = 0;
    let mut buffer = [0; 2048];
    while let Ok(length) = socket.recv(&mut buffer) {
        received += length;
    }
    assert!(received > 0 && received <= 3 * request.len(), "{received} bytes for {}", request.len());
}

#[test]
fn oversized_and_odd_http_is_refused_with_a_clear_status() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("odd");
    let token = &device.token;
    let long = "x".repeat(70_000);
    let cases = [
        (format!("POST /api/v1/{token}/claim HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n"), 413),
        (format!("POST /api/v1/{long}/claim HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"), 414),
        (format!("POST /api/v1/{token}/claim HTTP/1.1\r\nHost: x\r\nX: {long}\r\nContent-Length: 0\r\n\r\n"), 431),
        (format!("PUT /api/v1/{token}/claim HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"), 405),
        ("POST /api/v1/no-such-token/claim HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".to_owned(), 401),
        (format!("POST /api/v1/{token}/telemetry HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"), 404),
        ("nonsense\r\n\r\n".to_owned(), 400),
    ];
    for (head, expected) in cases {
        let body = if expected == 413 { "y".repeat(65_537) } else { String::new() };
        let (status, _) = raw_http(&server.http, &head, body.as_bytes());
        assert_eq!(status, expected, "{}", &head[..head.len().min(60)]);
    }
    serves(&server, &world, "after odd HTTP");
}

#[test]
fn refused_credentials_lock_an_address_out_for_a_while() {
    let server = Server::with(&[("CLAIMD_LIMITS__AUTH_LOCKOUT", "1s")]);
    let world = World::new(&server);
    let device = world.device("d");
    for _ in 0..30 {
        let heard = Mqtt::open(&server.mqtt, Version::V5).hello("", Some("guess"), None);
        assert!(matches!(heard, Heard::ConnAck { code: 0x86, .. }), "{heard:?}");
    }
    let heard = Mqtt::open(&server.mqtt, Version::V5).hello("", Some(&device.token), None);
    assert!(matches!(heard, Heard::ConnAck { code: 0x9f, .. }), "{heard:?}");
    let path = format!("/api/v1/{}/claim", device.token);
    let locked = Client::stranger(&server.http).send("POST", &path, &[], "");
    assert!(locked.status == 429 && locked.header("Retry-After").is_some(), "{locked:?}");
    eventually("the lock-out ends", || {
        (Client::stranger(&server.http).send("POST", &path, &[], "").status == 200).then_some(())
    });
}

#[test]
fn no_secret_token_or_password_reaches_the_log() {
    let server = Server::with(&[("CLAIMD_LOG__LEVEL", "trace")]);
    let world = World::new(&server);
    let device = world.device("quiet");
    let path = format!("/api/v1/{}/claim", device.token);
    let body = r#"{"secretKey":"MARKER-SECRET-1"}"#;
    assert_eq!(Client::stranger(&server.http).send("POST", &path, &[], body).status, 200);
    assert_eq!(Coap::open(&server.coap).claim(&device.token, body.as_bytes()).code, (2, 1));
    Mqtt::connect(&server.mqtt, Version::V5, &device.token).ask("v1/devices/me/claim", body.as_bytes());
    Mqtt::open(&server.mqtt, Version::V311).hello("MARKER-CLIENT", Some("MARKER-TOKEN"), Some("MARKER-PASSWORD"));
    world.alice.client.claim("quiet", "MARKER-SECRET-2");
    world.alice.client.claim("quiet", "MARKER-SECRET-1");
    Client::stranger(&server.http)
        .post("/api/auth/login", &serde_json::json!({"username": "x", "password": "MARKER-PASSWORD"}));
    let log = server.log();
    assert!(!log.is_empty(), "there is a log to look at");
    for marker in [
        "MARKER-SECRET",
        "MARKER-TOKEN",
        "MARKER-PASSWORD",
        device.token.as_str(),
        crate::harness::server::ADMIN_PASSWORD,
    ] {
        assert!(!log.contains(marker), "`{marker}` is in the log");
    }
    // Nor at rest, in the clear or as bytes.
    let marks = ["MARKER-SECRET", device.token.as_str(), crate::harness::server::ADMIN_PASSWORD];
    server.nothing_stored_has(&marks.map(str::as_bytes));
}

/// Thousands of bodies and sources, none of them good: memory stays where it was, and honest clients are served.
#[test]
fn thousands_of_bad_bodies_and_spoofed_sources_leave_no_memory_behind() {
    let server = Server::with(&[("CLAIMD_LIMITS__SUBMIT_PER_DEVICE", "1000000")]);
    let world = World::new(&server);
    let device = world.device("abused");
    serves(&server, &world, "before");
    let before = rss(&server);
    let deep = "[".repeat(30_000);
    let bodies = [deep.as_str(), r#"{"secretKey":"a","secretKey":"b"}"#, "{", "\u{e9}", r#"{"x":1,"x":1}"#];
    let mut client = Mqtt::connect(&server.mqtt, Version::V5, &device.token);
    for round in 0..3_000 {
        let heard = client.ask("v1/devices/me/claim", bodies[round % bodies.len()].as_bytes());
        assert!(matches!(heard, Heard::PubAck { code: 0x99, .. }), "{heard:?}");
    }
    let http = Client::stranger(&server.http);
    let path = format!("/api/v1/{}/claim", device.token);
    for round in 0..1_000 {
        assert_eq!(http.send("POST", &path, &[], bodies[round % bodies.len()]).status, 400);
    }
    // Each source begins a body in blocks, which nobody may before it has shown that it is there.
    let request = b"\x40\x02\x12\x34\xb3api\x02v1\x05wrong\x05claim\xd1\x03\x08\xff0123456789abcdef";
    for source in 0..4_000_u32 {
        let address = format!("127.1.{}.{}:0", source / 250, 1 + source % 250);
        let socket = UdpSocket::bind(address).expect("a loopback address");
        socket.send_to(request, &server.coap).expect("sent");
    }
    serves(&server, &world, "after");
    let grown = rss(&server).saturating_sub(before);
    assert!(grown < GROWTH, "{grown} KiB");
}
