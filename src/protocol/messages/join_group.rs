//! JoinGroup (11): brings a member into a classic group. Versions 0 to 9.
//!
//! 1 adds the rebalance timeout, 4 asks new members to come back with an id, 5 adds static members, 6 is flexible, 7
//! returns the protocol type, 8 takes a reason, 9 may skip the assignment.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Asks to become or stay a member.
    pub struct JoinGroupRequest<'a> (JoinGroup, 0..=9, flexible 6) {
        /// Name of the group.
        group_id: Cow<'a, str> [0..];
        /// Silence after which the member is gone.
        session_timeout_ms: i32 [0..];
        /// How long a rebalance may wait for the member.
        rebalance_timeout_ms: i32 [1..] default(-1);
        /// Id of the member, empty for a new one.
        member_id: Cow<'a, str> [0..];
        /// Name of a static member, null for a dynamic one.
        group_instance_id: Option<Cow<'a, str>> [5..];
        /// What kind of members the group has, such as `consumer`.
        protocol_type: Cow<'a, str> [0..];
        /// Protocols the member can follow, preferred first.
        protocols: Vec<JoinGroupRequestProtocol<'a>> [0..];
        /// Why, for the log.
        reason: Option<Cow<'a, str>> [8..];
    }

    /// A protocol the member can follow.
    pub struct JoinGroupRequestProtocol<'a> {
        /// Name of the protocol.
        name: Cow<'a, str> [0..];
        /// What the leader must know, such as subscriptions.
        metadata: Cow<'a, [u8]> [0..];
    }

    /// Membership of a new generation.
    pub struct JoinGroupResponse<'a> (JoinGroup, 0..=9, flexible 6) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [2..];
        /// 0, or what is wrong.
        error_code: i16 [0..];
        /// Generation of the group.
        generation_id: i32 [0..] default(-1);
        /// What kind of members the group has, such as `consumer`.
        protocol_type: Option<Cow<'a, str>> [7..];
        /// The protocol chosen.
        protocol_name: Option<Cow<'a, str>> [0..] null [7..] default(Some(Cow::Borrowed("")));
        /// Member id of the leader.
        leader: Cow<'a, str> [0..];
        /// Whether the leader need not assign anew.
        skip_assignment: bool [9..];
        /// Id of the member.
        member_id: Cow<'a, str> [0..];
        /// All members, for the leader only.
        members: Vec<JoinGroupResponseMember<'a>> [0..];
    }

    /// A member, as the leader sees it.
    pub struct JoinGroupResponseMember<'a> {
        /// Id of the member.
        member_id: Cow<'a, str> [0..];
        /// Name of a static member, null for a dynamic one.
        group_instance_id: Option<Cow<'a, str>> [5..];
        /// What it told about its protocol.
        metadata: Cow<'a, [u8]> [0..];
    }
}
