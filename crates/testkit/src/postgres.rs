//! A PostgreSQL server of the tests' own: Debian's binaries, a temporary folder, a Unix socket and no port.
//!
//! The server is a child of a shell that waits for the end of its standard input: however the tests end, the shell then ends
//! the server and removes the folder.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// PostgreSQL refuses to run as root. Texts are sorted by ICU's English unless a column says otherwise, as on many servers.
const SCRIPT: &str = r#"
set -e
folder=$(mktemp -d)
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
"$bin/initdb" --pgdata "$folder/data" --username claimd --auth trust --encoding UTF8 --locale-provider icu --icu-locale en \
    --locale C.UTF-8 --no-sync > "$folder/log" 2>&1
"$bin/postgres" -D "$folder/data" -k "$folder" -c listen_addresses= -c max_connections=300 -c autovacuum=off \
    -c shared_buffers=64MB >> "$folder/log" 2>&1 < /dev/null &
server=$!
until "$bin/pg_isready" -q -h "$folder"; do sleep 0.05; kill -0 "$server"; done
echo "$folder $bin"
read -r _ || true
kill -INT "$server"
wait "$server" || true
# A hundred databases take their time; nobody waits for that.
exec > /dev/null 2>&1
rm -rf "$folder"
"#;

/// A running server; the user is `claimd`, without a password.
pub struct PostgresServer {
    folder: String,
    bin: String,
    databases: AtomicU32,
    _shell: Child,
}

impl PostgresServer {
    /// Starts one and waits until it takes connections.
    pub fn start() -> Self {
        let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
        let mut shell = if root { Command::new("runuser") } else { Command::new("sh") };
        if root {
            shell.args(["-u", "postgres", "--", "sh"]);
        }
        shell.args(["-c", SCRIPT]).current_dir("/").env("TZ", "UTC");
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
        let mut line = String::new();
        let output = shell.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let started = line.trim_end().split_once(' ');
        let (folder, bin) = started.expect("a server; is postgresql-15 installed (`cargo xtask setup`)?");
        Self { folder: folder.to_owned(), bin: bin.to_owned(), databases: AtomicU32::new(0), _shell: shell }
    }

    /// How to connect to a database.
    pub fn url(&self, database: &str) -> String {
        format!("host={} user=claimd dbname={database}", self.folder)
    }

    /// The name of a new, empty database.
    pub fn database(&self) -> String {
        let name = format!("rule{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let mut command = Command::new(format!("{}/createdb", self.bin));
            command.args([
                "-h",
                &self.folder,
                "-U",
                "claimd",
                "--maintenance-db",
                "postgres",
                "-S",
                "file_copy",
                &name,
            ]);
            let output = command.output().expect("createdb");
            if output.status.success() {
                return name;
            }
            // Two at once copy one template.
            assert!(Instant::now() < deadline, "{}", String::from_utf8_lossy(&output.stderr));
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}
