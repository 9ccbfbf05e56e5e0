//! A backup as a stranger reads it: files of JSON lines, whose columns are in the manifest.

use std::path::Path;

use base64::Engine;
use serde_json::{Map, Value};

use super::tools::no_file_has;

/// The manifest.
pub fn manifest(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).expect("the manifest")).expect("JSON")
}

/// A table's rows, by the names of their columns.
pub fn rows(folder: &Path, table: &str) -> Vec<Map<String, Value>> {
    let manifest = manifest(folder);
    let tables = manifest["tables"].as_array().expect("tables");
    let columns = &tables.iter().find(|said| said["name"] == table).expect("the table")["columns"];
    let names = || columns.as_array().expect("columns").iter().map(|name| name.as_str().expect("a name").to_owned());
    let text = std::fs::read_to_string(folder.join(format!("{table}.jsonl"))).expect("the table's file");
    let row = |line: &str| names().zip(serde_json::from_str::<Vec<Value>>(line).expect("a row")).collect();
    text.lines().map(row).collect()
}

/// Looks for secrets in the files as they are, and in what their base64 stands for.
pub fn has_none(folder: &Path, marks: &[&[u8]]) {
    no_file_has(folder, marks);
    let mut looked_at = 0;
    for table in manifest(folder)["tables"].as_array().expect("tables") {
        let table = table["name"].as_str().expect("a name");
        for (name, value) in rows(folder, table).into_iter().flatten() {
            let Some(bytes) = value.as_str().and_then(|text| base64::prelude::BASE64_STANDARD.decode(text).ok()) else {
                continue;
            };
            looked_at += 1;
            let bytes = bytes.to_ascii_uppercase();
            for mark in marks {
                let mark = mark.to_ascii_uppercase();
                let found = bytes.windows(mark.len()).any(|window| window == mark);
                assert!(!found, "a secret is in `{table}.{name}` of {}", folder.display());
            }
        }
    }
    assert!(looked_at > 0, "there are digests to look through");
}
