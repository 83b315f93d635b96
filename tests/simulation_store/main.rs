//! The store in simulation: random load, crashes at random moments, several lives over one disk, and a model beside it.
//!
//! Checked at every opening: the store equals the model after some prefix of the log that holds everything that was
//! seen safe; every batch is read back as it was appended; offsets are dense; what was lost once stays lost; recovering
//! a copy of the disk again, or from all entries without the checkpoint, finds the same.
//!
//! `CORELANE_SEEDS=1000 cargo test --test simulation_store` runs more seeds, `CORELANE_SEED=7` one of them.

mod batches;
mod compacted;
mod model;
mod workload;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use corelane::runtime::Runtime;
use corelane::simulation::disk::{Disk, Moment, Operation};
use corelane::simulation::random::Random;
use corelane::simulation::seeds::Seeds;
use corelane::simulation::{Crash, Ended, Simulation};
use corelane::store::OpenError;
use corelane::store::checkpoint::files::CheckpointFiles;
use corelane::store::checkpoint::{CheckpointError, Found};
use corelane::store::format::SegmentHeader;
use corelane::store::inspect::Inspection;

use model::{Logs, Model};
use workload::{Ending, Plan, check_contents, live, open};

/// What a run is after, beside the crashes that all have.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Theme {
    /// Nothing else: the disk works.
    Crashes,
    /// Writes, flushes and creations fail now and then.
    Faults,
    /// Little lives in many segments, so that the cleaner always has something to move.
    Mixed,
    /// The device has little room, at times none, also while the store is opened; and it comes back.
    Space,
}

/// Runs one seed and gives the trace.
fn run(seed: u64, theme: Theme) -> u64 {
    let mut random = Random::new(seed).split();
    let mut plan = Plan::draw(&mut random);
    match theme {
        Theme::Space => plan.be_short_of_space(&mut random),
        Theme::Mixed => plan.be_mixed(&mut random),
        Theme::Crashes | Theme::Faults => {}
    }
    let model = Rc::new(RefCell::new(Model::default()));
    let mut simulation = Simulation::new(seed);
    let lives = random.range(3..9);
    for _ in 0..lives {
        let crash = *random.pick(&[Crash::Process, Crash::Power]);
        let acts = *random.pick(&[5, 40, 300, 1500]);
        let ending = if random.chance(1, 5) { Ending::Close(acts) } else { Ending::Crash(acts, crash) };
        arm_crash(&mut simulation, &mut random, crash);
        let faulty = match theme {
            Theme::Faults => random.chance(1, 2),
            Theme::Mixed => random.chance(1, 6),
            Theme::Crashes | Theme::Space => false,
        };
        if theme == Theme::Space {
            let segments = *random.pick(&[0, 8, 12, 20]);
            let capacity_bytes = segments * u64::from(plan.segment_bytes);
            simulation.disk().change(|options| options.capacity_bytes = capacity_bytes);
        }
        if faulty {
            arm_fault(&simulation, &mut random);
        }
        let (plan_now, model_now, random_now) = (plan.clone(), Rc::clone(&model), random.split());
        let ended = simulation.run(|runtime| live(runtime, plan_now, model_now, random_now, ending, faulty));
        simulation.disk().clear_traps();
        if theme != Theme::Space || random.chance(1, 2) {
            simulation.disk().change(|options| options.capacity_bytes = u64::MAX);
        }
        model.borrow_mut().on_end(match ended {
            Ended::Crashed(crash) => Some(crash),
            Ended::Finished(()) => None,
        });
        // A failed flush gives up what it should have saved, and no later life can tell: only a power cut tells.
        if faulty || random.chance(1, 4) {
            simulation.cut_power();
            model.borrow_mut().on_end(Some(Crash::Power));
        }
        compare_recoveries(&simulation, &plan, random.next());
    }
    simulation.disk().change(|options| options.capacity_bytes = u64::MAX);
    // The last opening checks what the last crash left.
    let closing = live_to_the_end(&mut simulation, &plan, &model, &mut random);
    assert_eq!(closing, Ended::Finished(()));
    simulation.trace()
}

