//! Produce (0): appends record batches. Versions 3 to 13 are spoken; 0 to 2 are advertised all the same (KAFKA-18659).
//!
//! 7 allows zstd, 8 adds errors per record, 9 is flexible, 10 adds the current leader, 13 replaces names by topic ids.

use std::borrow::Cow;

use crate::protocol::table::message;
use crate::protocol::wire::Records;
use crate::types::TopicId;

message! {
    /// Asks a leader to append batches to its partitions.
    pub struct ProduceRequest<'a> (Produce, 3..=13, flexible 9) {
        /// Set by transactional producers only.
        transactional_id: Option<Cow<'a, str>> [3..];
        /// 0: no answer, 1: once the leader has it, -1: once it is as durable as the topic demands.
        acks: i16 [0..];
        /// How long -1 may wait for other replicas.
        timeout_ms: i32 [0..];
        /// The batches, by topic.
        topic_data: Vec<TopicProduceData<'a>> [0..];
    }

    /// Batches for one topic.
    pub struct TopicProduceData<'a> {
        /// Name of the topic.
        name: Cow<'a, str> [0..=12];
        /// Id of the topic.
        topic_id: TopicId [13..];
        /// The batches, by partition.
        partition_data: Vec<PartitionProduceData<'a>> [0..];
    }

    /// Batches for one partition.
    pub struct PartitionProduceData<'a> {
        /// Index of the partition.
        index: i32 [0..];
        /// Exactly one batch, if the client is well.
        records: Records<'a> [0..];
    }

    /// What became of the batches.
    pub struct ProduceResponse<'a> (Produce, 3..=13, flexible 9) {
        /// The results, by topic.
        responses: Vec<TopicProduceResponse<'a>> [0..];
        /// How long the client was throttled.
        throttle_time_ms: i32 [1..];
        /// Where the leaders named in `current_leader` listen.
        node_endpoints: Vec<NodeEndpoint<'a>> [10..] tag 0;
    }

    /// Results of one topic.
    pub struct TopicProduceResponse<'a> {
        /// Name of the topic.
        name: Cow<'a, str> [0..=12];
        /// Id of the topic.
        topic_id: TopicId [13..];
        /// The results, by partition.
        partition_responses: Vec<PartitionProduceResponse<'a>> [0..];
    }

    /// Result of one partition.
    pub struct PartitionProduceResponse<'a> {
        /// Index of the partition.
        index: i32 [0..];
        /// 0, or why nothing was appended.
        error_code: i16 [0..];
        /// Offset of the first record appended.
        base_offset: i64 [0..];
        /// The broker's time, if the topic stamps records with it, else -1.
        log_append_time_ms: i64 [2..] default(-1);
        /// Log start offset of the partition.
        log_start_offset: i64 [5..] default(-1);
        /// The records that made the batch invalid.
        record_errors: Vec<BatchIndexAndErrorMessage<'a>> [8..];
        /// What the error code does not say.
        error_message: Option<Cow<'a, str>> [8..];
        /// The leader, for a client that asked somebody else.
        current_leader: LeaderIdAndEpoch [10..] tag 0;
    }

    /// A record that made its batch invalid.
    pub struct BatchIndexAndErrorMessage<'a> {
        /// Index of the record in the batch.
        batch_index: i32 [8..];
        /// What is wrong with it.
        batch_index_error_message: Option<Cow<'a, str>> [8..];
    }

    /// A partition's leader; -1 means unknown.
    pub struct LeaderIdAndEpoch {
        /// Node id of the leader.
        leader_id: i32 [10..] default(-1);
        /// Epoch of its leadership.
        leader_epoch: i32 [10..] default(-1);
    }

    /// Where a node listens.
    pub struct NodeEndpoint<'a> {
        /// Id of the node.
        node_id: i32 [10..];
        /// Host name or address.
        host: Cow<'a, str> [10..];
        /// Port.
        port: i32 [10..];
        /// Rack of the node.
        rack: Option<Cow<'a, str>> [10..];
    }
}
