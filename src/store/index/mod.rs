//! Where every live batch of a core's log lies: in memory, pure, rebuilt by recovery.
//!
//! Three layers, from new to old: per batch for the tail that is in memory; per extent for the open segment; one
//! 28-byte row per log and sealed segment (26 MB per TB at 1,000 partitions and 1 GiB segments: offset, timestamp,
//! segment, row of its directory and bytes, exact, so that retention by size needs no disk). The extents of a sealed
//! segment stay here only until its footer is written, then they are read from there.
//!
//! It does not know files, blocks or time. One per core, touched by the store only.
//! Invariants: the rows of a log ascend by offset, and of hot segments by segment; a segment's live count is the number of
//! rows that logs hold of it, its live bytes are theirs; positions given ascend. A row of a cold segment takes the place of
//! whole rows: no job takes a part of one.

pub mod cold_segment;
pub mod open_segment;
mod shares;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::store::format::{self, DirectoryRow, Extent, Footer, SegmentHeader};
use crate::store::index::open_segment::{OpenRun, OpenSegmentIndex};
use crate::types::{Incarnation, LogId, LogPosition, Offset, SegmentNumber, StableMap, TimestampMs};

/// The newest batches of a log that are looked at one by one before all are searched.
const TAIL_BATCHES_TRIED: usize = 4;

/// What is known of one entry of batches when it enters the index.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IndexedEntry {
    /// Position of the entry's header in the open segment.
    pub position: u32,
    /// Bytes of header and payload.
    pub bytes: u32,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// Greatest timestamp of its records.
    pub timestamp_max: TimestampMs,
}

/// One batch whose bytes are in memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TailBatch {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset of its last record: the next batch need not follow at once.
    pub last_offset: Offset,
    /// The segment.
    pub segment: SegmentNumber,
    /// Position of the batch itself, behind its entry header.
    pub byte: u32,
    /// Bytes of the batch.
    pub bytes: u32,
}

/// Where the data from some offset on lies on disk: at most to the end of one segment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The segment.
    pub segment: SegmentNumber,
    /// First offset that the log has in the segment.
    pub base_offset: Offset,
    /// Offset after the last that the log has in the segment.
    pub end_offset: Offset,
    /// Its extents, or where to find them.
    pub extents: PlaceExtents,
}

/// The extents of one log in one segment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PlaceExtents {
    /// Known: by offset, from the one that holds the offset looked for, as far as was asked.
    Known(Vec<Extent>),
    /// In the segment's footer, by this row of the directory.
    Footer {
        /// Index of the row in the directory.
        row: u32,
        /// Bytes of all entries that the log has in the segment, headers included.
        bytes: u32,
    },
}

/// The oldest run of a log that retention can drop as one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OldestRun {
    /// Offset of its last record.
    pub last_offset: Offset,
    /// Greatest timestamp in it.
    pub timestamp_max: TimestampMs,
    /// Bytes that it takes in the log.
    pub bytes: u64,
}

/// A log's share of one sealed segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SealedRow {
    /// The segment.
    pub segment: SegmentNumber,
    /// Its place in the segment's directory.
    pub directory_row: u32,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Where the log goes on.
    pub end_offset: Offset,
    /// Greatest timestamp in it.
    pub timestamp_max: TimestampMs,
    /// Bytes of its entries, headers included.
    pub bytes: u32,
}

/// What came does not continue its log: offsets went back, or a segment came twice.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IndexError {
    /// The offsets of an entry or row begin before the end of its log.
    #[error("log {log} ends at {end}, but offset {base} follows")]
    OffsetsOverlap {
        /// The log.
        log: LogId,
        /// Where it ended.
        end: Offset,
        /// What came.
        base: Offset,
    },
    /// A segment's number is not above the ones before it.
    #[error("segment {0} is not above the ones before it")]
    SegmentOrder(SegmentNumber),
}

/// The extents `offset` lies in and those behind it, until `bytes_wanted` are covered; at least two, if there are.
pub fn extents_from(extents: &[Extent], offset: Offset, bytes_wanted: u64) -> &[Extent] {
    let behind = extents.partition_point(|extent| extent.base_offset <= offset);
    let rest = &extents[behind.saturating_sub(1)..];
    // The offset may be the last of the first extent, or lie in a gap behind it, so that one does not count.
    let mut covered = 0;
    let mut count = rest.len().min(1);
    while count < rest.len() && covered < bytes_wanted.max(1) {
        covered += u64::from(rest[count].bytes);
        count += 1;
    }
    &rest[..count]
}

/// Which extents of a place are wanted.
#[derive(Clone, Copy)]
struct Want {
    offset: Offset,
    bytes: u64,
}

impl Want {
    const ALL: Want = Want { offset: Offset::new(i64::MIN), bytes: u64::MAX };

    fn of(self, extents: &[Extent]) -> Vec<Extent> {
        extents_from(extents, self.offset, self.bytes).to_vec()
    }
}

/// One log's share of one sealed segment. Packed: a terabyte has a million of them.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(4))]
struct Row {
    base_offset: Offset,
    timestamp_max: TimestampMs,
    slot: u32,
    directory_row: u32,
    bytes: u32,
}
const _: () = assert!(size_of::<Row>() == 28);

#[derive(Debug)]
struct LogState {
    start: Offset,
    end: Offset,
    rows: VecDeque<Row>,
    rows_bytes: u64,
    tail: VecDeque<TailBatch>,
    /// Batches that left the tail before their memory did: so many of the log's first marks stand for nothing.
    tail_dropped: usize,
}

#[derive(Debug)]
struct SegmentState {
    number: SegmentNumber,
    live_rows: u32,
    live_bytes: u64,
    /// Rows and extents until the footer that holds them is on disk.
    unwritten: Option<Rc<SealedExtents>>,
}

#[derive(Debug)]
struct SealedExtents {
    rows: Vec<DirectoryRow>,
    extents: Vec<Extent>,
}

/// The index of one core's log.
#[derive(Debug)]
pub struct Index {
    logs: StableMap<LogId, LogState>,
    /// Sealed segments, by slot: rows name slots, which are four bytes and reused.
    slots: Vec<Option<SegmentState>>,
    slots_free: Vec<u32>,
    slot_by_number: BTreeMap<SegmentNumber, u32>,
    open: OpenSegmentIndex,
    open_number: SegmentNumber,
    /// Bytes of all rows of all logs.
    live_bytes: u64,
    /// The log of each batch in all tails, by position: what eviction walks.
    tail_order: VecDeque<LogId>,
}

impl Index {
    /// An empty index whose open segment will be `open`.
    pub fn new(open: SegmentNumber) -> Index {
        Index {
            logs: StableMap::default(),
            slots: Vec::new(),
            slots_free: Vec::new(),
            slot_by_number: BTreeMap::new(),
            open: OpenSegmentIndex::new(),
            open_number: open,
            live_bytes: 0,
            tail_order: VecDeque::new(),
        }
    }

