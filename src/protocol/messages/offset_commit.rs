//! OffsetCommit (8): keeps how far a group has read. Versions 2 to 9; 10, with topic ids, is unstable in Kafka 4.1 and
//! stays hidden.
//!
//! 2 to 4 carry a retention time, 6 adds leader epochs, 7 static members, 8 is flexible, 9 answers errors of member
//! epochs.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Offsets to keep for a group.
    pub struct OffsetCommitRequest<'a> (OffsetCommit, 2..=9, flexible 8) {
        /// Name of the group.
        group_id: Cow<'a, str> [0..];
        /// Generation of a classic group or epoch of the member, -1 from outside the group.
        generation_id_or_member_epoch: i32 [1..] default(-1);
        /// Id of the member.
        member_id: Cow<'a, str> [1..];
        /// Name of a static member, null for a dynamic one.
        group_instance_id: Option<Cow<'a, str>> [7..];
        /// How long to keep the offsets, -1 for the default of the broker.
        retention_time_ms: i64 [2..=4] default(-1);
        /// The topics.
        topics: Vec<OffsetCommitRequestTopic<'a>> [0..];
    }

    /// Offsets of one topic.
    pub struct OffsetCommitRequestTopic<'a> {
        /// Name of the topic.
        name: Cow<'a, str> [0..];
        /// The partitions.
        partitions: Vec<OffsetCommitRequestPartition<'a>> [0..];
    }

    /// Offset of one partition.
    pub struct OffsetCommitRequestPartition<'a> {
        /// Index of the partition.
        partition_index: i32 [0..];
        /// Next offset to read, -1 for none.
        committed_offset: i64 [0..];
        /// Leader epoch of the last record read, -1 for unknown.
        committed_leader_epoch: i32 [6..] default(-1);
        /// The client's own note.
        committed_metadata: Option<Cow<'a, str>> [0..] default(Some(Cow::Borrowed("")));
    }

    /// What became of the offsets.
    pub struct OffsetCommitResponse<'a> (OffsetCommit, 2..=9, flexible 8) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [3..];
        /// The topics.
        topics: Vec<OffsetCommitResponseTopic<'a>> [0..];
    }

    /// Results of one topic.
    pub struct OffsetCommitResponseTopic<'a> {
        /// Name of the topic.
        name: Cow<'a, str> [0..];
        /// The partitions.
        partitions: Vec<OffsetCommitResponsePartition> [0..];
    }

    /// Result of one partition.
    pub struct OffsetCommitResponsePartition {
        /// Index of the partition.
        partition_index: i32 [0..];
        /// 0, or what is wrong.
        error_code: i16 [0..];
    }
}
