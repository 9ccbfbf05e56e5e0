//! Customers: those who own devices.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{One, Page, Paging, kept, title};
use crate::Api;
use crate::extract::{Asked, At, Caller, Sent};
use crate::model::{CustomerJson, EntityId, PageJson};
use crate::reply::Fault;

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CustomerDraft {
    id: Option<EntityId>,
    title: String,
    additional_info: Option<Value>,
}

pub(crate) async fn save(
    State(api): State<Api>,
    caller: Caller,
    Sent(draft): Sent<CustomerDraft>,
) -> One<CustomerJson> {
    let tenant = caller.maker()?.tenant;
    let (title, info) = (title("title", &draft.title)?, kept(draft.additional_info.as_ref())?);
    let customer = match draft.id {
        None => api.directory().create_customer(tenant, title, info, api.now()).await?,
        Some(id) => api.directory().update_customer(tenant, id.id.into(), title, info).await?,
    };
    Ok(Json(customer.into()))
}

pub(crate) async fn one(State(api): State<Api>, caller: Caller, At(id): At<Uuid>) -> One<CustomerJson> {
    if caller.bound_to().is_some_and(|own| own.uuid() != id) {
        return Err(Fault::not_found());
    }
    Ok(Json(api.directory().customer(caller.0.tenant, id.into()).await?.into()))
}

pub(crate) async fn list(State(api): State<Api>, caller: Caller, Asked(paging): Asked<Paging>) -> Page<CustomerJson> {
    let tenant = caller.maker()?.tenant;
    let (request, size, number) = paging.checked()?;
    let page = api.directory().customers(tenant, request).await?;
    Ok(Json(PageJson::new(page, size, number, CustomerJson::from)))
}

pub(crate) async fn remove(State(api): State<Api>, caller: Caller, At(id): At<Uuid>) -> Result<StatusCode, Fault> {
    let tenant = caller.maker()?.tenant;
    api.directory().delete_customer(tenant, id.into(), api.now()).await?;
    // Its accounts went with it.
    api.inner.accounts.invalidate_all();
    Ok(StatusCode::OK)
}
