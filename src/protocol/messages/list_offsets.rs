//! ListOffsets (2): looks up offsets by time, or the ends of a log. Versions 1 to 10.
//!
//! 2 adds the isolation level, 4 leader epochs, 6 is flexible, 7 to 9 add special timestamps, 10 a timeout.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Asks for one offset of each partition.
    pub struct ListOffsetsRequest<'a> (ListOffsets, 1..=10, flexible 6) {
        /// Node id of a follower, -1 from consumers.
        replica_id: i32 [0..];
        /// 0: read_uncommitted, 1: read_committed.
        isolation_level: i8 [2..];
        /// The partitions, by topic.
        topics: Vec<ListOffsetsTopic<'a>> [0..];
        /// How long the answer may take.
        timeout_ms: i32 [10..];
    }

    /// Partitions of one topic.
    pub struct ListOffsetsTopic<'a> {
        /// Name of the topic.
        name: Cow<'a, str> [0..];
        /// The partitions.
        partitions: Vec<ListOffsetsPartition> [0..];
    }

    /// One partition and the time to look for.
    pub struct ListOffsetsPartition {
        /// Index of the partition.
        partition_index: i32 [0..];
        /// Leader epoch the client knows, -1 for no check.
        current_leader_epoch: i32 [4..] default(-1);
        /// Milliseconds, or -1 latest, -2 earliest, -3 greatest timestamp, -4 earliest local, -5 latest tiered.
        timestamp: i64 [0..];
    }

    /// The offsets found.
    pub struct ListOffsetsResponse<'a> (ListOffsets, 1..=10, flexible 6) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [2..];
        /// The offsets, by topic.
        topics: Vec<ListOffsetsTopicResponse<'a>> [0..];
    }

    /// Offsets of one topic.
    pub struct ListOffsetsTopicResponse<'a> {
        /// Name of the topic.
        name: Cow<'a, str> [0..];
        /// The offsets, by partition.
        partitions: Vec<ListOffsetsPartitionResponse> [0..];
    }

    /// Offset of one partition.
    pub struct ListOffsetsPartitionResponse {
        /// Index of the partition.
        partition_index: i32 [0..];
        /// 0, or why there is no answer.
        error_code: i16 [0..];
        /// Timestamp of the record found, -1 if none or not looked up by time.
        timestamp: i64 [1..] default(-1);
        /// The offset, -1 if none.
        offset: i64 [1..] default(-1);
        /// Leader epoch of the record at that offset, -1 if unknown.
        leader_epoch: i32 [4..] default(-1);
    }
}
