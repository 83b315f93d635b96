//! All that one core keeps on disk, for all its partitions: one log of segments, a checkpoint, and nothing else.
//!
//! The public face is [`Store`]; this page of types is what the layers above may rely on.
//!
//! ```text
//! append ──> hot log         ──> blocks in memory ──> direct writes ──> segment files
//!              (copied once)        │  tail cache         │ written, then durable
//! read  <── tail ───────────────────┘                     │
//! read  <── cold windows <── index (extents, footers) <───┘
//! ```
//!
//! The rooms, lowest first; each may use those before it (checked by `tests/tidy.rs`): [`format`], the bytes on disk ·
//! [`index`], where every live batch lies · `scan`, entries read from a file · [`windows`], segments read back from disk ·
//! [`checkpoint`] · `state`, what all the others share · `space`, why a segment was freed or was not, and where the next one's
//! file comes from · `hot`, the end of the log on its way to the disk · `cleaning`, cold segments and their
//! jobs · `scrub`, old data read again · `reading` · `recovery` · [`inspect`], for tools · `handle`, what is called from
//! outside.
//!
//! Lives on one core; nothing here is shared with another. The directory of a shard holds `segment-<id>` files, drawn
//! byte by byte in [`format`], and `checkpoint-0` and `checkpoint-1`, drawn in [`checkpoint`].
//! `meta.properties`, which says whose directory it is, is the server's.
//!
//! Invariants: `durable <= written <= appended`, all three at ends of entries, and they only grow; the order in the log
//! is the order of offsets of each log; bytes that were cut off once never count again; after a failed write or flush
//! nothing more is acknowledged.
//!
//! Assumed of the disk: a 512-byte sector is written whole or not at all, and a write touches no other sector; a flush
//! that ended well has made durable every write that had completed before it began; a name is durable once its
//! directory was synced.

pub mod checkpoint;
mod cleaning;
pub mod format;
mod handle;
mod hot;
pub mod index;
pub mod inspect;
pub(crate) mod notify;
mod pieces;
mod reading;
mod recovery;
mod scan;
mod scrub;
mod space;
mod state;
pub mod windows;

use std::path::PathBuf;

pub use index::OldestRun;
pub use reading::ColdTurn;
pub use state::Store;

use crate::compaction::{BatchFacts, Candidate, CompactionRules};
use crate::protocol::record_batch::BatchHeader;
use crate::runtime::block::Slice;
use crate::types::{LogId, LogPosition, Offset, PartitionIndex, ShardId, TimestampMs, TopicId};

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

/// What an append is for: how far it may go when room is short. In this order, the next one goes further.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Purpose {
    /// Records of clients: nothing of the reserve.
    Client,
    /// What group coordinators must remember.
    Group,
    /// Changes of the metadata, and new partitions.
    Metadata,
    /// What frees space, and what a start cannot do without.
    FreesSpace,
}

/// What the store asks of its shard.
pub trait Owner {
    /// *Written* or *durable* moved, or the store failed. Called from the task that saw it, after the positions moved.
    fn on_progress(&self);

    /// Appends the partition's own state (leader epochs, producers), as of now, to `out`, for the checkpoint.
    /// The store pairs it with the position of the last append of that partition.
    fn snapshot(&self, log: LogId, out: &mut Vec<u8>);

    /// For how many milliseconds after its timestamp a record of the log is kept; `None` when time does not remove any. What is
    /// about to go is not moved, and what goes together is put together: no more hangs on it.
    fn retention_ms(&self, _log: LogId) -> Option<i64> {
        None
    }

    /// What is known of a batch of a log that is being compacted, beyond its bytes.
    fn batch_facts(&self, _log: LogId, _batch: &BatchHeader) -> BatchFacts {
        BatchFacts::default()
    }

    /// A log was compacted: below `end` no key has two records.
    fn on_compacted(&self, _log: LogId, _end: Offset) {}

    /// A log cannot be compacted, and is not tried again in this life.
    fn on_not_compacted(&self, _log: LogId, _why: &str) {}
}

/// A log of which a compaction pass is worth it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DueLog {
    /// The log.
    pub log: LogId,
    /// What to clean: [`Store::settled_end`] or less.
    pub candidate: Candidate,
    /// Its topic's rules.
    pub rules: CompactionRules,
}

