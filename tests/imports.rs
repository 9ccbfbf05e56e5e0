//! Files of devices: imported, labelled, claimed in bulk; refused, cut off and gone on with.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::desk::Desk;
use crate::harness::tools::{program, run, said};
use crate::harness::{Answer, Client, eventually};

const IMPORTS: &str = "/api/claimd/v1/applications/spring-26/imports";

/// A file of `count` devices, each with EUIs and a label.
fn spring(count: usize) -> String {
    let mut file = "id;dev_eui;join_eui;name;serial_number\n".to_owned();
    for n in 1..=count {
        let _ = writeln!(file, "pump-{n};0004A30B{n:08X};70B3D57ED0000000;Pump {n};S{n:05}");
    }
    file
}

fn desk() -> Desk {
    desk_with(&[])
}

fn desk_with(settings: &[(&str, &str)]) -> Desk {
    let (desk, _) = Desk::with(settings);
    desk.ok("maker", &["application", "create", "spring-26"]);
    desk.ok("alice", &["application", "create", "my-house"]);
    desk
}

fn maker(desk: &Desk) -> Client {
    use crate::harness::server::{ADMIN, ADMIN_PASSWORD};
    Client::sign_in(&desk.server.http, ADMIN, ADMIN_PASSWORD)
}

fn upload(maker: &Client, query: &str, file: &str) -> Answer {
    maker.send("POST", &format!("{IMPORTS}?{query}"), &[], file)
}

fn job_id(job: &Value) -> String {
    job["id"].as_str().expect("an id").to_owned()
}

/// Waits for the end of an import.
fn ended(maker: &Client, job: &Value) -> Value {
    let path = format!("/api/claimd/v1/imports/{}", job["id"].as_str().expect("an id"));
    eventually("the end of an import", || {
        let job = maker.get(&path).ok();
        (job["state"] != "applying").then_some(job)
    })
}

/// The rows of a codes file: id to (code, QR text).
fn codes(desk: &Desk, name: &str) -> BTreeMap<String, (String, String)> {
    let text = std::fs::read_to_string(desk.file(name)).expect("a codes file");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("id;dev_eui;join_eui;claim_authentication_code;claim_valid_from;claim_valid_to;qr"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(';').collect();
        assert_eq!(cells.len(), 7, "{line}");
        (cells[0].to_owned(), (cells[3].to_owned(), cells[6].to_owned()))
    };
    lines.map(row).collect()
}

