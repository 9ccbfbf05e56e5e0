//! Three nodes on one PostgreSQL and one Redis, each asked directly: what one node did holds at every other at once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::harness::world::{Owner, encode, owner};
use crate::harness::{Client, Coap, Heard, Made, Mqtt, Nodes, Server, Version, World, eventually};

/// A round: a device announces itself at one node, and at the other two this shows at once.
const ROUNDS: usize = 2_400;

#[test]
fn an_ack_at_one_node_is_visible_at_every_other_at_once() {
    let nodes = Nodes::start(3, &[]);
    let worlds = nodes.worlds();
    std::thread::scope(|scope| {
        for first in 0..3 {
            let (nodes, worlds) = (&nodes, &worlds);
            scope.spawn(move || {
                for round in 0..ROUNDS / 3 {
                    let [here, there, elsewhere] = [0, 1, 2].map(|step| (first + round + step) % 3);
                    let device = worlds[elsewhere].device(&format!("pump {first} {round}"));
                    let secret = format!("s{round}");
                    announce(&nodes.all[here], &device, &secret, round);
                    let what = format!("{}: acked at node {here}", device.name);
                    assert_eq!(state(&nodes.all[elsewhere], &device), "PENDING", "{what}, looked for at {elsewhere}");
                    let confirmed = worlds[there].alice.client.claim(&device.name, &secret);
                    assert_eq!(confirmed.status, 200, "{what}, confirmed at {there}: {confirmed:?}");
                    for node in [here, elsewhere] {
                        assert_eq!(state(&nodes.all[node], &device), "CLAIMED", "{what}, looked for at {node}");
                    }
                }
            });
        }
    });
}

/// Over MQTT 3.1.1, MQTT 5, HTTP or CoAP in turn.
fn announce(node: &Server, device: &Made, secret: &str, round: usize) {
    let body = json!({"secretKey": secret}).to_string();
    let over_mqtt =
        |version| Mqtt::connect(&node.mqtt, version, &device.token).ask("v1/devices/me/claim", body.as_bytes());
    match round % 4 {
        0 => assert!(matches!(over_mqtt(Version::V311), Heard::PubAck { .. })),
        1 => assert!(matches!(over_mqtt(Version::V5), Heard::PubAck { code: 0, .. })),
        2 => assert_eq!(Coap::open(&node.coap).claim(&device.token, body.as_bytes()).code, (2, 1)),
        _ => {
            let path = format!("/api/v1/{}/claim", device.token);
            assert_eq!(Client::stranger(&node.http).send("POST", &path, &[], &body).status, 200);
        }
    }
}

/// What a node tells a device of its claim.
fn state(node: &Server, device: &Made) -> String {
    let told = Client::stranger(&node.http).get(&format!("/api/v1/{}/claim", device.token)).ok();
    told["claimState"].as_str().unwrap_or_else(|| panic!("{told}")).to_owned()
}

#[test]
fn of_64_owners_over_three_nodes_exactly_one_wins_every_device() {
    const OWNERS: usize = 64;
    /// Owners who want the same device: eight for most, all for some.
    const GROUP: usize = 8;
    const DEVICES: usize = 2_000;
    const WANTED_BY_ALL: usize = 60;
    let nodes = Nodes::start(3, &[]);
    let worlds = nodes.worlds();
    let gateway = worlds[0].gateway("gw");
    let names: Vec<String> = (0..DEVICES + WANTED_BY_ALL).map(|n| format!("prize {n}")).collect();
    for names in names.chunks(500) {
        let batch: Value = names.iter().map(|name| (name.clone(), json!({"secretKey": "shared"}))).collect();
        let mut client = Mqtt::connect(&nodes.all[0].mqtt, Version::V5, &gateway.token);
        // On a busy machine a store is late: nothing was registered then, and a gateway sends again.
        eventually("a batch is taken", || match client.ask("v1/gateway/claim", batch.to_string().as_bytes()) {
            Heard::PubAck { code: 0, .. } => Some(()),
            Heard::PubAck { code: 0x83, .. } => None,
            heard => panic!("{heard:?}"),
        });
    }
    let owners = racers(&nodes, &worlds, OWNERS);
    let wins: Vec<AtomicUsize> = names.iter().map(|_| AtomicUsize::new(0)).collect();
    let winner: Vec<AtomicUsize> = names.iter().map(|_| AtomicUsize::new(usize::MAX)).collect();
    let groups: Vec<Barrier> = (0..OWNERS / GROUP).map(|_| Barrier::new(GROUP)).collect();
    let all = Barrier::new(OWNERS);
    std::thread::scope(|scope| {
        for (number, owner) in owners.iter().enumerate() {
            let (names, wins, winner, groups, all) = (&names, &wins, &winner, &groups, &all);
            scope.spawn(move || {
                let race = |device: usize| match owner.client.claim(&names[device], "shared") {
                    answer if answer.status == 200 => {
                        wins[device].fetch_add(1, Ordering::Relaxed);
                        winner[device].store(number, Ordering::Relaxed);
                    }
                    // Losers of a race may see 429; they showed the right secret, so never "no such device".
                    answer => assert!(matches!(answer.status, 400 | 429), "{answer:?}"),
                };
                for device in (0..DEVICES).filter(|device| device % groups.len() == number / GROUP) {
                    groups[number / GROUP].wait();
                    race(device);
                }
                for device in DEVICES..names.len() {
                    all.wait();
                    race(device);
                }
            });
        }
    });
    // The answer and the registry agree, at whatever node it is asked.
    std::thread::scope(|scope| {
        for (node, world) in worlds.iter().enumerate() {
            let (names, wins, winner, owners) = (&names, &wins, &winner, &owners);
            scope.spawn(move || {
                for n in (node..names.len()).step_by(3) {
                    assert_eq!(wins[n].load(Ordering::Relaxed), 1, "{}", names[n]);
                    let path = format!("/api/tenant/devices?deviceName={}", encode(&names[n]));
                    let owned = world.maker.get(&path).ok()["customerId"]["id"].clone();
                    assert_eq!(owned, owners[winner[n].load(Ordering::Relaxed)].customer, "{}", names[n]);
                }
            });
        }
    });
}

