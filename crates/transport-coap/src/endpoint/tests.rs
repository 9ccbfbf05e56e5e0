//! The endpoint under simulated time, read back by another codec.

use std::sync::Arc;

use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType};
use proptest::prelude::*;

use super::wire::{Outbox, Route, code};
use super::{Ask, Endpoint, Watch, What};
use crate::config::{Config, Limits};
use crate::reply::Reply;
use crate::stats::Stats;

struct Sim {
    endpoint: Endpoint,
    out: Outbox,
    now: u64,
}

fn sim() -> Sim {
    with(|_| {})
}

fn with(change: impl FnOnce(&mut Config)) -> Sim {
    let mut config = Config { dedup_entries: 10_000, ..Config::default() };
    change(&mut config);
    let limits = Limits { payload_bytes: 2000, auth_failures_per_address: 3, ..Limits::default() };
    let endpoint = Endpoint::new(&config, &limits, 1, [7; 32], 42, Arc::<Stats>::default());
    Sim { endpoint, out: Outbox::default(), now: 1_000_000 }
}

fn peer(who: u8) -> Route {
    Route { peer: ([192, 0, 2, who], 40_000).into(), local: None, interface: 0 }
}

fn request(method: RequestType, kind: MessageType, id: u16, path: &[&str]) -> Packet {
    let mut packet = Packet::new();
    packet.header.set_type(kind);
    packet.header.code = MessageClass::Request(method);
    packet.header.message_id = id;
    packet.set_token(vec![id as u8, 9]);
    for segment in path {
        packet.add_option(CoapOption::UriPath, segment.as_bytes().to_vec());
    }
    packet
}

const CLAIM: [&str; 4] = ["api", "v1", "TOKEN", "claim"];

fn claim(id: u16) -> Packet {
    let mut packet = request(RequestType::Post, MessageType::Confirmable, id, &CLAIM);
    packet.payload = br#"{"secretKey":"s"}"#.to_vec();
    packet
}

fn get(id: u16) -> Packet {
    request(RequestType::Get, MessageType::Confirmable, id, &CLAIM)
}

impl Sim {
    fn send(&mut self, route: Route, packet: &Packet) -> Option<Ask> {
        self.raw(route, &packet.to_bytes().expect("a packet"))
    }

    fn raw(&mut self, route: Route, bytes: &[u8]) -> Option<Ask> {
        self.endpoint.receive(self.now, route, bytes, false, &mut self.out)
    }

    /// What has been sent since the last look.
    fn said(&mut self) -> Vec<Packet> {
        let said = self.out.iter().map(|(_, bytes)| Packet::from_bytes(bytes).expect("CoAP")).collect();
        self.out.clear();
        said
    }

    fn one(&mut self) -> Packet {
        let mut said = self.said();
        assert_eq!(said.len(), 1, "{said:?}");
        said.remove(0)
    }

    fn pass(&mut self, ms: u64) {
        self.now += ms;
        self.endpoint.expire(self.now, &mut self.out);
    }

    fn answer(&mut self, ask: &Ask, reply: Reply) -> Option<u64> {
        let observe = ask.what == What::State { observe: true };
        self.endpoint.answer(self.now, ask.exchange, reply, observe, &mut self.out)
    }

    /// A peer that has answered an Echo challenge.
    fn proven(&mut self, who: u8) -> Route {
        let route = peer(who);
        let value = self.endpoint.echo(route.peer, self.now / super::proof::ECHO_BUCKET);
        let mut packet = request(RequestType::Get, MessageType::Confirmable, 64_000 + u16::from(who), &["nothing"]);
        packet.add_option(CoapOption::Unknown(252), value.to_vec());
        assert!(self.send(route, &packet).is_none());
        assert_eq!(code_of(&self.one()), code::NOT_FOUND);
        route
    }

    /// A request that is answered at once.
    fn refused(&mut self, route: Route, packet: &Packet) -> Packet {
        assert_eq!(self.send(route, packet), None);
        self.one()
    }
}

fn code_of(packet: &Packet) -> u8 {
    u8::from(packet.header.code)
}

