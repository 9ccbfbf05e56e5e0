//! Where the database is, and what may be used of it.

use std::time::Duration;

use claim::Secret;

/// Where devices and owners are kept, for nodes that share one PostgreSQL database.
#[derive(Debug)]
pub struct PostgresConfig {
    /// `postgresql://user@host:5432/database`, or `host=… dbname=…`; the password may be in it.
    pub url: Secret<String>,
    /// Whose certificates are believed, a PEM file; empty: nobody's is looked at.
    pub tls_ca_file: String,
    /// The certificate this shows to the server, with its chain, a PEM file; empty: none.
    pub tls_certificate_file: String,
    /// Its key, a PEM file.
    pub tls_key_file: String,
    /// Connections at the most. Commits queue behind one flush of the server's log, so a few at a time waste it.
    pub connections: usize,
    /// Devices and credentials in the look-up cache.
    pub lookup_entries: u64,
    /// Longest life of an entry there; a change ends it at once, on whatever node.
    pub lookup_age: Duration,
}

impl PostgresConfig {
    /// The defaults for a database.
    pub fn new(url: Secret<String>) -> Self {
        Self {
            url,
            tls_ca_file: String::new(),
            tls_certificate_file: String::new(),
            tls_key_file: String::new(),
            connections: 16,
            lookup_entries: 1_000_000,
            lookup_age: Duration::from_secs(10),
        }
    }
}
