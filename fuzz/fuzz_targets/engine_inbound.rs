#![no_main]

#[path = "../../crates/dataplane/tests/fuzz_bodies/mod.rs"]
#[allow(dead_code)] // Each target calls one of them.
mod fuzz_bodies;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| fuzz_bodies::engine_inbound(octets));
