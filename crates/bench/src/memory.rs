//! Memory of pending claims and of idle connections; what a fleet whose claims end at once does to a bystander; a restart.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use claim::ports::{ClaimCache, ClaimSource, PendingClaim};
use claim::{DeviceId, SecretDigest, TenantId, Timestamp};
use claim_cache::{Config, MemoryClaimCache, Sweeper, SystemClock};
use serde_json::Value;

use crate::Plan;
use crate::load;
use crate::measure;
use crate::paths::devices;
use crate::report::Report;
use crate::servers;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Device id and digest: what no cache of them can do without.
const KEY_MATERIAL: f64 = 48.0;

/// Runs every figure that is wanted.
pub(crate) fn all(plan: &Plan, report: &mut Report) -> Result<(), String> {
    if plan.wants("memory-claims") {
        let sizes: &[u64] = if plan.quick { &[1_000_000] } else { &[1_000_000, 10_000_000] };
        for &claims in sizes {
            let figures = held(claims)?;
            let figure = |name: &str| figures[name].as_f64().unwrap_or(f64::NAN);
            let millions = claims / 1_000_000;
            let per_claim = figure("bytes") - KEY_MATERIAL;
            let name = format!("memory-claims, {millions} M: bytes a claim beyond the key material");
            report.figure(name, per_claim, "B", Some(140.0));
            report.figure(format!("memory-claims, {millions} M: restart"), figure("restart_s"), "s", None);
            for (while_what, key) in [("before any ends", "quiet_ms"), ("while they end", "longest_ms")] {
                let name =
                    format!("memory-claims, {millions} M ending at once: a bystander's longest wait {while_what}");
                report.figure(name, figure(key), "ms", None);
            }
        }
    }
    if plan.wants("memory-connections") {
        connections(report)?;
    }
    Ok(())
}

/// A process of its own, so that nothing else is in its memory.
fn held(claims: u64) -> Result<Value, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(program).args(["held", &claims.to_string()]).output().map_err(|e| e.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}

/// What [`held`] runs: prints its figures as JSON.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for its parent")]
pub(crate) fn child(arguments: &[String]) -> ExitCode {
    let claims = arguments.first().and_then(|count| count.parse().ok()).unwrap_or(1_000_000);
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => {
            eprintln!("no temporary folder: {error}");
            return ExitCode::FAILURE;
        }
    };
    match figures(claims, folder.path()) {
        Ok(figures) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn claim(number: u64, now: Timestamp, lifetime: Duration) -> PendingClaim {
    // Spread as random ids are.
    let mixed = u128::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    PendingClaim {
        tenant: TenantId::from_bytes([1; 16]),
        device: DeviceId::from_bytes(mixed.to_be_bytes()),
        digest: SecretDigest::from_bytes([2; 32]),
        received_at: now,
        expires_at: now.plus(lifetime),
        source: ClaimSource::Device,
    }
}

fn figures(claims: u64, folder: &Path) -> Result<Value, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
    let config = Config { max_pending: 20_000_000, max_pending_per_tenant: 20_000_000, ..Config::default() };
    let clock = SystemClock::start();
    let open = || MemoryClaimCache::open(&config, folder, DAY, clock.now()).map_err(|error| error.to_string());
    let cache = open()?;
    let me = std::process::id();
    let before = measure::rss(me);
    // All of them end in the same second, after everything here that needs them alive.
    let end = clock.now().plus(Duration::from_secs(30 + claims / 200_000));
    for start in (0..claims).step_by(1_000) {
        let now = clock.now();
        let batch = (start..claims.min(start + 1_000)).map(|number| claim(number, now, now.until(end))).collect();
        let answers = runtime.block_on(cache.record_batch(batch, now));
        if answers.iter().any(Result::is_err) {
            return Err("a claim was refused".to_owned());
        }
    }
    let bytes = measure::rss(me).saturating_sub(before) as f64 / claims as f64;
    cache.close().map_err(|error| error.to_string())?;
    drop(cache);
    let started = Instant::now();
    let cache = open()?;
    let restart_s = started.elapsed().as_secs_f64();
    if cache.stats().pending != claims {
        return Err(format!("{} of {claims} claims came back", cache.stats().pending));
    }
    let [quiet, longest] = bystander(&runtime, &cache, &clock, claims).map(|wait| wait.as_secs_f64() * 1_000.0);
    cache.close().map_err(|error| error.to_string())?;
    Ok(serde_json::json!({"bytes": bytes, "restart_s": restart_s, "quiet_ms": quiet, "longest_ms": longest}))
}

/// Ten thousand claims a second beside the others; the longest that one took before any of the others ended, and while
/// they did.
fn bystander(
    runtime: &tokio::runtime::Runtime,
    cache: &Arc<MemoryClaimCache>,
    clock: &SystemClock,
    claims: u64,
) -> [Duration; 2] {
    const EVERY: Duration = Duration::from_micros(100);
    let sweeper = Sweeper::start(Arc::clone(cache), clock.clone(), |_| ());
    let mut longest = [Duration::ZERO; 2];
    let mut number = claims;
    let mut next = Instant::now();
    loop {
        let ended = cache.stats().expired_total;
        if ended >= claims {
            break;
        }
        number += 1;
        let now = clock.now();
        let bystander = claim(number, now, DAY);
        let started = Instant::now();
        if runtime.block_on(cache.record(bystander, now)).is_err() {
            break;
        }
        let waited = started.elapsed();
        let phase = usize::from(ended > 0 || cache.stats().expired_total > 0);
        longest[phase] = longest[phase].max(waited);
        let _ = runtime.block_on(cache.withdraw(bystander.device, now));
        next = (next + EVERY).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    drop(sweeper);
    longest
}

/// What an idle, signed-in MQTT connection costs the server.
fn connections(report: &mut Report) -> Result<(), String> {
    const CONNECTIONS: usize = 10_000;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if limit.current.is_some_and(|files| files < CONNECTIONS as u64 + 500) {
        return Err(format!("{CONNECTIONS} connections need more descriptors: raise `ulimit -n`"));
    }
    let claimd = servers::claimd()?;
    let addresses = claimd.all.clone().ok_or("claimd has no addresses")?;
    let tokens = devices(&addresses.http, 1)?;
    // What the first connections bring into memory is not theirs.
    let warm = load::idle(&addresses.mqtt, &tokens[0], 0, 200)?;
    let before = measure::rss(claimd.pid());
    let idle = load::idle(&addresses.mqtt, &tokens[0], 200, CONNECTIONS)?;
    let bytes = measure::rss(claimd.pid()).saturating_sub(before) as f64 / CONNECTIONS as f64;
    drop((warm, idle));
    let name = format!("memory-connections: RSS of an idle MQTT connection, {CONNECTIONS} of them");
    report.figure(name, bytes / 1024.0, "KiB", Some(3.0));
    Ok(())
}
