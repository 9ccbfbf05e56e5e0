//! `claimd doctor`: each fault is provoked for real, and found with what to do about it.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use testkit::RedisServer;
use testkit::postgres::PostgresServer;

use crate::harness::desk::Desk;
use crate::harness::tools::{run, said};
use crate::harness::{Server, World};

/// What a check says: its state, what was found, what to do.
type Found = (String, String, String);

/// A doctor who comes to these settings; no port but those that the system gives.
fn doctor(data_dir: &Path, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_claimd"));
    command.env_clear().args(["doctor", "--output", "json", "--data-dir"]).arg(data_dir);
    for key in ["MQTT__BIND", "MQTT__WS_BIND", "COAP__BIND", "HTTP__BIND", "ADMIN__BIND"] {
        command.env(format!("CLAIMD_{key}"), "127.0.0.1:0");
    }
    command.envs(settings.iter().copied());
    command
}

fn read(output: &Output) -> BTreeMap<String, Found> {
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(output)));
    let text = |check: &Value, member: &str| check[member].as_str().unwrap_or_default().to_owned();
    let checks = findings["checks"].as_array().expect("checks");
    let found =
        |check: &Value| (text(check, "check"), (text(check, "state"), text(check, "found"), text(check, "next")));
    let checks: BTreeMap<String, Found> = checks.iter().map(found).collect();
    let faults = checks.values().filter(|(state, ..)| state == "fault").count();
    assert_eq!(findings["faults"], faults, "{findings}");
    assert_eq!(output.status.code(), Some(i32::from(faults > 0)), "{findings}");
    for (check, (state, _, next)) in &checks {
        assert_eq!(state == "ok", next.is_empty(), "`{check}` says what to do when something is wrong, and only then");
    }
    checks
}

fn examine(data_dir: &Path, settings: &[(&str, &str)]) -> BTreeMap<String, Found> {
    read(&run(&mut doctor(data_dir, settings), ""))
}

#[track_caller]
fn assert_found(checks: &BTreeMap<String, Found>, check: &str, state: &str, part: &str) {
    let found = checks.get(check).unwrap_or_else(|| panic!("no `{check}` in {checks:?}"));
    assert!(found.0 == state && found.1.contains(part), "`{check}` is {found:?}");
}

#[test]
fn before_the_first_start_nothing_is_at_fault_and_nothing_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().join("data");
    let checks = examine(&data_dir, &[]);
    assert_found(&checks, "data folder", "ok", "is made at the first start");
    assert_found(&checks, "master key", "ok", "is made at the first start");
    assert_found(&checks, "registry", "ok", "made at the first start");
    assert!(checks.values().all(|(state, ..)| state != "fault"), "{checks:?}");
    assert!(!data_dir.exists(), "the doctor makes nothing");
}

#[test]
fn a_server_that_runs_is_known_by_its_ports_and_its_folder() {
    let server = Server::with(&[]);
    let running = [
        ("CLAIMD_MQTT__BIND", server.mqtt.as_str()),
        ("CLAIMD_MQTT__WS_BIND", server.ws.trim_end_matches("/mqtt")),
        ("CLAIMD_COAP__BIND", &server.coap),
        ("CLAIMD_HTTP__BIND", &server.http),
        ("CLAIMD_ADMIN__BIND", &server.admin),
    ];
    let checks = examine(&server.data_dir(), &running);
    let held = format!("is held by the server that runs (process {})", server.pid());
    for port in ["mqtt.bind", "mqtt.ws_bind", "coap.bind", "http.bind", "admin.bind"] {
        assert_found(&checks, port, "ok", &held);
    }
    let whose = checks["descriptors"].1.contains(&format!("the server that runs (process {})", server.pid()));
    assert!(whose, "{checks:?}");
    // The same ports for an install of another folder.
    let folder = tempfile::tempdir().expect("a folder");
    let checks = examine(folder.path(), &running);
    assert_found(&checks, "http.bind", "fault", &format!("is held by `claimd` (process {})", server.pid()));
}

