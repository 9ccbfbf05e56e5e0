//! Entry points for fuzz targets, and for the tests that replay their corpora. Not part of the crate's promises.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::config::{Config, Limits};
use crate::endpoint::request::Request;
use crate::endpoint::wire::{Outbox, Route, code, option};
use crate::endpoint::{Endpoint, What, precheck};
use crate::reply::Reply;
use crate::stats::Stats;

/// Reads bytes as one datagram. Asserts that what the strict check lets pass is what a plain reader finds, that its parts
/// make up the input, and that it reads the same when it is written again. Hands whatever is sent back to `sent`, to be
/// read by another codec.
pub fn message(bytes: &[u8], sent: impl FnMut(&[u8])) {
    let plain = Plain::read(bytes);
    assert_eq!(precheck::check(bytes).is_ok(), plain.is_some(), "the check and a plain reader agree");
    if let Some(plain) = plain {
        let held: usize = plain.options.iter().map(|(_, value)| value.len()).sum::<usize>() + plain.payload.len();
        assert!(held <= bytes.len(), "option lengths add up to no more than the datagram");
        let again = plain.write();
        assert!(again.len() <= bytes.len(), "the shortest form");
        assert_eq!(Plain::read(&again).as_ref(), Some(&plain), "decode(encode(p)) = p");
        assert!(precheck::check(&again).is_ok());
        let rest = 4 + plain.token.len();
        let (read, twin) = (Request::read(&bytes[rest..]), Request::read(&again[rest..]));
        assert_eq!(format!("{read:?}"), format!("{twin:?}"), "one message, one meaning");
        if let Ok(request) = read {
            let paths = plain.options.iter().filter(|(number, _)| *number == option::URI_PATH);
            assert!(request.segments().iter().copied().eq(paths.map(|(_, value)| *value).take(6)), "the path");
            assert_eq!(request.payload, plain.payload);
        }
    }
    let mut endpoint = endpoint();
    let mut out = Outbox::default();
    let _ = endpoint.receive(0, route(0), bytes, false, &mut out);
    out.iter().map(|(_, bytes)| bytes).for_each(sent);
}

/// A message as a plain reader of RFC 7252 §3 finds it.
#[derive(Debug, PartialEq, Eq)]
struct Plain<'a> {
    head: [u8; 4],
    token: &'a [u8],
    options: Vec<(u16, &'a [u8])>,
    payload: &'a [u8],
}

impl<'a> Plain<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (head, mut rest) = bytes.split_first_chunk::<4>()?;
        let class = head[1] >> 5;
        let length = usize::from(head[0] & 15);
        if head[0] >> 6 != 1 || length > 8 || ![0, 2, 4, 5].contains(&class) || (head[1] == 0 && bytes.len() > 4) {
            return None;
        }
        let token;
        (token, rest) = rest.split_at_checked(length)?;
        let (mut options, mut number) = (Vec::new(), 0_usize);
        while let Some((&first, after)) = rest.split_first() {
            if first == 0xff {
                let payload = Some(after).filter(|payload| !payload.is_empty())?;
                return Some(Self { head: *head, token, options, payload });
            }
            rest = after;
            let mut wide = |nibble: u8| -> Option<usize> {
                let extra = match nibble {
                    13 => 1,
                    14 => 2,
                    15 => return None,
                    small => return Some(usize::from(small)),
                };
                let (extended, after) = rest.split_at_checked(extra)?;
                rest = after;
                let value = extended.iter().fold(0, |value, byte| value << 8 | usize::from(*byte));
                Some(value + if extra == 1 { 13 } else { 269 })
            };
            let (delta, length) = (wide(first >> 4)?, wide(first & 15)?);
            number += delta;
            let (value, after) = rest.split_at_checked(length)?;
            rest = after;
            options.push((u16::try_from(number).ok()?, value));
            if options.len() > precheck::OPTIONS_MAX {
                return None;
            }
        }
        Some(Self { head: *head, token, options, payload: &[] })
    }

    fn write(&self) -> Vec<u8> {
        let mut out = self.head.to_vec();
        out.extend_from_slice(self.token);
        let mut last = 0;
        for (number, value) in &self.options {
            let parts = [usize::from(number - last), value.len()].map(|part| match part {
                0..13 => (part as u8, Vec::new()),
                13..269 => (13, vec![(part - 13) as u8]),
                _ => (14, ((part - 269) as u16).to_be_bytes().to_vec()),
            });
            last = *number;
            out.push(parts[0].0 << 4 | parts[1].0);
            parts.iter().for_each(|(_, extended)| out.extend_from_slice(extended));
            out.extend_from_slice(value);
        }
        if !self.payload.is_empty() {
            out.push(0xff);
            out.extend_from_slice(self.payload);
        }
        out
    }
}

