//! The whole broker in simulation: store, partitions, shards, handlers, several lives over one disk, and a model beside it.
//!
//! Requests are the frames that clients send, given to the handlers as a connection gives them. Producers, consumers and an
//! administrator work against one to four shards; the process is killed, the power cut, the disk fails, or it stops in good
//! order; then the next life is held against what clients were told:
//!
//! - what was acknowledged at its level is there, at its offset, unchanged; what a consumer saw never changes
//! - no batch stands twice, wherever and however often its producer sent it; offsets are dense; order is that of the connection
//! - no record beyond the high watermark, none of a deleted topic in the next of its name
//! - epochs rise over restarts, every epoch ends where the next one begins; lookups by time find what a walk finds
//! - waiting fetches are woken, one's own writes are seen soon, answers come in bounded time
//! - records that were told to be deleted stay so, and a configuration that was told to be changed is in force
//! - recovering again finds the same, and one seed gives one trace
//!
//! `groups` does the same for consumer groups and their offsets.
//!
//! `CORELANE_SEEDS=1000 cargo test --test simulation_broker` runs more seeds, `CORELANE_SEED=7` one of them. `defects` proves
//! that it finds things.

mod administrator;
mod audit;
mod calls;
mod connection;
mod consumer;
mod delayed_flush;
mod fetching;
mod group_calls;
mod group_committer;
mod group_consumer;
mod group_member;
mod group_model;
mod group_settings;
mod groups;
mod losses;
mod machine;
mod metadata;
mod model;
mod producer;
mod quiet;
mod stalled_disk;
mod world;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use corelane::runtime::Runtime;
use corelane::simulation::disk::{Moment, Operation};
use corelane::simulation::random::Random;
use corelane::simulation::seeds::Seeds;
use corelane::simulation::{Crash, Ended, SimulatedRuntime, Simulation};

use audit::{Dump, audit, dump, settled};
use machine::{Plan, Process, within};
use model::Key;
use world::{Shared, World};

/// Virtual time within which clients that were told to leave have left: the longest wait of a fetch, and more.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a run is after, beside the crashes that all have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Theme {
    /// The disk works, quickly or slowly.
    Crashes,
    /// Writes, flushes and creations fail now and then.
    Faults,
    /// The stores fill: their budgets are small or the device has no room. It comes back, and then all works without a restart.
    Space,
}

/// How a life goes.
#[derive(Clone, Copy, Debug)]
struct Course {
    shards: u16,
    /// How long clients work, if no other crash comes first.
    duration: Duration,
    /// What comes then: a crash, or a stop in good order.
    crash: Option<Crash>,
    fault: Option<Fault>,
    /// So many bytes are left on the device once the clients begin.
    bytes_left: Option<u64>,
}

/// An operation that fails.
#[derive(Clone, Copy, Debug)]
struct Fault {
    operation: Operation,
    path: &'static str,
    skip: u64,
    /// Already while the process starts.
    at_start: bool,
}

/// How a life ended by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    Stopped,
    /// It could not start, or not stop in good order: the disk failed.
    Failed,
}

/// Runs one seed and gives the trace.
fn run(seed: u64, theme: Theme) -> u64 {
    let mut random = Random::new(seed).split();
    let mut plan = Plan::draw(&mut random);
    if theme == Theme::Space {
        // What clients write fills a few of them.
        (plan.block_bytes, plan.segment_bytes) = (8192, 8 * 8192);
    }
    let plan = plan;
    let world = Rc::new(RefCell::new(World::new(random.split())));
    let mut simulation = Simulation::new(seed);
    let lives = random.range(2..7);
    let mut shards = u16::try_from(random.range(1..4)).unwrap();
    for life in 0..lives {
        if life > 0 && shards < 4 && random.chance(1, 4) {
            shards += 1;
        }
        let course = draw_course(&mut random, theme, shards);
        {
            let mut world = world.borrow_mut();
            world.stopping = false;
            world.faulty = course.fault.is_some();
            world.is_short_of_space = false;
            world.pause_us_max = *random.pick(&[100, 3000, 100_000]);
        }
        let slow_us = *random.pick(&[0, 0, 0, 5_000, 200_000]);
        simulation.disk().change(|options| options.flush_delay_us = slow_us);
        if let Some(crash) = course.crash {
            arm_crash(&mut simulation, &mut random, crash);
        }
        let (shared, plan_now) = (Rc::clone(&world), plan.clone());
        let ended = simulation.run(|runtime| live(runtime, plan_now, shared, course));
        simulation.disk().clear_traps();
        simulation.disk().change(|options| (options.flush_delay_us, options.capacity_bytes) = (0, u64::MAX));
        world.borrow_mut().on_end(match ended {
            Ended::Finished(Outcome::Stopped) => None,
            Ended::Finished(Outcome::Failed) => Some(Crash::Process),
            Ended::Crashed(crash) => Some(crash),
        });
        // A failed flush gives up what it should have saved, and no later life can tell: only a power cut tells.
        if course.fault.is_some() || random.chance(1, 4) {
            simulation.cut_power();
            world.borrow_mut().on_end(Some(Crash::Power));
        }
        let ahead_ms = i64::try_from(random.below(600_000)).unwrap() - 300_000;
        simulation.move_wall_clock(ahead_ms);
        if random.chance(1, 3) {
            compare_recoveries(&simulation, &plan, shards, random.next());
        }
    }
    // The last life checks what the last crash left.
    world.borrow_mut().faulty = false;
    world.borrow_mut().is_short_of_space = false;
    world.borrow_mut().stopping = false;
    let course = Course { shards, duration: Duration::from_millis(5), crash: None, fault: None, bytes_left: None };
    let shared = Rc::clone(&world);
    let ended = simulation.run(|runtime| live(runtime, plan, shared, course));
    assert_eq!(ended, Ended::Finished(Outcome::Stopped));
    if std::env::var_os("CORELANE_TRACE").is_some() {
        let model = &world.borrow().model;
        eprintln!("{} batches sent, {} acknowledged, {} lost", model.sent.len(), model.acknowledged, model.lost);
    }
    simulation.trace()
}

