//! The world as its own judge: notes who holds and sends with what, and calls the [`Court`].

use std::time::Duration;

use crate::bits::Bits;
use crate::invariants::{Court, last_seconds};
use crate::keys::Key;
use crate::parties::Party;
use crate::plan::VPN;
use crate::world::{BEGINNING, Sleeper, World};

/// Three rekeys, each with its rounds, the time that acknowledgements have, and a registration before.
const LONG_ENOUGH: Duration = Duration::from_secs(300);

impl World<'_> {
    pub(crate) fn learn(&mut self, index: usize) -> Result<(), String> {
        if self.starting[index].is_some() {
            return Ok(());
        }
        let host = &self.parties.servers[index];
        self.keys.learn_keks(self.now, host)?;
        let made = self.keys.learn(self.now, index, self.generations[index], host)?;
        self.report.keys += made;
        if self.told_of.is_some() && made > 0 {
            let listed = self.keys.iter().filter(|(_, key)| key.listed);
            for (spi, Key { sa, made, activates, ends, lifetime, .. }) in listed {
                let [made, activates, ends] = [made, activates, ends].map(|at| *at - BEGINNING);
                println!(
                    "{:?} server {index}: {sa} {spi:08x}, made at {made:?}, for {lifetime:?}, switch at \
                     {activates:?}, end at {ends:?}",
                    self.now - BEGINNING
                );
            }
        }
        Ok(())
    }

    /// Looks what a member holds and sends with now, and judges what is different.
    pub(crate) fn look_at(&mut self, index: usize) -> Result<(), String> {
        let now = self.now;
        let watched = &mut self.watched[index];
        let mut holding: Vec<u32> = watched.data_path.live(now).map(|sa| sa.spi).collect();
        holding.sort_unstable();
        let sending = watched.data_path.sending(now);
        let next = watched.data_path.next_change(now);
        let lost: Vec<u32> = watched.holding.iter().copied().filter(|spi| !holding.contains(spi)).collect();
        let gained: Vec<u32> = holding.iter().copied().filter(|spi| !watched.holding.contains(spi)).collect();
        let stopped: Vec<u32> =
            watched.sending.iter().copied().filter(|spi| !sending.contains(spi)).collect();
        let begun: Vec<u32> = sending.iter().copied().filter(|spi| !watched.sending.contains(spi)).collect();
        (watched.holding, watched.sending) = (holding, sending);
        self.set(Sleeper::DataPath(index), next);
        if gained.iter().any(|spi| self.keys.find(*spi).is_none()) {
            (0..self.parties.servers.len()).try_for_each(|server| self.learn(server))?;
        }
        self.report.changes += (lost.len() + gained.len() + stopped.len() + begun.len()) as u64;
        let mut first = Vec::new();
        for (spis, add) in [(&lost, false), (&gained, true)] {
            for spi in spis {
                if let Some(key) = self.keys.find_mut(*spi) {
                    if add { key.holders.insert(index) } else { key.holders.remove(index) }
                }
            }
        }
        for (spis, add) in [(&stopped, false), (&begun, true)] {
            for spi in spis {
                if let Some(key) = self.keys.find_mut(*spi) {
                    if add && key.senders.is_empty() {
                        first.push(*spi);
                    }
                    if add { key.senders.insert(index) } else { key.senders.remove(index) }
                }
            }
        }
        let watched = &self.watched[index];
        for spi in lost.iter().filter(|_| watched.up_since.is_some() && watched.began < now) {
            let Some(key) = self.keys.find(*spi) else { continue };
            // Of several servers that share nothing, the GAP of one ends what another gave.
            let alone = self.parties.servers.len() == 1;
            if alone && !key.retired && key.lasts - now > last_seconds(key) {
                return Err(format!("member {index} drops {spi:08x} {:?} before its end", key.lasts - now));
            }
        }
        self.tell(index, || {
            let show = |spis: &[u32]| spis.iter().map(|spi| format!(" {spi:08x}")).collect::<String>();
            format!(
                "gained{} lost{} sends with{}, of{}",
                show(&gained),
                show(&lost),
                show(&self.watched[index].sending),
                show(&self.watched[index].holding)
            )
        });
        let court = self.court();
        court.check_lives(index)?;
        for spi in first {
            court.check_key(spi, &self.up)?;
        }
        if self.up.contains(index) {
            for spi in lost {
                if let Some(key) = self.keys.find(spi).filter(|key| !key.senders.is_empty()) {
                    court.check_lack(index, spi, key)?;
                }
            }
        }
        Ok(())
    }

    /// What only the passing of time makes wrong.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        let now = self.now;
        for server in 0..self.parties.servers.len() {
            self.learn(server)?;
            if self.starting[server].is_none() {
                if let Some(sa) = self.plan.sas.iter().find(|sa| !self.keys.has(server, &sa.name())) {
                    return Err(format!("{} has no TEK", sa.name()));
                }
                self.check_registered(server)?;
            }
        }
        let court = self.court();
        for (spi, key) in self.keys.iter() {
            if !key.senders.is_empty() {
                court.check_key(spi, &self.up)?;
            }
        }
        for server in 0..self.parties.servers.len() {
            for (spi, _) in self.keys.current(self.now, server) {
                court.check_key(spi, &self.up)?;
            }
        }
        for server in 0..self.parties.servers.len() {
            court.check_switched(server)?;
        }
        if (now - BEGINNING).as_secs().is_multiple_of(30) {
            (0..self.scenario.members).try_for_each(|member| court.check_keks(member))?;
        }
        if self.scenario.servers > 1 {
            (0..self.scenario.members).try_for_each(|member| court.check_presence(member))?;
        }
        self.deliver_traffic()
    }

    /// Traffic flows under every key that somebody sends with; who lacks it sees ESP that he cannot read.
    fn deliver_traffic(&mut self) -> Result<(), String> {
        let mut puzzled = Bits::default();
        for (_, key) in self.keys.iter() {
            let talks = |sender: &usize| !self.network.is_cut_off(self.now, Party::Member(*sender));
            if key.senders.iter().any(|sender| talks(&sender)) {
                self.up.without(&key.holders).for_each(|member| puzzled.insert(member));
            }
        }
        for member in puzzled.iter() {
            let cut_off = self.network.is_cut_off(self.now, Party::Member(member));
            if cut_off || self.watched[member].holding.is_empty() || !self.chance.percent(30) {
                continue;
            }
            let host = &mut self.parties.members[member];
            let local = host.clock.local(self.now);
            host.role.unknown_spi(local, VPN);
            self.drain_member(member)?;
        }
        Ok(())
    }

    /// Where no datagram is lost, nobody is lost who was there all the time.
    pub(crate) fn judge_server_event(
        &self,
        server: usize,
        event: &proto::server::Event,
    ) -> Result<(), String> {
        let proto::server::Event::MemberLost { gateway, .. } = event else { return Ok(()) };
        let index = gateway.strip_prefix("member-").and_then(|number| number.parse::<usize>().ok());
        let Some(index) = index.filter(|_| self.scenario.loss == 0) else { return Ok(()) };
        let watched = &self.watched[index];
        let Some(up_since) = watched.up_since else { return Ok(()) };
        let since = up_since.max(watched.began).max(watched.push_touch[server].good(self.now).0);
        if self.now - since > LONG_ENOUGH {
            return Err(format!("{gateway} is lost though nothing was, for {:?}", self.now - since));
        }
        Ok(())
    }

    /// Everybody who is registered is who he says. Looked at seldom, because there are many.
    fn check_registered(&self, server: usize) -> Result<(), String> {
        if !(self.now - BEGINNING).as_secs().is_multiple_of(60) {
            return Ok(());
        }
        let host = &self.parties.servers[server];
        for group in host.role.registered_members(host.local(self.now)) {
            for member in group.members {
                let index: Option<usize> =
                    member.gateway.strip_prefix("member-").and_then(|n| n.parse().ok());
                let authorized = index.is_some_and(|index| self.plan.authorized.contains(index));
                if !authorized
                    || index.and_then(|index| Party::Member(index).address()) != Some(member.address)
                {
                    return Err(format!("{} is registered from {}", member.gateway, member.address));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn court(&self) -> Court<'_> {
        Court::new(self.now, &self.plan, &self.keys, &self.watched, &self.parties)
    }
}
