//! Answers on standard output: a table for people, JSON and CSV for programs.

use std::io::IsTerminal;
use std::time::Duration;

use claim_codes::ClaimCode;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use super::member;
use crate::cli::remote::{Output, RemoteArgs};
use crate::out;

/// Rows under these columns (paths of members); JSON has all members.
pub(super) struct Shown<'a> {
    output: Output,
    columns: Vec<&'a str>,
    /// Whether the columns were asked for: then JSON has them alone.
    chosen: bool,
    many: bool,
}

impl<'a> Shown<'a> {
    /// One thing.
    pub(super) fn one(remote: &'a RemoteArgs, columns: &'a [&'a str]) -> Self {
        let chosen = !remote.fields.is_empty();
        let columns = if chosen { remote.fields.iter().map(String::as_str).collect() } else { columns.to_vec() };
        Self { output: output(remote), columns, chosen, many: false }
    }

    /// A list, however many there are in it.
    pub(super) fn many(remote: &'a RemoteArgs, columns: &'a [&'a str]) -> Self {
        Self { many: true, ..Self::one(remote, columns) }
    }

    pub(super) fn show(&self, value: &Value) {
        self.rows(std::slice::from_ref(value));
    }

    pub(super) fn rows(&self, rows: &[Value]) {
        let rows: &[Value] = &rows.iter().cloned().map(with_readable_times).collect::<Vec<_>>();
        let asked_for: Vec<Value>;
        let json = match self.chosen && matches!(self.output, Output::Json | Output::Jsonl) {
            true => {
                asked_for = rows.iter().map(|row| self.members(row)).collect();
                &asked_for
            }
            false => rows,
        };
        match self.output {
            Output::Json if self.many => out::data(serde_json::to_string_pretty(json).unwrap_or_default()),
            Output::Json => {
                json.iter().for_each(|row| out::data(serde_json::to_string_pretty(row).unwrap_or_default()))
            }
            Output::Jsonl => json.iter().for_each(|row| out::data(row.to_string())),
            Output::Csv => {
                out::data(self.columns.join(","));
                rows.iter().for_each(|row| out::data(self.cells(row).map(quoted).collect::<Vec<_>>().join(",")));
            }
            Output::Table if !self.many => {
                for (column, cell) in self.columns.iter().zip(self.cells(&rows[0])).filter(|(_, cell)| !cell.is_empty())
                {
                    let cell = if *column == "code.value" { in_groups(cell) } else { cell };
                    out::data(format!("{column:<24} {cell}"));
                }
            }
            Output::Table => {
                let mut table = Table::new();
                table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
                table.set_header(&self.columns);
                for row in rows {
                    table.add_row(self.cells(row));
                }
                out::data(table.to_string());
            }
        }
    }

    /// A row of many that come one after the other, without end; an error when nobody reads them any more.
    pub(super) fn next_row(&self, row: &Value, first: bool) -> std::io::Result<()> {
        out::try_data(match self.output {
            Output::Table => self.cells(row).filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join("  "),
            Output::Json => serde_json::to_string_pretty(row).unwrap_or_default(),
            Output::Jsonl => row.to_string(),
            Output::Csv => {
                let cells = self.cells(row).map(quoted).collect::<Vec<_>>().join(",");
                if first { format!("{}\n{cells}", self.columns.join(",")) } else { cells }
            }
        })
    }

    /// The members that were asked for, by their paths; those that are not there are `null`.
    fn members(&self, row: &Value) -> Value {
        let members = self.columns.iter().map(|column| {
            let value = member(row, column).cloned().unwrap_or(Value::Null);
            ((*column).to_owned(), value)
        });
        Value::Object(members.collect())
    }

    fn cells<'v>(&'v self, row: &'v Value) -> impl Iterator<Item = String> + 'v {
        self.columns.iter().map(|column| member(row, column).map(cell).unwrap_or_default())
    }
}

fn output(remote: &RemoteArgs) -> Output {
    let terminal = std::io::stdout().is_terminal();
    remote.output.unwrap_or(if terminal { Output::Table } else { Output::Jsonl })
}

/// ThingsBoard's word for nobody.
const NOBODY: &str = "13814000-1dd2-11b2-8080-808080808080";

/// A value as people read it: named things by their names, lists with commas, nobody as nothing.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if text == NOBODY => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(members) => match members.get("name") {
            Some(name) => cell(name),
            None => {
                members.iter().map(|(name, value)| format!("{name}: {}", cell(value))).collect::<Vec<_>>().join("; ")
            }
        },
        other => other.to_string(),
    }
}

/// The same with its times in RFC 3339. Some routes of the server say epoch milliseconds, as ThingsBoard and devices do.
fn with_readable_times(mut row: Value) -> Value {
    for (name, value) in row.as_object_mut().into_iter().flatten() {
        if (name == "at" || name.ends_with("At") || name == "createdTime")
            && let Some(millis) = value.as_u64()
            && let Some(then) = std::time::UNIX_EPOCH.checked_add(Duration::from_millis(millis))
        {
            *value = humantime::format_rfc3339_millis(then).to_string().into();
        }
    }
    row
}

/// A code as it is read aloud and typed; what is typed so is understood.
fn in_groups(code: String) -> String {
    ClaimCode::parse(&code).map_or(code, |code| code.grouped().to_string())
}

/// RFC 4180.
fn quoted(cell: String) -> String {
    if cell.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_shown_in_rfc_3339_wherever_they_come_from() {
        let row = json!({"at": 1_795_816_414_033_u64, "claimedAt": 0, "createdTime": 1, "validAt": "2026-01-01T00:00:00Z",
            "seq": 7, "far": {"at": 5}});
        let shown = json!({"at": "2026-11-27T21:53:34.033Z", "claimedAt": "1970-01-01T00:00:00.000Z",
            "createdTime": "1970-01-01T00:00:00.001Z", "validAt": "2026-01-01T00:00:00Z", "seq": 7, "far": {"at": 5}});
        assert_eq!(with_readable_times(row), shown);
    }

    #[test]
    fn cells_are_for_people() {
        for (value, shown) in [
            (json!(null), ""),
            (json!("13814000-1dd2-11b2-8080-808080808080"), ""),
            (json!([]), ""),
            (json!([{"id": "x", "name": "claimers"}, {"name": "others"}]), "claimers, others"),
            (json!({"DEVICE": ["CLAIM_DEVICES"]}), "DEVICE: CLAIM_DEVICES"),
            (json!(true), "true"),
        ] {
            assert_eq!(cell(&value), shown);
        }
        assert_eq!(in_groups("CP5M45DK2QPVTHBE".to_owned()), "CP5M-45DK-2QPV-THBE");
        assert_eq!(in_groups("BEEF1234X".to_owned()), "BEEF1234X");
    }
}
