//! Record batches, message format version 2: the only one that is stored, served or accepted.
//!
//! A batch is a header of 61 bytes and its records, which may be compressed. The header is all that the broker needs to
//! store and serve a batch; it is read without touching the records, and what the broker itself writes (base offset,
//! leader epoch, seldom the timestamp type and the greatest timestamp) is written into a copy of the header, so that
//! neither the receive buffer nor the records are ever copied for it.
//!
//! ```text
//!  0 base offset i64             23 last offset delta i32      51 producer epoch i16
//!  8 length i32, bytes after it  27 base timestamp i64         53 base sequence i32
//! 12 leader epoch i32            35 greatest timestamp i64     57 record count i32
//! 16 magic i8 = 2                43 producer id i64            61 records
//! 17 CRC-32C of bytes 21.. u32
//! 21 attributes i16: 0-2 codec, 3 timestamp is the append's, 4 transactional, 5 control, 6 delete horizon
//! ```
//!
//! Bytes 0 to 20 lie outside the CRC, so an offset or an epoch costs no checksum.

mod builder;
mod rebuild;
mod record;

pub use builder::BatchBuilder;
pub use rebuild::{CrcCheck, IntactBatch, Kept, Rebuild, RebuildStep, RottenBatch};
pub use record::{Header, Headers, Record, RecordMeta, RecordsError, RecordsIter, RecordsPosition, walk};

use crate::protocol::compression::{Codec, DecompressError, Scratch, decompress_into};
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};

/// Bytes of a batch before its records.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Bytes of a batch that its length field does not count: the base offset and the length itself.
pub const LENGTH_OVERHEAD_BYTES: usize = 12;
/// The message format's version.
pub const MAGIC: i8 = 2;

/// What an empty batch declares as its length.
const EMPTY_LENGTH: i32 = 49;
const _: () = assert!(EMPTY_LENGTH as usize == BATCH_HEADER_BYTES - LENGTH_OVERHEAD_BYTES);

const BASE_OFFSET_AT: usize = 0;
const LENGTH_AT: usize = 8;
const LEADER_EPOCH_AT: usize = 12;
pub(crate) const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BASE_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const RECORD_COUNT_AT: usize = 57;

/// Attribute bits 0 to 2: the codec.
pub const CODEC_MASK: i16 = 0x07;
/// Attribute bit 3: every record's timestamp is the time of the append.
pub const LOG_APPEND_TIME_BIT: i16 = 0x08;
/// Attribute bit 4: part of a transaction.
pub const TRANSACTIONAL_BIT: i16 = 0x10;
/// Attribute bit 5: a marker that only brokers write.
pub const CONTROL_BIT: i16 = 0x20;
/// Attribute bit 6: the base timestamp is the time from which compaction may drop the batch's tombstones.
pub const DELETE_HORIZON_BIT: i16 = 0x40;
/// The attribute bits that mean something.
const KNOWN_ATTRIBUTES: i16 = 0x7f;

/// What the timestamps of a batch mean.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TimestampType {
    /// Each record's own, as its producer gave it.
    CreateTime,
    /// The broker's clock at the append, the same for every record.
    LogAppendTime,
}

