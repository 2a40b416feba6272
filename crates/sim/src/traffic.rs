//! What goes out of servers and members, and where it goes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::Role;
use proto::member::{Event, Removal};
use proto::path::Path;
use proto::server::{PushBatch, Recipients};
use proto::time::Instant;
use proto::timeline::EVICTION_SPREAD;

use crate::network::Datagram;
use crate::parties::{Party, member_address, server_address};
use crate::scenario::{Fault, Faults};
use crate::touch::Way;
use crate::world::{Sleeper, World};

/// Percent of the moments at which a server has something to keep that it does not survive.
const DIES_KEEPING: u64 = 1;

/// Exchange type of a GROUPKEY-PUSH.
const PUSH: u8 = 33;

/// A datagram takes less than this.
const NETWORK: Duration = Duration::from_millis(500);

/// What came of a moment at which a server had something to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Lives,
    Dies,
    DiesSending,
}

/// Something on its way out of a server.
enum Leaving {
    Datagram(Path, Arc<[u8]>),
    Push(PushBatch),
}

impl World<'_> {
    /// Takes everything out of a server.
    pub(crate) fn drain_server(&mut self, index: usize) -> Result<(), String> {
        let kept = if self.scenario.durable { self.keep(index) } else { Kept::Lives };
        let mut leaving = Vec::new();
        if kept != Kept::Dies {
            let role = &mut self.parties.servers[index].role;
            let mut buffer = Vec::new();
            while let Some(path) = role.poll_transmit(&mut buffer) {
                leaving.push(Leaving::Datagram(path, buffer.as_slice().into()));
            }
            leaving.extend(std::iter::from_fn(|| role.poll_push()).map(Leaving::Push));
        }
        if kept == Kept::DiesSending {
            leaving.truncate(leaving.len() / 2);
        }
        if !leaving.is_empty() {
            self.keys.learn_keks(self.now, &self.parties.servers[index])?;
        }
        for leaving in leaving {
            match leaving {
                Leaving::Datagram(path, octets) => self.transmit(Party::Server(index), path, octets),
                Leaving::Push(batch) => self.push(index, batch)?,
            }
        }
        if kept == Kept::DiesSending {
            self.learn(index)?;
        }
        if kept != Kept::Lives {
            let longest = if self.scenario.faults.is_some() { 5_000 } else { 60_000 };
            let length = Duration::from_millis(self.chance.within(0..longest));
            return self.stop_server(index, self.now + length, false);
        }
        while let Some(event) = self.parties.servers[index].role.poll_event() {
            self.note_server_event(&event);
            self.judge_server_event(index, &event)?;
        }
        let due = self.parties.servers[index].due();
        self.set(Sleeper::Server(index), due.map(|due| due.max(self.now)));
        Ok(())
    }

    /// Keeps what a server must not forget, before anything leaves it.
    fn keep(&mut self, index: usize) -> Kept {
        if !self.parties.servers[index].role.has_changes() {
            return Kept::Lives;
        }
        self.moments += 1;
        let dies = self.dies_now();
        if dies == Some(Fault::BeforeKeeping) {
            return Kept::Dies;
        }
        let host = &mut self.parties.servers[index];
        let local = host.clock.local(self.now);
        while host.role.has_changes() {
            self.disks[index].apply(self.now, host.role.take_changes(local));
        }
        match dies {
            None => Kept::Lives,
            Some(Fault::WhileSending) => Kept::DiesSending,
            Some(_) => Kept::Dies,
        }
    }

    /// Whether a server does not survive that it has something to keep.
    fn dies_now(&mut self) -> Option<Fault> {
        if let Some(Faults { every, fault }) = self.scenario.faults {
            return self.moments.is_multiple_of(every).then_some(fault);
        }
        let dies = self.scenario.server_restarts && self.chance.percent(DIES_KEEPING);
        dies.then(|| if self.chance.percent(50) { Fault::BeforeKeeping } else { Fault::BeforeSending })
    }

    /// Sends a rekey to whom it is for, and to those who listen although it is not for them any more.
    fn push(&mut self, server: usize, batch: PushBatch) -> Result<(), String> {
        self.note(&batch.datagram);
        self.keys.note_push(self.now, &batch.datagram)?;
        let octets = &batch.datagram;
        let mut copies = Vec::new();
        match &batch.to {
            Recipients::Unicast(paths) => {
                for path in paths {
                    copies.push((self.parties.at(path.remote.ip()), path.reversed()));
                }
                let out = self.plan.authorized.missing(self.scenario.members);
                let spies = self.network.muted().filter(|member| !out.contains(member));
                for member in out.iter().copied().chain(spies) {
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
            self.transmit(Party::Member(index), path, buffer.as_slice().into());
        }
        self.buffer = buffer;
        let clock = self.parties.members[index].clock;
        let mut changed = false;
        while let Some(event) = self.parties.members[index].role.poll_event() {
            self.tell(index, || format!("{event:?}"));
            self.note_member_event(&event);
            changed |= self.watched[index].data_path.apply(&event, clock);
            self.keys.note_event(&event)?;
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

    fn transmit(&mut self, from: Party, path: Path, octets: Arc<[u8]>) {
        let Some(own) = from.address() else { return };
        let mut arriving = path.reversed();
        arriving.remote.set_ip(own);
        let to = self.parties.at(path.remote.ip());
        self.note(&octets);
        self.put(from, Datagram { to, path: arriving, octets });
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