#[test]
fn ports_that_others_have_or_nobody_may_have_are_faults() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let checks = examine(
        folder.path(),
        &[
            ("CLAIMD_MQTT__BIND", &address),
            ("CLAIMD_HTTP__BIND", "192.0.2.1:8080"),
            ("CLAIMD_ADMIN__BIND", "here"),
            ("CLAIMD_COAP__BIND", ""),
        ],
    );
    assert_found(&checks, "mqtt.bind", "fault", &format!("(process {})", std::process::id()));
    assert!(checks["mqtt.bind"].2.contains("set another with `mqtt.bind`"), "{checks:?}");
    assert_found(&checks, "http.bind", "fault", "is not an address of this machine");
    assert_found(&checks, "admin.bind", "fault", "is no address and port");
    assert_found(&checks, "coap.bind", "ok", "off");
    assert!(!checks.contains_key("udp buffer"), "there is no UDP");
}

#[test]
fn files_that_others_may_read_or_nobody_can_write_are_found() {
    let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("a mode");
    let mut server = Server::with(&[("CLAIMD_REGISTRY__BACKEND", "sqlite"), ("CLAIMD_REGISTRY__URL", "")]);
    server.stop();
    let data_dir = server.data_dir();
    let checks = examine(&data_dir, &[]);
    assert_found(&checks, "master key", "ok", "its reader's alone");
    assert_found(&checks, "data folder", "ok", "(mode 0700)");
    assert_found(&checks, "data disk", "ok", "a synced write takes");
    assert_found(&checks, "registry", "ok", "writable");
    mode(&data_dir, 0o755);
    mode(&data_dir.join("keys/master.key"), 0o644);
    std::fs::write(data_dir.join("registry.db"), "no database").expect("written");
    let checks = examine(&data_dir, &[]);
    assert_found(&checks, "data folder", "warn", "(mode 0755)");
    assert_found(&checks, "master key", "fault", "can be read by others (mode 0644)");
    assert!(checks["master key"].2.contains("chmod 600"), "{checks:?}");
    assert_found(&checks, "registry", "fault", "cannot be written");
    // Nobody writes here, root included.
    let checks = examine(Path::new("/proc/self"), &[]);
    assert_found(&checks, "data disk", "fault", "cannot be written");
    // A secret in a file that others read.
    let file = data_dir.join("claimd.toml");
    std::fs::write(&file, "[bootstrap]\nadmin_password = \"twelve letters\"\n").expect("written");
    mode(&file, 0o644);
    let asked = |file: &Path| read(&run(doctor(&data_dir, &[]).arg("--config").arg(file), ""));
    let checks = asked(&file);
    assert_found(&checks, "settings", "fault", "is mode 0644 and holds `bootstrap.admin_password`");
    assert!(!format!("{checks:?}").contains("twelve letters"));
    mode(&file, 0o600);
    assert_found(&asked(&file), "settings", "ok", "claimd.toml");
    mode(&data_dir, 0o700);
    // What the manifests are signed by.
    let signers = file.display().to_string();
    let settings = [("CLAIMD_MANIFEST__LOG_SIGNERS", signers.as_str()), ("CLAIMD_MANIFEST__ROOTS", "/nowhere.pem")];
    let checks = examine(&data_dir, &settings);
    assert_found(&checks, "manifest.log_signers", "fault", "holds no certificate");
    assert_found(&checks, "manifest.roots", "fault", "cannot be read");
}

#[test]
fn too_few_descriptors_are_a_fault_and_fewer_than_asked_for_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    let limited = |limit: u32, settings: &[(&str, &str)]| {
        let own = doctor(folder.path(), settings);
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(format!("ulimit -n {limit} && exec \"$0\" \"$@\"")).arg(own.get_program());
        shell.args(own.get_args()).env_clear().envs(own.get_envs().filter_map(|(key, value)| Some((key, value?))));
        read(&run(&mut shell, ""))
    };
    assert_found(&limited(512, &[]), "descriptors", "fault", "may have 512;");
    assert_found(&limited(2048, &[]), "descriptors", "warn", "on 3 listeners asks for 300256");
    assert_found(&limited(2048, &[("CLAIMD_LIMITS__CONNECTIONS", "500")]), "descriptors", "ok", "asks for 1756");
}

