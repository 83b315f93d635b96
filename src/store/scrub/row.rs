//! Parts of rows, and whether they hold what was written. Pure.

use crate::store::format::{DirectoryRow, Extent, usize_of};
use crate::store::scan::{damaged_at, entry_of_row};
use crate::types::SegmentNumber;

/// An extent, and the row of the directory that it is part of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) row: u32,
    pub(super) extent: Extent,
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
        let (entry, indexed) = entry_of_row(number, row, extent, rest)?;
        rest = &rest[usize_of(indexed.bytes)..];
        let damaged = |what: &str| damaged_at(number, indexed.position, what);
        if expected.take().is_some_and(|expected| expected != indexed.base_offset) {
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
