//! The tc and XDP programs in the kernel and their maps (`bpf/layout.h`).
//!
//! Each start loads programs and maps afresh; what a predecessor left attached keeps its own until it is replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{ArrayOfMaps, HashMap, Map, MapData, MapError, PerCpuHashMap, XskMap};
use aya::programs::xdp::XdpLinkId;
use aya::programs::{ProgramError, SchedClassifier, SocketFilter, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader, Pod};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_RINGBUF;
use dataplane::Candidates;
use ipnet::IpNet;

use super::classification::{Classification, PrefixValue};
use crate::sys::arrivals::Arrivals;

const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/gvpn.bpf.o"));

/// AF_XDP sockets that an interface can have (`bpf/layout.h`).
pub(super) const QUEUES_PER_INTERFACE: u32 = 16;
/// Lanes that there can be (`bpf/layout.h`).
pub const MOST_LANES: u16 = 16;
/// External interfaces that can have AF_XDP sockets (`bpf/maps.h`).
const INTERFACES_WITH_WIRES: u32 = 256;
const XDP_PROGRAM: &str = "gvpn_wire";

const ALL_LEAVING: u32 = 0x1;
const ALL_ARRIVING: u32 = 0x2;

/// Counters of the programs, in the order of `enum counter`.
const COUNTERS: [&str; 10] = [
    "leaving-to-engine",
    "arriving-to-engine",
    "esp-to-engine",
    "excluded",
    "transit",
    "transit-esp",
    "other-protocol-dropped",
    "pim-register-to-engine",
    "unreadable-dropped",
    "esp-dropped-ring-full",
];

/// Number of a generation of prefixes in the tries. Generations let an interface change from one set to another in one
/// step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table(u32);

/// What the programs know of one external interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InterfaceEntry {
    /// Kernel index of its TAP.
    pub(super) tap: u32,
    /// Its prefixes.
    pub(super) table: Table,
    /// Every forwarded packet that leaves goes to the engine.
    pub(super) all_leaving: bool,
    /// Every clear packet that arrives and would go inward goes to the engine.
    pub(super) all_arriving: bool,
    /// Its first slot among the AF_XDP sockets, plus one; 0: none.
    pub(super) wires: u32,
    /// Terms of its service filters for every protocol.
    pub(super) filter_any: u64,
    /// Terms whose packets pass.
    pub(super) filter_skip: u64,
}

impl InterfaceEntry {
    pub(super) fn new(tap: u32, table: Table, egress: &Candidates, ingress: &Candidates) -> Self {
        let (all_leaving, all_arriving) = (egress.all_forwarded, ingress.all_forwarded);
        Self { tap, table, all_leaving, all_arriving, wires: 0, filter_any: 0, filter_skip: 0 }
    }

    /// `struct interface`: four words, then two of twice the size.
    fn value(&self) -> [u64; 4] {
        let flags =
            if self.all_leaving { ALL_LEAVING } else { 0 } | if self.all_arriving { ALL_ARRIVING } else { 0 };
        let pair = |first: u32, second: u32| {
            let octets = [first.to_ne_bytes(), second.to_ne_bytes()].concat();
            u64::from_ne_bytes(octets.try_into().expect("twice four octets"))
        };
        [pair(self.tap, self.table.0), pair(flags, self.wires), self.filter_any, self.filter_skip]
    }
}

