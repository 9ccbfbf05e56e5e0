//! Refusals as The Things Stack says them: a gRPC code, a name in a namespace, its attributes (claim-codes.md 5.3 and 7).

use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use claim::confirmation::{ConfirmOutcome, Shown};
use claim::directory::DirectoryError;
use claim::policy::Disclosure;
use claim::time::whole_seconds;
use serde_json::{Map, Value, json};

use crate::reply::Fault;

/// The package of The Things Stack that its claim errors are named after.
const CLAIMING: &str = "pkg/deviceclaimingserver";
/// What The Things Stack has no name for.
const OURS: &str = "claimd";
/// Names that are The Things Stack's own.
const THEIRS: [&str; 14] = [
    "no_join_eui",
    "no_dev_eui",
    "invalid_eui",
    "qr_code_data",
    "authentication_code",
    "no_claim_authentication_code",
    "device_access_denied",
    "no_euis",
    "device_not_found",
    "device_not_claimed",
    "no_devices_found",
    "claiming_not_supported",
    "no_application_rights",
    "unauthenticated",
];

/// gRPC's status codes, as far as they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidArgument = 3,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Unimplemented = 12,
    Unavailable = 14,
    Unauthenticated = 16,
}

impl Code {
    fn status(self) -> StatusCode {
        match self {
            Self::InvalidArgument | Self::FailedPrecondition => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::AlreadyExists => StatusCode::CONFLICT,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Self::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
        }
    }
}

/// A refusal. Its text and attributes hold nothing secret.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    code: Code,
    name: &'static str,
    /// With `{attribute}` where an attribute belongs.
    format: String,
    attributes: Map<String, Value>,
    retry_after: Option<Duration>,
}

impl Refused {
    pub(crate) fn new(code: Code, name: &'static str, format: impl Into<String>) -> Self {
        Self { code, name, format: format.into(), attributes: Map::new(), retry_after: None }
    }

    pub(crate) fn invalid(name: &'static str, format: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, name, format)
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.attributes.insert(name.to_owned(), value.into());
        self
    }

    /// The one answer to whoever does not show the right code, whatever the device.
    pub(crate) fn access_denied() -> Self {
        Self::invalid(
            "device_access_denied",
            "the code or the device is not right, or the device is not open for claiming",
        )
    }

    pub(crate) fn no_rights(application: &str) -> Self {
        Self::new(Code::PermissionDenied, "no_application_rights", "no rights for application `{uid}`")
            .with("uid", application)
    }

    pub(crate) fn unavailable() -> Self {
        let format = "a store does not answer and nothing was changed; send the request again";
        Self { retry_after: Some(Duration::from_secs(5)), ..Self::new(Code::Unavailable, "unavailable", format) }
    }

    /// The members of the error object.
    pub(crate) fn json(&self) -> Value {
        let namespace = if THEIRS.contains(&self.name) { CLAIMING } else { OURS };
        let mut text = self.format.clone();
        for (name, value) in &self.attributes {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text = text.replace(&format!("{{{name}}}"), &value);
        }
        json!({
            "code": self.code as u8,
            "message": format!("error:{namespace}:{} ({text})", self.name),
            "details": [{
                "@type": "type.googleapis.com/ttn.lorawan.v3.ErrorDetails",
                "namespace": namespace,
                "name": self.name,
                "message_format": self.format,
                "attributes": self.attributes,
                "correlation_id": uuid::Uuid::new_v4().simple().to_string(),
                "code": self.code as u8,
            }],
        })
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (self.code.status(), Json(self.json())).into_response();
        let headers = response.headers_mut();
        if self.code == Code::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"claimd\""));
        }
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait).max(1)));
        }
        response
    }
}

/// What the API refuses before a route is asked: no credential, a body that cannot be read.
impl From<&Fault> for Refused {
    fn from(fault: &Fault) -> Self {
        let (code, name) = match fault.status {
            StatusCode::UNAUTHORIZED => (Code::Unauthenticated, "unauthenticated"),
            StatusCode::FORBIDDEN => (Code::PermissionDenied, "no_application_rights"),
            StatusCode::NOT_FOUND => (Code::NotFound, "not_found"),
            StatusCode::METHOD_NOT_ALLOWED => (Code::Unimplemented, "method_not_allowed"),
            StatusCode::TOO_MANY_REQUESTS => (Code::ResourceExhausted, "rate_limited"),
            StatusCode::SERVICE_UNAVAILABLE => (Code::Unavailable, "unavailable"),
            _ => (Code::InvalidArgument, "invalid_argument"),
        };
        Self { retry_after: fault.retry_after, ..Self::new(code, name, fault.message.to_string()) }
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::from(&fault)
    }
}

impl From<DirectoryError> for Refused {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::NotFound("device") => {
                Self::new(Code::NotFound, "device_not_found", "there is no such device in this application")
            }
            DirectoryError::NotFound(what) => {
                Self::new(Code::NotFound, "not_found", format!("there is no such {what}"))
            }
            DirectoryError::Taken(what) => {
                Self::new(Code::AlreadyExists, "id_taken", "another has this {what}").with("what", what)
            }
            DirectoryError::InUse(by) => Self::new(Code::FailedPrecondition, "in_use", by),
            DirectoryError::Refused(why) => Self::invalid("invalid_argument", why),
            DirectoryError::Full { what, most } => {
                let format = "there are {most} {what} already, and no more may be";
                Self::new(Code::ResourceExhausted, "quota_exceeded", format).with("most", most).with("what", what)
            }
            DirectoryError::Unavailable => Self::unavailable(),
        }
    }
}

/// The answer to a claim that was not made. Strict, whatever the ThingsBoard face discloses.
pub(crate) fn refusal(outcome: &ConfirmOutcome, application: &str) -> Refused {
    match outcome {
        ConfirmOutcome::Refused(refusal) => match refusal.shown(Disclosure::Strict) {
            Shown::Owned => Refused::new(Code::AlreadyExists, "device_already_claimed", "the device has another owner"),
            Shown::Because("id_taken") => {
                Refused::new(Code::AlreadyExists, "id_taken", "the device id is in use in application `{uid}`")
                    .with("uid", application)
            }
            Shown::Because("no_target") => Refused::no_rights(application),
            Shown::Refused | Shown::NotFound | Shown::Because(_) => Refused::access_denied(),
        },
        ConfirmOutcome::Forbidden => Refused::no_rights(application),
        ConfirmOutcome::RetryKeyReused => Refused::new(
            Code::FailedPrecondition,
            "idempotency_key_reused",
            "this Idempotency-Key came with another request",
        ),
        ConfirmOutcome::RateLimited { retry_after, .. } => {
            let format = "too many tries; wait as Retry-After says";
            Refused { retry_after: Some(*retry_after), ..Refused::new(Code::ResourceExhausted, "rate_limited", format) }
        }
        ConfirmOutcome::Unavailable => Refused::unavailable(),
        ConfirmOutcome::OutcomeUnknown => {
            let format = "it is not known whether the claim was made; send the request again, that settles it";
            Refused { format: format.to_owned(), ..Refused::unavailable() }
        }
        // Made before by the same owner, but with another proof.
        ConfirmOutcome::Claimed { .. } | ConfirmOutcome::AlreadyYours { .. } => Refused::access_denied(),
    }
}
