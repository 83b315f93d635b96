//! The store's public face: what one shard appends to and reads from.
//!
//! An append is one step without an await: room was made first, then the entry is placed, copied and indexed, and its
//! position returned. Everything slow happens in the store's own tasks (`flush`, `segments`), which meet the rest only
//! in [`State`], borrowed for one step at a time.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::rc::Rc;

use crate::limits::TAIL_MEMORY_QUARTERS;
use crate::runtime::Runtime;
use crate::store::checkpoint::CheckpointFiles;
use crate::store::cold::ColdCache;
use crate::store::disk_reads::SegmentHolds;
use crate::store::flush::PartWaiting;
use crate::store::format::{
    Control, ENTRY_HEADER_BYTES, EntryHeader, EntryKind, Footer, SEGMENT_HEADER_BYTES, SegmentHeader, Stream,
    UNIT_BYTES, footer_bytes,
};
use crate::store::index::{Index, IndexedEntry, TailBatch};
use crate::store::notify::Bells;
use crate::store::pace::Pace;
use crate::store::preparation::Preparation;
use crate::store::segment_writer::SegmentWriter;
use crate::store::segments::{LiveSegment, Segments};
use crate::store::space::{Room, Space};
use crate::store::tail::Tail;
use crate::store::{
    Batch, OldestRun, OpenError, Owner, PartitionRecord, Progress, Purpose, Replay, StorageError, StoreOptions,
    StoreStats, recovery,
};
use crate::types::{
    Durability, Incarnation, LogId, LogPosition, MonotonicUs, Offset, PartitionIndex, SegmentNumber, TopicId,
};

/// An entry's header as a distance in a segment.
const ENTRY_HEADER_U32: u32 = 48;
const _: () = assert!(ENTRY_HEADER_U32 as usize == ENTRY_HEADER_BYTES);

/// All that one core keeps on disk. Cheap to clone: every clone is the same store.
pub struct Store<R: Runtime> {
    pub(super) core: Rc<Core<R>>,
}

impl<R: Runtime> Clone for Store<R> {
    fn clone(&self) -> Self {
        Store { core: Rc::clone(&self.core) }
    }
}

/// What the tasks of one store share.
pub(super) struct Core<R: Runtime> {
    pub(super) runtime: R,
    pub(super) options: StoreOptions,
    pub(super) state: RefCell<State<R>>,
    /// Windows of segments read back from disk.
    pub(super) cold: ColdCache<R>,
    pub(super) owner: RefCell<Option<Rc<dyn Owner>>>,
    /// Taken out while a checkpoint is written, so that only one is at a time.
    pub(super) checkpoints: RefCell<Option<CheckpointFiles<R>>>,
    pub(super) bells: Bells,
}

/// What the store is at one moment.
pub(super) struct State<R: Runtime> {
    pub(super) writer: SegmentWriter<R::Buffer>,
    pub(super) tail: Tail<R::Buffer>,
    pub(super) index: Index,
    /// Which partition each log is a life of.
    pub(super) partitions: HashMap<LogId, (TopicId, PartitionIndex)>,
    pub(super) segments: Segments<R::File>,
    /// Which segments reads and writes of footers hold.
    pub(super) holds: SegmentHolds,
    pub(super) durable: LogPosition,
    /// Ends of appended entries that want a flush and are not durable, in log order.
    pub(super) flush_ends: VecDeque<LogPosition>,
    /// Flush what is written although nobody waits for it.
    pub(super) flush_forced: bool,
    /// A large part of a block that is not written yet.
    pub(super) part_waiting: Option<PartWaiting>,
    /// Footers of sealed segments that are not written.
    pub(super) footers: VecDeque<Footer>,
    /// Segments whose footer is written, but not known to be durable.
    pub(super) footers_unflushed: BTreeSet<SegmentNumber>,
    pub(super) failure: Option<StorageError>,
    /// The interval has passed and the log has moved.
    pub(super) checkpoint_wanted: bool,
    /// Something was refused for want of space: what is dead should be freed at once.
    pub(super) space_wanted: bool,
    pub(super) space: Space,
    /// Segments sealed since the last checkpoint began.
    pub(super) sealed: u32,
    /// Bytes appended when the last checkpoint began.
    pub(super) appended_at_checkpoint: u64,
    /// When the last checkpoint ended.
    pub(super) checkpointed_at: MonotonicUs,
    pub(super) next_log: LogId,
    pub(super) incarnation: Incarnation,
    /// Sequence of the newest durable checkpoint, 0 when there is none.
    pub(super) checkpoint_sequence: u64,
    /// No more appends; tasks end when their work is done.
    pub(super) stopping: bool,
    pub(super) pace: Pace,
    pub(super) preparation: Preparation,
    pub(super) stats: StoreStats,
}

