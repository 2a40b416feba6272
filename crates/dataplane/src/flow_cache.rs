//! Remembers verdicts of flows, so that the cost of a packet does not grow with the number of policies.
//!
//! A fixed number of entries in sets of two. A collision costs a classification, nothing else; whoever floods it with
//! new flows makes every packet as slow as the first of its flow.

use crate::classifier::{Flow, Ports};
use crate::ip::Version;
use crate::plain::Addresses;

/// Sets of two entries; about 1 MiB, which the second-level cache of a core holds.
const SETS: usize = 4096;

/// What a cached verdict depends on: the packet's flow, and direction, interface or SA, whatever else the caller's
/// classification looked at. Packed, so that comparing is a handful of instructions: of IPv4 everything is in `near`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheKey {
    /// Both addresses of IPv4, or the lower half of the source; ports, protocol and version; the context.
    near: [u64; 3],
    /// The rest of the addresses.
    far: [u64; 3],
}

/// In `near[1]`, above ports and protocol.
const IS_SIX: u64 = 1 << 48;

impl CacheKey {
    #[inline]
    pub(crate) fn new(flow: &Flow, context: u64) -> Self {
        let addresses = match flow.version {
            Version::V4 => {
                Addresses::V4(u64::from(flow.source as u32) << 32 | u64::from(flow.destination as u32))
            }
            Version::V6 => Addresses::V6(flow.source, flow.destination),
        };
        let ports = match flow.ports {
            Ports::Known(source, destination) => u64::from(source) << 16 | u64::from(destination),
            Ports::None => 1 << 32,
            Ports::Unknown => 2 << 32,
            Ports::Hidden => 3 << 32,
        };
        Self::with_ports(addresses, flow.protocol, ports, context)
    }

    /// `ports`: both of them, or what there is instead.
    #[inline(always)]
    pub(crate) fn with_ports(addresses: Addresses, protocol: u8, ports: u64, context: u64) -> Self {
        let what = ports | u64::from(protocol) << 40;
        match addresses {
            Addresses::V4(both) => Self { near: [both, what, context], far: [0; 3] },
            Addresses::V6(source, destination) => Self {
                near: [source as u64, what | IS_SIX, context],
                far: [(source >> 64) as u64, destination as u64, (destination >> 64) as u64],
            },
        }
    }

    #[inline(always)]
    fn is(&self, near: &[u64; 3], far: &[u64; 3]) -> bool {
        let same = |one: &[u64; 3], other: &[u64; 3]| {
            (one[0] ^ other[0]) | (one[1] ^ other[1]) | (one[2] ^ other[2]) == 0
        };
        same(&self.near, near) && (self.near[1] & IS_SIX == 0 || same(&self.far, far))
    }

    /// The products are independent of each other: the processor forms them at the same time.
    #[inline(always)]
    fn set(&self) -> usize {
        const ODD: [u64; 3] = [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9];
        let ([one, two, three], [four, five, six]) = (self.near, self.far);
        let product = |words: u64, at: usize| words.wrapping_mul(ODD[at]);
        let mixed = product(one ^ four.rotate_left(31), 0)
            .wrapping_add(product(five ^ six.rotate_left(17), 1).rotate_left(23))
            .wrapping_add(product(two ^ three.rotate_left(29), 2).rotate_left(43));
        (mixed ^ mixed >> 29).wrapping_mul(ODD[0]) as usize >> (u64::BITS - SETS.trailing_zeros())
    }
}

/// What is read of an IPv4 flow is in the first cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Entry<V> {
    generation: u64,
    near: [u64; 3],
    value: V,
    far: [u64; 3],
}

/// The cache. Values of an earlier generation are not found.
#[derive(Debug)]
pub(crate) struct FlowCache<V> {
    generation: u64,
    sets: Box<[[Entry<V>; 2]; SETS]>,
}

