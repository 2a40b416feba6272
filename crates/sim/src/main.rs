//! `cargo run --release -p sim -- --seeds 1000 --members 50 [--first SEED]`: longer runs than the tests'.

use std::process::ExitCode;

use sim::{Scenario, run};

const USAGE: &str = "usage: sim [--seeds N] [--members M] [--first SEED]";

fn main() -> ExitCode {
    let (mut seeds, mut members, mut first) = (100, 20, 0);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse::<u64>().ok());
        match (name.as_str(), value) {
            ("--seeds", Some(value)) => seeds = value,
            ("--members", Some(value)) if value > 0 => members = value,
            ("--first", Some(value)) => first = value,
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    let (mut registrations, mut datagrams, mut checks) = (0, 0, 0);
    for seed in first..first + seeds {
        match run(&Scenario::from_seed(seed, members as usize)) {
            Ok(report) => {
                registrations += report.registrations;
                datagrams += report.datagrams;
                checks += report.checks;
            }
            Err(failure) => {
                eprintln!("{failure}\nagain: sim --first {seed} --seeds 1 --members {members}");
                return ExitCode::FAILURE;
            }
        }
        if (seed - first + 1).is_multiple_of(10) {
            println!("{} seeds, {registrations} registrations", seed - first + 1);
        }
    }
    println!(
        "{seeds} seeds: {registrations} registrations, {datagrams} datagrams, {checks} comparisons, no failure"
    );
    ExitCode::SUCCESS
}
