//! Applications, the devices listed in them and their claim codes: our own routes for makers, and for customers' own
//! applications.

use axum::Json;
use axum::extract::State;
use axum::http::{Extensions, StatusCode};
use claim::applications::{
    Application, ApplicationChange, ApplicationDraft, By, CodeChange, DeviceChange, Identity, NewCode, NewDevice, Place,
};
use claim::directory::{CredentialDraft, DirectoryError};
use claim::{DeviceName, ListingId, Secret};
use claim_codes::window::parse_instant;
use claim_codes::{ClaimCode, Eui64, Style, Window};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{One, Page, Paging, title};
use crate::Api;
use crate::bearer::random_token;
use crate::extract::{Asked, At, Caller, Sent};
use crate::listed::{ApplicationJson, CodeJson, ListedJson};
use crate::model::PageJson;
use crate::reply::{self, Fault};

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ApplicationRequest {
    /// `a-z`, `0-9` and single hyphens, 3 to 36 characters.
    id: String,
    /// Whose it is; a customer's own user may leave it out.
    customer_id: Option<Uuid>,
    /// True when left out.
    claiming_authorized: Option<bool>,
    invalidate_code_on_claim: Option<bool>,
}

fn id(text: &str) -> Result<ListingId, Fault> {
    ListingId::parse(text).map_err(|fault| Fault::bad_request(format!("the id is not one: {fault}")))
}

/// An id in a path: what cannot be one does not exist.
fn known(text: &str) -> Result<ListingId, Fault> {
    ListingId::parse(text).map_err(|_| Fault::not_found())
}

impl Api {
    pub(super) fn by(&self, caller: &Caller) -> By {
        By { account: caller.0.id, now: self.now() }
    }

    /// The answer; a full one is counted.
    pub(super) fn within<T>(&self, limit: &'static str, answer: Result<T, DirectoryError>) -> Result<T, Fault> {
        if let Err(DirectoryError::Full { .. }) = answer {
            self.limit_reached(limit);
        }
        Ok(answer?)
    }

    /// An application the caller may look into: the maker's any, a customer's own.
    async fn application_of(&self, caller: &Caller, listing: &str) -> Result<Application, Fault> {
        let found = self.applications().application(caller.0.tenant, known(listing)?).await?;
        match caller.bound_to() {
            Some(own) if found.customer != Some(own) => Err(Fault::not_found()),
            _ => Ok(found),
        }
    }
}

pub(crate) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Sent(request): Sent<ApplicationRequest>,
) -> One<ApplicationJson> {
    let customer = match (caller.bound_to(), request.customer_id) {
        (Some(own), named) if named.is_none_or(|named| named == own.uuid()) => Some(own),
        (Some(_), _) => return Err(Fault::forbidden()),
        (None, named) => named.map(Into::into),
    };
    let draft = ApplicationDraft {
        listing: id(&request.id)?,
        customer,
        claiming_authorized: request.claiming_authorized.unwrap_or(true),
        invalidate_code_on_claim: request.invalidate_code_on_claim,
        most: caller.bound_to().map(|_| api.config().applications_per_customer),
    };
    let made = api.applications().create_application(caller.0.tenant, draft, api.by(&caller)).await;
    Ok(Json(api.within("owner_api.applications_per_customer", made)?.into()))
}

pub(crate) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Asked(paging): Asked<Paging>,
) -> Page<ApplicationJson> {
    let (request, size, number) = paging.checked()?;
    let page = api.applications().applications(caller.0.tenant, caller.bound_to(), request).await?;
    Ok(Json(PageJson::new(page, size, number, ApplicationJson::from)))
}

pub(crate) async fn one(State(api): State<Api>, caller: Caller, At(listing): At<String>) -> One<ApplicationJson> {
    Ok(Json(api.application_of(&caller, &listing).await?.into()))
}

/// A change; what is left out stays, `null` is "as the install says".
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ApplicationUpdate {
    claiming_authorized: Option<bool>,
    #[serde(default, deserialize_with = "there")]
    #[schema(value_type = Option<bool>)]
    invalidate_code_on_claim: Option<Option<bool>>,
}

/// Tells a member that is `null` from one that is left out.
fn there<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

pub(crate) async fn change(
    State(api): State<Api>,
    caller: Caller,
    At(listing): At<String>,
    Sent(update): Sent<ApplicationUpdate>,
) -> One<ApplicationJson> {
    let tenant = caller.maker()?.tenant;
    let change = ApplicationChange {
        claiming_authorized: update.claiming_authorized,
        invalidate_code_on_claim: update.invalidate_code_on_claim,
    };
    Ok(Json(api.applications().change_application(tenant, known(&listing)?, change, api.by(&caller)).await?.into()))
}

