//! Reading: whole batches of partitions that this shard owns, bounded as a consumer asked.

use std::rc::Rc;

use bytes::Bytes;

use super::message::{ReadLimits, ReadOutcome, ReadPart, ReadPartition, WatchPart};
use super::partition::Partition;
use super::purgatory::Wait;
use super::{RecordSlice, Shard};
use crate::partition::leader_epochs::EpochEnd;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch;
use crate::runtime::Runtime;
use crate::runtime::block::Slice;
use crate::store::{ColdTurn, Read, ReadError, ReadWithin};
use crate::types::{LeaderEpoch, MonotonicUs, Offset, TopicId};

/// How far a read comes without waiting.
enum Begun<R: Runtime> {
    /// To its end.
    Read(ReadOutcome<RecordSlice<R>>),
    /// To what is not in memory.
    OnDisk(Box<OnDisk<R>>),
}

/// What is to be read from disk, and the outcome so far.
struct OnDisk<R: Runtime> {
    partition: Rc<Partition>,
    outcome: ReadOutcome<RecordSlice<R>>,
    start: Offset,
    bound: Offset,
    within: ReadWithin,
}

impl<R: Runtime> Shard<R> {
    /// Reads the partitions in order until the limits are used up. Those after the limits still say where they stand. `take` gets
    /// the outcome of each before the next is read.
    pub async fn read<S>(
        self: &Rc<Self>,
        part: &ReadPart,
        take: impl Fn(ReadOutcome<RecordSlice<R>>) -> ReadOutcome<S>,
    ) -> Vec<ReadOutcome<S>> {
        let mut outcomes = Vec::with_capacity(part.partitions.len());
        let mut limits = part.limits;
        let mut turn = ColdTurn::default();
        for wanted in &part.partitions {
            let read = match self.read_from_memory(wanted, limits) {
                Ok(Begun::Read(outcome)) => Ok(outcome),
                Ok(Begun::OnDisk(rest)) => self.read_from_disk(rest, &mut turn).await,
                Err(error) => Err(error),
            };
            let outcome = read.unwrap_or_else(ReadOutcome::failed);
            limits.on_read([&outcome]);
            outcomes.push(take(outcome));
        }
        outcomes
    }

