//! Finding what has ended, on every node: each tells its own connections, and any of them counts out what all have seen.
//!
//! The store's own notices of expired keys are not used: they are switched off on many servers, and are lost with a
//! connection. Nothing depends on when: readers check the expiry themselves.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use claim::ports::Unavailable;
use claim::{DeviceId, Timestamp};
use redis::Value;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::link::Kind;
use super::{RedisClaimCache, Store, layout, scripts};
use crate::clock::SystemClock;

const INTERVAL: Duration = Duration::from_secs(1);
/// A claim's end is looked at only so long after it: by then whoever recorded it has an answer, though clocks of nodes differ.
const LAG: Duration = Duration::from_secs(5);
/// An ended claim counts against its tenant so long: by then every node has looked.
pub(super) const GRACE: Duration = Duration::from_secs(30);
/// Ends read at once.
const PAGE: usize = 1000;
/// Ends counted out by one call; 256 of them hold up the store for less than a millisecond.
const CHUNK: usize = 256;
/// Calls of one sweep; if there is more, the next goes on.
const CALLS: usize = 1000;
/// Sweeps between two looks at what each tenant has.
const LOOK_EVERY: u64 = 15;

/// Up to where this node has looked.
pub(super) struct Cursor {
    at: Timestamp,
    /// Devices that were told already of those whose claims ended at `at`.
    told: HashSet<DeviceId>,
}

impl Cursor {
    /// What ended before `now` is nobody's business: nobody here was told that it is pending.
    pub(super) fn starting(now: Timestamp) -> Self {
        Self { at: now.minus(LAG), told: HashSet::new() }
    }
}

impl RedisClaimCache {
    /// Looks at what has ended since the last sweep; what the [`RedisSweeper`] does each second. `on_expired` is called for
    /// each claim that has ended unclaimed, five seconds after its end at the earliest. Counts out what ended 30 s ago.
    /// Returns how many claims were told of.
    pub async fn sweep(
        &self,
        now: Timestamp,
        on_expired: &mut (dyn FnMut(DeviceId) + Send),
    ) -> Result<usize, Unavailable> {
        let mut cursor = self.cursor.lock().await;
        let told = tell(&self.store, &mut cursor, now.minus(LAG), on_expired).await;
        self.expired.fetch_add(*told.as_ref().unwrap_or(&0) as u64, Ordering::Relaxed);
        tidy(&self.store, now.minus(GRACE)).await?;
        let look = self.sweeps.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOK_EVERY);
        self.look(look).await?;
        told
    }

    /// Reads the figures that [`RedisClaimCache::stats`] shows.
    async fn look(&self, at_tenants: bool) -> Result<(), Unavailable> {
        let mut all = redis::cmd("ZCARD");
        all.arg(&self.store.names.ends);
        if let Value::Int(count) = self.store.link.one(all, Kind::Passing).await? {
            self.held.store(u64::try_from(count).unwrap_or(0), Ordering::Relaxed);
        }
        if at_tenants {
            let mut counts = redis::cmd("HVALS");
            counts.arg(&self.store.names.counts);
            let counts = texts(self.store.link.one(counts, Kind::Passing).await?);
            let most = counts.iter().filter_map(|text| number(text)).max().unwrap_or(0);
            self.fullest.store(u64::try_from(most).unwrap_or(0), Ordering::Relaxed);
        }
        Ok(())
    }
}

async fn tell(
    store: &Store,
    cursor: &mut Cursor,
    until: Timestamp,
    on_expired: &mut (dyn FnMut(DeviceId) + Send),
) -> Result<usize, Unavailable> {
    let mut told = 0;
    for _ in 0..CALLS {
        // Those of the cursor's own instant come again; as many more are read.
        let page = PAGE + cursor.told.len();
        let mut read = redis::cmd("ZRANGEBYSCORE");
        read.arg(&store.names.ends).arg(cursor.at.as_millis()).arg(until.as_millis());
        read.arg("WITHSCORES").arg("LIMIT").arg(0).arg(page);
        let ended = texts(store.link.one(read, Kind::Passing).await?);
        let full = ended.len() >= 2 * page;
        for pair in ended.chunks_exact(2) {
            let (Some((_, device)), Some(at)) = (layout::unpack_member(&pair[0]), number(&pair[1])) else { continue };
            let at = Timestamp::from_millis(at);
            if at > cursor.at {
                cursor.at = at;
                cursor.told.clear();
            }
            if cursor.told.insert(device) {
                told += 1;
                on_expired(device);
            }
        }
        if !full {
            break;
        }
    }
    Ok(told)
}

async fn tidy(store: &Store, until: Timestamp) -> Result<(), Unavailable> {
    for _ in 0..CALLS {
        let mut call = scripts::TIDY.call(&[&store.names.ends, &store.names.counts]);
        call.arg(until.as_millis()).arg(CHUNK);
        match store.link.one(call, Kind::Passing).await? {
            Value::Int(counted) if counted >= CHUNK as i64 => {}
            _ => break,
        }
    }
    Ok(())
}

/// The strings of an array.
pub(super) fn texts(value: Value) -> Vec<Vec<u8>> {
    let Value::Array(parts) = value else { return Vec::new() };
    parts
        .into_iter()
        .filter_map(|part| match part {
            Value::BulkString(text) => Some(text),
            _ => None,
        })
        .collect()
}

pub(super) fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The task that sweeps each second. Stops when dropped.
pub struct RedisSweeper(JoinHandle<()>);

impl RedisSweeper {
    /// Starts the task, in the present runtime. `on_expired` should return soon.
    pub fn start(
        cache: Arc<RedisClaimCache>,
        clock: SystemClock,
        mut on_expired: impl FnMut(DeviceId) + Send + 'static,
    ) -> Self {
        Self(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                // The link has said so already; the next sweep goes on where this one ended.
                let _ = cache.sweep(clock.now(), &mut on_expired).await;
            }
        }))
    }
}

impl Drop for RedisSweeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}
