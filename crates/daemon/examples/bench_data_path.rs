//! What `cargo xtask bench data-path` needs beside the shipped programs: one gateway with fixed keys, which is the shipped data
//! path without registration; traffic at a steady rate; and what a packet costs the engine as tables grow.

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use clap::{Parser, Subcommand, ValueEnum};
use crypto::esp::{EspSealer, EspSuite, GcmKeyLen, Verdict as CryptoVerdict};
use crypto::{CbcCipher, Integrity, SeededRandom};
use daemon::datapath::{DataPath, Options, Publication, WireIo};
use daemon::netlink::Links;
use daemon::sys::xsk::{CopyMode, XskSocket};
use dataplane::{
    AddressPair, Binding, DefaultPolicy, DfBit, Engine, FrameBuffer, FrameIn, GroupSa, Instant, InterfaceId,
    Origin, Policy, Registration, SaDirection, SaSettings, Selector, SenderIdLength, SenderIds, Tables,
    TablesBuilder, VnetHeader, Vpn,
};

#[derive(Parser)]
enum Command {
    /// Protect 172.16.0.0/16 on the interface wan0 until killed.
    Gateway {
        #[arg(long)]
        suite: Protection,
        /// Another one for each gateway: counter-mode nonces are made of it.
        #[arg(long)]
        sender: u32,
        #[arg(long, default_value = "auto")]
        wire_io: WireIo,
    },
    /// Count datagrams and answer them.
    Reflect,
    #[command(subcommand)]
    Measure(Measure),
    /// Print what a packet costs the engine, in nanoseconds, as tables grow: `what count cost`.
    Flat,
    /// Print TCP's octets in a full packet, and what any gateway in user space spends on it at least, in nanoseconds: to read it,
    /// to encrypt it, to send it by the interface wan0 to nobody.
    Least,
}