/// The 61 bytes as values, unchecked: what a peer or a disk wrote.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Bytes after this field, as declared.
    pub length: i32,
    /// Epoch of the leader that appended the batch.
    pub leader_epoch: LeaderEpoch,
    /// The message format's version; everything else is meaningless unless it is [`MAGIC`].
    pub magic: i8,
    /// CRC-32C of everything from the attributes on, as declared.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: i16,
    /// Offset of the last record, from the base offset.
    pub last_offset_delta: i32,
    /// What records count their timestamps from.
    pub base_timestamp: TimestampMs,
    /// Greatest timestamp of the records; with log append time, the timestamp of each.
    pub max_timestamp: TimestampMs,
    /// The idempotent producer, or -1.
    pub producer_id: ProducerId,
    /// Its epoch, or -1.
    pub producer_epoch: ProducerEpoch,
    /// Sequence number of the first record, or -1.
    pub base_sequence: Sequence,
    /// Number of records, as declared.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the fields; any 61 bytes have some.
    pub fn parse(bytes: &[u8; BATCH_HEADER_BYTES]) -> BatchHeader {
        BatchHeader {
            base_offset: Offset::new(i64::from_be_bytes(field(bytes, BASE_OFFSET_AT))),
            length: i32::from_be_bytes(field(bytes, LENGTH_AT)),
            leader_epoch: LeaderEpoch::new(i32::from_be_bytes(field(bytes, LEADER_EPOCH_AT))),
            magic: i8::from_be_bytes(field(bytes, MAGIC_AT)),
            crc: u32::from_be_bytes(field(bytes, CRC_AT)),
            attributes: i16::from_be_bytes(field(bytes, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(field(bytes, LAST_OFFSET_DELTA_AT)),
            base_timestamp: TimestampMs::new(i64::from_be_bytes(field(bytes, BASE_TIMESTAMP_AT))),
            max_timestamp: TimestampMs::new(i64::from_be_bytes(field(bytes, MAX_TIMESTAMP_AT))),
            producer_id: ProducerId::new(i64::from_be_bytes(field(bytes, PRODUCER_ID_AT))),
            producer_epoch: ProducerEpoch::new(i16::from_be_bytes(field(bytes, PRODUCER_EPOCH_AT))),
            base_sequence: Sequence::new(i32::from_be_bytes(field(bytes, BASE_SEQUENCE_AT))),
            record_count: i32::from_be_bytes(field(bytes, RECORD_COUNT_AT)),
        }
    }

    /// The fields as bytes.
    pub fn to_bytes(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut bytes = [0; BATCH_HEADER_BYTES];
        put(&mut bytes, BASE_OFFSET_AT, self.base_offset.value().to_be_bytes());
        put(&mut bytes, LENGTH_AT, self.length.to_be_bytes());
        put(&mut bytes, LEADER_EPOCH_AT, self.leader_epoch.value().to_be_bytes());
        put(&mut bytes, MAGIC_AT, self.magic.to_be_bytes());
        put(&mut bytes, CRC_AT, self.crc.to_be_bytes());
        put(&mut bytes, ATTRIBUTES_AT, self.attributes.to_be_bytes());
        put(&mut bytes, LAST_OFFSET_DELTA_AT, self.last_offset_delta.to_be_bytes());
        put(&mut bytes, BASE_TIMESTAMP_AT, self.base_timestamp.value().to_be_bytes());
        put(&mut bytes, MAX_TIMESTAMP_AT, self.max_timestamp.value().to_be_bytes());
        put(&mut bytes, PRODUCER_ID_AT, self.producer_id.value().to_be_bytes());
        put(&mut bytes, PRODUCER_EPOCH_AT, self.producer_epoch.value().to_be_bytes());
        put(&mut bytes, BASE_SEQUENCE_AT, self.base_sequence.value().to_be_bytes());
        put(&mut bytes, RECORD_COUNT_AT, self.record_count.to_be_bytes());
        bytes
    }

    /// Bytes of the batch with its records, of a header that was validated.
    pub fn batch_bytes(&self) -> u32 {
        let overhead = u32::try_from(LENGTH_OVERHEAD_BYTES).expect("12 fits");
        u32::try_from(self.length).expect("a validated length") + overhead
    }

    /// The codec of the records; `None` for a number nobody has defined.
    pub fn codec(&self) -> Option<Codec> {
        Codec::from_id(self.attributes & CODEC_MASK)
    }

    /// What the timestamps mean.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME_BIT == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether the batch is a marker that only brokers write.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// From when on compaction may drop the batch's tombstones; `None` before compaction has written the batch.
    pub fn delete_horizon(&self) -> Option<TimestampMs> {
        (self.attributes & DELETE_HORIZON_BIT != 0).then_some(self.base_timestamp)
    }

    /// Whether an idempotent producer wrote the batch.
    pub fn has_producer(&self) -> bool {
        self.producer_id > ProducerId::NONE
    }

    /// Offset of the last record. A hostile header wraps, as Java's arithmetic does.
    pub fn last_offset(&self) -> Offset {
        Offset::new(self.base_offset.value().wrapping_add(i64::from(self.last_offset_delta)))
    }

    /// Sequence of the last record; -1 without one. Meaningful once `last_offset_delta` is known not to be negative.
    pub fn last_sequence(&self) -> Sequence {
        if self.base_sequence.value() < 0 || self.last_offset_delta < 0 {
            return Sequence::new(-1);
        }
        self.base_sequence.advance(self.last_offset_delta)
    }

    /// The time of a record with this timestamp delta.
    pub fn timestamp_of(&self, timestamp_delta: i64) -> TimestampMs {
        match self.timestamp_type() {
            TimestampType::CreateTime => TimestampMs::new(self.base_timestamp.value().wrapping_add(timestamp_delta)),
            TimestampType::LogAppendTime => self.max_timestamp,
        }
    }

    /// The offset of a record with this offset delta.
    pub fn offset_of(&self, offset_delta: i32) -> Offset {
        Offset::new(self.base_offset.value().wrapping_add(i64::from(offset_delta)))
    }
}

/// Why bytes are not a batch that can be looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than a header, or than the batch declares.
    #[error("batch ends after {bytes} bytes")]
    Truncated {
        /// Bytes at hand.
        bytes: usize,
    },
    /// A length that no batch can have.
    #[error("batch declares a length of {0}")]
    Length(i32),
    /// A message format that is not version 2.
    #[error("batch has magic {0}")]
    Magic(i8),
}

