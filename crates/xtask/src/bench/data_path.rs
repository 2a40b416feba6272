//! Plain forwarding, ours and peers on the same topology in the same run: two hosts, two gateways, this machine.
//!
//! The networks of all candidates are up together and the measurements take turns, because the machine itself drifts by
//! more than what is measured; every figure is the median of the rounds, and what counts is the ratios. Sender and first
//! gateway are pinned to the first core, receiver and second gateway to the second.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use lab::runner::Runner;
use lab::scenario::Scenario;
use serde_json::json;

/// What to measure.
#[derive(Debug, Args)]
pub struct Options {
    /// Print one JSON object a line instead of tables.
    #[arg(long)]
    json: bool,
    /// How many times each candidate is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
}

const CANDIDATES: [&str; 4] = ["plain", "groupvpn", "wireguard-go", "strongswan"];
const MEASURES: [Measure; 4] = [Measure::Tcp, Measure::Udp(64), Measure::Udp(512), Measure::Udp(1400)];

/// Ratios with a target. Ours against the peer of the same suite, TCP.
const TARGETS: [(&str, &str, f64); 1] = [("tcp", "strongswan", 6.0)];

#[derive(Debug, Clone, Copy)]
enum Measure {
    Tcp,
    /// Octets of payload.
    Udp(u32),
}

impl Measure {
    fn name(self) -> String {
        match self {
            Self::Tcp => "tcp".into(),
            Self::Udp(size) => format!("udp-{size}"),
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Tcp => "Gbit/s",
            Self::Udp(_) => "kpps",
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Gbit/s or thousands of packets per second, as received.
    rate: f64,
    /// Seconds of all processors, per gigabit or million packets received.
    cpu: f64,
}

/// Measure and print.
pub fn run(options: &Options) -> Result<()> {
    crate::prepare(&["build", "lab", "bench"])?;
    let programs = crate::build_release(&["daemon", "cli", "lab"])?;
    let mut runners = Vec::new();
    for name in CANDIDATES {
        eprintln!("setting up {name}");
        let scenario = Scenario::load(&Path::new("lab/bench").join(name))?;
        let mut runner = Runner::new(scenario, programs.clone()).quiet();
        let result = runner.run();
        runners.push(runner);
        if let Err(error) = result {
            for runner in runners {
                runner.clean()?;
            }
            return Err(error.context(name));
        }
    }
    let samples = measure_all(options, &runners, &programs);
    for runner in runners {
        runner.clean()?;
    }
    print(options, &samples?);
    Ok(())
}

type Samples = BTreeMap<(usize, usize), Vec<Sample>>;

fn measure_all(options: &Options, runners: &[Runner], programs: &Path) -> Result<Samples> {
    let mut samples = Samples::new();
    for round in 1..=options.rounds {
        for (row, measure) in MEASURES.into_iter().enumerate() {
            eprintln!("round {round} of {}: {}", options.rounds, measure.name());
            for (column, runner) in runners.iter().enumerate() {
                let sample = sample(measure, runner, options.seconds, programs)
                    .with_context(|| format!("{} through {}", measure.name(), CANDIDATES[column]))?;
                samples.entry((row, column)).or_default().push(sample);
            }
        }
    }
    Ok(samples)
}

fn on(runner: &Runner, host: &str, core: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &runner.network().namespace(host), "taskset", "-c", core]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn sample(measure: Measure, runner: &Runner, seconds: u64, programs: &Path) -> Result<Sample> {
    let lab = programs.join("lab");
    let mut sink = on(runner, "h2", "1");
    match measure {
        Measure::Tcp => sink.args(["iperf3", "--server", "--one-off"]),
        Measure::Udp(_) => sink.arg(&lab).args(["traffic", "sink"]),
    };
    let sink = sink.spawn().context("starting the receiver")?;
    std::thread::sleep(Duration::from_millis(200));
    let mut source = on(runner, "h1", "0");
    let time = seconds.to_string();
    match measure {
        Measure::Tcp => source.args(["iperf3", "--json", "--time", &time, "--client", "172.16.2.2"]),
        Measure::Udp(size) => source.arg(&lab).args([
            "traffic",
            "flood",
            "172.16.2.2",
            "--seconds",
            &time,
            "--size",
            &size.to_string(),
        ]),
    };
    let before = busy_seconds()?;
    let output = source.output().context("starting the sender")?;
    let busy = busy_seconds()? - before;
    let received = sink.wait_with_output()?;
    if !output.status.success() {
        bail!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
    match measure {
        Measure::Tcp => {
            let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
            let bits =
                report["end"]["sum_received"]["bits_per_second"].as_f64().context("iperf3 gave no rate")?;
            let total =
                report["end"]["sum_received"]["bytes"].as_f64().context("iperf3 gave no octets")? * 8.0;
            Ok(Sample { rate: bits / 1e9, cpu: busy / (total / 1e9) })
        }
        Measure::Udp(_) => {
            let text = String::from_utf8_lossy(&received.stdout).into_owned();
            let words: Vec<&str> = text.split_whitespace().collect();
            let [_, packets, _, time] = words[..] else { bail!("the receiver said `{text}`") };
            let (packets, time): (f64, f64) = (packets.parse()?, time.parse()?);
            Ok(Sample { rate: packets / time.max(1e-9) / 1e3, cpu: busy / (packets.max(1.0) / 1e6) })
        }
    }
}

/// Seconds that the processors were not idle, all together, since boot.
fn busy_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    let busy: f64 = ticks.iter().take(8).sum::<f64>() - ticks[3] - ticks[4];
    Ok(busy / 100.0)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn print(options: &Options, samples: &Samples) {
    let ours = CANDIDATES.iter().position(|name| *name == "groupvpn").expect("listed above");
    for (row, measure) in MEASURES.into_iter().enumerate() {
        if !options.json {
            println!(
                "{} ({}, median of {}; CPU seconds per {})",
                measure.name(),
                measure.unit(),
                options.rounds,
                { if matches!(measure, Measure::Tcp) { "gigabit" } else { "million packets" } }
            );
        }
        for (column, name) in CANDIDATES.into_iter().enumerate() {
            let set = &samples[&(row, column)];
            let rate = median(set.iter().map(|sample| sample.rate));
            let cpu = median(set.iter().map(|sample| sample.cpu));
            if !options.json {
                let (low, high) =
                    set.iter().fold((f64::MAX, 0.0f64), |(l, h), s| (l.min(s.rate), h.max(s.rate)));
                println!("  {name:<14} {rate:>9.2}  ({low:.2} to {high:.2})   CPU {cpu:.3}");
            }
            if column == ours {
                continue;
            }
            // Round by round, so that the machine's drift falls out.
            let pairs = samples[&(row, ours)].iter().zip(set);
            let ratio = median(pairs.map(|(a, b)| a.rate / b.rate.max(1e-9)));
            let what = measure.name();
            let target =
                TARGETS.iter().find(|(m, peer, _)| *m == what && *peer == name).map(|(_, _, target)| *target);
            if options.json {
                let our_cpu = median(samples[&(row, ours)].iter().map(|sample| sample.cpu));
                let name = format!("data-path/{what}/groupvpn:{name}");
                println!(
                    "{}",
                    json!({"name": name, "ratio": ratio, "target": target, "cpu_ratio": our_cpu / cpu})
                );
            } else {
                let verdict = target.map_or(String::new(), |target| {
                    format!("   target {target}: {}", if ratio >= target { "met" } else { "MISSED" })
                });
                println!("  {:<14} {ratio:>9.2} x {name}{verdict}", "  ours is");
            }
        }
    }
}
