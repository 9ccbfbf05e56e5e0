//! The CoAP protocol without sockets and without a clock: datagrams in, datagrams and requests out.
//!
//! The twelve duties of a server, each where it is done: framing in `precheck.rs`, options in `request.rs`, de-duplication
//! and amplification here, block-wise bodies in `blocks.rs`, own confirmable messages in `outgoing.rs`, bytes in
//! `wire.rs`. `now` is milliseconds of any clock that does not go back.
//!
//! `coap_lite::Packet` is not on this path: the strict look at the raw bytes walks every option anyway, and a second
//! reading into a map of lists would allocate for each. It is the other codec in the tests, and the simulator's.

mod blocks;
mod exchange;
mod fading;
mod observers;
mod outgoing;
pub(crate) mod precheck;
mod proof;
pub(crate) mod request;
#[cfg(test)]
mod tests;
mod upkeep;
pub(crate) mod wire;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use ahash::RandomState;

use crate::config::{Config, ContentFormats, Limits};
use crate::reply::{self, Reply};
use crate::resource::{self, Resource};
use crate::stats::Stats;
use blocks::{Taken, Transfers};
use exchange::{Exchange, Origin};
use fading::Fading;
use observers::Observers;
use outgoing::{OutgoingQueues, Purpose};
use precheck::{Head, Rejected};
use request::{Block, Request};
use wire::{Kind, Outbox, Route, Token, code, option};

/// EXCHANGE_LIFETIME and NON_LIFETIME with the default parameters (RFC 7252 §4.8.2), milliseconds.
const EXCHANGE_LIFETIME: u64 = 247_000;
const NON_LIFETIME: u64 = 145_000;
/// Own message ids stay below: common stacks keep the rest for multicast.
const IDS: u16 = 65_000;
const MINUTE: u64 = 60_000;

/// A request for the domain.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) exchange: u64,
    pub(crate) access_token: String,
    pub(crate) peer: IpAddr,
    /// Whether the peer has shown that it receives at its address.
    pub(crate) proven: bool,
    pub(crate) what: What,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A claim with this body.
    Submit(Vec<u8>),
    /// The claim state; watched from now on if `observe`.
    State { observe: bool },
}

/// What happened to an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// It is no more.
    Ended(u64),
    /// Its observer has heard nothing for long: it is to be told the state again.
    Refresh(u64),
}

/// How a message was answered, for its duplicates. Eight bytes: there are millions.
#[derive(Clone, Copy)]
struct Seen {
    at: u32,
    max_age: u16,
    how: u8,
    code: u8,
}

/// `Seen::how`.
mod how {
    /// The handler runs, or the response went by itself: an empty ACK.
    pub(super) const ACKED: u8 = 0;
    /// `code` and `max_age`, nothing else.
    pub(super) const SHORT: u8 = 1;
    /// The bytes are kept beside.
    pub(super) const WHOLE: u8 = 2;
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A peer's outgoing message.
    Peer(u64),
    /// An observer is to be asked for a sign of life.
    Refresh(u64),
    /// Transfers may have paused too long.
    Transfers,
}

/// Bounds, in the endpoint's units.
struct Bounds {
    ratio: usize,
    validated_for: u64,
    exchanges: usize,
    exchanges_per_peer: u32,
    payload: usize,
    piggyback: u64,
    patience: u64,
    refusals: u32,
    repeats: u8,
    any_format: bool,
}

/// One socket's endpoint. A peer always meets the same one, so nothing here is shared.
pub(crate) struct Endpoint {
    bounds: Bounds,
    hasher: RandomState,
    echo_key: [u8; 32],
    stats: Arc<Stats>,
    seen: Fading<Seen>,
    whole: Fading<Box<[u8]>>,
    validated: Fading<u64>,
    refusals: Fading<(u64, u32)>,
    ids: [u16; 64],
    random: u64,
    exchanges: HashMap<u64, Exchange, RandomState>,
    of_peer: HashMap<u64, u32, RandomState>,
    next_exchange: u64,
    /// When a request is acknowledged without its response, and when it is given up; both in the order of arrival.
    unanswered: VecDeque<(u64, u64)>,
    overdue: VecDeque<(u64, u64)>,
    transfers: Transfers,
    outgoing: OutgoingQueues,
    observers: Observers,
    timers: BinaryHeap<Reverse<(u64, Timer)>>,
    transfers_timed: bool,
    watches: Vec<Watch>,
    reached: Vec<&'static str>,
    draining: bool,
}

