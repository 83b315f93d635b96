//! Where the log grows: copies entries into blocks, says which bytes to write next, and knows how far the disk has come.
//!
//! Pure: it never touches a file. The store's writer task asks [`SegmentWriter::next_write`], performs the write and reports it
//! with [`SegmentWriter::on_written`]. Invariants: `written <= appended`; no two writes in flight share a 4 KiB unit; bytes in
//! flight do not change (a full block is written in place, anything else from a copy); the order of entries is the order of
//! appends.
//!
//! A worked example with 4 KiB units: entries A (3,000 bytes) and B (600) are appended, unit 0 is submitted. While it is
//! in flight C arrives: unit 0 may not be submitted twice, so C starts at byte 4,096. Had the write ended first, C would
//! start at byte 3,600 and unit 0 would be written again with all three.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use crate::limits::{IO_ALIGNMENT, UNIT_ROOM_BYTES_MIN};
use crate::runtime::Buffer;
use crate::runtime::block::Block;
use crate::types::{LogPosition, SegmentNumber};

/// The unit of direct I/O as a position.
const UNIT: u32 = 4096;
const _: () = assert!(UNIT as usize == IO_ALIGNMENT);

/// A write to perform: the whole buffer at a byte of a segment's file.
pub(in crate::store) struct Write<B> {
    /// Names it to `on_written`.
    pub(in crate::store) id: u64,
    /// Where in the file.
    pub(in crate::store) position: u32,
    /// What to write; does not change until it is reported.
    pub(in crate::store) buffer: Rc<B>,
}

struct InFlight {
    id: u64,
    segment: SegmentNumber,
    /// First byte written.
    start: u32,
    /// End of the bytes of entries that it carries.
    end: u32,
    /// End of the last entry that is complete with it.
    entry_end: u32,
    /// Bytes of the buffer.
    bytes: usize,
    done: bool,
}

struct OpenSegment<B> {
    number: SegmentNumber,
    /// End of the last entry.
    end: u32,
    /// Everything below was submitted.
    submitted: u32,
    /// Block number of the first of `blocks`.
    first_block: u32,
    /// From the block that holds `submitted` to the one that holds `end`.
    blocks: VecDeque<Rc<Block<B>>>,
    /// Of each entry that goes over the end of a block, or starts there after padding: where the entry before it ends and
    /// where it ends itself; while it is not submitted.
    crossing: VecDeque<(u32, u32)>,
    /// What to write in place of the header block with which it was opened.
    header: Option<Box<[u8]>>,
    /// Nothing more is appended.
    sealed: bool,
}

/// A block that an append began, for the tail cache.
pub(in crate::store) struct NewBlock<B> {
    /// Its segment.
    pub(in crate::store) segment: SegmentNumber,
    /// Its first byte in the segment.
    pub(in crate::store) start: u32,
    /// The block.
    pub(in crate::store) block: Rc<Block<B>>,
}

/// The end of one shard's log, in memory and in flight.
pub(in crate::store) struct SegmentWriter<B> {
    block_bytes: u32,
    segments: VecDeque<OpenSegment<B>>,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    next_id: u64,
    appended: LogPosition,
    written: LogPosition,
    /// Bytes appended and not yet written, padding excluded.
    unwritten_bytes: u64,
    /// Bytes given out in writes since the start, with rewritten units.
    submitted_bytes: u64,
}

impl<B: Buffer> SegmentWriter<B> {
    /// A log that ends at `position`, all of it written. `segment_open` says whether the segment there may be continued.
    pub(in crate::store) fn new(block_bytes: usize, position: LogPosition) -> SegmentWriter<B> {
        assert!(block_bytes.is_multiple_of(IO_ALIGNMENT));
        SegmentWriter {
            block_bytes: u32::try_from(block_bytes).expect("a block is smaller than a segment"),
            segments: VecDeque::new(),
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            next_id: 0,
            appended: position,
            written: position,
            unwritten_bytes: 0,
            submitted_bytes: 0,
        }
    }

