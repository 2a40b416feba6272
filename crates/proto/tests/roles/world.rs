//! A key server and members on virtual time, with a network between them that a test may interfere with.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crypto::signature::{SigningKey, SigningKeyKind};
use crypto::{CbcCipher, DhGroup, EspSuite, Hash, Integrity, Secret, SeededRandom};
use proto::member::{self, GatewaySettings, GroupIdForm, Member, VpnSettings};
use proto::path::Path;
use proto::phase1::{self, DoiChoice, Gateway, Mode, Peer, Proposal};
use proto::server::{
    self, Communication, GroupSettings, IpsecSaSettings, MatchPolicy, PushSettings, Recipients, Server,
};
use proto::time::Instant;
use proto::{Role, log};
use wire::codec::LengthWidth;
use wire::isakmp::Message;
use wire::registry::ExchangeType;
use wire::selector::Selector;

pub const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(100, 0, 0, 100));
pub const GROUP: u32 = 1;

/// POSIX time at the origin of the worlds' clock.
pub const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// Who sent a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Server,
    Member(usize),
}

/// A datagram as the network sees it.
pub struct Seen<'a> {
    pub bytes: &'a [u8],
    /// `main 1`, `pull 3`, `info 2`: which message of which exchange; repetitions keep their number.
    pub label: String,
    /// Whether these bytes were seen before.
    pub again: bool,
    /// The member that sends it or that it is for.
    pub member: Option<usize>,
}

/// What the network does with a datagram.
pub enum Fate {
    Deliver,
    Lose,
    Twice,
    Late(Duration),
    Instead(Vec<Vec<u8>>),
}

type Network = Box<dyn FnMut(&Seen<'_>) -> Fate>;

pub struct World {
    pub now: Instant,
    pub server: Option<Server>,
    pub members: Vec<Member>,
    pub member_events: Vec<(Instant, usize, member::Event)>,
    pub server_events: Vec<server::Event>,
    pub server_log: Vec<log::Entry>,
    pub member_log: Vec<log::Entry>,
    pub trace: Vec<String>,
    /// What the server wants kept, and when it said so; `None`: nobody keeps anything.
    pub disk: Option<BTreeMap<String, (Instant, Secret)>>,
    /// The server dies at the so manieth moment at which it has something to keep, before or after it is kept.
    pub crash: Option<(usize, Crash)>,
    /// Group addresses that each member listens to.
    pub joined: BTreeSet<(usize, IpAddr)>,
    network: Network,
    in_flight: BTreeMap<(Instant, u64), (End, Path, Vec<u8>)>,
    counter: u64,
    exchanges: BTreeMap<(ExchangeType, [u8; 8], u32), Vec<Vec<u8>>>,
}

/// When a server dies that has something to keep and something to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Nothing is kept, nothing is sent.
    BeforeKeeping,
    /// It is kept, nothing is sent.
    BeforeSending,
}

pub const ONE_WAY: Duration = Duration::from_millis(5);

impl World {
    pub fn new(server: server::Settings, members: Vec<member::Settings>) -> Self {
        let start = Instant::from_micros(1_000_000_000);
        let members = members.into_iter().enumerate().map(|(index, settings)| {
            Member::new(start, settings, Box::new(SeededRandom::new(1000 + index as u64)))
        });
        Self {
            now: start,
            members: members.collect(),
            server: Some(Server::new(start, server, Box::new(SeededRandom::new(1)))),
            member_events: Vec::new(),
            server_events: Vec::new(),
            server_log: Vec::new(),
            member_log: Vec::new(),
            trace: Vec::new(),
            disk: None,
            crash: None,
            joined: BTreeSet::new(),
            network: Box::new(|_| Fate::Deliver),
            in_flight: BTreeMap::new(),
            counter: 0,
            exchanges: BTreeMap::new(),
        }
    }

    /// One server, one member of one group, as in the seed.
    pub fn pair() -> Self {
        Self::new(server_settings(1, vec![group(GROUP, 1, &[policy(1)])]), vec![member_settings(0, &[GROUP])])
    }

