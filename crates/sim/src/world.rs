//! The world itself: who acts when.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crypto::SeededRandom;
use proto::Role;
use proto::member::{Event, Member, Removal};
use proto::path::Path;
use proto::server::{PushBatch, Recipients, Server};
use proto::time::Instant;
use proto::timeline::EVICTION_SPREAD;

use crate::attacker::Attacker;
use crate::bits::Bits;
use crate::chance::Chance;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::keys::Keys;
use crate::network::{Datagram, Network};
use crate::parties::{Host, Parties, Party, member_address, server_address};
use crate::plan::{Plan, VPN, member_settings};
use crate::scenario::Scenario;
use crate::schedule::Schedule;
use crate::touch::{Touch, Way};
use crate::watched::Watched;

/// The world begins here, so that nothing depends on a small clock.
pub(crate) const BEGINNING: Instant = Instant::from_micros(1_000_000_000);

/// Members' interfaces come up within this time.
const START: u64 = 30_000;

/// How often circumstances change and debts that only time makes are looked for.
const BEAT: Duration = Duration::from_secs(1);

/// Percent of the moments at which a server has something to keep that it does not survive.
const DIES_KEEPING: u64 = 1;

/// Exchange type of a GROUPKEY-PUSH.
const PUSH: u8 = 33;

/// A datagram takes less than this.
const NETWORK: Duration = Duration::from_millis(500);

/// Retry period of a member that never had a key.
const FIRST_TRY_INTERVAL: Duration = Duration::from_secs(10);

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// A hash of every datagram and every event in order: the same for the same scenario.
    pub hash: u64,
    /// Datagrams sent by servers and members.
    pub datagrams: u64,
    /// Registrations completed.
    pub registrations: u64,
    /// Tries that failed.
    pub failures: u64,
    /// Copies of pushes.
    pub pushes: u64,
    /// Replacements of keys that an operator asked for and that are complete.
    pub replacements: u64,
    /// TEKs that were made.
    pub keys: u64,
    /// Changes of who holds or sends with what, each checked against everybody.
    pub changes: u64,
}

impl Report {
    /// Adds what another run came to. The hash stays.
    pub fn add(&mut self, other: &Report) {
        self.datagrams += other.datagrams;
        self.registrations += other.registrations;
        self.failures += other.failures;
        self.pushes += other.pushes;
        self.replacements += other.replacements;
        self.keys += other.keys;
        self.changes += other.changes;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { datagrams, registrations, failures, pushes, replacements, keys, changes, .. } = self;
        write!(
            f,
            "{keys} keys, {registrations} registrations, {failures} failed tries, {pushes} copies of pushes, \
             {replacements} replacements, {datagrams} datagrams, {changes} checked changes"
        )
    }
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
    run_and_tell(scenario, |_, _| {})
}

/// The same, telling once in ten minutes of the world how far it is.
///
/// # Errors
/// The first invariant that does not hold.
pub fn run_and_tell(
    scenario: &Scenario,
    tell: impl FnMut(Duration, &Report),
) -> Result<Report, Box<Failure>> {
    run_world(World::new(scenario), tell)
}

/// The same again, for whoever looks for the cause of a failure: prints what happens to one member.
///
/// # Errors
/// The first invariant that does not hold.
pub fn replay(scenario: &Scenario, member: usize) -> Result<Report, Box<Failure>> {
    run_world(World { told_of: Some(member), ..World::new(scenario) }, |_, _| {})
}

fn run_world(mut world: World<'_>, mut tell: impl FnMut(Duration, &Report)) -> Result<Report, Box<Failure>> {
    let scenario = world.scenario;
    let end = BEGINNING + scenario.duration;
    let mut next_report = BEGINNING;
    while world.now < end {
        if let Err(what) = world.step(end) {
            let at = world.now - BEGINNING;
            return Err(Box::new(Failure { scenario: scenario.clone(), at, what }));
        }
        if world.now >= next_report {
            tell(world.now - BEGINNING, &world.report);
            next_report = world.now + Duration::from_secs(600);
        }
    }
    Ok(world.report)
}