/// Loaded programs and maps. Dropping them detaches the XDP program and no tc program: attached filters hold theirs.
pub(super) struct Programs {
    /// Leaving by an external interface.
    pub(super) egress: OwnedFd,
    /// Arriving on an external interface.
    pub(super) ingress: OwnedFd,
    /// Written to a TAP by the daemon.
    pub(super) inject: OwnedFd,
    /// Chooses the queue of a TAP.
    pub(super) lane: OwnedFd,
    interfaces: HashMap<MapData, u32, [u64; 4]>,
    taps: HashMap<MapData, u32, u32>,
    prefixes4: LpmTrie<MapData, [u32; 2], PrefixValue>,
    prefixes6: LpmTrie<MapData, [u32; 5], PrefixValue>,
    /// By table and protocol.
    filter_protocols: HashMap<MapData, [u32; 2], u64>,
    spis: HashMap<MapData, [u32; 2], u32>,
    peers: HashMap<MapData, [u32; 4], u32>,
    statistics: PerCpuHashMap<MapData, u32, [u64; COUNTERS.len()]>,
    wires: XskMap<MapData>,
    /// Interfaces by slots of [`QUEUES_PER_INTERFACE`] sockets, with the XDP program's attachment.
    wired: BTreeMap<u32, (u32, XdpLinkId)>,
    /// Keeps the XDP program, whose attachments live as long as this.
    object: Ebpf,
    known_spis: BTreeSet<[u32; 2]>,
    known_peers: BTreeSet<[u32; 4]>,
    last_table: u32,
}

impl Programs {
    /// Loads everything into the kernel; attaches nothing. There are to be so many lanes, from 1 to [`MOST_LANES`].
    pub(super) fn load(lanes: u16) -> io::Result<Self> {
        let lanes = u32::from(lanes);
        let mut loader = EbpfLoader::new();
        let mut object =
            loader.override_global("lanes", &lanes, true).load(OBJECT).map_err(io::Error::other)?;
        let mut program = |name: &str| -> io::Result<OwnedFd> {
            let program = object.program_mut(name).ok_or(io::ErrorKind::NotFound)?;
            let program: &mut SchedClassifier = program.try_into().map_err(io::Error::other)?;
            uninterrupted(|| program.load())?;
            program.fd().map_err(io::Error::other)?.as_fd().try_clone_to_owned()
        };
        let (egress, ingress, inject) =
            (program("gvpn_egress")?, program("gvpn_ingress")?, program("gvpn_inject")?);
        let lane = object.program_mut("gvpn_lane").ok_or(io::ErrorKind::NotFound)?;
        let lane: &mut SocketFilter = lane.try_into().map_err(io::Error::other)?;
        uninterrupted(|| lane.load())?;
        let lane = lane.fd().map_err(io::Error::other)?.as_fd().try_clone_to_owned()?;
        Ok(Self {
            egress,
            ingress,
            inject,
            lane,
            interfaces: map(&mut object, "interfaces")?,
            taps: map(&mut object, "taps")?,
            prefixes4: map(&mut object, "prefixes4")?,
            prefixes6: map(&mut object, "prefixes6")?,
            filter_protocols: map(&mut object, "filter_protocols")?,
            spis: map(&mut object, "spis")?,
            peers: map(&mut object, "peers")?,
            statistics: map(&mut object, "statistics")?,
            wires: map(&mut object, "wires")?,
            wired: BTreeMap::new(),
            object,
            known_spis: BTreeSet::new(),
            known_peers: BTreeSet::new(),
            last_table: 0,
        })
    }

    /// Stores prefixes as a new table, which nobody uses yet. On failure nothing of it remains.
    pub(super) fn add_table(&mut self, classification: &Classification) -> io::Result<Table> {
        self.last_table += 1;
        let table = Table(self.last_table);
        let prefixes = classification.iter().map(|(prefix, value)| self.insert_prefix(table, prefix, value));
        let mut stored: Result<(), MapError> = prefixes.collect();
        for (protocol, terms) in classification.protocols() {
            let key = [table.0, protocol.into()];
            stored = stored.and_then(|()| self.filter_protocols.insert(key, terms, 0));
        }
        if let Err(error) = stored {
            self.remove_table(table, classification);
            return Err(io::Error::other(error));
        }
        Ok(table)
    }

    /// Removes the prefixes of a table that no interface uses any longer.
    pub(super) fn remove_table(&mut self, table: Table, classification: &Classification) {
        for (prefix, _) in classification.iter() {
            // Not there: it could not be stored either.
            let _ = match prefix {
                IpNet::V4(_) => self.prefixes4.remove(&key4(table, prefix)),
                IpNet::V6(_) => self.prefixes6.remove(&key6(table, prefix)),
            };
        }
        for (protocol, _) in classification.protocols() {
            let _ = self.filter_protocols.remove(&[table.0, protocol.into()]);
        }
    }

