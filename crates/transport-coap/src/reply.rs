//! Outcomes as CoAP says them (thingsboard.md 2.2).
//!
//! The matches are exhaustive on purpose: a new outcome does not compile until it is said how CoAP answers it.

use std::borrow::Cow;
use std::time::Duration;

use claim::time::whole_seconds;
use claim::{AuthError, ClaimState, Receipt, SubmitError, Unavailable};

use crate::endpoint::request::Block;
use crate::endpoint::wire::{code, format};

/// How long a client waits that is refused because a store does not answer.
const STORE_AWAY: Duration = Duration::from_secs(5);

/// A response, before it has a message id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) code: u8,
    pub(crate) payload: Cow<'static, [u8]>,
    pub(crate) format: Option<u32>,
    pub(crate) max_age: Option<u32>,
    pub(crate) etag: Option<[u8; 8]>,
    pub(crate) observe: Option<u32>,
    pub(crate) block1: Option<Block>,
    pub(crate) block2: Option<Block>,
    pub(crate) size1: Option<u32>,
    pub(crate) echo: Option<[u8; 8]>,
}

impl Reply {
    pub(crate) fn of(code: u8) -> Self {
        Self { code, ..Self::default() }
    }

    /// With a diagnostic payload (RFC 7252 §5.5.2).
    pub(crate) fn saying(code: u8, text: &'static str) -> Self {
        Self { payload: Cow::Borrowed(text.as_bytes()), ..Self::of(code) }
    }

    fn later(code: u8, wait: Duration) -> Self {
        let seconds = u32::try_from(whole_seconds(wait).max(1)).unwrap_or(u32::MAX);
        Self { max_age: Some(seconds), ..Self::of(code) }
    }
}

pub(crate) fn submitted(result: &Result<Receipt, SubmitError>) -> Reply {
    let error = match result {
        Ok(_) => return Reply::of(code::CREATED),
        Err(error) => error,
    };
    match error {
        SubmitError::Malformed(_) => Reply::saying(code::BAD_REQUEST, error.text()),
        SubmitError::Unauthenticated => Reply::of(code::UNAUTHORIZED),
        SubmitError::NotClaimable => Reply::saying(code::FORBIDDEN, error.text()),
        SubmitError::AlreadyOwned => Reply::saying(code::CONFLICT, error.text()),
        SubmitError::QuotaExceeded { retry_after } => Reply::later(code::UNAVAILABLE, *retry_after),
        SubmitError::RateLimited { retry_after } => Reply::later(code::TOO_MANY_REQUESTS, *retry_after),
        SubmitError::Unavailable => Reply::later(code::UNAVAILABLE, STORE_AWAY),
    }
}

pub(crate) fn not_authenticated(error: AuthError) -> Reply {
    match error {
        AuthError::Refused => Reply::of(code::UNAUTHORIZED),
        AuthError::TooManyFailures { retry_after } => Reply::later(code::TOO_MANY_REQUESTS, retry_after),
        AuthError::Unavailable => unavailable(),
    }
}

pub(crate) fn state(result: Result<ClaimState, Unavailable>) -> Reply {
    match result {
        Ok(state) => Reply {
            payload: Cow::Owned(state.to_json().into_bytes()),
            format: Some(format::JSON),
            // Not to be taken for fresh later: it changes at any moment.
            max_age: Some(0),
            ..Reply::of(code::CONTENT)
        },
        Err(Unavailable) => unavailable(),
    }
}

pub(crate) fn unavailable() -> Reply {
    Reply::later(code::UNAVAILABLE, STORE_AWAY)
}

/// The server stops, or is full.
pub(crate) fn come_again() -> Reply {
    Reply::later(code::UNAVAILABLE, STORE_AWAY)
}
