//! Entry points for fuzz targets, and for the tests that replay their corpora. Not part of the crate's promises.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{Config, Limits};
use crate::endpoint::wire::{Outbox, Route, code};
use crate::endpoint::{Endpoint, What};
use crate::reply::Reply;
use crate::stats::Stats;

/// Reads bytes as one datagram. Hands whatever is sent back to `sent`, to be read by another codec.
pub fn message(bytes: &[u8], sent: impl FnMut(&[u8])) {
    let mut endpoint = endpoint();
    let mut out = Outbox::default();
    let _ = endpoint.receive(0, route(0), bytes, false, &mut out);
    out.iter().map(|(_, bytes)| bytes).for_each(sent);
}

/// Reads bytes as a life: each step is a byte of what to do, a byte of who and how long, and for datagrams their bytes.
/// Asserts that a peer that has proven nothing gets at most three times its bytes, that a message id is run once, and
/// that requests under way stay within their bound. Hands whatever is sent to `sent`.
pub fn life(mut bytes: &[u8], mut sent: impl FnMut(&[u8])) {
    let mut endpoint = endpoint();
    let mut out = Outbox::default();
    let (mut now, mut open, mut asked) = (0_u64, Vec::new(), HashMap::new());
    while let [what, who, rest @ ..] = bytes {
        bytes = rest;
        let peer = route(who & 3);
        match what % 8 {
            0..=4 => {
                let length = (usize::from(*who & 0x7f)).min(bytes.len());
                let (datagram, rest) = bytes.split_at(length);
                bytes = rest;
                let before = endpoint.open();
                let ask = endpoint.receive(now, peer, datagram, who & 0x80 != 0, &mut out);
                let back: usize = out.iter().map(|(_, bytes)| bytes.len()).sum();
                if let Some(ask) = ask {
                    assert_eq!(endpoint.open(), before + 1);
                    let id = (peer.peer, u16::from_be_bytes([datagram[2], datagram[3]]));
                    let last = asked.insert(id, now);
                    assert!(last.is_none_or(|last| now - last >= 145_000), "a message id was run twice");
                    open.push(ask);
                } else if before == endpoint.open() {
                    // Only Echo could have proven this peer, and a fuzzer does not guess keyed digests.
                    assert!(back <= 3 * datagram.len(), "{back} bytes for {}", datagram.len());
                }
            }
            5 => {
                if let Some(ask) = open.pop() {
                    let observe = matches!(ask.what, What::State { observe: true });
                    endpoint.answer(now, ask.exchange, Reply::of(code::CREATED), observe, &mut out);
                }
            }
            6 => {
                now += u64::from(*who) * 1000;
                endpoint.expire(now, &mut out);
            }
            _ => {
                now += u64::from(*who);
                endpoint.expire(now, &mut out);
            }
        }
        out.iter().map(|(_, bytes)| bytes).for_each(&mut sent);
        out.clear();
        assert!(endpoint.open() <= 8, "more requests under way than may be");
    }
}

fn endpoint() -> Endpoint {
    let config =
        Config { exchanges: 8, exchanges_per_peer: 4, dedup_entries: 4096, validated_peers: 64, ..Config::default() };
    Endpoint::new(&config, &Limits::default(), 1, [7; 32], 42, Arc::<Stats>::default())
}

fn route(who: u8) -> Route {
    Route { peer: ([192, 0, 2, who], 5683).into(), local: None, interface: 0 }
}
