//! LeaveGroup (13): takes members out of a classic group. Versions 0 to 5.
//!
//! 3 takes many members, 4 is flexible, 5 takes a reason.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Takes members out of a group.
    pub struct LeaveGroupRequest<'a> (LeaveGroup, 0..=5, flexible 4) {
        /// Name of the group.
        group_id: Cow<'a, str> [0..];
        /// Id of the member. Before version 3.
        member_id: Cow<'a, str> [0..=2];
        /// The members.
        members: Vec<MemberIdentity<'a>> [3..];
    }

    /// A member that leaves.
    pub struct MemberIdentity<'a> {
        /// Id of the member.
        member_id: Cow<'a, str> [3..];
        /// Name of a static member, null for a dynamic one.
        group_instance_id: Option<Cow<'a, str>> [3..];
        /// Why, for the log.
        reason: Option<Cow<'a, str>> [5..];
    }

    /// What became of the members.
    pub struct LeaveGroupResponse<'a> (LeaveGroup, 0..=5, flexible 4) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [1..];
        /// 0, or what is wrong.
        error_code: i16 [0..];
        /// The members.
        members: Vec<MemberResponse<'a>> [3..];
    }

    /// What became of one member.
    pub struct MemberResponse<'a> {
        /// Id of the member.
        member_id: Cow<'a, str> [3..];
        /// Name of a static member, null for a dynamic one.
        group_instance_id: Option<Cow<'a, str>> [3..] default(Some(Cow::Borrowed("")));
        /// 0, or why it is still a member.
        error_code: i16 [3..];
    }
}
