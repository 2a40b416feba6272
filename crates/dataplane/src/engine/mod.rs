//! The engine: one object per lane, batches of frames in, frames and counters out.
//!
//! ```text
//! egress   classify ── clear ──────────────────────────────► WireClear
//!              └────── split, fragment, wrap ── seal batch ► WireEsp   (or IcmpToHost: too big)
//! ingress  classify ── clear ──────────────────────────────► Inject
//! wire     SPI, reassemble ── open batch ── check ── merge ► Inject
//! ```

mod decapsulation;
mod fragments;
mod headers;
mod icmp;
mod inbound;
mod limits;
mod merge;
mod offload;
mod outbound;
mod path_error;
mod reassembly;
mod register;
mod segment;
mod sent;

use std::sync::Arc;

use crypto::Random;
use crypto::esp::IvSource;

use crate::classifier::Flow;
use crate::classify::Verdict;
use crate::flow_cache::{CacheKey, FlowCache};
use crate::fragment_tracker::{FragmentTracker, Side};
use crate::ip::{self, ETHERNET_LENGTH, Packet, Version};
use crate::plain::Plain;
use crate::sessions::{Direction, SessionRef};
use crate::tables::{BoundSa, Interface};
use crate::{
    Counters, Destination, DropReason, FrameBuffer, FrameIn, Instant, InterfaceId, Origin, PassReason,
    SessionTable, Tables,
};

use inbound::Inbound;
use outbound::{Enclosure, Outbound};

/// Packets sealed or opened by one call of the cryptographic backend, where it likes many at a time.
const CRYPTO_BATCH: usize = 64;

/// The packet engine of one lane (thread).
#[derive(Debug)]
pub struct Engine {
    cache: FlowCache<Cached>,
    sessions: Arc<SessionTable>,
    tracker: FragmentTracker,
    /// Generation of the tables seen last.
    generation: u64,
    /// Cached verdicts hold from the time of the last batch up to here.
    valid_until: Instant,
    last_batch: Instant,
    outbound: Outbound,
    inbound: Inbound,
}

/// What is remembered of a flow.
#[derive(Clone, Copy, Debug)]
struct Cached {
    verdict: Verdict,
    session: Option<SessionRef>,
}

/// A packet with its verdict.
struct Judged<'t, 'f> {
    interface: &'t Interface,
    verdict: Verdict,
    /// `None` where the frame holds no IP packet.
    packet: Option<(Packet<'f>, Tracked)>,
}

/// The flow of a packet, and its session if it is known.
#[derive(Clone, Copy)]
struct Tracked {
    flow: Flow,
    /// As in the [`CacheKey`].
    context: u64,
    session: Option<SessionRef>,
}

/// What a lane keeps for each SA of the tables seen last, in their order.
#[derive(Debug, Default)]
struct PerSa<T>(Vec<(u64, T)>);

impl<T: Default> PerSa<T> {
    /// Keeps what belongs to SAs that are still in the tables.
    fn follow(&mut self, sas: &[BoundSa]) {
        let mut old = std::mem::take(&mut self.0);
        let keep = |bound: &BoundSa| {
            let id = bound.sa.id();
            match old.iter().position(|(of, _)| *of == id) {
                Some(position) => old.swap_remove(position),
                None => (id, T::default()),
            }
        };
        self.0 = sas.iter().map(keep).collect();
    }

    fn at(&mut self, sa: u32) -> &mut T {
        &mut self.0[sa as usize].1
    }
}

/// Sums up packets and octets of one SA after the other: the counters are shared by all lanes.
#[derive(Debug, Default)]
struct Tally {
    sa: u32,
    packets: u64,
    octets: u64,
}

impl Tally {
    /// Adds a packet of the octets given; `finish` is told the sum of the SA before, if it is another one.
    #[inline]
    fn add(&mut self, sa: u32, octets: u64, finish: impl FnOnce(&Self)) {
        if self.sa != sa {
            self.finish(finish);
            self.sa = sa;
        }
        self.packets += 1;
        self.octets += octets;
    }

    fn finish(&mut self, finish: impl FnOnce(&Self)) {
        if self.packets > 0 {
            finish(self);
            (self.packets, self.octets) = (0, 0);
        }
    }
}

/// What a batch is processed with.
#[derive(Clone, Copy)]
struct Context<'a> {
    now: Instant,
    tables: &'a Tables,
}

