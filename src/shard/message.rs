//! Every value that may cross cores: who sends it, who handles it, and what it means if it is lost.
//!
//! A message is lost only when the receiving shard shuts down first; its reply slot then says so and the sender closes
//! the connection that waited. No handler of a message waits on another crossing, but for the controller's own task,
//! which waits until every shard has taken in a new image, or has said what it needs; both wait for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::mesh::ReplySender;
use crate::cluster::image::MetadataImage;
use crate::protocol::api_key::ApiKey;
use crate::protocol::error_code::ErrorCode;
use crate::runtime::Volume;
use crate::types::{ConnectionId, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs, TopicId};

/// What a shard's lane carries.
#[derive(Debug)]
pub enum Message {
    /// Sent by the shard that took a produce request, handled by the owner of the partitions. Applied in lane order, so
    /// that the order of a connection holds. Lost: the producer's connection closes and it retries.
    Produce(ProducePart, ReplySender<Vec<ProduceOutcome>>),
    /// Sent by the shard that took a fetch, handled by the owner. Answered at once. Lost: the connection closes.
    Read(ReadPart, ReplySender<Vec<ReadOutcome<Bytes>>>),
    /// Sent by a shard whose fetch is short of `min_bytes`; answered when something changed or time is over, after which
    /// the sender reads again. Lost: the connection closes.
    Watch(WatchPart, ReplySender<()>),
    /// Sent by the shard that took a ListOffsets, handled by the owner. Lost: the connection closes.
    ListOffsets(Vec<ListOffset>, ReplySender<Vec<ListOffsetOutcome>>),
    /// Sent by the shard that took an OffsetForLeaderEpoch, handled by the owner. Lost: the connection closes.
    EpochEnds(Vec<EpochEnd>, ReplySender<Vec<EpochEndOutcome>>),
    /// Sent by the shard that took a DeleteRecords, handled by the owner. Lost: the connection closes; the log starts may
    /// or may not have moved.
    DeleteRecords(Vec<DeleteRecords>, ReplySender<Vec<DeleteRecordsOutcome>>),
    /// Sent by the shard that took a DescribeProducers, handled by the owner. Lost: the connection closes.
    DescribeProducers(Vec<(TopicId, i32)>, ReplySender<Vec<DescribedProducers>>),
    /// Sent by the shard that took a DescribeLogDirs and speaks for all, handled by every other; `None` is all
    /// partitions. Lost: the connection closes.
    LogDirectory(Option<Arc<BTreeSet<(TopicId, i32)>>>, ReplySender<LogDirectory>),
    /// Sent by the shard that took a request about groups, handled by the shard of their coordinator: the step is taken in lane
    /// order, the answer may take minutes and blocks nothing. Lost: the connection closes.
    Group(GroupCall, ReplySender<GroupReply>),
    /// Sent by any shard, handled by shard 0, the one metadata writer. Lost: the connection closes; the change may or
    /// may not have happened, as with any request that is not answered.
    Control(ControlRequest, ReplySender<ControlReply>),
    /// Sent by shard 0, handled by every other: the new metadata. Lost only when the receiver shuts down.
    Image(Published, ReplySender<()>),
    /// Sent by shard 0 before it forgets removals of topics, handled by every other: which of them it may still need after a
    /// crash. Answered at once. Lost: all are remembered.
    Removals(Arc<BTreeSet<TopicId>>, ReplySender<BTreeSet<TopicId>>),
}

impl Message {
    /// Bytes of a request that it carries after the shard that took it stopped counting them. Others are counted there until
    /// they are answered.
    pub fn request_bytes(&self) -> usize {
        match self {
            Message::Produce(part, _) => part.partitions.iter().map(|one| one.records.len()).sum(),
            Message::Group(call, _) => call.body.len(),
            _ => 0,
        }
    }
}

