//! Records are stored in a mapped part of the newest segment, whose room on the disk was reserved before: committed without
//! a system call and without a wait.
//!
//! Pages reach the disk in any order, so a power loss may leave a hole before what was stored last; replay stops there.
//! A thread, the *keeper*, makes the next segment in time and closes full ones. Until it has synced a full one, the header
//! of the next says that the end before it may be missing.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use claim::{TenantId, Timestamp};

use super::record::{Before, FileKind, HEADER_BYTES, PUT_BYTES, Record, header, header_after};
use super::replay::ClosedFile;
use super::running::{Common, FAILED, FULL, FULL_RETRY, is_full, lock};
use super::window::{ALIGNMENT, Window};
use super::{Disk, SegmentFile};

/// How much of a segment is mapped at a time, in bytes.
const WINDOW: u64 = 4 * ALIGNMENT;
/// A tenant's record, in bytes.
const TENANT_BYTES: u64 = 25;

/// See the module's head.
pub(super) struct Mapped {
    common: Arc<Common>,
    disk: Arc<dyn Disk>,
    log: Mutex<Log>,
    /// Tells the keeper of work, and whoever waits for it that there is a segment.
    changed: Condvar,
}

struct Log {
    active: Active,
    next: Next,
    /// Full segments that the keeper has not closed yet, oldest first.
    full: Vec<Full>,
    /// Every tenant explained so far; a new segment begins with all of them.
    tenants: Vec<TenantId>,
    /// Nothing is taken any more.
    over: bool,
}

/// The segment after the active one.
enum Next {
    NotWanted,
    Wanted,
    /// The keeper is at it, without the lock.
    InWork,
    Ready(Made),
}

/// A segment with a header and its room, nothing in it.
struct Made {
    number: u64,
    file: Arc<dyn SegmentFile>,
    capacity: u64,
}

impl Made {
    fn make(common: &Common, number: u64, file: Arc<dyn SegmentFile>, needed: u64, before: Before) -> io::Result<Self> {
        let capacity = common.options.segment_bytes.max(needed.saturating_mul(2));
        // The header first: a segment with room and no header was never begun.
        file.write_at(&header_after(FileKind::Segment, number, before), 0)?;
        file.reserve(capacity)?;
        file.sync()?;
        Ok(Self { number, file, capacity })
    }
}

/// What a segment must have room for: what it begins with, and a claim.
fn needed(tenants: usize) -> u64 {
    HEADER_BYTES as u64 + TENANT_BYTES * tenants as u64 + PUT_BYTES as u64
}

/// The segment that is stored into.
struct Active {
    segment: Made,
    window: Window,
    /// Where the window begins.
    window_at: u64,
    /// Where in the window the next record goes.
    place: usize,
    latest_expiry: Option<Timestamp>,
}

impl Active {
    fn begin(segment: Made, tenants: &[TenantId]) -> io::Result<Self> {
        let window = segment.file.window(0, window_length(segment.capacity, 0))?;
        let mut active = Self { segment, window, window_at: 0, place: HEADER_BYTES, latest_expiry: None };
        for (index, &id) in (0u32..).zip(tenants) {
            active.store(Record::Tenant { index, id }.encode().as_bytes())?;
        }
        Ok(active)
    }

    fn bytes(&self) -> u64 {
        self.window_at + self.place as u64
    }

    fn fits(&self, length: usize) -> bool {
        self.bytes() + length as u64 <= self.segment.capacity
    }

    fn store(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            let (here, rest) = bytes.split_at(bytes.len().min(self.window.length() - self.place));
            self.window.store(self.place, here);
            self.place += here.len();
            if rest.is_empty() {
                return Ok(());
            }
            let at = self.window_at + self.window.length() as u64;
            self.window = self.segment.file.window(at, window_length(self.segment.capacity, at))?;
            (self.window_at, self.place, bytes) = (at, 0, rest);
        }
    }
}

fn window_length(capacity: u64, at: u64) -> usize {
    usize::try_from((capacity - at).min(WINDOW)).unwrap_or(usize::MAX)
}

/// A segment that takes no more.
struct Full {
    file: Arc<dyn SegmentFile>,
    closed: ClosedFile,
    successor: Arc<dyn SegmentFile>,
}

impl Mapped {
    /// Whether this file system lets a file be mapped.
    pub(super) fn works_on(file: &dyn SegmentFile) -> io::Result<bool> {
        file.reserve(ALIGNMENT)?;
        match file.window(0, HEADER_BYTES) {
            Ok(_) => Ok(true),
            Err(error) => {
                tracing::warn!(%error, "the claim journal's file system maps no files; claims are written by a thread");
                file.cut(0)?;
                Ok(false)
            }
        }
    }

    /// Begins in `file`, a new segment. Every segment before it is synced.
    pub(super) fn begin(
        common: &Arc<Common>,
        disk: Arc<dyn Disk>,
        number: u64,
        file: Arc<dyn SegmentFile>,
        tenants: Vec<TenantId>,
    ) -> io::Result<Arc<Self>> {
        let made = Made::make(common, number, file, needed(tenants.len()), Before::Synced)?;
        let active = Active::begin(made, &tenants)?;
        common.active_bytes.store(active.bytes(), Ordering::Relaxed);
        let log = Log { active, next: Next::NotWanted, full: Vec::new(), tenants, over: false };
        Ok(Arc::new(Self { common: Arc::clone(common), disk, log: Mutex::new(log), changed: Condvar::new() }))
    }

