//! A server that is reached over TLS alone.

use testkit::tls::{Authority, Identity};

use super::*;

/// Speaks TLS on the port that is returned; asks for certificates of `clients`, if there are any.
fn with_tls(authority: &Authority, clients: Option<&Authority>) -> (RedisServer, u16) {
    let Identity { certificate, key } = authority.server(&["localhost"]);
    let text = |path: &std::path::Path| path.display().to_string();
    let port = free_port();
    let server = RedisServer::with(&[
        ("tls-port", &port.to_string()),
        ("tls-cert-file", &text(&certificate)),
        ("tls-key-file", &text(&key)),
        ("tls-ca-cert-file", &text(&clients.unwrap_or(authority).certificate())),
        ("tls-auth-clients", if clients.is_some() { "yes" } else { "no" }),
    ]);
    (server, port)
}

fn over_tls(url: String, authority: &Authority) -> Config {
    let redis_tls_ca_file = authority.certificate().display().to_string();
    Config { redis_url: url, redis_tls_ca_file, ..Config::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_the_contract_is_kept_and_who_cannot_be_believed_is_refused_at_the_start() {
    let authority = Authority::new();
    let (server, port) = with_tls(&authority, None);
    let trusted = over_tls(format!("rediss://localhost:{port}"), &authority);
    let cache = RedisClaimCache::open(&trusted, PATIENCE, now()).await.expect("a server");
    let port_of_cache: Arc<dyn ClaimCache> = cache.clone();
    cache_battery::all(&port_of_cache, now()).await;
    for (wrong, config) in [
        ("an authority that issued something else", over_tls(trusted.redis_url.clone(), &Authority::new())),
        ("whom this machine believes", Config { redis_tls_ca_file: String::new(), ..trusted.clone() }),
        ("another name", over_tls(format!("rediss://127.0.0.1:{port}"), &authority)),
        ("no TLS", Config { redis_url: format!("redis://localhost:{port}"), ..Config::default() }),
        ("no such file", Config { redis_tls_ca_file: "/nowhere/ca.pem".to_owned(), ..trusted.clone() }),
    ] {
        let said = refused(&server, &config).await;
        assert!(said.contains("claim_cache.redis_"), "{wrong}: {said}");
        if wrong.contains("authority") || wrong.contains("name") {
            assert!(said.contains("certificate"), "{wrong}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_clients_need_a_certificate_one_of_the_right_authority_is_shown() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let (server, port) = with_tls(&servers, Some(&clients));
    let nobody = over_tls(format!("rediss://localhost:{port}"), &servers);
    let said = refused(&server, &nobody).await;
    assert!(said.contains("claim_cache.redis_url"), "{said}");
    let shown = |Identity { certificate, key }: Identity| Config {
        redis_tls_certificate_file: certificate.display().to_string(),
        redis_tls_key_file: key.display().to_string(),
        ..nobody.clone()
    };
    let said = refused(&server, &shown(Authority::new().client("claimd"))).await;
    assert!(said.contains("claim_cache.redis_url"), "{said}");
    let cache = RedisClaimCache::open(&shown(clients.client("claimd")), PATIENCE, now()).await.expect("a server");
    assert_eq!(cache.record(claim_at(now()), now()).await, Ok(Recorded::New));
}
