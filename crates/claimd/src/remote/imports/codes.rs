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

/// A file that only its maker can read. `again`: it may be there from a time before.
pub(super) fn new_file(path: &Path, again: bool) -> Done<File> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    if again {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    options.open(path).map_err(|error| unwritten(path, &error))
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
    pub(super) fn begin(path: &Path, resumed: bool) -> Done<Self> {
        Ok(Self { path: path.to_owned(), file: new_file(path, resumed)? })
    }

    /// Nothing was generated.
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
        client.download(&path, &mut self.file)?;
        self.file.sync_all().map_err(|error| unwritten(&self.path, &error))?;
        client.ask(Method::DELETE, &path, None)?;
        out::talk(format!("codes    {count} in {} (the only time they are handed out)", self.path.display()));
        Ok(())
    }
}
