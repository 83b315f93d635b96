//! Compaction passes of the store: rows that grow, what cannot be compacted, and what is read from memory meanwhile.

use std::cell::Cell;

use super::*;
use crate::compaction::{Candidate, CompactionRules};
use crate::protocol::compression::Codec;
use crate::protocol::record_batch::{BatchBuilder, BatchView, batches, stamp};
use crate::types::LeaderEpoch;

const RULES: CompactionRules = CompactionRules {
    segment_bytes: 1,
    segment_ms: 1,
    segment_jitter_ms: 0,
    min_lag_ms: 0,
    max_lag_ms: i64::MAX,
    dirty_ratio_min: 0.0,
    delete_retention_ms: 1 << 40,
};

/// What the owner was told.
#[derive(Default)]
struct Told {
    clean_end: Cell<i64>,
    refused: RefCell<Vec<(LogId, String)>>,
}

struct Listener(Rc<Told>);

impl Owner for Listener {
    fn on_progress(&self) {}

    fn snapshot(&self, _: LogId, _: &mut Vec<u8>) {}

    fn on_compacted(&self, _: LogId, end: Offset) {
        self.0.clean_end.set(end.value());
    }

    fn on_not_compacted(&self, log: LogId, why: &str) {
        self.0.refused.borrow_mut().push((log, why.to_owned()));
    }
}

async fn start(runtime: &SimulatedRuntime, options: StoreOptions) -> (Store<SimulatedRuntime>, Rc<Told>) {
    let store = Store::open(runtime.clone(), options, &mut Heard::default()).await.unwrap();
    let told = Rc::new(Told::default());
    store.set_owner(Rc::new(Listener(Rc::clone(&told))));
    (store, told)
}

/// A batch of records of these keys, `None` for tombstones.
async fn put(store: &Store<SimulatedRuntime>, log: LogId, codec: Codec, records: &[(u32, Option<&[u8]>)]) {
    let mut builder = BatchBuilder::new(codec);
    for (key, value) in records {
        builder.append(TimestampMs::new(1000), Some(&key.to_be_bytes()), *value, &[]);
    }
    let mut bytes = builder.build();
    let base_offset = store.partition(log).unwrap().log_end;
    stamp(bytes.first_chunk_mut().unwrap(), base_offset, LeaderEpoch::new(0));
    append_bytes(store, log, &bytes).await;
}

async fn append_bytes(store: &Store<SimulatedRuntime>, log: LogId, bytes: &[u8]) {
    store.reserve(bytes.len()).await.unwrap();
    let (header, records) = bytes.split_first_chunk().unwrap();
    let view = BatchView::parse(bytes).unwrap().header;
    let (base_offset, last_offset) = (view.base_offset, view.last_offset());
    let batch = Batch { header, records, base_offset, last_offset, timestamp_max: view.max_timestamp };
    store.append(log, batch, Durability::Flushed).unwrap();
}

/// Ends the open segment, once there is a file for the next.
async fn seal(runtime: &SimulatedRuntime, store: &Store<SimulatedRuntime>) {
    while !store.seal_open_segment() {
        runtime.sleep(Duration::from_millis(10)).await;
    }
    runtime.sleep(Duration::from_secs(1)).await;
}

/// Compacts all that is there, and waits until that is done.
async fn compact(runtime: &SimulatedRuntime, store: &Store<SimulatedRuntime>, logs: &[(LogId, i64)]) {
    seal(runtime, store).await;
    let due = logs.iter().map(|(log, from)| {
        let bound = store.settled_end(*log).unwrap();
        let candidate = Candidate { from: Offset::new(*from), bound, dirty_bytes: 1, dirty_ratio: 1.0, is_due: false };
        DueLog { log: *log, candidate, rules: RULES }
    });
    store.compact(due.collect(), f64::MAX);
    runtime.sleep(Duration::from_secs(100)).await;
}

/// Base offsets and record counts of the batches of a log.
async fn found(store: &Store<SimulatedRuntime>, log: LogId) -> Vec<(i64, i32)> {
    let (mut from, end, mut bytes) = (Offset::ZERO, store.partition(log).unwrap().log_end, Vec::new());
    while from < end {
        let read = store.read(log, from, end, 10_000, true).await.unwrap();
        assert!(read.next_offset > from);
        from = read.next_offset;
        bytes.extend(joined(&read.slices));
    }
    let all = batches(&bytes).map(|batch| batch.unwrap().header);
    all.map(|header| (header.base_offset.value(), header.record_count)).collect()
}

/// The topics of one store, in order of their logs.
fn create(store: &Store<SimulatedRuntime>, count: u8) -> Vec<LogId> {
    let one = |topic: u8| store.create(TopicId::new([topic; 16]), PartitionIndex::new(0)).unwrap().0;
    (1..=count).map(one).collect()
}

