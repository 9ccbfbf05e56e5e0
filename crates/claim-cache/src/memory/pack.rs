//! Instants in 48 bits and stamps in 56: what the map and the journal keep of them.

use claim::Timestamp;

/// Instants that can be packed: from 1970 for 8,900 years, in milliseconds.
const MILLIS_MAX: i64 = (1 << 48) - 1;

/// The low 48 bits of an instant, cut to the range an entry can carry.
pub(crate) fn pack_millis(at: Timestamp) -> [u8; 6] {
    let bytes = at.as_millis().clamp(0, MILLIS_MAX).to_le_bytes();
    [bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]]
}

/// The instant [`pack_millis`] packed.
pub(crate) fn unpack_millis([a, b, c, d, e, f]: [u8; 6]) -> Timestamp {
    Timestamp::from_millis(i64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
}

/// The low 56 bits of a stamp.
pub(crate) fn pack_stamp(stamp: u64) -> [u8; 7] {
    let bytes = stamp.to_le_bytes();
    [bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6]]
}

/// The stamp [`pack_stamp`] packed.
pub(crate) fn unpack_stamp([a, b, c, d, e, f, g]: [u8; 7]) -> u64 {
    u64::from_le_bytes([a, b, c, d, e, f, g, 0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_out_of_range_are_cut_not_wrapped() {
        let unpacked = |ms| unpack_millis(pack_millis(Timestamp::from_millis(ms))).as_millis();
        assert_eq!(unpacked(-1), 0);
        assert_eq!(unpacked(i64::MAX), MILLIS_MAX);
        assert_eq!(unpacked(MILLIS_MAX), MILLIS_MAX);
        assert_eq!(unpacked(1_790_000_000_001), 1_790_000_000_001);
    }
}
