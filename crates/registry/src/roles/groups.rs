//! Groups of a customer's users.

use claim::applications::By;
use claim::directory::{DirectoryError, Page, PageRequest};
use claim::owner::Authority;
use claim::roles::{Group, GroupAt, GroupDraft, GroupId, RoleId};
use claim::{CustomerId, TenantId, UserId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::directory::{accounts, audit, customers, found, page, taken};
use crate::rows;
use crate::writer::Fault;

const COLUMNS: &str = "id, customer, name, created_at";

/// A group but for its roles.
fn read(row: &Row<'_>) -> rusqlite::Result<Group> {
    Ok(Group {
        id: GroupId::from_bytes(rows::bytes(row, 0)?),
        customer: CustomerId::from_bytes(rows::bytes(row, 1)?),
        name: row.get(2)?,
        roles: Vec::new(),
        created_at: rows::instant(row, 3)?,
    })
}

fn with_roles(connection: &Connection, group: &mut Group) -> rusqlite::Result<()> {
    group.roles = connection
        .prepare_cached(
            "SELECT role.id, role.name FROM group_role JOIN role ON role.id = group_role.role \
             WHERE group_role.user_group = ?1 ORDER BY role.name",
        )?
        .query_map([group.id.as_bytes()], |row| Ok((RoleId::from_bytes(rows::bytes(row, 0)?), row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    Ok(())
}

pub(super) fn create(connection: &Connection, tenant: TenantId, draft: &GroupDraft, by: By) -> Result<Group, Fault> {
    found(customers::one(connection, tenant, draft.customer)?, "customer")?;
    let count: u32 = connection
        .prepare_cached("SELECT count(*) FROM user_group WHERE customer = ?1")?
        .query_row([draft.customer.as_bytes()], |row| row.get(0))?;
    if count >= draft.most {
        return Err(DirectoryError::Full { what: "groups of a customer", most: draft.most }.into());
    }
    let at = GroupAt { tenant, customer: draft.customer, group: GroupId::random() };
    connection
        .prepare_cached("INSERT INTO user_group (id, tenant, customer, name, created_at) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![
            at.group.as_bytes(),
            tenant.as_bytes(),
            at.customer.as_bytes(),
            draft.name,
            by.now.as_millis()
        ])
        .map_err(taken("name"))?;
    audit(connection, tenant, "group.created", &draft.name, by)?;
    Ok(found(one(connection, at)?, "group")?)
}

pub(super) fn one(connection: &Connection, at: GroupAt) -> rusqlite::Result<Option<Group>> {
    let group = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM user_group WHERE id = ?1 AND customer = ?2 AND tenant = ?3"))?
        .query_row(params![at.group.as_bytes(), at.customer.as_bytes(), at.tenant.as_bytes()], read)
        .optional()?;
    let Some(mut group) = group else { return Ok(None) };
    with_roles(connection, &mut group)?;
    Ok(Some(group))
}

pub(super) fn list(
    connection: &Connection,
    tenant: TenantId,
    customer: CustomerId,
    request: &PageRequest,
) -> rusqlite::Result<Page<Group>> {
    let (from, values) = ("user_group WHERE tenant = ?1 AND customer = ?2", [tenant.as_bytes(), customer.as_bytes()]);
    let mut page = page(connection, COLUMNS, from, "name", &[&values[0], &values[1]], request, read)?;
    page.rows.iter_mut().try_for_each(|group| with_roles(connection, group))?;
    Ok(page)
}

pub(super) fn delete(connection: &Connection, at: GroupAt, by: By) -> Result<(), Fault> {
    let group = found(one(connection, at)?, "group")?;
    connection.prepare_cached("DELETE FROM user_group WHERE id = ?1")?.execute([at.group.as_bytes()])?;
    Ok(audit(connection, at.tenant, "group.deleted", &group.name, by)?)
}

/// Gives a role, or takes it.
pub(super) fn set_role(connection: &Connection, at: GroupAt, role: RoleId, has: bool, by: By) -> Result<(), Fault> {
    let group = found(one(connection, at)?, "group")?;
    let role = found(super::one(connection, at.tenant, role)?, "role")?;
    let (sql, action) = match has {
        true => {
            ("INSERT INTO group_role (user_group, role) VALUES (?1, ?2) ON CONFLICT DO NOTHING", "group.role_granted")
        }
        false => ("DELETE FROM group_role WHERE user_group = ?1 AND role = ?2", "group.role_revoked"),
    };
    let changed = connection.prepare_cached(sql)?.execute(params![at.group.as_bytes(), role.id.as_bytes()])?;
    if changed > 0 {
        audit(connection, at.tenant, action, &format!("{}: {}", group.name, role.name), by)?;
    }
    Ok(())
}

pub(super) fn add_user(connection: &Connection, at: GroupAt, user: UserId, most: u32, by: By) -> Result<(), Fault> {
    let group = found(one(connection, at)?, "group")?;
    let account = accounts::one(connection, user)?.filter(|account| account.tenant == at.tenant);
    if found(account, "account")?.authority != Authority::CustomerUser(at.customer) {
        return Err(DirectoryError::Refused("the account is no user of this customer").into());
    }
    let (count, there): (u32, bool) = connection
        .prepare_cached("SELECT count(*), coalesce(max(account = ?2), 0) FROM group_user WHERE user_group = ?1")?
        .query_row(params![at.group.as_bytes(), user.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if there {
        return Ok(());
    }
    if count >= most {
        return Err(DirectoryError::Full { what: "users in this group", most }.into());
    }
    connection
        .prepare_cached("INSERT INTO group_user (user_group, account) VALUES (?1, ?2)")?
        .execute(params![at.group.as_bytes(), user.as_bytes()])?;
    Ok(audit(connection, at.tenant, "group.user_added", &format!("{}: {user}", group.name), by)?)
}

pub(super) fn remove_user(connection: &Connection, at: GroupAt, user: UserId, by: By) -> Result<(), Fault> {
    let group = found(one(connection, at)?, "group")?;
    let gone = connection
        .prepare_cached("DELETE FROM group_user WHERE user_group = ?1 AND account = ?2")?
        .execute(params![at.group.as_bytes(), user.as_bytes()])?;
    if gone > 0 {
        audit(connection, at.tenant, "group.user_removed", &format!("{}: {user}", group.name), by)?;
    }
    Ok(())
}
