//! Files of devices: in and out.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::remote::RemoteArgs;

/// What a bad row does to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnError {
    /// Nothing is written if any row is bad
    Abort,
    /// The good rows are written
    Skip,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressForm {
    /// A bar on a terminal, a line every five seconds elsewhere
    Auto,
    Bar,
    /// A JSON object a line
    Json,
    None,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// CSV or JSON; `-` for standard input
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    pub(crate) file: Option<PathBuf>,
    /// Where the devices will be at home
    #[arg(long, value_name = "APPLICATION", required_unless_present = "resume", conflicts_with = "resume")]
    pub(crate) application: Option<String>,
    /// the-things-stack-csv, the-things-stack or microchip; guessed from the file without it
    #[arg(long, conflicts_with = "resume")]
    pub(crate) format: Option<String>,
    /// The JoinEUI of a manifest's devices; 70B3D57ED0000000 without it
    #[arg(long, value_name = "EUI", conflicts_with = "resume")]
    pub(crate) join_eui: Option<String>,
    /// Check every row and write nothing
    #[arg(long, conflicts_with_all = ["resume", "codes_out"])]
    pub(crate) dry_run: bool,
    /// What a bad row does
    #[arg(long, value_enum, default_value_t = OnError::Abort, conflicts_with = "resume")]
    pub(crate) on_error: OnError,
    /// Bad rows go to this file, as they are and with the reason; mend it and import it
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Go on with an import that was stopped
    #[arg(long, value_name = "ID")]
    pub(crate) resume: Option<String>,
    /// Make codes for devices without one
    #[arg(long, value_name = "base32|hex8", num_args = 0..=1, require_equals = true, default_missing_value = "base32")]
    #[arg(conflicts_with = "resume")]
    pub(crate) generate_codes: Option<String>,
    /// The codes that were made go to this new file, once
    #[arg(long, value_name = "FILE")]
    pub(crate) codes_out: Option<PathBuf>,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = ProgressForm::Auto)]
    pub(crate) progress: ProgressForm,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Whose devices
    #[arg(long, value_name = "APPLICATION")]
    pub(crate) application: String,
    /// the-things-stack-csv or the-things-stack
    #[arg(long, default_value = "the-things-stack-csv")]
    pub(crate) format: String,
    /// With their claim codes; that is audited
    #[arg(long)]
    pub(crate) codes: bool,
    /// A new file; standard output without it
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = ProgressForm::Auto)]
    pub(crate) progress: ProgressForm,
}
