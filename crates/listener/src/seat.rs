//! Who sits where: counts and caps of a listener's open connections, and the budget of those not signed in yet.
//!
//! Behind a balancer a connection has no address until its PROXY header has come: it counts among all, and among those
//! awaited, who have a bound of their own.
//!
//! One mutex, held for a few map operations and never across anything that waits. Closing a connection from outside is
//! aborting its task: dropping the task drops its socket.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::{Limits, Stats, add};

/// A connection's place at its listener; given back when dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    id: u64,
    over: Option<Cap>,
}

/// A cap that a new connection met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    /// `connections`.
    Connections,
    /// `connections_per_address`.
    ConnectionsPerAddress,
}

impl Cap {
    /// The cap's configuration key under `[limits]`.
    pub fn name(self) -> &'static str {
        match self {
            Cap::Connections => "connections",
            Cap::ConnectionsPerAddress => "connections_per_address",
        }
    }
}

impl Seat {
    /// A seat of its own, at no listener: for a protocol that is run without a socket.
    #[doc(hidden)]
    pub fn alone(peer: IpAddr) -> Self {
        Seats::new(Limits::default(), Arc::default()).take(peer)
    }

    /// Whether the connection is within the caps. If not, its protocol should say so if it can, and end: until then it
    /// stays among the unauthenticated, whose budget bounds it.
    pub fn admission(&self) -> Result<(), Cap> {
        self.over.map_or(Ok(()), Err)
    }

