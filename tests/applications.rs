//! A maker's applications, listed devices and claim codes over our own routes; what customers see of them.

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Server, World};

const APPLICATIONS: &str = "/api/claimd/v1/applications";

fn put(client: &Client, path: &str, body: &Value) -> Answer {
    client.send("PUT", path, &[], &body.to_string())
}

fn devices(application: &str) -> String {
    format!("{APPLICATIONS}/{application}/devices")
}

/// Status and text of a problem document.
fn problem(answer: &Answer) -> (u16, String) {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    (answer.status, answer.json()["detail"].as_str().expect("a text").to_owned())
}

#[test]
fn a_maker_makes_lists_changes_and_removes_applications() {
    let server = Server::start();
    let world = World::new(&server);
    let maker = &world.maker;
    let made = maker.post(APPLICATIONS, &json!({"id": "spring-26", "claimingAuthorized": false})).ok();
    assert_eq!((&made["id"], &made["claimingAuthorized"]), (&json!("spring-26"), &json!(false)));
    let list = maker.get(&format!("{APPLICATIONS}?pageSize=1&page=1")).ok();
    assert_eq!((&list["totalElements"], &list["data"][0]["id"]), (&json!(2), &json!("spring-26")));
    let path = format!("{APPLICATIONS}/spring-26");
    let changed = put(maker, &path, &json!({"claimingAuthorized": true, "invalidateCodeOnClaim": false})).ok();
    assert_eq!((&changed["claimingAuthorized"], &changed["invalidateCodeOnClaim"]), (&json!(true), &json!(false)));
    let changed = put(maker, &path, &json!({"invalidateCodeOnClaim": null})).ok();
    assert_eq!((&changed["claimingAuthorized"], &changed["invalidateCodeOnClaim"]), (&json!(true), &Value::Null));
    for bad in
        [json!({"id": "Spring"}), json!({"id": "batch"}), json!({"id": "ab"}), json!({"id": "abc", "x": 1}), json!({})]
    {
        assert_eq!(problem(&maker.post(APPLICATIONS, &bad)).0, 400, "{bad}");
    }
    let (status, text) = problem(&maker.post(APPLICATIONS, &json!({"id": "spring-26"})));
    assert!(status == 409 && text.contains("exists already"), "{text}");
    maker.post(&devices("spring-26"), &json!({"id": "pump-1"})).ok();
    assert!(problem(&maker.delete(&path)).1.contains("devices are listed"));
    maker.delete(&format!("{}/pump-1", devices("spring-26"))).ok();
    maker.delete(&path).ok();
    assert_eq!(problem(&maker.get(&path)).0, 404);
    assert_eq!(problem(&maker.delete(&format!("{APPLICATIONS}/default"))).0, 409);
}

#[test]
fn customers_have_applications_of_their_own_and_see_no_others() {
    let server = Server::start();
    let world = World::new(&server);
    let (alice, bob) = (&world.alice.client, &world.bob.client);
    let made = alice.post(APPLICATIONS, &json!({"id": "alice-home"})).ok();
    assert_eq!(made["customerId"], world.alice.customer.as_str());
    let for_bob = json!({"id": "bob-home", "customerId": world.bob.customer});
    assert_eq!(problem(&alice.post(APPLICATIONS, &for_bob)).0, 403);
    world.maker.post(APPLICATIONS, &for_bob).ok();
    for (who, own) in [(alice, "alice-home"), (bob, "bob-home")] {
        let list = who.get(APPLICATIONS).ok();
        assert_eq!((&list["totalElements"], &list["data"][0]["id"]), (&json!(1), &json!(own)));
    }
    for foreign in ["bob-home", "default"] {
        assert_eq!(problem(&alice.get(&format!("{APPLICATIONS}/{foreign}"))).0, 404);
        assert_eq!(problem(&alice.get(&devices(foreign))).0, 404);
        assert_eq!(problem(&alice.post(&devices(foreign), &json!({"id": "pump-1"}))).0, 404);
        assert_eq!(problem(&alice.delete(&format!("{APPLICATIONS}/{foreign}"))).0, 404);
    }
    // Codes and claiming are the maker's.
    world.maker.post(&devices("default"), &json!({"id": "pump-1"})).ok();
    let code = format!("{}/pump-1/code", devices("default"));
    for answer in [
        put(alice, &code, &json!({"value": "BEEF1234"})),
        alice.get(&code),
        alice.delete(&code),
        put(alice, &format!("{}/pump-1/claiming-allowed", devices("default")), &json!({"allowed": true})),
        put(alice, &format!("{APPLICATIONS}/alice-home"), &json!({"claimingAuthorized": true})),
        alice.delete(&format!("{}/pump-1", devices("default"))),
    ] {
        assert_eq!(problem(&answer).0, 403);
    }
}

