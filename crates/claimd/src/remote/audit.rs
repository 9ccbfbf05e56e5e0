//! The audit log: read, taken away as a file, and its chain recomputed here, so that nobody has to believe the server.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use claim::Timestamp;
use claim::audit::{Break, Broken, ChainCheck, ChainHash};
use claim_codes::window::parse_instant;
use serde_json::{Value, json};

use super::client::{Client, segment};
use super::counting::Counting;
use super::show::Shown;
use super::{Done, Stop, ended, instant};
use crate::cli::audit::{AuditCommand, RowsArgs, VerifyArgs};
use crate::cli::remote::{RemoteArgs, With};
use crate::out::{self, Exit};

/// The longest line of an exported file.
const LINE_BYTES: u64 = 64 * 1024;

pub(crate) fn audit(command: &With<AuditCommand>) -> Exit {
    let remote = &command.remote;
    ended(match &command.verb {
        AuditCommand::List(rows) => list(remote, rows),
        AuditCommand::Verify(args) => verify(remote, args),
        AuditCommand::Export { rows, out } => export(remote, rows, out.as_deref()),
    })
}

fn list(remote: &RemoteArgs, asked: &RowsArgs) -> Done<Exit> {
    let client = Client::of(remote)?;
    let mut rows = Vec::new();
    each_row(&client, asked, "reading", |row| {
        rows.push(row);
        Ok(true)
    })?;
    Shown::many(remote, &["seq", "at", "actor", "action", "outcome", "reason", "device"]).rows(&rows);
    Ok(Exit::Done)
}

/// Where rows begin.
enum Begin {
    After(i64),
    /// RFC 3339.
    At(String),
}

fn begin(asked: &RowsArgs) -> Done<Begin> {
    Ok(match asked.since.as_deref() {
        None => Begin::After(0),
        Some(text) => match text.parse() {
            Ok(seq) => Begin::After(seq),
            Err(_) => Begin::At(instant(text)?),
        },
    })
}

/// Hands on the rows that were asked for, page by page, until there are no more or `take` says so.
fn each_row(client: &Client, asked: &RowsArgs, doing: &str, mut take: impl FnMut(Value) -> Done<bool>) -> Done {
    let (mut since, mut from) = match begin(asked)? {
        Begin::After(seq) => (seq, String::new()),
        Begin::At(time) => (0, format!("&sinceTime={}", segment(&time))),
    };
    let device = asked.device.as_ref().map(|device| format!("&device={}", segment(device))).unwrap_or_default();
    let counting = Counting::start(doing);
    loop {
        let mut page = client.get(&format!("/api/claimd/v1/audit?since={since}&limit=1000{from}{device}"))?;
        let Value::Array(rows) = page["data"].take() else { return Ok(()) };
        let Some(last) = rows.last().and_then(|row| row["seq"].as_i64()).filter(|last| *last > since) else {
            return Ok(());
        };
        since = last;
        from.clear();
        counting.add(rows.len() as u64);
        for row in rows {
            if !take(row)? {
                return Ok(());
            }
        }
    }
}

fn export(remote: &RemoteArgs, asked: &RowsArgs, to: Option<&Path>) -> Done<Exit> {
    let client = Client::of(remote)?;
    let mut rows = 0_u64;
    match to {
        None => each_row(&client, asked, "exporting", |row| {
            rows += 1;
            out::data(row.to_string());
            Ok(true)
        })?,
        Some(path) => {
            let fault = |error: std::io::Error| {
                Stop::usage(format!("`{}` cannot be written: {error}", path.display()), "give --out FILE")
            };
            // Whole or not at all, and its owner's alone: it says who did what.
            let mut beside = path.as_os_str().to_owned();
            beside.push(".partial");
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside);
            let mut file = BufWriter::new(file.map_err(fault)?);
            each_row(&client, asked, "exporting", |row| {
                rows += 1;
                writeln!(file, "{row}").map_err(fault)?;
                Ok(true)
            })?;
            file.into_inner().map_err(|error| fault(error.into_error()))?.sync_all().map_err(fault)?;
            std::fs::rename(&beside, path).map_err(fault)?;
        }
    }
    out::talk(format!("exported  {rows} rows"));
    Ok(Exit::Done)
}

/// How rows are verified, and what came of it.
struct Verifier {
    check: ChainCheck,
    wanted: Option<ChainHash>,
    broken: Option<Broken>,
}

impl Verifier {
    fn new(args: &VerifyArgs) -> Done<Self> {
        let wanted = args.head.as_deref().map(|head| {
            ChainHash::parse(head)
                .ok_or_else(|| Stop::usage(format!("`{head}` is no hash"), "give the 64 hex digits of a `head`"))
        });
        let check = match (&args.rows.device, &args.rows.since) {
            (Some(_), _) => ChainCheck::each(),
            (None, Some(_)) => ChainCheck::from_anywhere(),
            (None, None) => ChainCheck::from_start(),
        };
        Ok(Self { check, wanted: wanted.transpose()?, broken: None })
    }

