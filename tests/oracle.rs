//! Our codec against the crate `kafka-protocol`, which is generated from Kafka's schemas: random messages of every API and
//! version must agree byte for byte, and broken ones must be refused without harm.
//!
//! `CORELANE_ORACLE_SEED` replays the seed of a failure, `CORELANE_ORACLE_ROUNDS` does more than the usual rounds.
//!
//! Known differences, settled by Kafka's own schemas and code:
//! - Responses of `InitProducerId` 6, `OffsetCommit` 10 and `OffsetFetch` 10 exist in the crate only: their requests are
//!   marked `latestVersionUnstable` in Kafka 4.1's schemas, and Kafka 4.1.1 does not advertise them.
//! - `Metadata` 0 with null topics cannot be encoded by the crate. We write the empty list, which means the same in
//!   that version (`MetadataRequest.json`); a random message of version 0 never holds null.
//! - Strings over 32,767 bytes are refused by us as by Kafka's `readString`, and let through by the crate. Random strings
//!   are shorter.
//! - The crate keeps unknown tagged fields, we skip them.
#![cfg(debug_assertions)]

use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use corelane::protocol::api_key::{ApiKey, SUPPORTED};
use corelane::protocol::arbitrary::{Arbitrary, Source};
use corelane::protocol::error_code::ErrorCode;
use corelane::protocol::frame::{RequestHeader, ResponseHeader};
use corelane::protocol::wire::{DecodeError, Message, Reader, Writer};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable};

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// The seeds of one test: the one asked for, or as many as rounds.
fn seeds(rounds: u64) -> RangeInclusive<u64> {
    match number("CORELANE_ORACLE_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("CORELANE_ORACLE_ROUNDS").unwrap_or(rounds),
    }
}

/// Bytes of virtual memory that this process took at most.
fn memory_peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).expect("Linux");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// Encodes a message of the crate with a tagged field that nobody knows yet. Messages that are never flexible have none.
macro_rules! from_the_future {
    ($message:ident, $version:ident,) => {{
        let mut message = $message;
        message.unknown_tagged_fields.insert(77, Bytes::from_static(b"future"));
        let mut encoded = BytesMut::new();
        message.encode(&mut encoded, $version).expect("still valid");
        encoded
    }};
    ($message:ident, $version:ident, never) => {
        Vec::new()
    };
}

