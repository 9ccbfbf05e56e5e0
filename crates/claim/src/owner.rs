//! The people of a claim: customers who own devices, accounts that act, and what each may do.

use serde::{Deserialize, Serialize};

use crate::device::{TenantId, id};

id! {
    /// A customer of a tenant: the one who owns devices.
    CustomerId
}
id! {
    /// A person's account.
    UserId
}

/// Who asks. Made by the API from a verified session; the domain trusts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The account; attempt budgets are charged to it.
    pub account: UserId,
    /// The account's tenant; every look-up is scoped by it.
    pub tenant: TenantId,
    /// What the account is in its tenant.
    pub authority: Authority,
}

/// What an account is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Authority {
    /// A maker's administrator: sets up devices, may unclaim any of the tenant's, claims for a named customer only.
    TenantAdmin,
    /// A user of a customer: claims for that customer and unclaims what it owns.
    CustomerUser(CustomerId),
}

impl Actor {
    /// The customer this account claims for, if it may claim at all. In ThingsBoard CE every customer user may.
    pub fn claims_for(&self) -> Option<CustomerId> {
        match self.authority {
            Authority::CustomerUser(customer) => Some(customer),
            Authority::TenantAdmin => None,
        }
    }
}
