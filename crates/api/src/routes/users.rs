//! Accounts: a maker makes its customers' and its own, an operator the first of each maker.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use claim::TenantId;
use claim::directory::{Account, AccountChange, AccountDraft};
use claim::owner::Authority;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{One, kept, title};
use crate::Api;
use crate::bearer::random_token;
use crate::extract::{At, Caller, Sent};
use crate::model::{AuthorityName, EntityId, UserJson};
use crate::reply::Fault;

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UserDraft {
    /// Of an account whose names change; its e-mail and authority stay as they are.
    id: Option<EntityId>,
    email: String,
    authority: AuthorityName,
    /// For `CUSTOMER_USER`.
    customer_id: Option<EntityId>,
    /// For `TENANT_ADMIN`, by an operator; the caller's own when left out.
    tenant_id: Option<EntityId>,
    first_name: Option<String>,
    last_name: Option<String>,
    additional_info: Option<Value>,
}

pub(crate) async fn create(State(api): State<Api>, caller: Caller, Sent(draft): Sent<UserDraft>) -> One<UserJson> {
    if let Some(id) = draft.id {
        return change(&api, &caller, id.id, &draft).await;
    }
    let maker = caller.maker()?;
    let asked = draft.tenant_id.map(|tenant| TenantId::from(tenant.id));
    let (tenant, authority) = match draft.authority {
        AuthorityName::TenantAdmin => {
            let tenant = asked.unwrap_or(maker.tenant);
            if tenant != maker.tenant {
                caller.operator()?;
            }
            (tenant, Authority::TenantAdmin)
        }
        AuthorityName::CustomerUser => {
            let customer = draft.customer_id.ok_or_else(|| Fault::bad_request("`customerId` is missing"))?;
            (maker.tenant, Authority::CustomerUser(customer.id.into()))
        }
    };
    let email = title("email", &draft.email)?;
    if !email.contains('@') || email.contains(char::is_whitespace) {
        return Err(Fault::bad_request("`email` is no e-mail address"));
    }
    let draft = AccountDraft {
        tenant,
        authority,
        operator: false,
        email,
        first_name: draft.first_name.map(|name| title("firstName", &name)).transpose()?,
        last_name: draft.last_name.map(|name| title("lastName", &name)).transpose()?,
        additional_info: kept(draft.additional_info.as_ref())?,
        password_hash: None,
    };
    let account = api.directory().create_account(draft, api.now()).await?;
    Ok(Json(UserJson::from(&account)))
}

async fn change(api: &Api, caller: &Caller, id: Uuid, draft: &UserDraft) -> One<UserJson> {
    let before = managed(api, caller, id).await?;
    let same = match before.authority {
        Authority::TenantAdmin => draft.authority == AuthorityName::TenantAdmin,
        Authority::CustomerUser(customer) => {
            let named = draft.customer_id.is_none_or(|named| named.id == customer.uuid());
            draft.authority == AuthorityName::CustomerUser && named
        }
    };
    if !same || before.email != draft.email.trim().to_lowercase() {
        return Err(Fault::bad_request("an account keeps its `email`, `authority` and `customerId`; make another one"));
    }
    let mut additional_info = draft.additional_info.clone();
    if let Some(Value::Object(members)) = &mut additional_info {
        // Shown to whoever reads the account; it is not set by writing it.
        members.remove("operator");
    }
    let change = AccountChange {
        first_name: draft.first_name.as_ref().map(|name| title("firstName", name)).transpose()?,
        last_name: draft.last_name.as_ref().map(|name| title("lastName", name)).transpose()?,
        additional_info: kept(additional_info.as_ref())?,
    };
    let account = api.directory().change_account(before.tenant, before.id, change, api.by(caller)).await?;
    api.forget_account(account.id);
    Ok(Json(UserJson::from(&account)))
}

/// An account the caller may manage: of its own tenant, or another tenant's admin for an operator.
async fn managed(api: &Api, caller: &Caller, id: Uuid) -> Result<Account, Fault> {
    let maker = caller.maker()?;
    let account = api.directory().account(id.into()).await?;
    let foreign_admin = account.authority == Authority::TenantAdmin && maker.operator;
    if account.tenant == maker.tenant || foreign_admin { Ok(account) } else { Err(Fault::not_found()) }
}

pub(crate) async fn one(State(api): State<Api>, caller: Caller, At(id): At<Uuid>) -> One<UserJson> {
    if caller.0.id.uuid() == id {
        return Ok(Json(UserJson::from(&*caller.0)));
    }
    Ok(Json(UserJson::from(&managed(&api, &caller, id).await?)))
}

pub(crate) async fn remove(State(api): State<Api>, caller: Caller, At(id): At<Uuid>) -> Result<StatusCode, Fault> {
    let account = managed(&api, &caller, id).await?;
    api.directory().delete_account(account.tenant, account.id).await?;
    api.forget_account(account.id);
    Ok(StatusCode::OK)
}

pub(crate) async fn activation_link(
    State(api): State<Api>,
    caller: Caller,
    At(id): At<Uuid>,
    headers: HeaderMap,
) -> Result<String, Fault> {
    let account = managed(&api, &caller, id).await?;
    let active = api.directory().account_by_email(account.email.clone()).await?.is_some_and(|(_, hash)| hash.is_some());
    if active {
        return Err(Fault::bad_request("the account is active already"));
    }
    let token = random_token()?;
    let digest = api.token_digest("activation", token.expose());
    let until = api.now().plus(api.config().activation_lifetime);
    api.directory().set_activation(account.tenant, account.id, digest, until).await?;
    Ok(format!("{}/api/noauth/activate?activateToken={}", super::base(&api, &headers), token.expose()))
}
