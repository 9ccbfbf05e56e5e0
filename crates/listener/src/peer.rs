//! What a server and the handlers above it tell each other about a connection; put into the extensions of requests and
//! responses by protocols that have them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The other side's address as the server knows it; never taken from what the client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddress(pub IpAddr);

/// Said by a handler: the peer has shown who it is, see [`Seat::authenticated`](crate::Seat::authenticated).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedIn;

/// Put into the extensions of each request for the router: whoever answers it may say that its body is a long one. Then the
/// time for the whole body becomes the time for each wait.
#[derive(Clone, Debug, Default)]
pub struct LongBody(Arc<AtomicBool>);

impl LongBody {
    /// The body may take long, as long as it goes on.
    pub fn expect(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it may.
    pub fn is_expected(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