/// What recovery tells its shard, in log order per partition. Everything is told before the store is open.
pub trait Replay {
    /// A partition exists: from a checkpoint (`state` as written by [`Owner::snapshot`]) or from a create entry (`state`
    /// empty, both offsets 0).
    ///
    /// Errors: a state that cannot be understood; the store does not open then, and nothing was changed on disk.
    fn on_partition(&mut self, partition: &PartitionRecord, state: &[u8]) -> Result<(), StateError>;

    /// A batch follows the state told so far. Its header carries offsets, epoch, producer and sequences. It begins at the
    /// log end, or above it where batches are lost: then that is accepted, or the store does not open.
    fn on_batch(&mut self, log: LogId, header: &[u8; BATCH_HEADER_BYTES]);

    /// The log start moved: up to the log end, or above it where batches are lost.
    fn on_log_start(&mut self, log: LogId, log_start: Offset);

    /// The partition was deleted; its log id never comes back.
    fn on_delete(&mut self, log: LogId);
}

/// Why the state of a partition in a checkpoint cannot be restored: a newer program wrote it, or a broken one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct StateError(pub String);

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
    /// The shard's budget or the device is used up. Deletions and log starts still work.
    #[error(
        "store is full: {used_bytes} of {budget_bytes} bytes used{}",
        if *is_device_full { ", and the device has no room for more" } else { "" }
    )]
    Full {
        /// Bytes of live segments.
        used_bytes: u64,
        /// The shard's share of the device.
        budget_bytes: u64,
        /// It is the device that has no room.
        is_device_full: bool,
    },
    /// The store was closed.
    #[error("store is closed")]
    Closed,
    /// The log was deleted or never existed.
    #[error("log {log} does not exist")]
    UnknownLog {
        /// What was asked for.
        log: LogId,
    },
    /// The batch does not fit into a segment, or a checkpoint into what may be read again.
    #[error("{bytes} bytes exceed the {max} that may be written as one")]
    TooLarge {
        /// Its size, of a batch with the entry header.
        bytes: u64,
        /// What is possible.
        max: u64,
    },
}

impl StorageError {
    /// A failed operation, with the system's words.
    pub(crate) fn failed(operation: &'static str, cause: &std::io::Error) -> StorageError {
        StorageError::ReadOnly { operation, cause: cause.to_string() }
    }
}

/// Pieces of the log in order.
pub type Slices<B> = Vec<Slice<B>>;

/// How much to read.
#[derive(Clone, Copy, Debug)]
pub struct ReadWithin {
    /// Most bytes of batches.
    pub bytes_max: usize,
    /// Size up to which the first batch comes although it is above `bytes_max`, in bytes.
    pub first_bytes_max: usize,
}

impl ReadWithin {
    /// Up to `bytes_max`; with `at_least_one` the first batch comes whatever its size.
    pub(crate) fn new(bytes_max: usize, at_least_one: bool) -> ReadWithin {
        ReadWithin { bytes_max, first_bytes_max: if at_least_one { usize::MAX } else { 0 } }
    }
}

/// What a read returns.
#[derive(Debug)]
pub struct Read<B> {
    /// Whole batches, back to back.
    pub slices: Slices<B>,
    /// Where to go on: behind the last batch. Without one: behind the hole that begins where was asked, as far as the
    /// bound; or where was asked, when the next batch there is held back. Never less than what was asked for.
    pub next_offset: Offset,
    /// Above 0 when nothing was read only because the first batch is larger than both limits: about its size in bytes. Not
    /// told where the first batch was to come under `bytes_max` only.
    pub needed_bytes: usize,
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Whose log it is; checked against what the directory holds.
    pub shard: ShardId,
    /// Holds the segments and checkpoints of this shard, and nothing else that the store looks at.
    pub directory: PathBuf,
    /// Memory for the tail cache and the windows of cold reads, in bytes.
    pub memory_bytes: u64,
    /// Size of new segment files, in bytes: a multiple of the block.
    pub segment_bytes: u32,
    /// Segments of one size before new files get the next size up: `limits::SEGMENTS_BEFORE_GROWTH`, fewer in tests.
    pub segments_before_growth: u64,
    /// Segments that may be in use beside live data and its slack: `limits::CLEAN_SLACK_SEGMENTS`, fewer in tests.
    pub clean_slack_segments: u64,
    /// What a log has at least in a segment that is not thin, on average, in bytes: `limits::CLEAN_THIN_ROW_BYTES`, less in
    /// tests, and 0 where no segment is.
    pub clean_thin_row_bytes: u64,
    /// Size of a block, in bytes: `limits::BLOCK_BYTES`, smaller in tests.
    pub block_bytes: usize,
    /// This shard's share of the device, in bytes.
    pub budget_bytes: u64,
    /// How often bytes that nobody waits for are flushed, in milliseconds.
    pub written_flush_interval_ms: u64,
    /// How often a checkpoint is written while the log moves, in milliseconds.
    pub checkpoint_interval_ms: u64,
    /// After how many bytes one is written sooner, in whole segments: `limits::CHECKPOINT_APPENDED_BYTES`, smaller in tests.
    pub checkpoint_appended_bytes: u64,
    /// How old data is read again.
    pub scrub: ScrubOptions,
    /// Serve although bytes that were durable are gone: the log is cut where the damage begins.
    pub accept_loss: bool,
    /// Ignore checkpoints and footers and read every entry: the oracle of recovery, for tests.
    pub rebuild: bool,
}