    /// End of the last entry.
    pub(in crate::store) fn appended(&self) -> LogPosition {
        self.appended
    }

    /// End of the last entry in the longest run of completed writes: never inside of an entry, so that a durable
    /// position names nothing that is only half there.
    pub(in crate::store) fn written(&self) -> LogPosition {
        self.written
    }

    /// Bytes appended and not yet written.
    pub(in crate::store) fn unwritten_bytes(&self) -> u64 {
        self.unwritten_bytes
    }

    /// Writes given out and not reported.
    pub(in crate::store) fn in_flight(&self) -> usize {
        self.in_flight.iter().filter(|write| !write.done).count()
    }

    /// Bytes of the writes given out and not reported.
    pub(in crate::store) fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// Bytes given out in writes since the start.
    pub(in crate::store) fn submitted_bytes(&self) -> u64 {
        self.submitted_bytes
    }

    /// Begins segment `number` with its header block; what is appended from now on goes there. Returns the first block.
    pub(in crate::store) fn open_segment(&mut self, number: SegmentNumber, header: &[u8], memory: B) -> NewBlock<B> {
        assert!(header.len() == IO_ALIGNMENT);
        assert!(number > self.appended.segment);
        self.seal();
        let block = Rc::new(Block::new(memory, 0));
        block.append(header);
        self.segments.push_back(OpenSegment {
            number,
            end: UNIT,
            submitted: 0,
            first_block: 0,
            blocks: VecDeque::from([Rc::clone(&block)]),
            crossing: VecDeque::new(),
            header: None,
            sealed: false,
        });
        self.appended = LogPosition { segment: number, byte: UNIT };
        self.unwritten_bytes += u64::from(UNIT);
        NewBlock { segment: number, start: 0, block }
    }

    /// Replaces the header block of a segment of which nothing was submitted: what it says of the file is known only when the
    /// file is there. Blocks do not change what they hold, so it goes into the copy that is then written.
    pub(in crate::store) fn replace_header(&mut self, number: SegmentNumber, header: &[u8]) {
        assert!(header.len() == IO_ALIGNMENT);
        let segment = self.segments.iter_mut().find(|segment| segment.number == number);
        let segment = segment.expect("a segment is kept until all of it was submitted");
        assert!(segment.submitted == 0);
        segment.header = Some(header.into());
    }

    /// Goes on in a segment that an earlier life closed cleanly at the log's end. `content` is what its last block holds
    /// so far. Returns that block.
    pub(in crate::store) fn continue_segment(&mut self, content: &[u8], mut memory: B) -> NewBlock<B> {
        assert!(self.segments.is_empty());
        let end = self.appended.byte;
        let first_block = end / self.block_bytes;
        let start = first_block * self.block_bytes;
        assert!(content.len() == usize::try_from(end - start).expect("u32 fits usize"));
        memory.as_mut_slice()[..content.len()].copy_from_slice(content);
        let block = Rc::new(Block::new(memory, content.len()));
        self.segments.push_back(OpenSegment {
            number: self.appended.segment,
            end,
            submitted: end,
            first_block,
            blocks: VecDeque::from([Rc::clone(&block)]),
            crossing: VecDeque::new(),
            header: None,
            sealed: false,
        });
        NewBlock { segment: self.appended.segment, start, block }
    }

    /// Nothing more is appended to the current segment.
    pub(in crate::store) fn seal(&mut self) {
        if let Some(segment) = self.segments.back_mut() {
            segment.sealed = true;
        }
        self.forget_submitted();
    }

