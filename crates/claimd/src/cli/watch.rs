//! The arguments of `claimd watch`.

use clap::Args;

use super::remote::RemoteArgs;

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Only of this device, by name; of a gateway also what it says for others
    #[arg(long, value_name = "NAME")]
    pub(crate) device: Option<String>,
    /// Only with this outcome or reason, such as malformed or wrong_secret; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub(crate) reason: Vec<String>,
    /// End after so many lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
}
