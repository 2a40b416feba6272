//! The data path on Linux: tc programs, TAPs, wire sockets and the lane that runs the packet engine.
//!
//! ```text
//! DataPath::start(Options) ─→ publish(Publication) … ─→ stop(StopBehaviour)
//! ```
//!
//! The control side publishes the whole truth each time: tables, links, peers. The data path compares it with what it has
//! and attaches, replaces or detaches accordingly. Whoever attached before, a crashed predecessor included, is replaced.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use dataplane::Tables;

use crate::netlink::Links;

mod marks;

pub use marks::{CLEAR_MARK, CONTROL_MARK, INJECT_MARK, TX_MARK};

/// How to start.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Origin of the clock by which the tables' SAs are activated and expire: moment zero of [`dataplane::Instant`].
    pub clock_origin: std::time::Instant,
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

/// An interface that could not be attached to. Unless a predecessor's programs are there, it leaks.
#[derive(Debug, thiserror::Error)]
#[error("{interface}: {source}")]
pub struct AttachError {
    /// Name of the interface.
    pub interface: String,
    /// What went wrong.
    pub source: io::Error,
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
    /// A system call failed; the text says what for.
    #[error("{0}: {1}")]
    System(&'static str, #[source] io::Error),
}

/// The running data path: programs in the kernel, one TAP per external interface, a thread with the engine.
///
/// Dropping it without [`DataPath::stop`] is like a crash: closed.
#[derive(Debug)]
pub struct DataPath {}

impl DataPath {
    /// Loads the programs and starts the lane; attaches to nothing before the first [`DataPath::publish`].
    /// Blocks for some milliseconds.
    pub fn start(_options: Options) -> Result<Self, StartError> {
        Err(StartError::System("packet input and output", io::ErrorKind::Unsupported.into()))
    }

    /// Makes all of this valid: to be called after every change of any of it. Attaches to interfaces that are new,
    /// updates maps, hands the tables to the engine, detaches from interfaces that are external no longer.
    ///
    /// Returns the interfaces that it failed for, each on every call until it succeeds; the others are served.
    #[must_use]
    pub fn publish(&mut self, _publication: Publication<'_>) -> Vec<AttachError> {
        Vec::new()
    }

    /// Counters since the start, by interface; the engine's own are in the tables.
    pub fn statistics(&self) -> Vec<InterfaceStatistics> {
        Vec::new()
    }

    /// Ends the lane, and leaves the interfaces closed or detached.
    pub fn stop(self, _behaviour: StopBehaviour) -> io::Result<()> {
        Ok(())
    }
}

/// Removes all that any daemon of ours has attached in this network namespace, running or not: `gvpnd --detach`.
/// Returns the names of the interfaces it was removed from.
pub fn detach_all() -> io::Result<Vec<String>> {
    Ok(Vec::new())
}
