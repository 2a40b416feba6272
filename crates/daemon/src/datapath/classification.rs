//! Candidate and exclude prefixes, and service filters, in the form of the tc programs' maps (`bpf/layout.h`).

use std::collections::BTreeMap;

use dataplane::{AddressPair, Candidates, ServiceFilterTerm};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Bits of a mask: policies beyond share bits, exclude rules beyond are left to the engine.
const MASK_BITS: usize = 64;

const ON_LINK: u64 = 0x1;

/// Terms of the service filters of one direction; filters with more are left to the engine.
const MOST_TERMS: usize = 32;

/// Value of a prefix: masks as source, as destination, as excluded source, as excluded destination, flags, and masks as
/// source and as destination of filter terms.
pub(super) type PrefixValue = [u64; 7];

const SOURCE: usize = 0;
const DESTINATION: usize = 1;
const EXCLUDE_SOURCE: usize = 2;
const EXCLUDE_DESTINATION: usize = 3;
const FLAGS: usize = 4;
const FILTER_SOURCE: usize = 5;
const FILTER_DESTINATION: usize = 6;

/// The prefixes and filters of one interface; equal classifications need no update.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Classification {
    prefixes: BTreeMap<IpNet, PrefixValue>,
    /// Filter terms that name a protocol.
    protocols: BTreeMap<u8, u64>,
    /// Filter terms for every protocol.
    pub(super) filter_any: u64,
    /// Filter terms whose packets pass.
    pub(super) filter_skip: u64,
}

impl Classification {
    /// Makes the prefixes out of what the engine asks for of packets that leave, and the interface's on-link prefixes; the
    /// filters are those of both directions.
    pub(super) fn new(
        candidates: &Candidates,
        arriving: &[ServiceFilterTerm],
        on_link: impl IntoIterator<Item = IpNet>,
    ) -> Self {
        let mut own: BTreeMap<IpNet, PrefixValue> = BTreeMap::new();
        for (number, pair) in without_mirrors(&candidates.pairs).enumerate() {
            let bit = 1 << (number % MASK_BITS);
            own.entry(pair.source.trunc()).or_default()[SOURCE] |= bit;
            own.entry(pair.destination.trunc()).or_default()[DESTINATION] |= bit;
        }
        for (number, pair) in without_mirrors(&candidates.exclude).take(MASK_BITS).enumerate() {
            let bit = 1 << number;
            own.entry(pair.source.trunc()).or_default()[EXCLUDE_SOURCE] |= bit;
            own.entry(pair.destination.trunc()).or_default()[EXCLUDE_DESTINATION] |= bit;
        }
        for prefix in on_link {
            own.entry(prefix.trunc()).or_default()[FLAGS] |= ON_LINK;
        }
        let mut this = Self::default();
        for (terms, first) in [(&candidates.filter[..], 0), (arriving, MOST_TERMS)] {
            if terms.len() <= MOST_TERMS {
                (first..).zip(terms).for_each(|(number, term)| this.add_term(&mut own, 1 << number, term));
            }
        }
        Self { prefixes: inherit(own), ..this }
    }

    fn add_term(&mut self, own: &mut BTreeMap<IpNet, PrefixValue>, bit: u64, term: &ServiceFilterTerm) {
        let both_families = [Ipv4Net::default().into(), Ipv6Net::default().into()];
        for (prefixes, mask) in [(&term.sources, FILTER_SOURCE), (&term.destinations, FILTER_DESTINATION)] {
            let prefixes = if prefixes.is_empty() { &both_families[..] } else { prefixes };
            for prefix in prefixes {
                own.entry(prefix.trunc()).or_default()[mask] |= bit;
            }
        }
        if term.protocols.is_empty() {
            self.filter_any |= bit;
        }
        for protocol in &term.protocols {
            *self.protocols.entry(*protocol).or_default() |= bit;
        }
        if term.skip {
            self.filter_skip |= bit;
        }
    }

    /// Protocols with the filter terms that name them.
    pub(super) fn protocols(&self) -> impl Iterator<Item = (u8, u64)> {
        self.protocols.iter().map(|(protocol, terms)| (*protocol, *terms))
    }

    /// Everything is a candidate: what remains when the prefixes cannot be stored. The engine still judges exactly.
    pub(super) fn everything(on_link: impl IntoIterator<Item = IpNet>) -> Self {
        let any = |text: &str| text.parse::<IpNet>().expect("a constant prefix");
        let pairs =
            ["0.0.0.0/0", "::/0"].map(|text| AddressPair { source: any(text), destination: any(text) });
        let candidates = Candidates { pairs: pairs.to_vec(), ..Candidates::default() };
        Self::new(&candidates, &[], on_link)
    }

