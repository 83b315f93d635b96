//! The cleaner: what is moved is read as before, space comes back, and it ends.

use super::*;
use crate::simulation::Crash;
use crate::simulation::disk::{Disk, Moment, Operation};
use crate::store::format::{SegmentHeader, Stream};
use crate::types::SegmentNumber;

const LIVING: usize = 400;

/// A store in which each segment holds a little of one log that stays and much of another that goes.
pub(super) struct Mixed {
    pub(super) store: Store<SimulatedRuntime>,
    pub(super) stays: LogId,
    goes: LogId,
    /// What was appended to the log that stays.
    kept: Vec<u8>,
    next: [i64; 2],
}

impl Mixed {
    pub(super) async fn create(runtime: &SimulatedRuntime, options: StoreOptions) -> Mixed {
        let (store, _) = open(runtime, options).await;
        let log = |topic: u8| store.create(TopicId::new([topic; 16]), PartitionIndex::new(0)).unwrap().0;
        let (stays, goes) = (log(1), log(2));
        Mixed { store, stays, goes, kept: Vec::new(), next: [0, 0] }
    }

    /// Appends so many segments of both, and lets go of what the second log had before.
    pub(super) async fn fill(&mut self, runtime: &SimulatedRuntime, segments: u64) {
        let until = self.store.stats().appended_bytes + segments * u64::from(SEGMENT_BYTES);
        while self.store.stats().appended_bytes < until {
            for (log, records, bytes) in [(self.stays, 1, LIVING), (self.goes, 5, 6000)] {
                let next = &mut self.next[usize::from(log == self.goes)];
                let batch = batch_bytes(*next, records, bytes, u64::try_from(*next).unwrap());
                self.store.reserve(batch.len()).await.unwrap();
                let end = append(&self.store, log, &batch, Durability::Flushed).unwrap();
                *next += i64::from(records);
                if log == self.stays {
                    self.kept.extend_from_slice(&batch);
                } else {
                    until_durable(&self.store, runtime, end).await;
                }
            }
            self.store.set_log_start(self.goes, Offset::new(self.next[1] - 5)).unwrap();
        }
    }

    pub(super) async fn check(&self) {
        let mut found = Vec::new();
        let mut from = Offset::ZERO;
        while from.value() < self.next[0] {
            let read = self.store.read(self.stays, from, Offset::new(self.next[0]), 3000, true).await.unwrap();
            assert!(read.next_offset > from, "{from}");
            from = read.next_offset;
            found.extend(joined(&read.slices));
        }
        assert!(found == self.kept, "{} bytes of {}", found.len(), self.kept.len());
    }
}

pub(super) fn cold_segments(disk: &Disk) -> usize {
    let is_cold = |path: &PathBuf| {
        let header = disk.content(path).and_then(|content| SegmentHeader::decode(content.get(..4096)?).ok());
        header.is_some_and(|header| header.stream == Stream::Cold)
    };
    disk.paths().iter().filter(|path| is_cold(path)).count()
}

#[test]
fn one_record_that_stays_does_not_keep_a_segment() {
    Simulation::new(1)
        .run(|runtime| async move {
            let mut mixed = Mixed::create(&runtime, options()).await;
            for round in 1..=6 {
                mixed.fill(&runtime, 12).await;
                runtime.sleep(Duration::from_secs(20)).await;
                let stats = mixed.store.stats();
                let bound = stats.live_bytes * 13 / 10 + 6 * u64::from(SEGMENT_BYTES);
                assert!(stats.used_bytes <= bound, "round {round}: {stats:?}");
                assert!(stats.moved_bytes > 0 && stats.moved_bytes <= 2 * stats.appended_bytes, "{stats:?}");
                mixed.check().await;
            }
            assert!(cold_segments(&runtime.disk()) > 0);
            // It ends.
            let jobs = mixed.store.stats().cleaning_jobs;
            runtime.sleep(Duration::from_secs(600)).await;
            assert_eq!(mixed.store.stats().cleaning_jobs, jobs);
        })
        .finished();
}

