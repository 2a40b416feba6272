//! Files that commands read.

use std::io::Read as _;

use anyhow::{Context as _, Result, bail};

/// No configuration or capture that anybody writes is larger; what is, was named by mistake.
const LARGEST_INPUT: u64 = 1 << 30;

/// A text file, or standard input for `-`.
pub fn text(file: &str) -> Result<String> {
    String::from_utf8(octets(file)?).with_context(|| format!("{file} is not UTF-8 text"))
}

/// A file, or standard input for `-`.
pub fn octets(file: &str) -> Result<Vec<u8>> {
    let mut octets = Vec::new();
    let mut read = |input: &mut dyn std::io::Read| input.take(LARGEST_INPUT + 1).read_to_end(&mut octets);
    match file {
        "-" => read(&mut std::io::stdin().lock()).context("reading standard input")?,
        _ => std::fs::File::open(file)
            .and_then(|mut file| read(&mut file))
            .with_context(|| format!("reading {file}"))?,
    };
    if octets.len() as u64 > LARGEST_INPUT {
        bail!("{file} is larger than 1 GiB");
    }
    Ok(octets)
}
