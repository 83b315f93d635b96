//! ApiVersions (18), versions 0 to 4: what this broker speaks. The first request of nearly every client.
//!
//! - A version that is not known is answered in **version 0** with UNSUPPORTED_VERSION and one row, the range of this API,
//!   so that the client can ask again: [`unsupported_version`].
//! - The response header is always version 0 (`protocol::api_key`).
//! - From version 3 on the client names its software; a name outside Kafka's pattern is INVALID_REQUEST.
//! - Versions 0 to 3 leave out supported features whose lowest level is 0 (KAFKA-17011).
//! - Only APIs and features that work are listed: clients switch on what they see. The features are `metadata.version`
//!   and `group.version`, which has Java clients use KIP-848 where their user asked for it.

use std::borrow::Cow;
use std::rc::Rc;

use super::Request;
use super::reply::Reply;
use crate::broker::Broker;
use crate::cluster::image::{
    GROUP_VERSION, GROUP_VERSION_LEVEL, METADATA_VERSION, METADATA_VERSION_LEVEL, METADATA_VERSION_MIN, MetadataImage,
};
use crate::protocol::api_key::{ApiKey, SUPPORTED, Supported};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;

/// Features that work here, with the levels that do: name, lowest, highest.
const FEATURES: &[(&str, i16, i16)] =
    &[(GROUP_VERSION, 0, GROUP_VERSION_LEVEL), (METADATA_VERSION, METADATA_VERSION_MIN, METADATA_VERSION_LEVEL)];

/// Handles one request, of whatever version.
pub(super) fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: &Request) -> Reply<R::Buffer> {
    if !ApiKey::ApiVersions.accepts(request.version) {
        return Reply::Now(super::respond(request.correlation_id, 0, &unsupported_version()));
    }
    let Ok(message) = ApiVersionsRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    Reply::Now(request.respond(&respond(&broker.shard.image(), &message, request.version)))
}

/// Answers a request of a known version.
fn respond<'a>(image: &'a MetadataImage, request: &ApiVersionsRequest<'_>, version: i16) -> ApiVersionsResponse<'a> {
    let named = is_software_name(&request.client_software_name) && is_software_name(&request.client_software_version);
    if version >= 3 && !named {
        return ApiVersionsResponse { error_code: ErrorCode::InvalidRequest.code(), ..ApiVersionsResponse::default() };
    }
    let supported = FEATURES.iter().filter(|(_, min, _)| version >= 4 || *min > 0);
    let supported_features = supported.map(|(name, min, max)| SupportedFeatureKey {
        name: Cow::Borrowed(*name),
        min_version: *min,
        max_version: *max,
    });
    let finalized_features = image.features().map(|(name, level)| FinalizedFeatureKey {
        name: Cow::Borrowed(name),
        max_version_level: level,
        min_version_level: level,
    });
    ApiVersionsResponse {
        error_code: ErrorCode::None.code(),
        api_keys: SUPPORTED.iter().map(row).collect(),
        throttle_time_ms: 0,
        supported_features: supported_features.collect(),
        finalized_features_epoch: i64::from(image.feature(METADATA_VERSION)),
        finalized_features: finalized_features.collect(),
        zk_migration_ready: false,
    }
}

/// Answers a request of a version that is not known. To be encoded in version 0.
fn unsupported_version() -> ApiVersionsResponse<'static> {
    let own = ApiKey::ApiVersions.supported().expect("ApiVersions is always spoken");
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: vec![row(own)],
        ..ApiVersionsResponse::default()
    }
}

fn row(supported: &Supported) -> ApiVersion {
    ApiVersion { api_key: supported.key.code(), min_version: supported.advertised_min, max_version: supported.max }
}

/// Kafka's pattern: letters, digits, dashes and dots, with a letter or digit at both ends.
fn is_software_name(name: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    end(bytes.first()) && end(bytes.last()) && bytes.iter().copied().all(inside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::controller;

    fn request(name: &'static str) -> ApiVersionsRequest<'static> {
        ApiVersionsRequest { client_software_name: Cow::Borrowed(name), client_software_version: Cow::Borrowed("1.0") }
    }

    fn image() -> MetadataImage {
        let empty = MetadataImage::empty("AAAAAAAAAAAAAAAAAAAAAQ");
        let records = controller::register_nodes(&empty, &[], &mut || 0);
        empty.apply(&records).unwrap()
    }

    #[test]
    fn every_api_that_works_is_listed_with_its_advertised_range() {
        let image = image();
        let response = respond(&image, &ApiVersionsRequest::default(), 0);
        assert_eq!(response.error_code, 0);
        assert_eq!(response.api_keys.len(), SUPPORTED.len());
        let produce = response.api_keys.iter().find(|row| row.api_key == 0).unwrap();
        assert_eq!((produce.min_version, produce.max_version), (0, 13));
    }

    #[test]
    fn metadata_version_is_supported_and_finalized() {
        let image = image();
        let response = respond(&image, &request("kcat"), 3);
        assert_eq!(response.supported_features.len(), 1);
        let finalized: Vec<_> =
            response.finalized_features.iter().map(|it| (&*it.name, it.max_version_level)).collect();
        assert_eq!(finalized, [("group.version", 1), ("metadata.version", 27)]);
        assert!(response.finalized_features_epoch >= 0);
        // A feature that may be off is told from version 4 on only (KAFKA-17011).
        assert_eq!(respond(&image, &request("kcat"), 4).supported_features.len(), 2);
    }

    #[test]
    fn software_names_outside_kafkas_pattern_are_invalid_from_version_3_on() {
        let image = image();
        for bad in ["", "-x", "x.", "a b", "ä"] {
            assert_eq!(respond(&image, &request(bad), 3).error_code, ErrorCode::InvalidRequest.code(), "{bad}");
            assert_eq!(respond(&image, &request(bad), 2).error_code, 0);
        }
        for good in ["x", "apache-kafka-java", "a..-b"] {
            assert_eq!(respond(&image, &request(good), 3).error_code, 0, "{good}");
        }
    }

    #[test]
    fn an_unknown_version_is_told_the_range_of_this_api() {
        let response = unsupported_version();
        assert_eq!(response.error_code, 35);
        let rows: Vec<_> =
            response.api_keys.iter().map(|row| (row.api_key, row.min_version, row.max_version)).collect();
        assert_eq!(rows, [(18, 0, 4)]);
    }
}
