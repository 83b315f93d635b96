//! FindCoordinator (10): which node coordinates a group or transaction. Versions 0 to 6.
//!
//! 1 adds the kind of key, 3 is flexible, 4 asks for many keys at once, 6 knows share groups.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Asks for coordinators.
    pub struct FindCoordinatorRequest<'a> (FindCoordinator, 0..=6, flexible 3) {
        /// Name of the group or transaction, before version 4.
        key: Cow<'a, str> [0..=3];
        /// 0 group, 1 transaction, 2 share group.
        key_type: i8 [1..];
        /// The names, from version 4 on.
        coordinator_keys: Vec<Cow<'a, str>> [4..];
    }

    /// The coordinators: one in the message itself before version 4, a list from then on.
    pub struct FindCoordinatorResponse<'a> (FindCoordinator, 0..=6, flexible 3) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [1..];
        /// 0, or why there is none.
        error_code: i16 [0..=3];
        /// What the error code does not say.
        error_message: Option<Cow<'a, str>> [1..=3] default(Some(Cow::Borrowed("")));
        /// Id of the node.
        node_id: i32 [0..=3];
        /// Host name or address.
        host: Cow<'a, str> [0..=3];
        /// Port.
        port: i32 [0..=3];
        /// The coordinators, one per key.
        coordinators: Vec<Coordinator<'a>> [4..];
    }

    /// Coordinator of one key.
    pub struct Coordinator<'a> {
        /// The key.
        key: Cow<'a, str> [4..];
        /// Id of the node.
        node_id: i32 [4..];
        /// Host name or address.
        host: Cow<'a, str> [4..];
        /// Port.
        port: i32 [4..];
        /// 0, or why there is none.
        error_code: i16 [4..];
        /// What the error code does not say.
        error_message: Option<Cow<'a, str>> [4..] default(Some(Cow::Borrowed("")));
    }
}
