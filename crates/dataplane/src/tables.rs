//! What the engine knows, as one immutable object: interfaces, VPNs, policies in order, exclude and fail-open rules, SAs.
//!
//! The control side makes it with a [`TablesBuilder`] and publishes it; runtime SAs and counters are shared with the
//! tables before, so that nothing is forgotten when they are exchanged.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::classifier::{Classifier, Prefix, address_bits};
use crate::service_filter::CompiledFilter;
use crate::{
    AddressPair, Counters, GroupSa, Instant, InterfaceId, Selector, ServiceFilter, ServiceFilterTerm,
};

/// MTU of an interface whose own is not known.
const DEFAULT_MTU: u16 = 1500;

/// What happens to forwarded packets that match no policy of a zone-bound VPN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultPolicy {
    /// They leave in clear.
    PermitAll,
    /// They are dropped.
    #[default]
    DenyAll,
}

/// How a VPN is attached to its external interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// By scope policies between zones: the default policy decides about packets that match no policy.
    Zone,
    /// By service sets: such packets are dropped, unless `forward_mismatch` is set.
    ServiceSet {
        /// `forward-policy-mismatch`: unmatched packets are forwarded in clear.
        forward_mismatch: bool,
    },
}

/// Whether a member has ever had policies for its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Never: fail-open rules hold. Policies given to the builder are the last known ones, if any.
    NotYet,
    /// At least once. It stays so when the keys expire; without a live key packets are then dropped.
    Registered,
}

/// The don't-fragment bit of the outer header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DfBit {
    /// Never set.
    #[default]
    Clear,
    /// Always set.
    Set,
    /// As in the inner header.
    Copy,
}

/// One dynamic policy: a selector and the SAs that protect its packets.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The packets it is about, and their mirror image.
    pub selector: Selector,
    /// Its SAs, in any order: the newest active one encrypts, every live one decrypts. Empty or all expired: drop.
    pub sas: Vec<Arc<GroupSa>>,
    /// From when on matching clear packets from outside are dropped; [`Instant::ZERO`] for a policy without predecessor.
    pub drop_clear_from: Instant,
}

/// One VPN, as configured and as learnt from its key server.
#[derive(Clone, Debug)]
pub struct Vpn {
    /// Name in the configuration.
    pub name: String,
    /// External interfaces, all of them: for `lo0.0` every interface of the to-zone.
    pub interfaces: Vec<InterfaceId>,
    /// How it is attached to them.
    pub binding: Binding,
    /// Has it ever registered?
    pub registration: Registration,
    /// DF of the outer header.
    pub df_bit: DfBit,
    /// `tunnel-mtu`: largest ESP packet in octets, where smaller than the interface's MTU.
    pub tunnel_mtu: Option<u16>,
    /// Dynamic policies in the server's order; the first match wins.
    pub policies: Vec<Policy>,
    /// Always clear, in both directions.
    pub exclude: Vec<AddressPair>,
    /// What passes by the VPN where a service set applies it.
    pub filters: Vec<ServiceFilter>,
    /// Clear while not registered, in both directions.
    pub fail_open: Vec<AddressPair>,
    /// Shared with earlier tables.
    pub counters: Arc<Counters>,
}

/// One external interface.
#[derive(Debug)]
pub(crate) struct Interface {
    pub(crate) id: InterfaceId,
    pub(crate) mtu: u16,
    /// Positions of its VPNs, in the order they are asked.
    pub(crate) vpns: Vec<u32>,
}

/// An SA and the VPN it belongs to.
#[derive(Debug)]
pub(crate) struct BoundSa {
    pub(crate) sa: Arc<GroupSa>,
    pub(crate) vpn: u32,
}

/// Selectors without what some packets do not show.
#[derive(Debug)]
pub(crate) struct Reduced {
    pub(crate) classifier: Classifier,
    /// Per policy: the selector has lost something.
    pub(crate) deciding: Vec<bool>,
}

impl Reduced {
    /// `None` where nothing is lost.
    fn new(selectors: &[Selector], reduce: impl Fn(&Selector) -> Selector) -> Option<Self> {
        let reduced: Vec<Selector> = selectors.iter().map(reduce).collect();
        let deciding: Vec<bool> = selectors.iter().zip(&reduced).map(|(one, other)| one != other).collect();
        deciding.contains(&true).then(|| Self { classifier: Classifier::new(&reduced), deciding })
    }
}

