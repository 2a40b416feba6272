//! A constant stream of numbered packets between all hosts, in both directions of every pair, and the check that none was lost.
//!
//! Each host runs [`Mesh`]; they begin when all are ready; all of them stop sending when the file `stop` appears in their common folder, wait for what is still
//! on its way, and write a report there. [`Verify`] then compares what each sent with what the others received.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

/// What is still on its way when sending stops must arrive in this time.
const DRAIN: Duration = Duration::from_millis(1500);

/// One host of the mesh.
#[derive(Debug, Args)]
pub struct Mesh {
    /// Folder that all hosts share.
    #[arg(long)]
    folder: PathBuf,
    /// Own address.
    #[arg(long)]
    own: IpAddr,
    /// The other hosts.
    #[arg(long)]
    peer: Vec<IpAddr>,
    /// UDP port of all of them.
    #[arg(long, default_value_t = 7000)]
    port: u16,
    /// Packets per second to each peer.
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Octets of each packet's payload, at least 8.
    #[arg(long, default_value_t = 64)]
    size: usize,
}

/// The check of a mesh that has stopped.
#[derive(Debug, Args)]
pub struct Verify {
    /// The folder that the hosts shared.
    #[arg(long)]
    folder: PathBuf,
    /// How many directed pairs there must be.
    #[arg(long)]
    pairs: usize,
    /// Packets that each pair must have sent at least.
    #[arg(long, default_value_t = 1)]
    at_least: u64,
    /// Hosts whose pairs do not count: they were cut off on purpose.
    #[arg(long)]
    except: Vec<IpAddr>,
    /// Milliseconds for which packets may be lost in a row; by default none may be.
    #[arg(long, default_value_t = 0)]
    outage: u64,
}

/// What one host received from another.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Received {
    /// Different numbers.
    packets: u64,
    /// The number after the highest one.
    next: u64,
    /// Numbers below `next` that have not come yet.
    missing: BTreeSet<u64>,
    duplicates: u64,
    /// Came after a higher number.
    late: u64,
    longest_silence: Duration,
}

impl Received {
    fn take(&mut self, number: u64) {
        if number >= self.next {
            self.missing.extend(self.next..number);
            self.next = number + 1;
            self.packets += 1;
        } else if self.missing.remove(&number) {
            self.packets += 1;
            self.late += 1;
        } else {
            self.duplicates += 1;
        }
    }

    /// Runs of numbers that did not come.
    fn holes(&self) -> Vec<(u64, u64)> {
        let mut holes: Vec<(u64, u64)> = Vec::new();
        for &number in &self.missing {
            match holes.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => holes.push((number, number)),
            }
        }
        holes
    }
}

