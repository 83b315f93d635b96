//! Appending: a batch from a producer becomes part of the log, and is answered when it is at its level.

use std::rc::Rc;

use super::levels::WaitError;
use super::message::{ProduceOutcome, ProducePart, ProducePartition};
use super::partition::Partition;
use super::{Mark, Shard};
use crate::partition::PartitionState;
use crate::partition::producer_state::{ProducerCheck, RetainedBatch};
use crate::partition::validate::{InvalidBatch, TopicRules, ValidBatch, validate};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::{BatchHeader, stamp};
use crate::runtime::Runtime;
use crate::store::{BATCH_HEADER_BYTES, Batch, Purpose, StorageError};
use crate::types::{Durability, LogPosition, MonotonicUs, Offset, TimestampMs};

/// A produce request after its batches were appended: what to answer, and what to wait for first.
#[derive(Debug)]
pub struct Applied {
    outcomes: Vec<ProduceOutcome>,
    /// Positions that must be reached, one per level; zero for none.
    written: LogPosition,
    durable: LogPosition,
    /// Which outcomes each level stands for: index and level.
    waiting: Vec<(usize, Durability)>,
    deadline: MonotonicUs,
}

/// One batch in the log.
struct Appended {
    base_offset: Offset,
    log_append_time: TimestampMs,
    log_start: Offset,
    position: LogPosition,
}

impl Appended {
    /// What a batch that was appended before is answered with: what the original got then, at its level.
    fn duplicate(partition: &Partition, original: &RetainedBatch, log_start: Offset) -> Appended {
        Appended {
            base_offset: original.base_offset(),
            log_append_time: original.timestamp,
            log_start,
            // The original may not be at its level yet; everything of this partition is when the last append is.
            position: partition.last_append(),
        }
    }
}

impl Applied {
    /// Errors found so far, before any wait: what acks=0 looks at.
    pub fn has_errors(&self) -> bool {
        self.outcomes.iter().any(|outcome| outcome.error != ErrorCode::None)
    }
}

impl<R: Runtime> Shard<R> {
    /// Appends the batches of a request, in order, each partition on its own. When it ends, everything that will be
    /// appended has been.
    pub async fn produce(self: &Rc<Self>, part: ProducePart) -> Applied {
        let deadline = self.runtime.now().plus_ms(part.timeout_ms);
        let mut applied = Applied {
            outcomes: Vec::with_capacity(part.partitions.len()),
            written: LogPosition::default(),
            durable: LogPosition::default(),
            waiting: Vec::with_capacity(part.partitions.len()),
            deadline,
        };
        let now = self.runtime.wall_clock();
        for partition in &part.partitions {
            match self.append_one(partition, &part, now).await {
                Ok((appended, durability)) => {
                    let level = if part.acks == -1 { durability } else { Durability::Written };
                    #[cfg(corelane_defect = "answer_before_flush")]
                    let level = Durability::Written;
                    if part.acks != 0 {
                        let target = match level {
                            Durability::Written => &mut applied.written,
                            Durability::Flushed => &mut applied.durable,
                        };
                        *target = (*target).max(appended.position);
                        applied.waiting.push((applied.outcomes.len(), level));
                    }
                    applied.outcomes.push(ProduceOutcome {
                        error: ErrorCode::None,
                        message: None,
                        record_errors: Vec::new(),
                        base_offset: appended.base_offset.value(),
                        log_append_time: appended.log_append_time.value(),
                        log_start_offset: appended.log_start.value(),
                    });
                }
                Err(outcome) => applied.outcomes.push(outcome),
            }
        }
        applied
    }

    /// Waits until everything that was appended is at its level, and gives the outcomes in the order of the request.
    pub async fn settle(self: &Rc<Self>, mut applied: Applied) -> Vec<ProduceOutcome> {
        let durable = self.levels.wait(Durability::Flushed, applied.durable, applied.deadline).await;
        #[cfg(corelane_defect = "answer_before_write")]
        let _ = std::mem::take(&mut applied.written);
        let written = self.levels.wait(Durability::Written, applied.written, applied.deadline).await;
        for (index, level) in &applied.waiting {
            let reached = match level {
                Durability::Written => &written,
                Durability::Flushed => &durable,
            };
            if let Err(error) = reached {
                let code = match error {
                    WaitError::Storage(_) => ErrorCode::KafkaStorageError,
                    WaitError::TimedOut => ErrorCode::RequestTimedOut,
                };
                applied.outcomes[*index] = ProduceOutcome::failed(code, Some(error.to_string()));
            }
        }
        applied.outcomes
    }

    async fn append_one(
        self: &Rc<Self>,
        wanted: &ProducePartition,
        part: &ProducePart,
        now: TimestampMs,
    ) -> Result<(Appended, Durability), ProduceOutcome> {
        let unknown = || ProduceOutcome::failed(ErrorCode::UnknownTopicOrPartition, None);
        let partition = self.partition(wanted.topic, wanted.partition).ok_or_else(unknown)?;
        let rules = partition.rules(&self.config);
        let batch =
            validate(&wanted.records, part.version, &rules, now, &mut self.scratch.borrow_mut()).map_err(refused)?;
        if batch.recompress.is_some() {
            // In memory of its own: what waits here is small, and must stay so for those that need none of this.
            return Box::pin(self.recompress_and_append(&partition, &rules, batch)).await;
        }
        self.store.reserve(wanted.records.len()).await.map_err(storage_failure)?;
        // From here to the end there is no await: order in the log is order of offsets.
        if !partition.is_served() {
            return Err(unknown());
        }
        let durability = partition.durability();
        let appended = self.append(&partition, batch, durability)?;
        Ok((appended, durability))
    }

