//! Frames on their way into and out of the engine.

use std::ops::Range;

/// Kernel index of a network interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceId(pub u32);

/// Where the I/O layer got a frame from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The kernel was sending it out of the interface and the tc program took it.
    Egress {
        /// Made by this machine, not forwarded.
        own: bool,
        /// Carries the INJECT mark: decrypted by an engine and forwarded out again.
        injected: bool,
    },
    /// A clear packet that arrived on the interface, is forwarded inward and is a candidate of a policy.
    Ingress,
    /// ESP, an ESP fragment, or an ICMP error that quotes ESP, from the wire.
    Wire,
}

/// The header Linux puts before a frame on TAP devices and `AF_PACKET` sockets: `struct virtio_net_hdr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// [`VnetHeader::NEEDS_CHECKSUM`], [`VnetHeader::DATA_VALID`].
    pub flags: u8,
    /// One of the `GSO_*` constants, perhaps with [`VnetHeader::GSO_ECN`].
    pub gso_type: u8,
    /// Octets of link, network and transport header of a super-frame. A hint; never trusted.
    pub header_length: u16,
    /// Payload octets of each segment of a super-frame.
    pub gso_size: u16,
    /// Where checksumming starts, in octets from the start of the frame.
    pub checksum_start: u16,
    /// Where the checksum goes, in octets from `checksum_start`.
    pub checksum_offset: u16,
}

impl VnetHeader {
    /// Octets of the encoded header.
    pub const LENGTH: usize = 10;

    /// The checksum field holds only the pseudo-header sum.
    pub const NEEDS_CHECKSUM: u8 = 1;
    /// The checksum has been verified.
    pub const DATA_VALID: u8 = 2;

    /// Not a super-frame.
    pub const GSO_NONE: u8 = 0;
    /// TCP over IPv4.
    pub const GSO_TCPV4: u8 = 1;
    /// UDP to be cut into IP fragments.
    pub const GSO_UDP_FRAGMENTS: u8 = 3;
    /// TCP over IPv6.
    pub const GSO_TCPV6: u8 = 4;
    /// UDP to be cut into datagrams.
    pub const GSO_UDP_DATAGRAMS: u8 = 5;
    /// Flag beside the type: the first segment carries CWR, the others must not.
    pub const GSO_ECN: u8 = 0x80;

    /// Reads the ten octets in the machine's byte order, as the kernel writes them.
    #[inline]
    pub fn from_bytes(bytes: &[u8; Self::LENGTH]) -> Self {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso_type: bytes[1],
            header_length: word(2),
            gso_size: word(4),
            checksum_start: word(6),
            checksum_offset: word(8),
        }
    }

    /// The ten octets in the machine's byte order, as the kernel reads them.
    #[inline]
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [self.flags, self.gso_type, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes[2..4].copy_from_slice(&self.header_length.to_ne_bytes());
        bytes[4..6].copy_from_slice(&self.gso_size.to_ne_bytes());
        bytes[6..8].copy_from_slice(&self.checksum_start.to_ne_bytes());
        bytes[8..10].copy_from_slice(&self.checksum_offset.to_ne_bytes());
        bytes
    }

    /// The kind of super-frame, without the ECN flag.
    pub fn gso_kind(self) -> u8 {
        self.gso_type & !Self::GSO_ECN
    }
}

/// One frame of an input batch.
#[derive(Clone, Copy, Debug)]
pub struct FrameIn<'a> {
    /// The external interface the frame leaves by or arrived on (not the TAP it was read from).
    pub interface: InterfaceId,
    /// Where it comes from.
    pub origin: Origin,
    /// Offload state; all zero for frames without one.
    pub vnet: VnetHeader,
    /// The frame, from its 14-octet Ethernet header on, with the real source address restored.
    pub bytes: &'a [u8],
}

/// What the I/O layer has to do with an output frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// ESP made by us: send on the interface, with the TX mark.
    WireEsp,
    /// A packet that may leave in clear: send on the interface, with the TX mark.
    WireClear,
    /// Write to the interface's TAP: it enters the kernel as if received, with the INJECT mark.
    Inject,
    /// An ICMP error of ours towards a host, to be sent by a raw socket with `IP_HDRINCL`.
    ///
    /// The frame has an Ethernet header of zeros before the IP header; the source address and the
    /// identification are zero, which makes the kernel fill them in.
    IcmpToHost,
}

/// One frame of an output batch.
#[derive(Clone, Copy, Debug)]
pub struct FrameOut<'a> {
    /// The external interface the frame belongs to.
    pub interface: InterfaceId,
    /// What to do with it.
    pub destination: Destination,
    /// Offload state; all zero for frames without one.
    pub vnet: VnetHeader,
    with_vnet_header: &'a [u8],
}

impl<'a> FrameOut<'a> {
    /// The frame from its Ethernet header on.
    pub fn bytes(&self) -> &'a [u8] {
        &self.with_vnet_header[VnetHeader::LENGTH..]
    }

    /// The encoded [`VnetHeader`] and the frame behind it, as TAP devices and `PACKET_VNET_HDR` sockets take it.
    pub fn bytes_with_vnet_header(&self) -> &'a [u8] {
        self.with_vnet_header
    }
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Behind its offload header.
    start: u32,
    length: u32,
    interface: InterfaceId,
    /// `None`: withdrawn, the frame turned out not to be sent.
    destination: Option<Destination>,
}

