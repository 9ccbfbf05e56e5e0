//! A PostgreSQL server of the tests' own: Debian's binaries, a temporary folder, a Unix socket and no port. One for the test
//! binary, a fresh database for each rule.
//!
//! The server is a child of a shell that waits for the end of its standard input: however the tests end, the shell then ends
//! the server and removes the folder.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use claim::{MasterKey, Secret};
use registry::{OpenError, PostgresConfig, PostgresRegistry};
use tokio_postgres::{Client, NoTls};

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
echo "$folder"
read -r _ || true
kill -INT "$server"
wait "$server" || true
# A hundred databases take their time; nobody waits for that.
exec > /dev/null 2>&1
rm -rf "$folder"
"#;

pub(crate) struct Server {
    folder: String,
    databases: AtomicU32,
    _shell: Child,
}

/// The one server of this test binary.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

impl Server {
    /// A server of its own, for what looks at all of a server's transactions.
    pub(crate) fn start() -> Self {
        let root = std::process::Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
        let mut shell = if root { Command::new("runuser") } else { Command::new("sh") };
        if root {
            shell.args(["-u", "postgres", "--", "sh"]);
        }
        shell.args(["-c", SCRIPT]).current_dir("/").env("TZ", "UTC");
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
        let mut folder = String::new();
        let output = shell.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut folder).expect("a line");
        let folder = folder.trim_end().to_owned();
        assert!(!folder.is_empty(), "initdb failed; is postgresql-15 installed (`cargo xtask setup`)?");
        Self { folder, databases: AtomicU32::new(0), _shell: shell }
    }

    fn url(&self, database: &str) -> String {
        format!("host={} user=claimd dbname={database}", self.folder)
    }

    /// A client without anything of ours in between.
    pub(crate) async fn client(&self, database: &str) -> Client {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match tokio_postgres::connect(&self.url(database), NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return client;
                }
                Err(error) => assert!(Instant::now() < deadline, "no server: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The name of a new, empty database.
    pub(crate) async fn database(&self) -> String {
        let name = format!("rule{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let sql = format!("CREATE DATABASE {name} STRATEGY file_copy");
        self.client("postgres").await.batch_execute(&sql).await.expect("a database");
        name
    }

    pub(crate) async fn open_under(
        &self,
        database: &str,
        newest: u8,
        before: Option<u8>,
    ) -> Result<Arc<PostgresRegistry>, OpenError> {
        self.open_with(database, newest, before, Duration::from_secs(30)).await
    }

    pub(crate) async fn open_with(
        &self,
        database: &str,
        newest: u8,
        before: Option<u8>,
        patience: Duration,
    ) -> Result<Arc<PostgresRegistry>, OpenError> {
        let config = PostgresConfig::new(Secret::new(self.url(database)));
        let before = before.map(master);
        PostgresRegistry::open(&config, &master(newest), before.as_ref(), patience).await
    }

    /// A registry that waits no longer than `patience`.
    pub(crate) async fn open_for(&self, database: &str, patience: Duration) -> Arc<PostgresRegistry> {
        let config = PostgresConfig::new(Secret::new(self.url(database)));
        PostgresRegistry::open(&config, &master(1), None, patience).await.expect("a registry")
    }

    /// A registry on a database.
    pub(crate) async fn open(&self, database: &str) -> Arc<PostgresRegistry> {
        self.open_under(database, 1, None).await.expect("a registry")
    }

    /// An empty registry, for a battery that makes one for each rule. From a runtime with more than one thread.
    pub(crate) fn fresh(&self) -> Arc<PostgresRegistry> {
        let make = async { self.open(&self.database().await).await };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(make))
    }
}

fn master(byte: u8) -> MasterKey {
    MasterKey::from_bytes(&[byte; 32])
}