#[test]
fn codes_are_set_generated_windowed_read_back_and_deleted() {
    let server = Server::start();
    let world = World::new(&server);
    let maker = &world.maker;
    let body = json!({"id": "pump-1", "name": "Pump 1", "serialNumber": "SN-0001", "devEui": "0004a30b001c0501"});
    let made = maker.post(&devices("default"), &body).ok();
    assert_eq!((&made["name"], &made["devEui"]), (&json!("Pump 1"), &json!("0004A30B001C0501")));
    let code = format!("{}/pump-1/code", devices("default"));
    assert_eq!(problem(&maker.get(&code)).0, 404);
    for (bad, why) in [
        (json!({"value": ""}), "at least one character"),
        (json!({"value": "AB-CD"}), "character 3"),
        (json!({"value": "x".repeat(33)}), "at most 32"),
        (json!({"value": "0000"}), "repeats one character"),
        (json!({"value": "0004A30B001C0501"}), "printed on the device"),
        (json!({"value": "BEEF1234", "generate": "hex8"}), "not both"),
        (json!({"generate": "hex9"}), "`base32` or `hex8`"),
        (json!({"value": "BEEF1234", "valid_from": "2026-01-01"}), "RFC 3339"),
        (json!({"value": "BEEF1234", "valid_to": "2026-02-31T00:00:00Z"}), "no such day"),
        (
            json!({"value": "BEEF1234", "valid_from": "2026-01-01T01:00:00+01:00", "valid_to": "2026-01-01T00:00:00Z"}),
            "ends before it begins",
        ),
        (json!({"vlaue": "BEEF1234"}), "the body is wrong"),
    ] {
        let (status, text) = problem(&put(maker, &code, &bad));
        assert!(status == 400 && text.contains(why), "{bad}: {text}");
        assert!(!text.contains("BEEF1234") && !text.contains("AB-CD"), "{text}");
    }
    assert_eq!(
        problem(&put(maker, &code, &json!({"valid_to": "2999-01-01T00:00:00Z"}))).0,
        404,
        "a window without a code"
    );
    let weak = put(maker, &code, &json!({"value": "ABC12"})).ok();
    assert_eq!(weak["code"]["warnings"].as_array().map(Vec::len), Some(1));
    assert_eq!(weak["code"]["value"], Value::Null, "its maker knows it");
    let hex = put(maker, &code, &json!({"generate": "hex8"})).ok();
    assert_eq!(hex["code"]["value"].as_str().map(str::len), Some(8));
    assert_eq!(hex["code"]["warnings"], json!(["a code of 8 hex digits has 32 bits only"]));
    put(maker, &code, &json!({"value": "BEEF1234", "valid_to": "2026-01-01T00:00:00+01:00"})).ok();
    let read = maker.get(&code).ok();
    assert_eq!((&read["value"], &read["validTo"]), (&json!("BEEF1234"), &json!("2025-12-31T23:00:00Z")));
    // The code's window is over; moved, it opens the device at ThingsBoard's door, spelt as people type.
    assert_eq!(world.alice.client.claim("Pump 1", "beef1234").header("claim-reason"), Some("code_ended"));
    put(maker, &code, &json!({"valid_from": "2026-01-01T00:00:00Z"})).ok();
    assert_eq!(world.alice.client.claim("Pump 1", "beef1234").status, 200);
    assert!(problem(&put(maker, &code, &json!({"value": "BEEF1234"}))).1.contains("takes no new code"));
    assert_eq!(problem(&maker.delete(&format!("{}/pump-1", devices("default")))).0, 409);
    world.alice.client.unclaim("Pump 1");
    put(maker, &code, &json!({"value": "BEEF1234"})).ok();
    assert_eq!(maker.delete(&code).ok()["code"], Value::Null);
    assert_eq!(world.alice.client.claim("Pump 1", "BEEF1234").status, 400);
}