    /// A log begins, or is known from a checkpoint: empty, at `log_start`. Rows and entries that follow raise its end.
    pub fn create(&mut self, log: LogId, log_start: Offset) {
        let state = LogState {
            start: log_start,
            end: log_start,
            rows: VecDeque::new(),
            rows_bytes: 0,
            tail: VecDeque::new(),
            tail_dropped: 0,
        };
        let earlier = self.logs.insert(log, state);
        assert!(earlier.is_none(), "a log id is given once");
    }

    /// Whether the log exists.
    pub fn contains(&self, log: LogId) -> bool {
        self.logs.contains_key(&log)
    }

    /// First offset that may be read.
    pub fn log_start(&self, log: LogId) -> Option<Offset> {
        self.logs.get(&log).map(|state| state.start)
    }

    /// Offset after the last batch.
    pub fn log_end(&self, log: LogId) -> Option<Offset> {
        self.logs.get(&log).map(|state| state.end)
    }

    /// All logs, sorted.
    pub fn logs(&self) -> Vec<LogId> {
        let mut logs: Vec<LogId> = self.logs.keys().copied().collect();
        logs.sort_unstable();
        logs
    }

    /// Number of the segment that is being filled.
    pub fn open_number(&self) -> SegmentNumber {
        self.open_number
    }

    /// The open segment's index, for the size of its footer.
    pub fn open(&self) -> &OpenSegmentIndex {
        &self.open
    }

    /// Enters an entry of batches of the open segment. Entries of unknown logs leave no trace; those wholly below the log
    /// start, met by recovery, are dead but stand in the footer.
    ///
    /// Errors: `OffsetsOverlap` when it begins before the end of its log.
    pub fn add(&mut self, log: LogId, entry: &IndexedEntry) -> Result<(), IndexError> {
        let Some(state) = self.logs.get_mut(&log) else { return Ok(()) };
        let end = match self.open.run(log) {
            Some(run) => Some(run.end_offset),
            None if !state.rows.is_empty() => Some(state.end),
            None => None,
        };
        if let Some(end) = end
            && entry.base_offset < end
        {
            return Err(IndexError::OffsetsOverlap { log, end, base: entry.base_offset });
        }
        state.end = state.end.max(entry.last_offset.advance(1));
        self.open.add(log, entry);
        Ok(())
    }

    /// The bytes of a batch of a known log are in memory. Batches come in the order of their positions.
    pub fn add_tail(&mut self, log: LogId, batch: TailBatch) {
        let state = self.logs.get_mut(&log).expect("a batch in memory belongs to a log");
        if let Some(last) = state.tail.back() {
            assert!((last.segment, last.byte) < (batch.segment, batch.byte));
            assert!(last.last_offset < batch.base_offset);
        }
        state.tail.push_back(batch);
        self.tail_order.push_back(log);
    }

    /// Batches that begin below `position` are no longer in memory.
    pub fn evict_tail(&mut self, position: LogPosition) {
        while let Some(log) = self.tail_order.front() {
            // A deleted log took its tail with it and left its marks in the order.
            if let Some(state) = self.logs.get_mut(log) {
                if state.tail_dropped > 0 {
                    state.tail_dropped -= 1;
                    self.tail_order.pop_front();
                    continue;
                }
                let first = state.tail.front().expect("each mark stands for one batch");
                if (first.segment, first.byte) >= (position.segment, position.byte) {
                    return;
                }
                state.tail.pop_front();
                shrink(&mut state.tail);
            }
            self.tail_order.pop_front();
        }
        shrink(&mut self.tail_order);
    }

    /// Batches of a log that end below `offset` are no longer read from memory: something else lies on disk in their place.
    pub fn drop_tail(&mut self, log: LogId, offset: Offset) {
        let Some(state) = self.logs.get_mut(&log) else { return };
        let dropped = state.tail.partition_point(|batch| batch.last_offset < offset);
        state.tail.drain(..dropped);
        state.tail_dropped += dropped;
        shrink(&mut state.tail);
    }

    /// The batches in memory from the one that holds `offset`, or the next one behind a gap; `None` when what stands
    /// before is not in memory. Empty at and above the log end, and when only a gap is left below it.
    pub fn tail(&self, log: LogId, offset: Offset) -> Option<impl Iterator<Item = &TailBatch>> {
        let state = self.logs.get(&log)?;
        let tail = &state.tail;
        let holds_or_before = |batch: &TailBatch| batch.base_offset <= offset;
        // Whoever follows a log asks for its last batches; a search of them all would touch memory that is not in a cache.
        let first = if offset >= state.end {
            tail.len()
        } else if let Some(back) = tail.iter().rev().take(TAIL_BATCHES_TRIED).position(holds_or_before) {
            tail.len() - 1 - back
        } else {
            tail.partition_point(holds_or_before).checked_sub(1)?
        };
        let is_before_gap = tail.get(first).is_some_and(|batch| batch.last_offset < offset);
        Some(tail.range(first + usize::from(is_before_gap)..))
    }

    /// Where `offset` and the `bytes_wanted` behind it lie on disk; an offset in a gap, or below the log start, lies at the
    /// next batch, or in the place before the gap, which then holds nothing of what is wanted. `None` at and above the log
    /// end, for an unknown log, and when nothing of the log follows.
    pub fn locate(&self, log: LogId, offset: Offset, bytes_wanted: u64) -> Option<Place> {
        let state = self.logs.get(&log)?;
        let offset = offset.max(state.start);
        if offset >= state.end {
            return None;
        }
        let want = Want { offset, bytes: bytes_wanted };
        let run = self.live_run(log, state);
        if let Some(run) = run
            && run.base_offset() <= offset
        {
            return (offset < run.end_offset).then(|| self.open_place(run, want));
        }
        let behind = state.rows.partition_point(|row| { row.base_offset } <= offset);
        match behind.saturating_sub(1) {
            row if row < state.rows.len() => Some(self.row_place(log, state, row, want)),
            _ => run.map(|run| self.open_place(run, want)),
        }
    }

    /// The first place, from the one that holds `from` on, that holds a timestamp of at least `timestamp`. In its first
    /// place that timestamp may lie below `from`; then the caller asks again from the place's end.
    pub fn timestamp_at_or_after(&self, log: LogId, timestamp: TimestampMs, from: Offset) -> Option<Place> {
        let state = self.logs.get(&log)?;
        let from = from.max(state.start);
        if from >= state.end {
            return None;
        }
        let first = state.rows.partition_point(|row| { row.base_offset } <= from).saturating_sub(1);
        for row in first..state.rows.len() {
            if { state.rows[row].timestamp_max } >= timestamp && self.row_end(log, state, row) > from {
                return Some(self.row_place(log, state, row, Want::ALL));
            }
        }
        let is_wanted = |run: &&OpenRun| run.timestamp_max >= timestamp && run.end_offset > from;
        let run = self.live_run(log, state).filter(is_wanted);
        run.map(|run| self.open_place(run, Want::ALL))
    }

