//! Accounts of people.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// Make an account; prints the link by which its user sets the first password, good for a day
    Create {
        /// Sign-in name
        email: String,
        /// The customer it acts for, by title; a maker's own without it
        #[arg(long, value_name = "TITLE")]
        customer: Option<String>,
    },
    /// List accounts
    List {
        /// Only of this customer, by title
        #[arg(long, value_name = "TITLE")]
        customer: Option<String>,
        /// Only those whose sign-in name has this text
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        text: String,
    },
    /// Show one, by its sign-in name
    Get { email: String },
    /// Change what its user is called; an empty name removes it
    Set {
        email: String,
        /// Given name
        #[arg(long, value_name = "NAME", required_unless_present = "last_name")]
        first_name: Option<String>,
        /// Family name
        #[arg(long, value_name = "NAME")]
        last_name: Option<String>,
    },
    /// Remove one, with its sessions and keys
    Delete {
        email: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}
