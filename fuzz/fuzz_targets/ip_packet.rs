#![no_main]

#[path = "../../crates/wire/tests/messages/fuzz_bodies.rs"]
#[allow(dead_code)] // Each target calls one of them.
mod fuzz_bodies;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| fuzz_bodies::ip_packet(octets));
