//! Packets that leave as ESP: cut to size, wrapped, and sealed a batch at a time.

use std::ops::Range;
use std::sync::Arc;

use crypto::esp::{
    EspKey, EspSealer, Frame, HEADER_LEN as ESP_HEADER_LENGTH, IvSource, Layout, Verdict, seal_each,
};

use super::fragments::Fragments;
use super::headers::{write_outer_v4, write_outer_v6, write_trailer};
use super::icmp::{IcmpLimit, packet_too_big};
use super::limits::Limits;
use super::offload::{checksum_offload, complete_checksum};
use super::segment::{TcpSegments, UdpDatagrams};
use super::sent::{PathMtus, SentRing};
use super::{CRYPTO_BATCH, Context, PerSa, Tally, register};
use crate::frame::FrameIndex;
use crate::ip::{ETHERNET_LENGTH, PROTOCOL_TCP, Packet, SMALLEST_IPV6_MTU, Version};
use crate::plain::Plain;
use crate::pseudo_time::{self, PROTOCOL_D3P};
use crate::sa::Numbers;
use crate::sender_ids::LaneSender;
use crate::tables::{BoundSa, Interface};
use crate::{Destination, DropReason, FrameBuffer, FrameIn, InterfaceId, Origin, PseudoTime, VnetHeader};

/// State of the sending direction.
#[derive(Debug)]
pub(super) struct Outbound {
    iv: IvSource,
    next_identification: u32,
    pub(super) icmp_limit: IcmpLimit,
    pub(super) sent: SentRing,
    pub(super) path_mtus: PathMtus,
    lane_sas: PerSa<LaneSa>,
    /// Packets that wait for others to be sealed with.
    jobs: Vec<Job>,
    /// The packet wrapped last, of a suite that is sealed one packet at a time.
    unsealed: Option<Unsealed>,
    tally: Tally,
    /// Packets wrapped out of the frame, and their octets.
    amount: (u64, u64),
    /// A packet that is changed before it is cut: checksum completed, or taken out of a super-frame.
    stash: Vec<u8>,
    /// A sealed packet while it is cut.
    sealed: Vec<u8>,
}

/// What this lane has to send with an SA.
#[derive(Debug, Default)]
struct LaneSa {
    /// Of suites that are sealed one packet at a time; made when first used.
    sealer: Option<EspSealer>,
    sender: LaneSender,
    /// The next of the numbers taken from the SA's counter, and how many are left.
    next: u32,
    left: u32,
    /// Of the interface that packets of each version left by last.
    limits: [Option<(InterfaceId, Limits)>; 2],
}

/// Sequence numbers taken from a shared counter at a time.
const RUN: u32 = 64;

/// A wrapped packet, not yet sealed.
#[derive(Clone, Copy, Debug)]
struct Job {
    sa: u32,
    frame: FrameIndex,
    version: Version,
    /// Where the ESP header is, from the start of the frame.
    esp_start: u16,
    /// The ESP packet is cut into fragments of this many octets when it is sealed; 0: it fits.
    cut_to: u16,
}

/// An ESP packet in the output's memory.
#[derive(Debug)]
struct Unsealed {
    sa: u32,
    range: Range<usize>,
}

/// A packet to be protected, and the headers in front that stay as they are: of a Register, or none.
#[derive(Clone, Copy)]
pub(super) struct Enclosure<'a> {
    pub(super) before: &'a [u8],
    pub(super) packet: &'a Packet<'a>,
}

/// How the packets of one input frame are wrapped.
#[derive(Clone, Copy)]
struct Envelope<'a> {
    interface: InterfaceId,
    ethernet: &'a [u8; ETHERNET_LENGTH],
    before: &'a [u8],
    /// The inner header that the outer one is made from: those of segments and fragments say the same.
    header: &'a [u8],
    sa: u32,
    bound: &'a BoundSa,
    layout: Layout,
    /// The group's pseudo-time, where packets carry it.
    time: Option<PseudoTime>,
    version: Version,
    /// The packet was made by this machine.
    own: bool,
    limits: Limits,
}

