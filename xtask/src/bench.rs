//! `cargo xtask bench`: installs the peers, builds with all optimisations, runs the suite, and keeps its report if asked to.

use std::process::Command;

use crate::{cargo, output, root, say, setup};

/// Servers that claimd is measured beside, and the file that shows each is there.
const PEERS: &[(&str, &str)] = &[
    ("mosquitto", "/usr/sbin/mosquitto"),
    ("libcoap3-bin", "/usr/bin/coap-server-notls"),
    ("nginx-light", "/usr/sbin/nginx"),
    ("sqlite3", "/usr/bin/sqlite3"),
    ("redis-server", "/usr/bin/redis-server"),
    ("redis-tools", "/usr/bin/redis-benchmark"),
    ("util-linux", "/usr/bin/taskset"),
];

const PAGE: &str = "docs/benchmarks.md";
const BEGIN: &str = "<!-- figures:begin -->\n";
const END: &str = "<!-- figures:end -->";

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    setup::debian(PEERS)?;
    say("== building");
    crate::run(&mut cargo(&["build", "--release", "--package", "claimd", "--package", "bench"]))?;
    say("== measuring");
    // Load on the second core, servers on the first.
    let mut suite = Command::new("taskset");
    suite.args(["-c", "1"]).arg(root().join("target/release/bench"));
    suite.args(arguments.iter().filter(|argument| *argument != "--write"));
    if !arguments.iter().any(|argument| argument == "--write") {
        return crate::run(&mut suite);
    }
    let figures = output(&mut suite)?;
    let path = root().join(PAGE);
    let page = std::fs::read_to_string(&path).map_err(|error| format!("{PAGE}: {error}"))?;
    let page = replaced(&page, &figures).ok_or_else(|| format!("{PAGE} has no place for the figures"))?;
    std::fs::write(&path, page).map_err(|error| format!("{PAGE}: {error}"))?;
    say(&format!("wrote {PAGE}"));
    Ok(())
}

/// The page with new figures between its two marks.
fn replaced(page: &str, figures: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{}\n{END}{after}", figures.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let page = format!("a\n{BEGIN}old\n{END}\nb\n");
        assert_eq!(replaced(&page, "new\n"), Some(format!("a\n{BEGIN}new\n{END}\nb\n")));
        assert_eq!(replaced("no marks", "new"), None);
    }
}
