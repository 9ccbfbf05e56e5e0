//! Roles, the groups of a customer's users that have them, and who is in which: plain records and one port, [`Roles`].
//! What a grant then allows is the business of [`crate::permissions`].

use crate::applications::By;
use crate::device::{TenantId, id};
use crate::directory::{Account, Answer, Page, PageRequest};
use crate::owner::{CustomerId, UserId};
use crate::permissions::{Grant, Grants};
use crate::time::Timestamp;

id! {
    /// A role.
    RoleId
}
id! {
    /// A group of a customer's users.
    GroupId
}

/// What may be done, under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its id.
    pub id: RoleId,
    /// Its name, unique in the tenant.
    pub name: String,
    /// What it grants, in order and each once.
    pub grants: Vec<Grant>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A new role.
#[derive(Clone, Debug)]
pub struct RoleDraft {
    /// Its name.
    pub name: String,
    /// What it grants; repeats count once.
    pub grants: Vec<Grant>,
    /// How many roles the tenant may have.
    pub most: u32,
}

/// A group of a customer's users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// Whose users are in it.
    pub customer: CustomerId,
    /// Its name, unique in the customer.
    pub name: String,
    /// Its roles by name; as many as a tenant has at the most.
    pub roles: Vec<(RoleId, String)>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A new group.
#[derive(Clone, Debug)]
pub struct GroupDraft {
    /// Whose.
    pub customer: CustomerId,
    /// Its name.
    pub name: String,
    /// How many groups the customer may have.
    pub most: u32,
}

/// Which group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupAt {
    /// The customer's tenant.
    pub tenant: TenantId,
    /// The group's customer.
    pub customer: CustomerId,
    /// The group.
    pub group: GroupId,
}

/// Roles and groups. What is another tenant's or another customer's does not exist. Every change has its audit row in its
/// transaction; giving what is had and taking what is not are no changes and no errors.
pub trait Roles: Send + Sync {
    /// Makes a role.
    fn create_role(&self, tenant: TenantId, draft: RoleDraft, by: By) -> Answer<'_, Role>;
    /// Roles by name.
    fn roles(&self, tenant: TenantId, page: PageRequest) -> Answer<'_, Page<Role>>;
    /// One role.
    fn role(&self, tenant: TenantId, id: RoleId) -> Answer<'_, Role>;
    /// Removes a role, from every group that has it too.
    fn delete_role(&self, tenant: TenantId, id: RoleId, by: By) -> Answer<'_, ()>;

    /// Makes a group without roles and users.
    fn create_group(&self, tenant: TenantId, draft: GroupDraft, by: By) -> Answer<'_, Group>;
    /// A customer's groups by name.
    fn groups(&self, tenant: TenantId, customer: CustomerId, page: PageRequest) -> Answer<'_, Page<Group>>;
    /// One group.
    fn group(&self, at: GroupAt) -> Answer<'_, Group>;
    /// Removes a group; its users stay.
    fn delete_group(&self, at: GroupAt, by: By) -> Answer<'_, ()>;

    /// Gives a group a role of its tenant.
    fn give_role(&self, at: GroupAt, role: RoleId, by: By) -> Answer<'_, ()>;
    /// Takes a role from a group.
    fn take_role(&self, at: GroupAt, role: RoleId, by: By) -> Answer<'_, ()>;
    /// Puts a user of the group's own customer into it, at most `most`.
    fn add_user(&self, at: GroupAt, user: UserId, most: u32, by: By) -> Answer<'_, ()>;
    /// Takes a user out of a group.
    fn remove_user(&self, at: GroupAt, user: UserId, by: By) -> Answer<'_, ()>;
    /// The users in a group by e-mail.
    fn users(&self, at: GroupAt, page: PageRequest) -> Answer<'_, Page<Account>>;

    /// What an account may do by its groups' roles; nothing for an unknown one.
    ///
    /// A false answer would let somebody claim whom no role lets: it is read from the store.
    fn grants(&self, account: UserId) -> Answer<'_, Grants>;
}
