//! The end of the log in memory: whether an entry finds room, where it goes, and the next segment when one is full.
//!
//! An append is one step without an await: room was made first, then the entry is placed, copied and indexed, and its
//! position returned.

use crate::runtime::Runtime;
use crate::store::format::{
    ENTRY_HEADER_BYTES, EntryHeader, EntryKind, FORMAT_VERSION, SEGMENT_HEADER_BYTES, SegmentHeader, Stream,
    UNIT_BYTES, footer_bytes,
};
use crate::store::state::segments::LiveSegment;
use crate::store::state::space::Room;
use crate::store::state::{Core, State, tail_bytes_max};
use crate::store::{Purpose, StorageError, StoreOptions};
use crate::types::{LogId, LogPosition, SegmentNumber};

/// What an entry is made of.
pub(in crate::store) struct Entry<'a> {
    pub(in crate::store) kind: EntryKind,
    pub(in crate::store) batch_count: u16,
    pub(in crate::store) log: LogId,
    /// The start of the payload, which the entry's crc covers.
    pub(in crate::store) covered: &'a [u8],
    /// The rest.
    pub(in crate::store) uncovered: &'a [u8],
    /// Who may use how much of the reserve.
    pub(in crate::store) purpose: Purpose,
}

impl<R: Runtime> State<R> {
    pub(in crate::store) fn try_reserve(
        &self,
        options: &StoreOptions,
        purpose: Purpose,
        bytes: usize,
    ) -> Option<Result<(), StorageError>> {
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
    pub(in crate::store) fn append_entry(
        &mut self,
        core: &Core<R>,
        entry: &Entry<'_>,
    ) -> Result<(LogPosition, LogPosition), StorageError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if self.stopping {
            return Err(StorageError::Closed);
        }
        let payload = entry.covered.len() + entry.uncovered.len();
        let entry_bytes = u64::try_from(ENTRY_HEADER_BYTES + payload).expect("usize fits 64 bits");
        let overhead = u64::from(SEGMENT_HEADER_BYTES) + footer_bytes(1, 1, 0) + u64::from(UNIT_BYTES);
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

    /// Ends the open segment and begins the next, if there is anything in it and room for clients: what is in it is settled
    /// soon. False when it stays open.
    pub(in crate::store) fn seal_open(&mut self, core: &Core<R>) -> bool {
        let (options, purpose) = (&core.options, Purpose::Client);
        let is_possible = self.failure.is_none()
            && !self.stopping
            && !self.index.open().is_empty()
            && self.room(options, purpose) == Room::Now
            && self.segments.without_file().is_none();
        if is_possible {
            self.space.open_for(self.next_is_for(options, purpose));
            self.roll(core, u64::from(options.segment_bytes), self.bytes_left(options, purpose));
        }
        is_possible
    }

    /// Gives up the oldest blocks when memory is short.
    pub(in crate::store) fn evict(&mut self, options: &StoreOptions) {
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
            version: FORMAT_VERSION,
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
    pub(in crate::store) fn seal(&mut self, end: LogPosition, next: SegmentNumber) {
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

/// Bytes that may wait for their write: half of the tail, so that what was written is not evicted at once.
fn unwritten_bytes_max(options: &StoreOptions) -> u64 {
    tail_bytes_max(options) / 2
}
