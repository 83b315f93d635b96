//! What a producer sent for one partition becomes a batch that may be appended, or a precise error.
//!
//! The checks of Kafka 4.1 in Kafka's order (`ProduceRequest.validateRecords`, `UnifiedLog.analyzeAndValidateRecords`,
//! `LogValidator`), for batches of format 2. Nothing is copied: the header is corrected in a copy of its 61 bytes, the
//! records stay where they were received. Where this differs from Kafka:
//!
//! - Offset deltas must be dense. Kafka rewrites a compressed batch whose deltas are not, and stores an uncompressed one
//!   with the offsets wrong; here both are INVALID_RECORD.
//! - In a compressed batch the declared length of every record is held against its parts; Kafka skips that.
//! - A batch that gets another codec (`compression.type`) keeps its records byte for byte, where Kafka writes each anew:
//!   with a claim of log append time on a topic of create time they keep the timestamps below the claim.
//! - Batches that expand to more than `DECOMPRESSED_BATCH_BYTES_MAX` are MESSAGE_TOO_LARGE.

use crate::limits::RECORD_ERRORS_MAX;
use crate::protocol::compression::{
    Codec, Compression, DecompressError, Recompression, RecompressionError, RecompressionTools, Scratch,
};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::{
    BATCH_HEADER_BYTES, BatchHeader, LENGTH_OVERHEAD_BYTES, MAGIC, MAGIC_AT, RecordMeta, RecordsError, TimestampType,
    crc, set_compressed, set_timestamps, stamp, walk,
};
use crate::types::{LeaderEpoch, Offset, TimestampMs};

/// First Produce version that may carry zstd.
const ZSTD_PRODUCE_VERSION_MIN: i16 = 7;
/// Bytes of the shortest record of the oldest message format: what every declared length must reach (Kafka's
/// `LegacyRecord.RECORD_OVERHEAD_V0`).
const LENGTH_MIN: i32 = 14;
/// Bytes of a batch up to and with its magic.
const MAGIC_END: usize = MAGIC_AT + 1;

/// How far a batch is looked into.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Validation {
    /// Every record is walked, decompressing if need be, as Kafka does.
    Full,
    /// The header is believed, but for topics whose rules need the records: compacted ones, and those with a bound on
    /// the age of timestamps. A bound on timestamps in the future is held against the header's greatest timestamp.
    Header,
}

/// What a topic demands of its batches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TopicRules {
    /// `max.message.bytes`: largest batch, header and all.
    pub max_message_bytes: u32,
    /// `segment.bytes`: no batch may be larger than a segment of its topic, whatever segments are here.
    pub segment_bytes: u32,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far record timestamps may lie in the past. `i64::MAX` is no limit.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far record timestamps may lie in the future. `i64::MAX` is no limit.
    pub timestamp_after_max_ms: i64,
    /// Whether `cleanup.policy` contains `compact`: then every record needs a key.
    pub compacted: bool,
    /// `compression.type` and its level; `None` is `producer`: as it comes.
    pub compression: Option<Compression>,
    /// How far batches are looked into.
    pub validation: Validation,
}

impl Default for TopicRules {
    /// Kafka 4.1's defaults.
    fn default() -> TopicRules {
        TopicRules {
            max_message_bytes: 1024 * 1024 + 12,
            segment_bytes: 1024 * 1024 * 1024,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 60 * 60 * 1000,
            compacted: false,
            compression: None,
            validation: Validation::Full,
        }
    }
}

/// A batch that may be appended once its producer's sequence is checked and its offset is stamped.
#[derive(Clone, Debug)]
pub struct ValidBatch<'a> {
    /// The header as it will be stored, but for base offset and leader epoch: timestamps and CRC are corrected.
    pub header: [u8; BATCH_HEADER_BYTES],
    /// The same as values.
    pub fields: BatchHeader,
    /// What follows the header, as it came.
    pub records: &'a [u8],
    /// Number of records; at least one.
    pub record_count: u32,
    /// Greatest timestamp of the records, -1 if none has one; the time of the append with log append time.
    pub timestamp_max: TimestampMs,
    /// What the answer says: the time of the append, or -1 on topics of create time.
    pub log_append_time: TimestampMs,
    /// What is left to do before it may be appended, on topics that want another codec.
    pub recompress: Option<Recompress>,
}

/// How a batch gets the codec that its topic stores.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Recompress {
    from: Codec,
    to: Compression,
    /// Bytes of the records, decompressed.
    pub payload_bytes: u64,
}

impl<'a> ValidBatch<'a> {
    /// Size in the log, in bytes.
    pub fn bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.records.len()
    }

    /// Begins to recompress the records; the steps are the caller's. Not on batches that need none.
    pub fn recompression<'b>(
        &self,
        rules: &TopicRules,
        tools: &'b mut RecompressionTools,
    ) -> Result<Recompression<'b>, InvalidBatch>
    where
        'a: 'b,
    {
        let Recompress { from, to, payload_bytes } = self.recompress.expect("the batch wants another codec");
        let bytes_max =
            usize::try_from(rules.max_message_bytes).expect("32 bits fit").saturating_sub(BATCH_HEADER_BYTES);
        Ok(Recompression::new(from, self.records, payload_bytes, to, bytes_max, tools)?)
    }

    /// The batch with the records that recompression made of its own.
    pub fn recompressed<'b>(&self, rules: &TopicRules, records: &'b [u8]) -> Result<ValidBatch<'b>, InvalidBatch> {
        let Recompress { to, .. } = self.recompress.expect("the batch wants another codec");
        let mut header = self.header;
        set_compressed(&mut header, records, to.codec());
        let batch = ValidBatch {
            header,
            fields: BatchHeader::parse(&header),
            records,
            record_count: self.record_count,
            timestamp_max: self.timestamp_max,
            log_append_time: self.log_append_time,
            recompress: None,
        };
        check_segment(batch.bytes(), rules)?;
        Ok(batch)
    }

    /// Writes what the append assigns. Neither touches the CRC.
    pub fn stamp(&mut self, base_offset: Offset, leader_epoch: LeaderEpoch) {
        stamp(&mut self.header, base_offset, leader_epoch);
        self.fields.base_offset = base_offset;
        self.fields.leader_epoch = leader_epoch;
    }
}

