//! ListConfigResources (74): lists what has configurations. Versions 0 to 1, flexible.
//!
//! 0 lists telemetry subscriptions only, 1 every kind.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Asks for resources.
    pub struct ListConfigResourcesRequest (ListConfigResources, 0..=1, flexible 0) {
        /// Kinds to list, none for all.
        resource_types: Vec<i8> [1..];
    }

    /// The resources.
    pub struct ListConfigResourcesResponse<'a> (ListConfigResources, 0..=1, flexible 0) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [0..];
        /// 0, or what is wrong.
        error_code: i16 [0..];
        /// The resources.
        config_resources: Vec<ConfigResource<'a>> [0..];
    }

    /// One resource.
    pub struct ConfigResource<'a> {
        /// Its name.
        resource_name: Cow<'a, str> [0..];
        /// As Kafka's `ConfigResource.Type`.
        resource_type: i8 [1..] default(16);
    }
}
