//! What a policy matches: selectors, their mirror images, address pairs, and the superset check of scope policies.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::Selector;

/// Source and destination prefix of an exclude or fail-open rule, or of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressPair {
    /// Source addresses.
    pub source: IpNet,
    /// Destination addresses; of the same family as the source.
    pub destination: IpNet,
}

impl AddressPair {
    /// The addresses of a selector.
    pub fn of(selector: &Selector) -> Self {
        Self { source: selector.source, destination: selector.destination }
    }

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
    scope.iter().any(|selector| selector.covers(dynamic) || selector.covers(&dynamic.mirror()))
}

/// The dynamic policies that a scope policy does not contain.
pub fn outside_scope<'a>(
    scope: &'a [Selector],
    dynamic: impl IntoIterator<Item = &'a Selector> + 'a,
) -> impl Iterator<Item = &'a Selector> + 'a {
    dynamic.into_iter().filter(|selector| !scope_contains(scope, selector))
}
