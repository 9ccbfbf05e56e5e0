//! The fuzz targets of `fuzz/` as plain tests: their whole corpora and a fixed number of mutations.

use coap_lite::Packet;
use testkit::corpus::replay;
use transport_mqtt::fuzzing::Sessions;

/// Mutations a target, beside its seeds.
const MUTATIONS: u64 = 20_000;

fn readable(sent: &[u8]) {
    assert!(Packet::from_bytes(sent).is_ok(), "another codec reads what is sent");
}

#[test]
fn mqtt_packet_consumes_exactly_and_reads_back_what_it_writes() {
    let runs = replay("mqtt_packet", MUTATIONS, |bytes| {
        transport_mqtt::fuzzing::conversation(bytes);
    });
    assert!(runs > MUTATIONS);
}

#[test]
fn mqtt_connection_acks_nothing_before_sign_in_and_ends_on_server_packets() {
    let sessions = Sessions::new(testkit::fixtures::open_intake());
    // The good seeds get through, or nothing behind the sign-in would be tried.
    let said = sessions.say(include_bytes!("../../../fuzz/corpus/mqtt_connection/v311_claim"));
    assert_eq!(said, b"\x20\x02\0\0\x40\x02\0\x01\xd0\0", "CONNACK, PUBACK, PINGRESP");
    assert!(replay("mqtt_connection", MUTATIONS, |bytes| sessions.connection(bytes)) > MUTATIONS);
}

#[test]
fn coap_message_consumes_exactly_and_reads_back_what_it_writes() {
    assert!(replay("coap_message", MUTATIONS, |bytes| transport_coap::fuzzing::message(bytes, readable)) > MUTATIONS);
}

#[test]
fn coap_endpoint_answers_a_message_id_once_and_amplifies_nothing() {
    assert!(replay("coap_endpoint", MUTATIONS, |bytes| transport_coap::fuzzing::life(bytes, readable)) > MUTATIONS);
}

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
