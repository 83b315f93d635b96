//! Cold segments at a start: what of them counts, and what of them has to be replayed where no checkpoint can be trusted.
//!
//! A checkpoint that names a cold segment has in it all that the segment's batches say, so only its rows are read. Without a
//! checkpoint every cold segment that is there counts, the later one before the earlier, and before the hot log: it holds what
//! was live when it was written. Its batches are then told where the hot log has a gap.

use std::collections::HashMap;

use super::files::ReadLink;
use super::{Link, Recovery, unreadable};
use crate::runtime::{Buffer, File, Runtime};
use crate::store::format::{
    Control, DirectoryRow, Entry, EntryKind, Extent, Footer, SEGMENT_HEADER_BYTES, SegmentHeader, UNIT_BYTES,
    next_unit, segment_file_name, usize_of,
};
use crate::store::index::cold_segment::ColdSegmentIndex;
use crate::store::index::u32_of;
use crate::store::scan::{Scanner, indexed_entry};
use crate::store::state::segments::SegmentFile;
use crate::store::{LostOffsets, OpenError};
use crate::types::{LogId, LogPosition, Offset, SegmentNumber};

/// Cold segments as found.
pub(super) struct Cold<F> {
    segments: Vec<ColdSegment<F>>,
    /// The first that is not there, or not all of it.
    pub(super) damaged: Option<SegmentNumber>,
    /// What follows is told of cold segments: their rows are told one by one.
    is_hot_read: bool,
    /// Something is damaged or unfinished, so that it counts what the log holds of each log's offsets.
    keeps_ranges: bool,
    ranges: HashMap<LogId, Vec<(Offset, Offset)>>,
    /// Of each log the rows that were not replayed yet: segment and row, by offset. Empty with a checkpoint.
    unreplayed: HashMap<LogId, Vec<(usize, DirectoryRow)>>,
}

struct ColdSegment<F> {
    header: SegmentHeader,
    /// Position behind its last entry.
    end: u32,
    /// Its footer says that nothing of it is missing. Else a crash may have left it unfinished, or it is damaged.
    is_whole: bool,
    rows: Vec<DirectoryRow>,
    /// Known where the footer could not be read, or a rebuild will need them.
    extents: Option<Vec<Extent>>,
    file: SegmentFile<F>,
}

impl<F> Default for Cold<F> {
    fn default() -> Self {
        Cold {
            segments: Vec::new(),
            damaged: None,
            is_hot_read: false,
            keeps_ranges: false,
            ranges: HashMap::new(),
            unreplayed: HashMap::new(),
        }
    }
}

