//! The contract of [`Outbox`], rule by rule: in order, from any position, nothing lost by acknowledging. [`all`] runs
//! every rule, each on an outbox that nobody else writes to.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use claim::ports::{Outbox, PortFuture};
use claim::{DeviceId, Timestamp};

use crate::fixtures::at;

/// How an adapter's tests make events, which no port does by itself.
pub trait Stage: Send + Sync {
    /// The adapter.
    fn outbox(&self) -> Arc<dyn Outbox>;
    /// Something that commits one event of a new device at `now`; which device.
    fn happens(&self, now: Timestamp) -> PortFuture<'_, DeviceId>;
}

/// Runs every rule; `stage` makes a fresh one for each.
pub async fn all<S: Stage>(stage: impl Fn() -> S) {
    events_come_in_order_from_any_position(&stage()).await;
    the_head_is_the_newest_position(&stage()).await;
    a_commit_wakes_who_asked_before_it(&stage()).await;
    what_is_acknowledged_goes_when_it_is_old(&stage()).await;
    positions_go_on_growing_after_everything_went(&stage()).await;
}

async fn tail(stage: &dyn Stage, since: i64, limit: usize) -> Vec<(i64, DeviceId)> {
    let events = stage.outbox().tail(since, limit).await.expect("the store answers");
    events.into_iter().map(|event| (event.seq, event.device)).collect()
}

async fn some(stage: &dyn Stage, count: i64) -> Vec<DeviceId> {
    let mut devices = Vec::new();
    for n in 0..count {
        devices.push(stage.happens(at(n)).await);
    }
    devices
}

/// Each once, oldest first, at most as many as asked for.
pub async fn events_come_in_order_from_any_position(stage: &dyn Stage) {
    let devices = some(stage, 5).await;
    let all = tail(stage, 0, 100).await;
    assert_eq!(all.iter().map(|(_, device)| *device).collect::<Vec<_>>(), devices);
    assert!(all.windows(2).all(|pair| pair[0].0 < pair[1].0), "{all:?}");
    for (passed, (seq, _)) in all.iter().enumerate() {
        assert_eq!(tail(stage, *seq, 100).await, all[passed + 1..]);
        assert_eq!(tail(stage, *seq, 1).await, all[passed + 1..].iter().take(1).copied().collect::<Vec<_>>());
    }
}

/// 0 before the first.
pub async fn the_head_is_the_newest_position(stage: &dyn Stage) {
    assert_eq!(stage.outbox().head().await, Ok(0));
    for n in 0..3 {
        let device = stage.happens(at(n)).await;
        let head = stage.outbox().head().await.expect("the store answers");
        assert_eq!(tail(stage, head - 1, 10).await, [(head, device)]);
    }
}

/// Even if it was committed before the wait began to be polled.
pub async fn a_commit_wakes_who_asked_before_it(stage: &dyn Stage) {
    let outbox = stage.outbox();
    let mut unwoken = pin!(outbox.wake());
    let mut context = Context::from_waker(Waker::noop());
    assert!(unwoken.as_mut().poll(&mut context).is_pending(), "woken by nothing");
    let wake = outbox.wake();
    stage.happens(at(0)).await;
    wake.await;
    unwoken.await;
}

/// And only then: rows that are young, or not handed on, stay.
pub async fn what_is_acknowledged_goes_when_it_is_old(stage: &dyn Stage) {
    let outbox = stage.outbox();
    some(stage, 6).await;
    let all = tail(stage, 0, 100).await;
    outbox.acknowledge(all[3].0, at(0)).await.expect("the store answers");
    assert_eq!(tail(stage, 0, 100).await, all, "none is older than that");
    outbox.acknowledge(all[3].0, at(2)).await.expect("the store answers");
    assert_eq!(tail(stage, 0, 100).await, all[2..]);
    outbox.acknowledge(all[2].0, at(100)).await.expect("the store answers");
    let left = tail(stage, 0, 100).await;
    assert!(left.ends_with(&all[3..]), "what was not handed on is gone: {left:?}");
}

/// Whoever remembers a position misses nothing.
pub async fn positions_go_on_growing_after_everything_went(stage: &dyn Stage) {
    let outbox = stage.outbox();
    some(stage, 4).await;
    let head = outbox.head().await.expect("the store answers");
    outbox.acknowledge(head, at(100)).await.expect("the store answers");
    let device = stage.happens(at(5)).await;
    let after = tail(stage, head, 100).await;
    assert_eq!(after.iter().map(|(_, device)| *device).collect::<Vec<_>>(), [device]);
    assert!(after[0].0 > head);
}
