//! Gateways and the devices they speak for, for their maker. Making and relating them is ThingsBoard's work with devices.

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use uuid::Uuid;

use super::{Page, Paging};
use crate::Api;
use crate::docs::{Op, Table};
use crate::extract::{Asked, At, Caller};
use crate::model::{DeviceJson, PageJson};
use crate::reply::Fault;

pub(super) fn faces(table: Table) -> Table {
    let list = |summary| Op::new("Gateways", summary).paged().page::<DeviceJson>();
    table.get("/api/claimd/v1/gateways", list("Gateways by name"), get(gateways)).get(
        "/api/claimd/v1/gateways/{gatewayId}/devices",
        list("The devices a gateway speaks for by name").refuses(404, "unknown, or no gateway"),
        get(children),
    )
}

async fn gateways(State(api): State<Api>, caller: Caller, Asked(paging): Asked<Paging>) -> Page<DeviceJson> {
    let tenant = caller.maker()?.tenant;
    let (request, size, number) = paging.checked()?;
    let page = api.inner.parts.gateways.gateways(tenant, request).await?;
    Ok(Json(PageJson::new(page, size, number, DeviceJson::from)))
}

async fn children(
    State(api): State<Api>,
    caller: Caller,
    At(gateway): At<Uuid>,
    Asked(paging): Asked<Paging>,
) -> Page<DeviceJson> {
    let tenant = caller.maker()?.tenant;
    let (request, size, number) = paging.checked()?;
    if !api.directory().device_record(tenant, gateway.into()).await?.gateway {
        return Err(Fault::not_found());
    }
    let page = api.inner.parts.gateways.children(tenant, gateway.into(), request).await?;
    Ok(Json(PageJson::new(page, size, number, DeviceJson::from)))
}
