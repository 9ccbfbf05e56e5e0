//! The fuzz target of `fuzz/` for this crate as a plain test: its whole corpus and a fixed number of mutations.

use listener::fuzzing;
use testkit::corpus::replay;

/// Mutations, beside the seeds.
const MUTATIONS: u64 = 100_000;

#[test]
fn proxy_v2_reads_exactly_a_header_and_asks_nobody_who_is_not_trusted() {
    // The good seeds are headers, or nothing behind the signature would be tried.
    assert!(fuzzing::header(include_bytes!("../../../fuzz/corpus/proxy_v2/tcp4_then_mqtt")));
    assert!(fuzzing::header(include_bytes!("../../../fuzz/corpus/proxy_v2/tcp6_with_extras")));
    let runs = replay("proxy_v2", MUTATIONS, |bytes| {
        fuzzing::header(bytes);
    });
    assert!(runs > MUTATIONS);
}