impl Context<'_> {
    /// Counters of a VPN, or of what belongs to none.
    fn counters(&self, vpn: Option<u32>) -> &Counters {
        match vpn {
            Some(at) => &self.tables.vpns()[at as usize].counters,
            None => self.tables.counters(),
        }
    }

    fn drop(&self, reason: DropReason, vpn: Option<u32>) {
        self.counters(vpn).drops.add(reason, 1);
    }

    /// A frame goes on as it is, or does not.
    #[inline(never)]
    fn pass_or_drop(
        &self,
        verdict: Verdict,
        frame: &FrameIn<'_>,
        destination: Destination,
        output: &mut FrameBuffer,
    ) {
        match verdict {
            Verdict::Drop { reason, vpn } => self.drop(reason, vpn),
            Verdict::Clear { reason, vpn } => {
                self.counters(vpn).passed.add(reason, 1);
                output.push_copy(frame.interface, destination, frame.vnet, frame.bytes);
            }
            Verdict::Encrypt { .. } => unreachable!("such a frame does not stay as it is"),
        }
    }
}

/// Which set of rules a verdict is from.
#[derive(Clone, Copy, Debug)]
enum Rules {
    Egress { own: bool, injected: bool },
    Ingress,
    UnknownEsp,
    Decrypted { sa: u32 },
}

impl Rules {
    fn cache_context(self, interface: InterfaceId) -> u64 {
        let (class, id) = match self {
            Self::Egress { own, injected } => (u64::from(own) | u64::from(injected) << 1, interface.0),
            Self::Ingress => (4, interface.0),
            Self::UnknownEsp => (5, interface.0),
            Self::Decrypted { sa } => (6, sa),
        };
        class << 32 | u64::from(id)
    }

    fn side(self, tables: &Tables) -> Side {
        match self {
            Self::Egress { .. } => Side::Egress,
            Self::Ingress | Self::UnknownEsp => Side::Ingress,
            Self::Decrypted { sa } => Side::Decrypted(tables.sas[sa as usize].sa.id()),
        }
    }
}

impl Engine {
    /// An engine with empty caches; `random` seeds its generator of initialization vectors.
    pub fn new(random: &mut dyn Random) -> Self {
        let mut first_identification = [0; 4];
        random.fill(&mut first_identification);
        Self {
            cache: FlowCache::new(Cached {
                verdict: Verdict::Drop { reason: DropReason::Malformed, vpn: None },
                session: None,
            }),
            sessions: SessionTable::new(),
            tracker: FragmentTracker::new(),
            generation: 0,
            valid_until: Instant::ZERO,
            last_batch: Instant::ZERO,
            outbound: Outbound::new(IvSource::new(random), u32::from_ne_bytes(first_identification)),
            inbound: Inbound::new(),
        }
    }

    /// The sessions of this lane, which anyone may read while the lane goes on.
    pub fn sessions(&self) -> &Arc<SessionTable> {
        &self.sessions
    }

    /// Whether received UDP datagrams are merged, too, as [`VnetHeader::GSO_UDP_DATAGRAMS`]; off at first. TAPs take such
    /// frames since Linux 6.2.
    pub fn merge_datagrams(&mut self, merges: bool) {
        self.inbound.merger.merges_udp = merges;
    }

