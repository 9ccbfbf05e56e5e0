//! Outcomes as HTTP answers, in ThingsBoard's form: its error object with its error codes, `"FAILURE"` and `"CLAIMED"`
//! as bare JSON texts (thingsboard.md 3).

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use claim::DeviceId;
use claim::confirmation::{ConfirmOutcome, Shown, UnclaimOutcome};
use claim::directory::DirectoryError;
use claim::policy::Disclosure;
use claim::time::whole_seconds;
use serde::Serialize;

/// How long a client waits that is refused because a store does not answer.
const STORE_AWAY: Duration = Duration::from_secs(5);

/// Why an owner's claim was refused, for clients that ask (thingsboard.md 3).
pub(crate) const CLAIM_REASON: HeaderName = HeaderName::from_static("claim-reason");

/// Tries that the account has left at this device, after a wrong secret.
const TRIES_LEFT: HeaderName = HeaderName::from_static("claim-tries-left");

/// Where ThingsBoard says 400 and ours would be 409, for tools that tell the two apart.
const CONFLICT: HeaderName = HeaderName::from_static("claimd-conflict");

/// A refusal of any request. Its text says what happened and what to do, and holds nothing secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) status: StatusCode,
    /// ThingsBoard's code: 2 general, 10 authentication, 11 expired, 20 permission, 31 bad request, 32 not found, 33 too many.
    code: u16,
    pub(crate) message: Cow<'static, str>,
    pub(crate) retry_after: Option<Duration>,
    /// Something else stands in the way: 409 on our own routes; ThingsBoard says 400.
    conflict: bool,
    /// What our own routes say instead of ThingsBoard's text.
    own: Option<Cow<'static, str>>,
}

impl Fault {
    pub(crate) fn new(status: StatusCode, code: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), retry_after: None, conflict: false, own: None }
    }

    pub(crate) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 31, message)
    }

    pub(crate) fn unauthenticated(message: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, 10, message)
    }

    pub(crate) fn expired() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, 11, "the token has expired; refresh it at `/api/auth/token`")
    }

    pub(crate) fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, 20, "You don't have permission to perform this operation!")
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, 32, "Requested item wasn't found!")
    }

    /// Something else stands in the way.
    pub(crate) fn conflict(message: &'static str) -> Self {
        Self { conflict: true, ..Self::bad_request(message) }
    }

    pub(crate) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, 31, "the file is larger than this server takes; split it")
    }

    pub(crate) fn too_many(wait: Duration) -> Self {
        let fault =
            Self::new(StatusCode::TOO_MANY_REQUESTS, 33, "too many tries; wait as `Retry-After` says, then try again");
        Self { retry_after: Some(wait), ..fault }
    }

    pub(crate) fn unavailable() -> Self {
        let text = "a store does not answer and nothing was changed; send the request again";
        Self { retry_after: Some(STORE_AWAY), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, 2, text) }
    }

    pub(crate) fn outcome_unknown() -> Self {
        let text = "it is not known whether the change was made; send the request again, that settles it";
        Self { retry_after: Some(STORE_AWAY), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, 2, text) }
    }

    /// The same refusal as a problem document (RFC 9457), as our own routes answer.
    pub(crate) fn problem(&self) -> Response {
        #[derive(Serialize)]
        struct Problem<'a> {
            title: &'a str,
            status: u16,
            detail: &'a str,
        }
        let status = if self.conflict { StatusCode::CONFLICT } else { self.status };
        let title = status.canonical_reason().unwrap_or_default();
        let detail = self.own.as_ref().unwrap_or(&self.message);
        let problem = Problem { title, status: status.as_u16(), detail };
        let mut response = Json(problem).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let mut response = self.dress(response);
        *response.status_mut() = status;
        response
    }

    fn dress(&self, mut response: Response) -> Response {
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"claimd\""));
        }
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait).max(1)));
        }
        response
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Error<'a> {
            status: u16,
            message: &'a str,
            error_code: u16,
            timestamp: u64,
        }
        let since_epoch = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        let error = Error {
            status: self.status.as_u16(),
            message: &self.message,
            error_code: self.code,
            timestamp: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
        };
        let mut response = self.dress(Json(error).into_response());
        if self.conflict {
            response.headers_mut().insert(CONFLICT, HeaderValue::from_static("true"));
        }
        // Our own routes show it as a problem document instead.
        response.extensions_mut().insert(self);
        response
    }
}

