//! Watching the wall clock for steps: a clock that was set, by hand or by a time service, and not slewed. claimd bears it (a
//! step may end a claim early, never revive one); the operator should know of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// A difference to monotonic time that no slewing makes in a look's time; a second's leap included.
const STEP: Duration = Duration::from_millis(500);

/// Steps since the start.
#[derive(Default)]
pub(crate) struct Steps {
    pub(crate) forward: AtomicU64,
    pub(crate) backward: AtomicU64,
}

impl Steps {
    /// Looks once a second until it is aborted.
    pub(crate) async fn watch(&self) {
        let (mut wall, mut since) = (since_1970(), Instant::now());
        loop {
            tokio::time::sleep(PAUSE).await;
            let (now_wall, now) = (since_1970(), Instant::now());
            self.look(wall, now_wall, now - since);
            (wall, since) = (now_wall, now);
        }
    }

    fn look(&self, before: Duration, after: Duration, passed: Duration) {
        let expected = before + passed;
        if after > expected + STEP {
            self.forward.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(by = ?(after - expected), "the wall clock stepped ahead");
        } else if after + STEP < expected {
            self.backward.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(by = ?(expected - after), "the wall clock stepped back");
        }
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_counted_in_its_direction_and_a_slow_second_is_none() {
        let steps = Steps::default();
        let at = Duration::from_secs(1_000_000);
        for (after, passed) in [(1_000, 1_000), (90_000, 90_000), (1_500, 1_000), (500, 1_000)] {
            steps.look(at, at + Duration::from_millis(after), Duration::from_millis(passed));
        }
        assert_eq!((steps.forward.load(Ordering::Relaxed), steps.backward.load(Ordering::Relaxed)), (0, 0));
        steps.look(at, at + Duration::from_millis(1_501), Duration::from_millis(1_000));
        steps.look(at, at + Duration::from_millis(499), Duration::from_millis(1_000));
        steps.look(at, at - Duration::from_secs(3_600), Duration::from_millis(1_000));
        assert_eq!((steps.forward.load(Ordering::Relaxed), steps.backward.load(Ordering::Relaxed)), (1, 2));
    }
}
