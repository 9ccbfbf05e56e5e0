//! How a server is reached, whether it may keep claims, and which slots of a cluster it says are whose.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use claim::Timestamp;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError, TlsCertificates,
    Value,
};

use super::layout::SLOTS;
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
    /// The user lacks a permission. Holds no password.
    NotAllowed(String),
    /// It would throw away what is pending when its memory is short.
    Evicts(String),
    /// It is older than the commands that are used.
    TooOld(String),
    /// Several addresses were given, and the one that answered belongs to no cluster.
    NoCluster,
    /// A cluster some of whose slots nobody serves.
    Uncovered,
    /// Its clock is so far from ours.
    Skewed(Duration),
}

impl ServerFault {
    /// That a server did not do what was asked behind a new connection.
    pub(super) fn refused(error: &redis::ServerError) -> Self {
        match error.code() {
            "NOPERM" => Self::NotAllowed(format!("is refused: {}", error.details().unwrap_or("NOPERM"))),
            code => Self::NotServing(code.to_owned()),
        }
    }
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
            Self::NotAllowed(what) => write!(
                f,
                "`claim_cache.redis_url`: its user {what}; config/claimd.toml has the line that gives what is needed"
            ),
            Self::NoCluster => f.write_str(
                "`claim_cache.redis_url` has several addresses, but the server there belongs to no cluster; give one",
            ),
            Self::Uncovered => f.write_str("`claim_cache.redis_url`: some slots of the cluster have no server"),
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

/// An address, and who signs in there.
#[derive(Clone)]
pub(super) struct Access {
    info: ConnectionInfo,
}

impl Access {
    /// Refuses what it cannot speak, without connecting. `certificates`: for `rediss://`, instead of whom this machine
    /// believes.
    pub(super) fn parse(url: &str, certificates: Option<&TlsCertificates>) -> Result<Self, RedisError> {
        let info = url.into_connection_info()?;
        let client = match certificates {
            Some(certificates) => Client::build_with_tls(info, certificates.clone())?,
            None => Client::open(info)?,
        };
        Ok(Self { info: client.get_connection_info().clone() })
    }

    /// The same at another server of a cluster, as clusters name them: `host:port`. Without a host: at this one's.
    pub(super) fn at(&self, address: &str) -> Result<Self, ServerFault> {
        let named = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = named.ok_or(ServerFault::Silent)?;
        let own = match self.info.addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.as_str(),
            _ => "127.0.0.1",
        };
        let host = if host.is_empty() { own } else { host };
        let addr = match self.info.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                host: host.to_owned(),
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host.to_owned(), port),
        };
        Ok(Self { info: self.info.clone().set_addr(addr) })
    }

    pub(super) async fn connect(&self, patience: Duration) -> Result<MultiplexedConnection, RedisError> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(patience)).set_response_timeout(Some(patience));
        Client::open(self.info.clone())?.get_multiplexed_async_connection_with_config(&config).await
    }
}

/// The address alone: no user, no password.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info.addr().fmt(f)
    }
}

/// The masters of a cluster, each by its address with the slots it serves.
pub(super) struct Slots(BTreeMap<String, Vec<RangeInclusive<usize>>>);

impl Slots {
    pub(super) fn masters(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(super) fn ranges_of(&self, address: &str) -> impl Iterator<Item = RangeInclusive<usize>> {
        self.0.get(address).into_iter().flatten().cloned()
    }

    /// The answer to `CLUSTER SLOTS`: for each range its first slot, its last, its master, and replicas.
    fn parse(said: &Value) -> Option<Self> {
        let Value::Array(ranges) = said else { return None };
        let mut masters: BTreeMap<String, Vec<RangeInclusive<usize>>> = BTreeMap::new();
        for range in ranges {
            let Value::Array(parts) = range else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = &parts[..] else { return None };
            let [host, Value::Int(port), ..] = &master[..] else { return None };
            // An unknown host means the one that was asked.
            let host = match host {
                Value::BulkString(host) if host != b"?" => String::from_utf8_lossy(host).into_owned(),
                _ => String::new(),
            };
            let slot = |number: i64| usize::try_from(number).ok().filter(|slot| *slot < usize::from(SLOTS));
            masters.entry(format!("{host}:{port}")).or_default().push(slot(*first)?..=slot(*last)?);
        }
        Some(Self(masters))
    }
}

/// Asks one server of a cluster who serves what.
pub(super) async fn slots(access: &Access, patience: Duration) -> Result<Slots, ServerFault> {
    let mut connection = access.connect(patience).await?;
    let mut ask = redis::cmd("CLUSTER");
    ask.arg("SLOTS");
    let said = connection.send_packed_command(&ask).await?;
    Slots::parse(&said).ok_or(ServerFault::Silent)
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
        if let Some(error) = values.iter().find_map(|value| match value {
            Value::ServerError(error) => Some(error),
            _ => None,
        }) {
            return Err(ServerFault::refused(error));
        }
        let time = texts(values.pop().unwrap_or(Value::Nil));
        let part = |at: usize| time.get(at).and_then(|text| number(text)).and_then(|part| u64::try_from(part).ok());
        let (seconds, micros) = part(0).zip(part(1)).ok_or(ServerFault::Silent)?;
        let mut text = String::new();
        for value in values {
            match value {
                Value::BulkString(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
                Value::VerbatimString { text: said, .. } => text.push_str(&said),
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

/// Whether a server may keep claims; returns whether it belongs to a cluster.
pub(super) async fn check(connection: &mut MultiplexedConnection, now: Timestamp) -> Result<bool, ServerFault> {
    let info = Info::of(connection).await?;
    judge_clock(info.since_1970, now)?;
    judge(&info)?;
    Ok(info.field("redis_mode") == "cluster" || info.field("server_mode") == "cluster")
}

fn judge_clock(theirs: Duration, ours: Timestamp) -> Result<(), ServerFault> {
    let skew = Duration::from_millis(ours.as_millis().max(0).unsigned_abs()).abs_diff(theirs);
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
        let ours = Timestamp::from_millis(1_000_000_000);
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