    /// Whether to go on.
    fn take(&mut self, row: &Value) -> bool {
        match self.check.next(row) {
            Ok(()) => {
                if self.wanted.is_some() && self.wanted == self.check.head() {
                    self.wanted = None;
                }
                true
            }
            Err(broken) => {
                self.broken = Some(broken);
                false
            }
        }
    }

    /// Says what came of it. `row` shows the first broken row if its position is not known.
    fn end(self, remote: &RemoteArgs, row: &str) -> Done<Exit> {
        let (rows, unsealed) = (self.check.sealed(), self.check.unsealed());
        let mut said = json!({"result": "whole", "rows": rows, "unsealed": unsealed});
        if let Some(head) = self.check.head() {
            said["head"] = head.to_string().into();
        }
        if let Some(Broken { seq, what }) = self.broken {
            let at = seq.map_or_else(|| row.to_owned(), |seq| format!("row {seq}"));
            said["result"] = "broken".into();
            said["broken"] = seq.into();
            said["what"] = what.text().into();
            return not_whole(remote, &said, &format!("the chain is broken at {at}: {}", what.text()));
        }
        if let Some(wanted) = self.wanted {
            said["result"] = "broken".into();
            said["what"] = "the hash is not in it".into();
            return not_whole(remote, &said, &format!("no row has the hash {wanted}: this is not the chain it was of"));
        }
        Shown::one(remote, &VERIFIED).show(&said);
        Ok(Exit::Done)
    }
}

const VERIFIED: [&str; 6] = ["result", "rows", "unsealed", "head", "broken", "what"];

fn not_whole(remote: &RemoteArgs, said: &Value, what: &str) -> Done<Exit> {
    Shown::one(remote, &VERIFIED).show(said);
    let next = "keep the data folder as it is, and compare it with a backup and with earlier exports";
    Err(Stop::new(Exit::Refused, what, next))
}

fn verify(remote: &RemoteArgs, args: &VerifyArgs) -> Done<Exit> {
    let verifier = Verifier::new(args)?;
    match &args.file {
        Some(path) => verify_file(remote, args, path, verifier),
        None => verify_server(remote, args, verifier),
    }
}

fn verify_file(remote: &RemoteArgs, args: &VerifyArgs, path: &Path, mut verifier: Verifier) -> Done<Exit> {
    let fault = |error: std::io::Error| {
        Stop::usage(format!("`{}` cannot be read: {error}", path.display()), "give a file of `claimd audit export`")
    };
    let (since, time) = match begin(&args.rows)? {
        Begin::After(seq) => (seq, None),
        Begin::At(time) => (0, parse_instant(&time).ok().map(Timestamp::as_millis)),
    };
    let mut begun = time.is_none();
    let mut reader = BufReader::new(File::open(path).map_err(fault)?);
    let (mut text, mut line) = (Vec::new(), 0_u64);
    let counting = Counting::start("verifying");
    loop {
        text.clear();
        line += 1;
        if std::io::Read::take(&mut reader, LINE_BYTES).read_until(b'\n', &mut text).map_err(fault)? == 0 {
            break;
        }
        // What is no JSON is no row, as the verifier says.
        let row: Value = serde_json::from_slice(&text).unwrap_or_default();
        begun = begun || row["at"].as_i64() >= time;
        let other = args.rows.device.as_ref().is_some_and(|device| row["device"] != **device);
        let asked = begun && !other && row["seq"].as_i64().is_none_or(|seq| seq > since);
        if !asked && row.is_object() {
            continue;
        }
        counting.add(1);
        if !verifier.take(&row) {
            break;
        }
    }
    drop(counting);
    verifier.end(remote, &format!("line {line}"))
}

fn verify_server(remote: &RemoteArgs, args: &VerifyArgs, mut verifier: Verifier) -> Done<Exit> {
    let client = Client::of(remote)?;
    each_row(&client, &args.rows, "verifying", |row| Ok(verifier.take(&row)))?;
    // What was there and is not any more only the server can name; all else was found here.
    let whole_or_gap = verifier.broken.is_none_or(|broken| broken.what == Break::Gap);
    if whole_or_gap && args.rows.device.is_none() {
        let mut since = args.rows.since.as_deref().and_then(|since| since.parse::<i64>().ok()).unwrap_or(0);
        loop {
            let mut said = client.get(&format!("/api/claimd/v1/audit/verify?since={since}"))?;
            if said["result"] != "whole" {
                let what = said["what"].as_str().unwrap_or_default().to_owned();
                let at = format!("the chain is broken at row {}: {what}", said["broken"]);
                said["rows"] = verifier.check.sealed().into();
                return not_whole(remote, &said, &at);
            }
            let last = said["last"].as_i64().filter(|last| *last > since);
            let (Some(last), Some(true)) = (last, said["more"].as_bool()) else { break };
            since = last;
        }
    }
    verifier.end(remote, "a row")
}
