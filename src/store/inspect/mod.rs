//! What tools ask of a store's directory, whether or not a broker runs on it: where its space goes (`stats`), and whether every
//! byte that counts is what was written (`verify`).
//!
//! Nothing is changed, whatever the runtime would allow; [`ReadOnlyRuntime`](crate::runtime::read_only::ReadOnlyRuntime) allows
//! nothing. What is found is found by the steps of a start ([`look`]), so a tool and a start say the same.
//!
//! A broker that runs changes files beneath. What was read whole is believed: a segment's number is in every entry, and its
//! footer names it. What looks damaged is believed only when it is found again, by a checkpoint that stayed the same: a segment
//! that the newest checkpoint names is not reused, and what was seen to be durable stays what it is.

mod cross;
mod read;
mod segment;
mod stats;
mod verify;

use std::time::Duration;

pub use segment::{SegmentCheck, SegmentTask};
pub use stats::{CleanerReport, PartitionReport, SegmentReport, SegmentUse, StoreReport};
pub use verify::{Damage, DamagedPart};

use crate::limits::{INSPECT_PAUSE_MS, INSPECT_TRIES};
use crate::runtime::Runtime;
use crate::store::checkpoint::CheckpointError;
use crate::store::checkpoint::files::CheckpointFiles;
use crate::store::recovery::{Looked, look};
use crate::store::{BATCH_HEADER_BYTES, LostOffsets, OpenError, PartitionRecord, Replay, StateError, StoreOptions};
use crate::types::{LogId, LogPosition, Offset};

/// Why a directory could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It does not open, and a broker would not start on it.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A broker writes to it so fast that it was never the same for long enough.
    #[error("the store changes faster than it can be looked at: try again, or when the broker is less busy")]
    Unsettled,
}

/// A store that was looked at.
pub struct Inspection<R: Runtime> {
    runtime: R,
    looked: Looked<R>,
}

impl<R: Runtime> Inspection<R> {
    /// Looks at the directory of `options`. Takes the time and the memory of a start.
    ///
    /// Errors: see [`InspectError`]. That something is gone is no error.
    pub async fn open(runtime: R, options: StoreOptions) -> Result<Inspection<R>, InspectError> {
        let mut suspicion: Option<String> = None;
        for _ in 0..INSPECT_TRIES {
            let before = CheckpointFiles::stated(&runtime, &options.directory).await.map_err(OpenError::from)?;
            let looked = look(runtime.clone(), options.clone(), &mut Deaf).await;
            let suspected = match &looked {
                Ok(Looked { damage: None, .. }) => None,
                Ok(Looked { damage: Some((position, lost)), .. }) => Some(format!("{position} {lost:?}")),
                Err(error) => Some(error.to_string()),
            };
            let after = CheckpointFiles::stated(&runtime, &options.directory).await.map_err(OpenError::from)?;
            if suspected.is_none() || (before == after && suspicion == suspected) {
                let looked = looked?;
                return Ok(Inspection { runtime, looked });
            }
            suspicion = suspected;
            runtime.sleep(Duration::from_millis(INSPECT_PAUSE_MS)).await;
        }
        Err(InspectError::Unsettled)
    }

    /// Where something that was durable is gone, and what that is known to have taken: a start refuses.
    pub fn damage(&self) -> Option<&(LogPosition, Vec<LostOffsets>)> {
        self.looked.damage.as_ref()
    }

    /// Every partition, by log id.
    pub fn partitions(&self) -> Vec<PartitionRecord> {
        let state = self.looked.core.state.borrow();
        state.index.logs().into_iter().filter_map(|log| state.partition(log)).collect()
    }
}

impl InspectError {
    /// A checkpoint that was durable is gone: a start refuses, and reads what is left if that is accepted.
    pub fn is_lost_checkpoint(&self) -> bool {
        matches!(self, InspectError::Open(OpenError::Checkpoint(CheckpointError::Lost { .. })))
    }
}

/// Hears nothing: what partitions are like inside is their owner's affair.
struct Deaf;

impl Replay for Deaf {
    fn on_partition(&mut self, _: &PartitionRecord, _: &[u8]) -> Result<(), StateError> {
        Ok(())
    }

    fn on_batch(&mut self, _: LogId, _: &[u8; BATCH_HEADER_BYTES]) {}

    fn on_log_start(&mut self, _: LogId, _: Offset) {}

    fn on_delete(&mut self, _: LogId) {}
}
