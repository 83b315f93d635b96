//! What the producers and consumers of one thread share: the plan, one buffer, one template, one tally.

use std::sync::Arc;

use corelane::protocol::compression::Codec;
use corelane::protocol::messages::produce::ProduceRequest;
use corelane::protocol::record_batch::BATCH_HEADER_BYTES;

use super::batch::Account;
use super::bounds::RECEIVE_BYTES;
use super::meter::Tally;
use super::payload::Payload;
use super::plan::Plan;
use super::template::Template;
use crate::lab::number::size;
use crate::lab::workload::{Compression, RecordBytes};

/// Shared by one thread's producers and consumers.
pub(super) struct Context {
    pub(super) plan: Arc<Plan>,
    pub(super) tally: Tally,
    pub(super) template: Template,
    pub(super) marks: Marks,
    /// Where bytes arrive; nobody keeps anything in it.
    pub(super) buffer: Vec<u8>,
    pub(super) produce_version: i16,
}

impl Context {
    pub(super) fn new(plan: Arc<Plan>, seed: u64) -> Result<Context, String> {
        let workload = &plan.workload;
        let RecordBytes::Fixed(bytes) = workload.record_bytes else { return Err("only records of one size so far".to_owned()) };
        let mut payload = Payload::new(bytes, workload.random_share, seed);
        let codec = codec(workload.compression);
        let template = Template::new(codec, bytes, workload.batch_bytes, plan.interval, &mut payload);
        let marks = Marks { round: 0, rounds: vec![0; plan.slots.len()] };
        let produce_version = plan.versions.of::<ProduceRequest<'_>>()?;
        Ok(Context { tally: Tally::new(), template, marks, buffer: vec![0; RECEIVE_BYTES], produce_version, plan })
    }

    /// Full batches that share one request to a leader of so many partitions.
    pub(super) fn batches_per_request(&self, partitions: usize) -> usize {
        let workload = &self.plan.workload;
        let batch_bytes = size(workload.batch_bytes).max(BATCH_HEADER_BYTES);
        (size(workload.request_bytes) / batch_bytes).clamp(1, partitions)
    }

    /// Counts an acknowledged batch.
    pub(super) fn acknowledge(&mut self, account: &Account, now_ns: u64) {
        let produced = &mut self.tally.produced;
        produced.records += u64::from(account.records);
        produced.bytes += account.payload_bytes;
        produced.batch_bytes += account.batch_bytes;
        account.due.count(account.records, now_ns, &mut self.tally.latencies);
    }
}

/// Which partitions are in the request that is being made, without clearing anything for the next.
pub(super) struct Marks {
    round: u64,
    rounds: Vec<u64>,
}

impl Marks {
    /// Forgets all marks.
    pub(super) fn begin(&mut self) {
        self.round += 1;
    }

    /// Marks a partition; false if it was marked already.
    pub(super) fn mark(&mut self, slot: u32) -> bool {
        std::mem::replace(&mut self.rounds[size(slot)], self.round) != self.round
    }
}

fn codec(compression: Compression) -> Codec {
    match compression {
        Compression::None => Codec::None,
        Compression::Gzip => Codec::Gzip,
        Compression::Snappy => Codec::Snappy,
        Compression::Lz4 => Codec::Lz4,
        Compression::Zstd => Codec::Zstd,
    }
}
