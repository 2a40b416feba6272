//! Replays the corpora of the fuzz targets.

use std::path::Path;

use crate::fuzz_bodies;

fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        let octets = std::fs::read(&path).unwrap();
        // A panic does not say which file it was about.
        std::panic::catch_unwind(|| body(&octets)).unwrap_or_else(|_| panic!("{} fails", path.display()));
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

#[test]
fn message_holds_for_its_corpus() {
    replay("message", fuzz_bodies::message);
}

#[test]
fn payloads_gdoi_holds_for_its_corpus() {
    replay("payloads_gdoi", fuzz_bodies::payloads_gdoi);
}

#[test]
fn ip_packet_holds_for_its_corpus() {
    replay("ip_packet", fuzz_bodies::ip_packet);
}

#[test]
fn describe_holds_for_its_corpus() {
    replay("describe", fuzz_bodies::describe);
}