    /// All of a read that is not of old data. No future is made for it: that of a read from disk is large, and moving it into
    /// place for each partition was most of what is copied for an answer from memory.
    fn read_from_memory(&self, wanted: &ReadPartition, limits: ReadLimits) -> Result<Begun<R>, ErrorCode> {
        let bytes_max = wanted.bytes_max.min(limits.bytes_max);
        let partition = self.partition(wanted.topic, wanted.partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        check_leader_epoch(&partition, wanted.current_leader_epoch)?;
        let mut outcome = ReadOutcome {
            error: ErrorCode::None,
            high_watermark: 0,
            last_stable_offset: 0,
            log_start_offset: 0,
            diverging: None,
            records: Vec::new(),
            bytes: 0,
            needed_bytes: 0,
        };
        let start = Offset::new(wanted.fetch_offset);
        let bound = {
            let state = partition.state();
            let offsets = &state.offsets;
            outcome.high_watermark = offsets.high_watermark().value();
            outcome.last_stable_offset = offsets.high_watermark().value();
            outcome.log_start_offset = offsets.log_start().value();
            if wanted.last_fetched_epoch >= 0 {
                let epoch = LeaderEpoch::new(wanted.last_fetched_epoch);
                let end = state.epochs.end_offset_for(epoch, offsets.log_end());
                if end == EpochEnd::UNDEFINED {
                    return Err(ErrorCode::OffsetOutOfRange);
                }
                if end.epoch < epoch || end.end_offset < start {
                    outcome.diverging = Some((end.epoch.value(), end.end_offset.value()));
                    return Ok(Begun::Read(outcome));
                }
            }
            if start < offsets.log_start() || start > offsets.log_end() {
                return Err(ErrorCode::OffsetOutOfRange);
            }
            offsets.high_watermark()
        };
        if start >= bound || (bytes_max == 0 && limits.first_bytes_max == 0) {
            return Ok(Begun::Read(outcome));
        }
        let within = ReadWithin {
            bytes_max: usize::try_from(bytes_max).expect("32 bits fit"),
            first_bytes_max: usize::try_from(limits.first_bytes_max).expect("32 bits fit"),
        };
        match self.store.read_tail_within(partition.log, start, bound, within) {
            Some(found) => self.fill(&mut outcome, &partition, start, found),
            None if limits.memory_only => outcome.needed_bytes = bytes_max.max(1),
            None => return Ok(Begun::OnDisk(Box::new(OnDisk { partition, outcome, start, bound, within }))),
        }
        Ok(Begun::Read(outcome))
    }

    async fn read_from_disk(
        &self,
        rest: Box<OnDisk<R>>,
        turn: &mut ColdTurn,
    ) -> Result<ReadOutcome<RecordSlice<R>>, ErrorCode> {
        let OnDisk { partition, mut outcome, start, bound, within } = *rest;
        let read = self.store.read_within(partition.log, start, bound, within, turn).await;
        let read = read.map_err(|error| match error {
            // Deleted, or its log start moved, while the read was under way.
            ReadError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            ReadError::UnknownLog { .. } => ErrorCode::UnknownTopicOrPartition,
            ReadError::Damaged { .. } | ReadError::Io { .. } => {
                self.log_read_failure(&partition, &error);
                ErrorCode::KafkaStorageError
            }
        })?;
        self.fill(&mut outcome, &partition, start, read);
        Ok(outcome)
    }

    /// Puts what was read from `start` on into an outcome.
    fn fill(
        &self,
        outcome: &mut ReadOutcome<RecordSlice<R>>,
        partition: &Partition,
        start: Offset,
        read: Read<R::Buffer>,
    ) {
        let Read { slices, next_offset, needed_bytes } = read;
        outcome.records = slices;
        if outcome.records.is_empty() && next_offset > start {
            // Whatever follows the hole is for the next request.
            outcome.records.push(hole(partition, start, next_offset));
        } else {
            outcome.needed_bytes = u32::try_from(needed_bytes).expect("at most one batch");
        }
        let bytes: usize = outcome.records.iter().map(RecordSlice::<R>::len).sum();
        outcome.bytes = u32::try_from(bytes).expect("bounded by bytes_max or one batch");
        self.metrics.fetch_bytes.add(u64::from(outcome.bytes));
    }

    /// Enters the waiting room for a fetch of these partitions, which watches those that are this shard's.
    pub fn watch(&self, needed_bytes: i64, deadline: MonotonicUs, partitions: &[(TopicId, i32)]) -> Wait<Partition> {
        let watched = partitions.iter().filter_map(|(topic, index)| self.partition(*topic, *index)).collect();
        self.purgatory.enter(needed_bytes, deadline, partitions.len(), watched)
    }

    /// True when the fetches that wait take all of the memory that is for them.
    pub fn is_waiting_room_full(&self) -> bool {
        self.purgatory.is_full()
    }

    /// Waits, for a fetch on another shard, until its partitions have something new or its time is over.
    pub async fn watch_for_sibling(self: &Rc<Self>, part: WatchPart) {
        let deadline = self.runtime.now().plus_ms(part.wait_ms);
        let has_news = part.partitions.iter().any(|(topic, index, offset)| {
            // A partition that is gone is news too.
            self.partition(*topic, *index)
                .is_none_or(|partition| partition.state().offsets.high_watermark().value() > *offset)
        });
        // However much is missing: the sender reads again and knows better.
        if has_news {
            return;
        }
        let keys: Vec<(TopicId, i32)> = part.partitions.iter().map(|(topic, index, _)| (*topic, *index)).collect();
        self.watch(part.needed_bytes, deadline, &keys).satisfied().await;
    }
}

impl<R: Runtime> Shard<R> {
    /// Counts a read that failed and tells of it, at most once a second: a consumer asks again and again.
    pub(super) fn log_read_failure(&self, partition: &Partition, error: &ReadError) {
        if matches!(error, ReadError::Damaged { .. } | ReadError::Io { .. }) {
            self.metrics.damaged_reads.add(1);
        }
        if let Some(kept_back) = self.read_failures.allow(self.runtime.now()) {
            let (topic, index) = (partition.topic, partition.index);
            tracing::error!(
                "shard {}: partition {index} of topic {topic}: {error} ({kept_back} like it kept back)",
                self.id
            );
        }
    }
}

/// What stands for offsets that hold nothing any more, up to `end`, when nothing that may be seen follows them: without it
/// a consumer would ask for the first of them for ever, and whoever reads up to the log end would never get there. It
/// may exceed what was asked for by these few bytes.
fn hole<B>(partition: &Partition, start: Offset, end: Offset) -> Slice<B> {
    let last = Offset::new(end.value() - 1);
    // Of the epoch that gave the last of them out: a consumer goes on from there with that epoch.
    let epoch = partition.state().epochs.epoch_for_offset(last).unwrap_or(LeaderEpoch::new(-1));
    Slice::Bytes(Bytes::copy_from_slice(&record_batch::empty(start, last, epoch)))
}

/// Kafka's `Partition.checkCurrentLeaderEpoch`: -1 means no check.
pub(super) fn check_leader_epoch(partition: &Partition, current: i32) -> Result<(), ErrorCode> {
    let epoch = partition.leader_epoch().value();
    match current {
        -1 => Ok(()),
        older if older < epoch => Err(ErrorCode::FencedLeaderEpoch),
        newer if newer > epoch => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}
