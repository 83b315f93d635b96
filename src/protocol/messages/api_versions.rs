//! ApiVersions (18): what this node speaks. Versions 0 to 4.
//!
//! The first request of nearly every connection. Its response header is never flexible, and a version above ours is
//! answered in version 0 with UNSUPPORTED_VERSION. 3 is flexible; 3 must leave out supported features whose minimum is 0
//! (KAFKA-17011), 4 includes them.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Asks what the node speaks.
    pub struct ApiVersionsRequest<'a> (ApiVersions, 0..=4, flexible 3) {
        /// Name of the client's library.
        client_software_name: Cow<'a, str> [3..];
        /// Its version.
        client_software_version: Cow<'a, str> [3..];
    }

    /// What the node speaks.
    pub struct ApiVersionsResponse<'a> (ApiVersions, 0..=4, flexible 3) {
        /// 0, or why the list is short.
        error_code: i16 [0..];
        /// The APIs.
        api_keys: Vec<ApiVersion> [0..];
        /// How long the client was throttled.
        throttle_time_ms: i32 [1..];
        /// Features the node could take part in.
        supported_features: Vec<SupportedFeatureKey<'a>> [3..] tag 0;
        /// Epoch of `finalized_features`, -1 for unknown.
        finalized_features_epoch: i64 [3..] tag 1 default(-1);
        /// Features the cluster has agreed upon.
        finalized_features: Vec<FinalizedFeatureKey<'a>> [3..] tag 2;
        /// Left over from the days of ZooKeeper.
        zk_migration_ready: bool [3..] tag 3;
    }

    /// One API and its versions.
    pub struct ApiVersion {
        /// Key of the API.
        api_key: i16 [0..];
        /// Lowest version.
        min_version: i16 [0..];
        /// Highest version.
        max_version: i16 [0..];
    }

    /// A feature and the levels the node could take part in.
    pub struct SupportedFeatureKey<'a> {
        /// Name of the feature.
        name: Cow<'a, str> [3..];
        /// Lowest level.
        min_version: i16 [3..];
        /// Highest level.
        max_version: i16 [3..];
    }

    /// A feature and the level the cluster has agreed upon.
    pub struct FinalizedFeatureKey<'a> {
        /// Name of the feature.
        name: Cow<'a, str> [3..];
        /// The level.
        max_version_level: i16 [3..];
        /// Lowest level that was ever valid.
        min_version_level: i16 [3..];
    }
}
