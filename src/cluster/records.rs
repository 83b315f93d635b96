//! Kafka's own metadata records, in Kafka's own framing, so that following a KRaft quorum later reads the same bytes.
//!
//! The value of a record in the metadata log:
//!
//! ```text
//! unsigned varint   frame version, always 1
//! unsigned varint   type of the record (its `apiKey` in Kafka's schemas)
//! unsigned varint   version of the record
//! ...               the body, always flexible
//! ```
//!
//! A record is written in the lowest version that can say it. A type or a version that is not in the table below is an
//! error that stops the broker: skipping it would build another cluster than the writer meant. Unknown *tagged fields* are
//! skipped, as Kafka's rules of compatibility want.

use std::sync::Arc;

use crate::protocol::table::message;
use crate::protocol::wire::{Decode, DecodeError, Dialect, Encode, Reader, Writer};
use crate::types::TopicId;

/// Kafka's 128-bit id of anything: incarnations and directories as well as topics.
pub type Uuid = TopicId;

message! {
    /// A node has started, with a new incarnation, or is known in a snapshot.
    pub struct RegisterBrokerRecord {
        /// The node.
        broker_id: i32 [0..];
        /// Left from Kafka's migration away from ZooKeeper.
        is_migrating_zk_broker: bool [2..];
        /// This life of the node's process.
        incarnation_id: Uuid [0..];
        /// Rises with every registration of the node.
        broker_epoch: i64 [0..];
        /// Where it listens.
        end_points: Vec<BrokerEndpoint> [0..];
        /// Which features it could take part in.
        features: Vec<BrokerFeature> [0..];
        /// Its machine.
        rack: Option<Arc<str>> [0..];
        /// It may not lead yet.
        fenced: bool [0..] default(true);
        /// It is about to stop.
        in_controlled_shutdown: bool [1..];
        /// Its directories that work.
        log_dirs: Vec<Uuid> [3..] tag 0;
    }

    /// Where a node listens.
    pub struct BrokerEndpoint {
        /// Name of the listener.
        name: Arc<str> [0..];
        /// Host that clients connect to.
        host: Arc<str> [0..];
        /// Port that clients connect to.
        port: u16 [0..];
        /// Kafka's `SecurityProtocol`; 0 is PLAINTEXT.
        security_protocol: i16 [0..];
    }

    /// A feature and the levels of it that a node speaks.
    pub struct BrokerFeature {
        /// Name of the feature.
        name: Arc<str> [0..];
        /// Lowest level.
        min_supported_version: i16 [0..];
        /// Highest level.
        max_supported_version: i16 [0..];
    }

    /// A node is no longer part of the cluster.
    pub struct UnregisterBrokerRecord {
        /// The node.
        broker_id: i32 [0..];
        /// Epoch of the registration that ends.
        broker_epoch: i64 [0..];
    }

    /// A node's standing has changed.
    pub struct BrokerRegistrationChangeRecord {
        /// The node.
        broker_id: i32 [0..];
        /// Epoch of the registration that changes.
        broker_epoch: i64 [0..];
        /// -1: unfenced, 0: as before, 1: fenced.
        fenced: i8 [0..] tag 0;
        /// 0: as before, 1: about to stop.
        in_controlled_shutdown: i8 [1..] tag 1;
        /// Its directories that work; empty: as before.
        log_dirs: Vec<Uuid> [2..] tag 2;
    }

    /// A topic exists.
    pub struct TopicRecord {
        /// Its name.
        name: Arc<str> [0..];
        /// This life of it.
        topic_id: Uuid [0..];
    }

    /// A partition exists.
    pub struct PartitionRecord {
        /// Its index.
        partition_id: i32 [0..] default(-1);
        /// Its topic.
        topic_id: Uuid [0..];
        /// Nodes that hold it, the preferred leader first.
        replicas: Vec<i32> [0..];
        /// Replicas in sync.
        isr: Vec<i32> [0..];
        /// Replicas about to leave.
        removing_replicas: Vec<i32> [0..];
        /// Replicas about to join.
        adding_replicas: Vec<i32> [0..];
        /// The leader, -1 without one.
        leader: i32 [0..] default(-1);
        /// 1 while it recovers from an unclean election.
        leader_recovery_state: i8 [0..] tag 0;
        /// Rises with every leader.
        leader_epoch: i32 [0..] default(-1);
        /// Rises with every change.
        partition_epoch: i32 [0..] default(-1);
        /// The directory of each replica, in the order of `replicas`.
        directories: Vec<Uuid> [1..];
        /// Replicas that may lead without losing data (KIP-966).
        eligible_leader_replicas: Option<Vec<i32>> [2..] tag 1;
        /// The same, as last known (KIP-966).
        last_known_elr: Option<Vec<i32>> [2..] tag 2;
    }

    /// A partition has changed; what is absent stays.
    pub struct PartitionChangeRecord {
        /// Its index.
        partition_id: i32 [0..] default(-1);
        /// Its topic.
        topic_id: Uuid [0..];
        /// Replicas in sync.
        isr: Option<Vec<i32>> [0..] tag 0;
        /// -1: there is no leader, -2: as before, else the leader, of a new leader epoch.
        leader: i32 [0..] tag 1 default(NO_LEADER_CHANGE);
        /// Nodes that hold it.
        replicas: Option<Vec<i32>> [0..] tag 2;
        /// Replicas about to leave.
        removing_replicas: Option<Vec<i32>> [0..] tag 3;
        /// Replicas about to join.
        adding_replicas: Option<Vec<i32>> [0..] tag 4;
        /// -1: as before, 0: recovered, 1: recovers from an unclean election.
        leader_recovery_state: i8 [0..] tag 5 default(-1);
        /// Replicas that may lead without losing data (KIP-966).
        eligible_leader_replicas: Option<Vec<i32>> [2..] tag 6;
        /// The same, as last known (KIP-966).
        last_known_elr: Option<Vec<i32>> [2..] tag 7;
        /// The directory of each replica.
        directories: Option<Vec<Uuid>> [1..] tag 8;
    }

    /// A topic and its partitions are gone.
    pub struct RemoveTopicRecord {
        /// The topic.
        topic_id: Uuid [0..];
    }

    /// A configuration is set, or unset.
    pub struct ConfigRecord {
        /// Kafka's `ConfigResource.Type`: 2 topic, 4 broker, 32 group.
        resource_type: i8 [0..];
        /// Name of the topic; node id, or empty for all nodes.
        resource_name: Arc<str> [0..];
        /// The key.
        name: Arc<str> [0..];
        /// The value; null unsets.
        value: Option<Arc<str>> [0..];
    }

    /// A feature is in use at a level; 0 is not at all.
    pub struct FeatureLevelRecord {
        /// Name of the feature.
        name: Arc<str> [0..];
        /// Its level.
        feature_level: i16 [0..];
    }

    /// Producer ids below the next one have been given out.
    pub struct ProducerIdsRecord {
        /// The node that asked.
        broker_id: i32 [0..];
        /// Epoch of its registration.
        broker_epoch: i64 [0..] default(-1);
        /// First id of the next block.
        next_producer_id: i64 [0..];
    }

    /// Nothing: proves that the controller lives.
    pub struct NoOpRecord {}

    /// What follows is published together.
    pub struct BeginTransactionRecord {
        /// What it is about.
        name: Option<Arc<str>> [0..] tag 0;
    }

    /// What came since the begin is published.
    pub struct EndTransactionRecord {}

    /// What came since the begin never happened.
    pub struct AbortTransactionRecord {
        /// Why.
        reason: Option<Arc<str>> [0..] tag 0;
    }
}

