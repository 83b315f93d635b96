//! Neighbouring extents that are read as one. Pure.

use std::ops::Range;

use crate::store::format::{Extent, UNIT_BYTES, next_unit};

/// Extents that are read as one: they lie near each other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::store) struct Run {
    /// Whole units, in bytes of the segment.
    pub(in crate::store) start: u32,
    pub(in crate::store) end: u32,
    /// Which of the extents that were given.
    pub(in crate::store) extents: Range<usize>,
}

impl Run {
    /// The units of one extent alone.
    pub(in crate::store) fn of(extent: &Extent) -> Run {
        let start = extent.position - extent.position % UNIT_BYTES;
        Run { start, end: next_unit(extent.end()), extents: 0..1 }
    }
}

/// Splits extents, ascending by position, into runs of at most `bytes_max`, but for a single one that is larger. Up to `gap_bytes`
/// between two of them are read for nothing.
pub(in crate::store) fn runs<'a>(
    extents: impl IntoIterator<Item = &'a Extent>,
    gap_bytes: u32,
    bytes_max: u32,
) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (index, extent) in extents.into_iter().enumerate() {
        let own = Run::of(extent);
        match runs.last_mut() {
            Some(run) if own.start <= run.end + gap_bytes && own.end - run.start <= bytes_max => {
                run.end = run.end.max(own.end);
                run.extents.end = index + 1;
            }
            _ => runs.push(Run { extents: index..index + 1, ..own }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Offset, TimestampMs};

    fn extent(position: u32, bytes: u32) -> Extent {
        Extent { base_offset: Offset::ZERO, timestamp_max: TimestampMs::NONE, position, bytes }
    }

    #[test]
    fn neighbours_are_read_together_up_to_a_bound() {
        let most = 256 * 1024;
        let extents = [extent(4096, 100), extent(4300, 5000), extent(24_000, 100), extent(24_576, most)];
        let found: Vec<(u32, u32, Range<usize>)> =
            runs(&extents, UNIT_BYTES, most).into_iter().map(|run| (run.start, run.end, run.extents)).collect();
        assert_eq!(found, [(4096, 12_288, 0..2), (20_480, 24_576, 2..3), (24_576, 24_576 + most, 3..4)]);
    }
}
