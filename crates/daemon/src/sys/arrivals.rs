//! Frames that a tc program hands over in a ring buffer (`BPF_MAP_TYPE_RINGBUF`) which both sides have in their memory.
//!
//! The layout is the kernel's, from its `Documentation/bpf/ringbuf.rst`: a page with the consumer's position, a page with the
//! producer's, then the data, mapped twice so that no record is ever in two pieces. A record is eight octets of header, whose
//! first four are its length and two flags, and is padded to a multiple of eight. `bpf/layout.h` has what is in a record.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Octets of a lane's `struct sleeper`, and what the lane says there.
const SLEEPER: usize = 64;
const AWAKE: u64 = 0;
const SLEEPS: u64 = 1;
/// Frames that one [`Arrivals::receive`] takes at most.
const BURST: usize = 64;
/// How many records before its turn the header of one is fetched from the processor that wrote it.
const AHEAD: usize = 4;
/// The kernel's header of a record.
const RECORD_HEADER: usize = 8;
/// `struct arrival` before the frame: interface and length.
const ARRIVAL_HEADER: usize = 8;
#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;
/// The record is not written yet.
const BUSY: u32 = 1 << 31;
/// The record was given up.
const DISCARDED: u32 = 1 << 30;

/// The reading side of the ring buffer.
#[derive(Debug)]
pub struct Arrivals {
    /// The consumer's position.
    consumer: Mapping,
    /// The producer's position, and the data behind it.
    producer: Mapping,
    /// What the lanes say of their sleep.
    sleepers: Mapping,
    lane: usize,
    page: usize,
    batch: Vec<Arrival>,
    /// Position behind the last frame taken.
    taken: usize,
}

/// Where in the data a frame is.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    interface: u32,
    offset: usize,
    length: usize,
}

impl Arrivals {
    /// Octets of a ring's data; `bpf/layout.h` has the same.
    pub const OCTETS: usize = 1 << 22;

    /// Maps the ring buffer, and the array in which each lane tells the program whether to wake it.
    pub fn open(ring: impl AsFd, sleepers: impl AsFd, lane: usize) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let writable = ProtFlags::READ | ProtFlags::WRITE;
        Ok(Self {
            consumer: Mapping::new(ring.as_fd(), 0, page, writable)?,
            producer: Mapping::new(ring.as_fd(), page as u64, page + 2 * Self::OCTETS, ProtFlags::READ)?,
            sleepers: Mapping::new(sleepers.as_fd(), 0, page, writable)?,
            lane,
            page,
            batch: Vec::with_capacity(BURST),
            taken: 0,
        })
    }

    /// Takes frames that have arrived, in their order, some tens at most; valid until [`Arrivals::release`].
    pub fn receive(&mut self) -> usize {
        let produced = self.producer.position().load(Ordering::Acquire);
        while self.taken != produced && self.batch.len() < BURST {
            let offset = self.taken % Self::OCTETS;
            let header = self.producer.word(self.page + offset).load(Ordering::Acquire);
            if header & BUSY != 0 {
                break;
            }
            let length = (header & !DISCARDED) as usize;
            let stride = (RECORD_HEADER + length).next_multiple_of(8);
            self.producer.fetch(self.page + (offset + AHEAD * stride) % Self::OCTETS, 1);
            self.taken = self.taken.wrapping_add(stride);
            if header & DISCARDED != 0 || length < ARRIVAL_HEADER {
                continue;
            }
            let at = self.page + offset + RECORD_HEADER;
            let interface = self.producer.word(at).load(Ordering::Relaxed);
            let frame = self.producer.word(at + 4).load(Ordering::Relaxed) as usize;
            let frame = frame.min(length - ARRIVAL_HEADER);
            self.producer.fetch(at + ARRIVAL_HEADER, frame);
            self.batch.push(Arrival { interface, offset: at + ARRIVAL_HEADER, length: frame });
        }
        if self.batch.is_empty() {
            // Nothing but records that were given up.
            self.release();
        }
        self.batch.len()
    }

    /// The frames that the last [`Arrivals::receive`] took, each with the kernel index of its interface.
    pub fn frames(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.batch
            .iter()
            .map(|arrival| (arrival.interface, self.producer.octets(arrival.offset, arrival.length)))
    }

    /// Gives the memory of the frames back to the program.
    pub fn release(&mut self) {
        self.batch.clear();
        self.consumer.position().store(self.taken, Ordering::Release);
    }

    /// No frame waits, nor is one being written.
    pub fn is_empty(&self) -> bool {
        self.producer.position().load(Ordering::Acquire) == self.taken
    }

    /// From here on the program sends the next frame that arrives to its interface's TAP, too; if that wakes nobody, another one
    /// some ticks of the kernel's timer later. To be called before [`Arrivals::is_empty`] decides whether to sleep.
    pub fn expect_wake(&self) {
        self.sleepers.flag(self.lane * SLEEPER).store(SLEEPS, Ordering::Relaxed);
        // Either the program sees it, or we see the program's record.
        fence(Ordering::SeqCst);
    }

    /// Somebody is awake: the program need not tell.
    pub fn stay_awake(&self) {
        self.sleepers.flag(self.lane * SLEEPER).store(AWAKE, Ordering::Relaxed);
    }
}

