//! OffsetForLeaderEpoch (23): tells where an epoch of a log ends, so that a reader finds where logs part. Versions 2 to 4.
//!
//! 3 adds the replica id, 4 is flexible.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Asks for the ends of epochs.
    pub struct OffsetForLeaderEpochRequest<'a> (OffsetForLeaderEpoch, 2..=4, flexible 4) {
        /// Node id of a follower, -1 from consumers, -2 if the version cannot say.
        replica_id: i32 [3..] default(-2);
        /// The partitions, by topic.
        topics: Vec<OffsetForLeaderTopic<'a>> [0..];
    }

    /// Partitions of one topic.
    pub struct OffsetForLeaderTopic<'a> {
        /// Name of the topic.
        topic: Cow<'a, str> [0..];
        /// The partitions.
        partitions: Vec<OffsetForLeaderPartition> [0..];
    }

    /// One partition and the epoch to look for.
    pub struct OffsetForLeaderPartition {
        /// Index of the partition.
        partition: i32 [0..];
        /// Leader epoch the client knows, -1 for no check.
        current_leader_epoch: i32 [2..] default(-1);
        /// The epoch whose end is asked for.
        leader_epoch: i32 [0..];
    }

    /// The ends of the epochs.
    pub struct OffsetForLeaderEpochResponse<'a> (OffsetForLeaderEpoch, 2..=4, flexible 4) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [2..];
        /// The ends, by topic.
        topics: Vec<OffsetForLeaderTopicResult<'a>> [0..];
    }

    /// Ends of one topic.
    pub struct OffsetForLeaderTopicResult<'a> {
        /// Name of the topic.
        topic: Cow<'a, str> [0..];
        /// The ends, by partition.
        partitions: Vec<EpochEndOffset> [0..];
    }

    /// End of an epoch in one partition; -1 for none.
    pub struct EpochEndOffset {
        /// 0, or why there is no answer.
        error_code: i16 [0..];
        /// Index of the partition.
        partition: i32 [0..];
        /// The largest epoch known that is not above the one asked for.
        leader_epoch: i32 [1..] default(-1);
        /// Offset after its last record.
        end_offset: i64 [0..] default(-1);
    }
}
