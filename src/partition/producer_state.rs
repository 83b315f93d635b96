//! What a partition remembers of its idempotent producers, so that a batch sent twice is appended once.
//!
//! As Kafka's `ProducerStateManager`, `ProducerStateEntry` and `ProducerAppendInfo`, without transactions. A batch is
//! checked against the state ([`ProducerStates::check`]), appended, and only then noted ([`ProducerStates::update`]);
//! recovery notes what the log holds ([`ProducerStates::replay`]). Kept in order of producer id, so that the same history
//! gives the same bytes.
//!
//! Unlike Kafka's snapshots, ours keep every remembered batch, not only the last: a retry after a restart is recognised
//! as it would have been before.

use std::collections::BTreeMap;

use crate::limits::{PRODUCER_BATCHES_RETAINED, PRODUCERS_PER_PARTITION_MAX};
use crate::partition::snapshot::{Reader, SnapshotError, put_count};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::BatchHeader;
use crate::types::{Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};

/// The epoch of a producer that is not known.
const NO_EPOCH: ProducerEpoch = ProducerEpoch::new(-1);
/// Stands in a snapshot where a transaction's first offset and its coordinator's epoch will.
const NO_TRANSACTION: i64 = -1;
const NO_COORDINATOR_EPOCH: i32 = -1;
/// Bytes of a producer without batches in a snapshot.
const PRODUCER_BYTES: usize = 8 + 2 + 4 + 8 + 8 + 8 + 1;

/// What to do with a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProducerCheck {
    /// It is new: append it.
    Append,
    /// It was appended before: answer with what it got then.
    Duplicate(RetainedBatch),
}

/// Why a producer's batch is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProducerError {
    /// A newer instance of the producer has written.
    #[error("epoch {got} of producer {producer} is below its last epoch {known}")]
    StaleEpoch {
        /// Who wrote.
        producer: ProducerId,
        /// The epoch of the batch.
        got: ProducerEpoch,
        /// The epoch of the producer's last batch here.
        known: ProducerEpoch,
    },
    /// A batch is missing in between, or came long ago.
    #[error("sequence {got} from producer {producer}, expected {expected}")]
    OutOfOrderSequence {
        /// Who wrote.
        producer: ProducerId,
        /// The sequence that would have been next.
        expected: Sequence,
        /// The sequence of the batch.
        got: Sequence,
    },
    /// The batch claims a transaction that no coordinator has opened on this partition.
    #[error("transactional batch of producer {producer} outside a transaction")]
    NotInTransaction {
        /// Who wrote.
        producer: ProducerId,
    },
}

impl ProducerError {
    /// Kafka's error code.
    pub fn kafka_error(&self) -> ErrorCode {
        match self {
            // Since 2.7 not ProducerFenced, so that clients abort and go on.
            ProducerError::StaleEpoch { .. } => ErrorCode::InvalidProducerEpoch,
            ProducerError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
            ProducerError::NotInTransaction { .. } => ErrorCode::InvalidTxnState,
        }
    }
}

/// One batch that a producer wrote.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RetainedBatch {
    /// Sequence of its last record.
    pub last_sequence: Sequence,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// Offset of its last record from its first: one less than its records.
    pub offset_delta: i32,
    /// Its greatest timestamp; with log append time, the time of the append. Kafka's answer to a duplicate carries it as
    /// log append time, whatever the topic's timestamp type.
    pub timestamp: TimestampMs,
}

impl RetainedBatch {
    /// Sequence of its first record.
    pub fn first_sequence(&self) -> Sequence {
        let last = self.last_sequence.value();
        if last < 0 {
            // Written without a sequence, as coordinators do.
            Sequence::new(-1)
        } else if last < self.offset_delta {
            // Wrapped: 0 comes after i32::MAX.
            Sequence::new(i32::MAX - (self.offset_delta - last) + 1)
        } else {
            Sequence::new(last - self.offset_delta)
        }
    }

