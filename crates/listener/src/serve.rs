//! The accept loops and their end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::bind::Listener;
use crate::proxy::{self, Fault, Proxy, Said};
use crate::seat::{Seat, Seats};
use crate::{Stats, add};

/// A connection as it was accepted, behind its PROXY header if there was one. Its handshake, if any, is the first thing
/// its handler does.
#[derive(Debug)]
pub struct Connection {
    /// The socket, with `TCP_NODELAY` and `TCP_USER_TIMEOUT` set.
    pub stream: TcpStream,
    /// The other side; behind a trusted balancer the client that it names.
    pub peer: SocketAddr,
    /// Keep it as long as the connection lives.
    pub seat: Seat,
}

/// A listener at work. Dropping it stops accepting; open connections go on without it.
#[derive(Debug)]
pub struct Serving {
    seats: Arc<Seats>,
    address: SocketAddr,
    loops: Vec<JoinHandle<()>>,
}

/// How a drain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were open when it began.
    pub open: usize,
    /// Of these, cut at the deadline.
    pub aborted: usize,
}

/// First and longest pause after running out of descriptors.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// How long aborted tasks may take to be dropped.
const ABORT_GRACE: Duration = Duration::from_secs(1);

impl Serving {
    pub(crate) fn start<H, F>(listener: Listener, handle: H) -> Self
    where
        H: Fn(Connection) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let seats = Seats::new(listener.limits, listener.stats);
        let handle = Arc::new(handle);
        let loops = listener
            .sockets
            .into_iter()
            .filter_map(|socket| {
                let socket = TcpListener::from_std(socket)
                    .inspect_err(|error| tracing::error!(%error, "a listening socket cannot be watched"))
                    .ok()?;
                let (seats, handle, proxy) = (Arc::clone(&seats), Arc::clone(&handle), listener.proxy.clone());
                Some(tokio::spawn(async move {
                    let drain = seats.drain.clone();
                    tokio::select! {
                        () = drain.cancelled() => {}
                        () = accept_loop(socket, &seats, proxy.as_ref(), &handle) => {}
                    }
                }))
            })
            .collect();
        Self { seats, address: listener.address, loops }
    }

    /// The address really bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Counters, live.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.seats.stats)
    }

    /// Stops accepting, tells all connections to finish, waits for them, and cuts those that are left after `grace`.
    pub async fn drain(mut self, grace: Duration) -> Drained {
        self.seats.drain.cancel();
        for accepting in std::mem::take(&mut self.loops) {
            // A loop that panicked has closed its socket too.
            let _ = accepting.await;
        }
        let open = self.seats.open();
        if tokio::time::timeout(grace, self.seats.all_left()).await.is_ok() {
            return Drained { open, aborted: 0 };
        }
        let aborted = self.seats.abort_all();
        let _ = tokio::time::timeout(ABORT_GRACE, self.seats.all_left()).await;
        Drained { open, aborted }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.loops.iter().for_each(JoinHandle::abort);
    }
}

async fn accept_loop<H, F>(socket: TcpListener, seats: &Arc<Seats>, proxy: Option<&Arc<Proxy>>, handle: &Arc<H>)
where
    H: Fn(Connection) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut pause = BACK_OFF.0;
    loop {
        let (stream, peer) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) if exhausted(&error) => {
                add(&seats.stats.exhausted);
                tracing::warn!(%error, pause_ms = pause.as_millis(), "cannot accept; closing the oldest silent peer");
                seats.evict_oldest();
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(BACK_OFF.1);
                continue;
            }
            Err(_) => {
                // The peer was gone before we looked (accept(2): treat network errors like EAGAIN).
                add(&seats.stats.accept_errors);
                continue;
            }
        };
        pause = BACK_OFF.0;
        add(&seats.stats.accepted);
        // Spawned outside the table's lock: a runtime that is ending drops the task, and so its seat, right here.
        let (id, task) = match proxy {
            Some(proxy) if proxy.trusts(peer.ip()) => {
                let seat = seats.take_for_another(proxy.awaited);
                let (id, proxy, handle) = (seat.id(), Arc::clone(proxy), Arc::clone(handle));
                (id, tokio::spawn(passed_on(Connection { stream, peer, seat }, proxy, handle)))
            }
            _ => {
                let seat = seats.take(peer.ip());
                (seat.id(), tokio::spawn(handle(Connection { stream, peer, seat })))
            }
        };
        seats.seated(id, task.abort_handle());
    }
}

/// A trusted peer's connection: nobody's until its header has come.
async fn passed_on<H, F>(mut connection: Connection, proxy: Arc<Proxy>, handle: Arc<H>)
where
    H: Fn(Connection) -> F,
    F: Future<Output = ()>,
{
    let read = tokio::time::timeout(proxy.patience, proxy::read(&mut connection.stream, proxy.header_bytes));
    let read = tokio::select! {
        read = read => read,
        () = connection.seat.draining() => return,
    };
    let said = match read {
        Ok(Ok(said)) => said,
        Ok(Err(Fault::Nothing)) => return,
        Ok(Err(fault)) => {
            let count = connection.seat.stats().proxy_malformed.fetch_add(1, Ordering::Relaxed) + 1;
            // A balancer that sends none does so for every client; the log gets a few lines of that.
            if count.is_power_of_two() {
                tracing::warn!(peer = %connection.peer, %fault, count, "closed: its address is in `proxy.trusted`");
            }
            return;
        }
        Err(_) => return add(&connection.seat.stats().proxy_late),
    };
    match said {
        Said::Itself => connection.seat.taken_by(None),
        Said::Client(client) => {
            connection.peer = client;
            connection.seat.taken_by(Some(client.ip()));
        }
    }
    handle(connection).await;
}

/// Out of descriptors or memory: the connection stays in the queue, so accepting again at once would spin.
fn exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