#[test]
fn what_was_replaced_is_not_read_from_memory_either() {
    Simulation::new(1)
        .run(|runtime| async move {
            let (store, told) = start(&runtime, StoreOptions { memory_bytes: 4 << 20, ..options() }).await;
            let log = create(&store, 1)[0];
            for round in 0..10_u8 {
                put(&store, log, Codec::None, &[(1, Some(&[round])), (2 + u32::from(round), Some(b"stays"))]).await;
            }
            compact(&runtime, &store, &[(log, 0)]).await;
            assert_eq!(told.clean_end.get(), 20);
            // Of each batch but the last one record is left.
            let wanted: Vec<(i64, i32)> = (0..9).map(|batch| (2 * batch, 1)).chain([(18, 2)]).collect();
            assert_eq!(found(&store, log).await, wanted);
            // What comes behind is read from memory, and what is older still from disk.
            put(&store, log, Codec::None, &[(1, Some(b"new"))]).await;
            let reads = store.stats().cold_reads;
            assert_eq!(
                joined(&store.read(log, Offset::new(20), Offset::new(21), 999, true).await.unwrap().slices).len(),
                61 + 14
            );
            assert_eq!(store.stats().cold_reads, reads);
            assert_eq!(found(&store, log).await, [wanted, vec![(20, 1)]].concat());
        })
        .finished();
}

/// A tombstone of a short key takes twice the bytes once it has its horizon, and the row had not room for that.
#[test]
fn a_row_that_grows_gets_a_larger_file() {
    Simulation::new(2)
        .run(|runtime| async move {
            let (store, told) = start(&runtime, StoreOptions { memory_bytes: 4 << 20, ..options() }).await;
            let log = create(&store, 1)[0];
            let mut keys = 0..;
            for _ in 0..8 {
                let records: Vec<(u32, Option<&[u8]>)> = keys.by_ref().take(500).map(|key| (key, None)).collect();
                put(&store, log, Codec::None, &records).await;
            }
            let before = store.log_bytes(log);
            compact(&runtime, &store, &[(log, 0)]).await;
            assert_eq!(told.clean_end.get(), 4000);
            assert_eq!(found(&store, log).await, (0..8).map(|batch| (500 * batch, 500)).collect::<Vec<_>>());
            assert!(store.log_bytes(log) > before + before / 4, "{} from {before}", store.log_bytes(log));
            store.checkpoint().await.unwrap();
            assert_eq!(told.refused.borrow().len(), 0);
        })
        .finished();
}

#[test]
fn what_is_no_records_keeps_its_log_as_it_is_and_no_other() {
    Simulation::new(3)
        .run(|runtime| async move {
            let (store, told) = start(&runtime, options()).await;
            let logs = create(&store, 3);
            for log in &logs {
                for _ in 0..5 {
                    put(&store, *log, Codec::Zstd, &[(7, Some(b"value"))]).await;
                }
            }
            // `validation=header` takes whatever has a good header.
            let mut bytes = BatchBuilder::new(Codec::None).append(TimestampMs::new(1), Some(b"k"), None, &[]).build();
            *bytes.last_mut().unwrap() = 77;
            stamp(bytes.first_chunk_mut().unwrap(), Offset::new(5), LeaderEpoch::new(0));
            let crc = crc32c::crc32c(&bytes[21..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
            append_bytes(&store, logs[1], &bytes).await;
            let all: Vec<(LogId, i64)> = logs.iter().map(|log| (*log, 0)).collect();
            compact(&runtime, &store, &all).await;
            let refused = told.refused.borrow().clone();
            assert_eq!(refused.len(), 1);
            assert_eq!(refused[0].0, logs[1]);
            assert_eq!(store.settled_end(logs[1]), None, "nobody asks again");
            assert_eq!((store.stats().uncompactable_logs, store.stats().damaged_rows), (1, 0));
            assert_eq!(found(&store, logs[0]).await, [(4, 1)]);
            assert_eq!(found(&store, logs[1]).await.len(), 6);
            assert_eq!(found(&store, logs[2]).await, [(4, 1)]);
        })
        .finished();
}

#[test]
fn rot_is_not_compacted_away() {
    let mut simulation = Simulation::new(4);
    simulation
        .run(|runtime| async move {
            let (store, _) = start(&runtime, options()).await;
            let logs = create(&store, 2);
            for round in 0..20_u8 {
                for log in &logs {
                    put(&store, *log, Codec::None, &[(u32::from(round % 5), Some(b"a value that rots"))]).await;
                }
            }
            seal(&runtime, &store).await;
            store.close().await.unwrap();
        })
        .finished();
    let disk = simulation.disk();
    let path = disk.paths().into_iter().find(|path| path.to_string_lossy().contains("segment")).unwrap();
    let content = disk.content(&path).unwrap();
    let value = content.windows(17).position(|bytes| bytes == b"a value that rots").unwrap();
    disk.flip_bit(&path, u64::try_from(value).unwrap(), 2);
    simulation
        .run(|runtime| async move {
            let (store, told) = start(&runtime, options()).await;
            let logs = [LogId::new(1), LogId::new(2)];
            put(&store, logs[0], Codec::None, &[(1, None)]).await;
            compact(&runtime, &store, &[(logs[0], 0), (logs[1], 0)]).await;
            assert_eq!(told.refused.borrow().len(), 1, "{:?}", told.refused.borrow());
            assert_eq!(told.refused.borrow()[0].0, logs[0]);
            assert_eq!((store.stats().uncompactable_logs, store.stats().damaged_rows), (1, 1));
            let damaged = store.read(logs[0], Offset::ZERO, Offset::new(1), 999, true).await;
            assert!(matches!(damaged, Err(ReadError::Damaged { .. })), "{damaged:?}");
            assert_eq!(found(&store, logs[1]).await.len(), 5);
        })
        .finished();
}
