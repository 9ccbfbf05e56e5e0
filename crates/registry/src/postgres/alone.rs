//! A connection by itself, for commands that take their time.

use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::config::TargetSessionAttrs;

use super::db::Fault;
use super::{CHECK, PostgresConfig, Server, tls};
use crate::sqlite::OpenError;

/// The database's name in messages.
pub(crate) fn place(config: &PostgresConfig, patience: Duration) -> String {
    let place = Server::of(config, patience).map_or_else(|error| error.path, |server| server.place());
    place.display().to_string()
}

/// To any server of the address, and without bounds on statements. It is driven by the runtime that made it.
pub(crate) async fn connect(config: &PostgresConfig, patience: Duration) -> Result<Client, OpenError> {
    let mut server = Server::of(config, patience)?;
    server.config.target_session_attrs(TargetSessionAttrs::Any);
    let error = |what: String| OpenError { path: server.place(), what, next: CHECK };
    let connected = tokio::time::timeout(patience, server.config.connect(server.tls.clone())).await;
    let (client, connection) = connected
        .map_err(|_| error("does not answer".to_owned()))?
        .map_err(|fault| error(format!("cannot be reached: {}", Fault::from(fault))))?;
    tokio::spawn(connection);
    Ok(client)
}

impl PostgresConfig {
    /// Whether the address has a password in it, and is not to be shown.
    pub fn has_password(&self) -> bool {
        let url = tls::Mode::of(self.url.expose(), !self.tls_ca_file.is_empty()).map(|(_, url)| url);
        let server = url.ok().and_then(|url| tokio_postgres::Config::from_str(&url).ok());
        // What cannot be read may have one.
        server.is_none_or(|server| server.get_password().is_some())
    }
}
