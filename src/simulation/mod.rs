//! A deterministic world for tests: one process over a seeded executor, a virtual clock and a disk that tears, loses
//! and fails. Implements [`crate::runtime`]; production code never imports it.
//!
//! A [`Simulation`] is one machine. It boots one *life* of the process after the other over the same disk; a life ends
//! when its main future ends or by a [`Crash`], and every task of it is dropped where it stands. Several shards of one
//! process are several users of one [`SimulatedRuntime`] with a directory each.
//!
//! # Modelled
//!
//! - Order of tasks, duration of I/O, lateness of timers: drawn. One thread; all shards of a process share it.
//! - Files by 512-byte sectors: what is durable, and every completed write since. See [`disk`] for what a crash leaves.
//! - Crash of the process: completed writes stay, those under way happened, did not, or did in part. Power cut: beyond
//!   what is durable, any subset of sectors stays, of each sector any one of its unflushed contents.
//! - Names: creations and removals before `sync_directory` may or may not survive; a created file whose name survives
//!   by luck may have lost its size. EIO, ENOSPC, slow flushes, flipped bits on demand.
//! - Broken rules end the run: overlapping writes in flight, memory that changes while it is written, a panic, a
//!   deadlock (nothing runnable, nothing due), a livelock (more steps than [`Options::steps_max`]).
//!
//! # Assumed
//!
//! A logical sector is written whole or not at all, and a write touches no other sector (STORE.md). A directory is
//! durable when it was created. Flush is honest: what it reports is on the medium. What a failed flush gave up stays
//! readable until the power is cut, even by a next life that flushes with success: as on Linux, no user can tell, so a
//! test cuts the power after a failed flush.
//!
//! # Reproducing a failure
//!
//! Every failure names its seed. `CORELANE_SEED=<seed> cargo test <name>` runs only it; `CORELANE_TRACE=1` prints
//! every I/O event; `CORELANE_SEEDS=<count>` runs that many seeds. One seed gives one [`Simulation::trace`].

mod buffer;
pub mod disk;
mod executor;
mod image;
pub mod random;
mod runtime;
pub mod seeds;
pub mod trace;

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::rc::Rc;

pub use buffer::SimulatedBuffer;
use disk::{Disk, DiskOptions, Verdict};
use executor::{Executor, Step};
use random::Random;
use runtime::Life;
pub use runtime::{SimulatedFile, SimulatedRuntime};
use trace::{Event, Trace};

/// 2026-01-01 00:00:00 UTC: the wall clock of every simulated machine starts here.
const WALL_CLOCK_START_MS: i64 = 1_767_225_600_000;

/// How a life ends that does not end by itself.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Crash {
    /// The process is killed; the kernel and the disk go on.
    Process,
    /// The machine loses power; the disk keeps what is durable and some of the rest.
    Power,
}

/// Bounds and manners of a simulation.
#[derive(Clone, Debug)]
pub struct Options {
    /// Steps (polls and events) of one life before it counts as a livelock. A workload of a few thousand batches takes
    /// some hundred thousand.
    pub steps_max: u64,
    /// Longest virtual time one poll takes, in microseconds.
    pub poll_us_max: u64,
    /// The longest timers, in microseconds, that may be over at their first poll: the machine stands still for as long
    /// between the two.
    pub overslept_us_max: u64,
    /// How the disk behaves.
    pub disk: DiskOptions,
}

impl Options {
    /// What [`Simulation::new`] uses: no faults, speeds that depend on the seed.
    pub fn any(random: &mut Random) -> Options {
        let poll_us_max = *random.pick(&[0, 2, 10, 100]);
        let overslept_us_max = *random.pick(&[200, 2000, 20_000]);
        Options { steps_max: 20_000_000, poll_us_max, overslept_us_max, disk: DiskOptions::any(random) }
    }
}

/// How a life ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended<T> {
    /// The main future ended with this; the process exited.
    Finished(T),
    /// A crash that was asked for came first.
    Crashed(Crash),
}

impl<T> Ended<T> {
    /// The result of a life that was not to crash.
    pub fn finished(self) -> T {
        match self {
            Ended::Finished(result) => result,
            Ended::Crashed(crash) => panic!("the life ended by a crash: {crash:?}"),
        }
    }

