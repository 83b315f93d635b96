//! Lives and crashes against a model of what was promised.

use std::collections::BTreeMap;

use super::space::segment_files;
use super::*;
use crate::simulation::random::Random;
use crate::simulation::seeds::Seeds;
use crate::simulation::{Crash, Ended, Simulation};

/// One batch as the model knows it.
#[derive(Clone, Debug)]
struct ModelBatch {
    base: i64,
    end: i64,
    bytes: Vec<u8>,
    position: LogPosition,
}

#[derive(Clone, Debug, Default)]
struct ModelLog {
    start: i64,
    /// Log starts asked for and not known to be durable: (position, offset).
    starts: Vec<(LogPosition, i64)>,
    batches: Vec<ModelBatch>,
    created: LogPosition,
    deleted: Option<LogPosition>,
}

impl ModelLog {
    fn end(&self) -> i64 {
        self.batches.last().map_or(0, |batch| batch.end)
    }
}

/// What was promised, over all lives.
#[derive(Clone, Default)]
struct Model {
    logs: BTreeMap<LogId, ModelLog>,
    /// Greatest positions seen by the process: what it may have acknowledged.
    written: LogPosition,
    durable: LogPosition,
    next_seed: u64,
}

impl Model {
    /// Compares what a recovered store has with what was promised at `level`, and takes over what it has.
    async fn check(&mut self, store: &Store<SimulatedRuntime>, level: LogPosition) {
        let recovered: BTreeMap<LogId, PartitionRecord> =
            store.partitions().into_iter().map(|partition| (partition.log, partition)).collect();
        for log in recovered.keys() {
            assert!(self.logs.contains_key(log), "log {log} was never created");
        }
        let mut kept = BTreeMap::new();
        for (log, mut model) in std::mem::take(&mut self.logs) {
            let Some(partition) = recovered.get(&log) else {
                let gone = model.deleted.is_some() || model.created > level;
                assert!(gone, "log {log}, created at {} of {level}, is gone", model.created);
                continue;
            };
            assert!(model.deleted.is_none_or(|deleted| deleted > level), "deleted log {log} is back");
            let end = partition.log_end.value();
            for batch in &model.batches {
                assert!(batch.position > level || batch.end <= end, "log {log} lost {} of {level}", batch.position);
            }
            model.batches.retain(|batch| batch.end <= end);
            assert_eq!(model.end().max(model.start), end.max(model.start), "log {log} ends inside of a batch");
            let start = partition.log_start.value();
            let promised = model.starts.iter().filter(|(position, _)| *position <= level).map(|(_, start)| *start);
            assert!(start >= promised.max().unwrap_or(0).max(model.start), "log start of {log} went back");
            assert!(start == model.start || model.starts.iter().any(|(_, asked)| *asked == start));
            model.start = start;
            model.starts.clear();
            model.deleted = None;
            model.created = LogPosition::default();
            model.batches.iter_mut().for_each(|batch| batch.position = LogPosition::default());
            self.read_all(store, log, &model).await;
            kept.insert(log, model);
        }
        self.logs = kept;
    }

    async fn read_all(&self, store: &Store<SimulatedRuntime>, log: LogId, model: &ModelLog) {
        let mut expected = model.batches.iter().filter(|batch| batch.end > model.start).peekable();
        let mut at = model.start;
        while at < model.end() {
            let bound = Offset::new(model.end());
            let read = store.read(log, Offset::new(at), bound, 10_000, true).await.expect("what is there can be read");
            let bytes = joined(&read.slices);
            let mut rest = &bytes[..];
            assert!(!rest.is_empty(), "log {log} has nothing at {at}");
            while !rest.is_empty() {
                let batch = expected.next().expect("no more is read than was written");
                assert!(rest.starts_with(&batch.bytes), "log {log} differs at {}", batch.base);
                rest = &rest[batch.bytes.len()..];
                at = batch.end;
            }
            assert_eq!(read.next_offset, Offset::new(at));
        }
        assert!(expected.peek().is_none());
    }
}

type SharedModel = Rc<RefCell<Model>>;