    #[must_use]
    pub fn with_network(mut self, network: impl FnMut(&Seen<'_>) -> Fate + 'static) -> Self {
        self.network = Box::new(network);
        self
    }

    pub fn set_network(&mut self, network: impl FnMut(&Seen<'_>) -> Fate + 'static) {
        self.network = Box::new(network);
    }

    pub fn server(&mut self) -> &mut Server {
        self.server.as_mut().expect("the server runs")
    }

    pub fn shown(&self) -> &Server {
        self.server.as_ref().expect("the server runs")
    }

    /// The interfaces of all VPNs of all members are up.
    pub fn up(&mut self) {
        for index in 0..self.members.len() {
            for vpn in self.members[index].ipsec_security_associations(self.now) {
                let now = self.now;
                self.members[index].interface_up(now, &vpn.vpn, None);
            }
        }
        self.collect();
    }

    pub fn act<T>(&mut self, act: impl FnOnce(&mut Self, Instant) -> T) -> T {
        let now = self.now;
        let result = act(self, now);
        self.collect();
        result
    }

    /// Lets time pass.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(next) = self.next_moment().filter(|next| *next <= end) {
            assert!(next >= self.now);
            self.now = next;
            self.step();
        }
        self.now = end;
    }

    /// Lets time pass until something has happened or so much time has passed. Returns whether it happened.
    pub fn run_until(&mut self, limit: Duration, mut happened: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            if happened(self) {
                return true;
            }
            match self.next_moment() {
                Some(next) if next <= end => {
                    self.now = next;
                    self.step();
                }
                _ => return false,
            }
        }
    }

    pub fn registered(&self, member: usize) -> usize {
        self.events_of(member).filter(|event| matches!(event, member::Event::Registered { .. })).count()
    }

    pub fn events_of(&self, member: usize) -> impl Iterator<Item = &member::Event> {
        self.member_events.iter().filter(move |(_, index, _)| *index == member).map(|(_, _, event)| event)
    }

    pub fn failures(&self, member: usize) -> Vec<String> {
        self.events_of(member)
            .filter_map(|event| match event {
                member::Event::RegistrationFailed { reason, .. } => Some(reason.to_string()),
                _ => None,
            })
            .collect()
    }

    /// SPIs that a member holds, in order.
    pub fn member_spis(&self, member: usize) -> Vec<u32> {
        let vpns = self.members[member].ipsec_security_associations(self.now);
        vpns.iter().flat_map(|vpn| &vpn.security_associations).map(|sa| sa.spi.0).collect()
    }

    pub fn server_spis(&self) -> Vec<u32> {
        let groups = self.shown().ipsec_security_associations(self.now);
        groups.iter().flat_map(|group| &group.security_associations).map(|sa| sa.spi.0).collect()
    }

    pub fn statistics(&self) -> control::ServerStatistics {
        self.shown().statistics(self.now).swap_remove(0)
    }

    fn next_moment(&self) -> Option<Instant> {
        let roles = self.members.iter().filter_map(Role::poll_timeout);
        let server = self.server.as_ref().and_then(Role::poll_timeout);
        let timers = roles.chain(server).min().map(|due| due.max(self.now));
        let network = self.in_flight.keys().next().map(|(at, _)| *at);
        timers.into_iter().chain(network).min()
    }

    fn step(&mut self) {
        while let Some(entry) = self.in_flight.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (to, path, bytes) = entry.remove();
            match to {
                // Other addresses than the server's have nobody behind them.
                End::Server => {
                    if let Some(server) = self.server.as_mut().filter(|_| path.local.ip() == SERVER) {
                        server.handle_datagram(self.now, path, &bytes);
                    }
                }
                End::Member(index) => self.members[index].handle_datagram(self.now, path, &bytes),
            }
            self.collect();
        }
        if let Some(server) = &mut self.server {
            server.handle_timeout(self.now);
        }
        for member in &mut self.members {
            member.handle_timeout(self.now);
        }
        self.collect();
    }

    fn collect(&mut self) {
        let mut buffer = Vec::new();
        let mut sent = Vec::new();
        self.keep();
        if let Some(server) = &mut self.server {
            while let Some(path) = server.poll_transmit(&mut buffer) {
                sent.push((End::Server, path, buffer.clone()));
            }
            while let Some(batch) = server.poll_push() {
                let copies = match batch.to {
                    Recipients::Unicast(paths) => {
                        assert!((1..=server::BATCH).contains(&paths.len()));
                        paths
                    }
                    Recipients::Multicast { group, .. } => {
                        let listeners = self.joined.iter().filter(|(_, address)| *address == group.ip());
                        let source = SocketAddr::new(SERVER, 848);
                        // Who listens tells by which address the network knows him.
                        listeners
                            .map(|(index, _)| Path::new(source, (member_address(*index), 848).into()))
                            .collect()
                    }
                };
                sent.extend(copies.into_iter().map(|path| (End::Server, path, batch.datagram.to_vec())));
            }
            while let Some(event) = server.poll_event() {
                match event {
                    server::Event::Log(entry) => self.server_log.push(entry),
                    event => self.server_events.push(event),
                }
            }
        }
        for (index, member) in self.members.iter_mut().enumerate() {
            while let Some(path) = member.poll_transmit(&mut buffer) {
                sent.push((End::Member(index), path, buffer.clone()));
            }
            while let Some(event) = member.poll_event() {
                match event {
                    member::Event::Log(entry) => self.member_log.push(entry),
                    member::Event::JoinGroup { group, .. } => {
                        self.joined.insert((index, group));
                    }
                    member::Event::LeaveGroup { group, .. } => {
                        self.joined.remove(&(index, group));
                    }
                    event => self.member_events.push((self.now, index, event)),
                }
            }
        }
        for (from, path, bytes) in sent {
            self.transmit(from, path, bytes);
        }
    }

    /// Keeps what the server wants kept, before anything is sent.
    fn keep(&mut self) {
        let (Some(disk), Some(server)) = (&mut self.disk, &mut self.server) else { return };
        while server.has_changes() {
            let changes = server.take_changes(self.now);
            if let Some((countdown, crash)) = &mut self.crash {
                if *countdown > 0 {
                    *countdown -= 1;
                } else if *crash == Crash::BeforeKeeping {
                    (self.server, self.crash) = (None, None);
                    return;
                }
            }
            for change in changes {
                match change.content {
                    Some(content) => disk.insert(change.place, (self.now, content)),
                    None => disk.remove(&change.place),
                };
            }
            if let Some((0, Crash::BeforeSending)) = self.crash {
                (self.server, self.crash) = (None, None);
                return;
            }
        }
    }

    /// What was kept, as a restarted server finds it.
    pub fn records(&self) -> Vec<server::Record> {
        let disk = self.disk.as_ref().expect("somebody keeps it");
        let record = |(place, (written, content)): (&String, &(Instant, Secret))| server::Record {
            place: place.clone(),
            content: content.clone(),
            age: self.now - *written,
        };
        disk.iter().map(record).collect()
    }

    /// The server runs again, with what was kept.
    pub fn restart_server(&mut self, settings: server::Settings) {
        let random = Box::new(SeededRandom::new(self.now.as_micros()));
        let server = Server::restored(self.now, settings, random, &self.records());
        self.server = Some(server.expect("the records are sound"));
        self.collect();
    }

    fn transmit(&mut self, from: End, path: Path, bytes: Vec<u8>) {
        let (label, again) = self.label(from, &bytes);
        let member = match from {
            End::Member(index) => Some(index),
            End::Server => member_index(path.remote.ip()),
        };
        let fate = (self.network)(&Seen { bytes: &bytes, label: label.clone(), again, member });
        let arrow = if from == End::Server { "<--" } else { "-->" };
        let note = match &fate {
            Fate::Deliver => "",
            Fate::Lose => " lost",
            Fate::Twice => " twice",
            Fate::Late(_) => " late",
            Fate::Instead(_) => " changed",
        };
        self.trace.push(format!("{arrow} {label}{}{note}", if again { " again" } else { "" }));
        match fate {
            Fate::Deliver => self.put(from, path, ONE_WAY, bytes),
            Fate::Lose => {}
            Fate::Twice => {
                self.put(from, path, ONE_WAY, bytes.clone());
                self.put(from, path, ONE_WAY * 2, bytes);
            }
            Fate::Late(delay) => self.put(from, path, ONE_WAY + delay, bytes),
            Fate::Instead(others) => {
                for other in others {
                    self.put(from, path, ONE_WAY, other);
                }
            }
        }
    }

    /// Puts a datagram on the wire, to arrive after `delay`. Members send from unspecified addresses; the network
    /// knows them.
    fn put(&mut self, from: End, path: Path, delay: Duration, bytes: Vec<u8>) {
        let (to, arriving) = match from {
            End::Member(index) => {
                let source = SocketAddr::new(member_address(index), path.local.port());
                (End::Server, Path::new(path.remote, source))
            }
            End::Server => {
                let Some(index) = member_index(path.remote.ip()).filter(|index| *index < self.members.len())
                else {
                    return;
                };
                (End::Member(index), path.reversed())
            }
        };
        self.counter += 1;
        self.in_flight.insert((self.now + delay, self.counter), (to, arriving, bytes));
    }

    fn label(&mut self, _from: End, bytes: &[u8]) -> (String, bool) {
        let Ok(message) = Message::parse(bytes) else { return ("garbage".to_owned(), false) };
        let header = message.header;
        let key = (header.exchange, header.initiator_cookie.0, header.message_id.0);
        let seen = self.exchanges.entry(key).or_default();
        let known = seen.iter().position(|earlier| earlier == bytes);
        let number = known.unwrap_or_else(|| {
            seen.push(bytes.to_vec());
            seen.len() - 1
        });
        let name = match header.exchange {
            ExchangeType::IDENTITY_PROTECTION => "main",
            ExchangeType::AGGRESSIVE => "aggressive",
            ExchangeType::INFORMATIONAL => "info",
            ExchangeType::GROUPKEY_PULL => "pull",
            ExchangeType::GROUPKEY_PUSH => "push",
            ExchangeType::GROUPKEY_PUSH_ACK => "acknowledgement",
            _ => "other",
        };
        (format!("{name} ({})", number + 1), known.is_some())
    }
}

