//! The data path on Linux: tc programs, TAPs, wire sockets and the lanes that run the packet engine.
//!
//! ```text
//! DataPath::start(Options) ─→ publish(Publication) … ─→ stop(StopBehaviour)
//! ```
//!
//! The control side publishes the whole truth each time: tables, links, peers. The data path compares it with what it has
//! and attaches, replaces or detaches accordingly. Whoever attached before, a crashed predecessor included, is replaced.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dataplane::{InterfaceId, Tables};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::netlink::{Link, Links};

mod attached;
mod classification;
mod icmp;
mod lane;
mod lanes;
mod marks;
mod metadata;
mod programs;
mod rest;
mod tap;
mod tc;
mod wire;

use attached::{Attached, Closed, NO_TAP};
use lanes::Lanes;
use programs::Programs;

pub use programs::MOST_LANES;
pub use wire::WireIo;

pub use marks::{CLEAR_MARK, CONTROL_MARK, INJECT_MARK, TX_MARK};

/// How to start.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The clock by which the tables' SAs are activated and expire.
    pub clock: Clock,
    /// Which sockets carry ESP.
    pub wire_io: WireIo,
    /// How long a lane looks for more packets before it sleeps: less delay for a whole core's time. Zero: never.
    pub busy_poll: Duration,
    /// Threads that work on packets, from 1 to [`MOST_LANES`].
    pub lanes: u16,
}

impl Options {
    /// The usual, by this clock.
    pub fn at(clock: Clock) -> Self {
        Self { clock, wire_io: WireIo::Auto, busy_poll: Duration::ZERO, lanes: usual_lanes() }
    }
}

/// A lane for each core that this process may use.
pub fn usual_lanes() -> u16 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_LANES.into()) as u16)
}

/// Everything the data path goes by, as of now.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// The engine's tables; their external interfaces are those to be attached to.
    pub tables: &'a Arc<Tables>,
    /// The kernel's links, for Ethernet addresses and on-link prefixes.
    pub links: &'a Links,
    /// Key servers, members and rekey multicast groups: GDOI and IKE with them passes.
    pub peers: &'a [IpAddr],
}

/// What an orderly stop leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StopBehaviour {
    /// The programs stay and drop what the engine would have protected.
    #[default]
    Closed,
    /// Everything is removed: traffic flows in clear.
    Detach,
}

/// An interface that could not be attached to.
#[derive(Debug, thiserror::Error)]
#[error("{interface}: {source}")]
pub struct AttachError {
    /// Name of the interface.
    pub interface: String,
    /// What went wrong.
    pub source: io::Error,
    /// The programs are there and drop what the engine would have protected. Else it leaks.
    pub is_closed: bool,
}

/// Counters of the tc programs of one interface and of its wire socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceStatistics {
    /// Name of the interface.
    pub interface: String,
    /// Counter names and values, in a fixed order.
    pub counters: Vec<(&'static str, u64)>,
}

