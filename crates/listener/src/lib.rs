//! TCP listeners: one accept loop a core over `SO_REUSEPORT`, caps before any protocol, and an orderly end.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use listener::{Limits, Listener};
//!
//! let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), Limits::default())?;
//! let serving = listener.serve(|connection| async move {
//!     // A TLS handshake would be made here, inside the connection's own task.
//!     connection.seat.authenticated();
//! });
//! println!("{}", serving.local_addr());
//! serving.drain(std::time::Duration::from_secs(20)).await;
//! # Ok(()) }
//! ```
//!
//! Every connection holds a [`Seat`] until it ends. A connection is *unauthenticated* until its protocol says otherwise
//! ([`Seat::authenticated`]); of those there is a budget, and beyond it the oldest is closed, so that silent peers cannot
//! keep honest ones out. What is said to a connection beyond the caps is up to its protocol ([`Seat::admission`]).
//!
//! Behind a balancer ([`Listener::behind`]) a connection begins when its PROXY header has come: its address is then the
//! client's, for every limit. Beyond that header this crate knows no protocol, reads no byte and sends none.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod bind;
#[doc(hidden)]
pub mod fuzzing;
mod peer;
mod proxy;
mod seat;
mod serve;

use std::sync::atomic::{AtomicU64, Ordering};

pub use bind::{Listener, Options};
pub use ipnet::IpNet;
pub use peer::{LongBody, PeerAddress, SignedIn};
pub use proxy::Proxy;
pub use seat::{Cap, Seat};
pub use serve::{Connection, Drained, Serving};

/// How many connections one listener takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections. 1 or more.
    pub connections: usize,
    /// Open connections of one address (IPv6: of one /64). 1 or more.
    pub connections_per_address: usize,
    /// Connections that have not signed in yet; one more closes the oldest. 1 or more.
    pub unauthenticated: usize,
    /// The same, of one address. 1 or more.
    pub unauthenticated_per_address: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 100_000,
            connections_per_address: 10_000,
            unauthenticated: 8_192,
            unauthenticated_per_address: 1_024,
        }
    }
}

/// What a listener has seen, for metrics. All but the two gauges only grow.
#[derive(Debug, Default)]
pub struct Stats {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections open now.
    pub open: AtomicU64,
    /// Of these, not signed in.
    pub unauthenticated: AtomicU64,
    /// Connections that came beyond `connections`.
    pub over_connections: AtomicU64,
    /// Connections that came beyond `connections_per_address`.
    pub over_connections_per_address: AtomicU64,
    /// Connections closed for a newer one by `unauthenticated`.
    pub evicted: AtomicU64,
    /// Connections closed for a newer one by `unauthenticated_per_address`.
    pub evicted_per_address: AtomicU64,
    /// Connections of trusted peers closed for a newer one, before their PROXY header had come.
    pub evicted_awaited: AtomicU64,
    /// Connections of trusted peers that did not begin with a PROXY header as it should be.
    pub proxy_malformed: AtomicU64,
    /// Connections of trusted peers whose PROXY header did not come in time.
    pub proxy_late: AtomicU64,
    /// Times the process ran out of descriptors or buffers while accepting.
    pub exhausted: AtomicU64,
    /// Other failures to accept: the peer was gone already.
    pub accept_errors: AtomicU64,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
