//! Record batches, their codecs, and what a partition keeps of them.

use std::io::Read;

use bytes::Bytes;
use corelane::compaction::{
    BatchFacts, CollectStep, Collecting, CompactionRules, FilterStep, Filtering, KeyMap, Outcome, Pass, Tools,
};
use corelane::limits::{DECOMPRESS_WINDOW_BYTES, LZ4_BLOCK_BYTES_MAX, ZSTD_ENCODER_BYTES_MAX};
use corelane::partition::PartitionState;
use corelane::partition::lookup::{first_record_at_or_after, record_with_max_timestamp};
use corelane::partition::validate::{InvalidBatch, TopicRules, Validation, validate};
use corelane::protocol::compression::{
    Codec, Compression, RecompressionTools, Scratch, compress_into, decompress_into,
};
use corelane::protocol::record_batch::{
    BATCH_HEADER_BYTES, BatchBuilder, BatchHeader, BatchView, Header, RecordsIter, TimestampType, batches, crc, stamp,
};
use corelane::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};

use kafka_protocol::records::{Compression as OracleCompression, RecordBatchDecoder, RecordSet};

use crate::fuzz;
use crate::random::{Random, mutate};

/// Rounds per target: about a second in all.
const ROUNDS: u64 = 1000;
/// What decompression of fuzzed input may produce in these tests, in bytes.
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// The clock of every round.
const NOW: TimestampMs = TimestampMs::new(1_700_000_000_000);

#[test]
fn produced_batches_are_validated_without_a_panic() {
    fuzz("produce", ROUNDS, produced_batch);
}

#[test]
fn recompressed_batches_are_read_by_others() {
    fuzz("recompress", ROUNDS / 2, recompressed_batch);
}

#[test]
fn stored_batches_are_read_without_a_panic() {
    fuzz("stored", ROUNDS, stored_batch);
}

#[test]
fn stored_batches_are_compacted_without_a_panic() {
    fuzz("compact", ROUNDS, compacted_batch);
}

#[test]
fn compressed_rubbish_ends_within_bounds() {
    fuzz("decompress", ROUNDS, compressed_payload);
}

#[test]
fn partition_snapshots_are_decoded_without_a_panic() {
    fuzz("snapshot", ROUNDS, partition_snapshot);
}

#[test]
fn every_payload_survives_every_codec() {
    fuzz("round trip", ROUNDS, codec_round_trip);
}

/// A produce request's records, damaged; half of them with a CRC that is right again, to get past it.
fn produced_batch(random: &mut Random) {
    let mut bytes = good_batch(random);
    mutate(random, &mut bytes);
    if random.one_in(2) {
        repair_crc(&mut bytes);
    }
    let rules = TopicRules {
        max_message_bytes: 1024 * 1024,
        timestamp_type: if random.one_in(4) { TimestampType::LogAppendTime } else { TimestampType::CreateTime },
        timestamp_before_max_ms: if random.one_in(2) { i64::MAX } else { 1000 },
        timestamp_after_max_ms: if random.one_in(2) { i64::MAX } else { 1000 },
        compacted: random.one_in(4),
        validation: if random.one_in(4) { Validation::Header } else { Validation::Full },
        compression: random.one_in(2).then(|| compression(random)),
        ..TopicRules::default()
    };
    let version = i16::try_from(random.below(14)).unwrap();
    let mut scratch = Scratch::new();
    match validate(&bytes, version, &rules, NOW, &mut scratch) {
        Ok(valid) => {
            let mut tools = RecompressionTools::new();
            let mut valid = match valid.recompress {
                None => valid,
                Some(_) => {
                    let mut recompression = valid.recompression(&rules, &mut tools).expect("it was walked");
                    while !recompression.step().expect("what was walked is small") {}
                    valid.recompressed(&rules, tools.output()).expect("it is small")
                }
            };
            valid.stamp(Offset::new(5), LeaderEpoch::new(1));
            let stored = [&valid.header, valid.records].concat();
            let view = BatchView::parse(&stored).expect("a valid batch is a batch");
            assert!(view.crc_matches());
            assert_eq!(view.header, valid.fields);
            assert_eq!(view.header.last_offset(), Offset::new(5).advance(valid.record_count - 1));
            if rules.validation == Validation::Full {
                let mut out = Vec::new();
                let records = view.decompressed(&mut scratch, &mut out, usize::MAX).expect("it was walked");
                let all: Vec<_> = RecordsIter::new(records, view.header.record_count).collect();
                assert!(all.iter().all(Result::is_ok), "what was walked can be read");
                let count = all.len();
                assert_eq!(u32::try_from(count), Ok(valid.record_count));
            }
        }
        Err(error) => {
            assert!(matches!(error.kafka_error().code(), -1 | 2 | 10 | 32 | 76 | 87), "{error}");
            assert!(!error.to_string().is_empty());
        }
    }
    assert_scratch_is_bounded(&scratch);
}

