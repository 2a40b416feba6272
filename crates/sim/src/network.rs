//! The network: what it does to a datagram, and who is cut off from it.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::path::Path;
use proto::time::Instant;

use crate::chance::Chance;
use crate::parties::Party;
use crate::scenario::Scenario;

/// A datagram on its way.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) to: Party,
    pub(crate) path: Path,
    pub(crate) octets: Vec<u8>,
}

/// The network.
#[derive(Debug)]
pub(crate) struct Network {
    loss: u64,
    duplication: u64,
    delay: Duration,
    jitter: Duration,
    chance: Chance,
    in_flight: BTreeMap<(Instant, u64), Datagram>,
    counter: u64,
    /// Until when somebody is cut off.
    cut_off: BTreeMap<Party, Instant>,
}

impl Network {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            loss: scenario.loss,
            duplication: scenario.duplication,
            delay: scenario.delay,
            jitter: scenario.jitter,
            chance: Chance::new(scenario.seed ^ 0x6e65_7477_6f72_6b21),
            in_flight: BTreeMap::new(),
            counter: 0,
            cut_off: BTreeMap::new(),
        }
    }

    pub(crate) fn cut_off(&mut self, party: Party, until: Instant) {
        self.cut_off.insert(party, until);
    }

    pub(crate) fn is_cut_off(&self, now: Instant, party: Party) -> bool {
        self.cut_off.get(&party).is_some_and(|until| *until > now)
    }

    /// Takes a datagram from `from`.
    pub(crate) fn send(&mut self, now: Instant, from: Party, datagram: Datagram) {
        let cut = [from, datagram.to].into_iter().any(|party| self.is_cut_off(now, party));
        if cut || datagram.to == Party::Nobody || self.chance.percent(self.loss) {
            return;
        }
        if self.chance.percent(self.duplication) {
            let again = Datagram { octets: datagram.octets.clone(), ..datagram };
            self.put(now, again);
        }
        self.put(now, datagram);
    }

    /// The datagram that has arrived by now.
    pub(crate) fn arrive(&mut self, now: Instant) -> Option<Datagram> {
        let entry = self.in_flight.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.in_flight.keys().next().map(|(at, _)| *at)
    }

    fn put(&mut self, now: Instant, datagram: Datagram) {
        let jitter = self.chance.within(0..self.jitter.as_micros() as u64 + 1);
        self.counter += 1;
        self.in_flight.insert((now + self.delay + Duration::from_micros(jitter), self.counter), datagram);
    }
}
