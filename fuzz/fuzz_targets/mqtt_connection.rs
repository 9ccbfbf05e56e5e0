#![no_main]

use libfuzzer_sys::fuzz_target;

thread_local! {
    static SESSIONS: transport_mqtt::fuzzing::Sessions =
        transport_mqtt::fuzzing::Sessions::new(testkit::fixtures::open_intake());
}

fuzz_target!(|bytes: &[u8]| SESSIONS.with(|sessions| sessions.connection(bytes)));
