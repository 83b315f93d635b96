//! The footer of a sealed segment: a directory of logs, and where their entries stand.

use std::ops::Range;

use super::cursor::truncated;
use super::{
    Cursor, EXTENT_BYTES, FormatError, ROW_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader, TRAILER_BYTES, UNIT_BYTES,
    usize_of,
};
use crate::limits::{EXTENT_BYTES_MAX, GIVE_BACK_DIVISOR};
use crate::types::{Incarnation, LogId, Offset, SegmentNumber, TimestampMs};

const TRAILER_MAGIC: [u8; 8] = *b"CORELFTR";

/// A run of consecutive entries of one log that are contiguous in the segment, coalesced up to
/// [`EXTENT_BYTES_MAX`]; a single larger entry is an extent of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Extent {
    /// Offset of its first record. Its records end where the next extent of the log begins.
    pub base_offset: Offset,
    /// Greatest timestamp in it.
    pub timestamp_max: TimestampMs,
    /// Position of its first entry header in the segment.
    pub position: u32,
    /// Bytes of its entries, headers included.
    pub bytes: u32,
}

impl Extent {
    /// Position behind its last entry.
    pub fn end(&self) -> u32 {
        self.position + self.bytes
    }

    /// Whether an entry of `entry_bytes` at `position` joins this extent.
    pub fn takes(&self, position: u32, entry_bytes: u32) -> bool {
        self.end() == position && self.bytes.checked_add(entry_bytes).is_some_and(|bytes| bytes <= EXTENT_BYTES_MAX)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.base_offset.value().to_le_bytes());
        out.extend_from_slice(&self.timestamp_max.value().to_le_bytes());
        out.extend_from_slice(&self.position.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
    }
}

/// One log's row in a footer's directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DirectoryRow {
    /// The log.
    pub log: LogId,
    /// Index of its first extent among the segment's extents.
    pub extent_first: u32,
    /// How many extents it has; never 0.
    pub extent_count: u32,
    /// First offset in the segment.
    pub base_offset: Offset,
    /// Offset after the last in the segment.
    pub end_offset: Offset,
    /// Greatest timestamp in the segment.
    pub timestamp_max: TimestampMs,
    /// Bytes of its entries, headers included.
    pub bytes: u32,
    /// CRC over its extents as encoded.
    pub extents_crc: u32,
}

impl DirectoryRow {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.log.value().to_le_bytes());
        out.extend_from_slice(&self.extent_first.to_le_bytes());
        out.extend_from_slice(&self.extent_count.to_le_bytes());
        out.extend_from_slice(&self.base_offset.value().to_le_bytes());
        out.extend_from_slice(&self.end_offset.value().to_le_bytes());
        out.extend_from_slice(&self.timestamp_max.value().to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.extend_from_slice(&self.extents_crc.to_le_bytes());
    }

    fn decode(cursor: &mut Cursor<'_>) -> Result<DirectoryRow, FormatError> {
        Ok(DirectoryRow {
            log: LogId::new(cursor.u64()?),
            extent_first: cursor.u32()?,
            extent_count: cursor.u32()?,
            base_offset: Offset::new(cursor.i64()?),
            end_offset: Offset::new(cursor.i64()?),
            timestamp_max: TimestampMs::new(cursor.i64()?),
            bytes: cursor.u32()?,
            extents_crc: cursor.u32()?,
        })
    }

    /// Reads this row's extents from exactly their bytes: `extent_count` times [`EXTENT_BYTES`].
    ///
    /// Errors: `Crc`, or `Field` when an extent lies beyond `data_end`, or offsets or positions do not ascend.
    pub fn decode_extents(&self, bytes: &[u8], data_end: u32) -> Result<Vec<Extent>, FormatError> {
        let needed = u64::from(self.extent_count) * u64::try_from(EXTENT_BYTES).expect("24 fits");
        if u64::try_from(bytes.len()) != Ok(needed) {
            return Err(FormatError::Truncated { needed });
        }
        if crc32c::crc32c(bytes) != self.extents_crc {
            return Err(FormatError::Crc);
        }
        let mut extents: Vec<Extent> = Vec::with_capacity(bytes.len() / EXTENT_BYTES);
        let mut cursor = Cursor::new(bytes);
        while cursor.left() > 0 {
            let extent = Extent {
                base_offset: Offset::new(cursor.i64()?),
                timestamp_max: TimestampMs::new(cursor.i64()?),
                position: cursor.u32()?,
                bytes: cursor.u32()?,
            };
            let end = extent.position.checked_add(extent.bytes);
            let inside = extent.position >= SEGMENT_HEADER_BYTES && end.is_some_and(|end| end <= data_end);
            let first_expected = match extents.last() {
                None => extent.base_offset == self.base_offset,
                Some(last) => {
                    let ascends = last.base_offset < extent.base_offset && last.end() <= extent.position;
                    ascends && extent.base_offset < self.end_offset
                }
            };
            if !inside || !first_expected {
                return Err(FormatError::Field { field: "extent" });
            }
            extents.push(extent);
        }
        Ok(extents)
    }
}

