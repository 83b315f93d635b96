//! The bytes on disk: segment headers, entries, control payloads and footers. All integers little endian.
//!
//! Pure and of no particular core. It is not a reader or a writer of files. What it decodes is input: every length is
//! checked against what is there, every structure carries a CRC-32C, nothing panics.
//!
//! ```text
//! segment-<file id, 16 hex>          fixed size; the name never changes, recycling writes a new header
//! 0        4096                                          data end         directory            size
//! | header | entry | entry | 0… | entry | entry … | 0…      | (anything)     | rows | extents | 0… trailer |
//!
//! header   0 magic 8 · 8 version u32 · 12 shard u16 · 14 stream u8 · 15 zero u8 · 16 segment number u64
//!          24 incarnation u32 · 28 size u32 · 32 predecessor number u64 · 40 predecessor end u32 · 44 zero u32
//!          48 checkpoint sequence u64 · 56 durable segment u64 · 64 durable byte u32 · 68 zeroes
//!          4092 crc u32 over all before it
//! entry    0 crc u32 · 4 payload length u32 · 8 kind u8 · 9 zero u8 · 10 batch count u16 · 12 incarnation u32
//!          16 log id u64 · 24 segment number u64 · 32 durable segment u64 · 40 durable byte u32 · 44 previous end u32
//!          48 payload
//! row      0 log id u64 · 8 first extent u32 · 12 extent count u32 · 16 base offset i64 · 24 end offset i64 (exclusive)
//!          32 timestamp max i64 · 40 bytes u32 · 44 crc u32 over the row's extents
//! extent   0 base offset i64 · 8 timestamp max i64 · 16 position u32 · 20 length u32; offsets and positions ascend
//! trailer  0 magic 8 · 8 segment number u64 · 16 incarnation u32 · 20 data end u32 · 24 rows u32 · 28 extents u32
//!          32 directory position u32 · 36 extents position u32 · 40 crc u32 over the rows · 44 crc u32 over 0..44
//! ```
//!
//! Entries stand back to back from byte 4096. An entry header never crosses a 4 KiB unit: where fewer than 48 bytes are
//! left in the unit, or where the kind is zero, the next entry starts at the next unit ([`entry_position`]). A zero kind
//! at the start of a unit is the end, and so is an entry whose *previous end* is not where the last one ended.
//!
//! The crc of an entry covers its header behind the crc, and of the payload what nothing else covers: of an append the
//! first 61 bytes of each batch (offset and leader epoch lie outside the batch's own CRC, which covers the rest), of a
//! move its 24-byte prefix as well, of a control entry everything, of padding nothing.
//!
//! A row carries the crc of its own extents, so that one partition's extents can be read and trusted without the rest
//! of the footer, and recovery reads directories only. The price: a footer torn by a crash may show a sound trailer and
//! directory above torn extents. So recovery believes a footer only where it is known to have been durable (a checkpoint
//! calls the segment sealed), and scans the segment otherwise.

use crate::limits::{EXTENT_BYTES_MAX, IO_ALIGNMENT};
use crate::store::BATCH_HEADER_BYTES;
use crate::types::{
    FileId, Incarnation, LogId, LogPosition, Offset, PartitionIndex, SegmentNumber, ShardId, TimestampMs, TopicId,
};

/// Version of everything on this page.
pub const FORMAT_VERSION: u32 = 1;

/// Size of a segment's header block, and so the position of its first entry.
pub const SEGMENT_HEADER_BYTES: u32 = 4096;

/// The unit of direct I/O, as a position.
pub const UNIT_BYTES: u32 = 4096;

/// Size of an entry's header.
pub const ENTRY_HEADER_BYTES: usize = 48;

/// Where the kind of an entry stands in its header; a zero follows.
pub(super) const ENTRY_KIND_AT: usize = 8;

/// The greatest code of a kind, from 1.
pub(super) const ENTRY_KIND_MAX: u8 = 4;

/// Where the segment number stands in an entry's header.
pub(super) const ENTRY_SEGMENT_AT: usize = 24;

/// Where the end of the entry before stands in an entry's header.
pub(super) const ENTRY_PREVIOUS_END_AT: usize = 44;

/// Size of one row of a footer's directory.
pub const ROW_BYTES: usize = 48;

