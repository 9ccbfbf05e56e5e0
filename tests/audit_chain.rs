//! The audit log's chain, from outside: sealed within a second, whole over restarts, and broken where somebody tampered.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::harness::tools::run;
use crate::harness::{Server, Stores, World, eventually};

/// A maker with an API key and a folder for files.
struct Auditor {
    server: Server,
    world: World,
    folder: tempfile::TempDir,
}

const DEVICES: &str = "/api/claimd/v1/applications/default/devices";

impl Auditor {
    /// With `deeds` rows in the audit log.
    fn new(deeds: usize) -> Self {
        let server = Server::start();
        let world = World::new(&server);
        let folder = tempfile::tempdir().expect("a folder");
        for (name, client) in [("maker", &world.maker), ("alice", &world.alice.client)] {
            let key = client.post("/api/claimd/v1/api-keys", &json!({"name": "audit"})).ok();
            std::fs::write(folder.path().join(name), key["key"].as_str().expect("a key")).expect("written");
        }
        let auditor = Self { server, world, folder };
        // The two keys are rows too.
        (2..deeds).for_each(|n| auditor.register(&format!("pump-{n}")));
        auditor
    }

    fn register(&self, id: &str) {
        assert_eq!(self.world.maker.post(DEVICES, &json!({"id": id})).status, 200);
    }

    fn restart(&mut self, meanwhile: impl FnOnce(&Stores)) {
        assert_eq!(self.server.stop(), Some(0));
        meanwhile(&self.server.stores);
        self.server.launch();
        self.world = self.world.moved(&self.server);
    }

    fn say(&self, who: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_claimd"));
        command.env_clear().current_dir(self.folder.path());
        command.env("CLAIMD_CLIENT__URL", format!("http://{}", self.server.http));
        command.env("CLAIMD_CLIENT__API_KEY_FILE", self.folder.path().join(who));
        run(command.arg("audit").args(arguments), "")
    }

