//! A footer against the entries that it describes: each in its extent, each extent full, the sums right.
//!
//! Pure. Entries come in the order of their positions. Holds the extents of one segment, which its footer bounds.

use std::collections::BTreeSet;
use std::ops::Range;

use super::segment::FaultPart;
use crate::store::format::{DirectoryRow, Extent, usize_of};
use crate::store::index::IndexedEntry;
use crate::types::{LogId, Offset, TimestampMs};

/// A footer as it was read.
#[derive(Clone, Debug, Default)]
pub(super) struct FooterContent {
    pub(super) rows: Vec<DirectoryRow>,
    /// Those of all rows, one after the other.
    pub(super) extents: Vec<Extent>,
    /// Rows whose extents cannot be read, and where those stand. They have none in `extents`.
    pub(super) broken: Vec<(u32, Range<u32>)>,
}

/// See the module.
pub(super) struct Cross {
    rows: Vec<Tally>,
    extents: Vec<Placed>,
    /// The first extent that does not end before the entry that came last.
    at: usize,
    /// Where the entries of that extent that were whole have come to.
    whole_end: Option<Offset>,
}

/// A row, and what its entries come to.
struct Tally {
    row: DirectoryRow,
    is_broken: bool,
    /// Entries of it are damaged, so that nothing can be said of the sums.
    is_touched: bool,
    bytes: u64,
    timestamp_max: TimestampMs,
}

/// An extent, the row that it belongs to, and where its offsets end.
struct Placed {
    extent: Extent,
    row: u32,
    end_offset: Offset,
}

impl FooterContent {
    /// The extents of a row; none where they cannot be read.
    pub(super) fn own_extents(&self, row: u32) -> &[Extent] {
        let is_broken = |row: u32| self.broken.iter().any(|(broken, _)| *broken == row);
        if is_broken(row) {
            return &[];
        }
        let before = (0..).zip(&self.rows[..usize_of(row)]).filter(|(before, _)| !is_broken(*before));
        let first: usize = before.map(|(_, row)| usize_of(row.extent_count)).sum();
        &self.extents[first..first + usize_of(self.rows[usize_of(row)].extent_count)]
    }
}

impl Cross {
    pub(super) fn new(footer: &FooterContent) -> Cross {
        let broken: BTreeSet<u32> = footer.broken.iter().map(|(row, _)| *row).collect();
        let mut rows = Vec::new();
        let mut extents = Vec::new();
        let mut first = 0;
        for (index, row) in (0..).zip(&footer.rows) {
            let is_broken = broken.contains(&index);
            let (is_touched, bytes, timestamp_max) = (false, 0, TimestampMs::NONE);
            rows.push(Tally { row: *row, is_broken, is_touched, bytes, timestamp_max });
            if is_broken {
                continue;
            }
            let own = &footer.extents[first..first + usize_of(row.extent_count)];
            first += own.len();
            let ends = own.iter().skip(1).map(|next| next.base_offset).chain([row.end_offset]);
            extents.extend(own.iter().zip(ends).map(|(extent, end_offset)| Placed {
                extent: *extent,
                row: index,
                end_offset,
            }));
        }
        extents.sort_by_key(|placed| placed.extent.position);
        Cross { rows, extents, at: 0, whole_end: None }
    }

    /// Takes in an entry of batches. Gives what is wrong with the footer, if it is.
    pub(super) fn on_entry(&mut self, log: LogId, entry: &IndexedEntry) -> Option<(&'static str, FaultPart)> {
        self.come_to(entry.position);
        let end_offset = entry.last_offset.advance(1);
        let Some(placed) = self.extents.get(self.at).filter(|placed| placed.extent.position <= entry.position) else {
            return self.left_out(log, entry);
        };
        let tally = &mut self.rows[usize_of(placed.row)];
        let part = FaultPart {
            row: Some(placed.row),
            log: tally.row.log,
            base: placed.extent.base_offset,
            end: placed.end_offset,
        };
        let is_first = placed.extent.position == entry.position;
        let is_inside = entry.position + entry.bytes <= placed.extent.end();
        let offsets_fit = entry.base_offset >= placed.extent.base_offset && end_offset <= placed.end_offset;
        if log != tally.row.log
            || !is_inside
            || !offsets_fit
            || (is_first && entry.base_offset != placed.extent.base_offset)
        {
            tally.is_touched = true;
            return Some(("the footer says something else of this entry", part));
        }
        tally.bytes += u64::from(entry.bytes);
        tally.timestamp_max = tally.timestamp_max.max(entry.timestamp_max);
        self.whole_end = Some(end_offset);
        None
    }

    /// What cannot be read of the segment in these bytes: to the end of each extent, as readers go by extents.
    pub(super) fn on_hole(&mut self, hole: &Range<u32>) -> Vec<FaultPart> {
        self.come_to(hole.start);
        let mut parts: Vec<FaultPart> = Vec::new();
        for placed in self.extents[self.at..].iter().take_while(|placed| placed.extent.position < hole.end) {
            let tally = &mut self.rows[usize_of(placed.row)];
            tally.is_touched = true;
            let is_begun = placed.extent.position < hole.start;
            let base = self.whole_end.filter(|_| is_begun).unwrap_or(placed.extent.base_offset);
            let part = FaultPart { row: Some(placed.row), log: tally.row.log, base, end: placed.end_offset };
            match parts.iter_mut().find(|other| other.row == part.row && other.end == part.base) {
                Some(before) => before.end = part.end,
                None => parts.push(part),
            }
        }
        parts
    }

