//! Remembers verdicts of flows, so that the cost of a packet does not grow with the number of policies.
//!
//! A fixed number of entries in sets of two. A collision costs a classification, nothing else; whoever floods it with
//! new flows makes every packet as slow as the first of its flow.

use crate::classifier::{Flow, Ports};
use crate::ip::Version;

/// Sets of two entries; about 1 MiB, which the second-level cache of a core holds.
const SETS: usize = 4096;

/// What a cached verdict depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheKey {
    /// The packet's flow.
    pub flow: Flow,
    /// Direction, interface or SA: whatever else the caller's classification looked at.
    pub context: u64,
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
        let flow = Flow { version: Version::V4, source: 0, destination: 0, protocol: 0, ports: Ports::None };
        let empty = Entry { generation: 0, key: CacheKey { flow, context: 0 }, value: filler };
        Self { generation: 1, sets: vec![[empty; 2]; SETS] }
    }

    /// Forgets everything, at no cost.
    pub(crate) fn invalidate(&mut self) {
        self.generation += 1;
    }

    /// The remembered value, if there is one.
    pub(crate) fn find(&self, key: &CacheKey) -> Option<V> {
        let set = &self.sets[set_of(key)];
        set.iter()
            .find(|entry| entry.generation == self.generation && entry.key == *key)
            .map(|entry| entry.value)
    }

    /// Changes a remembered value.
    pub(crate) fn update(&mut self, key: &CacheKey, change: impl FnOnce(&mut V)) {
        let set = &mut self.sets[set_of(key)];
        if let Some(entry) =
            set.iter_mut().find(|entry| entry.generation == self.generation && entry.key == *key)
        {
            change(&mut entry.value);
        }
    }

    /// Remembers a value in place of the older one of its set.
    pub(crate) fn insert(&mut self, key: CacheKey, value: V) {
        let set = &mut self.sets[set_of(&key)];
        set[1] = set[0];
        set[0] = Entry { generation: self.generation, key, value };
    }
}

fn set_of(key: &CacheKey) -> usize {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let ports = match key.flow.ports {
        Ports::Known(source, destination) => u64::from(source) << 16 | u64::from(destination),
        Ports::None => 1 << 32,
        Ports::Unknown => 2 << 32,
        Ports::Hidden => 3 << 32,
    };
    let halves = [
        key.flow.source as u64,
        (key.flow.source >> 64) as u64,
        key.flow.destination as u64,
        (key.flow.destination >> 64) as u64,
        ports ^ u64::from(key.flow.protocol) << 40,
        key.context,
    ];
    let mut hash = 0u64;
    for half in halves {
        hash = (hash.rotate_left(5) ^ half).wrapping_mul(ODD);
    }
    (hash >> 40) as usize % SETS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(source: u128) -> CacheKey {
        CacheKey {
            flow: Flow {
                version: Version::V4,
                source,
                destination: 7,
                protocol: 6,
                ports: Ports::Known(1, 2),
            },
            context: 3,
        }
    }

    #[test]
    fn forgets_all_flows_when_invalidated() {
        let mut cache = FlowCache::new(0);
        cache.insert(key(1), 5);
        assert_eq!(cache.find(&key(1)), Some(5));
        assert_eq!(cache.find(&CacheKey { context: 4, ..key(1) }), None);
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
