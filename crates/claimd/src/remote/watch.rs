//! `claimd watch`: the server's live feed, a line for each submission, confirm and unclaim. A connection that ends is made
//! anew; what happened in between is in the audit log only, and that is said.

use std::io::{BufRead, Read};
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, segment};
use super::show::Shown;
use super::{Done, Stop, ended};
use crate::cli::watch::WatchArgs;
use crate::commands::signals;
use crate::out::{self, Exit};

/// The server says something every 15 seconds; after three such silences it is gone.
const SILENCE: Duration = Duration::from_secs(45);
/// First and longest pause before another connection.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// Longest line of the stream; a happening is far below.
const LINE_BYTES: u64 = 64 * 1024;

const COLUMNS: [&str; 9] = ["at", "what", "device", "by", "gateway", "transport", "outcome", "reason", "why"];

pub(crate) fn watch(args: &WatchArgs) -> Exit {
    ended(end_by_signal().and_then(|()| try_watch(args)))
}

/// Whoever stops the command gets the exit code that says so; nothing here has to be brought to an end first.
fn end_by_signal() -> Done {
    let stopped = || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(signals::asked_to_stop());
            std::process::exit(Exit::Stopped as i32)
        })?;
        Ok(())
    };
    stopped().map_err(|error| Stop::new(Exit::Unavailable, format!("cannot wait for Ctrl-C: {error}"), ""))
}

fn try_watch(args: &WatchArgs) -> Done<Exit> {
    let client = Client::of(&args.remote)?;
    let path = match &args.device {
        Some(name) => format!("/api/claimd/v1/watch?device={}", segment(name)),
        None => "/api/claimd/v1/watch".to_owned(),
    };
    let mut lines = Lines { shown: Shown::one(&args.remote, &COLUMNS), args, printed: 0 };
    let (mut connected_before, mut pause) = (false, PAUSE.0);
    loop {
        let lost = match connect(&client, &path) {
            Ok(stream) => {
                out::talk(format!("watching {}; Ctrl-C ends it", client.url()));
                (connected_before, pause) = (true, PAUSE.0);
                match lines.read(stream) {
                    Some(exit) => return Ok(exit),
                    None => {
                        "the connection was lost; see `claimd audit list` for what happens until the next".to_owned()
                    }
                }
            }
            // A server that restarts, or has no room now, may have it in a moment.
            Err(stop) if connected_before && stop.exit == Exit::Unavailable => stop.what,
            Err(stop) => return Err(stop),
        };
        out::talk(format!("{lost}; trying again in {}", humantime::format_duration(pause)));
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE.1);
    }
}

fn connect(client: &Client, path: &str) -> Done<impl BufRead + use<>> {
    let mut stream = client.open(path, SILENCE)?.map_err(|answer| answer.refusal())?;
    // The first line says that from now on everything is seen.
    let mut line = String::new();
    match stream.read_line(&mut line) {
        Ok(read) if read > 0 => Ok(stream),
        _ => Err(Stop::new(Exit::Unavailable, "the server ended the stream at once", "try again in a moment")),
    }
}

struct Lines<'a> {
    shown: Shown<'a>,
    args: &'a WatchArgs,
    printed: u64,
}

impl Lines<'_> {
    /// Shows what comes; the exit once that was enough, `None` when the stream ends before.
    fn read(&mut self, mut stream: impl BufRead) -> Option<Exit> {
        let mut line = String::new();
        loop {
            line.clear();
            match stream.by_ref().take(LINE_BYTES).read_line(&mut line) {
                Ok(read) if read > 0 && line.ends_with('\n') => {}
                _ => return None,
            }
            // Server-sent events; the data says itself what it is, and each is one line.
            let Some(data) = line.strip_prefix("data: ") else { continue };
            let Ok(data) = serde_json::from_str::<Value>(data) else { continue };
            if let Some(missed) = data["missed"].as_u64() {
                out::talk(format!("missed {missed}: this view was too slow; `claimd audit list` has the refused ones"));
                continue;
            }
            if self.wanted(&data) {
                let read = self.shown.next_row(&data, self.printed == 0);
                self.printed += 1;
                if read.is_err() || self.args.count == Some(self.printed) {
                    return Some(Exit::Done);
                }
            }
        }
    }

    fn wanted(&self, data: &Value) -> bool {
        let named = |name: &String| data["outcome"] == json!(name) || data["reason"] == json!(name);
        self.args.reason.is_empty() || self.args.reason.iter().any(named)
    }
}
