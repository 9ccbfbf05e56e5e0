//! Moving house: backup, restore, and from SQLite to PostgreSQL, with servers that run before, meanwhile and after.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use crate::harness::server::{ADMIN, ADMIN_PASSWORD};
use crate::harness::tools::{run, said};
use crate::harness::{Client, Made, PATIENCE, Server, World, backup, eventually, postgres};

const DEVICES: &str = "/api/claimd/v1/applications/default/devices";
const KINDS: [&str; 2] = ["sqlite", "postgres"];

/// Whether the run is on PostgreSQL as a whole: what begins with SQLite says so.
const SQLITE: (&str, &str) = ("CLAIMD_REGISTRY__BACKEND", "sqlite");

/// The settings of a store of this kind.
fn store(kind: &str) -> Vec<(String, String)> {
    match kind {
        "sqlite" => {
            vec![(SQLITE.0.to_owned(), SQLITE.1.to_owned()), ("CLAIMD_REGISTRY__URL".to_owned(), String::new())]
        }
        _ => postgres::settings().map(|(key, value)| (key.to_owned(), value)).to_vec(),
    }
}

fn on(kind: &str, more: &[(&str, &str)]) -> Server {
    let settings = store(kind);
    let mut all: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    all.extend(more);
    Server::unlaunched(&all)
}

fn launched(kind: &str) -> Server {
    let mut server = on(kind, &[]);
    server.launch();
    server
}

fn submit(server: &Server, device: &Made, secret: &str) -> u16 {
    Client::stranger(&server.http)
        .post(&format!("/api/v1/{}/claim", device.token), &json!({"secretKey": secret}))
        .status
}

/// The JSON that a command printed.
fn printed(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {}", said(output)))
}

fn code_of(output: &Output) -> Option<i32> {
    output.status.code()
}

/// A maker's people and devices, of which each has something to lose.
struct Life {
    world: World,
    owned: Made,
    free: Made,
    key: String,
}

impl Life {
    fn new(server: &Server) -> Self {
        let world = World::new(server);
        let (owned, waiting, free) = (world.device("owned"), world.device("waiting"), world.device("free"));
        assert_eq!(submit(server, &owned, "the owner's"), 200);
        assert_eq!(world.alice.client.claim("owned", "the owner's").status, 200);
        let coded = json!({"id": "coded", "code": {"value": "CODE2345"}});
        assert_eq!(world.maker.post(DEVICES, &coded).status, 200);
        assert_eq!(submit(server, &waiting, "not claimed yet"), 200);
        let key = world.maker.post("/api/claimd/v1/api-keys", &json!({"name": "moving"})).ok();
        let key = key["key"].as_str().expect("a key").to_owned();
        Self { world, owned, free, key }
    }

    /// Whether all of it goes on at `server`, where everybody signs in again.
    fn goes_on(&self, server: &Server, pending_too: bool, case: &str) {
        let maker = Client::sign_in(&server.http, ADMIN, ADMIN_PASSWORD);
        let sign_in = |email: &str, password: &str| Client::sign_in(&server.http, email, password);
        let alice = sign_in(&self.world.alice.email, &self.world.alice.password);
        let bob = sign_in(&self.world.bob.email, &self.world.bob.password);
        let mut tool = Client::stranger(&server.http);
        tool.bearer = Some(self.key.clone());
        assert_eq!(tool.get("/api/auth/user").status, 200, "{case}: the API key");
        let world = World { maker, ..self.world.moved(server) };
        assert_eq!(world.owner_of(&self.owned), Some(self.world.alice.customer.clone()), "{case}: the owner");
        assert_eq!(submit(server, &self.owned, "again"), 409, "{case}: it has an owner");
        assert_ne!(bob.claim("owned", "the owner's").status, 200, "{case}");
        // Owned again by its owner, who gives it back.
        assert_eq!(alice.unclaim("owned").status, 200, "{case}");
        assert_ne!(bob.claim("waiting", "wrong").status, 200, "{case}");
        assert_eq!(bob.claim("waiting", "not claimed yet").status == 200, pending_too, "{case}: announced before");
        eventually("the device is claimed by a new announcement", || {
            assert_eq!(submit(server, &self.free, "fresh"), 200, "{case}: the token");
            (bob.claim("free", "fresh").status == 200).then_some(())
        });
        assert_eq!(bob.claim("coded", "CODE2345").status, 200, "{case}: the code");
        assert_ne!(alice.claim("coded", "CODE2345").status, 200, "{case}: and once only");
        eventually("the audit log is whole and sealed", || {
            let said = world.maker.get("/api/claimd/v1/audit/verify").ok();
            assert_eq!(said["result"], "whole", "{case}: {said}");
            (said["unsealed"] == 0).then_some(())
        });
    }
}