    /// Offset of its first record: the base offset that its producer was, or is, told.
    pub fn base_offset(&self) -> Offset {
        Offset::new(self.last_offset.value() - i64::from(self.offset_delta))
    }
}

/// What is remembered of one producer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProducerState {
    epoch: ProducerEpoch,
    /// Greatest timestamp of the last batch, by which the producer expires.
    last_timestamp: TimestampMs,
    /// Offset of the last record: who wrote longest ago is forgotten first.
    last_offset: Offset,
    batch_count: u8,
    batches: [RetainedBatch; PRODUCER_BATCHES_RETAINED],
}

impl ProducerState {
    fn new() -> ProducerState {
        ProducerState {
            epoch: NO_EPOCH,
            last_timestamp: TimestampMs::NONE,
            last_offset: Offset::new(-1),
            batch_count: 0,
            batches: Default::default(),
        }
    }

    /// The producer's epoch.
    pub fn epoch(&self) -> ProducerEpoch {
        self.epoch
    }

    /// Greatest timestamp of its last batch.
    pub fn last_timestamp(&self) -> TimestampMs {
        self.last_timestamp
    }

    /// The batches remembered, oldest first; at most [`PRODUCER_BATCHES_RETAINED`].
    pub fn batches(&self) -> &[RetainedBatch] {
        &self.batches[..usize::from(self.batch_count)]
    }

    /// Sequence of the last record; -1 before the first batch of an epoch.
    pub fn last_sequence(&self) -> Sequence {
        self.batches().last().map_or(Sequence::new(-1), |batch| batch.last_sequence)
    }

    fn set_epoch(&mut self, epoch: ProducerEpoch) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batch_count = 0;
            // Slots not in use hold nothing, so that equal states compare equal.
            self.batches = Default::default();
        }
    }

    fn add(&mut self, batch: RetainedBatch) {
        let count = usize::from(self.batch_count);
        if count == PRODUCER_BATCHES_RETAINED {
            self.batches.rotate_left(1);
            self.batches[count - 1] = batch;
        } else {
            self.batches[count] = batch;
            self.batch_count += 1;
        }
    }
}

/// The producers of one partition.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ProducerStates {
    producers: BTreeMap<ProducerId, ProducerState>,
}

impl ProducerStates {
    /// A partition to which no producer has written.
    pub fn new() -> ProducerStates {
        ProducerStates::default()
    }

    /// Producers remembered.
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Whether no producer is remembered.
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// What is remembered of one producer.
    pub fn producer(&self, id: ProducerId) -> Option<&ProducerState> {
        self.producers.get(&id)
    }

