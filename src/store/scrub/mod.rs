//! The scrub: reads old data again and again, slowly, so that what rots is known while something can still be done about it.
//!
//! One task per core. A *round* goes over all sealed segments, hot and cold, by number from one that is chosen by chance, so that a
//! broker that is often started anew does not read the same ones each time; and in each over what is live: its bytes are read in
//! the order in which they lie, and every entry and batch is checked. What is damaged stays where it is; it is told once, counted
//! with what the cleaner finds, and left alone by it from then on.
//!
//! It has a budget of bytes for each tick, smaller while flushes are slow, and does nothing between ticks; between rounds it
//! sleeps. A segment is held only while some of it is read, so none is kept from being used again. It gives back nothing to the
//! cold cache and takes nothing from it: all that it keeps is the directory of one segment, and extents up to a bound.

mod row;

use std::rc::Rc;
use std::time::Duration;

use self::row::{Part, check_extent};
use crate::limits::{COLD_READ_DEPTH, SCRUB_EXTENTS_MAX, SCRUB_READ_BYTES};
use crate::runtime::Runtime;
use crate::runtime::block::Block;
use crate::store::ScrubOptions;
use crate::store::format::{DirectoryRow, Extent, UNIT_BYTES, usize_of};
use crate::store::index::{Place, PlaceExtents};
use crate::store::state::{Core, State};
use crate::store::windows::ColdError;
use crate::store::windows::holds::SegmentHold;
use crate::store::windows::runs::{Run, runs};
use crate::types::SegmentNumber;

/// The store stops.
struct Stopped;

/// A segment that is gone over, not held.
struct Target<F> {
    number: SegmentNumber,
    file: F,
    segment_bytes: u32,
}

/// Bytes that may be read before the next tick. Below 0 when the last piece was larger than what was left.
struct Budget {
    bytes: i64,
}

impl<R: Runtime> Core<R> {
    /// One round after the other, until the store stops.
    pub(in crate::store) async fn run_scrub(self: Rc<Self>) {
        let ScrubOptions { bytes_per_second, interval_ms, .. } = self.options.scrub;
        if bytes_per_second == 0 {
            return;
        }
        let mut this = self;
        let mut budget = Budget { bytes: 0 };
        loop {
            let began = this.runtime.now();
            if this.scrub_round(&mut budget).await.is_err() {
                return;
            }
            this.state.borrow_mut().stats.scrubbed_at = this.runtime.wall_clock();
            // A store that was closed does not live on for this.
            let (runtime, waiting) = (this.runtime.clone(), Rc::downgrade(&this));
            drop(this);
            let rest_us = (interval_ms * 1000).saturating_sub(runtime.now().since_us(began));
            runtime.sleep(Duration::from_micros(rest_us.max(1))).await;
            match waiting.upgrade() {
                Some(core) => this = core,
                None => return,
            }
        }
    }

    async fn scrub_round(&self, budget: &mut Budget) -> Result<(), Stopped> {
        // A round without anything to read takes a tick, too.
        self.wait_for_tick(budget).await?;
        let first = self.state.borrow().any_segment(self.runtime.random());
        for (mut from, end) in [(first, SegmentNumber::new(u64::MAX)), (SegmentNumber::new(0), first)] {
            loop {
                let target = self.state.borrow().next_scrubbed(from, end);
                let Some(target) = target else { break };
                from = target.number.next();
                self.scrub_segment(&target, budget).await?;
            }
        }
        Ok(())
    }

    /// Waits until bytes may be read.
    async fn wait_for_tick(&self, budget: &mut Budget) -> Result<(), Stopped> {
        let ScrubOptions { bytes_per_second, tick_ms, .. } = self.options.scrub;
        loop {
            self.runtime.sleep(Duration::from_millis(tick_ms)).await;
            let state = self.state.borrow();
            if state.stops_scrub() {
                return Err(Stopped);
            }
            // As much less as others may have in flight.
            let share = bytes_per_second.saturating_mul(tick_ms) / 1000 * u64::from(state.pace.depth());
            let bytes = i64::try_from(share / u64::from(COLD_READ_DEPTH)).unwrap_or(i64::MAX);
            budget.bytes = budget.bytes.min(0).saturating_add(bytes.max(1));
            if budget.bytes > 0 {
                return Ok(());
            }
        }
    }