/// What look-ups need of a VPN.
#[derive(Debug)]
pub(crate) struct VpnIndex {
    /// Whole selectors.
    pub(crate) by_selector: Classifier,
    /// For packets that do not show their ports, where any selector has ports.
    pub(crate) without_ports: Option<Reduced>,
    /// For packets that do not even show their protocol, where any selector has ports or a protocol.
    pub(crate) addresses_only: Option<Reduced>,
    /// Per policy: positions of its SAs, the one activated last first.
    pub(crate) policy_sas: Vec<Vec<u32>>,
    /// Per policy: it has SAs, and none of them may send.
    pub(crate) receives_only: Vec<bool>,
    pub(crate) exclude: Vec<(Prefix, Prefix)>,
    pub(crate) filters: Vec<CompiledFilter>,
    pub(crate) fail_open: Vec<(Prefix, Prefix)>,
}

impl VpnIndex {
    fn new(position: u32, vpn: &Vpn, sas: &mut Vec<BoundSa>) -> Self {
        let selectors: Vec<Selector> = vpn.policies.iter().map(|policy| policy.selector).collect();
        let without_ports =
            Reduced::new(&selectors, |one| Selector { source_port: 0, destination_port: 0, ..*one });
        let addresses_only = Reduced::new(&selectors, |one| Selector::between(one.source, one.destination));
        let mut positions: HashMap<u64, u32> = HashMap::new();
        let mut bind = |sa: &Arc<GroupSa>| {
            *positions.entry(sa.id()).or_insert_with(|| {
                sas.push(BoundSa { sa: Arc::clone(sa), vpn: position });
                sas.len() as u32 - 1
            })
        };
        let policy_sas = vpn
            .policies
            .iter()
            .map(|policy| {
                let mut own: Vec<&Arc<GroupSa>> = policy.sas.iter().collect();
                own.sort_by_key(|sa| std::cmp::Reverse((sa.activate_at(), sa.id())));
                own.into_iter().map(&mut bind).collect()
            })
            .collect();
        let receives_only = vpn
            .policies
            .iter()
            .map(|policy| !policy.sas.is_empty() && !policy.sas.iter().any(|sa| sa.sends()))
            .collect();
        let both = |pairs: &[AddressPair]| {
            let directions = pairs.iter().flat_map(|pair| [*pair, pair.mirrored()]);
            directions.map(|pair| (pair.source.into(), pair.destination.into())).collect()
        };
        Self {
            by_selector: Classifier::new(&selectors),
            without_ports,
            addresses_only,
            policy_sas,
            receives_only,
            exclude: both(&vpn.exclude),
            filters: vpn.filters.iter().map(CompiledFilter::new).collect(),
            fail_open: both(&vpn.fail_open),
        }
    }
}

fn boundaries(vpns: &[Vpn]) -> Vec<Instant> {
    let policies = || vpns.iter().flat_map(|vpn| &vpn.policies);
    let sas = policies().flat_map(|policy| &policy.sas);
    let mut all: Vec<Instant> = sas.flat_map(|sa| [sa.activate_at(), sa.hard_expiry()]).collect();
    all.extend(policies().map(|policy| policy.drop_clear_from));
    all.sort_unstable();
    all.dedup();
    all
}

/// Collects what [`Tables`] are made of.
#[derive(Clone, Debug, Default)]
pub struct TablesBuilder {
    interfaces: BTreeMap<InterfaceId, u16>,
    vpns: Vec<Vpn>,
    default_policy: DefaultPolicy,
    local_addresses: Vec<IpAddr>,
    counters: Arc<Counters>,
}

impl TablesBuilder {
    /// Nothing: every frame is dropped as of an unknown interface.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an interface with its MTU in octets of IP packet (capped at 65535). One that only VPNs name has 1500.
    pub fn interface(&mut self, id: InterfaceId, mtu: u32) -> &mut Self {
        self.interfaces.insert(id, mtu.min(65535) as u16);
        self
    }

    /// Adds a VPN. Where several VPNs share an interface, the one added first is asked first.
    pub fn vpn(&mut self, vpn: Vpn) -> &mut Self {
        self.vpns.push(vpn);
        self
    }

    /// Sets the default policy of the zones; deny-all if not called.
    pub fn default_policy(&mut self, policy: DefaultPolicy) -> &mut Self {
        self.default_policy = policy;
        self
    }

