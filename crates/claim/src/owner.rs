//! The people of a claim: customers who own devices, accounts that act, and what each may do.

use serde::{Deserialize, Serialize};

use crate::device::{TenantId, id};
use crate::permissions::{ClaimPermission, Grants, NotPermitted};

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
    /// What roles grant it; asked for only where grants are needed.
    pub grants: Grants,
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
    /// The customer this account belongs to: it sees and holds nothing of others. `None`: it is the maker's.
    pub fn customer(&self) -> Option<CustomerId> {
        match self.authority {
            Authority::CustomerUser(customer) => Some(customer),
            Authority::TenantAdmin => None,
        }
    }

    /// Whether this account may claim and give back at all: the maker's always (for a customer it names), a customer's
    /// user as `rule` says.
    pub fn may_claim(&self, rule: ClaimPermission) -> Result<(), NotPermitted> {
        match (self.authority, rule) {
            (Authority::TenantAdmin, _) | (_, ClaimPermission::CustomerUsers) => Ok(()),
            (Authority::CustomerUser(_), ClaimPermission::Granted) if self.grants.claim_devices() => Ok(()),
            (Authority::CustomerUser(_), ClaimPermission::Granted) => Err(NotPermitted::NoClaimDevices),
        }
    }

    /// The customer that this account claims for: its own, or the one `named` by a maker, having shown the device's secret
    /// as anybody must.
    pub fn claims_for(&self, named: Option<CustomerId>, rule: ClaimPermission) -> Result<CustomerId, NotPermitted> {
        self.may_claim(rule)?;
        let customer = match self.authority {
            Authority::CustomerUser(own) => named.is_none_or(|named| named == own).then_some(own),
            Authority::TenantAdmin => named,
        };
        customer.ok_or(NotPermitted::NotForThisCustomer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permissions::Grant;

    fn actor(authority: Authority, grants: Grants) -> Actor {
        Actor { account: UserId::random(), tenant: TenantId::random(), authority, grants }
    }

    #[test]
    fn every_customers_user_claims_unless_grants_are_asked_for() {
        let own = CustomerId::random();
        let granted = Grants::from_iter([Grant::CLAIM_DEVICES]);
        for (grants, rule, answer) in [
            (Grants::default(), ClaimPermission::CustomerUsers, Ok(own)),
            (granted, ClaimPermission::CustomerUsers, Ok(own)),
            (Grants::default(), ClaimPermission::Granted, Err(NotPermitted::NoClaimDevices)),
            (granted, ClaimPermission::Granted, Ok(own)),
        ] {
            assert_eq!(actor(Authority::CustomerUser(own), grants).claims_for(None, rule), answer, "{rule:?}");
        }
    }

    #[test]
    fn a_maker_claims_for_a_named_customer_alone_and_needs_no_grant() {
        let (own, other) = (CustomerId::random(), CustomerId::random());
        let (maker, nothing) = (actor(Authority::TenantAdmin, Grants::default()), Grants::default());
        for rule in [ClaimPermission::CustomerUsers, ClaimPermission::Granted] {
            assert_eq!(maker.claims_for(Some(own), rule), Ok(own));
            assert_eq!(maker.claims_for(None, rule), Err(NotPermitted::NotForThisCustomer));
        }
        let user = actor(Authority::CustomerUser(own), nothing);
        let foreign = user.claims_for(Some(other), ClaimPermission::CustomerUsers);
        assert_eq!(foreign, Err(NotPermitted::NotForThisCustomer));
    }
}
