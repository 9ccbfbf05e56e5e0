//! The OpenAPI document: every operation in it is there, and every call that ThingsBoard's tools make is in it.

use serde_json::Value;

use crate::harness::{Client, Server};

/// Calls of thingsboard.md 3 and 4, and our own, as the document writes them.
const CALLS: &[(&str, &str)] = &[
    ("post", "/api/auth/login"),
    ("post", "/api/auth/token"),
    ("get", "/api/auth/user"),
    ("post", "/api/noauth/activate"),
    ("post", "/api/customer"),
    ("get", "/api/customers"),
    ("post", "/api/user"),
    ("post", "/api/device"),
    ("post", "/api/device-with-credentials"),
    ("get", "/api/tenant/device"),
    ("get", "/api/tenant/devices"),
    ("post", "/api/device/credentials"),
    ("post", "/api/tenant"),
    ("get", "/api/tenants"),
    ("post", "/api/deviceProfile"),
    ("get", "/api/deviceProfiles"),
    ("post", "/api/relation"),
    ("get", "/api/claimd/v1/audit"),
    ("get", "/api/claimd/v1/audit/verify"),
    ("get", "/api/claimd/v1/keys"),
    ("post", "/api/claimd/v1/keys/jwt/rotate"),
    ("post", "/api/claimd/v1/keys/master/rotate"),
    ("get", "/api/claimd/v1/watch"),
    ("post", "/api/claimd/v1/applications"),
    ("put", "/api/claimd/v1/applications/{application}/devices/{device}/code"),
    ("get", "/api/users"),
    ("post", "/api/claimd/v1/roles"),
    ("post", "/api/claimd/v1/customers/{customerId}/groups"),
    ("put", "/api/claimd/v1/customers/{customerId}/groups/{groupId}/roles/{roleId}"),
    ("put", "/api/claimd/v1/customers/{customerId}/groups/{groupId}/users/{userId}"),
    ("get", "/api/claimd/v1/gateways"),
    ("get", "/api/claimd/v1/claims"),
    ("post", "/api/v3/edcs/claim"),
    ("get", "/api/v3/edcs/claim/{application}/devices/{device}"),
    ("delete", "/api/v3/edcs/claim/{application}/devices/{device}"),
    ("delete", "/api/v3/edcs/claim/{application}/devices/batch"),
    ("post", "/api/v3/edcs/claim/info"),
    ("post", "/api/v3/edcs/claim/info/batch"),
    ("post", "/api/v3/edcs/applications/{application}/authorize"),
    ("delete", "/api/v3/edcs/applications/{application}/authorize"),
    ("get", "/api/v3/qr-codes/end-devices/formats"),
    ("get", "/api/v3/qr-codes/end-devices/formats/{format}"),
    ("post", "/api/v3/qr-codes/end-devices"),
    ("post", "/api/v3/qr-codes/end-devices/parse"),
    ("post", "/api/v3/qr-codes/end-devices/{format}/parse"),
    ("post", "/api/v3/qr-codes/gateways/parse"),
    ("post", "/api/v3/qr-codes/gateways/{format}/parse"),
];

fn document(server: &Server) -> Value {
    Client::stranger(&server.http).get("/api/claimd/v1/openapi.json").ok()
}

/// The document's paths with their operations.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let mut all = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("operations") {
            if ["get", "post", "put", "delete", "patch"].contains(&method.as_str()) {
                all.push((method.clone(), path.clone(), operation.clone()));
            }
        }
    }
    all
}

#[test]
fn every_documented_operation_exists_and_tells_its_answers() {
    let server = Server::start();
    let document = document(&server);
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{document}");
    let operations = operations(&document);
    assert!(operations.len() >= 30, "{}", operations.len());
    let stranger = Client::stranger(&server.http);
    for (method, path, operation) in operations {
        let responses = operation["responses"].as_object().expect("responses");
        assert!(responses.keys().any(|status| status.starts_with('2')), "{method} {path} has no success");
        let concrete: String = path
            .split('/')
            .map(|segment| if segment.starts_with('{') { "00000000-0000-0000-0000-000000000001" } else { segment })
            .collect::<Vec<_>>()
            .join("/");
        let answer = stranger.send(&method.to_uppercase(), &concrete, &[("Content-Type", "application/json")], "{}");
        assert!(
            ![404, 405, 500, 501].contains(&answer.status) || path.starts_with("/api/v1/"),
            "{method} {path}: {answer:?}"
        );
    }
}

#[test]
fn every_call_of_thingsboards_tools_is_documented() {
    let server = Server::start();
    let document = document(&server);
    let there = operations(&document);
    for (method, path) in CALLS {
        assert!(there.iter().any(|(m, p, _)| m == method && p == path), "{method} {path}");
    }
    for (method, start, end) in [
        ("post", "/api/customer/device/{", "/claim"),
        ("delete", "/api/customer/device/{", "/claim"),
        ("post", "/api/plugins/telemetry/DEVICE/{", "/{scope}"),
        ("get", "/api/user/{", "/activationLink"),
        ("get", "/api/device/{", "/credentials"),
    ] {
        let found = there.iter().any(|(m, p, _)| m == method && p.starts_with(start) && p.ends_with(end));
        assert!(found, "{method} {start}…{end}: {:?}", there.iter().map(|(m, p, _)| (m, p)).collect::<Vec<_>>());
    }
}
