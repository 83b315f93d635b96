//! What the cleaner knows between two steps. Pure; the rules stand in `cleaning`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::store::DueLog;
use crate::types::{LogId, SegmentNumber};

/// See the module.
#[derive(Debug, Default)]
pub(in crate::store) struct Cleaning {
    /// Something changed since it was last looked whether there is anything to do.
    pub(in crate::store) is_wanted: bool,
    /// Bytes appended, live bytes, checkpoint, whether there was no room, and whether it was quiet, when there was nothing to do.
    pub(in crate::store) seen_in_vain: Option<(u64, u64, u64, bool, bool)>,
    /// Hardly anything was appended in the last interval of checkpoints.
    pub(in crate::store) is_quiet: bool,
    /// The job that is under way let the index point to something new: what was emptied waits for a checkpoint.
    pub(in crate::store) has_switched: bool,
    /// A job is under way.
    pub(in crate::store) is_running: bool,
    /// The store closes: no job begins, and one that is under way gives up.
    pub(in crate::store) is_closing: bool,
    /// Rows that cannot be read, by segment, whoever found them: they stay where they are.
    pub(in crate::store) damaged_rows: BTreeMap<SegmentNumber, BTreeSet<u32>>,
    /// Cold segments written in this life, and the bytes of entries that lived in each then.
    pub(in crate::store) built: BTreeMap<SegmentNumber, u64>,
    /// Logs to compact, the most urgent first.
    pub(in crate::store) due: VecDeque<DueLog>,
    /// How fast, in bytes of batches that are read.
    pub(in crate::store) compaction_bytes_per_second: f64,
    /// Memory that a compaction pass under way has for its keys.
    pub(in crate::store) keys_bytes: u64,
    /// Logs that cannot be compacted: damaged, or holding what is no records.
    pub(in crate::store) uncompactable: BTreeSet<LogId>,
    /// Segments of which everything was moved that can be: the rest is damaged, or does not fit anywhere else.
    pub(in crate::store) stuck: BTreeSet<SegmentNumber>,
}

impl Cleaning {
    /// A row cannot be read. False when that was known.
    pub(in crate::store) fn on_damaged_row(&mut self, segment: SegmentNumber, directory_row: u32) -> bool {
        self.damaged_rows.entry(segment).or_default().insert(directory_row)
    }

    /// Whether a row is known to be damaged.
    pub(in crate::store) fn is_damaged_row(&self, segment: SegmentNumber, directory_row: u32) -> bool {
        self.damaged_rows.get(&segment).is_some_and(|rows| rows.contains(&directory_row))
    }
}