impl Outbound {
    pub(super) fn new(iv: IvSource, next_identification: u32) -> Self {
        Self {
            iv,
            next_identification,
            icmp_limit: IcmpLimit::new(),
            sent: SentRing::new(),
            path_mtus: PathMtus::new(),
            lane_sas: PerSa::default(),
            jobs: Vec::new(),
            unsealed: None,
            tally: Tally::default(),
            amount: (0, 0),
            stash: Vec::new(),
            sealed: Vec::new(),
        }
    }

    /// The tables are others.
    pub(super) fn follow(&mut self, sas: &[BoundSa]) {
        self.lane_sas.follow(sas);
        self.lane_sas.0.iter_mut().for_each(|(_, lane)| lane.limits = [None; 2]);
    }

    /// Wraps a packet that needs nothing but that, and has nothing in front; tells whether it was.
    /// None: ask [`Outbound::protect`], nothing was done.
    #[inline(always)]
    pub(super) fn protect_plain(
        &mut self,
        context: Context<'_>,
        frame: &FrameIn<'_>,
        version: Version,
        plain: &Plain,
        sa: u32,
        output: &mut FrameBuffer,
    ) -> Option<bool> {
        let needs_work = frame.vnet.flags & VnetHeader::NEEDS_CHECKSUM != 0
            || frame.vnet.gso_type != VnetHeader::GSO_NONE
            || self.path_mtus.find(context.now, version, plain.destination()).is_some();
        let (ethernet, packet) = frame.bytes.split_first_chunk()?;
        let bound = &context.tables.sas[sa as usize];
        let limits = self.limits(context, frame.interface, bound, version, sa)?;
        let packet = &packet[..plain.length];
        if needs_work || packet.len() > limits.largest {
            return None;
        }
        let envelope = Envelope {
            interface: frame.interface,
            ethernet,
            before: &[],
            header: packet,
            sa,
            bound,
            layout: bound.sa.layout(),
            time: bound.sa.pseudo_clock().map(|clock| clock.read(context.now)),
            version,
            own: false,
            limits,
        };
        let write = |out: &mut [u8]| out.copy_from_slice(packet);
        // Known lengths make shorter code.
        Some(match (bound.sa.suite().is_batched(), envelope.time) {
            (false, None) => {
                let envelope = Envelope { layout: Layout::GCM, time: None, ..envelope };
                self.wrap_here(context, &envelope, packet.len(), output, write)
            }
            _ => self.wrap_here(context, &envelope, packet.len(), output, write),
        })
    }

    /// The limits of packets with nothing in front whose path is not known to be narrower than the interface.
    #[inline(always)]
    fn limits(
        &mut self,
        context: Context<'_>,
        id: InterfaceId,
        bound: &BoundSa,
        version: Version,
        sa: u32,
    ) -> Option<Limits> {
        let known = &mut self.lane_sas.at(sa).limits[version as usize];
        if let Some((interface, limits)) = known
            && *interface == id
        {
            return Some(*limits);
        }
        let limits = Limits::new(context, context.tables.interface(id)?, bound, version, None, 0);
        *known = Some((id, limits));
        Some(limits)
    }

    /// Wraps the packets of one frame for `sa`; they are sealed at the end of the batch at the latest. Returns how many
    /// they are, and their octets.
    pub(super) fn protect(
        &mut self,
        context: Context<'_>,
        interface: &Interface,
        frame: &FrameIn<'_>,
        Enclosure { before, packet }: Enclosure<'_>,
        sa: u32,
        output: &mut FrameBuffer,
    ) -> (u64, u64) {
        self.amount = (0, 0);
        let bound = &context.tables.sas[sa as usize];
        let version = packet.version;
        let path_mtu = self.path_mtus.find(context.now, version, packet.destination());
        let limits = Limits::new(context, interface, bound, version, path_mtu, before.len());
        let result = match limits.largest {
            0 => Err(DropReason::TooSmallMtu),
            _ => {
                let envelope = Envelope {
                    interface: frame.interface,
                    ethernet: frame.bytes.first_chunk().expect("the packet was behind it"),
                    before,
                    header: packet.bytes,
                    sa,
                    bound,
                    layout: bound.sa.layout(),
                    time: bound.sa.pseudo_clock().map(|clock| clock.read(context.now)),
                    version,
                    own: matches!(frame.origin, Origin::Egress { own: true, .. }),
                    limits,
                };
                self.cut(context, &envelope, &frame.vnet, packet, output)
            }
        };
        if let Err(reason) = result {
            context.drop(reason, Some(bound.vpn));
        }
        self.amount
    }

