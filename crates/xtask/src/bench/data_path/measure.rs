//! What is measured, from host to host.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lab::runner::Runner;

use super::{helper, output};

const RECEIVER: &str = "172.16.2.2";
const FIRST_GATEWAY: &str = "172.16.1.1";

/// One kind of figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Measure {
    /// One TCP stream.
    Tcp,
    /// What one TCP stream would reach if the first core, which sender and first gateway share, had to do no more than what no
    /// gateway in user space is spared: the sender's work, a copy from the kernel, the cipher, and sending by AF_XDP, than which
    /// nothing cheaper was found here (docs/decisions/0009, 0011).
    Ceiling,
    /// UDP datagrams of 64 octets as fast as one socket sends.
    Flood,
    /// The highest steady rate of UDP datagrams of 64 octets with at most a thousandth lost.
    Paced,
    /// The median time of a UDP datagram of 64 octets there and back.
    RoundTrip,
    /// Packets of 1400 octets that a gateway sends, for a second of its core's time.
    Core,
}

/// One figure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// In the measure's unit.
    pub(super) value: f64,
    /// Seconds of all processors, per gigabit or million packets received; zero where it says nothing.
    pub(super) cpu: f64,
}

impl Measure {
    pub(super) const ALL: [Self; 6] =
        [Self::Tcp, Self::Ceiling, Self::Flood, Self::Paced, Self::RoundTrip, Self::Core];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Ceiling => "tcp-ceiling",
            Self::Flood => "udp-64-flood",
            Self::Paced => "udp-64-paced",
            Self::RoundTrip => "round-trip",
            Self::Core => "one-core-1400",
        }
    }

    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::Tcp | Self::Ceiling => "Gbit/s",
            Self::Flood | Self::Paced => "thousand packets/s",
            Self::RoundTrip => "microseconds",
            Self::Core => "thousand packets/core second",
        }
    }

    /// Measures once.
    pub(super) fn take(self, runner: &Runner, seconds: u64, programs: &Path) -> Result<Sample> {
        match self {
            Self::Tcp => tcp(runner, seconds),
            Self::Ceiling => ceiling(runner, programs),
            Self::Flood => flood(runner, programs),
            Self::Paced => {
                let rate: f64 = reflected(runner, programs, "rate")?.parse()?;
                Ok(Sample { value: rate / 1e3, cpu: 0.0 })
            }
            Self::RoundTrip => {
                Ok(Sample { value: reflected(runner, programs, "round-trip")?.parse()?, cpu: 0.0 })
            }
            Self::Core => one_core(runner, programs),
        }
    }
}

fn on(runner: &Runner, host: &str, core: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &runner.network().namespace(host), "taskset", "-c", core]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts the receiver's program and gives it time to listen.
fn listen(command: &mut Command) -> Result<Child> {
    let child = command.spawn().context("starting the receiver")?;
    std::thread::sleep(Duration::from_millis(250));
    Ok(child)
}

fn tcp(runner: &Runner, seconds: u64) -> Result<Sample> {
    let (report, busy) = iperf3(runner, "h2", RECEIVER, seconds)?;
    let received = &report["sum_received"];
    let bits = received["bits_per_second"].as_f64().context("iperf3 gave no rate")?;
    let total = received["bytes"].as_f64().context("iperf3 gave no octets")? * 8.0;
    Ok(Sample { value: bits / 1e9, cpu: busy / (total / 1e9).max(1e-9) })
}

fn ceiling(runner: &Runner, programs: &Path) -> Result<Sample> {
    let text = output(on(runner, "g1", "0").arg(helper(programs)).arg("least"))?;
    let figures: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [segment, read, encrypt, send] = figures[..] else { bail!("the helper said `{text}`") };
    // The sender's own time: its super-frames go as far as the first gateway, where nothing else is on its core.
    let (report, _) = iperf3(runner, "g1", FIRST_GATEWAY, 1)?;
    let percent = report["cpu_utilization_percent"]["host_total"].as_f64().context("iperf3 gave no time")?;
    let bits = report["sum_sent"]["bits_per_second"].as_f64().context("iperf3 gave no rate")?;
    let sender = percent / 100.0 * 8e9 * segment / bits;
    eprintln!("nanoseconds: sender {sender:.0}, reading {read:.0}, AES {encrypt:.0}, sending {send:.0}");
    Ok(Sample { value: 8.0 * segment / (sender + read + encrypt + send), cpu: 0.0 })
}

