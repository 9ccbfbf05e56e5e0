//! The file of generated codes: new, for its maker's eyes only, safe on the disk before the server forgets it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use ureq::http::Method;

use super::path_of;
use crate::out;
use crate::remote::client::Client;
use crate::remote::{Done, Stop};

/// A new file that only its maker can read. What is there already stays as it is.
pub(super) fn new_file(path: &Path) -> Done<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| unwritten(path, &error))
}

/// Writes a file that only its maker can read, whole or not at all, in place of one that may be there.
pub(super) fn replace_file<T>(path: &Path, write: impl FnOnce(&mut File) -> Done<T>) -> Done<T> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".partial");
    let beside = PathBuf::from(beside);
    // Of a run that was cut off.
    let _ = std::fs::remove_file(&beside);
    let mut file = new_file(&beside)?;
    let written = write(&mut file).and_then(|value| {
        let synced = file.sync_all().and_then(|()| std::fs::rename(&beside, path));
        synced.map(|()| value).map_err(|error| unwritten(path, &error))
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

pub(super) fn unwritten(path: &Path, error: &io::Error) -> Stop {
    let next = match error.kind() {
        io::ErrorKind::AlreadyExists => "name a new file: what is in this one is not overwritten",
        _ => "name a file in a folder that you can write",
    };
    Stop::usage(format!("`{}` cannot be written: {error}", path.display()), next)
}

pub(super) struct CodesFile {
    path: PathBuf,
    file: File,
}

impl CodesFile {
    /// Made before anything is sent, so that no code is generated which has no place to go.
    pub(super) fn begin(path: &Path) -> Done<Self> {
        // Nothing is in it: of a run that was cut off before it had codes.
        if std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == 0) {
            let _ = std::fs::remove_file(path);
        }
        Ok(Self { path: path.to_owned(), file: new_file(path)? })
    }

    /// Nothing was generated; the file is this run's own.
    pub(super) fn discard(self) {
        let _ = std::fs::remove_file(&self.path);
    }

    /// Fetches the codes, syncs them to the disk, and only then tells the server that they are safe.
    pub(super) fn fill(mut self, client: &Client, job: &Value) -> Done {
        let count = job["codes"].as_u64().unwrap_or_default();
        if job["state"] != "done" {
            // A stopped import gives them when it is resumed.
            self.discard();
            return Ok(());
        }
        if count == 0 {
            out::talk("no code was made: every device has one, or had its codes handed over");
            self.discard();
            return Ok(());
        }
        let path = format!("{}/codes", path_of(job));
        if let Err(stop) = client.download(&path, &mut self.file) {
            // Half of it is of no use, and the server still has it all.
            let next = format!("{}; then claimd import --resume {}", stop.next, job["id"].as_str().unwrap_or_default());
            self.discard();
            return Err(Stop { next, ..stop });
        }
        self.file.sync_all().map_err(|error| unwritten(&self.path, &error))?;
        client.ask(Method::DELETE, &path, None)?;
        out::talk(format!("codes    {count} in {} (the only time they are handed out)", self.path.display()));
        Ok(())
    }
}
