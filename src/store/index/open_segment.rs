//! The index of the segment that is being filled: extents by log, and the size of the footer they will make.
//!
//! In memory, pure; part of the core's [`Index`](crate::store::index::Index). Invariant: what it says of the footer's size
//! is what [`Footer::encode`](crate::store::format::Footer::encode) makes of it when sealed.

use crate::store::format::{self, DirectoryRow, Extent};
use crate::store::index::{IndexedEntry, u32_of};
use crate::types::{LogId, Offset, StableMap, TimestampMs};

/// What the open segment holds of one log.
#[derive(Clone, Debug)]
pub(crate) struct OpenRun {
    /// Never empty, by offset and by position.
    pub(crate) extents: Vec<Extent>,
    /// Offset after its last record.
    pub(crate) end_offset: Offset,
    /// Greatest timestamp in it.
    pub(crate) timestamp_max: TimestampMs,
    /// Bytes of its entries, headers included.
    pub(crate) bytes: u32,
}

impl OpenRun {
    /// Offset of its first record.
    pub(crate) fn base_offset(&self) -> Offset {
        self.extents[0].base_offset
    }
}

/// The extents of the segment that is being filled, by log, and the size of the footer they will make.
///
/// Keeps what was deleted meanwhile: a deletion that a crash takes back must find its data in the footer.
#[derive(Clone, Debug, Default)]
pub struct OpenSegmentIndex {
    runs: StableMap<LogId, OpenRun>,
    extents: u32,
    /// Bytes of all entries.
    bytes: u64,
}

impl OpenSegmentIndex {
    /// An empty segment.
    pub fn new() -> OpenSegmentIndex {
        OpenSegmentIndex::default()
    }

    /// Enters the next entry of `log`.
    pub fn add(&mut self, log: LogId, entry: &IndexedEntry) {
        assert!(entry.base_offset <= entry.last_offset);
        let run = self.runs.entry(log).or_insert_with(|| OpenRun {
            extents: Vec::new(),
            end_offset: entry.base_offset,
            timestamp_max: entry.timestamp_max,
            bytes: 0,
        });
        assert!(run.end_offset <= entry.base_offset);
        run.end_offset = entry.last_offset.advance(1);
        run.timestamp_max = run.timestamp_max.max(entry.timestamp_max);
        run.bytes += entry.bytes;
        self.bytes += u64::from(entry.bytes);
        match run.extents.last_mut() {
            Some(extent) if extent.takes(entry.position, entry.bytes) => {
                extent.bytes += entry.bytes;
                extent.timestamp_max = extent.timestamp_max.max(entry.timestamp_max);
            }
            _ => {
                self.extents += 1;
                run.extents.push(Extent {
                    base_offset: entry.base_offset,
                    timestamp_max: entry.timestamp_max,
                    position: entry.position,
                    bytes: entry.bytes,
                });
            }
        }
    }

    /// Bytes of the footer if an entry of `entry_bytes` of `log` came next at `position`.
    pub fn footer_bytes_with(&self, log: LogId, position: u32, entry_bytes: u32) -> u64 {
        let run = self.runs.get(&log);
        let joins = run.is_some_and(|run| run.extents.last().is_some_and(|extent| extent.takes(position, entry_bytes)));
        format::footer_bytes(self.rows() + u32::from(run.is_none()), self.extents + u32::from(!joins), 0)
    }

    /// No footer is larger after one more entry, whatever its log: told without looking at any.
    pub fn footer_bytes_max_with_one(&self) -> u64 {
        format::footer_bytes(self.rows() + 1, self.extents + 1, 0)
    }

    /// Bytes of the footer as things stand: what a control entry, which needs no row, leaves it at.
    pub fn footer_bytes(&self) -> u64 {
        format::footer_bytes(self.rows(), self.extents, 0)
    }

    /// True when no batch was entered.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Directory rows, sorted by log id, and extents in the same order. Ranges and crc of the rows are set by
    /// [`Footer::encode`].
    pub fn seal(self) -> (Vec<DirectoryRow>, Vec<Extent>) {
        let mut runs: Vec<(LogId, OpenRun)> = self.runs.into_iter().collect();
        runs.sort_unstable_by_key(|(log, _)| *log);
        let mut extents = Vec::with_capacity(format::usize_of(self.extents));
        let mut rows = Vec::with_capacity(runs.len());
        for (log, run) in runs {
            rows.push(DirectoryRow {
                log,
                extent_first: u32_of(extents.len()),
                extent_count: u32_of(run.extents.len()),
                base_offset: run.base_offset(),
                end_offset: run.end_offset,
                timestamp_max: run.timestamp_max,
                bytes: run.bytes,
                extents_crc: 0,
            });
            extents.extend_from_slice(&run.extents);
        }
        (rows, extents)
    }

    /// Bytes of its entries of batches, headers included.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it holds of a log.
    pub(crate) fn run(&self, log: LogId) -> Option<&OpenRun> {
        self.runs.get(&log)
    }

    /// Bytes of memory held, roughly.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.runs.capacity() * (size_of::<(LogId, OpenRun)>() + 1)
            + format::usize_of(self.extents) * size_of::<Extent>()
    }

    fn rows(&self) -> u32 {
        u32_of(self.runs.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::random::Random;

    const LOG: LogId = LogId::new(7);

    fn entry(position: u32, bytes: u32, base: i64, last: i64, timestamp: i64) -> IndexedEntry {
        IndexedEntry {
            position,
            bytes,
            base_offset: Offset::new(base),
            last_offset: Offset::new(last),
            timestamp_max: TimestampMs::new(timestamp),
        }
    }

    #[test]
    fn contiguous_entries_share_an_extent_up_to_its_bound() {
        let mut open = OpenSegmentIndex::new();
        open.add(LOG, &entry(4096, 30_000, 0, 9, 5));
        open.add(LOG, &entry(34_096, 30_000, 10, 19, 9));
        open.add(LOG, &entry(64_096, 30_000, 20, 29, 7));
        open.add(LOG, &entry(98_304, 100, 30, 30, 7));
        let (rows, extents) = open.seal();
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].base_offset, rows[0].end_offset), (Offset::ZERO, Offset::new(31)));
        assert_eq!(rows[0].timestamp_max, TimestampMs::new(9));
        assert_eq!(rows[0].bytes, 90_100);
        let found: Vec<(i64, u32, u32)> =
            extents.iter().map(|e| (e.base_offset.value(), e.position, e.bytes)).collect();
        assert_eq!(found, [(0, 4096, 60_000), (20, 64_096, 30_000), (30, 98_304, 100)]);
    }

    #[test]
    fn footer_size_is_known_before_the_entry_is_added() {
        let mut random = Random::new(3);
        let mut open = OpenSegmentIndex::new();
        let mut position = 4096;
        let mut ends = [0_i64; 200];
        for _ in 0..2_000 {
            let log = random.below(200);
            let bytes = u32::try_from(100 + random.below(200)).unwrap();
            let expected = open.footer_bytes_with(LogId::new(log + 1), position, bytes);
            assert!(expected <= open.footer_bytes_max_with_one());
            let end = &mut ends[usize::try_from(log).unwrap()];
            open.add(LogId::new(log + 1), &entry(position, bytes, *end, *end, 0));
            *end += 1;
            assert_eq!(open.footer_bytes(), expected);
            position += bytes;
        }
        let (rows, extents) = open.clone().seal();
        let size = format::footer_bytes(u32_of(rows.len()), u32_of(extents.len()), 0);
        assert_eq!(size, open.footer_bytes());
    }
}
