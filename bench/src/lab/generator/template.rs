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
