//! A Redis server of a test's own: from Debian's package, on a socket in a temporary folder, ended with the test. Another
//! program of that kind, such as Valkey's, may be named by the variable `REDIS_SERVER`.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::wait::eventually;

/// See the module's head. Panics when it cannot do what is asked.
pub struct RedisServer {
    folder: tempfile::TempDir,
    options: Vec<(String, String)>,
    child: Option<Child>,
    /// Ends it when this process has ended.
    heir: Option<Child>,
}

impl RedisServer {
    /// Keeps nothing on disk, never evicts.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With settings of `redis.conf`, such as `("maxmemory-policy", "allkeys-lru")`.
    pub fn with(options: &[(&str, &str)]) -> Self {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut server =
            Self { folder: tempfile::tempdir().expect("a temporary folder"), options, child: None, heir: None };
        server.start_again();
        server
    }

    /// Ended with this process, however that ends: for a server that nobody drops, such as one in a `static`.
    /// To be started again it is not.
    pub fn for_the_process(mut self) -> Self {
        let id = self.child.as_ref().expect("a server").id().to_string();
        // Its standard input ends with this process.
        let script = r#"read -r _; kill -KILL "$0"; rm -rf "$1""#;
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script, &id]).arg(self.folder.path());
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.heir = Some(shell.spawn().expect("a shell"));
        self
    }

    /// Where it listens, as claimd is told.
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// A file in its folder, such as `dump.rdb`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts it on the same socket, with what it saved.
    pub fn start_again(&mut self) {
        let socket = self.socket();
        // A killed one leaves it behind.
        let _ = std::fs::remove_file(&socket);
        let program = std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "/usr/bin/redis-server".into());
        let mut command = Command::new(program);
        command.args(["--port", "0", "--save", "", "--daemonize", "no", "--loglevel", "warning"]);
        command.arg("--unixsocket").arg(&socket).arg("--dir").arg(self.folder.path());
        for (name, value) in &self.options {
            command.arg(format!("--{name}")).args(value.split(' '));
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn();
        self.child = Some(child.expect("redis-server: `cargo xtask setup` installs it"));
        eventually("redis-server answers", || self.answers().then_some(()));
    }

    /// Ends it at once, saving nothing.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("reaped");
        }
    }

    /// Sends one command and returns what came back, as text; for looking and for harm.
    pub fn say(&self, words: &[&str]) -> String {
        let mut stream = UnixStream::connect(self.socket()).expect("a connection");
        stream.write_all(&encoded(words)).expect("sent");
        stream.write_all(&encoded(&["QUIT"])).expect("sent");
        let mut said = Vec::new();
        stream.read_to_end(&mut said).expect("an answer");
        let said = said.strip_suffix(b"+OK\r\n").unwrap_or(&said);
        String::from_utf8_lossy(said).into_owned()
    }

    /// Stops and continues the process: it answers nothing in between.
    pub fn frozen(&self, frozen: bool) {
        let id = self.child.as_ref().expect("a server").id().to_string();
        let signal = if frozen { "-STOP" } else { "-CONT" };
        assert!(Command::new("/bin/kill").args([signal, &id]).status().expect("kill").success());
    }

    /// The socket on which it listens.
    pub fn socket(&self) -> PathBuf {
        self.file("redis.sock")
    }

    fn answers(&self) -> bool {
        let asked = UnixStream::connect(self.socket()).and_then(|mut stream| {
            stream.write_all(&encoded(&["PING"]))?;
            let mut said = [0; 1];
            // An error too is an answer: it may ask for a password.
            stream.read_exact(&mut said)
        });
        asked.is_ok()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn encoded(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}
