//! A store without room: who still gets some, and that everything comes back by itself.

use std::cell::Cell;

use super::*;
use crate::simulation::Crash;
use crate::simulation::disk::Operation;
use crate::simulation::seeds::Seeds;

const TOPIC: TopicId = TopicId::new([9; 16]);

/// Appends batches of 3,000 bytes for `purpose` until there is no room, and gives the next offset.
async fn fill(store: &Store<SimulatedRuntime>, purpose: Purpose, log: LogId, mut base: i64) -> i64 {
    loop {
        let bytes = batch_bytes(base, 1, 3000, u64::try_from(base).unwrap());
        match store.reserve_for(purpose, bytes.len()).await {
            Ok(()) => {}
            Err(StorageError::Full { .. }) => return base,
            Err(error) => panic!("{error}"),
        }
        append_for(store, purpose, log, base, &bytes);
        base += 1;
    }
}

/// Appends a batch of one record for `purpose`, for which there is room.
fn append_for(store: &Store<SimulatedRuntime>, purpose: Purpose, log: LogId, base: i64, bytes: &[u8]) {
    let (header, records) = bytes.split_first_chunk::<BATCH_HEADER_BYTES>().unwrap();
    let (base_offset, timestamp_max) = (Offset::new(base), TimestampMs::new(1000 + base));
    let batch = Batch { header, records, base_offset, last_offset: base_offset, timestamp_max };
    store.append_for(purpose, log, batch, Durability::Written).unwrap();
}

/// Waits until a batch of a client is taken again, which takes no more than a few tries to make a file.
async fn until_room(store: &Store<SimulatedRuntime>, runtime: &SimulatedRuntime) {
    for _ in 0..100 {
        // What freed space may have opened a segment in which a record fits before the store is no longer full.
        if store.try_reserve(3000).is_some_and(|room| room.is_ok()) && !store.is_full() {
            return;
        }
        runtime.sleep(Duration::from_millis(20)).await;
    }
    panic!("there is no room again: {:?}", store.stats());
}

pub(super) fn segment_files(runtime: &SimulatedRuntime) -> u64 {
    let paths = runtime.disk().paths();
    paths.iter().filter(|path| path.to_string_lossy().contains("segment")).count().try_into().unwrap()
}

#[test]
fn what_frees_space_goes_further_than_metadata_that_than_groups_and_those_than_clients() {
    // At the budget deletions, changes of settings and commits of offsets were refused like records.
    Seeds::from_environment(10).each(|seed| {
        Simulation::new(seed)
            .run(move |runtime| async move {
                let budget_bytes = 5 * u64::from(SEGMENT_BYTES);
                let options = StoreOptions { budget_bytes, ..options() };
                let (store, _) = open(&runtime, options).await;
                let (log, _) = store.create(TOPIC, PartitionIndex::new(0)).unwrap();
                let mut base = 0;
                let mut segments = Vec::new();
                for purpose in [Purpose::Client, Purpose::Group, Purpose::Metadata, Purpose::FreesSpace] {
                    base = fill(&store, purpose, log, base).await;
                    segments.push(store.stats().segments_live);
                    assert!(store.is_full());
                }
                assert_eq!(segments, [5, 7, 8, 9]);
                assert!(segment_files(&runtime) <= 10, "with the cleaner's");
                // What was just opened is full as well: nothing can be freed any more until something dies, but the log
                // start was moved before that in any real order.
                store.close().await.unwrap();
            })
            .finished();
    });
}

#[test]
fn a_device_without_room_refuses_records_lets_delete_and_heals_without_a_restart() {
    Seeds::from_environment(20).each(|seed| {
        Simulation::new(seed)
            .run(move |runtime| async move {
                let (store, _) = open(&runtime, StoreOptions { checkpoint_interval_ms: 1_000_000, ..options() }).await;
                let (log, _) = store.create(TOPIC, PartitionIndex::new(0)).unwrap();
                let (other, _) = store.create(TOPIC, PartitionIndex::new(1)).unwrap();
                runtime.disk().change(|options| options.capacity_bytes = 14 * u64::from(SEGMENT_BYTES));
                let base = fill(&store, Purpose::Client, log, 0).await;
                assert!(base > 150, "most of the device was used: {base}");
                let Some(Err(error)) = store.try_reserve(3000) else { panic!("there is no room") };
                assert!(matches!(error, StorageError::Full { is_device_full: true, .. }), "{error}");
                assert!(store.is_full());

                // Somebody else makes room: no deletion is needed.
                runtime.disk().change(|options| options.capacity_bytes = 18 * u64::from(SEGMENT_BYTES));
                until_room(&store, &runtime).await;
                assert!(!store.is_full());
                let base = fill(&store, Purpose::Client, log, base).await;
                assert!(store.is_full());

                // Nobody does: what is deleted is recycled.
                store.set_log_start(log, Offset::new(base - 1)).unwrap();
                until_room(&store, &runtime).await;
                assert!(!store.is_full());
                let base = fill(&store, Purpose::Client, log, base).await;
                let end = store.delete(log).unwrap();
                until_durable(&store, &runtime, end).await;
                until_room(&store, &runtime).await;
                assert!(fill(&store, Purpose::Client, other, 0).await > 150, "{base}");
                store.close().await.unwrap();
            })
            .finished();
    });
}

