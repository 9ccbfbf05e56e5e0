//! The sealer: chains the audit log's rows behind the changes that wrote them, within a second. What is left at a graceful
//! stop is chained when the registry closes; after any other end the next start goes on where the chains ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use claim::audit::AuditLog;
use tokio_util::sync::CancellationToken;

/// Rows chained in one transaction: some milliseconds of the writer's time.
const BATCH: u32 = 1_000;
/// How long a row waits at the most before the sealer looks; half of the second it has.
const PAUSE: Duration = Duration::from_millis(500);

/// Chains rows until `stop`; `errors` counts failures.
pub(crate) async fn seal(log: Arc<dyn AuditLog>, errors: Arc<AtomicU64>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match log.seal(BATCH).await {
            Ok(BATCH) => continue,
            Ok(_) => {}
            Err(_) => {
                errors.fetch_add(1, Ordering::Relaxed);
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use claim::audit::{AuditFilter, AuditRow, ChainStretch};
    use claim::{PortFuture, TenantId, Unavailable};
    use std::sync::Mutex;

    /// Rows that wait, and what the store says when it is asked to chain some.
    struct Waiting(Mutex<(u32, Vec<u32>)>, CancellationToken);

    impl AuditLog for Waiting {
        fn rows(&self, _: TenantId, _: AuditFilter, _: u32) -> PortFuture<'_, Result<Vec<AuditRow>, Unavailable>> {
            PortFuture::ready(Err(Unavailable))
        }

        fn stretch(&self, _: TenantId, _: i64, _: u32) -> PortFuture<'_, Result<ChainStretch, Unavailable>> {
            PortFuture::ready(Err(Unavailable))
        }

        fn seal(&self, most: u32) -> PortFuture<'_, Result<u32, Unavailable>> {
            let mut state = self.0.lock().unwrap();
            let sealed = state.0.min(most);
            state.0 -= sealed;
            state.1.push(sealed);
            if state.1.len() == 5 {
                self.1.cancel();
            }
            // The third time the store is away.
            PortFuture::ready(if state.1.len() == 3 { Err(Unavailable) } else { Ok(sealed) })
        }

        fn unsealed(&self) -> PortFuture<'_, Result<u64, Unavailable>> {
            PortFuture::ready(Err(Unavailable))
        }
    }

    #[tokio::test]
    async fn full_batches_follow_at_once_and_a_store_that_is_away_is_asked_again() {
        let (errors, stop) = (Arc::<AtomicU64>::default(), CancellationToken::new());
        let log = Arc::new(Waiting(Mutex::new((BATCH + 7, Vec::new())), stop.clone()));
        let began = std::time::Instant::now();
        seal(log.clone(), errors.clone(), stop).await;
        assert!(began.elapsed() >= PAUSE * 3, "a pause after all but the first");
        assert_eq!(log.0.lock().unwrap().1, [BATCH, 7, 0, 0, 0]);
        assert_eq!(errors.load(Ordering::Relaxed), 1);
    }
}
