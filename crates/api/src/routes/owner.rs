//! The owner's claim and unclaim: read the request, ask [`claim::Confirmation`], answer.

use std::time::Instant;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, extract};
use claim::confirmation::{ConfirmRequest, DeviceRef};
use claim::event::AuditAction;
use claim::message;
use claim::ports::RetryKey;
use claim::{ClaimState, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::One;
use crate::Api;
use crate::extract::{Asked, At, Caller, Raw};
use crate::model::{DeviceJson, EntityType, entity};
use crate::reply::{self, Answer, Fault};

/// What an owner shows.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body, which the domain reads")]
pub(crate) struct ClaimBody {
    /// The device's secret; none is the empty secret.
    #[schema(rename = "secretKey")]
    secret_key: Option<String>,
}

/// A device that is now the caller's.
#[derive(Serialize, ToSchema)]
pub(crate) struct ClaimResult {
    device: Option<DeviceJson>,
    /// `SUCCESS`.
    response: &'static str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClaimQuery {
    sub_customer_id: Option<Uuid>,
}

pub(crate) async fn claim(
    State(api): State<Api>,
    caller: Caller,
    At(name): At<String>,
    Asked(query): Asked<ClaimQuery>,
    request: extract::Request,
) -> Response {
    let started = Instant::now();
    let response = match confirm(&api, &caller, &name, &query, request).await {
        Ok(response) => response,
        Err(fault) => fault.into_response(),
    };
    measured(&api, started, response.status());
    response
}

/// How long a claim took, by what was answered; at every door.
pub(super) fn measured(api: &Api, started: Instant, status: StatusCode) {
    let outcome = match status {
        StatusCode::TOO_MANY_REQUESTS => "rate_limited",
        status if status.is_success() => "claimed",
        status if status.is_server_error() => "unavailable",
        _ => "refused",
    };
    api.inner.parts.confirmation.meter().confirm_seconds(outcome, started.elapsed().as_secs_f64());
}

async fn confirm(
    api: &Api,
    caller: &Caller,
    name: &str,
    query: &ClaimQuery,
    request: extract::Request,
) -> Result<Response, Fault> {
    // Read first, not looked at: an answer before the end of a body ends the connection, which its client may want again.
    let (head, body) = request.into_parts();
    let Raw(body) = <Raw as extract::FromRequest<Api>>::from_request(extract::Request::new(body), api).await?;
    // Whether the account may claim at all is decided before its body or the device is looked at.
    let customer = caller.bound_to().ok_or_else(Fault::forbidden)?;
    let confirmation = &api.inner.parts.confirmation;
    let origin = api.origin(&head.extensions);
    confirmation.permit(caller.actor(), AuditAction::Confirm, &origin, api.now()).map_err(|_| Fault::forbidden())?;
    if query.sub_customer_id.is_some_and(|asked| asked != customer.uuid()) {
        return Err(Fault::bad_request("`subCustomerId` is not a customer of yours; leave it out"));
    }
    let secret = message::owner_secret(&body).map_err(|fault| Fault::bad_request(fault.text()))?;
    let retry = retry_key(api, caller, name, &body, &head.headers)?;
    let outcome = {
        let request = ConfirmRequest {
            actor: caller.actor(),
            for_customer: None,
            device: DeviceRef::Name(name),
            target: None,
            secret: &secret,
            retry,
        };
        confirmation.confirm(request, &origin, api.now()).await
    };
    match reply::confirmed(&outcome, api.config().disclosure) {
        Answer::Final(response) => Ok(response),
        Answer::Success { device } => {
            // The claim is on disk; if the device cannot be read now, its owner still learns that it is theirs.
            let record = api.directory().device_record(caller.0.tenant, device).await.ok();
            let device = record.map(|record| {
                let mut device = DeviceJson::from(record);
                // As of the claim, whatever came after it.
                device.customer_id = entity(EntityType::Customer, customer.uuid());
                device
            });
            Ok(Json(ClaimResult { device, response: "SUCCESS" }).into_response())
        }
    }
}

/// The request's `Idempotency-Key` and what it was asked with, as digests.
fn retry_key(
    api: &Api,
    caller: &Caller,
    name: &str,
    body: &[u8],
    headers: &HeaderMap,
) -> Result<Option<RetryKey>, Fault> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() || value.is_empty() || value.len() > 255 {
        return Err(Fault::bad_request("`Idempotency-Key` is one value of 1 to 255 bytes"));
    }
    let keyring = &api.inner.parts.keyring;
    let mut request = Vec::with_capacity(name.len() + body.len() + 1);
    request.extend_from_slice(name.as_bytes());
    // No name has a NUL, so two requests never run together.
    request.push(0);
    request.extend_from_slice(body);
    let key = keyring.token_digest("idempotency-key", value.as_bytes());
    let request = keyring.token_digest("idempotent-request", &zeroize::Zeroizing::new(request));
    Ok(Some(RetryKey { account: caller.0.id, key, request }))
}

pub(crate) async fn unclaim(
    State(api): State<Api>,
    caller: Caller,
    At(name): At<String>,
    request: extract::Request,
) -> Result<(), Fault> {
    let origin = api.origin(request.extensions());
    reply::unclaimed(api.inner.parts.confirmation.unclaim(caller.actor(), &name, &origin, api.now()).await)
}

/// A device's claim state.
#[derive(Serialize, ToSchema)]
pub(crate) struct StateJson(Value);

pub(crate) async fn state(State(api): State<Api>, caller: Caller, At(name): At<String>) -> One<StateJson> {
    let now: Timestamp = api.now();
    match api.inner.parts.confirmation.status(caller.actor(), &name, now).await {
        Ok(Some(state)) => Ok(Json(StateJson(json(&state)))),
        Ok(None) => Err(Fault::not_found()),
        Err(claim::Unavailable) => Err(Fault::unavailable()),
    }
}

fn json(state: &ClaimState) -> Value {
    serde_json::from_str(&state.to_json()).unwrap_or_default()
}
