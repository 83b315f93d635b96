//! Records that differ: of several sizes, with keys, or both.

use bytes::Bytes;
use corelane::protocol::compression::{Codec, compress_into};
use corelane::protocol::key_partition::key_partition;

use super::bounds::KEY_TABLE_MAX;
use super::encode::{self, RECORD_OVERHEAD_BYTES};
use super::keys::{self, Spread, Zipf};
use super::payload::Payload;
use super::plan::Plan;
use super::random::Random;
use crate::lab::number::size;
use crate::lab::workload::{Keys, RecordBytes};

/// Draws records and writes them.
pub(super) struct Mixture {
    codec: Codec,
    sizes: Sizes,
    keys: Option<Keyring>,
    payload: Payload,
    random: Random,
}

/// What was decided of a record.
pub(super) struct Draw {
    value_bytes: u32,
    /// Number of its key; none without keys.
    key: Option<u64>,
    /// The partition that its key chose; none without a key.
    pub(super) slot: Option<u32>,
}

impl Mixture {
    pub(super) fn new(plan: &Plan, codec: Codec, payload: Payload, seed: u64) -> Mixture {
        let workload = &plan.workload;
        let keyring = |spread, bytes| Some(Keyring::new(plan, spread, bytes));
        let keys = match workload.keys {
            Keys::None => None,
            Keys::Uniform { count, bytes } => keyring((count, Spread::Even { count }), bytes),
            Keys::Zipf { count, bytes, exponent } => keyring((count, Spread::Zipf(Zipf::new(count, exponent))), bytes),
        };
        // Another one than the payload's, which has the seed itself.
        let random = Random::new(!seed);
        Mixture { codec, sizes: Sizes::new(&workload.record_bytes), keys, payload, random }
    }

    pub(super) fn codec(&self) -> Codec {
        self.codec
    }

    /// Decides the `index`-th record of a producer.
    pub(super) fn draw(&mut self, index: u64) -> Draw {
        let value_bytes = self.sizes.draw(&mut self.random);
        match &mut self.keys {
            None => Draw { value_bytes, key: None, slot: None },
            Some(keys) => {
                let key = keys.spread.draw(&mut self.random);
                Draw { value_bytes, key: Some(key), slot: Some(keys.slot(key, index)) }
            }
        }
    }

    /// Bytes that a record takes in a batch at most.
    pub(super) fn bytes_max(&self, draw: &Draw) -> usize {
        self.key_bytes() + size(draw.value_bytes) + RECORD_OVERHEAD_BYTES
    }

    /// Bytes that the largest record takes in a batch at most.
    pub(super) fn record_bytes_max(&self) -> usize {
        self.key_bytes() + size(self.sizes.largest()) + RECORD_OVERHEAD_BYTES
    }

    fn key_bytes(&self) -> usize {
        self.keys.as_ref().map_or(0, |keys| keys.bytes.len())
    }

    /// Appends a record. Returns the bytes of its key and value.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, after_us: u64, index: u32, draw: Draw) -> usize {
        let (value, value_end) = self.payload.value(draw.value_bytes);
        let key = match (draw.key, &mut self.keys) {
            (Some(number), Some(keys)) => Some(keys.bytes_of(number)),
            _ => None,
        };
        encode::record(out, after_us, index, key, value, value_end);
        key.map_or(0, <[u8]>::len) + size(draw.value_bytes)
    }

    /// The records of a batch as they are sent.
    pub(super) fn compress(&self, records: Vec<u8>) -> Bytes {
        if self.codec == Codec::None {
            return records.into();
        }
        let mut out = Vec::new();
        compress_into(self.codec, &records, &mut out);
        out.into()
    }
}

/// All keys.
struct Keyring {
    spread: Spread,
    /// Where a key is written.
    bytes: Vec<u8>,
    partitions: u32,
    topics: u64,
    /// The partitions of the first keys, so that they are hashed once.
    table: Vec<u32>,
}

impl Keyring {
    fn new(plan: &Plan, (count, spread): (u64, Spread), key_bytes: u32) -> Keyring {
        let workload = &plan.workload;
        let mut bytes = vec![b'0'; size(key_bytes)];
        let partitions = workload.partitions;
        let table = (0..count.min(KEY_TABLE_MAX))
            .map(|key| {
                keys::write(key, &mut bytes);
                key_partition(&bytes, partitions)
            })
            .collect();
        Keyring { spread, bytes, partitions, topics: u64::from(workload.topics), table }
    }

    /// The partition of a key in the topic whose turn it is.
    fn slot(&mut self, key: u64, index: u64) -> u32 {
        let known = usize::try_from(key).ok().and_then(|key| self.table.get(key)).copied();
        let partition = known.unwrap_or_else(|| {
            keys::write(key, &mut self.bytes);
            key_partition(&self.bytes, self.partitions)
        });
        let topic = u32::try_from(index % self.topics).expect("below the number of topics");
        topic * self.partitions + partition
    }

    fn bytes_of(&mut self, key: u64) -> &[u8] {
        keys::write(key, &mut self.bytes);
        &self.bytes
    }
}

/// Sizes of values.
enum Sizes {
    Even {
        min: u32,
        max: u32,
    },
    /// Each with the sum of the weights up to and including its own.
    Weighted(Vec<(u64, u32)>),
}

