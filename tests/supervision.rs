//! claimd under a service manager: what it tells systemd, what `claimd health` tells a probe, and the unit that we ship.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use testkit::RedisServer;

use crate::harness::tools::{program, root, run, said};
use crate::harness::{PATIENCE, Server, eventually};

/// Where systemd would listen.
struct Manager {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Self { socket, folder }
    }

    fn path(&self) -> String {
        self.folder.path().join("notify").display().to_string()
    }

    fn hear(&self) -> String {
        let mut bytes = [0; 512];
        let length = self.socket.recv(&mut bytes).expect("a word from the server");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// Reads on until something with `part` is said; everything that was said.
    fn hear_until(&self, part: &str) -> Vec<String> {
        let mut heard = Vec::new();
        eventually(part, || {
            heard.push(self.hear());
            heard.last().is_some_and(|last| last.contains(part)).then_some(())
        });
        heard
    }
}

#[test]
fn the_service_manager_hears_of_the_start_of_each_sign_of_life_and_of_the_end() {
    let manager = Manager::new();
    let mut server = Server::with(&[("NOTIFY_SOCKET", &manager.path()), ("WATCHDOG_USEC", "300000")]);
    let heard = manager.hear_until("READY=1");
    assert!(heard.iter().all(|said| !said.contains("STOPPING")), "{heard:?}");
    for _ in 0..3 {
        manager.hear_until("WATCHDOG=1\nSTATUS=ready");
    }
    assert_eq!(server.stop(), Some(0));
    manager.hear_until("STOPPING=1\nSTATUS=draining");
    manager.hear_until("STATUS=saving");
}

#[test]
fn a_store_that_is_away_is_said_and_does_not_starve_the_watchdog() {
    let (manager, mut store) = (Manager::new(), RedisServer::start());
    let _server = Server::with(&[
        ("NOTIFY_SOCKET", &manager.path()),
        ("WATCHDOG_USEC", "300000"),
        ("CLAIMD_CLAIM_CACHE__BACKEND", "redis"),
        ("CLAIMD_CLAIM_CACHE__REDIS_URL", &store.url()),
    ]);
    manager.hear_until("WATCHDOG=1\nSTATUS=ready");
    store.kill();
    manager.hear_until("WATCHDOG=1\nSTATUS=not ready: claim cache down");
    store.start_again();
    manager.hear_until("WATCHDOG=1\nSTATUS=ready");
}

#[test]
fn a_watchdog_that_is_meant_for_another_process_is_not_fed() {
    let manager = Manager::new();
    let mut server =
        Server::with(&[("NOTIFY_SOCKET", &manager.path()), ("WATCHDOG_USEC", "3000"), ("WATCHDOG_PID", "1")]);
    assert_eq!(server.stop(), Some(0));
    let heard = manager.hear_until("STATUS=saving");
    let fed = heard.iter().filter(|said| said.contains("WATCHDOG=1") && !said.contains("saving"));
    assert_eq!(fed.count(), 0, "{heard:?}");
}

fn health(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_claimd"));
    let output = run(command.env_clear().arg("health").args(arguments), "");
    (output.status.code(), said(&output))
}

#[test]
fn a_probe_learns_whether_the_server_lives_and_whether_it_is_to_be_sent_work() {
    let mut store = RedisServer::start();
    let mut server =
        Server::with(&[("CLAIMD_CLAIM_CACHE__BACKEND", "redis"), ("CLAIMD_CLAIM_CACHE__REDIS_URL", &store.url())]);
    let admin = server.admin.clone();
    assert_eq!(health(&["--admin", &admin]), (Some(0), "alive\n".to_owned()));
    assert_eq!(health(&["--admin", &admin, "--ready"]), (Some(0), "ready\n".to_owned()));
    store.kill();
    eventually("the store is missed", || {
        (health(&["--admin", &admin, "--ready"]) == (Some(7), "not ready: claim cache down\n".to_owned())).then_some(())
    });
    assert_eq!(health(&["--admin", &admin]).0, Some(0), "it lives");
    server.stop();
    let (code, said) = health(&["--admin", &admin]);
    assert_eq!(code, Some(7));
    assert!(said.contains("does not answer") && said.contains("next"), "{said}");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("claimd.toml");
    std::fs::write(&file, "[admin]\nbind = \"here\"\n").expect("written");
    let (code, said) = health(&["--config", &file.display().to_string()]);
    assert_eq!(code, Some(2), "{said}");
}

/// The unit as we ship it, with the binary that was built here.
fn unit(folder: &std::path::Path) -> std::path::PathBuf {
    let text = std::fs::read_to_string(root().join("examples/deploy/systemd/claimd.service")).expect("the unit");
    assert!(text.contains("=/usr/local/bin/claimd serve\n"));
    let path = folder.join("claimd.service");
    std::fs::write(&path, text.replace("/usr/local/bin/claimd", env!("CARGO_BIN_EXE_claimd"))).expect("written");
    path
}

#[test]
fn systemd_has_nothing_to_say_against_the_unit_and_finds_little_exposed() {
    let folder = tempfile::tempdir().expect("a folder");
    let unit = unit(folder.path());
    let verified = run(program("systemd-analyze").args(["verify", "--man=no"]).arg(&unit), "");
    assert!(verified.status.success() && said(&verified).is_empty(), "{}", said(&verified));
    // Of 100; a unit without any of it has 96.
    let secure = run(program("systemd-analyze").args(["security", "--offline=yes", "--threshold=15"]).arg(&unit), "");
    assert!(secure.status.success(), "{}", said(&secure));
}

#[test]
fn the_units_settings_are_settings() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = std::fs::read_to_string(unit(folder.path())).expect("the unit");
    let config = root().join("config/claimd.toml").display().to_string();
    // What is commented out is for several nodes.
    for several in [false, true] {
        let lines = text.lines().map(|line| if several { line.trim_start_matches('#') } else { line });
        let lines: Vec<&str> = lines.collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_claimd"));
        command.env_clear().arg("check-config");
        for credential in lines.iter().filter_map(|line| line.strip_prefix("LoadCredential=")) {
            let (name, _) = credential.split_once(':').expect("a name and a file");
            std::fs::write(folder.path().join(name), "postgresql://claimd@database/claimd").expect("written");
        }
        let mut keys = 0;
        for setting in lines.iter().filter_map(|line| line.strip_prefix("Environment=")) {
            let (key, value) = setting.split_once('=').expect("a key and a value");
            let value = value.replace("%d", &folder.path().display().to_string());
            command.env(key, if key == "CLAIMD_CONFIG" { config.clone() } else { value });
            keys += 1;
        }
        if several {
            command.env("CLAIMD_REGISTRY__BACKEND", "postgres").env("CLAIMD_CLAIM_CACHE__BACKEND", "redis");
        }
        let checked = run(&mut command, "");
        assert!(checked.status.success(), "{}", said(&checked));
        assert_eq!(keys, if several { 5 } else { 3 });
    }
}