#[test]
fn a_maker_imports_labels_and_hands_over_and_owners_claim_every_way() {
    let desk = desk();
    let mut file: String = spring(40).lines().map(|line| format!("{line};2999-01-01T00:00:00Z\n")).collect();
    file = file.replacen("2999-01-01T00:00:00Z", "claim_valid_to", 1);
    let good = file.clone();
    file.push_str("Pump 7;00GG;70B3D57ED0000000;x;y;31/02/2026\n");
    std::fs::write(desk.file("spring.csv"), &file).expect("written");
    let import = ["import", "spring.csv", "--application", "spring-26"];

    // Checked, and nothing written.
    let checked =
        desk.say("maker", &[&import[..], &["--generate-codes", "--dry-run", "--output", "table"]].concat(), "");
    assert_eq!(checked.status.code(), Some(1), "{}", said(&checked));
    let talk = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(talk.contains("checked 41 rows in ") && talk.contains(": 40 new, 1 refused; nothing written"), "{talk}");
    assert!(talk.contains("next: fix the file, or apply the rest with `--on-error skip`"), "{talk}");
    let table = String::from_utf8_lossy(&checked.stdout).into_owned();
    for fault in ["Pump 7", "pump-7", "00GG", "16 hex digits", "31/02/2026", "2026-02-28T23:59:59Z"] {
        assert!(table.contains(fault), "{fault}: {table}");
    }
    assert!(maker(&desk).get("/api/claimd/v1/applications/spring-26/devices").ok()["data"] == json!([]));

    // Imported; the codes leave once, in a file for the maker's eyes.
    std::fs::write(desk.file("spring.csv"), &good).expect("written");
    let made = desk.say("maker", &[&import[..], &["--generate-codes", "--codes-out", "codes.csv"]].concat(), "");
    assert!(made.status.success(), "{}", said(&made));
    assert!(String::from_utf8_lossy(&made.stderr).contains("imported 40 rows in"), "{}", said(&made));
    let mode = desk.file("codes.csv").metadata().expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let made = codes(&desk, "codes.csv");
    assert_eq!(made.len(), 40);
    for (id, (code, _)) in made.iter().take(3) {
        let shown = desk.ok("maker", &["device", "get", "spring-26", id, "--show-code"]);
        assert_eq!(shown["code"]["value"], json!(code), "the file has what the registry has");
        assert_eq!(shown["code"]["validTo"], "2999-01-01T00:00:00Z");
    }
    // Once more changes nothing, and hands out nothing.
    let again = desk.say("maker", &[&import[..], &["--generate-codes", "--codes-out", "more.csv"]].concat(), "");
    assert!(
        again.status.success() && String::from_utf8_lossy(&again.stderr).contains("40 unchanged"),
        "{}",
        said(&again)
    );
    assert!(!desk.file("more.csv").exists());
    let over = desk.exit("maker", &[&import[..], &["--generate-codes", "--codes-out", "codes.csv"]].concat());
    assert!(over.0 == 2 && over.1.contains("not overwritten"), "{}", over.1);

    // Labels are read by an independent reader.
    let drawn = desk.say("maker", &["qr", "spring-26", "--all", "--image", "png", "--out", "labels"], "");
    assert!(drawn.status.success(), "{}", said(&drawn));
    for id in ["pump-1", "pump-40"] {
        let label = desk.file(&format!("labels/{id}.png"));
        let read = run(program("zbarimg").args(["--raw", "-q"]).arg(&label), "");
        assert_eq!(String::from_utf8_lossy(&read.stdout).trim(), made[id].1);
    }

    // Claimed by code, by the text of each grammar, and many from the codes file itself.
    let (code, _) = &made["pump-1"];
    let euis = ["--dev-eui", "0004A30B00000001", "--join-eui", "70b3d57ed0000000"];
    desk.ok("alice", &[&["device", "claim", "my-house", "--code", &code.to_lowercase()], &euis[..]].concat());
    let eui = |n: usize| format!("0004A30B{n:08X}");
    let texts = [
        made["pump-2"].1.clone(),
        format!("URN:LW:DP:70B3D57ED0000000:{}:00000000:%25V{}", eui(3), made["pump-3"].0),
        format!("URN:DEV:LW:70B3D57ED0000000_{}_00000000_V{}", eui(4), made["pump-4"].0),
        json!({"deviceName": "pump-5", "secretKey": made["pump-5"].0}).to_string(),
        format!("http://{}/c/pump-6#{}", desk.server.http, made["pump-6"].0),
    ];
    for (n, text) in texts.iter().enumerate() {
        let claimed = desk.say("alice", &["device", "claim", "my-house", &format!("mine-{n}"), "--qr", "-"], text);
        assert!(claimed.status.success(), "{text}: {}", said(&claimed));
    }
    let bulk =
        desk.say("alice", &["device", "claim", "my-house", "--file", "codes.csv", "--report", "report.jsonl"], "");
    let report = std::fs::read_to_string(desk.file("report.jsonl")).expect("a report");
    let rows: Vec<Value> = report.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(rows.len(), 40);
    let results = |name: &str| rows.iter().filter(|row| row["result"] == name).count();
    assert_eq!((results("already_yours"), results("claimed")), (6, 34), "{}{report}", said(&bulk));
    let mine = maker(&desk).get("/api/claimd/v1/applications/my-house/devices?pageSize=100").ok();
    assert_eq!(mine["totalElements"], 40);
    // What is claimed takes no new code; the same file again is unchanged all the same.
    let again = desk.say("maker", &[&import[..], &["--generate-codes", "--codes-out", "more.csv"]].concat(), "");
    assert!(String::from_utf8_lossy(&again.stderr).contains("40 unchanged"), "{}", said(&again));
}

