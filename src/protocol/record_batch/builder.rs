//! Records in, one batch out: for everything that Corelane itself writes or sends.

use crate::protocol::compression::{Codec, compress_into};
use crate::protocol::record_batch::record::{put_varint, put_varlong, varint_bytes, varlong_bytes};
use crate::protocol::record_batch::{
    BATCH_HEADER_BYTES, BatchHeader, CONTROL_BIT, Header, LENGTH_OVERHEAD_BYTES, MAGIC, TRANSACTIONAL_BIT, crc,
};
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};

/// Collects records of one batch. Offsets are dense from the base offset, timestamps are the producer's.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    codec: Codec,
    flags: i16,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    base_sequence: Sequence,
    base_timestamp: TimestampMs,
    max_timestamp: TimestampMs,
    record_count: i32,
    /// The records, not compressed yet.
    records: Vec<u8>,
}

impl BatchBuilder {
    /// An empty batch: base offset 0, no leader epoch, no producer.
    pub fn new(codec: Codec) -> BatchBuilder {
        BatchBuilder {
            codec,
            flags: 0,
            base_offset: Offset::ZERO,
            leader_epoch: LeaderEpoch::new(-1),
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::new(-1),
            base_sequence: Sequence::new(-1),
            base_timestamp: TimestampMs::NONE,
            max_timestamp: TimestampMs::NONE,
            record_count: 0,
            records: Vec::new(),
        }
    }

    /// Sets the offset of the first record; clients leave it 0.
    pub fn base_offset(&mut self, base_offset: Offset) -> &mut BatchBuilder {
        self.base_offset = base_offset;
        self
    }

    /// Sets the epoch of the leader that writes the batch; clients leave it -1.
    pub fn leader_epoch(&mut self, leader_epoch: LeaderEpoch) -> &mut BatchBuilder {
        self.leader_epoch = leader_epoch;
        self
    }

    /// Names the idempotent producer and the sequence of the first record.
    pub fn producer(&mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: Sequence) -> &mut BatchBuilder {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
        self
    }

    /// Makes the batch part of a transaction.
    pub fn transactional(&mut self) -> &mut BatchBuilder {
        self.flags |= TRANSACTIONAL_BIT;
        self
    }

    /// Makes the batch a marker, which only brokers may write.
    pub fn control(&mut self) -> &mut BatchBuilder {
        self.flags |= CONTROL_BIT;
        self
    }

