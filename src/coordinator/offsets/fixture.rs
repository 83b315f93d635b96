//! A coordinator and a world around it, for the tests of this folder.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::super::config::GroupConfig;
use super::super::records::{GroupMember, GroupMetadataValue, OffsetCommitValue, Record, compacted};
use super::super::{Caller, Context, Coordinator, Step};
use super::offset_key;
use crate::cluster::image::MetadataImage;
use crate::cluster::records::{PartitionRecord, RemoveTopicRecord, TopicRecord};
use crate::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use crate::protocol::messages::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponseGroup,
};
use crate::types::{ConnectionId, MonotonicUs, TimestampMs, TopicId};

/// When every test starts, in ms since 1970.
pub(super) const START_MS: i64 = 1_700_000_000_000;
/// Kafka's default retention, in milliseconds.
pub(super) const RETENTION_MS: i64 = 7 * 24 * 3_600_000;

/// Which partition.
pub(super) type At = (String, i32);

pub(super) struct World {
    pub(super) coordinator: Coordinator,
    pub(super) image: MetadataImage,
    pub(super) now_ms: i64,
    /// Every record of every step.
    pub(super) log: Vec<Record>,
    config: Rc<GroupConfig>,
    topics_made: u8,
}

/// A request to commit with one row; the rest by struct update.
pub(super) fn commit<'a>(group: &'a str, topic: &'a str, partition: i32, offset: i64) -> OffsetCommitRequest<'a> {
    let row =
        OffsetCommitRequestPartition { partition_index: partition, committed_offset: offset, ..Default::default() };
    let topic = OffsetCommitRequestTopic { name: topic.into(), partitions: vec![row] };
    OffsetCommitRequest { group_id: group.into(), topics: vec![topic], ..Default::default() }
}

pub(super) fn caller(version: i16) -> Caller<'static> {
    Caller { version, client_id: "c", client_host: "/h", connection: ConnectionId::NONE }
}

impl World {
    /// With topics `a` (3 partitions) and `b` (1 partition).
    pub(super) fn new() -> World {
        let config = Rc::new(GroupConfig::default());
        let mut world = World {
            coordinator: Coordinator::new(Rc::clone(&config)),
            image: MetadataImage::empty("AAAAAAAAAAAAAAAAAAAAAQ"),
            now_ms: START_MS,
            log: Vec::new(),
            config,
            topics_made: 0,
        };
        world.create("a", 3);
        world.create("b", 1);
        world
    }

    pub(super) fn create(&mut self, topic: &str, partition_count: i32) {
        self.topics_made += 1;
        let topic_id = TopicId::new([self.topics_made; 16]);
        let mut records = vec![TopicRecord { name: topic.into(), topic_id }.into()];
        for partition_id in 0..partition_count {
            let partition = PartitionRecord {
                partition_id,
                topic_id,
                replicas: vec![1],
                isr: vec![1],
                leader: 1,
                ..Default::default()
            };
            records.push(partition.into());
        }
        self.image = self.image.apply(&records).unwrap();
    }

    pub(super) fn delete_topic(&mut self, topic: &str) -> Step {
        let topic_id = self.image.topic(topic).unwrap().id();
        self.image = self.image.apply(&[RemoveTopicRecord { topic_id }.into()]).unwrap();
        let context = context(&self.image, self.now_ms);
        let step = self.coordinator.on_metadata(context, &[topic]);
        self.log.extend(step.records.iter().cloned());
        step
    }

    pub(super) fn replay(&mut self, record: Record) {
        self.coordinator.replay(&record);
        self.log.push(record);
    }

    /// A group without members, whose last member went when the test started.
    pub(super) fn replay_empty_group(&mut self, group: &str) {
        let value = GroupMetadataValue {
            protocol_type: "consumer".into(),
            generation: 3,
            current_state_timestamp: START_MS,
            ..Default::default()
        };
        self.replay(Record::Group(group.into(), Some(value)));
    }

    /// A stable group at generation 3 whose one member `m` reads topic `a`, where it is of consumers.
    pub(super) fn replay_group(&mut self, group: &str, protocol_type: &str) {
        let member = GroupMember {
            member_id: "m".into(),
            client_id: "c".into(),
            client_host: "/h".into(),
            rebalance_timeout_ms: 60_000,
            session_timeout_ms: 45_000,
            subscription: b"\0\x01\0\0\0\x01\0\x01a\xff\xff\xff\xff\0\0\0\0".to_vec(),
            assignment: vec![1],
            ..Default::default()
        };
        let value = GroupMetadataValue {
            protocol_type: protocol_type.into(),
            generation: 3,
            protocol: Some("range".into()),
            leader: Some("m".into()),
            current_state_timestamp: START_MS,
            members: vec![member],
        };
        self.replay(Record::Group(group.into(), Some(value)));
    }

    /// An offset that was committed when the test started.
    pub(super) fn replay_offset(&mut self, group: &str, topic: &str, partition: i32, offset: i64) {
        let value = OffsetCommitValue { offset, commit_timestamp: START_MS, ..Default::default() };
        self.replay(Record::OffsetCommit(offset_key(group, topic, partition), Some(value)));
    }