#[derive(Subcommand)]
enum Measure {
    /// Print the median time of a datagram to the reflector and back, in microseconds.
    RoundTrip { to: SocketAddr },
    /// Print the highest steady rate of 64-octet datagrams of which no more than one in a thousand is lost, each second.
    Rate { to: SocketAddr },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Protection {
    Aes128Gcm,
    Aes128CbcSha1,
    /// The engine gets every packet, and judges that it passes in clear.
    Clear,
}

const GCM: EspSuite = EspSuite::Gcm { key: GcmKeyLen::Bits128 };
/// The suite of the vendor's paper.
const CBC: EspSuite = EspSuite::Cbc { cipher: CbcCipher::Aes128, integrity: Integrity::HmacSha1_96 };

impl Protection {
    fn suite(self) -> EspSuite {
        match self {
            Self::Aes128Gcm | Self::Clear => GCM,
            Self::Aes128CbcSha1 => CBC,
        }
    }
}

fn main() {
    match Command::parse() {
        Command::Gateway { suite, sender, wire_io } => gateway(suite, sender, wire_io),
        Command::Reflect => reflect(),
        Command::Measure(Measure::RoundTrip { to }) => println!("{:.2}", round_trip(to)),
        Command::Measure(Measure::Rate { to }) => println!("{:.0}", best_rate(to)),
        Command::Flat => flat(),
        Command::Least => least(),
    }
}

fn key(suite: EspSuite, spi: u32, sender: u32) -> Arc<GroupSa> {
    let ids = SenderIds::new(SenderIdLength::Bits16);
    ids.begin_period();
    ids.grant(sender).expect("an identifier of 16 bits");
    GroupSa::new(&SaSettings {
        direction: SaDirection::Symmetric,
        spi,
        suite,
        cipher_key: &vec![1; suite.cipher_key_len()],
        integrity_key: &vec![2; suite.integrity_key_len()],
        activate_at: Instant::ZERO,
        hard_expiry: Instant::FAR_FUTURE,
        sender_ids: Some(&ids),
        pseudo_clock: None,
    })
    .expect("the key has the suite's length")
}

fn vpn(interface: InterfaceId, policies: Vec<Policy>) -> Vpn {
    Vpn {
        name: "bench".into(),
        interfaces: vec![interface],
        binding: Binding::Zone,
        registration: Registration::Registered,
        df_bit: DfBit::Clear,
        tunnel_mtu: None,
        policies,
        exclude: vec![],
        filters: vec![],
        fail_open: vec![],
        counters: Arc::default(),
    }
}

fn policy(source: &str, destination: &str, sa: &Arc<GroupSa>) -> Policy {
    let prefix = |text: &str| text.parse().expect("a prefix");
    let selector = Selector::between(prefix(source), prefix(destination));
    Policy { selector, sas: vec![Arc::clone(sa)], drop_clear_from: Instant::ZERO }
}

fn gateway(protection: Protection, sender: u32, wire_io: WireIo) {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let links = Links::read().expect("netlink works");
    let wan = links.by_name("wan0").expect("there is a wan0");
    let sa = key(protection.suite(), 4096, sender);
    let mut builder = TablesBuilder::new();
    builder.interface(InterfaceId(wan.index), wan.mtu);
    builder.default_policy(DefaultPolicy::PermitAll).local_addresses(links.local_addresses());
    let interface = InterfaceId(wan.index);
    let mut protected = vpn(interface, vec![policy("172.16.0.0/16", "172.16.0.0/16", &sa)]);
    if matches!(protection, Protection::Clear) {
        let net = "172.16.0.0/16".parse().expect("a prefix");
        protected.exclude.push(AddressPair { source: net, destination: net });
        // Where there are two VPNs, it is the engine that knows which of them an exclude rule is about.
        builder.vpn(vpn(interface, vec![]));
    }
    builder.vpn(protected);
    let tables = Arc::new(builder.build());
    let options = Options { wire_io, ..Options::at(daemon::clock::Clock::start()) };
    let mut data_path = DataPath::start(options).expect("root may start it");
    let errors = data_path.publish(Publication { tables: &tables, links: &links, peers: &[] });
    assert!(errors.is_empty(), "{errors:?}");
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// What an engine is given here: how many frames at a time, when, and which.
const BATCH: usize = 64;
const NOW: Instant = Instant::from_micros(1_000_000);
const FORWARDED: Origin = Origin::Egress { own: false, injected: false };

/// Nothing is decided and nothing is made: ESP packets that were made before are sent again and again.
fn least() {
    /// The largest packet that ESP leaves room for on a link of 1500 octets, and what TCP with timestamps has of it.
    const INNER: usize = 1446;
    const SEGMENT: usize = INNER - 52;
    let links = Links::read().expect("netlink works");
    let wan = links.by_name("wan0").expect("there is a wan0");
    // An Ethernet address that the other end has not: its kernel drops the packet at once.
    let mut inner = [&[2, 0, 0, 0, 0, 1], &wan.mac[..], &[8, 0, 0x45, 0]].concat();
    inner.extend((INNER as u16).to_be_bytes());
    inner.extend([0, 1, 0x40, 0, 64, 17, 0, 0, 172, 16, 1, 2, 172, 16, 2, 2, 0x10, 0, 0x20, 0]);
    inner.resize(14 + INNER, 0x5c);

    let interface = InterfaceId(wan.index);
    let sa = key(GCM, 4096, 1);
    let mut builder = TablesBuilder::new();
    builder.interface(interface, 1500);
    builder.vpn(vpn(interface, vec![policy("172.16.0.0/16", "172.16.0.0/16", &sa)]));
    let input = [FrameIn { interface, origin: FORWARDED, vnet: VnetHeader::default(), bytes: &inner }; BATCH];
    let mut output = FrameBuffer::new();
    let mut engine = Engine::new(&mut SeededRandom::new(1));
    engine.process(NOW, &builder.build(), &input, &mut output);
    let frames: Vec<Vec<u8>> = output.iter().map(|frame| frame.bytes().to_vec()).collect();
    assert_eq!(frames.len(), BATCH, "every packet fits");

    let file = format!("/dev/shm/bench_data_path.{}", std::process::id());
    let super_frame = vec![7; 64 * 1024];
    std::fs::write(&file, &super_frame).expect("there is memory");
    let memory = std::fs::File::open(&file).expect("it is there");
    std::fs::remove_file(&file).expect("it is there");
    let mut room = super_frame.clone();
    let read = processor_time(|| {
        memory.read_exact_at(&mut room, 0).expect("it has as much");
        room.len() as f64 / SEGMENT as f64
    });

    let (cipher_key, integrity_key) = (vec![1; GCM.cipher_key_len()], vec![2; GCM.integrity_key_len()]);
    let mut sealer = EspSealer::new(GCM, &cipher_key, &integrity_key).expect("the suite's lengths");
    let mut packets = vec![vec![7; GCM.frame_len(INNER)]; BATCH];
    let encrypt = processor_time(|| {
        packets.iter_mut().for_each(|packet| assert_eq!(sealer.seal_one(packet), CryptoVerdict::Ok));
        BATCH as f64
    });

    let mut socket = XskSocket::open(wan.index, 0, CopyMode::Copy, false).expect("root may open it");
    let send = processor_time(|| socket.send(frames.iter().map(Vec::as_slice)).frames as f64);
    println!("{SEGMENT} {read:.1} {encrypt:.1} {send:.1}");
}

/// Nanoseconds of this thread for each packet of half a second's; `work` says how many packets its work was for.
fn processor_time(mut work: impl FnMut() -> f64) -> f64 {
    let now = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
    };
    let (begin, start, mut packets) = (Clock::now(), now(), 0.0);
    while begin.elapsed() < Duration::from_millis(500) {
        packets += work();
    }
    (now() - start) / packets
}

/// First octet of a datagram: counted only, answered by itself, answered by the count of its run.
const COUNTED: u8 = 0;
const ECHOED: u8 = 1;
const ASKED: u8 = 2;
const SIZE: usize = 64;
const PORT: u16 = 4000;

/// A datagram of a run; bytes 1 to 5 say which.
fn datagram(kind: u8, run: u32) -> [u8; SIZE] {
    let mut datagram = [0; SIZE];
    datagram[0] = kind;
    datagram[1..5].copy_from_slice(&run.to_be_bytes());
    datagram
}

fn reflect() {
    let socket = UdpSocket::bind(("0.0.0.0", PORT)).expect("the port is free");
    let mut buffer = [0; 2048];
    let (mut run, mut count) = (0, 0u64);
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        if length < SIZE {
            continue;
        }
        let of = u32::from_be_bytes(buffer[1..5].try_into().expect("four octets"));
        if of != run {
            (run, count) = (of, 0);
        }
        match buffer[0] {
            COUNTED => count += 1,
            ECHOED => drop(socket.send_to(&buffer[..length], from)),
            _ => {
                buffer[5..13].copy_from_slice(&count.to_be_bytes());
                drop(socket.send_to(&buffer[..SIZE], from));
            }
        }
    }
}

