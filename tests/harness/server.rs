//! A claimd of its own for each test: the real binary, free ports, a temporary folder.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::backup;
use super::embedded_only::EMBEDDED_ONLY;
use super::mode::{Mode, Stores, hex};
use super::tools::{no_file_has, run, said};

pub use testkit::wait::{PATIENCE, eventually};

pub const ADMIN: &str = "admin@example.com";
pub const ADMIN_PASSWORD: &str = "a-password-for-tests";

/// A running server. Dropping it ends the process and removes the folder.
pub struct Server {
    child: Option<Child>,
    folder: tempfile::TempDir,
    env: Vec<(String, String)>,
    pub stores: Stores,
    pub mqtt: String,
    pub ws: String,
    pub coap: String,
    pub http: String,
    pub admin: String,
}

impl Server {
    /// On defaults, but for ports given by the system and for stores as the run's mode says; see `mode.rs`.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With settings such as `("CLAIMD_CLAIM__ALLOW_BY_DEFAULT", "false")`.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        Self::on(Mode::of_the_run(), settings)
    }

    /// On SQLite and memory in either mode, for `test`, which is on the list of those that are about them.
    #[allow(dead_code, reason = "the list may be empty")]
    pub fn embedded(test: &str, settings: &[(&str, &str)]) -> Self {
        let listed = EMBEDDED_ONLY.iter().any(|(name, _)| *name == test);
        assert!(listed, "`{test}` is not in tests/harness/embedded_only.rs");
        Self::on(Mode::Embedded, settings)
    }

    fn on(mode: Mode, settings: &[(&str, &str)]) -> Self {
        let mut server = Self::prepared(mode, settings);
        server.launch();
        server
    }

    /// Its folder and its settings, and no process yet.
    pub fn unlaunched(settings: &[(&str, &str)]) -> Self {
        Self::prepared(Mode::of_the_run(), settings)
    }

    fn prepared(mode: Mode, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // What a test says of a store, it says of all of it.
        let named = |store: &str| settings.iter().any(|(key, _)| *key == format!("{store}BACKEND"));
        let own: Vec<&str> = STORES.into_iter().filter(|store| named(store)).collect();
        let all = own.len() == STORES.len();
        let stores = if all { Stores::OfTheTest } else { Stores::new(mode, data_dir(&folder)) };
        let mut env: Vec<(String, String)> = [
            ("CLAIMD_MQTT__BIND", "127.0.0.1:0"),
            ("CLAIMD_MQTT__WS_BIND", "127.0.0.1:0"),
            ("CLAIMD_COAP__BIND", "127.0.0.1:0"),
            ("CLAIMD_HTTP__BIND", "127.0.0.1:0"),
            ("CLAIMD_ADMIN__BIND", "127.0.0.1:0"),
            ("CLAIMD_BOOTSTRAP__ADMIN_EMAIL", ADMIN),
            ("CLAIMD_BOOTSTRAP__ADMIN_PASSWORD", ADMIN_PASSWORD),
            ("CLAIMD_LOG__LEVEL", "warn"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec();
        env.extend(stores.settings().into_iter().filter(|(key, _)| !own.iter().any(|store| key.starts_with(store))));
        env.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        Self {
            child: None,
            folder,
            env,
            stores,
            mqtt: String::new(),
            ws: String::new(),
            coap: String::new(),
            http: String::new(),
            admin: String::new(),
        }
    }

    /// Another command of claimd on the same folder, with the same settings.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_claimd"));
        command.args(arguments).arg("--data-dir").arg(self.data_dir());
        command.env_clear().envs(self.env.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Another setting, from the next start on.
    pub fn set(&mut self, key: &str, value: &str) {
        self.env.retain(|(known, _)| known != key);
        self.env.push((key.to_owned(), value.to_owned()));
    }

    /// From now on it starts on the addresses that it has.
    pub fn stay(&mut self) {
        let ws = self.ws.trim_end_matches("/mqtt");
        let (mqtt, coap, http, admin) = (&self.mqtt, &self.coap, &self.http, &self.admin);
        for (key, address) in [
            ("MQTT__BIND", &**mqtt),
            ("MQTT__WS_BIND", ws),
            ("COAP__BIND", coap),
            ("HTTP__BIND", http),
            ("ADMIN__BIND", admin),
        ] {
            self.env.push((format!("CLAIMD_{key}"), address.to_owned()));
        }
    }

    pub fn data_dir(&self) -> PathBuf {
        data_dir(&self.folder)
    }

    /// What `serve --ready-file` has written.
    pub fn ready_file(&self) -> PathBuf {
        self.folder.path().join("ready.json")
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running server").id()
    }

    /// Where the server's log lines go; for tests about what must not be in them.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Starts the process on the same folder; the addresses are new.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let ready = self.ready_file();
        let _ = std::fs::remove_file(&ready);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("log"));
        let child = Command::new(env!("CARGO_BIN_EXE_claimd"))
            .arg("serve")
            .arg("--data-dir")
            .arg(self.data_dir())
            .arg("--ready-file")
            .arg(&ready)
            .env_clear()
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log file"))
            .spawn()
            .expect("claimd starts");
        self.child = Some(child);
        let addresses = self.await_ready(&ready);
        let address =
            |name: &str| addresses[name].as_str().unwrap_or_else(|| panic!("no `{name}` in {addresses}")).to_owned();
        self.mqtt = address("mqtt");
        self.ws = address("mqtt_ws");
        self.coap = address("coap");
        self.http = address("http");
        self.admin = address("admin");
    }

    fn await_ready(&mut self, ready: &Path) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(text) = std::fs::read_to_string(ready) {
                return serde_json::from_str(&text).expect("the ready file is one JSON object");
            }
            let ended = self.child.as_mut().expect("a child").try_wait().expect("a status");
            assert!(ended.is_none(), "claimd ended at start: {ended:?}\n{}", self.log());
            assert!(Instant::now() < deadline, "claimd is not ready in time\n{}", self.log());
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// As the kernel does it: no warning, no clean-up.
    pub fn kill_dash_nine(&mut self) {
        let mut child = self.child.take().expect("a running server");
        child.kill().expect("SIGKILL");
        child.wait().expect("an end");
    }

    /// After somebody else has killed it.
    pub fn reap(&mut self) {
        self.child.take().expect("a server").wait().expect("an end");
    }

    /// SIGTERM, then waits for the end; the exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.ask_to_stop();
        self.stopped()
    }

    /// SIGTERM; it goes on until it has drained.
    pub fn ask_to_stop(&self) {
        let sent = Command::new("kill").arg("-TERM").arg(self.pid().to_string()).status().expect("kill");
        assert!(sent.success());
    }

    /// Waits for the end that was asked for; the exit code.
    pub fn stopped(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("a running server");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("a status") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "claimd does not stop\n{}", self.log());
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// The value of a metric line that starts with `line`, 0 if there is none.
    pub fn metric(&self, line: &str) -> f64 {
        let text = ureq::get(format!("http://{}/metrics", self.admin))
            .call()
            .expect("metrics")
            .body_mut()
            .read_to_string()
            .expect("text");
        text.lines().filter(|l| l.starts_with(line)).filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- server log ---\n{}", self.log());
            return;
        }
        self.keeps_secrets();
    }
}

