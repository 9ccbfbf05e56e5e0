//! Wrong tries, counted exactly for all nodes: each counter is a sorted set of the tries inside its window. A script makes a
//! reservation atomic over its three counters.
//!
//! A try has one name in all three, so that a refund or a pardon takes back that very try. What the store has lost is
//! counted again from the audit log: when a mark is gone (an emptied store) and behind every new connection (perhaps a
//! replica that lagged). Until that is done nothing is evaluated.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use claim::Timestamp;
use claim::limits::AttemptBudgets;
use claim::ports::{AttemptKeys, AttemptLedger, AttemptScope, PortFuture, Reservation, ReserveError, Unavailable};
use redis::Value;

use super::link::Kind;
use super::{RedisClaimCache, Store, layout, scripts};

/// The tries that were charged since an instant, as the audit log has them.
pub type ChargedTries =
    Box<dyn Fn(Timestamp) -> PortFuture<'static, Result<Vec<(AttemptKeys, Timestamp)>, Unavailable>> + Send + Sync>;

/// The [`AttemptLedger`] of several nodes. See the module's head.
pub struct RedisAttempts {
    store: Arc<Store>,
    charged: ChargedTries,
    /// The connection behind which the counters are known to be whole; 0: none yet.
    whole_behind: AtomicU64,
    restoring: tokio::sync::Mutex<()>,
}

/// Tries restored in one pipeline.
const RESTORED_AT_ONCE: usize = 1000;

impl RedisAttempts {
    /// Counters in the store of `cache`.
    pub fn beside(cache: &RedisClaimCache, charged: ChargedTries) -> Self {
        Self {
            store: Arc::clone(&cache.store),
            charged,
            whole_behind: AtomicU64::new(0),
            restoring: tokio::sync::Mutex::new(()),
        }
    }

    async fn try_reserve(
        &self,
        keys: AttemptKeys,
        budgets: &AttemptBudgets,
        now: Timestamp,
    ) -> Result<Reservation, ReserveError> {
        // Twice: the mark may be gone, or the connection was made for this very request.
        for _ in 0..2 {
            let connection = self.store.connection();
            if self.whole_behind.load(Ordering::Acquire) != connection {
                self.restore(connection, budgets, now).await.map_err(|Unavailable| ReserveError::Unavailable)?;
            }
            match self.ask(keys, budgets, now).await? {
                Said::Lost => {
                    let _ = self.whole_behind.compare_exchange(connection, 0, Ordering::AcqRel, Ordering::Relaxed);
                }
                Said::Left(left) => {
                    let reservation = Reservation { keys, at: now, left };
                    if self.store.connection() == connection {
                        return Ok(reservation);
                    }
                    // Perhaps counted where tries are missing: not evaluated, so not charged.
                    self.refund(reservation).await.map_err(|Unavailable| ReserveError::Unavailable)?;
                }
                Said::Spent(scope, retry_after) => return Err(ReserveError::Exhausted { scope, retry_after }),
            }
        }
        Err(ReserveError::Unavailable)
    }

    async fn ask(&self, keys: AttemptKeys, budgets: &AttemptBudgets, now: Timestamp) -> Result<Said, ReserveError> {
        let [pair, account, device] = self.store.names.tries(&keys);
        let mut call = scripts::RESERVE.call(&[&pair, &account, &device, &self.store.names.mark]);
        call.arg(now.as_millis()).arg(&self.store.unique().to_be_bytes()).arg(layout::account(&keys.account));
        call.arg(budgets.per_account_and_device).arg(millis(budgets.account_window));
        call.arg(budgets.per_account).arg(millis(budgets.account_window));
        call.arg(budgets.per_device).arg(millis(budgets.device_window));
        let value = self
            .store
            .one(self.store.tagged(call), Kind::Kept)
            .await
            .map_err(|Unavailable| ReserveError::Unavailable)?;
        Said::read(&value).ok_or(ReserveError::Unavailable)
    }

