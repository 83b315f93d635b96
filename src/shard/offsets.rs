//! Questions about a partition's offsets: ListOffsets and OffsetForLeaderEpoch.
//!
//! A log end above the high watermark is a flush in flight. Answers that a producer could hold against its own
//! acknowledgements wait for it, so that everybody finds their own acknowledged writes.

use std::rc::Rc;

use super::Shard;
use super::fetch::check_leader_epoch;
use super::message::{EpochEnd, EpochEndOutcome, ListOffset, ListOffsetOutcome};
use super::partition::Partition;
use crate::limits::LOG_END_WAIT_MS;
use crate::partition::lookup;
use crate::protocol::compression::Scratch;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::{BatchView, RecordsError};
use crate::runtime::Runtime;
use crate::store::ReadError;
use crate::types::{LeaderEpoch, Offset, TimestampMs};

/// Kafka's special timestamps of ListOffsets.
mod special {
    pub(super) const LATEST: i64 = -1;
    pub(super) const EARLIEST: i64 = -2;
    pub(super) const TIMESTAMP_MAX: i64 = -3;
    pub(super) const EARLIEST_LOCAL: i64 = -4;
    pub(super) const LATEST_TIERED: i64 = -5;
}

impl<R: Runtime> Shard<R> {
    /// Answers every partition of a ListOffsets that this shard owns.
    pub async fn list_offsets(self: &Rc<Self>, wanted: &[ListOffset]) -> Vec<ListOffsetOutcome> {
        let mut outcomes = Vec::with_capacity(wanted.len());
        for one in wanted {
            outcomes.push(self.list_offset(one).await.unwrap_or_else(|error| ListOffsetOutcome {
                error,
                timestamp: -1,
                offset: -1,
                leader_epoch: -1,
            }));
        }
        outcomes
    }