    /// Where an entry would start if it were appended now.
    pub(in crate::store) fn next_start(&self) -> u32 {
        let segment = self.segments.back().expect("a segment is open while appends are taken");
        let into_unit = segment.end % UNIT;
        if into_unit == 0 {
            return segment.end;
        }
        let unit = segment.end - into_unit;
        let in_flight = self
            .in_flight
            .iter()
            .any(|write| !write.done && write.segment == segment.number && write.start <= unit && unit < write.end);
        let in_flight = in_flight && !cfg!(corelane_defect = "padding_forgotten");
        if in_flight || UNIT - into_unit < UNIT_ROOM_BYTES_MIN { unit + UNIT } else { segment.end }
    }

    /// Copies an entry, given in parts, to the log's end. Returns where it starts. `allocate` provides memory for new
    /// blocks, `on_block` is told of each.
    pub(in crate::store) fn append(
        &mut self,
        parts: &[&[u8]],
        mut allocate: impl FnMut() -> B,
        mut on_block: impl FnMut(NewBlock<B>),
    ) -> LogPosition {
        let start = self.next_start();
        let block_bytes = self.block_bytes;
        let segment = self.segments.back_mut().expect("a segment is open while appends are taken");
        assert!(!segment.sealed);
        let before = segment.end;
        if start > segment.end {
            // A unit that ends here is complete on disk or in flight: its zero rest needs no write of its own.
            if segment.submitted == segment.end {
                segment.submitted = start;
            }
            let block = segment.blocks.back().expect("the block that holds the end is kept");
            let into_block = start - (start - 1) / block_bytes * block_bytes;
            block.zero_to(usize::try_from(into_block).expect("u32 fits usize"));
            segment.end = start;
        }
        let mut added: u64 = 0;
        for part in parts {
            let mut rest = *part;
            while !rest.is_empty() {
                if segment.blocks.back().is_none_or(|block| block.room() == 0) {
                    let block = Rc::new(Block::new(allocate(), 0));
                    assert!(block.capacity() == usize::try_from(block_bytes).expect("u32 fits usize"));
                    if segment.blocks.is_empty() {
                        segment.first_block = segment.end / block_bytes;
                    }
                    segment.blocks.push_back(Rc::clone(&block));
                    on_block(NewBlock { segment: segment.number, start: segment.end, block });
                }
                let block = segment.blocks.back().expect("a block with room stands at the end");
                let (now, later) = rest.split_at(rest.len().min(block.room()));
                block.append(now);
                rest = later;
                let count = u32::try_from(now.len()).expect("a part of a block fits u32");
                segment.end += count;
                added += u64::from(count);
            }
        }
        if before / block_bytes != (segment.end - 1) / block_bytes {
            segment.crossing.push_back((before, segment.end));
        }
        self.unwritten_bytes += added;
        self.appended = LogPosition { segment: segment.number, byte: segment.end };
        LogPosition { segment: segment.number, byte: start }
    }

    /// The next write, when there is one: a full block, or with `partial` also the dirty units of an unfinished one.
    /// `allocate` provides memory of the length asked for.
    pub(in crate::store) fn next_write(
        &mut self,
        partial: bool,
        allocate: impl FnOnce(usize) -> B,
    ) -> Option<Write<B>> {
        let block_bytes = self.block_bytes;
        let (index, Range { start, end }) = self.next_dirty()?;
        let segment = &mut self.segments[index];
        let block_number = start / block_bytes;
        let block_start = block_number * block_bytes;
        let index = usize::try_from(block_number - segment.first_block).expect("u32 fits usize");
        let block = Rc::clone(&segment.blocks[index]);
        let full = end == block_start + block_bytes;
        if !full && !partial && !segment.sealed {
            return None;
        }
        let header = segment.header.as_ref().filter(|_| start == 0);
        let buffer = if full && start == block_start && header.is_none() {
            block.full_memory()
        } else {
            let from = usize::try_from(start - block_start).expect("u32 fits usize");
            let to = usize::try_from(end - block_start).expect("u32 fits usize");
            let mut copy = allocate((to - from).next_multiple_of(IO_ALIGNMENT));
            let target = copy.as_mut_slice();
            target[..to - from].copy_from_slice(&block.as_slice()[from..to]);
            target[to - from..].fill(0);
            if let Some(header) = header {
                target[..header.len()].copy_from_slice(header);
            }
            Rc::new(copy)
        };
        assert!(!self.in_flight.iter().any(|write| {
            !write.done && write.segment == segment.number && write.end.next_multiple_of(UNIT) > start
        }));
        segment.submitted = end;
        // A block may end inside of an entry: that one is not written before its last byte is. At most one goes over
        // this end, and it is the first that was not submitted whole.
        while segment.crossing.front().is_some_and(|(_, entry_end)| *entry_end <= end) {
            segment.crossing.pop_front();
        }
        let entry_end = segment.crossing.front().map_or(end, |(before, _)| end.min(*before));
        let id = self.next_id;
        self.next_id += 1;
        self.in_flight_bytes += buffer.bytes();
        self.submitted_bytes += u64::try_from(buffer.bytes()).expect("usize fits 64 bits");
        let number = segment.number;
        self.in_flight.push_back(InFlight {
            id,
            segment: number,
            start,
            end,
            entry_end,
            bytes: buffer.bytes(),
            done: false,
        });
        self.forget_submitted();
        Some(Write { id, position: start, buffer })
    }

