//! A PostgreSQL server of the tests' own: Debian's binaries, a temporary folder, a Unix socket, and where asked for a port of
//! its own on 127.0.0.1, with TLS or without.
//!
//! The server is a child of a shell that reads what to do with it: however the tests end, the shell then ends the server and
//! removes the folder.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::tls::{Authority, Identity};
use crate::wait::eventually;

/// PostgreSQL refuses to run as root. Texts are sorted by ICU's English unless a column says otherwise, as on many servers.
const SCRIPT: &str = r#"
set -e
umask 077
folder=$(mktemp -d)
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
"$bin/initdb" --pgdata "$folder/data" --username claimd --auth trust --encoding UTF8 --locale-provider icu --icu-locale en \
    --locale C.UTF-8 --no-sync > "$folder/log" 2>&1
if test -n "${TLS_KEY:-}"; then
    echo "$TLS_CERTIFICATE" > "$folder/certificate.pem"
    echo "$TLS_KEY" > "$folder/key.pem"
    echo "$TLS_AUTHORITY" > "$folder/authority.pem"
    echo "$TLS_ACCESS" | cat - "$folder/data/pg_hba.conf" > "$folder/access" && mv "$folder/access" "$folder/data/pg_hba.conf"
    echo "ssl = on
ssl_cert_file = '$folder/certificate.pem'
ssl_key_file = '$folder/key.pem'
ssl_ca_file = '$folder/authority.pem'" >> "$folder/data/postgresql.conf"
fi
echo "$SETTINGS" >> "$folder/data/postgresql.conf"
start() {
    "$bin/postgres" -D "$folder/data" -k "$folder" -p "$PORT" -c listen_addresses="$LISTEN" -c max_connections=300 \
        -c autovacuum=off -c shared_buffers=64MB >> "$folder/log" 2>&1 < /dev/null &
    server=$!
    until "$bin/pg_isready" -q -h "$folder" -p "$PORT"; do
        sleep 0.05
        kill -0 "$server" 2> /dev/null || { cat "$folder/log" >&2; rm -rf "$folder"; exit 1; }
    done
}
start
echo "$folder $bin"
while read -r what; do
    if test "$what" = start; then start; else kill "-$what" "$server"; wait "$server" || true; fi
    echo done
done
kill -INT "$server" 2> /dev/null || true
wait "$server" || true
# A hundred databases take their time; nobody waits for that.
exec > /dev/null 2>&1
rm -rf "$folder"
"#;

/// A running server; the user is `claimd`, without a password.
pub struct PostgresServer {
    folder: String,
    bin: String,
    port: u16,
    databases: AtomicU32,
    shell: Mutex<(Child, BufReader<ChildStdout>)>,
}

/// Where a server listens beside its Unix socket.
pub enum Over<'a> {
    /// Nowhere.
    Socket,
    /// On a port, without TLS.
    Plain,
    /// On a port, with and without TLS.
    Tls(Tls<'a>),
}

/// How a server speaks TLS.
pub struct Tls<'a> {
    /// What it shows.
    pub identity: &'a Identity,
    /// Whose clients it believes.
    pub authority: &'a Authority,
    /// Whether who comes over TCP must come with TLS and a certificate of the authority's.
    pub demands_certificate: bool,
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug)]
pub enum Stop {
    /// Its clients are cut off, what is committed is on disk.
    Fast,
    /// As a crash does it: it recovers at its next start.
    Immediate,
}

impl PostgresServer {
    /// Starts one and waits until it takes connections.
    pub fn start() -> Self {
        Self::with(&[], &Over::Socket)
    }

    /// With settings of `postgresql.conf`.
    pub fn with(settings: &[(&str, &str)], over: &Over<'_>) -> Self {
        let settings: String = settings.iter().map(|(name, value)| format!("{name} = '{value}'\n")).collect();
        // It takes no port 0, so a port that was free a moment ago is asked for.
        let free = || TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let started = match over {
            Over::Socket => Self::try_start(&settings, 5432, over),
            Over::Plain | Over::Tls(_) => (0..5).find_map(|_| Self::try_start(&settings, free(), over)),
        };
        started.expect("a server; is postgresql-15 installed (`cargo xtask setup`)?")
    }

