//! One request and its response: how the response leaves, how much of it, and what its duplicates get.

use std::sync::atomic::Ordering::Relaxed;

use super::outgoing::Purpose;
use super::request::Block;
use super::wire::{Kind, Outbox, Route, Token, code};
use super::{Endpoint, Seen, dress, how, write};
use crate::reply::Reply;

/// Where a request came from and how it is to be answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) route: Route,
    pub(super) peer: u64,
    pub(super) kind: Kind,
    pub(super) message_id: u16,
    pub(super) token: Token,
    /// Its key among the messages seen.
    pub(super) key: u64,
    /// Its length, bytes.
    pub(super) received: usize,
    /// Whether the peer has shown that it receives at its address.
    pub(super) proven: bool,
    /// Classes of responses that are not wanted (RFC 7967).
    pub(super) no_response: u8,
    /// Whether an empty ACK has gone out.
    pub(super) acked: bool,
}

/// A request that is being run.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) origin: Origin,
    pub(super) block1: Option<Block>,
}

impl Origin {
    fn wants(&self, code: u8) -> bool {
        let bit = match code >> 5 {
            2 => 2,
            4 => 8,
            5 => 16,
            _ => 0,
        };
        self.no_response & bit == 0
    }
}

impl Endpoint {
    /// Sends a response within what its peer may be sent, and remembers it for duplicates.
    pub(super) fn respond(&mut self, now: u64, origin: &Origin, reply: Reply, out: &mut Outbox) {
        if !origin.wants(reply.code) {
            self.remember(now, origin.key, how::ACKED, 0, None);
            if origin.kind == Kind::Confirmable && !origin.acked {
                self.acknowledge(origin, out);
            }
            return;
        }
        let (kind, message_id) = match origin.kind {
            Kind::Confirmable if !origin.acked => (Kind::Acknowledgement, origin.message_id),
            Kind::Confirmable => (Kind::Confirmable, self.next_id(origin.peer)),
            _ => (Kind::NonConfirmable, self.next_id(origin.peer)),
        };
        let reply = self.within(now, origin, reply, out);
        let Some(reply) = reply else {
            // Not even the challenge fits: an empty ACK is no larger than any request.
            self.stats.silences.fetch_add(1, Relaxed);
            if kind == Kind::Acknowledgement {
                self.acknowledge(origin, out);
            }
            return;
        };
        if kind == Kind::Confirmable {
            // Its duplicates get the empty ACK that the request got.
            let bytes = write(out, kind, message_id, &origin.token, &reply);
            self.confirmable(
                now,
                origin.peer,
                origin.route,
                message_id,
                bytes,
                Purpose::Response,
                self.bounds.repeats,
                out,
            );
            return;
        }
        let message = dress(out.message(kind, reply.code, message_id, &origin.token), &reply);
        let plain = Reply { code: reply.code, max_age: reply.max_age, ..Reply::default() };
        let whole = (reply != plain || reply.max_age.is_some_and(|age| age > u32::from(u16::MAX)))
            .then(|| message.bytes().into());
        message.send(origin.route);
        let (how, code) = if whole.is_some() { (how::WHOLE, 0) } else { (how::SHORT, reply.code) };
        self.remember(now, origin.key, how, code, reply.max_age);
        if let Some(bytes) = whole {
            self.whole.insert(origin.key, bytes, now);
        }
    }

    /// Answers an observer that has proven nothing with a confirmable message: its ACK is the proof (RFC 7641 §7), and without
    /// one the observation ends. Stock clients know no Echo. It is sent again only as often as its bytes allow.
    pub(super) fn introduce(&mut self, now: u64, origin: &Origin, observation: u64, reply: &Reply, out: &mut Outbox) {
        let message_id = self.next_id(origin.peer);
        let bytes = write(out, Kind::Confirmable, message_id, &origin.token, reply);
        let ack = if origin.kind == Kind::Confirmable && !origin.acked { 4 } else { 0 };
        let times = (origin.received * self.bounds.ratio).saturating_sub(ack) / bytes.len().max(1);
        let Some(repeats) = times.checked_sub(1) else {
            self.end(observation);
            return self.respond(now, origin, self.challenge(origin.route.peer, now), out);
        };
        self.remember(now, origin.key, how::ACKED, 0, None);
        if ack > 0 {
            self.acknowledge(origin, out);
        }
        let repeats = u8::try_from(repeats).unwrap_or(u8::MAX).min(self.bounds.repeats);
        let purpose = Purpose::Notification(observation);
        if !self.confirmable(now, origin.peer, origin.route, message_id, bytes, purpose, repeats, out) {
            self.end(observation);
        }
    }

    /// The reply as it may be sent: all of it to a proven peer; else at most a few times what it sent. A body gives way to a
    /// challenge (RFC 9175 §2.4), a diagnostic text to nothing.
    fn within(&self, now: u64, origin: &Origin, reply: Reply, out: &mut Outbox) -> Option<Reply> {
        let fits = |reply: &Reply, out: &mut Outbox| {
            let message = dress(out.message(Kind::Acknowledgement, reply.code, 0, &origin.token), reply);
            let length = message.len();
            message.discard();
            length <= origin.received * self.bounds.ratio
        };
        if origin.proven || fits(&reply, out) {
            return Some(reply);
        }
        let smaller = match reply.code {
            code::CONTENT => self.challenge(origin.route.peer, now),
            _ => Reply { payload: Default::default(), ..reply },
        };
        fits(&smaller, out).then_some(smaller)
    }

    fn acknowledge(&self, origin: &Origin, out: &mut Outbox) {
        out.message(Kind::Acknowledgement, code::EMPTY, origin.message_id, &Token::EMPTY).send(origin.route);
    }

    pub(super) fn remember(&mut self, now: u64, key: u64, how: u8, code: u8, max_age: Option<u32>) {
        let at = u32::try_from(now / 1000).unwrap_or(u32::MAX);
        // Zero is "none": no short reply has a Max-Age of 0.
        let max_age = max_age.and_then(|age| u16::try_from(age).ok()).unwrap_or(0);
        self.seen.insert(key, Seen { at, max_age, how, code }, now);
    }

    /// Answers a duplicate as the first was answered (RFC 7252 §4.5).
    pub(super) fn repeat(&mut self, origin: &Origin, seen: Seen, out: &mut Outbox) {
        let confirmable = origin.kind == Kind::Confirmable;
        match seen.how {
            how::SHORT => {
                let max_age = (seen.max_age > 0).then_some(u32::from(seen.max_age));
                let reply = Reply { code: seen.code, max_age, ..Reply::default() };
                let (kind, message_id) = match confirmable {
                    true => (Kind::Acknowledgement, origin.message_id),
                    false => (Kind::NonConfirmable, self.next_id(origin.peer)),
                };
                dress(out.message(kind, reply.code, message_id, &origin.token), &reply).send(origin.route);
            }
            how::WHOLE => match self.whole.get(origin.key) {
                // Whoever spoofs an address could have sent a long message once, and then short ones with its id.
                Some(bytes) if origin.proven || bytes.len() <= origin.received * self.bounds.ratio => {
                    out.push(origin.route, bytes);
                }
                Some(_) => {
                    self.stats.silences.fetch_add(1, Relaxed);
                    if confirmable {
                        self.acknowledge(origin, out);
                    }
                }
                None if confirmable => self.acknowledge(origin, out),
                None => {}
            },
            _ if confirmable => self.acknowledge(origin, out),
            _ => {}
        }
    }
}
