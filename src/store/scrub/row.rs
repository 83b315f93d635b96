//! Parts of rows: which are read at once, and whether they hold what was written. Pure.

use std::ops::Range;

use crate::limits::SCRUB_READ_BYTES;
use crate::store::format::{DirectoryRow, Entry, Extent, UNIT_BYTES, next_unit};
use crate::store::scan::indexed_entry;
use crate::types::SegmentNumber;

/// An extent, and the row of the directory that it is part of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) row: u32,
    pub(super) extent: Extent,
}

/// Parts that are read as one: they lie near each other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Run {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) parts: Range<usize>,
}

impl Run {
    /// The units of one part alone.
    pub(super) fn of(part: &Part) -> Run {
        let position = part.extent.position;
        Run { start: position - position % UNIT_BYTES, end: next_unit(part.extent.end()), parts: 0..1 }
    }
}

/// Splits parts, ascending, into runs of at most [`SCRUB_READ_BYTES`], but for a single one that is larger.
pub(super) fn runs(parts: &[Part]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let own = Run::of(part);
        match runs.last_mut() {
            Some(run) if own.start <= run.end + UNIT_BYTES && own.end - run.start <= SCRUB_READ_BYTES => {
                run.end = run.end.max(own.end);
                run.parts.end = index + 1;
            }
            _ => runs.push(Run { parts: index..index + 1, ..own }),
        }
    }
    runs
}

/// Checks every entry of an extent and every batch in it.
///
/// Errors: in words, where it is not what the row and the extent say, or what was written.
pub(super) fn check_extent(
    number: SegmentNumber,
    row: &DirectoryRow,
    extent: &Extent,
    bytes: &[u8],
) -> Result<(), String> {
    let mut rest = bytes;
    let mut expected = Some(extent.base_offset);
    while !rest.is_empty() {
        let position = extent.end() - u32::try_from(rest.len()).expect("within an extent");
        let damaged = |what: &str| format!("segment {number} is damaged at byte {position}: {what}");
        let entry = Entry::decode(rest).map_err(|error| damaged(&error.to_string()))?;
        rest = &rest[usize::try_from(entry.header.entry_bytes()).expect("it lies in memory")..];
        if entry.header.log != row.log || entry.header.segment != number {
            return Err(damaged("the entry is another log's or of another life of the file"));
        }
        let Some(indexed) = indexed_entry(position, &entry) else { return Err(damaged("its offsets do not ascend")) };
        let is_inside = indexed.base_offset >= row.base_offset && indexed.last_offset < row.end_offset;
        if !is_inside || expected.take().is_some_and(|expected| expected != indexed.base_offset) {
            return Err(damaged("its offsets are not those of its row"));
        }
        if !entry.batches().all(|batch| batch.crc_matches()) {
            return Err(damaged("the crc of a batch differs"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::format::tests::{append, batch};
    use crate::types::{LogId, Offset, TimestampMs};

    fn part(position: u32, bytes: u32) -> Part {
        let (base_offset, timestamp_max) = (Offset::ZERO, TimestampMs::NONE);
        Part { row: 0, extent: Extent { base_offset, timestamp_max, position, bytes } }
    }

    #[test]
    fn neighbours_are_read_together_up_to_a_bound() {
        let parts = [part(4096, 100), part(4300, 5000), part(24_000, 100), part(24_576, SCRUB_READ_BYTES)];
        let found: Vec<(u32, u32, Range<usize>)> =
            runs(&parts).into_iter().map(|run| (run.start, run.end, run.parts)).collect();
        let last = 24_576 + SCRUB_READ_BYTES;
        assert_eq!(found, [(4096, 12_288, 0..2), (20_480, 24_576, 2..3), (24_576, last, 3..4)]);
    }

    #[test]
    fn every_flipped_bit_of_an_extent_is_found() {
        let (log, number) = (LogId::new(5), SegmentNumber::new(9));
        let bytes = append(log, number, &[batch(10, 19, 5, 100, 1), batch(20, 29, 6, 90, 2)]);
        let count = u32::try_from(bytes.len()).unwrap();
        let base_offset = Offset::new(10);
        let extent = Extent { base_offset, timestamp_max: TimestampMs::new(6), position: 4096, bytes: count };
        let row = DirectoryRow {
            log,
            extent_first: 0,
            extent_count: 1,
            base_offset,
            end_offset: Offset::new(30),
            timestamp_max: TimestampMs::new(6),
            bytes: count,
            extents_crc: 0,
        };
        assert_eq!(check_extent(number, &row, &extent, &bytes), Ok(()));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(check_extent(number, &row, &extent, &flipped).is_err(), "bit {bit}");
        }
        let elsewhere = Extent { base_offset: Offset::new(11), ..extent };
        assert!(check_extent(number, &row, &elsewhere, &bytes).is_err());
        assert!(check_extent(SegmentNumber::new(8), &row, &extent, &bytes).is_err());
    }
}
