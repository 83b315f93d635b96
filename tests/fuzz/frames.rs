//! Frames and codecs: the request header, and every message in every version, as a peer may send them.
//!
//! A decoded message may be larger than its bytes, since an element takes up to some hundred bytes in memory and one or
//! two on the wire; but never by more than a factor, whatever lengths the bytes claim.

use corelane::protocol::api_key::ApiKey;
use corelane::protocol::arbitrary::{Arbitrary, Source};
use corelane::protocol::frame::{RequestHeader, ResponseHeader};
use corelane::protocol::wire::{DecodeError, Message, Reader, Writer};

use crate::fuzz;
use crate::memory::peak_bytes;
use crate::random::{Random, mutate};

/// Rounds per target: a few seconds in a debug build.
const ROUNDS: u64 = 8000;
/// Memory that decoding may hold per byte of its frame. Measured: 48, for a topic of two empty strings on the wire, while
/// the array that it stands in grows.
const BYTES_PER_FRAME_BYTE: usize = 80;
/// Memory that decoding may hold beside that.
const BYTES_BESIDE: usize = 4096;

/// One message of the protocol.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) key: ApiKey,
    pub(crate) versions: std::ops::RangeInclusive<i16>,
    /// A random valid message, encoded.
    pub(crate) valid: fn(&mut Source, i16) -> Vec<u8>,
    /// Decodes; gives the message encoded again, and how many bytes were left.
    pub(crate) decode: fn(&[u8], i16) -> Result<usize, DecodeError>,
    encode_again: fn(&[u8], i16) -> Vec<u8>,
}

impl Kind {
    fn is_request(&self) -> bool {
        self.name.ends_with("Request")
    }
}

macro_rules! kinds {
    ($($module:ident::$name:ident;)*) => {
        &[$(Kind {
            name: stringify!($name),
            key: corelane::protocol::messages::$module::$name::KEY,
            versions: corelane::protocol::messages::$module::$name::VERSIONS,
            valid: |source, version| {
                use corelane::protocol::messages::$module::$name;
                let message = $name::arbitrary(source, $name::dialect(version));
                let mut writer = Writer::new();
                message.encode(&mut writer, version);
                writer.bytes
            },
            decode: |bytes, version| {
                let mut reader = Reader::new(bytes);
                corelane::protocol::messages::$module::$name::decode(&mut reader, version)?;
                Ok(reader.remaining())
            },
            encode_again: |bytes, version| {
                let message = corelane::protocol::messages::$module::$name::decode(&mut Reader::new(bytes), version);
                let mut writer = Writer::new();
                message.expect("it was decoded before").encode(&mut writer, version);
                writer.bytes
            },
        },)*]
    };
}

/// Every message that this broker has a table for.
pub(crate) const KINDS: &[Kind] = kinds! {
    alter_configs::AlterConfigsRequest;
    alter_configs::AlterConfigsResponse;
    api_versions::ApiVersionsRequest;
    api_versions::ApiVersionsResponse;
    consumer_group_describe::ConsumerGroupDescribeRequest;
    consumer_group_describe::ConsumerGroupDescribeResponse;
    consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
    consumer_group_heartbeat::ConsumerGroupHeartbeatResponse;
    create_partitions::CreatePartitionsRequest;
    create_partitions::CreatePartitionsResponse;
    create_topics::CreateTopicsRequest;
    create_topics::CreateTopicsResponse;
    delete_groups::DeleteGroupsRequest;
    delete_groups::DeleteGroupsResponse;
    delete_records::DeleteRecordsRequest;
    delete_records::DeleteRecordsResponse;
    delete_topics::DeleteTopicsRequest;
    delete_topics::DeleteTopicsResponse;
    describe_client_quotas::DescribeClientQuotasRequest;
    describe_client_quotas::DescribeClientQuotasResponse;
    describe_cluster::DescribeClusterRequest;
    describe_cluster::DescribeClusterResponse;
    describe_configs::DescribeConfigsRequest;
    describe_configs::DescribeConfigsResponse;
    describe_groups::DescribeGroupsRequest;
    describe_groups::DescribeGroupsResponse;
    describe_log_dirs::DescribeLogDirsRequest;
    describe_log_dirs::DescribeLogDirsResponse;
    describe_producers::DescribeProducersRequest;
    describe_producers::DescribeProducersResponse;
    describe_quorum::DescribeQuorumRequest;
    describe_quorum::DescribeQuorumResponse;
    describe_topic_partitions::DescribeTopicPartitionsRequest;
    describe_topic_partitions::DescribeTopicPartitionsResponse;
    elect_leaders::ElectLeadersRequest;
    elect_leaders::ElectLeadersResponse;
    fetch::FetchRequest;
    fetch::FetchResponse;
    find_coordinator::FindCoordinatorRequest;
    find_coordinator::FindCoordinatorResponse;
    heartbeat::HeartbeatRequest;
    heartbeat::HeartbeatResponse;
    incremental_alter_configs::IncrementalAlterConfigsRequest;
    incremental_alter_configs::IncrementalAlterConfigsResponse;
    init_producer_id::InitProducerIdRequest;
    init_producer_id::InitProducerIdResponse;
    join_group::JoinGroupRequest;
    join_group::JoinGroupResponse;
    leave_group::LeaveGroupRequest;
    leave_group::LeaveGroupResponse;
    list_config_resources::ListConfigResourcesRequest;
    list_config_resources::ListConfigResourcesResponse;
    list_groups::ListGroupsRequest;
    list_groups::ListGroupsResponse;
    list_offsets::ListOffsetsRequest;
    list_offsets::ListOffsetsResponse;
    list_partition_reassignments::ListPartitionReassignmentsRequest;
    list_partition_reassignments::ListPartitionReassignmentsResponse;
    metadata::MetadataRequest;
    metadata::MetadataResponse;
    offset_commit::OffsetCommitRequest;
    offset_commit::OffsetCommitResponse;
    offset_delete::OffsetDeleteRequest;
    offset_delete::OffsetDeleteResponse;
    offset_fetch::OffsetFetchRequest;
    offset_fetch::OffsetFetchResponse;
    offset_for_leader_epoch::OffsetForLeaderEpochRequest;
    offset_for_leader_epoch::OffsetForLeaderEpochResponse;
    produce::ProduceRequest;
    produce::ProduceResponse;
    sync_group::SyncGroupRequest;
    sync_group::SyncGroupResponse;
};

