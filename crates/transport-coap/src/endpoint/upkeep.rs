//! What happens without a request: acknowledgements of our own messages, retransmissions, time-outs.

use std::cmp::Reverse;
use std::sync::atomic::Ordering::Relaxed;

use super::exchange::Origin;
use super::outgoing::{Due, Outgoing, Purpose};
use super::wire::{Kind, Outbox, Route, Token, code};
use super::{Endpoint, Timer, Watch, next};
use crate::reply;

impl Endpoint {
    /// A peer answered a confirmable message of ours.
    pub(super) fn answered(&mut self, now: u64, peer: u64, message_id: u16, reset: bool, out: &mut Outbox) {
        let jitter = next(&mut self.random) as u8;
        let Some((purpose, due)) = self.outgoing.answered(peer, message_id, jitter, now) else { return };
        // Our message reached it: it is where it says it is.
        self.validated.insert(peer, now + self.bounds.validated_for, now);
        if let Purpose::Notification(observation) = purpose {
            if reset {
                self.end(observation);
            } else if let Some(refresh) = self.observers.heard(observation, now) {
                self.timers.push(Reverse((refresh, Timer::Refresh(observation))));
            }
        }
        self.send_current(peer, due, out);
    }

    pub(super) fn send_current(&mut self, peer: u64, due: Option<u64>, out: &mut Outbox) {
        let Some(due) = due else { return };
        self.timers.push(Reverse((due, Timer::Peer(peer))));
        if let Some(message) = self.outgoing.current(peer) {
            out.push(message.route, &message.bytes);
        }
    }

    /// Sends a confirmable message of our own, or puts it behind the one under way.
    #[expect(clippy::too_many_arguments, reason = "the parts of one message")]
    pub(super) fn confirmable(
        &mut self,
        now: u64,
        peer: u64,
        route: Route,
        message_id: u16,
        bytes: Box<[u8]>,
        purpose: Purpose,
        repeats: u8,
        out: &mut Outbox,
    ) -> bool {
        let jitter = next(&mut self.random) as u8;
        match self.outgoing.push(peer, Outgoing { route, message_id, bytes, purpose, repeats }, jitter, now) {
            Ok(due) => {
                self.send_current(peer, due, out);
                true
            }
            Err(_) => false,
        }
    }

    /// Does what has become due.
    pub(crate) fn expire(&mut self, now: u64, out: &mut Outbox) {
        while let Some((due, exchange)) = self.unanswered.front().copied() {
            if due > now {
                break;
            }
            self.unanswered.pop_front();
            if let Some(open) = self.exchanges.get_mut(&exchange) {
                open.origin.acked = true;
                let Origin { route, message_id, .. } = open.origin;
                out.message(Kind::Acknowledgement, code::EMPTY, message_id, &Token::EMPTY).send(route);
            }
        }
        while let Some((due, exchange)) = self.overdue.front().copied() {
            if due > now {
                break;
            }
            self.overdue.pop_front();
            if self.exchanges.contains_key(&exchange) {
                let _ = self.answer(now, exchange, reply::unavailable(), false, out);
            }
        }
        while let Some(Reverse((due, timer))) = self.timers.peek().copied() {
            if due > now {
                break;
            }
            self.timers.pop();
            self.rung(now, timer, out);
        }
    }

    pub(super) fn rung(&mut self, now: u64, timer: Timer, out: &mut Outbox) {
        match timer {
            Timer::Peer(peer) => {
                let jitter = next(&mut self.random) as u8;
                match self.outgoing.due(peer, jitter, now) {
                    Some((Due::Again, due)) => {
                        self.stats.retransmits.fetch_add(1, Relaxed);
                        self.send_current(peer, due, out);
                    }
                    Some((Due::GaveUp(purpose), due)) => {
                        if let Purpose::Notification(observation) = purpose {
                            self.end(observation);
                        }
                        self.send_current(peer, due, out);
                    }
                    None => {}
                }
            }
            Timer::Refresh(observation) => {
                if self.observers.refresh_due(observation, now) {
                    self.watches.push(Watch::Refresh(observation));
                }
            }
            Timer::Transfers => {
                self.transfers.expire(now);
                self.transfers_timed = false;
                if let Some(due) = self.transfers.next_timeout(now) {
                    self.transfers_timed = true;
                    self.timers.push(Reverse((due, Timer::Transfers)));
                }
            }
        }
    }

    /// When [`Endpoint::expire`] has something to do.
    pub(crate) fn next_timeout(&mut self) -> Option<u64> {
        for queue in [&mut self.unanswered, &mut self.overdue] {
            while queue.front().is_some_and(|(_, exchange)| !self.exchanges.contains_key(exchange)) {
                queue.pop_front();
            }
        }
        let queues = [&self.unanswered, &self.overdue].into_iter().filter_map(|queue| Some(queue.front()?.0));
        queues.chain(self.timers.peek().map(|Reverse((due, _))| *due)).min()
    }
}