fn connected(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a free port");
    socket.connect(to).expect("a route");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time");
    socket
}

fn round_trip(to: SocketAddr) -> f64 {
    let socket = connected(to);
    let mut times = Vec::new();
    let end = Clock::now() + Duration::from_millis(700);
    let mut buffer = [0; SIZE];
    while Clock::now() < end {
        let begin = Clock::now();
        let sent = socket.send(&datagram(ECHOED, u32::MAX));
        if sent.is_ok() && socket.recv(&mut buffer).is_ok() {
            times.push(begin.elapsed().as_secs_f64() * 1e6);
        }
    }
    assert!(!times.is_empty(), "no answer");
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Doubles the rate until too much is lost, then halves the interval.
fn best_rate(to: SocketAddr) -> f64 {
    let socket = connected(to);
    let mut run = std::process::id().wrapping_mul(1000);
    let mut passes = |rate: f64| {
        // A scheduler's hiccup is no limit: two attempts.
        (0..2).any(|_| {
            run = run.wrapping_add(1);
            is_carried(&socket, run, rate)
        })
    };
    let (mut good, mut bad) = (0.0, 10_000.0);
    while bad < 4e6 && passes(bad) {
        (good, bad) = (bad, bad * 2.0);
    }
    for _ in 0..4 {
        let middle = (good + bad) / 2.0;
        if passes(middle) { good = middle } else { bad = middle }
    }
    good
}

fn is_carried(socket: &UdpSocket, run: u32, rate: f64) -> bool {
    const TIME: f64 = 0.2;
    let wanted = (rate * TIME) as u64;
    let begin = Clock::now();
    let (counted, mut sent) = (datagram(COUNTED, run), 0);
    while sent < wanted {
        let due = ((begin.elapsed().as_secs_f64() * rate) as u64).min(wanted);
        while sent < due {
            let _ = socket.send(&counted);
            sent += 1;
        }
        if begin.elapsed().as_secs_f64() > 1.5 * TIME {
            return false; // the sender itself cannot
        }
        // Not by waiting in a loop: the gateway runs on this core.
        std::thread::sleep(Duration::from_micros(50));
    }
    std::thread::sleep(Duration::from_millis(20));
    let mut buffer = [0; SIZE];
    for _ in 0..10 {
        let _ = socket.send(&datagram(ASKED, run));
        while socket.recv(&mut buffer).is_ok() {
            if buffer[0] == ASKED && buffer[1..5] == run.to_be_bytes() {
                let count = u64::from_be_bytes(buffer[5..13].try_into().expect("eight octets"));
                return count as f64 >= sent as f64 * 0.999;
            }
        }
    }
    false
}

const WAN: InterfaceId = InterfaceId(1);

/// Tables whose last policy matches the packets of [`frames`].
fn tables(policies: u32, sas: u32) -> Tables {
    let keys: Vec<_> = (0..sas).map(|index| key(CBC, 4096 + index, 1)).collect();
    let net = |base: u32, index: u32| {
        ipnet::Ipv4Net::new((base | index << 8).into(), 24).expect("24 is a prefix length").to_string()
    };
    let other = |index: u32| {
        policy(&net(0x0a00_0000, index), &net(0x6400_0000, index), &keys[index as usize % keys.len()])
    };
    let last = policy("31.1.0.0/16", "41.1.0.0/16", keys.last().expect("at least one"));
    let mut builder = TablesBuilder::new();
    builder.interface(WAN, 1500);
    builder.vpn(vpn(WAN, (1..policies).map(other).chain([last]).collect()));
    builder.build()
}

fn frames(flows: u32) -> Vec<Vec<u8>> {
    (0..flows)
        .map(|flow| {
            let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 64];
            frame.extend([0, 1, 0, 0, 64, 17, 0, 0, 31, 1, (flow >> 16) as u8, 2, 41, 1]);
            frame.extend((flow as u16).to_be_bytes());
            frame.extend([0x10, 0, 0x20, 0, 0, 44]);
            frame.resize(14 + 64, 0x5c);
            frame
        })
        .collect()
}

