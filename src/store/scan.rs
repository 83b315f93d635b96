//! Reads the entries of one segment file from front to back, believing nothing that no checksum vouches for.
//!
//! What it reads is input: damaged, torn, or left behind by an earlier life of the file. An entry counts only when its
//! crc, its segment number and every batch's own crc match, its incarnation does not fall, and it names the end of the
//! entry before it. Behind a hole, entries are looked for at every byte, for what they prove: they do not count.

use std::io;
use std::ops::RangeInclusive;

use crate::limits::{IO_ALIGNMENT, SCAN_DOUBT_FACTOR, SCAN_READ_BYTES};
use crate::runtime::{Buffer, File};
use crate::store::format::{
    DirectoryRow, ENTRY_HEADER_BYTES, ENTRY_KIND_AT, ENTRY_KIND_MAX, ENTRY_PREVIOUS_END_AT, ENTRY_SEGMENT_AT, Entry,
    EntryHeader, Extent, MovePrefix, SEGMENT_HEADER_BYTES, UNIT_BYTES, entry_position, next_unit, usize_of,
};
use crate::store::index::{IndexedEntry, u32_of};
use crate::types::{Incarnation, Offset, SegmentNumber, TimestampMs};

/// Reads entries at ascending positions.
pub(in crate::store) struct Scanner<F> {
    file: F,
    /// Bytes of the file that may hold entries.
    limit: u32,
    /// Position of the first byte of `bytes`; a multiple of the unit.
    start: u32,
    bytes: Vec<u8>,
    /// Bytes that may still be read in vain behind holes: what false headers stated.
    doubt_bytes: u64,
}

/// An entry, and where it stands.
pub(in crate::store) struct Scanned<'a> {
    /// Position of its header.
    pub(in crate::store) position: u32,
    /// Position behind it.
    pub(in crate::store) end: u32,
    /// The entry.
    pub(in crate::store) entry: Entry<'a>,
}

impl<F: File> Scanner<F> {
    /// Reads `file` below `limit`, from the first entry on.
    pub(in crate::store) fn new(file: F, limit: u32) -> Scanner<F> {
        let doubt_bytes = SCAN_DOUBT_FACTOR * u64::from(limit);
        Scanner { file, limit, start: SEGMENT_HEADER_BYTES, bytes: Vec::new(), doubt_bytes }
    }

