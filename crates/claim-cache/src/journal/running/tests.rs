//! The journal as its users know it: what was committed is there after any end, and what cannot be committed is refused.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::AtomicUsize;

use claim::ports::ClaimSource;
use proptest::prelude::*;
use testkit::at;

use super::super::record::{Before, HEADER_BYTES, PUT_BYTES, header_after};
use super::super::replay::{Restore, replay};
use super::super::window::Window;
use super::super::{Replayed, repair};
use super::*;
use crate::memory::REMEMBERED;

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
    unmappable: AtomicBool,
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

    fn remove_segment(&self, number: u64) -> io::Result<()> {
        self.folder.remove_segment(number)
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
            return Err(rustix::io::Errno::NOSPC.into());
        }
        if self.1.broken_writes.load(Ordering::Relaxed) {
            return Err(rustix::io::Errno::IO.into());
        }
        self.0.write_at(bytes, offset)
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        if self.1.full.load(Ordering::Relaxed) {
            return Err(rustix::io::Errno::NOSPC.into());
        }
        self.0.reserve(length)
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.0.cut(length)
    }

    fn window(&self, offset: u64, length: usize) -> io::Result<Window> {
        if self.1.unmappable.load(Ordering::Relaxed) {
            return Err(rustix::io::Errno::NODEV.into());
        }
        self.0.window(offset, length)
    }

    fn sync(&self) -> io::Result<()> {
        self.1.syncs.fetch_add(1, Ordering::Relaxed);
        if self.1.broken_syncs.load(Ordering::Relaxed) {
            return Err(rustix::io::Errno::IO.into());
        }
        self.0.sync()
    }
}

const TENANT: TenantId = TenantId::from_bytes([7; 16]);

/// How records are committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Mapped,
    /// Durability `os` where files cannot be mapped.
    Written,
    Synced,
}

const WAYS: [Way; 3] = [Way::Mapped, Way::Written, Way::Synced];

