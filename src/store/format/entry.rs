//! Entries, and the record batches in them.

use super::cursor::truncated;
use super::{Cursor, ENTRY_HEADER_BYTES, FormatError, MARKER_PREFIX_BYTES, MOVE_PREFIX_BYTES};
use crate::store::BATCH_HEADER_BYTES;
use crate::types::{Incarnation, LogId, LogPosition, Offset, SegmentNumber, TimestampMs};

/// What an entry is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EntryKind {
    /// Batches of one partition, as appended.
    Append,
    /// Batches of one partition that a job of the cleaner moved: all that is left of a range of offsets.
    Move,
    /// A fact about a log: see [`Control`].
    Control,
    /// Nothing; its payload is skipped.
    Padding,
    /// One control batch, as appended: the end of a transaction.
    Marker,
    /// One control batch that was moved.
    MovedMarker,
}

impl EntryKind {
    fn code(self) -> u8 {
        match self {
            EntryKind::Append => 1,
            EntryKind::Move => 2,
            EntryKind::Control => 3,
            EntryKind::Padding => 4,
            EntryKind::Marker => 5,
            EntryKind::MovedMarker => 6,
        }
    }

    /// Whether its payload ends with batches.
    pub fn has_batches(self) -> bool {
        match self {
            EntryKind::Append | EntryKind::Move | EntryKind::Marker | EntryKind::MovedMarker => true,
            EntryKind::Control | EntryKind::Padding => false,
        }
    }

    /// Whether it was written by a job of the cleaner.
    pub fn is_moved(self) -> bool {
        matches!(self, EntryKind::Move | EntryKind::MovedMarker)
    }

    /// Bytes of the payload before the batches.
    fn prefix_bytes(self) -> usize {
        match self {
            EntryKind::Append | EntryKind::Control | EntryKind::Padding => 0,
            EntryKind::Move => MOVE_PREFIX_BYTES,
            EntryKind::Marker => MARKER_PREFIX_BYTES,
            EntryKind::MovedMarker => MOVE_PREFIX_BYTES + MARKER_PREFIX_BYTES,
        }
    }

    fn of_code(code: u8) -> Result<EntryKind, FormatError> {
        match code {
            0 => Err(FormatError::NoEntry),
            1 => Ok(EntryKind::Append),
            2 => Ok(EntryKind::Move),
            3 => Ok(EntryKind::Control),
            4 => Ok(EntryKind::Padding),
            5 => Ok(EntryKind::Marker),
            6 => Ok(EntryKind::MovedMarker),
            _ => Err(FormatError::Field { field: "entry kind" }),
        }
    }
}

/// The header of an entry, without its crc.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EntryHeader {
    /// What the entry is.
    pub kind: EntryKind,
    /// Bytes behind the header.
    pub payload_bytes: u32,
    /// Batches in the payload; 0 for control and padding, and for a move of which nothing is left.
    pub batch_count: u16,
    /// The life of the store that wrote it.
    pub incarnation: Incarnation,
    /// The log it belongs to; 0 for padding.
    pub log: LogId,
    /// The segment it was written to: tells it from what an earlier life of the file left behind.
    pub segment: SegmentNumber,
    /// What was durable when it was written: proof, for a reader that finds less than that before it, of damage.
    pub durable: LogPosition,
    /// Where the entry before it in the segment ends, 4096 for the first. Without it a sector of zeroes that a crash left
    /// behind would pass for padding, and the entries in it would be missed unnoticed.
    pub previous_end: u32,
}