#[test]
fn bad_rows_write_nothing_or_are_skipped_and_come_back_to_be_mended() {
    let desk = desk();
    let file = "id,dev_eui,claim_authentication_code,colour\n\
         pump-1,0004A30B00000001,MARKED-CODE,red\n\
         pump-2,0004A30B00000002,GOODCODE22,red\n\
         pump-2,0004A30B00000003,GOODCODE33,red\n\
         ,,,\n\
         pump-5,0004A30B00000005,55555555,red\n";
    std::fs::write(desk.file("spring.csv"), file).expect("written");
    let import = ["import", "spring.csv", "--application", "spring-26", "--report", "bad.csv"];
    let refused = desk.say("maker", &import, "");
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("column `colour`"), "{}", said(&refused));
    assert!(!said(&refused).contains("MARKED-CODE"), "{}", said(&refused));
    assert!(maker(&desk).get("/api/claimd/v1/applications/spring-26/devices").ok()["data"] == json!([]));
    let found: Vec<Value> = String::from_utf8_lossy(&refused.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|fault: &Value| fault["status"] == "failed")
        .map(|fault| json!([fault["row"], fault["column"], fault["code"]]))
        .collect();
    assert_eq!(
        json!(found),
        json!([
            [2, "claim_authentication_code", "claim_authentication_code"],
            [4, "id", "repeated"],
            [5, "id", "no_id"],
            [6, "claim_authentication_code", "code_trivial"]
        ])
    );
    let skipped = desk.say("maker", &[&import[..], &["--on-error", "skip"]].concat(), "");
    assert_eq!(skipped.status.code(), Some(8), "{}", said(&skipped));
    assert!(String::from_utf8_lossy(&skipped.stderr).contains(": 1 new, 4 refused"), "{}", said(&skipped));
    // The bad rows come back as they were; mended, they go in.
    let bad = std::fs::read_to_string(desk.file("bad.csv")).expect("a report");
    assert!(
        bad.starts_with("id,dev_eui,claim_authentication_code,colour,reason\npump-1,0004A30B00000001,MARKED-CODE,red,")
    );
    assert_eq!(bad.lines().count(), 5);
    let mended = bad.replace("MARKED-CODE", "MARKEDCODE").replace("pump-2,", "pump-3,").replace("55555555", "5555555A");
    let mended: String =
        mended.lines().filter(|line| !line.starts_with(",,")).map(|line| format!("{line}\n")).collect();
    // The report may take the place of the file it is about.
    std::fs::write(desk.file("spring.csv"), bad).expect("written");
    let over = desk.exit("maker", &["import", "spring.csv", "--application", "spring-26", "--report", "spring.csv"]);
    assert_eq!(over.0, 1, "{}", over.1);
    assert_eq!(std::fs::read_to_string(desk.file("spring.csv")).expect("the report").lines().count(), 4);
    assert_eq!(desk.file("spring.csv").metadata().expect("the file").permissions().mode() & 0o777, 0o600);
    std::fs::write(desk.file("spring.csv"), mended).expect("written");
    let good = desk.say("maker", &["import", "spring.csv", "--application", "spring-26"], "");
    assert!(good.status.success() && String::from_utf8_lossy(&good.stderr).contains(": 3 new"), "{}", said(&good));
    // What cannot be read at all says why.
    for (file, why) in [
        ("", "empty"),
        ("colour\nred\n", "no known column"),
        ("id,id\n", "twice"),
        ("[{\"ids\":{\"device_id\":\"pump-9\"}}", "object"),
    ] {
        std::fs::write(desk.file("spring.csv"), file).expect("written");
        let (exit, talk) = desk.exit("maker", &["import", "spring.csv", "--application", "spring-26"]);
        assert!(exit == 2 && talk.contains(why), "{file}: {exit} {talk}");
    }
    assert_eq!(desk.exit("maker", &["import", "nowhere.csv", "--application", "spring-26"]).0, 2);
    assert_eq!(desk.exit("maker", &["import", "bad.csv", "--application", "summer"]).0, 3);
    assert_eq!(desk.exit("alice", &["import", "bad.csv", "--application", "my-house"]).0, 4);
}

