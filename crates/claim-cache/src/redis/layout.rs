//! What lies in the store under which key.
//!
//! A claim's key stands alone, so that a cluster spreads claims over all its masters:
//!
//! | key | type | what |
//! |---|---|---|
//! | prefix`:c` device | string | the device's claim, 74 bytes; forgotten ten minutes after its end, at an absolute instant |
//!
//! All else begins with the prefix between braces, one hash tag, so that a script may change it together:
//!
//! | key | type | what |
//! |---|---|---|
//! | `u` | hash | places in use: by tenant, `all`, and `held`: those of `all` that are kept for claims to come |
//! | `s` | sorted set | the periods of which there is something below, by their second |
//! | `n` second | hash | by tenant how many claims end within the second before this one; `listed`: entries of its list |
//! | `nr` second | hash | by tenant how many places are kept for claims to come, until this second |
//! | `x` second | list | tenant and device of claims that end within that second, those of a change in one string; may tell of some that are gone |
//! | `f` node | string | the last change of the counts by this node, so that none is made twice |
//! | `p` account name, `a` account, `d` name | sorted sets | wrong tries by their instant; see `attempts.rs` |
//! | `m` | string | there while the wrong tries are whole |
//!
//! At every instant `u` is the sum of all `n` and `nr`. Ids are 16 raw bytes. Secrets are here as digests under the
//! install's keys, as everywhere.

use claim::ports::{AttemptKeys, ClaimSource, PendingClaim, Sighting};
use claim::{DeviceId, SecretDigest, TenantId, Timestamp, UserId};

/// The version of the claim's layout, its first byte.
const VERSION: u8 = 1;
/// version, source, tenant, digest, received, ends, stamp; the scripts count on it.
const LENGTH: usize = 1 + 1 + 16 + 32 + 8 + 8 + 8;

/// A claim as the store keeps it.
pub(super) fn pack(claim: &PendingClaim, stamp: u64) -> [u8; LENGTH] {
    let mut value = [0; LENGTH];
    value[0] = VERSION;
    value[1] = match claim.source {
        ClaimSource::Device => 0,
        ClaimSource::Gateway => 1,
    };
    value[2..18].copy_from_slice(claim.tenant.as_bytes());
    value[18..50].copy_from_slice(claim.digest.as_bytes());
    value[50..58].copy_from_slice(&claim.received_at.as_millis().to_be_bytes());
    value[58..66].copy_from_slice(&claim.expires_at.as_millis().to_be_bytes());
    value[66..].copy_from_slice(&stamp.to_be_bytes());
    value
}

/// The claim of a device, if this is one of this layout.
pub(super) fn unpack(device: DeviceId, value: &[u8]) -> Option<Sighting> {
    let [VERSION, source, rest @ ..] = value.first_chunk::<LENGTH>()? else { return None };
    let source = match source {
        0 => ClaimSource::Device,
        1 => ClaimSource::Gateway,
        _ => return None,
    };
    let (tenant, rest) = rest.split_first_chunk::<16>()?;
    let (digest, rest) = rest.split_first_chunk::<32>()?;
    let (received, rest) = rest.split_first_chunk::<8>()?;
    let (ends, stamp) = rest.split_first_chunk::<8>()?;
    let claim = PendingClaim {
        tenant: TenantId::from_bytes(*tenant),
        device,
        digest: SecretDigest::from_bytes(*digest),
        received_at: Timestamp::from_millis(i64::from_be_bytes(*received)),
        expires_at: Timestamp::from_millis(i64::from_be_bytes(*ends)),
        source,
    };
    Some(Sighting { claim, stamp: u64::from_be_bytes(*stamp.first_chunk::<8>()?) })
}

/// A claim's place among those of one period: what `x` has.
pub(super) type Entry = [u8; 32];

pub(super) fn entry(tenant: TenantId, device: DeviceId) -> Entry {
    let mut entry = [0; 32];
    entry[..16].copy_from_slice(tenant.as_bytes());
    entry[16..].copy_from_slice(device.as_bytes());
    entry
}