/// A metadata image on its way to a shard.
#[derive(Clone, Debug)]
pub struct Published {
    /// The image.
    pub image: Arc<MetadataImage>,
    /// Topics that a metadata record removed. A shard deletes a log for no other reason, so a metadata log that lost its
    /// tail cannot take data with it.
    pub removed: Arc<BTreeSet<TopicId>>,
}

/// The part of a produce request that one shard owns.
#[derive(Debug)]
pub struct ProducePart {
    /// -1, 0 or 1, checked.
    pub acks: i16,
    /// Version of the request: older ones may not carry zstd.
    pub version: i16,
    /// How long the producer waits for its level, in milliseconds.
    pub timeout_ms: u64,
    /// In the order of the request.
    pub partitions: Vec<ProducePartition>,
}

/// One partition of a produce request.
#[derive(Debug)]
pub struct ProducePartition {
    /// The topic.
    pub topic: TopicId,
    /// Index within the topic.
    pub partition: i32,
    /// The records field as it came; part of the request's frame.
    pub records: Bytes,
}

/// What became of one partition of a produce request.
#[derive(Clone, Debug)]
pub struct ProduceOutcome {
    /// None, or why not.
    pub error: ErrorCode,
    /// Words for the producer's log.
    pub message: Option<String>,
    /// Records at fault: index within the batch, and what is wrong with it.
    pub record_errors: Vec<(i32, String)>,
    /// Offset given to the first record, -1 with an error.
    pub base_offset: i64,
    /// The broker's timestamp on a LogAppendTime topic, else -1.
    pub log_append_time: i64,
    /// Log start offset, -1 with an error.
    pub log_start_offset: i64,
}

impl ProduceOutcome {
    /// A partition that was not appended to.
    pub fn failed(error: ErrorCode, message: Option<String>) -> ProduceOutcome {
        ProduceOutcome {
            error,
            message,
            record_errors: Vec::new(),
            base_offset: -1,
            log_append_time: -1,
            log_start_offset: -1,
        }
    }
}

/// The part of a fetch that one shard owns.
#[derive(Clone, Debug)]
pub struct ReadPart {
    /// For all partitions together.
    pub limits: ReadLimits,
    /// In fetch order.
    pub partitions: Vec<ReadPartition>,
}

/// What may still be read of a fetch.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// Most bytes.
    pub bytes_max: u32,
    /// Size up to which the first batch goes out although it is above the other limits (KIP-74), in bytes: what there is
    /// memory for. 0 once a partition returned data.
    pub first_bytes_max: u32,
    /// Gives nothing that would have to be read from disk.
    pub memory_only: bool,
}

impl ReadLimits {
    /// One partition, or those of one owner, were read. A first batch that there is no memory for ends the reading, or other
    /// partitions would pass it for ever.
    pub fn on_read<'a, S: 'a>(&mut self, outcomes: impl IntoIterator<Item = &'a ReadOutcome<S>>) {
        for outcome in outcomes {
            self.bytes_max = self.bytes_max.saturating_sub(outcome.bytes);
            if outcome.bytes > 0 || outcome.needed_bytes > 0 {
                self.first_bytes_max = 0;
            }
            if outcome.needed_bytes > 0 {
                self.bytes_max = 0;
            }
        }
    }
}

/// One partition of a fetch.
#[derive(Clone, Debug)]
pub struct ReadPartition {
    /// The topic.
    pub topic: TopicId,
    /// Index within the topic.
    pub partition: i32,
    /// First offset wanted.
    pub fetch_offset: i64,
    /// The client's idea of the leader epoch, -1 for none.
    pub current_leader_epoch: i32,
    /// Epoch of the last record that the client has, -1 for none.
    pub last_fetched_epoch: i32,
    /// Most bytes of this partition.
    pub bytes_max: u32,
}

