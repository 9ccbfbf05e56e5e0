//! What the papers name must be there: files they link to or show as paths, and tests that ARCHITECTURE.md calls guards.

use std::path::Path;

use crate::{output, root, say};

const PAPERS: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "docs/backup-and-migration.md",
    "docs/benchmarks.md",
    "docs/clustering.md",
    "docs/makers.md",
    "docs/operators.md",
    "docs/owners.md",
    "docs/sizing.md",
];
/// Code spans that begin so are paths of this repository.
const FOLDERS: &[&str] = &["crates/", "tests/", "config/", "docs/", "examples/", "fuzz/", "xtask/"];

pub(crate) fn check() -> Result<(), String> {
    let mut faults = Vec::new();
    for paper in PAPERS {
        let path = root().join(paper);
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{paper}: {error}"))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for link in links(&text) {
            if !folder.join(link).exists() {
                faults.push(format!("{paper} links to `{link}`, which is not there"));
            }
        }
        for named in spans(&text).filter(|span| FOLDERS.iter().any(|folder| span.starts_with(folder))) {
            if !named.contains(['*', '{', '<', ' ']) && !root().join(named).exists() {
                faults.push(format!("{paper} names `{named}`, which is not there"));
            }
        }
    }
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).map_err(|error| error.to_string())?;
    let tests = tests()?;
    let guards: Vec<&str> = guards(&text).collect();
    faults.extend(
        guards
            .iter()
            .filter(|guard| !tests.contains(&format!("fn {guard}(")))
            .map(|guard| format!("ARCHITECTURE.md names the test `{guard}`, which is not there")),
    );
    if guards.is_empty() {
        faults.push("ARCHITECTURE.md names no test under `## Invariants`".to_owned());
    }
    if faults.is_empty() {
        say(&format!("{} papers, {} guards, nothing named that is not there", PAPERS.len(), guards.len()));
        return Ok(());
    }
    Err(format!("the papers and the tree differ:\n  {}", faults.join("\n  ")))
}

/// Every Rust file of the repository, as one text.
fn tests() -> Result<String, String> {
    let mut listing = std::process::Command::new("git");
    listing.current_dir(root()).args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"]);
    let files = output(&mut listing)?;
    let read = |file: &str| std::fs::read_to_string(root().join(file)).unwrap_or_default();
    Ok(files.lines().map(read).collect())
}

/// Targets of links to files: no address, no anchor of the same page.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter_map(|target| {
        let file = target.split('#').next().unwrap_or(target);
        (!file.is_empty() && !target.contains("://")).then_some(file)
    })
}

/// Code spans outside of code blocks.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").step_by(2).flat_map(|prose| prose.split('`').skip(1).step_by(2))
}

/// The code spans under `## Invariants` that look like the names of tests: words joined by at least two underscores.
fn guards(text: &str) -> impl Iterator<Item = &str> {
    let section = text.split("\n## Invariants").nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    spans(section).filter(|span| {
        span.matches('_').count() >= 2
            && span.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[a](x.md) [b](https://h/y) [c](#here) [d](z.md#part) `crates/claim`\n```\n`not/this`\n```\n\
                        \n## Invariants\n`one_two_three` `One_two_three` `a_b` `one two`\n## Next\n`four_five_six`\n";

    #[test]
    fn links_to_files_are_found_and_others_are_not() {
        assert_eq!(links(TEXT).collect::<Vec<_>>(), ["x.md", "z.md"]);
    }

    #[test]
    fn guards_are_the_tests_named_under_their_heading() {
        assert_eq!(guards(TEXT).collect::<Vec<_>>(), ["one_two_three"]);
        assert!(spans(TEXT).any(|span| span == "crates/claim") && !spans(TEXT).any(|span| span == "not/this"));
    }
}