impl From<DirectoryError> for Fault {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::Taken(what) => {
                let fault = Self::bad_request(format!("this {what} exists already; take another"));
                Self { conflict: true, ..fault }
            }
            DirectoryError::NotFound(what) => {
                Self { own: Some(format!("no {what} found").into()), ..Self::not_found() }
            }
            DirectoryError::InUse(by) => Self { conflict: true, ..Self::bad_request(by) },
            DirectoryError::Refused(why) => Self::bad_request(why),
            DirectoryError::Full { what, most } => {
                let text = format!("there are {most} {what} already, and no more may be; remove one that is not used");
                Self { conflict: true, ..Self::bad_request(text) }
            }
            DirectoryError::Unavailable => Self::unavailable(),
        }
    }
}

/// What an owner's claim is answered with; a success still needs its device.
pub(crate) enum Answer {
    Success { device: DeviceId },
    Final(Response),
}

pub(crate) fn confirmed(outcome: &ConfirmOutcome, disclosure: Disclosure) -> Answer {
    let fault = match outcome {
        ConfirmOutcome::Claimed { device, .. } => {
            return Answer::Success { device: *device };
        }
        ConfirmOutcome::AlreadyYours { .. } => return Answer::Final(said("CLAIMED", "already_yours")),
        ConfirmOutcome::Refused(refusal) => match (refusal.shown(disclosure), disclosure) {
            (Shown::Refused, _) => {
                let mut response = said("FAILURE", "refused");
                response.headers_mut().insert(TRIES_LEFT, HeaderValue::from(refusal.left));
                return Answer::Final(response);
            }
            (Shown::Because(reason), _) => return Answer::Final(said("FAILURE", reason)),
            (Shown::Owned, Disclosure::Strict) => return Answer::Final(said("FAILURE", "owned")),
            (Shown::Owned, Disclosure::Thingsboard) => {
                let reason = if refusal.right { "owned" } else { "refused" };
                return Answer::Final(said("CLAIMED", reason));
            }
            (Shown::NotFound, _) => Fault::not_found(),
        },
        ConfirmOutcome::Forbidden => Fault::forbidden(),
        ConfirmOutcome::RetryKeyReused => {
            let text = "this `Idempotency-Key` came with another request before; use a new one for each request";
            Fault::new(StatusCode::UNPROCESSABLE_ENTITY, 31, text)
        }
        ConfirmOutcome::RateLimited { retry_after, .. } => Fault::too_many(*retry_after),
        ConfirmOutcome::Unavailable => Fault::unavailable(),
        ConfirmOutcome::OutcomeUnknown => Fault::outcome_unknown(),
    };
    Answer::Final(fault.into_response())
}

fn said(text: &'static str, reason: &'static str) -> Response {
    (StatusCode::BAD_REQUEST, [(CLAIM_REASON, HeaderValue::from_static(reason))], Json(text)).into_response()
}

pub(crate) fn unclaimed(outcome: UnclaimOutcome) -> Result<(), Fault> {
    match outcome {
        UnclaimOutcome::Released { .. } | UnclaimOutcome::Unowned { .. } => Ok(()),
        UnclaimOutcome::NotFound => Err(Fault::not_found()),
        UnclaimOutcome::Unavailable => Err(Fault::unavailable()),
        UnclaimOutcome::OutcomeUnknown => Err(Fault::outcome_unknown()),
    }
}
