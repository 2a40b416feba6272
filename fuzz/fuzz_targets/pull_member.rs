#![no_main]

#[path = "../../crates/proto/tests/roles/fuzz_bodies.rs"]
#[allow(dead_code)] // Each target calls one of them.
mod fuzz_bodies;
#[path = "../../crates/proto/tests/roles/fuzz_steps.rs"]
mod fuzz_steps;
#[path = "../../crates/proto/tests/roles/stranger.rs"]
#[allow(dead_code)]
mod stranger;
#[path = "../../crates/proto/tests/roles/world.rs"]
#[allow(dead_code)]
mod world;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    let _ = fuzz_bodies::pull_member(octets);
});
