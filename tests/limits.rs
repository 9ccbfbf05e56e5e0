//! The limits of security-and-operations.md section 3, each at one below, at it, and one beyond: what is answered, that
//! nothing is refused within it, and that meeting it is counted.

use std::fmt::Write as _;

use coap_lite::{CoapOption, RequestType};
use serde_json::{Map, Value, json};

use crate::harness::coap::{claim_in_blocks, packet};
use crate::harness::live::LiveView;
use crate::harness::server::{ADMIN, ADMIN_PASSWORD};
use crate::harness::{Client, Coap, Heard, Mqtt, Server, Version, World, raw_http};

const CLAIM: &str = "v1/devices/me/claim";

/// What came of the last of `n` things, or of a thing of size `n`: `Ok`, or how it was refused.
type Try = fn(&Server, &World, usize) -> Result<(), String>;

/// A limit, as one transport meets it.
struct Row {
    /// Its configuration key, the label of its counter; `None` for a constant of the protocol, which has neither.
    key: Option<&'static str>,
    limit: usize,
    settings: &'static [(&'static str, &'static str)],
    attempt: Try,
    refusal: &'static str,
}

#[test]
fn every_limit_holds_at_one_below_at_it_and_one_beyond() {
    for (number, row) in rows().iter().enumerate() {
        for n in [row.limit - 1, row.limit, row.limit + 1] {
            // A server of its own, as some limits are of what was there before.
            let server = Server::with(row.settings);
            let world = World::new(&server);
            let what = format!("row {number}, {:?}, {n} of {}", row.key, row.limit);
            let answer = (row.attempt)(&server, &world, n);
            let counted = row.key.map(|key| server.metric(&format!("claimd_limit_reached_total{{limit=\"{key}\"}}")));
            if n <= row.limit {
                assert_eq!(answer, Ok(()), "{what}");
                assert!(counted.is_none_or(|count| count == 0.0), "{what}: {counted:?} counted");
            } else {
                assert_eq!(answer, Err(row.refusal.to_owned()), "{what}");
                assert!(counted.is_none_or(|count| count > 0.0), "{what}: not counted");
            }
        }
    }
}

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    const PAYLOAD: &[(&str, &str)] = &[("CLAIMD_LIMITS__PAYLOAD_BYTES", "1500")];
    const RATE: &[(&str, &str)] = &[("CLAIMD_LIMITS__SUBMIT_PER_DEVICE", "3")];
    const TENANT: &[(&str, &str)] = &[("CLAIMD_CLAIM_CACHE__MAX_PENDING_PER_TENANT", "3")];
    const AUTH: &[(&str, &str)] = &[("CLAIMD_LIMITS__AUTH_FAILURES_PER_ADDRESS", "3")];
    // Acks wait for the disk, so that what came together is in work together.
    const RECEIVE: &[(&str, &str)] =
        &[("CLAIMD_MQTT__RECEIVE_MAXIMUM", "3"), ("CLAIMD_CLAIM_CACHE__DURABILITY", "fsync")];
    let row = |key, limit, settings, attempt, refusal| Row { key: Some(key), limit, settings, attempt, refusal };
    let fixed = |limit, attempt, refusal| Row { key: None, limit, settings: &[], attempt, refusal };
    vec![
        row("payload_bytes", 1500, PAYLOAD, |s, w, n| http_body(s, w, &padded(n)), "413"),
        row("payload_bytes", 1500, PAYLOAD, |s, w, n| mqtt_body(s, w, Version::V5, &padded(n)), "DISCONNECT 95"),
        row("payload_bytes", 1500, PAYLOAD, |s, w, n| mqtt_body(s, w, Version::V311, &padded(n)), "closed"),
        row("payload_bytes", 1500, PAYLOAD, |s, w, n| coap_body(s, w, &padded(n)), "4.13"),
        row("http_uri_bytes", 300, &[("CLAIMD_LIMITS__HTTP_URI_BYTES", "300")], http_uri, "414"),
        row("http_header_bytes", 800, &[("CLAIMD_LIMITS__HTTP_HEADER_BYTES", "800")], http_header, "431"),
        fixed(16, |s, w, n| http_body(s, w, &deep(n)), "400"),
        fixed(16, |s, w, n| mqtt_body(s, w, Version::V5, &deep(n)), "PUBACK 99"),
        fixed(16, |s, w, n| mqtt_body(s, w, Version::V311, &deep(n)), "closed"),
        fixed(16, |s, w, n| coap_body(s, w, &deep(n)), "4.00"),
        fixed(256, |s, w, n| http_body(s, w, &secret(n)), "400"),
        fixed(256, |s, w, n| mqtt_body(s, w, Version::V5, &secret(n)), "PUBACK 99"),
        fixed(256, |s, w, n| coap_body(s, w, &secret(n)), "4.00"),
        fixed(255, |s, w, n| gateway(s, w, Version::V5, &json!({"d".repeat(n): {}})), "PUBACK 99"),
        fixed(255, |s, w, n| gateway(s, w, Version::V311, &json!({"d".repeat(n): {}})), "closed"),
        row("gateway.batch_devices", 3, &[("CLAIMD_GATEWAY__BATCH_DEVICES", "3")], |s, w, n| gateway(s, w, Version::V5, &entries(n)), "PUBACK 97"),
        row("gateway.batch_devices", 3, &[("CLAIMD_GATEWAY__BATCH_DEVICES", "3")], |s, w, n| gateway(s, w, Version::V311, &entries(n)), "closed"),
        row("gateway.new_devices", 3, &[("CLAIMD_GATEWAY__NEW_DEVICES_PER_DAY", "3")], |s, w, n| gateway(s, w, Version::V5, &entries(n)), "PUBACK 97"),
        row("gateway.new_devices", 3, &[("CLAIMD_GATEWAY__NEW_DEVICES_TOTAL", "3")], |s, w, n| gateway(s, w, Version::V5, &entries(n)), "PUBACK 97"),
        row("submit_per_gateway", 3, &[("CLAIMD_LIMITS__SUBMIT_PER_GATEWAY", "3")], |s, w, n| gateway(s, w, Version::V5, &entries(n)), "PUBACK 97"),
        row("submit_per_device", 3, RATE, |s, w, n| repeated(n, |body| http_same(s, w, body)), "429"),
        row("submit_per_device", 3, RATE, |s, w, n| repeated(n, |body| coap_same(s, w, body)), "4.29"),
        row("submit_per_device", 3, RATE, |s, w, n| mqtt_times(s, w, Version::V5, n), "PUBACK 97"),
        row("submit_per_device", 3, RATE, |s, w, n| mqtt_times(s, w, Version::V311, n), "closed"),
        row("claim_cache.max_pending", 3, TENANT, |s, w, n| repeated(n, |body| http_body(s, w, body)), "503"),
        row("claim_cache.max_pending", 3, TENANT, |s, w, n| repeated(n, |body| coap_body(s, w, body)), "5.03"),
        row("claim_cache.max_pending", 3, TENANT, |s, w, n| repeated(n, |body| mqtt_body(s, w, Version::V5, body)), "PUBACK 97"),
        row("claim_cache.max_pending", 3, TENANT, |s, w, n| repeated(n, |body| mqtt_body(s, w, Version::V311, body)), "closed"),
        row("connections", 20, &[("CLAIMD_LIMITS__CONNECTIONS", "20")], |s, w, n| connections(s, w, Version::V5, n), "CONNACK 97"),
        row("connections", 20, &[("CLAIMD_LIMITS__CONNECTIONS", "20")], |s, w, n| connections(s, w, Version::V311, n), "CONNACK 03"),
        row("connections_per_address", 20, &[("CLAIMD_LIMITS__CONNECTIONS_PER_ADDRESS", "20")], |s, w, n| connections(s, w, Version::V5, n), "CONNACK 97"),
        row("auth_failures_per_address", 3, AUTH, |s, w, n| wrong_tokens(s, w, Version::V5, n), "CONNACK 9f"),
        row("auth_failures_per_address", 3, AUTH, |s, w, n| wrong_tokens(s, w, Version::V311, n), "CONNACK 03"),
        row("auth_failures_per_address", 3, AUTH, wrong_http_tokens, "429"),
        row("mqtt.subscriptions", 3, &[("CLAIMD_MQTT__SUBSCRIPTIONS", "3")], |s, w, n| subscriptions(s, w, Version::V5, n), "SUBACK 97"),
        row("mqtt.subscriptions", 3, &[("CLAIMD_MQTT__SUBSCRIPTIONS", "3")], |s, w, n| subscriptions(s, w, Version::V311, n), "SUBACK 80"),
        row("mqtt.receive_maximum", 3, RECEIVE, at_once, "DISCONNECT 93"),
        row("http.waiting", 3, &[("CLAIMD_HTTP__WAITING", "3")], |s, w, n| waiting(s, &(0..n).map(|_| token(w)).collect::<Vec<_>>()), "503"),
        row("http.waiting", 3, &[("CLAIMD_HTTP__WAITING_PER_DEVICE", "3")], |s, w, n| waiting(s, &vec![token(w); n]), "503"),
        row("owner_api.body_bytes", 1500, &[("CLAIMD_OWNER_API__BODY_BYTES", "1500")], |_, w, n| said(w.maker.send("POST", "/api/customer", &[], &customer(n)).status), "413"),
        row("owner_api.wrong_passwords", 3, &[("CLAIMD_OWNER_API__WRONG_PASSWORDS_PER_ACCOUNT", "3")], |s, w, n| passwords(s, w, n, |_| ADMIN.to_owned()), "429"),
        row("owner_api.wrong_passwords", 3, &[("CLAIMD_OWNER_API__WRONG_PASSWORDS_PER_ADDRESS", "3")], |s, w, n| passwords(s, w, n, |n| format!("{n}@example.com")), "429"),
        row("owner_api.applications_per_customer", 3, &[("CLAIMD_OWNER_API__APPLICATIONS_PER_CUSTOMER", "3")], |_, w, n| made(w, n, false), "409"),
        row("owner_api.devices_per_customer", 3, &[("CLAIMD_OWNER_API__DEVICES_PER_CUSTOMER", "3")], |_, w, n| made(w, n, true), "409"),
        row("owner_api.api_keys_per_account", 3, &[("CLAIMD_OWNER_API__API_KEYS_PER_ACCOUNT", "3")], |_, w, n| kept(w, n, "keys"), "409"),
        row("owner_api.live_viewers", 3, &[("CLAIMD_OWNER_API__LIVE_VIEWERS", "3")], live_views, "503"),
        row("permissions.roles_per_tenant", 3, &[("CLAIMD_PERMISSIONS__ROLES_PER_TENANT", "3")], |_, w, n| kept(w, n, "roles"), "409"),
        row("permissions.groups_per_customer", 3, &[("CLAIMD_PERMISSIONS__GROUPS_PER_CUSTOMER", "3")], |_, w, n| kept(w, n, "groups"), "409"),
        row("permissions.users_per_group", 3, &[("CLAIMD_PERMISSIONS__USERS_PER_GROUP", "3")], |_, w, n| kept(w, n, "users"), "409"),
        row("coap.block_bytes", 3, &[("CLAIMD_COAP__BLOCK_TRANSFERS_PER_PEER", "3"), ("CLAIMD_COAP__SOCKETS", "1")], transfers, "5.03"),
        row("coap.block_bytes", 3, &[("CLAIMD_COAP__BLOCK_BYTES", "48"), ("CLAIMD_COAP__SOCKETS", "1")], transfers, "5.03"),
    ]
}

