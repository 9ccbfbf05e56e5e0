//! The Things Stack's Device Claiming Server, end devices: its routes, messages and errors (claim-codes.md 7).

use axum::extract::{RawQuery, State};
use axum::http::Extensions;
use axum::response::{IntoResponse, Response};
use axum::{Json, extract};
use claim::applications::{Application, ApplicationChange, By, ListedDevice, Place};
use claim::confirmation::{ConfirmOutcome, ConfirmRequest, DeviceRef, UnclaimOutcome};
use claim::directory::DirectoryError;
use claim::event::AuditAction;
use claim::permissions::Grants;
use claim::ports::ClaimTarget;
use claim::{ClaimSecret, CustomerId, Eui64, ListingId, Secret};
use claim_codes::eui::parse_lenient;
use claim_codes::qr::Payload;
use claim_codes::{ClaimCode, qr};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::qr_codes;
use crate::Api;
use crate::extract::{At, Caller, Raw, parse};
use crate::reply::CLAIM_REASON;
use crate::stack::{Code, Refused, refusal};

/// Devices in one batch.
const BATCH: usize = 20;

type Reply<T> = Result<Json<T>, Refused>;

/// An application, by its id.
#[derive(Deserialize, Serialize, ToSchema)]
pub(crate) struct ApplicationIds {
    #[serde(alias = "applicationId")]
    application_id: String,
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct Identifiers {
    #[serde(alias = "joinEui")]
    join_eui: Option<String>,
    #[serde(alias = "devEui")]
    dev_eui: Option<String>,
    /// The claim code.
    #[serde(alias = "authenticationCode")]
    #[schema(value_type = Option<String>)]
    authentication_code: Option<Secret<String>>,
}

/// A claim: by identifiers or by the text of a QR code, not both.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ClaimRequest {
    #[serde(alias = "authenticatedIdentifiers")]
    authenticated_identifiers: Option<Identifiers>,
    /// Base64 of the text.
    #[serde(alias = "qrCode")]
    #[schema(value_type = Option<String>)]
    qr_code: Option<Secret<String>>,
    #[serde(alias = "targetApplicationIds")]
    target_application_ids: Option<ApplicationIds>,
    #[serde(alias = "targetDeviceId")]
    target_device_id: Option<String>,
}

/// Where a device is listed and what it is known by.
#[derive(Serialize, ToSchema)]
pub(crate) struct EndDeviceIds {
    application_ids: ApplicationIds,
    device_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev_eui: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    join_eui: Option<String>,
}

impl From<&ListedDevice> for EndDeviceIds {
    fn from(device: &ListedDevice) -> Self {
        Self {
            application_ids: ApplicationIds { application_id: device.place.application.to_string() },
            device_id: device.place.device.to_string(),
            dev_eui: device.identity.dev_eui.map(|eui| eui.to_string()),
            join_eui: device.identity.join_eui.map(|eui| eui.to_string()),
        }
    }
}

/// What is claimed, and by which proof.
struct Shown {
    device: Which,
    code: Secret<String>,
}

enum Which {
    Name(String),
    Eui { dev_eui: Eui64, join_eui: Option<Eui64> },
}

pub(crate) async fn claim(State(api): State<Api>, caller: Caller, request: extract::Request) -> Response {
    let started = std::time::Instant::now();
    let reply = try_claim(&api, &caller, request).await.into_response();
    super::owner::measured(&api, started, reply.status());
    reply
}

