//! The running journal: a queue, one thread that commits it, one that syncs (durability `os`), one that tidies.
//!
//! A committed batch wakes all who wait for it at once: they share one small object a batch, not one channel a claim.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use claim::{DeviceId, TenantId, Timestamp};
use tokio::sync::Notify;

use super::compaction::compact;
use super::record::{FileKind, HEADER_BYTES, PUT_BYTES, Put, Record, header};
use super::replay::ClosedFile;
use super::{Disk, Folder, JournalError, SegmentFile};
use crate::config::Durability;
use crate::memory::REMEMBERED;

/// What the writer must know of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JournalOptions {
    /// `Os` or `Fsync`.
    pub(crate) durability: Durability,
    pub(crate) segment_bytes: u64,
    pub(crate) queue_bytes: usize,
    pub(crate) sync_interval: Duration,
}

/// Records that are committed together.
#[derive(Default)]
struct Batch {
    /// Undecided (0), [`COMMITTED`] or [`LOST`].
    state: AtomicU8,
    decided: Notify,
}

const COMMITTED: u8 = 1;
const LOST: u8 = 2;

impl Batch {
    fn decide(&self, committed: bool) {
        self.state.store(if committed { COMMITTED } else { LOST }, Ordering::Release);
        self.decided.notify_waiters();
    }
}

/// A wait for a record's commit.
#[derive(Clone)]
pub(crate) struct Ticket(Arc<Batch>);

impl Ticket {
    /// Resolves when the record is as durable as configured (true) or will not be (false).
    pub(crate) async fn committed(&self) -> bool {
        loop {
            // Made before the look, so that a decision in between is not missed.
            let decided = self.0.decided.notified();
            match self.0.state.load(Ordering::Acquire) {
                COMMITTED => return true,
                LOST => return false,
                _ => decided.await,
            }
        }
    }

