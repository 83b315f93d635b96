//! Batches of equal records without keys: encoded once, sent again and again.
//!
//! The n-th record of every batch is the same, its distance in time and offset from the first included, because records
//! are due evenly. So a batch of n is a prefix of one template, and only its header is new. Of compressed batches each
//! length is compressed once and kept. Costs nothing per byte, which leaves the generator's CPU to the kernel.

use bytes::Bytes;
use corelane::protocol::compression::{Codec, compress_into};
use corelane::protocol::record_batch::BATCH_HEADER_BYTES;

use super::batch::{self, Batch, Due, Origin};
use super::bounds::TEMPLATE_BYTES_MAX;
use super::checksum::Suffix;
use super::clock::MICROSECOND_NS;
use super::encode;
use super::payload::Payload;
use super::schedule::Interval;
use crate::lab::number::{narrow, size};

/// The records of all batches.
pub(super) struct Template {
    codec: Codec,
    value_bytes: u32,
    /// None where all records of a batch are due together.
    interval: Option<Interval>,
    records: Bytes,
    /// Where each record ends.
    ends: Vec<usize>,
    /// By number of records, less one: what was sent before.
    prefixes: Vec<Option<Box<Prefix>>>,
    /// Bytes of compressed prefixes.
    prefix_bytes: usize,
}

/// The first records of the template, ready to be sent.
struct Prefix {
    body: Bytes,
    suffix: Suffix,
}

impl Template {
    /// Of records of `value_bytes`, as many as fit into `batch_bytes`, but at least one.
    pub(super) fn new(
        codec: Codec,
        value_bytes: u32,
        batch_bytes: u32,
        interval: Option<Interval>,
        mut payload: Payload,
    ) -> Template {
        let room = size(batch_bytes).saturating_sub(BATCH_HEADER_BYTES);
        let (mut records, mut ends) = (Vec::new(), Vec::new());
        loop {
            let index = narrow(ends.len());
            let after_us = interval.map_or(0, |interval| interval.times(u64::from(index)) / MICROSECOND_NS);
            let (random, filler) = payload.value(value_bytes);
            encode::record(&mut records, after_us, index, None, random, filler);
            if records.len() > room && !ends.is_empty() {
                break;
            }
            ends.push(records.len());
            if records.len() > room {
                break;
            }
        }
        records.truncate(ends.last().copied().unwrap_or(0));
        let prefixes = ends.iter().map(|_| None).collect();
        Template { codec, value_bytes, interval, records: records.into(), ends, prefixes, prefix_bytes: 0 }
    }

    /// Records of a full batch.
    pub(super) fn records_max(&self) -> u32 {
        narrow(self.ends.len())
    }

    /// A batch of `records` for the partition `slot`, the first of them due at `first_ns`.
    pub(super) fn batch(&mut self, slot: u32, records: u32, first_ns: u64, origin: Origin) -> Batch {
        let due = match self.interval {
            None => Due::Together(first_ns),
            Some(interval) => Due::Evenly { first_ns, interval },
        };
        let codec = self.codec;
        let payload_bytes = u64::from(records) * u64::from(self.value_bytes);
        let prefix = self.prefix(records);
        let (body, bytes) = (prefix.body.clone(), prefix.body.len());
        let header = batch::header(codec, records, bytes, &due, origin, |first| prefix.suffix.after(first));
        Batch { header, records: body, account: batch::account(slot, records, payload_bytes, bytes, due) }
    }

    fn prefix(&mut self, records: u32) -> &Prefix {
        let index = size(records) - 1;
        if self.prefixes[index].is_none() {
            if self.prefix_bytes > TEMPLATE_BYTES_MAX {
                self.prefixes.fill_with(|| None);
                self.prefix_bytes = 0;
            }
            let plain = self.records.slice(..self.ends[index]);
            let body = if self.codec == Codec::None { plain } else { compressed(self.codec, &plain) };
            self.prefix_bytes += if self.codec == Codec::None { 0 } else { body.len() };
            let suffix = Suffix::new(&body);
            self.prefixes[index] = Some(Box::new(Prefix { body, suffix }));
        }
        self.prefixes[index].as_ref().expect("it was made above")
    }
}

