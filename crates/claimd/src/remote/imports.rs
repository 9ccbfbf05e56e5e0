//! Importing a file of devices: sent, checked, applied by the server while its progress is shown; and exporting one.
//!
//! The server does the work, so a lost connection loses nothing: `--resume` looks at the same import again.

mod codes;
mod report;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::http::Method;

use super::client::{Client, segment};
use super::show::Shown;
use super::{Done, Stop, ended};
use crate::cli::imports::{ExportArgs, ImportArgs, OnError};
use crate::out::{self, Exit};
use crate::progress::Progress;

use codes::CodesFile;

/// How often the server is asked how far it is.
const LOOK: Duration = Duration::from_millis(200);

pub(crate) fn import(args: &ImportArgs) -> Exit {
    ended(try_import(args))
}

fn try_import(args: &ImportArgs) -> Done<Exit> {
    let client = Client::of(&args.remote)?;
    if args.generate_codes.is_some() && args.codes_out.is_none() && !args.dry_run {
        return Err(Stop::usage("the codes that are made leave once, in a file", "give --codes-out FILE"));
    }
    if args.report.is_some() && args.file.as_deref() == Some(Path::new("-")) {
        return Err(Stop::usage(
            "standard input is gone when bad rows are copied from it",
            "name a file, or leave --report out",
        ));
    }
    if let Some(application) = &args.application {
        // Refused before the file is sent, and not in the middle of it.
        client.get(&format!("/api/claimd/v1/applications/{}", segment(application)))?;
    }
    let codes = args.codes_out.as_deref().map(CodesFile::begin).transpose()?;
    let stopped = watch_for_ctrl_c();
    let started = Instant::now();
    let begun = match &args.resume {
        Some(job) => resume(&client, job),
        None => send(&client, args, &stopped),
    };
    let job = match begun {
        Ok(job) => job,
        Err(stop) => {
            if let Some(codes) = codes {
                codes.discard();
            }
            return Err(stop);
        }
    };
    let job = follow(&client, args, job, &stopped)?;
    if let Some(codes) = codes {
        codes.fill(&client, &job)?;
    }
    finish(&client, args, &job, started)
}

fn path_of(job: &Value) -> String {
    format!("/api/claimd/v1/imports/{}", job["id"].as_str().unwrap_or_default())
}

/// Sends the file; the answer comes when every row is checked.
fn send(client: &Client, args: &ImportArgs, stopped: &Arc<AtomicBool>) -> Done<Value> {
    let file = args.file.as_deref().unwrap_or(Path::new("-"));
    let (reader, length): (Box<dyn Read>, Option<u64>) = if file == Path::new("-") {
        (Box::new(io::stdin()), None)
    } else {
        let unreadable = |error: io::Error| {
            Stop::usage(format!("`{}` cannot be read: {error}", file.display()), "name a CSV or JSON file")
        };
        let opened = File::open(file).map_err(unreadable)?;
        let length = opened.metadata().map_err(unreadable)?.len();
        (Box::new(opened), Some(length))
    };
    let mut query = vec![format!("dryRun={}", args.dry_run)];
    query.push(format!("onError={}", if args.on_error == OnError::Skip { "skip" } else { "abort" }));
    query.extend(args.format.as_ref().map(|format| format!("format={}", segment(format))));
    query.extend(args.join_eui.as_ref().map(|eui| format!("joinEui={}", segment(eui))));
    query.extend(args.generate_codes.as_ref().map(|style| format!("generateCodes={}", segment(style))));
    let application = args.application.as_deref().unwrap_or_default();
    let path = format!("/api/claimd/v1/applications/{}/imports?{}", segment(application), query.join("&"));
    let progress = Progress::start(args.progress, "sending and checking", length);
    let counted = Counted { reader, progress: &progress, stopped: Arc::clone(stopped) };
    match client.upload(&path, counted) {
        // The file had arrived all the same; whoever follows it stops it.
        Ok(job) => Ok(job),
        Err(_) if stopped.load(Ordering::Relaxed) => {
            Err(Stop::new(Exit::Stopped, "stopped; nothing was written", "import the file again"))
        }
        Err(stop) => Err(stop),
    }
}

/// Counts what is read, and ends when the user wants it to.
struct Counted<'a> {
    reader: Box<dyn Read>,
    progress: &'a Progress,
    stopped: Arc<AtomicBool>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped"));
        }
        let count = self.reader.read(buffer)?;
        self.progress.advance(count as u64);
        Ok(count)
    }
}

fn resume(client: &Client, job: &str) -> Done<Value> {
    let path = format!("/api/claimd/v1/imports/{}", segment(job));
    let found = client.get(&path)?;
    if found["state"] == "stopped" {
        return client.ask(Method::POST, &format!("{path}/resume"), Some(&json!({})));
    }
    Ok(found)
}

