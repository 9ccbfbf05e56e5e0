//! A simulation's report, for people and for programs.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use simulator::Report;

use crate::cli::Form;
use crate::out;

/// Prints it in the form asked for.
pub(super) fn print(report: &Report, form: Form) {
    let json = match form {
        Form::Json => true,
        Form::Table => false,
        Form::Auto => !std::io::stdout().is_terminal(),
    };
    if json {
        // Counts and texts: nothing in it can fail to serialise.
        out::data(serde_json::to_string(report).unwrap_or_default());
    } else {
        out::data(table(report).to_string());
        let reasons = reasons(report);
        if !reasons.is_empty() {
            out::data(reasons);
        }
        out::data(format!("seed {}  took {:.1} s", report.seed, report.took_ms as f64 / 1_000.0));
    }
}

/// A line for each transport.
pub(super) fn table(report: &Report) -> Table {
    let mut table = rows(&["transport", "submitted", "acked", "refused", "lost", "confirmed", "p50 ms", "p99 ms"]);
    for row in &report.transports {
        let tally = &row.tally;
        table.add_row([
            row.transport.clone(),
            tally.sent.to_string(),
            tally.acked.to_string(),
            tally.refused_in_all().to_string(),
            (tally.lost + tally.dropped).to_string(),
            tally.confirmed.to_string(),
            format!("{:.1}", tally.submit.ms(0.5)),
            format!("{:.1}", tally.submit.ms(0.99)),
        ]);
    }
    align(&mut table);
    table
}

/// A plain table with this head.
pub(super) fn rows(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(head.iter().copied());
    table
}

/// Numbers to the right; the first column is a name.
fn align(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

fn reasons(report: &Report) -> String {
    let total = report.total();
    let list = |what: &str, counts: &BTreeMap<String, u64>| {
        let each: Vec<String> = counts.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        (!each.is_empty()).then(|| format!("{what}: {}", each.join(", ")))
    };
    let mut lines: Vec<String> =
        [list("claims refused", &total.refused), list("confirms refused", &total.confirm_refused)]
            .into_iter()
            .flatten()
            .collect();
    let count = |what: &str, count: u64| (count > 0).then(|| format!("{what}: {count}"));
    lines.extend(
        [
            count("wrong codes shown and refused", total.wrong_refused),
            count("WRONG CODES THAT WERE TAKEN", total.wrong_taken),
            count("ACKED BUT NOT VISIBLE TO THE OWNER", total.invisible),
            count("transport errors", total.errors),
        ]
        .into_iter()
        .flatten(),
    );
    lines.join("\n")
}
