//! All that one core keeps on disk, for all its partitions: one log of segments, a checkpoint, and nothing else.
//!
//! The public face is [`Store`]; this page of types is what the layers above may rely on.

pub mod checkpoint;
pub mod format;
pub mod index;

use crate::types::{LogId, LogPosition, Offset, PartitionIndex, TimestampMs, TopicId};

/// Bytes of a record batch v2 before its records. The store reads offsets from it and nothing more.
pub const BATCH_HEADER_BYTES: usize = 61;

/// One record batch on its way into the log: validated, stamped, not yet copied.
///
/// The header stands apart so that offset, leader epoch (and, rarely, timestamp and CRC) are stamped on the stack and
/// the receive buffer is never changed.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The stamped header, final in every byte.
    pub header: &'a [u8; BATCH_HEADER_BYTES],
    /// What follows the header, as it came.
    pub records: &'a [u8],
    /// Offset of the first record; equals the log end of its partition (gaps are refused).
    pub base_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// Greatest timestamp of the records, for retention and lookups by time.
    pub timestamp_max: TimestampMs,
}

/// What the store asks of its shard.
pub trait Owner {
    /// *Written* or *durable* moved, or the store failed. Called from the task that saw it, after the positions moved.
    fn on_progress(&self);

    /// Appends the partition's own state (leader epochs, producers), as of now, to `out`, for the checkpoint.
    /// The store pairs it with the position of the last append of that partition.
    fn snapshot(&self, log: LogId, out: &mut Vec<u8>);
}

/// What recovery tells its shard, in log order per partition. Everything is told before the store is open.
pub trait Replay {
    /// A partition exists: from a checkpoint (`state` as written by [`Owner::snapshot`]) or from a create entry (`state`
    /// empty, both offsets 0).
    fn on_partition(&mut self, partition: &PartitionRecord, state: &[u8]);

    /// A batch follows the state told so far. Its header carries offsets, epoch, producer and sequences.
    fn on_batch(&mut self, log: LogId, header: &[u8; BATCH_HEADER_BYTES]);

    /// The log start moved.
    fn on_log_start(&mut self, log: LogId, log_start: Offset);

    /// The partition was deleted; its log id never comes back.
    fn on_delete(&mut self, log: LogId);
}

/// What the store itself knows of a partition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PartitionRecord {
    /// This life of the partition.
    pub log: LogId,
    /// The topic it belongs to.
    pub topic: TopicId,
    /// Its index within the topic.
    pub partition: PartitionIndex,
    /// First offset that may be read.
    pub log_start: Offset,
    /// Offset after the last batch.
    pub log_end: Offset,
}

/// Where the log stands. `durable <= written <= appended`, always.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// End of the last entry copied into a block.
    pub appended: LogPosition,
    /// End of the longest run of completed writes without a gap.
    pub written: LogPosition,
    /// What was written when the last successful flush began.
    pub durable: LogPosition,
}

/// A disk error after which the store is read-only, or a state that forbids the call.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// A write or flush failed. Nothing new is acknowledged until a restart.
    #[error("store is read-only after a failed {operation}: {cause}")]
    ReadOnly {
        /// What failed.
        operation: &'static str,
        /// The system's words.
        cause: String,
    },
    /// The shard's budget of the device is used up. Deletions and log starts still work.
    #[error("store is full: {used_bytes} of {budget_bytes} bytes used")]
    Full {
        /// Bytes of live segments.
        used_bytes: u64,
        /// The shard's share of the device.
        budget_bytes: u64,
    },
}
