//! Faults in the middle of a claim. What clients were told is held against the registry at the end.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use testkit::RedisServer;
use testkit::fault_proxy::{Fault, Way};

use crate::harness::faulty::FaultyStores;
use crate::harness::world::claim_path;
use crate::harness::{Answer, Client, Made, Server, World, eventually};

fn submit(server: &Server, device: &Made, secret: &str) -> u16 {
    let body = json!({"secretKey": secret}).to_string();
    Client::stranger(&server.http).send("POST", &format!("/api/v1/{}/claim", device.token), &[], &body).status
}

/// A claim with a retry key.
fn claim(client: &Client, device: &Made, secret: &str, key: &str) -> Answer {
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key)];
    client.send("POST", &claim_path(&device.name), &headers, &json!({"secretKey": secret}).to_string())
}

/// Each round the connection of a confirm is reset after some bytes, to or from PostgreSQL, while another owner claims at
/// another node. Whoever heard nothing certain asks again; then one of them is the owner, and it is the one who was told.
#[test]
fn a_confirm_that_is_reset_at_any_byte_has_one_owner_and_a_retry_tells_who() {
    const ROUNDS: usize = 120;
    const SEED: u64 = 41;
    let stores = FaultyStores::start();
    let here = stores.node();
    let there = &stores.sound;
    let world = World::new(&here);
    let sound = world.moved(there);
    let mut dice = StdRng::seed_from_u64(SEED);
    let (mut unsure, mut cut) = (0, stores.registry.cut());
    let first_cut = cut;
    for round in 0..ROUNDS {
        let device = sound.device(&format!("midway {round}"));
        assert_eq!(submit(there, &device, "s"), 200);
        let way = if dice.random_bool(0.5) { Way::ToStore } else { Way::FromStore };
        let raced = dice.random_bool(0.5);
        let key = format!("midway-{round}");
        stores.registry.set(way, Fault::ResetAfter(dice.random_range(0..2_500)));
        let (alice, bob) = std::thread::scope(|scope| {
            let bob = raced.then(|| scope.spawn(|| sound.bob.client.claim(&device.name, "s")));
            let alice = claim(&world.alice.client, &device, "s", &key);
            (alice, bob.map(|bob| bob.join().expect("no panic")))
        });
        let struck = stores.registry.cut() > cut;
        stores.registry.heal();
        cut = stores.registry.cut();
        assert!(alice.status != 503 || struck, "round {round}: 503 without a fault");
        unsure += usize::from(alice.status == 503);
        let alice = match alice.status {
            503 => eventually("a certain answer", || {
                let again = claim(&world.alice.client, &device, "s", &key);
                (again.status != 503).then_some(again)
            }),
            _ => alice,
        };
        let bob = bob.map(|bob| bob.status);
        let owner = sound.owner_of(&device).expect("somebody claimed it");
        assert_eq!(alice.status == 200, owner == world.alice.customer, "round {round}: {alice:?}");
        assert_eq!(bob == Some(200), owner == world.bob.customer, "round {round}: {bob:?}");
    }
    eprintln!("seed {SEED}, {ROUNDS} rounds, {} connections reset, {unsure} answers were 503", cut - first_cut);
    assert!(unsure >= ROUNDS / 10, "only {unsure} confirms met their reset");
}

