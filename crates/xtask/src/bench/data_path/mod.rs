//! Plain forwarding, ours and peers on the same topology in the same run: two hosts, two gateways, this machine.
//!
//! The networks of all candidates are up together and the measurements take turns, because the machine itself drifts by
//! more than what is measured; every figure is the median of the rounds, and what counts is the ratios of figures of the
//! same round. Sender and first gateway are pinned to the first core, receiver and second gateway to the second.
//!
//! TCP goes by cubic, Linux's own choice, whatever the machine is set to: a congestion control that paces by what it has
//! measured (bbr) never offers a gateway more than it once carried.

mod candidates;
mod flat;
mod measure;
mod report;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use lab::runner::Runner;
use lab::scenario::Scenario;

use candidates::{CANDIDATES, Candidate};
use measure::Measure;
use report::Samples;

/// What to measure.
#[derive(Debug, Args)]
pub struct Options {
    /// Print one JSON object a line instead of tables.
    #[arg(long)]
    json: bool,
    /// How many times each candidate is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement of TCP; the others take as long as they need.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Only these candidates; plain forwarding and ours are in every ratio.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these measurements.
    #[arg(long, value_delimiter = ',')]
    measures: Vec<String>,
    /// The table of what a packet costs the engine as tables grow, and nothing else.
    #[arg(long)]
    flat: bool,
}

/// Measure and print.
pub fn run(options: &Options) -> Result<()> {
    if !options.flat {
        crate::prepare(&["build", "lab", "bench"])?;
    }
    let programs = crate::build_release(&["daemon", "cli", "lab"], &["bench_data_path"])?;
    if options.flat {
        return flat::run(options.json, &helper(&programs));
    }
    let wanted: Vec<&Candidate> = CANDIDATES.iter().filter(|one| options.wants(one.name)).collect();
    let (present, missing): (Vec<&Candidate>, Vec<&Candidate>) =
        wanted.into_iter().partition(|candidate| candidate.install(&programs));
    let mut runners: Vec<Runner> = Vec::new();
    let result = set_up(&present, &programs, &mut runners)
        .and_then(|()| measure_all(options, &present, &runners, &programs));
    for runner in runners {
        runner.clean()?;
    }
    report::print(options, &present, &missing, &result?);
    flat::run(options.json, &helper(&programs))
}

impl Options {
    fn wants(&self, candidate: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == candidate)
    }

    fn measures(&self) -> impl Iterator<Item = Measure> {
        let all = Measure::ALL.into_iter();
        all.filter(|one| self.measures.is_empty() || self.measures.iter().any(|name| name == one.name()))
    }
}

/// The program beside the shipped ones: gateways with fixed keys, traffic at a steady rate.
fn helper(programs: &Path) -> PathBuf {
    programs.join("examples/bench_data_path")
}

fn set_up(candidates: &[&Candidate], programs: &Path, runners: &mut Vec<Runner>) -> Result<()> {
    for candidate in candidates {
        eprintln!("setting up {}", candidate.name);
        let scenario = Scenario::load(&Path::new("lab/bench").join(candidate.name))?;
        let mut runner = Runner::new(scenario, programs.to_owned()).quiet();
        let result = runner.run();
        runners.push(runner);
        result.with_context(|| candidate.name.to_owned())?;
    }
    Ok(())
}

fn measure_all(
    options: &Options,
    candidates: &[&Candidate],
    runners: &[Runner],
    programs: &Path,
) -> Result<Samples> {
    let mut samples = Samples::new();
    for round in 1..=options.rounds {
        for measure in options.measures() {
            let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
            let load = load.split(' ').next().unwrap_or_default();
            eprintln!("round {round} of {}: {} (load {load})", options.rounds, measure.name());
            let both = candidates.iter().zip(runners);
            for (candidate, runner) in both.filter(|(candidate, _)| candidate.takes(measure)) {
                let sample = measure
                    .take(runner, options.seconds, programs)
                    .with_context(|| format!("{} through {}", measure.name(), candidate.name))?;
                samples.entry((measure, candidate.name)).or_default().push(sample);
            }
        }
    }
    Ok(samples)
}

/// Runs a command and returns what it prints; an error with all of that if it fails.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}
