//! The fuzz targets of `fuzz/` for this crate as plain tests: their whole corpora and a fixed number of mutations.

use testkit::corpus::replay;
use transport_mqtt::fuzzing::Sessions;

/// Mutations a target, beside its seeds.
const MUTATIONS: u64 = 20_000;

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
