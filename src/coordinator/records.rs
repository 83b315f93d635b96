//! The records of `__consumer_offsets`, in Kafka's formats (group-coordinator's `common/message/*.json`), so that Kafka's own
//! tools read the topic. A key starts with its type, a value with its version, both i16.
//!
//! Keys are never flexible. Values of classic groups and offsets become flexible with version 4, those of KIP-848 always are.
//! What follows a key or a value in its record is ignored, as Kafka's `CoordinatorRecordSerde` does.

mod tables;

pub use self::tables::{
    ConsumerGroupCurrentMemberAssignmentValue, ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataValue,
    ConsumerGroupRegularExpressionValue, GroupMember, GroupMetadataValue, MemberKey, OffsetCommitKey,
    OffsetCommitValue, RegularExpressionKey, TopicPartitions,
};
use crate::protocol::wire::{Decode, DecodeError, Dialect, Encode, Reader, Writer};

/// One record: what it is about, and what is new about it. `None` for the value is a tombstone.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// OffsetCommitKey 1 → OffsetCommitValue 3, or 1 where the offset has an expiry of its own (0 to 4 read).
    OffsetCommit(OffsetCommitKey, Option<OffsetCommitValue>),
    /// GroupMetadataKey 2 → GroupMetadataValue 3 (0 to 4 read).
    Group(String, Option<GroupMetadataValue>),
    /// ConsumerGroupMetadataKey 3.
    ConsumerGroup(String, Option<ConsumerGroupMetadataValue>),
    /// ConsumerGroupMemberMetadataKey 5.
    ConsumerMember(MemberKey, Option<ConsumerGroupMemberMetadataValue>),
    /// ConsumerGroupTargetAssignmentMetadataKey 6: the assignment epoch.
    ConsumerTargetMetadata(String, Option<i32>),
    /// ConsumerGroupTargetAssignmentMemberKey 7.
    ConsumerTargetMember(MemberKey, Option<Vec<TopicPartitions>>),
    /// ConsumerGroupCurrentMemberAssignmentKey 8.
    ConsumerCurrent(MemberKey, Option<ConsumerGroupCurrentMemberAssignmentValue>),
    /// ConsumerGroupRegularExpressionKey 16 (KIP-848 subscriptions by pattern).
    ConsumerRegularExpression(RegularExpressionKey, Option<ConsumerGroupRegularExpressionValue>),
}

/// Why a record cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RecordError {
    /// A value of a newer version than Kafka 4.1's.
    #[error("record type {key_type} has version {version}: use the newer broker that wrote it")]
    NewerVersion {
        /// Type of the key.
        key_type: i16,
        /// Version of the value.
        version: i16,
    },
    /// Bytes that do not add up.
    #[error("record is damaged")]
    Damaged,
}

impl From<DecodeError> for RecordError {
    fn from(_: DecodeError) -> RecordError {
        RecordError::Damaged
    }
}

/// A kind of record: the type of its key and what versions of its value there are. By Kafka's `CoordinatorRecordType`.
#[derive(Clone, Copy, Debug)]
struct Kind {
    key_type: i16,
    /// Last version that is read.
    value_last: i16,
    /// First flexible version of the value.
    flexible_since: i16,
}

const LEGACY_OFFSET_COMMIT: Kind = Kind { key_type: 0, value_last: 0, flexible_since: i16::MAX };
const OFFSET_COMMIT: Kind = Kind { key_type: 1, value_last: 4, flexible_since: 4 };
const GROUP: Kind = Kind { key_type: 2, value_last: 4, flexible_since: 4 };
const CONSUMER_GROUP: Kind = Kind { key_type: 3, value_last: 0, flexible_since: 0 };
const CONSUMER_MEMBER: Kind = Kind { key_type: 5, value_last: 0, flexible_since: 0 };
const CONSUMER_TARGET_METADATA: Kind = Kind { key_type: 6, value_last: 0, flexible_since: 0 };
const CONSUMER_TARGET_MEMBER: Kind = Kind { key_type: 7, value_last: 0, flexible_since: 0 };
const CONSUMER_CURRENT: Kind = Kind { key_type: 8, value_last: 0, flexible_since: 0 };
const CONSUMER_REGULAR_EXPRESSION: Kind = Kind { key_type: 16, value_last: 0, flexible_since: 0 };

/// How every key is written.
const KEY_DIALECT: Dialect = Dialect { version: 0, flexible: false };

impl Kind {
    fn dialect(self, version: i16) -> Dialect {
        Dialect { version, flexible: version >= self.flexible_since }
    }

