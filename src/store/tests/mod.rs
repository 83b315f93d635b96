//! The store as a whole in simulation: what its tests share, and what it does when nothing goes wrong.

mod checkpoints;
mod cleaning;
mod compaction;
mod crashes;
mod damage;
mod inspect;
mod lookups;
mod scrub;
mod space;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::limits::PART_WRITE_PATIENCE_US;
use crate::runtime::{Buffer, Runtime};
use crate::simulation::random::Random;
use crate::simulation::{SimulatedRuntime, Simulation};
use crate::types::Durability;

const SEGMENT_BYTES: u32 = 64 * 1024;
const BLOCK_BYTES: usize = 16 * 1024;

fn options() -> StoreOptions {
    StoreOptions {
        shard: ShardId::new(3),
        directory: PathBuf::from("/data/shard-3"),
        memory_bytes: 256 * 1024,
        segment_bytes: SEGMENT_BYTES,
        segments_before_growth: 64,
        clean_slack_segments: 6,
        clean_thin_row_bytes: 0,
        block_bytes: BLOCK_BYTES,
        budget_bytes: 64 * u64::from(SEGMENT_BYTES),
        written_flush_interval_ms: 50,
        checkpoint_interval_ms: 100,
        checkpoint_appended_bytes: 4 * u64::from(SEGMENT_BYTES),
        // Those that want it turn it on.
        scrub: ScrubOptions { bytes_per_second: 0, ..ScrubOptions::default() },
        accept_loss: false,
        rebuild: false,
    }
}

/// Options that let a short life meet checkpoints, reuse and evictions.
fn any_options(random: &mut Random) -> StoreOptions {
    StoreOptions {
        memory_bytes: *random.pick(&[128, 256, 1024]) * 1024,
        budget_bytes: *random.pick(&[12, 64]) * u64::from(SEGMENT_BYTES),
        written_flush_interval_ms: *random.pick(&[1, 50]),
        checkpoint_interval_ms: *random.pick(&[2, 10, 100, 10_000]),
        block_bytes: *random.pick(&[4096, 16 * 1024, 64 * 1024]),
        ..options()
    }
}