/// Appends, creates, deletes and moves log starts until `steps` are done.
async fn work(runtime: SimulatedRuntime, store: Store<SimulatedRuntime>, model: SharedModel, steps: u64, seed: u64) {
    let mut random = Random::new(seed);
    let equal_sizes = random.chance(1, 3).then(|| 100 + random.index(3000));
    for _ in 0..steps {
        let logs: Vec<LogId> =
            model.borrow().logs.iter().filter(|(_, log)| log.deleted.is_none()).map(|(log, _)| *log).collect();
        let choice = random.below(100);
        if logs.is_empty() || (choice < 3 && logs.len() < 8) {
            if let Ok((log, created)) = store.create(TopicId::new([1; 16]), PartitionIndex::new(0)) {
                let twice = model.borrow_mut().logs.insert(log, ModelLog { created, ..ModelLog::default() });
                assert!(twice.is_none(), "log id {log} was given twice");
            }
        } else if choice < 5 {
            let log = *random.pick(&logs);
            let Some(position) = unless_full(store.delete(log)) else { continue };
            model.borrow_mut().logs.get_mut(&log).unwrap().deleted = Some(position);
        } else if choice < 10 {
            let log = *random.pick(&logs);
            let (start, end) = (store.partition(log).unwrap().log_start, store.partition(log).unwrap().log_end);
            let to = start.value() + i64::try_from(random.below(u64::try_from(end.since(start) + 1).unwrap())).unwrap();
            if to > start.value() {
                let Some(position) = unless_full(store.set_log_start(log, Offset::new(to))) else { continue };
                model.borrow_mut().logs.get_mut(&log).unwrap().starts.push((position, to));
            }
        } else if choice < 85 {
            let log = *random.pick(&logs);
            let bytes =
                equal_sizes.unwrap_or_else(|| if random.chance(1, 20) { 20_000 } else { 70 + random.index(1500) });
            if unless_full(store.reserve(bytes).await).is_none() {
                runtime.yield_now().await;
                continue;
            }
            // The log may have been deleted while this task waited.
            let Some(partition) = store.partition(log) else { continue };
            let records = u32::try_from(1 + random.below(5)).unwrap();
            let mut model = model.borrow_mut();
            model.next_seed += 1;
            let base = partition.log_end.value();
            let bytes = batch_bytes(base, records, bytes, model.next_seed);
            let durability = if random.chance(1, 2) { Durability::Flushed } else { Durability::Written };
            let position = append(&store, log, &bytes, durability).unwrap();
            let end = base + i64::from(records);
            model.logs.get_mut(&log).unwrap().batches.push(ModelBatch { base, end, bytes, position });
        } else if choice < 88 {
            read_somewhere(&store, &model, *random.pick(&logs), &mut random).await;
        } else if choice < 91 {
            runtime.sleep(Duration::from_micros(random.below(2000))).await;
        } else {
            runtime.yield_now().await;
        }
        note_progress(&store, &model);
    }
}

