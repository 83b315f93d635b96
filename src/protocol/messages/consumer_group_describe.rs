//! ConsumerGroupDescribe (69): describes KIP-848 groups. Versions 0 to 1, flexible.
//!
//! 1 adds the kind of member.

use std::borrow::Cow;

use crate::protocol::table::message;
use crate::types::TopicId;

message! {
    /// Asks about groups.
    pub struct ConsumerGroupDescribeRequest<'a> (ConsumerGroupDescribe, 0..=1, flexible 0) {
        /// Names of the groups.
        group_ids: Vec<Cow<'a, str>> [0..];
        /// Whether to tell what the client may do.
        include_authorized_operations: bool [0..];
    }

    /// The groups.
    pub struct ConsumerGroupDescribeResponse<'a> (ConsumerGroupDescribe, 0..=1, flexible 0) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [0..];
        /// The groups.
        groups: Vec<DescribedGroup<'a>> [0..];
    }

    /// One group.
    pub struct DescribedGroup<'a> {
        /// 0, or what is wrong.
        error_code: i16 [0..];
        /// What the error code does not say.
        error_message: Option<Cow<'a, str>> [0..];
        /// Name of the group.
        group_id: Cow<'a, str> [0..];
        /// State of the group.
        group_state: Cow<'a, str> [0..];
        /// Epoch of the group.
        group_epoch: i32 [0..];
        /// Epoch of the assignment.
        assignment_epoch: i32 [0..];
        /// The assignor chosen.
        assignor_name: Cow<'a, str> [0..];
        /// The members.
        members: Vec<Member<'a>> [0..];
        /// Bits of what the client may do; the minimum if not asked.
        authorized_operations: i32 [0..] default(i32::MIN);
    }

    /// One member.
    pub struct Member<'a> {
        /// Id of the member.
        member_id: Cow<'a, str> [0..];
        /// Name of a static member.
        instance_id: Option<Cow<'a, str>> [0..];
        /// Rack of the member.
        rack_id: Option<Cow<'a, str>> [0..];
        /// The member's epoch.
        member_epoch: i32 [0..];
        /// Name the client gave itself.
        client_id: Cow<'a, str> [0..];
        /// Address of the client.
        client_host: Cow<'a, str> [0..];
        /// Names it is subscribed to.
        subscribed_topic_names: Vec<Cow<'a, str>> [0..];
        /// Regular expression it is subscribed to.
        subscribed_topic_regex: Option<Cow<'a, str>> [0..];
        /// What the member has to read.
        assignment: Assignment<'a> [0..];
        /// What the member shall read in the end.
        target_assignment: Assignment<'a> [0..];
        /// -1 unknown, 0 classic, 1 consumer.
        member_type: i8 [1..] default(-1);
    }

    /// What a member has to read.
    pub struct Assignment<'a> {
        /// Partitions by topic.
        topic_partitions: Vec<TopicPartitions<'a>> [0..];
    }

    /// Partitions of one topic.
    pub struct TopicPartitions<'a> {
        /// Id of the topic.
        topic_id: TopicId [0..];
        /// Name of the topic.
        topic_name: Cow<'a, str> [0..];
        /// The partitions.
        partitions: Vec<i32> [0..];
    }
}
