//! The engine: one object per lane, batches of frames in, frames and counters out.
//!
//! ```text
//! egress   classify ── clear ──────────────────────────────► WireClear
//!              └────── split, fragment, wrap ── seal batch ► WireEsp   (or IcmpToHost: too big)
//! ingress  classify ── clear ──────────────────────────────► Inject
//! wire     SPI, reassemble ── open batch ── check ── merge ► Inject
//! ```

mod fragments;
mod icmp;
mod inbound;
mod merge;
mod outbound;
mod path_error;
mod reassembly;
mod segment;
mod sent;

use crypto::Random;
use crypto::esp::{EspOpener, EspSealer, IvSource};

use crate::classifier::Flow;
use crate::classify::Verdict;
use crate::flow_cache::{CacheKey, FlowCache};
use crate::fragment_tracker::{FragmentTracker, Side};
use crate::ip::{self, ETHERNET_LENGTH, Packet, Version};
use crate::sender_ids::LaneSender;
use crate::tables::Interface;
use crate::{
    Counters, Destination, DropReason, FrameBuffer, FrameIn, Instant, InterfaceId, Origin, PassReason, Tables,
};

use inbound::Inbound;
use outbound::Outbound;

/// Packets sealed or opened by one call of the cryptographic backend: what multi-buffer code likes, and small enough
/// for the slices to live on the stack.
const CRYPTO_BATCH: usize = 32;

/// The packet engine of one lane (thread).
#[derive(Debug)]
pub struct Engine {
    cache: FlowCache<Verdict>,
    tracker: FragmentTracker,
    /// One handle for each SA of the tables seen last, in the same order.
    lane_sas: Vec<LaneSa>,
    /// Generation of the tables seen last.
    generation: u64,
    /// Cached verdicts hold from the time of the last batch up to here.
    valid_until: Instant,
    last_batch: Instant,
    outbound: Outbound,
    inbound: Inbound,
}

