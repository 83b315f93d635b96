//! ListPartitionReassignments (46): lists partitions on the move. Version 0 only, flexible.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Asks for partitions on the move.
    pub struct ListPartitionReassignmentsRequest<'a> (ListPartitionReassignments, 0..=0, flexible 0) {
        /// How long the answer may take.
        timeout_ms: i32 [0..] default(60_000);
        /// The topics, null for all.
        topics: Option<Vec<ListPartitionReassignmentsTopics<'a>>> [0..];
    }

    /// Partitions of one topic.
    pub struct ListPartitionReassignmentsTopics<'a> {
        /// Name of the topic.
        name: Cow<'a, str> [0..];
        /// Indexes of the partitions.
        partition_indexes: Vec<i32> [0..];
    }

    /// The partitions on the move.
    pub struct ListPartitionReassignmentsResponse<'a> (ListPartitionReassignments, 0..=0, flexible 0) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [0..];
        /// 0, or what is wrong.
        error_code: i16 [0..];
        /// What the error code does not say.
        error_message: Option<Cow<'a, str>> [0..] default(Some(Cow::Borrowed("")));
        /// The topics.
        topics: Vec<OngoingTopicReassignment<'a>> [0..];
    }

    /// Partitions of one topic.
    pub struct OngoingTopicReassignment<'a> {
        /// Name of the topic.
        name: Cow<'a, str> [0..];
        /// The partitions.
        partitions: Vec<OngoingPartitionReassignment> [0..];
    }

    /// One partition on the move.
    pub struct OngoingPartitionReassignment {
        /// Index of the partition.
        partition_index: i32 [0..];
        /// Nodes that hold a replica.
        replicas: Vec<i32> [0..];
        /// Those that move in.
        adding_replicas: Vec<i32> [0..];
        /// Those that move out.
        removing_replicas: Vec<i32> [0..];
    }
}