    /// Makes an entry valid for an interface, in one step.
    pub(super) fn set_interface(&mut self, interface: u32, entry: InterfaceEntry) -> io::Result<()> {
        if self.statistics.get(&interface, 0).is_err() {
            let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
            let zero = aya::maps::PerCpuValues::try_from(vec![[0; COUNTERS.len()]; cpus])?;
            self.statistics.insert(interface, zero, 0).map_err(io::Error::other)?;
        }
        self.taps.insert(entry.tap, interface, 0).map_err(io::Error::other)?;
        self.interfaces.insert(interface, entry.value(), 0).map_err(io::Error::other)
    }

    /// Forgets an interface that is attached to no longer.
    pub(super) fn remove_interface(&mut self, interface: u32, tap: u32) {
        self.unwire(interface);
        let _ = self.interfaces.remove(&interface);
        let _ = self.taps.remove(&tap);
        let _ = self.statistics.remove(&interface);
    }

    /// Lets AF_XDP sockets receive the interface's ESP, one for each queue in their order: attaches the XDP program in
    /// the driver. Returns what [`InterfaceEntry::wires`] is to be. The attachment ends with this process.
    pub(super) fn wire(&mut self, interface: u32, sockets: impl Iterator<Item = RawFd>) -> io::Result<u32> {
        let slot = (0..INTERFACES_WITH_WIRES)
            .find(|slot| self.wired.values().all(|(taken, _)| taken != slot))
            .ok_or(io::ErrorKind::StorageFull)?;
        let first = slot * QUEUES_PER_INTERFACE;
        for (queue, socket) in (0..QUEUES_PER_INTERFACE).zip(sockets) {
            self.wires.set(first + queue, socket, 0).map_err(io::Error::other)?;
        }
        let program = self.xdp_program()?;
        let link = program.attach_to_if_index(interface, XdpMode::Driver).map_err(io::Error::other)?;
        self.wired.insert(interface, (slot, link));
        Ok(first + 1)
    }

    /// Undoes [`Programs::wire`]; nothing happens where it was not done.
    pub(super) fn unwire(&mut self, interface: u32) {
        let Some((slot, link)) = self.wired.remove(&interface) else { return };
        if let Ok(program) = self.xdp_program() {
            // The interface may be gone, and the attachment with it.
            let _ = program.detach(link);
        }
        for queue in 0..QUEUES_PER_INTERFACE {
            // A slot is empty already where the socket was closed.
            let _ = self.wires.unset(slot * QUEUES_PER_INTERFACE + queue);
        }
    }

    fn xdp_program(&mut self) -> io::Result<&mut Xdp> {
        let program = self.object.program_mut(XDP_PROGRAM).ok_or(io::ErrorKind::NotFound)?;
        let program: &mut Xdp = program.try_into().map_err(io::Error::other)?;
        if program.fd().is_err() {
            uninterrupted(|| program.load())?;
        }
        Ok(program)
    }

    /// Makes the ring buffers in which the programs hand ESP over, one for each lane.
    pub(super) fn make_arrivals(&mut self, lanes: u16) -> io::Result<Vec<Arrivals>> {
        let mut rings: ArrayOfMaps<MapData> = map(&mut self.object, "arrivals")?;
        let Some(Map::Array(sleepers)) = self.object.take_map("sleepers") else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let make = |lane: u16| {
            let ring =
                aya_obj::Map::new_from_params(BPF_MAP_TYPE_RINGBUF as u32, 0, 0, Arrivals::OCTETS as u32, 0);
            let ring = MapData::create(ring, "arrivals", None).map_err(io::Error::other)?;
            rings.set(lane.into(), &ring, 0).map_err(io::Error::other)?;
            Arrivals::open(ring.fd(), sleepers.fd(), lane.into())
        };
        (0..lanes).map(make).collect()
    }