    /// Places that may hold the log's greatest timestamp, with the greatest timestamp of each, in ascending order of
    /// offsets: the place that holds the log start, whose greatest may lie below it, and the first of the others with the
    /// greatest. At most two, each at or after the other in timestamp only if it can win.
    pub fn timestamp_max_places(&self, log: LogId) -> Vec<(TimestampMs, Place)> {
        let Some(state) = self.logs.get(&log) else { return Vec::new() };
        let run = self.live_run(log, state);
        let rows = state.rows.iter().map(|row| (row.base_offset, row.timestamp_max));
        let all: Vec<(Offset, TimestampMs)> =
            rows.chain(run.iter().map(|run| (run.base_offset(), run.timestamp_max))).collect();
        let mut best: Option<usize> = None;
        let mut uncertain = None;
        for (index, (base, timestamp)) in all.iter().enumerate() {
            if index == 0 && *base < state.start {
                uncertain = Some(index);
            } else if best.is_none_or(|best| all[best].1 < *timestamp) {
                best = Some(index);
            }
        }
        if let (Some(first), Some(best)) = (uncertain, best)
            && all[first].1 < all[best].1
        {
            uncertain = None;
        }
        let place = |index: usize| match run {
            Some(run) if index == state.rows.len() => self.open_place(run, Want::ALL),
            _ => self.row_place(log, state, index, Want::ALL),
        };
        uncertain.into_iter().chain(best).map(|index| (all[index].1, place(index))).collect()
    }

    /// Seals the open segment and opens `next`. Returns the footer to write, or `None` when it does not fit, which
    /// happens only to a segment that this program did not fill; its extents then stay in memory.
    ///
    /// The extents are kept until [`Index::footer_written`].
    pub fn seal(
        &mut self,
        header: &SegmentHeader,
        incarnation: Incarnation,
        data_end: u32,
        next: SegmentNumber,
    ) -> Result<Option<Footer>, IndexError> {
        assert!(header.number == self.open_number);
        if next <= self.open_number {
            return Err(IndexError::SegmentOrder(next));
        }
        let (mut rows, extents) = std::mem::take(&mut self.open).seal();
        self.open_number = next;
        let footer = Footer::encode(header, incarnation, data_end, &mut rows, &extents, &[]);
        let slot = self.take_slot(header.number, Some(Rc::new(SealedExtents { rows: rows.clone(), extents })));
        self.enter_rows(slot, &rows)?;
        Ok(footer)
    }

    /// The footer of a sealed segment is on disk and readable: its extents leave memory.
    pub fn footer_written(&mut self, number: SegmentNumber) {
        if let Some(state) =
            self.slot_by_number.get(&number).and_then(|slot| self.slots[format::usize_of(*slot)].as_mut())
        {
            state.unwritten = None;
        }
    }

    /// Enters a sealed segment whose footer was read, while the open segment is empty: recovery, in ascending order of
    /// numbers. Rows of unknown logs and rows wholly below their log start are dead and leave no trace. The open segment
    /// becomes the one numbered after it.
    ///
    /// Errors: `SegmentOrder`, `OffsetsOverlap`; the index is then of no use.
    pub fn add_sealed(&mut self, number: SegmentNumber, rows: &[DirectoryRow]) -> Result<(), IndexError> {
        assert!(self.open.is_empty());
        if number < self.open_number {
            return Err(IndexError::SegmentOrder(number));
        }
        self.open_number = number.next();
        let slot = self.take_slot(number, None);
        self.enter_rows(slot, rows)
    }

    /// Enters a cold segment: its rows take the place of what their logs have of the same offsets, but for the open segment's,
    /// which no job moves. Those of unknown logs and wholly below their log start are dead. `extents` stay in memory until
    /// [`Index::footer_written`]; without them they are in the footer. Recovery enters all cold segments, in ascending order
    /// of numbers, once the hot log is read: what was moved later counts.
    ///
    /// Errors: `OffsetsOverlap` with the open segment; the index is then of no use.
    pub fn add_cold(
        &mut self,
        number: SegmentNumber,
        rows: &[DirectoryRow],
        extents: Option<Vec<Extent>>,
    ) -> Result<(), IndexError> {
        let unwritten = extents.map(|extents| Rc::new(SealedExtents { rows: rows.to_vec(), extents }));
        let slot = self.take_slot(number, unwritten);
        for (directory_row, row) in rows.iter().enumerate() {
            self.splice(slot, u32_of(directory_row), row)?;
        }
        Ok(())
    }

    /// Whether the log still has the row that a segment's directory has at this place.
    pub fn has_row(&self, number: SegmentNumber, directory_row: u32, row: &DirectoryRow) -> bool {
        let Some((state, slot)) = self.logs.get(&row.log).zip(self.slot_by_number.get(&number)) else { return false };
        let at = state.rows.partition_point(|other| { other.base_offset } < row.base_offset);
        let is_it = |found: &Row| (found.slot, found.directory_row) == (*slot, directory_row);
        state.rows.get(at).is_some_and(is_it)
    }

    /// The rows of a log from the one that holds `from` on, ascending, at most `count`.
    pub fn rows_from(&self, log: LogId, from: Offset, count: usize) -> Vec<SealedRow> {
        let Some(state) = self.logs.get(&log) else { return Vec::new() };
        let first = state.rows.partition_point(|row| { row.base_offset } <= from).saturating_sub(1);
        let rows = (first..state.rows.len()).map(|row| self.sealed_row(log, state, row));
        rows.filter(|row| row.end_offset > from).take(count).collect()
    }

    /// Where the rows of a log end whose segments `is_settled`; of hot segments the later ones are not when one is not. The
    /// log start where there is none.
    pub fn settled_end(&self, log: LogId, is_settled: impl Fn(SegmentNumber) -> bool) -> Option<Offset> {
        let state = self.logs.get(&log)?;
        let rows = (0..state.rows.len()).rev().map(|row| self.sealed_row(log, state, row));
        let settled = rows.skip_while(|row| !is_settled(row.segment)).map(|row| row.end_offset).next();
        Some(settled.map_or(state.start, |end| end.max(state.start)))
    }