async fn try_claim(api: &Api, caller: &Caller, request: extract::Request) -> Result<Response, Refused> {
    let (head, body) = request.into_parts();
    let Raw(body) = <Raw as extract::FromRequest<Api>>::from_request(extract::Request::new(body), api).await?;
    let request: ClaimRequest = parse(&body)?;
    let Some(target) = &request.target_application_ids else {
        return Err(Refused::invalid("no_target_application", "name the application to claim into"));
    };
    // Rights come before any look at the device.
    permitted(api, caller, AuditAction::Confirm, &target.application_id, &head.extensions)?;
    let (application, customer) = writable(api, caller, &target.application_id).await?;
    let device = match request.target_device_id.as_deref() {
        None | Some("") => None,
        Some(id) => Some(ListingId::parse(id).map_err(|fault| {
            Refused::invalid("invalid_argument", "`target_device_id`: {rule}").with("rule", fault.to_string())
        })?),
    };
    let shown = shown(api, &request, &head)?;
    let secret = ClaimSecret::parse(shown.code.expose().as_str())
        .map_err(|fault| Refused::invalid("authentication_code", fault.text()))?;
    let target = ClaimTarget { application: application.listing.clone(), device };
    let request = ConfirmRequest {
        actor: caller.actor(),
        for_customer: Some(customer),
        device: match &shown.device {
            Which::Name(name) => DeviceRef::Name(name),
            Which::Eui { dev_eui, join_eui } => DeviceRef::Eui { dev_eui: *dev_eui, join_eui: *join_eui },
        },
        target: Some(&target),
        secret: &secret,
        retry: None,
    };
    let outcome = api.inner.parts.confirmation.confirm(request, &api.origin(&head.extensions), api.now()).await;
    match outcome {
        // The same request again gets the first answer.
        ConfirmOutcome::Claimed { device, .. } | ConfirmOutcome::AlreadyYours { device, same_proof: true, .. } => {
            let listed = api.applications().listed_device(caller.0.tenant, device).await?;
            let ids = Json(EndDeviceIds::from(&listed));
            let repeated = matches!(outcome, ConfirmOutcome::AlreadyYours { .. });
            Ok(if repeated { ([(CLAIM_REASON, "already_yours")], ids).into_response() } else { ids.into_response() })
        }
        other => Err(refusal(&other, application.listing.as_str())),
    }
}

/// Refuses whoever may not claim and give back at all, whatever the device.
fn permitted(
    api: &Api,
    caller: &Caller,
    action: AuditAction,
    application: &str,
    extensions: &Extensions,
) -> Result<(), Refused> {
    let permitted = api.inner.parts.confirmation.permit(caller.actor(), action, &api.origin(extensions), api.now());
    permitted.map_err(|_| Refused::no_rights(application))
}

/// The application, if the caller may list devices in it, and the customer that then owns them.
async fn writable(api: &Api, caller: &Caller, application: &str) -> Result<(Application, CustomerId), Refused> {
    let no_rights = || Refused::no_rights(application);
    let found = visible(api, caller, application).await?;
    // A maker's own application is nobody's to claim into.
    let customer = found.customer.ok_or_else(no_rights)?;
    Ok((found, customer))
}

/// The application, if it is the caller's tenant's, and its customer's unless the caller is the maker.
async fn visible(api: &Api, caller: &Caller, application: &str) -> Result<Application, Refused> {
    let no_rights = || Refused::no_rights(application);
    let listing = ListingId::parse(application).map_err(|_| no_rights())?;
    let found = match api.applications().application(caller.0.tenant, listing).await {
        Ok(found) => found,
        Err(DirectoryError::NotFound(_)) => return Err(no_rights()),
        Err(error) => return Err(error.into()),
    };
    match caller.bound_to() {
        Some(own) if found.customer != Some(own) => Err(no_rights()),
        _ => Ok(found),
    }
}

fn shown(api: &Api, request: &ClaimRequest, head: &http::request::Parts) -> Result<Shown, Refused> {
    match (&request.authenticated_identifiers, &request.qr_code) {
        (Some(identifiers), None) => by_identifiers(identifiers),
        (None, Some(code)) => {
            let text = qr_codes::text_of(code.expose())?;
            let (_, payload) = qr::parse(text.expose(), &super::base(api, &head.headers)).map_err(qr_codes::unread)?;
            by_qr(payload)
        }
        _ => Err(Refused::invalid("no_source", "name either `authenticated_identifiers` or `qr_code`")),
    }
}

fn by_identifiers(identifiers: &Identifiers) -> Result<Shown, Refused> {
    let eui = |name: &'static str, text: &Option<String>| match text.as_deref() {
        None | Some("") => Err(Refused::invalid("invalid_eui", "`{field}` is missing").with("field", name)),
        Some(text) => parse_lenient(text).map_err(|fault| {
            Refused::invalid("invalid_eui", "`{field}`: {rule}").with("field", name).with("rule", fault.to_string())
        }),
    };
    if identifiers.join_eui.as_deref().is_none_or(str::is_empty) {
        return Err(Refused::invalid("no_join_eui", "no JoinEUI"));
    }
    let (join_eui, dev_eui) = (eui("join_eui", &identifiers.join_eui)?, eui("dev_eui", &identifiers.dev_eui)?);
    let code = identifiers.authentication_code.as_ref().map_or("", |code| code.expose());
    let code = ClaimCode::parse(code)
        .map_err(|fault| Refused::invalid("authentication_code", "{rule}").with("rule", fault.to_string()))?;
    let code = Secret::new(code.expose().to_owned());
    Ok(Shown { device: Which::Eui { dev_eui, join_eui: Some(join_eui) }, code })
}

