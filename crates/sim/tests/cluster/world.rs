//! Servers, members, the store, and chance, which decides what happens next and what is checked after it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use crypto::{Random as _, SeededRandom};
use proto::Role as _;
use proto::member::{Event as MemberEvent, Member};
use proto::path::Path;
use proto::server::{Cooperation, Recipients, Server};
use proto::time::Instant;

use crate::driver::{Driver, Output};
use crate::settings::{self, MEMBERS, SERVERS, VPN, member_address, server_address};
use crate::store::{Connection, Event, LEASE, Store};

/// The member that reads every push when it is committed, and none that comes by the network.
const OBSERVER: usize = MEMBERS - 1;

/// Exchange type of a push.
const PUSH: u8 = 33;

/// A datagram on its way.
struct Datagram {
    to_member: Option<usize>,
    path: Path,
    octets: Vec<u8>,
}

/// What a server is up to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Awake,
    /// It does nothing until then.
    Asleep(Instant),
    /// It is gone until then.
    Dead(Instant),
}

pub struct World {
    now: Instant,
    push: bool,
    chance: SeededRandom,
    store: Store,
    connections: Vec<Connection>,
    drivers: Vec<Driver>,
    health: Vec<Health>,
    /// Until when a server does not reach the store.
    cut_off_until: Vec<Option<Instant>>,
    lives: u64,
    members: Vec<Member>,
    wire: BTreeMap<(Instant, u64), Datagram>,
    sent: u64,
    /// Follows the records as they are: what is committed.
    shadow: Server,
    /// TEKs in the order in which they were committed.
    order: Vec<u32>,
    sender_ids: BTreeSet<(usize, u32)>,
    trouble: Option<String>,
    quiet: bool,
}

impl World {
    pub fn new(seed: u64, push: bool) -> Self {
        let now = Instant::from_micros(1_000_000_000);
        let member = |index: usize, seed: u64| {
            Member::new(now, settings::member(index), Box::new(SeededRandom::new(seed)))
        };
        let shadow = Cooperation { name: "shadow".into(), incarnation: "shadow.0".into() };
        let mut world = Self {
            now,
            push,
            chance: SeededRandom::new(seed),
            store: Store::default(),
            connections: (0..SERVERS).map(|_| Connection::default()).collect(),
            drivers: (0..SERVERS)
                .map(|index| Driver::new(now, index, seed * 1000 + index as u64, push))
                .collect(),
            health: vec![Health::Awake; SERVERS],
            cut_off_until: vec![None; SERVERS],
            lives: seed * 1000 + SERVERS as u64,
            members: (0..MEMBERS).map(|index| member(index, seed * 10 + index as u64)).collect(),
            wire: BTreeMap::new(),
            sent: 0,
            shadow: Server::cooperating(
                now,
                settings::server(push),
                Box::new(SeededRandom::new(seed)),
                shadow,
            ),
            order: Vec::new(),
            sender_ids: BTreeSet::new(),
            trouble: None,
            quiet: false,
        };
        for index in 0..SERVERS {
            world.connect(index);
        }
        for _ in 0..50 {
            world.quietly();
        }
        for index in 0..MEMBERS {
            let now = world.now;
            world.members[index].interface_up(now, VPN, None);
        }
        world
    }

    /// Something happens.
    pub fn step(&mut self) {
        match self.within(1000) {
            0..10 => {
                let server = self.within(SERVERS as u64) as usize;
                let until = self.now + Duration::from_millis(self.within(15_000));
                if self.awake(server) {
                    self.health[server] = Health::Asleep(until);
                }
            }
            10..16 => {
                let server = self.within(SERVERS as u64) as usize;
                self.kill(server);
            }
            16..26 => {
                let server = self.within(SERVERS as u64) as usize;
                if !self.connections[server].connected {
                    return self.pass();
                }
                self.cut_off(server);
                self.cut_off_until[server] = Some(self.now + Duration::from_millis(self.within(20_000)));
            }
            26..40 => {
                let member = self.within(MEMBERS as u64) as usize;
                let now = self.now;
                self.members[member].reregister(now, VPN);
            }
            _ => {}
        }
        self.pass();
    }