    /// Sets the addresses of this machine: ESP of others for them is left alone.
    pub fn local_addresses(&mut self, addresses: impl IntoIterator<Item = IpAddr>) -> &mut Self {
        self.local_addresses = addresses.into_iter().collect();
        self
    }

    /// Sets the counters of packets that belong to no VPN, shared with earlier tables.
    pub fn counters(&mut self, counters: Arc<Counters>) -> &mut Self {
        self.counters = counters;
        self
    }

    /// Makes the tables: sorts, indexes, and gives them a generation of their own.
    pub fn build(mut self) -> Tables {
        static GENERATION: AtomicU64 = AtomicU64::new(1);
        for id in self.vpns.iter().flat_map(|vpn| &vpn.interfaces) {
            self.interfaces.entry(*id).or_insert(DEFAULT_MTU);
        }
        let bound_to = |id: InterfaceId| {
            let positions = self.vpns.iter().enumerate().filter(move |(_, vpn)| vpn.interfaces.contains(&id));
            positions.map(|(position, _)| position as u32).collect()
        };
        let interfaces =
            self.interfaces.iter().map(|(&id, &mtu)| Interface { id, mtu, vpns: bound_to(id) }).collect();
        let mut sas = Vec::new();
        let indexes =
            self.vpns.iter().enumerate().map(|(at, vpn)| VpnIndex::new(at as u32, vpn, &mut sas)).collect();
        let mut by_spi: Vec<(u32, u32)> =
            sas.iter().enumerate().map(|(at, bound)| (bound.sa.spi(), at as u32)).collect();
        by_spi.sort_unstable();
        Tables {
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
            interfaces,
            boundaries: boundaries(&self.vpns),
            vpns: self.vpns,
            indexes,
            sas,
            by_spi,
            default_policy: self.default_policy,
            local_addresses: self.local_addresses.into_iter().map(address_bits).collect(),
            counters: self.counters,
        }
    }
}

/// What the tc programs of one interface send to the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    /// Every forwarded IP packet, whatever its addresses.
    pub all_forwarded: bool,
    /// Packets between these addresses, forwarded or own; mirror images are listed too. No duplicates.
    pub pairs: Vec<AddressPair>,
    /// Packets that pass in clear without the engine; mirror images are listed too.
    pub exclude: Vec<AddressPair>,
    /// The service filter by which every VPN of the interface lets packets of this direction pass: the first term that
    /// matches decides, in this direction only. Empty: there is none, or they have different ones, and the engine judges.
    pub filter: Vec<ServiceFilterTerm>,
}

/// The engine's immutable view of the configuration and the SAs.
#[derive(Debug)]
pub struct Tables {
    pub(crate) generation: u64,
    /// In the order of their identifiers.
    interfaces: Vec<Interface>,
    vpns: Vec<Vpn>,
    /// As many as VPNs, in the same order.
    pub(crate) indexes: Vec<VpnIndex>,
    /// Every SA of every VPN.
    pub(crate) sas: Vec<BoundSa>,
    /// SPI and position in `sas`, sorted.
    by_spi: Vec<(u32, u32)>,
    /// The moments at which a verdict may change, sorted.
    boundaries: Vec<Instant>,
    pub(crate) default_policy: DefaultPolicy,
    local_addresses: Vec<u128>,
    counters: Arc<Counters>,
}

impl Tables {
    /// What has to reach the engine out of the packets that leave by `interface`. ICMP errors have to, always.
    pub fn egress_candidates(&self, interface: InterfaceId) -> Candidates {
        let mut all = self.pairs(interface, true);
        all.all_forwarded = self.bound(interface).any(|vpn| match vpn.binding {
            _ if vpn.registration == Registration::NotYet => true,
            Binding::Zone => self.default_policy == DefaultPolicy::DenyAll,
            Binding::ServiceSet { forward_mismatch } => !forward_mismatch,
        });
        all
    }

    /// What has to reach the engine out of the clear packets that arrive on `interface` and are forwarded inward.
    pub fn ingress_candidates(&self, interface: InterfaceId) -> Candidates {
        let mut all = self.pairs(interface, false);
        all.all_forwarded = self
            .bound(interface)
            .any(|vpn| vpn.registration == Registration::NotYet && vpn.policies.is_empty());
        all
    }

    /// The SPIs whose ESP packets have to reach the engine, without duplicates.
    pub fn known_spis(&self) -> Vec<u32> {
        let mut spis: Vec<u32> = self
            .vpns
            .iter()
            .flat_map(|vpn| vpn.policies.iter().flat_map(|policy| policy.sas.iter().map(|sa| sa.spi())))
            .collect();
        spis.sort_unstable();
        spis.dedup();
        spis
    }

