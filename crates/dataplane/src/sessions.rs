//! The flows that policies protect, with what each has carried: what `show security flow session` prints.
//!
//! Sessions decide nothing; a packet that finds no room in the table is protected all the same. One lane writes its
//! table, anyone may read it meanwhile: every field is an atomic, and a slot's number, odd while the slot is given to
//! another flow, tells a reader that what it has read belongs together. The memory is of fixed size.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crate::classifier::{Flow, Ports};
use crate::ip::{PROTOCOL_TCP, Version};
use crate::{Instant, InterfaceId};

/// Sessions of a lane; 2 MiB.
const SESSIONS: usize = 16_384;
const WAYS: usize = 8;

/// As the product that the outputs are modelled on ages its sessions.
const TCP_LIFETIME: u32 = 1800;
const OTHER_LIFETIME: u32 = 60;
/// After FIN or RST.
const CLOSED_LIFETIME: u32 = 2;

/// Packets and octets of one direction of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionTraffic {
    /// Packets; a super-frame counts as the packets it is cut into.
    pub packets: u64,
    /// Octets of the inner IP packets.
    pub octets: u64,
    /// SPI of the last packet; 0 before the first.
    pub spi: u32,
}

/// A session as it was at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Unique in its table, ascending with the time of creation.
    pub number: u64,
    /// Source of the first packet.
    pub source: IpAddr,
    /// Destination of the first packet.
    pub destination: IpAddr,
    /// IP protocol.
    pub protocol: u8,
    /// Source port of the first packet; 0 where there are none.
    pub source_port: u16,
    /// Destination port of the first packet.
    pub destination_port: u16,
    /// External interface the packets leave by or arrive on.
    pub interface: InterfaceId,
    /// The first packet was encrypted here; else it was decrypted.
    pub is_outward: bool,
    /// In the direction of the first packet.
    pub forward: SessionTraffic,
    /// In the other direction.
    pub backward: SessionTraffic,
    /// When its first packet was seen.
    pub created_at: Instant,
    /// When it is forgotten if nothing else comes.
    pub expires_at: Instant,
}

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Outward,
    Inward,
}

/// Where a session is, as long as the slot is not given to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionRef {
    slot: u32,
    stamp: u32,
    /// The flow is in the direction of the session's first packet.
    is_forward: bool,
}

/// The sessions of one lane.
#[derive(Debug)]
pub struct SessionTable {
    /// What a look-up reads first, one cache line for a set.
    heads: Box<[Heads]>,
    slots: Box<[Slot; SESSIONS]>,
    created: AtomicU64,
    not_tracked: AtomicU64,
}

/// Of each slot of a set: a part of the flow's hash above, the second in which it expires below; 0 if it is free.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Heads([AtomicU64; WAYS]);

/// What every packet changes, in one cache line, and what says which flow it is.
#[derive(Debug, Default)]
#[repr(C, align(64))]
struct Slot {
    /// Counts how often the slot was given away; odd while it is being given.
    stamp: AtomicU32,
    /// Seconds from the last packet on.
    lifetime: AtomicU32,
    /// Packets seen up to this microsecond leave the second of expiry in the head as it is.
    shown_until: AtomicU64,
    last_seen: AtomicU64,
    spis: [AtomicU32; 2],
    counts: [Counts; 2],
    key: [AtomicU64; 5],
    about: [AtomicU64; 3],
}

#[derive(Debug, Default)]
struct Counts {
    packets: AtomicU64,
    octets: AtomicU64,
}

impl SessionTable {
    pub(crate) fn new() -> Arc<Self> {
        let slots: Box<[Slot]> = (0..SESSIONS).map(|_| Slot::default()).collect();
        Arc::new(Self {
            heads: (0..SESSIONS / WAYS).map(|_| Heads::default()).collect(),
            slots: slots.try_into().expect("as many slots"),
            created: AtomicU64::new(0),
            not_tracked: AtomicU64::new(0),
        })
    }

    /// The sessions that live at `now`, in the order they were created.
    ///
    /// Reads the lane's memory while the lane goes on; a session that changes owners meanwhile is left out.
    pub fn snapshot(&self, now: Instant) -> Vec<Session> {
        let mut sessions: Vec<Session> = self.slots.iter().filter_map(|slot| slot.read(now)).collect();
        sessions.sort_unstable_by_key(|session| session.number);
        sessions
    }

