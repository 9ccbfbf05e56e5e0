//! The live feed: what firmware authors and gateway integrators see of their claims while `claimd watch` runs.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::live::{LiveView, Watching, key_file};
use crate::harness::tools::{program, run, said};
use crate::harness::{Client, Mqtt, Server, Version, World, eventually, host_port};

const MARKER: &str = "M4rker-s3cret";

/// mosquitto_pub, as a device's author uses it.
fn publish(server: &Server, token: &str, topic: &str, body: &str) {
    let (host, port) = host_port(&server.mqtt);
    let mut command = program("mosquitto_pub");
    command.args([
        "-h",
        &host,
        "-p",
        &port.to_string(),
        "-V",
        "mqttv5",
        "-q",
        "1",
        "-u",
        token,
        "-t",
        topic,
        "-m",
        body,
    ]);
    let output = run(&mut command, "");
    assert!(output.status.success(), "{}", said(&output));
}

fn curl(server: &Server, token: &str, body: &str) {
    let url = format!("http://{}/api/v1/{token}/claim", server.http);
    let output = run(program("curl").args(["-sS", "--max-time", "30", "-d", body, &url]), "");
    assert!(output.status.success(), "{}", said(&output));
}

fn seen(line: &Value) -> [&str; 5] {
    ["what", "device", "by", "outcome", "reason"].map(|name| line[name].as_str().unwrap_or_default())
}

