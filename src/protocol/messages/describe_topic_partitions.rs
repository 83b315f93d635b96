//! DescribeTopicPartitions (75): describes topics page by page. Version 0 only, flexible.

use std::borrow::Cow;

use crate::protocol::table::message;
use crate::types::TopicId;

message! {
    /// Asks for a page of partitions.
    pub struct DescribeTopicPartitionsRequest<'a> (DescribeTopicPartitions, 0..=0, flexible 0) {
        /// The topics, none for all.
        topics: Vec<TopicRequest<'a>> [0..];
        /// Partitions of a page at most.
        response_partition_limit: i32 [0..] default(2000);
        /// Where the page begins; null for the start.
        cursor: Option<Cursor<'a>> [0..];
    }

    /// One topic.
    pub struct TopicRequest<'a> {
        /// Name of the topic.
        name: Cow<'a, str> [0..];
    }

    /// Where a page begins.
    pub struct Cursor<'a> {
        /// Name of the topic.
        topic_name: Cow<'a, str> [0..];
        /// Index of the partition.
        partition_index: i32 [0..];
    }

    /// A page of partitions.
    pub struct DescribeTopicPartitionsResponse<'a> (DescribeTopicPartitions, 0..=0, flexible 0) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [0..];
        /// The topics.
        topics: Vec<DescribeTopicPartitionsResponseTopic<'a>> [0..];
        /// Where the next page begins; null at the end.
        next_cursor: Option<Cursor<'a>> [0..];
    }

    /// One topic.
    pub struct DescribeTopicPartitionsResponseTopic<'a> {
        /// 0, or what is wrong.
        error_code: i16 [0..];
        /// Name of the topic, null if it is unknown.
        name: Option<Cow<'a, str>> [0..] default(Some(Cow::Borrowed("")));
        /// Id of the topic.
        topic_id: TopicId [0..];
        /// Whether it belongs to the broker itself.
        is_internal: bool [0..];
        /// The partitions.
        partitions: Vec<DescribeTopicPartitionsResponsePartition> [0..];
        /// Bits of what the client may do to the topic.
        topic_authorized_operations: i32 [0..] default(i32::MIN);
    }

    /// One partition.
    pub struct DescribeTopicPartitionsResponsePartition {
        /// 0, or what is wrong.
        error_code: i16 [0..];
        /// Index of the partition.
        partition_index: i32 [0..];
        /// Node id of the leader, -1 for none.
        leader_id: i32 [0..];
        /// Epoch of its leadership.
        leader_epoch: i32 [0..] default(-1);
        /// Nodes that hold a replica.
        replica_nodes: Vec<i32> [0..];
        /// Those that are in sync.
        isr_nodes: Vec<i32> [0..];
        /// Those that may lead although not in sync.
        eligible_leader_replicas: Option<Vec<i32>> [0..];
        /// Those that might, as last known.
        last_known_elr: Option<Vec<i32>> [0..];
        /// Those that are down.
        offline_replicas: Vec<i32> [0..];
    }
}