impl Server {
    /// After every test, whatever it was about: no password and no API key is in the log, in a file of the server, or in a
    /// backup of its store.
    fn keeps_secrets(&self) {
        const MARKS: [&str; 3] = [ADMIN_PASSWORD, "the password of", "clk_"];
        let log = self.log();
        for mark in MARKS {
            assert!(!log.contains(mark), "`{mark}` is in the log:\n{log}");
        }
        if self.data_dir().join("lock").is_file() {
            self.nothing_stored_has(&MARKS.map(str::as_bytes));
            self.backup_has_none(&MARKS.map(str::as_bytes));
        }
    }

    /// Looks for secrets, in any letter case, in every file of the data folder and in the shared stores.
    pub fn nothing_stored_has(&self, marks: &[&[u8]]) {
        no_file_has(&self.data_dir(), marks);
        let contents = self.stores.contents().to_ascii_lowercase();
        for mark in marks {
            let mark = mark.to_ascii_lowercase();
            // The registry shows bytes as hexadecimal.
            for mark in [hex(&mark).into_bytes(), mark] {
                let found = contents.windows(mark.len()).any(|window| window == mark);
                assert!(!found, "a secret is in the shared stores: `{}`", String::from_utf8_lossy(&mark));
            }
        }
    }

    /// Looks for secrets in a backup of the store as it is now, if it can be backed up: some tests take it apart.
    pub fn backup_has_none(&self, marks: &[&[u8]]) -> bool {
        let to = self.folder.path().join(format!("backup-{}", uuid::Uuid::new_v4()));
        let output = run(self.command(&["backup"]).arg("--to").arg(&to), "");
        if !to.exists() {
            assert!(said(&output).contains("registry"), "{}", said(&output));
            return false;
        }
        backup::has_none(&to, marks);
        true
    }
}

/// How the settings of the two stores begin.
const STORES: [&str; 2] = ["CLAIMD_REGISTRY__", "CLAIMD_CLAIM_CACHE__"];

fn data_dir(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("data")
}