#[test]
fn a_code_and_claiming_data_share_one_slot() {
    let server = Server::start();
    let world = World::new(&server);
    let maker = &world.maker;
    let uid =
        maker.post(&devices("default"), &json!({"id": "pump-1", "code": {"value": "BEEF1234"}})).ok()["uid"].clone();
    let attributes = format!("/api/plugins/telemetry/DEVICE/{}/SERVER_SCOPE", uid.as_str().expect("an id"));
    let data = json!({"secretKey": "my secret", "expirationTime": 32_503_680_000_000_i64});
    maker.post(&attributes, &json!({"claimingData": data})).ok();
    let path = format!("{}/pump-1", devices("default"));
    assert_eq!(maker.get(&path).ok()["code"], Value::Null, "written over");
    assert_eq!(world.alice.client.claim("pump-1", "BEEF1234").status, 400);
    assert_eq!(world.alice.client.claim("pump-1", "MY SECRET").status, 400, "compared exactly");
    put(maker, &format!("{path}/code"), &json!({"value": "BEEF1234"})).ok();
    assert_eq!(world.alice.client.claim("pump-1", "my secret").status, 400);
    assert_eq!(world.alice.client.claim("pump-1", "BEEF1234").status, 200);
}

#[test]
fn no_code_is_in_the_log_the_audit_the_files_or_a_refusal() {
    const MARK: &str = "MARKEDCODE77";
    let mut server = Server::with(&[("CLAIMD_LOG__LEVEL", "trace")]);
    let world = World::new(&server);
    let maker = &world.maker;
    maker.post(&devices("default"), &json!({"id": "pump-1", "code": {"value": MARK}})).ok();
    let code = format!("{}/pump-1/code", devices("default"));
    let mut heard = Vec::new();
    for bad in [
        json!({"value": format!("{MARK}!")}),
        json!({"value": MARK, "generate": "hex8"}),
        json!({"value": MARK, "x": MARK}),
    ] {
        heard.push(put(maker, &code, &bad).body);
    }
    heard.push(maker.post(&devices("default"), &json!({"id": "pump-1", "code": {"value": MARK}})).body);
    heard.push(world.alice.client.claim("pump-1", MARK).body);
    heard.push(world.bob.client.claim("pump-1", MARK).body);
    heard.push(put(maker, &code, &json!({"value": MARK})).body);
    heard.push(maker.get("/api/claimd/v1/audit?limit=1000").body);
    heard.push(maker.get(&format!("{}/pump-1", devices("default"))).body);
    world.alice.client.unclaim("pump-1");
    put(maker, &code, &json!({"value": MARK})).ok();
    assert_eq!(server.stop(), Some(0));
    heard.push(server.log());
    assert!(heard.iter().all(|text| !text.to_uppercase().contains(MARK)), "{heard:#?}");
    server.nothing_stored_has(&[MARK.as_bytes()]);
}