pub(crate) struct World<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) now: Instant,
    next_beat: Instant,
    pub(crate) plan: Plan,
    pub(crate) parties: Parties,
    /// Which life of each server this is, and until when it is down.
    pub(crate) generations: Vec<u32>,
    pub(crate) starting: Vec<Option<Instant>>,
    /// What each server has kept.
    pub(crate) disks: Vec<Disk>,
    pub(crate) watched: Vec<Watched>,
    pub(crate) up: Bits,
    pub(crate) keys: Keys,
    pub(crate) network: Network,
    pub(crate) attacker: Attacker,
    pub(crate) chance: Chance,
    /// Servers, members, interfaces of members, data paths of members.
    schedule: Schedule,
    /// Lives begun so far, of anybody.
    lives: u64,
    buffer: Vec<u8>,
    pub(crate) report: Report,
    /// The member of whom all is told.
    pub(crate) told_of: Option<usize>,
}

/// Whom the schedule wakes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sleeper {
    Server(usize),
    Member(usize),
    Interface(usize),
    DataPath(usize),
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let plan = Plan::new(scenario);
        let watched = || Watched {
            data_path: crate::data_path::DataPath::default(),
            sending: Vec::new(),
            holding: Vec::new(),
            up_since: None,
            began: BEGINNING,
            spread_until: BEGINNING,
            registered: false,
            joined: 0,
            evicted_at: None,
            held_back: Duration::ZERO,
            push_touch: vec![Touch::strict(BEGINNING, scenario.push.period); scenario.servers],
            touch: vec![Touch::new(BEGINNING, FIRST_TRY_INTERVAL); scenario.servers],
        };
        let mut world = Self {
            scenario,
            now: BEGINNING,
            next_beat: BEGINNING,
            parties: Parties { servers: Vec::new(), members: Vec::new() },
            generations: vec![0; scenario.servers],
            starting: vec![None; scenario.servers],
            disks: vec![Disk::default(); scenario.servers],
            watched: (0..scenario.members).map(|_| watched()).collect(),
            up: Bits::default(),
            keys: Keys::default(),
            network: Network::new(scenario),
            attacker: Attacker::new(scenario),
            chance: Chance::new(scenario.seed ^ 0x776f_726c),
            schedule: Schedule::new(scenario.servers + 3 * scenario.members),
            lives: 0,
            buffer: Vec::new(),
            report: Report { hash: 0xcbf2_9ce4_8422_2325, ..Report::default() },
            told_of: None,
            plan,
        };
        for _ in 0..scenario.servers {
            let server = world.new_server();
            world.parties.servers.push(server);
        }
        for index in 0..scenario.members {
            let member = world.new_member(index);
            world.parties.members.push(member);
            let up = BEGINNING + Duration::from_millis(world.chance.within(0..START));
            world.bring_up(index, up);
        }
        world
    }

    /// One moment.
    fn step(&mut self, end: Instant) -> Result<(), String> {
        let next =
            [Some(self.next_beat), self.schedule.due(), self.network.due()].into_iter().flatten().min();
        self.now = next.unwrap_or(end).max(self.now).min(end);
        if self.now == BEGINNING {
            for index in 0..self.parties.servers.len() {
                self.drain_server(index)?;
                self.learn(index)?;
            }
        }
        while let Some(datagram) = self.network.arrive(self.now) {
            self.deliver(&datagram)?;
        }
        while let Some(sleeper) = self.schedule.take(self.now) {
            self.wake(sleeper)?;
        }
        if self.next_beat <= self.now {
            self.next_beat = self.now + BEAT;
            self.change_circumstances()?;
            self.check()?;
        }
        Ok(())
    }

    fn deliver(&mut self, datagram: &Datagram) -> Result<(), String> {
        match datagram.to {
            Party::Server(index) if self.starting[index].is_none() => {
                let host = &mut self.parties.servers[index];
                let now = host.clock.local(self.now);
                host.role.handle_datagram(now, datagram.path, &datagram.octets);
                self.drain_server(index)
            }
            Party::Member(index) => {
                let host = &mut self.parties.members[index];
                let now = host.clock.local(self.now);
                host.role.handle_datagram(now, datagram.path, &datagram.octets);
                self.drain_member(index)
            }
            Party::Server(_) | Party::Nobody => Ok(()),
        }
    }

    fn wake(&mut self, sleeper: usize) -> Result<(), String> {
        match self.sleeper(sleeper) {
            Sleeper::Server(index) => {
                if self.starting[index].take_if(|until| *until <= self.now).is_some() {
                    self.start_server(index)
                } else {
                    let host = &mut self.parties.servers[index];
                    let now = host.clock.local(self.now);
                    host.role.handle_timeout(now);
                    self.drain_server(index)?;
                    self.learn(index)
                }
            }
            Sleeper::Member(index) => {
                let host = &mut self.parties.members[index];
                let now = host.clock.local(self.now);
                host.role.handle_timeout(now);
                self.drain_member(index)
            }
            Sleeper::Interface(index) => {
                let watched = &mut self.watched[index];
                (watched.up_since, watched.began) = (Some(self.now), self.now);
                self.up.insert(index);
                let host = &mut self.parties.members[index];
                let now = host.clock.local(self.now);
                host.role.interface_up(now, VPN, None);
                self.drain_member(index)
            }
            Sleeper::DataPath(index) => self.look_at(index),
        }
    }

    fn sleeper(&self, number: usize) -> Sleeper {
        let (servers, members) = (self.scenario.servers, self.scenario.members);
        match number.checked_sub(servers) {
            None => Sleeper::Server(number),
            Some(rest) if rest < members => Sleeper::Member(rest),
            Some(rest) if rest < 2 * members => Sleeper::Interface(rest - members),
            Some(rest) => Sleeper::DataPath(rest - 2 * members),
        }
    }

    pub(crate) fn set(&mut self, sleeper: Sleeper, at: Option<Instant>) {
        let (servers, members) = (self.scenario.servers, self.scenario.members);
        let number = match sleeper {
            Sleeper::Server(index) => index,
            Sleeper::Member(index) => servers + index,
            Sleeper::Interface(index) => servers + members + index,
            Sleeper::DataPath(index) => servers + 2 * members + index,
        };
        self.schedule.set(number, at);
    }

    fn random(&mut self) -> Box<SeededRandom> {
        self.lives += 1;
        Box::new(SeededRandom::new(self.scenario.seed.wrapping_mul(0x1_0000_0001) ^ self.lives))
    }

    fn new_server(&mut self) -> Host<Server> {
        let clock = Clock::draw(&mut self.chance);
        let random = self.random();
        Host { role: Server::new(clock.local(self.now), self.plan.server_settings(), random), clock }
    }

    /// One that goes on with what was kept.
    fn restored_server(&mut self, index: usize) -> Result<Host<Server>, String> {
        let clock = Clock::draw(&mut self.chance);
        let random = self.random();
        let records = self.disks[index].records(self.now);
        let role = Server::restored(clock.local(self.now), self.plan.server_settings(), random, &records)
            .map_err(|error| error.to_string())?;
        Ok(Host { role, clock })
    }

    fn new_member(&mut self, index: usize) -> Host<Member> {
        let clock = Clock::draw(&mut self.chance);
        let random = self.random();
        let settings = member_settings(self.scenario, index);
        Host { role: Member::new(clock.local(self.now), settings, random), clock }
    }

    /// A server begins a new life, or goes on with the old one.
    fn start_server(&mut self, index: usize) -> Result<(), String> {
        if self.scenario.durable {
            self.parties.servers[index] = self.restored_server(index)?;
            // It may have slept through a change, or through an eviction.
            self.keys.replacing = self.plan.pushes();
            self.keys.out_of_turn(self.now, self.keys.replacing);
        } else {
            self.parties.servers[index] = self.new_server();
            self.generations[index] += 1;
        }
        self.drain_server(index)?;
        self.learn(index)?;
        self.keys.replacing = false;
        Ok(())
    }

    /// A server's life ends, in order or by a crash, and another begins at `until`.
    pub(crate) fn stop_server(&mut self, index: usize, until: Instant, orderly: bool) -> Result<(), String> {
        if orderly {
            let host = &mut self.parties.servers[index];
            let now = host.clock.local(self.now);
            host.role.shut_down(now);
            self.drain_server(index)?;
        }
        self.starting[index] = Some(until);
        if !self.scenario.durable {
            self.keys.server_gone(self.now, index);
        }
        self.cut_off(Party::Server(index), until);
        self.set(Sleeper::Server(index), Some(until));
        Ok(())
    }

    /// A member's process ends and another begins; its interface comes up at `until`.
    pub(crate) fn restart_member(
        &mut self,
        index: usize,
        until: Instant,
        orderly: bool,
    ) -> Result<(), String> {
        self.interface_is_down(index);
        if orderly {
            let host = &mut self.parties.members[index];
            let now = host.clock.local(self.now);
            host.role.shut_down(now);
            self.drain_member(index)?;
        }
        self.parties.members[index] = self.new_member(index);
        self.watched[index].data_path.forget();
        self.watched[index].joined = 0;
        self.watched[index].registered = false;
        self.watched[index]
            .touch
            .iter_mut()
            .for_each(|touch| touch.change_period(self.now, FIRST_TRY_INTERVAL));
        self.interface_is_down(index);
        self.drain_member(index)?;
        self.look_at(index)?;
        self.bring_up(index, until);
        Ok(())
    }

    pub(crate) fn interface_is_down(&mut self, index: usize) {
        self.watched[index].up_since = None;
        self.up.remove(index);
    }

    pub(crate) fn bring_up(&mut self, index: usize, at: Instant) {
        self.set(Sleeper::Interface(index), Some(at));
    }

    /// Cuts somebody off from everybody.
    pub(crate) fn cut_off(&mut self, party: Party, until: Instant) {
        self.network.cut_off(party, until);
        match party {
            Party::Member(index) => {
                self.tell(index, || format!("cut off until {:?}", until - BEGINNING));
                let watched = &mut self.watched[index];
                let touches = watched.touch.iter_mut().chain(&mut watched.push_touch);
                touches.for_each(|touch| touch.interrupt(until));
            }
            Party::Server(index) => {
                for member in &mut self.watched {
                    member.touch[index].interrupt(until);
                    member.push_touch[index].interrupt(until);
                }
            }
            Party::Nobody => {}
        }
    }

    /// Gives the servers their new settings.
    pub(crate) fn configure_servers(&mut self) -> Result<(), String> {
        self.keys.out_of_turn(self.now, self.keys.replacing);
        for index in 0..self.parties.servers.len() {
            if self.starting[index].is_none() {
                let settings = self.plan.server_settings();
                let host = &mut self.parties.servers[index];
                let now = host.clock.local(self.now);
                host.role.configure(now, settings);
                self.drain_server(index)?;
                self.learn(index)?;
            }
        }
        Ok(())
    }

    /// Takes everything out of a server.
    pub(crate) fn drain_server(&mut self, index: usize) -> Result<(), String> {
        if self.scenario.durable && !self.keep(index) {
            let length = Duration::from_millis(self.chance.within(0..60_000));
            return self.stop_server(index, self.now + length, false);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(path) = self.parties.servers[index].role.poll_transmit(&mut buffer) {
            self.transmit(Party::Server(index), path, &buffer);
        }
        self.buffer = buffer;
        while let Some(batch) = self.parties.servers[index].role.poll_push() {
            self.push(index, batch)?;
        }
        while let Some(event) = self.parties.servers[index].role.poll_event() {
            self.note_server_event(&event);
            self.judge_server_event(index, &event)?;
        }
        let due = self.parties.servers[index].due();
        self.set(Sleeper::Server(index), due.map(|due| due.max(self.now)));
        Ok(())
    }

    /// Keeps what a server must not forget, before anything leaves it. Returns false if it died over it.
    fn keep(&mut self, index: usize) -> bool {
        let host = &mut self.parties.servers[index];
        if !host.role.has_changes() {
            return true;
        }
        let dies = self.scenario.server_restarts && self.chance.percent(DIES_KEEPING);
        if dies && self.chance.percent(50) {
            return false;
        }
        let local = host.clock.local(self.now);
        while host.role.has_changes() {
            self.disks[index].apply(self.now, host.role.take_changes(local));
        }
        !dies
    }

    /// Sends a rekey to whom it is for, and to those who listen although it is not for them any more.
    fn push(&mut self, server: usize, batch: PushBatch) -> Result<(), String> {
        self.note(&batch.datagram);
        self.keys.learn_keks(self.now, &self.parties.servers[server])?;
        self.keys.note_push(&batch.datagram)?;
        let octets = &batch.datagram;
        let mut copies = Vec::new();
        match &batch.to {
            Recipients::Unicast(paths) => {
                for path in paths {
                    copies.push((self.parties.at(path.remote.ip()), path.reversed()));
                }
                for member in self.plan.authorized.missing(self.scenario.members) {
                    let own = SocketAddr::new(member_address(member), 848);
                    let path = Path::new(own, SocketAddr::new(server_address(server), 848));
                    copies.push((Party::Member(member), path));
                }
            }
            Recipients::Multicast { group, .. } => {
                let path = Path::new(*group, SocketAddr::new(server_address(server), 848));
                let listens = |member: &usize| self.watched[*member].joined > 0;
                let members = (0..self.scenario.members).filter(listens);
                copies.extend(members.map(|member| (Party::Member(member), path)));
            }
        }
        self.report.pushes += copies.len() as u64;
        for (to, mut path) in copies {
            path.remote.set_ip(server_address(server));
            // Those who are out hear little, so that some have never heard that their KEK is revoked.
            let out = matches!(to, Party::Member(member) if !self.plan.authorized.contains(member));
            if !(out && self.chance.percent(60)) {
                self.put(Party::Server(server), Datagram { to, path, octets: Arc::clone(octets) });
            }
        }
        Ok(())
    }

    /// Takes everything out of a member.
    pub(crate) fn drain_member(&mut self, index: usize) -> Result<(), String> {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(path) = self.parties.members[index].role.poll_transmit(&mut buffer) {
            self.transmit(Party::Member(index), path, &buffer);
        }
        self.buffer = buffer;
        let clock = self.parties.members[index].clock;
        let mut changed = false;
        while let Some(event) = self.parties.members[index].role.poll_event() {
            self.tell(index, || format!("{event:?}"));
            self.note_member_event(&event);
            changed |= self.watched[index].data_path.apply(&event, clock);
            match event {
                Event::RemoveSas { reason: Removal::Deleted, .. }
                    if self.watched[index].data_path.live(self.now).next().is_none() =>
                {
                    self.watched[index].spread_until = self.now + EVICTION_SPREAD;
                }
                Event::JoinGroup { .. } => self.watched[index].joined += 1,
                Event::LeaveGroup { .. } => {
                    self.watched[index].joined = self.watched[index].joined.saturating_sub(1);
                }
                _ => {}
            }
            if let Event::Registered { .. } = event {
                self.report.registrations += 1;
                self.watched[index].registered = true;
            }
            self.report.failures += u64::from(matches!(event, Event::RegistrationFailed { .. }));
        }
        let due = self.parties.members[index].due();
        self.set(Sleeper::Member(index), due.map(|due| due.max(self.now)));
        if !changed {
            return Ok(());
        }
        self.look_at(index)?;
        self.tune(index);
        Ok(())
    }

    /// The retry period of a member follows its keys; without any it stays as it was.
    fn tune(&mut self, index: usize) {
        let held = self.watched[index].data_path.live(self.now).filter_map(|sa| self.keys.find(sa.spi));
        let intervals = held.map(|key| proto::timeline::Timeline::pull(key.lifetime).try_interval());
        let Some(longest) = intervals.max() else { return };
        let period = longest.max(self.plan.try_interval());
        self.watched[index].touch.iter_mut().for_each(|touch| touch.change_period(self.now, period));
    }

    fn transmit(&mut self, from: Party, path: Path, octets: &[u8]) {
        let Some(own) = from.address() else { return };
        let mut arriving = path.reversed();
        arriving.remote.set_ip(own);
        let to = self.parties.at(path.remote.ip());
        self.note(octets);
        self.put(from, Datagram { to, path: arriving, octets: octets.into() });
    }

    fn put(&mut self, from: Party, datagram: Datagram) {
        self.report.datagrams += 1;
        if self.scenario.attacker {
            self.attacker.overhear(self.now, &datagram);
        }
        let to = datagram.to;
        let length = datagram.octets.len();
        let exchange = datagram.octets.get(18).copied().unwrap_or_default();
        let passed = self.network.send(self.now, from, datagram);
        if let (_, Party::Member(index)) | (Party::Member(index), _) = (from, to) {
            self.tell(index, || format!("{from:?} sends {length} octets of exchange {exchange}: {passed}"));
        }
        match (from, to) {
            (Party::Server(server), Party::Member(member)) => {
                self.watched[member].record(self.now, server, Way::ToMember, passed);
            }
            (Party::Member(member), Party::Server(server)) => {
                self.watched[member].record(self.now, server, Way::ToServer, passed);
            }
            _ => {}
        }
    }

    /// Hands a datagram of nobody to the network.
    pub(crate) fn inject(&mut self, heard: Option<Instant>, datagram: Datagram) {
        let is_push = datagram.octets.get(18) == Some(&PUSH);
        if let (Some(heard), Party::Member(member), true) = (heard, datagram.to, is_push) {
            let held_back = &mut self.watched[member].held_back;
            *held_back = (self.now - heard + NETWORK).max(*held_back);
        }
        self.network.send(self.now, Party::Nobody, datagram);
    }
}
