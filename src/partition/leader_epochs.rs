//! Which leader epoch began at which offset: what tells a client whether the log it read is still the log there is.
//!
//! As Kafka's `LeaderEpochFileCache`. Invariant: epochs and start offsets both rise strictly from entry to entry.

use crate::limits::LEADER_EPOCHS_PER_PARTITION_MAX;
use crate::partition::snapshot::{Reader, SnapshotError, put_count};
use crate::types::{LeaderEpoch, Offset};

/// Bytes of one entry in a snapshot.
const ENTRY_BYTES: usize = 12;

/// An epoch and the offset at which it began.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Offset of the first record appended in it.
    pub start_offset: Offset,
}

/// The answer to "where does this epoch end?".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EpochEnd {
    /// The greatest known epoch that is not above the one asked for.
    pub epoch: LeaderEpoch,
    /// Where the next epoch begins, or the log ends.
    pub end_offset: Offset,
}

impl EpochEnd {
    /// Kafka's "undefined": the epoch asked for is above all known ones, or is -1.
    pub const UNDEFINED: EpochEnd = EpochEnd { epoch: LeaderEpoch::new(-1), end_offset: Offset::new(-1) };
}

/// The epochs of one partition.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LeaderEpochs {
    entries: Vec<EpochStart>,
}

impl LeaderEpochs {
    /// A partition nobody has led.
    pub fn new() -> LeaderEpochs {
        LeaderEpochs::default()
    }

    /// The newest epoch that is known.
    pub fn latest(&self) -> Option<EpochStart> {
        self.entries.last().copied()
    }

