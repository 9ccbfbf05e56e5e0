//! The CoAP transport as the binary sees it: sockets, one task each, and the way from datagram to domain and back.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use claim::event::StateFeed;
use claim::{
    AuthError, AuthenticatedDevice, ClaimState, DeviceCredential, DeviceId, Intake, Origin, StateChange, StateListener,
    Timestamp, Transport,
};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, Limits};
use crate::endpoint::wire::{Outbox, code};
use crate::endpoint::{Ask, Endpoint, Watch, What};
use crate::reply::{self, Reply};
use crate::socket::{self, Inbox};
use crate::stats::Stats;

/// What the CoAP transport needs.
pub struct CoapParts<'a> {
    /// The domain.
    pub intake: Intake,
    /// Where claim states come from.
    pub feed: &'a StateFeed,
    /// The wall clock.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// The next request's id; one sequence for the whole process.
    pub request_ids: Arc<AtomicU64>,
    /// Under which Echo values are made, see [`claim::Keyring::echo_key`].
    pub echo_key: [u8; 32],
    /// The `[coap]` section.
    pub config: Config,
    /// Shared bounds.
    pub limits: Limits,
}

/// What all sockets share.
struct Shared {
    intake: Intake,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    request_ids: Arc<AtomicU64>,
    watched: Watched,
    /// What the endpoints' milliseconds count from.
    epoch: Instant,
}

/// Which devices are watched, so that the claims of all others cost one look at a counter.
#[derive(Default)]
struct Watched {
    count: AtomicUsize,
    devices: Mutex<HashMap<DeviceId, usize>>,
    bells: Mutex<Vec<Arc<Bell>>>,
}

/// What a socket's task is told.
#[derive(Default)]
struct Bell {
    rung: Mutex<Vec<DeviceId>>,
    notify: Notify,
}