    /// Undoes the offloads of the frame and wraps what comes out.
    fn cut(
        &mut self,
        context: Context<'_>,
        envelope: &Envelope<'_>,
        vnet: &VnetHeader,
        packet: &Packet<'_>,
        output: &mut FrameBuffer,
    ) -> Result<(), DropReason> {
        match vnet.gso_kind() {
            VnetHeader::GSO_NONE | VnetHeader::GSO_UDP_FRAGMENTS => {
                self.whole(context, envelope, vnet, packet, output)
            }
            VnetHeader::GSO_TCPV4 | VnetHeader::GSO_TCPV6 => {
                let segments = TcpSegments::new(packet, vnet.gso_size.into(), envelope.limits.largest)?;
                for index in 0..segments.count() {
                    self.wrap(context, envelope, segments.length(index), output, |out| {
                        segments.write(index, out)
                    });
                }
                Ok(())
            }
            VnetHeader::GSO_UDP_DATAGRAMS => self.datagrams(context, envelope, vnet, packet, output),
            _ => Err(DropReason::UnsupportedOffload),
        }
    }

    /// One packet: as it is, in fragments, or not at all and the sender is told.
    fn whole(
        &mut self,
        context: Context<'_>,
        envelope: &Envelope<'_>,
        vnet: &VnetHeader,
        packet: &Packet<'_>,
        output: &mut FrameBuffer,
    ) -> Result<(), DropReason> {
        let checksum_at = checksum_offload(vnet, packet)?;
        if packet.bytes.len() <= envelope.limits.largest {
            self.wrap(context, envelope, packet.bytes.len(), output, |out| {
                out.copy_from_slice(packet.bytes);
                complete_checksum(out, checksum_at);
            });
            return Ok(());
        }
        // The smallest packet that every link of IPv6 carries is never too big: its ESP packet is cut instead.
        let is_small = packet.bytes.len() <= SMALLEST_IPV6_MTU.into();
        if packet.version == Version::V6 && is_small && envelope.before.is_empty() {
            self.wrap(context, envelope, packet.bytes.len(), output, |out| {
                out.copy_from_slice(packet.bytes);
                complete_checksum(out, checksum_at);
            });
            return Ok(());
        }
        let to_be_cut = vnet.gso_kind() == VnetHeader::GSO_UDP_FRAGMENTS;
        if !to_be_cut && !may_be_cut(envelope, packet) {
            return Err(self.too_big(context, envelope, packet, output));
        }
        let mut stash = std::mem::take(&mut self.stash);
        stash.clear();
        stash.extend_from_slice(packet.bytes);
        complete_checksum(&mut stash, checksum_at);
        let result = self.fragments(context, envelope, &packet.with_bytes(&stash), output);
        self.stash = stash;
        result
    }

    /// Tells the sender of a packet with DF set how much fits.
    fn too_big(
        &mut self,
        context: Context<'_>,
        envelope: &Envelope<'_>,
        packet: &Packet<'_>,
        output: &mut FrameBuffer,
    ) -> DropReason {
        let mtu = match envelope.version {
            Version::V4 => envelope.limits.largest,
            Version::V6 => envelope.limits.largest.max(SMALLEST_IPV6_MTU.into()),
        };
        packet_too_big(&mut self.icmp_limit, context, envelope.interface, packet, mtu, output);
        DropReason::TooBig
    }

