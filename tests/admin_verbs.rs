//! Every verb of product.md section 2 that looks after tenants, people, roles, gateways, devices and claims under way: what it
//! does, and how it exits.

use serde_json::{Value, json};

use crate::harness::desk::Desk;
use crate::harness::server::ADMIN;
use crate::harness::tools::said;
use crate::harness::{Client, Heard, Made, Mqtt, Version, eventually};

impl Desk {
    /// The JSON lines that a list prints.
    fn list(&self, profile: &str, arguments: &[&str]) -> Vec<Value> {
        let output = self.say(profile, arguments, "");
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// One member of each row of a list.
    fn column(&self, profile: &str, arguments: &[&str], member: &str) -> Vec<String> {
        let text = |row: &Value| row[member].as_str().unwrap_or_else(|| panic!("no {member}: {row}")).to_owned();
        self.list(profile, arguments).iter().map(text).collect()
    }

    /// Signs in with the link that making an account has printed.
    fn activate(&self, made: &Value, password: &str) {
        let link = made["activationLink"].as_str().expect("a link");
        let token = link.split("activateToken=").nth(1).expect("a token");
        let body = json!({"activateToken": token, "password": password});
        Client::stranger(&self.server.http).post("/api/noauth/activate", &body).ok();
    }
}

#[test]
fn an_operator_makes_and_removes_tenants_and_no_maker_does() {
    let (desk, _world) = Desk::new();
    let made = desk.ok("maker", &["tenant", "create", "Acme", "--admin", "Boss@acme.example"]);
    assert_eq!((&made["title"], &made["admin"]), (&json!("Acme"), &json!("boss@acme.example")));
    desk.activate(&made, "the boss has a password");
    let url = format!("http://{}", desk.server.http);
    let login = ["login", "--url", &url, "--name", "boss@acme.example", "--password", "-"];
    let signed_in = desk.say("boss", &login, "the boss has a password");
    assert!(signed_in.status.success(), "{}", said(&signed_in));
    assert_eq!(desk.ok("boss", &["whoami"])["tenantId"]["id"], made["id"]["id"]);
    assert_eq!(desk.list("boss", &["customer", "list"]), Vec::<Value>::new(), "another maker's are not there");
    assert_eq!(desk.exit("boss", &["tenant", "list"]).0, 4);
    assert_eq!(desk.column("maker", &["tenant", "list"], "title"), ["Acme", "default"]);
    assert_eq!(desk.ok("maker", &["tenant", "set", "Acme", "--title", "Acme Pumps"])["title"], "Acme Pumps");
    assert_eq!(desk.ok("maker", &["tenant", "get", "Acme Pumps"])["id"], made["id"]);
    assert_eq!(desk.exit("maker", &["tenant", "get", "Acme"]).0, 3);
    assert_eq!(desk.exit("maker", &["tenant", "set", "Acme Pumps", "--title", "default"]).0, 5, "it is taken");
    // Without an admin there is no tenant.
    let (code, talk) = desk.exit("maker", &["tenant", "create", "Twin", "--admin", ADMIN]);
    assert!(code == 5 && talk.contains("was not made"), "{code}: {talk}");
    assert_eq!(desk.column("maker", &["tenant", "list"], "title"), ["Acme Pumps", "default"]);
    assert_eq!(desk.exit("maker", &["tenant", "delete", "Acme Pumps"]).0, 2, "it asks");
    assert_eq!(desk.exit("maker", &["tenant", "delete", "Acme Pumps", "--yes"]).0, 0);
    assert_eq!(desk.exit("boss", &["whoami"]).0, 4, "the account went with its tenant");
}

#[test]
fn a_maker_looks_after_customers_and_accounts() {
    let (desk, world) = Desk::new();
    desk.ok("maker", &["customer", "create", "North"]);
    let renamed = desk.ok("maker", &["customer", "set", "North", "--title", "North Sea"]);
    assert_eq!(renamed["title"], "North Sea");
    assert_eq!(desk.column("maker", &["customer", "list"], "title"), ["Alice", "Bob", "North Sea"]);
    assert_eq!(desk.exit("maker", &["customer", "set", "North", "--title", "x"]).0, 3);
    assert_eq!(desk.exit("maker", &["customer", "create", "Alice"]).0, 5);
    let made = desk.ok("maker", &["account", "create", "Nora@north.example", "--customer", "North Sea"]);
    desk.activate(&made, "nora has a password too");
    let ours = ["account", "list", "--customer", "North Sea"];
    assert_eq!(desk.column("maker", &ours, "email"), ["nora@north.example"]);
    assert_eq!(desk.column("maker", &["account", "list", "--text", "ALI"], "email"), ["alice@example.com"]);
    assert_eq!(desk.list("maker", &["account", "list"]).len(), 4);
    let set = ["account", "set", "nora@north.example", "--first-name", "Nora", "--last-name", "North"];
    let changed = desk.ok("maker", &set);
    assert_eq!((&changed["firstName"], &changed["lastName"]), (&json!("Nora"), &json!("North")));
    let cleared = desk.ok("maker", &["account", "set", "nora@north.example", "--first-name", ""]);
    assert_eq!((&cleared["firstName"], &cleared["lastName"]), (&Value::Null, &json!("North")));
    assert_eq!(desk.ok("maker", &["account", "get", "NORA@north.example"]), cleared);
    let chosen = desk.ok("maker", &["account", "get", "nora@north.example", "--fields", "email,customerId.id"]);
    assert_eq!(chosen, json!({"email": "nora@north.example", "customerId.id": renamed["id"]["id"]}));
    assert_eq!(desk.exit("maker", &["account", "set", "nora@north.example"]).0, 2, "there is nothing to set");
    assert_eq!(desk.exit("alice", &["account", "list"]).0, 4);
    let body = json!({"id": changed["id"], "email": "other@north.example", "authority": "CUSTOMER_USER"});
    assert_eq!(world.maker.post("/api/user", &body).status, 400, "the e-mail stays");
    // An operator's own mark is shown and not kept: it is no right that somebody wrote down.
    let me = desk.ok("maker", &["account", "set", ADMIN, "--first-name", "Ada"]);
    assert_eq!((&me["firstName"], &me["additionalInfo"]["operator"]), (&json!("Ada"), &json!(true)));
    assert_eq!(desk.exit("maker", &["account", "delete", "nora@north.example", "--yes"]).0, 0);
    assert_eq!(desk.exit("maker", &["account", "get", "nora@north.example"]).0, 3);
    assert_eq!(desk.exit("maker", &["customer", "delete", "North Sea", "--yes"]).0, 0);
}

#[test]
fn a_gateway_is_made_and_speaks_for_the_devices_of_a_file() {
    let (desk, world) = Desk::new();
    let made = desk.ok("maker", &["gateway", "create", "attic", "--label", "Attic"]);
    let token = made["accessToken"].as_str().expect("the token, once").to_owned();
    assert!(token.len() >= 20 && !token.contains('*'), "{token}");
    for name in ["Pump A", "Pump B", "Pump C"] {
        world.device(name);
    }
    desk.write("children.txt", "Pump A\n\n  Pump B\n");
    let relate = ["gateway", "relate", "--gateway", "attic", "--file", "children.txt"];
    let (code, talk) = desk.exit("maker", &relate);
    assert!(code == 0 && talk.contains("speaks for 2 devices"), "{code}: {talk}");
    assert_eq!(desk.column("maker", &["gateway", "children", "attic"], "name"), ["Pump A", "Pump B"]);
    // A name that is not there changes nothing, not even for those before it.
    desk.write("slip.txt", "Pump C\nPump D\n");
    assert_eq!(desk.exit("maker", &["gateway", "relate", "--gateway", "attic", "--file", "slip.txt"]).0, 3);
    assert_eq!(desk.list("maker", &["gateway", "children", "attic"]).len(), 2);
    assert_eq!(desk.exit("maker", &["gateway", "relate", "--gateway", "attic"]).0, 2);
    let unrelate = ["gateway", "unrelate", "--gateway", "attic", "--device", "Pump A"];
    assert_eq!(desk.exit("maker", &unrelate).0, 0);
    assert_eq!(desk.column("maker", &["gateway", "children", "attic"], "name"), ["Pump B"]);
    let set = desk.ok("maker", &["gateway", "set", "attic", "--name", "loft", "--label", ""]);
    assert_eq!((&set["name"], &set["label"]), (&json!("loft"), &Value::Null));
    assert_eq!(desk.ok("maker", &["gateway", "get", "loft"])["additionalInfo"]["gateway"], true);
    assert_eq!(desk.list("maker", &["gateway", "children", "loft"]).len(), 1, "it speaks for them under any name");
    world.gateway("cellar");
    assert_eq!(desk.column("maker", &["gateway", "list"], "name"), ["cellar", "loft"]);
    assert_eq!(desk.column("maker", &["gateway", "list", "--text", "LO"], "name"), ["loft"]);
    for verb in ["get", "children"] {
        let (code, talk) = desk.exit("maker", &["gateway", verb, "Pump B"]);
        assert!(code == 3 && talk.contains("is no gateway"), "{verb}: {code}, {talk}");
    }
    assert_eq!(desk.exit("maker", &["gateway", "delete", "loft"]).0, 2, "it asks");
    assert_eq!(desk.exit("maker", &["gateway", "delete", "loft", "--yes"]).0, 0);
    assert_eq!(desk.exit("maker", &["gateway", "get", "loft"]).0, 3);
}

#[test]
fn devices_are_called_otherwise_and_listed_by_their_state() {
    let (desk, world) = Desk::new();
    desk.write("code.txt", "BEEF1234");
    for id in ["pump-1", "pump-2", "pump-3"] {
        desk.ok("maker", &["device", "create", "default", id, "--code", "@code.txt"]);
    }
    assert_eq!(world.alice.client.claim("pump-1", "BEEF1234").status, 200);
    desk.ok("maker", &["device", "freeze", "default", "pump-2"]);
    let state = |state: &str| desk.column("maker", &["device", "list", "default", "--state", state], "id");
    assert_eq!(
        (state("claimed"), state("frozen"), state("open")),
        (vec!["pump-1".to_owned()], vec!["pump-2".to_owned()], vec!["pump-3".to_owned()],)
    );
    assert_eq!(desk.column("maker", &["device", "list", "default", "--text", "P-3"], "id"), ["pump-3"]);
    let set = ["device", "set", "default", "pump-3", "--name", "Cellar pump", "--label", "In the cellar"];
    let changed = desk.ok("maker", &set);
    assert_eq!(
        (&changed["id"], &changed["name"], &changed["label"]),
        (&json!("pump-3"), &json!("Cellar pump"), &json!("In the cellar"),)
    );
    assert_eq!(world.bob.client.claim("Cellar pump", "BEEF1234").status, 200, "its code is what it was");
    assert_eq!(desk.exit("maker", &["device", "set", "default", "pump-2", "--name", "pump-1"]).0, 5, "it is taken");
    let fields = desk.say("maker", &["device", "list", "default", "--fields", "id,name", "--output", "csv"], "");
    let fields = String::from_utf8(fields.stdout).expect("UTF-8");
    assert_eq!(fields, "id,name\npump-1,pump-1\npump-2,pump-2\npump-3,Cellar pump\n");
}

/// Announces a device from the command line.
fn submit(desk: &Desk, device: &Made, transport: &str, secret: &str) -> (i32, Value) {
    let to = match transport {
        "mqtt" | "mqtt5" => &desk.server.mqtt,
        "ws" => &desk.server.ws,
        "coap" => &desk.server.coap,
        _ => &desk.server.http,
    };
    desk.write("token.txt", &device.token);
    let arguments = ["claim", "submit", &device.name, "--token", "@token.txt", "--secret", "-", "--lifetime", "2m"];
    let output = desk.say("nobody", &[&arguments[..], &["--transport", transport, "--to", to]].concat(), secret);
    let line = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    (output.status.code().expect("an exit code"), line)
}

/// Waits until a device is told this state of its claim.
fn hears(device: &mut Mqtt, state: &str) {
    loop {
        match device.hear() {
            Heard::Publish { payload, .. } => {
                let told: Value = serde_json::from_slice(&payload).expect("JSON");
                if told["claimState"] == state {
                    return;
                }
            }
            other => panic!("{other:?} before {state}"),
        }
    }
}

#[test]
fn a_claim_is_submitted_over_each_transport_listed_revoked_and_confirmed() {
    let (desk, world) = Desk::new();
    assert_eq!(desk.list("maker", &["claim", "list"]), Vec::<Value>::new());
    let transports = ["mqtt", "mqtt5", "ws", "coap", "http"];
    for transport in transports {
        let device = world.device(transport);
        let (code, line) = submit(&desk, &device, transport, "s");
        assert_eq!((code, &line["result"]), (0, &json!("pending")), "{transport}: {line}");
    }
    let pending = desk.list("maker", &["claim", "list"]);
    let mut names: Vec<&str> = pending.iter().filter_map(|row| row["device"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["coap", "http", "mqtt", "mqtt5", "ws"]);
    for row in &pending {
        let left = row["secondsLeft"].as_u64().expect("seconds");
        assert!((1..=120).contains(&left) && row["source"] == "device", "{row}");
        assert!(row.get("secret").is_none() && !row.to_string().contains("digest"), "{row}");
    }
    assert_eq!(desk.exit("alice", &["claim", "list"]).0, 4, "a maker's business");
    // Page by page.
    let first = world.maker.get("/api/claimd/v1/claims?limit=2").ok();
    assert_eq!(first["data"].as_array().map(Vec::len), Some(2));
    let next = first["next"].as_str().expect("more");
    let second = world.maker.get(&format!("/api/claimd/v1/claims?limit=1000&after={next}")).ok();
    assert_eq!((second["data"].as_array().map(Vec::len), &second["next"]), (Some(3), &Value::Null));
    assert_eq!(world.maker.get("/api/claimd/v1/claims?limit=1001").status, 400);

    assert_eq!(desk.exit("maker", &["claim", "revoke", "coap"]).0, 2, "it asks");
    assert_eq!(desk.exit("alice", &["claim", "revoke", "coap", "--yes"]).0, 4);
    assert_eq!(desk.exit("maker", &["claim", "revoke", "coap", "--yes"]).0, 0);
    assert_eq!(desk.exit("maker", &["claim", "revoke", "coap", "--yes"]).0, 3, "nothing is pending");
    assert_eq!(world.alice.client.claim("coap", "s").status, 400);
    assert_eq!(desk.ok("maker", &["claim", "status", "coap"])["claimState"], "NONE");
    let device = world.device("again");
    let mut watching = Mqtt::connect(&desk.server.mqtt, Version::V5, &device.token);
    watching.subscribe("v1/devices/me/claim/state");
    assert_eq!(submit(&desk, &device, "http", "s").0, 0);
    hears(&mut watching, "PENDING");
    assert_eq!(desk.exit("maker", &["claim", "revoke", "again", "--yes"]).0, 0);
    hears(&mut watching, "NONE");
    assert_eq!(submit(&desk, &device, "http", "s").0, 0);
    assert_eq!(world.alice.client.claim("again", "s").status, 200, "the next announcement counts");
    assert_eq!(desk.exit("maker", &["claim", "revoke", "again", "--yes"]).0, 3, "an owner is none to be revoked");
    assert_eq!(world.owner_of(&device), Some(world.alice.customer.clone()));
    // Refusals of the device's protocol have the exit codes of their kind.
    assert_eq!(submit(&desk, &device, "http", "s").0, 5, "it has an owner");
    let stranger = Made { token: "NOSUCHTOKEN0123456789".to_owned(), ..device.clone() };
    for transport in transports {
        let (code, line) = submit(&desk, &stranger, transport, "s");
        assert_eq!((code, &line["reason"]), (4, &json!("unauthenticated")), "{transport}: {line}");
    }
    let (code, talk) = desk.exit("nobody", &["claim", "submit", "again", "--token", &device.token]);
    assert!(code == 2 && talk.contains("no argument") && !talk.contains(&device.token), "{talk}");
    let nowhere = ["claim", "submit", "again", "--token", "@token.txt", "--to", "127.0.0.1:9"];
    assert_eq!(desk.exit("nobody", &nowhere).0, 7);
    let rows = world.maker.get("/api/claimd/v1/audit?limit=1000").ok();
    let revoked = rows["data"].as_array().expect("rows").iter().filter(|row| row["action"] == "device.claim_revoked");
    assert_eq!(revoked.count(), 2);
}

#[test]
fn an_unlocked_device_can_be_tried_again_before_and_after_a_crash() {
    let (mut desk, world) = Desk::new();
    let device = world.device("pump");
    assert_eq!(submit(&desk, &device, "http", "right").0, 0);
    for _ in 0..5 {
        assert_eq!(world.alice.client.claim("pump", "wrong").status, 400);
    }
    assert_eq!(world.alice.client.claim("pump", "right").status, 429);
    assert_eq!(desk.exit("alice", &["claim", "unlock", "pump"]).0, 4, "nobody unlocks for themselves");
    assert_eq!(desk.exit("maker", &["claim", "unlock", "no such pump"]).0, 3);
    let (code, talk) = desk.exit("maker", &["claim", "unlock", "pump"]);
    assert!(code == 0 && talk.contains("forgotten"), "{code}: {talk}");
    assert_eq!(world.alice.client.claim("pump", "wrong").status, 400);
    desk.server.kill_dash_nine();
    desk.server.launch();
    let world = world.moved(&desk.server);
    for _ in 0..4 {
        assert_eq!(world.alice.client.claim("pump", "wrong").status, 400, "the one since then is charged, no other");
    }
    assert_eq!(world.alice.client.claim("pump", "right").status, 429);
    let told = eventually("the deed is on record", || {
        let rows = world.maker.get("/api/claimd/v1/audit?limit=1000").ok();
        rows["data"].as_array().expect("rows").iter().find(|row| row["action"] == "unlock").cloned()
    });
    assert_eq!((&told["outcome"], &told["device"]), (&json!("done"), &json!(device.id)));
}

#[test]
fn roles_and_groups_are_kept_from_the_command_line_and_decide_who_claims() {
    let (desk, world) = Desk::with(&[("CLAIMD_PERMISSIONS__CLAIM", "granted")]);
    desk.write("code.txt", "BEEF1234");
    desk.ok("maker", &["device", "create", "default", "pump-1", "--code", "@code.txt"]);
    let confirm = ["claim", "confirm", "pump-1", "--secret", "@code.txt"];
    assert_eq!(desk.exit("alice", &confirm).0, 4);
    let role = desk.ok("maker", &["role", "create", "claimers"]);
    assert_eq!(role["permissions"], json!({"DEVICE": ["CLAIM_DEVICES"]}));
    let everything =
        desk.ok("maker", &["role", "create", "all", "--grant", "ALL:ALL", "--grant", "DEVICE:CLAIM_DEVICES"]);
    assert_eq!(everything["permissions"], json!({"ALL": ["ALL"], "DEVICE": ["CLAIM_DEVICES"]}));
    assert_eq!(desk.exit("maker", &["role", "create", "claimers"]).0, 5);
    assert_eq!(desk.exit("maker", &["role", "create", "odd", "--grant", "DEVICE"]).0, 2);
    let (code, talk) = desk.exit("maker", &["role", "create", "odd", "--grant", "DEVICE:READ"]);
    assert!(code == 2 && talk.contains("CLAIM_DEVICES"), "{code}: {talk}");
    assert_eq!(desk.column("maker", &["role", "list"], "name"), ["all", "claimers"]);
    assert_eq!(desk.ok("maker", &["role", "get", "claimers"]), role);
    desk.ok("maker", &["group", "create", "Alice", "keepers"]);
    let group = ["Alice", "keepers"];
    let say = |verb: &str, rest: &[&str]| desk.exit("maker", &[&["group", verb][..], &group, rest].concat()).0;
    assert_eq!(say("add", &["alice@example.com"]), 0);
    assert_eq!(say("add", &["bob@example.com"]), 3, "no user of hers");
    assert_eq!(desk.column("maker", &["group", "users", "Alice", "keepers"], "email"), ["alice@example.com"]);
    assert_eq!(desk.exit("alice", &confirm).0, 4, "the group has no role yet");
    assert_eq!(say("grant", &["claimers"]), 0);
    assert_eq!(desk.list("maker", &["group", "list", "Alice"])[0]["roles"][0]["name"], "claimers");
    assert_eq!(desk.exit("alice", &confirm).0, 0);
    assert_eq!(say("revoke", &["claimers"]), 0);
    assert_eq!(desk.exit("alice", &["claim", "unclaim", "pump-1"]).0, 3, "as if there were no such device");
    assert_eq!(say("grant", &["all"]), 0);
    assert_eq!(say("remove", &["alice@example.com"]), 0);
    assert_eq!(desk.exit("alice", &["claim", "unclaim", "pump-1"]).0, 3);
    assert_eq!(say("add", &["ALICE@example.com"]), 0);
    assert_eq!(desk.exit("alice", &["claim", "unclaim", "pump-1"]).0, 0);
    assert_eq!(say("delete", &["--yes"]), 0);
    assert_eq!(say("users", &[]), 3);
    assert_eq!(desk.exit("maker", &["role", "delete", "claimers", "--yes"]).0, 0);
    assert_eq!(desk.exit("maker", &["role", "get", "claimers"]).0, 3);
    drop(world);
}
