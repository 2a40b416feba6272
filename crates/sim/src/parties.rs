//! Who takes part: roles with their clocks, addresses, and which address is whose.

use std::net::{IpAddr, Ipv4Addr};

use proto::Role;
use proto::member::Member;
use proto::server::Server;
use proto::time::Instant;

use crate::clock::Clock;

const FIRST_SERVER: u32 = 0x6400_0064;
const FIRST_MEMBER: u32 = 0x0a00_0001;

/// Somebody with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    Server(usize),
    Member(usize),
    /// An address without anybody.
    Nobody,
}

/// A role in its process, with its clock.
#[derive(Debug)]
pub(crate) struct Host<R> {
    pub(crate) role: R,
    pub(crate) clock: Clock,
}

/// Everybody.
#[derive(Debug)]
pub(crate) struct Parties {
    pub(crate) servers: Vec<Host<Server>>,
    pub(crate) members: Vec<Host<Member>>,
}

impl<R: Role> Host<R> {
    /// What its clock shows.
    pub(crate) fn local(&self, now: Instant) -> Instant {
        self.clock.local(now)
    }

    /// When it wants to be woken, in the time of the world.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.role.poll_timeout().map(|due| self.clock.world(due))
    }
}

impl Parties {
    /// Who has an address.
    pub(crate) fn at(&self, address: IpAddr) -> Party {
        let IpAddr::V4(address) = address else { return Party::Nobody };
        let number = u32::from(address);
        let index = |first: u32, count: usize| {
            number.checked_sub(first).map(|index| index as usize).filter(|index| *index < count)
        };
        if let Some(index) = index(FIRST_SERVER, self.servers.len()) {
            Party::Server(index)
        } else {
            index(FIRST_MEMBER, self.members.len()).map_or(Party::Nobody, Party::Member)
        }
    }
}

impl Party {
    pub(crate) fn address(self) -> Option<IpAddr> {
        match self {
            Party::Server(index) => Some(server_address(index)),
            Party::Member(index) => Some(member_address(index)),
            Party::Nobody => None,
        }
    }
}

pub(crate) fn server_address(index: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(FIRST_SERVER + index as u32))
}

pub(crate) fn member_address(index: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(FIRST_MEMBER + index as u32))
}
