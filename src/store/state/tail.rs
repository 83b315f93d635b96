//! The tail cache: the last blocks of the log, kept in memory as they were filled.
//!
//! It owns no bytes of its own: a block that was written stays until memory is wanted for the next one, and a fetch
//! answer points into it. Which batches are in it, the index lists. Invariants: blocks are held in log order without a
//! gap at the end; a block goes only after it was written; the newest block stays.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::{Rc, Weak};

use crate::limits::FETCH_COPY_BYTES_MAX;
use crate::runtime::Buffer;
use crate::runtime::block::Block;
use crate::store::index::TailBatch;
use crate::store::pieces::Pieces;
use crate::store::{Read, ReadWithin};
use crate::types::{LogPosition, Offset, SegmentNumber};

/// What to read of a log.
#[derive(Clone, Copy)]
pub(in crate::store) struct Want {
    pub(in crate::store) from: Offset,
    /// Batches that end above it stay behind.
    pub(in crate::store) bound: Offset,
    pub(in crate::store) within: ReadWithin,
}

struct TailBlock<B> {
    segment: SegmentNumber,
    /// First byte of the segment that the block holds.
    start: u32,
    block: Rc<Block<B>>,
}

/// The blocks in memory.
pub(in crate::store) struct Tail<B> {
    blocks: VecDeque<TailBlock<B>>,
    /// Blocks given up here that unfinished answers still hold.
    pinned: Vec<Weak<Block<B>>>,
    block_bytes: u64,
}

impl<B: Buffer> Tail<B> {
    /// An empty tail of blocks of `block_bytes`.
    pub(in crate::store) fn new(block_bytes: usize) -> Tail<B> {
        let block_bytes = u64::try_from(block_bytes).expect("a block size fits 64 bits");
        Tail { blocks: VecDeque::new(), pinned: Vec::new(), block_bytes }
    }

    /// Takes in the log's next block.
    pub(in crate::store) fn push(&mut self, segment: SegmentNumber, start: u32, block: Rc<Block<B>>) {
        if let Some(last) = self.blocks.back() {
            assert!((last.segment, last.start) < (segment, start));
        }
        self.blocks.push_back(TailBlock { segment, start, block });
    }

    /// Memory in use, in bytes, with what unfinished answers pin.
    pub(in crate::store) fn memory_bytes(&self) -> u64 {
        let blocks = self.blocks.len() + self.pinned.len();
        u64::try_from(blocks).expect("a count fits 64 bits") * self.block_bytes
    }

    /// Gives up the oldest blocks until at most `bytes_max` are in use, but none that reaches beyond `written`. Returns
    /// where memory now begins when that moved.
    pub(in crate::store) fn evict(&mut self, bytes_max: u64, written: LogPosition) -> Option<LogPosition> {
        if self.memory_bytes() <= bytes_max {
            return None;
        }
        self.pinned.retain(|block| block.strong_count() > 0);
        let mut moved = false;
        while self.memory_bytes() > bytes_max && self.blocks.len() > 1 {
            let front = &self.blocks[0];
            let end = u64::from(front.start) + self.block_bytes;
            let is_written =
                front.segment < written.segment || (front.segment == written.segment && end <= u64::from(written.byte));
            if !is_written {
                break;
            }
            let gone = self.blocks.pop_front().expect("there are two or more");
            if Rc::strong_count(&gone.block) > 1 {
                self.pinned.push(Rc::downgrade(&gone.block));
            }
            moved = true;
        }
        if moved { self.start() } else { None }
    }

    /// First byte of the log that is in memory, when anything is.
    pub(in crate::store) fn start(&self) -> Option<LogPosition> {
        self.blocks.front().map(|block| LogPosition { segment: block.segment, byte: block.start })
    }