fn live_to_the_end(
    simulation: &mut Simulation,
    plan: &Plan,
    model: &Rc<RefCell<Model>>,
    random: &mut Random,
) -> Ended<()> {
    let (plan, model, random) = (plan.clone(), Rc::clone(model), random.split());
    simulation.run(|runtime| live(runtime, plan, model, random, Ending::Close(20), false))
}

/// Chooses a moment for the crash that the load does not know: a step, or an operation on a file.
fn arm_crash(simulation: &mut Simulation, random: &mut Random, crash: Crash) {
    match random.below(3) {
        0 => {
            let magnitude = 1 << random.range(4..16);
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
                (Operation::Read, "segment"),
            ];
            let (operation, path) = *random.pick(&operations);
            let moment = *random.pick(&[Moment::Begun, Moment::Completed]);
            simulation.disk().crash_at(operation, moment, path, random.below(12), crash);
        }
        // Whatever the load says.
        _ => {}
    }
}

fn arm_fault(simulation: &Simulation, random: &mut Random) {
    let skip = random.below(40);
    match random.below(5) {
        0 => simulation.disk().fail(Operation::Write, "segment", skip),
        1 => simulation.disk().fail(Operation::Flush, "segment", skip),
        2 => simulation.disk().fail(Operation::Write, "checkpoint", skip / 8),
        3 => simulation.disk().fail(Operation::Flush, "checkpoint", skip / 8),
        _ => simulation.disk().fail(Operation::Create, "", skip / 8),
    }
}

/// Recovers copies of the disk: twice in a row, and without checkpoint. All must find the same.
fn compare_recoveries(simulation: &Simulation, plan: &Plan, seed: u64) {
    assert_undamaged(simulation, plan, seed);
    let disk = simulation.disk().fork();
    disk.change(|options| options.capacity_bytes = u64::MAX);
    let mut twice = Simulation::with_disk(seed, disk);
    let first = recovered(&mut twice, plan, false).unwrap_or_else(|error| panic!("a copy does not open: {error}"));
    twice.cut_power();
    let second = recovered(&mut twice, plan, false).unwrap_or_else(|error| panic!("it opens only once: {error}"));
    assert_eq!(first, second, "recovery of what recovery left finds something else");
    if !every_segment_exists(&simulation.disk()) || was_any_freed(simulation, plan, seed) {
        return; // Some were or are being reused: not every entry exists any more.
    }
    let disk = simulation.disk().fork();
    disk.change(|options| options.capacity_bytes = u64::MAX);
    let mut rebuilt = Simulation::with_disk(seed, disk);
    let all = recovered(&mut rebuilt, plan, true).unwrap_or_else(|error| panic!("a copy cannot be rebuilt: {error}"));
    assert_eq!(first, all, "the scan of all entries finds something else than the checkpoint");
}

/// A tool that reads every byte that counts finds nothing wrong with what a crash left.
fn assert_undamaged(simulation: &Simulation, plan: &Plan, seed: u64) {
    let options = plan.options(false);
    let damages = Simulation::with_disk(seed, simulation.disk().fork()).run(|runtime| async move {
        let directory = options.directory.clone();
        // Nothing is there where the crash came before anything was made.
        let Ok(_) = runtime.list(&directory).await else { return Vec::new() };
        let inspection = Inspection::open(runtime.clone(), options).await.unwrap_or_else(|error| panic!("{error}"));
        let mut checks = Vec::new();
        for task in inspection.tasks() {
            checks.extend(task.check(&runtime, &directory).await.unwrap());
        }
        inspection.verdict(checks)
    });
    assert_eq!(damages.finished(), []);
}

/// True when the headers on disk name all segments from the first to the newest.
fn every_segment_exists(disk: &Disk) -> bool {
    let mut numbers = BTreeSet::new();
    for path in disk.paths() {
        let content = disk.content(&path).expect("a path that was just listed");
        let header = content.get(..4096).and_then(|block| SegmentHeader::decode(block).ok());
        numbers.extend(header.map(|header| header.number.value()));
    }
    numbers.last().is_none_or(|last| numbers.len() == usize::try_from(*last).unwrap())
}

