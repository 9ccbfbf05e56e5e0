//! The counts of claims by tenant and period, and the places that are kept ahead, so that an ordinary claim is one plain
//! command and the bounds still hold exactly.
//!
//! A place is taken in the store before a claim is recorded: many at once, kept by this node for ten seconds, while there is
//! room; one by one when room is short. What a recorded claim changes is merged here and told to the store in one script
//! after another ([`Counts::run`]): a place becomes one of the claim's own period, or what was replaced is counted down. A
//! period that is over is counted out as a whole, places that nobody used too, so nothing that goes wrong on the way lasts
//! longer than the claims it concerns; with places never less are counted than there are, but for claims whose answer was
//! lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ahash::RandomState;
use claim::ports::{PendingClaim, RecordError, Unavailable};
use claim::{TenantId, Timestamp};
use redis::Value;
use tokio::sync::{Notify, watch};

use super::layout::{self, Entry, Period};
use super::link::Kind;
use super::{Store, refusal, scripts};

/// Seconds for which a node keeps places ahead.
const HELD_SECONDS: i64 = 10;
/// Most places kept ahead for one tenant.
const MOST_AHEAD: u32 = 16_384;
/// Places asked for ahead at first; four times as many whenever they are used up in time.
const FIRST_AHEAD: u32 = 16;
/// Between two changes.
const GATHERING: Duration = Duration::from_millis(2);
/// Between two tries to tell the store of a change.
const PAUSE: Duration = Duration::from_millis(100);
/// A list that has more entries than twice its claims and this is thinned.
pub(super) const SLACK: usize = 1000;

/// See the module's head.
pub(super) struct Counts {
    books: Mutex<Books>,
    limit: u64,
    limit_per_tenant: u64,
    /// There is something to tell.
    changed: Notify,
    /// The last change that the store has made.
    told: watch::Sender<u64>,
    /// This node among those that change the counts.
    node: u64,
}

#[derive(Default)]
struct Books {
    change: Change,
    /// The number of `change`, which is not on its way yet.
    number: u64,
    pools: HashMap<TenantId, Pool, RandomState>,
    /// By period how many entries its list had when last written to, where those were many.
    long: HashMap<Period, usize>,
}

/// What the store is to be told.
#[derive(Default)]
struct Change(HashMap<Period, OfPeriod, RandomState>);

#[derive(Default)]
struct OfPeriod {
    counts: HashMap<TenantId, i64, RandomState>,
    entries: Vec<Entry>,
}

/// The places of a tenant that are kept here.
struct Pool {
    left: u32,
    /// Until when.
    until: Period,
    /// How many are asked for ahead.
    ahead: u32,
    /// Whether room was so short that none were given ahead.
    short: bool,
    /// One asks the store at a time; who waits for it takes of what it brings.
    gate: Arc<tokio::sync::Mutex<()>>,
}

/// Places taken for claims about to be recorded.
pub(super) struct Places {
    pub(super) count: usize,
    /// When room is likely, where there are fewer than were asked for.
    pub(super) first_end: Timestamp,
    until: Period,
}

