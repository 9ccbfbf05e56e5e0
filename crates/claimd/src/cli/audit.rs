//! What may be asked of the audit log.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Which rows.
#[derive(Debug, Args)]
pub(crate) struct RowsArgs {
    /// Only rows after this position (a number), or from this time on: RFC 3339, or `2 days ago`
    #[arg(long, value_name = "SEQ|TIME")]
    pub(crate) since: Option<String>,
    /// Only of this device: its name or its UUID
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) rows: RowsArgs,
    /// Verify this file of `audit export` instead, without a server
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// A hash that must be in the chain, such as the head of an earlier run
    #[arg(long, value_name = "HASH")]
    pub(crate) head: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Rows of the audit log, oldest first
    List(RowsArgs),
    /// Recompute the chain of hashes here; exit code 1 and the first broken row if it is not whole
    ///
    /// Rows of one device do not follow each other: with --device each is verified by itself. With --since the first row's
    /// word about the hash before it is believed.
    Verify(VerifyArgs),
    /// Rows with their hashes as JSON lines, for safe keeping and for `audit verify --file`
    Export {
        #[command(flatten)]
        rows: RowsArgs,
        /// Write them to this file
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}
