//! Claims under way, for their maker: which are pending, dropping one, clearing the wrong tries at a device.

use axum::Json;
use axum::extract::State;
use axum::http::{Extensions, StatusCode};
use axum::routing::{get, post};
use claim::Timestamp;
use claim::confirmation::{Announced, OversightOutcome};
use claim_codes::window::show_instant;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::One;
use crate::Api;
use crate::docs::{Op, Table};
use crate::extract::{Asked, At, Caller};
use crate::reply::Fault;

pub(super) fn faces(table: Table) -> Table {
    let op = |summary| Op::new("Claims under way", summary);
    table
        .get(
            "/api/claimd/v1/claims",
            op("Pending claims of the tenant by device id, without their secrets")
                .query("limit", false, "1 to 1,000; 100 when left out")
                .query("after", false, "only devices after this one: the `next` of the page before")
                .answer::<PendingJson>(),
            get(pending),
        )
        .post(
            "/api/claimd/v1/devices/{deviceName}/revoke-claim",
            op("Drop a device's pending claim; an owner is untouched").refuses(404, "unknown, or nothing is pending"),
            post(revoke),
        )
        .post(
            "/api/claimd/v1/devices/{deviceName}/unlock",
            op("Forget all wrong tries at a device, whoever made them").refuses(404, "unknown"),
            post(unlock),
        )
}

#[derive(Deserialize)]
struct Slice {
    #[serde(default = "super::hundred")]
    limit: u32,
    after: Option<Uuid>,
}

/// Some of the pending claims.
#[derive(Serialize, ToSchema)]
pub(crate) struct PendingJson {
    /// May be fewer than were asked for though there are more.
    data: Vec<ClaimJson>,
    /// The `after` of the next page; `null`: there is none.
    next: Option<Uuid>,
}

/// A pending claim.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClaimJson {
    device_id: Uuid,
    device: String,
    /// `device`, or `gateway`: which of the two announced it.
    source: &'static str,
    received_at: String,
    expires_at: String,
    /// Until it ends.
    seconds_left: u64,
}

impl ClaimJson {
    fn at(claim: &Announced, now: Timestamp) -> Self {
        Self {
            device_id: claim.device.uuid(),
            device: claim.name.as_str().to_owned(),
            source: claim.source.name(),
            received_at: show_instant(claim.received_at),
            expires_at: show_instant(claim.expires_at),
            seconds_left: now.until(claim.expires_at).as_secs(),
        }
    }
}

async fn pending(State(api): State<Api>, caller: Caller, Asked(slice): Asked<Slice>) -> One<PendingJson> {
    let tenant = caller.maker()?.tenant;
    if !(1..=1000).contains(&slice.limit) {
        return Err(Fault::bad_request("`limit` is not 1 to 1000"));
    }
    let (after, limit, now) = (slice.after.map(Into::into), slice.limit as usize, api.now());
    let page = api.inner.parts.confirmation.pending(tenant, after, limit, now).await;
    let page = page.map_err(|claim::Unavailable| Fault::unavailable())?;
    let data = page.rows.iter().map(|claim| ClaimJson::at(claim, now)).collect();
    Ok(Json(PendingJson { data, next: page.next.map(|device| device.uuid()) }))
}

async fn revoke(
    State(api): State<Api>,
    caller: Caller,
    At(name): At<String>,
    extensions: Extensions,
) -> Result<StatusCode, Fault> {
    caller.maker()?;
    let origin = api.origin(&extensions);
    done(api.inner.parts.confirmation.revoke(caller.actor(), &name, &origin, api.now()).await)
}

async fn unlock(
    State(api): State<Api>,
    caller: Caller,
    At(name): At<String>,
    extensions: Extensions,
) -> Result<StatusCode, Fault> {
    caller.maker()?;
    let origin = api.origin(&extensions);
    done(api.inner.parts.confirmation.unlock(caller.actor(), &name, &origin, api.now()).await)
}

fn done(outcome: OversightOutcome) -> Result<StatusCode, Fault> {
    match outcome {
        OversightOutcome::Done { .. } => Ok(StatusCode::OK),
        OversightOutcome::Nothing => Err(Fault::not_found()),
        OversightOutcome::Unavailable => Err(Fault::unavailable()),
        OversightOutcome::OutcomeUnknown => Err(Fault::outcome_unknown()),
    }
}
