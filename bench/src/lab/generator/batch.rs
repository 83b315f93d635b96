//! A batch on its way: its header, its records, and when they were due.

use bytes::Bytes;
use corelane::protocol::compression::Codec;
use corelane::protocol::record_batch::{BATCH_HEADER_BYTES, BatchHeader, LENGTH_OVERHEAD_BYTES, MAGIC};
use corelane::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};
use hdrhistogram::Histogram;

use super::clock::{MICROSECOND_NS, timestamp};
use super::schedule::Interval;
use crate::lab::number::{signed, size, wide};

/// Where the part of a header begins that its checksum covers; the checksum stands right before it.
const COVERED_AT: usize = 21;
const CRC_AT: usize = 17;

/// A whole batch.
pub(super) struct Batch {
    pub(super) header: [u8; BATCH_HEADER_BYTES],
    /// Its records, compressed or not.
    pub(super) records: Bytes,
    pub(super) account: Account,
}

impl Batch {
    /// Bytes on the wire.
    pub(super) fn bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.records.len()
    }
}

/// What is remembered of a batch until it is answered.
pub(super) struct Account {
    /// Its partition: index into the plan's.
    pub(super) slot: u32,
    pub(super) records: u32,
    /// Bytes of keys and values, before compression.
    pub(super) payload_bytes: u64,
    /// Bytes on the wire.
    pub(super) batch_bytes: u64,
    pub(super) due: Due,
}

/// When the records of a batch were due.
#[derive(Clone, Debug)]
pub(super) enum Due {
    /// All at once, in nanoseconds.
    Together(u64),
    /// One after the other, from a first on.
    Evenly { first_ns: u64, interval: Interval },
    /// Each so many microseconds after the first.
    Each { first_ns: u64, after_us: Vec<u32> },
}

impl Due {
    /// When the first was due.
    pub(super) fn first(&self) -> u64 {
        match self {
            Due::Together(first_ns) | Due::Evenly { first_ns, .. } | Due::Each { first_ns, .. } => *first_ns,
        }
    }

    /// When the last of `records` was due.
    pub(super) fn last(&self, records: u32) -> u64 {
        match self {
            Due::Together(all) => *all,
            Due::Evenly { first_ns, interval } => first_ns + interval.times(u64::from(records) - 1),
            Due::Each { first_ns, after_us } => {
                first_ns + u64::from(after_us.last().copied().unwrap_or(0)) * MICROSECOND_NS
            }
        }
    }

    /// Counts the latency of each of `records`, in microseconds until `now_ns`.
    pub(super) fn count(&self, records: u32, now_ns: u64, latencies: &mut Histogram<u64>) {
        match self {
            Due::Together(all) => {
                let us = now_ns.saturating_sub(*all) / MICROSECOND_NS;
                latencies.saturating_record_n(us.max(1), u64::from(records));
            }
            Due::Evenly { first_ns, interval } => {
                for index in 0..u64::from(records) {
                    let us = now_ns.saturating_sub(first_ns + interval.times(index)) / MICROSECOND_NS;
                    latencies.saturating_record(us.max(1));
                }
            }
            Due::Each { first_ns, after_us } => {
                let us = now_ns.saturating_sub(*first_ns) / MICROSECOND_NS;
                for after in after_us {
                    latencies.saturating_record(us.saturating_sub(u64::from(*after)).max(1));
                }
            }
        }
    }
}

/// Who sends a batch, if its producer is idempotent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Origin {
    pub(super) producer_id: i64,
    pub(super) epoch: i16,
    pub(super) base_sequence: i32,
}

impl Origin {
    /// Of a producer without an id.
    pub(super) const NONE: Origin = Origin { producer_id: -1, epoch: -1, base_sequence: -1 };
}

/// The header of a batch of `records` in `bytes` bytes; `crc` gives its checksum from what the header adds to it.
pub(super) fn header(
    codec: Codec,
    records: u32,
    bytes: usize,
    due: &Due,
    origin: Origin,
    crc: impl FnOnce(&[u8]) -> u32,
) -> [u8; BATCH_HEADER_BYTES] {
    let count = signed(size(records));
    let mut header = BatchHeader {
        base_offset: Offset::new(0),
        length: signed(BATCH_HEADER_BYTES - LENGTH_OVERHEAD_BYTES + bytes),
        leader_epoch: LeaderEpoch::new(-1),
        magic: MAGIC,
        crc: 0,
        attributes: codec.id(),
        last_offset_delta: count - 1,
        base_timestamp: TimestampMs::new(timestamp(due.first())),
        max_timestamp: TimestampMs::new(timestamp(due.last(records))),
        producer_id: ProducerId::new(origin.producer_id),
        producer_epoch: ProducerEpoch::new(origin.epoch),
        base_sequence: Sequence::new(origin.base_sequence),
        record_count: count,
    }
    .to_bytes();
    let crc = crc(&header[COVERED_AT..]);
    header[CRC_AT..COVERED_AT].copy_from_slice(&crc.to_be_bytes());
    header
}

/// The account of a batch.
pub(super) fn account(slot: u32, records: u32, payload_bytes: u64, body: usize, due: Due) -> Account {
    Account { slot, records, payload_bytes, batch_bytes: wide(BATCH_HEADER_BYTES + body), due }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latencies(due: &Due, records: u32, now_ns: u64) -> Vec<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        due.count(records, now_ns, &mut histogram);
        histogram.iter_recorded().flat_map(|value| vec![value.value_iterated_to(); usize_of(&value)]).collect()
    }

    fn usize_of(value: &hdrhistogram::iterators::IterationValue<u64>) -> usize {
        usize::try_from(value.count_at_value()).unwrap()
    }

    #[test]
    fn latencies_count_from_when_each_record_was_due() {
        let now_ns = 1_000_000;
        assert_eq!(latencies(&Due::Together(900_000), 3, now_ns), [100, 100, 100]);
        let evenly = Due::Evenly { first_ns: 500_000, interval: Interval::of_rate(10_000.0) };
        assert_eq!(latencies(&evenly, 3, now_ns), [300, 400, 500]);
        let each = Due::Each { first_ns: 500_000, after_us: vec![0, 10, 499] };
        assert_eq!(latencies(&each, 3, now_ns), [1, 490, 500]);
    }

    #[test]
    fn the_last_record_is_as_late_as_its_due_time_says() {
        let evenly = Due::Evenly { first_ns: 500_000, interval: Interval::of_rate(10_000.0) };
        assert_eq!((evenly.first(), evenly.last(3)), (500_000, 700_000));
        let each = Due::Each { first_ns: 5_000, after_us: vec![0, 7] };
        assert_eq!((each.first(), each.last(2)), (5_000, 12_000));
    }
}