/// In a [`PartitionChangeRecord`]: the leader stays.
pub const NO_LEADER_CHANGE: i32 = -2;
/// In partition records: there is no leader.
pub const NO_LEADER: i32 = -1;

const FRAME_VERSION: u32 = 1;

/// Why the value of a record in the metadata log is not understood. The broker stops: what it would miss is unknown.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RecordError {
    /// Another framing than Kafka's first.
    #[error("metadata record in frame version {0}, this broker reads version 1: it was written by a newer one")]
    FrameVersion(u32),
    /// No such type here.
    #[error(
        "metadata record of unknown type {0}: it was written by a newer broker or needs a part that is not there yet"
    )]
    UnknownType(u32),
    /// The type is known, the version is not.
    #[error("{name} of version {version}, this broker reads up to {max}: it was written by a newer one")]
    UnknownVersion {
        /// Name of the record.
        name: &'static str,
        /// Its version.
        version: u32,
        /// The last one known here.
        max: i16,
    },
    /// The bytes are not the record that they claim to be.
    #[error("malformed {name}: {cause}")]
    Malformed {
        /// Name of the record, or of its frame.
        name: &'static str,
        /// What is wrong.
        cause: DecodeError,
    },
    /// Bytes follow the record.
    #[error("{bytes} bytes follow a {name}")]
    LeftOver {
        /// Name of the record.
        name: &'static str,
        /// How many.
        bytes: usize,
    },
}

