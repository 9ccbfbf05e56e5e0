//! The promises with pending claims and wrong tries on a Redis server.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::RedisServer;

use crate::harness::{Client, Coap, Heard, Made, Mqtt, PATIENCE, Server, Version, World, eventually};

const ROUNDS: usize = 300;

/// A node on this store, with limits that do not stop a test's rounds.
fn node(store: &RedisServer, settings: &[(&str, &str)]) -> Server {
    let url = store.url();
    let mut all = vec![
        ("CLAIMD_CLAIM_CACHE__BACKEND", "redis"),
        ("CLAIMD_CLAIM_CACHE__REDIS_URL", url.as_str()),
        ("CLAIMD_LIMITS__SUBMIT_PER_DEVICE", "1000000"),
        ("CLAIMD_LIMITS__SUBMIT_PER_GATEWAY", "1000000"),
    ];
    all.extend(settings);
    Server::with(&all)
}

fn submit_http(server: &Server, token: &str, body: &str) -> u16 {
    Client::stranger(&server.http).send("POST", &format!("/api/v1/{token}/claim"), &[], body).status
}

fn readiness(server: &Server) -> (u16, Value) {
    let answer = Client::stranger(&server.admin).get("/readyz");
    (answer.status, answer.json())
}

#[test]
fn an_ack_over_every_transport_means_visible_in_the_shared_store() {
    // Each round spends a wrong try.
    let wide = ["PER_ACCOUNT", "PER_ACCOUNT_AND_DEVICE", "PER_DEVICE"].map(|key| format!("CLAIMD_ATTEMPTS__{key}"));
    let store = RedisServer::start();
    let server = node(&store, &[(&wide[0], "1000"), (&wide[1], "1000"), (&wide[2], "1000")]);
    let world = World::new(&server);
    let (device, gateway) = (world.device("round and round"), world.gateway("gw"));
    let mut v3 = Mqtt::connect(&server.mqtt, Version::V311, &device.token);
    let mut v5 = Mqtt::connect(&server.mqtt, Version::V5, &device.token);
    let mut behind = Mqtt::connect(&server.mqtt, Version::V5, &gateway.token);
    let coap = Coap::open(&server.coap);
    for round in 0..ROUNDS {
        let secret = format!("s{round}");
        let body = json!({"secretKey": secret}).to_string();
        let mut name = device.name.as_str();
        let acked = match round % 5 {
            0 => matches!(v3.ask("v1/devices/me/claim", body.as_bytes()), Heard::PubAck { .. }),
            1 => matches!(v5.ask("v1/devices/me/claim", body.as_bytes()), Heard::PubAck { code: 0, .. }),
            2 => coap.claim(&device.token, body.as_bytes()).code == (2, 1),
            3 => submit_http(&server, &device.token, &body) == 200,
            _ => {
                name = "child";
                let batch = json!({"child": {"secretKey": secret}, "other child": {"secretKey": secret}}).to_string();
                matches!(behind.ask("v1/gateway/claim", batch.as_bytes()), Heard::PubAck { code: 0, .. })
            }
        };
        assert!(acked, "round {round}: not acked");
        assert_eq!(world.alice.client.claim(name, &secret).status, 200, "round {round}");
        assert_eq!(world.alice.client.unclaim(name).status, 200, "round {round}");
        assert_ne!(world.alice.client.claim(name, &secret).status, 200, "round {round}: spent evidence");
    }
}