    /// Takes the budget for a read of so many bytes, and lets others run.
    async fn take(&self, budget: &mut Budget, bytes: u32) -> Result<(), Stopped> {
        if budget.bytes <= 0 {
            self.wait_for_tick(budget).await?;
        } else {
            self.runtime.yield_now().await;
        }
        budget.bytes -= i64::from(bytes);
        let mut state = self.state.borrow_mut();
        state.stats.scrubbed_bytes += u64::from(bytes);
        if state.stops_scrub() { Err(Stopped) } else { Ok(()) }
    }

    async fn scrub_segment(&self, target: &Target<R::File>, budget: &mut Budget) -> Result<(), Stopped> {
        let Some(rows) = self.scrubbed_rows(target).await else { return Ok(()) };
        // What is live now. More may die, and nothing comes back to life.
        let mut parts: Vec<Part> = Vec::new();
        for (index, row) in (0..).zip(&rows) {
            if !self.is_scrubbed(target, index, row) {
                continue;
            }
            if !parts.is_empty() && parts.len() + usize_of(row.extent_count) > SCRUB_EXTENTS_MAX {
                self.scrub_parts(target, &rows, std::mem::take(&mut parts), budget).await?;
            }
            self.take(budget, 0).await?;
            match self.scrubbed_extents(target, index, row).await {
                Ok(extents) => parts.extend(extents.iter().map(|extent| Part { row: index, extent: *extent })),
                Err(error) => self.on_scrub_damage(target, index, row, &error.to_string()),
            }
        }
        self.scrub_parts(target, &rows, parts, budget).await
    }

    /// The rows of a segment; `None` when it is gone, or nobody can tell what is in it without reading it whole.
    async fn scrubbed_rows(&self, target: &Target<R::File>) -> Option<Vec<DirectoryRow>> {
        let hold = {
            let state = self.state.borrow();
            if let Some(rows) = state.index.unwritten_rows(target.number) {
                return Some(rows);
            }
            state.scrub_hold(target.number)?
        };
        match self.cold.directory(&target.file, target.segment_bytes, &hold).await {
            Ok(rows) => Some(rows),
            Err(error) => {
                tracing::warn!(shard = %self.options.shard, "{error}: what is live there is not checked until it is read");
                None
            }
        }
    }

    async fn scrubbed_extents(
        &self,
        target: &Target<R::File>,
        index: u32,
        row: &DirectoryRow,
    ) -> Result<Rc<[Extent]>, ColdError> {
        let (hold, extents) = {
            let state = self.state.borrow();
            let Some(hold) = state.scrub_hold(target.number) else { return Ok(Rc::from([])) };
            let extents = match state.index.unwritten_extents(target.number, index) {
                Some(extents) => PlaceExtents::Known(extents),
                None => PlaceExtents::Footer { row: index, bytes: row.bytes },
            };
            (hold, extents)
        };
        let (base_offset, end_offset) = (row.base_offset, row.end_offset);
        let place = Place { segment: target.number, base_offset, end_offset, extents };
        self.cold.extents_of_row(&target.file, target.segment_bytes, &hold, row, &place).await
    }

    /// Reads and checks parts of rows, in the order in which they lie.
    async fn scrub_parts(
        &self,
        target: &Target<R::File>,
        rows: &[DirectoryRow],
        mut parts: Vec<Part>,
        budget: &mut Budget,
    ) -> Result<(), Stopped> {
        parts.sort_by_key(|part| part.extent.position);
        for run in runs(parts.iter().map(|part| &part.extent), UNIT_BYTES, SCRUB_READ_BYTES) {
            self.take(budget, run.end - run.start).await?;
            let wanted = &parts[run.extents.clone()];
            let is_wanted = |part: &Part| self.is_scrubbed(target, part.row, &rows[usize_of(part.row)]);
            if !wanted.iter().any(is_wanted) {
                continue;
            }
            let hold = self.state.borrow().scrub_hold(target.number);
            let Some(hold) = hold else { return Ok(()) };
            match self.cold.read_units(&target.file, &hold, run.start, run.end).await {
                Ok(block) => self.check_run(target, rows, wanted, (&run, &block)),
                // Only some of it may be: then each part shows it.
                Err(_) => self.scrub_one_by_one(target, rows, wanted, &hold).await,
            }
        }
        Ok(())
    }