/// Whoever was told so is the owner, whatever the claim store forgets in between; and a guesser gets no more tries by it
/// than the one that was under way each time.
#[test]
fn a_claim_store_that_is_emptied_amid_claims_and_guesses_loses_no_owner_and_gives_no_guesses() {
    const DEVICES: usize = 24;
    const HARMS: usize = 6;
    const BUDGET: usize = 5;
    let stores = FaultyStores::start();
    let here = stores.node();
    let FaultyStores { mut redis, sound: there, .. } = stores;
    let world = World::new(&here);
    let at_other = world.moved(&there);
    let mallory = crate::harness::world::owner(&world.maker, &here, "Mallory").client;
    let guarded = world.device("guarded");
    assert_eq!(submit(&here, &guarded, "right"), 200);
    let devices: Vec<Made> = (0..DEVICES).map(|n| world.device(&format!("emptied {n}"))).collect();
    let (claimed, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (guessed, told) = std::thread::scope(|scope| {
        let guesser = scope.spawn(|| {
            let mut judged = 0;
            for node in [&here, &there].into_iter().cycle() {
                judged += usize::from(mallory.at(&node.http).claim(&guarded.name, "wrong").status == 400);
                if done.load(Ordering::SeqCst) {
                    return judged;
                }
            }
            unreachable!("it goes round and round")
        });
        let owners = [(&world.alice, &here, &there), (&at_other.bob, &there, &here)].map(|(owner, mine, other)| {
            let (devices, claimed) = (&devices, &claimed);
            scope.spawn(move || {
                devices
                    .iter()
                    .map(|device| {
                        // Until it is somebody's. Each announces it where the other claims.
                        eventually("an owner", || {
                            let announced = submit(other, device, "s");
                            let answer = owner.client.at(&mine.http).claim(&device.name, "s");
                            let mine = answer.status == 200;
                            claimed.fetch_add(usize::from(mine), Ordering::SeqCst);
                            (mine || announced == 409).then_some(mine)
                        })
                    })
                    .collect::<Vec<bool>>()
            })
        });
        for harm in 0..HARMS {
            eventually("some claims", || (claimed.load(Ordering::SeqCst) >= harm * DEVICES / HARMS).then_some(()));
            if harm % 2 == 0 {
                redis.say(&["FLUSHALL"]);
            } else {
                redis.kill();
                redis.start_again();
            }
        }
        let told = owners.map(|owner| owner.join().expect("no panic"));
        done.store(true, Ordering::SeqCst);
        (guesser.join().expect("no panic"), told)
    });
    let [alice, bob] = told;
    for (device, (alice, bob)) in devices.iter().zip(alice.into_iter().zip(bob)) {
        let owner = world.owner_of(device).expect("somebody claimed it");
        assert_eq!((alice, bob), (owner == world.alice.customer, owner == world.bob.customer), "{}", device.name);
    }
    assert!(guessed <= BUDGET + HARMS, "{guessed} guesses were judged");
    assert_eq!(mallory.claim(&guarded.name, "wrong").status, 429);
    assert_eq!(world.owner_of(&guarded), None);
}

/// What the replica has not heard of: two claims spent, a device given back, three wrong guesses.
#[test]
fn when_a_stale_replica_takes_over_spent_claims_are_dead_and_guesses_counted() {
    let mut stores = FaultyStores::start();
    // Replication goes over TCP.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    stores.redis.say(&["CONFIG", "SET", "port", &port.to_string()]);
    let replica = RedisServer::with(&[("replicaof", &format!("127.0.0.1 {port}"))]);
    let server = stores.node();
    let world = World::new(&server);
    let [kept, returned, guessed] = ["kept", "returned", "guessed at"].map(|name| world.device(name));
    for device in [&kept, &returned, &guessed] {
        assert_eq!(submit(&server, device, "s"), 200);
    }
    stores.redis.say(&["SET", "all-before", "this"]);
    eventually("the replica has heard of all", || replica.say(&["GET", "all-before"]).contains("this").then_some(()));
    assert!(replica.say(&["REPLICAOF", "NO", "ONE"]).starts_with("+OK"));
    for device in [&kept, &returned] {
        assert_eq!(world.alice.client.claim(&device.name, "s").status, 200);
    }
    assert_eq!(world.alice.client.unclaim(&returned.name).status, 200);
    for _ in 0..3 {
        assert_eq!(world.bob.client.claim(&guessed.name, "wrong").status, 400);
    }
    stores.claims.lead_to(&replica.socket());
    stores.redis.kill();
    // The claims are back, and their secret opens neither.
    for device in [&kept, &returned] {
        let answer = eventually("the replica is asked", || {
            let answer = world.bob.client.claim(&device.name, "s");
            (answer.status != 503).then_some(answer)
        });
        assert_eq!(answer.status, 400, "{}: {answer:?}", device.name);
    }
    assert_eq!(world.owner_of(&kept), Some(world.alice.customer.clone()));
    assert_eq!(world.owner_of(&returned), None);
    let judged: Vec<u16> = (0..3).map(|_| world.bob.client.claim(&guessed.name, "wrong").status).collect();
    assert_eq!(judged, [400, 400, 429], "five are five");
    assert_eq!(world.alice.client.claim(&guessed.name, "s").status, 200, "what was not spent is alive");
    assert_eq!(submit(&server, &returned, "again"), 200);
    assert_eq!(world.alice.client.claim(&returned.name, "again").status, 200);
}

/// The statement waits for a row that somebody else has locked, and then nothing is heard of it: it may yet be done.
#[test]
fn a_confirm_whose_commit_nobody_can_tell_of_is_unknown_and_a_retry_settles_it() {
    let stores = FaultyStores::start();
    // Long enough to cut it off while it waits for the row.
    let server = stores.node_waiting("5s");
    let world = World::new(&server);
    let device = world.device("perhaps");
    assert_eq!(submit(&server, &device, "s"), 200);
    let mut locker = stores.psql(&["-q"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("psql");
    let mut said = BufReader::new(locker.stdout.take().expect("its output"));
    let lock = format!("BEGIN; SELECT 'locked' FROM device WHERE id = '{}' FOR UPDATE;\n", device.id);
    locker.stdin.as_mut().expect("its input").write_all(lock.as_bytes()).expect("asked");
    let mut line = String::new();
    said.read_line(&mut line).expect("an answer");
    assert!(line.contains("locked"), "{line}");
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let answer = std::thread::scope(|scope| {
        // Without a retry key it is one statement, and so its own commit.
        let claim = scope.spawn(|| world.alice.client.claim(&device.name, "s"));
        eventually("the confirm waits for the row", || {
            let output = stores.psql(&["-c", waiting]).output().expect("psql");
            (output.stdout.starts_with(b"1") || claim.is_finished()).then_some(())
        });
        stores.registry.set(Way::FromStore, Fault::Swallow);
        claim.join().expect("no panic")
    });
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.contains("it is not known whether the change was made"), "{answer:?}");
    assert!(answer.header("Retry-After").is_some(), "{answer:?}");
    // The end of its input ends the transaction.
    drop(locker.stdin.take());
    assert!(locker.wait().expect("an end").success());
    stores.registry.heal();
    eventually("a certain answer", || {
        let again = world.alice.client.claim(&device.name, "s");
        (again.status == 200).then_some(())
    });
    assert_eq!(world.owner_of(&device), Some(world.alice.customer));
}
