//! Many claims from a file, each row by itself. Running it again is safe: what is claimed already stays claimed.

use std::fs::File;
use std::io::{BufReader, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claim_codes::import::Fault;
use claim_codes::import::claims::{ClaimRow, Claimed, Claims};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use ureq::http::Method;

use super::client::{Answer, Client};
use super::show::Shown;
use super::{Done, Stop};
use crate::cli::remote::RemoteArgs;
use crate::out::{self, Exit};

/// Longer than any budget's window: a server that asks for more is left alone.
const LONGEST_WAIT: Duration = Duration::from_secs(2 * 3600);

pub(super) fn claim(
    remote: &RemoteArgs,
    client: &Client,
    application: &str,
    file: &Path,
    report: Option<&Path>,
) -> Done<Exit> {
    let unreadable =
        |what: String| Stop::usage(format!("`{}`: {what}", file.display()), "give a CSV file with a header");
    let rows = || -> Done<Claims<BufReader<File>>> {
        let reader = File::open(file).map_err(|error| unreadable(error.to_string()))?;
        Claims::new(BufReader::new(reader)).map_err(|fault| unreadable(fault.to_string()))
    };
    // Read once to its end before the first claim: half a file is not what was meant.
    let mut total = 0_u64;
    let first = rows()?;
    for warning in &first.warnings {
        out::talk(format!("warning: column `{}` is not known and not used", warning.column));
    }
    for row in first {
        row.map_err(|fault| unreadable(fault.to_string()))?;
        total += 1;
    }
    let bar = bar(total);
    let (mut results, mut claimed, mut before) = (Vec::new(), 0, 0);
    for row in rows()? {
        let row = row.map_err(|fault| unreadable(fault.to_string()))?;
        let result = one(client, application, &row, &bar)?;
        claimed += usize::from(result["result"] == "claimed");
        before += usize::from(result["result"] == "already_yours");
        results.push(result);
        bar.inc(1);
    }
    bar.finish_and_clear();
    if let Some(report) = report {
        write_report(report, &results)?;
    }
    Shown::many(remote, &["row", "device", "result", "reason", "id"]).rows(&results);
    let yours = if before == 0 { String::new() } else { format!("; {before} were yours already") };
    out::talk(format!("claimed  {claimed} of {total}{yours}"));
    Ok(match claimed + before {
        all if all == results.len() => Exit::Done,
        0 => Exit::Refused,
        _ => Exit::Partly,
    })
}

/// Reads the file and claims nothing.
pub(super) fn check(remote: &RemoteArgs, file: &Path) -> Done<Exit> {
    let unreadable =
        |what: String| Stop::usage(format!("`{}`: {what}", file.display()), "give a CSV file with a header");
    let reader = File::open(file).map_err(|error| unreadable(error.to_string()))?;
    let rows = Claims::new(BufReader::new(reader)).map_err(|fault| unreadable(fault.to_string()))?;
    for warning in &rows.warnings {
        out::talk(format!("warning: column `{}` is not known and not used", warning.column));
    }
    let (mut total, mut invalid) = (0_u64, Vec::new());
    for row in rows {
        let row = row.map_err(|fault| unreadable(fault.to_string()))?;
        total += 1;
        if let Err(faults) = &row.claimed {
            invalid.push(json!({"row": row.row, "device": row.device, "result": "invalid", "reason": reasons(faults)}));
        }
    }
    if !invalid.is_empty() {
        Shown::many(remote, &["row", "device", "result", "reason"]).rows(&invalid);
    }
    out::talk(format!("checked  {total} rows: {} invalid; nothing was claimed", invalid.len()));
    Ok(if invalid.is_empty() { Exit::Done } else { Exit::Refused })
}

fn reasons(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("{}: {}", fault.column, fault.reason)).collect::<Vec<_>>().join("; ")
}

/// One row's claim. An empty budget is waited for.
fn one(client: &Client, application: &str, row: &ClaimRow, bar: &ProgressBar) -> Done<Value> {
    let said = |result: &str, reason: &str| {
        let mut said = json!({"row": row.row, "device": row.device, "result": result});
        if !reason.is_empty() {
            said["reason"] = reason.into();
        }
        said
    };
    let body = match &row.claimed {
        Err(faults) => return Ok(said("invalid", &reasons(faults))),
        Ok(claimed) => body(claimed, row, application),
    };
    loop {
        let answer = client.send(Method::POST, "/api/v3/edcs/claim", Some(&body))?;
        let name = answer.name();
        return Ok(match (answer.status, name) {
            (200, _) => {
                let yours = answer.reason.as_deref() == Some("already_yours");
                let mut claimed = said(if yours { "already_yours" } else { "claimed" }, "");
                claimed["id"] = answer.body["device_id"].clone();
                claimed
            }
            (429, _) => {
                wait(&answer, bar)?;
                continue;
            }
            (400, "device_access_denied") => {
                said("refused", "the code or the device does not match, or it is not open")
            }
            (409, "device_already_claimed") => said("already_claimed", "another account owns it"),
            (409, "id_taken") => said("refused", "the id is in use in the application"),
            (400, _) => said("invalid", &answer.said()),
            _ => {
                let stop = answer.refusal();
                return Err(Stop { next: format!("{}; then run it again, what is claimed stays", stop.next), ..stop });
            }
        });
    }
}

fn wait(answer: &Answer, bar: &ProgressBar) -> Done {
    let wait = answer.wait().unwrap_or(Duration::from_secs(1));
    if wait > LONGEST_WAIT {
        return Err(answer.refusal());
    }
    let text = format!("the budget of tries is empty; going on in {}", humantime::format_duration(wait));
    bar.suspend(|| out::talk(text));
    std::thread::sleep(wait);
    Ok(())
}

fn body(claimed: &Claimed, row: &ClaimRow, application: &str) -> Value {
    let target = row.target_application.as_deref().unwrap_or(application);
    let mut body = json!({"target_application_ids": {"application_id": target}});
    if let Some(device) = &row.target_device {
        body["target_device_id"] = device.as_str().into();
    }
    match claimed {
        Claimed::Qr(text) => body["qr_code"] = STANDARD.encode(text.expose()).into(),
        // By name through ThingsBoard's QR, which says just that.
        Claimed::Name { name, code } => {
            let text = json!({"deviceName": name, "secretKey": code.expose()}).to_string();
            body["qr_code"] = STANDARD.encode(text).into();
        }
        Claimed::Eui { dev_eui, join_eui, code } => {
            body["authenticated_identifiers"] = json!({"dev_eui": dev_eui.to_string(),
                "join_eui": join_eui.to_string(), "authentication_code": code.expose()});
        }
    }
    body
}

fn bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("claiming {bar:30} {pos}/{len}  {per_sec}  {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn write_report(path: &Path, results: &[Value]) -> Done {
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        results.iter().try_for_each(|result| writeln!(file, "{result}"))
    };
    write()
        .map_err(|error| Stop::usage(format!("`{}` cannot be written: {error}", path.display()), "give --report FILE"))
}
