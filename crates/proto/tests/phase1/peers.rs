//! Two endpoints on virtual time, and the network between them as the test wants it.

use std::net::SocketAddr;
use std::time::Duration;

use crypto::{CbcCipher, DhGroup, Hash, Secret, SeededRandom};
use proto::path::Path;
use proto::phase1::{
    AssociationId, DoiChoice, Endpoint, Event, Gateway, Mode, Outcome, Peer, Phase2Message, Proposal,
    Settings,
};
use proto::time::Instant;

/// Everybody's key, unless the test says otherwise.
pub const PRE_SHARED_KEY: &[u8] = b"not so secret, it is only a test";

/// How long a datagram travels.
pub const LATENCY: Duration = Duration::from_millis(20);

/// One endpoint with its address.
pub struct Host {
    pub address: SocketAddr,
    pub endpoint: Endpoint,
    pub random: SeededRandom,
    pub events: Vec<Event>,
    pub phase2: Vec<Phase2Message>,
    pub log: Vec<String>,
}

/// A datagram on its way.
#[derive(Clone, Debug)]
pub struct Datagram {
    pub arrives_at: Instant,
    pub path: Path,
    pub octets: Vec<u8>,
}

/// What the network does with the datagram of this number (counted from 0 as they are sent).
pub type Fate = Box<dyn FnMut(usize, &mut Datagram) -> Vec<Datagram>>;

/// Two hosts: `member` starts, `server` answers.
pub struct World {
    pub now: Instant,
    pub member: Host,
    pub server: Host,
    pub wire: Vec<Datagram>,
    /// Every datagram ever sent, in order.
    pub sent: Vec<Datagram>,
    pub fate: Fate,
}

pub fn proposal(cipher: CbcCipher, hash: Hash, group: DhGroup) -> Proposal {
    Proposal { cipher, hash, group, lifetime: Duration::from_secs(28_800) }
}

/// A gateway at `peer` with a cheap group.
pub fn gateway(name: &str, peer: &str) -> Gateway {
    Gateway {
        name: name.to_owned(),
        peer: Peer::Addresses(vec![peer.parse().unwrap()]),
        local_address: None,
        mode: Mode::Main,
        proposals: vec![proposal(CbcCipher::Aes128, Hash::Sha1, DhGroup::Ecp256)],
        pre_shared_key: Secret::from_slice(PRE_SHARED_KEY),
        local_identity: None,
        remote_identity: None,
        doi: DoiChoice::GdoiThenIpsec,
        non_esp_marker: false,
        dead_peer_detection: None,
    }
}

impl Host {
    pub fn new(address: &str, settings: Settings, seed: u64) -> Self {
        let mut random = SeededRandom::new(seed);
        Self {
            address: address.parse().unwrap(),
            endpoint: Endpoint::new(settings, &mut random),
            random,
            events: Vec::new(),
            phase2: Vec::new(),
            log: Vec::new(),
        }
    }

    pub fn receive(&mut self, now: Instant, path: Path, octets: &[u8]) {
        if let Outcome::Phase2(message) = self.endpoint.handle_datagram(now, path, octets, &mut self.random) {
            self.phase2.push(message);
        }
    }

    /// Drains what the endpoint has to say; returns what it sends.
    pub fn drain(&mut self, now: Instant) -> Vec<Datagram> {
        while let Some(event) = self.endpoint.poll_event() {
            self.events.push(event);
        }
        while let Some(entry) = self.endpoint.poll_log() {
            self.log.push(entry.to_string());
        }
        let mut sent = Vec::new();
        let mut octets = Vec::new();
        while let Some(path) = self.endpoint.poll_transmit(&mut octets) {
            sent.push(Datagram { arrives_at: now + LATENCY, path, octets: octets.clone() });
        }
        sent
    }

    /// The SA that was established first.
    pub fn established(&self) -> Option<AssociationId> {
        self.events.iter().find_map(|event| match event {
            Event::Established { association, .. } => Some(*association),
            _ => None,
        })
    }