#[test]
fn deletions_work_where_the_budget_is_smaller_than_what_is_used() {
    // More shards on a device, or other files on it, make the budget of each smaller. The reserve stood upon the budget,
    // so that with 9 segments used of 3 nothing could be deleted once the open segment was full.
    Seeds::from_environment(10).each(|seed| {
        let mut simulation = Simulation::new(seed);
        let budget = |segments: u64| StoreOptions { budget_bytes: segments * u64::from(SEGMENT_BYTES), ..options() };
        let log = simulation
            .run(move |runtime| async move {
                let (store, _) = open(&runtime, budget(9)).await;
                let (log, _) = store.create(TOPIC, PartitionIndex::new(0)).unwrap();
                fill(&store, Purpose::Client, log, 0).await;
                store.close().await.unwrap();
                log
            })
            .finished();
        simulation
            .run(move |runtime| async move {
                let (store, _) = open(&runtime, budget(3)).await;
                let base = store.partition(log).unwrap().log_end.value();
                assert!(matches!(store.try_reserve(3000), Some(Err(StorageError::Full { .. }))));
                let (other, _) = store.create(TOPIC, PartitionIndex::new(1)).unwrap();
                let base = fill(&store, Purpose::Metadata, log, base).await;
                assert!(store.stats().segments_live > 9, "metadata goes on from where it was opened");
                store.set_log_start(log, Offset::new(base - 1)).unwrap();
                until_room(&store, &runtime).await;
                fill(&store, Purpose::Client, other, 0).await;
                assert!(store.stats().segments_live <= 4, "{:?}", store.stats());
                store.close().await.unwrap();
            })
            .finished();
    });
}

#[test]
fn a_store_starts_again_and_again_where_not_one_byte_is_free() {
    // At 0 bytes free a kill -9 made the next start impossible, a clean stop the second start.
    Seeds::from_environment(20).each(|seed| {
        let mut simulation = Simulation::new(seed);
        let mut random = Random::new(seed);
        let segment_bytes = 1024 * 1024;
        let options = move || StoreOptions { checkpoint_interval_ms: 50, segment_bytes, ..options() };
        let log = simulation
            .run(move |runtime| async move {
                let (store, _) = open(&runtime, options()).await;
                let (log, _) = store.create(TOPIC, PartitionIndex::new(0)).unwrap();
                runtime.sleep(Duration::from_secs(2)).await;
                let used_bytes = runtime.disk().used_bytes();
                runtime.disk().change(|options| options.capacity_bytes = used_bytes);
                fill(&store, Purpose::Client, log, 0).await;
                store.close().await.unwrap();
                log
            })
            .finished();
        for life in 0..8 {
            let crash = *random.pick(&[None, Some(Crash::Process), Some(Crash::Power)]);
            let pause = Duration::from_millis(random.below(500));
            let ended = simulation.run(move |runtime| async move {
                let (store, _) = open(&runtime, options()).await;
                let end = store.create(TOPIC, PartitionIndex::new(1 + life)).unwrap().1;
                until_durable(&store, &runtime, end).await;
                runtime.sleep(pause).await;
                match crash {
                    None => store.close().await.unwrap(),
                    Some(crash) => {
                        runtime.crash(crash);
                        std::future::pending::<()>().await;
                    }
                }
            });
            assert_eq!(ended.is_crash(), crash.is_some());
        }
        simulation
            .run(move |runtime| async move {
                let (store, _) = open(&runtime, options()).await;
                store.delete(log).unwrap();
                until_room(&store, &runtime).await;
                store.close().await.unwrap();
            })
            .finished();
    });
}

/// Its snapshot of every partition has so many bytes.
struct LargeOwner(Rc<Cell<usize>>);

impl Owner for LargeOwner {
    fn on_progress(&self) {}

    fn snapshot(&self, _log: LogId, out: &mut Vec<u8>) {
        out.resize(self.0.get(), 7);
    }
}

