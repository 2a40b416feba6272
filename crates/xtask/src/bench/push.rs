//! A rekey of many members by one server: the benchmark `push` of the daemon's package, which uses its sockets.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

/// What to measure.
#[derive(Debug, Args)]
pub struct Options {
    /// Registered members.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    members: u32,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Measure and print.
pub fn run(options: &Options) -> Result<()> {
    crate::prepare(&["build"])?;
    let mut command = Command::new(env!("CARGO"));
    command.args(["bench", "--quiet", "--package", "daemon", "--bench", "push", "--"]);
    command.arg("--members").arg(options.members.to_string());
    if options.json {
        command.arg("--json");
    }
    ensure!(command.status().context("running cargo bench")?.success(), "the measurement failed");
    Ok(())
}