/// The tests of one message: our module and struct, the same struct of the crate.
macro_rules! message_tests {
    ($($test:ident: $module:ident::$name:ident $(<$life:lifetime>)? $(, $never:ident flexible)?;)*) => {
        $(mod $test {
            use super::*;
            use corelane::protocol::messages::$module::$name;

            fn written(message: &$name, version: i16) -> Vec<u8> {
                let mut writer = Writer::new();
                message.encode(&mut writer, version);
                writer.bytes
            }

            fn random(seed: u64, version: i16) -> $name $(<$life>)? {
                $name::arbitrary(&mut Source::new(seed), $name::dialect(version))
            }

            #[test]
            fn agrees_byte_for_byte() {
                for version in $name::VERSIONS {
                    for seed in seeds(20) {
                        let what = format!("{} version {version} seed {seed}", stringify!($name));
                        let message = random(seed, version);
                        let bytes = written(&message, version);

                        let mut reader = Reader::new(&bytes);
                        assert_eq!($name::decode(&mut reader, version).as_ref(), Ok(&message), "{what}");
                        assert_eq!(reader.remaining(), 0, "{what}");

                        let mut rest = Bytes::from(bytes.clone());
                        let decoded = theirs::$name::decode(&mut rest, version).expect(&what);
                        assert!(rest.is_empty(), "{what}: the crate leaves {} bytes", rest.len());
                        let mut encoded = BytesMut::new();
                        decoded.encode(&mut encoded, version).expect(&what);
                        assert_eq!(encoded, bytes, "{what}");

                        if $name::dialect(version).flexible {
                            let encoded = from_the_future!(decoded, version, $($never)?);
                            let read = $name::decode(&mut Reader::new(&encoded), version);
                            assert_eq!(read.as_ref(), Ok(&message), "{what}");
                        }
                    }
                }
            }

            #[test]
            fn default_agrees() {
                for version in $name::VERSIONS {
                    let mut encoded = BytesMut::new();
                    theirs::$name::default().encode(&mut encoded, version).expect("the default is valid");
                    assert_eq!(written(&$name::default(), version), encoded, "{} version {version}", stringify!($name));
                }
            }

            #[test]
            fn every_truncation_is_refused() {
                for version in $name::VERSIONS {
                    for seed in seeds(2) {
                        let bytes = written(&random(seed, version), version);
                        for length in 0..bytes.len() {
                            let refused = $name::decode(&mut Reader::new(&bytes[..length]), version);
                            assert!(refused.is_err(), "{} version {version} seed {seed} cut at {length}", stringify!($name));
                        }
                    }
                }
            }

            #[test]
            fn flipped_bytes_and_rubbish_do_no_harm() {
                let peak_bytes = memory_peak_bytes();
                for version in $name::VERSIONS {
                    for seed in seeds(8) {
                        let bytes = written(&random(seed, version), version);
                        let mut source = Source::new(!seed);
                        for _ in 0..10 {
                            let rubbish: Vec<u8> = (0..source.below(64)).map(|_| source.bits().to_le_bytes()[0]).collect();
                            let _ = $name::decode(&mut Reader::new(&rubbish), version);
                            let mut broken = bytes.clone();
                            for _ in 0..=source.below(3) {
                                let at = source.below(broken.len().max(1));
                                let byte = [0, 1, 0x7f, 0x80, 0xff, source.bits().to_le_bytes()[0]][source.below(6)];
                                if let Some(target) = broken.get_mut(at) {
                                    *target = byte;
                                }
                            }
                            // Whatever still decodes can be written again and read back as the same.
                            if let Ok(message) = $name::decode(&mut Reader::new(&broken), version) {
                                let again = written(&message, version);
                                let read = $name::decode(&mut Reader::new(&again), version);
                                assert_eq!(read, Ok(message), "{} version {version} seed {seed}", stringify!($name));
                            }
                        }
                    }
                }
                // Far below what believing a flipped length would take, far above what the threads of all tests reserve.
                let grown_bytes = memory_peak_bytes() - peak_bytes;
                assert!(grown_bytes < 16 << 30, "{} took {grown_bytes} bytes", stringify!($name));
            }
        })*
    };
}

