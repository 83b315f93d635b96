//! Frames captured between real clients and Apache Kafka 4.1.1: each decodes to its last byte and encodes to itself.
//!
//! `frames/<api>.txt` has one frame per line, length prefix included: who spoke (`java`: Kafka 4.1.1's own tools, `kcat`:
//! librdkafka 2.0.2), `request` or `response`, the version, and the bytes in hexadecimal. They come from creating,
//! describing, filling, reading (by assignment and as a group) and deleting a topic named `orders` with two partitions.

use std::fs;
use std::path::Path;

use corelane::protocol::api_key::ApiKey;
use corelane::protocol::frame::{RequestHeader, ResponseHeader, request_frame, response_frame};
use corelane::protocol::messages::{
    api_versions, create_topics, delete_topics, describe_cluster, describe_configs, fetch, find_coordinator, heartbeat,
    init_producer_id, join_group, leave_group, list_offsets, metadata, offset_commit, offset_fetch, produce,
    sync_group,
};
use corelane::protocol::wire::{Reader, Records};

/// One line of a file.
struct Captured {
    client: String,
    is_request: bool,
    version: i16,
    frame: Vec<u8>,
}

fn captured(api: &str) -> Vec<Captured> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/frames").join(api).with_extension("txt");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines: Vec<Captured> = text.lines().map(parse).collect();
    assert!(lines.iter().any(|line| line.is_request) && lines.iter().any(|line| !line.is_request));
    lines
}

fn parse(line: &str) -> Captured {
    let [client, direction, version, bytes] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
    let byte = |at| u8::from_str_radix(&bytes[at..at + 2], 16).expect("hexadecimal");
    Captured {
        client: client.to_owned(),
        is_request: direction == "request",
        version: version.parse().expect("a version"),
        frame: (0..bytes.len()).step_by(2).map(byte).collect(),
    }
}

/// One test per API: every frame of its file.
macro_rules! golden_tests {
    ($($module:ident: $key:ident, $request:ident, $response:ident;)*) => {$(
        #[test]
        fn $module() {
            for Captured { client, is_request, version, frame } in captured(stringify!($module)) {
                let mut reader = Reader::new(&frame[4..]);
                let again = if is_request {
                    let header = RequestHeader::decode(&mut reader).expect(&client);
                    assert_eq!((header.api_key, header.api_version), (ApiKey::$key.code(), version));
                    let message = $module::$request::decode(&mut reader, version).expect(&client);
                    request_frame(header.correlation_id, header.client_id.as_deref(), version, &message)
                } else {
                    let header = ResponseHeader::decode(&mut reader, ApiKey::$key, version).expect(&client);
                    let message = $module::$response::decode(&mut reader, version).expect(&client);
                    response_frame(header.correlation_id, version, &message)
                };
                assert_eq!(reader.remaining(), 0, "{client} version {version}");
                assert_eq!(again.bytes, frame, "{client} version {version}");
            }
        }
    )*};
}

golden_tests! {
    api_versions: ApiVersions, ApiVersionsRequest, ApiVersionsResponse;
    create_topics: CreateTopics, CreateTopicsRequest, CreateTopicsResponse;
    delete_topics: DeleteTopics, DeleteTopicsRequest, DeleteTopicsResponse;
    describe_cluster: DescribeCluster, DescribeClusterRequest, DescribeClusterResponse;
    describe_configs: DescribeConfigs, DescribeConfigsRequest, DescribeConfigsResponse;
    fetch: Fetch, FetchRequest, FetchResponse;
    find_coordinator: FindCoordinator, FindCoordinatorRequest, FindCoordinatorResponse;
    heartbeat: Heartbeat, HeartbeatRequest, HeartbeatResponse;
    join_group: JoinGroup, JoinGroupRequest, JoinGroupResponse;
    leave_group: LeaveGroup, LeaveGroupRequest, LeaveGroupResponse;
    offset_commit: OffsetCommit, OffsetCommitRequest, OffsetCommitResponse;
    offset_fetch: OffsetFetch, OffsetFetchRequest, OffsetFetchResponse;
    sync_group: SyncGroup, SyncGroupRequest, SyncGroupResponse;
    init_producer_id: InitProducerId, InitProducerIdRequest, InitProducerIdResponse;
    list_offsets: ListOffsets, ListOffsetsRequest, ListOffsetsResponse;
    metadata: Metadata, MetadataRequest, MetadataResponse;
    produce: Produce, ProduceRequest, ProduceResponse;
}

#[test]
fn kcat_produces_one_batch_to_the_topic_by_name() {
    let lines = captured("produce");
    let line = lines.iter().find(|line| line.client == "kcat" && line.is_request).expect("captured");
    let mut reader = Reader::new(&line.frame[4..]);
    let header = RequestHeader::decode(&mut reader).unwrap();
    assert_eq!(header.client_id.as_deref(), Some("rdkafka"));
    let request = produce::ProduceRequest::decode(&mut reader, line.version).unwrap();
    assert_eq!((request.acks, request.timeout_ms, request.transactional_id), (-1, 30_000, None));
    assert_eq!(request.topic_data[0].name, "orders");
    let Records::Bytes(batch) = request.topic_data[0].partition_data[0].records else { panic!("no records") };
    assert!(batch.ends_with(b"\x04k1\x08kcat\0"));
}

#[test]
fn kafka_advertises_produce_from_version_zero_and_so_do_we() {
    let lines = captured("api_versions");
    let line = lines.iter().find(|line| line.version == 4 && !line.is_request).expect("captured");
    let mut reader = Reader::new(&line.frame[4..]);
    ResponseHeader::decode(&mut reader, ApiKey::ApiVersions, 4).unwrap();
    let response = api_versions::ApiVersionsResponse::decode(&mut reader, 4).unwrap();
    for ours in corelane::protocol::api_key::SUPPORTED {
        let kafkas = response.api_keys.iter().find(|api| api.api_key == ours.key.code()).expect("Kafka has it");
        assert_eq!((ours.advertised_min, ours.max), (kafkas.min_version, kafkas.max_version), "{}", ours.key.name());
    }
}