impl Mesh {
    /// Send and receive until the file `stop` appears or SIGINT comes.
    pub fn run(self) -> Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let socket = UdpSocket::bind(("0.0.0.0", self.port)).context("UDP port of the mesh")?;
        let stop = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGINT, stop.clone())?;
        let (watched, watcher_stop) = (self.folder.join("stop"), stop.clone());
        std::thread::spawn(move || {
            while !watched.exists() {
                std::thread::sleep(Duration::from_millis(20));
            }
            watcher_stop.store(true, Ordering::Relaxed);
        });
        let receiver_socket = socket.try_clone()?;
        let receiver_stop = stop.clone();
        let receiver = std::thread::spawn(move || receive(&receiver_socket, &receiver_stop));
        self.wait_for_peers(&stop)?;
        let sent = self.send(&socket, &stop);
        let received = receiver.join().expect("the receiver does not panic")?;
        let mut report = String::new();
        for peer in &self.peer {
            writeln!(report, "sent {peer} {sent} {}", self.rate)?;
        }
        for (peer, one) in &received {
            writeln!(
                report,
                "received {peer} {} {} {} {}",
                one.packets,
                one.duplicates,
                one.late,
                one.longest_silence.as_millis()
            )?;
            for (first, last) in one.holes() {
                writeln!(report, "hole {peer} {first} {last}")?;
            }
        }
        let file = self.folder.join(format!("{}.report", self.own));
        let unfinished = file.with_extension("part");
        std::fs::write(&unfinished, &report)?;
        std::fs::rename(unfinished, file)?;
        print!("{report}");
        Ok(())
    }

    /// What is sent to a host that does not listen yet would be lost.
    fn wait_for_peers(&self, stop: &AtomicBool) -> Result<()> {
        let ready = |address: &IpAddr| self.folder.join(format!("{address}.ready"));
        std::fs::write(ready(&self.own), "")?;
        while !stop.load(Ordering::Relaxed) && !self.peer.iter().all(|peer| ready(peer).exists()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn send(&self, socket: &UdpSocket, stop: &AtomicBool) -> u64 {
        let peers: Vec<SocketAddr> = self.peer.iter().map(|&peer| (peer, self.port).into()).collect();
        let mut payload = vec![0; self.size.max(8)];
        let start = Instant::now();
        let mut number = 0u64;
        while !stop.load(Ordering::Relaxed) {
            payload[..8].copy_from_slice(&number.to_be_bytes());
            for peer in &peers {
                // A packet that cannot leave is as lost as any other.
                let _ = socket.send_to(&payload, peer);
            }
            number += 1;
            let due = start + Duration::from_secs_f64(number as f64 / f64::from(self.rate.max(1)));
            if let Some(wait) = due.checked_duration_since(Instant::now()) {
                std::thread::sleep(wait);
            }
        }
        number
    }
}

fn receive(socket: &UdpSocket, stop: &AtomicBool) -> Result<BTreeMap<IpAddr, Received>> {
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut peers: BTreeMap<IpAddr, (Received, Instant)> = BTreeMap::new();
    let mut buffer = vec![0; 65_535];
    let mut stopped: Option<Instant> = None;
    loop {
        if let Ok((length, from)) = socket.recv_from(&mut buffer)
            && let Some(number) = buffer[..length].first_chunk()
        {
            let now = Instant::now();
            let (one, last) = peers.entry(from.ip()).or_insert_with(|| (Received::default(), now));
            one.longest_silence = one.longest_silence.max(now - *last);
            *last = now;
            one.take(u64::from_be_bytes(*number));
        }
        if stop.load(Ordering::Relaxed) && stopped.get_or_insert_with(Instant::now).elapsed() > DRAIN {
            return Ok(peers.into_iter().map(|(peer, (one, _))| (peer, one)).collect());
        }
    }
}

/// A report, read back.
#[derive(Debug, Default)]
struct Report {
    /// Packets and packets per second, by receiver.
    sent: BTreeMap<IpAddr, (u64, f64)>,
    /// Packets, duplicates, late ones, longest silence in milliseconds, by sender.
    received: BTreeMap<IpAddr, [u64; 4]>,
    holes: Vec<(IpAddr, u64, u64)>,
}

impl Report {
    fn read(path: &Path) -> Result<Self> {
        let mut report = Self::default();
        for line in std::fs::read_to_string(path)?.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let peer = words.get(1).context("a report's line names no peer")?.parse()?;
            let numbers: Vec<u64> = words[2..].iter().map(|word| word.parse()).collect::<Result<_, _>>()?;
            match (words[0], numbers.as_slice()) {
                ("sent", &[count, rate]) => {
                    report.sent.insert(peer, (count, rate as f64));
                }
                ("received", &[packets, duplicates, late, silence]) => {
                    report.received.insert(peer, [packets, duplicates, late, silence]);
                }
                ("hole", &[first, last]) => report.holes.push((peer, first, last)),
                _ => bail!("a report says `{line}`"),
            }
        }
        Ok(report)
    }
}

impl Verify {
    /// Print a line for each pair; fail if one lost a packet.
    pub fn run(self) -> Result<()> {
        let Comparison { text, bad, longest_outage } = self.compare(&self.reports()?)?;
        print!("{text}");
        if bad > 0 {
            bail!("{bad} packets lost or doubled; longest outage {longest_outage:.0} ms");
        }
        match longest_outage {
            0.0 => println!("0 packets lost"),
            _ => println!(
                "no outage longer than {} ms; the longest lasted {longest_outage:.0} ms",
                self.outage
            ),
        }
        Ok(())
    }

