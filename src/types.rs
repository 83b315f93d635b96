//! The newtypes that every layer speaks: offsets, epochs, ids, times and log positions.
//!
//! A type here carries one fact and the arithmetic that makes sense for it; everything else does not compile.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

/// A hash map by ids of our own making, for tables that are touched once per batch. Its order of iteration follows from
/// what was done to it alone, so that one seed of a simulation gives one run. Not for keys that a peer can choose: nothing
/// defends it against keys made to collide.
pub type StableMap<K, V> = HashMap<K, V, BuildHasherDefault<OwnIdHasher>>;

/// One multiplication per eight bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnIdHasher(u64);

impl Hasher for OwnIdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, value: u64) {
        // The odd multiplier spreads neighbours over the high bits; the table looks at both ends, so fold them.
        let product = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }
}

/// Declares a newtype over an integer with `new`, `value`, ordering and a plain `Display`.
macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name($inner);

        impl $name {
            /// Wraps a raw value, as read from the wire or the disk.
            pub const fn new(value: $inner) -> Self { Self(value) }
            /// The raw value, as written to the wire or the disk.
            pub const fn value(self) -> $inner { self.0 }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(f) }
        }
    };
}

newtype! {
    /// A connection of a client, to whichever shard: never used again while the process runs.
    ConnectionId(u64)
}

newtype! {
    /// Position of a record in a partition's log: one per record appended, never reused. Compaction leaves gaps.
    Offset(i64)
}
newtype! {
    /// Kafka's leader epoch: rises whenever a partition gets a leader anew, never goes back.
    LeaderEpoch(i32)
}
newtype! {
    /// Kafka's partition epoch: rises with every change of a partition's leader or replicas, never goes back.
    PartitionEpoch(i32)
}
newtype! {
    /// Identity of an idempotent or transactional producer; -1 means none.
    ProducerId(i64)
}
newtype! {
    /// Generation of one producer id; a higher one fences a lower one.
    ProducerEpoch(i16)
}
newtype! {
    /// Sequence number of a record within one (producer id, epoch, partition). Wraps from 2147483647 to 0.
    Sequence(i32)
}
newtype! {
    /// Milliseconds since 1970-01-01 UTC; -1 means "none" in Kafka's protocol.
    TimestampMs(i64)
}
newtype! {
    /// Microseconds of a monotonic clock; comparable only within one run of one runtime.
    MonotonicUs(u64)
}
newtype! {
    /// Index of a shard (one core and all that it owns), from 0.
    ShardId(u16)
}
newtype! {
    /// Kafka's broker id. Shard *i* is node `NodeId::of_shard(i)`.
    NodeId(i32)
}
newtype! {
    /// One life of one partition in one shard's log. Given once, never again, so that a recreated topic cannot
    /// inherit bytes. Zero is never given: it marks entries that belong to no partition.
    LogId(u64)
}
newtype! {
    /// Index of a partition within its topic, from 0.
    PartitionIndex(i32)
}
newtype! {
    /// Number of a segment in one shard's log: given in the order of opening, never reused.
    SegmentNumber(u64)
}
newtype! {
    /// Name of a segment's file: given once, kept when the file is recycled under a new segment number.
    FileId(u64)
}
newtype! {
    /// Counts the lives of a store: one more at every open, so bytes of an earlier life are told apart.
    Incarnation(u32)
}

impl Offset {
    /// The first offset of every log.
    pub const ZERO: Offset = Offset(0);

    /// The offset after a batch of `record_count` records that starts here.
    pub fn advance(self, record_count: u32) -> Offset {
        Offset(self.0 + i64::from(record_count))
    }

    /// How many offsets lie between `earlier` and this one.
    pub fn since(self, earlier: Offset) -> i64 {
        self.0 - earlier.0
    }
}

impl ProducerId {
    /// The id of batches that no idempotent producer wrote.
    pub const NONE: ProducerId = ProducerId(-1);
}

impl Sequence {
    /// The sequence `count` records later, wrapping from `i32::MAX` to 0 as Kafka's `DefaultRecordBatch.incrementSequence`.
    pub fn advance(self, count: i32) -> Sequence {
        if self.0 > i32::MAX - count { Sequence(count - (i32::MAX - self.0) - 1) } else { Sequence(self.0 + count) }
    }
}

impl TimestampMs {
    /// Kafka's "no timestamp".
    pub const NONE: TimestampMs = TimestampMs(-1);
}

impl MonotonicUs {
    /// A deadline that never comes.
    pub const NEVER: MonotonicUs = MonotonicUs(u64::MAX);

    /// The moment `us` microseconds later.
    pub fn plus_us(self, us: u64) -> MonotonicUs {
        MonotonicUs(self.0 + us)
    }

    /// The moment `ms` milliseconds later.
    pub fn plus_ms(self, ms: u64) -> MonotonicUs {
        MonotonicUs(self.0 + ms * 1000)
    }

