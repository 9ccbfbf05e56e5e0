//! PROXY headers over real sockets: who is asked, what becomes of those who do not answer, and whose a connection then is.

#![allow(clippy::unwrap_used, reason = "a test may end by it")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use listener::fuzzing::written;
use listener::{IpNet, Limits, Listener, Proxy, Serving};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const BALANCER: Ipv4Addr = Ipv4Addr::new(127, 7, 7, 7);
const CLIENT: &str = "192.0.2.77:4711";
/// HAProxy's own, from a health check.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Says whom it takes the connection for, and then what it hears.
fn echo(limits: Limits, change: impl Fn(&mut Proxy)) -> Serving {
    let trusted = vec![IpNet::from(std::net::IpAddr::from(BALANCER))];
    let mut proxy = Proxy { trusted, header_bytes: 200, awaited: 100, patience: Duration::from_secs(60) };
    change(&mut proxy);
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), limits).unwrap().behind(Arc::new(proxy));
    listener.serve(|mut connection| async move {
        let cap = connection.seat.admission().err().map_or("", |cap| cap.name());
        let hello = format!("{} {cap}\n", connection.peer);
        if connection.stream.write_all(hello.as_bytes()).await.is_ok() {
            let (mut from, mut to) = connection.stream.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
        }
        drop(connection.seat);
    })
}

async fn connect(serving: &Serving, from: Ipv4Addr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.into(), 0)).unwrap();
    socket.connect(serving.local_addr()).await.unwrap()
}

/// Everything said to somebody who sends these bytes and no more.
async fn said(serving: &Serving, from: Ipv4Addr, bytes: &[u8]) -> String {
    let mut stream = connect(serving, from).await;
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    String::from_utf8_lossy(&said).into_owned()
}

fn header(extra: &[u8]) -> Vec<u8> {
    written(CLIENT.parse().unwrap(), extra)
}

