//! Devices and their credentials, for their maker; what a customer owns, for its users.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use claim::directory::{CredentialDraft, DeviceDraft};
use claim::{DeviceName, Secret};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{One, Page, Paging, kept, title};
use crate::Api;
use crate::extract::{Asked, At, Caller, Sent, parse};
use crate::model::{CredentialsJson, CredentialsType, DeviceJson, EntityId, PageJson};
use crate::reply::{Fault, unclaimed};

/// Longest access token, client id, user name and password of a device, bytes.
const CREDENTIAL_BYTES: usize = 256;

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeviceDraftJson {
    id: Option<EntityId>,
    name: String,
    /// Its profile's name; `default` when left out.
    #[serde(rename = "type")]
    profile_name: Option<String>,
    device_profile_id: Option<EntityId>,
    label: Option<String>,
    /// `{"gateway":true}` makes it a gateway.
    additional_info: Option<Value>,
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct DeviceWithCredentials {
    device: DeviceDraftJson,
    credentials: CredentialsDraft,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CredentialsDraft {
    device_id: Option<EntityId>,
    credentials_type: Option<CredentialsType>,
    /// The access token.
    credentials_id: Option<String>,
    /// MQTT basic: `{"clientId","userName","password"}` as a text.
    credentials_value: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GivenToken {
    access_token: Option<String>,
}

fn fitting(name: &str, text: String) -> Result<String, Fault> {
    if text.is_empty() || text.len() > CREDENTIAL_BYTES || text.chars().any(char::is_control) {
        let text = format!("`{name}` is empty, longer than {CREDENTIAL_BYTES} bytes, or has control characters");
        return Err(Fault::bad_request(text));
    }
    Ok(text)
}

fn access_token(token: String) -> Result<CredentialDraft, Fault> {
    let token = fitting("accessToken", token)?;
    // It is a segment of a path in CoAP and HTTP.
    if !token.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#%".contains(&byte)) {
        return Err(Fault::bad_request("an access token is printable ASCII without space, `/`, `?`, `#` and `%`"));
    }
    Ok(CredentialDraft::AccessToken(Secret::new(token)))
}

impl CredentialsDraft {
    fn draft(self) -> Result<Option<CredentialDraft>, Fault> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Basic {
            client_id: Option<String>,
            user_name: Option<String>,
            password: Option<String>,
        }
        match (self.credentials_type, self.credentials_id, self.credentials_value) {
            (Some(CredentialsType::MqttBasic), _, value) => {
                let value = value.ok_or_else(|| Fault::bad_request("`credentialsValue` is missing"))?;
                let basic: Basic = parse(value.as_bytes()).map_err(|_| {
                    Fault::bad_request("`credentialsValue` is not the text of an object {clientId,userName,password}")
                })?;
                let part = |name: &str, text: Option<String>| {
                    text.filter(|text| !text.is_empty()).map(|text| fitting(name, text)).transpose()
                };
                let (client_id, user_name) = (part("clientId", basic.client_id)?, part("userName", basic.user_name)?);
                if client_id.is_none() && user_name.is_none() {
                    return Err(Fault::bad_request("MQTT basic needs `clientId`, `userName` or both"));
                }
                let password = part("password", basic.password)?.map(Secret::new);
                Ok(Some(CredentialDraft::MqttBasic { client_id, user_name, password }))
            }
            (_, None, _) => Ok(None),
            (_, Some(token), _) => access_token(token).map(Some),
        }
    }
}

async fn keep(
    api: &Api,
    caller: &Caller,
    json: DeviceDraftJson,
    credential: Option<CredentialDraft>,
) -> One<DeviceJson> {
    let tenant = caller.maker()?.tenant;
    let gateway = json.additional_info.as_ref().and_then(|info| info.get("gateway")).and_then(Value::as_bool);
    let draft = DeviceDraft {
        id: json.id.map(|id| id.id.into()),
        name: DeviceName::parse(&json.name).map_err(|fault| Fault::bad_request(fault.text()))?,
        profile: json.device_profile_id.map(|id| id.id.into()),
        profile_name: json.profile_name.filter(|name| !name.is_empty()),
        label: json.label.filter(|label| !label.is_empty()).map(|label| title("label", &label)).transpose()?,
        gateway: gateway.unwrap_or(false),
        additional_info: kept(json.additional_info.as_ref())?,
        credential,
    };
    let (record, _credential) = api.directory().save_device(tenant, draft, api.by(caller)).await?;
    Ok(Json(record.into()))
}

pub(crate) async fn save(
    State(api): State<Api>,
    caller: Caller,
    Asked(given): Asked<GivenToken>,
    Sent(draft): Sent<DeviceDraftJson>,
) -> One<DeviceJson> {
    let credential = given.access_token.filter(|token| !token.is_empty()).map(access_token).transpose()?;
    keep(&api, &caller, draft, credential).await
}

pub(crate) async fn save_with_credentials(
    State(api): State<Api>,
    caller: Caller,
    Sent(sent): Sent<DeviceWithCredentials>,
) -> One<DeviceJson> {
    let credential = sent.credentials.draft()?;
    keep(&api, &caller, sent.device, credential).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NameOrPage {
    device_name: Option<String>,
    page_size: Option<u32>,
    page: Option<u32>,
    text_search: Option<String>,
}

pub(crate) async fn of_tenant(
    State(api): State<Api>,
    caller: Caller,
    Asked(asked): Asked<NameOrPage>,
) -> Result<Response, Fault> {
    let tenant = caller.maker()?.tenant;
    if let Some(name) = asked.device_name {
        let name = DeviceName::parse(&name).map_err(|_| Fault::not_found())?;
        let device = api.directory().device_by_name(tenant, name).await?;
        return Ok(Json(DeviceJson::from(device)).into_response());
    }
    let paging = Paging {
        page_size: asked.page_size.unwrap_or_else(super::hundred),
        page: asked.page.unwrap_or(0),
        text_search: asked.text_search,
    };
    let (request, size, number) = paging.checked()?;
    let page = api.directory().devices(tenant, None, request).await?;
    Ok(Json(PageJson::new(page, size, number, DeviceJson::from)).into_response())
}

pub(crate) async fn of_customer(
    State(api): State<Api>,
    caller: Caller,
    At(customer): At<Uuid>,
    Asked(paging): Asked<Paging>,
) -> Page<DeviceJson> {
    if caller.bound_to().is_some_and(|own| own.uuid() != customer) {
        return Err(Fault::not_found());
    }
    let (request, size, number) = paging.checked()?;
    let page = api.directory().devices(caller.0.tenant, Some(customer.into()), request).await?;
    Ok(Json(PageJson::new(page, size, number, DeviceJson::from)))
}

pub(crate) async fn one(State(api): State<Api>, caller: Caller, At(id): At<Uuid>) -> One<DeviceJson> {
    let record = api.directory().device_record(caller.0.tenant, id.into()).await?;
    if caller.bound_to().is_some_and(|own| record.owner != Some(own)) {
        return Err(Fault::not_found());
    }
    Ok(Json(record.into()))
}

pub(crate) async fn remove(State(api): State<Api>, caller: Caller, At(id): At<Uuid>) -> Result<StatusCode, Fault> {
    let tenant = caller.maker()?.tenant;
    api.directory().delete_device(tenant, id.into(), api.by(&caller)).await?;
    Ok(StatusCode::OK)
}

pub(crate) async fn credentials(State(api): State<Api>, caller: Caller, At(id): At<Uuid>) -> One<CredentialsJson> {
    let tenant = caller.maker()?.tenant;
    Ok(Json(api.directory().credential(tenant, id.into(), api.now()).await?.into()))
}

pub(crate) async fn set_credentials(
    State(api): State<Api>,
    caller: Caller,
    Sent(sent): Sent<CredentialsDraft>,
) -> One<CredentialsJson> {
    let tenant = caller.maker()?.tenant;
    let device = sent.device_id.ok_or_else(|| Fault::bad_request("`deviceId` is missing"))?;
    let draft = sent.draft()?.ok_or_else(|| Fault::bad_request("`credentialsId` is missing"))?;
    Ok(Json(api.directory().set_credential(tenant, device.id.into(), draft, api.now()).await?.into()))
}

pub(crate) async fn assign(
    State(api): State<Api>,
    caller: Caller,
    At((customer, device)): At<(Uuid, Uuid)>,
) -> One<DeviceJson> {
    let maker = caller.maker()?;
    let record =
        api.directory().assign_by_admin(maker.tenant, device.into(), customer.into(), maker.id, api.now()).await?;
    Ok(Json(record.into()))
}

pub(crate) async fn unassign(
    State(api): State<Api>,
    caller: Caller,
    At(device): At<Uuid>,
    request: axum::extract::Request,
) -> One<DeviceJson> {
    let tenant = caller.maker()?.tenant;
    let origin = api.origin(request.extensions());
    unclaimed(api.inner.parts.confirmation.release(caller.actor(), device.into(), &origin, api.now()).await)?;
    Ok(Json(api.directory().device_record(tenant, device.into()).await?.into()))
}