/// Ends the work of other threads, also when a test fails.
struct Over<'o>(&'o AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A command that is at work, with what it says on standard error.
struct AtWork {
    child: Child,
    talk: Receiver<String>,
}

impl AtWork {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("claimd starts");
        let stderr = child.stderr.take().expect("stderr");
        let (sender, talk) = channel();
        std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, talk }
    }

    fn says(&self, text: &str) -> String {
        loop {
            let line = self.talk.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("never said `{text}`"));
            if line.contains(text) {
                return line;
            }
        }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(name).arg(self.child.id().to_string()).status();
        assert!(sent.expect("kill").success());
    }

    fn end(mut self) -> Output {
        eventually("the command ends", || self.child.try_wait().expect("a status"));
        self.child.wait_with_output().expect("output")
    }

    /// As the kernel does it, as soon as it has `begun`; whether it was still at work.
    fn kill_when(mut self, begun: impl Fn() -> bool) -> bool {
        eventually("it has begun", || (begun() || self.child.try_wait().expect("a status").is_some()).then_some(()));
        self.child.kill().expect("SIGKILL");
        !self.child.wait().expect("an end").success()
    }
}

fn backed_up(server: &Server, to: &Path) -> Value {
    printed(&run(server.command(&["backup"]).arg("--to").arg(to), ""))
}

#[test]
fn a_server_on_a_restored_store_of_either_kind_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    for from in KINDS {
        let mut server = launched(from);
        let life = Life::new(&server);
        let to = folder.path().join(from);
        let output = run(server.command(&["backup"]).arg("--to").arg(&to), "");
        assert_eq!(printed(&output)["store"], from);
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(talk.contains("master.key is not in it") && talk.contains("pending claims"), "{talk}");
        assert_eq!(server.stop(), Some(0));
        let key = server.data_dir().join("keys/master.key").display().to_string();
        for into in KINDS {
            let case = format!("{from} to {into}");
            let mut other = on(into, &[("CLAIMD_SERVER__MASTER_KEY_FILE", &key)]);
            let restore = |more: &[&str]| run(other.command(&["restore"]).arg("--from").arg(&to).args(more), "");
            let dry = printed(&restore(&["--dry-run"]));
            let output = restore(&[]);
            let restored = printed(&output);
            assert_eq!((&dry["rows"], &restored["codesLive"]), (&restored["rows"], &json!(1)), "{case}");
            let talk = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(talk.contains("void") && talk.contains("--no-code"), "{talk}");
            assert_eq!(code_of(&restore(&[])), Some(5), "{case}: it is not empty any more");
            other.launch();
            life.goes_on(&other, false, &case);
        }
    }
}

#[test]
fn a_restore_needs_the_master_key_and_revokes_codes_when_asked_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().join("backup");
    let mut server = launched("sqlite");
    let life = Life::new(&server);
    backed_up(&server, &to);
    assert_eq!(server.stop(), Some(0));
    let mut other = on("sqlite", &[]);
    let restore =
        |other: &Server, more: &[&str]| run(other.command(&["restore"]).arg("--from").arg(&to).args(more), "");
    // None, then another one.
    let output = restore(&other, &[]);
    assert!(code_of(&output) == Some(2) && said(&output).contains("master.key is not there"), "{}", said(&output));
    let stranger = launched("sqlite");
    let key_of = |server: &Server| server.data_dir().join("keys/master.key");
    std::fs::create_dir_all(other.data_dir().join("keys")).expect("a folder");
    std::fs::copy(key_of(&stranger), key_of(&other)).expect("copied");
    let output = restore(&other, &[]);
    assert!(code_of(&output) == Some(1) && said(&output).contains("another master key"), "{}", said(&output));
    assert!(!other.data_dir().join("registry.db").exists());
    std::fs::copy(key_of(&server), key_of(&other)).expect("copied");
    // What devices announced at the lost server is not even shown as pending.
    std::fs::create_dir_all(other.data_dir().join("claim-journal")).expect("a folder");
    let restored = printed(&restore(&other, &["--revoke-codes"]));
    assert_eq!((&restored["codesLive"], &restored["codesRevoked"]), (&json!(0), &json!(1)));
    assert!(!other.data_dir().join("claim-journal").exists());
    other.launch();
    let bob = Client::sign_in(&other.http, &life.world.bob.email, &life.world.bob.password);
    assert_ne!(bob.claim("coded", "CODE2345").status, 200);
    let maker = Client::sign_in(&other.http, ADMIN, ADMIN_PASSWORD);
    let audit = maker.get("/api/claimd/v1/audit?limit=1000").body;
    assert!(audit.contains("registry.restored") && audit.contains("codes revoked"), "{audit}");
    assert_eq!(code_of(&restore(&other, &[])), Some(2), "a server runs on the folder");
}