message_tests! {
    alter_configs_request: alter_configs::AlterConfigsRequest<'static>;
    alter_configs_response: alter_configs::AlterConfigsResponse<'static>;
    api_versions_request: api_versions::ApiVersionsRequest<'static>;
    api_versions_response: api_versions::ApiVersionsResponse<'static>;
    consumer_group_describe_request: consumer_group_describe::ConsumerGroupDescribeRequest<'static>;
    consumer_group_describe_response: consumer_group_describe::ConsumerGroupDescribeResponse<'static>;
    consumer_group_heartbeat_request: consumer_group_heartbeat::ConsumerGroupHeartbeatRequest<'static>;
    consumer_group_heartbeat_response: consumer_group_heartbeat::ConsumerGroupHeartbeatResponse<'static>;
    create_partitions_request: create_partitions::CreatePartitionsRequest<'static>;
    create_partitions_response: create_partitions::CreatePartitionsResponse<'static>;
    create_topics_request: create_topics::CreateTopicsRequest<'static>;
    create_topics_response: create_topics::CreateTopicsResponse<'static>;
    delete_groups_request: delete_groups::DeleteGroupsRequest<'static>;
    delete_groups_response: delete_groups::DeleteGroupsResponse<'static>;
    delete_records_request: delete_records::DeleteRecordsRequest<'static>;
    delete_records_response: delete_records::DeleteRecordsResponse<'static>;
    delete_topics_request: delete_topics::DeleteTopicsRequest<'static>;
    delete_topics_response: delete_topics::DeleteTopicsResponse<'static>;
    describe_client_quotas_request: describe_client_quotas::DescribeClientQuotasRequest<'static>;
    describe_client_quotas_response: describe_client_quotas::DescribeClientQuotasResponse<'static>;
    describe_cluster_request: describe_cluster::DescribeClusterRequest;
    describe_cluster_response: describe_cluster::DescribeClusterResponse<'static>;
    describe_configs_request: describe_configs::DescribeConfigsRequest<'static>;
    describe_configs_response: describe_configs::DescribeConfigsResponse<'static>;
    describe_groups_request: describe_groups::DescribeGroupsRequest<'static>;
    describe_groups_response: describe_groups::DescribeGroupsResponse<'static>;
    describe_log_dirs_request: describe_log_dirs::DescribeLogDirsRequest<'static>;
    describe_log_dirs_response: describe_log_dirs::DescribeLogDirsResponse<'static>;
    describe_producers_request: describe_producers::DescribeProducersRequest<'static>;
    describe_producers_response: describe_producers::DescribeProducersResponse<'static>;
    describe_quorum_request: describe_quorum::DescribeQuorumRequest<'static>;
    describe_quorum_response: describe_quorum::DescribeQuorumResponse<'static>;
    describe_topic_partitions_request: describe_topic_partitions::DescribeTopicPartitionsRequest<'static>;
    describe_topic_partitions_response: describe_topic_partitions::DescribeTopicPartitionsResponse<'static>;
    elect_leaders_request: elect_leaders::ElectLeadersRequest<'static>;
    elect_leaders_response: elect_leaders::ElectLeadersResponse<'static>;
    fetch_request: fetch::FetchRequest<'static>;
    fetch_response: fetch::FetchResponse<'static>;
    find_coordinator_request: find_coordinator::FindCoordinatorRequest<'static>;
    find_coordinator_response: find_coordinator::FindCoordinatorResponse<'static>;
    heartbeat_request: heartbeat::HeartbeatRequest<'static>;
    heartbeat_response: heartbeat::HeartbeatResponse;
    incremental_alter_configs_request: incremental_alter_configs::IncrementalAlterConfigsRequest<'static>;
    incremental_alter_configs_response: incremental_alter_configs::IncrementalAlterConfigsResponse<'static>;
    init_producer_id_request: init_producer_id::InitProducerIdRequest<'static>;
    init_producer_id_response: init_producer_id::InitProducerIdResponse;
    join_group_request: join_group::JoinGroupRequest<'static>;
    join_group_response: join_group::JoinGroupResponse<'static>;
    leave_group_request: leave_group::LeaveGroupRequest<'static>;
    leave_group_response: leave_group::LeaveGroupResponse<'static>;
    list_config_resources_request: list_config_resources::ListConfigResourcesRequest;
    list_config_resources_response: list_config_resources::ListConfigResourcesResponse<'static>;
    list_groups_request: list_groups::ListGroupsRequest<'static>;
    list_groups_response: list_groups::ListGroupsResponse<'static>;
    list_offsets_request: list_offsets::ListOffsetsRequest<'static>;
    list_offsets_response: list_offsets::ListOffsetsResponse<'static>;
    list_partition_reassignments_request: list_partition_reassignments::ListPartitionReassignmentsRequest<'static>;
    list_partition_reassignments_response: list_partition_reassignments::ListPartitionReassignmentsResponse<'static>;
    metadata_request: metadata::MetadataRequest<'static>;
    metadata_response: metadata::MetadataResponse<'static>;
    offset_commit_request: offset_commit::OffsetCommitRequest<'static>;
    offset_commit_response: offset_commit::OffsetCommitResponse<'static>;
    offset_delete_request: offset_delete::OffsetDeleteRequest<'static>, never flexible;
    offset_delete_response: offset_delete::OffsetDeleteResponse<'static>, never flexible;
    offset_fetch_request: offset_fetch::OffsetFetchRequest<'static>;
    offset_fetch_response: offset_fetch::OffsetFetchResponse<'static>;
    offset_for_leader_epoch_request: offset_for_leader_epoch::OffsetForLeaderEpochRequest<'static>;
    offset_for_leader_epoch_response: offset_for_leader_epoch::OffsetForLeaderEpochResponse<'static>;
    produce_request: produce::ProduceRequest<'static>;
    produce_response: produce::ProduceResponse<'static>;
    sync_group_request: sync_group::SyncGroupRequest<'static>;
    sync_group_response: sync_group::SyncGroupResponse<'static>;
}