    fn key(self, key: &impl Encode) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.i16(self.key_type);
        key.encode_field(&mut writer, KEY_DIALECT);
        writer.bytes
    }

    fn value<T: Encode>(self, version: i16, value: Option<&T>) -> Option<Vec<u8>> {
        let mut writer = Writer::new();
        writer.i16(version);
        value?.encode_field(&mut writer, self.dialect(version));
        Some(writer.bytes)
    }

    fn read<'de, T: Decode<'de>>(self, value: Option<&'de [u8]>) -> Result<Option<T>, RecordError> {
        let Some(value) = value else { return Ok(None) };
        let mut reader = Reader::new(value);
        let version = reader.i16()?;
        if version < 0 {
            return Err(RecordError::Damaged);
        }
        if version > self.value_last {
            return Err(RecordError::NewerVersion { key_type: self.key_type, version });
        }
        Ok(Some(T::decode_field(&mut reader, self.dialect(version))?))
    }
}

/// A value of one field.
#[derive(Debug)]
struct Only<T>(T);

impl<T: Encode> Encode for Only<&T> {
    fn encode_field(&self, writer: &mut Writer, dialect: Dialect) {
        self.0.encode_field(writer, dialect);
        if dialect.flexible {
            // No tagged fields.
            writer.unsigned_varint(0);
        }
    }
}

impl<'de, T: Decode<'de>> Decode<'de> for Only<T> {
    fn decode_field(reader: &mut Reader<'de>, dialect: Dialect) -> Result<Self, DecodeError> {
        let value = T::decode_field(reader, dialect)?;
        if dialect.flexible {
            reader.tagged_fields(|_, _| Ok(false))?;
        }
        Ok(Only(value))
    }
}

impl Record {
    /// The key's bytes.
    pub fn key(&self) -> Vec<u8> {
        match self {
            Record::OffsetCommit(key, _) => OFFSET_COMMIT.key(key),
            Record::Group(group, _) => GROUP.key(group),
            Record::ConsumerGroup(group, _) => CONSUMER_GROUP.key(group),
            Record::ConsumerMember(key, _) => CONSUMER_MEMBER.key(key),
            Record::ConsumerTargetMetadata(group, _) => CONSUMER_TARGET_METADATA.key(group),
            Record::ConsumerTargetMember(key, _) => CONSUMER_TARGET_MEMBER.key(key),
            Record::ConsumerCurrent(key, _) => CONSUMER_CURRENT.key(key),
            Record::ConsumerRegularExpression(key, _) => CONSUMER_REGULAR_EXPRESSION.key(key),
        }
    }

    /// The value's bytes, `None` for a tombstone.
    pub fn value(&self) -> Option<Vec<u8>> {
        match self {
            // Only version 1 can say when an offset expires (`GroupCoordinatorRecordHelpers.offsetCommitValueVersion`). Kafka 4.1
            // writes version 4 otherwise; 3 says the same, and older brokers and tools read it too.
            Record::OffsetCommit(_, value) => {
                let expires = value.as_ref().is_some_and(|value| value.expire_timestamp != -1);
                OFFSET_COMMIT.value(if expires { 1 } else { 3 }, value.as_ref())
            }
            Record::Group(_, value) => GROUP.value(3, value.as_ref()),
            Record::ConsumerGroup(_, value) => CONSUMER_GROUP.value(0, value.as_ref()),
            Record::ConsumerMember(_, value) => CONSUMER_MEMBER.value(0, value.as_ref()),
            Record::ConsumerTargetMetadata(_, epoch) => {
                CONSUMER_TARGET_METADATA.value(0, epoch.as_ref().map(Only).as_ref())
            }
            Record::ConsumerTargetMember(_, partitions) => {
                CONSUMER_TARGET_MEMBER.value(0, partitions.as_ref().map(Only).as_ref())
            }
            Record::ConsumerCurrent(_, value) => CONSUMER_CURRENT.value(0, value.as_ref()),
            Record::ConsumerRegularExpression(_, value) => CONSUMER_REGULAR_EXPRESSION.value(0, value.as_ref()),
        }
    }