#[test]
fn a_backup_while_owners_claim_has_each_owner_with_audit_row_and_event() {
    const COUNT: usize = 300;
    for kind in KINDS {
        let server = launched(kind);
        let world = World::new(&server);
        for n in 0..COUNT {
            let body = json!({"id": format!("pump-{n}"), "code": {"value": format!("CODE{n:04}")}});
            assert_eq!(world.maker.post(DEVICES, &body).status, 200);
        }
        let folder = tempfile::tempdir().expect("a folder");
        let (claimed, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let mut partly = 0;
        std::thread::scope(|scope| {
            for (owner, part) in [(&world.alice, 0), (&world.bob, 1)] {
                let (claimed, over) = (&claimed, &over);
                scope.spawn(move || {
                    // Round and round, so that it is never quiet.
                    for n in (part..COUNT).step_by(2).cycle() {
                        if over.load(Ordering::Relaxed) {
                            return;
                        }
                        let status = owner.client.claim(&format!("pump-{n}"), &format!("CODE{n:04}")).status;
                        claimed.fetch_add(usize::from(status == 200), Ordering::Relaxed);
                    }
                });
            }
            let over = Over(&over);
            for round in 0..6 {
                let before = claimed.load(Ordering::Relaxed);
                eventually("claims go on", || {
                    let now = claimed.load(Ordering::Relaxed);
                    (now > before || now >= COUNT).then_some(())
                });
                let to = folder.path().join(round.to_string());
                assert_eq!(backed_up(&server, &to)["audit"]["broken"], Value::Null);
                let of = |table: &str, is: &dyn Fn(&serde_json::Map<String, Value>) -> bool| -> HashSet<String> {
                    let rows = backup::rows(&to, table);
                    rows.iter()
                        .filter(|row| is(row))
                        .map(|row| row[if table == "device" { "id" } else { "device" }].to_string())
                        .collect()
                };
                let owned = of("device", &|row| !row["owner"].is_null());
                let audited = of("audit", &|row| row["action"] == "confirm" && row["outcome"] == "claimed");
                let told = of("outbox", &|row| row["kind"] == "claimed");
                assert_eq!((&owned, &owned), (&audited, &told), "{kind}, round {round}");
                partly += usize::from(!owned.is_empty() && owned.len() < COUNT);
            }
            drop(over);
        });
        assert!(partly >= 2, "{kind}: only {partly} backups were made while claims went on");
    }
}

#[test]
fn what_is_killed_in_the_middle_is_seen_as_such_and_done_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = launched("sqlite");
    let life = Life::new(&server);
    for n in 0..500 {
        assert_eq!(life.world.maker.post(DEVICES, &json!({"id": format!("pump-{n}")})).status, 200);
    }
    let to = folder.path().join("backup");
    let mut command = server.command(&["backup"]);
    command.arg("--to").arg(&to);
    let killed = AtWork::start(command).kill_when(|| folder.path().join("backup.partial").exists());
    assert!(killed && !to.exists(), "half a backup is none");
    backed_up(&server, &to);
    assert_eq!(server.stop(), Some(0));
    let key = server.data_dir().join("keys/master.key").display().to_string();
    let mut other = on("sqlite", &[("CLAIMD_SERVER__MASTER_KEY_FILE", &key)]);
    let mut command = other.command(&["restore"]);
    command.arg("--from").arg(&to);
    let path = other.data_dir().join("registry.db");
    let marked = || {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let opened = rusqlite::Connection::open_with_flags(&path, flags);
        let version = opened.and_then(|file| file.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)));
        version.is_ok_and(|version| version >= 1_000_000)
    };
    assert!(AtWork::start(command).kill_when(marked));
    let status = printed(&run(&mut other.command(&["migrate", "status"]), ""));
    assert_eq!(status["state"], "unfinished");
    let refused = run(&mut other.command(&["serve"]), "");
    assert!(code_of(&refused) == Some(2) && said(&refused).contains("not finished"), "{}", said(&refused));
    assert!(said(&refused).contains("claimd restore"), "{}", said(&refused));
    printed(&run(other.command(&["restore"]).arg("--from").arg(&to), ""));
    other.launch();
    life.goes_on(&other, false, "after a kill");
}

