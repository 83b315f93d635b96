//! The waiting room of one shard for fetches that are short of `min_bytes`.
//!
//! Holds requests, never data: a fetch that is woken reads again. One per shard, touched only by that shard's core.
//! Invariant: a waiter is woken by the append that satisfies it or by its deadline, and reads again exactly then.
//!
//! What a waiting fetch takes grows with its partitions, so those are counted, wherever they live, and there is a number of
//! them at which the room is full.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::limits::FETCH_WAITING_PARTITION_BYTES;
use crate::types::MonotonicUs;

/// One waiting fetch, known to every partition that it reads.
#[derive(Debug)]
pub struct FetchWaiter {
    needed_bytes: Cell<i64>,
    waker: RefCell<Option<Waker>>,
}

impl FetchWaiter {
    fn is_satisfied(&self) -> bool {
        self.needed_bytes.get() <= 0
    }

    fn on_visible(&self, bytes: i64) {
        self.needed_bytes.set(self.needed_bytes.get().saturating_sub(bytes));
        if self.is_satisfied()
            && !cfg!(corelane_defect = "fetch_wakes_nobody")
            && let Some(waker) = self.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }
}

/// The fetches that wait for one partition.
#[derive(Debug, Default)]
pub struct Watchers {
    waiters: RefCell<BTreeMap<u64, Rc<FetchWaiter>>>,
}

impl Watchers {
    /// `bytes` of records became visible to consumers: counts for everyone who waits here.
    pub fn on_visible(&self, bytes: i64) {
        for waiter in self.waiters.borrow().values() {
            waiter.on_visible(bytes);
        }
    }

    /// Something else happened that a waiting fetch must see at once: an error, a deletion, a moved log start.
    pub fn on_event(&self) {
        self.on_visible(i64::MAX);
    }
}

/// All waiting fetches of a shard, by deadline.
#[derive(Debug)]
pub struct Purgatory {
    by_deadline: RefCell<BTreeMap<(MonotonicUs, u64), Rc<FetchWaiter>>>,
    now: Cell<MonotonicUs>,
    sequence: Cell<u64>,
    /// Partitions of all waiting fetches, each as often as a fetch waits for it.
    partitions: Cell<usize>,
    partitions_max: usize,
}

impl Purgatory {
    /// An empty room, full when the fetches in it take `bytes_max`.
    pub fn new(bytes_max: usize) -> Purgatory {
        Purgatory {
            by_deadline: RefCell::default(),
            now: Cell::default(),
            sequence: Cell::default(),
            partitions: Cell::default(),
            partitions_max: (bytes_max / FETCH_WAITING_PARTITION_BYTES).max(1),
        }
    }

    /// True when no further fetch should enter.
    pub fn is_full(&self) -> bool {
        self.partitions.get() >= self.partitions_max
    }

    /// About how much memory the fetches take that wait, in bytes.
    pub fn bytes(&self) -> usize {
        self.partitions.get() * FETCH_WAITING_PARTITION_BYTES
    }

    /// Number of fetches that wait now.
    pub fn len(&self) -> usize {
        self.by_deadline.borrow().len()
    }