impl<R: Runtime> Store<R> {
    /// Opens or creates the directory, recovers, tells `replay` everything, makes what it found durable and starts a
    /// new incarnation. After it returns the store serves.
    ///
    /// Errors: [`OpenError::Damage`] when bytes that were durable are gone, unless `accept_loss`.
    pub async fn open(runtime: R, options: StoreOptions, replay: &mut dyn Replay) -> Result<Store<R>, OpenError> {
        let core = Rc::new(recovery::recover(runtime, options, replay).await?);
        core.start_tasks();
        Ok(Store { core })
    }

    /// Names the shard that hears of progress. Checkpoints are written from now on.
    pub fn set_owner(&self, owner: Rc<dyn Owner>) {
        let earlier = self.core.owner.borrow_mut().replace(owner);
        assert!(earlier.is_none());
        self.core.runtime.spawn(Rc::clone(&self.core).run_checkpoints());
        self.core.runtime.spawn(Rc::clone(&self.core).run_checkpoint_timer());
    }

    /// Where the log stands.
    pub fn progress(&self) -> Progress {
        self.core.state.borrow().progress()
    }

    /// Why the store is read-only, when it is.
    pub fn failure(&self) -> Option<StorageError> {
        self.core.state.borrow().failure.clone()
    }

    /// Makes the store read-only for a reason that its own writes and flushes do not show. `operation` is what failed.
    pub fn make_read_only(&self, operation: &'static str, cause: &io::Error) {
        self.core.fail(operation, cause);
    }

    /// Something was refused for want of space, and no room for it has come since.
    pub fn is_full(&self) -> bool {
        self.core.state.borrow().space.is_full()
    }

    /// Whether `bytes` more records of clients may be appended now. `None`: not yet, too much is unwritten; see
    /// [`Store::reserve`].
    ///
    /// Errors: `ReadOnly`, or `Full` when the budget or the device is used up.
    pub fn try_reserve(&self, bytes: usize) -> Option<Result<(), StorageError>> {
        self.try_reserve_for(Purpose::Client, bytes)
    }

    /// The same for any purpose.
    pub fn try_reserve_for(&self, purpose: Purpose, bytes: usize) -> Option<Result<(), StorageError>> {
        let room = self.core.state.borrow().try_reserve(&self.core.options, purpose, bytes);
        if let Some(Err(full @ StorageError::Full { .. })) = &room {
            self.core.on_full(full);
        }
        room
    }

    /// Ends when `bytes` more records of clients may be appended, which the caller then does before it awaits anything
    /// else.
    ///
    /// Errors: as [`Store::try_reserve`].
    pub async fn reserve(&self, bytes: usize) -> Result<(), StorageError> {
        self.reserve_for(Purpose::Client, bytes).await
    }

    /// The same for any purpose.
    pub async fn reserve_for(&self, purpose: Purpose, bytes: usize) -> Result<(), StorageError> {
        self.core.bells.room.until(|| self.try_reserve_for(purpose, bytes)).await
    }

