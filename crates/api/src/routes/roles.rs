//! Roles and the groups of customers' users that have them, for makers. What a role grants is decided in the domain; here it
//! is read and shown in ThingsBoard PE's form.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get, post, put};
use claim::permissions::{Grant, Operation, Resource};
use claim::roles::{Group, GroupAt, GroupDraft, Role, RoleDraft};
use claim_codes::window::show_instant;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{One, Page, Paging, title};
use crate::Api;
use crate::docs::{Op, Table};
use crate::extract::{Asked, At, Caller, Sent};
use crate::model::{PageJson, UserJson};
use crate::reply::Fault;

pub(super) fn faces(table: Table) -> Table {
    const ROLE: &str = "/api/claimd/v1/roles/{roleId}";
    const GROUPS: &str = "/api/claimd/v1/customers/{customerId}/groups";
    const GROUP: &str = "/api/claimd/v1/customers/{customerId}/groups/{groupId}";
    const HELD: &str = "/api/claimd/v1/customers/{customerId}/groups/{groupId}/roles/{roleId}";
    const USERS: &str = "/api/claimd/v1/customers/{customerId}/groups/{groupId}/users";
    const USER: &str = "/api/claimd/v1/customers/{customerId}/groups/{groupId}/users/{userId}";
    let op = |summary| Op::new("Roles", summary);
    let known = |summary| op(summary).refuses(404, "unknown");
    table
        .get("/api/claimd/v1/roles", op("Roles by name").paged().page::<RoleJson>(), get(list))
        .post(
            "/api/claimd/v1/roles",
            op("Make a role; with `permissions.claim = \"granted\"` only who has `CLAIM_DEVICES` on `DEVICE` claims")
                .body::<RoleRequest>()
                .answer::<RoleJson>(),
            post(create),
        )
        .get(ROLE, known("One role").answer::<RoleJson>(), get(one))
        .delete(ROLE, known("Remove a role, from its groups too"), delete(remove))
        .get(GROUPS, op("A customer's groups by name").paged().page::<GroupJson>(), get(groups))
        .post(
            GROUPS,
            known("Make a group of a customer's users").body::<GroupRequest>().answer::<GroupJson>(),
            post(create_group),
        )
        .get(GROUP, known("One group").answer::<GroupJson>(), get(group))
        .delete(GROUP, known("Remove a group; its users stay"), delete(remove_group))
        .put(HELD, known("Give a group a role; repeat-safe"), put(give_role))
        .delete(HELD, known("Take a role from a group; repeat-safe"), delete(take_role))
        .get(USERS, known("The users in a group by e-mail").paged().page::<UserJson>(), get(users))
        .put(USER, known("Put a user of the customer into a group; repeat-safe"), put(add_user))
        .delete(USER, known("Take a user out of a group; repeat-safe"), delete(remove_user))
}

/// Operations by resource, such as `{"DEVICE":["CLAIM_DEVICES"]}`.
type PermissionsJson = BTreeMap<String, Vec<String>>;

/// A role.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RoleJson {
    id: Uuid,
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    permissions: PermissionsJson,
    created_at: String,
}

impl From<Role> for RoleJson {
    fn from(role: Role) -> Self {
        let mut permissions = PermissionsJson::new();
        for Grant { resource, operation } in role.grants {
            permissions.entry(resource.name().to_owned()).or_default().push(operation.name().to_owned());
        }
        Self {
            id: role.id.uuid(),
            name: role.name,
            kind: GENERIC,
            permissions,
            created_at: show_instant(role.created_at),
        }
    }
}

/// ThingsBoard PE's kind of role that is about all things of a sort, and the only one here.
const GENERIC: &str = "GENERIC";

/// A new role.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoleRequest {
    name: String,
    /// `GENERIC`, which it is when left out.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// `CLAIM_DEVICES` or `ALL` on `DEVICE` or `ALL`.
    permissions: PermissionsJson,
}

impl RoleRequest {
    fn grants(&self) -> Result<Vec<Grant>, Fault> {
        let unknown = |what: &str| {
            Fault::bad_request(format!("`permissions` has {what}; known are `CLAIM_DEVICES`, `ALL` on `DEVICE`, `ALL`"))
        };
        let mut grants = Vec::new();
        for (resource, operations) in &self.permissions {
            let resource = Resource::parse(resource).ok_or_else(|| unknown("an unknown resource"))?;
            for operation in operations {
                let operation = Operation::parse(operation).ok_or_else(|| unknown("an unknown operation"))?;
                grants.push(Grant { resource, operation });
            }
        }
        grants.sort_unstable();
        grants.dedup();
        Ok(grants)
    }
}

/// A group.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GroupJson {
    id: Uuid,
    customer_id: Uuid,
    name: String,
    roles: Vec<HeldRole>,
    created_at: String,
}

/// A role that a group has.
#[derive(Serialize, ToSchema)]
pub(crate) struct HeldRole {
    id: Uuid,
    name: String,
}

impl From<Group> for GroupJson {
    fn from(group: Group) -> Self {
        Self {
            id: group.id.uuid(),
            customer_id: group.customer.uuid(),
            name: group.name,
            roles: group.roles.into_iter().map(|(id, name)| HeldRole { id: id.uuid(), name }).collect(),
            created_at: show_instant(group.created_at),
        }
    }
}

/// A new group.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupRequest {
    name: String,
}