fn ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Endpoint {
    /// One of `share` endpoints that divide the bounds of `config`. `seed` makes ids and waits differ from start to start.
    pub(crate) fn new(
        config: &Config,
        limits: &Limits,
        share: usize,
        echo_key: [u8; 32],
        seed: u64,
        stats: Arc<Stats>,
    ) -> Self {
        let part = |all: usize| all.div_ceil(share.max(1)).max(1);
        let mut random = seed | 1;
        let ids = std::array::from_fn(|_| (next(&mut random) % u64::from(IDS)) as u16);
        Self {
            bounds: Bounds {
                ratio: config.unvalidated_ratio,
                validated_for: ms(config.validated_for),
                exchanges: part(config.exchanges),
                exchanges_per_peer: u32::try_from(config.exchanges_per_peer).unwrap_or(u32::MAX),
                payload: limits.payload_bytes,
                piggyback: ms(config.piggyback_within),
                patience: ms(limits.store_timeout),
                refusals: limits.auth_failures_per_address,
                repeats: config.max_retransmit,
                any_format: config.content_format == ContentFormats::Any,
            },
            hasher: RandomState::new(),
            echo_key,
            seen: Fading::new(part(config.dedup_entries), EXCHANGE_LIFETIME),
            whole: Fading::new(part(config.dedup_entries / 16), EXCHANGE_LIFETIME),
            validated: Fading::new(part(config.validated_peers), ms(config.validated_for)),
            refusals: Fading::new(part(config.validated_peers), MINUTE),
            ids,
            random,
            exchanges: HashMap::default(),
            of_peer: HashMap::default(),
            next_exchange: 0,
            unanswered: VecDeque::new(),
            overdue: VecDeque::new(),
            transfers: Transfers::new(blocks::Bounds {
                body: limits.payload_bytes,
                all: part(config.block_bytes),
                per_peer: config.block_transfers_per_peer,
                idle: ms(config.block_idle),
            }),
            outgoing: OutgoingQueues::new(ms(config.ack_timeout), config.exchanges_per_peer),
            observers: Observers::new(
                part(config.observations),
                config.observations_per_peer,
                ms(config.observe_refresh),
                Arc::clone(&stats),
            ),
            timers: BinaryHeap::new(),
            transfers_timed: false,
            watches: Vec::new(),
            reached: Vec::new(),
            draining: false,
            stats,
        }
    }

    /// From now on new requests are told to come again.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    /// Requests under way.
    pub(crate) fn open(&self) -> usize {
        self.exchanges.len()
    }

    /// Bytes of bodies that have not arrived whole.
    pub(crate) fn block_bytes(&self) -> usize {
        self.transfers.bytes()
    }

    /// Limits that were met since the last call, by configuration key.
    pub(crate) fn reached(&mut self) -> std::vec::Drain<'_, &'static str> {
        self.reached.drain(..)
    }

    /// What happened to observations since the last call.
    pub(crate) fn watches(&mut self) -> std::vec::Drain<'_, Watch> {
        self.watches.drain(..)
    }

    /// Takes one datagram; `cut` when the socket had more bytes than the buffer.
    pub(crate) fn receive(&mut self, now: u64, route: Route, bytes: &[u8], cut: bool, out: &mut Outbox) -> Option<Ask> {
        let checked = if cut { precheck::check_head(bytes) } else { precheck::check(bytes) };
        let head = match checked {
            Ok(head) => head,
            Err(rejected) => {
                self.stats.malformed.fetch_add(1, Relaxed);
                if let Rejected::Reset(message_id) = rejected {
                    out.message(Kind::Reset, code::EMPTY, message_id, &Token::EMPTY).send(route);
                }
                return None;
            }
        };
        let peer = self.hasher.hash_one(route.peer);
        match (head.code, head.kind) {
            // A ping (§4.3).
            (code::EMPTY, Kind::Confirmable) => reset(route, head.message_id, out),
            (code::EMPTY, Kind::Acknowledgement) => self.answered(now, peer, head.message_id, false, out),
            (code::EMPTY, Kind::Reset) => self.answered(now, peer, head.message_id, true, out),
            (code::EMPTY, Kind::NonConfirmable) => {}
            (_, Kind::Confirmable | Kind::NonConfirmable) if head.class() == 0 => {
                return self.request(now, peer, route, head, bytes, cut, out);
            }
            // A response, and we asked nothing.
            (_, Kind::Confirmable) => reset(route, head.message_id, out),
            _ => {
                self.stats.malformed.fetch_add(1, Relaxed);
            }
        }
        None
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one datagram")]
    fn request(
        &mut self,
        now: u64,
        peer: u64,
        route: Route,
        head: Head,
        bytes: &[u8],
        cut: bool,
        out: &mut Outbox,
    ) -> Option<Ask> {
        let key = self.hasher.hash_one((route.peer, route.local, head.message_id));
        let mut origin = Origin {
            route,
            peer,
            kind: head.kind,
            message_id: head.message_id,
            token: head.token,
            key,
            received: bytes.len(),
            proven: self.validated.get(peer).is_some_and(|until| now < *until),
            no_response: 0,
            acked: false,
        };
        if let Some(seen) = self.seen.get(key).copied()
            && seen_recently(seen, head.kind, now)
        {
            self.stats.duplicates.fetch_add(1, Relaxed);
            self.repeat(&origin, seen, out);
            return None;
        }
        if cut {
            let reply = self.too_large();
            self.respond(now, &origin, reply, out);
            return None;
        }
        let token_end = 4 + head.token.as_bytes().len();
        let request = match Request::read(&bytes[token_end..]) {
            Ok(request) => request,
            Err(refused) => {
                match head.kind {
                    // A non-confirmable message with such an option is rejected, not answered (§5.4.1, §4.3).
                    Kind::NonConfirmable => reset(route, head.message_id, out),
                    _ => self.respond(now, &origin, Reply::of(refused.0), out),
                }
                return None;
            }
        };
        origin.no_response = request.no_response;
        if request.echo.is_some_and(|echo| self.echo_is_good(echo, route.peer, now)) {
            origin.proven = true;
            self.validated.insert(peer, now + self.bounds.validated_for, now);
        }
        match self.meaning(now, &origin, &request, head.code) {
            Ok((what, access_token)) => self.ask(now, origin, what, access_token, &request, out),
            Err(reply) => {
                self.respond(now, &origin, reply, out);
                None
            }
        }
    }

    /// What a request asks for, or what it is answered with at once.
    fn meaning(
        &mut self,
        now: u64,
        origin: &Origin,
        request: &Request<'_>,
        method: u8,
    ) -> Result<(What, String), Reply> {
        if self.draining {
            return Err(reply::come_again());
        }
        let resource = resource::parse(request.segments(), request.path_too_long()).map_err(Reply::of)?;
        let access_token = match (resource, method) {
            (Resource::Discovery, code::GET) => return Err(self.discovery(request)),
            (Resource::Claim { token }, code::GET | code::POST) => token.to_owned(),
            _ => return Err(Reply::of(code::METHOD_NOT_ALLOWED)),
        };
        if !origin.proven && self.must_prove(origin.route.peer.ip(), now) {
            return Err(self.challenge(origin.route.peer, now));
        }
        if method == code::GET {
            if request.accept.is_some_and(|format| format != wire::format::JSON) {
                return Err(Reply::of(code::NOT_ACCEPTABLE));
            }
            if request.observe == Some(1) {
                self.unobserve(origin);
            }
            return Ok((What::State { observe: request.observe == Some(0) }, access_token));
        }
        let known_format = matches!(request.content_format, None | Some(0 | 42 | wire::format::JSON));
        if !known_format && !self.bounds.any_format {
            return Err(Reply::of(code::UNSUPPORTED_FORMAT));
        }
        let body = self.body(now, origin, request)?;
        Ok((What::Submit(body), access_token))
    }

    /// The whole body, or what its block is answered with.
    fn body(&mut self, now: u64, origin: &Origin, request: &Request<'_>) -> Result<Vec<u8>, Reply> {
        let declared = request.size1.map_or(0, |size| size as usize);
        if request.payload.len().max(declared) > self.bounds.payload {
            return Err(self.too_large());
        }
        let Some(block) = request.block1.filter(|block| block.number > 0 || block.more) else {
            return Ok(request.payload.to_vec());
        };
        if !origin.proven {
            return Err(self.challenge(origin.route.peer, now));
        }
        let key = self.hasher.hash_one((origin.peer, origin.route.local, request.segments(), request.request_tag));
        let reply = match self.transfers.take(key, origin.peer, block, request.payload, now) {
            Taken::Whole(body) => return Ok(body),
            Taken::Continue => {
                if !self.transfers_timed
                    && let Some(due) = self.transfers.next_timeout(now)
                {
                    self.transfers_timed = true;
                    self.timers.push(Reverse((due, Timer::Transfers)));
                }
                Reply::of(code::CONTINUE)
            }
            Taken::Missing => Reply::of(code::INCOMPLETE),
            Taken::Bad => return Err(Reply::of(code::BAD_REQUEST)),
            Taken::TooLarge => self.too_large(),
            Taken::NoRoom => {
                self.reached.push("coap.block_bytes");
                reply::come_again()
            }
        };
        Err(Reply { block1: Some(block), ..reply })
    }

    fn ask(
        &mut self,
        now: u64,
        origin: Origin,
        what: What,
        access_token: String,
        request: &Request<'_>,
        out: &mut Outbox,
    ) -> Option<Ask> {
        let mine = self.of_peer.get(&origin.peer).copied().unwrap_or(0);
        if self.exchanges.len() >= self.bounds.exchanges || mine >= self.bounds.exchanges_per_peer {
            self.stats.overloads.fetch_add(1, Relaxed);
            let all = self.exchanges.len() >= self.bounds.exchanges;
            self.reached.push(if all { "coap.exchanges" } else { "coap.exchanges_per_peer" });
            if origin.proven {
                self.respond(now, &origin, reply::come_again(), out);
            } else {
                self.stats.silences.fetch_add(1, Relaxed);
            }
            return None;
        }
        let exchange = self.next_exchange;
        self.next_exchange += 1;
        self.of_peer.insert(origin.peer, mine + 1);
        self.remember(now, origin.key, how::ACKED, 0, None);
        if origin.kind == Kind::Confirmable {
            self.unanswered.push_back((now + self.bounds.piggyback, exchange));
        }
        self.overdue.push_back((now + self.bounds.patience, exchange));
        let ask = Ask { exchange, access_token, peer: origin.route.peer.ip(), proven: origin.proven, what };
        // The last block's response names it (RFC 7959 §2.3).
        let block1 = request.block1;
        self.exchanges.insert(exchange, Exchange { origin, block1 });
        Some(ask)
    }

    /// Sends the response of a request. With `observe` its peer is told of changes from now on: the observation's id.
    pub(crate) fn answer(
        &mut self,
        now: u64,
        exchange: u64,
        mut reply: Reply,
        observe: bool,
        out: &mut Outbox,
    ) -> Option<u64> {
        let Exchange { origin, block1 } = self.close(exchange)?;
        reply.block1 = reply.block1.or(block1.map(|block| Block { more: false, ..block }));
        let mut observation = None;
        if observe
            && let Some((id, sequence, refresh)) = self.observers.add(origin.peer, origin.route, origin.token, now)
        {
            reply.observe = Some(sequence);
            observation = Some(id);
            self.timers.push(Reverse((refresh, Timer::Refresh(id))));
        }
        match observation {
            Some(id) if !origin.proven => self.introduce(now, &origin, id, &reply, out),
            _ => self.respond(now, &origin, reply, out),
        }
        observation
    }

    fn close(&mut self, exchange: u64) -> Option<Exchange> {
        let closed = self.exchanges.remove(&exchange)?;
        if let Some(mine) = self.of_peer.get_mut(&closed.origin.peer) {
            *mine -= 1;
            if *mine == 0 {
                self.of_peer.remove(&closed.origin.peer);
            }
        }
        Some(closed)
    }

    /// Tells an observer; with `last` the observation ends.
    pub(crate) fn notify(&mut self, now: u64, observation: u64, mut reply: Reply, last: bool, out: &mut Outbox) {
        let Some(told) = self.observers.next(observation) else { return };
        if !last {
            reply.observe = Some(told.sequence);
        }
        // Always confirmable: each is news that its observer should not miss, and shows that it is still there.
        let purpose = Purpose::Notification(observation);
        let message_id = self.next_id(told.peer);
        let bytes = write(out, Kind::Confirmable, message_id, &told.token, &reply);
        let sent = self.confirmable(now, told.peer, told.route, message_id, bytes, purpose, self.bounds.repeats, out);
        if last || !sent {
            self.end(observation);
        }
    }

    fn end(&mut self, observation: u64) {
        if self.observers.remove(observation) {
            self.watches.push(Watch::Ended(observation));
        }
    }

    fn unobserve(&mut self, origin: &Origin) {
        if let Some(id) = self.observers.find(origin.peer, &origin.token) {
            self.end(id);
        }
    }

    fn discovery(&self, request: &Request<'_>) -> Reply {
        if request.accept.is_some_and(|format| format != wire::format::LINK_FORMAT) {
            return Reply::of(code::NOT_ACCEPTABLE);
        }
        let links = resource::links(request.queries()).as_bytes();
        let mut reply = Reply {
            payload: Cow::Borrowed(links),
            format: Some(wire::format::LINK_FORMAT),
            etag: Some((links.len() as u64).to_be_bytes()),
            ..Reply::of(code::CONTENT)
        };
        if let Some(block) = request.block2 {
            let (Some(size), Some(offset)) = (block.size(), block.offset()) else {
                return Reply::of(code::BAD_REQUEST);
            };
            if offset > links.len() || (offset == links.len() && offset > 0) {
                return Reply::of(code::BAD_REQUEST);
            }
            let end = links.len().min(offset + size);
            reply.payload = Cow::Borrowed(&links[offset..end]);
            reply.block2 = Some(Block { more: end < links.len(), ..block });
        }
        reply
    }

    fn too_large(&mut self) -> Reply {
        self.reached.push("payload_bytes");
        let most = u32::try_from(self.bounds.payload).unwrap_or(u32::MAX);
        let hint = Block { number: 0, more: false, szx: 6 };
        Reply { size1: Some(most), block1: Some(hint), ..Reply::of(code::TOO_LARGE) }
    }

    /// The next message id of ours towards a peer.
    fn next_id(&mut self, peer: u64) -> u16 {
        let id = &mut self.ids[(peer % 64) as usize];
        *id = (*id + 1) % IDS;
        *id
    }
}

