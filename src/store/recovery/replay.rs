//! Reads the log from its first segment to its end, and tells what it says.

use super::files::ReadLink;
use super::{Known, Link, Recovery, unreadable};

use crate::runtime::{Buffer, File, Runtime};
use crate::store::format::{
    Control, DirectoryRow, Entry, EntryKind, SEGMENT_HEADER_BYTES, Trailer, UNIT_BYTES, segment_file_name, usize_of,
};
use crate::store::scan::{Scanner, indexed_entry};
use crate::store::state::segments::SegmentFile;
use crate::store::{LostOffsets, OpenError, PartitionRecord};
use crate::types::{LogId, LogPosition, Offset, PartitionIndex, TopicId};

impl<R: Runtime> Recovery<'_, R> {
    /// Reads the log from its first segment to its end. Returns the end, the segments that count, and the files of those
    /// that do not because the log ends before them.
    pub(super) async fn read(
        &mut self,
        links: Vec<Link<R::File>>,
    ) -> Result<(LogPosition, Vec<ReadLink<R::File>>, Vec<SegmentFile<R::File>>), OpenError> {
        let mut end = LogPosition::default();
        let mut kept = Vec::new();
        let mut cut = Vec::new();
        let mut ended = false;
        let mut links = links.into_iter().peekable();
        while let Some(link) = links.next() {
            if ended {
                cut.push(link.file);
                continue;
            }
            let number = link.header.number;
            self.tell_progress(1 + links.len(), "segments to read");
            let is_last = links.peek().is_none();
            let behind = self.missing.split_off(&number);
            if !std::mem::replace(&mut self.missing, behind).is_empty() {
                self.interrupt();
            }
            let below_covered = number < self.covered.segment;
            if below_covered
                && !is_last
                && !link.is_cut()
                && link.expected_end.is_some()
                && let Some(data_end) = self.read_footer(&link).await?
            {
                end = LogPosition { segment: number, byte: data_end };
                kept.push(ReadLink { file: link.file, header: link.header, end: data_end });
                continue;
            }
            self.index.set_open(number).map_err(|_| self.damaged_at(number))?;
            let byte = self.scan(&link).await?;
            end = LogPosition { segment: number, byte };
            let is_short = link.expected_end.is_some_and(|expected| byte < expected);
            let misses_entries = link.misses_entries();
            if is_short || (link.expected_end.is_none() && self.clean_end != Some(end)) {
                self.survey(&link.file, number.value()..=number.value(), byte).await?;
            }
            if misses_entries || (is_short && end < self.covered) {
                self.damage.get_or_insert(end);
            }
            // A hole in a sealed segment below the checkpoint costs that segment's rest; above it the log ends there.
            ended = is_short && !below_covered && !cfg!(corelane_defect = "forgotten_truncation");
            if is_short && !ended {
                self.interrupt();
            }
            if let Some(next) = links.peek().filter(|_| !ended) {
                self.seal(&link.header, byte, next.header.number)?;
            }
            kept.push(ReadLink { file: link.file, header: link.header, end: byte });
        }
        Ok((end, kept, cut))
    }

    /// Enters a sealed segment by its footer; `None` when it has none that fits.
    async fn read_footer(&mut self, link: &Link<R::File>) -> Result<Option<u32>, OpenError> {
        let Some((data_end, rows)) = self.footer(link).await? else { return Ok(None) };
        let number = link.header.number;
        for row in &rows {
            self.resume(row.log, row.base_offset, row.end_offset);
        }
        self.index.add_sealed(number, &rows).map_err(|_| self.damaged_at(number))?;
        Ok(Some(data_end))
    }

    /// The data end and the rows that a segment's footer names; `None` when it has none that fits.
    pub(super) async fn footer(&self, link: &Link<R::File>) -> Result<Option<(u32, Vec<DirectoryRow>)>, OpenError> {
        let path = self.options.directory.join(segment_file_name(link.file.id));
        let (file, bytes) = (&link.file.file, link.header.bytes);
        let last = u64::from(bytes - UNIT_BYTES);
        let unit = file.read_at(last, usize_of(UNIT_BYTES)).await.map_err(unreadable(&path))?;
        let Ok(trailer) = Trailer::decode(unit.as_slice(), bytes) else { return Ok(None) };
        let is_expected = link.expected_end.is_none_or(|end| end == trailer.data_end);
        if trailer.number != link.header.number || !is_expected {
            return Ok(None);
        }
        let directory_bytes = usize_of(trailer.directory_bytes());
        let read_bytes = directory_bytes.next_multiple_of(usize_of(UNIT_BYTES));
        let position = u64::from(trailer.directory_position);
        // A segment of control entries alone has no rows, and direct I/O no read of nothing.
        let mut directory = Vec::new();
        if read_bytes > 0 {
            let read = file.read_at(position, read_bytes).await.map_err(unreadable(&path))?;
            directory.extend_from_slice(&read.as_slice()[..directory_bytes]);
        }
        Ok(trailer.decode_directory(&directory).ok().map(|rows| (trailer.data_end, rows)))
    }

    /// Reads a segment's entries to where they end, which it returns.
    async fn scan(&mut self, link: &Link<R::File>) -> Result<u32, OpenError> {
        let path = self.options.directory.join(segment_file_name(link.file.id));
        let number = link.header.number;
        let limit = link.expected_end.unwrap_or(link.header.bytes).min(link.header.bytes).min(link.file.bytes);
        let mut scanner = Scanner::new(link.file.file.clone(), limit);
        let mut incarnation = link.header.incarnation;
        let mut end = SEGMENT_HEADER_BYTES;
        while end < limit {
            let next = scanner.next(end, number, incarnation).await.map_err(unreadable(&path))?;
            let Some(scanned) = next else { break };
            let position = LogPosition { segment: number, byte: scanned.position };
            if let Some(bound) = self.cold_bound(&scanned.entry) {
                self.replay_cold(scanned.entry.header.log, bound).await?;
            }
            if !self.apply(position, &scanned.entry)? {
                break;
            }
            incarnation = scanned.entry.header.incarnation;
            end = scanned.end;
            self.yield_now_and_then().await;
        }
        self.incarnation = self.incarnation.max(incarnation);
        Ok(end)
    }

    /// Takes in one entry; false when it contradicts what came before, so that it cannot count.
    fn apply(&mut self, position: LogPosition, entry: &Entry<'_>) -> Result<bool, OpenError> {
        let log = entry.header.log;
        self.proof = self.proof.max(entry.header.durable);
        self.next_log = self.next_log.max(LogId::new(log.value().saturating_add(1)));
        match entry.header.kind {
            EntryKind::Append => Ok(self.apply_batches(position, entry)),
            EntryKind::Control => {
                let Ok(control) = Control::decode(entry.payload) else { return Ok(false) };
                self.apply_control(position, log, control)?;
                Ok(true)
            }
            // No hot segment holds a move.
            EntryKind::Move | EntryKind::MovedMarker => Ok(false),
            EntryKind::Padding => Ok(true),
            EntryKind::Marker => Err(self.unsupported(position, "ends of transactions")),
        }
    }

    fn apply_batches(&mut self, position: LogPosition, entry: &Entry<'_>) -> bool {
        let log = entry.header.log;
        let Some(Known { position: known_from, end: known_end, .. }) = self.partitions.get(&log) else { return true };
        let (replayed, known_end) = (position >= *known_from, *known_end);
        let Some(indexed) = indexed_entry(position.byte, entry) else { return false };
        let continues = if replayed { indexed.base_offset >= known_end } else { indexed.last_offset < known_end };
        if !continues {
            return false;
        }
        let end = indexed.last_offset.advance(1);
        self.resume(log, indexed.base_offset, end);
        if self.index.add(log, &indexed).is_err() {
            return false;
        }
        if replayed {
            for batch in entry.batches() {
                self.replay.on_batch(log, batch.header());
            }
            self.come_to(position, log, indexed.base_offset, end);
        }
        true
    }

    /// What stands at `position` says that its log had come to `base`, and takes it to `end`. If its state had not come
    /// so far, batches are missing.
    pub(super) fn come_to(&mut self, position: LogPosition, log: LogId, base: Offset, end: Offset) {
        let known = self.partitions.get_mut(&log).expect("only entries of known logs are taken in");
        if known.end < base && self.complete {
            self.damage.get_or_insert(position);
            let last = Offset::new(base.value() - 1);
            if self.lost.last().is_none_or(|lost| lost.log != log || lost.last < last) {
                self.lost.push(LostOffsets { log, first: known.end, last });
            }
        }
        known.end = known.end.max(end);
    }

    fn apply_control(&mut self, position: LogPosition, log: LogId, control: Control) -> Result<(), OpenError> {
        let known = self.partitions.get(&log).map(|known| known.position);
        match control {
            // Below the checkpoint a log that it does not name was deleted again.
            Control::Create { topic, partition } if known.is_none() && position >= self.covered => {
                self.begin_log(log, topic, partition, position);
            }
            Control::Delete if cfg!(corelane_defect = "delete_forgotten") => {}
            Control::Delete if known.is_some_and(|known| position >= known) => {
                self.index.delete(log);
                self.partitions.remove(&log);
                self.replay.on_delete(log);
            }
            Control::LogStart { offset } if known.is_some_and(|known| position >= known) => {
                self.index.set_log_start(log, offset);
                self.replay.on_log_start(log, offset);
                self.come_to(position, log, offset, offset);
            }
            Control::Create { .. } | Control::Delete | Control::LogStart { .. } => {}
            Control::Successor { .. } => return Err(self.unsupported(position, "truncated logs")),
        }
        Ok(())
    }

    /// A partition begins, of which every entry from `position` on is told.
    pub(super) fn begin_log(&mut self, log: LogId, topic: TopicId, partition: PartitionIndex, position: LogPosition) {
        let (log_start, log_end) = (Offset::ZERO, Offset::ZERO);
        let record = PartitionRecord { log, topic, partition, log_start, log_end };
        self.index.create(log, log_start);
        self.partitions.insert(log, Known { topic, partition, position, end: log_end });
        self.replay.on_partition(&record, &[]).expect("an empty state is that of a new partition");
    }

    fn unsupported(&self, position: LogPosition, what: &'static str) -> OpenError {
        OpenError::Unsupported { shard: self.options.shard, position, what }
    }
}