/// Any batch on a topic of any codec and level: it is read by the decoders that other clients have, each record as it was.
fn recompressed_batch(random: &mut Random) {
    let mut tools = RecompressionTools::new();
    let mut scratch = Scratch::new();
    // The tools serve one batch after the other, whatever became of the one before.
    for _ in 0..3 {
        let sent = good_batch(random);
        let to = compression(random);
        let log_append = random.one_in(4);
        let rules = TopicRules {
            max_message_bytes: if random.one_in(8) { u32::try_from(sent.len()).unwrap() } else { 1024 * 1024 },
            timestamp_type: if log_append { TimestampType::LogAppendTime } else { TimestampType::CreateTime },
            compression: Some(to),
            ..TopicRules::default()
        };
        let valid = validate(&sent, 9, &rules, NOW, &mut scratch).expect("a good batch");
        if valid.recompress.is_none() {
            assert_eq!(valid.fields.codec(), Some(to.codec()));
            continue;
        }
        let mut recompression = valid.recompression(&rules, &mut tools).expect("a good batch");
        let refused = loop {
            match recompression.step() {
                Ok(false) => {}
                Ok(true) => break None,
                Err(refused) => break Some(InvalidBatch::from(refused)),
            }
        };
        if let Some(refused) = refused {
            assert_eq!(refused.kafka_error().code(), 10, "{refused}");
            tools.shed();
            continue;
        }
        let stored = valid.recompressed(&rules, tools.output()).expect("it is small");
        assert!(stored.bytes() <= usize::try_from(rules.max_message_bytes).unwrap());
        let stored = [&stored.header, stored.records].concat();
        let (before, after) = (read_by_others(&sent), read_by_others(&stored));
        assert_eq!(before.records.len(), after.records.len());
        for (was, is) in before.records.iter().zip(&after.records) {
            let content = |record: &kafka_protocol::records::Record| {
                let record = record.clone();
                (record.key, record.value, record.headers, record.offset, record.sequence, record.producer_id)
            };
            assert_eq!(content(is), content(was), "{to:?}");
            assert_eq!((is.producer_epoch, is.transactional, is.control), (was.producer_epoch, false, false));
            if !log_append {
                assert_eq!(is.timestamp, was.timestamp, "{to:?}");
            }
        }
        assert!(tools.held_bytes() < ZSTD_ENCODER_BYTES_MAX + 8 * 1024 * 1024);
        tools.shed();
    }
}

/// What a topic may be set to.
fn compression(random: &mut Random) -> Compression {
    let level =
        |random: &mut Random, from: i32, to: i32| from + i32::try_from(random.below(32)).unwrap() % (to - from + 1);
    match random.codec() {
        Codec::Gzip => Compression::gzip(level(random, 1, 9)),
        Codec::Lz4 => Compression::lz4(level(random, 1, 17)),
        Codec::Zstd => Compression::zstd(level(random, -9, 22)),
        codec => Compression::new(codec),
    }
}

/// Reads a batch with the crate `kafka-protocol`, and what is compressed with decoders that are none of ours.
fn read_by_others(batch: &[u8]) -> RecordSet {
    let decompress = |packed: &mut Bytes, compression: OracleCompression| {
        let mut out = Vec::new();
        match compression {
            OracleCompression::None => out.extend_from_slice(packed),
            OracleCompression::Gzip => {
                flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut out).expect("gzip");
            }
            OracleCompression::Snappy => {
                let mut rest = &packed[16..];
                while let Some((length, tail)) = rest.split_first_chunk() {
                    let (chunk, tail) = tail.split_at(usize::try_from(u32::from_be_bytes(*length)).unwrap());
                    out.extend(snap::raw::Decoder::new().decompress_vec(chunk).expect("snappy"));
                    rest = tail;
                }
            }
            OracleCompression::Lz4 => {
                lz4_flex::frame::FrameDecoder::new(&packed[..]).read_to_end(&mut out).expect("lz4");
            }
            OracleCompression::Zstd => out = zstd::stream::decode_all(&packed[..]).expect("zstd"),
        }
        Ok(Bytes::from(out))
    };
    let mut bytes = Bytes::copy_from_slice(batch);
    RecordBatchDecoder::decode_with_custom_compression(&mut bytes, Some(decompress)).expect("a batch that others read")
}