/// Why one record makes its batch unacceptable.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RecordFault {
    /// Compaction keeps the last record of each key: a record without one has no place.
    #[error("Compacted topic cannot accept message without key.")]
    NullKey,
    /// The timestamp is too old or too far ahead.
    #[error("Timestamp {timestamp} is out of range. The timestamp should be within [{min}, {max}]")]
    TimestampOutOfRange {
        /// The record's timestamp.
        timestamp: TimestampMs,
        /// The oldest that is accepted.
        min: TimestampMs,
        /// The latest that is accepted.
        max: TimestampMs,
    },
    /// Only brokers stamp the time of the append.
    #[error("Producer should not set timestamp type to LogAppendTime.")]
    LogAppendTime,
}

/// One record of a refused batch, for `record_errors` of the answer (Produce v8).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecordError {
    /// Which record of the batch, from 0.
    pub index: i32,
    /// What is wrong with it; its text is the message of the answer.
    pub fault: RecordFault,
}

/// Why a partition's batch is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidBatch {
    /// No bytes, or not one whole batch.
    #[error("no whole record batch in {bytes} bytes")]
    NoBatch {
        /// Bytes that the request carries for the partition.
        bytes: usize,
    },
    /// More than one batch.
    #[error("more than one record batch for the partition")]
    SeveralBatches,
    /// A message format before version 2.
    #[error("record batch has magic {0}, only 2 is accepted")]
    OldMagic(i8),
    /// A message format that does not exist.
    #[error("invalid magic {0}")]
    UnknownMagic(i8),
    /// A declared length that no batch can have.
    #[error("declared length {0} is less than any record batch has")]
    Length(i32),
    /// zstd in a Produce request before version 7.
    #[error("Produce v{produce_version} may not carry zstd")]
    ZstdTooEarly {
        /// Version of the request.
        produce_version: i16,
    },
    /// Offsets are the broker's to give.
    #[error("base offset of a produced batch is {0}, should be 0")]
    BaseOffset(Offset),
    /// Larger than the topic allows.
    #[error("batch of {bytes} bytes exceeds max.message.bytes {max}")]
    TooLarge {
        /// Size of the batch.
        bytes: usize,
        /// The topic's bound.
        max: u32,
    },
    /// Larger than a segment of the topic; found last, as in Kafka.
    #[error("batch of {bytes} bytes exceeds segment.bytes {max}")]
    ExceedsSegment {
        /// Size of the batch.
        bytes: usize,
        /// The topic's bound.
        max: u32,
    },
    /// The bytes are not those that the producer sent.
    #[error("CRC is {computed:08x}, the batch declares {declared:08x}")]
    Crc {
        /// Of the bytes that arrived.
        computed: u32,
        /// In the header.
        declared: u32,
    },
    /// A codec number that nobody has defined.
    #[error("unknown compression codec in attributes {0:#06x}")]
    UnknownCodec(i16),
    /// Count and offset range disagree, or the batch is empty.
    #[error("batch declares {record_count} records and last offset delta {last_offset_delta}")]
    Count {
        /// Number of records in the header.
        record_count: i32,
        /// Offset delta of the last record in the header.
        last_offset_delta: i32,
    },
    /// Only brokers write control batches.
    #[error("clients may not write control records")]
    Control,
    /// An idempotent producer without a sequence.
    #[error("base sequence {0} with a producer id")]
    Sequence(i32),
    /// In the codec that the topic stores, the batch is larger than the topic allows, or cannot be made.
    #[error("batch cannot be stored as the topic's compression.type wants: {0}")]
    Recompression(#[from] RecompressionError),
    /// Records are not built as the format wants, or do not add up to what the header says.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// Offsets inside the batch have gaps.
    #[error("record {index} has offset delta {offset_delta}")]
    OffsetDelta {
        /// Which record, from 0.
        index: i32,
        /// Its offset delta, which should be the same.
        offset_delta: i32,
    },
    /// Single records break the topic's rules.
    #[error("{count} records rejected, the first is record {index}: {fault}", index = errors[0].index, fault = errors[0].fault)]
    RecordErrors {
        /// The first of them, at most `RECORD_ERRORS_MAX`, at least one.
        errors: Vec<RecordError>,
        /// All of them.
        count: u32,
        /// Whether a timestamp is among the causes: that decides the error code.
        timestamps: bool,
    },
}

