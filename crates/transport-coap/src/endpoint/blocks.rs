//! Bodies that arrive in blocks (RFC 7959 Block1 with RFC 9175's Request-Tag): strictly in order, bounded, forgotten when
//! they pause too long.

use std::collections::HashMap;

use ahash::RandomState;

use super::request::Block;

/// Bounds of transfers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Bytes of one whole body.
    pub(crate) body: usize,
    /// Bytes of all unfinished bodies.
    pub(crate) all: usize,
    /// Transfers of one peer.
    pub(crate) per_peer: usize,
    /// Longest pause, milliseconds.
    pub(crate) idle: u64,
}

/// What a block did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// More is to come: 2.31.
    Continue,
    /// That was the last one; the body.
    Whole(Vec<u8>),
    /// A piece is missing before this one: 4.08.
    Missing,
    /// Not a block: the reserved size, or a middle block that is not full: 4.00.
    Bad,
    /// The body is too long: 4.13.
    TooLarge,
    /// No room for another transfer: 5.03.
    NoRoom,
}

struct Transfer {
    peer: u64,
    body: Vec<u8>,
    touched: u64,
}

pub(crate) struct Transfers {
    bounds: Bounds,
    open: HashMap<u64, Transfer, RandomState>,
    of_peer: HashMap<u64, usize, RandomState>,
    bytes: usize,
}

impl Transfers {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, open: HashMap::default(), of_peer: HashMap::default(), bytes: 0 }
    }

    /// Takes one block of the transfer `key` of `peer`.
    pub(crate) fn take(&mut self, key: u64, peer: u64, block: Block, payload: &[u8], now: u64) -> Taken {
        let (Some(size), Some(offset)) = (block.size(), block.offset()) else { return Taken::Bad };
        if payload.len() > size || (block.more && payload.len() < size) {
            return Taken::Bad;
        }
        if block.number == 0 {
            // Begins anew, whatever was there.
            self.forget(key);
        }
        if offset + payload.len() > self.bounds.body {
            self.forget(key);
            return Taken::TooLarge;
        }
        let held = self.open.get(&key).map_or(0, |transfer| transfer.body.len());
        if offset != held || (block.number > 0 && held == 0) {
            return Taken::Missing;
        }
        if !block.more {
            let mut body = self.forget(key).map_or_else(Vec::new, |transfer| transfer.body);
            body.extend_from_slice(payload);
            return Taken::Whole(body);
        }
        if self.bytes + payload.len() > self.bounds.all {
            self.forget(key);
            return Taken::NoRoom;
        }
        if block.number == 0 {
            let mine = self.of_peer.entry(peer).or_default();
            if *mine >= self.bounds.per_peer {
                return Taken::NoRoom;
            }
            *mine += 1;
            self.open.insert(key, Transfer { peer, body: Vec::new(), touched: now });
        }
        if let Some(transfer) = self.open.get_mut(&key) {
            transfer.body.extend_from_slice(payload);
            transfer.touched = now;
            self.bytes += payload.len();
        }
        Taken::Continue
    }

    fn forget(&mut self, key: u64) -> Option<Transfer> {
        let transfer = self.open.remove(&key)?;
        self.bytes -= transfer.body.len();
        if let Some(mine) = self.of_peer.get_mut(&transfer.peer) {
            *mine -= 1;
            if *mine == 0 {
                self.of_peer.remove(&transfer.peer);
            }
        }
        Some(transfer)
    }

    /// Forgets what has paused too long. Looks at all; there are few, since each costs its peer a proof of its address.
    pub(crate) fn expire(&mut self, now: u64) {
        let gone: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, transfer)| now.saturating_sub(transfer.touched) >= self.bounds.idle)
            .map(|(key, _)| *key)
            .collect();
        for key in gone {
            self.forget(key);
        }
    }

    /// When [`Transfers::expire`] is worth calling again.
    pub(crate) fn next_timeout(&self, now: u64) -> Option<u64> {
        (!self.open.is_empty()).then(|| now + self.bounds.idle)
    }

    /// Bytes of all unfinished bodies.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { body: 100, all: 128, per_peer: 2, idle: 30 };

    fn block(number: u32, more: bool) -> Block {
        Block { number, more, szx: 0 }
    }

    #[test]
    fn a_body_is_put_together_in_order_and_leaves_nothing_behind() {
        let mut transfers = Transfers::new(BOUNDS);
        assert_eq!(transfers.take(1, 9, block(0, true), &[b'a'; 16], 0), Taken::Continue);
        assert_eq!(transfers.take(1, 9, block(1, true), &[b'b'; 16], 0), Taken::Continue);
        let Taken::Whole(body) = transfers.take(1, 9, block(2, false), b"c", 0) else { panic!("whole") };
        assert_eq!(body, [&[b'a'; 16][..], &[b'b'; 16], b"c"].concat());
        assert_eq!((transfers.bytes(), transfers.open.len(), transfers.of_peer.len()), (0, 0, 0));
    }

    #[test]
    fn gaps_repeats_and_strange_sizes_are_refused_and_zero_begins_anew() {
        let mut transfers = Transfers::new(BOUNDS);
        assert_eq!(transfers.take(1, 9, block(1, true), &[0; 16], 0), Taken::Missing);
        assert_eq!(transfers.take(1, 9, block(0, true), &[0; 16], 0), Taken::Continue);
        assert_eq!(transfers.take(1, 9, block(2, true), &[0; 16], 0), Taken::Missing);
        assert_eq!(transfers.take(1, 9, block(1, true), &[0; 15], 0), Taken::Bad);
        assert_eq!(transfers.take(1, 9, Block { number: 0, more: true, szx: 7 }, &[0; 16], 0), Taken::Bad);
        assert_eq!(transfers.take(1, 9, block(0, true), &[1; 16], 0), Taken::Continue);
        // A later block may be smaller in exponent as long as it fits the offset.
        assert_eq!(transfers.take(1, 9, block(1, false), b"", 0), Taken::Whole(vec![1; 16]));
    }

    #[test]
    fn every_bound_holds() {
        let mut transfers = Transfers::new(BOUNDS);
        for number in 0..6 {
            assert_eq!(transfers.take(1, 9, block(number, true), &[0; 16], 0), Taken::Continue);
        }
        assert_eq!(transfers.take(1, 9, block(6, true), &[0; 16], 0), Taken::TooLarge);
        assert_eq!(transfers.bytes(), 0);
        assert_eq!(transfers.take(1, 9, block(0, true), &[0; 16], 0), Taken::Continue);
        assert_eq!(transfers.take(2, 9, block(0, true), &[0; 16], 0), Taken::Continue);
        assert_eq!(transfers.take(3, 9, block(0, true), &[0; 16], 0), Taken::NoRoom, "a peer's third");
        for key in 10..16 {
            assert_eq!(transfers.take(key, key, block(0, true), &[0; 16], 0), Taken::Continue);
        }
        assert_eq!(transfers.take(16, 16, block(0, true), &[0; 16], 0), Taken::NoRoom, "all bytes are taken");
        assert_eq!(transfers.bytes(), 128);
        transfers.expire(29);
        assert_eq!(transfers.bytes(), 128);
        transfers.expire(30);
        assert_eq!((transfers.bytes(), transfers.of_peer.len()), (0, 0));
    }
}
