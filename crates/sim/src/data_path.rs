//! The data path of a member, made of nothing but the events that the daemon would get: which keys it sends with and
//! which it accepts, in the time of the world.

use std::sync::Arc;

use proto::member::{Event, GroupSa};
use proto::time::Instant;
use wire::selector::Selector;

use crate::clock::Clock;

/// A key of the data path.
#[derive(Clone, Debug)]
pub(crate) struct Sa {
    pub(crate) spi: u32,
    pub(crate) selectors: Arc<[Selector]>,
    pub(crate) activates: Instant,
    pub(crate) ends: Instant,
    /// Of two that became active at the same moment the one installed later is the newer.
    installed: u64,
}

/// The keys of one member.
#[derive(Debug, Default)]
pub(crate) struct DataPath {
    sas: Vec<Sa>,
    installed: u64,
}

impl DataPath {
    /// Returns whether anything may be different now.
    pub(crate) fn apply(&mut self, event: &Event, clock: Clock) -> bool {
        match event {
            Event::InstallSas { sas, .. } => {
                let earlier = std::mem::take(&mut self.sas);
                for sa in sas {
                    let known = earlier.iter().find(|known| known.spi == sa.spi);
                    self.installed += u64::from(known.is_none());
                    let installed = known.map_or(self.installed, |known| known.installed);
                    self.sas.push(placed(sa, clock, installed));
                }
                true
            }
            Event::RemoveSas { spis, .. } => {
                self.sas.retain(|sa| !spis.contains(&sa.spi));
                true
            }
            Event::Registered { .. }
            | Event::RegistrationFailed { .. }
            | Event::SenderIds { .. }
            | Event::PseudoTime { .. }
            | Event::JoinGroup { .. }
            | Event::LeaveGroup { .. }
            | Event::Log(_) => false,
        }
    }

    /// The process is gone, and its keys with it.
    pub(crate) fn forget(&mut self) {
        self.sas.clear();
    }

    /// Keys that live.
    pub(crate) fn live(&self, now: Instant) -> impl Iterator<Item = &Sa> {
        self.sas.iter().filter(move |sa| sa.ends > now)
    }

    /// What packets are sent with: for every policy the newest active key, as the packet engine chooses it. Sorted.
    pub(crate) fn sending(&self, now: Instant) -> Vec<u32> {
        let mut sending = Vec::new();
        for sa in self.live(now).filter(|sa| sa.activates <= now) {
            if sa.selectors.iter().any(|selector| self.newest(now, selector) == Some(sa.spi)) {
                sending.push(sa.spi);
            }
        }
        sending.sort_unstable();
        sending
    }

    /// What packets of one policy are sent with.
    pub(crate) fn newest(&self, now: Instant, selector: &Selector) -> Option<u32> {
        let usable = |sa: &&Sa| sa.activates <= now && sa.selectors.contains(selector);
        self.live(now).filter(usable).max_by_key(|sa| (sa.activates, sa.installed)).map(|sa| sa.spi)
    }

    /// When the answers change without any event.
    pub(crate) fn next_change(&self, now: Instant) -> Option<Instant> {
        self.sas.iter().flat_map(|sa| [sa.activates, sa.ends]).filter(|at| *at > now).min()
    }
}

fn placed(sa: &GroupSa, clock: Clock, installed: u64) -> Sa {
    Sa {
        spi: sa.spi,
        selectors: Arc::clone(&sa.selectors),
        activates: clock.world(sa.activate_at),
        ends: clock.world(sa.hard_expiry),
        installed,
    }
}