impl InvalidBatch {
    /// Kafka's error code.
    pub fn kafka_error(&self) -> ErrorCode {
        match self {
            InvalidBatch::NoBatch { .. }
            | InvalidBatch::SeveralBatches
            | InvalidBatch::OldMagic(_)
            | InvalidBatch::BaseOffset(_)
            | InvalidBatch::Count { .. }
            | InvalidBatch::Control
            | InvalidBatch::Sequence(_)
            | InvalidBatch::OffsetDelta { .. }
            | InvalidBatch::Records(RecordsError::Malformed { .. } | RecordsError::Trailing { .. })
            | InvalidBatch::RecordErrors { timestamps: false, .. } => ErrorCode::InvalidRecord,
            InvalidBatch::RecordErrors { timestamps: true, .. } => ErrorCode::InvalidTimestamp,
            InvalidBatch::UnknownMagic(_) | InvalidBatch::Length(_) | InvalidBatch::Crc { .. } => {
                ErrorCode::CorruptMessage
            }
            InvalidBatch::TooLarge { .. }
            | InvalidBatch::Recompression(RecompressionError::TooLarge { .. })
            | InvalidBatch::Recompression(RecompressionError::Decompress(DecompressError::TooLarge { .. }))
            | InvalidBatch::Records(RecordsError::Decompress(DecompressError::TooLarge { .. })) => {
                ErrorCode::MessageTooLarge
            }
            InvalidBatch::ExceedsSegment { .. } => ErrorCode::RecordListTooLarge,
            InvalidBatch::ZstdTooEarly { .. } => ErrorCode::UnsupportedCompressionType,
            // Kafka has no code for these, its exceptions (IllegalArgumentException of
            // CompressionType.forId, KafkaException of a decompressing stream) end as this one. Clients do not retry it.
            InvalidBatch::UnknownCodec(_)
            | InvalidBatch::Recompression(RecompressionError::Decompress(
                DecompressError::Corrupt { .. } | DecompressError::Truncated(_),
            ))
            | InvalidBatch::Records(RecordsError::Decompress(
                DecompressError::Corrupt { .. } | DecompressError::Truncated(_),
            )) => ErrorCode::UnknownServerError,
        }
    }

    /// The records to name in the answer, with Produce v8 and later; empty for faults of the batch as a whole.
    pub fn record_errors(&self) -> &[RecordError] {
        match self {
            InvalidBatch::RecordErrors { errors, .. } => errors,
            _ => &[],
        }
    }
}

/// Checks what a Produce request carries for one partition. `bytes` is empty for a null field. Where the topic wants another
/// codec the batch is valid but not ready: see [`ValidBatch::recompress`].
///
/// Bytes behind the batch that are not a whole batch are dropped, as Kafka drops them.
pub fn validate<'a>(
    bytes: &'a [u8],
    produce_version: i16,
    rules: &TopicRules,
    now: TimestampMs,
    scratch: &mut Scratch,
) -> Result<ValidBatch<'a>, InvalidBatch> {
    let batch = only_batch(bytes)?;
    let Some((header, records)) = batch.split_first_chunk::<BATCH_HEADER_BYTES>() else {
        return Err(InvalidBatch::Length(declared_length(batch)));
    };
    let fields = BatchHeader::parse(header);
    check_header(&fields, batch.len(), produce_version, rules)?;
    let computed = crc(header, records);
    if computed != fields.crc {
        return Err(InvalidBatch::Crc { computed, declared: fields.crc });
    }
    let codec = fields.codec().ok_or(InvalidBatch::UnknownCodec(fields.attributes))?;
    let record_count = check_counts(&fields)?;
    let wanted = rules.compression.filter(|wanted| wanted.codec() != codec);

    let (create_time_max, payload_bytes) = if needs_walk(rules) || wanted.is_some() {
        walk_records(&fields, codec, records, rules, now, scratch)?
    } else {
        (check_unwalked(&fields, rules, now)?, 0)
    };
    let recompress = wanted.map(|to| Recompress { from: codec, to, payload_bytes });
    if recompress.is_none() {
        check_segment(batch.len(), rules)?;
    }
    let (timestamp_max, log_append_time) = match rules.timestamp_type {
        TimestampType::CreateTime => (create_time_max, TimestampMs::NONE),
        TimestampType::LogAppendTime => (now, now),
    };
    let mut header = *header;
    let mut fields = fields;
    if set_timestamps(&mut header, records, rules.timestamp_type, timestamp_max) {
        fields = BatchHeader::parse(&header);
    }
    Ok(ValidBatch { header, fields, records, record_count, timestamp_max, log_append_time, recompress })
}

/// The one batch of the request, by its declared length.
fn only_batch(bytes: &[u8]) -> Result<&[u8], InvalidBatch> {
    let batch = match next_batch(bytes)? {
        Some(batch) => batch,
        None => return Err(InvalidBatch::NoBatch { bytes: bytes.len() }),
    };
    match i8::from_be_bytes([batch[MAGIC_AT]]) {
        MAGIC => {}
        magic => return Err(InvalidBatch::OldMagic(magic)),
    }
    match next_batch(&bytes[batch.len()..])? {
        None => Ok(batch),
        Some(_) => Err(InvalidBatch::SeveralBatches),
    }
}

/// The first batch of any format in `bytes`, as Kafka's `ByteBufferLogInputStream` finds it; `None` unless it is whole.
fn next_batch(bytes: &[u8]) -> Result<Option<&[u8]>, InvalidBatch> {
    if bytes.len() < LENGTH_OVERHEAD_BYTES {
        return Ok(None);
    }
    let length = declared_length(bytes);
    if length < LENGTH_MIN {
        return Err(InvalidBatch::Length(length));
    }
    if bytes.len() < MAGIC_END {
        return Ok(None);
    }
    let magic = i8::from_be_bytes([bytes[MAGIC_AT]]);
    if !(0..=MAGIC).contains(&magic) {
        return Err(InvalidBatch::UnknownMagic(magic));
    }
    let length = usize::try_from(length).expect("at least LENGTH_MIN");
    Ok(bytes.get(..length + LENGTH_OVERHEAD_BYTES))
}

