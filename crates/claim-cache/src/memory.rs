//! The claim cache of a single node.
//!
//! A put changes the map and records it in the journal under one shard lock; if the journal has to be waited for, that is
//! done outside of any lock. A claim is visible before it is durable, which is harmless: nobody has been told yet. What
//! ends is found by the [`Sweeper`]; readers look at the expiry themselves.

mod entry;
mod listing;
pub(crate) mod pack;
mod ring;
mod sweep;
mod table;
mod tenants;
#[cfg(test)]
mod tests;
mod uneven;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use claim::ports::{ClaimCache, PendingClaim, PortFuture, RecordError, Recorded, Sighting, Unavailable};
use claim::{DeviceId, TenantId, Timestamp};

use crate::config::{Config, Durability};
use crate::journal::{
    Disk, FOLDER, Folder, Journal, JournalError, JournalOptions, Put, Replayed, Restore, SnapshotWriter, Start, Ticket,
    replay,
};
use entry::Entry;
use table::{PutError, Table};

pub use sweep::Sweeper;
pub(crate) use table::REMEMBERED;

/// Why the cache could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The configuration cannot be; the text names the key.
    Config(String),
    /// The journal cannot be read or written.
    Journal(JournalError),
    /// The shared store cannot be used; the text names the key and holds no password.
    Store(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(text) | Self::Store(text) => f.write_str(text),
            Self::Journal(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(_) | Self::Store(_) => None,
            Self::Journal(error) => Some(error),
        }
    }
}

impl From<JournalError> for OpenError {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

/// The cache in figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stats {
    /// Claims that are pending, as far as the sweeper has looked (it may be 17 s behind).
    pub pending: u64,
    /// Most claims that may be held, pending and remembered.
    pub limit: u64,
    /// Ended claims that are still remembered.
    pub remembered: u64,
    /// Pending claims of the tenant that has most, as a part of what a tenant may have.
    pub fullest_tenant_ratio: f64,
    /// Claims that ended unclaimed, since the start.
    pub expired_total: u64,
    /// Bytes of the journal on disk; 0 without one.
    pub journal_bytes: u64,
}

/// See the module's head.
pub struct MemoryClaimCache {
    table: Arc<Table>,
    folder: Arc<Folder>,
    journal: Option<Journal>,
    closed: AtomicBool,
    next_number: u64,
}

/// How often room is made for one claim by forgetting an ended one, before the cache counts as full after all.
const ROOM_TRIES: usize = 8;

impl MemoryClaimCache {
    /// Opens the cache with what its journal in `data_dir` holds.
    ///
    /// `lifetime_max` is the longest lifetime a claim can be given (`claim.lifetime_max`): no restored claim ends later
    /// than that from now, whatever clock once wrote it. Start a [`Sweeper`] afterwards, [`MemoryClaimCache::close`] at the
    /// end.
    pub fn open(
        config: &Config,
        data_dir: &Path,
        lifetime_max: Duration,
        now: Timestamp,
    ) -> Result<Arc<Self>, OpenError> {
        let folder = Arc::new(Folder::open(&data_dir.join(FOLDER))?);
        let disk: Arc<dyn Disk> = folder.clone();
        Self::open_on(config, folder, disk, lifetime_max, now)
    }

    fn open_on(
        config: &Config,
        folder: Arc<Folder>,
        disk: Arc<dyn Disk>,
        lifetime_max: Duration,
        now: Timestamp,
    ) -> Result<Arc<Self>, OpenError> {
        check(config)?;
        let table = Arc::new(Table::new(config.max_pending(), config.max_pending_per_tenant, 0));
        let found = replay(&folder, &mut Restorer(&table))?;
        if found.torn_bytes > 0 {
            tracing::warn!(bytes = found.torn_bytes, "cut a torn end off the claim journal");
        }
        // Above every stamp of this journal, and by the clock above those of files that are gone: 10^6 a second are used
        // only at a million claims a second.
        let by_clock = u64::try_from(now.as_millis()).unwrap_or(0).saturating_mul(1000);
        let first_stamp = found.highest_stamp.map_or(0, |highest| highest + 1).max(by_clock);
        table.settle(now, now.plus(lifetime_max), first_stamp);
        let next_number = found.next_number;
        let journal = match config.durability {
            Durability::None => {
                discard(&folder, &found)?;
                None
            }
            Durability::Os | Durability::Fsync => {
                let options = JournalOptions {
                    durability: config.durability,
                    segment_bytes: config.journal_segment_bytes,
                    queue_bytes: config.journal_queue_bytes,
                    sync_interval: config.journal_sync_interval,
                };
                let start = Start { files: found.files, next_number, tenants: table.tenants.ids() };
                let current = {
                    let table = Arc::clone(&table);
                    move |device, stamp| table.is_current(device, stamp)
                };
                Some(Journal::start(&folder, disk, options, start, current)?)
            }
        };
        tracing::info!(records = found.records, pending = table.pending(), "opened the claim cache");
        Ok(Arc::new(Self { table, folder, journal, closed: AtomicBool::new(false), next_number }))
    }

