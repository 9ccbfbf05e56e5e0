//! A device's claim settings, in the clothes of ThingsBoard's server-side attributes (thingsboard.md 4).

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use claim::directory::{ClaimSettings, ClaimSettingsChange};
use claim::{ClaimSecret, DeviceId};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{One, instant};
use crate::Api;
use crate::extract::{At, Caller, Raw, parse};
use crate::reply::Fault;

const ALLOWED: &str = "claimingAllowed";
const DATA: &str = "claimingData";
const REDACTED: &str = "[redacted]";

/// One claim setting.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AttributeJson {
    last_update_ts: i64,
    key: &'static str,
    value: Value,
}

fn server_scope(scope: &str) -> Result<(), Fault> {
    if scope == "SERVER_SCOPE" {
        return Ok(());
    }
    Err(Fault::bad_request("claimd keeps claim settings only, in SERVER_SCOPE; nothing was stored"))
}

/// Only the names of what claimd keeps are shown back.
fn known(key: &str) -> Result<&'static str, Fault> {
    match key {
        ALLOWED => Ok(ALLOWED),
        DATA => Ok(DATA),
        "secretKey" | "expirationTime" => Err(Fault::bad_request(
            "put both inside `claimingData`: {\"claimingData\":{\"secretKey\":\"…\",\"expirationTime\":…}}",
        )),
        _ => {
            let key: String = key.chars().filter(|c| !c.is_control()).take(64).collect();
            Err(Fault::bad_request(format!(
                "claimd keeps `{ALLOWED}` and `{DATA}` only, not `{key}`; nothing was stored"
            )))
        }
    }
}

pub(crate) async fn write(
    State(api): State<Api>,
    caller: Caller,
    At((device, scope)): At<(Uuid, String)>,
    Raw(body): Raw,
) -> Result<StatusCode, Fault> {
    let tenant = caller.maker()?.tenant;
    server_scope(&scope)?;
    let members: Map<String, Value> = parse(&body)?;
    if members.is_empty() {
        return Err(Fault::bad_request(format!("the body sets nothing; give `{ALLOWED}` or `{DATA}`")));
    }
    let device = DeviceId::from(device);
    let mut change = ClaimSettingsChange::default();
    for (key, value) in &members {
        match known(key)? {
            ALLOWED => {
                let allowed = value.as_bool().ok_or_else(|| {
                    Fault::bad_request(format!("`{ALLOWED}` is not true or false (without quotes); nothing was stored"))
                })?;
                change.claiming_allowed = Some(Some(allowed));
            }
            _ => {
                let (secret, until) = claiming_data(value)?;
                let digest = secret.digest(&api.inner.parts.keyring, tenant, device);
                change.claiming_data = Some(Some((digest, instant(until))));
            }
        }
    }
    api.directory().change_claim_settings(tenant, device, change, api.by(&caller)).await?;
    Ok(StatusCode::OK)
}

/// `{"secretKey":"K","expirationTime":1640995200000}` or a text of it.
fn claiming_data(value: &Value) -> Result<(ClaimSecret<'static>, i64), Fault> {
    let wrong = |what: &str| Fault::bad_request(format!("`{DATA}`: {what}; nothing was stored"));
    let inner;
    let members = match value {
        Value::Object(members) => members,
        Value::String(text) => {
            inner = serde_json::from_str::<Map<String, Value>>(text)
                .map_err(|_| wrong("the text does not hold an object"))?;
            &inner
        }
        _ => return Err(wrong("it is neither an object nor a text that holds one")),
    };
    if members.keys().any(|key| key != "secretKey" && key != "expirationTime") {
        return Err(wrong("it takes `secretKey` and `expirationTime` and nothing else"));
    }
    let secret = match members.get("secretKey") {
        Some(Value::String(secret)) if secret == REDACTED => {
            return Err(wrong("`secretKey` is the text that stands for a hidden secret; write the secret itself"));
        }
        Some(Value::String(secret)) if !secret.is_empty() => secret.clone(),
        Some(Value::String(_)) | None => return Err(wrong("`secretKey` is missing or empty")),
        Some(_) => return Err(wrong("`secretKey` is not a text")),
    };
    let secret = ClaimSecret::parse(secret).map_err(|fault| wrong(&format!("`secretKey`: {}", fault.text())))?;
    let until = match members.get("expirationTime") {
        Some(Value::Number(number)) => number.as_i64(),
        Some(Value::String(text)) => text.parse().ok(),
        _ => None,
    };
    let until = until.ok_or_else(|| wrong("`expirationTime` is missing or no number of epoch milliseconds"))?;
    Ok((secret, until))
}