    /// Exit code, the JSON lines, and the talk.
    fn audit(&self, arguments: &[&str]) -> (i32, Vec<Value>, String) {
        let output = self.say("maker", arguments);
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        (output.status.code().expect("a code"), lines, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// What `verify` says of a chain that must be whole and sealed to its end.
    fn whole(&self, arguments: &[&str]) -> Value {
        eventually("every row is sealed", || {
            let (code, said, talk) = self.audit(&[&["verify"][..], arguments].concat());
            assert!(code == 0 && said.len() == 1 && said[0]["result"] == "whole", "{said:?}: {talk}");
            (said[0]["unsealed"] == 0).then(|| said[0].clone())
        })
    }

    /// Where `verify` finds the chain broken, and what it says.
    fn broken(&self, arguments: &[&str]) -> (Value, String) {
        let (code, said, talk) = self.audit(&[&["verify"][..], arguments].concat());
        assert!(code == 1 && said[0]["result"] == "broken", "{code}: {said:?} {talk}");
        assert!(talk.contains("next"), "{talk}");
        (said[0]["broken"].clone(), talk)
    }

    fn of_server(&self, query: &str) -> Value {
        self.world.maker.get(&format!("/api/claimd/v1/audit/verify{query}")).ok()
    }
}

#[test]
fn rows_are_sealed_at_once_and_everybody_finds_the_same_head() {
    let auditor = Auditor::new(6);
    let said = auditor.whole(&[]);
    assert_eq!(said["rows"], 6);
    eventually("the gauge is empty", || (auditor.server.metric("claimd_audit_unsealed") == 0.0).then_some(()));
    let server = auditor.of_server("");
    assert_eq!((&server["result"], &server["rows"], &server["more"]), (&json!("whole"), &json!(6), &json!(false)));
    assert_eq!(server["head"], said["head"]);
    // In steps of the smallest size.
    let mut since = 0;
    for step in 1..=6 {
        let part = auditor.of_server(&format!("?since={since}&limit=1"));
        assert_eq!(
            (&part["result"], &part["rows"], &part["more"]),
            (&json!("whole"), &json!(1), &json!(true)),
            "{step}"
        );
        since = part["last"].as_i64().expect("a position");
    }
    assert_eq!(auditor.of_server(&format!("?since={since}&limit=1"))["more"], false);
    for limit in ["0", "100001"] {
        let refused = auditor.world.maker.get(&format!("/api/claimd/v1/audit/verify?limit={limit}"));
        assert_eq!(refused.status, 400, "{limit}");
    }
    // Makers only.
    assert_eq!(auditor.world.alice.client.get("/api/claimd/v1/audit/verify").status, 403);
    assert_eq!(auditor.say("alice", &["verify"]).status.code(), Some(4));
}

#[test]
fn rows_are_asked_for_by_position_time_and_device() {
    let auditor = Auditor::new(6);
    auditor.whole(&[]);
    let (_, all, _) = auditor.audit(&["list"]);
    assert_eq!(all.len(), 6);
    let seq = |n: usize| all[n]["seq"].to_string();
    assert_eq!(auditor.audit(&["list", "--since", &seq(3)]).1, all[4..]);
    assert_eq!(auditor.audit(&["list", "--since", "1 hour ago"]).1, all);
    assert_eq!(auditor.audit(&["list", "--since", "in 1 hour"]).1, Vec::<Value>::new());
    assert_eq!(auditor.audit(&["list", "--since", "2026-01-01T00:00:00+01:00"]).1, all);
    let device = all[5]["device"].as_str().expect("a device");
    for named in ["pump-5", device] {
        assert_eq!(auditor.audit(&["list", "--device", named]).1, all[5..], "{named}");
    }
    assert_eq!(auditor.audit(&["list", "--device", "no-such"]).0, 3);
    assert_eq!(auditor.audit(&["list", "--since", "yesterday"]).0, 2);
    // A part of a chain verifies from where it begins, rows of a device each by itself.
    assert_eq!(auditor.whole(&["--since", &seq(1)])["rows"], 4);
    assert_eq!(auditor.whole(&["--since", "1 hour ago"])["rows"], 6);
    assert_eq!(auditor.whole(&["--device", "pump-5"])["rows"], 1);
    let asked = |query: &str| auditor.world.maker.get(&format!("/api/claimd/v1/audit?{query}")).status;
    assert_eq!((asked("sinceTime=yesterday"), asked("device=%00"), asked("limit=1001")), (400, 400, 400));
}

#[test]
fn a_chain_goes_on_over_restarts_and_what_waits_at_a_stop_is_sealed() {
    let mut auditor = Auditor::new(5);
    let first = auditor.whole(&[]);
    auditor.register("last-moment");
    auditor.restart(|stores| {
        let counts = stores.ask("SELECT (SELECT count(*) FROM audit), (SELECT count(*) FROM audit_chain)");
        assert_eq!(counts, ["6|6"], "nothing is left unsealed");
    });
    auditor.server.kill_dash_nine();
    auditor.server.launch();
    auditor.world = auditor.world.moved(&auditor.server);
    auditor.register("after");
    let head = first["head"].as_str().expect("a head");
    let second = auditor.whole(&["--head", head]);
    assert_eq!(second["rows"], 7);
    assert_ne!(second["head"], first["head"]);
    let (_, talk) = auditor.broken(&["--head", &head.replace(|c: char| c.is_ascii_hexdigit(), "0")]);
    assert!(talk.contains("not the chain it was of"), "{talk}");
    assert_eq!(auditor.audit(&["verify", "--head", "xyz"]).0, 2);
}

#[test]
fn a_changed_or_removed_row_is_found_at_exactly_that_row() {
    let mut auditor = Auditor::new(6);
    auditor.whole(&[]);
    // A database with a sequence may leave numbers out.
    let seqs = auditor.server.stores.ask("SELECT seq FROM audit ORDER BY seq");
    let seqs: Vec<i64> = seqs.iter().map(|seq| seq.parse().expect("a number")).collect();
    let [_, second, third, fourth, _, sixth] = seqs[..] else { panic!("{seqs:?}") };
    let another = format!("(SELECT actor FROM audit WHERE seq = {third})");
    let tampered = [
        ("changed", format!("UPDATE audit SET reason = 'pump-9' WHERE seq = {fourth}"), fourth, "not what was sealed"),
        ("owner", format!("UPDATE audit SET actor = {another} WHERE seq = {second}"), second, "not what was sealed"),
        ("removed", format!("DELETE FROM audit WHERE seq = {third}"), third, "not there any more"),
        ("last removed", format!("DELETE FROM audit WHERE seq = {sixth}"), sixth, "not there any more"),
    ];
    assert_eq!(auditor.server.stop(), Some(0));
    let good = auditor.server.stores.save();
    auditor.server.launch();
    for (name, sql, seq, what) in tampered {
        auditor.restart(|stores| {
            stores.put_back(&good);
            stores.tamper(&sql);
        });
        let server = auditor.of_server("");
        assert_eq!((&server["result"], &server["broken"]), (&json!("broken"), &json!(seq)), "{name}: {server}");
        let (broken, talk) = auditor.broken(&[]);
        assert!(broken == json!(seq) && talk.contains(what), "{name}: {broken} {talk}");
    }
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).expect("the export").lines().map(str::to_owned).collect()
}

#[test]
fn an_export_verifies_without_a_server_and_a_changed_one_does_not() {
    let mut auditor = Auditor::new(6);
    let head = auditor.whole(&[])["head"].clone();
    let path = auditor.folder.path().join("audit.jsonl");
    let (code, _, talk) = auditor.audit(&["export", "--out", "audit.jsonl"]);
    assert!(code == 0 && talk.contains("exported  6 rows"), "{talk}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().expect("the file").permissions());
    assert_eq!(mode & 0o777, 0o600);
    let exported = lines(&path);
    assert_eq!(
        auditor.audit(&["export"]).1,
        exported.iter().map(|l| serde_json::from_str::<Value>(l).unwrap()).collect::<Vec<_>>()
    );
    let row: Value = serde_json::from_str(&exported[4]).expect("JSON");
    assert_eq!(auditor.server.stop(), Some(0));
    let file = ["--file", "audit.jsonl"];
    let whole = auditor.whole(&file);
    assert_eq!((&whole["rows"], &whole["head"]), (&json!(6), &head));
    let (seq, device) = (row["seq"].to_string(), row["device"].as_str().expect("a device"));
    assert_eq!(auditor.whole(&[&file[..], &["--since", &seq]].concat())["rows"], 1);
    assert_eq!(auditor.whole(&[&file[..], &["--device", device]].concat())["rows"], 1);
    assert_eq!(auditor.whole(&[&file[..], &["--since", "1 hour ago"]].concat())["rows"], 6);

    let broken = |change: &dyn Fn(&mut Vec<String>)| {
        let mut changed = exported.clone();
        change(&mut changed);
        std::fs::write(&path, changed.join("\n")).expect("written");
        auditor.broken(&file)
    };
    assert_eq!(broken(&|lines| lines[2] = lines[2].replace("pump-2", "pump-3")).0, json!(3));
    assert_eq!(broken(&|lines| drop(lines.remove(2))).0, json!(4), "the hole is before it");
    assert_eq!(broken(&|lines| drop(lines.remove(0))).0, json!(2));
    assert_eq!(broken(&|lines| lines.swap(3, 4)).0, json!(5));
    let (at, talk) = broken(&|lines| lines[3] = "{\"seq\":".to_owned());
    assert!(at.is_null() && talk.contains("line 4"), "{talk}");
    assert_eq!(auditor.audit(&["verify", "--file", "nowhere.jsonl"]).0, 2);
}