/// Reads from any offset to the log end as it is now, while others append, delete and move log starts.
async fn read_somewhere(store: &Store<SimulatedRuntime>, model: &SharedModel, log: LogId, random: &mut Random) {
    let partition = store.partition(log).unwrap();
    let (start, end) = (partition.log_start.value(), partition.log_end.value());
    let from = start + i64::try_from(random.below(u64::try_from(end - start + 1).unwrap())).unwrap();
    let expected: Vec<u8> = {
        let model = model.borrow();
        let batches = model.logs[&log].batches.iter();
        batches.filter(|batch| batch.end > from).flat_map(|batch| batch.bytes.clone()).collect()
    };
    match store.read(log, Offset::new(from), Offset::new(end), 1 + random.index(50_000), true).await {
        Ok(read) => {
            let bytes = joined(&read.slices);
            assert!(expected.starts_with(&bytes), "log {log} differs from {from} on");
            assert_eq!(bytes.is_empty(), expected.is_empty());
        }
        // It moved meanwhile.
        Err(ReadError::OutOfRange { .. } | ReadError::UnknownLog { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

fn unless_full<T>(result: Result<T, StorageError>) -> Option<T> {
    match result {
        Err(StorageError::Full { .. }) => None,
        result => Some(result.unwrap()),
    }
}

fn note_progress(store: &Store<SimulatedRuntime>, model: &SharedModel) {
    let progress = store.progress();
    let mut model = model.borrow_mut();
    assert!(model.written <= progress.written && model.durable <= progress.durable);
    (model.written, model.durable) = (progress.written, progress.durable);
}

async fn life(
    runtime: SimulatedRuntime,
    options: StoreOptions,
    model: SharedModel,
    level: LogPosition,
    seed: u64,
) -> StoreStats {
    // A crash before the check leaves the promises as they were.
    {
        let mut model = model.borrow_mut();
        (model.written, model.durable) = (level, level);
    }
    let (store, _) = open(&runtime, options).await;
    let mut checked = model.borrow().clone();
    checked.check(&store, level).await;
    (checked.written, checked.durable) = (LogPosition::default(), LogPosition::default());
    *model.borrow_mut() = checked;
    let tasks = 3;
    let done = Rc::new(RefCell::new(0));
    for task in 0..tasks {
        let (runtime, store, model, done) = (runtime.clone(), store.clone(), Rc::clone(&model), Rc::clone(&done));
        runtime.clone().spawn(async move {
            work(runtime, store, model, 150, seed * 10 + task).await;
            *done.borrow_mut() += 1;
        });
    }
    while *done.borrow() < tasks {
        runtime.sleep(Duration::from_millis(1)).await;
        note_progress(&store, &model);
    }
    if seed.is_multiple_of(2) {
        store.close().await.unwrap();
    }
    note_progress(&store, &model);
    store.stats()
}

#[test]
fn what_was_acknowledged_survives_crash_after_crash() {
    let mut seen = StoreStats::default();
    Seeds::from_environment(40).each(|seed| {
        let mut simulation = Simulation::new(seed);
        let mut random = Random::new(seed);
        let model: SharedModel = Rc::default();
        let mut level = LogPosition::default();
        let options = any_options(&mut random);
        for life_number in 0..6 {
            let crash = *random.pick(&[Crash::Process, Crash::Power]);
            if random.chance(4, 5) {
                simulation.crash_after(50 + random.below(12_000), crash);
            }
            let (shared, options) = (Rc::clone(&model), options.clone());
            let ended = simulation.run(move |runtime| life(runtime, options, shared, level, seed * 100 + life_number));
            if let Ended::Finished(stats) = &ended {
                seen.checkpoints += stats.checkpoints;
                seen.cold_reads += stats.cold_reads;
                seen.tail_reads += stats.tail_reads;
                seen.segments_recycled += stats.segments_recycled;
            }
            let model = model.borrow();
            level = match ended {
                Ended::Finished(_) if random.chance(1, 2) => {
                    simulation.cut_power();
                    model.durable
                }
                Ended::Finished(_) | Ended::Crashed(Crash::Process) => model.written,
                Ended::Crashed(Crash::Power) => model.durable,
            };
        }
    });
    // A workload that does not get there proves nothing.
    if std::env::var_os("CORELANE_SEED").is_none() {
        assert!(seen.checkpoints > 0 && seen.cold_reads > 0 && seen.tail_reads > 0, "{seen:?}");
        assert!(seen.segments_recycled > 0, "{seen:?}");
    }
}

/// Files are made with all of their space before anything is written to them, and after a kill each of them was read to its
/// end: the rest of the last segment, and every file kept ready.
#[test]
fn a_start_after_a_kill_reads_what_was_written_and_not_what_was_reserved() {
    let options = || StoreOptions { segment_bytes: 256 * SEGMENT_BYTES, budget_bytes: 1 << 30, ..options() };
    let mut simulation = Simulation::new(1);
    let ended = simulation.run(move |runtime| async move {
        let (store, _) = open(&runtime, options()).await;
        let (log, _) = store.create(TopicId::new([9; 16]), PartitionIndex::new(0)).unwrap();
        let end = append(&store, log, &batch_bytes(0, 1, 500, 1), Durability::Flushed).unwrap();
        until_durable(&store, &runtime, end).await;
        runtime.sleep(Duration::from_secs(10)).await;
        assert!(segment_files(&runtime) >= 4, "the open one, the ready one and the reserve");
        runtime.crash(Crash::Process);
        runtime.sleep(Duration::from_secs(1)).await;
    });
    assert!(ended.is_crash());
    let before = simulation.disk().stats().read_bytes;
    let log_end = simulation.run(move |runtime| async move {
        let (store, _) = open(&runtime, options()).await;
        store.partitions()[0].log_end
    });
    assert_eq!(log_end.finished(), Offset::new(1));
    let read_bytes = simulation.disk().stats().read_bytes - before;
    // What was prepared ahead of the log was written.
    assert!(read_bytes < 3 << 20, "{read_bytes} bytes of files of 16 MiB each");
}
