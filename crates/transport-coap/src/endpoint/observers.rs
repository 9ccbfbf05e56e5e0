//! Who is told when a claim state changes (RFC 7641).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use ahash::RandomState;

use super::wire::{Route, Token};
use crate::stats::Stats;

struct Observation {
    peer: u64,
    route: Route,
    token: Token,
    sequence: u32,
    refresh: u64,
}

/// What a notification needs.
pub(super) struct Told {
    pub(super) peer: u64,
    pub(super) route: Route,
    pub(super) token: Token,
    pub(super) sequence: u32,
}

pub(super) struct Observers {
    most: usize,
    per_peer: usize,
    refresh: u64,
    stats: Arc<Stats>,
    next: u64,
    open: HashMap<u64, Observation, RandomState>,
    by_token: HashMap<(u64, Token), u64, RandomState>,
    of_peer: HashMap<u64, usize, RandomState>,
}

impl Observers {
    pub(super) fn new(most: usize, per_peer: usize, refresh: u64, stats: Arc<Stats>) -> Self {
        Self {
            most,
            per_peer,
            refresh,
            stats,
            next: 0,
            open: HashMap::default(),
            by_token: HashMap::default(),
            of_peer: HashMap::default(),
        }
    }

    /// (id, sequence number of the response, when to ask for a sign of life). `None`: no room, so the response is a plain
    /// one (§4.1). The same token again is the same observation.
    pub(super) fn add(&mut self, peer: u64, route: Route, token: Token, now: u64) -> Option<(u64, u32, u64)> {
        let refresh = now + self.refresh;
        if let Some(id) = self.find(peer, &token) {
            let observation = self.open.get_mut(&id)?;
            observation.sequence = (observation.sequence + 1) & 0xff_ffff;
            observation.refresh = refresh;
            return Some((id, observation.sequence, refresh));
        }
        let mine = self.of_peer.entry(peer).or_default();
        if self.open.len() >= self.most || *mine >= self.per_peer {
            if *mine == 0 {
                self.of_peer.remove(&peer);
            }
            return None;
        }
        *mine += 1;
        let id = self.next;
        self.next += 1;
        self.open.insert(id, Observation { peer, route, token, sequence: 1, refresh });
        self.by_token.insert((peer, token), id);
        self.stats.observations.fetch_add(1, Relaxed);
        Some((id, 1, refresh))
    }

    pub(super) fn find(&self, peer: u64, token: &Token) -> Option<u64> {
        self.by_token.get(&(peer, *token)).copied()
    }

    /// The next notification of an observation.
    pub(super) fn next(&mut self, id: u64) -> Option<Told> {
        let observation = self.open.get_mut(&id)?;
        observation.sequence = (observation.sequence + 1) & 0xff_ffff;
        let Observation { peer, route, token, sequence, .. } = *observation;
        Some(Told { peer, route, token, sequence })
    }

    /// The observer acknowledged; when to ask again.
    pub(super) fn heard(&mut self, id: u64, now: u64) -> Option<u64> {
        let observation = self.open.get_mut(&id)?;
        observation.refresh = now + self.refresh;
        Some(observation.refresh)
    }

    pub(super) fn refresh_due(&self, id: u64, now: u64) -> bool {
        self.open.get(&id).is_some_and(|observation| observation.refresh <= now)
    }

    pub(super) fn remove(&mut self, id: u64) -> bool {
        let Some(gone) = self.open.remove(&id) else { return false };
        self.by_token.remove(&(gone.peer, gone.token));
        self.stats.observations.fetch_sub(1, Relaxed);
        if let Some(mine) = self.of_peer.get_mut(&gone.peer) {
            *mine -= 1;
            if *mine == 0 {
                self.of_peer.remove(&gone.peer);
            }
        }
        true
    }
}
