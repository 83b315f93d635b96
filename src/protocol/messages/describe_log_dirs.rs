//! DescribeLogDirs (35): tells what lies in which log directory. Versions 1 to 4.
//!
//! 2 is flexible, 3 adds an error for the whole answer, 4 the size of the volume.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Asks about log directories.
    pub struct DescribeLogDirsRequest<'a> (DescribeLogDirs, 1..=4, flexible 2) {
        /// The topics, null for all.
        topics: Option<Vec<DescribableLogDirTopic<'a>>> [0..] default(Some(Vec::new()));
    }

    /// Partitions of one topic.
    pub struct DescribableLogDirTopic<'a> {
        /// Name of the topic.
        topic: Cow<'a, str> [0..];
        /// The partitions.
        partitions: Vec<i32> [0..];
    }

    /// The log directories.
    pub struct DescribeLogDirsResponse<'a> (DescribeLogDirs, 1..=4, flexible 2) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [0..];
        /// 0, or what is wrong.
        error_code: i16 [3..];
        /// The results.
        results: Vec<DescribeLogDirsResult<'a>> [0..];
    }

    /// One log directory.
    pub struct DescribeLogDirsResult<'a> {
        /// 0, or what is wrong.
        error_code: i16 [0..];
        /// Path of the directory.
        log_dir: Cow<'a, str> [0..];
        /// The topics.
        topics: Vec<DescribeLogDirsTopic<'a>> [0..];
        /// Size of the volume, -1 for unknown.
        total_bytes: i64 [4..] default(-1);
        /// Free bytes of the volume, -1 for unknown.
        usable_bytes: i64 [4..] default(-1);
    }

    /// What a topic has in it.
    pub struct DescribeLogDirsTopic<'a> {
        /// Name of the topic.
        name: Cow<'a, str> [0..];
        /// The partitions.
        partitions: Vec<DescribeLogDirsPartition> [0..];
    }

    /// What a partition has in it.
    pub struct DescribeLogDirsPartition {
        /// Index of the partition.
        partition_index: i32 [0..];
        /// Bytes of its segments.
        partition_size: i64 [0..];
        /// How far a moving replica is behind.
        offset_lag: i64 [0..];
        /// Whether it is a replica that moves in.
        is_future_key: bool [0..];
    }
}
