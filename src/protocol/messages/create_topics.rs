//! CreateTopics (19). Versions 2 to 7.
//!
//! 4 lets the broker choose partitions and replication, 5 is flexible and returns configurations, 7 returns topic ids.

use std::borrow::Cow;

use crate::protocol::table::message;
use crate::types::TopicId;

message! {
    /// Asks for topics to be created.
    pub struct CreateTopicsRequest<'a> (CreateTopics, 2..=7, flexible 5) {
        /// The topics.
        topics: Vec<CreatableTopic<'a>> [0..];
        /// How long the answer may take.
        timeout_ms: i32 [0..] default(60_000);
        /// Whether to check only.
        validate_only: bool [1..];
    }

    /// One topic to create.
    pub struct CreatableTopic<'a> {
        /// Its name.
        name: Cow<'a, str> [0..];
        /// Partitions, or -1 for the broker's choice or with assignments.
        num_partitions: i32 [0..];
        /// Replicas of each partition, or -1 likewise.
        replication_factor: i16 [0..];
        /// Nodes of each partition, if the client chooses.
        assignments: Vec<CreatableReplicaAssignment> [0..];
        /// Its configuration.
        configs: Vec<CreatableTopicConfig<'a>> [0..];
    }

    /// Nodes of one partition.
    pub struct CreatableReplicaAssignment {
        /// Index of the partition.
        partition_index: i32 [0..];
        /// The nodes, preferred leader first.
        broker_ids: Vec<i32> [0..];
    }

    /// One configuration to set.
    pub struct CreatableTopicConfig<'a> {
        /// Its key.
        name: Cow<'a, str> [0..];
        /// Its value.
        value: Option<Cow<'a, str>> [0..] default(Some(Cow::Borrowed("")));
    }

    /// What became of the topics.
    pub struct CreateTopicsResponse<'a> (CreateTopics, 2..=7, flexible 5) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [2..];
        /// The results.
        topics: Vec<CreatableTopicResult<'a>> [0..];
    }

    /// What became of one topic.
    pub struct CreatableTopicResult<'a> {
        /// Its name.
        name: Cow<'a, str> [0..];
        /// Its id.
        topic_id: TopicId [7..];
        /// 0, or why it was not created.
        error_code: i16 [0..];
        /// What the error code does not say.
        error_message: Option<Cow<'a, str>> [1..] default(Some(Cow::Borrowed("")));
        /// Why `configs` is missing, if the client may not see it.
        topic_config_error_code: i16 [5..] tag 0;
        /// Its partitions.
        num_partitions: i32 [5..] default(-1);
        /// Replicas of each partition.
        replication_factor: i16 [5..] default(-1);
        /// Its configuration; null if the client may not see it.
        configs: Option<Vec<CreatableTopicConfigs<'a>>> [5..] default(Some(Vec::new()));
    }

    /// One configuration of a created topic.
    pub struct CreatableTopicConfigs<'a> {
        /// Its key.
        name: Cow<'a, str> [5..];
        /// Its value.
        value: Option<Cow<'a, str>> [5..] default(Some(Cow::Borrowed("")));
        /// Whether it cannot be changed.
        read_only: bool [5..];
        /// Where the value comes from, as Kafka's `DescribeConfigsResponse.ConfigSource`.
        config_source: i8 [5..] default(-1);
        /// Whether the value is a secret.
        is_sensitive: bool [5..];
    }
}
