//! Device profiles, and which devices a gateway speaks for.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use claim::device::{PayloadFormat, ProfileId};
use claim::directory::DeviceProfile;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{One, Page, Paging, kept, title};
use crate::Api;
use crate::extract::{Asked, At, Caller, Sent};
use crate::model::{EntityId, EntityType, PageJson, ProfileJson};
use crate::reply::Fault;

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProfileDraft {
    id: Option<EntityId>,
    name: String,
    /// `DEFAULT`, `MQTT` or `COAP`; `DEFAULT` when left out.
    transport_type: Option<String>,
    /// `{"transportConfiguration":{"type":"MQTT","transportPayloadTypeConfiguration":{"transportPayloadType":"PROTOBUF"}}}`.
    profile_data: Option<Value>,
}

pub(crate) async fn save(State(api): State<Api>, caller: Caller, Sent(draft): Sent<ProfileDraft>) -> One<ProfileJson> {
    let tenant = caller.maker()?.tenant;
    let transport = draft.transport_type.as_deref().unwrap_or("DEFAULT");
    if !["DEFAULT", "MQTT", "COAP"].contains(&transport) {
        return Err(Fault::bad_request("`transportType` is not DEFAULT, MQTT or COAP"));
    }
    let data = draft.profile_data.as_ref();
    let configuration = |kind: &str| {
        let configuration = data.and_then(|data| data.get("transportConfiguration"));
        configuration.filter(|configuration| configuration.get("type").is_none_or(|named| named == kind))
    };
    let (mut mqtt_format, mut coap_format) = (PayloadFormat::Json, PayloadFormat::Json);
    match transport {
        "MQTT" => {
            let payload = configuration("MQTT").and_then(|found| found.get("transportPayloadTypeConfiguration"));
            mqtt_format = format(payload)?;
        }
        "COAP" => {
            let found = configuration("COAP").and_then(|found| found.get("coapDeviceTypeConfiguration"));
            coap_format = format(found.and_then(|found| found.get("transportPayloadTypeConfiguration")))?;
        }
        _ => {}
    }
    let profile = DeviceProfile {
        id: draft.id.map_or_else(ProfileId::random, |id| id.id.into()),
        tenant,
        name: title("name", &draft.name)?,
        transport_type: transport.to_owned(),
        mqtt_format,
        coap_format,
        profile_data: kept(data)?,
        created_at: api.now(),
        is_default: false,
    };
    Ok(Json(api.directory().save_profile(profile).await?.into()))
}

fn format(payload: Option<&Value>) -> Result<PayloadFormat, Fault> {
    let Some(payload) = payload else { return Ok(PayloadFormat::Json) };
    let compatible = payload.get("enableCompatibilityWithJsonPayloadFormat").and_then(Value::as_bool).unwrap_or(false);
    match payload.get("transportPayloadType").and_then(Value::as_str) {
        None | Some("JSON") => Ok(PayloadFormat::Json),
        Some("PROTOBUF") if compatible => Ok(PayloadFormat::ProtobufThenJson),
        Some("PROTOBUF") => Ok(PayloadFormat::Protobuf),
        Some(_) => Err(Fault::bad_request("`transportPayloadType` is not JSON or PROTOBUF")),
    }
}

pub(crate) async fn one(State(api): State<Api>, caller: Caller, At(id): At<Uuid>) -> One<ProfileJson> {
    let tenant = caller.maker()?.tenant;
    Ok(Json(api.directory().profile(tenant, id.into()).await?.into()))
}

pub(crate) async fn list(State(api): State<Api>, caller: Caller, Asked(paging): Asked<Paging>) -> Page<ProfileJson> {
    let tenant = caller.maker()?.tenant;
    let (request, size, number) = paging.checked()?;
    let page = api.directory().profiles(tenant, request).await?;
    Ok(Json(PageJson::new(page, size, number, ProfileJson::from)))
}

pub(crate) async fn remove(State(api): State<Api>, caller: Caller, At(id): At<Uuid>) -> Result<StatusCode, Fault> {
    let tenant = caller.maker()?.tenant;
    api.directory().delete_profile(tenant, id.into()).await?;
    Ok(StatusCode::OK)
}

/// A gateway and a device it may speak for.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Relation {
    /// The gateway.
    from: EntityId,
    /// The device.
    to: EntityId,
    /// `Created` or `Manages`.
    #[serde(rename = "type")]
    kind: String,
    /// `COMMON`.
    type_group: Option<String>,
}

/// Only relations between a gateway and its devices mean something here; others are refused rather than ignored.
fn checked(kind: &str, group: Option<&str>, ends: [Option<EntityType>; 2]) -> Result<(), Fault> {
    if !["Created", "Manages"].contains(&kind) {
        return Err(Fault::bad_request("the relation's type is not Created or Manages"));
    }
    if group.is_some_and(|group| group != "COMMON") {
        return Err(Fault::bad_request("the relation's group is not COMMON"));
    }
    if ends.iter().flatten().any(|end| *end != EntityType::Device) {
        return Err(Fault::bad_request("claimd keeps relations from a gateway DEVICE to a DEVICE only"));
    }
    Ok(())
}

pub(crate) async fn relate(
    State(api): State<Api>,
    caller: Caller,
    Sent(relation): Sent<Relation>,
) -> Result<StatusCode, Fault> {
    let tenant = caller.maker()?.tenant;
    let ends = [relation.from.entity_type, relation.to.entity_type];
    checked(&relation.kind, relation.type_group.as_deref(), ends)?;
    api.directory().relate(tenant, relation.from.id.into(), relation.to.id.into(), api.now()).await?;
    Ok(StatusCode::OK)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ends {
    from_id: Uuid,
    from_type: Option<EntityType>,
    to_id: Uuid,
    to_type: Option<EntityType>,
    relation_type: Option<String>,
    relation_type_group: Option<String>,
}

pub(crate) async fn unrelate(
    State(api): State<Api>,
    caller: Caller,
    Asked(ends): Asked<Ends>,
) -> Result<StatusCode, Fault> {
    let tenant = caller.maker()?.tenant;
    let kind = ends.relation_type.as_deref().unwrap_or("Created");
    checked(kind, ends.relation_type_group.as_deref(), [ends.from_type, ends.to_type])?;
    api.directory().unrelate(tenant, ends.from_id.into(), ends.to_id.into()).await?;
    Ok(StatusCode::OK)
}