#[test]
fn a_server_moves_to_postgres_and_nothing_of_what_it_did_meanwhile_is_lost() {
    let mut server = launched("sqlite");
    let life = Life::new(&server);
    let [_, (_, url)] = postgres::settings();
    let migrate = |server: &Server, more: &[&str]| {
        let mut command = server.command(&["migrate", "store"]);
        command.args(more);
        command
    };
    let to = ["--to", url.as_str()];
    let dry = printed(&run(&mut migrate(&server, &["--to", &url, "--dry-run"]), ""));
    assert_eq!((&dry["result"], &dry["target"]), (&json!("would move"), &json!("empty")));
    // Killed while it waits for the server's end: the server goes on, and so does the copy.
    let mut killed = AtWork::start(migrate(&server, &to));
    killed.says("stop the server now");
    killed.child.kill().expect("SIGKILL");
    killed.child.wait().expect("an end");
    let stopped = AtWork::start(migrate(&server, &to));
    stopped.says("stop the server now");
    stopped.signal("-INT");
    assert_eq!(code_of(&stopped.end()), Some(130));
    let waited = run(&mut migrate(&server, &["--to", &url, "--wait", "1ms"]), "");
    assert!(code_of(&waited) == Some(5) && said(&waited).contains("again"), "{}", said(&waited));
    let moving = AtWork::start(migrate(&server, &to));
    assert!(moving.says("copied").contains("while the server runs"));
    // What comes after the copy: a name that goes from one device to another, an owner, a device that goes.
    let world = &life.world;
    let gone = world.device("gone");
    assert_eq!(submit(&server, &gone, "the last one's"), 200);
    assert_eq!(world.bob.client.claim("gone", "the last one's").status, 200);
    let late = world.device("late");
    assert_eq!(submit(&server, &late, "announced late"), 200);
    assert_eq!(server.stop(), Some(0));
    let output = moving.end();
    let moved = printed(&output);
    assert_eq!(moved["source"], moved["target"], "counts and hashes of both sides");
    assert_eq!(moved["settings"], json!(["registry.backend = \"postgres\"", format!("registry.url = \"{url}\"")]));
    let refused = run(&mut server.command(&["serve"]), "");
    assert!(code_of(&refused) == Some(2) && said(&refused).contains("was moved"), "{}", said(&refused));
    assert_eq!(printed(&run(&mut server.command(&["migrate", "status"]), ""))["state"], "moved");
    let again = run(&mut migrate(&server, &to), "");
    assert!(code_of(&again) == Some(2) && said(&again).contains("was moved"), "{}", said(&again));

    server.set("CLAIMD_REGISTRY__BACKEND", "postgres");
    server.set("CLAIMD_REGISTRY__URL", &url);
    assert_eq!(printed(&run(&mut server.command(&["migrate", "status"]), ""))["state"], "registry");
    server.launch();
    life.goes_on(&server, true, "moved");
    let world = world.moved(&server);
    assert_eq!(world.owner_of(&gone), Some(world.bob.customer.clone()), "an owner of the last moment");
    assert_eq!(world.alice.client.claim("late", "announced late").status, 200, "a claim of the last moment");

    // Back to what it was, if somebody insists.
    assert_eq!(server.stop(), Some(0));
    server.set("CLAIMD_REGISTRY__BACKEND", "sqlite");
    server.set("CLAIMD_REGISTRY__URL", "");
    assert_eq!(code_of(&run(&mut migrate(&server, &["--undo"]), "")), Some(2), "it asks");
    printed(&run(&mut migrate(&server, &["--undo", "--yes"]), ""));
    assert_eq!(code_of(&run(&mut migrate(&server, &["--undo", "--yes"]), "")), Some(5));
    server.launch();
    assert_eq!(world.moved(&server).owner_of(&late), None, "as it was before the move");
}