    /// Sessions made so far.
    pub fn created(&self) -> u64 {
        self.created.load(Ordering::Relaxed)
    }

    /// Flows that found no room.
    pub fn not_tracked(&self) -> u64 {
        self.not_tracked.load(Ordering::Relaxed)
    }

    /// Forgets all sessions. The lane goes on with new ones.
    pub fn clear(&self) {
        for (at, slot) in self.slots.iter().enumerate() {
            slot.last_seen.store(0, Ordering::Relaxed);
            self.head(at).store(0, Ordering::Relaxed);
        }
    }

    /// The session of a flow, a new one if need be. Only the lane that owns the table calls this.
    pub(crate) fn open(
        &self,
        now: Instant,
        flow: &Flow,
        interface: InterfaceId,
        direction: Direction,
    ) -> Option<SessionRef> {
        let forward = key_of(flow);
        let backward = key_of(&flow.mirrored());
        let hash = hash(&forward, &backward);
        let (set, tag) = (hash as usize % self.heads.len(), (hash >> 32) as u32);
        let mut free = None;
        for (way, head) in self.heads[set].0.iter().enumerate() {
            let (at, head) = (set * WAYS + way, head.load(Ordering::Relaxed));
            if (head & u64::from(u32::MAX)) * 1_000_000 <= now.as_micros() {
                free.get_or_insert(at);
            } else if (head >> 32) as u32 == tag {
                let slot = &self.slots[at];
                if slot.has_key(&forward) || slot.has_key(&backward) {
                    let stamp = slot.stamp.load(Ordering::Relaxed);
                    return Some(SessionRef { slot: at as u32, stamp, is_forward: slot.has_key(&forward) });
                }
            }
        }
        let Some(at) = free else {
            self.not_tracked.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let number = self.created.load(Ordering::Relaxed) + 1;
        self.created.store(number, Ordering::Relaxed);
        let direction = u64::from(direction == Direction::Outward);
        let about = [number, now.as_micros(), u64::from(interface.0) << 1 | direction];
        let stamp = self.slots[at].give(now, &forward, about);
        self.head(at).store(u64::from(tag) << 32, Ordering::Relaxed);
        self.show_expiry(at);
        Some(SessionRef { slot: at as u32, stamp, is_forward: true })
    }

    /// Adds packets to a session; false if it is no longer that flow's. Only the lane that owns the table calls this.
    #[inline(always)]
    pub(crate) fn count(
        &self,
        now: Instant,
        session: SessionRef,
        spi: u32,
        packets: u64,
        octets: u64,
        closes: bool,
    ) -> bool {
        let slot = &self.slots[session.slot as usize];
        if slot.stamp.load(Ordering::Relaxed) != session.stamp || slot.last_seen.load(Ordering::Relaxed) == 0
        {
            return false;
        }
        let direction = usize::from(!session.is_forward);
        let counts = &slot.counts[direction];
        // There is one writer: no need for atomic additions.
        counts.packets.store(counts.packets.load(Ordering::Relaxed) + packets, Ordering::Relaxed);
        counts.octets.store(counts.octets.load(Ordering::Relaxed) + octets, Ordering::Relaxed);
        slot.spis[direction].store(spi, Ordering::Relaxed);
        slot.last_seen.store(now.as_micros().max(1), Ordering::Relaxed);
        if closes {
            slot.lifetime.store(CLOSED_LIFETIME, Ordering::Relaxed);
        }
        if closes || now.as_micros() > slot.shown_until.load(Ordering::Relaxed) {
            self.show_expiry(session.slot as usize);
        }
        true
    }

    fn head(&self, at: usize) -> &AtomicU64 {
        &self.heads[at / WAYS].0[at % WAYS]
    }

    /// Writes the second of expiry into the head of a slot.
    #[cold]
    fn show_expiry(&self, at: usize) {
        let slot = &self.slots[at];
        let second = slot.expires_at().as_micros().div_ceil(1_000_000);
        let lifetime = u64::from(slot.lifetime.load(Ordering::Relaxed));
        slot.shown_until.store((second - lifetime) * 1_000_000, Ordering::Relaxed);
        let tag = self.head(at).load(Ordering::Relaxed) >> 32;
        self.head(at).store(tag << 32 | u64::from(second as u32), Ordering::Relaxed);
    }
}

impl Slot {
    fn has_key(&self, key: &[u64; 5]) -> bool {
        self.key.iter().zip(key).all(|(own, other)| own.load(Ordering::Relaxed) == *other)
    }

