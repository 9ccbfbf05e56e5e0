//! TLS to the database: what is encrypted, and who is refused.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use claim::{MasterKey, Secret};
use registry::{OpenError, PostgresConfig, PostgresRegistry};
use testkit::postgres::{Over, PostgresServer, Tls};
use testkit::tls::{Authority, Identity};
use testkit::wait::until;
use tokio_postgres::NoTls;

async fn open(config: &PostgresConfig) -> Result<Arc<PostgresRegistry>, OpenError> {
    PostgresRegistry::open(config, &MasterKey::from_bytes(&[1; 32]), None, Duration::from_secs(30)).await
}

/// A registry of the server under `host`, with this `sslmode` in its address and this CA file.
fn config(server: &PostgresServer, host: &str, mode: &str, ca: Option<&Authority>) -> PostgresConfig {
    let (port, database) = (server.port(), server.database());
    let url = format!("postgresql://claimd:hunter2@{host}:{port}/{database}{mode}");
    let tls_ca_file = ca.map(|ca| ca.certificate().display().to_string()).unwrap_or_default();
    PostgresConfig { tls_ca_file, ..PostgresConfig::new(Secret::new(url)) }
}

async fn refused(config: &PostgresConfig) -> String {
    let error = open(config).await.err().expect("refused");
    let text = format!("{error}; {}", error.next);
    assert!(!text.contains("hunter2"), "{text}");
    text
}

fn server(authority: &Authority, identity: &Identity, demands_certificate: bool) -> PostgresServer {
    PostgresServer::with(&[], &Over::Tls(Tls { identity, authority, demands_certificate }))
}

/// Of each of claimd's connections to the database: whether it is encrypted, and whether it is the one that listens.
async fn connections(server: &PostgresServer, database: &str) -> Vec<(bool, bool)> {
    let (client, connection) = tokio_postgres::connect(&server.url("postgres"), NoTls).await.expect("a client");
    tokio::spawn(connection);
    let sql = "SELECT ssl, query LIKE 'LISTEN%' FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
         WHERE application_name = 'claimd' AND datname = $1";
    let rows = client.query(sql, &[&database]).await.expect("rows");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_tls_every_connection_is_encrypted_the_listening_one_too() {
    let authority = Authority::new();
    let server = server(&authority, &authority.server(&["localhost"]), false);
    let modes: [(&str, &str, Option<&Authority>, bool); 6] = [
        ("localhost", "", Some(&authority), true),
        ("localhost", "?sslmode=verify-full", Some(&authority), true),
        // The name does not count.
        ("127.0.0.1", "?sslmode=require", Some(&authority), true),
        ("127.0.0.1", "?sslmode=require", None, true),
        ("127.0.0.1", "", None, true),
        ("127.0.0.1", "?sslmode=disable", None, false),
    ];
    for (host, mode, ca, encrypted) in modes {
        let config = config(&server, host, mode, ca);
        let registry = open(&config).await.unwrap_or_else(|error| panic!("{host} {mode}: {error}"));
        let database = config.url.expose().rsplit('/').next().and_then(|rest| rest.split('?').next()).expect("a name");
        let all = until("it listens", || async {
            let all = connections(&server, database).await;
            all.iter().any(|(_, listens)| *listens).then_some(all)
        });
        let all = all.await;
        assert!(all.len() > 1 && all.iter().all(|(ssl, _)| *ssl == encrypted), "{host} {mode}: {all:?}");
        registry.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_show_what_is_asked_for_is_refused() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = server(&authority, &authority.server(&["localhost"]), false);
    for mode in ["", "?sslmode=verify-full", "?sslmode=verify-ca", "?sslmode=require"] {
        let said = refused(&config(&server, "localhost", mode, Some(&stranger))).await;
        assert!(said.contains("UnknownIssuer") && said.contains("registry.tls_ca_file"), "{mode}: {said}");
    }
    let said = refused(&config(&server, "127.0.0.1", "?sslmode=verify-full", Some(&authority))).await;
    assert!(said.contains("not valid for name"), "{said}");
    let plain = PostgresServer::with(&[], &Over::Plain);
    for (mode, ca) in [("?sslmode=require", None), ("?sslmode=verify-full", Some(&authority))] {
        let said = refused(&config(&plain, "localhost", mode, ca)).await;
        assert!(said.contains("server does not support TLS"), "{said}");
    }
    open(&config(&plain, "localhost", "?sslmode=prefer", None)).await.expect("prefer takes what there is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_may_ask_for_a_certificate() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = server(&authority, &authority.server(&["localhost"]), true);
    let with = |identity: &Identity| PostgresConfig {
        tls_certificate_file: identity.certificate.display().to_string(),
        tls_key_file: identity.key.display().to_string(),
        ..config(&server, "localhost", "", Some(&authority))
    };
    let identity = authority.client("claimd");
    open(&with(&identity)).await.expect("shown");
    let said = refused(&config(&server, "localhost", "", Some(&authority))).await;
    assert!(said.contains("client certificate"), "{said}");
    refused(&with(&stranger.client("claimd"))).await;
    let half = PostgresConfig { tls_key_file: String::new(), ..with(&identity) };
    assert!(refused(&half).await.contains("without the other"));
    let unmatched = PostgresConfig { tls_key_file: authority.client("x").key.display().to_string(), ..with(&identity) };
    assert!(refused(&unmatched).await.contains("own key"));
    std::fs::set_permissions(&identity.key, std::fs::Permissions::from_mode(0o644)).expect("set");
    assert!(refused(&with(&identity)).await.contains("0600"));
}
