//! DeleteGroups (42): deletes groups without members. Versions 0 to 2.
//!
//! 2 is flexible.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Asks for groups to be deleted.
    pub struct DeleteGroupsRequest<'a> (DeleteGroups, 0..=2, flexible 2) {
        /// Names of the groups.
        groups_names: Vec<Cow<'a, str>> [0..];
    }

    /// What became of the groups.
    pub struct DeleteGroupsResponse<'a> (DeleteGroups, 0..=2, flexible 2) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [0..];
        /// The results.
        results: Vec<DeletableGroupResult<'a>> [0..];
    }

    /// What became of one group.
    pub struct DeletableGroupResult<'a> {
        /// Name of the group.
        group_id: Cow<'a, str> [0..];
        /// 0, or what is wrong.
        error_code: i16 [0..];
    }
}
