//! ElectLeaders (43): elects preferred or unclean leaders. Versions 0 to 2.
//!
//! 1 adds the kind of election, 2 is flexible.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Asks for elections.
    pub struct ElectLeadersRequest<'a> (ElectLeaders, 0..=2, flexible 2) {
        /// 0 preferred, 1 unclean.
        election_type: i8 [1..];
        /// Partitions by topic, null for all.
        topic_partitions: Option<Vec<TopicPartitions<'a>>> [0..] default(Some(Vec::new()));
        /// How long the answer may take.
        timeout_ms: i32 [0..] default(60_000);
    }

    /// Partitions of one topic.
    pub struct TopicPartitions<'a> {
        /// Name of the topic.
        topic: Cow<'a, str> [0..];
        /// The partitions.
        partitions: Vec<i32> [0..];
    }

    /// What became of the elections.
    pub struct ElectLeadersResponse<'a> (ElectLeaders, 0..=2, flexible 2) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [0..];
        /// 0, or what is wrong.
        error_code: i16 [1..];
        /// The results, by topic.
        replica_election_results: Vec<ReplicaElectionResult<'a>> [0..];
    }

    /// Results of one topic.
    pub struct ReplicaElectionResult<'a> {
        /// Name of the topic.
        topic: Cow<'a, str> [0..];
        /// The results, by partition.
        partition_result: Vec<PartitionResult<'a>> [0..];
    }

    /// Result of one partition.
    pub struct PartitionResult<'a> {
        /// Index of the partition.
        partition_id: i32 [0..];
        /// 0, or what is wrong.
        error_code: i16 [0..];
        /// What the error code does not say.
        error_message: Option<Cow<'a, str>> [0..] default(Some(Cow::Borrowed("")));
    }
}