/// Why the data path could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The kernel refused the tc programs.
    #[error("cannot load the tc programs (CAP_BPF and CAP_NET_ADMIN are needed): {0}")]
    Programs(#[source] io::Error),
    /// A lane could not start.
    #[error("cannot start the lanes (CAP_NET_RAW is needed): {0}")]
    Lane(#[source] io::Error),
}

/// The running data path: programs in the kernel, one TAP per external interface, threads with an engine each.
///
/// Dropping it without [`DataPath::stop`] is like a crash: closed.
pub struct DataPath {
    programs: Programs,
    lanes: Lanes,
    attached: BTreeMap<u32, Attached>,
    /// Interfaces that it failed for.
    closed: BTreeMap<u32, Closed>,
    wire_io: WireIo,
    /// Interfaces that were found free of a predecessor's programs, or have ours.
    searched: BTreeSet<u32>,
}

impl DataPath {
    /// Loads the programs and starts the lanes; attaches to nothing before the first [`DataPath::publish`].
    /// Blocks for some milliseconds. All of it is in the network namespace of the calling thread.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let count = options.lanes.clamp(1, MOST_LANES);
        let mut programs = Programs::load(count).map_err(StartError::Programs)?;
        let arrivals = programs.make_arrivals(count).map_err(StartError::Programs)?;
        let lanes = Lanes::start(&options, arrivals).map_err(StartError::Lane)?;
        let wire_io = options.wire_io;
        let (attached, closed, searched) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Ok(Self { programs, lanes, attached, closed, wire_io, searched })
    }

    /// Makes all of this valid: to be called after every change of any of it. Attaches to interfaces that are new,
    /// updates maps, hands the tables to the engines, detaches from interfaces that are external no longer.
    ///
    /// Returns the interfaces that it failed for, each on every call until it succeeds; the others are served. They are closed
    /// where that can be done. Where a lane has ended that is all of them, for good.
    #[must_use]
    pub fn publish(&mut self, publication: Publication<'_>) -> Vec<AttachError> {
        let Publication { tables, links, peers } = publication;
        let wanted = tables.external_interfaces();
        let mut errors = Vec::new();

        // A packet that the maps send to the engine finds the new tables there, or the old ones: both judge exactly.
        self.lanes.publish(tables);
        let indices: Vec<u32> = wanted.iter().map(|id| id.0).collect();
        let stored = self.programs.set_spis(&indices, &tables.known_spis());
        let stored = stored.and(self.programs.set_peers(peers));
        if let Err(error) = stored {
            tracing::error!(%error, "the tc programs' maps are full");
        }
        // First those that go: a re-created interface needs the name of its former TAP.
        self.detach_unless(|index| indices.contains(&index) && links.by_index(index).is_some());
        for InterfaceId(index) in wanted {
            let Some(link) = links.by_index(index) else { continue };
            if let Err(source) = self.attach_or_update(link, tables) {
                let is_closed = self.keep_closed(link, links, tables);
                errors.push(AttachError { interface: link.name.clone(), source, is_closed });
            }
        }
        self.detach_predecessors(&indices, links);
        errors
    }

    /// Told, often, while ESP with an unknown SPI is dropped that a policy matches. The VPNs' counters say whose.
    pub fn unknown_spi(&self) -> Arc<Notify> {
        self.lanes.unknown_spi()
    }

    /// Whether the lanes go round: each has answered the question of the call before.
    #[must_use]
    pub fn answers(&mut self) -> bool {
        self.lanes.answers()
    }

    /// The flows that policies protect, as they are at `now`.
    pub fn sessions(&self, now: dataplane::Instant) -> Vec<dataplane::Session> {
        self.lanes.sessions(now)
    }

    /// Counters since the start, by interface; the engine's own are in the tables.
    pub fn statistics(&self) -> Vec<InterfaceStatistics> {
        self.attached
            .iter()
            .map(|(index, attached)| InterfaceStatistics {
                interface: attached.name().into(),
                counters: self.programs.counters(*index).chain(attached.counters()).collect(),
            })
            .collect()
    }

    /// Ends the lanes, and leaves the interfaces closed or detached.
    pub fn stop(mut self, behaviour: StopBehaviour) -> io::Result<()> {
        match behaviour {
            StopBehaviour::Closed => Ok(()),
            StopBehaviour::Detach => {
                self.detach_unless(|_| false);
                drop(self);
                detach_all().map(|_| ())
            }
        }
    }

    /// Ends the lanes, and detaches from its interfaces. What other daemons have attached stays.
    pub fn detach(mut self) {
        self.detach_unless(|_| false);
    }

    fn attach_or_update(&mut self, link: &Link, tables: &Tables) -> io::Result<()> {
        self.lanes.check()?;
        // Somebody deleted the TAP: begin again; the programs stay attached, and closed, meanwhile.
        if self.attached.get(&link.index).is_some_and(Attached::has_lost_its_tap)
            && let Some(lost) = self.attached.remove(&link.index)
        {
            tracing::warn!(interface = link.name, "somebody deleted the TAP; making it again");
            self.lanes.remove(link.index);
            lost.forget(&mut self.programs);
        }
        let attached = match self.attached.entry(link.index) {
            Entry::Occupied(entry) => {
                let attached = entry.into_mut();
                attached.update(&mut self.programs, &self.lanes, link, tables)?;
                attached
            }
            Entry::Vacant(entry) => {
                let (programs, lanes) = (&mut self.programs, &self.lanes);
                let attached = Attached::prepare(programs, lanes, link, tables, self.wire_io)?;
                if let Some(closed) = self.closed.remove(&link.index) {
                    closed.forget(programs);
                }
                entry.insert(attached)
            }
        };
        attached.hook(&self.programs)
    }

    /// Closes an interface that could not be attached to, unless another daemon serves it. Whether it is closed.
    fn keep_closed(&mut self, link: &Link, links: &Links, tables: &Tables) -> bool {
        if let Some(attached) = self.attached.get(&link.index) {
            return attached.is_hooked();
        }
        // The sockets of an attempt that failed are gone; what led to them is to go, too.
        self.programs.unwire(link.index);
        if is_served(link, links) {
            return false;
        }
        let closed = Closed::new(&mut self.programs, link, tables).and_then(|closed| {
            if let Some(former) = self.closed.insert(link.index, closed) {
                former.forget(&mut self.programs);
            }
            attached::hook(&self.programs, link)
        });
        if let Err(error) = &closed {
            tracing::error!(%error, interface = link.name, "cannot close the interface");
        }
        closed.is_ok()
    }

    /// Detaches first, then forgets: what passes in between is dropped, not leaked.
    fn detach_unless(&mut self, keep: impl Fn(u32) -> bool) {
        let leaving: Vec<u32> = self.attached.keys().copied().filter(|index| !keep(*index)).collect();
        for index in leaving {
            if let Err(error) = tc::detach(index) {
                tracing::warn!(%error, interface = index, "cannot detach");
            }
            if let Some(attached) = self.attached.remove(&index) {
                self.lanes.remove(index);
                attached.forget(&mut self.programs);
                tracing::info!(interface = attached.name(), "detached");
            }
        }
        let leaving: Vec<u32> = self.closed.keys().copied().filter(|index| !keep(*index)).collect();
        for index in leaving {
            // The interface may be gone.
            let _ = tc::detach(index);
            if let Some(closed) = self.closed.remove(&index) {
                self.programs.remove_interface(index, NO_TAP);
                closed.forget(&mut self.programs);
            }
        }
    }

    /// Removes what a predecessor left on interfaces that are external no longer. Each interface is looked at once.
    fn detach_predecessors(&mut self, external: &[u32], links: &Links) {
        self.searched.retain(|index| links.by_index(*index).is_some());
        for link in links.iter() {
            // One that could not be attached to is external, too: what keeps it closed stays.
            if external.contains(&link.index) || !self.searched.insert(link.index) {
                continue;
            }
            match detach_if_abandoned(link, links) {
                Ok(true) => tracing::info!(interface = link.name, "detached what an earlier daemon left"),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, interface = link.name, "cannot detach"),
            }
        }
    }
}