    /// The entry that follows the one that ends at `end`; `None` when none does that counts: one of segment `number`, of
    /// an incarnation of at least `incarnation_min`, and that names `end` as its predecessor's.
    pub(in crate::store) async fn next(
        &mut self,
        end: u32,
        number: SegmentNumber,
        incarnation_min: Incarnation,
    ) -> io::Result<Option<Scanned<'_>>> {
        let counts = |entry: &Entry<'_>| {
            let header = &entry.header;
            let mut follows = header.previous_end == end && header.incarnation >= incarnation_min;
            if cfg!(corelane_defect = "stale_incarnation_accepted") {
                follows = header.previous_end == end;
            }
            if cfg!(corelane_defect = "zeroes_pass_for_padding") {
                follows = header.incarnation >= incarnation_min;
            }
            follows && entry.batches().all(|batch| batch.crc_matches())
        };
        let first = entry_position(end);
        // The rest of a unit may be padding, so the entry may stand at the next one. An empty unit is the end.
        for at in [first, next_unit(first)] {
            if let Some(bytes) = self.load_entry(at, &(number.value()..=number.value())).await?
                && let Ok(entry) = Entry::decode(&self.view(at)[..bytes])
                && counts(&entry)
            {
                return Ok(Some(self.scanned(at, bytes)));
            }
        }
        Ok(None)
    }

    /// The first entry of a segment in `numbers` that stands at `from` or anywhere behind it, whatever came before it and
    /// whether or not its batches are whole.
    ///
    /// The length of what is damaged cannot be believed, so the next entry may begin at any byte. A header is known by its
    /// segment number and by the end of the entry before it, which must be near; its crc decides. Records that look like
    /// headers, by chance or on purpose, cost no more than [`SCAN_DOUBT_FACTOR`] allows: then no more of them are tried.
    pub(in crate::store) async fn resume(
        &mut self,
        from: u32,
        numbers: &RangeInclusive<u64>,
    ) -> io::Result<Option<Scanned<'_>>> {
        let mut at = from;
        while let Some(found) = self.find_header(at, numbers).await? {
            at = found + 1;
            let stated = EntryHeader::decode_unchecked(self.view(found)).map(|header| header.entry_bytes());
            let Some(stated) = stated.ok().filter(|bytes| *bytes <= self.doubt_bytes) else { continue };
            let Some(bytes) = self.load_entry(found, numbers).await? else { continue };
            if Entry::decode(&self.view(found)[..bytes]).is_ok() {
                return Ok(Some(self.scanned(found, bytes)));
            }
            self.doubt_bytes -= stated;
        }
        Ok(None)
    }

    /// The first position from `from` on where a header may stand.
    async fn find_header(&mut self, from: u32, numbers: &RangeInclusive<u64>) -> io::Result<Option<u32>> {
        let mut at = from;
        while at < self.limit {
            if !self.is_loaded(at) {
                // Files are created with all of their space: what was never written need not be read.
                let Some(written) = self.file.written_from(u64::from(at))? else { break };
                at = at.max(u32::try_from(written).unwrap_or(u32::MAX) / UNIT_BYTES * UNIT_BYTES);
                if at >= self.limit {
                    break;
                }
            }
            // No header crosses a unit.
            let unit_end = next_unit(at + 1).min(self.limit);
            let bytes = usize_of(unit_end - at);
            if !self.load(at, bytes).await? {
                break;
            }
            let unit = &self.view(at)[..bytes];
            if unit != &ZEROES[..bytes]
                && let Some(index) = first_header(unit, at, numbers)
            {
                return Ok(Some(at + u32::try_from(index).expect("an index within a unit")));
            }
            at = unit_end;
        }
        Ok(None)
    }

    /// The entry of so many bytes at `position`, which was loaded and decoded before: a borrow that is returned may not
    /// begin in a loop. It costs one short crc.
    fn scanned(&self, position: u32, bytes: usize) -> Scanned<'_> {
        let entry = Entry::decode(&self.view(position)[..bytes]).expect("it was just decoded");
        Scanned { position, end: position + u32::try_from(bytes).expect("an entry fits its segment"), entry }
    }

    /// Loads what may be an entry at `at`, by the length that its header states. Returns that length.
    async fn load_entry(&mut self, at: u32, numbers: &RangeInclusive<u64>) -> io::Result<Option<usize>> {
        if !self.load(at, ENTRY_HEADER_BYTES).await? {
            return Ok(None);
        }
        let Ok(header) = EntryHeader::decode_unchecked(self.view(at)) else { return Ok(None) };
        let fits = u64::from(at) + header.entry_bytes() <= u64::from(self.limit);
        if !fits || !numbers.contains(&header.segment.value()) {
            return Ok(None);
        }
        let bytes = usize::try_from(header.entry_bytes()).expect("an entry that fits its segment fits memory");
        Ok(self.load(at, bytes).await?.then_some(bytes))
    }

    /// Whether the byte at `position` is in memory.
    fn is_loaded(&self, position: u32) -> bool {
        (usize_of(self.start)..usize_of(self.start) + self.bytes.len()).contains(&usize_of(position))
    }

    /// What was loaded from `position` on.
    fn view(&self, position: u32) -> &[u8] {
        &self.bytes[usize_of(position - self.start)..]
    }

    /// Makes `[position, position + count)` available, forgetting what lies before; false when the file ends before.
    async fn load(&mut self, position: u32, count: usize) -> io::Result<bool> {
        let Some(end) = usize_of(position).checked_add(count).filter(|end| *end <= usize_of(self.limit)) else {
            return Ok(false);
        };
        let loaded_end = usize_of(self.start) + self.bytes.len();
        if position < self.start || usize_of(position) >= loaded_end {
            self.start = position / UNIT_BYTES * UNIT_BYTES;
            self.bytes.clear();
        } else if self.bytes.len() >= 2 * SCAN_READ_BYTES && end > loaded_end {
            let keep_from = position / UNIT_BYTES * UNIT_BYTES;
            self.bytes.drain(..usize_of(keep_from - self.start));
            self.start = keep_from;
        }
        loop {
            let loaded_end = usize_of(self.start) + self.bytes.len();
            if loaded_end >= end {
                return Ok(true);
            }
            let limit = usize_of(self.limit).next_multiple_of(usize_of(UNIT_BYTES));
            let bytes = SCAN_READ_BYTES.min(limit - loaded_end);
            let read = self.file.read_at(u64::try_from(loaded_end).expect("a position fits 64 bits"), bytes).await?;
            self.bytes.extend_from_slice(&read.as_slice()[..bytes]);
        }
    }
}

