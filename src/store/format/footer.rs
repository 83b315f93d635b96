//! The footer of a sealed segment: a directory of logs, and where their entries stand.

use std::ops::Range;

use super::cursor::truncated;
use super::{
    ABORTED_ROW_BYTES, Cursor, EXTENT_BYTES, FORMAT_VERSION, FORMAT_VERSION_MIN, FormatError, ROW_BYTES,
    SEGMENT_HEADER_BYTES, SegmentHeader, TRAILER_BYTES, UNIT_BYTES, usize_of,
};
use crate::limits::{EXTENT_BYTES_MAX, GIVE_BACK_DIVISOR};
use crate::types::{Incarnation, LogId, Offset, ProducerId, SegmentNumber, TimestampMs};

const TRAILER_MAGIC: [u8; 8] = *b"CORELFT2";
const TRAILER_MAGIC_1: [u8; 8] = *b"CORELFTR";
const TRAILER_BYTES_1: usize = 48;

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

/// One row of a footer's directory: what the segment holds of a log. A cold segment may have several of one log, with gaps
/// between them that other segments hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DirectoryRow {
    /// The log.
    pub log: LogId,
    /// Index of its first extent among the segment's extents.
    pub extent_first: u32,
    /// How many extents it has; never 0.
    pub extent_count: u32,
    /// First offset.
    pub base_offset: Offset,
    /// Offset after the last.
    pub end_offset: Offset,
    /// Greatest timestamp.
    pub timestamp_max: TimestampMs,
    /// Bytes of its entries, headers included.
    pub bytes: u32,
    /// CRC over its extents as encoded.
    pub extents_crc: u32,
}

impl DirectoryRow {
    /// Which of the segment's extents are its own.
    pub(in crate::store) fn own_extents(&self) -> Range<usize> {
        usize_of(self.extent_first)..usize_of(self.extent_first) + usize_of(self.extent_count)
    }

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

/// One aborted transaction in a footer: of the segment that holds its marker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AbortedRow {
    /// The log.
    pub log: LogId,
    /// Who began the transaction.
    pub producer: ProducerId,
    /// Its first offset.
    pub first_offset: Offset,
    /// Offset of its marker.
    pub last_offset: Offset,
    /// The last stable offset behind the marker.
    pub last_stable_offset: Offset,
}

impl AbortedRow {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.log.value().to_le_bytes());
        out.extend_from_slice(&self.producer.value().to_le_bytes());
        out.extend_from_slice(&self.first_offset.value().to_le_bytes());
        out.extend_from_slice(&self.last_offset.value().to_le_bytes());
        out.extend_from_slice(&self.last_stable_offset.value().to_le_bytes());
    }

    fn decode(cursor: &mut Cursor<'_>) -> Result<AbortedRow, FormatError> {
        Ok(AbortedRow {
            log: LogId::new(cursor.u64()?),
            producer: ProducerId::new(cursor.i64()?),
            first_offset: Offset::new(cursor.i64()?),
            last_offset: Offset::new(cursor.i64()?),
            last_stable_offset: Offset::new(cursor.i64()?),
        })
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
    /// Aborted transactions in the footer.
    pub aborted: u32,
    /// Position of the first row.
    pub directory_position: u32,
    /// Position of the first extent.
    pub extents_position: u32,
    /// Position of the first aborted row.
    pub aborted_position: u32,
    /// CRC over the rows.
    pub directory_crc: u32,
    /// CRC over the aborted rows.
    pub aborted_crc: u32,
}

impl Trailer {
    /// Reads the trailer from the end of `bytes`, the last unit (or more) of a segment of `segment_bytes`.
    ///
    /// Errors: any; then the segment has no footer and is scanned.
    pub fn decode(bytes: &[u8], segment_bytes: u32) -> Result<Trailer, FormatError> {
        // The magic tells the versions apart; a crc ends each.
        match Trailer::decode_version(bytes, segment_bytes, FORMAT_VERSION) {
            Err(FormatError::Magic) => Trailer::decode_version(bytes, segment_bytes, FORMAT_VERSION_MIN),
            decoded => decoded,
        }
    }