    /// All producers, by id.
    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerState)> {
        self.producers.iter().map(|(id, state)| (*id, state))
    }

    /// Checks a validated batch of a client, in Kafka's order: duplicate, transaction, epoch, sequence.
    ///
    /// A batch without a producer is always new. A producer that is not known may begin with any sequence: its state may
    /// have expired, or its records may have been deleted.
    pub fn check(&self, batch: &BatchHeader) -> Result<ProducerCheck, ProducerError> {
        if !batch.has_producer() {
            return Ok(ProducerCheck::Append);
        }
        let producer = batch.producer_id;
        let known = self.producers.get(&producer);
        if let Some(duplicate) = known.and_then(|state| find_duplicate(state, batch)) {
            return Ok(ProducerCheck::Duplicate(duplicate));
        }
        if batch.is_transactional() {
            return Err(ProducerError::NotInTransaction { producer });
        }
        let known_epoch = known.map_or(NO_EPOCH, |state| state.epoch);
        let got = batch.base_sequence;
        if batch.producer_epoch < known_epoch {
            return Err(ProducerError::StaleEpoch { producer, got: batch.producer_epoch, known: known_epoch });
        }
        if known_epoch == NO_EPOCH {
            return Ok(ProducerCheck::Append);
        }
        let expected = match known {
            Some(state) if state.epoch == batch.producer_epoch => next_sequence(state.last_sequence()),
            _ => Sequence::new(0),
        };
        if got != expected {
            return Err(ProducerError::OutOfOrderSequence { producer, expected, got });
        }
        Ok(ProducerCheck::Append)
    }

    /// Notes a batch that was appended. `batch` is the stamped header: its offsets are the log's.
    pub fn update(&mut self, batch: &BatchHeader) {
        if !batch.has_producer() {
            return;
        }
        assert!(batch.last_offset_delta >= 0);
        if !self.producers.contains_key(&batch.producer_id) {
            self.make_room();
        }
        let state = self.producers.entry(batch.producer_id).or_insert_with(ProducerState::new);
        state.set_epoch(batch.producer_epoch);
        state.last_timestamp = batch.max_timestamp;
        state.last_offset = batch.last_offset();
        if !batch.is_control() {
            state.add(RetainedBatch {
                last_sequence: batch.last_sequence(),
                last_offset: batch.last_offset(),
                offset_delta: batch.last_offset_delta,
                timestamp: batch.max_timestamp,
            });
        }
    }

    /// Notes a batch that recovery found in the log; it was checked when it was appended.
    pub fn replay(&mut self, batch: &BatchHeader) {
        if batch.last_offset_delta >= 0 {
            self.update(batch);
        }
    }

    /// Forgets producers whose last batch is `expiration_ms` old (`producer.id.expiration.ms`). Returns how many.
    pub fn expire(&mut self, now: TimestampMs, expiration_ms: i64) -> usize {
        let before = self.producers.len();
        self.producers.retain(|_, state| now.value().saturating_sub(state.last_timestamp.value()) < expiration_ms);
        before - self.producers.len()
    }

    /// Forgets producers whose last batch is of `timestamp` or earlier.
    pub fn forget_until(&mut self, timestamp: TimestampMs) {
        self.producers.retain(|_, state| state.last_timestamp > timestamp);
    }

    /// Before a new producer: at the bound, forgets the eighth that wrote longest ago, so that the search for them is
    /// rare.
    fn make_room(&mut self) {
        if self.producers.len() < PRODUCERS_PER_PARTITION_MAX {
            return;
        }
        let mut last_offsets: Vec<Offset> = self.producers.values().map(|state| state.last_offset).collect();
        let (_, &mut bound, _) = last_offsets.select_nth_unstable(PRODUCERS_PER_PARTITION_MAX / 8);
        self.producers.retain(|_, state| state.last_offset >= bound);
    }

    /// Appends the producers to a partition's state.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_count(out, self.producers.len());
        for (id, state) in &self.producers {
            out.extend_from_slice(&id.value().to_le_bytes());
            out.extend_from_slice(&state.epoch.value().to_le_bytes());
            out.extend_from_slice(&NO_COORDINATOR_EPOCH.to_le_bytes());
            out.extend_from_slice(&NO_TRANSACTION.to_le_bytes());
            out.extend_from_slice(&state.last_timestamp.value().to_le_bytes());
            out.extend_from_slice(&state.last_offset.value().to_le_bytes());
            out.push(state.batch_count);
            for batch in state.batches() {
                out.extend_from_slice(&batch.last_sequence.value().to_le_bytes());
                out.extend_from_slice(&batch.offset_delta.to_le_bytes());
                out.extend_from_slice(&batch.last_offset.value().to_le_bytes());
                out.extend_from_slice(&batch.timestamp.value().to_le_bytes());
            }
        }
    }

    /// Reads what `encode` wrote.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<ProducerStates, SnapshotError> {
        let count = reader.count(PRODUCER_BYTES, PRODUCERS_PER_PARTITION_MAX)?;
        let mut producers = BTreeMap::new();
        for _ in 0..count {
            let (id, state) = decode_producer(reader)?;
            if producers.insert(id, state).is_some() {
                return Err(SnapshotError::Impossible("producer given twice"));
            }
        }
        Ok(ProducerStates { producers })
    }
}