pub fn member_address(index: usize) -> IpAddr {
    let number = 0x0a00_0001 + index as u32;
    IpAddr::V4(number.into())
}

fn member_index(address: IpAddr) -> Option<usize> {
    match address {
        IpAddr::V4(address) => u32::from(address).checked_sub(0x0a00_0001).map(|index| index as usize),
        IpAddr::V6(_) => None,
    }
}

pub fn seconds(value: u64) -> Duration {
    Duration::from_secs(value)
}

fn gateway(name: String, peers: Vec<IpAddr>, local: Option<IpAddr>) -> Gateway {
    Gateway {
        name,
        peer: Peer::Addresses(peers),
        local_address: local,
        mode: Mode::Main,
        proposals: vec![Proposal {
            hash: Hash::Sha1,
            cipher: CbcCipher::Aes128,
            group: DhGroup::Ecp256,
            lifetime: seconds(86_400),
        }],
        pre_shared_key: Secret::from_slice(b"juniper juniper juniper"),
        local_identity: None,
        remote_identity: None,
        doi: DoiChoice::default(),
        non_esp_marker: false,
        dead_peer_detection: None,
    }
}

pub fn gateway_name(index: usize) -> String {
    format!("member-{index}")
}

/// A server that knows so many members by their addresses, each listed for every group.
pub fn server_settings(members: usize, mut groups: Vec<GroupSettings>) -> server::Settings {
    let names: Vec<_> = (0..members).map(gateway_name).collect();
    for group in &mut groups {
        if group.gateways.is_empty() {
            group.gateways.clone_from(&names);
        }
    }
    server::Settings {
        epoch: EPOCH,
        gateways: (0..members)
            .map(|index| gateway(gateway_name(index), vec![member_address(index)], None))
            .collect(),
        retransmission: phase1::Retransmission::default(),
        groups,
    }
}

