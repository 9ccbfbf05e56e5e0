//! The claim cache that several nodes share, on a Redis or Valkey server.
//!
//! Each change is one script, atomic on the server; what is asked at the same time travels together ([`link`]). What lies
//! there under which key is told in `redis/layout.rs`. The server must never evict (`maxmemory-policy noeviction`), which is
//! checked behind every new connection; where its memory ends, a claim is refused before its ack.
//!
//! An ack means: the server has it. Replication is asynchronous, so a failover may lose it (the device repeats) or bring a
//! spent one back (the registry's fence voids it); `redis_wait_replicas` narrows the first. Who may speak how often is
//! counted on each node: [`crate::MemoryRates`] serves this backend too.
//!
//! Not here: clusters. All keys share one hash tag, so the bounds on claims are exact, at the price of one server's speed.

mod attempts;
mod examine;
mod layout;
mod link;
mod listing;
mod scripts;
mod server;
mod sweep;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use claim::ports::{ClaimCache, PendingClaim, PortFuture, RecordError, Recorded, Sighting, Unavailable};
use claim::{DeviceId, TenantId, Timestamp};
use redis::{Client, Cmd, Value};

use crate::config::Config;
use crate::memory::{OpenError, REMEMBERED, Stats};
use layout::Names;
use link::{Kind, Link, LinkOptions, code};
use sweep::Cursor;

pub use attempts::{ChargedTries, RedisAttempts};
pub use examine::{StoreFacts, examine};
pub use sweep::RedisSweeper;

/// See the module's head.
pub struct RedisClaimCache {
    store: Arc<Store>,
    limit: u64,
    limit_per_tenant: u64,
    cursor: tokio::sync::Mutex<Cursor>,
    sweeps: AtomicU64,
    held: AtomicU64,
    fullest: AtomicU64,
    expired: AtomicU64,
}

/// The server as its users share it.
struct Store {
    link: Link,
    names: Names,
    next: AtomicU64,
}

/// When a claim that found the server's memory full may come again.
const MEMORY_PAUSE: Duration = Duration::from_secs(60);

impl RedisClaimCache {
    /// Connects, and refuses a server that may not keep claims. `patience` (`timeouts.store`) bounds every wait. Start a
    /// [`RedisSweeper`] afterwards.
    pub async fn open(config: &Config, patience: Duration, now: Timestamp) -> Result<Arc<Self>, OpenError> {
        let not_usable = |error: redis::RedisError| OpenError::Config(format!("`claim_cache.redis_url`: {error}"));
        let client = Client::open(config.redis_url.as_str()).map_err(not_usable)?;
        let options =
            LinkOptions { client, patience, queue: config.redis_queue, wait_replicas: config.redis_wait_replicas };
        let link = Link::open(options).await.map_err(|fault| OpenError::Store(fault.to_string()))?;
        let mut start = [0; 8];
        getrandom::fill(&mut start).map_err(|_| OpenError::Store("the system has no random bytes".to_owned()))?;
        let next = AtomicU64::new(u64::from_be_bytes(start));
        Ok(Arc::new(Self {
            store: Arc::new(Store { link, names: Names::new(&config.redis_prefix), next }),
            limit: config.redis_max_pending(),
            limit_per_tenant: config.max_pending_per_tenant,
            cursor: tokio::sync::Mutex::new(Cursor::starting(now)),
            sweeps: AtomicU64::new(0),
            held: AtomicU64::new(0),
            fullest: AtomicU64::new(0),
            expired: AtomicU64::new(0),
        }))
    }

    /// Whether the server answered the last time it was asked; the [`RedisSweeper`] asks each second.
    pub fn healthy(&self) -> bool {
        self.store.link.up()
    }

    /// The cache in figures, as the last sweep saw them; those of the tenants are up to 15 s old.
    pub fn stats(&self) -> Stats {
        let fullest = self.fullest.load(Ordering::Relaxed) as f64 / self.limit_per_tenant.max(1) as f64;
        Stats {
            pending: self.held.load(Ordering::Relaxed),
            limit: self.limit,
            remembered: 0,
            fullest_tenant_ratio: fullest,
            expired_total: self.expired.load(Ordering::Relaxed),
            journal_bytes: 0,
        }
    }

    fn recording(&self, claim: &PendingClaim, now: Timestamp) -> Cmd {
        let names = &self.store.names;
        let mut call = scripts::RECORD.call(&[&names.claim(claim.device), &names.ends, &names.counts]);
        call.arg(&layout::pack(claim, self.store.unique())).arg(now.as_millis());
        // Absolute: however often it is sent, it ends at one instant.
        call.arg(claim.expires_at.plus(REMEMBERED + FORGET_SLACK).as_millis()).arg(claim.device.as_bytes());
        call.arg(self.limit).arg(self.limit_per_tenant);
        call
    }

