//! A TCP proxy between a program under test and a store, whose faults are switched while it runs: late, cut, reset,
//! half-open, sliced.
//!
//! Not a model of a lossy network: bytes stay in order, and what was swallowed comes when the fault is lifted, as TCP would
//! send it again. The store is reached over its Unix socket; the program under test over TCP, where resets exist.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the program under test.
    ToStore,
    /// To the program under test.
    FromStore,
}

/// What happens to bytes on their way. A change also holds for bytes that wait already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// What was read at once comes so much later.
    Delay(Duration),
    /// Byte by byte, and after each one a pause, which may be none.
    Trickle(Duration),
    /// Nothing comes, and nothing is closed: half-open.
    Swallow,
    /// So many bytes more, of all connections together; the connection whose next byte it would be is reset.
    ResetAfter(u64),
    /// As `ResetAfter`, but closed in order (FIN), in the middle of whatever it was.
    CloseAfter(u64),
}

/// What happens to new connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Door {
    /// They reach the store.
    #[default]
    Open,
    /// They are reset at once.
    Reset,
    /// They are accepted, and nobody ever answers; not even when the door is opened again.
    Mute,
}

/// See the module's head. Ends with its last connection when dropped.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    store: watch::Sender<PathBuf>,
    ways: [Line; 2],
    door: watch::Sender<Door>,
    /// Connections older than this number are reset.
    resets: watch::Sender<u64>,
    accepted: AtomicU64,
    cut: AtomicU64,
}

/// One way.
#[derive(Default)]
struct Line {
    fault: watch::Sender<Fault>,
    /// Bytes until `ResetAfter` or `CloseAfter` strikes.
    left: AtomicU64,
    passed: AtomicU64,
}

/// How a connection ends.
enum End {
    /// One side closed, or its bytes were over.
    Closed,
    Reset,
}

impl FaultProxy {
    /// Before the store that listens on this Unix socket; without faults.
    pub fn before(store: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            store: watch::Sender::new(store.to_owned()),
            ways: Default::default(),
            door: watch::Sender::default(),
            resets: watch::Sender::default(),
            accepted: AtomicU64::new(0),
            cut: AtomicU64::new(0),
        });
        runtime.spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, runtime: Some(runtime) }
    }

    /// Where the program under test connects.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// New connections go to another store: a replica that takes over. Those there are stay where they are.
    pub fn lead_to(&self, store: &Path) {
        self.shared.store.send_replace(store.to_owned());
    }

    /// What happens to bytes one way, from now on.
    pub fn set(&self, way: Way, fault: Fault) {
        let line = self.shared.line(way);
        if let Fault::ResetAfter(bytes) | Fault::CloseAfter(bytes) = fault {
            line.left.store(bytes, Ordering::SeqCst);
        }
        line.fault.send_replace(fault);
    }

    /// What happens to new connections, from now on.
    pub fn door(&self, door: Door) {
        self.shared.door.send_replace(door);
    }

    /// Resets every connection there is.
    pub fn reset_all(&self) {
        let newest = self.shared.accepted.load(Ordering::SeqCst);
        self.shared.resets.send_replace(newest);
    }

    /// Lifts all faults.
    pub fn heal(&self) {
        self.door(Door::Open);
        self.set(Way::ToStore, Fault::None);
        self.set(Way::FromStore, Fault::None);
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections that a fault ended so far.
    pub fn cut(&self) -> u64 {
        self.shared.cut.load(Ordering::SeqCst)
    }

    /// Bytes that went one way so far.
    pub fn passed(&self, way: Way) -> u64 {
        self.shared.line(way).passed.load(Ordering::SeqCst)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn line(&self, way: Way) -> &Line {
        &self.ways[match way {
            Way::ToStore => 0,
            Way::FromStore => 1,
        }]
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let number = shared.accepted.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::spawn(carry(client, number, Arc::clone(&shared)));
    }
}

async fn carry(mut client: TcpStream, number: u64, shared: Arc<Shared>) {
    let _ = client.set_nodelay(true);
    let mut resets = shared.resets.subscribe();
    let reset = async move {
        let _ = resets.wait_for(|until| *until >= number).await;
    };
    let door = *shared.door.borrow();
    let end = tokio::select! {
        () = reset => End::Reset,
        end = through(&mut client, door, &shared) => end,
    };
    if matches!(end, End::Reset) {
        shared.cut.fetch_add(1, Ordering::SeqCst);
        // Closed without lingering, a socket sends RST.
        let _ = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
    }
}

async fn through(client: &mut TcpStream, door: Door, shared: &Shared) -> End {
    match door {
        Door::Open => {}
        Door::Reset => return End::Reset,
        Door::Mute => {
            let mut ignored = [0; 1024];
            while client.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
            return End::Closed;
        }
    }
    let store = shared.store.borrow().clone();
    let Ok(mut store) = UnixStream::connect(store).await else { return End::Reset };
    let (client_reads, client_writes) = client.split();
    let (store_reads, store_writes) = store.split();
    tokio::select! {
        end = pump(client_reads, store_writes, shared.line(Way::ToStore), shared) => end,
        end = pump(store_reads, client_writes, shared.line(Way::FromStore), shared) => end,
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, line: &Line, shared: &Shared) -> End {
    let mut fault = line.fault.subscribe();
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut chunk).await else { return End::Closed };
        let mut rest = &chunk[..read];
        while !rest.is_empty() {
            let now = *fault.borrow_and_update();
            let part = match now {
                Fault::None => rest.len(),
                Fault::Delay(delay) => match tokio::time::timeout(delay, fault.changed()).await {
                    Ok(_) => continue,
                    Err(_) => rest.len(),
                },
                Fault::Trickle(_) => 1,
                Fault::Swallow => {
                    let _ = fault.changed().await;
                    continue;
                }
                Fault::ResetAfter(_) | Fault::CloseAfter(_) => line.take(rest.len()),
            };
            let Ok(()) = to.write_all(&rest[..part]).await else { return End::Closed };
            line.passed.fetch_add(part as u64, Ordering::SeqCst);
            rest = &rest[part..];
            match now {
                Fault::Trickle(pause) if !pause.is_zero() => {
                    let _ = tokio::time::timeout(pause, fault.changed()).await;
                }
                // Without it the kernel may put the bytes together again.
                Fault::Trickle(_) => tokio::task::yield_now().await,
                Fault::ResetAfter(_) if !rest.is_empty() => return End::Reset,
                Fault::CloseAfter(_) if !rest.is_empty() => {
                    shared.cut.fetch_add(1, Ordering::SeqCst);
                    return End::Closed;
                }
                _ => {}
            }
        }
    }
}

