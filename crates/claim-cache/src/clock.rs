//! The clock of the process: the one place where time enters claimd.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use claim::Timestamp;

/// Now = the later of the wall clock and (wall clock at start + monotonic time since).
///
/// A wall clock that steps back is ignored until real time has caught up with it, and one that steps ahead is followed:
/// a step may end a claim early, never revive or lengthen it. Make one at start and hand copies of it around; all copies
/// agree.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started_wall: Timestamp,
    started: Instant,
}

impl SystemClock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { started_wall: wall(), started: Instant::now() }
    }

    /// The present instant. Does not go back by more than the wall clock's last step ahead was corrected.
    pub fn now(&self) -> Timestamp {
        later(wall(), self.started_wall, self.started.elapsed())
    }

    /// Monotonic time since the start, for measuring.
    pub fn uptime(&self) -> std::time::Duration {
        self.started.elapsed()
    }
}

fn wall() -> Timestamp {
    // A clock before 1970 counts as 1970; the monotonic part carries on from there.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn later(wall: Timestamp, started_wall: Timestamp, elapsed: std::time::Duration) -> Timestamp {
    wall.max(started_wall.plus(elapsed))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_wall_clock_that_steps_back_does_not_turn_time_back() {
        let started = Timestamp::from_millis(1_000_000);
        let stepped_back = Timestamp::from_millis(10);
        assert_eq!(later(stepped_back, started, Duration::from_millis(500)), Timestamp::from_millis(1_000_500));
    }

    #[test]
    fn a_wall_clock_that_steps_ahead_is_followed() {
        let started = Timestamp::from_millis(1_000_000);
        let ahead = Timestamp::from_millis(9_000_000);
        assert_eq!(later(ahead, started, Duration::from_millis(500)), ahead);
    }
}
