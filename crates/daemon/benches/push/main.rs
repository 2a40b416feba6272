//! A rekey of many unicast members by one server, on loopback: `cargo xtask bench push`.
//!
//! The server is the product's own server role behind the product's own sockets, in one thread, driven as the daemon drives
//! it. Members are addresses in 127/8 behind one socket in another thread, which reads what comes and, in the second
//! rekey, answers each push with a valid acknowledgement (RFC 8263).
//!
//! So that 100,000 registrations do not take minutes, they happen in this process without sockets, in aggressive mode with
//! the 256-bit curve. Nothing in the product is bypassed: each is a whole phase 1 and a whole GROUPKEY-PULL.
//! Time on the server's clock is made to jump to the rekey; while a rekey runs it goes as the real clock does.

mod members;

use std::net::SocketAddr;
use std::time::{Duration, Instant as Clock};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use crypto::{CbcCipher, EspSuite, Hash, Integrity, OsRandom, SigningKey, SigningKeyKind};
use daemon::instances::InstanceId;
use daemon::namespace::Namespace;
use daemon::sockets::{Datagram, Sockets};
use proto::Role;
use proto::path::Path;
use proto::server::{
    Communication, GroupSettings, IpsecSaSettings, MatchPolicy, PushSettings, Recipients, Server, Settings,
};
use proto::time::Instant;
use rustix::time::ClockId;
use serde_json::json;
use tokio::sync::mpsc;

use members::{GROUP_ID, Household, address, gateway};

/// What to measure.
#[derive(Debug, Parser)]
struct Options {
    /// Registered members.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    members: u32,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Given by `cargo bench`; without it nothing is measured, so that `cargo test --all-targets` stays quick.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Port of the server here: one that needs no privilege.
const SERVER_PORT: u16 = 28_480;
/// Port of the members.
const MEMBER_PORT: u16 = 28_481;
/// What the server tells members about its address.
const SERVER: &str = "127.0.0.1";
/// Seconds from trigger to last datagram, 100,000 members.
const TARGET_SECONDS: f64 = 2.0;
/// Acknowledgements a second on one processor.
const TARGET_ACKNOWLEDGEMENTS: f64 = 100_000.0;
/// Time for all acknowledgements to come before what is missing counts as lost.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let options = Options::parse();
    if !options.bench {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(&options))
}

/// Wall clock and processor time of this thread, which is the server's.
struct Stopwatch {
    wall: Clock,
    processor: Duration,
}

impl Stopwatch {
    fn start() -> Self {
        Self { wall: Clock::now(), processor: processor_time() }
    }

    fn read(&self) -> (f64, f64) {
        (self.wall.elapsed().as_secs_f64(), (processor_time() - self.processor).as_secs_f64())
    }
}

fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Resident octets of this process.
fn memory() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).context("VmRSS is empty")?.parse()?;
    Ok(kib * 1024.0)
}

fn settings(members: u32) -> Result<Settings> {
    let prefix = "10.0.0.0/8".parse().context("a prefix")?;
    let push = PushSettings {
        communication: Communication::Unicast { acknowledgement_required: false },
        source: Some(SERVER.parse()?),
        lifetime: Duration::from_secs(86_400),
        retransmission_period: Duration::from_secs(10),
        number_of_retransmission: 2,
        heartbeat: None,
        cipher: CbcCipher::Aes128,
        hash: Hash::Sha256,
        signing_key: SigningKey::generate(SigningKeyKind::Rsa2048)?,
    };
    let group = GroupSettings {
        name: "group".into(),
        id: GROUP_ID,
        gateways: (0..members).map(|number| format!("member-{number}")).collect(),
        member_threshold: None,
        activation_time_delay: Duration::from_secs(15),
        multicast_group: None,
        id_length: wire::codec::LengthWidth::One,
        sender_id_bits: 16,
        ipsec_sas: vec![IpsecSaSettings {
            name: "sa".into(),
            suite: EspSuite::Cbc { cipher: CbcCipher::Aes128, integrity: Integrity::HmacSha256_128 },
            lifetime: Duration::from_secs(3600),
            anti_replay: None,
            policies: vec![MatchPolicy {
                name: "everything".into(),
                selector: wire::Selector::between(prefix, prefix),
            }],
        }],
        push: Some(push),
    };
    let gateways = (0..members).map(|number| gateway(&format!("member-{number}"), address(number))).collect();
    Ok(Settings { gateways, groups: vec![group], ..Settings::default() })
}

