//! Where pending claims and wrong tries are kept: in this process or in a store that several nodes share. The rest of the
//! node sees the ports and a [`Keeper`].

use std::path::Path;
use std::sync::Arc;

use claim::directory::Directory;
use claim::ports::{AttemptLedger, ClaimCache, PortFuture, Unavailable};
use claim::{DeviceId, Timestamp};
use claim_cache::{
    Backend, ChargedTries, MemoryAttempts, MemoryClaimCache, OpenError, RedisAttempts, RedisClaimCache, RedisSweeper,
    Stats, Sweeper, SystemClock,
};

use crate::config::{Fault, Settings};

/// What was opened.
pub(crate) struct Claims {
    pub(crate) cache: Arc<dyn ClaimCache>,
    pub(crate) attempts: Arc<dyn AttemptLedger>,
    pub(crate) keeper: Keeper,
}

/// The store behind the ports, as its operator sees it.
#[derive(Clone)]
pub(crate) enum Keeper {
    /// This process's memory.
    Memory(Arc<MemoryClaimCache>),
    /// A server that several nodes share.
    Redis(Arc<RedisClaimCache>),
}

/// Whoever looks for what has ended; stops when dropped.
pub(crate) enum Sweeping {
    /// A thread.
    Memory {
        /// Joined when dropped.
        _sweeper: Sweeper,
    },
    /// A task.
    Redis {
        /// Aborted when dropped.
        _sweeper: RedisSweeper,
    },
}

impl Claims {
    /// Opens what `settings` asks for. Wrong tries that were charged before are counted from the audit log.
    pub(crate) async fn open(
        settings: &Settings,
        data_dir: &Path,
        directory: &Arc<dyn Directory>,
        clock: SystemClock,
    ) -> Result<Self, Fault> {
        match settings.claim_cache.backend {
            Backend::Memory => Self::in_memory(settings, data_dir, &**directory, clock).await,
            Backend::Redis => Self::in_redis(settings, directory, clock).await,
        }
    }

    async fn in_memory(
        settings: &Settings,
        data_dir: &Path,
        directory: &dyn Directory,
        clock: SystemClock,
    ) -> Result<Self, Fault> {
        let cache = MemoryClaimCache::open(&settings.claim_cache, data_dir, settings.claim.lifetime_max, clock.now())
            .map_err(|error| not_opened(&error))?;
        let attempts = Arc::new(MemoryAttempts::new(&settings.claim_cache));
        let memory = settings.attempts.account_window.max(settings.attempts.device_window);
        let charged = directory.charged_tries(clock.now().minus(memory)).await;
        attempts.restore(
            charged.map_err(|_| Fault::plain("the registry does not answer").next("check the disk; see the log"))?,
        );
        Ok(Self { cache: cache.clone(), attempts, keeper: Keeper::Memory(cache) })
    }

    async fn in_redis(settings: &Settings, directory: &Arc<dyn Directory>, clock: SystemClock) -> Result<Self, Fault> {
        let cache = RedisClaimCache::open_by(&settings.claim_cache, settings.timeouts.store, clock.now(), &clock)
            .await
            .map_err(|error| not_opened(&error))?;
        let attempts = Arc::new(RedisAttempts::beside(&cache, charged_tries(Arc::clone(directory))));
        Ok(Self { cache: cache.clone(), attempts, keeper: Keeper::Redis(cache) })
    }
}

fn charged_tries(directory: Arc<dyn Directory>) -> ChargedTries {
    Box::new(move |since: Timestamp| {
        let directory = Arc::clone(&directory);
        PortFuture::later(async move { directory.charged_tries(since).await.map_err(|_| Unavailable) })
    })
}

fn not_opened(error: &OpenError) -> Fault {
    let next = match error {
        OpenError::Config(_) => "see config/claimd.toml",
        OpenError::Journal(_) => "check the folder and its room; see the log",
        OpenError::Store(_) => "check that the server runs, who may sign in, and its settings",
    };
    Fault::plain(format!("the claim cache: {error}")).next(next)
}

impl Keeper {
    /// Starts to look for what has ended; `on_expired` is called for each claim that ended unclaimed.
    pub(crate) fn sweep(
        &self,
        clock: SystemClock,
        on_expired: impl FnMut(DeviceId) + Send + 'static,
    ) -> std::io::Result<Sweeping> {
        Ok(match self {
            Self::Memory(cache) => Sweeping::Memory { _sweeper: Sweeper::start(cache.clone(), clock, on_expired)? },
            Self::Redis(cache) => Sweeping::Redis { _sweeper: RedisSweeper::start(cache.clone(), clock, on_expired) },
        })
    }

    /// Whether claims can be recorded.
    pub(crate) fn healthy(&self) -> bool {
        match self {
            Self::Memory(cache) => cache.healthy(),
            Self::Redis(cache) => cache.healthy(),
        }
    }

    /// The store in figures.
    pub(crate) fn stats(&self) -> Stats {
        match self {
            Self::Memory(cache) => cache.stats(),
            Self::Redis(cache) => cache.stats(),
        }
    }

    /// Saves what this process alone has. Blocks on the disk.
    pub(crate) fn close(&self) -> Result<(), String> {
        match self {
            Self::Memory(cache) => cache.close().map_err(|error| error.to_string()),
            Self::Redis(_) => Ok(()),
        }
    }

    /// How the start-up banner names it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Memory(_) => "embedded",
            Self::Redis(_) => "shared claims",
        }
    }
}
