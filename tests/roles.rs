//! Who may claim: every customer's user by default, with `permissions.claim = "granted"` those to whom a role grants it; the
//! same answer at every door, whatever the device.

use serde_json::{Value, json};

use crate::harness::world::claim_path;
use crate::harness::{Answer, Client, Server, World, eventually};

const GRANTED: (&str, &str) = ("CLAIMD_PERMISSIONS__CLAIM", "granted");
const JOIN_EUI: &str = "70B3D57ED0000000";
const CODE: &str = "BEEF1234";

/// A maker; Alice and Bob, of whom no role says anything yet, each with an application; two devices with codes.
struct Stage {
    server: Server,
    world: World,
}

impl Stage {
    fn new(settings: &[(&str, &str)]) -> Self {
        let server = Server::with(settings);
        let world = World::new(&server);
        for (owner, application) in [(&world.alice, "alice-home"), (&world.bob, "bob-home")] {
            owner.client.post("/api/claimd/v1/applications", &json!({"id": application})).ok();
        }
        for number in 1..=4 {
            let body = json!({"id": format!("pump-{number}"), "devEui": dev_eui(number), "joinEui": JOIN_EUI,
                "code": {"value": CODE}});
            world.maker.post("/api/claimd/v1/applications/default/devices", &body).ok();
        }
        Self { server, world }
    }

    fn role(&self, name: &str) -> String {
        let body = json!({"name": name, "type": "GENERIC", "permissions": {"DEVICE": ["CLAIM_DEVICES"]}});
        text(&self.world.maker.post("/api/claimd/v1/roles", &body).ok()["id"])
    }

    /// A group of Alice's customer.
    fn group(&self, name: &str) -> String {
        let path = format!("/api/claimd/v1/customers/{}/groups", self.world.alice.customer);
        text(&self.world.maker.post(&path, &json!({"name": name})).ok()["id"])
    }

    fn in_group(&self, group: &str, rest: &str) -> String {
        format!("/api/claimd/v1/customers/{}/groups/{group}/{rest}", self.world.alice.customer)
    }

    fn put(&self, path: &str) {
        self.world.maker.send("PUT", path, &[], "").ok();
    }

    fn alice_id(&self) -> String {
        text(&self.world.alice.client.get("/api/auth/user").ok()["id"]["id"])
    }

    /// Lets Alice claim; the group and the role.
    fn let_alice_claim(&self) -> (String, String) {
        let (role, group) = (self.role("claimers"), self.group("keepers"));
        self.put(&self.in_group(&group, &format!("roles/{role}")));
        self.put(&self.in_group(&group, &format!("users/{}", self.alice_id())));
        (group, role)
    }

    fn edcs(&self, client: &Client, number: u8, application: &str) -> Answer {
        let identifiers = json!({"join_eui": JOIN_EUI, "dev_eui": dev_eui(number), "authentication_code": CODE});
        let body = json!({"authenticated_identifiers": identifiers,
            "target_application_ids": {"application_id": application}});
        client.post("/api/v3/edcs/claim", &body)
    }

    /// Audit rows of refusals for want of a permission, once there are so many: action, reason, device.
    fn forbidden(&self, count: usize) -> Vec<(String, String, Value)> {
        eventually("the refusals are on record", || {
            let rows = self.world.maker.get("/api/claimd/v1/audit?limit=1000").ok();
            let rows = rows["data"].as_array().expect("rows").iter().filter(|row| row["outcome"] == "forbidden");
            let rows: Vec<_> =
                rows.map(|row| (text(&row["action"]), text(&row["reason"]), row["device"].clone())).collect();
            (rows.len() >= count).then_some(rows)
        })
    }
}

