//! Every route of the API: its path, what it is for, and who answers it.

mod accounts;
mod api_keys;
mod applications;
mod attributes;
mod audit;
mod customers;
mod device_settings;
mod devices;
mod edcs;
mod faces;
mod gateways;
mod imports;
mod keys;
mod makers;
mod oversight;
mod owner;
mod profiles;
mod qr_codes;
mod roles;
mod sign_in;
mod users;
mod watch;

use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router, extract, middleware};
use bytes::Bytes;
use claim::directory::PageRequest;
use claim::time::Timestamp;
use serde::Deserialize;

use crate::Api;
use crate::docs::{Op, Table};
use crate::extract::identify;
use crate::model::{CredentialsJson, CustomerJson, DeviceJson, ProfileJson, TenantJson, UserJson};
use crate::reply::Fault;
use crate::stack::Refused;

const DOCUMENT: &str = "/api/claimd/v1/openapi.json";

pub(crate) fn all(api: Api) -> Router {
    let table = Table::new();
    let table = people(table);
    let table = things(table);
    let table = claiming(table);
    let table = faces::listings(table);
    let table = faces::imports(table);
    let table = faces::stack(table);
    let table = watch::route(table);
    let table = accounts::faces(table);
    let table = roles::faces(table);
    let table = gateways::faces(table);
    let table = oversight::faces(table);
    let (router, document) = table
        .get(DOCUMENT, Op::new("claimd", "This document").public().object(), get(|| async { Bytes::new() }))
        .finish();
    let document = Bytes::from(document);
    let shown = move || {
        let document = document.clone();
        async move { ([(header::CONTENT_TYPE, "application/json")], document) }
    };
    router
        .method_not_allowed_fallback(wrong_method)
        .fallback(nothing_here)
        .layer(from_fn(as_problem))
        .layer(from_fn_with_state(api.clone(), identify))
        .with_state(api)
        .layer(from_fn(move |request: extract::Request, next: middleware::Next| {
            let shown = shown.clone();
            async move {
                // The document describes itself, so it can only be put in once it is whole.
                let asked = request.method() == Method::GET && request.uri().path() == DOCUMENT;
                if asked { shown().await.into_response() } else { next.run(request).await }
            }
        }))
        .layer(from_fn(careful))
}

fn people(table: Table) -> Table {
    table
        .post(
            "/api/auth/login",
            Op::new("Sign-in", "Sign in")
                .public()
                .body::<sign_in::SignIn>()
                .answer::<sign_in::TokenPair>()
                .refuses(401, "wrong name or password")
                .refuses(429, "too many wrong passwords"),
            post(sign_in::login),
        )
        .post(
            "/api/auth/token",
            Op::new("Sign-in", "Trade a refresh token for a new pair")
                .public()
                .body::<sign_in::Refresh>()
                .answer::<sign_in::TokenPair>()
                .refuses(401, "unknown, expired or used before"),
            post(sign_in::refresh),
        )
        .get("/api/auth/user", Op::new("Sign-in", "Who I am").answer::<UserJson>(), get(sign_in::me))
        .post(
            "/api/auth/changePassword",
            Op::new("Sign-in", "Change my password; all my sessions end")
                .body::<sign_in::NewPassword>()
                .answer::<sign_in::TokenPair>()
                .refuses(429, "too many wrong passwords"),
            post(sign_in::change_password),
        )
        .post(
            "/api/noauth/activate",
            Op::new("Sign-in", "Set the first password")
                .public()
                .body::<sign_in::Activation>()
                .answer::<sign_in::TokenPair>(),
            post(sign_in::activate),
        )
        .get(
            "/api/noauth/activate",
            Op::new("Sign-in", "What an activation link is for").public().text().query(
                "activateToken",
                false,
                "the link's token",
            ),
            get(sign_in::activation_page),
        )
        .get(
            "/api/claimd/v1/api-keys",
            Op::new("Sign-in", "My API keys").list::<api_keys::ApiKeyJson>(),
            get(api_keys::list),
        )
        .post(
            "/api/claimd/v1/api-keys",
            Op::new("Sign-in", "Make an API key, which acts as me; shown once")
                .body::<api_keys::ApiKeyRequest>()
                .answer::<api_keys::ApiKeyJson>(),
            post(api_keys::create),
        )
        .delete(
            "/api/claimd/v1/api-keys/{keyId}",
            Op::new("Sign-in", "Remove an API key; it ends at once").refuses(404, "unknown"),
            delete(api_keys::remove),
        )
        .post(
            "/api/user",
            Op::new("People", "Make an account, or change the names of the one with this id")
                .body::<users::UserDraft>()
                .answer::<UserJson>()
                .query("sendActivationMail", false, "ignored: claimd sends no mail"),
            post(users::create),
        )
        .get(
            "/api/user/{userId}",
            Op::new("People", "One account").answer::<UserJson>().refuses(404, "unknown"),
            get(users::one),
        )
        .delete(
            "/api/user/{userId}",
            Op::new("People", "Remove an account").refuses(404, "unknown"),
            delete(users::remove),
        )
        .get(
            "/api/user/{userId}/activationLink",
            Op::new("People", "A fresh link to set the first password, good for a day").text().refuses(404, "unknown"),
            get(users::activation_link),
        )
        .post(
            "/api/customer",
            Op::new("People", "Make a customer, or change the one with this id")
                .body::<customers::CustomerDraft>()
                .answer::<CustomerJson>(),
            post(customers::save),
        )
        .get(
            "/api/customer/{customerId}",
            Op::new("People", "One customer").answer::<CustomerJson>().refuses(404, "unknown"),
            get(customers::one),
        )
        .delete(
            "/api/customer/{customerId}",
            Op::new("People", "Remove a customer that owns nothing").refuses(404, "unknown"),
            delete(customers::remove),
        )
        .get(
            "/api/customers",
            Op::new("People", "Customers by title").paged().page::<CustomerJson>(),
            get(customers::list),
        )
        .post(
            "/api/tenant",
            Op::new("Makers", "Make a tenant, or change the title of the one with this id (operators)")
                .body::<makers::TenantDraft>()
                .answer::<TenantJson>(),
            post(makers::create),
        )
        .get(
            "/api/tenants",
            Op::new("Makers", "Tenants by title (operators)").paged().page::<TenantJson>(),
            get(makers::list),
        )
        .delete(
            "/api/tenant/{tenantId}",
            Op::new("Makers", "Remove a tenant without owned devices (operators)").refuses(404, "unknown"),
            delete(makers::remove),
        )
}