/// The last bytes of a sealed segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Trailer {
    /// The segment.
    pub number: SegmentNumber,
    /// The life of the store that sealed it.
    pub incarnation: Incarnation,
    /// Position behind the last entry.
    pub data_end: u32,
    /// Rows in the directory.
    pub rows: u32,
    /// Extents in the footer.
    pub extents: u32,
    /// Position of the first row.
    pub directory_position: u32,
    /// Position of the first extent.
    pub extents_position: u32,
    /// CRC over the rows.
    pub directory_crc: u32,
}

impl Trailer {
    /// Reads the trailer from the end of `bytes`, the last unit (or more) of a segment of `segment_bytes`.
    ///
    /// Errors: any; then the segment has no footer and is scanned.
    pub fn decode(bytes: &[u8], segment_bytes: u32) -> Result<Trailer, FormatError> {
        let start = bytes.len().checked_sub(TRAILER_BYTES).ok_or(truncated(TRAILER_BYTES))?;
        let (content, crc) = bytes[start..].split_at(TRAILER_BYTES - 4);
        let mut cursor = Cursor::new(content);
        if cursor.array::<8>()? != TRAILER_MAGIC {
            return Err(FormatError::Magic);
        }
        if Cursor::new(crc).u32()? != crc32c::crc32c(content) {
            return Err(FormatError::Crc);
        }
        let trailer = Trailer {
            number: SegmentNumber::new(cursor.u64()?),
            incarnation: Incarnation::new(cursor.u32()?),
            data_end: cursor.u32()?,
            rows: cursor.u32()?,
            extents: cursor.u32()?,
            directory_position: cursor.u32()?,
            extents_position: cursor.u32()?,
            directory_crc: cursor.u32()?,
        };
        let footer = footer_bytes(trailer.rows, trailer.extents);
        let directory = u64::from(segment_bytes).checked_sub(footer);
        let extents = u64::from(trailer.directory_position) + rows_bytes(trailer.rows);
        if directory != Some(u64::from(trailer.directory_position)) || extents != u64::from(trailer.extents_position) {
            return Err(FormatError::Field { field: "footer position" });
        }
        if !(SEGMENT_HEADER_BYTES..=trailer.directory_position).contains(&trailer.data_end) {
            return Err(FormatError::Field { field: "data end" });
        }
        Ok(trailer)
    }

    /// Bytes of the directory, from `directory_position`.
    pub fn directory_bytes(&self) -> u32 {
        self.extents_position - self.directory_position
    }

    /// Where a row's extents stand in the file: position and bytes. `None` when the row reaches beyond the footer.
    pub fn extents_range(&self, row: &DirectoryRow) -> Option<(u32, u32)> {
        let end = row.extent_first.checked_add(row.extent_count)?;
        if end > self.extents {
            return None;
        }
        let extent = u32::try_from(EXTENT_BYTES).ok()?;
        let position = self.extents_position.checked_add(row.extent_first.checked_mul(extent)?)?;
        Some((position, row.extent_count.checked_mul(extent)?))
    }

