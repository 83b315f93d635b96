//! OffsetDelete.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::super::{Context, Coordinator, Group, Step};
use super::{code, is_subscribed, key_bytes, owned, tombstone};
use crate::limits;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use crate::types::PartitionIndex;

impl Coordinator {
    /// OffsetDelete (KIP-496). As for commits, rows of unknown partitions are told apart first.
    pub fn delete_offsets(
        &mut self,
        context: Context<'_>,
        request: &OffsetDeleteRequest<'_>,
    ) -> (Step, OffsetDeleteResponse<'static>) {
        self.arm_expiry(context);
        let failed = |error: ErrorCode| OffsetDeleteResponse { error_code: error.code(), ..Default::default() };
        if request.group_id.is_empty() {
            return (Step::default(), failed(ErrorCode::InvalidGroupId));
        }
        let Some((id, group)) = self.groups.get_key_value(&*request.group_id) else {
            return (Step::default(), failed(ErrorCode::GroupIdNotFound));
        };
        if let Group::Classic(group) = group
            && let Err(error) = group.validate_offset_delete()
        {
            return (Step::default(), failed(error));
        }
        let mut rows = BTreeSet::new();
        let topics = request.topics.iter().map(|topic| {
            let image = context.image.topic(&topic.name);
            let subscribed = is_subscribed(group, &topic.name);
            let number = self.offsets.topic(&topic.name);
            let partition = |index: i32| {
                let known = image.is_some_and(|image| image.partition(PartitionIndex::new(index)).is_some());
                let result = match known {
                    false => Err(ErrorCode::UnknownTopicOrPartition),
                    true if subscribed => Err(ErrorCode::GroupSubscribedToTopic),
                    true => Ok(()),
                };
                if let Some(number) = number
                    && result.is_ok()
                    && self.offsets.row(id, number, index).is_some()
                {
                    rows.insert((number, index));
                }
                OffsetDeleteResponsePartition { partition_index: index, error_code: code(result) }
            };
            let partitions = topic.partitions.iter().map(|row| row.partition_index).map(partition).collect();
            OffsetDeleteResponseTopic { name: owned(&topic.name), partitions }
        });
        let topics: Vec<_> = topics.collect();
        // A known topic without rows is left out (`KafkaApis.handleOffsetDeleteRequest`).
        let is_told = |topic: &OffsetDeleteResponseTopic<'_>| {
            !topic.partitions.is_empty() || context.image.topic(&topic.name).is_none()
        };
        let topics = topics.into_iter().filter(is_told).collect();
        let bytes: usize = rows.iter().map(|(topic, _)| key_bytes(id, self.offsets.topic_name(*topic))).sum();
        if bytes > limits::OFFSET_STEP_BYTES_MAX {
            return (Step::default(), failed(ErrorCode::UnknownServerError));
        }
        let id = Rc::clone(id);
        let remove = |(topic, partition)| {
            let name = self.offsets.remove(&id, topic, partition);
            tombstone(&id, &name, partition)
        };
        let step = Step { records: rows.into_iter().map(remove).collect(), ..Step::default() };
        (step, OffsetDeleteResponse { error_code: ErrorCode::None.code(), throttle_time_ms: 0, topics })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::records::Record;
    use super::super::fixture::World;
    use super::*;

    const UNKNOWN: i16 = ErrorCode::UnknownTopicOrPartition.code();

    #[test]
    fn an_offset_is_deleted_with_a_tombstone_and_one_that_is_not_there_without() {
        let mut world = World::new();
        world.commit_simple("g", "a", 0, 5);
        world.commit_simple("g", "b", 0, 6);
        let rows = [("a", 0), ("a", 1), ("a", 0), ("a", 3), ("nope", 0)];
        assert_eq!(world.delete("g", &rows), (0, vec![0, 0, 0, UNKNOWN, UNKNOWN]));
        assert_eq!(world.log[2..], [tombstone("g", "a", 0)]);
        assert_eq!(world.all("g").into_keys().collect::<Vec<_>>(), [("b".to_owned(), 0)]);
        assert_eq!(world.restarted().all("g"), world.all("g"));
        assert_eq!(world.restarted_compacted().all("g"), world.all("g"));
    }

    #[test]
    fn a_group_must_be_there_and_have_a_name() {
        let mut world = World::new();
        assert_eq!(world.delete("g", &[("a", 0)]), (ErrorCode::GroupIdNotFound.code(), vec![]));
        assert_eq!(world.delete("", &[("a", 0)]), (ErrorCode::InvalidGroupId.code(), vec![]));
    }

    #[test]
    fn offsets_of_topics_that_members_read_stay() {
        let mut world = World::new();
        world.replay_group("g", "consumer");
        for topic in ["a", "b"] {
            world.replay_offset("g", topic, 0, 5);
        }
        let rows = [("a", 0), ("b", 0), ("a", 9)];
        assert_eq!(world.delete("g", &rows), (0, vec![ErrorCode::GroupSubscribedToTopic.code(), 0, UNKNOWN]));
        assert_eq!(world.all("g").into_keys().collect::<Vec<_>>(), [("a".to_owned(), 0)]);
    }

    #[test]
    fn members_that_are_no_consumers_keep_all_their_offsets() {
        let mut world = World::new();
        world.replay_group("g", "connect");
        world.replay_offset("g", "b", 0, 5);
        assert_eq!(world.delete("g", &[("b", 0)]), (ErrorCode::NonEmptyGroup.code(), vec![]));
        assert_eq!(world.all("g").len(), 1);
    }

    #[test]
    fn a_group_that_is_deleted_takes_its_offsets_along() {
        let mut world = World::new();
        for (group, partition) in [("g", 0), ("g", 2), ("other", 1)] {
            world.commit_simple(group, "a", partition, 5);
        }
        world.commit_simple("g", "b", 0, 5);
        let mut records: Vec<Record> = Vec::new();
        world.coordinator.offsets.delete_group("g", &mut records);
        assert_eq!(records, [tombstone("g", "a", 0), tombstone("g", "a", 2), tombstone("g", "b", 0)]);
        assert!(world.all("g").is_empty());
        assert_eq!(world.all("other").len(), 1);
        records.clear();
        world.coordinator.offsets.delete_group("g", &mut records);
        assert_eq!(records, []);
    }
}
