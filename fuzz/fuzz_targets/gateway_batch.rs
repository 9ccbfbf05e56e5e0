#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| claim::fuzzing::gateway_batch(bytes, testkit::fixtures::submit_batch));
