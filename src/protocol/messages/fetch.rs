//! Fetch (1): reads record batches. Versions 4 to 18.
//!
//! 7 adds sessions (KIP-227), 10 allows zstd, 11 adds racks, 12 is flexible and brings epochs, 13 replaces names by topic
//! ids, 15 moves the replica into a tagged field, 16 adds node endpoints, 17 directory ids, 18 a follower's high watermark.

use std::borrow::Cow;

use crate::protocol::table::message;
use crate::protocol::wire::Records;
use crate::types::TopicId;

message! {
    /// Asks for batches of partitions, or for what changed since the last fetch of the session.
    pub struct FetchRequest<'a> (Fetch, 4..=18, flexible 12) {
        /// Cluster the replica believes in; null from consumers.
        cluster_id: Option<Cow<'a, str>> [12..] tag 0;
        /// Node id of a follower, -1 from consumers. From version 15 on in `replica_state`.
        replica_id: i32 [0..=14] default(-1);
        /// The follower that fetches.
        replica_state: ReplicaState [15..] tag 1;
        /// How long the answer may wait for `min_bytes`.
        max_wait_ms: i32 [0..];
        /// Bytes to wait for.
        min_bytes: i32 [0..];
        /// Bytes to answer at most, first batch excepted.
        max_bytes: i32 [3..] default(i32::MAX);
        /// 0: read_uncommitted, 1: read_committed.
        isolation_level: i8 [4..];
        /// Session to continue, 0 for none.
        session_id: i32 [7..];
        /// Its epoch; -1 for no session, 0 to begin one.
        session_epoch: i32 [7..] default(-1);
        /// Partitions to read, or to add to the session.
        topics: Vec<FetchTopic<'a>> [0..];
        /// Partitions to take out of the session.
        forgotten_topics_data: Vec<ForgottenTopic<'a>> [7..];
        /// Rack of the consumer, empty for none.
        rack_id: Cow<'a, str> [11..];
    }

    /// The follower that fetches; -1 from consumers.
    pub struct ReplicaState {
        /// Its node id.
        replica_id: i32 [15..] default(-1);
        /// Its broker epoch.
        replica_epoch: i64 [15..] default(-1);
    }

    /// Partitions of one topic to read.
    pub struct FetchTopic<'a> {
        /// Name of the topic.
        topic: Cow<'a, str> [0..=12];
        /// Id of the topic.
        topic_id: TopicId [13..];
        /// The partitions.
        partitions: Vec<FetchPartition> [0..];
    }

    /// One partition to read.
    pub struct FetchPartition {
        /// Index of the partition.
        partition: i32 [0..];
        /// Leader epoch the client knows, -1 for no check.
        current_leader_epoch: i32 [9..] default(-1);
        /// First offset to read.
        fetch_offset: i64 [0..];
        /// Epoch of the last batch a follower has, -1 for no check (KIP-595).
        last_fetched_epoch: i32 [12..] default(-1);
        /// Log start offset of a follower, -1 from consumers.
        log_start_offset: i64 [5..] default(-1);
        /// Bytes to answer at most for this partition.
        partition_max_bytes: i32 [0..];
        /// Directory of a follower's replica.
        replica_directory_id: TopicId [17..] tag 0;
        /// High watermark a follower knows; the maximum if it does not say.
        high_watermark: i64 [18..] tag 1 default(i64::MAX);
    }

    /// Partitions of one topic to take out of the session.
    pub struct ForgottenTopic<'a> {
        /// Name of the topic.
        topic: Cow<'a, str> [7..=12];
        /// Id of the topic.
        topic_id: TopicId [13..];
        /// Indexes of the partitions.
        partitions: Vec<i32> [7..];
    }

    /// Batches as they are stored.
    pub struct FetchResponse<'a> (Fetch, 4..=18, flexible 12) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [1..];
        /// Error of the whole fetch, mostly of its session.
        error_code: i16 [7..];
        /// The session, 0 for none.
        session_id: i32 [7..];
        /// The batches, by topic.
        responses: Vec<FetchableTopicResponse<'a>> [0..];
        /// Where the leaders named in `current_leader` listen.
        node_endpoints: Vec<NodeEndpoint<'a>> [16..] tag 0;
    }

    /// Batches of one topic.
    pub struct FetchableTopicResponse<'a> {
        /// Name of the topic.
        topic: Cow<'a, str> [0..=12];
        /// Id of the topic.
        topic_id: TopicId [13..];
        /// The batches, by partition.
        partitions: Vec<PartitionData<'a>> [0..];
    }

    /// Batches of one partition.
    pub struct PartitionData<'a> {
        /// Index of the partition.
        partition_index: i32 [0..];
        /// 0, or why there is nothing to read.
        error_code: i16 [0..];
        /// High watermark of the partition.
        high_watermark: i64 [0..];
        /// Last stable offset of the partition.
        last_stable_offset: i64 [4..] default(-1);
        /// Log start offset of the partition.
        log_start_offset: i64 [5..] default(-1);
        /// Where a follower's log leaves the leader's (KIP-595).
        diverging_epoch: EpochEndOffset [12..] tag 0;
        /// The leader, for a client that asked somebody else.
        current_leader: LeaderIdAndEpoch [12..] tag 1;
        /// Snapshot a follower must fetch instead.
        snapshot_id: SnapshotId [12..] tag 2;
        /// Aborted transactions in the batches, for read_committed; null for read_uncommitted.
        aborted_transactions: Option<Vec<AbortedTransaction>> [4..] default(Some(Vec::new()));
        /// Replica that the consumer had better read, -1 for this one.
        preferred_read_replica: i32 [11..] default(-1);
        /// The batches.
        records: Records<'a> [0..];
    }

    /// The largest epoch and its end that both logs may share; -1 for none.
    pub struct EpochEndOffset {
        /// The epoch.
        epoch: i32 [12..] default(-1);
        /// Offset after its last record.
        end_offset: i64 [12..] default(-1);
    }

    /// A partition's leader; -1 means unknown.
    pub struct LeaderIdAndEpoch {
        /// Node id of the leader.
        leader_id: i32 [12..] default(-1);
        /// Epoch of its leadership.
        leader_epoch: i32 [12..] default(-1);
    }

    /// A snapshot of the metadata log; -1 for none.
    pub struct SnapshotId {
        /// Offset after its last record.
        end_offset: i64 [0..] default(-1);
        /// Epoch of its last record.
        epoch: i32 [0..] default(-1);
    }

    /// A transaction whose records a read_committed consumer must drop.
    pub struct AbortedTransaction {
        /// Its producer.
        producer_id: i64 [4..];
        /// Its first offset in the partition.
        first_offset: i64 [4..];
    }

    /// Where a node listens.
    pub struct NodeEndpoint<'a> {
        /// Id of the node.
        node_id: i32 [16..];
        /// Host name or address.
        host: Cow<'a, str> [16..];
        /// Port.
        port: i32 [16..];
        /// Rack of the node.
        rack: Option<Cow<'a, str>> [16..];
    }
}
