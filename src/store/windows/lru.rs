//! A map of bounded weight that forgets what was not used for longest.
//!
//! Pure. Invariant: the sum of the weights is at most the bound, and every key has exactly one place in the order of use.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hash};

/// See the module.
#[derive(Debug)]
pub(crate) struct Lru<K, V> {
    /// Not seeded: the simulation replays it, and keys are our own.
    entries: HashMap<K, Entry<V>, BuildHasherDefault<DefaultHasher>>,
    by_use: BTreeMap<u64, K>,
    uses: u64,
    weight: u64,
    weight_max: u64,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    weight: u64,
    used: u64,
}

impl<K: Copy + Eq + Hash, V> Lru<K, V> {
    /// An empty map that holds at most `weight_max`.
    pub(crate) fn new(weight_max: u64) -> Lru<K, V> {
        Lru { entries: HashMap::default(), by_use: BTreeMap::new(), uses: 0, weight: 0, weight_max }
    }

    /// What it holds at most.
    pub(crate) fn weight_max(&self) -> u64 {
        self.weight_max
    }

    /// The value, which counts as used now.
    pub(crate) fn get(&mut self, key: K) -> Option<&mut V> {
        let entry = self.entries.get_mut(&key)?;
        self.by_use.remove(&entry.used);
        self.uses += 1;
        entry.used = self.uses;
        self.by_use.insert(entry.used, key);
        Some(&mut entry.value)
    }

    /// Enters a value, replaces an earlier one, and returns what had to go for it. A value heavier than the bound comes
    /// straight back.
    pub(crate) fn insert(&mut self, key: K, value: V, weight: u64) -> Vec<V> {
        let mut gone: Vec<V> = self.remove(key).into_iter().collect();
        if weight > self.weight_max {
            gone.push(value);
            return gone;
        }
        while self.weight + weight > self.weight_max {
            gone.push(self.evict().expect("weight without entries is zero"));
        }
        self.uses += 1;
        self.by_use.insert(self.uses, key);
        self.entries.insert(key, Entry { value, weight, used: self.uses });
        self.weight += weight;
        gone
    }

    /// Forgets a key.
    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        let entry = self.entries.remove(&key)?;
        self.by_use.remove(&entry.used);
        self.weight -= entry.weight;
        Some(entry.value)
    }

    /// Forgets what was not used for longest.
    pub(crate) fn evict(&mut self) -> Option<V> {
        let (_, key) = self.by_use.first_key_value()?;
        self.remove(*key)
    }

    /// The keys, in no useful order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = K> + '_ {
        self.by_use.values().copied()
    }

    /// Sum of the weights.
    pub(crate) fn weight(&self) -> u64 {
        self.weight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_recently_used_goes_first() {
        let mut lru = Lru::new(3);
        for key in 0..3 {
            assert!(lru.insert(key, key * 10, 1).is_empty());
        }
        assert_eq!(lru.get(0), Some(&mut 0));
        assert_eq!(lru.insert(3, 30, 2), [10, 20]);
        assert_eq!(lru.get(1), None);
        assert_eq!(lru.weight(), 3);
        assert_eq!(lru.keys().collect::<Vec<_>>(), [0, 3]);
    }

    #[test]
    fn too_heavy_a_value_is_not_kept_and_drives_nothing_out() {
        let mut lru = Lru::new(3);
        lru.insert(1, 'a', 3);
        assert_eq!(lru.insert(2, 'b', 4), ['b']);
        assert_eq!(lru.get(1), Some(&mut 'a'));
    }

    #[test]
    fn replaced_value_gives_its_weight_back() {
        let mut lru = Lru::new(3);
        lru.insert(1, 'a', 3);
        assert_eq!(lru.insert(1, 'b', 2), ['a']);
        assert_eq!(lru.weight(), 2);
        assert_eq!(lru.remove(1), Some('b'));
        assert_eq!(lru.evict(), None);
        assert_eq!(lru.weight(), 0);
    }
}