    /// Stores a record; whether it is committed.
    pub(super) fn append(&self, expires_at: Option<Timestamp>, record: &Record) -> bool {
        let record = record.encode();
        let record = record.as_bytes();
        let mut log = lock(&self.log);
        while !log.active.fits(record.len()) {
            if log.over || self.common.is(FULL) || self.common.is(FAILED) {
                return false;
            }
            if matches!(log.next, Next::InWork) {
                log = self.changed.wait(log).unwrap_or_else(PoisonError::into_inner);
            } else if let Err(error) = self.turn(&mut log) {
                if is_full(&error) {
                    self.common.full(&error);
                    log.next = Next::Wanted;
                    self.changed.notify_all();
                } else {
                    self.common.fail("begin a segment of", &error);
                }
                return false;
            }
        }
        if log.over || self.common.is(FAILED) {
            return false;
        }
        if let Err(error) = log.active.store(record) {
            self.common.fail("map", &error);
            return false;
        }
        let active = &mut log.active;
        active.latest_expiry = active.latest_expiry.max(expires_at);
        let bytes = active.bytes();
        self.common.active_bytes.store(bytes, Ordering::Relaxed);
        self.common.unsynced.store(true, Ordering::Release);
        if bytes > active.segment.capacity / 2 && matches!(log.next, Next::NotWanted) {
            log.next = Next::Wanted;
            self.changed.notify_all();
        }
        true
    }

    /// Explains a tenant's number; if it does not fit, the next segment begins with it.
    pub(super) fn tenant(&self, index: u32, id: TenantId) {
        let record = Record::Tenant { index, id }.encode();
        let mut log = lock(&self.log);
        log.tenants.push(id);
        let takes = !log.over && !self.common.is(FAILED) && log.active.fits(record.as_bytes().len());
        if takes && let Err(error) = log.active.store(record.as_bytes()) {
            self.common.fail("map", &error);
        }
    }

    /// Goes on in the next segment.
    fn turn(&self, log: &mut Log) -> io::Result<()> {
        let (number, needed) = (log.active.segment.number + 1, needed(log.tenants.len()));
        let next = match std::mem::replace(&mut log.next, Next::NotWanted) {
            Next::Ready(made) if made.capacity >= needed => made,
            _ => self.make(number, needed)?,
        };
        let next = Active::begin(next, &log.tenants)?;
        let successor = Arc::clone(&next.segment.file);
        *lock(&self.common.active) = Arc::clone(&successor);
        let old = std::mem::replace(&mut log.active, next);
        let closed = ClosedFile {
            kind: FileKind::Segment,
            number: old.segment.number,
            bytes: old.bytes(),
            latest_expiry: old.latest_expiry,
        };
        log.full.push(Full { file: old.segment.file, closed, successor });
        self.changed.notify_all();
        Ok(())
    }

    fn make(&self, number: u64, needed: u64) -> io::Result<Made> {
        let file = self.disk.create_segment(number)?;
        Made::make(&self.common, number, file, needed, Before::Unsynced)
    }

    /// The keeper's work, until the journal is closed or has failed.
    pub(super) fn keep(&self) {
        let mut retry = false;
        let mut log = lock(&self.log);
        while !self.common.is(FAILED) {
            if !log.full.is_empty() {
                let full = log.full.remove(0);
                drop(log);
                self.close_segment(full);
                log = lock(&self.log);
            } else if log.over {
                drop(log);
                self.finish();
                return;
            } else if retry {
                retry = false;
                log = self.changed.wait_timeout(log, FULL_RETRY).unwrap_or_else(PoisonError::into_inner).0;
            } else if matches!(log.next, Next::Wanted) {
                log.next = Next::InWork;
                let (number, needed) = (log.active.segment.number + 1, needed(log.tenants.len()));
                drop(log);
                let made = self.make(number, needed);
                log = lock(&self.log);
                log.next = match made {
                    Ok(made) => {
                        self.common.healed();
                        Next::Ready(made)
                    }
                    Err(error) if is_full(&error) => {
                        // Claims are refused only when there is no room left at all.
                        retry = true;
                        Next::Wanted
                    }
                    Err(error) => {
                        self.common.fail("begin a segment of", &error);
                        Next::NotWanted
                    }
                };
                self.changed.notify_all();
            } else {
                log = self.changed.wait(log).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn close_segment(&self, full: Full) {
        if let Err(error) = full.file.sync() {
            return self.common.fail("sync", &error);
        }
        give_back(&*full.file, full.closed.bytes);
        let next = full.closed.number + 1;
        lock(&self.common.closed).push(full.closed);
        if let Err(error) = full.successor.write_at(&header(FileKind::Segment, next), 0) {
            self.common.fail("write", &error);
        }
    }

    /// Takes nothing more. What is stored is synced by the keeper, which then ends.
    pub(super) fn close(&self) {
        lock(&self.log).over = true;
        self.changed.notify_all();
    }

    fn finish(&self) {
        let log = lock(&self.log);
        if let Err(error) = log.active.segment.file.sync() {
            return self.common.fail("sync", &error);
        }
        if let Next::Ready(made) = &log.next
            && let Err(error) = self.disk.remove_segment(made.number)
        {
            tracing::warn!(%error, "an unused segment of the claim journal could not be deleted");
        }
        // Still mapped, but `over`: nothing is stored any more.
        give_back(&*log.active.segment.file, log.active.bytes());
    }
}

/// Unused room is found and given back at the next start if it cannot be now.
fn give_back(file: &dyn SegmentFile, length: u64) {
    if let Err(error) = file.cut(length) {
        tracing::warn!(%error, "a segment of the claim journal could not be shortened");
    }
}