fn things(table: Table) -> Table {
    let by_name = || {
        Op::new("Devices", "A device by exact name; without a name, devices by name")
            .query("deviceName", false, "the exact name")
            .paged()
            .object()
            .refuses(404, "unknown")
    };
    let token = "the access token to give it; a random one when left out";
    table
        .post(
            "/api/device",
            Op::new("Devices", "Make a device, or change the one with this id")
                .query("accessToken", false, token)
                .body::<devices::DeviceDraftJson>()
                .answer::<DeviceJson>(),
            post(devices::save),
        )
        .post(
            "/api/device-with-credentials",
            Op::new("Devices", "Make a device with its credential")
                .body::<devices::DeviceWithCredentials>()
                .answer::<DeviceJson>(),
            post(devices::save_with_credentials),
        )
        .get("/api/tenant/device", by_name(), get(devices::of_tenant))
        .get("/api/tenant/devices", by_name(), get(devices::of_tenant))
        .get(
            "/api/device/{deviceId}",
            Op::new("Devices", "One device").answer::<DeviceJson>().refuses(404, "unknown"),
            get(devices::one),
        )
        .delete(
            "/api/device/{deviceId}",
            Op::new("Devices", "Remove a device; its connections end").refuses(404, "unknown"),
            delete(devices::remove),
        )
        .get(
            "/api/customer/{customerId}/devices",
            Op::new("Devices", "What a customer owns").paged().page::<DeviceJson>(),
            get(devices::of_customer),
        )
        .get(
            "/api/device/{deviceId}/credentials",
            Op::new("Devices", "A device's credential; a generated token is shown once")
                .answer::<CredentialsJson>()
                .refuses(404, "unknown"),
            get(devices::credentials),
        )
        .post(
            "/api/device/credentials",
            Op::new("Devices", "Replace a device's credential; its connections end")
                .body::<devices::CredentialsDraft>()
                .answer::<CredentialsJson>()
                .refuses(404, "unknown"),
            post(devices::set_credentials),
        )
        .post(
            "/api/customer/{customerId}/device/{deviceId}",
            Op::new("Devices", "Make a customer the owner by the maker's word")
                .answer::<DeviceJson>()
                .refuses(404, "unknown"),
            post(devices::assign),
        )
        .delete(
            "/api/customer/device/{deviceId}",
            Op::new("Devices", "Take ownership away by the maker's word")
                .answer::<DeviceJson>()
                .refuses(404, "unknown"),
            delete(devices::unassign),
        )
        .post(
            "/api/deviceProfile",
            Op::new("Profiles", "Make a profile, or change the one with this id")
                .body::<profiles::ProfileDraft>()
                .answer::<ProfileJson>(),
            post(profiles::save),
        )
        .get(
            "/api/deviceProfile/{profileId}",
            Op::new("Profiles", "One profile").answer::<ProfileJson>().refuses(404, "unknown"),
            get(profiles::one),
        )
        .delete(
            "/api/deviceProfile/{profileId}",
            Op::new("Profiles", "Remove a profile that no device has").refuses(404, "unknown"),
            delete(profiles::remove),
        )
        .get(
            "/api/deviceProfiles",
            Op::new("Profiles", "Profiles by name").paged().page::<ProfileJson>(),
            get(profiles::list),
        )
        .post(
            "/api/relation",
            Op::new("Gateways", "Let a gateway speak for a device")
                .body::<profiles::Relation>()
                .refuses(404, "unknown"),
            post(profiles::relate),
        )
        .delete(
            "/api/relation",
            Op::new("Gateways", "End that")
                .query("fromId", true, "the gateway")
                .query("fromType", false, "DEVICE")
                .query("toId", true, "the device")
                .query("toType", false, "DEVICE")
                .query("relationType", false, "Created or Manages")
                .query("relationTypeGroup", false, "COMMON")
                .refuses(404, "unknown"),
            delete(profiles::unrelate),
        )
}