/// One batch in memory: its bytes, whole, and its header as values.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    /// The header's fields.
    pub header: BatchHeader,
    bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// The first batch of `bytes`, which may hold more after it. Checks length and magic; not the CRC.
    pub fn parse(bytes: &'a [u8]) -> Result<BatchView<'a>, BatchError> {
        let (head, _) = bytes.split_first_chunk().ok_or(BatchError::Truncated { bytes: bytes.len() })?;
        let header = BatchHeader::parse(head);
        if header.magic != MAGIC {
            return Err(BatchError::Magic(header.magic));
        }
        let length = usize::try_from(header.length).map_err(|_| BatchError::Length(header.length))?;
        let size = length + LENGTH_OVERHEAD_BYTES;
        if size < BATCH_HEADER_BYTES {
            return Err(BatchError::Length(header.length));
        }
        let bytes = bytes.get(..size).ok_or(BatchError::Truncated { bytes: bytes.len() })?;
        Ok(BatchView { header, bytes })
    }

    /// The whole batch.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The header as it is.
    pub fn header_bytes(&self) -> &'a [u8; BATCH_HEADER_BYTES] {
        self.bytes.first_chunk().expect("a view holds a whole batch")
    }

    /// The records as they are, compressed or not.
    pub fn records(&self) -> &'a [u8] {
        &self.bytes[BATCH_HEADER_BYTES..]
    }

    /// Whether the declared CRC is that of the bytes.
    pub fn crc_matches(&self) -> bool {
        self.header.crc == crc(self.header_bytes(), self.records())
    }

    /// The records, decompressed: borrowed from the batch, or from `out`, which is overwritten and grows to at most
    /// `bytes_max`. Iterate them with [`RecordsIter::new`].
    pub fn decompressed<'b>(
        &self,
        scratch: &mut Scratch,
        out: &'b mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<&'b [u8], DecompressError>
    where
        'a: 'b,
    {
        match self.header.codec() {
            Some(Codec::None) => Ok(self.records()),
            Some(codec) => {
                out.clear();
                decompress_into(codec, self.records(), scratch, out, bytes_max)?;
                Ok(out)
            }
            None => Err(DecompressError::Corrupt { codec: Codec::None, cause: "undefined codec" }),
        }
    }
}