/// What the index wants to know of an entry with batches; `None` when it has none or its offsets do not ascend.
pub(in crate::store) fn indexed_entry(position: u32, entry: &Entry<'_>) -> Option<IndexedEntry> {
    let bytes = u32::try_from(entry.header.entry_bytes()).ok()?;
    if let Some(moved) = entry.move_prefix() {
        return indexed_move(position, bytes, &moved.ok()?, entry);
    }
    let mut indexed: Option<IndexedEntry> = None;
    for batch in entry.batches() {
        let (base_offset, last_offset) = (batch.base_offset(), batch.last_offset());
        let follows = indexed.is_none_or(|indexed| indexed.last_offset < base_offset);
        // The offset after the last must be one, too.
        let is_last_of_all = last_offset == Offset::new(i64::MAX);
        if last_offset < base_offset || base_offset < Offset::ZERO || is_last_of_all || !follows {
            return None;
        }
        let timestamp_max = batch.timestamp_max();
        let first = IndexedEntry { position, bytes, base_offset, last_offset, timestamp_max };
        let so_far = indexed.get_or_insert(first);
        so_far.last_offset = last_offset;
        so_far.timestamp_max = so_far.timestamp_max.max(timestamp_max);
    }
    indexed
}

/// The entry at the start of `rest`, which is the end of an extent of a row: whole but for the crc of its batches, and the row's.
///
/// Errors: in words, where the segment is damaged and how.
pub(in crate::store) fn entry_of_row<'a>(
    number: SegmentNumber,
    row: &DirectoryRow,
    extent: &Extent,
    rest: &'a [u8],
) -> Result<(Entry<'a>, IndexedEntry), String> {
    let position = extent.end() - u32_of(rest.len());
    let entry = Entry::decode(rest).map_err(|error| damaged_at(number, position, &error.to_string()))?;
    let damaged = |what: &str| damaged_at(number, position, what);
    if entry.header.log != row.log || entry.header.segment != number {
        return Err(damaged("the entry is another log's or of another life of the file"));
    }
    let Some(indexed) = indexed_entry(position, &entry) else { return Err(damaged("its offsets do not ascend")) };
    if indexed.base_offset < row.base_offset || indexed.last_offset >= row.end_offset {
        return Err(damaged("its offsets are not those of its row"));
    }
    Ok((entry, indexed))
}

/// What is told of damage.
pub(in crate::store) fn damaged_at(number: SegmentNumber, position: u32, what: &str) -> String {
    format!("segment {number} is damaged at byte {position}: {what}")
}

/// The same for a move, whose range says what it stands for, whatever is left in it.
fn indexed_move(position: u32, bytes: u32, moved: &MovePrefix, entry: &Entry<'_>) -> Option<IndexedEntry> {
    let (base_offset, last_offset) = (moved.base_offset, Offset::new(moved.end_offset.value() - 1));
    let mut next = base_offset;
    let mut timestamp_max = TimestampMs::NONE;
    for batch in entry.batches() {
        if batch.base_offset() < next || batch.last_offset() < batch.base_offset() || batch.last_offset() > last_offset
        {
            return None;
        }
        next = batch.last_offset().advance(1);
        if batch.has_records() {
            timestamp_max = timestamp_max.max(batch.timestamp_max());
        }
    }
    Some(IndexedEntry { position, bytes, base_offset, last_offset, timestamp_max })
}

const ZEROES: [u8; IO_ALIGNMENT] = [0; IO_ALIGNMENT];

/// Positions that are ruled out together: enough for the compiler to compare many at a time.
const STRIDE: usize = 128;

/// Index of the first place in `unit`, which stands at `position`, where a header may stand. 64 MiB of noise take 25 ms,
/// a sixth of what they take byte by byte.
fn first_header(unit: &[u8], position: u32, numbers: &RangeInclusive<u64>) -> Option<usize> {
    let count = (unit.len() + 1).saturating_sub(ENTRY_HEADER_BYTES);
    for start in (0..count).step_by(STRIDE) {
        let end = count.min(start + STRIDE);
        // Hardly any byte is a kind with a zero behind it.
        let kinds = &unit[start + ENTRY_KIND_AT..end + ENTRY_KIND_AT];
        let zeroes = &unit[start + ENTRY_KIND_AT + 1..end + ENTRY_KIND_AT + 1];
        let is_kind = |kind: u8, zero: u8| (kind.wrapping_sub(1) < ENTRY_KIND_MAX) & (zero == 0);
        if !kinds.iter().zip(zeroes).fold(false, |any, (kind, zero)| any | is_kind(*kind, *zero)) {
            continue;
        }
        let headers = unit[start..].windows(ENTRY_HEADER_BYTES).take(end - start);
        let index =
            (position + u32_of(start)..).zip(headers).position(|(at, header)| may_be_header(header, at, numbers));
        if let Some(index) = index {
            return Some(start + index);
        }
    }
    None
}