    fn decode_version(bytes: &[u8], segment_bytes: u32, version: u32) -> Result<Trailer, FormatError> {
        let (magic, trailer_bytes) = shape(version);
        let start = bytes.len().checked_sub(trailer_bytes).ok_or(truncated(trailer_bytes))?;
        let (content, crc) = bytes[start..].split_at(trailer_bytes - 4);
        let mut cursor = Cursor::new(content);
        if cursor.array::<8>()? != magic {
            return Err(FormatError::Magic);
        }
        if Cursor::new(crc).u32()? != crc32c::crc32c(content) {
            return Err(FormatError::Crc);
        }
        let has_aborted = version > FORMAT_VERSION_MIN;
        let only_new = |cursor: &mut Cursor<'_>| if has_aborted { cursor.u32() } else { Ok(0) };
        let mut trailer = Trailer {
            number: SegmentNumber::new(cursor.u64()?),
            incarnation: Incarnation::new(cursor.u32()?),
            data_end: cursor.u32()?,
            rows: cursor.u32()?,
            extents: cursor.u32()?,
            aborted: only_new(&mut cursor)?,
            directory_position: cursor.u32()?,
            extents_position: cursor.u32()?,
            aborted_position: only_new(&mut cursor)?,
            directory_crc: cursor.u32()?,
            aborted_crc: only_new(&mut cursor)?,
        };
        let footer = footer_bytes_of(version, trailer.rows, trailer.extents, trailer.aborted);
        let directory = u64::from(segment_bytes).checked_sub(footer);
        let extents = u64::from(trailer.directory_position) + rows_bytes(trailer.rows);
        if directory != Some(u64::from(trailer.directory_position)) || extents != u64::from(trailer.extents_position) {
            return Err(FormatError::Field { field: "footer position" });
        }
        // Behind the extents, which fit as just checked.
        let aborted = extents + extents_bytes(trailer.extents);
        if has_aborted && aborted != u64::from(trailer.aborted_position) {
            return Err(FormatError::Field { field: "footer position" });
        }
        trailer.aborted_position =
            u32::try_from(aborted).map_err(|_| FormatError::Field { field: "footer position" })?;
        if !(SEGMENT_HEADER_BYTES..=trailer.directory_position).contains(&trailer.data_end) {
            return Err(FormatError::Field { field: "data end" });
        }
        Ok(trailer)
    }

