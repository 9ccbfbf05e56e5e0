//! Roles, and the groups of customers' users that have them.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum RoleCommand {
    /// Make a role
    Create {
        name: String,
        /// What it lets its users do, once for each: CLAIM_DEVICES or ALL on DEVICE or ALL
        #[arg(long, value_name = "RESOURCE:OPERATION", default_value = "DEVICE:CLAIM_DEVICES")]
        grant: Vec<String>,
    },
    /// List roles
    List,
    /// Show one, by its name
    Get { name: String },
    /// Remove one, from its groups too
    Delete {
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// A group, by the title of its customer and its name.
#[derive(Debug, Args)]
pub(crate) struct GroupName {
    /// The customer, by its title
    pub(crate) customer: String,
    /// The group, by its name
    pub(crate) group: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Make a group of a customer's users
    Create(GroupName),
    /// List a customer's groups
    List {
        /// The customer, by its title
        customer: String,
    },
    /// List the users in a group
    Users(GroupName),
    /// Remove a group; its users stay
    Delete {
        #[command(flatten)]
        at: GroupName,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Put users of the customer into a group
    Add {
        #[command(flatten)]
        at: GroupName,
        /// Their sign-in names
        #[arg(value_name = "EMAIL", required = true)]
        users: Vec<String>,
    },
    /// Take users out of a group
    Remove {
        #[command(flatten)]
        at: GroupName,
        /// Their sign-in names
        #[arg(value_name = "EMAIL", required = true)]
        users: Vec<String>,
    },
    /// Give a group a role
    Grant {
        #[command(flatten)]
        at: GroupName,
        /// By its name
        role: String,
    },
    /// Take a role from a group
    Revoke {
        #[command(flatten)]
        at: GroupName,
        /// By its name
        role: String,
    },
}
