//! Settings of many listed devices at once, each with its own result; and root keys, which leave only here.

use axum::Json;
use axum::extract::State;
use claim::applications::{CodeChange, DeviceChange, Place};
use claim::{ListingId, Secret};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::applications::{CodeRequest, Path, set_code_of, there};
use super::{One, title};
use crate::Api;
use crate::extract::{At, Caller, Sent};
use crate::listed::{CodeJson, ListedJson};
use crate::reply::Fault;

/// Devices that one request changes.
const TOGETHER: usize = 1_000;

/// What is changed on each of many devices; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BatchRequest {
    /// Ids in the application, 1 to 1,000.
    devices: Vec<String>,
    /// `null`: none.
    #[serde(default, deserialize_with = "there")]
    #[schema(value_type = Option<bool>)]
    claiming_allowed: Option<Option<bool>>,
    frozen: Option<bool>,
    presence: Option<bool>,
    /// A code for each, generated or not at all: `{"generate":"base32"}`, a window, or `null` to delete it. One value for
    /// many devices is refused.
    #[serde(default, deserialize_with = "there_or_null")]
    #[schema(value_type = Option<CodeRequest>)]
    code: Option<Option<CodeRequest>>,
    /// Why, for the audit log.
    reason: Option<String>,
}

fn there_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<CodeRequest>>, D::Error> {
    there(deserializer)
}

/// What became of one of the devices.
#[derive(Serialize, ToSchema)]
pub(crate) struct BatchResult {
    id: String,
    /// `changed` or `failed`.
    status: &'static str,
    /// The code as it stands; a generated one is shown here once.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<CodeJson>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct BatchResults {
    results: Vec<BatchResult>,
}

pub(crate) async fn batch(
    State(api): State<Api>,
    caller: Caller,
    At(application): At<String>,
    Sent(request): Sent<BatchRequest>,
) -> One<BatchResults> {
    let tenant = caller.maker()?.tenant;
    let application = ListingId::parse(&application).map_err(|_| Fault::not_found())?;
    api.applications().application(tenant, application.clone()).await?;
    if !(1..=TOGETHER).contains(&request.devices.len()) {
        return Err(Fault::bad_request(format!("`devices` has 1 to {TOGETHER} ids")));
    }
    if request.code.as_ref().and_then(Option::as_ref).is_some_and(CodeRequest::has_value) {
        return Err(Fault::bad_request("one code for many devices opens them all; let them be generated"));
    }
    let reason = request.reason.as_deref().map(|reason| title("reason", reason)).transpose()?;
    let distinct: std::collections::BTreeSet<&String> = request.devices.iter().collect();
    if distinct.len() < request.devices.len() {
        return Err(Fault::bad_request("a device is named twice"));
    }
    let mut results: Vec<BatchResult> = Vec::with_capacity(request.devices.len());
    let mut away: Option<String> = None;
    for id in &request.devices {
        if let Some(error) = &away {
            results.push(BatchResult { id: id.clone(), status: "failed", code: None, error: Some(error.clone()) });
            continue;
        }
        let place = ListingId::parse(id).map(|device| Place { application: application.clone(), device });
        let changed = match place {
            Ok(place) => one(&api, &caller, place, &request, reason.as_deref()).await,
            Err(_) => Err(Fault::not_found()),
        };
        results.push(match changed {
            Ok(device) => BatchResult { id: id.clone(), status: "changed", code: device.code, error: None },
            Err(fault) => {
                let error = fault.message.to_string();
                if fault.status.is_server_error() {
                    // Nothing that follows would fare better; but codes that were made already are shown only now.
                    if results.is_empty() {
                        return Err(fault);
                    }
                    away = Some(error.clone());
                }
                BatchResult { id: id.clone(), status: "failed", code: None, error: Some(error) }
            }
        });
    }
    Ok(Json(BatchResults { results }))
}

async fn one(
    api: &Api,
    caller: &Caller,
    place: Place,
    request: &BatchRequest,
    reason: Option<&str>,
) -> Result<ListedJson, Fault> {
    let tenant = caller.maker()?.tenant;
    let coded = match &request.code {
        None => None,
        Some(None) => {
            let deleted =
                api.applications().change_code(tenant, place.clone(), CodeChange::Delete, api.by(caller)).await?;
            Some(deleted.into())
        }
        Some(Some(code)) => Some(set_code_of(api, caller, place.clone(), code).await?),
    };
    let change = DeviceChange {
        claiming_allowed: request.claiming_allowed,
        frozen: request.frozen,
        presence: request.presence,
        reason: reason.map(str::to_owned),
    };
    let mut changed = ListedJson::from(api.applications().change_device(tenant, place, change, api.by(caller)).await?);
    // A generated code is in the first answer only.
    if let Some(ListedJson { code: Some(code), .. }) = coded {
        changed.code = Some(code);
    }
    Ok(changed)
}

/// Root keys as they are shown: 32 hex digits.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RootKeysJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    app_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nwk_key: Option<String>,
}

/// From now on they count as exposed, for ever.
pub(crate) async fn export_root_keys(State(api): State<Api>, caller: Caller, At(path): At<Path>) -> One<RootKeysJson> {
    let tenant = caller.maker()?.tenant;
    let keys = api.applications().export_root_keys(tenant, path.place()?, api.by(&caller)).await?;
    let hex = |key: Option<Secret<[u8; 16]>>| {
        key.map(|key| key.expose().iter().map(|byte| format!("{byte:02X}")).collect::<String>())
    };
    Ok(Json(RootKeysJson { app_key: hex(keys.app_key), nwk_key: hex(keys.nwk_key) }))
}
