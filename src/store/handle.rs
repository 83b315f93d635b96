//! The store's public face: what one shard appends to and reads from.
//!
//! An append is one step without an await: room was made first, then the entry is placed, copied and indexed, and its
//! position returned. Everything slow happens in the store's own tasks, which meet the rest only in the state, borrowed
//! for one step at a time.

use std::io;
use std::path::Path;
use std::rc::Rc;

use crate::runtime::Runtime;
use crate::store::format::{Control, ENTRY_HEADER_BYTES, EntryKind};
use crate::store::hot::append::Entry;
use crate::store::index::{IndexedEntry, TailBatch};
use crate::store::state::Store;
use crate::store::{
    Batch, DueLog, OldestRun, OpenError, Owner, PartitionRecord, Progress, Purpose, Replay, StorageError, StoreOptions,
    StoreStats, recovery,
};
use crate::types::{Durability, LogId, LogPosition, Offset, PartitionIndex, TimestampMs, TopicId};

/// An entry's header as a distance in a segment.
const ENTRY_HEADER_U32: u32 = 48;
const _: () = assert!(ENTRY_HEADER_U32 as usize == ENTRY_HEADER_BYTES);

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

    /// Names the shard that hears of progress. Checkpoints are written, and space is given back, from now on.
    pub fn set_owner(&self, owner: Rc<dyn Owner>) {
        let earlier = self.core.owner.borrow_mut().replace(owner);
        assert!(earlier.is_none());
        self.core.runtime.spawn(Rc::clone(&self.core).run_checkpoints());
        self.core.runtime.spawn(Rc::clone(&self.core).run_checkpoint_timer());
        self.core.runtime.spawn(Rc::clone(&self.core).run_cleaner());
        self.core.runtime.spawn(Rc::clone(&self.core).run_scrub());
        if cfg!(corelane_defect = "jobs_in_parallel") {
            self.core.runtime.spawn(Rc::clone(&self.core).run_cleaner());
        }
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
        let end = self.append_control(Purpose::Metadata, log, Control::Create { topic, partition })?;
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
        let end = self.append_control(Purpose::FreesSpace, log, Control::Delete)?;
        let mut state = self.core.state.borrow_mut();
        state.partitions.remove(&log);
        state.index.delete(log);
        state.cleaning.uncompactable.remove(&log);
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
        let end = self.append_control(Purpose::FreesSpace, log, Control::LogStart { offset: log_start })?;
        self.core.state.borrow_mut().index.set_log_start(log, log_start);
        self.core.on_less_live();
        Ok(end)
    }

    fn known(&self, log: LogId) -> Result<PartitionRecord, StorageError> {
        self.partition(log).ok_or(StorageError::UnknownLog { log })
    }

    fn append_control(&self, purpose: Purpose, log: LogId, control: Control) -> Result<LogPosition, StorageError> {
        let payload = control.encode();
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

    /// Up to where a log may be compacted: what comes later is in the open segment, or not durable yet. `None` for an unknown
    /// log, and for one that cannot be compacted.
    pub fn settled_end(&self, log: LogId) -> Option<Offset> {
        let state = self.core.state.borrow();
        let end = state.index.settled_end(log, |number| state.is_settled(number));
        end.filter(|_| !state.cleaning.uncompactable.contains(&log))
    }

    /// Greatest timestamp in a log, of what lies below its start too where that is in one segment with its oldest. `None` when
    /// it holds nothing.
    pub fn timestamp_max(&self, log: LogId) -> Option<TimestampMs> {
        self.core.state.borrow().index.timestamp_max_places(log).into_iter().map(|(timestamp, _)| timestamp).max()
    }

    /// Bytes that a log takes below an offset, entry headers included, roughly.
    pub fn bytes_below(&self, log: LogId, offset: Offset) -> u64 {
        self.core.state.borrow().index.bytes_below(log, offset)
    }

    /// Compacts logs, the first of them first, in place of those of which it was asked before and that are not begun; not
    /// faster than so many bytes a second. The owner is told what was done.
    pub fn compact(&self, due: Vec<DueLog>, bytes_per_second: f64) {
        let mut state = self.core.state.borrow_mut();
        state.cleaning.due = due.into();
        state.cleaning.compaction_bytes_per_second = bytes_per_second;
        drop(state);
        self.core.want_cleaning();
    }

    /// Ends the open segment, if there is something in it, so that this may be compacted. False when there is no room for
    /// another one now.
    pub fn seal_open_segment(&self) -> bool {
        let mut state = self.core.state.borrow_mut();
        let is_sealed = state.seal_open(&self.core);
        drop(state);
        self.core.bells.write.ring();
        is_sealed
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
        let index_bytes = state.index.memory_bytes();
        StoreStats {
            index_bytes,
            written_bytes: state.writer.submitted_bytes(),
            live_bytes: state.live_bytes(),
            used_bytes: state.segments.used_bytes(),
            segments_live: u64::try_from(state.segments.live.len()).expect("a count fits 64 bits"),
            uncompactable_logs: u64::try_from(state.cleaning.uncompactable.len()).expect("a count fits 64 bits"),
            segments_free: u64::try_from(state.segments.free.len()).expect("a count fits 64 bits"),
            segments_scanned: self.core.cold.stats().segments_scanned,
            memory_bytes: self.core.runtime.buffer_bytes()
                + self.core.cold.extents_bytes()
                + index_bytes
                + state.cleaning.keys_bytes,
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
