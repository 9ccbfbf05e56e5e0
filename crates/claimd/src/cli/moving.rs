//! Backup, restore, and moving to another store or schema. These work on the store itself, beside a server.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::imports::ProgressForm;
use super::{ConfigArgs, Form, time};

/// Which store, and how it is told about.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Folder of the database, the claim journal and the master key (`server.data_dir`)
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// How the result is written
    #[arg(long, value_enum, value_name = "FORM", default_value_t = Form::Auto)]
    pub(crate) output: Form,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Folder for it, which is not there yet or is empty
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = ProgressForm::Auto)]
    pub(crate) progress: ProgressForm,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Folder that `claimd backup` made
    #[arg(long, value_name = "DIR")]
    pub(crate) from: PathBuf,
    /// Check everything and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// No claim code of the backup works any more: some were spent after it was made, and nobody knows which
    #[arg(long)]
    pub(crate) revoke_codes: bool,
    /// Also when the audit log in the backup is not whole
    #[arg(long)]
    pub(crate) accept_broken_audit: bool,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = ProgressForm::Auto)]
    pub(crate) progress: ProgressForm,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MigrateCommand {
    /// Which schema the store has, and which this claimd works with
    Status(StoreArgs),
    /// Bring the schema up to date; a server does it by itself when it starts
    Up(StoreArgs),
    /// Move everything from SQLite to PostgreSQL
    ///
    /// The copy is made while the server runs. Then stop the server: what changed meanwhile is copied, every row is compared,
    /// and the lines for the configuration are printed. Stopped anywhere, the same command goes on.
    Store(MoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// `postgresql://user@host:5432/database`, or @FILE with that in it, which is the way for one with a password
    #[arg(long, value_name = "URL|@FILE", required_unless_present = "undo", conflicts_with = "undo")]
    pub(crate) to: Option<String>,
    /// Count, and check both sides; write nothing
    #[arg(long, conflicts_with = "undo")]
    pub(crate) dry_run: bool,
    /// Drop an unfinished copy that is there, and begin again
    #[arg(long, conflicts_with = "undo")]
    pub(crate) afresh: bool,
    /// Make the SQLite file the registry again, as it was; what changed in PostgreSQL since is not in it
    #[arg(long)]
    pub(crate) undo: bool,
    /// Do not ask
    #[arg(long, requires = "undo")]
    pub(crate) yes: bool,
    /// How long to wait for the server to be stopped
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time)]
    pub(crate) wait: Duration,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = ProgressForm::Auto)]
    pub(crate) progress: ProgressForm,
}