pub(crate) async fn remove(
    State(api): State<Api>,
    caller: Caller,
    At(listing): At<String>,
) -> Result<StatusCode, Fault> {
    let application = api.application_of(&caller, &listing).await?;
    api.applications().delete_application(caller.0.tenant, application.listing, api.by(&caller)).await?;
    Ok(StatusCode::OK)
}

/// A claim code as its maker gives or wants it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CodeRequest {
    /// The code: 1 to 32 of `A-Z a-z 0-9`.
    #[schema(value_type = Option<String>)]
    value: Option<Secret<String>>,
    /// Instead of `value`: `base32` or `hex8`; the answer shows it once.
    generate: Option<String>,
    /// RFC 3339 with a zone.
    valid_from: Option<String>,
    /// The first instant at which it does not work any more.
    valid_to: Option<String>,
}

struct MadeCode {
    change: CodeChange,
    shown: Option<String>,
    warnings: Vec<&'static str>,
}

impl CodeRequest {
    /// `printed`: what everybody reads on the device.
    fn checked(&self, printed: &[&str]) -> Result<MadeCode, Fault> {
        let bad = |what: &str| Fault::bad_request(format!("`claim_authentication_code`: {what}"));
        let instant = |name: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => parse_instant(text).map(Some).map_err(|fault| bad(&format!("`{name}`: {fault}"))),
        };
        let window = Window::new(instant("valid_from", &self.valid_from)?, instant("valid_to", &self.valid_to)?)
            .map_err(|fault| bad(&fault.to_string()))?;
        let (code, shown, mut warnings) = match (&self.value, &self.generate) {
            (Some(value), None) => {
                let code = ClaimCode::chosen(value.expose(), printed).map_err(|fault| bad(&fault.to_string()))?;
                (code, None, Vec::new())
            }
            (None, Some(style)) => {
                let style = Style::parse(style).ok_or_else(|| bad("`generate` is `base32` or `hex8`"))?;
                let mut random = [0; 10];
                getrandom::fill(&mut random).map_err(|_| Fault::unavailable())?;
                let code = ClaimCode::generated(style, &random);
                let shown = code.expose().to_owned();
                (code, Some(shown), style.warning().into_iter().collect())
            }
            (None, None) => {
                let change = CodeChange::Window { from: window.from(), until: window.to() };
                return Ok(MadeCode { change, shown: None, warnings: Vec::new() });
            }
            (Some(_), Some(_)) => return Err(bad("`value` or `generate`, not both")),
        };
        if shown.is_none() && code.is_weak() {
            warnings.push("a code of fewer than 8 characters can be guessed");
        }
        let new = NewCode {
            any_case: code.all_upper(),
            code: Secret::new(code.expose().to_owned()),
            from: window.from(),
            until: window.to(),
        };
        Ok(MadeCode { change: CodeChange::Set(new), shown, warnings })
    }
}

/// A new device.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DeviceRequest {
    /// Its id in the application.
    id: String,
    /// Its name, unique in the tenant; the id when left out.
    name: Option<String>,
    label: Option<String>,
    /// 16 hex digits.
    dev_eui: Option<String>,
    join_eui: Option<String>,
    external_id: Option<String>,
    serial_number: Option<String>,
    vendor_id: Option<u16>,
    vendor_profile_id: Option<u16>,
    description: Option<String>,
    claiming_allowed: Option<bool>,
    code: Option<CodeRequest>,
}

