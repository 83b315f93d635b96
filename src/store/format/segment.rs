//! The header block of a segment.

use super::cursor::truncated;
use super::{Cursor, FORMAT_VERSION, FORMAT_VERSION_MIN, FormatError, SEGMENT_HEADER_BYTES, UNIT_BYTES};
use crate::types::{Incarnation, LogPosition, SegmentNumber, ShardId};

const SEGMENT_MAGIC: [u8; 8] = *b"CORELANE";
/// Where the crc stands in the header block.
pub(super) const SEGMENT_CRC_AT: usize = 4092;

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
    /// The version of what the segment holds: [`FORMAT_VERSION`], or an older one that is still read.
    pub version: u32,
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
    /// The segment before it and the end of that one's last entry; zeroes for the first, and for a cold one.
    pub predecessor: LogPosition,
    /// Sequence of the newest durable checkpoint when the segment was opened; 0 when there was none. A store that can
    /// read none so new has lost a checkpoint that was durable, and must not trust an older one.
    pub checkpoint_sequence: u64,
    /// What was durable when the segment was opened: proof of damage as in [`EntryHeader::durable`].
    pub durable: LogPosition,
}

impl Stream {
    /// How it is written.
    pub(in crate::store) fn code(self) -> u8 {
        match self {
            Stream::Hot => 0,
            Stream::Cold => 1,
        }
    }

    /// What was written so.
    pub(in crate::store) fn of_code(code: u8) -> Result<Stream, FormatError> {
        match code {
            0 => Ok(Stream::Hot),
            1 => Ok(Stream::Cold),
            _ => Err(FormatError::Field { field: "stream" }),
        }
    }
}

impl SegmentHeader {
    /// The header block, [`SEGMENT_HEADER_BYTES`] long.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_CRC_AT + 4);
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&self.shard.value().to_le_bytes());
        out.push(self.stream.code());
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
        if version > FORMAT_VERSION {
            return Err(FormatError::Version(version));
        }
        if version < FORMAT_VERSION_MIN {
            return Err(FormatError::Field { field: "version" });
        }
        let shard = ShardId::new(cursor.u16()?);
        let stream = Stream::of_code(cursor.u8()?)?;
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
            version,
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
