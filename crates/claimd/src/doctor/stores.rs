//! The stores: whether they are there, may be used, are fast, and promise what an ack and a SUCCESS promise.

use std::path::Path;
use std::time::Duration;

use claim_cache::StoreFacts;
use registry::examine::{self, PostgresFacts, SqliteFacts};
use registry::moving::Standing;
use registry::{Backend, PostgresRegistry};

use super::Check;
use crate::config::Settings;

/// Every claim of a device not seen lately and every confirm waits for the database once or twice.
const SLOW_DATABASE: Duration = Duration::from_millis(10);
/// Every claim waits for the claim store.
const SLOW_CLAIMS: Duration = Duration::from_millis(5);
/// From here on a node warns, and beyond the second it is not ready.
const SKEW_WARN_MS: u64 = 5_000;
const SKEW_FAULT_MS: u64 = 60_000;
/// A write-ahead log that no checkpoint empties.
const LONG_LOG: u64 = 256 << 20;
/// Part of its memory beyond which a claim store is nearly full.
const NEARLY_FULL: f64 = 0.8;

pub(super) async fn checks(settings: &Settings, data_dir: &Path) -> Vec<Check> {
    let patience = settings.timeouts.store;
    let mut checks = match settings.registry.backend {
        Backend::Sqlite => match examine::sqlite(&settings.registry, data_dir) {
            Ok(facts) => of_sqlite(facts),
            Err(what) => {
                let next = "check the folder's owner and its room; a damaged file is restored from a backup";
                vec![Check::fault("registry", format!("{} {what}", settings.registry.path), next)]
            }
        },
        Backend::Postgres => match PostgresRegistry::examine(&settings.registry.postgres(), patience).await {
            Ok(facts) => of_postgres(&facts, settings.registry.connections),
            Err(error) => vec![Check::fault("registry", error.to_string(), error.next)],
        },
    };
    checks.extend(match settings.claim_cache.backend {
        claim_cache::Backend::Memory => vec![Check::ok(
            "claims",
            format!(
                "in memory, {} at the most; `durability = \"{}\"`",
                settings.claim_cache.max_pending(),
                durability(settings)
            ),
        )],
        claim_cache::Backend::Redis => match claim_cache::examine(&settings.claim_cache, patience).await {
            Ok(facts) => of_store(&facts),
            Err(what) => {
                let next = "check that the server runs, its address, and who may sign in";
                vec![Check::fault("claims", what, next)]
            }
        },
    });
    checks
}

fn durability(settings: &Settings) -> &'static str {
    match settings.claim_cache.durability {
        claim_cache::Durability::None => "none",
        claim_cache::Durability::Os => "os",
        claim_cache::Durability::Fsync => "fsync",
    }
}

fn of_sqlite(facts: Option<SqliteFacts>) -> Vec<Check> {
    let name = "registry";
    let Some(facts) = facts else { return vec![Check::ok(name, "SQLite; made at the first start")] };
    let found = format!("SQLite, {} MiB, writable", facts.bytes >> 20);
    let mut checks = vec![schema(facts.schema, facts.known).unwrap_or_else(|| Check::ok(name, found))];
    if facts.log_bytes > LONG_LOG {
        checks.push(Check::warn(
            "registry log",
            format!("the write-ahead log has {} MiB", facts.log_bytes >> 20),
            "end what reads the database for long (another program, a backup); the next checkpoint empties the log",
        ));
    }
    checks
}

/// What is wrong with a schema.
fn schema(found: i64, known: i64) -> Option<Check> {
    match Standing::of(found, known) {
        Standing::Nothing | Standing::Schema { .. } => None,
        other => Some(Check::fault("registry", format!("it {other}"), other.next())),
    }
}

fn of_postgres(facts: &PostgresFacts, connections: usize) -> Vec<Check> {
    let name = "registry";
    let mut checks = Vec::new();
    for (setting, value) in [("synchronous_commit", &facts.synchronous_commit), ("fsync", &facts.fsync)] {
        if value.as_deref() == Some("off") {
            checks.push(Check::fault(
                name,
                format!("{} has {setting} off: a confirmed owner could be lost", facts.place),
                "switch it on, for the server or for this user: ALTER ROLE … SET …",
            ));
        }
    }
    checks.extend(facts.schema.and_then(|found| schema(found, facts.known)));
    if !facts.rights {
        let what = match facts.schema {
            None => "make tables",
            Some(schema) if schema < facts.known => "change tables",
            Some(_) => "change rows",
        };
        let next = "make it the owner of the database: ALTER DATABASE … OWNER TO …";
        checks.push(Check::fault(name, format!("{}: this user may not {what}", facts.place), next));
    }
    if checks.is_empty() {
        let state = match facts.schema {
            None => "its tables are made at the first start".to_owned(),
            Some(schema) if schema < facts.known => {
                format!("schema {schema} becomes {} at the next start", facts.known)
            }
            Some(schema) => format!("schema {schema}"),
        };
        checks.push(Check::ok(name, format!("{}, version {}, {state}", facts.place, facts.version)));
    }
    if let Some(allowed) = facts.connections.and_then(|allowed| usize::try_from(allowed).ok()) {
        let found = format!("the server allows {allowed}, a node opens up to {connections}");
        checks.push(match connections {
            // One more listens for events, and the server keeps a few for its own people.
            asked if asked + 4 > allowed => Check::fault(
                "registry connections",
                found,
                "lower `registry.connections`, or raise max_connections; every node needs its own",
            ),
            _ => Check::ok("registry connections", found),
        });
    }
    if facts.encrypted == Some(false) && !facts.place.starts_with("postgresql /") {
        checks.push(Check::warn(
            "registry transport",
            "the connection is not encrypted",
            "use it on one machine or inside a network of its own only",
        ));
    }
    checks.push(delay("registry delay", facts.round_trip, SLOW_DATABASE));
    checks.push(skew("registry clock", facts.skew_ms));
    checks
}

