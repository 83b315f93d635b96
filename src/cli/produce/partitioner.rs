//! Which partition a record goes to: the same as with Kafka's Java client, so that producers of both share their keys.
//!
//! A record with a key goes where murmur2 of the key says. Records without key stay in one partition chosen by chance
//! until a batch is full, then another is chosen: fuller batches than with a choice per record.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use crate::protocol::key_partition::key_partition;

/// Chooses partitions for one topic.
#[derive(Debug)]
pub(super) struct Partitioner {
    partition_count: u32,
    /// Where records without key go for now.
    sticky: u32,
    /// State of the generator: an odd step per choice through a keyed hash.
    random: RandomState,
    choices: u64,
}

impl Partitioner {
    /// For a topic of so many partitions, at least one.
    pub(super) fn new(partition_count: u32) -> Partitioner {
        assert!(partition_count > 0);
        let mut partitioner = Partitioner { partition_count, sticky: 0, random: RandomState::new(), choices: 0 };
        partitioner.move_on();
        partitioner
    }

    /// The partition of a record.
    pub(super) fn partition(&self, key: Option<&[u8]>) -> u32 {
        match key {
            Some(key) => key_partition(key, self.partition_count),
            None => self.sticky,
        }
    }

    /// Chooses another partition for records without key, if there is another.
    pub(super) fn move_on(&mut self) {
        self.choices += 1;
        let mut hasher = self.random.build_hasher();
        hasher.write_u64(self.choices);
        let random = hasher.finish();
        let others = u64::from(self.partition_count - 1).max(1);
        // One of the partitions behind the present one, counted around: never the same twice unless it is the only one.
        let step = 1 + random % others;
        let next = (u64::from(self.sticky) + step) % u64::from(self.partition_count);
        self.sticky = u32::try_from(next).expect("below the number of partitions");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_without_key_stay_until_told_to_move_and_reach_every_partition() {
        let mut partitioner = Partitioner::new(5);
        let mut seen = [0; 5];
        for _ in 0..500 {
            let before = partitioner.partition(None);
            assert_eq!(partitioner.partition(None), before);
            partitioner.move_on();
            let after = partitioner.partition(None);
            assert_ne!(after, before);
            seen[usize::try_from(after).unwrap()] += 1;
        }
        assert!(seen.iter().all(|&count| count > 50), "{seen:?}");
        let mut only = Partitioner::new(1);
        only.move_on();
        assert_eq!(only.partition(None), 0);
    }
}
