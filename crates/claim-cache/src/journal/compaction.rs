//! Deleting and rewriting closed files. Files go oldest first and only when everything in them is over; when too much of
//! what lies there is superseded, the claims that still count are copied into one snapshot that takes the files' place.
//!
//! The copy is made from the files, not from the map: no shard is locked for longer than one look-up.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use claim::{TenantId, Timestamp};

use super::record::{FileKind, Put, Record, header};
use super::replay::ClosedFile;
use super::segment::{Opened, Reader, Step};
use super::{Folder, JournalError};

const CHUNK: usize = 1024 * 1024;

/// Writes a snapshot under a working name; [`SnapshotWriter::finish`] puts it in force.
pub(crate) struct SnapshotWriter<'a> {
    folder: &'a Folder,
    number: u64,
    path: PathBuf,
    file: File,
    chunk: Vec<u8>,
    tenants: HashMap<TenantId, u32>,
    records: u64,
    bytes: u64,
    latest_expiry: Option<Timestamp>,
}

impl<'a> SnapshotWriter<'a> {
    /// Begins the snapshot that stands for every segment before `number`.
    pub(crate) fn begin(folder: &'a Folder, number: u64) -> Result<Self, JournalError> {
        let path = folder.unfinished();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(JournalError::io(&path, "delete", error));
            }
            _ => {}
        }
        let file = folder.create(&path).map_err(|source| JournalError::io(&path, "make", source))?;
        let chunk = header(FileKind::Snapshot, number).to_vec();
        let tenants = HashMap::new();
        Ok(Self { folder, number, path, file, chunk, tenants, records: 0, bytes: 0, latest_expiry: None })
    }

    /// Adds a claim; the number of its tenant in `put` does not matter.
    pub(crate) fn add(&mut self, tenant: TenantId, put: Put) -> Result<(), JournalError> {
        let next = u32::try_from(self.tenants.len()).unwrap_or(u32::MAX);
        let index = *self.tenants.entry(tenant).or_insert(next);
        if index == next {
            Record::Tenant { index, id: tenant }.write(&mut self.chunk);
            self.records += 1;
        }
        Record::Put(Put { tenant: index, ..put }).write(&mut self.chunk);
        self.records += 1;
        self.latest_expiry = self.latest_expiry.max(Some(put.expires_at));
        if self.chunk.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), JournalError> {
        self.file.write_all(&self.chunk).map_err(|source| JournalError::io(&self.path, "write", source))?;
        self.bytes += self.chunk.len() as u64;
        self.chunk.clear();
        Ok(())
    }

    /// Syncs the snapshot and gives it its name: from here on it stands for the segments before it.
    pub(crate) fn finish(mut self) -> Result<ClosedFile, JournalError> {
        Record::Complete { count: self.records }.write(&mut self.chunk);
        self.flush()?;
        self.file.sync_all().map_err(|source| JournalError::io(&self.path, "sync", source))?;
        let name = self.folder.file(FileKind::Snapshot, self.number);
        std::fs::rename(&self.path, &name).map_err(|source| JournalError::io(&name, "rename to", source))?;
        self.folder.sync().map_err(|source| JournalError::io(self.folder.path(), "sync folder", source))?;
        Ok(ClosedFile {
            kind: FileKind::Snapshot,
            number: self.number,
            bytes: self.bytes,
            latest_expiry: self.latest_expiry,
        })
    }
}

/// Copies what `keep` wants out of consecutive closed files into a snapshot. `None` when `stop` was set meanwhile.
pub(crate) fn compact(
    folder: &Folder,
    files: &[ClosedFile],
    keep: &dyn Fn(&Put) -> bool,
    stop: &AtomicBool,
) -> Result<Option<ClosedFile>, JournalError> {
    let Some(newest) = files.last() else {
        return Ok(None);
    };
    let number = match newest.kind {
        FileKind::Segment => newest.number + 1,
        FileKind::Snapshot => return Ok(None),
    };
    let mut snapshot = SnapshotWriter::begin(folder, number)?;
    for file in files {
        let path = folder.file(file.kind, file.number);
        let Opened::Good(mut reader) = Reader::open(&path, file.kind, file.number)? else {
            return Err(JournalError::Damaged { path, offset: 0 });
        };
        let mut tenants: HashMap<u32, TenantId> = HashMap::new();
        loop {
            match reader.next().map_err(|source| JournalError::io(&path, "read", source))? {
                Step::Record(Record::Tenant { index, id }) => {
                    tenants.insert(index, id);
                }
                Step::Record(Record::Put(put)) if keep(&put) => {
                    let Some(&tenant) = tenants.get(&put.tenant) else {
                        return Err(JournalError::Damaged { path, offset: reader.offset() });
                    };
                    snapshot.add(tenant, put)?;
                }
                // A claim that is gone is not current, so its put was left out; its end need not be kept.
                Step::Record(Record::Put(_) | Record::Gone { .. }) => {}
                Step::Record(Record::Complete { .. }) | Step::End => break,
                Step::Damage { offset } => return Err(JournalError::Damaged { path, offset }),
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
        }
    }
    snapshot.finish().map(Some)
}