fn compressed(codec: Codec, records: &[u8]) -> Bytes {
    let mut out = Vec::new();
    compress_into(codec, records, &mut out);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::generator::clock::{SECOND_NS, timestamp};
    use corelane::protocol::compression::Scratch;
    use corelane::protocol::record_batch::{BatchView, RecordsIter};

    const ORIGIN: Origin = Origin { producer_id: 9, epoch: 2, base_sequence: 1_000 };

    fn template(codec: Codec, value_bytes: u32, batch_bytes: u32, rate: Option<f64>) -> Template {
        let payload = Payload::new(value_bytes, 0.5, 3);
        Template::new(codec, value_bytes, batch_bytes, rate.map(Interval::of_rate), payload)
    }

    fn bytes(batch: &Batch) -> Vec<u8> {
        [&batch.header[..], &batch.records].concat()
    }

    #[test]
    fn batches_of_any_length_are_sound_with_every_codec() {
        for codec in Codec::ALL {
            let mut template = template(codec, 100, 4_000, Some(30_000.0));
            for records in [1, 2, 17, template.records_max(), 2] {
                let batch = template.batch(5, records, 7 * SECOND_NS, ORIGIN);
                let bytes = bytes(&batch);
                let view = BatchView::parse(&bytes).unwrap();
                assert!(view.crc_matches(), "{codec} {records}");
                assert_eq!(view.bytes().len(), bytes.len());
                assert_eq!(view.header.codec(), Some(codec));
                assert_eq!(view.header.producer_id.value(), 9);
                assert_eq!(view.header.last_sequence().value(), 999 + i32::try_from(records).unwrap());
                let mut out = Vec::new();
                let decoded = view.decompressed(&mut Scratch::new(), &mut out, 1_000_000).unwrap();
                let decoded: Vec<_> = RecordsIter::new(decoded, view.header.record_count).map(Result::unwrap).collect();
                assert_eq!(decoded.len(), size(records));
                assert!(decoded.iter().all(|record| record.value.is_some_and(|value| value.len() == 100)));
                assert_eq!(batch.account.payload_bytes, 100 * u64::from(records));
                assert_eq!(batch.bytes(), bytes.len());
            }
        }
    }

    #[test]
    fn timestamps_are_when_records_are_due() {
        let interval = Interval::of_rate(30_000.0);
        let mut template = template(Codec::None, 10, 16_384, Some(30_000.0));
        let records = template.records_max();
        let first_ns = 3 * SECOND_NS + 300;
        let batch = bytes(&template.batch(0, records, first_ns, Origin::NONE));
        let view = BatchView::parse(&batch).unwrap();
        for (index, record) in (0..).zip(RecordsIter::new(view.records(), view.header.record_count)) {
            let seen = view.header.timestamp_of(record.unwrap().timestamp_delta).value();
            let due = timestamp(first_ns + interval.times(index));
            // Each of the two is cut to whole microseconds.
            assert!((due - seen).abs() <= 1, "{index}: {seen} instead of {due}");
        }
        let last = timestamp(first_ns + interval.times(u64::from(records) - 1));
        assert_eq!(view.header.max_timestamp.value(), last);
    }

    #[test]
    fn a_batch_is_as_large_as_it_may_be_and_holds_a_record_at_least() {
        let mut small = template(Codec::None, 1_024, 16_384, None);
        let full = small.batch(0, small.records_max(), 0, Origin::NONE).bytes();
        assert!((16_384 - 1_100..=16_384).contains(&full), "{full}");
        assert_eq!(template(Codec::None, 20_000, 16_384, None).records_max(), 1);
    }
}
