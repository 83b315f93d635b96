//! Requests that make sense, of every API that is served: about topics that exist and some that do not, with ordinary
//! values and the edges of their types.

mod administration;
mod groups;

use std::borrow::Cow;
use std::sync::Arc;

use corelane::cluster::image::MetadataImage;
use corelane::protocol::api_key::{ApiKey, SUPPORTED};
use corelane::protocol::frame::request_frame;
use corelane::protocol::messages::api_versions::ApiVersionsRequest;
use corelane::protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use corelane::protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use corelane::protocol::messages::describe_cluster::DescribeClusterRequest;
use corelane::protocol::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use corelane::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use corelane::protocol::messages::init_producer_id::InitProducerIdRequest;
use corelane::protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use corelane::protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use corelane::protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use corelane::protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use corelane::protocol::wire::{Message, Records};
use corelane::types::TopicId;

use crate::batches::good_batch;
use crate::random::Random;

/// Draws requests about the topics of an image.
pub(crate) struct Requests<'r> {
    random: &'r mut Random,
    image: Arc<MetadataImage>,
    /// How many rows all lists of a request may have together.
    rows_left: usize,
    /// One list in so many is as long as it may be.
    long_one_in: usize,
}

impl<'r> Requests<'r> {
    /// For requests of few rows, and now and then some hundred.
    pub(crate) fn new(random: &'r mut Random, image: Arc<MetadataImage>) -> Requests<'r> {
        Requests { random, image, rows_left: 300, long_one_in: 30 }
    }

    /// For requests of thousands of rows.
    pub(crate) fn of_many_rows(random: &'r mut Random, image: Arc<MetadataImage>) -> Requests<'r> {
        Requests { random, image, rows_left: 10_000, long_one_in: 2 }
    }

    /// A frame without its length, of any API and version that is served.
    pub(crate) fn any(&mut self) -> Vec<u8> {
        let api = SUPPORTED[self.random.below(SUPPORTED.len())];
        let spread = usize::try_from(api.max - api.accepted_min + 1).unwrap();
        let version = api.accepted_min + i16::try_from(self.random.below(spread)).unwrap();
        self.of(api.key, version)
    }

    /// A frame without its length.
    pub(crate) fn of(&mut self, key: ApiKey, version: i16) -> Vec<u8> {
        match key {
            ApiKey::Produce => self.produce(version),
            ApiKey::Fetch => self.fetch(version),
            ApiKey::ListOffsets => self.list_offsets(version),
            ApiKey::Metadata => self.metadata(version),
            ApiKey::CreateTopics => self.create_topics(version),
            ApiKey::DeleteTopics => self.delete_topics(version),
            ApiKey::InitProducerId => self.init_producer_id(version),
            ApiKey::OffsetForLeaderEpoch => self.epochs(version),
            ApiKey::DescribeConfigs => self.describe_configs(version),
            ApiKey::DescribeCluster => {
                let request = DescribeClusterRequest {
                    endpoint_type: *self.pick(&[1, 1, 2, -1]),
                    ..DescribeClusterRequest::default()
                };
                self.frame(version, &request)
            }
            ApiKey::ApiVersions => {
                let request = ApiVersionsRequest { client_software_name: self.name(), ..ApiVersionsRequest::default() };
                self.frame(version, &request)
            }
            other => match self.about_groups(other, version) {
                Some(request) => request,
                None => self.administration(other, version),
            },
        }
    }

    fn frame(&mut self, version: i16, message: &impl Message) -> Vec<u8> {
        let correlation_id = i32::from_le_bytes(*self.random.next().to_le_bytes().first_chunk().unwrap());
        request_frame(correlation_id, Some("fuzz"), version, message).bytes[4..].to_vec()
    }

    fn produce(&mut self, version: i16) -> Vec<u8> {
        // Batches live in a pool, since the request borrows them.
        let mut pool: Vec<Vec<u8>> = (0..8).map(|_| good_batch(self.random)).collect();
        pool.push(Vec::new());
        let topics = self.rows(3, |this| {
            let (name, topic_id) = this.topic();
            let partition_data = this.rows(4, |this| PartitionProduceData {
                index: this.index(),
                records: match this.random.below(10) {
                    0 => Records::Null,
                    _ => Records::Bytes(&pool[this.random.below(pool.len())]),
                },
            });
            TopicProduceData { name, topic_id, partition_data }
        });
        let request = ProduceRequest {
            transactional_id: self.random.one_in(20).then(|| "transaction".into()),
            acks: *self.pick(&[-1, -1, 1, 1, 0, 2]),
            timeout_ms: *self.pick(&[30_000, 1000, 0, -1]),
            topic_data: topics,
        };
        self.frame(version, &request)
    }

    fn fetch(&mut self, version: i16) -> Vec<u8> {
        let topics = self.rows(3, |this| {
            let (topic, topic_id) = this.topic();
            let partitions = this.rows(4, |this| FetchPartition {
                partition: this.index(),
                current_leader_epoch: this.epoch(),
                fetch_offset: this.offset(),
                last_fetched_epoch: this.epoch(),
                partition_max_bytes: *this.pick(&[1 << 20, 1 << 20, 100, 0, -1, i32::MAX]),
                ..FetchPartition::default()
            });
            FetchTopic { topic, topic_id, partitions }
        });
        let forgotten_topics_data = self.rows(2, |this| {
            let (topic, topic_id) = this.topic();
            ForgottenTopic { topic, topic_id, partitions: this.rows(3, Requests::index) }
        });
        let request = FetchRequest {
            max_wait_ms: *self.pick(&[0, 0, 10, 100, 500, -1, i32::MIN, i32::MAX]),
            min_bytes: *self.pick(&[0, 1, 1, 100, i32::MAX, -1]),
            max_bytes: *self.pick(&[1 << 20, i32::MAX, 100, 0, -1]),
            isolation_level: *self.pick(&[0, 1, 2, -1]),
            session_id: *self.pick(&[0, 0, 0, 1, -1, i32::MAX]),
            session_epoch: *self.pick(&[-1, -1, 0, 0, 1, 2, i32::MAX]),
            topics,
            forgotten_topics_data,
            ..FetchRequest::default()
        };
        self.frame(version, &request)
    }

    fn list_offsets(&mut self, version: i16) -> Vec<u8> {
        let topics = self.rows(3, |this| {
            let partitions = this.rows(4, |this| ListOffsetsPartition {
                partition_index: this.index(),
                current_leader_epoch: this.epoch(),
                timestamp: *this.pick(&[-1, -2, -3, -4, -5, -6, 0, 1_700_000_000_000, i64::MAX, i64::MIN]),
            });
            ListOffsetsTopic { name: this.name(), partitions }
        });
        let request = ListOffsetsRequest {
            replica_id: *self.pick(&[-1, -1, -2, 1]),
            isolation_level: *self.pick(&[0, 1, 7]),
            topics,
            ..ListOffsetsRequest::default()
        };
        self.frame(version, &request)
    }

    fn epochs(&mut self, version: i16) -> Vec<u8> {
        let topics = self.rows(3, |this| {
            let partitions = this.rows(4, |this| OffsetForLeaderPartition {
                partition: this.index(),
                current_leader_epoch: this.epoch(),
                leader_epoch: this.epoch(),
            });
            OffsetForLeaderTopic { topic: this.name(), partitions }
        });
        self.frame(version, &OffsetForLeaderEpochRequest { topics, ..OffsetForLeaderEpochRequest::default() })
    }

    fn metadata(&mut self, version: i16) -> Vec<u8> {
        let by_id = version >= 12 && self.random.one_in(3);
        let topics = self.rows(4, |this| {
            let (name, topic_id) = this.topic();
            match by_id {
                true => MetadataRequestTopic { topic_id, name: None },
                false => MetadataRequestTopic { topic_id: TopicId::ZERO, name: Some(name) },
            }
        });
        let request = MetadataRequest {
            topics: if version >= 1 && self.random.one_in(4) { None } else { Some(topics) },
            allow_auto_topic_creation: self.random.one_in(2),
            include_topic_authorized_operations: self.random.one_in(2),
            ..MetadataRequest::default()
        };
        self.frame(version, &request)
    }

    fn create_topics(&mut self, version: i16) -> Vec<u8> {
        let topics = self.rows(2, |this| {
            let is_told = this.random.one_in(4);
            let assignments = this.rows(if is_told { 3 } else { 0 }, |this| CreatableReplicaAssignment {
                partition_index: this.index(),
                broker_ids: this.rows(2, |this| *this.pick(&[1, 2, 3, -1, i32::MAX])),
            });
            let configs = this.rows(2, |this| CreatableTopicConfig {
                name: this.pick(&["cleanup.policy", "flush.messages", "retention.ms", "segment.bytes", "nonsense"])[..]
                    .into(),
                value: match this.random.below(6) {
                    0 => None,
                    1 => Some("compact".into()),
                    2 => Some("-1".into()),
                    3 => Some("99999999999999999999".into()),
                    _ => Some("10000".into()),
                },
            });
            CreatableTopic {
                name: this.name(),
                num_partitions: if is_told { -1 } else { *this.pick(&[1, 2, 3, -1, 0, -2, i32::MAX, 100_001]) },
                replication_factor: if is_told { -1 } else { *this.pick(&[1, -1, 3, 0, i16::MAX]) },
                assignments,
                configs,
            }
        });
        let timeout_ms = *self.pick(&[30_000, 0, -1]);
        let validate_only = self.random.one_in(3);
        self.frame(version, &CreateTopicsRequest { topics, timeout_ms, validate_only })
    }

    fn delete_topics(&mut self, version: i16) -> Vec<u8> {
        // Rarely the lasting topics, or nothing would be left to ask about.
        let name = |this: &mut Self| -> Cow<'static, str> {
            if this.random.one_in(20) { this.name() } else { format!("passing-{}", this.random.below(8)).into() }
        };
        let topic_names = self.rows(2, name);
        let topics = self.rows(2, |this| match this.random.below(3) {
            0 => DeleteTopicState { name: None, topic_id: TopicId::new([7; 16]) },
            1 => DeleteTopicState { name: Some(name(this)), topic_id: TopicId::new([7; 16]) },
            _ => DeleteTopicState { name: Some(name(this)), topic_id: TopicId::ZERO },
        });
        self.frame(version, &DeleteTopicsRequest { topics, topic_names, timeout_ms: 1000 })
    }

    fn init_producer_id(&mut self, version: i16) -> Vec<u8> {
        let request = InitProducerIdRequest {
            transactional_id: self.random.one_in(3).then(|| self.pick(&["", "transaction"])[..].into()),
            transaction_timeout_ms: *self.pick(&[1000, 0, -1, i32::MAX]),
            producer_id: *self.pick(&[-1, -1, 5, i64::MAX]),
            producer_epoch: *self.pick(&[-1, -1, 5, i16::MAX]),
        };
        self.frame(version, &request)
    }

    fn describe_configs(&mut self, version: i16) -> Vec<u8> {
        let resources = self.rows(3, |this| {
            let resource_type = *this.pick(&[2, 2, 4, 4, 8, 16, 32]);
            let name = this.name();
            DescribeConfigsResource {
                // Now and then one that Kafka does not know: it fails the whole request.
                resource_type: if this.random.one_in(50) { -1 } else { resource_type },
                resource_name: match resource_type {
                    2 => name,
                    _ => this.pick(&["1", "2", "", "9", "-1", "x"])[..].into(),
                },
                configuration_keys: match this.random.one_in(2) {
                    true => None,
                    false => Some(this.rows(3, |this| this.pick(&["retention.ms", "log.dirs", ""])[..].into())),
                },
            }
        });
        let request = DescribeConfigsRequest {
            resources,
            include_synonyms: self.random.one_in(2),
            include_documentation: self.random.one_in(2),
        };
        self.frame(version, &request)
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.random.below(of.len())]
    }