/// One TCP stream from h1 to a host's address; what iperf3 says at its end, and the seconds that the processors worked meanwhile.
fn iperf3(runner: &Runner, host: &str, address: &str, seconds: u64) -> Result<(serde_json::Value, f64)> {
    let mut sink = listen(on(runner, host, "1").args(["iperf3", "--server", "--one-off"]))?;
    let before = busy_seconds()?;
    let mut client = on(runner, "h1", "0");
    client.args(["iperf3", "--json", "--congestion", "cubic", "--time", &seconds.to_string()]);
    let text = output(client.args(["--client", address]));
    let busy = busy_seconds()? - before;
    if text.is_err() {
        let _ = sink.kill();
    }
    sink.wait()?;
    let mut report: serde_json::Value = serde_json::from_str(&text?)?;
    Ok((report["end"].take(), busy))
}

fn flood(runner: &Runner, programs: &Path) -> Result<Sample> {
    let lab = programs.join("lab");
    let sink = listen(on(runner, "h2", "1").arg(&lab).args(["traffic", "sink"]))?;
    let before = busy_seconds()?;
    let sent = output(on(runner, "h1", "0").arg(&lab).args(["traffic", "flood", RECEIVER, "--seconds", "1"]));
    let busy = busy_seconds()? - before;
    let received = sink.wait_with_output()?;
    sent?;
    let text = String::from_utf8_lossy(&received.stdout).into_owned();
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, packets, _, time] = words[..] else { bail!("the receiver said `{text}`") };
    let (packets, time): (f64, f64) = (packets.parse()?, time.parse()?);
    Ok(Sample { value: packets / time.max(1e-9) / 1e3, cpu: busy / (packets.max(1.0) / 1e6) })
}

/// Something the helper measures with its reflector at the other end.
fn reflected(runner: &Runner, programs: &Path, what: &str) -> Result<String> {
    let helper = helper(programs);
    let mut reflector = listen(on(runner, "h2", "1").arg(&helper).arg("reflect"))?;
    let text =
        output(on(runner, "h1", "0").arg(&helper).args(["measure", what, &format!("{RECEIVER}:4000")]));
    reflector.kill()?;
    reflector.wait()?;
    Ok(text?.trim().to_owned())
}

/// Floods the gateway from the other core, and counts what arrives at the far end of its external link.
fn one_core(runner: &Runner, programs: &Path) -> Result<Sample> {
    /// With its headers a packet of 1400 octets.
    const DATAGRAM: &str = "1372";
    let counter = || -> Result<f64> {
        let mut command = on(runner, "g2", "1");
        Ok(output(command.args(["cat", "/sys/class/net/wan0/statistics/rx_packets"]))?.trim().parse()?)
    };
    let (packets, time) = (counter()?, lane_seconds(runner, "g1")?);
    let mut flood = on(runner, "h1", "1");
    flood.arg(programs.join("lab")).args([
        "traffic",
        "flood",
        RECEIVER,
        "--seconds",
        "1",
        "--size",
        DATAGRAM,
    ]);
    output(&mut flood)?;
    std::thread::sleep(Duration::from_millis(100));
    let (packets, time) = (counter()? - packets, lane_seconds(runner, "g1")? - time);
    Ok(Sample { value: packets / time.max(1e-9) / 1e3, cpu: 0.0 })
}

/// Seconds of processor time of a gateway's lane: what others take from it does not count.
fn lane_seconds(runner: &Runner, host: &str) -> Result<f64> {
    let pids = output(Command::new("ip").args(["netns", "pids", &runner.network().namespace(host)]))?;
    for pid in pids.split_whitespace() {
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?.path();
            if std::fs::read_to_string(task.join("comm"))?.trim().starts_with("lane") {
                let text = std::fs::read_to_string(task.join("schedstat"))?;
                let time = text.split_whitespace().next().context("an empty schedstat")?;
                return Ok(time.parse::<f64>()? / 1e9);
            }
        }
    }
    bail!("no lane runs on {host}")
}

/// Seconds that the processors were not idle, all together, since boot.
fn busy_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    if ticks.len() < 8 {
        bail!("/proc/stat begins with `{line}`");
    }
    // user nice system idle iowait irq softirq steal
    let busy: f64 = ticks[..8].iter().sum::<f64>() - ticks[3] - ticks[4];
    Ok(busy / 100.0)
}
