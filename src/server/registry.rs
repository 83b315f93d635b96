//! The connections of one shard as seen from outside: who is silent, who is slow, who must go.
//!
//! One core only. One coarse timer for all of them instead of one per read.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Waker};

use super::request_memory::{Class, Pressure};
use crate::limits::{
    CONNECTION_UNUSED_MS, GATHERING_LOOKS_MAX, HUNG_UP_SWEEPS_MAX, SILENT_SWEEPS_MAX, STALL_BYTES_MIN,
    STALL_SWEEPS_MAX, UNREAD_SWEEPS_MAX,
};

/// Why a connection is closed from outside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Order {
    /// Nothing was heard for too long.
    Idle,
    /// It holds memory that others wait for, and its request does not arrive.
    Stalled,
    /// Its answers, or requests behind them, hold memory that others wait for, and the peer does not take them.
    Unread,
    /// It never asked anything, and there are nearly as many connections as there may be.
    Unused,
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
    /// When it began.
    born_ms: Cell<u64>,
    /// A request came whole.
    has_asked: Cell<bool>,
    /// When bytes last moved, as of the sweep that saw it.
    active_ms: Cell<u64>,
    /// True while a request was applied and its answer is being waited for: such a connection is not idle.
    is_waiting: Cell<bool>,
    /// Which request holds memory while it is the peer's turn.
    arriving: Cell<Option<Class>>,
    /// True while the peer does not take what is sent.
    is_send_blocked: Cell<bool>,
    /// True while many bytes of answers stay behind one that is waited for.
    keeps_answers: Cell<bool>,
    /// True while nothing is received, so that nobody sees whether the peer is gone.
    is_deaf: Cell<bool>,
    /// The connection shall look whether it is.
    is_looked_after: Cell<bool>,
    /// It is, as far as the system knows: what it sent before may be still to be received.
    is_deserted: Cell<bool>,
    /// The system takes in what its peer sends, while its request waits.
    is_gathering: Cell<bool>,
    /// The connection shall look whether more of that is here.
    is_progress_asked: Cell<bool>,
    /// There was, when it looked.
    has_gathered: Cell<bool>,
    /// Looks in a row that found nothing more.
    gathered_nothing: Cell<u8>,
    /// Sweeps in a row for which others waited, and nothing moved.
    silent_sweeps: Cell<u8>,
    /// The same, and little moved.
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

    /// Notes a request.
    pub(super) fn on_request(&self) {
        self.has_asked.set(true);
    }

    /// True once a request came whole.
    pub(super) fn has_asked(&self) -> bool {
        self.has_asked.get()
    }

    /// Notes that the peer sends no more.
    pub(super) fn on_hung_up(&self) {
        self.is_hung_up.set(true);
    }

    /// True once after each full sweep that found it not receiving: it shall look whether its peer is still there.
    pub(super) fn is_looked_after(&self) -> bool {
        self.is_looked_after.take()
    }

    /// Notes that the peer is gone, though nothing is being received.
    pub(super) fn on_deserted(&self) {
        self.is_deserted.set(true);
    }

    /// True once after each look at those that gather: it shall see whether more of its request is here.
    pub(super) fn is_progress_asked(&self) -> bool {
        self.is_progress_asked.take()
    }

    /// Notes that more of its request is here.
    pub(super) fn on_gathered(&self) {
        self.has_gathered.set(true);
    }

    /// Notes what the connection is doing before it goes to sleep, and how to wake it.
    pub(super) fn on_pending(&self, context: &Context<'_>, doing: Doing) {
        self.is_waiting.set(doing.is_waiting);
        self.arriving.set(doing.arriving);
        self.is_send_blocked.set(doing.is_send_blocked);
        self.keeps_answers.set(doing.keeps_answers);
        self.is_deaf.set(doing.is_deaf);
        if doing.is_gathering && !self.is_gathering.get() {
            self.has_gathered.set(true);
        }
        self.is_gathering.set(doing.is_gathering);
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
    fn sweep(&self, sweep: &Sweep) -> Option<Order> {
        let moved = self.moved_bytes.take();
        if moved > 0 || self.is_waiting.get() {
            self.active_ms.set(sweep.now_ms);
        }
        if let Some(order) = self.is_in_the_way(moved, sweep.pressure) {
            return Some(order);
        }
        let age_ms = sweep.now_ms.saturating_sub(self.born_ms.get());
        if sweep.pressure.connections && !self.has_asked.get() && age_ms >= CONNECTION_UNUSED_MS {
            return Some(Order::Unused);
        }
        if !sweep.is_full {
            return None;
        }
        if self.is_hung_up.get() || (self.is_deserted.get() && self.is_deaf.get() && moved == 0) {
            self.hung_up_sweeps.set(self.hung_up_sweeps.get() + 1);
            if self.hung_up_sweeps.get() >= HUNG_UP_SWEEPS_MAX {
                return Some(Order::HungUp);
            }
        } else {
            // It goes on with what the peer left.
            self.hung_up_sweeps.set(0);
        }
        (sweep.now_ms.saturating_sub(self.active_ms.get()) >= sweep.idle_ms).then_some(Order::Idle)
    }

    /// True when nothing more was here of its request for too long.
    fn gathers_nothing(&self) -> bool {
        let looks = if self.has_gathered.take() { 0 } else { self.gathered_nothing.get().saturating_add(1) };
        self.gathered_nothing.set(looks);
        looks >= if self.has_asked.get() { GATHERING_LOOKS_MAX } else { SILENT_SWEEPS_MAX }
    }

    /// Counts the sweeps for which it held what others wait for and did not go on.
    fn is_in_the_way(&self, moved: u64, pressure: Pressure) -> Option<Order> {
        let is_pressed = match self.arriving.get() {
            Some(Class::Small) => pressure.arriving,
            Some(Class::Usual) => pressure.usual,
            Some(Class::Large) => pressure.large,
            Some(Class::Known) => pressure.known,
            None => false,
        };
        let is_unread = pressure.answers && (self.is_send_blocked.get() || self.keeps_answers.get());
        let count = |sweeps: &Cell<u8>, goes_on: bool| {
            sweeps.set(if goes_on { sweeps.get().saturating_add(1) } else { 0 });
            sweeps.get()
        };
        let silent = count(&self.silent_sweeps, (is_pressed || is_unread) && moved == 0);
        let stalled = count(&self.stalled_sweeps, is_pressed && moved < STALL_BYTES_MIN);
        if is_pressed && (silent >= SILENT_SWEEPS_MAX || stalled >= STALL_SWEEPS_MAX) {
            return Some(if self.is_send_blocked.get() { Order::Unread } else { Order::Stalled });
        }
        if pressure.answers && self.is_hung_up.get() {
            return Some(Order::HungUp);
        }
        (is_unread && silent >= UNREAD_SWEEPS_MAX).then_some(Order::Unread)
    }
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Doing {
    /// A request was applied and its answer is being waited for.
    pub(super) is_waiting: bool,
    /// A request holds memory and it is the peer's turn, to send more of it or to take what is before it.
    pub(super) arriving: Option<Class>,
    /// The peer does not take what is sent.
    pub(super) is_send_blocked: bool,
    /// At least `ANSWERS_KEPT_BYTES_MAX` of answers are ready, behind one that is waited for or on their way.
    pub(super) keeps_answers: bool,
    /// Nothing is received.
    pub(super) is_deaf: bool,
    /// The system takes in what the peer sends, while the request waits for memory.
    pub(super) is_gathering: bool,
}

/// One look at all connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sweep {
    /// When.
    pub(super) now_ms: u64,
    /// Silence after which a connection is idle.
    pub(super) idle_ms: u64,
    /// What others wait for.
    pub(super) pressure: Pressure,
    /// Looks for idle ones too; those that come between look only for who is in the way.
    pub(super) is_full: bool,
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
        watch.born_ms.set(now_ms);
        watch.active_ms.set(now_ms);
        self.watches.borrow_mut().insert(number, Rc::clone(&watch));
        (number, watch)
    }

    /// Takes a connection out.
    pub(super) fn remove(&self, number: u64) {
        let removed = self.watches.borrow_mut().remove(&number);
        assert!(removed.is_some());
    }

    /// Orders idle and stalled connections to close; lets those that do not receive look for their peers.
    pub(super) fn sweep(&self, sweep: &Sweep) {
        let mut orders = Vec::new();
        let mut deaf = Vec::new();
        for watch in self.watches.borrow().values() {
            if let Some(order) = watch.sweep(sweep) {
                orders.push((Rc::clone(watch), order));
            } else if sweep.is_full && watch.is_deaf.get() && !watch.is_deserted.get() {
                deaf.push(Rc::clone(watch));
            }
        }
        for (watch, order) in orders {
            watch.give(order);
        }
        for watch in deaf {
            watch.is_looked_after.set(true);
            watch.wake();
        }
    }

    /// Orders connections to close for which the system takes in requests of which nothing comes; lets the others look.
    pub(super) fn sweep_gathering(&self) {
        let gathering: Vec<Rc<Watch>> =
            self.watches.borrow().values().filter(|watch| watch.is_gathering.get()).cloned().collect();
        for watch in gathering {
            if watch.gathers_nothing() {
                watch.give(Order::Stalled);
            } else {
                watch.is_progress_asked.set(true);
                watch.wake();
            }
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

    fn pending(watch: &Watch, doing: Doing) {
        watch.on_pending(&Context::from_waker(Waker::noop()), doing);
    }

    fn look(registry: &Registry, now_ms: u64, pressure: Pressure) {
        registry.sweep(&Sweep { now_ms, idle_ms: 1000, pressure, is_full: true });
    }

    #[test]
    fn a_silent_connection_is_closed_and_a_waiting_one_is_not() {
        let registry = Registry::default();
        let (_, silent) = registry.add(0);
        let (_, waiting) = registry.add(0);
        let (_, talking) = registry.add(0);
        pending(&silent, Doing::default());
        pending(&waiting, Doing { is_waiting: true, ..Doing::default() });
        pending(&talking, Doing::default());
        talking.on_moved(1);
        look(&registry, 999, Pressure::default());
        assert_eq!(silent.order(), None);
        registry.sweep(&Sweep { now_ms: 1000, idle_ms: 1000, pressure: Pressure::default(), is_full: false });
        assert_eq!(silent.order(), None, "only a full look is for idle ones");
        look(&registry, 1000, Pressure::default());
        assert_eq!(silent.order(), Some(Order::Idle));
        assert_eq!(waiting.order(), None);
        assert_eq!(talking.order(), None);
        look(&registry, 1999, Pressure::default());
        assert_eq!(talking.order(), Some(Order::Idle));
        assert_eq!(waiting.order(), None);
    }

    /// Peers that connected and asked nothing kept all others out for ten minutes.
    #[test]
    fn connections_that_never_asked_make_room_when_there_are_too_many() {
        let registry = Registry::default();
        let (_, unused) = registry.add(0);
        let (_, asked) = registry.add(0);
        let (_, young) = registry.add(CONNECTION_UNUSED_MS - 1);
        asked.on_request();
        let pressure = Pressure { connections: true, ..Pressure::default() };
        let look = |now_ms, pressure| {
            registry.sweep(&Sweep { now_ms, idle_ms: 1_000_000, pressure, is_full: false });
            [&unused, &asked, &young].map(|watch| watch.order())
        };
        assert_eq!(look(CONNECTION_UNUSED_MS, Pressure::default()), [None; 3]);
        assert_eq!(look(CONNECTION_UNUSED_MS - 1, pressure), [None; 3]);
        assert_eq!(look(CONNECTION_UNUSED_MS, pressure), [Some(Order::Unused), None, None]);
    }

    #[test]
    fn a_half_sent_request_is_let_go_only_while_others_wait_for_its_memory() {
        let registry = Registry::default();
        let add = |class| {
            let (_, watch) = registry.add(0);
            pending(&watch, Doing { arriving: Some(class), ..Doing::default() });
            watch
        };
        let (silent, slow, fast) = (add(Class::Large), add(Class::Large), add(Class::Large));
        let (known, small, usual) = (add(Class::Known), add(Class::Small), add(Class::Usual));
        let pressure = Pressure { large: true, ..Pressure::default() };
        let sweep = |pressure| {
            slow.on_moved(1);
            fast.on_moved(1 << 20);
            look(&registry, 1, pressure);
        };
        for _ in 0..100 {
            sweep(Pressure::default());
        }
        for _ in 1..SILENT_SWEEPS_MAX {
            sweep(pressure);
        }
        assert_eq!(silent.order(), None);
        sweep(pressure);
        assert_eq!(silent.order(), Some(Order::Stalled));
        assert_eq!(slow.order(), None);
        for _ in SILENT_SWEEPS_MAX..STALL_SWEEPS_MAX {
            sweep(pressure);
        }
        assert_eq!(slow.order(), Some(Order::Stalled));
        assert_eq!([&fast, &known, &small, &usual].map(|watch| watch.order()), [None; 4]);
        for _ in 0..SILENT_SWEEPS_MAX {
            sweep(Pressure { known: true, arriving: true, usual: true, ..Pressure::default() });
        }
        assert_eq!([&known, &small, &usual].map(|watch| watch.order()), [Some(Order::Stalled); 3]);
        assert_eq!(fast.order(), None);
    }

    #[test]
    fn what_the_system_takes_in_is_let_go_when_nothing_more_of_it_comes() {
        let registry = Registry::default();
        let add = |is_gathering| {
            let (_, watch) = registry.add(0);
            pending(&watch, Doing { is_gathering, ..Doing::default() });
            watch
        };
        let (silent, slow, other) = (add(true), add(true), add(false));
        // It only began at the first.
        for round in 0..=SILENT_SWEEPS_MAX {
            assert_eq!(silent.order(), None);
            registry.sweep_gathering();
            assert_eq!(
                [&silent, &slow, &other].map(|watch| watch.is_progress_asked()),
                [round < SILENT_SWEEPS_MAX, true, false]
            );
            slow.on_gathered();
            for watch in [&silent, &slow] {
                pending(watch, Doing { is_gathering: true, ..Doing::default() });
            }
        }
        assert_eq!([&silent, &slow, &other].map(|watch| watch.order()), [Some(Order::Stalled), None, None]);
    }

    #[test]
    fn who_does_not_take_its_answers_is_let_go_while_others_wait_for_their_memory() {
        let registry = Registry::default();
        let (_, unread) = registry.add(0);
        let (_, slow) = registry.add(0);
        for watch in [&unread, &slow] {
            pending(watch, Doing { is_waiting: true, is_send_blocked: true, ..Doing::default() });
        }
        let pressure = Pressure { answers: true, ..Pressure::default() };
        for round in 0..2 * UNREAD_SWEEPS_MAX {
            look(&registry, 1, if round < UNREAD_SWEEPS_MAX { Pressure::default() } else { pressure });
            assert_eq!(unread.order().is_some(), round + 1 == 2 * UNREAD_SWEEPS_MAX, "round {round}");
            slow.on_moved(1);
        }
        assert_eq!((unread.order(), slow.order()), (Some(Order::Unread), None));
        // One who sends no more is most likely gone.
        slow.on_hung_up();
        look(&registry, 1, pressure);
        assert_eq!(slow.order(), Some(Order::HungUp));
    }

    #[test]
    fn answers_that_are_kept_behind_one_waited_for_are_let_go_while_others_wait_for_their_memory() {
        let registry = Registry::default();
        let (_, keeps) = registry.add(0);
        let (_, waits) = registry.add(0);
        pending(&keeps, Doing { is_waiting: true, keeps_answers: true, is_deaf: true, ..Doing::default() });
        pending(&waits, Doing { is_waiting: true, is_deaf: true, ..Doing::default() });
        for round in 0..2 * UNREAD_SWEEPS_MAX {
            look(&registry, 1, Pressure { answers: round >= UNREAD_SWEEPS_MAX, ..Pressure::default() });
            assert_eq!(keeps.order().is_some(), round + 1 == 2 * UNREAD_SWEEPS_MAX, "round {round}");
        }
        assert_eq!((keeps.order(), waits.order()), (Some(Order::Unread), None));
    }

    #[test]
    fn who_does_not_receive_looks_for_its_peer_and_goes_when_it_is_gone_and_nothing_moves() {
        let registry = Registry::default();
        let (_, deaf) = registry.add(0);
        let (_, hears) = registry.add(0);
        pending(&deaf, Doing { is_waiting: true, is_deaf: true, ..Doing::default() });
        pending(&hears, Doing { is_waiting: true, ..Doing::default() });
        look(&registry, 1, Pressure::default());
        assert_eq!((deaf.is_looked_after(), hears.is_looked_after()), (true, false));
        assert!(!deaf.is_looked_after(), "once for each look");
        deaf.on_deserted();
        for round in 0..3 * HUNG_UP_SWEEPS_MAX - 1 {
            if round < 2 * HUNG_UP_SWEEPS_MAX && round % 2 == 0 {
                // What the peer sent before it went is still applied.
                deaf.on_moved(1);
            }
            assert_eq!(deaf.order(), None, "round {round}");
            look(&registry, 1, Pressure::default());
        }
        assert_eq!((deaf.order(), hears.order()), (Some(Order::HungUp), None));
    }
}