/// Declares the record types: Kafka's number, the struct, the last version.
macro_rules! records {
    ($($(#[$doc:meta])* $key:literal $variant:ident($body:ident) ..=$max:literal,)*) => {
        /// One record of the metadata log.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Record {$(
            $(#[$doc])*
            $variant($body),
        )*}

        impl Record {
            /// Kafka's name for the type.
            pub fn name(&self) -> &'static str {
                match self {$( Record::$variant(_) => stringify!($body), )*}
            }

            fn key(&self) -> u32 {
                match self {$( Record::$variant(_) => $key, )*}
            }

            fn encode_body(&self, writer: &mut Writer, dialect: Dialect) {
                match self {$( Record::$variant(body) => body.encode_field(writer, dialect), )*}
            }

            /// Reads the value of a record, all of it.
            pub fn decode(value: &[u8]) -> Result<Record, RecordError> {
                let mut reader = Reader::new(value);
                let (key, version) = read_frame(&mut reader)?;
                match key {
                    $( $key => read_body(&mut reader, stringify!($body), version, $max).map(Record::$variant), )*
                    _ => Err(RecordError::UnknownType(key)),
                }
            }
        }

        $( impl From<$body> for Record {
            fn from(body: $body) -> Record { Record::$variant(body) }
        } )*

        /// The types with their last versions, for tests.
        #[cfg(all(test, debug_assertions))]
        const LAST_VERSIONS: &[(u32, i16)] = &[$( ($key, $max) ),*];

        #[cfg(all(test, debug_assertions))]
        fn arbitrary(source: &mut crate::protocol::arbitrary::Source, key: u32, version: i16) -> Record {
            use crate::protocol::arbitrary::Arbitrary;
            match key {
                $( $key => Record::$variant($body::arbitrary(source, dialect_of(version))), )*
                _ => unreachable!("only keys of the table"),
            }
        }
    };
}

records! {
    /// A node has started.
    0 RegisterBroker(RegisterBrokerRecord) ..=3,
    /// A node has left.
    1 UnregisterBroker(UnregisterBrokerRecord) ..=0,
    /// A topic exists.
    2 Topic(TopicRecord) ..=0,
    /// A partition exists.
    3 Partition(PartitionRecord) ..=2,
    /// A configuration is set or unset.
    4 Config(ConfigRecord) ..=0,
    /// A partition has changed.
    5 PartitionChange(PartitionChangeRecord) ..=2,
    /// A topic is gone.
    9 RemoveTopic(RemoveTopicRecord) ..=0,
    /// A feature is in use.
    12 FeatureLevel(FeatureLevelRecord) ..=0,
    /// Producer ids have been given out.
    15 ProducerIds(ProducerIdsRecord) ..=0,
    /// A node's standing has changed.
    17 BrokerRegistrationChange(BrokerRegistrationChangeRecord) ..=2,
    /// Nothing.
    20 NoOp(NoOpRecord) ..=0,
    /// A transaction begins.
    23 BeginTransaction(BeginTransactionRecord) ..=0,
    /// A transaction is published.
    24 EndTransaction(EndTransactionRecord) ..=0,
    /// A transaction never happened.
    25 AbortTransaction(AbortTransactionRecord) ..=0,
}