impl Watched {
    fn add(&self, device: DeviceId) {
        *lock(&self.devices).entry(device).or_default() += 1;
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    fn remove(&self, device: DeviceId) {
        let mut devices = lock(&self.devices);
        if let Some(count) = devices.get_mut(&device) {
            *count -= 1;
            if *count == 0 {
                devices.remove(&device);
            }
        }
        self.count.fetch_sub(1, Ordering::SeqCst);
    }

    fn ring(&self, device: DeviceId) {
        if self.count.load(Ordering::SeqCst) == 0 || !lock(&self.devices).contains_key(&device) {
            return;
        }
        for bell in lock(&self.bells).iter() {
            lock(&bell.rung).push(device);
            bell.notify.notify_one();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The feed only rings; the state is read again from the domain, so no notification is older than its ring.
struct Ringer(Arc<Shared>);

impl StateListener for Ringer {
    fn changed(&self, change: &StateChange) {
        self.0.watched.ring(change.device);
    }

    fn revoked(&self, device: DeviceId) {
        self.0.watched.ring(device);
    }
}

/// The CoAP transport, bound.
pub struct CoapTransport {
    shared: Arc<Shared>,
    sockets: Vec<(UdpSocket, Endpoint)>,
    batch: (usize, usize),
    local_addr: SocketAddr,
    stats: Arc<Stats>,
}

impl CoapTransport {
    /// Opens the sockets and subscribes to the feed.
    ///
    /// # Errors
    /// The address is no address, in use, or not ours.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn bind(parts: CoapParts<'_>) -> io::Result<Self> {
        let CoapParts { intake, feed, clock, request_ids, echo_key, config, limits } = parts;
        let address = config.address().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let count = config.socket_count();
        let sockets = socket::open(address, count, config.receive_buffer_bytes)?;
        let local_addr = sockets[0].local_addr()?;
        let stats = Arc::<Stats>::default();
        let watched = Watched::default();
        let shared = Arc::new(Shared { intake, clock, request_ids, watched, epoch: Instant::now() });
        feed.subscribe(Arc::new(Ringer(Arc::clone(&shared))));
        let mut seeded = Vec::with_capacity(count);
        for socket in sockets {
            let mut seed = [0; 8];
            getrandom::fill(&mut seed).map_err(|_| io::Error::other("the system has no random bytes"))?;
            let seed = u64::from_be_bytes(seed);
            seeded.push((socket, Endpoint::new(&config, &limits, count, echo_key, seed, Arc::clone(&stats))));
        }
        Ok(Self { shared, sockets: seeded, batch: (config.batch, config.datagram_bytes), local_addr, stats })
    }

    /// The address really bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Counters, live.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    /// Serves until [`Serving::drain`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn serve(self) -> Serving {
        let (tasks, drain, stop) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        for (socket, endpoint) in self.sockets {
            let bell = Arc::<Bell>::default();
            lock(&self.shared.watched.bells).push(Arc::clone(&bell));
            let inbox = Inbox::new(self.batch.0, self.batch.1);
            let task = Task {
                shared: Arc::clone(&self.shared),
                socket,
                endpoint,
                inbox,
                outbox: Outbox::default(),
                running: FuturesUnordered::new(),
                done: Vec::new(),
                bell,
                watches: Watches::default(),
                stats: Arc::clone(&self.stats),
            };
            tasks.spawn(task.run(drain.clone(), stop.clone()));
        }
        tasks.close();
        Serving { tasks, drain, stop, local_addr: self.local_addr }
    }
}

/// CoAP at work.
pub struct Serving {
    tasks: TaskTracker,
    drain: CancellationToken,
    stop: CancellationToken,
    local_addr: SocketAddr,
}

impl Serving {
    /// The address really bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Answers new requests with 5.03, finishes those in flight, and stops; at the latest after `grace`. Returns whether all
    /// were finished.
    pub async fn drain(self, grace: Duration) -> bool {
        self.drain.cancel();
        let finished = tokio::time::timeout(grace, self.tasks.wait()).await.is_ok();
        self.stop.cancel();
        self.tasks.wait().await;
        finished
    }
}

/// What this socket's observers watch.
#[derive(Default)]
struct Watches {
    /// The device, and what its observer has been told.
    of: HashMap<u64, (Arc<AuthenticatedDevice>, ClaimState)>,
    by_device: HashMap<DeviceId, Vec<u64>>,
}

/// A finished piece of work.
enum Done {
    Answer {
        exchange: u64,
        reply: Reply,
        refused: Option<std::net::IpAddr>,
        watch: Option<(Arc<AuthenticatedDevice>, ClaimState)>,
    },
    /// The state of a watched device, or `None` when it is gone.
    News { observation: u64, state: Option<Result<ClaimState, claim::Unavailable>>, anyway: bool },
    /// A pending claim's end has come.
    Lapsed { device: DeviceId },
}

type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// One socket with its endpoint. Everything of a peer happens here, so nothing is locked.
struct Task {
    shared: Arc<Shared>,
    socket: UdpSocket,
    endpoint: Endpoint,
    inbox: Inbox,
    outbox: Outbox,
    running: FuturesUnordered<Work>,
    /// Work that did not have to wait; empty between two readings.
    done: Vec<Done>,
    bell: Arc<Bell>,
    watches: Watches,
    stats: Arc<Stats>,
}

impl Task {
    async fn run(mut self, drain: CancellationToken, stop: CancellationToken) {
        let mut timer = pin!(tokio::time::sleep_until(self.shared.epoch));
        let mut draining = false;
        loop {
            let due = self.endpoint.next_timeout().map(|ms| self.shared.epoch + Duration::from_millis(ms));
            if let Some(due) = due
                && (timer.is_elapsed() || due < timer.deadline())
            {
                timer.as_mut().reset(due);
            }
            if draining && self.endpoint.open() == 0 {
                return;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = drain.cancelled(), if !draining => {
                    draining = true;
                    self.endpoint.drain();
                }
                Some(done) = self.running.next(), if !self.running.is_empty() => {
                    self.finish(done, self.now());
                    self.finish_ready().await;
                }
                readable = self.socket.readable() => {
                    if readable.is_ok() {
                        self.read();
                        self.finish_ready().await;
                    }
                }
                () = self.bell.notify.notified() => self.rung(),
                () = timer.as_mut(), if due.is_some() => {
                    let now = self.now();
                    self.endpoint.expire(now, &mut self.outbox);
                }
            }
            self.follow_up();
            self.flush().await;
        }
    }

    fn now(&self) -> u64 {
        millis(self.shared.epoch.elapsed())
    }

    /// Whatever else is done by now, so that replies leave in one system call.
    async fn finish_ready(&mut self) {
        std::future::poll_fn(|cx| {
            // As many as there were; those that come meanwhile have their turn.
            for _ in 0..self.running.len() {
                match self.running.poll_next_unpin(cx) {
                    Poll::Ready(Some(done)) => self.finish(done, self.now()),
                    Poll::Ready(None) | Poll::Pending => break,
                }
            }
            Poll::Ready(())
        })
        .await;
    }

    fn read(&mut self) {
        let (inbox, socket) = (&mut self.inbox, &self.socket);
        let before = inbox.drops;
        // An error is of one datagram (such as ECONNREFUSED of an earlier send) or there is nothing: go on either way.
        if socket.try_io(Interest::READABLE, || inbox.receive(socket)).is_err() {
            return;
        }
        let drops = inbox.drops.wrapping_sub(before);
        if drops > 0 {
            self.stats.dropped.fetch_add(drops.into(), Ordering::Relaxed);
        }
        // One look at the clocks for all that came together.
        let arrival = Arrival { at: Instant::now(), time: (self.shared.clock)() };
        let now = millis(arrival.at - self.shared.epoch);
        let mut context = Context::from_waker(Waker::noop());
        for (route, bytes, cut) in self.inbox.iter() {
            if let Some(ask) = self.endpoint.receive(now, route, bytes, cut, &mut self.outbox) {
                let mut work: Work = Box::pin(decide(Arc::clone(&self.shared), ask, arrival));
                // Memory answers without waiting: no need for a queue, nor for a waker. What waits is polled again in the
                // queue, with the waker of this task.
                match work.as_mut().poll(&mut context) {
                    Poll::Ready(done) => self.done.push(done),
                    Poll::Pending => self.running.push(work),
                }
            }
            for limit in self.endpoint.reached() {
                self.shared.intake.meter().limit_reached(limit);
            }
        }
        let mut done = std::mem::take(&mut self.done);
        done.drain(..).for_each(|done| self.finish(done, now));
        self.done = done;
    }

    fn finish(&mut self, done: Done, now: u64) {
        match done {
            Done::Answer { exchange, reply, refused, watch } => {
                if let Some(address) = refused {
                    self.endpoint.refused_credential(address, now);
                }
                let observe = watch.is_some();
                let observation = self.endpoint.answer(now, exchange, reply, observe, &mut self.outbox);
                if let (Some(observation), Some((device, state))) = (observation, watch) {
                    self.watch(observation, device, state);
                }
            }
            Done::News { observation, state: Some(Ok(state)), anyway } => {
                let Some((device, told)) = self.watches.of.get_mut(&observation) else { return };
                let (device, changed) = (device.id(), std::mem::replace(told, state) != state);
                if changed {
                    self.await_lapse(device, state);
                }
                if changed || anyway {
                    self.endpoint.notify(now, observation, reply::state(Ok(state)), false, &mut self.outbox);
                }
            }
            // Told again when the store is back and something changes; the observation stays.
            Done::News { state: Some(Err(_)), .. } => {}
            Done::News { observation, state: None, .. } => {
                let gone = Reply::of(code::UNAUTHORIZED);
                self.endpoint.notify(now, observation, gone, true, &mut self.outbox);
            }
            Done::Lapsed { device } => self.look_again(device),
        }
    }

    fn watch(&mut self, observation: u64, device: Arc<AuthenticatedDevice>, state: ClaimState) {
        let id = device.id();
        if self.watches.of.insert(observation, (device, state)).is_none() {
            self.watches.by_device.entry(id).or_default().push(observation);
            self.shared.watched.add(id);
        }
        self.await_lapse(id, state);
        // What changed between the look at the state and now rang no bell of ours.
        self.running.push(Box::pin(std::future::ready(Done::Lapsed { device: id })));
    }

    /// The end of a pending claim rings no bell.
    fn await_lapse(&mut self, device: DeviceId, state: ClaimState) {
        if let ClaimState::Pending { expires_at } = state {
            let wait = (self.shared.clock)().until(expires_at);
            self.running.push(Box::pin(async move {
                tokio::time::sleep(wait).await;
                Done::Lapsed { device }
            }));
        }
    }

    fn rung(&mut self) {
        let rung = std::mem::take(&mut *lock(&self.bell.rung));
        for device in rung {
            self.look_again(device);
        }
    }

    fn look_again(&mut self, device: DeviceId) {
        let observations = self.watches.by_device.get(&device).cloned().unwrap_or_default();
        for observation in observations {
            self.look(observation, false);
        }
    }

    /// Looks at the state of an observed device; its observer is told if it changed, or `anyway`.
    fn look(&mut self, observation: u64, anyway: bool) {
        if let Some((device, _)) = self.watches.of.get(&observation) {
            self.running.push(Box::pin(news(Arc::clone(&self.shared), observation, Arc::clone(device), anyway)));
        }
    }

    /// Does what the endpoint has noted about observations.
    fn follow_up(&mut self) {
        let noted: Vec<Watch> = self.endpoint.watches().collect();
        for watch in noted {
            match watch {
                Watch::Refresh(observation) => self.look(observation, true),
                Watch::Ended(observation) => {
                    let Some((device, _)) = self.watches.of.remove(&observation) else { continue };
                    if let Some(observations) = self.watches.by_device.get_mut(&device.id()) {
                        observations.retain(|other| *other != observation);
                        if observations.is_empty() {
                            self.watches.by_device.remove(&device.id());
                        }
                    }
                    self.shared.watched.remove(device.id());
                }
            }
        }
    }

    async fn flush(&mut self) {
        let mut sent = 0;
        while sent < self.outbox.len() {
            match self.socket.try_io(Interest::WRITABLE, || socket::send(&self.socket, &self.outbox, sent)) {
                Ok(done) => {
                    sent += done.done;
                    self.stats.send_errors.fetch_add(done.failed as u64, Ordering::Relaxed);
                }
                // Full for the moment. A failure of the wait itself is the runtime's end.
                Err(_) => {
                    if self.socket.writable().await.is_err() {
                        break;
                    }
                }
            }
        }
        self.outbox.clear();
    }
}

/// When a datagram was read.
#[derive(Clone, Copy)]
struct Arrival {
    at: Instant,
    time: Timestamp,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Asks the domain.
async fn decide(shared: Arc<Shared>, ask: Ask, arrival: Arrival) -> Done {
    let origin = Origin {
        transport: Some(Transport::Coap),
        address: ask.peer.to_canonical(),
        address_proven: ask.proven,
        request_id: shared.request_ids.fetch_add(1, Ordering::Relaxed),
    };
    let now = arrival.time;
    let credential = DeviceCredential::AccessToken(&ask.access_token);
    let device = match shared.intake.authenticate(credential, &origin, now).await {
        Ok(device) => device,
        Err(error) => {
            let refused = (error == AuthError::Refused && !ask.proven).then_some(ask.peer);
            return Done::Answer {
                exchange: ask.exchange,
                reply: reply::not_authenticated(error),
                refused,
                watch: None,
            };
        }
    };
    let (reply, watch) = match ask.what {
        What::Submit(body) => {
            let result = shared.intake.submit(&device, &body, device.coap_format().into(), &origin, now).await;
            shared.intake.meter().submit_seconds(Transport::Coap, arrival.at.elapsed().as_secs_f64());
            (reply::submitted(&result), None)
        }
        What::State { observe } => {
            let state = shared.intake.claim_state(&device, now).await;
            let watch = state.ok().filter(|_| observe).map(|state| (Arc::new(device), state));
            (reply::state(state), watch)
        }
    };
    Done::Answer { exchange: ask.exchange, reply, refused: None, watch }
}

async fn news(shared: Arc<Shared>, observation: u64, device: Arc<AuthenticatedDevice>, anyway: bool) -> Done {
    let state = match shared.intake.still_exists(&device).await {
        Ok(true) => Some(shared.intake.claim_state(&device, (shared.clock)()).await),
        Ok(false) => None,
        Err(error) => Some(Err(error)),
    };
    Done::News { observation, state, anyway }
}
