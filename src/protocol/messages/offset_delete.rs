//! OffsetDelete (47): deletes offsets of a group. Version 0 only, never flexible.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Asks for offsets to be deleted.
    pub struct OffsetDeleteRequest<'a> (OffsetDelete, 0..=0, flexible i16::MAX) {
        /// Name of the group.
        group_id: Cow<'a, str> [0..];
        /// The topics.
        topics: Vec<OffsetDeleteRequestTopic<'a>> [0..];
    }

    /// Partitions of one topic.
    pub struct OffsetDeleteRequestTopic<'a> {
        /// Name of the topic.
        name: Cow<'a, str> [0..];
        /// The partitions.
        partitions: Vec<OffsetDeleteRequestPartition> [0..];
    }

    /// One partition.
    pub struct OffsetDeleteRequestPartition {
        /// Index of the partition.
        partition_index: i32 [0..];
    }

    /// What became of the offsets.
    pub struct OffsetDeleteResponse<'a> (OffsetDelete, 0..=0, flexible i16::MAX) {
        /// 0, or what is wrong.
        error_code: i16 [0..];
        /// How long the client was throttled.
        throttle_time_ms: i32 [0..];
        /// The topics.
        topics: Vec<OffsetDeleteResponseTopic<'a>> [0..];
    }

    /// Results of one topic.
    pub struct OffsetDeleteResponseTopic<'a> {
        /// Name of the topic.
        name: Cow<'a, str> [0..];
        /// The partitions.
        partitions: Vec<OffsetDeleteResponsePartition> [0..];
    }

    /// Result of one partition.
    pub struct OffsetDeleteResponsePartition {
        /// Index of the partition.
        partition_index: i32 [0..];
        /// 0, or what is wrong.
        error_code: i16 [0..];
    }
}