    /// Bytes that a log takes below `offset`, in rows; of the one that holds it the share that its offsets have.
    pub fn bytes_below(&self, log: LogId, offset: Offset) -> u64 {
        let Some(state) = self.logs.get(&log) else { return 0 };
        let below = state.rows.partition_point(|row| { row.base_offset } < offset);
        let whole: u64 = (0..below.saturating_sub(1)).map(|row| u64::from(state.rows[row].bytes)).sum();
        let Some(last) = below.checked_sub(1).map(|row| self.sealed_row(log, state, row)) else { return 0 };
        let share = |from: Offset, to: Offset| u128::try_from(to.value() - from.value()).unwrap_or(0);
        let (part, all) =
            (share(last.base_offset, offset.min(last.end_offset)), share(last.base_offset, last.end_offset));
        let part_bytes = u128::from(last.bytes) * part / all.max(1);
        whole + u64::try_from(part_bytes).expect("a part of 32 bits")
    }

    /// Bytes of entries that are live in a sealed segment; 0 for an unknown one.
    pub fn live_bytes(&self, number: SegmentNumber) -> u64 {
        self.sealed(number).map_or(0, |state| state.live_bytes)
    }

    /// Rows that are live in a sealed segment; 0 for an unknown one.
    pub fn live_rows(&self, number: SegmentNumber) -> u64 {
        self.sealed(number).map_or(0, |state| u64::from(state.live_rows))
    }

    fn sealed(&self, number: SegmentNumber) -> Option<&SegmentState> {
        let slot = self.slot_by_number.get(&number)?;
        self.slots[format::usize_of(*slot)].as_ref()
    }

    /// Bytes of entries that are live, those of the open segment with them.
    pub fn all_live_bytes(&self) -> u64 {
        self.live_bytes + self.open.bytes()
    }

    /// Sealed segments of which no live row stays for ever, and when the last of them is older than its log keeps records, in
    /// milliseconds; none of those without any. Each log is asked once.
    pub fn segments_dead_at(
        &self,
        retention_ms: impl Fn(LogId) -> Option<i64>,
    ) -> BTreeMap<SegmentNumber, TimestampMs> {
        const NEVER: i64 = i64::MAX;
        let mut dead_at: Vec<Option<i64>> = vec![None; self.slots.len()];
        for (log, state) in self.logs.iter().filter(|(_, state)| !state.rows.is_empty()) {
            let retention_ms = retention_ms(*log);
            for row in &state.rows {
                let timestamp = { row.timestamp_max }.value();
                let dies_at = retention_ms.map_or(NEVER, |ms| timestamp.saturating_add(ms));
                let of_segment = &mut dead_at[format::usize_of(row.slot)];
                *of_segment = (*of_segment).max(Some(dies_at));
            }
        }
        let all = self.slot_by_number.iter().filter_map(|(number, slot)| {
            let dead_at = dead_at[format::usize_of(*slot)].filter(|dead_at| *dead_at < NEVER)?;
            Some((*number, TimestampMs::new(dead_at)))
        });
        all.collect()
    }

    /// The extents of a row of a sealed segment whose footer is not on disk yet.
    pub fn unwritten_extents(&self, number: SegmentNumber, directory_row: u32) -> Option<Vec<Extent>> {
        let sealed = self.sealed(number)?.unwritten.as_ref()?;
        Some(sealed.extents[sealed.rows[format::usize_of(directory_row)].own_extents()].to_vec())
    }

    /// The rows of a sealed segment whose footer is not on disk yet, and their extents.
    pub fn unwritten_rows(&self, number: SegmentNumber) -> Option<Vec<DirectoryRow>> {
        let sealed = self.sealed(number)?.unwritten.as_ref()?;
        Some(sealed.rows.clone())
    }

    /// Names the open segment, while it is empty: recovery skips numbers of segments that are gone.
    ///
    /// Errors: `SegmentOrder` when the number is not above the sealed ones.
    pub fn set_open(&mut self, number: SegmentNumber) -> Result<(), IndexError> {
        assert!(self.open.is_empty());
        if number < self.open_number {
            return Err(IndexError::SegmentOrder(number));
        }
        self.open_number = number;
        Ok(())
    }

    /// Moves the log start up to `log_start`; never down. What lies wholly below it is dead.
    pub fn set_log_start(&mut self, log: LogId, log_start: Offset) {
        let Some(mut state) = self.logs.remove(&log) else { return };
        state.start = state.start.max(log_start);
        state.end = state.end.max(state.start);
        while !state.rows.is_empty() && self.row_end(log, &state, 0) <= state.start {
            let row = state.rows.pop_front().expect("not empty");
            state.rows_bytes -= u64::from(row.bytes);
            self.drop_row(row);
        }
        shrink(&mut state.rows);
        self.logs.insert(log, state);
    }

    /// The log ends at `end` at least, even if the last of it is gone: offsets are not given twice.
    pub fn raise_end(&mut self, log: LogId, end: Offset) {
        if let Some(state) = self.logs.get_mut(&log) {
            state.end = state.end.max(end);
        }
    }

    /// The log ended. Its rows are dead.
    pub fn delete(&mut self, log: LogId) {
        let Some(state) = self.logs.remove(&log) else { return };
        for row in state.rows {
            self.drop_row(row);
        }
    }

    /// Sealed segments in which nothing is live, by number.
    pub fn dead_segments(&self) -> Vec<SegmentNumber> {
        let live_rows = |slot: u32| self.slots[format::usize_of(slot)].as_ref().map(|state| state.live_rows);
        let dead = self.slot_by_number.iter().filter(|(_, slot)| live_rows(**slot) == Some(0));
        dead.map(|(number, _)| *number).collect()
    }

    /// Forgets a dead segment, because its file gets another number or goes.
    pub fn remove_segment(&mut self, number: SegmentNumber) {
        if let Some(slot) = self.slot_by_number.remove(&number) {
            let state = self.slots[format::usize_of(slot)].take().expect("a numbered slot is taken");
            assert!(state.live_rows == 0);
            self.slots_free.push(slot);
        }
    }

    /// Bytes that the log takes on disk: entries in live rows and in the open segment, headers included.
    pub fn log_bytes(&self, log: LogId) -> u64 {
        let Some(state) = self.logs.get(&log) else { return 0 };
        state.rows_bytes + self.live_run(log, state).map_or(0, |run| u64::from(run.bytes))
    }

    /// The oldest run of the log that can be dropped as one: its share of its oldest segment.
    pub fn oldest(&self, log: LogId) -> Option<OldestRun> {
        let state = self.logs.get(&log)?;
        let run = match state.rows.front() {
            Some(row) => (self.row_end(log, state, 0), row.timestamp_max, row.bytes),
            None => self.live_run(log, state).map(|run| (run.end_offset, run.timestamp_max, run.bytes))?,
        };
        let (end, timestamp_max, bytes) = run;
        Some(OldestRun { last_offset: Offset::new(end.value() - 1), timestamp_max, bytes: u64::from(bytes) })
    }

