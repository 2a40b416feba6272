//! The bound on exchanges that peers started and have not finished: whoever can send a datagram can start one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::event::AssociationId;

/// Unfinished exchanges that peers started, at most. 1500 members may start at once after an outage, each twice if
/// its first try was lost. One takes about 3 KiB, and less than 12 KiB with the longest first message and the largest
/// group, so all together less than 48 MiB, for half a minute.
pub const MAXIMUM_HALF_OPEN: usize = 4096;

/// Of these, from one address. One host that floods must not push out everybody else's; members behind one address
/// (a test bed, an address translator) still fit.
pub const MAXIMUM_HALF_OPEN_PER_SOURCE: usize = 2048;

/// The largest first message of an exchange that is looked at, in octets. A hundred transforms and a dozen vendor ids
/// need less than half of it.
pub const MAXIMUM_FIRST_MESSAGE: usize = 8192;

/// Names of the unfinished exchanges that peers started. Names grow, so the smallest is the oldest.
#[derive(Debug, Default)]
pub(super) struct HalfOpen {
    all: BTreeSet<AssociationId>,
    by_source: BTreeMap<IpAddr, BTreeSet<AssociationId>>,
}

impl HalfOpen {
    /// Adds an exchange; returns the one that has to make room for it.
    pub(super) fn admit(&mut self, id: AssociationId, source: IpAddr) -> Option<AssociationId> {
        self.all.insert(id);
        let same_source = self.by_source.entry(source).or_default();
        same_source.insert(id);
        if same_source.len() > MAXIMUM_HALF_OPEN_PER_SOURCE {
            same_source.first().copied()
        } else if self.all.len() > MAXIMUM_HALF_OPEN {
            self.all.first().copied()
        } else {
            None
        }
    }

    /// Removes an exchange that ended, if it is one of these.
    pub(super) fn remove(&mut self, id: AssociationId, source: IpAddr) {
        if !self.all.remove(&id) {
            return;
        }
        if let Some(same_source) = self.by_source.get_mut(&source) {
            same_source.remove(&id);
            if same_source.is_empty() {
                self.by_source.remove(&source);
            }
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}