    /// Makes it the slot of another flow; returns its stamp.
    fn give(&self, now: Instant, key: &[u64; 5], about: [u64; 3]) -> u32 {
        let stamp = self.stamp.load(Ordering::Relaxed);
        self.stamp.store(stamp.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.key.iter().zip(key).for_each(|(own, other)| own.store(*other, Ordering::Relaxed));
        self.about.iter().zip(about).for_each(|(own, other)| own.store(other, Ordering::Relaxed));
        for counts in &self.counts {
            counts.packets.store(0, Ordering::Relaxed);
            counts.octets.store(0, Ordering::Relaxed);
        }
        self.spis.iter().for_each(|spi| spi.store(0, Ordering::Relaxed));
        let is_tcp = key[4] >> 32 & 0xff == PROTOCOL_TCP.into();
        self.lifetime.store(if is_tcp { TCP_LIFETIME } else { OTHER_LIFETIME }, Ordering::Relaxed);
        self.shown_until.store(0, Ordering::Relaxed);
        self.last_seen.store(now.as_micros().max(1), Ordering::Relaxed);
        self.stamp.store(stamp.wrapping_add(2), Ordering::Release);
        stamp.wrapping_add(2)
    }

    fn expires_at(&self) -> Instant {
        let last_seen = self.last_seen.load(Ordering::Relaxed);
        if last_seen == 0 {
            return Instant::ZERO;
        }
        let lifetime = u64::from(self.lifetime.load(Ordering::Relaxed));
        Instant::from_micros(last_seen.saturating_add(lifetime * 1_000_000))
    }

    fn traffic(&self, direction: usize) -> SessionTraffic {
        SessionTraffic {
            packets: self.counts[direction].packets.load(Ordering::Relaxed),
            octets: self.counts[direction].octets.load(Ordering::Relaxed),
            spi: self.spis[direction].load(Ordering::Relaxed),
        }
    }

    /// What a reader sees, if the slot is in use and is not given away meanwhile.
    fn read(&self, now: Instant) -> Option<Session> {
        let stamp = self.stamp.load(Ordering::Acquire);
        let key = self.key.each_ref().map(|word| word.load(Ordering::Relaxed));
        let [number, created_at, place] = self.about.each_ref().map(|word| word.load(Ordering::Relaxed));
        let [forward, backward] = [0, 1].map(|direction| self.traffic(direction));
        let expires_at = self.expires_at();
        fence(Ordering::Acquire);
        if !stamp.is_multiple_of(2) || self.stamp.load(Ordering::Relaxed) != stamp || expires_at <= now {
            return None;
        }
        let is_six = key[4] >> 40 & 1 != 0;
        let address = |high: u64, low: u64| match is_six {
            true => IpAddr::from(Ipv6Addr::from(u128::from(high) << 64 | u128::from(low))),
            false => IpAddr::from((low as u32).to_be_bytes()),
        };
        Some(Session {
            number,
            source: address(key[0], key[1]),
            destination: address(key[2], key[3]),
            protocol: (key[4] >> 32) as u8,
            source_port: (key[4] >> 16) as u16,
            destination_port: key[4] as u16,
            interface: InterfaceId((place >> 1) as u32),
            is_outward: place & 1 != 0,
            forward,
            backward,
            created_at: Instant::from_micros(created_at),
            expires_at,
        })
    }
}

/// A flow in five words: addresses, and in the last version, protocol and ports.
fn key_of(flow: &Flow) -> [u64; 5] {
    let (source_port, destination_port) = match flow.ports {
        Ports::Known(source, destination) => (source, destination),
        Ports::None | Ports::Unknown | Ports::Hidden => (0, 0),
    };
    let is_six = u64::from(flow.version == Version::V6);
    [
        (flow.source >> 64) as u64,
        flow.source as u64,
        (flow.destination >> 64) as u64,
        flow.destination as u64,
        is_six << 40
            | u64::from(flow.protocol) << 32
            | u64::from(source_port) << 16
            | u64::from(destination_port),
    ]
}

/// The same for both directions.
fn hash(forward: &[u64; 5], backward: &[u64; 5]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let one = |key: &[u64; 5]| {
        key.iter().fold(0u64, |hash, word| (hash.rotate_left(5) ^ word).wrapping_mul(ODD)) >> 20
    };
    let mixed = one(forward).wrapping_add(one(backward)).wrapping_mul(ODD);
    // The upper bits are the good ones; the set is taken from below.
    mixed.rotate_right(24)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(index: u32) -> Flow {
        Flow {
            version: Version::V4,
            source: crate::ip::mapped(0x0a00_0000 | index),
            destination: crate::ip::mapped(0x0b00_0001),
            protocol: PROTOCOL_TCP,
            ports: Ports::Known(1000, 23),
        }
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    const WAN: InterfaceId = InterfaceId(7);

    fn open(table: &SessionTable, now: Instant, flow: &Flow) -> Option<SessionRef> {
        table.open(now, flow, WAN, Direction::Outward)
    }

    #[test]
    fn both_directions_of_a_flow_are_one_session() {
        let table = SessionTable::new();
        let forward = open(&table, at(5), &flow(2)).unwrap();
        let backward = table.open(at(6), &flow(2).mirrored(), WAN, Direction::Inward).unwrap();
        assert!(table.count(at(5), forward, 500, 1, 40, false));
        assert!(table.count(at(6), backward, 501, 3, 4000, false));
        assert!(table.count(at(7), forward, 501, 1, 60, false));
        let sessions = table.snapshot(at(8));
        let [session] = sessions.as_slice() else { panic!("{sessions:?}") };
        assert_eq!((session.source.to_string(), session.source_port), ("10.0.0.2".into(), 1000));
        assert_eq!((session.destination.to_string(), session.destination_port), ("11.0.0.1".into(), 23));
        assert_eq!(session.forward, SessionTraffic { packets: 2, octets: 100, spi: 501 });
        assert_eq!(session.backward, SessionTraffic { packets: 3, octets: 4000, spi: 501 });
        assert_eq!((session.interface, session.is_outward, session.protocol), (WAN, true, 6));
        assert_eq!((session.created_at, session.expires_at), (at(5), at(1807)));
    }

    #[test]
    fn sessions_age_and_closed_ones_soon() {
        let table = SessionTable::new();
        let udp = Flow { protocol: 17, ..flow(3) };
        for (flow, closes, lifetime) in [(flow(1), false, 1800), (flow(2), true, 2), (udp, false, 60)] {
            let session = open(&table, at(10), &flow).unwrap();
            assert!(table.count(at(10), session, 500, 1, 40, closes));
            let count = table.snapshot(at(10)).len();
            assert_eq!(table.snapshot(at(10 + lifetime)).len(), count - 1, "{flow:?}");
            table.clear();
        }
        // An expired session's slot is given to the next flow; what held on to it is told so.
        let old = open(&table, at(20), &flow(9)).unwrap();
        let new = open(&table, at(20 + 1800), &flow(9)).unwrap();
        assert_ne!(old, new);
        assert!(!table.count(at(1820), old, 500, 1, 40, false));
    }

    #[test]
    fn the_table_is_of_fixed_size_and_what_finds_no_room_is_counted() {
        let table = SessionTable::new();
        let opened = (0..100_000).filter(|index| open(&table, at(1), &flow(*index)).is_some()).count();
        assert_eq!(table.snapshot(at(2)).len(), opened);
        assert!(opened > SESSIONS * 9 / 10 && opened <= SESSIONS, "{opened}");
        assert_eq!(table.not_tracked(), 100_000 - opened as u64);
        assert_eq!(table.created(), opened as u64);
        table.clear();
        assert_eq!(table.snapshot(at(2)).len(), 0);
        assert!(open(&table, at(2), &flow(1)).is_some());
    }

    #[test]
    fn a_reader_never_sees_halves_of_two_sessions() {
        let table = SessionTable::new();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for round in 1..30_000u64 {
                    // Each is over when the next one comes, and takes its place.
                    let index = round as u32 & 0xffff;
                    let flow = Flow { ports: Ports::Known(index as u16, index as u16), ..flow(index) };
                    open(&table, at(round * 2000), &flow);
                }
            });
            while !writer.is_finished() {
                for session in table.snapshot(Instant::ZERO) {
                    let IpAddr::V4(source) = session.source else { panic!() };
                    assert_eq!(u32::from(source) as u16, session.source_port);
                    assert_eq!(session.source_port, session.destination_port);
                }
            }
        });
    }
}
