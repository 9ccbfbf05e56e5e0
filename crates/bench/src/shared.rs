//! Claims recorded through Redis beside `redis-benchmark`, which SETs values and keys of the same size on the same server:
//! both with a hundred commands in a pipeline and two pipelines out. What is recorded is counted and listed too.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use claim::ports::{ClaimCache, ClaimSource, PendingClaim, Recorded};
use claim::{DeviceId, SecretDigest, TenantId};
use claim_cache::{Config, RedisClaimCache, SystemClock};

use crate::Plan;
use crate::measure::{self, median};
use crate::report::Report;
use crate::servers::{self, Server};

/// Commands in a pipeline, here and there.
const DEPTH: usize = 100;
/// Who records at once: enough that the next pipeline fills while two are out.
const CALLERS: usize = 3 * DEPTH;
const PATIENCE: Duration = Duration::from_secs(30);

/// Operations a second, and the server's CPU time for one, in microseconds.
struct Speed {
    per_second: f64,
    cpu_us: f64,
}

/// Runs it, if it is wanted.
pub(crate) fn all(plan: &Plan, report: &mut Report) -> Result<(), String> {
    if !plan.wants("redis-claims") {
        return Ok(());
    }
    let (rounds, operations) = if plan.quick { (3, 100_000) } else { (7, 400_000) };
    let server = servers::redis()?;
    let peer: &[&str] = &[];
    let floor: &[&str] = &["PXAT", "4102444800000", "GET"];
    let (mut peers, mut floors, mut claims) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let three = [
            benchmark(&server, operations, peer)?,
            benchmark(&server, operations, floor)?,
            record(&server, operations)?,
        ];
        // The first round warms up.
        if round > 0 {
            let [peer, floor, claim] = three;
            peers.push(peer);
            floors.push(floor);
            claims.push(claim);
        }
    }
    let rate = |speeds: &[Speed]| median(speeds.iter().map(|speed| speed.per_second).collect());
    let cpu = |speeds: &[Speed]| median(speeds.iter().map(|speed| speed.cpu_us).collect());
    report.figure("redis-claims: claims a second through one node", rate(&claims), "", None);
    report.figure("redis-claims: SETs a second by redis-benchmark -P 100", rate(&peers), "", None);
    report.figure("redis-claims: the same with an end, answering what was there", rate(&floors), "", None);
    report.figure("redis-claims: time of a claim in SETs", rate(&peers) / rate(&claims), "", Some(2.0));
    report.figure("redis-claims: time of a claim in SETs with an end", rate(&floors) / rate(&claims), "", None);
    report.figure("redis-claims: the server's CPU a claim", cpu(&claims), "µs", None);
    report.figure("redis-claims: the server's CPU a claim, in SETs", cpu(&claims) / cpu(&peers), "", None);
    report.figure("redis-claims: the server's CPU a claim, in SETs with an end", cpu(&claims) / cpu(&floors), "", None);
    Ok(())
}

/// `redis-benchmark`, on two connections, since on each it has one pipeline out.
fn benchmark(server: &Server, operations: usize, more: &[&str]) -> Result<Speed, String> {
    clear(server)?;
    let before = measure::cpu_ns(server.pid())?;
    // Keys of 24 bytes and values of 74, as claims have them; redis-benchmark makes twelve digits of `__rand_int__`,
    // of a number below `-r`, which must fit 32 bits: else all keys are one.
    let output = Command::new("/usr/bin/redis-benchmark")
        .args(["-s", &server.address, "-c", "2", "-P", &DEPTH.to_string(), "-n", &operations.to_string()])
        .args(["-r", "2000000000", "--csv", "SET", "claimd:c0000__rand_int__", &"v".repeat(74)])
        .args(more)
        .stderr(Stdio::null())
        .output()
        .map_err(|error| format!("redis-benchmark: {error}"))?;
    let cpu_ns = measure::spent_ns(before, measure::cpu_ns(server.pid())?)?;
    let text = String::from_utf8_lossy(&output.stdout);
    // A head, then: "the command","operations a second",…
    let figure = text.lines().last().and_then(|line| line.split("\",\"").nth(1)?.parse().ok());
    let per_second = figure.ok_or_else(|| format!("redis-benchmark said: {text}"))?;
    Ok(Speed { per_second, cpu_us: cpu_ns as f64 / 1_000.0 / operations as f64 })
}

/// Claims of as many devices of one tenant, each new, until they are counted too.
fn record(server: &Server, operations: usize) -> Result<Speed, String> {
    clear(server)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let clock = SystemClock::start();
        let config = Config {
            redis_url: format!("unix://{}", server.address),
            max_pending: u64::MAX >> 16,
            max_pending_per_tenant: u64::MAX >> 16,
            ..Config::default()
        };
        let cache = RedisClaimCache::open(&config, PATIENCE, clock.now()).await.map_err(|e| e.to_string())?;
        let claims: Vec<PendingClaim> = (0..operations).map(|_| claim(&clock)).collect();
        let before = measure::cpu_ns(server.pid())?;
        let started = Instant::now();
        let mut callers = tokio::task::JoinSet::new();
        for share in claims.chunks(operations.div_ceil(CALLERS)) {
            let (cache, share) = (Arc::clone(&cache), share.to_vec());
            let clock = clock.clone();
            callers.spawn(async move {
                for claim in share {
                    if cache.record(claim, clock.now()).await != Ok(Recorded::New) {
                        return Err("a claim was not recorded".to_owned());
                    }
                }
                Ok(())
            });
        }
        while let Some(ended) = callers.join_next().await {
            ended.map_err(|error| error.to_string())??;
        }
        // Answered when all that was recorded is counted.
        let none = cache.pending(TenantId::from_bytes([8; 16]), None, 1, clock.now()).await;
        none.map_err(|_| "no listing".to_owned())?;
        let took = started.elapsed();
        let cpu_ns = measure::spent_ns(before, measure::cpu_ns(server.pid())?)?;
        let operations = operations as f64;
        Ok(Speed { per_second: operations / took.as_secs_f64(), cpu_us: cpu_ns as f64 / 1_000.0 / operations })
    })
}

fn claim(clock: &SystemClock) -> PendingClaim {
    let now = clock.now();
    PendingClaim {
        tenant: TenantId::from_bytes([7; 16]),
        device: DeviceId::random(),
        digest: SecretDigest::from_bytes([1; 32]),
        received_at: now,
        expires_at: now.plus(Duration::from_secs(3600)),
        source: ClaimSource::Device,
    }
}

fn clear(server: &Server) -> Result<(), String> {
    let said = Command::new("/usr/bin/redis-cli").args(["-s", &server.address, "FLUSHALL"]).output();
    let said = said.map_err(|error| format!("redis-cli: {error}"))?;
    if said.stdout.starts_with(b"OK") { Ok(()) } else { Err("redis-cli: FLUSHALL was refused".to_owned()) }
}