pub const SUITE: EspSuite = EspSuite::Cbc { cipher: CbcCipher::Aes128, integrity: Integrity::HmacSha1_96 };

pub fn group(id: u32, sas: usize, policies: &[MatchPolicy]) -> GroupSettings {
    GroupSettings {
        name: format!("group-{id}"),
        id,
        gateways: Vec::new(),
        member_threshold: None,
        activation_time_delay: seconds(15),
        multicast_group: None,
        id_length: LengthWidth::One,
        sender_id_bits: 16,
        push: None,
        ipsec_sas: (0..sas)
            .map(|index| IpsecSaSettings {
                name: format!("sa-{index}"),
                suite: SUITE,
                lifetime: seconds(3600),
                anti_replay: None,
                policies: policies.to_vec(),
            })
            .collect(),
    }
}

/// Signs the pushes of every world; making one takes time.
pub fn signing_key() -> SigningKey {
    static KEY: std::sync::OnceLock<SigningKey> = std::sync::OnceLock::new();
    KEY.get_or_init(|| SigningKey::generate(SigningKeyKind::EcdsaP256).expect("a key can be made")).clone()
}

/// `server-member-communication` with the usual times, and no heartbeat.
pub fn pushing(communication: Communication) -> PushSettings {
    PushSettings {
        communication,
        source: Some(SERVER),
        lifetime: seconds(86_400),
        retransmission_period: seconds(10),
        number_of_retransmission: 2,
        heartbeat: None,
        cipher: CbcCipher::Aes128,
        hash: Hash::Sha256,
        signing_key: signing_key(),
    }
}