/// The entries of one string of a list.
pub(super) fn unpack_entries(string: &[u8]) -> impl Iterator<Item = (TenantId, DeviceId)> {
    string.chunks_exact(32).filter_map(|entry| {
        let (tenant, device) = entry.split_first_chunk::<16>()?;
        Some((TenantId::from_bytes(*tenant), DeviceId::from_bytes(*device.first_chunk::<16>()?)))
    })
}

/// What is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Period {
    /// Claims that have ended at this second since 1970 and not at the one before.
    Ends(i64),
    /// Places for claims to come, which nobody takes from this second on.
    Held(i64),
}

impl Period {
    /// That of a claim's end.
    pub(super) fn of(end: Timestamp) -> Self {
        Self::Ends(end.as_millis().saturating_add(999).div_euclid(1000))
    }

    pub(super) fn second(self) -> i64 {
        match self {
            Self::Ends(second) | Self::Held(second) => second,
        }
    }

    /// Its name in `s` and behind `n`.
    pub(super) fn member(self) -> String {
        match self {
            Self::Ends(second) => second.to_string(),
            Self::Held(second) => format!("r{second}"),
        }
    }

    pub(super) fn parse(member: &[u8]) -> Option<Self> {
        let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse().ok();
        match member {
            [b'r', second @ ..] => number(second).map(Self::Held),
            second => number(second).map(Self::Ends),
        }
    }
}

/// The keys of one install.
pub(super) struct Names {
    /// What claims' keys begin with.
    alone: Vec<u8>,
    /// What all others begin with.
    tag: Vec<u8>,
    /// The cluster's slot of those others.
    pub(super) tag_slot: u16,
    /// Places in use.
    pub(super) totals: Vec<u8>,
    /// The periods there are.
    pub(super) periods: Vec<u8>,
    /// The mark of counters that are whole.
    pub(super) mark: Vec<u8>,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        let name = |kind: &str| format!("{{{prefix}}}{kind}").into_bytes();
        Self {
            alone: format!("{prefix}:c").into_bytes(),
            tag_slot: slot_of(&name("")),
            tag: name(""),
            totals: name("u"),
            periods: name("s"),
            mark: name("m"),
        }
    }

    pub(super) fn claim(&self, device: DeviceId) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.alone.len() + 16);
        key.extend_from_slice(&self.alone);
        key.extend_from_slice(device.as_bytes());
        key
    }

    pub(super) fn counts(&self, period: Period) -> Vec<u8> {
        [&self.tag, &b"n"[..], period.member().as_bytes()].concat()
    }

    /// The list of a period's claims; one of [`Period::Held`] has none.
    pub(super) fn list(&self, period: Period) -> Vec<u8> {
        [&self.tag, &b"x"[..], period.member().as_bytes()].concat()
    }

    /// What this node did last.
    pub(super) fn done_by(&self, node: u64) -> Vec<u8> {
        [&self.tag, &b"f"[..], format!("{node:x}").as_bytes()].concat()
    }

    /// Of the tries: by account and device, by account, by device.
    pub(super) fn tries(&self, AttemptKeys { account, name }: &AttemptKeys) -> [Vec<u8>; 3] {
        [self.key(b'p', &[account.as_bytes(), name]), self.key(b'a', &[account.as_bytes()]), self.tries_at(name)]
    }

    pub(super) fn tries_at(&self, name: &[u8; 16]) -> Vec<u8> {
        self.key(b'd', &[name])
    }

    /// One counting of the audit log's tries, while it goes on.
    pub(super) fn counting(&self, unique: u64) -> Vec<u8> {
        [&self.mark[..], &unique.to_be_bytes()].concat()
    }

    /// What the keys of accounts begin with, and those of pairs.
    pub(super) fn beginnings(&self) -> [Vec<u8>; 2] {
        [self.key(b'a', &[]), self.key(b'p', &[])]
    }

    fn key(&self, kind: u8, parts: &[&[u8; 16]]) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.tag.len() + 1 + 16 * parts.len());
        key.extend_from_slice(&self.tag);
        key.push(kind);
        for part in parts {
            key.extend_from_slice(*part);
        }
        key
    }
}