    /// Saves what is pending and ends the journal; nothing is recorded afterwards. Blocks on the disk. Repeat-safe.
    ///
    /// Stop the [`Sweeper`] and the listeners first.
    pub fn close(&self) -> Result<(), JournalError> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        if let Some(journal) = &self.journal {
            journal.close();
            return Ok(());
        }
        let mut snapshot = SnapshotWriter::begin(&self.folder, self.next_number)?;
        let mut failed = None;
        self.table.each(|device, entry| {
            if failed.is_none() {
                let claim = entry.claim(device, self.table.tenants.id(entry.tenant()));
                failed = snapshot.add(claim.tenant, put_of(device, entry)).err();
            }
        });
        match failed {
            Some(error) => Err(error),
            None => snapshot.finish().map(drop),
        }
    }

    /// Whether claims can be recorded: the journal works and the cache is open.
    pub fn healthy(&self) -> bool {
        !self.closed.load(Ordering::Acquire) && self.journal.as_ref().is_none_or(Journal::healthy)
    }

    /// The cache in figures. Cheap enough for every scrape.
    pub fn stats(&self) -> Stats {
        let (held, pending) = (self.table.held(), self.table.pending());
        Stats {
            pending,
            limit: self.table.limit(),
            remembered: held.saturating_sub(pending),
            fullest_tenant_ratio: self.table.tenants.fullest() as f64 / self.table.limit_per_tenant().max(1) as f64,
            expired_total: self.table.expired(),
            journal_bytes: self.journal.as_ref().map_or(0, Journal::bytes),
        }
    }

    /// Looks at what is due and at the journal's old files; what the [`Sweeper`] does each second. At most `budget` keys,
    /// 256 of them between two pauses, one at a time under its shard's lock. `on_expired` runs outside of every lock, once
    /// for each claim that has ended unclaimed. Returns how many keys were looked at.
    pub fn sweep(&self, now: Timestamp, budget: usize, on_expired: &mut dyn FnMut(DeviceId)) -> usize {
        let looked_at = sweep::sweep(&self.table, now, budget, on_expired);
        if let Some(journal) = &self.journal {
            journal.tidy(now, self.table.held());
        }
        looked_at
    }

    /// Gives memory back to the system when most of the map is empty.
    pub(crate) fn shrink(&self) {
        self.table.shrink();
    }

    /// Puts one claim into map and journal queue; the ticket is to be waited for before anyone is told.
    fn put(&self, claim: &PendingClaim, now: Timestamp) -> Result<(Recorded, Option<Ticket>), RecordError> {
        let open = !self.closed.load(Ordering::Acquire);
        if !open || self.journal.as_ref().is_some_and(|journal| !journal.accepts()) {
            return Err(RecordError::Unavailable);
        }
        let (tenant, share) = self.table.tenants.index(claim.tenant, |index| self.log_tenant(index, claim.tenant));
        for _ in 0..ROOM_TRIES {
            let log = |entry: &Entry| self.journal.as_ref().map(|journal| journal.put(put_of(claim.device, entry)));
            match self.table.put(claim, (tenant, &share), now, log) {
                Ok(put) => return Ok(put),
                Err(PutError::AnnouncedByDevice) => return Err(RecordError::AnnouncedByDevice),
                Err(PutError::Full) if self.table.forget_one() => {}
                Err(PutError::Full | PutError::TenantFull) => break,
            }
        }
        Err(RecordError::Full { retry_after: self.table.room_expected(now) })
    }

    fn log_tenant(&self, index: u32, id: TenantId) {
        if let Some(journal) = &self.journal {
            journal.tenant(index, id);
        }
    }

    fn remove(&self, device: DeviceId, gone: impl FnOnce(&Entry) -> bool) -> bool {
        self.table.remove_if(device, gone, |entry| {
            if let Some(journal) = &self.journal {
                journal.gone(device, entry.stamp());
            }
        })
    }
}

