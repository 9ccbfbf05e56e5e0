//! Real sockets against the accept loop: every read has a deadline, every size a bound, and an orderly end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::listener::{Listener, Serving};
use axum::routing::get;
use claim::ClaimState;
use claim::event::{StateChange, StateFeed};
use testkit::{FakeCache, FakeRegistry, at, intake, keyring};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::config::Config;
use crate::routes::DeviceApiParts;

const SHORT: Duration = Duration::from_millis(100);

struct Rig {
    serving: Serving,
    feed: Arc<StateFeed>,
    device: claim::DeviceId,
    registry: Arc<FakeRegistry>,
    /// The next request's id, so how many have come in.
    ids: Arc<AtomicU64>,
}

impl Rig {
    fn start(limits: Limits) -> Self {
        let registry = Arc::new(FakeRegistry::new(keyring()));
        let tenant = registry.add_tenant();
        let device = registry.add_device_with_token(tenant, "d", "token");
        let feed = Arc::new(StateFeed::default());
        let ids = Arc::new(AtomicU64::new(0));
        let devices = DeviceApi::new(DeviceApiParts {
            intake: intake(registry.clone(), Arc::new(FakeCache::default()), feed.clone()),
            feed: &feed,
            clock: Arc::new(|| at(0)),
            request_ids: Arc::clone(&ids),
            config: Config::default(),
            limits,
        });
        let router = Router::new().route("/hello", get(async || "hello"));
        let bound = Listener::bind("127.0.0.1:0".parse().expect("an address"), ::listener::Limits::default());
        let serving = serve(bound.expect("a port"), Site { devices: Some(devices), router, limits });
        Self { serving, feed, device, registry, ids }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.serving.local_addr()).await.expect("a connection")
    }

    /// Sends all of it and reads until the server closes.
    async fn whole(&self, text: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.expect("sent");
        rest(&mut stream).await
    }
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
    let _ = read.expect("the server closes");
    String::from_utf8(answer).expect("text")
}

/// The next answer of a kept connection, its head only or with a body of so many bytes.
async fn next(stream: &mut TcpStream, body: usize) -> String {
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        answer.push(stream.read_u8().await.expect("an answer"));
    }
    let head = answer.len();
    answer.resize(head + body, 0);
    stream.read_exact(&mut answer[head..]).await.expect("a body");
    String::from_utf8(answer).expect("text")
}