fn by_qr(payload: Payload) -> Result<Shown, Refused> {
    let Payload::EndDevice(device) = payload else {
        return Err(Refused::invalid("qr_code_data", "this is a gateway's QR code"));
    };
    let no_code =
        || Refused::invalid("no_claim_authentication_code", "the QR code only says which device it is; it has no code");
    let code = device.code.ok_or_else(no_code)?;
    let which = match (device.name, device.dev_eui) {
        (Some(name), _) => Which::Name(name),
        (None, Some(dev_eui)) => Which::Eui { dev_eui, join_eui: device.join_eui },
        (None, None) => return Err(Refused::invalid("qr_code_data", "the QR code names no device")),
    };
    Ok(Shown { device: which, code })
}

/// Path of a listed device.
#[derive(Deserialize)]
pub(crate) struct Listed {
    application: String,
    device: String,
}

async fn listed(api: &Api, caller: &Caller, application: &str, device: &str) -> Result<ListedDevice, Refused> {
    let application = visible(api, caller, application).await?;
    let not_found = || Refused::from(DirectoryError::NotFound("device"));
    let place = Place { application: application.listing, device: ListingId::parse(device).map_err(|_| not_found())? };
    Ok(api.applications().listed(caller.0.tenant, place).await?)
}

/// Both EUIs, which this face knows devices by.
fn with_euis(device: ListedDevice) -> Result<ListedDevice, Refused> {
    match (device.identity.dev_eui, device.identity.join_eui) {
        (Some(_), Some(_)) => Ok(device),
        _ => Err(Refused::new(Code::FailedPrecondition, "no_euis", "the device has no DevEUI or no JoinEUI")),
    }
}

/// A claim as it stands.
#[derive(Serialize, ToSchema)]
pub(crate) struct ClaimStatus {
    end_device_ids: EndDeviceIds,
}

pub(crate) async fn status(State(api): State<Api>, caller: Caller, At(at): At<Listed>) -> Reply<ClaimStatus> {
    let device = with_euis(listed(&api, &caller, &at.application, &at.device).await?)?;
    if device.owner.is_none() {
        return Err(not_claimed());
    }
    Ok(Json(ClaimStatus { end_device_ids: EndDeviceIds::from(&device) }))
}

fn not_claimed() -> Refused {
    Refused::new(Code::NotFound, "device_not_claimed", "the device is not claimed")
}

pub(crate) async fn unclaim(
    State(api): State<Api>,
    caller: Caller,
    At(at): At<Listed>,
    request: extract::Request,
) -> Reply<Value> {
    permitted(&api, &caller, AuditAction::Unclaim, &at.application, request.extensions())?;
    let device = with_euis(listed(&api, &caller, &at.application, &at.device).await?)?;
    release(&api, &caller, &device, request.extensions()).await?;
    Ok(Json(json!({})))
}

async fn release(api: &Api, caller: &Caller, device: &ListedDevice, extensions: &Extensions) -> Result<(), Refused> {
    if device.owner.is_none() {
        return Err(not_claimed());
    }
    let origin = api.origin(extensions);
    match api.inner.parts.confirmation.release(caller.actor(), device.device, &origin, api.now()).await {
        UnclaimOutcome::Released { .. } => Ok(()),
        UnclaimOutcome::Unowned { .. } | UnclaimOutcome::NotFound => Err(not_claimed()),
        UnclaimOutcome::Unavailable | UnclaimOutcome::OutcomeUnknown => Err(Refused::unavailable()),
    }
}

/// What became of a batch.
#[derive(Serialize, ToSchema)]
pub(crate) struct BatchUnclaimed {
    application_ids: ApplicationIds,
    /// Error details by device id.
    failed: Map<String, Value>,
    /// Ids that no device of the application has.
    not_found: Vec<String>,
}

