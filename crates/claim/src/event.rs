//! What happened, in one vocabulary: for audit rows, the outbox, metrics, and pushes to devices.

use std::sync::{Arc, RwLock};

use serde::{Deserialize, Serialize};

use crate::device::{DeviceId, DeviceName, TenantId};
use crate::origin::Transport;
use crate::owner::{CustomerId, UserId};
use crate::time::Timestamp;

/// What a device may learn about its own claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimState {
    /// Unowned, nothing pending.
    None,
    /// Unowned, an announcement is open.
    Pending {
        /// When it ends.
        expires_at: Timestamp,
    },
    /// It has an owner; which one is not the device's business.
    Claimed {
        /// Since when.
        claimed_at: Timestamp,
    },
}

impl ClaimState {
    /// The state as every transport shows it: `{"claimState":"PENDING","expiresAt":…}`, times in epoch milliseconds.
    pub fn to_json(&self) -> String {
        match self {
            ClaimState::None => r#"{"claimState":"NONE"}"#.to_owned(),
            ClaimState::Pending { expires_at } => {
                format!(r#"{{"claimState":"PENDING","expiresAt":{}}}"#, expires_at.as_millis())
            }
            ClaimState::Claimed { claimed_at } => {
                format!(r#"{{"claimState":"CLAIMED","claimedAt":{}}}"#, claimed_at.as_millis())
            }
        }
    }

    /// The state's name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            ClaimState::None => "NONE",
            ClaimState::Pending { .. } => "PENDING",
            ClaimState::Claimed { .. } => "CLAIMED",
        }
    }
}

/// A device's claim state changed.
#[derive(Clone, Debug)]
pub struct StateChange {
    /// Whose.
    pub device: DeviceId,
    /// Its name, for gateways that speak for it; `None` when the announcer did not have it at hand.
    pub name: Option<DeviceName>,
    /// What it is now.
    pub state: ClaimState,
}

/// Somebody who pushes claim states to connected devices. Called on hot paths: look up, queue, return.
pub trait StateListener: Send + Sync {
    /// The state of one device changed.
    fn changed(&self, change: &StateChange);

    /// A device's credential was revoked or the device deleted: its sessions must end.
    fn revoked(&self, device: DeviceId);
}

/// The fan-out of state changes to the transports of this node.
#[derive(Default)]
pub struct StateFeed {
    listeners: RwLock<Vec<Arc<dyn StateListener>>>,
}

impl StateFeed {
    /// Adds a listener; there are as many as transports, for the life of the process.
    pub fn subscribe(&self, listener: Arc<dyn StateListener>) {
        self.listeners.write().unwrap_or_else(std::sync::PoisonError::into_inner).push(listener);
    }

    /// Tells all listeners of a change.
    pub fn publish(&self, change: &StateChange) {
        for listener in self.listeners.read().unwrap_or_else(std::sync::PoisonError::into_inner).iter() {
            listener.changed(change);
        }
    }

    /// Tells all listeners that a device's sessions must end.
    pub fn revoke(&self, device: DeviceId) {
        for listener in self.listeners.read().unwrap_or_else(std::sync::PoisonError::into_inner).iter() {
            listener.revoked(device);
        }
    }
}

/// What convinced us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// The device's own announcement, or a gateway's for it.
    PendingClaim,
    /// A code or secret its maker stored.
    StoredCode,
    /// None.
    None,
}

impl Evidence {
    /// The evidence's name in metrics, audit rows and logs.
    pub fn name(self) -> &'static str {
        match self {
            Evidence::PendingClaim => "pending_claim",
            Evidence::StoredCode => "stored_code",
            Evidence::None => "none",
        }
    }
}

/// Who acted, in an audit row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditActor {
    /// A person.
    Account(UserId),
    /// A device, or a gateway for another device.
    Device(DeviceId),
}

/// What was tried, in an audit row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditAction {
    /// A device's claim message.
    Submit,
    /// An owner's claim.
    Confirm,
    /// Ownership given back.
    Unclaim,
    /// Wrong tries at a device forgotten by its maker.
    Unlock,
}

impl AuditAction {
    /// The action's name in audit rows.
    pub fn name(self) -> &'static str {
        match self {
            AuditAction::Submit => "submit",
            AuditAction::Confirm => "confirm",
            AuditAction::Unclaim => "unclaim",
            AuditAction::Unlock => "unlock",
        }
    }
}

/// An audit row of something that changed nothing: refused, limited, or failed. Rows of changes are written in the
/// transaction of the change, by the registry itself.
#[derive(Clone, Debug)]
pub struct AuditNote {
    /// When.
    pub at: Timestamp,
    /// In which tenant.
    pub tenant: TenantId,
    /// Who.
    pub actor: AuditActor,
    /// What.
    pub action: AuditAction,
    /// The device, if the name was known.
    pub device: Option<DeviceId>,
    /// The attempt key of the requested name; by it the attempt counters are rebuilt after a crash. Confirms
    /// and unlocks only.
    pub attempt_key: Option<[u8; 16]>,
    /// The outcome's name, from the closed vocabulary of outcomes.
    pub outcome: &'static str,
    /// What really kept it from happening; for the maker, never for the one refused.
    pub reason: &'static str,
    /// What evidence there was.
    pub evidence: Evidence,
    /// Whether the try stayed charged to the attempt budgets.
    pub charged: bool,
    /// Which transport; `None` for people's API.
    pub transport: Option<Transport>,
    /// The request's id.
    pub request_id: u64,
}