#[test]
fn what_was_moved_survives_crashes_and_clean_stops() {
    for seed in 0..8 {
        let mut simulation = Simulation::new(seed);
        let kept = Rc::new(RefCell::new((Vec::new(), [0, 0])));
        for life in 0..4 {
            let carried = Rc::clone(&kept);
            let ended = simulation.run(move |runtime| async move {
                let mut mixed = if life == 0 {
                    Mixed::create(&runtime, options()).await
                } else {
                    let (store, _) = open(&runtime, options()).await;
                    let (stays, goes) = (LogId::new(1), LogId::new(2));
                    let (kept, next) = carried.borrow().clone();
                    let mixed = Mixed { store, stays, goes, kept, next };
                    mixed.check().await;
                    mixed
                };
                mixed.fill(&runtime, 14).await;
                runtime.sleep(Duration::from_millis(200 * (seed + 1))).await;
                mixed.check().await;
                *carried.borrow_mut() = (mixed.kept.clone(), mixed.next);
                if life % 2 == 1 {
                    mixed.store.close().await.unwrap();
                } else {
                    runtime.crash(if seed % 2 == 0 { Crash::Power } else { Crash::Process });
                    std::future::pending().await
                }
            });
            assert_eq!(ended.is_crash(), life % 2 == 0);
        }
    }
}

/// Where on disk the batch of the log that stays which begins at `offset` stands.
fn position_of(simulation: &Simulation, kept: &[u8], offset: usize) -> (PathBuf, u64) {
    let wanted = &kept[offset * LIVING..(offset + 1) * LIVING];
    let disk = simulation.disk();
    let found = disk.paths().into_iter().find_map(|path| {
        let content = disk.content(&path)?;
        let at = content.windows(LIVING).position(|window| window == wanted)?;
        Some((path, u64::try_from(at).unwrap()))
    });
    found.expect("it is on disk")
}