/// This lane's handles to the key of an SA, made when first used.
#[derive(Debug)]
struct LaneSa {
    id: u64,
    sealer: Option<EspSealer>,
    opener: Option<EspOpener>,
    sender: LaneSender,
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
            cache: FlowCache::new(Verdict::Drop { reason: DropReason::Malformed, vpn: None }),
            tracker: FragmentTracker::new(),
            lane_sas: Vec::new(),
            generation: 0,
            valid_until: Instant::ZERO,
            last_batch: Instant::ZERO,
            outbound: Outbound::new(IvSource::new(random), u32::from_ne_bytes(first_identification)),
            inbound: Inbound::new(),
        }
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
                Origin::Egress { own, injected } => self.egress(context, frame, own, injected, output),
                Origin::Ingress => self.ingress(context, frame, output),
                Origin::Wire => self.wire(context, frame, output),
            }
        }
        self.outbound.seal(context, &mut self.lane_sas, output);
        self.open(context, output);
    }

    /// Follows the tables and the clock: forgets verdicts that may have changed.
    fn synchronise(&mut self, now: Instant, tables: &Tables) {
        if self.generation != tables.generation {
            let mut old = std::mem::take(&mut self.lane_sas);
            self.lane_sas = tables
                .sas
                .iter()
                .map(|bound| {
                    let id = bound.sa.id();
                    match old.iter().position(|lane| lane.id == id) {
                        Some(position) => old.swap_remove(position),
                        None => LaneSa { id, sealer: None, opener: None, sender: LaneSender::default() },
                    }
                })
                .collect();
            self.generation = tables.generation;
            self.valid_until = Instant::ZERO;
        }
        if now >= self.valid_until || now < self.last_batch {
            self.cache.invalidate();
            self.valid_until = tables.next_boundary(now);
        }
        self.last_batch = now;
    }

    /// Packets that leave.
    fn egress(
        &mut self,
        context: Context<'_>,
        frame: &FrameIn<'_>,
        own: bool,
        injected: bool,
        output: &mut FrameBuffer,
    ) {
        let rules = Rules::Egress { own, injected };
        let Some((interface, verdict, packet)) = self.judge(context, frame, rules) else { return };
        match (verdict, packet) {
            (Verdict::Clear { reason, vpn }, _) => {
                context.counters(vpn).passed.add(reason, 1);
                output.push_copy(frame.interface, Destination::WireClear, frame.vnet, frame.bytes);
            }
            (Verdict::Drop { reason, vpn }, _) => context.drop(reason, vpn),
            (Verdict::Encrypt { sa }, Some(packet)) => {
                self.outbound.protect(context, interface, frame, &packet, sa, output);
            }
            (Verdict::Encrypt { .. }, None) => unreachable!("only IP packets match policies"),
        }
    }

    /// Clear packets that arrive, on their way inward.
    fn ingress(&mut self, context: Context<'_>, frame: &FrameIn<'_>, output: &mut FrameBuffer) {
        let Some((_, verdict, packet)) = self.judge(context, frame, Rules::Ingress) else { return };
        match verdict {
            Verdict::Clear { reason, vpn } => {
                context.counters(vpn).passed.add(reason, 1);
                output.push_copy(frame.interface, Destination::Inject, frame.vnet, frame.bytes);
            }
            Verdict::Drop { vpn, .. }
                if packet.is_some_and(|packet| packet.protocol() == ip::PROTOCOL_ESP) =>
            {
                context.drop(DropReason::UnknownSpiProtected, vpn);
            }
            Verdict::Drop { reason, vpn } => context.drop(reason, vpn),
            Verdict::Encrypt { .. } => unreachable!("the rules of arriving packets never encrypt"),
        }
    }

    /// Parses a frame and asks the rules. `None`: dropped and counted. The packet is `None` where it is not IP.
    fn judge<'t, 'f>(
        &mut self,
        context: Context<'t>,
        frame: &FrameIn<'f>,
        rules: Rules,
    ) -> Option<(&'t Interface, Verdict, Option<Packet<'f>>)> {
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
                let pass = Verdict::Clear { reason: PassReason::LinkControl, vpn: None };
                return Some((interface, pass, None));
            }
            context.drop(DropReason::NotIp, None);
            return None;
        };
        let Some(packet) = Packet::parse(version, rest) else {
            context.drop(DropReason::Malformed, None);
            return None;
        };
        let verdict = self.verdict(context, interface, frame.interface, &packet, rules);
        Some((interface, verdict, Some(packet)))
    }

    /// The verdict on a packet: its flow's, or for ICMP errors that of the packet they quote.
    fn verdict(
        &mut self,
        context: Context<'_>,
        interface: &Interface,
        id: InterfaceId,
        packet: &Packet<'_>,
        rules: Rules,
    ) -> Verdict {
        let flow = if packet.is_fragment() {
            self.tracker.resolve(context.now, rules.side(context.tables), packet)
        } else {
            packet.flow()
        };
        let own = self.lookup(context, interface, id, flow, rules);
        match packet.quoted() {
            None => own,
            Some(quoted) => {
                let mirror = self.lookup(context, interface, id, quoted.flow().mirrored(), rules);
                match (rules, own) {
                    // A member of the group protected it, whichever of the two its policy is about.
                    (Rules::Decrypted { .. }, Verdict::Clear { .. }) => own,
                    _ => Verdict::of_icmp_error(mirror, own),
                }
            }
        }
    }

    /// The verdict on a flow, from the cache or the rules.
    fn lookup(
        &mut self,
        context: Context<'_>,
        interface: &Interface,
        id: InterfaceId,
        flow: Flow,
        rules: Rules,
    ) -> Verdict {
        let key = CacheKey { flow, context: rules.cache_context(id) };
        if let Some(verdict) = self.cache.find(&key) {
            return verdict;
        }
        let Context { now, tables } = context;
        let verdict = match rules {
            Rules::Egress { own, injected } => tables.classify_egress(now, interface, &flow, own, injected),
            Rules::Ingress => tables.classify_ingress(now, interface, &flow),
            Rules::UnknownEsp => tables.classify_unknown_esp(now, interface, &flow),
            Rules::Decrypted { sa } => tables.classify_decrypted(sa, &flow),
        };
        self.cache.insert(key, verdict);
        verdict
    }
}
