//! Roles, groups and who is in them. See `crate::roles`.

mod groups;

use claim::applications::By;
use claim::directory::{Account, Answer, DirectoryError, Page, PageRequest};
use claim::permissions::{Grant, Grants, Operation, Resource};
use claim::roles::{Group, GroupAt, GroupDraft, Role, RoleDraft, RoleId, Roles};
use claim::{CustomerId, PortFuture, TenantId, UserId};
use tokio_postgres::Row;

use super::answers::{page, taken};
use super::db::{Db, Fault};
use super::directory::audit;
use super::{PostgresRegistry, rows};
use crate::directory::found;

impl Roles for PostgresRegistry {
    fn create_role(&self, tenant: TenantId, draft: RoleDraft, by: By) -> Answer<'_, Role> {
        self.change((tenant, draft, by), |db, _, (tenant, draft, by)| Box::pin(create(db, *tenant, draft, *by)))
    }

    fn roles(&self, tenant: TenantId, page: PageRequest) -> Answer<'_, Page<Role>> {
        PortFuture::later(self.look((tenant, page), |db, (tenant, page)| Box::pin(list(db, *tenant, page))))
    }

    fn role(&self, tenant: TenantId, id: RoleId) -> Answer<'_, Role> {
        self.look_for("role", (tenant, id), |db, (tenant, id)| Box::pin(one(db, *tenant, *id)))
    }

    fn delete_role(&self, tenant: TenantId, id: RoleId, by: By) -> Answer<'_, ()> {
        self.change((tenant, id, by), |db, _, (tenant, id, by)| Box::pin(delete(db, *tenant, *id, *by)))
    }

    fn create_group(&self, tenant: TenantId, draft: GroupDraft, by: By) -> Answer<'_, Group> {
        self.change((tenant, draft, by), |db, _, (tenant, draft, by)| Box::pin(groups::create(db, *tenant, draft, *by)))
    }

    fn groups(&self, tenant: TenantId, customer: CustomerId, page: PageRequest) -> Answer<'_, Page<Group>> {
        let args = (tenant, customer, page);
        PortFuture::later(
            self.look(args, |db, (tenant, customer, page)| Box::pin(groups::list(db, *tenant, *customer, page))),
        )
    }

    fn group(&self, at: GroupAt) -> Answer<'_, Group> {
        self.look_for("group", at, |db, at| Box::pin(groups::one(db, *at)))
    }

    fn delete_group(&self, at: GroupAt, by: By) -> Answer<'_, ()> {
        self.change((at, by), |db, _, (at, by)| Box::pin(groups::delete(db, *at, *by)))
    }

    fn give_role(&self, at: GroupAt, role: RoleId, by: By) -> Answer<'_, ()> {
        self.change((at, role, by), |db, _, (at, role, by)| Box::pin(groups::set_role(db, *at, *role, true, *by)))
    }

    fn take_role(&self, at: GroupAt, role: RoleId, by: By) -> Answer<'_, ()> {
        self.change((at, role, by), |db, _, (at, role, by)| Box::pin(groups::set_role(db, *at, *role, false, *by)))
    }

    fn add_user(&self, at: GroupAt, user: UserId, most: u32, by: By) -> Answer<'_, ()> {
        let args = (at, user, most, by);
        self.change(args, |db, _, (at, user, most, by)| Box::pin(groups::add_user(db, *at, *user, *most, *by)))
    }

    fn remove_user(&self, at: GroupAt, user: UserId, by: By) -> Answer<'_, ()> {
        self.change((at, user, by), |db, _, (at, user, by)| Box::pin(groups::remove_user(db, *at, *user, *by)))
    }

    fn users(&self, at: GroupAt, page: PageRequest) -> Answer<'_, Page<Account>> {
        PortFuture::later(self.look((at, page), |db, (at, page)| Box::pin(groups::users(db, *at, page))))
    }

    fn grants(&self, account: UserId) -> Answer<'_, Grants> {
        PortFuture::later(self.look(account, |db, account| Box::pin(grants(db, *account))))
    }
}

/// A grant in the first two columns.
fn grant(row: &Row) -> Result<Grant, Fault> {
    let damaged = || Fault::Damaged("a grant that is not known");
    let resource = Resource::parse(rows::get(row, 0)?).ok_or_else(damaged)?;
    let operation = Operation::parse(rows::get(row, 1)?).ok_or_else(damaged)?;
    Ok(Grant { resource, operation })
}

async fn grants(db: &Db, account: UserId) -> Result<Grants, Fault> {
    let sql = "SELECT DISTINCT g.resource, g.operation FROM group_user u \
         JOIN group_role r ON r.user_group = u.user_group JOIN role_grant g ON g.role = r.role WHERE u.account = $1";
    db.rows(sql, &[&account.uuid()]).await?.iter().map(grant).collect()
}

async fn create(db: &Db, tenant: TenantId, draft: &RoleDraft, by: By) -> Result<Role, Fault> {
    let count: i64 = rows::get(&db.one("SELECT count(*) FROM role WHERE tenant = $1", &[&tenant.uuid()]).await?, 0)?;
    if count >= i64::from(draft.most) {
        return Err(DirectoryError::Full { what: "roles of a tenant", most: draft.most }.into());
    }
    let id = RoleId::random();
    let sql = "INSERT INTO role (id, tenant, name, created_at) VALUES ($1, $2, $3, $4)";
    db.run(sql, &[&id.uuid(), &tenant.uuid(), &draft.name, &by.now.as_millis()]).await.map_err(taken("name"))?;
    for Grant { resource, operation } in &draft.grants {
        let sql = "INSERT INTO role_grant (role, resource, operation) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        db.run(sql, &[&id.uuid(), &resource.name(), &operation.name()]).await?;
    }
    audit(db, tenant, "role.created", &draft.name, by).await?;
    Ok(found(one(db, tenant, id).await?, "role")?)
}

const COLUMNS: &str = "id, name, created_at";

/// A role but for what it grants.
fn read(row: &Row) -> Result<Role, Fault> {
    Ok(Role {
        id: RoleId::from_bytes(rows::id(row, 0)?),
        name: rows::get(row, 1)?,
        grants: Vec::new(),
        created_at: rows::instant(row, 2)?,
    })
}

async fn granted(db: &Db, role: &mut Role) -> Result<(), Fault> {
    let found = db.rows("SELECT resource, operation FROM role_grant WHERE role = $1", &[&role.id.uuid()]).await?;
    role.grants = found.iter().map(grant).collect::<Result<_, _>>()?;
    role.grants.sort_unstable();
    Ok(())
}

async fn one(db: &Db, tenant: TenantId, id: RoleId) -> Result<Option<Role>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM role WHERE id = $1 AND tenant = $2");
    let Some(row) = db.row(&sql, &[&id.uuid(), &tenant.uuid()]).await? else { return Ok(None) };
    let mut role = read(&row)?;
    granted(db, &mut role).await?;
    Ok(Some(role))
}

async fn list(db: &Db, tenant: TenantId, request: &PageRequest) -> Result<Page<Role>, Fault> {
    let mut page = page(db, COLUMNS, "role WHERE tenant = $1", "name", &[&tenant.uuid()], request, read).await?;
    for role in &mut page.rows {
        granted(db, role).await?;
    }
    Ok(page)
}

async fn delete(db: &Db, tenant: TenantId, id: RoleId, by: By) -> Result<(), Fault> {
    let role = found(one(db, tenant, id).await?, "role")?;
    db.run("DELETE FROM role WHERE id = $1", &[&id.uuid()]).await?;
    audit(db, tenant, "role.deleted", &role.name, by).await
}
