//! What is missing: proof of it behind the end of the log, and which offsets it took.

use super::{Recovery, unreadable};

use crate::runtime::Runtime;
use crate::store::checkpoint::CheckpointPartition;
use crate::store::format::segment_file_name;
use crate::store::scan::{Scanner, indexed_entry};
use crate::store::state::segments::SegmentFile;
use crate::store::{LostOffsets, OpenError, PartitionRecord};
use crate::types::{LogId, LogPosition, Offset};

impl<R: Runtime> Recovery<'_, R> {
    /// Looks for entries behind the end of the log, for what they prove and for what is lost.
    pub(super) async fn survey(
        &mut self,
        file: &SegmentFile<R::File>,
        numbers: std::ops::RangeInclusive<u64>,
        from: u32,
    ) -> Result<(), OpenError> {
        let path = self.options.directory.join(segment_file_name(file.id));
        let mut scanner = Scanner::new(file.file.clone(), file.bytes);
        let mut at = from;
        while let Some(scanned) = scanner.resume(at, &numbers).await.map_err(unreadable(&path))? {
            at = scanned.end;
            let header = &scanned.entry.header;
            self.proof = self.proof.max(header.durable);
            self.incarnation = self.incarnation.max(header.incarnation);
            self.next_number = self.next_number.max(header.segment.next());
            self.next_log = self.next_log.max(LogId::new(header.log.value().saturating_add(1)));
            if let Some(indexed) = indexed_entry(scanned.position, &scanned.entry) {
                let last = self.beyond.entry(header.log).or_insert(indexed.last_offset);
                *last = (*last).max(indexed.last_offset);
            }
            self.yield_now_and_then().await;
        }
        Ok(())
    }

    /// The log goes on behind a hole: what logs miss shows in what follows of them.
    pub(super) fn interrupt(&mut self) {
        for log in self.partitions.keys() {
            let end = self.index.log_end(*log).expect("a known partition is in the index");
            self.interrupted.entry(*log).or_insert(end);
        }
    }

    /// Offsets from `base` to `end` of a log follow.
    pub(super) fn resume(&mut self, log: LogId, base: Offset, end: Offset) {
        self.note_range(log, base, end);
        let Some(interrupted_at) = self.interrupted.get(&log).copied() else { return };
        if end <= interrupted_at {
            return;
        }
        self.interrupted.remove(&log);
        if base > interrupted_at {
            self.lost.push(LostOffsets { log, first: interrupted_at, last: Offset::new(base.value() - 1) });
        }
    }

    /// Every log ends where its state does, also when its last batches are gone: an offset is never given twice.
    pub(super) fn end_logs(&mut self, end: LogPosition) -> Result<(), OpenError> {
        for (log, known) in &self.partitions {
            if self.index.log_end(*log).is_some_and(|found| found > known.end) {
                // A footer that says more than the checkpoint above it.
                return Err(self.damaged_at(end.segment));
            }
            self.index.raise_end(*log, known.end);
        }
        Ok(())
    }

    /// Ends recovery when something that was durable is gone, unless that is accepted.
    pub(super) fn judge_damage(&mut self, records: &[CheckpointPartition]) -> Result<(), OpenError> {
        let Some((position, lost)) = self.found_damage(records) else { return Ok(()) };
        let shard = self.options.shard;
        if !self.options.accept_loss {
            return Err(OpenError::Damage { shard, position, lost });
        }
        tracing::warn!(%shard, %position, ?lost, "the log is damaged, and that was accepted");
        Ok(())
    }

    /// Where something that was durable is gone, and which offsets of which logs that is known to have taken.
    pub(super) fn found_damage(&mut self, records: &[CheckpointPartition]) -> Option<(LogPosition, Vec<LostOffsets>)> {
        self.judge_cold();
        let position = self.damage?;
        for PartitionRecord { log, log_end, .. } in records.iter().map(|partition| partition.record) {
            if log_end > Offset::ZERO {
                let last = self.beyond.entry(log).or_insert(Offset::ZERO);
                *last = (*last).max(Offset::new(log_end.value() - 1));
            }
        }
        let mut lost = std::mem::take(&mut self.lost);
        for (log, last) in &self.beyond {
            if let Some(first) = self.index.log_end(*log).filter(|end| end <= last) {
                lost.push(LostOffsets { log: *log, first, last: *last });
            }
        }
        lost.sort_by_key(|lost| (lost.log, lost.first));
        Some((position, lost))
    }
}
