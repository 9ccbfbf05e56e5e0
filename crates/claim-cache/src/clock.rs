//! The clock of the process: the one place where time enters claimd.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use claim::Timestamp;

/// Now = the later of the wall clock and (wall clock at start + monotonic time since), and what another clock is ahead of it
/// where one is followed.
///
/// A wall clock that steps back is ignored until real time has caught up with it, and one that steps ahead is followed:
/// a step may end a claim early, never revive or lengthen it. Make one at start and hand clones of it around; all agree.
#[derive(Clone, Debug)]
pub struct SystemClock {
    started_wall: Timestamp,
    started: Instant,
    followed: Arc<Followed>,
}

/// The clock that is followed; nothing while there is none.
#[derive(Debug, Default)]
struct Followed {
    began: AtomicBool,
    /// Milliseconds.
    ahead: AtomicI64,
    /// What has been said before the clock that is followed fell behind.
    said: AtomicI64,
}

impl SystemClock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { started_wall: wall(), started: Instant::now(), followed: Arc::default() }
    }

    /// The present instant. Does not go back by more than the wall clock's last step ahead was corrected.
    pub fn now(&self) -> Timestamp {
        let ahead = self.followed.ahead.load(Ordering::Relaxed);
        let said = self.followed.said.load(Ordering::Relaxed);
        Timestamp::from_millis(self.machine().as_millis().saturating_add(ahead).max(said))
    }

    /// The present instant by this machine alone, whatever is followed.
    pub fn machine(&self) -> Timestamp {
        later(wall(), self.started_wall, self.started.elapsed())
    }

    /// From now on says what a clock says that is so many milliseconds ahead of [`SystemClock::machine`], or behind it if
    /// that is below zero. Where it had said more, it says the same until the other one has caught up; but not the first time,
    /// which is to be before anybody goes by this clock.
    pub fn follow(&self, ahead: i64) {
        if self.followed.began.swap(true, Ordering::Relaxed) {
            self.followed.said.fetch_max(self.now().as_millis(), Ordering::Relaxed);
        }
        self.followed.ahead.store(ahead, Ordering::Relaxed);
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

    #[test]
    fn a_clock_that_is_followed_and_falls_behind_does_not_turn_time_back() {
        let clock = SystemClock::start();
        let (copy, before) = (clock.clone(), clock.machine());
        clock.follow(3_600_000);
        let ahead = copy.now();
        assert!(ahead.as_millis() >= before.as_millis() + 3_600_000, "all clones follow");
        clock.follow(0);
        assert!(copy.now() >= ahead);
        assert!(clock.machine() < ahead, "the machine's own goes on as it was");
        let late = SystemClock::start();
        late.follow(-3_600_000);
        assert!(late.now() < late.machine(), "nobody went by it before");
    }
}
