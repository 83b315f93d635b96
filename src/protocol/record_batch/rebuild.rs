//! A stored batch with only some of its records: what compaction writes, as Kafka's `MemoryRecords.filterTo` does.
//!
//! What identifies a batch stays: base and last offset, leader epoch, producer, base sequence, codec, and whether it is
//! transactional or a marker. Count and greatest timestamp are those of the records that are left; with log append time
//! the timestamp stays. A batch may get a delete horizon, which stands where the base timestamp was, so that all timestamps
//! are counted from it. The codec's default level is used, whatever the producer had.
//!
//! A batch gets a new CRC here, so its old one is looked at first: nothing but an [`IntactBatch`] can be rebuilt, and
//! only [`CrcCheck`] makes one. Else damage would get a CRC that says it is none.

use std::ops::Range;

use crate::limits::{
    BATCH_BYTES_MAX, COMPACTION_BLOCK_BYTES, COMPACTION_STEP_BYTES, COMPACTION_STEP_RECORDS, RECOMPRESS_STEP_BYTES,
};
use crate::protocol::compression::{Codec, Compression, Compressor};
use crate::protocol::record_batch::record::{put_varint, put_varlong, varint_bytes, varlong_bytes};
use crate::protocol::record_batch::{
    ATTRIBUTES_AT, BATCH_HEADER_BYTES, BatchHeader, BatchView, CODEC_MASK, DELETE_HORIZON_BIT, EMPTY_LENGTH,
    KNOWN_ATTRIBUTES, LENGTH_OVERHEAD_BYTES, Record, RecordsIter, RecordsPosition, TimestampType, crc,
};
use crate::types::{Offset, TimestampMs};

/// A batch whose bytes are not those that its CRC was made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("batch at offset {base_offset} has CRC {declared:#010x}, its bytes have {found:#010x}")]
pub struct RottenBatch {
    /// Where the batch begins, if that can be believed.
    pub base_offset: Offset,
    /// The CRC that it declares.
    pub declared: u32,
    /// The CRC of its bytes.
    pub found: u32,
}

/// A batch whose CRC was found to be that of its bytes.
#[derive(Clone, Copy, Debug)]
pub struct IntactBatch<'a>(BatchView<'a>);

impl<'a> IntactBatch<'a> {
    /// The batch.
    pub fn view(&self) -> BatchView<'a> {
        self.0
    }

    /// Its header.
    pub fn header(&self) -> &BatchHeader {
        &self.0.header
    }

    /// The batch without its records: offsets, producer, sequence, leader epoch and greatest timestamp stay, codec and
    /// delete horizon go. What Kafka's `DefaultRecordBatch.writeEmptyHeader` leaves.
    pub fn without_records(&self) -> [u8; BATCH_HEADER_BYTES] {
        let source = self.header();
        let mut header = BatchHeader {
            length: EMPTY_LENGTH,
            attributes: source.attributes & KNOWN_ATTRIBUTES & !(CODEC_MASK | DELETE_HORIZON_BIT),
            base_timestamp: TimestampMs::NONE,
            record_count: 0,
            ..*source
        };
        header.crc = crc(&header.to_bytes(), &[]);
        header.to_bytes()
    }
}

/// Looks whether a batch is intact, a piece at a time: a large one takes milliseconds.
#[derive(Clone, Debug)]
pub struct CrcCheck<'a> {
    batch: BatchView<'a>,
    at: usize,
    crc: u32,
}

impl<'a> CrcCheck<'a> {
    /// Begins.
    pub fn new(batch: BatchView<'a>) -> CrcCheck<'a> {
        CrcCheck { batch, at: ATTRIBUTES_AT, crc: 0 }
    }

    /// Takes the next `COMPACTION_STEP_BYTES`; `None` while there are more.
    pub fn step(&mut self) -> Option<Result<IntactBatch<'a>, RottenBatch>> {
        let bytes = self.batch.bytes();
        let end = bytes.len().min(self.at + COMPACTION_STEP_BYTES);
        self.crc = crc32c::crc32c_append(self.crc, &bytes[self.at..end]);
        self.at = end;
        if end < bytes.len() {
            return None;
        }
        let header = &self.batch.header;
        let is_intact = cfg!(corelane_defect = "crc_rebuilt_over_rot") || self.crc == header.crc;
        Some(if is_intact {
            Ok(IntactBatch(self.batch))
        } else {
            Err(RottenBatch { base_offset: header.base_offset, declared: header.crc, found: self.crc })
        })
    }
}

