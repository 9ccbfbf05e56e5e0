//! What operators watch: every metric that the dashboard and the alert rules name is in a scrape of a server that worked, and
//! what the metrics say is what happened.

use std::collections::BTreeSet;

use serde_json::Value;
use testkit::RedisServer;

use crate::harness::tools::{program, root, run, said};
use crate::harness::{Client, Coap, Mqtt, Server, Version, World, eventually};

fn scrape(server: &Server) -> String {
    Client::stranger(&server.admin).get("/metrics").body
}

/// Claims over every transport, a batch, confirms that succeed and fail, an unclaim.
fn traffic(server: &Server) -> World {
    let world = World::new(server);
    let body = br#"{"secretKey":"right"}"#;
    let (one, two) = (world.device("one"), world.device("two"));
    Mqtt::connect(&server.mqtt, Version::V5, &one.token).ask("v1/devices/me/claim", body);
    assert_eq!(Coap::open(&server.coap).claim(&two.token, body).code, (2, 1));
    let path = format!("/api/v1/{}/claim", one.token);
    assert_eq!(Client::stranger(&server.http).send("POST", &path, &[], r#"{"secretKey":"right"}"#).status, 200);
    let gateway = world.gateway("gw");
    Mqtt::connect(&server.mqtt, Version::V5, &gateway.token)
        .ask("v1/gateway/claim", br#"{"child":{"secretKey":"right"}}"#);
    assert_ne!(world.alice.client.claim("one", "wrong").status, 200);
    assert_eq!(world.alice.client.claim("one", "right").status, 200);
    assert_eq!(world.alice.client.unclaim("one").status, 200);
    world
}

/// The names of metrics in an expression.
fn names(expression: &str) -> impl Iterator<Item = &str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    expression.split(move |c| !word(c)).filter(|name| name.starts_with("claimd_"))
}

/// Every series that a scrape has, by name.
fn series(scrape: &str) -> BTreeSet<&str> {
    scrape.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next()).collect()
}

#[test]
fn every_metric_of_the_dashboard_and_the_alerts_is_in_a_scrape() {
    let store = RedisServer::start();
    let server =
        Server::with(&[("CLAIMD_CLAIM_CACHE__BACKEND", "redis"), ("CLAIMD_CLAIM_CACHE__REDIS_URL", &store.url())]);
    traffic(&server);
    let scraped = scrape(&server);
    let series = series(&scraped);
    let folder = root().join("examples/deploy/observability");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect(name);
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let mut expressions: Vec<String> =
        targets.map(|target| target["expr"].as_str().expect("an expression").to_owned()).collect();
    let shown = expressions.len();
    let alerts = read("alerts.yml");
    expressions.extend(alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).map(str::to_owned));
    assert!(shown > 30 && expressions.len() > shown + 20, "{shown} of {}", expressions.len());
    let missing: BTreeSet<&str> =
        expressions.iter().flat_map(|expression| names(expression)).filter(|name| !series.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?} are not in\n{scraped}");
    // Each alert says in docs/operators.md what to do.
    let paper = std::fs::read_to_string(root().join("docs/operators.md")).expect("the operators' paper");
    for alert in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(paper.contains(&format!("`{alert}`")), "docs/operators.md does not explain `{alert}`");
    }
    // And each metric is in its table.
    let told: BTreeSet<&str> = names(&paper).map(|name| name.trim_end_matches("_total")).collect();
    let untold: Vec<&&str> = series
        .iter()
        .filter(|name| {
            let family =
                ["_total", "_bucket", "_sum", "_count"].iter().fold(**name, |name, end| name.trim_end_matches(end));
            !told.contains(family)
        })
        .collect();
    assert!(untold.is_empty(), "docs/operators.md does not tell of {untold:?}");
}

#[test]
fn prometheus_has_nothing_to_say_against_rules_and_metrics() {
    let rules = root().join("examples/deploy/observability/alerts.yml");
    let checked = run(program("promtool").args(["check", "rules"]).arg(rules), "");
    assert!(checked.status.success() && said(&checked).contains("SUCCESS"), "{}", said(&checked));
    // It reads expressions too, by a rule for each that the dashboard shows.
    let dashboard = std::fs::read_to_string(root().join("examples/deploy/observability/dashboard.json")).expect("it");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (number, target) in targets.enumerate() {
        let expression = target["expr"].as_str().expect("an expression").replace("$__rate_interval", "5m");
        rules += &format!("      - record: r{number}\n        expr: {}\n", Value::from(expression));
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("rules.yml"), rules).expect("written");
    let checked = run(program("promtool").args(["check", "rules"]).arg(folder.path().join("rules.yml")), "");
    assert!(checked.status.success(), "{}", said(&checked));
}

#[test]
fn waiting_for_a_store_is_measured_and_its_silence_counted() {
    let mut store = RedisServer::start();
    let server =
        Server::with(&[("CLAIMD_CLAIM_CACHE__BACKEND", "redis"), ("CLAIMD_CLAIM_CACHE__REDIS_URL", &store.url())]);
    assert_eq!(server.metric("claimd_ready "), 1.0);
    assert_eq!(server.metric("claimd_store_errors_total"), 0.0);
    let world = traffic(&server);
    for (store, op) in [("claims", "record"), ("claims", "peek"), ("claims", "try"), ("registry", "assign")] {
        let line = format!("claimd_store_seconds_count{{store=\"{store}\",op=\"{op}\"}}");
        assert!(server.metric(&line) >= 1.0, "{line}\n{}", scrape(&server));
    }
    assert!(server.metric("claimd_confirm_seconds_count{outcome=\"claimed\"}") >= 1.0);
    assert!(server.metric("claimd_confirm_seconds_count{outcome=\"refused\"}") >= 1.0);
    let device = world.device("three");
    store.kill();
    let path = format!("/api/v1/{}/claim", device.token);
    assert_eq!(Client::stranger(&server.http).send("POST", &path, &[], r#"{"secretKey":"s"}"#).status, 503);
    let line = "claimd_store_errors_total{store=\"claims\",op=\"record\"}";
    assert_eq!(server.metric(line), 1.0, "{}", scrape(&server));
    eventually("the node says that it is not ready", || (server.metric("claimd_ready ") == 0.0).then_some(()));
}

#[test]
fn what_memory_answers_is_not_measured_as_a_store() {
    let server = Server::with(&[("CLAIMD_CLAIM_CACHE__BACKEND", "memory"), ("CLAIMD_CLAIM_CACHE__REDIS_URL", "")]);
    traffic(&server);
    assert_eq!(server.metric("claimd_store_seconds_count{store=\"claims\",op=\"record\"}"), 0.0);
    assert!(server.metric("claimd_store_seconds_count{store=\"registry\",op=\"assign\"}") >= 1.0);
    let scraped = scrape(&server);
    assert!(scraped.contains("mode=\"embedded\"") || scraped.contains("mode=\"postgresql\""), "{scraped}");
}