#[tokio::test]
async fn a_trusted_peer_names_the_client_and_what_follows_is_not_lost() {
    let serving = echo(Limits::default(), |_| {});
    for extra in [&b""[..], b"\x04\0\x03abc", &[0; 172]] {
        let bytes = [&header(extra)[..], b"first words"].concat();
        assert_eq!(said(&serving, BALANCER, &bytes).await, format!("{CLIENT} \nfirst words"));
    }
    let six = written("[2001:db8::1]:9".parse().unwrap(), b"");
    assert_eq!(said(&serving, BALANCER, &six).await, "[2001:db8::1]:9 \n");
    assert_eq!(serving.stats().proxy_malformed.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_untrusted_peers_header_is_its_own_words() {
    let serving = echo(Limits::default(), |_| {});
    let bytes = header(b"");
    let heard = said(&serving, Ipv4Addr::LOCALHOST, &bytes).await;
    assert!(heard.starts_with("127.0.0.1:") && heard.ends_with(&*String::from_utf8_lossy(&bytes)), "{heard:?}");
    // Without anybody trusted nobody is.
    let serving = echo(Limits::default(), |proxy| proxy.trusted.clear());
    assert!(said(&serving, BALANCER, &bytes).await.starts_with("127.7.7.7:"));
}

#[tokio::test]
async fn a_balancer_that_checks_our_health_is_itself() {
    let limits = Limits { connections_per_address: 1, unauthenticated_per_address: 1, ..Limits::default() };
    let serving = echo(limits, |_| {});
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(&serving, BALANCER).await;
        stream.write_all(LOCAL).await.unwrap();
        let mut hello = [0; 10];
        stream.read_exact(&mut hello).await.unwrap();
        assert_eq!(&hello, b"127.7.7.7:", "and no cap is met");
        open.push(stream);
    }
}

#[tokio::test]
async fn a_trusted_peer_without_a_good_header_is_closed_and_counted() {
    let serving = echo(Limits::default(), |_| {});
    let mut local_with_address = LOCAL.to_vec();
    local_with_address[15] = 3;
    local_with_address.extend(b"abc");
    assert!(said(&serving, BALANCER, &local_with_address).await.starts_with("127.7.7.7:"), "skipped");
    let change = |at: usize, byte: u8| {
        let mut bytes = header(b"");
        bytes[at] = byte;
        bytes
    };
    let bad = [
        b"PROXY TCP4 192.0.2.77 192.0.2.1 4711 1883\r\n".to_vec(),
        b"\x10".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        change(11, b'x'),
        change(12, 0x11), // version 1
        change(12, 0x22), // no command
        change(13, 0x00), // no family
        change(13, 0x12), // UDP
        change(13, 0x31), // a Unix socket
        change(15, 11),   // too short for its addresses
        header(b"")[..20].to_vec(),
        header(&[0; 173]), // one beyond the bound
    ];
    for (n, bytes) in bad.iter().enumerate() {
        assert_eq!(said(&serving, BALANCER, bytes).await, "", "{bytes:?}");
        assert_eq!(serving.stats().proxy_malformed.load(Ordering::Relaxed), n as u64 + 1, "{bytes:?}");
    }
    // A check of the port alone says nothing, and is none.
    assert_eq!(said(&serving, BALANCER, b"").await, "");
    assert_eq!(serving.stats().proxy_malformed.load(Ordering::Relaxed), bad.len() as u64);
}

#[tokio::test]
async fn silent_balancers_are_bounded_in_time_and_number_and_delay_nobody() {
    let serving = echo(Limits::default(), |proxy| proxy.awaited = 3);
    let mut silent = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(&serving, BALANCER).await;
        stream.write_all(&header(b"")[..9]).await.unwrap();
        silent.push(stream);
    }
    assert_eq!(said(&serving, Ipv4Addr::LOCALHOST, b"direct").await.lines().last(), Some("direct"));
    assert_eq!(said(&serving, BALANCER, &header(b"")).await, format!("{CLIENT} \n"), "the fourth gets through");
    assert_eq!(silent[0].read(&mut [0; 1]).await.unwrap_or(0), 0, "for the oldest");
    assert_eq!(serving.stats().evicted_awaited.load(Ordering::Relaxed), 1);
    assert_eq!(serving.stats().evicted.load(Ordering::Relaxed), 0);

    let serving = echo(Limits::default(), |proxy| proxy.patience = Duration::from_millis(50));
    let mut slow = connect(&serving, BALANCER).await;
    slow.write_all(&header(b"")[..20]).await.unwrap();
    assert_eq!(slow.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed in the end");
    assert_eq!(serving.stats().proxy_late.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn limits_of_an_address_count_the_clients_behind_a_balancer() {
    let serving = echo(Limits { connections_per_address: 2, ..Limits::default() }, |_| {});
    let mut open = Vec::new();
    for n in 0..6 {
        let client = SocketAddr::new(Ipv4Addr::new(192, 0, 2, n / 3).into(), 1000 + u16::from(n));
        let mut stream = connect(&serving, BALANCER).await;
        stream.write_all(&written(client, b"")).await.unwrap();
        let mut hello = Vec::new();
        while !hello.ends_with(b"\n") {
            hello.push(stream.read_u8().await.unwrap());
        }
        let cap = if n % 3 == 2 { "connections_per_address" } else { "" };
        assert_eq!(String::from_utf8(hello).unwrap(), format!("{client} {cap}\n"));
        open.push(stream);
    }
    assert_eq!(serving.drain(Duration::ZERO).await.open, 6);
}

#[tokio::test]
async fn a_drain_waits_for_no_header() {
    let serving = echo(Limits::default(), |_| {});
    let mut silent = connect(&serving, BALANCER).await;
    let stats = serving.stats();
    while stats.open.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(serving.drain(Duration::from_secs(60)).await.aborted, 0);
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap_or(0), 0);
}

proptest! {
    #[test]
    fn what_a_balancer_writes_is_read_and_every_part_of_it_is_waited_for(
        ip: std::net::IpAddr, port: u16, extra in prop::collection::vec(any::<u8>(), 0..200), rest: Vec<u8>,
    ) {
        let whole = written(SocketAddr::new(ip, port), &extra);
        let followed = [&whole[..], &rest].concat();
        prop_assert!(listener::fuzzing::header(&followed));
        for end in 0..whole.len() {
            prop_assert!(!listener::fuzzing::header(&whole[..end]));
        }
    }

    #[test]
    fn whatever_comes_is_read_as_a_plain_reader_reads_it(bytes: Vec<u8>) {
        listener::fuzzing::header(&bytes);
        listener::fuzzing::header(&[b"\r\n\r\n\0\r\nQUIT\n", &bytes[..]].concat());
    }
}
