//! Stock clients, unchanged: mosquitto's, libcoap's, curl, paho-mqtt, aiocoap, rumqttc, and ThingsBoard's own Python SDKs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::tools::{program, python, root, run, run_for, said};
use crate::harness::{Client, Server, World, eventually, host_port};

fn owner_claims(world: &World, name: &str, secret: &str) {
    let answer = world.alice.client.claim(name, secret);
    assert_eq!(answer.status, 200, "{name}: {answer:?}");
    assert_eq!(answer.json()["device"]["customerId"]["id"], world.alice.customer.as_str());
}

#[test]
fn mosquitto_pub_claims_in_both_protocol_versions() {
    let server = Server::start();
    let world = World::new(&server);
    let (host, port) = host_port(&server.mqtt);
    for version in ["mqttv311", "mqttv5"] {
        let device = world.device(version);
        let output = run(
            program("mosquitto_pub")
                .args(["-h", &host, "-p", &port.to_string(), "-V", version, "-q", "1", "-u", &device.token])
                .args(["-t", "v1/devices/me/claim", "-m", r#"{"secretKey":"s3cret","durationMs":60000}"#]),
            "",
        );
        assert!(output.status.success(), "{}", said(&output));
        owner_claims(&world, version, "s3cret");
    }
}

#[test]
fn mosquitto_pub_with_a_wrong_token_is_told_so() {
    let server = Server::start();
    let (host, port) = host_port(&server.mqtt);
    let output = run(
        program("mosquitto_pub")
            .args(["-h", &host, "-p", &port.to_string(), "-V", "mqttv5", "-q", "1", "-u", "no-such-token"])
            .args(["-t", "v1/devices/me/claim", "-m", "{}"]),
        "",
    );
    assert!(!output.status.success());
    assert!(said(&output).to_lowercase().contains("bad user name or password"), "{}", said(&output));
}

#[test]
fn mosquitto_sub_hears_the_devices_fate() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("listener");
    let (host, port) = host_port(&server.mqtt);
    let subscriber = {
        let token = device.token.clone();
        std::thread::spawn(move || {
            // The current state on subscribe, PENDING at the submission, CLAIMED at the confirm.
            run(
                program("mosquitto_sub")
                    .args(["-h", &host, "-p", &port.to_string(), "-V", "mqttv5", "-q", "1", "-u", &token])
                    .args(["-i", "listener", "-t", "v1/devices/me/claim/state", "-C", "3", "-W", "50"]),
                "",
            )
        })
    };
    eventually("the subscriber is there", || {
        (server.metric("claimd_connections{transport=\"mqtt\"}") >= 1.0).then_some(())
    });
    // The first message proves the subscription; it is awaited through the second connection's own order.
    let mut submitter = crate::harness::Mqtt::open(&server.mqtt, crate::harness::Version::V5);
    submitter.hello("submitter", Some(&device.token), None);
    let state = submitter.subscribe("v1/devices/me/claim/state");
    assert!(matches!(state, crate::harness::Heard::SubAck { .. }));
    eventually("both are subscribed", || (server.metric("claimd_mqtt_subscriptions") >= 2.0).then_some(()));
    submitter.ask("v1/devices/me/claim", br#"{"secretKey":"s"}"#);
    owner_claims(&world, "listener", "s");
    let output = subscriber.join().expect("a subscriber");
    let states: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    let names: Vec<&str> = states.iter().filter_map(|state| state["claimState"].as_str()).collect();
    assert_eq!(names, ["NONE", "PENDING", "CLAIMED"], "{}", said(&output));
    assert!(states[1]["expiresAt"].is_i64() && states[2]["claimedAt"].is_i64());
}

#[test]
fn libcoaps_client_claims_and_is_told_what_is_wrong() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("coap-client");
    let url = format!("coap://{}/api/v1/{}/claim", server.coap, device.token);
    let coap = |extra: &[&str], url: &str| {
        let output =
            run(program("coap-client-notls").args(["-v", "6", "-B", "10", "-m", "post"]).args(extra).arg(url), "");
        said(&output)
    };
    let accepted = coap(&["-e", r#"{"secretKey":"s3cret","durationMs":60000}"#], &url);
    assert!(accepted.contains("2.01"), "{accepted}");
    owner_claims(&world, "coap-client", "s3cret");
    let owned = coap(&["-e", "{}"], &url);
    assert!(owned.contains("4.09"), "{owned}");
    let wrong = coap(&["-e", "{}"], &format!("coap://{}/api/v1/no-such-token/claim", server.coap));
    assert!(wrong.contains("4.01"), "{wrong}");
    let malformed = world.device("coap-malformed");
    let said = coap(&["-e", "nonsense"], &format!("coap://{}/api/v1/{}/claim", server.coap, malformed.token));
    assert!(said.contains("4.00"), "{said}");
    // A body beyond one datagram, by libcoap's own block-wise transfer.
    let large = world.device("coap-large");
    let body = json!({"x": "p".repeat(20_000), "secretKey": "s"}).to_string();
    let path = server.data_dir().join("large.json");
    std::fs::write(&path, body).expect("a file");
    let url = format!("coap://{}/api/v1/{}/claim", server.coap, large.token);
    let answer = coap(&["-b", "1024", "-f", path.to_str().expect("UTF-8")], &url);
    assert!(answer.contains("2.01"), "{answer}");
    owner_claims(&world, "coap-large", "s");
}

#[test]
fn libcoaps_client_discovers_the_resource() {
    let server = Server::start();
    let output = run(
        program("coap-client-notls")
            .args(["-B", "10", "-m", "get"])
            .arg(format!("coap://{}/.well-known/core", server.coap)),
        "",
    );
    let text = said(&output);
    assert!(text.contains("</api/v1"), "{text}");
}

#[test]
fn curl_claims_as_device_and_as_owner() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("Dev A/1");
    let curl = |args: &[&str]| {
        let output = run(program("curl").args(["-sS", "-w", "\n%{http_code}", "--max-time", "30"]).args(args), "");
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let url = format!("http://{}/api/v1/{}/claim", server.http, device.token);
    assert_eq!(curl(&["-d", r#"{"secretKey":"s3cret"}"#, &url]), "\n200");
    let bearer = format!("X-Authorization: Bearer {}", world.alice.client.bearer.as_ref().expect("signed in"));
    let url = format!("http://{}/api/customer/device/Dev%20A%2F1/claim", server.http);
    let json = "Content-Type: application/json";
    let wrong = curl(&["-H", &bearer, "-H", json, "-d", r#"{"secretKey":"guess"}"#, &url]);
    assert_eq!(wrong, "\"FAILURE\"\n400");
    let right = curl(&["-H", &bearer, "-H", json, "-d", r#"{"secretKey":"s3cret"}"#, &url]);
    assert!(right.contains(r#""response":"SUCCESS""#) && right.ends_with("\n200"), "{right}");
    let released = curl(&["-X", "DELETE", "-H", &bearer, &url]);
    assert_eq!(released, "\n200");
}

/// Runs one of `tests/clients/*.py` with what it needs in its environment.
fn script(name: &str, server: &Server, env: &[(&str, &str)]) -> String {
    let mut command = python();
    command.arg(root().join("tests/clients").join(name));
    command.envs(env.iter().copied());
    let (mqtt_host, mqtt_port) = host_port(&server.mqtt);
    command.env("MQTT_HOST", mqtt_host).env("MQTT_PORT", mqtt_port.to_string());
    command.env("COAP", &server.coap).env("HTTP", &server.http);
    let output = run_for(&mut command, "", Duration::from_secs(120));
    assert!(output.status.success(), "{name}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn paho_claims_in_both_protocol_versions_and_over_websocket() {
    let server = Server::start();
    let world = World::new(&server);
    let tokens: Vec<String> = ["paho-3", "paho-5", "paho-ws"].iter().map(|name| world.device(name).token).collect();
    let (_, ws_port) = host_port(server.ws.trim_end_matches("/mqtt"));
    script("paho_device.py", &server, &[("TOKENS", &tokens.join(",")), ("WS_PORT", &ws_port.to_string())]);
    for name in ["paho-3", "paho-5", "paho-ws"] {
        owner_claims(&world, name, "s3cret");
    }
}

#[test]
fn aiocoap_claims_and_observes_its_fate() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("aiocoap");
    let watcher = std::thread::scope(|scope| {
        let watching = scope.spawn(|| script("aiocoap_device.py", &server, &[("TOKEN", &device.token)]));
        // An owner who tries before there is a claim spends tries, so this one waits for it.
        let device_side = Client::stranger(&server.http);
        eventually("the claim is pending", || {
            let state = device_side.get(&format!("/api/v1/{}/claim", device.token)).ok();
            (state["claimState"] == "PENDING").then_some(())
        });
        owner_claims(&world, "aiocoap", "s3cret");
        watching.join().expect("the script")
    });
    assert!(watcher.contains("PENDING") && watcher.trim_end().ends_with("CLAIMED"), "{watcher}");
}

#[test]
fn rumqttc_claims() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("rumqttc");
    let (host, port) = host_port(&server.mqtt);
    let mut options = rumqttc::MqttOptions::new("rumqttc", host, port);
    options.set_credentials(&device.token, "");
    let (client, mut connection) = rumqttc::Client::new(options, 10);
    client
        .publish("v1/devices/me/claim", rumqttc::QoS::AtLeastOnce, false, r#"{"secretKey":"s3cret"}"#)
        .expect("queued");
    let acked = connection
        .iter()
        .any(|event| matches!(event.expect("no error"), rumqttc::Event::Incoming(rumqttc::Packet::PubAck(_))));
    assert!(acked);
    owner_claims(&world, "rumqttc", "s3cret");
}

#[test]
fn thingsboards_device_sdk_claims_for_a_device_and_through_a_gateway() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("tb-device");
    let gateway = world.gateway("tb-gateway");
    script("tb_device.py", &server, &[("DEVICE_TOKEN", &device.token), ("GATEWAY_TOKEN", &gateway.token)]);
    owner_claims(&world, "tb-device", "s3cret");
    owner_claims(&world, "tb-child-1", "child-secret");
    owner_claims(&world, "tb-child-2", "child-secret");
}

#[test]
fn thingsboards_rest_sdk_signs_in_claims_by_name_and_gives_back() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("tb rest/1");
    let submit = crate::harness::Client::stranger(&server.http);
    let answer = submit.send("POST", &format!("/api/v1/{}/claim", device.token), &[], r#"{"secretKey":"s3cret"}"#);
    assert_eq!(answer.status, 200);
    let said = script(
        "tb_rest.py",
        &server,
        &[("EMAIL", &world.alice.email), ("PASSWORD", &world.alice.password), ("DEVICE", "tb rest/1")],
    );
    assert!(said.contains("claimed SUCCESS"), "{said}");
    assert!(said.contains("released"), "{said}");
    assert_eq!(world.owner_of(&device), None);
}
