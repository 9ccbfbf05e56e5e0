//! The command line as a tool over the API: what The Things Stack's CLI does for claims, and what its exit codes say.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::desk::Desk;
use crate::harness::server::{ADMIN, ADMIN_PASSWORD};
use crate::harness::tools::{run, said};
use crate::harness::{Server, World};

const EUIS: [&str; 4] = ["--dev-eui", "0004A30B001C0501", "--join-eui", "70B3D57ED0000000"];

#[test]
fn a_maker_and_an_owner_do_it_all_from_the_command_line() {
    let (desk, world) = Desk::new();
    assert_eq!(desk.ok("maker", &["whoami"])["authority"], "TENANT_ADMIN");
    desk.ok("maker", &["application", "create", "spring-26", "--closed"]);
    // create … --with-claim-authentication-code
    let create = ["device", "create", "spring-26", "pump-1", "--label", "Pump 1", "--generate-code"];
    let made = desk.ok("maker", &[&create[..], &EUIS[..]].concat());
    let generated = made["code"]["value"].as_str().expect("shown once").to_owned();
    assert_eq!(generated.len(), 16);
    // set --claim-authentication-code.{value,valid-from,valid-to}
    std::fs::write(desk.folder.path().join("code.txt"), "BEEF1234\n").expect("written");
    let set = ["device", "set", "spring-26", "pump-1", "--code", "@code.txt", "--valid-to", "in 2 days"];
    let changed = desk.ok("maker", &set);
    assert!(changed["code"]["validTo"].is_string() && changed["code"]["value"].is_null());
    // get --claim-authentication-code
    assert_eq!(desk.ok("maker", &["device", "get", "spring-26", "pump-1", "--show-code"])["code"]["value"], "BEEF1234");
    // list-qr-formats, generate-qr
    let formats = desk.say("maker", &["qr", "formats"], "");
    assert_eq!(String::from_utf8_lossy(&formats.stdout).lines().count(), 3);
    let drawn = desk.say("maker", &["qr", "spring-26", "pump-1", "--image", "png", "--out", "labels"], "");
    assert!(drawn.status.success(), "{}", said(&drawn));
    let label = desk.folder.path().join("labels/pump-1.png");
    let mode = std::os::unix::fs::PermissionsExt::mode(&label.metadata().expect("the label").permissions());
    assert_eq!(mode & 0o777, 0o600, "it holds the code");
    let scanned = run(Command::new("/usr/bin/zbarimg").args(["--raw", "-q"]).arg(&label), "");
    let scanned = String::from_utf8_lossy(&scanned.stdout).trim().to_owned();
    assert!(scanned.starts_with("LW:D0:70B3D57ED0000000:0004A30B001C0501:00000000:OBEEF1234:C"), "{scanned}");
    let shown = desk.say("maker", &["qr", "spring-26", "--all"], "");
    assert!(String::from_utf8_lossy(&shown.stdout).contains('█'));

    // Closed: the owner hears what everybody hears.
    desk.ok("alice", &["application", "create", "my-house"]);
    let claim = ["device", "claim", "my-house", "cellar", "--qr", "-"];
    let refused = desk.say("alice", &claim, &scanned);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    desk.ok("maker", &["application", "authorize", "spring-26"]);
    let claimed = desk.say("alice", &claim, &scanned);
    assert!(claimed.status.success(), "{}", said(&claimed));
    let listed = desk.ok("alice", &["device", "list", "my-house"]);
    assert_eq!((&listed["id"], &listed["label"]), (&json!("cellar"), &json!("Pump 1")));
    assert_eq!(desk.exit("maker", &["device", "delete", "my-house", "cellar", "--yes"]).0, 3, "at home elsewhere");
    assert_eq!(
        desk.exit("maker", &["device", "set", "spring-26", "pump-1", "--code", "@code.txt"]).0,
        5,
        "it has an owner"
    );
    // end-devices delete, batch-delete
    assert_eq!(desk.exit("alice", &["device", "unclaim", "my-house", "cellar", "none"]).0, 8);
    // create … --dev-eui --app-eui … --claim-authentication-code.value: claim by identifiers
    desk.ok("maker", &["device", "set", "spring-26", "pump-1", "--code", "@code.txt"]);
    let by_code = ["device", "claim", "my-house", "--code", "beef1234"];
    let (exit, talk) = desk.exit("alice", &[&by_code[..], &EUIS[..]].concat());
    assert!(exit == 0 && talk.contains("shell's history"), "{talk}");
    // By name; and the maker takes a code back.
    desk.ok("maker", &["device", "create", "spring-26", "pump-2", "--code", "@code.txt"]);
    let confirmed = desk.ok("alice", &["claim", "confirm", "pump-2", "--secret", "@code.txt"]);
    assert_eq!(confirmed, json!({"device": "pump-2", "result": "claimed", "reason": "claimed"}));
    assert_eq!(desk.ok("alice", &["claim", "status", "pump-2"])["claimState"], "CLAIMED");
    desk.ok("alice", &["claim", "unclaim", "pump-2"]);
    desk.ok("maker", &["device", "create", "spring-26", "pump-3", "--code", "@code.txt"]);
    assert_eq!(desk.ok("maker", &["device", "set", "spring-26", "pump-3", "--no-code"])["code"], Value::Null);
    desk.ok("maker", &["device", "freeze", "spring-26", "pump-3", "--reason", "recall"]);
    assert_eq!(desk.ok("maker", &["device", "unfreeze", "spring-26", "pump-3"])["frozen"], false);
    desk.ok("maker", &["application", "unauthorize", "spring-26"]);
    assert_eq!(desk.ok("maker", &["application", "get", "spring-26"])["claimingAuthorized"], false);
    let set = ["application", "set", "spring-26", "--invalidate-code-on-claim", "false"];
    assert_eq!(desk.ok("maker", &set)["invalidateCodeOnClaim"], false);
    desk.ok("maker", &["device", "delete", "spring-26", "pump-3", "--yes"]);
    drop(world);
}