/// Memory shared with the kernel.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory is this value's alone in this process and stays where it is until it is dropped.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(map: BorrowedFd<'_>, offset: u64, length: usize, protection: ProtFlags) -> io::Result<Self> {
        // SAFETY: the kernel chooses a place where nothing is yet.
        let start = unsafe { mmap(std::ptr::null_mut(), length, protection, MapFlags::SHARED, map, offset)? };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
    }

    /// The octets at an offset, which must lie inside.
    fn at(&self, offset: usize, length: usize) -> NonNull<u8> {
        assert!(offset.checked_add(length).is_some_and(|end| end <= self.length), "inside of the mapping");
        // SAFETY: the offset was just found to be inside.
        unsafe { self.start.add(offset) }
    }

    /// The position that a page begins with.
    fn position(&self) -> &AtomicUsize {
        // SAFETY: it is inside, a page is aligned for it, and the kernel only accesses it atomically.
        unsafe { self.at(0, size_of::<AtomicUsize>()).cast().as_ref() }
    }

    /// The word that a lane's part of the array begins with.
    fn flag(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(align_of::<AtomicU64>()), "aligned");
        // SAFETY: it is inside and aligned, and the programs only access it atomically.
        unsafe { self.at(offset, size_of::<AtomicU64>()).cast().as_ref() }
    }

    /// Four octets of a record, whose offset is a multiple of four.
    fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(align_of::<AtomicU32>()), "aligned");
        // SAFETY: it is inside and aligned; the kernel changes a header once, in one piece, and nothing else of a record
        // that was handed over.
        unsafe { self.at(offset, size_of::<AtomicU32>()).cast().as_ref() }
    }

    /// Begins to bring octets into this processor's cache, so that nobody waits for them one line after the other.
    fn fetch(&self, offset: usize, length: usize) {
        #[cfg(target_arch = "x86_64")]
        for line in (0..length).step_by(CACHE_LINE) {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            // SAFETY: it is a hint that reads nothing, and never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(self.start.as_ptr().wrapping_add(offset + line).cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (offset, length);
    }

    /// A part of a record that was handed over.
    fn octets(&self, offset: usize, length: usize) -> &[u8] {
        // SAFETY: it is inside, and the kernel changes nothing between the positions of the producer and the consumer but
        // headers; `Arrivals` moves the consumer's only when nobody borrows frames any more.
        unsafe { std::slice::from_raw_parts(self.at(offset, length).as_ptr(), length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and nothing borrows from it any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}
