//! Records queue, and one thread commits whatever queued while it wrote last.
//!
//! A committed batch wakes all who wait for it at once: they share one small object a batch, not one channel a claim.

use std::io;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use claim::{TenantId, Timestamp};
use tokio::sync::Notify;

use super::record::{FileKind, Record, header};
use super::replay::ClosedFile;
use super::running::{Common, FAILED, FULL_RETRY, HEALTHY, Ticket, is_full, lock};
use super::{Disk, SegmentFile};
use crate::config::Durability;

/// Records that are committed together.
#[derive(Default)]
pub(crate) struct Batch {
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

    /// Resolves when the batch is committed (true) or lost.
    pub(super) async fn decided(&self) -> bool {
        loop {
            // Made before the look, so that a decision in between is not missed.
            let decided = self.decided.notified();
            match self.state.load(Ordering::Acquire) {
                COMMITTED => return true,
                LOST => return false,
                _ => decided.await,
            }
        }
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

/// The queue, as those who record see it.
pub(super) struct Grouped {
    common: Arc<Common>,
    queue: Mutex<Queue>,
    queued: Condvar,
    pub(super) queued_bytes: AtomicUsize,
}

impl Grouped {
    /// A queue and the writer that empties it into `file`.
    pub(super) fn begin(
        common: &Arc<Common>,
        disk: Arc<dyn Disk>,
        number: u64,
        file: Arc<dyn SegmentFile>,
        tenants: Vec<TenantId>,
    ) -> io::Result<(Arc<Self>, Writer)> {
        let segment = Segment::begin(number, file, &tenants)?;
        common.active_bytes.store(segment.bytes, Ordering::Relaxed);
        let log = Arc::new(Self {
            common: Arc::clone(common),
            queue: Mutex::new(Queue {
                bytes: Vec::with_capacity(64 * 1024),
                batch: Arc::default(),
                latest_expiry: None,
                tenants,
                idle: false,
                over: false,
            }),
            queued: Condvar::new(),
            queued_bytes: AtomicUsize::new(0),
        });
        let writer = Writer { common: Arc::clone(common), log: Arc::clone(&log), disk, segment, spare: Vec::new() };
        Ok((log, writer))
    }

    /// Whether so many times the bound is queued.
    pub(super) fn is_full(&self, times: usize) -> bool {
        let most = self.common.options.queue_bytes.saturating_mul(times);
        self.queued_bytes.load(Ordering::Relaxed) >= most
    }

    pub(super) fn tenant(&self, index: u32, id: TenantId) {
        lock(&self.queue).tenants.push(id);
        self.append(None, &Record::Tenant { index, id });
    }

    pub(super) fn append(&self, expires_at: Option<Timestamp>, record: &Record) -> Ticket {
        let record = record.encode();
        let mut queue = lock(&self.queue);
        if queue.over {
            return Ticket::Decided(false);
        }
        queue.bytes.extend_from_slice(record.as_bytes());
        queue.latest_expiry = queue.latest_expiry.max(expires_at);
        self.queued_bytes.store(queue.bytes.len(), Ordering::Relaxed);
        let ticket = Ticket::Queued(Arc::clone(&queue.batch));
        if std::mem::replace(&mut queue.idle, false) {
            drop(queue);
            self.queued.notify_one();
        }
        ticket
    }

    /// Takes nothing more; the writer commits what is queued and ends.
    pub(super) fn close(&self) {
        lock(&self.queue).over = true;
        self.queued.notify_all();
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
    fn begin(number: u64, file: Arc<dyn SegmentFile>, tenants: &[TenantId]) -> io::Result<Self> {
        let mut bytes = header(FileKind::Segment, number).to_vec();
        for (index, &id) in (0u32..).zip(tenants) {
            Record::Tenant { index, id }.write(&mut bytes);
        }
        file.write_at(&bytes, 0)?;
        Ok(Self { number, file, bytes: bytes.len() as u64, latest_expiry: None })
    }
}

/// The thread that commits.
pub(super) struct Writer {
    common: Arc<Common>,
    log: Arc<Grouped>,
    disk: Arc<dyn Disk>,
    segment: Segment,
    /// An emptied buffer, to be filled again.
    spare: Vec<u8>,
}

/// Buffers that grew beyond this are not kept.
const SPARE_BYTES: usize = 4 * 1024 * 1024;

struct Taken {
    bytes: Vec<u8>,
    batch: Arc<Batch>,
    latest_expiry: Option<Timestamp>,
    last: bool,
}

impl Writer {
    /// Commits until the journal is closed or has failed.
    pub(super) fn run(&mut self) {
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
                    self.common.healed();
                    batch.decide(self.common.is(HEALTHY));
                    if bytes.capacity() <= SPARE_BYTES {
                        self.spare = bytes;
                        self.spare.clear();
                    }
                }
                Err((action, error)) if !(action == "write" && is_full(&error)) => {
                    self.common.fail(action, &error);
                    batch.decide(false);
                }
                Err((_, error)) => {
                    self.common.full(&error);
                    batch.decide(false);
                    (unwritten, unwritten_expiry) = (bytes, latest_expiry);
                }
            }
            if last || self.common.is(FAILED) {
                self.shut();
                return;
            }
        }
    }