#[test]
fn a_claim_store_that_evicts_follows_is_full_or_is_away_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let ask = |url: &str| {
        let settings = [("CLAIMD_CLAIM_CACHE__BACKEND", "redis"), ("CLAIMD_CLAIM_CACHE__REDIS_URL", url)];
        examine(folder.path(), &settings)
    };
    let good = RedisServer::with(&[("maxmemory", "100mb"), ("appendonly", "yes")]);
    let checks = ask(&good.url());
    assert_found(&checks, "claims", "ok", "noeviction, replicas 0, writes to its disk");
    assert_found(&checks, "claims memory", "ok", "of 100 MiB used");
    assert_found(&checks, "claims clock", "ok", "ours");
    assert!(checks.contains_key("claims delay"));
    let boundless = RedisServer::with(&[("maxmemory-policy", "allkeys-lru")]);
    let checks = ask(&boundless.url());
    assert_found(&checks, "claims", "fault", "maxmemory-policy is allkeys-lru");
    assert!(checks["claims"].2.contains("CONFIG SET maxmemory-policy noeviction"), "{checks:?}");
    assert_found(&checks, "claims memory", "warn", "no maxmemory");
    let full = RedisServer::with(&[("maxmemory", "1mb"), ("replicaof", "127.0.0.1 1")]);
    let checks = ask(&full.url());
    assert_found(&checks, "claims memory", "warn", "of 1 MiB used");
    assert_found(&checks, "claims", "fault", "this is a replica");
    let checks = ask("redis://claimd:hunter2@127.0.0.1:1/0");
    assert_found(&checks, "claims", "fault", "claim_cache.redis_url");
    assert!(!format!("{checks:?}").contains("hunter2"), "{checks:?}");
}

#[test]
fn a_database_that_loses_commits_denies_rights_or_is_away_is_found() {
    let (folder, server) = (tempfile::tempdir().expect("a folder"), PostgresServer::start());
    let ask = |url: &str| {
        let settings = [("CLAIMD_REGISTRY__BACKEND", "postgres"), ("CLAIMD_REGISTRY__URL", url)];
        examine(folder.path(), &settings)
    };
    let url = server.url(&server.database());
    let checks = ask(&url);
    assert_found(&checks, "registry", "ok", "its tables are made at the first start");
    assert_found(&checks, "registry connections", "ok", "a node opens up to 16");
    assert_found(&checks, "registry clock", "ok", "ours");
    assert!(checks.contains_key("registry delay"));
    assert_found(
        &ask(&format!("{url} options='-c synchronous_commit=off'")),
        "registry",
        "fault",
        "synchronous_commit off",
    );
    // Somebody who may sign in and nothing else.
    let postgres = |sql: &str| {
        let mut psql = Command::new("/usr/lib/postgresql/15/bin/psql");
        let output = run(psql.args(["-v", "ON_ERROR_STOP=1", &url, "-c", sql]), "");
        assert!(output.status.success(), "{}", said(&output));
    };
    postgres("CREATE ROLE guest LOGIN");
    let guest = url.replace("user=claimd", "user=guest");
    assert_found(&ask(&guest), "registry", "fault", "this user may not make tables");
    let running = Server::with(&[("CLAIMD_REGISTRY__BACKEND", "postgres"), ("CLAIMD_REGISTRY__URL", &url)]);
    assert_found(&ask(&url), "registry", "ok", "schema 2");
    drop(running);
    postgres("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest");
    assert_found(&ask(&guest), "registry", "fault", "this user may not change rows");
    postgres("UPDATE schema_version SET version = 99");
    assert_found(&ask(&url), "registry", "fault", "it has schema 99, this claimd knows up to");
    let checks = ask("postgresql://claimd:hunter2@127.0.0.1:1/claimd");
    assert_found(&checks, "registry", "fault", "cannot be reached");
    assert!(!format!("{checks:?}").contains("hunter2"), "{checks:?}");
    let mut few = doctor(folder.path(), &[("CLAIMD_REGISTRY__BACKEND", "postgres"), ("CLAIMD_REGISTRY__URL", &url)]);
    let checks = read(&run(few.env("CLAIMD_REGISTRY__CONNECTIONS", "1000"), ""));
    assert_found(&checks, "registry connections", "fault", "allows 300");
}

