//! What roles grant to people, and whether a grant is needed at all.
//!
//! In ThingsBoard CE every customer's user may claim; in PE only who has the operation `CLAIM_DEVICES` on `DEVICE` by a role
//! of a group it is in (thingsboard.md 7). Which of the two holds is a setting; the rule itself is [`Actor::may_claim`].
//!
//! [`Actor::may_claim`]: crate::Actor::may_claim

use serde::{Deserialize, Serialize};

/// The `[permissions]` section of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Permissions {
    /// Who may claim and give back.
    pub claim: ClaimPermission,
    /// Roles that a tenant may have.
    pub roles_per_tenant: u32,
    /// Groups that a customer may have.
    pub groups_per_customer: u32,
    /// Users that may be in one group.
    pub users_per_group: u32,
}

impl Default for Permissions {
    fn default() -> Self {
        Self {
            claim: ClaimPermission::CustomerUsers,
            roles_per_tenant: 100,
            groups_per_customer: 100,
            users_per_group: 1_000,
        }
    }
}

/// Which of a customer's users may claim and give back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimPermission {
    /// All of them, as in ThingsBoard CE.
    #[default]
    CustomerUsers,
    /// Those to whom a role grants [`Grant::CLAIM_DEVICES`], as in ThingsBoard PE.
    Granted,
}

/// What kind of thing a grant is about; ThingsBoard PE's names, as far as something here asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// Every kind.
    All,
    /// Devices.
    Device,
}

impl Resource {
    /// All there are.
    pub const ALL: [Resource; 2] = [Self::All, Self::Device];

    /// Its name on the wire and in the registry.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "ALL",
            Self::Device => "DEVICE",
        }
    }

    /// The resource of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resource| resource.name() == name)
    }
}

/// What a grant lets somebody do; ThingsBoard PE's names, as far as something here asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Everything.
    All,
    /// Claim devices for one's customer, and give them back.
    ClaimDevices,
}

impl Operation {
    /// All there are.
    pub const ALL: [Operation; 2] = [Self::All, Self::ClaimDevices];

    /// Its name on the wire and in the registry.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "ALL",
            Self::ClaimDevices => "CLAIM_DEVICES",
        }
    }

    /// The operation of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.name() == name)
    }
}

/// One line of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    /// About what.
    pub resource: Resource,
    /// To do what.
    pub operation: Operation,
}

impl Grant {
    /// To claim devices.
    pub const CLAIM_DEVICES: Grant = Grant { resource: Resource::Device, operation: Operation::ClaimDevices };

    /// Whether who has this one may do what `wanted` says.
    pub fn covers(self, wanted: Grant) -> bool {
        (self.resource == wanted.resource || self.resource == Resource::All)
            && (self.operation == wanted.operation || self.operation == Operation::All)
    }
}

/// What an account may do by all its groups' roles together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    claim_devices: bool,
}

impl Grants {
    /// Whether devices may be claimed.
    pub fn claim_devices(self) -> bool {
        self.claim_devices
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<T: IntoIterator<Item = Grant>>(grants: T) -> Self {
        let mut all = Self::default();
        for grant in grants {
            all.claim_devices |= grant.covers(Grant::CLAIM_DEVICES);
        }
        all
    }
}

/// What an account lacks to do what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPermitted {
    /// The account is a maker's and names no customer, or it names another's.
    NotForThisCustomer,
    /// No role of its groups grants [`Grant::CLAIM_DEVICES`].
    NoClaimDevices,
}

impl NotPermitted {
    /// What is missing, for the maker's audit log.
    pub fn text(self) -> &'static str {
        match self {
            Self::NotForThisCustomer => "not a user of this customer",
            Self::NoClaimDevices => "missing CLAIM_DEVICES on DEVICE",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(resource: &str, operation: &str) -> Grant {
        let resource = Resource::parse(resource).expect("a resource");
        Grant { resource, operation: Operation::parse(operation).expect("an operation") }
    }

    #[test]
    fn all_covers_each_and_nothing_covers_what_it_does_not_name() {
        for (resource, operation) in [("DEVICE", "CLAIM_DEVICES"), ("DEVICE", "ALL"), ("ALL", "ALL")] {
            assert!(grant(resource, operation).covers(Grant::CLAIM_DEVICES), "{operation} on {resource}");
        }
        assert!(!Grant::CLAIM_DEVICES.covers(grant("ALL", "CLAIM_DEVICES")));
        assert!(!Grant::CLAIM_DEVICES.covers(grant("DEVICE", "ALL")));
        assert_eq!((Resource::parse("device"), Operation::parse("READ")), (None, None));
    }

    #[test]
    fn the_roles_of_all_groups_add_up() {
        assert!(!Grants::default().claim_devices());
        assert!(!Grants::from_iter([]).claim_devices());
        assert!(Grants::from_iter([Grant::CLAIM_DEVICES]).claim_devices());
        assert!(Grants::from_iter([grant("ALL", "ALL")]).claim_devices());
    }

    #[test]
    fn what_is_missing_is_named_as_whoever_grants_it_names_it() {
        let Grant { resource, operation } = Grant::CLAIM_DEVICES;
        let text = format!("missing {} on {}", operation.name(), resource.name());
        assert_eq!(NotPermitted::NoClaimDevices.text(), text);
    }
}
