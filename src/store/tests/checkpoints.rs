//! What becomes of a store whose checkpoint cannot be written.

use super::space::segment_files;
use super::*;
use crate::simulation::Crash;
use crate::simulation::disk::{Latency, Operation};
use crate::simulation::seeds::Seeds;
use crate::store::checkpoint::CheckpointError;

/// The data directory was removed while the broker ran: no checkpoint could be created, which was taken for a full disk, and
/// the store went on acknowledging what no start would find. Only lack of space passes by itself.
#[test]
fn a_checkpoint_that_cannot_be_created_makes_the_store_read_only_unless_space_is_lacking() {
    let mut simulation = Simulation::new(1);
    let disk = simulation.disk();
    simulation
        .run(|runtime| async move {
            let (store, _) = open(&runtime, options()).await;
            // A checkpoint that is larger than its file, for which there is no room.
            for partition in 0..1000 {
                store.reserve(200).await.unwrap();
                store.create(TopicId::new([1; 16]), PartitionIndex::new(partition)).unwrap();
            }
            disk.change(|options| options.capacity_bytes = 0);
            let full = store.checkpoint().await;
            assert!(matches!(full, Err(StorageError::Full { .. })), "{full:?}");
            assert!(store.failure().is_none());
            disk.change(|options| options.capacity_bytes = u64::MAX);
            // An error that is not about space.
            disk.fail(Operation::Write, "checkpoint", 0);
            let failed = store.checkpoint().await;
            assert!(matches!(failed, Err(StorageError::ReadOnly { operation: "checkpoint", .. })), "{failed:?}");
            assert!(store.create(TopicId::new([1; 16]), PartitionIndex::new(0)).is_err());
        })
        .finished();
}

#[test]
fn a_store_that_is_made_read_only_takes_nothing_and_says_why() {
    let mut simulation = Simulation::new(2);
    simulation
        .run(|runtime| async move {
            let (store, _) = open(&runtime, options()).await;
            let (log, end) = store.create(TopicId::new([1; 16]), PartitionIndex::new(0)).unwrap();
            until_durable(&store, &runtime, end).await;
            store.make_read_only("look at its directory", &std::io::Error::other("it is gone"));
            let refused = append(&store, log, &batch_bytes(0, 1, 100, 1), Durability::Flushed).unwrap_err().to_string();
            assert_eq!(refused, "store is read-only after a failed look at its directory: it is gone");
            assert_eq!(store.progress().durable, end);
            assert!(store.checkpoint().await.is_err());
        })
        .finished();
}

/// A segment was opened while no file was there, and the file that it got had been freed by a checkpoint that came later:
/// its header named the one before. With the newer one damaged the older one was believed, which names segments that are
/// gone, and what stands behind them was reported lost though nothing of it was.
#[test]
fn a_segment_that_waited_for_its_file_names_the_checkpoint_that_freed_it() {
    let options = || StoreOptions {
        // What a segment leaves unused is too little to be given back, so that its file is used again.
        segment_bytes: 4 * SEGMENT_BYTES,
        checkpoint_interval_ms: 1_000_000_000,
        checkpoint_appended_bytes: u64::MAX,
        ..options()
    };
    let constant = |us: u64| Latency { usual_us: us..us + 1, spikes_per_mille: 0, spike_us: 0..1 };
    Seeds::from_environment(10).each(|seed| {
        let mut simulation = Simulation::new(seed);
        let ended = simulation.run(move |runtime| async move {
            let (store, _) = open(&runtime, options()).await;
            let (log, _) = store.create(TopicId::new([9; 16]), PartitionIndex::new(0)).unwrap();
            let append_one = || {
                let base = store.partition(log).unwrap().log_end.value();
                append(&store, log, &batch_bytes(base, 1, 3000, 7), Durability::Flushed).unwrap()
            };
            for _ in 0..250 {
                store.reserve(3000).await.unwrap();
                until_durable(&store, &runtime, append_one()).await;
            }
            store.checkpoint().await.unwrap();
            let cut = store.set_log_start(log, store.partition(log).unwrap().log_end).unwrap();
            until_durable(&store, &runtime, cut).await;
            // All footers are written, and all files kept ready are there.
            runtime.sleep(Duration::from_secs(1)).await;
            let files_before = segment_files(&runtime);
            let disk = runtime.disk();
            disk.change(|options| (options.capacity_bytes, options.write) = (0, constant(50_000)));
            let checkpointing = store.clone();
            runtime.spawn(async move { checkpointing.checkpoint().await.unwrap() });
            // A sleep may be over at once: until it has begun, and with that what it covers is decided.
            while store.core.checkpoints.borrow().is_some() {
                runtime.sleep(Duration::from_millis(1)).await;
            }
            let waits = || store.core.state.borrow().segments.without_file().is_some();
            let mut end = append_one();
            while !waits() {
                end = append_one();
            }
            assert_eq!(store.stats().checkpoints, 1, "the second one is being written");
            while store.stats().checkpoints < 2 {
                assert!(waits());
                runtime.sleep(Duration::from_millis(1)).await;
            }
            disk.change(|options| options.write = constant(100));
            until_durable(&store, &runtime, end).await;
            assert_eq!(segment_files(&runtime), files_before, "the file was one of those that were freed");
            runtime.crash(Crash::Process);
            runtime.sleep(Duration::from_secs(1)).await;
        });
        assert!(ended.is_crash());
        let disk = simulation.disk();
        let sequence = |path: &PathBuf| {
            let content = disk.content(path).unwrap();
            u64::from_le_bytes(content[16..24].try_into().unwrap())
        };
        let is_checkpoint = |path: &PathBuf| path.to_string_lossy().contains("checkpoint");
        let newest = disk.paths().into_iter().filter(is_checkpoint).max_by_key(sequence).unwrap();
        disk.flip_bit(&newest, 4100, 3);
        let opened = simulation.run(move |runtime| async move {
            Store::open(runtime, options(), &mut Heard::default()).await.map(|store| store.partitions())
        });
        let refused = opened.finished().unwrap_err();
        assert!(
            matches!(refused, OpenError::Checkpoint(CheckpointError::Lost { named: 2, found: Some(1) })),
            "{refused}"
        );
    });
}
