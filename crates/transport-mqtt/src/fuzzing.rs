//! Properties for fuzz targets, and for the tests that replay their corpora. Not part of the crate's promises.

mod encode;
mod scripted;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use claim::Intake;

use crate::config::{CONNECT_BYTES, Config, Limits};
use crate::engine::{self, Frame, Packet, Version};
use crate::listener::Shared;
use crate::session;
use scripted::Scripted;

/// A packet's bound in these tests.
const MOST: usize = 70_000;

/// Reads bytes as a whole conversation: CONNECT, then packets. Returns how many packets were understood. Asserts that
/// what is consumed and what is left are the input, that nothing is taken beyond the bound, and that a packet that was
/// understood and is written again is understood as the same.
pub fn conversation(bytes: &[u8]) -> usize {
    let Ok(Some((first, mut used))) = engine::frame(bytes, MOST) else { return 0 };
    let mut version = Version::V5;
    if let Ok(hello) = engine::hello(first) {
        version = hello.version;
        assert!(first.body.len() <= CONNECT_BYTES, "a CONNECT is bounded");
        let again = encode::hello(&hello);
        let (frame, _) = engine::frame(&again, MOST).ok().flatten().expect("a whole packet");
        assert_eq!(engine::hello(frame).as_ref(), Ok(&hello), "decode(encode(p)) = p");
    }
    let mut understood = 0;
    while let Ok(Some((frame, length))) = engine::frame(&bytes[used..], MOST) {
        let header = length - frame.body.len();
        assert!((2..=5).contains(&header) && frame.body.len() <= MOST, "a frame has a header and a bound");
        assert!(bytes[used + header..].starts_with(frame.body), "consumed and rest are the input");
        used += length;
        assert!(used <= bytes.len(), "a frame lies within its bytes");
        for version in [version, Version::V311, Version::V5] {
            let Ok(packet) = engine::packet(version, frame) else { continue };
            understood += 1;
            assert!(allocated(&packet) <= 40 * frame.body.len(), "a packet costs memory in proportion to its bytes");
            let again = encode::packet(version, &packet);
            let (frame, length) = engine::frame(&again, MOST + 8).ok().flatten().expect("a whole packet");
            assert_eq!(length, again.len());
            assert_eq!(engine::packet(version, frame).as_ref(), Ok(&packet), "decode(encode(p)) = p");
        }
    }
    understood
}

/// Bytes a packet keeps beside its frame.
fn allocated(packet: &Packet<'_>) -> usize {
    match packet {
        Packet::Subscribe(_, wanted) => {
            wanted.iter().map(|wanted| size_of_val(wanted) + wanted.filter.len()).sum::<usize>()
        }
        Packet::Unsubscribe(_, filters) => filters.iter().map(|filter| size_of_val(filter) + filter.len()).sum(),
        _ => 0,
    }
}

/// Sessions over memory, one after the other, on the fakes behind an intake.
pub struct Sessions {
    shared: Arc<Shared>,
    runtime: tokio::runtime::Runtime,
}

impl Sessions {
    /// On this intake.
    ///
    /// # Panics
    /// When there is no runtime to be had.
    pub fn new(intake: Intake) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let shared =
            Shared::for_fuzzing(intake, Config::default(), Limits { payload_bytes: 4096, ..Limits::default() });
        Self { shared, runtime }
    }

    /// Sends `bytes` and ends; what the server said.
    pub fn say(&self, bytes: &[u8]) -> Vec<u8> {
        let (wire, said) = Scripted::new(bytes);
        let seat = ::listener::Seat::alone(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.runtime.block_on(session::run(wire, peer, seat, Arc::clone(&self.shared)));
        let said = said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        said.clone()
    }

    /// Asserts that nothing is acknowledged before a CONNECT was accepted, that one CONNACK is sent at most, that acks
    /// do not outnumber what they are for, and that nothing after a packet only servers send is read.
    pub fn connection(&self, bytes: &[u8]) {
        let said = self.say(bytes);
        let answers = frames(&said);
        let connacks = answers.iter().filter(|frame| frame.first == 0x20).count();
        assert!(connacks <= 1, "more than one CONNACK");
        if let [first, rest @ ..] = &answers[..] {
            assert_eq!(first.first, 0x20, "something was said before CONNACK");
            assert!(first.body[1] == 0 || rest.is_empty(), "something was said after a refusal");
        }
        let sent = frames(bytes);
        for (request, acks) in
            [(0x30, &[0x40, 0x50][..]), (0x60, &[0x70]), (0x80, &[0x90]), (0xa0, &[0xb0]), (0xc0, &[0xd0])]
        {
            let requests = sent.iter().filter(|frame| frame.first & 0xf0 == request).count();
            let given = answers.iter().filter(|frame| acks.contains(&(frame.first & 0xf0))).count();
            assert!(given <= requests, "{given} acks for {requests} packets of type {request:x}");
        }
        if let Some(end) = after_server_only(bytes) {
            let cut = self.say(&bytes[..end]);
            assert_eq!(kinds(&said), kinds(&cut), "a packet only servers send ends the connection");
        }
    }
}

/// Where the first packet that only a server may send ends.
fn after_server_only(bytes: &[u8]) -> Option<usize> {
    let mut used = 0;
    while let Ok(Some((frame, length))) = engine::frame(&bytes[used..], MOST) {
        used += length;
        if matches!(frame.first >> 4, 2 | 9 | 11 | 13) {
            return Some(used);
        }
    }
    None
}

fn frames(bytes: &[u8]) -> Vec<Frame<'_>> {
    let (mut frames, mut used) = (Vec::new(), 0);
    while let Ok(Some((frame, length))) = engine::frame(&bytes[used..], usize::MAX) {
        used += length;
        frames.push(frame);
    }
    frames
}

/// Types in order; identifiers the server makes differ from run to run.
fn kinds(bytes: &[u8]) -> Vec<u8> {
    frames(bytes).iter().map(|frame| frame.first).collect()
}
