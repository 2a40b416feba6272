//! One external interface with our programs on it.

use std::io;
use std::sync::Arc;

use dataplane::{InterfaceId, Tables};

use super::classification::Classification;
use super::lane::{Port, PortCounters};
use super::lanes::Lanes;
use super::programs::{InterfaceEntry, Programs, Table};
use super::tap::{self, Tap};
use super::tc::{self, Hook};
use super::wire::{self, Wire, WireIo};
use crate::netlink::Link;

/// What was made for one external interface. The TAP and the sockets are the lanes'.
pub(super) struct Attached {
    link: Link,
    entry: InterfaceEntry,
    classification: Classification,
    counters: Arc<PortCounters>,
    wire_io: WireIo,
    /// Both programs are attached.
    hooked: bool,
}

impl Attached {
    /// Makes the TAP and fills the maps, so that the programs find everything from the first packet on.
    pub(super) fn prepare(
        programs: &mut Programs,
        lanes: &Lanes,
        link: &Link,
        tables: &Tables,
        wire_io: WireIo,
    ) -> io::Result<Self> {
        check_headers(link)?;
        let Tap { queues, index: tap, has_datagram_frames } = Tap::create(link, programs, lanes.count())?;
        let mut sockets = Wire::open(link, wire_io, lanes.count())?;
        let wires = receive_by(programs, link, &mut sockets)?;
        let counters = Arc::<PortCounters>::default();
        let (table, classification) = store(programs, link, tables)?;
        let entry = InterfaceEntry { wires, ..entry(tap, table, &classification, link, tables) };
        let attached = Self {
            link: link.clone(),
            entry,
            classification,
            counters: Arc::clone(&counters),
            wire_io,
            hooked: false,
        };
        let ports = queues.into_iter().zip(sockets).map(|(tap, wire)| Port {
            interface: link.index,
            mac: link.mac,
            tap,
            has_datagram_frames,
            wire,
            counters: Arc::clone(&counters),
            lives: true,
        });
        let made = programs.set_interface(link.index, entry).and_then(|()| lanes.add(ports));
        if let Err(error) = made {
            attached.forget(programs);
            return Err(error);
        }
        Ok(attached)
    }

    /// Attaches the programs, in the place of any predecessor's, and again if somebody has removed them.
    pub(super) fn hook(&mut self, programs: &Programs) -> io::Result<()> {
        if self.hooked && !tc::is_attached(self.link.index)? {
            tracing::warn!(
                interface = self.link.name,
                "somebody removed the tc programs; attaching them again"
            );
            self.hooked = false;
        }
        if !self.hooked {
            hook(programs, &self.link)?;
            self.hooked = true;
            tracing::info!(interface = self.link.name, tap = self.entry.tap, "attached");
        }
        Ok(())
    }

    /// Follows changes of tables and link.
    pub(super) fn update(
        &mut self,
        programs: &mut Programs,
        lanes: &Lanes,
        link: &Link,
        tables: &Tables,
    ) -> io::Result<()> {
        let mut wires = self.entry.wires;
        if wire::bypasses(&self.link) != wire::bypasses(link) {
            // First without AF_XDP: a queue is bound to one socket at a time.
            programs.unwire(link.index);
            lanes.replace_wires(link.index, link.mac, Wire::open(link, WireIo::Packet, lanes.count())?)?;
            let mut sockets = Wire::open(link, self.wire_io, lanes.count())?;
            wires = receive_by(programs, link, &mut sockets)?;
            lanes.replace_wires(link.index, link.mac, sockets)?;
        } else if self.link.mac != link.mac {
            lanes.rename(link.index, link.mac)?;
        }
        self.link = link.clone();

        let wanted = classification(link, tables);
        let of_table = |table, stored: &Classification| InterfaceEntry {
            wires,
            ..entry(self.entry.tap, table, stored, link, tables)
        };
        if wanted == self.classification {
            let entry = of_table(self.entry.table, &wanted);
            if entry != self.entry {
                programs.set_interface(link.index, entry)?;
                self.entry = entry;
            }
            return Ok(());
        }
        let (table, stored) = store(programs, link, tables)?;
        let entry = of_table(table, &stored);
        if let Err(error) = programs.set_interface(link.index, entry) {
            programs.remove_table(table, &stored);
            return Err(error);
        }
        let former = std::mem::replace(&mut self.classification, stored);
        programs.remove_table(self.entry.table, &former);
        self.entry = entry;
        Ok(())
    }

