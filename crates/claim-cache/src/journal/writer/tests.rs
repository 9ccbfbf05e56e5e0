//! The journal as its users know it: what was committed is there after any end, and what cannot be committed is refused.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use claim::ports::ClaimSource;
use proptest::prelude::*;
use testkit::at;

use super::super::replay::{Restore, replay};
use super::super::{Replayed, repair};
use super::*;

/// A disk that fails on demand, before anything is written.
struct Fickle {
    folder: Arc<Folder>,
    moods: Arc<Moods>,
}

#[derive(Default)]
struct Moods {
    full: AtomicBool,
    broken_writes: AtomicBool,
    broken_syncs: AtomicBool,
    syncs: AtomicUsize,
    held: Mutex<bool>,
    released: Condvar,
}

impl Moods {
    /// Writes wait until [`Moods::release`].
    fn hold(&self) {
        *lock(&self.held) = true;
    }

    fn release(&self) {
        *lock(&self.held) = false;
        self.released.notify_all();
    }
}

struct FickleFile(Arc<dyn SegmentFile>, Arc<Moods>);

impl Disk for Fickle {
    fn create_segment(&self, number: u64) -> io::Result<Arc<dyn SegmentFile>> {
        let file = self.folder.create_segment(number)?;
        Ok(Arc::new(FickleFile(file, Arc::clone(&self.moods))))
    }
}

impl SegmentFile for FickleFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut held = lock(&self.1.held);
        while *held {
            held = self.1.released.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        drop(held);
        if self.1.full.load(Ordering::Relaxed) {
            // A full disk may take a part before it says so.
            self.0.write_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        if self.1.broken_writes.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.0.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.1.syncs.fetch_add(1, Ordering::Relaxed);
        if self.1.broken_syncs.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.0.sync()
    }
}

const TENANT: TenantId = TenantId::from_bytes([7; 16]);

fn options(durability: Durability) -> JournalOptions {
    JournalOptions {
        durability,
        segment_bytes: 64 * 1024 * 1024,
        queue_bytes: 64 * 1024 * 1024,
        sync_interval: Duration::from_millis(5),
    }
}

fn put(device: u8, stamp: u64) -> Put {
    Put {
        device: DeviceId::from_bytes([device; 16]),
        tenant: 0,
        digest: [device; 32],
        expires_at: at(600_000),
        received_at: at(0),
        stamp,
        source: ClaimSource::Device,
    }
}

struct Rig {
    root: tempfile::TempDir,
    moods: Arc<Moods>,
}

impl Rig {
    fn new() -> Self {
        Self { root: tempfile::tempdir().expect("a folder"), moods: Arc::default() }
    }

    fn path(&self) -> &Path {
        self.root.path()
    }

    /// A journal on this rig's disk, going on from what is there.
    fn start(&self, options: JournalOptions) -> Journal {
        let folder = Arc::new(Folder::open(self.path()).expect("the folder"));
        let found = replay(&folder, &mut Found::default()).expect("a journal");
        let disk: Arc<dyn Disk> = Arc::new(Fickle { folder: Arc::clone(&folder), moods: Arc::clone(&self.moods) });
        let start = Start { files: found.files, next_number: found.next_number, tenants: vec![TENANT] };
        Journal::start(&folder, disk, options, start, |_, _| true).expect("it starts")
    }

    /// What a new start would find; on a copy, as after a crash.
    fn after_crash(&self) -> Result<(HashMap<DeviceId, Put>, Replayed), JournalError> {
        let copy = tempfile::tempdir().expect("a folder");
        for entry in std::fs::read_dir(self.path()).expect("files") {
            let path = entry.expect("a file").path();
            std::fs::copy(&path, copy.path().join(path.file_name().expect("a name"))).expect("a copy");
        }
        read(copy.path())
    }
}

fn read(path: &Path) -> Result<(HashMap<DeviceId, Put>, Replayed), JournalError> {
    let mut found = Found::default();
    let replayed = replay(&Folder::open(path)?, &mut found)?;
    Ok((found.claims, replayed))
}

#[derive(Default)]
struct Found {
    tenants: Vec<TenantId>,
    claims: HashMap<DeviceId, Put>,
}