#[test]
fn an_api_key_acts_as_its_maker_until_it_is_removed() {
    const KEYS: &str = "/api/claimd/v1/api-keys";
    let server = Server::start();
    let world = World::new(&server);
    let made = world.maker.post(KEYS, &json!({"name": "factory line 3"})).ok();
    let key = made["key"].as_str().expect("the key, once").to_owned();
    assert!(key.starts_with("clk_") && key.len() == 47, "{}", key.len());
    let list = world.maker.get(KEYS).ok();
    assert_eq!((&list[0]["name"], &list[0]["key"]), (&json!("factory line 3"), &Value::Null));
    let mut tool = Client::stranger(&server.http);
    tool.bearer = Some(key.clone());
    tool.post(&devices("default"), &json!({"id": "pump-1"})).ok();
    let authorize = "/api/v3/edcs/applications/default/authorize";
    assert_eq!(world.maker.post(authorize, &json!({"api_key": key})).status, 200);
    // Nobody else sees or removes it; an owner's key is an owner.
    let id = made["id"].as_str().expect("an id");
    assert_eq!(problem(&world.alice.client.delete(&format!("{KEYS}/{id}"))).0, 404);
    assert_eq!(world.alice.client.get(KEYS).ok(), json!([]));
    let owners = world.alice.client.post(KEYS, &json!({"name": "app", "expiresAt": "2999-01-01T00:00:00Z"})).ok();
    let mut app = Client::stranger(&server.http);
    app.bearer = Some(owners["key"].as_str().expect("the key").to_owned());
    assert_eq!(problem(&app.get(&format!("{}/pump-1/code", devices("default")))).0, 403);
    assert_eq!(app.get("/api/auth/user").ok()["email"], world.alice.email.as_str());
    for bad in [
        json!({"name": ""}),
        json!({}),
        json!({"name": "x", "expiresAt": "2020-01-01T00:00:00Z"}),
        json!({"name": "x", "expiresAt": "soon"}),
    ] {
        assert_eq!(problem(&world.maker.post(KEYS, &bad)).0, 400, "{bad}");
    }
    world.maker.delete(&format!("{KEYS}/{id}")).ok();
    assert_eq!(problem(&tool.get(APPLICATIONS)).0, 401, "at once");
    assert_eq!(world.maker.post(authorize, &json!({"api_key": key})).status, 403);
    let mut nonsense = Client::stranger(&server.http);
    nonsense.bearer = Some("clk_nonsense".to_owned());
    assert_eq!(problem(&nonsense.get(APPLICATIONS)).0, 401);
}

#[test]
fn a_maker_pauses_asks_for_presence_and_takes_a_device_back() {
    let server = Server::start();
    let world = World::new(&server);
    let maker = &world.maker;
    let path = format!("{}/pump-1", devices("default"));
    maker.post(&devices("default"), &json!({"id": "pump-1", "code": {"value": "BEEF1234"}})).ok();
    let frozen = put(maker, &path, &json!({"frozen": true, "reason": "recall"})).ok();
    assert_eq!((&frozen["frozen"], &frozen["presence"]), (&json!(true), &json!(false)));
    assert_eq!(world.alice.client.claim("pump-1", "BEEF1234").header("claim-reason"), Some("frozen"));
    assert_eq!(
        world.alice.client.claim("pump-1", "BEEF1235").header("claim-reason"),
        Some("refused"),
        "nobody else hears"
    );
    put(maker, &path, &json!({"frozen": false, "presence": true})).ok();
    assert_eq!(world.alice.client.claim("pump-1", "BEEF1234").header("claim-reason"), Some("press_button"));
    // It has a credential all the same; now somebody presses its button.
    let uid = maker.get(&path).ok()["uid"].clone();
    let credentials = maker.get(&format!("/api/device/{}/credentials", uid.as_str().expect("an id"))).ok();
    let token = credentials["credentialsId"].as_str().expect("a token").to_owned();
    let announced = Client::stranger(&server.http).post(&format!("/api/v1/{token}/claim"), &json!({}));
    assert_eq!(announced.status, 200, "{announced:?}");
    assert_eq!(world.alice.client.claim("pump-1", "BEEF1234").status, 200);
    let force = format!("{path}/force-release");
    assert_eq!(problem(&world.alice.client.post(&force, &json!({"reason": "mine"}))).0, 403);
    assert_eq!(problem(&maker.post(&force, &json!({"reason": ""}))).0, 400);
    assert_eq!(maker.post(&force, &json!({"reason": "returned to the shop"})).ok()["owner"], Value::Null);
    assert_eq!(problem(&maker.post(&force, &json!({"reason": "again"}))).0, 400);
    let rows = maker.get("/api/claimd/v1/audit?limit=1000").ok()["data"].clone();
    let reasons = |action: &str| {
        let rows = rows.as_array().expect("rows").iter().filter(|row| row["action"] == action);
        rows.map(|row| row["reason"].as_str().expect("a reason").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(reasons("device.frozen"), ["recall"]);
    assert_eq!(reasons("device.claim_force_released"), ["returned to the shop"]);
    assert_eq!(reasons("unclaim").len(), 1);
    for bad in [json!({"frozen": "yes"}), json!({"frozn": true}), json!({"reason": "x".repeat(256)})] {
        assert_eq!(problem(&put(maker, &path, &bad)).0, 400, "{bad}");
    }
}
