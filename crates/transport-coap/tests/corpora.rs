//! The fuzz targets of `fuzz/` for this crate as plain tests: their whole corpora and a fixed number of mutations.

use coap_lite::Packet;
use testkit::corpus::replay;

/// Mutations a target, beside its seeds.
const MUTATIONS: u64 = 20_000;

fn readable(sent: &[u8]) {
    assert!(Packet::from_bytes(sent).is_ok(), "another codec reads what is sent");
}

#[test]
fn coap_message_consumes_exactly_and_reads_back_what_it_writes() {
    assert!(replay("coap_message", MUTATIONS, |bytes| transport_coap::fuzzing::message(bytes, readable)) > MUTATIONS);
}

#[test]
fn coap_endpoint_answers_a_message_id_once_and_amplifies_nothing() {
    assert!(replay("coap_endpoint", MUTATIONS, |bytes| transport_coap::fuzzing::life(bytes, readable)) > MUTATIONS);
}