/// Reads bytes as a life: each step is a byte of what to do, a byte of who and how long, and for datagrams their bytes.
/// Asserts that a peer that has proven nothing gets at most three times its bytes, that a message id is run once and
/// answered with the same bytes when it comes again, and that requests under way and bodies in blocks stay within their
/// bounds. Hands whatever is sent to `sent`.
pub fn life(mut bytes: &[u8], mut sent: impl FnMut(&[u8])) {
    let mut endpoint = endpoint();
    let mut out = Outbox::default();
    let (mut now, mut open, mut asked) = (0_u64, Vec::new(), HashMap::new());
    let (mut ours, mut proven) = (HashSet::new(), HashSet::new());
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
                assert!(endpoint.block_bytes() <= BLOCK_BYTES, "more bytes in blocks than may be");
                let first = without_own_ids(&out);
                if ask.is_none() && precheck::check(datagram).is_ok_and(|head| head.class() == 0 && head.code > 0) {
                    // Duplicates by the rule itself: at once, and again.
                    let mut again = Outbox::default();
                    let ask = endpoint.receive(now, peer, datagram, who & 0x80 != 0, &mut again);
                    assert!(ask.is_none(), "a message id was run twice");
                    assert_eq!(first, without_own_ids(&again), "a duplicate got other bytes");
                }
                if let Some(ask) = ask {
                    assert_eq!(endpoint.open(), before + 1);
                    let id = (peer.peer, u16::from_be_bytes([datagram[2], datagram[3]]));
                    let last = asked.insert(id, now);
                    assert!(last.is_none_or(|last| now - last >= 145_000), "a message id was run twice");
                    open.push(ask);
                } else if before == endpoint.open() {
                    // Echo could have proven this peer, and a fuzzer does not guess keyed digests; or it has answered a
                    // confirmable message that was sent to it.
                    let answers = matches!(datagram, [0x60 | 0x70, 0, high, low]
                        if ours.contains(&(peer.peer, [*high, *low])));
                    if answers {
                        proven.insert(peer.peer);
                    }
                    let within = back <= 3 * datagram.len();
                    assert!(within || proven.contains(&peer.peer), "{back} bytes for {datagram:02x?}: {first:02x?}");
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
        for (route, bytes) in out.iter().filter(|(_, bytes)| bytes[0] >> 4 & 3 == 0) {
            ours.insert((route.peer, [bytes[2], bytes[3]]));
        }
        out.iter().map(|(_, bytes)| bytes).for_each(&mut sent);
        out.clear();
        assert!(endpoint.open() <= 8, "more requests under way than may be");
    }
}

/// What is sent, but for the message ids of non-confirmable responses: those are the server's own, and new each time.
fn without_own_ids(out: &Outbox) -> Vec<Vec<u8>> {
    let mut sent: Vec<Vec<u8>> = out.iter().map(|(_, bytes)| bytes.to_vec()).collect();
    for datagram in sent.iter_mut().filter(|datagram| datagram[0] >> 4 & 3 == 1) {
        datagram[2..4].fill(0);
    }
    sent
}

/// Bytes of unfinished bodies in these lives.
const BLOCK_BYTES: usize = 256;

fn endpoint() -> Endpoint {
    let config = Config {
        exchanges: 8,
        exchanges_per_peer: 4,
        dedup_entries: 4096,
        validated_peers: 64,
        block_bytes: BLOCK_BYTES,
        ..Config::default()
    };
    Endpoint::new(&config, &Limits::default(), 1, [7; 32], 42, Arc::<Stats>::default())
}

fn route(who: u8) -> Route {
    Route { peer: ([192, 0, 2, who], 5683).into(), local: None, interface: 0 }
}