impl StoreOptions {
    /// The options of production for a shard and its directory.
    pub fn new(shard: ShardId, directory: PathBuf, memory_bytes: u64, budget_bytes: u64) -> StoreOptions {
        StoreOptions {
            shard,
            directory,
            memory_bytes,
            segment_bytes: crate::limits::SEGMENT_BYTES_MIN,
            segments_before_growth: crate::limits::SEGMENTS_BEFORE_GROWTH,
            clean_slack_segments: crate::limits::CLEAN_SLACK_SEGMENTS,
            clean_thin_row_bytes: crate::limits::CLEAN_THIN_ROW_BYTES,
            block_bytes: crate::limits::BLOCK_BYTES,
            budget_bytes,
            written_flush_interval_ms: 50,
            checkpoint_interval_ms: 10_000,
            checkpoint_appended_bytes: crate::limits::CHECKPOINT_APPENDED_BYTES,
            scrub: ScrubOptions::default(),
            accept_loss: false,
            rebuild: false,
        }
    }
}

/// How old data is read again, to find what is damaged before anybody asks for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ScrubOptions {
    /// Bytes that may be read in a second; 0 for none at all.
    pub bytes_per_second: u64,
    /// How often some of them are read, in milliseconds: `limits::SCRUB_TICK_MS`, shorter in tests.
    pub tick_ms: u64,
    /// From the begin of one round over everything to that of the next, at least, in milliseconds: `limits::SCRUB_INTERVAL_MS`,
    /// shorter in tests.
    pub interval_ms: u64,
}

impl Default for ScrubOptions {
    fn default() -> ScrubOptions {
        ScrubOptions {
            bytes_per_second: crate::limits::SCRUB_BYTES_PER_SECOND,
            tick_ms: crate::limits::SCRUB_TICK_MS,
            interval_ms: crate::limits::SCRUB_INTERVAL_MS,
        }
    }
}

/// Offsets of one log that were durable and cannot be read any more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LostOffsets {
    /// The log.
    pub log: LogId,
    /// First offset that is gone.
    pub first: Offset,
    /// Last offset known to be gone; more may be, of which no trace is left.
    pub last: Offset,
}