/// A batch of `records` records and `bytes` bytes whose content follows from `seed`.
fn batch_bytes(base_offset: i64, records: u32, bytes: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; bytes.max(BATCH_HEADER_BYTES)];
    Random::new(seed).bytes(&mut out);
    let length = i32::try_from(out.len() - 12).unwrap();
    out[0..8].copy_from_slice(&base_offset.to_be_bytes());
    out[8..12].copy_from_slice(&length.to_be_bytes());
    out[16] = 2;
    out[23..27].copy_from_slice(&(records - 1).to_be_bytes());
    out[35..43].copy_from_slice(&(1000 + base_offset).to_be_bytes());
    let crc = crc32c::crc32c(&out[21..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out
}

fn append<R: Runtime>(
    store: &Store<R>,
    log: LogId,
    bytes: &[u8],
    durability: Durability,
) -> Result<LogPosition, StorageError> {
    let (header, records) = bytes.split_first_chunk::<BATCH_HEADER_BYTES>().unwrap();
    let base_offset = Offset::new(i64::from_be_bytes(header[0..8].try_into().unwrap()));
    let count = u32::from_be_bytes(header[23..27].try_into().unwrap());
    let last_offset = base_offset.advance(count);
    let timestamp_max = TimestampMs::new(i64::from_be_bytes(header[35..43].try_into().unwrap()));
    store.append(log, Batch { header, records, base_offset, last_offset, timestamp_max }, durability)
}

fn joined<B: Buffer>(slices: &Slices<B>) -> Vec<u8> {
    slices.iter().flat_map(|slice| slice.as_slice().to_vec()).collect()
}

/// Hears everything and keeps the log ends it was told.
#[derive(Default)]
struct Heard {
    ends: BTreeMap<LogId, (Offset, Offset)>,
    batches: usize,
    /// Batches before which others are missing.
    gaps: usize,
    /// Understands no state.
    refuses: Option<StateError>,
}

impl Replay for Heard {
    fn on_partition(&mut self, partition: &PartitionRecord, state: &[u8]) -> Result<(), StateError> {
        if let Some(refused) = &self.refuses {
            return Err(refused.clone());
        }
        // The state that the owner below writes is the log end, so it must agree with the record.
        if !state.is_empty() {
            assert_eq!(state, partition.log_end.value().to_le_bytes());
        }
        let twice = self.ends.insert(partition.log, (partition.log_start, partition.log_end));
        assert!(twice.is_none());
        Ok(())
    }

    fn on_batch(&mut self, log: LogId, header: &[u8; BATCH_HEADER_BYTES]) {
        let base = Offset::new(i64::from_be_bytes(header[0..8].try_into().unwrap()));
        let count = u32::from_be_bytes(header[23..27].try_into().unwrap());
        let (_, end) = self.ends.get_mut(&log).expect("a partition is told before its batches");
        assert!(*end <= base, "batches are told in order, none twice");
        self.gaps += usize::from(*end < base);
        *end = base.advance(count).advance(1);
        self.batches += 1;
    }

    fn on_log_start(&mut self, log: LogId, log_start: Offset) {
        let (start, _) = self.ends.get_mut(&log).expect("a partition is told before its log start");
        assert!(*start < log_start);
        *start = log_start;
    }

    fn on_delete(&mut self, log: LogId) {
        self.ends.remove(&log).expect("a partition is told before its end");
    }
}

/// Its snapshot is the log end as the store knows it.
struct EndOwner {
    store: Store<SimulatedRuntime>,
}

impl Owner for EndOwner {
    fn on_progress(&self) {
        let progress = self.store.progress();
        assert!(progress.durable <= progress.written && progress.written <= progress.appended);
    }

    fn snapshot(&self, log: LogId, out: &mut Vec<u8>) {
        let end = self.store.partition(log).expect("a checkpoint asks for what exists").log_end;
        out.extend_from_slice(&end.value().to_le_bytes());
    }
}

async fn open(runtime: &SimulatedRuntime, options: StoreOptions) -> (Store<SimulatedRuntime>, Heard) {
    let mut heard = Heard::default();
    let store = Store::open(runtime.clone(), options, &mut heard).await.expect("the store opens");
    assert_eq!(heard.gaps, 0, "no batch is left out");
    store.set_owner(Rc::new(EndOwner { store: store.clone() }));
    for partition in store.partitions() {
        assert_eq!(heard.ends.get(&partition.log), Some(&(partition.log_start, partition.log_end)));
    }
    assert_eq!(store.partitions().len(), heard.ends.len());
    (store, heard)
}

async fn until_durable(store: &Store<SimulatedRuntime>, runtime: &SimulatedRuntime, end: LogPosition) {
    while store.progress().durable < end {
        assert!(store.failure().is_none());
        runtime.sleep(Duration::from_micros(50)).await;
    }
}

#[test]
fn batch_is_readable_at_once_and_after_a_clean_stop() {
    let mut simulation = Simulation::new(1);
    let first = batch_bytes(0, 3, 300, 1);
    let second = batch_bytes(3, 1, 9000, 2);
    let (a, b) = (first.clone(), second.clone());
    let log = simulation
        .run(|runtime| async move {
            let (store, _) = open(&runtime, options()).await;
            let (log, created) = store.create(TopicId::new([7; 16]), PartitionIndex::new(2)).unwrap();
            let end = append(&store, log, &a, Durability::Flushed).unwrap();
            assert!(created < end);
            let end = append(&store, log, &b, Durability::Flushed).unwrap();
            let read = |from, bound, bytes| {
                let read = store.read_tail(log, Offset::new(from), Offset::new(bound), bytes, true);
                joined(&read.expect("the tail is in memory").slices)
            };
            assert_eq!(read(0, 4, 100_000), [a.clone(), b.clone()].concat());
            assert_eq!(read(2, 4, 10), a);
            assert_eq!(read(0, 3, 100_000), a);
            assert_eq!(read(3, 4, 10), b);
            assert!(read(4, 4, 10).is_empty());
            until_durable(&store, &runtime, end).await;
            store.close().await.unwrap();
            assert!(matches!(
                append(&store, log, &batch_bytes(4, 1, 100, 3), Durability::Written),
                Err(StorageError::Closed)
            ));
            log
        })
        .finished();
    simulation.cut_power();
    simulation
        .run(move |runtime| async move {
            let (store, heard) = open(&runtime, options()).await;
            assert_eq!(heard.batches, 0, "a clean checkpoint says it all");
            let all = store.read(log, Offset::ZERO, Offset::new(4), 100_000, true).await.unwrap();
            assert_eq!(joined(&all.slices), [first, second].concat());
            let partition = store.partition(log).unwrap();
            assert_eq!((partition.topic, partition.partition), (TopicId::new([7; 16]), PartitionIndex::new(2)));
        })
        .finished();
}

#[test]
fn a_checkpoint_does_not_wait_for_its_interval_when_much_was_appended() {
    let checkpoints = |appended_segments: u64| {
        let mut simulation = Simulation::new(1);
        simulation
            .run(move |runtime| async move {
                let options = StoreOptions { checkpoint_interval_ms: 1_000_000, ..options() };
                let (store, _) = open(&runtime, options).await;
                let (log, _) = store.create(TopicId::new([9; 16]), PartitionIndex::new(0)).unwrap();
                for base in 0..i64::try_from(appended_segments * u64::from(SEGMENT_BYTES) / 3000).unwrap() {
                    let bytes = batch_bytes(base, 1, 3000, 7);
                    store.reserve(bytes.len()).await.unwrap();
                    append(&store, log, &bytes, Durability::Written).unwrap();
                }
                runtime.sleep(Duration::from_millis(1000)).await;
                store.stats().checkpoints
            })
            .finished()
    };
    assert_eq!((checkpoints(3), checkpoints(7)), (0, 1));
}

#[test]
fn a_large_part_of_a_block_waits_a_moment_for_the_rest() {
    let submitted = |rest: bool| {
        Simulation::new(1)
            .run(move |runtime| async move {
                let (store, _) = open(&runtime, options()).await;
                let (log, created) = store.create(TopicId::new([9; 16]), PartitionIndex::new(0)).unwrap();
                until_durable(&store, &runtime, created).await;
                let before = store.stats().written_bytes;
                append(&store, log, &batch_bytes(0, 1, 9000, 7), Durability::Written).unwrap();
                runtime.sleep(Duration::from_micros(PART_WRITE_PATIENCE_US / 2)).await;
                assert_eq!(store.stats().written_bytes, before, "it is more than half of a block");
                if rest {
                    append(&store, log, &batch_bytes(1, 1, 5000, 7), Durability::Written).unwrap();
                    runtime.sleep(Duration::from_micros(PART_WRITE_PATIENCE_US / 4)).await;
                } else {
                    runtime.sleep(Duration::from_micros(PART_WRITE_PATIENCE_US)).await;
                }
                store.stats().written_bytes - before
            })
            .finished()
    };
    assert_eq!(submitted(false), 12 * 1024, "nothing came: it is written as it is");
    assert_eq!(submitted(true), 16 * 1024 + 4096, "it became full and was written whole, then what went over its end");
}
