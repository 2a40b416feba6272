//! ESP from the wire: found by SPI, opened a batch at a time, checked, and handed to the kernel.

use std::sync::Arc;

use crypto::esp::{EspKey, EspOpener, Frame, HEADER_LEN as ESP_HEADER_LENGTH, Verdict as Opened, open_each};

use super::merge::Merger;
use super::reassembly::{Key, Reassembly, State};
use super::{CRYPTO_BATCH, Context, Engine, PerSa, Rules, Tally};
use crate::classify::Verdict;
use crate::ip::{self, ETHERNET_LENGTH, PROTOCOL_ESP, PROTOCOL_NONE, Packet, Version, long, set_tos};
use crate::pseudo_time::{self, PROTOCOL_D3P};
use crate::replay::{Refused, Windows};
use crate::sessions::Direction;
use crate::tables::Interface;
use crate::{Destination, DropReason, FrameBuffer, FrameIn, GroupSa, InterfaceId};

/// State of the receiving direction.
#[derive(Debug)]
pub(super) struct Inbound {
    /// The batch's ESP frames, opened. Initialised up to its length; `used` octets are in use.
    scratch: Vec<u8>,
    used: usize,
    jobs: Vec<Job>,
    /// Of suites that are opened one packet at a time; made when first used.
    pub(super) openers: PerSa<Option<EspOpener>>,
    pub(super) merger: Merger,
    reassembly: Reassembly,
    /// A packet put together from fragments.
    assembled: Vec<u8>,
}

/// An ESP frame that waits for its key, or an opened one.
#[derive(Clone, Copy, Debug)]
struct Job {
    sa: u32,
    interface: InterfaceId,
    version: Version,
    /// The Ethernet header, in the scratch memory.
    start: usize,
    /// The ESP header.
    esp: usize,
    /// Behind the ICV.
    end: usize,
    opened: Opened,
}

impl Inbound {
    pub(super) fn new() -> Self {
        Self {
            scratch: Vec::new(),
            used: 0,
            jobs: Vec::new(),
            openers: PerSa::default(),
            merger: Merger::default(),
            reassembly: Reassembly::default(),
            assembled: Vec::new(),
        }
    }

    /// Takes an ESP packet with its Ethernet header. Where the suite is opened one packet at a time that is done here, on the
    /// way into the engine's memory; else at the end of the batch.
    fn push(
        &mut self,
        sa: u32,
        bound: &GroupSa,
        interface: InterfaceId,
        ethernet: &[u8],
        packet: &Packet<'_>,
    ) {
        let start = self.used;
        let outer = start + ethernet.len();
        let end = outer + packet.bytes.len();
        if end > self.scratch.len() {
            self.scratch.resize(end.next_power_of_two().max(64 * 1024), 0);
        }
        self.scratch[start..outer].copy_from_slice(ethernet);
        let esp = outer + packet.header_length;
        let mut opened = Opened::Pending;
        if bound.suite().is_batched() {
            self.scratch[outer..end].copy_from_slice(packet.bytes);
        } else {
            let (header, sealed) = packet.bytes.split_at(packet.header_length);
            self.scratch[outer..esp].copy_from_slice(header);
            let opener = self.openers.at(sa);
            if opener.is_none() {
                *opener = EspOpener::from_key(bound.key().clone()).ok();
            }
            if let Some(opener) = opener {
                opened = opener.open_copy(sealed, &mut self.scratch[esp..end]);
            }
        }
        self.used = end;
        let version = packet.version;
        self.jobs.push(Job { sa, interface, version, start, esp, end, opened });
    }

