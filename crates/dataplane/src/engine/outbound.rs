//! Packets that leave as ESP: cut to size, wrapped, and sealed a batch at a time.

use std::cmp::min;

use crypto::esp::{EspSealer, EspSuite, Frame, HEADER_LEN as ESP_HEADER_LENGTH, IvSource, Verdict};

use super::fragments::Fragments;
use super::icmp::{IcmpLimit, packet_too_big};
use super::segment::{TcpSegments, UdpDatagrams};
use super::sent::{PathMtus, SentRing};
use super::{CRYPTO_BATCH, Context, LaneSa, register};
use crate::frame::FrameIndex;
use crate::ip::{
    DONT_FRAGMENT, ETHERNET_LENGTH, IPV4_LENGTH, IPV6_LENGTH, PROTOCOL_ESP, PROTOCOL_TCP, Packet,
    SMALLEST_IPV6_MTU, Version, checksum, long, put_long, put_word, set_header_checksum, sum,
};
use crate::pseudo_time::{self, PROTOCOL_D3P};
use crate::sa::{Numbers, Senders};
use crate::sender_ids::LaneSender;
use crate::tables::Interface;
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
    jobs: Vec<Job>,
    /// A packet that is changed before it is cut: checksum completed, or taken out of a super-frame.
    stash: Vec<u8>,
}