/// Owners whose requests go to the nodes in turn.
fn racers(nodes: &Nodes, worlds: &[World], count: usize) -> Vec<Owner> {
    let made = |n: usize| owner(&worlds[n % 3].maker, &nodes.all[n % 3], &format!("Racer{n}"));
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..3).map(|first| scope.spawn(move || (first..count).step_by(3).map(made).collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("owners")).collect()
    })
}

#[test]
fn budgets_of_wrong_tries_hold_whatever_node_they_hit() {
    let nodes = Nodes::start(3, &[]);
    let worlds = nodes.worlds();
    let devices: Vec<Made> = (0..12).map(|n| worlds[n % 3].device(&format!("guessed {n}"))).collect();
    for (n, device) in devices.iter().enumerate() {
        announce(&nodes.all[n % 3], device, "right", n);
    }
    // Each of these all at the same time, over the nodes in turn; how many were compared.
    let compared = |guesses: Vec<(Client, &str)>| {
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let guess = |n: usize, client: &Client, device: &str| {
                let client = client.at(&nodes.all[n % 3].http);
                let device = device.to_owned();
                scope.spawn(move || client.claim(&device, &format!("wrong {n}")).status)
            };
            let all: Vec<_> =
                guesses.iter().enumerate().map(|(n, (client, device))| guess(n, client, device)).collect();
            all.into_iter().map(|guess| guess.join().expect("an answer")).collect()
        });
        assert!(statuses.iter().all(|status| matches!(status, 400 | 429)), "{statuses:?}");
        statuses.iter().filter(|status| **status == 400).count()
    };
    let alice = &worlds[0].alice.client;
    assert_eq!(compared(vec![(alice.clone(), &*devices[0].name); 24]), 5, "an account and a device");
    for world in &worlds {
        assert_eq!(world.alice.client.claim(&devices[0].name, "right").status, 429, "and at every node from now on");
    }
    assert_eq!(worlds[2].bob.client.claim(&devices[0].name, "right").status, 200, "the guesser alone pays");

    let guesses: Vec<_> = devices[1..11].iter().flat_map(|device| vec![(alice.clone(), &*device.name); 3]).collect();
    assert_eq!(compared(guesses), 20 - 5, "an account");

    let crowd = racers(&nodes, &worlds, 12);
    let last = &*devices[11].name;
    let guesses: Vec<_> = crowd.iter().flat_map(|owner| vec![(owner.client.clone(), last); 5]).collect();
    assert_eq!(compared(guesses), 50, "a device");
    assert_eq!(worlds[1].bob.client.claim(last, "right").status, 429);
}

#[test]
fn a_device_hears_of_its_owner_from_whatever_node_the_owner_used() {
    let nodes = Nodes::start(3, &[]);
    let worlds = nodes.worlds();
    let (device, gateway) = (worlds[0].device("listening"), worlds[0].gateway("gw"));
    let mut client = Mqtt::connect(&nodes.all[0].mqtt, Version::V5, &device.token);
    client.subscribe("v1/devices/me/claim/state");
    assert!(matches!(client.ask("v1/devices/me/claim", br#"{"secretKey":"s"}"#), Heard::PubAck { code: 0, .. }));
    let mut behind = Mqtt::connect(&nodes.all[1].mqtt, Version::V5, &gateway.token);
    behind.subscribe("v1/gateway/attributes");
    let batch = br#"{"child":{"secretKey":"s"}}"#;
    assert!(matches!(behind.ask("v1/gateway/claim", batch), Heard::PubAck { code: 0, .. }));
    std::thread::scope(|scope| {
        let path = format!("/api/v1/{}/claim?wait=60s", device.token);
        let polling = Client::stranger(&nodes.all[1].http);
        let poll = scope.spawn(move || polling.get(&path).ok());
        eventually("the poll waits", || {
            let open = nodes.all[1].metric("claimd_connections{transport=\"http\"}");
            (open >= 1.0).then_some(())
        });
        assert_eq!(worlds[2].alice.client.claim("listening", "s").status, 200);
        assert_eq!(poll.join().expect("an answer")["claimState"], "CLAIMED");
    });
    hears(&mut client, "CLAIMED");
    assert_eq!(worlds[2].alice.client.claim("child", "s").status, 200);
    hears(&mut behind, "CLAIMED");
    assert_eq!(worlds[1].alice.client.unclaim("listening").status, 200);
    hears(&mut client, "NONE");
    // A credential that is taken back at one node ends the session at another.
    worlds[2].maker.delete(&format!("/api/device/{}", device.id));
    loop {
        match client.hear() {
            Heard::Publish { .. } => {}
            Heard::Disconnect { .. } | Heard::Closed => break,
            other => panic!("{other:?}"),
        }
    }
}

/// Waits until a state with this word is pushed.
fn hears(client: &mut Mqtt, state: &str) {
    loop {
        match client.hear() {
            Heard::Publish { payload, .. } if String::from_utf8_lossy(&payload).contains(state) => return,
            Heard::Publish { .. } => {}
            other => panic!("{other:?} before {state}"),
        }
    }
}