#[test]
fn request_headers_agree() {
    for key in ApiKey::ALL {
        let Ok(their_key) = theirs::ApiKey::try_from(key.code()) else { continue };
        let versions = their_key.valid_versions();
        for version in versions.min..=versions.max {
            for client_id in [None, Some(""), Some("rdkafka")] {
                let what = format!("{} version {version}", key.name());
                let header = RequestHeader {
                    api_key: key.code(),
                    api_version: version,
                    correlation_id: 5,
                    client_id: client_id.map(Into::into),
                };
                let mut writer = Writer::new();
                header.encode(&mut writer);
                let mut reader = Reader::new(&writer.bytes);
                assert_eq!(RequestHeader::decode(&mut reader).as_ref(), Ok(&header), "{what}");
                assert_eq!(reader.remaining(), 0, "{what}");

                let mut rest = Bytes::from(writer.bytes.clone());
                let header_version = their_key.request_header_version(version);
                let decoded = theirs::RequestHeader::decode(&mut rest, header_version).expect(&what);
                assert!(rest.is_empty(), "{what}");
                assert_eq!(decoded.client_id.as_deref(), client_id, "{what}");
                let mut encoded = BytesMut::new();
                decoded.encode(&mut encoded, header_version).expect(&what);
                assert_eq!(encoded, writer.bytes, "{what}");

                for length in 0..writer.bytes.len() {
                    let refused = RequestHeader::decode(&mut Reader::new(&writer.bytes[..length]));
                    assert_eq!(refused, Err(DecodeError::Truncated), "{what} cut at {length}");
                }
            }
        }
    }
}

#[test]
fn response_headers_agree() {
    for key in ApiKey::ALL {
        let Ok(their_key) = theirs::ApiKey::try_from(key.code()) else { continue };
        let versions = their_key.valid_versions();
        for version in versions.min..=versions.max {
            let what = format!("{} version {version}", key.name());
            let mut writer = Writer::new();
            ResponseHeader { correlation_id: 77 }.encode(&mut writer, *key, version);
            let mut encoded = BytesMut::new();
            let header = theirs::ResponseHeader::default().with_correlation_id(77);
            header.encode(&mut encoded, their_key.response_header_version(version)).expect(&what);
            assert_eq!(encoded, writer.bytes, "{what}");
            let read = ResponseHeader::decode(&mut Reader::new(&writer.bytes), *key, version);
            assert_eq!(read, Ok(ResponseHeader { correlation_id: 77 }), "{what}");
        }
    }
}

#[test]
fn advertised_versions_agree() {
    for supported in SUPPORTED {
        let range = theirs::ApiKey::try_from(supported.key.code()).expect("a known key").valid_versions();
        // The newest version of these is unstable in Kafka 4.1, which does not advertise it.
        let hidden = [ApiKey::InitProducerId, ApiKey::OffsetCommit, ApiKey::OffsetFetch];
        let unstable = i16::from(hidden.contains(&supported.key));
        let expected = (range.min, range.max - unstable);
        assert_eq!((supported.accepted_min, supported.max), expected, "{}", supported.key.name());
    }
}

#[test]
fn api_names_agree() {
    for key in ApiKey::ALL {
        if let Ok(their_key) = theirs::ApiKey::try_from(key.code()) {
            assert_eq!(format!("{their_key:?}"), key.name());
        }
    }
}

#[test]
fn error_codes_agree() {
    for code in -200..200 {
        match kafka_protocol::ResponseError::try_from_code(code) {
            None => assert_eq!(code, ErrorCode::None.code()),
            Some(kafka_protocol::ResponseError::Unknown(_)) => assert_eq!(ErrorCode::from_code(code), None, "{code}"),
            Some(error) => {
                assert_eq!(format!("{:?}", ErrorCode::from_code(code).expect("known")), format!("{error:?}"))
            }
        }
    }
}