    fn reports(&self) -> Result<BTreeMap<IpAddr, Report>> {
        let mut reports = BTreeMap::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "report") {
                let name =
                    path.file_stem().context("a report without a name")?.to_string_lossy().into_owned();
                let report = Report::read(&path).with_context(|| path.display().to_string())?;
                reports.insert(name.parse()?, report);
            }
        }
        Ok(reports)
    }

    fn compare(&self, reports: &BTreeMap<IpAddr, Report>) -> Result<Comparison> {
        let (mut text, mut bad, mut pairs, mut longest_outage) = (String::new(), 0, 0, 0.0);
        for (sender, report) in reports {
            for (receiver, &(sent, rate)) in &report.sent {
                if self.except.contains(sender) || self.except.contains(receiver) {
                    continue;
                }
                pairs += 1;
                let peer = reports.get(receiver).with_context(|| format!("{receiver} wrote no report"))?;
                let [packets, duplicates, late, silence] =
                    peer.received.get(sender).copied().unwrap_or_default();
                let lost = sent.saturating_sub(packets);
                bad += lost + duplicates;
                let outage = |first, last| (last - first + 1) as f64 / rate * 1000.0;
                writeln!(
                    text,
                    "{sender} > {receiver}: sent {sent}, lost {lost}, doubled {duplicates}, late {late}, longest silence {silence} ms"
                )?;
                let holes = peer.holes.iter().filter(|(from, ..)| from == sender);
                for (_, first, last) in holes {
                    longest_outage = f64::max(longest_outage, outage(*first, *last));
                    if outage(*first, *last) <= self.outage as f64 {
                        bad -= last - first + 1;
                    }
                    writeln!(
                        text,
                        "    lost {first}..={last}, {:.3} to {:.3} s after the start",
                        *first as f64 / rate,
                        *last as f64 / rate
                    )?;
                }
                if sent < self.at_least {
                    bail!("{sender} > {receiver}: only {sent} packets were sent\n{text}");
                }
            }
        }
        if pairs != self.pairs {
            bail!("{pairs} pairs, not {}\n{text}", self.pairs);
        }
        Ok(Comparison { text, bad, longest_outage })
    }
}

/// What comparing has brought.
struct Comparison {
    /// A line for each pair, and for each run of lost packets.
    text: String,
    /// Packets lost or doubled that must not be.
    bad: u64,
    /// The longest run of lost packets, in milliseconds.
    longest_outage: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_packets_and_duplicates_are_told_from_lost_ones() {
        let mut received = Received::default();
        for number in [0, 1, 4, 3, 3, 9] {
            received.take(number);
        }
        assert_eq!((received.packets, received.duplicates, received.late), (5, 1, 1));
        assert_eq!(received.holes(), [(2, 2), (5, 8)]);
    }

    #[test]
    fn a_loss_at_the_very_end_is_found() {
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        let other: IpAddr = "10.0.0.2".parse().unwrap();
        let report = |peer, received| Report {
            sent: BTreeMap::from([(peer, (100, 10.0))]),
            received: BTreeMap::from([(peer, [received, 0, 0, 0])]),
            holes: Vec::new(),
        };
        let verify =
            Verify { folder: PathBuf::new(), pairs: 2, at_least: 100, except: Vec::new(), outage: 0 };
        let whole = BTreeMap::from([(one, report(other, 100)), (other, report(one, 100))]);
        assert_eq!(verify.compare(&whole).unwrap().bad, 0);
        let short = BTreeMap::from([(one, report(other, 100)), (other, report(one, 98))]);
        assert_eq!(verify.compare(&short).unwrap().bad, 2);
        assert!(Verify { pairs: 1, ..verify }.compare(&whole).is_err());
    }

    #[test]
    fn an_outage_may_last_as_long_as_is_allowed_and_no_longer() {
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        let other: IpAddr = "10.0.0.2".parse().unwrap();
        let report = |peer, received, holes| Report {
            sent: BTreeMap::from([(peer, (100, 100.0))]),
            received: BTreeMap::from([(peer, [received, 0, 0, 0])]),
            holes,
        };
        let reports = BTreeMap::from([
            (one, report(other, 100, vec![])),
            (other, report(one, 90, vec![(one, 20, 29)])),
        ]);
        let bad = |outage| {
            let verify =
                Verify { folder: PathBuf::new(), pairs: 2, at_least: 100, except: Vec::new(), outage };
            let comparison = verify.compare(&reports).unwrap();
            assert_eq!(comparison.longest_outage, 100.0);
            comparison.bad
        };
        assert_eq!([bad(0), bad(99), bad(100)], [10, 10, 0]);
        // What is lost at the end has no end.
        let reports = BTreeMap::from([(one, report(other, 100, vec![])), (other, report(one, 90, vec![]))]);
        let verify =
            Verify { folder: PathBuf::new(), pairs: 2, at_least: 100, except: Vec::new(), outage: 1000 };
        assert_eq!(verify.compare(&reports).unwrap().bad, 10);
    }
}
