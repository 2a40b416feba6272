#![no_main]

#[path = "../../crates/config/tests/fuzz_body/mod.rs"]
mod fuzz_body;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| fuzz_body::config_text(octets));
