//! The running journal: how records are committed depends on the durability, what becomes of closed files does not.
//!
//! With durability `os` a record is stored in a mapped part of the newest segment ([`mapped`](super::mapped)) and committed
//! at once; with `fsync`, and where the file system maps no files, one thread writes what queued meanwhile
//! ([`grouped`](super::grouped)). One more thread syncs (`os`), one tidies.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use claim::{DeviceId, TenantId, Timestamp};

use super::grouped::{Batch, Grouped};
use super::mapped::Mapped;
use super::record::{FileKind, Put, Record};
use super::replay::ClosedFile;
use super::tidier::Tidier;
use super::{Disk, Folder, JournalError, SegmentFile};
use crate::config::Durability;

/// What the journal must know of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JournalOptions {
    /// `Os` or `Fsync`.
    pub(crate) durability: Durability,
    pub(crate) segment_bytes: u64,
    pub(crate) queue_bytes: usize,
    pub(crate) sync_interval: Duration,
}

/// What replay left and the journal goes on from.
pub(crate) struct Start {
    pub(crate) files: Vec<ClosedFile>,
    pub(crate) next_number: u64,
    pub(crate) tenants: Vec<TenantId>,
}

/// Healthy: everything is taken.
pub(super) const HEALTHY: u8 = 0;
/// The disk is full: claims are refused, room is looked for again and again.
pub(super) const FULL: u8 = 1;
/// A write or sync failed: what is on disk is uncertain until a restart has read it.
pub(super) const FAILED: u8 = 2;

/// How long a full disk is left alone before the next try.
pub(super) const FULL_RETRY: Duration = Duration::from_millis(200);

/// What all threads of a journal share.
pub(super) struct Common {
    pub(super) options: JournalOptions,
    pub(super) state: AtomicU8,
    /// Closed files, oldest first; every other segment has a higher number.
    pub(super) closed: Mutex<Vec<ClosedFile>>,
    pub(super) active_bytes: AtomicU64,
    pub(super) active: Mutex<Arc<dyn SegmentFile>>,
    pub(super) unsynced: AtomicBool,
    pub(super) stopping: AtomicBool,
    stop: Condvar,
    stop_lock: Mutex<()>,
}

impl Common {
    /// Nothing is acknowledged any more until a restart.
    pub(super) fn fail(&self, action: &'static str, error: &io::Error) {
        if self.state.swap(FAILED, Ordering::AcqRel) != FAILED {
            tracing::error!(action, %error, "the claim journal failed; no claim is taken until a restart");
        }
    }

    /// Claims are refused until there is room.
    pub(super) fn full(&self, error: &io::Error) {
        if self.state.compare_exchange(HEALTHY, FULL, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            tracing::error!(%error, "the disk of the claim journal is full; claims are refused");
        }
    }

    /// There is room again.
    pub(super) fn healed(&self) {
        let _ = self.state.compare_exchange(FULL, HEALTHY, Ordering::AcqRel, Ordering::Acquire);
    }