/// What a read of one partition gave. `S` is a slice of a block at home, and bytes of their own when they crossed.
#[derive(Debug)]
pub struct ReadOutcome<S> {
    /// None, or why not.
    pub error: ErrorCode,
    /// Offset up to which consumers may read, -1 with an error.
    pub high_watermark: i64,
    /// Last stable offset, -1 with an error.
    pub last_stable_offset: i64,
    /// First offset that exists, -1 with an error.
    pub log_start_offset: i64,
    /// Where the client's log and ours part: (epoch, end offset).
    pub diverging: Option<(i32, i64)>,
    /// Whole batches.
    pub records: Vec<S>,
    /// Their size.
    pub bytes: u32,
    /// Above 0 when there is a first batch, and no records only because so much memory would be needed.
    pub needed_bytes: u32,
}

impl<S> ReadOutcome<S> {
    /// The same outcome with its records in another form.
    pub fn map_records<T>(self, map: impl FnOnce(Vec<S>) -> Vec<T>) -> ReadOutcome<T> {
        ReadOutcome {
            error: self.error,
            high_watermark: self.high_watermark,
            last_stable_offset: self.last_stable_offset,
            log_start_offset: self.log_start_offset,
            diverging: self.diverging,
            records: map(self.records),
            bytes: self.bytes,
            needed_bytes: self.needed_bytes,
        }
    }

    /// A partition that could not be read.
    pub fn failed(error: ErrorCode) -> ReadOutcome<S> {
        ReadOutcome {
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging: None,
            records: Vec::new(),
            bytes: 0,
            needed_bytes: 0,
        }
    }
}

/// Partitions that a fetch elsewhere waits for.
#[derive(Clone, Debug)]
pub struct WatchPart {
    /// Bytes that must become visible.
    pub needed_bytes: i64,
    /// How long to watch, in milliseconds.
    pub wait_ms: u64,
    /// Which partitions, and from which offset: what is visible beyond it already ends the watch at once.
    pub partitions: Vec<(TopicId, i32, i64)>,
}

/// One partition of a ListOffsets request.
#[derive(Clone, Copy, Debug)]
pub struct ListOffset {
    /// The topic.
    pub topic: TopicId,
    /// Index within the topic.
    pub partition: i32,
    /// A timestamp in milliseconds, or one of Kafka's special negative ones.
    pub timestamp: i64,
    /// The client's idea of the leader epoch, -1 for none.
    pub current_leader_epoch: i32,
}

/// The answer for one partition.
#[derive(Clone, Copy, Debug)]
pub struct ListOffsetOutcome {
    /// None, or why not.
    pub error: ErrorCode,
    /// Timestamp of the record found, -1 for none.
    pub timestamp: i64,
    /// Its offset, -1 for none.
    pub offset: i64,
    /// Leader epoch of that offset, -1 for none.
    pub leader_epoch: i32,
}

/// One partition of an OffsetForLeaderEpoch request.
#[derive(Clone, Copy, Debug)]
pub struct EpochEnd {
    /// The topic.
    pub topic: TopicId,
    /// Index within the topic.
    pub partition: i32,
    /// The client's idea of the leader epoch, -1 for none.
    pub current_leader_epoch: i32,
    /// The epoch whose end is asked for.
    pub leader_epoch: i32,
}

/// The answer for one partition.
#[derive(Clone, Copy, Debug)]
pub struct EpochEndOutcome {
    /// None, or why not.
    pub error: ErrorCode,
    /// The epoch that the end belongs to, -1 for none.
    pub leader_epoch: i32,
    /// Its end offset, -1 for none.
    pub end_offset: i64,
}

/// One partition of a DeleteRecords request.
#[derive(Clone, Copy, Debug)]
pub struct DeleteRecords {
    /// The topic.
    pub topic: TopicId,
    /// Index within the topic.
    pub partition: i32,
    /// First offset to keep, -1 for the high watermark.
    pub offset: i64,
}

/// The answer for one partition.
#[derive(Clone, Copy, Debug)]
pub struct DeleteRecordsOutcome {
    /// None, or why not.
    pub error: ErrorCode,
    /// The log start offset, durable; -1 with an error.
    pub low_watermark: i64,
}