    /// Panics unless what is counted is what is there. Looks at every row: for tests and builds for them.
    pub fn check(&self) {
        let mut counts: BTreeMap<u32, (u32, u64)> = BTreeMap::new();
        for state in self.logs.values() {
            let bytes = state.rows.iter().map(|row| u64::from(row.bytes)).sum::<u64>();
            assert_eq!(bytes, state.rows_bytes, "bytes of a log's rows");
            for row in &state.rows {
                let (rows, bytes) = counts.entry(row.slot).or_default();
                (*rows, *bytes) = (*rows + 1, *bytes + u64::from(row.bytes));
            }
        }
        for (number, slot) in &self.slot_by_number {
            let state = self.slots[format::usize_of(*slot)].as_ref().expect("a numbered slot is taken");
            let counted = counts.get(slot).copied().unwrap_or_default();
            assert_eq!((state.live_rows, state.live_bytes), counted, "what lives in segment {number}");
        }
        assert_eq!(self.live_bytes, counts.values().map(|(_, bytes)| bytes).sum::<u64>());
    }

    /// Bytes of memory held, roughly: what metrics show.
    pub fn memory_bytes(&self) -> u64 {
        let per_log = size_of::<(LogId, LogState)>() + 1;
        let mut bytes = self.logs.capacity() * per_log + self.tail_order.capacity() * size_of::<LogId>();
        for state in self.logs.values() {
            bytes += state.rows.capacity() * size_of::<Row>() + state.tail.capacity() * size_of::<TailBatch>();
        }
        bytes += self.slots.capacity() * size_of::<Option<SegmentState>>();
        bytes += self.open.memory_bytes();
        for state in self.slots.iter().flatten() {
            bytes += state.unwritten.as_ref().map_or(0, |sealed| {
                sealed.rows.len() * size_of::<DirectoryRow>() + sealed.extents.len() * size_of::<Extent>()
            });
        }
        u64::try_from(bytes).expect("64 bits hold a usize")
    }

    fn live_run(&self, log: LogId, state: &LogState) -> Option<&OpenRun> {
        self.open.run(log).filter(|run| run.end_offset > state.start)
    }

    fn row_end(&self, log: LogId, state: &LogState, row: usize) -> Offset {
        match (state.rows.get(row + 1), self.open.run(log)) {
            (Some(next), _) => next.base_offset,
            (None, Some(run)) => run.base_offset(),
            (None, None) => state.end,
        }
    }

    fn sealed_row(&self, log: LogId, state: &LogState, row: usize) -> SealedRow {
        let end_offset = self.row_end(log, state, row);
        let row = state.rows[row];
        let segment = self.slots[format::usize_of(row.slot)].as_ref().expect("a row's segment is known").number;
        let Row { base_offset, timestamp_max, directory_row, bytes, .. } = row;
        SealedRow { segment, directory_row, base_offset, end_offset, timestamp_max, bytes }
    }

    fn open_place(&self, run: &OpenRun, want: Want) -> Place {
        Place {
            segment: self.open_number,
            base_offset: run.base_offset(),
            end_offset: run.end_offset,
            extents: PlaceExtents::Known(want.of(&run.extents)),
        }
    }

    fn row_place(&self, log: LogId, state: &LogState, row: usize, want: Want) -> Place {
        let end_offset = self.row_end(log, state, row);
        let row = state.rows[row];
        let segment = self.slots[format::usize_of(row.slot)].as_ref().expect("a row's segment is known");
        let extents = match &segment.unwritten {
            Some(sealed) => {
                let own = sealed.rows[format::usize_of(row.directory_row)].own_extents();
                PlaceExtents::Known(want.of(&sealed.extents[own]))
            }
            None => PlaceExtents::Footer { row: row.directory_row, bytes: row.bytes },
        };
        Place { segment: segment.number, base_offset: row.base_offset, end_offset, extents }
    }

    fn enter_rows(&mut self, slot: u32, rows: &[DirectoryRow]) -> Result<(), IndexError> {
        let segment = self.slots[format::usize_of(slot)].as_mut().expect("the slot was just taken");
        // The ends were raised when the entries came, unless the rows were read from a footer.
        let from_footer = segment.unwritten.is_none();
        for (directory_row, row) in rows.iter().enumerate() {
            let Some(state) = self.logs.get_mut(&row.log) else { continue };
            if row.end_offset <= state.start {
                continue;
            }
            if from_footer {
                if !state.rows.is_empty() && row.base_offset < state.end {
                    return Err(IndexError::OffsetsOverlap { log: row.log, end: state.end, base: row.base_offset });
                }
                state.end = row.end_offset;
            }
            // A quarter more rather than twice as much: a terabyte has a million rows.
            if state.rows.len() == state.rows.capacity() {
                state.rows.reserve_exact((state.rows.len() / 4).max(4));
            }
            state.rows.push_back(Row {
                base_offset: row.base_offset,
                timestamp_max: row.timestamp_max,
                slot,
                directory_row: u32_of(directory_row),
                bytes: row.bytes,
            });
            state.rows_bytes += u64::from(row.bytes);
            segment.live_rows += 1;
            segment.live_bytes += u64::from(row.bytes);
            self.live_bytes += u64::from(row.bytes);
        }
        Ok(())
    }

    /// Enters a row of a cold segment in the place of what the log has of its offsets.
    fn splice(&mut self, slot: u32, directory_row: u32, row: &DirectoryRow) -> Result<(), IndexError> {
        let Some(mut state) = self.logs.remove(&row.log) else { return Ok(()) };
        let mut result = Ok(());
        if row.end_offset > state.start {
            if let Some(run) = self.open.run(row.log).filter(|run| run.base_offset() < row.end_offset) {
                let (log, end, base) = (row.log, row.end_offset, run.base_offset());
                result = Err(IndexError::OffsetsOverlap { log, end, base });
            } else {
                self.splice_into(&mut state, slot, directory_row, row);
            }
        }
        self.logs.insert(row.log, state);
        result
    }

    fn splice_into(&mut self, state: &mut LogState, slot: u32, directory_row: u32, row: &DirectoryRow) {
        let mut behind = state.rows.partition_point(|other| { other.base_offset } < row.end_offset);
        if cfg!(corelane_defect = "splice_takes_too_much") {
            behind = (behind + 1).min(state.rows.len());
        }
        // One that begins before goes on until here; nothing is left of it when that is below the log start.
        let first = match row.base_offset <= state.start {
            true => 0,
            false => state.rows.partition_point(|other| { other.base_offset } < row.base_offset),
        };
        let gone: Vec<Row> = state.rows.drain(first..behind).collect();
        for gone in gone {
            state.rows_bytes -= u64::from(gone.bytes);
            self.drop_row(gone);
        }
        let new = Row {
            base_offset: row.base_offset,
            timestamp_max: row.timestamp_max,
            slot,
            directory_row,
            bytes: row.bytes,
        };
        state.rows.insert(first, new);
        state.rows_bytes += u64::from(row.bytes);
        state.end = state.end.max(row.end_offset);
        let segment = self.slots[format::usize_of(slot)].as_mut().expect("the slot was just taken");
        segment.live_rows += 1;
        segment.live_bytes += u64::from(row.bytes);
        self.live_bytes += u64::from(row.bytes);
    }