/// A wrapped packet that waits for its key.
#[derive(Clone, Copy, Debug)]
struct Job {
    sa: u32,
    frame: FrameIndex,
    /// Where the inner packet begins, from the ESP header on.
    inner_start: u32,
    /// Octets of the inner packet.
    inner_length: u32,
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
    suite: EspSuite,
    spi: u32,
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
            jobs: Vec::new(),
            stash: Vec::new(),
        }
    }

    /// Wraps the packets of one frame for `sa`; they are sealed at the end of the batch. Returns how many they are, and
    /// their octets.
    pub(super) fn protect(
        &mut self,
        context: Context<'_>,
        interface: &Interface,
        frame: &FrameIn<'_>,
        Enclosure { before, packet }: Enclosure<'_>,
        sa: u32,
        output: &mut FrameBuffer,
    ) -> (u64, u64) {
        let first = self.jobs.len();
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
                    suite: bound.sa.suite(),
                    spi: bound.sa.spi(),
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
        let wrapped = &self.jobs[first..];
        (wrapped.len() as u64, wrapped.iter().map(|job| u64::from(job.inner_length)).sum())
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
                let segments = TcpSegments::new(packet, vnet.gso_size.into(), envelope.largest)?;
                for index in 0..segments.count() {
                    self.wrap(envelope, segments.length(index), output, |out| segments.write(index, out));
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
        if packet.bytes.len() <= envelope.largest {
            self.wrap(envelope, packet.bytes.len(), output, |out| {
                out.copy_from_slice(packet.bytes);
                complete_checksum(out, checksum_at);
            });
            return Ok(());
        }
        // The smallest packet that every link of IPv6 carries is never too big: its ESP packet is cut instead.
        let is_small = packet.bytes.len() <= SMALLEST_IPV6_MTU.into();
        if packet.version == Version::V6 && is_small && envelope.before.is_empty() {
            self.wrap(envelope, packet.bytes.len(), output, |out| {
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
        let result = self.fragments(envelope, &packet.with_bytes(&stash), output);
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
                self.wrap(envelope, datagrams.length(index), output, |out| datagrams.write(index, out));
                continue;
            }
            stash.resize(datagrams.length(index), 0);
            datagrams.write(index, &mut stash);
            let datagram = packet.with_bytes(&stash);
            result = result.and(if stash.len() <= envelope.largest {
                self.wrap(envelope, stash.len(), output, |out| out.copy_from_slice(&stash));
                Ok(())
            } else {
                self.fragments(envelope, &datagram, output)
            });
        }
        self.stash = stash;
        result
    }

    fn fragments(
        &mut self,
        envelope: &Envelope<'_>,
        packet: &Packet<'_>,
        output: &mut FrameBuffer,
    ) -> Result<(), DropReason> {
        let fragments = Fragments::new(packet, envelope.largest, self.next_identification)?;
        self.next_identification = self.next_identification.wrapping_add(1);
        for index in 0..fragments.count() {
            self.wrap(envelope, fragments.length(index), output, |out| fragments.write(index, out));
        }
        Ok(())
    }

    /// Appends one ESP packet, all but sequence number, IV, ciphertext and ICV.
    fn wrap(
        &mut self,
        envelope: &Envelope<'_>,
        inner_length: usize,
        output: &mut FrameBuffer,
        write: impl FnOnce(&mut [u8]),
    ) {
        let suite = envelope.suite;
        let header_length = if envelope.time.is_some() { pseudo_time::HEADER_LENGTH } else { 0 };
        let esp_length = suite.frame_len(header_length + inner_length);
        let outer_length = envelope.version.header_length() + esp_length;
        let total = envelope.before.len() + outer_length;
        let length = ETHERNET_LENGTH + total;
        let (frame, bytes) =
            output.push(envelope.interface, Destination::WireEsp, VnetHeader::default(), length);
        let (ethernet, rest) = bytes.split_at_mut(ETHERNET_LENGTH);
        let (before, rest) = rest.split_at_mut(envelope.before.len());
        let (outer, esp) = rest.split_at_mut(envelope.version.header_length());
        let (esp_header, rest) = esp.split_at_mut(ESP_HEADER_LENGTH + suite.iv_len());
        let encrypted_length = rest.len() - suite.icv_len();
        let (time_header, rest) = rest[..encrypted_length].split_at_mut(header_length);
        let (inner, trailer) = rest.split_at_mut(inner_length);
        write(inner);
        let mut protocol = envelope.version.protocol();
        if let Some(time) = envelope.time {
            pseudo_time::write_header(time_header, protocol, time);
            protocol = PROTOCOL_D3P;
        }
        ethernet.copy_from_slice(envelope.ethernet);
        if !before.is_empty() {
            before.copy_from_slice(envelope.before);
            register::finish(before, total);
        }
        match envelope.version {
            Version::V4 => {
                write_outer_v4(outer, inner, esp_length, envelope.df_bit, self.next_identification as u16);
                self.next_identification = self.next_identification.wrapping_add(1);
            }
            Version::V6 => write_outer_v6(outer, inner, esp_length),
        }
        put_long(esp_header, 0, envelope.spi);
        write_trailer(trailer, protocol);
        let inner_start = (ESP_HEADER_LENGTH + suite.iv_len() + header_length) as u32;
        let inner_length = inner_length as u32;
        let esp_start = (length - esp_length) as u16;
        let cut_to = if total > envelope.mtu.into() { envelope.mtu } else { 0 };
        let Envelope { sa, version, .. } = *envelope;
        self.jobs.push(Job { sa, frame, inner_start, inner_length, version, esp_start, cut_to });
    }

    /// Seals what the batch has wrapped, one SA after the other.
    pub(super) fn seal(&mut self, context: Context<'_>, lane_sas: &mut [LaneSa], output: &mut FrameBuffer) {
        // Frames were appended in this order, so the arena can be walked once for each SA.
        self.jobs.sort_unstable_by_key(|job| (job.sa, job.frame));
        for jobs in self.jobs.chunk_by(|one, other| one.sa == other.sa) {
            let sa = jobs[0].sa;
            let bound = &context.tables.sas[sa as usize];
            let lane = &mut lane_sas[sa as usize];
            let Some(sealer) = prepared(&mut lane.sealer, &bound.sa) else {
                for job in jobs {
                    output.withdraw(job.frame);
                    context.drop(DropReason::CryptoFailure, Some(bound.vpn));
                }
                continue;
            };
            let mut numbers = match &bound.sa.outbound.numbers {
                Numbers::Shared(counter) => LaneNumbers::Run(counter.reserve(jobs.len() as u32)),
                Numbers::Senders(senders) => LaneNumbers::Sender(senders, &mut lane.sender),
            };
            let mut sealed = Sealed::default();
            for jobs in jobs.chunks(CRYPTO_BATCH) {
                seal_chunk(sealer, &mut self.iv, &mut self.sent, &mut numbers, jobs, output, &mut sealed);
            }
            bound.sa.outbound.traffic.add(sealed.packets, sealed.octets);
            let counters = context.counters(Some(bound.vpn));
            counters.encrypted.add(sealed.packets, sealed.octets);
            if sealed.refused > 0 {
                counters.drops.add(DropReason::NoSenderId, sealed.refused);
            }
        }
        self.cut_sealed(output);
        self.jobs.clear();
    }

    /// Cuts sealed packets that are larger than their path into fragments.
    fn cut_sealed(&mut self, output: &mut FrameBuffer) {
        let mut stash = std::mem::take(&mut self.stash);
        for job in self.jobs.iter().filter(|job| job.cut_to > 0) {
            let Some(interface) = output.interface_of(job.frame) else { continue };
            stash.clear();
            let range = output.range(job.frame);
            stash.extend_from_slice(&output.arena_mut()[range]);
            output.withdraw(job.frame);
            let (ethernet, packet) = stash.split_at(ETHERNET_LENGTH);
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
        }
        self.stash = stash;
    }
}

/// The sequence numbers of one key's packets in a batch.
enum LaneNumbers<'a> {
    /// One after the other, with random IVs.
    Run(u32),
    /// As long as there are identifiers.
    Sender(&'a Senders, &'a mut LaneSender),
}

/// What has become of one key's packets in a batch; octets are those of inner packets.
#[derive(Default)]
struct Sealed {
    packets: u64,
    octets: u64,
    refused: u64,
}

