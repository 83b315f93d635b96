//! What all threads of a load know alike: where partitions are, which versions are spoken, what a batch may hold.

use std::net::SocketAddr;

use super::clock::Clock;
use super::schedule::Interval;
use super::versions::Versions;
use crate::lab::number::{narrow, size};
use crate::lab::workload::Workload;

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
    /// Index of a topic's partition; none if there is no such partition.
    pub(super) fn slot_of(&self, topic: usize, partition: i32) -> Option<u32> {
        let index = topic * size(self.workload.partitions) + usize::try_from(partition).ok()?;
        let slot = self.slots.get(index)?;
        (size(slot.topic) == topic && slot.partition == partition).then_some(narrow(index))
    }
}
