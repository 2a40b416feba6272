//! Lets later fragments follow their first fragment: remembers the ports the first one showed.

use std::time::Duration;

use crate::Instant;
use crate::classifier::{Flow, Ports};
use crate::ip::Packet;

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
    /// As the fragments' headers give it, which is not the upper layer's where IPv6 has more headers behind.
    fragment_protocol: u8,
    identification: u32,
    protocol: u8,
    ports: Option<(u16, u16)>,
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
    pub(crate) fn resolve(&mut self, now: Instant, side: Side, fragment: &Packet<'_>) -> Flow {
        let flow = fragment.flow();
        let (identification, fragment_protocol) = (fragment.identification(), fragment.fragment_protocol());
        let same = |entry: &Entry| {
            entry.side == side
                && entry.identification == identification
                && entry.fragment_protocol == fragment_protocol
                && entry.source == flow.source
                && entry.destination == flow.destination
        };
        let fresh = |entry: &Entry| now.saturating_duration_since(entry.seen_at) < LIFETIME;
        let set = &mut self.sets[set_of(identification, fragment_protocol, &flow)];
        let ports = match flow.ports {
            Ports::Known(source_port, destination_port) => Some((source_port, destination_port)),
            // Its later fragments do not show that it is one.
            Ports::None if fragment_protocol != flow.protocol => None,
            Ports::None => return flow,
            Ports::Unknown | Ports::Hidden => {
                return match set.iter().flatten().find(|entry| same(entry) && fresh(entry)) {
                    Some(Entry { protocol, ports: Some((source, destination)), .. }) => {
                        Flow { protocol: *protocol, ports: Ports::Known(*source, *destination), ..flow }
                    }
                    Some(Entry { protocol, ports: None, .. }) => {
                        Flow { protocol: *protocol, ports: Ports::None, ..flow }
                    }
                    None => flow,
                };
            }
        };
        let entry = Entry {
            side,
            source: flow.source,
            destination: flow.destination,
            fragment_protocol,
            identification,
            protocol: flow.protocol,
            ports,
            seen_at: now,
        };
        let position = set.iter().position(|old| old.as_ref().is_some_and(same)).unwrap_or_else(|| {
            let age = |old: &Option<Entry>| old.as_ref().map_or(Instant::ZERO, |old| old.seen_at);
            (0..WAYS).min_by_key(|&way| (set[way].is_some(), age(&set[way]))).unwrap_or(0)
        });
        set[position] = Some(entry);
        flow
    }
}

fn set_of(identification: u32, protocol: u8, flow: &Flow) -> usize {
    let mixed = (flow.source as u64).rotate_left(32)
        ^ (flow.source >> 64) as u64
        ^ (flow.destination as u64).rotate_left(13)
        ^ (flow.destination >> 64) as u64
        ^ u64::from(identification) << 17
        ^ u64::from(protocol);
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % SETS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::{Version, put_word};

    /// A UDP fragment: first with ports, or later.
    fn resolve(tracker: &mut FragmentTracker, now: Instant, side: Side, id: u16, first: bool) -> Ports {
        let mut bytes = vec![0x45, 0, 0, 28, 0, 0, 0x20, 0, 64, 17, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2];
        bytes.extend([0, 5, 0, 6, 0, 0, 0, 0]);
        put_word(&mut bytes, 4, id);
        put_word(&mut bytes, 6, if first { 0x2000 } else { 0x2001 });
        tracker.resolve(now, side, &Packet::parse(Version::V4, &bytes).unwrap()).ports
    }

    #[test]
    fn later_fragments_get_the_ports_of_their_first_for_thirty_seconds() {
        let mut tracker = FragmentTracker::new();
        let now = Instant::from_micros(1_000_000);
        let mut resolve = |now, id, first| resolve(&mut tracker, now, Side::Egress, id, first);
        assert_eq!(resolve(now, 9, false), Ports::Unknown);
        resolve(now, 9, true);
        assert_eq!(resolve(now, 9, false), Ports::Known(5, 6));
        assert_eq!(resolve(now, 8, false), Ports::Unknown);
        assert_eq!(resolve(now.saturating_add(LIFETIME), 9, false), Ports::Unknown);
    }

    #[test]
    fn fragments_from_outside_say_nothing_about_those_from_inside() {
        let mut tracker = FragmentTracker::new();
        resolve(&mut tracker, Instant::ZERO, Side::Ingress, 9, true);
        assert_eq!(resolve(&mut tracker, Instant::ZERO, Side::Egress, 9, false), Ports::Unknown);
        assert_eq!(resolve(&mut tracker, Instant::ZERO, Side::Decrypted(0), 9, false), Ports::Unknown);
    }

    #[test]
    fn a_protocol_behind_extension_headers_is_known_for_later_fragments_too() {
        let fragment = |offset: u8| {
            let mut bytes = vec![0x60, 0, 0, 0, 0, 24, 44, 64];
            bytes.extend([1; 32]);
            bytes.extend([60, 0, 0, offset | 1, 0, 0, 0, 7]);
            bytes.extend([58, 0, 0, 0, 0, 0, 0, 0, 128, 0, 0, 0, 0, 0, 0, 0]);
            bytes
        };
        let mut tracker = FragmentTracker::new();
        let mut resolve = |offset| {
            let bytes = fragment(offset);
            let packet = Packet::parse(Version::V6, &bytes).unwrap();
            let flow = tracker.resolve(Instant::ZERO, Side::Egress, &packet);
            (flow.protocol, flow.ports)
        };
        assert_eq!(resolve(16), (60, Ports::Hidden));
        assert_eq!([resolve(0), resolve(16)], [(58, Ports::None); 2]);
    }
}
