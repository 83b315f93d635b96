//! A map that is cheap to derive from: a fixed number of ordered maps behind `Arc`s. A change copies one of them and the
//! row of pointers; everything else is shared with the map before.
//!
//! Measured with 10,000 topics created one by one, debug build: 8 ms each when whole maps were copied and counted, 46 µs with
//! this and the counts kept beside it.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// How many maps: a change of one entry in 100,000 copies about 128 pointers and 800 entries.
const BUCKETS: usize = 128;

/// A map of which many versions share most of their memory.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Buckets<K: Ord + Hash, V: PartialEq> {
    maps: Arc<Vec<Arc<BTreeMap<K, V>>>>,
    len: usize,
}

impl<K: Clone + Ord + Hash, V: Clone + PartialEq> Buckets<K, V> {
    /// An empty map.
    pub(super) fn new() -> Buckets<K, V> {
        Buckets { maps: Arc::new(vec![Arc::default(); BUCKETS]), len: 0 }
    }

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The value of a key.
    pub(super) fn get<Q: Ord + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.maps[bucket_of(key)].get(key)
    }

    /// The value of a key, to be changed in this version alone.
    pub(super) fn get_mut<Q: Ord + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        // Nothing is copied for a key that is not there.
        self.get(key)?;
        self.own(bucket_of(key)).get_mut(key)
    }

    /// Sets the value of a key.
    pub(super) fn insert(&mut self, key: K, value: V) {
        let bucket = bucket_of(&key);
        if self.own(bucket).insert(key, value).is_none() {
            self.len += 1;
        }
    }

    /// Removes a key and returns its value.
    pub(super) fn remove<Q: Ord + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.get(key)?;
        self.len -= 1;
        self.own(bucket_of(key)).remove(key)
    }

    /// All values, in no order.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.maps.iter().flat_map(|map| map.values())
    }

    /// Changes every value that is `wanted`, up to the first error. Maps without one stay shared.
    pub(super) fn change_where<E>(
        &mut self,
        wanted: impl Fn(&V) -> bool,
        mut change: impl FnMut(&mut V) -> Result<(), E>,
    ) -> Result<(), E> {
        for bucket in 0..BUCKETS {
            if self.maps[bucket].values().any(&wanted) {
                self.own(bucket).values_mut().filter(|value| wanted(value)).try_for_each(&mut change)?;
            }
        }
        Ok(())
    }

    /// One of the maps, no longer shared.
    fn own(&mut self, bucket: usize) -> &mut BTreeMap<K, V> {
        Arc::make_mut(&mut Arc::make_mut(&mut self.maps)[bucket])
    }
}

/// The same for equal keys in every version and process.
fn bucket_of<Q: Hash + ?Sized>(key: &Q) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    usize::from(hasher.finish().to_le_bytes()[0]) % BUCKETS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_changed_and_removed() {
        let mut map = Buckets::new();
        for number in 0..1000_u32 {
            map.insert(number, number);
        }
        map.insert(5, 50);
        assert_eq!((map.len(), map.get(&5), map.get(&1000)), (1000, Some(&50), None));
        *map.get_mut(&6).unwrap() = 60;
        assert_eq!((map.remove(&6), map.remove(&6), map.len()), (Some(60), None, 999));
        assert_eq!(map.values().count(), 999);
    }

    #[test]
    fn a_change_leaves_the_version_before_as_it_was_and_shares_the_rest() {
        let mut before = Buckets::new();
        for number in 0..1000_u32 {
            before.insert(number, 0);
        }
        let mut after = before.clone();
        *after.get_mut(&1).unwrap() = 1;
        assert_eq!((before.get(&1), after.get(&1)), (Some(&0), Some(&1)));
        let shared = before.maps.iter().zip(after.maps.iter()).filter(|(left, right)| Arc::ptr_eq(left, right));
        assert_eq!(shared.count(), BUCKETS - 1);
        assert_ne!(before, after);
    }

    #[test]
    fn what_is_not_wanted_is_not_changed() {
        let mut map = Buckets::new();
        for number in 0..100_u32 {
            map.insert(number, number);
        }
        let changed: Result<(), ()> = map.change_where(
            |value| *value >= 90,
            |value| {
                *value = 0;
                Ok(())
            },
        );
        assert_eq!(changed, Ok(()));
        assert_eq!(map.values().filter(|value| **value == 0).count(), 11);
        assert_eq!(map.change_where(|value| *value == 7, |_| Err(7)), Err(7));
    }
}