    /// All epochs, oldest first.
    pub fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    /// Notes that `epoch` begins at `start_offset`, if it is not known yet. Called at every append and at the start.
    ///
    /// Entries that contradict the new one give way, as in Kafka: an epoch in which nothing was appended leaves no trace.
    pub fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) {
        assert!(epoch >= LeaderEpoch::new(0));
        assert!(start_offset >= Offset::ZERO);
        if let Some(latest) = self.entries.last()
            && latest.epoch == epoch
            && latest.start_offset <= start_offset
        {
            return;
        }
        let kept = self
            .entries
            .iter()
            .rposition(|entry| entry.epoch < epoch && entry.start_offset < start_offset)
            .map_or(0, |index| index + 1);
        self.entries.truncate(kept);
        if self.entries.len() == LEADER_EPOCHS_PER_PARTITION_MAX {
            self.entries.remove(0);
        }
        self.entries.push(EpochStart { epoch, start_offset });
    }

    /// The end of an epoch, for OffsetForLeaderEpoch and for the divergence check of Fetch (KIP-320, KIP-595).
    ///
    /// The newest epoch ends at `log_end`. An epoch older than all known ones ends where the first known one begins,
    /// under its own number. Between known ones, the greatest known epoch below answers.
    pub fn end_offset_for(&self, requested: LeaderEpoch, log_end: Offset) -> EpochEnd {
        let Some(latest) = self.entries.last() else { return EpochEnd::UNDEFINED };
        if requested < LeaderEpoch::new(0) || requested > latest.epoch {
            return EpochEnd::UNDEFINED;
        }
        if requested == latest.epoch {
            return EpochEnd { epoch: requested, end_offset: log_end };
        }
        let higher = self.entries.partition_point(|entry| entry.epoch <= requested);
        let end_offset = self.entries[higher].start_offset;
        let epoch = higher.checked_sub(1).map_or(requested, |floor| self.entries[floor].epoch);
        EpochEnd { epoch, end_offset }
    }

    /// The epoch in which the record at `offset` was appended; `None` below the first known epoch.
    pub fn epoch_for_offset(&self, offset: Offset) -> Option<LeaderEpoch> {
        let above = self.entries.partition_point(|entry| entry.start_offset <= offset);
        above.checked_sub(1).map(|index| self.entries[index].epoch)
    }

    /// The log start moved: epochs wholly below it are forgotten, the one it lies in now begins there.
    pub fn truncate_from_start(&mut self, log_start: Offset) {
        let below = self.entries.partition_point(|entry| entry.start_offset <= log_start);
        if let Some(last_below) = below.checked_sub(1) {
            self.entries[last_below].start_offset = log_start;
            self.entries.drain(..last_below);
        }
    }

    /// Forgets epochs that begin at or after `log_end`: a log that was cut there has no record of them.
    pub fn truncate_from_end(&mut self, log_end: Offset) {
        let below = self.entries.partition_point(|entry| entry.start_offset < log_end);
        self.entries.truncate(below);
    }

    /// Appends the entries to a partition's state.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_count(out, self.entries.len());
        for entry in &self.entries {
            out.extend_from_slice(&entry.epoch.value().to_le_bytes());
            out.extend_from_slice(&entry.start_offset.value().to_le_bytes());
        }
    }

    /// Reads what `encode` wrote.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<LeaderEpochs, SnapshotError> {
        let count = reader.count(ENTRY_BYTES, LEADER_EPOCHS_PER_PARTITION_MAX)?;
        let mut entries: Vec<EpochStart> = Vec::with_capacity(count);
        for _ in 0..count {
            let entry = EpochStart { epoch: LeaderEpoch::new(reader.i32()?), start_offset: Offset::new(reader.i64()?) };
            if entry.epoch < LeaderEpoch::new(0) || entry.start_offset < Offset::ZERO {
                return Err(SnapshotError::Impossible("leader epoch"));
            }
            if let Some(last) = entries.last()
                && (entry.epoch <= last.epoch || entry.start_offset <= last.start_offset)
            {
                return Err(SnapshotError::Impossible("order of leader epochs"));
            }
            entries.push(entry);
        }
        Ok(LeaderEpochs { entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(pairs: &[(i32, i64)]) -> LeaderEpochs {
        let mut epochs = LeaderEpochs::new();
        for &(epoch, start) in pairs {
            epochs.assign(LeaderEpoch::new(epoch), Offset::new(start));
        }
        epochs
    }

    fn pairs(epochs: &LeaderEpochs) -> Vec<(i32, i64)> {
        epochs.entries().iter().map(|entry| (entry.epoch.value(), entry.start_offset.value())).collect()
    }

    fn end(epochs: &LeaderEpochs, requested: i32) -> (i32, i64) {
        let end = epochs.end_offset_for(LeaderEpoch::new(requested), Offset::new(100));
        (end.epoch.value(), end.end_offset.value())
    }

    #[test]
    fn end_offsets_follow_kafkas_rules() {
        let epochs = epochs(&[(2, 10), (5, 30), (6, 40)]);
        assert_eq!(end(&epochs, 6), (6, 100), "the latest ends at the log end");
        assert_eq!(end(&epochs, 7), (-1, -1), "above the latest");
        assert_eq!(end(&epochs, -1), (-1, -1), "undefined");
        assert_eq!(end(&epochs, 1), (1, 10), "below the first: its own number, the first start");
        assert_eq!(end(&epochs, 2), (2, 30));
        assert_eq!(end(&epochs, 4), (2, 30), "unknown in between: the one below");
        assert_eq!(end(&epochs, 5), (5, 40));
        assert_eq!(end(&LeaderEpochs::new(), 0), (-1, -1));
    }

    #[test]
    fn an_epoch_without_records_leaves_no_trace() {
        assert_eq!(pairs(&epochs(&[(1, 0), (2, 0), (3, 0)])), [(3, 0)]);
        assert_eq!(pairs(&epochs(&[(1, 0), (2, 10), (3, 10)])), [(1, 0), (3, 10)]);
    }

    #[test]
    fn an_epoch_is_assigned_once() {
        assert_eq!(pairs(&epochs(&[(1, 0), (1, 5), (2, 10), (2, 11)])), [(1, 0), (2, 10)]);
    }

    #[test]
    fn contradicting_entries_give_way() {
        assert_eq!(pairs(&epochs(&[(1, 0), (2, 10), (4, 20), (3, 15)])), [(1, 0), (2, 10), (3, 15)]);
        assert_eq!(pairs(&epochs(&[(1, 0), (2, 10), (2, 5)])), [(1, 0), (2, 5)]);
    }

    #[test]
    fn the_log_start_cuts_inside_an_epoch() {
        let mut cut = epochs(&[(1, 0), (2, 10), (3, 20)]);
        cut.truncate_from_start(Offset::new(15));
        assert_eq!(pairs(&cut), [(2, 15), (3, 20)]);
        cut.truncate_from_start(Offset::new(20));
        assert_eq!(pairs(&cut), [(3, 20)]);
        cut.truncate_from_start(Offset::new(500));
        assert_eq!(pairs(&cut), [(3, 500)]);
        let mut above = epochs(&[(1, 50)]);
        above.truncate_from_start(Offset::new(10));
        assert_eq!(pairs(&above), [(1, 50)]);
    }

    #[test]
    fn the_log_end_cuts_whole_epochs() {
        let mut cut = epochs(&[(1, 0), (2, 10), (3, 20)]);
        cut.truncate_from_end(Offset::new(20));
        assert_eq!(pairs(&cut), [(1, 0), (2, 10)]);
        assert_eq!(cut.epoch_for_offset(Offset::new(9)), Some(LeaderEpoch::new(1)));
        assert_eq!(cut.epoch_for_offset(Offset::new(10)), Some(LeaderEpoch::new(2)));
        assert_eq!(cut.epoch_for_offset(Offset::new(-1)), None);
    }

    #[test]
    fn the_oldest_epoch_gives_way_at_the_bound() {
        let mut many = LeaderEpochs::new();
        let bound = i32::try_from(LEADER_EPOCHS_PER_PARTITION_MAX).unwrap();
        for epoch in 0..bound + 3 {
            many.assign(LeaderEpoch::new(epoch), Offset::new(i64::from(epoch) * 10));
        }
        assert_eq!(many.entries().len(), LEADER_EPOCHS_PER_PARTITION_MAX);
        assert_eq!(many.entries()[0].epoch, LeaderEpoch::new(3));
        assert_eq!(many.latest().unwrap().epoch, LeaderEpoch::new(bound + 2));
    }

    #[test]
    fn entries_round_trip_and_disorder_is_refused() {
        let epochs = epochs(&[(1, 0), (2, 10), (3, 20)]);
        let mut bytes = Vec::new();
        epochs.encode(&mut bytes);
        assert_eq!(LeaderEpochs::decode(&mut Reader::new(&bytes)), Ok(epochs));
        bytes[4 + ENTRY_BYTES] = 1;
        assert_eq!(
            LeaderEpochs::decode(&mut Reader::new(&bytes)),
            Err(SnapshotError::Impossible("order of leader epochs"))
        );
        assert_eq!(LeaderEpochs::decode(&mut Reader::new(&[255, 0, 0, 0])), Err(SnapshotError::Truncated));
    }
}