#[test]
fn what_is_refused_says_why_and_exits_by_its_kind() {
    let (desk, world) = Desk::new();
    std::fs::write(desk.folder.path().join("code.txt"), "BEEF1234").expect("written");
    desk.ok("maker", &["device", "create", "default", "pump-1", "--code", "@code.txt"]);
    let rows: [(&str, &[&str], i32, &str); 12] = [
        ("maker", &["application", "get", "no-such"], 3, "no application found"),
        ("maker", &["application", "create", "default"], 5, "exists already"),
        ("maker", &["application", "create", "Bad Id"], 2, "the id is not one"),
        ("maker", &["application", "delete", "default"], 2, "needs a yes"),
        ("alice", &["device", "set", "default", "pump-1", "--no-code"], 4, "may not do this"),
        ("nobody", &["whoami"], 4, "nobody is signed in"),
        ("maker", &["device", "set", "default", "pump-1"], 2, "nothing to set"),
        ("maker", &["device", "set", "default", "pump-1", "--valid-to", "tomorrow"], 2, "in 2 days"),
        ("maker", &["qr", "default", "pump-1"], 1, "no JoinEUI"),
        ("maker", &["qr", "default", "pump-1", "--format", "tr006"], 2, "qr formats"),
        ("maker", &["claim", "confirm", "pump-1", "--secret", "@code.txt"], 4, "does not claim devices"),
        ("maker", &["device", "create", "default", "pump-2", "--code", "@nowhere"], 2, "cannot be read"),
    ];
    for (who, arguments, exit, text) in rows {
        let (code, talk) = desk.exit(who, arguments);
        assert!(code == exit && talk.contains(text), "{arguments:?}: {code}, {talk}");
    }
    // A flag given twice is an error, not a surprise.
    let twice = ["device", "set", "default", "pump-1", "--valid-from", "in 1 day", "--valid-from", "in 2 days"];
    assert_eq!(desk.exit("maker", &twice).0, 2);
    std::fs::write(desk.folder.path().join("wrong.txt"), "BEEF1235").expect("written");
    for _ in 0..5 {
        let (code, talk) = desk.exit("alice", &["claim", "confirm", "pump-1", "--secret", "@wrong.txt"]);
        assert!(code == 1 && talk.contains("nobody can search for names"), "{talk}");
        assert!(!talk.contains("BEEF1235"));
    }
    let (code, talk) = desk.exit("alice", &["claim", "confirm", "pump-1", "--secret", "@code.txt"]);
    assert!(code == 6 && talk.contains("wait") && talk.contains("seconds"), "{code}: {talk}");
    assert_eq!(world.bob.client.claim("pump-1", "BEEF1234").status, 200);
    // Nobody at the address.
    let mut gone = Command::new(env!("CARGO_BIN_EXE_claimd"));
    let key = desk.folder.path().join("key");
    std::fs::write(&key, "clk_x").expect("written");
    gone.env_clear().env("CLAIMD_CLIENT__URL", "http://127.0.0.1:9").env("CLAIMD_CLIENT__API_KEY_FILE", &key);
    assert_eq!(run(gone.arg("whoami"), "").status.code(), Some(7));
}

