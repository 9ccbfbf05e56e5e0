//! Owners who confirm, on PostgreSQL: the registry's own call beside `pgbench`, which runs the very statement the registry was
//! seen to run, over as many connections of the same server, in turn. Beside them the bare UPDATE without its audit and outbox
//! rows, and eight statements a transaction: what a batch of owners could win at the most.

use std::io::Write as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use claim::ports::{AssignOwner, Assignment, DeviceRegistry, Freshness};
use claim::{CustomerId, DeviceId, MasterKey, Origin, Secret, SecretDigest, TenantId, Timestamp, UserId};
use registry::{PostgresConfig, PostgresRegistry};
use testkit::postgres::{Over, PostgresServer};

use crate::Plan;
use crate::report::Report;

/// Connections of each.
const CONNECTIONS: u64 = 16;
/// Owners who wait at once for the registry's connections.
const OWNERS: u64 = 64;
/// Statements in one transaction of the batch.
const BATCH: u64 = 8;
const TENANT: [u8; 16] = [1; 16];
const OWNER: [u8; 16] = [2; 16];
const ACCOUNT: [u8; 16] = [3; 16];
const NOW: i64 = 1_000;

/// Runs it, if it is wanted.
pub(crate) fn all(plan: &Plan, report: &mut Report) -> Result<(), String> {
    if !plan.wants("confirm") {
        return Ok(());
    }
    // Every client of `pgbench` has as many, in whole batches.
    let whole = CONNECTIONS * BATCH;
    let (rounds, each) = if plan.quick { (1, 12 * whole) } else { (5, 63 * whole) };
    let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("no runtime: {error}"))?;
    // The statement is longer than what a server shows of it by default.
    let server = PostgresServer::with(&[("track_activity_query_size", "16384")], &Over::Socket);
    pin(server.pid())?;
    let stage = Stage { url: server.url(&server.database()), bin: server.bin().to_owned() };
    let registry = runtime.block_on(stage.registry())?;
    stage.populate(rounds * 4 * each)?;
    // Prepared, and seen, on each connection.
    runtime.block_on(stage.confirm(&registry, rounds * 4 * each, CONNECTIONS * 4))?;
    let full = stage.statement()?;
    let scripts = [("", script(&full, 1)), ("bare", script(BARE, 1)), ("batch", script(&full, BATCH))];
    let mut rates: [Vec<f64>; 4] = Default::default();
    for round in 0..rounds {
        let first = round * 4 * each;
        rates[3].push(each as f64 / runtime.block_on(stage.confirm(&registry, first, each))?.as_secs_f64());
        for (n, (name, script)) in (1..).zip(&scripts) {
            let each_time = if *name == "batch" { BATCH } else { 1 };
            rates[n - 1].push(stage.pgbench(script, first + n as u64 * each, each, each_time)?);
        }
    }
    let [same, bare, batch, ours] = rates.map(middle);
    report.figure("confirms on PostgreSQL: a second", ours, "", None);
    report.figure("the same statement by `pgbench`: a second", same, "", None);
    report.figure("confirms on PostgreSQL: `pgbench`'s rate, times ours", same / ours, "", Some(1.25));
    report.figure("confirms on PostgreSQL: the rate of a bare UPDATE by `pgbench`, times ours", bare / ours, "", None);
    report.figure("eight confirms a transaction by `pgbench`: times the rate of one", batch / same, "", None);
    Ok(())
}

/// The UPDATE alone, with the places of the statement.
const BARE: &str = "UPDATE device SET owner = $3, proof_digest = $4, claimed_at = $5, generation = generation + 1, \
     claim_reset_at = greatest($5, $6) WHERE id = $1 AND tenant = $2 AND owner IS NULL \
     AND (claim_reset_at IS NULL OR claim_reset_at < $6)";

struct Stage {
    url: String,
    bin: String,
}

impl Stage {
    async fn registry(&self) -> Result<Arc<PostgresRegistry>, String> {
        let config =
            PostgresConfig { connections: CONNECTIONS as usize, ..PostgresConfig::new(Secret::new(self.url.clone())) };
        let master = MasterKey::from_bytes(&[1; 32]);
        let opened = PostgresRegistry::open(&config, &master, None, Duration::from_secs(30)).await;
        opened.map_err(|error| error.to_string())
    }

