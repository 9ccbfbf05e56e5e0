//! Gateways: devices that speak for others.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum GatewayCommand {
    /// Make a gateway; prints its access token, once
    Create {
        /// Its name, unique in the tenant
        name: String,
        /// Text for people
        #[arg(long)]
        label: Option<String>,
    },
    /// List gateways
    List {
        /// Only those whose name has this text
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        text: String,
    },
    /// Show one, by its name
    Get { name: String },
    /// List the devices that a gateway speaks for
    Children { name: String },
    /// Change one
    Set {
        name: String,
        /// Its name from now on
        #[arg(long = "name", value_name = "NAME", required_unless_present = "label")]
        new_name: Option<String>,
        /// Text for people; an empty one removes it
        #[arg(long)]
        label: Option<String>,
    },
    /// Remove one; the devices that it spoke for stay
    Delete {
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Let a gateway speak for devices
    Relate(Ends),
    /// End that
    Unrelate(Ends),
}

/// A gateway and devices, by name.
#[derive(Debug, Args)]
pub(crate) struct Ends {
    #[arg(long, value_name = "NAME")]
    pub(crate) gateway: String,
    /// Once for each device
    #[arg(long, value_name = "NAME", required_unless_present = "file")]
    pub(crate) device: Vec<String>,
    /// Many devices: a name a line
    #[arg(long, value_name = "FILE", conflicts_with = "device")]
    pub(crate) file: Option<PathBuf>,
}
