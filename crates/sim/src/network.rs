//! The network: what it does to a datagram, and who is cut off from it.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use proto::path::Path;
use proto::time::Instant;

use crate::bits::Bits;
use crate::chance::Chance;
use crate::parties::Party;
use crate::scenario::Scenario;

/// A datagram on its way.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) to: Party,
    /// As the receiver sees it.
    pub(crate) path: Path,
    pub(crate) octets: Arc<[u8]>,
}

/// The network.
#[derive(Debug)]
pub(crate) struct Network {
    loss: u64,
    duplication: u64,
    delay: Duration,
    jitter: Duration,
    chance: Chance,
    in_flight: BinaryHeap<Reverse<Flight>>,
    counter: u64,
    /// Until when somebody is cut off.
    servers_cut_off: Vec<Instant>,
    members_cut_off: Vec<Instant>,
    /// Members of which nothing arrives.
    mute: Bits,
}

#[derive(Debug)]
struct Flight {
    arrives: Instant,
    number: u64,
    datagram: Datagram,
}

impl Network {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            loss: scenario.loss,
            duplication: scenario.duplication,
            delay: scenario.delay,
            jitter: scenario.jitter,
            chance: Chance::new(scenario.seed ^ 0x6e65_7477_6f72_6b21),
            in_flight: BinaryHeap::new(),
            counter: 0,
            servers_cut_off: vec![Instant::ORIGIN; scenario.servers],
            members_cut_off: vec![Instant::ORIGIN; scenario.members],
            mute: Bits::default(),
        }
    }

    /// Cuts somebody off until `until`, or longer if that has been said before.
    pub(crate) fn cut_off(&mut self, party: Party, until: Instant) {
        let end = match party {
            Party::Server(index) => &mut self.servers_cut_off[index],
            Party::Member(index) => &mut self.members_cut_off[index],
            Party::Nobody => return,
        };
        *end = until.max(*end);
    }

    /// Loses from now on what a member sends.
    pub(crate) fn mute(&mut self, member: usize) {
        self.mute.insert(member);
    }

    /// Members of which nothing arrives.
    pub(crate) fn muted(&self) -> impl Iterator<Item = usize> {
        self.mute.iter()
    }

    pub(crate) fn is_cut_off(&self, now: Instant, party: Party) -> bool {
        match party {
            Party::Server(index) => self.servers_cut_off[index] > now,
            Party::Member(index) => self.members_cut_off[index] > now,
            Party::Nobody => false,
        }
    }

    /// Takes a datagram from `from`. Returns whether it will arrive.
    pub(crate) fn send(&mut self, now: Instant, from: Party, datagram: Datagram) -> bool {
        let mute = matches!(from, Party::Member(member) if self.mute.contains(member));
        let cut = mute || self.is_cut_off(now, from) || self.is_cut_off(now, datagram.to);
        if cut || datagram.to == Party::Nobody || self.chance.percent(self.loss) {
            return false;
        }
        if self.duplication > 0 && self.chance.percent(self.duplication) {
            self.put(now, datagram.clone());
        }
        self.put(now, datagram);
        true
    }

    /// The datagram that has arrived by now.
    pub(crate) fn arrive(&mut self, now: Instant) -> Option<Datagram> {
        if self.due()? > now {
            return None;
        }
        self.in_flight.pop().map(|Reverse(flight)| flight.datagram)
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.in_flight.peek().map(|Reverse(flight)| flight.arrives)
    }

    fn put(&mut self, now: Instant, datagram: Datagram) {
        let jitter = self.chance.within(0..self.jitter.as_micros() as u64 + 1);
        self.counter += 1;
        let arrives = now + self.delay + Duration::from_micros(jitter);
        self.in_flight.push(Reverse(Flight { arrives, number: self.counter, datagram }));
    }
}

impl PartialEq for Flight {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Flight {}

impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// In the order of arrival.
impl Ord for Flight {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.arrives, self.number).cmp(&(other.arrives, other.number))
    }
}
