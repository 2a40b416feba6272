//! All lanes of a data path. Each serves every interface; `bpf/lanes.h` says which of them gets a packet.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use dataplane::{Instant, Session, Tables, TablesBuilder};
use tokio::sync::Notify;

use super::Options;
use super::lane::{Lane, Order, Port, Shared};
use super::wire::Wire;
use crate::sys::arrivals::Arrivals;

/// Handles of the threads.
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    shared: Shared,
}

impl Lanes {
    /// Starts a thread for each ring of arrivals, in the network namespace of the caller.
    pub(super) fn start(options: &Options, arrivals: Vec<Arrivals>) -> io::Result<Self> {
        let tables = Arc::new(ArcSwap::from_pointee(TablesBuilder::new().build()));
        let shared = Shared { tables, unknown_spi: Arc::default() };
        let start =
            |(number, arrivals)| Lane::start(format!("lane-{number}"), options, shared.clone(), arrivals);
        let lanes = arrivals.into_iter().enumerate().map(start).collect::<io::Result<_>>()?;
        Ok(Self { lanes, shared })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.lanes.len()
    }

    /// Hands new tables to the engines.
    pub(super) fn publish(&self, tables: &Arc<Tables>) {
        self.shared.tables.store(Arc::clone(tables));
        // Where a thread has ended, the next check says so.
        self.lanes.iter().for_each(|lane| _ = lane.order(Order::Follow));
    }

    /// Told when ESP with an unknown SPI was dropped that a policy matches.
    pub(super) fn unknown_spi(&self) -> Arc<Notify> {
        Arc::clone(&self.shared.unknown_spi)
    }

    /// An error if a thread has ended: what is its to serve is not served then, and closed.
    pub(super) fn check(&self) -> io::Result<()> {
        self.lanes.iter().try_for_each(Lane::check)
    }

    /// Whether every thread has answered what it was asked last, in which case it is asked again.
    pub(super) fn answers(&mut self) -> bool {
        // All of them are asked, also behind one that does not answer.
        let mut all = true;
        for lane in &mut self.lanes {
            all &= lane.answers();
        }
        all
    }

    /// The sessions of all lanes that live at `now`, in the order they were created. Their numbers are unique.
    pub(super) fn sessions(&self, now: Instant) -> Vec<Session> {
        let lanes = self.lanes.len() as u64;
        let of_lane = |(number, lane): (usize, &Lane)| {
            let unique =
                move |session: Session| Session { number: session.number * lanes + number as u64, ..session };
            lane.sessions.snapshot(now).into_iter().map(unique)
        };
        let mut sessions: Vec<Session> = self.lanes.iter().enumerate().flat_map(of_lane).collect();
        sessions.sort_unstable_by_key(|session| (session.created_at, session.number));
        sessions
    }

    /// Serves one more interface; there is a port for each lane.
    pub(super) fn add(&self, ports: impl IntoIterator<Item = Port>) -> io::Result<()> {
        self.lanes.iter().zip(ports).try_for_each(|(lane, port)| lane.order(Order::Add(port)))
    }

    /// The interface has another address.
    pub(super) fn rename(&self, interface: u32, mac: [u8; 6]) -> io::Result<()> {
        self.lanes.iter().try_for_each(|lane| lane.order(Order::Rename { interface, mac }))
    }

    /// Gives an interface other sockets, for each lane one; the former ones are gone on return.
    pub(super) fn replace_wires(&self, interface: u32, mac: [u8; 6], wires: Vec<Wire>) -> io::Result<()> {
        self.lanes.iter().zip(wires).try_for_each(|(lane, wire)| lane.replace_wire(interface, mac, wire))
    }

    /// Closes TAPs and sockets of an interface; they are gone on return.
    pub(super) fn remove(&self, interface: u32) {
        self.lanes.iter().for_each(|lane| lane.remove(interface));
    }
}