/// Size of one extent in a footer.
pub const EXTENT_BYTES: usize = 24;

/// Size of a footer's trailer: the last bytes of a sealed segment.
pub const TRAILER_BYTES: usize = 48;

/// What stands before the batches of a move entry: source segment u64, base offset i64, end offset i64.
pub const MOVE_PREFIX_BYTES: usize = 24;

const SEGMENT_MAGIC: [u8; 8] = *b"CORELANE";
const TRAILER_MAGIC: [u8; 8] = *b"CORELFTR";
const SEGMENT_CRC_AT: usize = 4092;
const _: () = assert!(IO_ALIGNMENT == 4096);

/// Where the next entry may start when the last one ended at `position`: there, or at the next unit when no entry
/// header fits into what is left of this one. At 4090 the next entry starts at 4096.
pub fn entry_position(position: u32) -> u32 {
    let used = position % UNIT_BYTES;
    let header = u32::try_from(ENTRY_HEADER_BYTES).expect("48 fits");
    if used != 0 && UNIT_BYTES - used < header { next_unit(position) } else { position }
}

/// The first unit boundary above `position - 1`: a boundary stays where it is. Positions lie within a segment, whose
/// size is a multiple of the unit, so this cannot overflow.
pub fn next_unit(position: u32) -> u32 {
    position.next_multiple_of(UNIT_BYTES)
}

/// Name of a segment file.
pub fn segment_file_name(file: FileId) -> String {
    format!("segment-{:016x}", file.value())
}

/// Greatest number that counts as one of ours: segment numbers, file and log ids and checkpoint sequences rise by one, so
/// half the range is beyond any real one, and leaves room to go on from.
pub const NUMBER_MAX: u64 = u64::MAX / 2;

/// As [`NUMBER_MAX`], for incarnations.
pub const INCARNATION_MAX: u32 = u32::MAX / 2;

/// The file id in a segment file's name; `None` for every other file.
pub fn parse_segment_file_name(name: &str) -> Option<FileId> {
    let digits = name.strip_prefix("segment-")?;
    let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if digits.len() != 16 || !digits.bytes().all(lower_hex) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok().filter(|id| *id <= NUMBER_MAX).map(FileId::new)
}

/// Why bytes from the disk are not what stands on this page.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FormatError {
    /// The bytes end too early; with so many from the start of the structure it could be decided.
    #[error("{needed} bytes needed")]
    Truncated {
        /// Bytes needed, counted from the start of the structure.
        needed: u64,
    },
    /// The first bytes are not ours.
    #[error("magic differs")]
    Magic,
    /// A later program wrote it.
    #[error("format version {0} is not supported, this program writes {FORMAT_VERSION}")]
    Version(u32),
    /// The checksum differs.
    #[error("crc differs")]
    Crc,
    /// The kind of an entry is zero: nothing stands here.
    #[error("no entry")]
    NoEntry,
    /// A field holds what it must not.
    #[error("{field} is out of range")]
    Field {
        /// Which one.
        field: &'static str,
    },
}

/// A stream of segments of one shard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stream {
    /// Appends as they come.
    Hot,
    /// What the cleaner moved.
    Cold,
}

/// The header block of a segment: written once per life of the segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SegmentHeader {
    /// The shard whose log this is part of.
    pub shard: ShardId,
    /// The stream of that shard.
    pub stream: Stream,
    /// This segment's number.
    pub number: SegmentNumber,
    /// The life of the store that opened it.
    pub incarnation: Incarnation,
    /// Size of the file in bytes.
    pub bytes: u32,
    /// The segment before it in its stream and the end of that one's last entry; zeroes for the first.
    pub predecessor: LogPosition,
    /// Sequence of the newest durable checkpoint when the segment was opened; 0 when there was none. A store that can
    /// read none so new has lost a checkpoint that was durable, and must not trust an older one.
    pub checkpoint_sequence: u64,
    /// What was durable when the segment was opened: proof of damage as in [`EntryHeader::durable`].
    pub durable: LogPosition,
}