    /// Whether two records are committed together.
    pub(crate) fn same(&self, other: &Ticket) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

struct Queue {
    bytes: Vec<u8>,
    batch: Arc<Batch>,
    latest_expiry: Option<Timestamp>,
    /// Every tenant explained so far; a new segment begins with all of them.
    tenants: Vec<TenantId>,
    /// The writer sleeps.
    idle: bool,
    /// Nothing is taken any more.
    over: bool,
}

/// Healthy: everything is taken.
const HEALTHY: u8 = 0;
/// The disk is full: claims are refused, the writer keeps trying.
const FULL: u8 = 1;
/// A write or sync failed: what is on disk is uncertain until a restart has read it.
const FAILED: u8 = 2;

struct Shared {
    queue: Mutex<Queue>,
    queued: Condvar,
    queued_bytes: AtomicUsize,
    state: AtomicU8,
    options: JournalOptions,
    /// Closed files, oldest first; the active segment has the number after the last segment here.
    closed: Mutex<Vec<ClosedFile>>,
    active_bytes: AtomicU64,
    active: Mutex<Arc<dyn SegmentFile>>,
    unsynced: AtomicBool,
    stopping: AtomicBool,
    stop: Condvar,
    stop_lock: Mutex<()>,
}

/// A running journal.
pub(crate) struct Journal {
    shared: Arc<Shared>,
    tidy: Mutex<Option<SyncSender<(Timestamp, u64)>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What replay left and the journal goes on from.
pub(crate) struct Start {
    pub(crate) files: Vec<ClosedFile>,
    pub(crate) next_number: u64,
    pub(crate) tenants: Vec<TenantId>,
}

impl Journal {
    /// Begins a new segment and starts the threads. `current` says whether a recorded claim is still its device's.
    pub(crate) fn start(
        folder: &Arc<Folder>,
        disk: Arc<dyn Disk>,
        options: JournalOptions,
        start: Start,
        current: impl Fn(DeviceId, u64) -> bool + Send + 'static,
    ) -> Result<Self, JournalError> {
        let path = folder.file(FileKind::Segment, start.next_number);
        let failed = |source| JournalError::Io { path, action: "begin", source };
        let segment = Segment::begin(&*disk, start.next_number, &start.tenants).map_err(failed)?;
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                bytes: Vec::with_capacity(64 * 1024),
                batch: Arc::default(),
                latest_expiry: None,
                tenants: start.tenants,
                idle: false,
                over: false,
            }),
            queued: Condvar::new(),
            queued_bytes: AtomicUsize::new(0),
            state: AtomicU8::new(HEALTHY),
            options,
            closed: Mutex::new(start.files),
            active_bytes: AtomicU64::new(segment.bytes),
            active: Mutex::new(Arc::clone(&segment.file)),
            unsynced: AtomicBool::new(true),
            stopping: AtomicBool::new(false),
            stop: Condvar::new(),
            stop_lock: Mutex::default(),
        });
        let (tidy, requests) = mpsc::sync_channel(1);
        let mut writer = Writer { shared: Arc::clone(&shared), disk, segment, spare: Vec::new() };
        let tidier = Tidier { shared: Arc::clone(&shared), folder: Arc::clone(folder), current };
        let syncer = Arc::clone(&shared);
        let mut threads = Vec::new();
        let mut spawn = |name: &str, run: Box<dyn FnOnce() + Send>| -> Result<(), JournalError> {
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
            threads.push(thread.map_err(|source| JournalError::io(folder.path(), "start a thread for", source))?);
            Ok(())
        };
        spawn("claim-journal", Box::new(move || writer.run()))?;
        spawn("claim-tidy", Box::new(move || tidier.run(&requests)))?;
        if options.durability == Durability::Os {
            spawn("claim-sync", Box::new(move || syncer.sync_at_intervals()))?;
        }
        Ok(Self { shared, tidy: Mutex::new(Some(tidy)), threads: Mutex::new(threads) })
    }

    /// Whether a claim may be taken now: the journal works and its queue has room.
    pub(crate) fn accepts(&self) -> bool {
        self.healthy() && self.shared.queued_bytes.load(Ordering::Relaxed) < self.shared.options.queue_bytes
    }

    /// Whether writes and syncs work.
    pub(crate) fn healthy(&self) -> bool {
        self.shared.state.load(Ordering::Acquire) == HEALTHY
    }

    /// Bytes on disk, without what is queued.
    pub(crate) fn bytes(&self) -> u64 {
        let closed: u64 = lock(&self.shared.closed).iter().map(|file| file.bytes).sum();
        closed + self.shared.active_bytes.load(Ordering::Relaxed)
    }

    /// Queues a claim. Call under the lock of the device's shard.
    pub(crate) fn put(&self, put: Put) -> Ticket {
        self.shared.append(Some(put.expires_at), |bytes| Record::Put(put).write(bytes))
    }

    /// Queues the end of a claim; nobody need wait for it, the registry's fence stands for it if it is lost. Call under
    /// the lock of the device's shard.
    pub(crate) fn gone(&self, device: DeviceId, stamp: u64) {
        // Claims are refused above the bound, ends are not: while nobody commits, they must not pile up.
        if self.shared.queued_bytes.load(Ordering::Relaxed) < self.shared.options.queue_bytes.saturating_mul(2) {
            self.shared.append(None, |bytes| Record::Gone { device, stamp }.write(bytes));
        }
    }

    /// Explains a tenant's number; before the first claim that uses it, and in the order of the numbers.
    pub(crate) fn tenant(&self, index: u32, id: TenantId) {
        lock(&self.shared.queue).tenants.push(id);
        self.shared.append(None, |bytes| Record::Tenant { index, id }.write(bytes));
    }

    /// Lets the tidying thread look at the closed files; `held` is how many claims count. Does not wait.
    pub(crate) fn tidy(&self, now: Timestamp, held: u64) {
        if let Some(tidy) = &*lock(&self.tidy) {
            // One request waiting is enough.
            let _ = tidy.try_send((now, held));
        }
    }

    /// Commits and syncs what is queued and ends the threads. Afterwards nothing is taken. Repeat-safe.
    pub(crate) fn close(&self) {
        lock(&self.shared.queue).over = true;
        self.shared.queued.notify_all();
        {
            let _guard = lock(&self.shared.stop_lock);
            self.shared.stopping.store(true, Ordering::Relaxed);
        }
        self.shared.stop.notify_all();
        drop(lock(&self.tidy).take());
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            if thread.join().is_err() {
                tracing::error!("a thread of the claim journal panicked");
            }
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn append(&self, expires_at: Option<Timestamp>, write: impl FnOnce(&mut Vec<u8>)) -> Ticket {
        let mut queue = lock(&self.queue);
        if queue.over {
            let lost = Batch::default();
            lost.state.store(LOST, Ordering::Release);
            return Ticket(Arc::new(lost));
        }
        write(&mut queue.bytes);
        queue.latest_expiry = queue.latest_expiry.max(expires_at);
        self.queued_bytes.store(queue.bytes.len(), Ordering::Relaxed);
        let ticket = Ticket(Arc::clone(&queue.batch));
        if std::mem::replace(&mut queue.idle, false) {
            drop(queue);
            self.queued.notify_one();
        }
        ticket
    }

    fn fail(&self, action: &'static str, error: &io::Error) {
        if self.state.swap(FAILED, Ordering::AcqRel) != FAILED {
            tracing::error!(action, %error, "the claim journal failed; no claim is taken until a restart");
        }
    }

    fn sync_at_intervals(&self) {
        let mut guard = lock(&self.stop_lock);
        while !self.stopping.load(Ordering::Relaxed) {
            guard = self.stop.wait_timeout(guard, self.options.sync_interval).unwrap_or_else(PoisonError::into_inner).0;
            if self.unsynced.swap(false, Ordering::AcqRel) {
                let active = Arc::clone(&lock(&self.active));
                if let Err(error) = active.sync() {
                    self.fail("sync", &error);
                    return;
                }
            }
        }
    }
}