/// True when the newest checkpoint leaves out a segment. Its file may have new entries under its old header: a crash can take
/// back the header that was written before them and leave some of them.
fn was_any_freed(simulation: &Simulation, plan: &Plan, seed: u64) -> bool {
    let directory = plan.options(false).directory;
    let read = |runtime| async move { CheckpointFiles::open(runtime, &directory).await.map(|(_, found)| found) };
    let found = Simulation::with_disk(seed, simulation.disk().fork()).run(read).finished();
    let Ok(Found::Newest(checkpoint)) = found else { return false };
    let live: BTreeSet<u64> = checkpoint.head.segments.iter().map(|segment| segment.number.value()).collect();
    (1..checkpoint.head.next_segment.value()).any(|number| !live.contains(&number))
}

/// What a store on this machine finds when it opens.
fn recovered(simulation: &mut Simulation, plan: &Plan, rebuild: bool) -> Result<Logs, OpenError> {
    let options = plan.options(rebuild);
    simulation.run(|runtime| async move { open(&runtime, options).await.map(|(_, logs)| logs) }).finished()
}

#[test]
fn what_was_acknowledged_survives_crashes() {
    Seeds::from_environment(60).each(|seed| {
        run(seed, Theme::Crashes);
    });
}

#[test]
fn what_was_acknowledged_survives_failing_disks_and_crashes() {
    Seeds::from_environment(60).each(|seed| {
        run(seed, Theme::Faults);
    });
}

#[test]
fn what_was_moved_survives_crashes() {
    Seeds::from_environment(60).each(|seed| {
        run(seed, Theme::Mixed);
    });
}

#[test]
fn what_was_compacted_survives_crashes() {
    Seeds::from_environment(20).each(|seed| {
        let mut random = Random::new(seed).split();
        let mut plan = Plan::draw(&mut random);
        plan.be_compacted(&mut random);
        let model = Rc::new(RefCell::new(compacted::Model::default()));
        let mut simulation = Simulation::new(seed);
        for _ in 0..random.range(3..7) {
            let crash = *random.pick(&[Crash::Process, Crash::Power]);
            let acts = *random.pick(&[50, 300, 1200]);
            let ending = if random.chance(1, 3) { Ending::Close(acts) } else { Ending::Crash(acts, crash) };
            arm_crash(&mut simulation, &mut random, crash);
            let (plan_now, model_now, random_now) = (plan.clone(), Rc::clone(&model), random.split());
            let ended = simulation.run(|runtime| compacted::live(runtime, plan_now, model_now, random_now, ending));
            simulation.disk().clear_traps();
            model.borrow_mut().on_end(match ended {
                Ended::Crashed(crash) => Some(crash),
                Ended::Finished(()) => None,
            });
            assert_undamaged(&simulation, &plan, seed);
            let mut copy = Simulation::with_disk(random.next(), simulation.disk().fork());
            let (plan_now, model_now) = (plan.clone(), Rc::clone(&model));
            copy.run(|runtime| compacted::check_copy(runtime, plan_now, model_now, false)).finished();
            if every_segment_exists(&simulation.disk()) && !was_any_freed(&simulation, &plan, seed) {
                let mut copy = Simulation::with_disk(random.next(), simulation.disk().fork());
                let (plan_now, model_now) = (plan.clone(), Rc::clone(&model));
                copy.run(|runtime| compacted::check_copy(runtime, plan_now, model_now, true)).finished();
            }
        }
        let (plan, random) = (plan.clone(), random.split());
        simulation.run(|runtime| compacted::live(runtime, plan, model, random, Ending::Close(20))).finished();
    });
}

#[test]
fn what_was_acknowledged_survives_full_devices_and_crashes() {
    Seeds::from_environment(60).each(|seed| {
        run(seed, Theme::Space);
    });
}

