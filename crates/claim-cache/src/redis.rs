//! The claim cache that several nodes share, on a Redis or Valkey server or a cluster of them.
//!
//! An ordinary claim is one `SET`; what is asked at the same time travels together ([`link`]). What must be looked at first
//! (a gateway's claim, a claim where room is short, taking one out) is a script on that one key. So a cluster spreads claims
//! over all its masters; the counts by which the bounds hold are in one slot ([`counts`]), as are the wrong tries. What lies
//! there under which key is told in `redis/layout.rs`. Servers must never evict (`maxmemory-policy noeviction`), which is
//! checked behind every new connection; where their memory ends, a claim is refused before its ack.
//!
//! An ack means: the server has it. Replication is asynchronous, so a failover may lose it (the device repeats) or bring a
//! spent one back (the registry's fence voids it); `redis_wait_replicas` narrows the first. Who may speak how often is
//! counted on each node: [`crate::MemoryRates`] serves this backend too.
//!
//! The bounds are never passed: a place is taken in the store before a claim is recorded. A claim may be refused although as
//! many places are free as other nodes keep ahead for ten seconds: together a sixteenth of the free ones at most, 16,384 a
//! node and tenant at most, and none of the last sixteen. Only a claim whose answer was lost, and which is there nevertheless, may
//! go uncounted, once nobody can use its place any more. In the listing and the counts of other nodes a claim is seen a moment
//! after its ack; one acked by a node that is killed in that moment is not in them, but can be claimed.

mod attempts;
mod counts;
mod examine;
mod layout;
mod link;
mod listing;
mod recording;
mod scripts;
mod server;
mod shards;
mod sweep;
mod thinning;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use claim::ports::{ClaimCache, PendingClaim, PortFuture, RecordError, Recorded, Sighting, Unavailable};
use claim::{DeviceId, TenantId, Timestamp};
use redis::{ClientTlsConfig, Cmd, TlsCertificates, Value};
use tokio::task::JoinHandle;

use crate::clock::SystemClock;
use crate::config::Config;
use crate::memory::{OpenError, REMEMBERED, Stats};
use counts::Counts;
use layout::Names;
use link::{Kind, code};
use recording::refusal;
use server::Access;
use shards::{Call, ShardOptions, Shards};
use sweep::Cursor;

pub use attempts::{ChargedTries, RedisAttempts};
pub use examine::{StoreFacts, examine};
pub use sweep::RedisSweeper;

/// See the module's head.
pub struct RedisClaimCache {
    store: Arc<Store>,
    patience: Duration,
    limit: u64,
    limit_per_tenant: u64,
    cursor: tokio::sync::Mutex<Cursor>,
    sweeps: AtomicU64,
    held: AtomicU64,
    fullest: AtomicU64,
    expired: AtomicU64,
    /// Tells the store what changed in the counts; ended with the cache.
    counting: JoinHandle<()>,
}

/// The servers as their users share them.
struct Store {
    shards: Arc<Shards>,
    names: Names,
    counts: Counts,
    next: AtomicU64,
}

/// When a claim that found the server's memory full may come again.
const MEMORY_PAUSE: Duration = Duration::from_secs(60);
/// Claims read at once.
const READ_AT_ONCE: usize = 100;

impl RedisClaimCache {
    /// Connects, and refuses a server that may not keep claims. `patience` (`timeouts.store`) bounds every wait. Start a
    /// [`RedisSweeper`] afterwards.
    pub async fn open(config: &Config, patience: Duration, now: Timestamp) -> Result<Arc<Self>, OpenError> {
        Self::open_by(config, patience, now, &SystemClock::start()).await
    }