/// An engine that is measured.
struct Measured<'f> {
    engine: Engine,
    output: FrameBuffer,
    tables: Tables,
    origin: Origin,
    /// What it gets, in this order.
    frames: Box<dyn Iterator<Item = &'f [u8]> + 'f>,
    /// Copies of the next frames, in memory that the processor has near, as a ring's is: what is measured is the engine's memory.
    near: Vec<Vec<u8>>,
}

impl<'f> Measured<'f> {
    /// Batches that are copied before the clock is started.
    const NEAR: usize = 16;

    /// `warm_up` is how many frames it gets before it is measured.
    fn new(
        tables: Tables,
        origin: Origin,
        frames: impl Iterator<Item = &'f [u8]> + 'f,
        warm_up: usize,
    ) -> Self {
        let (engine, output) = (Engine::new(&mut SeededRandom::new(1)), FrameBuffer::new());
        let near = vec![Vec::new(); Self::NEAR * BATCH];
        let mut measured = Self { engine, output, tables, origin, frames: Box::new(frames), near };
        (0..warm_up.div_ceil(Self::NEAR * BATCH)).for_each(|_| _ = measured.cost());
        measured
    }

    /// Nanoseconds of each of the next packets.
    fn cost(&mut self) -> f64 {
        for (near, frame) in self.near.iter_mut().zip(&mut self.frames) {
            near.clear();
            near.extend_from_slice(frame);
        }
        let begin = Clock::now();
        for batch in self.near.chunks(BATCH) {
            let (origin, vnet) = (self.origin, VnetHeader::default());
            let nothing = FrameIn { interface: WAN, origin, vnet, bytes: &[] };
            let mut input = [nothing; BATCH];
            input.iter_mut().zip(batch).for_each(|(input, bytes)| input.bytes = bytes);
            self.output.clear();
            self.engine.process(NOW, &self.tables, &input, &mut self.output);
            assert_eq!(self.output.len(), BATCH, "every packet passes");
        }
        begin.elapsed().as_secs_f64() * 1e9 / self.near.len() as f64
    }
}