impl ClaimCache for MemoryClaimCache {
    fn record(&self, claim: PendingClaim, now: Timestamp) -> PortFuture<'_, Result<Recorded, RecordError>> {
        match self.put(&claim, now) {
            Ok((recorded, None)) => PortFuture::ready(Ok(recorded)),
            Ok((recorded, Some(Ticket::Decided(true)))) => PortFuture::ready(Ok(recorded)),
            Ok((recorded, Some(ticket))) => PortFuture::later(async move {
                if ticket.committed().await { Ok(recorded) } else { Err(RecordError::Unavailable) }
            }),
            Err(error) => PortFuture::ready(Err(error)),
        }
    }

    fn record_batch(
        &self,
        claims: Vec<PendingClaim>,
        now: Timestamp,
    ) -> PortFuture<'_, Vec<Result<Recorded, RecordError>>> {
        let mut answers = Vec::with_capacity(claims.len());
        // A batch of claims lies in one or two commits of the journal; for each the place after its last claim.
        let mut waits: Vec<(usize, Ticket)> = Vec::new();
        for (place, claim) in claims.iter().enumerate() {
            answers.push(self.put(claim, now).map(|(recorded, ticket)| {
                match (waits.last_mut(), ticket) {
                    (Some((end, last)), Some(ticket)) if last.same(&ticket) => *end = place + 1,
                    (_, Some(ticket)) => waits.push((place + 1, ticket)),
                    (_, None) => {}
                }
                recorded
            }));
        }
        if waits.iter().all(|(_, ticket)| matches!(ticket, Ticket::Decided(true))) {
            return PortFuture::ready(answers);
        }
        PortFuture::later(async move {
            let mut start = 0;
            for (end, ticket) in waits {
                if !ticket.committed().await {
                    for answer in &mut answers[start..end] {
                        *answer = (*answer).and(Err(RecordError::Unavailable));
                    }
                }
                start = end;
            }
            answers
        })
    }

    fn peek(&self, device: DeviceId, now: Timestamp) -> PortFuture<'_, Result<Option<Sighting>, Unavailable>> {
        PortFuture::ready(Ok(self.table.get(device, now)))
    }

    fn consume(&self, device: DeviceId, stamp: u64) -> PortFuture<'_, Result<bool, Unavailable>> {
        PortFuture::ready(Ok(self.remove(device, |entry| entry.stamp() == stamp)))
    }

    fn withdraw(&self, device: DeviceId, until: Timestamp) -> PortFuture<'_, Result<bool, Unavailable>> {
        PortFuture::ready(Ok(self.remove(device, |entry| entry.received_at() <= until)))
    }

    fn pending(
        &self,
        tenant: TenantId,
        after: Option<DeviceId>,
        limit: usize,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Vec<PendingClaim>, Unavailable>> {
        let Some((number, share)) = self.table.tenants.known(tenant) else { return PortFuture::ready(Ok(Vec::new())) };
        if limit == 0 || share.pending.load(Ordering::Relaxed) == 0 {
            return PortFuture::ready(Ok(Vec::new()));
        }
        let table = Arc::clone(&self.table);
        // All shards are looked through, a tenth of a second at ten million claims: no work for a thread that serves others.
        let looking =
            tokio::task::spawn_blocking(move || listing::live_of(&table, (tenant, number), after, limit, now));
        PortFuture::later(async move { looking.await.map_err(|_| Unavailable) })
    }
}

fn check(config: &Config) -> Result<(), OpenError> {
    let least = |key: &str, value: u64, least: u64| match value < least {
        true => Err(OpenError::Config(format!("`claim_cache.{key}` is {value}; it must be {least} or more"))),
        false => Ok(()),
    };
    least("max_pending_per_tenant", config.max_pending_per_tenant, 1)?;
    least("journal_segment_bytes", config.journal_segment_bytes, 4096)?;
    least("journal_queue_bytes", config.journal_queue_bytes as u64, 4096)
}

/// After its files were read, durability `none` keeps nothing on disk until the next graceful stop.
fn discard(folder: &Folder, found: &Replayed) -> Result<(), JournalError> {
    for file in &found.files {
        let path = folder.file(file.kind, file.number);
        std::fs::remove_file(&path).map_err(|source| JournalError::io(&path, "delete", source))?;
    }
    Ok(())
}

fn put_of(device: DeviceId, entry: &Entry) -> Put {
    Put {
        device,
        tenant: entry.tenant(),
        digest: *entry.digest(),
        expires_at: entry.expires_at(),
        received_at: entry.received_at(),
        stamp: entry.stamp(),
        source: entry.source(),
    }
}

struct Restorer<'a>(&'a Table);

impl Restore for Restorer<'_> {
    fn tenant(&mut self, id: TenantId) -> u32 {
        self.0.tenants.index(id, |_| ()).0
    }

    fn put(&mut self, put: Put) {
        self.0.load(put.device, Entry::restored(&put));
    }

    fn gone(&mut self, device: DeviceId, stamp: u64) {
        self.0.unload(device, stamp);
    }
}