    /// Copies one batch of a client to the log's end, in one step. With `Flushed` it joins the next flush. Returns the end
    /// of its entry: the batch is at its level when *written* or *durable* has reached that.
    ///
    /// Errors: `ReadOnly`, `Full`, `UnknownLog`, `TooLarge`; then nothing was appended.
    pub fn append(&self, log: LogId, batch: Batch<'_>, durability: Durability) -> Result<LogPosition, StorageError> {
        self.append_for(Purpose::Client, log, batch, durability)
    }

    /// The same for any purpose.
    pub fn append_for(
        &self,
        purpose: Purpose,
        log: LogId,
        batch: Batch<'_>,
        durability: Durability,
    ) -> Result<LogPosition, StorageError> {
        let mut state = self.core.state.borrow_mut();
        let log_end = state.index.log_end(log).ok_or(StorageError::UnknownLog { log })?;
        assert!(batch.base_offset == log_end);
        assert!(batch.last_offset >= batch.base_offset);
        let entry = Entry {
            kind: EntryKind::Append,
            batch_count: 1,
            log,
            covered: batch.header,
            uncovered: batch.records,
            purpose,
        };
        let (start, end) = state.append_entry(&self.core, &entry)?;
        let entry = IndexedEntry {
            position: start.byte,
            bytes: end.byte - start.byte,
            base_offset: batch.base_offset,
            last_offset: batch.last_offset,
            timestamp_max: batch.timestamp_max,
        };
        state.index.add(log, &entry).expect("the batch continues its log");
        state.index.add_tail(
            log,
            TailBatch {
                base_offset: batch.base_offset,
                last_offset: batch.last_offset,
                segment: start.segment,
                byte: start.byte + ENTRY_HEADER_U32,
                bytes: end.byte - start.byte - ENTRY_HEADER_U32,
            },
        );
        if durability == Durability::Flushed {
            state.flush_ends.push_back(end);
        }
        drop(state);
        self.core.bells.write.ring();
        Ok(end)
    }

    /// Begins a new life of a partition. The entry joins the next flush.
    ///
    /// Errors: `ReadOnly`, `Full`.
    pub fn create(&self, topic: TopicId, partition: PartitionIndex) -> Result<(LogId, LogPosition), StorageError> {
        let log = self.core.state.borrow().next_log;
        let end = self.append_control(log, Control::Create { topic, partition })?;
        let mut state = self.core.state.borrow_mut();
        state.next_log = LogId::new(log.value() + 1);
        state.index.create(log, Offset::ZERO);
        state.partitions.insert(log, (topic, partition));
        Ok((log, end))
    }

    /// Ends a partition's life; its log id never comes back. The entry joins the next flush.
    ///
    /// Errors: `UnknownLog`, `ReadOnly`; `Full` only when even the reserve is used up.
    pub fn delete(&self, log: LogId) -> Result<LogPosition, StorageError> {
        self.known(log)?;
        let end = self.append_control(log, Control::Delete)?;
        let mut state = self.core.state.borrow_mut();
        state.partitions.remove(&log);
        state.index.delete(log);
        drop(state);
        self.core.on_less_live();
        Ok(end)
    }

    /// Moves the first offset that may be read; moving it back is ignored. The entry joins the next flush.
    ///
    /// Errors: as [`Store::delete`].
    pub fn set_log_start(&self, log: LogId, log_start: Offset) -> Result<LogPosition, StorageError> {
        let partition = self.known(log)?;
        assert!(log_start <= partition.log_end);
        if log_start <= partition.log_start {
            return Ok(self.progress().appended);
        }
        let end = self.append_control(log, Control::LogStart { offset: log_start })?;
        self.core.state.borrow_mut().index.set_log_start(log, log_start);
        self.core.on_less_live();
        Ok(end)
    }

    fn known(&self, log: LogId) -> Result<PartitionRecord, StorageError> {
        self.partition(log).ok_or(StorageError::UnknownLog { log })
    }

