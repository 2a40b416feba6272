//! Longer runs than the tests'; see [`USAGE`].

use std::num::NonZero;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sim::{Report, Scenario, replay, run, run_and_tell};

const USAGE: &str = "\
usage: sim [--seeds N] [--first SEED] [--members M]    worlds of an hour, 10 to 50 members each if M is not given
       sim --large [--seeds N] [--first SEED] [--members M] [--hours H]
                                                       10,000 members for 24 hours, or as many for as long
       sim --faults [--seeds N] [--first SEED]         a server that dies between keeping and sending, and comes back
       sim ... --pull                                  only worlds whose members pull
       sim ... --threads T                             so many worlds at a time; as many as there are processors if not given
       sim ... --seeds 1 --of MEMBER                   prints what happens to one member";

struct Arguments {
    seeds: u64,
    first: u64,
    members: Option<usize>,
    large: bool,
    faults: bool,
    hours: u64,
    of: Option<usize>,
    pull: bool,
    threads: u64,
}

/// What all worlds together came to.
#[derive(Default)]
struct Total {
    seeds: u64,
    failed: Vec<u64>,
    lasted: Duration,
    report: Report,
}

fn main() -> ExitCode {
    let Some(arguments) = read(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let begun = Instant::now();
    let next = AtomicU64::new(arguments.first);
    let total = Mutex::new(Total::default());
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads.min(arguments.seeds) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= arguments.first + arguments.seeds {
                        break;
                    }
                    arguments.run(seed, begun, &total);
                }
            });
        }
    });
    let Total { seeds, mut failed, lasted, report } = total.into_inner().expect("no thread panicked");
    let (taken, hours) = (begun.elapsed(), lasted.as_secs_f64() / 3600.0);
    println!("{seeds} seeds, {hours:.0} hours of them, in {taken:.1?}: {report}");
    failed.sort_unstable();
    println!("{} failed: {failed:?}", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn read(mut words: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut arguments = Arguments {
        seeds: 0,
        first: 0,
        members: None,
        large: false,
        hours: 24,
        of: None,
        pull: false,
        faults: false,
        threads: 0,
    };
    while let Some(name) = words.next() {
        if name == "--pull" {
            arguments.pull = true;
            continue;
        }
        if name == "--faults" {
            arguments.faults = true;
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
            "--threads" if value > 0 => arguments.threads = value,
            "--of" => arguments.of = usize::try_from(value).ok(),
            "--members" if value > 0 => arguments.members = Some(usize::try_from(value).ok()?),
            _ => return None,
        }
    }
    if arguments.seeds == 0 {
        arguments.seeds = if arguments.large { 1 } else { 1000 };
    }
    if arguments.threads == 0 {
        arguments.threads = std::thread::available_parallelism().map_or(1, NonZero::get) as u64;
    }
    Some(arguments)
}

impl Arguments {
    /// Lets one world run, and says what came of it.
    fn run(&self, seed: u64, begun: Instant, total: &Mutex<Total>) {
        let scenario = self.scenario(seed);
        let result = match self.of {
            Some(member) => replay(&scenario, member),
            None if self.large => {
                println!("{scenario:?}");
                run_and_tell(&scenario, |passed, report| {
                    let (hours, taken) = (passed.as_secs_f64() / 3600.0, begun.elapsed());
                    println!("seed {seed}: {hours:.1} h in {taken:.0?}: {report}");
                })
            }
            None => run(&scenario),
        };
        let mut total = total.lock().expect("no thread panicked");
        total.seeds += 1;
        match result {
            Ok(report) => {
                total.report.add(&report);
                total.lasted += scenario.duration;
            }
            Err(failure) => {
                total.failed.push(seed);
                total.lasted += failure.at;
                eprintln!("{failure}\nagain: sim {}\n", self.again(seed));
            }
        }
        if total.seeds.is_multiple_of(100) {
            println!("{} seeds in {:.1?}: {}", total.seeds, begun.elapsed(), total.report);
        }
    }

    fn scenario(&self, seed: u64) -> Scenario {
        let drawn = self.drawn(seed);
        if self.pull { drawn.pulling() } else { drawn }
    }

    fn drawn(&self, seed: u64) -> Scenario {
        if self.faults {
            return Scenario::faulty(seed);
        }
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
        if self.faults {
            words += " --faults";
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
