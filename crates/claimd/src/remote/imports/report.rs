//! What became of the rows, in words and as a file to mend.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use claim::ListingId;
use claim_codes::import::FileFormat;
use claim_codes::import::report::bad_rows;
use serde_json::{Value, json};

use super::codes::{replace_file, unwritten};
use crate::out;
use crate::remote::client::Client;
use crate::remote::{Done, Stop};

/// A fault a row.
pub(super) const COLUMNS: [&str; 5] = ["row", "column", "value", "reason", "write"];
/// Rows that one request asks for.
const FETCHED: usize = 1_000;

/// `checked 2,400 rows in 0.3 s: 2,371 new, 27 unchanged, 2 refused; nothing written`
pub(super) fn summary(job: &Value, took: Duration) -> String {
    let (dry, state) = (job["dryRun"] == true, job["state"].as_str().unwrap_or_default());
    let written = !dry && matches!(state, "done" | "stopped");
    let counts = if written { &job["applied"] } else { &job["checked"] };
    let number = |name: &str| counts[name].as_u64().unwrap_or_default();
    let refused = if written {
        // Rows that were bad from the start never came to be applied.
        number("failed") + job["checked"]["failed"].as_u64().unwrap_or_default()
    } else {
        number("failed")
    };
    let parts = [
        (number("created"), "new"),
        (number("updated"), "changed"),
        (number("unchanged"), "unchanged"),
        (refused, "refused"),
    ];
    let mut said: Vec<String> = Vec::new();
    for (count, what) in parts {
        if count > 0 {
            said.push(format!("{} {what}", out::grouped(count)));
        }
    }
    if said.is_empty() {
        said.push("nothing to do".to_owned());
    }
    let rows = out::grouped(job["checked"]["rows"].as_u64().unwrap_or_default());
    let seconds = took.as_secs_f64();
    let verb = if written { "imported" } else { "checked" };
    let end = if written { "" } else { "; nothing written" };
    format!("{verb} {rows} rows in {seconds:.1} s: {}{end}", said.join(", "))
}

/// Every fault of every bad row.
pub(super) fn faults(client: &Client, import: &str) -> Done<Vec<Value>> {
    let (mut faults, mut after) = (Vec::new(), 0);
    loop {
        let page = client.get(&format!("{import}/rows?failed=true&limit={FETCHED}&after={after}"))?;
        let rows = page.as_array().cloned().unwrap_or_default();
        let Some(last) = rows.last().and_then(|row| row["row"].as_u64()) else { return Ok(faults) };
        after = last;
        for row in rows {
            for error in row["errors"].as_array().into_iter().flatten() {
                let mut fault = json!({"row": row["row"], "id": row["id"], "status": row["status"]});
                for name in ["column", "value", "code", "reason"] {
                    fault[name] = error[name].clone();
                }
                if let Some(write) = write_instead(error) {
                    fault["write"] = write.into();
                }
                faults.push(fault);
            }
        }
    }
}

/// What would be right, where that can be guessed.
fn write_instead(error: &Value) -> Option<String> {
    let value = error["value"].as_str()?;
    match error["code"].as_str()? {
        "invalid_id" => Some(ListingId::from_name(value, 0).to_string()),
        "invalid_time" => Some("2026-02-28T23:59:59Z".to_owned()),
        "invalid_boolean" => Some("true".to_owned()),
        _ => None,
    }
}

/// Copies the bad rows of a file with their reasons.
pub(super) fn write(path: &Path, file: &Path, format: &str, faults: &[Value]) -> Done {
    let mut reasons: BTreeMap<u64, String> = BTreeMap::new();
    for fault in faults {
        let row = fault["row"].as_u64().unwrap_or_default();
        let text = format!(
            "{}: {}",
            fault["column"].as_str().unwrap_or_default(),
            fault["reason"].as_str().unwrap_or_default()
        );
        let reason = reasons.entry(row).or_default();
        if !reason.is_empty() {
            reason.push_str("; ");
        }
        reason.push_str(text.trim_start_matches(": "));
    }
    let Some(format) = FileFormat::of_id(format) else { return Ok(()) };
    if file == Path::new("-") {
        return Err(Stop::usage("standard input cannot be read again for the report", "import from a file"));
    }
    let source = File::open(file).map_err(|error| unwritten(file, &error))?;
    // It may be the very file that was imported, mended and to be mended again.
    let count = replace_file(path, |report| {
        bad_rows(format, BufReader::new(source), &reasons, report)
            .map_err(|fault| Stop::usage(format!("`{}`: {fault}", file.display()), "name another file with --report"))
    })?;
    out::talk(format!("report   {count} bad rows in {}", path.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_what_was_done_and_what_not() {
        let counts = |created: u64, unchanged: u64, failed: u64| {
            json!({"rows": created + unchanged + failed,
            "created": created, "updated": 0, "unchanged": unchanged, "failed": failed})
        };
        let took = Duration::from_millis(321);
        let dry =
            json!({"dryRun": true, "state": "checked", "checked": counts(2371, 27, 2), "applied": counts(0, 0, 0)});
        assert_eq!(
            summary(&dry, took),
            "checked 2,400 rows in 0.3 s: 2,371 new, 27 unchanged, 2 refused; nothing written"
        );
        let done = json!({"dryRun": false, "state": "done", "checked": counts(3, 0, 1), "applied": counts(3, 0, 0)});
        assert_eq!(summary(&done, took), "imported 4 rows in 0.3 s: 3 new, 1 refused");
    }

    #[test]
    fn what_would_be_right_is_told_where_it_can_be() {
        let fault = |code: &str, value: &str| json!({"code": code, "value": value});
        assert_eq!(write_instead(&fault("invalid_id", "Pump 7")).as_deref(), Some("pump-7"));
        assert_eq!(write_instead(&fault("invalid_eui", "00GG")), None);
    }
}
