//! Reads all that is live of one log, from its first segment to its last.

use super::Inspection;
use crate::runtime::{Buffer, File, Runtime};
use crate::store::format::{Entry, StoredBatch, UNIT_BYTES, next_unit, usize_of};
use crate::types::{LogId, Offset};

impl<R: Runtime> Inspection<R> {
    /// Gives each whole batch of a log from its log start on, as far as they can be read: what is damaged, or was moved away
    /// while it was read, is passed over. Holds one extent in memory.
    pub async fn for_each_batch(&self, log: LogId, mut on_batch: impl FnMut(&StoredBatch<'_>)) {
        let core = &self.looked.core;
        let mut from = Offset::ZERO;
        loop {
            let (place, file, segment_bytes, hold) = {
                let state = core.state.borrow();
                let Some(place) = state.index.locate(log, from, u64::MAX) else { return };
                let Some(file) = state.segments.file(place.segment) else { return };
                let segment_bytes = state.segments.live[&place.segment].header.bytes;
                let hold = state.holds.hold(place.segment);
                (place, file, segment_bytes, hold)
            };
            let extents = core.cold.extents(&file, segment_bytes, &hold, log, &place).await;
            for extent in extents.iter().flat_map(|extents| extents.iter()) {
                let start = extent.position - extent.position % UNIT_BYTES;
                let Ok(read) = file.read_at(u64::from(start), usize_of(next_unit(extent.end()) - start)).await else {
                    continue;
                };
                let first = usize_of(extent.position - start);
                let mut rest = &read.as_slice()[first..first + usize_of(extent.bytes)];
                while let Ok(entry) = Entry::decode(rest) {
                    rest = &rest[usize::try_from(entry.header.entry_bytes()).expect("it lies in memory")..];
                    let is_own = entry.header.log == log && entry.header.segment == place.segment;
                    let is_wanted =
                        |batch: &StoredBatch<'_>| is_own && batch.last_offset() >= from && batch.crc_matches();
                    entry.batches().filter(is_wanted).for_each(|batch| on_batch(&batch));
                }
            }
            from = place.end_offset.max(from.advance(1));
        }
    }
}
