//! How the command line answers: in people's words, for each thing by itself, with the exit code of its kind.

use serde_json::{Value, json};

use crate::harness::desk::Desk;
use crate::harness::tools::said;

#[test]
fn a_device_without_euis_is_given_back_too() {
    let (desk, _world) = Desk::new();
    desk.write("code.txt", "BEEF1234");
    desk.ok("maker", &["device", "create", "default", "plain-1", "--name", "Plain 1", "--code", "@code.txt"]);
    desk.ok("alice", &["application", "create", "my-house"]);
    desk.write("codes.csv", "name;claim_authentication_code\nPlain 1;BEEF1234\n");
    let claimed = desk.say("alice", &["device", "claim", "my-house", "--file", "codes.csv"], "");
    assert!(claimed.status.success(), "{}", said(&claimed));
    let (exit, talk) = desk.exit("alice", &["device", "unclaim", "my-house", "plain-1"]);
    assert!(exit == 0 && talk.contains("given back  plain-1"), "{talk}");
    assert_eq!(desk.ok("maker", &["device", "get", "default", "plain-1"])["owner"], Value::Null);
    let (exit, talk) = desk.exit("alice", &["claim", "unclaim", "Plain 1"]);
    assert!(exit == 3 && talk.contains("no claim of yours on `Plain 1`"), "{talk}");
}

#[test]
fn one_device_that_cannot_be_drawn_keeps_no_other_label_back() {
    let (desk, _world) = Desk::new();
    for (id, n) in [("pump-1", "1"), ("pump-3", "3")] {
        let eui = format!("0004A30B001C050{n}");
        desk.ok("maker", &["device", "create", "default", id, "--dev-eui", &eui, "--join-eui", "70B3D57ED0000000"]);
    }
    desk.ok("maker", &["device", "create", "default", "pump-2"]);
    let drawn = desk.say("maker", &["qr", "default", "--all", "--image", "svg", "--out", "labels"], "");
    assert_eq!(drawn.status.code(), Some(8), "{}", said(&drawn));
    assert!(desk.file("labels/pump-3.svg").exists() && !desk.file("labels/pump-2.svg").exists());
    let talk = String::from_utf8_lossy(&drawn.stderr);
    assert!(talk.contains("refused  pump-2: the device has no JoinEUI") && talk.contains("drew  2 of 3"), "{talk}");
}

#[test]
fn links_lead_to_where_people_reach_the_server() {
    let (desk, _world) = Desk::with(&[("CLAIMD_SERVER__PUBLIC_URL", "https://claim.example.com")]);
    desk.write("code.txt", "BEEF1234");
    desk.ok("maker", &["device", "create", "default", "pump-1", "--code", "@code.txt"]);
    let link = ["qr", "default", "pump-1", "--format", "claimd-url", "--image", "png"];
    let drawn = desk.say("maker", &link, "");
    assert!(drawn.status.success(), "{}", said(&drawn));
    let mut reader = std::process::Command::new("/usr/bin/zbarimg");
    let read = crate::harness::tools::run(reader.args(["--raw", "-q"]).arg(desk.file("pump-1.png")), "");
    assert_eq!(String::from_utf8_lossy(&read.stdout).trim(), "https://claim.example.com/c/pump-1#BEEF1234");
}

#[test]
fn the_same_file_with_windows_changes_nothing_though_its_codes_were_generated() {
    let (desk, _world) = Desk::new();
    desk.ok("maker", &["application", "create", "spring-26"]);
    desk.write("spring.csv", "id;claim_valid_to\npump-1;2999-01-01T00:00:00Z\n");
    let import = ["import", "spring.csv", "--application", "spring-26"];
    let (exit, talk) = desk.exit("maker", &import);
    assert!(exit == 1 && talk.contains("1 refused"), "no device, no code, no window: {exit} {talk}");
    let generate = [&import[..], &["--generate-codes", "--codes-out", "codes.csv"]].concat();
    assert_eq!(desk.exit("maker", &generate).0, 0);
    let (exit, talk) = desk.exit("maker", &import);
    assert!(exit == 0 && talk.contains("1 unchanged"), "{exit} {talk}");
    desk.write("spring.csv", "id;claim_valid_to\npump-1;2999-02-01T00:00:00Z\n");
    let (exit, talk) = desk.exit("maker", &import);
    assert!(exit == 0 && talk.contains("1 changed"), "{exit} {talk}");
    let code = desk.ok("maker", &["device", "get", "spring-26", "pump-1"])["code"].clone();
    assert_eq!(code["validTo"], "2999-02-01T00:00:00Z");
}

#[test]
fn a_wrong_secret_says_how_many_tries_are_left_and_none_is_needed_where_none_was_announced() {
    let (desk, world) = Desk::new();
    let device = world.device("pump-1");
    let announce = || {
        let stranger = crate::harness::Client::stranger(&desk.server.http);
        assert_eq!(stranger.post(&format!("/api/v1/{}/claim", device.token), &json!({})).status, 200);
    };
    announce();
    desk.write("wrong.txt", "WRONG123");
    let confirm = ["claim", "confirm", "pump-1", "--secret", "@wrong.txt"];
    let refused = desk.say("alice", &confirm, "");
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    let shown: Value = serde_json::from_slice(&refused.stdout).expect("JSON");
    assert_eq!((&shown["result"], &shown["triesLeft"]), (&json!("refused"), &json!(4)), "{shown}");
    let talk = desk.exit("alice", &confirm).1;
    assert!(talk.contains("3 tries left"), "{talk}");
    assert_eq!(desk.ok("alice", &["claim", "confirm", "pump-1"])["result"], "claimed");
    // Times are RFC 3339, though devices are told epoch milliseconds.
    let status = desk.ok("alice", &["claim", "status", "pump-1"]);
    assert!(status["claimedAt"].as_str().is_some_and(|at| at.ends_with('Z')), "{status}");
    let log = desk.say("maker", &["audit", "list", "--output", "csv", "--fields", "at"], "");
    assert!(String::from_utf8_lossy(&log.stdout).lines().skip(1).all(|at| at.ends_with('Z')), "{}", said(&log));
}

