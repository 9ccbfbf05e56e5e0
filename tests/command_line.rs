//! The command line: what a new user types first, and what an operator relies on.

use std::process::{Command, Stdio};

use crate::harness::tools::{run, run_for, said};
use crate::harness::{Client, Coap, Server, World, eventually};

fn claimd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_claimd"));
    command.env_clear();
    command
}

#[test]
fn the_demo_holds_every_expectation() {
    let output = run_for(
        claimd().args(["demo", "--devices", "5", "--children", "200"]),
        "",
        std::time::Duration::from_secs(240),
    );
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    let table = String::from_utf8_lossy(&output.stdout);
    for transport in ["mqtt", "mqtt5", "coap", "http", "gateway"] {
        assert!(table.contains(transport), "{table}");
    }
}

#[test]
fn help_says_what_there_is() {
    let output = run(claimd().arg("--help"), "");
    assert!(output.status.success());
    insta::assert_snapshot!("help", String::from_utf8_lossy(&output.stdout));
    let commands: [&[&str]; 29] = [
        &["demo"],
        &["doctor"],
        &["health"],
        &["serve"],
        &["simulate", "device"],
        &["simulate", "gateway"],
        &["simulate", "owner"],
        &["load"],
        &["login"],
        &["application"],
        &["device", "create"],
        &["import"],
        &["export"],
        &["device", "claim"],
        &["claim"],
        &["qr"],
        &["audit", "verify"],
        &["keys", "rotate"],
        &["tenant"],
        &["customer"],
        &["account"],
        &["gateway"],
        &["claim", "submit"],
        &["role"],
        &["group"],
        &["backup"],
        &["restore"],
        &["migrate"],
        &["migrate", "store"],
    ];
    for command in commands {
        let output = run(claimd().args(command).arg("--help"), "");
        insta::assert_snapshot!(format!("help_{}", command.join("_")), String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn check_config_lists_every_fault_and_exits_with_two() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("claimd.toml");
    std::fs::write(&file, "[mqtt]\nbnid = \"0.0.0.0:1883\"\n[limits]\nconnections = 0.5\n").expect("written");
    let output = run(claimd().arg("check-config").arg("--config").arg(&file), "");
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!("check_config", said(&output));
    std::fs::write(&file, "[limits]\nconnections = 5\n").expect("written");
    let output = run(claimd().arg("check-config").arg("--config").arg(&file), "");
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn the_file_of_settings_may_be_named_by_a_variable() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("claimd.toml");
    std::fs::write(&file, "[limits]\nconnections = 5\n").expect("written");
    let output = run(claimd().args(["config", "print"]).env("CLAIMD_CONFIG", &file), "");
    assert!(output.status.success(), "{}", said(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("connections = 5\n"));
}

#[test]
fn config_print_can_be_fed_back() {
    let output = run(claimd().args(["config", "print"]), "");
    assert!(output.status.success());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("printed.toml");
    std::fs::write(&file, &output.stdout).expect("written");
    let again = run(claimd().args(["config", "print", "--config"]).arg(&file), "");
    assert_eq!(output.stdout, again.stdout, "{}", said(&again));
}

#[test]
fn a_second_server_on_the_same_folder_is_refused_with_a_way_out() {
    let server = Server::start();
    let output = run(
        claimd()
            .args(["serve", "--data-dir"])
            .arg(server.data_dir())
            .env("CLAIMD_HTTP__BIND", "127.0.0.1:0")
            .env("CLAIMD_ADMIN__BIND", "127.0.0.1:0"),
        "",
    );
    assert!(!output.status.success());
    let text = said(&output);
    assert!(text.contains("in use") && text.contains("next"), "{text}");
}

#[test]
fn a_port_in_use_is_named_with_the_key_to_set() {
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let output = run(
        claimd()
            .args(["serve", "--data-dir"])
            .arg(folder.path())
            .env("CLAIMD_MQTT__BIND", "127.0.0.1:0")
            .env("CLAIMD_MQTT__WS_BIND", "127.0.0.1:0")
            .env("CLAIMD_COAP__BIND", "127.0.0.1:0")
            .env("CLAIMD_ADMIN__BIND", "127.0.0.1:0")
            .env("CLAIMD_HTTP__BIND", &server.http),
        "",
    );
    assert!(!output.status.success());
    let text = said(&output);
    assert!(text.contains("in use") && text.contains("http.bind"), "{text}");
}

#[test]
fn a_graceful_stop_keeps_pending_claims_whatever_the_durability() {
    for durability in ["none", "os", "fsync"] {
        let mut server = Server::with(&[("CLAIMD_CLAIM_CACHE__DURABILITY", durability)]);
        let world = World::new(&server);
        let device = world.device("d");
        assert_eq!(Coap::open(&server.coap).claim(&device.token, br#"{"secretKey":"s"}"#).code, (2, 1));
        assert_eq!(server.stop(), Some(0), "{durability}: exit code of a drain\n{}", server.log());
        server.launch();
        let world = world.moved(&server);
        assert_eq!(world.alice.client.claim("d", "s").status, 200, "{durability}");
    }
}

#[test]
fn health_readiness_and_metrics_are_served() {
    let server = Server::start();
    let admin = Client::stranger(&server.admin);
    assert_eq!(admin.get("/healthz").status, 200);
    let ready = admin.get("/readyz").ok();
    assert_eq!(ready["ready"], true, "{ready}");
    let metrics = admin.get("/metrics").body;
    for name in [
        "claimd_build_info",
        "claimd_connections",
        "claimd_auth_failures",
        "claimd_submissions_total",
        "claimd_submit_seconds",
        "claimd_pending_claims",
        "claimd_pending_claims_limit",
        "claimd_confirmations",
        "claimd_confirm_seconds",
        "claimd_unclaims",
        "claimd_attempts_blocked_total",
        "claimd_limit_reached",
        "claimd_outbox_pending",
        "claimd_disk_free_bytes",
        "claimd_protocol_errors",
        "claimd_coap_suppressed",
    ] {
        assert!(metrics.contains(name), "`{name}` is missing:\n{metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"));
}

/// `claimd simulate …` or `claimd load …` against this server, signed in as its maker.
fn simulator(server: &Server, arguments: &[&str]) -> Command {
    let mut command = claimd();
    command.args(arguments);
    command.args(["--mqtt", &server.mqtt, "--ws", &server.ws, "--coap", &server.coap, "--http", &server.http]);
    command.args(["--admin-email", crate::harness::server::ADMIN, "--output", "json"]);
    command.env("CLAIMD_CLIENT__ADMIN_PASSWORD", crate::harness::server::ADMIN_PASSWORD);
    command
}

fn report(output: &std::process::Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {}", said(output)))
}

#[test]
fn simulated_devices_claim_over_every_transport_and_their_acks_are_promises() {
    let server = Server::start();
    let arguments = ["simulate", "device", "--transport", "all", "--count", "3", "--confirm"];
    let expected = "acked=100%,confirmed=100%,visible=100%,errors=0";
    let output = run(simulator(&server, &arguments).args(["--expect", expected]), "");
    assert!(output.status.success(), "{}", said(&output));
    let report = report(&output);
    let rows = report["transports"].as_array().expect("rows");
    let names: Vec<&str> = rows.iter().filter_map(|row| row["transport"].as_str()).collect();
    assert_eq!(names, ["mqtt", "mqtt5", "ws", "coap", "http"]);
    for row in rows {
        assert_eq!((row["sent"].as_u64(), row["confirmed"].as_u64()), (Some(3), Some(3)), "{row}");
    }
    assert_eq!(server.metric("claimd_confirmations_total{outcome=\"claimed\""), 15.0);
}

#[test]
fn an_expectation_that_does_not_hold_exits_with_one_and_nonsense_with_two() {
    let server = Server::start();
    let arguments = ["simulate", "device", "--transport", "http", "--count", "2"];
    let output = run(simulator(&server, &arguments).args(["--expect", "acked=3"]), "");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("not held: http: acked=3 but is 2"), "{}", said(&output));
    let output = run(simulator(&server, &arguments).args(["--expect", "akced=3"]), "");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("there are acked"), "{}", said(&output));
    let output = run(simulator(&server, &arguments).args(["--secret", "in-clear"]), "");
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("@FILE") && !said(&output).contains("in-clear"), "{}", said(&output));
    let output = run(simulator(&server, &arguments).env_remove("CLAIMD_CLIENT__ADMIN_PASSWORD"), "");
    assert_eq!(output.status.code(), Some(2));
    let output = run(simulator(&server, &arguments).env("CLAIMD_CLIENT__ADMIN_PASSWORD", "not the password"), "");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
}

#[test]
fn nobody_at_the_address_exits_with_seven() {
    let mut server = Server::start();
    let command = &mut simulator(&server, &["simulate", "device"]);
    server.kill_dash_nine();
    let output = run(command, "");
    assert_eq!(output.status.code(), Some(7), "{}", said(&output));
    assert!(said(&output).contains("claimd serve"), "{}", said(&output));
}

#[test]
fn badly_behaved_devices_are_survived_and_counted() {
    let server = Server::start();
    for transport in ["mqtt", "mqtt5", "ws", "coap", "http"] {
        let arguments = ["simulate", "device", "--count", "6", "--confirm", "--seed", "7", "--transport", transport];
        let manners = ["--drop", "30%", "--duplicate", "0.5", "--wrong-rate", "10%", "--slow", "20ms", "--reconnect"];
        let output = run(simulator(&server, &arguments).args(manners).args(["--expect", "errors=0,visible=100%"]), "");
        assert!(output.status.success(), "{transport}: {}", said(&output));
        let row = report(&output)["transports"][0].clone();
        let count = |name: &str| row[name].as_u64().unwrap_or_default();
        assert_eq!(count("sent"), 6, "{row}");
        assert_eq!(count("acked") + count("dropped"), 6, "{transport}: {row}");
        assert_eq!(count("confirmed"), count("acked"), "{transport}: {row}");
    }
}

#[test]
fn a_simulation_that_is_stopped_reports_what_it_did_and_exits_with_130() {
    let server = Server::start();
    let arguments = ["simulate", "device", "--transport", "mqtt5", "--rate", "50", "--for", "10m"];
    let mut command = simulator(&server, &arguments);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a child");
    eventually("claims", || {
        (server.metric("claimd_submissions_total{transport=\"mqtt\",source=\"device\",outcome=\"accepted\"}") >= 5.0)
            .then_some(())
    });
    let sent = Command::new("kill").arg("-INT").arg(child.id().to_string()).status().expect("kill");
    assert!(sent.success());
    let output = child.wait_with_output().expect("an end");
    assert_eq!(output.status.code(), Some(130));
    assert!(report(&output)["transports"][0]["acked"].as_u64().unwrap_or_default() >= 5, "{}", said(&output));
}

#[test]
fn simulated_gateways_speak_for_their_children_in_both_encodings() {
    let server = Server::start();
    for encoding in ["json", "protobuf"] {
        let arguments = ["simulate", "gateway", "--transport", "all", "--children", "25", "--batch", "10", "--confirm"];
        let expected = ["--encoding", encoding, "--expect", "acked=25,confirmed=25,visible=100%,errors=0"];
        let output = run(simulator(&server, &arguments).args(expected), "");
        assert!(output.status.success(), "{encoding}: {}", said(&output));
    }
}

#[test]
fn a_simulated_owner_takes_devices_and_gives_them_back() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("pump-7");
    assert_eq!(Coap::open(&server.coap).claim(&device.token, br#"{"secretKey":"s3cret"}"#).code, (2, 1));
    let owner = |secret: &str, arguments: &[&str]| {
        let mut command = claimd();
        command.args(["simulate", "owner", "--http", &server.http, "--owner-email", &world.alice.email]);
        command.args(arguments).args(["pump-7"]).env("CLAIMD_CLIENT__OWNER_PASSWORD", &world.alice.password);
        run(&mut command, secret)
    };
    let wrong = owner("a guess\n", &["--secret", "@-"]);
    assert_eq!(wrong.status.code(), Some(1), "{}", said(&wrong));
    let right = owner("s3cret\n", &["--secret", "@-"]);
    assert!(right.status.success(), "{}", said(&right));
    assert_eq!(world.owner_of(&device), Some(world.alice.customer.clone()));
    let back = owner("", &["--unclaim"]);
    assert!(back.status.success(), "{}", said(&back));
    assert_eq!(world.owner_of(&device), None);
}

#[test]
fn load_arrives_by_itself_and_its_latencies_are_kept() {
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let histogram = folder.path().join("latencies.csv");
    let mut load = simulator(&server, &["load", "--count", "10", "--rate", "100", "--for", "2s", "--ramp", "1s"]);
    load.args(["--slow", "2", "--pause", "100ms", "--confirm", "--expect", "acked=100%,errors=0,visible=100%"]);
    let output = run(load.arg("--histogram").arg(&histogram), "");
    assert!(output.status.success(), "{}", said(&output));
    assert!(report(&output)["transports"][0]["sent"].as_u64().is_some_and(|sent| sent > 20), "{}", said(&output));
    let rows = std::fs::read_to_string(&histogram).expect("latencies");
    assert!(rows.starts_with("up_to_ms,count\n") && rows.lines().count() > 1, "{rows}");
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let folder = tempfile::tempdir().expect("a folder");
    for shell in ["bash", "zsh", "fish"] {
        let output = run(claimd().args(["completions", shell]), "");
        assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("unauthorize"), "{shell}");
    }
    let output = run(claimd().args(["man", "--out"]).arg(folder.path().join("man")), "");
    assert!(output.status.success(), "{}", said(&output));
    for page in ["claimd.1", "claimd-serve.1", "claimd-device-create.1", "claimd-application-authorize.1"] {
        let text = std::fs::read_to_string(folder.path().join("man").join(page)).expect("a page");
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
}