#[test]
fn an_import_that_was_killed_goes_on_and_its_codes_are_those_of_the_registry() {
    const ROWS: usize = 3_000;
    let mut desk = desk();
    let maker_before = maker(&desk);
    let job = upload(&maker_before, "generateCodes=base32", &spring(ROWS)).ok();
    assert_eq!((&job["state"], &job["checked"]["created"]), (&json!("applying"), &json!(ROWS)));
    let path = format!("/api/claimd/v1/imports/{}", job["id"].as_str().expect("an id"));
    eventually("a part of it", || {
        let applied = maker_before.get(&path).ok()["applied"]["rows"].as_u64().expect("a number");
        (applied >= 300).then_some(())
    });
    desk.server.kill_dash_nine();
    desk.server.launch();
    let maker = maker(&desk);
    let seen = maker.get(&path).ok();
    let applied = seen["applied"]["rows"].as_u64().expect("a number") as usize;
    assert!((300..ROWS).contains(&applied), "killed in the middle: {seen}");
    // Nothing was asked for: the next start goes on by itself, and whoever waits gets the codes.
    let resumed =
        desk.say("maker", &["import", "--resume", job["id"].as_str().expect("an id"), "--codes-out", "codes.csv"], "");
    assert!(resumed.status.success(), "{}", said(&resumed));
    let made = codes(&desk, "codes.csv");
    assert_eq!(made.len(), ROWS);
    let exported = desk.say("maker", &["export", "--application", "spring-26", "--codes"], "");
    let exported = String::from_utf8(exported.stdout).expect("UTF-8");
    let mut lines = exported.lines();
    let header: Vec<&str> = lines.next().expect("a header").split(';').collect();
    let column = header.iter().position(|name| *name == "claim_authentication_code").expect("a column");
    let mut count = 0;
    for line in lines {
        let cells: Vec<&str> = line.split(';').collect();
        assert_eq!(made[cells[0]].0, cells[column], "{line}");
        count += 1;
    }
    assert_eq!(count, ROWS, "each device once");
    assert_eq!(ended(&maker, &job)["applied"]["created"], ROWS);
    assert_eq!(maker.get(&format!("{path}/codes")).status, 404, "they were handed over");
    let repeated = desk.say("maker", &["import", "--resume", &job_id(&job), "--codes-out", "codes.csv"], "");
    assert_eq!(repeated.status.code(), Some(2), "{}", said(&repeated));
    assert_eq!(codes(&desk, "codes.csv").len(), ROWS, "the only copy stays");
    // A file that was still arriving is broken, and nothing of it is there.
    let listed = maker.get("/api/claimd/v1/imports").ok();
    assert_eq!((&listed["totalElements"], &listed["data"][0]["id"]), (&json!(1), &job["id"]));
    assert_eq!(maker.delete(&path).status, 200);
    assert_eq!(maker.get(&path).status, 404);
}

#[test]
fn ctrl_c_stops_an_import_at_a_safe_point_and_says_how_to_go_on() {
    const ROWS: usize = 6_000;
    let desk = desk();
    std::fs::write(desk.file("spring.csv"), spring(ROWS)).expect("written");
    let import = ["import", "spring.csv", "--application", "spring-26", "--generate-codes", "--codes-out", "codes.csv"];
    let child = desk
        .command("maker", &import)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("started");
    let maker = maker(&desk);
    eventually("a part of it", || {
        let jobs = maker.get("/api/claimd/v1/imports").ok();
        (jobs["data"][0]["applied"]["rows"].as_u64() > Some(0)).then_some(())
    });
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill").success());
    let stopped = child.wait_with_output().expect("an end");
    let talk = String::from_utf8_lossy(&stopped.stderr).into_owned();
    assert_eq!(stopped.status.code(), Some(130), "{talk}");
    let hint = talk.lines().find_map(|line| line.strip_prefix("next: claimd ")).expect("a hint").to_owned();
    let listed = maker.get("/api/claimd/v1/imports").ok()["data"][0].clone();
    assert_eq!(listed["state"], "stopped", "{listed}");
    let arguments: Vec<&str> = hint.split(' ').collect();
    let resumed = desk.say("maker", &arguments, "");
    assert!(resumed.status.success(), "{hint}: {}", said(&resumed));
    assert_eq!(codes(&desk, "codes.csv").len(), ROWS);
}