/// An account's id as scripts are given it.
pub(super) fn account(account: &UserId) -> &[u8] {
    account.as_bytes()
}

/// The slot of a key in a cluster: of what is between its first braces, if that is something (Redis Cluster specification,
/// "Hash tags").
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|byte| *byte == b'}').filter(|close| *close > 0).map(|close| &rest[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// Slots of a cluster.
pub(super) const SLOTS: u16 = 16384;

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| (crc << 8) ^ CRC16[usize::from((crc >> 8) as u8 ^ byte)])
}

const CRC16: [u16; 256] = {
    let mut table = [0; 256];
    let mut place = 0;
    while place < 256 {
        let mut crc = (place as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[place] = crc;
        place += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_and_nothing_else_is_taken() {
        let claim = PendingClaim {
            tenant: TenantId::from_bytes([1; 16]),
            device: DeviceId::from_bytes([2; 16]),
            digest: SecretDigest::from_bytes([3; 32]),
            received_at: Timestamp::from_millis(1_790_000_000_001),
            expires_at: Timestamp::from_millis(1_790_086_400_001),
            source: ClaimSource::Gateway,
        };
        let value = pack(&claim, u64::MAX - 1);
        assert_eq!(unpack(claim.device, &value), Some(Sighting { claim, stamp: u64::MAX - 1 }));
        assert_eq!(unpack(claim.device, &value[..LENGTH - 1]), None);
        let of_later = [&[VERSION + 1], &value[1..]].concat();
        assert_eq!(unpack(claim.device, &of_later), None);
    }

    #[test]
    fn periods_and_entries_come_back_and_a_claim_has_ended_at_its_second() {
        for period in [Period::Ends(1_790_000_000), Period::Held(7)] {
            assert_eq!(Period::parse(period.member().as_bytes()), Some(period));
        }
        assert_eq!(Period::parse(b"rest"), None);
        for (millis, second) in [(0, 0), (1, 1), (1000, 1), (1001, 2), (1999, 2)] {
            assert_eq!(Period::of(Timestamp::from_millis(millis)), Period::Ends(second));
        }
        let (tenant, device) = (TenantId::from_bytes([1; 16]), DeviceId::from_bytes([2; 16]));
        let two = [entry(tenant, device), entry(tenant, DeviceId::NOBODY)].concat();
        assert_eq!(unpack_entries(&two).collect::<Vec<_>>(), [(tenant, device), (tenant, DeviceId::NOBODY)]);
        assert_eq!(unpack_entries(&[0; 31]).count(), 0);
    }

    /// Vectors of the Cluster specification and of `CLUSTER KEYSLOT`.
    #[test]
    fn slots_are_those_of_the_server() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        for (key, slot) in [("foo", 12182), ("{foo}bar", 12182), ("a{foo}b", 12182), ("{}foo", 9500)] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
    }

    #[test]
    fn claims_spread_and_all_else_is_in_one_slot() {
        let names = Names::new("claimd");
        let keys = AttemptKeys { account: UserId::from_bytes([1; 16]), name: [2; 16] };
        let period = Period::of(Timestamp::from_millis(1));
        let others = [names.totals.clone(), names.periods.clone(), names.mark.clone(), names.counts(period)];
        let others = others.into_iter().chain([names.list(period), names.done_by(1)]).chain(names.tries(&keys));
        for key in others {
            assert!(key.starts_with(b"{claimd}"));
            assert_eq!(slot_of(&key), names.tag_slot);
        }
        let slots: std::collections::HashSet<u16> =
            (0..200u8).map(|n| slot_of(&names.claim(DeviceId::from_bytes([n; 16])))).collect();
        assert!(slots.len() > 150, "{}", slots.len());
    }
}
