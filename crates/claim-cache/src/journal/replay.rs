//! What a start finds on disk. The newest snapshot, then every segment it does not stand for; of each device the record
//! with the highest stamp counts. A torn end is accepted where a crash leaves one: in the newest segment, and in one that was
//! not yet on the disk to its end when the next was begun, which that one's header says. Damage anywhere else is an error,
//! because what follows it was acknowledged.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::path::PathBuf;

use claim::{TenantId, Timestamp};

use super::record::{Before, FileKind, HEADER_BYTES, Put, Record};
use super::segment::{Opened, Reader, Step};
use super::{Folder, JournalError};

/// Who takes what is found.
pub(crate) trait Restore {
    /// The number by which the claims to come name this tenant.
    fn tenant(&mut self, id: TenantId) -> u32;
    /// A claim; of each device the highest stamp counts. Its tenant is a number that [`Restore::tenant`] gave.
    fn put(&mut self, put: Put);
    /// The claim with this stamp, and any older one of the device, is gone.
    fn gone(&mut self, device: claim::DeviceId, stamp: u64);
}

/// A file that is read and closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClosedFile {
    pub(crate) kind: FileKind,
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    /// The latest expiry of a claim in it.
    pub(crate) latest_expiry: Option<Timestamp>,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    /// The files that stand for it, oldest first.
    pub(crate) files: Vec<ClosedFile>,
    /// The number of the next segment.
    pub(crate) next_number: u64,
    /// The highest stamp seen, if any.
    pub(crate) highest_stamp: Option<u64>,
    /// How many records were read.
    pub(crate) records: u64,
    /// Bytes of a torn end that were cut off.
    pub(crate) torn_bytes: u64,
}

/// Reads the journal in a folder and tidies it: cuts a torn end off, removes what a crash left unfinished.
pub(crate) fn replay(folder: &Folder, restore: &mut dyn Restore) -> Result<Replayed, JournalError> {
    let files = folder.list()?;
    let unfinished = folder.unfinished();
    if unfinished.exists() {
        remove(&unfinished)?;
    }
    let snapshot = files.iter().filter(|(kind, _)| *kind == FileKind::Snapshot).map(|(_, number)| *number).max();
    let since = snapshot.unwrap_or(0);
    let mut segments: Vec<u64> =
        files.iter().filter(|&&(kind, n)| kind == FileKind::Segment && n >= since).map(|(_, number)| *number).collect();

    let mut found = Replayed { next_number: since.max(1), ..Replayed::default() };
    if let Some(number) = snapshot {
        read_snapshot(folder, number, restore, &mut found)?;
    }
    // Made, and the process ended before it was begun.
    while let Some(&number) = segments.last() {
        let path = folder.file(FileKind::Segment, number);
        if length(&path)? >= HEADER_BYTES as u64 && !Reader::is_blank(&path)? {
            break;
        }
        found.torn_bytes += length(&path)?;
        remove(&path)?;
        segments.pop();
    }
    for (place, &number) in segments.iter().enumerate() {
        let expected = if place == 0 && snapshot.is_none() { number } else { found.next_number };
        if number != expected {
            return Err(JournalError::Missing { path: folder.file(FileKind::Segment, expected) });
        }
        found.next_number = number;
        let may_be_torn = match segments.get(place + 1) {
            Some(&next) => follows_unsynced(folder, next)?,
            None => true,
        };
        read_segment(folder, number, may_be_torn, restore, &mut found)?;
        found.next_number = number + 1;
    }
    // Replaced by the snapshot, but not deleted before the process ended.
    for &(kind, number) in files.iter().filter(|&&(_, number)| number < since) {
        remove(&folder.file(kind, number))?;
    }
    folder.sync().map_err(|source| JournalError::io(folder.path(), "sync folder", source))?;
    Ok(found)
}

fn read_snapshot(
    folder: &Folder,
    number: u64,
    restore: &mut dyn Restore,
    found: &mut Replayed,
) -> Result<(), JournalError> {
    let path = folder.file(FileKind::Snapshot, number);
    let Opened::Good(mut reader) = Reader::open(&path, FileKind::Snapshot, number)? else {
        return Err(JournalError::Damaged { path, offset: 0 });
    };
    let mut file = FileState::default();
    let complete = file.read(&path, &mut reader, restore, found)?;
    if complete != Ended::Complete {
        return Err(JournalError::Damaged { path, offset: reader.offset() });
    }
    found.files.push(file.closed(FileKind::Snapshot, number, reader.offset()));
    Ok(())
}