    /// As the end of `append_one`, for a batch that gets another codec first.
    async fn recompress_and_append(
        &self,
        partition: &Rc<Partition>,
        rules: &TopicRules,
        batch: ValidBatch<'_>,
    ) -> Result<(Appended, Durability), ProduceOutcome> {
        // A batch sent twice is not recompressed twice.
        let checked = partition.state().check(&batch.fields);
        if let Ok(ProducerCheck::Duplicate(original)) = checked {
            let log_start = partition.state().offsets.log_start();
            return Ok((Appended::duplicate(partition, &original, log_start), partition.durability()));
        }
        let payload_bytes = batch.recompress.as_ref().map_or(0, |recompress| recompress.payload_bytes);
        let mut turn = self.recompressors.turn(payload_bytes).await;
        self.recompress(&batch, rules, &mut turn).await.map_err(refused)?;
        let batch = batch.recompressed(rules, turn.output()).map_err(refused)?;
        self.metrics.produce_recompressed_batches.add(1);
        self.store.reserve(batch.bytes()).await.map_err(storage_failure)?;
        // From here to the end there is no await: order in the log is order of offsets.
        if !partition.is_served() {
            return Err(ProduceOutcome::failed(ErrorCode::UnknownTopicOrPartition, None));
        }
        let durability = partition.durability();
        let appended = self.append(partition, batch, durability)?;
        Ok((appended, durability))
    }

    /// Appends a batch that the broker built itself, and gives the end of its entry.
    pub async fn append_internal(
        &self,
        purpose: Purpose,
        partition: &Rc<Partition>,
        batch: &[u8],
    ) -> Result<LogPosition, StorageError> {
        self.store.reserve_for(purpose, batch.len()).await?;
        let (header, records) = batch.split_first_chunk().expect("the batch builder writes whole headers");
        let parsed = BatchHeader::parse(header);
        let mut header = *header;
        let mut state = partition.state_mut();
        let base_offset = state.offsets.log_end();
        stamp(&mut header, base_offset, partition.leader_epoch());
        let record_count = u32::try_from(parsed.record_count).expect("the batch builder counts from one");
        let entry = entry(&header, records, base_offset, record_count, parsed.max_timestamp);
        self.append_entry(purpose, partition, &mut state, entry, partition.durability())
    }

    fn append(
        &self,
        partition: &Rc<Partition>,
        mut batch: ValidBatch<'_>,
        durability: Durability,
    ) -> Result<Appended, ProduceOutcome> {
        let mut state = partition.state_mut();
        let log_start = state.offsets.log_start();
        match state.check(&batch.fields) {
            Ok(ProducerCheck::Append) => {}
            #[cfg(corelane_defect = "duplicate_appended_again")]
            Ok(ProducerCheck::Duplicate(_)) => {}
            Ok(ProducerCheck::Duplicate(original)) => {
                return Ok(Appended::duplicate(partition, &original, log_start));
            }
            Err(error) => {
                return Err(ProduceOutcome::failed(error.kafka_error(), Some(error.to_string())));
            }
        }
        let base_offset = state.offsets.log_end();
        batch.stamp(base_offset, partition.leader_epoch());
        let entry = entry(&batch.header, batch.records, base_offset, batch.record_count, batch.timestamp_max);
        let position =
            self.append_entry(Purpose::Client, partition, &mut state, entry, durability).map_err(storage_failure)?;
        let bytes = batch.bytes();
        self.metrics.produce_batches.add(1);
        self.metrics.produce_records.add(u64::from(batch.record_count));
        self.metrics.produce_bytes.add(u64::try_from(bytes).expect("a size fits 64 bits"));
        Ok(Appended { base_offset, log_append_time: batch.log_append_time, log_start, position })
    }

    /// The one way into the log: copies a stamped batch, notes it in the partition's state, and leaves the mark that moves
    /// the high watermark when the batch is at its level.
    fn append_entry(
        &self,
        purpose: Purpose,
        partition: &Rc<Partition>,
        state: &mut PartitionState,
        entry: Batch<'_>,
        durability: Durability,
    ) -> Result<LogPosition, StorageError> {
        let position = self.store.append_for(purpose, partition.log, entry, durability)?;
        partition.on_append(position);
        let producers = state.producers.len();
        state.append(entry.header);
        if let Some(segments) = &mut state.compaction {
            self.note_dirty(partition, segments, &BatchHeader::parse(entry.header));
        }
        self.producers.set(self.producers.get() + state.producers.len() - producers);
        let log_end = state.offsets.log_end();
        #[cfg(corelane_defect = "high_watermark_at_append")]
        state.offsets.advance_high_watermark(log_end);
        let bytes = entry.header.len() + entry.records.len();
        let bytes = u32::try_from(bytes).expect("a batch is below BATCH_BYTES_MAX");
        self.levels.mark(durability, position, Mark { partition: Rc::clone(partition), log_end, bytes });
        Ok(position)
    }
}

fn entry<'a>(
    header: &'a [u8; BATCH_HEADER_BYTES],
    records: &'a [u8],
    base_offset: Offset,
    record_count: u32,
    timestamp_max: TimestampMs,
) -> Batch<'a> {
    let last_offset = base_offset.advance(record_count - 1);
    Batch { header, records, base_offset, last_offset, timestamp_max }
}

fn refused(invalid: InvalidBatch) -> ProduceOutcome {
    let record_errors = invalid.record_errors().iter().map(|error| (error.index, error.fault.to_string())).collect();
    ProduceOutcome { record_errors, ..ProduceOutcome::failed(invalid.kafka_error(), Some(invalid.to_string())) }
}

fn storage_failure(error: StorageError) -> ProduceOutcome {
    ProduceOutcome::failed(ErrorCode::KafkaStorageError, Some(error.to_string()))
}
