//! The one way tasks of a store wait for each other: a bell that wakes everyone who listens.
//!
//! One core only. A waiter states its condition as a closure over shared state; the bell never carries a value, so a
//! ring too many costs one check and a ring is never lost: the condition is checked before the task goes to sleep, on
//! the same core, with nothing in between.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Wakes all tasks that wait for something to change.
#[derive(Default)]
pub(super) struct Bell {
    waiting: RefCell<Vec<Waker>>,
}

impl Bell {
    /// Wakes every waiter once; each checks its condition again.
    pub(super) fn ring(&self) {
        // The list is taken out first: waking may run a waiter at once on some executors.
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for waker in waiting {
            waker.wake();
        }
    }

    /// Ends with the first `Some` that `condition` gives; it is asked at once and after every ring.
    pub(super) async fn until<T>(&self, mut condition: impl FnMut() -> Option<T>) -> T {
        poll_fn(|context| match condition() {
            Some(value) => Poll::Ready(value),
            None => {
                let mut waiting = self.waiting.borrow_mut();
                if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                    waiting.push(context.waker().clone());
                }
                Poll::Pending
            }
        })
        .await
    }
}