/// A daemon serves the interface: there is a TAP only as long as its daemon lives.
fn is_served(link: &Link, links: &Links) -> bool {
    links.by_name(&tap::name(&link.name, link.index)).is_some()
}

/// Detaches, unless a daemon serves the interface.
fn detach_if_abandoned(link: &Link, links: &Links) -> io::Result<bool> {
    if is_served(link, links) || tap::is_name(&link.name) { Ok(false) } else { tc::detach(link.index) }
}

/// Removes what daemons of ours that run no longer have left attached in this network namespace, for a daemon that has
/// no external interface. Returns the names of the interfaces it was removed from.
pub fn detach_abandoned() -> io::Result<Vec<String>> {
    let links = Links::read()?;
    detach_from(&links, |link| detach_if_abandoned(link, &links))
}

/// Removes all that any daemon of ours has attached in this network namespace, running or not: `gvpnd --detach`.
/// Returns the names of the interfaces it was removed from.
pub fn detach_all() -> io::Result<Vec<String>> {
    // The TAPs of a daemon that still runs are its own business, and vanish with it.
    detach_from(
        &Links::read()?,
        |link| if tap::is_name(&link.name) { Ok(false) } else { tc::detach(link.index) },
    )
}

/// Goes through all links, also after an error, and collects the names of those that were detached from.
fn detach_from(links: &Links, detach: impl Fn(&Link) -> io::Result<bool>) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut result = Ok(());
    for link in links.iter() {
        match detach(link) {
            Ok(true) => names.push(link.name.clone()),
            Ok(false) => {}
            Err(error) => result = Err(error),
        }
    }
    result.map(|()| names)
}
