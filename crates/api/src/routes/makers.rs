//! Operators' work: tenants.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{One, Page, Paging, title};
use crate::Api;
use crate::extract::{Asked, At, Caller, Sent};
use crate::model::{EntityId, PageJson, TenantJson};
use crate::reply::Fault;

#[derive(Deserialize, ToSchema)]
pub(crate) struct TenantDraft {
    id: Option<EntityId>,
    title: String,
}

pub(crate) async fn create(State(api): State<Api>, caller: Caller, Sent(draft): Sent<TenantDraft>) -> One<TenantJson> {
    caller.operator()?;
    let title = title("title", &draft.title)?;
    let tenant = match draft.id {
        None => api.directory().create_tenant(title, api.now()).await?,
        Some(id) => api.directory().rename_tenant(id.id.into(), title, api.by(&caller)).await?,
    };
    Ok(Json(tenant.into()))
}

pub(crate) async fn list(State(api): State<Api>, caller: Caller, Asked(paging): Asked<Paging>) -> Page<TenantJson> {
    caller.operator()?;
    let (request, size, number) = paging.checked()?;
    let page = api.directory().tenants(request).await?;
    Ok(Json(PageJson::new(page, size, number, TenantJson::from)))
}

pub(crate) async fn remove(State(api): State<Api>, caller: Caller, At(id): At<Uuid>) -> Result<StatusCode, Fault> {
    caller.operator()?;
    api.directory().delete_tenant(id.into(), api.now()).await?;
    api.inner.accounts.invalidate_all();
    Ok(StatusCode::OK)
}