    /// Prefixes with their values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (IpNet, &PrefixValue)> {
        self.prefixes.iter().map(|(prefix, value)| (*prefix, value))
    }
}

/// The programs match mirror images by themselves, so that one bit serves both directions.
fn without_mirrors(pairs: &[AddressPair]) -> impl Iterator<Item = AddressPair> {
    let canonical: std::collections::BTreeSet<AddressPair> =
        pairs.iter().map(|pair| (*pair).min(pair.mirrored())).collect();
    canonical.into_iter()
}

/// The tries find only the longest prefix, so each prefix takes over the bits of those that contain it.
fn inherit(own: BTreeMap<IpNet, PrefixValue>) -> BTreeMap<IpNet, PrefixValue> {
    let mut containing: Vec<(IpNet, PrefixValue)> = Vec::new();
    own.into_iter()
        .map(|(prefix, mut value)| {
            // By address, then length: a containing prefix comes before what it contains.
            while containing.last().is_some_and(|(outer, _)| !outer.contains(&prefix)) {
                containing.pop();
            }
            if let Some((_, outer)) = containing.last() {
                value.iter_mut().zip(outer).for_each(|(bits, inherited)| *bits |= inherited);
            }
            containing.push((prefix, value));
            (prefix, value)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn pair(source: &str, destination: &str) -> AddressPair {
        AddressPair { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    /// What the programs do, in Rust.
    fn lookup(classification: &Classification, address: IpAddr) -> Option<PrefixValue> {
        let longest = classification.iter().filter(|(prefix, _)| prefix.contains(&address));
        longest.max_by_key(|(prefix, _)| prefix.prefix_len()).map(|(_, value)| *value)
    }

    fn matches(classification: &Classification, source: IpAddr, destination: IpAddr) -> (bool, bool) {
        let (Some(s), Some(d)) = (lookup(classification, source), lookup(classification, destination)) else {
            return (false, false);
        };
        let candidate = s[SOURCE] & d[DESTINATION] | s[DESTINATION] & d[SOURCE];
        let excluded =
            s[EXCLUDE_SOURCE] & d[EXCLUDE_DESTINATION] | s[EXCLUDE_DESTINATION] & d[EXCLUDE_SOURCE];
        (candidate != 0, excluded != 0)
    }

    #[test]
    fn a_policy_needs_both_addresses_and_matches_mirrored() {
        let pairs = vec![pair("10.1.0.0/16", "10.2.0.0/16"), pair("10.3.0.0/16", "10.4.0.0/16")];
        let classification = Classification::new(&Candidates { pairs, ..Default::default() }, &[], []);
        let is_candidate =
            |s: &str, d: &str| matches(&classification, s.parse().unwrap(), d.parse().unwrap()).0;
        assert!(is_candidate("10.1.0.1", "10.2.0.1"));
        assert!(is_candidate("10.2.0.1", "10.1.0.1"));
        assert!(!is_candidate("10.1.0.1", "10.4.0.1"), "two policies do not make a third");
        assert!(!is_candidate("10.1.0.1", "10.1.0.2"));
        assert!(!is_candidate("10.1.0.1", "8.8.8.8"));
    }

    #[test]
    fn longer_prefixes_keep_the_bits_of_those_around_them() {
        let pairs = vec![
            pair("10.0.0.0/8", "10.0.0.0/8"),
            pair("10.1.1.0/24", "192.168.0.0/16"),
            pair("0.0.0.0/0", "224.1.0.0/16"),
        ];
        let on_link = ["10.1.1.128/25".parse().unwrap()];
        let classification = Classification::new(&Candidates { pairs, ..Default::default() }, &[], on_link);
        let is_candidate =
            |s: &str, d: &str| matches(&classification, s.parse().unwrap(), d.parse().unwrap()).0;
        assert!(is_candidate("10.1.1.200", "10.2.0.1"));
        assert!(is_candidate("10.1.1.200", "192.168.1.1"));
        assert!(is_candidate("10.1.1.200", "224.1.2.3"));
        assert!(!is_candidate("10.1.2.200", "192.168.1.1"));
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(lookup(&classification, address("10.1.1.200")).unwrap()[FLAGS], ON_LINK);
        assert_eq!(lookup(&classification, address("10.1.1.1")).unwrap()[FLAGS], 0);
    }

    #[test]
    fn everything_is_a_candidate_when_prefixes_do_not_fit() {
        let classification = Classification::everything([]);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(matches(&classification, address("1.2.3.4"), address("5.6.7.8")).0);
        assert!(matches(&classification, address("fe80::1"), address("2001:db8::1")).0);
    }

    fn skips(classification: &Classification, leaving: bool, s: IpAddr, d: IpAddr, protocol: u8) -> bool {
        let (Some(s), Some(d)) = (lookup(classification, s), lookup(classification, d)) else { return false };
        let direction: u64 = if leaving { 0xffff_ffff } else { 0xffff_ffff << 32 };
        let named = classification.protocols().find(|(known, _)| *known == protocol);
        let matching = s[FILTER_SOURCE]
            & d[FILTER_DESTINATION]
            & direction
            & (classification.filter_any | named.map_or(0, |(_, terms)| terms));
        matching & matching.wrapping_neg() & classification.filter_skip != 0
    }

    fn term(sources: &[&str], destinations: &[&str], protocols: &[u8], skip: bool) -> ServiceFilterTerm {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        ServiceFilterTerm {
            sources: nets(sources),
            destinations: nets(destinations),
            protocols: protocols.to_vec(),
            skip,
        }
    }

    #[test]
    fn the_first_term_of_its_direction_decides_what_a_filter_skips() {
        let leaving = vec![
            term(&["10.1.1.0/24"], &[], &[6], false),
            term(&["10.1.0.0/16", "2001:db8::/32"], &["10.2.0.0/16", "2001:db8::/32"], &[6, 17], true),
            term(&[], &["10.3.0.0/16"], &[], true),
        ];
        let arriving = [term(&[], &[], &[89], true)];
        let candidates = Candidates { filter: leaving, ..Default::default() };
        let classification = Classification::new(&candidates, &arriving, []);
        let skips = |leaving, s: &str, d: &str, protocol| {
            skips(&classification, leaving, s.parse().unwrap(), d.parse().unwrap(), protocol)
        };
        assert!(skips(true, "10.1.2.1", "10.2.0.1", 6));
        assert!(!skips(true, "10.1.1.1", "10.2.0.1", 6), "the first term keeps it");
        assert!(skips(true, "10.1.1.1", "10.2.0.1", 17));
        assert!(!skips(true, "10.2.0.1", "10.1.2.1", 6), "a term has no mirror image");
        assert!(!skips(true, "10.1.2.1", "10.2.0.1", 1));
        assert!(skips(true, "9.9.9.9", "10.3.0.1", 1));
        assert!(skips(true, "2001:db8::1", "2001:db8::2", 17));
        assert!(!skips(false, "9.9.9.9", "10.3.0.1", 1) && skips(false, "9.9.9.9", "10.3.0.1", 89));
    }

    #[test]
    fn a_filter_that_is_too_long_is_left_to_the_engine() {
        let candidates = Candidates { filter: vec![term(&[], &[], &[], true); 33], ..Default::default() };
        assert_eq!(Classification::new(&candidates, &[], []), Classification::default());
    }

    fn prefix() -> impl Strategy<Value = IpNet> {
        // Few distinct addresses, so that prefixes nest.
        (0u8..4, 0u8..4, prop_oneof![Just(0u8), Just(8), Just(14), Just(16), Just(31), Just(32)])
            .prop_map(|(a, b, length)| IpNet::new(IpAddr::from([10, a, 0, b]), length).unwrap().trunc())
    }

    fn pairs(limit: usize) -> impl Strategy<Value = Vec<AddressPair>> {
        let pair = (prefix(), prefix()).prop_map(|(source, destination)| AddressPair { source, destination });
        proptest::collection::vec(pair, 0..limit)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn candidates_are_a_superset_and_excludes_exact(
            policies in pairs(90), exclude in pairs(70), a in (0u8..4, 0u8..4), b in (0u8..4, 0u8..4),
        ) {
            let candidates = Candidates { pairs: policies.clone(), exclude: exclude.clone(), ..Default::default() };
            let classification = Classification::new(&candidates, &[], []);
            let (s, d) = (IpAddr::from([10, a.0, 0, a.1]), IpAddr::from([10, b.0, 0, b.1]));
            let holds = |pairs: &[AddressPair]| pairs.iter().any(|p| p.contains(s, d) || p.contains(d, s));
            let (candidate, excluded) = matches(&classification, s, d);
            prop_assert!(candidate || !holds(&policies));
            prop_assert!(!excluded || holds(&exclude));
            if policies.len() <= MASK_BITS {
                prop_assert_eq!(candidate, holds(&policies));
            }
            if exclude.len() <= MASK_BITS {
                prop_assert_eq!(excluded, holds(&exclude));
            }
        }
    }
}
