//! The world itself: who acts when.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crypto::SeededRandom;
use proto::Role;
use proto::member::{Event, Member};
use proto::path::Path;
use proto::server::Server;
use proto::time::Instant;

use crate::attacker::Attacker;
use crate::chance::Chance;
use crate::invariants::{Truth, Watched};
use crate::network::{Datagram, Network};
use crate::parties::{
    Party, VPN, member_address, member_settings, party_at, server_address, server_settings,
};
use crate::scenario::Scenario;

/// The world begins here, so that nothing depends on a small clock.
const BEGINNING: Instant = Instant::from_micros(1_000_000_000);

/// Members' interfaces come up within this time.
const START: u64 = 30_000;

/// How often the invariants are checked and circumstances change.
const BEAT: Duration = Duration::from_secs(1);

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// A hash of every datagram and every event in order: the same for the same scenario.
    pub hash: u64,
    /// Datagrams sent by servers and members.
    pub datagrams: u64,
    /// Registrations completed.
    pub registrations: u64,
    /// Tries that failed.
    pub failures: u64,
    /// Single comparisons of the invariants.
    pub checks: u64,
}

/// An invariant did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The circumstances, with the seed that brings it back.
    pub scenario: Scenario,
    /// When, since the beginning.
    pub at: Duration,
    /// What was wrong.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scenario { seed, members, .. } = self.scenario;
        write!(
            f,
            "seed {seed} with {members} members, after {:?}: {}\n{:?}",
            self.at, self.what, self.scenario
        )
    }
}

impl std::error::Error for Failure {}

/// Lets the world of `scenario` run to its end.
///
/// # Errors
/// The first invariant that does not hold.
pub fn run(scenario: &Scenario) -> Result<Report, Box<Failure>> {
    let mut world = World::new(scenario);
    let end = BEGINNING + scenario.duration;
    let failed = |world: &World<'_>, what| {
        Box::new(Failure { scenario: scenario.clone(), at: world.now - BEGINNING, what })
    };
    while let Some(next) = world.next_moment().filter(|next| *next <= end) {
        world.now = next;
        world.deliver();
        world.wake();
        if world.next_beat <= world.now {
            world.next_beat = world.now + BEAT;
            world.change_circumstances();
            world.check().map_err(|what| failed(&world, what))?;
        }
    }
    world.report.checks = world.truth.checks;
    Ok(world.report)
}