fn of_store(facts: &StoreFacts) -> Vec<Check> {
    let name = "claims";
    let mut checks = Vec::new();
    if facts.policy != "noeviction" {
        checks.push(Check::fault(
            name,
            format!("maxmemory-policy is {}: pending claims could be thrown away", facts.policy),
            "CONFIG SET maxmemory-policy noeviction, and the same in its configuration",
        ));
    }
    if facts.major < 7 {
        checks.push(Check::fault(name, format!("{} is too old", facts.version), "use Redis 7.0 or later, or Valkey"));
    }
    if !facts.primary {
        checks.push(Check::fault(name, "this is a replica", "give the primary's address in `claim_cache.redis_url`"));
    }
    if checks.is_empty() {
        let replicas = facts.replicas;
        let disk = if facts.append_only { "writes to its disk" } else { "keeps nothing over its end" };
        checks.push(Check::ok(name, format!("{}, noeviction, replicas {replicas}, {disk}", facts.version)));
    }
    checks.push(memory(facts.memory_used, facts.memory_limit));
    checks.push(delay("claims delay", facts.round_trip, SLOW_CLAIMS));
    checks.push(skew("claims clock", facts.skew_ms));
    checks
}

fn memory(used: u64, limit: u64) -> Check {
    let name = "claims memory";
    match limit {
        0 => Check::warn(
            name,
            format!("{} MiB used, no maxmemory: the kernel may kill the server when the machine is full", used >> 20),
            "set maxmemory to what the machine can spare; claims beyond it are refused before their ack",
        ),
        _ if used as f64 > limit as f64 * NEARLY_FULL => Check::warn(
            name,
            format!("{} of {} MiB used", used >> 20, limit >> 20),
            "raise maxmemory; claims beyond it are refused before their ack",
        ),
        _ => Check::ok(name, format!("{} of {} MiB used", used >> 20, limit >> 20)),
    }
}

fn delay(name: &str, round_trip: Duration, slow: Duration) -> Check {
    let found = format!("a question takes {:.2} ms", round_trip.as_secs_f64() * 1000.0);
    if round_trip > slow {
        return Check::warn(name, found, "bring the nodes nearer to it, or look at its load");
    }
    Check::ok(name, found)
}

fn skew(name: &str, skew_ms: i64) -> Check {
    let side = if skew_ms < 0 { "behind" } else { "ahead of" };
    let found = format!("{:.3} s {side} ours", skew_ms.unsigned_abs() as f64 / 1000.0);
    let next = "run chrony or systemd-timesyncd on both machines";
    match skew_ms.unsigned_abs() {
        by if by > SKEW_FAULT_MS => Check::fault(name, found, next),
        by if by > SKEW_WARN_MS => Check::warn(name, found, next),
        _ => Check::ok(name, found),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn clocks_may_differ_by_five_seconds_and_never_by_more_than_a_minute() {
        for (ms, state) in [
            (5_000, State::Ok),
            (-5_000, State::Ok),
            (5_001, State::Warn),
            (-60_000, State::Warn),
            (60_001, State::Fault),
            (-60_001, State::Fault),
        ] {
            assert_eq!(skew("clock", ms).state, state, "{ms}");
        }
    }

    #[test]
    fn a_store_that_is_nearly_full_or_knows_no_end_is_a_warning() {
        assert_eq!(memory(80, 100).state, State::Ok);
        assert_eq!(memory(81, 100).state, State::Warn);
        assert_eq!(memory(1, 0).state, State::Warn);
        assert_eq!(delay("x", SLOW_CLAIMS, SLOW_CLAIMS).state, State::Ok);
        assert_eq!(delay("x", SLOW_CLAIMS * 2, SLOW_CLAIMS).state, State::Warn);
    }

    #[test]
    fn old_stores_replicas_and_newer_schemas_are_faults() {
        let facts = StoreFacts {
            version: "redis 6.2.14".to_owned(),
            major: 6,
            policy: "noeviction".to_owned(),
            memory_limit: 1 << 30,
            memory_used: 0,
            primary: false,
            replicas: 0,
            append_only: false,
            round_trip: Duration::ZERO,
            skew_ms: 0,
        };
        let faults = of_store(&facts);
        assert_eq!(faults.iter().filter(|check| check.state == State::Fault).count(), 2, "{faults:?}");
        // Newer, half copied, moved away.
        for found in [12, 1_000_011, 2_000_011] {
            assert_eq!(schema(found, 11).unwrap().state, State::Fault);
        }
        assert!(schema(11, 11).is_none() && schema(3, 11).is_none());
        let long = of_sqlite(Some(SqliteFacts { bytes: 0, log_bytes: LONG_LOG + 1, schema: 1, known: 1 }));
        assert_eq!(long[1].state, State::Warn);
    }
}
