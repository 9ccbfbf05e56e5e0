//! The contract of [`SubmitRates`], rule by rule. Senders and addresses are fresh each time. [`all`] runs every rule.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use claim::limits::Budget;
use claim::ports::{SubmitRates, TooOften};
use claim::{DeviceId, Timestamp};

const MINUTE: Duration = Duration::from_secs(60);
const BUDGET: Budget = Budget { tries: 6, window: MINUTE };

/// Runs every rule.
pub fn all(rates: &dyn SubmitRates, now: Timestamp) {
    a_budget_may_be_spent_at_once_and_no_more(rates, now);
    after_a_quiet_window_the_budget_is_whole_again(rates, now);
    a_batch_is_admitted_whole_or_not_at_all(rates, now);
    senders_do_not_share(rates, now);
    the_wait_that_is_told_is_enough(rates, now);
    the_last_allowed_failure_locks_an_address(rates, now);
    failures_of_an_earlier_window_are_forgiven(rates, now);
}

/// The sixth of a minute is admitted, the seventh is not.
pub fn a_budget_may_be_spent_at_once_and_no_more(rates: &dyn SubmitRates, now: Timestamp) {
    let sender = DeviceId::random();
    for n in 0..6 {
        assert_eq!(rates.admit(sender, 1, BUDGET, now), Ok(()), "message {n}");
    }
    assert!(rates.admit(sender, 1, BUDGET, now).is_err());
}

/// However the adapter gives it back meanwhile.
pub fn after_a_quiet_window_the_budget_is_whole_again(rates: &dyn SubmitRates, now: Timestamp) {
    let sender = DeviceId::random();
    assert_eq!(rates.admit(sender, 6, BUDGET, now), Ok(()));
    assert_eq!(rates.admit(sender, 6, BUDGET, now.plus(MINUTE)), Ok(()));
}

/// What is refused costs nothing.
pub fn a_batch_is_admitted_whole_or_not_at_all(rates: &dyn SubmitRates, now: Timestamp) {
    let sender = DeviceId::random();
    assert_eq!(rates.admit(sender, 4, BUDGET, now), Ok(()));
    for _ in 0..10 {
        assert!(rates.admit(sender, 3, BUDGET, now).is_err());
    }
    assert_eq!(rates.admit(sender, 2, BUDGET, now), Ok(()));
}

/// One that sends too much takes nothing from another.
pub fn senders_do_not_share(rates: &dyn SubmitRates, now: Timestamp) {
    let (loud, quiet) = (DeviceId::random(), DeviceId::random());
    assert_eq!(rates.admit(loud, 6, BUDGET, now), Ok(()));
    assert!(rates.admit(loud, 1, BUDGET, now).is_err());
    assert_eq!(rates.admit(quiet, 6, BUDGET, now), Ok(()));
}

/// Whoever waits as long as told is admitted; the wait is above zero and within the window.
pub fn the_wait_that_is_told_is_enough(rates: &dyn SubmitRates, now: Timestamp) {
    let sender = DeviceId::random();
    assert_eq!(rates.admit(sender, 6, BUDGET, now), Ok(()));
    let Err(TooOften { retry_after }) = rates.admit(sender, 1, BUDGET, now) else { panic!("the seventh was admitted") };
    assert!(!retry_after.is_zero() && retry_after <= MINUTE, "{retry_after:?}");
    // Instants are whole milliseconds.
    let then = now.plus(retry_after + Duration::from_millis(1));
    assert_eq!(rates.admit(sender, 1, BUDGET, then), Ok(()));
}

fn addresses() -> [IpAddr; 2] {
    let bits = u128::from_be_bytes(*DeviceId::random().as_bytes());
    // Out of the documentation ranges, so that nothing else is meant.
    let v4 = Ipv4Addr::from(0xc633_6400 | (bits as u32 & 0xff));
    let v6 = Ipv6Addr::from((0x2001_0db8 << 96) | (bits >> 32));
    [v4.into(), v6.into()]
}

/// For as long as asked, and then it is open again.
pub fn the_last_allowed_failure_locks_an_address(rates: &dyn SubmitRates, now: Timestamp) {
    let lockout = Duration::from_secs(300);
    for address in addresses() {
        for _ in 0..6 {
            assert_eq!(rates.address_locked(address, now), Ok(()));
            rates.refused_credential(address, BUDGET, lockout, now);
        }
        assert_eq!(rates.address_locked(address, now), Err(TooOften { retry_after: lockout }));
        let last = now.plus(lockout - Duration::from_millis(1));
        assert_eq!(rates.address_locked(address, last), Err(TooOften { retry_after: Duration::from_millis(1) }));
        assert_eq!(rates.address_locked(address, now.plus(lockout)), Ok(()));
    }
}

/// Five a window lock nobody, for however long.
pub fn failures_of_an_earlier_window_are_forgiven(rates: &dyn SubmitRates, now: Timestamp) {
    // A day later: nothing of another rule counts any more.
    let mut now = now.plus(Duration::from_secs(24 * 3600));
    for address in addresses() {
        for _ in 0..4 {
            for _ in 0..5 {
                rates.refused_credential(address, BUDGET, MINUTE, now);
            }
            assert_eq!(rates.address_locked(address, now), Ok(()));
            now = now.plus(MINUTE);
        }
    }
}
