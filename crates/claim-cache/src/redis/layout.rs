//! What lies in the store under which key. Every key begins with the prefix, which is one hash tag.
//!
//! | key | type | what |
//! |---|---|---|
//! | `c` device | string | the device's claim, 74 bytes; forgotten ten minutes after its end, at an absolute instant |
//! | `e` | sorted set | tenant and device of what is pending, by the instant of its end |
//! | `t` | hash | by tenant how many of these |
//! | `p` account name, `a` account, `d` name | sorted sets | wrong tries by their instant; see `attempts.rs` |
//! | `m` | string | there while the wrong tries are whole |
//!
//! Ids are 16 raw bytes. Secrets are here as digests under the install's keys, as everywhere.

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

/// A member of the ends.
pub(super) fn unpack_member(member: &[u8]) -> Option<(TenantId, DeviceId)> {
    let (tenant, device) = member.split_first_chunk::<16>()?;
    Some((TenantId::from_bytes(*tenant), DeviceId::from_bytes(*device.first_chunk::<16>()?)))
}

/// The keys of one install.
pub(super) struct Names {
    prefix: Vec<u8>,
    /// All ends.
    pub(super) ends: Vec<u8>,
    /// The tenants' counts.
    pub(super) counts: Vec<u8>,
    /// The mark of counters that are whole.
    pub(super) mark: Vec<u8>,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        let name = |kind: &str| format!("{{{prefix}}}{kind}").into_bytes();
        Self { prefix: name(""), ends: name("e"), counts: name("t"), mark: name("m") }
    }

    pub(super) fn claim(&self, device: DeviceId) -> Vec<u8> {
        self.key(b'c', &[device.as_bytes()])
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
        let mut key = Vec::with_capacity(self.prefix.len() + 1 + 16 * parts.len());
        key.extend_from_slice(&self.prefix);
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
    fn all_keys_share_one_hash_tag() {
        let names = Names::new("claimd");
        let keys = AttemptKeys { account: UserId::from_bytes([1; 16]), name: [2; 16] };
        for key in names.tries(&keys).iter().chain([&names.claim(DeviceId::NOBODY), &names.ends, &names.mark]) {
            assert!(key.starts_with(b"{claimd}"));
        }
    }
}
