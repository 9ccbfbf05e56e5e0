//! One PostgreSQL server for the test binary, a fresh database for each install.

use std::sync::OnceLock;

use testkit::postgres::PostgresServer;

/// The server.
pub fn server() -> &'static PostgresServer {
    static SERVER: OnceLock<PostgresServer> = OnceLock::new();
    SERVER.get_or_init(PostgresServer::start)
}

/// The settings of an install on a database of its own.
pub fn settings() -> [(&'static str, String); 2] {
    let url = server().url(&server().database());
    [("CLAIMD_REGISTRY__BACKEND", "postgres".to_owned()), ("CLAIMD_REGISTRY__URL", url)]
}