#[test]
fn what_is_damaged_stays_where_it_is_and_the_rest_is_moved() {
    let mut simulation = Simulation::new(3);
    let kept = simulation
        .run(|runtime| async move {
            let mut mixed = Mixed::create(&runtime, StoreOptions { clean_slack_segments: 1000, ..options() }).await;
            mixed.fill(&runtime, 30).await;
            mixed.store.close().await.unwrap();
            (mixed.kept, mixed.next)
        })
        .finished();
    let (path, at) = position_of(&simulation, &kept.0, 20);
    simulation.disk().flip_bit(&path, at + 200, 3);
    simulation
        .run(|runtime| async move {
            let (store, _) = open(&runtime, options()).await;
            runtime.sleep(Duration::from_secs(30)).await;
            let stats = store.stats();
            assert_eq!(stats.damaged_rows, 1);
            assert!(stats.cleaning_jobs > 0 && stats.used_bytes <= 8 * u64::from(SEGMENT_BYTES), "{stats:?}");
            let mut damaged = 0;
            for offset in 0..kept.1[0] {
                let (from, end) = (Offset::new(offset), Offset::new(offset + 1));
                match store.read(LogId::new(1), from, end, 10_000, true).await {
                    Ok(read) => {
                        let first = usize::try_from(offset).unwrap() * LIVING;
                        assert!(joined(&read.slices) == kept.0[first..first + LIVING], "offset {offset}");
                    }
                    Err(ReadError::Damaged { .. }) => damaged += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(damaged, 1, "the one batch that rotted");
        })
        .finished();
}

/// What a crash left of a segment that was being built hid the rest of the row that it was copied from.
#[test]
fn what_was_being_moved_at_a_crash_is_found_without_a_checkpoint() {
    // A row of more than an entry or two.
    let large = || StoreOptions { segment_bytes: 32 * SEGMENT_BYTES, budget_bytes: 1 << 30, ..options() };
    let mut begun = 0;
    for writes in 0..12 {
        let mut simulation = Simulation::new(writes);
        let (kept, next) = simulation
            .run(|runtime| async move {
                let mut mixed = Mixed::create(&runtime, StoreOptions { clean_slack_segments: 1000, ..large() }).await;
                mixed.fill(&runtime, 170).await;
                mixed.store.close().await.unwrap();
                (mixed.kept, mixed.next)
            })
            .finished();
        let moment = if writes % 2 == 0 { Moment::Begun } else { Moment::Completed };
        simulation.disk().crash_at(Operation::Write, moment, "segment", 6 + 3 * writes, Crash::Process);
        let ended = simulation.run(|runtime| async move {
            let (_store, _) = open(&runtime, StoreOptions { clean_slack_segments: 0, ..large() }).await;
            runtime.sleep(Duration::from_secs(30)).await;
        });
        simulation.disk().clear_traps();
        begun += usize::from(ended.is_crash() && cold_segments(&simulation.disk()) > 0);
        for name in ["checkpoint-0", "checkpoint-1"] {
            let path = PathBuf::from("/data/shard-3").join(name);
            if simulation.disk().content(&path).is_some_and(|content| content.len() > 4100) {
                simulation.disk().flip_bit(&path, 4100, 1);
            }
        }
        simulation
            .run(|runtime| async move {
                let (store, _) = open(&runtime, StoreOptions { accept_loss: true, ..large() }).await;
                Mixed { store, stays: LogId::new(1), goes: LogId::new(2), kept, next }.check().await;
            })
            .finished();
    }
    assert!(begun >= 2, "{begun} crashes came while something was moved");
}

#[test]
fn what_was_moved_is_found_without_a_checkpoint() {
    let mut simulation = Simulation::new(4);
    let (kept, next) = simulation
        .run(|runtime| async move {
            let mut mixed = Mixed::create(&runtime, options()).await;
            mixed.fill(&runtime, 40).await;
            runtime.sleep(Duration::from_secs(30)).await;
            assert!(mixed.store.stats().cleaning_jobs > 0);
            mixed.fill(&runtime, 2).await;
            mixed.store.close().await.unwrap();
            (mixed.kept, mixed.next)
        })
        .finished();
    for name in ["checkpoint-0", "checkpoint-1"] {
        simulation.disk().flip_bit(&PathBuf::from("/data/shard-3").join(name), 4100, 1);
    }
    simulation
        .run(|runtime| async move {
            let refused = Store::open(runtime.clone(), options(), &mut Heard::default()).await.err();
            assert!(matches!(refused, Some(OpenError::Checkpoint(_))), "{refused:?}");
            let (store, heard) = open(&runtime, StoreOptions { accept_loss: true, ..options() }).await;
            let stays = LogId::new(1);
            assert_eq!(heard.ends.get(&stays), Some(&(Offset::ZERO, Offset::new(next[0]))), "all of it was told");
            Mixed { store, stays, goes: LogId::new(2), kept, next }.check().await;
        })
        .finished();
}

/// A cold segment that is gone, or cut, with all that was in it: said, and accepted once.
#[test]
fn a_cold_segment_that_is_gone_is_damage_and_names_what_is_lost() {
    let mut simulation = Simulation::new(5);
    let next = simulation
        .run(|runtime| async move {
            let mut mixed = Mixed::create(&runtime, options()).await;
            mixed.fill(&runtime, 40).await;
            runtime.sleep(Duration::from_secs(30)).await;
            mixed.store.close().await.unwrap();
            mixed.next
        })
        .finished();
    let disk = simulation.disk();
    let is_cold = |path: &PathBuf| {
        let header = disk.content(path).and_then(|content| SegmentHeader::decode(content.get(..4096)?).ok());
        header.is_some_and(|header| header.stream == Stream::Cold)
    };
    let cold: Vec<PathBuf> = disk.paths().into_iter().filter(is_cold).collect();
    assert!(!cold.is_empty());
    cold.iter().for_each(|path| disk.uproot(path));
    simulation
        .run(move |runtime| async move {
            let refused = Store::open(runtime.clone(), options(), &mut Heard::default()).await.err();
            let Some(OpenError::Damage { lost, .. }) = refused else { panic!("{refused:?}") };
            assert!(lost.iter().any(|lost| lost.log == LogId::new(1) && lost.first == Offset::ZERO), "{lost:?}");
            let gone = lost.iter().filter(|lost| lost.log == LogId::new(1)).map(|lost| lost.last).max().unwrap();
            let mut heard = Heard::default();
            let accepting = StoreOptions { accept_loss: true, ..options() };
            let store = Store::open(runtime.clone(), accepting, &mut heard).await.unwrap();
            let (from, end) = (gone.advance(1), Offset::new(next[0]));
            let read = store.read(LogId::new(1), Offset::ZERO, end, usize::MAX, true).await.unwrap();
            assert!(!read.slices.is_empty() || read.next_offset >= from, "{read:?}");
        })
        .finished();
}

/// Many logs that stay beside many that go, a batch of each in turn: nobody wants space, and a part of every segment is dead.
#[test]
fn what_lies_scattered_is_put_in_order_while_it_is_quiet() {
    let scattered = || StoreOptions {
        clean_slack_segments: 1000,
        clean_thin_row_bytes: 100_000,
        budget_bytes: 1 << 30,
        ..options()
    };
    // What lives of a segment is the more: how much fits into a job, and its last victim, differ.
    for stays in 5..11 {
        let is_kept = move |log: LogId| log.value() % 16 < stays;
        Simulation::new(stays)
            .run(move |runtime| async move {
                let (store, _) = open(&runtime, scattered()).await;
                let logs: Vec<LogId> = (0..16)
                    .map(|index| store.create(TopicId::new([1; 16]), PartitionIndex::new(index)).unwrap().0)
                    .collect();
                let mut kept: BTreeMap<LogId, Vec<u8>> = BTreeMap::new();
                let mut rounds = 0;
                while store.stats().appended_bytes < 40 * u64::from(SEGMENT_BYTES) {
                    for log in &logs {
                        let batch = batch_bytes(rounds, 1, LIVING, u64::try_from(rounds).unwrap() * 16 + log.value());
                        store.reserve(batch.len()).await.unwrap();
                        let end = append(&store, *log, &batch, Durability::Flushed).unwrap();
                        until_durable(&store, &runtime, end).await;
                        if is_kept(*log) {
                            kept.entry(*log).or_default().extend_from_slice(&batch);
                        }
                    }
                    rounds += 1;
                }
                for log in logs.iter().filter(|log| !is_kept(**log)) {
                    store.set_log_start(*log, Offset::new(rounds)).unwrap();
                }
                runtime.sleep(Duration::from_secs(120)).await;
                let stats = store.stats();
                let left = {
                    let state = store.core.state.borrow();
                    let is_left = |number: &SegmentNumber| state.index.live_bytes(*number) > 0;
                    let live = state.segments.live.iter();
                    let hot = live.filter(|(_, live)| live.header.stream == Stream::Hot && live.sealed_end.is_some());
                    hot.filter(|(number, _)| is_left(number)).count()
                };
                // One alone would give nothing back.
                assert!(left <= 1, "{left} segments are as they were: {stats:?}");
                let kept_bytes: usize = kept.values().map(Vec::len).sum();
                assert!(stats.moved_bytes <= 2 * u64::try_from(kept_bytes).unwrap(), "each is moved once: {stats:?}");
                runtime.sleep(Duration::from_secs(600)).await;
                assert_eq!(store.stats().cleaning_jobs, stats.cleaning_jobs, "it ends");
                for (log, wanted) in &kept {
                    let read = store.read(*log, Offset::ZERO, Offset::new(rounds), usize::MAX, true).await.unwrap();
                    assert!(joined(&read.slices) == *wanted && read.next_offset == Offset::new(rounds));
                }
            })
            .finished();
    }
}
