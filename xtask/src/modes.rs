//! The end-to-end tests on the stores that several nodes share. On those of one node they run with all other tests.

use crate::{cargo, run, say};

/// What stays on SQLite and memory, and why: the list that the tests themselves go by.
#[path = "../../tests/harness/embedded_only.rs"]
mod embedded_only;

use embedded_only::EMBEDDED_ONLY;

/// Runs them, and says how many installs were on which stores.
pub(crate) fn shared(filter: &[String]) -> Result<(), String> {
    say("== end-to-end tests on PostgreSQL and Redis");
    for (test, reason) in EMBEDDED_ONLY {
        say(&format!("on SQLite and memory: {test}: {reason}"));
    }
    let tally = crate::root().join("target/e2e-tally");
    let _ = std::fs::remove_file(&tally);
    // The whole workspace, so that nothing is built twice with other features.
    let mut tests = cargo(&["test", "--workspace", "--test", "e2e"]);
    if !filter.is_empty() {
        tests.arg("--").args(filter);
    }
    let done = run(tests.env("E2E_MODE", "shared").env("E2E_TALLY", &tally));
    let counted = std::fs::read_to_string(&tally).unwrap_or_default();
    let count = |mode: &str| counted.lines().filter(|line| *line == mode).count();
    let (on_shared, on_embedded) = (count("Shared"), count("Embedded"));
    say(&format!("installs on PostgreSQL and Redis: {on_shared}; on SQLite and memory: {on_embedded}"));
    done?;
    if EMBEDDED_ONLY.is_empty() && on_embedded > 0 {
        return Err("a test ran on SQLite and memory and is not on the list of those that must".to_owned());
    }
    if filter.is_empty() && on_shared == 0 {
        return Err("no end-to-end test ran on PostgreSQL and Redis".to_owned());
    }
    Ok(())
}
