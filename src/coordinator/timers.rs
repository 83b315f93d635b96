//! When groups want to be looked at again.
//!
//! A heartbeat moves a deadline, but costs no change here: an entry is a hint that something may be due. When it comes up,
//! its group compares with the deadline that it keeps itself, and arms again for the rest.
//!
//! Invariant: whatever has a deadline has an entry that is not later.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use crate::types::MonotonicUs;

/// What may be due.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Timer {
    /// A member of either protocol may have been silent for its session timeout. Classic: also one that got an id and has
    /// not joined with it.
    Session(Rc<str>),
    /// Classic: the join phase may be over (initial delay or rebalance timeout).
    Join,
    /// Classic: members may have missed their sync. KIP-848: see `Revocation`.
    Sync,
    /// KIP-848: a member may have missed its rebalance timeout while giving up partitions.
    Revocation(Rc<str>),
    /// The group's offsets may have expired, and the group with them.
    Expiry,
}

/// When, as how many-th, for which group, and what.
type Entry = (MonotonicUs, u64, Rc<str>, Timer);

/// The entries of one coordinator, earliest first.
#[derive(Debug, Default)]
pub struct Timers {
    entries: BinaryHeap<Reverse<Entry>>,
    next: u64,
}

impl Timers {
    /// Has the group's `on_timer` called at `deadline` or soon after.
    pub fn arm(&mut self, deadline: MonotonicUs, group: &Rc<str>, timer: Timer) {
        self.entries.push(Reverse((deadline, self.next, Rc::clone(group), timer)));
        self.next += 1;
    }

    /// When the first entry is due.
    pub fn first(&self) -> Option<MonotonicUs> {
        self.entries.peek().map(|Reverse((deadline, ..))| *deadline)
    }

    /// Takes the first entry that is due; of equal ones the one armed first.
    pub fn pop(&mut self, now: MonotonicUs) -> Option<(Rc<str>, Timer)> {
        if self.first()? > now {
            return None;
        }
        self.entries.pop().map(|Reverse((_, _, group, timer))| (group, timer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> MonotonicUs {
        MonotonicUs::new(us)
    }

    #[test]
    fn entries_come_up_in_order_and_not_before_their_time() {
        let mut timers = Timers::default();
        let group: Rc<str> = "g".into();
        timers.arm(at(20), &group, Timer::Join);
        timers.arm(at(10), &group, Timer::Sync);
        timers.arm(at(10), &group, Timer::Expiry);
        assert_eq!(timers.pop(at(9)), None);
        assert_eq!(timers.pop(at(10)), Some((Rc::clone(&group), Timer::Sync)));
        assert_eq!(timers.pop(at(10)), Some((Rc::clone(&group), Timer::Expiry)));
        assert_eq!(timers.pop(at(10)), None);
        assert_eq!(timers.first(), Some(at(20)));
        assert_eq!(timers.pop(at(25)), Some((group, Timer::Join)));
    }
}
