//! What the batches of one pass have in common: its time, its bound, what it counts, and the memory it works in.
//!
//! A batch that cannot be looked into, because its records do not fit in memory or would not fit in a batch again, stays as
//! it is. What it holds may be superseded or deleted by records above it; while it stands, tombstones above it stay too, in
//! this pass as in every one after it, or what they delete would come back.

use crate::compaction::rules::CompactionRules;
use crate::limits::COMPACTION_BYTES_KEPT;
use crate::protocol::compression::{Compressor, Scratch};
use crate::protocol::record_batch::Kept;
use crate::types::{Offset, TimestampMs};

/// One pass over one log.
#[derive(Clone, Debug)]
pub struct Pass {
    pub(super) now: TimestampMs,
    /// From when on the tombstones may go that this pass sees first.
    pub(super) delete_horizon: Option<TimestampMs>,
    pub(super) bound: Offset,
    /// A batch that could not be looked into lies below.
    pub(super) holds_tombstones: bool,
    pub(super) counts: Counts,
}

/// What a pass has done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Batches looked at.
    pub batches: u64,
    /// Of them, those kept as they were.
    pub verbatim: u64,
    /// Of them, those kept with fewer records, or with a delete horizon.
    pub rebuilt: u64,
    /// Of them, those kept without records.
    pub emptied: u64,
    /// Of them, those that are gone.
    pub dropped: u64,
    /// Of those kept as they were, those that could not be looked into: see [`pass`](crate::compaction::pass).
    pub too_large: u64,
    /// Batches that got a delete horizon: they must be written even where little else is saved.
    pub horizons_set: u64,
    /// Bytes of all batches before.
    pub bytes_before: u64,
    /// Bytes of what is left of them.
    pub bytes_after: u64,
}

impl Pass {
    /// Begins a pass at `now`, which stays its time. `bound` is that of the log, [`Candidate::bound`], also where the map of keys
    /// is full before.
    ///
    /// [`Candidate::bound`]: crate::compaction::segments::Candidate::bound
    pub fn new(bound: Offset, rules: &CompactionRules, now: TimestampMs) -> Pass {
        let delete_horizon = now.value().checked_add(rules.delete_retention_ms).map(TimestampMs::new);
        Pass {
            now,
            delete_horizon: delete_horizon.filter(|_| cfg!(not(corelane_defect = "horizon_forgotten"))),
            bound,
            holds_tombstones: false,
            counts: Counts::default(),
        }
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

/// The memory that compaction works in, kept from batch to batch; one per shard.
#[derive(Default)]
pub struct Tools {
    pub(super) scratch: Scratch,
    pub(super) compressor: Compressor,
    /// The batch's records, decompressed.
    pub(super) plain: Vec<u8>,
    pub(super) kept: Kept,
    pub(super) out: Vec<u8>,
}

impl Tools {
    /// Holds nothing yet.
    pub fn new() -> Tools {
        Tools::default()
    }

    /// What the last batch became, where that is not what it was.
    pub fn output(&self) -> &[u8] {
        &self.out
    }

    /// Bytes of memory held, without what decompresses zstd (whose window is at most 2^`ZSTD_WINDOW_LOG_MAX`). While a batch is
    /// under way at most about twice `COMPACTED_BATCH_BYTES_MAX`.
    pub fn held_bytes(&self) -> usize {
        self.scratch.window_bytes() + self.compressor.held_bytes() + self.plain.capacity() + self.out.capacity()
    }

    /// Forgets the last batch, and gives memory back that is more than what batches of common size need.
    pub fn shed(&mut self) {
        for memory in [&mut self.plain, &mut self.out] {
            memory.clear();
            memory.shrink_to(COMPACTION_BYTES_KEPT);
        }
        self.kept.shed();
        self.compressor.shed();
    }
}
