//! API keys: what tools sign in with instead of a password. Each acts as the account that made it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use claim::directory::{ApiKey, ApiKeyDraft};
use claim_codes::window::{parse_instant, show_instant};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{One, title};
use crate::Api;
use crate::bearer::{API_KEY, random_token};
use crate::extract::{At, Caller, Sent};
use crate::reply::Fault;

/// A key, and the once it is shown its text.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ApiKeyJson {
    id: Uuid,
    name: String,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// `clk_…`, in the answer that made it and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl From<ApiKey> for ApiKeyJson {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id.uuid(),
            name: key.name,
            created_at: show_instant(key.created_at),
            expires_at: key.expires_at.map(show_instant),
            key: None,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ApiKeyRequest {
    /// What it is for.
    name: String,
    /// RFC 3339 with a zone; left out: until it is removed.
    expires_at: Option<String>,
}

pub(crate) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Sent(request): Sent<ApiKeyRequest>,
) -> One<ApiKeyJson> {
    let expires_at = request.expires_at.as_deref().map(parse_instant).transpose();
    let expires_at = expires_at.map_err(|fault| Fault::bad_request(format!("`expiresAt`: {fault}")))?;
    if expires_at.is_some_and(|at| at <= api.now()) {
        return Err(Fault::bad_request("`expiresAt` is over already"));
    }
    let key = format!("{API_KEY}{}", random_token()?.expose());
    let draft = ApiKeyDraft {
        account: caller.0.id,
        name: title("name", &request.name)?,
        digest: api.token_digest("api-key", &key),
        expires_at,
        most: api.config().api_keys_per_account,
    };
    let made = api.within("owner_api.api_keys_per_account", api.directory().create_api_key(draft, api.now()).await)?;
    Ok(Json(ApiKeyJson { key: Some(key), ..made.into() }))
}

pub(crate) async fn list(State(api): State<Api>, caller: Caller) -> One<Vec<ApiKeyJson>> {
    let keys = api.directory().api_keys(caller.0.id).await?;
    Ok(Json(keys.into_iter().map(ApiKeyJson::from).collect()))
}

pub(crate) async fn remove(State(api): State<Api>, caller: Caller, At(id): At<Uuid>) -> Result<StatusCode, Fault> {
    api.directory().delete_api_key(caller.0.id, id.into(), api.now()).await?;
    // Its digest is not known here; all are looked up again.
    api.inner.keys.invalidate_all();
    Ok(StatusCode::OK)
}
