//! A lane: a thread with a packet engine, between its queues of the TAPs, its ring of arrivals and its wire sockets.
//!
//! It goes round the TAPs and wire sockets as long as there is something, a batch from each: lets the engine work on it and
//! sends what comes out. It sleeps only when a whole round has found nothing; while it is awake, or naps (`rest.rs`), nobody
//! wakes it, which spares the kernel a wake-up for every packet. Everything it needs is reserved before; per packet there is
//! only the read of a TAP or the write to it.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant as Moment};

use arc_swap::ArcSwap;
use crypto::OsRandom;
use dataplane::{
    Destination, DropReason, Engine, FrameBuffer, FrameIn, FrameOut, Instant, InterfaceId, Origin,
    SessionTable, Tables, VnetHeader,
};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use tokio::sync::Notify;

use super::Options;
use super::icmp::HostSender;
use super::metadata::{self, ETHERNET_HEADER, Purpose};
use super::rest::Rest;
use super::wire::Wire;
use crate::clock::Clock;
use crate::sys::arrivals::Arrivals;
use crate::sys::packet::SendBatch;

/// Frames in a batch. More adds latency, and gains nothing measurable.
const BATCH: usize = 64;
/// Octets that a super-frame may have, with its headers.
const LARGEST_FRAME: usize = VnetHeader::LENGTH + ETHERNET_HEADER + 8 + 65536;
/// Octets of a batch, a super-frame at the end apart: input, output and the wire's memory are then in the second-level
/// cache together, and a full batch of ESP still fits.
const BATCH_OCTETS: usize = 128 * 1024;
/// A batch ends when less than a super-frame's room is left.
const ARENA: usize = BATCH_OCTETS + LARGEST_FRAME;
/// Batches from one TAP before the others get their turn.
const TURNS: usize = 8;
/// The nice value of a lane's thread. It does what the kernel would do before any process has its turn; three quarters of a
/// core that others want, too, leave these enough to route and to log.
const PRIORITY: i32 = -5;
/// When a device's queue was full, the lane tries again after so long.
const FULL_QUEUE_PAUSE: Duration = Duration::from_micros(500);

/// One external interface, as a lane serves it.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) interface: u32,
    pub(super) mac: [u8; 6],
    /// The lane's queue of the TAP.
    pub(super) tap: File,
    /// The TAP takes UDP super-frames.
    pub(super) has_datagram_frames: bool,
    pub(super) wire: Wire,
    pub(super) counters: Arc<PortCounters>,
    /// The TAP can be read. It cannot once somebody has deleted the device; a new one comes with the next publication.
    pub(super) lives: bool,
}

/// What the lanes count for one interface.
#[derive(Debug, Default)]
pub(super) struct PortCounters {
    read: AtomicU64,
    rings: AtomicU64,
    arrivals: AtomicU64,
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
            ("received-by-af-xdp", &self.rings),
            ("received-by-ring-buffer", &self.arrivals),
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
    /// The interface has another address.
    Rename { interface: u32, mac: [u8; 6] },
    /// Other sockets for the interface; the former ones are closed, then `done` is dropped.
    Rewire { interface: u32, mac: [u8; 6], wire: Wire, done: Sender<()> },
    /// Closes TAP and sockets of an interface, then drops `done`.
    Remove { interface: u32, done: Sender<()> },
    /// There are other tables: a lane without packets is not to keep the keys of the former ones.
    Follow,
    /// Shows that the thread goes round.
    Answer,
    /// Ends the thread.
    Stop,
}

/// What all lanes have in common.
#[derive(Clone)]
pub(super) struct Shared {
    /// The engines' tables, exchanged by the control side.
    pub(super) tables: Arc<ArcSwap<Tables>>,
    /// Told when ESP with an unknown SPI was dropped that a policy matches.
    pub(super) unknown_spi: Arc<Notify>,
}

/// Handle of the thread.
pub(super) struct Lane {
    orders: Sender<Order>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    failure: Arc<Mutex<Option<io::Error>>>,
    /// Answers given.
    answers: Arc<AtomicU64>,
    /// Answers asked for.
    asked: u64,
    /// The engine's sessions.
    pub(super) sessions: Arc<SessionTable>,
}