async fn settings(api: &Api, caller: &Caller, device: Uuid, query: Option<&str>) -> One<Vec<AttributeJson>> {
    let tenant = caller.maker()?.tenant;
    let wanted = keys(query);
    let settings: ClaimSettings = api.directory().claim_settings(tenant, device.into()).await?;
    let mut rows = Vec::new();
    if let Some((allowed, at)) = settings.claiming_allowed {
        rows.push(AttributeJson { last_update_ts: at.as_millis(), key: ALLOWED, value: allowed.into() });
    }
    if let Some((until, at)) = settings.claiming_data {
        let value = json!({"secretKey": REDACTED, "expirationTime": until.as_millis()});
        rows.push(AttributeJson { last_update_ts: at.as_millis(), key: DATA, value });
    }
    rows.retain(|row| wanted.is_empty() || wanted.iter().any(|key| key == row.key));
    Ok(Json(rows))
}

pub(crate) async fn read(
    State(api): State<Api>,
    caller: Caller,
    At(device): At<Uuid>,
    RawQuery(query): RawQuery,
) -> One<Vec<AttributeJson>> {
    settings(&api, &caller, device, query.as_deref()).await
}

pub(crate) async fn read_scope(
    State(api): State<Api>,
    caller: Caller,
    At((device, scope)): At<(Uuid, String)>,
    RawQuery(query): RawQuery,
) -> One<Vec<AttributeJson>> {
    caller.maker()?;
    server_scope(&scope)?;
    settings(&api, &caller, device, query.as_deref()).await
}

pub(crate) async fn remove(
    State(api): State<Api>,
    caller: Caller,
    At((device, scope)): At<(Uuid, String)>,
    RawQuery(query): RawQuery,
) -> Result<StatusCode, Fault> {
    let tenant = caller.maker()?.tenant;
    server_scope(&scope)?;
    let keys = keys(query.as_deref());
    if keys.is_empty() {
        return Err(Fault::bad_request("name what to remove: `?keys=claimingAllowed,claimingData`"));
    }
    let change = ClaimSettingsChange {
        claiming_allowed: keys.iter().any(|key| key == ALLOWED).then_some(None),
        claiming_data: keys.iter().any(|key| key == DATA).then_some(None),
    };
    api.directory().change_claim_settings(tenant, device.into(), change, api.by(&caller)).await?;
    Ok(StatusCode::OK)
}

/// `?keys=a,b` and `?key=a&key=b`; the names that matter need no decoding, but for an encoded comma.
fn keys(query: Option<&str>) -> Vec<String> {
    query
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| *name == "keys" || *name == "key")
        .flat_map(|(_, values)| {
            values.replace("%2C", ",").replace("%2c", ",").split(',').map(str::to_owned).collect::<Vec<_>>()
        })
        .filter(|key| !key.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claiming_data_is_an_object_or_a_text_of_one() {
        let good = |value: Value| claiming_data(&value).map(|(_, until)| until).ok();
        assert_eq!(good(json!({"secretKey": "K", "expirationTime": 5})), Some(5));
        assert_eq!(good(json!("{\"secretKey\":\"K\",\"expirationTime\":\"5\"}")), Some(5));
        assert_eq!(good(json!({"secretKey": "K", "expirationTime": -5})), Some(-5));
    }

    #[test]
    fn what_is_wrong_with_claiming_data_is_said_without_the_secret() {
        let long = "SECRET".repeat(50);
        for (value, part) in [
            (json!({"expirationTime": 5}), "`secretKey` is missing"),
            (json!({"secretKey": "", "expirationTime": 5}), "`secretKey` is missing or empty"),
            (json!({"secretKey": 5, "expirationTime": 5}), "not a text"),
            (json!({"secretKey": long, "expirationTime": 5}), "longer than 256"),
            (json!({"secretKey": REDACTED, "expirationTime": 5}), "hidden secret"),
            (json!({"secretKey": "SECRET"}), "`expirationTime` is missing"),
            (json!({"secretKey": "SECRET", "expirationTime": "soon"}), "no number"),
            (json!({"secretKey": "SECRET", "expirationTime": 5, "more": 1}), "nothing else"),
            (json!("SECRET"), "does not hold an object"),
            (json!(5), "neither an object"),
        ] {
            let fault = format!("{:?}", claiming_data(&value).map(|(_, until)| until).expect_err("a fault"));
            assert!(fault.contains(part) && !fault.contains("SECRET"), "{value}: {fault}");
        }
    }

    #[test]
    fn keys_are_read_in_both_forms() {
        assert_eq!(keys(Some("keys=a,b")), ["a", "b"]);
        assert_eq!(keys(Some("key=a&key=b&other=c")), ["a", "b"]);
        assert_eq!(keys(Some("keys=a%2Cb")), ["a", "b"]);
        assert!(keys(None).is_empty() && keys(Some("keys=")).is_empty());
    }
}