impl SegmentHeader {
    /// The header block, [`SEGMENT_HEADER_BYTES`] long.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_CRC_AT + 4);
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&self.shard.value().to_le_bytes());
        out.push(match self.stream {
            Stream::Hot => 0,
            Stream::Cold => 1,
        });
        out.push(0);
        out.extend_from_slice(&self.number.value().to_le_bytes());
        out.extend_from_slice(&self.incarnation.value().to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.extend_from_slice(&self.predecessor.segment.value().to_le_bytes());
        out.extend_from_slice(&self.predecessor.byte.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.checkpoint_sequence.to_le_bytes());
        out.extend_from_slice(&self.durable.segment.value().to_le_bytes());
        out.extend_from_slice(&self.durable.byte.to_le_bytes());
        out.resize(SEGMENT_CRC_AT, 0);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the header block at the start of `bytes`.
    ///
    /// Errors: `Magic` for a file that never was a segment (all zeroes after a crash during creation), `Version` for
    /// another format; `Crc` and `Field` for a damaged or torn header. The crc stands at the same place in every version,
    /// so a damaged version number is not taken for a later program's.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, FormatError> {
        let needed = SEGMENT_CRC_AT + 4;
        let Some(block) = bytes.get(..needed) else { return Err(truncated(needed)) };
        let (content, crc) = block.split_at(SEGMENT_CRC_AT);
        let mut cursor = Cursor::new(content);
        if cursor.array::<8>()? != SEGMENT_MAGIC {
            return Err(FormatError::Magic);
        }
        if Cursor::new(crc).u32()? != crc32c::crc32c(content) {
            return Err(FormatError::Crc);
        }
        let version = cursor.u32()?;
        if version != FORMAT_VERSION {
            return Err(FormatError::Version(version));
        }
        let shard = ShardId::new(cursor.u16()?);
        let stream = match cursor.u8()? {
            0 => Stream::Hot,
            1 => Stream::Cold,
            _ => return Err(FormatError::Field { field: "stream" }),
        };
        cursor.u8()?;
        let number = cursor.segment_number()?;
        let incarnation = cursor.incarnation()?;
        let segment_bytes = cursor.u32()?;
        if segment_bytes % UNIT_BYTES != 0 || segment_bytes < 2 * SEGMENT_HEADER_BYTES {
            return Err(FormatError::Field { field: "segment size" });
        }
        let predecessor = LogPosition { segment: SegmentNumber::new(cursor.u64()?), byte: cursor.u32()? };
        cursor.u32()?;
        let checkpoint_sequence = cursor.number("checkpoint sequence")?;
        let durable = LogPosition { segment: SegmentNumber::new(cursor.u64()?), byte: cursor.u32()? };
        Ok(SegmentHeader {
            shard,
            stream,
            number,
            incarnation,
            bytes: segment_bytes,
            predecessor,
            checkpoint_sequence,
            durable,
        })
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EntryKind {
    /// Batches of one partition, as appended.
    Append,
    /// Batches of one partition that the cleaner moved: they replace a range only where the partition still maps it to
    /// the source that the prefix names.
    Move,
    /// A fact about a log: see [`Control`].
    Control,
    /// Nothing; its payload is skipped.
    Padding,
}

impl EntryKind {
    fn code(self) -> u8 {
        match self {
            EntryKind::Append => 1,
            EntryKind::Move => 2,
            EntryKind::Control => 3,
            EntryKind::Padding => 4,
        }
    }

    fn of_code(code: u8) -> Result<EntryKind, FormatError> {
        match code {
            0 => Err(FormatError::NoEntry),
            1 => Ok(EntryKind::Append),
            2 => Ok(EntryKind::Move),
            3 => Ok(EntryKind::Control),
            4 => Ok(EntryKind::Padding),
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
    /// Batches in the payload; 0 for control and padding.
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
        let has_batches = matches!(kind, EntryKind::Append | EntryKind::Move);
        if has_batches != (batch_count > 0) {
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
        let (prefix_bytes, has_batches) = match header.kind {
            EntryKind::Append => (0, true),
            EntryKind::Move => (MOVE_PREFIX_BYTES, true),
            EntryKind::Control => (payload.len(), false),
            EntryKind::Padding => (0, false),
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

    /// The batches of the entry, in order; none for control and padding.
    pub fn batches(&self) -> impl Iterator<Item = StoredBatch<'a>> + use<'a> {
        let (bytes, count) = match self.header.kind {
            EntryKind::Append => (self.payload, self.header.batch_count),
            EntryKind::Move => (&self.payload[MOVE_PREFIX_BYTES..], self.header.batch_count),
            EntryKind::Control | EntryKind::Padding => (&self.payload[..0], 0),
        };
        batches(bytes, count).map(|batch| batch.expect("decode walked the batches"))
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

    /// Greatest timestamp of its records.
    pub fn timestamp_max(&self) -> TimestampMs {
        TimestampMs::new(i64::from_be_bytes(self.field(35)))
    }

    /// Whether its own CRC matches. Together with the entry's crc this covers every byte.
    pub fn crc_matches(&self) -> bool {
        u32::from_be_bytes(self.field(17)) == crc32c::crc32c(&self.bytes[21..])
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        *self.header()[at..].first_chunk().expect("fields lie within the header")
    }
}

/// What a control entry says of its log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Control {
    /// The log begins: a new life of a partition.
    Create {
        /// The topic.
        topic: TopicId,
        /// The partition's index in it.
        partition: PartitionIndex,
    },
    /// The log ended; its id never comes back.
    Delete,
    /// The first offset that may be read.
    LogStart {
        /// That offset.
        offset: Offset,
    },
}

impl Control {
    /// The payload of the entry.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(21);
        match self {
            Control::Create { topic, partition } => {
                out.push(1);
                out.extend_from_slice(&topic.bytes());
                out.extend_from_slice(&partition.value().to_le_bytes());
            }
            Control::Delete => out.push(2),
            Control::LogStart { offset } => {
                out.push(3);
                out.extend_from_slice(&offset.value().to_le_bytes());
            }
        }
        out
    }

    /// Reads a payload.
    ///
    /// Errors: `Truncated`, or `Field` for an unknown tag or trailing bytes.
    pub fn decode(payload: &[u8]) -> Result<Control, FormatError> {
        let mut cursor = Cursor::new(payload);
        let control = match cursor.u8()? {
            1 => {
                Control::Create { topic: TopicId::new(cursor.array()?), partition: PartitionIndex::new(cursor.i32()?) }
            }
            2 => Control::Delete,
            3 => Control::LogStart { offset: Offset::new(cursor.i64()?) },
            _ => return Err(FormatError::Field { field: "control tag" }),
        };
        if cursor.left() != 0 {
            return Err(FormatError::Field { field: "control length" });
        }
        Ok(control)
    }
}

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
}

fn rows_bytes(rows: u32) -> u64 {
    u64::from(rows) * u64::try_from(ROW_BYTES).expect("48 fits")
}

/// A `u32` as an index: Linux on 64 bits.
pub(crate) fn usize_of(value: u32) -> usize {
    usize::try_from(value).expect("32 bits fit a usize")
}

fn truncated(needed: usize) -> FormatError {
    FormatError::Truncated { needed: u64::try_from(needed).expect("64 bits hold a usize") }
}

/// Reads little-endian integers from bytes that may end anywhere.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `count` bytes, lent.
    pub(crate) fn slice(&mut self, count: usize) -> Result<&'a [u8], FormatError> {
        let end = self.at.checked_add(count);
        let Some(slice) = end.and_then(|end| self.bytes.get(self.at..end)) else {
            return Err(truncated(self.at.saturating_add(count)));
        };
        self.at += count;
        Ok(slice)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        Ok(*self.slice(N)?.first_chunk().expect("the slice has N bytes"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FormatError> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, FormatError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number that rises by one from life to life or thing to thing.
    ///
    /// Errors: `Field` beyond [`NUMBER_MAX`].
    pub(crate) fn number(&mut self, field: &'static str) -> Result<u64, FormatError> {
        let number = self.u64()?;
        if number <= NUMBER_MAX { Ok(number) } else { Err(FormatError::Field { field }) }
    }

    pub(crate) fn segment_number(&mut self) -> Result<SegmentNumber, FormatError> {
        self.number("segment number").map(SegmentNumber::new)
    }

    pub(crate) fn incarnation(&mut self) -> Result<Incarnation, FormatError> {
        let incarnation = self.u32()?;
        if incarnation > INCARNATION_MAX {
            return Err(FormatError::Field { field: "incarnation" });
        }
        Ok(Incarnation::new(incarnation))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, FormatError> {
        self.array().map(i32::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, FormatError> {
        self.array().map(i64::from_le_bytes)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::simulation::random::Random;

    /// A record batch of `bytes` in all, with the fields that the store reads and a CRC that matches.
    pub(crate) fn batch(base: i64, last: i64, timestamp: i64, bytes: usize, fill: u8) -> Vec<u8> {
        let mut out = vec![fill; bytes];
        out[..8].copy_from_slice(&base.to_be_bytes());
        out[8..12].copy_from_slice(&i32::try_from(bytes - 12).unwrap().to_be_bytes());
        out[16] = 2;
        out[23..27].copy_from_slice(&i32::try_from(last - base).unwrap().to_be_bytes());
        out[35..43].copy_from_slice(&timestamp.to_be_bytes());
        let crc = crc32c::crc32c(&out[21..]);
        out[17..21].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// An append entry of these batches.
    pub(crate) fn append(log: LogId, segment: SegmentNumber, batches: &[Vec<u8>]) -> Vec<u8> {
        let payload_bytes = u32::try_from(batches.iter().map(Vec::len).sum::<usize>()).unwrap();
        let header = EntryHeader {
            kind: EntryKind::Append,
            payload_bytes,
            batch_count: u16::try_from(batches.len()).unwrap(),
            incarnation: Incarnation::new(3),
            log,
            segment,
            durable: LogPosition { segment, byte: 4096 },
            previous_end: 4096,
        };
        let mut out = header.encode(batches.iter().map(|batch| &batch[..BATCH_HEADER_BYTES])).to_vec();
        batches.iter().for_each(|batch| out.extend_from_slice(batch));
        out
    }

    fn header() -> SegmentHeader {
        SegmentHeader {
            shard: ShardId::new(3),
            stream: Stream::Cold,
            number: SegmentNumber::new(9),
            incarnation: Incarnation::new(4),
            bytes: 1 << 20,
            predecessor: LogPosition { segment: SegmentNumber::new(8), byte: 77_777 },
            checkpoint_sequence: 12,
            durable: LogPosition { segment: SegmentNumber::new(8), byte: 70_000 },
        }
    }

    fn control_entry(control: Control) -> Vec<u8> {
        let payload = control.encode();
        let header = EntryHeader {
            kind: EntryKind::Control,
            payload_bytes: u32::try_from(payload.len()).unwrap(),
            batch_count: 0,
            incarnation: Incarnation::new(1),
            log: LogId::new(5),
            segment: SegmentNumber::new(2),
            durable: LogPosition::default(),
            previous_end: 4096,
        };
        let mut out = header.encode([payload.as_slice()]).to_vec();
        out.extend_from_slice(&payload);
        out
    }

    #[test]
    fn segment_file_names_round_trip_and_nothing_else_is_one() {
        let file = FileId::new(0x1f);
        assert_eq!(segment_file_name(file), "segment-000000000000001f");
        assert_eq!(parse_segment_file_name("segment-000000000000001f"), Some(file));
        for other in ["segment-1f", "segment-000000000000001F", "segment-+00000000000001f", "checkpoint-0", ""] {
            assert_eq!(parse_segment_file_name(other), None, "{other}");
        }
    }

    #[test]
    fn entry_header_never_crosses_a_unit() {
        assert_eq!(entry_position(4096), 4096);
        assert_eq!(entry_position(8192 - 48), 8192 - 48);
        assert_eq!(entry_position(8192 - 47), 8192);
        assert_eq!(entry_position(8191), 8192);
    }

    #[test]
    fn segment_header_round_trips_and_each_flipped_bit_is_found() {
        let bytes = header().encode();
        assert_eq!(bytes.len(), 4096);
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header()));
        assert_eq!(SegmentHeader::decode(&[0; 4096]), Err(FormatError::Magic));
        assert_eq!(SegmentHeader::decode(&bytes[..4095]), Err(FormatError::Truncated { needed: 4096 }));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let expected = if bit < 64 { FormatError::Magic } else { FormatError::Crc };
            assert_eq!(SegmentHeader::decode(&flipped), Err(expected), "bit {bit}");
        }
    }

    #[test]
    fn later_version_is_named() {
        let mut bytes = header().encode();
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..SEGMENT_CRC_AT]);
        bytes[SEGMENT_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), Err(FormatError::Version(2)));
    }

    #[test]
    fn append_entry_round_trips_with_several_batches() {
        let batches = [batch(10, 19, 5, 200, 1), batch(20, 20, 9, 61, 2), batch(21, 30, 7, 3000, 3)];
        let mut bytes = append(LogId::new(5), SegmentNumber::new(9), &batches);
        let entry_bytes = bytes.len();
        bytes.extend_from_slice(&[0xee; 100]);
        let entry = Entry::decode(&bytes).unwrap();
        assert_eq!(entry.header.entry_bytes(), u64::try_from(entry_bytes).unwrap());
        let found: Vec<(i64, i64, i64, bool)> = entry
            .batches()
            .map(|b| (b.base_offset().value(), b.last_offset().value(), b.timestamp_max().value(), b.crc_matches()))
            .collect();
        assert_eq!(found, [(10, 19, 5, true), (20, 20, 9, true), (21, 30, 7, true)]);
        let needed = u64::try_from(entry_bytes).unwrap();
        assert_eq!(Entry::decode(&bytes[..entry_bytes - 1]).unwrap_err(), FormatError::Truncated { needed });
    }

    #[test]
    fn every_flipped_bit_of_an_entry_is_found_by_one_crc_or_the_other() {
        let batches = [batch(10, 19, 5, 100, 1), batch(20, 20, 9, 90, 2)];
        let bytes = append(LogId::new(5), SegmentNumber::new(9), &batches);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let intact = match Entry::decode(&flipped) {
                Ok(entry) => entry.batches().all(|batch| batch.crc_matches()),
                Err(_) => false,
            };
            assert!(!intact, "bit {bit}");
        }
    }

    #[test]
    fn control_entries_round_trip_and_their_payload_is_covered() {
        for control in [
            Control::Create { topic: TopicId::new([7; 16]), partition: PartitionIndex::new(3) },
            Control::Delete,
            Control::LogStart { offset: Offset::new(1 << 40) },
        ] {
            let bytes = control_entry(control);
            assert_eq!(Control::decode(Entry::decode(&bytes).unwrap().payload), Ok(control));
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(Entry::decode(&flipped).is_err(), "bit {bit}");
            }
        }
        assert_eq!(Control::decode(&[2, 0]), Err(FormatError::Field { field: "control length" }));
        assert_eq!(Control::decode(&[9]), Err(FormatError::Field { field: "control tag" }));
    }

    #[test]
    fn move_entry_covers_its_prefix() {
        let moved = batch(10, 19, 5, 100, 1);
        let header = EntryHeader {
            kind: EntryKind::Move,
            payload_bytes: 124,
            batch_count: 1,
            incarnation: Incarnation::new(1),
            log: LogId::new(5),
            segment: SegmentNumber::new(2),
            durable: LogPosition::default(),
            previous_end: 4096,
        };
        let prefix = [9; MOVE_PREFIX_BYTES];
        let mut bytes = header.encode([&prefix[..], &moved[..BATCH_HEADER_BYTES]]).to_vec();
        bytes.extend_from_slice(&prefix);
        bytes.extend_from_slice(&moved);
        assert_eq!(Entry::decode(&bytes).unwrap().batches().count(), 1);
        bytes[ENTRY_HEADER_BYTES] ^= 1;
        assert_eq!(Entry::decode(&bytes).unwrap_err(), FormatError::Crc);
    }

    #[test]
    fn zero_kind_is_no_entry() {
        assert_eq!(Entry::decode(&[0; 64]).unwrap_err(), FormatError::NoEntry);
    }

    fn footer() -> (Vec<DirectoryRow>, Vec<Extent>, Footer) {
        let mut rows = Vec::new();
        let mut extents = Vec::new();
        for log in 1..=90 {
            let count = 1 + u32::try_from(log).unwrap() % 5;
            for extent in 0..count {
                extents.push(Extent {
                    base_offset: Offset::new(100 + i64::from(extent) * 10),
                    timestamp_max: TimestampMs::new(i64::from(extent)),
                    position: 4096 + extent * 1000,
                    bytes: 1000,
                });
            }
            rows.push(DirectoryRow {
                log: LogId::new(log),
                extent_first: 0,
                extent_count: count,
                base_offset: Offset::new(100),
                end_offset: Offset::new(100 + i64::from(count) * 10),
                timestamp_max: TimestampMs::new(i64::from(count) - 1),
                bytes: count * 1000,
                extents_crc: 0,
            });
        }
        let footer = Footer::encode(&header(), Incarnation::new(4), 20_000, &mut rows, &extents).unwrap();
        (rows, extents, footer)
    }

    #[test]
    fn footer_round_trips_row_by_row() {
        let (rows, extents, footer) = footer();
        assert_eq!(u64::from(footer.position) + u64::try_from(footer.bytes.len()).unwrap(), 1 << 20);
        let last_unit = &footer.bytes[footer.bytes.len() - 4096..];
        let trailer = Trailer::decode(last_unit, 1 << 20).unwrap();
        assert_eq!(trailer, footer.trailer);
        assert_eq!((trailer.number, trailer.data_end), (SegmentNumber::new(9), 20_000));
        let directory = &footer.bytes[..usize_of(trailer.directory_bytes())];
        assert_eq!(trailer.decode_directory(directory).unwrap(), rows);
        for (index, row) in rows.iter().enumerate() {
            let bytes = directory[index * ROW_BYTES..][..ROW_BYTES].try_into().unwrap();
            assert_eq!(trailer.decode_row(bytes).unwrap(), *row);
            let (position, length) = trailer.extents_range(row).unwrap();
            let first = usize_of(position - footer.position);
            let found = row.decode_extents(&footer.bytes[first..first + usize_of(length)], 20_000).unwrap();
            let expected = &extents[usize_of(row.extent_first)..][..usize_of(row.extent_count)];
            assert_eq!(found, expected);
        }
        assert_eq!(Trailer::decode(last_unit, 2 << 20), Err(FormatError::Field { field: "footer position" }));
    }

    #[test]
    fn every_flipped_bit_of_a_footer_is_found() {
        let (_, _, footer) = footer();
        let read = |bytes: &[u8]| -> Result<(), FormatError> {
            let trailer = Trailer::decode(bytes, 1 << 20)?;
            let first_extent = usize_of(trailer.directory_bytes());
            for row in trailer.decode_directory(&bytes[..first_extent])? {
                let (position, length) = trailer.extents_range(&row).unwrap();
                let first = usize_of(position - footer.position);
                row.decode_extents(&bytes[first..first + usize_of(length)], trailer.data_end)?;
            }
            Ok(())
        };
        assert_eq!(read(&footer.bytes), Ok(()));
        let content = 90 * ROW_BYTES + usize_of(footer.trailer.extents) * EXTENT_BYTES;
        let trailer = footer.bytes.len() - TRAILER_BYTES..footer.bytes.len();
        for byte in (0..content).chain(trailer) {
            let mut flipped = footer.bytes.clone();
            flipped[byte] ^= 1 << (byte % 8);
            assert!(read(&flipped).is_err(), "byte {byte}");
        }
    }

    #[test]
    fn footer_that_does_not_fit_is_refused() {
        let small = SegmentHeader { bytes: 8192, ..header() };
        assert_eq!(Footer::encode(&small, Incarnation::new(1), 4097, &mut [], &[]), None);
        assert!(Footer::encode(&small, Incarnation::new(1), 4096, &mut [], &[]).is_some());
    }

    #[test]
    fn rubbish_is_refused_without_a_panic() {
        let mut random = Random::new(11);
        let (_, _, footer) = footer();
        for _ in 0..20_000 {
            let mut bytes = vec![0; random.index(300)];
            random.bytes(&mut bytes);
            if random.chance(1, 2) && bytes.len() > 12 {
                bytes[8] = u8::try_from(random.below(6)).unwrap();
                bytes[4..8].copy_from_slice(&u32::try_from(random.below(400)).unwrap().to_le_bytes());
            }
            assert!(Entry::decode(&bytes).is_err());
            assert!(SegmentHeader::decode(&bytes).is_err());
            let _ = Control::decode(&bytes);
            assert!(Trailer::decode(&bytes, 1 << 20).is_err());
            if let Some(row) = bytes.first_chunk() {
                let _ = footer.trailer.decode_row(row);
            }
            // The lengths of a batch are input too, whatever the CRCs say.
            let _ = StoredBatch::split(&bytes).map(|(batch, _)| (batch.last_offset(), batch.crc_matches()));
        }
    }
}
