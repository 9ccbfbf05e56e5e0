//! The contract of [`AttemptLedger`], rule by rule. Accounts and devices are fresh each time. [`all`] runs every rule.

use std::sync::Arc;
use std::time::Duration;

use claim::limits::AttemptBudgets;
use claim::ports::{AttemptKeys, AttemptLedger, AttemptScope, Reservation, ReserveError};
use claim::{DeviceId, Timestamp, UserId};

/// A fresh account at a fresh device.
pub fn fresh_keys() -> AttemptKeys {
    AttemptKeys { account: UserId::random(), name: *DeviceId::random().as_bytes() }
}

const MINUTE: Duration = Duration::from_secs(60);
const MILLI: Duration = Duration::from_millis(1);

/// Runs every rule, with budgets 5, 20 and 50.
pub async fn all(ledger: &Arc<dyn AttemptLedger>, now: Timestamp) {
    an_account_has_five_tries_at_a_device_in_ten_minutes(&**ledger, now).await;
    an_account_has_twenty_tries_in_all(&**ledger, now).await;
    a_device_has_fifty_tries_in_an_hour(&**ledger, now).await;
    a_refused_try_is_charged_nowhere(&**ledger, now).await;
    a_refund_takes_back_one_try_in_every_budget(&**ledger, now).await;
    a_refund_takes_back_the_try_of_its_instant(&**ledger, now).await;
    forgiven_tries_leave_all_three_budgets(&**ledger, now).await;
    the_window_slides(&**ledger, now).await;
    parallel_tries_cannot_pass_a_budget_together(ledger, now).await;
}

/// Those at one device, of all accounts; tries at other devices stay charged.
pub async fn forgiven_tries_leave_all_three_budgets(ledger: &dyn AttemptLedger, now: Timestamp) {
    let (keys, elsewhere) = (fresh_keys(), fresh_keys().name);
    let neighbour = AttemptKeys { name: elsewhere, ..keys };
    for n in 0..5 {
        reserve(ledger, keys, now.plus(n * MILLI)).await.expect("a try");
        reserve(ledger, neighbour, now).await.expect("a try");
    }
    for _ in 0..9 {
        let keys = AttemptKeys { account: UserId::random(), ..keys };
        for _ in 0..5 {
            reserve(ledger, keys, now).await.expect("a try");
        }
    }
    let fiftieth = reserve(ledger, AttemptKeys { account: UserId::random(), ..keys }, now).await;
    assert!(matches!(fiftieth, Err(ReserveError::Exhausted { scope: AttemptScope::Device, .. })), "{fiftieth:?}");
    assert_eq!(ledger.forgive(keys.name).await, Ok(()));
    let later = now.plus(10 * MILLI);
    assert_eq!(reserve(ledger, keys, later).await.map(|reserved| reserved.left), Ok(4), "as if nothing had been tried");
    let blocked = reserve(ledger, neighbour, later).await;
    assert!(
        matches!(blocked, Err(ReserveError::Exhausted { scope: AttemptScope::AccountAndDevice, .. })),
        "{blocked:?}"
    );
    // Of the account's twenty the five elsewhere and the one since then are used.
    for n in 0..14 {
        let keys = AttemptKeys { account: keys.account, ..fresh_keys() };
        assert_eq!(reserve(ledger, keys, later).await.map(|reserved| reserved.left), Ok(4.min(13 - n)), "try {n}");
    }
    assert_eq!(ledger.forgive(fresh_keys().name).await, Ok(()), "where nobody has tried");
}

async fn reserve(ledger: &dyn AttemptLedger, keys: AttemptKeys, at: Timestamp) -> Result<Reservation, ReserveError> {
    ledger.reserve(keys, &AttemptBudgets::default(), at).await
}

fn exhausted(scope: AttemptScope, retry_after: Duration) -> Result<Reservation, ReserveError> {
    Err(ReserveError::Exhausted { scope, retry_after })
}

/// The sixth waits until the first has left the window.
pub async fn an_account_has_five_tries_at_a_device_in_ten_minutes(ledger: &dyn AttemptLedger, now: Timestamp) {
    let keys = fresh_keys();
    for n in 0..5 {
        assert_eq!(reserve(ledger, keys, now).await, Ok(Reservation { keys, at: now, left: 4 - n }));
    }
    assert_eq!(reserve(ledger, keys, now).await, exhausted(AttemptScope::AccountAndDevice, 10 * MINUTE));
    let last = now.plus(10 * MINUTE).minus(MILLI);
    assert_eq!(reserve(ledger, keys, last).await, exhausted(AttemptScope::AccountAndDevice, MILLI));
    let free = now.plus(10 * MINUTE);
    assert_eq!(reserve(ledger, keys, free).await, Ok(Reservation { keys, at: free, left: 4 }));
    // Others have never been touched.
    let (account, name) = (fresh_keys().account, fresh_keys().name);
    assert!(reserve(ledger, AttemptKeys { account, ..keys }, last).await.is_ok());
    assert!(reserve(ledger, AttemptKeys { name, ..keys }, last).await.is_ok());
}