impl Counts {
    pub(super) fn new(limit: u64, limit_per_tenant: u64, node: u64) -> Self {
        let books = Books { number: 1, ..Books::default() };
        Self {
            books: Mutex::new(books),
            limit,
            limit_per_tenant,
            changed: Notify::new(),
            told: watch::channel(0).0,
            node,
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Whoever panicked has left whole entries behind.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Places out of those that are kept here: all that are needed, or `None`. As the error: whether room is short.
    pub(super) fn at_hand(&self, tenant: TenantId, needed: usize, now: Timestamp) -> Result<Places, bool> {
        let mut books = self.books();
        let Some(pool) = books.pools.get_mut(&tenant) else { return Err(false) };
        let count = u32::try_from(needed).unwrap_or(u32::MAX);
        if pool.left < count || now.as_millis() >= pool.until.second().saturating_mul(1000) {
            return Err(pool.short);
        }
        pool.left -= count;
        Ok(Places { count: needed, first_end: now, until: pool.until })
    }

    /// Places out of those that are kept here or else from the store, perhaps fewer than are needed.
    pub(super) async fn take(
        &self,
        store: &Store,
        tenant: TenantId,
        needed: usize,
        now: Timestamp,
    ) -> Result<Places, RecordError> {
        let gate = Arc::clone(&self.books().pools.entry(tenant).or_insert_with(|| Pool::empty(now)).gate);
        let _one = gate.lock().await;
        if let Ok(places) = self.at_hand(tenant, needed, now) {
            return Ok(places);
        }
        let ahead = self.wished(tenant, now);
        let until = Period::Held(now.as_millis().div_euclid(1000) + HELD_SECONDS);
        let names = &store.names;
        let mut call = scripts::HOLD.call(&[&names.totals, &names.periods, &names.counts(until)]);
        call.arg(tenant.as_bytes()).arg(needed).arg(ahead).arg(self.limit).arg(self.limit_per_tenant);
        call.arg(until.second()).arg(until.member());
        let said = store.ask_one(store.tagged(call), Kind::Passing).await;
        let [taken, more, room, first] = match &said {
            Ok(Value::Array(parts)) => match parts[..] {
                [Value::Int(taken), Value::Int(more), Value::Int(room), Value::Int(first)] => {
                    [taken, more, room, first]
                }
                _ => return Err(RecordError::Unavailable),
            },
            Ok(value) => return Err(refusal(value)),
            Err(Unavailable) => return Err(RecordError::Unavailable),
        };
        let mut books = self.books();
        let Books { pools, change, .. } = &mut *books;
        let pool = pools.entry(tenant).or_insert_with(|| Pool::empty(now));
        if pool.until != until {
            change.count(pool.until, tenant, -i64::from(pool.left));
            (pool.left, pool.until) = (0, until);
        }
        pool.left = pool.left.saturating_add(u32::try_from(more).unwrap_or(0));
        // Below that many not even one is given ahead.
        pool.short = room < 16;
        let first_end = Timestamp::from_millis(first.saturating_mul(1000));
        Ok(Places { count: usize::try_from(taken).unwrap_or(0), first_end, until })
    }

    /// How many are asked for ahead: more where the last ones did not last.
    fn wished(&self, tenant: TenantId, now: Timestamp) -> u32 {
        let mut books = self.books();
        let pool = books.pools.entry(tenant).or_insert_with(|| Pool::empty(now));
        let lasted = now.as_millis() >= pool.until.second().saturating_mul(1000);
        let next = if lasted { pool.ahead } else { pool.ahead.saturating_mul(4).min(MOST_AHEAD) };
        std::mem::replace(&mut pool.ahead, next)
    }

    /// Notes what recording `claim` did. `place`: of which one was taken for it. `before`: what lay there. Returns whether
    /// that was replaced.
    pub(super) fn recorded(
        &self,
        claim: &PendingClaim,
        place: Option<&Places>,
        before: Option<&PendingClaim>,
        now: Timestamp,
    ) -> bool {
        let period = Period::of(claim.expires_at);
        let replaced = before.filter(|before| now < before.expires_at);
        let its_own = replaced.filter(|before| before.tenant == claim.tenant);
        let mut books = self.books();
        match (its_own, place) {
            (Some(_), Some(place)) => books.give_back(claim.tenant, place),
            (None, Some(place)) => books.change.count(place.until, claim.tenant, -1),
            (_, None) => {}
        }
        if its_own.is_none_or(|before| Period::of(before.expires_at) != period) {
            if let Some(before) = replaced {
                books.change.count(Period::of(before.expires_at), before.tenant, -1);
            }
            let of_period = books.change.0.entry(period).or_default();
            *of_period.counts.entry(claim.tenant).or_default() += 1;
            of_period.entries.push(layout::entry(claim.tenant, claim.device));
        }
        drop(books);
        self.changed.notify_one();
        replaced.is_some()
    }

    /// A place was taken for nothing.
    pub(super) fn unused(&self, tenant: TenantId, place: &Places) {
        self.books().give_back(tenant, place);
        self.changed.notify_one();
    }

    /// Notes that a claim is gone before its end.
    pub(super) fn removed(&self, claim: &PendingClaim) {
        self.books().change.count(Period::of(claim.expires_at), claim.tenant, -1);
        self.changed.notify_one();
    }

    /// Gives back the places whose time is over.
    pub(super) fn let_go(&self, now: Timestamp) {
        let mut books = self.books();
        let Books { pools, change, .. } = &mut *books;
        pools.retain(|tenant, pool| {
            let over = now.as_millis() >= pool.until.second().saturating_mul(1000);
            if over {
                change.count(pool.until, *tenant, -i64::from(std::mem::take(&mut pool.left)));
            }
            // One that is being waited for stays.
            !over || Arc::strong_count(&pool.gate) > 1
        });
        drop(books);
        self.changed.notify_one();
    }

    /// Waits until the store knows of all that this node has recorded and removed.
    pub(super) async fn settled(&self, store: &Store, patience: Duration) -> Result<(), Unavailable> {
        let wanted = {
            let books = self.books();
            if books.change.0.is_empty() { books.number - 1 } else { books.number }
        };
        let mut told = self.told.subscribe();
        let deadline = tokio::time::Instant::now() + patience;
        while tokio::time::Instant::now() < deadline {
            let settled = tokio::time::timeout(PAUSE, told.wait_for(|told| *told >= wanted)).await;
            if matches!(settled, Ok(Ok(_))) {
                return Ok(());
            }
            if !store.shards.up() {
                break;
            }
        }
        Err(Unavailable)
    }

    /// Periods whose lists were long when last written to, each with its number of entries.
    pub(super) fn long_lists(&self) -> Vec<(Period, usize)> {
        self.books().long.drain().collect()
    }

    /// Tells the store of one change after another, for ever.
    pub(super) async fn run(&self, store: &Store) {
        loop {
            let taken = {
                let mut books = self.books();
                (!books.change.0.is_empty()).then(|| {
                    books.number += 1;
                    (std::mem::take(&mut books.change), books.number - 1)
                })
            };
            let Some((change, number)) = taken else {
                self.changed.notified().await;
                continue;
            };
            // Until the store has it: a change has a number, by which it is made once.
            loop {
                let call = store.tagged(change.call(store, self.node, number));
                match store.ask_one(call, Kind::Passing).await {
                    Ok(Value::Array(lengths)) => {
                        self.watch_lengths(change.0.keys(), &lengths);
                        break;
                    }
                    _ => tokio::time::sleep(PAUSE).await,
                }
            }
            self.told.send_replace(number);
            // What comes meanwhile goes together: a change costs the store as much as some ten claims.
            tokio::time::sleep(GATHERING).await;
        }
    }

    fn watch_lengths<'a>(&self, periods: impl Iterator<Item = &'a Period>, lengths: &[Value]) {
        for (period, length) in periods.zip(lengths) {
            if let Value::Int(length) = length
                && let Ok(length) = usize::try_from(*length)
                && length > SLACK
            {
                self.books().long.insert(*period, length);
            }
        }
    }
}

impl Books {
    fn give_back(&mut self, tenant: TenantId, place: &Places) {
        match self.pools.get_mut(&tenant) {
            Some(pool) if pool.until == place.until && !pool.short => pool.left += 1,
            // Where room is short another node may need it.
            _ => self.change.count(place.until, tenant, -1),
        }
    }
}

impl Pool {
    fn empty(now: Timestamp) -> Self {
        let until = Period::Held(now.as_millis().div_euclid(1000));
        Self { left: 0, until, ahead: FIRST_AHEAD, short: false, gate: Arc::default() }
    }
}

impl Change {
    fn count(&mut self, period: Period, tenant: TenantId, by: i64) {
        if by != 0 {
            *self.0.entry(period).or_default().counts.entry(tenant).or_default() += by;
        }
    }

    fn call(&self, store: &Store, node: u64, number: u64) -> redis::Cmd {
        let names = &store.names;
        let mut keys = vec![names.totals.clone(), names.periods.clone(), names.done_by(node)];
        keys.extend(self.0.keys().flat_map(|period| [names.counts(*period), names.list(*period)]));
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let mut call = scripts::COUNT.call(&keys);
        call.arg(number);
        for (period, OfPeriod { counts, entries }) in &self.0 {
            call.arg(period.second()).arg(period.member()).arg(counts.len());
            for (tenant, by) in counts {
                call.arg(tenant.as_bytes()).arg(*by);
            }
            call.arg(entries.as_flattened());
        }
        call
    }
}
