//! Nodes behind HAProxy: clients who reconnect go on whatever becomes of a node, and limits of an address mean clients.

use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;

use crate::harness::tools::{run, said};
use crate::harness::{Client, HaProxy, Heard, Mqtt, Nodes, Version, World, connect_from, eventually, raw_http_over};

/// Claims that lie pending while their device's next ones are announced.
const LAG: usize = 20;
/// Announced by each client before, while and after something happens to a node.
const SOME: usize = 60;

/// What clients behind the balancer have done.
#[derive(Default)]
struct Tally {
    acked: AtomicUsize,
    confirmed: AtomicUsize,
    /// Sessions that ended and were opened again.
    reconnects: AtomicUsize,
    /// Of these, ended by a node's goodbye (0x8B).
    goodbyes: AtomicUsize,
    /// New connections that got no CONNACK.
    unwelcome: AtomicUsize,
    over: AtomicBool,
}

/// A gateway that announces one child after the other through the balancer, and confirms each as an owner some time after,
/// at whatever node; until it is over.
fn announce_and_confirm(number: usize, token: &str, owner: &Client, balancer: &HaProxy, tally: &Tally) {
    let mut session: Option<Mqtt> = None;
    let mut pending = std::collections::VecDeque::new();
    for n in 0.. {
        if tally.over.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("child {number} {n}");
        let body = json!({&*name: {"secretKey": name}}).to_string();
        eventually("the claim is acked", || {
            let client = session.get_or_insert_with(|| sign_in(balancer, token, tally));
            client.publish("v1/gateway/claim", body.as_bytes());
            let ended = loop {
                match client.try_hear() {
                    Some(Heard::PubAck { code: 0, .. }) => return Some(()),
                    Some(Heard::Publish { .. }) => {}
                    Some(Heard::Disconnect { code: 0x8b }) => break &tally.goodbyes,
                    None | Some(Heard::Closed) => break &tally.reconnects,
                    Some(other) => panic!("refused: {other:?}"),
                }
            };
            ended.fetch_add(1, Ordering::Relaxed);
            session = None;
            None
        });
        tally.acked.fetch_add(1, Ordering::Relaxed);
        pending.push_back(name);
        if pending.len() > LAG {
            confirm(owner, &pending.pop_front().expect("one"), tally);
        }
    }
    pending.iter().for_each(|name| confirm(owner, name, tally));
}