    /// The peer has signed in: it leaves the budget of the unauthenticated. Does nothing the second time.
    pub fn authenticated(&self) {
        let mut table = self.seats.lock();
        let Some(address) = table.open.get(&self.id).map(|place| place.address) else { return };
        if table.leave_waiting(self.id, address) {
            self.seats.stats.unauthenticated.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Its PROXY header has come: the connection is this client's, or the balancer's own, which counts for no address.
    /// May close the oldest unauthenticated one of the client.
    pub(crate) fn taken_by(&mut self, client: Option<IpAddr>) {
        let seats = &*self.seats;
        let mut table = seats.lock();
        let table = &mut *table;
        table.awaited.remove(&self.id);
        // One that was told to end meanwhile takes nobody's place.
        let (Some(client), true) = (client.map(budget_key), table.waiting.contains_key(&self.id)) else { return };
        if self.over.is_none() && seats.is_full(table, client) {
            self.over = Some(Cap::ConnectionsPerAddress);
        }
        seats.make_room(table, client);
        seats.sit(table, self.id, client);
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.seats.stats
    }

    /// Whether the listener has begun to drain.
    pub fn is_draining(&self) -> bool {
        self.seats.drain.is_cancelled()
    }

    /// Resolves when the listener begins to drain: finish what is in flight and end.
    pub fn draining(&self) -> WaitForCancellationFutureOwned {
        self.seats.drain.clone().cancelled_owned()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.seats.lock();
        let Some(place) = table.open.remove(&self.id) else { return };
        if table.leave_waiting(self.id, place.address) {
            self.seats.stats.unauthenticated.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(key) = place.address
            && let Some(address) = table.addresses.get_mut(&key)
        {
            address.open -= 1;
            if address.open == 0 {
                table.addresses.remove(&key);
            }
        }
        self.seats.stats.open.fetch_sub(1, Ordering::Relaxed);
        if table.open.is_empty() {
            self.seats.empty.notify_waiters();
        }
    }
}

/// All seats of one listener.
#[derive(Debug)]
pub(crate) struct Seats {
    table: Mutex<Table>,
    limits: Limits,
    pub(crate) stats: Arc<Stats>,
    pub(crate) drain: CancellationToken,
    empty: Notify,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Place>,
    addresses: HashMap<IpAddr, Address>,
    /// The unauthenticated by age.
    waiting: BTreeMap<u64, Option<IpAddr>>,
    /// Of these, those whose PROXY header has not come.
    awaited: BTreeSet<u64>,
}

#[derive(Debug)]
struct Place {
    /// Whose connections it counts among; `None` behind a balancer, until the header says whose, and for its own.
    address: Option<IpAddr>,
    task: Task,
}

/// A connection's task, as far as it is known.
#[derive(Debug)]
enum Task {
    /// About to be spawned.
    Coming,
    Running(AbortHandle),
    /// To be aborted as soon as it is known.
    Unwanted,
}

#[derive(Debug, Default)]
struct Address {
    open: usize,
    waiting: BTreeSet<u64>,
}

impl Seats {
    pub(crate) fn new(limits: Limits, stats: Arc<Stats>) -> Arc<Self> {
        Arc::new(Self { table: Mutex::default(), limits, stats, drain: CancellationToken::new(), empty: Notify::new() })
    }

    /// A seat for a new connection; may close the oldest unauthenticated one.
    pub(crate) fn take(self: &Arc<Self>, peer: IpAddr) -> Seat {
        let peer = budget_key(peer);
        let mut table = self.lock();
        let table = &mut *table;
        let over = self.over(table).or_else(|| self.is_full(table, peer).then_some(Cap::ConnectionsPerAddress));
        self.make_room(table, peer);
        let id = self.enter(table);
        self.sit(table, id, peer);
        Seat { seats: Arc::clone(self), id, over }
    }

    /// A seat for a connection that a balancer passes on: nobody's until [`Seat::taken_by`]. Beyond `awaited` such seats
    /// it closes the oldest of them.
    pub(crate) fn take_for_another(self: &Arc<Self>, awaited: usize) -> Seat {
        let mut table = self.lock();
        let table = &mut *table;
        let over = self.over(table);
        if table.awaited.len() >= awaited
            && let Some(oldest) = table.awaited.first().copied()
        {
            add(&self.stats.evicted_awaited);
            self.evict(table, oldest);
        }
        let id = self.enter(table);
        table.awaited.insert(id);
        Seat { seats: Arc::clone(self), id, over }
    }

    fn over(&self, table: &Table) -> Option<Cap> {
        (table.open.len() >= self.limits.connections).then(|| {
            add(&self.stats.over_connections);
            Cap::Connections
        })
    }

    fn is_full(&self, table: &Table, key: IpAddr) -> bool {
        let full = table.addresses.get(&key).is_some_and(|a| a.open >= self.limits.connections_per_address);
        if full {
            add(&self.stats.over_connections_per_address);
        }
        full
    }

    /// A new place among all the unauthenticated.
    fn enter(&self, table: &mut Table) -> u64 {
        if table.waiting.len() >= self.limits.unauthenticated
            && let Some(oldest) = table.waiting.first_key_value().map(|(id, _)| *id)
        {
            add(&self.stats.evicted);
            self.evict(table, oldest);
        }
        let id = table.next;
        table.next += 1;
        table.waiting.insert(id, None);
        table.open.insert(id, Place { address: None, task: Task::Coming });
        add(&self.stats.open);
        add(&self.stats.unauthenticated);
        id
    }

    /// Among an address's unauthenticated.
    fn make_room(&self, table: &mut Table, key: IpAddr) {
        let Some(address) = table.addresses.get(&key) else { return };
        if address.waiting.len() >= self.limits.unauthenticated_per_address
            && let Some(oldest) = address.waiting.first().copied()
        {
            add(&self.stats.evicted_per_address);
            self.evict(table, oldest);
        }
    }

    /// Gives an address to a place that has none.
    fn sit(&self, table: &mut Table, id: u64, key: IpAddr) {
        let address = table.addresses.entry(key).or_default();
        address.open += 1;
        address.waiting.insert(id);
        table.waiting.insert(id, Some(key));
        if let Some(place) = table.open.get_mut(&id) {
            place.address = Some(key);
        }
    }

    /// Says which task sits there, so that it can be closed from outside.
    pub(crate) fn seated(&self, id: u64, task: AbortHandle) {
        let mut table = self.lock();
        let Some(place) = table.open.get_mut(&id) else { return };
        if let Task::Unwanted = place.task {
            task.abort();
        } else {
            place.task = Task::Running(task);
        }
    }

    /// Closes the oldest unauthenticated connection, to get its descriptor back.
    pub(crate) fn evict_oldest(&self) {
        let mut table = self.lock();
        if let Some(oldest) = table.waiting.first_key_value().map(|(id, _)| *id) {
            add(&self.stats.evicted);
            self.evict(&mut table, oldest);
        }
    }

    fn evict(&self, table: &mut Table, id: u64) {
        if let Some(place) = table.open.get_mut(&id) {
            place.end();
            let address = place.address;
            if table.leave_waiting(id, address) {
                self.stats.unauthenticated.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Closes all connections; returns how many there were.
    pub(crate) fn abort_all(&self) -> usize {
        let mut table = self.lock();
        table.open.values_mut().for_each(Place::end);
        table.open.len()
    }

    /// How many are open.
    pub(crate) fn open(&self) -> usize {
        self.lock().open.len()
    }

    /// Resolves when nobody is left.
    pub(crate) async fn all_left(&self) {
        loop {
            let left = self.empty.notified();
            if self.lock().open.is_empty() {
                return;
            }
            left.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

impl Place {
    fn end(&mut self) {
        if let Task::Running(task) = &self.task {
            task.abort();
        } else {
            self.task = Task::Unwanted;
        }
    }
}

impl Table {
    /// Whether it was among the unauthenticated.
    fn leave_waiting(&mut self, id: u64, address: Option<IpAddr>) -> bool {
        if let Some(address) = address.and_then(|key| self.addresses.get_mut(&key)) {
            address.waiting.remove(&id);
        }
        self.awaited.remove(&id);
        self.waiting.remove(&id).is_some()
    }
}

/// What counts as one address: IPv4 (mapped or not), or the /64 that a single IPv6 subscriber is given.
fn budget_key(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests;
