//! Fuzzing: the targets in `fuzz/`, on the stable toolchain.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The package of the targets, from the root of the repository.
const FOLDER: &str = "fuzz";

/// Every target, in the order in which they run.
const TARGETS: [&str; 12] = [
    "message",
    "payloads_gdoi",
    "ip_packet",
    "describe",
    "config_text",
    "phase1_responder",
    "pull_server",
    "pull_member",
    "push_member",
    "push_server",
    "engine_outbound",
    "engine_inbound",
];

/// What to fuzz, and for how long.
#[derive(clap::Args)]
pub struct Options {
    /// Seconds for each target.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,

    /// Targets; all if none is named.
    #[arg(value_name = "TARGET", value_parser = TARGETS)]
    targets: Vec<String>,
}

/// Runs the targets one after the other and stops at the first input that makes one fail.
///
/// What a run finds new goes to `fuzz/target/corpus`, so that a run leaves the committed corpora as they are.
pub fn run(options: &Options) -> Result<()> {
    let installed = Command::new(env!("CARGO")).args(["fuzz", "--version"]).output()?;
    if !installed.status.success() {
        bail!("cargo-fuzz is missing: cargo install cargo-fuzz");
    }
    let named = options.targets.iter().map(String::as_str).collect::<Vec<_>>();
    for target in if named.is_empty() { &TARGETS[..] } else { &named[..] } {
        println!("== {target}: {} s", options.seconds);
        let found = format!("target/corpus/{target}");
        let committed = format!("corpus/{target}");
        std::fs::create_dir_all(Path::new(FOLDER).join(&found))
            .with_context(|| format!("creating {found}"))?;
        let time = format!("-max_total_time={}", options.seconds);
        cargo_fuzz(target, &[&found, &committed], &[&time, "-timeout=10", "-print_final_stats=1"])?;
    }
    Ok(())
}

/// Sanitizers need a nightly compiler; coverage does not. Safe Rust has little for a sanitizer to find, and arithmetic
/// and assertions are checked by the profile of the `fuzz` package.
fn cargo_fuzz(target: &str, corpora: &[&str], flags: &[&str]) -> Result<()> {
    let mut command = Command::new(env!("CARGO"));
    command
        .current_dir(FOLDER)
        .args(["fuzz", "run", "--sanitizer", "none", target])
        .args(corpora)
        .arg("--")
        .args(flags);
    if !command.status().context("running cargo fuzz")?.success() {
        bail!("target {target} failed; the input is in fuzz/artifacts/{target}");
    }
    Ok(())
}