    /// Few rows; now and then many.
    fn rows<T>(&mut self, usual_max: usize, mut row: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = match usual_max {
            0 => 0,
            _ if self.random.one_in(self.long_one_in) => self.random.below(self.rows_left + 1),
            _ => self.random.below(usual_max + 1),
        };
        let count = count.min(self.rows_left);
        self.rows_left -= count;
        (0..count).map(|_| row(self)).collect()
    }

    /// Name and id of one topic, or of none.
    fn topic(&mut self) -> (Cow<'static, str>, TopicId) {
        let name = self.name();
        let id = match self.random.below(8) {
            0 => TopicId::ZERO,
            1 => TopicId::new([9; 16]),
            _ => self.image.topic(&name).map_or(TopicId::ZERO, |topic| topic.id()),
        };
        (name, id)
    }

    fn name(&mut self) -> Cow<'static, str> {
        const ODD: [&str; 8] = ["", ".", "..", "a b", "ß", "__consumer_offsets", "__cluster_metadata", "__x"];
        match self.random.below(10) {
            0 => format!("passing-{}", self.random.below(8)).into(),
            1 => ODD[self.random.below(ODD.len())].into(),
            2 => "n".repeat(245 + self.random.below(10)).into(),
            _ => format!("lasting-{}", self.random.below(3)).into(),
        }
    }

    fn index(&mut self) -> i32 {
        *self.pick(&[0, 0, 0, 1, 1, 1, 2, 3, -1, i32::MAX, i32::MIN])
    }

    fn epoch(&mut self) -> i32 {
        *self.pick(&[-1, -1, -1, 0, 0, 1, i32::MAX, i32::MIN])
    }

    fn offset(&mut self) -> i64 {
        *self.pick(&[0, 0, 1, 2, 5, 20, 100, -1, i64::MAX, i64::MIN])
    }
}
