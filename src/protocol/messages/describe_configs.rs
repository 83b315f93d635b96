//! DescribeConfigs (32). Versions 1 to 4.
//!
//! 3 adds types and documentation, 4 is flexible.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Asks for configurations of topics or brokers.
    pub struct DescribeConfigsRequest<'a> (DescribeConfigs, 1..=4, flexible 4) {
        /// What to describe.
        resources: Vec<DescribeConfigsResource<'a>> [0..];
        /// Whether to list where else a value might come from.
        include_synonyms: bool [1..];
        /// Whether to explain each key.
        include_documentation: bool [3..];
    }

    /// One topic or broker.
    pub struct DescribeConfigsResource<'a> {
        /// As Kafka's `ConfigResource.Type`: 2 topic, 4 broker, 32 group.
        resource_type: i8 [0..];
        /// Name of the topic, or id of the node.
        resource_name: Cow<'a, str> [0..];
        /// The keys; null for all.
        configuration_keys: Option<Vec<Cow<'a, str>>> [0..] default(Some(Vec::new()));
    }

    /// The configurations.
    pub struct DescribeConfigsResponse<'a> (DescribeConfigs, 1..=4, flexible 4) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [0..];
        /// One per resource.
        results: Vec<DescribeConfigsResult<'a>> [0..];
    }

    /// Configuration of one resource.
    pub struct DescribeConfigsResult<'a> {
        /// 0, or why there is none.
        error_code: i16 [0..];
        /// What the error code does not say.
        error_message: Option<Cow<'a, str>> [0..] default(Some(Cow::Borrowed("")));
        /// As in the request.
        resource_type: i8 [0..];
        /// As in the request.
        resource_name: Cow<'a, str> [0..];
        /// The values.
        configs: Vec<DescribeConfigsResourceResult<'a>> [0..];
    }

    /// One value.
    pub struct DescribeConfigsResourceResult<'a> {
        /// Its key.
        name: Cow<'a, str> [0..];
        /// The value; null for secrets.
        value: Option<Cow<'a, str>> [0..] default(Some(Cow::Borrowed("")));
        /// Whether it cannot be changed.
        read_only: bool [0..];
        /// Where the value comes from: 1 topic, 2 this broker, 3 all brokers, 4 the broker's file, 5 default.
        config_source: i8 [1..] default(-1);
        /// Whether the value is a secret.
        is_sensitive: bool [0..];
        /// Where else the value might come from, nearest first.
        synonyms: Vec<DescribeConfigsSynonym<'a>> [1..];
        /// 1 boolean, 2 string, 3 int, 4 short, 5 long, 6 double, 7 list, 8 class, 9 password.
        config_type: i8 [3..];
        /// What the key is for.
        documentation: Option<Cow<'a, str>> [3..] default(Some(Cow::Borrowed("")));
    }

    /// A place a value may come from.
    pub struct DescribeConfigsSynonym<'a> {
        /// Its key there.
        name: Cow<'a, str> [1..];
        /// Its value there.
        value: Option<Cow<'a, str>> [1..] default(Some(Cow::Borrowed("")));
        /// As `config_source`.
        source: i8 [1..];
    }
}