fn padded(bytes: usize) -> Vec<u8> {
    format!("{{\"x\":\"{}\"}}", "p".repeat(bytes - 8)).into_bytes()
}

fn deep(levels: usize) -> Vec<u8> {
    format!("{{\"x\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1)).into_bytes()
}

fn secret(bytes: usize) -> Vec<u8> {
    json!({"secretKey": "s".repeat(bytes)}).to_string().into_bytes()
}

fn entries(count: usize) -> Value {
    Value::Object((0..count).map(|n| (format!("child {n}"), json!({}))).collect::<Map<_, _>>())
}

/// The last of `n` tries.
fn repeated(n: usize, mut once: impl FnMut(&[u8]) -> Result<(), String>) -> Result<(), String> {
    (0..n).map(|_| once(b"{}")).last().expect("a try")
}

/// A token of a new device.
fn token(world: &World) -> String {
    world.device(&uuid::Uuid::new_v4().to_string()).token
}

fn http_status(server: &Server, token: &str, body: &[u8]) -> Result<(), String> {
    let head = format!("POST /api/v1/{token}/claim HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    said(raw_http(&server.http, &head, body).0)
}

fn said(status: u16) -> Result<(), String> {
    if status == 200 { Ok(()) } else { Err(status.to_string()) }
}

fn http_body(server: &Server, world: &World, body: &[u8]) -> Result<(), String> {
    http_status(server, &token(world), body)
}

/// A device that is the same for all tries.
fn same(world: &World) -> String {
    let token = "the-same-device-for-all-tries".to_owned();
    // The second time its name is taken; so it is there.
    world.maker.post(&format!("/api/device?accessToken={token}"), &json!({"name": "same", "type": "default"}));
    token
}

fn http_same(server: &Server, world: &World, body: &[u8]) -> Result<(), String> {
    http_status(server, &same(world), body)
}

fn coap_answer(answer: (u8, u8)) -> Result<(), String> {
    if answer.0 == 2 { Ok(()) } else { Err(format!("{}.{:02}", answer.0, answer.1)) }
}

fn coap_same(server: &Server, world: &World, body: &[u8]) -> Result<(), String> {
    coap_answer(Coap::open(&server.coap).claim(&same(world), body).code)
}

fn coap_body(server: &Server, world: &World, body: &[u8]) -> Result<(), String> {
    coap_answer(claim_in_blocks(&server.coap, &token(world), body).code)
}

fn http_uri(server: &Server, world: &World, n: usize) -> Result<(), String> {
    let path = format!("/api/v1/{}/claim?", token(world));
    let head = format!("POST {path}{} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "q".repeat(n - path.len()));
    said(raw_http(&server.http, &head, b"").0)
}

fn http_header(server: &Server, world: &World, n: usize) -> Result<(), String> {
    let mut headers = "Host: x\r\nContent-Length: 0\r\n".to_owned();
    let filler = n - headers.len() - "X: \r\n".len();
    let _ = write!(headers, "X: {}\r\n", "h".repeat(filler));
    said(raw_http(&server.http, &format!("POST /api/v1/{}/claim HTTP/1.1\r\n{headers}\r\n", token(world)), b"").0)
}

fn mqtt_answer(heard: Heard) -> Result<(), String> {
    match heard {
        Heard::PubAck { code: 0, .. } | Heard::ConnAck { code: 0, .. } => Ok(()),
        Heard::PubAck { code, .. } => Err(format!("PUBACK {code:02x}")),
        Heard::ConnAck { code, .. } => Err(format!("CONNACK {code:02x}")),
        Heard::Disconnect { code } => Err(format!("DISCONNECT {code:02x}")),
        Heard::Closed => Err("closed".to_owned()),
        other => panic!("{other:?}"),
    }
}

fn mqtt_body(server: &Server, world: &World, version: Version, body: &[u8]) -> Result<(), String> {
    mqtt_answer(Mqtt::connect(&server.mqtt, version, &token(world)).ask(CLAIM, body))
}

fn mqtt_times(server: &Server, world: &World, version: Version, n: usize) -> Result<(), String> {
    let mut client = Mqtt::connect(&server.mqtt, version, &token(world));
    repeated(n, |body| mqtt_answer(client.ask(CLAIM, body)))
}

fn gateway(server: &Server, world: &World, version: Version, batch: &Value) -> Result<(), String> {
    let gateway = world.gateway("gw");
    let mut client = Mqtt::connect(&server.mqtt, version, &gateway.token);
    mqtt_answer(client.ask("v1/gateway/claim", batch.to_string().as_bytes()))
}

fn connections(server: &Server, world: &World, version: Version, n: usize) -> Result<(), String> {
    let token = token(world);
    let mut open: Vec<Mqtt> = (1..n).map(|_| Mqtt::connect(&server.mqtt, version, &token)).collect();
    let mut last = Mqtt::open(&server.mqtt, version);
    let answer = mqtt_answer(last.hello("", Some(&token), None));
    // Those within the limit are served all the while.
    for client in &mut open {
        client.send(0xc0, &[]);
        assert_eq!(client.hear(), Heard::Other { first: 0xd0, body: Vec::new() });
    }
    answer
}

/// The last of `n` sign-ins, the only one with a good token.
fn wrong_tokens(server: &Server, world: &World, version: Version, n: usize) -> Result<(), String> {
    for _ in 1..n {
        Mqtt::open(&server.mqtt, version).hello("", Some("wrong"), None);
    }
    mqtt_answer(Mqtt::open(&server.mqtt, version).hello("", Some(&token(world)), None))
}

fn wrong_http_tokens(server: &Server, world: &World, n: usize) -> Result<(), String> {
    for _ in 1..n {
        Client::stranger(&server.http).send("POST", "/api/v1/wrong/claim", &[], "");
    }
    http_body(server, world, b"")
}

fn subscriptions(server: &Server, world: &World, version: Version, n: usize) -> Result<(), String> {
    let mut client = Mqtt::connect(&server.mqtt, version, &token(world));
    let filters = ["attributes", "errors", "claim/state", "rpc/request/+"];
    let mut answer = Ok(());
    for filter in &filters[..n] {
        let Heard::SubAck { codes, .. } = client.subscribe(&format!("v1/devices/me/{filter}")) else {
            panic!("no SUBACK")
        };
        answer = if codes[0] < 0x80 { Ok(()) } else { Err(format!("SUBACK {:02x}", codes[0])) };
    }
    answer
}

/// First blocks of 16 bytes of `n` bodies, none of which is finished.
fn transfers(server: &Server, world: &World, n: usize) -> Result<(), String> {
    let client = Coap::open(&server.coap);
    let mut answer = Ok(());
    for _ in 0..n {
        let mut block = packet(RequestType::Post, &["api", "v1", &token(world), "claim"], &[b' '; 16]);
        block.add_option(CoapOption::Block1, vec![0x08]);
        answer = coap_answer(client.exchange(&block).code);
    }
    answer
}

/// All in one write, before any of them is acked.
fn at_once(server: &Server, world: &World, n: usize) -> Result<(), String> {
    let mut client = Mqtt::connect(&server.mqtt, Version::V5, &token(world));
    client.burst(CLAIM, b"{}", n);
    (0..n).try_for_each(|_| mqtt_answer(client.hear()))
}

/// Long polls of these devices, all at the same time; what was said to whoever was refused.
fn waiting(server: &Server, tokens: &[String]) -> Result<(), String> {
    let poll = |token: &String| {
        let target = format!("/api/v1/{token}/claim?wait=2s");
        Client::stranger(&server.http).get(&target).status
    };
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let polls: Vec<_> = tokens.iter().map(|token| scope.spawn(move || poll(token))).collect();
        polls.into_iter().map(|poll| poll.join().expect("an answer")).collect()
    });
    statuses.into_iter().try_for_each(said)
}

fn customer(bytes: usize) -> String {
    let body = json!({"title": "c", "address": ""}).to_string();
    let filler = "a".repeat(bytes - body.len());
    json!({"title": "c", "address": filler}).to_string()
}

/// The last of `n` live views, all open at the same time.
fn live_views(server: &Server, world: &World, n: usize) -> Result<(), String> {
    let views: Vec<_> = (0..n).map(|_| LiveView::open(server, &world.maker, "")).collect();
    views.last().map_or(Ok(()), |view| said(view.status))
}

/// `n` sign-ins, the last with the right name and password.
fn passwords(server: &Server, world: &World, n: usize, name: fn(usize) -> String) -> Result<(), String> {
    let sign_in = |name: &str, password: &str| {
        let client = Client::stranger(&server.http);
        client.post("/api/auth/login", &json!({"username": name, "password": password})).status
    };
    assert_eq!(sign_in(&world.alice.email, &world.alice.password), 200, "right ones are free");
    for n in 1..n {
        assert_eq!(sign_in(&name(n), "not the password"), 401);
    }
    said(sign_in(ADMIN, ADMIN_PASSWORD))
}

/// The last of `n` applications, or of `n` devices in one, that an owner makes.
fn made(world: &World, n: usize, devices: bool) -> Result<(), String> {
    const APPLICATIONS: &str = "/api/claimd/v1/applications";
    let make = |path: &str, id: String| said(world.alice.client.post(path, &json!({"id": id})).status);
    if !devices {
        return (0..n).try_for_each(|n| make(APPLICATIONS, format!("home-{n}")));
    }
    make(APPLICATIONS, "my-house".to_owned())?;
    (0..n).try_for_each(|n| make(&format!("{APPLICATIONS}/my-house/devices"), format!("pump-{n}")))
}

/// The last of `n` API keys, of `n` roles, of `n` groups of a customer, or of `n` users in one, that a maker keeps.
fn kept(world: &World, n: usize, what: &str) -> Result<(), String> {
    let customer = &world.alice.customer;
    let groups = format!("/api/claimd/v1/customers/{customer}/groups");
    match what {
        "roles" => (0..n).try_for_each(|n| {
            let body = json!({"name": format!("n{n}"), "permissions": {}});
            said(world.maker.post("/api/claimd/v1/roles", &body).status)
        }),
        "keys" => (0..n).try_for_each(|n| {
            said(world.maker.post("/api/claimd/v1/api-keys", &json!({"name": format!("n{n}")})).status)
        }),
        "groups" => (0..n).try_for_each(|n| said(world.maker.post(&groups, &json!({"name": format!("n{n}")})).status)),
        _ => {
            let group = world.maker.post(&groups, &json!({"name": "g"})).ok()["id"].as_str().expect("an id").to_owned();
            (0..n).try_for_each(|n| {
                let body = json!({"email": format!("{n}@example.com"), "authority": "CUSTOMER_USER",
                    "customerId": {"entityType": "CUSTOMER", "id": customer}});
                let user = world.maker.post("/api/user?sendActivationMail=false", &body).ok();
                let path = format!("{groups}/{group}/users/{}", user["id"]["id"].as_str().expect("an id"));
                said(world.maker.send("PUT", &path, &[], "").status)
            })
        }
    }
}