    /// Sets the SPIs that are the engine's on each of the interfaces.
    pub(super) fn set_spis(&mut self, interfaces: &[u32], spis: &[u32]) -> io::Result<()> {
        let wanted: BTreeSet<[u32; 2]> = interfaces
            .iter()
            .flat_map(|interface| spis.iter().map(|spi| [*interface, u32::from_ne_bytes(spi.to_be_bytes())]))
            .collect();
        exchange(&mut self.spis, &mut self.known_spis, wanted)
    }

    /// Sets the addresses with which GDOI and IKE pass.
    pub(super) fn set_peers(&mut self, peers: &[IpAddr]) -> io::Result<()> {
        let words = |address: &IpAddr| {
            let octets = match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            words(octets)
        };
        exchange(&mut self.peers, &mut self.known_peers, peers.iter().map(words).collect())
    }

    /// Counters of one interface, summed over the processors.
    pub(super) fn counters(&self, interface: u32) -> impl Iterator<Item = (&'static str, u64)> {
        let values = self.statistics.get(&interface, 0).ok();
        COUNTERS.iter().enumerate().map(move |(number, name)| {
            let sum = values.iter().flat_map(|cpus| cpus.iter()).map(|counters| counters[number]).sum();
            (*name, sum)
        })
    }

    fn insert_prefix(&mut self, table: Table, prefix: IpNet, value: &PrefixValue) -> Result<(), MapError> {
        match prefix {
            IpNet::V4(_) => self.prefixes4.insert(&key4(table, prefix), value, 0),
            IpNet::V6(_) => self.prefixes6.insert(&key6(table, prefix), value, 0),
        }
    }
}

/// Loads a program again if a signal came in between, upon which the kernel stops checking it.
fn uninterrupted(mut load: impl FnMut() -> Result<(), ProgramError>) -> io::Result<()> {
    const ATTEMPTS: usize = 20;
    for _ in 1..ATTEMPTS {
        match load() {
            Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == io::ErrorKind::WouldBlock => {
            }
            result => return result.map_err(io::Error::other),
        }
    }
    load().map_err(io::Error::other)
}

/// Takes a map out of the object, with the key and value sizes checked.
fn map<M: TryFrom<Map, Error = MapError>>(object: &mut Ebpf, name: &str) -> io::Result<M> {
    let map = object.take_map(name).ok_or(io::ErrorKind::NotFound)?;
    M::try_from(map).map_err(io::Error::other)
}

/// Adds what is new, then removes what is not wanted.
fn exchange<K: Pod + Ord>(
    map: &mut HashMap<MapData, K, u32>,
    known: &mut BTreeSet<K>,
    wanted: BTreeSet<K>,
) -> io::Result<()> {
    for key in wanted.difference(known) {
        map.insert(key, 1, 0).map_err(io::Error::other)?;
    }
    for key in known.difference(&wanted) {
        let _ = map.remove(key);
    }
    *known = wanted;
    Ok(())
}

/// Sixteen octets as the four words of the programs, in memory order.
fn words(octets: [u8; 16]) -> [u32; 4] {
    std::array::from_fn(|word| {
        u32::from_ne_bytes(octets[word * 4..][..4].try_into().expect("four octets of sixteen"))
    })
}

fn key4(table: Table, prefix: IpNet) -> Key<[u32; 2]> {
    let IpAddr::V4(address) = prefix.network() else { unreachable!("called for IPv4 prefixes only") };
    Key::new(32 + u32::from(prefix.prefix_len()), [table.0, u32::from_ne_bytes(address.octets())])
}

fn key6(table: Table, prefix: IpNet) -> Key<[u32; 5]> {
    let IpAddr::V6(address) = prefix.network() else { unreachable!("called for IPv6 prefixes only") };
    let [a, b, c, d] = words(address.octets());
    Key::new(32 + u32::from(prefix.prefix_len()), [table.0, a, b, c, d])
}
