//! Claims by a device's name: as the device, as its owner, as its maker.

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::cli::time;

#[derive(Debug, Subcommand)]
pub(crate) enum ClaimCommand {
    /// Announce a device, in its own protocol and with its own token
    Submit(SubmitArgs),
    /// Claim a device by its name
    Confirm {
        /// Its name
        device: String,
        /// The code, `@FILE`, or `-` for standard input; without it only what was announced without one is claimed
        #[arg(long, value_name = "CODE")]
        secret: Option<String>,
    },
    /// Give a device back, by its name
    Unclaim { device: String },
    /// Whether a device is open, pending or claimed
    Status { device: String },
    /// List what is pending, with the seconds that are left (its maker)
    List,
    /// Drop a device's pending claim (its maker); an owner is untouched
    Revoke {
        device: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Forget all wrong tries at a device (its maker)
    Unlock { device: String },
}

/// How a device speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DeviceTransport {
    /// MQTT 3.1.1, which closes where it refuses
    Mqtt,
    /// MQTT 5
    Mqtt5,
    /// MQTT 5 over WebSocket
    Ws,
    Coap,
    Http,
}

#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    /// Its name, for what is printed; who it is says the token
    pub(crate) device: String,
    /// The device's access token: `@FILE`, or `-` for standard input
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: String,
    /// What its owner must show: `@FILE`, or `-` for standard input; nothing without it
    #[arg(long, value_name = "SECRET")]
    pub(crate) secret: Option<String>,
    /// How long the claim lives, such as 2m; the server's default without it
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) lifetime: Option<Duration>,
    #[arg(long, value_enum, default_value_t = DeviceTransport::Http)]
    pub(crate) transport: DeviceTransport,
    /// Where that listens; this machine's usual port without it
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) to: Option<String>,
}