    fn append_control(&self, log: LogId, control: Control) -> Result<LogPosition, StorageError> {
        let payload = control.encode();
        let purpose = match control {
            Control::Create { .. } => Purpose::Metadata,
            Control::Delete | Control::LogStart { .. } => Purpose::FreesSpace,
        };
        let (kind, covered) = (EntryKind::Control, &payload[..]);
        let entry = Entry { kind, batch_count: 0, log, covered, uncovered: &[], purpose };
        let mut state = self.core.state.borrow_mut();
        let appended = state.append_entry(&self.core, &entry);
        if let Ok((_, end)) = &appended {
            state.flush_ends.push_back(*end);
        }
        drop(state);
        self.core.bells.write.ring();
        if let Err(full @ StorageError::Full { .. }) = &appended {
            self.core.on_full(full);
        }
        appended.map(|(_, end)| end)
    }

    /// What the store knows of a partition.
    pub fn partition(&self, log: LogId) -> Option<PartitionRecord> {
        self.core.state.borrow().partition(log)
    }

    /// Every partition, by log id.
    pub fn partitions(&self) -> Vec<PartitionRecord> {
        let state = self.core.state.borrow();
        let logs = state.index.logs();
        logs.into_iter().filter_map(|log| state.partition(log)).collect()
    }

    /// Bytes that a log takes on disk, entry headers included.
    pub fn log_bytes(&self, log: LogId) -> u64 {
        self.core.state.borrow().index.log_bytes(log)
    }

    /// A log's oldest run that retention can drop as one: its share of one segment.
    pub fn oldest(&self, log: LogId) -> Option<OldestRun> {
        self.core.state.borrow().index.oldest(log)
    }

    /// Writes a checkpoint; dead segments that it no longer names become free. Returns when it is durable.
    ///
    /// Errors: `ReadOnly`, `Full`, `TooLarge`.
    pub async fn checkpoint(&self) -> Result<(), StorageError> {
        self.core.checkpoint(false).await
    }

    /// Where the files of this store lie.
    pub fn directory(&self) -> &Path {
        &self.core.options.directory
    }

    /// Whether it was opened to serve although bytes that were durable are gone.
    pub fn accepts_loss(&self) -> bool {
        self.core.options.accept_loss
    }

    /// Memory for the tail cache and the windows of cold reads, in bytes.
    pub fn memory_bytes_max(&self) -> u64 {
        self.core.options.memory_bytes
    }

    /// Flushes completed since the store was opened, and how long the last one took in microseconds. Cheap, unlike
    /// [`Store::stats`], which looks at every partition.
    pub fn flushes(&self) -> (u64, u64) {
        let state = self.core.state.borrow();
        (state.stats.flushes, state.stats.flush_us)
    }

    /// Counters since the store was opened.
    pub fn stats(&self) -> StoreStats {
        let state = self.core.state.borrow();
        StoreStats {
            written_bytes: state.writer.submitted_bytes(),
            segments_live: u64::try_from(state.segments.live.len()).expect("a count fits 64 bits"),
            segments_free: u64::try_from(state.segments.free.len()).expect("a count fits 64 bits"),
            segments_scanned: self.core.cold.stats().segments_scanned,
            memory_bytes: self.core.runtime.buffer_bytes()
                + self.core.cold.extents_bytes()
                + state.index.memory_bytes(),
            ..state.stats
        }
    }

    /// Finishes all writes, flushes, writes a clean checkpoint and ends the store's tasks. Nothing is appended after.
    ///
    /// Errors: `ReadOnly` when the store failed before or meanwhile.
    pub async fn close(&self) -> Result<(), StorageError> {
        self.core.close().await
    }
}

impl<R: Runtime> Core<R> {
    /// A segment may be dead now, which matters at once when space is wanted.
    fn on_less_live(&self) {
        if self.state.borrow().space_wanted {
            self.bells.checkpoint.ring();
        }
    }
}

/// What an entry is made of.
struct Entry<'a> {
    kind: EntryKind,
    batch_count: u16,
    log: LogId,
    /// The start of the payload, which the entry's crc covers.
    covered: &'a [u8],
    /// The rest.
    uncovered: &'a [u8],
    /// Who may use how much of the reserve.
    purpose: Purpose,
}

