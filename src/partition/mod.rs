//! One partition's rules, pure: no clock, no disk, no other partition. Touched only by the core that owns it.
//!
//! - [`validate`]: what a producer sent becomes a batch that may be appended, or a precise error
//! - [`producer_state`]: who wrote what last, so that a batch sent twice is appended once
//! - [`leader_epochs`]: which epoch began where
//! - [`offsets`]: log start ≤ high watermark ≤ log end
//! - [`lookup`]: offsets by timestamp inside one stored batch
//!
//! [`PartitionState`] is what must survive a restart beside the records. It is a function of the batches appended, so
//! recovery rebuilds it from a snapshot and the headers that follow; that it equals the state before the crash is what
//! the simulation checks.
//!
//! ```text
//! snapshot, little endian, under the checkpoint's CRC
//! version u16 = 2; 1 had no segments
//! epochs u32, each:     epoch i32 | start offset i64
//! producers u32, each:  id i64 | epoch i16 | coordinator epoch i32 = -1 | transaction's first offset i64 = -1
//!                       | last timestamp i64 | last offset i64 | batches u8, each:
//!                           last sequence i32 | offset delta i32 | last offset i64 | timestamp i64
//! segments u8: 1 where the log is compacted, then as `compaction::segments` says
//! ```

pub mod leader_epochs;
pub mod lookup;
pub mod offsets;
pub mod producer_state;
mod snapshot;
pub mod validate;

pub use snapshot::SnapshotError;

use crate::compaction::VirtualSegments;
use crate::partition::leader_epochs::LeaderEpochs;
use crate::partition::offsets::PartitionOffsets;
use crate::partition::producer_state::{ProducerCheck, ProducerError, ProducerStates};
use crate::partition::snapshot::Reader;
use crate::protocol::record_batch::{BATCH_HEADER_BYTES, BatchHeader};
use crate::types::{LeaderEpoch, Offset};

/// Version of the snapshot's format.
const SNAPSHOT_VERSION: u16 = 2;
/// The oldest that is read.
const SNAPSHOT_VERSION_MIN: u16 = 1;

/// Offsets, producers and leader epochs of one partition.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PartitionState {
    /// Log start, high watermark, log end.
    pub offsets: PartitionOffsets,
    /// The idempotent producers.
    pub producers: ProducerStates,
    /// The leader epochs.
    pub epochs: LeaderEpochs,
    /// Of a log that is compacted: what of it is not.
    pub compaction: Option<VirtualSegments>,
}

impl PartitionState {
    /// A partition that was just created.
    pub fn new() -> PartitionState {
        PartitionState::default()
    }

    /// Whether a validated batch may be appended, or was already; changes nothing.
    pub fn check(&self, batch: &BatchHeader) -> Result<ProducerCheck, ProducerError> {
        self.producers.check(batch)
    }

    /// Notes a batch that is being appended: its header is stamped, its base offset is the log end.
    pub fn append(&mut self, header: &[u8; BATCH_HEADER_BYTES]) {
        let batch = BatchHeader::parse(header);
        assert!(batch.base_offset == self.offsets.log_end());
        let record_count = u32::try_from(batch.last_offset_delta).expect("a validated batch has records") + 1;
        self.offsets.append(record_count);
        if batch.leader_epoch >= LeaderEpoch::new(0) {
            self.epochs.assign(batch.leader_epoch, batch.base_offset);
        }
        self.producers.update(&batch);
    }

    /// Records before `to` are gone. Producers stay known: their records may go before their retries do.
    pub fn advance_log_start(&mut self, to: Offset) {
        if self.offsets.advance_log_start(to) {
            self.epochs.truncate_from_start(to);
            if let Some(segments) = &mut self.compaction {
                segments.on_log_start(to);
            }
        }
    }