    /// The codes of the rows, in order.
    pub(super) fn commit(&mut self, version: i16, request: &OffsetCommitRequest<'_>) -> Vec<i16> {
        let (step, response) =
            self.coordinator.commit_offsets(context(&self.image, self.now_ms), caller(version), request);
        self.log.extend(step.records);
        assert!(step.answers.is_empty());
        let rows = response.topics.iter().flat_map(|topic| &topic.partitions);
        rows.map(|row| row.error_code).collect()
    }

    /// Commits, and tells which topics the answer names.
    pub(super) fn commit_topics(&mut self, version: i16, request: &OffsetCommitRequest<'_>) -> Vec<String> {
        let (step, response) =
            self.coordinator.commit_offsets(context(&self.image, self.now_ms), caller(version), request);
        self.log.extend(step.records);
        response.topics.iter().map(|topic| topic.name.to_string()).collect()
    }

    /// Commits one offset from outside of the group, which must succeed.
    pub(super) fn commit_simple(&mut self, group: &str, topic: &str, partition: i32, offset: i64) {
        assert_eq!(self.commit(9, &commit(group, topic, partition, offset)), [0]);
    }

    pub(super) fn fetch(
        &mut self,
        group: &str,
        topics: Option<&[(&str, &[i32])]>,
    ) -> OffsetFetchResponseGroup<'static> {
        let topics = topics.map(|topics| {
            let topics = topics.iter().map(|(name, indexes)| OffsetFetchRequestTopics {
                name: (*name).to_owned().into(),
                partition_indexes: indexes.to_vec(),
            });
            topics.collect()
        });
        let request = OffsetFetchRequestGroup { group_id: group.to_owned().into(), topics, ..Default::default() };
        self.coordinator.fetch_offsets(context(&self.image, self.now_ms), caller(9), &request)
    }

    /// What the group has committed: offset and metadata.
    pub(super) fn all(&mut self, group: &str) -> BTreeMap<At, (i64, String)> {
        let response = self.fetch(group, None);
        assert_eq!(response.error_code, 0);
        let mut all = BTreeMap::new();
        for topic in response.topics {
            for row in topic.partitions {
                assert_eq!(row.error_code, 0);
                let value = (row.committed_offset, row.metadata.unwrap().into_owned());
                let before = all.insert((topic.name.clone().into_owned(), row.partition_index), value);
                assert_eq!(before, None);
            }
        }
        all
    }

    /// The group's error, and the codes of the rows.
    pub(super) fn delete(&mut self, group: &str, rows: &[(&str, i32)]) -> (i16, Vec<i16>) {
        let topic = |(name, partition_index): &(&str, i32)| OffsetDeleteRequestTopic {
            name: (*name).to_owned().into(),
            partitions: vec![OffsetDeleteRequestPartition { partition_index: *partition_index }],
        };
        let request =
            OffsetDeleteRequest { group_id: group.to_owned().into(), topics: rows.iter().map(topic).collect() };
        let (step, response) = self.coordinator.delete_offsets(context(&self.image, self.now_ms), &request);
        self.log.extend(step.records);
        let rows = response.topics.iter().flat_map(|topic| &topic.partitions);
        (response.error_code, rows.map(|row| row.error_code).collect())
    }

    /// Lets `ms` milliseconds pass, with all that is due about offsets on the way. Returns the records of each step.
    pub(super) fn pass(&mut self, ms: i64) -> Vec<Vec<Record>> {
        let end = self.now_ms + ms;
        let mut steps = Vec::new();
        while let Some(due) = self.coordinator.timers.first()
            && due <= monotonic(end)
        {
            self.now_ms = self.now_ms.max(START_MS + i64::try_from(due.value().div_ceil(1_000)).unwrap());
            let context = context(&self.image, self.now_ms);
            // One entry at a time, each a step of its own.
            self.coordinator.timers.pop(context.now).unwrap();
            let mut step = Step::default();
            self.coordinator.on_expiry(context, &mut step);
            self.log.extend(step.records.iter().cloned());
            if !step.records.is_empty() {
                steps.push(step.records);
            }
        }
        self.now_ms = end;
        steps
    }

    /// The same world after a restart: state is what the log adds up to, through its bytes.
    pub(super) fn restarted(&self) -> World {
        self.restarted_from(&self.log)
    }

    /// The same after compaction has gone over all of the log.
    pub(super) fn restarted_compacted(&self) -> World {
        self.restarted_from(&compacted(&self.log, self.log.len(), true))
    }

    fn restarted_from(&self, log: &[Record]) -> World {
        let mut coordinator = Coordinator::new(Rc::clone(&self.config));
        for record in log {
            let record = Record::decode(&record.key(), record.value().as_deref()).unwrap().unwrap();
            coordinator.replay(&record);
        }
        World {
            coordinator,
            image: self.image.clone(),
            now_ms: self.now_ms,
            log: self.log.clone(),
            config: Rc::clone(&self.config),
            topics_made: self.topics_made,
        }
    }
}

fn context(image: &MetadataImage, now_ms: i64) -> Context<'_> {
    Context { now: monotonic(now_ms), wall: TimestampMs::new(now_ms), image, random: [0; 16] }
}

pub(super) fn monotonic(now_ms: i64) -> MonotonicUs {
    MonotonicUs::new(u64::try_from(now_ms - START_MS).unwrap() * 1_000)
}