/// The segment being written.
struct Segment {
    number: u64,
    file: Arc<dyn SegmentFile>,
    bytes: u64,
    latest_expiry: Option<Timestamp>,
}

impl Segment {
    fn begin(disk: &dyn Disk, number: u64, tenants: &[TenantId]) -> io::Result<Self> {
        let file = disk.create_segment(number)?;
        let mut bytes = header(FileKind::Segment, number).to_vec();
        debug_assert_eq!(bytes.len(), HEADER_BYTES);
        for (index, &id) in (0u32..).zip(tenants) {
            Record::Tenant { index, id }.write(&mut bytes);
        }
        file.write_at(&bytes, 0)?;
        Ok(Self { number, file, bytes: bytes.len() as u64, latest_expiry: None })
    }
}

struct Writer {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    segment: Segment,
    /// An emptied buffer, to be filled again.
    spare: Vec<u8>,
}

/// How long a full disk is left alone before the next try.
const FULL_RETRY: Duration = Duration::from_millis(200);
/// Buffers that grew beyond this are not kept.
const SPARE_BYTES: usize = 4 * 1024 * 1024;

struct Taken {
    bytes: Vec<u8>,
    batch: Arc<Batch>,
    latest_expiry: Option<Timestamp>,
    last: bool,
}

impl Writer {
    fn run(&mut self) {
        // What a full disk did not take. Those who waited were told so; it is written first once there is room, so that
        // the order of the records is kept.
        let mut unwritten: Vec<u8> = Vec::new();
        let mut unwritten_expiry = None;
        loop {
            let Taken { bytes, batch, latest_expiry, last } = self.take((!unwritten.is_empty()).then_some(FULL_RETRY));
            let bytes = if unwritten.is_empty() {
                bytes
            } else {
                unwritten.extend_from_slice(&bytes);
                std::mem::take(&mut unwritten)
            };
            let latest_expiry = latest_expiry.max(unwritten_expiry.take());
            match self.commit(&bytes, latest_expiry, last) {
                Ok(()) => {
                    let _ = self.shared.state.compare_exchange(FULL, HEALTHY, Ordering::AcqRel, Ordering::Acquire);
                    batch.decide(self.shared.state.load(Ordering::Acquire) == HEALTHY);
                    if bytes.capacity() <= SPARE_BYTES {
                        self.spare = bytes;
                        self.spare.clear();
                    }
                }
                Err((action, error)) if !(action == "write" && is_full(&error)) => {
                    self.shared.fail(action, &error);
                    batch.decide(false);
                }
                Err((_, error)) => {
                    let before = self.shared.state.compare_exchange(HEALTHY, FULL, Ordering::AcqRel, Ordering::Acquire);
                    if before.is_ok() {
                        tracing::error!(%error, "the disk of the claim journal is full; claims are refused");
                    }
                    batch.decide(false);
                    (unwritten, unwritten_expiry) = (bytes, latest_expiry);
                }
            }
            if last || self.shared.state.load(Ordering::Acquire) == FAILED {
                self.shut();
                return;
            }
        }
    }