    /// Counts again what the audit log knows and the store does not.
    async fn restore(&self, connection: u64, budgets: &AttemptBudgets, now: Timestamp) -> Result<(), Unavailable> {
        let _one = self.restoring.lock().await;
        if self.whole_behind.load(Ordering::Acquire) == connection {
            return Ok(());
        }
        let memory = budgets.account_window.max(budgets.device_window);
        // It goes with the rest when the store is emptied meanwhile: then tries may be charged that were not read.
        let counting = self.store.names.counting(self.store.unique());
        let mut begin = redis::cmd("SET");
        begin.arg(&counting).arg(1).arg("PX").arg(millis(COUNTING));
        self.store.one(self.store.tagged(begin), Kind::Kept).await?;
        let mut tries: HashMap<(AttemptKeys, Timestamp), u32> = HashMap::new();
        for charged in (self.charged)(now.minus(memory)).await? {
            *tries.entry(charged).or_default() += 1;
        }
        let mut calls = Vec::with_capacity(tries.len());
        for ((keys, at), count) in &tries {
            let [pair, account, device] = self.store.names.tries(keys);
            let mut call = scripts::RESTORE.call(&[&pair, &account, &device]);
            call.arg(at.as_millis()).arg(layout::account(&keys.account)).arg(&keys.name);
            call.arg(*count).arg(at.plus(memory + SLACK).as_millis());
            calls.push(self.store.tagged(call));
        }
        while !calls.is_empty() {
            let rest = calls.split_off(calls.len().min(RESTORED_AT_ONCE));
            self.store.all(std::mem::replace(&mut calls, rest), Kind::Kept).await?;
        }
        let mark = scripts::MARK.call(&[&self.store.names.mark, &counting]);
        if self.store.one(self.store.tagged(mark), Kind::Kept).await? != Value::Int(1) {
            tracing::warn!("the claim store was emptied while wrong tries were counted again; they are counted anew");
            return Err(Unavailable);
        }
        tracing::info!(tries = tries.len(), "the wrong tries of the audit log are counted in the claim store");
        self.whole_behind.store(connection, Ordering::Release);
        Ok(())
    }
}

/// How long counting the audit log's tries may take.
const COUNTING: Duration = Duration::from_secs(60);

/// How much longer than it counts a try is kept: the clocks of nodes and store differ.
const SLACK: Duration = Duration::from_secs(60);

impl AttemptLedger for RedisAttempts {
    fn reserve(
        &self,
        keys: AttemptKeys,
        budgets: &AttemptBudgets,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Reservation, ReserveError>> {
        let budgets = budgets.clone();
        PortFuture::later(async move { self.try_reserve(keys, &budgets, now).await })
    }

    fn refund(&self, Reservation { keys, at, .. }: Reservation) -> PortFuture<'_, Result<(), Unavailable>> {
        let [pair, account, device] = self.store.names.tries(&keys);
        let mut call = scripts::REFUND.call(&[&pair, &account, &device]);
        call.arg(at.as_millis()).arg(layout::account(&keys.account));
        PortFuture::later(async move { self.store.one(self.store.tagged(call), Kind::Passing).await.map(drop) })
    }

    fn forgive(&self, name: [u8; 16]) -> PortFuture<'_, Result<(), Unavailable>> {
        let mut call = scripts::FORGIVE.call(&[&self.store.names.tries_at(&name)]);
        let [accounts, pairs] = self.store.names.beginnings();
        call.arg(accounts).arg(pairs).arg(&name);
        PortFuture::later(async move { self.store.one(self.store.tagged(call), Kind::Kept).await.map(drop) })
    }
}

/// The answer of the script.
enum Said {
    Lost,
    Left(u32),
    Spent(AttemptScope, Duration),
}

impl Said {
    fn read(value: &Value) -> Option<Self> {
        let Value::Array(parts) = value else { return None };
        let number = |place: usize| match parts.get(place) {
            Some(Value::Int(number)) => u64::try_from(*number).ok(),
            _ => None,
        };
        match parts.first()? {
            Value::BulkString(word) if word == b"lost" => Some(Self::Lost),
            Value::BulkString(word) if word == b"left" => Some(Self::Left(u32::try_from(number(1)?).ok()?)),
            Value::BulkString(word) if word == b"spent" => {
                let scope = usize::try_from(number(1)?).ok()?.checked_sub(1)?;
                Some(Self::Spent(*AttemptScope::ALL.get(scope)?, Duration::from_millis(number(2)?)))
            }
            _ => None,
        }
    }
}

fn millis(window: Duration) -> u64 {
    u64::try_from(window.as_millis()).unwrap_or(u64::MAX)
}
