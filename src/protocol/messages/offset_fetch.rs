//! OffsetFetch (9): tells how far a group has read. Versions 1 to 9; 10, with topic ids, is unstable in Kafka 4.1 and
//! stays hidden.
//!
//! 2 takes null for all topics, 6 is flexible, 7 can wait for open transactions, 8 asks for many groups, 9 adds member
//! epochs.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Asks for offsets of a group: one in the message itself before version 8, a list from then on.
    pub struct OffsetFetchRequest<'a> (OffsetFetch, 1..=9, flexible 6) {
        /// Name of the group. Before version 8.
        group_id: Cow<'a, str> [0..=7];
        /// The topics, null for all. Before version 8.
        topics: Option<Vec<OffsetFetchRequestTopic<'a>>> [0..=7] null [2..=7] default(Some(Vec::new()));
        /// The groups.
        groups: Vec<OffsetFetchRequestGroup<'a>> [8..];
        /// Whether offsets of open transactions are an error.
        require_stable: bool [7..];
    }

    /// Partitions of one topic, before version 8.
    pub struct OffsetFetchRequestTopic<'a> {
        /// Name of the topic.
        name: Cow<'a, str> [0..=7];
        /// Indexes of the partitions.
        partition_indexes: Vec<i32> [0..=7];
    }

    /// One group.
    pub struct OffsetFetchRequestGroup<'a> {
        /// Name of the group.
        group_id: Cow<'a, str> [8..];
        /// Id of the member.
        member_id: Option<Cow<'a, str>> [9..];
        /// The member's epoch.
        member_epoch: i32 [9..] default(-1);
        /// The topics, null for all.
        topics: Option<Vec<OffsetFetchRequestTopics<'a>>> [8..] default(Some(Vec::new()));
    }

    /// Partitions of one topic.
    pub struct OffsetFetchRequestTopics<'a> {
        /// Name of the topic.
        name: Cow<'a, str> [8..];
        /// Indexes of the partitions.
        partition_indexes: Vec<i32> [8..];
    }

    /// The offsets: of one group before version 8, of many from then on.
    pub struct OffsetFetchResponse<'a> (OffsetFetch, 1..=9, flexible 6) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [3..];
        /// The topics. Before version 8.
        topics: Vec<OffsetFetchResponseTopic<'a>> [0..=7];
        /// 0, or what is wrong.
        error_code: i16 [2..=7];
        /// The groups.
        groups: Vec<OffsetFetchResponseGroup<'a>> [8..];
    }

    /// Offsets of one topic, before version 8.
    pub struct OffsetFetchResponseTopic<'a> {
        /// Name of the topic.
        name: Cow<'a, str> [0..=7];
        /// The partitions.
        partitions: Vec<OffsetFetchResponsePartition<'a>> [0..=7];
    }

    /// Offset of one partition, before version 8.
    pub struct OffsetFetchResponsePartition<'a> {
        /// Index of the partition.
        partition_index: i32 [0..=7];
        /// Next offset to read, -1 for none.
        committed_offset: i64 [0..=7];
        /// Leader epoch of the last record read, -1 for unknown.
        committed_leader_epoch: i32 [5..=7] default(-1);
        /// The client's own note.
        metadata: Option<Cow<'a, str>> [0..=7] default(Some(Cow::Borrowed("")));
        /// 0, or what is wrong.
        error_code: i16 [0..=7];
    }

    /// Offsets of one group.
    pub struct OffsetFetchResponseGroup<'a> {
        /// Name of the group.
        group_id: Cow<'a, str> [8..];
        /// The topics.
        topics: Vec<OffsetFetchResponseTopics<'a>> [8..];
        /// 0, or what is wrong.
        error_code: i16 [8..];
    }

    /// Offsets of one topic.
    pub struct OffsetFetchResponseTopics<'a> {
        /// Name of the topic.
        name: Cow<'a, str> [8..];
        /// The partitions.
        partitions: Vec<OffsetFetchResponsePartitions<'a>> [8..];
    }

    /// Offset of one partition.
    pub struct OffsetFetchResponsePartitions<'a> {
        /// Index of the partition.
        partition_index: i32 [8..];
        /// Next offset to read, -1 for none.
        committed_offset: i64 [8..];
        /// Leader epoch of the last record read, -1 for unknown.
        committed_leader_epoch: i32 [8..] default(-1);
        /// The client's own note.
        metadata: Option<Cow<'a, str>> [8..] default(Some(Cow::Borrowed("")));
        /// 0, or what is wrong.
        error_code: i16 [8..];
    }
}
