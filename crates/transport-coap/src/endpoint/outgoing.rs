//! Confirmable messages of our own: sent again until acknowledged, one at a time to each peer (RFC 7252 §4.2, §4.7, §4.8).

use std::collections::{HashMap, VecDeque};

use ahash::RandomState;

use super::wire::Route;

/// What a message belongs to, told when its fate is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// The separate response of an exchange.
    Response,
    /// A notification of this observation.
    Notification(u64),
}

/// A message on its way.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) route: Route,
    pub(crate) message_id: u16,
    pub(crate) bytes: Box<[u8]>,
    pub(crate) purpose: Purpose,
    /// How often it may be sent again.
    pub(crate) repeats: u8,
}

struct Queue {
    current: Outgoing,
    attempt: u8,
    timeout: u64,
    due: u64,
    waiting: VecDeque<Outgoing>,
}

/// What became due.
pub(crate) enum Due {
    /// Send these bytes again.
    Again,
    /// The peer does not answer; the message is given up.
    GaveUp(Purpose),
}

pub(crate) struct OutgoingQueues {
    ack_timeout: u64,
    per_peer: usize,
    queues: HashMap<u64, Queue, RandomState>,
}

impl OutgoingQueues {
    pub(crate) fn new(ack_timeout: u64, per_peer: usize) -> Self {
        Self { ack_timeout, per_peer: per_peer.max(1), queues: HashMap::default() }
    }

    /// Takes a message; `Ok(Some(due))` when it is to be sent now and watched until then, `Ok(None)` when it waits its turn.
    /// A notification takes the place of an older one of its observation that has not left yet. `Err`: the peer's
    /// queue is full.
    pub(crate) fn push(&mut self, peer: u64, message: Outgoing, jitter: u8, now: u64) -> Result<Option<u64>, Outgoing> {
        let Some(queue) = self.queues.get_mut(&peer) else {
            // ACK_TIMEOUT times 1 to 1.5.
            let timeout = self.ack_timeout + self.ack_timeout * u64::from(jitter) / 512;
            let due = now + timeout;
            self.queues.insert(peer, Queue { current: message, attempt: 0, timeout, due, waiting: VecDeque::new() });
            return Ok(Some(due));
        };
        if let Purpose::Notification(_) = message.purpose
            && let Some(older) = queue.waiting.iter_mut().find(|older| older.purpose == message.purpose)
        {
            *older = message;
            return Ok(None);
        }
        if queue.waiting.len() >= self.per_peer {
            return Err(message);
        }
        queue.waiting.push_back(message);
        Ok(None)
    }

    /// The message that a peer is being sent.
    pub(crate) fn current(&self, peer: u64) -> Option<&Outgoing> {
        self.queues.get(&peer).map(|queue| &queue.current)
    }

    /// The peer answered `message_id` (ACK or RST): what that was, and when the next one in its queue, which is to be sent
    /// now, becomes due.
    pub(crate) fn answered(
        &mut self,
        peer: u64,
        message_id: u16,
        jitter: u8,
        now: u64,
    ) -> Option<(Purpose, Option<u64>)> {
        let queue = self.queues.get(&peer).filter(|queue| queue.current.message_id == message_id)?;
        let purpose = queue.current.purpose;
        Some((purpose, self.next(peer, jitter, now)))
    }

    fn next(&mut self, peer: u64, jitter: u8, now: u64) -> Option<u64> {
        let queue = self.queues.get_mut(&peer)?;
        match queue.waiting.pop_front() {
            Some(message) => {
                queue.timeout = self.ack_timeout + self.ack_timeout * u64::from(jitter) / 512;
                queue.attempt = 0;
                queue.due = now + queue.timeout;
                queue.current = message;
                Some(queue.due)
            }
            None => {
                self.queues.remove(&peer);
                None
            }
        }
    }

    /// What is to be done for a peer whose timer rang; `None` when the timer is out of date. The second value is when to ring
    /// again, if something is under way; after [`Due::GaveUp`] that is the next message, to be sent now.
    pub(crate) fn due(&mut self, peer: u64, jitter: u8, now: u64) -> Option<(Due, Option<u64>)> {
        let queue = self.queues.get_mut(&peer).filter(|queue| queue.due <= now)?;
        if queue.attempt >= queue.current.repeats {
            let purpose = queue.current.purpose;
            return Some((Due::GaveUp(purpose), self.next(peer, jitter, now)));
        }
        queue.attempt += 1;
        queue.timeout = queue.timeout.saturating_mul(2);
        queue.due = now + queue.timeout;
        Some((Due::Again, Some(queue.due)))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.queues.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(message_id: u16, purpose: Purpose) -> Outgoing {
        let route = Route { peer: "192.0.2.1:5683".parse().expect("an address"), local: None, interface: 0 };
        Outgoing { route, message_id, bytes: Box::default(), purpose, repeats: 4 }
    }

    #[test]
    fn a_message_is_sent_five_times_with_doubling_waits_and_then_given_up() {
        let mut queues = OutgoingQueues::new(2000, 10);
        assert_eq!(queues.push(1, message(7, Purpose::Response), 0, 0).expect("room"), Some(2000));
        let mut due = 2000;
        for wait in [4000, 8000, 16_000, 32_000] {
            let Some((Due::Again, Some(next))) = queues.due(1, 0, due) else { panic!("again") };
            assert_eq!(next, due + wait);
            due = next;
        }
        assert!(queues.due(1, 0, due - 1).is_none(), "too early");
        assert!(matches!(queues.due(1, 0, due), Some((Due::GaveUp(Purpose::Response), None))));
        assert_eq!(queues.len(), 0);
    }

    #[test]
    fn one_at_a_time_and_only_the_newest_of_an_observation_waits() {
        let mut queues = OutgoingQueues::new(2000, 2);
        let note = Purpose::Notification(5);
        assert!(queues.push(1, message(1, note), 255, 0).expect("room").is_some_and(|due| (2990..3000).contains(&due)));
        assert_eq!(queues.push(1, message(2, note), 0, 0).expect("room"), None);
        assert_eq!(queues.push(1, message(3, note), 0, 0).expect("room"), None, "takes the place of 2");
        assert_eq!(queues.push(1, message(4, Purpose::Response), 0, 0).expect("room"), None);
        assert!(queues.push(1, message(5, Purpose::Response), 0, 0).is_err(), "full");
        assert!(queues.answered(1, 9, 0, 0).is_none(), "not what was sent");
        assert_eq!(queues.answered(1, 1, 0, 100), Some((note, Some(2100))));
        assert_eq!(queues.current(1).map(|current| current.message_id), Some(3));
        assert_eq!(queues.answered(1, 3, 0, 200), Some((note, Some(2200))));
        assert_eq!(queues.answered(1, 4, 0, 300), Some((Purpose::Response, None)));
        assert_eq!(queues.len(), 0);
    }
}
