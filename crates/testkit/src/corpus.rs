//! Corpora of fuzz targets as plain tests: every seed, then a fixed number of mutations of seeds by a generator of our
//! own, so that a failure is found again by its number.

use std::fs;
use std::path::{Path, PathBuf};

/// Runs `property` over every file of `fuzz/corpus/{target}` and over `mutations` inputs made from them; panics with the
/// input in hex when the property does not hold. Returns how many inputs were run.
pub fn replay(target: &str, mutations: u64, property: impl Fn(&[u8])) -> u64 {
    const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder).expect("a corpus").map(|entry| entry.expect("an entry").path()).collect();
    // The order of a folder differs from machine to machine; a failure's number must not.
    files.sort();
    let seeds: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).expect("a seed")).collect();
    assert!(seeds.len() > 1, "{target}: no seeds in {}", folder.display());
    let mut runs = 0;
    let mut run = |what: String, input: &[u8]| {
        let _shown = Shown { target, what, input };
        property(input);
        runs += 1;
    };
    for (file, seed) in files.iter().zip(&seeds) {
        run(file.display().to_string(), seed);
    }
    let mut random = Random(SEED);
    for number in 0..mutations {
        let input = random.mutation(&seeds);
        run(format!("mutation {number}"), &input);
    }
    eprintln!("{target}: {} seeds, {mutations} mutations from seed {SEED:#x}, {runs} runs", seeds.len());
    runs
}

/// Tells which input it was when the property panics.
struct Shown<'a> {
    target: &'a str,
    what: String,
    input: &'a [u8],
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex: String = self.input.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("{}, {}: {hex}", self.target, self.what);
        }
    }
}

/// xorshift: the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    /// A seed with a few changes: a bit, a byte of note, a piece cut, doubled or taken from another seed.
    fn mutation(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        const OF_NOTE: &[u8] = b"\x00\x01\x0d\x0e\x0f\x7f\x80\xff\"\\{}[]:,0-";
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(input.len() + 1);
            let end = (at + self.below(16)).min(input.len());
            match self.below(6) {
                0 if at < input.len() => input[at] ^= 1 << self.below(8),
                1 if at < input.len() => input[at] = OF_NOTE[self.below(OF_NOTE.len())],
                2 => input.insert(at, OF_NOTE[self.below(OF_NOTE.len())]),
                3 => drop(input.drain(at..end)),
                4 => {
                    let piece = input[at..end].to_vec();
                    input.splice(at..at, piece);
                }
                _ => {
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.below(other.len() + 1);
                    let to = (from + self.below(64)).min(other.len());
                    input.splice(at..end, other[from..to].iter().copied());
                }
            }
        }
        input
    }
}
