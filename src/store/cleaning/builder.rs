//! Writes one cold segment: moves, one block after the other, and the rows that its footer will have.
//!
//! Nobody reads it before it is whole, so writes are not ordered. It is flushed once, with its footer, before a checkpoint names
//! it; until then its sources are what counts. Each log's first row is preceded by what says which partition it is, so that a
//! start without a checkpoint knows it.

use std::io;
use std::rc::Rc;

use super::rows::LiveRow;
use crate::limits::{CLEAN_MERGED_ROW_BYTES_MAX, EXTENT_BYTES_MAX, IO_ALIGNMENT};
use crate::runtime::{Buffer, File, Runtime};
use crate::store::StoreOptions;
use crate::store::format::{
    Control, EntryHeader, EntryKind, MovePrefix, SEGMENT_HEADER_BYTES, SegmentHeader, StoredBatch, UNIT_BYTES,
    entry_position, next_unit, usize_of,
};
use crate::store::index::IndexedEntry;
use crate::store::index::cold_segment::{ColdSegmentIndex, Mark};
use crate::store::state::segments::SegmentFile;
use crate::types::{LogId, Offset, PartitionIndex, SegmentNumber, TimestampMs, TopicId};

/// Bytes that a row may take beside its batches, for each so many bytes of it: headers and prefixes of moves, and extents.
const OVERHEAD_EVERY_BYTES: u64 = 32 * 1024;

/// Bytes that an entry may take beside its batches: its header, a prefix, what is left of a unit where the header does not fit,
/// and an extent: 48 + 24 + 47 + 24.
const ENTRY_OVERHEAD_BYTES: u64 = 143;

/// A cold segment that is written, but for its footer.
pub(super) struct Built<F> {
    pub(super) header: SegmentHeader,
    pub(super) file: SegmentFile<F>,
    pub(super) data_end: u32,
    pub(super) index: ColdSegmentIndex,
    /// It holds something else than its sources, so that what memory has of them is no longer to be read.
    pub(super) is_compacted: bool,
    /// Which rows it takes the place of, and where they lay.
    pub(super) sources: Vec<(SegmentNumber, LiveRow)>,
}

/// Bytes of a file that holds rows which take up to `wanted` bytes: whole blocks.
pub(super) fn file_bytes(wanted: u64, block_bytes: usize) -> u64 {
    let block_bytes = u64::try_from(block_bytes).expect("a block size fits 64 bits");
    (wanted + u64::from(SEGMENT_HEADER_BYTES) + 3 * u64::from(UNIT_BYTES))
        .next_multiple_of(block_bytes)
        .max(2 * block_bytes)
}

impl LiveRow {
    /// Moves and extents that its entries may become, at most.
    fn entries_max(&self) -> u64 {
        u64::from(self.row.bytes) / OVERHEAD_EVERY_BYTES + 1
    }

    /// Bytes that it may take in a cold segment, its part of the footer included.
    pub(super) fn bytes_max(&self) -> u64 {
        // Of the row what says which partition it is, 69 + 47, and itself, 48. The header of each entry counts already.
        u64::from(self.row.bytes) + self.entries_max() * (ENTRY_OVERHEAD_BYTES - 48) + 164
    }
}

/// See the module.
pub(super) struct Builder<R: Runtime> {
    runtime: R,
    header: SegmentHeader,
    file: SegmentFile<R::File>,
    block_bytes: usize,
    block: Option<R::Buffer>,
    /// Bytes of the block that are filled, and where it stands.
    filled: usize,
    start: u32,
    /// End of the last entry.
    end: u32,
    index: ColdSegmentIndex,
    sources: Vec<(SegmentNumber, LiveRow)>,
    row: Option<OpenRow>,
    group: Group,
}

/// The row that is being copied.
#[derive(Clone, Copy)]
struct OpenRow {
    log: LogId,
    source: SegmentNumber,
    /// The next move belongs to the row before it.
    joins: bool,
    /// Where the next move begins: the ranges of moves tile the row.
    next_base: Offset,
    /// What the index was before it.
    before: Mark,
}

/// Entries that become one move.
#[derive(Default)]
struct Group {
    batches: Vec<u8>,
    count: u16,
    /// Where what it stands for ends.
    end_offset: Option<Offset>,
    timestamp_max: Option<TimestampMs>,
}