/// A batch as a disk may return it, half of them with a CRC that is right again, in a compaction pass of its own: what comes
/// of it is a batch, or an error.
fn compacted_batch(random: &mut Random) {
    let mut bytes = good_batch(random);
    mutate(random, &mut bytes);
    if random.one_in(2) {
        repair_crc(&mut bytes);
    }
    let Ok(view) = BatchView::parse(&bytes) else { return };
    let rules = CompactionRules {
        segment_bytes: 1000,
        segment_ms: 1000,
        segment_jitter_ms: 0,
        min_lag_ms: 0,
        max_lag_ms: i64::MAX,
        dirty_ratio_min: 0.5,
        delete_retention_ms: i64::try_from(random.below(2000)).unwrap(),
    };
    let facts = BatchFacts { is_discardable: random.one_in(4), ..BatchFacts::default() };
    let mut keys = KeyMap::new(24 * (2 + random.below(200)), [1, 2]);
    let bound = Offset::new(i64::MAX);
    keys.begin(Offset::new(i64::try_from(random.below(3)).unwrap()), bound);
    while !keys.clear_step() {}
    let mut tools = Tools::new();
    let mut collecting = Collecting::new(view, facts, &mut keys, &mut tools);
    while collecting.step() == Ok(CollectStep::More) {}
    keys.close();
    let mut pass = Pass::new(if random.one_in(2) { view.header.last_offset() } else { bound }, &rules, NOW);
    let mut filtering = Filtering::new(view, facts, &mut pass, &keys, &mut tools);
    let filtered = loop {
        match filtering.step() {
            Ok(FilterStep::More) => {}
            Ok(FilterStep::Done(outcome)) => break Ok(outcome),
            Err(error) => break Err(error),
        }
    };
    match filtered {
        Ok(Outcome::Rebuilt | Outcome::Emptied) => {
            let is = BatchView::parse(tools.output()).expect("a batch");
            assert!(is.crc_matches());
            assert_eq!(is.bytes().len(), tools.output().len());
            assert_eq!(is.header.last_offset(), view.header.last_offset());
            let mut out = Vec::new();
            let records = is.decompressed(&mut Scratch::new(), &mut out, usize::MAX).expect("it was compressed here");
            assert!(RecordsIter::new(records, is.header.record_count).all(|record| record.is_ok()));
        }
        Ok(Outcome::Verbatim | Outcome::Dropped) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A batch as a disk may return it: views, iteration and lookups.
fn stored_batch(random: &mut Random) {
    let mut bytes = good_batch(random);
    bytes.extend(good_batch(random));
    mutate(random, &mut bytes);
    let mut scratch = Scratch::new();
    let mut out = Vec::new();
    for view in batches(&bytes).map_while(Result::ok) {
        let time = TimestampMs::new(NOW.value() + i64::try_from(random.below(2000)).unwrap() - 1000);
        let _ = first_record_at_or_after(&view, Offset::new(3), time, &mut scratch);
        let _ = record_with_max_timestamp(&view, &mut scratch);
        if let Ok(records) = view.decompressed(&mut scratch, &mut out, OUTPUT_BYTES_MAX) {
            for record in RecordsIter::new(records, view.header.record_count).map_while(Result::ok) {
                assert_eq!(record.headers().count(), record.headers().count());
            }
        }
        assert!(out.len() <= OUTPUT_BYTES_MAX);
        let mut state = PartitionState::new();
        let mut header = *view.header_bytes();
        stamp(&mut header, Offset::ZERO, LeaderEpoch::new(0));
        if BatchHeader::parse(&header).last_offset_delta >= 0 {
            let _ = state.check(&view.header);
            state.replay(&header);
        }
    }
    assert_scratch_is_bounded(&scratch);
}

/// A payload of some codec, damaged, or noise behind the codec's first bytes, read as that codec or as another.
fn compressed_payload(random: &mut Random) {
    let codec = random.codec();
    let mut packed = Vec::new();
    if random.one_in(4) {
        compress_into(codec, b"", &mut packed);
        let noise = random.below(4096);
        packed.extend(random.bytes(noise));
    } else {
        let payload = random.compressible(200_000);
        if codec == Codec::Snappy && random.one_in(2) {
            // One raw block, as librdkafka sends it: often too large to be decoded whole.
            packed = snap::raw::Encoder::new().compress_vec(&payload).unwrap();
        } else {
            compress_into(codec, &payload, &mut packed);
        }
        mutate(random, &mut packed);
    }
    let read_as = if random.one_in(8) { random.codec() } else { codec };
    let mut scratch = Scratch::new();
    let mut out = Vec::new();
    let _ = decompress_into(read_as, &packed, &mut scratch, &mut out, OUTPUT_BYTES_MAX);
    assert!(out.len() <= OUTPUT_BYTES_MAX);
    assert_scratch_is_bounded(&scratch);
    // Whatever happened, the scratch serves the next batch.
    let mut good = Vec::new();
    compress_into(read_as, b"the next batch", &mut good);
    out.clear();
    decompress_into(read_as, &good, &mut scratch, &mut out, 100).expect("good input after bad");
    assert_eq!(out, b"the next batch");
}

/// A partition's state as a checkpoint may return it. What decodes must encode to the same bytes.
fn partition_snapshot(random: &mut Random) {
    let mut state = PartitionState::new();
    for _ in 0..random.below(60) {
        let mut batch = good_batch(random);
        let (header, _) = batch.split_first_chunk_mut::<BATCH_HEADER_BYTES>().expect("a whole batch");
        let epoch = i32::try_from(random.below(8)).unwrap();
        stamp(header, state.offsets.log_end(), LeaderEpoch::new(epoch));
        state.replay(header);
    }
    let mut bytes = Vec::new();
    state.snapshot(&mut bytes);
    let (log_start, log_end) = (state.offsets.log_start(), state.offsets.log_end());
    assert_eq!(PartitionState::restore(&bytes, log_start, log_end), Ok(state));
    mutate(random, &mut bytes);
    if let Ok(restored) = PartitionState::restore(&bytes, log_start, log_end) {
        let mut again = Vec::new();
        restored.snapshot(&mut again);
        assert!(again.len() <= bytes.len() || bytes.is_empty());
        assert_eq!(PartitionState::restore(&again, log_start, log_end), Ok(restored));
    }
}

/// Any payload, compressed and decompressed, is itself.
fn codec_round_trip(random: &mut Random) {
    let bytes = random.below(150_000);
    let payload = if random.one_in(4) { random.bytes(bytes) } else { random.compressible(bytes) };
    let codec = random.codec();
    let mut packed = Vec::new();
    compress_into(codec, &payload, &mut packed);
    let mut out = Vec::new();
    decompress_into(codec, &packed, &mut Scratch::new(), &mut out, payload.len()).expect("its own output");
    assert!(out == payload);
}

fn assert_scratch_is_bounded(scratch: &Scratch) {
    let bound = (2 * LZ4_BLOCK_BYTES_MAX).max(4 * DECOMPRESS_WINDOW_BYTES);
    assert!(scratch.window_bytes() <= bound, "{} bytes of window", scratch.window_bytes());
}

/// A batch that a client might send: a few records of all shapes, any codec, with or without a producer.
pub(crate) fn good_batch(random: &mut Random) -> Vec<u8> {
    let mut builder = BatchBuilder::new(random.codec());
    for _ in 0..1 + random.below(20) {
        let key = random.one_in(2).then(|| random.compressible(40));
        let value = (!random.one_in(8)).then(|| random.compressible(2000));
        // Names are UTF-8 by contract.
        let name: Vec<u8> = random.compressible(10).iter().map(|byte| byte & 0x7f).collect();
        let header = Header { key: &name, value: random.one_in(2).then_some(&b"value"[..]) };
        let headers = [header; 3];
        let headers = &headers[..random.below(4)];
        let time = NOW.value() + i64::try_from(random.below(1000)).unwrap() - 500;
        builder.append(TimestampMs::new(time), key.as_deref(), value.as_deref(), headers);
    }
    if random.one_in(2) {
        let id = ProducerId::new(i64::try_from(random.below(5)).unwrap());
        let epoch = ProducerEpoch::new(i16::try_from(random.below(3)).unwrap());
        let sequence = Sequence::new(i32::try_from(random.below(1000)).unwrap());
        builder.producer(id, epoch, sequence);
    }
    builder.build()
}

/// Makes length and CRC fit what the bytes have become, so that the checks behind them are reached.
fn repair_crc(bytes: &mut [u8]) {
    let size = bytes.len();
    if let Some((header, records)) = bytes.split_first_chunk_mut::<BATCH_HEADER_BYTES>() {
        let mut fields = BatchHeader::parse(header);
        fields.length = i32::try_from(size - 12).unwrap();
        fields.crc = crc(header, records);
        *header = fields.to_bytes();
    }
}
