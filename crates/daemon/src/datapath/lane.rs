//! The lane: a thread with the packet engine, between the TAPs and the wire sockets.
//!
//! It waits for any TAP, reads a batch, lets the engine work on it and sends what comes out. Everything it needs is
//! reserved before; per packet there is only the read of a TAP or the write to it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Instant as Clock;

use arc_swap::ArcSwap;
use crypto::OsRandom;
use dataplane::{
    Destination, DropReason, Engine, FrameBuffer, FrameIn, FrameOut, Instant, InterfaceId, Tables, VnetHeader,
};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;
use tokio::sync::Notify;

use super::icmp::HostSender;
use super::metadata::{self, ETHERNET_HEADER};
use super::tap::Tap;
use super::wire::Wire;
use crate::sys::packet::SendBatch;

/// Frames in a batch. More adds latency, and gains nothing measurable.
const BATCH: usize = 64;
/// Octets that a super-frame may have, with its headers.
const LARGEST_FRAME: usize = VnetHeader::LENGTH + ETHERNET_HEADER + 8 + 65536;
/// Octets of a batch. A batch ends when less than a super-frame's room is left.
const ARENA: usize = 16 * LARGEST_FRAME;
/// Batches from one TAP before the others get their turn.
const TURNS: usize = 8;

/// One external interface, as the lane serves it.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) interface: u32,
    pub(super) mac: [u8; 6],
    pub(super) tap: Tap,
    pub(super) wire: Wire,
    pub(super) counters: Arc<PortCounters>,
}

/// What the lane counts for one interface.
#[derive(Debug, Default)]
pub(super) struct PortCounters {
    read: AtomicU64,
    foreign: AtomicU64,
    wire: AtomicU64,
    wire_refused: AtomicU64,
    injected: AtomicU64,
    inject_refused: AtomicU64,
}

impl PortCounters {
    /// Names and values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("frames-to-engine", &self.read),
            ("foreign-frames", &self.foreign),
            ("frames-to-wire", &self.wire),
            ("wire-refused", &self.wire_refused),
            ("frames-injected", &self.injected),
            ("inject-refused", &self.inject_refused),
        ]
        .into_iter()
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }
}

/// Orders to the lane; they take effect before its next batch.
#[derive(Debug)]
pub(super) enum Order {
    /// Serves one more interface.
    Add(Port),
    /// The interface has another address or another queueing discipline.
    Change { interface: u32, mac: [u8; 6], wire: Wire },
    /// Closes TAP and sockets of an interface, then drops `done`.
    Remove { interface: u32, done: Sender<()> },
    /// Ends the thread.
    Stop,
}

/// Handle of the thread.
pub(super) struct Lane {
    orders: Sender<Order>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    /// The engine's tables, exchanged by the control side.
    pub(super) tables: Arc<ArcSwap<Tables>>,
    failure: Arc<Mutex<Option<io::Error>>>,
    /// Told when ESP with an unknown SPI was dropped that a policy matches.
    pub(super) unknown_spi: Arc<Notify>,
}