/// Which records of a batch stay, told one after the other.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    words: Vec<u64>,
    told: usize,
    kept: i32,
}

impl Kept {
    /// Forgets the batch before.
    pub fn clear(&mut self) {
        self.words.clear();
        self.told = 0;
        self.kept = 0;
    }

    /// Whether the next record stays.
    pub fn push(&mut self, is_kept: bool) {
        if self.told.is_multiple_of(64) {
            self.words.push(0);
        }
        let word = self.words.last_mut().expect("there is a word for every record told");
        *word |= u64::from(is_kept) << (self.told % 64);
        self.told += 1;
        self.kept += i32::from(is_kept);
    }

    /// How many stay.
    pub fn count(&self) -> i32 {
        self.kept
    }

    /// Whether all that were told stay.
    pub fn is_all(&self) -> bool {
        usize::try_from(self.kept) == Ok(self.told)
    }

    /// Whether the record of that index stays. It was told.
    fn contains(&self, index: i32) -> bool {
        let index = usize::try_from(index).expect("records are counted from 0");
        assert!(index < self.told);
        self.words[index / 64] & (1 << (index % 64)) != 0
    }

    /// Gives memory back that is more than what a batch of common size needs.
    pub fn shed(&mut self) {
        self.clear();
        self.words.shrink_to(1024);
    }
}

/// Where a rebuild stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RebuildStep {
    /// There is more to do.
    More,
    /// The output is the batch.
    Done,
    /// The codec's default level makes more than `BATCH_BYTES_MAX` of it, which no batch may have.
    TooLarge,
}

/// One batch on its way to become a smaller one. Goes over the records twice: to measure, then to write.
#[derive(Clone, Debug)]
pub struct Rebuild {
    /// That of the source, until the measures are taken.
    header: BatchHeader,
    timestamp_type: TimestampType,
    source: BatchHeader,
    codec: Codec,
    phase: Phase,
    position: RecordsPosition,
    /// Bytes of the records as they will be, not compressed.
    payload_bytes: u64,
    /// The part of the last record begun that is still to be written, in the source's records.
    tail: Range<usize>,
    /// Records on their way to the compressor.
    piece: Vec<u8>,
    /// Bytes in the codec's block, if it has such.
    block_bytes: usize,
    crc: u32,
    /// Bytes of the output that are in the CRC.
    summed: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Measure,
    Write,
    Done,
}

impl Rebuild {
    /// Begins. `delete_horizon` is the batch's own, or the one that it gets now.
    pub fn new(batch: &IntactBatch<'_>, delete_horizon: Option<TimestampMs>) -> Rebuild {
        let source = *batch.header();
        let timestamp_type = source.timestamp_type();
        let mut header = source;
        header.attributes &= KNOWN_ATTRIBUTES & !DELETE_HORIZON_BIT;
        if delete_horizon.is_some() {
            header.attributes |= DELETE_HORIZON_BIT;
        }
        header.base_timestamp = delete_horizon.unwrap_or(TimestampMs::NONE);
        if timestamp_type == TimestampType::CreateTime {
            header.max_timestamp = TimestampMs::NONE;
        }
        Rebuild {
            header,
            timestamp_type,
            source,
            codec: source.codec().expect("records were decompressed"),
            phase: Phase::Measure,
            position: RecordsPosition::default(),
            payload_bytes: 0,
            tail: 0..0,
            piece: Vec::new(),
            block_bytes: 0,
            crc: 0,
            summed: 0,
        }
    }

    /// Goes on for some tens of microseconds; a step that completes a block of the codec takes what the block takes.
    ///
    /// The arguments are the same at every step: `records` are the batch's, decompressed, and were all read without an
    /// error when `kept` was told of them, of which at least one stays. What `out` held is overwritten by the first step.
    pub fn step(&mut self, records: &[u8], kept: &Kept, compressor: &mut Compressor, out: &mut Vec<u8>) -> RebuildStep {
        assert!(kept.count() > 0);
        match self.phase {
            Phase::Measure => {
                if self.measure(records, kept) {
                    self.begin(kept, compressor, out);
                }
            }
            Phase::Write => self.write(records, kept, compressor, out),
            Phase::Done => unreachable!("a rebuild that is done is not stepped on"),
        }
        let is_too_large = out.len() > usize::try_from(BATCH_BYTES_MAX).expect("32 bits fit");
        match self.phase {
            Phase::Measure => RebuildStep::More,
            _ if is_too_large => RebuildStep::TooLarge,
            Phase::Write => RebuildStep::More,
            Phase::Done => RebuildStep::Done,
        }
    }

