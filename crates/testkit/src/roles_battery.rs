//! The contract of [`Roles`], rule by rule. [`all`] runs every rule, each on an empty install.

use std::sync::Arc;

use claim::applications::By;
use claim::audit::{AuditFilter, AuditLog};
use claim::directory::{AccountDraft, Directory, DirectoryError, PageRequest};
use claim::owner::Authority;
use claim::permissions::{Grant, Operation, Resource};
use claim::roles::{GroupAt, GroupDraft, Role, RoleDraft, RoleId, Roles};
use claim::{CustomerId, TenantId, UserId};

use crate::fixtures::at;

/// An install that an adapter's tests make.
pub trait Install: Roles + AuditLog + Directory {}

impl<T: Roles + AuditLog + Directory> Install for T {}

/// Runs every rule; `install` makes an empty one for each.
pub async fn all<I: Install>(install: impl Fn() -> Arc<I>) {
    a_user_may_what_the_roles_of_its_groups_grant(&*install()).await;
    what_is_taken_deleted_or_left_grants_nothing_any_more(&*install()).await;
    names_are_unique_in_tenant_and_customer(&*install()).await;
    roles_groups_and_users_of_others_do_not_exist(&*install()).await;
    roles_groups_and_users_are_so_many_and_no_more(&*install()).await;
    every_change_is_audited_and_what_changes_nothing_is_not(&*install()).await;
}

const MOST: u32 = 3;

fn by(ms: i64) -> By {
    By { account: UserId::from_bytes([9; 16]), now: at(ms) }
}

fn rows() -> PageRequest {
    PageRequest { size: 100, page: 0, text: None }
}

/// A tenant with a customer.
struct Stage<'a, I> {
    install: &'a I,
    tenant: TenantId,
    customer: CustomerId,
}

impl<'a, I: Install> Stage<'a, I> {
    async fn new(install: &'a I, title: &str) -> Self {
        let tenant = install.create_tenant(title.to_owned(), at(0)).await.expect("a tenant").id;
        let customer = install.create_customer(tenant, "c".to_owned(), None, at(0)).await.expect("a customer").id;
        Self { install, tenant, customer }
    }

    async fn user(&self, email: &str) -> UserId {
        self.person(Authority::CustomerUser(self.customer), email).await
    }

    async fn person(&self, authority: Authority, email: &str) -> UserId {
        let draft = AccountDraft {
            tenant: self.tenant,
            authority,
            operator: false,
            email: email.to_owned(),
            first_name: None,
            last_name: None,
            additional_info: None,
            password_hash: None,
        };
        self.install.create_account(draft, at(0)).await.expect("an account").id
    }

    async fn role(&self, name: &str, grants: &[Grant]) -> Result<Role, DirectoryError> {
        let draft = RoleDraft { name: name.to_owned(), grants: grants.to_vec(), most: MOST };
        self.install.create_role(self.tenant, draft, by(1)).await
    }

    async fn claimers(&self) -> RoleId {
        self.role("claimers", &[Grant::CLAIM_DEVICES]).await.expect("a role").id
    }

    async fn group(&self, name: &str) -> Result<GroupAt, DirectoryError> {
        let draft = GroupDraft { customer: self.customer, name: name.to_owned(), most: MOST };
        let made = self.install.create_group(self.tenant, draft, by(1)).await?;
        assert_eq!((made.customer, made.name.as_str(), made.roles.len()), (self.customer, name, 0));
        Ok(GroupAt { tenant: self.tenant, customer: self.customer, group: made.id })
    }

    async fn add(&self, group: GroupAt, user: UserId) -> Result<(), DirectoryError> {
        self.install.add_user(group, user, MOST, by(1)).await
    }

    async fn may(&self, user: UserId) -> bool {
        self.install.grants(user).await.expect("an answer").claim_devices()
    }
}