/// The length field of a batch of at least `LENGTH_OVERHEAD_BYTES`.
fn declared_length(bytes: &[u8]) -> i32 {
    let field = bytes[LENGTH_OVERHEAD_BYTES - 4..].first_chunk().expect("the length is the overhead's last field");
    i32::from_be_bytes(*field)
}

/// What can be refused before the CRC is computed.
fn check_header(
    fields: &BatchHeader,
    bytes: usize,
    produce_version: i16,
    rules: &TopicRules,
) -> Result<(), InvalidBatch> {
    if produce_version < ZSTD_PRODUCE_VERSION_MIN && fields.codec() == Some(Codec::Zstd) {
        return Err(InvalidBatch::ZstdTooEarly { produce_version });
    }
    if fields.base_offset != Offset::ZERO {
        return Err(InvalidBatch::BaseOffset(fields.base_offset));
    }
    if exceeds(bytes, rules.max_message_bytes) {
        return Err(InvalidBatch::TooLarge { bytes, max: rules.max_message_bytes });
    }
    Ok(())
}

/// The last check of all, of the batch as it will be stored.
fn check_segment(bytes: usize, rules: &TopicRules) -> Result<(), InvalidBatch> {
    match exceeds(bytes, rules.segment_bytes) {
        true => Err(InvalidBatch::ExceedsSegment { bytes, max: rules.segment_bytes }),
        false => Ok(()),
    }
}

fn exceeds(bytes: usize, max: u32) -> bool {
    u32::try_from(bytes).map_or(true, |bytes| bytes > max)
}

/// What the header says of itself, once it is known to be what was sent.
fn check_counts(fields: &BatchHeader) -> Result<u32, InvalidBatch> {
    let BatchHeader { record_count, last_offset_delta, .. } = *fields;
    let count = match u32::try_from(record_count) {
        Ok(count) if count > 0 && i64::from(last_offset_delta) + 1 == i64::from(count) => count,
        _ => return Err(InvalidBatch::Count { record_count, last_offset_delta }),
    };
    if fields.is_control() {
        return Err(InvalidBatch::Control);
    }
    if fields.has_producer() && fields.base_sequence.value() < 0 {
        return Err(InvalidBatch::Sequence(fields.base_sequence.value()));
    }
    Ok(count)
}

/// Whether the records must be looked at.
fn needs_walk(rules: &TopicRules) -> bool {
    let minimum_matters =
        rules.timestamp_type == TimestampType::CreateTime && rules.timestamp_before_max_ms != i64::MAX;
    rules.validation == Validation::Full || rules.compacted || minimum_matters
}

/// Walks every record. Returns the greatest timestamp, -1 if none has one, and the bytes of the records, decompressed.
fn walk_records(
    fields: &BatchHeader,
    codec: Codec,
    records: &[u8],
    rules: &TopicRules,
    now: TimestampMs,
    scratch: &mut Scratch,
) -> Result<(TimestampMs, u64), InvalidBatch> {
    let mut timestamp_max = TimestampMs::NONE;
    let mut gap = None;
    let mut faults = Faults::default();
    let bytes = walk(codec, records, fields.record_count, scratch, |record: RecordMeta| {
        let timestamp = fields.timestamp_of(record.timestamp_delta);
        timestamp_max = timestamp_max.max(timestamp);
        if record.offset_delta != record.index {
            gap.get_or_insert((record.index, record.offset_delta));
        }
        let fault = if rules.compacted && record.key_is_null {
            Some(RecordFault::NullKey)
        } else {
            timestamp_fault(fields, timestamp, rules, now)
        };
        if let Some(fault) = fault {
            faults.add(RecordError { index: record.index, fault });
        }
        true
    })?;
    faults.into_result()?;
    match gap {
        Some((index, offset_delta)) => Err(InvalidBatch::OffsetDelta { index, offset_delta }),
        None => Ok((timestamp_max, bytes)),
    }
}

/// Believes the header: its greatest timestamp stands for all records.
fn check_unwalked(fields: &BatchHeader, rules: &TopicRules, now: TimestampMs) -> Result<TimestampMs, InvalidBatch> {
    let mut faults = Faults::default();
    if let Some(fault) = timestamp_fault(fields, fields.max_timestamp, rules, now) {
        faults.add(RecordError { index: 0, fault });
    }
    faults.into_result()?;
    Ok(fields.max_timestamp)
}

/// Kafka's `LogValidator.validateTimestamp`, with its order of cases.
///
/// A batch that claims log append time passes on a topic of create time if its timestamp is in range: the claim is then
/// cleared. A timestamp of -1 is no timestamp and in no range.
fn timestamp_fault(
    fields: &BatchHeader,
    timestamp: TimestampMs,
    rules: &TopicRules,
    now: TimestampMs,
) -> Option<RecordFault> {
    if rules.timestamp_type == TimestampType::CreateTime && timestamp != TimestampMs::NONE {
        let age_ms = now.value().saturating_sub(timestamp.value());
        let out_of_range =
            age_ms > rules.timestamp_before_max_ms || age_ms.saturating_neg() > rules.timestamp_after_max_ms;
        return out_of_range.then(|| RecordFault::TimestampOutOfRange {
            timestamp,
            min: TimestampMs::new(now.value().saturating_sub(rules.timestamp_before_max_ms)),
            max: TimestampMs::new(now.value().saturating_add(rules.timestamp_after_max_ms)),
        });
    }
    (fields.timestamp_type() == TimestampType::LogAppendTime).then_some(RecordFault::LogAppendTime)
}