#[test]
fn a_profile_is_its_users_alone_and_its_key_ends_with_it() {
    let (desk, world) = Desk::new();
    let profile = desk.folder.path().join("claimd/maker.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(&profile.metadata().expect("the profile").permissions());
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&profile).expect("the profile");
    assert!(!text.contains(ADMIN_PASSWORD) && text.contains("clk_"));
    let keys = || world.maker.get("/api/claimd/v1/api-keys").ok().as_array().map(Vec::len);
    assert_eq!(keys(), Some(1));
    // Signing in again leaves one key.
    let url = format!("http://{}", desk.server.http);
    let again = desk.say("maker", &["login", "--url", &url, "--name", ADMIN, "--password", "-"], ADMIN_PASSWORD);
    assert!(again.status.success() && keys() == Some(1), "{}", said(&again));
    let wrong = desk.say("maker", &["login", "--url", &url, "--name", ADMIN, "--password", "-"], "wrong password");
    assert_eq!(wrong.status.code(), Some(4));
    let (code, talk) = desk.exit("maker", &["login", "--url", &url, "--password", ADMIN_PASSWORD]);
    assert!(code == 2 && talk.contains("no argument"), "{talk}");
    std::fs::set_permissions(&profile, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("changed");
    let (code, talk) = desk.exit("maker", &["whoami"]);
    assert!(code == 2 && talk.contains("chmod 600"), "{talk}");
    std::fs::set_permissions(&profile, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("changed");
    assert_eq!(desk.exit("maker", &["logout"]).0, 0);
    assert!(!profile.exists() && keys() == Some(0));
}

#[test]
fn answers_come_as_tables_json_lines_and_csv() {
    let (desk, _world) = Desk::new();
    desk.ok("maker", &["application", "create", "spring-26"]);
    let list = |form: &str| {
        let output = desk.say("maker", &["application", "list", "--output", form], "");
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert_eq!(serde_json::from_str::<Value>(&list("json")).expect("JSON").as_array().map(Vec::len), Some(2));
    assert!(list("jsonl").lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    assert!(list("csv").starts_with("id,claimingAuthorized,") && list("csv").contains("\nspring-26,true,"));
    assert!(list("table").contains("spring-26"));
}

#[test]
fn an_owner_claims_many_devices_from_a_file() {
    let (desk, world) = Desk::new();
    let path = |name: &str| desk.folder.path().join(name);
    std::fs::write(path("code.txt"), "BEEF1234").expect("written");
    desk.ok("alice", &["application", "create", "my-house"]);
    desk.ok("alice", &["application", "create", "my-hut"]);
    for n in 1..=6 {
        let (id, dev_eui) = (format!("pump-{n}"), format!("0004A30B001C050{n}"));
        let create = ["device", "create", "default", &id, "--dev-eui", &dev_eui, "--join-eui", "70B3D57ED0000000"];
        desk.ok("maker", &[&create[..], &["--code", "@code.txt"]].concat());
    }
    assert_eq!(world.bob.client.claim("pump-5", "BEEF1234").status, 200);
    let file = "qr;dev_eui;join_eui;name;claim_authentication_code;target_application_id;target_device_id;colour\n\
        LW:D0:70B3D57ED0000000:0004A30B001C0501:00000000:OBEEF1234;;;;;;;\n\
        ;0004A30B001C0502;70B3D57ED0000000;;beef1234;my-hut;stairs;red\n\
        ;;;pump-3;BEEF1234;;;\n\
        ;;;pump-4;WRONG123;;;\n\
        ;;;pump-5;BEEF1234;;;\n\
        ;00GG;;;BEEF1234;;;\n\
        ;;;pump-6;BEEF1234;;cellar;\n";
    std::fs::write(path("codes.csv"), file).expect("written");
    let output =
        desk.say("alice", &["device", "claim", "my-house", "--file", "codes.csv", "--report", "report.jsonl"], "");
    assert_eq!(output.status.code(), Some(8), "{}", said(&output));
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(talk.contains("`colour` is not known") && talk.contains("claimed  4 of 7"), "{talk}");
    let lines = |text: &str| text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>();
    let rows = lines(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(rows, lines(&std::fs::read_to_string(path("report.jsonl")).expect("the report")));
    let found: Vec<(u64, &str, &str)> = rows
        .iter()
        .map(|row| {
            (
                row["row"].as_u64().expect("a line"),
                row["result"].as_str().expect("a result"),
                row["id"].as_str().unwrap_or(""),
            )
        })
        .collect();
    let expected = [
        (2, "claimed", "pump-1"),
        (3, "claimed", "stairs"),
        (4, "claimed", "pump-3"),
        (5, "refused", ""),
        (6, "already_claimed", ""),
        (7, "invalid", ""),
        (8, "claimed", "cellar"),
    ];
    assert_eq!(found, expected);
    let told = format!("{talk}{}", std::fs::read_to_string(path("report.jsonl")).expect("the report"));
    assert!(!told.to_uppercase().contains("BEEF1234") && !told.contains("WRONG123"), "{told}");
    assert_eq!(desk.ok("alice", &["device", "get", "my-hut", "stairs"])["home"]["device"], "pump-2");
    // Again: nothing is lost, nothing is claimed twice.
    let again = desk.say("alice", &["device", "claim", "my-house", "--file", "codes.csv"], "");
    assert_eq!(again.status.code(), Some(8), "{}", said(&again));
    let again = (String::from_utf8_lossy(&again.stdout), String::from_utf8_lossy(&again.stderr));
    assert!(again.1.contains("claimed  0 of 7; 4 were yours already"), "{again:?}");
    assert_eq!(again.0.matches("\"already_yours\"").count(), 4, "{again:?}");
    assert_eq!(desk.exit("alice", &["device", "claim", "my-house", "--file", "nowhere.csv"]).0, 2);
    std::fs::write(path("torn.csv"), "colour\nred\n").expect("written");
    let (code, talk) = desk.exit("alice", &["device", "claim", "my-house", "--file", "torn.csv"]);
    assert!(code == 2 && talk.contains("no known column"), "{talk}");
}

#[test]
fn an_empty_budget_pauses_a_file_and_does_not_end_it() {
    let server = Server::with(&[("CLAIMD_ATTEMPTS__PER_ACCOUNT", "2"), ("CLAIMD_ATTEMPTS__ACCOUNT_WINDOW", "2s")]);
    let world = World::new(&server);
    let folder = tempfile::tempdir().expect("a folder");
    let desk = Desk { server, folder };
    let url = format!("http://{}", desk.server.http);
    let login = ["login", "--url", &url, "--name", &world.alice.email, "--password", "-"];
    assert!(run(desk.command("alice", &login), &world.alice.password).status.success());
    desk.ok("alice", &["application", "create", "my-house"]);
    let code = json!({"id": "pump-1", "code": {"value": "BEEF1234"}});
    world.maker.post("/api/claimd/v1/applications/default/devices", &code).ok();
    let file = "name,owner_token\nnone-1,BEEF1234\nnone-2,BEEF1234\npump-1,BEEF1234\n";
    std::fs::write(desk.folder.path().join("codes.csv"), file).expect("written");
    let output = desk.say("alice", &["device", "claim", "my-house", "--file", "codes.csv"], "");
    assert_eq!(output.status.code(), Some(8), "{}", said(&output));
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(talk.contains("going on in") && talk.contains("claimed  1 of 3"), "{talk}");
}

#[test]
fn a_maker_sets_people_and_gateways_up_and_reads_the_audit_log() {
    let (desk, world) = Desk::new();
    let made = desk.ok("maker", &["customer", "create", "North & Sons"]);
    assert_eq!(desk.ok("maker", &["customer", "get", "North & Sons"])["id"], made["id"]);
    assert_eq!(desk.exit("maker", &["customer", "create", "North & Sons"]).0, 5, "whatever status the route has");
    assert_eq!(desk.exit("maker", &["customer", "get", "South"]).0, 3);
    let account = desk.ok("maker", &["account", "create", "nora@example.com", "--customer", "North & Sons"]);
    let link = account["activationLink"].as_str().expect("a link");
    let token = link.split("activateToken=").nth(1).expect("a token");
    let body = json!({"activateToken": token, "password": "the password of nora"});
    crate::harness::Client::stranger(&desk.server.http).post("/api/noauth/activate", &body).ok();
    let url = format!("http://{}", desk.server.http);
    let login = ["login", "--url", &url, "--name", "nora@example.com", "--password", "-"];
    assert!(desk.say("nora", &login, "the password of nora").status.success());
    assert_eq!(desk.ok("nora", &["whoami"])["customerId"]["id"], made["id"]["id"]);
    assert_eq!(desk.exit("nora", &["customer", "list"]).0, 4);

    world.gateway("the gateway");
    world.device("child/1");
    world.device("child 2");
    let ends = ["--gateway", "the gateway", "--device", "child/1", "--device", "child 2"];
    let (code, talk) = desk.exit("maker", &[&["gateway", "relate"][..], &ends].concat());
    assert!(code == 0 && talk.contains("2 devices"), "{talk}");
    assert_eq!(desk.exit("maker", &[&["gateway", "unrelate"][..], &ends].concat()).0, 0);
    assert_eq!(desk.exit("maker", &[&["gateway", "unrelate"][..], &ends].concat()).0, 3, "ended already");
    assert_eq!(desk.exit("maker", &["gateway", "relate", "--gateway", "none", "--device", "child 2"]).0, 3);
    desk.ok("maker", &["application", "create", "spring-26"]);
    let log = desk.say("maker", &["audit", "list", "--output", "csv"], "");
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    assert!(log.lines().any(|line| line.contains("application.created") && line.contains("spring-26")), "{log}");
    // A new token for a device: the old one is worth nothing from then on.
    let device = world.device("tokened");
    let speaks = |token: &str| {
        let stranger = crate::harness::Client::stranger(&desk.server.http);
        stranger.post(&format!("/api/v1/{token}/claim"), &json!({})).status
    };
    assert_eq!(speaks(&device.token), 200);
    assert_eq!(desk.exit("maker", &["device", "token", "rotate", "default", "tokened"]).0, 2, "it asks");
    let rotated = desk.ok("maker", &["device", "token", "rotate", "default", "tokened", "--yes"]);
    assert_eq!((speaks(&device.token), speaks(rotated["accessToken"].as_str().expect("a token"))), (401, 200));
    assert_eq!(desk.exit("alice", &["device", "token", "rotate", "default", "tokened", "--yes"]).0, 4);
    assert_eq!(desk.exit("maker", &["customer", "delete", "North & Sons", "--yes"]).0, 0);
    assert_eq!(desk.exit("nora", &["whoami"]).0, 4, "its accounts went with it");
}