fn draw_course(random: &mut Random, theme: Theme, shards: u16) -> Course {
    let crash = match random.below(5) {
        0 => None,
        1 | 2 => Some(Crash::Process),
        _ => Some(Crash::Power),
    };
    let faults = [
        (Operation::Write, "segment"),
        (Operation::Flush, "segment"),
        (Operation::Write, "shard-0/segment"),
        (Operation::Flush, "shard-1/segment"),
        (Operation::Write, "checkpoint"),
        (Operation::Flush, "checkpoint"),
        (Operation::Create, "segment"),
        (Operation::Read, "segment"),
    ];
    let (operation, path) = *random.pick(&faults);
    let magnitude = *random.pick(&[4, 30, 300]);
    let duration_us_max = *random.pick(&[3_000, 50_000, 500_000, 8_000_000]);
    let fault = Fault { operation, path, skip: random.below(magnitude), at_start: random.chance(1, 3) };
    Course {
        shards,
        duration: Duration::from_micros(random.below(duration_us_max)),
        crash,
        fault: (theme == Theme::Faults && random.chance(1, 2)).then_some(fault),
        bytes_left: (theme == Theme::Space).then(|| *random.pick(&[0, 0, 100_000, 1_000_000])),
    }
}

/// Sometimes chooses a moment for the crash that the load does not know: a step, or an operation on a file.
fn arm_crash(simulation: &mut Simulation, random: &mut Random, crash: Crash) {
    match random.below(5) {
        0 => {
            let magnitude = 1 << random.range(4..17);
            simulation.crash_after(random.below(magnitude), crash);
        }
        1 => {
            let operations = [
                (Operation::Write, "checkpoint"),
                (Operation::Flush, "checkpoint"),
                (Operation::Write, "segment"),
                (Operation::Flush, "segment"),
                (Operation::Create, ""),
                (Operation::SyncDirectory, ""),
            ];
            let (operation, path) = *random.pick(&operations);
            let moment = *random.pick(&[Moment::Begun, Moment::Completed]);
            let magnitude = *random.pick(&[5, 50, 500]);
            simulation.disk().crash_at(operation, moment, path, random.below(magnitude), crash);
        }
        _ => {}
    }
}

/// One life: starts, is held against the model, works, and ends as the course says.
async fn live(runtime: SimulatedRuntime, plan: Plan, world: Shared, course: Course) -> Outcome {
    let arm = |fault: Fault| runtime.disk().fail(fault.operation, fault.path, fault.skip);
    if let Some(fault) = course.fault.filter(|fault| fault.at_start) {
        arm(fault);
    }
    let process = match Process::start(&runtime, &plan, course.shards).await {
        Ok(process) => process,
        Err(error) => {
            assert!(course.fault.is_some(), "the process does not start: {error}");
            return Outcome::Failed;
        }
    };
    if let Err(unfinished) = audit(&process, &world).await {
        assert!(course.fault.is_some(), "{unfinished:?}");
        return Outcome::Failed;
    }
    if let Some(fault) = course.fault.filter(|fault| !fault.at_start) {
        arm(fault);
    }
    if let Some(bytes_left) = course.bytes_left {
        fill_and_heal(&process, &world, course, bytes_left).await;
    }
    start_clients(&process, &world);
    runtime.sleep(course.duration).await;
    if let Some(crash) = course.crash {
        runtime.crash(crash);
        std::future::pending::<()>().await;
    }
    world.borrow_mut().stopping = true;
    let leaving = Rc::clone(&world);
    within(&runtime, PATIENCE, "the work of the clients", move || leaving.borrow().busy == 0).await;
    if course.fault.is_none() {
        quiet::check(&process, &world).await;
        settled(&process).await;
    }
    match process.stop().await {
        Ok(()) => Outcome::Stopped,
        Err(error) => {
            assert!(course.fault.is_some(), "the process does not stop in good order: {error}");
            Outcome::Failed
        }
    }
}