    /// Appends the trailer to what stands before it, so that all are `total` bytes.
    fn encode(&self, version: u32, total: usize, out: &mut Vec<u8>) {
        let (magic, trailer_bytes) = shape(version);
        let start = total - trailer_bytes;
        out.resize(start, 0);
        out.extend_from_slice(&magic);
        out.extend_from_slice(&self.number.value().to_le_bytes());
        let has_aborted = version > FORMAT_VERSION_MIN;
        let fields = [
            (self.incarnation.value(), true),
            (self.data_end, true),
            (self.rows, true),
            (self.extents, true),
            (self.aborted, has_aborted),
            (self.directory_position, true),
            (self.extents_position, true),
            (self.aborted_position, has_aborted),
            (self.directory_crc, true),
            (self.aborted_crc, has_aborted),
            (0, has_aborted),
        ];
        let present = fields.into_iter().filter(|(_, is_there)| *is_there);
        present.for_each(|(field, _)| out.extend_from_slice(&field.to_le_bytes()));
        let crc = crc32c::crc32c(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
        assert!(out.len() == total);
    }

    /// Reads the aborted transactions from exactly their bytes, which stand at `aborted_position`.
    ///
    /// Errors: `Crc`, or `Truncated`.
    pub fn decode_aborted(&self, bytes: &[u8]) -> Result<Vec<AbortedRow>, FormatError> {
        if u64::try_from(bytes.len()) != Ok(aborted_bytes(self.aborted)) {
            return Err(FormatError::Truncated { needed: aborted_bytes(self.aborted) });
        }
        if crc32c::crc32c(bytes) != self.aborted_crc {
            return Err(FormatError::Crc);
        }
        let mut rows = Vec::with_capacity(bytes.len() / ABORTED_ROW_BYTES);
        let mut cursor = Cursor::new(bytes);
        while cursor.left() > 0 {
            rows.push(AbortedRow::decode(&mut cursor)?);
        }
        Ok(rows)
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

    /// Reads the directory from exactly its bytes. Rows come out sorted by log id and offset, each with a sane range of
    /// extents; those of one log do not overlap.
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
            if rows.last().is_some_and(|last| (last.log, last.end_offset) > (row.log, row.base_offset)) {
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

/// Bytes of a footer with so many rows, extents and aborted transactions: whole units. The writer counts them as used while a
/// segment fills.
pub fn footer_bytes(rows: u32, extents: u32, aborted: u32) -> u64 {
    footer_bytes_of(FORMAT_VERSION, rows, extents, aborted)
}

fn footer_bytes_of(version: u32, rows: u32, extents: u32, aborted: u32) -> u64 {
    let trailer = u64::try_from(shape(version).1).expect("64 fits");
    let content = rows_bytes(rows) + extents_bytes(extents) + aborted_bytes(aborted);
    (content + trailer).next_multiple_of(u64::from(UNIT_BYTES))
}

/// Magic and size of a trailer.
fn shape(version: u32) -> ([u8; 8], usize) {
    if version > FORMAT_VERSION_MIN { (TRAILER_MAGIC, TRAILER_BYTES) } else { (TRAILER_MAGIC_1, TRAILER_BYTES_1) }
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
    /// Builds the footer of a segment, in the segment's version, from each log's extents, sorted by log id and offset. The crc
    /// and the extent range of the rows are set here.
    ///
    /// `None` when it does not fit behind the data: never for a segment that this program filled, since the writer counts
    /// the footer as used.
    pub fn encode(
        header: &SegmentHeader,
        incarnation: Incarnation,
        data_end: u32,
        rows: &mut [DirectoryRow],
        extents: &[Extent],
        aborted: &[AbortedRow],
    ) -> Option<Footer> {
        assert!(aborted.is_empty() || header.version > FORMAT_VERSION_MIN);
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
        let mut aborted_bytes = Vec::with_capacity(aborted.len() * ABORTED_ROW_BYTES);
        aborted.iter().for_each(|row| row.encode(&mut aborted_bytes));
        let (row_count, aborted_count) = (u32::try_from(rows.len()).ok()?, u32::try_from(aborted.len()).ok()?);
        let total = u32::try_from(footer_bytes_of(header.version, row_count, first, aborted_count)).ok()?;
        let directory_position = header.bytes.checked_sub(total)?;
        if data_end.checked_next_multiple_of(UNIT_BYTES)? > directory_position {
            return None;
        }
        let extents_position = directory_position + u32::try_from(row_bytes.len()).expect("rows fit a segment");
        let trailer = Trailer {
            number: header.number,
            incarnation,
            data_end,
            rows: row_count,
            extents: first,
            aborted: aborted_count,
            directory_position,
            extents_position,
            aborted_position: extents_position + u32::try_from(extent_bytes.len()).expect("extents fit a segment"),
            directory_crc: crc32c::crc32c(&row_bytes),
            aborted_crc: crc32c::crc32c(&aborted_bytes),
        };
        let mut bytes = row_bytes;
        bytes.append(&mut extent_bytes);
        bytes.append(&mut aborted_bytes);
        trailer.encode(header.version, usize_of(total), &mut bytes);
        Some(Footer { position: directory_position, bytes, trailer })
    }

    /// What lies between the data of a sealed segment and its footer, when it is worth giving back: mostly what a crash left.
    pub(in crate::store) fn unused(&self, segment_bytes: u32) -> Option<Range<u32>> {
        let rest = self.trailer.data_end.next_multiple_of(UNIT_BYTES)..self.position;
        (rest.end.saturating_sub(rest.start) >= segment_bytes / GIVE_BACK_DIVISOR).then_some(rest)
    }
}

fn extents_bytes(extents: u32) -> u64 {
    u64::from(extents) * u64::try_from(EXTENT_BYTES).expect("24 fits")
}

fn aborted_bytes(aborted: u32) -> u64 {
    u64::from(aborted) * u64::try_from(ABORTED_ROW_BYTES).expect("40 fits")
}

fn rows_bytes(rows: u32) -> u64 {
    u64::from(rows) * u64::try_from(ROW_BYTES).expect("48 fits")
}
