//! DeleteRecords: the log start of a partition moves because somebody asked for it.
//!
//! The answer waits until the new log start is durable: who was told that records are gone does not find them again after a
//! crash. A log start that somebody else moved a moment ago is waited for as well.

use std::rc::Rc;

use super::Shard;
use super::message::{DeleteRecords, DeleteRecordsOutcome};
use super::partition::Partition;
use crate::limits::LOG_END_WAIT_MS;
use crate::protocol::error_code::ErrorCode;
use crate::runtime::Runtime;
use crate::types::{Durability, LogPosition, Offset};

/// Stands for the high watermark (Kafka's `DeleteRecordsRequest.HIGH_WATERMARK`).
const HIGH_WATERMARK: i64 = -1;

/// A log start that was moved and is not known to be durable yet.
struct Moved {
    partition: Rc<Partition>,
    position: LogPosition,
}

impl<R: Runtime> Shard<R> {
    /// Answers every partition of a DeleteRecords that this shard owns. All log starts share the flush that they wait for.
    pub async fn delete_records(&self, wanted: &[DeleteRecords]) -> Vec<DeleteRecordsOutcome> {
        let mut moved = Vec::with_capacity(wanted.len());
        for one in wanted {
            moved.push(self.delete_before(one).await);
        }
        let mut outcomes = Vec::with_capacity(wanted.len());
        for moved in moved {
            let low_watermark = match moved {
                Ok(moved) => self.settle_log_start(&moved).await,
                Err(error) => Err(error),
            };
            outcomes.push(match low_watermark {
                Ok(log_start) => DeleteRecordsOutcome { error: ErrorCode::None, low_watermark: log_start.value() },
                Err(error) => DeleteRecordsOutcome { error, low_watermark: -1 },
            });
        }
        outcomes
    }

    /// Checks in Kafka's order (`Partition.deleteRecordsOnLeader`).
    async fn delete_before(&self, wanted: &DeleteRecords) -> Result<Moved, ErrorCode> {
        let partition = self.partition(wanted.topic, wanted.partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        if !partition.config().cleanup_policy.delete {
            return Err(ErrorCode::PolicyViolation);
        }
        // What a producer was just told is stored may be deleted, also where it was told by another level.
        self.log_end_visible(&partition).await?;
        // It writes; and whether what lies above what can be seen is there, only the next start will tell.
        if self.store.failure().is_some() {
            return Err(ErrorCode::KafkaStorageError);
        }
        let high_watermark = partition.state().offsets.high_watermark();
        let before = match wanted.offset {
            HIGH_WATERMARK => high_watermark,
            offset => Offset::new(offset),
        };
        if before < Offset::ZERO || before > high_watermark {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let position = self.move_log_start(&partition, before).map_err(|error| {
            tracing::warn!("{partition:?}: cannot delete records: {error}");
            ErrorCode::KafkaStorageError
        })?;
        Ok(Moved { partition, position })
    }

    async fn settle_log_start(&self, moved: &Moved) -> Result<Offset, ErrorCode> {
        let log_start = moved.partition.state().offsets.log_start();
        #[cfg(not(corelane_defect = "deletion_not_awaited"))]
        {
            let deadline = self.runtime.now().plus_ms(LOG_END_WAIT_MS);
            let durable = self.wait(Durability::Flushed, moved.position, deadline).await;
            durable.map_err(|error| match error {
                super::levels::WaitError::Storage(_) => ErrorCode::KafkaStorageError,
                super::levels::WaitError::TimedOut => ErrorCode::RequestTimedOut,
            })?;
        }
        #[cfg(corelane_defect = "deletion_not_awaited")]
        let _ = (Durability::Flushed, moved.position, LOG_END_WAIT_MS);
        if moved.partition.is_served() { Ok(log_start) } else { Err(ErrorCode::UnknownTopicOrPartition) }
    }
}