    pub(super) fn is(&self, state: u8) -> bool {
        self.state.load(Ordering::Acquire) == state
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

/// A record's commit.
#[derive(Clone)]
pub(crate) enum Ticket {
    /// It is decided: as durable as configured (true), or it will not be.
    Decided(bool),
    /// It is decided with others.
    Queued(Arc<Batch>),
}

impl Ticket {
    /// Resolves when the record is as durable as configured (true) or will not be (false).
    pub(crate) async fn committed(&self) -> bool {
        match self {
            Self::Decided(committed) => *committed,
            Self::Queued(batch) => batch.decided().await,
        }
    }

    /// Whether two records are committed together.
    pub(crate) fn same(&self, other: &Ticket) -> bool {
        match (self, other) {
            (Self::Queued(one), Self::Queued(other)) => Arc::ptr_eq(one, other),
            (Self::Decided(one), Self::Decided(other)) => one == other,
            _ => false,
        }
    }
}

enum Log {
    Mapped(Arc<Mapped>),
    Grouped(Arc<Grouped>),
}

/// A running journal.
pub(crate) struct Journal {
    common: Arc<Common>,
    log: Log,
    tidy: Mutex<Option<SyncSender<(Timestamp, u64)>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
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
        let begin = |source| JournalError::Io { path: path.clone(), action: "begin", source };
        let first = disk.create_segment(start.next_number).map_err(begin)?;
        let common = Arc::new(Common {
            options,
            state: AtomicU8::new(HEALTHY),
            closed: Mutex::new(start.files),
            active_bytes: AtomicU64::new(0),
            active: Mutex::new(Arc::clone(&first)),
            unsynced: AtomicBool::new(true),
            stopping: AtomicBool::new(false),
            stop: Condvar::new(),
            stop_lock: Mutex::default(),
        });
        let mut threads = Vec::new();
        let mut spawn = |name: &str, run: Box<dyn FnOnce() + Send>| -> Result<(), JournalError> {
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
            threads.push(thread.map_err(|source| JournalError::io(folder.path(), "start a thread for", source))?);
            Ok(())
        };
        let mapped = options.durability == Durability::Os && Mapped::works_on(&*first).map_err(begin)?;
        let log = if mapped {
            let log = Mapped::begin(&common, disk, start.next_number, first, start.tenants).map_err(begin)?;
            let keeper = Arc::clone(&log);
            spawn("claim-journal", Box::new(move || keeper.keep()))?;
            Log::Mapped(log)
        } else {
            let (log, mut writer) =
                Grouped::begin(&common, disk, start.next_number, first, start.tenants).map_err(begin)?;
            spawn("claim-journal", Box::new(move || writer.run()))?;
            Log::Grouped(log)
        };
        let (tidy, requests) = mpsc::sync_channel(1);
        let tidier = Tidier { common: Arc::clone(&common), folder: Arc::clone(folder), current };
        spawn("claim-tidy", Box::new(move || tidier.run(&requests)))?;
        if options.durability == Durability::Os {
            let syncer = Arc::clone(&common);
            spawn("claim-sync", Box::new(move || syncer.sync_at_intervals()))?;
        }
        Ok(Self { common, log, tidy: Mutex::new(Some(tidy)), threads: Mutex::new(threads) })
    }

    /// Whether a claim may be taken now: the journal works and its queue has room.
    pub(crate) fn accepts(&self) -> bool {
        self.healthy() && !matches!(&self.log, Log::Grouped(log) if log.is_full(1))
    }

    /// Whether writes and syncs work.
    pub(crate) fn healthy(&self) -> bool {
        self.common.is(HEALTHY)
    }

    /// Bytes on disk, without what is queued or reserved.
    pub(crate) fn bytes(&self) -> u64 {
        let closed: u64 = lock(&self.common.closed).iter().map(|file| file.bytes).sum();
        closed + self.common.active_bytes.load(Ordering::Relaxed)
    }

    /// Records a claim. Call under the lock of the device's shard.
    pub(crate) fn put(&self, put: Put) -> Ticket {
        self.append(Some(put.expires_at), &Record::Put(put))
    }

    /// Records the end of a claim; nobody need wait for it, the registry's fence stands for it if it is lost. Call under
    /// the lock of the device's shard.
    pub(crate) fn gone(&self, device: DeviceId, stamp: u64) {
        // Claims are refused above the bound, ends are not: while nobody commits, they must not pile up.
        if !matches!(&self.log, Log::Grouped(log) if log.is_full(2)) {
            self.append(None, &Record::Gone { device, stamp });
        }
    }

    /// Explains a tenant's number; before the first claim that uses it, and in the order of the numbers.
    pub(crate) fn tenant(&self, index: u32, id: TenantId) {
        match &self.log {
            Log::Mapped(log) => log.tenant(index, id),
            Log::Grouped(log) => log.tenant(index, id),
        }
    }

    fn append(&self, expires_at: Option<Timestamp>, record: &Record) -> Ticket {
        match &self.log {
            Log::Mapped(log) => Ticket::Decided(log.append(expires_at, record)),
            Log::Grouped(log) => log.append(expires_at, record),
        }
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
        match &self.log {
            Log::Mapped(log) => log.close(),
            Log::Grouped(log) => log.close(),
        }
        {
            let _guard = lock(&self.common.stop_lock);
            self.common.stopping.store(true, Ordering::Relaxed);
        }
        self.common.stop.notify_all();
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

/// Whether an error says that there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