impl<V: Copy + std::fmt::Debug> FlowCache<V> {
    /// An empty cache; `filler` is never handed out.
    pub(crate) fn new(filler: V) -> Self {
        let empty = Entry { generation: 0, near: [0; 3], value: filler, far: [0; 3] };
        let sets: Box<[_]> = vec![[empty; 2]; SETS].into();
        Self { generation: 1, sets: sets.try_into().expect("as many sets") }
    }

    /// Forgets everything, at no cost.
    pub(crate) fn invalidate(&mut self) {
        self.generation += 1;
    }

    /// The remembered value, if there is one.
    #[inline(always)]
    pub(crate) fn find(&self, key: &CacheKey) -> Option<&V> {
        let [newer, older] = &self.sets[key.set()];
        let is_it = |entry: &Entry<V>| entry.generation == self.generation && key.is(&entry.near, &entry.far);
        if is_it(newer) {
            Some(&newer.value)
        } else if is_it(older) {
            Some(&older.value)
        } else {
            None
        }
    }

    /// Changes a remembered value.
    pub(crate) fn update(&mut self, key: &CacheKey, change: impl FnOnce(&mut V)) {
        let generation = self.generation;
        let is_it = |entry: &&mut Entry<V>| entry.generation == generation && key.is(&entry.near, &entry.far);
        if let Some(entry) = self.sets[key.set()].iter_mut().find(is_it) {
            change(&mut entry.value);
        }
    }

    /// Remembers a value in place of the older one of its set.
    pub(crate) fn insert(&mut self, key: CacheKey, value: V) {
        let set = &mut self.sets[key.set()];
        set[1] = set[0];
        set[0] = Entry { generation: self.generation, near: key.near, value, far: key.far };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::mapped;

    fn key_in(source: u128, context: u64) -> CacheKey {
        let ports = Ports::Known(1, 2);
        CacheKey::new(&Flow { version: Version::V4, source, destination: 7, protocol: 6, ports }, context)
    }

    fn key(source: u128) -> CacheKey {
        key_in(source, 3)
    }

    #[test]
    fn whatever_differs_makes_another_key() {
        let flow =
            Flow { version: Version::V6, source: 5, destination: 7, protocol: 6, ports: Ports::Known(1, 2) };
        let four = Flow { version: Version::V4, source: mapped(5), destination: mapped(7), ..flow };
        let others = [
            four,
            four.mirrored(),
            Flow { source: mapped(6), ..four },
            Flow { destination: mapped(6), ..four },
            Flow { protocol: 7, ..four },
            Flow { source: 5 | 1 << 64, ..flow },
            Flow { destination: 7 | 1 << 100, ..flow },
            Flow { protocol: 7, ..flow },
            Flow { ports: Ports::Known(2, 1), ..flow },
            Flow { ports: Ports::None, ..flow },
            Flow { ports: Ports::Unknown, ..flow },
            Flow { ports: Ports::Hidden, ..flow },
            flow.mirrored(),
        ];
        let mut keys: Vec<CacheKey> = others.iter().map(|other| CacheKey::new(other, 3)).collect();
        keys.push(CacheKey::new(&flow, 4));
        keys.push(CacheKey::new(&flow, 3));
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(keys.iter().position(|other| other.is(&key.near, &key.far)), Some(at));
        }
    }

    #[test]
    fn forgets_all_flows_when_invalidated() {
        let mut cache = FlowCache::new(0);
        cache.insert(key(1), 5);
        assert_eq!(cache.find(&key(1)), Some(&5));
        assert_eq!(cache.find(&key_in(1, 4)), None);
        cache.invalidate();
        assert_eq!(cache.find(&key(1)), None);
    }

    #[test]
    fn stays_as_large_as_it_is() {
        let mut cache = FlowCache::new(0);
        for source in 0..100_000 {
            cache.insert(key(source), source);
        }
        assert_eq!(cache.sets.len(), SETS);
        let found = (0..100_000).filter(|source| cache.find(&key(*source)) == Some(source)).count();
        assert!(found > SETS && found <= 2 * SETS, "{found}");
    }
}
