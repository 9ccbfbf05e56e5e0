//! Who is connected: the way from a device to its sessions, for pushes, takeovers and revocations.
//!
//! A session is known by device and client identifier; a later one with the same pair takes over. Every session has a
//! generation number, so that the clean-up of the old one, which comes late, leaves the new one alone.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use claim::{ClaimState, DeviceId, DeviceName, Intake, StateChange, StateListener};
use futures_util::task::AtomicWaker;

/// What the MQTT listener has seen, for metrics.
#[derive(Debug, Default)]
pub struct Stats {
    /// Sessions that are signed in.
    pub sessions: AtomicU64,
    /// Subscriptions of all of them.
    pub subscriptions: AtomicU64,
    /// Pushes that a client could not take: larger than its largest packet.
    pub pushes_dropped: AtomicU64,
    /// Sessions ended by a later one of the same device and client identifier.
    pub takeovers: AtomicU64,
    /// Packets that are not what the specification asks for.
    pub malformed: AtomicU64,
}

/// Something for a session to send.
#[derive(Clone, Debug)]
pub(crate) enum Push {
    State(ClaimState),
    /// The state of a device that this gateway speaks for.
    Child(DeviceName, ClaimState),
    /// What another session of the same device published.
    Relayed(Arc<str>, Bytes),
}

impl Push {
    /// What it takes in the queue, about.
    fn size(&self) -> usize {
        match self {
            Push::State(_) => 96,
            Push::Child(name, _) => 96 + name.as_str().len(),
            Push::Relayed(topic, payload) => 64 + topic.len() + payload.len(),
        }
    }
}

/// Why a session is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    TakenOver,
    Revoked,
    Draining,
    /// Its queue of pushes is full.
    TooSlow,
}

/// What a session wants to hear of; the others are not woken.
pub(crate) mod wants {
    pub(crate) const STATE: u8 = 1;
    pub(crate) const CHILDREN: u8 = 2;
    pub(crate) const RELAYED: u8 = 4;
}

/// A session's letter box.
pub(crate) struct Mailbox {
    mail: Mutex<Mail>,
    rung: AtomicBool,
    bell: AtomicWaker,
    wants: AtomicU8,
    room: usize,
}

#[derive(Default)]
struct Mail {
    pushes: VecDeque<Push>,
    bytes: usize,
    end: Option<End>,
}

impl Mailbox {
    fn new(room: usize) -> Self {
        let (rung, bell) = (AtomicBool::new(false), AtomicWaker::new());
        Self { mail: Mutex::default(), rung, bell, wants: AtomicU8::new(0), room }
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_wants(&self, wants: u8) {
        self.wants.store(wants, Ordering::Release);
    }

    fn push(&self, push: Push, want: u8) {
        if self.wants.load(Ordering::Acquire) & want == 0 {
            return;
        }
        let size = push.size();
        let mut mail = self.lock();
        if mail.bytes + size > self.room {
            mail.end.get_or_insert(End::TooSlow);
        } else {
            mail.bytes += size;
            mail.pushes.push_back(push);
        }
        drop(mail);
        self.ring();
    }

    fn end(&self, end: End) {
        self.lock().end.get_or_insert(end);
        self.ring();
    }

    fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        self.bell.wake();
    }