    /// Reads the directory from exactly its bytes. Rows come out sorted by log id, each with a sane range of extents.
    ///
    /// Errors: `Crc`, or `Field` for rows out of order or reaching beyond the footer.
    pub fn decode_directory(&self, bytes: &[u8]) -> Result<Vec<DirectoryRow>, FormatError> {
        if u64::try_from(bytes.len()) != Ok(rows_bytes(self.rows)) {
            return Err(FormatError::Truncated { needed: rows_bytes(self.rows) });
        }
        if crc32c::crc32c(bytes) != self.directory_crc {
            return Err(FormatError::Crc);
        }
        let mut rows: Vec<DirectoryRow> = Vec::with_capacity(bytes.len() / ROW_BYTES);
        let mut cursor = Cursor::new(bytes);
        while cursor.left() > 0 {
            let row = DirectoryRow::decode(&mut cursor)?;
            self.check(&row)?;
            if rows.last().is_some_and(|last| last.log >= row.log) {
                return Err(FormatError::Field { field: "directory order" });
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// Reads row `row` of the directory from exactly its bytes. Its content has no crc of its own; the extents' crc in
    /// it has to match, and its log id the one looked for.
    pub fn decode_row(&self, bytes: &[u8; ROW_BYTES]) -> Result<DirectoryRow, FormatError> {
        let row = DirectoryRow::decode(&mut Cursor::new(bytes))?;
        self.check(&row)?;
        Ok(row)
    }

    fn check(&self, row: &DirectoryRow) -> Result<(), FormatError> {
        if row.extent_count == 0 || self.extents_range(row).is_none() || row.base_offset >= row.end_offset {
            return Err(FormatError::Field { field: "directory row" });
        }
        Ok(())
    }
}

/// Bytes of a footer with so many rows and extents: whole units. The writer counts them as used while a segment fills.
pub fn footer_bytes(rows: u32, extents: u32) -> u64 {
    let extents_bytes = u64::from(extents) * u64::try_from(EXTENT_BYTES).expect("24 fits");
    let trailer = u64::try_from(TRAILER_BYTES).expect("48 fits");
    (rows_bytes(rows) + extents_bytes + trailer).next_multiple_of(u64::from(UNIT_BYTES))
}

/// The footer of a sealed segment: bytes and the position to write them at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Footer {
    /// Position of `bytes` in the segment: a multiple of the unit, at or above the data end rounded up to it.
    pub position: u32,
    /// Whole units; they end where the file ends.
    pub bytes: Vec<u8>,
    /// The trailer among them.
    pub trailer: Trailer,
}

impl Footer {
    /// Builds the footer of a segment from each log's extents, sorted by log id. The crc and the extent range of the
    /// rows are set here.
    ///
    /// `None` when it does not fit behind the data: never for a segment that this program filled, since the writer counts
    /// the footer as used.
    pub fn encode(
        header: &SegmentHeader,
        incarnation: Incarnation,
        data_end: u32,
        rows: &mut [DirectoryRow],
        extents: &[Extent],
    ) -> Option<Footer> {
        let mut extent_bytes = Vec::with_capacity(extents.len() * EXTENT_BYTES);
        extents.iter().for_each(|extent| extent.encode(&mut extent_bytes));
        let mut row_bytes = Vec::with_capacity(rows.len() * ROW_BYTES);
        let mut first = 0_u32;
        for row in rows.iter_mut() {
            row.extent_first = first;
            first += row.extent_count;
            let range = usize_of(row.extent_first) * EXTENT_BYTES..usize_of(first) * EXTENT_BYTES;
            row.extents_crc = crc32c::crc32c(&extent_bytes[range]);
            row.encode(&mut row_bytes);
        }
        assert!(usize_of(first) == extents.len());
        let row_count = u32::try_from(rows.len()).ok()?;
        let total = u32::try_from(footer_bytes(row_count, first)).ok()?;
        let directory_position = header.bytes.checked_sub(total)?;
        if data_end.checked_next_multiple_of(UNIT_BYTES)? > directory_position {
            return None;
        }
        let trailer = Trailer {
            number: header.number,
            incarnation,
            data_end,
            rows: row_count,
            extents: first,
            directory_position,
            extents_position: directory_position + u32::try_from(row_bytes.len()).expect("rows fit a segment"),
            directory_crc: crc32c::crc32c(&row_bytes),
        };
        let mut bytes = row_bytes;
        bytes.append(&mut extent_bytes);
        bytes.resize(usize_of(total) - TRAILER_BYTES, 0);
        bytes.extend_from_slice(&TRAILER_MAGIC);
        bytes.extend_from_slice(&trailer.number.value().to_le_bytes());
        for field in [
            trailer.incarnation.value(),
            trailer.data_end,
            trailer.rows,
            trailer.extents,
            trailer.directory_position,
            trailer.extents_position,
            trailer.directory_crc,
        ] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes[usize_of(total) - TRAILER_BYTES..]);
        bytes.extend_from_slice(&crc.to_le_bytes());
        Some(Footer { position: directory_position, bytes, trailer })
    }

    /// What lies between the data of a sealed segment and its footer, when it is worth giving back: mostly what a crash left.
    pub(in crate::store) fn unused(&self, segment_bytes: u32) -> Option<Range<u32>> {
        let rest = self.trailer.data_end.next_multiple_of(UNIT_BYTES)..self.position;
        (rest.end.saturating_sub(rest.start) >= segment_bytes / GIVE_BACK_DIVISOR).then_some(rest)
    }
}

fn rows_bytes(rows: u32) -> u64 {
    u64::from(rows) * u64::try_from(ROW_BYTES).expect("48 fits")
}