/// Looks on until the import is over. Stopped by the user, it stops after the rows under way.
fn follow(client: &Client, args: &ImportArgs, mut job: Value, stopped: &AtomicBool) -> Done<Value> {
    let path = path_of(&job);
    if job["state"] != "applying" {
        return Ok(job);
    }
    let progress = Progress::start(args.progress, "writing", job["checked"]["rows"].as_u64());
    while job["state"] == "applying" {
        if stopped.load(Ordering::Relaxed) {
            // It may have come to its end meanwhile, which is as good.
            let _ = client.ask(Method::POST, &format!("{path}/stop"), Some(&json!({})));
        } else {
            std::thread::sleep(LOOK);
        }
        job = client.get(&path).map_err(|stop| Stop {
            next: format!("{}; the import goes on at the server: {}", stop.next, resume_hint(&job, args)),
            ..stop
        })?;
        progress.reach(job["applied"]["rows"].as_u64().unwrap_or_default());
    }
    Ok(job)
}

fn resume_hint(job: &Value, args: &ImportArgs) -> String {
    let mut hint = format!("claimd import --resume {}", job["id"].as_str().unwrap_or_default());
    if let Some(path) = &args.codes_out {
        hint.push_str(&format!(" --codes-out {}", path.display()));
    }
    hint
}

fn finish(client: &Client, args: &ImportArgs, job: &Value, started: Instant) -> Done<Exit> {
    for warning in job["warnings"].as_array().into_iter().flatten() {
        let text = |name: &str| warning[name].as_str().unwrap_or_default().to_owned();
        out::talk(format!("warning: column `{}`: {}", text("column"), text("reason")));
    }
    out::talk(report::summary(job, started.elapsed()));
    let failed = job["checked"]["failed"].as_u64().unwrap_or_default() > 0
        || job["applied"]["failed"].as_u64().unwrap_or_default() > 0
        || job["state"] == "stopped";
    if failed {
        let rows = report::faults(client, &path_of(job))?;
        Shown::many(&args.remote, &report::COLUMNS).rows(&rows);
        if let (Some(path), Some(file)) = (&args.report, &args.file) {
            report::write(path, file, job["format"].as_str().unwrap_or_default(), &rows)?;
        }
    }
    let rows_differ = failed && args.report.is_none();
    Ok(match job["state"].as_str().unwrap_or_default() {
        "refused" | "checked" if failed => {
            let mend = if rows_differ { "fix the file" } else { "fix the rows of the report" };
            out::talk(format!("next: {mend}, or apply the rest with `--on-error skip`"));
            Exit::Refused
        }
        "stopped" => {
            if let Some(reason) = job["reason"].as_str() {
                out::talk(format!("stopped  {reason}"));
            }
            out::talk(format!("next: {}", resume_hint(job, args)));
            if job["reason"].is_null() { Exit::Stopped } else { Exit::Partly }
        }
        "broken" => {
            let reason = job["reason"].as_str().unwrap_or("the file did not arrive whole");
            out::error(reason, "import the file again");
            Exit::Refused
        }
        "done" if failed => Exit::Partly,
        _ => Exit::Done,
    })
}

/// Set when the user presses Ctrl-C; the import then stops at a safe point. Pressed once more, the program ends at once.
fn watch_for_ctrl_c() -> Arc<AtomicBool> {
    let stopped = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&stopped);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if let Ok(runtime) = runtime
            && runtime.block_on(tokio::signal::ctrl_c()).is_ok()
        {
            set.store(true, Ordering::Relaxed);
            let _ = runtime.block_on(tokio::signal::ctrl_c());
            std::process::exit(Exit::Stopped as i32);
        }
    });
    stopped
}

pub(crate) fn export(args: &ExportArgs) -> Exit {
    ended(try_export(args))
}

fn try_export(args: &ExportArgs) -> Done<Exit> {
    let client = Client::of(&args.remote)?;
    let path = format!(
        "/api/claimd/v1/applications/{}/export?format={}&codes={}",
        segment(&args.application),
        segment(&args.format),
        args.codes
    );
    let progress = Progress::start(args.progress, "exporting (lines)", None);
    match &args.out {
        None => client.download(&path, &mut Lines { writer: io::stdout().lock(), progress: &progress })?,
        Some(to) => {
            let mut file = codes::new_file(to)?;
            let synced = client
                .download(&path, &mut Lines { writer: &mut file, progress: &progress })
                .and_then(|()| file.sync_all().map_err(|error| codes::unwritten(to, &error)));
            if let Err(stop) = synced {
                // Half an export looks like a whole one.
                let _ = std::fs::remove_file(to);
                return Err(stop);
            }
            drop(progress);
            out::talk(format!("exported  {} to {}", args.application, to.display()));
        }
    }
    Ok(Exit::Done)
}

/// Counts the lines that go through.
struct Lines<'a, W> {
    writer: W,
    progress: &'a Progress,
}

impl<W: Write> Write for Lines<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.writer.write(bytes)?;
        self.progress.advance(bytes[..count].iter().filter(|byte| **byte == b'\n').count() as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