impl Record {
    /// The value of the record in the metadata log, in the lowest version that can say it.
    pub fn encode(&self) -> Vec<u8> {
        let version = self.version();
        let mut writer = Writer::new();
        writer.unsigned_varint(FRAME_VERSION);
        writer.unsigned_varint(self.key());
        writer.unsigned_varint(u32::try_from(version).expect("versions are not negative"));
        self.encode_body(&mut writer, dialect_of(version));
        writer.bytes
    }

    /// The lowest version that has every field in use.
    fn version(&self) -> i16 {
        match self {
            Record::RegisterBroker(body) if !body.log_dirs.is_empty() => 3,
            Record::RegisterBroker(body) if body.is_migrating_zk_broker => 2,
            Record::RegisterBroker(body) if body.in_controlled_shutdown => 1,
            Record::BrokerRegistrationChange(body) if !body.log_dirs.is_empty() => 2,
            Record::BrokerRegistrationChange(body) if body.in_controlled_shutdown != 0 => 1,
            Record::Partition(body) if body.eligible_leader_replicas.is_some() || body.last_known_elr.is_some() => 2,
            Record::Partition(body) if !body.directories.is_empty() => 1,
            Record::PartitionChange(body)
                if body.eligible_leader_replicas.is_some() || body.last_known_elr.is_some() =>
            {
                2
            }
            Record::PartitionChange(body) if body.directories.is_some() => 1,
            _ => 0,
        }
    }
}

/// Every metadata record is flexible in every version.
fn dialect_of(version: i16) -> Dialect {
    Dialect { version, flexible: true }
}

/// Reads type and version.
fn read_frame(reader: &mut Reader<'_>) -> Result<(u32, u32), RecordError> {
    let mut number =
        || reader.unsigned_varint().map_err(|cause| RecordError::Malformed { name: "record frame", cause });
    let frame = number()?;
    if frame != FRAME_VERSION {
        return Err(RecordError::FrameVersion(frame));
    }
    Ok((number()?, number()?))
}

/// Reads a body to the end of its record.
fn read_body<'de, B: Decode<'de>>(
    reader: &mut Reader<'de>,
    name: &'static str,
    version: u32,
    max: i16,
) -> Result<B, RecordError> {
    let known = i16::try_from(version).ok().filter(|version| *version <= max);
    let known = known.ok_or(RecordError::UnknownVersion { name, version, max })?;
    let body = B::decode_field(reader, dialect_of(known)).map_err(|cause| RecordError::Malformed { name, cause })?;
    match reader.remaining() {
        0 => Ok(body),
        bytes => Err(RecordError::LeftOver { name, bytes }),
    }
}

impl Encode for Arc<str> {
    fn encode_field(&self, writer: &mut Writer, dialect: Dialect) {
        writer.nullable_string(Some(self), dialect.flexible);
    }

    fn encode_nullable(value: Option<&Self>, writer: &mut Writer, dialect: Dialect) {
        writer.nullable_string(value.map(|text| &**text), dialect.flexible);
    }
}

impl Decode<'_> for Arc<str> {
    fn decode_field(reader: &mut Reader<'_>, dialect: Dialect) -> Result<Self, DecodeError> {
        Self::decode_nullable(reader, dialect)?.ok_or(DecodeError::UnexpectedNull)
    }

    fn decode_nullable(reader: &mut Reader<'_>, dialect: Dialect) -> Result<Option<Self>, DecodeError> {
        Ok(reader.nullable_string(dialect.flexible)?.map(Arc::from))
    }
}

