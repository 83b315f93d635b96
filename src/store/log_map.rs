//! A map by log id, for tables that are touched once per batch.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::types::LogId;

/// A map by log id whose order of iteration depends on nothing random: the simulation replays it.
pub(crate) type LogMap<V> = HashMap<LogId, V, BuildHasherDefault<LogIdHasher>>;

/// One multiplication: log ids are our own, given in order, so nobody chooses them to collide.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LogIdHasher(u64);

impl Hasher for LogIdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, value: u64) {
        // The odd multiplier spreads neighbours over the high bits; the table looks at both ends, so fold them.
        let product = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::hash::{BuildHasher, BuildHasherDefault};

    #[test]
    fn neighbouring_ids_spread_over_both_ends_of_the_hash() {
        let hasher = BuildHasherDefault::<LogIdHasher>::default();
        let hashes: Vec<u64> = (1..=10_000).map(|id| hasher.hash_one(LogId::new(id))).collect();
        let buckets: HashSet<u64> = hashes.iter().map(|hash| hash % 16_384).collect();
        assert!(buckets.len() > 6_000, "{}", buckets.len());
        let tops: HashSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
        assert_eq!(tops.len(), 128);
    }
}
