//! A hasher that fills the map's shards unevenly, the fullest with twice as much as the emptiest.
//!
//! A shard's table doubles when it is full. Shards of the same size would all double at the same number of claims, and
//! just behind that the whole map would be half empty: up to 2.3 times an entry's bytes. Spread over one doubling, some
//! shard doubles all the time, and a claim costs the same 1.65 times whatever their number.

use std::hash::{BuildHasher, Hasher};

use ahash::RandomState;

/// dashmap takes the shard from the bits below the seven highest, which hashbrown needs; hashbrown's place in the shard
/// comes from the lowest.
const SHARD_FROM: u32 = 57;
/// Bits that decide the shard: as many as are not needed for the place in it.
const BITS: u32 = 32;
const FIELD: u64 = ((1 << BITS) - 1) << (SHARD_FROM - BITS);

/// See the module's head. Keyed, for device ids come from outside.
#[derive(Clone, Default)]
pub(crate) struct Uneven(RandomState);

impl BuildHasher for Uneven {
    type Hasher = UnevenHasher<<RandomState as BuildHasher>::Hasher>;

    fn build_hasher(&self) -> Self::Hasher {
        UnevenHasher(self.0.build_hasher())
    }
}

pub(crate) struct UnevenHasher<H>(H);

impl<H: Hasher> Hasher for UnevenHasher<H> {
    fn finish(&self) -> u64 {
        uneven(self.0.finish())
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    fn write_u128(&mut self, number: u128) {
        self.0.write_u128(number);
    }
}

/// Moves the shard's bits, a fraction u, to about log2(1 + u): the load of a place p is then in proportion to 2^p.
fn uneven(hash: u64) -> u64 {
    let u = (hash & FIELD) >> (SHARD_FROM - BITS);
    let rest = (1_u64 << BITS) - 1 - u;
    // log2(1 + u) is u + 0.344 u (1 - u) within 0.01.
    let bent = u + ((((u * rest) >> BITS) * 88) >> 8);
    (hash & !FIELD) | (bent << (SHARD_FROM - BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARDS: usize = 1024;

    fn shard(hash: u64) -> usize {
        ((hash << 7) >> (64 - SHARDS.ilog2())) as usize
    }

    fn loads(keys: u128) -> Vec<usize> {
        let hasher = Uneven::default();
        let mut loads = vec![0; SHARDS];
        for key in 0..keys {
            loads[shard(hasher.hash_one(key))] += 1;
        }
        loads
    }

    #[test]
    fn the_fullest_shard_has_twice_the_load_of_the_emptiest() {
        let loads = loads(2_000_000);
        let sum = |range: std::ops::Range<usize>| loads[range].iter().sum::<usize>() as f64;
        let ratio = sum(SHARDS - 64..SHARDS) / sum(0..64);
        assert!((1.7..2.3).contains(&ratio), "{ratio}");
        for step in (64..SHARDS).step_by(64) {
            let growth = sum(step..step + 64) / sum(step - 64..step);
            assert!((0.97..1.12).contains(&growth), "{growth} at {step}");
        }
    }

    #[test]
    fn places_for_each_claim_are_the_same_whatever_their_number() {
        // hashbrown: a power of two, at most seven eighths full.
        let places = |load: &usize| (load * 8).div_ceil(7).next_power_of_two();
        for keys in [500_000, 650_000, 800_000, 1_000_000] {
            let all: usize = loads(keys).iter().map(places).sum();
            let each = all as f64 / keys as f64;
            assert!((1.5..1.8).contains(&each), "{each} places a claim at {keys}");
        }
    }

    #[test]
    fn only_the_bits_of_the_shard_move() {
        for hash in [0, u64::MAX, 0x0123_4567_89ab_cdef] {
            assert_eq!(uneven(hash) & !FIELD, hash & !FIELD);
        }
        assert_eq!((uneven(0) & FIELD, uneven(FIELD) & FIELD), (0, FIELD));
    }
}