struct World<'a> {
    scenario: &'a Scenario,
    now: Instant,
    next_beat: Instant,
    servers: Vec<Server>,
    members: Vec<Member>,
    watched: Vec<Watched>,
    truth: Truth,
    network: Network,
    attacker: Attacker,
    chance: Chance,
    timers: BTreeSet<(Instant, Party)>,
    timer_of: BTreeMap<Party, Instant>,
    /// When interfaces come up.
    coming_up: BTreeSet<(Instant, usize)>,
    buffer: Vec<u8>,
    report: Report,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let random =
            |number: u64| Box::new(SeededRandom::new(scenario.seed.wrapping_mul(0x1_0000_0001) ^ number));
        let mut chance = Chance::new(scenario.seed ^ 0x776f_726c);
        let coming_up = (0..scenario.members)
            .map(|index| (BEGINNING + Duration::from_millis(chance.within(0..START)), index))
            .collect();
        let servers = (0..scenario.servers)
            .map(|index| Server::new(BEGINNING, server_settings(scenario), random(index as u64)));
        let members = (0..scenario.members).map(|index| {
            Member::new(BEGINNING, member_settings(scenario, index), random(1000 + index as u64))
        });
        let mut world = Self {
            scenario,
            now: BEGINNING,
            next_beat: BEGINNING + BEAT,
            servers: servers.collect(),
            members: members.collect(),
            watched: (0..scenario.members).map(|_| Watched::default()).collect(),
            truth: Truth::default(),
            network: Network::new(scenario),
            attacker: Attacker::new(scenario),
            chance,
            timers: BTreeSet::new(),
            timer_of: BTreeMap::new(),
            coming_up,
            buffer: Vec::new(),
            report: Report {
                hash: 0xcbf2_9ce4_8422_2325,
                datagrams: 0,
                registrations: 0,
                failures: 0,
                checks: 0,
            },
        };
        for index in 0..scenario.servers {
            world.drain(Party::Server(index));
        }
        world
    }

    fn next_moment(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| (*at).max(self.now));
        let interface = self.coming_up.first().map(|(at, _)| *at);
        [Some(self.next_beat), timer, interface, self.network.due()].into_iter().flatten().min()
    }

    fn deliver(&mut self) {
        while let Some(datagram) = self.network.arrive(self.now) {
            match datagram.to {
                Party::Server(index) => {
                    self.servers[index].handle_datagram(self.now, datagram.path, &datagram.octets);
                }
                Party::Member(index) => {
                    self.members[index].handle_datagram(self.now, datagram.path, &datagram.octets);
                }
                Party::Nobody => {}
            }
            self.drain(datagram.to);
        }
    }

    fn wake(&mut self) {
        while let Some(&(at, index)) = self.coming_up.first().filter(|(at, _)| *at <= self.now) {
            self.coming_up.remove(&(at, index));
            self.watched[index].up_since = Some(self.now);
            self.members[index].interface_up(self.now, VPN, None);
            self.drain(Party::Member(index));
        }
        let due: Vec<Party> =
            self.timers.iter().take_while(|(at, _)| *at <= self.now).map(|(_, party)| *party).collect();
        for party in due {
            match party {
                Party::Server(index) => self.servers[index].handle_timeout(self.now),
                Party::Member(index) => self.members[index].handle_timeout(self.now),
                Party::Nobody => {}
            }
            self.drain(party);
        }
    }

    fn change_circumstances(&mut self) {
        let scenario = self.scenario;
        let someone = self.chance.within(0..scenario.members as u64) as usize;
        if scenario.partitions && self.chance.percent(3) {
            let length = Duration::from_secs(self.chance.within(1..200));
            self.network.cut_off(Party::Member(someone), self.now + length);
            self.watched[someone].disturbed_until = self.now + length;
        }
        if scenario.servers > 1 && self.chance.percent(1) {
            // Members feel it until they have come to the next server: three tries of at most 10 s.
            let length = Duration::from_secs(self.chance.within(10..300));
            self.network.cut_off(Party::Server(0), self.now + length);
            let until = self.now + length + Duration::from_secs(30);
            self.watched
                .iter_mut()
                .for_each(|member| member.disturbed_until = member.disturbed_until.max(until));
        }
        if scenario.restarts && self.chance.percent(3) && self.watched[someone].up_since.is_some() {
            self.members[someone].interface_down(self.now, VPN);
            self.watched[someone].up_since = None;
            self.watched[someone].registered_since_up = false;
            let length = Duration::from_millis(self.chance.within(100..30_000));
            self.coming_up.insert((self.now + length, someone));
            self.drain(Party::Member(someone));
        }
        if scenario.attacker {
            for _ in 0..self.chance.within(0..4) {
                let datagram = self.attacker.act(scenario);
                self.network.send(self.now, Party::Nobody, datagram);
            }
        }
    }

    fn check(&mut self) -> Result<(), String> {
        self.truth.learn(self.now, self.scenario, &self.servers)?;
        self.truth.check(self.now, self.scenario, &self.watched)
    }

    /// Takes everything out of a party.
    fn drain(&mut self, party: Party) {
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            let path = match party {
                Party::Server(index) => self.servers[index].poll_transmit(&mut buffer),
                Party::Member(index) => self.members[index].poll_transmit(&mut buffer),
                Party::Nobody => None,
            };
            let Some(path) = path else { break };
            self.transmit(party, path, &buffer);
        }
        self.buffer = buffer;
        let due = match party {
            Party::Server(index) => {
                while let Some(event) = self.servers[index].poll_event() {
                    self.note(format!("{event:?}").as_bytes());
                }
                self.servers[index].poll_timeout()
            }
            Party::Member(index) => {
                while let Some(event) = self.members[index].poll_event() {
                    self.note(format!("{event:?}").as_bytes());
                    self.member_event(index, &event);
                }
                self.members[index].poll_timeout()
            }
            Party::Nobody => None,
        };
        if let Some(old) = self.timer_of.remove(&party) {
            self.timers.remove(&(old, party));
        }
        if let Some(due) = due {
            self.timer_of.insert(party, due);
            self.timers.insert((due, party));
        }
    }

    fn member_event(&mut self, index: usize, event: &Event) {
        match event {
            Event::Registered { .. } => {
                self.report.registrations += 1;
                self.watched[index].registered_since_up = true;
            }
            Event::RegistrationFailed { .. } => self.report.failures += 1,
            Event::InstallSas { .. }
            | Event::RemoveSas { .. }
            | Event::JoinGroup { .. }
            | Event::LeaveGroup { .. }
            | Event::Log(_) => {}
        }
        self.watched[index].data_path.apply(event);
    }

    fn transmit(&mut self, from: Party, path: Path, octets: &[u8]) {
        self.report.datagrams += 1;
        self.note(octets);
        let own = match from {
            Party::Server(index) => server_address(index),
            Party::Member(index) => member_address(index),
            Party::Nobody => return,
        };
        let mut arriving = path.reversed();
        arriving.remote.set_ip(own);
        let datagram = Datagram {
            to: party_at(self.scenario, path.remote.ip()),
            path: arriving,
            octets: octets.to_vec(),
        };
        if self.scenario.attacker {
            self.attacker.overhear(&datagram);
        }
        self.network.send(self.now, from, datagram);
    }

    /// FNV-1a over everything that happens, and when.
    fn note(&mut self, octets: &[u8]) {
        for octet in self.now.as_micros().to_be_bytes().iter().chain(octets) {
            self.report.hash = (self.report.hash ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