#[test]
fn a_checkpoint_that_outgrows_its_file_on_a_full_device_waits_for_space_and_fails_nothing() {
    // It was written behind the end of its file: out of space there made the store read-only until a restart.
    Seeds::from_environment(10).each(|seed| {
        Simulation::new(seed)
            .run(move |runtime| async move {
                let mut heard = Heard::default();
                let store = Store::open(runtime.clone(), options(), &mut heard).await.unwrap();
                let bytes = Rc::new(Cell::new(100));
                store.set_owner(Rc::new(LargeOwner(Rc::clone(&bytes))));
                let (log, _) = store.create(TOPIC, PartitionIndex::new(0)).unwrap();
                runtime.sleep(Duration::from_secs(1)).await;
                store.checkpoint().await.unwrap();
                let checkpoints = store.stats().checkpoints;
                bytes.set(300_000);
                runtime.disk().change(|options| options.capacity_bytes = 0);
                let base = fill(&store, Purpose::Client, log, 0).await;
                assert!(matches!(store.checkpoint().await, Err(StorageError::Full { .. })));
                let end = store.set_log_start(log, Offset::new(base)).unwrap();
                until_durable(&store, &runtime, end).await;
                runtime.sleep(Duration::from_secs(3)).await;
                assert!(store.failure().is_none() && store.stats().checkpoints == checkpoints);
                // What is free for a checkpoint alone is enough for everything.
                let used: usize =
                    runtime.disk().paths().iter().map(|path| runtime.disk().content(path).unwrap().len()).sum();
                runtime.disk().change(|options| options.capacity_bytes = u64::try_from(used).unwrap() + 1_000_000);
                until_room(&store, &runtime).await;
                store.close().await.unwrap();
            })
            .finished();
    });
}

#[test]
fn what_is_opened_out_of_the_reserve_is_not_for_clients() {
    // One commit of a group opened a segment out of the reserve, clients who tried again and again filled it, then the last
    // one: records could not be deleted any more, and the next start found no room for its own.
    Seeds::from_environment(20).each(|seed| {
        let mut random = Random::new(seed);
        let mut simulation = Simulation::new(seed);
        let log = Rc::new(Cell::new(LogId::new(0)));
        // Each unclean stop halves what the next start finds where others take all that is given back.
        for life in 0..3 {
            let (log, tries) = (Rc::clone(&log), random.index(4));
            let ended = simulation.run(move |runtime| async move {
                // What the last life gave back, others took.
                let others_take = || {
                    let used = runtime.disk().used_bytes();
                    runtime.disk().change(|options| options.capacity_bytes = used);
                };
                if life > 0 {
                    others_take();
                }
                let (store, _) = open(&runtime, StoreOptions { checkpoint_interval_ms: 1_000_000, ..options() }).await;
                if life == 0 {
                    log.set(store.create(TOPIC, PartitionIndex::new(0)).unwrap().0);
                    runtime.disk().change(|options| options.capacity_bytes = 14 * u64::from(SEGMENT_BYTES));
                    fill(&store, Purpose::Client, log.get(), 0).await;
                }
                others_take();

                let is_full = |result| matches!(result, Err(StorageError::Full { .. }));
                let end = || store.partition(log.get()).unwrap().log_end.value();
                // Where the reserve is whole again, clients may go on, but never into it.
                fill(&store, Purpose::Client, log.get(), end()).await;
                let live = store.stats().segments_live;
                while store.stats().segments_live == live {
                    let base = end();
                    if store.reserve_for(Purpose::Group, 3000).await.is_err() {
                        break;
                    }
                    append_for(&store, Purpose::Group, log.get(), base, &batch_bytes(base, 1, 3000, 7));
                }
                for _ in 0..100 {
                    assert!(is_full(store.reserve(10).await), "life {life}: clients have what is for groups");
                }
                for start in (life * 10 + 1..).take(tries) {
                    let end = store.set_log_start(log.get(), Offset::new(start)).expect("the reserve is whole");
                    until_durable(&store, &runtime, end).await;
                }
                if seed.is_multiple_of(2) {
                    store.close().await.unwrap();
                }
                runtime.crash(Crash::Process);
                std::future::pending::<()>().await;
            });
            assert!(ended.is_crash());
        }
    });
}