    /// True when no fetch waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Wakes the fetches whose time is over. Called by the shard's tick.
    pub fn on_tick(&self, now: MonotonicUs) {
        self.now.set(now);
        for ((deadline, _), waiter) in self.by_deadline.borrow().iter() {
            if *deadline > now {
                break;
            }
            if let Some(waker) = waiter.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    /// Enters a fetch of so many `partitions` at those of them that it watches here. It must look at the data once more after entering and before
    /// waiting, or it may sleep through an append in between; on one core, without an await in between, it cannot.
    pub fn enter<P: AsRef<Watchers>>(
        self: &Rc<Self>,
        needed_bytes: i64,
        deadline: MonotonicUs,
        partitions: usize,
        watched: Vec<Rc<P>>,
    ) -> Wait<P> {
        let id = self.sequence.get();
        self.sequence.set(id + 1);
        let waiter = Rc::new(FetchWaiter { needed_bytes: Cell::new(needed_bytes), waker: RefCell::new(None) });
        for watchers in &watched {
            watchers.as_ref().as_ref().waiters.borrow_mut().insert(id, Rc::clone(&waiter));
        }
        self.by_deadline.borrow_mut().insert((deadline, id), Rc::clone(&waiter));
        self.partitions.set(self.partitions.get() + partitions);
        Wait { purgatory: Rc::clone(self), waiter, id, deadline, partitions, watched }
    }
}

/// A fetch's place in the waiting room; leaving it on drop.
pub struct Wait<P: AsRef<Watchers>> {
    purgatory: Rc<Purgatory>,
    waiter: Rc<FetchWaiter>,
    id: u64,
    deadline: MonotonicUs,
    partitions: usize,
    watched: Vec<Rc<P>>,
}

impl<P: AsRef<Watchers>> Wait<P> {
    /// Ends when enough bytes became visible (true) or at the deadline (false).
    pub async fn satisfied(&self) -> bool {
        poll_fn(|cx| {
            if self.waiter.is_satisfied() {
                return Poll::Ready(true);
            }
            if self.purgatory.now.get() >= self.deadline {
                return Poll::Ready(false);
            }
            *self.waiter.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl<P: AsRef<Watchers>> Drop for Wait<P> {
    fn drop(&mut self) {
        self.purgatory.partitions.set(self.purgatory.partitions.get() - self.partitions);
        for watchers in &self.watched {
            watchers.as_ref().as_ref().waiters.borrow_mut().remove(&self.id);
        }
        self.purgatory.by_deadline.borrow_mut().remove(&(self.deadline, self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    struct Watched(Watchers);

    impl AsRef<Watchers> for Watched {
        fn as_ref(&self) -> &Watchers {
            &self.0
        }
    }

    fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_fetch_waits_until_enough_bytes_are_visible() {
        let purgatory = Rc::new(Purgatory::new(1000));
        let partition = Rc::new(Watched(Watchers::default()));
        let wait = purgatory.enter(100, MonotonicUs::new(50), 1, vec![Rc::clone(&partition)]);
        {
            let mut satisfied = pin!(wait.satisfied());
            assert!(poll_once(satisfied.as_mut()).is_pending());
            partition.0.on_visible(60);
            assert!(poll_once(satisfied.as_mut()).is_pending());
            partition.0.on_visible(40);
            assert_eq!(poll_once(satisfied.as_mut()), Poll::Ready(true));
        }
        drop(wait);
        assert!(purgatory.is_empty());
        assert!(partition.0.waiters.borrow().is_empty());
    }

    #[test]
    fn a_deadline_ends_the_wait() {
        let purgatory = Rc::new(Purgatory::new(1000));
        let wait = purgatory.enter::<Watched>(1, MonotonicUs::new(50), 0, Vec::new());
        let mut satisfied = pin!(wait.satisfied());
        assert!(poll_once(satisfied.as_mut()).is_pending());
        purgatory.on_tick(MonotonicUs::new(49));
        assert!(poll_once(satisfied.as_mut()).is_pending());
        purgatory.on_tick(MonotonicUs::new(50));
        assert_eq!(poll_once(satisfied.as_mut()), Poll::Ready(false));
    }

    #[test]
    fn the_room_is_full_at_its_number_of_partitions_and_empties() {
        let purgatory = Rc::new(Purgatory::new(5 * FETCH_WAITING_PARTITION_BYTES));
        let watched: Vec<_> = (0..3).map(|_| Rc::new(Watched(Watchers::default()))).collect();
        let first = purgatory.enter(1, MonotonicUs::new(50), 3, watched);
        assert_eq!((purgatory.is_full(), purgatory.bytes()), (false, 3 * FETCH_WAITING_PARTITION_BYTES));
        // All of them on other shards.
        let second = purgatory.enter::<Watched>(1, MonotonicUs::new(50), 3, Vec::new());
        assert_eq!((purgatory.is_full(), purgatory.bytes()), (true, 6 * FETCH_WAITING_PARTITION_BYTES));
        drop(first);
        assert!(!purgatory.is_full());
        drop(second);
        assert_eq!(purgatory.bytes(), 0);
    }
}