fn dev_eui(number: u8) -> String {
    format!("0004A30B001C06{number:02X}")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// An answer without what is of its moment.
fn shown(answer: &Answer) -> (u16, Vec<(String, String)>, Value) {
    let headers = answer.headers.iter().filter(|(name, _)| name != "date").cloned().collect();
    let mut body = answer.json();
    if let Some(body) = body.as_object_mut() {
        body.remove("timestamp");
    }
    if let Some(Value::Object(detail)) = body.pointer_mut("/details/0") {
        detail.remove("correlation_id");
    }
    (answer.status, headers, body)
}

#[test]
fn every_customers_user_claims_by_default_whatever_roles_there_are() {
    let stage = Stage::new(&[]);
    stage.role("claimers");
    assert_eq!(stage.world.alice.client.claim("pump-1", CODE).status, 200);
    assert_eq!(stage.edcs(&stage.world.bob.client, 2, "bob-home").status, 200);
    assert_eq!(stage.world.alice.client.unclaim("pump-1").status, 200);
    assert_eq!(stage.world.bob.client.delete("/api/v3/edcs/claim/bob-home/devices/pump-2").status, 200);
    assert_eq!(stage.forbidden(0), []);
}

#[test]
fn without_the_grant_every_door_answers_the_same_for_every_device() {
    let stage = Stage::new(&[GRANTED]);
    let key = text(&stage.world.alice.client.post("/api/claimd/v1/api-keys", &json!({"name": "tool"})).ok()["key"]);
    let mut by_key = stage.world.alice.client.clone();
    by_key.bearer = Some(key);
    for client in [&stage.world.alice.client, &by_key] {
        let known = client.claim("pump-1", CODE);
        assert_eq!((known.status, &known.json()["errorCode"]), (403, &json!(20)), "{known:?}");
        // Wrong, unknown, unreadable: nothing is looked at.
        for (name, body) in [("pump-1", r#"{"secretKey":"wrong"}"#), ("no such device", "{}"), ("pump-1", "broken")] {
            assert_eq!(shown(&client.claim_raw(name, body)), shown(&known), "{name} {body}");
        }
        let known = stage.edcs(client, 1, "alice-home");
        assert_eq!(known.status, 403);
        assert_eq!(known.json()["details"][0]["name"], "no_application_rights");
        assert_eq!(shown(&stage.edcs(client, 99, "alice-home")), shown(&known), "an unknown DevEUI");
    }
    let missing = "missing CLAIM_DEVICES on DEVICE";
    let told = stage.forbidden(10);
    assert_eq!(told.len(), 10, "what is beyond ten a minute of one kind is summed up");
    assert!(told.iter().all(|row| *row == ("confirm".to_owned(), missing.to_owned(), Value::Null)), "{told:?}");
    assert!(stage.server.metric("claimd_confirmations_total{outcome=\"forbidden\"") >= 12.0);
    // Ten refusals and more, and no try was spent: with the grant the first guess finds all its tries.
    stage.let_alice_claim();
    for _ in 0..5 {
        assert_eq!(stage.world.alice.client.claim("pump-1", "wrong").status, 400);
    }
    assert_eq!(stage.world.alice.client.claim("pump-1", "wrong").status, 429);
    assert_eq!(by_key.claim("pump-2", CODE).status, 200, "the key may what its account may");
    assert_eq!(stage.edcs(&stage.world.alice.client, 3, "alice-home").status, 200);
    assert_eq!(stage.world.bob.client.claim("pump-4", CODE).status, 403, "his customer has no such group");
}

#[test]
fn giving_back_needs_the_grant_too() {
    let stage = Stage::new(&[GRANTED]);
    let (group, role) = stage.let_alice_claim();
    let alice = &stage.world.alice.client;
    assert_eq!(alice.claim("pump-1", CODE).status, 200);
    assert_eq!(stage.edcs(alice, 2, "alice-home").status, 200);
    stage.world.maker.delete(&stage.in_group(&group, &format!("roles/{role}"))).ok();
    let known = alice.unclaim("pump-1");
    assert_eq!((known.status, &known.json()["errorCode"]), (404, &json!(32)));
    assert_eq!(shown(&alice.unclaim("no such device")), shown(&known));
    let known = alice.delete("/api/v3/edcs/claim/alice-home/devices/pump-2");
    assert_eq!(known.status, 403);
    assert_eq!(shown(&alice.delete("/api/v3/edcs/claim/alice-home/devices/none")), shown(&known));
    assert_eq!(alice.delete("/api/v3/edcs/claim/alice-home/devices/batch?device_ids=pump-2").status, 403);
    let told = stage.forbidden(5);
    assert!(told.len() == 5 && told.iter().all(|(action, ..)| action == "unclaim"), "{told:?}");
    assert_eq!(alice.get("/api/claimd/v1/devices/pump-1/claim").ok()["claimState"], "CLAIMED", "still seen");
    // The maker needs no grant, and with it she gives back herself.
    assert_eq!(stage.world.maker.unclaim("pump-1").status, 200);
    stage.put(&stage.in_group(&group, &format!("roles/{role}")));
    assert_eq!(alice.delete("/api/v3/edcs/claim/alice-home/devices/pump-2").status, 200);
}

#[test]
fn a_grant_holds_from_the_answer_on_and_ends_with_whatever_gave_it() {
    let stage = Stage::new(&[GRANTED]);
    let device = stage.world.device("d");
    let alice = &stage.world.alice.client;
    let may = || {
        let submit = format!("/api/v1/{}/claim", device.token);
        Client::stranger(&stage.server.http).send("POST", &submit, &[], r#"{"secretKey":"s"}"#).ok();
        let status = alice.claim("d", "s").status;
        if status == 200 {
            stage.world.maker.unclaim("d");
        }
        assert!(status == 200 || status == 403, "{status}");
        status == 200
    };
    assert!(!may());
    let (group, role) = stage.let_alice_claim();
    assert!(may());
    let (role_path, user_path) = (
        stage.in_group(&group, &format!("roles/{role}")),
        stage.in_group(&group, &format!("users/{}", stage.alice_id())),
    );
    for path in [&role_path, &user_path] {
        stage.world.maker.delete(path).ok();
        assert!(!may(), "{path} is taken");
        stage.put(path);
        assert!(may(), "{path} is given");
    }
    stage.world.maker.delete(&format!("/api/claimd/v1/roles/{role}")).ok();
    assert!(!may(), "the role is gone");
    let other = stage.role("others");
    stage.put(&stage.in_group(&group, &format!("roles/{other}")));
    assert!(may());
    let path = format!("/api/claimd/v1/customers/{}/groups/{group}", stage.world.alice.customer);
    stage.world.maker.delete(&path).ok();
    assert!(!may(), "the group is gone");
}

#[test]
fn roles_and_groups_are_the_makers_business_and_say_what_they_do_not_know() {
    let stage = Stage::new(&[GRANTED, ("CLAIMD_PERMISSIONS__ROLES_PER_TENANT", "2")]);
    let maker = &stage.world.maker;
    let (group, role) = stage.let_alice_claim();
    let shown = maker.get(&format!("/api/claimd/v1/roles/{role}")).ok();
    assert_eq!((&shown["type"], &shown["permissions"]), (&json!("GENERIC"), &json!({"DEVICE": ["CLAIM_DEVICES"]})));
    let listed = maker.get(&stage.in_group(&group, "users")).ok();
    assert_eq!(listed["data"][0]["email"], "alice@example.com");
    for (permissions, status) in [
        (json!({"DEVICE": ["READ"]}), 400),
        (json!({"ASSET": ["ALL"]}), 400),
        (json!({"ALL": ["ALL"]}), 200),
        (json!({"DEVICE": []}), 409),
    ] {
        let body = json!({"name": permissions.to_string(), "permissions": permissions});
        let answer = maker.post("/api/claimd/v1/roles", &body);
        assert_eq!(answer.status, status, "{answer:?}");
    }
    assert_eq!(stage.server.metric("claimd_limit_reached_total{limit=\"permissions.roles_per_tenant\"}"), 1.0);
    let bob = stage.world.bob.client.get("/api/auth/user").ok();
    let foreign = stage.in_group(&group, &format!("users/{}", text(&bob["id"]["id"])));
    assert_eq!(maker.send("PUT", &foreign, &[], "").status, 400, "another customer's user");
    for path in ["/api/claimd/v1/roles".to_owned(), stage.in_group(&group, "users"), "/api/users".to_owned()] {
        assert_eq!(stage.world.alice.client.get(&path).status, 403, "{path}");
    }
    let own = stage.in_group(&group, &format!("users/{}", stage.alice_id()));
    assert_eq!(stage.world.alice.client.send("PUT", &own, &[], "").status, 403, "nobody lets themselves");
    assert_eq!(stage.world.alice.client.send("POST", &claim_path("pump-1"), &[], "{}").status, 400);
}
