//! What all rooms of the store share: [`Core`], and in it [`State`], borrowed for one step at a time.
//!
//! Data and what is true of it; who does something with it lives in a room of its own (`hot`, `space`, `reading`, `recovery`).

pub(in crate::store) mod cleaning;
pub(in crate::store) mod preparation;
pub(in crate::store) mod segment_writer;
pub(in crate::store) mod segments;
pub(in crate::store) mod space;
pub(in crate::store) mod tail;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::rc::Rc;

use self::cleaning::Cleaning;
use self::preparation::Preparation;
use self::segment_writer::SegmentWriter;
use self::segments::Segments;
use self::space::Space;
use self::tail::Tail;
use crate::limits::{COMPACTION_KEYS_BYTES, TAIL_MEMORY_QUARTERS};
use crate::runtime::Runtime;
use crate::store::checkpoint::files::CheckpointFiles;
use crate::store::format::Footer;
use crate::store::index::Index;
use crate::store::notify::Bells;
use crate::store::windows::ColdCache;
use crate::store::windows::holds::SegmentHolds;
use crate::store::windows::pace::Pace;
use crate::store::{Owner, PartitionRecord, Progress, StorageError, StoreOptions, StoreStats};
use crate::types::{Incarnation, LogId, LogPosition, MonotonicUs, PartitionIndex, SegmentNumber, TopicId};

/// All that one core keeps on disk. Cheap to clone: every clone is the same store.
pub struct Store<R: Runtime> {
    pub(in crate::store) core: Rc<Core<R>>,
}

impl<R: Runtime> Clone for Store<R> {
    fn clone(&self) -> Self {
        Store { core: Rc::clone(&self.core) }
    }
}

/// What the tasks of one store share.
pub(in crate::store) struct Core<R: Runtime> {
    pub(in crate::store) runtime: R,
    pub(in crate::store) options: StoreOptions,
    pub(in crate::store) state: RefCell<State<R>>,
    /// Windows of segments read back from disk.
    pub(in crate::store) cold: ColdCache<R>,
    pub(in crate::store) owner: RefCell<Option<Rc<dyn Owner>>>,
    /// Taken out while a checkpoint is written, so that only one is at a time.
    pub(in crate::store) checkpoints: RefCell<Option<CheckpointFiles<R>>>,
    pub(in crate::store) bells: Bells,
}

/// What the store is at one moment.
pub(in crate::store) struct State<R: Runtime> {
    pub(in crate::store) writer: SegmentWriter<R::Buffer>,
    pub(in crate::store) tail: Tail<R::Buffer>,
    pub(in crate::store) index: Index,
    /// Which partition each log is a life of.
    pub(in crate::store) partitions: HashMap<LogId, (TopicId, PartitionIndex)>,
    pub(in crate::store) segments: Segments<R::File>,
    /// Which segments reads and writes of footers hold.
    pub(in crate::store) holds: SegmentHolds,
    pub(in crate::store) durable: LogPosition,
    /// Ends of appended entries that want a flush and are not durable, in log order.
    pub(in crate::store) flush_ends: VecDeque<LogPosition>,
    /// Flush what is written although nobody waits for it.
    pub(in crate::store) flush_forced: bool,
    /// A large part of a block that is not written yet.
    pub(in crate::store) part_waiting: Option<PartWaiting>,
    /// Footers of sealed segments that are not written.
    pub(in crate::store) footers: VecDeque<Footer>,
    /// Segments whose footer is written, but not known to be durable.
    pub(in crate::store) footers_unflushed: BTreeSet<SegmentNumber>,
    pub(in crate::store) failure: Option<StorageError>,
    /// The interval has passed and the log has moved.
    pub(in crate::store) checkpoint_wanted: bool,
    /// Something was refused for want of space: what is dead should be freed at once.
    pub(in crate::store) space_wanted: bool,
    pub(in crate::store) space: Space,
    pub(in crate::store) cleaning: Cleaning,
    /// Segments sealed since the last checkpoint began.
    pub(in crate::store) sealed: u32,
    /// Bytes appended when the last checkpoint began.
    pub(in crate::store) appended_at_checkpoint: u64,
    /// When the last checkpoint ended.
    pub(in crate::store) checkpointed_at: MonotonicUs,
    pub(in crate::store) next_log: LogId,
    pub(in crate::store) incarnation: Incarnation,
    /// Sequence of the newest durable checkpoint, 0 when there is none.
    pub(in crate::store) checkpoint_sequence: u64,
    /// No more appends; tasks end when their work is done.
    pub(in crate::store) stopping: bool,
    pub(in crate::store) pace: Pace,
    pub(in crate::store) preparation: Preparation,
    pub(in crate::store) stats: StoreStats,
}

/// A large part of a block that has a moment to become a full one.
#[derive(Clone, Copy)]
pub(in crate::store) struct PartWaiting {
    /// Where it begins.
    pub(in crate::store) start: LogPosition,
    /// The moment has passed.
    pub(in crate::store) is_over: bool,
}

/// What a task does next; `None` from the condition means that it waits.
pub(in crate::store) enum Step<T> {
    Do(T),
    Stop,
}

impl<R: Runtime> Core<R> {
    /// The store is read-only from here on.
    pub(in crate::store) fn fail(&self, operation: &'static str, cause: &io::Error) {
        let mut state = self.state.borrow_mut();
        if state.failure.is_none() {
            tracing::error!(shard = %self.options.shard, %cause, "{operation} failed: the store is read-only");
            state.failure = Some(StorageError::failed(operation, cause));
        }
        drop(state);
        self.bells.ring_all();
        self.tell_owner();
    }

    pub(in crate::store) fn tell_owner(&self) {
        let owner = self.owner.borrow().clone();
        if let Some(owner) = owner {
            owner.on_progress();
        }
    }
}

impl<R: Runtime> State<R> {
    pub(in crate::store) fn progress(&self) -> Progress {
        Progress { appended: self.writer.appended(), written: self.writer.written(), durable: self.durable }
    }

    pub(in crate::store) fn partition(&self, log: LogId) -> Option<PartitionRecord> {
        let (topic, partition) = *self.partitions.get(&log)?;
        let (log_start, log_end) = (self.index.log_start(log)?, self.index.log_end(log)?);
        Some(PartitionRecord { log, topic, partition, log_start, log_end })
    }

    /// Everything appended is durable, no footer is left to write, no zeroes are in flight, and nothing is being moved.
    pub(in crate::store) fn is_idle(&self) -> bool {
        self.durable >= self.writer.appended()
            && self.footers.is_empty()
            && self.preparation.is_idle()
            && !self.cleaning.is_running
    }
}

/// Memory for the keys of compaction while it works, at most a quarter of all.
pub(in crate::store) fn keys_bytes_max(options: &StoreOptions) -> u64 {
    COMPACTION_KEYS_BYTES.min(options.memory_bytes / 4)
}

/// Memory that the tail cache may use. What the keys need is always left: blocks of the tail cannot become keys.
pub(in crate::store) fn tail_bytes_max(options: &StoreOptions) -> u64 {
    (options.memory_bytes - keys_bytes_max(options)) / 4 * TAIL_MEMORY_QUARTERS
}

/// Memory that windows of cold reads may use.
pub(in crate::store) fn cold_bytes_max(options: &StoreOptions) -> u64 {
    options.memory_bytes - keys_bytes_max(options) - tail_bytes_max(options)
}