    /// True when a crash ended the life.
    pub fn is_crash(&self) -> bool {
        matches!(self, Ended::Crashed(_))
    }
}

/// A run in which something broke that must not.
#[derive(Debug)]
pub struct Failure {
    /// What the run was made from.
    pub seed: u64,
    /// Which life it was, from 1.
    pub life: u64,
    /// Steps into that life.
    pub steps: u64,
    /// Virtual time in microseconds.
    pub at_us: u64,
    /// What broke.
    pub message: String,
    /// What happened last.
    pub recent: Vec<Event>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { seed, life, steps, at_us, message, recent } = self;
        writeln!(f, "simulation with seed {seed} failed: {message}")?;
        writeln!(f, "life {life}, step {steps}, {at_us} us; run it again with CORELANE_SEED={seed}; before it:")?;
        for event in recent {
            writeln!(f, "  {event}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// One simulated machine: a disk, a clock, and one life of the process after the other.
pub struct Simulation {
    seed: u64,
    random: Random,
    trace: Trace,
    disk: Disk,
    options: Options,
    now_us: u64,
    lives: u64,
    steps: u64,
    wall_clock_ms: i64,
    /// End the next life after so many steps.
    crash_after: Option<(u64, Crash)>,
}

impl Simulation {
    /// A machine with an empty disk, all from the seed.
    pub fn new(seed: u64) -> Simulation {
        let mut random = Random::new(seed);
        let options = Options::any(&mut random.split());
        Simulation::with_options(seed, options)
    }

    /// A machine with an empty disk and chosen manners.
    pub fn with_options(seed: u64, options: Options) -> Simulation {
        let trace = Trace::new();
        // Apart from the stream that `new` and tests draw options from.
        let mut random = Random::new(!seed);
        let disk = Disk::new(options.disk.clone(), random.split(), trace.clone());
        Simulation::over(seed, options, random, disk, trace)
    }

    /// A machine that got a copy of another's disk ([`Disk::fork`]).
    pub fn with_disk(seed: u64, disk: Disk) -> Simulation {
        let trace = Trace::new();
        disk.set_trace(trace.clone());
        let mut random = Random::new(!seed);
        let options = Options::any(&mut random.split());
        Simulation::over(seed, options, random, disk, trace)
    }

    fn over(seed: u64, options: Options, random: Random, disk: Disk, trace: Trace) -> Simulation {
        Simulation {
            seed,
            random,
            trace,
            disk,
            options,
            now_us: 0,
            lives: 0,
            steps: 0,
            wall_clock_ms: WALL_CLOCK_START_MS,
            crash_after: None,
        }
    }

    /// The disk of this machine.
    pub fn disk(&self) -> Disk {
        self.disk.clone()
    }

    /// All that happened so far, as one number.
    pub fn trace(&self) -> u64 {
        self.trace.hash()
    }

    /// Steps that the last life took: what a crash of a next one can be drawn from.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Moves the wall clock, as an administrator or a time server would.
    pub fn move_wall_clock(&mut self, ms: i64) {
        self.wall_clock_ms += ms;
    }

    /// Ends the next life after `steps` steps, if it lasts that long.
    pub fn crash_after(&mut self, steps: u64, crash: Crash) {
        self.crash_after = Some((steps, crash));
    }

    /// Cuts the power between two lives.
    pub fn cut_power(&mut self) {
        self.trace.add("power cut", [self.lives, 0, 0]);
        self.disk.cut_power();
    }

    /// Boots the process and runs `main` until it ends or the life does. Panics with the seed when the run fails.
    pub fn run<T, F>(&mut self, main: impl FnOnce(SimulatedRuntime) -> F) -> Ended<T>
    where
        T: 'static,
        F: Future<Output = T> + 'static,
    {
        self.try_run(main).unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// As [`Simulation::run`], for tests that expect a failure.
    pub fn try_run<T, F>(&mut self, main: impl FnOnce(SimulatedRuntime) -> F) -> Result<Ended<T>, Failure>
    where
        T: 'static,
        F: Future<Output = T> + 'static,
    {
        let life = self.boot();
        let result: Rc<RefCell<Option<T>>> = Rc::new(RefCell::new(None));
        let (future, slot) = (main(SimulatedRuntime::new(Rc::clone(&life))), Rc::clone(&result));
        life.executor.spawn(async move {
            let value = future.await;
            *slot.borrow_mut() = Some(value);
        });
        let crash_after = self.crash_after.take();
        let ended = self.live(&life, &result, crash_after);
        let dropped = life.executor.end();
        self.now_us = life.executor.now_us();
        self.disk.stop_process();
        let ended = ended.map_err(|message| self.failure(message))?;
        dropped.map_err(|message| self.failure(format!("a destructor panicked: {message}")))?;
        if let Some(Verdict::Violation(message)) = self.disk.take_verdict() {
            return Err(self.failure(message));
        }
        if matches!(ended, Ended::Crashed(Crash::Power)) {
            self.cut_power();
        }
        Ok(ended)
    }

    fn boot(&mut self) -> Rc<Life> {
        self.lives += 1;
        self.steps = 0;
        self.trace.add("boot", [self.lives, 0, 0]);
        let Options { poll_us_max, overslept_us_max, .. } = self.options;
        let executor =
            Executor::new(self.random.split(), self.now_us, (poll_us_max, overslept_us_max), self.trace.clone());
        Rc::new(Life {
            executor,
            disk: self.disk.clone(),
            trace: self.trace.clone(),
            booted_us: self.now_us,
            wall_clock_ms: self.wall_clock_ms,
            random: RefCell::new(self.random.split()),
            crash: RefCell::new(None),
        })
    }

    fn live<T>(
        &mut self,
        life: &Life,
        result: &RefCell<Option<T>>,
        crash_after: Option<(u64, Crash)>,
    ) -> Result<Ended<T>, String> {
        loop {
            if let Some((steps, crash)) = crash_after
                && self.steps >= steps
            {
                return Ok(self.crashed(crash));
            }
            self.steps += 1;
            if self.steps > self.options.steps_max {
                return Err(format!("livelock: no end after {} steps", self.options.steps_max));
            }
            let step = life.executor.step();
            match self.disk.take_verdict() {
                Some(Verdict::Violation(message)) => return Err(message),
                Some(Verdict::Crash(crash)) => return Ok(self.crashed(crash)),
                None => {}
            }
            if let Step::Panicked(message) = step {
                return Err(format!("a task panicked: {message}"));
            }
            if let Some(crash) = life.crash.borrow_mut().take() {
                return Ok(self.crashed(crash));
            }
            if let Some(value) = result.borrow_mut().take() {
                return Ok(Ended::Finished(value));
            }
            if let Step::Stuck = step {
                return Err("deadlock: the main future waits, nothing is runnable and nothing is due".to_string());
            }
        }
    }

    fn crashed<T>(&self, crash: Crash) -> Ended<T> {
        self.trace.add("crash", [self.lives, self.steps, u64::from(crash == Crash::Power)]);
        Ended::Crashed(crash)
    }

    fn failure(&self, message: String) -> Failure {
        Failure {
            seed: self.seed,
            life: self.lives,
            steps: self.steps,
            at_us: self.trace.now_us(),
            message,
            recent: self.trace.recent(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::runtime::{Buffer, File, Runtime};

    /// Four tasks that write, flush and sleep in a file of their own each; ends with a crash.
    fn trace_of(seed: u64) -> u64 {
        let mut simulation = Simulation::new(seed);
        simulation.crash_after(400, Crash::Power);
        for _ in 0..2 {
            simulation.run(|runtime| async move {
                runtime.create_directory(Path::new("/data")).await.unwrap();
                for task in 0..4 {
                    let inner = runtime.clone();
                    runtime.spawn(async move {
                        let path = format!("/data/{task}-{}", inner.random());
                        let file = inner.create(Path::new(&path), 8192).await.unwrap();
                        loop {
                            let mut buffer = inner.allocate(4096);
                            buffer.as_mut_slice().fill(inner.random().to_le_bytes()[0]);
                            file.write_at(Rc::new(buffer), 4096).await.unwrap();
                            file.flush().await.unwrap();
                            inner.sleep(Duration::from_micros(100)).await;
                        }
                    });
                }
                runtime.sleep(Duration::from_millis(300)).await;
            });
        }
        simulation.trace()
    }

    #[test]
    fn one_seed_gives_one_trace_and_others_differ() {
        let traces: Vec<u64> = (0..10).map(trace_of).collect();
        assert_eq!(traces, (0..10).map(trace_of).collect::<Vec<_>>());
        for (index, trace) in traces.iter().enumerate() {
            assert!(!traces[..index].contains(trace));
        }
    }

    #[test]
    fn a_panic_in_any_task_fails_the_run_and_names_the_seed() {
        let failure = Simulation::new(77)
            .try_run(|runtime| async move {
                runtime.spawn(async { panic!("on purpose") });
                runtime.sleep(Duration::from_secs(1)).await;
            })
            .unwrap_err();
        assert_eq!(failure.message, "a task panicked: on purpose");
        assert!(failure.to_string().contains("CORELANE_SEED=77"));
    }

    #[test]
    #[should_panic(expected = "simulation with seed 78 failed")]
    fn run_panics_with_the_seed() {
        Simulation::new(78).run(|_| async { panic!("on purpose") });
    }

    #[test]
    fn waiting_for_nothing_is_a_deadlock() {
        let failure = Simulation::new(1).try_run(|_| std::future::pending::<()>()).unwrap_err();
        assert!(failure.message.starts_with("deadlock"));
    }

    #[test]
    fn going_round_in_circles_is_a_livelock() {
        let mut options = Options::any(&mut Random::new(1));
        options.steps_max = 1000;
        let failure = Simulation::with_options(1, options)
            .try_run(|runtime| async move {
                loop {
                    runtime.yield_now().await;
                }
            })
            .map(|ended: Ended<()>| ended)
            .unwrap_err();
        assert_eq!(failure.message, "livelock: no end after 1000 steps");
    }

    #[test]
    fn clocks_go_on_across_lives_and_the_monotonic_one_starts_anew() {
        let mut simulation = Simulation::new(1);
        let hour = Duration::from_secs(3600);
        let first = simulation.run(|runtime| async move {
            runtime.sleep(hour).await;
            (runtime.now(), runtime.wall_clock())
        });
        simulation.move_wall_clock(-1000);
        let second = simulation.run(|runtime| async move { (runtime.now(), runtime.wall_clock()) });
        let ((first_now, first_wall), (second_now, second_wall)) = (first.finished(), second.finished());
        assert!(first_now.value() >= 3_600_000_000);
        assert_eq!(second_now.value(), 0);
        assert_eq!(second_wall.value() - first_wall.value(), -1000);
    }

    #[test]
    fn a_crash_after_steps_drops_all_tasks_where_they_stand() {
        struct Dropped(Rc<RefCell<bool>>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                *self.0.borrow_mut() = true;
            }
        }
        let dropped = Rc::new(RefCell::new(false));
        let guard = Dropped(Rc::clone(&dropped));
        let mut simulation = Simulation::new(1);
        simulation.crash_after(50, Crash::Process);
        let ended = simulation.run(|runtime| async move {
            runtime.clone().spawn(async move {
                let _guard = guard;
                std::future::pending::<()>().await;
            });
            loop {
                runtime.sleep(Duration::from_millis(1)).await;
            }
        });
        let _: &Ended<()> = &ended;
        assert_eq!(ended, Ended::Crashed(Crash::Process));
        assert_eq!(simulation.steps(), 50);
        assert!(*dropped.borrow());
    }

    #[test]
    fn random_numbers_of_the_process_do_not_depend_on_the_schedule() {
        let draw = |tasks| {
            let drawn = Simulation::new(5).run(move |runtime| async move {
                for _ in 0..tasks {
                    runtime.spawn(async {});
                }
                runtime.yield_now().await;
                runtime.random()
            });
            drawn.finished()
        };
        assert_eq!(draw(1), draw(9));
    }
}
