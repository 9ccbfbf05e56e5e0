//! The folder of the journal: names, modes, locking, durable creation. The writer sees it through [`Disk`], so that a full
//! or failing disk can be had in a test.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::JournalError;
use super::record::FileKind;
use super::window::Window;

/// Where segments are made.
pub(crate) trait Disk: Send + Sync + 'static {
    /// Makes an empty segment whose name survives a power loss.
    fn create_segment(&self, number: u64) -> io::Result<Arc<dyn SegmentFile>>;
    /// Deletes a segment that was not begun.
    fn remove_segment(&self, number: u64) -> io::Result<()>;
}

/// An open segment.
pub(crate) trait SegmentFile: Send + Sync {
    /// Writes all bytes at an offset.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Returns when everything written is on the disk.
    fn sync(&self) -> io::Result<()>;
    /// Makes the file this long and has the disk's room for it.
    fn reserve(&self, length: u64) -> io::Result<()>;
    /// Gives back what lies behind this length.
    fn cut(&self, length: u64) -> io::Result<()>;
    /// The reserved bytes from an offset (a multiple of [`super::window::ALIGNMENT`]) on, to be written in place.
    fn window(&self, offset: u64, length: usize) -> io::Result<Window>;
}

impl SegmentFile for File {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(self, rustix::fs::FallocateFlags::empty(), 0, length) {
            Ok(()) => Ok(()),
            // Not every file system can; then the room is had by using it.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                let zeros = [0; 64 * 1024];
                let mut at = self.metadata()?.len();
                while at < length {
                    let part = usize::try_from(length - at).unwrap_or(zeros.len()).min(zeros.len());
                    self.write_all_at(&zeros[..part], at)?;
                    at += part as u64;
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn window(&self, offset: u64, length: usize) -> io::Result<Window> {
        Window::open(self, offset, length)
    }
}

/// A folder, locked against other processes for as long as this lives.
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Opens the folder, makes it (mode 0700) if it is not there, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, JournalError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| JournalError::io(path, "make folder", source))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|source| JournalError::io(&lock_path, "open", source))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => Err(JournalError::Locked { path: path.to_owned() }),
            Err(std::fs::TryLockError::Error(source)) => Err(JournalError::io(&lock_path, "lock", source)),
        }
    }

    /// The path of a file.
    pub(crate) fn file(&self, kind: FileKind, number: u64) -> PathBuf {
        self.path.join(name(kind, number))
    }

    /// Where a snapshot is written before it gets its name.
    pub(crate) fn unfinished(&self) -> PathBuf {
        self.path.join("unfinished")
    }

    /// All files of the journal, ordered by kind (snapshots last) and number.
    pub(crate) fn list(&self) -> Result<Vec<(FileKind, u64)>, JournalError> {
        let failed = |source| JournalError::io(&self.path, "read folder", source);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            files.extend(entry.file_name().to_str().and_then(parse_name));
        }
        files.sort_unstable_by_key(|&(kind, number)| (kind as u8, number));
        Ok(files)
    }

    /// Makes renames, creations and deletions in the folder survive a power loss.
    pub(crate) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// The folder's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a file for this program's user only; it must not exist.
    pub(crate) fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().create_new(true).read(true).write(true).mode(0o600).open(path)
    }
}

impl Disk for Folder {
    fn create_segment(&self, number: u64) -> io::Result<Arc<dyn SegmentFile>> {
        let path = self.file(FileKind::Segment, number);
        let file = match self.create(&path) {
            // Left from an attempt that failed half-way (full disk): nothing in it was acknowledged.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                std::fs::remove_file(&path)?;
                self.create(&path)?
            }
            other => other?,
        };
        self.sync()?;
        Ok(Arc::new(file))
    }

    fn remove_segment(&self, number: u64) -> io::Result<()> {
        std::fs::remove_file(self.file(FileKind::Segment, number))
    }
}

fn name(kind: FileKind, number: u64) -> String {
    match kind {
        FileKind::Segment => format!("{number:020}.segment"),
        FileKind::Snapshot => format!("{number:020}.snapshot"),
    }
}

fn parse_name(name: &str) -> Option<(FileKind, u64)> {
    let (number, kind) = name.split_once('.')?;
    let kind = match kind {
        "segment" => FileKind::Segment,
        "snapshot" => FileKind::Snapshot,
        _ => return None,
    };
    let plain = number.len() == 20 && number.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| number.parse().ok().map(|number| (kind, number)))?
}
