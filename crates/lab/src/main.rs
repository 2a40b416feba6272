//! `lab`: scenarios in network namespaces, with the shipped binaries and real routers.

#![allow(missing_docs, reason = "a program: its help is clap's")]

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use lab::network::Network;
use lab::output::Output;
use lab::runner::Runner;
use lab::scenario::Scenario;
use lab::traffic;

/// Run Group VPN scenarios in network namespaces.
#[derive(Parser)]
struct Arguments {
    /// Folder of the scenarios.
    #[arg(long, global = true, default_value = "lab/scenarios")]
    scenarios: PathBuf,
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Name every scenario.
    List,
    /// Run scenarios, each to its end; all of them if none is named.
    Run {
        /// Names.
        names: Vec<String>,
        /// Leave the network up afterwards, with a hint how to look around.
        #[arg(long)]
        keep: bool,
        /// How many of the scenarios that mostly wait may run at the same time.
        #[arg(long, default_value_t = 4)]
        jobs: usize,
    },
    /// Remove the network of a scenario that was kept.
    Clean {
        /// Names.
        names: Vec<String>,
    },
    /// Hosts' programs.
    #[command(subcommand)]
    Traffic(traffic::Traffic),
}

fn main() -> ExitCode {
    match act(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Action::List => {
            for name in names(&arguments.scenarios)? {
                println!("{name}");
            }
            Ok(())
        }
        Action::Run { names: wanted, keep, jobs } => {
            let programs = std::env::current_exe()?.parent().context("no folder")?.to_owned();
            let wanted = if wanted.is_empty() { names(&arguments.scenarios)? } else { wanted };
            if keep && wanted.len() != 1 {
                bail!("--keep goes with one scenario");
            }
            let scenarios = wanted
                .iter()
                .map(|name| Scenario::load(&arguments.scenarios.join(name)))
                .collect::<Result<Vec<_>>>()?;
            if keep {
                let scenario = scenarios.into_iter().next().context("no scenario")?;
                return run_and_keep(scenario, programs);
            }
            let failed = run_all(scenarios, &programs, jobs.max(1))?;
            println!("scenarios: {} passed, {} failed", wanted.len() - failed.len(), failed.len());
            if failed.is_empty() {
                return Ok(());
            }
            // Why, once more: of a long run often only the end is kept.
            for (name, why) in &failed {
                println!("== scenario {name}: FAILED: {}", shortened(why));
            }
            let names: Vec<&str> = failed.iter().map(|(name, _)| name.as_str()).collect();
            bail!("failed: {}", names.join(", "))
        }
        Action::Clean { names } => names.iter().try_for_each(|name| {
            let scenario = Scenario::load(&arguments.scenarios.join(name))?;
            Network::of(&scenario).remove(&scenario)
        }),
        Action::Traffic(traffic) => traffic.run(),
    }
}

fn run_and_keep(scenario: Scenario, programs: PathBuf) -> Result<()> {
    println!("== scenario {}", scenario.name);
    let mut runner = Runner::new(scenario, programs);
    let result = runner.run();
    println!("{}", runner.shell_hint());
    std::mem::forget(runner);
    result
}

/// Those that keep a core busy one after the other, with their progress as it happens; then those that mostly wait, at the same
/// time, each with its progress when it has ended. Returns the names of those that failed, each with why.
fn run_all(scenarios: Vec<Scenario>, programs: &Path, jobs: usize) -> Result<Vec<(String, String)>> {
    let together = scenarios.len() > 1 && jobs > 1;
    let (mut waiting, busy): (Vec<_>, Vec<_>) =
        scenarios.into_iter().partition(|scenario| together && scenario.waits > 0);
    waiting.sort_by_key(|scenario| std::cmp::Reverse(scenario.waits));
    let mut failed = Vec::new();
    for scenario in busy {
        let name = scenario.name.clone();
        println!("== scenario {name}");
        if let Err(why) = run(Runner::new(scenario, programs.to_owned()), &name)? {
            failed.push((name, why));
        }
    }
    if !waiting.is_empty() {
        let names: Vec<&str> = waiting.iter().map(|scenario| scenario.name.as_str()).collect();
        println!("== at the same time, {jobs} at once: {}", names.join(", "));
    }
    let (waiting, failures) = (Mutex::new(VecDeque::from(waiting)), Mutex::new(Vec::new()));
    let next = || waiting.lock().expect("no panic while it is held").pop_front();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    while let Some(scenario) = next() {
                        let name = scenario.name.clone();
                        let runner = Runner::new(scenario, programs.to_owned()).output(Output::kept());
                        if let Err(why) = run(runner, &name)? {
                            failures.lock().expect("no panic while it is held").push((name, why));
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a scenario's thread does not panic"))
    })?;
    failed.extend(failures.into_inner().expect("no panic while it was held"));
    failed.sort();
    Ok(failed)
}

/// The inner result is the scenario's: why it failed.
fn run(mut runner: Runner, name: &str) -> Result<Result<(), String>> {
    let result = runner.run().map_err(|error| format!("{error:#}"));
    let output = runner.take_output();
    let heading = if output.is_empty() { String::new() } else { format!("== scenario {name}\n{output}") };
    runner.clean()?;
    match &result {
        Ok(()) => println!("{heading}== scenario {name}: passed"),
        Err(why) => println!("{heading}== scenario {name}: FAILED: {why}"),
    }
    Ok(result)
}

/// The last lines of a reason: what a step printed at its end is what tells.
fn shortened(why: &str) -> String {
    const LINES: usize = 30;
    let lines: Vec<&str> = why.lines().collect();
    match lines.len().checked_sub(LINES) {
        None | Some(0) => why.to_owned(),
        Some(left_out) => {
            format!("{}\n({} lines left out)\n{}", lines[0], left_out, lines[left_out + 1..].join("\n"))
        }
    }
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .with_context(|| format!("reading {}", folder.display()))?
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.path().join("steps.toml").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}