/// Whether the segment before this one may lack its end.
fn follows_unsynced(folder: &Folder, number: u64) -> Result<bool, JournalError> {
    let path = folder.file(FileKind::Segment, number);
    match Reader::open(&path, FileKind::Segment, number)? {
        Opened::Good(reader) => Ok(reader.before() == Before::Unsynced),
        Opened::NoHeader => Err(JournalError::Damaged { path, offset: 0 }),
    }
}

/// Reads one segment and cuts off what follows its last record: unused room, or a torn end where one may be.
fn read_segment(
    folder: &Folder,
    number: u64,
    may_be_torn: bool,
    restore: &mut dyn Restore,
    found: &mut Replayed,
) -> Result<(), JournalError> {
    let path = folder.file(FileKind::Segment, number);
    let Opened::Good(mut reader) = Reader::open(&path, FileKind::Segment, number)? else {
        return Err(JournalError::Damaged { path, offset: 0 });
    };
    let mut file = FileState::default();
    let ended = file.read(&path, &mut reader, restore, found)?;
    let end = reader.offset();
    let rest = length(&path)?.saturating_sub(end);
    match ended {
        Ended::AtRecord => {}
        Ended::Torn if may_be_torn => found.torn_bytes += rest,
        Ended::Torn | Ended::Complete => return Err(JournalError::Damaged { path, offset: end }),
    }
    if rest > 0 || may_be_torn {
        // Synced as well: from now on there is a newer segment whose header says so.
        cut(&path, end)?;
    }
    found.files.push(file.closed(FileKind::Segment, number, end));
    Ok(())
}

#[derive(PartialEq, Eq)]
enum Ended {
    AtRecord,
    Torn,
    Complete,
}

/// What must be known of a file while reading it.
#[derive(Default)]
struct FileState {
    tenants: HashMap<u32, u32>,
    latest_expiry: Option<Timestamp>,
    records: u64,
}

impl FileState {
    fn read(
        &mut self,
        path: &std::path::Path,
        reader: &mut Reader,
        restore: &mut dyn Restore,
        found: &mut Replayed,
    ) -> Result<Ended, JournalError> {
        loop {
            let at = reader.offset();
            let damaged = || JournalError::Damaged { path: path.to_owned(), offset: at };
            match reader.next().map_err(|source| JournalError::io(path, "read", source))? {
                Step::End => return Ok(Ended::AtRecord),
                Step::Damage { .. } => return Ok(Ended::Torn),
                Step::Record(Record::Tenant { index, id }) => {
                    self.tenants.insert(index, restore.tenant(id));
                }
                Step::Record(Record::Put(put)) => {
                    let tenant = *self.tenants.get(&put.tenant).ok_or_else(damaged)?;
                    self.latest_expiry = self.latest_expiry.max(Some(put.expires_at));
                    found.highest_stamp = found.highest_stamp.max(Some(put.stamp));
                    restore.put(Put { tenant, ..put });
                }
                Step::Record(Record::Gone { device, stamp }) => {
                    found.highest_stamp = found.highest_stamp.max(Some(stamp));
                    restore.gone(device, stamp);
                }
                Step::Record(Record::Complete { count }) if count == self.records => return Ok(Ended::Complete),
                Step::Record(Record::Complete { .. }) => return Err(damaged()),
            }
            self.records += 1;
            found.records += 1;
        }
    }

    fn closed(&self, kind: FileKind, number: u64, bytes: u64) -> ClosedFile {
        ClosedFile { kind, number, bytes, latest_expiry: self.latest_expiry }
    }
}

fn length(path: &std::path::Path) -> Result<u64, JournalError> {
    Ok(std::fs::metadata(path).map_err(|source| JournalError::io(path, "look at", source))?.len())
}

fn remove(path: &PathBuf) -> Result<(), JournalError> {
    std::fs::remove_file(path).map_err(|source| JournalError::io(path, "delete", source))
}

fn cut(path: &std::path::Path, length: u64) -> Result<(), JournalError> {
    let cut = |path| {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(length)?;
        file.sync_all()
    };
    cut(path).map_err(|source| JournalError::io(path, "cut the end off", source))
}