    /// Appends the state of producers and epochs to `out`. Offsets are not part of it: the store keeps them itself.
    pub fn snapshot(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&SNAPSHOT_VERSION.to_le_bytes());
        self.epochs.encode(out);
        #[cfg(not(corelane_defect = "checkpoint_without_producers"))]
        self.producers.encode(out);
        #[cfg(corelane_defect = "checkpoint_without_producers")]
        ProducerStates::new().encode(out);
        out.push(u8::from(self.compaction.is_some()));
        if let Some(segments) = &self.compaction {
            segments.encode(out);
        }
    }

    /// The state that `snapshot` wrote, for a partition that held `log_start..log_end` then. No bytes at all are the
    /// state of a partition just created.
    ///
    /// Errors: bytes that `snapshot` cannot have written; nothing was reserved for what they claimed.
    pub fn restore(bytes: &[u8], log_start: Offset, log_end: Offset) -> Result<PartitionState, SnapshotError> {
        if log_start < Offset::ZERO || log_start > log_end {
            return Err(SnapshotError::Impossible("range of offsets"));
        }
        let mut state =
            PartitionState { offsets: PartitionOffsets::new(log_start, log_end), ..PartitionState::default() };
        if bytes.is_empty() {
            return Ok(state);
        }
        let mut reader = Reader::new(bytes);
        let version = reader.u16()?;
        if !(SNAPSHOT_VERSION_MIN..=SNAPSHOT_VERSION).contains(&version) {
            return Err(SnapshotError::Version(version));
        }
        state.epochs = LeaderEpochs::decode(&mut reader)?;
        state.producers = ProducerStates::decode(&mut reader)?;
        if version > 1 && reader.u8()? != 0 {
            state.compaction = Some(reader.segments()?);
        }
        reader.end()?;
        Ok(state)
    }

    /// Notes a batch that recovery found after the state restored so far. What is in the log counts as acknowledged, so
    /// the high watermark follows; the store flushes what it found before it opens.
    ///
    /// The header is covered by the CRC of its log entry and was validated when it was appended. Where the batches before
    /// it are lost, their offsets are left out.
    pub fn replay(&mut self, header: &[u8; BATCH_HEADER_BYTES]) {
        let batch = BatchHeader::parse(header);
        self.offsets.skip_to(batch.base_offset);
        self.append(header);
        self.offsets.advance_high_watermark(self.offsets.log_end());
        if let Some(segments) = &mut self.compaction {
            segments.replay(&batch, batch.batch_bytes());
        }
    }

    /// Notes a log start that recovery found. Where the batches before it are lost, their offsets are left out.
    pub fn replay_log_start(&mut self, to: Offset) {
        self.offsets.skip_to(to);
        self.advance_log_start(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::compression::Codec;
    use crate::protocol::record_batch::{BatchBuilder, stamp};
    use crate::types::{ProducerEpoch, ProducerId, Sequence, TimestampMs};

    fn header(state: &PartitionState, producer: i64, sequence: i32, records: i32) -> [u8; BATCH_HEADER_BYTES] {
        let mut builder = BatchBuilder::new(Codec::None);
        for _ in 0..records {
            builder.append(TimestampMs::new(5), None, Some(b"v"), &[]);
        }
        builder.producer(ProducerId::new(producer), ProducerEpoch::new(0), Sequence::new(sequence));
        let mut header = *builder.build().first_chunk().unwrap();
        let epoch = i32::try_from(state.offsets.log_end().value() / 10).unwrap();
        stamp(&mut header, state.offsets.log_end(), LeaderEpoch::new(epoch));
        header
    }

    #[test]
    fn restore_and_replay_equal_the_state_that_was_lost() {
        let mut state = PartitionState::new();
        let mut sequences = [0_i32; 3];
        let mut checkpoint = None;
        let mut later = Vec::new();
        for step in 0..40_i32 {
            let producer = usize::try_from(step * 7 % 3).unwrap();
            let records = 1 + step % 4;
            let header = header(&state, i64::try_from(producer).unwrap(), sequences[producer], records);
            sequences[producer] += records;
            state.append(&header);
            if step == 20 {
                state.offsets.advance_high_watermark(state.offsets.log_end());
                state.advance_log_start(Offset::new(17));
                let mut bytes = Vec::new();
                state.snapshot(&mut bytes);
                checkpoint = Some((bytes, state.offsets));
            } else if checkpoint.is_some() {
                later.push(header);
            }
        }
        state.offsets.advance_high_watermark(state.offsets.log_end());
        let (bytes, offsets) = checkpoint.unwrap();
        let mut restored = PartitionState::restore(&bytes, offsets.log_start(), offsets.log_end()).unwrap();
        for header in &later {
            restored.replay(header);
        }
        assert_eq!(restored, state);
        assert!(state.epochs.entries().len() > 3);
    }

    #[test]
    fn replay_leaves_out_the_offsets_of_lost_batches() {
        // Found by fuzzing: with a segment file gone, the first batch behind it stopped the process.
        let mut written = PartitionState::new();
        let headers: Vec<_> = (0..3)
            .map(|batch| {
                let header = header(&written, 7, batch * 4, 4);
                written.append(&header);
                header
            })
            .collect();
        let mut state = PartitionState::new();
        state.replay(&headers[0]);
        state.replay(&headers[2]);
        assert_eq!((state.offsets.high_watermark(), state.offsets.log_end()), (Offset::new(12), Offset::new(12)));
        state.replay_log_start(Offset::new(20));
        assert_eq!((state.offsets.log_start(), state.offsets.log_end()), (Offset::new(20), Offset::new(20)));
    }

    #[test]
    fn no_bytes_are_a_new_partition() {
        assert_eq!(PartitionState::restore(&[], Offset::ZERO, Offset::ZERO), Ok(PartitionState::new()));
    }

    #[test]
    fn newer_or_longer_snapshots_are_refused() {
        let mut bytes = Vec::new();
        PartitionState::new().snapshot(&mut bytes);
        bytes.push(0);
        assert_eq!(PartitionState::restore(&bytes, Offset::ZERO, Offset::ZERO), Err(SnapshotError::Trailing(1)));
        bytes[0] = 3;
        assert_eq!(PartitionState::restore(&bytes, Offset::ZERO, Offset::ZERO), Err(SnapshotError::Version(3)));
    }
}
