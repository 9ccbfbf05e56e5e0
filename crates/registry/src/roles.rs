//! Roles, groups and who is in them. Every change writes its audit row in its transaction.

mod groups;

use claim::applications::By;
use claim::directory::{Account, Answer, DirectoryError, Page, PageRequest};
use claim::permissions::{Grant, Grants, Operation, Resource};
use claim::roles::{Group, GroupAt, GroupDraft, Role, RoleDraft, RoleId, Roles};
use claim::{CustomerId, PortFuture, TenantId, UserId};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::directory::{accounts, audit, found, page, taken};
use crate::rows;
use crate::sqlite::SqliteRegistry;
use crate::writer::Fault;

impl Roles for SqliteRegistry {
    fn create_role(&self, tenant: TenantId, draft: RoleDraft, by: By) -> Answer<'_, Role> {
        self.change(move |connection, _| create(connection, tenant, &draft, by))
    }

    fn roles(&self, tenant: TenantId, page: PageRequest) -> Answer<'_, Page<Role>> {
        PortFuture::later(self.look(move |connection| list(connection, tenant, &page)))
    }

    fn role(&self, tenant: TenantId, id: RoleId) -> Answer<'_, Role> {
        self.look_for("role", move |connection| one(connection, tenant, id))
    }

    fn delete_role(&self, tenant: TenantId, id: RoleId, by: By) -> Answer<'_, ()> {
        self.change(move |connection, _| delete(connection, tenant, id, by))
    }

    fn create_group(&self, tenant: TenantId, draft: GroupDraft, by: By) -> Answer<'_, Group> {
        self.change(move |connection, _| groups::create(connection, tenant, &draft, by))
    }

    fn groups(&self, tenant: TenantId, customer: CustomerId, page: PageRequest) -> Answer<'_, Page<Group>> {
        PortFuture::later(self.look(move |connection| groups::list(connection, tenant, customer, &page)))
    }

    fn group(&self, at: GroupAt) -> Answer<'_, Group> {
        self.look_for("group", move |connection| groups::one(connection, at))
    }

    fn delete_group(&self, at: GroupAt, by: By) -> Answer<'_, ()> {
        self.change(move |connection, _| groups::delete(connection, at, by))
    }

    fn give_role(&self, at: GroupAt, role: RoleId, by: By) -> Answer<'_, ()> {
        self.change(move |connection, _| groups::set_role(connection, at, role, true, by))
    }

    fn take_role(&self, at: GroupAt, role: RoleId, by: By) -> Answer<'_, ()> {
        self.change(move |connection, _| groups::set_role(connection, at, role, false, by))
    }

    fn add_user(&self, at: GroupAt, user: UserId, most: u32, by: By) -> Answer<'_, ()> {
        self.change(move |connection, _| groups::add_user(connection, at, user, most, by))
    }

    fn remove_user(&self, at: GroupAt, user: UserId, by: By) -> Answer<'_, ()> {
        self.change(move |connection, _| groups::remove_user(connection, at, user, by))
    }

    fn users(&self, at: GroupAt, page: PageRequest) -> Answer<'_, Page<Account>> {
        PortFuture::later(async move {
            self.group(at).await?;
            let from = "JOIN group_user ON group_user.account = account.id WHERE group_user.user_group = ?1";
            self.look(move |connection| accounts::page_of(connection, from, &[at.group.as_bytes()], &page)).await
        })
    }

    fn grants(&self, account: UserId) -> Answer<'_, Grants> {
        PortFuture::later(self.look(move |connection| {
            connection
                .prepare_cached(
                    "SELECT DISTINCT g.resource, g.operation FROM group_user u \
                     JOIN group_role r ON r.user_group = u.user_group JOIN role_grant g ON g.role = r.role \
                     WHERE u.account = ?1",
                )?
                .query_map([account.as_bytes()], grant)?
                .collect()
        }))
    }
}

/// A grant in the first two columns.
fn grant(row: &Row<'_>) -> rusqlite::Result<Grant> {
    let damaged =
        |column| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, "a grant that is not known".into());
    let resource = Resource::parse(row.get_ref(0)?.as_str()?).ok_or_else(|| damaged(0))?;
    let operation = Operation::parse(row.get_ref(1)?.as_str()?).ok_or_else(|| damaged(1))?;
    Ok(Grant { resource, operation })
}

fn create(connection: &Connection, tenant: TenantId, draft: &RoleDraft, by: By) -> Result<Role, Fault> {
    let count: u32 = connection
        .prepare_cached("SELECT count(*) FROM role WHERE tenant = ?1")?
        .query_row([tenant.as_bytes()], |row| row.get(0))?;
    if count >= draft.most {
        return Err(DirectoryError::Full { what: "roles of a tenant", most: draft.most }.into());
    }
    let id = RoleId::random();
    connection
        .prepare_cached("INSERT INTO role (id, tenant, name, created_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![id.as_bytes(), tenant.as_bytes(), draft.name, by.now.as_millis()])
        .map_err(taken("name"))?;
    for Grant { resource, operation } in &draft.grants {
        connection
            .prepare_cached(
                "INSERT INTO role_grant (role, resource, operation) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            )?
            .execute(params![id.as_bytes(), resource.name(), operation.name()])?;
    }
    audit(connection, tenant, "role.created", &draft.name, by)?;
    Ok(found(one(connection, tenant, id)?, "role")?)
}

const COLUMNS: &str = "id, name, created_at";

/// A role but for what it grants.
fn read(row: &Row<'_>) -> rusqlite::Result<Role> {
    Ok(Role {
        id: RoleId::from_bytes(rows::bytes(row, 0)?),
        name: row.get(1)?,
        grants: Vec::new(),
        created_at: rows::instant(row, 2)?,
    })
}

fn granted(connection: &Connection, role: &mut Role) -> rusqlite::Result<()> {
    role.grants = connection
        .prepare_cached("SELECT resource, operation FROM role_grant WHERE role = ?1")?
        .query_map([role.id.as_bytes()], grant)?
        .collect::<Result<_, _>>()?;
    role.grants.sort_unstable();
    Ok(())
}

fn one(connection: &Connection, tenant: TenantId, id: RoleId) -> rusqlite::Result<Option<Role>> {
    let role = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM role WHERE id = ?1 AND tenant = ?2"))?
        .query_row(params![id.as_bytes(), tenant.as_bytes()], read)
        .optional()?;
    let Some(mut role) = role else { return Ok(None) };
    granted(connection, &mut role)?;
    Ok(Some(role))
}

fn list(connection: &Connection, tenant: TenantId, request: &PageRequest) -> rusqlite::Result<Page<Role>> {
    let from = "role WHERE tenant = ?1";
    let mut page = page(connection, COLUMNS, from, "name", &[tenant.as_bytes()], request, read)?;
    page.rows.iter_mut().try_for_each(|role| granted(connection, role))?;
    Ok(page)
}

fn delete(connection: &Connection, tenant: TenantId, id: RoleId, by: By) -> Result<(), Fault> {
    let role = found(one(connection, tenant, id)?, "role")?;
    connection.prepare_cached("DELETE FROM role WHERE id = ?1")?.execute([id.as_bytes()])?;
    Ok(audit(connection, tenant, "role.deleted", &role.name, by)?)
}