    fn datagrams(
        &mut self,
        context: Context<'_>,
        envelope: &Envelope<'_>,
        vnet: &VnetHeader,
        packet: &Packet<'_>,
        output: &mut FrameBuffer,
    ) -> Result<(), DropReason> {
        let datagrams = UdpDatagrams::new(packet, vnet.gso_size.into())?;
        let fits = datagrams.length(0) <= envelope.limits.largest;
        if !fits && !may_be_cut(envelope, packet) {
            return Err(self.too_big(context, envelope, packet, output));
        }
        let mut stash = std::mem::take(&mut self.stash);
        let mut result = Ok(());
        for index in 0..datagrams.count() {
            if fits {
                self.wrap(context, envelope, datagrams.length(index), output, |out| {
                    datagrams.write(index, out)
                });
                continue;
            }
            stash.resize(datagrams.length(index), 0);
            datagrams.write(index, &mut stash);
            let datagram = packet.with_bytes(&stash);
            result = result.and(if stash.len() <= envelope.limits.largest {
                self.wrap(context, envelope, stash.len(), output, |out| out.copy_from_slice(&stash));
                Ok(())
            } else {
                self.fragments(context, envelope, &datagram, output)
            });
        }
        self.stash = stash;
        result
    }

    fn fragments(
        &mut self,
        context: Context<'_>,
        envelope: &Envelope<'_>,
        packet: &Packet<'_>,
        output: &mut FrameBuffer,
    ) -> Result<(), DropReason> {
        let fragments = Fragments::new(packet, envelope.limits.largest, self.next_identification)?;
        self.next_identification = self.next_identification.wrapping_add(1);
        for index in 0..fragments.count() {
            self.wrap(context, envelope, fragments.length(index), output, |out| fragments.write(index, out));
        }
        Ok(())
    }

    /// As [`Outbound::wrap_here`], which is large.
    fn wrap(
        &mut self,
        context: Context<'_>,
        envelope: &Envelope<'_>,
        inner_length: usize,
        output: &mut FrameBuffer,
        write: impl FnOnce(&mut [u8]),
    ) {
        if self.wrap_here(context, envelope, inner_length, output, write) {
            self.amount = (self.amount.0 + 1, self.amount.1 + inner_length as u64);
        }
    }

