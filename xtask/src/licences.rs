//! Every dependency's licence must be one that `deny.toml` allows: the same list cargo-deny reads, checked without
//! having to build cargo-deny first. (Advisories need its database: run `cargo deny check` for those.)

use std::collections::BTreeSet;

use crate::{layers, root, say};

pub(crate) fn check() -> Result<(), String> {
    let path = root().join("deny.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let table: toml::Table = text.parse().map_err(|error| format!("deny.toml: {error}"))?;
    let allowed: BTreeSet<&str> = table
        .get("licenses")
        .and_then(|licences| licences.get("allow"))
        .and_then(toml::Value::as_array)
        .ok_or("deny.toml: no licenses.allow")?
        .iter()
        .filter_map(toml::Value::as_str)
        .collect();
    let metadata = layers::metadata()?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata: no packages")?;
    let faults: Vec<String> = packages
        .iter()
        .filter_map(|package| {
            let licence = package["license"].as_str().unwrap_or("none");
            (!satisfied(licence, &allowed)).then(|| format!("{} {}: {licence}", package["name"], package["version"]))
        })
        .collect();
    if faults.is_empty() {
        say(&format!("{} packages, all under allowed licences", packages.len()));
        return Ok(());
    }
    Err(format!("licences that deny.toml does not allow:\n  {}", faults.join("\n  ")))
}

/// An SPDX expression of `OR`, `AND`, `WITH` and brackets (`/` is the old spelling of `OR`).
fn satisfied(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ").replace(" WITH ", "~");
    let words: Vec<String> = spaced.split_whitespace().map(|word| word.replace('~', " WITH ")).collect();
    let mut rest = words.as_slice();
    let held = any(&mut rest, allowed);
    held && rest.is_empty()
}

fn any(rest: &mut &[String], allowed: &BTreeSet<&str>) -> bool {
    let mut held = all(rest, allowed);
    while rest.first().is_some_and(|word| word == "OR") {
        *rest = &rest[1..];
        held |= all(rest, allowed);
    }
    held
}

fn all(rest: &mut &[String], allowed: &BTreeSet<&str>) -> bool {
    let mut held = one(rest, allowed);
    while rest.first().is_some_and(|word| word == "AND") {
        *rest = &rest[1..];
        held &= one(rest, allowed);
    }
    held
}

fn one(rest: &mut &[String], allowed: &BTreeSet<&str>) -> bool {
    let Some((word, after)) = rest.split_first() else { return false };
    *rest = after;
    if word != "(" {
        return allowed.contains(word.as_str());
    }
    let held = any(rest, allowed);
    let closed = rest.first().is_some_and(|word| word == ")");
    *rest = rest.get(1..).unwrap_or_default();
    held && closed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_holds_when_its_allowed_parts_carry_it() {
        let allowed = BTreeSet::from(["MIT", "Apache-2.0 WITH LLVM-exception", "ISC"]);
        for held in
            ["MIT", "GPL-3.0 OR MIT", "MIT/GPL-3.0", "(GPL-2.0 OR MIT) AND ISC", "Apache-2.0 WITH LLVM-exception"]
        {
            assert!(satisfied(held, &allowed), "{held}");
        }
        for refused in ["GPL-3.0", "none", "", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-2.0", "(MIT", "MIT ISC"] {
            assert!(!satisfied(refused, &allowed), "{refused}");
        }
    }
}
