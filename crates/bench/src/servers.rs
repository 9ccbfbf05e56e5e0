//! The servers measured: started in temporary folders on ports of the system's choice, pinned to one core, ended with the
//! value that stands for them.

use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The core of the server; load runs on the other.
const SERVER_CORE: &str = "0";
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server.
pub(crate) struct Server {
    child: Child,
    /// Gone with the server.
    _folder: tempfile::TempDir,
    /// `host:port`; of claimd, of what the benchmark is about.
    pub(crate) address: String,
    /// claimd's other addresses.
    pub(crate) all: Option<simulator::Addresses>,
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder() -> Result<tempfile::TempDir, String> {
    tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))
}

fn pinned(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", SERVER_CORE]).arg(program).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A port that is free now. Peers cannot take port 0 and tell; the gap is short and loopback is quiet.
fn free_port(udp: bool) -> Result<u16, String> {
    let address = if udp {
        UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr())
    } else {
        TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr())
    };
    address.map(|address| address.port()).map_err(|error| format!("no free port: {error}"))
}

fn start(mut command: Command, folder: tempfile::TempDir, address: String, tcp: bool) -> Result<Server, String> {
    let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    let mut server = Server { child, _folder: folder, address, all: None };
    let deadline = Instant::now() + PATIENCE;
    while tcp && TcpStream::connect(&server.address).is_err() {
        let ended = server.child.try_wait().ok().flatten();
        if ended.is_some() || Instant::now() > deadline {
            return Err(format!("{command:?} does not listen at {}: {ended:?}", server.address));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(server)
}

pub(crate) const ADMIN: &str = "admin@bench.example";
pub(crate) const PASSWORD: &str = "a password for a benchmark";

/// claimd as it ships, but for limits that a benchmark would meet.
pub(crate) fn claimd() -> Result<Server, String> {
    let folder = folder()?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?.with_file_name("claimd");
    let ready = folder.path().join("ready.json");
    let mut command = pinned(&program);
    command.arg("serve").arg("--data-dir").arg(folder.path().join("data")).arg("--ready-file").arg(&ready);
    for (name, value) in [
        ("MQTT__BIND", "127.0.0.1:0"),
        ("MQTT__WS_BIND", "127.0.0.1:0"),
        ("COAP__BIND", "127.0.0.1:0"),
        ("HTTP__BIND", "127.0.0.1:0"),
        ("ADMIN__BIND", "127.0.0.1:0"),
        ("BOOTSTRAP__ADMIN_EMAIL", ADMIN),
        ("BOOTSTRAP__ADMIN_PASSWORD", PASSWORD),
        ("LOG__LEVEL", "error"),
        ("LIMITS__SUBMIT_PER_DEVICE", "4000000000"),
        ("LIMITS__CONNECTIONS_PER_ADDRESS", "100000"),
        ("LIMITS__UNAUTHENTICATED_PER_ADDRESS", "8192"),
    ] {
        command.env(format!("CLAIMD_{name}"), value);
    }
    let mut server = start(command, folder, String::new(), false)?;
    let deadline = Instant::now() + PATIENCE;
    let ready: Value = loop {
        if let Ok(text) = fs::read_to_string(&ready) {
            break serde_json::from_str(&text).map_err(|error| error.to_string())?;
        }
        if Instant::now() > deadline {
            return Err("claimd does not come up".to_owned());
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let address = |name: &str| ready[name].as_str().unwrap_or_default().to_owned();
    server.all = Some(simulator::Addresses {
        mqtt: address("mqtt"),
        ws: address("mqtt_ws").trim_end_matches("/mqtt").to_owned(),
        coap: address("coap"),
        http: address("http"),
    });
    Ok(server)
}

/// Keeps nothing on disk; its address is a socket.
pub(crate) fn redis() -> Result<Server, String> {
    let folder = folder()?;
    let socket = folder.path().join("redis.sock");
    let address = socket.display().to_string();
    let mut command = pinned(Path::new("/usr/bin/redis-server"));
    command.args(["--port", "0", "--save", "", "--unixsocket", &address]).arg("--dir").arg(folder.path());
    let server = start(command, folder, address, false)?;
    let deadline = Instant::now() + PATIENCE;
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        if Instant::now() > deadline {
            return Err("redis-server does not come up".to_owned());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(server)
}

pub(crate) fn mosquitto() -> Result<Server, String> {
    let (folder, port) = (folder()?, free_port(false)?);
    let config = folder.path().join("mosquitto.conf");
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nlog_type none\nmax_inflight_messages 100\n"
    );
    fs::write(&config, text).map_err(|error| error.to_string())?;
    let mut command = pinned(Path::new("/usr/sbin/mosquitto"));
    command.arg("-c").arg(&config);
    start(command, folder, format!("127.0.0.1:{port}"), true)
}

pub(crate) fn libcoap() -> Result<Server, String> {
    let (folder, port) = (folder()?, free_port(true)?);
    let mut command = pinned(Path::new("/usr/bin/coap-server-notls"));
    command.args(["-A", "127.0.0.1", "-p", &port.to_string(), "-v", "0"]).current_dir(folder.path());
    let server = start(command, folder, format!("127.0.0.1:{port}"), false)?;
    // It has no way to say that it is there; a ping (RFC 7252 §4.3) is answered with RST.
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    socket.set_read_timeout(Some(Duration::from_millis(100))).map_err(|error| error.to_string())?;
    socket.connect(&server.address).map_err(|error| error.to_string())?;
    let deadline = Instant::now() + PATIENCE;
    let mut answer = [0; 16];
    loop {
        let _ = socket.send(&[0x40, 0, 0, 1]);
        if socket.recv(&mut answer).is_ok() {
            return Ok(server);
        }
        if Instant::now() > deadline {
            return Err("libcoap's server does not answer".to_owned());
        }
    }
}

pub(crate) fn nginx() -> Result<Server, String> {
    let (folder, port) = (folder()?, free_port(false)?);
    let root = folder.path().display();
    let text = format!(
        "daemon off; worker_processes 1; pid {root}/pid; error_log {root}/error.log crit; events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {root}/b; proxy_temp_path {root}/p;\n\
         fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s; tcp_nodelay on;\n\
         server {{ listen 127.0.0.1:{port}; location / {{ return 200; }} }} }}\n"
    );
    let config = folder.path().join("nginx.conf");
    fs::write(&config, text).map_err(|error| error.to_string())?;
    let mut command = pinned(Path::new("/usr/sbin/nginx"));
    // One process, so that its CPU time is all there is.
    command.arg("-c").arg(&config).arg("-p").arg(folder.path()).args(["-g", "master_process off;"]);
    start(command, folder, format!("127.0.0.1:{port}"), true)
}

/// This program as a floor: `tcp`, `udp` or `http`.
pub(crate) fn floor(kind: &str) -> Result<Server, String> {
    let udp = kind == "udp";
    let (folder, port) = (folder()?, free_port(udp)?);
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = pinned(&program);
    command.args(["floor", kind, &port.to_string()]).current_dir(folder.path());
    let server = start(command, folder, format!("127.0.0.1:{port}"), !udp)?;
    if udp {
        let socket = UdpSocket::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        socket.set_read_timeout(Some(Duration::from_millis(100))).map_err(|error| error.to_string())?;
        socket.connect(&server.address).map_err(|error| error.to_string())?;
        let deadline = Instant::now() + PATIENCE;
        while socket.send(b"?").is_err() || socket.recv(&mut [0; 8]).is_err() {
            if Instant::now() > deadline {
                return Err("the UDP floor does not answer".to_owned());
            }
        }
    }
    Ok(server)
}