#[test]
fn whoever_watches_sees_each_claim_and_the_exact_reason_for_a_refusal() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("it's \"50%\" pump");
    let gateway = world.gateway("gw");
    world.device("foreign");
    let watching = Watching::start(&server, &world, &["--output", "jsonl"]);

    publish(&server, &device.token, "v1/devices/me/claim", &format!(r#"{{"secretKey":"{MARKER}"}}"#));
    let line = watching.json();
    assert_eq!(seen(&line), ["submit", &device.name, "device", "accepted", "new"]);
    assert_eq!(line["transport"], "mqtt");
    assert!(line["expiresAt"].is_string() && line["requestId"].is_u64(), "{line}");

    curl(&server, &device.token, &format!(r#"{{"secretKey" "{MARKER}"}}"#));
    let line = watching.json();
    assert_eq!(seen(&line), ["submit", &device.name, "device", "malformed", "not_json"]);
    assert!(line["why"].as_str().is_some_and(|why| why.ends_with("expected `:` at line 1 column 14")), "{line}");
    assert_eq!(line["transport"], "http");

    let url = format!("coap://{}/api/v1/{}/claim", server.coap, device.token);
    let body = format!(r#"{{"secretKey":["{MARKER}"]}}"#);
    run(program("coap-client-notls").args(["-B", "10", "-m", "post", "-e", &body, &url]), "");
    let line = watching.json();
    assert_eq!(seen(&line), ["submit", &device.name, "device", "malformed", "secret_type"]);
    assert_eq!(line["transport"], "coap");

    let large = "x".repeat(70_000);
    let target = format!("/api/v1/{}/claim", device.token);
    assert_eq!(Client::stranger(&server.http).send("POST", &target, &[], &large).status, 413);
    assert_eq!(seen(&watching.json()), ["submit", &device.name, "device", "malformed", "payload_bytes"]);
    for large in [65_537, 100_000] {
        Mqtt::connect(&server.mqtt, Version::V5, &device.token).ask("v1/devices/me/claim", &vec![b'x'; large]);
        let line = watching.json();
        assert_eq!(seen(&line), ["submit", &device.name, "device", "malformed", "payload_bytes"]);
        assert_eq!(line["transport"], "mqtt");
    }

    let batch = json!({"child-1": {"secretKey": MARKER}, "foreign": {"secretKey": MARKER}}).to_string();
    publish(&server, &gateway.token, "v1/gateway/claim", &batch);
    let mut entries = [watching.json(), watching.json()];
    entries.sort_by_key(|entry| entry["device"].to_string());
    assert_eq!(seen(&entries[0]), ["submit", "child-1", "gateway", "accepted", "new"]);
    assert_eq!(seen(&entries[1]), ["submit", "foreign", "gateway", "not_claimable", "not_related"]);
    assert!(entries.iter().all(|entry| entry["gateway"] == "gw"));

    assert_eq!(world.alice.client.claim(&device.name, "a guess").status, 400);
    assert_eq!(seen(&watching.json()), ["confirm", &device.name, "owner", "refused", "wrong_secret"]);
    assert_eq!(world.alice.client.claim("no-such", "a guess").status, 400);
    assert_eq!(seen(&watching.json()), ["confirm", "no-such", "owner", "refused", "unknown_name"]);
    assert_eq!(world.alice.client.claim(&device.name, MARKER).status, 200);
    assert_eq!(seen(&watching.json()), ["confirm", &device.name, "owner", "claimed", "pending_claim"]);
    assert_eq!(world.bob.client.unclaim(&device.name).status, 404);
    assert_eq!(seen(&watching.json()), ["unclaim", &device.name, "owner", "refused", "not_holder"]);
    assert_eq!(world.alice.client.unclaim(&device.name).status, 200);
    assert_eq!(seen(&watching.json()), ["unclaim", &device.name, "owner", "released", "released"]);

    watching.signal("-INT");
    let (exit, rest) = watching.end();
    assert_eq!((exit, rest), (Some(130), Vec::new()), "each thing once");
}

#[test]
fn no_secret_or_token_is_in_the_feed() {
    let server = Server::start();
    let world = World::new(&server);
    let (device, gateway) = (world.device("d"), world.gateway("gw"));
    let mut view = LiveView::open(&server, &world.maker, "");
    let http = Client::stranger(&server.http);
    let claim = |body: &str| http.send("POST", &format!("/api/v1/{}/claim", device.token), &[], body).status;
    let whole = json!({"secretKey": MARKER, "durationMs": 1000}).to_string();
    for end in 1..=whole.len().min(40) {
        claim(&whole[..end]);
    }
    for body in [format!("[\"{MARKER}\"]"), MARKER.to_owned(), format!("{{\"{MARKER}\":1,\"{MARKER}\":2}}"), whole] {
        claim(&body);
    }
    publish(&server, &gateway.token, "v1/gateway/claim", &json!({"a": {"secretKey": MARKER}, "b": MARKER}).to_string());
    world.alice.client.claim("d", &format!("{MARKER} wrong"));
    world.alice.client.claim("d", MARKER);
    world.alice.client.unclaim("d");
    let mut text = String::new();
    while !text.contains("\"released\"") {
        text += &view.line().expect("more");
    }
    assert!(text.matches("event: submit").count() > 40, "{text}");
    for secret in [MARKER, &device.token, &gateway.token, &world.alice.password] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn lines_are_chosen_by_device_and_by_reason_and_end_by_count() {
    let server = Server::start();
    let world = World::new(&server);
    let (pump, gateway) = (world.device("pump-7"), world.gateway("gw"));
    let of_gateway = Watching::start(&server, &world, &["--device", "gw", "--count", "2"]);
    let refused = ["--reason", "malformed", "--reason", "wrong_secret", "--count", "2", "--output", "table"];
    let refused = Watching::start(&server, &world, &refused);
    publish(&server, &pump.token, "v1/devices/me/claim", r#"{"secretKey":"s"}"#);
    curl(&server, &pump.token, "nonsense");
    publish(&server, &gateway.token, "v1/gateway/claim", r#"{"child-1":{},"child-2":{}}"#);
    world.alice.client.claim("pump-7", "a guess");
    let (exit, lines) = of_gateway.end();
    assert_eq!(exit, Some(0));
    let names: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).expect("a pipe gets jsonl")["device"].clone())
        .collect();
    assert_eq!(names, ["child-1", "child-2"]);
    let (exit, lines) = refused.end();
    assert_eq!(exit, Some(0));
    let words: Vec<Vec<&str>> = lines.iter().map(|line| line.split("  ").skip(1).collect()).collect();
    assert_eq!(words[0][..6], ["submit", "pump-7", "device", "http", "malformed", "not_json"]);
    assert!(words[0][6].contains("line 1 column 2"), "{lines:?}");
    assert_eq!(words[1][..5], ["confirm", "pump-7", "owner", "refused", "wrong_secret"]);
    // Scripts cut the stream off.
    let cut = Watching::start(&server, &world, &[]);
    cut.signal("-TERM");
    assert_eq!(cut.end().0, Some(130));
}

#[test]
fn the_feed_is_for_makers_and_of_their_own_tenant() {
    let server = Server::start();
    let world = World::new(&server);
    assert_eq!(world.alice.client.get("/api/claimd/v1/watch").status, 403);
    assert_eq!(Client::stranger(&server.http).get("/api/claimd/v1/watch").status, 401);
    assert_eq!(world.maker.get("/api/claimd/v1/watch?device=").status, 400);
    let view = LiveView::open(&server, &world.maker, "");
    for header in ["content-type: text/event-stream", "cache-control: no-store", "x-accel-buffering: no"] {
        assert!(view.head.to_lowercase().contains(header), "{}", view.head);
    }
    let (key, _) = key_file(&world.alice.client);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_claimd"));
    command.env_clear().env("CLAIMD_CLIENT__URL", format!("http://{}", server.http));
    command.env("CLAIMD_CLIENT__API_KEY_FILE", key.path()).arg("watch");
    let refused = run(&mut command, "");
    assert_eq!(refused.status.code(), Some(4), "{}", said(&refused));
}

#[test]
fn a_node_that_has_no_room_says_so() {
    let server = Server::with(&[("CLAIMD_OWNER_API__LIVE_VIEWERS", "1")]);
    let world = World::new(&server);
    let first = LiveView::open(&server, &world.maker, "");
    let full = world.maker.get("/api/claimd/v1/watch");
    assert_eq!(full.status, 503);
    assert!(full.header("retry-after").is_some() && full.body.contains("live view"), "{full:?}");
    let (key, _) = key_file(&world.maker);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_claimd"));
    command.env_clear().env("CLAIMD_CLIENT__URL", format!("http://{}", server.http));
    command.env("CLAIMD_CLIENT__API_KEY_FILE", key.path()).arg("watch");
    let refused = run(&mut command, "");
    assert_eq!(refused.status.code(), Some(7), "{}", said(&refused));
    drop(first);
}

#[test]
fn a_quiet_stream_outlives_every_deadline_and_a_closed_one_is_noticed() {
    let server = Server::with(&[("CLAIMD_TIMEOUTS__HTTP_HEADER", "1s"), ("CLAIMD_TIMEOUTS__HTTP_REQUEST", "1s")]);
    let world = World::new(&server);
    let device = world.device("d");
    let mut view = LiveView::open(&server, &world.maker, "");
    view.until(": nothing new");
    publish(&server, &device.token, "v1/devices/me/claim", "{}");
    assert_eq!(view.until("id: "), "id: 1\n");
    assert!(view.until("data: ").contains("\"accepted\""));
    assert_eq!(server.metric("claimd_live_viewers"), 1.0);
    drop(view);
    eventually("the place is free again", || (server.metric("claimd_live_viewers") == 0.0).then_some(()));
}

#[test]
fn a_view_too_slow_for_a_batch_is_told_how_many_it_has_missed() {
    let server = Server::with(&[("CLAIMD_OWNER_API__LIVE_QUEUE", "8")]);
    let world = World::new(&server);
    let gateway = world.gateway("gw");
    let mut view = LiveView::open(&server, &world.maker, "");
    let children: serde_json::Map<String, Value> = (0..900).map(|n| (format!("child-{n}"), json!({}))).collect();
    publish(&server, &gateway.token, "v1/gateway/claim", &Value::Object(children).to_string());
    let (mut seen, mut missed) = (0, 0);
    while seen + missed < 900 {
        let data = view.until("data: ");
        let data: Value = serde_json::from_str(data.trim_start_matches("data: ")).expect("JSON");
        match data["missed"].as_u64() {
            Some(more) => missed += more,
            None => seen += 1,
        }
    }
    assert_eq!(seen + missed, 900, "each entry is shown, or counted as missed");
    assert!(missed > 0, "a queue of 8 holds no batch of 900");
}

#[test]
fn a_key_that_is_taken_away_ends_its_streams() {
    let server = Server::start();
    let world = World::new(&server);
    let (key, id) = key_file(&world.maker);
    let bearer = std::fs::read_to_string(key.path()).expect("the key");
    let mut tool = world.maker.clone();
    tool.bearer = Some(bearer);
    let view = LiveView::open(&server, &tool, "");
    assert_eq!(world.maker.delete(&format!("/api/claimd/v1/api-keys/{id}")).status, 200);
    view.rest();
}

#[test]
fn a_drain_ends_live_views_and_watch_comes_back_after_a_restart() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let mut server = Server::with(&[("CLAIMD_HTTP__BIND", &port.to_string())]);
    let world = World::new(&server);
    let device = world.device("d");
    let view = LiveView::open(&server, &world.maker, "");
    let watching = Watching::start(&server, &world, &["--count", "1"]);
    let began = Instant::now();
    assert_eq!(server.stop(), Some(0), "{}", server.log());
    assert!(began.elapsed() < Duration::from_secs(15), "the grace of 20 s was not needed");
    view.rest();
    watching.talks("the connection was lost");
    server.launch();
    watching.talks("watching");
    publish(&server, &device.token, "v1/devices/me/claim", "{}");
    assert_eq!(seen(&watching.json()), ["submit", "d", "device", "accepted", "new"]);
    assert_eq!(watching.end().0, Some(0));
}

#[test]
fn help_says_what_can_be_watched() {
    let output =
        run(std::process::Command::new(env!("CARGO_BIN_EXE_claimd")).env_clear().args(["watch", "--help"]), "");
    insta::assert_snapshot!("help_watch", String::from_utf8_lossy(&output.stdout));
}
