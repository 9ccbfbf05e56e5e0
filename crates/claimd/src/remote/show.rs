//! Answers on standard output: a table for people, JSON and CSV for programs.

use std::io::IsTerminal;

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
        self.columns.iter().map(|column| match member(row, column) {
            None => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        })
    }
}

fn output(remote: &RemoteArgs) -> Output {
    let terminal = std::io::stdout().is_terminal();
    remote.output.unwrap_or(if terminal { Output::Table } else { Output::Jsonl })
}

/// RFC 4180.
fn quoted(cell: String) -> String {
    if cell.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}
