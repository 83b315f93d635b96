//! Metadata (3): brokers, topics, and who leads their partitions. Versions 0 to 13.
//!
//! In version 0 an empty list means all topics, from 1 on null does. 9 is flexible, 10 adds topic ids to both sides, 12
//! allows asking by id alone, 13 adds an error for the whole answer.

use std::borrow::Cow;

use crate::protocol::table::message;
use crate::types::TopicId;

message! {
    /// Asks for the cluster, and some or all topics.
    pub struct MetadataRequest<'a> (Metadata, 0..=13, flexible 9) {
        /// The topics; null for all. In version 0 empty for all, and null is written as empty.
        topics: Option<Vec<MetadataRequestTopic<'a>>> [0..] null [1..] default(Some(Vec::new()));
        /// Whether a missing topic may be created.
        allow_auto_topic_creation: bool [4..] default(true);
        /// Whether to tell what the client may do to the cluster.
        include_cluster_authorized_operations: bool [8..=10];
        /// Whether to tell what the client may do to the topics.
        include_topic_authorized_operations: bool [8..];
    }

    /// One topic, by name or by id.
    pub struct MetadataRequestTopic<'a> {
        /// Id of the topic, zero if asked by name.
        topic_id: TopicId [10..];
        /// Name of the topic, null if asked by id.
        name: Option<Cow<'a, str>> [0..] null [10..] default(Some(Cow::Borrowed("")));
    }

    /// The cluster as this node sees it.
    pub struct MetadataResponse<'a> (Metadata, 0..=13, flexible 9) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [3..];
        /// Nodes that are alive.
        brokers: Vec<MetadataResponseBroker<'a>> [0..];
        /// Id of the cluster.
        cluster_id: Option<Cow<'a, str>> [2..];
        /// A node that takes administrative requests, -1 for none.
        controller_id: i32 [1..] default(-1);
        /// The topics.
        topics: Vec<MetadataResponseTopic<'a>> [0..];
        /// Bits of what the client may do to the cluster; the minimum if not asked.
        cluster_authorized_operations: i32 [8..=10] default(i32::MIN);
        /// Error of the whole answer.
        error_code: i16 [13..];
    }

    /// Where a node listens.
    pub struct MetadataResponseBroker<'a> {
        /// Id of the node.
        node_id: i32 [0..];
        /// Host name or address.
        host: Cow<'a, str> [0..];
        /// Port.
        port: i32 [0..];
        /// Rack of the node.
        rack: Option<Cow<'a, str>> [1..];
    }

    /// One topic.
    pub struct MetadataResponseTopic<'a> {
        /// 0, or why there is nothing to tell.
        error_code: i16 [0..];
        /// Name of the topic, null if asked by an id that is unknown.
        name: Option<Cow<'a, str>> [0..] null [12..] default(Some(Cow::Borrowed("")));
        /// Id of the topic.
        topic_id: TopicId [10..];
        /// Whether it belongs to the broker itself.
        is_internal: bool [1..];
        /// Its partitions.
        partitions: Vec<MetadataResponsePartition> [0..];
        /// Bits of what the client may do to the topic; the minimum if not asked.
        topic_authorized_operations: i32 [8..] default(i32::MIN);
    }

    /// One partition.
    pub struct MetadataResponsePartition {
        /// 0, or why it cannot be used.
        error_code: i16 [0..];
        /// Index of the partition.
        partition_index: i32 [0..];
        /// Node id of the leader, -1 for none.
        leader_id: i32 [0..];
        /// Epoch of its leadership.
        leader_epoch: i32 [7..] default(-1);
        /// Nodes that hold a replica.
        replica_nodes: Vec<i32> [0..];
        /// Those that are in sync.
        isr_nodes: Vec<i32> [0..];
        /// Those that are down.
        offline_replicas: Vec<i32> [5..];
    }
}