fn sign_in(balancer: &HaProxy, token: &str, tally: &Tally) -> Mqtt {
    eventually("a node takes the session", || {
        let mut client = Mqtt::open(&balancer.mqtt, Version::V5);
        match client.try_hello(token) {
            Some(Heard::ConnAck { code: 0, .. }) => Some(client),
            Some(Heard::ConnAck { code, .. }) => panic!("refused: {code:x}"),
            _ => {
                tally.unwelcome.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    })
}

/// An owner who asks again when no answer came; a refusal is a lost claim.
fn confirm(owner: &Client, name: &str, tally: &Tally) {
    let mut unanswered = false;
    eventually("the claim is confirmed", || {
        let Some(answer) = owner.try_claim(name, name) else {
            unanswered = true;
            return None;
        };
        // The node may have ended between the commit and its answer.
        let already = unanswered && answer.header("claim-reason") == Some("already_yours");
        assert!(answer.status == 200 || already, "the acked claim of {name} is lost: {answer:?}");
        Some(())
    });
    tally.confirmed.fetch_add(1, Ordering::Relaxed);
}

/// Clients at work through the balancer while `happens` does something to the nodes; it may wait for their next acks.
fn at_work(nodes: &mut Nodes, worlds: &[World], happens: impl FnOnce(&mut Nodes, &HaProxy, &dyn Fn())) -> Tally {
    const CLIENTS: usize = 4;
    let balancer = nodes.balanced();
    let (tally, gateways) = (Tally::default(), (0..CLIENTS).map(|n| worlds[n % 3].gateway(&format!("gw {n}"))));
    let gateways: Vec<_> = gateways.collect();
    std::thread::scope(|scope| {
        let _over = Over(&tally.over);
        let clients: Vec<_> = gateways
            .iter()
            .enumerate()
            .map(|(n, gateway)| {
                let owner = worlds[0].alice.client.at(&balancer.http);
                let (balancer, tally) = (&balancer, &tally);
                scope.spawn(move || announce_and_confirm(n, &gateway.token, &owner, balancer, tally))
            })
            .collect();
        let more = || {
            let target = tally.acked.load(Ordering::Relaxed) + CLIENTS * SOME;
            eventually("more claims are acked", || {
                assert!(clients.iter().all(|client| !client.is_finished()), "a client has failed");
                (tally.acked.load(Ordering::Relaxed) >= target).then_some(())
            });
        };
        more();
        happens(nodes, &balancer, &more);
        more();
    });
    assert_eq!(tally.confirmed.load(Ordering::Relaxed), tally.acked.load(Ordering::Relaxed));
    tally
}

/// Ends the clients however the test ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn clients_of_a_killed_node_go_on_at_the_others_and_no_acked_claim_is_lost() {
    let mut nodes = Nodes::start(3, &[]);
    let worlds = nodes.worlds();
    let tally = at_work(&mut nodes, &worlds, |nodes, balancer, more| {
        nodes.all[0].kill_dash_nine();
        more();
        balancer.says(1, "DOWN", 1);
        more();
        nodes.all[0].launch();
        balancer.says(1, "UP", 1);
    });
    assert!(tally.reconnects.load(Ordering::Relaxed) > 0, "somebody was at the killed node");
}

#[test]
fn a_rolling_restart_refuses_nobody() {
    let mut nodes = Nodes::start(3, &[("CLAIMD_SERVER__DRAIN_NOTICE", "5s")]);
    let worlds = nodes.worlds();
    let tally = at_work(&mut nodes, &worlds, |nodes, balancer, more| {
        for number in 1..=3 {
            let node = &mut nodes.all[number - 1];
            node.ask_to_stop();
            // Out of rotation by its readiness, while it still serves.
            balancer.says(number, "DOWN", 1);
            assert_eq!(Client::stranger(&node.admin).get("/readyz").json()["draining"], true);
            assert_eq!(node.stopped(), Some(0));
            node.launch();
            balancer.says(number, "UP", 1);
            more();
        }
        assert!(balancer.log().contains("Layer7 wrong status, code: 503"), "{}", balancer.log());
    });
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    assert!(count(&tally.goodbyes) > 0, "sessions were told that their node stops");
    assert_eq!((count(&tally.unwelcome), count(&tally.reconnects)), (0, 0), "and nothing else ended or refused one");
}

#[test]
fn limits_of_an_address_count_clients_and_not_the_balancer() {
    let nodes = Nodes::start(
        1,
        &[
            ("CLAIMD_LIMITS__CONNECTIONS_PER_ADDRESS", "3"),
            ("CLAIMD_LIMITS__AUTH_FAILURES_PER_ADDRESS", "3"),
            ("CLAIMD_OWNER_API__WRONG_PASSWORDS_PER_ADDRESS", "3"),
        ],
    );
    let (balancer, world) = (nodes.balanced(), nodes.worlds().remove(0));
    let device = world.device("pump");
    let from = |host: u8| Ipv4Addr::new(127, 0, 0, host);
    let hello = |source: Ipv4Addr, token: &str| {
        let mut client = Mqtt::over(connect_from(source, &balancer.mqtt), Version::V5);
        let code = match client.hello("", Some(token), None) {
            Heard::ConnAck { code, .. } => code,
            other => panic!("{other:?}"),
        };
        (code, client)
    };
    // Open connections: three of each client.
    let mut open = Vec::new();
    for host in 50..54 {
        for number in 1..=4 {
            let (code, client) = hello(from(host), &device.token);
            assert_eq!(code, if number <= 3 { 0 } else { 0x97 }, "{host}, {number}");
            open.push(client);
        }
    }
    drop(open);
    // Refused credentials lock the client's address out, over either transport.
    for _ in 0..3 {
        hello(from(60), "wrong");
    }
    assert_eq!(hello(from(60), &device.token).0, 0x9f);
    assert_eq!(hello(from(61), &device.token).0, 0);
    let claim = format!("POST /api/v1/{}/claim HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", device.token);
    let http = |source, head: &str, body: &str| {
        raw_http_over(connect_from(source, &balancer.http), head, body.as_bytes()).0.expect("an answer")
    };
    assert_eq!(http(from(60), &claim, ""), 429);
    assert_eq!(http(from(61), &claim, ""), 200);
    // Wrong passwords too.
    let sign_in = |source, name: &str, password: &str| {
        let body = json!({"username": name, "password": password}).to_string();
        let length = body.len();
        let head = format!(
            "POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        http(source, &head, &body)
    };
    for n in 0..3 {
        assert_eq!(sign_in(from(70), &format!("{n}@example.com"), "not the password"), 401);
    }
    assert_eq!(sign_in(from(70), &world.alice.email, &world.alice.password), 429);
    assert_eq!(sign_in(from(71), &world.alice.email, &world.alice.password), 200);
}

#[test]
fn a_claim_goes_over_websocket_through_the_balancer() {
    let nodes = Nodes::start(2, &[]);
    let (balancer, world) = (nodes.balanced(), nodes.worlds().remove(1));
    let device = world.device("browser");
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    std::fs::write(&token, &device.token).expect("written");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_claimd"));
    command.env_clear().env("XDG_CONFIG_HOME", folder.path()).args(["claim", "submit", "browser", "--secret", "-"]);
    command.arg("--token").arg(format!("@{}", token.display()));
    command.args(["--transport", "ws", "--to", &format!("{}/mqtt", balancer.ws)]);
    let output = run(&mut command, "s");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(world.alice.client.at(&balancer.http).claim("browser", "s").status, 200);
}

#[test]
fn only_the_balancer_is_asked_for_a_header_and_it_must_send_one() {
    let nodes = Nodes::start(1, &[("CLAIMD_LIMITS__CONNECTIONS_PER_ADDRESS", "2")]);
    let (node, world) = (&nodes.all[0], nodes.worlds().remove(0));
    let device = world.device("pump");
    const LOCAL: &str = "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    let get = "GET /api/claimd/v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n";
    let faults = || node.metric("claimd_protocol_errors_total{transport=\"http\",kind=\"proxy_header\"}");
    let ask = |source: Ipv4Addr, head: &str| raw_http_over(connect_from(source, &node.http), head, b"").0;
    // A health check of the balancer's own, and no bound of an address counts it.
    let own: Vec<TcpStream> = (0..5).map(|_| connect_from(nodes.balancer, &node.http)).collect();
    for mut stream in own {
        std::io::Write::write_all(&mut stream, LOCAL.as_bytes()).expect("sent");
        assert_eq!(raw_http_over(stream, get, b"").0, Some(200));
    }
    assert_eq!((ask(nodes.balancer, get), faults()), (None, 1.0), "closed and counted");
    let first_version = format!("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n{get}");
    assert_eq!((ask(nodes.balancer, &first_version), faults()), (None, 2.0));
    // From anybody else a header is no HTTP and no MQTT.
    assert_eq!(ask(Ipv4Addr::LOCALHOST, &format!("{LOCAL}{get}")), Some(400));
    assert_eq!((ask(Ipv4Addr::LOCALHOST, get), faults()), (Some(200), 2.0));
    let mut stranger = Mqtt::open(&node.mqtt, Version::V5);
    stranger.raw(LOCAL.as_bytes());
    assert_eq!(stranger.hello("", Some(&device.token), None), Heard::Closed);
    // The admin listener is asked plainly, by the balancer too.
    let ready = "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(raw_http_over(connect_from(nodes.balancer, &node.admin), ready, b"").0, Some(200));
}
