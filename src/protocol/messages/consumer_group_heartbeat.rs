//! ConsumerGroupHeartbeat (68): is all that a member of a KIP-848 group ever sends. Versions 0 to 1, flexible.
//!
//! 1 adds subscriptions by regular expression, and lets the client choose its member id.

use std::borrow::Cow;

use crate::protocol::table::message;
use crate::types::TopicId;

message! {
    /// What a member has to say; null and -1 mean unchanged.
    pub struct ConsumerGroupHeartbeatRequest<'a> (ConsumerGroupHeartbeat, 0..=1, flexible 0) {
        /// Name of the group.
        group_id: Cow<'a, str> [0..];
        /// Id of the member.
        member_id: Cow<'a, str> [0..];
        /// Epoch of the member; 0 joins, -1 leaves, -2 leaves for a while.
        member_epoch: i32 [0..];
        /// Name of a static member.
        instance_id: Option<Cow<'a, str>> [0..];
        /// Rack of the member.
        rack_id: Option<Cow<'a, str>> [0..];
        /// How long a rebalance may wait for the member.
        rebalance_timeout_ms: i32 [0..] default(-1);
        /// Names it is subscribed to.
        subscribed_topic_names: Option<Vec<Cow<'a, str>>> [0..];
        /// Regular expression it is subscribed to.
        subscribed_topic_regex: Option<Cow<'a, str>> [1..];
        /// Assignor it prefers.
        server_assignor: Option<Cow<'a, str>> [0..];
        /// What the member reads now.
        topic_partitions: Option<Vec<TopicPartitions>> [0..];
    }

    /// Partitions of one topic.
    pub struct TopicPartitions {
        /// Id of the topic.
        topic_id: TopicId [0..];
        /// The partitions.
        partitions: Vec<i32> [0..];
    }

    /// What a member has to know.
    pub struct ConsumerGroupHeartbeatResponse<'a> (ConsumerGroupHeartbeat, 0..=1, flexible 0) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [0..];
        /// 0, or what is wrong.
        error_code: i16 [0..];
        /// What the error code does not say.
        error_message: Option<Cow<'a, str>> [0..];
        /// Id of the member.
        member_id: Option<Cow<'a, str>> [0..];
        /// The member's epoch.
        member_epoch: i32 [0..];
        /// When to send the next heartbeat.
        heartbeat_interval_ms: i32 [0..];
        /// What the member has to read; null if unchanged.
        assignment: Option<Assignment> [0..];
    }

    /// What a member has to read.
    pub struct Assignment {
        /// Partitions by topic.
        topic_partitions: Vec<TopicPartitions> [0..];
    }
}
