//! DescribeQuorum (55): describes the quorum of a metadata log. Versions 0 to 2, flexible.
//!
//! 1 adds times, 2 adds directories, nodes and error messages.

use std::borrow::Cow;

use crate::protocol::table::message;
use crate::types::TopicId;

message! {
    /// Asks about quorums.
    pub struct DescribeQuorumRequest<'a> (DescribeQuorum, 0..=2, flexible 0) {
        /// The topics.
        topics: Vec<DescribeQuorumRequestTopic<'a>> [0..];
    }

    /// Partitions of one topic.
    pub struct DescribeQuorumRequestTopic<'a> {
        /// Name of the topic.
        topic_name: Cow<'a, str> [0..];
        /// The partitions.
        partitions: Vec<DescribeQuorumRequestPartition> [0..];
    }

    /// One partition.
    pub struct DescribeQuorumRequestPartition {
        /// Index of the partition.
        partition_index: i32 [0..];
    }

    /// The quorums.
    pub struct DescribeQuorumResponse<'a> (DescribeQuorum, 0..=2, flexible 0) {
        /// 0, or what is wrong.
        error_code: i16 [0..];
        /// What the error code does not say.
        error_message: Option<Cow<'a, str>> [2..] default(Some(Cow::Borrowed("")));
        /// The topics.
        topics: Vec<TopicData<'a>> [0..];
        /// The nodes of the quorum.
        nodes: Vec<Node<'a>> [2..];
    }

    /// Quorums of one topic.
    pub struct TopicData<'a> {
        /// Name of the topic.
        topic_name: Cow<'a, str> [0..];
        /// The partitions.
        partitions: Vec<PartitionData<'a>> [0..];
    }

    /// Quorum of one partition.
    pub struct PartitionData<'a> {
        /// Index of the partition.
        partition_index: i32 [0..];
        /// 0, or what is wrong.
        error_code: i16 [0..];
        /// What the error code does not say.
        error_message: Option<Cow<'a, str>> [2..] default(Some(Cow::Borrowed("")));
        /// Node id of the leader, -1 for none.
        leader_id: i32 [0..];
        /// Epoch of its leadership.
        leader_epoch: i32 [0..];
        /// High watermark of the partition.
        high_watermark: i64 [0..];
        /// Replicas that vote.
        current_voters: Vec<ReplicaState> [0..];
        /// Replicas that only read.
        observers: Vec<ReplicaState> [0..];
    }

    /// How far a replica is.
    pub struct ReplicaState {
        /// Node id of the replica.
        replica_id: i32 [0..];
        /// Directory of the replica.
        replica_directory_id: TopicId [2..];
        /// Its log end offset, -1 for unknown.
        log_end_offset: i64 [0..];
        /// Time of the replica's last fetch, -1 for unknown.
        last_fetch_timestamp: i64 [1..] default(-1);
        /// Time when the replica was last level with the leader, -1 for unknown.
        last_caught_up_timestamp: i64 [1..] default(-1);
    }

    /// One node of the quorum.
    pub struct Node<'a> {
        /// Id of the node.
        node_id: i32 [2..];
        /// Where it listens.
        listeners: Vec<Listener<'a>> [2..];
    }

    /// Where a node listens.
    pub struct Listener<'a> {
        /// Name of the listener.
        name: Cow<'a, str> [2..];
        /// Host name or address.
        host: Cow<'a, str> [2..];
        /// Port.
        port: u16 [2..];
    }
}