/// What is gone, in words for whoever must decide what to do.
fn told(lost: &[LostOffsets]) -> String {
    const TOLD_MAX: usize = 3;
    if lost.is_empty() {
        return "what came after it is gone, and nothing tells how much that was".to_owned();
    }
    let of_log = |lost: &LostOffsets| format!("offsets {} to {} of log {}", lost.first, lost.last, lost.log);
    let first = lost.iter().take(TOLD_MAX).map(of_log).collect::<Vec<_>>().join(", ");
    match lost.len().saturating_sub(TOLD_MAX) {
        0 => format!("{first} are gone"),
        more => format!("{first} and those of {more} more logs are gone"),
    }
}

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refused.
    #[error("cannot {operation} {path}: {cause}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's words.
        cause: std::io::Error,
    },
    /// A segment file is there and cannot be read.
    #[error("cannot read {path}: {cause}: restore it, or remove it and start with --accept-loss")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        cause: std::io::Error,
    },
    /// Bytes that were durable are gone.
    #[error(
        "the log of shard {shard} is damaged in segment {} at byte {}: {}: restore it, or start with --accept-loss",
        position.segment, position.byte, told(lost)
    )]
    Damage {
        /// Whose log.
        shard: ShardId,
        /// Where the first entry is missing.
        position: LogPosition,
        /// What is known to be gone.
        lost: Vec<LostOffsets>,
    },
    /// No checkpoint that may be trusted can be read.
    #[error("{0}")]
    Checkpoint(#[from] checkpoint::CheckpointError),
    /// A partition's state in the checkpoint cannot be restored.
    #[error("checkpoint: the state of log {log} cannot be restored: {cause}: use the newer program that wrote it")]
    State {
        /// The partition's log.
        log: LogId,
        /// What is wrong with it.
        cause: StateError,
    },
    /// The directory belongs to another shard.
    #[error("{path} belongs to shard {found}, not {expected}")]
    WrongShard {
        /// The directory.
        path: PathBuf,
        /// Who asked.
        expected: ShardId,
        /// Whose it is.
        found: ShardId,
    },
    /// A later program wrote something that this one would have to understand.
    #[error("segment {} of shard {shard} holds {what} at byte {}: use the newer program that wrote them", position.segment, position.byte)]
    Unsupported {
        /// Whose log.
        shard: ShardId,
        /// Where.
        position: LogPosition,
        /// What.
        what: &'static str,
    },
    /// A later program wrote it.
    #[error("{path} has format version {found}, this program reads {supported}: use the newer program", supported = format::FORMAT_VERSION)]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

/// Why a read failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The start lies below the log start or above the log end.
    #[error("offset {start} is outside of {log_start}..={log_end}")]
    OutOfRange {
        /// What was asked for.
        start: Offset,
        /// First offset that may be read.
        log_start: Offset,
        /// Offset after the last batch.
        log_end: Offset,
    },
    /// The log was deleted or never existed.
    #[error("log {log} does not exist")]
    UnknownLog {
        /// What was asked for.
        log: LogId,
    },
    /// The bytes on disk are not what was written.
    #[error("segment {segment} is damaged: {cause}")]
    Damaged {
        /// Where.
        segment: crate::types::SegmentNumber,
        /// How it shows.
        cause: String,
        /// Where the log goes on behind what is damaged, as far as that is known; above what was asked for.
        next_offset: Offset,
    },
    /// The system refused.
    #[error("reading segment {segment} failed: {cause}")]
    Io {
        /// Where.
        segment: crate::types::SegmentNumber,
        /// The system's words.
        cause: String,
    },
}

/// Counters of one store since it was opened, for metrics.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StoreStats {
    /// Bytes of entries appended, headers included.
    pub appended_bytes: u64,
    /// Bytes given to writes, with units that were written again.
    pub written_bytes: u64,
    /// Bytes of zeroes written ahead of the log.
    pub prepared_bytes: u64,
    /// Writes completed.
    pub writes: u64,
    /// Flushes completed.
    pub flushes: u64,
    /// Time of the last flush, in microseconds.
    pub flush_us: u64,
    /// Reads answered from memory.
    pub tail_reads: u64,
    /// Reads that went to disk or to windows of it.
    pub cold_reads: u64,
    /// Segments read whole for one log, because their footer is damaged.
    pub segments_scanned: u64,
    /// Segments with live data, the open one included.
    pub segments_live: u64,
    /// Files ready for reuse.
    pub segments_free: u64,
    /// Memory of the core's blocks, windows and reads, those that answers still hold and spare ones included, of the
    /// index, and of a compaction's keys, in bytes.
    pub memory_bytes: u64,
    /// Of it, that of the index: a row for each partition and segment, and what the tail holds.
    pub index_bytes: u64,
    /// Files that got another segment number.
    pub segments_recycled: u64,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Bytes of entries that live.
    pub live_bytes: u64,
    /// Bytes of segments that are in use, what they gave back left out.
    pub used_bytes: u64,
    /// Bytes of entries that the cleaner moved.
    pub moved_bytes: u64,
    /// Jobs that the cleaner ended well.
    pub cleaning_jobs: u64,
    /// Rows that it or the scrub found damaged, which stay where they are.
    pub damaged_rows: u64,
    /// Passes over compacted logs that came to their end.
    pub compaction_passes: u64,
    /// Bytes of batches that they went over in their second half.
    pub compaction_read_bytes: u64,
    /// Bytes of batches that were left of those.
    pub compaction_written_bytes: u64,
    /// Logs that cannot be compacted.
    pub uncompactable_logs: u64,
    /// Bytes that the scrub read.
    pub scrubbed_bytes: u64,
    /// When the scrub had last read everything once over; 0 before.
    pub scrubbed_at: TimestampMs,
}

#[cfg(test)]
mod tests;
