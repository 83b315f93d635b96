//! One pass over the entries of some extents, with reads started a bounded way ahead.

use std::collections::VecDeque;
use std::rc::Rc;

use super::answer::Answer;
use super::{ColdCache, ColdError, ColdRead, SharedRead};
use bytes::{Bytes, BytesMut};

use crate::limits::{COLD_BYTES_AHEAD_MAX, COLD_READ_DEPTH, COLD_WINDOW_BYTES};
use crate::runtime::Runtime;
use crate::runtime::block::Block;
use crate::store::format::{Entry, EntryHeader, Extent, FormatError, UNIT_BYTES, next_unit, usize_of};
use crate::store::windows::disk_reads::ReadFailure;
use crate::store::windows::holds::SegmentHold;
use crate::types::Offset;

/// What is wanted of one window: runs of whole units, ascending.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct WindowPlan {
    pub(super) window: u32,
    pub(super) runs: Vec<(u32, u32)>,
}

/// Splits extents (ascending) into windows and each window into runs of units, up to `readable_end`.
pub(super) fn plan(extents: &[Extent], readable_end: u32) -> Vec<WindowPlan> {
    let mut plans: Vec<WindowPlan> = Vec::new();
    for extent in extents {
        let mut start = extent.position - extent.position % UNIT_BYTES;
        let end = next_unit(extent.end().min(readable_end));
        while start < end {
            let window = start / COLD_WINDOW_BYTES;
            let run_end = end.min((window + 1).saturating_mul(COLD_WINDOW_BYTES));
            match plans.last_mut() {
                Some(plan) if plan.window == window => match plan.runs.last_mut() {
                    Some(run) if run.1 >= start => run.1 = run.1.max(run_end),
                    _ => plan.runs.push((start, run_end)),
                },
                _ => plans.push(WindowPlan { window, runs: vec![(start, run_end)] }),
            }
            start = run_end;
        }
    }
    plans
}

/// Bytes of a segment from `start` to `end`, in memory or on their way.
pub(super) struct Piece<B> {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) source: Source<B>,
}

pub(super) enum Source<B> {
    Ready(Rc<Block<B>>),
    Pending(SharedRead<B>),
}

/// The bytes of one entry: where they lie, or joined because they cross pieces.
pub(super) enum EntryBytes<B> {
    Lent(Rc<Block<B>>, std::ops::Range<usize>),
    Joined(Bytes),
}

impl<B: crate::runtime::Buffer> EntryBytes<B> {
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            EntryBytes::Lent(block, range) => &block.as_slice()[range.clone()],
            EntryBytes::Joined(bytes) => bytes,
        }
    }
}

/// One pass over the entries of some extents, with reads started a bounded way ahead.
pub(super) struct Walk<'a, R: Runtime> {
    pub(super) cache: &'a ColdCache<R>,
    pub(super) read: &'a ColdRead<R::File>,
    pub(super) plans: VecDeque<WindowPlan>,
    pub(super) pieces: VecDeque<Piece<R::Buffer>>,
    /// Where the piece that was looked at last starts, and whether that was noticed.
    pub(super) piece_start: Option<u32>,
    pub(super) is_elsewhere: bool,
    /// Where the log goes on behind the extent that is walked.
    pub(super) next_offset: Offset,
}

/// How a walk goes on.
pub(super) enum Step {
    /// With the entry at this position.
    To(u32),
    /// No further: the answer is complete, or the rest is not on disk yet.
    Complete,
}

