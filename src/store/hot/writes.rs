//! How appended bytes reach the disk: one task gives out writes, at once when nothing is in flight, else full blocks only, so
//! that what comes meanwhile leaves together; a block that filled up by more than half during the last write has a moment to
//! become full. Invariants: `written <= appended`; after the first failed write nothing moves again.

use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use crate::limits::{FLUSH_BYTES_AHEAD_MAX, IO_ALIGNMENT, PART_WRITE_PATIENCE_US, WRITES_IN_FLIGHT_MAX};
use crate::runtime::{Buffer, File, Runtime};
use crate::store::StoreOptions;
use crate::store::format::UNIT_BYTES;
use crate::store::state::segment_writer::Write;
use crate::store::state::{Core, PartWaiting, State, Step};
use crate::types::{LogPosition, SegmentNumber};

/// Whether a block that is not full may be written now.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Part {
    /// It may.
    Goes,
    /// Not before something else has happened.
    Stays,
    /// The block that begins here gets a moment first, which nobody has begun to count.
    Waits(LogPosition),
}

/// A write of the log, and the file that it goes to.
type FileWrite<R> = (<R as Runtime>::File, Write<<R as Runtime>::Buffer>);

/// What the write task does next.
enum NextWrite<R: Runtime> {
    /// Gives out this write.
    Write(FileWrite<R>),
    /// Waits a moment for the block that begins here to become full, unless something else is to be done.
    Wait(LogPosition),
}

impl<R: Runtime> Core<R> {
    pub(in crate::store) async fn run_writes(self: Rc<Self>) {
        loop {
            let step = self.bells.write.until(|| self.state.borrow_mut().next_write(&self)).await;
            let Step::Do(next) = step else { return };
            let (file, write) = match next {
                NextWrite::Write(write) => write,
                NextWrite::Wait(start) => {
                    self.runtime.spawn(Rc::clone(&self).end_patience(start));
                    continue;
                }
            };
            if cfg!(corelane_defect = "lost_block") && write.id % 64 == 63 {
                self.on_written(write.id);
                continue;
            }
            let core = Rc::clone(&self);
            let done = file.write_at(write.buffer, u64::from(write.position));
            self.runtime.spawn(async move {
                match done.await {
                    Ok(()) => core.on_written(write.id),
                    Err(cause) => core.fail("write", &cause),
                }
            });
        }
    }

    /// Ends the moment that the block which begins at `start` has to become full.
    async fn end_patience(self: Rc<Self>, start: LogPosition) {
        self.runtime.sleep(Duration::from_micros(PART_WRITE_PATIENCE_US)).await;
        let mut state = self.state.borrow_mut();
        if let Some(waiting) = state.part_waiting.as_mut().filter(|waiting| waiting.start == start) {
            waiting.is_over = true;
        }
        drop(state);
        self.bells.write.ring();
    }

    fn on_written(&self, id: u64) {
        let mut state = self.state.borrow_mut();
        state.stats.writes += 1;
        let moved = state.writer.on_written(id);
        if cfg!(corelane_defect = "answer_before_flush") {
            state.durable = state.writer.written();
        }
        assert!(state.durable <= state.writer.written());
        if moved {
            state.evict(&self.options);
        }
        drop(state);
        self.bells.write.ring();
        if moved {
            self.bells.fill.ring();
            self.bells.flush.ring();
            self.bells.room.ring();
            self.bells.progress.ring();
            self.tell_owner();
        }
    }
}

impl<R: Runtime> State<R> {
    fn next_write(&mut self, core: &Rc<Core<R>>) -> Option<Step<NextWrite<R>>> {
        if self.failure.is_some() || (self.stopping && self.is_idle()) {
            return Some(Step::Stop);
        }
        let in_flight = self.writer.in_flight();
        if in_flight >= WRITES_IN_FLIGHT_MAX {
            return None;
        }
        if !self.flush_ends.is_empty() && in_flight > 0 && self.writer.in_flight_bytes() >= FLUSH_BYTES_AHEAD_MAX {
            return None;
        }
        let (number, range) = self.writer.next_write_range()?;
        let file = self.segments.live.get(&number)?.file.as_ref()?;
        let collides = self.preparation.touches(file.id, range.start, range.end.next_multiple_of(UNIT_BYTES));
        if collides && !cfg!(corelane_defect = "prepared_under_writer") {
            return None;
        }
        let file = file.file.clone();
        let part = if in_flight == 0 { self.part(&core.options, number, &range) } else { Part::Stays };
        if let Some(write) = self.writer.next_write(part == Part::Goes, |bytes| core.runtime.allocate(bytes)) {
            assert!(write.buffer.bytes().is_multiple_of(IO_ALIGNMENT));
            return Some(Step::Do(NextWrite::Write((file, write))));
        }
        let Part::Waits(start) = part else { return None };
        self.part_waiting = Some(PartWaiting { start, is_over: false });
        if cfg!(corelane_defect = "spawned_under_borrow") {
            core.runtime.spawn(Rc::clone(core).end_patience(start));
            return None;
        }
        Some(Step::Do(NextWrite::Wait(start)))
    }

    /// What becomes of a block that is not full. A large part would have to be copied, and at the rate at which it came it is
    /// soon a full block, which has not: it waits for that as long as [`PART_WRITE_PATIENCE_US`].
    fn part(&self, options: &StoreOptions, segment: SegmentNumber, range: &Range<u32>) -> Part {
        let block_bytes = u32::try_from(options.block_bytes).expect("a block is smaller than a segment");
        if range.end - range.start < block_bytes / 2 || range.end.is_multiple_of(block_bytes) {
            return Part::Goes;
        }
        let start = LogPosition { segment, byte: range.start };
        match self.part_waiting.filter(|waiting| waiting.start == start) {
            Some(waiting) if waiting.is_over => Part::Goes,
            Some(_) => Part::Stays,
            None => Part::Waits(start),
        }
    }
}