impl<R: Runtime> Builder<R> {
    pub(super) fn new(
        header: SegmentHeader,
        file: SegmentFile<R::File>,
        options: &StoreOptions,
        runtime: &R,
    ) -> Builder<R> {
        assert!(file.bytes == header.bytes);
        let mut block = runtime.allocate(options.block_bytes);
        let content = header.encode();
        block.as_mut_slice()[..content.len()].copy_from_slice(&content);
        Builder {
            runtime: runtime.clone(),
            header,
            file,
            block_bytes: options.block_bytes,
            filled: content.len(),
            block: Some(block),
            start: 0,
            end: SEGMENT_HEADER_BYTES,
            index: ColdSegmentIndex::new(),
            sources: Vec::new(),
            row: None,
            group: Group::default(),
        }
    }

    /// Nothing was copied.
    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Whether a row surely fits.
    pub(super) fn has_room(&self, copy: &LiveRow) -> bool {
        let extents = u32::try_from(copy.entries_max()).unwrap_or(u32::MAX);
        self.fits(copy.bytes_max(), extents)
    }

    /// Whether so many bytes more, entries and all, and so many extents surely fit beside the footer.
    pub(super) fn fits(&self, bytes: u64, extents: u32) -> bool {
        let end = (u64::from(self.end) + bytes).next_multiple_of(u64::from(UNIT_BYTES));
        end + self.index.footer_bytes_with(1, extents) <= u64::from(self.header.bytes)
    }

    /// Whether a batch of the open row surely fits.
    pub(super) fn fits_batch(&self, bytes: usize) -> bool {
        let waiting = u64::try_from(self.group.batches.len() + bytes).expect("they lie in memory");
        self.fits(waiting + 2 * ENTRY_OVERHEAD_BYTES, 2)
    }

    /// Bytes of it that are filled.
    pub(super) fn filled_bytes(&self) -> u32 {
        self.end
    }

    /// Begins a row of `source`, of which what lies below `log_start` is dead.
    pub(super) async fn begin_row(
        &mut self,
        copy: &LiveRow,
        source: SegmentNumber,
        log_start: Offset,
        (topic, partition): (TopicId, PartitionIndex),
    ) -> io::Result<()> {
        assert!(self.row.is_none());
        let log = copy.row.log;
        if self.index.end_of(log).is_none() {
            let payload = Control::Create { topic, partition }.encode();
            self.put_entry(EntryKind::Control, log, 0, &payload, &[]).await?;
        }
        let next_base = copy.row.base_offset.max(log_start);
        let joins = self.index.last().filter(|row| row.log == log).is_some_and(|row| {
            row.end_offset == next_base
                && u64::from(row.bytes) + u64::from(copy.row.bytes) <= CLEAN_MERGED_ROW_BYTES_MAX
        });
        self.row = Some(OpenRow { log, source, joins, next_base, before: self.index.mark() });
        Ok(())
    }

    /// Forgets the open row. What was written of it stays in the file and counts for nothing.
    pub(super) fn abandon_row(&mut self) {
        let row = self.row.take().expect("a row is open");
        self.index.take_back(row.before);
        self.group = Group::default();
    }

    /// Adds what is live of an entry of the row, which stands for offsets up to `end_offset`.
    pub(super) async fn put(
        &mut self,
        batches: impl Iterator<Item = StoredBatch<'_>>,
        end_offset: Offset,
    ) -> io::Result<()> {
        let mut is_first = true;
        for batch in batches {
            let bytes = batch.bytes();
            let is_full =
                self.group.batches.len() + bytes.len() > usize_of(EXTENT_BYTES_MAX) || self.group.count == u16::MAX;
            // Only between entries: what one stands for is not split.
            if is_first && is_full {
                self.put_group().await?;
            }
            if is_first && self.sources_are_cut(batch.base_offset()) {
                let row = self.row.as_mut().expect("a row is open");
                (row.next_base, row.joins) = (batch.base_offset(), false);
            }
            is_first = false;
            self.group.batches.extend_from_slice(bytes);
            self.group.count += 1;
            if batch.has_records() {
                self.group.timestamp_max = self.group.timestamp_max.max(Some(batch.timestamp_max()));
            }
        }
        self.group.end_offset = Some(end_offset);
        Ok(())
    }

    /// The first batch of the row holds the log start, and begins below it.
    fn sources_are_cut(&self, base_offset: Offset) -> bool {
        self.row.as_ref().is_some_and(|row| base_offset < row.next_base)
    }

