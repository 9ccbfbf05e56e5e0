//! Whether a peer is where it says it is: Echo values (RFC 9175 §2.3), and when one is asked for.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;

use super::wire::code;
use super::{Endpoint, MINUTE};
use crate::reply::Reply;

/// How long an Echo value is good for: this bucket and the one before, milliseconds.
pub(super) const ECHO_BUCKET: u64 = 60_000;

impl Endpoint {
    /// Counts a refused credential of an address that has proven nothing: enough of them, and it must.
    pub(crate) fn refused_credential(&mut self, address: IpAddr, now: u64) {
        let key = self.hasher.hash_one(address);
        match self.refusals.get_mut(key) {
            Some((since, count)) if now.saturating_sub(*since) < MINUTE => *count += 1,
            _ => self.refusals.insert(key, (now, 1), now),
        }
    }

    pub(super) fn must_prove(&self, address: IpAddr, now: u64) -> bool {
        let refusals = self.refusals.get(self.hasher.hash_one(address));
        refusals.is_some_and(|(since, count)| now.saturating_sub(*since) < MINUTE && *count >= self.bounds.refusals)
    }

    pub(super) fn challenge(&self, peer: SocketAddr, now: u64) -> Reply {
        self.stats.challenges.fetch_add(1, Relaxed);
        Reply { echo: Some(self.echo(peer, now / ECHO_BUCKET)), ..Reply::of(code::UNAUTHORIZED) }
    }

    pub(super) fn echo(&self, peer: SocketAddr, bucket: u64) -> [u8; 8] {
        let mut hasher = blake3::Hasher::new_keyed(&self.echo_key);
        match peer.ip() {
            IpAddr::V4(ip) => hasher.update(&ip.octets()),
            IpAddr::V6(ip) => hasher.update(&ip.octets()),
        };
        hasher.update(&peer.port().to_be_bytes());
        hasher.update(&bucket.to_be_bytes());
        let mut value = [0; 8];
        value.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        value
    }

    pub(super) fn echo_is_good(&self, echo: &[u8], peer: SocketAddr, now: u64) -> bool {
        let bucket = now / ECHO_BUCKET;
        [bucket, bucket.wrapping_sub(1)].into_iter().any(|bucket| {
            let expected = self.echo(peer, bucket);
            // Constant time: it is a proof, if a small one.
            echo.len() == expected.len() && echo.iter().zip(expected).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
        })
    }
}