impl Line {
    /// Takes as many of the bytes that may still pass as there are, at most `wanted`.
    fn take(&self, wanted: usize) -> usize {
        let mut taken = 0;
        let _ = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            taken = left.min(wanted as u64);
            Some(left - taken)
        });
        usize::try_from(taken).unwrap_or(wanted)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::os::unix::net::UnixListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A store that sends back what it gets.
    fn echo() -> (tempfile::TempDir, FaultProxy) {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("echo");
        let listener = UnixListener::bind(&socket).expect("a socket");
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
            }
        });
        (folder, FaultProxy::before(&socket))
    }

    fn connect(proxy: &FaultProxy) -> std::net::TcpStream {
        let stream = std::net::TcpStream::connect(proxy.address()).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream
    }

    fn said_back(stream: &mut std::net::TcpStream, said: &[u8]) -> std::io::Result<Vec<u8>> {
        stream.write_all(said)?;
        let mut back = vec![0; said.len()];
        stream.read_exact(&mut back)?;
        Ok(back)
    }

    #[test]
    fn without_faults_and_sliced_to_bytes_everything_comes_through() {
        let (_folder, proxy) = echo();
        let mut stream = connect(&proxy);
        assert_eq!(said_back(&mut stream, b"plain").expect("back"), b"plain");
        proxy.set(Way::ToStore, Fault::Trickle(Duration::ZERO));
        proxy.set(Way::FromStore, Fault::Trickle(Duration::from_micros(1)));
        assert_eq!(said_back(&mut stream, &[7; 500]).expect("back"), [7; 500]);
        // A byte is counted behind its way.
        let passed = || (proxy.passed(Way::ToStore), proxy.passed(Way::FromStore));
        crate::wait::eventually("all are counted", || (passed() == (505, 505)).then_some(()));
        assert_eq!((proxy.accepted(), proxy.cut()), (1, 0));
    }

    #[test]
    fn what_is_swallowed_or_late_comes_when_the_fault_is_lifted() {
        let (_folder, proxy) = echo();
        for fault in [Fault::Swallow, Fault::Delay(Duration::from_secs(3600))] {
            let mut stream = connect(&proxy);
            assert_eq!(said_back(&mut stream, b"before").expect("back"), b"before");
            proxy.set(Way::FromStore, fault);
            stream.write_all(b"during").expect("sent");
            stream.set_nonblocking(true).expect("set");
            assert_eq!(stream.read(&mut [0]).expect_err("nothing").kind(), ErrorKind::WouldBlock);
            stream.set_nonblocking(false).expect("set");
            proxy.heal();
            let mut back = [0; 6];
            stream.read_exact(&mut back).expect("back");
            assert_eq!(&back, b"during");
        }
    }

    #[test]
    fn a_connection_is_reset_or_closed_at_exactly_the_byte() {
        let (_folder, proxy) = echo();
        for (fault, end) in [(Fault::ResetAfter(3), Err(ErrorKind::ConnectionReset)), (Fault::CloseAfter(3), Ok(0))] {
            let passed = proxy.passed(Way::FromStore);
            let mut stream = connect(&proxy);
            proxy.set(Way::FromStore, fault);
            stream.write_all(b"seven!!").expect("sent");
            let mut back = Vec::new();
            let ended = loop {
                match stream.read(&mut [0; 1][..]).map_err(|error| error.kind()) {
                    Ok(1) => back.push(0),
                    ended => break ended,
                }
            };
            assert_eq!(ended, end);
            // A reset may overtake what came before it.
            assert!(back.len() <= 3);
            assert_eq!(proxy.passed(Way::FromStore) - passed, 3);
            proxy.heal();
        }
        assert_eq!(proxy.cut(), 2);
    }

    #[test]
    fn connections_are_reset_on_demand_and_the_door_is_shut_or_mute() {
        let (_folder, proxy) = echo();
        let mut stream = connect(&proxy);
        assert_eq!(said_back(&mut stream, b"a").expect("back"), b"a");
        proxy.reset_all();
        assert_eq!(stream.read(&mut [0]).expect_err("reset").kind(), ErrorKind::ConnectionReset);
        proxy.door(Door::Reset);
        assert!(said_back(&mut connect(&proxy), b"b").is_err());
        proxy.door(Door::Mute);
        let mut mute = connect(&proxy);
        mute.write_all(b"c").expect("taken");
        mute.set_nonblocking(true).expect("set");
        assert_eq!(mute.read(&mut [0]).expect_err("nothing").kind(), ErrorKind::WouldBlock);
        proxy.heal();
        assert_eq!(said_back(&mut connect(&proxy), b"d").expect("back"), b"d");
    }
}