pub fn unicast() -> PushSettings {
    pushing(Communication::Unicast { acknowledgement_required: false })
}

pub const MULTICAST_GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 1, 1, 1));

pub fn multicast() -> PushSettings {
    pushing(Communication::Multicast { group: MULTICAST_GROUP, interface: "lo0.0".to_owned() })
}

pub fn policy(number: u32) -> MatchPolicy {
    let prefix = |base: u32| {
        let address = Ipv4Addr::from(base + (number << 8));
        ipnet::Ipv4Net::new(address, 24).expect("24 is a prefix length").into()
    };
    MatchPolicy {
        name: format!("policy-{number}"),
        selector: Selector::between(prefix(0x1f00_0000), prefix(0x2900_0000)),
    }
}

/// A member of these groups, one VPN each, all over the same gateway.
pub fn member_settings(index: usize, groups: &[u32]) -> member::Settings {
    member_of_servers(index, groups, vec![SERVER])
}

pub fn member_of_servers(index: usize, groups: &[u32], servers: Vec<IpAddr>) -> member::Settings {
    member::Settings {
        gateways: vec![GatewaySettings {
            phase1: gateway("server".to_owned(), servers, Some(member_address(index))),
            server_port: 848,
            local_port: 848,
        }],
        retransmission: phase1::Retransmission::default(),
        vpns: groups
            .iter()
            .map(|id| VpnSettings {
                name: format!("vpn-{id}"),
                gateway: "server".to_owned(),
                group_id: *id,
                group_id_form: GroupIdForm::default(),
                df_bit: "clear".to_owned(),
                routing_instance: "default".to_owned(),
                recovery_probe: false,
                heartbeat_threshold: 3,
                sender_ids: 4,
                paired_policies_only: false,
                rsa_bare_hash: false,
            })
            .collect(),
    }
}

/// All different values of an iterator.
pub fn distinct<T: Ord>(values: impl IntoIterator<Item = T>) -> usize {
    values.into_iter().collect::<BTreeSet<_>>().len()
}
