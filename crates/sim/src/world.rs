//! The world itself: who acts when.

use std::time::Duration;

use proto::Role;
use proto::time::Instant;

use crate::attacker::Attacker;
use crate::bits::Bits;
use crate::chance::Chance;
use crate::disk::Disk;
use crate::keys::Keys;
use crate::network::{Datagram, Network};
use crate::parties::{Parties, Party};
use crate::plan::{Plan, VPN};
use crate::report::{Failure, Report};
use crate::scenario::Scenario;
use crate::schedule::Schedule;
use crate::touch::Touch;
use crate::watched::Watched;

/// The world begins here, so that nothing depends on a small clock.
pub(crate) const BEGINNING: Instant = Instant::from_micros(1_000_000_000);

/// Members' interfaces come up within this time.
const START: u64 = 30_000;

/// How often circumstances change and debts that only time makes are looked for.
const BEAT: Duration = Duration::from_secs(1);

/// Retry period of a member that never had a key.
pub(crate) const FIRST_TRY_INTERVAL: Duration = Duration::from_secs(10);

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
    pub(crate) lives: u64,
    pub(crate) buffer: Vec<u8>,
    /// Deeds of the script that are done.
    pub(crate) deeds: usize,
    /// Moments at which a server had something to keep.
    pub(crate) moments: u64,
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
            deeds: 0,
            moments: 0,
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
}
