//! ListGroups (16): lists the groups this node coordinates. Versions 0 to 5.
//!
//! 3 is flexible, 4 filters by state, 5 by type.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Asks for groups.
    pub struct ListGroupsRequest<'a> (ListGroups, 0..=5, flexible 3) {
        /// States to list, none for all.
        states_filter: Vec<Cow<'a, str>> [4..];
        /// Types to list, none for all.
        types_filter: Vec<Cow<'a, str>> [5..];
    }

    /// The groups.
    pub struct ListGroupsResponse<'a> (ListGroups, 0..=5, flexible 3) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [1..];
        /// 0, or what is wrong.
        error_code: i16 [0..];
        /// The groups.
        groups: Vec<ListedGroup<'a>> [0..];
    }

    /// One group.
    pub struct ListedGroup<'a> {
        /// Name of the group.
        group_id: Cow<'a, str> [0..];
        /// What kind of members the group has, such as `consumer`.
        protocol_type: Cow<'a, str> [0..];
        /// State of the group.
        group_state: Cow<'a, str> [4..];
        /// `classic`, `consumer` or another type.
        group_type: Cow<'a, str> [5..];
    }
}
