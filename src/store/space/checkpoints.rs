//! When a checkpoint is written and what follows from it: dead segments become free.
//!
//! A checkpoint is fuzzy: partitions are added one after the other with yields between them, each with the position at
//! which it is true. It is written only when all of those positions are durable, so no partition's state ever runs ahead
//! of its log. Invariant: a segment is reused only when a durable checkpoint no longer names it and no read holds it.

use std::rc::Rc;
use std::time::Duration;

use crate::limits::{
    CHECKPOINT_BYTES_MAX, CHECKPOINT_PARTITIONS_PER_YIELD, CHECKPOINT_PAUSE_DIVISOR, CHECKPOINT_RETRY_MS,
    CLEAN_QUIET_BYTES_PER_SECOND,
};
use crate::runtime::Runtime;
use crate::store::StorageError;
use crate::store::checkpoint::files::CheckpointFiles;
use crate::store::checkpoint::{CheckpointError, CheckpointHead, CheckpointWriter, FreeSegment, LiveSegment};
use crate::store::format::Stream;
use crate::store::state::segments::LiveSegment as SegmentState;
use crate::store::state::{Core, State};
use crate::types::{LogId, LogPosition, SegmentNumber};

/// What a checkpoint will say of the store, decided when it begins.
struct Plan {
    head: CheckpointHead,
    logs: Vec<LogId>,
    /// Segments that it does not name any more.
    dead: Vec<SegmentNumber>,
}

impl<R: Runtime> Core<R> {
    /// Writes a checkpoint whenever one is due, until the store stops.
    pub(in crate::store) async fn run_checkpoints(self: Rc<Self>) {
        loop {
            let goes_on = self.bells.checkpoint.until(|| self.state.borrow().checkpoint_due(&self)).await;
            if !goes_on {
                return;
            }
            // A failure is logged and kept where it happens. Without a checkpoint nothing dead is freed: while that is for
            // want of space it is tried again, also if nothing more can be appended.
            if let Err(StorageError::Full { .. }) = self.checkpoint(false).await {
                self.runtime.sleep(Duration::from_millis(CHECKPOINT_RETRY_MS)).await;
                self.state.borrow_mut().checkpoint_wanted = true;
            }
            let mut state = self.state.borrow_mut();
            state.checkpointed_at = self.runtime.now();
        }
    }

    /// Makes a checkpoint due once per interval if the log moved, and frees what reads held until now.
    pub(in crate::store) async fn run_checkpoint_timer(self: Rc<Self>) {
        let mut covered = LogPosition::default();
        let mut appended_bytes = self.state.borrow().stats.appended_bytes;
        loop {
            self.runtime.sleep(Duration::from_millis(self.options.checkpoint_interval_ms)).await;
            let mut state = self.state.borrow_mut();
            if state.failure.is_some() || state.stopping {
                return;
            }
            state.free_retired();
            state.let_go_of_free_files(&self.options, self.runtime.now());
            let appended = state.writer.appended();
            state.checkpoint_wanted |= appended != covered;
            covered = appended;
            let before = std::mem::replace(&mut appended_bytes, state.stats.appended_bytes);
            let bytes_per_second = (appended_bytes - before) * 1000 / self.options.checkpoint_interval_ms.max(1);
            state.cleaning.is_quiet = bytes_per_second <= CLEAN_QUIET_BYTES_PER_SECOND;
            drop(state);
            self.on_more_space();
            self.want_cleaning();
            self.bells.checkpoint.ring();
            self.bells.prepare.ring();
        }
    }

    /// Writes a checkpoint now; with `clean` it says that nothing follows. Returns when it is durable.
    ///
    /// Errors: `ReadOnly`; `Full` when there is no room for it; `TooLarge`.
    pub(in crate::store) async fn checkpoint(&self, clean: bool) -> Result<(), StorageError> {
        // One at a time: the files are taken out meanwhile.
        let mut files = self.bells.progress.until(|| self.checkpoints.borrow_mut().take()).await;
        let written = self.write_checkpoint(clean, &mut files).await;
        *self.checkpoints.borrow_mut() = Some(files);
        self.on_more_space();
        self.want_cleaning();
        self.bells.progress.ring();
        self.bells.prepare.ring();
        self.bells.room.ring();
        written
    }

