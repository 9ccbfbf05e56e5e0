//! One PostgreSQL server for the test binary, a fresh database for each rule.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use claim::{MasterKey, Secret};
use registry::{OpenError, PostgresConfig, PostgresRegistry};
use testkit::postgres::{PostgresServer, Stop};
use testkit::wait::until;
use tokio_postgres::{Client, NoTls};

pub(crate) struct Server(PostgresServer);

/// The one server of this test binary.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

impl Server {
    /// A server of its own, for what looks at all of a server's transactions.
    pub(crate) fn start() -> Self {
        Self(PostgresServer::start())
    }

    pub(crate) fn url(&self, database: &str) -> String {
        self.0.url(database)
    }

    pub(crate) fn stop(&self, how: Stop) {
        self.0.stop(how);
    }

    pub(crate) fn start_again(&self) {
        self.0.start_again();
    }

    /// A client without anything of ours in between.
    pub(crate) async fn client(&self, database: &str) -> Client {
        let made = until("a client", || async { tokio_postgres::connect(&self.url(database), NoTls).await.ok() });
        let (client, connection) = made.await;
        tokio::spawn(connection);
        client
    }

    /// The name of a new, empty database.
    pub(crate) async fn database(&self) -> String {
        tokio::task::block_in_place(|| self.0.database())
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