#[test]
fn what_is_exported_and_imported_again_changes_nothing() {
    let desk = desk();
    let file = json!([
        {"ids": {"device_id": "pump-1", "dev_eui": "0004A30B00000001", "join_eui": "70B3D57ED0000000"},
         "name": "=HYPERLINK(\"x\")", "description": "two\nlines; and \"quotes\"", "serial_number": "-1",
         "lorawan_version": "MAC_V1_0_3", "version_ids": {"brand_id": "acme"},
         "lora_alliance_profile_ids": {"vendor_id": 43707, "vendor_profile_id": 4386},
         "root_keys": {"app_key": {"key": "000102030405060708090A0B0C0D0E0F"}},
         "claim_authentication_code": {"value": "BEEF1234", "valid_to": "2999-01-01T00:00:00Z"}},
        {"external_id": "other-2", "claiming_allowed": false},
    ]);
    let maker = maker(&desk);
    let job = ended(&maker, &upload(&maker, "", &file.to_string()).ok());
    assert_eq!((&job["format"], &job["applied"]["created"]), (&json!("the-things-stack"), &json!(2)));
    for format in ["the-things-stack-csv", "the-things-stack"] {
        let out = format!("{format}.txt");
        let exported = desk.say(
            "maker",
            &["export", "--application", "spring-26", "--format", format, "--codes", "--out", &out],
            "",
        );
        assert!(exported.status.success(), "{}", said(&exported));
        let text = std::fs::read_to_string(desk.file(&out)).expect("a file");
        assert!(!text.contains("0001020304"), "root keys are not in it: {text}");
        assert!(format != "the-things-stack-csv" || text.contains("\"'=HYPERLINK"), "no formula: {text}");
        let again = ended(&maker, &upload(&maker, "", &text).ok());
        assert_eq!((&again["applied"]["unchanged"], &again["checked"]["failed"]), (&json!(2), &json!(0)), "{text}");
    }
    let without = desk.say("maker", &["export", "--application", "spring-26"], "");
    assert!(!String::from_utf8_lossy(&without.stdout).contains("BEEF1234"));
    assert_eq!(desk.exit("alice", &["export", "--application", "my-house"]).0, 4);
}

#[test]
fn root_keys_leave_only_by_their_makers_wish_and_count_as_exposed_then() {
    let desk = desk();
    std::fs::write(desk.file("key"), "000102030405060708090A0B0C0D0E0F\n").expect("written");
    let create = ["device", "create", "spring-26", "pump-1", "--app-key", "@key", "--code", "@code"];
    std::fs::write(desk.file("code"), "BEEF1234").expect("written");
    let euis = ["--dev-eui", "0004A30B00000001", "--join-eui", "70B3D57ED0000000"];
    let made = desk.ok("maker", &[&create[..], &euis[..]].concat());
    assert_eq!((&made["rootKeys"], &made["rootKeysExposed"]), (&json!(true), &json!(false)));
    assert_eq!(
        desk.exit(
            "maker",
            &["device", "create", "spring-26", "pump-2", "--app-key", "000102030405060708090A0B0C0D0E0F"]
        )
        .0,
        2
    );
    // A claim moves the device, not the keys.
    let claimed = desk.ok("alice", &[&["device", "claim", "my-house", "--code", "BEEF1234"], &euis[..]].concat());
    assert!(!claimed.to_string().contains("0001020304"));
    let get = ["device", "get", "spring-26", "pump-1", "--export-root-keys"];
    assert_eq!(desk.exit("maker", &get).0, 2, "asked first");
    desk.ok("alice", &["device", "unclaim", "my-house", "pump-1"]);
    let keys = desk.ok("maker", &[&get[..], &["--yes"]].concat());
    assert_eq!(keys["appKey"], "000102030405060708090A0B0C0D0E0F");
    assert_eq!(keys["rootKeysExposed"], true);
    assert_eq!(desk.ok("maker", &["device", "get", "spring-26", "pump-1"])["rootKeysExposed"], true);
    let path = "/api/claimd/v1/applications/my-house/devices/pump-1/export-root-keys";
    let alice = desk.exit("alice", &["device", "get", "my-house", "pump-1", "--export-root-keys", "--yes"]);
    assert_eq!(alice.0, 4, "{} {path}", alice.1);
    let audit = maker(&desk).get("/api/claimd/v1/audit?limit=1000").ok().to_string();
    assert!(audit.contains("device.root_keys_exported") && !audit.contains("0001020304"));
}

