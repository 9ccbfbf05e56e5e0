//! A maker's file of devices: claimd's own command line against its server, codes generated and handed out, beside
//! `sqlite3 .import` of the same file into a table with the same unique columns.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Plan;
use crate::measure;
use crate::report::Report;
use crate::servers::{self, ADMIN, PASSWORD};

/// Runs it, if it is wanted.
pub(crate) fn all(plan: &Plan, report: &mut Report) -> Result<(), String> {
    if !plan.wants("import") {
        return Ok(());
    }
    let sizes: [usize; 2] = if plan.quick { [2_000, 20_000] } else { [10_000, 100_000] };
    let small = import(sizes[0])?;
    let large = import(sizes[1])?;
    let (rows, thousands) = (sizes[1] as f64, sizes[1] / 1_000);
    report.figure(format!("import, {thousands} k devices: rows a second"), rows / large.took.as_secs_f64(), "", None);
    report.figure(
        format!("import, {thousands} k devices: times the time of `sqlite3 .import`"),
        large.took.as_secs_f64() / large.floor.as_secs_f64(),
        "",
        None,
    );
    report.figure(
        format!("import, {thousands} k devices by `sqlite3 .import`: rows a second"),
        rows / large.floor.as_secs_f64(),
        "",
        None,
    );
    report.figure(
        format!("import, {thousands} k devices: peak memory, times that of {} k", sizes[0] / 1_000),
        large.peak as f64 / small.peak as f64,
        "",
        None,
    );
    Ok(())
}

struct Imported {
    took: Duration,
    floor: Duration,
    /// The server's largest resident memory, bytes.
    peak: u64,
}

fn import(devices: usize) -> Result<Imported, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let file = folder.path().join("spring.csv");
    std::fs::write(&file, spring(devices)).map_err(|error| error.to_string())?;
    let server = servers::claimd()?;
    let http = server.all.as_ref().map(|all| all.http.clone()).ok_or("claimd has no addresses")?;
    std::fs::write(folder.path().join("password"), PASSWORD).map_err(|error| error.to_string())?;
    let url = format!("http://{http}");
    claimd(folder.path(), &["login", "--url", &url, "--name", ADMIN, "--password", "@password"])?;
    claimd(folder.path(), &["application", "create", "spring-26"])?;
    let started = Instant::now();
    let import = ["import", "spring.csv", "--application", "spring-26", "--generate-codes", "--codes-out", "codes.csv"];
    claimd(folder.path(), &import)?;
    let took = started.elapsed();
    let codes = std::fs::read_to_string(folder.path().join("codes.csv")).map_err(|error| error.to_string())?;
    if codes.lines().count() != devices + 1 {
        return Err(format!("{} codes for {devices} devices", codes.lines().count().saturating_sub(1)));
    }
    let peak = measure::peak_rss(server.pid());
    drop(server);
    Ok(Imported { took, floor: sqlite(folder.path(), devices)?, peak })
}

fn spring(devices: usize) -> String {
    let mut file = "id;dev_eui;join_eui;name;serial_number\n".to_owned();
    for n in 1..=devices {
        let _ = writeln!(file, "pump-{n};0004A30B{n:08X};70B3D57ED0000000;Pump {n};S{n:07}");
    }
    file
}

fn claimd(folder: &Path, arguments: &[&str]) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?.with_file_name("claimd");
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env("XDG_CONFIG_HOME", folder).stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// On the server's core, as durable as the server's file.
fn sqlite(folder: &Path, devices: usize) -> Result<Duration, String> {
    let script = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;\n\
         CREATE TABLE device (id TEXT NOT NULL UNIQUE, dev_eui TEXT NOT NULL UNIQUE, join_eui TEXT, name TEXT, \
         serial_number TEXT NOT NULL UNIQUE);\n\
         .mode csv\n.separator ;\n.import --skip 1 spring.csv device\nSELECT count(*) FROM device;\n";
    std::fs::write(folder.join("floor.sql"), script).map_err(|error| error.to_string())?;
    let started = Instant::now();
    let mut command = Command::new("taskset");
    command.args(["-c", "0", "sqlite3", "floor.db", ".read floor.sql"]).current_dir(folder);
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let took = started.elapsed();
    let said = String::from_utf8_lossy(&output.stdout);
    if said.lines().last().map(str::trim) != Some(devices.to_string().as_str()) {
        return Err(format!("sqlite3 imported {said}, {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(took)
}