    /// Processes one batch; frames to be sent are appended to `output`, which the caller clears.
    ///
    /// `now` must not be earlier than at the batch before.
    pub fn process(
        &mut self,
        now: Instant,
        tables: &Tables,
        input: &[FrameIn<'_>],
        output: &mut FrameBuffer,
    ) {
        self.synchronise(now, tables);
        let context = Context { now, tables };
        for frame in input {
            match frame.origin {
                Origin::Egress { own, injected } => {
                    if !self.known_egress(context, frame, own, injected, output) {
                        self.egress(context, frame, own, injected, output);
                    }
                }
                Origin::Ingress => self.ingress(context, frame, output),
                Origin::Wire => self.wire(context, frame, output),
            }
        }
        self.outbound.seal(context, output);
        self.open(context, output);
    }

    /// Follows the tables and the clock: forgets verdicts that may have changed.
    fn synchronise(&mut self, now: Instant, tables: &Tables) {
        if self.generation != tables.generation {
            self.outbound.follow(&tables.sas);
            self.inbound.follow(&tables.sas);
            self.generation = tables.generation;
            self.valid_until = Instant::ZERO;
        }
        if now >= self.valid_until || now < self.last_batch {
            self.cache.invalidate();
            self.valid_until = tables.next_boundary(now);
        }
        self.last_batch = now;
    }

    /// Plain packets that leave and whose flow has a verdict. False: ask [`Engine::egress`], nothing was done.
    // Known versions make shorter code.
    #[inline(never)]
    fn known_egress(
        &mut self,
        context: Context<'_>,
        frame: &FrameIn<'_>,
        own: bool,
        injected: bool,
        output: &mut FrameBuffer,
    ) -> bool {
        let Some((ethernet, bytes)) = frame.bytes.split_at_checked(ETHERNET_LENGTH) else { return false };
        let rules = Rules::Egress { own, injected };
        match ip::word(ethernet, 12) {
            ip::ETHERTYPE_IPV4 => self.known_egress_of(Version::V4, context, frame, bytes, rules, output),
            ip::ETHERTYPE_IPV6 => self.known_egress_of(Version::V6, context, frame, bytes, rules, output),
            _ => false,
        }
    }

    #[inline(always)]
    fn known_egress_of(
        &mut self,
        version: Version,
        context: Context<'_>,
        frame: &FrameIn<'_>,
        bytes: &[u8],
        rules: Rules,
        output: &mut FrameBuffer,
    ) -> bool {
        let Some(plain) = Plain::parse(version, bytes) else { return false };
        let cache_context = rules.cache_context(frame.interface);
        let Some(cached) = self.cache.find(&plain.key(cache_context)) else { return false };
        let (sa, session) = match *cached {
            Cached { verdict: Verdict::Encrypt { sa }, session: Some(session) } => (sa, session),
            Cached { verdict: Verdict::Encrypt { .. }, session: None } => return false,
            Cached { verdict, .. } => {
                context.pass_or_drop(verdict, frame, Destination::WireClear, output);
                return true;
            }
        };
        let Some(wrapped) = self.outbound.protect_plain(context, frame, version, &plain, sa, output) else {
            return false;
        };
        if wrapped {
            let way = (frame.interface, sa, Direction::Outward);
            self.track_plain(context, way, version, bytes, &plain, cache_context, session);
        }
        true
    }

    /// [`Engine::track`] for a plain packet whose session was found.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "it is a part of its two callers, which have them all")]
    fn track_plain(
        &mut self,
        context: Context<'_>,
        way: (InterfaceId, u32, Direction),
        version: Version,
        bytes: &[u8],
        plain: &Plain,
        cache_context: u64,
        session: SessionRef,
    ) {
        let (amount, spi) = ((1, plain.length as u64), context.tables.sas[way.1 as usize].sa.spi());
        if !self.sessions.count(context.now, session, spi, amount.0, amount.1, plain.closes) {
            self.track_anew(context, way, version, bytes, cache_context, amount);
        }
    }

    /// [`Engine::track`] for a plain packet whose session has ended.
    #[cold]
    fn track_anew(
        &mut self,
        context: Context<'_>,
        (id, sa, direction): (InterfaceId, u32, Direction),
        version: Version,
        bytes: &[u8],
        cache_context: u64,
        amount: (u64, u64),
    ) {
        let Some(packet) = Packet::parse(version, bytes) else { return };
        let tracked = Tracked { flow: packet.flow(), context: cache_context, session: None };
        self.track(context, id, sa, direction, &packet, tracked, amount);
    }

    /// Packets that leave.
    #[inline(never)]
    fn egress(
        &mut self,
        context: Context<'_>,
        frame: &FrameIn<'_>,
        own: bool,
        injected: bool,
        output: &mut FrameBuffer,
    ) {
        let rules = Rules::Egress { own, injected };
        let Some(Judged { interface, verdict, packet }) = self.judge(context, frame, rules) else { return };
        match (verdict, packet) {
            // One that hosts or other routers behind us have made is looked into where it would leave in clear.
            (_, Some((packet, _)))
                if !injected
                    && (own || matches!(verdict, Verdict::Clear { .. }))
                    && register::may_carry_data(&packet) =>
            {
                self.register(context, interface, frame, &packet, output);
            }
            (Verdict::Encrypt { sa }, Some((packet, tracked))) => {
                let enclosure = Enclosure { before: &[], packet: &packet };
                let amount = self.outbound.protect(context, interface, frame, enclosure, sa, output);
                self.track(context, frame.interface, sa, Direction::Outward, &packet, tracked, amount);
            }
            (Verdict::Encrypt { .. }, None) => unreachable!("only IP packets match policies"),
            (verdict, _) => context.pass_or_drop(verdict, frame, Destination::WireClear, output),
        }
    }

    /// Clear packets that arrive, on their way inward.
    fn ingress(&mut self, context: Context<'_>, frame: &FrameIn<'_>, output: &mut FrameBuffer) {
        let Some(Judged { verdict, packet, .. }) = self.judge(context, frame, Rules::Ingress) else { return };
        match verdict {
            Verdict::Drop { vpn, .. }
                if packet.is_some_and(|(packet, _)| packet.protocol() == ip::PROTOCOL_ESP) =>
            {
                context.drop(DropReason::UnknownSpiProtected, vpn);
            }
            verdict => context.pass_or_drop(verdict, frame, Destination::Inject, output),
        }
    }

    /// Parses a frame and asks the rules. `None`: dropped and counted.
    // What it returns is large, and not to be written to memory and read again for every packet; so are those below.
    #[inline(always)]
    fn judge<'t, 'f>(
        &mut self,
        context: Context<'t>,
        frame: &FrameIn<'f>,
        rules: Rules,
    ) -> Option<Judged<'t, 'f>> {
        let Some(interface) = context.tables.interface(frame.interface) else {
            context.drop(DropReason::UnknownInterface, None);
            return None;
        };
        let Some((header, rest)) = frame.bytes.split_at_checked(ETHERNET_LENGTH) else {
            context.drop(DropReason::Malformed, None);
            return None;
        };
        let ethertype = ip::word(header, 12);
        let Some(version) = Version::of_ethertype(ethertype) else {
            if ethertype == ip::ETHERTYPE_ARP {
                let verdict = Verdict::Clear { reason: PassReason::LinkControl, vpn: None };
                return Some(Judged { interface, verdict, packet: None });
            }
            context.drop(DropReason::NotIp, None);
            return None;
        };
        let Some(packet) = Packet::parse(version, rest) else {
            context.drop(DropReason::Malformed, None);
            return None;
        };
        let (verdict, tracked) = self.verdict(context, interface, frame.interface, &packet, rules);
        Some(Judged { interface, verdict, packet: Some((packet, tracked)) })
    }

    /// Adds a packet to the session of its flow.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "what a packet is, and where it goes")]
    fn track(
        &mut self,
        context: Context<'_>,
        id: InterfaceId,
        sa: u32,
        direction: Direction,
        packet: &Packet<'_>,
        tracked: Tracked,
        (packets, octets): (u64, u64),
    ) {
        const FIN_OR_RST: u8 = 0x05;
        // Nothing was sent.
        if packets == 0 {
            return;
        }
        let closes = packet.protocol() == ip::PROTOCOL_TCP
            && packet.fragment_offset() == 0
            && packet.payload().get(13).is_some_and(|flags| flags & FIN_OR_RST != 0);
        let (now, spi) = (context.now, context.tables.sas[sa as usize].sa.spi());
        let sessions = &self.sessions;
        if let Some(session) = tracked.session
            && sessions.count(now, session, spi, packets, octets, closes)
        {
            return;
        }
        let session = sessions.open(now, &tracked.flow, id, direction);
        if let Some(session) = session {
            sessions.count(now, session, spi, packets, octets, closes);
        }
        let key = CacheKey::new(&tracked.flow, tracked.context);
        self.cache.update(&key, |cached| cached.session = session);
    }

    /// The verdict on a packet: its flow's, or for ICMP errors that of the packet they quote.
    #[inline(always)]
    fn verdict(
        &mut self,
        context: Context<'_>,
        interface: &Interface,
        id: InterfaceId,
        packet: &Packet<'_>,
        rules: Rules,
    ) -> (Verdict, Tracked) {
        let flow = if packet.is_fragment() {
            self.tracker.resolve(context.now, rules.side(context.tables), packet)
        } else {
            packet.flow()
        };
        let cache_context = rules.cache_context(id);
        let Cached { verdict: own, session } = self.lookup(context, interface, &flow, cache_context, rules);
        let verdict = match packet.quoted() {
            None => own,
            Some(quoted) => {
                let flow = quoted.flow().mirrored();
                let mirror = self.lookup(context, interface, &flow, cache_context, rules).verdict;
                match (rules, own) {
                    // A member of the group protected it, whichever of the two its policy is about.
                    (Rules::Decrypted { .. }, Verdict::Clear { .. }) => own,
                    _ => Verdict::of_icmp_error(mirror, own),
                }
            }
        };
        (verdict, Tracked { flow, context: cache_context, session })
    }

    /// The verdict on a flow, from the cache or the rules.
    #[inline(always)]
    fn lookup(
        &mut self,
        context: Context<'_>,
        interface: &Interface,
        flow: &Flow,
        cache_context: u64,
        rules: Rules,
    ) -> Cached {
        let key = CacheKey::new(flow, cache_context);
        match self.cache.find(&key) {
            Some(cached) => *cached,
            None => self.classify(context, interface, flow, key, rules),
        }
    }

    #[inline(never)]
    fn classify(
        &mut self,
        Context { now, tables }: Context<'_>,
        interface: &Interface,
        flow: &Flow,
        key: CacheKey,
        rules: Rules,
    ) -> Cached {
        let verdict = match rules {
            Rules::Egress { own, injected } => tables.classify_egress(now, interface, flow, own, injected),
            Rules::Ingress => tables.classify_ingress(now, interface, flow),
            Rules::UnknownEsp => tables.classify_unknown_esp(now, interface, flow),
            Rules::Decrypted { sa } => tables.classify_decrypted(sa, flow),
        };
        let cached = Cached { verdict, session: None };
        self.cache.insert(key, cached);
        cached
    }
}
