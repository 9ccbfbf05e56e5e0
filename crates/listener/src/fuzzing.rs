//! The property of the fuzz target `proxy_v2`, and of the test that replays its corpus. Not part of the crate's promises.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use tokio::io::{AsyncRead, ReadBuf};

use crate::proxy::{self, Fault, Proxy, Said};

/// A header's bound here.
const MOST: usize = 300;

/// Asserts that a header is what a slow reader of our own takes it for, however it is cut into pieces; that exactly it is
/// read, so that what follows is the protocol's; that a refusal needs no byte beyond the fixed ones; and that a peer is
/// asked for a header exactly if its address is within what is trusted. Returns whether it was a header.
pub fn header(bytes: &[u8]) -> bool {
    let expected = plainly(bytes);
    for piece in [1, 7, usize::MAX] {
        let mut stream = Pieces { bytes, at: 0, piece };
        let read = finished(proxy::read(&mut stream, MOST));
        match (&expected, read) {
            (Plain::Header(said, length), Ok(read)) => {
                assert_eq!((read, stream.at), (*said, *length), "the header, and not one byte of what follows");
            }
            (Plain::Unfinished, Err(Fault::Broken(_) | Fault::Nothing)) => assert_eq!(stream.at, bytes.len()),
            (Plain::Refused, Err(Fault::Malformed(_) | Fault::TooLong(_))) => assert!(stream.at <= 16),
            (expected, read) => panic!("{expected:?}, but {read:?}"),
        }
    }
    trust(bytes);
    matches!(expected, Plain::Header(..))
}

/// A header over IPv4 as a balancer writes it, with `extra` behind the addresses.
pub fn written(client: SocketAddr, extra: &[u8]) -> Vec<u8> {
    let (family, addresses) = match client.ip() {
        IpAddr::V4(ip) => (0x11, [&ip.octets()[..], &[192, 0, 2, 1]].concat()),
        IpAddr::V6(ip) => (0x21, [&ip.octets()[..], &[0xfd; 16]].concat()),
    };
    let length = u16::try_from(addresses.len() + 4 + extra.len()).unwrap_or(u16::MAX).to_be_bytes();
    let ports = [client.port().to_be_bytes(), 1883_u16.to_be_bytes()].concat();
    [b"\r\n\r\n\0\r\nQUIT\n\x21", &[family][..], &length, &addresses, &ports, extra].concat()
}

#[derive(Debug)]
enum Plain {
    Header(Said, usize),
    Unfinished,
    Refused,
}

/// The same rules over bytes that are all there.
fn plainly(bytes: &[u8]) -> Plain {
    const SIGNATURE: [u8; 12] = [13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10];
    if bytes.iter().zip(SIGNATURE).any(|(byte, wanted)| *byte != wanted) {
        return Plain::Refused;
    }
    if bytes.get(12).is_some_and(|byte| *byte != 0x20 && *byte != 0x21) {
        return Plain::Refused;
    }
    if bytes.len() < 16 {
        return Plain::Unfinished;
    }
    let rest = usize::from(bytes[14]) * 256 + usize::from(bytes[15]);
    let (local, needed) = (bytes[12] == 0x20, if bytes[13] == 0x11 { 12 } else { 36 });
    if 16 + rest > MOST || !local && (bytes[13] != 0x11 && bytes[13] != 0x21 || rest < needed) {
        return Plain::Refused;
    }
    if bytes.len() < 16 + rest {
        return Plain::Unfinished;
    }
    let number =
        |from: usize, count: usize| bytes[from..from + count].iter().fold(0_u128, |n, b| n << 8 | u128::from(*b));
    let ip = match bytes[13] {
        _ if local => return Plain::Header(Said::Itself, 16 + rest),
        0x11 => IpAddr::V4(Ipv4Addr::from_bits(number(16, 4) as u32)),
        _ => IpAddr::V6(Ipv6Addr::from_bits(number(16, 16))),
    };
    let port = number(if needed == 12 { 24 } else { 48 }, 2) as u16;
    Plain::Header(Said::Client(SocketAddr::new(ip, port)), 16 + rest)
}

/// The first bytes as a prefix and a peer.
fn trust(bytes: &[u8]) {
    let Some(([net, peer @ ..], _)) = bytes.split_first_chunk::<9>().map(|(first, rest)| (*first, rest)) else {
        return;
    };
    let bits = |four: &[u8]| four.iter().fold(0_u32, |n, byte| n << 8 | u32::from(*byte));
    let (length, net, peer) = (net % 33, bits(&peer[..4]), bits(&peer[4..]));
    let trusted = Ipv4Net::new_assert(Ipv4Addr::from_bits(net), length);
    let proxy =
        Proxy { trusted: vec![IpNet::V4(trusted)], header_bytes: MOST, awaited: 1, patience: Duration::from_secs(1) };
    let alike = (net ^ peer).leading_zeros() >= u32::from(length);
    let peer = Ipv4Addr::from_bits(peer);
    assert_eq!(proxy.trusts(peer.into()), alike, "{trusted} and {peer}");
    assert_eq!(proxy.trusts(peer.to_ipv6_mapped().into()), alike, "{trusted} and {peer} mapped");
}

/// Bytes that come in pieces, then the end.
struct Pieces<'a> {
    bytes: &'a [u8],
    at: usize,
    piece: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let piece = self.piece.min(into.remaining()).min(self.bytes.len() - self.at);
        into.put_slice(&self.bytes[self.at..self.at + piece]);
        self.at += piece;
        Poll::Ready(Ok(()))
    }
}

/// A future that never waits.
fn finished<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing to wait for"),
    }
}
