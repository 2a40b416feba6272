//! Lives of servers and members: how they begin, end and are cut off.

use crypto::SeededRandom;
use proto::member::Member;
use proto::server::Server;
use proto::time::Instant;

use crate::clock::Clock;
use crate::parties::{Host, Party};
use crate::plan::member_settings;
use crate::world::{BEGINNING, FIRST_TRY_INTERVAL, Sleeper, World};

impl World<'_> {
    fn random(&mut self) -> Box<SeededRandom> {
        self.lives += 1;
        Box::new(SeededRandom::new(self.scenario.seed.wrapping_mul(0x1_0000_0001) ^ self.lives))
    }

    pub(crate) fn new_server(&mut self) -> Host<Server> {
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

    pub(crate) fn new_member(&mut self, index: usize) -> Host<Member> {
        let clock = Clock::draw(&mut self.chance);
        let random = self.random();
        let settings = member_settings(self.scenario, index);
        Host { role: Member::new(clock.local(self.now), settings, random), clock }
    }

    /// A server begins a new life, or goes on with the old one.
    pub(crate) fn start_server(&mut self, index: usize) -> Result<(), String> {
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
}
