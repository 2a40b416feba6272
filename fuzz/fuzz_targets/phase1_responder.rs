#![no_main]

#[path = "../../crates/proto/tests/phase1/fuzz_body.rs"]
mod fuzz_body;
#[path = "../../crates/proto/tests/phase1/peers.rs"]
#[allow(dead_code)] // The target needs only a part of it.
mod peers;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| fuzz_body::phase1_responder(octets));
