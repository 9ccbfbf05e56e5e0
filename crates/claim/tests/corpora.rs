//! The fuzz targets of `fuzz/` for this crate as plain tests: their whole corpora and a fixed number of mutations.

use testkit::corpus::replay;

/// Mutations a target, beside its seeds.
const MUTATIONS: u64 = 20_000;

#[test]
fn claim_json_reads_as_the_reference() {
    assert!(replay("claim_json", MUTATIONS, claim::fuzzing::claim_json) > MUTATIONS);
}

#[test]
fn claim_protobuf_reads_as_the_reference() {
    assert!(replay("claim_protobuf", MUTATIONS, claim::fuzzing::claim_protobuf) > MUTATIONS);
}

#[test]
fn gateway_batch_accounts_for_every_entry() {
    let property = |bytes: &[u8]| claim::fuzzing::gateway_batch(bytes, testkit::fixtures::submit_batch);
    assert!(replay("gateway_batch", MUTATIONS, property) > MUTATIONS);
}
