//! claimd on PostgreSQL: one registry, two nodes.

use std::process::Command;

use serde_json::json;
use testkit::postgres::{Over, PostgresServer, Stop, Tls};
use testkit::tls::Authority;

use crate::harness::postgres::settings;
use crate::harness::tools::run;
use crate::harness::{Client, Made, Server, World, eventually};

/// Another node of the same install: the same database, the same master key, a folder of its own.
fn another(first: &Server, database: &[(&'static str, String); 2]) -> Server {
    let key = first.data_dir().join("keys/master.key").display().to_string();
    let [backend, url] = database;
    Server::with(&[(backend.0, &backend.1), (url.0, &url.1), ("CLAIMD_SERVER__MASTER_KEY_FILE", &key)])
}

fn first_node() -> (Server, [(&'static str, String); 2]) {
    let database = settings();
    let [backend, url] = &database;
    (Server::with(&[(backend.0, &backend.1), (url.0, &url.1)]), database)
}

fn submit(server: &Server, device: &Made, secret: &str) -> u16 {
    let body = json!({"secretKey": secret}).to_string();
    Client::stranger(&server.http).send("POST", &format!("/api/v1/{}/claim", device.token), &[], &body).status
}

#[test]
fn an_owner_of_one_node_is_the_owner_at_every_node_and_after_a_kill() {
    let (mut here, database) = first_node();
    let there = another(&here, &database);
    let world = World::new(&here);
    let at_other = world.moved(&there);
    let device = world.device("pump");
    assert_eq!(submit(&here, &device, "right"), 200);
    assert_eq!(world.bob.client.claim("pump", "wrong").body, "\"FAILURE\"");
    assert_eq!(world.alice.client.claim("pump", "right").status, 200);
    for world in [&world, &at_other] {
        assert_eq!(world.owner_of(&device), Some(world.alice.customer.clone()));
    }
    // The second node hears of the owner from the registry.
    assert_eq!(submit(&there, &device, "other"), 409);
    assert_ne!(at_other.bob.client.claim("pump", "right").status, 200);
    assert_eq!(at_other.alice.client.unclaim("pump").status, 200);
    assert_eq!(world.owner_of(&device), None);
    eventually("the fence of the unclaim is passed", || {
        assert_eq!(submit(&there, &device, "again"), 200);
        (at_other.bob.client.claim("pump", "again").status == 200).then_some(())
    });
    here.kill_dash_nine();
    here.launch();
    let world = world.moved(&here);
    assert_eq!(world.owner_of(&device), Some(world.bob.customer.clone()));
    assert_ne!(world.alice.client.claim("pump", "right").status, 200);
}

#[test]
fn two_nodes_make_one_audit_chain_and_sign_with_one_key() {
    let (here, database) = first_node();
    let mut there = another(&here, &database);
    let world = World::new(&here);
    let at_other = world.moved(&there);
    for n in 0..10 {
        for (world, node) in [(&world, "here"), (&at_other, "there")] {
            let body = json!({"id": format!("{node}-{n}")});
            assert_eq!(world.maker.post("/api/claimd/v1/applications/default/devices", &body).status, 200);
        }
    }
    let whole = |maker: &Client| {
        eventually("every row is sealed", || {
            let said = maker.get("/api/claimd/v1/audit/verify").ok();
            assert_eq!(said["result"], "whole", "{said}");
            (said["unsealed"] == 0).then_some(said)
        })
    };
    let (one, other) = (whole(&world.maker), whole(&at_other.maker));
    assert!(one["rows"].as_u64().is_some_and(|rows| rows >= 20), "{one}");
    assert_eq!(one["head"], other["head"]);
    assert_eq!(there.stop(), Some(0));
    assert_eq!(whole(&world.maker)["head"], one["head"]);
}

#[test]
fn an_address_that_does_not_answer_ends_the_start_without_its_password() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_claimd"));
    command.arg("serve").arg("--data-dir").arg(folder.path()).env_clear();
    command.env("CLAIMD_REGISTRY__BACKEND", "postgres");
    command.env("CLAIMD_REGISTRY__URL", "postgresql://claimd:hunter2@127.0.0.1:1/claimd");
    let output = run(&mut command, "");
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_ne!(output.status.code(), Some(0));
    assert!(talk.contains("the registry postgresql 127.0.0.1/claimd") && talk.contains("next"), "{talk}");
    assert!(!talk.contains("hunter2"), "{talk}");
}

#[test]
fn with_tls_a_node_serves_and_its_database_s_password_is_in_no_log() {
    let authority = Authority::new();
    let identity = authority.server(&["localhost"]);
    let tls = Tls { identity: &identity, authority: &authority, demands_certificate: false };
    let store = PostgresServer::with(&[], &Over::Tls(tls));
    let url = format!("postgresql://claimd:hunter2-of-the-database@localhost:{}/{}", store.port(), store.database());
    let ca = authority.certificate().display().to_string();
    let server = Server::with(&[
        ("CLAIMD_REGISTRY__BACKEND", "postgres"),
        ("CLAIMD_REGISTRY__URL", &url),
        ("CLAIMD_REGISTRY__TLS_CA_FILE", &ca),
        ("CLAIMD_LOG__LEVEL", "trace"),
    ]);
    let world = World::new(&server);
    let device = world.device("pump");
    assert_eq!(submit(&server, &device, "right"), 200);
    assert_eq!(world.alice.client.claim("pump", "right").status, 200);
    store.stop(Stop::Fast);
    assert_eq!(world.alice.client.unclaim("pump").status, 503);
    let log = server.log();
    assert!(log.contains("the registry failed") && !log.contains("hunter2"), "{log}");
}