#[test]
fn frames_are_decoded_within_bounds() {
    fuzz("frames", ROUNDS, frame);
}

#[test]
fn arrays_of_the_smallest_elements_stay_within_bounds() {
    fuzz("floods", ROUNDS / 6, flood);
}

/// A whole frame: header and message, damaged.
fn frame(random: &mut Random) {
    let kind = pick(random);
    let version = pick_version(random, kind);
    let mut bytes = valid_frame(random, kind, version);
    match random.below(8) {
        0 => bytes = noise(random),
        1 => {
            let behind = 4.min(bytes.len());
            bytes.truncate(behind);
            bytes.extend(noise(random));
        }
        2 => {
            // The head of one frame, the tail of another.
            let other = pick(random);
            let version = pick_version(random, other);
            let tail = valid_frame(random, other, version);
            bytes.truncate(random.below(bytes.len()));
            bytes.extend_from_slice(&tail[random.below(tail.len())..]);
        }
        3 => bytes.truncate(random.below(bytes.len() + 1)),
        _ => mutate(random, &mut bytes),
    }
    let mut reader = Reader::new(&bytes);
    let (header, peak) = peak_bytes(|| {
        if kind.is_request() {
            RequestHeader::decode(&mut reader).map(|_| ())
        } else {
            ResponseHeader::decode(&mut reader, kind.key, version).map(|_| ())
        }
    });
    assert_bounded(kind, version, &bytes, peak);
    if header.is_ok() {
        decode(kind, version, reader.rest());
    }
    // Whatever the header says, another message may have to read it.
    decode(kind, version, &bytes);
}

/// A message that claims many elements, of as few bytes as there can be.
fn flood(random: &mut Random) {
    const COUNTS: [usize; 6] = [100, 1000, 5000, 16_000, 40_000, 70_000];
    let kind = pick(random);
    let version = pick_version(random, kind);
    let mut bytes = (kind.valid)(&mut Source::new(random.next()), version);
    let at = random.below(bytes.len() + 1);
    bytes.truncate(at);
    let count = COUNTS[random.below(COUNTS.len())];
    let claimed = u32::try_from(if random.one_in(4) { random.below(1 << 31) } else { count }).unwrap();
    if random.one_in(2) {
        bytes.extend_from_slice(&claimed.to_be_bytes());
    } else {
        let mut writer = Writer::new();
        writer.unsigned_varint(claimed + 1);
        bytes.extend_from_slice(&writer.bytes);
    }
    // One repeated byte, or a short pattern: empty strings and arrays, nulls, ones.
    let pattern = [[0, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0xff, 0xff, 0, 0]][random.below(5)];
    let period = 1 + random.below(4);
    bytes.extend(pattern[..period].iter().cycle().take(count * (1 + random.below(8))));
    decode(kind, version, &bytes);
}

/// Decodes within bounds. What decodes can be written again, and is then read as the same.
fn decode(kind: &Kind, version: i16, bytes: &[u8]) {
    let (decoded, peak) = peak_bytes(|| (kind.decode)(bytes, version));
    assert_bounded(kind, version, bytes, peak);
    if let Ok(left) = decoded {
        assert!(left <= bytes.len());
        let again = (kind.encode_again)(bytes, version);
        assert_eq!((kind.decode)(&again, version), Ok(0), "{} version {version}", kind.name);
    }
}

fn assert_bounded(kind: &Kind, version: i16, bytes: &[u8], peak: usize) {
    let bound = bytes.len() * BYTES_PER_FRAME_BYTE + BYTES_BESIDE;
    assert!(peak <= bound, "{} version {version}: {peak} bytes held for a frame of {}", kind.name, bytes.len());
}

fn valid_frame(random: &mut Random, kind: &Kind, version: i16) -> Vec<u8> {
    let mut source = Source::new(random.next());
    let mut writer = Writer::new();
    let correlation_id = i32::arbitrary(&mut source, corelane::protocol::wire::Dialect { version, flexible: false });
    if kind.is_request() {
        let client_id = (!random.one_in(4)).then(|| "fuzz".into());
        RequestHeader { api_key: kind.key.code(), api_version: version, correlation_id, client_id }.encode(&mut writer);
    } else {
        ResponseHeader { correlation_id }.encode(&mut writer, kind.key, version);
    }
    writer.bytes.extend((kind.valid)(&mut source, version));
    writer.bytes
}

fn noise(random: &mut Random) -> Vec<u8> {
    let count = random.below(400);
    random.bytes(count)
}

fn pick(random: &mut Random) -> &'static Kind {
    &KINDS[random.below(KINDS.len())]
}

fn pick_version(random: &mut Random, kind: &Kind) -> i16 {
    let count = kind.versions.clone().count();
    kind.versions.clone().nth(random.below(count)).expect("below the count")
}
