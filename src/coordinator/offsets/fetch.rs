//! OffsetFetch.

use std::collections::BTreeSet;

use super::super::{Caller, Context, Coordinator, Group};
use super::owned;
use super::table::Row;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponseGroup, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopics,
};

impl Coordinator {
    /// OffsetFetch of one group.
    ///
    /// A partition with metadata that is asked for again in the same request is not answered again: 500,000 times the same
    /// 12 KiB would be an answer of 6 GB.
    pub fn fetch_offsets(
        &mut self,
        context: Context<'_>,
        _: Caller<'_>,
        request: &OffsetFetchRequestGroup<'_>,
    ) -> OffsetFetchResponseGroup<'static> {
        self.arm_expiry(context);
        let verdict = match self.groups.get(&*request.group_id) {
            Some(Group::Consumer(group)) => {
                group.validate_offset_fetch(request.member_id.as_deref(), request.member_epoch)
            }
            Some(Group::Classic(_)) => Ok(()),
            None => Err(ErrorCode::GroupIdNotFound),
        };
        let topics = match (verdict, &request.topics) {
            (Ok(()), Some(topics)) => self.fetch_rows(&request.group_id, topics),
            (Ok(()), None) => self.fetch_all(&request.group_id),
            // A group that is not there has committed nothing.
            (Err(ErrorCode::GroupIdNotFound), topics) => {
                topics.iter().flatten().map(|topic| response_topic(topic, |_| Some(unknown_offset()))).collect()
            }
            (Err(error), _) => {
                let group_id = owned(&request.group_id);
                return OffsetFetchResponseGroup { group_id, topics: Vec::new(), error_code: error.code() };
            }
        };
        OffsetFetchResponseGroup { group_id: owned(&request.group_id), topics, error_code: ErrorCode::None.code() }
    }

    fn fetch_rows(
        &self,
        group: &str,
        topics: &[OffsetFetchRequestTopics<'_>],
    ) -> Vec<OffsetFetchResponseTopics<'static>> {
        let mut with_metadata = BTreeSet::new();
        let mut fetch = |topic: &OffsetFetchRequestTopics<'_>| {
            let number = self.offsets.topic(&topic.name);
            response_topic(topic, |partition| {
                let row = number.and_then(|topic| self.offsets.row(group, topic, partition));
                let Some((row, number)) = row.zip(number) else { return Some(unknown_offset()) };
                let again = !row.metadata().is_empty() && !with_metadata.insert((number, partition));
                (!again).then(|| known_offset(row))
            })
        };
        topics.iter().map(&mut fetch).collect()
    }

    fn fetch_all(&self, group: &str) -> Vec<OffsetFetchResponseTopics<'static>> {
        let mut topics: Vec<OffsetFetchResponseTopics<'static>> = Vec::new();
        for (name, partition, row) in self.offsets.of_group(group) {
            let answer = OffsetFetchResponsePartitions { partition_index: partition, ..known_offset(row) };
            match topics.last_mut() {
                Some(topic) if topic.name == **name => topic.partitions.push(answer),
                _ => topics.push(OffsetFetchResponseTopics { name: owned(name), partitions: vec![answer] }),
            }
        }
        topics
    }
}

/// The answer about one topic; `row` answers about a partition, or `None` to leave it out.
fn response_topic(
    topic: &OffsetFetchRequestTopics<'_>,
    mut row: impl FnMut(i32) -> Option<OffsetFetchResponsePartitions<'static>>,
) -> OffsetFetchResponseTopics<'static> {
    let partitions = topic.partition_indexes.iter().filter_map(|&partition_index| {
        Some(OffsetFetchResponsePartitions { partition_index, ..row(partition_index)? })
    });
    OffsetFetchResponseTopics { name: owned(&topic.name), partitions: partitions.collect() }
}

fn unknown_offset() -> OffsetFetchResponsePartitions<'static> {
    OffsetFetchResponsePartitions { committed_offset: -1, ..Default::default() }
}

fn known_offset(row: &Row) -> OffsetFetchResponsePartitions<'static> {
    OffsetFetchResponsePartitions {
        committed_offset: row.offset,
        committed_leader_epoch: row.leader_epoch,
        metadata: Some(owned(row.metadata())),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{World, commit};
    use super::*;
    use crate::protocol::messages::offset_commit::OffsetCommitRequest;

    #[test]
    fn what_was_never_committed_is_minus_one_without_an_error() {
        let mut world = World::new();
        for known_group in [false, true] {
            if known_group {
                world.commit_simple("g", "a", 1, 5);
            }
            let response = world.fetch("g", Some(&[("a", &[0, 7]), ("nope", &[0])]));
            assert_eq!((response.error_code, &*response.group_id), (0, "g"));
            let names: Vec<_> = response.topics.iter().map(|topic| &*topic.name).collect();
            assert_eq!(names, ["a", "nope"]);
            for row in response.topics.iter().flat_map(|topic| &topic.partitions) {
                let expected = OffsetFetchResponsePartitions {
                    partition_index: row.partition_index,
                    committed_offset: -1,
                    committed_leader_epoch: -1,
                    metadata: Some("".into()),
                    error_code: 0,
                };
                assert_eq!(*row, expected);
            }
        }
    }

    #[test]
    fn all_topics_of_a_group_that_is_not_there_are_none() {
        let response = World::new().fetch("g", None);
        assert_eq!((response.error_code, response.topics.len()), (0, 0));
    }

    #[test]
    fn all_offsets_come_by_topic() {
        let mut world = World::new();
        for (topic, partition, offset) in [("a", 2, 12), ("b", 0, 20), ("a", 0, 10)] {
            world.commit_simple("g", topic, partition, offset);
            world.commit_simple("other", topic, partition, 99);
        }
        let response = world.fetch("g", None);
        let rows: Vec<_> = response
            .topics
            .iter()
            .map(|topic| {
                let rows = topic.partitions.iter().map(|row| (row.partition_index, row.committed_offset));
                (&*topic.name, rows.collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(rows, [("a", vec![(0, 10), (2, 12)]), ("b", vec![(0, 20)])]);
    }

    #[test]
    fn the_leader_epoch_and_the_metadata_come_with_the_offset() {
        let mut world = World::new();
        let mut request: OffsetCommitRequest<'_> = commit("g", "a", 0, 5);
        request.topics[0].partitions[0].committed_leader_epoch = 8;
        request.topics[0].partitions[0].committed_metadata = Some("note".into());
        assert_eq!(world.commit(9, &request), [0]);
        let response = world.fetch("g", Some(&[("a", &[0])]));
        let row = &response.topics[0].partitions[0];
        assert_eq!((row.committed_offset, row.committed_leader_epoch, row.metadata.as_deref()), (5, 8, Some("note")));
    }

    #[test]
    fn asking_again_and_again_does_not_multiply_metadata() {
        let mut world = World::new();
        let mut request = commit("g", "a", 0, 5);
        request.topics[0].partitions[0].committed_metadata = Some("x".repeat(4_096).into());
        assert_eq!(world.commit(9, &request), [0]);
        world.commit_simple("g", "a", 1, 6);
        let response = world.fetch("g", Some(&[("a", &[0, 0, 1, 1, 2]), ("a", &[0, 1])]));
        let indexes: Vec<Vec<i32>> = response
            .topics
            .iter()
            .map(|topic| topic.partitions.iter().map(|row| row.partition_index).collect())
            .collect();
        assert_eq!(indexes, [vec![0, 1, 1, 2], vec![1]]);
    }
}