    /// All troubles end, and everything gets its time.
    pub fn come_to_rest(&mut self) {
        self.quiet = true;
        self.health.iter_mut().for_each(|health| {
            if let Health::Asleep(until) | Health::Dead(until) = health {
                *until = self.now;
            }
        });
        self.cut_off_until.iter_mut().flatten().for_each(|until| *until = self.now);
        let end = self.now + Duration::from_secs(90);
        while self.now < end {
            self.pass();
        }
    }

    pub fn check(&self, when: &str) {
        assert!(self.trouble.is_none(), "{when}: {}", self.trouble.as_deref().unwrap_or_default());
    }

    /// All servers and members have what is committed.
    pub fn check_rest(&self, when: &str) {
        self.check(when);
        let committed = spis(&self.shadow, self.now);
        assert!(!committed.is_empty(), "{when}");
        for driver in &self.drivers {
            assert_eq!(spis(&driver.server, self.now), committed, "{when}");
        }
        assert_eq!(self.drivers.iter().filter(|driver| driver.leads()).count(), 1, "{when}");
        let active = active(&self.shadow, self.now);
        for member in &self.members {
            let held = held(member, self.now);
            assert!(active.iter().all(|spi| held.contains(spi)), "{when}: {active:x?} of {held:x?}");
        }
    }

    fn within(&mut self, limit: u64) -> u64 {
        let mut octets = [0; 8];
        self.chance.fill(&mut octets);
        u64::from_be_bytes(octets) % limit
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.within(100) < percent
    }

    fn quietly(&mut self) {
        self.quiet = true;
        self.pass();
        self.quiet = false;
    }

    fn awake(&self, server: usize) -> bool {
        self.health[server] == Health::Awake
    }