/// At however many devices.
pub async fn an_account_has_twenty_tries_in_all(ledger: &dyn AttemptLedger, now: Timestamp) {
    let account = UserId::random();
    for n in 0..20 {
        let keys = AttemptKeys { account, ..fresh_keys() };
        assert_eq!(reserve(ledger, keys, now).await.map(|r| r.left), Ok(4.min(19 - n)), "try {n}");
    }
    let keys = AttemptKeys { account, ..fresh_keys() };
    assert_eq!(reserve(ledger, keys, now).await, exhausted(AttemptScope::Account, 10 * MINUTE));
    assert!(reserve(ledger, keys, now.plus(10 * MINUTE)).await.is_ok());
}

/// By however many accounts.
pub async fn a_device_has_fifty_tries_in_an_hour(ledger: &dyn AttemptLedger, now: Timestamp) {
    let name = fresh_keys().name;
    for n in 0..50 {
        let keys = AttemptKeys { name, ..fresh_keys() };
        assert_eq!(reserve(ledger, keys, now).await.map(|r| r.left), Ok(4.min(49 - n)), "try {n}");
    }
    let keys = AttemptKeys { name, ..fresh_keys() };
    assert_eq!(reserve(ledger, keys, now).await, exhausted(AttemptScope::Device, 60 * MINUTE));
    assert_eq!(reserve(ledger, keys, now.plus(59 * MINUTE)).await, exhausted(AttemptScope::Device, MINUTE));
    assert!(reserve(ledger, keys, now.plus(60 * MINUTE)).await.is_ok());
}

/// All three or none.
pub async fn a_refused_try_is_charged_nowhere(ledger: &dyn AttemptLedger, now: Timestamp) {
    let keys = fresh_keys();
    for _ in 0..5 {
        reserve(ledger, keys, now).await.expect("within the budget");
    }
    for _ in 0..100 {
        assert!(reserve(ledger, keys, now).await.is_err());
    }
    // The account has 15 tries left elsewhere, the device 45 for others: nothing was counted by the 100.
    for n in 0..15 {
        let elsewhere = AttemptKeys { account: keys.account, ..fresh_keys() };
        assert!(reserve(ledger, elsewhere, now).await.is_ok(), "try {n}");
    }
    for n in 0..45 {
        let other = AttemptKeys { name: keys.name, ..fresh_keys() };
        assert!(reserve(ledger, other, now).await.is_ok(), "try {n}");
    }
    let other = AttemptKeys { name: keys.name, ..fresh_keys() };
    assert_eq!(reserve(ledger, other, now).await, exhausted(AttemptScope::Device, 60 * MINUTE));
}

/// So that right secrets cost nothing, however many.
pub async fn a_refund_takes_back_one_try_in_every_budget(ledger: &dyn AttemptLedger, now: Timestamp) {
    let keys = fresh_keys();
    for _ in 0..200 {
        let reservation = reserve(ledger, keys, now).await.expect("all earlier ones were refunded");
        assert_eq!(reservation.left, 4);
        ledger.refund(reservation).await.expect("memory answers");
    }
    let reservation = reserve(ledger, keys, now).await.expect("within the budget");
    ledger.refund(reservation).await.expect("memory answers");
    // A refund that comes twice takes nothing more back.
    for _ in 0..5 {
        reserve(ledger, keys, now).await.expect("within the budget");
    }
    assert!(reserve(ledger, keys, now).await.is_err());
}

/// Not of another.
pub async fn a_refund_takes_back_the_try_of_its_instant(ledger: &dyn AttemptLedger, now: Timestamp) {
    let keys = fresh_keys();
    let first = reserve(ledger, keys, now).await.expect("within the budget");
    for n in 1..5 {
        reserve(ledger, keys, now.plus(n * MINUTE)).await.expect("within the budget");
    }
    ledger.refund(first).await.expect("memory answers");
    let at = now.plus(5 * MINUTE);
    reserve(ledger, keys, at).await.expect("the refunded try is free");
    // Free next: when the try of minute 1 leaves, in minute 11.
    assert_eq!(reserve(ledger, keys, at).await, exhausted(AttemptScope::AccountAndDevice, 6 * MINUTE));
}

/// Each try leaves on its own.
pub async fn the_window_slides(ledger: &dyn AttemptLedger, now: Timestamp) {
    let keys = fresh_keys();
    for n in 0..5 {
        reserve(ledger, keys, now.plus(n * MINUTE)).await.expect("within the budget");
    }
    for n in 0..5 {
        let before = now.plus((10 + n) * MINUTE).minus(MILLI);
        assert_eq!(reserve(ledger, keys, before).await, exhausted(AttemptScope::AccountAndDevice, MILLI));
        reserve(ledger, keys, now.plus((10 + n) * MINUTE)).await.expect("one has left");
    }
}

/// A reservation is atomic.
pub async fn parallel_tries_cannot_pass_a_budget_together(ledger: &Arc<dyn AttemptLedger>, now: Timestamp) {
    for _ in 0..20 {
        let keys = fresh_keys();
        let mut guessers = tokio::task::JoinSet::new();
        for _ in 0..64 {
            let ledger = Arc::clone(ledger);
            guessers.spawn(async move { reserve(&*ledger, keys, now).await.is_ok() });
        }
        assert_eq!(guessers.join_all().await.into_iter().filter(|ok| *ok).count(), 5);
    }
}
