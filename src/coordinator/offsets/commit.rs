//! OffsetCommit.

use std::rc::Rc;
use std::sync::Arc;

use super::super::records::{OffsetCommitValue, Record};
use super::super::{Caller, Context, Coordinator, Group, Step};
use super::table::Row;
use super::{code, key_bytes, offset_key, owned};
use crate::cluster::image::Topic;
use crate::limits;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use crate::types::{PartitionIndex, TopicId};

impl Coordinator {
    /// OffsetCommit.
    ///
    /// Rows of unknown partitions are answered before the group is looked at, as Kafka's `KafkaApis` does: a commit of nothing
    /// else neither makes a group nor keeps a member alive. A known topic without rows is left out of the answer.
    ///
    /// A row that would take the coordinator over [`limits::OFFSET_BYTES_PER_COORDINATOR_MAX`] is refused with
    /// COORDINATOR_LOAD_IN_PROGRESS: clients try it again after a pause, without looking for another coordinator and without
    /// giving up their membership, and it succeeds once other offsets have expired or were deleted. Rows that need no more
    /// memory than before always pass, so groups that are at work go on.
    pub fn commit_offsets(
        &mut self,
        context: Context<'_>,
        caller: Caller<'_>,
        request: &OffsetCommitRequest<'_>,
    ) -> (Step, OffsetCommitResponse<'static>) {
        self.arm_expiry(context);
        let known = |topic: Option<&Arc<Topic>>, row: &OffsetCommitRequestPartition<'_>| {
            topic.is_some_and(|topic| topic.partition(PartitionIndex::new(row.partition_index)).is_some())
        };
        let mut verdict = Ok(());
        if request.topics.iter().any(|topic| {
            let image = context.image.topic(&topic.name);
            topic.partitions.iter().any(|row| known(image, row))
        }) {
            verdict = self.validate_commit(context, caller, request);
        }
        let notes_max = usize::try_from(self.config.offset_metadata_bytes_max).unwrap_or(0);
        let mut bytes = 0;
        let mut topics: Vec<_> = request
            .topics
            .iter()
            .map(|topic| {
                let image = context.image.topic(&topic.name);
                let row = |row: &OffsetCommitRequestPartition<'_>| {
                    let note = row.committed_metadata.as_deref().unwrap_or_default();
                    let result = if !known(image, row) {
                        Err(ErrorCode::UnknownTopicOrPartition)
                    } else if verdict.is_ok() && is_longer(note, notes_max) {
                        Err(ErrorCode::OffsetMetadataTooLarge)
                    } else {
                        verdict
                    };
                    if result.is_ok() {
                        bytes += key_bytes(&request.group_id, &topic.name) + value_bytes(note);
                    }
                    OffsetCommitResponsePartition { partition_index: row.partition_index, error_code: code(result) }
                };
                let partitions = topic.partitions.iter().map(row).collect();
                OffsetCommitResponseTopic { name: owned(&topic.name), partitions }
            })
            .collect();
        let mut step = Step::default();
        if bytes > limits::OFFSET_STEP_BYTES_MAX {
            // Kafka's RecordTooLargeException: the request as a whole.
            let rows = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            for row in rows.filter(|row| row.error_code != ErrorCode::UnknownTopicOrPartition.code()) {
                row.error_code = ErrorCode::UnknownServerError.code();
            }
        } else {
            self.store_commit(context, request, &mut topics, &mut step);
        }
        topics.retain(|topic| !topic.partitions.is_empty() || context.image.topic(&topic.name).is_none());
        (step, OffsetCommitResponse { throttle_time_ms: 0, topics })
    }

    /// Whether the group takes the commit (`OffsetMetadataManager.validateOffsetCommit`).
    fn validate_commit(
        &mut self,
        context: Context<'_>,
        caller: Caller<'_>,
        request: &OffsetCommitRequest<'_>,
    ) -> Result<(), ErrorCode> {
        let (member_id, instance_id) = (&*request.member_id, request.group_instance_id.as_deref());
        let generation = request.generation_id_or_member_epoch;
        match self.groups.get_mut(&*request.group_id) {
            Some(Group::Classic(group)) => {
                group.validate_offset_commit(member_id, instance_id, generation, caller.version)?;
                group.on_commit(context.now, member_id);
                Ok(())
            }
            Some(Group::Consumer(group)) => {
                group.validate_offset_commit(member_id, instance_id, generation, caller.version)
            }
            // A tool, or a consumer that manages its partitions itself: its group comes to be with the first offset.
            None if generation < 0 => Ok(()),
            None if caller.version >= 9 => Err(ErrorCode::GroupIdNotFound),
            None => Err(ErrorCode::IllegalGeneration),
        }
    }

    /// Stores every row that has no error so far.
    fn store_commit(
        &mut self,
        context: Context<'_>,
        request: &OffsetCommitRequest<'_>,
        results: &mut [OffsetCommitResponseTopic<'_>],
        step: &mut Step,
    ) {
        let wall = context.wall.value();
        let expire_timestamp = match request.retention_time_ms {
            -1 => -1,
            retention_ms => wall.saturating_add(retention_ms),
        };
        let group: Rc<str> = match self.groups.get_key_value(&*request.group_id) {
            Some((id, _)) => Rc::clone(id),
            None => Rc::from(&*request.group_id),
        };
        for (topic, results) in request.topics.iter().zip(results) {
            for (row, result) in topic.partitions.iter().zip(&mut results.partitions) {
                if result.error_code != ErrorCode::None.code() {
                    continue;
                }
                let value = OffsetCommitValue {
                    offset: row.committed_offset,
                    leader_epoch: row.committed_leader_epoch.max(-1),
                    metadata: row.committed_metadata.as_deref().unwrap_or_default().to_owned(),
                    commit_timestamp: wall,
                    expire_timestamp,
                    topic_id: TopicId::ZERO,
                };
                let bytes_max = limits::OFFSET_BYTES_PER_COORDINATOR_MAX;
                if !self.offsets.put(&group, &topic.name, row.partition_index, Row::new(&value), bytes_max) {
                    result.error_code = ErrorCode::CoordinatorLoadInProgress.code();
                    continue;
                }
                if step.records.is_empty() {
                    self.ensure_group(&group, context.wall);
                }
                let key = offset_key(&group, &topic.name, row.partition_index);
                step.records.push(Record::OffsetCommit(key, Some(value)));
            }
        }
    }
}