    /// Appends one ESP packet around what `write` writes; false: dropped and counted.
    ///
    /// Where the suite is sealed one packet at a time that is done with the packet before, which is still in the cache: what was
    /// just written in pieces is slow to read in vectors.
    #[inline(always)]
    fn wrap_here(
        &mut self,
        context: Context<'_>,
        envelope: &Envelope<'_>,
        inner_length: usize,
        output: &mut FrameBuffer,
        write: impl FnOnce(&mut [u8]),
    ) -> bool {
        let Envelope { sa, bound, layout, version, .. } = *envelope;
        let lane = self.lane_sas.at(sa);
        let is_batched = bound.sa.suite().is_batched();
        if !is_batched && lane.sealer.is_none() {
            lane.sealer = EspSealer::from_key(bound.sa.key().clone()).ok();
            if lane.sealer.is_none() {
                context.drop(DropReason::CryptoFailure, Some(bound.vpn));
                return false;
            }
        }
        let (sequence, counter) = match &bound.sa.outbound.numbers {
            Numbers::Shared(shared) => {
                if lane.left == 0 {
                    (lane.next, lane.left) = (shared.reserve(RUN), RUN);
                }
                lane.left -= 1;
                let next = lane.next.wrapping_add(1);
                (std::mem::replace(&mut lane.next, next), None)
            }
            Numbers::Senders(senders) => match senders.next(&mut lane.sender) {
                Some((sequence, counter)) => (sequence, Some(counter)),
                None => {
                    context.drop(DropReason::NoSenderId, Some(bound.vpn));
                    return false;
                }
            },
        };
        let time_length = if envelope.time.is_some() { pseudo_time::HEADER_LENGTH } else { 0 };
        let esp_length = layout.frame_len(time_length + inner_length);
        let outer_length = version.header_length();
        let total = envelope.before.len() + outer_length + esp_length;
        let length = ETHERNET_LENGTH + total;
        let (frame, bytes) =
            output.push(envelope.interface, Destination::WireEsp, VnetHeader::default(), length);
        let (ethernet, rest) = bytes.split_at_mut(ETHERNET_LENGTH);
        let (before, rest) = rest.split_at_mut(envelope.before.len());
        let (outer, esp) = rest.split_at_mut(outer_length);
        ethernet.copy_from_slice(envelope.ethernet);

        let inner_start = layout.start() + time_length;
        write(&mut esp[inner_start..inner_start + inner_length]);
        let mut protocol = version.protocol();
        if let Some(time) = envelope.time {
            pseudo_time::write_header(&mut esp[layout.start()..inner_start], protocol, time);
            protocol = PROTOCOL_D3P;
        }
        let trailer_end = esp_length - layout.icv_len();
        write_trailer(
            &mut esp[inner_start + inner_length..],
            trailer_end - inner_start - inner_length,
            protocol,
        );
        let (esp_header, inner) = esp.split_at_mut(inner_start);
        let inner = &inner[..inner_length];
        match version {
            Version::V4 => {
                let identification = self.next_identification as u16;
                write_outer_v4(outer, envelope.header, esp_length, envelope.limits.df_bit, identification);
                self.next_identification = self.next_identification.wrapping_add(1);
            }
            Version::V6 => write_outer_v6(outer, envelope.header, esp_length),
        }
        if !before.is_empty() {
            before.copy_from_slice(envelope.before);
            register::finish(before, total);
        }
        let spi = bound.sa.spi();
        // In one piece, because ciphers read it in one piece.
        let number = u64::from(spi) << 32 | u64::from(sequence);
        esp_header[..ESP_HEADER_LENGTH].copy_from_slice(&number.to_be_bytes());
        match counter {
            Some(counter) => esp_header[ESP_HEADER_LENGTH..][..8].copy_from_slice(&counter),
            None => self.iv.fill(&mut esp_header[ESP_HEADER_LENGTH..layout.start()]),
        }
        self.sent.record(spi, sequence, version, inner);

        self.tally.add(sa, inner_length as u64, |tally| count_encrypted(context, tally));
        let cut_to = if total > envelope.limits.mtu.into() { envelope.limits.mtu } else { 0 };
        let esp_start = (length - esp_length) as u16;
        if is_batched {
            self.jobs.push(Job { sa, frame, version, esp_start, cut_to });
            return true;
        }
        let end = output.end();
        let wrapped = Unsealed { sa, range: end - esp_length..end };
        if let Some(before) = self.unsealed.replace(wrapped) {
            self.seal_one(&before, output);
        }
        if cut_to > 0 {
            self.seal_last(output);
            self.cut_sealed(&Job { sa, frame, version, esp_start, cut_to }, output);
        }
        true
    }

    fn seal_last(&mut self, output: &mut FrameBuffer) {
        if let Some(last) = self.unsealed.take() {
            self.seal_one(&last, output);
        }
    }

    #[inline(always)]
    fn seal_one(&mut self, Unsealed { sa, range }: &Unsealed, output: &mut FrameBuffer) {
        let sealer = self.lane_sas.at(*sa).sealer.as_mut().expect("it was made before the packet was");
        let verdict = sealer.seal_one(&mut output.arena_mut()[range.clone()]);
        // A frame that is not sealed holds cleartext. There is no such case, and no excuse for sending one.
        assert!(verdict == Verdict::Ok, "frames are made to fit their suite");
    }

