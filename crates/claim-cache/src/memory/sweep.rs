//! Finding what has ended. Nothing depends on when: readers check the expiry themselves; the sweeper frees room, tells who
//! listens, and gives memory back.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use claim::{DeviceId, Timestamp};

use super::MemoryClaimCache;
use super::table::Table;
use crate::clock::SystemClock;

/// Keys between two pauses.
const CHUNK: usize = 256;
/// Keys in one go, about a third of a second's work; if there are more, the sweeper takes a breath and goes on.
const BUDGET: usize = 1_000_000;
const INTERVAL: Duration = Duration::from_secs(1);
const BREATH: Duration = Duration::from_millis(100);
/// Sweeps between two looks at the map's spare memory.
const SHRINK_EVERY: u32 = 60;

pub(super) fn sweep(table: &Table, now: Timestamp, budget: usize, on_expired: &mut dyn FnMut(DeviceId)) -> usize {
    let mut looked_at = 0;
    while looked_at < budget {
        let keys = table.ring.take_due(now, CHUNK.min(budget - looked_at));
        if keys.is_empty() {
            break;
        }
        looked_at += keys.len();
        for device in keys {
            if table.visit(device, now) {
                on_expired(device);
            }
        }
        // On few cores the threads that serve devices go first.
        std::thread::yield_now();
    }
    while looked_at < budget {
        let forgotten = table.forget_due(now, CHUNK.min(budget - looked_at));
        looked_at += forgotten;
        if forgotten == 0 {
            break;
        }
        std::thread::yield_now();
    }
    looked_at
}

/// The thread that sweeps each second. Stops when dropped.
pub struct Sweeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sweeper {
    /// Starts the thread. `on_expired` is called on it, outside of every lock, once for each claim that has ended
    /// unclaimed; it should return soon.
    pub fn start(
        cache: Arc<MemoryClaimCache>,
        clock: SystemClock,
        mut on_expired: impl FnMut(DeviceId) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("claim-sweep".to_owned()).spawn(move || {
            let mut until_shrink = SHRINK_EVERY;
            let mut pause = INTERVAL;
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let looked_at = cache.sweep(clock.now(), BUDGET, &mut on_expired);
                pause = if looked_at < BUDGET { INTERVAL } else { BREATH };
                until_shrink -= 1;
                if until_shrink == 0 {
                    cache.shrink();
                    until_shrink = SHRINK_EVERY;
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }

    /// Ends the thread and waits for it.
    pub fn stop(self) {}
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the sweeper of the claim cache panicked");
        }
    }
}
