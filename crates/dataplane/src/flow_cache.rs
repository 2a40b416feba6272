//! Remembers verdicts of flows, so that the cost of a packet does not grow with the number of policies.
//!
//! A fixed number of entries in sets of two. A collision costs a classification, nothing else; whoever floods it with
//! new flows makes every packet as slow as the first of its flow.

use crate::classifier::{Flow, Ports};
use crate::ip::Version;

/// Sets of two entries; about 1 MiB, which the second-level cache of a core holds.
const SETS: usize = 4096;

/// What a cached verdict depends on: the packet's flow, and direction, interface or SA, whatever else the caller's
/// classification looked at. Packed, so that comparing is a handful of instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheKey([u64; 6]);

impl CacheKey {
    #[inline]
    pub(crate) fn new(flow: &Flow, context: u64) -> Self {
        let ports = match flow.ports {
            Ports::Known(source, destination) => u64::from(source) << 16 | u64::from(destination),
            Ports::None => 1 << 32,
            Ports::Unknown => 2 << 32,
            Ports::Hidden => 3 << 32,
        };
        let is_six = u64::from(flow.version == Version::V6);
        Self([
            flow.source as u64,
            (flow.source >> 64) as u64,
            flow.destination as u64,
            (flow.destination >> 64) as u64,
            ports | u64::from(flow.protocol) << 40 | is_six << 48,
            context,
        ])
    }

    #[inline]
    fn is(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0, |different, (one, two)| different | (one ^ two)) == 0
    }

    /// The products are independent of each other: the processor forms them at the same time.
    #[inline]
    fn set(&self) -> usize {
        const ODD: [u64; 3] = [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9];
        let [one, two, three, four, five, six] = self.0;
        let product = |words: u64, at: usize| words.wrapping_mul(ODD[at]);
        let mixed = product(one ^ four.rotate_left(31), 0)
            .wrapping_add(product(three ^ two.rotate_left(17), 1).rotate_left(23))
            .wrapping_add(product(five ^ six.rotate_left(29), 2).rotate_left(43));
        (mixed ^ mixed >> 29).wrapping_mul(ODD[0]) as usize >> (u64::BITS - SETS.trailing_zeros())
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry<V> {
    generation: u64,
    key: CacheKey,
    value: V,
}

/// The cache. Values of an earlier generation are not found.
#[derive(Debug)]
pub(crate) struct FlowCache<V> {
    generation: u64,
    sets: Vec<[Entry<V>; 2]>,
}

impl<V: Copy> FlowCache<V> {
    /// An empty cache; `filler` is never handed out.
    pub(crate) fn new(filler: V) -> Self {
        let empty = Entry { generation: 0, key: CacheKey([0; 6]), value: filler };
        Self { generation: 1, sets: vec![[empty; 2]; SETS] }
    }

    /// Forgets everything, at no cost.
    pub(crate) fn invalidate(&mut self) {
        self.generation += 1;
    }

    /// The remembered value, if there is one.
    #[inline(always)]
    pub(crate) fn find(&self, key: &CacheKey) -> Option<V> {
        let set = &self.sets[key.set()];
        set.iter()
            .find(|entry| entry.generation == self.generation && entry.key.is(key))
            .map(|entry| entry.value)
    }

    /// Changes a remembered value.
    pub(crate) fn update(&mut self, key: &CacheKey, change: impl FnOnce(&mut V)) {
        let generation = self.generation;
        let set = &mut self.sets[key.set()];
        if let Some(entry) = set.iter_mut().find(|entry| entry.generation == generation && entry.key.is(key))
        {
            change(&mut entry.value);
        }
    }

    /// Remembers a value in place of the older one of its set.
    pub(crate) fn insert(&mut self, key: CacheKey, value: V) {
        let set = &mut self.sets[key.set()];
        set[1] = set[0];
        set[0] = Entry { generation: self.generation, key, value };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            Flow { version: Version::V4, source: 5, destination: 7, protocol: 6, ports: Ports::Known(1, 2) };
        let others = [
            Flow { version: Version::V6, ..flow },
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
            assert_eq!(keys.iter().position(|other| other.is(key)), Some(at));
        }
    }

    #[test]
    fn forgets_all_flows_when_invalidated() {
        let mut cache = FlowCache::new(0);
        cache.insert(key(1), 5);
        assert_eq!(cache.find(&key(1)), Some(5));
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
        let found = (0..100_000).filter(|source| cache.find(&key(*source)) == Some(*source)).count();
        assert!(found > SETS && found <= 2 * SETS, "{found}");
    }
}
