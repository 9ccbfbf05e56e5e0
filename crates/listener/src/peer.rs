//! What a server and the handlers above it tell each other about a connection; put into the extensions of requests and
//! responses by protocols that have them.

use std::net::IpAddr;

/// The other side's address as the server knows it; never taken from what the client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddress(pub IpAddr);

/// Said by a handler: the peer has shown who it is, see [`Seat::authenticated`](crate::Seat::authenticated).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedIn;