/// Clients work on a device that has no room left, or little; what does not fit is refused. Then the room comes back, and what
/// follows is held against the model as if nothing had been.
async fn fill_and_heal(process: &Rc<Process>, world: &Shared, course: Course, bytes_left: u64) {
    let runtime = process.runtime.clone();
    // The reserve is there, as in every broker that has run for a moment.
    runtime.sleep(Duration::from_secs(2)).await;
    let capacity_bytes = runtime.disk().used_bytes() + bytes_left;
    runtime.disk().change(|options| options.capacity_bytes = capacity_bytes);
    (world.borrow_mut().faulty, world.borrow_mut().is_short_of_space) = (true, true);
    start_clients(process, world);
    runtime.sleep(4 * course.duration).await;
    world.borrow_mut().stopping = true;
    let leaving = Rc::clone(world);
    within(&runtime, PATIENCE, "the work of the clients", move || leaving.borrow().busy == 0).await;
    assert!(!process.is_read_only(), "no room is no failure");
    let full = process.nodes.iter().filter(|node| node.shard.store.is_full()).count();
    runtime.note("full shards", [u64::try_from(full).unwrap(), 0, 0]);
    runtime.disk().change(|options| options.capacity_bytes = u64::MAX);
    // The longest of all retries, and a checkpoint.
    runtime.sleep(Duration::from_secs(15)).await;
    let mut world = world.borrow_mut();
    (world.faulty, world.is_short_of_space, world.stopping) = (false, false, false);
}

fn start_clients(process: &Rc<Process>, world: &Shared) {
    let (producers, consumers) = (world.borrow().producers.len(), world.borrow().consumers.len());
    for index in 0..producers {
        start_client(process, world, producer::run(Rc::clone(process), Rc::clone(world), index));
    }
    for index in 0..consumers {
        start_client(process, world, consumer::run(Rc::clone(process), Rc::clone(world), index));
    }
    start_client(process, world, administrator::run(Rc::clone(process), Rc::clone(world)));
}

fn start_client(process: &Rc<Process>, world: &Shared, client: impl Future<Output = ()> + 'static) {
    world.borrow_mut().busy += 1;
    let world = Rc::clone(world);
    process.runtime.spawn(async move {
        client.await;
        world.borrow_mut().busy -= 1;
    });
}

/// Recovers a copy of the disk twice in a row: all but the epochs must be the same.
fn compare_recoveries(simulation: &Simulation, plan: &Plan, shards: u16, seed: u64) {
    let mut copy = Simulation::with_disk(seed, simulation.disk().fork());
    let recover = |copy: &mut Simulation| -> BTreeMap<Key, Dump> {
        let plan = plan.without_retention();
        let dumping = copy.run(|runtime| async move {
            let process = Process::start(&runtime, &plan, shards).await;
            let process = process.unwrap_or_else(|error| panic!("a copy does not start: {error}"));
            dump(&process).await
        });
        dumping.finished()
    };
    let first = recover(&mut copy);
    copy.cut_power();
    let second = recover(&mut copy);
    assert!(first.keys().eq(second.keys()), "recovery of what recovery left finds other partitions");
    for (key, dump) in &first {
        assert_eq!(*dump, second[key], "{key:?}: recovery of what recovery left finds something else");
    }
}

#[test]
fn what_clients_were_told_holds_over_crashes() {
    Seeds::from_environment(20).each(|seed| {
        run(seed, Theme::Crashes);
    });
}

#[test]
fn what_clients_were_told_holds_over_failing_disks_and_crashes() {
    Seeds::from_environment(20).each(|seed| {
        run(seed, Theme::Faults);
    });
}

#[test]
fn what_clients_were_told_holds_over_full_devices_and_crashes() {
    Seeds::from_environment(12).each(|seed| {
        run(seed, Theme::Space);
    });
}

#[test]
fn one_seed_gives_one_trace() {
    Seeds::from_environment(2).each(|seed| assert_eq!(run(seed, Theme::Faults), run(seed, Theme::Faults)));
}