    /// [`Self::open`], with the clock that dates this node's claims, which may follow another one: whether a server's clock is
    /// too far off is asked of this one.
    pub async fn open_by(
        config: &Config,
        patience: Duration,
        now: Timestamp,
        clock: &SystemClock,
    ) -> Result<Arc<Self>, OpenError> {
        let not_usable = |error: redis::RedisError| OpenError::Config(format!("`claim_cache.redis_url`: {error}"));
        let certificates = certificates(config).map_err(OpenError::Config)?;
        let seeds = config.redis_url.split_whitespace().map(|url| Access::parse(url, certificates.as_ref()));
        let seeds = seeds.collect::<Result<_, _>>();
        let names = Names::new(&config.redis_prefix);
        let options = ShardOptions {
            seeds: seeds.map_err(not_usable)?,
            samples: [names.claim(DeviceId::NOBODY), names.totals.clone()],
            clock: clock.clone(),
            patience,
            queue: config.redis_queue,
            wait_replicas: config.redis_wait_replicas,
        };
        let shards = Shards::open(options).await.map_err(|fault| OpenError::Store(fault.to_string()))?;
        let mut start = [0; 16];
        getrandom::fill(&mut start).map_err(|_| OpenError::Store("the system has no random bytes".to_owned()))?;
        let [next, node] = [&start[..8], &start[8..]].map(|half| half.iter().fold(0, |n, b| n << 8 | u64::from(*b)));
        let (limit, limit_per_tenant) = (config.redis_max_pending(), config.max_pending_per_tenant);
        let store = Arc::new(Store {
            shards,
            names,
            counts: Counts::new(limit, limit_per_tenant, node),
            next: AtomicU64::new(next),
        });
        let counting = {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.counts.run(&store).await })
        };
        Ok(Arc::new(Self {
            store,
            patience,
            limit,
            limit_per_tenant,
            cursor: tokio::sync::Mutex::new(Cursor::starting(now)),
            sweeps: AtomicU64::new(0),
            held: AtomicU64::new(0),
            fullest: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            counting,
        }))
    }

    /// Whether every server answered the last time it was asked; the [`RedisSweeper`] asks each second.
    pub fn healthy(&self) -> bool {
        self.store.shards.up()
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

    /// Takes a claim out by a script that returns it.
    async fn remove(&self, device: DeviceId, call: Call) -> Result<bool, Unavailable> {
        match self.store.one(call, Kind::Kept).await? {
            Value::BulkString(gone) => {
                if let Some(seen) = layout::unpack(device, &gone) {
                    self.store.counts.removed(&seen.claim);
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

impl Drop for RedisClaimCache {
    fn drop(&mut self) {
        self.counting.abort();
    }
}

/// Whom to believe over TLS, and who this is; `None`: whom this machine believes, and nobody.
fn certificates(config: &Config) -> Result<Option<TlsCertificates>, String> {
    // The redis crate takes the process's provider of cryptography. There may be one already: the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let read = |key: &str, file: &str| match std::fs::read(file) {
        _ if file.is_empty() => Ok(None),
        Ok(pem) => Ok(Some(pem)),
        Err(error) => Err(format!("`claim_cache.{key}`: {file}: {error}")),
    };
    let root_cert = read("redis_tls_ca_file", &config.redis_tls_ca_file)?;
    let certificate = read("redis_tls_certificate_file", &config.redis_tls_certificate_file)?;
    let key = read("redis_tls_key_file", &config.redis_tls_key_file)?;
    let client_tls = match (certificate, key) {
        (Some(client_cert), Some(client_key)) => Some(ClientTlsConfig { client_cert, client_key }),
        _ => None,
    };
    Ok((root_cert.is_some() || client_tls.is_some()).then_some(TlsCertificates { client_tls, root_cert }))
}

/// How much longer than it is remembered a claim is kept: the clocks of nodes and server differ.
const FORGET_SLACK: Duration = Duration::from_secs(60);

impl ClaimCache for RedisClaimCache {
    fn record(&self, claim: PendingClaim, now: Timestamp) -> PortFuture<'_, Result<Recorded, RecordError>> {
        PortFuture::later(recording::one(&self.store, claim, now))
    }

    fn record_batch(
        &self,
        claims: Vec<PendingClaim>,
        now: Timestamp,
    ) -> PortFuture<'_, Vec<Result<Recorded, RecordError>>> {
        if claims.is_empty() {
            return PortFuture::ready(Vec::new());
        }
        PortFuture::later(recording::many(&self.store, claims, now))
    }

    fn peek(&self, device: DeviceId, now: Timestamp) -> PortFuture<'_, Result<Option<Sighting>, Unavailable>> {
        let key = self.store.names.claim(device);
        let mut get = redis::cmd("GET");
        get.arg(&key);
        let call = Call { slot: layout::slot_of(&key), command: get };
        PortFuture::later(async move {
            match self.store.one(call, Kind::Passing).await? {
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
        let key = self.store.names.claim(device);
        let mut command = scripts::CONSUME.call(&[&key]);
        command.arg(&stamp.to_be_bytes());
        PortFuture::later(self.remove(device, Call { slot: layout::slot_of(&key), command }))
    }

    fn withdraw(&self, device: DeviceId, until: Timestamp) -> PortFuture<'_, Result<bool, Unavailable>> {
        let key = self.store.names.claim(device);
        let mut command = scripts::WITHDRAW.call(&[&key]);
        command.arg(until.as_millis());
        PortFuture::later(self.remove(device, Call { slot: layout::slot_of(&key), command }))
    }

    fn pending(
        &self,
        tenant: TenantId,
        after: Option<DeviceId>,
        limit: usize,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Vec<PendingClaim>, Unavailable>> {
        PortFuture::later(async move {
            // What this node has acked is on its pages.
            self.store.counts.settled(&self.store, self.patience).await?;
            listing::live_of(&self.store, tenant, after, limit, now).await
        })
    }
}

impl Store {
    /// A number that is never used twice: counted from a random one, so that nodes do not meet.
    fn unique(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A command on keys of the one hash tag.
    fn tagged(&self, command: Cmd) -> Call {
        Call { slot: self.names.tag_slot, command }
    }

    /// The number of the connection by which the keys of the one hash tag are reached.
    fn connection(&self) -> u64 {
        self.shards.connection_of(self.names.tag_slot)
    }

    /// What was said to one call, be it an error of the server.
    async fn ask_one(&self, call: Call, kind: Kind) -> Result<Value, Unavailable> {
        self.shards.ask_one(call, kind).await
    }

    /// The value of one call; an error of the server is [`Unavailable`].
    async fn one(&self, call: Call, kind: Kind) -> Result<Value, Unavailable> {
        self.all(vec![call], kind).await?.pop().ok_or(Unavailable)
    }

    /// Asks for all; one error of the server is an error of the whole.
    async fn all(&self, calls: Vec<Call>, kind: Kind) -> Result<Vec<Value>, Unavailable> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let values = self.shards.ask(calls, kind).await.into_iter().collect::<Result<Vec<Value>, _>>()?;
        match values.iter().find_map(code) {
            Some(code) => {
                tracing::warn!(code, "the claim store refused a command");
                Err(Unavailable)
            }
            None => Ok(values),
        }
    }

    /// What is there of each of these devices.
    async fn claims(&self, devices: &[DeviceId]) -> Result<Vec<Option<Sighting>>, Unavailable> {
        let mut seen = Vec::with_capacity(devices.len());
        for some in devices.chunks(READ_AT_ONCE) {
            let values = if self.shards.clustered() {
                let get = |device: &DeviceId| {
                    let key = self.names.claim(*device);
                    let mut get = redis::cmd("GET");
                    get.arg(&key);
                    Call { slot: layout::slot_of(&key), command: get }
                };
                self.all(some.iter().map(get).collect(), Kind::Passing).await?
            } else {
                let mut get = redis::cmd("MGET");
                for device in some {
                    get.arg(self.names.claim(*device));
                }
                match self.one(self.tagged(get), Kind::Passing).await? {
                    Value::Array(values) => values,
                    _ => return Err(Unavailable),
                }
            };
            seen.extend(some.iter().zip(values).map(|(device, value)| match value {
                Value::BulkString(value) => layout::unpack(*device, &value),
                _ => None,
            }));
        }
        Ok(seen)
    }
}
