//! HAProxy from Debian's package, with the configuration that `docs/clustering.md` offers, before some nodes.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use super::server::eventually;
use super::tools::{program, root};
use super::{Server, host_port};

/// Takes its listening sockets from us, so that its ports are free ones and known. They come as the three standard ones and
/// move out of the way.
const SCRIPT: &str = r#"exec "$1" -db -f "$2" 3<&0 4<&1 5<&2 < /dev/null > "$3" 2>&1"#;

/// A running balancer; ends with the test.
pub struct HaProxy {
    child: Child,
    folder: tempfile::TempDir,
    pub mqtt: String,
    pub ws: String,
    pub http: String,
}

impl HaProxy {
    /// Before two or three nodes, or before one that stands for two. They see it come from `source`.
    pub fn before(nodes: &[&Server], source: Ipv4Addr) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let fronts = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let [mqtt, ws, http] = fronts.each_ref().map(|front| front.local_addr().expect("an address").to_string());
        let mut haproxy = Command::new("sh");
        haproxy
            .args(["-c", SCRIPT, "sh"])
            .arg(program("haproxy").get_program())
            .arg(root().join("examples/deploy/haproxy/haproxy.cfg"));
        haproxy.arg(folder.path().join("log")).env("CLAIMD_LB_SOURCE", source.to_string());
        haproxy.env("CLAIMD_LB_MAXCONN", "2000");
        for (number, node) in nodes.iter().chain(nodes.first().filter(|_| nodes.len() == 1)).enumerate() {
            let name = |what: &str| format!("CLAIMD_{}_{what}", number + 1);
            let ws = node.ws.trim_end_matches("/mqtt");
            haproxy.env(name("HOST"), host_port(&node.mqtt).0);
            for (what, address) in
                [("MQTT_PORT", &*node.mqtt), ("WS_PORT", ws), ("HTTP_PORT", &node.http), ("ADMIN_PORT", &node.admin)]
            {
                haproxy.env(name(what), host_port(address).1.to_string());
            }
        }
        for (what, descriptor) in [("MQTT", 3), ("WS", 4), ("HTTP", 5)] {
            haproxy.env(format!("CLAIMD_BIND_{what}"), format!("fd@{descriptor}"));
        }
        let [stdin, stdout, stderr] = fronts.map(|front| Stdio::from(OwnedFd::from(front)));
        let child = haproxy.stdin(stdin).stdout(stdout).stderr(stderr).spawn().expect("a shell");
        Self { child, folder, mqtt, ws, http }
    }

    /// What it has logged: servers that went and came back.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until it has said so many times that node `number`, from 1, is in this state for MQTT, WebSocket and HTTP.
    pub fn says(&self, number: usize, state: &str, times: usize) {
        eventually(&format!("node {number} is {state} for the balancer"), || {
            let log = self.log();
            let said = |backend: &str| log.matches(&format!("Server {backend}/node{number} is {state}")).count();
            ["mqtt", "mqtt_ws", "http"].iter().all(|backend| said(backend) >= times).then_some(())
        });
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- haproxy log ---\n{}", self.log());
        }
    }
}
