//! SyncGroup (14): hands out the assignment that the leader of a classic group made. Versions 0 to 5.
//!
//! 3 adds static members, 4 is flexible, 5 checks protocol type and name.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// The leader's assignment, or from other members a request for theirs.
    pub struct SyncGroupRequest<'a> (SyncGroup, 0..=5, flexible 4) {
        /// Name of the group.
        group_id: Cow<'a, str> [0..];
        /// Generation of the group.
        generation_id: i32 [0..];
        /// Id of the member.
        member_id: Cow<'a, str> [0..];
        /// Name of a static member, null for a dynamic one.
        group_instance_id: Option<Cow<'a, str>> [3..];
        /// What kind of members the group has, such as `consumer`.
        protocol_type: Option<Cow<'a, str>> [5..];
        /// The protocol chosen.
        protocol_name: Option<Cow<'a, str>> [5..];
        /// Assignments by member, from the leader only.
        assignments: Vec<SyncGroupRequestAssignment<'a>> [0..];
    }

    /// Assignment of one member.
    pub struct SyncGroupRequestAssignment<'a> {
        /// Id of the member.
        member_id: Cow<'a, str> [0..];
        /// What it has to read.
        assignment: Cow<'a, [u8]> [0..];
    }

    /// What the member has to read.
    pub struct SyncGroupResponse<'a> (SyncGroup, 0..=5, flexible 4) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [1..];
        /// 0, or what is wrong.
        error_code: i16 [0..];
        /// What kind of members the group has, such as `consumer`.
        protocol_type: Option<Cow<'a, str>> [5..];
        /// The protocol chosen.
        protocol_name: Option<Cow<'a, str>> [5..];
        /// What the member has to read.
        assignment: Cow<'a, [u8]> [0..];
    }
}
