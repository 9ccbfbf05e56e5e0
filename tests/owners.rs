//! The owner's side end to end: who gets which answer, what stays after a miss, budgets, retries, unclaim.

use serde_json::json;

use crate::harness::{Client, Made, Server, World, world};

fn submit(server: &Server, device: &Made, body: &str) -> u16 {
    Client::stranger(&server.http).send("POST", &format!("/api/v1/{}/claim", device.token), &[], body).status
}

#[test]
fn strangers_of_every_kind_get_one_answer() {
    let server = Server::start();
    let world = World::new(&server);
    let owned = world.device("owned");
    submit(&server, &owned, r#"{"secretKey":"right"}"#);
    assert_eq!(world.bob.client.claim("owned", "right").status, 200);
    let open = world.device("open");
    submit(&server, &open, r#"{"secretKey":"right"}"#);
    world.device("silent");
    let shape = |answer: crate::harness::world::Answer| {
        let mut headers: Vec<_> = answer
            .headers
            .into_iter()
            .filter(|(name, _)| !["date", "x-request-id"].contains(&name.to_lowercase().as_str()))
            .collect();
        headers.sort();
        (answer.status, headers, answer.body)
    };
    let unknown = shape(world.alice.client.claim("no such device", "guess"));
    assert_eq!((unknown.0, unknown.2.as_str()), (400, "\"FAILURE\""));
    for name in ["owned", "open", "silent"] {
        assert_eq!(shape(world.alice.client.claim(name, "guess")), unknown, "{name}");
    }
    // The pending claim is alive after the miss.
    assert_eq!(world.alice.client.claim("open", "right").status, 200);
}

#[test]
fn thingsboard_disclosure_tells_as_thingsboard_does() {
    let server = Server::with(&[("CLAIMD_OWNER_API__DISCLOSURE", "thingsboard")]);
    let world = World::new(&server);
    let device = world.device("d");
    let unknown = world.alice.client.claim("no such device", "x");
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.json()["errorCode"], 32);
    // no evidence: FAILURE while unowned, CLAIMED when owned
    assert_eq!(world.alice.client.claim("d", "x").body, "\"FAILURE\"");
    submit(&server, &device, r#"{"secretKey":"right"}"#);
    assert_eq!(world.alice.client.claim("d", "wrong").body, "\"FAILURE\"");
    assert_eq!(world.bob.client.claim("d", "right").status, 200);
    let owned = world.alice.client.claim("d", "x");
    assert_eq!((owned.status, owned.body.as_str()), (400, "\"CLAIMED\""));
}

#[test]
fn the_right_secret_earns_the_reason() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("late");
    submit(&server, &device, r#"{"secretKey":"right","durationMs":1}"#);
    std::thread::park_timeout(std::time::Duration::from_millis(5));
    let answer = crate::harness::eventually("the window has ended", || {
        let answer = world.alice.client.claim("late", "right");
        (answer.status == 400).then_some(answer)
    });
    assert_eq!((answer.body.as_str(), answer.header("Claim-Reason")), ("\"FAILURE\"", Some("window_ended")));
    submit(&server, &device, r#"{"secretKey":"right"}"#);
    assert_eq!(world.bob.client.claim("late", "right").status, 200);
    let theirs = world.alice.client.claim("late", "right");
    assert_eq!(theirs.header("Claim-Reason"), Some("owned"), "{theirs:?}");
    let mine = world.bob.client.claim("late", "whatever");
    assert_eq!((mine.body.as_str(), mine.header("Claim-Reason")), ("\"CLAIMED\"", Some("already_yours")));
}

#[test]
fn makers_do_not_claim_and_strangers_are_asked_who_they_are() {
    let server = Server::start();
    let world = World::new(&server);
    world.device("d");
    let maker = world.maker.claim("d", "");
    assert_eq!((maker.status, maker.json()["errorCode"].as_i64()), (403, Some(20)));
    let stranger = Client::stranger(&server.http).claim("d", "");
    assert_eq!((stranger.status, stranger.json()["errorCode"].as_i64()), (401, Some(10)));
    assert!(stranger.header("WWW-Authenticate").is_some());
}

#[test]
fn wrong_tries_end_at_five_a_device_and_twenty_an_account_and_right_ones_are_free() {
    let server = Server::start();
    let world = World::new(&server);
    for n in 0..10 {
        let device = world.device(&format!("d{n}"));
        submit(&server, &device, r#"{"secretKey":"right"}"#);
    }
    for _ in 0..5 {
        assert_eq!(world.alice.client.claim("d0", "wrong").status, 400);
    }
    let blocked = world.alice.client.claim("d0", "right");
    assert_eq!((blocked.status, blocked.json()["errorCode"].as_i64()), (429, Some(33)));
    assert!(blocked.header("Retry-After").is_some_and(|s| s.parse::<u32>().is_ok_and(|s| s > 0 && s <= 600)));
    // Another account is not affected, nor is the device's claim.
    assert_eq!(world.bob.client.claim("d0", "right").status, 200);
    for n in 1..4 {
        for _ in 0..5 {
            assert_eq!(world.alice.client.claim(&format!("d{n}"), "wrong").status, 400);
        }
    }
    assert_eq!(world.alice.client.claim("d9", "wrong").status, 429, "the account's twenty are used up");
    assert_eq!(world.bob.client.claim("d9", "right").status, 200);
    // An unknown name is counted like a known one.
    for _ in 0..5 {
        assert_eq!(world.bob.client.claim("nothing here", "x").status, 400);
    }
    assert_eq!(world.bob.client.claim("nothing here", "x").status, 429);
}

#[test]
fn budgets_survive_kill_dash_nine() {
    let mut server = Server::start();
    let world = World::new(&server);
    let device = world.device("d");
    submit(&server, &device, r#"{"secretKey":"right"}"#);
    for _ in 0..5 {
        assert_eq!(world.alice.client.claim("d", "wrong").status, 400);
    }
    server.kill_dash_nine();
    server.launch();
    let world = world.moved(&server);
    assert_eq!(world.alice.client.claim("d", "right").status, 429);
    assert_eq!(world.bob.client.claim("d", "right").status, 200, "the pending claim survived too");
}

#[test]
fn only_the_owner_and_the_maker_unclaim() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("d");
    submit(&server, &device, r#"{"secretKey":"s"}"#);
    assert_eq!(world.alice.client.claim("d", "s").status, 200);
    let foreign = world.bob.client.unclaim("d");
    let unknown = world.bob.client.unclaim("no such device");
    assert_eq!((foreign.status, unknown.status), (404, 404));
    assert_eq!(foreign.json()["errorCode"], 32);
    assert_eq!(world.owner_of(&device), Some(world.alice.customer.clone()));
    let released = world.alice.client.unclaim("d");
    assert_eq!((released.status, released.body.as_str()), (200, ""));
    assert_eq!(world.owner_of(&device), None);
    // Claimed again by the other, taken back by the maker.
    submit(&server, &device, r#"{"secretKey":"t"}"#);
    assert_eq!(world.bob.client.claim("d", "t").status, 200);
    assert_eq!(world.maker.unclaim("d").status, 200);
    assert_eq!(world.owner_of(&device), None);
    // Unowned with a claim pending: a customer cannot drop it, the maker can.
    submit(&server, &device, r#"{"secretKey":"u"}"#);
    assert_eq!(world.bob.client.unclaim("d").status, 404);
    assert_eq!(world.maker.unclaim("d").status, 200);
    assert_eq!(world.bob.client.claim("d", "u").status, 400);
}

#[test]
fn spent_evidence_never_works_again() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("d");
    submit(&server, &device, r#"{"secretKey":"s"}"#);
    assert_eq!(world.alice.client.claim("d", "s").status, 200);
    assert_eq!(world.alice.client.unclaim("d").status, 200);
    assert_eq!(world.bob.client.claim("d", "s").status, 400);
}

#[test]
fn an_idempotency_key_brings_the_first_answer_again() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("d");
    submit(&server, &device, r#"{"secretKey":"s"}"#);
    let claim = |key: &str, secret: &str| {
        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key)];
        world.alice.client.send("POST", &world::claim_path("d"), &headers, &json!({"secretKey": secret}).to_string())
    };
    assert_eq!(claim("k1", "wrong").body, "\"FAILURE\"");
    let first = claim("k2", "s");
    assert_eq!(first.status, 200, "{first:?}");
    let again = claim("k2", "s");
    assert_eq!((again.status, again.json()["response"].as_str()), (200, Some("SUCCESS")));
    assert_eq!(claim("k1", "wrong").body, "\"FAILURE\"", "refusals are answered again as well");
    assert_eq!(claim("k2", "other").status, 422);
    assert_eq!(world.alice.client.claim("d", "s").body, "\"CLAIMED\"", "without a key, as ThingsBoard answers");
}

#[test]
fn claiming_data_is_a_second_evidence_inside_its_window() {
    let server = Server::start();
    let world = World::new(&server);
    let write = |device: &Made, value: serde_json::Value| {
        world.maker.post(&format!("/api/plugins/telemetry/DEVICE/{}/SERVER_SCOPE", device.id), &value)
    };
    let far = 4_102_444_800_000_i64;
    let device = world.device("d");
    assert_eq!(write(&device, json!({"claimingData": {"secretKey": "K", "expirationTime": far}})).status, 200);
    submit(&server, &device, r#"{"secretKey":"other"}"#);
    assert_eq!(world.alice.client.claim("d", "K").status, 200, "a pending claim with another secret does not mask it");
    let refused = write(&device, json!({"claimingData": {"secretKey": "L", "expirationTime": far}}));
    assert!(refused.status == 400 && refused.body.contains("takes no new code"), "{refused:?}");
    assert_eq!(world.alice.client.unclaim("d").status, 200);
    assert_eq!(world.alice.client.claim("d", "K").status, 400, "spent by the claim");

    let past = world.device("past");
    assert_eq!(
        write(&past, json!({"claimingData": "{\"secretKey\":\"K\",\"expirationTime\":\"1640995200000\"}"})).status,
        200
    );
    let late = world.alice.client.claim("past", "K");
    assert_eq!((late.status, late.header("Claim-Reason")), (400, Some("code_ended")));
    let shown = world
        .maker
        .get(&format!("/api/plugins/telemetry/DEVICE/{}/values/attributes/SERVER_SCOPE?keys=claimingData", past.id));
    assert!(shown.body.contains("[redacted]") && !shown.body.contains("\"K\""), "{shown:?}");
}

#[test]
fn where_claiming_is_not_allowed_by_default_the_attribute_decides() {
    let server = Server::with(&[("CLAIMD_CLAIM__ALLOW_BY_DEFAULT", "false")]);
    let world = World::new(&server);
    let device = world.device("d");
    assert_eq!(submit(&server, &device, r#"{"secretKey":"s"}"#), 403);
    let path = format!("/api/plugins/telemetry/DEVICE/{}/attributes/SERVER_SCOPE", device.id);
    assert_eq!(world.maker.post(&path, &json!({"claimingAllowed": "true"})).status, 400, "a text is no boolean");
    assert_eq!(submit(&server, &device, r#"{"secretKey":"s"}"#), 403);
    assert_eq!(world.maker.post(&path, &json!({"claimingAllowed": true})).status, 200);
    assert_eq!(submit(&server, &device, r#"{"secretKey":"s"}"#), 200);
    assert_eq!(world.alice.client.claim("d", "s").status, 200);
    assert_eq!(world.alice.client.unclaim("d").status, 200);
    assert_eq!(submit(&server, &device, r#"{"secretKey":"s"}"#), 200, "an unclaim allows it again");
}

#[test]
fn tenants_never_meet() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("same name");
    submit(&server, &device, r#"{"secretKey":"s"}"#);
    let tenant = world.maker.post("/api/tenant", &json!({"title": "Other maker"})).ok();
    let body = json!({"email": "other@example.com", "authority": "TENANT_ADMIN", "tenantId": tenant["id"]});
    let admin = world.maker.post("/api/user?sendActivationMail=false", &body).ok();
    let link = world.maker.get(&format!("/api/user/{}/activationLink", admin["id"]["id"].as_str().expect("an id")));
    let token = link.body.split("activateToken=").nth(1).expect("a token").trim().to_owned();
    let activation = json!({"activateToken": token, "password": "the other maker's password"});
    Client::stranger(&server.http).post("/api/noauth/activate", &activation).ok();
    let other = Client::sign_in(&server.http, "other@example.com", "the other maker's password");
    let eve = world::owner(&other, &server, "Eve");
    assert_eq!(eve.client.claim("same name", "s").status, 400);
    assert_eq!(other.get(&format!("/api/device/{}", device.id)).status, 404);
    assert_eq!(other.delete(&format!("/api/device/{}", device.id)).status, 404);
    assert_eq!(other.unclaim("same name").status, 404);
    assert_eq!(world.alice.client.claim("same name", "s").status, 200);
}
