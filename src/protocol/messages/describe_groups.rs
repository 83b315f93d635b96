//! DescribeGroups (15): describes classic groups. Versions 0 to 6.
//!
//! 3 can tell authorised operations, 4 adds static members, 5 is flexible, 6 says GROUP_ID_NOT_FOUND and why.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Asks about groups.
    pub struct DescribeGroupsRequest<'a> (DescribeGroups, 0..=6, flexible 5) {
        /// The groups.
        groups: Vec<Cow<'a, str>> [0..];
        /// Whether to tell what the client may do.
        include_authorized_operations: bool [3..];
    }

    /// The groups.
    pub struct DescribeGroupsResponse<'a> (DescribeGroups, 0..=6, flexible 5) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [1..];
        /// The groups.
        groups: Vec<DescribedGroup<'a>> [0..];
    }

    /// One group.
    pub struct DescribedGroup<'a> {
        /// 0, or what is wrong.
        error_code: i16 [0..];
        /// What the error code does not say.
        error_message: Option<Cow<'a, str>> [6..];
        /// Name of the group.
        group_id: Cow<'a, str> [0..];
        /// State of the group.
        group_state: Cow<'a, str> [0..];
        /// What kind of members the group has, such as `consumer`.
        protocol_type: Cow<'a, str> [0..];
        /// The protocol chosen.
        protocol_data: Cow<'a, str> [0..];
        /// The members.
        members: Vec<DescribedGroupMember<'a>> [0..];
        /// Bits of what the client may do; the minimum if not asked.
        authorized_operations: i32 [3..] default(i32::MIN);
    }

    /// One member.
    pub struct DescribedGroupMember<'a> {
        /// Id of the member.
        member_id: Cow<'a, str> [0..];
        /// Name of a static member, null for a dynamic one.
        group_instance_id: Option<Cow<'a, str>> [4..];
        /// Name the client gave itself.
        client_id: Cow<'a, str> [0..];
        /// Address of the client.
        client_host: Cow<'a, str> [0..];
        /// What the member told about its protocol.
        member_metadata: Cow<'a, [u8]> [0..];
        /// What the member has to read.
        member_assignment: Cow<'a, [u8]> [0..];
    }
}