/// The idempotent producers of one partition, or why they are not told.
pub type DescribedProducers = Result<Vec<DescribedProducer>, ErrorCode>;

/// One idempotent producer of a partition.
#[derive(Clone, Copy, Debug)]
pub struct DescribedProducer {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// Sequence of its last record.
    pub last_sequence: Sequence,
    /// Greatest timestamp of its last batch.
    pub last_timestamp: TimestampMs,
}

/// What lies in the directory of one shard.
#[derive(Clone, Debug)]
pub struct LogDirectory {
    /// Where it is.
    pub path: String,
    /// True when its store is read-only after a failure.
    pub failed: bool,
    /// The volume it lies on, where this shard is the one to tell.
    pub volume: Option<Volume>,
    /// Bytes of each partition.
    pub partitions: BTreeMap<(TopicId, i32), u64>,
}

/// A request about groups, all of one coordinator.
#[derive(Clone, Debug)]
pub struct GroupCall {
    /// Index of the coordinator's partition of `__consumer_offsets`; ListGroups means all of the shard.
    pub partition: i32,
    /// Which request.
    pub key: ApiKey,
    /// Version of the request, and of the body of its answer.
    pub version: i16,
    /// Name that the client gave itself.
    pub client_id: String,
    /// The client's address, as `coordinator::Caller` has it.
    pub client_host: Arc<str>,
    /// The connection that it came over.
    pub connection: ConnectionId,
    /// Body of the request, decoded once before.
    pub body: Bytes,
}

/// What a coordinator answers.
#[derive(Debug)]
pub enum GroupReply {
    /// The body of the response.
    Body(Vec<u8>),
    /// There is no coordinator that could answer, for this reason.
    Refused(ErrorCode),
}

/// What only the controller may do.
#[derive(Debug)]
pub enum ControlRequest {
    /// The body of a CreateTopics request, answered by the body of its response.
    CreateTopics {
        /// Version of both.
        version: i16,
        /// The body.
        body: Bytes,
    },
    /// The body of a DeleteTopics request, answered by the body of its response.
    DeleteTopics {
        /// Version of both.
        version: i16,
        /// The body.
        body: Bytes,
    },
    /// The body of a CreatePartitions request, answered by the body of its response.
    CreatePartitions {
        /// Version of both.
        version: i16,
        /// The body.
        body: Bytes,
    },
    /// The body of an AlterConfigs request, answered by the body of its response.
    AlterConfigs {
        /// Version of both.
        version: i16,
        /// The body.
        body: Bytes,
    },
    /// The body of an IncrementalAlterConfigs request, answered by the body of its response.
    IncrementalAlterConfigs {
        /// Version of both.
        version: i16,
        /// The body.
        body: Bytes,
    },
    /// Topics that a Metadata request missed. Errors show when the client asks again.
    AutoCreate {
        /// Their names.
        names: Vec<String>,
    },
    /// A shard has given out its producer ids.
    ProducerIds,
    /// How far the metadata log is.
    MetadataEnd,
}

/// Producer ids that one shard may give out: recorded durably before it gets them, so none is ever given twice.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ProducerIdBlock {
    ids: Range<i64>,
}

impl ProducerIdBlock {
    /// A block of ids.
    pub fn new(ids: Range<i64>) -> ProducerIdBlock {
        ProducerIdBlock { ids }
    }

    /// Gives out the next id; `None` when the block is used up.
    pub fn take(&mut self) -> Option<ProducerId> {
        self.ids.next().map(ProducerId::new)
    }
}

/// What the controller answers.
#[derive(Debug)]
pub enum ControlReply {
    /// The body of the response.
    Body(Vec<u8>),
    /// A block of producer ids.
    ProducerIds(ProducerIdBlock),
    /// The metadata log's end: all before it is durable and published.
    MetadataEnd(Offset),
    /// Done, as far as possible.
    Done,
    /// The metadata log cannot be written; why not, in words.
    Failed(String),
}
