//! The index of a cold segment that is being built, or read without its footer: rows and their extents, several for one log.
//!
//! In memory, pure. Invariant: what it says of the footer's size is what
//! [`Footer::encode`](crate::store::format::Footer::encode) makes of it.

use crate::store::format::{self, DirectoryRow, Extent};
use crate::store::index::{IndexedEntry, u32_of};
use crate::types::{LogId, Offset};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct ColdSegmentIndex {
    /// In the order in which they were added; each with its own extents.
    rows: Vec<(DirectoryRow, Vec<Extent>)>,
    extents: u32,
}

/// What a [`ColdSegmentIndex`] was at some time.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    rows: usize,
    extents: u32,
    /// The last row, its extents, and the last of them.
    last: Option<(DirectoryRow, usize, Option<Extent>)>,
}

impl ColdSegmentIndex {
    /// An empty segment.
    pub fn new() -> ColdSegmentIndex {
        ColdSegmentIndex::default()
    }

    /// Enters the next entry of `log`: into the row before it when `joins`, which then is of the same log and ends where this
    /// begins.
    pub fn add(&mut self, log: LogId, entry: &IndexedEntry, joins: bool) {
        let end_offset = entry.last_offset.advance(1);
        let extent = Extent {
            base_offset: entry.base_offset,
            timestamp_max: entry.timestamp_max,
            position: entry.position,
            bytes: entry.bytes,
        };
        if !joins {
            self.extents += 1;
            let row = DirectoryRow {
                log,
                extent_first: 0,
                extent_count: 1,
                base_offset: entry.base_offset,
                end_offset,
                timestamp_max: entry.timestamp_max,
                bytes: entry.bytes,
                extents_crc: 0,
            };
            self.rows.push((row, vec![extent]));
            return;
        }
        let (row, extents) = self.rows.last_mut().expect("a row to join");
        assert!((row.log, row.end_offset) == (log, entry.base_offset));
        row.end_offset = end_offset;
        row.timestamp_max = row.timestamp_max.max(entry.timestamp_max);
        row.bytes += entry.bytes;
        match extents.last_mut() {
            Some(last) if last.takes(entry.position, entry.bytes) => {
                last.bytes += entry.bytes;
                last.timestamp_max = last.timestamp_max.max(entry.timestamp_max);
            }
            _ => {
                self.extents += 1;
                row.extent_count += 1;
                extents.push(extent);
            }
        }
    }

    /// What [`ColdSegmentIndex::take_back`] goes back to.
    pub fn mark(&self) -> Mark {
        let last = self.rows.last().map(|(row, extents)| (*row, extents.len(), extents.last().copied()));
        Mark { rows: self.rows.len(), extents: self.extents, last }
    }

    /// Forgets what was added since `mark`.
    pub fn take_back(&mut self, mark: Mark) {
        self.rows.truncate(mark.rows);
        self.extents = mark.extents;
        if let (Some((row, extents)), Some((row_before, count, last_before))) = (self.rows.last_mut(), mark.last) {
            *row = row_before;
            extents.truncate(count);
            if let (Some(last), Some(before)) = (extents.last_mut(), last_before) {
                *last = before;
            }
        }
    }

    /// The row that was added last.
    pub fn last(&self) -> Option<&DirectoryRow> {
        self.rows.last().map(|(row, _)| row)
    }

    /// Offset after the last entry of `log`, if that is the log of the last one.
    pub fn end_of(&self, log: LogId) -> Option<Offset> {
        self.last().filter(|row| row.log == log).map(|row| row.end_offset)
    }

    /// Forgets the rows for which `keep` says no. What they took in the segment stays unused.
    pub fn retain(&mut self, mut keep: impl FnMut(&DirectoryRow) -> bool) {
        self.rows.retain(|(row, _)| keep(row));
        self.extents = self.rows.iter().map(|(row, _)| row.extent_count).sum();
    }

    /// True when nothing was added.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of the footer with so many rows and extents more.
    pub fn footer_bytes_with(&self, rows: u32, extents: u32) -> u64 {
        format::footer_bytes(u32_of(self.rows.len()) + rows, self.extents + extents, 0)
    }

    /// Directory rows, sorted by log and offset, and extents in the same order. Ranges and crc of the rows are set by
    /// [`Footer::encode`](crate::store::format::Footer::encode).
    pub fn seal(mut self) -> (Vec<DirectoryRow>, Vec<Extent>) {
        self.rows.sort_unstable_by_key(|(row, _)| (row.log, row.base_offset));
        let mut extents = Vec::with_capacity(format::usize_of(self.extents));
        let mut rows = Vec::with_capacity(self.rows.len());
        for (mut row, own) in self.rows {
            row.extent_first = u32_of(extents.len());
            extents.extend(own);
            rows.push(row);
        }
        (rows, extents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TimestampMs;

    fn entry(position: u32, bytes: u32, base: i64, last: i64) -> IndexedEntry {
        IndexedEntry {
            position,
            bytes,
            base_offset: Offset::new(base),
            last_offset: Offset::new(last),
            timestamp_max: TimestampMs::new(last),
        }
    }

    #[test]
    fn rows_come_out_by_log_and_offset_whatever_their_order_in_the_segment() {
        let (one, two) = (LogId::new(1), LogId::new(2));
        let mut index = ColdSegmentIndex::new();
        index.add(two, &entry(4096, 1000, 0, 9), false);
        index.add(two, &entry(5096, 65_000, 10, 19), true);
        index.add(one, &entry(70_096, 500, 50, 59), false);
        index.add(one, &entry(70_596, 500, 70, 79), false);
        assert_eq!(index.end_of(one), Some(Offset::new(80)));
        assert_eq!(index.end_of(two), None);
        let expected = index.footer_bytes_with(0, 0);
        let (rows, extents) = index.seal();
        let found: Vec<(u64, i64, i64, u32, u32)> = rows
            .iter()
            .map(|row| {
                let (base, end) = (row.base_offset.value(), row.end_offset.value());
                (row.log.value(), base, end, row.extent_first, row.extent_count)
            })
            .collect();
        assert_eq!(found, [(1, 50, 60, 0, 1), (1, 70, 80, 1, 1), (2, 0, 20, 2, 2)]);
        assert_eq!(extents.iter().map(|extent| extent.position).collect::<Vec<_>>(), [70_096, 70_596, 4096, 5096]);
        assert_eq!(expected, format::footer_bytes(3, 4, 0));
    }

    #[test]
    fn what_is_taken_back_was_never_there() {
        let log = LogId::new(1);
        let mut index = ColdSegmentIndex::new();
        index.add(log, &entry(4096, 1000, 0, 9), false);
        let before = index.clone();
        let mark = index.mark();
        // Into the same extent, into one of its own, and into another row.
        index.add(log, &entry(5096, 500, 10, 19), true);
        index.add(log, &entry(5596, 65_000, 20, 29), true);
        index.add(LogId::new(2), &entry(70_596, 500, 0, 9), false);
        index.take_back(mark);
        assert_eq!(index.footer_bytes_with(0, 0), before.footer_bytes_with(0, 0));
        assert_eq!(index.seal(), before.seal());
        let mut empty = ColdSegmentIndex::new();
        let mark = empty.mark();
        empty.add(log, &entry(4096, 1000, 0, 9), false);
        empty.take_back(mark);
        assert!(empty.is_empty());
    }
}