pub(crate) async fn unclaim_batch(
    State(api): State<Api>,
    caller: Caller,
    At(application): At<String>,
    RawQuery(query): RawQuery,
    request: extract::Request,
) -> Reply<BatchUnclaimed> {
    permitted(&api, &caller, AuditAction::Unclaim, &application, request.extensions())?;
    visible(&api, &caller, &application).await?;
    let ids: Vec<String> = serde_urlencoded(&query.unwrap_or_default());
    if ids.is_empty() || ids.len() > BATCH {
        return Err(Refused::invalid("invalid_argument", "1 to 20 `device_ids` are taken at a time"));
    }
    let mut answer = BatchUnclaimed {
        application_ids: ApplicationIds { application_id: application.clone() },
        failed: Map::new(),
        not_found: Vec::new(),
    };
    let mut known = 0;
    for id in ids {
        let device = match listed(&api, &caller, &application, &id).await {
            Ok(device) => device,
            Err(refused) if refused.json()["code"] == json!(Code::NotFound as u8) => {
                answer.not_found.push(id);
                continue;
            }
            Err(refused) => return Err(refused),
        };
        known += 1;
        let released = match with_euis(device) {
            Ok(device) => release(&api, &caller, &device, request.extensions()).await,
            Err(refused) => Err(refused),
        };
        if let Err(refused) = released {
            answer.failed.insert(id, refused.json()["details"][0].clone());
        }
    }
    if known == 0 {
        return Err(Refused::invalid("no_devices_found", "none of these devices is in this application"));
    }
    Ok(Json(answer))
}

/// The values of `device_ids` and `deviceIds`, however often they are repeated.
fn serde_urlencoded(query: &str) -> Vec<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let wanted = pairs.filter(|(name, _)| matches!(*name, "device_ids" | "deviceIds"));
    // Ids have nothing that needs decoding; what does is no id.
    wanted.map(|(_, value)| value.to_owned()).collect()
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct InfoRequest {
    #[serde(alias = "joinEui")]
    join_eui: String,
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct InfosRequest {
    requests: Vec<InfoRequest>,
}

/// Whether devices of a JoinEUI can be claimed here.
#[derive(Serialize, ToSchema)]
pub(crate) struct Info {
    join_eui: String,
    supports_claiming: bool,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Infos {
    infos: Vec<Info>,
}

/// Every JoinEUI is this server's own: there is one local claimer.
fn info_of(request: &InfoRequest) -> Result<Info, Refused> {
    let join_eui = parse_lenient(&request.join_eui)
        .map_err(|fault| Refused::invalid("invalid_eui", "`join_eui`: {rule}").with("rule", fault.to_string()))?;
    Ok(Info { join_eui: join_eui.to_string(), supports_claiming: true })
}

pub(crate) async fn info(Raw(body): Raw) -> Reply<Info> {
    Ok(Json(info_of(&parse(&body)?)?))
}

pub(crate) async fn infos(Raw(body): Raw) -> Reply<Infos> {
    let InfosRequest { requests } = parse(&body)?;
    if requests.is_empty() || requests.len() > BATCH {
        return Err(Refused::invalid("invalid_argument", "1 to 20 `requests` are taken at a time"));
    }
    Ok(Json(Infos { infos: requests.iter().map(info_of).collect::<Result<_, _>>()? }))
}

/// The Things Stack's clients name a key that must hold rights in the application. It is looked at and not kept.
#[derive(Default, Deserialize, ToSchema)]
pub(crate) struct Authorization {
    #[serde(alias = "apiKey")]
    #[schema(value_type = Option<String>)]
    api_key: Option<Secret<String>>,
}

pub(crate) async fn authorize(
    State(api): State<Api>,
    caller: Caller,
    At(application): At<String>,
    Raw(body): Raw,
) -> Reply<Value> {
    let request: Authorization = if body.is_empty() { Authorization::default() } else { parse(&body)? };
    if let Some(key) = request.api_key.filter(|key| !key.expose().is_empty()) {
        let holder = api.account_of(key.expose()).await.map_err(|_| Refused::no_rights(&application))?;
        let same = holder.tenant == caller.0.tenant && Caller(holder, Grants::default()).maker().is_ok();
        if !same {
            return Err(Refused::no_rights(&application));
        }
    }
    set_authorized(&api, &caller, &application, true).await
}

pub(crate) async fn unauthorize(State(api): State<Api>, caller: Caller, At(application): At<String>) -> Reply<Value> {
    set_authorized(&api, &caller, &application, false).await
}

async fn set_authorized(api: &Api, caller: &Caller, application: &str, authorized: bool) -> Reply<Value> {
    let maker = caller.maker().map_err(|_| Refused::no_rights(application))?;
    let listing = visible(api, caller, application).await?.listing;
    let change = ApplicationChange { claiming_authorized: Some(authorized), ..ApplicationChange::default() };
    let by = By { account: maker.id, now: api.now() };
    api.applications().change_application(maker.tenant, listing, change, by).await?;
    Ok(Json(json!({})))
}
