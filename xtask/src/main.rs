//! `cargo xtask`: the project's own errands. `test` is what CI runs; the others are its parts, to be run alone.
//!
//! | command | does |
//! |---|---|
//! | `test` | installs what the tests need and says so, runs every gate, then every test, the end-to-end tests in both modes |
//! | `gates` | formatting, clippy, layers, papers, docs, licences; no tests |
//! | `layers` | holds the dependencies of the crates against the table in ARCHITECTURE.md |
//! | `papers` | checks that files and tests named in the papers exist |
//! | `setup` | only installs what the tests need |
//! | `bench` | installs the peers and measures claimd beside them: `[NAME…] [--quick] [--json] [--write]` |

mod bench;
mod gates;
mod layers;
mod licences;
mod modes;
mod papers;
mod setup;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "usage: cargo xtask <test|gates|layers|papers|setup|bench>";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.first().map(String::as_str) {
        Some("test") => test(&arguments[1..]),
        Some("gates") => gates::all(),
        Some("layers") => layers::check(),
        Some("papers") => papers::check(),
        Some("setup") => setup::install(),
        Some("bench") => bench::run(&arguments[1..]),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            say(&format!("xtask: {reason}"));
            ExitCode::FAILURE
        }
    }
}

/// Everything, and the tests last, so that what closes the output is the test runner's own summary.
fn test(filter: &[String]) -> Result<(), String> {
    setup::install()?;
    gates::all()?;
    say("== examples");
    run(&mut cargo(&["build", "--package", "claimd", "--examples"]))?;
    // It must not hide what the others find.
    let shared = modes::shared(filter);
    say("== tests");
    let mut tests = cargo(&["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"]);
    if !filter.is_empty() {
        tests.arg("--").args(filter);
    }
    run(&mut tests).and(shared)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(arguments);
    command
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = format!("{command:?}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name}: {status}")),
        Err(error) => Err(format!("{name}: {error}")),
    }
}

/// Standard output of a command that must succeed.
fn output(command: &mut Command) -> Result<String, String> {
    let name = format!("{command:?}");
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{name}: {error}"))
}

#[expect(clippy::print_stderr, reason = "this is where xtask speaks")]
fn say(line: &str) {
    eprintln!("{line}");
}
