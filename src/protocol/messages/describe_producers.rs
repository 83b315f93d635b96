//! DescribeProducers (61): tells which producers write to partitions. Version 0 only, flexible.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Asks about producers.
    pub struct DescribeProducersRequest<'a> (DescribeProducers, 0..=0, flexible 0) {
        /// The topics.
        topics: Vec<TopicRequest<'a>> [0..];
    }

    /// One topic.
    pub struct TopicRequest<'a> {
        /// Name of the topic.
        name: Cow<'a, str> [0..];
        /// Indexes of the partitions.
        partition_indexes: Vec<i32> [0..];
    }

    /// The producers.
    pub struct DescribeProducersResponse<'a> (DescribeProducers, 0..=0, flexible 0) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [0..];
        /// The topics.
        topics: Vec<TopicResponse<'a>> [0..];
    }

    /// Producers of one topic.
    pub struct TopicResponse<'a> {
        /// Name of the topic.
        name: Cow<'a, str> [0..];
        /// The partitions.
        partitions: Vec<PartitionResponse<'a>> [0..];
    }

    /// Producers of one partition.
    pub struct PartitionResponse<'a> {
        /// Index of the partition.
        partition_index: i32 [0..];
        /// 0, or what is wrong.
        error_code: i16 [0..];
        /// What the error code does not say.
        error_message: Option<Cow<'a, str>> [0..];
        /// The producers.
        active_producers: Vec<ProducerState> [0..];
    }

    /// One producer.
    pub struct ProducerState {
        /// Id of the producer.
        producer_id: i64 [0..];
        /// Its epoch.
        producer_epoch: i32 [0..];
        /// Its last sequence, -1 for none.
        last_sequence: i32 [0..] default(-1);
        /// Time of its last batch, -1 for none.
        last_timestamp: i64 [0..] default(-1);
        /// Epoch of its transaction coordinator.
        coordinator_epoch: i32 [0..];
        /// First offset of its open transaction, -1 for none.
        current_txn_start_offset: i64 [0..] default(-1);
    }
}