#[test]
fn a_schema_is_told_brought_up_to_date_and_refused_when_it_is_newer() {
    let mut server = on("sqlite", &[]);
    let status = |server: &Server| printed(&run(&mut server.command(&["migrate", "status"]), ""));
    assert_eq!(status(&server)["state"], "empty");
    let up = |server: &Server| run(&mut server.command(&["migrate", "up"]), "");
    assert_eq!(code_of(&up(&server)), Some(2), "there is nothing");
    server.launch();
    let known = status(&server)["known"].as_i64().expect("a version");
    assert_eq!((&status(&server)["schema"], &status(&server)["pending"]), (&json!(known), &json!([])));
    assert_eq!(code_of(&up(&server)), Some(2), "a server runs on it");
    assert_eq!(server.stop(), Some(0));
    let path = server.data_dir().join("registry.db");
    let change = |sql: &str| rusqlite::Connection::open(&path).expect("the database").execute_batch(sql).expect("SQL");
    // As the claimd before the last step left it.
    change(
        "DROP INDEX audit_device; DROP INDEX audit_time; DROP INDEX device_code_sealed; DROP INDEX device_root_keys_sealed;
         PRAGMA user_version = 10",
    );
    assert_eq!(status(&server)["pending"], json!((11..=known).collect::<Vec<_>>()));
    let to: PathBuf = server.data_dir().join("../backup");
    let early = run(server.command(&["backup"]).arg("--to").arg(&to), "");
    assert!(code_of(&early) == Some(2) && said(&early).contains("claimd migrate up"), "{}", said(&early));
    let said_up = printed(&up(&server));
    assert_eq!((&said_up["before"], &said_up["schema"]), (&json!(10), &json!(known)));
    backed_up(&server, &to);
    change("PRAGMA user_version = 999");
    assert_eq!(status(&server)["state"], "newer");
    for command in [&["migrate", "up"][..], &["serve"]] {
        let refused = run(&mut server.command(command), "");
        assert!(code_of(&refused) == Some(2) && said(&refused).contains("schema 999"), "{}", said(&refused));
    }
    change(&format!("PRAGMA user_version = {known}"));
}

#[test]
fn no_password_token_code_key_or_secret_is_in_a_backup() {
    const KEY: &str = "2B7E151628AED2A6ABF7158809CF4F3C";
    for kind in KINDS {
        let server = launched(kind);
        let life = Life::new(&server);
        let device = life.world.device("marked");
        assert_eq!(submit(&server, &device, "MARKER-SECRET"), 200);
        assert_eq!(life.world.alice.client.claim("marked", "MARKER-SECRET").status, 200);
        life.world.bob.client.claim("free", "MARKER-WRONG");
        let coded = json!({"id": "marked-code", "devEui": "70B3D57ED0000042", "code": {"value": "MARKEDCODE77"}});
        life.world.maker.post(DEVICES, &coded).ok();
        let file = format!("id;dev_eui;join_eui;app_key\nrooted;70B3D57ED0000043;70B3D57ED0000000;{KEY}\n");
        let path = "/api/claimd/v1/applications/default/imports?format=the-things-stack-csv";
        let sent = life.world.maker.send("POST", path, &[("Content-Type", "text/csv")], &file);
        assert!(sent.status < 300, "{sent:?}");
        let master = std::fs::read(server.data_dir().join("keys/master.key")).expect("the key");
        let bearer = life.world.maker.bearer.clone().expect("a bearer");
        let marks: [&[u8]; 12] = [
            b"MARKER-SECRET",
            b"MARKER-WRONG",
            b"MARKEDCODE77",
            b"CODE2345",
            b"not claimed yet",
            b"the owner's",
            ADMIN_PASSWORD.as_bytes(),
            b"the password of",
            device.token.as_bytes(),
            life.key.as_bytes(),
            KEY.as_bytes(),
            bearer.as_bytes(),
        ];
        assert!(server.backup_has_none(&marks), "{kind}");
        let key = u128::from_str_radix(KEY, 16).expect("hex").to_be_bytes();
        assert!(server.backup_has_none(&[&master[..16], &master[16..], &key]), "{kind}");
    }
}