    async fn write_checkpoint(&self, clean: bool, files: &mut CheckpointFiles<R>) -> Result<(), StorageError> {
        let mut plan = self.state.borrow_mut().plan(clean)?;
        if cfg!(corelane_defect = "segment_reused_too_early") {
            let mut state = self.state.borrow_mut();
            state.retire(&plan.dead);
            state.free_retired();
        }
        let mut writer = CheckpointWriter::new();
        let owner = self.owner.borrow().clone();
        let mut partition_state = Vec::new();
        for (count, log) in plan.logs.iter().enumerate() {
            let (record, position) = {
                let state = self.state.borrow();
                (state.partition(*log), state.writer.appended())
            };
            // A log deleted since the plan is not named; its delete entry lies behind `covered`.
            let Some(record) = record else { continue };
            partition_state.clear();
            if let Some(owner) = &owner
                && !cfg!(corelane_defect = "state_lost_at_checkpoint")
            {
                owner.snapshot(*log, &mut partition_state);
            }
            writer.add_partition(&record, position, &partition_state);
            if !clean && (count + 1) % CHECKPOINT_PARTITIONS_PER_YIELD == 0 {
                self.runtime.yield_now().await;
            }
        }
        plan.head.next_log = self.state.borrow().next_log;
        if !cfg!(corelane_defect = "checkpoint_ahead_of_log") {
            self.flush_all().await?;
        }
        let sealed = plan.head.segments.iter().filter(|segment| segment.data_end.is_some());
        let sealed: Vec<SegmentNumber> = sealed.map(|segment| segment.number).collect();
        self.flush_footers(&sealed).await?;
        let sequence = match files.write(writer, &plan.head).await {
            Ok(sequence) => sequence,
            // The older one still counts.
            Err(error) if error.is_out_of_space() => {
                let mut state = self.state.borrow_mut();
                if !state.space.is_checkpoint_waiting() {
                    tracing::warn!(shard = %self.options.shard, %error, "no space for a checkpoint: it is tried again");
                }
                state.space.on_checkpoint(false);
                return Err(state.full(&self.options));
            }
            Err(CheckpointError::TooLarge { bytes }) => {
                tracing::error!(
                    shard = %self.options.shard,
                    "a checkpoint of {bytes} bytes exceeds {CHECKPOINT_BYTES_MAX} and is not written: no space is freed until \
                     there are fewer partitions or producers"
                );
                return Err(StorageError::TooLarge { bytes, max: CHECKPOINT_BYTES_MAX });
            }
            Err(error) => {
                self.fail("checkpoint", &std::io::Error::other(error.to_string()));
                return Err(self.state.borrow().failure.clone().expect("the store just failed"));
            }
        };
        let mut state = self.state.borrow_mut();
        assert!(sequence > state.checkpoint_sequence);
        state.checkpoint_sequence = sequence;
        state.space.on_checkpoint(true);
        state.stats.checkpoints += 1;
        state.retire(&plan.dead);
        state.free_retired();
        Ok(())
    }

    /// Finishes all work and ends the tasks.
    pub(in crate::store) async fn close(&self) -> Result<(), StorageError> {
        self.state.borrow_mut().cleaning.is_closing = true;
        self.flush_all().await?;
        self.bells
            .progress
            .until(|| {
                let state = self.state.borrow();
                if let Some(failure) = &state.failure {
                    return Some(Err(failure.clone()));
                }
                state.is_idle().then_some(Ok(()))
            })
            .await?;
        self.state.borrow_mut().stopping = true;
        self.bells.ring_all();
        self.checkpoint(true).await
    }
}

impl<R: Runtime> State<R> {
    /// Whether a checkpoint is due (true) or none is any more (false).
    fn checkpoint_due(&self, core: &Core<R>) -> Option<bool> {
        if self.failure.is_some() || self.stopping {
            return Some(false);
        }
        let since_us = core.runtime.now().since_us(self.checkpointed_at);
        let pause_us = core.options.checkpoint_interval_ms * 1000 / CHECKPOINT_PAUSE_DIVISOR;
        let space = self.space_wanted && !self.dead().is_empty();
        let much = self.stats.appended_bytes - self.appended_at_checkpoint >= core.options.checkpoint_appended_bytes;
        let due = self.checkpoint_wanted || space || (self.sealed > 0 && (much || since_us >= pause_us));
        due.then_some(true)
    }

    fn plan(&mut self, clean: bool) -> Result<Plan, StorageError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        (self.checkpoint_wanted, self.space_wanted, self.sealed) = (false, false, 0);
        self.appended_at_checkpoint = self.stats.appended_bytes;
        let covered = self.writer.appended();
        let dead = self.dead();
        // A file for one segment may come before that of an earlier one, which waits for another size: the checkpoint names a
        // beginning of the log without a gap.
        let next_segment = self.next_unnamed();
        let is_named = |(number, live): &(&SegmentNumber, &SegmentState<R::File>)| {
            (**number < next_segment || live.header.stream == Stream::Cold) && !dead.contains(number)
        };
        let named = self.segments.live.iter().filter(is_named);
        let named = named.skip(usize::from(cfg!(corelane_defect = "checkpoint_names_too_few_segments")));
        let segments = named.map(|(number, live)| LiveSegment {
            stream: live.header.stream,
            file: live.file.as_ref().expect("every segment before the first without a file has one").id,
            number: *number,
            bytes: live.header.bytes,
            data_end: live.sealed_end,
            incarnation: live.header.incarnation,
        });
        let free = self.segments.free.iter().map(|file| FreeSegment { file: file.id, bytes: file.bytes });
        let head = CheckpointHead {
            incarnation: self.incarnation,
            covered,
            clean_end: clean.then_some(covered),
            next_log: self.next_log,
            next_file: self.segments.next_file,
            next_segment,
            segments: segments.collect(),
            free: free.collect(),
        };
        Ok(Plan { head, logs: self.index.logs(), dead })
    }
}