    /// Resolves when there is something to take. For the one task that owns the box: it is asked with every packet, so it
    /// costs no more than a look.
    pub(crate) async fn rung(&self) {
        std::future::poll_fn(|cx| {
            if self.rung.swap(false, Ordering::AcqRel) {
                return Poll::Ready(());
            }
            self.bell.register(cx.waker());
            // Rung before the waker was there.
            if self.rung.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Whether the session must end.
    pub(crate) fn ended(&self) -> Option<End> {
        self.lock().end
    }

    /// The next push.
    pub(crate) fn take(&self) -> Option<Push> {
        let mut mail = self.lock();
        let push = mail.pushes.pop_front()?;
        mail.bytes -= push.size();
        if mail.pushes.is_empty() {
            // An idle session keeps no queue.
            mail.pushes = VecDeque::new();
        }
        Some(push)
    }
}

struct Entry {
    client_id: Box<str>,
    generation: u64,
    mailbox: Arc<Mailbox>,
}

type Shard = Mutex<HashMap<DeviceId, Vec<Entry>>>;
const SHARDS: usize = 64;

/// All sessions of this node.
pub(crate) struct Hub {
    shards: Box<[Shard]>,
    next_generation: AtomicU64,
    /// Sessions of gateways that listen for their children's states: nobody is looked up for them while there is none.
    listening_gateways: AtomicUsize,
    draining: AtomicBool,
    queue_bytes: usize,
    pub(crate) stats: Arc<Stats>,
    intake: OnceLock<Intake>,
}

/// A session's place in the hub; leaves when dropped.
pub(crate) struct Place {
    hub: Arc<Hub>,
    device: DeviceId,
    generation: u64,
    pub(crate) mailbox: Arc<Mailbox>,
}

impl Hub {
    pub(crate) fn new(queue_bytes: usize, intake: Intake) -> Arc<Self> {
        let hub = Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            next_generation: AtomicU64::new(1),
            listening_gateways: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            queue_bytes,
            stats: Arc::default(),
            intake: OnceLock::new(),
        };
        let _ = hub.intake.set(intake);
        Arc::new(hub)
    }

    fn shard(&self, device: DeviceId) -> MutexGuard<'_, HashMap<DeviceId, Vec<Entry>>> {
        // Ids are random: any byte spreads them.
        let index = usize::from(device.as_bytes()[15]) % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a session, and ends an older one with the same client identifier.
    pub(crate) fn enter(self: &Arc<Self>, device: DeviceId, client_id: &str) -> Place {
        let generation = self.next_generation.fetch_add(1, Ordering::Relaxed);
        let mailbox = Arc::new(Mailbox::new(self.queue_bytes));
        let mut shard = self.shard(device);
        let entries = shard.entry(device).or_default();
        if let Some(old) = entries.iter_mut().find(|entry| *entry.client_id == *client_id) {
            old.mailbox.end(End::TakenOver);
            self.stats.takeovers.fetch_add(1, Ordering::Relaxed);
            (old.generation, old.mailbox) = (generation, Arc::clone(&mailbox));
        } else {
            entries.push(Entry { client_id: client_id.into(), generation, mailbox: Arc::clone(&mailbox) });
        }
        drop(shard);
        self.stats.sessions.fetch_add(1, Ordering::Relaxed);
        if self.draining.load(Ordering::SeqCst) {
            mailbox.end(End::Draining);
        }
        Place { hub: Arc::clone(self), device, generation, mailbox }
    }

    fn tell(&self, device: DeviceId, push: &Push, want: u8, except: u64) {
        if let Some(entries) = self.shard(device).get(&device) {
            for entry in entries.iter().filter(|entry| entry.generation != except) {
                entry.mailbox.push(push.clone(), want);
            }
        }
    }

    /// Ends all sessions.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.values().flatten().for_each(|entry| entry.mailbox.end(End::Draining));
        }
    }

    pub(crate) fn gateway_listens(&self, listens: bool) {
        match listens {
            true => self.listening_gateways.fetch_add(1, Ordering::SeqCst),
            false => self.listening_gateways.fetch_sub(1, Ordering::SeqCst),
        };
    }
}

/// The hub's ear to the domain's feed.
pub(crate) struct Pusher(pub(crate) Arc<Hub>);

impl StateListener for Pusher {
    fn changed(&self, change: &StateChange) {
        self.0.tell(change.device, &Push::State(change.state), wants::STATE, 0);
        if self.0.listening_gateways.load(Ordering::SeqCst) == 0 {
            return;
        }
        let Some(name) = change.name.clone() else { return };
        let (hub, device, state) = (Arc::clone(&self.0), change.device, change.state);
        // The gateways may have to be read from the store, which a hot path does not wait for.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let Some(intake) = hub.intake.get() else { return };
                if let Ok(gateways) = intake.gateways_of(device).await {
                    for gateway in gateways.iter() {
                        hub.tell(*gateway, &Push::Child(name.clone(), state), wants::CHILDREN, 0);
                    }
                }
            });
        }
    }

    fn revoked(&self, device: DeviceId) {
        if let Some(entries) = self.0.shard(device).get(&device) {
            entries.iter().for_each(|entry| entry.mailbox.end(End::Revoked));
        }
    }
}

impl Place {
    /// Passes a publish to the other sessions of the same device.
    pub(crate) fn relay(&self, topic: &str, payload: &[u8]) {
        let push = Push::Relayed(topic.into(), Bytes::copy_from_slice(payload));
        self.hub.tell(self.device, &push, wants::RELAYED, self.generation);
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shard = self.hub.shard(self.device);
        if let Some(entries) = shard.get_mut(&self.device) {
            entries.retain(|entry| entry.generation != self.generation);
            if entries.is_empty() {
                shard.remove(&self.device);
            }
        }
        drop(shard);
        self.hub.stats.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}
