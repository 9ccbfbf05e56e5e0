//! Measures claimd beside a floor (a program that only moves the bytes) and a peer (what people run today), on the same
//! core, in turn, in one run. The figure is the server's CPU time per operation as the kernel accounts it; what is printed
//! is ratios. Run it with `cargo xtask bench`.
#![forbid(unsafe_code)]

mod confirms;
mod floor;
mod imports;
mod load;
mod measure;
mod memory;
mod paths;
mod report;
mod servers;
mod shared;

use std::process::ExitCode;

use report::Report;

/// What was asked for.
pub(crate) struct Plan {
    /// Only benchmarks whose name begins so; all when empty.
    names: Vec<String>,
    /// Fewer operations and rounds: for a look, not for the record.
    pub(crate) quick: bool,
    json: bool,
}

impl Plan {
    /// Whether a benchmark is to be run.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| name.starts_with(wanted.as_str()))
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]
fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    // What this program is as its own child.
    if arguments.first().is_some_and(|first| first == "floor") {
        return floor::run(&arguments[1..]);
    }
    if arguments.first().is_some_and(|first| first == "held") {
        return memory::child(&arguments[1..]);
    }
    let mut flag = |name: &str| {
        let before = arguments.len();
        arguments.retain(|argument| argument != name);
        arguments.len() != before
    };
    let (quick, json) = (flag("--quick"), flag("--json"));
    if let Some(odd) = arguments.iter().find(|argument| argument.starts_with('-')) {
        eprintln!("error: there is no `{odd}`\nusage: cargo xtask bench [NAME…] [--quick] [--json] [--write]");
        return ExitCode::from(2);
    }
    let plan = Plan { names: arguments, quick, json };
    let mut report = Report::new(quick);
    let run = paths::all(&plan, &mut report).and_then(|()| memory::all(&plan, &mut report));
    let run = run.and_then(|()| imports::all(&plan, &mut report));
    let run = run.and_then(|()| confirms::all(&plan, &mut report));
    let run = run.and_then(|()| shared::all(&plan, &mut report));
    println!("{}", if plan.json { report.json() } else { report.markdown() });
    match run {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}