impl<R: Runtime> State<R> {
    pub(super) fn progress(&self) -> Progress {
        Progress { appended: self.writer.appended(), written: self.writer.written(), durable: self.durable }
    }

    pub(super) fn partition(&self, log: LogId) -> Option<PartitionRecord> {
        let (topic, partition) = *self.partitions.get(&log)?;
        let (log_start, log_end) = (self.index.log_start(log)?, self.index.log_end(log)?);
        Some(PartitionRecord { log, topic, partition, log_start, log_end })
    }

    fn try_reserve(&self, options: &StoreOptions, purpose: Purpose, bytes: usize) -> Option<Result<(), StorageError>> {
        if let Some(failure) = &self.failure {
            return Some(Err(failure.clone()));
        }
        let bytes = u64::try_from(bytes).expect("usize fits 64 bits");
        let unwritten = self.writer.unwritten_bytes();
        let entry = bytes + u64::try_from(ENTRY_HEADER_BYTES).expect("48 fits");
        let fits = self.fits(entry, None);
        match self.room_for(options, purpose, fits) {
            Room::Now => {}
            Room::Soon => return None,
            Room::None => return Some(Err(self.full(options))),
        }
        // The next segment's file is on its way: a roll now would leave blocks in memory without a place on disk.
        if !fits && self.segments.without_file().is_some() {
            return None;
        }
        // A batch larger than the bound passes alone.
        if unwritten > 0 && unwritten + bytes > unwritten_bytes_max(options) { None } else { Some(Ok(())) }
    }

    /// Whether there is room for an entry, which `fits` into the open segment or opens the next.
    fn room_for(&self, options: &StoreOptions, purpose: Purpose, fits: bool) -> Room {
        match fits {
            true if self.space.keeps_open_segment_from(purpose) => self.room_in_open(options, purpose),
            true => Room::Now,
            false => self.room(options, purpose),
        }
    }

    /// Whether an entry of so many bytes still fits into the open segment with the footer it then needs: of `log`, or
    /// of any log when that is not known yet.
    fn fits(&self, entry_bytes: u64, log: Option<LogId>) -> bool {
        let number = self.writer.appended().segment;
        let Some(open) = self.segments.live.get(&number).filter(|open| open.sealed_end.is_none()) else { return false };
        let start = self.writer.next_start();
        let end = (u64::from(start) + entry_bytes).next_multiple_of(u64::from(UNIT_BYTES));
        let fits = |footer: u64| end + footer <= u64::from(open.header.bytes);
        let index = self.index.open();
        // Asked twice for each batch, and true nearly always; the log's run is mostly not in a near cache.
        if fits(index.footer_bytes_max_with_one()) {
            return true;
        }
        let entry = u32::try_from(entry_bytes).unwrap_or(u32::MAX);
        // Log id 0 is never given, so it stands for a log that has no row yet.
        fits(index.footer_bytes_with(log.unwrap_or(LogId::new(0)), start, entry))
    }

