//! Where a consumer is in a partition, and where it begins.

use crate::lab::generator::plan::Plan;
use crate::lab::number::{narrow, size};

/// What a consumer is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::lab::generator) enum Purpose {
    /// Reads what is produced as it comes.
    Live,
    /// Reads the backlog, again and again, beside the live traffic.
    CatchUp,
}

/// One partition's.
#[derive(Clone, Debug)]
pub(in crate::lab::generator) struct Position {
    /// Its partition: index into the plan's.
    pub(super) slot: u32,
    /// The next to read.
    pub(super) offset: i64,
    /// The end of the backlog, for a catch-up reader.
    pub(super) again_at: Option<i64>,
    /// Whether the fetch session knows another offset.
    pub(super) is_changed: bool,
}

impl Position {
    /// At the end of a partition, or at the beginning of the backlog before it.
    pub(super) fn new(slot: u32, purpose: Purpose, end: i64) -> Position {
        let (offset, again_at) = match purpose {
            Purpose::Live => (end, None),
            Purpose::CatchUp => (0, Some(end)),
        };
        Position { slot, offset, again_at, is_changed: true }
    }

    /// Everything before `next` is read. A catch-up reader that has read the backlog begins with it again.
    pub(super) fn advance(&mut self, next: i64) {
        self.offset = if self.again_at.is_some_and(|end| next >= end) { 0 } else { next };
    }
}

/// The partitions of member `index` of `members`: every so-manieth.
pub(in crate::lab::generator) fn share(plan: &Plan, index: u32, members: u32) -> Vec<u32> {
    (index..narrow(plan.slots.len())).step_by(size(members)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_consumer_begins_at_the_end_and_goes_on() {
        let mut position = Position::new(0, Purpose::Live, 50);
        assert_eq!(position.offset, 50);
        position.advance(60);
        assert_eq!(position.offset, 60);
    }

    #[test]
    fn a_catch_up_reader_reads_the_backlog_again_and_again() {
        let mut position = Position::new(0, Purpose::CatchUp, 50);
        assert_eq!(position.offset, 0);
        position.advance(49);
        assert_eq!(position.offset, 49);
        position.advance(55);
        assert_eq!(position.offset, 0);
    }
}
