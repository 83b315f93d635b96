//! How far ahead of the log space is prepared, and what is under way. Pure; `hot::zeroes` does it and says why.

use crate::limits::{FILL_AHEAD_BLOCKS_MAX, FILL_AHEAD_BLOCKS_MIN, FILL_AHEAD_MS};
use crate::store::format::UNIT_BYTES;
use crate::store::state::segments::SegmentFile;
use crate::types::{FileId, MonotonicUs};

/// Bytes of a file that zeroes are being written to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::store) struct Range {
    file: FileId,
    /// First byte, at a unit.
    start: u32,
    /// Behind the last byte, at a unit.
    end: u32,
}

/// What the fill task does next.
pub(in crate::store) struct Fill<F> {
    pub(in crate::store) file: F,
    pub(in crate::store) position: u32,
    pub(in crate::store) bytes: usize,
}

/// How far ahead of the log space is prepared, and what is under way.
#[derive(Debug, Default)]
pub(in crate::store) struct Preparation {
    pub(in crate::store) in_flight: Option<Range>,
    /// When traffic was measured last, and the bytes appended by then.
    pub(in crate::store) measured: (MonotonicUs, u64),
    /// Bytes appended in the last period.
    pub(in crate::store) period_bytes: u64,
}

impl Preparation {
    /// Whether a write to `[start, end)` of a file would touch zeroes in flight.
    pub(in crate::store) fn touches(&self, file: FileId, start: u32, end: u32) -> bool {
        self.in_flight.is_some_and(|range| range.file == file && range.start < end && start < range.end)
    }

    /// Nothing is in flight.
    pub(in crate::store) fn is_idle(&self) -> bool {
        self.in_flight.is_none()
    }

    /// Bytes appended per second of late; 0 when nobody measured.
    pub(in crate::store) fn bytes_per_second(&self, now: MonotonicUs) -> u64 {
        let is_recent = now.since_us(self.measured.0) / 1000 < 4 * FILL_AHEAD_MS;
        if is_recent { self.period_bytes * 1000 / FILL_AHEAD_MS } else { 0 }
    }

    /// Takes the next block of `file` that was never written, from `from` and below `until`.
    pub(in crate::store) fn take<F: Clone>(
        &mut self,
        file: &mut SegmentFile<F>,
        from: u32,
        until: u32,
        block_bytes: u32,
    ) -> Option<Fill<F>> {
        assert!(self.in_flight.is_none());
        assert!(from.is_multiple_of(UNIT_BYTES));
        let start = file.prepared.max(from);
        if start >= until.min(file.bytes) {
            return None;
        }
        let end = (start / block_bytes + 1).saturating_mul(block_bytes).min(file.bytes);
        // Also if the write fails: then no other follows.
        file.prepared = end;
        self.in_flight = Some(Range { file: file.id, start, end });
        let bytes = usize::try_from(end - start).expect("u32 fits usize");
        Some(Fill { file: file.file.clone(), position: start, bytes })
    }

    /// How far ahead to prepare, in bytes: the traffic of a quarter second, within bounds.
    pub(in crate::store) fn ahead_bytes(&mut self, now: MonotonicUs, appended_bytes: u64, block_bytes: u32) -> u32 {
        let (since, before) = self.measured;
        let elapsed_ms = now.since_us(since) / 1000;
        if elapsed_ms >= FILL_AHEAD_MS {
            self.period_bytes = (appended_bytes - before).saturating_mul(FILL_AHEAD_MS) / elapsed_ms;
            self.measured = (now, appended_bytes);
        }
        let bytes_min = block_bytes.saturating_mul(FILL_AHEAD_BLOCKS_MIN);
        let bytes_max = block_bytes.saturating_mul(FILL_AHEAD_BLOCKS_MAX);
        u32::try_from(self.period_bytes).unwrap_or(u32::MAX).clamp(bytes_min, bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u32 = 16 * 1024;

    fn file(prepared: u32) -> SegmentFile<()> {
        SegmentFile { id: FileId::new(4), bytes: 4 * BLOCK, prepared, file: () }
    }

    fn taken(preparation: &mut Preparation, file: &mut SegmentFile<()>, from: u32, until: u32) -> Option<(u32, u32)> {
        let fill = preparation.take(file, from, until, BLOCK)?;
        preparation.in_flight = None;
        Some((fill.position, fill.position + u32::try_from(fill.bytes).unwrap()))
    }

    #[test]
    fn zeroes_go_block_by_block_behind_the_log_and_never_where_it_was_written_before() {
        let mut preparation = Preparation::default();
        let mut fresh = file(0);
        assert_eq!(taken(&mut preparation, &mut fresh, 8192, 3 * BLOCK), Some((8192, BLOCK)));
        assert_eq!(taken(&mut preparation, &mut fresh, 8192, 3 * BLOCK), Some((BLOCK, 2 * BLOCK)));
        assert_eq!(taken(&mut preparation, &mut fresh, 3 * BLOCK, 3 * BLOCK), None, "far enough");
        assert_eq!(taken(&mut preparation, &mut fresh, 3 * BLOCK, 9 * BLOCK), Some((3 * BLOCK, 4 * BLOCK)));
        assert_eq!(taken(&mut preparation, &mut fresh, 3 * BLOCK, 9 * BLOCK), None, "the file ends");
        assert_eq!(taken(&mut preparation, &mut file(4 * BLOCK), 4096, 9 * BLOCK), None, "it was a segment before");
    }

    #[test]
    fn writes_that_share_a_unit_with_zeroes_in_flight_collide() {
        let mut preparation = Preparation::default();
        preparation.take(&mut file(BLOCK), 0, 2 * BLOCK, BLOCK).unwrap();
        let id = FileId::new(4);
        assert!(preparation.touches(id, BLOCK - 4096, BLOCK + 4096));
        assert!(preparation.touches(id, 2 * BLOCK - 4096, 2 * BLOCK));
        assert!(!preparation.touches(id, 0, BLOCK));
        assert!(!preparation.touches(id, 2 * BLOCK, 3 * BLOCK));
        assert!(!preparation.touches(FileId::new(5), BLOCK, 2 * BLOCK));
    }

    #[test]
    fn distance_follows_the_traffic_within_bounds() {
        let mut preparation = Preparation::default();
        let mut ahead =
            |ms: u64, appended| preparation.ahead_bytes(MonotonicUs::new(ms * 1000), appended, BLOCK) / BLOCK;
        assert_eq!(ahead(100, 1 << 30), 8, "not measured yet");
        assert_eq!(ahead(500, 40 * u64::from(BLOCK)), 20, "a quarter second of what came in half a second");
        assert_eq!(ahead(600, 1 << 30), 20);
        assert_eq!(ahead(750, 1 << 30), 64);
        assert_eq!(ahead(1000, 1 << 30), 8);
    }
}
