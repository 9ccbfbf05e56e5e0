//! The promises that make claimd worth having: an ack means visible, one winner, nothing acked is lost.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use serde_json::json;

use crate::harness::{Client, Coap, Heard, Made, Mqtt, Server, Version, World, eventually, world};

/// Rounds of submit-then-confirm-at-once over each transport.
const ROUNDS: usize = 1_500;

/// Limits that would stop thousands of honest rounds from one address and account.
const WIDE: [(&str, &str); 2] =
    [("CLAIMD_LIMITS__SUBMIT_PER_DEVICE", "1000000"), ("CLAIMD_LIMITS__SUBMIT_PER_GATEWAY", "1000000")];

#[test]
fn an_ack_over_mqtt311_means_visible() {
    visible(|server, token| {
        let mut client = Mqtt::connect(&server.mqtt, Version::V311, token);
        move |body: &[u8]| match client.ask("v1/devices/me/claim", body) {
            Heard::PubAck { .. } => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn an_ack_over_mqtt5_means_visible() {
    visible(|server, token| {
        let mut client = Mqtt::connect(&server.mqtt, Version::V5, token);
        move |body: &[u8]| match client.ask("v1/devices/me/claim", body) {
            Heard::PubAck { code: 0, .. } => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn an_ack_over_coap_means_visible() {
    visible(|server, token| {
        let (client, token) = (Coap::open(&server.coap), token.to_owned());
        move |body: &[u8]| match client.claim(&token, body).code {
            (2, 1) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn an_ack_over_http_means_visible() {
    visible(|server, token| {
        let (client, path) = (Client::stranger(&server.http), format!("/api/v1/{token}/claim"));
        move |body: &[u8]| match client.send("POST", &path, &[], std::str::from_utf8(body).expect("JSON")) {
            answer if answer.status == 200 => Ok(()),
            answer => Err(format!("{answer:?}")),
        }
    });
}

/// Submit, confirm the moment the ack is there, unclaim, again.
fn visible<S: FnMut(&[u8]) -> Result<(), String>>(open: impl Fn(&Server, &str) -> S) {
    let server = Server::with(&WIDE);
    let world = World::new(&server);
    let device = world.device("round and round");
    let mut submit = open(&server, &device.token);
    for round in 0..ROUNDS {
        let secret = format!("s{round}");
        let acked = submit(json!({"secretKey": secret}).to_string().as_bytes());
        assert_eq!(acked, Ok(()), "round {round}: not acked");
        let answer = world.alice.client.claim(&device.name, &secret);
        assert_eq!(answer.status, 200, "round {round}: {answer:?}");
        assert_eq!(world.alice.client.unclaim(&device.name).status, 200, "round {round}");
    }
}

#[test]
fn of_64_owners_at_once_exactly_one_wins_every_time() {
    const OWNERS: usize = 64;
    const DEVICES: usize = 40;
    let server = Server::with(&WIDE);
    let world = World::new(&server);
    let owners: Vec<_> = (0..OWNERS).map(|n| world::owner(&world.maker, &server, &format!("Racer{n}"))).collect();
    let devices: Vec<Made> = (0..DEVICES).map(|n| world.device(&format!("prize {n}"))).collect();
    for device in &devices {
        let said = Coap::open(&server.coap).claim(&device.token, br#"{"secretKey":"shared"}"#);
        assert_eq!(said.code, (2, 1));
    }
    let start = Barrier::new(OWNERS);
    let wins: Vec<AtomicUsize> = (0..DEVICES).map(|_| AtomicUsize::new(0)).collect();
    let winner: Vec<Mutex<Option<String>>> = (0..DEVICES).map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for owner in &owners {
            let (start, wins, winner, devices) = (&start, &wins, &winner, &devices);
            scope.spawn(move || {
                for (n, device) in devices.iter().enumerate() {
                    start.wait();
                    let answer = owner.client.claim(&device.name, "shared");
                    match answer.status {
                        200 => {
                            wins[n].fetch_add(1, Ordering::Relaxed);
                            *winner[n].lock().unwrap() = Some(owner.customer.clone());
                        }
                        // Losers of a race may see 429; they showed the right secret, so never "no such device".
                        400 | 429 => {}
                        other => panic!("{other}: {answer:?}"),
                    }
                }
            });
        }
    });
    for (n, device) in devices.iter().enumerate() {
        assert_eq!(wins[n].load(Ordering::Relaxed), 1, "{}", device.name);
        assert_eq!(world.owner_of(device), *winner[n].lock().unwrap(), "the answer and the registry agree");
    }
    let mut successes: HashMap<String, usize> = HashMap::new();
    for row in audit(&world.maker) {
        if row["action"] == "confirm" && row["outcome"] == "claimed" {
            *successes.entry(row["device"].as_str().expect("a device").to_owned()).or_default() += 1;
        }
    }
    assert_eq!(successes.len(), DEVICES);
    assert!(successes.values().all(|count| *count == 1), "{successes:?}");
}

/// All audit rows of the tenant.
fn audit(maker: &Client) -> Vec<serde_json::Value> {
    let (mut rows, mut since) = (Vec::new(), 0);
    loop {
        let page = maker.get(&format!("/api/claimd/v1/audit?since={since}&limit=1000")).ok();
        let page = page["data"].as_array().expect("rows").clone();
        let Some(last) = page.last() else { return rows };
        since = last["seq"].as_i64().expect("a position");
        rows.extend(page);
    }
}

/// What a client knows of one device: secrets it sent, and whether each was acked.
type Ledger = Mutex<Vec<(String, bool)>>;

/// kill -9 at random moments under load; the client's own ledger says what was acked and what was confirmed.
#[test]
fn kill_dash_nine_loses_no_acked_claim_and_no_confirmed_owner() {
    const CYCLES: usize = 12;
    const WRITERS: usize = 4;
    // A claim sent but not acked may be registered or not; finding out costs a wrong try.
    let wide: Vec<_> = WIDE.into_iter().chain([("CLAIMD_ATTEMPTS__PER_ACCOUNT", "100000")]).collect();
    let mut server = Server::with(&wide);
    let mut world = World::new(&server);
    let devices: Vec<Made> = (0..WRITERS * 50).map(|n| world.device(&format!("crash {n}"))).collect();
    // Per device: the secret of the newest acked claim (true); those sent later but not acked may have replaced it.
    let ledger: Vec<Ledger> = devices.iter().map(|_| Mutex::new(Vec::new())).collect();
    let mut confirmed: HashMap<String, String> = HashMap::new();

    for cycle in 0..CYCLES {
        let stop = Arc::new(AtomicBool::new(false));
        let acked = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (stop, ledger, devices, acked, server) = (Arc::clone(&stop), &ledger, &devices, &acked, &server);
                let mine: Vec<usize> = (0..devices.len()).filter(|n| n % WRITERS == writer).collect();
                scope.spawn(move || load(server, devices, ledger, &mine, cycle, &stop, acked));
            }
            let enough = 150 + (cycle * 97) % 400;
            eventually("some load", || (acked.load(Ordering::Relaxed) >= enough).then_some(()));
            stop.store(true, Ordering::Relaxed);
            // Dead at once, with requests of every writer on their way.
            let killed = std::process::Command::new("kill").args(["-KILL", &server.pid().to_string()]).status();
            assert!(killed.expect("kill").success());
        });
        server.reap();
        server.launch();
        world = world.moved(&server);

        for (id, owner) in &confirmed {
            let shown = world.maker.get(&format!("/api/device/{id}")).ok();
            assert_eq!(shown["customerId"]["id"], owner.as_str(), "cycle {cycle}: a confirmed owner is gone");
        }
        // Half of the devices are confirmed now; what was acked must be there to confirm.
        for (n, device) in devices.iter().enumerate().filter(|(n, _)| n % 2 == cycle % 2) {
            let mut candidates = std::mem::take(&mut *ledger[n].lock().unwrap());
            // What was under way at the end and never acked is owed to nobody.
            if !candidates.iter().any(|(_, acked)| *acked) || confirmed.contains_key(&device.id) {
                continue;
            }
            // Newest first: an unacked later one may have been registered before the end.
            candidates.reverse();
            let won = candidates.iter().any(|(secret, _)| world.alice.client.claim(&device.name, secret).status == 200);
            assert!(won, "cycle {cycle}: the acked claim of {} is lost", device.name);
            confirmed.insert(device.id.clone(), world.alice.customer.clone());
            if n % 4 < 2 {
                // Back into the game, for the next cycles.
                assert_eq!(world.alice.client.unclaim(&device.name).status, 200);
                confirmed.remove(&device.id);
            }
        }
    }
    assert!(!confirmed.is_empty());
}

/// Submits for some devices until the server is gone. The ledger keeps, for each, the newest acked secret and whatever
/// was sent after it.
fn load(
    server: &Server,
    devices: &[Made],
    ledger: &[Ledger],
    mine: &[usize],
    cycle: usize,
    stop: &AtomicBool,
    acked: &AtomicUsize,
) {
    let coap = Coap::open(&server.coap);
    for round in 0.. {
        for &n in mine {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let secret = format!("c{cycle}r{round}");
            ledger[n].lock().unwrap().push((secret.clone(), false));
            let body = json!({"secretKey": secret}).to_string();
            let ack = if n % 8 < 4 {
                coap.try_claim(&devices[n].token, body.as_bytes()).map(|code| code == (2, 1))
            } else {
                Mqtt::try_claim(&server.mqtt, &devices[n].token, body.as_bytes())
            };
            match ack {
                Some(true) => {
                    acked.fetch_add(1, Ordering::Relaxed);
                    // Newest wins: nothing older can be confirmed any more.
                    *ledger[n].lock().unwrap() = vec![(secret, true)];
                }
                Some(false) => {
                    ledger[n].lock().unwrap().retain(|(kept, _)| *kept != secret);
                }
                None => return,
            }
        }
    }
}