    /// Adds a record. Its parts together must stay below 2 GiB, as the format's lengths do.
    pub fn append(
        &mut self,
        timestamp: TimestampMs,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> &mut BatchBuilder {
        if self.record_count == 0 {
            self.base_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let timestamp_delta = timestamp.value().wrapping_sub(self.base_timestamp.value());
        let offset_delta = self.record_count;
        let header_bytes: usize =
            headers.iter().map(|header| data_bytes(Some(header.key)) + data_bytes(header.value)).sum();
        let body_bytes = 1
            + varlong_bytes(timestamp_delta)
            + varint_bytes(offset_delta)
            + data_bytes(key)
            + data_bytes(value)
            + varint_bytes(length(headers.len()))
            + header_bytes;
        let out = &mut self.records;
        put_varint(out, length(body_bytes));
        out.push(0);
        put_varlong(out, timestamp_delta);
        put_varint(out, offset_delta);
        put_data(out, key);
        put_data(out, value);
        put_varint(out, length(headers.len()));
        for header in headers {
            put_data(out, Some(header.key));
            put_data(out, header.value);
        }
        self.record_count += 1;
        self
    }

    /// Records so far.
    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    /// Bytes of the batch if it were built now without compression.
    pub fn uncompressed_bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.records.len()
    }

    /// The batch. At least one record was appended.
    pub fn build(&self) -> Vec<u8> {
        assert!(self.record_count > 0);
        let mut bytes = Vec::with_capacity(BATCH_HEADER_BYTES + self.records.len());
        bytes.resize(BATCH_HEADER_BYTES, 0);
        compress_into(self.codec, &self.records, &mut bytes);
        let mut header = BatchHeader {
            base_offset: self.base_offset,
            length: length(bytes.len() - LENGTH_OVERHEAD_BYTES),
            leader_epoch: self.leader_epoch,
            magic: MAGIC,
            crc: 0,
            attributes: self.codec.id() | self.flags,
            last_offset_delta: self.record_count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: self.record_count,
        };
        header.crc = crc(&header.to_bytes(), &bytes[BATCH_HEADER_BYTES..]);
        bytes[..BATCH_HEADER_BYTES].copy_from_slice(&header.to_bytes());
        bytes
    }
}

/// Bytes of nullable data with its length in front.
fn data_bytes(data: Option<&[u8]>) -> usize {
    match data {
        None => varint_bytes(-1),
        Some(data) => varint_bytes(length(data.len())) + data.len(),
    }
}

fn put_data(out: &mut Vec<u8>, data: Option<&[u8]>) {
    match data {
        None => put_varint(out, -1),
        Some(data) => {
            put_varint(out, length(data.len()));
            out.extend_from_slice(data);
        }
    }
}

fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("what we write ourselves stays below 2 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::compression::Scratch;
    use crate::protocol::record_batch::{BatchView, RecordsIter};

    #[test]
    fn what_was_appended_comes_out_again_with_every_codec() {
        for codec in Codec::ALL {
            let headers = [Header { key: b"trace", value: Some(b"1") }, Header { key: b"", value: None }];
            let mut builder = BatchBuilder::new(codec);
            for index in 0..300_i64 {
                let value = vec![b'x'; usize::try_from(index * 7).unwrap()];
                let key = (index % 2 == 0).then_some(&b"key"[..]);
                builder.append(TimestampMs::new(10_000 - index), key, Some(&value), &headers);
            }
            let bytes = builder.base_offset(Offset::new(40)).leader_epoch(LeaderEpoch::new(2)).build();
            let view = BatchView::parse(&bytes).unwrap();
            assert!(view.crc_matches());
            assert_eq!(view.header.codec(), Some(codec));
            assert_eq!(view.header.max_timestamp, TimestampMs::new(10_000));
            let mut out = Vec::new();
            let records = view.decompressed(&mut Scratch::new(), &mut out, 10_000_000).unwrap();
            let mut count = 0;
            for (index, record) in (0_i32..).zip(RecordsIter::new(records, view.header.record_count)) {
                let record = record.unwrap();
                assert_eq!(record.offset_delta, index);
                assert_eq!(view.header.timestamp_of(record.timestamp_delta).value(), 10_000 - i64::from(index));
                assert_eq!(record.key.is_some(), index % 2 == 0);
                assert_eq!(record.value.unwrap().len(), usize::try_from(index * 7).unwrap());
                assert_eq!(record.headers().collect::<Vec<_>>(), headers);
                count += 1;
            }
            assert_eq!(count, 300);
        }
    }

    #[test]
    fn the_oracle_reads_what_we_build_and_we_read_what_it_builds() {
        use kafka_protocol::records::{
            Compression, Record as OracleRecord, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions,
            TimestampType as OracleTimestampType,
        };
        let mut builder = BatchBuilder::new(Codec::None);
        builder.append(TimestampMs::new(100), Some(b"k"), None, &[Header { key: b"h", value: Some(b"w") }]);
        builder.append(TimestampMs::new(90), None, Some(b"v"), &[]);
        let ours = builder.producer(ProducerId::new(7), ProducerEpoch::new(1), Sequence::new(5)).build();
        let decoded = RecordBatchDecoder::decode(&mut bytes::Bytes::copy_from_slice(&ours)).unwrap();
        assert_eq!(decoded.records.len(), 2);
        assert_eq!(decoded.records[0].timestamp, 100);
        assert_eq!(decoded.records[0].key.as_deref(), Some(&b"k"[..]));
        assert_eq!(decoded.records[0].value, None);
        assert_eq!(decoded.records[0].headers.len(), 1);
        assert_eq!(decoded.records[1].timestamp, 90);
        assert_eq!(decoded.records[1].sequence, 6);

        let record = |offset: i64| OracleRecord {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: 7,
            producer_epoch: 1,
            timestamp_type: OracleTimestampType::Creation,
            offset,
            sequence: i32::try_from(offset).unwrap(),
            timestamp: 100 + offset,
            key: None,
            value: Some(bytes::Bytes::from_static(b"value")),
            headers: Default::default(),
        };
        let mut theirs = bytes::BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        RecordBatchEncoder::encode(&mut theirs, [&record(0), &record(1), &record(2)], &options).unwrap();
        let view = BatchView::parse(&theirs).unwrap();
        assert!(view.crc_matches());
        let values: Vec<_> =
            RecordsIter::new(view.records(), view.header.record_count).map(|record| record.unwrap().value).collect();
        assert_eq!(values, [Some(&b"value"[..]); 3]);
    }
}