impl EntryHeader {
    /// The header's bytes; `covered` is what the crc covers of the payload, in order: for an append the first 61 bytes
    /// of each batch, for a control entry the payload.
    pub fn encode<'a>(&self, covered: impl IntoIterator<Item = &'a [u8]>) -> [u8; ENTRY_HEADER_BYTES] {
        let mut out = [0; ENTRY_HEADER_BYTES];
        out[4..8].copy_from_slice(&self.payload_bytes.to_le_bytes());
        out[8] = self.kind.code();
        out[10..12].copy_from_slice(&self.batch_count.to_le_bytes());
        out[12..16].copy_from_slice(&self.incarnation.value().to_le_bytes());
        out[16..24].copy_from_slice(&self.log.value().to_le_bytes());
        out[24..32].copy_from_slice(&self.segment.value().to_le_bytes());
        out[32..40].copy_from_slice(&self.durable.segment.value().to_le_bytes());
        out[40..44].copy_from_slice(&self.durable.byte.to_le_bytes());
        out[44..48].copy_from_slice(&self.previous_end.to_le_bytes());
        let crc = covered.into_iter().fold(crc32c::crc32c(&out[4..]), crc32c::crc32c_append);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the header at the start of `bytes` without checking the crc, which needs the payload: [`Entry::decode`].
    /// Until then nothing in it may be believed but that it is worth reading so many bytes more, if they are there.
    ///
    /// Errors: `NoEntry` for a zero kind.
    pub fn decode_unchecked(bytes: &[u8]) -> Result<EntryHeader, FormatError> {
        let Some(bytes) = bytes.get(..ENTRY_HEADER_BYTES) else { return Err(truncated(ENTRY_HEADER_BYTES)) };
        let mut cursor = Cursor::new(&bytes[4..]);
        let payload_bytes = cursor.u32()?;
        let kind = EntryKind::of_code(cursor.u8()?)?;
        cursor.u8()?;
        let batch_count = cursor.u16()?;
        let header = EntryHeader {
            kind,
            payload_bytes,
            batch_count,
            incarnation: cursor.incarnation()?,
            log: LogId::new(cursor.number("log id")?),
            segment: cursor.segment_number()?,
            durable: LogPosition { segment: SegmentNumber::new(cursor.u64()?), byte: cursor.u32()? },
            previous_end: cursor.u32()?,
        };
        let is_sane = match kind {
            EntryKind::Append => batch_count > 0,
            EntryKind::Move => true,
            EntryKind::Marker | EntryKind::MovedMarker => batch_count == 1,
            EntryKind::Control | EntryKind::Padding => batch_count == 0,
        };
        if !is_sane {
            return Err(FormatError::Field { field: "batch count" });
        }
        Ok(header)
    }

    /// Bytes of header and payload together.
    pub fn entry_bytes(&self) -> u64 {
        u64::from(self.payload_bytes) + u64::try_from(ENTRY_HEADER_BYTES).expect("48 fits")
    }
}

/// An entry whose crc was checked, where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its header.
    pub header: EntryHeader,
    /// Its payload.
    pub payload: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Reads the entry at the start of `bytes`, which may go on beyond it, and checks its crc and the lengths of its
    /// batches. The batches' own CRCs are not checked: [`StoredBatch::crc_matches`].
    ///
    /// Errors: `Truncated` says how many bytes the entry has; the caller compares that with what is left of the segment
    /// before it reads more.
    pub fn decode(bytes: &'a [u8]) -> Result<Entry<'a>, FormatError> {
        let header = EntryHeader::decode_unchecked(bytes)?;
        let entry_bytes = header.entry_bytes();
        let entry = usize::try_from(entry_bytes).ok().and_then(|end| bytes.get(..end));
        let Some(entry) = entry else { return Err(FormatError::Truncated { needed: entry_bytes }) };
        let (head, payload) = entry.split_at(ENTRY_HEADER_BYTES);
        let mut crc = crc32c::crc32c(&head[4..]);
        let has_batches = header.kind.has_batches();
        let prefix_bytes = match header.kind {
            EntryKind::Control => payload.len(),
            kind => kind.prefix_bytes(),
        };
        let Some(prefix) = payload.get(..prefix_bytes) else {
            return Err(FormatError::Field { field: "payload length" });
        };
        crc = crc32c::crc32c_append(crc, prefix);
        if has_batches {
            for batch in batches(&payload[prefix_bytes..], header.batch_count) {
                crc = crc32c::crc32c_append(crc, batch?.header());
            }
        }
        if crc.to_le_bytes() != head[..4] {
            return Err(FormatError::Crc);
        }
        Ok(Entry { header, payload })
    }

    /// What a move says of its range; `None` for what was not moved.
    ///
    /// Errors: as [`MovePrefix::decode`].
    pub fn move_prefix(&self) -> Option<Result<MovePrefix, FormatError>> {
        self.header.kind.is_moved().then(|| MovePrefix::decode(self.payload))
    }

    /// The batches of the entry, in order; none for control and padding.
    pub fn batches(&self) -> impl Iterator<Item = StoredBatch<'a>> + use<'a> {
        let kind = self.header.kind;
        let bytes = if kind.has_batches() { &self.payload[kind.prefix_bytes()..] } else { &self.payload[..0] };
        batches(bytes, self.header.batch_count).map(|batch| batch.expect("decode walked the batches"))
    }
}

