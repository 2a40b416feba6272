//! Packets that leave as ESP: cut to size, wrapped, and sealed a batch at a time.

use std::cmp::min;
use std::sync::Arc;

use crypto::esp::{
    EspKey, EspSealer, Frame, HEADER_LEN as ESP_HEADER_LENGTH, IvSource, Layout, Verdict, seal_each,
};

use super::fragments::Fragments;
use super::icmp::{IcmpLimit, packet_too_big};
use super::segment::{TcpSegments, UdpDatagrams};
use super::sent::{PathMtus, SentRing};
use super::{CRYPTO_BATCH, Context, PerSa, Tally, register};
use crate::frame::FrameIndex;
use crate::ip::{
    DONT_FRAGMENT, ETHERNET_LENGTH, IPV4_LENGTH, IPV6_LENGTH, PROTOCOL_ESP, PROTOCOL_TCP, Packet,
    SMALLEST_IPV6_MTU, Version, checksum, long, put_long, put_word, sum, word,
};
use crate::pseudo_time::{self, PROTOCOL_D3P};
use crate::sa::Numbers;
use crate::sender_ids::LaneSender;
use crate::tables::{BoundSa, Interface};
use crate::{
    Destination, DfBit, DropReason, FrameBuffer, FrameIn, GroupSa, InterfaceId, Origin, PseudoTime,
    VnetHeader,
};

/// No IPv4 link may have a smaller MTU (RFC 791), and no ICMP error of ours asks for less.
const SMALLEST_MTU: usize = 68;

