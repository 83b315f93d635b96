//! The connections of one shard as seen from outside: who is silent, who is slow, who must go.
//!
//! One core only. One coarse timer for all of them instead of one per read.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Waker};

use crate::limits::{HUNG_UP_SWEEPS_MAX, STALL_BYTES_MIN, STALL_SWEEPS_MAX};

/// Why a connection is closed from outside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Order {
    /// Nothing was heard for too long.
    Idle,
    /// It holds memory that others wait for, and its request does not arrive.
    Stalled,
    /// The peer sends no more, and its answers do not come.
    HungUp,
    /// The shard stops and waits no longer.
    Stop,
}

/// What a connection tells about itself, and what it is told.
#[derive(Default)]
pub(super) struct Watch {
    waker: RefCell<Option<Waker>>,
    order: Cell<Option<Order>>,
    /// Bytes received and sent since the last sweep.
    moved_bytes: Cell<u64>,
    /// When bytes last moved, as of the sweep that saw it.
    active_ms: Cell<u64>,
    /// True while a request was applied and its answer is being waited for: such a connection is not idle.
    is_waiting: Cell<bool>,
    /// True while a request holds memory and it is the peer's turn to send more of it.
    is_arriving: Cell<bool>,
    stalled_sweeps: Cell<u8>,
    /// True once the peer sends no more. Most are gone for good, a few still take their answers.
    is_hung_up: Cell<bool>,
    hung_up_sweeps: Cell<u8>,
}

impl Watch {
    /// Notes traffic.
    pub(super) fn on_moved(&self, bytes: usize) {
        self.moved_bytes.set(self.moved_bytes.get() + u64::try_from(bytes).expect("a size in memory fits 64 bits"));
    }

    /// Notes that the peer sends no more.
    pub(super) fn on_hung_up(&self) {
        self.is_hung_up.set(true);
    }

    /// Notes what the connection is doing before it goes to sleep, and how to wake it.
    pub(super) fn on_pending(&self, context: &Context<'_>, is_waiting: bool, is_arriving: bool) {
        self.is_waiting.set(is_waiting);
        self.is_arriving.set(is_arriving);
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => *waker = Some(context.waker().clone()),
        }
    }

    /// The order to close, if one was given.
    pub(super) fn order(&self) -> Option<Order> {
        self.order.get()
    }

    fn give(&self, order: Order) {
        self.order.set(Some(order));
        self.wake();
    }

    fn wake(&self) {
        // Cloned, so that no borrow is held while foreign code runs.
        let waker = self.waker.borrow().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Judges the time since the last sweep; the order to give, if any.
    fn sweep(&self, now_ms: u64, idle_ms: u64, is_contended: bool) -> Option<Order> {
        let moved = self.moved_bytes.take();
        if moved > 0 || self.is_waiting.get() {
            self.active_ms.set(now_ms);
        }
        let is_stalling = is_contended && self.is_arriving.get() && moved < STALL_BYTES_MIN;
        self.stalled_sweeps.set(if is_stalling { self.stalled_sweeps.get() + 1 } else { 0 });
        if self.stalled_sweeps.get() == STALL_SWEEPS_MAX {
            self.stalled_sweeps.set(0);
            return Some(Order::Stalled);
        }
        if self.is_hung_up.get() {
            self.hung_up_sweeps.set(self.hung_up_sweeps.get() + 1);
            if self.hung_up_sweeps.get() >= HUNG_UP_SWEEPS_MAX {
                return Some(Order::HungUp);
            }
        }
        (now_ms.saturating_sub(self.active_ms.get()) >= idle_ms).then_some(Order::Idle)
    }
}

/// All connections of a shard.
#[derive(Default)]
pub(super) struct Registry {
    watches: RefCell<BTreeMap<u64, Rc<Watch>>>,
    next: Cell<u64>,
}

impl Registry {
    /// Connections in it.
    pub(super) fn len(&self) -> usize {
        self.watches.borrow().len()
    }

    /// Adds a connection that begins now; its number takes it out again.
    pub(super) fn add(&self, now_ms: u64) -> (u64, Rc<Watch>) {
        let number = self.next.get();
        self.next.set(number + 1);
        let watch = Rc::new(Watch::default());
        watch.active_ms.set(now_ms);
        self.watches.borrow_mut().insert(number, Rc::clone(&watch));
        (number, watch)
    }

    /// Takes a connection out.
    pub(super) fn remove(&self, number: u64) {
        let removed = self.watches.borrow_mut().remove(&number);
        assert!(removed.is_some());
    }

    /// Orders idle and stalled connections to close.
    pub(super) fn sweep(&self, now_ms: u64, idle_ms: u64, is_contended: bool) {
        let mut orders = Vec::new();
        for watch in self.watches.borrow().values() {
            let order = watch.sweep(now_ms, idle_ms, is_contended);
            orders.extend(order.map(|order| (Rc::clone(watch), order)));
        }
        for (watch, order) in orders {
            watch.give(order);
        }
    }

    /// Lets every connection look at the world again.
    pub(super) fn wake_all(&self) {
        for watch in self.all() {
            watch.wake();
        }
    }

    /// Orders every connection to close.
    pub(super) fn close_all(&self) {
        for watch in self.all() {
            watch.give(Order::Stop);
        }
    }

    /// A copy, so that no borrow is held while wakers run. Bounded by the number of connections.
    fn all(&self) -> Vec<Rc<Watch>> {
        self.watches.borrow().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(watch: &Watch, is_waiting: bool, is_arriving: bool) {
        watch.on_pending(&Context::from_waker(Waker::noop()), is_waiting, is_arriving);
    }

    #[test]
    fn a_silent_connection_is_closed_and_a_waiting_one_is_not() {
        let registry = Registry::default();
        let (_, silent) = registry.add(0);
        let (_, waiting) = registry.add(0);
        let (_, talking) = registry.add(0);
        pending(&silent, false, false);
        pending(&waiting, true, false);
        pending(&talking, false, false);
        talking.on_moved(1);
        registry.sweep(999, 1000, false);
        assert_eq!(silent.order(), None);
        registry.sweep(1000, 1000, false);
        assert_eq!(silent.order(), Some(Order::Idle));
        assert_eq!(waiting.order(), None);
        assert_eq!(talking.order(), None);
        registry.sweep(1999, 1000, false);
        assert_eq!(talking.order(), Some(Order::Idle));
        assert_eq!(waiting.order(), None);
    }

    #[test]
    fn a_slow_request_is_closed_only_while_others_wait_for_its_memory() {
        let registry = Registry::default();
        let (_, slow) = registry.add(0);
        let (_, fast) = registry.add(0);
        pending(&slow, false, true);
        pending(&fast, false, true);
        let sweep = |contended| {
            slow.on_moved(1);
            fast.on_moved(1 << 20);
            registry.sweep(1, 1_000_000, contended);
        };
        for _ in 0..20 {
            sweep(false);
        }
        for _ in 1..STALL_SWEEPS_MAX {
            sweep(true);
        }
        assert_eq!(slow.order(), None);
        sweep(true);
        assert_eq!(slow.order(), Some(Order::Stalled));
        assert_eq!(fast.order(), None);
    }
}
