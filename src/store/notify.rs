//! How tasks of a store wait for each other: bells that wake everyone who listens.
//!
//! One core only. A waiter states its condition as a closure over shared state; a bell never carries a value, so a ring
//! too many costs one check, and a ring is never lost: the condition is checked before the task goes to sleep, on the
//! same core, with nothing in between.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Wakes all tasks that wait for something to change.
#[derive(Default)]
pub(crate) struct Bell {
    waiting: RefCell<Vec<Waker>>,
    rings: Cell<u64>,
}

impl Bell {
    /// Wakes every waiter once; each checks its condition again.
    pub(crate) fn ring(&self) {
        self.rings.set(self.rings.get() + 1);
        // The list is taken out first: waking may run a waiter at once on some executors.
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for waker in waiting {
            waker.wake();
        }
    }

    /// Ends with the first `Some` that `condition` gives; it is asked at once and after every ring.
    pub(crate) async fn until<T>(&self, mut condition: impl FnMut() -> Option<T>) -> T {
        // A task that is polled for other reasons stays on the list where it is.
        let mut listed: Option<(u64, Waker)> = None;
        poll_fn(move |context| {
            if let Some(value) = condition() {
                return Poll::Ready(value);
            }
            let rings = self.rings.get();
            let is_listed = listed.as_ref().is_some_and(|(at, waker)| *at == rings && waker.will_wake(context.waker()));
            if !is_listed {
                self.waiting.borrow_mut().push(context.waker().clone());
                listed = Some((rings, context.waker().clone()));
            }
            Poll::Pending
        })
        .await
    }
}

/// The bells of one store, by who listens.
#[derive(Default)]
pub(in crate::store) struct Bells {
    /// The write task: something was appended, a write ended, a file is there.
    pub(in crate::store) write: Bell,
    /// The footer task: a segment was sealed, a file is there.
    pub(in crate::store) footer: Bell,
    /// The flush task: *written* moved, or a flush was asked for.
    pub(in crate::store) flush: Bell,
    /// The task that prepares files: one was taken, or one became free.
    pub(in crate::store) prepare: Bell,
    /// The task that prepares space: *written* moved, or a file is there.
    pub(in crate::store) fill: Bell,
    /// The checkpoint task: a segment was sealed, time has passed, or space is wanted.
    pub(in crate::store) checkpoint: Bell,
    /// The cleaner: a checkpoint was written, time has passed, or space is wanted.
    pub(in crate::store) clean: Bell,
    /// Appends that wait for room: *written* moved, or a file is there.
    pub(in crate::store) room: Bell,
    /// Everyone who waits for positions, footers or the checkpoint files.
    pub(in crate::store) progress: Bell,
}

impl Bells {
    /// Wakes everyone: the store failed or stops.
    pub(in crate::store) fn ring_all(&self) {
        let Bells { write, footer, flush, prepare, fill, checkpoint, clean, room, progress } = self;
        for bell in [write, footer, flush, prepare, fill, checkpoint, clean, room, progress] {
            bell.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;
    use crate::runtime::Runtime;
    use crate::simulation::Simulation;

    #[test]
    fn every_waiter_checks_after_each_ring_and_leaves_by_its_own_condition() {
        let left = Simulation::new(1).run(|runtime| async move {
            let bell = Rc::new(Bell::default());
            let (count, left) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(Vec::new())));
            for wanted in [2, 1, 3] {
                let (bell, count, left) = (Rc::clone(&bell), Rc::clone(&count), Rc::clone(&left));
                runtime.spawn(async move {
                    bell.until(|| (count.get() >= wanted).then_some(())).await;
                    left.borrow_mut().push(wanted);
                });
            }
            for ring in 1..=3 {
                runtime.sleep(Duration::from_millis(1)).await;
                count.set(ring);
                bell.ring();
            }
            runtime.sleep(Duration::from_millis(1)).await;
            assert!(bell.waiting.borrow().is_empty());
            left.take()
        });
        assert_eq!(left.finished(), [1, 2, 3]);
    }
}
