//! What PostgreSQL and its nodes do to each other: it is away, it is restarted while owners confirm, nodes are restarted one
//! after the other, and clocks differ.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use testkit::RedisServer;
use testkit::postgres::{PostgresServer, Stop};

use crate::harness::world::{claim_path, owner};
use crate::harness::{Client, Coap, Heard, Made, Mqtt, Server, Version, World, eventually};

/// A node on a database of this server, with settings besides.
fn node(store: &PostgresServer, database: &str, settings: &[(&str, &str)]) -> Server {
    let url = store.url(database);
    let mut all = vec![
        ("CLAIMD_REGISTRY__BACKEND", "postgres"),
        ("CLAIMD_REGISTRY__URL", url.as_str()),
        ("CLAIMD_LIMITS__SUBMIT_PER_DEVICE", "1000000"),
    ];
    all.extend(settings);
    Server::with(&all)
}

fn readiness(server: &Server) -> (u16, Value) {
    let answer = Client::stranger(&server.admin).get("/readyz");
    (answer.status, answer.json())
}

/// One value out of the database, as text.
fn asked(store: &PostgresServer, database: &str, sql: &str) -> String {
    let mut psql = Command::new(format!("{}/psql", store.bin()));
    let output = psql.args([&store.url(database), "-At", "-c", sql]).output().expect("psql");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn submit(http: &str, token: &str, secret: &str) -> u16 {
    let body = json!({"secretKey": secret}).to_string();
    Client::stranger(http).send("POST", &format!("/api/v1/{token}/claim"), &[], &body).status
}

#[test]
fn while_postgres_is_away_clients_are_told_so_connections_stay_and_all_heals_by_itself() {
    let store = PostgresServer::start();
    let database = store.database();
    let server = node(&store, &database, &[]);
    let world = World::new(&server);
    let device = world.device("d");
    assert_eq!(submit(&server.http, &device.token, "s"), 200);
    let mut session = Mqtt::connect(&server.mqtt, Version::V5, &device.token);
    assert_eq!(readiness(&server).0, 200);

    store.stop(Stop::Fast);
    let (_, ready) = eventually("it is not ready", || Some(readiness(&server)).filter(|(status, _)| *status == 503));
    let parts = |ready: &Value| ["registry", "schema", "claim_cache", "clock"].map(|part| ready[part].clone());
    assert_eq!(parts(&ready), ["down", "down", "up", "up"], "{ready}");
    assert_eq!(ready["draining"], false);
    assert_eq!(world.alice.client.claim("d", "s").status, 503, "never refused for want of a registry");
    assert_eq!(submit(&server.http, "unknown", "s"), 503);
    assert_eq!(Coap::open(&server.coap).claim("unknown", br#"{"secretKey":"s"}"#).code, (5, 3));
    let said = Mqtt::open(&server.mqtt, Version::V5).hello("", Some("unknown"), None);
    assert!(matches!(said, Heard::ConnAck { code: 0x88, .. }), "{said:?}");

    store.start_again();
    eventually("it is ready again", || (readiness(&server).0 == 200).then_some(()));
    let acked = |heard| matches!(heard, Heard::PubAck { code: 0, .. });
    assert!(acked(session.ask("v1/devices/me/claim", br#"{"secretKey":"s"}"#)), "the connection was kept");
    assert_eq!(world.alice.client.claim("d", "s").status, 200);

    asked(&store, &database, "UPDATE schema_version SET version = version - 1");
    let (status, ready) = readiness(&server);
    assert_eq!((status, parts(&ready)), (503, ["up", "down", "up", "up"].map(Value::from)), "{ready}");
}

/// Each owner asks until it has an answer, always with the same key.
#[test]
fn postgres_restarted_amid_sixteen_owners_makes_no_second_owner_and_loses_none() {
    const OWNERS: usize = 16;
    const RESTARTS: usize = 4;
    let store = PostgresServer::start();
    let database = store.database();
    let server = node(&store, &database, &[("CLAIMD_REGISTRY__CONNECTIONS", "32")]);
    let world = World::new(&server);
    let owners: Vec<_> =
        (0..OWNERS).map(|n| owner(&world.maker, &server, &format!("Owner {n}").replace(' ', "-"))).collect();
    let (over, unknown, away) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let devices: RwLock<Vec<Made>> = RwLock::default();
    let won: Vec<BTreeMap<String, usize>> = std::thread::scope(|scope| {
        let racing: Vec<_> = (0..OWNERS)
            .map(|n| {
                let (owner, devices, over, unknown, away) = (&owners[n], &devices, &over, &unknown, &away);
                scope.spawn(move || {
                    let mut won = BTreeMap::new();
                    for next in 0.. {
                        let device = eventually("the next device, or the end", || {
                            let ended = over.load(Ordering::Acquire);
                            match devices.read().unwrap().get(next) {
                                None if !ended => None,
                                device => Some(device.cloned()),
                            }
                        });
                        let Some(device) = device else { break };
                        let key = format!("{} {n}", device.name);
                        let answer = eventually("an answer that settles it", || {
                            let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key.as_str())];
                            let body = json!({"secretKey": device.token}).to_string();
                            let answer = owner.client.send("POST", &claim_path(&device.name), &headers, &body);
                            if answer.status == 503 {
                                let count = if answer.body.contains("outcome-unknown") { unknown } else { away };
                                count.fetch_add(1, Ordering::Relaxed);
                                return None;
                            }
                            Some(answer)
                        });
                        match answer.status {
                            200 => {
                                won.insert(device.id.clone(), n);
                            }
                            400 | 404 | 409 => {}
                            other => panic!("{other}: {answer:?}"),
                        }
                    }
                    won
                })
            })
            .collect();
        let mut made = 0;
        let mut announce = |count: usize| {
            for _ in 0..count {
                let device = eventually("a device", || {
                    let (name, token) = (format!("race {made}"), format!("T{}", uuid::Uuid::new_v4().simple()));
                    made += 1;
                    let path = format!("/api/device?accessToken={token}");
                    let answer = world.maker.post(&path, &json!({"name": name, "type": "default"}));
                    let id = (answer.status == 200)
                        .then(|| answer.json()["id"]["id"].as_str().expect("an id").to_owned())?;
                    Some(Made { id, name, token })
                });
                eventually("it is announced", || {
                    (submit(&server.http, &device.token, &device.token) == 200).then_some(())
                });
                devices.write().unwrap().push(device);
            }
        };
        for restart in 0..RESTARTS {
            announce(12);
            store.stop(if restart % 2 == 0 { Stop::Immediate } else { Stop::Fast });
            store.start_again();
        }
        announce(12);
        over.store(true, Ordering::Release);
        racing.into_iter().map(|owner| owner.join().expect("no panic")).collect()
    });
    assert!(unknown.load(Ordering::Relaxed) + away.load(Ordering::Relaxed) > 0, "no confirm met a restart");
    for device in devices.read().unwrap().iter() {
        let winners: Vec<usize> = won.iter().filter_map(|won| won.get(&device.id).copied()).collect();
        assert_eq!(winners.len(), 1, "{}: {winners:?}", device.name);
        assert_eq!(world.owner_of(device).as_ref(), Some(&owners[winners[0]].customer), "{}", device.name);
    }
}

/// The addresses of the nodes, which a restart changes.
struct Nodes([RwLock<String>; 2]);

impl Nodes {
    /// Asks one node or the other until somebody answers otherwise than with a broken connection or "not now".
    fn ask(&self, mut which: usize, reconnects: &AtomicUsize, ask: impl Fn(&str) -> Option<u16>) -> u16 {
        eventually("an answer of either node", || {
            which += 1;
            let at = self.0[which % 2].read().unwrap().clone();
            let status = ask(&at).filter(|status| *status != 503);
            if status.is_none() {
                reconnects.fetch_add(1, Ordering::Relaxed);
            }
            status
        })
    }
}

/// Sends a request by hand, since a connection that breaks is no failure here.
fn try_send(http: &str, path: &str, bearer: Option<&str>, body: &str) -> Option<u16> {
    let mut request =
        ureq::http::Request::post(format!("http://{http}{path}")).header("Content-Type", "application/json");
    if let Some(bearer) = bearer {
        request = request.header("X-Authorization", format!("Bearer {bearer}"));
    }
    let agent = ureq::Agent::config_builder().http_status_as_error(false).max_idle_connections(0).build().new_agent();
    Some(agent.run(request.body(body.to_owned()).expect("a request")).ok()?.status().as_u16())
}

#[test]
fn nodes_restarted_one_after_the_other_refuse_no_claim_and_lose_none() {
    const CLIENTS: usize = 4;
    const RESTARTS: usize = 3;
    let (store, claims) = (PostgresServer::start(), RedisServer::start());
    let (database, redis) = (store.database(), claims.url());
    let shared = [("CLAIMD_CLAIM_CACHE__BACKEND", "redis"), ("CLAIMD_CLAIM_CACHE__REDIS_URL", redis.as_str())];
    let here = node(&store, &database, &shared);
    let key = here.data_dir().join("keys/master.key").display().to_string();
    let settings = [shared[0], shared[1], ("CLAIMD_SERVER__MASTER_KEY_FILE", key.as_str())];
    let mut there = node(&store, &database, &settings);
    let world = World::new(&here);
    let nodes = Nodes([RwLock::new(here.http.clone()), RwLock::new(there.http.clone())]);
    let (over, claimed, reconnects) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (world, nodes, over, claimed, reconnects) = (&world, &nodes, &over, &claimed, &reconnects);
            scope.spawn(move || {
                let bearer = world.alice.client.bearer.as_deref();
                for round in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let device = world.device(&format!("device {client} {round}"));
                    let body = json!({"secretKey": device.token}).to_string();
                    let path = format!("/api/v1/{}/claim", device.token);
                    let acked = nodes.ask(round, reconnects, |http| try_send(http, &path, None, &body));
                    assert_eq!(acked, 200, "{}: refused", device.name);
                    // Through the other node, if it is there.
                    let path = claim_path(&device.name);
                    let status = nodes.ask(round + 1, reconnects, |http| try_send(http, &path, bearer, &body));
                    assert_eq!(status, 200, "{}: an acked claim is lost", device.name);
                    claimed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for restart in 1..=RESTARTS {
            let before = claimed.load(Ordering::Relaxed);
            eventually("claims go on", || (claimed.load(Ordering::Relaxed) > before + 20).then_some(()));
            assert_eq!(there.stop(), Some(0), "restart {restart}");
            let before = claimed.load(Ordering::Relaxed);
            eventually("claims go on at one node", || (claimed.load(Ordering::Relaxed) > before + 20).then_some(()));
            there.launch();
            *nodes.0[1].write().unwrap() = there.http.clone();
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(reconnects.load(Ordering::Relaxed) > 0, "nobody met a restart");
}

/// A machine's clock moved by so many seconds; its monotonic one stays.
fn moved<'a>(library: &'a str, by: &'a str) -> [(&'a str, &'a str); 4] {
    [("LD_PRELOAD", library), ("FAKETIME", by), ("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("DONT_FAKE_MONOTONIC", "1")]
}

#[test]
fn a_node_keeps_the_databases_time_whatever_its_machine_says_and_far_off_it_is_not_ready() {
    let library = std::fs::read_dir("/usr/lib").expect("folders").find_map(|folder| {
        let library = folder.ok()?.path().join("faketime/libfaketime.so.1");
        library.is_file().then(|| library.display().to_string())
    });
    let library = library.expect("libfaketime: `cargo xtask setup` installs it");
    let store = PostgresServer::start();
    let database = store.database();
    let here = node(&store, &database, &[]);
    let world = World::new(&here);
    let key = here.data_dir().join("keys/master.key").display().to_string();
    for (n, (by, status, clock)) in
        [("+20", 200, "up"), ("-20", 200, "up"), ("+600", 503, "down")].into_iter().enumerate()
    {
        let mut settings = moved(&library, by).to_vec();
        settings.push(("CLAIMD_SERVER__MASTER_KEY_FILE", key.as_str()));
        let there = node(&store, &database, &settings);
        let device = world.device(&format!("device {n}"));
        assert_eq!(submit(&there.http, &device.token, "s"), 200);
        assert_eq!(world.moved(&there).alice.client.claim(&device.name, "s").status, 200);
        // What it received and when somebody became the owner, by its own reckoning.
        let sql = format!(
            "SELECT abs(claimed_at - extract(EPOCH FROM now()) * 1000) < 15000 AND \
             abs(claim_reset_at - extract(EPOCH FROM now()) * 1000) < 15000 FROM device WHERE id = '{}'",
            device.id
        );
        assert_eq!(asked(&store, &database, &sql), "t", "{by}");
        let (found, ready) = readiness(&there);
        assert_eq!((found, ready["clock"].as_str()), (status, Some(clock)), "{by}: {ready}");
        let ahead = ready["clock_ahead_ms"].as_i64().expect("a number");
        let expected = -by.parse::<i64>().expect("seconds") * 1000;
        assert!((ahead - expected).abs() < 5_000, "{by}: {ahead}");
        assert!(there.log().contains("clock is not the database's"), "{by}: {}", there.log());
    }
    assert!(!here.log().contains("clock is not"), "{}", here.log());
}
