//! Many members register at once with one server: real daemon, real UDP, a cable between them.
//!
//! Each member is the product's own member state machine with an address and a socket of its own; the server is `gvpnd`.
//! First single registrations on an otherwise idle machine, then all at once.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant as Clock};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use crypto::{CbcCipher, DhGroup, Hash, OsRandom, Secret};
use proto::Role;
use proto::member::{Event, GatewaySettings, GroupIdForm, Member, Settings, VpnSettings};
use proto::phase1;
use proto::time::Instant;
use rustix::event::epoll;
use serde_json::json;

/// What to measure.
#[derive(Debug, Args)]
pub struct Options {
    /// Print one JSON object a line instead of text.
    #[arg(long)]
    json: bool,
    /// Members that register at once.
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u16).range(1..=60_000))]
    members: u16,
    /// Single registrations before that, one after the other.
    #[arg(long, default_value_t = 20)]
    singles: u16,
    /// Set by this command when it calls itself inside the namespace.
    #[arg(long, hide = true)]
    inside: Option<PathBuf>,
}

/// Where the members are, and where the server is: both use port 848.
const MEMBERS: &str = "gvpn-bench-members";
const SERVERS: &str = "gvpn-bench-server";
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 201, 0, 1);
const PORT: u16 = 848;
const KEY: &str = "a lab secret of some length";
/// Milliseconds a single registration may take, group 14, idle machine.
const TARGET_SINGLE_MS: f64 = 50.0;
/// Time for all to register before the run counts as failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measure and print.
pub fn run(options: &Options) -> Result<()> {
    if let Some(programs) = &options.inside {
        return inside(options, programs);
    }
    crate::prepare(&["build", "lab"])?;
    let programs = crate::build_release(&["daemon", "cli"], &[])?;
    remove();
    let outcome = build().and_then(|()| {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", MEMBERS])
            .arg(std::env::current_exe()?)
            .args(["bench", "registration"]);
        command.arg("--members").arg(options.members.to_string());
        command.arg("--singles").arg(options.singles.to_string()).arg("--inside").arg(programs);
        if options.json {
            command.arg("--json");
        }
        ensure!(command.status()?.success(), "the measurement failed");
        Ok(())
    });
    remove();
    outcome
}