#[test]
fn a_file_whose_name_cannot_be_made_durable_is_not_left_behind() {
    // Without descriptors to open the directory each try left a file of 64 MiB: 3.7 GB in ten seconds.
    const TRIES: u64 = 20;
    Seeds::from_environment(10).each(|seed| {
        Simulation::new(seed)
            .run(move |runtime| async move {
                let (store, _) = open(&runtime, options()).await;
                let (log, _) = store.create(TOPIC, PartitionIndex::new(0)).unwrap();
                let created = |runtime: &SimulatedRuntime| {
                    let stats = store.stats();
                    (segment_files(runtime), stats.segments_live)
                };
                runtime.sleep(Duration::from_secs(1)).await;
                let (files, live) = created(&runtime);
                for skip in 0..TRIES {
                    runtime.disk().fail(Operation::SyncDirectory, "shard", skip);
                }
                // More than the files that are there hold.
                let mut base = 0;
                while store.stats().segments_live < live + files + 2 {
                    let bytes = batch_bytes(base, 1, 3000, 7);
                    if store.reserve(3000).await.is_err() {
                        runtime.sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                    append(&store, log, &bytes, Durability::Written).unwrap();
                    base += 1;
                }
                runtime.sleep(Duration::from_secs(10)).await;
                let (files_now, live_now) = created(&runtime);
                assert!(
                    files_now <= files + live_now - live + 1, // the spare one of the cleaner
                    "{files} files, {files_now} now; {live_now} segments live"
                );
                store.close().await.unwrap();
            })
            .finished();
    });
}

#[test]
fn crashes_cost_no_space_however_many_there_are() {
    // Every unclean stop cost a segment for good: 50 times kill -9 of an idle broker made 6.6 GiB of 256 MiB.
    const BYTES: u32 = 1024 * 1024;
    Seeds::from_environment(10).each(|seed| {
        let mut random = Random::new(seed);
        let batches = *random.pick(&[0, 1, 3]);
        let checkpoint_interval_ms = *random.pick(&[20, 100_000]);
        let options = move || StoreOptions { segment_bytes: BYTES, checkpoint_interval_ms, ..options() };
        let mut simulation = Simulation::new(seed);
        let log = simulation
            .run(move |runtime| async move {
                let (store, _) = open(&runtime, options()).await;
                let (log, _) = store.create(TOPIC, PartitionIndex::new(0)).unwrap();
                runtime.sleep(Duration::from_secs(2)).await;
                store.close().await.unwrap();
                log
            })
            .finished();
        let before = simulation.disk().used_bytes();
        for life in 0..50 {
            let crash = *random.pick(&[Crash::Process, Crash::Power]);
            let pause = Duration::from_micros(random.below(300_000));
            if random.chance(1, 3) {
                simulation.crash_after(random.below(300), crash);
            }
            let ended = simulation.run(move |runtime| async move {
                let (store, _) = open(&runtime, options()).await;
                for _ in 0..batches {
                    let base = store.partition(log).unwrap().log_end.value();
                    append(&store, log, &batch_bytes(base, 1, 500, life), Durability::Flushed).unwrap();
                }
                runtime.sleep(pause).await;
                runtime.crash(crash);
                std::future::pending::<()>().await;
            });
            assert!(ended.is_crash());
        }
        let cost = simulation.disk().used_bytes() - before;
        let files = simulation.disk().paths().len();
        assert!(
            cost <= 2 * u64::from(BYTES),
            "50 crashes cost {cost} bytes, in {files} files: {batches} batches a life, {checkpoint_interval_ms} ms"
        );
        simulation
            .run(move |runtime| async move {
                let (store, _) = open(&runtime, options()).await;
                let end = store.partition(log).unwrap().log_end;
                assert!(batches == 0 || end > Offset::ZERO);
                let all = store.read(log, Offset::ZERO, end, 10_000_000, true).await.unwrap();
                assert_eq!(joined(&all.slices).len(), 500 * usize::try_from(end.value()).unwrap());
                store.close().await.unwrap();
            })
            .finished();
    });
}

#[test]
fn free_files_that_nobody_needs_are_removed_and_given_space_is_found_again() {
    Simulation::new(1)
        .run(move |runtime| async move {
            let (store, _) = open(&runtime, StoreOptions { checkpoint_interval_ms: 1000, ..options() }).await;
            let (log, _) = store.create(TOPIC, PartitionIndex::new(0)).unwrap();
            let (other, _) = store.create(TOPIC, PartitionIndex::new(1)).unwrap();
            fill(&store, Purpose::Client, log, 0).await;
            let files = segment_files(&runtime);
            assert!(files > 60);
            store.delete(log).unwrap();
            runtime.sleep(Duration::from_secs(30)).await;
            assert!(segment_files(&runtime) >= files, "they may be the next segments soon");
            runtime.sleep(Duration::from_secs(3 * 60)).await;
            assert!(segment_files(&runtime) <= 6, "nothing comes any more: {}", segment_files(&runtime));
            runtime.sleep(Duration::from_secs(30 * 60)).await;
            assert!(segment_files(&runtime) <= 5, "{}", segment_files(&runtime));
            fill(&store, Purpose::Client, other, 0).await;
            store.close().await.unwrap();
        })
        .finished();
}
