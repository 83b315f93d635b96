//! What of each segment is whose, for tools. Looks at every row.

use std::collections::BTreeMap;

use super::Index;
use crate::store::format;
use crate::types::{LogId, SegmentNumber};

impl Index {
    /// Of each segment in which something lives the logs that it belongs to, and bytes of their entries there, headers
    /// included; the open one with them.
    pub fn live_shares(&self) -> BTreeMap<SegmentNumber, BTreeMap<LogId, u64>> {
        let mut shares: BTreeMap<SegmentNumber, BTreeMap<LogId, u64>> = BTreeMap::new();
        let mut add = |segment, log, bytes: u32| {
            *shares.entry(segment).or_default().entry(log).or_default() += u64::from(bytes);
        };
        for (log, state) in &self.logs {
            for row in &state.rows {
                let segment = self.slots[format::usize_of(row.slot)].as_ref().expect("a row's segment is known");
                add(segment.number, *log, row.bytes);
            }
            if let Some(run) = self.live_run(*log, state) {
                add(self.open_number, *log, run.bytes);
            }
        }
        shares
    }
}