fn kind(packet: &Packet) -> MessageType {
    packet.header.get_type()
}

fn empty(kind: MessageType, id: u16) -> Packet {
    let mut packet = Packet::new();
    packet.header.set_type(kind);
    packet.header.code = MessageClass::Empty;
    packet.header.message_id = id;
    packet
}

#[test]
fn a_claim_is_asked_once_and_acknowledged_with_its_response() {
    let mut sim = sim();
    let ask = sim.send(peer(1), &claim(7)).expect("a request");
    assert_eq!((ask.access_token.as_str(), ask.proven), ("TOKEN", false));
    assert_eq!(ask.what, What::Submit(br#"{"secretKey":"s"}"#.to_vec()));
    assert_eq!(sim.said().len(), 0, "nothing before it is recorded");
    // A duplicate while it runs: an empty ACK, no second run.
    assert_eq!(sim.send(peer(1), &claim(7)), None);
    let ack = sim.one();
    assert_eq!((code_of(&ack), ack.header.message_id, ack.get_token().len()), (0, 7, 0));
    sim.answer(&ask, Reply::of(code::CREATED));
    let bytes: Vec<u8> = sim.out.iter().next().expect("a response").1.to_vec();
    let response = sim.one();
    assert_eq!(
        (kind(&response), code_of(&response), response.header.message_id),
        (MessageType::Acknowledgement, code::CREATED, 7)
    );
    assert_eq!((response.get_token(), response.payload.len()), (&[7, 9][..], 0));
    // The same bytes for each duplicate, until its lifetime is over; then it is a new request.
    for wait in [0, 100_000, 146_000] {
        sim.pass(wait);
        assert_eq!(sim.send(peer(1), &claim(7)), None);
        assert_eq!(sim.out.iter().next().expect("a response").1, bytes);
        sim.said();
    }
    sim.pass(1_000);
    assert!(sim.send(peer(1), &claim(7)).is_some());
    // Another peer's 7 is another message.
    assert!(sim.send(peer(2), &claim(7)).is_some());
}

#[test]
fn a_slow_claim_is_acknowledged_first_and_answered_by_itself() {
    let mut sim = sim();
    let ask = sim.send(peer(1), &claim(7)).expect("a request");
    assert_eq!(sim.endpoint.next_timeout(), Some(sim.now + 500));
    sim.pass(499);
    assert_eq!(sim.said().len(), 0);
    sim.pass(1);
    assert_eq!((kind(&sim.out_peek()), sim.one().header.message_id), (MessageType::Acknowledgement, 7));
    sim.answer(&ask, Reply::of(code::CREATED));
    let response = sim.one();
    assert_eq!(
        (kind(&response), code_of(&response), response.get_token()),
        (MessageType::Confirmable, code::CREATED, &[7, 9][..])
    );
    assert!(response.header.message_id < super::IDS);
    // Sent again until acknowledged, five times in all, with the same id.
    let due = sim.endpoint.next_timeout().expect("a timer");
    assert!((2000..=3000).contains(&(due - sim.now)));
    sim.pass(due - sim.now);
    assert_eq!(sim.one().header.message_id, response.header.message_id);
    sim.send(peer(1), &empty(MessageType::Acknowledgement, response.header.message_id));
    sim.pass(100_000);
    assert_eq!(sim.said().len(), 0);
    // A late duplicate gets the empty ACK that the request got.
    sim.send(peer(1), &claim(7));
    assert_eq!(code_of(&sim.one()), 0);
}

impl Sim {
    fn out_peek(&self) -> Packet {
        Packet::from_bytes(self.out.iter().next().expect("something").1).expect("CoAP")
    }
}

#[test]
fn a_request_that_the_domain_does_not_answer_gets_5_03() {
    let mut sim = sim();
    let ask = sim.send(peer(1), &claim(7)).expect("a request");
    sim.pass(500);
    sim.said();
    sim.pass(1500);
    let response = sim.one();
    assert_eq!((code_of(&response), kind(&response)), (code::UNAVAILABLE, MessageType::Confirmable));
    assert_eq!(sim.endpoint.open(), 0);
    sim.answer(&ask, Reply::of(code::CREATED));
    assert_eq!(sim.said().len(), 0, "too late");
}

#[test]
fn a_non_confirmable_claim_is_answered_likewise_with_an_id_of_ours() {
    let mut sim = sim();
    let mut packet = claim(65_001);
    packet.header.set_type(MessageType::NonConfirmable);
    let ask = sim.send(peer(1), &packet).expect("a request");
    assert_eq!(sim.send(peer(1), &packet), None);
    assert_eq!(sim.said().len(), 0);
    sim.answer(&ask, Reply::of(code::CREATED));
    let response = sim.one();
    assert_eq!((kind(&response), code_of(&response)), (MessageType::NonConfirmable, code::CREATED));
    assert!(response.header.message_id < super::IDS);
    sim.pass(145_000);
    assert!(sim.send(peer(1), &packet).is_some(), "its lifetime is shorter");
}

#[test]
fn pings_resets_and_strangers_are_handled_as_the_rfc_says() {
    let mut sim = sim();
    sim.send(peer(1), &empty(MessageType::Confirmable, 5));
    let pong = sim.one();
    assert_eq!((kind(&pong), pong.header.message_id), (MessageType::Reset, 5));
    for silent in [MessageType::NonConfirmable, MessageType::Acknowledgement, MessageType::Reset] {
        sim.send(peer(1), &empty(silent, 5));
        assert_eq!(sim.said().len(), 0);
    }
    // A response that nobody asked for.
    sim.raw(peer(1), b"\x40\x45\x00\x05");
    assert_eq!(kind(&sim.one()), MessageType::Reset);
    // A request in an ACK.
    sim.raw(peer(1), b"\x60\x01\x00\x05");
    assert_eq!(sim.said().len(), 0);
    // A format error.
    sim.raw(peer(1), b"\x40\x01\x00\x05\xff");
    assert_eq!(kind(&sim.one()), MessageType::Reset);
}

#[test]
fn what_cannot_be_done_has_its_code() {
    let mut sim = sim();
    let post = |path: &[&str]| request(RequestType::Post, MessageType::Confirmable, 1, path);
    let with_option = |number: u16, value: &[u8]| {
        let mut packet = claim(1);
        packet.add_option(CoapOption::from(number), value.to_vec());
        packet
    };
    let mut bad_accept = get(1);
    bad_accept.add_option(CoapOption::Accept, vec![60]);
    let cases = [
        ("path", post(&["api", "v1", "TOKEN", "telemetry"]), code::NOT_FOUND),
        ("dots", post(&["api", "v1", "..", "claim"]), code::BAD_REQUEST),
        ("method", request(RequestType::Put, MessageType::Confirmable, 1, &CLAIM), code::METHOD_NOT_ALLOWED),
        ("discovery by POST", post(&[".well-known", "core"]), code::METHOD_NOT_ALLOWED),
        ("critical option", with_option(9, b"x"), code::BAD_OPTION),
        ("proxy", with_option(35, b"coap://x"), code::PROXYING_NOT_SUPPORTED),
        ("format", with_option(12, b"\x3c"), code::UNSUPPORTED_FORMAT),
        ("format above 255", with_option(12, b"\x2d\x16"), code::UNSUPPORTED_FORMAT),
        ("accept", bad_accept, code::NOT_ACCEPTABLE),
        ("size", with_option(60, &2001_u16.to_be_bytes()), code::TOO_LARGE),
    ];
    for (at, (what, mut packet, expected)) in cases.into_iter().enumerate() {
        packet.header.message_id = at as u16 + 100;
        assert_eq!(code_of(&sim.refused(peer(1), &packet)), expected, "{what}");
    }
    for (at, known) in [&b""[..], b"\x2a", b"\x32"].into_iter().enumerate() {
        let mut packet = with_option(12, known);
        packet.header.message_id = at as u16 + 200;
        assert!(sim.send(peer(1), &packet).is_some());
    }
    // A non-confirmable message with an unknown critical option is rejected, not answered.
    let mut packet = with_option(9, b"x");
    packet.header.set_type(MessageType::NonConfirmable);
    assert_eq!(kind(&sim.refused(peer(1), &packet)), MessageType::Reset);
    // Cut off by the socket.
    let bytes = claim(300).to_bytes().expect("a packet");
    assert!(sim.endpoint.receive(sim.now, peer(1), &bytes, true, &mut sim.out).is_none());
    assert_eq!(code_of(&sim.one()), code::TOO_LARGE);
}

#[test]
fn a_body_in_blocks_needs_a_proven_peer_and_becomes_one_request() {
    let mut sim = sim();
    let block = |id: u16, number: u8, more: bool, tag: Option<&[u8]>| {
        let mut packet = claim(id);
        packet.payload = vec![b'a' + number; if more { 64 } else { 5 }];
        packet.add_option(CoapOption::Block1, vec![number << 4 | u8::from(more) << 3 | 2]);
        if let Some(tag) = tag {
            packet.add_option(CoapOption::Unknown(292), tag.to_vec());
        }
        packet
    };
    let challenged = sim.refused(peer(1), &block(1, 0, true, None));
    assert_eq!(code_of(&challenged), code::UNAUTHORIZED);
    assert!(challenged.get_first_option(CoapOption::Unknown(252)).is_some());
    let route = sim.proven(1);
    for (id, number) in [(2, 0), (3, 1)] {
        let said = sim.refused(route, &block(id, number, true, None));
        assert_eq!(code_of(&said), code::CONTINUE);
        assert_eq!(said.get_first_option(CoapOption::Block1), Some(&vec![number << 4 | 8 | 2]));
        // Its duplicate is answered alike, not taken twice.
        let bytes = said.to_bytes().expect("a packet");
        assert_eq!(sim.refused(route, &block(id, number, true, None)).to_bytes().expect("a packet"), bytes);
    }
    // Another tag is another body; an empty one is not an absent one.
    for (id, tag) in [(4, &b"x"[..]), (5, b"")] {
        assert_eq!(code_of(&sim.refused(route, &block(id, 2, false, Some(tag)))), code::INCOMPLETE);
    }
    let ask = sim.send(route, &block(6, 2, false, None)).expect("a request");
    let What::Submit(body) = &ask.what else { panic!("a claim") };
    assert_eq!(body.len(), 64 + 64 + 5);
    sim.answer(&ask, Reply::of(code::CREATED));
    let said = sim.one();
    assert_eq!((code_of(&said), said.get_first_option(CoapOption::Block1)), (code::CREATED, Some(&vec![2 << 4 | 2])));
    // A pause ends a transfer.
    assert_eq!(code_of(&sim.refused(route, &block(7, 0, true, None))), code::CONTINUE);
    sim.pass(30_000);
    sim.pass(30_000);
    assert_eq!(code_of(&sim.refused(route, &block(8, 1, true, None))), code::INCOMPLETE);
}

#[test]
fn who_has_proven_nothing_gets_little_and_a_way_to_prove_it() {
    let mut sim = sim();
    let discovery = |id: u16| request(RequestType::Get, MessageType::Confirmable, id, &[".well-known", "core"]);
    let challenged = sim.refused(peer(1), &discovery(1));
    let echo = challenged.get_first_option(CoapOption::Unknown(252)).expect("an Echo").clone();
    let mut proof = discovery(2);
    proof.add_option(CoapOption::Unknown(252), echo);
    let links = sim.refused(peer(1), &proof);
    assert_eq!(code_of(&links), code::CONTENT);
    assert!(links.payload.starts_with(b"</api/v1"));
    // From then on without.
    assert_eq!(code_of(&sim.refused(peer(1), &discovery(3))), code::CONTENT);
    // Somebody else's value is worth nothing, nor is an old one.
    proof.header.message_id = 4;
    assert_eq!(code_of(&sim.refused(peer(2), &proof)), code::UNAUTHORIZED);
    sim.pass(400_000);
    proof.header.message_id = 5;
    assert_eq!(code_of(&sim.refused(peer(1), &proof)), code::UNAUTHORIZED);
}

#[test]
fn discovery_comes_in_blocks_if_asked() {
    let mut sim = sim();
    let route = sim.proven(1);
    let mut whole = Vec::new();
    for number in 0..20_u8 {
        let mut packet =
            request(RequestType::Get, MessageType::Confirmable, u16::from(number), &[".well-known", "core"]);
        packet.add_option(CoapOption::Block2, vec![number << 4 | 1]);
        let said = sim.refused(route, &packet);
        assert_eq!(code_of(&said), code::CONTENT);
        whole.extend_from_slice(&said.payload);
        let block = said.get_first_option(CoapOption::Block2).expect("a block").clone();
        if block.last().is_none_or(|last| last & 8 == 0) {
            assert_eq!(whole, crate::resource::links(&[]).as_bytes());
            return;
        }
    }
    panic!("it never ends");
}

#[test]
fn wrong_tokens_from_nowhere_make_the_address_prove_itself() {
    let mut sim = sim();
    for id in 0..3 {
        let ask = sim.send(peer(1), &claim(id)).expect("a request");
        sim.answer(&ask, Reply::of(code::UNAUTHORIZED));
        sim.endpoint.refused_credential(ask.peer, sim.now);
        sim.said();
    }
    assert!(sim.refused(peer(1), &claim(10)).get_first_option(CoapOption::Unknown(252)).is_some());
    assert!(sim.send(peer(2), &claim(10)).is_some(), "others are not asked");
    let route = sim.proven(1);
    assert!(sim.send(route, &claim(11)).is_some());
    sim.pass(400_000);
    assert!(sim.send(route, &claim(12)).is_some(), "a minute later it is forgotten");
}

#[test]
fn open_requests_are_bounded() {
    let mut sim = with(|config| config.exchanges_per_peer = 2);
    let route = sim.proven(1);
    for who in [route, peer(2)] {
        for id in 0..2 {
            assert!(sim.send(who, &claim(id)).is_some());
        }
    }
    assert_eq!(code_of(&sim.refused(route, &claim(3))), code::UNAVAILABLE);
    assert_eq!(sim.send(peer(2), &claim(3)), None);
    assert_eq!(sim.said().len(), 0, "silence for who has proven nothing");
}

#[test]
fn responses_that_are_not_wanted_are_not_sent() {
    let mut sim = sim();
    let quiet = |id: u16, kind: MessageType, classes: u8| {
        let mut packet = claim(id);
        packet.header.set_type(kind);
        packet.add_option(CoapOption::Unknown(258), vec![classes]);
        packet
    };
    for (id, kind, sent) in [(1, MessageType::Confirmable, 1), (2, MessageType::NonConfirmable, 0)] {
        let ask = sim.send(peer(1), &quiet(id, kind, 2)).expect("a request");
        sim.answer(&ask, Reply::of(code::CREATED));
        let said = sim.said();
        assert_eq!(said.len(), sent);
        assert!(said.iter().all(|ack| code_of(ack) == 0));
        let ask = sim.send(peer(1), &quiet(id + 10, kind, 2)).expect("a request");
        sim.answer(&ask, Reply::of(code::FORBIDDEN));
        assert_eq!(code_of(&sim.one()), code::FORBIDDEN, "only what was named");
    }
}

fn observed(sim: &mut Sim, route: Route, id: u16, value: u8) -> Option<Ask> {
    let mut packet = get(id);
    packet.set_token(vec![0xaa]);
    packet.add_option(CoapOption::Observe, if value == 0 { vec![] } else { vec![value] });
    sim.send(route, &packet)
}

fn state(text: &'static str) -> Reply {
    Reply::saying(code::CONTENT, text)
}

#[test]
fn an_observer_is_told_until_it_is_gone() {
    let mut sim = sim();
    let route = sim.proven(1);
    let ask = observed(&mut sim, route, 2, 0).expect("a request");
    let watch = sim.answer(&ask, state("NONE")).expect("an observation");
    let first = sim.one();
    assert_eq!(first.get_first_option(CoapOption::Observe), Some(&vec![1]));
    sim.endpoint.notify(sim.now, watch, state("PENDING"), false, &mut sim.out);
    let note = sim.one();
    assert_eq!(
        (kind(&note), note.get_token(), &note.payload[..]),
        (MessageType::Confirmable, &[0xaa][..], &b"PENDING"[..])
    );
    assert_eq!(note.get_first_option(CoapOption::Observe), Some(&vec![2]));
    // News while the first is on its way waits, and only the newest of it.
    sim.endpoint.notify(sim.now, watch, state("NONE"), false, &mut sim.out);
    sim.endpoint.notify(sim.now, watch, state("CLAIMED"), false, &mut sim.out);
    assert_eq!(sim.said().len(), 0);
    sim.send(route, &empty(MessageType::Acknowledgement, note.header.message_id));
    let newest = sim.one();
    assert_eq!(&newest.payload[..], b"CLAIMED");
    // A reset ends it.
    sim.send(route, &empty(MessageType::Reset, newest.header.message_id));
    assert_eq!(sim.endpoint.watches().collect::<Vec<_>>(), [Watch::Ended(watch)]);
    sim.endpoint.notify(sim.now, watch, state("NONE"), false, &mut sim.out);
    assert_eq!(sim.said().len(), 0);
}

#[test]
fn an_observer_that_has_proven_nothing_shows_itself_by_its_ack() {
    let mut sim = sim();
    for (id, answers) in [(1, true), (2, false)] {
        let route = peer(id as u8);
        let ask = observed(&mut sim, route, id, 0).expect("a request");
        let watch = sim.answer(&ask, state(r#"{"claimState":"NONE"}"#)).expect("an observation");
        let said = sim.said();
        assert_eq!((code_of(&said[0]), kind(&said[0])), (0, MessageType::Acknowledgement));
        assert_eq!((code_of(&said[1]), kind(&said[1])), (code::CONTENT, MessageType::Confirmable));
        assert!(said[1].get_first_option(CoapOption::Observe).is_some());
        if answers {
            sim.send(route, &empty(MessageType::Acknowledgement, said[1].header.message_id));
            assert_eq!(sim.endpoint.watches().count(), 0);
            // From now on it is where it says it is.
            let ask = sim.send(route, &claim(50)).expect("a request");
            assert!(ask.proven);
            sim.answer(&ask, Reply::of(code::CREATED));
            sim.said();
        } else {
            let mut bytes = 0;
            while let Some(due) = sim.endpoint.next_timeout().filter(|due| *due < sim.now + 3_600_000) {
                sim.pass(due - sim.now);
                bytes += sim.out.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
                sim.said();
            }
            assert_eq!(sim.endpoint.watches().collect::<Vec<_>>(), [Watch::Ended(watch)]);
            let first: usize = said.iter().map(|packet| packet.to_bytes().expect("a packet").len()).sum();
            assert!(bytes + first <= 3 * get(9).to_bytes().expect("a packet").len(), "{bytes} {first}");
        }
    }
}

#[test]
fn an_observation_ends_on_request_by_silence_and_by_the_last_word() {
    let mut sim = sim();
    let route = sim.proven(1);
    let begin = |sim: &mut Sim, id| {
        let ask = observed(sim, route, id, 0).expect("a request");
        let watch = sim.answer(&ask, state("NONE")).expect("an observation");
        sim.said();
        watch
    };
    let first = begin(&mut sim, 1);
    assert_eq!(begin(&mut sim, 2), first, "the same token is the same observation");
    let plain = observed(&mut sim, route, 3, 1).expect("a request");
    assert_eq!(sim.answer(&plain, state("NONE")), None);
    sim.said();
    assert_eq!(sim.endpoint.watches().collect::<Vec<_>>(), [Watch::Ended(first)]);
    let second = begin(&mut sim, 4);
    sim.endpoint.notify(sim.now, second, state("PENDING"), false, &mut sim.out);
    for _ in 0..5 {
        assert_eq!(sim.said().len(), 1);
        let due = sim.endpoint.next_timeout().expect("a timer");
        sim.pass(due - sim.now);
    }
    assert_eq!(sim.endpoint.watches().collect::<Vec<_>>(), [Watch::Ended(second)]);
    let route = sim.proven(2);
    let ask = observed(&mut sim, route, 5, 0).expect("a request");
    let third = sim.answer(&ask, state("NONE")).expect("an observation");
    sim.said();
    sim.pass(24 * 3600 * 1000);
    assert_eq!(sim.endpoint.watches().collect::<Vec<_>>(), [Watch::Refresh(third)]);
    sim.endpoint.notify(sim.now, third, Reply::of(code::UNAUTHORIZED), true, &mut sim.out);
    assert!(sim.one().get_first_option(CoapOption::Observe).is_none());
    assert_eq!(sim.endpoint.watches().collect::<Vec<_>>(), [Watch::Ended(third)]);
}

#[test]
fn observations_are_bounded_and_one_too_many_gets_a_plain_answer() {
    let mut sim = with(|config| config.observations_per_peer = 1);
    let route = sim.proven(1);
    for (token, watched) in [(1, true), (2, false)] {
        let mut packet = get(token);
        packet.set_token(vec![token as u8]);
        packet.add_option(CoapOption::Observe, vec![]);
        let ask = sim.send(route, &packet).expect("a request");
        assert_eq!(sim.answer(&ask, state("NONE")).is_some(), watched);
        assert_eq!(sim.one().get_first_option(CoapOption::Observe).is_some(), watched);
    }
}

#[test]
fn a_draining_endpoint_says_come_again_and_finishes() {
    let mut sim = sim();
    let ask = sim.send(peer(1), &claim(1)).expect("a request");
    sim.endpoint.drain();
    let refused = sim.refused(peer(1), &claim(2));
    assert_eq!(code_of(&refused), code::UNAVAILABLE);
    assert!(refused.get_first_option(CoapOption::MaxAge).is_some());
    sim.answer(&ask, Reply::of(code::CREATED));
    assert_eq!((code_of(&sim.one()), sim.endpoint.open()), (code::CREATED, 0));
}

#[test]
fn a_short_message_with_the_id_of_a_long_one_does_not_bring_the_long_answer() {
    let mut sim = sim();
    let mut long = request(RequestType::Get, MessageType::Confirmable, 7, &[".well-known", "core"]);
    long.add_option(CoapOption::UriQuery, vec![b'q'; 200]);
    sim.endpoint.receive(sim.now, peer(1), &long.to_bytes().unwrap(), false, &mut sim.out);
    assert!(sim.out.iter().next().is_some(), "the long one is answered");
    sim.out.clear();
    sim.endpoint.receive(sim.now, peer(1), b"\x40\x01\x00\x07", false, &mut sim.out);
    let sent: Vec<&[u8]> = sim.out.iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(sent, [b"\x60\x00\x00\x07"], "an empty ACK");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_life_keeps_the_promises(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        crate::fuzzing::life(&bytes, |sent| assert!(Packet::from_bytes(sent).is_ok()));
    }

    #[test]
    fn a_life_of_nearly_good_requests_keeps_the_promises(
        steps in prop::collection::vec((0_u8..8, any::<u8>(), 0_u16..6, prop::option::of((0_u16..300, prop::collection::vec(any::<u8>(), 0..4)))), 0..60)
    ) {
        let mut bytes = Vec::new();
        for (what, who, id, option) in steps {
            let mut packet = if id % 2 == 0 { claim(id) } else { get(id) };
            packet.payload.truncate(8);
            if let Some((number, value)) = option {
                packet.add_option(CoapOption::from(number), value);
            }
            let datagram = packet.to_bytes().expect("a packet");
            bytes.push(what);
            if what < 5 {
                bytes.push(who & 3 | (datagram.len() as u8 & 0x7c));
                // The length is rounded down to what the byte can say; a cut message is a case too.
                bytes.extend_from_slice(&datagram[..usize::from((who & 3 | (datagram.len() as u8 & 0x7c)) & 0x7f).min(datagram.len())]);
            } else {
                bytes.push(who);
            }
        }
        crate::fuzzing::life(&bytes, |sent| assert!(Packet::from_bytes(sent).is_ok()));
    }
}