#[test]
fn no_code_or_key_of_an_import_is_in_the_log_the_audit_the_files_or_a_refusal() {
    const MARK: &str = "MARKEDCODE77";
    const KEY: &str = "DEADBEEFDEADBEEFDEADBEEFDEADBEEF";
    let mut desk = desk_with(&[("CLAIMD_LOG__LEVEL", "trace")]);
    let maker = maker(&desk);
    let mut file = "id;app_key;claim_authentication_code\n".to_owned();
    for n in 0..2_000 {
        let _ = writeln!(file, "pump-{n};{KEY};{MARK}{n}");
    }
    let mut heard = vec![
        upload(&maker, "", &format!("id;app_key;claim_authentication_code\na-1;{KEY}x;{MARK}!\n")).body,
        upload(&maker, "dryRun=true", &file).body,
    ];
    let job = upload(&maker, "onError=skip", &file).ok();
    // Killed while most of it waits to be applied.
    desk.server.kill_dash_nine();
    let path = format!("/api/claimd/v1/imports/{}", job["id"].as_str().expect("an id"));
    let raw_key = [0xde_u8, 0xad, 0xbe, 0xef, 0xde, 0xad, 0xbe, 0xef];
    let marks = [MARK.as_bytes(), KEY.as_bytes(), &raw_key];
    desk.server.nothing_stored_has(&marks);
    desk.server.launch();
    let maker = self::maker(&desk);
    heard.push(ended(&maker, &job).to_string());
    heard.push(maker.get(&format!("{path}/rows?limit=1000")).body);
    heard.push(maker.get("/api/claimd/v1/imports").body);
    heard.push(maker.get("/api/claimd/v1/audit?limit=1000").body);
    assert_eq!(desk.server.stop(), Some(0));
    heard.push(desk.server.log());
    assert!(heard.iter().all(|text| !text.to_uppercase().contains(MARK) && !text.to_uppercase().contains(KEY)));
    desk.server.nothing_stored_has(&marks);
}

#[test]
fn imports_end_at_their_bounds() {
    let desk = desk_with(&[
        ("CLAIMD_OWNER_API__IMPORT_ROWS", "3"),
        ("CLAIMD_OWNER_API__IMPORT_BYTES", "400"),
        ("CLAIMD_OWNER_API__IMPORTS_PER_TENANT", "1"),
    ]);
    let maker = maker(&desk);
    for (rows, status) in [(2, 200), (3, 200), (4, 413)] {
        assert_eq!(upload(&maker, "dryRun=true", &spring(rows)).status, status, "{rows} rows");
    }
    assert!(desk.server.metric("claimd_limit_reached_total{limit=\"owner_api.import_rows\"}") >= 1.0);
    let sized = |size: usize| format!("id\npump-1\n{}", "\n".repeat(size - "id\npump-1\n".len()));
    for (size, status) in [(399, 200), (400, 200), (401, 413)] {
        assert_eq!(upload(&maker, "dryRun=true", &sized(size)).status, status, "{size} bytes");
    }
    assert!(desk.server.metric("claimd_limit_reached_total{limit=\"owner_api.import_bytes\"}") >= 1.0);
    // One file arrives slowly; a second one is one too many.
    use std::io::Write;
    let mut slow = std::net::TcpStream::connect(&desk.server.http).expect("a connection");
    let bearer = maker.bearer.as_deref().expect("a bearer");
    let head = format!(
        "POST {IMPORTS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\r\nContent-Length: 300\r\n\r\nid\npump-1\n"
    );
    slow.write_all(head.as_bytes()).expect("sent");
    eventually("the slow one's beginning", || {
        let jobs = maker.get("/api/claimd/v1/imports").ok();
        (jobs["data"][0]["state"] == "checking").then_some(())
    });
    let second = upload(&maker, "dryRun=true", &spring(1));
    assert_eq!(second.status, 409, "{second:?}");
    // It breaks off: nothing of it is written, and there is room again.
    drop(slow);
    eventually("its end", || {
        let jobs = maker.get("/api/claimd/v1/imports").ok();
        (jobs["data"][0]["state"] == "broken").then_some(())
    });
    assert_eq!(upload(&maker, "dryRun=true", &spring(1)).status, 200);
    assert_eq!(maker.get("/api/claimd/v1/applications/spring-26/devices").ok()["data"], json!([]));
}