/// Packets that leave, of so many flows in turns.
fn leaving(frames: &[Vec<u8>], tables: Tables) -> Measured<'_> {
    let in_turns = frames.iter().map(Vec::as_slice).cycle();
    Measured::new(tables, FORWARDED, in_turns, frames.len())
}

/// What members send under AES-128-GCM, in turns: each has a window of sequence numbers of its own, made by its first packet.
/// Each packet is new: one that came twice is refused.
struct Members(Vec<Vec<Vec<u8>>>);

impl Members {
    const PACKETS: usize = 400_000;
    const OURS: u32 = 0xffff;

    fn tables(sender: u32) -> Tables {
        let mut builder = TablesBuilder::new();
        builder.interface(WAN, 1500);
        builder.vpn(vpn(WAN, vec![policy("31.1.0.0/16", "41.1.0.0/16", &key(GCM, 4096, sender))]));
        builder.build()
    }

    fn new(members: u32) -> Self {
        let (mut engine, mut output) = (Engine::new(&mut SeededRandom::new(1)), FrameBuffer::new());
        let share = Self::PACKETS.div_ceil(members as usize);
        let frames = frames(BATCH as u32);
        let mut sent_by = |member: u32| {
            let tables = Self::tables(member);
            let input: Vec<FrameIn<'_>> = frames
                .iter()
                .cycle()
                .skip(member as usize % BATCH)
                .take(share)
                .map(|bytes| FrameIn {
                    interface: WAN,
                    origin: FORWARDED,
                    vnet: VnetHeader::default(),
                    bytes,
                })
                .collect();
            output.clear();
            engine.process(NOW, &tables, &input, &mut output);
            output.iter().map(|frame| frame.bytes().to_vec()).collect()
        };
        Self((0..members).map(&mut sent_by).collect())
    }

    fn arriving(&self) -> Measured<'_> {
        let in_turns =
            (0..self.0[0].len()).flat_map(|number| self.0.iter().map(move |sent| &sent[number][..]));
        Measured::new(Self::tables(Self::OURS), Origin::Wire, in_turns, self.0.len())
    }
}

/// Prints the best of many rounds of each case: what else the machine does only adds. They are measured in turns, because it is not
/// equally fast all the time.
fn compare(what: &str, counts: &[u32], mut cases: Vec<Measured<'_>>) {
    const ROUNDS: usize = 301;
    let mut best = vec![f64::MAX; cases.len()];
    for _ in 0..ROUNDS {
        best.iter_mut().zip(&mut cases).for_each(|(best, case)| *best = best.min(case.cost()));
    }
    counts.iter().zip(best).for_each(|(count, best)| println!("{what} {count} {best:.1}"));
}

fn flat() {
    let (few, many) = (frames(BATCH as u32), frames(65_536));
    let policies = [3, 300, 12_000, 120_000];
    compare("policies", &policies, policies.map(|count| leaving(&few, tables(count, 1))).into());
    compare("policies-new-flows", &policies, policies.map(|count| leaving(&many, tables(count, 1))).into());
    let sas = [1, 16, 400];
    compare("sas", &sas, sas.map(|count| leaving(&few, tables(1200, count))).into());
    let flows = [BATCH as u32, 4096, 65_536];
    compare("flows", &flows, flows.map(|count| leaving(&many[..count as usize], tables(300, 1))).into());
    let members = [2, 100, 10_000];
    let sent = members.map(Members::new);
    compare("members", &members, sent.iter().map(Members::arriving).collect());
}
