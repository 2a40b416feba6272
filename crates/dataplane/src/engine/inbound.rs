//! ESP from the wire: found by SPI, opened a batch at a time, checked, and handed to the kernel.

use std::ops::Range;
use std::sync::Arc;

use crypto::esp::{
    EspKey, EspOpener, Frame, HEADER_LEN as ESP_HEADER_LENGTH, Layout, Verdict as Opened, open_each,
};

use super::decapsulation::{check_trailer, decapsulated_tos};
use super::merge::Merger;
use super::reassembly::{Key, Reassembly, State};
use super::{CRYPTO_BATCH, Cached, Context, Engine, PerSa, Rules, Tally};
use crate::classify::Verdict;
use crate::ip::{self, ETHERNET_LENGTH, IPV4_LENGTH, PROTOCOL_ESP, Packet, Version, long, set_tos};
use crate::plain::{self, Addresses, Plain};
use crate::pseudo_time::{self, PROTOCOL_D3P};
use crate::replay::{Refused, Windows};
use crate::sessions::Direction;
use crate::tables::{BoundSa, Interface};
use crate::{Destination, DropReason, FrameBuffer, FrameIn, GroupSa, InterfaceId};

/// Octets before the ESP header in nearly every frame.
const PLAIN_V4: usize = ETHERNET_LENGTH + IPV4_LENGTH;

/// A power of two.
const SPIS: usize = 16;

/// State of the receiving direction.
#[derive(Debug)]
pub(super) struct Inbound {
    jobs: Vec<Job>,
    /// Of suites that are opened one packet at a time; made when first used.
    openers: PerSa<Option<EspOpener>>,
    /// SPIs seen last, each at its place.
    known_spis: [Option<KnownSpi>; SPIS],
    pub(super) merger: Merger,
    reassembly: Reassembly,
    /// A packet put together from fragments.
    assembled: Vec<u8>,
}

/// An SPI that on an interface is of one SA, whatever the addresses.
#[derive(Clone, Copy, Debug)]
struct KnownSpi {
    interface: InterfaceId,
    spi: u32,
    sa: u32,
}

/// An ESP frame in the output's memory that waits for its key, or an opened one.
#[derive(Clone, Copy, Debug)]
struct Job {
    sa: u32,
    interface: InterfaceId,
    version: Version,
    /// The Ethernet header.
    start: usize,
    /// The ESP header.
    esp: usize,
    /// Behind the ICV.
    end: usize,
    opened: Opened,
}

/// A frame with an ESP packet: Ethernet header, IP header from there on, and the ESP header.
#[derive(Clone, Copy)]
struct EspFrame<'a> {
    version: Version,
    bytes: &'a [u8],
    esp_at: usize,
}

impl<'a> EspFrame<'a> {
    /// The frame, if its packet is a whole one of ESP right behind an IP header without options.
    #[inline(always)]
    fn parse_plain(bytes: &'a [u8]) -> Option<Self> {
        let (ethernet, packet) = bytes.split_at_checked(ETHERNET_LENGTH)?;
        let version = Version::of_ethertype(ip::word(ethernet, 12))?;
        let length = plain::length_of(version, PROTOCOL_ESP, ESP_HEADER_LENGTH, packet)?;
        Some(Self {
            version,
            bytes: &bytes[..ETHERNET_LENGTH + length],
            esp_at: ETHERNET_LENGTH + version.header_length(),
        })
    }

    #[inline(always)]
    fn esp(&self) -> &'a [u8] {
        &self.bytes[self.esp_at..]
    }
}

impl Inbound {
    pub(super) fn new() -> Self {
        Self {
            jobs: Vec::new(),
            openers: PerSa::default(),
            known_spis: [None; SPIS],
            merger: Merger::default(),
            reassembly: Reassembly::default(),
            assembled: Vec::new(),
        }
    }

    /// The tables are others.
    pub(super) fn follow(&mut self, sas: &[BoundSa]) {
        self.openers.follow(sas);
        self.known_spis = [None; SPIS];
    }