    /// Segment of the next write, and the bytes of it that it would carry now: the write goes to the end of their last unit.
    pub(in crate::store) fn next_write_range(&self) -> Option<(SegmentNumber, Range<u32>)> {
        let (index, range) = self.next_dirty()?;
        Some((self.segments[index].number, range))
    }

    /// Index of the segment of the next write, and the bytes of it, within one block, that are to write: from the start of
    /// a unit.
    ///
    /// Of a full block whose lesser part was written before that is the whole: what is there already is written again,
    /// the same bytes in place, because a copy of the rest costs the processor more than they cost a disk that had
    /// nothing to do. Never while a write of the block is in flight.
    fn next_dirty(&self) -> Option<(usize, Range<u32>)> {
        let index = self.segments.iter().position(|segment| segment.submitted < segment.end)?;
        let segment = &self.segments[index];
        let start = segment.submitted / UNIT * UNIT;
        let block_start = start / self.block_bytes * self.block_bytes;
        let block_end = block_start + self.block_bytes;
        let end = segment.end.min(block_end);
        let is_mostly_dirty = end == block_end && start - block_start <= self.block_bytes / 2;
        let is_in_flight = || {
            let touches = |write: &InFlight| !write.done && write.segment == segment.number && write.end > block_start;
            self.in_flight.iter().any(touches)
        };
        let start = if is_mostly_dirty && !is_in_flight() { block_start } else { start };
        Some((index, start..end))
    }

    /// A write ended well. Moves *written* over every write that completed without a gap; true when it moved.
    pub(in crate::store) fn on_written(&mut self, id: u64) -> bool {
        let write = self.in_flight.iter_mut().find(|write| write.id == id).expect("each write is reported once");
        write.done = true;
        self.in_flight_bytes -= write.bytes;
        let before = self.written;
        while let Some(front) = self.in_flight.front()
            && front.done
        {
            let end = LogPosition { segment: front.segment, byte: front.entry_end };
            // A rewritten unit carries old bytes again; only what is new counts.
            let from = if self.written.segment == end.segment { self.written.byte } else { 0 };
            self.unwritten_bytes = self.unwritten_bytes.saturating_sub(u64::from(end.byte.saturating_sub(from)));
            self.written = self.written.max(end);
            self.in_flight.pop_front();
        }
        assert!(self.written <= self.appended);
        if self.written == self.appended {
            self.unwritten_bytes = 0;
        }
        self.written > before
    }

