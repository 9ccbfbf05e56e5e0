//! Tenants, for those who run the install.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Make a tenant; prints the link by which its first admin sets a password, good for a day
    Create {
        title: String,
        /// Sign-in name of its first admin
        #[arg(long, value_name = "EMAIL")]
        admin: String,
    },
    /// List tenants
    List,
    /// Show one, by its title
    Get { title: String },
    /// Give one another title
    Set {
        title: String,
        /// From now on
        #[arg(long = "title", value_name = "TITLE")]
        new_title: String,
    },
    /// Remove one with all that is in it; refused while its devices have owners
    Delete {
        title: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}
