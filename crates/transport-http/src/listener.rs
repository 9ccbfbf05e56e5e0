//! Serves HTTP/1.1 on our own accept loop: one task a connection, a deadline on every read, an orderly end.
//!
//! Never `axum::serve`: it lets a silent peer stay for ever and takes 2.7 times the memory of an idle connection
//! (foundations 4). What is said here is said to any client; what devices mean is `routes.rs`.

mod body;
mod connection;
mod wire;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use ::listener::{Listener, Serving};
use axum::Router;

use crate::config::Limits;
use crate::routes::DeviceApi;

pub use body::Timely;
pub(crate) use body::{Answer, Collected, collect};

/// What one address serves.
#[derive(Clone)]
pub struct Site {
    /// The device API, at `/api/v1/`. Requests for it never pass the router, whose matching costs 5 to 13 %.
    pub devices: Option<DeviceApi>,
    /// Everything else. Its requests carry the extension [`::listener::PeerAddress`] and a body
    /// that fails with [`std::io::ErrorKind::TimedOut`] when the client takes too long; a response with the extension
    /// [`::listener::SignedIn`] takes the connection out of the unauthenticated.
    pub router: Router,
    /// Bounds.
    pub limits: Limits,
}

impl Site {
    /// Counts a limit that was met, where the device API is served: its intake holds the counters.
    fn limit_reached(&self, limit: &'static str) {
        if let Some(devices) = &self.devices {
            devices.limit_reached(limit);
        }
    }
}

/// Serves a site until [`Serving::drain`]: from then on requests that wait are answered, those in flight finished, and
/// idle connections closed.
///
/// # Panics
/// Outside a tokio runtime.
pub fn serve(listener: Listener, site: Site) -> Serving {
    let site = Arc::new(site);
    listener.serve(move |connection| connection::run(connection, Arc::clone(&site)))
}