    async fn remove(&self, call: Cmd) -> Result<bool, Unavailable> {
        Ok(self.store.link.one(call, Kind::Kept).await? == Value::Int(1))
    }
}

/// How much longer than it is remembered a claim is kept: the clocks of nodes and server differ.
const FORGET_SLACK: Duration = Duration::from_secs(60);

impl ClaimCache for RedisClaimCache {
    fn record(&self, claim: PendingClaim, now: Timestamp) -> PortFuture<'_, Result<Recorded, RecordError>> {
        let call = self.recording(&claim, now);
        PortFuture::later(async move {
            let mut values = self.store.link.ask(vec![call], Kind::Kept).await.map_err(|_| RecordError::Unavailable)?;
            values.pop().map_or(Err(RecordError::Unavailable), |value| recorded(&value, now))
        })
    }

    fn record_batch(
        &self,
        claims: Vec<PendingClaim>,
        now: Timestamp,
    ) -> PortFuture<'_, Vec<Result<Recorded, RecordError>>> {
        if claims.is_empty() {
            return PortFuture::ready(Vec::new());
        }
        let count = claims.len();
        let calls = claims.iter().map(|claim| self.recording(claim, now)).collect();
        PortFuture::later(async move {
            match self.store.link.ask(calls, Kind::Kept).await {
                Ok(values) => values.iter().map(|value| recorded(value, now)).collect(),
                Err(Unavailable) => vec![Err(RecordError::Unavailable); count],
            }
        })
    }

    fn peek(&self, device: DeviceId, now: Timestamp) -> PortFuture<'_, Result<Option<Sighting>, Unavailable>> {
        let mut get = redis::cmd("GET");
        get.arg(self.store.names.claim(device));
        PortFuture::later(async move {
            match self.store.link.one(get, Kind::Passing).await? {
                Value::Nil => Ok(None),
                Value::BulkString(value) => {
                    // What a later version wrote is not understood, and so cannot be judged.
                    let seen = layout::unpack(device, &value).ok_or(Unavailable)?;
                    Ok((now < seen.claim.expires_at.plus(REMEMBERED)).then_some(seen))
                }
                _ => Err(Unavailable),
            }
        })
    }

    fn consume(&self, device: DeviceId, stamp: u64) -> PortFuture<'_, Result<bool, Unavailable>> {
        let names = &self.store.names;
        let mut call = scripts::CONSUME.call(&[&names.claim(device), &names.ends, &names.counts]);
        call.arg(&stamp.to_be_bytes()).arg(device.as_bytes());
        PortFuture::later(self.remove(call))
    }

    fn withdraw(&self, device: DeviceId, until: Timestamp) -> PortFuture<'_, Result<bool, Unavailable>> {
        let names = &self.store.names;
        let mut call = scripts::WITHDRAW.call(&[&names.claim(device), &names.ends, &names.counts]);
        call.arg(until.as_millis()).arg(device.as_bytes());
        PortFuture::later(self.remove(call))
    }

    fn pending(
        &self,
        tenant: TenantId,
        after: Option<DeviceId>,
        limit: usize,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Vec<PendingClaim>, Unavailable>> {
        PortFuture::later(listing::live_of(&self.store, tenant, after, limit, now))
    }
}

/// What the script said.
fn recorded(value: &Value, now: Timestamp) -> Result<Recorded, RecordError> {
    match value {
        Value::Int(0) => Ok(Recorded::New),
        Value::Int(1) => Ok(Recorded::Replaced),
        Value::Int(2) => Err(RecordError::AnnouncedByDevice),
        Value::Array(parts) => match parts[..] {
            [Value::Int(3), Value::Int(first_end)] => {
                let wait = now.until(Timestamp::from_millis(first_end).plus(sweep::GRACE));
                Err(RecordError::Full { retry_after: wait.clamp(Duration::from_secs(1), Duration::from_secs(60)) })
            }
            _ => Err(RecordError::Unavailable),
        },
        value if code(value) == Some("OOM") => Err(RecordError::Full { retry_after: MEMORY_PAUSE }),
        _ => Err(RecordError::Unavailable),
    }
}

impl Store {
    /// A number that is never used twice: counted from a random one, so that nodes do not meet.
    fn unique(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Asks for all; one error of the server is an error of the whole.
    async fn all(&self, commands: Vec<Cmd>, kind: Kind) -> Result<Vec<Value>, Unavailable> {
        let values = self.link.ask(commands, kind).await?;
        match values.iter().find_map(code) {
            Some(code) => {
                tracing::warn!(code, "the claim store refused a command");
                Err(Unavailable)
            }
            None => Ok(values),
        }
    }
}
