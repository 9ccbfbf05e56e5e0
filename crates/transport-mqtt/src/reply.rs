//! Outcomes as MQTT says them (thingsboard.md 2.2, 2.4, 2.5).
//!
//! The matches are exhaustive on purpose: a new outcome does not compile until it is said how MQTT answers it.

use std::fmt::Write as _;

use claim::intake::BatchReceipt;
use claim::{AuthError, Receipt, SubmitError, SubmitOutcome};

use crate::engine::{Hello, Notes, Version};

/// The answer to a PUBLISH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// PUBACK reason code of MQTT 5.
    pub(crate) code: u8,
    /// Whether MQTT 3.1.1, which cannot say no, gets an ack: else the connection is closed, so that the device repeats.
    pub(crate) ack_311: bool,
    /// What MQTT 5 can be told beside the code.
    pub(crate) notes: Option<Box<Notes>>,
    /// What a subscribed gateway is told.
    pub(crate) response: Option<String>,
}

impl Answer {
    pub(crate) const DONE: Self = Self { code: 0, ack_311: true, notes: None, response: None };
    /// A topic that is known, and nobody listens.
    pub(crate) const NO_SUBSCRIBERS: Self = Self { code: 0x10, ack_311: true, notes: None, response: None };
    /// No such topic. MQTT 3.1.1 clients are not cut for it: stock devices publish what claimd does not know.
    pub(crate) const NO_TOPIC: Self = Self { code: 0x90, ack_311: true, notes: None, response: None };
}

fn code(outcome: SubmitOutcome) -> u8 {
    match outcome {
        SubmitOutcome::Accepted => 0x00,
        SubmitOutcome::Malformed => 0x99,
        SubmitOutcome::Unauthenticated | SubmitOutcome::NotClaimable | SubmitOutcome::AlreadyOwned => 0x87,
        SubmitOutcome::QuotaExceeded | SubmitOutcome::RateLimited => 0x97,
        SubmitOutcome::Unavailable => 0x83,
    }
}

fn refused(error: &SubmitError) -> Answer {
    let notes = Some(Box::new(Notes::of(error.text())));
    Answer { code: code(error.outcome()), ack_311: false, notes, response: None }
}

/// The answer to a device's claim.
pub(crate) fn submitted(result: &Result<Receipt, SubmitError>) -> Answer {
    match result {
        Ok(_) => Answer::DONE,
        Err(error) => refused(error),
    }
}

/// The answer to a gateway's connect or disconnect.
pub(crate) fn child<T>(result: &Result<T, SubmitError>) -> Answer {
    match result {
        Ok(_) => Answer::DONE,
        Err(error) => refused(error),
    }
}

/// Refused entries named in user properties.
const NAMED: usize = 20;

/// The answer to a gateway's batch.
pub(crate) fn batch(result: &Result<BatchReceipt, SubmitError>) -> Answer {
    let receipt = match result {
        Ok(receipt) => receipt,
        Err(error) => return refused(error),
    };
    let response = Some(summary(receipt));
    if receipt.refused.is_empty() {
        return Answer { response, ..Answer::DONE };
    }
    let reason = format!("{} accepted, {} refused", receipt.accepted, receipt.refused.len());
    let user = receipt.refused.iter().take(NAMED);
    let user = user.map(|entry| ("refused", format!("{}: {}", entry.name, entry.error.outcome().name()))).collect();
    let notes = Some(Box::new(Notes { reason: reason.into(), user }));
    Answer { code: code(receipt.worst()), ack_311: receipt.accepted > 0, notes, response }
}

/// `{"accepted":2,"refused":{"Device C":"not_claimable"}}`.
fn summary(receipt: &BatchReceipt) -> String {
    let mut text = format!("{{\"accepted\":{},\"refused\":{{", receipt.accepted);
    for (index, entry) in receipt.refused.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let name = serde_json::Value::from(&*entry.name);
        let _ = write!(text, "{comma}{name}:\"{}\"", entry.error.outcome().name());
    }
    text.push_str("}}");
    text
}

/// CONNACK's code in 3.1.1 and 5, and a reason string, for a CONNECT whose credential was not taken.
pub(crate) fn not_authenticated(error: AuthError, hello: &Hello) -> (u8, &'static str) {
    let codes = match error {
        AuthError::Refused => {
            // ThingsBoard's choice (thingsboard.md 2.5).
            let (user, password) = (hello.user_name.is_some(), hello.password.is_some());
            let client = !hello.client_id.is_empty();
            let text = "no device has this credential; check the access token, sent as user name";
            if (user && password && client) || user != password {
                (5, 0x86, text)
            } else if client {
                (2, 0x85, text)
            } else {
                (5, 0x87, text)
            }
        }
        AuthError::TooManyFailures { .. } => (3, 0x9F, "too many refused credentials from this address; wait"),
        AuthError::Unavailable => (3, 0x88, "the device registry does not answer; connect again"),
    };
    match hello.version {
        Version::V311 => (codes.0, codes.2),
        Version::V5 => (codes.1, codes.2),
    }
}