    /// The texts of all events.
    pub fn told(&self) -> Vec<String> {
        self.events
            .iter()
            .map(|event| match event {
                Event::Established { gateway, .. } => format!("established {gateway}"),
                Event::Failed { failure, .. } => format!("failed: {failure}"),
                Event::Closed { reason, .. } => format!("closed: {reason}"),
                Event::Notified { notification, .. } => format!("notified: {}", notification.kind),
                Event::Deleted { .. } => "deleted".to_owned(),
                Event::PerhapsForgotten { .. } => "perhaps forgotten".to_owned(),
            })
            .collect()
    }
}

impl World {
    /// Two hosts with these gateways for each other.
    pub fn new(member: Gateway, server: Gateway) -> Self {
        let settings = |gateway| Settings { gateways: vec![gateway], ..Settings::default() };
        Self {
            now: Instant::from_micros(1_000_000_000),
            member: Host::new("192.0.2.2:848", settings(member), 1),
            server: Host::new("192.0.2.1:848", settings(server), 2),
            wire: Vec::new(),
            sent: Vec::new(),
            fate: Box::new(|_, datagram| vec![datagram.clone()]),
        }
    }

    /// Two hosts that agree in everything, after `change`.
    pub fn with(change: impl Fn(&mut Gateway)) -> Self {
        let mut member = gateway("server", "192.0.2.1");
        let mut server = gateway("member", "192.0.2.2");
        change(&mut member);
        change(&mut server);
        Self::new(member, server)
    }

    pub fn connect(&mut self) -> AssociationId {
        let path = Path::new(self.member.address, self.server.address);
        let now = self.now;
        let id = self.member.endpoint.connect(now, "server", path, &mut self.member.random).unwrap();
        self.flush();
        id
    }

    /// Puts what both hosts send onto the wire.
    pub fn flush(&mut self) {
        let mut datagrams = self.member.drain(self.now);
        datagrams.extend(self.server.drain(self.now));
        for mut datagram in datagrams {
            let number = self.sent.len();
            self.sent.push(datagram.clone());
            self.wire.extend((self.fate)(number, &mut datagram));
        }
    }

    /// Lets time pass until nothing happens before `end`.
    pub fn run_until(&mut self, end: Instant) {
        loop {
            self.flush();
            let arrival = self.wire.iter().map(|datagram| datagram.arrives_at).min();
            let timers = [self.member.endpoint.poll_timeout(), self.server.endpoint.poll_timeout()];
            let next = timers.into_iter().flatten().chain(arrival).min();
            let Some(next) = next.filter(|&next| next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            let (now, due): (Instant, Vec<Datagram>) = {
                let now = self.now;
                let (due, rest) = self.wire.drain(..).partition(|datagram| datagram.arrives_at <= now);
                self.wire = rest;
                (now, due)
            };
            for datagram in due {
                let host = if datagram.path.remote == self.server.address {
                    &mut self.server
                } else {
                    &mut self.member
                };
                host.receive(now, datagram.path.reversed(), &datagram.octets);
            }
            self.member.endpoint.handle_timeout(now);
            self.server.endpoint.handle_timeout(now);
        }
        self.now = self.now.max(end);
    }

    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(self.now + duration);
    }

    /// Connects and expects both to agree.
    pub fn establish(&mut self) -> (AssociationId, AssociationId) {
        self.connect();
        self.establish_rest()
    }

    /// Connects once more.
    pub fn establish_again(&mut self) {
        let before = self.member.events.len();
        self.connect();
        self.run_for(Duration::from_secs(5));
        let new = &self.member.events[before..];
        assert!(new.iter().any(|event| matches!(event, Event::Established { .. })), "{new:?}");
    }

    /// Waits until both agree.
    pub fn establish_rest(&mut self) -> (AssociationId, AssociationId) {
        self.run_for(Duration::from_secs(5));
        match (self.member.established(), self.server.established()) {
            (Some(member), Some(server)) => (member, server),
            _ => panic!(
                "no SA: {:?} {:?}\n{:?}\n{:?}",
                self.member.told(),
                self.server.told(),
                self.member.log,
                self.server.log
            ),
        }
    }
}
