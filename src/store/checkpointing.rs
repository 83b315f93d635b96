//! When a checkpoint is written and what follows from it: dead segments become free.
//!
//! A checkpoint is fuzzy: partitions are added one after the other with yields between them, each with the position at
//! which it is true. It is written only when all of those positions are durable, so no partition's state ever runs ahead
//! of its log. Invariant: a segment is reused only when a durable checkpoint no longer names it and no read holds it.

use std::rc::Rc;
use std::time::Duration;

use crate::limits::CHECKPOINT_PARTITIONS_PER_YIELD;
use crate::runtime::Runtime;
use crate::store::StorageError;
use crate::store::checkpoint::{CheckpointFiles, CheckpointHead, CheckpointWriter, FreeSegment, LiveSegment};
use crate::store::log::{Core, State};
use crate::store::segments::RetiredSegment;
use crate::types::{LogId, SegmentNumber};

/// What a checkpoint will say of the store, decided when it begins.
struct Plan {
    head: CheckpointHead,
    logs: Vec<LogId>,
    /// Segments that it does not name any more.
    dead: Vec<SegmentNumber>,
}

impl<R: Runtime> Core<R> {
    /// Writes a checkpoint whenever one is due, until the store stops.
    pub(super) async fn run_checkpoints(self: Rc<Self>) {
        let mut covered = self.state.borrow().writer.appended();
        loop {
            self.runtime.sleep(Duration::from_millis(self.options.checkpoint_interval_ms)).await;
            let (stop, moved) = {
                let mut state = self.state.borrow_mut();
                state.free_retired();
                (state.failure.is_some() || state.stopping, state.writer.appended() != covered)
            };
            if stop {
                return;
            }
            if moved {
                covered = self.state.borrow().writer.appended();
                // A failure is logged and kept where it happens.
                let _ = self.checkpoint(false).await;
            }
        }
    }

    /// Writes a checkpoint now; with `clean` it says that nothing follows. Returns when it is durable.
    ///
    /// Errors: `ReadOnly`.
    pub(super) async fn checkpoint(&self, clean: bool) -> Result<(), StorageError> {
        // One at a time: the files are taken out meanwhile.
        let mut files = self.progress_bell.until(|| self.checkpoints.borrow_mut().take()).await;
        let written = self.write_checkpoint(clean, &mut files).await;
        *self.checkpoints.borrow_mut() = Some(files);
        self.progress_bell.ring();
        self.prepare_bell.ring();
        written
    }

    async fn write_checkpoint(&self, clean: bool, files: &mut CheckpointFiles<R>) -> Result<(), StorageError> {
        let mut plan = self.state.borrow().plan(clean)?;
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
            if let Some(owner) = &owner {
                owner.snapshot(*log, &mut partition_state);
            }
            writer.add_partition(&record, position, &partition_state);
            if !clean && (count + 1) % CHECKPOINT_PARTITIONS_PER_YIELD == 0 {
                self.runtime.yield_now().await;
            }
        }
        plan.head.next_log = self.state.borrow().next_log;
        self.flush_all().await?;
        let sequence = match files.write(writer, &plan.head).await {
            Ok(sequence) => sequence,
            Err(error) => {
                self.fail("checkpoint", &std::io::Error::other(error.to_string()));
                return Err(self.state.borrow().failure.clone().expect("the store just failed"));
            }
        };
        let mut state = self.state.borrow_mut();
        assert!(sequence > state.checkpoint_sequence);
        state.checkpoint_sequence = sequence;
        state.stats.checkpoints += 1;
        state.retire(&plan.dead);
        state.free_retired();
        Ok(())
    }

    /// Finishes all work and ends the tasks.
    pub(super) async fn close(&self) -> Result<(), StorageError> {
        self.flush_all().await?;
        self.progress_bell
            .until(|| {
                let state = self.state.borrow();
                if let Some(failure) = &state.failure {
                    return Some(Err(failure.clone()));
                }
                self.write_bell.ring();
                state.is_idle().then_some(Ok(()))
            })
            .await?;
        self.state.borrow_mut().stopping = true;
        self.on_progress();
        self.checkpoint(true).await
    }
}

impl<R: Runtime> State<R> {
    fn plan(&self, clean: bool) -> Result<Plan, StorageError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let covered = self.writer.appended();
        // The open segment and those sealed since the last flush are not candidates: their entries must be covered.
        let dead: Vec<SegmentNumber> =
            self.index.dead_segments().into_iter().filter(|number| *number < covered.segment).collect();
        let named = self.segments.live.iter().filter(|(number, _)| !dead.contains(number));
        let segments = named.filter_map(|(number, live)| {
            let file = live.file.as_ref()?;
            Some(LiveSegment {
                file: file.id,
                number: *number,
                bytes: live.header.bytes,
                data_end: live.sealed_end,
                incarnation: live.header.incarnation,
            })
        });
        let next_segment = self.next_unnamed();
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

    /// The first segment number that the checkpoint does not account for: one whose file is not there yet is found by
    /// its header, like those opened later.
    fn next_unnamed(&self) -> SegmentNumber {
        self.segments.without_file().unwrap_or(self.segments.next_number)
    }

    /// A durable checkpoint no longer names these segments.
    fn retire(&mut self, dead: &[SegmentNumber]) {
        for number in dead {
            let Some(live) = self.segments.live.remove(number) else { continue };
            self.index.remove_segment(*number);
            if let Some(file) = live.file {
                let checkpoint_sequence = self.checkpoint_sequence;
                self.segments.retired.push(RetiredSegment { file, checkpoint_sequence, number: *number });
            }
        }
    }

    fn free_retired(&mut self) {
        self.segments.free_retired(self.checkpoint_sequence, &self.holds);
    }
}