fn decode_producer(reader: &mut Reader<'_>) -> Result<(ProducerId, ProducerState), SnapshotError> {
    let id = ProducerId::new(reader.i64()?);
    if id <= ProducerId::NONE {
        return Err(SnapshotError::Impossible("producer id"));
    }
    let mut state = ProducerState::new();
    state.epoch = ProducerEpoch::new(reader.i16()?);
    let coordinator_epoch = reader.i32()?;
    let transaction = reader.i64()?;
    if (coordinator_epoch, transaction) != (NO_COORDINATOR_EPOCH, NO_TRANSACTION) {
        return Err(SnapshotError::Impossible("transaction"));
    }
    state.last_timestamp = TimestampMs::new(reader.i64()?);
    state.last_offset = Offset::new(reader.i64()?);
    let batch_count = reader.u8()?;
    if usize::from(batch_count) > PRODUCER_BATCHES_RETAINED {
        return Err(SnapshotError::Impossible("number of batches"));
    }
    for _ in 0..batch_count {
        let batch = RetainedBatch {
            last_sequence: Sequence::new(reader.i32()?),
            offset_delta: reader.i32()?,
            last_offset: Offset::new(reader.i64()?),
            timestamp: TimestampMs::new(reader.i64()?),
        };
        if batch.last_sequence.value() < -1 || batch.offset_delta < 0 || batch.last_offset < Offset::ZERO {
            return Err(SnapshotError::Impossible("producer's batch"));
        }
        state.add(batch);
    }
    Ok((id, state))
}

/// A batch is a duplicate only with the exact sequence range of a remembered one, in the same epoch.
fn find_duplicate(state: &ProducerState, batch: &BatchHeader) -> Option<RetainedBatch> {
    if state.epoch != batch.producer_epoch {
        return None;
    }
    let last_sequence = batch.last_sequence();
    state
        .batches()
        .iter()
        .find(|retained| retained.last_sequence == last_sequence && retained.first_sequence() == batch.base_sequence)
        .copied()
}