#[test]
fn kill_dash_nine_loses_no_claim_that_was_acked_into_the_shared_store() {
    const WRITERS: usize = 3;
    let store = RedisServer::start();
    let mut server = node(&store, &[("CLAIMD_ATTEMPTS__PER_ACCOUNT", "100000")]);
    let mut world = World::new(&server);
    for cycle in 0..4 {
        let devices: Vec<Made> = (0..WRITERS * 60).map(|n| world.device(&format!("crash {cycle} {n}"))).collect();
        // Whoever gets no ack has no claim that must be there.
        let acked: Vec<&Made> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let (server, devices) = (&server, &devices);
                    scope.spawn(move || {
                        let coap = Coap::open(&server.coap);
                        let mine = devices.iter().skip(writer).step_by(WRITERS);
                        let mut acked = Vec::new();
                        for device in mine {
                            let body = json!({"secretKey": device.token}).to_string();
                            let said = match writer {
                                0 => coap.try_claim(&device.token, body.as_bytes()).map(|code| code == (2, 1)),
                                _ => Mqtt::try_claim(&server.mqtt, &device.token, body.as_bytes()),
                            };
                            match said {
                                Some(true) => acked.push(device),
                                Some(false) => panic!("{}: refused", device.name),
                                None => break,
                            }
                        }
                        acked
                    })
                })
                .collect();
            eventually("some load", || {
                let held = store.say(&["KEYS", "claimd:c*"]).matches("claimd:c").count();
                (held >= 40 + 20 * cycle).then_some(())
            });
            let killed = Command::new("kill").args(["-KILL", &server.pid().to_string()]).status();
            assert!(killed.expect("kill").success());
            writers.into_iter().flat_map(|writer| writer.join().expect("no panic")).collect()
        });
        server.reap();
        server.launch();
        world = world.moved(&server);
        assert!(acked.len() >= 30, "cycle {cycle}: {} acked", acked.len());
        for device in acked {
            let answer = world.alice.client.claim(&device.name, &device.token);
            assert_eq!(answer.status, 200, "cycle {cycle}: the acked claim of {} is lost: {answer:?}", device.name);
        }
        // The next cycle counts from nothing.
        for device in &devices {
            world.maker.delete(&format!("/api/device/{}", device.id));
        }
        store.say(&["FLUSHALL"]);
    }
}

