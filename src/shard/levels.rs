//! Who waits for which level: the queue between "appended" and "may be answered" of one shard.
//!
//! Every append leaves a mark with its position in the log. When *written* or *durable* moves, marks up to there advance
//! the high watermark of their partition, then requests that wait for that position are woken. Both queues are in log
//! order by themselves, so an advance costs what it completes.
//!
//! Invariant: a high watermark moves before anybody is told, so whoever is answered can read what was acknowledged.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::task::{Poll, Waker};

use crate::store::{Progress, StorageError};
use crate::types::{Durability, LogPosition, MonotonicUs};

/// Why a wait ended without its level.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WaitError {
    /// The store failed; what was not at its level may be lost.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The request's own time is over; the data stays appended.
    #[error("timed out waiting for the log")]
    TimedOut,
}

/// A queue of marks `M`, one per level, and the requests that wait.
#[derive(Debug)]
pub struct Levels<M> {
    progress: Cell<Progress>,
    now: Cell<MonotonicUs>,
    failure: RefCell<Option<StorageError>>,
    written: Level<M>,
    durable: Level<M>,
    sequence: Cell<u64>,
}

#[derive(Debug)]
struct Level<M> {
    marks: RefCell<VecDeque<(LogPosition, M)>>,
    waiters: RefCell<BTreeMap<(LogPosition, u64), Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    waker: Waker,
    deadline: MonotonicUs,
}

impl<M> Default for Level<M> {
    fn default() -> Self {
        Level { marks: RefCell::default(), waiters: RefCell::default() }
    }
}

impl<M> Levels<M> {
    /// Nothing waits yet; the log stands at `progress`.
    pub fn new(progress: Progress) -> Levels<M> {
        Levels {
            progress: Cell::new(progress),
            now: Cell::new(MonotonicUs::default()),
            failure: RefCell::new(None),
            written: Level::default(),
            durable: Level::default(),
            sequence: Cell::new(0),
        }
    }

    fn level(&self, durability: Durability) -> &Level<M> {
        match durability {
            Durability::Written => &self.written,
            Durability::Flushed => &self.durable,
        }
    }

    fn reached(&self, durability: Durability) -> LogPosition {
        match durability {
            Durability::Written => self.progress.get().written,
            Durability::Flushed => self.progress.get().durable,
        }
    }

    /// Leaves a mark that is handed back by `advance` when `position` reaches the level. Marks come in log order.
    pub fn mark(&self, durability: Durability, position: LogPosition, mark: M) {
        let mut marks = self.level(durability).marks.borrow_mut();
        assert!(marks.back().is_none_or(|(last, _)| *last <= position));
        marks.push_back((position, mark));
    }

    /// Takes in where the log stands now; calls `complete` for every mark that reached its level, in log order, and then
    /// wakes the requests. After a failure nobody's level is ever reached: all waiters are woken to learn it.
    pub fn advance(&self, progress: Progress, failure: Option<StorageError>, mut complete: impl FnMut(M)) {
        assert!(progress.durable <= progress.written);
        assert!(progress.written <= progress.appended);
        self.progress.set(progress);
        for durability in [Durability::Written, Durability::Flushed] {
            let reached = self.reached(durability);
            let marks = &self.level(durability).marks;
            loop {
                let mut queue = marks.borrow_mut();
                if queue.front().is_none_or(|(position, _)| *position > reached) {
                    break;
                }
                let (_, mark) = queue.pop_front().expect("checked above");
                drop(queue);
                complete(mark);
            }
        }
        let failed = failure.is_some();
        if failed {
            *self.failure.borrow_mut() = failure;
        }
        for durability in [Durability::Written, Durability::Flushed] {
            let reached = self.reached(durability);
            let mut waiters = self.level(durability).waiters.borrow_mut();
            let woken = if failed {
                std::mem::take(&mut *waiters)
            } else if waiters.first_key_value().is_none_or(|((position, _), _)| *position > reached) {
                BTreeMap::new()
            } else {
                let later = waiters.split_off(&(reached, u64::MAX));
                std::mem::replace(&mut *waiters, later)
            };
            drop(waiters);
            woken.into_values().for_each(|waiter| waiter.waker.wake());
        }
    }

    /// Wakes requests whose deadline has passed. Called by the shard's tick.
    pub fn on_tick(&self, now: MonotonicUs) {
        self.now.set(now);
        for level in [&self.written, &self.durable] {
            let waiters = level.waiters.borrow();
            waiters.values().filter(|waiter| waiter.deadline <= now).for_each(|waiter| waiter.waker.wake_by_ref());
        }
    }