impl Lane {
    /// Starts the thread, in the network namespace of the caller.
    pub(super) fn start(clock_origin: Clock, tables: Arc<Tables>) -> io::Result<Self> {
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let tables = Arc::new(ArcSwap::new(tables));
        let (orders, receiver) = channel();
        let failure = Arc::new(Mutex::new(None));
        let mut worker = Worker::new(clock_origin, Arc::clone(&tables), receiver, Arc::clone(&wake))?;
        let unknown_spi = Arc::clone(&worker.unknown_spi);
        let reported = Arc::clone(&failure);
        let thread = Builder::new().name("lane".into()).spawn(move || {
            if let Err(error) = worker.run() {
                tracing::error!(%error, "the data path's lane ended; the interfaces are closed");
                *reported.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        })?;
        Ok(Self { orders, wake, thread: Some(thread), tables, failure, unknown_spi })
    }

    /// Gives an order. An error means that the thread has ended.
    pub(super) fn order(&self, order: Order) -> io::Result<()> {
        self.orders.send(order).map_err(|_| self.end())?;
        rustix::io::write(&*self.wake, &1u64.to_ne_bytes())?;
        Ok(())
    }

    /// An error if the thread has ended: nothing is served then, and every interface is closed.
    pub(super) fn check(&self) -> io::Result<()> {
        let lives = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
        if lives { Ok(()) } else { Err(self.end()) }
    }

    fn end(&self) -> io::Error {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = failure.as_ref().map_or_else(|| "it panicked".into(), ToString::to_string);
        io::Error::other(format!("the lane has ended: {reason}"))
    }

    /// Closes TAP and sockets of an interface; they are gone on return.
    pub(super) fn remove(&self, interface: u32) {
        let (done, closed) = channel();
        if self.order(Order::Remove { interface, done }).is_ok() {
            let _ = closed.recv();
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let _ = self.order(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    clock_origin: Clock,
    tables: Arc<ArcSwap<Tables>>,
    orders: Receiver<Order>,
    wake: Arc<OwnedFd>,
    epoll: OwnedFd,
    ports: Vec<Port>,
    engine: Engine,
    arena: Box<[u8]>,
    output: FrameBuffer,
    batch: SendBatch,
    hosts: HostSender,
    /// ESP with an unknown SPI that was dropped so far, over all VPNs.
    unknown_spis: u64,
    unknown_spi: Arc<Notify>,
}

/// Marks the eventfd among epoll's data; no interface has this index.
const WAKE: u64 = u64::MAX;

impl Worker {
    fn new(
        clock_origin: Clock,
        tables: Arc<ArcSwap<Tables>>,
        orders: Receiver<Order>,
        wake: Arc<OwnedFd>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &*wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        Ok(Self {
            clock_origin,
            tables,
            orders,
            wake,
            epoll,
            ports: Vec::new(),
            engine: Engine::new(&mut OsRandom::new().map_err(io::Error::other)?),
            arena: vec![0; ARENA].into_boxed_slice(),
            output: FrameBuffer::with_capacity(4 * BATCH, 2 * ARENA),
            batch: SendBatch::new(),
            hosts: HostSender::open()?,
            unknown_spis: 0,
            unknown_spi: Arc::default(),
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = [MaybeUninit::uninit(); 64];
        loop {
            let ready = match epoll::wait(&self.epoll, &mut events, None) {
                Ok((ready, _)) => ready,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut ordered = false;
            for event in ready.iter() {
                match event.data.u64() {
                    WAKE => ordered = true,
                    interface => self.serve(interface as u32)?,
                }
            }
            if ordered && !self.obey()? {
                return Ok(());
            }
        }
    }

    /// Carries out all waiting orders. False: stop.
    fn obey(&mut self) -> io::Result<bool> {
        let mut count = [0; 8];
        match rustix::io::read(&*self.wake, &mut count) {
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Add(port) => {
                    let data = epoll::EventData::new_u64(port.interface.into());
                    epoll::add(&self.epoll, &port.tap.file, data, epoll::EventFlags::IN)?;
                    self.ports.push(port);
                }
                Order::Change { interface, mac, wire } => {
                    if let Some(port) = self.ports.iter_mut().find(|port| port.interface == interface) {
                        port.mac = mac;
                        port.wire = wire;
                    }
                }
                // Closing the file removes it from the epoll set too.
                Order::Remove { interface, done } => {
                    self.ports.retain(|port| port.interface != interface);
                    drop(done);
                }
                Order::Stop => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Works on what waits in one TAP, at most [`TURNS`] batches.
    fn serve(&mut self, interface: u32) -> io::Result<()> {
        for _ in 0..TURNS {
            let Some(port) = self.ports.iter().find(|port| port.interface == interface) else {
                return Ok(());
            };
            let (input, more) = match read_batch(port, &mut self.arena) {
                Ok(read) => read,
                // Somebody deleted the device. It is made again with the next publication.
                Err(error) => {
                    tracing::warn!(%error, interface, "cannot read from the TAP; the interface is closed");
                    let _ = epoll::delete(&self.epoll, &port.tap.file);
                    return Ok(());
                }
            };
            if !input.is_empty() {
                let now = Instant::from_micros(self.clock_origin.elapsed().as_micros() as u64);
                self.output.clear();
                let tables = self.tables.load();
                self.engine.process(now, &tables, &input.frames[..input.count], &mut self.output);
                let unknown_spis = unknown_spis(&tables);
                if std::mem::replace(&mut self.unknown_spis, unknown_spis) < unknown_spis {
                    self.unknown_spi.notify_one();
                }
                drop(tables);
                self.send();
            }
            if !more {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sends the engine's output: runs of frames with the same way out together.
    fn send(&mut self) {
        let mut frames = self.output.iter().peekable();
        while let Some(first) = frames.next() {
            let Some(port) = self.ports.iter().find(|port| port.interface == first.interface.0) else {
                continue;
            };
            let socket = match first.destination {
                Destination::WireEsp => port.wire.esp(),
                Destination::WireClear => port.wire.clear(),
                Destination::Inject => {
                    inject(port, &first);
                    continue;
                }
                Destination::IcmpToHost => {
                    self.hosts.send(&first.bytes()[ETHERNET_HEADER..]);
                    continue;
                }
            };
            let same = |next: &FrameOut<'_>| {
                next.interface == first.interface && next.destination == first.destination
            };
            let run = std::iter::once(first).chain(std::iter::from_fn(|| frames.next_if(same)));
            let sent = self.batch.send(socket, run.map(|frame| frame.bytes_with_vnet_header()));
            port.counters.wire.fetch_add(sent.frames, Ordering::Relaxed);
            port.counters.wire_refused.fetch_add(sent.refused, Ordering::Relaxed);
        }
    }
}

/// ESP with an unknown SPI that was dropped because a policy matches it, over all VPNs.
fn unknown_spis(tables: &Tables) -> u64 {
    tables.vpns().iter().map(|vpn| vpn.counters.drops.count(DropReason::UnknownSpiProtected)).sum()
}

struct InputBatch<'a> {
    frames: [FrameIn<'a>; BATCH],
    count: usize,
}

impl InputBatch<'_> {
    fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Reads frames until the TAP has no more or the batch is full; the flag says which.
fn read_batch<'a>(port: &Port, arena: &'a mut [u8]) -> io::Result<(InputBatch<'a>, bool)> {
    let interface = InterfaceId(port.interface);
    let nothing =
        FrameIn { interface, origin: dataplane::Origin::Wire, vnet: VnetHeader::default(), bytes: &[] };
    let mut batch = InputBatch { frames: [nothing; BATCH], count: 0 };
    let (mut read, mut foreign) = (0, 0);
    let mut rest = arena;
    let more = loop {
        if batch.count == BATCH || rest.len() < LARGEST_FRAME {
            break true;
        }
        let length = match rustix::io::read(&port.tap.file, &mut *rest) {
            Ok(length) => length,
            Err(Errno::AGAIN) => break false,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        // Whole cache lines, so that frames do not share one.
        let (frame, following) = rest.split_at_mut(length.next_multiple_of(64));
        rest = following;
        let Some((header, bytes)) = frame[..length].split_first_chunk_mut::<{ VnetHeader::LENGTH }>() else {
            foreign += 1;
            continue;
        };
        match metadata::take(bytes, port.mac) {
            Some(origin) => {
                let vnet = VnetHeader::from_bytes(header);
                batch.frames[batch.count] = FrameIn { interface, origin, vnet, bytes };
                batch.count += 1;
                read += 1;
            }
            None => foreign += 1,
        }
    };
    port.counters.read.fetch_add(read, Ordering::Relaxed);
    port.counters.foreign.fetch_add(foreign, Ordering::Relaxed);
    Ok((batch, more))
}

/// Writes one frame to the TAP, whose program lets it enter by the external interface.
fn inject(port: &Port, frame: &FrameOut<'_>) {
    match rustix::io::write(&port.tap.file, frame.bytes_with_vnet_header()) {
        Ok(_) => port.counters.injected.fetch_add(1, Ordering::Relaxed),
        Err(error) => {
            tracing::trace!(%error, interface = port.interface, "the TAP refused a frame");
            port.counters.inject_refused.fetch_add(1, Ordering::Relaxed)
        }
    };
}