impl Restore for Found {
    fn tenant(&mut self, id: TenantId) -> u32 {
        let known = self.tenants.iter().position(|tenant| *tenant == id);
        let index = known.unwrap_or_else(|| {
            self.tenants.push(id);
            self.tenants.len() - 1
        });
        u32::try_from(index).expect("few tenants")
    }

    fn put(&mut self, put: Put) {
        let held = self.claims.get(&put.device).map(|held| held.stamp);
        if held.is_none_or(|stamp| stamp <= put.stamp) {
            self.claims.insert(put.device, put);
        }
    }

    fn gone(&mut self, device: DeviceId, stamp: u64) {
        if self.claims.get(&device).is_some_and(|held| held.stamp <= stamp) {
            self.claims.remove(&device);
        }
    }
}

fn files(path: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(path)
        .expect("files")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "segment" || kind == "snapshot"))
        .collect();
    files.sort();
    files
}

/// Waits for a condition of another thread; fails the test when it never comes.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "in vain: {what}");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_crash_whatever_the_durability() {
    for durability in [Durability::Os, Durability::Fsync] {
        let rig = Rig::new();
        let journal = rig.start(options(durability));
        for device in 1..=50 {
            assert!(journal.put(put(device, device.into())).committed().await);
            let (claims, _) = rig.after_crash().expect("readable at any moment");
            assert_eq!(claims.len(), usize::from(device), "{durability:?}");
        }
        journal.gone(put(1, 1).device, 1);
        assert!(journal.put(put(2, 100)).committed().await);
        let (claims, _) = rig.after_crash().expect("readable");
        assert_eq!(claims.len(), 49, "the end before it was committed with it");
        assert_eq!(claims[&put(2, 0).device].stamp, 100);
    }
}

#[tokio::test]
async fn fsync_waits_for_the_disk_before_each_ack() {
    let rig = Rig::new();
    let journal = rig.start(options(Durability::Fsync));
    for device in 1..=5 {
        let before = rig.moods.syncs.load(Ordering::Relaxed);
        assert!(journal.put(put(device, 1)).committed().await);
        assert!(rig.moods.syncs.load(Ordering::Relaxed) > before);
    }
}

#[tokio::test]
async fn what_queues_while_the_disk_writes_is_committed_together() {
    let rig = Rig::new();
    let journal = rig.start(options(Durability::Os));
    rig.moods.hold();
    let first = journal.put(put(1, 1));
    until("the writer has taken the first", || journal.shared.queued_bytes.load(Ordering::Relaxed) == 0);
    let queued: Vec<Ticket> = (2..100).map(|device| journal.put(put(device, 1))).collect();
    assert!(queued.iter().all(|ticket| ticket.same(&queued[0])) && !queued[0].same(&first));
    rig.moods.release();
    assert!(first.committed().await && queued[0].committed().await);
}

#[tokio::test]
async fn a_full_queue_takes_no_more() {
    let rig = Rig::new();
    let journal = rig.start(JournalOptions { queue_bytes: 4 * PUT_BYTES, ..options(Durability::Os) });
    rig.moods.hold();
    let first = journal.put(put(1, 1));
    until("the writer has taken the first", || journal.shared.queued_bytes.load(Ordering::Relaxed) == 0);
    for device in 2..=4 {
        journal.put(put(device, 1));
        assert!(journal.accepts(), "below the bound");
    }
    let last = journal.put(put(5, 1));
    assert!(!journal.accepts(), "at the bound");
    rig.moods.release();
    assert!(first.committed().await && last.committed().await);
    assert!(journal.accepts());
}