/// Index of a frame in a [`FrameBuffer`], valid until the buffer is cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FrameIndex(u32);

/// A reusable arena of output frames: it grows to the largest batch seen and stays there.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    /// Always initialised up to its length; only `used` octets belong to the current batch.
    arena: Vec<u8>,
    used: usize,
    slots: Vec<Slot>,
}

impl FrameBuffer {
    /// An empty buffer that grows on first use.
    pub fn new() -> Self {
        Self::default()
    }

    /// A buffer with room for `frames` frames of `octets` octets in all before it grows.
    pub fn with_capacity(frames: usize, octets: usize) -> Self {
        Self { arena: vec![0; octets], used: 0, slots: Vec::with_capacity(frames) }
    }

    /// Forgets all frames, keeps the memory.
    pub fn clear(&mut self) {
        self.used = 0;
        self.slots.clear();
    }

    /// The frames in the order they are to be sent.
    pub fn iter(&self) -> impl Iterator<Item = FrameOut<'_>> {
        self.slots.iter().filter_map(|slot| {
            let start = slot.start as usize;
            let with_vnet_header = &self.arena[start - VnetHeader::LENGTH..start + slot.length as usize];
            let vnet = with_vnet_header.first_chunk().expect("it begins with one");
            Some(FrameOut {
                interface: slot.interface,
                destination: slot.destination?,
                vnet: VnetHeader::from_bytes(vnet),
                with_vnet_header,
            })
        })
    }

    /// Number of frames to be sent.
    pub fn len(&self) -> usize {
        self.slots.iter().filter(|slot| slot.destination.is_some()).count()
    }

    /// No frame is to be sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a frame of `length` octets whose content is whatever an earlier batch left there.
    #[inline(always)]
    pub(crate) fn push(
        &mut self,
        interface: InterfaceId,
        destination: Destination,
        vnet: VnetHeader,
        length: usize,
    ) -> (FrameIndex, &mut [u8]) {
        let begin = self.reserve(VnetHeader::LENGTH + length);
        let start = begin + VnetHeader::LENGTH;
        let index = FrameIndex(self.slots.len() as u32);
        let destination = Some(destination);
        self.slots.push(Slot { start: start as u32, length: length as u32, interface, destination });
        let (header, bytes) =
            self.arena[begin..][..VnetHeader::LENGTH + length].split_at_mut(VnetHeader::LENGTH);
        *header.first_chunk_mut().expect("its length") = vnet.to_bytes();
        (index, bytes)
    }

    /// Takes so many octets of [`FrameBuffer::arena_mut`]; tells where they begin.
    #[inline(always)]
    pub(crate) fn reserve(&mut self, octets: usize) -> usize {
        let begin = self.used;
        let end = begin + octets;
        if end > self.arena.len() {
            self.grow(end);
        }
        self.used = end;
        begin
    }

    /// Makes reserved octets a frame to be injected. Its offload header overwrites the octets before them.
    #[inline(always)]
    pub(crate) fn push_reserved(&mut self, interface: InterfaceId, range: Range<usize>) -> FrameIndex {
        let index = FrameIndex(self.slots.len() as u32);
        let destination = Some(Destination::Inject);
        self.slots.push(Slot { start: 0, length: 0, interface, destination });
        self.replace(index, VnetHeader::default(), range);
        index
    }

    /// A frame's octets are these reserved ones from now on.
    #[inline(always)]
    pub(crate) fn replace(&mut self, index: FrameIndex, vnet: VnetHeader, range: Range<usize>) {
        let slot = &mut self.slots[index.0 as usize];
        (slot.start, slot.length) = (range.start as u32, range.len() as u32);
        let begin = range.start - VnetHeader::LENGTH;
        *self.arena[begin..].first_chunk_mut().expect("room in front") = vnet.to_bytes();
    }

    #[cold]
    fn grow(&mut self, end: usize) {
        self.arena.resize(end.next_power_of_two().max(64 * 1024), 0);
    }

    /// Appends a copy of `bytes`.
    pub(crate) fn push_copy(
        &mut self,
        interface: InterfaceId,
        destination: Destination,
        vnet: VnetHeader,
        bytes: &[u8],
    ) {
        self.push(interface, destination, vnet, bytes.len()).1.copy_from_slice(bytes);
    }

    /// The interface of a frame that is to be sent.
    pub(crate) fn interface_of(&self, index: FrameIndex) -> Option<InterfaceId> {
        let slot = &self.slots[index.0 as usize];
        slot.destination.map(|_| slot.interface)
    }

    /// Takes a frame back: it is not sent.
    pub(crate) fn withdraw(&mut self, index: FrameIndex) {
        self.slots[index.0 as usize].destination = None;
    }

    /// Where the octets of a frame are in [`FrameBuffer::arena_mut`].
    pub(crate) fn range(&self, index: FrameIndex) -> Range<usize> {
        let slot = &self.slots[index.0 as usize];
        slot.start as usize..slot.start as usize + slot.length as usize
    }

    /// Where the frame pushed last ends in [`FrameBuffer::arena_mut`].
    pub(crate) fn end(&self) -> usize {
        self.used
    }

    /// As [`FrameBuffer::arena_mut`].
    pub(crate) fn arena(&self) -> &[u8] {
        &self.arena
    }

    /// All frames' octets at once.
    pub(crate) fn arena_mut(&mut self) -> &mut [u8] {
        &mut self.arena
    }
}