    /// Waits for records (at most `most` when something is left to retry) and takes them all.
    fn take(&mut self, most: Option<Duration>) -> Taken {
        let mut queue = lock(&self.shared.queue);
        if let Some(most) = most {
            if !queue.over {
                queue.idle = false;
                queue = self.shared.queued.wait_timeout(queue, most).unwrap_or_else(PoisonError::into_inner).0;
            }
        } else {
            if queue.bytes.is_empty() && !queue.over {
                while queue.bytes.is_empty() && !queue.over {
                    queue.idle = true;
                    queue = self.shared.queued.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
                // Woken by the first of a burst: where cores are few, whoever has more to queue goes first. One write for
                // many claims instead of one each.
                queue.idle = false;
                drop(queue);
                std::thread::yield_now();
                queue = lock(&self.shared.queue);
            }
            queue.idle = false;
        }
        let bytes = std::mem::replace(&mut queue.bytes, std::mem::take(&mut self.spare));
        let batch = std::mem::take(&mut queue.batch);
        self.shared.queued_bytes.store(0, Ordering::Relaxed);
        Taken { bytes, batch, latest_expiry: queue.latest_expiry.take(), last: queue.over }
    }

    /// Makes the bytes as durable as configured; with `sync`, durable against power loss in any case.
    fn commit(
        &mut self,
        bytes: &[u8],
        latest_expiry: Option<Timestamp>,
        sync: bool,
    ) -> Result<(), (&'static str, io::Error)> {
        if self.segment.bytes >= self.shared.options.segment_bytes {
            self.rotate()?;
        }
        if !bytes.is_empty() {
            self.segment.file.write_at(bytes, self.segment.bytes).map_err(|error| ("write", error))?;
        }
        if sync || self.shared.options.durability == Durability::Fsync {
            self.segment.file.sync().map_err(|error| ("sync", error))?;
        } else {
            self.shared.unsynced.store(true, Ordering::Release);
        }
        self.segment.bytes += bytes.len() as u64;
        self.segment.latest_expiry = self.segment.latest_expiry.max(latest_expiry);
        self.shared.active_bytes.store(self.segment.bytes, Ordering::Relaxed);
        Ok(())
    }

    fn rotate(&mut self) -> Result<(), (&'static str, io::Error)> {
        // Synced before there is a newer one: a torn end is accepted in the newest only.
        self.segment.file.sync().map_err(|error| ("sync", error))?;
        let tenants = lock(&self.shared.queue).tenants.clone();
        let next = Segment::begin(&*self.disk, self.segment.number + 1, &tenants).map_err(|error| ("write", error))?;
        *lock(&self.shared.active) = Arc::clone(&next.file);
        let old = std::mem::replace(&mut self.segment, next);
        let mut closed = lock(&self.shared.closed);
        closed.push(ClosedFile {
            kind: FileKind::Segment,
            number: old.number,
            bytes: old.bytes,
            latest_expiry: old.latest_expiry,
        });
        self.shared.active_bytes.store(self.segment.bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Takes nothing more; whoever still waits learns that it was not committed.
    fn shut(&self) {
        let mut queue = lock(&self.shared.queue);
        queue.over = true;
        queue.bytes = Vec::new();
        std::mem::take(&mut queue.batch).decide(false);
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
        || error.raw_os_error() == Some(libc::ENOSPC)
}

/// Deletes and rewrites closed files.
struct Tidier<F> {
    shared: Arc<Shared>,
    folder: Arc<Folder>,
    current: F,
}

impl<F: Fn(DeviceId, u64) -> bool> Tidier<F> {
    fn run(&self, requests: &mpsc::Receiver<(Timestamp, u64)>) {
        while let Ok((now, held)) = requests.recv() {
            if let Err(error) = self.tidy(now, held) {
                tracing::warn!(%error, "the claim journal could not be tidied; it is tried again");
            }
        }
    }

    fn tidy(&self, now: Timestamp, held: u64) -> Result<(), JournalError> {
        let over = |file: &ClosedFile| file.latest_expiry.is_none_or(|latest| latest.plus(REMEMBERED) <= now);
        loop {
            let Some(file) = lock(&self.shared.closed).first().filter(|file| over(file)).cloned() else {
                break;
            };
            self.delete(&file)?;
            lock(&self.shared.closed).remove(0);
        }
        let files = lock(&self.shared.closed).clone();
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        let needed = held.saturating_mul(PUT_BYTES as u64);
        if bytes <= needed.saturating_mul(2).max(self.shared.options.segment_bytes.saturating_mul(4)) {
            return Ok(());
        }
        let keep = |put: &Put| put.expires_at.plus(REMEMBERED) > now && (self.current)(put.device, put.stamp);
        let Some(snapshot) = compact(&self.folder, &files, &keep, &self.shared.stopping)? else {
            return Ok(());
        };
        lock(&self.shared.closed).splice(..files.len(), [snapshot]);
        files.iter().try_for_each(|file| self.delete(file))
    }

    fn delete(&self, file: &ClosedFile) -> Result<(), JournalError> {
        let path = self.folder.file(file.kind, file.number);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(JournalError::io(&path, "delete", error)),
            _ => Ok(()),
        }
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