fn claiming(table: Table) -> Table {
    let write =
        || Op::new("Claim settings", "Set `claimingAllowed`, `claimingData`").object().refuses(404, "unknown device");
    let read = || {
        Op::new("Claim settings", "Read the claim settings; a secret shows as `[redacted]`")
            .query("keys", false, "names, comma between")
            .list::<attributes::AttributeJson>()
            .refuses(404, "unknown device")
    };
    table
        .post(
            "/api/customer/device/{deviceName}/claim",
            Op::new(
                "Claiming",
                "Claim a device for my customer: 200 SUCCESS, or 400 with `\"FAILURE\"` or `\"CLAIMED\"`",
            )
            .body::<owner::ClaimBody>()
            .answer::<owner::ClaimResult>()
            .query("subCustomerId", false, "refused unless it is the caller's own customer")
            .header("Idempotency-Key", "1 to 255 bytes; a repeat with the same key gets the first answer for 24 hours")
            .refuses(404, "unknown device (`thingsboard` disclosure only)")
            .refuses(413, "body over the bound")
            .refuses(422, "the Idempotency-Key came with another request")
            .refuses(429, "out of tries"),
            post(owner::claim),
        )
        .delete(
            "/api/customer/device/{deviceName}/claim",
            Op::new("Claiming", "Give a device back: its owner, or its maker")
                .refuses(404, "unknown or somebody else's"),
            delete(owner::unclaim),
        )
        .get(
            "/api/claimd/v1/devices/{deviceName}/claim",
            Op::new("Claiming", "A device's claim state, for its owner or its maker")
                .answer::<owner::StateJson>()
                .refuses(404, "unknown or not yours"),
            get(owner::state),
        )
        .get(
            "/api/claimd/v1/audit",
            Op::new(
                "claimd",
                "Audit rows of the caller's tenant, oldest first, with their hashes once they are sealed",
            )
            .object()
            .query("since", false, "only rows after this `seq`")
            .query(
                "sinceTime",
                false,
                "only from the first row on that was written at or after this instant (RFC 3339)",
            )
            .query("device", false, "only rows of this device: its id (a UUID) or its name")
            .query("limit", false, "1 to 1,000; 100 when left out")
            .refuses(404, "no device has the name"),
            get(audit::list),
        )
        .get(
            "/api/claimd/v1/audit/verify",
            Op::new("claimd", "Whether the chain of the caller's audit rows is whole, or its first broken row")
                .answer::<audit::Verification>()
                .query("since", false, "go on after this `seq`; from the first row when left out")
                .query("limit", false, "rows to look at, 1 to 100,000; 100,000 when left out"),
            get(audit::verify),
        )
        .get(
            "/api/claimd/v1/keys",
            Op::new("Keys", "The keys that sign sessions, and how far a rotation of the master key is (operators)")
                .answer::<keys::KeysJson>(),
            get(keys::list),
        )
        .post(
            "/api/claimd/v1/keys/jwt/rotate",
            Op::new("Keys", "Sign sessions with a new key; the old one is valid for one bearer's life (operators)")
                .list::<keys::SigningKeyJson>(),
            post(keys::rotate_jwt),
        )
        .post(
            "/api/claimd/v1/keys/master/rotate",
            Op::new("Keys", "Put a new master key in place and begin to seal everything anew under it (operators)")
                .answer::<keys::MasterJson>(),
            post(keys::rotate_master),
        )
        .post("/api/plugins/telemetry/DEVICE/{deviceId}/{scope}", write(), post(attributes::write))
        .post("/api/plugins/telemetry/DEVICE/{deviceId}/attributes/{scope}", write(), post(attributes::write))
        .post("/api/plugins/telemetry/{deviceId}/{scope}", write(), post(attributes::write))
        .get("/api/plugins/telemetry/DEVICE/{deviceId}/values/attributes", read(), get(attributes::read))
        .get("/api/plugins/telemetry/DEVICE/{deviceId}/values/attributes/{scope}", read(), get(attributes::read_scope))
        .delete(
            "/api/plugins/telemetry/DEVICE/{deviceId}/{scope}",
            Op::new("Claim settings", "Remove claim settings")
                .query("keys", true, "names, comma between; or `key` repeated")
                .refuses(404, "unknown device"),
            delete(attributes::remove),
        )
}