#[test]
fn a_flipped_bit_is_cut_off_reported_or_harmless_but_never_believed() {
    Seeds::from_environment(100).each(|seed| {
        let mut random = Random::new(seed).split();
        let mut plan = Plan::draw(&mut random);
        if seed.is_multiple_of(2) {
            plan.be_mixed(&mut random);
        }
        // Here readers find what is damaged; the scrub would only take time.
        plan.scrub_bytes_per_second = 0;
        let model = Rc::new(RefCell::new(Model::default()));
        let mut simulation = Simulation::new(seed);
        for _ in 0..2 {
            let (plan, shared, random) = (plan.clone(), Rc::clone(&model), random.split());
            let ending = Ending::Crash(400, Crash::Power);
            assert!(simulation.run(|runtime| live(runtime, plan, shared, random, ending, false)).is_crash());
            model.borrow_mut().on_end(Some(Crash::Power));
        }
        let intact = recovered(&mut Simulation::with_disk(seed, simulation.disk().fork()), &plan, false).unwrap();
        let survivors = model.borrow().changes() - model.borrow().clone().recover(&intact);
        for _ in 0..20 {
            let disk = simulation.disk().fork();
            flip_any_bit(&disk, &mut random);
            let copy = Rc::new(RefCell::new(model.borrow().clone()));
            let options = plan.options(false);
            let mut flipped = Simulation::with_disk(random.next(), disk);
            flipped.run(|runtime| async move {
                match open(&runtime, options).await {
                    Ok((store, found)) => {
                        copy.borrow_mut().recover_flipped(&found, survivors);
                        check_contents(&store, &copy, true).await;
                    }
                    Err(OpenError::Damage { .. } | OpenError::Checkpoint(CheckpointError::Lost { .. })) => {}
                    Err(error) => panic!("one flipped bit is damage, not this: {error}"),
                }
            });
        }
    });
}

/// Flips a bit of a byte that is not zero, in any file: where nothing was written, nothing is to be found.
fn flip_any_bit(disk: &Disk, random: &mut Random) {
    let paths = disk.paths();
    let path = random.pick(&paths);
    let content = disk.content(path).expect("a path that was just listed");
    let written: Vec<usize> = (0..content.len()).filter(|at| content[*at] != 0).collect();
    if !written.is_empty() {
        disk.flip_bit(path, u64::try_from(*random.pick(&written)).unwrap(), u8::try_from(random.below(8)).unwrap());
    }
}

#[test]
fn one_seed_gives_one_trace() {
    Seeds::from_environment(3).each(|seed| assert_eq!(run(seed, Theme::Faults), run(seed, Theme::Faults)));
}

#[test]
fn an_empty_disk_opens_and_opens_again() {
    let plan = Plan::draw(&mut Random::new(1));
    let mut simulation = Simulation::new(1);
    for _ in 0..3 {
        assert!(recovered(&mut simulation, &plan, false).unwrap().is_empty());
        simulation.cut_power();
    }
}

#[test]
fn a_closed_store_gives_back_everything() {
    let plan = Plan::draw(&mut Random::new(1));
    let mut simulation = Simulation::new(1);
    let model = Rc::new(RefCell::new(Model::default()));
    for life in 0..4 {
        let (plan, shared) = (plan.clone(), Rc::clone(&model));
        simulation.run(|runtime| live(runtime, plan, shared, Random::new(life), Ending::Close(500), false)).finished();
        let all = model.borrow().required();
        model.borrow_mut().on_end(Some(Crash::Power));
        simulation.cut_power();
        assert_eq!(model.borrow().required(), all, "closing flushed everything");
    }
    let (shared, options) = (Rc::clone(&model), plan.options(false));
    simulation
        .run(|runtime| async move {
            let (store, found) = open(&runtime, options).await.unwrap();
            assert_eq!(shared.borrow_mut().recover(&found), 0);
            check_contents(&store, &shared, false).await;
        })
        .finished();
}
