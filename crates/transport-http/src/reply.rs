//! Outcomes of a device's request as HTTP (thingsboard.md 2.2): a status and a problem document (RFC 9457).
//!
//! The matches are exhaustive on purpose: a new outcome does not compile until it is said how HTTP answers it.

use std::time::Duration;

use bytes::Bytes;
use claim::time::whole_seconds;
use claim::{AuthError, ClaimState, Receipt, SubmitError};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::listener::Answer;

/// How long a client waits that is refused because a store does not answer.
const STORE_AWAY: Duration = Duration::from_secs(5);

pub(crate) fn submitted(result: &Result<Receipt, SubmitError>) -> Response<Answer> {
    let error = match result {
        Ok(_) => return Response::new(Answer::Bytes(Bytes::new())),
        Err(error) => error,
    };
    let (status, retry_after) = match error {
        SubmitError::Malformed(_) => (StatusCode::BAD_REQUEST, None),
        SubmitError::Unauthenticated => return unauthenticated(error.text()),
        SubmitError::NotClaimable => (StatusCode::FORBIDDEN, None),
        SubmitError::AlreadyOwned => (StatusCode::CONFLICT, None),
        SubmitError::QuotaExceeded { retry_after } => (StatusCode::SERVICE_UNAVAILABLE, Some(*retry_after)),
        SubmitError::RateLimited { retry_after } => (StatusCode::TOO_MANY_REQUESTS, Some(*retry_after)),
        SubmitError::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, Some(STORE_AWAY)),
    };
    later(refusal(status, error.outcome().name(), error.text()), retry_after)
}

pub(crate) fn not_authenticated(error: AuthError) -> Response<Answer> {
    match error {
        AuthError::Refused => unauthenticated("no device has this access token; check the token in the path"),
        AuthError::TooManyFailures { retry_after } => {
            let text = "too many wrong access tokens from this address; wait and send again";
            later(refusal(StatusCode::TOO_MANY_REQUESTS, "rate_limited", text), Some(retry_after))
        }
        AuthError::Unavailable => unavailable(),
    }
}

pub(crate) fn unavailable() -> Response<Answer> {
    submitted(&Err(SubmitError::Unavailable))
}

/// A wait that there is no room for.
pub(crate) fn no_room_to_wait() -> Response<Answer> {
    let text = "too many requests wait already; ask again without `wait`, or later";
    later(refusal(StatusCode::SERVICE_UNAVAILABLE, "quota_exceeded", text), Some(STORE_AWAY))
}

pub(crate) fn malformed(text: &str) -> Response<Answer> {
    refusal(StatusCode::BAD_REQUEST, "malformed", text)
}

pub(crate) fn too_large(most: usize) -> Response<Answer> {
    let text = format!("the body is larger than {most} bytes");
    refusal(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &text)
}

pub(crate) fn too_slow() -> Response<Answer> {
    refusal(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body did not arrive in time; send it again")
}

pub(crate) fn not_found() -> Response<Answer> {
    let text = "nothing is at this path; devices claim at `/api/v1/{token}/claim`";
    refusal(StatusCode::NOT_FOUND, "not_found", text)
}

pub(crate) fn wrong_method() -> Response<Answer> {
    let text = "devices POST a claim here, or GET its state";
    let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", text);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
    response
}

/// A device's claim state, with the tag it can wait on.
pub(crate) fn state(state: &ClaimState, tag: HeaderValue) -> Response<Answer> {
    let mut response = Response::new(Answer::Bytes(state.to_json().into()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ETAG, tag);
    response
}

pub(crate) fn not_modified(tag: HeaderValue) -> Response<Answer> {
    let mut response = Response::new(Answer::Bytes(Bytes::new()));
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response.headers_mut().insert(ETAG, tag);
    response
}

/// A problem document; `outcome` is claimd's name for it, the same in metrics, logs and audit rows.
pub(crate) fn refusal(status: StatusCode, outcome: &'static str, detail: &str) -> Response<Answer> {
    #[derive(Serialize)]
    struct Problem<'a> {
        title: &'a str,
        status: u16,
        outcome: &'a str,
        detail: &'a str,
    }
    let title = status.canonical_reason().unwrap_or_default();
    let problem = Problem { title, status: status.as_u16(), outcome, detail };
    // Texts and a number: nothing in it can fail to serialise.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = Response::new(Answer::Bytes(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

fn unauthenticated(text: &str) -> Response<Answer> {
    let mut response = refusal(StatusCode::UNAUTHORIZED, "unauthenticated", text);
    // RFC 9110 §11.6.1 wants a challenge; the token goes into the path, which no registered scheme says.
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("AccessToken realm=\"device\""));
    response
}

fn later(mut response: Response<Answer>, retry_after: Option<Duration>) -> Response<Answer> {
    if let Some(wait) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait).max(1)));
    }
    response
}