#[tokio::test]
async fn a_full_disk_refuses_and_heals_when_there_is_room() {
    let rig = Rig::new();
    let journal = rig.start(options(Durability::Os));
    assert!(journal.put(put(1, 1)).committed().await);
    rig.moods.full.store(true, Ordering::Relaxed);
    assert!(!journal.put(put(2, 2)).committed().await, "never an ack");
    assert!(!journal.healthy() && !journal.accepts());
    let (claims, _) = rig.after_crash().expect("the half-written end is torn, no more");
    assert_eq!(claims.len(), 1);
    rig.moods.full.store(false, Ordering::Relaxed);
    until("it has healed", || journal.healthy());
    assert!(journal.put(put(3, 3)).committed().await);
    let (claims, _) = rig.after_crash().expect("readable");
    assert!(claims.contains_key(&put(3, 3).device));
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_acknowledged_until_a_restart() {
    let rig = Rig::new();
    {
        let journal = rig.start(options(Durability::Os));
        assert!(journal.put(put(1, 1)).committed().await);
        rig.moods.broken_writes.store(true, Ordering::Relaxed);
        assert!(!journal.put(put(2, 2)).committed().await);
        rig.moods.broken_writes.store(false, Ordering::Relaxed);
        assert!(!journal.put(put(3, 3)).committed().await, "what the disk holds is uncertain");
        assert!(!journal.healthy() && !journal.accepts());
    }
    let journal = rig.start(options(Durability::Os));
    assert!(journal.healthy());
    assert!(journal.put(put(4, 4)).committed().await);
    let (claims, _) = rig.after_crash().expect("readable");
    assert_eq!(claims.len(), 2);
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_until_a_restart() {
    for durability in [Durability::Os, Durability::Fsync] {
        let rig = Rig::new();
        let journal = rig.start(options(durability));
        rig.moods.broken_syncs.store(true, Ordering::Relaxed);
        let acked = journal.put(put(1, 1)).committed().await;
        assert_eq!(acked, durability == Durability::Os, "with `os` the ack does not wait for a sync");
        until("the failure was seen", || !journal.healthy());
        assert!(!journal.accepts());
        rig.moods.broken_syncs.store(false, Ordering::Relaxed);
        assert!(!journal.healthy(), "a sync that works later says nothing about what was lost");
    }
}

#[tokio::test]
async fn full_segments_are_closed_and_go_when_all_in_them_is_over() {
    let rig = Rig::new();
    let journal = rig.start(JournalOptions { segment_bytes: 4096, ..options(Durability::Os) });
    for stamp in 0..300 {
        assert!(journal.put(put(u8::try_from(stamp % 250).expect("small"), stamp)).committed().await);
    }
    assert!(files(rig.path()).len() > 3, "{:?}", files(rig.path()));
    let (claims, _) = rig.after_crash().expect("readable across segments");
    assert_eq!(claims.len(), 250);
    let bytes = journal.bytes();
    journal.tidy(at(600_000).plus(REMEMBERED), 0);
    until("all but the active one are gone", || files(rig.path()).len() == 1);
    until("and counted out", || journal.bytes() < bytes);
}

#[tokio::test]
async fn what_is_superseded_is_compacted_into_a_snapshot_and_nothing_current_is_lost() {
    let rig = Rig::new();
    {
        let folder = Arc::new(Folder::open(rig.path()).expect("the folder"));
        let disk: Arc<dyn Disk> = folder.clone();
        let start = Start { files: Vec::new(), next_number: 1, tenants: vec![TENANT] };
        let current = |device: DeviceId, stamp: u64| stamp >= 990 || device == put(200, 0).device;
        let options = JournalOptions { segment_bytes: 4096, ..options(Durability::Os) };
        let journal = Journal::start(&folder, disk, options, start, current).expect("it starts");
        assert!(journal.put(put(200, 0)).committed().await);
        for stamp in 1..1_000 {
            assert!(journal.put(put(u8::try_from(stamp % 10).expect("small"), stamp)).committed().await);
        }
        let before = journal.bytes();
        journal.tidy(at(1), 11);
        until("a snapshot took their place", || {
            files(rig.path()).iter().any(|path| path.extension().is_some_and(|kind| kind == "snapshot"))
        });
        until("the files it stands for are gone", || journal.bytes() < before / 4);
        assert!(journal.put(put(201, 1_000)).committed().await, "it goes on");
    }
    let (claims, _) = read(rig.path()).expect("snapshot and segments together");
    assert_eq!(claims.len(), 12);
    assert_eq!(claims[&put(200, 0).device].digest, [200; 32]);
    assert_eq!(claims[&put(9, 0).device].stamp, 999);
}

#[tokio::test]
async fn a_torn_end_is_cut_in_the_newest_segment_and_damage_elsewhere_is_an_error_that_can_be_repaired() {
    let rig = Rig::new();
    {
        let journal = rig.start(JournalOptions { segment_bytes: 4096, ..options(Durability::Os) });
        for stamp in 1..=100 {
            assert!(journal.put(put(u8::try_from(stamp).expect("small"), stamp)).committed().await);
        }
    }
    let paths = files(rig.path());
    let newest = paths.last().expect("a segment");
    let length = std::fs::metadata(newest).expect("its length").len();
    File::options().write(true).open(newest).expect("open").set_len(length - 3).expect("cut");
    let (claims, replayed) = rig.after_crash().expect("a torn end is what a crash leaves");
    assert_eq!((claims.len(), replayed.torn_bytes), (99, PUT_BYTES as u64 - 3));

    let mut bytes = std::fs::read(&paths[0]).expect("bytes");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&paths[0], bytes).expect("written");
    let error = rig.after_crash().map(drop).expect_err("what follows it was acknowledged");
    assert!(matches!(error, JournalError::Damaged { .. }) && error.to_string().contains("hint"), "{error}");

    let report = repair(rig.path()).expect("a repair");
    let aside = |path: &Path| path.with_added_extension("damaged");
    assert_eq!(report.damaged, [aside(&paths[0]), aside(newest)], "kept for whoever wants to look");
    let (claims, _) = read(rig.path()).expect("a repaired journal");
    assert_eq!(claims.len(), 98, "all but the damaged record and the torn one");
}

#[test]
fn a_missing_file_between_others_is_an_error() {
    let rig = Rig::new();
    for _ in 0..3 {
        drop(rig.start(options(Durability::Os)));
    }
    let paths = files(rig.path());
    assert_eq!(paths.len(), 3, "a segment a start");
    std::fs::remove_file(&paths[1]).expect("gone");
    assert!(matches!(rig.after_crash(), Err(JournalError::Missing { .. })));
}

#[test]
fn a_closed_journal_commits_nothing_more() {
    let rig = Rig::new();
    let journal = rig.start(options(Durability::Os));
    journal.close();
    let ticket = journal.put(put(1, 1));
    assert_eq!(ticket.0.state.load(Ordering::Acquire), LOST);
    journal.close();
}

#[derive(Clone, Debug)]
enum Op {
    Put(u8),
    Gone(u8),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Wherever a crash cuts the newest file, a prefix of what was written is found, whole.
    #[test]
    fn a_cut_anywhere_leaves_a_prefix(
        ops in prop::collection::vec(prop_oneof![3 => (1..20u8).prop_map(Op::Put), 1 => (1..20u8).prop_map(Op::Gone)], 1..80),
        cut in 0.0..1.0f64,
    ) {
        let rig = Rig::new();
        let mut states = vec![HashMap::new()];
        {
            let journal = rig.start(options(Durability::Os));
            let mut newest: HashMap<u8, u64> = HashMap::new();
            for (stamp, op) in (1u64..).zip(&ops) {
                let mut state: HashMap<DeviceId, u64> = states.last().cloned().unwrap_or_default();
                match *op {
                    Op::Put(device) => {
                        journal.put(put(device, stamp));
                        newest.insert(device, stamp);
                        state.insert(put(device, 0).device, stamp);
                    }
                    Op::Gone(device) => {
                        journal.gone(put(device, 0).device, newest.get(&device).copied().unwrap_or(0));
                        state.remove(&put(device, 0).device);
                    }
                }
                states.push(state);
            }
        }
        let path = files(rig.path()).pop().expect("a segment");
        let length = std::fs::metadata(&path).expect("its length").len();
        let kept = (length as f64 * cut) as u64;
        File::options().write(true).open(&path).expect("open").set_len(kept).expect("cut");
        let (claims, _) = read(rig.path()).expect("a torn end is no error");
        let found: HashMap<DeviceId, u64> = claims.into_iter().map(|(device, put)| (device, put.stamp)).collect();
        prop_assert!(states.contains(&found), "{found:?} was never the state");
    }
}
