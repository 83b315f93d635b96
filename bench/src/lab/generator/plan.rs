//! What all threads of a load know alike: where partitions are, which versions are spoken, what a batch may hold.

use std::net::SocketAddr;

use super::clock::Clock;
use super::schedule::Interval;
use super::versions::Versions;
use crate::lab::number::{narrow, size};
use crate::lab::workload::{Keys, Workload};
use crate::report::float;

/// Fixed before the first thread starts.
pub(super) struct Plan {
    pub(super) workload: Workload,
    pub(super) clock: Clock,
    pub(super) versions: Versions,
    pub(super) topics: Vec<String>,
    /// Every partition of every topic.
    pub(super) slots: Vec<Slot>,
    pub(super) leaders: Vec<SocketAddr>,
    /// Of the records of one producer; none for a maximum.
    pub(super) interval: Option<Interval>,
    /// Records of each producer after which a maximum ends by itself, for a backlog.
    pub(super) records_max: Option<u64>,
}

/// One partition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Slot {
    /// Index into the plan's topics.
    pub(super) topic: u32,
    pub(super) partition: i32,
    /// Index into the plan's leaders.
    pub(super) leader: u32,
}

impl Plan {
    /// Bytes of keys and values of so many records, on average.
    pub(super) fn payload_bytes(&self, records: u64) -> u64 {
        let key_bytes = match self.workload.keys {
            Keys::None => 0,
            Keys::Uniform { bytes, .. } | Keys::Zipf { bytes, .. } => bytes,
        };
        // Far below 2^53.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let bytes = (float(records) * (self.workload.record_bytes.mean() + f64::from(key_bytes))) as u64;
        bytes
    }

    /// Index of a topic's partition; none if there is no such partition.
    pub(super) fn slot_of(&self, topic: usize, partition: i32) -> Option<u32> {
        let index = topic * size(self.workload.partitions) + usize::try_from(partition).ok()?;
        let slot = self.slots.get(index)?;
        (size(slot.topic) == topic && slot.partition == partition).then_some(narrow(index))
    }
}
