//! Which segments are being read, so that none is reused under a read. Pure. Invariant: while a [`SegmentHold`] lives, its
//! segment's file is not reused.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::types::SegmentNumber;

/// Which segments are being read. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct SegmentHolds {
    counts: Rc<RefCell<BTreeMap<SegmentNumber, usize>>>,
}

impl SegmentHolds {
    /// No segment held.
    pub fn new() -> SegmentHolds {
        SegmentHolds::default()
    }

    /// Holds a segment until the result is dropped. Taken in the same step that found the segment in the index.
    pub fn hold(&self, segment: SegmentNumber) -> SegmentHold {
        *self.counts.borrow_mut().entry(segment).or_insert(0) += 1;
        SegmentHold { holds: self.clone(), segment }
    }

    /// Whether a read holds the segment: then its file must not be reused.
    pub fn is_held(&self, segment: SegmentNumber) -> bool {
        self.counts.borrow().contains_key(&segment)
    }
}

/// Keeps one segment's file from being reused.
#[derive(Debug)]
pub struct SegmentHold {
    holds: SegmentHolds,
    segment: SegmentNumber,
}

impl SegmentHold {
    /// The segment held.
    pub fn segment(&self) -> SegmentNumber {
        self.segment
    }
}

impl Clone for SegmentHold {
    fn clone(&self) -> SegmentHold {
        self.holds.hold(self.segment)
    }
}

impl Drop for SegmentHold {
    fn drop(&mut self) {
        let mut counts = self.holds.counts.borrow_mut();
        let count = counts.get_mut(&self.segment).expect("each hold is counted");
        *count -= 1;
        if *count == 0 {
            counts.remove(&self.segment);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_is_held_until_the_last_hold_is_dropped() {
        let holds = SegmentHolds::new();
        let segment = SegmentNumber::new(4);
        let one = holds.hold(segment);
        let two = one.clone();
        drop(one);
        assert!(holds.is_held(segment));
        assert!(!holds.is_held(segment.next()));
        drop(two);
        assert!(!holds.is_held(segment));
    }
}