pub(crate) async fn register(
    State(api): State<Api>,
    caller: Caller,
    At(listing): At<String>,
    Sent(request): Sent<DeviceRequest>,
) -> One<ListedJson> {
    let application = api.application_of(&caller, &listing).await?;
    let text = |name: &str, text: Option<&String>, most: usize| match text {
        Some(text) if text.chars().count() > most || text.chars().any(char::is_control) => {
            Err(Fault::bad_request(format!("`{name}` is longer than {most} characters or has control characters")))
        }
        other => Ok(other.cloned()),
    };
    let eui = |name: &str, text: Option<&String>| match text {
        None => Ok(None),
        Some(text) => Eui64::parse(text).map(Some).map_err(|fault| Fault::bad_request(format!("`{name}`: {fault}"))),
    };
    let name = request.name.as_deref().map(DeviceName::parse).transpose();
    let identity = Identity {
        dev_eui: eui("devEui", request.dev_eui.as_ref())?,
        join_eui: eui("joinEui", request.join_eui.as_ref())?,
        external_id: text("externalId", request.external_id.as_ref(), 255)?,
        serial_number: text("serialNumber", request.serial_number.as_ref(), 255)?,
        vendor_id: request.vendor_id,
        vendor_profile_id: request.vendor_profile_id,
        description: text("description", request.description.as_ref(), 2_000)?,
        texts: std::collections::BTreeMap::new(),
    };
    let euis = [identity.dev_eui, identity.join_eui].map(|eui| eui.map_or_else(String::new, |eui| eui.to_string()));
    let printed =
        [Some(&request.id), request.name.as_ref(), request.serial_number.as_ref(), Some(&euis[0]), Some(&euis[1])];
    let printed: Vec<&str> = printed.into_iter().flatten().map(String::as_str).collect();
    let made = request.code.as_ref().map(|code| code.checked(&printed)).transpose()?;
    let (code, shown) = match made {
        None => (None, None),
        Some(MadeCode { change: CodeChange::Set(code), shown, warnings }) => (Some(code), Some((shown, warnings))),
        Some(_) => return Err(Fault::bad_request("`code` needs a `value` or `generate`; a window belongs to a code")),
    };
    let device = NewDevice {
        listing: id(&request.id)?,
        name: name.map_err(|fault| Fault::bad_request(fault.text()))?,
        label: text("label", request.label.as_ref(), 50)?,
        identity,
        claiming_allowed: request.claiming_allowed,
        code,
        most: caller.bound_to().map(|_| api.config().devices_per_customer),
    };
    let by = api.by(&caller);
    let registered = api.applications().register(caller.0.tenant, application.listing, device, by).await;
    let registered = api.within("owner_api.devices_per_customer", registered)?;
    let mut json = ListedJson::from(registered);
    if let (Some(code), Some((value, warnings))) = (&mut json.code, shown) {
        code.value = value;
        code.warnings = warnings;
    }
    Ok(Json(json))
}

pub(crate) async fn devices(
    State(api): State<Api>,
    caller: Caller,
    At(listing): At<String>,
    Asked(paging): Asked<Paging>,
) -> Page<ListedJson> {
    let (request, size, number) = paging.checked()?;
    let application = api.application_of(&caller, &listing).await?;
    let page = api.applications().listed_in(caller.0.tenant, application.listing, request).await?;
    Ok(Json(PageJson::new(page, size, number, |device| ListedJson::from(device).seen_by(&caller))))
}

/// Path of a device in an application.
#[derive(Deserialize)]
pub(crate) struct Path {
    application: String,
    device: String,
}

impl Path {
    fn place(&self) -> Result<Place, Fault> {
        Ok(Place { application: known(&self.application)?, device: known(&self.device)? })
    }
}

pub(crate) async fn device(State(api): State<Api>, caller: Caller, At(path): At<Path>) -> One<ListedJson> {
    api.application_of(&caller, &path.application).await?;
    let device = api.applications().listed(caller.0.tenant, path.place()?).await?;
    Ok(Json(ListedJson::from(device).seen_by(&caller)))
}

pub(crate) async fn remove_device(
    State(api): State<Api>,
    caller: Caller,
    At(path): At<Path>,
) -> Result<StatusCode, Fault> {
    let tenant = caller.maker()?.tenant;
    api.applications().remove(tenant, path.place()?, api.by(&caller)).await?;
    Ok(StatusCode::OK)
}

pub(crate) async fn set_code(
    State(api): State<Api>,
    caller: Caller,
    At(path): At<Path>,
    Sent(request): Sent<CodeRequest>,
) -> One<ListedJson> {
    let tenant = caller.maker()?.tenant;
    let device = api.applications().at_home(tenant, path.place()?).await?;
    let euis = [device.identity.dev_eui, device.identity.join_eui].map(|eui| eui.map(|eui| eui.to_string()));
    let printed = [
        Some(device.home.device.as_str()),
        Some(device.name.as_str()),
        device.identity.serial_number.as_deref(),
        euis[0].as_deref(),
        euis[1].as_deref(),
    ];
    let printed: Vec<&str> = printed.into_iter().flatten().collect();
    let made = request.checked(&printed)?;
    let changed = api.applications().change_code(tenant, device.home, made.change, api.by(&caller)).await?;
    let mut json = ListedJson::from(changed);
    if let Some(code) = &mut json.code {
        code.value = made.shown;
        code.warnings = made.warnings;
    }
    Ok(Json(json))
}