#[test]
fn while_the_shared_store_is_away_nothing_is_acked_or_judged_and_all_heals_by_itself() {
    let mut store = RedisServer::with(&[("appendonly", "yes"), ("appendfsync", "always")]);
    let server = node(&store, &[]);
    let world = World::new(&server);
    let (before, during) = (world.device("before"), world.device("during"));
    assert_eq!(submit_http(&server, &before.token, r#"{"secretKey":"s"}"#), 200);
    assert_eq!(readiness(&server).0, 200);
    store.kill();
    let coap = Coap::open(&server.coap);
    let asked = Instant::now();
    assert_eq!(submit_http(&server, &during.token, r#"{"secretKey":"s"}"#), 503);
    assert_eq!(coap.claim(&during.token, br#"{"secretKey":"s"}"#).code, (5, 3));
    assert_eq!(world.alice.client.claim("before", "s").status, 503, "never refused for want of a store");
    assert_eq!(world.alice.client.claim("before", "wrong").status, 503, "and nothing is judged");
    assert!(asked.elapsed() < PATIENCE / 2);
    let (status, ready) = readiness(&server);
    assert_eq!((status, &ready["claim_cache"], &ready["registry"]), (503, &json!("down"), &json!("up")));
    store.start_again();
    eventually("the store is used again", || (readiness(&server).0 == 200).then_some(()));
    assert_eq!(submit_http(&server, &during.token, r#"{"secretKey":"s"}"#), 200);
    for name in ["before", "during"] {
        assert_eq!(world.alice.client.claim(name, "s").status, 200, "{name}");
    }
}

#[test]
fn wrong_tries_outlive_a_killed_node_and_an_emptied_store() {
    let store = RedisServer::start();
    let mut server = node(&store, &[]);
    let world = World::new(&server);
    let device = world.device("guessed at");
    assert_eq!(submit_http(&server, &device.token, r#"{"secretKey":"right"}"#), 200);
    for _ in 0..3 {
        assert_eq!(world.alice.client.claim(&device.name, "wrong").status, 400);
    }
    server.kill_dash_nine();
    store.say(&["FLUSHALL"]);
    server.launch();
    let world = world.moved(&server);
    assert_eq!(submit_http(&server, &device.token, r#"{"secretKey":"right"}"#), 200);
    assert_eq!(world.alice.client.claim(&device.name, "wrong").status, 400);
    // Emptied while the node runs.
    store.say(&["FLUSHALL"]);
    assert_eq!(submit_http(&server, &device.token, r#"{"secretKey":"right"}"#), 200);
    assert_eq!(world.alice.client.claim(&device.name, "wrong").status, 400);
    assert_eq!(world.alice.client.claim(&device.name, "wrong").status, 429, "five are five");
    assert_eq!(world.bob.client.claim(&device.name, "right").status, 200, "the guesser alone pays");
}

#[test]
fn a_device_hears_that_its_claim_in_the_shared_store_has_ended() {
    let store = RedisServer::start();
    let server = node(&store, &[]);
    let world = World::new(&server);
    let device = world.device("patient");
    let mut client = Mqtt::connect(&server.mqtt, Version::V5, &device.token);
    client.subscribe("v1/devices/me/claim/state");
    client.publish("v1/devices/me/claim", br#"{"secretKey":"s","durationMs":1000}"#);
    let mut states = Vec::new();
    while states.last().map(String::as_str) != Some("NONE") || states.len() < 2 {
        match client.hear() {
            Heard::Publish { payload, .. } => {
                let said: Value = serde_json::from_slice(&payload).expect("JSON");
                states.push(said["state"].as_str().or(said["claimState"].as_str()).expect("a state").to_owned());
            }
            Heard::PubAck { code: 0, .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(states.ends_with(&["PENDING".to_owned(), "NONE".to_owned()]), "{states:?}");
    assert_eq!(server.metric("claimd_pending_expired_total"), 1.0);
}

#[test]
fn no_secret_token_or_name_lies_in_the_shared_store() {
    let store = RedisServer::with(&[("rdbcompression", "no")]);
    let server = node(&store, &[("CLAIMD_LOG__LEVEL", "trace")]);
    let world = World::new(&server);
    let device = world.device("MARKER-NAME");
    assert_eq!(submit_http(&server, &device.token, r#"{"secretKey":"MARKER-SECRET"}"#), 200);
    assert_eq!(world.alice.client.claim(&device.name, "MARKER-WRONG").status, 400);
    assert!(store.say(&["SAVE"]).starts_with("+OK"));
    let dump = std::fs::read(store.file("dump.rdb")).expect("a dump");
    let holds = |marker: &[u8]| dump.windows(marker.len()).any(|part| part == marker);
    assert!(holds(b"claimd:c") && holds(b"{claimd}p"), "the claim and the try are there");
    for marker in ["MARKER", device.token.as_str(), crate::harness::server::ADMIN_PASSWORD] {
        assert!(!holds(marker.as_bytes()), "`{marker}` is in the store");
        assert!(marker == "MARKER" || !server.log().contains(marker), "`{marker}` is in the log");
    }
    assert!(!server.log().contains("MARKER-SECRET"));
}

#[test]
fn a_store_that_would_evict_or_cannot_be_reached_is_refused_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = |url: &str| {
        let file = folder.path().join("url");
        std::fs::write(&file, format!("{url}\n")).expect("written");
        let output = Command::new(env!("CARGO_BIN_EXE_claimd"))
            .args(["serve", "--data-dir"])
            .arg(folder.path().join("data"))
            .env_clear()
            .env("CLAIMD_CLAIM_CACHE__BACKEND", "redis")
            .env("CLAIMD_CLAIM_CACHE__REDIS_URL_FILE", &file)
            .env("CLAIMD_HTTP__BIND", "127.0.0.1:0")
            .env("CLAIMD_ADMIN__BIND", "127.0.0.1:0")
            .stdin(Stdio::null())
            .output()
            .expect("claimd starts");
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let store = RedisServer::with(&[("maxmemory-policy", "volatile-ttl")]);
    let said = start(&store.url());
    assert!(said.contains("maxmemory-policy is volatile-ttl; it must be noeviction"), "{said}");
    let asked = Instant::now();
    let said = start("redis://claimd:hunter2@127.0.0.1:1/0");
    assert!(said.contains("claim_cache.redis_url") && !said.contains("hunter2"), "{said}");
    assert!(asked.elapsed() < Duration::from_secs(15));
    let said = start("");
    assert!(said.contains("`claim_cache.redis_url` is empty"), "{said}");
}