/// A grant reaches a user by a role of a group it is in, and by nothing less.
pub async fn a_user_may_what_the_roles_of_its_groups_grant<I: Install>(install: &I) {
    let stage = Stage::new(install, "a").await;
    let (alice, bob) = (stage.user("alice@example.com").await, stage.user("bob@example.com").await);
    let everything = Grant { resource: Resource::All, operation: Operation::All };
    let given = [Grant::CLAIM_DEVICES, everything, Grant::CLAIM_DEVICES];
    let role = stage.role("claimers", &given).await.expect("a role");
    assert_eq!(role.grants, [everything, Grant::CLAIM_DEVICES], "in order, each once");
    assert_eq!(install.role(stage.tenant, role.id).await, Ok(role.clone()));
    assert_eq!(install.roles(stage.tenant, rows()).await.expect("a page").rows, std::slice::from_ref(&role));
    let (group, other) = (stage.group("night shift").await.expect("a group"), stage.group("other").await.expect("one"));
    assert!(!stage.may(alice).await);
    stage.add(group, alice).await.expect("added");
    assert!(!stage.may(alice).await, "the group has no role");
    install.give_role(group, role.id, by(2)).await.expect("given");
    assert!(stage.may(alice).await);
    assert!(!stage.may(bob).await, "in no group");
    stage.add(other, bob).await.expect("added");
    assert!(!stage.may(bob).await, "in a group without the role");
    assert!(!stage.may(UserId::random()).await, "nobody");
    let shown = install.group(group).await.expect("the group");
    assert_eq!(shown.roles, [(role.id, "claimers".to_owned())]);
    let groups = install.groups(stage.tenant, stage.customer, rows()).await.expect("a page");
    assert_eq!(groups.rows.iter().map(|group| group.name.as_str()).collect::<Vec<_>>(), ["night shift", "other"]);
    assert_eq!(groups.rows[0], shown);
    let users = install.users(group, rows()).await.expect("a page");
    assert_eq!(users.rows.iter().map(|user| user.id).collect::<Vec<_>>(), [alice]);
    // A role without any grant, which is a name and no more.
    let empty = stage.role("guests", &[]).await.expect("a role");
    install.give_role(other, empty.id, by(3)).await.expect("given");
    assert!(!stage.may(bob).await);
}

/// Whatever link of the chain goes, the grant goes.
pub async fn what_is_taken_deleted_or_left_grants_nothing_any_more<I: Install>(install: &I) {
    let stage = Stage::new(install, "a").await;
    let alice = stage.user("alice@example.com").await;
    let role = stage.claimers().await;
    let group = stage.group("g").await.expect("a group");
    let ready = async || {
        install.give_role(group, role, by(2)).await.expect("given");
        stage.add(group, alice).await.expect("added");
        assert!(stage.may(alice).await);
    };
    ready().await;
    install.take_role(group, role, by(3)).await.expect("taken");
    assert!(!stage.may(alice).await);
    ready().await;
    install.remove_user(group, alice, by(3)).await.expect("removed");
    assert!(!stage.may(alice).await);
    ready().await;
    install.delete_role(stage.tenant, role, by(3)).await.expect("deleted");
    assert!(!stage.may(alice).await);
    assert_eq!(install.group(group).await.expect("the group stays").roles, []);
    let role = stage.claimers().await;
    install.give_role(group, role, by(4)).await.expect("given");
    assert!(stage.may(alice).await);
    install.delete_group(group, by(5)).await.expect("deleted");
    assert!(!stage.may(alice).await);
    assert_eq!(install.account(alice).await.expect("the user stays").id, alice);
    // Accounts and customers go with what they are in.
    let group = stage.group("h").await.expect("a group");
    stage.add(group, alice).await.expect("added");
    install.delete_account(stage.tenant, alice).await.expect("deleted");
    assert_eq!(install.users(group, rows()).await.expect("a page").total, 0);
    install.delete_customer(stage.tenant, stage.customer, at(6)).await.expect("deleted");
    assert_eq!(install.group(group).await, Err(DirectoryError::NotFound("group")));
}

/// Two tenants may have roles of one name, two customers groups of one name.
pub async fn names_are_unique_in_tenant_and_customer<I: Install>(install: &I) {
    let (here, there) = (Stage::new(install, "here").await, Stage::new(install, "there").await);
    for stage in [&here, &there] {
        stage.role("r", &[]).await.expect("a role");
        assert_eq!(stage.role("r", &[]).await, Err(DirectoryError::Taken("name")));
        stage.group("g").await.expect("a group");
        assert_eq!(stage.group("g").await, Err(DirectoryError::Taken("name")));
    }
    let customer = install.create_customer(here.tenant, "d".to_owned(), None, at(0)).await.expect("a customer").id;
    Stage { install, tenant: here.tenant, customer }.group("g").await.expect("another customer's");
}