    /// Places and copies an entry, in the next segment when this one is full. Returns its start and its end.
    fn append_entry(&mut self, core: &Core<R>, entry: &Entry<'_>) -> Result<(LogPosition, LogPosition), StorageError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if self.stopping {
            return Err(StorageError::Closed);
        }
        let payload = entry.covered.len() + entry.uncovered.len();
        let entry_bytes = u64::try_from(ENTRY_HEADER_BYTES + payload).expect("usize fits 64 bits");
        let overhead = u64::from(SEGMENT_HEADER_BYTES) + footer_bytes(1, 1) + u64::from(UNIT_BYTES);
        let max = u64::from(core.options.segment_bytes) - overhead;
        if entry_bytes > max {
            return Err(StorageError::TooLarge { bytes: entry_bytes, max });
        }
        let fits = self.fits(entry_bytes, Some(entry.log));
        // What cannot wait goes ahead of a file that is being made.
        if self.room_for(&core.options, entry.purpose, fits) == Room::None {
            return Err(self.full(&core.options));
        }
        if !fits {
            self.space.open_for(self.next_is_for(&core.options, entry.purpose));
            self.roll(core, entry_bytes + overhead, self.bytes_left(&core.options, entry.purpose));
        }
        let header = EntryHeader {
            kind: entry.kind,
            payload_bytes: u32::try_from(payload).expect("an entry fits its segment"),
            batch_count: entry.batch_count,
            incarnation: self.incarnation,
            log: entry.log,
            segment: self.writer.appended().segment,
            durable: self.durable,
            previous_end: self.writer.appended().byte,
        }
        .encode([entry.covered]);
        let State { writer, tail, .. } = self;
        let allocate = || core.runtime.allocate(core.options.block_bytes);
        let parts = [&header[..], entry.covered, entry.uncovered];
        let start = writer.append(&parts, allocate, |new| tail.push(new.segment, new.start, new.block));
        self.evict(&core.options);
        self.stats.appended_bytes += entry_bytes;
        Ok((start, self.writer.appended()))
    }

    /// Gives up the oldest blocks when memory is short.
    pub(super) fn evict(&mut self, options: &StoreOptions) {
        if let Some(start) = self.tail.evict(tail_bytes_max(options), self.writer.written()) {
            self.index.evict_tail(start);
        }
    }

    /// Seals the open segment and opens the next, in memory; its header goes out with its first write. Its file has from
    /// `bytes_min` to `bytes_max` bytes.
    fn roll(&mut self, core: &Core<R>, bytes_min: u64, bytes_max: u64) {
        let predecessor = self.writer.appended();
        let number = self.segments.next_number;
        self.segments.next_number = number.next();
        self.seal(predecessor, number);
        let file = self.segments.take_spare(bytes_min, bytes_max);
        let header = SegmentHeader {
            shard: core.options.shard,
            stream: Stream::Hot,
            number,
            incarnation: self.incarnation,
            bytes: file.as_ref().map_or(core.options.segment_bytes, |file| file.bytes),
            predecessor,
            checkpoint_sequence: self.checkpoint_sequence,
            durable: self.durable,
        };
        let memory = core.runtime.allocate(core.options.block_bytes);
        let block = self.writer.open_segment(number, &header.encode(), memory);
        self.tail.push(block.segment, block.start, block.block);
        let live = LiveSegment { header, file, sealed_end: None };
        self.segments.live.insert(number, live);
        core.bells.footer.ring();
        core.bells.prepare.ring();
        core.bells.checkpoint.ring();
    }

    /// Closes the segment that ends at `end`, if it is still open, before `next`; its footer waits for its turn.
    pub(super) fn seal(&mut self, end: LogPosition, next: SegmentNumber) {
        let open = self.segments.live.get_mut(&end.segment).filter(|open| open.sealed_end.is_none());
        let Some(open) = open else {
            self.index.set_open(next).expect("segment numbers ascend");
            return;
        };
        open.sealed_end = Some(end.byte);
        self.sealed += 1;
        let footer = self.index.seal(&open.header, self.incarnation, end.byte, next).expect("segment numbers ascend");
        if let Some(footer) = footer {
            self.footers.push_back(footer);
        }
    }
}

/// Memory that the tail cache may use.
pub(super) fn tail_bytes_max(options: &StoreOptions) -> u64 {
    options.memory_bytes / 4 * TAIL_MEMORY_QUARTERS
}

/// Memory that windows of cold reads may use.
pub(super) fn cold_bytes_max(options: &StoreOptions) -> u64 {
    options.memory_bytes - tail_bytes_max(options)
}

/// Bytes that may wait for their write: half of the tail, so that what was written is not evicted at once.
fn unwritten_bytes_max(options: &StoreOptions) -> u64 {
    tail_bytes_max(options) / 2
}
