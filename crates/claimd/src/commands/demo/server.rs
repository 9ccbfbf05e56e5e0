//! The demo's own server: this program as a child, on free loopback ports, in a folder that goes with it.

use std::fs::File;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;
use simulator::Addresses;
use tokio::process::{Child, Command};

/// How long a start or a stop may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends with this value; the folder goes too.
pub(super) struct Server {
    child: Child,
    folder: tempfile::TempDir,
    env: Vec<(&'static str, String)>,
    pub(super) addresses: Addresses,
    pub(super) admin: String,
}

/// What `serve --ready-file` writes.
#[derive(Deserialize)]
struct Ready {
    mqtt: String,
    mqtt_ws: String,
    coap: String,
    http: String,
    admin: String,
}

impl Server {
    /// Starts one with these settings beside free ports.
    pub(super) async fn start(settings: &[(&'static str, String)]) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("claimd-demo-").tempdir();
        let folder = folder.map_err(|error| format!("no temporary folder: {error}"))?;
        let free = "127.0.0.1:0".to_owned();
        let mut env = vec![
            ("CLAIMD_MQTT__BIND", free.clone()),
            ("CLAIMD_MQTT__WS_BIND", free.clone()),
            ("CLAIMD_COAP__BIND", free.clone()),
            ("CLAIMD_HTTP__BIND", free.clone()),
            ("CLAIMD_ADMIN__BIND", free),
            ("CLAIMD_LOG__LEVEL", "warn".to_owned()),
        ];
        env.extend_from_slice(settings);
        let (child, ready) = launch(&folder, &env).await?;
        let (addresses, admin) = ready.split();
        Ok(Self { child, folder, env, addresses, admin })
    }

    /// Ends it as the kernel does when memory is short: at once.
    pub(super) async fn kill_dash_nine(&mut self) -> Result<(), String> {
        self.child.kill().await.map_err(|error| format!("the server cannot be killed: {error}"))
    }

    /// Starts it again on the same folder; the addresses are new.
    pub(super) async fn restart(&mut self) -> Result<(), String> {
        let (child, ready) = launch(&self.folder, &self.env).await?;
        self.child = child;
        (self.addresses, self.admin) = ready.split();
        Ok(())
    }

    /// Asks it to stop in order.
    pub(super) async fn stop(&mut self) -> Result<ExitStatus, String> {
        let pid = self.child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        let pid = pid.ok_or("the server has ended by itself")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .map_err(|error| format!("the server cannot be signalled: {error}"))?;
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(ended) => ended.map_err(|error| format!("the server's end cannot be seen: {error}")),
            Err(_) => Err(format!("the server did not stop within {} s", PATIENCE.as_secs())),
        }
    }
}

impl Ready {
    fn split(self) -> (Addresses, String) {
        let ws = self.mqtt_ws.trim_end_matches("/mqtt").to_owned();
        (Addresses { mqtt: self.mqtt, ws, coap: self.coap, http: self.http }, self.admin)
    }
}

async fn launch(folder: &tempfile::TempDir, env: &[(&'static str, String)]) -> Result<(Child, Ready), String> {
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    let ready_file = path("ready.json");
    let _ = std::fs::remove_file(&ready_file);
    let program = std::env::current_exe().map_err(|error| format!("this program cannot be found: {error}"))?;
    let log = File::options().create(true).append(true).open(path("log"));
    let log = log.map_err(|error| format!("no log file: {error}"))?;
    let mut child = Command::new(program)
        .arg("serve")
        .arg("--data-dir")
        .arg(path("data"))
        .arg("--ready-file")
        .arg(&ready_file)
        .env_clear()
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        // Ctrl-C is for the demo, which then ends its server.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("the server cannot be started: {error}"))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(text) = std::fs::read_to_string(&ready_file) {
            let ready = serde_json::from_str(&text).map_err(|error| format!("the ready file is odd: {error}"))?;
            return Ok((child, ready));
        }
        if child.try_wait().ok().flatten().is_some() || Instant::now() > deadline {
            let said = std::fs::read_to_string(path("log")).unwrap_or_default();
            return Err(format!("the server did not come up:\n{said}"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