/// Where people reach this server: as configured, else where this very request reached it.
fn base(api: &Api, headers: &HeaderMap) -> String {
    let configured = api.inner.parts.public_url.trim_end_matches('/');
    if !configured.is_empty() {
        return configured.to_owned();
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    format!("http://{host}")
}

/// A slice of a list, as ThingsBoard asks for it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Paging {
    #[serde(default = "hundred")]
    page_size: u32,
    #[serde(default)]
    page: u32,
    text_search: Option<String>,
}

fn hundred() -> u32 {
    100
}

impl Paging {
    /// (the request, size, number).
    fn checked(self) -> Result<(PageRequest, u32, u32), Fault> {
        if !(1..=1000).contains(&self.page_size) {
            return Err(Fault::bad_request("`pageSize` is not 1 to 1000"));
        }
        let text = self.text_search.filter(|text| !text.is_empty());
        Ok((PageRequest { size: self.page_size, page: self.page, text }, self.page_size, self.page))
    }
}

/// Free JSON as it is kept, bounded.
fn kept(json: Option<&serde_json::Value>) -> Result<Option<String>, Fault> {
    const MOST: usize = 64 * 1024;
    match json {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(value) => {
            let text = value.to_string();
            if text.len() > MOST {
                return Err(Fault::bad_request(format!("`additionalInfo` and the like take at most {MOST} bytes")));
            }
            Ok(Some(text))
        }
    }
}

/// Text that people give things, within reason.
fn title(name: &str, text: &str) -> Result<String, Fault> {
    let text = text.trim();
    if text.is_empty() || text.len() > 255 || text.chars().any(char::is_control) {
        return Err(Fault::bad_request(format!("`{name}` is empty, longer than 255 bytes, or has control characters")));
    }
    Ok(text.to_owned())
}

fn instant(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

async fn wrong_method() -> Fault {
    Fault::new(StatusCode::METHOD_NOT_ALLOWED, 31, "this path does not take this method; see `Allow`")
}

async fn nothing_here(uri: Uri) -> Fault {
    // The router does not match an empty variable.
    if uri.path() == "/api/customer/device//claim" {
        return Fault::bad_request("the device name is empty");
    }
    Fault::not_found()
}

/// Our own routes answer with problem documents, those of The Things Stack with its errors.
async fn as_problem(request: extract::Request, next: middleware::Next) -> Response {
    let path = request.uri().path();
    let (ours, stacks) = (path.starts_with("/api/claimd/"), path.starts_with("/api/v3/"));
    let response = next.run(request).await;
    match response.extensions().get::<Fault>() {
        Some(fault) if ours => fault.problem(),
        Some(fault) if stacks => Refused::from(fault).into_response(),
        _ => response,
    }
}

/// What holds for every answer: not cached, not sniffed, not leaking its path.
async fn careful(request: extract::Request, next: middleware::Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let set = |name, value| (name, axum::http::HeaderValue::from_static(value));
    for (name, value) in [
        set(header::CACHE_CONTROL, "no-store"),
        set(header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        set(header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, value);
    }
    response
}

type Page<T> = Result<Json<crate::model::PageJson<T>>, Fault>;
type One<T> = Result<Json<T>, Fault>;
