//! Record batches as a broker appends them: valid headers and checksums, random records.

use corelane::simulation::random::Random;
use corelane::store::{BATCH_HEADER_BYTES, Batch};
use corelane::types::{LogId, Offset, TimestampMs};

/// Where a batch's own checksum begins to cover it: at the attributes.
const CRC_COVERS_FROM: usize = 21;

/// A batch in full, and what the model remembers of it.
#[derive(Debug)]
pub(crate) struct Content {
    /// The log it belongs to.
    pub(crate) log: LogId,
    /// Offset of its first record.
    pub(crate) base: Offset,
    /// Offset of its last record.
    pub(crate) last: Offset,
    /// Greatest timestamp of its records.
    pub(crate) timestamp_max: TimestampMs,
    /// Header and records.
    pub(crate) bytes: Vec<u8>,
}

impl Content {
    /// A batch of `count` records whose records part has `records_bytes` bytes.
    pub(crate) fn draw(random: &mut Random, log: LogId, base: Offset, count: i32, records_bytes: usize) -> Content {
        let timestamp = i64::try_from(random.below(1 << 40)).unwrap();
        let mut bytes = Vec::with_capacity(BATCH_HEADER_BYTES + records_bytes);
        bytes.extend_from_slice(&base.value().to_be_bytes());
        bytes.extend_from_slice(&i32::try_from(BATCH_HEADER_BYTES - 12 + records_bytes).unwrap().to_be_bytes());
        bytes.extend_from_slice(&7i32.to_be_bytes()); // Leader epoch.
        bytes.push(2); // Magic.
        bytes.extend_from_slice(&[0; 4]); // The checksum comes last.
        bytes.extend_from_slice(&0i16.to_be_bytes()); // Attributes.
        bytes.extend_from_slice(&(count - 1).to_be_bytes());
        bytes.extend_from_slice(&timestamp.to_be_bytes());
        bytes.extend_from_slice(&timestamp.to_be_bytes());
        bytes.extend_from_slice(&(-1i64).to_be_bytes()); // Producer id, epoch and sequence: none.
        bytes.extend_from_slice(&(-1i16).to_be_bytes());
        bytes.extend_from_slice(&(-1i32).to_be_bytes());
        bytes.extend_from_slice(&count.to_be_bytes());
        assert_eq!(bytes.len(), BATCH_HEADER_BYTES);
        bytes.resize(BATCH_HEADER_BYTES + records_bytes, 0);
        random.bytes(&mut bytes[BATCH_HEADER_BYTES..]);
        let crc = crc32c::crc32c(&bytes[CRC_COVERS_FROM..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        let last = Offset::new(base.value() + i64::from(count) - 1);
        Content { log, base, last, timestamp_max: TimestampMs::new(timestamp), bytes }
    }

    /// As the store takes it.
    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch {
            header: self.header(),
            records: &self.bytes[BATCH_HEADER_BYTES..],
            base_offset: self.base,
            last_offset: self.last,
            timestamp_max: self.timestamp_max,
        }
    }

    /// The first 61 bytes.
    pub(crate) fn header(&self) -> &[u8; BATCH_HEADER_BYTES] {
        self.bytes.first_chunk().unwrap()
    }
}
