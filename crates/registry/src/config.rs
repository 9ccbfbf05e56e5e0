//! The `[registry]` section of the configuration.

use std::time::Duration;

use claim::Secret;
use serde::{Deserialize, Serialize};

use crate::postgres::PostgresConfig;

/// Where devices and owners are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `sqlite`: one file, one process; `postgres`: a database that nodes share.
    pub backend: Backend,
    /// The database file, absolute or below the data folder; with `sqlite`.
    pub path: String,
    /// `postgresql://user@host:5432/database`, or `host=… dbname=…`; the password may be in it; with `postgres`.
    /// `sslmode` in it says how much TLS there is, as in libpq (`postgres/tls.rs`).
    pub url: String,
    /// Whose certificates are believed, a PEM file; empty: nobody's is looked at; with `postgres`.
    pub tls_ca_file: String,
    /// The certificate this shows to the server, with its chain, a PEM file; empty: none; with `postgres`.
    pub tls_certificate_file: String,
    /// Its key, a PEM file of mode 0600; with `postgres`.
    pub tls_key_file: String,
    /// Connections at the most; with `postgres`.
    pub connections: usize,
    /// Changes that may wait for the writer; more are refused as unavailable; with `sqlite`, as the two below.
    pub queue: usize,
    /// Changes committed together at the most.
    pub group: usize,
    /// Reading connections.
    pub readers: usize,
    /// Devices and credentials in the look-up cache.
    pub lookup_entries: u64,
    /// Longest life of an entry there; a change ends it at once, on whatever node. At most 10 s.
    #[serde(with = "humantime_serde")]
    pub lookup_age: Duration,
}

/// What keeps the registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// An SQLite file.
    #[default]
    Sqlite,
    /// A PostgreSQL database.
    Postgres,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            backend: Backend::Sqlite,
            path: "registry.db".to_owned(),
            url: String::new(),
            tls_ca_file: String::new(),
            tls_certificate_file: String::new(),
            tls_key_file: String::new(),
            connections: 16,
            queue: 65_536,
            group: 1_024,
            readers: 4,
            lookup_entries: 1_000_000,
            lookup_age: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// What of it is for PostgreSQL.
    pub fn postgres(&self) -> PostgresConfig {
        PostgresConfig {
            url: Secret::new(self.url.clone()),
            tls_ca_file: self.tls_ca_file.clone(),
            tls_certificate_file: self.tls_certificate_file.clone(),
            tls_key_file: self.tls_key_file.clone(),
            connections: self.connections,
            lookup_entries: self.lookup_entries,
            lookup_age: self.lookup_age,
        }
    }
}
