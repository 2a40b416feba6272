//! Somebody who has no key: sends garbage, what he has overheard, changed or not, and first messages in others' names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use proto::path::Path;
use proto::time::Instant;

use crate::chance::Chance;
use crate::network::Datagram;
use crate::parties::{Party, member_address, server_address};
use crate::scenario::Scenario;

/// Datagrams that he remembers.
const MEMORY: usize = 256;

#[derive(Debug)]
pub(crate) struct Attacker {
    chance: Chance,
    overheard: Vec<(Instant, Datagram)>,
}

impl Attacker {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self { chance: Chance::new(scenario.seed ^ 0x6174_7461_636b), overheard: Vec::new() }
    }

    pub(crate) fn overhear(&mut self, now: Instant, datagram: &Datagram) {
        if self.overheard.len() < MEMORY {
            self.overheard.push((now, datagram.clone()));
        } else {
            let index = self.chance.within(0..MEMORY as u64) as usize;
            self.overheard[index] = (now, datagram.clone());
        }
    }

    /// What he sends next, and when he heard it, if he did not make it up.
    pub(crate) fn act(&mut self, scenario: &Scenario) -> (Option<Instant>, Datagram) {
        match (self.chance.within(0..4), self.overheard.is_empty()) {
            (0, false) => {
                let (heard, datagram) = self.replay();
                (Some(heard), datagram)
            }
            (1, false) => {
                let (heard, mut changed) = self.replay();
                let mut octets = changed.octets.to_vec();
                let position = self.chance.within(0..octets.len() as u64) as usize;
                octets[position] ^= 1 << self.chance.within(0..8);
                changed.octets = octets.into();
                (Some(heard), changed)
            }
            // A first message, or whatever, from an address that nobody has.
            (2, false) => {
                let (_, mut invented) = self.replay();
                invented.to = Party::Server(0);
                let source = IpAddr::V4(Ipv4Addr::from(0xc000_0000 + self.chance.within(0..1 << 16) as u32));
                invented.path = path(server_address(0), source);
                let mut octets = invented.octets.to_vec();
                for octet in octets.iter_mut().take(8) {
                    *octet = self.chance.next() as u8;
                }
                invented.octets = octets.into();
                (None, invented)
            }
            _ => {
                let length = self.chance.within(1..200) as usize;
                let octets: Arc<[u8]> = (0..length).map(|_| self.chance.next() as u8).collect();
                let member = self.chance.within(0..scenario.members as u64) as usize;
                let (server, member_at) = (server_address(0), member_address(member));
                if self.chance.percent(50) {
                    (None, Datagram { to: Party::Server(0), path: path(server, member_at), octets })
                } else {
                    (None, Datagram { to: Party::Member(member), path: path(member_at, server), octets })
                }
            }
        }
    }

    fn replay(&mut self) -> (Instant, Datagram) {
        let index = self.chance.within(0..self.overheard.len() as u64) as usize;
        self.overheard[index].clone()
    }
}

fn path(local: IpAddr, remote: IpAddr) -> Path {
    Path::new(SocketAddr::new(local, 848), SocketAddr::new(remote, 848))
}
