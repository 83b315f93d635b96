//! What keys and values of `__consumer_offsets` hold, field by field.

use std::borrow::Cow;

use crate::protocol::table::message;
use crate::protocol::wire::{Decode, DecodeError, Dialect, Encode, Reader, Writer};
use crate::types::TopicId;

message! {
    /// Which offset.
    #[derive(Eq, Hash, Ord, PartialOrd)]
    pub struct OffsetCommitKey {
        /// The group.
        group: String [0..];
        /// The topic's name.
        topic: String [0..];
        /// Index of the partition.
        partition: i32 [0..];
    }

    /// A committed offset.
    #[derive(Eq)]
    pub struct OffsetCommitValue {
        /// Next offset to read.
        offset: i64 [0..];
        /// Leader epoch of the last record read, -1 for unknown.
        leader_epoch: i32 [3..] default(-1);
        /// The client's own note.
        metadata: String [0..];
        /// When it was committed, ms since 1970.
        commit_timestamp: i64 [0..];
        /// When it expires, ms since 1970; -1: as the broker's settings say.
        expire_timestamp: i64 [1..=1] default(-1);
        /// Id of the topic, zero for unknown. Not written: versions before 4.1 could not read the record.
        topic_id: TopicId [4..] tag 0;
    }

    /// A classic group in one generation.
    #[derive(Eq)]
    pub struct GroupMetadataValue {
        /// What kind of members, empty for none.
        protocol_type: String [0..];
        /// The generation.
        generation: i32 [0..];
        /// The protocol chosen.
        protocol: Option<String> [0..];
        /// Member id of the leader.
        leader: Option<String> [0..];
        /// When the group entered its state, ms since 1970, -1 for unknown.
        current_state_timestamp: i64 [2..] default(-1);
        /// The members.
        members: Vec<GroupMember> [0..];
    }

    /// A member of a classic group.
    #[derive(Eq)]
    pub struct GroupMember {
        /// Its id.
        member_id: String [0..];
        /// Name of a static member.
        group_instance_id: Option<String> [3..];
        /// Name that the client gave itself.
        client_id: String [0..];
        /// Its address.
        client_host: String [0..];
        /// How long a rebalance may wait for it, in milliseconds. -1: version 0, where the session timeout was meant.
        rebalance_timeout_ms: i32 [1..] default(-1);
        /// Silence after which it is gone, in milliseconds.
        session_timeout_ms: i32 [0..];
        /// Its metadata for the chosen protocol.
        subscription: Vec<u8> [0..];
        /// What the leader assigned to it.
        assignment: Vec<u8> [0..];
    }

    /// A member of a KIP-848 group.
    #[derive(Eq, Hash, Ord, PartialOrd)]
    pub struct MemberKey {
        /// The group.
        group: String [0..];
        /// The member's id.
        member_id: String [0..];
    }

    /// A group's epoch.
    #[derive(Eq)]
    pub struct ConsumerGroupMetadataValue {
        /// The group epoch.
        epoch: i32 [0..];
        /// Hash of the subscribed topics' metadata, 0 for unknown.
        metadata_hash: i64 [0..] tag 0;
    }

    /// What a member of a KIP-848 group said of itself. Members of the classic protocol in such a group (tagged field 0) come
    /// with the conversion of groups: not written, skipped.
    #[derive(Eq)]
    pub struct ConsumerGroupMemberMetadataValue {
        /// Name of a static member.
        instance_id: Option<String> [0..];
        /// Its rack.
        rack_id: Option<String> [0..];
        /// Name that the client gave itself.
        client_id: String [0..];
        /// Its address.
        client_host: String [0..];
        /// Names of the topics it wants.
        subscribed_topic_names: Vec<String> [0..];
        /// Or a pattern of them.
        subscribed_topic_regex: Option<String> [0..];
        /// How long it may take to give up partitions, in milliseconds.
        rebalance_timeout_ms: i32 [0..] default(-1);
        /// The assignor it wants.
        server_assignor: Option<String> [0..];
    }

    /// Partitions of one topic.
    #[derive(Eq)]
    pub struct TopicPartitions {
        /// The topic.
        topic_id: TopicId [0..];
        /// Indexes, ascending.
        partitions: Vec<i32> [0..];
    }

    /// Where a member of a KIP-848 group stands.
    #[derive(Eq)]
    pub struct ConsumerGroupCurrentMemberAssignmentValue {
        /// Its epoch.
        member_epoch: i32 [0..];
        /// The epoch before.
        previous_member_epoch: i32 [0..];
        /// Kafka's `MemberState`.
        state: i8 [0..];
        /// What it has.
        assigned: Vec<TopicPartitions> [0..];
        /// What it must give up.
        pending_revocation: Vec<TopicPartitions> [0..];
    }

    /// A pattern that members of a group subscribe to.
    #[derive(Eq, Hash, Ord, PartialOrd)]
    pub struct RegularExpressionKey {
        /// The group.
        group: String [0..];
        /// The pattern.
        regular_expression: String [0..];
    }

    /// What a pattern was resolved to.
    #[derive(Eq)]
    pub struct ConsumerGroupRegularExpressionValue {
        /// Names of topics.
        topics: Vec<String> [0..];
        /// Of the metadata it was resolved with.
        version: i64 [0..];
        /// When, ms since 1970.
        timestamp: i64 [0..];
    }
}

impl Encode for String {
    fn encode_field(&self, writer: &mut Writer, dialect: Dialect) {
        writer.nullable_string(Some(self), dialect.flexible);
    }

    fn encode_nullable(value: Option<&Self>, writer: &mut Writer, dialect: Dialect) {
        writer.nullable_string(value.map(String::as_str), dialect.flexible);
    }
}

impl Decode<'_> for String {
    fn decode_field(reader: &mut Reader<'_>, dialect: Dialect) -> Result<Self, DecodeError> {
        Cow::<str>::decode_field(reader, dialect).map(Cow::into_owned)
    }

    fn decode_nullable(reader: &mut Reader<'_>, dialect: Dialect) -> Result<Option<Self>, DecodeError> {
        Ok(reader.nullable_string(dialect.flexible)?.map(Cow::into_owned))
    }
}

/// Bytes: a single byte is no field of its own here, so this is not an array of them.
impl Encode for Vec<u8> {
    fn encode_field(&self, writer: &mut Writer, dialect: Dialect) {
        writer.nullable_bytes(Some(self), dialect.flexible);
    }
}

impl Decode<'_> for Vec<u8> {
    fn decode_field(reader: &mut Reader<'_>, dialect: Dialect) -> Result<Self, DecodeError> {
        Ok(reader.nullable_bytes(dialect.flexible)?.ok_or(DecodeError::UnexpectedNull)?.to_vec())
    }
}

#[cfg(debug_assertions)]
mod arbitrary {
    use std::borrow::Cow;

    use crate::protocol::arbitrary::{Arbitrary, Source};
    use crate::protocol::wire::Dialect;

    impl Arbitrary for String {
        fn arbitrary(source: &mut Source, dialect: Dialect) -> Self {
            Cow::<str>::arbitrary(source, dialect).into_owned()
        }
    }

    impl Arbitrary for Vec<u8> {
        fn arbitrary(source: &mut Source, dialect: Dialect) -> Self {
            Cow::<[u8]>::arbitrary(source, dialect).into_owned()
        }
    }
}
