//! A map that forgets by itself: two generations, swapped whole when the young one is old or full.

use std::collections::HashMap;

use ahash::RandomState;

/// Entries live at least `life` (unless there are too many) and at most twice that; who needs the exact age keeps it in
/// the value. Keys are fingerprints under a random key, so nobody can choose where they fall.
pub(crate) struct Fading<V> {
    life: u64,
    half: usize,
    born: u64,
    young: HashMap<u64, V, RandomState>,
    old: HashMap<u64, V, RandomState>,
}

impl<V> Fading<V> {
    /// For `entries` in all, each for `life` milliseconds.
    pub(crate) fn new(entries: usize, life: u64) -> Self {
        Self { life, half: entries.div_ceil(2).max(1), born: 0, young: HashMap::default(), old: HashMap::default() }
    }

    pub(crate) fn get(&self, key: u64) -> Option<&V> {
        self.young.get(&key).or_else(|| self.old.get(&key))
    }

    pub(crate) fn insert(&mut self, key: u64, value: V, now: u64) {
        if !self.young.contains_key(&key) {
            self.turn(now);
        }
        self.young.insert(key, value);
    }

    /// Changes an entry where it is.
    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        match self.young.get_mut(&key) {
            Some(value) => Some(value),
            None => self.old.get_mut(&key),
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    fn turn(&mut self, now: u64) {
        if now.saturating_sub(self.born) >= self.life || self.young.len() >= self.half {
            std::mem::swap(&mut self.young, &mut self.old);
            // Keeps its memory, which the next generation needs again.
            self.young.clear();
            self.born = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_outlives_its_life_and_not_twice_that() {
        let mut map = Fading::new(100, 10);
        map.insert(1, 'a', 0);
        map.insert(2, 'b', 10);
        assert_eq!(map.get(1), Some(&'a'), "one generation on");
        map.insert(3, 'c', 20);
        assert_eq!((map.get(1), map.get(2), map.get(3)), (None, Some(&'b'), Some(&'c')));
    }

    #[test]
    fn the_bound_holds_and_the_newest_stay() {
        let mut map = Fading::new(10, 1_000_000);
        for key in 0..1000 {
            map.insert(key, key, 0);
            assert!(map.len() <= 10);
            assert_eq!(map.get(key), Some(&key));
        }
        assert_eq!(map.get(995), Some(&995));
        assert_eq!(map.get(0), None);
    }
}