    async fn list_offset(&self, wanted: &ListOffset) -> Result<ListOffsetOutcome, ErrorCode> {
        let partition = self.partition(wanted.topic, wanted.partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        check_leader_epoch(&partition, wanted.current_leader_epoch)?;
        let found = match wanted.timestamp {
            special::LATEST => {
                self.log_end_visible(&partition).await?;
                let high_watermark = partition.state().offsets.high_watermark();
                return Ok(answer(high_watermark, -1, partition.leader_epoch()));
            }
            special::EARLIEST | special::EARLIEST_LOCAL => {
                let state = partition.state();
                let log_start = state.offsets.log_start();
                let epoch = state.epochs.epoch_for_offset(log_start).unwrap_or(partition.leader_epoch());
                return Ok(answer(log_start, -1, epoch));
            }
            special::LATEST_TIERED => {
                return Ok(ListOffsetOutcome { error: ErrorCode::None, timestamp: -1, offset: -1, leader_epoch: -1 });
            }
            special::TIMESTAMP_MAX => {
                self.log_end_visible(&partition).await?;
                let batch = self.store.batch_with_timestamp_max(partition.log).await;
                check_served(&partition)?;
                self.look_up(&partition, batch, |batch, scratch| {
                    lookup::record_with_max_timestamp(batch, scratch).map(Some)
                })?
            }
            timestamp if timestamp >= 0 => {
                self.log_end_visible(&partition).await?;
                let log_start = partition.state().offsets.log_start();
                let timestamp = TimestampMs::new(timestamp);
                let batch = self.store.batch_at_timestamp(partition.log, timestamp).await;
                check_served(&partition)?;
                self.look_up(&partition, batch, |batch, scratch| {
                    lookup::first_record_at_or_after(batch, log_start, timestamp, scratch)
                })?
            }
            _ => return Err(ErrorCode::UnsupportedVersion),
        };
        let state = partition.state();
        let visible = found.filter(|(offset, _)| *offset < state.offsets.high_watermark());
        Ok(match visible {
            None => ListOffsetOutcome { error: ErrorCode::None, timestamp: -1, offset: -1, leader_epoch: -1 },
            Some((offset, timestamp)) => {
                let epoch = state.epochs.epoch_for_offset(offset).unwrap_or(partition.leader_epoch());
                answer(offset, timestamp.value(), epoch)
            }
        })
    }

    /// Finds a record in the batch that the store found. A batch that cannot be walked was accepted with
    /// `validation = header`.
    fn look_up(
        &self,
        partition: &Partition,
        batch: Result<Option<Vec<u8>>, ReadError>,
        find: impl FnOnce(&BatchView<'_>, &mut Scratch) -> Result<Option<(Offset, TimestampMs)>, RecordsError>,
    ) -> Result<Option<(Offset, TimestampMs)>, ErrorCode> {
        let found = batch.map_err(|error| {
            self.log_read_failure(partition, &error);
            ErrorCode::KafkaStorageError
        })?;
        let Some(bytes) = found else { return Ok(None) };
        let batch = BatchView::parse(&bytes).map_err(|_| ErrorCode::CorruptMessage)?;
        find(&batch, &mut self.scratch.borrow_mut()).map_err(|_| ErrorCode::CorruptMessage)
    }

    /// Answers every partition of an OffsetForLeaderEpoch that this shard owns.
    pub async fn epoch_ends(self: &Rc<Self>, wanted: &[EpochEnd]) -> Vec<EpochEndOutcome> {
        let mut outcomes = Vec::with_capacity(wanted.len());
        for one in wanted {
            let failed = |error| EpochEndOutcome { error, leader_epoch: -1, end_offset: -1 };
            outcomes.push(self.epoch_end(one).await.unwrap_or_else(failed));
        }
        outcomes
    }

    async fn epoch_end(&self, wanted: &EpochEnd) -> Result<EpochEndOutcome, ErrorCode> {
        let partition = self.partition(wanted.topic, wanted.partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        check_leader_epoch(&partition, wanted.current_leader_epoch)?;
        self.log_end_visible(&partition).await?;
        let state = partition.state();
        // What a store that failed has not made visible stays unseen.
        let is_failed = self.store.failure().is_some();
        let log_end = if is_failed { state.offsets.high_watermark() } else { state.offsets.log_end() };
        let end = state.epochs.end_offset_for(LeaderEpoch::new(wanted.leader_epoch), log_end);
        let (leader_epoch, end_offset) = (end.epoch.value(), end.end_offset.value());
        Ok(EpochEndOutcome { error: ErrorCode::None, leader_epoch, end_offset })
    }

    /// Waits until all that was appended so far may be seen, or never will be: when the store failed, what may be seen is
    /// all that there is, and it is served as Fetch serves it.
    ///
    /// Errors: OFFSET_NOT_AVAILABLE when a flush takes longer than it ever should; clients ask again.
    pub(super) async fn log_end_visible(&self, partition: &Partition) -> Result<(), ErrorCode> {
        let pending = {
            let state = partition.state();
            state.offsets.log_end() > state.offsets.high_watermark()
        };
        #[cfg(corelane_defect = "log_end_not_awaited")]
        let pending = pending && false;
        if !pending {
            return Ok(());
        }
        let deadline = self.runtime.now().plus_ms(LOG_END_WAIT_MS);
        match self.levels.wait(partition.durability(), partition.last_append(), deadline).await {
            Ok(()) | Err(super::levels::WaitError::Storage(_)) => check_served(partition),
            Err(super::levels::WaitError::TimedOut) => Err(ErrorCode::OffsetNotAvailable),
        }
    }
}

/// Whether the partition still exists after a wait.
fn check_served(partition: &Partition) -> Result<(), ErrorCode> {
    if partition.is_served() { Ok(()) } else { Err(ErrorCode::UnknownTopicOrPartition) }
}

fn answer(offset: Offset, timestamp: i64, epoch: LeaderEpoch) -> ListOffsetOutcome {
    ListOffsetOutcome { error: ErrorCode::None, timestamp, offset: offset.value(), leader_epoch: epoch.value() }
}
