//! Lists of accounts, as ThingsBoard has them.

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use claim::{CustomerId, TenantId};
use uuid::Uuid;

use super::{Page, Paging};
use crate::Api;
use crate::docs::{Op, Table};
use crate::extract::{Asked, At, Caller};
use crate::model::{PageJson, UserJson};

pub(super) fn faces(table: Table) -> Table {
    let list = |summary| Op::new("People", summary).paged().page::<UserJson>();
    table.get("/api/users", list("Accounts of the tenant by e-mail"), get(of_tenant)).get(
        "/api/customer/{customerId}/users",
        list("A customer's accounts by e-mail"),
        get(of_customer),
    )
}

async fn of_tenant(State(api): State<Api>, caller: Caller, Asked(paging): Asked<Paging>) -> Page<UserJson> {
    let tenant = caller.maker()?.tenant;
    listed(&api, tenant, None, paging).await
}

async fn of_customer(
    State(api): State<Api>,
    caller: Caller,
    At(customer): At<Uuid>,
    Asked(paging): Asked<Paging>,
) -> Page<UserJson> {
    let tenant = caller.maker()?.tenant;
    listed(&api, tenant, Some(customer.into()), paging).await
}

async fn listed(api: &Api, tenant: TenantId, customer: Option<CustomerId>, paging: Paging) -> Page<UserJson> {
    let (request, size, number) = paging.checked()?;
    let page = api.directory().accounts(tenant, customer, request).await?;
    Ok(Json(PageJson::new(page, size, number, |account| UserJson::from(&account))))
}