    /// Reads a record of the log. `None`: of a kind that is skipped (share and streams groups, the old partition metadata).
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Record>, RecordError> {
        let reader = &mut Reader::new(key);
        let record = match reader.i16()? {
            0 => Record::OffsetCommit(read_key(reader)?, LEGACY_OFFSET_COMMIT.read(value)?),
            1 => Record::OffsetCommit(read_key(reader)?, OFFSET_COMMIT.read(value)?),
            2 => Record::Group(read_key(reader)?, GROUP.read(value)?),
            3 => Record::ConsumerGroup(read_key(reader)?, CONSUMER_GROUP.read(value)?),
            5 => Record::ConsumerMember(read_key(reader)?, CONSUMER_MEMBER.read(value)?),
            6 => {
                let epoch: Option<Only<i32>> = CONSUMER_TARGET_METADATA.read(value)?;
                Record::ConsumerTargetMetadata(read_key(reader)?, epoch.map(|epoch| epoch.0))
            }
            7 => {
                let partitions: Option<Only<Vec<TopicPartitions>>> = CONSUMER_TARGET_MEMBER.read(value)?;
                Record::ConsumerTargetMember(read_key(reader)?, partitions.map(|partitions| partitions.0))
            }
            8 => Record::ConsumerCurrent(read_key(reader)?, CONSUMER_CURRENT.read(value)?),
            16 => Record::ConsumerRegularExpression(read_key(reader)?, CONSUMER_REGULAR_EXPRESSION.read(value)?),
            _ => return Ok(None),
        };
        Ok(Some(record))
    }
}

fn read_key<'de, T: Decode<'de>>(reader: &mut Reader<'de>) -> Result<T, RecordError> {
    Ok(T::decode_field(reader, KEY_DIALECT)?)
}