    fn try_start(settings: &str, port: u16, over: &Over<'_>) -> Option<Self> {
        let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
        let mut shell = if root { Command::new("runuser") } else { Command::new("sh") };
        if root {
            shell.args(["-u", "postgres", "--", "sh"]);
        }
        shell.args(["-c", SCRIPT]).current_dir("/").env("TZ", "UTC");
        shell.env("SETTINGS", settings).env("PORT", port.to_string());
        let text = |path| std::fs::read_to_string(path).expect("a PEM file");
        shell.env("LISTEN", if matches!(over, Over::Socket) { "" } else { "127.0.0.1" });
        if let Over::Tls(Tls { identity, authority, demands_certificate }) = over {
            let access = match demands_certificate {
                true => "hostssl all all 127.0.0.1/32 trust clientcert=verify-ca\nhost all all all reject",
                false => "host all all 127.0.0.1/32 trust",
            };
            shell.env("TLS_ACCESS", access).env("TLS_KEY", text(&identity.key));
            shell
                .env("TLS_CERTIFICATE", text(&identity.certificate))
                .env("TLS_AUTHORITY", text(&authority.certificate()));
        }
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
        let mut output = BufReader::new(shell.stdout.take().expect("its output"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a line");
        let Some((folder, bin)) = line.trim_end().split_once(' ') else {
            shell.wait().expect("an end");
            return None;
        };
        let (folder, bin) = (folder.to_owned(), bin.to_owned());
        Some(Self { folder, bin, port, databases: AtomicU32::new(0), shell: Mutex::new((shell, output)) })
    }

    /// The socket on which it listens.
    pub fn socket(&self) -> PathBuf {
        PathBuf::from(&self.folder).join(format!(".s.PGSQL.{}", self.port))
    }

    /// How to connect to a database, over the Unix socket.
    pub fn url(&self, database: &str) -> String {
        format!("host={} port={} user=claimd dbname={database}", self.folder, self.port)
    }

    /// The port on 127.0.0.1 of a server that has one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        let file = std::fs::read_to_string(format!("{}/data/postmaster.pid", self.folder));
        file.ok().and_then(|text| text.lines().next()?.parse().ok()).expect("a running server's pid file")
    }

    /// Where its program files are.
    pub fn bin(&self) -> &str {
        &self.bin
    }

    /// Stops it; what is asked of it until [`PostgresServer::start_again`] fails.
    pub fn stop(&self, how: Stop) {
        self.ask(match how {
            Stop::Fast => "INT",
            Stop::Immediate => "QUIT",
        });
    }

    /// Starts it after a stop, on the same data and addresses.
    pub fn start_again(&self) {
        self.ask("start");
    }

    fn ask(&self, what: &str) {
        let mut shell = self.shell.lock().expect("no panic before");
        let (shell, output) = &mut *shell;
        writeln!(shell.stdin.as_mut().expect("its input"), "{what}").expect("asked");
        let mut line = String::new();
        output.read_line(&mut line).expect("a line");
        assert_eq!(line, "done\n", "{what}");
    }

    /// The name of a new, empty database.
    pub fn database(&self) -> String {
        self.copy("template1")
    }

    /// The name of a new database with what is in `template`, to which nobody may be connected.
    pub fn copy(&self, template: &str) -> String {
        let name = format!("rule{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.copy_to(template, &name);
        name
    }

    /// The same, under a name that is free.
    pub fn copy_to(&self, template: &str, name: &str) {
        // Two at once copy one template.
        eventually("a database is made", || {
            let mut command = self.program("createdb");
            command.args(["--maintenance-db", "postgres", "-S", "wal_log", "-T", template, name]);
            command.output().expect("createdb").status.success().then_some(())
        });
    }

    /// Makes a database new and empty again, which is much less work than removing it and making another; whoever is connected
    /// is not any more.
    pub fn empty(&self, name: &str) {
        let others = "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()";
        self.say(
            name,
            &format!("SET client_min_messages = warning; {others}; DROP SCHEMA public CASCADE; CREATE SCHEMA public"),
        );
    }

    /// Removes a database; whoever is connected is not any more.
    pub fn drop_database(&self, name: &str) {
        let output = self.program("dropdb").args(["--force", "--maintenance-db", "postgres", name]).output();
        let output = output.expect("dropdb");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs SQL in a database, for looking and for harm: a line a row, with `|` between its values.
    pub fn say(&self, database: &str, sql: &str) -> String {
        let mut command = self.program("psql");
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql]);
        let output = command.output().expect("psql");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(format!("{}/{name}", self.bin));
        command.args(["-h", &self.folder, "-p", &self.port.to_string(), "-U", "claimd"]);
        command
    }
}
