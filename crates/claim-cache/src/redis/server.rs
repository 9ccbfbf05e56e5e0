//! Whether a server may keep claims.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::Value;
use redis::aio::MultiplexedConnection;

use super::sweep::{number, texts};

/// How far its clock may be from ours. It forgets a claim by its own clock, eleven minutes after the end: one that is far
/// ahead would forget what is pending.
const SKEW: Duration = Duration::from_secs(60);

/// What is wrong with a server.
#[derive(Debug)]
pub(super) enum ServerFault {
    /// It cannot be reached, or refuses who asks. Holds no password.
    Connection(String),
    /// It did not answer in time, or not what was asked.
    Silent,
    /// It refuses commands, with this code.
    NotServing(String),
    /// It would throw away what is pending when its memory is short.
    Evicts(String),
    /// It is older than the commands that are used.
    TooOld(String),
    /// Its clock is so far from ours.
    Skewed(Duration),
}

impl fmt::Display for ServerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => write!(f, "`claim_cache.redis_url`: {error}"),
            Self::Silent => f.write_str("`claim_cache.redis_url`: no answer in time"),
            Self::NotServing(code) => write!(f, "`claim_cache.redis_url`: the server refuses commands with {code}"),
            Self::Evicts(policy) => {
                write!(f, "`claim_cache.redis_url`: the server's maxmemory-policy is {policy}; it must be noeviction")
            }
            Self::Skewed(by) => {
                write!(
                    f,
                    "`claim_cache.redis_url`: the server's clock is {} s from ours; it must be within 60 s",
                    by.as_secs()
                )
            }
            Self::TooOld(version) => {
                write!(f, "`claim_cache.redis_url`: the server's version is {version}; it must be 7.0 or later")
            }
        }
    }
}

/// Whether commands are refused because another server is the one to ask, or this one later.
pub(super) fn is_elsewhere(code: &str) -> bool {
    matches!(code, "READONLY" | "LOADING" | "MASTERDOWN" | "NOAUTH")
}

/// What a server says of itself.
pub(super) struct Info {
    pub(super) text: String,
    /// By its clock.
    pub(super) since_1970: Duration,
}

impl Info {
    /// Reads INFO, since CONFIG is closed on many managed servers.
    pub(super) async fn of(connection: &mut MultiplexedConnection) -> Result<Self, ServerFault> {
        const SECTIONS: [&str; 4] = ["memory", "server", "replication", "persistence"];
        let mut pipeline = redis::pipe();
        for section in SECTIONS {
            pipeline.cmd("INFO").arg(section);
        }
        pipeline.cmd("TIME");
        let mut values = connection.send_packed_commands(&pipeline, 0, SECTIONS.len() + 1).await?;
        let time = texts(values.pop().unwrap_or(Value::Nil));
        let part = |at: usize| time.get(at).and_then(|text| number(text)).and_then(|part| u64::try_from(part).ok());
        let (seconds, micros) = part(0).zip(part(1)).ok_or(ServerFault::Silent)?;
        let mut text = String::new();
        for value in values {
            match value {
                Value::BulkString(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
                Value::VerbatimString { text: said, .. } => text.push_str(&said),
                Value::ServerError(error) => return Err(ServerFault::NotServing(error.code().to_owned())),
                _ => return Err(ServerFault::Silent),
            }
            text.push('\n');
        }
        Ok(Self { text, since_1970: Duration::from_secs(seconds) + Duration::from_micros(micros) })
    }

    /// A field's value, or `unknown`.
    pub(super) fn field(&self, name: &str) -> &str {
        let value = self.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map_or("unknown", str::trim)
    }

    /// The version's first number; 0 when it is not told.
    pub(super) fn major(&self) -> u32 {
        self.field("redis_version").split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0)
    }
}

/// Whether a server may keep claims.
pub(super) async fn check(connection: &mut MultiplexedConnection) -> Result<(), ServerFault> {
    let info = Info::of(connection).await?;
    judge_clock(info.since_1970, SystemTime::now())?;
    judge(&info)
}

fn judge_clock(theirs: Duration, ours: SystemTime) -> Result<(), ServerFault> {
    let skew = ours.duration_since(UNIX_EPOCH).unwrap_or_default().abs_diff(theirs);
    // In whole seconds, as the limit is told.
    if skew.as_secs() > SKEW.as_secs() { Err(ServerFault::Skewed(skew)) } else { Ok(()) }
}

fn judge(info: &Info) -> Result<(), ServerFault> {
    let policy = info.field("maxmemory_policy");
    if policy != "noeviction" {
        return Err(ServerFault::Evicts(policy.to_owned()));
    }
    match info.major() {
        0..7 => Err(ServerFault::TooOld(info.field("redis_version").to_owned())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_whose_clock_is_more_than_a_minute_off_may_not() {
        let ours = UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (theirs, fine) in [(1_000_060, true), (1_000_061, false), (999_940, true), (999_939, false), (0, false)] {
            assert_eq!(judge_clock(Duration::from_secs(theirs), ours).is_ok(), fine, "{theirs}");
        }
    }

    #[test]
    fn only_a_server_of_version_7_that_never_evicts_may_keep_claims() {
        let judge = |text: &str| judge(&Info { text: text.to_owned(), since_1970: Duration::ZERO });
        assert!(judge("maxmemory_policy:noeviction\r\nredis_version:7.0.15\r\n").is_ok());
        assert!(judge("redis_version:8.4.0\nmaxmemory_policy:noeviction\n").is_ok());
        for (info, expected) in [
            ("maxmemory_policy:allkeys-lru\r\nredis_version:7.0.15\r\n", "maxmemory-policy is allkeys-lru"),
            ("redis_version:7.0.15\r\n", "maxmemory-policy is unknown"),
            ("maxmemory_policy:noeviction\r\nredis_version:6.2.14\r\n", "version is 6.2.14"),
            ("maxmemory_policy:noeviction\r\n", "version is unknown"),
        ] {
            let fault = judge(info).expect_err(info).to_string();
            assert!(fault.contains(expected), "{fault}");
        }
    }
}