impl<R: Runtime> Recovery<'_, R> {
    /// Reads what cold segments hold, before the hot log is read. Gives those that count.
    pub(super) async fn load_cold(&mut self, links: Vec<Link<R::File>>) -> Result<Vec<ReadLink<R::File>>, OpenError> {
        let mut kept = Vec::new();
        for link in links {
            let number = link.header.number;
            let footer = if link.is_cut() { None } else { self.footer(&link).await? };
            let is_whole = footer.is_some();
            let (end, rows, extents) = match footer {
                Some((data_end, rows)) if self.complete => (data_end, rows, None),
                _ => {
                    let (end, index) = self.scan_cold(&link).await?;
                    if link.expected_end.is_some_and(|expected| end < expected) {
                        tracing::warn!(shard = %self.options.shard, "segment {number} is damaged at byte {end}");
                        self.cold.damaged.get_or_insert(number);
                    }
                    let (rows, extents) = index.seal();
                    (end, rows, Some(extents))
                }
            };
            let (header, file) = (link.header, link.file.clone());
            self.cold.segments.push(ColdSegment { header, end, is_whole, rows, extents, file });
            kept.push(ReadLink { file: link.file, header: link.header, end });
        }
        self.cold.keeps_ranges =
            self.cold.damaged.is_some() || self.cold.segments.iter().any(|segment| !segment.is_whole);
        if !self.complete {
            let segments = self.cold.segments.iter().enumerate();
            for (index, row) in segments.flat_map(|(index, segment)| segment.rows.iter().map(move |row| (index, *row)))
            {
                self.cold.unreplayed.entry(row.log).or_default().push((index, row));
            }
            for rows in self.cold.unreplayed.values_mut() {
                // Of the same offsets the later segment's first.
                rows.sort_by_key(|(index, row)| (row.base_offset, std::cmp::Reverse(*index)));
            }
        }
        Ok(kept)
    }

    /// Reads a cold segment's entries, as far as they are whole: where they end, and what they are. Logs that it names are
    /// known from then on.
    async fn scan_cold(&mut self, link: &Link<R::File>) -> Result<(u32, ColdSegmentIndex), OpenError> {
        let path = self.options.directory.join(segment_file_name(link.file.id));
        let limit = link.expected_end.unwrap_or(link.header.bytes).min(link.file.bytes);
        let mut scanner = Scanner::new(link.file.file.clone(), limit);
        let mut index = ColdSegmentIndex::new();
        let mut end = SEGMENT_HEADER_BYTES;
        while end < limit {
            let next = scanner.next(end, link.header.number, link.header.incarnation).await;
            let Some(scanned) = next.map_err(unreadable(&path))? else { break };
            let log = scanned.entry.header.log;
            if scanned.entry.header.kind.is_moved() {
                let Some(indexed) = indexed_entry(scanned.position, &scanned.entry) else { break };
                let joins = index.end_of(log) == Some(indexed.base_offset);
                index.add(log, &indexed, joins);
            } else if let Ok(Control::Create { topic, partition }) = Control::decode(scanned.entry.payload)
                && !self.partitions.contains_key(&log)
                && !self.complete
            {
                self.next_log = self.next_log.max(LogId::new(log.value() + 1));
                self.begin_log(log, topic, partition, LogPosition::default());
            }
            end = scanned.end;
            self.yield_now_and_then().await;
        }
        Ok((end, index))
    }

    /// Tells what cold segments hold of a log below `bound` that was not told yet. Only a rebuild needs it.
    pub(super) async fn replay_cold(&mut self, log: LogId, bound: Offset) -> Result<(), OpenError> {
        let Some(mut rows) = self.cold.unreplayed.remove(&log) else { return Ok(()) };
        let behind = rows.partition_point(|(_, row)| row.base_offset < bound);
        for (index, row) in &rows[..behind] {
            let Some(known) = self.partitions.get(&log) else { break };
            if row.end_offset <= known.end {
                continue;
            }
            self.replay_row(*index, row, bound).await?;
        }
        // One that reaches beyond the bound may be needed again, behind what the hot log has.
        rows.retain(|(_, row)| row.end_offset > bound);
        if !rows.is_empty() {
            self.cold.unreplayed.insert(log, rows);
        }
        Ok(())
    }

    async fn replay_row(&mut self, index: usize, row: &DirectoryRow, bound: Offset) -> Result<(), OpenError> {
        let segment = &self.cold.segments[index];
        let all = segment.extents.as_ref().expect("a rebuild scans all segments");
        let extents = all[row.own_extents()].to_vec();
        let file = segment.file.clone();
        for extent in extents {
            let bytes = self.read_extent(&file, &extent).await?;
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let Ok(entry) = Entry::decode(rest) else { break };
                rest = &rest[usize::try_from(entry.header.entry_bytes()).expect("it lies in memory")..];
                let known = self.partitions.get_mut(&row.log).expect("its rows are replayed");
                for batch in entry.batches() {
                    if batch.base_offset() < known.end || batch.last_offset() >= bound {
                        continue;
                    }
                    self.replay.on_batch(row.log, batch.header());
                    known.end = batch.last_offset().advance(1);
                }
                if let Some(Ok(moved)) = entry.move_prefix()
                    && moved.end_offset <= bound
                {
                    known.end = known.end.max(moved.end_offset);
                }
            }
            self.yield_now_and_then().await;
        }
        Ok(())
    }

    async fn read_extent(&self, file: &SegmentFile<R::File>, extent: &Extent) -> Result<Vec<u8>, OpenError> {
        let start = extent.position - extent.position % UNIT_BYTES;
        let bytes = usize_of(next_unit(extent.end()) - start);
        let path = self.options.directory.join(segment_file_name(file.id));
        let read = file.file.read_at(u64::from(start), bytes).await.map_err(unreadable(&path))?;
        let first = usize_of(extent.position - start);
        Ok(read.as_slice()[first..first + usize_of(extent.bytes)].to_vec())
    }

    /// Tells what is left, behind the end of the hot log.
    pub(super) async fn replay_rest_of_cold(&mut self) -> Result<(), OpenError> {
        let logs: Vec<LogId> = self.cold.unreplayed.keys().copied().collect();
        for log in logs {
            self.replay_cold(log, Offset::new(i64::MAX)).await?;
        }
        Ok(())
    }

    /// What an entry of the hot log is preceded by, for a log that a rebuild tells: its offset.
    pub(super) fn cold_bound(&self, entry: &Entry<'_>) -> Option<Offset> {
        if self.cold.unreplayed.is_empty() {
            return None;
        }
        match entry.header.kind {
            EntryKind::Append => entry.batches().next().map(|batch| batch.base_offset()),
            EntryKind::Control => match Control::decode(entry.payload) {
                Ok(Control::LogStart { offset }) => Some(offset),
                _ => None,
            },
            _ => None,
        }
    }

    /// The log holds offsets from `base` to `end` of a log.
    pub(super) fn note_range(&mut self, log: LogId, base: Offset, end: Offset) {
        if !self.cold.keeps_ranges {
            return;
        }
        let ranges = self.cold.ranges.entry(log).or_default();
        match ranges.last_mut() {
            Some(last) if last.1 == base && !self.cold.is_hot_read => last.1 = end,
            _ => ranges.push((base, end)),
        }
    }

    /// The rows that are left of those that may have been cut, each with its extents.
    fn uncut_rows(&self, rows: &[DirectoryRow], extents: &[Extent]) -> (Vec<DirectoryRow>, Vec<Extent>) {
        let (mut left, mut left_extents) = (Vec::new(), Vec::new());
        for row in rows.iter().map(|row| self.uncut(row)).filter(|row| row.base_offset < row.end_offset) {
            left.push(DirectoryRow { extent_first: u32_of(left_extents.len()), ..row });
            left_extents.extend_from_slice(&extents[row.own_extents()]);
        }
        (left, left_extents)
    }

    /// Of a row that may have been cut, what takes the place of nothing that goes on behind it: a crash while a job wrote leaves a
    /// part of a row in a segment that nothing names, and the whole of it where it was.
    fn uncut(&self, row: &DirectoryRow) -> DirectoryRow {
        let ranges = self.cold.ranges.get(&row.log).map_or(&[][..], Vec::as_slice);
        let whole = ranges.iter().filter(|(base, end)| *base < row.end_offset && row.end_offset < *end);
        let end_offset = whole.map(|(base, _)| *base).fold(row.end_offset, Offset::min).max(row.base_offset);
        DirectoryRow { end_offset, ..*row }
    }

    /// Enters the rows of cold segments, when the hot log was read: what they hold counts.
    pub(super) fn enter_cold(&mut self) -> Result<(), OpenError> {
        self.cold.is_hot_read = true;
        for index in 0..self.cold.segments.len() {
            let segment = &mut self.cold.segments[index];
            let (header, end, is_whole) = (segment.header, segment.end, segment.is_whole);
            let (mut rows, mut extents) = (std::mem::take(&mut segment.rows), segment.extents.take());
            if let Some(scanned) = &mut extents {
                if !is_whole && !cfg!(corelane_defect = "cut_row_counts") {
                    (rows, *scanned) = self.uncut_rows(&rows, scanned);
                }
                self.footers.extend(Footer::encode(&header, header.incarnation, end, &mut rows, scanned, &[]));
            }
            let number = header.number;
            self.index.add_cold(number, &rows, extents).map_err(|_| self.damaged_at(number))?;
            for row in &rows {
                self.note_range(row.log, row.base_offset, row.end_offset);
            }
            self.forget_lost(&rows);
        }
        Ok(())
    }

    /// What a cold segment holds is not lost, though the hot log does not have it any more.
    fn forget_lost(&mut self, rows: &[DirectoryRow]) {
        if self.lost.is_empty() {
            return;
        }
        for row in rows {
            let mut left = Vec::new();
            for lost in std::mem::take(&mut self.lost) {
                let end = lost.last.advance(1);
                if lost.log != row.log || row.end_offset <= lost.first || end <= row.base_offset {
                    left.push(lost);
                    continue;
                }
                if lost.first < row.base_offset {
                    let last = Offset::new(row.base_offset.value() - 1);
                    left.push(LostOffsets { log: lost.log, first: lost.first, last });
                }
                if row.end_offset < end {
                    left.push(LostOffsets { log: lost.log, first: row.end_offset, last: lost.last });
                }
            }
            self.lost = left;
        }
    }

    /// What is gone with a cold segment: where no other has its offsets. Nothing may be: then it is not missed.
    pub(super) fn judge_cold(&mut self) {
        let Some(damaged) = self.cold.damaged else { return };
        let mut lost = Vec::new();
        for (log, known) in &self.partitions {
            let Some(mut at) = self.index.log_start(*log) else { continue };
            let mut ranges = self.cold.ranges.remove(log).unwrap_or_default();
            ranges.sort_unstable();
            for (base, end) in ranges.into_iter().chain([(known.end, known.end)]) {
                if base > at {
                    lost.push(LostOffsets { log: *log, first: at, last: Offset::new(base.value() - 1) });
                }
                at = at.max(end);
            }
        }
        if lost.is_empty() {
            tracing::warn!(shard = %self.options.shard, "segment {damaged} is not needed: what was in it is elsewhere, too");
            return;
        }
        self.damage.get_or_insert(LogPosition { segment: damaged, byte: SEGMENT_HEADER_BYTES });
        // They say all that the others say of the same logs.
        self.lost = lost;
    }
}
