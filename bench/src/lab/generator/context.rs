//! What the producers and consumers of one thread share: the plan, one buffer, one tally.

use std::sync::Arc;

use corelane::protocol::messages::produce::ProduceRequest;
use corelane::protocol::record_batch::BATCH_HEADER_BYTES;

use super::batch::Account;
use super::bounds::RECEIVE_BYTES;
use super::meter::Tally;
use super::plan::Plan;
use crate::lab::number::size;
use crate::lab::workload::Acks;

/// Shared by one thread's producers and consumers.
pub(super) struct Context {
    pub(super) plan: Arc<Plan>,
    pub(super) tally: Tally,
    pub(super) marks: Marks,
    /// Where bytes arrive; nobody keeps anything in it.
    pub(super) buffer: Vec<u8>,
    pub(super) produce_version: i16,
}

impl Context {
    pub(super) fn new(plan: Arc<Plan>) -> Result<Context, String> {
        let marks = Marks { round: 0, rounds: vec![0; plan.slots.len()] };
        let produce_version = plan.versions.of::<ProduceRequest<'_>>()?;
        Ok(Context { tally: Tally::new(), marks, buffer: vec![0; RECEIVE_BYTES], produce_version, plan })
    }

    /// Whether requests are done when they are written.
    pub(super) fn needs_no_answers(&self) -> bool {
        self.plan.workload.acks == Acks::None
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
