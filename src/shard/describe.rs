//! What tools want to know of one core: who writes to its partitions, and what lies in its directory.

use std::collections::{BTreeMap, BTreeSet};

use super::Shard;
use super::message::{DescribedProducer, DescribedProducers, LogDirectory};
use crate::limits::DESCRIBED_PRODUCERS_MAX;
use crate::protocol::error_code::ErrorCode;
use crate::runtime::Runtime;
use crate::types::{ShardId, TopicId};

impl<R: Runtime> Shard<R> {
    /// The idempotent producers of each partition, at most [`DESCRIBED_PRODUCERS_MAX`] in all: a partition beyond that is
    /// POLICY_VIOLATION, and one that is not here UNKNOWN_TOPIC_OR_PARTITION.
    pub fn describe_producers(&self, wanted: &[(TopicId, i32)]) -> Vec<DescribedProducers> {
        let mut left = DESCRIBED_PRODUCERS_MAX;
        let describe = |(topic, index): &(TopicId, i32)| {
            let partition = self.partition(*topic, *index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
            let state = partition.state();
            left = left.checked_sub(state.producers.len()).ok_or(ErrorCode::PolicyViolation)?;
            let producers = state.producers.iter().map(|(id, producer)| DescribedProducer {
                id,
                epoch: producer.epoch(),
                last_sequence: producer.last_sequence(),
                last_timestamp: producer.last_timestamp(),
            });
            Ok(producers.collect())
        };
        wanted.iter().map(describe).collect()
    }

    /// The shard's directory and the bytes of its partitions, or of those `wanted`; the logs of the broker's own are left
    /// out. The volume is told by the first shard alone: all nodes of a machine may lie on one.
    pub fn log_directory(&self, wanted: Option<&BTreeSet<(TopicId, i32)>>) -> LogDirectory {
        let path = self.store.directory();
        let image = self.image();
        let mut partitions = BTreeMap::new();
        for partition in self.all_partitions() {
            let key = (partition.topic, partition.index.value());
            let asked = wanted.is_none_or(|wanted| wanted.contains(&key));
            if asked && partition.is_served() && image.topic_by_id(partition.topic).is_some() {
                partitions.insert(key, self.store.log_bytes(partition.log));
            }
        }
        LogDirectory {
            path: path.to_string_lossy().into_owned(),
            failed: self.store.failure().is_some(),
            volume: (self.id == ShardId::CONTROLLER).then(|| self.runtime.volume(path)).flatten(),
            partitions,
        }
    }
}
