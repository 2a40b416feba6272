//! `lab`: scenarios in network namespaces, with the shipped binaries and real routers.

#![allow(missing_docs, reason = "a program: its help is clap's")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use lab::network::Network;
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
        Action::Run { names: wanted, keep } => {
            let programs = std::env::current_exe()?.parent().context("no folder")?.to_owned();
            let wanted = if wanted.is_empty() { names(&arguments.scenarios)? } else { wanted };
            if keep && wanted.len() != 1 {
                bail!("--keep goes with one scenario");
            }
            let mut failed = Vec::new();
            for name in &wanted {
                println!("== scenario {name}");
                let scenario = Scenario::load(&arguments.scenarios.join(name))?;
                let mut runner = Runner::new(scenario, programs.clone());
                let result = runner.run();
                if keep {
                    println!("{}", runner.shell_hint());
                    std::mem::forget(runner);
                } else {
                    runner.clean()?;
                }
                match result {
                    Ok(()) => println!("== scenario {name}: passed"),
                    Err(error) => {
                        println!("== scenario {name}: FAILED: {error:#}");
                        failed.push(name.as_str());
                    }
                }
            }
            println!("scenarios: {} passed, {} failed", wanted.len() - failed.len(), failed.len());
            if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
        }
        Action::Clean { names } => names.iter().try_for_each(|name| {
            let scenario = Scenario::load(&arguments.scenarios.join(name))?;
            Network::of(&scenario).remove(&scenario)
        }),
        Action::Traffic(traffic) => traffic.run(),
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