/// What stands before the batches of a move: a range of offsets, and where it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MovePrefix {
    /// The segment that the first of it was read from.
    pub source: SegmentNumber,
    /// First offset of the range.
    pub base_offset: Offset,
    /// Offset after the last of the range.
    pub end_offset: Offset,
}

impl MovePrefix {
    /// The bytes of the prefix.
    pub fn encode(&self) -> [u8; MOVE_PREFIX_BYTES] {
        let mut out = [0; MOVE_PREFIX_BYTES];
        out[..8].copy_from_slice(&self.source.value().to_le_bytes());
        out[8..16].copy_from_slice(&self.base_offset.value().to_le_bytes());
        out[16..].copy_from_slice(&self.end_offset.value().to_le_bytes());
        out
    }

    /// Reads it from the start of a payload.
    ///
    /// Errors: `Field` for a range that ends before it begins.
    pub fn decode(payload: &[u8]) -> Result<MovePrefix, FormatError> {
        let mut cursor = Cursor::new(payload);
        let source = SegmentNumber::new(cursor.u64()?);
        let (base_offset, end_offset) = (Offset::new(cursor.i64()?), Offset::new(cursor.i64()?));
        if base_offset < Offset::ZERO || base_offset >= end_offset {
            return Err(FormatError::Field { field: "moved range" });
        }
        Ok(MovePrefix { source, base_offset, end_offset })
    }
}

/// Walks `count` batches that fill `bytes` exactly. Ends after the first error.
fn batches(bytes: &[u8], count: u16) -> impl Iterator<Item = Result<StoredBatch<'_>, FormatError>> {
    let mut rest = bytes;
    let mut left = count;
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended || (left == 0 && rest.is_empty()) {
            return None;
        }
        let next = if left == 0 { Err(FormatError::Field { field: "batch count" }) } else { StoredBatch::split(rest) };
        match next {
            Ok((batch, behind)) => {
                rest = behind;
                left -= 1;
                Some(Ok(batch))
            }
            Err(error) => {
                ended = true;
                Some(Err(error))
            }
        }
    })
}

/// A record batch v2 as it lies in the log. Big endian inside: it is Kafka's own format.
#[derive(Clone, Copy, Debug)]
pub struct StoredBatch<'a> {
    bytes: &'a [u8],
}

impl<'a> StoredBatch<'a> {
    /// Splits the batch at the start of `bytes` from what stands behind it, by the length it states.
    ///
    /// Errors: `Field` when the length is too small for a batch or goes beyond `bytes`.
    pub fn split(bytes: &'a [u8]) -> Result<(StoredBatch<'a>, &'a [u8]), FormatError> {
        let total = bytes.first_chunk::<12>().and_then(|head| {
            let length = [head[8], head[9], head[10], head[11]];
            usize::try_from(i32::from_be_bytes(length)).ok()?.checked_add(12)
        });
        match total {
            Some(total) if (BATCH_HEADER_BYTES..=bytes.len()).contains(&total) => {
                let (batch, rest) = bytes.split_at(total);
                Ok((StoredBatch { bytes: batch }, rest))
            }
            _ => Err(FormatError::Field { field: "batch length" }),
        }
    }

    /// All of it.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its first 61 bytes.
    pub fn header(&self) -> &'a [u8; BATCH_HEADER_BYTES] {
        self.bytes.first_chunk().expect("split checked the length")
    }

    /// Offset of its first record.
    pub fn base_offset(&self) -> Offset {
        Offset::new(i64::from_be_bytes(self.field(0)))
    }

    /// Offset of its last record. Wraps where damaged bytes ask for it; a caller that did not check a CRC compares.
    pub fn last_offset(&self) -> Offset {
        let delta = i64::from(i32::from_be_bytes(self.field(23)));
        Offset::new(self.base_offset().value().wrapping_add(delta))
    }

    /// Greatest timestamp of its records; of those that it had, where compaction left none.
    pub fn timestamp_max(&self) -> TimestampMs {
        TimestampMs::new(i64::from_be_bytes(self.field(35)))
    }

    /// Whether a record is in it: compaction keeps some batches for what their headers say.
    pub fn has_records(&self) -> bool {
        i32::from_be_bytes(self.field(57)) != 0
    }

    /// Whether its own CRC matches. Together with the entry's crc this covers every byte.
    pub fn crc_matches(&self) -> bool {
        u32::from_be_bytes(self.field(17)) == crc32c::crc32c(&self.bytes[21..])
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        *self.header()[at..].first_chunk().expect("fields lie within the header")
    }
}
