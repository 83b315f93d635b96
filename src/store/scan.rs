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
    ENTRY_HEADER_BYTES, ENTRY_PREVIOUS_END_AT, ENTRY_SEGMENT_AT, Entry, EntryHeader, SEGMENT_HEADER_BYTES, UNIT_BYTES,
    entry_position, next_unit, usize_of,
};
use crate::types::{Incarnation, SegmentNumber};

/// Reads entries at ascending positions.
pub(super) struct Scanner<F> {
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
pub(super) struct Scanned<'a> {
    /// Position of its header.
    pub(super) position: u32,
    /// Position behind it.
    pub(super) end: u32,
    /// The entry.
    pub(super) entry: Entry<'a>,
}

impl<F: File> Scanner<F> {
    /// Reads `file` below `limit`, from the first entry on.
    pub(super) fn new(file: F, limit: u32) -> Scanner<F> {
        let doubt_bytes = SCAN_DOUBT_FACTOR * u64::from(limit);
        Scanner { file, limit, start: SEGMENT_HEADER_BYTES, bytes: Vec::new(), doubt_bytes }
    }

    /// The entry that follows the one that ends at `end`; `None` when none does that counts: one of segment `number`, of
    /// an incarnation of at least `incarnation_min`, and that names `end` as its predecessor's.
    pub(super) async fn next(
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
    pub(super) async fn resume(&mut self, from: u32, numbers: &RangeInclusive<u64>) -> io::Result<Option<Scanned<'_>>> {
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
            // No header crosses a unit.
            let unit_end = next_unit(at + 1).min(self.limit);
            let bytes = usize_of(unit_end - at);
            if !self.load(at, bytes).await? {
                break;
            }
            let unit = &self.view(at)[..bytes];
            if unit != &ZEROES[..bytes]
                && let Some(index) = (at..).zip(unit.windows(ENTRY_HEADER_BYTES)).position(may_be_header(numbers))
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

const ZEROES: [u8; IO_ALIGNMENT] = [0; IO_ALIGNMENT];

/// Whether the bytes at a position may be a header: a segment in `numbers`, and the entry before it ends where this one
/// may follow.
fn may_be_header(numbers: &RangeInclusive<u64>) -> impl Fn((u32, &[u8])) -> bool {
    let (first, span) = (*numbers.start(), numbers.end().saturating_sub(*numbers.start()));
    move |(position, bytes)| {
        let number = u64::from_le_bytes(*bytes[ENTRY_SEGMENT_AT..].first_chunk().expect("a header is longer"));
        if number.wrapping_sub(first) > span {
            return false;
        }
        let previous_end =
            u32::from_le_bytes(*bytes[ENTRY_PREVIOUS_END_AT..].first_chunk().expect("a header is as long"));
        if previous_end > position {
            return false;
        }
        let follows_at = entry_position(previous_end);
        position == follows_at || position == next_unit(follows_at)
    }
}
