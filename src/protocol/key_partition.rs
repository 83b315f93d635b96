//! Which partition a key goes to: the same for every client of Kafka, though no broker asks, so that records of one key meet.
//!
//! As `BuiltInPartitioner.partitionForKey` of Kafka's clients.

/// The partition of a record with this key, of so many (at least one).
pub fn key_partition(key: &[u8], partition_count: u32) -> u32 {
    // The sign of Java's `int` is dropped before the remainder.
    (murmur2(key) & 0x7fff_ffff) % partition_count
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
        for key in [&b"21"[..], b"foobar", b"abc", b""] {
            let java = (murmur2(key).cast_signed() & i32::MAX) % 7;
            assert_eq!(i32::try_from(key_partition(key, 7)).unwrap(), java);
        }
    }
}
