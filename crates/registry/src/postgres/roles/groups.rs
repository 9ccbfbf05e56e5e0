//! Groups of a customer's users. See `crate::roles::groups`.

use claim::applications::By;
use claim::directory::{Account, DirectoryError, Page, PageRequest};
use claim::owner::Authority;
use claim::roles::{Group, GroupAt, GroupDraft, GroupId, RoleId};
use claim::{CustomerId, TenantId, UserId};
use tokio_postgres::Row;

use crate::directory::found;
use crate::postgres::answers::{page, taken};
use crate::postgres::db::{Db, Fault};
use crate::postgres::directory::{accounts, audit, customers};
use crate::postgres::rows;

const COLUMNS: &str = "id, customer, name, created_at";

/// A group but for its roles.
fn read(row: &Row) -> Result<Group, Fault> {
    Ok(Group {
        id: GroupId::from_bytes(rows::id(row, 0)?),
        customer: CustomerId::from_bytes(rows::id(row, 1)?),
        name: rows::get(row, 2)?,
        roles: Vec::new(),
        created_at: rows::instant(row, 3)?,
    })
}

async fn with_roles(db: &Db, group: &mut Group) -> Result<(), Fault> {
    let sql = "SELECT role.id, role.name FROM group_role JOIN role ON role.id = group_role.role \
         WHERE group_role.user_group = $1 ORDER BY role.name";
    let read = |row: &Row| Ok((RoleId::from_bytes(rows::id(row, 0)?), rows::get(row, 1)?));
    group.roles = db.rows(sql, &[&group.id.uuid()]).await?.iter().map(read).collect::<Result<_, Fault>>()?;
    Ok(())
}

pub(super) async fn create(db: &Db, tenant: TenantId, draft: &GroupDraft, by: By) -> Result<Group, Fault> {
    found(customers::one(db, tenant, draft.customer).await?, "customer")?;
    let sql = "SELECT count(*) FROM user_group WHERE customer = $1";
    let count: i64 = rows::get(&db.one(sql, &[&draft.customer.uuid()]).await?, 0)?;
    if count >= i64::from(draft.most) {
        return Err(DirectoryError::Full { what: "groups of a customer", most: draft.most }.into());
    }
    let at = GroupAt { tenant, customer: draft.customer, group: GroupId::random() };
    let sql = "INSERT INTO user_group (id, tenant, customer, name, created_at) VALUES ($1, $2, $3, $4, $5)";
    let (id, customer, now) = (at.group.uuid(), at.customer.uuid(), by.now.as_millis());
    db.run(sql, &[&id, &tenant.uuid(), &customer, &draft.name, &now]).await.map_err(taken("name"))?;
    audit(db, tenant, "group.created", &draft.name, by).await?;
    Ok(found(one(db, at).await?, "group")?)
}

pub(super) async fn one(db: &Db, at: GroupAt) -> Result<Option<Group>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM user_group WHERE id = $1 AND customer = $2 AND tenant = $3");
    let row = db.row(&sql, &[&at.group.uuid(), &at.customer.uuid(), &at.tenant.uuid()]).await?;
    let Some(row) = row else { return Ok(None) };
    let mut group = read(&row)?;
    with_roles(db, &mut group).await?;
    Ok(Some(group))
}

pub(super) async fn list(
    db: &Db,
    tenant: TenantId,
    customer: CustomerId,
    request: &PageRequest,
) -> Result<Page<Group>, Fault> {
    let from = "user_group WHERE tenant = $1 AND customer = $2";
    let mut page = page(db, COLUMNS, from, "name", &[&tenant.uuid(), &customer.uuid()], request, read).await?;
    for group in &mut page.rows {
        with_roles(db, group).await?;
    }
    Ok(page)
}

pub(super) async fn delete(db: &Db, at: GroupAt, by: By) -> Result<(), Fault> {
    let group = found(one(db, at).await?, "group")?;
    db.run("DELETE FROM user_group WHERE id = $1", &[&at.group.uuid()]).await?;
    audit(db, at.tenant, "group.deleted", &group.name, by).await
}

/// Gives a role, or takes it.
pub(super) async fn set_role(db: &Db, at: GroupAt, role: RoleId, has: bool, by: By) -> Result<(), Fault> {
    let group = found(one(db, at).await?, "group")?;
    let role = found(super::one(db, at.tenant, role).await?, "role")?;
    let (sql, action) = match has {
        true => {
            ("INSERT INTO group_role (user_group, role) VALUES ($1, $2) ON CONFLICT DO NOTHING", "group.role_granted")
        }
        false => ("DELETE FROM group_role WHERE user_group = $1 AND role = $2", "group.role_revoked"),
    };
    if db.run(sql, &[&at.group.uuid(), &role.id.uuid()]).await? > 0 {
        audit(db, at.tenant, action, &format!("{}: {}", group.name, role.name), by).await?;
    }
    Ok(())
}

pub(super) async fn add_user(db: &Db, at: GroupAt, user: UserId, most: u32, by: By) -> Result<(), Fault> {
    let group = found(one(db, at).await?, "group")?;
    let account = accounts::one(db, user).await?.filter(|account| account.tenant == at.tenant);
    if found(account, "account")?.authority != Authority::CustomerUser(at.customer) {
        return Err(DirectoryError::Refused("the account is no user of this customer").into());
    }
    let sql = "SELECT count(*), coalesce(bool_or(account = $2), FALSE) FROM group_user WHERE user_group = $1";
    let row = db.one(sql, &[&at.group.uuid(), &user.uuid()]).await?;
    let (count, there): (i64, bool) = (rows::get(&row, 0)?, rows::get(&row, 1)?);
    if there {
        return Ok(());
    }
    if count >= i64::from(most) {
        return Err(DirectoryError::Full { what: "users in this group", most }.into());
    }
    let sql = "INSERT INTO group_user (user_group, account) VALUES ($1, $2)";
    db.run(sql, &[&at.group.uuid(), &user.uuid()]).await?;
    audit(db, at.tenant, "group.user_added", &format!("{}: {user}", group.name), by).await
}

pub(super) async fn remove_user(db: &Db, at: GroupAt, user: UserId, by: By) -> Result<(), Fault> {
    let group = found(one(db, at).await?, "group")?;
    let sql = "DELETE FROM group_user WHERE user_group = $1 AND account = $2";
    if db.run(sql, &[&at.group.uuid(), &user.uuid()]).await? > 0 {
        audit(db, at.tenant, "group.user_removed", &format!("{}: {user}", group.name), by).await?;
    }
    Ok(())
}

pub(super) async fn users(db: &Db, at: GroupAt, request: &PageRequest) -> Result<Page<Account>, Fault> {
    found(one(db, at).await?, "group")?;
    let from = "JOIN group_user ON group_user.account = account.id WHERE group_user.user_group = $1";
    accounts::page_of(db, from, &[&at.group.uuid()], request).await
}
