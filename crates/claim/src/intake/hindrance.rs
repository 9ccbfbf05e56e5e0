//! What exactly stood in the way of a submission, for the maker who watches. The sender hears [`SubmitError`], which
//! tells less: why a maker does not let a device be claimed is not the device's business.

use super::{Receipt, SubmitError, SubmitOutcome};
use crate::device::Device;
use crate::message::Malformed;

/// See the module's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// The body was not understood.
    Malformed(Malformed),
    /// The message is too large, and was not read.
    TooLarge,
    /// The device was deleted since it signed in.
    DeviceGone,
    /// The application the device is at home in is closed for claiming.
    NotAuthorized,
    /// The maker has paused claiming for the device.
    Frozen,
    /// Devices are not claimable by default, and this one has no `claimingAllowed`.
    NotAllowed,
    /// The sender is no gateway.
    NoGateway,
    /// The gateway is not related to the device.
    NotRelated,
    /// A gateway's claim behind the device's own.
    AnnouncedByDevice,
    /// Somebody owns the device.
    Owned,
    /// The claim cache, or the tenant's share of it, is full.
    ClaimsFull,
    /// A batch with too many entries.
    BatchTooLarge,
    /// The gateway may make no more devices.
    NewDevices,
    /// A device's claims come too often.
    DeviceRate,
    /// A gateway's entries come too often.
    GatewayRate,
    /// A store does not answer.
    StoreAway,
}

impl Hindrance {
    /// What stood in the way of a device that the rules do not let be claimed.
    pub(super) fn of(device: &Device) -> Self {
        match (device.authorized, device.frozen) {
            (false, _) => Self::NotAuthorized,
            (true, true) => Self::Frozen,
            (true, false) => Self::NotAllowed,
        }
    }

    /// The name, for filters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed(fault) => fault.name(),
            Self::TooLarge => "payload_bytes",
            Self::DeviceGone => "device_gone",
            Self::NotAuthorized => "not_authorized",
            Self::Frozen => "frozen",
            Self::NotAllowed => "not_allowed",
            Self::NoGateway => "no_gateway",
            Self::NotRelated => "not_related",
            Self::AnnouncedByDevice => "announced_by_device",
            Self::Owned => "owned",
            Self::ClaimsFull => "claims_full",
            Self::BatchTooLarge => "batch_too_large",
            Self::NewDevices => "new_devices",
            Self::DeviceRate => "submit_per_device",
            Self::GatewayRate => "submit_per_gateway",
            Self::StoreAway => "store_away",
        }
    }

    /// What happened and what to do, for the maker.
    pub fn text(self) -> &'static str {
        match self {
            Self::Malformed(fault) => fault.text(),
            Self::TooLarge => "the message is larger than `limits.payload_bytes`, and was not read",
            Self::DeviceGone => "the device was deleted; it needs a new credential",
            Self::NotAuthorized => "its application is closed for claiming; `claimd application authorize` opens it",
            Self::Frozen => "claiming is paused for the device; `claimd device unfreeze` goes on",
            Self::NotAllowed => "devices are not claimable by default here; set `claimingAllowed` of this one",
            Self::NoGateway => "the sender is no gateway; mark it as one",
            Self::NotRelated => "the gateway may not speak for the device; `claimd gateway relate` lets it",
            Self::AnnouncedByDevice => "the device has announced itself, and that stands; wait until it ends",
            Self::Owned => "the device has an owner; the owner must unclaim it first",
            Self::ClaimsFull => "there is no room for more pending claims (`claim_cache.max_pending`)",
            Self::BatchTooLarge => "more entries than `gateway.batch_devices`; send smaller batches",
            Self::NewDevices => "the gateway has made all the devices it may (`gateway.new_devices_per_day`, `_total`)",
            Self::DeviceRate => "more messages in a minute than `limits.submit_per_device`",
            Self::GatewayRate => "more entries in a minute than `limits.submit_per_gateway`",
            Self::StoreAway => "a store does not answer; nothing was registered; send again",
        }
    }
}

/// How a submission ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Submission {
    Registered(Receipt),
    Refused(SubmitOutcome, Hindrance),
}

/// A refusal with what it really was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Denied {
    pub(super) error: SubmitError,
    pub(super) hindrance: Hindrance,
}

impl Denied {
    pub(super) fn submission(&self) -> Submission {
        Submission::Refused(self.error.outcome(), self.hindrance)
    }
}

impl Hindrance {
    pub(super) fn refuses(self, error: impl Into<SubmitError>) -> Denied {
        Denied { error: error.into(), hindrance: self }
    }
}

impl From<Malformed> for Denied {
    fn from(fault: Malformed) -> Self {
        Hindrance::Malformed(fault).refuses(SubmitError::Malformed(fault))
    }
}

impl From<crate::ports::Unavailable> for Denied {
    fn from(error: crate::ports::Unavailable) -> Self {
        Hindrance::StoreAway.refuses(error)
    }
}

impl From<crate::ports::RecordError> for Denied {
    fn from(error: crate::ports::RecordError) -> Self {
        use crate::ports::RecordError;
        let hindrance = match error {
            RecordError::AnnouncedByDevice => Hindrance::AnnouncedByDevice,
            RecordError::Full { .. } => Hindrance::ClaimsFull,
            RecordError::Unavailable => Hindrance::StoreAway,
        };
        hindrance.refuses(error)
    }
}

impl From<Denied> for SubmitError {
    fn from(denied: Denied) -> Self {
        denied.error
    }
}