    /// The interfaces that have at least one VPN.
    pub fn external_interfaces(&self) -> Vec<InterfaceId> {
        let mut ids: Vec<InterfaceId> =
            self.vpns.iter().flat_map(|vpn| vpn.interfaces.iter().copied()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The VPNs, in the order they are asked.
    pub fn vpns(&self) -> &[Vpn] {
        &self.vpns
    }

    /// Counters of packets that belong to no VPN.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The interface with its MTU and VPNs, if it has any VPN.
    ///
    /// One without is no external interface (any more): what still arrives for it is dropped, not let through.
    pub(crate) fn interface(&self, id: InterfaceId) -> Option<&Interface> {
        let position = self.interfaces.binary_search_by_key(&id, |interface| interface.id).ok()?;
        Some(&self.interfaces[position]).filter(|interface| !interface.vpns.is_empty())
    }

    /// Positions of the SAs with this SPI; usually one, one per group if two servers drew the same number.
    pub(crate) fn sas_of(&self, spi: u32) -> impl Iterator<Item = u32> {
        let start = self.by_spi.partition_point(|(other, _)| *other < spi);
        self.by_spi[start..].iter().take_while(move |(other, _)| *other == spi).map(|(_, at)| *at)
    }

    /// The next moment after `now` at which a verdict may change.
    pub(crate) fn next_boundary(&self, now: Instant) -> Instant {
        let position = self.boundaries.partition_point(|boundary| *boundary <= now);
        self.boundaries.get(position).copied().unwrap_or(Instant::FAR_FUTURE)
    }

    /// The address is one of this machine's.
    pub(crate) fn is_local(&self, address: u128) -> bool {
        self.local_addresses.contains(&address)
    }

    /// An address of this machine for ICMPv6 errors to `destination`: the one that has most in common with it.
    pub(crate) fn ipv6_source(&self, destination: u128) -> Option<u128> {
        let is_usable = |address: &u128| {
            let (top, link_local) = (address >> 120, address >> 118 == 0x3fa);
            address >> 32 != 0xffff && *address > 1 && top != 0xff && !link_local
        };
        let common = |address: &u128| (address ^ destination).leading_zeros();
        self.local_addresses.iter().copied().filter(is_usable).max_by_key(common)
    }

    fn bound(&self, interface: InterfaceId) -> impl Iterator<Item = &Vpn> {
        self.vpns.iter().filter(move |vpn| vpn.interfaces.contains(&interface))
    }

    /// The terms of the one filter that every VPN of an interface has for a direction.
    fn common_filter(&self, interface: InterfaceId, leaving: bool) -> Vec<ServiceFilterTerm> {
        let applies = |filter: &&ServiceFilter| (filter.interface, filter.leaving) == (interface, leaving);
        let mut common: Option<&[ServiceFilterTerm]> = None;
        for vpn in self.bound(interface) {
            let mut own = vpn.filters.iter().filter(applies);
            // Of several each may exempt, which the first match of one list cannot say.
            let (Some(filter), None) = (own.next(), own.next()) else { return Vec::new() };
            if *common.get_or_insert(&filter.terms) != filter.terms {
                return Vec::new();
            }
        }
        common.unwrap_or_default().to_vec()
    }

    /// Both directions of every policy and, where only one VPN is concerned, of every exclude rule.
    fn pairs(&self, interface: InterfaceId, leaving: bool) -> Candidates {
        let both = |pair: AddressPair| [pair, pair.mirrored()];
        let sorted = |mut pairs: Vec<AddressPair>| {
            pairs.sort_unstable();
            pairs.dedup();
            pairs
        };
        let pairs = self
            .bound(interface)
            .flat_map(|vpn| vpn.policies.iter().flat_map(|policy| both(AddressPair::of(&policy.selector))))
            .collect();
        // An exclude rule exempts from its own VPN only, which address maps cannot say where there are several.
        let exclude = match self.bound(interface).count() {
            1 => self.bound(interface).flat_map(|vpn| vpn.exclude.iter().copied().flat_map(both)).collect(),
            _ => Vec::new(),
        };
        let filter = self.common_filter(interface, leaving);
        Candidates { all_forwarded: false, pairs: sorted(pairs), exclude: sorted(exclude), filter }
    }
}