    /// Takes an ESP packet. Where the suite is opened one packet at a time that is done here, on the way into the output's
    /// memory; else at the end of the batch.
    #[inline(always)]
    fn push(
        &mut self,
        sa: u32,
        bound: &GroupSa,
        interface: InterfaceId,
        frame: EspFrame<'_>,
        output: &mut FrameBuffer,
    ) {
        let EspFrame { version, bytes, esp_at } = frame;
        let start = output.reserve(bytes.len());
        let copy = &mut output.arena_mut()[start..][..bytes.len()];
        let mut opened = Opened::Pending;
        if bound.suite().is_batched() {
            copy.copy_from_slice(bytes);
        } else {
            let (clear, sealed) = bytes.split_at(esp_at);
            let (clear_copy, text) = copy.split_at_mut(esp_at);
            match (clear.first_chunk::<PLAIN_V4>(), clear_copy.first_chunk_mut()) {
                // Nearly always: a copy of known length is no call.
                (Some(clear), Some(copy)) if esp_at == PLAIN_V4 => *copy = *clear,
                _ => clear_copy.copy_from_slice(clear),
            }
            let opener = self.openers.at(sa);
            if opener.is_none() {
                *opener = EspOpener::from_key(bound.key().clone()).ok();
            }
            if let Some(opener) = opener {
                opened = opener.open_copy(sealed, text);
            }
        }
        let (esp, end) = (start + esp_at, start + bytes.len());
        self.jobs.push(Job { sa, interface, version, start, esp, end, opened });
    }

    /// Opens what the batch has collected and not opened yet, as many packets of one suite together as the backend likes.
    fn open(&mut self, context: Context<'_>, output: &mut FrameBuffer) {
        let sa_of = |job: &Job| &context.tables.sas[job.sa as usize].sa;
        let waits = |job: &Job| job.opened == Opened::Pending && sa_of(job).suite().is_batched();
        if !self.jobs.iter().any(waits) {
            return;
        }
        self.jobs.sort_unstable_by_key(|job| (sa_of(job).suite(), job.start));
        for jobs in self.jobs.chunk_by_mut(|one, other| sa_of(one).suite() == sa_of(other).suite()) {
            for jobs in jobs.chunks_mut(CRYPTO_BATCH).filter(|jobs| waits(&jobs[0])) {
                open_chunk(jobs, |job| sa_of(job).key(), output.arena_mut());
            }
        }
        // Back to the order of arrival.
        self.jobs.sort_unstable_by_key(|job| job.start);
    }
}