    /// Sums up what the records will be. Returns whether all are measured.
    fn measure(&mut self, records: &[u8], kept: &Kept) -> bool {
        let mut iterator = RecordsIter::resume(records, self.source.record_count, self.position);
        for _ in 0..COMPACTION_STEP_RECORDS {
            let index = iterator.position().index();
            let Some(record) = iterator.next() else { return true };
            let record = record.expect("these records were read before");
            if !kept.contains(index) {
                continue;
            }
            let timestamp = self.source.timestamp_of(record.timestamp_delta);
            if self.header.attributes & DELETE_HORIZON_BIT == 0 && self.payload_bytes == 0 {
                self.header.base_timestamp = timestamp;
            }
            if self.timestamp_type == TimestampType::CreateTime {
                self.header.max_timestamp = self.header.max_timestamp.max(timestamp);
            }
            let body_bytes = self.body_bytes(&record);
            let bytes = varint_bytes(length(body_bytes)) + body_bytes;
            self.payload_bytes += u64::try_from(bytes).expect("a length fits 64 bits");
        }
        self.position = iterator.position();
        false
    }

    /// Writes the header, which now is known but for its length and CRC.
    fn begin(&mut self, kept: &Kept, compressor: &mut Compressor, out: &mut Vec<u8>) {
        self.header.record_count = kept.count();
        let header = self.header.to_bytes();
        out.clear();
        out.extend_from_slice(&header);
        self.crc = crc32c::crc32c(&header[ATTRIBUTES_AT..]);
        self.summed = BATCH_HEADER_BYTES;
        compressor.begin(Compression::new(self.codec), self.payload_bytes, out);
        self.phase = Phase::Write;
        self.position = RecordsPosition::default();
    }

    /// Writes the next records, or a part of one.
    fn write(&mut self, records: &[u8], kept: &Kept, compressor: &mut Compressor, out: &mut Vec<u8>) {
        let is_last = self.fill_piece(records, kept);
        compressor.write(&self.piece, out);
        self.block_bytes += self.piece.len();
        if is_last {
            compressor.finish(out);
        } else if self.block_bytes >= COMPACTION_BLOCK_BYTES {
            compressor.end_block(out);
            self.block_bytes = 0;
        }
        self.crc = crc32c::crc32c_append(self.crc, &out[self.summed..]);
        self.summed = out.len();
        if is_last {
            self.header.crc = self.crc;
            self.header.length = length(out.len() - LENGTH_OVERHEAD_BYTES);
            out[..BATCH_HEADER_BYTES].copy_from_slice(&self.header.to_bytes());
            self.phase = Phase::Done;
        }
    }

    /// Puts the next bytes of the payload into the piece. Returns whether they are the last.
    fn fill_piece(&mut self, records: &[u8], kept: &Kept) -> bool {
        self.piece.clear();
        let mut iterator = RecordsIter::resume(records, self.source.record_count, self.position);
        let mut looked_at = 0;
        while self.piece.len() < RECOMPRESS_STEP_BYTES {
            if !self.tail.is_empty() {
                let bytes = self.tail.len().min(RECOMPRESS_STEP_BYTES - self.piece.len());
                let end = self.tail.start + bytes;
                self.piece.extend_from_slice(&records[self.tail.start..end]);
                self.tail.start = end;
                continue;
            }
            if looked_at == COMPACTION_STEP_RECORDS {
                break;
            }
            looked_at += 1;
            let index = iterator.position().index();
            let Some(record) = iterator.next() else { return true };
            self.position = iterator.position();
            if kept.contains(index) {
                let record = record.expect("these records were read before");
                self.put_head(&record);
                self.tail = self.position.at() - record.tail().len()..self.position.at();
            }
        }
        false
    }

    /// What stands in front of a record's offset delta.
    fn put_head(&mut self, record: &Record<'_>) {
        let body_bytes = length(self.body_bytes(record));
        let timestamp_delta = self.timestamp_delta(record);
        put_varint(&mut self.piece, body_bytes);
        self.piece.push(0);
        put_varlong(&mut self.piece, timestamp_delta);
    }

    fn body_bytes(&self, record: &Record<'_>) -> usize {
        1 + varlong_bytes(self.timestamp_delta(record)) + record.tail().len()
    }

