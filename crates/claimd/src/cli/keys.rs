//! What may be done with the install's keys.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Which keys sign sessions, and how far a rotation of the master key is
    List,
    /// Put a new key in place while the server runs
    #[command(subcommand)]
    Rotate(RotateCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum RotateCommand {
    /// The key that signs sessions; who is signed in stays so, the old key ends one token's life later
    Jwt(YesArgs),
    /// The master key: everything sealed is sealed anew, and the key file is replaced
    ///
    /// Codes, tokens, API keys, sessions and pending claims go on working. Keep a copy of the new file apart from backups, and
    /// the old copy as long as the backups that were made under it.
    Master(YesArgs),
}

#[derive(Debug, Args)]
pub(crate) struct YesArgs {
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}