impl<'a, R: Runtime> Walk<'a, R> {
    pub(super) fn new(cache: &'a ColdCache<R>, read: &'a ColdRead<R::File>, extents: &[Extent]) -> Walk<'a, R> {
        let plans = plan(extents, read.readable_end).into();
        let next_offset = read.place.end_offset;
        Walk { cache, read, plans, pieces: VecDeque::new(), piece_start: None, is_elsewhere: false, next_offset }
    }

    /// True once after each step to another piece.
    pub(super) fn is_elsewhere(&mut self) -> bool {
        std::mem::take(&mut self.is_elsewhere)
    }

    /// Adds what is wanted of the entry at `position`.
    pub(super) async fn step(
        &mut self,
        position: u32,
        end: u32,
        answer: &mut Answer<'_, R::Buffer, R::File>,
        expected: &mut Option<Offset>,
    ) -> Result<Step, ColdError> {
        let Some(bytes) = self.entry(position, end).await? else { return Ok(Step::Complete) };
        if self.is_elsewhere() {
            answer.copy_always = self.cache.memory_bytes() > self.cache.bytes_max + self.cache.bytes_max / 2;
        }
        let entry = Entry::decode(bytes.as_slice()).map_err(|error| self.damaged(position, error))?;
        match answer.add_entry(&bytes, &entry, expected) {
            Ok(true) => Ok(Step::Complete),
            Ok(false) => {
                let entry_bytes = u32::try_from(entry.header.entry_bytes()).expect("it lies within an extent");
                Ok(Step::To(position + entry_bytes))
            }
            Err(fault) => {
                // The entry's crc vouches for where a damaged batch ends.
                let next_offset = fault.batch_end.unwrap_or(self.next_offset);
                let (segment, what) = (self.read.hold.segment(), fault.what.to_owned());
                Err(ColdError::Damaged { segment, position, what, next_offset })
            }
        }
    }

    /// The bytes from the entry at `position` on: at least the whole entry, at most to `end`. `None` when the entry goes
    /// beyond what is readable. Positions ascend.
    async fn entry(&mut self, position: u32, end: u32) -> Result<Option<EntryBytes<R::Buffer>>, ColdError> {
        let limit = end.min(self.read.readable_end);
        if position >= limit {
            return Ok(None);
        }
        let (block, piece_start, piece_end) = self.block_at(position).await?;
        let first = usize_of(position - piece_start);
        let lent = first..usize_of(limit.min(piece_end) - piece_start);
        let needed = match EntryHeader::decode_unchecked(&block.as_slice()[lent.clone()]) {
            Ok(header) => header.entry_bytes(),
            Err(FormatError::Truncated { needed }) => needed,
            Err(error) => return Err(self.damaged(position, error)),
        };
        if needed <= u64::try_from(lent.len()).expect("64 bits hold a usize") {
            return Ok(Some(EntryBytes::Lent(block, lent)));
        }
        if needed > u64::from(end - position) {
            return Err(self.damaged(position, "the entry goes beyond its extent"));
        }
        if needed > u64::from(limit - position) {
            return Ok(None);
        }
        // The entry crosses into the next piece: join it. At most an extent's bytes, as checked.
        let needed = usize::try_from(needed).expect("at most an extent");
        let mut joined = BytesMut::with_capacity(needed);
        joined.extend_from_slice(&block.as_slice()[lent]);
        let mut next = piece_end;
        while joined.len() < needed {
            let (block, piece_start, piece_end) = self.block_at(next).await?;
            let first = usize_of(next - piece_start);
            let last = usize_of(piece_end - piece_start).min(first + needed - joined.len());
            joined.extend_from_slice(&block.as_slice()[first..last]);
            next = piece_end;
        }
        Ok(Some(EntryBytes::Joined(joined.freeze())))
    }

    /// The piece that holds `position`: its memory, start and end.
    async fn block_at(&mut self, position: u32) -> Result<(Rc<Block<R::Buffer>>, u32, u32), ColdError> {
        while self.pieces.front().is_some_and(|piece| piece.end <= position) {
            self.pieces.pop_front();
        }
        self.start_ahead();
        let piece = self.pieces.front_mut().filter(|piece| piece.start <= position && position < piece.end);
        let Some(piece) = piece else {
            return Err(self.damaged(position, "the segment ends before the extent"));
        };
        let block = match &piece.source {
            Source::Ready(block) => Rc::clone(block),
            Source::Pending(pending) => {
                let block = pending.wait().await.map_err(|failure| io(&self.read.hold, failure))?;
                piece.source = Source::Ready(Rc::clone(&block));
                block
            }
        };
        if self.piece_start.replace(piece.start) != Some(piece.start) {
            self.is_elsewhere = true;
        }
        Ok((block, piece.start, piece.end))
    }

    fn start_ahead(&mut self) {
        let depth = usize_of(COLD_READ_DEPTH);
        while self.pieces.len() < depth {
            let ahead: u32 = self.pieces.iter().map(|piece| piece.end - piece.start).sum();
            if !self.pieces.is_empty() && ahead >= COLD_BYTES_AHEAD_MAX {
                return;
            }
            let Some(plan) = self.plans.pop_front() else { return };
            self.pieces.extend(self.cache.start_window(self.read, &plan));
        }
    }

    fn damaged(&self, position: u32, what: impl ToString) -> ColdError {
        let (segment, what) = (self.read.hold.segment(), what.to_string());
        ColdError::Damaged { segment, position, what, next_offset: self.next_offset }
    }
}

pub(super) fn io(hold: &SegmentHold, failure: ReadFailure) -> ColdError {
    ColdError::Io { segment: hold.segment(), cause: failure.cause }
}
