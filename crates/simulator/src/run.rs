//! Plays many devices, gateways or owners at once.
//!
//! Every player has a connection and a stream of random numbers of its own, made from the run's seed, so a run can be
//! repeated. A confirm follows its ack at once: that is the proof that the ack was a promise.

mod arrivals;
mod devices;
mod gateways;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

pub use arrivals::{Load, load};
pub use devices::{Devices, devices};
pub use gateways::{Gateways, gateways};

use crate::body::{Encoding, Secrets};
use crate::people::{ClaimAnswer, Maker, Owner};
use crate::report::Tally;
use crate::transport::Addresses;
use crate::trouble::Trouble;

/// What every simulation needs to know.
#[derive(Clone)]
pub struct Scene {
    /// Where the server listens.
    pub addresses: Addresses,
    /// Makes the devices.
    pub maker: Maker,
    /// Confirms, if claims are to be confirmed.
    pub owner: Option<Owner>,
    /// Where secrets come from.
    pub secrets: Secrets,
    /// How long claims live; `None`: the server's default.
    pub lifetime: Option<Duration>,
    /// How messages are written.
    pub encoding: Encoding,
    /// Repeats the run.
    pub seed: u64,
    /// Progress, and the wish to stop.
    pub control: Control,
}

/// Seen and steered from outside. Cheap to clone.
#[derive(Clone, Default)]
pub struct Control(Arc<Shared>);

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    done: AtomicU64,
}

impl Control {
    /// Ends the run at the next safe point.
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the run is to end.
    pub fn stopped(&self) -> bool {
        self.0.stop.load(Ordering::Relaxed)
    }

    /// How many claims have been answered.
    pub fn done(&self) -> u64 {
        self.0.done.load(Ordering::Relaxed)
    }

    fn add(&self, claims: u64) {
        self.0.done.fetch_add(claims, Ordering::Relaxed);
    }
}

impl Scene {
    fn random(&self, player: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ player.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn profile(&self) -> &'static str {
        match self.encoding {
            Encoding::Json => "default",
            Encoding::Protobuf => "simulated-protobuf",
        }
    }

    /// What must be there before devices are made.
    async fn prepare(&self) -> Result<(), Trouble> {
        match self.encoding {
            Encoding::Json => Ok(()),
            Encoding::Protobuf => self.maker.protobuf_profile(self.profile()).await,
        }
    }

    /// Confirms right after the ack, and counts what came of it.
    async fn confirm(&self, name: &str, secret: &str, wrong: bool, tally: &mut Tally) {
        let Some(owner) = &self.owner else { return };
        if wrong {
            match owner.claim(name, "a wrong code").await {
                Ok(ClaimAnswer::Claimed) => tally.wrong_taken += 1,
                Ok(_) => tally.wrong_refused += 1,
                Err(_) => tally.errors += 1,
            }
        }
        let started = tokio::time::Instant::now();
        let answer = owner.claim(name, secret).await;
        tally.confirm.add(started.elapsed());
        match answer {
            Ok(ClaimAnswer::Claimed) => tally.confirmed += 1,
            Ok(refused) => {
                if refused == ClaimAnswer::Refused(None) {
                    tally.invisible += 1;
                }
                *tally.confirm_refused.entry(refused.reason()).or_default() += 1;
            }
            Err(_) => tally.errors += 1,
        }
    }
}

/// An access token nobody guesses. Not of the run's seed: who repeats a run must not repeat credentials.
fn token() -> String {
    use rand::distr::{Alphanumeric, SampleString as _};
    Alphanumeric.sample_string(&mut rand::rng(), 24)
}

/// Sets this run's devices apart from those of earlier runs.
fn tag() -> String {
    format!("{:06x}", rand::random::<u32>() & 0xFF_FFFF)
}