    async fn scrub_one_by_one(
        &self,
        target: &Target<R::File>,
        rows: &[DirectoryRow],
        parts: &[Part],
        hold: &SegmentHold,
    ) {
        for part in parts {
            let run = Run::of(&part.extent);
            match self.cold.read_units(&target.file, hold, run.start, run.end).await {
                Ok(block) => self.check_run(target, rows, std::slice::from_ref(part), (&run, &block)),
                Err(error) => {
                    self.on_scrub_damage(target, part.row, &rows[usize_of(part.row)], &error.to_string());
                }
            }
        }
    }

    fn check_run(
        &self,
        target: &Target<R::File>,
        rows: &[DirectoryRow],
        parts: &[Part],
        (run, block): (&Run, &Block<R::Buffer>),
    ) {
        for part in parts {
            let row = &rows[usize_of(part.row)];
            let first = usize_of(part.extent.position - run.start);
            let bytes = &block.as_slice()[first..first + usize_of(part.extent.bytes)];
            if let Err(what) = check_extent(target.number, row, &part.extent, bytes) {
                self.on_scrub_damage(target, part.row, row, &what);
            }
        }
    }

    /// Whether a row lives where it was found, and is not known to be damaged.
    fn is_scrubbed(&self, target: &Target<R::File>, index: u32, row: &DirectoryRow) -> bool {
        let state = self.state.borrow();
        state.index.has_row(target.number, index, row) && !state.cleaning.is_damaged_row(target.number, index)
    }

    /// Told where it lives still: what died, or was moved, is of nobody any more.
    fn on_scrub_damage(&self, target: &Target<R::File>, index: u32, row: &DirectoryRow, what: &str) {
        if !self.is_scrubbed(target, index, row) {
            return;
        }
        let mut state = self.state.borrow_mut();
        state.cleaning.on_damaged_row(target.number, index);
        state.stats.damaged_rows += 1;
        let (log, first, end) = (row.log, row.base_offset, row.end_offset);
        let partition =
            state.partitions.get(&log).map(|(topic, partition)| format!("topic {topic} partition {partition}"));
        let whose = partition.unwrap_or_else(|| format!("log {log}"));
        tracing::error!(
            shard = %self.options.shard,
            "{what}: some of the offsets {first} to {} of {whose} cannot be read any more",
            end.value() - 1
        );
    }
}

impl<R: Runtime> State<R> {
    fn stops_scrub(&self) -> bool {
        self.stopping || self.cleaning.is_closing || self.failure.is_some()
    }

    /// One of the segments, by chance.
    fn any_segment(&self, random: u64) -> SegmentNumber {
        let count = self.segments.live.len().max(1);
        let index =
            usize::try_from(random % u64::try_from(count).expect("64 bits hold a usize")).expect("below a count");
        self.segments.live.keys().nth(index).copied().unwrap_or_default()
    }

    /// The first sealed segment from `from` on and before `end` in which something lives.
    fn next_scrubbed(&self, from: SegmentNumber, end: SegmentNumber) -> Option<Target<R::File>> {
        let mut later = self.segments.live.range(from..end);
        later.find_map(|(number, live)| {
            let is_written = match cfg!(corelane_defect = "scrub_ahead_of_writes") {
                false => self.is_settled(*number),
                true => live.sealed_end.is_some(),
            };
            let is_old = is_written && self.index.live_bytes(*number) > 0;
            let file = live.file.as_ref().filter(|_| is_old)?.file.clone();
            Some(Target { number: *number, file, segment_bytes: live.header.bytes })
        })
    }

    /// Holds a segment, if it still has its file.
    fn scrub_hold(&self, number: SegmentNumber) -> Option<SegmentHold> {
        self.segments.live.contains_key(&number).then(|| self.holds.hold(number))
    }
}
