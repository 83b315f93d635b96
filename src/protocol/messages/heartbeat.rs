//! Heartbeat (12): says that a member of a classic group is alive. Versions 0 to 4.
//!
//! 3 adds static members, 4 is flexible.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Says that a member is alive.
    pub struct HeartbeatRequest<'a> (Heartbeat, 0..=4, flexible 4) {
        /// Name of the group.
        group_id: Cow<'a, str> [0..];
        /// Generation of the group.
        generation_id: i32 [0..];
        /// Id of the member.
        member_id: Cow<'a, str> [0..];
        /// Name of a static member, null for a dynamic one.
        group_instance_id: Option<Cow<'a, str>> [3..];
    }

    /// Whether the member may go on.
    pub struct HeartbeatResponse (Heartbeat, 0..=4, flexible 4) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [1..];
        /// 0, or what is wrong.
        error_code: i16 [0..];
    }
}