/// The batches of `bytes`, one after the other; ends at the first that is not whole, with its error.
pub fn batches(bytes: &[u8]) -> impl Iterator<Item = Result<BatchView<'_>, BatchError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let batch = BatchView::parse(rest);
        rest = match &batch {
            Ok(view) => &rest[view.bytes().len()..],
            Err(_) => &[],
        };
        Some(batch)
    })
}

/// The CRC that a batch with this header and these records must declare.
pub fn crc(header: &[u8; BATCH_HEADER_BYTES], records: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[ATTRIBUTES_AT..]), records)
}

/// A batch without records that covers the offsets from `base_offset` up to `last_offset`, or as many of them as a batch
/// can: what Kafka's compaction leaves where all records of a batch are gone. Every client steps over it.
pub fn empty(base_offset: Offset, last_offset: Offset, leader_epoch: LeaderEpoch) -> [u8; BATCH_HEADER_BYTES] {
    assert!(base_offset <= last_offset);
    let mut header = BatchHeader {
        base_offset,
        length: EMPTY_LENGTH,
        leader_epoch,
        magic: MAGIC,
        crc: 0,
        attributes: 0,
        last_offset_delta: i32::try_from(last_offset.value() - base_offset.value()).unwrap_or(i32::MAX),
        base_timestamp: TimestampMs::NONE,
        max_timestamp: TimestampMs::NONE,
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch::new(-1),
        base_sequence: Sequence::new(-1),
        record_count: 0,
    };
    header.crc = crc(&header.to_bytes(), &[]);
    header.to_bytes()
}

/// Writes what the broker assigns at the append. Both lie outside the CRC.
pub fn stamp(header: &mut [u8; BATCH_HEADER_BYTES], base_offset: Offset, leader_epoch: LeaderEpoch) {
    put(header, BASE_OFFSET_AT, base_offset.value().to_be_bytes());
    put(header, LEADER_EPOCH_AT, leader_epoch.value().to_be_bytes());
}

/// Writes timestamp type and greatest timestamp, and the CRC if that changed anything. Returns whether it did.
///
/// As Kafka's `DefaultRecordBatch.setMaxTimestamp`: a rewrite also clears the attribute bits that mean nothing.
pub fn set_timestamps(
    header: &mut [u8; BATCH_HEADER_BYTES],
    records: &[u8],
    timestamp_type: TimestampType,
    max_timestamp: TimestampMs,
) -> bool {
    let parsed = BatchHeader::parse(header);
    if parsed.timestamp_type() == timestamp_type && parsed.max_timestamp == max_timestamp {
        return false;
    }
    let mut attributes = parsed.attributes & KNOWN_ATTRIBUTES & !LOG_APPEND_TIME_BIT;
    if timestamp_type == TimestampType::LogAppendTime {
        attributes |= LOG_APPEND_TIME_BIT;
    }
    put(header, ATTRIBUTES_AT, attributes.to_be_bytes());
    put(header, MAX_TIMESTAMP_AT, max_timestamp.value().to_be_bytes());
    let crc = crc(header, records);
    put(header, CRC_AT, crc.to_be_bytes());
    true
}

