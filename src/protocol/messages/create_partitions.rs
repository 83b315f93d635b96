//! CreatePartitions (37): adds partitions to topics. Versions 0 to 3.
//!
//! 2 is flexible, 3 may answer that a quota is used up.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Asks for more partitions.
    pub struct CreatePartitionsRequest<'a> (CreatePartitions, 0..=3, flexible 2) {
        /// The topics.
        topics: Vec<CreatePartitionsTopic<'a>> [0..];
        /// How long the answer may take.
        timeout_ms: i32 [0..];
        /// Whether to check only.
        validate_only: bool [0..];
    }

    /// One topic.
    pub struct CreatePartitionsTopic<'a> {
        /// Name of the topic.
        name: Cow<'a, str> [0..];
        /// Partitions there shall be in all.
        count: i32 [0..];
        /// Nodes of the new partitions, null for the choice of the broker.
        assignments: Option<Vec<CreatePartitionsAssignment>> [0..] default(Some(Vec::new()));
    }

    /// Nodes of one new partition.
    pub struct CreatePartitionsAssignment {
        /// The nodes, preferred leader first.
        broker_ids: Vec<i32> [0..];
    }

    /// What became of the topics.
    pub struct CreatePartitionsResponse<'a> (CreatePartitions, 0..=3, flexible 2) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [0..];
        /// The results.
        results: Vec<CreatePartitionsTopicResult<'a>> [0..];
    }

    /// What became of one topic.
    pub struct CreatePartitionsTopicResult<'a> {
        /// Name of the topic.
        name: Cow<'a, str> [0..];
        /// 0, or what is wrong.
        error_code: i16 [0..];
        /// What the error code does not say.
        error_message: Option<Cow<'a, str>> [0..];
    }
}
