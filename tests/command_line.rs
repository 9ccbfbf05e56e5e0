//! The command line: what a new user types first, and what an operator relies on.

use std::process::Command;

use crate::harness::tools::{run, run_for, said};
use crate::harness::{Client, Coap, Server, World};

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

#[test]
fn simulate_reports_and_its_expectation_decides_the_exit_code() {
    let server = Server::start();
    let mut simulate = claimd();
    simulate.args(["simulate", "device", "--transport", "all", "--count", "3", "--confirm", "--output", "json"]);
    simulate.args(["--mqtt", &server.mqtt, "--ws", &server.ws, "--coap", &server.coap, "--http", &server.http]);
    simulate.args(["--admin-email", crate::harness::server::ADMIN]);
    simulate.env("CLAIMD_CLIENT__ADMIN_PASSWORD", crate::harness::server::ADMIN_PASSWORD);
    let output = run(simulate.args(["--expect", "acked=100%"]), "");
    assert!(output.status.success(), "{}", said(&output));
}
