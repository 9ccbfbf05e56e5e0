//! Who sits where: counts and caps of a listener's open connections, and the budget of those not signed in yet.
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
        if let Some(address) = table.addresses.get_mut(&place.address) {
            address.open -= 1;
            if address.open == 0 {
                table.addresses.remove(&place.address);
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
    waiting: BTreeMap<u64, IpAddr>,
}

#[derive(Debug)]
struct Place {
    address: IpAddr,
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
        let id = table.next;
        table.next += 1;
        let over = if table.open.len() >= self.limits.connections {
            add(&self.stats.over_connections);
            Some(Cap::Connections)
        } else if table.addresses.get(&peer).is_some_and(|a| a.open >= self.limits.connections_per_address) {
            add(&self.stats.over_connections_per_address);
            Some(Cap::ConnectionsPerAddress)
        } else {
            None
        };
        let address = table.addresses.entry(peer).or_default();
        if address.waiting.len() >= self.limits.unauthenticated_per_address
            && let Some(oldest) = address.waiting.first().copied()
        {
            add(&self.stats.evicted_per_address);
            self.evict(table, oldest);
        }
        if table.waiting.len() >= self.limits.unauthenticated
            && let Some(oldest) = table.waiting.first_key_value().map(|(id, _)| *id)
        {
            add(&self.stats.evicted);
            self.evict(table, oldest);
        }
        let address = table.addresses.entry(peer).or_default();
        address.open += 1;
        address.waiting.insert(id);
        table.waiting.insert(id, peer);
        table.open.insert(id, Place { address: peer, task: Task::Coming });
        add(&self.stats.open);
        add(&self.stats.unauthenticated);
        Seat { seats: Arc::clone(self), id, over }
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
    fn leave_waiting(&mut self, id: u64, address: IpAddr) -> bool {
        if let Some(address) = self.addresses.get_mut(&address) {
            address.waiting.remove(&id);
        }
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
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_subscriber_is_one_address() {
        let key = |text: &str| budget_key(text.parse().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1:2"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }

    #[test]
    fn a_seat_is_counted_once_and_given_back_once() {
        let seats = Seats::new(Limits::default(), Arc::default());
        let seat = seats.take("192.0.2.1".parse().unwrap());
        seat.authenticated();
        seat.authenticated();
        assert_eq!(seats.stats.unauthenticated.load(Ordering::Relaxed), 0);
        assert_eq!(seats.stats.open.load(Ordering::Relaxed), 1);
        drop(seat);
        assert_eq!(seats.stats.open.load(Ordering::Relaxed), 0);
        assert_eq!(seats.open(), 0);
        assert!(seats.lock().addresses.is_empty(), "an address without connections is forgotten");
    }

    #[test]
    fn caps_hold_at_their_bound() {
        let limits = Limits { connections: 3, connections_per_address: 2, ..Limits::default() };
        let seats = Seats::new(limits, Arc::default());
        let one: IpAddr = "192.0.2.1".parse().unwrap();
        let two: IpAddr = "192.0.2.2".parse().unwrap();
        let first = seats.take(one);
        let second = seats.take(one);
        assert_eq!((first.admission(), second.admission()), (Ok(()), Ok(())));
        let third = seats.take(one);
        assert_eq!(third.admission(), Err(Cap::ConnectionsPerAddress));
        drop(third);
        let other = seats.take(two);
        assert_eq!(other.admission(), Ok(()));
        assert_eq!(seats.take(two).admission(), Err(Cap::Connections));
        drop(first);
        assert_eq!(seats.take(one).admission(), Ok(()));
    }

    #[tokio::test]
    async fn one_more_unauthenticated_closes_the_oldest_and_no_other() {
        let limits = Limits { unauthenticated: 3, unauthenticated_per_address: 2, ..Limits::default() };
        let seats = Seats::new(limits, Arc::default());
        let sit = |ip: &str| {
            let seat = seats.take(ip.parse().unwrap());
            let id = seat.id();
            let task = tokio::spawn(async move {
                let _seat = seat;
                std::future::pending::<()>().await;
            });
            seats.seated(id, task.abort_handle());
            task
        };
        let (a1, a2) = (sit("192.0.2.1"), sit("192.0.2.1"));
        let a3 = sit("192.0.2.1");
        assert!(a1.await.unwrap_err().is_cancelled(), "the oldest of the address went");
        let b1 = sit("192.0.2.2");
        let b2 = sit("192.0.2.2");
        assert!(a2.await.unwrap_err().is_cancelled(), "the oldest of all went");
        assert!(!a3.is_finished() && !b1.is_finished() && !b2.is_finished());
        assert_eq!(seats.stats.evicted.load(Ordering::Relaxed), 1);
        assert_eq!(seats.stats.evicted_per_address.load(Ordering::Relaxed), 1);
        assert_eq!(seats.stats.unauthenticated.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn a_connection_evicted_before_its_task_is_known_is_closed_then() {
        let limits = Limits { unauthenticated: 1, ..Limits::default() };
        let seats = Seats::new(limits, Arc::default());
        let first = seats.take("192.0.2.1".parse().unwrap());
        let _second = seats.take("192.0.2.1".parse().unwrap());
        let id = first.id();
        let task = tokio::spawn(async move {
            let _seat = first;
            std::future::pending::<()>().await;
        });
        seats.seated(id, task.abort_handle());
        assert!(task.await.unwrap_err().is_cancelled());
    }
}