pub(crate) async fn read_code(State(api): State<Api>, caller: Caller, At(path): At<Path>) -> One<CodeJson> {
    let tenant = caller.maker()?.tenant;
    let code = api.applications().read_code(tenant, path.place()?, api.by(&caller)).await?;
    let device = api.applications().at_home(tenant, path.place()?).await?;
    let shown = ListedJson::from(device).code.ok_or_else(Fault::not_found)?;
    Ok(Json(shown.with_value(code.expose().clone())))
}

pub(crate) async fn delete_code(State(api): State<Api>, caller: Caller, At(path): At<Path>) -> One<ListedJson> {
    let tenant = caller.maker()?.tenant;
    let changed = api.applications().change_code(tenant, path.place()?, CodeChange::Delete, api.by(&caller)).await?;
    Ok(Json(changed.into()))
}

/// The maker's word on one device.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Allowed {
    /// `null`: none.
    #[serde(deserialize_with = "there")]
    #[schema(value_type = Option<bool>)]
    allowed: Option<Option<bool>>,
}

pub(crate) async fn allow(
    State(api): State<Api>,
    caller: Caller,
    At(path): At<Path>,
    Sent(request): Sent<Allowed>,
) -> One<ListedJson> {
    let change = DeviceChange { claiming_allowed: request.allowed, ..DeviceChange::default() };
    changed(&api, &caller, &path, change).await
}

/// What may be done with a device; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DeviceUpdate {
    /// `null`: none.
    #[serde(default, deserialize_with = "there")]
    #[schema(value_type = Option<bool>)]
    claiming_allowed: Option<Option<bool>>,
    /// Pauses claiming.
    frozen: Option<bool>,
    /// Whether the code counts only with a fresh announcement of the device.
    presence: Option<bool>,
    /// Why, for the audit log.
    reason: Option<String>,
}

pub(crate) async fn change_device(
    State(api): State<Api>,
    caller: Caller,
    At(path): At<Path>,
    Sent(request): Sent<DeviceUpdate>,
) -> One<ListedJson> {
    let change = DeviceChange {
        claiming_allowed: request.claiming_allowed,
        frozen: request.frozen,
        presence: request.presence,
        reason: request.reason.as_deref().map(|reason| title("reason", reason)).transpose()?,
    };
    changed(&api, &caller, &path, change).await
}

async fn changed(api: &Api, caller: &Caller, path: &Path, change: DeviceChange) -> One<ListedJson> {
    let tenant = caller.maker()?.tenant;
    Ok(Json(api.applications().change_device(tenant, path.place()?, change, api.by(caller)).await?.into()))
}

/// A device's new access token, the once it is shown.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewToken {
    access_token: String,
}

/// The old token ends at once, with the sessions that it opened.
pub(crate) async fn rotate_token(State(api): State<Api>, caller: Caller, At(path): At<Path>) -> One<NewToken> {
    let tenant = caller.maker()?.tenant;
    let device = api.applications().at_home(tenant, path.place()?).await?.device;
    // Never with a dash at its beginning, which command lines would take for an option.
    let token = format!("t{}", random_token()?.expose());
    let draft = CredentialDraft::AccessToken(Secret::new(token.clone()));
    api.directory().set_credential(tenant, device, draft, api.now()).await?;
    Ok(Json(NewToken { access_token: token }))
}

/// Why a device is taken from its owner.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForcedRelease {
    reason: String,
}

pub(crate) async fn force_release(
    State(api): State<Api>,
    caller: Caller,
    At(path): At<Path>,
    extensions: Extensions,
    Sent(request): Sent<ForcedRelease>,
) -> One<ListedJson> {
    let tenant = caller.maker()?.tenant;
    let reason = title("reason", &request.reason)?;
    let device = api.applications().at_home(tenant, path.place()?).await?;
    if device.owner.is_none() {
        return Err(Fault::bad_request("the device has no owner"));
    }
    // On record first: a release that nobody can explain is worse than an explanation of one that failed.
    api.applications().note_forced_release(tenant, device.home.clone(), reason, api.by(&caller)).await?;
    let origin = api.origin(&extensions);
    reply::unclaimed(api.inner.parts.confirmation.release(caller.actor(), device.device, &origin, api.now()).await)?;
    Ok(Json(api.applications().at_home(tenant, device.home).await?.into()))
}