/// A change of ownership as it leaves by the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEvent {
    /// Position in the outbox; grows.
    pub seq: i64,
    /// When it was committed.
    pub at: Timestamp,
    /// In which tenant.
    pub tenant: TenantId,
    /// Which device.
    pub device: DeviceId,
    /// The device's name then.
    pub name: DeviceName,
    /// What happened.
    pub kind: OutboxKind,
}

/// What an outbox row tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxKind {
    /// A customer became the owner.
    Claimed {
        /// Who.
        owner: CustomerId,
        /// When.
        claimed_at: Timestamp,
    },
    /// The owner gave it back, or lost it to the tenant's admin.
    Unclaimed,
    /// A credential was replaced or the device deleted: its sessions must end.
    CredentialRevoked,
    /// A maker's deed; the row names the device, or the application.
    Maker(MakerEvent),
}

/// What a maker did, as the audit log and events call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MakerEvent {
    /// An application was made.
    ApplicationCreated,
    /// An application was removed.
    ApplicationDeleted,
    /// An application's devices may be claimed from now on.
    ClaimingAuthorized,
    /// An application's devices may not be claimed any more; claims that were made stay.
    ClaimingUnauthorized,
    /// A device was made.
    DeviceRegistered,
    /// A device was removed.
    DeviceDeleted,
    /// A claim code was stored, or its window changed.
    CodeSet,
    /// A claim code was deleted.
    CodeDeleted,
    /// A claim code was read back. In the audit log only.
    CodeRead,
    /// The maker's word on one device changed.
    ClaimingAllowedChanged,
    /// The maker has paused claiming for one device.
    Frozen,
    /// The pause is over.
    Unfrozen,
    /// Whether a code needs an announcement changed.
    PresenceChanged,
    /// The tenant's admin took a device from its owner.
    ForceReleased,
    /// A device's root keys were read.
    RootKeysExported,
    /// A device's identity or texts were changed.
    DeviceChanged,
    /// A file of devices is being imported.
    ImportStarted,
    /// An import is over.
    ImportEnded,
    /// The codes that an import generated were read. In the audit log only.
    ImportCodesRead,
    /// They are kept safe and were handed out for the last time. In the audit log only.
    ImportCodesAcknowledged,
    /// An import was stopped by its maker. In the audit log only.
    ImportStopped,
    /// A stopped import goes on. In the audit log only.
    ImportResumed,
    /// An import's file did not arrive whole. In the audit log only.
    ImportBroken,
    /// An import that was over is forgotten. In the audit log only.
    ImportDeleted,
    /// An application's devices were exported. In the audit log only.
    Exported,
    /// The tenant's admin dropped a pending claim.
    ClaimRevoked,
}

impl MakerEvent {
    /// All.
    pub const ALL: [MakerEvent; 26] = [
        Self::ApplicationCreated,
        Self::ApplicationDeleted,
        Self::ClaimingAuthorized,
        Self::ClaimingUnauthorized,
        Self::DeviceRegistered,
        Self::DeviceDeleted,
        Self::CodeSet,
        Self::CodeDeleted,
        Self::CodeRead,
        Self::ClaimingAllowedChanged,
        Self::Frozen,
        Self::Unfrozen,
        Self::PresenceChanged,
        Self::ForceReleased,
        Self::RootKeysExported,
        Self::DeviceChanged,
        Self::ImportStarted,
        Self::ImportEnded,
        Self::ImportCodesRead,
        Self::ImportCodesAcknowledged,
        Self::ImportStopped,
        Self::ImportResumed,
        Self::ImportBroken,
        Self::ImportDeleted,
        Self::Exported,
        Self::ClaimRevoked,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ApplicationCreated => "application.created",
            Self::ApplicationDeleted => "application.deleted",
            Self::ClaimingAuthorized => "application.claiming_authorized",
            Self::ClaimingUnauthorized => "application.claiming_unauthorized",
            Self::DeviceRegistered => "device.registered",
            Self::DeviceDeleted => "device.deleted",
            Self::CodeSet => "device.code_set",
            Self::CodeDeleted => "device.code_deleted",
            Self::CodeRead => "device.code_read",
            Self::ClaimingAllowedChanged => "device.claiming_allowed_changed",
            Self::Frozen => "device.frozen",
            Self::Unfrozen => "device.unfrozen",
            Self::PresenceChanged => "device.presence_changed",
            Self::ForceReleased => "device.claim_force_released",
            Self::RootKeysExported => "device.root_keys_exported",
            Self::DeviceChanged => "device.changed",
            Self::ImportStarted => "application.import_started",
            Self::ImportEnded => "application.import_ended",
            Self::ImportCodesRead => "application.import_codes_read",
            Self::ImportCodesAcknowledged => "application.import_codes_acknowledged",
            Self::ImportStopped => "application.import_stopped",
            Self::ImportResumed => "application.import_resumed",
            Self::ImportBroken => "application.import_broken",
            Self::ImportDeleted => "application.import_deleted",
            Self::Exported => "application.exported",
            Self::ClaimRevoked => "device.claim_revoked",
        }
    }

    /// Whether it is in the audit log only: who read what is nobody else's business.
    pub fn quiet(self) -> bool {
        matches!(
            self,
            Self::CodeRead
                | Self::RootKeysExported
                | Self::ImportCodesRead
                | Self::ImportCodesAcknowledged
                | Self::ImportStopped
                | Self::ImportResumed
                | Self::ImportBroken
                | Self::ImportDeleted
                | Self::Exported
        )
    }

    /// Whether it happened to an application and not to a device.
    pub fn of_application(self) -> bool {
        self.name().starts_with("application.")
    }
}