#[test]
fn refusals_are_in_peoples_words_and_name_what_they_are_about() {
    let (desk, _world) = Desk::new();
    desk.write("code.txt", "BEEF1234");
    desk.ok("maker", &["device", "create", "default", "pump-1"]);
    desk.ok("alice", &["application", "create", "my-house"]);
    let claim = |code: &'static str| {
        let euis = ["--dev-eui", "0004A30B001C0501", "--join-eui", "70B3D57ED0000000", "--code", code];
        [&["device", "claim", "my-house"][..], &euis].concat()
    };
    let rows: [(&str, Vec<&str>, i32, &str); 8] = [
        ("alice", claim("@code.txt"), 1, "error: the code or the device does not match"),
        ("alice", vec!["device", "claim", "my-house", "--qr", "@code.txt"], 1, "error: `qr_code` is"),
        ("alice", vec!["device", "unclaim", "my-house", "nothing"], 3, "refused  nothing: there is no such device"),
        ("maker", vec!["gateway", "relate", "--gateway", "pump-1", "--device", "pump-1"], 3, "`pump-1` is no gateway"),
        (
            "maker",
            vec!["gateway", "relate", "--gateway", "nobody", "--device", "pump-1"],
            3,
            "no device named `nobody`",
        ),
        ("maker", vec!["device", "get", "default", "nothing"], 3, "no device found"),
        ("maker", vec!["device", "create", "default", "pump-2", "--dev-eui", "00GG"], 2, "16 hex digits"),
        ("maker", vec!["export", "--application", "default", "--format", "xml"], 2, "`format` is"),
    ];
    for (who, arguments, exit, text) in rows {
        let (code, talk) = desk.exit(who, &arguments);
        assert!(code == exit && talk.contains(text), "{arguments:?}: {code}, {talk}");
        assert!(!talk.contains("error:pkg") && !talk.contains("error:claimd"), "{talk}");
    }
}

#[test]
fn a_file_of_claims_can_be_looked_through_first() {
    let (desk, _world) = Desk::new();
    desk.write("code.txt", "BEEF1234");
    desk.ok("maker", &["device", "create", "default", "pump-1", "--code", "@code.txt"]);
    desk.ok("alice", &["application", "create", "my-house"]);
    desk.write("codes.csv", "name;claim_authentication_code\npump-1;BEEF1234\n;BEEF1234\n");
    let checked = desk.say("alice", &["device", "claim", "my-house", "--file", "codes.csv", "--dry-run"], "");
    assert_eq!(checked.status.code(), Some(1), "{}", said(&checked));
    let row: Value = serde_json::from_slice(&checked.stdout).expect("one row");
    assert_eq!((&row["row"], &row["result"]), (&json!(3), &json!("invalid")), "{row}");
    assert!(String::from_utf8_lossy(&checked.stderr).contains("checked  2 rows: 1 invalid; nothing was claimed"));
    assert_eq!(desk.ok("maker", &["device", "get", "default", "pump-1"])["owner"], Value::Null);
}

#[test]
fn a_report_of_bad_rows_needs_a_file_to_copy_them_from() {
    let (desk, _world) = Desk::new();
    let import = ["import", "-", "--application", "default", "--on-error", "skip", "--report", "bad.csv"];
    let output = desk.say("maker", &import, "id\npump-1\nPump 2\n");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert_eq!(desk.exit("maker", &["device", "get", "default", "pump-1"]).0, 3, "nothing was written");
    let output = desk.say("maker", &import[..6], "id\npump-1\nPump 2\n");
    assert_eq!(output.status.code(), Some(8), "{}", said(&output));
    assert_eq!(desk.exit("maker", &["device", "get", "default", "pump-1"]).0, 0);
}

#[test]
fn an_export_says_where_it_went_and_how_far_it_is() {
    let (desk, _world) = Desk::new();
    desk.ok("maker", &["device", "create", "default", "pump-1"]);
    let export = ["export", "--application", "default", "--out", "devices.csv", "--progress", "json"];
    let (exit, talk) = desk.exit("maker", &export);
    assert!(exit == 0 && talk.contains("exported  default to devices.csv"), "{exit} {talk}");
    assert!(std::fs::read_to_string(desk.file("devices.csv")).expect("the file").contains("\npump-1;"));
}

#[test]
fn the_version_is_told_to_people_and_programs() {
    let run = |arguments: &[&str]| {
        let mut claimd = std::process::Command::new(env!("CARGO_BIN_EXE_claimd"));
        String::from_utf8(crate::harness::tools::run(claimd.args(arguments), "").stdout).expect("UTF-8")
    };
    assert_eq!(run(&["version"]), run(&["--version"]));
    let told: Value = serde_json::from_str(&run(&["version", "--output", "json"])).expect("JSON");
    assert_eq!(told, json!({"name": "claimd", "version": env!("CARGO_PKG_VERSION")}));
}
