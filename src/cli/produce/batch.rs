//! Records that wait to be sent to one partition, kept so that they can be encoded again: with another sequence number,
//! or in two halves when the broker finds them too large together.

use crate::protocol::compression::Codec;
use crate::protocol::record_batch::{BatchBuilder, Header};
use crate::types::{ProducerEpoch, ProducerId, Sequence, TimestampMs};

/// A name and a value that may be null, sent with every record.
pub(super) type OwnedHeader = (Vec<u8>, Option<Vec<u8>>);

/// The idempotent producer that a batch is sent as, and the sequence number of its first record.
pub(super) type Producer = (ProducerId, ProducerEpoch, Sequence);

/// Records of one partition, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    /// Keys and values, one behind the other.
    bytes: Vec<u8>,
    records: Vec<Shape>,
}

/// How much of the bytes is one record's.
#[derive(Clone, Copy, Debug)]
struct Shape {
    key_bytes: Option<usize>,
    value_bytes: Option<usize>,
    timestamp: TimestampMs,
}

impl Shape {
    fn bytes(&self) -> usize {
        self.key_bytes.unwrap_or(0) + self.value_bytes.unwrap_or(0)
    }
}

impl Batch {
    /// Adds a record.
    pub(super) fn append(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, timestamp: TimestampMs) {
        self.bytes.extend_from_slice(key.unwrap_or_default());
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.records.push(Shape { key_bytes: key.map(<[u8]>::len), value_bytes: value.map(<[u8]>::len), timestamp });
    }

    /// How many records wait.
    pub(super) fn record_count(&self) -> usize {
        self.records.len()
    }

    /// Bytes of their keys and values.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The first and the second half. At least two records wait.
    pub(super) fn split(mut self) -> (Batch, Batch) {
        assert!(self.records.len() > 1);
        let later = self.records.split_off(self.records.len() / 2);
        let at = self.records.iter().map(Shape::bytes).sum();
        let rest = self.bytes.split_off(at);
        (self, Batch { bytes: rest, records: later })
    }

    /// The record batch to send. At least one record waits.
    pub(super) fn encode(&self, codec: Codec, headers: &[OwnedHeader], producer: Option<Producer>) -> Vec<u8> {
        let headers: Vec<Header<'_>> =
            headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
        let mut builder = BatchBuilder::new(codec);
        if let Some((id, epoch, sequence)) = producer {
            builder.producer(id, epoch, sequence);
        }
        let mut rest = self.bytes.as_slice();
        let mut take = |bytes: usize| {
            let (head, tail) = rest.split_at(bytes);
            rest = tail;
            head
        };
        for record in &self.records {
            let key = record.key_bytes.map(&mut take);
            let value = record.value_bytes.map(&mut take);
            builder.append(record.timestamp, key, value, &headers);
        }
        builder.build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::record_batch::{BatchView, RecordsIter};

    type Plain = (Option<Vec<u8>>, Option<Vec<u8>>);

    fn read(encoded: &[u8]) -> Vec<Plain> {
        let view = BatchView::parse(encoded).unwrap();
        assert!(view.crc_matches());
        let own = |part: Option<&[u8]>| part.map(<[u8]>::to_vec);
        RecordsIter::new(view.records(), view.header.record_count)
            .map(|record| record.map(|record| (own(record.key), own(record.value))).unwrap())
            .collect()
    }

    #[test]
    fn halves_hold_every_record_once_and_in_order() {
        let mut whole = Batch::default();
        whole.append(Some(b"k"), Some(b"value"), TimestampMs::new(1));
        whole.append(None, None, TimestampMs::new(2));
        whole.append(Some(b""), None, TimestampMs::new(3));
        whole.append(None, Some(b""), TimestampMs::new(4));
        whole.append(Some(b"last"), Some(b"one"), TimestampMs::new(5));
        let all = read(&whole.encode(Codec::None, &[], None));
        assert_eq!(all.len(), 5);
        assert_eq!(all[2], (Some(Vec::new()), None));
        let (first, second) = whole.split();
        assert_eq!((first.record_count(), second.record_count()), (2, 3));
        assert_eq!(first.bytes() + second.bytes(), 13);
        let halves = [first, second].map(|half| read(&half.encode(Codec::None, &[], None))).concat();
        assert_eq!(halves, all);
    }
}
