//! A single-threaded executor whose every choice comes from a seed, with a clock of its own.
//!
//! Among the runnable tasks the next one is drawn at random. A poll takes a few drawn microseconds of virtual time, so
//! that disks complete and timers fire also while tasks are runnable; when none is, the clock jumps to the next event.
//! Some spawned tasks are polled before `spawn` returns, and some timers are over at their first poll.
//! Knows nothing of disks: what happens at a time is a closure.
//!
//! Invariant: nothing here depends on addresses, hash order or real time.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::random::Random;
use super::trace::Trace;

/// A sleeper wakes up to this many microseconds late, as under a real executor.
const SLEEP_LATE_US_MAX: u64 = 50;

/// One spawned task in so many is polled before `spawn` returns.
const SPAWNS_PER_EAGER_ONE: u64 = 16;

/// One timer in so many is over at its first poll: the machine gave the core to somebody else between the two.
const SLEEPS_PER_OVERSLEPT_ONE: u64 = 16;

type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;
type TaskId = u64;
type Action = Box<dyn FnOnce()>;

/// When an event is due, and a number that tells events of one moment apart.
type EventKey = (u64, u64);

/// What one step did.
pub(super) enum Step {
    /// A task was polled or an event happened.
    Ran,
    /// Nothing is runnable and nothing is due, ever.
    Stuck,
    /// A task panicked with this message.
    Panicked(String),
}

/// The executor of one life of the simulated process. Clones are the same executor.
#[derive(Clone)]
pub(super) struct Executor {
    core: Rc<Core>,
}

struct Core {
    tasks: RefCell<BTreeMap<TaskId, TaskFuture>>,
    ready: Arc<Ready>,
    yielded: RefCell<Vec<Yielded>>,
    events: RefCell<BTreeMap<EventKey, Action>>,
    now_us: Cell<u64>,
    task_next: Cell<TaskId>,
    event_next: Cell<u64>,
    current: Cell<Option<TaskId>>,
    /// The panic of a task that was polled within another one's poll.
    panicked_within: RefCell<Option<String>>,
    ended: Cell<bool>,
    poll_us_max: u64,
    overslept_us_max: u64,
    random: RefCell<Random>,
    trace: Trace,
}

/// A task that gave way: it goes on when all that were runnable at that moment have run once.
struct Yielded {
    task: TaskId,
    waker: Waker,
    before: BTreeSet<TaskId>,
}

impl Executor {
    /// An executor without tasks whose clock stands at `now_us`. A poll takes up to `poll_us_max`; timers up to
    /// `overslept_us_max` may be over at their first poll.
    pub(super) fn new(
        random: Random,
        now_us: u64,
        (poll_us_max, overslept_us_max): (u64, u64),
        trace: Trace,
    ) -> Executor {
        trace.set_now(now_us);
        let core = Core {
            tasks: RefCell::new(BTreeMap::new()),
            ready: Arc::new(Ready::default()),
            yielded: RefCell::new(Vec::new()),
            events: RefCell::new(BTreeMap::new()),
            now_us: Cell::new(now_us),
            task_next: Cell::new(0),
            event_next: Cell::new(0),
            current: Cell::new(None),
            panicked_within: RefCell::new(None),
            ended: Cell::new(false),
            poll_us_max,
            overslept_us_max,
            random: RefCell::new(random),
            trace,
        };
        Executor { core: Rc::new(core) }
    }

    /// Virtual time in microseconds.
    pub(super) fn now_us(&self) -> u64 {
        self.core.now_us.get()
    }

