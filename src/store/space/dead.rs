//! From the last live batch of a segment to a file that is free: dead, left out by a durable checkpoint, held by no read.

use crate::runtime::Runtime;
use crate::store::format::Stream;
use crate::store::state::segments::RetiredSegment;
use crate::store::state::{Core, State};
use crate::types::SegmentNumber;

impl<R: Runtime> Core<R> {
    /// A segment may be dead now, which matters at once when space is wanted.
    pub(in crate::store) fn on_less_live(&self) {
        if self.state.borrow().space_wanted {
            self.bells.checkpoint.ring();
        }
    }
}

impl<R: Runtime> State<R> {
    /// Segments that hold nothing live and lie before the one that is being filled, and before the first whose file is not
    /// there yet: those behind it are found by their headers, each by the one after it, so none of them may go. Of cold ones any.
    pub(in crate::store) fn dead(&self) -> Vec<SegmentNumber> {
        let before = self.writer.appended().segment.min(self.next_unnamed());
        let is_cold = |number: &SegmentNumber| {
            self.segments.live.get(number).is_some_and(|live| live.header.stream == Stream::Cold)
        };
        self.index.dead_segments().into_iter().filter(|number| *number < before || is_cold(number)).collect()
    }

    /// The first segment number that the checkpoint does not account for: one whose file is not there yet is found by
    /// its header, like those opened later.
    pub(in crate::store) fn next_unnamed(&self) -> SegmentNumber {
        self.segments.without_file().unwrap_or(self.segments.next_number)
    }

    /// A durable checkpoint no longer names these segments.
    pub(in crate::store) fn retire(&mut self, dead: &[SegmentNumber]) {
        for number in dead {
            let Some(live) = self.segments.live.remove(number) else { continue };
            self.index.remove_segment(*number);
            self.footers_unflushed.remove(number);
            self.cleaning.damaged_rows.remove(number);
            self.cleaning.stuck.remove(number);
            self.cleaning.built.remove(number);
            if let Some(mut file) = live.file {
                file.prepared = file.bytes;
                let checkpoint_sequence = self.checkpoint_sequence;
                self.segments.retired.push(RetiredSegment { file, checkpoint_sequence, number: *number });
            }
        }
    }

    pub(in crate::store) fn free_retired(&mut self) {
        self.segments.free_retired(self.checkpoint_sequence, &self.holds);
    }
}
