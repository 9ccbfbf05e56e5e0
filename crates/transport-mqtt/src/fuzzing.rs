//! Entry points for fuzz targets, and for the tests that replay their corpora. Not part of the crate's promises.

use crate::engine::{self, Version};

/// Reads bytes as a whole conversation: CONNECT, then packets. Returns how many packets were understood. Asserts that
/// framing always advances, and that nothing is taken beyond the bound.
pub fn conversation(bytes: &[u8]) -> usize {
    const MOST: usize = 70_000;
    let Ok(Some((first, mut used))) = engine::frame(bytes, MOST) else { return 0 };
    let version = engine::hello(first).map_or(Version::V5, |hello| hello.version);
    let mut understood = 0;
    while let Ok(Some((frame, length))) = engine::frame(&bytes[used..], MOST) {
        assert!(length >= 2 && frame.body.len() <= MOST, "a frame has a header and a bound");
        used += length;
        assert!(used <= bytes.len(), "a frame lies within its bytes");
        if engine::packet(version, frame).is_ok() {
            understood += 1;
        }
    }
    understood
}
