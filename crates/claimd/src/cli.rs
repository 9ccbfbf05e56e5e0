//! The command line: what may be asked for. What is done about it is in `commands` and `serve`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Hands connected devices from their maker to their owner.
///
/// Devices say "I may be claimed" over MQTT, CoAP or HTTP; an owner confirms over HTTP. Start with `claimd demo` to watch it
/// work, or `claimd serve` to run it; both need no configuration.
#[derive(Debug, Parser)]
#[command(name = "claimd", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server
    Serve(ServeArgs),
    /// Check the configuration and list every fault in it
    CheckConfig(ConfigArgs),
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// TOML file; without one the defaults hold [env: CLAIMD_CONFIG]
    #[arg(long, value_name = "FILE", env = "CLAIMD_CONFIG", hide_env = true)]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Folder of the database, the claim journal and the master key (`server.data_dir`)
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Write the addresses really bound to this file, as one JSON object, once everything accepts
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// How log lines look (`log.format`)
    #[arg(long, value_name = "json|text")]
    pub(crate) log_format: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the merged configuration as TOML
    Print {
        #[command(flatten)]
        config: ConfigArgs,
        /// Hide secrets
        #[arg(long)]
        redacted: bool,
        /// Say where each value comes from
        #[arg(long)]
        origin: bool,
    },
}