    /// Frees the maps' entries, after detaching.
    pub(super) fn forget(&self, programs: &mut Programs) {
        programs.remove_interface(self.link.index, self.entry.tap);
        programs.remove_table(self.entry.table, &self.classification);
    }

    /// Both programs were attached when that was looked at last.
    pub(super) fn is_hooked(&self) -> bool {
        self.hooked
    }

    /// Name of the interface.
    pub(super) fn name(&self) -> &str {
        &self.link.name
    }

    /// The device does not exist any longer.
    pub(super) fn has_lost_its_tap(&self) -> bool {
        !tap::exists(self.entry.tap)
    }

    /// The lanes' counters.
    pub(super) fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counters.iter()
    }
}

/// The TAP of an interface that has none: no device has this index, so what is redirected to it is dropped.
pub(super) const NO_TAP: u32 = 0;

/// What keeps an interface closed that could not be attached to: the programs, and no engine.
pub(super) struct Closed {
    table: Table,
    classification: Classification,
}

impl Closed {
    /// Fills the maps; the programs are to be attached next.
    pub(super) fn new(programs: &mut Programs, link: &Link, tables: &Tables) -> io::Result<Self> {
        check_headers(link)?;
        let (table, classification) = store(programs, link, tables)?;
        let entry = entry(NO_TAP, table, &classification, link, tables);
        let closed = Self { table, classification };
        programs.set_interface(link.index, entry).inspect_err(|_| closed.forget(programs))?;
        Ok(closed)
    }

    /// Frees the prefixes, once the interface has another entry or none.
    pub(super) fn forget(&self, programs: &mut Programs) {
        programs.remove_table(self.table, &self.classification);
    }
}

fn check_headers(link: &Link) -> io::Result<()> {
    match link.ethernet {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "only interfaces with Ethernet headers can be external",
        )),
    }
}

/// Attaches both programs, in the place of any predecessor's; where the second fails, the first stays: it keeps its direction
/// closed.
pub(super) fn hook(programs: &Programs, link: &Link) -> io::Result<()> {
    tc::attach(link.index, Hook::Egress, &programs.egress, "gvpn_egress")?;
    tc::attach(link.index, Hook::Ingress, &programs.ingress, "gvpn_ingress")
}

/// Attaches the XDP program where the sockets want to receive; where that fails, they are exchanged for such as do not.
fn receive_by(programs: &mut Programs, link: &Link, sockets: &mut Vec<Wire>) -> io::Result<u32> {
    if sockets.iter().all(|wire| !wire.receives) {
        return Ok(0);
    }
    match programs.wire(link.index, wire::receiving(sockets)) {
        Ok(wires) => Ok(wires),
        Err(error) => {
            let lanes = sockets.len();
            // A queue is bound to one socket at a time.
            sockets.clear();
            *sockets = Wire::without_receiving(link, &error, lanes)?;
            Ok(0)
        }
    }
}

fn classification(link: &Link, tables: &Tables) -> Classification {
    let id = InterfaceId(link.index);
    let arriving = tables.ingress_candidates(id).filter;
    Classification::new(&tables.egress_candidates(id), &arriving, link.on_link_prefixes())
}

fn entry(tap: u32, table: Table, stored: &Classification, link: &Link, tables: &Tables) -> InterfaceEntry {
    let id = InterfaceId(link.index);
    InterfaceEntry {
        filter_any: stored.filter_any,
        filter_skip: stored.filter_skip,
        ..InterfaceEntry::new(tap, table, &tables.egress_candidates(id), &tables.ingress_candidates(id))
    }
}

/// Stores the prefixes, or, where they do not fit, "everything": slower, never leaking.
fn store(programs: &mut Programs, link: &Link, tables: &Tables) -> io::Result<(Table, Classification)> {
    let exact = classification(link, tables);
    match programs.add_table(&exact) {
        Ok(table) => Ok((table, exact)),
        Err(error) => {
            tracing::warn!(%error, interface = link.name, "prefixes do not fit: the engine gets every packet");
            let everything = Classification::everything(link.on_link_prefixes());
            Ok((programs.add_table(&everything)?, everything))
        }
    }
}