/// State of the sending direction.
#[derive(Debug)]
pub(super) struct Outbound {
    iv: IvSource,
    next_identification: u32,
    pub(super) icmp_limit: IcmpLimit,
    pub(super) sent: SentRing,
    pub(super) path_mtus: PathMtus,
    pub(super) lane_sas: PerSa<LaneSa>,
    /// Packets that wait for others to be sealed with.
    jobs: Vec<Job>,
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
pub(super) struct LaneSa {
    /// Of suites that are sealed one packet at a time; made when first used.
    sealer: Option<EspSealer>,
    sender: LaneSender,
    /// The next of the numbers taken from the SA's counter, and how many are left.
    next: u32,
    left: u32,
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
    ethernet: &'a [u8],
    before: &'a [u8],
    sa: u32,
    bound: &'a BoundSa,
    layout: Layout,
    /// The group's pseudo-time, where packets carry it.
    time: Option<PseudoTime>,
    df_bit: DfBit,
    version: Version,
    /// The packet was made by this machine.
    own: bool,
    /// Octets of the largest ESP packet.
    mtu: u16,
    /// Octets of the largest inner packet that fits.
    largest: usize,
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
            tally: Tally::default(),
            amount: (0, 0),
            stash: Vec::new(),
            sealed: Vec::new(),
        }
    }

    /// Wraps the packets of one frame for `sa`; they are sealed at the end of the batch at the latest. Returns how many
    /// they are, and their octets.
    #[inline(always)]
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
        let vpn = &context.tables.vpns()[bound.vpn as usize];
        let path_mtu = self.path_mtus.find(context.now, packet.version, packet.destination());
        let mut mtu =
            min(min(interface.mtu, vpn.tunnel_mtu.unwrap_or(u16::MAX)), path_mtu.unwrap_or(u16::MAX));
        if packet.version == Version::V6 {
            mtu = mtu.max(SMALLEST_IPV6_MTU);
        }
        let room = usize::from(mtu).saturating_sub(before.len());
        let result = match largest_inner(&bound.sa, packet.version, room) {
            None => Err(DropReason::TooSmallMtu),
            Some(largest) => {
                let envelope = Envelope {
                    interface: frame.interface,
                    ethernet: &frame.bytes[..ETHERNET_LENGTH],
                    before,
                    sa,
                    bound,
                    layout: bound.sa.layout(),
                    time: bound.sa.pseudo_clock().map(|clock| clock.read(context.now)),
                    df_bit: vpn.df_bit,
                    version: packet.version,
                    own: matches!(frame.origin, Origin::Egress { own: true, .. }),
                    mtu,
                    largest,
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
    #[inline(always)]
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
                let segments = TcpSegments::new(packet, vnet.gso_size.into(), envelope.largest)?;
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
    #[inline(always)]
    fn whole(
        &mut self,
        context: Context<'_>,
        envelope: &Envelope<'_>,
        vnet: &VnetHeader,
        packet: &Packet<'_>,
        output: &mut FrameBuffer,
    ) -> Result<(), DropReason> {
        let checksum_at = checksum_offload(vnet, packet)?;
        if packet.bytes.len() <= envelope.largest {
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
            Version::V4 => envelope.largest,
            Version::V6 => envelope.largest.max(SMALLEST_IPV6_MTU.into()),
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
        let fits = datagrams.length(0) <= envelope.largest;
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
            result = result.and(if stash.len() <= envelope.largest {
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
        let fragments = Fragments::new(packet, envelope.largest, self.next_identification)?;
        self.next_identification = self.next_identification.wrapping_add(1);
        for index in 0..fragments.count() {
            self.wrap(context, envelope, fragments.length(index), output, |out| fragments.write(index, out));
        }
        Ok(())
    }

    /// Appends one ESP packet around what `write` writes. Where the suite is sealed one packet at a time that is done here,
    /// while the packet is in the cache.
    fn wrap(
        &mut self,
        context: Context<'_>,
        envelope: &Envelope<'_>,
        inner_length: usize,
        output: &mut FrameBuffer,
        write: impl FnOnce(&mut [u8]),
    ) {
        let Envelope { sa, bound, layout, version, .. } = *envelope;
        let lane = self.lane_sas.at(sa);
        let is_batched = bound.sa.suite().is_batched();
        if !is_batched && lane.sealer.is_none() {
            lane.sealer = EspSealer::from_key(bound.sa.key().clone()).ok();
            if lane.sealer.is_none() {
                return context.drop(DropReason::CryptoFailure, Some(bound.vpn));
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
                None => return context.drop(DropReason::NoSenderId, Some(bound.vpn)),
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
                write_outer_v4(outer, inner, esp_length, envelope.df_bit, self.next_identification as u16);
                self.next_identification = self.next_identification.wrapping_add(1);
            }
            Version::V6 => write_outer_v6(outer, inner, esp_length),
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

        let octets = inner_length as u64;
        self.amount = (self.amount.0 + 1, self.amount.1 + octets);
        self.tally.add(sa, octets, |tally| count_encrypted(context, tally));
        let cut_to = if total > envelope.mtu.into() { envelope.mtu } else { 0 };
        let job = Job { sa, frame, version, esp_start: (length - esp_length) as u16, cut_to };
        match &mut lane.sealer {
            Some(sealer) if !is_batched => {
                let verdict = sealer.seal_one(esp);
                // A frame that is not sealed holds cleartext. There is no such case, and no excuse for sending one.
                assert!(verdict == Verdict::Ok, "frames are made to fit their suite");
                if cut_to > 0 {
                    self.cut_sealed(&job, output);
                }
            }
            _ => self.jobs.push(job),
        }
    }

    /// Seals what the batch has wrapped and not sealed yet: as many packets together as the backend likes, of whatever keys
    /// of one suite.
    pub(super) fn seal(&mut self, context: Context<'_>, output: &mut FrameBuffer) {
        self.tally.finish(|tally| count_encrypted(context, tally));
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

/// Octets of the largest inner packet whose ESP packet has at most `mtu` octets.
pub(super) fn largest_inner(sa: &GroupSa, version: Version, mtu: usize) -> Option<usize> {
    let time_header = if sa.pseudo_clock().is_some() { pseudo_time::HEADER_LENGTH } else { 0 };
    let payload = sa.layout().most_payload(mtu.checked_sub(version.header_length())?)?;
    let largest = payload.checked_sub(time_header)?;
    (largest >= SMALLEST_MTU).then_some(largest)
}

/// The packet may be fragmented here: DF is clear, or it is IPv6 of this machine. TCP of this machine rather learns what
/// fits.
fn may_be_cut(envelope: &Envelope<'_>, packet: &Packet<'_>) -> bool {
    match packet.version {
        Version::V4 => !packet.dont_fragment(),
        Version::V6 => envelope.own && packet.protocol() != PROTOCOL_TCP,
    }
}

/// Where the frame's checksum is to be completed: start and field, from the start of the packet.
#[inline]
fn checksum_offload(vnet: &VnetHeader, packet: &Packet<'_>) -> Result<Option<(usize, usize)>, DropReason> {
    if vnet.flags & VnetHeader::NEEDS_CHECKSUM == 0 {
        return Ok(None);
    }
    let start = usize::from(vnet.checksum_start).checked_sub(ETHERNET_LENGTH);
    let start = start.filter(|start| *start >= packet.header_length).ok_or(DropReason::BadChecksumOffload)?;
    let field = start + usize::from(vnet.checksum_offset);
    if field + 2 > packet.bytes.len() || packet.is_fragment() {
        return Err(DropReason::BadChecksumOffload);
    }
    Ok(Some((start, field)))
}

/// The field already holds the sum of the pseudo-header, so that it counts as data.
#[inline]
fn complete_checksum(packet: &mut [u8], at: Option<(usize, usize)>) {
    if let Some((start, field)) = at {
        put_checksum(packet, start, field);
    }
}

#[inline(never)]
fn put_checksum(packet: &mut [u8], start: usize, field: usize) {
    let value = checksum(sum(&packet[start..]));
    // Zero would mean "no checksum" to UDP, and is the same number to everybody else.
    put_word(packet, field, if value == 0 { 0xffff } else { value });
}

/// The outer header: a copy of the inner one (RFC 4301 section 5.1.2.1), addresses included (RFC 6407 section 5.3, RFC 5374
/// section 3.1), but of itself: no fragment even if the inner packet is one.
//= https://www.rfc-editor.org/rfc/rfc4301#section-5.1.2.1
//# Options              never copied                 no change
fn write_outer_v4(outer: &mut [u8], inner: &[u8], esp_length: usize, df_bit: DfBit, identification: u16) {
    let inner: &[u8; IPV4_LENGTH] = inner.first_chunk().expect("a whole packet");
    let dont_fragment = match df_bit {
        DfBit::Clear => 0,
        DfBit::Set => DONT_FRAGMENT,
        DfBit::Copy => word(inner, 6) & DONT_FRAGMENT,
    };
    let length = (IPV4_LENGTH + esp_length) as u32;
    let mut words = [
        0x4500_0000 | u32::from(inner[1]) << 16 | length & 0xffff,
        u32::from(identification) << 16 | u32::from(dont_fragment),
        u32::from(inner[8]) << 24 | u32::from(PROTOCOL_ESP) << 16,
        long(inner, 12),
        long(inner, 16),
    ];
    words[2] |= u32::from(checksum(words.iter().map(|word| u64::from(*word)).sum()));
    for (at, word) in words.into_iter().enumerate() {
        put_long(outer, 4 * at, word);
    }
}

/// The outer header: version, traffic class, flow label, hop limit and addresses of the inner one, no extension headers.
//= https://www.rfc-editor.org/rfc/rfc4301#section-5.1.2.2
//# (7) IPsec does not copy the extension headers from the inner
//# packet into outer headers, nor does IPsec construct extension
//# headers in the outer header.
fn write_outer_v6(outer: &mut [u8], inner: &[u8], esp_length: usize) {
    outer.copy_from_slice(&inner[..IPV6_LENGTH]);
    put_word(outer, 4, esp_length as u16);
    outer[6] = PROTOCOL_ESP;
}

/// Padding, its length, and the protocol of what comes before it: `length` octets at the beginning of `behind`.
//= https://www.rfc-editor.org/rfc/rfc4303#section-2.4
//# The first padding byte appended
//# to the plaintext is numbered 1, with subsequent padding bytes making
//# up a monotonically increasing sequence: 1, 2, 3, ....
fn write_trailer(behind: &mut [u8], length: usize, protocol: u8) {
    const COUNTED: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
    let padding = length - 2;
    match behind.first_chunk_mut() {
        // What it writes too much is the place of the ICV.
        Some(whole) => *whole = COUNTED,
        None => behind[..padding].copy_from_slice(&COUNTED[..padding]),
    }
    behind[padding] = padding as u8;
    behind[padding + 1] = protocol;
}
