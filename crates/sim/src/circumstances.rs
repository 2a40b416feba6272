//! What happens to the world from outside: cuts, restarts, operators, attackers. Looked at once a second.

use std::time::Duration;

use crypto::CbcCipher;
use proto::member::Member;
use proto::server::Eviction;

use crate::parties::Party;
use crate::plan::{PlannedSa, VPN};
use crate::scenario::{Communication, Deed, tek_lifetime};
use crate::world::{BEGINNING, World};

/// Members for one draw of what happens to single members.
const MEMBERS_PER_DRAW: usize = 25;

/// `ipsec-sa`s of the group at most.
const IPSEC_SAS: usize = 4;

impl World<'_> {
    pub(crate) fn change_circumstances(&mut self) -> Result<(), String> {
        while let Some((at, deed)) = self.scenario.script.get(self.deeds).copied()
            && BEGINNING + at <= self.now
        {
            self.deeds += 1;
            self.act(deed)?;
        }
        if self.scenario.pace > 1 && self.chance.within(0..self.scenario.pace) > 0 {
            return Ok(());
        }
        for _ in 0..self.scenario.members.div_ceil(MEMBERS_PER_DRAW) {
            self.disturb_a_member()?;
        }
        if self.scenario.partitions && self.chance.percent(1) && self.chance.percent(30) {
            self.cut_off_a_region();
        }
        self.disturb_servers()?;
        if self.scenario.operator && self.chance.percent(1) {
            self.operate()?;
        }
        if self.scenario.attacker {
            for _ in 0..self.chance.within(0..4) {
                let (heard, datagram) = self.attacker.act(self.scenario);
                self.inject(heard, datagram);
            }
        }
        Ok(())
    }

    fn act(&mut self, deed: Deed) -> Result<(), String> {
        match deed {
            Deed::Mute(member) => {
                self.network.mute(member);
                Ok(())
            }
            Deed::Evict(member) if self.plan.authorized.contains(member) => self.evict_or_readmit(member),
            Deed::Evict(_) => Ok(()),
            Deed::Replace => self.replace_keys(Eviction::Graceful),
            Deed::ServerDies(length) => self.stop_server(0, self.now + length, false),
        }
    }

    fn someone(&mut self) -> usize {
        self.chance.within(0..self.scenario.members as u64) as usize
    }

    fn seconds(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.chance.within(range.start * 1000..range.end * 1000))
    }

    fn disturb_a_member(&mut self) -> Result<(), String> {
        if self.scenario.partitions && self.chance.percent(3) {
            let (someone, length) = (self.someone(), self.seconds(1..200));
            self.cut_off(Party::Member(someone), self.now + length);
        }
        if self.scenario.restarts && self.chance.percent(3) {
            let (someone, length) = (self.someone(), self.seconds(0..30));
            if self.watched[someone].up_since.is_some() {
                let until = self.now + length;
                match self.chance.within(0..3) {
                    0 => {
                        self.interface_is_down(someone);
                        self.tell_member(someone, |member, now| member.interface_down(now, VPN))?;
                        self.bring_up(someone, until);
                    }
                    kind => self.restart_member(someone, until, kind == 1)?,
                }
            }
        }
        Ok(())
    }

    fn cut_off_a_region(&mut self) {
        let (share, length) = (self.chance.within(10..100), self.seconds(1..400));
        for member in 0..self.scenario.members {
            if self.chance.percent(share) {
                self.cut_off(Party::Member(member), self.now + length);
            }
        }
    }

    fn disturb_servers(&mut self) -> Result<(), String> {
        for server in 0..self.scenario.servers {
            if self.starting[server].is_some() {
                continue;
            }
            let length = self.seconds(0..120);
            if self.scenario.partitions && self.chance.percent(1) && self.chance.percent(20) {
                self.cut_off(Party::Server(server), self.now + length);
            }
            if self.scenario.server_restarts && self.chance.percent(1) && self.chance.percent(10) {
                let orderly = self.chance.percent(50);
                self.stop_server(server, self.now + length, orderly)?;
            }
        }
        Ok(())
    }

    /// Somebody sits down at a keyboard.
    fn operate(&mut self) -> Result<(), String> {
        let someone = self.someone();
        match self.chance.within(0..13) {
            0 => self.clear_keys(someone),
            1 => self.tell_member(someone, |member, now| {
                member.clear_ike(now, None, None);
            }),
            2 => self.tell_member(someone, |member, now| {
                member.reregister(now, VPN);
            }),
            3 => self.clear_phase_1(),
            4 | 5 => {
                let at = self.chance.within(0..self.plan.sas.len() as u64) as usize;
                self.plan.sas[at].variant += 1;
                self.configure_servers()
            }
            6 => {
                let least = Duration::from_secs(self.scenario.tek_lifetime.as_secs() / 2);
                let lifetime = tek_lifetime(&mut self.chance).max(least);
                self.plan.sas.iter_mut().for_each(|sa| sa.lifetime = lifetime);
                self.configure_servers()
            }
            7 => {
                for sa in &mut self.plan.sas {
                    sa.cipher =
                        if sa.cipher == CbcCipher::Aes128 { CbcCipher::Aes256 } else { CbcCipher::Aes128 };
                }
                self.configure_servers()
            }
            8 => self.add_or_remove_ipsec_sa(),
            9 if self.scenario.rekeys => {
                self.plan.communication = match (self.plan.communication, self.chance.percent(50)) {
                    (Communication::Pull, true) | (Communication::Multicast, false) => Communication::Unicast,
                    (Communication::Pull, false) | (Communication::Unicast, true) => Communication::Multicast,
                    (Communication::Unicast, false) | (Communication::Multicast, true) => Communication::Pull,
                };
                self.configure_servers()
            }
            10 if self.scenario.rekeys => {
                let graceful = self.chance.percent(50);
                self.replace_keys(if graceful { Eviction::Graceful } else { Eviction::Now })
            }
            _ => self.evict_or_readmit(someone),
        }
    }

    /// Types a command at a member.
    fn tell_member(
        &mut self,
        index: usize,
        command: impl FnOnce(&mut Member, proto::time::Instant),
    ) -> Result<(), String> {
        let host = &mut self.parties.members[index];
        let now = host.clock.local(self.now);
        command(&mut host.role, now);
        self.drain_member(index)
    }

    fn clear_keys(&mut self, member: usize) -> Result<(), String> {
        if self.watched[member].up_since.is_some() {
            self.watched[member].began = self.now;
        }
        self.tell_member(member, |member, now| {
            member.clear_ipsec(now, None);
        })
    }

    fn clear_phase_1(&mut self) -> Result<(), String> {
        for index in 0..self.scenario.servers {
            if self.starting[index].is_none() {
                let host = &mut self.parties.servers[index];
                let now = host.clock.local(self.now);
                host.role.clear_ike(now, None, None);
                self.drain_server(index)?;
            }
        }
        Ok(())
    }

    fn add_or_remove_ipsec_sa(&mut self) -> Result<(), String> {
        let count = self.plan.sas.len();
        if count > 1 && (count == IPSEC_SAS || self.chance.percent(50)) {
            let at = self.chance.within(0..count as u64) as usize;
            let removed = self.plan.sas.remove(at);
            self.keys.retire(&removed.name());
        } else {
            let number = self.plan.sas.iter().map(|sa| sa.number + 1).max().unwrap_or_default();
            let new = PlannedSa { number, ..self.plan.sas[0].clone() };
            self.plan.sas.push(new);
        }
        self.configure_servers()
    }

    /// All keys are replaced.
    fn replace_keys(&mut self, eviction: Eviction) -> Result<(), String> {
        for index in 0..self.scenario.servers {
            if self.starting[index].is_none() {
                let host = &mut self.parties.servers[index];
                let now = host.clock.local(self.now);
                // Refused in a pull group.
                let replaced = host.role.evict(now, None, eviction);
                self.keys.replacing = replaced.is_ok() && self.plan.pushes();
                self.keys.out_of_turn(self.now, self.keys.replacing);
                self.drain_server(index)?;
                self.learn(index)?;
                self.keys.replacing = false;
            }
        }
        Ok(())
    }

    fn evict_or_readmit(&mut self, member: usize) -> Result<(), String> {
        if self.plan.authorized.contains(member) {
            self.plan.authorized.remove(member);
            self.watched[member].evicted_at = Some(self.now);
        } else {
            self.plan.authorized.insert(member);
            self.watched[member].evicted_at = None;
            self.watched[member].began = self.now;
        }
        self.keys.replacing = self.plan.pushes();
        self.configure_servers()?;
        self.keys.replacing = false;
        Ok(())
    }
}