fn post(body: &str) -> String {
    format!("POST /api/v1/token/claim HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_claim_is_answered_with_an_empty_200_on_a_kept_connection() {
    let rig = Rig::start(Limits::default());
    let mut stream = rig.connect().await;
    for body in ["", "{}", r#"{"secretKey":"s"}"#] {
        stream.write_all(post(body).as_bytes()).await.expect("sent");
        let answer = next(&mut stream, 0).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("content-length: 0"), "{answer}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let rig = Rig::start(Limits::default());
    let text = format!("{}{}GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", post("{}"), post("["));
    let answer = rig.whole(&text).await;
    let codes: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|part| &part[..3]).collect();
    assert_eq!(codes, ["200", "400", "200"]);
    assert!(answer.ends_with("hello"));
}

#[tokio::test]
async fn bodies_end_at_the_cap_whether_their_length_is_told_or_not() {
    let rig = Rig::start(Limits { payload_bytes: 100, ..Limits::default() });
    let padded = |bytes: usize| format!("{{\"x\":\"{}\"}}", "p".repeat(bytes - 8));
    for (bytes, code) in [(99, "200"), (100, "200"), (101, "413")] {
        let body = padded(bytes);
        let told = rig.whole(&post(&body).replace("host: x", "host: x\r\nconnection: close")).await;
        assert!(told.starts_with(&format!("HTTP/1.1 {code}")), "{bytes}: {told}");
        let chunked = format!(
            "POST /api/v1/token/claim HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
             {:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        );
        let untold = rig.whole(&chunked).await;
        assert!(untold.starts_with(&format!("HTTP/1.1 {code}")), "{bytes} in chunks: {untold}");
    }
}

#[tokio::test]
async fn heads_and_targets_end_at_their_caps() {
    let limits = Limits { header_bytes: 1_000, uri_bytes: 100, ..Limits::default() };
    let rig = Rig::start(limits);
    let target = |bytes: usize| format!("/hello?{}", "q".repeat(bytes - 7));
    for (bytes, code) in [(99, "200"), (100, "200"), (101, "414"), (5_000, "414")] {
        let request = format!("GET {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", target(bytes));
        let answer = rig.whole(&request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{bytes}: {answer}");
    }
    // `host: x` and `connection: close` with their colons and line ends are 28 bytes of the thousand.
    for (bytes, code) in [(999, "200"), (1_000, "200"), (1_001, "431"), (40_000, "431")] {
        let value = "v".repeat(bytes - 28 - 5);
        let request = format!("GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx: {value}\r\n\r\n");
        let answer = rig.whole(&request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{bytes}: {answer}");
    }
}

#[tokio::test]
async fn whoever_says_nothing_or_half_a_head_is_closed_in_time() {
    let rig = Rig::start(Limits { header_timeout: SHORT, ..Limits::default() });
    assert_eq!(rest(&mut rig.connect().await).await, "", "silent from the start");
    let half = rig.whole("GET /hello HTT").await;
    assert!(half.starts_with("HTTP/1.1 408"), "{half}");
    let mut stream = rig.connect().await;
    stream.write_all(post("{}").as_bytes()).await.expect("sent");
    next(&mut stream, 0).await;
    assert_eq!(rest(&mut stream).await, "", "an idle kept connection ends too");
}

#[tokio::test]
async fn a_body_that_drips_is_told_to_come_again() {
    let rig = Rig::start(Limits { request_timeout: SHORT, ..Limits::default() });
    let mut stream = rig.connect().await;
    let head = "POST /api/v1/token/claim HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("too_slow"), "{answer}");
}

#[tokio::test]
async fn nothing_of_a_strangers_body_is_waited_for() {
    let rig = Rig::start(Limits::default());
    let head = "POST /api/v1/wrong/claim HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 100\r\n\r\n";
    let answer = rig.whole(head).await;
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("unauthenticated"), "{answer}");
}

#[tokio::test]
async fn other_methods_and_paths_are_named_as_such() {
    let rig = Rig::start(Limits::default());
    let ask = async |line: &str| rig.whole(&format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
    let put = ask("PUT /api/v1/token/claim").await;
    assert!(put.starts_with("HTTP/1.1 405") && put.contains("allow: GET, POST"), "{put}");
    for path in ["/api/v1/token/telemetry", "/api/v1//claim", "/api/v1/claim", "/api/v1/token/claim/"] {
        let answer = ask(&format!("POST {path}")).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
    let encoded = ask("POST /api/v1/t%6Fken/claim").await;
    assert!(encoded.starts_with("HTTP/1.1 200"), "a segment is decoded once: {encoded}");
}

#[tokio::test]
async fn a_device_that_waits_is_answered_by_the_change() {
    let rig = Rig::start(Limits::default());
    let mut stream = rig.connect().await;
    stream
        .write_all(b"GET /api/v1/token/claim?wait=30s HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .expect("sent");
    let (registry, feed, device) = (Arc::clone(&rig.registry), Arc::clone(&rig.feed), rig.device);
    let changing = tokio::spawn(async move {
        registry.set_owner(device, Some(claim::CustomerId::random()), at(5));
        // Told until it is heard: the request may not have begun to wait.
        loop {
            let state = ClaimState::Claimed { claimed_at: at(5) };
            feed.publish(&StateChange { device, name: None, state });
            tokio::task::yield_now().await;
        }
    });
    let answer = rest(&mut stream).await;
    changing.abort();
    assert!(answer.contains(r#""claimState":"CLAIMED""#), "{answer}");
}

#[tokio::test]
async fn a_drain_answers_who_waits_and_closes_who_is_idle() {
    let rig = Rig::start(Limits::default());
    let mut idle = rig.connect().await;
    idle.write_all(post("{}").as_bytes()).await.expect("sent");
    next(&mut idle, 0).await;
    let mut waiting = rig.connect().await;
    waiting.write_all(b"GET /api/v1/token/claim?wait=30s HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    while rig.ids.load(Ordering::Relaxed) < 2 {
        tokio::task::yield_now().await;
    }
    let drained = rig.serving.drain(Duration::from_secs(20)).await;
    assert_eq!(drained.aborted, 0);
    assert_eq!(rest(&mut idle).await, "");
    let answer = rest(&mut waiting).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("PENDING"), "{answer}");
}
