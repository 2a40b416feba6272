//! Replays the corpus of the fuzz target.

use std::path::Path;

#[allow(dead_code)] // The other half of it is for the properties.
mod fuzz_body;

#[test]
fn every_text_of_the_corpus_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/config_text");
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let octets = std::fs::read(&path).unwrap();
        std::panic::catch_unwind(|| fuzz_body::config_text(&octets))
            .unwrap_or_else(|_| panic!("{} fails", path.display()));
        count += 1;
    }
    assert!(count > 10, "{} has {count} files", folder.display());
}