impl Sizes {
    fn new(workload: &RecordBytes) -> Sizes {
        match workload {
            RecordBytes::Fixed(bytes) => Sizes::Even { min: *bytes, max: *bytes },
            RecordBytes::Even { min, max } => Sizes::Even { min: *min, max: *max },
            RecordBytes::Weighted(all) => {
                let mut sum = 0;
                let upto = |one: &crate::lab::workload::WeightedBytes| {
                    sum += u64::from(one.weight);
                    (sum, one.bytes)
                };
                Sizes::Weighted(all.iter().map(upto).collect())
            }
        }
    }

    fn largest(&self) -> u32 {
        match self {
            Sizes::Even { max, .. } => *max,
            Sizes::Weighted(all) => all.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0),
        }
    }

    fn draw(&self, random: &mut Random) -> u32 {
        match self {
            Sizes::Even { min, max } if min == max => *min,
            Sizes::Even { min, max } => min + random.below(u64::from(max - min) + 1),
            Sizes::Weighted(all) => {
                let sum = all.last().map_or(0, |(sum, _)| *sum);
                let at = u64::from(random.below(sum));
                all[all.partition_point(|(upto, _)| *upto <= at)].1
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::generator::batch::{self, Due, Origin};
    use crate::lab::generator::clock::Clock;
    use crate::lab::generator::plan::Slot;
    use crate::lab::generator::versions::Versions;
    use crate::lab::workload::{WeightedBytes, Workload};
    use corelane::protocol::compression::Scratch;
    use corelane::protocol::record_batch::{BatchView, RecordsIter};

    /// Two topics of seven partitions.
    fn plan(workload: Workload) -> Plan {
        let workload = Workload { topics: 2, partitions: 7, ..workload };
        let slot = |topic| (0..7).map(move |partition| Slot { topic, partition, leader: 0 });
        Plan {
            workload,
            clock: Clock::start(),
            versions: Versions::of_floor(),
            topics: vec!["a".to_owned(), "b".to_owned()],
            slots: (0..2).flat_map(slot).collect(),
            leaders: Vec::new(),
            interval: None,
            records_max: None,
        }
    }

    #[test]
    fn what_was_drawn_decodes_with_every_codec() {
        let keys = Keys::Zipf { count: 50, bytes: 12, exponent: 0.99 };
        let record_bytes = RecordBytes::Even { min: 0, max: 300 };
        let plan = plan(Workload { keys, record_bytes, ..Workload::default() });
        for codec in Codec::ALL {
            let mut mixture = Mixture::new(&plan, codec, Payload::new(300, 0.3, 5), 5);
            let (mut records, mut payload_bytes, mut after_us) = (Vec::new(), 0, Vec::new());
            for index in 0..100_u32 {
                let draw = mixture.draw(u64::from(index));
                let (before, bytes_max) = (records.len(), mixture.bytes_max(&draw));
                payload_bytes += mixture.write(&mut records, u64::from(index) * 9, index, draw);
                assert!(records.len() - before <= bytes_max);
                after_us.push(index * 9);
            }
            let body = mixture.compress(records);
            let due = Due::Each { first_ns: 0, after_us };
            let checksum = |first: &[u8]| crc32c::crc32c_append(crc32c::crc32c(first), &body);
            let header = batch::header(codec, 100, body.len(), &due, Origin::NONE, checksum);
            let bytes = [&header[..], &body].concat();
            let view = BatchView::parse(&bytes).unwrap();
            assert!(view.crc_matches(), "{codec}");
            let mut out = Vec::new();
            let decoded = view.decompressed(&mut Scratch::new(), &mut out, 1_000_000).unwrap();
            let decoded: Vec<_> = RecordsIter::new(decoded, 100).map(Result::unwrap).collect();
            let sizes = decoded.iter().map(|record| record.key.unwrap().len() + record.value.unwrap().len());
            assert_eq!(sizes.sum::<usize>(), payload_bytes);
            assert!(decoded.iter().zip(0..).all(|(record, index)| record.timestamp_delta == index * 9));
        }
    }

    #[test]
    fn a_key_has_one_partition_in_each_topic_and_topics_take_turns() {
        let plan = plan(Workload { keys: Keys::Uniform { count: 9, bytes: 4 }, ..Workload::default() });
        let mut mixture = Mixture::new(&plan, Codec::None, Payload::new(10, 1.0, 1), 1);
        for index in 0..1_000 {
            let draw = mixture.draw(index);
            let key = format!("{:04}", draw.key.unwrap());
            let topic = u32::try_from(index % 2).unwrap();
            assert_eq!(draw.slot, Some(7 * topic + key_partition(key.as_bytes(), 7)));
        }
    }

    #[test]
    fn sizes_come_as_often_as_their_weights_say() {
        let weighted = |bytes, weight| WeightedBytes { bytes, weight };
        let sizes = Sizes::new(&RecordBytes::Weighted(vec![weighted(100, 9), weighted(7, 0), weighted(10_000, 1)]));
        let mut random = Random::new(1);
        let draws: Vec<u32> = (0..10_000).map(|_| sizes.draw(&mut random)).collect();
        let large = draws.iter().filter(|bytes| **bytes == 10_000).count();
        assert!((900..1_100).contains(&large), "{large}");
        assert!(draws.iter().all(|bytes| [100, 10_000].contains(bytes)));
    }

    #[test]
    fn even_sizes_reach_both_bounds() {
        let sizes = Sizes::new(&RecordBytes::Even { min: 5, max: 8 });
        let mut random = Random::new(1);
        let mut seen: Vec<u32> = (0..1_000).map(|_| sizes.draw(&mut random)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [5, 6, 7, 8]);
    }
}