    /// Lets go of blocks and sealed segments that need no more writes; the tail cache may keep the blocks.
    fn forget_submitted(&mut self) {
        let block_bytes = self.block_bytes;
        for segment in &mut self.segments {
            let keep_from = segment.submitted / UNIT * UNIT / block_bytes;
            while segment.first_block < keep_from && segment.blocks.len() > 1 {
                segment.blocks.pop_front();
                segment.first_block += 1;
            }
        }
        while self.segments.front().is_some_and(|segment| segment.sealed && segment.submitted == segment.end) {
            self.segments.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Runtime;
    use crate::simulation::{SimulatedRuntime, Simulation};

    const BLOCK: usize = 8192;

    /// Runs a check over a writer whose segment 1 is open and whose header was written.
    fn check(
        check: impl FnOnce(&SimulatedRuntime, &mut SegmentWriter<<SimulatedRuntime as Runtime>::Buffer>) + 'static,
    ) {
        Simulation::new(1)
            .run(|runtime| async move {
                let mut writer = SegmentWriter::new(BLOCK, LogPosition::default());
                writer.open_segment(SegmentNumber::new(1), &[7; 4096], runtime.allocate(BLOCK));
                let header = writer.next_write(true, |bytes| runtime.allocate(bytes)).unwrap();
                assert_eq!((header.position, header.buffer.bytes()), (0, 4096));
                assert!(writer.on_written(header.id));
                check(&runtime, &mut writer);
            })
            .finished();
    }

    fn append(
        runtime: &SimulatedRuntime,
        writer: &mut SegmentWriter<<SimulatedRuntime as Runtime>::Buffer>,
        bytes: usize,
    ) -> u32 {
        writer.append(&[&vec![1; bytes]], || runtime.allocate(BLOCK), |_| {}).byte
    }

    #[test]
    fn unit_in_flight_is_left_alone_and_an_idle_one_is_filled_up() {
        check(|runtime, writer| {
            assert_eq!(append(runtime, writer, 100), 4096);
            let first = writer.next_write(true, |bytes| runtime.allocate(bytes)).unwrap();
            assert_eq!(append(runtime, writer, 100), 8192, "its unit is in flight");
            writer.on_written(first.id);
            let second = writer.next_write(true, |bytes| runtime.allocate(bytes)).unwrap();
            assert_eq!((second.position, second.buffer.bytes()), (8192, 4096));
            writer.on_written(second.id);
            assert_eq!(append(runtime, writer, 100), 8292, "its unit is written and has room");
            let third = writer.next_write(true, |bytes| runtime.allocate(bytes)).unwrap();
            assert_eq!((third.position, third.buffer.bytes()), (8192, 4096), "the unit is written again");
            assert_eq!(&third.buffer.as_slice()[..200], &[1; 200]);
            assert!(third.buffer.as_slice()[200..].iter().all(|byte| *byte == 0));
        });
    }

    #[test]
    fn entry_starts_at_the_next_unit_when_little_room_is_left() {
        check(|runtime, writer| {
            assert_eq!(append(runtime, writer, 4096 - 511), 4096);
            assert_eq!(append(runtime, writer, 10), 8192);
            assert_eq!(append(runtime, writer, 4096 - 10 - 512), 8202);
            assert_eq!(append(runtime, writer, 10), 8192 + 4096 - 512);
        });
    }

    #[test]
    fn entry_counts_as_written_only_with_its_last_byte() {
        check(|runtime, writer| {
            append(runtime, writer, 3000);
            let start = append(runtime, writer, 3 * BLOCK);
            assert_eq!(start, 7096);
            let end = LogPosition { segment: SegmentNumber::new(1), byte: start + 3 * u32::try_from(BLOCK).unwrap() };
            let writes: Vec<_> =
                std::iter::from_fn(|| writer.next_write(true, |bytes| runtime.allocate(bytes)).map(|write| write.id))
                    .collect();
            assert_eq!(writes.len(), 4);
            for id in &writes[1..] {
                assert!(!writer.on_written(*id), "a gap lies before it");
            }
            assert!(writer.on_written(writes[0]));
            assert_eq!(writer.written(), end);
            assert_eq!(writer.written(), writer.appended());
        });
    }

    #[test]
    fn position_inside_of_an_entry_is_never_reported() {
        check(|runtime, writer| {
            append(runtime, writer, 3000);
            append(runtime, writer, 3 * BLOCK);
            let first = writer.next_write(false, |bytes| runtime.allocate(bytes)).unwrap();
            writer.on_written(first.id);
            assert_eq!(writer.written().byte, 7096);
            let second = writer.next_write(false, |bytes| runtime.allocate(bytes)).unwrap();
            assert_eq!(second.buffer.bytes(), BLOCK, "a full block is written whole");
            assert!(!writer.on_written(second.id));
        });
    }

    #[test]
    fn full_block_is_written_whole_where_half_of_it_is_new_and_nothing_of_it_is_in_flight() {
        for is_in_flight in [false, true] {
            check(move |runtime, writer| {
                append(runtime, writer, 3000);
                let part = writer.next_write(true, |bytes| runtime.allocate(bytes)).unwrap();
                writer.on_written(part.id);
                append(runtime, writer, 1096);
                let whole = writer.next_write(false, |bytes| runtime.allocate(bytes)).unwrap();
                assert_eq!((whole.position, whole.buffer.bytes()), (0, BLOCK), "with the header that was written");
                assert_eq!(whole.buffer.as_slice()[..4096], [7; 4096]);
                assert_eq!(whole.buffer.as_slice()[4096..], [1; 4096]);
                writer.on_written(whole.id);
                assert_eq!(writer.written(), writer.appended());
                assert_eq!(writer.unwritten_bytes(), 0);

                append(runtime, writer, 3000);
                let part = writer.next_write(true, |bytes| runtime.allocate(bytes)).unwrap();
                assert_eq!((part.position, part.buffer.bytes()), (8192, 4096));
                if !is_in_flight {
                    writer.on_written(part.id);
                }
                append(runtime, writer, BLOCK - 3000);
                let rest = writer.next_write(false, |bytes| runtime.allocate(bytes)).unwrap();
                let expected = if is_in_flight { (12_288, 4096) } else { (8192, BLOCK) };
                assert_eq!((rest.position, rest.buffer.bytes()), expected);
            });
        }
    }

    #[test]
    fn full_block_of_which_most_was_written_gives_only_its_rest() {
        Simulation::new(1)
            .run(|runtime| async move {
                let block_bytes = 2 * BLOCK;
                let mut writer = SegmentWriter::new(block_bytes, LogPosition::default());
                writer.open_segment(SegmentNumber::new(1), &[7; 4096], runtime.allocate(block_bytes));
                writer.append(&[&[1; 8192]], || runtime.allocate(block_bytes), |_| {});
                let part = writer.next_write(true, |bytes| runtime.allocate(bytes)).unwrap();
                assert_eq!((part.position, part.buffer.bytes()), (0, 12_288));
                writer.on_written(part.id);
                writer.append(&[&[1; 4096]], || runtime.allocate(block_bytes), |_| {});
                let rest = writer.next_write(false, |bytes| runtime.allocate(bytes)).unwrap();
                assert_eq!((rest.position, rest.buffer.bytes()), (12_288, 4096));
            })
            .finished();
    }

    #[test]
    fn unfinished_block_waits_unless_it_is_asked_for_or_sealed() {
        check(|runtime, writer| {
            append(runtime, writer, 100);
            assert!(writer.next_write(false, |bytes| runtime.allocate(bytes)).is_none());
            writer.open_segment(SegmentNumber::new(2), &[7; 4096], runtime.allocate(BLOCK));
            let last = writer.next_write(false, |bytes| runtime.allocate(bytes)).unwrap();
            assert_eq!(last.position, 4096);
            assert_eq!(writer.next_write_range(), Some((SegmentNumber::new(2), 0..4096)));
        });
    }
}