async fn create(State(api): State<Api>, caller: Caller, Sent(request): Sent<RoleRequest>) -> One<RoleJson> {
    let tenant = caller.maker()?.tenant;
    if request.kind.as_ref().is_some_and(|kind| kind != GENERIC) {
        return Err(Fault::bad_request("`type` is `GENERIC`"));
    }
    let most = api.permissions().roles_per_tenant;
    let draft = RoleDraft { name: title("name", &request.name)?, grants: request.grants()?, most };
    let made = api.roles().create_role(tenant, draft, api.by(&caller)).await;
    Ok(Json(api.within("permissions.roles_per_tenant", made)?.into()))
}

async fn list(State(api): State<Api>, caller: Caller, Asked(paging): Asked<Paging>) -> Page<RoleJson> {
    let tenant = caller.maker()?.tenant;
    let (request, size, number) = paging.checked()?;
    let page = api.roles().roles(tenant, request).await?;
    Ok(Json(PageJson::new(page, size, number, RoleJson::from)))
}

async fn one(State(api): State<Api>, caller: Caller, At(id): At<Uuid>) -> One<RoleJson> {
    Ok(Json(api.roles().role(caller.maker()?.tenant, id.into()).await?.into()))
}

async fn remove(State(api): State<Api>, caller: Caller, At(id): At<Uuid>) -> Result<StatusCode, Fault> {
    let tenant = caller.maker()?.tenant;
    api.roles().delete_role(tenant, id.into(), api.by(&caller)).await?;
    api.forget_grants();
    Ok(StatusCode::OK)
}

async fn create_group(
    State(api): State<Api>,
    caller: Caller,
    At(customer): At<Uuid>,
    Sent(request): Sent<GroupRequest>,
) -> One<GroupJson> {
    let tenant = caller.maker()?.tenant;
    let most = api.permissions().groups_per_customer;
    let draft = GroupDraft { customer: customer.into(), name: title("name", &request.name)?, most };
    let made = api.roles().create_group(tenant, draft, api.by(&caller)).await;
    Ok(Json(api.within("permissions.groups_per_customer", made)?.into()))
}

async fn groups(
    State(api): State<Api>,
    caller: Caller,
    At(customer): At<Uuid>,
    Asked(paging): Asked<Paging>,
) -> Page<GroupJson> {
    let tenant = caller.maker()?.tenant;
    let (request, size, number) = paging.checked()?;
    let page = api.roles().groups(tenant, customer.into(), request).await?;
    Ok(Json(PageJson::new(page, size, number, GroupJson::from)))
}

/// Path of a group.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupPath {
    customer_id: Uuid,
    group_id: Uuid,
}

/// Path of a group and a role.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeldPath {
    customer_id: Uuid,
    group_id: Uuid,
    role_id: Uuid,
}

/// Path of a group and a user.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserPath {
    customer_id: Uuid,
    group_id: Uuid,
    user_id: Uuid,
}

/// The group, for its maker.
fn at(caller: &Caller, customer: Uuid, group: Uuid) -> Result<GroupAt, Fault> {
    Ok(GroupAt { tenant: caller.maker()?.tenant, customer: customer.into(), group: group.into() })
}

async fn group(State(api): State<Api>, caller: Caller, At(path): At<GroupPath>) -> One<GroupJson> {
    Ok(Json(api.roles().group(at(&caller, path.customer_id, path.group_id)?).await?.into()))
}

async fn remove_group(State(api): State<Api>, caller: Caller, At(path): At<GroupPath>) -> Result<StatusCode, Fault> {
    let at = at(&caller, path.customer_id, path.group_id)?;
    api.roles().delete_group(at, api.by(&caller)).await?;
    api.forget_grants();
    Ok(StatusCode::OK)
}

async fn give_role(State(api): State<Api>, caller: Caller, At(path): At<HeldPath>) -> Result<StatusCode, Fault> {
    let at = at(&caller, path.customer_id, path.group_id)?;
    api.roles().give_role(at, path.role_id.into(), api.by(&caller)).await?;
    api.forget_grants();
    Ok(StatusCode::OK)
}

async fn take_role(State(api): State<Api>, caller: Caller, At(path): At<HeldPath>) -> Result<StatusCode, Fault> {
    let at = at(&caller, path.customer_id, path.group_id)?;
    api.roles().take_role(at, path.role_id.into(), api.by(&caller)).await?;
    api.forget_grants();
    Ok(StatusCode::OK)
}

async fn users(
    State(api): State<Api>,
    caller: Caller,
    At(path): At<GroupPath>,
    Asked(paging): Asked<Paging>,
) -> Page<UserJson> {
    let at = at(&caller, path.customer_id, path.group_id)?;
    let (request, size, number) = paging.checked()?;
    let page = api.roles().users(at, request).await?;
    Ok(Json(PageJson::new(page, size, number, |account| UserJson::from(&account))))
}

async fn add_user(State(api): State<Api>, caller: Caller, At(path): At<UserPath>) -> Result<StatusCode, Fault> {
    let at = at(&caller, path.customer_id, path.group_id)?;
    let most = api.permissions().users_per_group;
    let added = api.roles().add_user(at, path.user_id.into(), most, api.by(&caller)).await;
    api.within("permissions.users_per_group", added)?;
    api.forget_grants();
    Ok(StatusCode::OK)
}

async fn remove_user(State(api): State<Api>, caller: Caller, At(path): At<UserPath>) -> Result<StatusCode, Fault> {
    let at = at(&caller, path.customer_id, path.group_id)?;
    api.roles().remove_user(at, path.user_id.into(), api.by(&caller)).await?;
    api.forget_grants();
    Ok(StatusCode::OK)
}