/// Whether the bytes at a position may be a header: a segment in `numbers`, and the entry before it ends where this one
/// may follow.
fn may_be_header(bytes: &[u8], position: u32, numbers: &RangeInclusive<u64>) -> bool {
    let segment = u64::from_le_bytes(*bytes[ENTRY_SEGMENT_AT..].first_chunk().expect("a header is longer"));
    let previous_end = u32::from_le_bytes(*bytes[ENTRY_PREVIOUS_END_AT..].first_chunk().expect("a header is as long"));
    if !numbers.contains(&segment) || previous_end > position {
        return false;
    }
    let follows_at = entry_position(previous_end);
    position == follows_at || position == next_unit(follows_at)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::runtime::Runtime;
    use crate::simulation::Simulation;
    use crate::store::format::{Control, EntryKind};
    use crate::types::{LogId, LogPosition};

    const SEGMENT: u64 = 7;

    /// A control entry as it stands behind `previous_end`.
    fn entry(previous_end: u32, log: u64) -> Vec<u8> {
        let payload = Control::Delete.encode();
        let mut bytes =
            header(previous_end, log, u32::try_from(payload.len()).unwrap()).encode([&payload[..]]).to_vec();
        bytes.extend_from_slice(&payload);
        bytes
    }

    fn header(previous_end: u32, log: u64, payload_bytes: u32) -> EntryHeader {
        EntryHeader {
            kind: EntryKind::Control,
            payload_bytes,
            batch_count: 0,
            incarnation: Incarnation::new(1),
            log: LogId::new(log),
            segment: SegmentNumber::new(SEGMENT),
            durable: LogPosition::default(),
            previous_end,
        }
    }

    /// The logs of the entries that are found from the first one's place on, and what is left to be read in vain.
    fn found(content: Vec<u8>) -> (Vec<u64>, u64) {
        let path = Path::new("/data/segment");
        let mut simulation = Simulation::new(1);
        simulation.disk().plant(path, &content);
        simulation
            .run(move |runtime| async move {
                let limit = u32::try_from(content.len()).unwrap();
                let mut scanner = Scanner::new(runtime.open(path).await.unwrap(), limit);
                let (mut at, mut logs) = (SEGMENT_HEADER_BYTES, Vec::new());
                while let Some(scanned) = scanner.resume(at, &(SEGMENT..=SEGMENT)).await.unwrap() {
                    logs.push(scanned.entry.header.log.value());
                    at = scanned.end;
                }
                (logs, scanner.doubt_bytes)
            })
            .finished()
    }

    /// Entries back to back over several units, and where each starts.
    fn packed(content: &mut Vec<u8>, count: u64) -> Vec<usize> {
        let mut starts = Vec::new();
        for log in 0..count {
            let end = u32::try_from(content.len()).unwrap();
            content.resize(usize_of(entry_position(end)), 0);
            starts.push(content.len());
            content.extend_from_slice(&entry(end, log));
        }
        starts
    }

    /// Only the starts of units were tried, so that nothing behind a damaged entry in the same unit was found.
    #[test]
    fn each_entry_behind_a_hole_is_found_wherever_it_stands() {
        let mut content = vec![0; usize_of(SEGMENT_HEADER_BYTES)];
        let starts = packed(&mut content, 400);
        content.resize(content.len().next_multiple_of(4096) + 8192, 0);
        assert_eq!(found(content.clone()).0, (0..400).collect::<Vec<u64>>());
        for hit in [0, 1, 100, 399] {
            for byte in 0..ENTRY_HEADER_BYTES {
                let mut damaged = content.clone();
                damaged[starts[hit] + byte] ^= 0x10;
                let all_but_it: Vec<u64> = (0..400).filter(|log| usize::try_from(*log) != Ok(hit)).collect();
                assert_eq!(found(damaged).0, all_but_it, "byte {byte} of entry {hit}");
            }
        }
    }

    #[test]
    fn records_that_look_like_headers_cost_a_bounded_number_of_bytes() {
        let limit = 64 * 4096;
        let mut content = vec![0; usize_of(SEGMENT_HEADER_BYTES)];
        // Each claims nearly all of the rest and would be summed over all of it.
        while content.len() < limit / 2 {
            let at = u32::try_from(content.len()).unwrap();
            let claimed = u32::try_from(limit).unwrap() - at - 48;
            content.extend_from_slice(&header(at, 1, claimed).encode([&b"another payload"[..]]));
            content.resize(usize_of(entry_position(u32::try_from(content.len()).unwrap())), 0);
        }
        packed(&mut content, 3);
        content.resize(limit, 0);
        let (logs, doubt_bytes) = found(content);
        assert_eq!(logs, [0, 1, 2]);
        assert!(doubt_bytes < u64::try_from(limit).unwrap(), "{doubt_bytes}: false headers were not charged");
    }
}