    fn sql(&self, sql: &str) -> Result<String, String> {
        let mut psql = Command::new(format!("{}/psql", self.bin));
        let output =
            psql.args([&self.url, "-v", "ON_ERROR_STOP=1", "-Atc", sql]).output().map_err(|e| e.to_string())?;
        if !output.status.success() {
            return Err(format!("psql: {}", String::from_utf8_lossy(&output.stderr)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Devices without an owner, whose ids are their numbers.
    fn populate(&self, devices: u64) -> Result<(), String> {
        let (tenant, owner) = (TenantId::from_bytes(TENANT).uuid(), CustomerId::from_bytes(OWNER).uuid());
        let devices = devices + CONNECTIONS * 4;
        self.sql(&format!(
            "INSERT INTO tenant (id, title, created_at) VALUES ('{tenant}', 'maker', 0); \
             INSERT INTO customer (id, tenant, title, created_at) VALUES ('{owner}', '{tenant}', 'owner', 0); \
             INSERT INTO profile (id, tenant, name, transport_type, mqtt_format, coap_format, created_at, is_default) \
             VALUES (gen_random_uuid(), '{tenant}', 'default', 'DEFAULT', 0, 0, 0, TRUE); \
             INSERT INTO application (id, tenant, listing, claiming_authorized, created_at) \
             VALUES (gen_random_uuid(), '{tenant}', 'default', TRUE, 0); \
             INSERT INTO device (id, tenant, name, profile, gateway, created_at, home_application, home_listing, \
             application, listing) SELECT lpad(to_hex(n), 32, '0')::uuid, '{tenant}', 'device ' || n, p.id, FALSE, 0, \
             a.id, 'd-' || n, a.id, 'd-' || n FROM profile p, application a, generate_series(0, {devices}) n \
             WHERE p.tenant = '{tenant}' AND a.tenant = '{tenant}'; ANALYZE; CHECKPOINT"
        ))
        .map(drop)
    }

    /// Owners confirm so many devices from a number on; how long it took.
    async fn confirm(&self, registry: &Arc<PostgresRegistry>, from: u64, count: u64) -> Result<Duration, String> {
        let next = Arc::new(AtomicU64::new(from));
        let began = Instant::now();
        let owners: Vec<_> = (0..OWNERS)
            .map(|_| {
                let (registry, next) = (Arc::clone(registry), Arc::clone(&next));
                tokio::spawn(async move {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= from + count {
                            return Ok(());
                        }
                        match registry.assign_owner(request(n, &testkit::origin(None))).await {
                            Ok(Assignment::Assigned { .. }) => {}
                            other => return Err(format!("device {n}: {other:?}")),
                        }
                    }
                })
            })
            .collect();
        for owner in owners {
            owner.await.map_err(|error| error.to_string())??;
        }
        Ok(began.elapsed())
    }

    /// What the registry runs, as the server shows it.
    fn statement(&self) -> Result<String, String> {
        let seen = "SELECT query FROM pg_stat_activity WHERE application_name = 'claimd' AND query LIKE 'WITH won AS%' LIMIT 1";
        let statement = self.sql(seen)?;
        if !statement.contains("SELECT generation FROM won") {
            return Err(format!("the server shows no whole confirm: {statement}"));
        }
        Ok(statement)
    }

    /// Confirms a second over devices from a number on.
    fn pgbench(&self, script: &str, from: u64, count: u64, each_time: u64) -> Result<f64, String> {
        let mut file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
        file.write_all(script.as_bytes()).map_err(|error| error.to_string())?;
        let (connections, each) = (CONNECTIONS.to_string(), count / CONNECTIONS);
        let mut pgbench = Command::new(format!("{}/pgbench", self.bin));
        pgbench.args(["-n", "-M", "prepared", "-c", &connections, "-t", &(each / each_time).to_string(), "-f"]);
        pgbench.arg(file.path()).args(["-D", "i=0", "-D", &format!("first={from}"), "-D", &format!("each={each}")]);
        let output = pgbench.arg(&self.url).output().map_err(|error| format!("pgbench: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse::<f64>().ok());
        let rate = rate.ok_or_else(|| format!("pgbench: {said}{}", String::from_utf8_lossy(&output.stderr)))?;
        let device = |n: u64| format!("'{}'", DeviceId::from_bytes(u128::from(n).to_be_bytes()).uuid());
        let owned = format!(
            "SELECT count(owner) FROM device WHERE id BETWEEN {} AND {}",
            device(from),
            device(from + count - 1)
        );
        match self.sql(&owned)?.trim() == count.to_string() {
            true => Ok(rate * each_time as f64),
            false => Err("pgbench did not confirm what it should".to_owned()),
        }
    }
}

fn request(n: u64, origin: &Origin) -> AssignOwner<'_> {
    AssignOwner {
        tenant: TenantId::from_bytes(TENANT),
        device: DeviceId::from_bytes(u128::from(n).to_be_bytes()),
        owner: CustomerId::from_bytes(OWNER),
        account: UserId::from_bytes(ACCOUNT),
        proof: SecretDigest::from_bytes([1; 32]),
        freshness: Freshness::ReceivedAt(Timestamp::from_millis(NOW)),
        allow_by_default: true,
        invalidate_code: true,
        target: None,
        retry: None,
        now: Timestamp::from_millis(NOW),
        origin,
    }
}

/// `pgbench`'s script of a statement, so many times a transaction, each for the next device of its client.
fn script(statement: &str, times: u64) -> String {
    let values = [
        "lpad(to_hex((:n)::bigint), 32, '0')::uuid".to_owned(),
        format!("'{}'::uuid", TenantId::from_bytes(TENANT).uuid()),
        format!("'{}'::uuid", CustomerId::from_bytes(OWNER).uuid()),
        format!("'\\x{}'::bytea", "01".repeat(32)),
        format!("{NOW}::bigint"),
        format!("{NOW}::bigint"),
        "TRUE".to_owned(),
        "NULL::bigint".to_owned(),
        "NULL::uuid".to_owned(),
        "NULL::text".to_owned(),
        "TRUE".to_owned(),
        format!("'{}'::uuid", UserId::from_bytes(ACCOUNT).uuid()),
        "'pending_claim'".to_owned(),
        "0::bigint".to_owned(),
    ];
    let mut statement = statement.trim().to_owned();
    for (n, value) in (1..).zip(&values).collect::<Vec<_>>().into_iter().rev() {
        statement = statement.replace(&format!("${n}"), value);
    }
    let one = format!("\\set n :first + :client_id * :each + :i\n\\set i :i + 1\n{statement};\n");
    match times {
        1 => one,
        times => format!("BEGIN;\n{}COMMIT;\n", one.repeat(times as usize)),
    }
}

fn middle(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// The server on the first core, as all servers here; what it starts later stays there too.
fn pin(pid: u32) -> Result<(), String> {
    let pinned = Command::new("taskset").args(["-a", "-c", "-p", "0", &pid.to_string()]).output();
    match pinned.map_err(|error| format!("taskset: {error}"))?.status.success() {
        true => Ok(()),
        false => Err(format!("the server {pid} cannot be pinned")),
    }
}
