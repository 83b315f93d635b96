//! AlterConfigs (33): replaces the whole configuration of resources; deprecated in favour of IncrementalAlterConfigs.
//! Versions 0 to 2.
//!
//! 2 is flexible.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Configurations that replace all of before.
    pub struct AlterConfigsRequest<'a> (AlterConfigs, 0..=2, flexible 2) {
        /// The resources.
        resources: Vec<AlterConfigsResource<'a>> [0..];
        /// Whether to check only.
        validate_only: bool [0..];
    }

    /// One topic or broker.
    pub struct AlterConfigsResource<'a> {
        /// As Kafka's `ConfigResource.Type`: 2 topic, 4 broker, 32 group.
        resource_type: i8 [0..];
        /// Name of the topic, or id of the node.
        resource_name: Cow<'a, str> [0..];
        /// Its configurations.
        configs: Vec<AlterableConfig<'a>> [0..];
    }

    /// One configuration.
    pub struct AlterableConfig<'a> {
        /// Key of the configuration.
        name: Cow<'a, str> [0..];
        /// The value.
        value: Option<Cow<'a, str>> [0..] default(Some(Cow::Borrowed("")));
    }

    /// What became of them.
    pub struct AlterConfigsResponse<'a> (AlterConfigs, 0..=2, flexible 2) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [0..];
        /// One per resource.
        responses: Vec<AlterConfigsResourceResponse<'a>> [0..];
    }

    /// Result of one topic or broker.
    pub struct AlterConfigsResourceResponse<'a> {
        /// 0, or what is wrong.
        error_code: i16 [0..];
        /// What the error code does not say.
        error_message: Option<Cow<'a, str>> [0..] default(Some(Cow::Borrowed("")));
        /// As Kafka's `ConfigResource.Type`: 2 topic, 4 broker, 32 group.
        resource_type: i8 [0..];
        /// Name of the topic, or id of the node.
        resource_name: Cow<'a, str> [0..];
    }
}
