//! Looking at a claim store without using it: one that may not keep claims is looked at all the same.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::server::{Access, Info, ServerFault};
use crate::config::Config;

/// A server as it answers.
#[derive(Debug)]
pub struct StoreFacts {
    /// Its name and version, such as `redis 7.0.15` or `valkey 8.1.0`.
    pub version: String,
    /// Its first number, by which Redis counts; 0 when it does not say.
    pub major: u32,
    /// `maxmemory-policy`.
    pub policy: String,
    /// `maxmemory`, bytes; 0: as much as there is.
    pub memory_limit: u64,
    /// Memory in use, bytes.
    pub memory_used: u64,
    /// Whether it takes changes: no replica.
    pub primary: bool,
    /// Replicas that follow it.
    pub replicas: u64,
    /// Whether it writes each change to its disk (`appendonly`).
    pub append_only: bool,
    /// The fastest of five questions.
    pub round_trip: Duration,
    /// How far its clock is ahead of ours, ms.
    pub skew_ms: i64,
}

/// Connects as a server would and looks. `patience` bounds each answer. The error holds no password.
pub async fn examine(config: &Config, patience: Duration) -> Result<StoreFacts, String> {
    let fault = |fault: ServerFault| fault.to_string();
    let certificates = super::certificates(config)?;
    // Of a cluster the first that is named.
    let url = config.redis_url.split_whitespace().next().unwrap_or_default();
    let access =
        Access::parse(url, certificates.as_ref()).map_err(|error| format!("`claim_cache.redis_url`: {error}"))?;
    let mut connection = access.connect(patience).await.map_err(|error| fault(error.into()))?;
    let mut best: Option<(Duration, i64, Info)> = None;
    for _ in 0..5 {
        let asked = Instant::now();
        let info = Info::of(&mut connection).await.map_err(fault)?;
        let took = asked.elapsed();
        if best.as_ref().is_none_or(|(fastest, ..)| took < *fastest) {
            let middle = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(took / 2);
            let theirs = i64::try_from(info.since_1970.as_millis()).unwrap_or(i64::MAX);
            best = Some((took, theirs - i64::try_from(middle.as_millis()).unwrap_or(i64::MAX), info));
        }
    }
    let (round_trip, skew_ms, info) = best.ok_or_else(|| ServerFault::Silent.to_string())?;
    Ok(facts(&info, round_trip, skew_ms))
}

fn facts(info: &Info, round_trip: Duration, skew_ms: i64) -> StoreFacts {
    let number = |name: &str| info.field(name).parse().unwrap_or_default();
    let (name, version) = match info.field("valkey_version") {
        "unknown" => ("redis", info.field("redis_version")),
        version => ("valkey", version),
    };
    StoreFacts {
        version: format!("{name} {version}"),
        major: info.major(),
        policy: info.field("maxmemory_policy").to_owned(),
        memory_limit: number("maxmemory"),
        memory_used: number("used_memory"),
        primary: info.field("role") != "slave",
        replicas: number("connected_slaves"),
        append_only: info.field("aof_enabled") == "1",
        round_trip,
        skew_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valkey_is_called_by_its_own_name_and_counted_by_the_version_it_is_compatible_with() {
        let text = "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.0\r\nmaxmemory:100\r\nused_memory:40\r\n\
                    maxmemory_policy:noeviction\r\nrole:slave\r\nconnected_slaves:0\r\naof_enabled:1\r\n";
        let info = Info { text: text.to_owned(), since_1970: Duration::ZERO };
        let facts = facts(&info, Duration::ZERO, 3);
        assert_eq!((facts.version.as_str(), facts.major), ("valkey 8.1.0", 7));
        assert_eq!((facts.memory_limit, facts.memory_used), (100, 40));
        assert!(!facts.primary && facts.append_only);
    }
}
