//! The `[claim_cache]` section of the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where pending claims are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// This process's memory, with a journal on disk.
    #[default]
    Memory,
    /// A Redis or Valkey server that several nodes share.
    Redis,
}

/// What an acknowledged claim survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// A graceful stop.
    None,
    /// Also a crash or kill of the process: the ack waits until the operating system has the record.
    #[default]
    Os,
    /// Also a power loss: the ack waits until the disk has the record.
    Fsync,
}

/// The `[claim_cache]` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where pending claims are kept.
    pub backend: Backend,
    /// What an acknowledged claim survives.
    pub durability: Durability,
    /// Most pending claims in all. 0 means the smaller of 10,000,000 and what a quarter of the memory holds; with Redis,
    /// whose memory is another machine's, 10,000,000.
    pub max_pending: u64,
    /// Most pending claims of one tenant.
    pub max_pending_per_tenant: u64,
    /// Size at which a journal file is closed and the next begun, in bytes; at least 4,096.
    pub journal_segment_bytes: u64,
    /// Most bytes waiting for the journal's writer; beyond that claims are refused.
    pub journal_queue_bytes: usize,
    /// How often the journal is synced to disk with durability `os`.
    #[serde(with = "humantime_serde")]
    pub journal_sync_interval: Duration,
    /// Most keys (account and device) whose wrong tries are counted; beyond that nothing is evaluated.
    pub attempt_keys: usize,
    /// Most senders whose rate is tracked; beyond that a sender of the last second is forgotten.
    pub rate_senders: usize,
    /// Most addresses whose refused credentials are counted (IPv6 by /64); beyond that an old one is forgotten.
    pub rate_addresses: usize,
    /// With Redis: `redis://user:password@host:port/database`, `rediss://…` with TLS, or `unix:///path`. In a cluster one of
    /// its servers is enough; several, separated by spaces, are asked in turn at the start.
    pub redis_url: String,
    /// With `rediss://`: a PEM file of the authorities that are believed; empty: those that this machine believes.
    pub redis_tls_ca_file: String,
    /// With `rediss://`: PEM files of the certificate that is shown to the server, and of its key; empty: none.
    pub redis_tls_certificate_file: String,
    /// See `redis_tls_certificate_file`.
    pub redis_tls_key_file: String,
    /// With Redis: what all keys begin with, between braces. Nodes that share claims share it.
    pub redis_prefix: String,
    /// With Redis: replicas that must have a claim before its ack.
    pub redis_wait_replicas: u32,
    /// With Redis: requests that may wait for the server; beyond that claims are refused.
    pub redis_queue: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            backend: Backend::Memory,
            durability: Durability::Os,
            max_pending: 0,
            max_pending_per_tenant: 1_000_000,
            journal_segment_bytes: 64 * 1024 * 1024,
            journal_queue_bytes: 64 * 1024 * 1024,
            journal_sync_interval: Duration::from_millis(200),
            attempt_keys: 1_000_000,
            rate_senders: 1_000_000,
            rate_addresses: 65_536,
            redis_url: String::new(),
            redis_tls_ca_file: String::new(),
            redis_tls_certificate_file: String::new(),
            redis_tls_key_file: String::new(),
            redis_prefix: "claimd".to_owned(),
            redis_wait_replicas: 0,
            redis_queue: 65_536,
        }
    }
}

/// The most that `max_pending` = 0 allows.
const AUTOMATIC_MOST: u64 = 10_000_000;
/// What is allowed when the machine does not say how much memory it has.
const AUTOMATIC_UNKNOWN: u64 = 1_000_000;
/// Memory of one pending claim at the worst filling of the map, ring included, in bytes.
const ENTRY_BYTES: u64 = 200;

impl Config {
    /// The bound on pending claims in force.
    pub fn max_pending(&self) -> u64 {
        match self.max_pending {
            0 => automatic(memory_bytes()),
            limit => limit,
        }
    }

