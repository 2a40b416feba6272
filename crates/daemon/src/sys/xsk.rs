//! `AF_XDP` sockets: rings of frames shared with one queue of a network device.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use xdp::Packet;
use xdp::nic::NicIndex;
use xdp::slab::{HeapSlab, Slab};
use xdp::socket::{SocketError, XdpSocket, XdpSocketBuilder};
use xdp::umem::{FrameSize, Umem, UmemCfgBuilder};
use xdp::{CompletionRing, FillRing, RingConfigBuilder, RxRing, TxRing};

use super::packet::Sent;

/// How frames get between the rings and the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyMode {
    /// The device reads and writes the rings' memory itself.
    ZeroCopy,
    /// The kernel copies.
    Copy,
}

/// Frames that each ring holds.
const RING: usize = 2048;
/// Frames handed to the kernel by one call.
const BURST: usize = 64;
/// Octets of a frame that fit one unit of the shared memory, behind what the kernel keeps before it.
pub const LARGEST_FRAME: usize = 4096 - 256;
/// The kernel's name for "as much as the socket's queue may hold": a burst of a whole ring fits.
const SEND_BUFFER: libc::c_int = 16 << 20;
/// A queue that a former socket has just left is free some milliseconds later.
const BUSY_ATTEMPTS: usize = 25;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// One socket with memory of its own, bound to one queue of a device. It sends; if it was asked to, it receives what an
/// XDP program redirects to it.
pub struct XskSocket {
    // Fields are dropped in this order: the memory outlives the socket and the rings.
    socket: XdpSocket,
    transmit: TxRing,
    completion: CompletionRing,
    receive: Option<(RxRing, FillRing)>,
    outgoing: HeapSlab,
    incoming: HeapSlab,
    batch: Vec<Packet>,
    /// Frames that the kernel has not taken yet.
    waiting: bool,
    /// A socket that only sends has a fill ring too, which stays empty.
    _unused_fill: Option<FillRing>,
    memory: Umem,
}

// SAFETY: the pointers inside lead to mappings that this value owns alone and that stay where they are until it is
// dropped; nothing refers to the thread that made them.
unsafe impl Send for XskSocket {}

impl std::fmt::Debug for XskSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("XskSocket").field("fd", &self.socket.raw_fd()).finish_non_exhaustive()
    }
}

impl AsRawFd for XskSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.raw_fd()
    }
}

impl AsFd for XskSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket owns the descriptor and lives as long as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.socket.raw_fd()) }
    }
}

