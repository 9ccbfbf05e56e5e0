//! Dependencies point down, and only down: the table in ARCHITECTURE.md, held against `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{cargo, output, root, say};

const BEGIN: &str = "<!-- layers:begin -->";
const END: &str = "<!-- layers:end -->";

/// Which crates of the workspace a crate may depend on. `*` in the table means any.
type Allowed = BTreeMap<String, BTreeSet<String>>;

/// A crate of the workspace and those below it, each with whether it is for tests only.
type Edges = (String, Vec<(String, bool)>);

pub(crate) fn check() -> Result<(), String> {
    let path = root().join("ARCHITECTURE.md");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let allowed = table(&text)?;
    let metadata = metadata()?;
    let faults = faults(&allowed, &edges(&metadata)?);
    if faults.is_empty() {
        say(&format!("{} crates, no edge outside the table", allowed.len()));
        return Ok(());
    }
    Err(format!("dependencies outside the table in ARCHITECTURE.md:\n  {}", faults.join("\n  ")))
}

pub(crate) fn metadata() -> Result<Value, String> {
    let text = output(&mut cargo(&["metadata", "--format-version", "1", "--locked"]))?;
    serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))
}

/// Reads rows such as `` | `registry` | `claim` | `` between the two marks.
fn table(text: &str) -> Result<Allowed, String> {
    let inner = text
        .split_once(BEGIN)
        .and_then(|(_, rest)| rest.split_once(END))
        .map(|(inner, _)| inner)
        .ok_or_else(|| format!("ARCHITECTURE.md has no table between {BEGIN} and {END}"))?;
    let mut allowed = Allowed::new();
    for line in inner.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let (Some(name), Some(below)) = (cells.next(), cells.next()) else { return Err(format!("half a row: {line}")) };
        let below = below.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        allowed.insert(name.trim_matches('`').to_owned(), below);
    }
    if allowed.is_empty() {
        return Err("the table of layers is empty".to_owned());
    }
    Ok(allowed)
}

/// Every edge between two crates of the workspace.
fn edges(metadata: &Value) -> Result<Vec<Edges>, String> {
    let packages = metadata["packages"].as_array().ok_or("cargo metadata: no packages")?;
    let ours: BTreeSet<&str> = packages
        .iter()
        .filter(|package| package["source"].is_null())
        .filter_map(|package| package["name"].as_str())
        .collect();
    let mut all = Vec::new();
    for package in packages.iter().filter(|package| package["source"].is_null()) {
        let name = package["name"].as_str().ok_or("cargo metadata: a package has no name")?;
        let below = package["dependencies"].as_array().into_iter().flatten().filter_map(|dependency| {
            let below = dependency["name"].as_str().filter(|below| ours.contains(below))?;
            Some((below.to_owned(), dependency["kind"] == "dev"))
        });
        all.push((name.to_owned(), below.collect()));
    }
    Ok(all)
}

fn faults(allowed: &Allowed, edges: &[Edges]) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, below) in edges {
        let Some(row) = allowed.get(name) else {
            faults.push(format!("`{name}` has no row"));
            continue;
        };
        for (target, for_tests) in below {
            let fits = row.contains(target) || row.contains("*") || (*for_tests && target == "testkit");
            if !fits {
                faults.push(format!("`{name}` must not depend on `{target}`"));
            }
        }
    }
    for name in allowed.keys().filter(|name| !edges.iter().any(|(edge, _)| edge == *name)) {
        faults.push(format!("the row `{name}` names no crate"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "x\n<!-- layers:begin -->\n| crate | below |\n|---|---|\n| `claim` | |\n| `registry` | `claim` |\n\
                        | `claimd` | `*` |\n<!-- layers:end -->\n";

    fn edge(name: &str, below: &[(&str, bool)]) -> Edges {
        (name.to_owned(), below.iter().map(|(below, tests)| ((*below).to_owned(), *tests)).collect())
    }

    #[test]
    fn an_edge_in_the_table_is_fine_and_every_other_one_is_named() {
        let allowed = table(TEXT).expect("a table");
        let good = [
            edge("claim", &[("testkit", true)]),
            edge("registry", &[("claim", false)]),
            edge("claimd", &[("registry", false)]),
        ];
        assert_eq!(faults(&allowed, &good), Vec::<String>::new());
        let bad = [edge("claim", &[("registry", false)]), edge("registry", &[("testkit", false)]), edge("claimd", &[])];
        assert_eq!(
            faults(&allowed, &bad),
            ["`claim` must not depend on `registry`", "`registry` must not depend on `testkit`"]
        );
    }

    #[test]
    fn a_crate_without_a_row_and_a_row_without_a_crate_are_faults() {
        let allowed = table(TEXT).expect("a table");
        let edges = [edge("claim", &[]), edge("registry", &[]), edge("stranger", &[])];
        assert_eq!(faults(&allowed, &edges), ["`stranger` has no row", "the row `claimd` names no crate"]);
    }

    #[test]
    fn a_page_without_the_marks_is_an_error() {
        assert!(table("# nothing").is_err());
        assert!(table("<!-- layers:begin -->\n<!-- layers:end -->").is_err());
    }
}