    /// Adds a task; polls it at once now and then, within whatever the caller has borrowed. After the end of the life it is
    /// dropped unpolled: destructors may spawn.
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        if self.core.ended.get() {
            return;
        }
        let task = self.core.task_next.replace(self.core.task_next.get() + 1);
        self.core.tasks.borrow_mut().insert(task, Box::pin(future));
        let is_eager = self.core.current.get().is_some() && self.one_in(SPAWNS_PER_EAGER_ONE);
        if !is_eager {
            self.core.ready.push(task);
            return;
        }
        if let Step::Panicked(message) = self.poll(task) {
            self.core.panicked_within.borrow_mut().get_or_insert(message);
        }
    }

    fn one_in(&self, count: u64) -> bool {
        self.core.random.borrow_mut().below(count) == 0
    }

    /// Runs `action` when the clock reaches `at_us`. After the end of the life it is dropped.
    pub(super) fn at(&self, at_us: u64, action: impl FnOnce() + 'static) -> EventKey {
        let key = (at_us, self.core.event_next.replace(self.core.event_next.get() + 1));
        if !self.core.ended.get() {
            self.core.events.borrow_mut().insert(key, Box::new(action));
        }
        key
    }

    /// Ends `duration` after the call, or a little later.
    pub(super) fn sleep(&self, duration: Duration) -> Sleep {
        let late_us = self.core.random.borrow_mut().below(SLEEP_LATE_US_MAX + 1);
        let duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 2);
        let deadline_us = self.now_us().saturating_add(duration_us).saturating_add(late_us);
        let is_overslept = duration_us <= self.core.overslept_us_max && self.one_in(SLEEPS_PER_OVERSLEPT_ONE);
        Sleep { executor: self.clone(), deadline_us, is_overslept, event: None, waker: Rc::new(RefCell::new(None)) }
    }

    /// Lets every task that is runnable now run once.
    pub(super) fn yield_now(&self) -> YieldNow {
        YieldNow { executor: self.clone(), yielded: false }
    }

    /// Does one thing: makes one event happen, or polls one runnable task. A caller may look at the world in between.
    pub(super) fn step(&self) -> Step {
        let due_us = self.core.events.borrow().keys().next().map(|&(at_us, _)| at_us);
        if due_us.is_some_and(|at_us| at_us <= self.now_us()) {
            self.happen_next();
            return Step::Ran;
        }
        let chosen = self.core.ready.take(&mut self.core.random.borrow_mut());
        if let Some(task) = chosen {
            return self.poll(task);
        }
        match due_us {
            Some(at_us) => {
                self.set_now(at_us);
                self.happen_next();
                Step::Ran
            }
            None => Step::Stuck,
        }
    }

    /// Ends the life: drops all tasks and events where they stand. A panic of a destructor is returned.
    pub(super) fn end(&self) -> Result<(), String> {
        self.core.ended.set(true);
        let tasks = std::mem::take(&mut *self.core.tasks.borrow_mut());
        let events = std::mem::take(&mut *self.core.events.borrow_mut());
        let yielded = std::mem::take(&mut *self.core.yielded.borrow_mut());
        let mut result = Ok(());
        for (_, task) in tasks {
            result = result.and(guarded(|| drop(task)));
        }
        for (_, event) in events {
            result = result.and(guarded(|| drop(event)));
        }
        drop(yielded);
        result
    }

    fn happen_next(&self) {
        let first = self.core.events.borrow_mut().pop_first();
        if let Some((_, action)) = first {
            action();
        }
    }

    fn poll(&self, task: TaskId) -> Step {
        let Some(mut future) = self.core.tasks.borrow_mut().remove(&task) else {
            // Woken after it ended. Those that gave way to it must not wait for ever.
            self.release_yielded(task);
            return Step::Ran;
        };
        self.core.trace.add_quietly("poll", [task, 0, 0]);
        let waker = Waker::from(Arc::new(TaskWaker { task, ready: Arc::clone(&self.core.ready) }));
        // Set while a task within this one's poll is polled, and back again.
        let polled_by = self.core.current.replace(Some(task));
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker))));
        self.core.current.set(polled_by);
        let step = match polled {
            Ok(Poll::Ready(())) => match guarded(|| drop(future)) {
                Ok(()) => Step::Ran,
                Err(message) => Step::Panicked(message),
            },
            Ok(Poll::Pending) => {
                self.core.tasks.borrow_mut().insert(task, future);
                Step::Ran
            }
            Err(payload) => {
                self.core.tasks.borrow_mut().insert(task, future);
                Step::Panicked(panic_message(payload.as_ref()))
            }
        };
        self.release_yielded(task);
        let cost_us = self.core.random.borrow_mut().below(self.core.poll_us_max + 1);
        self.set_now(self.now_us() + cost_us);
        match self.core.panicked_within.take() {
            Some(message) if polled_by.is_none() => Step::Panicked(message),
            within => {
                *self.core.panicked_within.borrow_mut() = within;
                step
            }
        }
    }

    /// `task` has run: those that waited only for it are runnable again.
    fn release_yielded(&self, task: TaskId) {
        let mut yielded = self.core.yielded.borrow_mut();
        yielded.retain_mut(|waiting| {
            waiting.before.remove(&task);
            if waiting.before.is_empty() {
                waiting.waker.wake_by_ref();
            }
            !waiting.before.is_empty()
        });
    }

    fn set_now(&self, now_us: u64) {
        assert!(now_us >= self.now_us());
        self.core.now_us.set(now_us);
        self.core.trace.set_now(now_us);
    }
}

/// Runs something that may panic and gives the message if it does.
fn guarded(act: impl FnOnce()) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(act)).map_err(|payload| panic_message(payload.as_ref()))
}

/// The text of a panic.
pub(super) fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_string()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without text".to_string()
    }
}

/// The runnable tasks. Behind a mutex because wakers must be `Send`; there is one thread all the same.
#[derive(Default)]
struct Ready {
    tasks: Mutex<ReadyTasks>,
}