/// Whether a text has more UTF-16 units than `units_max`: what Kafka counts for `offset.metadata.max.bytes`.
fn is_longer(text: &str, units_max: usize) -> bool {
    // No character has more units than bytes.
    text.len() > units_max && text.encode_utf16().nth(units_max).is_some()
}

/// Bytes that a value adds.
fn value_bytes(metadata: &str) -> usize {
    28 + metadata.len()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{START_MS, World, commit};
    use super::*;
    use crate::protocol::messages::offset_commit::OffsetCommitRequestTopic;

    const NONE: i16 = ErrorCode::None.code();
    const UNKNOWN: i16 = ErrorCode::UnknownTopicOrPartition.code();

    fn row(partition_index: i32, note: &str) -> OffsetCommitRequestPartition<'static> {
        OffsetCommitRequestPartition {
            partition_index,
            committed_offset: 5,
            committed_leader_epoch: 2,
            committed_metadata: Some(note.to_owned().into()),
        }
    }

    fn topic(name: &str, partitions: Vec<OffsetCommitRequestPartition<'static>>) -> OffsetCommitRequestTopic<'static> {
        OffsetCommitRequestTopic { name: name.to_owned().into(), partitions }
    }

    #[test]
    fn the_first_commit_from_outside_makes_a_group_and_leaves_one_record() {
        let mut world = World::new();
        let request = OffsetCommitRequest { topics: vec![topic("a", vec![row(1, "note")])], ..commit("g", "", 0, 0) };
        assert_eq!(world.commit(9, &request), [NONE]);
        let value = OffsetCommitValue {
            offset: 5,
            leader_epoch: 2,
            metadata: "note".into(),
            commit_timestamp: START_MS,
            expire_timestamp: -1,
            topic_id: TopicId::ZERO,
        };
        assert_eq!(world.log, [Record::OffsetCommit(offset_key("g", "a", 1), Some(value))]);
        assert!(matches!(world.coordinator.groups.get("g"), Some(Group::Classic(_))));
        assert_eq!(world.all("g"), [(("a".to_owned(), 1), (5, "note".to_owned()))].into());
    }

    #[test]
    fn a_generation_of_a_group_that_is_not_there_is_refused_by_version() {
        let mut world = World::new();
        let request = OffsetCommitRequest { generation_id_or_member_epoch: 0, ..commit("g", "a", 0, 1) };
        assert_eq!(world.commit(8, &request), [ErrorCode::IllegalGeneration.code()]);
        assert_eq!(world.commit(9, &request), [ErrorCode::GroupIdNotFound.code()]);
        assert!(world.coordinator.groups.is_empty());
        assert_eq!(world.log, []);
    }

    #[test]
    fn a_refused_group_does_not_hide_that_a_partition_is_unknown() {
        let mut world = World::new();
        let topics = vec![topic("nope", vec![row(0, "")]), topic("a", vec![row(2, ""), row(3, ""), row(-1, "")])];
        let request = OffsetCommitRequest { generation_id_or_member_epoch: 0, topics, ..commit("g", "", 0, 0) };
        let refused = ErrorCode::GroupIdNotFound.code();
        assert_eq!(world.commit(9, &request), [UNKNOWN, refused, UNKNOWN, UNKNOWN]);
        let request = OffsetCommitRequest { generation_id_or_member_epoch: -1, ..request };
        assert_eq!(world.commit(9, &request), [UNKNOWN, NONE, UNKNOWN, UNKNOWN]);
        assert_eq!(world.log.len(), 1);
    }

    #[test]
    fn a_commit_of_unknown_partitions_alone_makes_no_group() {
        let mut world = World::new();
        assert_eq!(world.commit(9, &commit("g", "nope", 0, 1)), [UNKNOWN]);
        let request = OffsetCommitRequest { generation_id_or_member_epoch: 0, ..commit("g", "nope", 0, 1) };
        assert_eq!(world.commit(9, &request), [UNKNOWN]);
        assert!(world.coordinator.groups.is_empty());
    }

    #[test]
    fn a_group_with_members_takes_commits_of_its_generation_alone() {
        let mut world = World::new();
        world.replay_group("g", "consumer");
        let by = |member: &'static str, generation| OffsetCommitRequest {
            member_id: member.into(),
            generation_id_or_member_epoch: generation,
            ..commit("g", "a", 0, 7)
        };
        assert_eq!(world.commit(9, &by("", -1)), [ErrorCode::UnknownMemberId.code()]);
        assert_eq!(world.commit(9, &by("x", 3)), [ErrorCode::UnknownMemberId.code()]);
        assert_eq!(world.commit(9, &by("m", 2)), [ErrorCode::IllegalGeneration.code()]);
        assert!(world.all("g").is_empty());
        assert_eq!(world.commit(9, &by("m", 3)), [NONE]);
        assert_eq!(world.all("g").len(), 1);
    }

    #[test]
    fn metadata_is_measured_in_utf_16_units_and_refuses_its_row_alone() {
        let mut world = World::new();
        let fits = ["x".repeat(4_096), "ß".repeat(4_096), "🦀".repeat(2_048)];
        let too_long = ["x".repeat(4_097), "🦀".repeat(2_048) + "x"];
        for (notes, expected) in [(&fits[..], NONE), (&too_long[..], ErrorCode::OffsetMetadataTooLarge.code())] {
            for note in notes {
                let rows = vec![row(0, note), row(1, "")];
                let request = OffsetCommitRequest { topics: vec![topic("a", rows)], ..commit("g", "", 0, 0) };
                assert_eq!(world.commit(9, &request), [expected, NONE]);
            }
        }
        assert_eq!(world.all("g").get(&("a".to_owned(), 0)).unwrap().1, fits[2]);
    }

    #[test]
    fn a_known_topic_without_rows_is_not_answered() {
        let mut world = World::new();
        let topics = vec![topic("a", vec![]), topic("nope", vec![]), topic("b", vec![row(0, "")])];
        let request = OffsetCommitRequest { topics, ..commit("g", "", 0, 0) };
        assert_eq!(world.commit_topics(9, &request), ["nope", "b"]);
    }

    #[test]
    fn no_metadata_is_empty_metadata() {
        let mut world = World::new();
        let rows = vec![OffsetCommitRequestPartition { committed_metadata: None, ..row(0, "") }];
        let request = OffsetCommitRequest { topics: vec![topic("a", rows)], ..commit("g", "", 0, 0) };
        assert_eq!(world.commit(9, &request), [NONE]);
        assert_eq!(world.all("g").get(&("a".to_owned(), 0)), Some(&(5, String::new())));
    }

    #[test]
    fn a_retention_of_versions_2_to_4_is_kept_with_the_offset() {
        let mut world = World::new();
        let request = OffsetCommitRequest { retention_time_ms: 60_000, ..commit("g", "a", 0, 1) };
        assert_eq!(world.commit(4, &request), [NONE]);
        let Record::OffsetCommit(_, Some(value)) = &world.log[0] else { panic!("{:?}", world.log) };
        assert_eq!(value.expire_timestamp, START_MS + 60_000);
        assert_eq!(world.log[0].value().unwrap()[..2], [0, 1]);
    }

    #[test]
    fn the_last_of_two_rows_about_one_partition_counts() {
        let mut world = World::new();
        let second = OffsetCommitRequestPartition { committed_offset: 6, ..row(0, "") };
        let request =
            OffsetCommitRequest { topics: vec![topic("a", vec![row(0, "x"), second])], ..commit("g", "", 0, 0) };
        assert_eq!(world.commit(9, &request), [NONE, NONE]);
        assert_eq!(world.all("g").get(&("a".to_owned(), 0)), Some(&(6, String::new())));
        assert_eq!(world.restarted().all("g"), world.all("g"));
        assert_eq!(world.restarted_compacted().all("g"), world.all("g"));
    }

    #[test]
    fn a_commit_larger_than_a_batch_of_kafka_fails_whole_and_changes_nothing() {
        let mut world = World::new();
        world.create("c", 300);
        let mut rows: Vec<_> = (0..300).map(|partition| row(partition, &"x".repeat(4_000))).collect();
        rows.push(row(300, ""));
        let mut request = OffsetCommitRequest { topics: vec![topic("c", rows)], ..commit("g", "", 0, 0) };
        let codes = world.commit(9, &request);
        assert!(codes[..300].iter().all(|code| *code == ErrorCode::UnknownServerError.code()), "{codes:?}");
        assert_eq!(codes[300], UNKNOWN);
        assert!(world.coordinator.groups.is_empty() && world.log.is_empty());
        request.topics[0].partitions.truncate(250);
        assert_eq!(world.commit(9, &request), [NONE; 250]);
        let bytes = |record: &Record| record.key().len() + record.value().unwrap().len();
        let bytes: usize = world.log.iter().map(bytes).sum();
        assert!((1_000_000..limits::OFFSET_STEP_BYTES_MAX).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_full_coordinator_refuses_new_offsets_and_takes_those_that_cost_no_more() {
        let mut world = World::new();
        world.create("c", 200);
        let note = "x".repeat(4_096);
        let refused = ErrorCode::CoordinatorLoadInProgress.code();
        let mut groups = 0;
        let (mut stored, mut last) = (0, Vec::new());
        while !last.contains(&refused) {
            let rows = (0..200).map(|partition| row(partition, &note)).collect();
            let id = format!("g{groups}");
            let request = OffsetCommitRequest { topics: vec![topic("c", rows)], ..commit(&id, "", 0, 0) };
            last = world.commit(9, &request);
            groups += 1;
            stored += last.iter().filter(|code| **code == NONE).count();
        }
        let (count, bytes) = world.coordinator.offset_count_and_bytes();
        assert_eq!((count, world.log.len()), (stored, stored));
        assert!(bytes <= limits::OFFSET_BYTES_PER_COORDINATOR_MAX);
        assert!(bytes + 10_000 > limits::OFFSET_BYTES_PER_COORDINATOR_MAX);
        assert_eq!(
            world.commit(
                9,
                &OffsetCommitRequest { topics: vec![topic("c", vec![row(0, &note)])], ..commit("new", "", 0, 0) }
            ),
            [refused]
        );
        assert!(!world.coordinator.groups.contains_key("new"));
        // Groups that are at work go on, and what becomes free can be taken.
        assert_eq!(world.commit(9, &commit("g0", "c", 0, 99)), [NONE]);
        assert_eq!(world.commit(9, &commit("g0", "c", 1, 99)), [NONE]);
        assert_eq!(world.commit(9, &commit("new", "a", 0, 1)), [NONE]);
    }

    #[test]
    fn a_generation_below_minus_one_is_outside_of_the_group_too() {
        let mut world = World::new();
        let request = OffsetCommitRequest { generation_id_or_member_epoch: -7, ..commit("", "a", 0, 1) };
        // Java's clients of long ago commit under the empty name.
        assert_eq!(world.commit(2, &request), [NONE]);
        assert_eq!(world.all("").len(), 1);
    }
}
