//! The configurations of the lab are whole and right.

use std::path::{Path, PathBuf};

fn configurations(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "frr") {
            configurations(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "conf")
            && std::fs::read_to_string(&path).unwrap().contains("group-vpn")
        {
            found.push(path);
        }
    }
}

#[test]
fn every_configuration_of_the_lab_loads() {
    let mut files = Vec::new();
    configurations(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../lab")), &mut files);
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let candidate = config::read(&text, &[]);
        let name = file.display().to_string();
        let report = config::Report { name: &name, text: &text, findings: &candidate.findings };
        assert!(candidate.model.is_some(), "{}", report.for_people(false));
        eprintln!("{}", report.lines());
    }
}