/// Seals up to [`CRYPTO_BATCH`] packets.
fn seal_chunk(
    sealer: &mut EspSealer,
    iv_source: &mut IvSource,
    sent: &mut SentRing,
    numbers: &mut LaneNumbers<'_>,
    jobs: &[Job],
    output: &mut FrameBuffer,
    sealed: &mut Sealed,
) {
    let iv_length = sealer.suite().iv_len();
    let mut ranges = [const { 0..0 }; CRYPTO_BATCH];
    for (range, job) in ranges.iter_mut().zip(jobs) {
        *range = output.range(job.frame);
    }
    let mut frames: [Frame<'_>; CRYPTO_BATCH] = std::array::from_fn(|_| Frame::new(&mut []));
    let mut count = 0;
    let (mut rest, mut position) = (output.arena_mut(), 0);
    for (range, job) in ranges.iter().zip(jobs) {
        let (bytes, behind) = rest[range.start - position..].split_at_mut(range.len());
        (rest, position) = (behind, range.end);
        let esp = &mut bytes[job.esp_start.into()..];
        let iv = ESP_HEADER_LENGTH..ESP_HEADER_LENGTH + iv_length;
        let sequence = match numbers {
            LaneNumbers::Run(next) => {
                iv_source.fill(&mut esp[iv]);
                std::mem::replace(next, next.wrapping_add(1))
            }
            LaneNumbers::Sender(senders, lane) => {
                let Some((sequence, counter)) = senders.next(lane) else { break };
                esp[iv].copy_from_slice(&counter);
                sequence
            }
        };
        put_long(esp, 4, sequence);
        let inner = &esp[job.inner_start as usize..][..job.inner_length as usize];
        sent.record(long(esp, 0), sequence, job.version, inner);
        sealed.octets += inner.len() as u64;
        frames[count] = Frame::new(esp);
        count += 1;
    }
    let frames = &mut frames[..count];
    sealer.seal(frames);
    // A frame that is not sealed holds cleartext. There is no such case, and no excuse for sending one.
    assert!(frames.iter().all(|frame| frame.verdict == Verdict::Ok), "frames are made to fit their suite");
    sealed.packets += count as u64;
    sealed.refused += (jobs.len() - count) as u64;
    jobs[count..].iter().for_each(|job| output.withdraw(job.frame));
}

/// The lane's handle to the key, made on first use.
fn prepared<'a>(sealer: &'a mut Option<EspSealer>, sa: &GroupSa) -> Option<&'a mut EspSealer> {
    if sealer.is_none() {
        *sealer = EspSealer::from_key(sa.key().clone()).ok();
    }
    sealer.as_mut()
}

/// Octets of the largest inner packet whose ESP packet has at most `mtu` octets.
pub(super) fn largest_inner(sa: &GroupSa, version: Version, mtu: usize) -> Option<usize> {
    let suite = sa.suite();
    let fixed = version.header_length() + ESP_HEADER_LENGTH + suite.iv_len() + suite.icv_len();
    let time_header = if sa.pseudo_clock().is_some() { pseudo_time::HEADER_LENGTH } else { 0 };
    let room = mtu.checked_sub(fixed)?;
    let largest = (room & !(suite.alignment() - 1)).checked_sub(2 + time_header)?;
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
fn complete_checksum(packet: &mut [u8], at: Option<(usize, usize)>) {
    let Some((start, field)) = at else { return };
    let value = checksum(sum(&packet[start..]));
    // Zero would mean "no checksum" to UDP, and is the same number to everybody else.
    put_word(packet, field, if value == 0 { 0xffff } else { value });
}

/// The outer header: a copy of the inner one (RFC 4301 section 5.1.2.1), addresses included (RFC 6407 section 5.3, RFC 5374
/// section 3.1), but of itself: no fragment even if the inner packet is one.
//= https://www.rfc-editor.org/rfc/rfc4301#section-5.1.2.1
//# Options              never copied                 no change
fn write_outer_v4(outer: &mut [u8], inner: &[u8], esp_length: usize, df_bit: DfBit, identification: u16) {
    let dont_fragment = match df_bit {
        DfBit::Clear => 0,
        DfBit::Set => DONT_FRAGMENT,
        DfBit::Copy => crate::ip::word(inner, 6) & DONT_FRAGMENT,
    };
    outer[0] = 0x45;
    outer[1] = inner[1];
    put_word(outer, 2, (IPV4_LENGTH + esp_length) as u16);
    put_word(outer, 4, identification);
    put_word(outer, 6, dont_fragment);
    outer[8] = inner[8];
    outer[9] = PROTOCOL_ESP;
    outer[12..20].copy_from_slice(&inner[12..20]);
    set_header_checksum(outer);
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

/// Padding, its length, and the protocol of what comes before it.
//= https://www.rfc-editor.org/rfc/rfc4303#section-2.4
//# The first padding byte appended
//# to the plaintext is numbered 1, with subsequent padding bytes making
//# up a monotonically increasing sequence: 1, 2, 3, ....
fn write_trailer(trailer: &mut [u8], protocol: u8) {
    let padding = trailer.len() - 2;
    for (index, octet) in trailer[..padding].iter_mut().enumerate() {
        *octet = index as u8 + 1;
    }
    trailer[padding] = padding as u8;
    trailer[padding + 1] = protocol;
}