    /// What cannot be, each with what to do about it. Does not show the address, which may hold a password.
    pub fn faults(&self) -> Vec<(String, &'static str)> {
        let mut faults = Vec::new();
        if self.backend == Backend::Redis && self.redis_url.is_empty() {
            let next = "give one like redis://user:password@host:6379/0, by CLAIMD_CLAIM_CACHE__REDIS_URL_FILE if it holds a password";
            faults.push(("`claim_cache.redis_url` is empty, with `claim_cache.backend` = \"redis\"".to_owned(), next));
        }
        let files = [&self.redis_tls_ca_file, &self.redis_tls_certificate_file, &self.redis_tls_key_file];
        let tls = self.redis_url.split_whitespace().all(|url| url.starts_with("rediss://"));
        if self.backend == Backend::Redis && !tls && files.iter().any(|file| !file.is_empty()) {
            let what = "`claim_cache.redis_url` is without TLS, though there are `redis_tls_` files".to_owned();
            faults.push((what, "write rediss:// in each address, or empty those keys"));
        }
        if self.redis_tls_certificate_file.is_empty() != self.redis_tls_key_file.is_empty() {
            let what = "of `claim_cache.redis_tls_certificate_file` and `redis_tls_key_file` one is empty".to_owned();
            faults.push((what, "name both files, or neither"));
        }
        if self.redis_prefix.is_empty() || self.redis_prefix.contains(['{', '}']) {
            let what = format!("`claim_cache.redis_prefix` is \"{}\"", self.redis_prefix);
            faults.push((what, "give a name without braces; they are put around it"));
        }
        faults
    }

    /// The bound on pending claims in a shared store.
    pub(crate) fn redis_max_pending(&self) -> u64 {
        match self.max_pending {
            0 => AUTOMATIC_MOST,
            limit => limit,
        }
    }
}

fn automatic(memory: Option<u64>) -> u64 {
    memory.map_or(AUTOMATIC_UNKNOWN, |bytes| (bytes / 4 / ENTRY_BYTES).min(AUTOMATIC_MOST))
}

/// Memory this process may use: the machine's, or its control group's where that is less.
fn memory_bytes() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(total_of_meminfo);
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    machine.into_iter().chain(group).min()
}

fn total_of_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_automatic_bound_is_a_quarter_of_memory_and_ten_million_at_most() {
        assert_eq!(automatic(Some(800)), 1);
        assert_eq!(automatic(Some(8_000_000_000 - 800)), 9_999_999);
        assert_eq!(automatic(Some(8_000_000_000)), 10_000_000);
        assert_eq!(automatic(Some(u64::MAX)), 10_000_000);
        assert_eq!(automatic(None), 1_000_000);
        let config = Config { max_pending: 7, ..Config::default() };
        assert_eq!(config.max_pending(), 7);
    }

    #[test]
    fn a_shared_store_needs_an_address_and_a_prefix_without_braces() {
        assert!(Config::default().faults().is_empty());
        let redis = Config { backend: Backend::Redis, ..Config::default() };
        assert!(redis.faults()[0].0.contains("claim_cache.redis_url"));
        let redis = Config { redis_url: "redis://claimd:hunter2@host".to_owned(), ..redis };
        assert!(redis.faults().is_empty());
        for prefix in ["", "a{b}", "}"] {
            let config = Config { redis_prefix: prefix.to_owned(), ..redis.clone() };
            let faults = config.faults();
            assert!(faults.len() == 1 && faults[0].0.contains("claim_cache.redis_prefix"), "{faults:?}");
            assert!(!faults[0].0.contains("hunter2"));
        }
    }

    #[test]
    fn certificates_need_tls_and_a_certificate_its_key() {
        let plain = Config { backend: Backend::Redis, redis_url: "redis://host".to_owned(), ..Config::default() };
        let with_ca = Config { redis_tls_ca_file: "ca.pem".to_owned(), ..plain };
        assert!(with_ca.faults()[0].0.contains("without TLS"));
        let mixed = Config { redis_url: "rediss://one redis://other".to_owned(), ..with_ca.clone() };
        assert!(mixed.faults()[0].0.contains("without TLS"));
        let tls = Config { redis_url: "rediss://one rediss://other".to_owned(), ..with_ca };
        assert!(tls.faults().is_empty());
        let half = Config { redis_tls_key_file: "key.pem".to_owned(), ..tls };
        assert!(half.faults()[0].0.contains("one is empty"));
    }

    #[test]
    fn meminfo_is_read_as_linux_writes_it() {
        assert_eq!(total_of_meminfo("MemTotal:       16316412 kB\nMemFree: 1 kB\n"), Some(16_316_412 * 1024));
        assert_eq!(total_of_meminfo("nothing"), None);
    }
}
