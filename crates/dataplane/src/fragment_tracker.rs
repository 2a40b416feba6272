//! Lets later fragments follow their first fragment: remembers the ports the first one showed.

use std::time::Duration;

use crate::Instant;
use crate::classifier::{Flow, Ports};

/// Sets of four; 4096 packets in fragments at a time are more than a member's hosts have under way.
const SETS: usize = 1024;
const WAYS: usize = 4;

/// As long as Linux waits for the fragments of a packet (`ipfrag_time`).
const LIFETIME: Duration = Duration::from_secs(30);

/// Who showed the fragment. A packet from outside must not decide how one from inside is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Egress,
    Ingress,
    /// Decrypted, hence from a member of the group of the SA with this [`crate::GroupSa::id`].
    Decrypted(u64),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    side: Side,
    source: u128,
    destination: u128,
    protocol: u8,
    identification: u16,
    ports: (u16, u16),
    seen_at: Instant,
}

/// The bounded table of first fragments.
#[derive(Debug)]
pub(crate) struct FragmentTracker {
    sets: Vec<[Option<Entry>; WAYS]>,
}

impl FragmentTracker {
    pub(crate) fn new() -> Self {
        Self { sets: vec![[None; WAYS]; SETS] }
    }

    /// Completes the flow of a fragment: a first fragment is remembered, a later one gets the ports of its first.
    pub(crate) fn resolve(&mut self, now: Instant, side: Side, identification: u16, flow: Flow) -> Flow {
        let same = |entry: &Entry| {
            entry.side == side
                && entry.identification == identification
                && entry.protocol == flow.protocol
                && entry.source == flow.source
                && entry.destination == flow.destination
        };
        let fresh = |entry: &Entry| now.saturating_duration_since(entry.seen_at) < LIFETIME;
        let set = &mut self.sets[set_of(identification, &flow)];
        match flow.ports {
            Ports::None => flow,
            Ports::Unknown => match set.iter().flatten().find(|entry| same(entry) && fresh(entry)) {
                Some(entry) => Flow { ports: Ports::Known(entry.ports.0, entry.ports.1), ..flow },
                None => flow,
            },
            Ports::Known(source_port, destination_port) => {
                let entry = Entry {
                    side,
                    source: flow.source,
                    destination: flow.destination,
                    protocol: flow.protocol,
                    identification,
                    ports: (source_port, destination_port),
                    seen_at: now,
                };
                let position =
                    set.iter().position(|old| old.as_ref().is_some_and(same)).unwrap_or_else(|| {
                        let age = |old: &Option<Entry>| old.as_ref().map_or(Instant::ZERO, |old| old.seen_at);
                        (0..WAYS).min_by_key(|&way| (set[way].is_some(), age(&set[way]))).unwrap_or(0)
                    });
                set[position] = Some(entry);
                flow
            }
        }
    }
}

fn set_of(identification: u16, flow: &Flow) -> usize {
    let mixed = (flow.source as u64).rotate_left(32)
        ^ (flow.source >> 64) as u64
        ^ (flow.destination as u64).rotate_left(13)
        ^ (flow.destination >> 64) as u64
        ^ u64::from(identification) << 17
        ^ u64::from(flow.protocol);
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % SETS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(ports: Ports) -> Flow {
        Flow { source: 1, destination: 2, protocol: 17, ports }
    }

    #[test]
    fn later_fragments_get_the_ports_of_their_first_for_thirty_seconds() {
        let mut tracker = FragmentTracker::new();
        let now = Instant::from_micros(1_000_000);
        assert_eq!(tracker.resolve(now, Side::Egress, 9, flow(Ports::Unknown)).ports, Ports::Unknown);
        tracker.resolve(now, Side::Egress, 9, flow(Ports::Known(5, 6)));
        assert_eq!(tracker.resolve(now, Side::Egress, 9, flow(Ports::Unknown)).ports, Ports::Known(5, 6));
        assert_eq!(tracker.resolve(now, Side::Egress, 8, flow(Ports::Unknown)).ports, Ports::Unknown);
        let later = now.saturating_add(LIFETIME);
        assert_eq!(tracker.resolve(later, Side::Egress, 9, flow(Ports::Unknown)).ports, Ports::Unknown);
    }

    #[test]
    fn fragments_from_outside_say_nothing_about_those_from_inside() {
        let mut tracker = FragmentTracker::new();
        let now = Instant::ZERO;
        tracker.resolve(now, Side::Ingress, 9, flow(Ports::Known(5, 6)));
        assert_eq!(tracker.resolve(now, Side::Egress, 9, flow(Ports::Unknown)).ports, Ports::Unknown);
        assert_eq!(tracker.resolve(now, Side::Decrypted(0), 9, flow(Ports::Unknown)).ports, Ports::Unknown);
    }
}