/// Opens up to [`CRYPTO_BATCH`] packets of one suite, in the order of their places.
fn open_chunk<'k>(jobs: &mut [Job], key_of: impl Fn(&Job) -> &'k Arc<EspKey>, memory: &mut [u8]) {
    let first = key_of(&jobs[0]);
    let mut keys: [&EspKey; CRYPTO_BATCH] = [first; CRYPTO_BATCH];
    let mut frames: [Frame<'_>; CRYPTO_BATCH] = std::array::from_fn(|_| Frame::new(&mut []));
    let (mut rest, mut position) = (memory, 0);
    for (at, job) in jobs.iter().enumerate() {
        let (bytes, behind) = rest[job.esp - position..].split_at_mut(job.end - job.esp);
        (rest, position) = (behind, job.end);
        keys[at] = key_of(job);
        frames[at] = Frame::new(bytes);
    }
    let frames = &mut frames[..jobs.len()];
    open_each(&keys[..jobs.len()], frames);
    for (job, frame) in jobs.iter_mut().zip(frames) {
        job.opened = frame.verdict;
    }
}

impl Engine {
    /// A frame from the wire: rows 2 to 6 of the packets that arrive.
    pub(super) fn wire(&mut self, context: Context<'_>, frame: &FrameIn<'_>, output: &mut FrameBuffer) {
        if let Some(esp) = EspFrame::parse_plain(frame.bytes)
            && let spi = long(esp.esp(), 0)
            && let Some(known) = self.inbound.known_spis[spi as usize % SPIS]
            && (known.interface, known.spi) == (frame.interface, spi)
        {
            return self.take(context, known.sa, frame.interface, esp, output);
        }
        self.unknown_wire(context, frame, output);
    }

    #[inline(never)]
    fn unknown_wire(&mut self, context: Context<'_>, frame: &FrameIn<'_>, output: &mut FrameBuffer) {
        let Some((ethernet, rest)) = frame.bytes.split_at_checked(ETHERNET_LENGTH) else {
            return context.drop(DropReason::Malformed, None);
        };
        let version = Version::of_ethertype(ip::word(ethernet, 12));
        let packet = version.and_then(|version| Packet::parse(version, rest));
        match packet {
            Some(packet) if packet.protocol() == PROTOCOL_ESP && packet.is_fragment() => {
                self.esp_fragment(context, frame, ethernet, &packet, output);
            }
            Some(packet) if packet.protocol() == PROTOCOL_ESP => {
                self.esp(context, frame, frame.bytes, &packet, output);
            }
            Some(packet) if self.path_error(context, frame.interface, &packet, output) => {}
            _ => self.ingress(context, frame, output),
        }
    }

    /// `bytes`: Ethernet header and packet. A reassembled packet's are ours, and `frame` only its last fragment.
    fn esp(
        &mut self,
        context: Context<'_>,
        frame: &FrameIn<'_>,
        bytes: &[u8],
        packet: &Packet<'_>,
        output: &mut FrameBuffer,
    ) {
        let Some(interface) = context.tables.interface(frame.interface) else {
            return context.drop(DropReason::UnknownInterface, None);
        };
        if packet.payload().len() < ESP_HEADER_LENGTH {
            return context.drop(DropReason::EspTooShort, None);
        }
        let spi = long(packet.payload(), 0);
        let Some((sa, is_alone)) = context.sa_for(interface, spi, packet) else {
            return self.foreign_esp(context, frame, output);
        };
        if is_alone {
            self.inbound.known_spis[spi as usize % SPIS] =
                Some(KnownSpi { interface: frame.interface, spi, sa });
        }
        let bytes = &bytes[..ETHERNET_LENGTH + packet.bytes.len()];
        let esp_at = ETHERNET_LENGTH + packet.header_length;
        let esp = EspFrame { version: packet.version, bytes, esp_at };
        self.take(context, sa, frame.interface, esp, output);
    }

    /// Takes an ESP packet of an SA, if it may be received.
    #[inline(always)]
    fn take(
        &mut self,
        context: Context<'_>,
        sa: u32,
        interface: InterfaceId,
        frame: EspFrame<'_>,
        output: &mut FrameBuffer,
    ) {
        let bound = &context.tables.sas[sa as usize];
        if context.now >= bound.sa.hard_expiry() {
            return context.drop(DropReason::SaExpired, Some(bound.vpn));
        }
        if !bound.sa.receives() {
            return context.drop(DropReason::SenderOnly, Some(bound.vpn));
        }
        // Look before decrypting: a replayed packet costs no more than this.
        if let Some((windows, sender, sequence)) = window(&bound.sa, frame.esp())
            && let Err(refused) = windows.look(sender, sequence)
        {
            return context.drop(refused.into(), Some(bound.vpn));
        }
        self.inbound.push(sa, &bound.sa, interface, frame, output);
    }

    /// Row 2: fragments are kept until the first one's SPI tells whose they are.
    fn esp_fragment(
        &mut self,
        context: Context<'_>,
        frame: &FrameIn<'_>,
        ethernet: &[u8],
        packet: &Packet<'_>,
        output: &mut FrameBuffer,
    ) {
        let Some(interface) = context.tables.interface(frame.interface) else {
            return context.drop(DropReason::UnknownInterface, None);
        };
        let key = Key {
            interface: frame.interface,
            version: packet.version,
            source: packet.source(),
            destination: packet.destination(),
            identification: packet.identification(),
        };
        let mut reassembly = std::mem::take(&mut self.inbound.reassembly);
        let entry = reassembly.entry(context.now, key);
        match entry.state {
            State::Foreign => self.foreign_esp(context, frame, output),
            State::Refused => context.drop(DropReason::ReassemblyInvalid, None),
            State::Collecting => match entry.add(ethernet, packet) {
                Err(_) => {
                    let lost = entry.frames().len() as u64 + 1;
                    context.counters(None).drops.add(DropReason::ReassemblyInvalid, lost);
                    entry.state = State::Refused;
                    entry.clear();
                }
                Ok(is_whole) => {
                    let first = packet.fragment_offset() == 0;
                    let ours = || {
                        let spi = packet.payload().get(..ESP_HEADER_LENGTH).map(|header| long(header, 0));
                        spi.is_some_and(|spi| context.sa_for(interface, spi, packet).is_some())
                    };
                    if first && !ours() {
                        for bytes in entry.frames() {
                            self.foreign_esp(context, &FrameIn { bytes, ..*frame }, output);
                        }
                        entry.state = State::Foreign;
                        entry.clear();
                    } else if is_whole {
                        let mut assembled = std::mem::take(&mut self.inbound.assembled);
                        entry.assemble(&mut assembled);
                        reassembly.finish(key);
                        match Packet::parse(packet.version, &assembled[ETHERNET_LENGTH..]) {
                            Some(whole) if whole.protocol() == PROTOCOL_ESP => {
                                self.esp(context, frame, &assembled, &whole, output)
                            }
                            _ => context.drop(DropReason::ReassemblyInvalid, None),
                        }
                        self.inbound.assembled = assembled;
                    }
                }
            },
        }
        let drops = &context.counters(None).drops;
        drops.add(DropReason::ReassemblyTimeout, std::mem::take(&mut reassembly.timed_out));
        drops.add(DropReason::ReassemblyFull, std::mem::take(&mut reassembly.pushed_out));
        self.inbound.reassembly = reassembly;
    }

    /// Rows 4 and 5: ESP that is not ours.
    pub(super) fn foreign_esp(
        &mut self,
        context: Context<'_>,
        frame: &FrameIn<'_>,
        output: &mut FrameBuffer,
    ) {
        let Some(judged) = self.judge(context, frame, Rules::UnknownEsp) else { return };
        context.pass_or_drop(judged.verdict, frame, Destination::Inject, output);
    }

    /// Opens the batch's ESP packets and passes on those that are what they should be.
    pub(super) fn open(&mut self, context: Context<'_>, output: &mut FrameBuffer) {
        if self.inbound.jobs.is_empty() {
            return;
        }
        self.inbound.open(context, output);
        let jobs = std::mem::take(&mut self.inbound.jobs);
        let mut tally = Tally::default();
        for job in &jobs {
            let bound = &context.tables.sas[job.sa as usize];
            // A known version and layout make shorter code.
            let checked = match (job.version, bound.sa.suite().is_batched()) {
                (Version::V4, false) => {
                    self.check(Version::V4, Layout::GCM, context, job, &bound.sa, output.arena_mut())
                }
                (version, _) => {
                    self.check(version, bound.sa.layout(), context, job, &bound.sa, output.arena_mut())
                }
            };
            match checked {
                Ok((packet, protocol)) => {
                    tally.add(job.sa, packet.len() as u64, |tally| count_decrypted(context, tally));
                    let start = packet.start - ETHERNET_LENGTH;
                    // What was between the two headers, and the room for another, is no longer needed.
                    output.arena_mut().copy_within(job.start..job.start + ETHERNET_LENGTH, start);
                    if self.inbound.merger.merges(protocol) {
                        self.inbound.merger.push(job.interface, job.version, packet, output);
                    } else {
                        output.push_reserved(job.interface, start..packet.end);
                    }
                }
                Err(reason) => context.drop(reason, Some(bound.vpn)),
            }
        }
        tally.finish(|tally| count_decrypted(context, tally));
        self.inbound.merger.flush(output);
        self.inbound.jobs = jobs;
        self.inbound.jobs.clear();
    }

    /// Row 3: the range of the inner packet and its protocol, if everything about it is right.
    #[inline(always)]
    fn check(
        &mut self,
        version: Version,
        layout: Layout,
        context: Context<'_>,
        job: &Job,
        sa: &GroupSa,
        memory: &mut [u8],
    ) -> Result<(Range<usize>, u8), DropReason> {
        match job.opened {
            Opened::Ok => {}
            Opened::BadIcv => return Err(DropReason::BadIntegrity),
            Opened::BadLength => return Err(DropReason::EspTooShort),
            Opened::Pending => return Err(DropReason::CryptoFailure),
        }
        //= https://www.rfc-editor.org/rfc/rfc4303#section-3.4.3
        //# The receive window is updated only if the integrity verification
        //# succeeds.
        if let Some((windows, sender, sequence)) = window(sa, &memory[job.esp..job.end]) {
            windows.mark(sender, sequence)?;
        }
        let plain = layout.encrypted_range(job.end - job.esp).ok_or(DropReason::EspTooShort)?;
        let plain = job.esp + plain.start..job.esp + plain.end;
        let (payload_length, next_header) = check_trailer(&memory[plain.clone()])?;
        let payload = plain.start..plain.start + payload_length;
        let (inner, protocol) = match (sa.pseudo_clock(), next_header) {
            (None, PROTOCOL_D3P) => return Err(DropReason::TimestampUnexpected),
            (None, protocol) => (payload, protocol),
            (Some(clock), PROTOCOL_D3P) => {
                let protocol = clock.check(context.now, &memory[payload.clone()])?;
                (payload.start + pseudo_time::HEADER_LENGTH..payload.end, protocol)
            }
            (Some(_), _) => return Err(DropReason::TimestampMissing),
        };
        if protocol != version.protocol() {
            return Err(DropReason::BadNextHeader);
        }
        let (outside, inside) = memory.split_at_mut(inner.start);
        let outer = &outside[job.start + ETHERNET_LENGTH..];
        // Octets behind the inner packet are padding against traffic analysis (RFC 4303 section 2.7).
        let (length, protocol) =
            self.check_inner(version, context, job, outer, &mut inside[..inner.len()])?;
        Ok((inner.start..inner.start + length, protocol))
    }

    /// The length and the protocol of the inner packet, if it is what the outer header and the policies say.
    #[inline(always)]
    fn check_inner(
        &mut self,
        version: Version,
        context: Context<'_>,
        job: &Job,
        outer: &[u8],
        inner: &mut [u8],
    ) -> Result<(usize, u8), DropReason> {
        let cache_context = Rules::Decrypted { sa: job.sa }.cache_context(job.interface);
        let Some(plain) = Plain::parse(version, inner) else {
            return self.check_any_inner(context, job, outer, inner);
        };
        let Some(&Cached { verdict: Verdict::Clear { .. }, session: Some(session) }) =
            self.cache.find(&plain.key(cache_context))
        else {
            return self.check_any_inner(context, job, outer, inner);
        };
        if plain.addresses != Addresses::of(version, outer) {
            return Err(DropReason::InnerAddressMismatch);
        }
        let tos = decapsulated_tos(plain.tos, ip::tos(version, outer))?;
        let way = (job.interface, job.sa, Direction::Inward);
        self.track_plain(context, way, version, inner, &plain, cache_context, session);
        if tos != plain.tos {
            set_tos(version, &mut inner[..version.header_length()], tos);
        }
        Ok((plain.length, plain.protocol))
    }

    /// The same for packets of any kind and flows without verdict.
    #[inline(never)]
    fn check_any_inner(
        &mut self,
        context: Context<'_>,
        job: &Job,
        outer: &[u8],
        bytes: &mut [u8],
    ) -> Result<(usize, u8), DropReason> {
        let inner = Packet::parse(job.version, bytes).ok_or(DropReason::InnerMalformed)?;
        if Addresses::of(job.version, inner.bytes) != Addresses::of(job.version, outer) {
            return Err(DropReason::InnerAddressMismatch);
        }
        let interface = context.tables.interface(job.interface).ok_or(DropReason::UnknownInterface)?;
        let rules = Rules::Decrypted { sa: job.sa };
        let (verdict, tracked) = self.verdict(context, interface, job.interface, &inner, rules);
        if let Verdict::Drop { reason, .. } = verdict {
            return Err(reason);
        }
        let tos = decapsulated_tos(inner.tos(), ip::tos(job.version, outer))?;
        let amount = (1, inner.bytes.len() as u64);
        self.track(context, job.interface, job.sa, Direction::Inward, &inner, tracked, amount);
        let (length, protocol, header_length) = (inner.bytes.len(), inner.protocol(), inner.header_length);
        if tos != inner.tos() {
            set_tos(job.version, &mut bytes[..header_length], tos);
        }
        Ok((length, protocol))
    }
}

impl Context<'_> {
    /// The SA of an SPI, and whether it is the only one. Where two groups on the interface use the same number, the
    /// addresses decide.
    pub(super) fn sa_for(&self, interface: &Interface, spi: u32, outer: &Packet<'_>) -> Option<(u32, bool)> {
        let bound = |sa: &u32| interface.vpns.contains(&self.tables.sas[*sa as usize].vpn);
        let mut candidates = self.tables.sas_of(spi).filter(bound);
        let first = candidates.next()?;
        if candidates.next().is_none() {
            return Some((first, true));
        }
        let flow = outer.flow();
        let mut all = self.tables.sas_of(spi).filter(bound);
        Some((all.find(|sa| self.tables.addresses_match(*sa, &flow)).unwrap_or(first), false))
    }
}

/// Adds what was decrypted with an SA.
fn count_decrypted(context: Context<'_>, tally: &Tally) {
    let bound = &context.tables.sas[tally.sa as usize];
    bound.sa.inbound.traffic.add(tally.packets, tally.octets);
    context.counters(Some(bound.vpn)).decrypted.add(tally.packets, tally.octets);
}

/// The windows of a counter-mode key, and the sender and sequence number of one of its packets.
fn window<'a>(sa: &'a GroupSa, esp: &[u8]) -> Option<(&'a Windows, u32, u32)> {
    let senders = sa.senders()?;
    let iv = esp.get(ESP_HEADER_LENGTH..ESP_HEADER_LENGTH + 8)?;
    let sender = senders.sender_of(iv.try_into().ok()?);
    Some((&senders.memory.windows, sender, long(esp, 4)))
}

impl From<Refused> for DropReason {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Repeated => Self::SequenceRepeated,
            Refused::TooOld => Self::SequenceTooOld,
            Refused::Own => Self::OwnPacket,
            Refused::TooManySenders => Self::TooManySenders,
        }
    }
}
