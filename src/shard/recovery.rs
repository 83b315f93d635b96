//! What recovery tells a shard, gathered into partitions.

use super::partition::Partition;
use crate::partition::PartitionState;
use crate::store::{BATCH_HEADER_BYTES, PartitionRecord, Replay, StateError};
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
    fn on_partition(&mut self, partition: &PartitionRecord, state: &[u8]) -> Result<(), StateError> {
        let restored = PartitionState::restore(state, partition.log_start, partition.log_end)
            .map_err(|error| StateError(error.to_string()))?;
        self.partitions.insert(partition.log, (partition.topic, partition.partition, restored));
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_of_a_newer_program_is_refused() {
        let record = PartitionRecord {
            log: LogId::new(1),
            topic: TopicId::ZERO,
            partition: PartitionIndex::new(0),
            log_start: Offset::ZERO,
            log_end: Offset::ZERO,
        };
        let error = Recovered::default().on_partition(&record, &[9, 0]).unwrap_err();
        assert_eq!(error.to_string(), "state has version 9, newer than this program");
        assert_eq!(Recovered::default().on_partition(&record, &[]), Ok(()));
    }
}
