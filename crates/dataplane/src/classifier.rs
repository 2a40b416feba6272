//! First match among many selectors, without walking them: tuple space search.
//!
//! Selectors with the same prefix lengths and the same fields set form a tuple; within it, a match is one look-up in a
//! hash map. Key servers hand out few shapes, so the cost follows the number of shapes, not of policies. Tuples are
//! tried in the order of their best selector and the search ends as soon as no later tuple can win.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::Selector;
use crate::ip::Version;

/// What of a packet decides about its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Flow {
    /// Version of the packet.
    pub version: Version,
    /// Source address; IPv4 as an IPv4-mapped IPv6 address.
    pub source: u128,
    /// Destination address, as the source.
    pub destination: u128,
    /// IP protocol.
    pub protocol: u8,
    /// Ports, as far as the packet shows them.
    pub ports: Ports,
}

/// The ports of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ports {
    /// Source and destination port.
    Known(u16, u16),
    /// The protocol has none.
    None,
    /// The protocol has ports, the packet does not show them: a later or a tiny fragment.
    Unknown,
    /// Not even the protocol is known: a chain of extension headers that is cut.
    Hidden,
}

impl Flow {
    /// The flow of the packets that answer those of this one.
    pub(crate) fn mirrored(self) -> Self {
        let ports = match self.ports {
            Ports::Known(source, destination) => Ports::Known(destination, source),
            other => other,
        };
        Self { source: self.destination, destination: self.source, ports, ..self }
    }
}

/// An address as [`Flow`] holds it.
pub(crate) fn address_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// A prefix: version, bits as [`Flow`] holds them, and length among those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    version: Version,
    bits: u128,
    length: u8,
}

impl From<IpNet> for Prefix {
    fn from(net: IpNet) -> Self {
        let (version, length) = match net {
            IpNet::V4(net) => (Version::V4, 96 + net.prefix_len()),
            IpNet::V6(net) => (Version::V6, net.prefix_len()),
        };
        Self { version, bits: address_bits(net.network()) & mask(length), length }
    }
}

impl Prefix {
    /// The address is one of the prefix. No prefix of one version has addresses of the other.
    pub(crate) fn contains(self, version: Version, address: u128) -> bool {
        self.version == version && address & mask(self.length) == self.bits
    }
}

fn mask(length: u8) -> u128 {
    if length == 0 { 0 } else { u128::MAX << (128 - u32::from(length)) }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    version: Version,
    source_length: u8,
    destination_length: u8,
    source_port: bool,
    destination_port: bool,
    protocol: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    source: u128,
    destination: u128,
    source_port: u16,
    destination_port: u16,
    protocol: u8,
}

/// One selector in the list of those with the same key, in order.
#[derive(Clone, Copy, Debug)]
struct Node {
    index: u32,
    next: u32,
}

const END: u32 = u32::MAX;

#[derive(Debug)]
struct Tuple {
    shape: Shape,
    best: u32,
    heads: HashMap<Key, u32>,
}

/// An immutable set of selectors and their mirror images, asked for the first match.
#[derive(Debug, Default)]
pub(crate) struct Classifier {
    tuples: Vec<Tuple>,
    nodes: Vec<Node>,
}

impl Classifier {
    /// A classifier of `selectors`; a match answers with the position of the selector in the slice.
    pub(crate) fn new(selectors: &[Selector]) -> Self {
        let mut shapes: HashMap<Shape, usize> = HashMap::new();
        let mut classifier = Self::default();
        // From last to first, so that each list of equal keys begins with the first selector.
        for (index, selector) in selectors.iter().enumerate().rev() {
            for selector in [*selector, selector.mirror()] {
                classifier.insert(&mut shapes, index as u32, &selector);
            }
        }
        classifier.tuples.sort_by_key(|tuple| tuple.best);
        classifier
    }

    fn insert(&mut self, shapes: &mut HashMap<Shape, usize>, index: u32, selector: &Selector) {
        let (source, destination) = (Prefix::from(selector.source), Prefix::from(selector.destination));
        let shape = Shape {
            version: source.version,
            source_length: source.length,
            destination_length: destination.length,
            source_port: selector.source_port != 0,
            destination_port: selector.destination_port != 0,
            protocol: selector.protocol != 0,
        };
        let key = Key {
            source: source.bits,
            destination: destination.bits,
            source_port: selector.source_port,
            destination_port: selector.destination_port,
            protocol: selector.protocol,
        };
        let position = *shapes.entry(shape).or_insert_with(|| {
            self.tuples.push(Tuple { shape, best: index, heads: HashMap::new() });
            self.tuples.len() - 1
        });
        let tuple = &mut self.tuples[position];
        tuple.best = index;
        let next = tuple.heads.get(&key).copied().unwrap_or(END);
        if next == END || self.nodes[next as usize].index != index {
            tuple.heads.insert(key, self.nodes.len() as u32);
            self.nodes.push(Node { index, next });
        }
    }