fn options(way: Way) -> JournalOptions {
    JournalOptions {
        durability: if way == Way::Synced { Durability::Fsync } else { Durability::Os },
        segment_bytes: 1024 * 1024,
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
    fn new(way: Way) -> Self {
        let rig = Self { root: tempfile::tempdir().expect("a folder"), moods: Arc::default() };
        rig.moods.unmappable.store(way == Way::Written, Ordering::Relaxed);
        rig
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
        read(self.copy().path())
    }

    fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().expect("a folder");
        for path in files(self.path()) {
            std::fs::copy(&path, copy.path().join(path.file_name().expect("a name"))).expect("a copy");
        }
        copy
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

fn queued(journal: &Journal) -> usize {
    match &journal.log {
        Log::Mapped(_) => panic!("it has no queue"),
        Log::Grouped(log) => log.queued_bytes.load(Ordering::Relaxed),
    }
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_crash_whatever_the_durability() {
    for way in WAYS {
        let rig = Rig::new(way);
        let journal = rig.start(options(way));
        assert_eq!(matches!(journal.log, Log::Mapped(_)), way == Way::Mapped);
        for device in 1..=50 {
            assert!(journal.put(put(device, device.into())).committed().await);
            let (claims, found) = rig.after_crash().expect("readable at any moment");
            assert_eq!((claims.len(), found.torn_bytes), (usize::from(device), 0), "{way:?}");
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
    let rig = Rig::new(Way::Synced);
    let journal = rig.start(options(Way::Synced));
    for device in 1..=5 {
        let before = rig.moods.syncs.load(Ordering::Relaxed);
        assert!(journal.put(put(device, 1)).committed().await);
        assert!(rig.moods.syncs.load(Ordering::Relaxed) > before);
    }
}

#[tokio::test]
async fn os_syncs_at_intervals() {
    for way in [Way::Mapped, Way::Written] {
        let rig = Rig::new(way);
        let journal = rig.start(options(way));
        for device in 1..=3 {
            assert!(journal.put(put(device, 1)).committed().await);
            let before = rig.moods.syncs.load(Ordering::Relaxed);
            journal.put(put(device, 2));
            until("a sync follows", || rig.moods.syncs.load(Ordering::Relaxed) > before);
        }
    }
}

#[tokio::test]
async fn what_queues_while_the_disk_writes_is_committed_together() {
    let rig = Rig::new(Way::Synced);
    let journal = rig.start(options(Way::Synced));
    rig.moods.hold();
    let first = journal.put(put(1, 1));
    until("the writer has taken the first", || queued(&journal) == 0);
    let queued: Vec<Ticket> = (2..100).map(|device| journal.put(put(device, 1))).collect();
    assert!(queued.iter().all(|ticket| ticket.same(&queued[0])) && !queued[0].same(&first));
    rig.moods.release();
    assert!(first.committed().await && queued[0].committed().await);
}

#[tokio::test]
async fn a_full_queue_takes_no_more() {
    let rig = Rig::new(Way::Synced);
    let journal = rig.start(JournalOptions { queue_bytes: 4 * PUT_BYTES, ..options(Way::Synced) });
    rig.moods.hold();
    let first = journal.put(put(1, 1));
    until("the writer has taken the first", || queued(&journal) == 0);
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
    for way in WAYS {
        let rig = Rig::new(way);
        let journal = rig.start(JournalOptions { segment_bytes: 4096, ..options(way) });
        assert!(journal.put(put(1, 0)).committed().await);
        rig.moods.full.store(true, Ordering::Relaxed);
        let mut acked = 1;
        while journal.put(put(1, acked)).committed().await {
            acked += 1;
            assert!(way == Way::Mapped && acked < 200, "what room was reserved is used, no more");
        }
        assert!(!journal.healthy() && !journal.accepts());
        let (claims, _) = rig.after_crash().expect("the half-written end is torn, no more");
        assert_eq!(claims[&put(1, 0).device].stamp, acked - 1, "{way:?}");
        rig.moods.full.store(false, Ordering::Relaxed);
        until("it has healed", || journal.healthy());
        assert!(journal.put(put(3, 300)).committed().await);
        let (claims, _) = rig.after_crash().expect("readable");
        assert!(claims.contains_key(&put(3, 0).device));
    }
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_acknowledged_until_a_restart() {
    for way in [Way::Written, Way::Synced] {
        let rig = Rig::new(way);
        {
            let journal = rig.start(options(way));
            assert!(journal.put(put(1, 1)).committed().await);
            rig.moods.broken_writes.store(true, Ordering::Relaxed);
            assert!(!journal.put(put(2, 2)).committed().await);
            rig.moods.broken_writes.store(false, Ordering::Relaxed);
            assert!(!journal.put(put(3, 3)).committed().await, "what the disk holds is uncertain");
            assert!(!journal.healthy() && !journal.accepts());
        }
        let journal = rig.start(options(way));
        assert!(journal.healthy());
        assert!(journal.put(put(4, 4)).committed().await);
        let (claims, _) = rig.after_crash().expect("readable");
        assert_eq!(claims.len(), 2);
    }
}

#[tokio::test]
async fn a_segment_that_cannot_be_mapped_any_more_is_a_failure() {
    let rig = Rig::new(Way::Mapped);
    {
        let journal = rig.start(options(Way::Mapped));
        rig.moods.unmappable.store(true, Ordering::Relaxed);
        let mut acked = 0;
        while journal.put(put(1, acked)).committed().await {
            acked += 1;
        }
        assert!(acked > 3_000, "the part that is mapped is used: {acked}");
        assert!(!journal.healthy());
        assert!(!journal.put(put(2, 1)).committed().await);
        let (claims, _) = rig.after_crash().expect("readable");
        assert_eq!(claims[&put(1, 0).device].stamp, acked - 1);
    }
    rig.moods.unmappable.store(false, Ordering::Relaxed);
    let journal = rig.start(options(Way::Mapped));
    assert!(journal.put(put(2, 1)).committed().await);
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_until_a_restart() {
    for way in WAYS {
        let rig = Rig::new(way);
        let journal = rig.start(options(way));
        rig.moods.broken_syncs.store(true, Ordering::Relaxed);
        let acked = journal.put(put(1, 1)).committed().await;
        assert_eq!(acked, way != Way::Synced, "with `os` the ack does not wait for a sync");
        until("the failure was seen", || !journal.healthy());
        assert!(!journal.accepts() && !journal.put(put(2, 2)).committed().await);
        rig.moods.broken_syncs.store(false, Ordering::Relaxed);
        assert!(!journal.healthy(), "a sync that works later says nothing about what was lost");
    }
}

#[tokio::test]
async fn full_segments_are_closed_and_go_when_all_in_them_is_over() {
    for way in WAYS {
        let rig = Rig::new(way);
        let journal = rig.start(JournalOptions { segment_bytes: 4096, ..options(way) });
        for stamp in 0..300 {
            assert!(journal.put(put(u8::try_from(stamp % 250).expect("small"), stamp)).committed().await);
        }
        assert!(files(rig.path()).len() > 3, "{:?}", files(rig.path()));
        let (claims, _) = rig.after_crash().expect("readable across segments");
        assert_eq!(claims.len(), 250);
        until("all but the active one are closed", || lock(&journal.common.closed).len() >= 4);
        let bytes = journal.bytes();
        journal.tidy(at(600_000).plus(REMEMBERED), 0);
        // Beside the active one there may be one made in advance.
        until("all that is closed is gone", || files(rig.path()).len() <= 2);
        until("and counted out", || journal.bytes() < bytes);
        drop(journal);
        assert_eq!(files(rig.path()).len(), 1, "{way:?}");
        let length = std::fs::metadata(&files(rig.path())[0]).expect("its length").len();
        assert!(length < 4096, "{way:?}: unused room is given back, {length} bytes are left");
    }
}

#[tokio::test]
async fn what_is_superseded_is_compacted_into_a_snapshot_and_nothing_current_is_lost() {
    for way in WAYS {
        let rig = Rig::new(way);
        {
            let folder = Arc::new(Folder::open(rig.path()).expect("the folder"));
            let disk: Arc<dyn Disk> = Arc::new(Fickle { folder: Arc::clone(&folder), moods: Arc::clone(&rig.moods) });
            let start = Start { files: Vec::new(), next_number: 1, tenants: vec![TENANT] };
            let current = |device: DeviceId, stamp: u64| stamp >= 990 || device == put(200, 0).device;
            let options = JournalOptions { segment_bytes: 4096, ..options(way) };
            let journal = Journal::start(&folder, disk, options, start, current).expect("it starts");
            assert!(journal.put(put(200, 0)).committed().await);
            for stamp in 1..1_000 {
                assert!(journal.put(put(u8::try_from(stamp % 10).expect("small"), stamp)).committed().await);
            }
            until("the full ones are closed", || lock(&journal.common.closed).len() >= 17);
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
}

#[tokio::test]
async fn a_torn_end_is_cut_in_the_newest_segment_and_damage_elsewhere_is_an_error_that_can_be_repaired() {
    for way in WAYS {
        let rig = Rig::new(way);
        {
            let journal = rig.start(JournalOptions { segment_bytes: 4096, ..options(way) });
            for stamp in 1..=100 {
                assert!(journal.put(put(u8::try_from(stamp).expect("small"), stamp)).committed().await);
            }
        }
        let paths = files(rig.path());
        let newest = paths.last().expect("a segment");
        shorten(newest, 3);
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
}

fn shorten(path: &Path, bytes: u64) {
    let length = std::fs::metadata(path).expect("its length").len();
    File::options().write(true).open(path).expect("open").set_len(length - bytes).expect("cut");
}

fn set_before(path: &Path, number: u64, before: Before) {
    let file = File::options().write(true).open(path).expect("open");
    file.write_at(&header_after(FileKind::Segment, number, before), 0).expect("written");
}

fn before(path: &Path) -> u8 {
    std::fs::read(path).expect("bytes")[11]
}

#[tokio::test]
async fn the_end_of_a_segment_may_be_missing_as_long_as_the_next_one_says_so() {
    let rig = Rig::new(Way::Mapped);
    {
        let journal = rig.start(JournalOptions { segment_bytes: 4096, ..options(Way::Mapped) });
        for stamp in 1..=60 {
            assert!(journal.put(put(u8::try_from(stamp).expect("small"), stamp)).committed().await);
        }
        let second = &files(rig.path())[1];
        until("the first is synced, and the second says so", || before(second) == Before::Synced as u8);
    }
    let paths = files(rig.path());
    shorten(&paths[0], 3);
    assert!(matches!(rig.after_crash(), Err(JournalError::Damaged { .. })));
    set_before(&paths[1], 2, Before::Unsynced);
    let (claims, replayed) = rig.after_crash().expect("a power loss may leave this");
    assert_eq!((claims.len(), replayed.torn_bytes), (59, PUT_BYTES as u64 - 3), "what the second holds is found");
}

#[test]
fn a_segment_that_was_made_and_not_begun_is_removed() {
    let rig = Rig::new(Way::Mapped);
    drop(rig.start(options(Way::Mapped)));
    for (number, bytes) in [(2, vec![]), (3, vec![0; 100]), (4, vec![0; 200_000])] {
        std::fs::write(rig.path().join(format!("{number:020}.segment")), bytes).expect("written");
    }
    let (_, found) = read(rig.path()).expect("readable");
    assert_eq!((found.next_number, files(rig.path()).len()), (2, 1));
}

#[test]
fn a_missing_file_between_others_is_an_error() {
    for way in WAYS {
        let rig = Rig::new(way);
        for _ in 0..3 {
            drop(rig.start(options(way)));
        }
        let paths = files(rig.path());
        assert_eq!(paths.len(), 3, "a segment a start");
        std::fs::remove_file(&paths[1]).expect("gone");
        assert!(matches!(rig.after_crash(), Err(JournalError::Missing { .. })));
    }
}

#[test]
fn a_closed_journal_commits_nothing_more() {
    for way in WAYS {
        let rig = Rig::new(way);
        let journal = rig.start(options(way));
        journal.close();
        assert!(matches!(journal.put(put(1, 1)), Ticket::Decided(false)));
        journal.close();
        assert!(rig.after_crash().expect("readable").0.is_empty());
    }
}

#[test]
fn many_threads_record_across_segments_and_nothing_is_lost() {
    let rig = Rig::new(Way::Mapped);
    let journal = rig.start(JournalOptions { segment_bytes: 4096, ..options(Way::Mapped) });
    std::thread::scope(|threads| {
        for device in 1..=4u8 {
            let journal = &journal;
            threads.spawn(move || {
                for stamp in 0..500 {
                    assert!(matches!(journal.put(put(device, stamp)), Ticket::Decided(true)));
                    if stamp % 100 == 0 {
                        journal.tenant(u32::from(device) * 10 + u32::try_from(stamp / 100).expect("few"), TENANT);
                    }
                }
            });
        }
    });
    let (claims, found) = rig.after_crash().expect("readable");
    assert_eq!(claims.len(), 4);
    assert!(claims.values().all(|put| put.stamp == 499) && found.records >= 2_000);
}

#[derive(Clone, Debug)]
enum Op {
    Put(u8),
    Gone(u8),
}

/// What a crash does to the newest file.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Cut(f64),
    /// Pages that did not reach the disk.
    Hole(f64, f64),
}

fn a_harm() -> impl Strategy<Value = Harm> {
    let place = 0.0..1.0f64;
    prop_oneof![place.clone().prop_map(Harm::Cut), (place.clone(), place).prop_map(|(a, b)| Harm::Hole(a, b))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever a crash takes of the newest file, a prefix of what was written is found, whole.
    #[test]
    fn any_crash_leaves_a_prefix(
        ops in prop::collection::vec(prop_oneof![3 => (1..20u8).prop_map(Op::Put), 1 => (1..20u8).prop_map(Op::Gone)], 1..80),
        harm in a_harm(),
        way in prop::sample::select(WAYS.to_vec()),
    ) {
        let rig = Rig::new(way);
        let mut states = vec![HashMap::new()];
        let journal = rig.start(JournalOptions { segment_bytes: 16 * 1024, ..options(way) });
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
        let used = match way {
            // The room that was not used stays, as after a kill.
            Way::Mapped => journal.bytes(),
            Way::Written | Way::Synced => {
                journal.close();
                journal.bytes()
            }
        };
        let crashed = rig.copy();
        let path = files(crashed.path()).remove(0);
        let place = |part: f64| (used as f64 * part) as u64;
        let file = File::options().write(true).open(&path).expect("open");
        match harm {
            Harm::Cut(at) => file.set_len(place(at)).expect("cut"),
            Harm::Hole(a, b) => {
                let (from, to) = (place(a.min(b)).max(HEADER_BYTES as u64), place(a.max(b)));
                file.write_at(&vec![0; usize::try_from(to.saturating_sub(from)).expect("small")], from).expect("zeros");
            }
        }
        let (claims, _) = read(crashed.path()).expect("a torn end is no error");
        let found: HashMap<DeviceId, u64> = claims.into_iter().map(|(device, put)| (device, put.stamp)).collect();
        prop_assert!(states.contains(&found), "{found:?} was never the state");
    }
}
