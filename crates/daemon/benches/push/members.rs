//! Members: how one registers, and the thread behind whose socket all of them are.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant as Clock};

use anyhow::{Context, Result, anyhow, bail};
use crypto::{CbcCipher, DhGroup, Hash, OsRandom, Secret};
use daemon::sys::udp::{self, Receiver, Source};
use proto::Role;
use proto::path::Path;
use proto::phase1::{self, Endpoint, Outcome};
use proto::pull::{self, Received};
use proto::push::{AcknowledgementKeys, AcknowledgementPrf, Kek, KekSpi};
use proto::server::Server;
use proto::time::Instant;
use wire::isakmp::Identity;
use wire::registry::{ExchangeType, KekKeyAttribute, KeyDownloadType};

/// The group of all members.
pub const GROUP_ID: u32 = 1;

/// The pre-shared key of all members.
const KEY: &[u8] = b"a benchmark secret of some length";

/// Datagrams that the members read with one system call.
const RECEIVE_BATCH: usize = 64;

/// Octets of the largest push here, and room.
const LARGEST: usize = 4096;

/// Octets of pushes that may wait for the members: as many as there are members, so that none is lost here.
const RECEIVE_BUFFER: i32 = 512 << 20;

/// Address of a member.
pub fn address(number: u32) -> IpAddr {
    Ipv4Addr::from(0x7f01_0000 + number).into()
}

/// Phase 1 with the peer at `peer`: aggressive mode, pre-shared key, 256-bit curve.
pub fn gateway(name: &str, peer: IpAddr) -> phase1::Gateway {
    phase1::Gateway {
        name: name.to_owned(),
        peer: phase1::Peer::Addresses(vec![peer]),
        local_address: None,
        mode: phase1::Mode::Aggressive,
        proposals: vec![phase1::Proposal {
            hash: Hash::Sha256,
            cipher: CbcCipher::Aes128,
            group: DhGroup::Ecp256,
            lifetime: Duration::from_secs(86_400),
        }],
        pre_shared_key: Secret::from_slice(KEY),
        local_identity: None,
        remote_identity: None,
        doi: phase1::DoiChoice::default(),
        non_esp_marker: false,
        dead_peer_detection: None,
    }
}

/// Registers a member with the server and returns the KEK it was given.
pub fn register(server: &mut Server, now: Instant, number: u32, path: Path) -> Result<Kek> {
    let mut random = OsRandom::new()?;
    let settings = phase1::Settings {
        gateways: vec![gateway("server", path.remote.ip())],
        ..phase1::Settings::default()
    };
    let mut endpoint = Endpoint::new(settings, &mut random);
    endpoint.connect(now, "server", path, &mut random).map_err(|error| anyhow!("{error:?}"))?;
    let mut buffer = Vec::new();
    let mut association = None;
    let mut exchange = None;
    let ni = [9; 32];
    let mut nr = Vec::new();
    loop {
        let mut quiet = true;
        while endpoint.poll_transmit(&mut buffer).is_some() {
            quiet = false;
            server.handle_datagram(now, path.reversed(), &buffer);
        }
        let mut messages = Vec::new();
        while server.poll_transmit(&mut buffer).is_some() {
            quiet = false;
            match endpoint.handle_datagram(now, path, &buffer, &mut random) {
                Outcome::Handled => {}
                Outcome::Phase2(message) => messages.push(message),
            }
        }
        while server.poll_event().is_some() {}
        while let Some(event) = endpoint.poll_event() {
            if let phase1::Event::Established { association: id, .. } = event {
                association = Some(id);
            }
        }
        let Some(id) = association else {
            if quiet {
                bail!("phase 1 of member {number} came to nothing");
            }
            continue;
        };
        let send = |endpoint: &mut Endpoint, message, encoded: &pull::Encoded| {
            let (first, octets) = (encoded.first(), encoded.octets());
            endpoint.send_phase2(now, id, ExchangeType::GROUPKEY_PULL, message, first, octets)
        };
        match (exchange, messages.pop()) {
            (None, _) => {
                let message = endpoint.start_phase2(now, id).map_err(|error| anyhow!("{error:?}"))?;
                exchange = Some(message);
                let association = endpoint.association(id).context("it was there")?;
                let group = Identity::key_id(GROUP_ID);
                let encoded = pull::message_1(association, message, &ni, &group, &[])?;
                send(&mut endpoint, message, &encoded).map_err(|error| anyhow!("{error:?}"))?;
            }
            (Some(message), Some(reply)) => {
                endpoint.accept(now, &reply).map_err(|error| anyhow!("{error:?}"))?;
                let received =
                    Received { id: reply.message_id, first: reply.first_payload, octets: &reply.payloads };
                let association = endpoint.association(id).context("it was there")?;
                if nr.is_empty() {
                    nr = pull::read_message_2(association, received, &ni)?.nonce;
                    let encoded = pull::message_3(association, message, &ni, &nr, None)?;
                    send(&mut endpoint, message, &encoded).map_err(|error| anyhow!("{error:?}"))?;
                } else {
                    return kek(&pull::read_message_4(association, received, &ni, &nr)?);
                }
            }
            (Some(_), None) if quiet => bail!("the server left member {number} without an answer"),
            (Some(_), None) => {}
        }
    }
}