    /// Seals what the batch has wrapped and not sealed yet: as many packets together as the backend likes, of whatever keys
    /// of one suite.
    pub(super) fn seal(&mut self, context: Context<'_>, output: &mut FrameBuffer) {
        self.tally.finish(|tally| count_encrypted(context, tally));
        self.seal_last(output);
        if self.jobs.is_empty() {
            return;
        }
        let sa_of = |job: &Job| &context.tables.sas[job.sa as usize].sa;
        let mut jobs = std::mem::take(&mut self.jobs);
        // Frames were appended in this order, so the arena can be walked once for each suite.
        jobs.sort_unstable_by_key(|job| (sa_of(job).suite(), job.frame));
        for jobs in jobs.chunk_by(|one, other| sa_of(one).suite() == sa_of(other).suite()) {
            for jobs in jobs.chunks(CRYPTO_BATCH) {
                seal_chunk(jobs, |job| sa_of(job).key(), output);
            }
        }
        jobs.iter().filter(|job| job.cut_to > 0).for_each(|job| self.cut_sealed(job, output));
        jobs.clear();
        self.jobs = jobs;
    }

    /// Cuts a sealed packet that is larger than its path into fragments.
    #[cold]
    fn cut_sealed(&mut self, job: &Job, output: &mut FrameBuffer) {
        let Some(interface) = output.interface_of(job.frame) else { return };
        let mut sealed = std::mem::take(&mut self.sealed);
        sealed.clear();
        let range = output.range(job.frame);
        sealed.extend_from_slice(&output.arena_mut()[range]);
        output.withdraw(job.frame);
        let (ethernet, packet) = sealed.split_at(ETHERNET_LENGTH);
        let whole = Packet::parse(job.version, packet).expect("it was written here");
        let fragments = Fragments::new(&whole, job.cut_to.into(), self.next_identification)
            .expect("the smallest link of IPv6 has room for fragments");
        self.next_identification = self.next_identification.wrapping_add(1);
        for index in 0..fragments.count() {
            let length = ETHERNET_LENGTH + fragments.length(index);
            let (_, bytes) = output.push(interface, Destination::WireEsp, VnetHeader::default(), length);
            bytes[..ETHERNET_LENGTH].copy_from_slice(ethernet);
            fragments.write(index, &mut bytes[ETHERNET_LENGTH..]);
        }
        self.sealed = sealed;
    }
}

/// Adds what was encrypted with an SA.
fn count_encrypted(context: Context<'_>, tally: &Tally) {
    let bound = &context.tables.sas[tally.sa as usize];
    bound.sa.outbound.traffic.add(tally.packets, tally.octets);
    context.counters(Some(bound.vpn)).encrypted.add(tally.packets, tally.octets);
}

/// Seals up to [`CRYPTO_BATCH`] packets of one suite, in the order of their frames.
fn seal_chunk<'k>(jobs: &[Job], key_of: impl Fn(&Job) -> &'k Arc<EspKey>, output: &mut FrameBuffer) {
    let mut ranges = [const { 0..0 }; CRYPTO_BATCH];
    for (range, job) in ranges.iter_mut().zip(jobs) {
        *range = output.range(job.frame);
    }
    let first = key_of(&jobs[0]);
    let mut keys: [&EspKey; CRYPTO_BATCH] = [first; CRYPTO_BATCH];
    let mut frames: [Frame<'_>; CRYPTO_BATCH] = std::array::from_fn(|_| Frame::new(&mut []));
    let (mut rest, mut position) = (output.arena_mut(), 0);
    for (at, (range, job)) in ranges.iter().zip(jobs).enumerate() {
        let (bytes, behind) = rest[range.start - position..].split_at_mut(range.len());
        (rest, position) = (behind, range.end);
        keys[at] = key_of(job);
        frames[at] = Frame::new(&mut bytes[job.esp_start.into()..]);
    }
    let frames = &mut frames[..jobs.len()];
    seal_each(&keys[..jobs.len()], frames);
    // As above: there is no such case, and no excuse for sending one.
    assert!(frames.iter().all(|frame| frame.verdict == Verdict::Ok), "frames are made to fit their suite");
}

/// The packet may be fragmented here: DF is clear, or it is IPv6 of this machine. TCP of this machine rather learns what
/// fits.
fn may_be_cut(envelope: &Envelope<'_>, packet: &Packet<'_>) -> bool {
    match packet.version {
        Version::V4 => !packet.dont_fragment(),
        Version::V6 => envelope.own && packet.protocol() != PROTOCOL_TCP,
    }
}