impl Lane {
    /// Starts the thread, in the network namespace of the caller. `name` is what `top -H` shows.
    pub(super) fn start(
        name: String,
        options: &Options,
        shared: Shared,
        arrivals: Arrivals,
    ) -> io::Result<Self> {
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (orders, receiver) = channel();
        let failure = Arc::new(Mutex::new(None));
        let mut worker = Worker::new(options, shared, arrivals, receiver, Arc::clone(&wake))?;
        let answers = Arc::clone(&worker.answers);
        let sessions = Arc::clone(worker.judge.engine.sessions());
        let reported = Arc::clone(&failure);
        let thread = Builder::new().name(name).spawn(move || {
            if let Err(error) = worker.run() {
                tracing::error!(%error, "a lane of the data path ended; the interfaces are closed");
                *reported.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        })?;
        Ok(Self { orders, wake, thread: Some(thread), failure, answers, asked: 0, sessions })
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

    /// Whether the thread has answered what it was asked last, in which case it is asked again.
    pub(super) fn answers(&mut self) -> bool {
        let answered = self.answers.load(Ordering::Relaxed) == self.asked;
        if answered && self.order(Order::Answer).is_ok() {
            self.asked += 1;
        }
        answered && self.check().is_ok()
    }

    fn end(&self) -> io::Error {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = failure.as_ref().map_or_else(|| "it panicked".into(), ToString::to_string);
        io::Error::other(format!("the lane has ended: {reason}"))
    }

    /// Gives an interface other sockets; the former ones are gone on return.
    pub(super) fn replace_wire(&self, interface: u32, mac: [u8; 6], wire: Wire) -> io::Result<()> {
        let (done, closed) = channel();
        self.order(Order::Rewire { interface, mac, wire, done })?;
        let _ = closed.recv();
        Ok(())
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
    orders: Receiver<Order>,
    wake: Arc<OwnedFd>,
    busy_poll: Duration,
    ports: Vec<Port>,
    arrivals: Arrivals,
    judge: Judge,
    arena: Box<[u8]>,
    batch: SendBatch,
    hosts: HostSender,
    answers: Arc<AtomicU64>,
    rest: Rest,
}

/// The engine with what each batch of it needs, and what it made of the last one.
struct Judge {
    clock: Clock,
    shared: Shared,
    engine: Engine,
    output: FrameBuffer,
    /// ESP with an unknown SPI that was dropped so far, over all VPNs.
    unknown_spis: u64,
    /// Frames that came so far.
    frames: u64,
}

impl Judge {
    /// Lets the engine work on a batch by the tables of now.
    fn process(&mut self, frames: &[FrameIn<'_>]) {
        let tables = self.shared.tables.load();
        self.frames += frames.len() as u64;
        self.output.clear();
        let now = Instant::from_micros(self.clock.now().as_micros());
        self.engine.process(now, &tables, frames, &mut self.output);
        let unknown_spis = unknown_spis(&tables);
        if std::mem::replace(&mut self.unknown_spis, unknown_spis) < unknown_spis {
            self.shared.unknown_spi.notify_one();
        }
    }
}

impl Worker {
    fn new(
        options: &Options,
        shared: Shared,
        arrivals: Arrivals,
        orders: Receiver<Order>,
        wake: Arc<OwnedFd>,
    ) -> io::Result<Self> {
        Ok(Self {
            busy_poll: options.busy_poll,
            orders,
            wake,
            ports: Vec::new(),
            arrivals,
            judge: Judge {
                clock: options.clock,
                shared,
                engine: Engine::new(&mut OsRandom::new().map_err(io::Error::other)?),
                output: FrameBuffer::with_capacity(4 * BATCH, 2 * ARENA),
                unknown_spis: 0,
                frames: 0,
            },
            arena: vec![0; ARENA].into_boxed_slice(),
            batch: SendBatch::new(),
            hosts: HostSender::open()?,
            answers: Arc::default(),
            rest: Rest::new(Moment::now()),
        })
    }

    fn run(&mut self) -> io::Result<()> {
        // Where the one or the other is not allowed, packets wait a little longer.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let _ = rustix::process::setpriority_process(None, PRIORITY);
        let mut last_work = Moment::now();
        loop {
            let mut worked = self.serve_arrivals();
            for at in 0..self.ports.len() {
                worked |= self.serve_tap(at);
                worked |= self.serve_rings(at);
            }
            // The first look is free; the clock is asked only where somebody wants to wait in this way.
            let stays_awake = worked || !self.busy_poll.is_zero() && last_work.elapsed() < self.busy_poll;
            if worked && !self.busy_poll.is_zero() {
                last_work = Moment::now();
            }
            if !self.obey()? {
                return Ok(());
            }
            if !stays_awake {
                self.sleep()?;
            }
        }
    }

    /// Waits for an order, and until there is something to read or for the time of a nap.
    fn sleep(&mut self) -> io::Result<()> {
        // Who asks for busy polling wants no packet to wait.
        let may_nap = self.busy_poll.is_zero();
        let nap = if may_nap { self.rest.next(Moment::now(), self.judge.frames) } else { None };
        let mut ready: Vec<PollFd<'_>> = vec![PollFd::new(&*self.wake, PollFlags::IN)];
        if nap.is_none() {
            self.arrivals.expect_wake();
            if !self.arrivals.is_empty() {
                // What came before that wakes nobody.
                self.arrivals.stay_awake();
                return Ok(());
            }
            for port in self.ports.iter().filter(|port| port.lives) {
                ready.push(PollFd::new(&port.tap, PollFlags::IN));
                ready.extend(port.wire.readable().map(|ring| PollFd::from_borrowed_fd(ring, PollFlags::IN)));
            }
        }
        let is_waiting = self.ports.iter().any(|port| port.wire.is_waiting());
        let timeout = nap.or(is_waiting.then_some(FULL_QUEUE_PAUSE));
        let timeout = timeout.map(|pause| Timespec { tv_sec: 0, tv_nsec: pause.subsec_nanos().into() });
        match poll(&mut ready, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.arrivals.stay_awake();
        let is_called = !ready[0].revents().is_empty();
        drop(ready);
        if is_called {
            match rustix::io::read(&*self.wake, &mut [0; 8]) {
                Ok(_) | Err(Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.ports.iter_mut().for_each(|port| port.wire.kick());
        Ok(())
    }

    /// Carries out all waiting orders. False: stop.
    fn obey(&mut self) -> io::Result<bool> {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Add(port) => {
                    // The kernel is the same for all of them.
                    self.judge.engine.merge_datagrams(port.has_datagram_frames);
                    self.ports.push(port);
                }
                Order::Rename { interface, mac } => {
                    if let Some(port) = self.ports.iter_mut().find(|port| port.interface == interface) {
                        port.mac = mac;
                    }
                }
                Order::Rewire { interface, mac, wire, done } => {
                    if let Some(port) = self.ports.iter_mut().find(|port| port.interface == interface) {
                        port.mac = mac;
                        port.wire = wire;
                    }
                    drop(done);
                }
                Order::Remove { interface, done } => {
                    self.ports.retain(|port| port.interface != interface);
                    drop(done);
                }
                Order::Follow => self.judge.process(&[]),
                Order::Answer => _ = self.answers.fetch_add(1, Ordering::Relaxed),
                Order::Stop => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Works on what waits in one TAP, at most [`TURNS`] batches. True: there was something.
    fn serve_tap(&mut self, at: usize) -> bool {
        for turn in 0..TURNS {
            let port = &mut self.ports[at];
            if !port.lives {
                return turn > 0;
            }
            let (input, more) = match read_batch(port, &mut self.arena) {
                Ok(read) => read,
                Err(error) => {
                    let interface = port.interface;
                    tracing::warn!(%error, interface, "cannot read from the TAP; the interface is closed");
                    port.lives = false;
                    return turn > 0;
                }
            };
            if !input.is_empty() {
                self.judge.process(&input.frames[..input.count]);
                self.send();
            } else if !more {
                return turn > 0;
            }
            if !more {
                return true;
            }
        }
        true
    }

    /// Works on the ESP that the tc programs have handed over. True: there was something.
    fn serve_arrivals(&mut self) -> bool {
        for turn in 0..TURNS {
            if self.arrivals.receive() == 0 {
                return turn > 0;
            }
            let mut batch = InputBatch::new(InterfaceId(0));
            let mut counted = (0, 0);
            for (interface, bytes) in self.arrivals.frames() {
                if counted.0 != interface {
                    self.count_arrivals(counted);
                    counted = (interface, 0);
                }
                counted.1 += 1;
                let (interface, origin) = (InterfaceId(interface), Origin::Wire);
                batch.frames[batch.count] = FrameIn { interface, origin, vnet: VnetHeader::default(), bytes };
                batch.count += 1;
            }
            self.count_arrivals(counted);
            self.judge.process(&batch.frames[..batch.count]);
            self.arrivals.release();
            self.send();
        }
        true
    }

    /// Counts frames of an interface once for a run of them: the counters are shared by all lanes.
    fn count_arrivals(&self, (interface, frames): (u32, u64)) {
        if let Some(port) = self.ports.iter().find(|port| port.interface == interface) {
            port.counters.read.fetch_add(frames, Ordering::Relaxed);
            port.counters.arrivals.fetch_add(frames, Ordering::Relaxed);
        }
    }

    /// Works on what AF_XDP has received. True: there was something.
    fn serve_rings(&mut self, at: usize) -> bool {
        let mut worked = false;
        for queue in 0..self.ports[at].wire.rings.len() {
            let port = &mut self.ports[at];
            if !port.wire.receives {
                return worked;
            }
            for _ in 0..TURNS {
                let port = &mut self.ports[at];
                if port.wire.rings[queue].receive() == 0 {
                    break;
                }
                worked = true;
                let interface = InterfaceId(port.interface);
                let mut batch = InputBatch::new(interface);
                let (mut read, mut foreign) = (0, 0);
                for bytes in port.wire.rings[queue].frames() {
                    // In promiscuous mode there are frames to others, too.
                    if bytes.len() < ETHERNET_HEADER || bytes[..6] != port.mac && bytes[0] & 1 == 0 {
                        foreign += 1;
                        continue;
                    }
                    let (origin, vnet) = (Origin::Wire, VnetHeader::default());
                    batch.frames[batch.count] = FrameIn { interface, origin, vnet, bytes };
                    batch.count += 1;
                    read += 1;
                }
                port.counters.read.fetch_add(read, Ordering::Relaxed);
                port.counters.rings.fetch_add(read, Ordering::Relaxed);
                port.counters.foreign.fetch_add(foreign, Ordering::Relaxed);
                self.judge.process(&batch.frames[..batch.count]);
                self.ports[at].wire.rings[queue].release();
                self.send();
            }
        }
        worked
    }

    /// Sends the engine's output: runs of frames with the same way out together.
    fn send(&mut self) {
        let mut frames = self.judge.output.iter().peekable();
        while let Some(first) = frames.next() {
            let Some(port) = self.ports.iter_mut().find(|port| port.interface == first.interface.0) else {
                continue;
            };
            let same = |next: &FrameOut<'_>| {
                next.interface == first.interface && next.destination == first.destination
            };
            let sent = match first.destination {
                Destination::WireEsp => {
                    let run = std::iter::once(first).chain(std::iter::from_fn(|| frames.next_if(same)));
                    port.wire.send_esp(&mut self.batch, run)
                }
                Destination::WireClear => {
                    let run = std::iter::once(first).chain(std::iter::from_fn(|| frames.next_if(same)));
                    port.wire.send_clear(&mut self.batch, run)
                }
                Destination::Inject => {
                    inject(port, &first);
                    continue;
                }
                Destination::IcmpToHost => {
                    self.hosts.send(&first.bytes()[ETHERNET_HEADER..]);
                    continue;
                }
            };
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
    fn new(interface: InterfaceId) -> Self {
        let nothing = FrameIn { interface, origin: Origin::Wire, vnet: VnetHeader::default(), bytes: &[] };
        Self { frames: [nothing; BATCH], count: 0 }
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Reads frames until the TAP has no more or the batch is full; the flag says which.
fn read_batch<'a>(port: &Port, arena: &'a mut [u8]) -> io::Result<(InputBatch<'a>, bool)> {
    let interface = InterfaceId(port.interface);
    let mut batch = InputBatch::new(interface);
    let (mut read, mut foreign) = (0, 0);
    let mut rest = arena;
    let more = loop {
        if batch.count == BATCH || rest.len() < LARGEST_FRAME {
            break true;
        }
        let length = match rustix::io::read(&port.tap, &mut *rest) {
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
            Purpose::Work(origin) => {
                let vnet = VnetHeader::from_bytes(header);
                batch.frames[batch.count] = FrameIn { interface, origin, vnet, bytes };
                batch.count += 1;
                read += 1;
            }
            Purpose::Wake => {}
            Purpose::Foreign => foreign += 1,
        }
    };
    port.counters.read.fetch_add(read, Ordering::Relaxed);
    port.counters.foreign.fetch_add(foreign, Ordering::Relaxed);
    Ok((batch, more))
}

/// Writes one frame to the TAP, whose program lets it enter by the external interface.
fn inject(port: &Port, frame: &FrameOut<'_>) {
    match rustix::io::write(&port.tap, frame.bytes_with_vnet_header()) {
        Ok(_) => port.counters.injected.fetch_add(1, Ordering::Relaxed),
        Err(error) => {
            tracing::trace!(%error, interface = port.interface, "the TAP refused a frame");
            port.counters.inject_refused.fetch_add(1, Ordering::Relaxed)
        }
    };
}