#[cfg(debug_assertions)]
impl crate::protocol::arbitrary::Arbitrary for Arc<str> {
    fn arbitrary(source: &mut crate::protocol::arbitrary::Source, dialect: Dialect) -> Self {
        Arc::from(&*std::borrow::Cow::<str>::arbitrary(source, dialect))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    // Random messages are not part of release builds.
    #[cfg(debug_assertions)]
    use crate::protocol::arbitrary::Source;

    #[cfg(debug_assertions)]
    #[test]
    fn records_of_every_version_survive_encoding() {
        for seed in 0..200 {
            let source = &mut Source::new(seed);
            for &(key, last) in LAST_VERSIONS {
                for version in 0..=last {
                    let record = arbitrary(source, key, version);
                    assert_eq!(Record::decode(&record.encode()), Ok(record), "seed {seed}");
                }
            }
        }
    }

    #[cfg(debug_assertions)]
    #[test]
    fn truncated_and_changed_records_are_errors_or_other_records_but_never_a_panic() {
        for seed in 0..50 {
            let source = &mut Source::new(seed);
            for &(key, last) in LAST_VERSIONS {
                let mut value = arbitrary(source, key, last).encode();
                for end in 0..value.len() {
                    assert!(Record::decode(&value[..end]).is_err(), "seed {seed}, key {key}, {end} bytes");
                }
                for _ in 0..20 {
                    let at = source.below(value.len());
                    value[at] ^= 1 << source.below(8);
                    let _ = Record::decode(&value);
                }
            }
        }
    }

    #[test]
    fn unknown_types_versions_and_frames_are_refused() {
        assert_eq!(Record::decode(&[2, 2, 0]), Err(RecordError::FrameVersion(2)));
        assert_eq!(Record::decode(&[1, 21, 0]), Err(RecordError::UnknownType(21)));
        let newer = RecordError::UnknownVersion { name: "NoOpRecord", version: 1, max: 0 };
        assert_eq!(Record::decode(&[1, 20, 1, 0]), Err(newer));
        let longer = RecordError::LeftOver { name: "NoOpRecord", bytes: 1 };
        assert_eq!(Record::decode(&[1, 20, 0, 0, 0]), Err(longer));
    }

    #[test]
    fn unknown_tagged_fields_are_skipped() {
        // NoOpRecord with one tagged field: tag 7, two bytes.
        assert_eq!(Record::decode(&[1, 20, 0, 1, 7, 2, 9, 9]), Ok(Record::NoOp(NoOpRecord {})));
    }

    /// Values that Apache Kafka 4.1.1's `MetadataRecordSerde` wrote for the same records.
    #[test]
    fn records_are_byte_for_byte_kafkas() {
        let text = |text: &str| -> Arc<str> { Arc::from(text) };
        let config = |resource_type, resource_name, name, value: Option<&str>| -> Record {
            let (resource_name, name, value) = (text(resource_name), text(name), value.map(text));
            ConfigRecord { resource_type, resource_name, name, value }.into()
        };
        let topic = Uuid::new(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10_u128.to_be_bytes());
        let directory = Uuid::new((7_u128 << 64 | 8).to_be_bytes());
        let partition = PartitionRecord {
            partition_id: 1,
            topic_id: topic,
            replicas: vec![2],
            isr: vec![2],
            leader: 2,
            leader_epoch: 5,
            partition_epoch: 6,
            ..PartitionRecord::default()
        };
        let golden: Vec<(&str, Record)> = vec![
            (
                concat!(
                    "01000300000003000102030405060708090a0b0c0d0e0f100000000000000009020a504c41494e54",
                    "4558540a6c6f63616c686f73749c4000000002116d657461646174612e76657273696f6e0007001b",
                    "00036d3100000100110200000000000000070000000000000008",
                ),
                RegisterBrokerRecord {
                    broker_id: 3,
                    is_migrating_zk_broker: false,
                    incarnation_id: topic,
                    broker_epoch: 9,
                    end_points: vec![BrokerEndpoint {
                        name: text("PLAINTEXT"),
                        host: text("localhost"),
                        port: 40_000,
                        security_protocol: 0,
                    }],
                    features: vec![BrokerFeature {
                        name: text("metadata.version"),
                        min_supported_version: 7,
                        max_supported_version: 27,
                    }],
                    rack: Some(text("m1")),
                    fenced: false,
                    in_controlled_shutdown: false,
                    log_dirs: vec![directory],
                }
                .into(),
            ),
            ("01010000000003000000000000000900", UnregisterBrokerRecord { broker_id: 3, broker_epoch: 9 }.into()),
            (
                concat!("011102000000030000000000000009030001ff010101021102000000000000000700000000000000", "08",),
                BrokerRegistrationChangeRecord {
                    broker_id: 3,
                    broker_epoch: 9,
                    fenced: -1,
                    in_controlled_shutdown: 1,
                    log_dirs: vec![directory],
                }
                .into(),
            ),
            (
                "010200076f72646572730102030405060708090a0b0c0d0e0f1000",
                TopicRecord { name: text("orders"), topic_id: topic }.into(),
            ),
            (
                concat!(
                    "010300000000010102030405060708090a0b0c0d0e0f100200000002020000000201010000000200",
                    "0000050000000600",
                ),
                partition.clone().into(),
            ),
            (
                concat!(
                    "010302000000010102030405060708090a0b0c0d0e0f100300000002000000030200000002020000",
                    "00040200000005000000020000000500000006030000000000000007000000000000000801020304",
                    "05060708090a0b0c0d0e0f10030001010105020000000302050200000002",
                ),
                PartitionRecord {
                    replicas: vec![2, 3],
                    removing_replicas: vec![4],
                    adding_replicas: vec![5],
                    leader_recovery_state: 1,
                    directories: vec![directory, topic],
                    eligible_leader_replicas: Some(vec![3]),
                    last_known_elr: Some(vec![2]),
                    ..partition
                }
                .into(),
            ),
            (
                concat!(
                    "010502000000010102030405060708090a0b0c0d0e0f100600090300000002000000030104000000",
                    "030205020000000305010006010108110200000000000000070000000000000008",
                ),
                PartitionChangeRecord {
                    partition_id: 1,
                    topic_id: topic,
                    isr: Some(vec![2, 3]),
                    leader: 3,
                    replicas: Some(vec![3]),
                    leader_recovery_state: 0,
                    eligible_leader_replicas: Some(vec![]),
                    directories: Some(vec![directory]),
                    ..PartitionChangeRecord::default()
                }
                .into(),
            ),
            ("0109000102030405060708090a0b0c0d0e0f1000", RemoveTopicRecord { topic_id: topic }.into()),
            ("01040002076f72646572730d726574656e74696f6e2e6d73023500", config(2, "orders", "retention.ms", Some("5"))),
            ("010400040102780000", config(4, "", "x", None)),
            (
                "010c00116d657461646174612e76657273696f6e001b00",
                FeatureLevelRecord { name: text("metadata.version"), feature_level: 27 }.into(),
            ),
            (
                "010f0000000001000000000000000400000000000003e800",
                ProducerIdsRecord { broker_id: 1, broker_epoch: 4, next_producer_id: 1000 }.into(),
            ),
            ("01140000", NoOpRecord {}.into()),
            ("011700010002026e", BeginTransactionRecord { name: Some(text("n")) }.into()),
            ("01180000", EndTransactionRecord {}.into()),
            ("0119000100020272", AbortTransactionRecord { reason: Some(text("r")) }.into()),
        ];
        for (hex, record) in golden {
            let encoded: String = record.encode().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(encoded, hex, "{}", record.name());
            assert_eq!(Record::decode(&record.encode()), Ok(record));
        }
    }
}
