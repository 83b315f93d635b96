//! What recovery tells a shard, gathered into partitions.

use super::partition::Partition;
use crate::partition::PartitionState;
use crate::store::{BATCH_HEADER_BYTES, PartitionRecord, Replay};
use crate::types::{LogId, Offset, PartitionIndex, StableMap, TopicId};

/// Collects the partitions of a store that is being opened.
#[derive(Debug, Default)]
pub struct Recovered {
    partitions: StableMap<LogId, (TopicId, PartitionIndex, PartitionState)>,
}

impl Recovered {
    /// Number of partitions found.
    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    /// True when the store had none.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// The partitions, all of whose offsets are durable.
    pub fn into_partitions(self) -> impl Iterator<Item = Partition> {
        self.partitions.into_iter().map(|(log, (topic, index, state))| Partition::restored(log, topic, index, state))
    }
}

impl Replay for Recovered {
    fn on_partition(&mut self, partition: &PartitionRecord, state: &[u8]) {
        // A snapshot is covered by the checkpoint's CRC, so one that cannot be read was written by a broken program.
        let restored = PartitionState::restore(state, partition.log_start, partition.log_end)
            .expect("the checkpoint's CRC covers the snapshot");
        self.partitions.insert(partition.log, (partition.topic, partition.partition, restored));
    }

    fn on_batch(&mut self, log: LogId, header: &[u8; BATCH_HEADER_BYTES]) {
        let (_, _, state) = self.partitions.get_mut(&log).expect("the store tells of a partition before its batches");
        state.replay(header);
    }

    fn on_log_start(&mut self, log: LogId, log_start: Offset) {
        let (_, _, state) = self.partitions.get_mut(&log).expect("the store tells of a partition before its log start");
        state.replay_log_start(log_start);
    }

    fn on_delete(&mut self, log: LogId) {
        self.partitions.remove(&log);
    }
}