    /// Opens what the batch has collected and not opened yet, as many packets of one suite together as the backend likes.
    fn open(&mut self, context: Context<'_>) {
        let sa_of = |job: &Job| &context.tables.sas[job.sa as usize].sa;
        let waits = |job: &Job| job.opened == Opened::Pending && sa_of(job).suite().is_batched();
        if !self.jobs.iter().any(waits) {
            return;
        }
        self.jobs.sort_unstable_by_key(|job| (sa_of(job).suite(), job.start));
        for jobs in self.jobs.chunk_by_mut(|one, other| sa_of(one).suite() == sa_of(other).suite()) {
            for jobs in jobs.chunks_mut(CRYPTO_BATCH).filter(|jobs| waits(&jobs[0])) {
                open_chunk(jobs, |job| sa_of(job).key(), &mut self.scratch);
            }
        }
        // Back to the order of arrival.
        self.jobs.sort_unstable_by_key(|job| job.start);
    }
}

/// Opens up to [`CRYPTO_BATCH`] packets of one suite, in the order of their places.
fn open_chunk<'k>(jobs: &mut [Job], key_of: impl Fn(&Job) -> &'k Arc<EspKey>, scratch: &mut [u8]) {
    let first = key_of(&jobs[0]);
    let mut keys: [&EspKey; CRYPTO_BATCH] = [first; CRYPTO_BATCH];
    let mut frames: [Frame<'_>; CRYPTO_BATCH] = std::array::from_fn(|_| Frame::new(&mut []));
    let (mut rest, mut position) = (scratch, 0);
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
                self.esp(context, frame, ethernet, &packet, output);
            }
            Some(packet) if self.path_error(context, frame.interface, &packet, output) => {}
            _ => self.ingress(context, frame, output),
        }
    }

    fn esp(
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
        if packet.payload().len() < ESP_HEADER_LENGTH {
            return context.drop(DropReason::EspTooShort, None);
        }
        let spi = long(packet.payload(), 0);
        // A reassembled packet is ours, and `frame` only its last fragment.
        let Some(sa) = context.sa_for(interface, spi, packet) else {
            return self.foreign_esp(context, frame, output);
        };
        let bound = &context.tables.sas[sa as usize];
        if context.now >= bound.sa.hard_expiry() {
            return context.drop(DropReason::SaExpired, Some(bound.vpn));
        }
        if !bound.sa.receives() {
            return context.drop(DropReason::SenderOnly, Some(bound.vpn));
        }
        // Look before decrypting: a replayed packet costs no more than this.
        if let Some((windows, sender, sequence)) = window(&bound.sa, packet.payload())
            && let Err(refused) = windows.look(sender, sequence)
        {
            return context.drop(refused.into(), Some(bound.vpn));
        }
        self.inbound.push(sa, &bound.sa, frame.interface, ethernet, packet);
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
                        let (ethernet, rest) = assembled.split_at(ETHERNET_LENGTH);
                        match Packet::parse(packet.version, rest) {
                            Some(whole) if whole.protocol() == PROTOCOL_ESP => {
                                self.esp(context, frame, ethernet, &whole, output)
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
        match judged.verdict {
            Verdict::Drop { reason, vpn } => context.drop(reason, vpn),
            Verdict::Encrypt { .. } => unreachable!("the rules of arriving packets never encrypt"),
            Verdict::Clear { reason, vpn } => {
                context.counters(vpn).passed.add(reason, 1);
                output.push_copy(frame.interface, Destination::Inject, frame.vnet, frame.bytes);
            }
        }
    }

    /// Opens the batch's ESP packets and passes on those that are what they should be.
    pub(super) fn open(&mut self, context: Context<'_>, output: &mut FrameBuffer) {
        if self.inbound.jobs.is_empty() {
            return;
        }
        self.inbound.open(context);
        let mut scratch = std::mem::take(&mut self.inbound.scratch);
        let jobs = std::mem::take(&mut self.inbound.jobs);
        let mut tally = Tally::default();
        for job in &jobs {
            let bound = &context.tables.sas[job.sa as usize];
            match self.check(context, job, &bound.sa, &mut scratch) {
                Ok(inner) => {
                    tally.add(job.sa, inner.len() as u64, |tally| count_decrypted(context, tally));
                    self.inbound.merger.push(job.interface, job.version, &scratch, job.start, inner);
                }
                Err(reason) => context.drop(reason, Some(bound.vpn)),
            }
        }
        tally.finish(|tally| count_decrypted(context, tally));
        self.inbound.merger.flush(&scratch, output);
        self.inbound.scratch = scratch;
        self.inbound.jobs = jobs;
        self.inbound.jobs.clear();
        self.inbound.used = 0;
    }

    /// Row 3: the range of the inner packet, if everything about it is right.
    fn check(
        &mut self,
        context: Context<'_>,
        job: &Job,
        sa: &GroupSa,
        scratch: &mut [u8],
    ) -> Result<std::ops::Range<usize>, DropReason> {
        match job.opened {
            Opened::Ok => {}
            Opened::BadIcv => return Err(DropReason::BadIntegrity),
            Opened::BadLength => return Err(DropReason::EspTooShort),
            Opened::Pending => return Err(DropReason::CryptoFailure),
        }
        //= https://www.rfc-editor.org/rfc/rfc4303#section-3.4.3
        //# The receive window is updated only if the integrity verification
        //# succeeds.
        if let Some((windows, sender, sequence)) = window(sa, &scratch[job.esp..job.end]) {
            windows.mark(sender, sequence)?;
        }
        let plain = sa.layout().encrypted_range(job.end - job.esp).ok_or(DropReason::EspTooShort)?;
        let plain = job.esp + plain.start..job.esp + plain.end;
        let (payload_length, next_header) = check_trailer(&scratch[plain.clone()])?;
        let payload = plain.start..plain.start + payload_length;
        let (inner, protocol) = match (sa.pseudo_clock(), next_header) {
            (None, PROTOCOL_D3P) => return Err(DropReason::TimestampUnexpected),
            (None, protocol) => (payload, protocol),
            (Some(clock), PROTOCOL_D3P) => {
                let protocol = clock.check(context.now, &scratch[payload.clone()])?;
                (payload.start + pseudo_time::HEADER_LENGTH..payload.end, protocol)
            }
            (Some(_), _) => return Err(DropReason::TimestampMissing),
        };
        if protocol != job.version.protocol() {
            return Err(DropReason::BadNextHeader);
        }
        let outer = Packet::parse(job.version, &scratch[job.start + ETHERNET_LENGTH..])
            .ok_or(DropReason::Malformed)?;
        // Octets behind the inner packet are padding against traffic analysis (RFC 4303 section 2.7).
        let start = inner.start;
        let inner = Packet::parse(job.version, &scratch[inner]).ok_or(DropReason::InnerMalformed)?;
        if (inner.source(), inner.destination()) != (outer.source(), outer.destination()) {
            return Err(DropReason::InnerAddressMismatch);
        }
        let interface = context.tables.interface(job.interface).ok_or(DropReason::UnknownInterface)?;
        let rules = Rules::Decrypted { sa: job.sa };
        let (verdict, tracked) = self.verdict(context, interface, job.interface, &inner, rules);
        if let Verdict::Drop { reason, .. } = verdict {
            return Err(reason);
        }
        let tos = decapsulated_tos(inner.tos(), outer.tos())?;
        let amount = (1, inner.bytes.len() as u64);
        self.track(context, job.interface, job.sa, Direction::Inward, &inner, tracked, amount);
        let range = start..start + inner.bytes.len();
        if tos != inner.tos() {
            let header_length = inner.header_length;
            set_tos(job.version, &mut scratch[range.start..range.start + header_length], tos);
        }
        Ok(range)
    }
}

impl Context<'_> {
    /// The SA of an SPI. Where two groups on the interface use the same number, the addresses decide.
    pub(super) fn sa_for(&self, interface: &Interface, spi: u32, outer: &Packet<'_>) -> Option<u32> {
        let bound = |sa: &u32| interface.vpns.contains(&self.tables.sas[*sa as usize].vpn);
        let mut candidates = self.tables.sas_of(spi).filter(bound);
        let first = candidates.next()?;
        if candidates.next().is_none() {
            return Some(first);
        }
        let flow = outer.flow();
        let mut all = self.tables.sas_of(spi).filter(bound);
        Some(all.find(|sa| self.tables.addresses_match(*sa, &flow)).unwrap_or(first))
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

/// The longest padding.
const COUNTED: [u8; 255] = {
    let mut counted = [0; 255];
    let mut at = 0;
    while at < counted.len() {
        counted[at] = at as u8 + 1;
        at += 1;
    }
    counted
};

/// Checks padding and dummies; returns the octets of payload before the padding, and the next header.
fn check_trailer(plain: &[u8]) -> Result<(usize, u8), DropReason> {
    let [before @ .., padding, next_header] = plain else { return Err(DropReason::EspTooShort) };
    let payload_length = before.len().checked_sub(usize::from(*padding)).ok_or(DropReason::BadPadding)?;
    if before[payload_length..] != COUNTED[..usize::from(*padding)] {
        return Err(DropReason::BadPadding);
    }
    match *next_header {
        PROTOCOL_NONE => Err(DropReason::DummyPacket),
        next_header => Ok((payload_length, next_header)),
    }
}

/// The inner TOS with the congestion the outer header has met (RFC 6040 figure 4).
fn decapsulated_tos(inner: u8, outer: u8) -> Result<u8, DropReason> {
    const NOT_CAPABLE: u8 = 0;
    const ECT_1: u8 = 1;
    const ECT_0: u8 = 2;
    const CONGESTION: u8 = 3;
    let ecn = match (inner & 3, outer & 3) {
        //= https://www.rfc-editor.org/rfc/rfc6040#section-4.2
        //# If the inner ECN field is Not-ECT and the outer ECN field is
        //# CE, the decapsulator MUST drop the packet.
        (NOT_CAPABLE, CONGESTION) => return Err(DropReason::EcnDrop),
        (NOT_CAPABLE, _) => NOT_CAPABLE,
        //= https://www.rfc-editor.org/rfc/rfc6040#section-4.2
        //# In all other cases where the inner supports ECN, the decapsulator
        //# MUST set the outgoing ECN field to the more severe marking of the
        //# outer and inner ECN fields, where the ranking of severity from
        //# highest to lowest is CE, ECT(1), ECT(0), Not-ECT.
        (_, CONGESTION) | (CONGESTION, _) => CONGESTION,
        (_, ECT_1) | (ECT_1, _) => ECT_1,
        (_, _) => ECT_0,
    };
    Ok(inner & !3 | ecn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn congestion_is_carried_inward_as_in_figure_4() {
        const NOT: Option<u8> = Some(0);
        let figure = [
            [NOT, NOT, NOT, None],
            [Some(2), Some(2), Some(1), Some(3)],
            [Some(1), Some(1), Some(1), Some(3)],
            [Some(3), Some(3), Some(3), Some(3)],
        ];
        for (inner, row) in [0, 2, 1, 3].into_iter().zip(figure) {
            for (outer, expected) in [0, 2, 1, 3].into_iter().zip(row) {
                let result = decapsulated_tos(0xb8 | inner, 0x40 | outer).ok();
                assert_eq!(result, expected.map(|ecn| 0xb8 | ecn), "inner {inner} outer {outer}");
            }
        }
    }

    #[test]
    fn padding_that_does_not_count_is_refused() {
        assert_eq!(check_trailer(&[9, 1, 2, 3, 3, 4]), Ok((1, 4)));
        assert_eq!(check_trailer(&[9, 1, 2, 4, 3, 4]), Err(DropReason::BadPadding));
        assert_eq!(check_trailer(&[1, 2, 3, 4, 4]), Err(DropReason::BadPadding));
        assert_eq!(check_trailer(&[9, 0, 41]), Ok((1, 41)));
        assert_eq!(check_trailer(&[0, 59]), Err(DropReason::DummyPacket));
        assert_eq!(check_trailer(&[4]), Err(DropReason::EspTooShort));
    }
}