/// The server and its sockets, driven as `daemon::daemon` drives them.
struct Station {
    server: Server,
    sockets: Sockets,
    datagrams: mpsc::Receiver<Vec<Datagram>>,
    /// The server's clock, and the real time at which it was so.
    now: Instant,
    since: Clock,
}

/// One rekey as the server saw it.
struct Rekey {
    /// Seconds from the trigger to the last datagram.
    seconds: f64,
    /// Processor seconds in that time.
    processor: f64,
    sent: u64,
    octets: usize,
    datagram: Vec<u8>,
}

impl Station {
    fn now(&self) -> Instant {
        self.now + self.since.elapsed()
    }

    /// Sets the server's clock.
    fn jump(&mut self, to: Instant) {
        (self.now, self.since) = (to, Clock::now());
    }

    /// Lets time pass until the server has something to push, and sends it. `concurrently`: what arrives meanwhile is read
    /// after each batch, as in the daemon, where that is part of sending.
    async fn rekey(&mut self) -> Result<Rekey> {
        let before = self.sockets.push_counters().sent;
        loop {
            let due = self.server.poll_timeout().context("the server waits for nothing")?;
            self.jump(due.max(self.now()));
            let watch = Stopwatch::start();
            self.server.handle_timeout(self.now());
            let mut datagram = None;
            while let Some(batch) = self.server.poll_push() {
                let Recipients::Unicast(paths) = batch.to else { continue };
                datagram = Some(batch.datagram.clone());
                self.sockets.push(batch.datagram, paths);
            }
            self.drain();
            let Some(datagram) = datagram else { continue };
            while self.sockets.has_pushes() {
                tokio::select! {
                    Some(batch) = self.datagrams.recv() => self.handle(batch),
                    () = self.sockets.ready_to_push() => {
                        if let Some((count, error)) = self.sockets.send_pushes() {
                            anyhow::bail!("{count} pushes were refused: {error}");
                        }
                    }
                }
            }
            let (seconds, processor) = watch.read();
            let sent = self.sockets.push_counters().sent - before;
            return Ok(Rekey {
                seconds,
                processor,
                sent,
                octets: datagram.len(),
                datagram: datagram.to_vec(),
            });
        }
    }

    fn handle(&mut self, batch: Vec<Datagram>) {
        for datagram in batch {
            let now = self.now();
            self.server.handle_datagram(now, datagram.path, &datagram.octets);
            self.drain();
        }
    }

    /// What the daemon drains after each input.
    fn drain(&mut self) {
        let mut buffer = Vec::new();
        while let Some(path) = self.server.poll_transmit(&mut buffer) {
            // Nothing here waits for an answer of the server.
            let _ = self.sockets.send(path, &buffer);
        }
        while self.server.poll_event().is_some() {}
        while let Some(batch) = self.server.poll_push() {
            if let Recipients::Unicast(paths) = batch.to {
                self.sockets.push(batch.datagram, paths);
            }
        }
    }

    fn acknowledged(&self) -> u64 {
        self.server.statistics(self.now()).iter().map(|group| group.push_acknowledged).sum()
    }
}