    /// The whole ones of `batches`, which are in memory and all that one log has from `want.from` on, that end at or
    /// below the bound, up to so many bytes.
    pub(in crate::store) fn read<'a>(&self, batches: impl Iterator<Item = &'a TailBatch>, want: &Want) -> Read<B> {
        let mut pieces = Pieces::default();
        let mut bytes_left = want.within.bytes_max;
        let mut next_offset = None;
        let mut needed_bytes = 0;
        for batch in batches {
            let end = batch.last_offset.advance(1);
            let bytes = usize::try_from(batch.bytes).expect("u32 fits usize");
            let is_first = pieces.is_empty() && want.within.first_bytes_max > 0;
            let is_too_large = bytes > bytes_left && !(is_first && bytes <= want.within.first_bytes_max);
            if end > want.bound || is_too_large {
                // What lies between is a hole.
                next_offset.get_or_insert(batch.base_offset.min(want.bound));
                if end <= want.bound && is_first {
                    needed_bytes = bytes;
                }
                break;
            }
            bytes_left = bytes_left.saturating_sub(bytes);
            self.each_range(batch, bytes, |block, range| pieces.push(block, range, bytes <= FETCH_COPY_BYTES_MAX));
            next_offset = Some(end);
        }
        Read { slices: pieces.finish(), next_offset: next_offset.unwrap_or(want.bound).max(want.from), needed_bytes }
    }

    /// The pieces of blocks that hold the first `bytes` of a batch.
    fn each_range(&self, batch: &TailBatch, bytes: usize, mut visit: impl FnMut(&Rc<Block<B>>, Range<usize>)) {
        let key = (batch.segment, batch.byte);
        let mut index = self.blocks.partition_point(|block| (block.segment, block.start) <= key) - 1;
        let mut at = usize::try_from(batch.byte - self.blocks[index].start).expect("u32 fits usize");
        let mut left = bytes;
        while left > 0 {
            let block = &self.blocks[index].block;
            let here = left.min(block.capacity() - at);
            visit(block, at..at + here);
            left -= here;
            at = 0;
            index += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Runtime;
    use crate::runtime::block::Slice;
    use crate::simulation::{SimulatedRuntime, Simulation};
    use crate::store::ReadWithin;
    use crate::types::Offset;

    const BLOCK: usize = 8192;

    /// A tail of three full blocks of segment 1, each byte the number of its block.
    fn tail(runtime: &SimulatedRuntime) -> Tail<<SimulatedRuntime as Runtime>::Buffer> {
        let mut tail = Tail::new(BLOCK);
        for (number, start) in [0, 8192, 16384].into_iter().enumerate() {
            let block = Block::new(runtime.allocate(BLOCK), 0);
            block.append(&[u8::try_from(number).unwrap(); BLOCK]);
            tail.push(SegmentNumber::new(1), start, Rc::new(block));
        }
        tail
    }

    fn batch(offsets: std::ops::RangeInclusive<i64>, byte: u32, bytes: u32) -> TailBatch {
        let (base_offset, last_offset) = (Offset::new(*offsets.start()), Offset::new(*offsets.end()));
        TailBatch { base_offset, last_offset, segment: SegmentNumber::new(1), byte, bytes }
    }

    fn want(from: i64, bound: i64, bytes_max: usize, at_least_one: bool) -> Want {
        Want { from: Offset::new(from), bound: Offset::new(bound), within: ReadWithin::new(bytes_max, at_least_one) }
    }

    fn in_simulation(check: impl FnOnce(SimulatedRuntime) + 'static) {
        Simulation::new(1).run(|runtime| async move { check(runtime) }).finished();
    }

    #[test]
    fn small_batches_are_copied_together_and_large_ones_stay_where_they_are() {
        in_simulation(|runtime| {
            let tail = tail(&runtime);
            let batches =
                [batch(0..=4, 100, 200), batch(5..=5, 400, 300), batch(6..=8, 1000, 9000), batch(9..=9, 17000, 50)];
            let Read { slices: all, next_offset, .. } = tail.read(batches.iter(), &want(0, 10, usize::MAX, true));
            assert_eq!(next_offset, Offset::new(10));
            let lengths: Vec<usize> = all.iter().map(Slice::len).collect();
            assert_eq!(lengths, [500, 7192, 1808, 50]);
            assert!(matches!(all[0], Slice::Bytes(_)) && matches!(all[1], Slice::Block { .. }));
            assert_eq!((all[1].as_slice()[0], all[2].as_slice()[0], all[3].as_slice()[0]), (0, 1, 2));
        });
    }

    #[test]
    fn batch_beyond_the_bound_or_the_bytes_stays_behind_unless_it_is_the_first() {
        in_simulation(|runtime| {
            let tail = tail(&runtime);
            let batches = [batch(0..=4, 100, 200), batch(5..=5, 400, 300)];
            let bytes = |bound, bytes_max, at_least_one| {
                let read = tail.read(batches.iter(), &want(0, bound, bytes_max, at_least_one));
                read.slices.iter().map(Slice::len).sum::<usize>()
            };
            assert_eq!(bytes(6, 500, false), 500);
            assert_eq!(bytes(6, 499, false), 200);
            assert_eq!(bytes(5, 500, false), 200);
            assert_eq!(bytes(4, 500, true), 0, "the bound holds even for the first");
            assert_eq!((bytes(6, 10, true), bytes(6, 10, false)), (200, 0));
            let found = |first_bytes_max| {
                let within = ReadWithin { bytes_max: 10, first_bytes_max };
                let found = tail.read(batches.iter(), &Want { within, ..want(0, 6, 10, false) });
                (found.slices.iter().map(Slice::len).sum::<usize>(), found.needed_bytes)
            };
            assert_eq!([found(0), found(199), found(200)], [(0, 0), (0, 200), (200, 0)]);
        });
    }

    #[test]
    fn a_read_says_where_it_goes_on_also_over_a_hole() {
        in_simulation(|runtime| {
            let tail = tail(&runtime);
            let batches = [batch(10..=11, 100, 200), batch(20..=21, 400, 300)];
            let next = |from, bound, bytes_max, behind: usize| {
                let read = tail.read(batches[behind..].iter(), &want(from, bound, bytes_max, false));
                (read.slices.iter().map(Slice::len).sum::<usize>(), read.next_offset.value())
            };
            assert_eq!(next(0, 30, 1000, 0), (500, 22));
            assert_eq!(next(0, 20, 1000, 0), (200, 12), "the hole behind a batch is the next read's");
            assert_eq!(next(12, 30, 1000, 1), (300, 22));
            assert_eq!(next(12, 20, 1000, 1), (0, 20), "nothing but a hole below the bound");
            assert_eq!(next(12, 21, 1000, 1), (0, 20), "the bound cuts a batch");
            assert_eq!(next(12, 15, 1000, 1), (0, 15));
            assert_eq!((next(20, 30, 100, 1), next(21, 30, 100, 1)), ((0, 20), (0, 21)), "held back, no hole");
            assert_eq!(next(22, 30, 1000, 2), (0, 30), "a hole up to the end");
        });
    }

    #[test]
    fn written_blocks_go_first_in_first_out_and_pinned_ones_still_count() {
        in_simulation(|runtime| {
            let mut tail = tail(&runtime);
            let written = |byte| LogPosition { segment: SegmentNumber::new(1), byte };
            assert_eq!(tail.evict(0, written(8191)), None, "its last byte is not written");
            let held = tail.read([batch(0..=0, 0, 8192)].iter(), &want(0, 1, usize::MAX, true));
            assert_eq!(tail.evict(0, written(8192)), Some(written(8192)));
            assert_eq!(tail.memory_bytes(), 3 * 8192);
            drop(held);
            assert_eq!(tail.evict(8192, written(30000)), Some(written(16384)));
            assert_eq!(tail.memory_bytes(), 8192);
            assert_eq!(tail.evict(0, written(30000)), None, "the newest stays");
        });
    }
}