#[derive(Default)]
struct ReadyTasks {
    list: Vec<TaskId>,
    members: HashSet<TaskId>,
}

impl Ready {
    fn push(&self, task: TaskId) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.members.insert(task) {
            tasks.list.push(task);
        }
    }

    /// Removes a random one.
    fn take(&self, random: &mut Random) -> Option<TaskId> {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.list.is_empty() {
            return None;
        }
        let index = random.index(tasks.list.len());
        let task = tasks.list.swap_remove(index);
        tasks.members.remove(&task);
        Some(task)
    }

    fn all(&self) -> BTreeSet<TaskId> {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.list.iter().copied().collect()
    }
}

struct TaskWaker {
    task: TaskId,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.push(self.task);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.push(self.task);
    }
}

/// See [`Executor::sleep`].
pub(super) struct Sleep {
    executor: Executor,
    deadline_us: u64,
    /// The clock has passed the deadline at the first poll.
    is_overslept: bool,
    event: Option<EventKey>,
    waker: Rc<RefCell<Option<Waker>>>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.is_overslept && self.event.is_none() {
            self.executor.set_now(self.executor.now_us().max(self.deadline_us));
        }
        if self.executor.now_us() >= self.deadline_us {
            return Poll::Ready(());
        }
        *self.waker.borrow_mut() = Some(context.waker().clone());
        if self.event.is_none() {
            let waker = Rc::clone(&self.waker);
            let wake = move || {
                if let Some(waker) = waker.borrow_mut().take() {
                    waker.wake();
                }
            };
            self.event = Some(self.executor.at(self.deadline_us, wake));
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    /// A timer that nobody waits for must not move the clock.
    fn drop(&mut self) {
        if let Some(key) = self.event {
            let event = self.executor.core.events.borrow_mut().remove(&key);
            drop(event);
        }
    }
}

/// See [`Executor::yield_now`].
pub(super) struct YieldNow {
    executor: Executor,
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        let core = &self.executor.core;
        let task = core.current.get().expect("a future of this executor is polled by one of its tasks");
        // Those that gave way earlier count as runnable: among them the order is first come, first served.
        let mut before = core.ready.all();
        before.extend(core.yielded.borrow().iter().map(|earlier| earlier.task));
        before.remove(&task);
        if before.is_empty() {
            context.waker().wake_by_ref();
        } else {
            core.yielded.borrow_mut().push(Yielded { task, waker: context.waker().clone(), before });
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executor(seed: u64) -> Executor {
        Executor::new(Random::new(seed), 0, (5, 20_000), Trace::new())
    }

    fn run(executor: &Executor) {
        loop {
            match executor.step() {
                Step::Ran => {}
                Step::Stuck => return,
                Step::Panicked(message) => panic!("{message}"),
            }
        }
    }

    fn order_of_eight(seed: u64) -> Vec<u32> {
        let executor = executor(seed);
        let order = Rc::new(RefCell::new(Vec::new()));
        for task in 0..8 {
            let order = Rc::clone(&order);
            executor.spawn(async move { order.borrow_mut().push(task) });
        }
        run(&executor);
        order.take()
    }

    #[test]
    fn order_of_tasks_follows_the_seed() {
        assert_eq!(order_of_eight(1), order_of_eight(1));
        assert!((2..20).any(|seed| order_of_eight(seed) != order_of_eight(1)));
    }

    #[test]
    fn a_spawned_task_is_polled_before_spawn_returns_or_later() {
        let ran_at_once = |seed| {
            let executor = executor(seed);
            let (inner, at_once) = (executor.clone(), Rc::new(Cell::new(false)));
            let seen = Rc::clone(&at_once);
            executor.spawn(async move {
                let ran = Rc::new(Cell::new(false));
                let runs = Rc::clone(&ran);
                inner.spawn(async move { runs.set(true) });
                seen.set(ran.get());
            });
            run(&executor);
            at_once.get()
        };
        let at_once = (0..1000).filter(|seed| ran_at_once(*seed)).count();
        assert!((20..200).contains(&at_once), "{at_once} of 1,000");
    }

    #[test]
    fn a_timer_is_over_at_its_first_poll_or_later() {
        let over_at_once = |seed| {
            let executor = executor(seed);
            let (inner, at_once) = (executor.clone(), Rc::new(Cell::new(false)));
            let seen = Rc::clone(&at_once);
            executor.spawn(async move {
                let mut sleep = Box::pin(inner.sleep(Duration::from_millis(1)));
                let first = std::future::poll_fn(|context| Poll::Ready(sleep.as_mut().poll(context))).await;
                assert_eq!(first.is_ready(), inner.now_us() >= 1000);
                seen.set(first.is_ready());
            });
            run(&executor);
            at_once.get()
        };
        let at_once = (0..1000).filter(|seed| over_at_once(*seed)).count();
        assert!((20..200).contains(&at_once), "{at_once} of 1,000");
    }

    #[test]
    fn a_panic_of_a_task_that_is_polled_at_once_is_reported_and_its_spawner_goes_on() {
        for seed in 0..100 {
            let executor = executor(seed);
            let inner = executor.clone();
            executor.spawn(async move { inner.spawn(async { panic!("within") }) });
            let mut message = None;
            while message.is_none() {
                match executor.step() {
                    Step::Ran => {}
                    Step::Stuck => panic!("the panic got lost, seed {seed}"),
                    Step::Panicked(text) => message = Some(text),
                }
            }
            assert_eq!(message.as_deref(), Some("within"));
            assert_eq!(executor.end(), Ok(()));
        }
    }

    #[test]
    fn clock_jumps_to_the_next_timer() {
        let executor = executor(1);
        let woke = Rc::new(Cell::new(0));
        let (inner, seen) = (executor.clone(), Rc::clone(&woke));
        executor.spawn(async move {
            inner.sleep(Duration::from_secs(3600)).await;
            seen.set(inner.now_us());
        });
        run(&executor);
        assert!(woke.get() >= 3_600_000_000);
        assert!(woke.get() < 3_600_001_000);
    }

    #[test]
    fn a_dropped_sleep_does_not_move_the_clock() {
        let executor = executor(1);
        let inner = executor.clone();
        executor.spawn(async move {
            let mut sleep = Box::pin(inner.sleep(Duration::from_secs(3600)));
            std::future::poll_fn(|context| {
                assert!(sleep.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
        });
        run(&executor);
        assert!(executor.now_us() < 1000);
    }

    #[test]
    fn yielding_lets_every_runnable_task_run() {
        for seed in 0..50 {
            let executor = executor(seed);
            let (inner, ran) = (executor.clone(), Rc::new(Cell::new(0)));
            let seen = Rc::clone(&ran);
            executor.spawn(async move {
                for _ in 0..10 {
                    let seen = Rc::clone(&seen);
                    inner.spawn(async move { seen.set(seen.get() + 1) });
                }
                inner.yield_now().await;
                assert_eq!(seen.get(), 10);
            });
            run(&executor);
            assert_eq!(ran.get(), 10);
        }
    }

    /// A waker outlives its task and wakes it once more: found as a checkpoint that never ended (seed 30 of the broker's
    /// simulation), since it had given way to a task that was runnable and did not exist any more.
    #[test]
    fn yielding_to_a_task_that_has_ended_goes_on() {
        for seed in 0..20 {
            let executor = executor(seed);
            let waker = Rc::new(RefCell::new(None::<Waker>));
            let kept = Rc::clone(&waker);
            executor.spawn(std::future::poll_fn(move |context| {
                *kept.borrow_mut() = Some(context.waker().clone());
                Poll::Ready(())
            }));
            run(&executor);
            let (inner, went_on) = (executor.clone(), Rc::new(Cell::new(false)));
            let seen = Rc::clone(&went_on);
            executor.spawn(async move {
                waker.borrow_mut().take().unwrap().wake();
                inner.yield_now().await;
                seen.set(true);
            });
            run(&executor);
            assert!(went_on.get(), "seed {seed}");
        }
    }

    #[test]
    fn two_yielding_tasks_take_turns() {
        let executor = executor(9);
        let turns = Rc::new(RefCell::new(Vec::new()));
        for task in 0..2 {
            let (inner, turns) = (executor.clone(), Rc::clone(&turns));
            executor.spawn(async move {
                for _ in 0..5 {
                    turns.borrow_mut().push(task);
                    inner.yield_now().await;
                }
            });
        }
        run(&executor);
        assert!(turns.borrow().windows(2).all(|pair| pair[0] != pair[1]), "{:?}", turns.borrow());
    }

    #[test]
    fn a_panic_is_reported_and_dropping_goes_on() {
        let executor = executor(1);
        executor.spawn(async { panic!("on purpose") });
        loop {
            match executor.step() {
                Step::Ran => {}
                Step::Stuck => panic!("the panic got lost"),
                Step::Panicked(message) => {
                    assert_eq!(message, "on purpose");
                    break;
                }
            }
        }
        assert_eq!(executor.end(), Ok(()));
    }

    #[test]
    fn destructors_may_spawn_after_the_end() {
        struct SpawnOnDrop(Executor);
        impl Drop for SpawnOnDrop {
            fn drop(&mut self) {
                self.0.spawn(async { panic!("never polled") });
            }
        }
        let executor = executor(1);
        let guard = SpawnOnDrop(executor.clone());
        executor.spawn(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        run(&executor);
        assert_eq!(executor.end(), Ok(()));
        assert!(executor.core.tasks.borrow().is_empty());
    }
}
