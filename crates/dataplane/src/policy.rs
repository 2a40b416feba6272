//! What a policy matches: selectors, their mirror images, address pairs, and the superset check of scope policies.

use std::net::IpAddr;

use ipnet::IpNet;

/// The packets a dynamic policy is about. Its mirror image (source and destination swapped) is meant too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    /// Source addresses.
    pub source: IpNet,
    /// Destination addresses; of the same family as the source.
    pub destination: IpNet,
    /// Source port; 0 means any.
    pub source_port: u16,
    /// Destination port; 0 means any.
    pub destination_port: u16,
    /// IP protocol; 0 means any.
    pub protocol: u8,
}

impl Selector {
    /// Any protocol and ports between two prefixes.
    pub fn between(source: IpNet, destination: IpNet) -> Self {
        Self { source, destination, source_port: 0, destination_port: 0, protocol: 0 }
    }

    /// The selector of the packets that answer those of this one.
    pub fn mirrored(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
        }
    }

    /// The prefixes alone.
    pub fn addresses(&self) -> AddressPair {
        AddressPair { source: self.source, destination: self.destination }
    }

    /// Every packet of `other` is a packet of this selector.
    pub fn contains(&self, other: &Self) -> bool {
        let covers = |own: u16, others: u16| own == 0 || own == others;
        self.addresses().contains_pair(&other.addresses())
            && covers(self.source_port, other.source_port)
            && covers(self.destination_port, other.destination_port)
            && covers(self.protocol.into(), other.protocol.into())
    }
}

/// Source and destination prefix of an exclude or fail-open rule, or of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressPair {
    /// Source addresses.
    pub source: IpNet,
    /// Destination addresses; of the same family as the source.
    pub destination: IpNet,
}

impl AddressPair {
    /// The pair of the opposite direction.
    pub fn mirrored(&self) -> Self {
        Self { source: self.destination, destination: self.source }
    }

    /// A packet between these addresses is one of the pair, in this direction.
    pub fn contains(&self, source: IpAddr, destination: IpAddr) -> bool {
        self.source.contains(&source) && self.destination.contains(&destination)
    }

    /// Every packet of `other` is a packet of this pair.
    pub fn contains_pair(&self, other: &Self) -> bool {
        self.source.contains(&other.source) && self.destination.contains(&other.destination)
    }
}

/// A scope policy (given by its selectors, one per source, destination and application) contains a dynamic policy.
///
/// A dynamic policy that straddles two selectors of the scope is not contained: the scope is then too narrow to be
/// read off, and the operator is told so.
pub fn scope_contains(scope: &[Selector], dynamic: &Selector) -> bool {
    scope.iter().any(|selector| selector.contains(dynamic) || selector.contains(&dynamic.mirrored()))
}

/// The dynamic policies that a scope policy does not contain.
pub fn outside_scope<'a>(
    scope: &'a [Selector],
    dynamic: impl IntoIterator<Item = &'a Selector> + 'a,
) -> impl Iterator<Item = &'a Selector> + 'a {
    dynamic.into_iter().filter(|selector| !scope_contains(scope, selector))
}
