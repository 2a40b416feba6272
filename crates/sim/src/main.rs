//! Longer runs than the tests'; see [`USAGE`].

use std::process::ExitCode;
use std::time::{Duration, Instant};

use sim::{Report, Scenario, replay, run, run_and_tell};

const USAGE: &str = "\
usage: sim [--seeds N] [--first SEED] [--members M]    worlds of an hour, 10 to 50 members each if M is not given
       sim --large [--seeds N] [--first SEED] [--members M] [--hours H]
                                                       10,000 members for 24 hours, or as many for as long
       sim ... --pull                                  only worlds whose members pull
       sim ... --seeds 1 --of MEMBER                   prints what happens to one member";

struct Arguments {
    seeds: u64,
    first: u64,
    members: Option<usize>,
    large: bool,
    hours: u64,
    of: Option<usize>,
    pull: bool,
}

fn main() -> ExitCode {
    let Some(arguments) = read(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let begun = Instant::now();
    let mut total = Report::default();
    for seed in arguments.first..arguments.first + arguments.seeds {
        let scenario = arguments.scenario(seed);
        let result = match arguments.of {
            Some(member) => replay(&scenario, member),
            None if arguments.large => {
                println!("{scenario:?}");
                run_and_tell(&scenario, |passed, report| {
                    let (hours, taken) = (passed.as_secs_f64() / 3600.0, begun.elapsed());
                    println!("seed {seed}: {hours:.1} h in {taken:.0?}: {report}");
                })
            }
            None => run(&scenario),
        };
        match result {
            Ok(report) => total.add(&report),
            Err(failure) => {
                eprintln!("{failure}\nagain: sim {}", arguments.again(seed));
                return ExitCode::FAILURE;
            }
        }
        let done = seed - arguments.first + 1;
        if done.is_multiple_of(100) {
            println!("{done} seeds in {:.1?}: {total}", begun.elapsed());
        }
    }
    println!("{} seeds in {:.1?}, no failure: {total}", arguments.seeds, begun.elapsed());
    ExitCode::SUCCESS
}

fn read(mut words: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut arguments =
        Arguments { seeds: 0, first: 0, members: None, large: false, hours: 24, of: None, pull: false };
    while let Some(name) = words.next() {
        if name == "--pull" {
            arguments.pull = true;
            continue;
        }
        if name == "--large" {
            arguments.large = true;
            continue;
        }
        let value = words.next()?.parse::<u64>().ok()?;
        match name.as_str() {
            "--seeds" => arguments.seeds = value,
            "--first" => arguments.first = value,
            "--hours" if value > 0 => arguments.hours = value,
            "--of" => arguments.of = usize::try_from(value).ok(),
            "--members" if value > 0 => arguments.members = Some(usize::try_from(value).ok()?),
            _ => return None,
        }
    }
    if arguments.seeds == 0 {
        arguments.seeds = if arguments.large { 1 } else { 1000 };
    }
    Some(arguments)
}

impl Arguments {
    fn scenario(&self, seed: u64) -> Scenario {
        let drawn = self.drawn(seed);
        if self.pull { drawn.pulling() } else { drawn }
    }

    fn drawn(&self, seed: u64) -> Scenario {
        match (self.large, self.members) {
            (true, members) => {
                Scenario::large(seed, members.unwrap_or(10_000), Duration::from_secs(3600 * self.hours))
            }
            (false, Some(members)) => Scenario::from_seed(seed, members),
            (false, None) => Scenario::ordinary(seed),
        }
    }

    /// What brings one seed back.
    fn again(&self, seed: u64) -> String {
        let mut words = format!("--first {seed} --seeds 1");
        if let Some(members) = self.members {
            words += &format!(" --members {members}");
        }
        if self.pull {
            words += " --pull";
        }
        if self.large {
            words += &format!(" --large --hours {}", self.hours);
        }
        words
    }
}
