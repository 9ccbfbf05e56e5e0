//! The suite runs in both modes, but for what is listed.

use crate::harness::embedded_only::EMBEDDED_ONLY;
use crate::harness::tools::root;

/// Where a test names an embedded store by itself, in every mode: file, how often, and what of that store it is about.
const NAMED_STORES: &[(&str, usize, &str)] = &[
    ("doctor.rs", 1, "the modes of the files of an embedded registry"),
    ("moving.rs", 2, "backups and moves go from one named store to the other"),
    ("observability.rs", 1, "figures that only claims in memory have"),
];

#[test]
fn what_runs_on_the_embedded_stores_alone_is_listed_and_nothing_else_is() {
    let tests = std::fs::read_dir(root().join("tests")).expect("the tests");
    let files = tests.map(|entry| entry.expect("an entry").path());
    let files = files.filter(|path| path.is_file() && !path.ends_with("modes.rs"));
    let sources: Vec<String> = files.map(|path| std::fs::read_to_string(path).expect("a source")).collect();
    let count = |text: &str| sources.iter().map(|source| source.matches(text).count()).sum::<usize>();
    for (test, reason) in EMBEDDED_ONLY {
        assert_eq!(count(&format!("fn {test}()")), 1, "`{test}` is no test");
        assert_eq!(count(&format!("Server::embedded(\"{test}\"")), 1, "`{test}` runs in both modes");
        assert!(!reason.is_empty());
    }
    assert_eq!(count("Server::embedded("), EMBEDDED_ONLY.len(), "the list and the tests agree");
    let around = ["REGISTRY__BACKEND\", \"sqlite", "CLAIM_CACHE__BACKEND\", \"memory"];
    let listed: usize = NAMED_STORES.iter().map(|(_, times, _)| times).sum();
    assert_eq!(around.map(count).iter().sum::<usize>(), listed, "no test gets around the mode unlisted");
    for (file, times, about) in NAMED_STORES {
        let source = std::fs::read_to_string(root().join("tests").join(file)).expect("a source");
        let named: usize = around.iter().map(|text| source.matches(text).count()).sum();
        assert_eq!(named, *times, "`{file}` names an embedded store as often as is listed: {about}");
    }
}