#[test]
fn codes_have_a_check_symbol_where_it_is_wanted() {
    use claim_codes::Style;
    use claim_codes::check::looks_mistyped;
    let desk = desk_with(&[("CLAIMD_CODES__CHECK_SYMBOL", "true")]);
    std::fs::write(desk.file("spring.csv"), spring(20)).expect("written");
    let import = ["import", "spring.csv", "--application", "spring-26", "--generate-codes", "--codes-out", "codes.csv"];
    assert!(desk.say("maker", &import, "").status.success());
    for (code, _) in codes(&desk, "codes.csv").values() {
        assert!(!looks_mistyped(code, Style::Base32Check), "{code}");
        let slip = if code.starts_with('7') { code.replacen('7', "8", 1) } else { format!("7{}", &code[1..]) };
        assert!(looks_mistyped(&slip, Style::Base32Check), "{slip}");
    }
}

#[test]
fn settings_of_many_devices_are_changed_each_with_its_result() {
    let desk = desk();
    let maker = maker(&desk);
    ended(&maker, &upload(&maker, "", &spring(3)).ok());
    let batch = "/api/claimd/v1/applications/spring-26/devices/batch";
    let asked = json!({"devices": ["pump-1", "pump-2", "nobody"], "frozen": true, "code": {"generate": "base32"},
        "reason": "a recall"});
    let results = maker.post(batch, &asked).ok()["results"].clone();
    assert_eq!((&results[0]["status"], &results[2]["status"]), (&json!("changed"), &json!("failed")), "{results}");
    let values = [0, 1].map(|n| results[n]["code"]["value"].as_str().expect("shown once").to_owned());
    assert!(values[0] != values[1] && values[0].len() == 16);
    let shown = maker.get("/api/claimd/v1/applications/spring-26/devices/pump-2").ok();
    assert_eq!((&shown["frozen"], &shown["code"]["value"]), (&json!(true), &Value::Null));
    let deleted = maker.post(batch, &json!({"devices": ["pump-1"], "code": null, "frozen": false})).ok();
    assert_eq!(deleted["results"][0]["status"], "changed");
    assert_eq!(maker.get("/api/claimd/v1/applications/spring-26/devices/pump-1").ok()["code"], Value::Null);
    for bad in [
        json!({"devices": ["pump-1", "pump-2"], "code": {"value": "ONEFORALL1"}}),
        json!({"devices": []}),
        json!({"devices": (0..1001).map(|n| format!("pump-{n}")).collect::<Vec<_>>()}),
        json!({"devices": ["pump-1", "pump-1"]}),
    ] {
        assert_eq!(maker.post(batch, &bad).status, 400);
    }
    let thousand: Vec<String> = (0..1000).map(|n| format!("pump-{n}")).collect();
    let most = maker.post(batch, &json!({"devices": thousand, "presence": true})).ok();
    assert_eq!(most["results"].as_array().map(Vec::len), Some(1000));
}