    /// The first selector that matches `flow` (or whose mirror image does) and is `eligible`.
    ///
    /// A flow whose ports are not [`Ports::Known`] matches only selectors without ports.
    pub(crate) fn first_match(&self, flow: &Flow, eligible: impl Fn(u32) -> bool) -> Option<u32> {
        let ports = match flow.ports {
            Ports::Known(source, destination) => Some((source, destination)),
            Ports::None | Ports::Unknown | Ports::Hidden => None,
        };
        let mut found: Option<u32> = None;
        for tuple in &self.tuples {
            if found.is_some_and(|found| found <= tuple.best) {
                break;
            }
            let shape = &tuple.shape;
            if shape.version != flow.version
                || ports.is_none() && (shape.source_port || shape.destination_port)
            {
                continue;
            }
            let (source_port, destination_port) = ports.unwrap_or((0, 0));
            let key = Key {
                source: flow.source & mask(shape.source_length),
                destination: flow.destination & mask(shape.destination_length),
                source_port: if shape.source_port { source_port } else { 0 },
                destination_port: if shape.destination_port { destination_port } else { 0 },
                protocol: if shape.protocol { flow.protocol } else { 0 },
            };
            let mut at = tuple.heads.get(&key).copied().unwrap_or(END);
            while at != END {
                let node = self.nodes[at as usize];
                if found.is_some_and(|found| found <= node.index) {
                    break;
                }
                if eligible(node.index) {
                    found = Some(node.index);
                    break;
                }
                at = node.next;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition the classifier has to agree with.
    fn linear(selectors: &[Selector], flow: &Flow, eligible: impl Fn(u32) -> bool) -> Option<u32> {
        let matches = |selector: &Selector| {
            let port = |wanted: u16, has: Option<u16>| wanted == 0 || Some(wanted) == has;
            let (source, destination) = match flow.ports {
                Ports::Known(source, destination) => (Some(source), Some(destination)),
                Ports::None | Ports::Unknown | Ports::Hidden => (None, None),
            };
            Prefix::from(selector.source).contains(flow.version, flow.source)
                && Prefix::from(selector.destination).contains(flow.version, flow.destination)
                && port(selector.source_port, source)
                && port(selector.destination_port, destination)
                && (selector.protocol == 0 || selector.protocol == flow.protocol)
        };
        let mut all = selectors.iter().enumerate();
        all.find(|(index, selector)| {
            (matches(selector) || matches(&selector.mirror())) && eligible(*index as u32)
        })
        .map(|(index, _)| index as u32)
    }

    fn net() -> impl Strategy<Value = IpNet> {
        // Few addresses and lengths, so that prefixes nest and collide.
        (0u32..8, prop::sample::select(vec![0u8, 1, 2, 8, 29, 30, 31, 32])).prop_map(|(low, length)| {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 | low);
            IpNet::new(address.into(), length).unwrap().trunc()
        })
    }

    fn selector() -> impl Strategy<Value = Selector> {
        (net(), net(), 0u16..3, 0u16..3, 0u8..3).prop_map(
            |(source, destination, source_port, destination_port, protocol)| Selector {
                source,
                destination,
                source_port,
                destination_port,
                protocol,
            },
        )
    }

    fn flow() -> impl Strategy<Value = Flow> {
        let address =
            || (0u32..9).prop_map(|low| address_bits(std::net::Ipv4Addr::from(0x0a00_0000 | low).into()));
        let ports = prop_oneof![
            (0u16..3, 0u16..3).prop_map(|(source, destination)| Ports::Known(source, destination)),
            Just(Ports::None),
            Just(Ports::Unknown),
        ];
        (address(), address(), 0u8..3, ports).prop_map(|(source, destination, protocol, ports)| Flow {
            version: Version::V4,
            source,
            destination,
            protocol,
            ports,
        })
    }

    proptest! {
        #[test]
        fn agrees_with_a_walk_in_order(
            selectors in prop::collection::vec(selector(), 0..40),
            flows in prop::collection::vec(flow(), 1..40),
            skipped in any::<u64>(),
        ) {
            let classifier = Classifier::new(&selectors);
            let eligible = |index: u32| skipped >> index & 1 == 0;
            for flow in flows {
                prop_assert_eq!(classifier.first_match(&flow, eligible), linear(&selectors, &flow, eligible));
            }
        }
    }

    #[test]
    fn the_any_prefix_of_one_version_does_not_match_the_other() {
        let any = |net: &str| Selector::between(net.parse().unwrap(), net.parse().unwrap());
        for (selector, version, address) in [
            ("0.0.0.0/0", Version::V6, "2001:db8::1"),
            ("0.0.0.0/0", Version::V6, "::ffff:1.2.3.4"),
            ("::/0", Version::V4, "1.2.3.4"),
            ("::ffff:0.0.0.0/96", Version::V4, "1.2.3.4"),
        ] {
            let classifier = Classifier::new(&[any(selector)]);
            let address = address_bits(address.parse().unwrap());
            let flow =
                Flow { version, source: address, destination: address, protocol: 6, ports: Ports::None };
            assert_eq!(classifier.first_match(&flow, |_| true), None);
            let net: IpNet = selector.parse().unwrap();
            assert!(!Prefix::from(net).contains(version, address));
        }
    }
}
