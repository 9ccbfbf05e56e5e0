//! The time that all nodes share is their database's: each measures how far that is ahead of its machine's clock and goes by
//! it, so that what one node received is compared with what another one decided.
//!
//! A machine whose clock is far off is told to its operator, and farther off it is not ready: between two measurements its
//! clock is believed, and such a clock is not one to believe.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use claim::Unavailable;
use claim_cache::SystemClock;
use registry::Registry;
use tokio_util::sync::CancellationToken;

/// From one measurement to the next.
const EVERY: Duration = Duration::from_secs(10);
/// The operator is told, milliseconds. As much the fence of an unclaim allows for (`registry`).
const NOTABLE: i64 = 5_000;
/// The node is not ready, milliseconds.
const INTOLERABLE: i64 = 60_000;

/// What was measured last; nothing where the node is alone with its registry.
#[derive(Default)]
pub(crate) struct Skew {
    ahead: AtomicI64,
    told: AtomicBool,
}

impl Skew {
    /// Measures, and lets the clock follow.
    pub(crate) async fn measure(&self, registry: &dyn Registry, clock: &SystemClock) -> Result<(), Unavailable> {
        let Some(ahead) = registry.clock_ahead(&|| clock.machine()).await? else { return Ok(()) };
        clock.follow(ahead);
        self.ahead.store(ahead, Ordering::Relaxed);
        let notable = ahead.unsigned_abs() > NOTABLE.unsigned_abs();
        if notable && !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                ahead_ms = ahead,
                ready = self.tolerable(),
                "this machine's clock is not the database's: let both keep time by NTP"
            );
        } else if !notable && self.told.swap(false, Ordering::Relaxed) {
            tracing::info!(ahead_ms = ahead, "this machine's clock is the database's again");
        }
        Ok(())
    }

    /// How far the database's clock is ahead of this machine's, milliseconds.
    pub(crate) fn ahead(&self) -> i64 {
        self.ahead.load(Ordering::Relaxed)
    }

    /// Whether the node may serve with it.
    pub(crate) fn tolerable(&self) -> bool {
        self.ahead().unsigned_abs() <= INTOLERABLE.unsigned_abs()
    }
}

/// Measures until `stop`. While the registry is away what was measured last goes on.
pub(crate) async fn follow(registry: Arc<dyn Registry>, clock: SystemClock, skew: Arc<Skew>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let _ = skew.measure(&*registry, &clock).await;
    }
}