    /// A little time passes: up to half a second, in which each queue moves by chance.
    fn pass(&mut self) {
        let passed = Duration::from_millis(20 + self.within(400));
        self.now += passed;
        for server in 0..SERVERS {
            match self.health[server] {
                Health::Asleep(until) if until <= self.now => self.health[server] = Health::Awake,
                Health::Dead(until) if until <= self.now => {
                    self.health[server] = Health::Awake;
                    self.connect(server);
                }
                _ => {}
            }
            if self.awake(server) && self.cut_off_until[server].take_if(|until| *until <= self.now).is_some()
            {
                self.connect(server);
            }
            self.keep_lease(server);
        }
        let candidate = self.within(SERVERS as u64) as usize;
        self.store.elect(self.now, &mut self.connections, candidate);
        for server in 0..SERVERS {
            self.move_queues(server);
        }
        while let Some(entry) = self.wire.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let datagram = entry.remove();
            self.deliver(datagram);
        }
        for server in 0..SERVERS {
            if self.awake(server) {
                let now = self.now;
                self.drivers[server].server.handle_timeout(now);
                self.drain_server(server);
            }
        }
        for index in 0..MEMBERS {
            let now = self.now;
            self.members[index].handle_timeout(now);
            self.drain_member(index);
        }
    }

    /// The lease of a server that is awake and connected is renewed; one that ended costs the connection.
    fn keep_lease(&mut self, server: usize) {
        let connection = &mut self.connections[server];
        if !connection.connected || self.health[server] != Health::Awake {
            return;
        }
        if connection.lease_until.is_some_and(|until| until <= self.now) {
            self.cut_off(server);
            self.connect(server);
        } else {
            connection.lease_until = Some(self.now + LEASE);
        }
    }

    fn connect(&mut self, server: usize) {
        // The lease of the connection before is given back, and with it an election.
        self.store.leader = self.store.leader.filter(|(leader, _)| *leader != server);
        let records = self.store.all(self.now);
        let connection = &mut self.connections[server];
        connection.connected = true;
        connection.lease_until = Some(self.now + LEASE);
        connection.requests.clear();
        // What was on its way is behind the end of the old connection.
        connection.events.extend([Event::Loaded(records), Event::Following]);
    }

    /// The connection ends: of what was asked for, some was done and some not.
    fn cut_off(&mut self, server: usize) {
        if !self.connections[server].connected {
            return;
        }
        self.connections[server].connected = false;
        while let Some(request) = self.connections[server].requests.pop_front() {
            if self.percent(50) {
                break;
            }
            let id = request.id;
            if self.store.commit(&mut self.connections, server, request) {
                self.committed(server, id);
            }
        }
        let connection = &mut self.connections[server];
        connection.requests.clear();
        connection.events.retain(|event| !matches!(event, Event::Committed(_) | Event::Refused(_)));
        connection.events.push_back(Event::CutOff);
    }

    fn kill(&mut self, server: usize) {
        if matches!(self.health[server], Health::Dead(_)) {
            return;
        }
        self.cut_off(server);
        self.cut_off_until[server] = None;
        self.connections[server].events.clear();
        self.lives += 1;
        self.drivers[server] = Driver::new(self.now, server, self.lives, self.push);
        self.health[server] = Health::Dead(self.now + Duration::from_millis(self.within(8000)));
    }

    fn move_queues(&mut self, server: usize) {
        // The store is quick, as a rule; a request may have to wait.
        while self.connections[server].connected && (self.quiet || self.percent(80)) {
            let Some(request) = self.connections[server].requests.pop_front() else { break };
            let id = request.id;
            if self.store.commit(&mut self.connections, server, request) {
                self.committed(server, id);
            }
        }
        while self.awake(server) && (self.quiet || self.percent(80)) {
            let Some(event) = self.connections[server].events.pop_front() else { break };
            let now = self.now;
            self.drivers[server].handle(now, event);
            self.drain_server(server);
        }
    }

    /// The store took something: it must follow from what it had, and its pushes go on with the count.
    fn committed(&mut self, server: usize, id: u64) {
        if !self.drivers[server].writes_keys(id) {
            return;
        }
        let keys: Vec<_> =
            self.store.all(self.now).into_iter().filter(|record| record.place.ends_with("/keys")).collect();
        self.shadow.follow(self.now, &keys).expect("the records are sound");
        let now = spis(&self.shadow, self.now);
        for &spi in &now {
            if !self.order.contains(&spi) {
                self.order.push(spi);
            }
        }
        let positions: Vec<_> =
            now.iter().filter_map(|spi| self.order.iter().position(|known| known == spi)).collect();
        if positions.windows(2).any(|pair| pair[1] != pair[0] + 1) {
            self.trouble = Some(format!("a fork: {now:x?} of {:x?}", self.order));
        }
        let pushes: Vec<_> =
            self.drivers[server].pushes_of(id).iter().map(|batch| batch.datagram.to_vec()).collect();
        for datagram in pushes {
            let path = Path::new(
                SocketAddr::new(member_address(OBSERVER), 848),
                SocketAddr::new(server_address(server), 848),
            );
            let before = self.old_numbers();
            self.members[OBSERVER].handle_datagram(self.now, path, &datagram);
            self.drain_member(OBSERVER);
            if self.old_numbers() != before {
                self.trouble = Some("a sequence number that was used before".into());
            }
        }
    }

    /// Pushes that the observer refused for their sequence number.
    fn old_numbers(&self) -> u64 {
        let vpn = &self.members[OBSERVER].ipsec_security_associations(self.now)[0];
        let rejections = &vpn.counters.push_rejected;
        rejections.old_sequence + rejections.duplicate
    }

    fn deliver(&mut self, datagram: Datagram) {
        let Datagram { to_member, path, octets } = datagram;
        let now = self.now;
        match to_member {
            Some(index) => {
                if index == OBSERVER && octets.get(18) == Some(&PUSH) {
                    return;
                }
                self.members[index].handle_datagram(now, path, &octets);
                self.drain_member(index);
            }
            None => {
                let server = (0..SERVERS).find(|server| server_address(*server) == path.local.ip());
                if let Some(server) = server.filter(|server| self.awake(*server)) {
                    self.drivers[server].server.handle_datagram(now, path, &octets);
                    self.drain_server(server);
                }
            }
        }
    }

    fn drain_server(&mut self, server: usize) {
        let now = self.now;
        if let Some(request) = self.drivers[server].collect(now) {
            self.connections[server].requests.push_back(request);
        }
        let own = server_address(server);
        for output in std::mem::take(&mut self.drivers[server].released) {
            let copies: Vec<(Path, Vec<u8>)> = match output {
                Output::Datagram(path, octets) => vec![(path, octets)],
                Output::Push(batch) => {
                    let Recipients::Unicast(paths) = batch.to else { continue };
                    paths.into_iter().map(|path| (path, batch.datagram.to_vec())).collect()
                }
            };
            for (path, octets) in copies {
                let member = (0..MEMBERS).find(|member| member_address(*member) == path.remote.ip());
                let mut arriving = path.reversed();
                arriving.remote.set_ip(own);
                self.put(Datagram { to_member: member, path: arriving, octets }, member.is_some());
            }
        }
    }

    fn drain_member(&mut self, index: usize) {
        let mut buffer = Vec::new();
        while let Some(path) = self.members[index].poll_transmit(&mut buffer) {
            let from = SocketAddr::new(member_address(index), path.local.port());
            let datagram =
                Datagram { to_member: None, path: Path::new(path.remote, from), octets: buffer.clone() };
            self.put(datagram, true);
        }
        while let Some(event) = self.members[index].poll_event() {
            match event {
                MemberEvent::SenderIds { sender_ids, .. } => {
                    for id in sender_ids.ids {
                        if !self.sender_ids.insert((0, id)) {
                            self.trouble = Some(format!("sender id {id} was given twice"));
                        }
                    }
                }
                MemberEvent::InstallSas { sas, .. } => {
                    for sa in &sas {
                        if !self.order.contains(&sa.spi) {
                            self.trouble =
                                Some(format!("member {index} has {:08x}, which was never committed", sa.spi));
                        }
                    }
                }
                MemberEvent::Registered { server, .. } => self.check_registration(index, server),
                _ => {}
            }
        }
    }

    /// Who registers at a server that has heard of the store within its lease has what everybody sends with.
    fn check_registration(&mut self, index: usize, at: SocketAddr) {
        let server = (0..SERVERS).find(|server| server_address(*server) == at.ip());
        let Some(server) = server.filter(|server| self.connections[*server].connected) else { return };
        if !self.drivers[server].connected || self.now - self.drivers[server].heard_at > LEASE {
            return;
        }
        let held = held(&self.members[index], self.now);
        let missing: Vec<_> =
            active(&self.shadow, self.now).into_iter().filter(|spi| !held.contains(spi)).collect();
        if !missing.is_empty() && !held.is_empty() {
            self.trouble = Some(format!(
                "member {index} registered at server {server} and has {held:x?}, not {missing:x?}"
            ));
        }
    }

    fn put(&mut self, datagram: Datagram, someone: bool) {
        if someone && (self.quiet || !self.percent(3)) {
            self.sent += 1;
            let delay = Duration::from_millis(self.within(60));
            self.wire.insert((self.now + delay, self.sent), datagram);
        }
    }
}

fn spis(server: &Server, now: Instant) -> Vec<u32> {
    let groups = server.ipsec_security_associations(now);
    groups.iter().flat_map(|group| &group.security_associations).map(|sa| sa.spi.0).collect()
}

/// TEKs that everybody sends with or may have sent with a moment ago: the newest that is in use.
fn active(server: &Server, now: Instant) -> Vec<u32> {
    let groups = server.ipsec_security_associations(now);
    let sas = groups.iter().flat_map(|group| &group.security_associations);
    let in_use = sas.filter(|sa| {
        sa.lifetime_secs > 1 && sa.detail.as_ref().is_some_and(|detail| detail.activation_in_secs == 0)
    });
    in_use.map(|sa| sa.spi.0).next_back().into_iter().collect()
}

fn held(member: &Member, now: Instant) -> Vec<u32> {
    let vpns = member.ipsec_security_associations(now);
    vpns.iter().flat_map(|vpn| &vpn.security_associations).map(|sa| sa.spi.0).collect()
}
