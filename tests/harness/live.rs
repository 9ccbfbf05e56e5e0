//! The live feed as a program reads it: bytes of HTTP/1.1, and `claimd watch` as a process of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use super::server::{PATIENCE, eventually};
use super::{Client, Server, World};

/// An open stream of server-sent events.
pub struct LiveView {
    pub status: u16,
    pub head: String,
    stream: BufReader<TcpStream>,
}

impl LiveView {
    /// Opened by somebody who has signed in, with a query such as `?device=pump-7`.
    pub fn open(server: &Server, client: &Client, query: &str) -> Self {
        let mut stream = TcpStream::connect(&server.http).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let bearer = client.bearer.as_deref().unwrap_or_default();
        let target =
            format!("GET /api/claimd/v1/watch{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\r\n\r\n");
        stream.write_all(target.as_bytes()).expect("sent");
        let mut view = Self { status: 0, head: String::new(), stream: BufReader::new(stream) };
        while !view.head.ends_with("\r\n\r\n") {
            let line = view.line().expect("a head");
            view.head += &line;
        }
        view.status = view.head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        view
    }

    /// The next line, with its end; `None` at the end of the stream.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).expect("a line in time");
        (read > 0).then_some(line)
    }

    /// Reads until a line starts so.
    pub fn until(&mut self, start: &str) -> String {
        loop {
            let line = self.line().unwrap_or_else(|| panic!("the stream ended before `{start}`"));
            if line.starts_with(start) {
                return line;
            }
        }
    }

    /// Reads to the end that the server makes.
    pub fn rest(mut self) -> String {
        let mut rest = String::new();
        self.stream.read_to_string(&mut rest).expect("an end in time");
        rest
    }
}

/// An API key of somebody who has signed in, as a file for `CLAIMD_CLIENT__API_KEY_FILE`, and its id.
pub fn key_file(client: &Client) -> (tempfile::NamedTempFile, String) {
    let made = client.post("/api/claimd/v1/api-keys", &json!({"name": "test"})).ok();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), made["key"].as_str().expect("a key")).expect("written");
    (file, made["id"].as_str().expect("an id").to_owned())
}

/// A running `claimd watch`.
pub struct Watching {
    pub child: Child,
    lines: Receiver<String>,
    talk: Receiver<String>,
    _key: tempfile::NamedTempFile,
}

impl Watching {
    /// Started by the maker, and seeing everything from now on.
    pub fn start(server: &Server, world: &World, arguments: &[&str]) -> Self {
        let (key, _) = key_file(&world.maker);
        let mut child = Command::new(env!("CARGO_BIN_EXE_claimd"))
            .env_clear()
            .env("CLAIMD_CLIENT__URL", format!("http://{}", server.http))
            .env("CLAIMD_CLIENT__API_KEY_FILE", key.path())
            .arg("watch")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("claimd starts");
        let lines = heard(child.stdout.take().expect("stdout"));
        let talk = heard(child.stderr.take().expect("stderr"));
        let watching = Self { child, lines, talk, _key: key };
        watching.talks("watching");
        watching
    }

    /// The next line on standard output.
    pub fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line in time")
    }

    pub fn json(&self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"))
    }

    /// Waits for a line on standard error with this text.
    pub fn talks(&self, text: &str) -> String {
        loop {
            let line = self.talk.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no `{text}` on stderr"));
            if line.contains(text) {
                return line;
            }
        }
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(name).arg(self.child.id().to_string()).status().expect("kill");
        assert!(sent.success());
    }

    /// The exit code, and what was printed and not yet read.
    pub fn end(mut self) -> (Option<i32>, Vec<String>) {
        let status = eventually("`claimd watch` ends", || self.child.try_wait().expect("a status"));
        (status.code(), self.lines.iter().collect())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn heard(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        BufReader::new(from).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    receiver
}
