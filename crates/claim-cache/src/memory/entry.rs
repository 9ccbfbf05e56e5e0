//! A pending claim as it lies in the map: 60 bytes without padding. The map's fill decides what that costs, so every byte
//! here counts up to 2.3 times.

use claim::ports::{ClaimSource, PendingClaim, Sighting};
use claim::{DeviceId, SecretDigest, TenantId, Timestamp};

use super::pack::{pack_millis, pack_stamp, unpack_millis, unpack_stamp};
use super::ring::Slot;
use crate::journal::Put;

/// The highest stamp an entry can carry (56 bits).
pub(crate) const STAMP_MAX: u64 = (1 << 56) - 1;

const GATEWAY: u8 = 1;
/// The claim's end has been seen by the sweeper: it is only remembered.
const ENDED: u8 = 2;

/// See the module's head.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    digest: [u8; 32],
    tenant: u32,
    /// The ring slot that will look at this entry; meaningless once ended.
    armed: Slot,
    expires: [u8; 6],
    received: [u8; 6],
    stamp: [u8; 7],
    flags: u8,
}

impl Entry {
    /// A live entry. `tenant` is the tenant's index. Instants are cut to 48 bits, the stamp must be in range.
    pub(crate) fn new(claim: &PendingClaim, tenant: u32, stamp: u64, armed: Slot) -> Self {
        debug_assert!(stamp <= STAMP_MAX);
        Self {
            digest: *claim.digest.as_bytes(),
            tenant,
            armed,
            expires: pack_millis(claim.expires_at),
            received: pack_millis(claim.received_at),
            stamp: pack_stamp(stamp),
            flags: source_flag(claim.source),
        }
    }

    /// An entry as the journal kept it; armed when the table is settled.
    pub(crate) fn restored(put: &Put) -> Self {
        Self {
            digest: put.digest,
            tenant: put.tenant,
            armed: 0,
            expires: pack_millis(put.expires_at),
            received: pack_millis(put.received_at),
            stamp: pack_stamp(put.stamp),
            flags: source_flag(put.source),
        }
    }

    pub(crate) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    pub(crate) fn expires_at(&self) -> Timestamp {
        unpack_millis(self.expires)
    }

    pub(crate) fn cut_expiry(&mut self, at_most: Timestamp) {
        self.expires = pack_millis(self.expires_at().min(at_most));
    }

    pub(crate) fn received_at(&self) -> Timestamp {
        unpack_millis(self.received)
    }

    pub(crate) fn stamp(&self) -> u64 {
        unpack_stamp(self.stamp)
    }

    pub(crate) fn source(&self) -> ClaimSource {
        if self.flags & GATEWAY == 0 { ClaimSource::Device } else { ClaimSource::Gateway }
    }

    pub(crate) fn tenant(&self) -> u32 {
        self.tenant
    }

    pub(crate) fn armed(&self) -> Slot {
        self.armed
    }

    pub(crate) fn arm(&mut self, slot: Slot) {
        self.armed = slot;
    }

    pub(crate) fn live(&self, now: Timestamp) -> bool {
        now < self.expires_at()
    }

    /// Whether the sweeper has counted it out of the pending claims.
    pub(crate) fn ended(&self) -> bool {
        self.flags & ENDED != 0
    }

    pub(crate) fn end(&mut self) {
        self.flags |= ENDED;
    }

    /// The entry as the domain sees it.
    pub(crate) fn claim(&self, device: DeviceId, tenant: TenantId) -> PendingClaim {
        PendingClaim {
            tenant,
            device,
            digest: SecretDigest::from_bytes(self.digest),
            received_at: self.received_at(),
            expires_at: self.expires_at(),
            source: self.source(),
        }
    }

    pub(crate) fn sighting(&self, device: DeviceId, tenant: TenantId) -> Sighting {
        Sighting { claim: self.claim(device, tenant), stamp: self.stamp() }
    }
}

fn source_flag(source: ClaimSource) -> u8 {
    match source {
        ClaimSource::Device => 0,
        ClaimSource::Gateway => GATEWAY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_with_its_key_is_76_bytes() {
        assert_eq!(size_of::<(DeviceId, Entry)>(), 76);
    }

    #[test]
    fn what_goes_in_comes_out() {
        let claim = PendingClaim {
            tenant: TenantId::from_bytes([1; 16]),
            device: DeviceId::from_bytes([2; 16]),
            digest: SecretDigest::from_bytes([3; 32]),
            received_at: Timestamp::from_millis(1_790_000_000_001),
            expires_at: Timestamp::from_millis(1_790_086_400_001),
            source: ClaimSource::Gateway,
        };
        let entry = Entry::new(&claim, 7, STAMP_MAX, 9);
        assert_eq!(entry.sighting(claim.device, claim.tenant), Sighting { claim, stamp: STAMP_MAX });
        assert_eq!((entry.tenant(), entry.armed(), entry.ended()), (7, 9, false));
    }
}
