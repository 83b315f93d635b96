//! DeleteRecords (21): moves log start offsets. Versions 0 to 2.
//!
//! 2 is flexible.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Asks for records to be deleted.
    pub struct DeleteRecordsRequest<'a> (DeleteRecords, 0..=2, flexible 2) {
        /// The topics.
        topics: Vec<DeleteRecordsTopic<'a>> [0..];
        /// How long the answer may take.
        timeout_ms: i32 [0..];
    }

    /// Partitions of one topic.
    pub struct DeleteRecordsTopic<'a> {
        /// Name of the topic.
        name: Cow<'a, str> [0..];
        /// The partitions.
        partitions: Vec<DeleteRecordsPartition> [0..];
    }

    /// One partition and the offset to keep.
    pub struct DeleteRecordsPartition {
        /// Index of the partition.
        partition_index: i32 [0..];
        /// New log start offset, -1 for the high watermark.
        offset: i64 [0..];
    }

    /// What became of the records.
    pub struct DeleteRecordsResponse<'a> (DeleteRecords, 0..=2, flexible 2) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [0..];
        /// The topics.
        topics: Vec<DeleteRecordsTopicResult<'a>> [0..];
    }

    /// Results of one topic.
    pub struct DeleteRecordsTopicResult<'a> {
        /// Name of the topic.
        name: Cow<'a, str> [0..];
        /// The partitions.
        partitions: Vec<DeleteRecordsPartitionResult> [0..];
    }

    /// Result of one partition.
    pub struct DeleteRecordsPartitionResult {
        /// Index of the partition.
        partition_index: i32 [0..];
        /// Log start offset now, -1 with an error.
        low_watermark: i64 [0..];
        /// 0, or what is wrong.
        error_code: i16 [0..];
    }
}
