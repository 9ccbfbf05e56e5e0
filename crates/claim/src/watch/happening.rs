//! What happened, for a maker's eyes: more than the one who was refused is told, and never a secret.

use std::borrow::Cow;
use std::sync::Arc;

use crate::confirmation::{ConfirmOutcome, RefusalCause, UnclaimOutcome};
use crate::device::DeviceName;
use crate::event::AuditAction;
use crate::intake::{Hindrance, Submission};
use crate::message;
use crate::origin::{Origin, Transport};
use crate::owner::{Actor, Authority, UserId};
use crate::ports::Recorded;
use crate::time::Timestamp;

/// One submission, confirm or unclaim and its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// When.
    pub at: Timestamp,
    /// What was tried.
    pub deed: AuditAction,
    /// The device's name; as it was asked for, cut and cleaned, where there is no such device.
    pub device: Arc<str>,
    /// Who tried.
    pub by: By,
    /// Which transport; `None` for people's API.
    pub transport: Option<Transport>,
    /// The outcome's name, as metrics and audit rows have it.
    pub outcome: &'static str,
    /// The exact reason's name, from a closed vocabulary.
    pub reason: &'static str,
    /// The reason for people, and where in the body; empty when there is nothing to add.
    pub why: Cow<'static, str>,
    /// When the claim ends that was registered.
    pub expires_at: Option<Timestamp>,
    /// The request's id, as the log has it.
    pub request_id: u64,
}

/// Who tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// The device itself.
    Device,
    /// This gateway, for the device; for itself where the whole batch was refused.
    Gateway(DeviceName),
    /// A customer's user.
    Owner(UserId),
    /// The tenant's administrator.
    Admin(UserId),
}

impl Happening {
    /// Whether it is about this device, or said by it for another.
    pub(super) fn concerns(&self, device: &DeviceName) -> bool {
        *self.device == *device.as_str() || matches!(&self.by, By::Gateway(gateway) if gateway == device)
    }
}

/// A claim message's end. `body` is the whole of it where the message as a whole was not understood.
pub(crate) fn submitted(
    (device, by): (Arc<str>, By),
    end: Submission,
    body: Option<&[u8]>,
    origin: &Origin,
    at: Timestamp,
) -> Happening {
    let (outcome, reason, why, expires_at) = match end {
        Submission::Registered(receipt) => {
            let reason = match receipt.recorded {
                Recorded::New => "new",
                Recorded::Replaced => "replaced",
            };
            ("accepted", reason, Cow::Borrowed(""), Some(receipt.expires_at))
        }
        Submission::Refused(outcome, hindrance) => {
            let place = match hindrance {
                Hindrance::Malformed(fault) => body.and_then(|body| message::place(body, fault)),
                _ => None,
            };
            let why = match place {
                Some(place) => Cow::Owned(format!("{}: {place}", hindrance.text())),
                None => Cow::Borrowed(hindrance.text()),
            };
            (outcome.name(), hindrance.name(), why, None)
        }
    };
    Happening {
        at,
        deed: AuditAction::Submit,
        device,
        by,
        transport: origin.transport,
        outcome,
        reason,
        why,
        expires_at,
        request_id: origin.request_id,
    }
}

fn person(actor: &Actor) -> By {
    match actor.authority {
        Authority::CustomerUser(_) => By::Owner(actor.account),
        Authority::TenantAdmin => By::Admin(actor.account),
    }
}

/// An owner's claim's end.
pub(crate) fn confirmed(
    device: Arc<str>,
    actor: &Actor,
    outcome: &ConfirmOutcome,
    origin: &Origin,
    at: Timestamp,
) -> Happening {
    let why = match outcome {
        ConfirmOutcome::Claimed { .. } => "",
        ConfirmOutcome::AlreadyYours { .. } => "the device was theirs before",
        ConfirmOutcome::Refused(refusal) => cause(refusal.cause),
        ConfirmOutcome::Forbidden => "a maker's account does not claim, and nobody claims for another customer",
        ConfirmOutcome::RetryKeyReused => "the `Idempotency-Key` came with another request before",
        ConfirmOutcome::RateLimited { .. } => "too many wrong secrets; nothing was compared",
        ConfirmOutcome::Unavailable => "a store does not answer; nothing was changed",
        ConfirmOutcome::OutcomeUnknown => "a store did not answer in time; a repeat settles it",
    };
    let reason = match outcome {
        ConfirmOutcome::Claimed { evidence, .. } => evidence.name(),
        other => other.reason(),
    };
    person_did(AuditAction::Confirm, device, actor, (outcome.name(), reason, why), origin, at)
}

fn cause(cause: RefusalCause) -> &'static str {
    match cause {
        RefusalCause::UnknownName => "there is no device of this name",
        RefusalCause::NoEvidence => "the device has not announced itself, and no code is stored for it",
        RefusalCause::WrongSecret => "the secret is not the one that was announced or stored",
        RefusalCause::WindowEnded => {
            "the secret is right, but the announcement has ended; the device must send another"
        }
        RefusalCause::NotYet => "the code is right, but does not work yet",
        RefusalCause::CodeEnded => "the code is right, but does not work any more",
        RefusalCause::NotAllowed => "the secret is right, but the maker does not let the device be claimed",
        RefusalCause::Owned => "somebody else owns the device",
        RefusalCause::NotPresent => "the code is right, but the device must announce itself too",
        RefusalCause::IdTaken => "the secret is right, but the id is in use in the target application",
        RefusalCause::NoTarget => "the secret is right, but the owner has no such application",
    }
}

/// An unclaim's end; `reason` is exact, and "" where the outcome says it all.
pub(crate) fn unclaimed(
    device: Arc<str>,
    actor: &Actor,
    outcome: &UnclaimOutcome,
    reason: &'static str,
    origin: &Origin,
    at: Timestamp,
) -> Happening {
    let why = match reason {
        "unknown_name" => "there is no device of this name",
        "not_holder" => "the device is not theirs",
        "no_owner" => "the device has no owner",
        "unowned" => "it had no owner; a pending claim is void now",
        "unavailable" => "a store does not answer; nothing was changed",
        "outcome_unknown" => "a store did not answer in time; a repeat settles it",
        _ => "",
    };
    person_did(AuditAction::Unclaim, device, actor, (outcome.name(), reason, why), origin, at)
}

fn person_did(
    deed: AuditAction,
    device: Arc<str>,
    actor: &Actor,
    (outcome, reason, why): (&'static str, &'static str, &'static str),
    origin: &Origin,
    at: Timestamp,
) -> Happening {
    Happening {
        at,
        deed,
        device,
        by: person(actor),
        transport: None,
        outcome,
        reason,
        why: why.into(),
        expires_at: None,
        request_id: origin.request_id,
    }
}
