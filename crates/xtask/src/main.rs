//! Repository chores: benchmarks, fuzzing, checks. `cargo xtask --help` lists them.

mod bench;
mod fuzz;
mod quotes;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

/// Repository chores.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Measure.
    #[command(subcommand)]
    Bench(Bench),
    /// Run the fuzz targets of the codec (needs cargo-fuzz).
    Fuzz(fuzz::Options),
    /// Compare the quotes from RFCs in the code with the RFCs, and report what they cover (duvet, if installed).
    Quotes,
}

#[derive(Subcommand)]
enum Bench {
    /// Throughput and CPU time of the data path beside plain forwarding and peers (needs root).
    DataPath(bench::data_path::Options),
    /// Instructions of the packet engine for a packet, counted by callgrind, against what is written down.
    Instructions(bench::instructions::Options),
    /// A rekey of many unicast members by one server on loopback, with their acknowledgements.
    Push(bench::push::Options),
    /// Registrations: one member at a time, then many at once with one server (needs root).
    Registration(bench::registration::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().chore {
        Chore::Bench(Bench::DataPath(options)) => bench::data_path::run(&options),
        Chore::Bench(Bench::Instructions(options)) => bench::instructions::run(&options),
        Chore::Bench(Bench::Push(options)) => bench::push::run(&options),
        Chore::Bench(Bench::Registration(options)) => bench::registration::run(&options),
        Chore::Fuzz(options) => fuzz::run(&options),
        Chore::Quotes => quotes::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Install what a chore needs; `kinds` as for `scripts/prepare`.
fn prepare(kinds: &[&str]) -> Result<()> {
    let status = Command::new("scripts/prepare").args(kinds).status().context("running scripts/prepare")?;
    if status.success() { Ok(()) } else { bail!("scripts/prepare failed") }
}

/// Build the programs of packages for release, and example programs of theirs, and tell where the programs are; examples
/// are in `examples` beside them.
fn build_release(packages: &[&str], examples: &[&str]) -> Result<PathBuf> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--quiet", "--release", "--bins"]);
    for package in packages {
        command.args(["--package", package]);
    }
    // In one call: what is built for some packages alone has other features, and would be built twice.
    for example in examples {
        command.args(["--example", example]);
    }
    if !command.status().context("running cargo")?.success() {
        bail!("the build failed");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    Ok(std::path::absolute(target.join("release"))?)
}