    fn drop_row(&mut self, row: Row) {
        let segment = self.slots[format::usize_of(row.slot)].as_mut().expect("a row's segment is known");
        segment.live_rows -= 1;
        if cfg!(corelane_defect = "live_bytes_drift") && segment.live_bytes > 2 * u64::from(row.bytes) {
            return;
        }
        segment.live_bytes -= u64::from(row.bytes);
        self.live_bytes -= u64::from(row.bytes);
    }

    fn take_slot(&mut self, number: SegmentNumber, unwritten: Option<Rc<SealedExtents>>) -> u32 {
        let state = SegmentState { number, live_rows: 0, live_bytes: 0, unwritten };
        let slot = self.slots_free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32_of(self.slots.len() - 1)
        });
        self.slots[format::usize_of(slot)] = Some(state);
        let earlier = self.slot_by_number.insert(number, slot);
        assert!(earlier.is_none(), "numbers ascend");
        slot
    }
}

/// Gives memory back once three quarters of it are unused, so that ten thousand idle partitions cost what they hold.
fn shrink<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() > 8 && queue.len() < queue.capacity() / 4 {
        queue.shrink_to(queue.len() * 2);
    }
}

/// A count of things in one segment, or of segments: both far below 2³².
pub(crate) fn u32_of(count: usize) -> u32 {
    u32::try_from(count).expect("a segment holds fewer than 2^32 things")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SEGMENT_BYTES_MAX;
    use crate::simulation::random::Random;
    use crate::store::format::Stream;
    use crate::types::ShardId;

    const SEGMENT_BYTES: u32 = 8 * 1024 * 1024;

    fn header(number: SegmentNumber) -> SegmentHeader {
        SegmentHeader {
            version: format::FORMAT_VERSION,
            shard: ShardId::new(0),
            stream: Stream::Hot,
            number,
            incarnation: Incarnation::new(1),
            bytes: SEGMENT_BYTES,
            predecessor: LogPosition::default(),
            checkpoint_sequence: 0,
            durable: LogPosition::default(),
        }
    }

    fn entry(position: u32, bytes: u32, base: i64, last: i64, timestamp: i64) -> IndexedEntry {
        IndexedEntry {
            position,
            bytes,
            base_offset: Offset::new(base),
            last_offset: Offset::new(last),
            timestamp_max: TimestampMs::new(timestamp),
        }
    }

    fn segment(number: u64) -> SegmentNumber {
        SegmentNumber::new(number)
    }

    const LOG: LogId = LogId::new(7);

    fn one_log() -> Index {
        let mut index = Index::new(segment(1));
        index.create(LOG, Offset::ZERO);
        index
    }

    #[test]
    fn offsets_that_go_back_are_refused() {
        let mut index = one_log();
        index.add(LOG, &entry(4096, 100, 0, 9, 0)).unwrap();
        let error = index.add(LOG, &entry(4196, 100, 9, 12, 0)).unwrap_err();
        let expected = IndexError::OffsetsOverlap { log: LOG, end: Offset::new(10), base: Offset::new(9) };
        assert_eq!(error, expected);
        assert_eq!(index.log_end(LOG), Some(Offset::new(10)));
    }

    #[test]
    fn recovered_log_keeps_entries_below_its_start_dead() {
        let mut index = Index::new(segment(1));
        index.create(LOG, Offset::new(100));
        index.add(LOG, &entry(4096, 100, 50, 60, 0)).unwrap();
        assert_eq!(index.log_bytes(LOG), 0);
        index.add(LOG, &entry(4296, 100, 95, 105, 0)).unwrap();
        assert_eq!(index.log_end(LOG), Some(Offset::new(106)));
        let place = index.locate(LOG, Offset::new(100), 1).unwrap();
        assert!(matches!(place.extents, PlaceExtents::Known(extents) if extents[0].position == 4296));
    }

    #[test]
    fn segment_is_dead_once_every_log_has_left_it() {
        let mut index = one_log();
        let other = LogId::new(8);
        index.create(other, Offset::ZERO);
        index.add(LOG, &entry(4096, 100, 0, 9, 0)).unwrap();
        index.add(other, &entry(4196, 100, 0, 4, 0)).unwrap();
        index.seal(&header(segment(1)), Incarnation::new(1), 4296, segment(2)).unwrap().unwrap();
        index.add(LOG, &entry(4096, 100, 10, 19, 0)).unwrap();
        index.set_log_start(LOG, Offset::new(9));
        assert_eq!(index.dead_segments(), []);
        index.set_log_start(LOG, Offset::new(10));
        assert_eq!(index.dead_segments(), []);
        index.delete(other);
        assert_eq!(index.dead_segments(), [segment(1)]);
        index.remove_segment(segment(1));
        assert_eq!(index.dead_segments(), []);
        assert_eq!(index.log_bytes(LOG), 100);
    }

    #[test]
    fn extents_leave_memory_when_the_footer_is_written() {
        let mut index = one_log();
        index.add(LOG, &entry(4096, 100, 0, 9, 0)).unwrap();
        index.seal(&header(segment(1)), Incarnation::new(1), 4196, segment(2)).unwrap().unwrap();
        let before = index.locate(LOG, Offset::ZERO, 1).unwrap();
        assert!(matches!(before.extents, PlaceExtents::Known(extents) if extents[0].position == 4096));
        index.footer_written(segment(1));
        let after = index.locate(LOG, Offset::ZERO, 1).unwrap();
        assert_eq!(after.extents, PlaceExtents::Footer { row: 0, bytes: 100 });
        assert_eq!((after.segment, after.end_offset), (segment(1), Offset::new(10)));
    }

    #[test]
    fn deleted_log_stays_in_the_footer_and_leaves_nothing_live() {
        let mut index = one_log();
        index.add(LOG, &entry(4096, 100, 0, 9, 0)).unwrap();
        index.delete(LOG);
        let footer = index.seal(&header(segment(1)), Incarnation::new(1), 4196, segment(2)).unwrap().unwrap();
        assert_eq!(footer.trailer.rows, 1);
        assert_eq!(index.dead_segments(), [segment(1)]);
    }

    #[test]
    fn greatest_timestamp_is_looked_for_in_two_places_at_most() {
        let mut index = one_log();
        for (number, timestamp) in [(1, 50), (2, 20), (3, 30), (4, 30)] {
            let base = i64::try_from(number - 1).unwrap() * 10;
            index.add(LOG, &entry(4096, 100, base, base + 9, timestamp)).unwrap();
            index.seal(&header(segment(number)), Incarnation::new(1), 4196, segment(number + 1)).unwrap();
        }
        let found = |index: &Index| -> Vec<(i64, u64)> {
            let places = index.timestamp_max_places(LOG);
            places.iter().map(|(timestamp, place)| (timestamp.value(), place.segment.value())).collect()
        };
        assert_eq!(found(&index), [(50, 1)]);
        index.set_log_start(LOG, Offset::new(5));
        assert_eq!(found(&index), [(50, 1), (30, 3)]);
        index.set_log_start(LOG, Offset::new(15));
        assert_eq!(found(&index), [(30, 3)]);
    }

    #[test]
    fn idle_partition_costs_less_than_a_kibibyte() {
        let mut index = Index::new(segment(1));
        let mut position = 4096;
        for log in 1..=10_000_u64 {
            index.create(LogId::new(log), Offset::ZERO);
        }
        for log in 1..=10_000_u64 {
            for base in 0..20 {
                let offset = Offset::new(base);
                let (segment, byte) = (segment(1), position);
                let batch = TailBatch { base_offset: offset, last_offset: offset, segment, byte, bytes: 1 };
                index.add_tail(LogId::new(log), batch);
                position += 1;
            }
        }
        index.evict_tail(LogPosition { segment: segment(2), byte: 0 });
        assert!(index.memory_bytes() < 10_000 * 300, "{} bytes", index.memory_bytes());
    }

    #[test]
    fn a_terabyte_of_a_thousand_partitions_costs_less_than_forty_megabytes() {
        let (logs, segments) = (1000_u64, 1_000_000_000_000 / u64::from(SEGMENT_BYTES_MAX));
        let mut index = Index::new(segment(1));
        for log in 1..=logs {
            index.create(LogId::new(log), Offset::ZERO);
        }
        for number in 1..=segments {
            let base_offset = Offset::new(i64::try_from(number).unwrap() * 100);
            let row = |log| DirectoryRow {
                log: LogId::new(log),
                extent_first: 0,
                extent_count: 1,
                base_offset,
                end_offset: base_offset.advance(100),
                timestamp_max: TimestampMs::new(0),
                bytes: SEGMENT_BYTES_MAX / 1000,
                extents_crc: 0,
            };
            let rows: Vec<DirectoryRow> = (1..=logs).map(row).collect();
            index.add_sealed(segment(number), &rows).unwrap();
        }
        assert!(index.memory_bytes() < 40_000_000, "{} bytes", index.memory_bytes());
    }

    #[test]
    fn eviction_takes_batches_below_the_position_of_every_log() {
        let mut index = one_log();
        let other = LogId::new(8);
        index.create(other, Offset::ZERO);
        for (log, base, byte) in [(LOG, 0, 4144), (other, 0, 4300), (LOG, 1, 4400), (LOG, 2, 4500)] {
            index.add(log, &entry(byte - 48, 100, base, base, 0)).unwrap();
            let base_offset = Offset::new(base);
            let segment = segment(1);
            index.add_tail(log, TailBatch { base_offset, last_offset: base_offset, segment, byte, bytes: 52 });
        }
        index.delete(other);
        index.evict_tail(LogPosition { segment: segment(1), byte: 4400 });
        assert!(index.tail(LOG, Offset::ZERO).is_none());
        let bytes: Vec<u32> = index.tail(LOG, Offset::new(1)).unwrap().map(|batch| batch.byte).collect();
        assert_eq!(bytes, [4400, 4500]);
        assert_eq!(index.tail(LOG, Offset::new(3)).unwrap().count(), 0);
    }

    /// An offset in a gap found the batch before it, which a consumer was given again and again.
    #[test]
    fn an_offset_in_a_gap_in_memory_finds_the_batch_behind_it() {
        let mut index = one_log();
        for (base, last, byte) in [(0, 3, 4144), (10, 11, 4400)] {
            index.add(LOG, &entry(byte - 48, 100, base, last, 0)).unwrap();
            let (base_offset, last_offset) = (Offset::new(base), Offset::new(last));
            index.add_tail(LOG, TailBatch { base_offset, last_offset, segment: segment(1), byte, bytes: 52 });
        }
        index.raise_end(LOG, Offset::new(20));
        let bytes = |from: i64| index.tail(LOG, Offset::new(from)).unwrap().map(|it| it.byte).collect::<Vec<u32>>();
        assert_eq!(bytes(3), [4144, 4400]);
        assert_eq!((bytes(4), bytes(9), bytes(11)), (vec![4400], vec![4400], vec![4400]));
        assert_eq!((bytes(12), bytes(19), bytes(20)), (vec![], vec![], vec![]));
    }

    #[test]
    fn what_left_the_tail_early_is_not_evicted_again() {
        let mut index = one_log();
        for at in 0..6 {
            let byte = 4144 + 200 * u32::try_from(at).unwrap();
            index.add(LOG, &entry(byte - 48, 100, at, at, 0)).unwrap();
            let (base_offset, last_offset) = (Offset::new(at), Offset::new(at));
            index.add_tail(LOG, TailBatch { base_offset, last_offset, segment: segment(1), byte, bytes: 52 });
        }
        index.drop_tail(LOG, Offset::new(3));
        let from = |index: &Index, offset: i64| index.tail(LOG, Offset::new(offset)).map(|batches| batches.count());
        assert_eq!((from(&index, 2), from(&index, 3), from(&index, 5)), (None, Some(3), Some(1)));
        index.evict_tail(LogPosition { segment: segment(1), byte: 4144 + 200 });
        assert_eq!(from(&index, 3), Some(3));
        index.evict_tail(LogPosition { segment: segment(1), byte: 4144 + 4 * 200 });
        assert_eq!((from(&index, 3), from(&index, 4)), (None, Some(2)));
        index.evict_tail(LogPosition { segment: segment(2), byte: 0 });
        assert_eq!(from(&index, 5), None);
    }

    /// What the model knows of a batch.
    #[derive(Clone, Copy)]
    struct Batch {
        base: i64,
        last: i64,
        timestamp: i64,
        segment: u64,
        position: u32,
        bytes: u32,
    }

    #[derive(Default)]
    struct Model {
        logs: BTreeMap<LogId, (i64, Vec<Batch>)>,
        sealed: BTreeMap<u64, Vec<DirectoryRow>>,
        open: u64,
    }

    impl Model {
        fn check(&self, index: &Index, random: &mut Random, seed: u64) {
            for (log, (start, batches)) in &self.logs {
                let end = batches.last().map_or(*start, |batch| (batch.last + 1).max(*start));
                assert_eq!(index.log_end(*log), Some(Offset::new(end)), "seed {seed}");
                let offset = i64::try_from(random.below(u64::try_from(end).unwrap() + 3)).unwrap();
                let place = index.locate(*log, Offset::new(offset), 1);
                let wanted = batches.iter().find(|batch| batch.last >= offset.max(*start));
                assert_eq!(place.as_ref().map(|p| p.segment.value()), wanted.map(|b| b.segment), "seed {seed}");
                if let (Some(place), Some(batch)) = (place, wanted)
                    && let PlaceExtents::Known(extents) = place.extents
                {
                    let first = extents[0];
                    assert!(first.position <= batch.position && batch.position < first.end(), "seed {seed}");
                }
                let timestamp = i64::try_from(random.below(100)).unwrap();
                let found = index.timestamp_at_or_after(*log, TimestampMs::new(timestamp), Offset::new(offset));
                let first = batches.iter().find(|b| b.last >= offset.max(*start) && b.timestamp >= timestamp);
                let found_segment = found.map_or(u64::MAX, |place| place.segment.value());
                assert!(found_segment <= first.map_or(u64::MAX, |b| b.segment), "seed {seed}");
                let live_bytes = |b: &&Batch| b.last >= *start;
                let exact: u32 = batches.iter().filter(live_bytes).map(|b| b.bytes).sum();
                assert!(index.log_bytes(*log) >= u64::from(exact), "seed {seed}");
                if let Some(oldest) = index.oldest(*log) {
                    let segment = batches.iter().find(live_bytes).unwrap().segment;
                    let run: Vec<&Batch> = batches.iter().filter(|b| b.segment == segment).collect();
                    assert_eq!(oldest.last_offset.value(), run.last().unwrap().last, "seed {seed}");
                    let greatest = run.iter().map(|b| b.timestamp).max().unwrap();
                    assert_eq!(oldest.timestamp_max.value(), greatest, "seed {seed}");
                    assert_eq!(oldest.bytes, u64::from(run.iter().map(|b| b.bytes).sum::<u32>()), "seed {seed}");
                } else {
                    assert!(!batches.iter().any(|b| b.last >= *start), "seed {seed}");
                }
            }
            let live: std::collections::BTreeSet<u64> = self.live().map(|batch| batch.segment).collect();
            let dead: Vec<u64> = self.sealed.keys().copied().filter(|number| !live.contains(number)).collect();
            let found: Vec<u64> = index.dead_segments().iter().map(|number| number.value()).collect();
            assert_eq!(found, dead, "seed {seed}");
        }

        fn live(&self) -> impl Iterator<Item = &Batch> {
            self.logs.values().flat_map(|(start, batches)| batches.iter().filter(move |batch| batch.last >= *start))
        }

        /// The index that recovery would build from the footers and a scan of the open segment.
        fn recovered(&self) -> Index {
            let mut index = Index::new(segment(1));
            for (log, (start, _)) in &self.logs {
                index.create(*log, Offset::new(*start));
            }
            for (number, rows) in &self.sealed {
                index.add_sealed(segment(*number), rows).unwrap();
            }
            index.set_open(segment(self.open)).unwrap();
            let mut open: Vec<(LogId, Batch)> = Vec::new();
            for (log, (_, batches)) in &self.logs {
                open.extend(batches.iter().filter(|b| b.segment == self.open).map(|b| (*log, *b)));
            }
            open.sort_by_key(|(_, batch)| batch.position);
            for (log, b) in open {
                index.add(log, &entry(b.position, b.bytes, b.base, b.last, b.timestamp)).unwrap();
            }
            index
        }
    }

    #[test]
    fn index_agrees_with_a_model_and_with_its_own_recovery() {
        for seed in 0..40 {
            let mut random = Random::new(seed);
            let mut model = Model { open: 1, ..Model::default() };
            let mut index = Index::new(segment(1));
            let mut position = 4096;
            let mut next_log = 1;
            for _ in 0..600 {
                let logs: Vec<LogId> = model.logs.keys().copied().collect();
                let chosen =
                    (!logs.is_empty()).then(|| logs[usize::try_from(random.below(logs.len() as u64)).unwrap()]);
                match (random.below(40), chosen) {
                    (0, _) | (_, None) => {
                        index.create(LogId::new(next_log), Offset::ZERO);
                        model.logs.insert(LogId::new(next_log), (0, Vec::new()));
                        next_log += 1;
                    }
                    (1, Some(log)) if logs.len() > 2 => {
                        index.delete(log);
                        model.logs.remove(&log);
                    }
                    (2..4, Some(log)) => {
                        let (start, batches) = model.logs.get_mut(&log).unwrap();
                        let end = batches.last().map_or(*start, |batch| batch.last + 1).max(*start);
                        *start += i64::try_from(random.below(u64::try_from(end - *start).unwrap() + 1)).unwrap();
                        index.set_log_start(log, Offset::new(*start));
                    }
                    (4..6, _) => {
                        let number = segment(model.open);
                        let incarnation = Incarnation::new(1);
                        let footer =
                            index.seal(&header(number), incarnation, position, number.next()).unwrap().unwrap();
                        let directory = &footer.bytes[..format::usize_of(footer.trailer.directory_bytes())];
                        model.sealed.insert(model.open, footer.trailer.decode_directory(directory).unwrap());
                        if random.below(2) == 0 {
                            index.footer_written(number);
                        }
                        model.open += 1;
                        position = 4096;
                    }
                    (6, _) => {
                        for number in index.dead_segments() {
                            index.remove_segment(number);
                            model.sealed.remove(&number.value());
                        }
                    }
                    (_, Some(log)) => {
                        let (start, batches) = model.logs.get_mut(&log).unwrap();
                        let base = batches.last().map_or(*start, |batch| batch.last + 1).max(*start);
                        let last = base + i64::try_from(random.below(5)).unwrap();
                        let timestamp = i64::try_from(random.below(100)).unwrap();
                        let bytes = u32::try_from(109 + random.below(2_000)).unwrap();
                        index.add(log, &entry(position, bytes, base, last, timestamp)).unwrap();
                        batches.push(Batch { base, last, timestamp, segment: model.open, position, bytes });
                        position += bytes;
                        if random.below(4) == 0 {
                            position = format::next_unit(position);
                        }
                    }
                }
                model.check(&index, &mut random, seed);
            }
            let recovered = model.recovered();
            model.check(&recovered, &mut random, seed);
            for log in model.logs.keys() {
                assert_eq!(recovered.log_bytes(*log), index.log_bytes(*log), "seed {seed}");
                assert_eq!(recovered.oldest(*log), index.oldest(*log), "seed {seed}");
            }
        }
    }
}
