//! How requests are read: who asks, path, query, body. Each fault is an answer in ThingsBoard's form, and no fault's text
//! holds anything of what was sent.

use std::error::Error;
use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use claim::directory::Account;
use claim::owner::Authority;
use claim::permissions::Grants;
use claim::{Actor, CustomerId};
use http_body_util::{BodyExt, Limited};
use listener::SignedIn;
use serde::de::DeserializeOwned;

use crate::Api;
use crate::bearer::BearerFault;
use crate::reply::Fault;

/// Who asks, and what roles grant it; a handler that takes it is for people who have signed in.
#[derive(Clone)]
pub(crate) struct Caller(pub(crate) Arc<Account>, pub(crate) Grants);

impl Caller {
    pub(crate) fn actor(&self) -> Actor {
        Actor { account: self.0.id, tenant: self.0.tenant, authority: self.0.authority, grants: self.1 }
    }

    /// Refuses everyone but a maker's administrator.
    pub(crate) fn maker(&self) -> Result<&Account, Fault> {
        match self.0.authority {
            Authority::TenantAdmin => Ok(&self.0),
            Authority::CustomerUser(_) => Err(Fault::forbidden()),
        }
    }

    /// Refuses everyone but those who run the install.
    pub(crate) fn operator(&self) -> Result<&Account, Fault> {
        if self.0.operator { Ok(&self.0) } else { Err(Fault::forbidden()) }
    }

    /// The customer an account is bound to: it sees nothing of others.
    pub(crate) fn bound_to(&self) -> Option<CustomerId> {
        self.actor().customer()
    }
}

/// The outcome of looking at a request's credential; absent without one.
#[derive(Clone)]
struct Identity(Result<Caller, Fault>);

/// Looks at the credential once, ahead of the handler, and tells the listener that the connection has shown who it is.
pub(crate) async fn identify(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let Some(identity) = identity(&api, request.headers()).await else { return next.run(request).await };
    let signed_in = identity.is_ok();
    request.extensions_mut().insert(Identity(identity));
    let mut response = next.run(request).await;
    if signed_in {
        response.extensions_mut().insert(SignedIn);
    }
    response
}

/// `X-Authorization` first, else `Authorization` (thingsboard.md 3).
pub(crate) async fn identity(api: &Api, headers: &HeaderMap) -> Option<Result<Caller, Fault>> {
    let value = headers.get("x-authorization").or_else(|| headers.get(header::AUTHORIZATION))?;
    let bearer = value.to_str().ok().and_then(|value| value.split_once(' '));
    let Some((_, token)) = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
        return Some(Err(Fault::unauthenticated("the credential is not `Bearer TOKEN`; sign in at `/api/auth/login`")));
    };
    Some(caller(api, token.trim()).await)
}

async fn caller(api: &Api, token: &str) -> Result<Caller, Fault> {
    let account = api.account_of(token).await?;
    let grants = api.grants_of(&account).await?;
    Ok(Caller(account, grants))
}

impl FromRequestParts<Api> for Caller {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Fault> {
        match parts.extensions.get::<Identity>() {
            Some(Identity(identity)) => identity.clone(),
            None => Err(Fault::unauthenticated("Authentication is required; sign in at `/api/auth/login`")),
        }
    }
}

impl From<BearerFault> for Fault {
    fn from(fault: BearerFault) -> Self {
        match fault {
            BearerFault::Bad => {
                Fault::unauthenticated("the token is not one of this server's; sign in at `/api/auth/login`")
            }
            BearerFault::Expired => Fault::expired(),
        }
    }
}

/// The variables of the path.
pub(crate) struct At<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for At<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Fault> {
        match Path::<T>::from_request_parts(parts, api).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(_) => Err(Fault::bad_request("the path holds something that is not an id (a UUID) or not UTF-8")),
        }
    }
}

/// The query string.
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for Asked<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Fault> {
        match Query::<T>::from_request_parts(parts, api).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(_) => {
                Err(Fault::bad_request("a parameter of the query is missing, twice, or not a number where one belongs"))
            }
        }
    }
}

/// The whole body, within its bound.
pub(crate) struct Raw(pub(crate) Bytes);

impl FromRequest<Api> for Raw {
    type Rejection = Fault;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Fault> {
        collect(request.into_body(), api).await.map(Self)
    }
}

async fn collect(body: Body, api: &Api) -> Result<Bytes, Fault> {
    let most = api.config().body_bytes;
    let error = match Limited::new(body, most).collect().await {
        Ok(body) => return Ok(body.to_bytes()),
        Err(error) => error,
    };
    if error.is::<http_body_util::LengthLimitError>() {
        api.limit_reached("owner_api.body_bytes");
        return Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, 31, format!("the body is larger than {most} bytes")));
    }
    let mut cause: Option<&(dyn Error + 'static)> = Some(&*error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            let text = "the body did not arrive in time; send it again";
            return Err(Fault::new(StatusCode::REQUEST_TIMEOUT, 31, text));
        }
        cause = error.source();
    }
    Err(Fault::bad_request("the body could not be read to its end"))
}

/// A JSON body, whatever its Content-Type says (tb-rest-client sends text/plain in places).
pub(crate) struct Sent<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Api> for Sent<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Fault> {
        let Raw(body) = Raw::from_request(request, api).await?;
        parse(&body).map(Self)
    }
}

/// Says where a body is wrong, not what stands there: it may be a secret.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let what = match error.classify() {
            serde_json::error::Category::Data => "a member is missing, twice, or of another type than it should be",
            _ => "it is not JSON",
        };
        Fault::bad_request(format!("the body is wrong at line {line}, column {column}: {what}"))
    })
}
