//! Finding what has ended, period by period, on every node: each tells its own connections, and any of them counts out what
//! all have seen.
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

use super::layout::Period;
use super::link::Kind;
use super::{RedisClaimCache, Store, layout, scripts, thinning};
use crate::clock::SystemClock;

const INTERVAL: Duration = Duration::from_secs(1);
/// A claim's end is looked at only so long after it: by then whoever recorded it has an answer, though clocks of nodes differ.
const LAG: Duration = Duration::from_secs(5);
/// An ended claim counts against its tenant so long: by then every node has looked.
pub(super) const GRACE: Duration = Duration::from_secs(30);
/// Periods that are read at once.
const PAGE: usize = 1000;
/// Strings of a list that are read at once: each has the entries of one change, mostly a hundred or two.
pub(super) const STRINGS: usize = 10;
/// Periods counted out by one pipeline.
const CHUNK: usize = 100;
/// Calls of one sweep; if there is more, the next goes on.
const CALLS: usize = 1000;
/// Sweeps between two looks at what each tenant has.
const LOOK_EVERY: u64 = 15;

/// Up to where this node has looked.
pub(super) struct Cursor {
    /// The first period that is not done.
    second: i64,
    /// Strings of its list that are done.
    strings: usize,
    /// Devices of that period that were told.
    told: HashSet<DeviceId>,
}

impl Cursor {
    /// What ended before `now` is nobody's business: nobody here was told that it is pending.
    pub(super) fn starting(now: Timestamp) -> Self {
        Self { second: Period::of(now.minus(LAG)).second(), strings: 0, told: HashSet::new() }
    }
}

impl RedisClaimCache {
    /// Looks at what has ended since the last sweep; what the [`RedisSweeper`] does each second. `on_expired` is called for
    /// each claim that has ended unclaimed, five to six seconds after its end at the earliest. Counts out what ended 30 s
    /// ago, gives back places that were kept and not used, and keeps lists short. Returns how many claims were told of.
    pub async fn sweep(
        &self,
        now: Timestamp,
        on_expired: &mut (dyn FnMut(DeviceId) + Send),
    ) -> Result<usize, Unavailable> {
        self.store.counts.let_go(now);
        let mut cursor = self.cursor.lock().await;
        let told = tell(&self.store, &mut cursor, now.minus(LAG), on_expired).await;
        self.expired.fetch_add(*told.as_ref().unwrap_or(&0) as u64, Ordering::Relaxed);
        close(&self.store, now.minus(GRACE)).await?;
        thinning::thin(&self.store, now).await?;
        let look = self.sweeps.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOK_EVERY);
        self.look(look).await?;
        told
    }

    /// Reads the figures that [`RedisClaimCache::stats`] shows, and hears whether every server answers.
    async fn look(&self, at_tenants: bool) -> Result<(), Unavailable> {
        let store = &self.store;
        store.shards.ask_all(&redis::cmd("PING")).await?;
        let mut totals = redis::cmd("HMGET");
        totals.arg(&store.names.totals).arg("all").arg("held");
        if let Value::Array(parts) = store.one(store.tagged(totals), Kind::Passing).await? {
            let count = |place: usize| match parts.get(place) {
                Some(Value::BulkString(text)) => number(text).unwrap_or(0),
                _ => 0,
            };
            self.held.store(u64::try_from(count(0) - count(1)).unwrap_or(0), Ordering::Relaxed);
        }
        if at_tenants {
            let mut counts = redis::cmd("HGETALL");
            counts.arg(&store.names.totals);
            let counts = texts(store.one(store.tagged(counts), Kind::Passing).await?);
            let tenants = counts.chunks_exact(2).filter(|pair| pair[0].len() == 16);
            let most = tenants.filter_map(|pair| number(&pair[1])).max().unwrap_or(0);
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
    let last = until.as_millis().div_euclid(1000);
    for _ in 0..CALLS {
        let periods = periods(store, cursor.second, last, PAGE).await?;
        for period in &periods {
            if let Period::Ends(second) = *period {
                if second > cursor.second {
                    *cursor = Cursor { second, strings: 0, told: HashSet::new() };
                }
                told += tell_of(store, cursor, on_expired).await?;
            }
        }
        match periods.last() {
            Some(last) if periods.len() == PAGE => {
                *cursor = Cursor { second: last.second() + 1, strings: 0, told: HashSet::new() };
            }
            _ => break,
        }
    }
    if last >= cursor.second {
        *cursor = Cursor { second: last + 1, strings: 0, told: HashSet::new() };
    }
    Ok(told)
}

/// Tells of those claims of the cursor's period that are still there: neither used nor replaced.
async fn tell_of(
    store: &Store,
    cursor: &mut Cursor,
    on_expired: &mut (dyn FnMut(DeviceId) + Send),
) -> Result<usize, Unavailable> {
    let mut told = 0;
    let period = Period::Ends(cursor.second);
    loop {
        let mut read = redis::cmd("LRANGE");
        read.arg(store.names.list(period)).arg(cursor.strings).arg(cursor.strings + STRINGS - 1);
        let strings = texts(store.one(store.tagged(read), Kind::Passing).await?);
        let devices: Vec<DeviceId> =
            strings.iter().flat_map(|string| layout::unpack_entries(string)).map(|(_, device)| device).collect();
        for (device, seen) in devices.iter().zip(store.claims(&devices).await?) {
            let ended = seen.is_some_and(|seen| Period::of(seen.claim.expires_at) == period);
            if ended && cursor.told.insert(*device) {
                told += 1;
                on_expired(*device);
            }
        }
        cursor.strings += strings.len();
        if strings.len() < STRINGS {
            return Ok(told);
        }
    }
}

/// The first periods from one second to another.
pub(super) async fn periods(store: &Store, from: i64, to: i64, most: usize) -> Result<Vec<Period>, Unavailable> {
    let mut read = redis::cmd("ZRANGEBYSCORE");
    read.arg(&store.names.periods).arg(from).arg(to).arg("LIMIT").arg(0).arg(most);
    let members = texts(store.one(store.tagged(read), Kind::Passing).await?);
    Ok(members.iter().filter_map(|member| Period::parse(member)).collect())
}

async fn close(store: &Store, until: Timestamp) -> Result<(), Unavailable> {
    for _ in 0..CALLS {
        let over = periods(store, i64::MIN, until.as_millis().div_euclid(1000), CHUNK).await?;
        let calls = over.iter().map(|period| {
            let names = &store.names;
            let keys = [&names.totals, &names.periods, &names.counts(*period), &names.list(*period)];
            let mut call = scripts::CLOSE.call(&keys.map(Vec::as_slice));
            call.arg(period.member());
            store.tagged(call)
        });
        store.all(calls.collect(), Kind::Passing).await?;
        if over.len() < CHUNK {
            break;
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