async fn run(options: &Options) -> Result<()> {
    let count = options.members;
    let settings = settings(count)?;
    let start = Instant::from_micros(1_000_000_000);
    let mut server = Server::new(start, settings, Box::new(OsRandom::new()?));
    let before = memory()?;
    eprintln!("registering {count} members");
    let watch = Stopwatch::start();
    let path = |number| {
        Path::new(
            SocketAddr::new(address(number), MEMBER_PORT),
            SocketAddr::new(address_of_server(), SERVER_PORT),
        )
    };
    let mut kek = None;
    for number in 0..count {
        kek = Some(members::register(&mut server, start, number, path(number))?);
    }
    let kek = kek.context("no member")?;
    let (registered_in, _) = watch.read();
    let with_phase_1 = (memory()? - before) / f64::from(count);
    let phase_1 = server.clear_ike(start, None, None);
    let mut buffer = Vec::new();
    while server.poll_transmit(&mut buffer).is_some() {}
    while server.poll_event().is_some() {}
    eprintln!("registered in {registered_in:.1} s; {phase_1} phase 1 SAs closed");

    let (sockets, datagrams) = Sockets::new();
    let mut station = Station { server, sockets, datagrams, now: start, since: Clock::now() };
    station.sockets.listen(&[(InstanceId::DEFAULT, Namespace::home())], &[SERVER_PORT])?;
    let mut household = Household::start(kek, MEMBER_PORT)?;

    // First: nobody answers before everything is sent; then all acknowledgements, without sockets.
    let first = station.rekey().await?;
    household.wait(first.sent, PATIENCE);
    let received = household.received();
    let acknowledgements: Vec<_> = {
        let sequence = household.sequence(&first.datagram)?;
        (0..count).map(|number| household.acknowledgement(number, sequence)).collect::<Result<_>>()?
    };
    let watch = Stopwatch::start();
    for (number, datagram) in acknowledgements.iter().enumerate() {
        let now = station.now();
        station.server.handle_datagram(now, path(number as u32).reversed(), datagram);
    }
    let (_, alone) = watch.read();
    while station.server.poll_event().is_some() {}
    ensure!(
        station.acknowledged() == u64::from(count),
        "the server counts {} acknowledgements of {count}",
        station.acknowledged()
    );

    // Second: each member answers as soon as it hears.
    household.answer(true);
    let watch = Stopwatch::start();
    let second = station.rekey().await?;
    let wanted = u64::from(count) * 2;
    let deadline = Clock::now() + PATIENCE;
    while station.acknowledged() < wanted && Clock::now() < deadline {
        if let Ok(Some(batch)) = tokio::time::timeout(Duration::from_secs(1), station.datagrams.recv()).await
        {
            station.handle(batch);
        }
    }
    let (whole, whole_processor) = watch.read();
    let answered = station.acknowledged() - u64::from(count);

    let each = f64::from(count);
    let result = json!({
        "members": count,
        "registered-seconds": registered_in,
        "octets-per-member": with_phase_1,
        "datagram-octets": first.octets,
        "first": {
            "seconds-to-last-datagram": first.seconds,
            "processor-seconds": first.processor,
            "sent": first.sent,
            "received": received,
            "datagrams-per-second": first.sent as f64 / first.seconds,
        },
        "acknowledgements-per-processor-second": each / alone,
        "second": {
            "seconds-to-last-datagram": second.seconds,
            "processor-seconds": second.processor,
            "sent": second.sent,
            "seconds-to-last-acknowledgement": whole,
            "processor-seconds-to-last-acknowledgement": whole_processor,
            "acknowledged": answered,
        },
    });
    if options.json {
        println!("{result}");
        return Ok(());
    }
    println!("{count} members, datagrams of {} octets", first.octets);
    println!("  memory with phase 1 SA  {with_phase_1:8.0} octets a member");
    for (name, rekey) in [("nobody answers yet", &first), ("everybody answers at once", &second)] {
        println!("rekey, {name}");
        println!("  trigger to last sent    {:8.3} s (target {TARGET_SECONDS} s)", rekey.seconds);
        println!("  processor time          {:8.3} s", rekey.processor);
        println!("  rate                    {:8.0} datagrams/s", rekey.sent as f64 / rekey.seconds);
    }
    println!(
        "  to last acknowledgement {whole:8.3} s, {whole_processor:.3} s of processor, {answered} counted"
    );
    println!("acknowledgements");
    println!(
        "  server role alone       {:8.0} a second of processor (target {TARGET_ACKNOWLEDGEMENTS})",
        each / alone
    );
    let with_sockets = answered as f64 / (whole_processor - first.processor).max(f64::EPSILON);
    println!("  with sockets            {with_sockets:8.0} a second of processor, sending subtracted");
    Ok(())
}

fn address_of_server() -> std::net::IpAddr {
    std::net::Ipv4Addr::LOCALHOST.into()
}