    /// Waits for records (at most `most` when something is left to retry) and takes them all.
    fn take(&mut self, most: Option<Duration>) -> Taken {
        let log = &self.log;
        let mut queue = lock(&log.queue);
        if let Some(most) = most {
            if !queue.over {
                queue.idle = false;
                queue = log.queued.wait_timeout(queue, most).unwrap_or_else(PoisonError::into_inner).0;
            }
        } else {
            if queue.bytes.is_empty() && !queue.over {
                while queue.bytes.is_empty() && !queue.over {
                    queue.idle = true;
                    queue = log.queued.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
                // Woken by the first of a burst: where cores are few, whoever has more to queue goes first. One write for
                // many claims instead of one each.
                queue.idle = false;
                drop(queue);
                std::thread::yield_now();
                queue = lock(&log.queue);
            }
            queue.idle = false;
        }
        let bytes = std::mem::replace(&mut queue.bytes, std::mem::take(&mut self.spare));
        let batch = std::mem::take(&mut queue.batch);
        log.queued_bytes.store(0, Ordering::Relaxed);
        Taken { bytes, batch, latest_expiry: queue.latest_expiry.take(), last: queue.over }
    }

    /// Makes the bytes as durable as configured; with `sync`, durable against power loss in any case.
    fn commit(
        &mut self,
        bytes: &[u8],
        latest_expiry: Option<Timestamp>,
        sync: bool,
    ) -> Result<(), (&'static str, io::Error)> {
        if self.segment.bytes >= self.common.options.segment_bytes {
            self.rotate()?;
        }
        if !bytes.is_empty() {
            self.segment.file.write_at(bytes, self.segment.bytes).map_err(|error| ("write", error))?;
        }
        if sync || self.common.options.durability == Durability::Fsync {
            self.segment.file.sync().map_err(|error| ("sync", error))?;
        } else {
            self.common.unsynced.store(true, Ordering::Release);
        }
        self.segment.bytes += bytes.len() as u64;
        self.segment.latest_expiry = self.segment.latest_expiry.max(latest_expiry);
        self.common.active_bytes.store(self.segment.bytes, Ordering::Relaxed);
        Ok(())
    }

    fn rotate(&mut self) -> Result<(), (&'static str, io::Error)> {
        // Synced before there is a newer one, whose header says so.
        self.segment.file.sync().map_err(|error| ("sync", error))?;
        let tenants = lock(&self.log.queue).tenants.clone();
        let number = self.segment.number + 1;
        let next = self.disk.create_segment(number).and_then(|file| Segment::begin(number, file, &tenants));
        let next = next.map_err(|error| ("write", error))?;
        *lock(&self.common.active) = Arc::clone(&next.file);
        let old = std::mem::replace(&mut self.segment, next);
        let mut closed = lock(&self.common.closed);
        closed.push(ClosedFile {
            kind: FileKind::Segment,
            number: old.number,
            bytes: old.bytes,
            latest_expiry: old.latest_expiry,
        });
        self.common.active_bytes.store(self.segment.bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Takes nothing more; whoever still waits learns that it was not committed.
    fn shut(&self) {
        let mut queue = lock(&self.log.queue);
        queue.over = true;
        queue.bytes = Vec::new();
        std::mem::take(&mut queue.batch).decide(false);
    }
}