/// The KEK that message 4 brought; its algorithms are those of the benchmark's configuration.
fn kek(message: &pull::Message4<'_>) -> Result<Kek> {
    let packet = message.keys.packets.iter().find(|packet| packet.kind == KeyDownloadType::KEK);
    let packet = packet.context("the server sent no KEK")?;
    let key = packet.attributes.bytes(KekKeyAttribute::ALGORITHM_KEY).context("no KEK_ALGORITHM_KEY")?;
    let cipher = CbcCipher::Aes128;
    let (iv, key) = Kek::split_algorithm_key(cipher, key)?;
    let spi = KekSpi((*packet.spi).try_into().context("an SPI of 16 octets")?);
    let acknowledgement = Some(AcknowledgementPrf::Sha256);
    Ok(Kek { spi, cipher, key, iv, hash: Hash::Sha256, acknowledgement })
}

/// All members behind one socket.
pub struct Household {
    kek: Kek,
    keys: AcknowledgementKeys,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    received: AtomicU64,
    answers: AtomicBool,
    stopped: AtomicBool,
}

impl Household {
    /// Opens the socket, for every address of the machine, and starts to read.
    pub fn start(kek: Kek, port: u16) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).context("the port of the members")?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        udp::request_local_addresses(socket.as_fd(), false)?;
        if udp::force_receive_buffer(socket.as_fd(), RECEIVE_BUFFER).is_err() {
            eprintln!("without the privilege for a large receive buffer, members may lose pushes");
        }
        let keys = kek.acknowledgement_keys().context("members acknowledge")?;
        let shared = Arc::<Shared>::default();
        let thread = std::thread::spawn({
            let (kek, keys, shared) = (kek.clone(), keys.clone(), Arc::clone(&shared));
            move || live(&socket, &kek, &keys, &shared)
        });
        Ok(Self { kek, keys, shared, thread: Some(thread) })
    }

    /// Pushes that came.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    /// Whether each push is acknowledged from now on.
    pub fn answer(&mut self, answers: bool) {
        self.shared.answers.store(answers, Ordering::Relaxed);
    }

    /// Waits until so many pushes have come, or nothing has come for a while.
    pub fn wait(&self, wanted: u64, patience: Duration) {
        let deadline = Clock::now() + patience;
        let mut last = (self.received(), Clock::now());
        while last.0 < wanted && Clock::now() < deadline && last.1.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(10));
            if self.received() != last.0 {
                last = (self.received(), Clock::now());
            }
        }
    }

    /// The sequence number of a push.
    pub fn sequence(&self, datagram: &[u8]) -> Result<u32> {
        Ok(proto::push::open(&self.kek, datagram)?.sequence())
    }

    /// What a member answers.
    pub fn acknowledgement(&self, number: u32, sequence: u32) -> Result<Vec<u8>> {
        Ok(self.keys.seal(self.kek.spi, sequence, &Identity::address(address(number)))?)
    }
}

impl Drop for Household {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads, and answers where it shall. Only the first copy of each message is decrypted: the members share a machine here.
fn live(socket: &UdpSocket, kek: &Kek, keys: &AcknowledgementKeys, shared: &Shared) {
    let mut receiver = Receiver::new(RECEIVE_BATCH, LARGEST);
    let mut known: (Vec<u8>, u32) = (Vec::new(), 0);
    while !shared.stopped.load(Ordering::Relaxed) {
        // A time-out only asks whether to stop.
        let mut poll = [rustix::event::PollFd::new(socket, rustix::event::PollFlags::IN)];
        let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        let _ = rustix::event::poll(&mut poll, Some(&timeout));
        while let Ok(count) = receiver.receive(socket.as_fd()) {
            if count == 0 {
                break;
            }
            if shared.answers.load(Ordering::Relaxed) {
                for datagram in receiver.received() {
                    if known.0 != datagram.octets {
                        let Ok(opened) = proto::push::open(kek, datagram.octets) else { continue };
                        known = (datagram.octets.to_vec(), opened.sequence());
                    }
                    let member = Identity::address(datagram.local);
                    let Ok(answer) = keys.seal(kek.spi, known.1, &member) else { continue };
                    // What the kernel does not take is lost, as on a network.
                    let source = Source::address(datagram.local);
                    let _ = udp::send(socket.as_fd(), source, datagram.remote, &answer);
                }
            }
            shared.received.fetch_add(count as u64, Ordering::Relaxed);
        }
    }
}