impl XskSocket {
    /// Binds to a queue of the device with this kernel index. [`io::ErrorKind::Unsupported`]: the driver cannot do it.
    pub fn open(interface: u32, queue: u32, mode: CopyMode, receives: bool) -> io::Result<Self> {
        let mut attempts = BUSY_ATTEMPTS;
        loop {
            match Self::try_open(interface, queue, mode, receives) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) && attempts > 0 => {
                    attempts -= 1;
                    std::thread::sleep(BUSY_PAUSE);
                }
                result => return result,
            }
        }
    }

    fn try_open(interface: u32, queue: u32, mode: CopyMode, receives: bool) -> io::Result<Self> {
        let frames = if receives { 2 * RING } else { RING } as u32;
        let memory =
            UmemCfgBuilder { frame_size: FrameSize::FourK, frame_count: frames, ..Default::default() };
        let mut memory = Umem::map(memory.build().map_err(io::Error::other)?)?;
        let rings = RingConfigBuilder {
            rx_count: if receives { RING as u32 } else { 0 },
            tx_count: RING as u32,
            fill_count: RING as u32,
            completion_count: RING as u32,
        };
        let rings = rings.build().map_err(io::Error::other)?;
        let mut builder = XdpSocketBuilder::new().map_err(os_error)?;
        let (rings, mut flags) = builder.build_rings(&memory, rings).map_err(os_error)?;
        match mode {
            CopyMode::ZeroCopy => flags.force_zerocopy(),
            CopyMode::Copy => flags.force_copy(),
        }
        let socket = builder.bind(NicIndex::new(interface), queue, flags).map_err(os_error)?;
        set_send_buffer(socket.raw_fd(), SEND_BUFFER);

        let transmit = rings.tx_ring.ok_or(io::ErrorKind::InvalidInput)?;
        let mut fill = rings.fill_ring;
        let (receive, unused_fill) = match rings.rx_ring {
            Some(ring) => {
                // SAFETY: the memory is dropped after the socket.
                unsafe { fill.enqueue(&mut memory, RING) };
                (Some((ring, fill)), None)
            }
            None => (None, Some(fill)),
        };
        Ok(Self {
            socket,
            transmit,
            completion: rings.completion_ring,
            receive,
            outgoing: HeapSlab::with_capacity(BURST),
            incoming: HeapSlab::with_capacity(BURST),
            batch: Vec::with_capacity(BURST),
            waiting: false,
            _unused_fill: unused_fill,
            memory,
        })
    }

    /// Sends all frames in order. Frames that are too long, or that find the device's queue full, are refused and counted.
    pub fn send<'a>(&mut self, frames: impl IntoIterator<Item = &'a [u8]>) -> Sent {
        let mut sent = Sent::default();
        self.completion.dequeue(&mut self.memory, RING);
        for frame in frames {
            let Some(mut packet) = self.free_frame(frame.len(), &mut sent) else {
                sent.refused += 1;
                continue;
            };
            // An over-long frame would vanish in the driver without a word: `free_frame` has refused it.
            if packet.append(frame).is_err() {
                self.memory.free_packet(packet);
                sent.refused += 1;
                continue;
            }
            self.outgoing.push_front(packet);
            if self.outgoing.available() == 0 {
                self.submit(&mut sent);
            }
        }
        self.submit(&mut sent);
        sent
    }

    /// Memory for one frame; makes the kernel finish earlier ones if there is none.
    fn free_frame(&mut self, length: usize, sent: &mut Sent) -> Option<Packet> {
        if length > LARGEST_FRAME {
            return None;
        }
        if self.memory.allocatable() == 0 {
            self.submit(sent);
            self.completion.dequeue(&mut self.memory, RING);
        }
        // SAFETY: packets go into the transmit ring or back into the memory, and none outlives `self`.
        unsafe { self.memory.alloc() }
    }

    fn submit(&mut self, sent: &mut Sent) {
        if self.outgoing.is_empty() && !self.waiting {
            return;
        }
        // SAFETY: the memory is dropped after the socket.
        sent.frames += unsafe { self.transmit.send(&mut self.outgoing) } as u64;
        self.kick();
        // The ring was full: after the kernel has taken from it there is room, or the device's queue is full.
        // SAFETY: as above.
        sent.frames += unsafe { self.transmit.send(&mut self.outgoing) } as u64;
        if !self.outgoing.is_empty() {
            while let Some(packet) = self.outgoing.pop_back() {
                self.memory.free_packet(packet);
                sent.refused += 1;
            }
            self.kick();
        }
    }

    /// Makes the kernel take what is in the ring.
    pub fn kick(&mut self) {
        // The kernel takes some tens of frames in a call, and says EAGAIN while there are more.
        for _ in 0..RING / 16 {
            // SAFETY: no pointer is passed.
            let result = unsafe {
                libc::sendto(
                    self.socket.raw_fd(),
                    std::ptr::null(),
                    0,
                    libc::MSG_DONTWAIT,
                    std::ptr::null(),
                    0,
                )
            };
            self.waiting = result < 0;
            if result >= 0 {
                return;
            }
            match io::Error::last_os_error().raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR | libc::EBUSY) => {}
                // No room for completions.
                Some(libc::ENOBUFS) => {
                    if self.completion.dequeue(&mut self.memory, RING) == 0 {
                        return;
                    }
                }
                // The interface is down or gone: what is in the ring stays there until it is up.
                _ => {
                    self.waiting = false;
                    return;
                }
            }
        }
    }

    /// Frames wait in the ring for another [`XskSocket::kick`].
    pub fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Takes the frames that have arrived, some tens at most; valid until [`XskSocket::release`].
    pub fn receive(&mut self) -> usize {
        let Some((ring, _)) = &mut self.receive else { return 0 };
        // SAFETY: the packets stay in this value, which owns the memory.
        let count = unsafe { ring.recv(&self.memory, &mut self.incoming) };
        while let Some(packet) = self.incoming.pop_back() {
            self.batch.push(packet);
        }
        count
    }

    /// The frames that the last [`XskSocket::receive`] took, in the order of arrival.
    pub fn frames(&self) -> impl Iterator<Item = &[u8]> {
        self.batch.iter().map(|packet| &packet[..])
    }

    /// Gives the memory of the received frames back to the device.
    pub fn release(&mut self) {
        let count = self.batch.len();
        for packet in self.batch.drain(..) {
            self.memory.free_packet(packet);
        }
        if let Some((_, fill)) = &mut self.receive {
            // SAFETY: the memory is dropped after the socket.
            unsafe { fill.enqueue(&mut self.memory, count) };
        }
    }
}

/// Receive queues of a device; one where it does not say.
pub fn receive_queues(interface: u32) -> u32 {
    NicIndex::new(interface).queue_counts().map_or(1, |queues| queues.rx_count().max(1))
}

/// Lets a socket queue so many octets, beyond the administrator's limit for unprivileged programs. Where that is refused
/// the default stays, and long bursts are refused more often.
pub(super) fn set_send_buffer(socket: RawFd, octets: libc::c_int) {
    // SAFETY: the pointer is to a live int and the length is its size.
    unsafe {
        libc::setsockopt(
            socket,
            libc::SOL_SOCKET,
            libc::SO_SNDBUFFORCE,
            (&raw const octets).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
}

fn os_error(error: SocketError) -> io::Error {
    let number = match &error {
        SocketError::SocketCreation(inner)
        | SocketError::SetSockOpt { inner, .. }
        | SocketError::GetSockOpt { inner, .. }
        | SocketError::RingMap { inner, .. }
        | SocketError::Bind(inner) => inner.raw_os_error(),
    };
    match number {
        Some(libc::EOPNOTSUPP) => {
            io::Error::new(io::ErrorKind::Unsupported, "the driver does not support it")
        }
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::other(error),
    }
}
