//! The claim journal: what makes an acknowledged claim survive this process.
//!
//! Append-only files in one folder, `N.segment` and at most one `N.snapshot`, which stands for every segment before N.
//! Records of one device are in the order of their stamps, because they are recorded under the lock of the device's
//! shard; files go oldest first, so a newer claim is never deleted before an older one that it replaced.
//!
//! It holds keyed digests, no secrets, and decides nothing: the registry's fence keeps a claim that a crash brought back
//! from being worth anything once it was spent.

mod compaction;
mod disk;
mod grouped;
mod mapped;
mod record;
mod repair;
mod replay;
mod running;
mod segment;
mod tidier;
mod window;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use repair::{RepairReport, repair};

pub(crate) use compaction::SnapshotWriter;
pub(crate) use disk::{Disk, Folder, SegmentFile};
pub(crate) use record::Put;
pub(crate) use replay::{Replayed, Restore, replay};
pub(crate) use running::{Journal, JournalOptions, Start, Ticket};

/// The folder of the journal inside the data directory.
pub const FOLDER: &str = "claim-journal";

/// Why a journal could not be opened or read.
#[derive(Debug)]
pub enum JournalError {
    /// A file or folder cannot be used.
    Io {
        /// Which.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Another process uses the folder.
    Locked {
        /// Which folder.
        path: PathBuf,
    },
    /// A record cannot be read, and it is not the torn end of the newest file.
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where the damage begins, in bytes.
        offset: u64,
    },
    /// A file between two others is gone.
    Missing {
        /// The number of the file that should be there.
        path: PathBuf,
    },
    /// Written by a newer version of this program.
    Newer {
        /// Which file.
        path: PathBuf,
        /// The file's version.
        version: u16,
    },
}

impl JournalError {
    pub(crate) fn io(path: &Path, action: &'static str, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), action, source }
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hint = "hint: stop claimd and repair the journal; every record that can be read is kept";
        match self {
            Self::Io { path, action, source } => write!(f, "cannot {action} `{}`: {source}", path.display()),
            Self::Locked { path } => write!(f, "another claimd uses the claim journal: `{}`", path.display()),
            Self::Damaged { path, offset } => {
                write!(f, "the claim journal is damaged at byte {offset}: `{}`\n{hint}", path.display())
            }
            Self::Missing { path } => write!(f, "a file of the claim journal is missing: `{}`\n{hint}", path.display()),
            Self::Newer { path, version } => write!(
                f,
                "the claim journal was written by a newer claimd (format {version}): `{}`\n\
                 hint: start the newer claimd once and stop it gracefully, or move the file away to drop its claims",
                path.display()
            ),
        }
    }
}

impl std::error::Error for JournalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
