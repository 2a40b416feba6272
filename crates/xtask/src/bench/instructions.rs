//! `cargo xtask bench instructions`: what a packet costs the engine in instructions, counted, so that it is the same on a
//! busy machine as on an idle one, and compared with what is written down beside this file.
//!
//! Counted are the engine's own: what the cryptographic library and the C library execute depends on the processor and on
//! how their packages were built. A count is the difference of two runs that differ in the number of packets only.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

const EXPECTED: &str = "crates/dataplane/benches/instructions.txt";
/// Batches of the longer run, and packets in each (`dataplane/benches/instructions.rs`).
const BATCHES: u32 = 32;
const BATCH: u32 = 64;
/// Parts of a hundred that a count may be above what is written down. Compilers differ by more than a batch does.
const TOLERANCE: f64 = 3.0;

/// What to do with the counts.
#[derive(Debug, Args)]
pub struct Options {
    /// Print one JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    /// Write the counts down as what is expected from now on.
    #[arg(long)]
    accept: bool,
}

/// Count, compare and print; an error where a packet costs more than expected.
pub fn run(options: &Options) -> Result<()> {
    let program = build()?;
    let expected = if options.accept { BTreeMap::new() } else { read(Path::new(EXPECTED))? };
    let names = Command::new(&program).stdin(Stdio::null()).output().context("running the benchmark")?;
    let names = String::from_utf8(names.stdout)?;
    let (mut written, mut worse) = (String::new(), Vec::new());
    for name in names.lines() {
        let own = (count(&program, name, BATCHES)? - count(&program, name, 0)?) / f64::from(BATCHES * BATCH);
        writeln!(written, "{name} {own:.0}")?;
        let wanted = expected.get(name).copied();
        let is_worse = wanted.is_some_and(|wanted| own > wanted * (1.0 + TOLERANCE / 100.0));
        if is_worse {
            worse.push(name);
        }
        if options.json {
            let name = format!("instructions/{name}");
            println!("{}", json!({"name": name, "per_packet": own, "expected": wanted, "met": !is_worse}));
        } else {
            let verdict = match wanted {
                Some(wanted) => format!("{:+.1} % of {wanted:.0}", (own / wanted - 1.0) * 100.0),
                None => "nothing is written down".into(),
            };
            println!("{name:<24} {own:>7.0} instructions a packet   {verdict}");
        }
    }
    if options.accept {
        fs::write(EXPECTED, written).with_context(|| format!("writing {EXPECTED}"))?;
    } else if !worse.is_empty() {
        bail!("more than {TOLERANCE} % above what is expected: {}", worse.join(", "));
    }
    Ok(())
}

/// Builds the benchmark and tells where it is.
fn build() -> Result<PathBuf> {
    let output = Command::new(env!("CARGO"))
        .args(["bench", "--quiet", "--package", "dataplane", "--bench", "instructions"])
        .args(["--no-run", "--message-format", "json"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("running cargo")?;
    if !output.status.success() {
        bail!("the build failed");
    }
    let text = String::from_utf8(output.stdout)?;
    let messages = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut programs = messages.filter(|message| message["target"]["name"] == "instructions");
    let program = programs.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    program.context("cargo did not say where the benchmark is")
}

fn read(path: &Path) -> Result<BTreeMap<String, f64>> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let entry = |line: &str| {
        let (name, count) = line.split_once(' ')?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    text.lines().map(|line| entry(line).with_context(|| format!("`{line}` is no name and count"))).collect()
}

/// Instructions that the program itself executes, without its libraries.
fn count(program: &Path, case: &str, batches: u32) -> Result<f64> {
    let file = std::env::temp_dir().join(format!("groupvpn-instructions-{}", std::process::id()));
    let mut argument = std::ffi::OsString::from("--callgrind-out-file=");
    argument.push(&file);
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .arg(argument)
        .arg(program)
        .args([case, &batches.to_string()])
        .stdin(Stdio::null())
        .output()
        .context("running valgrind (Debian: valgrind)")?;
    if !output.status.success() {
        bail!("{case}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let profile = fs::read_to_string(&file)?;
    fs::remove_file(&file)?;
    let name = program.file_name().and_then(|name| name.to_str()).context("the program has a name")?;
    Ok(own_cost(&profile, name))
}

/// Sums the costs of one object in a profile. Its format: `ob=(number) name` begins the lines of an object (the name is
/// there the first time only), `line cost` is a cost, and the one after `calls=` belongs to the called function.
fn own_cost(profile: &str, object: &str) -> f64 {
    let (mut numbers, mut is_own, mut is_call, mut total) = (BTreeMap::new(), false, false, 0.0);
    for line in profile.lines() {
        if let Some((kind @ ("ob" | "cob"), value)) = line.split_once('=') {
            let (number, name) = value.split_once(' ').unwrap_or((value, ""));
            if !name.is_empty() {
                numbers.insert(number.to_owned(), name.rsplit('/').next() == Some(object));
            }
            if kind == "ob" {
                is_own = numbers.get(number).copied().unwrap_or(false);
            }
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let cost = line.split(' ').nth(1).and_then(|cost| cost.parse::<f64>().ok());
            if is_own && !is_call {
                total += cost.unwrap_or(0.0);
            }
            is_call = false;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_objects_own_instructions_count() {
        let profile = "version: 1\nevents: Ir\n\nob=(1) /a/bench-1\nfl=(1) x.rs\nfn=(1) main\n10 5\n+2 7\ncob=(2) \
                       /lib/libc.so.6\ncfn=(2) memcpy\ncalls=3 0\n* 900\n-1 4\n\nob=(2)\nfn=(2)\n0 900\n\nob=(1)\nfn=(3) \
                       other\n7 1\n\ntotals: 917\n";
        assert_eq!(own_cost(profile, "bench-1"), 17.0);
        assert_eq!(own_cost(profile, "libc.so.6"), 900.0);
    }
}
