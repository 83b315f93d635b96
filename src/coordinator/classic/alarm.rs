//! A group's entries in its coordinator's timers, one kind each.

use std::rc::Rc;

use crate::coordinator::timers::{Timer, Timers};
use crate::limits;
use crate::types::MonotonicUs;

/// Remembers the earliest entry that stands in the timers, so that a later deadline needs no further one.
///
/// Invariant: after [`Alarm::watch`] an entry stands that is not later than the deadline. Entries that became superfluous
/// come up at most [`limits::GROUP_TIMER_AHEAD_MS_MAX`] after they were made, and do nothing.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    armed: Option<MonotonicUs>,
}

impl Alarm {
    /// Makes sure that the group is called at `deadline`, or before.
    pub(super) fn watch(
        &mut self,
        deadline: MonotonicUs,
        now: MonotonicUs,
        timers: &mut Timers,
        group: &Rc<str>,
        timer: impl FnOnce() -> Timer,
    ) {
        if self.armed.is_none_or(|armed| deadline < armed) {
            let at = deadline.min(now.plus_ms(limits::GROUP_TIMER_AHEAD_MS_MAX));
            if self.armed.is_none_or(|armed| at < armed) {
                timers.arm(at, group, timer());
                self.armed = Some(at);
            }
        }
    }

    /// An entry came up: whether it is the one remembered, so that the group has to look.
    pub(super) fn came_up(&mut self, now: MonotonicUs) -> bool {
        let due = self.armed.is_some_and(|armed| armed <= now);
        if due {
            self.armed = None;
        }
        due
    }
}

/// A deadline with its alarm.
#[derive(Debug, Default)]
pub(super) struct Deadline {
    due: Option<MonotonicUs>,
    alarm: Alarm,
}

impl Deadline {
    /// Replaces the deadline.
    pub(super) fn set(
        &mut self,
        due: MonotonicUs,
        now: MonotonicUs,
        timers: &mut Timers,
        group: &Rc<str>,
        timer: impl FnOnce() -> Timer,
    ) {
        self.due = Some(due);
        self.alarm.watch(due, now, timers, group, timer);
    }

    /// Nothing is due any more.
    pub(super) fn clear(&mut self) {
        self.due = None;
    }

    /// An entry came up: whether the deadline has passed, which clears it. Otherwise waits on.
    pub(super) fn came_up(
        &mut self,
        now: MonotonicUs,
        timers: &mut Timers,
        group: &Rc<str>,
        timer: impl FnOnce() -> Timer,
    ) -> bool {
        if !self.alarm.came_up(now) {
            return false;
        }
        match self.due {
            Some(due) if due <= now => {
                self.due = None;
                true
            }
            Some(due) => {
                self.alarm.watch(due, now, timers, group, timer);
                false
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_ms(ms: u64) -> MonotonicUs {
        MonotonicUs::new(0).plus_ms(ms)
    }

    #[test]
    fn a_deadline_that_moves_on_needs_one_entry_at_a_time() {
        let (mut timers, group) = (Timers::default(), Rc::from("g"));
        let mut deadline = Deadline::default();
        for ms in 10..1000 {
            deadline.set(at_ms(ms), at_ms(0), &mut timers, &group, || Timer::Join);
        }
        assert_eq!(timers.pop(at_ms(2000)), Some((Rc::clone(&group), Timer::Join)));
        assert_eq!(timers.first(), None);
        assert!(!deadline.came_up(at_ms(10), &mut timers, &group, || Timer::Join));
        assert_eq!(timers.first(), Some(at_ms(999)));
        timers.pop(at_ms(999));
        assert!(deadline.came_up(at_ms(999), &mut timers, &group, || Timer::Join));
        assert!(!deadline.came_up(at_ms(999), &mut timers, &group, || Timer::Join));
    }

    #[test]
    fn a_far_deadline_is_reached_in_steps() {
        let (mut timers, group) = (Timers::default(), Rc::from("g"));
        let mut deadline = Deadline::default();
        deadline.set(at_ms(150_000), at_ms(0), &mut timers, &group, || Timer::Sync);
        let mut steps = Vec::new();
        loop {
            let at = timers.first().unwrap();
            timers.pop(at);
            steps.push(at);
            if deadline.came_up(at, &mut timers, &group, || Timer::Sync) {
                break;
            }
        }
        assert_eq!(steps, [at_ms(60_000), at_ms(120_000), at_ms(150_000)]);
    }
}
