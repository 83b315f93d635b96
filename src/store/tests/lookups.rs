//! Lookups by time, and a store that runs out of its budget.

use super::*;
use crate::simulation::Simulation;
use crate::simulation::random::Random;
use crate::simulation::seeds::Seeds;

/// A batch and its greatest timestamp.
type Timed = (i64, Vec<u8>);

/// Sets the greatest timestamp of a batch, and its crc again.
fn with_timestamp(mut bytes: Vec<u8>, timestamp: i64) -> Vec<u8> {
    bytes[35..43].copy_from_slice(&timestamp.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn base(batch: &Option<Vec<u8>>) -> Option<i64> {
    batch.as_ref().map(|bytes| i64::from_be_bytes(bytes[0..8].try_into().unwrap()))
}

#[test]
fn batches_are_found_by_time_in_memory_and_on_disk() {
    Seeds::from_environment(20).each(|seed| {
        let mut simulation = Simulation::new(seed);
        simulation
            .run(move |runtime| async move {
                let mut random = Random::new(seed);
                let (store, _) = open(&runtime, StoreOptions { memory_bytes: 128 * 1024, ..options() }).await;
                let mut logs: Vec<(LogId, Vec<Timed>)> = Vec::new();
                for index in 0..3 {
                    logs.push((store.create(TopicId::new([9; 16]), PartitionIndex::new(index)).unwrap().0, Vec::new()));
                }
                for batch in 0..150 {
                    let (log, batches) = &mut logs[random.index(3)];
                    let base = i64::try_from(batches.len()).unwrap() * 2;
                    let timestamp = i64::try_from(random.below(1000)).unwrap();
                    let bytes = with_timestamp(batch_bytes(base, 2, 100 + random.index(4000), batch), timestamp);
                    store.reserve(bytes.len()).await.unwrap();
                    append(&store, *log, &bytes, Durability::Flushed).unwrap();
                    batches.push((timestamp, bytes));
                }
                for (log, batches) in &logs {
                    let from = random.index(batches.len());
                    store.set_log_start(*log, Offset::new(i64::try_from(from).unwrap() * 2)).unwrap();
                    let live = &batches[from..];
                    for _ in 0..10 {
                        let wanted = i64::try_from(random.below(1001)).unwrap();
                        let found = store.batch_at_timestamp(*log, TimestampMs::new(wanted)).await.unwrap();
                        let expected = live.iter().find(|(timestamp, _)| *timestamp >= wanted);
                        let expected = expected.map(|(_, bytes)| bytes);
                        assert!(
                            found.as_ref() == expected,
                            "{wanted}: {:?}, not {:?}",
                            base(&found),
                            base(&expected.cloned())
                        );
                    }
                    let greatest = live.iter().map(|(timestamp, _)| *timestamp).max().unwrap();
                    let expected = live.iter().find(|(timestamp, _)| *timestamp == greatest).unwrap();
                    let found = store.batch_with_timestamp_max(*log).await.unwrap();
                    assert!(found.as_ref() == Some(&expected.1));
                }
                let (empty, _) = store.create(TopicId::new([9; 16]), PartitionIndex::new(9)).unwrap();
                assert_eq!(store.batch_with_timestamp_max(empty).await.unwrap(), None);
                assert_eq!(store.batch_at_timestamp(empty, TimestampMs::new(0)).await.unwrap(), None);
            })
            .finished();
    });
}

#[test]
fn a_full_store_refuses_appends_and_goes_on_once_space_is_freed() {
    Seeds::from_environment(10).each(|seed| {
        let mut simulation = Simulation::new(seed);
        simulation
            .run(move |runtime| async move {
                let budget_bytes = 5 * u64::from(SEGMENT_BYTES);
                let options = StoreOptions { budget_bytes, checkpoint_interval_ms: 1_000_000, ..options() };
                let (store, _) = open(&runtime, options).await;
                let (log, _) = store.create(TopicId::new([9; 16]), PartitionIndex::new(0)).unwrap();
                let mut base = 0;
                for round in 0..4 {
                    let mut appended = 0;
                    loop {
                        let bytes = batch_bytes(base, 1, 3000, u64::try_from(base).unwrap());
                        match store.reserve(bytes.len()).await {
                            Ok(()) => {}
                            Err(StorageError::Full { .. }) if appended > 0 => break,
                            // Space is freed in the background.
                            Err(StorageError::Full { .. }) => {
                                runtime.sleep(Duration::from_millis(1)).await;
                                continue;
                            }
                            Err(error) => panic!("{error}"),
                        }
                        append(&store, log, &bytes, Durability::Written).unwrap();
                        base += 1;
                        appended += 1;
                    }
                    assert!(round > 0 || appended > 60, "the budget was used");
                    let refused = append(&store, log, &batch_bytes(base, 1, 3000, 0), Durability::Written);
                    assert!(matches!(refused, Err(StorageError::Full { .. })));
                    store.set_log_start(log, Offset::new(base)).unwrap();
                }
                let disk_bytes = runtime.disk().paths().len() * usize::try_from(SEGMENT_BYTES).unwrap();
                assert!(
                    disk_bytes <= 11 * usize::try_from(SEGMENT_BYTES).unwrap(),
                    "budget, reserve, one ready, checkpoints"
                );
                store.close().await.unwrap();
            })
            .finished();
    });
}

#[test]
fn a_batch_that_fits_no_segment_is_refused() {
    let mut simulation = Simulation::new(1);
    simulation
        .run(|runtime| async move {
            let (store, _) = open(&runtime, options()).await;
            let (log, _) = store.create(TopicId::new([9; 16]), PartitionIndex::new(0)).unwrap();
            let segment_bytes = usize::try_from(SEGMENT_BYTES).unwrap();
            let refused = append(&store, log, &batch_bytes(0, 1, segment_bytes, 1), Durability::Written);
            assert!(matches!(refused, Err(StorageError::TooLarge { .. })));
            let largest = batch_bytes(0, 1, segment_bytes - 3 * 4096 - 48, 1);
            store.reserve(largest.len()).await.unwrap();
            append(&store, log, &largest, Durability::Flushed).unwrap();
            let second = batch_bytes(1, 1, 100, 2);
            append(&store, log, &second, Durability::Flushed).unwrap();
            store.close().await.unwrap();
            let all = store.read(log, Offset::ZERO, Offset::new(2), 1, true).await.unwrap();
            assert_eq!(joined(&all.slices), largest);
        })
        .finished();
}