    /// One batch of the entry that starts at `position` is damaged.
    pub(super) fn on_damaged_batch(&mut self, position: u32, log: LogId, base: Offset, end: Offset) -> FaultPart {
        self.come_to(position);
        let placed = self.extents.get(self.at).filter(|placed| placed.extent.position <= position);
        let row = placed.map(|placed| placed.row).filter(|row| self.rows[usize_of(*row)].row.log == log);
        FaultPart { row, log, base, end }
    }

    /// All entries were given: rows of which something is left that no entry accounts for.
    pub(super) fn finish(&self) -> impl Iterator<Item = FaultPart> {
        let is_wrong = |tally: &Tally| {
            let sums = tally.bytes == u64::from(tally.row.bytes) && tally.timestamp_max == tally.row.timestamp_max;
            !sums && !tally.is_broken && !tally.is_touched
        };
        let wrong = (0..).zip(&self.rows).filter(move |(_, tally)| is_wrong(tally));
        wrong.map(|(index, tally)| whole_row(index, &tally.row))
    }

    fn come_to(&mut self, position: u32) {
        while self.extents.get(self.at).is_some_and(|placed| placed.extent.end() <= position) {
            self.at += 1;
            self.whole_end = None;
        }
    }

    /// An entry that is in no extent: of a log that was not known any more, or one that the footer forgot.
    fn left_out(&mut self, log: LogId, entry: &IndexedEntry) -> Option<(&'static str, FaultPart)> {
        let behind =
            self.rows.partition_point(|tally| (tally.row.log, tally.row.base_offset) <= (log, entry.base_offset));
        let index = behind.checked_sub(1)?;
        let tally = &mut self.rows[index];
        if tally.row.log != log || tally.is_broken || entry.base_offset >= tally.row.end_offset {
            return None;
        }
        tally.is_touched = true;
        let end = entry.last_offset.advance(1);
        let row = Some(u32::try_from(index).expect("rows fit a segment"));
        Some(("the footer leaves this entry out", FaultPart { row, log, base: entry.base_offset, end }))
    }
}

/// All of a row.
pub(super) fn whole_row(index: u32, row: &DirectoryRow) -> FaultPart {
    FaultPart { row: Some(index), log: row.log, base: row.base_offset, end: row.end_offset }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: LogId = LogId::new(7);

    fn entry(position: u32, base: i64) -> IndexedEntry {
        IndexedEntry {
            position,
            bytes: 100,
            base_offset: Offset::new(base),
            last_offset: Offset::new(base + 9),
            timestamp_max: TimestampMs::new(base),
        }
    }

    /// One log with two extents of two entries and one of one, another's entry between them.
    fn footer() -> FooterContent {
        let extent = |position, base: i64, bytes| Extent {
            base_offset: Offset::new(base),
            timestamp_max: TimestampMs::new(base),
            position,
            bytes,
        };
        let row = DirectoryRow {
            log: LOG,
            extent_first: 0,
            extent_count: 2,
            base_offset: Offset::ZERO,
            end_offset: Offset::new(30),
            timestamp_max: TimestampMs::new(20),
            bytes: 300,
            extents_crc: 0,
        };
        let extents = vec![extent(4096, 0, 200), extent(4400, 20, 100)];
        FooterContent { rows: vec![row], extents, broken: Vec::new() }
    }

    #[test]
    fn a_footer_that_says_what_is_there_is_right() {
        let mut cross = Cross::new(&footer());
        for (log, entry) in [(LOG, entry(4096, 0)), (LOG, entry(4196, 10)), (LogId::new(9), entry(4296, 0))] {
            assert!(cross.on_entry(log, &entry).is_none());
        }
        assert!(cross.on_entry(LOG, &entry(4400, 20)).is_none());
        assert_eq!(cross.finish().count(), 0);
    }

    #[test]
    fn what_differs_is_told_with_its_offsets() {
        let range = |part: FaultPart| (part.row, part.base.value(), part.end.value());
        let mut cross = Cross::new(&footer());
        let (_, part) = cross.on_entry(LOG, &entry(4096, 5)).unwrap();
        assert_eq!(range(part), (Some(0), 0, 20), "another offset");
        let (_, part) = cross.on_entry(LOG, &entry(4300, 20)).unwrap();
        assert_eq!(range(part), (Some(0), 20, 30), "in no extent");
        let mut cross = Cross::new(&footer());
        assert!(cross.on_entry(LOG, &entry(4096, 0)).is_none());
        assert!(cross.on_entry(LOG, &entry(4400, 20)).is_none());
        assert_eq!(cross.finish().map(range).collect::<Vec<_>>(), [(Some(0), 0, 30)], "one entry is missing");
    }

    #[test]
    fn a_hole_takes_the_rest_of_each_extent_that_it_touches() {
        let range = |part: &FaultPart| (part.base.value(), part.end.value());
        let mut cross = Cross::new(&footer());
        cross.on_entry(LOG, &entry(4096, 0));
        assert_eq!(cross.on_hole(&(4196..4250)).iter().map(range).collect::<Vec<_>>(), [(10, 20)]);
        let mut cross = Cross::new(&footer());
        assert_eq!(cross.on_hole(&(4100..4500)).iter().map(range).collect::<Vec<_>>(), [(0, 30)]);
        assert_eq!(cross.finish().count(), 0);
        assert!(Cross::new(&footer()).on_hole(&(4500..9000)).is_empty());
    }
}
