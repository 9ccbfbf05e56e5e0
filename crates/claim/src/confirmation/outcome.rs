//! The outcomes of confirm and unclaim, and what each may tell to whom.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::device::DeviceId;
use crate::event::Evidence;
use crate::owner::CustomerId;
use crate::policy::Disclosure;
use crate::ports::AttemptScope;
use crate::time::Timestamp;

/// The outcome of a confirm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfirmOutcome {
    /// The device is the caller's now.
    Claimed {
        /// Which device.
        device: DeviceId,
        /// When.
        claimed_at: Timestamp,
        /// The device's generation.
        generation: i64,
        /// What proved it.
        evidence: Evidence,
    },
    /// The device has been the caller's before.
    AlreadyYours {
        /// Which device.
        device: DeviceId,
        /// Since when.
        claimed_at: Timestamp,
        /// The device's generation.
        generation: i64,
        /// Whether the secret is the one by which it was claimed: then this is a repeat of that request.
        same_proof: bool,
    },
    /// No. What the caller learns is [`Refusal::shown`].
    Refused(Refusal),
    /// The caller's account does not claim: it is a maker's, or lacks the grant. What is missing is in the audit log.
    Forbidden,
    /// The retry key came with another request before.
    RetryKeyReused,
    /// Out of tries; nothing was evaluated.
    RateLimited {
        /// Which budget.
        scope: AttemptScope,
        /// When the next try is free.
        retry_after: Duration,
    },
    /// A store or the counters do not answer; nothing was evaluated.
    Unavailable,
    /// The write may or may not have happened; repeating the request settles it.
    OutcomeUnknown,
}

/// A refusal, with more in it than may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What it really was.
    pub cause: RefusalCause,
    /// Whether the secret was right all the same; only then the caller may learn the cause.
    pub right: bool,
    /// Whether the device has an owner.
    pub owned: bool,
    /// Tries left in the tightest budget.
    pub left: u32,
}

/// What a refusal really was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCause {
    /// No device of this name in the tenant.
    UnknownName,
    /// Neither a pending claim nor a stored code.
    NoEvidence,
    /// Evidence, but not this secret.
    WrongSecret,
    /// The right secret of an announcement that has ended.
    WindowEnded,
    /// The right stored code before its window.
    NotYet,
    /// The right stored code after its window.
    CodeEnded,
    /// The right secret of a device its maker does not allow to be claimed.
    NotAllowed,
    /// Somebody else's.
    Owned,
    /// The right stored code of a device that must announce itself too, and has not.
    NotPresent,
    /// The right secret, but the id is in use in the target application.
    IdTaken,
    /// The right secret, but the owner has no such target application.
    NoTarget,
}

impl RefusalCause {
    /// The cause's name in audit rows; for the maker only.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownName => "unknown_name",
            Self::NoEvidence => "no_evidence",
            Self::WrongSecret => "wrong_secret",
            Self::WindowEnded => "window_ended",
            Self::NotYet => "not_yet",
            Self::CodeEnded => "code_ended",
            Self::NotAllowed => "not_allowed",
            Self::Owned => "owned",
            Self::NotPresent => "not_present",
            Self::IdTaken => "id_taken",
            Self::NoTarget => "no_target",
        }
    }
}

/// What a refused caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Just no.
    Refused,
    /// No, and why: after the right secret only. The name is the `Claim-Reason` header's value.
    Because(&'static str),
    /// There is no such device (`thingsboard` disclosure only).
    NotFound,
    /// It has an owner (`thingsboard` disclosure only, or after the right secret).
    Owned,
}

impl Refusal {
    /// What the caller may learn. In strict disclosure everyone without the right secret learns the same.
    pub fn shown(&self, disclosure: Disclosure) -> Shown {
        if self.right {
            return match self.cause {
                RefusalCause::WindowEnded => Shown::Because("window_ended"),
                RefusalCause::NotYet => Shown::Because("not_yet"),
                RefusalCause::CodeEnded => Shown::Because("code_ended"),
                RefusalCause::Owned => Shown::Owned,
                RefusalCause::NotAllowed => Shown::Because("frozen"),
                RefusalCause::NotPresent => Shown::Because("press_button"),
                RefusalCause::IdTaken => Shown::Because("id_taken"),
                RefusalCause::NoTarget => Shown::Because("no_target"),
                RefusalCause::UnknownName | RefusalCause::NoEvidence | RefusalCause::WrongSecret => Shown::Refused,
            };
        }
        match (disclosure, self.cause) {
            (Disclosure::Thingsboard, RefusalCause::UnknownName) => Shown::NotFound,
            (Disclosure::Thingsboard, RefusalCause::Owned) => Shown::Owned,
            _ => Shown::Refused,
        }
    }
}