#[test]
fn the_doctor_claims_over_every_transport_and_leaves_nothing_behind() {
    let (desk, world) = Desk::new();
    let devices =
        |world: &World| world.maker.get("/api/tenant/devices?pageSize=100&page=0").json()["totalElements"].clone();
    let customers =
        |world: &World| world.maker.get("/api/customers?pageSize=100&page=0").json()["totalElements"].clone();
    let before = (devices(&world), customers(&world));
    let ready = desk.server.ready_file().display().to_string();
    let data_dir = desk.server.data_dir().display().to_string();
    let asked = ["doctor", "--self-claim", "--output", "json", "--data-dir", &data_dir, "--ready-file", &ready];
    let own_ports = |command: &'static mut Command| {
        for key in ["MQTT__BIND", "MQTT__WS_BIND", "COAP__BIND", "HTTP__BIND", "ADMIN__BIND"] {
            command.env(format!("CLAIMD_{key}"), "127.0.0.1:0");
        }
        command
    };
    let checks = read(&run(own_ports(desk.command("maker", &asked)), ""));
    for transport in ["mqtt", "mqtt5", "ws", "coap", "http"] {
        assert_found(&checks, &format!("self-claim {transport}"), "ok", "claimed and removed again");
    }
    assert_eq!((devices(&world), customers(&world)), before, "nothing is left");
    assert_eq!(desk.server.metric("claimd_confirmations_total{outcome=\"claimed\""), 5.0);
    assert_eq!(desk.server.metric("claimd_pending_claims "), 0.0);
    // An owner may not; nor does a transport answer that is not there.
    let checks = read(&run(own_ports(desk.command("alice", &asked)), ""));
    assert_eq!(checks["self-claim"].0, "fault", "{checks:?}");
    let away = desk.file("ready.json");
    std::fs::write(&away, r#"{"mqtt": "127.0.0.1:1", "mqtt_ws": "", "coap": ""}"#).expect("written");
    let away = away.display().to_string();
    let asked = ["doctor", "--self-claim", "--output", "json", "--data-dir", &data_dir, "--ready-file", &away];
    let checks = read(&run(own_ports(desk.command("maker", &asked)), ""));
    assert_eq!(checks["self-claim mqtt"].0, "fault", "{checks:?}");
    assert_eq!(checks["self-claim http"].0, "ok", "{checks:?}");
    assert!(!checks.contains_key("self-claim coap") && !checks.contains_key("self-claim ws"), "{checks:?}");
    assert_eq!((devices(&world), customers(&world)), before, "nothing is left of a claim that failed either");
}

#[test]
fn findings_are_read_by_people_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("master.key");
    std::fs::write(&key, [1; 31]).expect("written");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).expect("a mode");
    let own =
        doctor(&folder.path().join("data"), &[("CLAIMD_MQTT__BIND", "192.0.2.1:1883"), ("CLAIMD_COAP__BIND", "")]);
    let mut shown = Command::new(own.get_program());
    shown.args(["doctor", "--output", "table", "--data-dir"]).arg(folder.path().join("data")).env_clear();
    shown.envs(own.get_envs().filter_map(|(key, value)| Some((key, value?))));
    shown.env("CLAIMD_SERVER__MASTER_KEY_FILE", &key).env("CLAIMD_LIMITS__CONNECTIONS", "10");
    let output = run(&mut shown, "");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let text = String::from_utf8_lossy(&output.stdout).replace(&folder.path().display().to_string(), "FOLDER");
    // What differs from machine to machine.
    let text: Vec<String> = text
        .lines()
        .filter(|line| !line.contains("descriptors") && !line.contains("MiB free") && !line.contains("ulimit"))
        .map(|line| if line.contains("in memory, ") { "ok     claims  in memory".to_owned() } else { line.to_owned() })
        .collect();
    insta::assert_snapshot!("doctor", text.join("\n"));
}