/// The sequence after `last`, which is -1 before the first batch. Wraps from `i32::MAX` to 0.
fn next_sequence(last: Sequence) -> Sequence {
    if last.value() < 0 { Sequence::new(0) } else { last.advance(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::record_batch::{CONTROL_BIT, TRANSACTIONAL_BIT};
    use crate::types::LeaderEpoch;

    const PRODUCER: i64 = 7;

    fn batch(epoch: i16, sequence: i32, record_count: i32) -> BatchHeader {
        BatchHeader {
            base_offset: Offset::ZERO,
            length: 49,
            leader_epoch: LeaderEpoch::new(0),
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: record_count - 1,
            base_timestamp: TimestampMs::new(1000),
            max_timestamp: TimestampMs::new(1000),
            producer_id: ProducerId::new(PRODUCER),
            producer_epoch: ProducerEpoch::new(epoch),
            base_sequence: Sequence::new(sequence),
            record_count,
        }
    }

    /// A partition as its log sees it: check, append, update.
    #[derive(Default)]
    struct Log {
        states: ProducerStates,
        end: Offset,
    }

    impl Log {
        fn produce(&mut self, mut batch: BatchHeader) -> Result<i64, ProducerError> {
            match self.states.check(&batch)? {
                ProducerCheck::Duplicate(retained) => Ok(retained.base_offset().value()),
                ProducerCheck::Append => {
                    batch.base_offset = self.end;
                    self.end = self.end.advance(u32::try_from(batch.record_count).unwrap());
                    self.states.update(&batch);
                    Ok(batch.base_offset.value())
                }
            }
        }
    }

    fn out_of_order(expected: i32, got: i32) -> ProducerError {
        ProducerError::OutOfOrderSequence {
            producer: ProducerId::new(PRODUCER),
            expected: Sequence::new(expected),
            got: Sequence::new(got),
        }
    }

    #[test]
    fn duplicate_batch_returns_original_offset() {
        let mut log = Log::default();
        for index in 0..5 {
            assert_eq!(log.produce(batch(0, index * 10, 10)), Ok(i64::from(index) * 10));
        }
        for index in 0..5 {
            assert_eq!(log.produce(batch(0, index * 10, 10)), Ok(i64::from(index) * 10));
        }
        assert_eq!(log.end, Offset::new(50));
    }

    #[test]
    fn a_batch_older_than_the_five_is_out_of_order() {
        let mut log = Log::default();
        for index in 0..6 {
            log.produce(batch(0, index, 1)).unwrap();
        }
        assert_eq!(log.produce(batch(0, 0, 1)), Err(out_of_order(6, 0)));
        assert_eq!(log.produce(batch(0, 1, 1)), Ok(1));
    }

    #[test]
    fn a_part_of_a_batch_is_no_duplicate() {
        let mut log = Log::default();
        log.produce(batch(0, 0, 10)).unwrap();
        assert_eq!(log.produce(batch(0, 0, 5)), Err(out_of_order(10, 0)));
        assert_eq!(log.produce(batch(0, 5, 5)), Err(out_of_order(10, 5)));
    }

    #[test]
    fn a_gap_is_out_of_order() {
        let mut log = Log::default();
        log.produce(batch(0, 0, 1)).unwrap();
        assert_eq!(log.produce(batch(0, 2, 1)), Err(out_of_order(1, 2)));
        assert_eq!(out_of_order(1, 2).kafka_error(), ErrorCode::OutOfOrderSequenceNumber);
        assert_eq!(log.produce(batch(0, 1, 1)), Ok(1));
    }

    #[test]
    fn an_unknown_producer_begins_anywhere() {
        let mut log = Log::default();
        assert_eq!(log.produce(batch(3, 4711, 2)), Ok(0));
        assert_eq!(log.produce(batch(3, 4713, 1)), Ok(2));
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_forgets_the_old_ones_batches() {
        let mut log = Log::default();
        log.produce(batch(0, 0, 5)).unwrap();
        assert_eq!(log.produce(batch(1, 5, 1)), Err(out_of_order(0, 5)));
        assert_eq!(log.produce(batch(1, 0, 5)), Ok(5));
        let stale = log.produce(batch(0, 0, 5)).unwrap_err();
        assert_eq!(stale.kafka_error(), ErrorCode::InvalidProducerEpoch);
        assert_eq!(log.produce(batch(1, 0, 5)), Ok(5), "a duplicate in the new epoch");
    }

    #[test]
    fn sequences_wrap_to_zero_between_and_inside_batches() {
        let mut log = Log::default();
        log.produce(batch(0, i32::MAX - 1, 2)).unwrap();
        assert_eq!(log.produce(batch(0, 0, 1)), Ok(2));
        let mut log = Log::default();
        log.produce(batch(0, i32::MAX - 1, 4)).unwrap();
        assert_eq!(log.states.producer(ProducerId::new(PRODUCER)).unwrap().last_sequence(), Sequence::new(1));
        assert_eq!(log.produce(batch(0, i32::MAX - 1, 4)), Ok(0), "a duplicate across the wrap");
        assert_eq!(log.produce(batch(0, 2, 1)), Ok(4));
    }

    #[test]
    fn without_a_producer_nothing_is_checked_or_kept() {
        let mut log = Log::default();
        let mut plain = batch(-1, -1, 1);
        plain.producer_id = ProducerId::NONE;
        assert_eq!(log.produce(plain), Ok(0));
        assert_eq!(log.produce(plain), Ok(1));
        assert!(log.states.is_empty());
    }

    #[test]
    fn a_transactional_batch_needs_a_transaction() {
        let mut transactional = batch(0, 0, 1);
        transactional.attributes |= TRANSACTIONAL_BIT;
        assert_eq!(Log::default().produce(transactional).unwrap_err().kafka_error(), ErrorCode::InvalidTxnState);
    }

    #[test]
    fn a_control_batch_moves_the_epoch_and_is_no_batch() {
        let mut log = Log::default();
        log.produce(batch(0, 0, 3)).unwrap();
        let mut marker = batch(1, -1, 1);
        marker.attributes |= CONTROL_BIT;
        marker.base_offset = Offset::new(3);
        log.states.replay(&marker);
        let state = log.states.producer(ProducerId::new(PRODUCER)).unwrap();
        assert_eq!((state.epoch(), state.batches().len()), (ProducerEpoch::new(1), 0));
        assert_eq!(log.states.check(&batch(1, 1, 1)), Err(out_of_order(0, 1)));
        assert_eq!(log.states.check(&batch(1, 0, 1)), Ok(ProducerCheck::Append));
    }

    #[test]
    fn producers_expire_by_their_last_timestamp() {
        let mut log = Log::default();
        log.produce(batch(0, 0, 1)).unwrap();
        assert_eq!(log.states.expire(TimestampMs::new(1000 + 99), 100), 0);
        assert_eq!(log.states.expire(TimestampMs::new(1000 + 100), 100), 1);
        assert_eq!(log.produce(batch(0, 55, 1)), Ok(1), "forgotten, so any sequence goes");
    }

    #[test]
    fn at_the_bound_those_who_wrote_longest_ago_are_forgotten() {
        let mut log = Log::default();
        let bound = i64::try_from(PRODUCERS_PER_PARTITION_MAX).unwrap();
        for id in 0..bound {
            let mut batch = batch(0, 0, 1);
            batch.producer_id = ProducerId::new(id);
            log.produce(batch).unwrap();
        }
        // Producer 0 writes again, so producer 1 is now the oldest.
        let mut again = batch(0, 1, 1);
        again.producer_id = ProducerId::new(0);
        log.produce(again).unwrap();
        assert_eq!(log.states.len(), PRODUCERS_PER_PARTITION_MAX);
        let mut newcomer = batch(0, 0, 1);
        newcomer.producer_id = ProducerId::new(bound);
        log.produce(newcomer).unwrap();
        assert_eq!(log.states.len(), PRODUCERS_PER_PARTITION_MAX - PRODUCERS_PER_PARTITION_MAX / 8 + 1);
        assert!(log.states.producer(ProducerId::new(0)).is_some());
        assert!(log.states.producer(ProducerId::new(1)).is_none());
        assert!(log.states.producer(ProducerId::new(bound)).is_some());
    }

    /// Found by fuzzing: batches of an older epoch stayed in slots not in use, and a restored state, which never had
    /// them, did not equal the state that was saved.
    #[test]
    fn a_restored_state_equals_the_saved_one_after_a_new_epoch() {
        let mut log = Log::default();
        log.produce(batch(0, 0, 3)).unwrap();
        log.produce(batch(0, 3, 3)).unwrap();
        log.produce(batch(1, 0, 3)).unwrap();
        let mut bytes = Vec::new();
        log.states.encode(&mut bytes);
        assert_eq!(ProducerStates::decode(&mut Reader::new(&bytes)), Ok(log.states));
    }

    #[test]
    fn snapshots_keep_every_remembered_batch() {
        let mut log = Log::default();
        for index in 0..7 {
            log.produce(batch(2, index * 3, 3)).unwrap();
        }
        let mut bytes = Vec::new();
        log.states.encode(&mut bytes);
        let states = ProducerStates::decode(&mut Reader::new(&bytes)).unwrap();
        assert_eq!(states, log.states);
        let mut restored = Log { states, end: log.end };
        assert_eq!(restored.produce(batch(2, 6, 3)), Ok(6));
        assert_eq!(restored.produce(batch(2, 21, 1)), Ok(21));
        for cut in 0..bytes.len() {
            assert!(ProducerStates::decode(&mut Reader::new(&bytes[..cut])).is_err(), "cut at {cut}");
        }
    }
    /// What Kafka's rules say, told from the whole history of one producer: every batch it ever got appended.
    fn model(history: &[(i16, i32, i32, i64)], batch: &BatchHeader) -> Result<Option<i64>, i16> {
        let (epoch, sequence) = (batch.producer_epoch.value(), batch.base_sequence.value());
        let Some(&(last_epoch, last_sequence, last_count, _)) = history.last() else { return Ok(None) };
        let known = history.iter().rev().take_while(|entry| entry.0 == last_epoch).take(5);
        let same = |entry: &&(i16, i32, i32, i64)| (entry.0, entry.1, entry.2) == (epoch, sequence, batch.record_count);
        if let Some(entry) = known.into_iter().find(same) {
            return Ok(Some(entry.3));
        }
        // Sequences live on a circle of 2^31.
        let next = (i64::from(last_sequence) + i64::from(last_count)) % (1 << 31);
        match epoch.cmp(&last_epoch) {
            std::cmp::Ordering::Less => Err(47),
            std::cmp::Ordering::Equal if i64::from(sequence) == next => Ok(None),
            std::cmp::Ordering::Greater if sequence == 0 => Ok(None),
            _ => Err(45),
        }
    }

    #[test]
    fn random_histories_agree_with_the_model() {
        let mut random = 88_172_645_463_325_252_u64;
        let mut below = |bound: i32| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            i32::try_from(random % u64::try_from(bound).unwrap()).unwrap()
        };
        let (mut appended, mut duplicates, mut refused) = (0, 0, 0);
        for _ in 0..200 {
            let mut log = Log::default();
            let mut history: Vec<(i16, i32, i32, i64)> = Vec::new();
            let mut next = (0, if below(2) == 0 { 0 } else { i32::MAX - below(30) });
            for _ in 0..100 {
                let count = 1 + below(4);
                let candidate = match below(10) {
                    // A retry of something recent, perhaps of another size.
                    0..=2 if !history.is_empty() => {
                        let back = usize::try_from(below(8)).unwrap().min(history.len() - 1);
                        let (epoch, sequence, count, _) = history[history.len() - 1 - back];
                        batch(epoch, sequence, if below(8) == 0 { count + 1 } else { count })
                    }
                    3 => batch(next.0 + 1, below(2), count),
                    4 => batch(next.0, (next.1 / 2 + below(9)).max(0), count),
                    5 => batch((next.0 - 1).max(0), next.1, count),
                    _ => batch(next.0, next.1, count),
                };
                let end = log.end;
                let expected = model(&history, &candidate);
                let got = log.produce(candidate).map_err(|error| error.kafka_error().code());
                assert_eq!(got, expected.map(|known| known.unwrap_or(end.value())), "{candidate:?} after {history:?}");
                match expected {
                    Ok(None) => {
                        let (epoch, sequence) = (candidate.producer_epoch.value(), candidate.base_sequence.value());
                        history.push((epoch, sequence, candidate.record_count, end.value()));
                        next = (epoch, candidate.base_sequence.advance(candidate.record_count).value());
                        appended += 1;
                    }
                    Ok(Some(_)) => duplicates += 1,
                    Err(_) => refused += 1,
                }
                if below(20) == 0 {
                    let mut bytes = Vec::new();
                    log.states.encode(&mut bytes);
                    log.states = ProducerStates::decode(&mut Reader::new(&bytes)).unwrap();
                }
            }
        }
        assert!(appended > 1000 && duplicates > 1000 && refused > 1000, "{appended} {duplicates} {refused}");
    }
}