    /// Wraps as Java's arithmetic does; whoever adds it to the base gets the timestamp again.
    fn timestamp_delta(&self, record: &Record<'_>) -> i64 {
        let timestamp = self.source.timestamp_of(record.timestamp_delta);
        timestamp.value().wrapping_sub(self.header.base_timestamp.value())
    }
}

fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("records in memory stay below COMPACTED_BATCH_BYTES_MAX, a batch near BATCH_BYTES_MAX")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::compression::Scratch;
    use crate::protocol::record_batch::{
        BatchBuilder, CONTROL_BIT, Header, LOG_APPEND_TIME_BIT, TRANSACTIONAL_BIT, set_timestamps, stamp,
    };
    use crate::simulation::random::Random;
    use crate::types::{LeaderEpoch, ProducerEpoch, ProducerId, Sequence};

    /// Offset, timestamp, key, value, headers.
    type Row = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

    fn intact(bytes: &[u8]) -> Result<IntactBatch<'_>, RottenBatch> {
        let mut check = CrcCheck::new(BatchView::parse(bytes).unwrap());
        loop {
            if let Some(result) = check.step() {
                return result;
            }
        }
    }

    fn plain(batch: &IntactBatch<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        batch.view().decompressed(&mut Scratch::new(), &mut out, 100_000_000).unwrap().to_vec()
    }

    fn rows(bytes: &[u8]) -> Vec<Row> {
        let batch = intact(bytes).unwrap();
        let records = plain(&batch);
        let row = |record: Record<'_>| {
            (
                batch.header().offset_of(record.offset_delta).value(),
                batch.header().timestamp_of(record.timestamp_delta).value(),
                record.key.map(<[u8]>::to_vec),
                record.value.map(<[u8]>::to_vec),
                record.headers().map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec))).collect(),
            )
        };
        RecordsIter::new(&records, batch.header().record_count).map(|record| row(record.unwrap())).collect()
    }

    fn rebuild(bytes: &[u8], horizon: Option<i64>, keep: impl Fn(i32) -> bool) -> Vec<u8> {
        let batch = intact(bytes).unwrap();
        let records = plain(&batch);
        let mut kept = Kept::default();
        (0..batch.header().record_count).for_each(|index| kept.push(keep(index)));
        let mut rebuild = Rebuild::new(&batch, horizon.map(TimestampMs::new));
        let mut out = b"what was there before".to_vec();
        let mut compressor = Compressor::new();
        loop {
            match rebuild.step(&records, &kept, &mut compressor, &mut out) {
                RebuildStep::More => {}
                RebuildStep::Done => return out,
                RebuildStep::TooLarge => panic!("too large"),
            }
        }
    }

    fn source(codec: Codec, records: usize, random: &mut Random) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec);
        for _ in 0..records {
            let mut value = vec![0; random.index(300)];
            random.bytes(&mut value);
            let headers = [Header { key: b"trace", value: Some(&value[..value.len() / 2]) }];
            let headers = if random.chance(1, 2) { &headers[..] } else { &[] };
            let timestamp = TimestampMs::new(i64::try_from(1_000_000 + random.below(100_000)).unwrap());
            let key = random.below(50).to_be_bytes();
            builder.append(timestamp, Some(&key), (!random.chance(1, 5)).then_some(&value), headers);
        }
        builder.producer(ProducerId::new(70), ProducerEpoch::new(3), Sequence::new(41));
        let mut bytes = builder.build();
        stamp(bytes.first_chunk_mut().unwrap(), Offset::new(5_000), LeaderEpoch::new(9));
        bytes
    }

    #[test]
    fn the_records_left_are_what_they_were_with_every_codec() {
        let mut random = Random::new(1);
        for codec in Codec::ALL {
            for horizon in [None, Some(0), Some(2_000_000_000_000)] {
                let bytes = source(codec, 700, &mut random);
                let smaller = rebuild(&bytes, horizon, |index| index % 3 == 1);
                let wanted: Vec<Row> = rows(&bytes).into_iter().skip(1).step_by(3).collect();
                assert_eq!(rows(&smaller), wanted, "{codec}");
                let was = intact(&bytes).unwrap().header().to_owned();
                let is = intact(&smaller).unwrap().header().to_owned();
                let bit = if horizon.is_some() { DELETE_HORIZON_BIT } else { 0 };
                let wanted = BatchHeader {
                    length: length(smaller.len() - LENGTH_OVERHEAD_BYTES),
                    crc: is.crc,
                    attributes: codec.id() | bit,
                    base_timestamp: TimestampMs::new(horizon.unwrap_or(wanted[0].1)),
                    max_timestamp: TimestampMs::new(wanted.iter().map(|row| row.1).max().unwrap()),
                    record_count: length(wanted.len()),
                    ..was
                };
                assert_eq!(is, wanted);
                assert_eq!(is.delete_horizon(), horizon.map(TimestampMs::new));
                // Once more, from what has gaps and counts from a horizon.
                let smallest = rebuild(&smaller, horizon, |index| index > 100);
                assert_eq!(rows(&smallest), rows(&smaller)[101..]);
            }
        }
    }

    #[test]
    fn log_append_time_stays_the_time_of_every_record() {
        let mut bytes = source(Codec::Zstd, 10, &mut Random::new(2));
        let (header, records) = bytes.split_first_chunk_mut().unwrap();
        set_timestamps(header, records, TimestampType::LogAppendTime, TimestampMs::new(77_000));
        let smaller = rebuild(&bytes, None, |index| index == 4);
        let is = intact(&smaller).unwrap().header().to_owned();
        assert_eq!((is.base_timestamp, is.max_timestamp), (TimestampMs::new(77_000), TimestampMs::new(77_000)));
        assert_eq!(is.attributes & LOG_APPEND_TIME_BIT, LOG_APPEND_TIME_BIT);
        assert_eq!(rows(&smaller), rows(&bytes)[4..5]);
    }

    #[test]
    fn transaction_and_marker_stay_and_meaningless_bits_go() {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.append(TimestampMs::new(5), Some(b"\0\0\0\x01"), Some(b"\0\0\0\0\0\x07"), &[]);
        let mut bytes = builder.transactional().control().build();
        bytes[ATTRIBUTES_AT] |= 0x40;
        let (header, records) = bytes.split_first_chunk_mut().unwrap();
        let mut parsed = BatchHeader::parse(header);
        parsed.crc = crc(header, records);
        *header = parsed.to_bytes();
        let rebuilt = rebuild(&bytes, Some(9), |_| true);
        let is = intact(&rebuilt).unwrap().header().to_owned();
        assert_eq!(is.attributes, TRANSACTIONAL_BIT | CONTROL_BIT | DELETE_HORIZON_BIT);
        let emptied = intact(&rebuilt).unwrap().without_records();
        assert_eq!(BatchHeader::parse(&emptied).attributes, TRANSACTIONAL_BIT | CONTROL_BIT);
    }

    #[test]
    fn a_batch_without_records_keeps_who_wrote_it_and_what_it_covers() {
        let bytes = source(Codec::Lz4, 30, &mut Random::new(3));
        let batch = intact(&bytes).unwrap();
        let emptied = batch.without_records();
        let is = intact(&emptied).unwrap().header().to_owned();
        let was = *batch.header();
        let wanted = BatchHeader {
            length: EMPTY_LENGTH,
            crc: is.crc,
            attributes: 0,
            base_timestamp: TimestampMs::NONE,
            record_count: 0,
            ..was
        };
        assert_eq!(is, wanted);
        assert_eq!((is.last_offset(), is.last_sequence()), (Offset::new(5_029), Sequence::new(70)));
        assert_eq!(intact(&emptied).unwrap().without_records(), emptied, "emptied once is emptied");
    }

    #[test]
    fn a_value_larger_than_many_steps_is_written_whole() {
        let mut builder = BatchBuilder::new(Codec::Gzip);
        builder.append(TimestampMs::new(5), Some(b"a"), Some(&vec![1; 300_000]), &[]);
        builder.append(TimestampMs::new(9), Some(b"b"), Some(&vec![2; 300_000]), &[]);
        let bytes = builder.build();
        assert_eq!(rows(&rebuild(&bytes, None, |index| index == 1)), rows(&bytes)[1..]);
    }

    #[test]
    fn rot_is_an_error_wherever_it_is() {
        let bytes = source(Codec::None, 3, &mut Random::new(4));
        for at in ATTRIBUTES_AT..bytes.len() {
            let mut rotten = bytes.clone();
            rotten[at] ^= 0x10;
            let error = intact(&rotten).unwrap_err();
            assert_eq!(error.base_offset, Offset::new(5_000));
            assert_ne!(error.declared, error.found);
        }
    }
}