/// One cable between the two; all members' addresses are local on one side of it.
fn build() -> Result<()> {
    ip(&["netns", "add", MEMBERS])?;
    ip(&["netns", "add", SERVERS])?;
    ip(&["-n", MEMBERS, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", SERVERS])?;
    for namespace in [MEMBERS, SERVERS] {
        ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        ip(&["-n", namespace, "link", "set", "eth0", "up"])?;
    }
    ip(&["-n", MEMBERS, "address", "add", "10.201.0.2/24", "dev", "eth0"])?;
    ip(&["-n", SERVERS, "address", "add", &format!("{SERVER}/24"), "dev", "eth0"])?;
    ip(&["-n", MEMBERS, "route", "add", "local", "10.200.0.0/16", "dev", "lo"])?;
    ip(&["-n", SERVERS, "route", "add", "10.200.0.0/16", "via", "10.201.0.2"])
}

fn remove() {
    for namespace in [MEMBERS, SERVERS] {
        // It is not there unless an earlier run was cut off.
        let _ = Command::new("ip").args(["netns", "delete", namespace]).stderr(Stdio::null()).status();
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    ensure!(Command::new("ip").args(arguments).status()?.success(), "ip {} failed", arguments.join(" "));
    Ok(())
}

fn address(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 200, high, low)
}

fn configuration(count: u16) -> String {
    let mut text = format!(
        "security {{ group-vpn {{ server {{
    ike {{
        proposal p {{
            authentication-method pre-shared-keys; authentication-algorithm sha-256;
            encryption-algorithm aes-128-cbc; dh-group group14;
        }}
        policy p {{ proposals p; pre-shared-key ascii-text \"{KEY}\"; }}
"
    );
    for number in 1..=count {
        let _ = writeln!(text, "        gateway m{number} {{ ike-policy p; address {}; }}", address(number));
    }
    text += "    }\n    ipsec { proposal p { authentication-algorithm hmac-sha1-96; encryption-algorithm aes-128-cbc; } }\n";
    let _ = writeln!(text, "    group g {{\n        group-id 1; server-address {SERVER}; no-anti-replay;");
    for number in 1..=count {
        let _ = writeln!(text, "        ike-gateway m{number};");
    }
    text +=
        "        ipsec-sa sa { proposal p; match-policy m { source 10.0.0.0/8; destination 10.0.0.0/8; } }\n";
    text + "    }\n} } }\n"
}

struct Server {
    child: Child,
    folder: PathBuf,
}

impl Server {
    fn start(programs: &Path, count: u16) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("gvpn-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let file = folder.join("gvpnd.conf");
        std::fs::write(&file, configuration(count))?;
        let log = std::fs::File::create(folder.join("gvpnd.log"))?;
        // `ip netns exec` becomes the daemon: its pid is the daemon's.
        let mut command = Command::new("ip");
        command.args(["netns", "exec", SERVERS]).arg(programs.join("gvpnd"));
        command
            .arg("--config")
            .arg(&file)
            .arg("--runtime-dir")
            .arg(&folder)
            .arg("--state-dir")
            .arg(folder.join("state"));
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut server = Self { child, folder };
        let start = Clock::now();
        while !server.answers(programs) {
            if let Some(status) = server.child.try_wait()? {
                bail!(
                    "gvpnd ended ({status}): {}",
                    std::fs::read_to_string(server.folder.join("gvpnd.log"))?
                );
            }
            ensure!(start.elapsed() < Duration::from_secs(20), "gvpnd did not open its control socket");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    fn answers(&self, programs: &Path) -> bool {
        let mut command = Command::new(programs.join("gvpn"));
        command.arg("--runtime-dir").arg(&self.folder);
        command
            .args(["show", "security", "group-vpn", "server", "statistics"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// Resident octets.
    fn memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.split_whitespace().nth(1).context("VmRSS is empty")?.parse()?;
        Ok(kib * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

struct Station {
    member: Member,
    socket: UdpSocket,
}

impl Station {
    fn new(number: u16) -> Result<Self> {
        let local = IpAddr::V4(address(number));
        let gateway = GatewaySettings {
            phase1: phase1::Gateway {
                name: "server".into(),
                peer: phase1::Peer::Addresses(vec![SERVER.into()]),
                local_address: Some(local),
                mode: phase1::Mode::Main,
                proposals: vec![phase1::Proposal {
                    hash: Hash::Sha256,
                    cipher: CbcCipher::Aes128,
                    group: DhGroup::Modp2048,
                    lifetime: Duration::from_secs(3600),
                }],
                pre_shared_key: Secret::new(KEY.as_bytes().to_vec()),
                local_identity: None,
                remote_identity: None,
                doi: phase1::DoiChoice::default(),
                non_esp_marker: false,
                dead_peer_detection: None,
            },
            server_port: PORT,
            local_port: PORT,
        };
        let vpn = VpnSettings {
            name: "vpn".into(),
            gateway: "server".into(),
            group_id: 1,
            group_id_form: GroupIdForm::default(),
            df_bit: "clear".into(),
            routing_instance: "default".into(),
            recovery_probe: false,
            heartbeat_threshold: 3,
            sender_ids: 4,
            paired_policies_only: false,
            rsa_bare_hash: false,
        };
        let settings = Settings { gateways: vec![gateway], vpns: vec![vpn], ..Settings::default() };
        let random = Box::new(OsRandom::new().context("random numbers")?);
        let socket =
            UdpSocket::bind(SocketAddr::new(local, PORT)).with_context(|| format!("binding {local}"))?;
        socket.set_nonblocking(true)?;
        Ok(Self { member: Member::new(Instant::default(), settings, random), socket })
    }

    /// Send what there is to send; true once the member is registered.
    fn drain(&mut self, buffer: &mut Vec<u8>) -> Result<bool> {
        while let Some(path) = self.member.poll_transmit(buffer) {
            self.socket.send_to(buffer, path.remote)?;
        }
        let mut registered = false;
        while let Some(event) = self.member.poll_event() {
            match event {
                Event::Registered { .. } => registered = true,
                Event::RegistrationFailed { reason, .. } => bail!("a registration failed: {reason}"),
                Event::InstallSas { .. }
                | Event::SenderIds { .. }
                | Event::PseudoTime { .. }
                | Event::RemoveSas { .. }
                | Event::JoinGroup { .. }
                | Event::LeaveGroup { .. }
                | Event::Log(_) => {}
            }
        }
        Ok(registered)
    }

    fn receive(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Result<bool> {
        let local = self.socket.local_addr()?;
        let mut datagram = [0; 65_535];
        while let Ok((length, remote)) = self.socket.recv_from(&mut datagram) {
            self.member.handle_datagram(now, proto::path::Path::new(local, remote), &datagram[..length]);
        }
        self.drain(buffer)
    }
}

/// Register members `first..first + count` at once; returns when the last one is.
fn register(first: u16, count: u16) -> Result<Duration> {
    let mut stations = (first..first + count).map(Station::new).collect::<Result<Vec<_>>>()?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (index, station) in stations.iter().enumerate() {
        epoll::add(
            &poll,
            station.socket.as_fd(),
            epoll::EventData::new_u64(index as u64),
            epoll::EventFlags::IN,
        )?;
    }
    let mut missing: BTreeSet<usize> = (0..stations.len()).collect();
    let mut buffer = Vec::new();
    let start = Clock::now();
    let now = |start: Clock| Instant::from_micros(start.elapsed().as_micros() as u64);
    for station in &mut stations {
        station.member.interface_up(now(start), "vpn", None);
        station.drain(&mut buffer)?;
    }
    let mut events = Vec::with_capacity(256);
    let mut last_timers = Clock::now();
    while !missing.is_empty() {
        ensure!(start.elapsed() < PATIENCE, "{} of {count} members are not registered", missing.len());
        events.clear();
        let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&timeout))?;
        for event in &events {
            let index = event.data.u64() as usize;
            if stations[index].receive(now(start), &mut buffer)? {
                missing.remove(&index);
            }
        }
        if last_timers.elapsed() > Duration::from_millis(20) {
            last_timers = Clock::now();
            for index in missing.clone() {
                let moment = now(start);
                if stations[index].member.poll_timeout().is_some_and(|due| due <= moment) {
                    stations[index].member.handle_timeout(moment);
                    stations[index].drain(&mut buffer)?;
                }
            }
        }
    }
    Ok(start.elapsed())
}

fn inside(options: &Options, programs: &Path) -> Result<()> {
    let total = options.members + options.singles;
    let _ = rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: Some(70_000), maximum: Some(70_000) },
    );
    let server = Server::start(programs, total)?;
    let mut singles = Vec::new();
    for number in 1..=options.singles {
        singles.push(register(number, 1)?.as_secs_f64() * 1e3);
    }
    singles.sort_by(f64::total_cmp);
    let single = singles.get(singles.len() / 2).copied();
    let before = server.memory()?;
    let time = register(options.singles + 1, options.members)?;
    let memory = server.memory()?.saturating_sub(before) / u64::from(options.members);
    let rate = f64::from(options.members) / time.as_secs_f64();
    if options.json {
        if let Some(milliseconds) = single {
            let ratio = TARGET_SINGLE_MS / milliseconds;
            println!(
                "{}",
                json!({"name": "registration/single", "milliseconds": milliseconds, "ratio": ratio, "target": 1.0})
            );
        }
        println!(
            "{}",
            json!({"name": "registration/at-once", "members": options.members, "registrations_per_second": rate,
                   "memory_per_member": memory, "ratio": 1.0, "target": 1.0})
        );
    } else {
        if let Some(milliseconds) = single {
            let (low, high) = (singles[0], singles[singles.len() - 1]);
            println!(
                "one member, idle machine, group 14: {milliseconds:.1} ms (median of {}, {low:.1} to {high:.1}); target {TARGET_SINGLE_MS} ms",
                singles.len()
            );
        }
        println!(
            "{} members at once: all registered in {:.2} s, {rate:.0} registrations/s (server and members share this machine)",
            options.members,
            time.as_secs_f64()
        );
        println!("memory of the server: {memory} octets a member");
    }
    Ok(())
}