/// Makes a header that of the same records in another codec: length, attributes and CRC.
///
/// As where Kafka builds such a batch anew, it keeps timestamp type and transaction, and clears what else the attributes
/// said: the delete horizon, and bits that mean nothing.
pub fn set_compressed(header: &mut [u8; BATCH_HEADER_BYTES], records: &[u8], codec: Codec) {
    let parsed = BatchHeader::parse(header);
    let length = i32::try_from(BATCH_HEADER_BYTES - LENGTH_OVERHEAD_BYTES + records.len());
    let attributes = parsed.attributes & (LOG_APPEND_TIME_BIT | TRANSACTIONAL_BIT) | codec.id();
    put(header, LENGTH_AT, length.expect("a batch is below BATCH_BYTES_MAX").to_be_bytes());
    put(header, ATTRIBUTES_AT, attributes.to_be_bytes());
    let crc = crc(header, records);
    put(header, CRC_AT, crc.to_be_bytes());
}

fn field<const N: usize>(bytes: &[u8; BATCH_HEADER_BYTES], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("every field lies inside the header")
}

fn put<const N: usize>(bytes: &mut [u8; BATCH_HEADER_BYTES], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.append(TimestampMs::new(1_000), Some(b"k"), Some(b"v"), &[]);
        builder.append(TimestampMs::new(1_007), None, Some(b"w"), &[]);
        builder.producer(ProducerId::new(9), ProducerEpoch::new(3), Sequence::new(i32::MAX));
        builder.build()
    }

    #[test]
    fn header_fields_round_trip() {
        let bytes = batch();
        let view = BatchView::parse(&bytes).unwrap();
        assert_eq!(view.header.to_bytes(), *view.header_bytes());
        assert_eq!(view.header.record_count, 2);
        assert_eq!(view.header.last_offset_delta, 1);
        assert_eq!(view.header.max_timestamp, TimestampMs::new(1_007));
        assert_eq!(view.header.last_sequence(), Sequence::new(0));
        assert!(view.crc_matches());
    }

    #[test]
    fn offset_and_epoch_do_not_touch_the_crc() {
        let mut bytes = batch();
        let (header, _) = bytes.split_first_chunk_mut().unwrap();
        stamp(header, Offset::new(77), LeaderEpoch::new(5));
        let view = BatchView::parse(&bytes).unwrap();
        assert!(view.crc_matches());
        assert_eq!(view.header.last_offset(), Offset::new(78));
        assert_eq!(view.header.leader_epoch, LeaderEpoch::new(5));
    }

    #[test]
    fn log_append_time_is_stamped_with_its_crc_and_without_copying_records() {
        let bytes = batch();
        let view = BatchView::parse(&bytes).unwrap();
        let mut header = *view.header_bytes();
        assert!(set_timestamps(&mut header, view.records(), TimestampType::LogAppendTime, TimestampMs::new(5_000)));
        assert!(!set_timestamps(&mut header, view.records(), TimestampType::LogAppendTime, TimestampMs::new(5_000)));
        let mut stamped = header.to_vec();
        stamped.extend_from_slice(view.records());
        let view = BatchView::parse(&stamped).unwrap();
        assert!(view.crc_matches());
        assert_eq!(view.header.timestamp_of(3), TimestampMs::new(5_000));
    }

    #[test]
    fn a_view_needs_the_whole_batch_and_nothing_behind_it() {
        let mut bytes = batch();
        for cut in 0..bytes.len() {
            assert!(BatchView::parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let size = bytes.len();
        bytes.extend_from_slice(b"tail");
        assert_eq!(BatchView::parse(&bytes).unwrap().bytes().len(), size);
        let all: Vec<_> = batches(&bytes).collect();
        assert!(all[0].is_ok());
        assert_eq!(all[1].as_ref().unwrap_err(), &BatchError::Truncated { bytes: 4 });
        assert_eq!(all.len(), 2);
    }

    #[test]
    fn an_absurd_length_is_an_error() {
        let mut bytes = batch();
        bytes[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&(-5_i32).to_be_bytes());
        assert_eq!(BatchView::parse(&bytes).unwrap_err(), BatchError::Length(-5));
        bytes[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&48_i32.to_be_bytes());
        assert_eq!(BatchView::parse(&bytes).unwrap_err(), BatchError::Length(48));
    }
}