fn reset(route: Route, message_id: u16, out: &mut Outbox) {
    out.message(Kind::Reset, code::EMPTY, message_id, &Token::EMPTY).send(route);
}

fn seen_recently(seen: Seen, kind: Kind, now: u64) -> bool {
    let life = if kind == Kind::NonConfirmable { NON_LIFETIME } else { EXCHANGE_LIFETIME };
    now.saturating_sub(u64::from(seen.at) * 1000) < life
}

/// Writes a message and takes it out again, to be kept and sent more than once.
fn write(out: &mut Outbox, kind: Kind, message_id: u16, token: &Token, reply: &Reply) -> Box<[u8]> {
    let message = dress(out.message(kind, reply.code, message_id, token), reply);
    let bytes = message.bytes().into();
    message.discard();
    bytes
}

/// Options in the order of their numbers, then the payload.
fn dress<'a>(message: wire::Message<'a>, reply: &Reply) -> wire::Message<'a> {
    let mut message = message;
    if let Some(etag) = &reply.etag {
        message = message.option(option::ETAG, etag);
    }
    message = message
        .uint_if(option::OBSERVE, reply.observe)
        .uint_if(option::CONTENT_FORMAT, reply.format)
        .uint_if(option::MAX_AGE, reply.max_age)
        .uint_if(option::BLOCK2, reply.block2.map(Block::value))
        .uint_if(option::BLOCK1, reply.block1.map(Block::value))
        .uint_if(option::SIZE1, reply.size1);
    if let Some(echo) = &reply.echo {
        message = message.option(option::ECHO, echo);
    }
    message.payload(&reply.payload)
}

/// xorshift: ids and waits must differ, not be secret.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