/// Neither across tenants nor across customers.
pub async fn roles_groups_and_users_of_others_do_not_exist<I: Install>(install: &I) {
    let (here, there) = (Stage::new(install, "here").await, Stage::new(install, "there").await);
    let (role, group) = (here.claimers().await, here.group("g").await.expect("a group"));
    let (mine, foreign) = (here.user("a@example.com").await, there.user("b@example.com").await);
    let not_found = |what| Err(DirectoryError::NotFound(what));
    assert_eq!(install.role(there.tenant, role).await.map(drop), not_found("role"));
    assert_eq!(install.delete_role(there.tenant, role, by(1)).await, not_found("role"));
    assert_eq!(install.give_role(group, there.claimers().await, by(1)).await, not_found("role"));
    assert_eq!(here.add(group, foreign).await, not_found("account"));
    assert_eq!(install.roles(there.tenant, rows()).await.expect("a page").total, 1, "its own");
    for at in [GroupAt { tenant: there.tenant, ..group }, GroupAt { customer: there.customer, ..group }] {
        assert_eq!(install.group(at).await.map(drop), not_found("group"));
        assert_eq!(install.users(at, rows()).await.map(drop), not_found("group"));
        assert_eq!(here.add(at, mine).await, not_found("group"));
        assert_eq!(install.remove_user(at, mine, by(1)).await, not_found("group"));
        assert_eq!(install.give_role(at, role, by(1)).await, not_found("group"));
        assert_eq!(install.take_role(at, role, by(1)).await, not_found("group"));
        assert_eq!(install.delete_group(at, by(1)).await, not_found("group"));
    }
    let draft = GroupDraft { customer: there.customer, name: "h".to_owned(), most: MOST };
    assert_eq!(install.create_group(here.tenant, draft, by(1)).await.map(drop), not_found("customer"));
    // A group is of one customer's users: no maker, no neighbour.
    let maker = here.person(Authority::TenantAdmin, "m@example.com").await;
    let customer = install.create_customer(here.tenant, "d".to_owned(), None, at(0)).await.expect("a customer").id;
    let neighbour = here.person(Authority::CustomerUser(customer), "n@example.com").await;
    for user in [maker, neighbour] {
        assert!(matches!(here.add(group, user).await, Err(DirectoryError::Refused(_))));
    }
}

/// At the bound one more is refused, and what is there goes on.
pub async fn roles_groups_and_users_are_so_many_and_no_more<I: Install>(install: &I) {
    let stage = Stage::new(install, "a").await;
    let mut last = None;
    for n in 0..MOST {
        stage.role(&format!("r{n}"), &[]).await.expect("a role");
        last = Some(stage.group(&format!("g{n}")).await.expect("a group"));
    }
    let full = |what| Err(DirectoryError::Full { what, most: MOST });
    assert_eq!(stage.role("r", &[]).await.map(drop), full("roles of a tenant"));
    assert_eq!(stage.group("g").await.map(drop), full("groups of a customer"));
    let group = last.expect("a group");
    let mut users = Vec::new();
    for n in 0..=MOST {
        users.push(stage.user(&format!("{n}@example.com")).await);
    }
    for user in &users[..MOST as usize] {
        stage.add(group, *user).await.expect("added");
    }
    assert_eq!(stage.add(group, users[MOST as usize]).await, full("users in this group"));
    assert_eq!(stage.add(group, users[0]).await, Ok(()), "it is in it already");
}

/// Who, what, of which name; a person by id alone.
pub async fn every_change_is_audited_and_what_changes_nothing_is_not<I: Install>(install: &I) {
    let stage = Stage::new(install, "a").await;
    let alice = stage.user("alice@example.com").await;
    let (role, group) = (stage.claimers().await, stage.group("g").await.expect("a group"));
    for _ in 0..2 {
        install.give_role(group, role, by(2)).await.expect("given");
        stage.add(group, alice).await.expect("added");
    }
    for _ in 0..2 {
        install.take_role(group, role, by(3)).await.expect("taken");
        install.remove_user(group, alice, by(3)).await.expect("removed");
    }
    install.delete_group(group, by(4)).await.expect("deleted");
    install.delete_role(stage.tenant, role, by(4)).await.expect("deleted");
    let told = install.rows(stage.tenant, AuditFilter::default(), 100).await.expect("rows");
    let told: Vec<(String, String)> = told
        .into_iter()
        .filter(|row| row.actor == format!("account:{}", by(0).account) && row.outcome == "done")
        .map(|row| (row.action, row.reason))
        .collect();
    let row = |action: &str, reason: &str| (action.to_owned(), reason.to_owned());
    let expected = [
        row("role.created", "claimers"),
        row("group.created", "g"),
        row("group.role_granted", "g: claimers"),
        row("group.user_added", &format!("g: {alice}")),
        row("group.role_revoked", "g: claimers"),
        row("group.user_removed", &format!("g: {alice}")),
        row("group.deleted", "g"),
        row("role.deleted", "claimers"),
    ];
    assert_eq!(told, expected);
}