    /// The row is complete: it reaches to its end, whatever is left of it there.
    pub(super) async fn end_row(&mut self, copy: &LiveRow) -> io::Result<()> {
        self.group.end_offset = Some(copy.row.end_offset);
        self.put_group().await?;
        let row = self.row.take().expect("a row is open");
        self.sources.push((row.source, *copy));
        Ok(())
    }

    async fn put_group(&mut self) -> io::Result<()> {
        let Group { batches, count, end_offset, timestamp_max } = std::mem::take(&mut self.group);
        let Some(end_offset) = end_offset else { return Ok(()) };
        if cfg!(corelane_defect = "gap_uncovered") && count == 0 {
            return Ok(());
        }
        let OpenRow { log, source, joins, next_base: base_offset, .. } = *self.row.as_ref().expect("a row is open");
        let prefix = MovePrefix { source, base_offset, end_offset }.encode();
        let (position, bytes) = self.put_entry(EntryKind::Move, log, count, &prefix, &batches).await?;
        let entry = IndexedEntry {
            position,
            bytes,
            base_offset,
            last_offset: Offset::new(end_offset.value() - 1),
            timestamp_max: timestamp_max.unwrap_or(TimestampMs::NONE),
        };
        self.index.add(log, &entry, joins);
        let row = self.row.as_mut().expect("a row is open");
        (row.joins, row.next_base) = (true, end_offset);
        Ok(())
    }

    /// Writes an entry: `prefix` is covered by its crc whole, of `batches` their headers are.
    async fn put_entry(
        &mut self,
        kind: EntryKind,
        log: LogId,
        batch_count: u16,
        prefix: &[u8],
        batches: &[u8],
    ) -> io::Result<(u32, u32)> {
        let header = EntryHeader {
            kind,
            payload_bytes: u32::try_from(prefix.len() + batches.len()).expect("an entry fits its segment"),
            batch_count,
            incarnation: self.header.incarnation,
            log,
            segment: self.header.number,
            durable: self.header.durable,
            previous_end: self.end,
        };
        let mut rest = batches;
        let headers = std::iter::from_fn(|| {
            let (batch, behind) = StoredBatch::split(rest).ok()?;
            rest = behind;
            Some(&batch.header()[..])
        });
        let encoded = header.encode(std::iter::once(prefix).chain(headers));
        let position = entry_position(self.end);
        self.put_zeroes(position - self.end).await?;
        for part in [&encoded[..], prefix, batches] {
            self.put_bytes(part).await?;
        }
        let bytes = u32::try_from(header.entry_bytes()).expect("an entry fits its segment");
        self.end = position + bytes;
        Ok((position, bytes))
    }

    async fn put_zeroes(&mut self, count: u32) -> io::Result<()> {
        const ZEROES: [u8; IO_ALIGNMENT] = [0; IO_ALIGNMENT];
        self.put_bytes(&ZEROES[..usize_of(count)]).await
    }

    async fn put_bytes(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = self.block_bytes - self.filled;
            let (now, later) = bytes.split_at(bytes.len().min(room));
            let block = self.block.get_or_insert_with(|| self.runtime.allocate(self.block_bytes));
            block.as_mut_slice()[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == self.block_bytes {
                self.write_block().await?;
            }
        }
        Ok(())
    }

    async fn write_block(&mut self) -> io::Result<()> {
        let Some(block) = self.block.take() else { return Ok(()) };
        let bytes = u32::try_from(block.bytes()).expect("a block is smaller than a segment");
        let position = self.start;
        (self.start, self.filled) = (self.start + bytes, 0);
        self.file.file.write_at(Rc::new(block), u64::from(position)).await
    }

    /// Writes the rest.
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        if self.filled == 0 {
            return Ok(());
        }
        let filled = self.filled;
        let units = usize_of(next_unit(u32::try_from(filled).expect("a part of a block")));
        let block = self.block.take().expect("it is filled in part");
        let mut rest = self.runtime.allocate(units);
        rest.as_mut_slice()[..filled].copy_from_slice(&block.as_slice()[..filled]);
        rest.as_mut_slice()[filled..].fill(0);
        self.block = Some(rest);
        self.write_block().await
    }

    /// What was built.
    pub(super) fn built(self) -> Built<R::File> {
        let Builder { header, mut file, end, index, sources, .. } = self;
        file.prepared = file.prepared.max(next_unit(end));
        Built { header, file, data_end: end, index, is_compacted: false, sources }
    }

    /// The file, when nothing comes of it.
    pub(super) fn into_file(self) -> SegmentFile<R::File> {
        self.file
    }
}