    /// True when `position` is at its level already.
    pub fn is_reached(&self, durability: Durability, position: LogPosition) -> bool {
        position <= self.reached(durability)
    }

    /// Waits until `position` is at its level. `deadline` is noticed at a tick.
    pub async fn wait(
        &self,
        durability: Durability,
        position: LogPosition,
        deadline: MonotonicUs,
    ) -> Result<(), WaitError> {
        if self.is_reached(durability, position) {
            return Ok(());
        }
        let sequence = self.sequence.get();
        self.sequence.set(sequence + 1);
        let guard = WaiterGuard { level: self.level(durability), key: (position, sequence) };
        poll_fn(|cx| {
            if self.is_reached(durability, position) {
                return Poll::Ready(Ok(()));
            }
            if let Some(failure) = &*self.failure.borrow() {
                return Poll::Ready(Err(WaitError::Storage(failure.clone())));
            }
            if self.now.get() >= deadline {
                return Poll::Ready(Err(WaitError::TimedOut));
            }
            let waiter = Waiter { waker: cx.waker().clone(), deadline };
            guard.level.waiters.borrow_mut().insert(guard.key, waiter);
            Poll::Pending
        })
        .await
    }
}

/// Takes a waiter out of the table when its request goes away first.
struct WaiterGuard<'a, M> {
    level: &'a Level<M>,
    key: (LogPosition, u64),
}

impl<M> Drop for WaiterGuard<'_, M> {
    fn drop(&mut self) {
        self.level.waiters.borrow_mut().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SegmentNumber;
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    fn at(byte: u32) -> LogPosition {
        LogPosition { segment: SegmentNumber::new(1), byte }
    }

    fn progress(appended: u32, written: u32, durable: u32) -> Progress {
        Progress { appended: at(appended), written: at(written), durable: at(durable) }
    }

    const LATE: MonotonicUs = MonotonicUs::new(1_000_000);

    #[test]
    fn marks_complete_in_log_order_at_their_own_level() {
        let levels = Levels::new(progress(0, 0, 0));
        levels.mark(Durability::Written, at(10), "w10");
        levels.mark(Durability::Flushed, at(20), "d20");
        levels.mark(Durability::Written, at(30), "w30");
        let mut seen = Vec::new();
        levels.advance(progress(30, 30, 10), None, |mark| seen.push(mark));
        assert_eq!(seen, ["w10", "w30"]);
        levels.advance(progress(30, 30, 20), None, |mark| seen.push(mark));
        assert_eq!(seen, ["w10", "w30", "d20"]);
    }

    #[test]
    fn a_flushed_wait_ignores_what_is_only_written() {
        let levels = Levels::<()>::new(progress(10, 0, 0));
        let mut wait = pin!(levels.wait(Durability::Flushed, at(10), LATE));
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(wait.as_mut().poll(cx).is_pending());
        levels.advance(progress(10, 10, 9), None, |()| {});
        assert!(wait.as_mut().poll(cx).is_pending());
        levels.advance(progress(10, 10, 10), None, |()| {});
        assert!(matches!(wait.as_mut().poll(cx), Poll::Ready(Ok(()))));
    }

    #[test]
    fn a_failure_ends_every_wait_and_a_deadline_its_own() {
        let levels = Levels::<()>::new(progress(10, 0, 0));
        let cx = &mut Context::from_waker(Waker::noop());
        let mut short = pin!(levels.wait(Durability::Written, at(10), MonotonicUs::new(5)));
        let mut long = pin!(levels.wait(Durability::Written, at(10), LATE));
        assert!(short.as_mut().poll(cx).is_pending());
        assert!(long.as_mut().poll(cx).is_pending());
        levels.on_tick(MonotonicUs::new(6));
        assert!(matches!(short.as_mut().poll(cx), Poll::Ready(Err(WaitError::TimedOut))));
        assert!(long.as_mut().poll(cx).is_pending());
        let failure = StorageError::ReadOnly { operation: "write", cause: "EIO".into() };
        levels.advance(progress(10, 0, 0), Some(failure), |()| {});
        assert!(matches!(long.as_mut().poll(cx), Poll::Ready(Err(WaitError::Storage(_)))));
        assert!(levels.written.waiters.borrow().is_empty());
    }
}