    /// Microseconds since `earlier`, 0 when that lies in the future.
    pub fn since_us(self, earlier: MonotonicUs) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl ConnectionId {
    /// None that there is.
    pub const NONE: ConnectionId = ConnectionId(0);

    /// The `number`th connection of a shard, counted from 1.
    pub fn of(shard: ShardId, number: u64) -> ConnectionId {
        assert!(number > 0 && number < 1 << 48);
        ConnectionId((u64::from(shard.0) << 48) | number)
    }
}

impl ShardId {
    /// The shard that owns the metadata log.
    pub const CONTROLLER: ShardId = ShardId(0);

    /// The shard's index, for tables with one row per shard.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl NodeId {
    /// The node a shard is: ids start at 1, as in Kafka's own quick start.
    pub fn of_shard(shard: ShardId) -> NodeId {
        NodeId(i32::from(shard.0) + 1)
    }

    /// The shard that this node is. Only ids made by `of_shard` may be asked.
    pub fn shard(self) -> ShardId {
        ShardId(u16::try_from(self.0 - 1).expect("node ids are shard indexes plus one"))
    }
}

impl SegmentNumber {
    /// The number of the segment opened next.
    pub fn next(self) -> SegmentNumber {
        SegmentNumber(self.0 + 1)
    }
}

impl Incarnation {
    /// The life after this one.
    pub fn next(self) -> Incarnation {
        Incarnation(self.0 + 1)
    }
}

/// Kafka's topic id: a UUID given to one life of one topic. All zeroes means "none".
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TopicId([u8; 16]);

impl TopicId {
    /// Kafka's `Uuid.ZERO_UUID`: no id.
    pub const ZERO: TopicId = TopicId([0; 16]);

    /// Wraps the sixteen bytes of the wire.
    pub const fn new(bytes: [u8; 16]) -> TopicId {
        TopicId(bytes)
    }

    /// The sixteen bytes of the wire.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// True for Kafka's "no id".
    pub fn is_zero(self) -> bool {
        self.0 == [0; 16]
    }
}

impl fmt::Display for TopicId {
    /// Kafka's own text form: URL-safe base64 without padding, 22 characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let value = u128::from_be_bytes(self.0);
        for digit in 0..22 {
            // 128 bits are 21 digits of 6 bits and a last one whose low 4 bits are zero.
            let shift = 122 - 6 * digit;
            let six = if shift >= 0 { value >> shift } else { value << -shift } & 0x3f;
            let index = usize::try_from(six).expect("six bits fit");
            fmt::Write::write_char(f, char::from(ALPHABET[index]))?;
        }
        Ok(())
    }
}

/// A place in one shard's log: a segment and a byte in it. Positions only grow.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LogPosition {
    /// The segment; positions compare by it first.
    pub segment: SegmentNumber,
    /// Bytes from the start of the segment's file.
    pub byte: u32,
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.byte)
    }
}

/// How safe a batch must be before it counts: the two words of Corelane's durability.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Durability {
    /// The direct write completed: survives a crash of the process, not a power cut.
    Written,
    /// An fdatasync that began after the write completed has ended: survives a power cut.
    Flushed,
}

impl Durability {
    /// The word that `topic describe`, metrics and benchmarks print.
    pub fn word(self) -> &'static str {
        match self {
            Durability::Written => "written",
            Durability::Flushed => "flushed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    #[test]
    fn sequence_wraps_to_zero() {
        assert_eq!(Sequence::new(i32::MAX).advance(1), Sequence::new(0));
        assert_eq!(Sequence::new(i32::MAX - 1).advance(3), Sequence::new(1));
        assert_eq!(Sequence::new(4).advance(3), Sequence::new(7));
    }

    #[test]
    fn neighbouring_ids_spread_over_both_ends_of_the_hash() {
        let hasher = BuildHasherDefault::<OwnIdHasher>::default();
        let hashes: Vec<u64> = (1..=10_000).map(|id| hasher.hash_one(LogId::new(id))).collect();
        let buckets: HashSet<u64> = hashes.iter().map(|hash| hash % 16_384).collect();
        assert!(buckets.len() > 6_000, "{}", buckets.len());
        let tops: HashSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
        assert_eq!(tops.len(), 128);
        let partitions: HashSet<u64> =
            (0..10_000).map(|index: i32| hasher.hash_one((TopicId::new([7; 16]), index)) % 16_384).collect();
        assert!(partitions.len() > 6_000, "{}", partitions.len());
    }

    #[test]
    fn topic_id_prints_as_kafka_does() {
        assert_eq!(TopicId::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        // Uuid.METADATA_TOPIC_ID of Apache Kafka: new Uuid(0, 1).
        let mut one = [0; 16];
        one[15] = 1;
        assert_eq!(TopicId::new(one).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
    }

    #[test]
    fn positions_order_by_segment_first() {
        let early = LogPosition { segment: SegmentNumber::new(1), byte: 900 };
        let late = LogPosition { segment: SegmentNumber::new(2), byte: 4096 };
        assert!(early < late);
    }
}
