//! The dispatcher: events leave the registry by its outbox and reach this node's connected devices.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use claim::event::{MakerEvent, OutboxEvent, OutboxKind, StateFeed};
use claim::ports::Outbox;
use claim::{ClaimState, StateChange, Timestamp};
use tokio_util::sync::CancellationToken;

/// Events read at once.
const BATCH: usize = 512;
/// How long handed-on rows stay for whoever looks at them by hand.
const KEEP: Duration = Duration::from_secs(24 * 3600);
/// A lost wake-up costs this much at the most.
const POLL: Duration = Duration::from_secs(1);

/// What the dispatcher has done, for metrics.
#[derive(Default)]
pub(crate) struct DispatchStats {
    /// Position of the newest event handed on.
    pub(crate) position: AtomicI64,
    pub(crate) errors: AtomicU64,
}

/// Hands on every event committed after `since` until `stop`.
pub(crate) async fn dispatch(
    outbox: Arc<dyn Outbox>,
    feed: Arc<StateFeed>,
    now: impl Fn() -> Timestamp,
    mut since: i64,
    stats: Arc<DispatchStats>,
    stop: CancellationToken,
) {
    stats.position.store(since, Ordering::Relaxed);
    loop {
        let wake = outbox.wake();
        match outbox.tail(since, BATCH).await {
            Ok(events) if !events.is_empty() => {
                for event in &events {
                    hand_on(&feed, event);
                    since = event.seq;
                }
                stats.position.store(since, Ordering::Relaxed);
                if outbox.acknowledge(since, now().minus(KEEP)).await.is_err() {
                    stats.errors.fetch_add(1, Ordering::Relaxed);
                }
                continue;
            }
            Ok(_) => {}
            Err(_) => {
                stats.errors.fetch_add(1, Ordering::Relaxed);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = wake => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

fn hand_on(feed: &StateFeed, event: &OutboxEvent) {
    let state = match event.kind {
        OutboxKind::Claimed { claimed_at, .. } => ClaimState::Claimed { claimed_at },
        OutboxKind::Unclaimed => ClaimState::None,
        OutboxKind::CredentialRevoked => return feed.revoke(event.device),
        OutboxKind::Maker(MakerEvent::ClaimRevoked) => ClaimState::None,
        // No device waits for it.
        OutboxKind::Maker(_) => return,
    };
    feed.publish(&StateChange { device: event.device, name: Some(event.name.clone()), state });
}
