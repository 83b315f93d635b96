//! The three offsets that frame a partition: log start, high watermark, log end.
//!
//! Invariant: `0 <= log start <= high watermark <= log end`, and none of them ever goes back. There is no replica to
//! truncate to: what was appended stays until retention moves the log start over it.

use crate::types::Offset;

/// Log start, high watermark and log end of one partition.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PartitionOffsets {
    log_start: Offset,
    high_watermark: Offset,
    log_end: Offset,
}

impl PartitionOffsets {
    /// The offsets of a partition read back from disk: all that was found there counts as acknowledged.
    pub fn new(log_start: Offset, log_end: Offset) -> PartitionOffsets {
        let offsets = PartitionOffsets { log_start, high_watermark: log_end, log_end };
        offsets.check();
        offsets
    }

    /// First offset that may be read.
    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// First offset that consumers may not see yet.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Offset of the next record.
    pub fn log_end(&self) -> Offset {
        self.log_end
    }

    /// A batch of `record_count` records was appended: returns its base offset.
    pub fn append(&mut self, record_count: u32) -> Offset {
        assert!(record_count > 0);
        let base_offset = self.log_end;
        self.log_end = base_offset.advance(record_count);
        self.check();
        base_offset
    }

    /// The records before `to` are lost, those that were not appended yet included: nothing takes their offsets.
    pub fn skip_to(&mut self, to: Offset) {
        self.log_end = self.log_end.max(to);
        self.high_watermark = self.high_watermark.max(to);
        self.check();
    }

    /// Everything before `to` has reached the level of the topic. Returns whether the high watermark moved.
    pub fn advance_high_watermark(&mut self, to: Offset) -> bool {
        assert!(to <= self.log_end);
        if to <= self.high_watermark {
            return false;
        }
        self.high_watermark = to;
        self.check();
        true
    }

    /// Records before `to` are gone, by retention or DeleteRecords. Returns whether the log start moved.
    pub fn advance_log_start(&mut self, to: Offset) -> bool {
        assert!(to <= self.high_watermark);
        if to <= self.log_start {
            return false;
        }
        self.log_start = to;
        self.check();
        true
    }

    fn check(&self) {
        assert!(self.log_start >= Offset::ZERO);
        assert!(self.log_start <= self.high_watermark);
        assert!(self.high_watermark <= self.log_end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_only_move_forward_and_keep_their_order() {
        let mut offsets = PartitionOffsets::default();
        assert_eq!(offsets.append(3), Offset::ZERO);
        assert_eq!(offsets.append(2), Offset::new(3));
        assert_eq!(offsets.log_end(), Offset::new(5));
        assert_eq!(offsets.high_watermark(), Offset::ZERO);
        assert!(offsets.advance_high_watermark(Offset::new(3)));
        assert!(!offsets.advance_high_watermark(Offset::new(2)));
        assert!(offsets.advance_log_start(Offset::new(1)));
        assert!(!offsets.advance_log_start(Offset::ZERO));
        assert_eq!((offsets.log_start(), offsets.high_watermark()), (Offset::new(1), Offset::new(3)));
    }

    #[test]
    #[should_panic(expected = "to <= self.high_watermark")]
    fn the_log_start_cannot_pass_the_high_watermark() {
        let mut offsets = PartitionOffsets::default();
        offsets.append(3);
        offsets.advance_log_start(Offset::new(1));
    }

    #[test]
    #[should_panic(expected = "to <= self.log_end")]
    fn the_high_watermark_cannot_pass_the_log_end() {
        PartitionOffsets::default().advance_high_watermark(Offset::new(1));
    }
}
