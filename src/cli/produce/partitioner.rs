//! Which partition a record goes to: the same as with Kafka's Java client, so that producers of both share their keys.
//!
//! A record with a key goes where murmur2 of the key says. Records without key stay in one partition chosen by chance
//! until a batch is full, then another is chosen: fuller batches than with a choice per record.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

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
            Some(key) => (murmur2(key) & 0x7fff_ffff) % self.partition_count,
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

/// 32-bit MurmurHash2 as Kafka's `Utils.murmur2` computes it.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    // The length enters the hash as Java's `int`; a key is far below 2 GiB.
    let length = u32::try_from(data.len()).expect("a key is far below 4 GiB");
    let mut hash = SEED ^ length;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (byte, shift) in tail.iter().zip([0, 8, 16]) {
            hash ^= u32::from(*byte) << shift;
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_is_the_java_clients() {
        // From Apache Kafka's UtilsTest.testMurmur2.
        let golden: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, hash) in golden {
            assert_eq!(murmur2(key).cast_signed(), hash, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn the_sign_is_dropped_before_the_remainder() {
        let partitioner = Partitioner::new(7);
        for key in [&b"21"[..], b"foobar", b"abc", b""] {
            let java = (murmur2(key).cast_signed() & i32::MAX) % 7;
            assert_eq!(i32::try_from(partitioner.partition(Some(key))).unwrap(), java);
        }
    }

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
