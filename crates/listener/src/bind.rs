//! Sockets that listen: several on one address, sharing the port by `SO_REUSEPORT`.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::proxy::Proxy;
use crate::serve::{Connection, Serving};
use crate::{Limits, Stats};

/// How to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Accept loops, each with its own socket. 1 or more.
    pub accept_loops: NonZeroUsize,
    /// Connections the kernel keeps for one loop until it accepts them.
    pub backlog: i32,
    /// How long sent data may stay unacknowledged by the peer's kernel before the connection is cut (RFC 5482).
    pub user_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            accept_loops: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            backlog: 4096,
            user_timeout: Duration::from_secs(30),
        }
    }
}

/// Sockets bound to one address; the kernel queues connections from now on.
#[derive(Debug)]
pub struct Listener {
    pub(crate) sockets: Vec<TcpListener>,
    pub(crate) address: SocketAddr,
    pub(crate) limits: Limits,
    pub(crate) stats: Arc<Stats>,
    pub(crate) proxy: Option<Arc<Proxy>>,
}

impl Listener {
    /// Listens on an address with one accept loop a core. Port 0 takes a free port, the same for all loops.
    pub fn bind(address: SocketAddr, limits: Limits) -> io::Result<Self> {
        Self::bind_with(address, limits, Options::default())
    }

    /// The same, with options.
    pub fn bind_with(address: SocketAddr, limits: Limits, options: Options) -> io::Result<Self> {
        if address.port() != 0 {
            // With SO_REUSEPORT a second server of the same user would silently get half of our connections. A socket
            // without it finds out.
            drop(socket(address, &options, false)?);
        }
        let first = socket(address, &options, true)?;
        let address = first.local_addr()?;
        let mut sockets = vec![first];
        for _ in 1..options.accept_loops.get() {
            sockets.push(socket(address, &options, true)?);
        }
        Ok(Self { sockets, address, limits, stats: Arc::default(), proxy: None })
    }

    /// Takes PROXY headers from those whom `proxy` trusts; without anyone, from nobody.
    #[must_use]
    pub fn behind(self, proxy: Arc<Proxy>) -> Self {
        Self { proxy: Some(proxy).filter(|proxy| !proxy.trusted.is_empty()), ..self }
    }

    /// The address really bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Counters, live.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    /// Accepts from now on, on the current tokio runtime. `handle` is called once a connection, and its future is the
    /// connection's task: a panic in it ends that connection alone.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn serve<H, F>(self, handle: H) -> Serving
    where
        H: Fn(Connection) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Serving::start(self, handle)
    }
}

/// One listening socket. `TCP_NODELAY` and `TCP_USER_TIMEOUT` are set here since accepted sockets inherit them: two system
/// calls a connection less.
fn socket(address: SocketAddr, options: &Options, share: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(options.user_timeout))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(options.backlog)?;
    Ok(socket.into())
}