/// The records that break a rule: all counted, the first of them kept.
#[derive(Default)]
struct Faults {
    errors: Vec<RecordError>,
    count: u32,
    timestamps: bool,
}

impl Faults {
    fn add(&mut self, error: RecordError) {
        self.count += 1;
        self.timestamps |= match error.fault {
            RecordFault::NullKey => false,
            RecordFault::TimestampOutOfRange { .. } | RecordFault::LogAppendTime => true,
        };
        if self.errors.len() < RECORD_ERRORS_MAX {
            self.errors.push(error);
        }
    }

    fn into_result(self) -> Result<(), InvalidBatch> {
        if self.errors.is_empty() {
            return Ok(());
        }
        Err(InvalidBatch::RecordErrors { errors: self.errors, count: self.count, timestamps: self.timestamps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::record_batch::{
        BatchBuilder, BatchView, CONTROL_BIT, DELETE_HORIZON_BIT, LOG_APPEND_TIME_BIT, TRANSACTIONAL_BIT,
    };
    use crate::types::{ProducerEpoch, ProducerId, Sequence};

    const NOW: TimestampMs = TimestampMs::new(1_000_000_000);

    fn batch(codec: Codec) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec);
        for index in 0..5 {
            builder.append(TimestampMs::new(NOW.value() - 100 + index % 3), Some(b"key"), Some(&[b'v'; 300]), &[]);
        }
        builder.producer(ProducerId::new(4), ProducerEpoch::new(0), Sequence::new(10)).build()
    }

    /// Changes header fields and makes the CRC right again.
    fn edit(bytes: &[u8], change: impl FnOnce(&mut BatchHeader)) -> Vec<u8> {
        let mut fields = BatchHeader::parse(bytes.first_chunk().unwrap());
        change(&mut fields);
        fields.crc = crc(&fields.to_bytes(), &bytes[BATCH_HEADER_BYTES..]);
        [&fields.to_bytes(), &bytes[BATCH_HEADER_BYTES..]].concat()
    }

    fn check<'a>(bytes: &'a [u8], rules: &TopicRules) -> Result<ValidBatch<'a>, InvalidBatch> {
        validate(bytes, 9, rules, NOW, &mut Scratch::new())
    }

    fn error(bytes: &[u8]) -> (InvalidBatch, i16) {
        let error = check(bytes, &TopicRules::default()).unwrap_err();
        let code = error.kafka_error().code();
        (error, code)
    }

    #[test]
    fn a_good_batch_passes_unchanged_with_every_codec() {
        for codec in Codec::ALL {
            let bytes = batch(codec);
            for validation in [Validation::Full, Validation::Header] {
                let mut valid = check(&bytes, &TopicRules { validation, ..TopicRules::default() }).unwrap();
                assert_eq!(valid.header, bytes[..BATCH_HEADER_BYTES]);
                assert_eq!(valid.record_count, 5);
                assert_eq!(valid.timestamp_max, TimestampMs::new(NOW.value() - 98));
                assert_eq!(valid.log_append_time, TimestampMs::NONE);
                assert_eq!(valid.bytes(), bytes.len());
                assert_eq!(valid.fields.last_sequence(), Sequence::new(14));
                valid.stamp(Offset::new(100), LeaderEpoch::new(3));
                let stored = [&valid.header, valid.records].concat();
                let view = BatchView::parse(&stored).unwrap();
                assert!(view.crc_matches());
                assert_eq!(view.header, valid.fields);
                assert_eq!(view.header.last_offset(), Offset::new(104));
            }
        }
    }

    #[test]
    fn framing_faults_get_kafkas_codes() {
        let good = batch(Codec::None);
        assert_eq!(error(&[]), (InvalidBatch::NoBatch { bytes: 0 }, 87));
        let half = &good[..good.len() - 1];
        assert_eq!(error(half), (InvalidBatch::NoBatch { bytes: half.len() }, 87));
        assert_eq!(error(&[good.clone(), good.clone()].concat()), (InvalidBatch::SeveralBatches, 87));
        assert_eq!(error(&edit(&good, |fields| fields.magic = 1)), (InvalidBatch::OldMagic(1), 87));
        assert_eq!(error(&edit(&good, |fields| fields.magic = 3)), (InvalidBatch::UnknownMagic(3), 2));
        assert_eq!(error(&edit(&good, |fields| fields.length = -1)), (InvalidBatch::Length(-1), 2));
        assert_eq!(error(&edit(&good, |fields| fields.length = 48)[..60]), (InvalidBatch::Length(48), 2));
        // Half a batch behind a whole one is dropped.
        let tail = [&good[..], &good[..good.len() - 1]].concat();
        assert_eq!(check(&tail, &TopicRules::default()).unwrap().bytes(), good.len());
    }

    #[test]
    fn header_faults_get_kafkas_codes() {
        let good = batch(Codec::None);
        let base_offset = edit(&good, |fields| fields.base_offset = Offset::new(1));
        assert_eq!(error(&base_offset), (InvalidBatch::BaseOffset(Offset::new(1)), 87));
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!(error(&flipped).1, 2);
        assert_eq!(error(&edit(&good, |fields| fields.attributes = 5)), (InvalidBatch::UnknownCodec(5), -1));
        for (record_count, last_offset_delta) in [(4, 4), (5, 3), (0, -1), (-1, 4), (5, -1), (i32::MIN, i32::MAX)] {
            let bytes = edit(&good, |fields| {
                fields.record_count = record_count;
                fields.last_offset_delta = last_offset_delta;
            });
            assert_eq!(error(&bytes), (InvalidBatch::Count { record_count, last_offset_delta }, 87));
        }
        assert_eq!(error(&edit(&good, |fields| fields.attributes |= CONTROL_BIT)), (InvalidBatch::Control, 87));
        let sequence = edit(&good, |fields| fields.base_sequence = Sequence::new(-1));
        assert_eq!(error(&sequence), (InvalidBatch::Sequence(-1), 87));
        let max_message_bytes = u32::try_from(good.len()).unwrap();
        assert!(check(&good, &TopicRules { max_message_bytes, ..TopicRules::default() }).is_ok());
        let rules = TopicRules { max_message_bytes: max_message_bytes - 1, ..TopicRules::default() };
        assert_eq!(check(&good, &rules).unwrap_err().kafka_error(), ErrorCode::MessageTooLarge);
        assert!(check(&good, &TopicRules { segment_bytes: max_message_bytes, ..TopicRules::default() }).is_ok());
        let rules = TopicRules { segment_bytes: max_message_bytes - 1, ..TopicRules::default() };
        assert_eq!(check(&good, &rules).unwrap_err().kafka_error(), ErrorCode::RecordListTooLarge);
    }

    #[test]
    fn zstd_needs_produce_7() {
        let bytes = batch(Codec::Zstd);
        let rules = TopicRules::default();
        let early = validate(&bytes, 6, &rules, NOW, &mut Scratch::new()).unwrap_err();
        assert_eq!(early.kafka_error(), ErrorCode::UnsupportedCompressionType);
        assert!(validate(&bytes, 7, &rules, NOW, &mut Scratch::new()).is_ok());
        assert!(validate(&batch(Codec::Lz4), 3, &rules, NOW, &mut Scratch::new()).is_ok());
    }

    /// What a batch is stored as: header and records, recompressed if the topic wants it.
    fn store(bytes: &[u8], rules: &TopicRules) -> Result<Vec<u8>, InvalidBatch> {
        let valid = check(bytes, rules)?;
        let mut tools = RecompressionTools::new();
        if valid.recompress.is_none() {
            return Ok([&valid.header, valid.records].concat());
        }
        let mut recompression = valid.recompression(rules, &mut tools)?;
        while !recompression.step()? {}
        let valid = valid.recompressed(rules, tools.output())?;
        assert_eq!(valid.fields, BatchHeader::parse(&valid.header));
        Ok([&valid.header, valid.records].concat())
    }

    fn records_of(view: &BatchView<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        view.decompressed(&mut Scratch::new(), &mut out, 1_000_000).unwrap().to_vec()
    }

    #[test]
    fn every_codec_becomes_every_other_with_the_same_records_and_producer() {
        for from in Codec::ALL {
            for to in Codec::ALL {
                for validation in [Validation::Full, Validation::Header] {
                    let compression = Some(Compression::new(to));
                    let rules = TopicRules { compression, validation, ..TopicRules::default() };
                    let sent = edit(&batch(from), |fields| {
                        fields.attributes |= TRANSACTIONAL_BIT | DELETE_HORIZON_BIT | 0x100;
                    });
                    let stored = store(&sent, &rules).unwrap();
                    let (sent, view) = (BatchView::parse(&sent).unwrap(), BatchView::parse(&stored).unwrap());
                    assert_eq!(view.bytes().len(), stored.len());
                    assert!(view.crc_matches());
                    assert_eq!(records_of(&view), records_of(&sent), "{from} to {to}");
                    if from == to {
                        assert_eq!(view.bytes(), sent.bytes(), "a batch of the topic's codec is not touched");
                        continue;
                    }
                    let kept = BatchHeader {
                        length: view.header.length,
                        crc: view.header.crc,
                        attributes: TRANSACTIONAL_BIT | to.id(),
                        ..sent.header
                    };
                    assert_eq!(view.header, kept, "{from} to {to}");
                }
            }
        }
    }

    #[test]
    fn a_level_alone_recompresses_nothing() {
        let bytes = batch(Codec::Zstd);
        let rules = TopicRules { compression: Some(Compression::zstd(19)), ..TopicRules::default() };
        assert!(check(&bytes, &rules).unwrap().recompress.is_none());
    }

    #[test]
    fn a_recompressed_batch_has_the_time_of_its_append() {
        let compression = Some(Compression::new(Codec::Gzip));
        let rules = TopicRules { compression, timestamp_type: TimestampType::LogAppendTime, ..TopicRules::default() };
        let stored = store(&batch(Codec::None), &rules).unwrap();
        let view = BatchView::parse(&stored).unwrap();
        assert!(view.crc_matches());
        assert_eq!(view.header.attributes, LOG_APPEND_TIME_BIT | Codec::Gzip.id());
        assert_eq!(view.header.max_timestamp, NOW);
        // A wrong greatest timestamp is corrected as in batches that stay as they came.
        let wrong = edit(&batch(Codec::None), |fields| fields.max_timestamp = TimestampMs::new(7));
        let stored = store(&wrong, &TopicRules { compression, ..TopicRules::default() }).unwrap();
        assert_eq!(BatchView::parse(&stored).unwrap().header.max_timestamp, TimestampMs::new(NOW.value() - 98));
    }

    #[test]
    fn sizes_are_checked_before_and_after_recompression() {
        let packed = batch(Codec::Gzip);
        let plain = batch(Codec::None);
        let (small, large) = (u32::try_from(packed.len()).unwrap(), u32::try_from(plain.len()).unwrap());
        assert!(small + 1000 < large);
        let rules = |codec, max_message_bytes, segment_bytes| TopicRules {
            compression: Some(Compression::new(codec)),
            max_message_bytes,
            segment_bytes,
            ..TopicRules::default()
        };
        let code = |bytes: &[u8], rules: &TopicRules| store(bytes, rules).map_err(|refused| refused.kafka_error());
        // It grows: the bound counts for what is stored.
        assert!(code(&packed, &rules(Codec::None, large, large)).is_ok());
        assert_eq!(code(&packed, &rules(Codec::None, large - 1, large)), Err(ErrorCode::MessageTooLarge));
        assert_eq!(code(&packed, &rules(Codec::None, large, large - 1)), Err(ErrorCode::RecordListTooLarge));
        // It shrinks: what was sent must be within the one bound, what is stored within the other.
        assert_eq!(code(&plain, &rules(Codec::Gzip, large - 1, large)), Err(ErrorCode::MessageTooLarge));
        assert!(code(&plain, &rules(Codec::Gzip, large, large - 1)).is_ok());
        assert_eq!(code(&plain, &rules(Codec::Gzip, large, 100)), Err(ErrorCode::RecordListTooLarge));
    }

    #[test]
    fn records_are_looked_into_before_they_are_recompressed() {
        // What is not dense or does not add up would be stored as a batch of ours otherwise, whatever the validation.
        for validation in [Validation::Full, Validation::Header] {
            let compression = Some(Compression::new(Codec::Lz4));
            let rules = TopicRules { compression, validation, ..TopicRules::default() };
            for from in [Codec::None, Codec::Gzip] {
                let bytes = edit(&batch(from), |fields| {
                    fields.record_count = 4;
                    fields.last_offset_delta = 3;
                });
                assert_eq!(store(&bytes, &rules).unwrap_err().kafka_error(), ErrorCode::InvalidRecord);
            }
        }
    }

    #[test]
    fn a_bomb_is_given_up_at_the_bound_of_the_topic() {
        let mut builder = BatchBuilder::new(Codec::Zstd);
        builder.append(NOW, None, Some(&vec![0; 20_000_000]), &[]);
        let bomb = builder.build();
        assert!(bomb.len() < 10_000);
        let rules = TopicRules { compression: Some(Compression::new(Codec::None)), ..TopicRules::default() };
        let valid = check(&bomb, &rules).unwrap();
        let mut tools = RecompressionTools::new();
        let mut recompression = valid.recompression(&rules, &mut tools).unwrap();
        let refused = loop {
            if let Err(refused) = recompression.step() {
                break refused;
            }
        };
        assert_eq!(InvalidBatch::from(refused).kafka_error(), ErrorCode::MessageTooLarge);
        assert!(tools.held_bytes() < 4_000_000, "{}", tools.held_bytes());
        tools.shed();
        assert!(tools.held_bytes() < 2_000_000, "{}", tools.held_bytes());
    }

    #[test]
    fn counts_are_held_against_the_records_in_full_and_believed_in_header() {
        for codec in Codec::ALL {
            for (count, expected) in [
                (4, RecordsError::Trailing { record_count: 4 }),
                (6, RecordsError::Malformed { index: 5, cause: "ends too early" }),
            ] {
                let bytes = edit(&batch(codec), |fields| {
                    fields.record_count = count;
                    fields.last_offset_delta = count - 1;
                });
                assert_eq!(error(&bytes), (InvalidBatch::Records(expected), 87), "{codec}");
                let rules = TopicRules { validation: Validation::Header, ..TopicRules::default() };
                assert!(check(&bytes, &rules).is_ok());
            }
        }
    }

    #[test]
    fn compressed_rubbish_is_refused() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let mut bytes = batch(codec);
            for (index, byte) in (0_u8..).zip(&mut bytes[BATCH_HEADER_BYTES..]) {
                *byte = byte.wrapping_add(index).rotate_left(3);
            }
            assert_eq!(error(&edit(&bytes, |_| ())).1, -1, "{codec}");
        }
    }

    #[test]
    fn offset_deltas_are_dense() {
        let mut bytes = batch(Codec::None);
        // Record 0: length in two bytes, attributes, timestamp delta 0, then its offset delta.
        assert_eq!(bytes[BATCH_HEADER_BYTES + 4], 0);
        bytes[BATCH_HEADER_BYTES + 4] = 2;
        assert_eq!(error(&edit(&bytes, |_| ())), (InvalidBatch::OffsetDelta { index: 0, offset_delta: 1 }, 87));
    }

    #[test]
    fn a_wrong_greatest_timestamp_is_corrected_with_its_crc() {
        for codec in Codec::ALL {
            let bytes = edit(&batch(codec), |fields| fields.max_timestamp = TimestampMs::new(7));
            let valid = check(&bytes, &TopicRules::default()).unwrap();
            assert_eq!(valid.fields.max_timestamp, TimestampMs::new(NOW.value() - 98));
            assert_eq!(valid.fields, BatchHeader::parse(&valid.header));
            assert_eq!(valid.fields.crc, crc(&valid.header, valid.records));
        }
    }

    #[test]
    fn log_append_time_is_the_brokers() {
        let rules = TopicRules { timestamp_type: TimestampType::LogAppendTime, ..TopicRules::default() };
        let bytes = batch(Codec::Lz4);
        let valid = check(&bytes, &rules).unwrap();
        assert_eq!((valid.timestamp_max, valid.log_append_time), (NOW, NOW));
        assert_eq!(valid.fields.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(valid.fields.crc, crc(&valid.header, valid.records));
        // A client may not claim it there.
        let claimed = edit(&batch(Codec::None), |fields| fields.attributes |= LOG_APPEND_TIME_BIT);
        for validation in [Validation::Full, Validation::Header] {
            let refused = check(&claimed, &TopicRules { validation, ..rules }).unwrap_err();
            assert_eq!(refused.kafka_error(), ErrorCode::InvalidTimestamp);
            assert_eq!(refused.record_errors()[0], RecordError { index: 0, fault: RecordFault::LogAppendTime });
        }
    }

    #[test]
    fn a_claim_of_log_append_time_is_cleared_on_create_time_topics() {
        let claimed = edit(&batch(Codec::None), |fields| {
            fields.attributes |= LOG_APPEND_TIME_BIT;
            fields.max_timestamp = TimestampMs::new(NOW.value() - 5);
        });
        for validation in [Validation::Full, Validation::Header] {
            let valid = check(&claimed, &TopicRules { validation, ..TopicRules::default() }).unwrap();
            assert_eq!(valid.fields.timestamp_type(), TimestampType::CreateTime);
            assert_eq!(valid.fields.max_timestamp, TimestampMs::new(NOW.value() - 5));
            assert_eq!(valid.fields.crc, crc(&valid.header, valid.records));
        }
        let without = edit(&claimed, |fields| fields.max_timestamp = TimestampMs::NONE);
        assert_eq!(error(&without).1, 32);
    }

    #[test]
    fn null_keys_are_refused_on_compacted_topics_record_by_record() {
        let mut builder = BatchBuilder::new(Codec::Gzip);
        for index in 0..4 {
            builder.append(NOW, (index % 2 == 0).then_some(&b"k"[..]), None, &[]);
        }
        let bytes = builder.build();
        assert!(check(&bytes, &TopicRules::default()).is_ok());
        for validation in [Validation::Full, Validation::Header] {
            let rules = TopicRules { compacted: true, validation, ..TopicRules::default() };
            let refused = check(&bytes, &rules).unwrap_err();
            assert_eq!(refused.kafka_error(), ErrorCode::InvalidRecord);
            let indexes: Vec<_> = refused.record_errors().iter().map(|error| error.index).collect();
            assert_eq!(indexes, [1, 3]);
        }
    }

    #[test]
    fn timestamps_are_bounded_on_both_sides_and_minus_one_is_no_timestamp() {
        let hour = 60 * 60 * 1000;
        let rules = TopicRules { timestamp_before_max_ms: hour, timestamp_after_max_ms: hour, ..TopicRules::default() };
        let cases = [(-hour, true), (-hour - 1, false), (hour, true), (hour + 1, false)];
        for validation in [Validation::Full, Validation::Header] {
            for (delta, accepted) in cases {
                let mut builder = BatchBuilder::new(Codec::None);
                builder.append(NOW, None, None, &[]);
                builder.append(TimestampMs::new(NOW.value() + delta), None, None, &[]);
                let bytes = builder.build();
                let result = check(&bytes, &TopicRules { validation, ..rules });
                assert_eq!(result.is_ok(), accepted, "{delta} {validation:?}");
                if let Err(refused) = result {
                    assert_eq!(refused.kafka_error(), ErrorCode::InvalidTimestamp);
                    assert_eq!(refused.record_errors()[0].index, 1);
                }
            }
        }
        let mut builder = BatchBuilder::new(Codec::None);
        builder.append(TimestampMs::NONE, None, None, &[]);
        assert!(check(&builder.build(), &rules).is_ok());
    }

    #[test]
    fn the_future_is_bounded_in_header_validation_too() {
        let rules = TopicRules { validation: Validation::Header, ..TopicRules::default() };
        let far = edit(&batch(Codec::Zstd), |fields| fields.max_timestamp = TimestampMs::new(i64::MAX));
        assert_eq!(check(&far, &rules).unwrap_err().kafka_error(), ErrorCode::InvalidTimestamp);
        let no_limit = TopicRules { timestamp_after_max_ms: i64::MAX, ..rules };
        assert!(check(&far, &no_limit).is_ok());
    }

    #[test]
    fn explanations_are_bounded_but_counted() {
        let mut builder = BatchBuilder::new(Codec::None);
        for _ in 0..1000 {
            builder.append(NOW, None, None, &[]);
        }
        let rules = TopicRules { compacted: true, ..TopicRules::default() };
        let InvalidBatch::RecordErrors { errors, count, timestamps } = check(&builder.build(), &rules).unwrap_err()
        else {
            panic!("record errors expected");
        };
        assert_eq!((errors.len(), count, timestamps), (RECORD_ERRORS_MAX, 1000, false));
    }
}