/// The answers worth remembering under a retry key.
#[derive(Serialize, Deserialize)]
enum Answer {
    Claimed { device: DeviceId, claimed_at: Timestamp, generation: i64, evidence: Evidence },
    AlreadyYours { device: DeviceId, claimed_at: Timestamp, generation: i64, same_proof: bool },
    Refused(Refusal),
}

impl ConfirmOutcome {
    /// The outcome's name in metrics, audit rows and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Claimed { .. } => "claimed",
            Self::AlreadyYours { .. } => "already_yours",
            Self::Refused(_) => "refused",
            Self::Forbidden => "forbidden",
            Self::RetryKeyReused => "retry_key_reused",
            Self::RateLimited { .. } => "rate_limited",
            Self::Unavailable | Self::OutcomeUnknown => "unavailable",
        }
    }

    /// What convinced us, if anything.
    pub fn evidence(&self) -> Evidence {
        match self {
            Self::Claimed { evidence, .. } => *evidence,
            _ => Evidence::None,
        }
    }

    /// Whether the try stays charged: evaluated, and the secret was not right.
    pub(super) fn charged(&self) -> bool {
        matches!(self, Self::Refused(refusal) if !refusal.right)
    }

    /// Whether the registry has written an audit row of its own for this.
    pub(super) fn changed_ownership(&self) -> bool {
        matches!(self, Self::Claimed { .. })
    }

    /// The reason for the audit row, and for the maker who watches.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.cause.name(),
            Self::RateLimited { scope, .. } => scope.name(),
            Self::OutcomeUnknown => "outcome_unknown",
            other => other.name(),
        }
    }

    /// The answer as the registry keeps it beside the retry key; `None` for answers that must be evaluated afresh.
    pub fn to_remember(&self) -> Option<String> {
        let answer = match self.clone() {
            Self::Claimed { device, claimed_at, generation, evidence } => {
                Answer::Claimed { device, claimed_at, generation, evidence }
            }
            Self::AlreadyYours { device, claimed_at, generation, same_proof } => {
                Answer::AlreadyYours { device, claimed_at, generation, same_proof }
            }
            Self::Refused(refusal) => Answer::Refused(refusal),
            Self::Forbidden
            | Self::RetryKeyReused
            | Self::RateLimited { .. }
            | Self::Unavailable
            | Self::OutcomeUnknown => return None,
        };
        serde_json::to_string(&answer).ok()
    }

    /// Reads back what [`ConfirmOutcome::to_remember`] wrote.
    pub fn recall(answer: &str) -> Option<Self> {
        Some(match serde_json::from_str(answer).ok()? {
            Answer::Claimed { device, claimed_at, generation, evidence } => {
                Self::Claimed { device, claimed_at, generation, evidence }
            }
            Answer::AlreadyYours { device, claimed_at, generation, same_proof } => {
                Self::AlreadyYours { device, claimed_at, generation, same_proof }
            }
            Answer::Refused(refusal) => Self::Refused(refusal),
        })
    }
}

/// The outcome of an unclaim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnclaimOutcome {
    /// Nobody owns it now.
    Released {
        /// Which device.
        device: DeviceId,
        /// Who owned it.
        previous: CustomerId,
    },
    /// It had no owner; a pending claim was dropped (tenant's admin only).
    Unowned {
        /// Which device.
        device: DeviceId,
    },
    /// Unknown, or not the caller's: the same answer.
    NotFound,
    /// A store does not answer; nothing was changed.
    Unavailable,
    /// The write may or may not have happened; repeating the request settles it.
    OutcomeUnknown,
}

impl UnclaimOutcome {
    /// The outcome's name in metrics and audit rows.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Released { .. } => "released",
            Self::Unowned { .. } => "unowned",
            Self::NotFound => "refused",
            Self::Unavailable | Self::OutcomeUnknown => "unavailable",
        }
    }
}