/// What compaction leaves of a log that is clean below its first `clean` records: the last of each key there, and of tombstones
/// all or none. Coordinators must make the same of both.
#[cfg(test)]
pub(super) fn compacted(log: &[Record], clean: usize, drops_tombstones: bool) -> Vec<Record> {
    let last: std::collections::HashMap<Vec<u8>, usize> =
        log[..clean].iter().enumerate().map(|(index, record)| (record.key(), index)).collect();
    let stays = |(index, record): &(usize, &Record)| {
        let is_last = *index >= clean || last[&record.key()] == *index;
        is_last && (*index >= clean || !drops_tombstones || record.value().is_some())
    };
    log.iter().enumerate().filter(stays).map(|(_, record)| record.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::arbitrary::{Arbitrary, Source};
    use crate::types::TopicId;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn decode(key: &str, value: &str) -> Record {
        Record::decode(&bytes(key), Some(&bytes(value))).unwrap().unwrap()
    }

    /// Bytes that Kafka 4.1.1's own generated classes wrote: read as this record, and written the same.
    fn is(key: &str, value: &str, record: &Record) {
        assert_eq!(decode(key, value), *record);
        assert_eq!(record.key(), bytes(key));
        assert_eq!(record.value(), Some(bytes(value)));
        let tombstone = Record::decode(&bytes(key), None).unwrap().unwrap();
        assert_eq!(tombstone.key(), bytes(key));
        assert_eq!(tombstone.value(), None);
    }

    const OFFSET_KEY: &str = "0001000167000374c3b600000007";
    const OFFSET_VALUES: [&str; 5] = [
        "0000000000000000002a00046e6f74650000018bcfe56800",
        "0001000000000000002a00046e6f74650000018bcfe568000000018bcfe56be8",
        "0002000000000000002a00046e6f74650000018bcfe56800",
        "0003000000000000002a0000000300046e6f74650000018bcfe56800",
        "0004000000000000002a00000003056e6f74650000018bcfe5680001001000000000000000010000000000000002",
    ];
    const GROUP_KEY: &str = "0002000167";
    const GROUP_VALUES: [&str; 5] = [
        "00000008636f6e73756d657200000005000572616e676500016d0000000100016d00016300022f680000afc80000000201020000000103",
        "00010008636f6e73756d657200000005000572616e676500016d0000000100016d00016300022f68000493e00000afc80000000201020000\
         000103",
        "00020008636f6e73756d657200000005000572616e676500016d0000018bcfe568000000000100016d00016300022f68000493e00000afc8\
         0000000201020000000103",
        "00030008636f6e73756d657200000005000572616e676500016d0000018bcfe568000000000100016d00016900016300022f68000493e000\
         00afc80000000201020000000103",
        "000409636f6e73756d6572000000050672616e6765026d0000018bcfe5680002026d02690263032f68000493e00000afc803010202030000",
    ];

    fn topic_id(least: u8) -> TopicId {
        TopicId::new([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, least])
    }

    fn offset_key() -> OffsetCommitKey {
        OffsetCommitKey { group: "g".into(), topic: "tö".into(), partition: 7 }
    }

    fn offset_value() -> OffsetCommitValue {
        OffsetCommitValue {
            offset: 42,
            leader_epoch: 3,
            metadata: "note".into(),
            commit_timestamp: 1_700_000_000_000,
            expire_timestamp: -1,
            topic_id: TopicId::ZERO,
        }
    }

    fn member_key() -> MemberKey {
        MemberKey { group: "g".into(), member_id: "m".into() }
    }

    #[test]
    fn offsets_are_written_as_kafka_does_and_all_its_versions_are_read() {
        is(OFFSET_KEY, OFFSET_VALUES[3], &Record::OffsetCommit(offset_key(), Some(offset_value())));
        let expires = OffsetCommitValue { leader_epoch: -1, expire_timestamp: 1_700_000_001_000, ..offset_value() };
        is(OFFSET_KEY, OFFSET_VALUES[1], &Record::OffsetCommit(offset_key(), Some(expires)));
        let old = OffsetCommitValue { leader_epoch: -1, ..offset_value() };
        let new = OffsetCommitValue { topic_id: topic_id(2), ..offset_value() };
        for (version, value) in [(0, &old), (2, &old), (4, &new)] {
            let record = decode(OFFSET_KEY, OFFSET_VALUES[version]);
            assert_eq!(record, Record::OffsetCommit(offset_key(), Some(value.clone())), "version {version}");
        }
        // What Kafka before 0.9 wrote.
        let legacy = decode("0000000167000374c3b600000007", OFFSET_VALUES[0]);
        assert_eq!(legacy, Record::OffsetCommit(offset_key(), Some(old)));
    }

    #[test]
    fn classic_groups_are_written_as_kafka_does_and_all_its_versions_are_read() {
        let member = GroupMember {
            member_id: "m".into(),
            group_instance_id: Some("i".into()),
            client_id: "c".into(),
            client_host: "/h".into(),
            rebalance_timeout_ms: 300_000,
            session_timeout_ms: 45_000,
            subscription: vec![1, 2],
            assignment: vec![3],
        };
        let group = GroupMetadataValue {
            protocol_type: "consumer".into(),
            generation: 5,
            protocol: Some("range".into()),
            leader: Some("m".into()),
            current_state_timestamp: 1_700_000_000_000,
            members: vec![member],
        };
        is(GROUP_KEY, GROUP_VALUES[3], &Record::Group("g".into(), Some(group.clone())));
        for (version, value) in GROUP_VALUES.into_iter().enumerate() {
            let mut expected = group.clone();
            if version < 3 {
                expected.members[0].group_instance_id = None;
            }
            if version < 2 {
                expected.current_state_timestamp = -1;
            }
            if version < 1 {
                expected.members[0].rebalance_timeout_ms = -1;
            }
            assert_eq!(decode(GROUP_KEY, value), Record::Group("g".into(), Some(expected)), "version {version}");
        }
        let empty = GroupMetadataValue::default();
        let bytes = "0003000000000000ffffffffffffffffffffffff00000000";
        is(GROUP_KEY, bytes, &Record::Group("g".into(), Some(empty)));
    }

    #[test]
    fn kip_848_groups_are_written_as_kafka_does() {
        let group = |metadata_hash| {
            Record::ConsumerGroup("g".into(), Some(ConsumerGroupMetadataValue { epoch: 9, metadata_hash }))
        };
        is("0003000167", "00000000000900", &group(0));
        is("0003000167", "000000000009010008fffffffffffffffe", &group(-2));
        let member = ConsumerGroupMemberMetadataValue {
            instance_id: Some("i".into()),
            rack_id: None,
            client_id: "c".into(),
            client_host: "/h".into(),
            subscribed_topic_names: vec!["a".into(), "b".into()],
            subscribed_topic_regex: Some(String::new()),
            rebalance_timeout_ms: 300_000,
            server_assignor: Some("uniform".into()),
        };
        let member = Record::ConsumerMember(member_key(), Some(member));
        let fields = "00000269000263032f68030261026201000493e008756e69666f726d";
        is("000500016700016d", &format!("{fields}00"), &member);
        let of_classic_protocol = format!("{fields}0100100100000001020672616e676502010000");
        assert_eq!(decode("000500016700016d", &of_classic_protocol), member);
        is("0006000167", "00000000000b00", &Record::ConsumerTargetMetadata("g".into(), Some(11)));
        let target = TopicPartitions { topic_id: topic_id(2), partitions: vec![0, 3] };
        is(
            "000700016700016d",
            "000002000000000000000100000000000000020300000000000000030000",
            &Record::ConsumerTargetMember(member_key(), Some(vec![target])),
        );
        let current = ConsumerGroupCurrentMemberAssignmentValue {
            member_epoch: 4,
            previous_member_epoch: 3,
            state: 1,
            assigned: vec![TopicPartitions { topic_id: topic_id(2), partitions: vec![0] }],
            pending_revocation: vec![TopicPartitions { topic_id: topic_id(3), partitions: vec![1, 2] }],
        };
        is(
            "000800016700016d",
            "00000000000400000003010200000000000000010000000000000002020000000000020000000000000001000000000000000303000000\
             01000000020000",
            &Record::ConsumerCurrent(member_key(), Some(current)),
        );
        let resolved = ConsumerGroupRegularExpressionValue {
            topics: vec!["ab".into()],
            version: 12,
            timestamp: 1_700_000_000_000,
        };
        let pattern = RegularExpressionKey { group: "g".into(), regular_expression: "a.*".into() };
        is(
            "00100001670003612e2a",
            "000002036162000000000000000c0000018bcfe5680000",
            &Record::ConsumerRegularExpression(pattern, Some(resolved)),
        );
    }

    #[test]
    fn other_kinds_of_records_are_skipped_whatever_they_hold() {
        for key_type in [4_i16, 9, 10, 15, 17, 99, -1] {
            let key = [&key_type.to_be_bytes()[..], b"\0\x01g"].concat();
            assert_eq!(Record::decode(&key, Some(b"\x7f\xff")), Ok(None), "{key_type}");
            assert_eq!(Record::decode(&key, None), Ok(None), "{key_type}");
        }
    }

    #[test]
    fn values_of_newer_versions_and_damaged_ones_are_told_apart() {
        for (key, key_type, version) in [
            ("0000000167000374c3b600000007", 0, 1),
            (OFFSET_KEY, 1, 5),
            (GROUP_KEY, 2, 5),
            ("0003000167", 3, 1),
            ("000500016700016d", 5, 1),
            ("0006000167", 6, 1),
            ("000700016700016d", 7, 1),
            ("000800016700016d", 8, 1),
            ("00100001670003612e2a", 16, 1),
        ] {
            let value = i16::to_be_bytes(version);
            let newer = Err(RecordError::NewerVersion { key_type, version });
            assert_eq!(Record::decode(&bytes(key), Some(&value)), newer);
            let negative = Record::decode(&bytes(key), Some(b"\xff\xff"));
            assert_eq!(negative, Err(RecordError::Damaged));
            assert_eq!(Record::decode(&bytes(key)[..bytes(key).len() - 1], None), Err(RecordError::Damaged));
        }
        for value in OFFSET_VALUES {
            for end in 0..bytes(value).len() {
                assert_eq!(Record::decode(&bytes(OFFSET_KEY), Some(&bytes(value)[..end])), Err(RecordError::Damaged));
            }
        }
        assert_eq!(Record::decode(b"", None), Err(RecordError::Damaged));
        // A group that announces two thousand million members.
        let many = "0003000000000000ffffffffffffffffffffffff7fffffff";
        assert_eq!(Record::decode(&bytes(GROUP_KEY), Some(&bytes(many))), Err(RecordError::Damaged));
    }

    fn arbitrary(source: &mut Source, kind: usize) -> Record {
        fn any<T: Arbitrary>(source: &mut Source, version: i16) -> T {
            T::arbitrary(source, Dialect { version, flexible: false })
        }
        match kind {
            0 => {
                let mut value: OffsetCommitValue = any(source, 3);
                if source.below(2) == 0 {
                    (value.expire_timestamp, value.leader_epoch) = (any(source, 1), -1);
                }
                Record::OffsetCommit(any(source, 0), Some(value))
            }
            1 => Record::Group(any(source, 0), any(source, 3)),
            2 => Record::ConsumerGroup(any(source, 0), any(source, 0)),
            3 => Record::ConsumerMember(any(source, 0), any(source, 0)),
            4 => Record::ConsumerTargetMetadata(any(source, 0), any(source, 0)),
            5 => Record::ConsumerTargetMember(any(source, 0), any(source, 0)),
            6 => Record::ConsumerCurrent(any(source, 0), any(source, 0)),
            _ => Record::ConsumerRegularExpression(any(source, 0), any(source, 0)),
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_damage_never_panics() {
        for seed in 0..400 {
            let source = &mut Source::new(seed);
            for kind in 0..8 {
                let record = arbitrary(source, kind);
                let (mut key, mut value) = (record.key(), record.value());
                assert_eq!(Record::decode(&key, value.as_deref()), Ok(Some(record)), "seed {seed}");
                for damaged in [Some(&mut key), value.as_mut()].into_iter().flatten() {
                    let at = source.below(damaged.len());
                    damaged[at] ^= 1 << source.below(8);
                    damaged.truncate(1 + source.below(damaged.len()));
                }
                let _ = Record::decode(&key, value.as_deref());
            }
        }
    }
}
